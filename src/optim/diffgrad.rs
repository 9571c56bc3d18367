use super::{adam::Moments, *};

algorithm! {
    /// Adam with a per-parameter friction coefficient between 1/2 and 1 that grows with the change
    /// of the gradient.
    ///
    /// Steps are small where the gradient hardly changes, as near an optimum.
    ///
    /// # Update rule
    ///
    /// ```text
    /// x = 1 / (1 + exp(-|g_old - g|))                        g_old = 0 at first
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// p <- p - lr (x m' / (sqrt(v') + eps) + weight_decay p)     m' and v' bias-corrected
    /// ```
    ///
    /// This is the paper's formula.
    ///
    /// # Hyper-parameters
    ///
    /// As for [`AdamW`](crate::AdamW): a step is about `lr` in the parameter's own unit, times the
    /// friction coefficient. The coefficient depends on the scale of the gradient: it stays close
    /// to 1/2 where gradients are much smaller than 1.
    ///
    /// # State
    ///
    /// `exp_avg`, `exp_avg_sq` and `prev`, the previous gradient, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// S. R. Dubey et al., "diffGrad: An Optimization Method for Convolutional Neural Networks",
    /// [arXiv:1909.11015](https://arxiv.org/abs/1909.11015).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{DiffGrad, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(DiffGrad::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.937754).abs() < 1e-5 && (theta[1] + 1.943782).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    DiffGrad = "diffgrad" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Adam's rule, with the update multiplied by the friction coefficient.
#[derive(Clone, Copy, Debug)]
pub struct Friction<A>(Moments<A>);

impl<A: Element> Rule for Friction<A> {
    type Elem = A;
    type State = ([A; 2], [A; 1]);
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "prev"];
    const COST: u64 = 10;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, ([m, v], [prev]): Self::State) -> (A, Self::State) {
        let x = A::one() / (A::one() + (-(prev - g).abs()).portable_exp());
        let (m, v) = self.0.moments(g, m, v);
        (x * self.0.update(m, v), ([m, v], [g]))
    }
    fn floors(&self) -> Self::State {
        (Rule::floors(&self.0), [A::ZERO])
    }
}

impl Algorithm for DiffGrad {
    type Kernel<A: Element> = WithDecoupled<Friction<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let rule = Friction(Moments::new(self.lr, self.betas, self.eps, step));
        decoupled(rule, self.lr, self.weight_decay)
    }
}
