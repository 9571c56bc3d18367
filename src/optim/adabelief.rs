use super::*;

hyper_parameters! {
    /// Adam with the variance of the gradient around its running average as second moment: large steps where the gradient is
    /// steady, small ones where it fluctuates.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g                               from m = 0
    /// s <- beta2 s + (1 - beta2) (g - m)^2 + eps_root            from s = 0, with the new m
    /// p <- p - lr m' / (sqrt(s') + eps)                          with m' = m / (1 - beta1^t), s' = s / (1 - beta2^t)
    /// ```
    ///
    /// This is `optax.adabelief`: eps_root is stored in s, where it accumulates.
    /// Source: J. Zhuang et al., arXiv:2010.07468. State: `exp_avg`, `exp_avg_var`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdaBelief, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AdaBelief::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.888889).abs() < 1e-5 && (theta[1] + 1.888889).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "adabelief" AdaBelief {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-16,
        /// Added to the running variance at every step, >= 0.
        eps_root: f64 = 1e-16,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Belief<A> {
    m: Average<A>,
    s: Average<A>,
    eps: A,
    eps_root: A,
    step_size: A,
}

impl<A: Element> Rule for Belief<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_var"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, s]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.step(m, g);
        let surprise = g - m;
        let s = (self.s.mix(s, surprise * surprise) + self.eps_root).flush();
        (self.step_size * m.over(s.sqrt() + self.eps), [m, s])
    }
}

impl Algorithm for AdaBelief {
    type Kernel<A: Element> = Belief<A>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("eps_root", self.eps_root)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let root = now.correction(1).sqrt();
        Belief {
            m: Average::new(self.betas.0),
            s: Average::new(self.betas.1),
            eps: f(self.eps * root),
            eps_root: f(self.eps_root),
            step_size: f(self.lr * root / now.correction(0)),
        }
    }
}
