use super::*;

hyper_parameters! {
    /// SGD with momentum and a trust ratio: the learning rate of each array is scaled by the norm of its parameters over
    /// that of its gradient. For large-batch training.
    ///
    /// ```text
    /// With g <- g + weight_decay p:
    /// r = trust_coefficient |p| / (|g| + eps)                  norms of the whole array; r = 1 if either is 0
    /// buf <- momentum buf + lr r g                             from 0
    /// p <- p - buf,  or with nesterov p - (lr r g + momentum buf)
    /// ```
    ///
    /// This is `optax.lars`: lr enters the buffer.
    /// Source: Y. You, I. Gitman, B. Ginsburg, arXiv:1708.03888. State: `momentum_buffer`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lars, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Lars::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.6, -0.8])?;
    /// assert!((theta[0] - 1.0).abs() < 1e-3 && (theta[1] + 2.0).abs() < 1e-3);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "lars" Lars {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Momentum factor, in [0, 1].
        momentum: f64 = 0.9,
        /// Trust coefficient: the step relative to the norm of the parameters, >= 0.
        trust_coefficient: f64 = 1e-3,
        /// Added to the denominator of the trust ratio for numerical stability, >= 0.
        eps: f64 = 0.0,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Nesterov momentum.
        nesterov: bool = false,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Layer<A> {
    rate: A,
}

impl<A: Element> Rule for Layer<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.rate * g, [])
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, p: A, g: A, _state: [A; 0]) -> [f64; MAX_TERMS] {
        [p.f64() * p.f64(), g.f64() * g.f64(), 0.0, 0.0]
    }
}

impl Algorithm for Lars {
    type Kernel<A: Element> =
        Either<WithCoupled<With<Layer<A>, Trace<A, false>>>, WithCoupled<With<Layer<A>, Trace<A, true>>>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::unit("momentum", self.momentum)?;
        check::non_negative("trust_coefficient", self.trust_coefficient)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    /// The trust ratio.
    fn absorb(&self, _now: &Now, &[p, g, ..]: &[f64; MAX_TERMS]) -> Scalars {
        let ratio = self.trust_coefficient * p.sqrt() / (g.sqrt() + self.eps);
        [if p == 0.0 || g == 0.0 { 1.0 } else { ratio }, 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let (rule, momentum) = (Layer { rate: A::of(self.lr * now.scalars[0]) }, A::of(self.momentum));
        let lr = A::one();
        if self.nesterov {
            Either::Y(coupled(rule.with(Trace { momentum, lr }), self.weight_decay))
        } else {
            Either::X(coupled(rule.with(Trace { momentum, lr }), self.weight_decay))
        }
    }
}
