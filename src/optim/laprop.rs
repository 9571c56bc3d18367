use super::*;

hyper_parameters! {
    /// Adam with normalisation and momentum decoupled: the gradient is normalised first and averaged afterwards, so beta1
    /// and beta2 can be chosen independently.
    ///
    /// ```text
    /// v <- beta2 v + (1 - beta2) g^2
    /// m <- beta1 m + (1 - beta1) lr g / (sqrt(v / (1 - beta2^t)) + eps)
    /// p <- p - m / (1 - beta1^t) - lr weight_decay p
    /// ```
    ///
    /// The paper's formula, with lr inside m.
    /// Source: L. Ziyin, Z. T. Wang, M. Ueda, arXiv:2002.04839. State: `exp_avg`, `exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{LaProp, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(LaProp::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "laprop" LaProp {
        /// Learning rate, >= 0.
        lr: f64 = 4e-4,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-15,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Normalized<A> {
    beta1: A,
    v: Average<A>,
    of_g: A,
    eps: A,
    step_size: A,
}

impl<A: Element> Rule for Normalized<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let v = self.v.step(v, g * g);
        let m = (self.beta1 * m + self.of_g * g.over(v.sqrt() + self.eps)).flush();
        (self.step_size * m, [m, v])
    }
}

impl Algorithm for LaProp {
    type Kernel<A: Element> = WithDecoupled<Normalized<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let root = now.correction(1).sqrt();
        let rule = Normalized {
            beta1: f(self.betas.0),
            v: Average::new(self.betas.1),
            of_g: f((1.0 - self.betas.0) * self.lr * root),
            eps: f(self.eps * root),
            step_size: f(1.0 / now.correction(0)),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
