use super::*;

algorithm! {
    /// Lion: steps of size `lr` along the sign of a running average of gradients.
    ///
    /// It needs half the state of Adam.
    ///
    /// # Update rule
    ///
    /// ```text
    /// u = sign(beta1 m + (1 - beta1) g)       with the old m
    /// p <- p - lr (u + weight_decay p)
    /// m <- beta2 m + (1 - beta2) g            from m = 0
    /// ```
    ///
    /// This is `optax.lion` and `keras.optimizers.Lion`, which differ in their defaults.
    ///
    /// # Hyper-parameters
    ///
    /// Without weight decay, each element moves by exactly `lr` per step, or not at all where the
    /// sign is 0. The authors recommend a learning rate three to ten times smaller than AdamW's and
    /// a weight decay larger by the same factor. The presets differ in `lr` and `weight_decay`.
    ///
    /// # State
    ///
    /// `exp_avg`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// X. Chen et al., "Symbolic Discovery of Optimization Algorithms",
    /// [arXiv:2302.06675](https://arxiv.org/abs/2302.06675).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lion, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Lion::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert_eq!(theta, array![0.9, -1.9]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Lion = "lion" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-4;
        /// Weight of the running average in the update, and decay rate of the running average.
        betas: (f64, f64) [in 0..1] = (0.9, 0.99);
        /// Decoupled weight decay: each step subtracts `lr weight_decay p`.
        weight_decay: f64 [>= 0] = 0.0;
    }
    presets {
        /// `optax.lion`.
        optax { weight_decay: 1e-3 }
        /// `keras.optimizers.Lion`.
        keras { lr: 1e-3 }
    }
}

/// Follows the sign of an interpolation between the running average and the gradient.
#[derive(Clone, Copy, Debug)]
pub struct SignOfAverage<A> {
    interpolation: RunningAverage<A>,
    m: RunningAverage<A>,
    lr: A,
}

impl<A: Element> Rule for SignOfAverage<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let u = self.interpolation.update(m, g).sign();
        let m = self.m.update(m, g);
        (self.lr * u, [m])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
}

impl Algorithm for Lion {
    type Kernel<A: Element> = WithDecoupled<SignOfAverage<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let rule = SignOfAverage {
            interpolation: RunningAverage::new(self.betas.0),
            m: RunningAverage::new(self.betas.1),
            lr: f(self.lr),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
