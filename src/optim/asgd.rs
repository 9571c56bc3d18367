use super::*;

algorithm! {
    /// Averaged SGD: gradient descent with a decaying learning rate, and an average of the
    /// iterates.
    ///
    /// The average of the parameters after step `t0` is state `ax`; see
    /// [`Optimizer::state`](crate::Optimizer::state).
    ///
    /// # Update rule
    ///
    /// With g the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// eta = lr / (1 + lambd lr (t - 1))^alpha,  mu = 1 / max(1, t - 1 - t0)
    /// p  <- p (1 - lambd eta) - eta g
    /// ax <- p if mu = 1, else ax + mu (p - ax)
    /// ```
    ///
    /// This is `torch.optim.ASGD`, whose eta lags behind changes of `lr`; here it follows at once.
    ///
    /// # Hyper-parameters
    ///
    /// Until step `t0`, `ax` is the parameter itself: choose `t0` below the length of the run.
    /// `lambd` both shrinks the parameters and makes the learning rate decay.
    ///
    /// # State
    ///
    /// `ax`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// B. T. Polyak, A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM
    /// J. Control Optim. 30, 1992.
    ///
    /// # Example
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
    Asgd = "asgd" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-2;
        /// Decay term of the parameters and of the learning rate.
        lambd: f64 [>= 0] = 1e-4;
        /// Exponent of the learning-rate decay.
        alpha: f64 [>= 0] = 0.75;
        /// The step after which averaging starts.
        t0: f64 [>= 0] = 1e6;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
}

/// Gradient descent that also averages its iterates.
#[derive(Clone, Copy, Debug)]
pub struct AveragedDescent<A> {
    eta: A,
    decay: A,
    mu: A,
    /// Whether averaging has not started: `ax` is the parameter.
    follows: bool,
}

impl<A: Element> Rule for AveragedDescent<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["ax"];
    const COST: u64 = 3;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [ax]: [A; 1]) -> (A, [A; 1]) {
        let delta = self.decay * p + self.eta * g;
        let new = p - delta;
        let ax = if self.follows {
            new
        } else {
            ax + self.mu * (new - ax)
        };
        (delta, [ax])
    }
}

impl Algorithm for Asgd {
    type Kernel<A: Element> = WithCoupled<AveragedDescent<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let before = (step.t - 1) as f64;
        let eta = self.lr / libm::pow(1.0 + self.lambd * self.lr * before, self.alpha);
        let mu = 1.0 / (before - self.t0).max(1.0);
        let rule = AveragedDescent {
            eta: A::from_f64(eta),
            decay: A::from_f64(self.lambd * eta),
            mu: A::from_f64(mu),
            follows: mu == 1.0,
        };
        coupled(rule, self.weight_decay)
    }
}
