use super::{tiger::SignOfAverage, *};

/// Steps of the size lr along the sign of the average gradient: sign descent for noisy gradients.
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
/// let mut optimizer = Signum::new(0.1);
/// let mut theta = array![1.0_f64, -2.0];
/// optimizer.update(&mut theta, &array![0.5, -0.25])?;
/// assert!((theta[0] - 0.9).abs() < 1e-2 && (theta[1] + 1.9).abs() < 1e-2);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
pub type Signum<A> = Fused<SignumConfig, A>;

hyper_parameters! {
    /// Hyper-parameters of [`Signum`].
    SignumConfig {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Share of the average that is kept, in [0, 1).
        momentum: f64 = 0.9,
        /// Decoupled decay, >= 0; each step takes away lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

impl Config for SignumConfig {
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
