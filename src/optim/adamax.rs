use super::*;

hyper_parameters! {
    /// Adam with the infinity norm: divides by an exponentially decaying maximum of |g|, which needs no bias correction.
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, and then g <- g + weight_decay p:
    /// m <- beta1 m + (1 - beta1) g            from m = 0
    /// u <- max(beta2 u, |g| + eps)            from u = 0
    /// p <- p - lr / (1 - beta1^t) m / u
    /// eps_outside_max:  u <- max(beta2 u, |g|),  p <- p - lr / (1 - beta1^t) m / (u + eps)
    /// ```
    ///
    /// This is `torch.optim.Adamax` and `optax.adamax`: eps is inside the maximum. It is outside in keras; the paper has
    /// none. Source: D. P. Kingma, J. Ba, arXiv:1412.6980, section 7. State: `exp_avg`, `exp_inf`.
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
    "adamax" Adamax {
        /// Learning rate, >= 0.
        lr: f64 = 2e-3,
        /// Decay rates of the running average of g and of the maximum of |g|, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to |g| for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Adds eps to the maximum instead of |g|, as keras does.
        eps_outside_max: bool = false,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl Adamax {
    /// `torch.optim.Adamax`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adamax`: the defaults.
    pub fn optax() -> Self {
        Self::default()
    }

    /// `keras.optimizers.Adamax`.
    pub fn keras() -> Self {
        Adamax { lr: 1e-3, eps: 1e-7, eps_outside_max: true, ..Self::default() }
    }

    /// Algorithm 2 of the paper.
    pub fn paper() -> Self {
        Adamax { eps: 0.0, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Largest<A> {
    m: Average<A>,
    beta2: A,
    /// One of the two is 0.
    eps_inside: A,
    eps_outside: A,
    step_size: A,
}

impl<A: Element> Rule for Largest<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_inf"];
    const COST: u64 = 4;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, u]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.step(m, g);
        let (old, new) = ((self.beta2 * u).flush(), g.abs() + self.eps_inside);
        let u = if old > new { old } else { new }; // a NaN in g shows
        (self.step_size * m.over(u + self.eps_outside), [m, u])
    }
}

impl Algorithm for Adamax {
    type Kernel<A: Element> = WithCoupled<Largest<A>>;

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
        let f = A::of;
        let (inside, outside) = if self.eps_outside_max { (0.0, self.eps) } else { (self.eps, 0.0) };
        let rule = Largest {
            m: Average::new(self.betas.0),
            beta2: f(self.betas.1),
            eps_inside: f(inside),
            eps_outside: f(outside),
            step_size: f(self.lr / now.correction(0)),
        };
        coupled(rule, self.weight_decay)
    }
}
