use super::{
    adam::{AmsGrad, Moments, placed},
    *,
};

hyper_parameters! {
    /// Adam with weight decay decoupled from the gradient.
    ///
    /// With `g` the gradient, negated if `maximize`:
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g         from m = 0
    /// v <- beta2 v + (1 - beta2) g^2       from v = 0
    /// p <- p - lr (m' / (sqrt(v') + eps) + weight_decay p)    with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    /// amsgrad:            v' = max over all steps so far of v, / (1 - beta2^t)
    /// amsgrad_corrected:  v' = max over all steps so far of v / (1 - beta2^t)
    /// eps_uncorrected:    eps / sqrt(1 - beta2^t) in place of eps
    /// ```
    ///
    /// This is `torch.optim.AdamW`. torch shrinks `p` first, which is the same in exact arithmetic and seven times less
    /// accurate in `f32`. In the paper decay is a number of its own that the learning rate's schedule scales but not its
    /// base: `weight_decay` here is that number over the base. Source: I. Loshchilov, F. Hutter, arXiv:1711.05101. State:
    /// `exp_avg`, `exp_avg_sq`, with AMSGrad `max_exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdamW, Optimizer};
    ///
    /// let mut adamw = Optimizer::new(AdamW::new(0.1));
    /// let mut theta = array![1.0, -2.0];
    /// adamw.update(&mut theta, &array![0.0, 0.0])?;
    /// assert_eq!(theta, array![1.0 - 0.1 * 0.01, -2.0 + 0.1 * 0.01 * 2.0]); // only decay
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "adamw" AdamW {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Adds eps to the root before its bias correction.
        eps_uncorrected: bool = false,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 1e-2,
        /// Divides by the maximum of the second moments so far (AMSGrad).
        amsgrad: bool = false,
        /// With `amsgrad`: the maximum of bias-corrected second moments.
        amsgrad_corrected: bool = false,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl AdamW {
    /// `torch.optim.AdamW`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adamw`.
    pub fn optax() -> Self {
        AdamW { weight_decay: 1e-4, amsgrad_corrected: true, ..Self::default() }
    }

    /// `keras.optimizers.AdamW`.
    pub fn keras() -> Self {
        AdamW { eps: 1e-7, eps_uncorrected: true, weight_decay: 4e-3, ..Self::default() }
    }
}

impl Algorithm for AdamW {
    type Kernel<A: Element> = Either<WithDecoupled<Moments<A>>, WithDecoupled<AmsGrad<A>>>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let eps = placed(self.eps, self.eps_uncorrected, now);
        let rule = Moments::new(self.lr, self.betas, eps, now);
        if self.amsgrad {
            let rule = AmsGrad::new(rule, self.amsgrad_corrected, self.lr, eps, now);
            Either::Y(decoupled(rule, self.lr, self.weight_decay))
        } else {
            Either::X(decoupled(rule, self.lr, self.weight_decay))
        }
    }
}
