use super::{tiger::SignOfAverage, *};

algorithm! {
    /// Steps of size `lr` along the sign of a running average of the gradient.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- momentum m + (1 - momentum) g              from 0
    /// p <- p - lr (sign(m) + weight_decay p)    with the new m
    /// ```
    ///
    /// This is pytorch_optimizer's `SignSGD`.
    ///
    /// # Hyper-parameters
    ///
    /// Apart from weight decay, a step is `lr` in the parameter's own unit, or 0 where m is 0: the
    /// scale of the gradient does not matter.
    ///
    /// # State
    ///
    /// `exp_avg`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// J. Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems",
    /// [arXiv:1802.04434](https://arxiv.org/abs/1802.04434).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Signum};
    ///
    /// let mut optimizer = Optimizer::new(Signum::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-2 && (theta[1] + 1.9).abs() < 1e-2);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Signum = "signum" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rate of the running average.
        momentum: f64 [in 0..1] = 0.9;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

impl Algorithm for Signum {
    type Kernel<A: Element> = WithDecoupled<SignOfAverage<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let rule = SignOfAverage::new(self.lr, self.momentum);
        decoupled(rule, self.lr, self.weight_decay)
    }
}
