use super::*;

hyper_parameters! {
    /// Partially adaptive Adam: the second moment is raised to a power between 0 (SGD with momentum) and 1/2 (Adam).
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// p <- p - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)^(2 partial)
    /// ```
    ///
    /// This is pytorch_optimizer's PAdam: eps is inside the power and the correction of v outside it.
    /// Source: J. Chen et al., arXiv:1806.06763. State: `exp_avg`, `exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Padam};
    ///
    /// let mut optimizer = Optimizer::new(Padam::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!(theta[0] < 1.0 && theta[1] > -2.0);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "padam" Padam {
        /// Learning rate, >= 0.
        lr: f64 = 0.1,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Power of the second moment, in [0, 0.5]; Adam has 0.5.
        partial: f64 = 0.25,
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Partial<A> {
    m: Average<A>,
    v: Average<A>,
    power: A,
    eps: A,
    step_size: A,
}

impl<A: Element> Rule for Partial<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 100;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.step(m, g);
        let v = self.v.step(v, g * g);
        (self.step_size * m.over((v.sqrt() + self.eps).powf(self.power)), [m, v])
    }
}

impl Algorithm for Padam {
    type Kernel<A: Element> = Partial<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::that((0.0..=0.5).contains(&self.partial), "partial", self.partial, "a number in [0, 0.5]")?;
        check::non_negative("eps", self.eps)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        Partial {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            power: f(2.0 * self.partial),
            eps: f(self.eps),
            step_size: f(self.lr * now.correction(1).sqrt() / now.correction(0)),
        }
    }
}
