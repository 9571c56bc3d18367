//! Element-wise algorithms by hand: for each a plain loop over slices with the formula of its
//! documentation at the default hyper-parameters, compiled for the instruction set that steps use.
//! The scalars of a step are computed before. There are no guards and nothing is flushed.
//!
//! The cube root of Madgrad and the exponential of DiffGrad are those of the crate: those of the
//! standard library are calls for each element.
use super::for_each_instruction_set;
use ndarray_optim::algorithm::Element;

/// A step of the parameter with a gradient and state arrays, in the order of the optimizer's.
pub type Loop = Box<dyn Fn(&mut [f32], &[f32], [&mut [f32]; 6])>;

/// Declares for each algorithm a module with its scalars at step `t`, its formula for one element,
/// and the loop over it; and the list of all loops.
macro_rules! by_hand {
    ($(
        $name:ident: |$t:ident| { $($k:ident = $value:expr),+ $(,)? }
        |$p:ident, $g:ident $(, $s:ident)*| $formula:block
    )+) => {
        $(
            #[allow(unused_variables, clippy::too_many_arguments)]
            pub mod $name {
                use super::*;

                const SCALARS: usize = [$(stringify!($k)),+].len();

                pub fn scalars<A: Element>($t: f64) -> [A; SCALARS] {
                    $(let $k: f64 = $value;)+
                    [$(A::from_f64($k)),+]
                }

                #[inline(always)]
                pub fn element<A: Element>(
                    [$($k),+]: [A; SCALARS],
                    $p: &mut A,
                    $g: A
                    $(, $s: &mut A)*
                ) $formula

                for_each_instruction_set! {
                    pub fn sweep<A: Element>(
                        scalars: [A; SCALARS],
                        $p: &mut [A],
                        $g: &[A]
                        $(, $s: &mut [A])*
                    ) {
                        let n = $p.len();
                        let $g = &$g[..n];
                        $(let $s = &mut $s[..n];)*
                        for i in 0..n {
                            element(scalars, &mut $p[i], $g[i] $(, &mut $s[i])*);
                        }
                    }
                }
            }
        )+

        /// The loop of an algorithm with the scalars of step `t`, if it is written here.
        pub fn by_hand(algorithm: &str, t: f64) -> Option<Loop> {
            match algorithm {
                $(stringify!($name) => {
                    let scalars = $name::scalars(t);
                    Some(Box::new(move |p, g, [$($s,)* ..]| $name::sweep(scalars, p, g $(, $s)*)))
                })+
                _ => None,
            }
        }
    };
}

/// The root of the bias correction of a second moment.
fn root(beta: f64, t: f64) -> f64 {
    (1.0 - beta.powf(t)).sqrt()
}

/// `lr` with both bias corrections.
fn adam_lr(lr: f64, beta1: f64, beta2: f64, t: f64) -> f64 {
    lr * root(beta2, t) / (1.0 - beta1.powf(t))
}

/// The momentum of NAdam at step `t`.
fn mu(t: f64) -> f64 {
    0.9 * (1.0 - 0.5 * 0.96_f64.powf(t * 4e-3))
}

/// The product of NAdam's momenta up to step `t`.
fn mus(t: f64) -> f64 {
    (1..=t as u32).map(|t| mu(t.into())).product()
}

/// RAdam's rectification.
fn rectification(beta: f64, t: f64) -> f64 {
    let n = 2.0 / (1.0 - beta) - 1.0;
    let nt = n - 2.0 * t * beta.powf(t) / (1.0 - beta.powf(t));
    ((nt - 4.0) * (nt - 2.0) * n / ((n - 4.0) * (n - 2.0) * nt)).sqrt()
}

/// One instruction, unlike the maximum of the standard library.
#[inline(always)]
fn max<A: Element>(a: A, b: A) -> A {
    if a > b { a } else { b }
}

#[inline(always)]
fn min<A: Element>(a: A, b: A) -> A {
    if a < b { a } else { b }
}

by_hand! {
    sgd: |t| { lr = 1e-3 }
    |p, g| {
        *p = *p - lr * g;
    }

    momentum: |t| { lr = 1e-2, b = 0.9, c = 0.1 }
    |p, g, m| {
        *m = b * *m + c * g;
        *p = *p - lr * *m;
    }

    rmsprop: |t| { lr = 1e-2, a = 0.99, c = 0.01, eps = 1e-8 }
    |p, g, v| {
        *v = a * *v + c * g * g;
        *p = *p - lr * (g / (v.sqrt() + eps));
    }

    adam: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001,
        lr = adam_lr(1e-3, 0.9, 0.999, t), eps = 1e-8 * root(0.999, t),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - lr * (*m / (v.sqrt() + eps));
    }

    adamw: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001,
        lr = adam_lr(1e-3, 0.9, 0.999, t), eps = 1e-8 * root(0.999, t), decay = 1e-3 * 1e-2,
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - (lr * (*m / (v.sqrt() + eps)) + decay * *p);
    }

    adamax: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, lr = 2e-3 / (1.0 - 0.9_f64.powf(t)), eps = 1e-8,
    }
    |p, g, m, u| {
        *m = b1 * *m + c1 * g;
        *u = max(b2 * *u, g.abs() + eps);
        *p = *p - lr * (*m / *u);
    }

    nadam: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001, eps = 1e-8 * root(0.999, t),
        of_g = 2e-3 * root(0.999, t) * (1.0 - mu(t)) / (1.0 - mus(t)),
        of_m = 2e-3 * root(0.999, t) * mu(t + 1.0) / (1.0 - mus(t + 1.0)),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - (of_g * g + of_m * *m) / (v.sqrt() + eps);
    }

    radam: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001, eps = 1e-8,
        lr = adam_lr(1e-3, 0.9, 0.999, t) * rectification(0.999, t),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - lr * (*m / (v.sqrt() + eps));
    }

    adagrad: |t| { lr = 1e-2, eps = 1e-10 }
    |p, g, s| {
        *s += g * g;
        *p = *p - lr * (g / (s.sqrt() + eps));
    }

    adadelta: |t| { lr = 1.0, rho = 0.9, c = 0.1, eps = 1e-6 }
    |p, g, v, d| {
        *v = rho * *v + c * g * g;
        let u = (*d + eps).sqrt() / (*v + eps).sqrt() * g;
        *d = rho * *d + c * u * u;
        *p = *p - lr * u;
    }

    rprop: |t| { minus = 0.5, plus = 1.2, low = 1e-6, high = 50.0 }
    |p, g, h, q| {
        let s = g * *q;
        let factor = if s > A::ZERO { plus } else { A::one() };
        let factor = if s < A::ZERO { minus } else { factor };
        *h = min(max(*h * factor, low), high);
        *q = if s < A::ZERO { A::ZERO } else { g };
        *p = *p - q.sign() * *h;
    }

    asgd: |t| {
        eta = 1e-2 / (1.0 + 1e-4 * 1e-2 * (t - 1.0)).powf(0.75), shrink = 1.0 - 1e-4 * eta,
    }
    |p, g, ax| {
        *p = *p * shrink - eta * g;
        *ax = *p;
    }

    adabelief: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001, eps_root = 1e-16,
        lr = adam_lr(1e-3, 0.9, 0.999, t), eps = 1e-16 * root(0.999, t),
    }
    |p, g, m, s| {
        *m = b1 * *m + c1 * g;
        *s = b2 * *s + c2 * (g - *m) * (g - *m) + eps_root;
        *p = *p - lr * (*m / (s.sqrt() + eps));
    }

    yogi: |t| {
        b1 = 0.9, c1 = 0.1, c2 = 0.001,
        lr = adam_lr(1e-2, 0.9, 0.999, t), eps = 1e-3 * root(0.999, t),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = *v - c2 * (*v - g * g).sign() * g * g;
        *p = *p - lr * (*m / (v.sqrt() + eps));
    }

    lion: |t| { lr = 1e-4, b1 = 0.9, c1 = 0.1, b2 = 0.99, c2 = 0.01 }
    |p, g, m| {
        *p = *p - lr * (b1 * *m + c1 * g).sign();
        *m = b2 * *m + c2 * g;
    }

    adan: |t| {
        b1 = 0.98, c1 = 0.02, b2 = 0.92, c2 = 0.08, b3 = 0.99, c3 = 0.01,
        of_m = adam_lr(1e-3, 0.98, 0.99, t), of_v = adam_lr(1e-3, 0.92, 0.99, t) * 0.08,
        eps = 1e-8 * root(0.99, t), eps_root = 1e-8 * root(0.99, t).powi(2),
    }
    |p, g, m, v, n, prev| {
        let d = g - *prev;
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * d;
        let ahead = g + c2 * d;
        *n = b3 * *n + c3 * ahead * ahead;
        *p = *p - (of_m * *m + of_v * *v) / ((*n + eps_root).sqrt() + eps);
        *prev = g;
    }

    sign_sgd: |t| { lr = 1e-3 }
    |p, g| {
        *p = *p - lr * g.sign();
    }

    optimistic_gradient_descent: |t| { of_g = 2e-3, of_prev = 1e-3 }
    |p, g, prev| {
        *p = *p - (of_g * g - of_prev * *prev);
        *prev = g;
    }

    ademamix: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001, b3 = 0.9999, c3 = 0.0001,
        of_m = adam_lr(1e-3, 0.9, 0.999, t), of_n = 1e-3 * root(0.999, t) * 5.0,
        eps = 1e-8 * root(0.999, t),
    }
    |p, g, m, v, n| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *n = b3 * *n + c3 * g;
        *p = *p - (of_m * *m + of_n * *n) / (v.sqrt() + eps);
    }

    adopt: |t| {
        lr = 1e-3, b1 = 0.9, c1 = 0.1, b2 = 0.9999, c2 = 0.0001, eps = 1e-6,
        limit = (t - 1.0).powf(0.25),
    }
    |p, g, m, v| {
        let u = min(max(g / max(v.sqrt(), eps), -limit), limit);
        *m = b1 * *m + c1 * u;
        *p = *p - lr * *m;
        *v = b2 * *v + c2 * g * g;
    }

    acprop: |t| {
        lr = 1e-3, b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001, eps = 1e-16, eps_root = 1e-16,
        scale = 1.0 / (1.0 - b2.powf(t - 1.0)),
    }
    |p, g, m, s| {
        *p = *p - lr * (g / ((scale * *s).sqrt() + eps));
        *s = b2 * *s + c2 * (g - *m) * (g - *m) + eps_root;
        *m = b1 * *m + c1 * g;
    }

    madgrad: |t| { l = (1e-2 + 1e-6) * t.sqrt(), momentum = 0.9, c = 0.1, eps = 1e-6 }
    |p, g, x0, s, n| {
        *s += l * g;
        *n += l * g * g;
        *p = momentum * *p + c * (*x0 - *s / (n.portable_cbrt() + eps));
    }

    cocob: |t| { alpha = 100.0 }
    |p, g, x0, largest, sum_abs, reward, sum| {
        *largest = max(*largest, g.abs());
        *sum_abs += g.abs();
        *reward = max(*reward - g * (*p - *x0), A::ZERO);
        *sum = *sum - g;
        let bound = *largest * max(*sum_abs + *largest, alpha * *largest);
        *p = *x0 + *sum / bound * (*largest + *reward);
    }

    aggmo: |t| { lr = 1e-3 / 3.0, b1 = 0.0, b2 = 0.9, b3 = 0.99 }
    |p, g, m1, m2, m3| {
        *m1 = b1 * *m1 + g;
        *m2 = b2 * *m2 + g;
        *m3 = b3 * *m3 + g;
        *p = *p - lr * (*m1 + *m2 + *m3);
    }

    qhm: |t| { b = 0.999, c = 0.001, of_g = 1e-3 * 0.3, of_m = 1e-3 * 0.7 }
    |p, g, m| {
        *m = b * *m + c * g;
        *p = *p - (of_g * g + of_m * *m);
    }

    tiger: |t| { lr = 1e-3, b = 0.965, c = 0.035, decay = 1e-3 * 0.01 }
    |p, g, m| {
        *m = b * *m + c * g;
        *p = *p - (lr * m.sign() + decay * *p);
    }

    signum: |t| { lr = 1e-3, b = 0.9, c = 0.1 }
    |p, g, m| {
        *m = b * *m + c * g;
        *p = *p - lr * m.sign();
    }

    padam: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001, eps = 1e-8,
        lr = adam_lr(0.1, 0.9, 0.999, t),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - lr * (*m / (v.sqrt() + eps).sqrt());
    }

    grams: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001,
        lr = adam_lr(1e-3, 0.9, 0.999, t), eps = 1e-6 * root(0.999, t),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - lr * (*m / (v.sqrt() + eps)).abs() * g.sign();
    }

    ftrl: |t| { one_over_lr = 1e3, beta = 0.0, lambda_1 = 0.0, lambda_2 = 0.0 }
    |p, g, z, n| {
        let new = *n + g * g;
        *z = *z + g - (new.sqrt() - n.sqrt()) * one_over_lr * *p;
        *n = new;
        let divisor = (beta + n.sqrt()) * one_over_lr + lambda_2;
        let next = (z.sign() * lambda_1 - *z) / divisor;
        *p = if z.abs() <= lambda_1 { A::ZERO } else { next };
    }

    laprop: |t| {
        b1 = 0.9, of_g = 0.1 * 4e-4 * root(0.999, t), b2 = 0.999, c2 = 0.001,
        lr = 1.0 / (1.0 - b1.powf(t)), eps = 1e-15 * root(0.999, t),
    }
    |p, g, m, v| {
        *v = b2 * *v + c2 * g * g;
        *m = b1 * *m + of_g * (g / (v.sqrt() + eps));
        *p = *p - lr * *m;
    }

    qhadam: |t| {
        b1 = 0.995, c1 = 0.005, b2 = 0.999, c2 = 0.001, eps = 1e-8,
        of_g = 1e-3 * 0.3, of_m = 1e-3 * 0.7 / (1.0 - b1.powf(t)),
        of_square = 0.0, of_v = 1.0 / (1.0 - b2.powf(t)),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - (of_g * g + of_m * *m) / ((of_square * g * g + of_v * *v).sqrt() + eps);
    }

    diffgrad: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001,
        lr = adam_lr(1e-3, 0.9, 0.999, t), eps = 1e-8 * root(0.999, t),
    }
    |p, g, m, v, prev| {
        let x = A::one() / (A::one() + (-(*prev - g).abs()).portable_exp());
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - lr * x * (*m / (v.sqrt() + eps));
        *prev = g;
    }

    adabound: |t| {
        b1 = 0.9, c1 = 0.1, b2 = 0.999, c2 = 0.001, eps = 1e-8,
        lr = adam_lr(1e-3, 0.9, 0.999, t),
        low = 0.1 * (1.0 - 1.0 / (1e-3 * t + 1.0)), high = 0.1 * (1.0 + 1.0 / (1e-3 * t)),
    }
    |p, g, m, v| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = *p - min(max(lr / (v.sqrt() + eps), low), high) * *m;
    }

    schedule_free_sgd: |t| { lr = 1.0, c = 1.0 / t, of_g = lr * (0.9 * (1.0 - c) - 1.0) }
    |p, g, z| {
        *p = *p + c * (*z - *p) + of_g * g;
        *z = *z - lr * g;
    }

    schedule_free_adamw: |t| {
        lr = 2.5e-3, c = 1.0 / t, of_e = lr * (0.9 * (1.0 - c) - 1.0),
        b2 = 0.999, c2 = 0.001, scale = root(0.999, t), eps = 1e-8 * scale,
    }
    |p, g, z, v| {
        *v = b2 * *v + c2 * g * g;
        let e = scale * g / (v.sqrt() + eps);
        *p = *p + c * (*z - *p) + of_e * e;
        *z = *z - lr * e;
    }

    sophia: |t| { lr = 1e-4, b1 = 0.965, c1 = 0.035, gamma = 0.01, eps = 1e-12, decay = 1e-4 * 0.1 }
    |p, g, m, h| {
        *m = b1 * *m + c1 * g;
        let u = min(max(*m / max(gamma * *h, eps), -A::one()), A::one());
        *p = *p - (lr * u + decay * *p);
    }
}
