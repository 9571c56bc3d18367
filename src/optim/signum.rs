use super::{tiger::SignOfAverage, *};

hyper_parameters! {
    /// Steps of size lr along the sign of a running average of the gradient.
    ///
    /// ```text
    /// m <- momentum m + (1 - momentum) g              from 0
    /// p <- p - lr (sign(m) + weight_decay p)    with the new m
    /// ```
    ///
    /// This is pytorch_optimizer's SignSGD.
    /// Source: J. Bernstein et al., arXiv:1802.04434. State: `exp_avg`.
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
    "signum" Signum {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rate of the running average, in [0, 1).
        momentum: f64 = 0.9,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

impl Algorithm for Signum {
    type Kernel<A: Element> = WithDecoupled<SignOfAverage<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("momentum", self.momentum)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let rule = SignOfAverage::new(self.lr, self.momentum);
        decoupled(rule, self.lr, self.weight_decay)
    }
}
