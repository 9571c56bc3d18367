use super::*;

hyper_parameters! {
    /// Adam with Nesterov momentum and a momentum schedule mu(t).
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, and then g <- g + weight_decay p unless decoupled:
    /// mu(i) = beta1 (1 - 0.96^(i momentum_decay) / 2),  M = mu(1) mu(2) ... mu(t)
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,  d = sqrt(v / (1 - beta2^t)) + eps
    /// p <- p - lr (1 - mu(t)) / (1 - M) g / d - lr mu(t+1) / (1 - M mu(t+1)) m / d
    /// decoupled_weight_decay: p <- p - lr weight_decay p as well
    /// ```
    ///
    /// This is `torch.optim.NAdam`. From `momentum_decay` = 1000 on, 0.96^(i momentum_decay) is lost in rounding and mu(i)
    /// is beta1 from the first step: so [`NAdam::optax`] is `optax.nadam`, which has no schedule of the momentum. Source: T.
    /// Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016. State: `exp_avg`, `exp_avg_sq`, and the
    /// product M.
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
    "nadam" NAdam {
        /// Learning rate, >= 0.
        lr: f64 = 2e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// How fast the momentum grows from beta1 / 2 to beta1, >= 0; from 1000 on it is beta1 at once.
        momentum_decay: f64 = 4e-3,
        /// Decouples the weight decay, as in AdamW.
        decoupled_weight_decay: bool = false,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl NAdam {
    /// `torch.optim.NAdam`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.nadam`.
    pub fn optax() -> Self {
        NAdam { momentum_decay: 1000.0, ..Self::default() }
    }

    /// `keras.optimizers.Nadam`.
    pub fn keras() -> Self {
        NAdam { lr: 1e-3, eps: 1e-7, momentum_decay: 1.0, decoupled_weight_decay: true, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Nesterov<A> {
    m: Average<A>,
    v: Average<A>,
    eps: A,
    of_g: A,
    of_m: A,
}

impl<A: Element> Rule for Nesterov<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.step(m, g);
        let v = self.v.step(v, g * g);
        ((self.of_g * g + self.of_m * m).over(v.sqrt() + self.eps), [m, v])
    }
}

impl NAdam {
    fn mu(&self, i: u64) -> f64 {
        self.betas.0 * (1.0 - 0.5 * 0.96_f64.powf(i as f64 * self.momentum_decay))
    }
}

impl Algorithm for NAdam {
    type Kernel<A: Element> = Either<WithCoupled<Nesterov<A>>, WithDecoupled<Nesterov<A>>>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)?;
        check::non_negative("momentum_decay", self.momentum_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    fn scalars(&self) -> Scalars {
        [1.0, 0.0, 0.0, 0.0]
    }

    /// The product of all mu so far.
    fn absorb(&self, now: &Now, _sums: &[f64; MAX_TERMS]) -> Scalars {
        [now.scalars[0] * self.mu(now.t), 0.0, 0.0, 0.0]
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let root = now.correction(1).sqrt();
        let ([product, ..], next) = (now.scalars, self.mu(now.t + 1));
        let rule = Nesterov {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            eps: f(self.eps * root),
            of_g: f(self.lr * root * (1.0 - self.mu(now.t)) / (1.0 - product)),
            of_m: f(self.lr * root * next / (1.0 - product * next)),
        };
        if self.decoupled_weight_decay {
            Either::Y(decoupled(rule, self.lr, self.weight_decay))
        } else {
            Either::X(coupled(rule, self.weight_decay))
        }
    }
}
