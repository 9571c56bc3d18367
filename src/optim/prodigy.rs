use super::*;

hyper_parameters! {
    /// AdamW with an estimate d of the distance to the solution as its learning rate: leave lr at 1, or drive it by a
    /// schedule whose peak is 1.
    ///
    /// ```text
    /// L = d lr sqrt(1 - beta2^t) / (1 - beta1^t),  beta3 = sqrt(beta2); sums over all arrays of a group
    /// m <- beta1 m + (1 - beta1) d g,  v <- beta2 v + (1 - beta2) d^2 g^2
    /// r <- beta3 r + d / d0 L <g, x0 - p>,  s <- beta3 s + d / d0 L g
    /// d_new = max(d, d_coef r / sum |s|)
    /// p <- p - L m / (sqrt(v) + d_new eps) - weight_decay L p,  d <- d_new         x0 the initial p, d from d0
    /// ```
    ///
    /// This is `optax.contrib.prodigy`, with x0 - p kept as the sum of all steps, which is exact where the difference
    /// cancels. Source: K. Mishchenko, A. Defazio, arXiv:2306.06101. State: `exp_avg`, `exp_avg_sq`, `s`, `displacement`,
    /// and d, r.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Prodigy};
    ///
    /// let mut optimizer = Optimizer::new(Prodigy::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.999999).abs() < 1e-8 && (theta[1] + 1.999999).abs() < 1e-8);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "prodigy" Prodigy {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// The initial estimate of d, > 0.
        d0: f64 = 1e-6,
        /// Scale of the estimate, > 0.
        d_coef: f64 = 1.0,
        /// Decoupled weight decay, >= 0.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Estimated<A> {
    beta1: A,
    of_g: A,
    beta2: A,
    of_square: A,
    beta3: A,
    of_s: A,
    l: A,
    eps: A,
    decay: A,
}

impl<A: Element> Rule for Estimated<A> {
    type Elem = A;
    type State = [A; 4];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "s", "displacement"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m, v, s, displacement]: [A; 4]) -> (A, [A; 4]) {
        let m = (self.beta1 * m + self.of_g * g).flush();
        let v = (self.beta2 * v + self.of_square * (g * g)).flush();
        let s = (self.beta3 * s + self.of_s * g).flush();
        let delta = self.l * m.over(v.sqrt() + self.eps) + self.decay * p;
        (delta, [m, v, s, displacement + delta])
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, [_, _, s, displacement]: [A; 4]) -> [f64; MAX_TERMS] {
        let s = (self.beta3 * s + self.of_s * g).flush();
        [g.f64() * displacement.f64(), s.abs().f64(), 0.0, 0.0]
    }
}

/// L, which [`DAdaptAdamW`] has too.
pub(super) fn rate(lr: f64, now: &Now, d: f64) -> f64 {
    d * lr * now.correction(1).sqrt() / now.correction(0)
}

impl Algorithm for Prodigy {
    type Kernel<A: Element> = Estimated<A>;
    const GLOBAL: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::that(self.d0 > 0.0 && self.d0.is_finite(), "d0", self.d0, "a finite number > 0")?;
        check::that(self.d_coef > 0.0 && self.d_coef.is_finite(), "d_coef", self.d_coef, "a finite number > 0")?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    fn scalars(&self) -> Scalars {
        [self.d0, 0.0, self.d0, 0.0]
    }

    /// The new d, r, and the d of this step.
    fn absorb(&self, now: &Now, &[gx, s, ..]: &[f64; MAX_TERMS]) -> Scalars {
        let [d, r, ..] = now.scalars;
        let r = self.betas.1.sqrt() * r + d / self.d0 * rate(self.lr, now, d) * gx;
        [if s > 0.0 { d.max(self.d_coef * r / s) } else { d }, r, d, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let [new, _, old, _] = now.scalars;
        let old = if now.measuring { new } else { old };
        let l = rate(self.lr, now, old);
        Estimated {
            beta1: f(self.betas.0),
            of_g: f((1.0 - self.betas.0) * old),
            beta2: f(self.betas.1),
            of_square: f((1.0 - self.betas.1) * old * old),
            beta3: f(self.betas.1.sqrt()),
            of_s: f(old / self.d0 * l),
            l: f(l),
            eps: f(new * self.eps),
            decay: f(self.weight_decay * l),
        }
    }
}
