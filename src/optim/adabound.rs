use super::*;

hyper_parameters! {
    /// Adam with element-wise learning rates clipped to bounds that converge to final_lr: Adam at first, SGD at the end.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// lo = final_lr (1 - 1 / (gamma t + 1)),  hi = final_lr (1 + 1 / (gamma t))
    /// p <- p - clamp(lr sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps), lo, hi) m
    /// ```
    ///
    /// The paper's formula; final_lr does not follow changes of lr.
    /// Source: L. Luo et al., arXiv:1902.09843. State: `exp_avg`, `exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdaBound, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AdaBound::new(0.01));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.99).abs() < 1e-4 && (theta[1] + 1.99).abs() < 1e-4);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "adabound" AdaBound {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// The learning rate that the bounds converge to, >= 0.
        final_lr: f64 = 0.1,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Convergence speed of the bounds, > 0.
        gamma: f64 = 1e-3,
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Bounded<A> {
    m: Average<A>,
    v: Average<A>,
    eps: A,
    step_size: A,
    low: A,
    high: A,
}

impl<A: Element> Rule for Bounded<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.step(m, g);
        let v = self.v.step(v, g * g);
        let rate = self.step_size / (v.sqrt() + self.eps);
        let rate = if rate < self.low { self.low } else { rate };
        let rate = if rate > self.high { self.high } else { rate };
        (rate * m, [m, v])
    }
}

impl Algorithm for AdaBound {
    type Kernel<A: Element> = Bounded<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("final_lr", self.final_lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::that(self.gamma > 0.0 && self.gamma.is_finite(), "gamma", self.gamma, "a finite number > 0")?;
        check::non_negative("eps", self.eps)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let t = now.t as f64;
        Bounded {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            eps: f(self.eps),
            step_size: f(self.lr * now.correction(1).sqrt() / now.correction(0)),
            low: f(self.final_lr * (1.0 - 1.0 / (self.gamma * t + 1.0))),
            high: f(self.final_lr * (1.0 + 1.0 / (self.gamma * t))),
        }
    }
}
