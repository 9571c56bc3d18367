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
    /// l <- beta1 l + (1 - beta1) lr
    /// p <- p - lr / l m - lr weight_decay p
    /// ```
    ///
    /// This is the authors' code, with `lr` inside `m` and its bias correction: at a constant `lr`,
    /// `lr / l` is `1 / (1 - beta1^t)`, as in the paper. The authors' code, however, moves by all
    /// of `m` in steps with `lr` = 0. Here such steps do not move, as the formula says.
    ///
    /// # Hyper-parameters
    ///
    /// As in Adam, each element moves by about `lr` per step in the parameter's own unit. When `lr`
    /// changes, gradients count in `m` by the `lr` of their own step.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter, and the scalar l.
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
    v: AverageOfSquares<A>,
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
        let v = self.v.update(v, g);
        let m = self.beta1 * m + self.g_coef * g.over(v.sqrt() + self.eps);
        (self.step_size * m, [m, v])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

impl Algorithm for LaProp {
    type Kernel<A: Element> = WithDecoupled<NormalizedMomentum<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    /// The running average of the learning rate.
    fn update_scalars(&self, step: &StepContext, _sums: &Sums) -> Scalars {
        let Scalars([l, ..]) = step.scalars;
        Scalars::new([self.betas.0 * l + (1.0 - self.betas.0) * self.lr])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let root = step.root_of_correction(1);
        let Scalars([l, ..]) = step.scalars;
        let rule = NormalizedMomentum {
            beta1: f(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            g_coef: f((1.0 - self.betas.0) * self.lr * root),
            eps: f(self.eps * root),
            step_size: f(if self.lr > 0.0 { self.lr / l } else { 0.0 }),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
