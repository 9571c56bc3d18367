use super::*;

algorithm! {
    /// LaProp: Adam that normalizes the gradient first and averages it afterwards.
    ///
    /// This decouples momentum from adaptivity, so `beta1` and `beta2` can be chosen independently.
    ///
    /// # Update rule
    ///
    /// ```text
    /// v <- beta2 v + (1 - beta2) g^2
    /// m <- beta1 m + (1 - beta1) lr g / (sqrt(v / (1 - beta2^t)) + eps)
    /// p <- p - m / (1 - beta1^t) - lr weight_decay p
    /// ```
    ///
    /// This is the form of the paper, with `lr` inside `m`.
    ///
    /// # Hyper-parameters
    ///
    /// As in Adam, each element moves by about `lr` per step in the parameter's own unit. Since
    /// `lr` is inside `m`, a change of `lr` applies to new gradients only.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// L. Ziyin, Z. T. Wang, M. Ueda, "LaProp: Separating Momentum and Adaptivity in Adam",
    /// [arXiv:2002.04839](https://arxiv.org/abs/2002.04839).
    ///
    /// # Example
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
    LaProp = "laprop" {
        /// Learning rate.
        lr: f64 [>= 0] = 4e-4;
        /// Decay rates of the running averages of the normalized gradient and of `g^2`.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-15;
        /// Decoupled weight decay: each step subtracts `lr weight_decay p`.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct NormalizedMomentum<A> {
    beta1: A,
    v: RunningAverage<A>,
    g_coef: A,
    eps: A,
    step_size: A,
}

impl<A: Element> Rule for NormalizedMomentum<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let v = self.v.update(v, g * g);
        let m = (self.beta1 * m + self.g_coef * g.over(v.sqrt() + self.eps)).flush();
        (self.step_size * m, [m, v])
    }
}

impl Algorithm for LaProp {
    type Kernel<A: Element> = WithDecoupled<NormalizedMomentum<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let root = step.correction(1).sqrt();
        let rule = NormalizedMomentum {
            beta1: f(self.betas.0),
            v: RunningAverage::new(self.betas.1),
            g_coef: f((1.0 - self.betas.0) * self.lr * root),
            eps: f(self.eps * root),
            step_size: f(1.0 / step.correction(0)),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
