use super::*;

algorithm! {
    /// MADGRAD: momentumized dual averaging with the cube root of the summed squares as
    /// denominator.
    ///
    /// Every step starts from the initial parameters and applies the weighted sum of all gradients
    /// so far.
    ///
    /// # Update rule
    ///
    /// ```text
    /// l = (lr + eps) sqrt(t),  s <- s + l g,  n <- n + l g^2          x0 the initial p
    /// z = x0 - s / (cbrt(n) + eps)
    /// p <- momentum p + (1 - momentum) z
    /// ```
    ///
    /// `s` and `n` start at 0. This is `optax.contrib.madgrad`, with `l` in `f64`.
    ///
    /// # Hyper-parameters
    ///
    /// Steps grow with `lr^(2/3)` and with the cube root of the scale of the gradients, so the best
    /// `lr` is neither that of SGD nor that of Adam. `momentum` is the weight of the current
    /// parameters in their average with `z`; at 0 the parameters are `z`.
    ///
    /// # State
    ///
    /// `x0`, `grad_sum` and `grad_sum_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// A. Defazio, S. Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual
    /// Averaged Gradient Method for Stochastic Optimization",
    /// [arXiv:2101.11075](https://arxiv.org/abs/2101.11075).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Madgrad, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Madgrad::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9829).abs() < 1e-3 && (theta[1] + 1.98643).abs() < 1e-3);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Madgrad = "madgrad" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-2;
        /// Momentum: weight of the current parameters.
        momentum: f64 [in 0..1] = 0.9;
        /// Added to the denominator and to lr for numerical stability.
        eps: f64 [>= 0] = 1e-6;
    }
}

/// The rule of MADGRAD.
#[derive(Clone, Copy, Debug)]
pub struct DualAveraging<A> {
    l: A,
    eps: A,
    /// The cube root of the smallest positive number.
    smallest_cbrt: A,
    one_minus_momentum: A,
}

impl<A: Element> Rule for DualAveraging<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["x0", "grad_sum", "grad_sum_sq"];
    const COST: u64 = 10;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [x0, s, n]: [A; 3]) -> (A, [A; 3]) {
        let (s, n) = (s + self.l * g, n + (self.l * g) * g);
        // The difference to z = x0 - s / (cbrt(n) + eps), in an order that is exactly 0 at p = x0
        // without a gradient.
        let to_z = (p - x0) + s.over_at_least(n.portable_cbrt() + self.eps, self.smallest_cbrt);
        (self.one_minus_momentum * to_z, [x0, s, n])
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 3] {
        [p, A::ZERO, A::ZERO]
    }
}

impl Algorithm for Madgrad {
    type Kernel<A: Element> = DualAveraging<A>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let l = f((self.lr + self.eps) * (step.t as f64).sqrt());
        DualAveraging {
            l,
            eps: f(self.eps),
            smallest_cbrt: f(libm::cbrt(A::SMALLEST_ROOT.f64() * A::SMALLEST_ROOT.f64())),
            one_minus_momentum: f(1.0 - self.momentum),
        }
    }
}
