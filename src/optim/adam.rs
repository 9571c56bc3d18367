use super::*;

hyper_parameters! {
    /// Bias-corrected running averages of the gradient and of its square.
    ///
    /// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g         from m = 0
    /// v <- beta2 v + (1 - beta2) g^2       from v = 0
    /// p <- p - lr m' / (sqrt(v') + eps)    with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    /// amsgrad:            v' = max over all steps so far of v, / (1 - beta2^t)
    /// amsgrad_corrected:  v' = max over all steps so far of v / (1 - beta2^t)
    /// eps_uncorrected:    eps / sqrt(1 - beta2^t) in place of eps
    /// ```
    ///
    /// This is `torch.optim.Adam`. `amsgrad_corrected` is the order of optax; `eps_uncorrected` puts eps next to the root
    /// before its bias correction, as keras and the "epsilon hat" of the paper do. Weight decay passes through the moments;
    /// [`AdamW`](crate::AdamW) decouples it. Sources: D. P. Kingma, J. Ba, arXiv:1412.6980; AMSGrad: S. J. Reddi et al.,
    /// arXiv:1904.09237. State: `exp_avg`, `exp_avg_sq`, with AMSGrad `max_exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adam, Optimizer};
    ///
    /// let mut adam = Optimizer::new(Adam { lr: 0.1, betas: (0.9, 0.99), ..Default::default() });
    /// let mut theta = array![1.0, -2.0];
    /// adam.update(&mut theta, &array![1e-3, 1e3])?;
    /// // The first step is lr in the direction of the sign, at any scale.
    /// assert!((theta[0] - 0.9_f64).abs() < 1e-5 && (theta[1] + 2.1).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "adam" Adam {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Adds eps to the root before its bias correction.
        eps_uncorrected: bool = false,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Divides by the maximum of the second moments so far (AMSGrad).
        amsgrad: bool = false,
        /// With `amsgrad`: the maximum of bias-corrected second moments.
        amsgrad_corrected: bool = false,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl Adam {
    /// `torch.optim.Adam`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adam`, and with `amsgrad` `optax.amsgrad`.
    pub fn optax() -> Self {
        Adam { amsgrad_corrected: true, ..Self::default() }
    }

    /// `keras.optimizers.Adam`.
    pub fn keras() -> Self {
        Adam { eps: 1e-7, eps_uncorrected: true, ..Self::default() }
    }

    /// Algorithm 1 of the paper: the defaults.
    pub fn paper() -> Self {
        Self::default()
    }
}

/// The bias corrections are folded: m' / (sqrt(v') + eps) = c m / (sqrt(v) + eps sqrt(1 - beta2^t)).
#[derive(Clone, Copy, Debug)]
pub struct Moments<A> {
    m: Average<A>,
    v: Average<A>,
    step_size: A,
    eps: A,
}

impl<A: Element> Moments<A> {
    #[inline(always)]
    pub fn new(lr: f64, (beta1, beta2): (f64, f64), eps: f64, now: &Now) -> Self {
        let f = A::of;
        let root = now.correction(1).sqrt();
        Moments {
            m: Average::new(beta1),
            v: Average::new(beta2),
            step_size: f(lr * root / now.correction(0)),
            eps: f(eps * root),
        }
    }

    #[inline(always)]
    pub fn moments(&self, g: A, m: A, v: A) -> (A, A) {
        (self.m.step(m, g), self.v.step(v, g * g))
    }

    #[inline(always)]
    pub fn update(&self, m: A, v: A) -> A {
        self.step_size * m.over(v.sqrt() + self.eps)
    }
}

impl<A: Element> Rule for Moments<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let (m, v) = self.moments(g, m, v);
        (self.update(m, v), [m, v])
    }
}

/// `eps` next to the corrected root, or what has the same effect there as `eps` next to the uncorrected one.
#[inline(always)]
pub(super) fn placed(eps: f64, uncorrected: bool, now: &Now) -> f64 {
    if uncorrected { eps / now.correction(1).sqrt() } else { eps }
}

#[derive(Clone, Copy, Debug)]
pub struct AmsGrad<A> {
    moments: Moments<A>,
    /// 1, or the bias correction of v before the maximum.
    scale: A,
}

impl<A: Element> AmsGrad<A> {
    /// `lr` and `eps` as those of `moments`.
    #[inline(always)]
    pub fn new(mut moments: Moments<A>, corrected: bool, lr: f64, eps: f64, now: &Now) -> Self {
        let mut scale = A::one();
        if corrected {
            scale = A::of(1.0 / now.correction(1));
            moments.step_size = A::of(lr / now.correction(0));
            moments.eps = A::of(eps);
        }
        AmsGrad { moments, scale }
    }
}

impl<A: Element> Rule for AmsGrad<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v, max]: [A; 3]) -> (A, [A; 3]) {
        let (m, v) = self.moments.moments(g, m, v);
        let new = self.scale * v;
        let max = if new < max { max } else { new }; // a NaN in v shows
        (self.moments.update(m, max), [m, v, max])
    }
}

impl Algorithm for Adam {
    type Kernel<A: Element> = Either<WithCoupled<Moments<A>>, WithCoupled<AmsGrad<A>>>;
    const ROW_WISE: bool = true;

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
            Either::Y(coupled(AmsGrad::new(rule, self.amsgrad_corrected, self.lr, eps, now), self.weight_decay))
        } else {
            Either::X(coupled(rule, self.weight_decay))
        }
    }
}
