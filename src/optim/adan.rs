use super::*;

hyper_parameters! {
    /// Running averages of the gradient, of its differences and of the square of both: Nesterov momentum reformulated to
    /// need one gradient a step.
    ///
    /// ```text
    /// d = g - g_old                                          0 at the first step
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) d
    /// n <- beta3 n + (1 - beta3) (g + (1 - beta2) d)^2       all from 0
    /// p <- p - lr (u + weight_decay p)                       u = (m' + (1 - beta2) v') / (sqrt(n' + eps_root) + eps),
    ///                                                        each ' divided by its 1 - beta^t
    /// look_ahead_by_beta2:  beta2 in place of 1 - beta2 in n and u
    /// proximal_decay:       p <- (p - lr u) / (1 + lr weight_decay)
    /// ```
    ///
    /// This is `optax.adan`. [`Adan::paper`] is the form of the paper and of its authors' code: the paper calls 1 - beta
    /// what is called beta here, so its 1 - beta2 is beta2. Source: X. Xie et al., arXiv:2208.06677. State: `exp_avg`,
    /// `exp_avg_diff`, `exp_avg_sq`, `prev`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adan, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adan::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-4 && (theta[1] + 1.9).abs() < 1e-4);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "adan" Adan {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the three running averages, each in [0, 1).
        betas: (f64, f64, f64) = (0.98, 0.92, 0.99),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Added under the root for numerical stability, >= 0.
        eps_root: f64 = 1e-8,
        /// Weighs gradient differences with beta2, not 1 - beta2, as the paper does.
        look_ahead_by_beta2: bool = false,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
        /// Proximal weight decay, as in the paper: divides by 1 + lr weight_decay.
        proximal_decay: bool = false,
    }
}

impl Adan {
    /// `optax.adan`: the defaults.
    pub fn optax() -> Self {
        Self::default()
    }

    /// The paper's form, with the defaults of its authors' code.
    pub fn paper() -> Self {
        Adan { eps_root: 0.0, look_ahead_by_beta2: true, proximal_decay: true, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Differences<A> {
    m: Average<A>,
    v: Average<A>,
    n: Average<A>,
    look_ahead: A,
    eps: A,
    eps_root: A,
    of_m: A,
    of_v: A,
}

impl<A: Element> Rule for Differences<A> {
    type Elem = A;
    type State = [A; 4];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_diff", "exp_avg_sq", "prev"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v, n, prev]: [A; 4]) -> (A, [A; 4]) {
        let d = g - prev;
        let m = self.m.step(m, g);
        let v = self.v.step(v, d);
        let ahead = g + self.look_ahead * d;
        let n = self.n.step(n, ahead * ahead);
        ((self.of_m * m + self.of_v * v).over((n + self.eps_root).sqrt() + self.eps), [m, v, n, g])
    }
    #[inline(always)]
    fn begin(&self, _p: A, g: A) -> [A; 4] {
        [A::ZERO, A::ZERO, A::ZERO, g]
    }
}

impl Algorithm for Adan {
    type Kernel<A: Element> = WithDecoupled<Differences<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::share("betas[2]", self.betas.2)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("eps_root", self.eps_root)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        self.betas.into()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let (n, root) = (now.correction(2), now.correction(2).sqrt());
        let look_ahead = if self.look_ahead_by_beta2 { self.betas.1 } else { 1.0 - self.betas.1 };
        let lr = if self.proximal_decay { self.lr / (1.0 + self.lr * self.weight_decay) } else { self.lr };
        let rule = Differences {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            n: Average::new(self.betas.2),
            look_ahead: f(look_ahead),
            eps: f(self.eps * root),
            eps_root: f(self.eps_root * n),
            of_m: f(lr * root / now.correction(0)),
            of_v: f(lr * root * look_ahead / now.correction(1)),
        };
        decoupled(rule, lr, self.weight_decay)
    }
}
