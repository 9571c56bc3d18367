use super::{adam::Moments, *};

algorithm! {
    /// Grams: AdamW with the magnitude of Adam's update and the sign of the current gradient.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// u = m' / (sqrt(v') + eps)                                m' and v' bias-corrected
    /// p <- p - lr (|u| sign(g) + weight_decay p)
    /// ```
    ///
    /// This is pytorch_optimizer's `Grams`.
    ///
    /// # Hyper-parameters
    ///
    /// As for [`AdamW`](crate::AdamW), a step is about `lr` in the parameter's own unit, on top of
    /// weight decay.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// Y. Cao, X. Li, Z. Song, "Grams: Gradient Descent with Adaptive Momentum Scaling",
    /// [arXiv:2412.17107](https://arxiv.org/abs/2412.17107).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Grams, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Grams::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-5 && (theta[1] + 1.9).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Grams = "grams" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-6;
        /// Decoupled weight decay: each step subtracts `lr weight_decay p`.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Adam's rule with the sign of the gradient.
#[derive(Clone, Copy, Debug)]
pub struct GradientSigned<A>(Moments<A>);

impl<A: Element> Rule for GradientSigned<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = Moments::<A>::STATE;
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let (m, v) = self.0.moments(g, m, v);
        (self.0.update(m, v).abs() * g.sign(), [m, v])
    }
    fn floors(&self) -> [A; 2] {
        Rule::floors(&self.0)
    }
}

impl Algorithm for Grams {
    type Kernel<A: Element> = WithDecoupled<GradientSigned<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let rule = GradientSigned(Moments::new(self.lr, self.betas, self.eps, step));
        decoupled(rule, self.lr, self.weight_decay)
    }
}
