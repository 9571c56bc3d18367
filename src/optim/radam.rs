use super::*;

hyper_parameters! {
    /// Adam with a rectified adaptive learning rate: the first steps, in which the variance of the second moment is
    /// intractable, are plain momentum. A substitute for learning-rate warm-up.
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, and then g <- g + weight_decay p unless decoupled:
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// n = 2 / (1 - beta2) - 1,  nt = n - 2 t beta2^t / (1 - beta2^t)
    /// nt > threshold:  r = sqrt((nt - 4)(nt - 2) n / ((n - 4)(n - 2) nt))
    ///                  p <- p - lr m / (1 - beta1^t) r sqrt(1 - beta2^t) / (sqrt(v) + eps)
    /// else:            p <- p - lr m / (1 - beta1^t)
    /// eps_uncorrected false:   eps sqrt(1 - beta2^t) in place of eps
    /// decoupled_weight_decay:  p <- p - lr weight_decay p as well
    /// ```
    ///
    /// This is `torch.optim.RAdam`; optax adds eps to the root after its bias correction; the paper has no eps, and a
    /// threshold of 4. Source: L. Liu et al., arXiv:1908.03265. State: `exp_avg`, `exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, RAdam};
    ///
    /// let mut optimizer = Optimizer::new(RAdam::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.95).abs() < 1e-6 && (theta[1] + 1.975).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "radam" RAdam {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Adds eps to the root before its bias correction.
        eps_uncorrected: bool = true,
        /// The length of the approximated moving average above which the second moment is used, >= 4.
        threshold: f64 = 5.0,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Decouples the weight decay, as in AdamW.
        decoupled_weight_decay: bool = false,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl RAdam {
    /// `torch.optim.RAdam`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.radam`.
    pub fn optax() -> Self {
        RAdam { eps_uncorrected: false, ..Self::default() }
    }

    /// Algorithm 2 of the paper.
    pub fn paper() -> Self {
        RAdam { eps: 0.0, threshold: 4.0, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Averages<A> {
    m: Average<A>,
    v: Average<A>,
    eps: A,
    step_size: A,
    is_rectified: bool,
}

impl<A: Element> Rule for Averages<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.step(m, g);
        let v = self.v.step(v, g * g);
        let u = if self.is_rectified { m.over(v.sqrt() + self.eps) } else { m };
        (self.step_size * u, [m, v])
    }
}

impl Algorithm for RAdam {
    type Kernel<A: Element> = Either<WithCoupled<Averages<A>>, WithDecoupled<Averages<A>>>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::that(
            self.threshold >= 4.0 && self.threshold.is_finite(),
            "threshold",
            self.threshold,
            "a finite number >= 4",
        )?;
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
        let f = A::of;
        let (t, correction) = (now.t as f64, now.correction(1));
        let n = 2.0 / (1.0 - self.betas.1) - 1.0;
        let nt = n - 2.0 * t * (1.0 - correction) / correction;
        let (root, is_rectified) = (correction.sqrt(), nt > self.threshold);
        let factor = ((nt - 4.0) * (nt - 2.0) * n / ((n - 4.0) * (n - 2.0) * nt)).sqrt() * root;
        let rule = Averages {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            eps: f(if self.eps_uncorrected { self.eps } else { self.eps * root }),
            step_size: f(self.lr / now.correction(0) * if is_rectified { factor } else { 1.0 }),
            is_rectified,
        };
        if self.decoupled_weight_decay {
            Either::Y(decoupled(rule, self.lr, self.weight_decay))
        } else {
            Either::X(coupled(rule, self.weight_decay))
        }
    }
}
