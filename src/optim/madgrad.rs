use super::*;

hyper_parameters! {
    /// Momentumized dual averaging: every step starts from the initial parameters, with the weighted sum of all gradients
    /// over the cube root of the weighted sum of their squares.
    ///
    /// ```text
    /// l = (lr + eps) sqrt(t),  s <- s + l g,  n <- n + l g^2          x0 the initial p
    /// z = x0 - s / (cbrt(n) + eps)
    /// p <- momentum p + (1 - momentum) z
    /// ```
    ///
    /// This is `optax.contrib.madgrad`, with l in f64.
    /// Source: A. Defazio, S. Jelassi, arXiv:2101.11075. State: `x0`, `grad_sum`, `grad_sum_sq`.
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
    "madgrad" Madgrad {
        /// Learning rate, >= 0.
        lr: f64 = 1e-2,
        /// Momentum: weight of the current parameters, in [0, 1).
        momentum: f64 = 0.9,
        /// Added to the denominator and to lr for numerical stability, >= 0.
        eps: f64 = 1e-6,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct DualAverage<A> {
    l: A,
    eps: A,
    momentum: A,
    one_minus_momentum: A,
}

impl<A: Element> Rule for DualAverage<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["x0", "grad_sum", "grad_sum_sq"];
    const COST: u64 = 15;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [x0, s, n]: [A; 3]) -> (A, [A; 3]) {
        let (s, n) = (s + self.l * g, n + self.l * (g * g));
        let z = x0 - s.over(n.cbrt() + self.eps);
        (p - (self.momentum * p + self.one_minus_momentum * z), [x0, s, n])
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 3] {
        [p, A::ZERO, A::ZERO]
    }
}

impl Algorithm for Madgrad {
    type Kernel<A: Element> = DualAverage<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("momentum", self.momentum)?;
        check::non_negative("eps", self.eps)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let l = f((self.lr + self.eps) * (now.t as f64).sqrt());
        DualAverage { l, eps: f(self.eps), momentum: f(self.momentum), one_minus_momentum: f(1.0 - self.momentum) }
    }
}
