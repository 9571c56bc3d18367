use super::*;

algorithm! {
    /// SGD with momentum and a trust ratio: the learning rate of each array is scaled by the norm
    /// of its parameters over the norm of its gradient.
    ///
    /// For large-batch training.
    ///
    /// # Update rule
    ///
    /// With `g <- g + weight_decay p`:
    ///
    /// ```text
    /// r = trust_coefficient |p| / (|g| + eps)    norms of the whole array; r = 1 if either is 0
    /// buf <- momentum buf + lr r g               from 0
    /// p <- p - buf,  or with nesterov p - (lr r g + momentum buf)
    /// ```
    ///
    /// This is `optax.lars`: the learning rate enters the momentum buffer.
    ///
    /// # Hyper-parameters
    ///
    /// - Without momentum and eps, the norm of a step is `lr trust_coefficient` times that of the
    ///   parameter.
    /// - A new `lr` acts on new gradients only, since it enters the buffer.
    ///
    /// # State
    ///
    /// `momentum_buffer`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// Y. You, I. Gitman, B. Ginsburg, "Large Batch Training of Convolutional Networks",
    /// [arXiv:1708.03888](https://arxiv.org/abs/1708.03888).
    ///
    /// # Example
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
    Lars = "lars" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Momentum factor.
        momentum: f64 [in 0..=1] = 0.9;
        /// Trust coefficient: the size of a step relative to the norm of the parameter, at lr = 1.
        trust_coefficient: f64 [>= 0] = 1e-3;
        /// Added to the denominator of the trust ratio for numerical stability.
        eps: f64 [>= 0] = 0.0;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Nesterov momentum.
        nesterov: bool = false;
    }
}

/// Gradient descent at the learning rate times the trust ratio.
#[derive(Clone, Copy, Debug)]
pub struct TrustRatioDescent<A> {
    rate: A,
}

impl<A: Element> Rule for TrustRatioDescent<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.rate * g, [])
    }
    const TERMS: usize = 2;
    const NORMS: usize = 2;
    #[inline(always)]
    fn terms(&self, p: A, g: A, _state: [A; 0]) -> Terms<A> {
        Terms::new([(p, p), (g, g)])
    }
}

impl Algorithm for Lars {
    type Kernel<A: Element> = Either<
        WithCoupled<With<TrustRatioDescent<A>, Trace<A, false>>>,
        WithCoupled<With<TrustRatioDescent<A>, Trace<A, true>>>,
    >;

    /// The trust ratio.
    fn update_scalars(&self, _step: &StepContext, &Sums([p, g, ..]): &Sums) -> Scalars {
        let ratio = self.trust_coefficient * p / (g + self.eps);
        Scalars::new([trust_ratio(p, g, ratio)])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let rule = TrustRatioDescent {
            rate: A::from_f64(not_infinite(self.lr * step.scalars[0])),
        };
        // The learning rate is in the buffer already.
        let (momentum, lr) = (A::from_f64(self.momentum), A::one());
        if self.nesterov {
            Either::Right(coupled(
                rule.with(Trace { momentum, lr }),
                self.weight_decay,
            ))
        } else {
            Either::Left(coupled(
                rule.with(Trace { momentum, lr }),
                self.weight_decay,
            ))
        }
    }
}
