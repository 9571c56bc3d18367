use super::*;

algorithm! {
    /// NovoGrad: momentum on gradients that are normalized layer by layer.
    ///
    /// The gradient of each array is normalized by a running average of its squared norm, so the
    /// state is half that of Adam.
    ///
    /// # Update rule
    ///
    /// ```text
    /// v <- |g|^2 at the first step, then beta2 v + (1 - beta2) |g|^2       one scalar per array
    /// m <- beta1 m + g / (sqrt(v) + eps) + weight_decay p                  from m = 0
    /// p <- p - lr m
    /// ```
    ///
    /// This is `optax.novograd`: no factor 1 - beta1 and no bias correction.
    ///
    /// # Hyper-parameters
    ///
    /// Without weight decay, the first step of each array has norm about `lr`; along a steady
    /// gradient the norm grows to `lr / (1 - beta1)`.
    ///
    /// # State
    ///
    /// `exp_avg`, in the shape of the parameter, and the scalar v.
    ///
    /// # Reference
    ///
    /// B. Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for
    /// Training of Deep Networks", [arXiv:1905.11286](https://arxiv.org/abs/1905.11286).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{NovoGrad, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(NovoGrad::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.6, -0.8])?;
    /// assert!((theta[0] - 0.94).abs() < 1e-6 && (theta[1] + 1.92).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    NovoGrad = "novograd" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the momentum buffer and of the running average of squared norms.
        betas: (f64, f64) [in 0..1] = (0.9, 0.25);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-6;
        /// Weight decay, added to the normalized gradient before momentum.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Momentum on gradients divided by a norm of the whole array.
#[derive(Clone, Copy, Debug)]
pub struct NormalizedMomentum<A> {
    beta1: A,
    /// `1 / (sqrt(v) + eps)`.
    inverse_norm: A,
    weight_decay: A,
    lr: A,
}

impl<A: Element> Rule for NormalizedMomentum<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 3;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.beta1 * m + (self.inverse_norm * g + self.weight_decay * p);
        (self.lr * m, [m])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
    const TERMS: usize = 1;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, _state: [A; 1]) -> Terms<A> {
        Terms::new([(g, g)])
    }
}

impl Algorithm for NovoGrad {
    type Kernel<A: Element> = NormalizedMomentum<A>;

    /// The running average of the squared norm.
    fn update_scalars(&self, step: &StepContext, sums: &Sums) -> Scalars {
        let (old, new) = (step.scalars[0], sums[0]);
        let average = if step.t == 1 {
            new
        } else {
            self.betas.1 * old + (1.0 - self.betas.1) * new
        };
        // The square of a norm above 1e154 would be infinite for ever.
        Scalars::new([if average > f64::MAX {
            f64::MAX
        } else {
            average
        }])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let norm = step.scalars[0].sqrt() + self.eps;
        NormalizedMomentum {
            beta1: f(self.betas.0),
            inverse_norm: f(if norm > 0.0 { 1.0 / norm } else { 0.0 }),
            weight_decay: f(self.weight_decay),
            lr: f(self.lr),
        }
    }
}
