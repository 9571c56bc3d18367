use super::*;

algorithm! {
    /// Adamax: Adam with the infinity norm in place of the second moment.
    ///
    /// The denominator is an exponentially decaying maximum of `|g|`, which needs no bias
    /// correction.
    ///
    /// # Update rule
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, and then g <- g + weight_decay p:
    /// m <- beta1 m + (1 - beta1) g            from m = 0
    /// u <- max(beta2 u, |g| + eps)            from u = 0
    /// p <- p - lr / (1 - beta1^t) m / u
    /// eps_outside_max:  u <- max(beta2 u, |g|),  p <- p - lr / (1 - beta1^t) m / (u + eps)
    /// bias_correction false:  lr in place of lr / (1 - beta1^t)
    /// ```
    ///
    /// This is `torch.optim.Adamax` and `optax.adamax`, which have `eps` inside the maximum. In
    /// `keras.optimizers.Adamax` it is outside (`eps_outside_max`); the paper has no `eps`.
    ///
    /// # Hyper-parameters
    ///
    /// As in Adam, each element moves by about `lr` per step in the parameter's own unit. The
    /// presets differ in `lr` and in the value and place of `eps`.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_inf`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", section 7,
    /// [arXiv:1412.6980](https://arxiv.org/abs/1412.6980).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adamax, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adamax::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Adamax = "adamax" {
        /// Learning rate.
        lr: f64 [>= 0] = 2e-3;
        /// Decay rates of the running average of `g` and of the maximum of `|g|`.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to `|g|` for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Adds `eps` to the maximum instead of `|g|`, as keras does.
        eps_outside_max: bool = false;
        /// Bias correction: divides the first moment by 1 - beta1^t.
        bias_correction: bool = true;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Maximizes the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.Adamax`: the defaults.
        torch {}
        /// `optax.adamax`: the defaults.
        optax {}
        /// `keras.optimizers.Adamax`: `lr` 1e-3, `eps` 1e-7, added outside the maximum.
        keras { lr: 1e-3, eps: 1e-7, eps_outside_max: true }
        /// Algorithm 2 of the paper: no `eps`.
        paper { eps: 0.0 }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct InfinityNorm<A> {
    m: RunningAverage<A>,
    beta2: A,
    /// `eps` inside the maximum; this or `eps_outside` is 0.
    eps_inside: A,
    eps_outside: A,
    step_size: A,
}

impl<A: Element> Rule for InfinityNorm<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_inf"];
    const COST: u64 = 4;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, u]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let (old, new) = (self.beta2 * u, g.abs() + self.eps_inside);
        // In this order a NaN in `g` propagates.
        let u = if old > new { old } else { new };
        (self.step_size * m.over(u + self.eps_outside), [m, u])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(); 2]
    }
}

impl Algorithm for Adamax {
    type Kernel<A: Element> = WithCoupled<InfinityNorm<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let (inside, outside) = if self.eps_outside_max {
            (0.0, self.eps)
        } else {
            (self.eps, 0.0)
        };
        let rule = InfinityNorm {
            m: RunningAverage::new(self.betas.0),
            beta2: f(self.betas.1),
            eps_inside: f(inside),
            eps_outside: f(outside),
            step_size: f(self.lr / step.correction(0)),
        };
        coupled(rule, self.weight_decay)
    }
}
