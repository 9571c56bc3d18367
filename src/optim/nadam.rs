use super::*;

algorithm! {
    /// Adam with Nesterov momentum and a momentum schedule.
    ///
    /// # Update rule
    ///
    /// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p` unless
    /// `decoupled_weight_decay`:
    ///
    /// ```text
    /// mu(i) = beta1 (1 - 0.96^(i momentum_decay) / 2),  M = mu(1) mu(2) ... mu(t)
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// d = sqrt(v / (1 - beta2^t)) + eps
    /// p <- p - lr (1 - mu(t)) / (1 - M) g / d - lr mu(t+1) / (1 - M mu(t+1)) m / d
    /// decoupled_weight_decay: p <- p - lr weight_decay p as well
    /// ```
    ///
    /// This is `torch.optim.NAdam`.
    ///
    /// # Hyper-parameters
    ///
    /// - `lr`: as in [`Adam`](crate::Adam), a step is about `lr` in the parameter's own unit.
    /// - `momentum_decay` sets the schedule: mu grows from beta1 / 2 to beta1. From
    ///   `momentum_decay` = 1000 on, 0.96^(i momentum_decay) is lost in rounding and mu is beta1
    ///   from the first step.
    ///
    /// [`NAdam::optax`] is therefore `optax.nadam`, which has no momentum schedule.
    /// [`NAdam::keras`] has a smaller `lr`, a larger `eps`, a faster schedule and decoupled weight
    /// decay.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter, and the product M as a scalar.
    ///
    /// # Reference
    ///
    /// T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016.
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{NAdam, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(NAdam::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.894354).abs() < 1e-5 && (theta[1] + 1.894354).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    NAdam = "nadam" {
        /// Learning rate.
        lr: f64 [>= 0] = 2e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// How fast mu grows from beta1 / 2 to beta1.
        momentum_decay: f64 [>= 0] = 4e-3;
        /// Decouples the weight decay, as in AdamW.
        decoupled_weight_decay: bool = false;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.NAdam`: the defaults.
        torch {}
        /// `optax.nadam`: no momentum schedule.
        optax { momentum_decay: 1000.0 }
        /// `keras.optimizers.Nadam`: other defaults, and decoupled weight decay.
        keras { lr: 1e-3, eps: 1e-7, momentum_decay: 1.0, decoupled_weight_decay: true }
    }
}

/// The bias corrections are folded into the scalars, as in Adam's rule.
#[derive(Clone, Copy, Debug)]
pub struct NesterovMoments<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    eps: A,
    /// Weight of the gradient in the update.
    of_g: A,
    /// Weight of the first moment in the update.
    of_m: A,
}

impl<A: Element> Rule for NesterovMoments<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let v = self.v.update(v, g);
        (
            (self.of_g * g + self.of_m * m).over(v.sqrt() + self.eps),
            [m, v],
        )
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

impl NAdam {
    /// The momentum factor of step `i`.
    fn mu(&self, i: u64) -> f64 {
        const LN: f64 = -0.040_821_994_520_255_166; // of 0.96
        self.betas.0 * (1.0 - 0.5 * (i as f64 * self.momentum_decay * LN).portable_exp())
    }
}

impl Algorithm for NAdam {
    type Kernel<A: Element> =
        Either<WithCoupled<NesterovMoments<A>>, WithDecoupled<NesterovMoments<A>>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    fn initial_scalars(&self) -> Scalars {
        Scalars::new([1.0])
    }

    /// The product of all mu(i) so far; 0 once it is subnormal, where it would stay.
    fn update_scalars(&self, step: &StepContext, _sums: &Sums) -> Scalars {
        let product = step.scalars[0] * self.mu(step.t);
        Scalars::new([if product < f64::MIN_POSITIVE {
            0.0
        } else {
            product
        }])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let root = step.root_of_correction(1);
        let Scalars([product, ..]) = step.scalars;
        let next = self.mu(step.t + 1);
        let rule = NesterovMoments {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            eps: f(self.eps * root),
            of_g: f(self.lr * root * (1.0 - self.mu(step.t)) / (1.0 - product)),
            of_m: f(self.lr * root * next / (1.0 - product * next)),
        };
        if self.decoupled_weight_decay {
            Either::Right(decoupled(rule, self.lr, self.weight_decay))
        } else {
            Either::Left(coupled(rule, self.weight_decay))
        }
    }
}
