use super::*;

hyper_parameters! {
    /// Adam with the model-based adaptive learning rate of [`Momo`](crate::Momo), of at most lr.
    ///
    /// ```text
    /// m, v as in Adam; sums over all arrays of a group
    /// F <- beta1 F + (1 - beta1) f,  c <- beta1 c + (1 - beta1) <g, p>                 from 0
    /// D = eps + sqrt(v / (1 - beta2^t)),  k = 1 - beta1^t
    /// tau = min(lr / k, max((1 + lr weight_decay) (F - k lower_bound - c) + <m, p>, 0) / <m, m / D>)
    /// p <- p / (1 + lr weight_decay) - tau m / D
    /// ```
    ///
    /// This is `optax.contrib.momo_adam`. Needs the value of the objective: [`Params::loss`](crate::Params::loss) or
    /// [`update_with_loss`](crate::Optimizer::update_with_loss).
    /// Source: F. Schaipp et al., arXiv:2305.07583. State: `exp_avg`, `exp_avg_sq`, and F, c.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{MomoAdam, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(MomoAdam::new(0.1));
    /// let mut theta = array![3.0_f64, 4.0];
    /// let grad = theta.clone(); // of |theta|^2 / 2 = 12.5
    /// optimizer.update_with_loss(&mut theta, &grad, 12.5)?;
    /// assert!((theta[0] - 2.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "momo_adam" MomoAdam {
        /// Learning rate, >= 0.
        lr: f64 = 1e-2,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// A lower bound on the objective.
        lower_bound: f64 = 0.0,
        /// Weight decay, >= 0: parameters are divided by 1 + lr weight_decay.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Model<A> {
    m: Average<A>,
    v: Average<A>,
    root: A,
    eps: A,
    decay: A,
    tau: A,
}

impl<A: Element> Rule for Model<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, p: A, g: A, state: [A; 2]) -> (A, [A; 2]) {
        let (m, v, u) = self.update(g, state);
        (self.decay * p + self.tau * u, [m, v])
    }
    const TERMS: usize = 3;
    #[inline(always)]
    fn terms(&self, p: A, g: A, state: [A; 2]) -> [f64; MAX_TERMS] {
        let (m, _, u) = self.update(g, state);
        let (p, g, m, u) = (p.f64(), g.f64(), m.f64(), u.f64());
        [g * p, m * u, m * p, 0.0]
    }
}

impl<A: Element> Model<A> {
    /// The new averages, and m / D.
    #[inline(always)]
    fn update(&self, g: A, [m, v]: [A; 2]) -> (A, A, A) {
        let m = self.m.step(m, g);
        let v = self.v.step(v, g * g);
        (m, v, m.over(self.root * v.sqrt() + self.eps))
    }
}

impl Algorithm for MomoAdam {
    type Kernel<A: Element> = Model<A>;
    const GLOBAL: bool = true;
    const LOSS: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::that(self.lower_bound.is_finite(), "lower_bound", self.lower_bound, "a finite number")?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    /// The averages F and c, and tau.
    fn absorb(&self, now: &Now, &[gp, mu, mp, _]: &[f64; MAX_TERMS]) -> Scalars {
        let ([loss, c, ..], b, k) = (now.scalars, self.betas.0, now.correction(0));
        let (loss, c) = (b * loss + (1.0 - b) * now.loss, b * c + (1.0 - b) * gp);
        let model = (1.0 + self.lr * self.weight_decay) * (loss - k * self.lower_bound - c) + mp;
        [loss, c, if mu <= f64::EPSILON { 0.0 } else { (model.max(0.0) / mu).min(self.lr / k) }, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let decay = self.lr * self.weight_decay;
        Model {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            root: f(1.0 / now.correction(1).sqrt()),
            eps: f(self.eps),
            decay: f(decay / (1.0 + decay)),
            tau: f(now.scalars[2]),
        }
    }
}
