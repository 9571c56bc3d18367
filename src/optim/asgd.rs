use super::*;

hyper_parameters! {
    /// Averaged SGD: gradient descent with a decaying learning rate, and the average of the parameters from step t0 on. The
    /// average is state `ax`; see [`Optimizer::state`](crate::Optimizer::state).
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, and then g <- g + weight_decay p:
    /// eta = lr / (1 + lambd lr (t - 1))^alpha,  mu = 1 / max(1, t - 1 - t0)
    /// p  <- p (1 - lambd eta) - eta g
    /// ax <- p if mu = 1, else ax + mu (p - ax)
    /// ```
    ///
    /// This is `torch.optim.ASGD`, whose eta lags behind changes of `lr`; here it follows at once.
    /// Source: B. T. Polyak, A. B. Juditsky, SIAM J. Control Optim. 30, 1992. State: `ax`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Asgd, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Asgd::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.94999).abs() < 1e-5 && (theta[1] + 1.97498).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "asgd" Asgd {
        /// Learning rate, >= 0.
        lr: f64 = 1e-2,
        /// Decay term, >= 0.
        lambd: f64 = 1e-4,
        /// Exponent of the learning-rate decay, >= 0.
        alpha: f64 = 0.75,
        /// The step after which averaging starts, >= 0.
        t0: f64 = 1e6,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Averaged<A> {
    eta: A,
    decay: A,
    mu: A,
    is_start: bool,
}

impl<A: Element> Rule for Averaged<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["ax"];
    const COST: u64 = 3;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [ax]: [A; 1]) -> (A, [A; 1]) {
        let delta = self.decay * p + self.eta * g;
        let new = p - delta;
        let ax = if self.is_start { new } else { ax + self.mu * (new - ax) };
        (delta, [ax])
    }
}

impl Algorithm for Asgd {
    type Kernel<A: Element> = WithCoupled<Averaged<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("lambd", self.lambd)?;
        check::non_negative("alpha", self.alpha)?;
        check::non_negative("t0", self.t0)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let before = (now.t - 1) as f64;
        let eta = self.lr / (1.0 + self.lambd * self.lr * before).powf(self.alpha);
        let mu = 1.0 / (before - self.t0).max(1.0);
        let rule = Averaged { eta: A::of(eta), decay: A::of(self.lambd * eta), mu: A::of(mu), is_start: mu == 1.0 };
        coupled(rule, self.weight_decay)
    }
}
