use super::*;

hyper_parameters! {
    /// Gradient descent along an exponential moving average of the gradients; the step size does not depend on `beta`.
    ///
    /// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// m <- beta m + (1 - beta) g       from m = 0
    /// p <- p - lr m                    or lr m / (1 - beta^t) with bias_correction
    /// ```
    ///
    /// This is `optax.chain(ema(beta, debias), scale(-lr))`. torch's momentum, [`Sgd`](crate::Sgd) here, adds the whole
    /// gradient to its buffer, so its steps are up to 1 / (1 - beta) times as large at equal `lr`. Source: B. T. Polyak,
    /// "Some methods of speeding up the convergence of iteration methods", 1964. State: `exp_avg`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Momentum, Optimizer};
    ///
    /// let mut momentum = Optimizer::new(Momentum::new(0.1));
    /// let mut theta = array![1.0, -2.0];
    /// for _ in 0..500 {
    ///     let grad = 2.0 * &theta;                // of |theta|^2
    ///     momentum.update(&mut theta, &grad)?;
    /// }
    /// assert!(theta.iter().all(|x: &f64| x.abs() < 1e-10));
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "momentum" Momentum {
        /// Learning rate, >= 0.
        lr: f64 = 1e-2,
        /// Decay rate of the running average, in [0, 1).
        beta: f64 = 0.9,
        /// Corrects the bias of the average: divides it by 1 - beta^t.
        bias_correction: bool = false,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct AlongAverage<A> {
    m: Average<A>,
    step_size: A,
}

impl<A: Element> AlongAverage<A> {
    #[inline(always)]
    pub fn new(beta: f64, step_size: f64) -> Self {
        AlongAverage { m: Average::new(beta), step_size: A::of(step_size) }
    }
}

impl<A: Element> Rule for AlongAverage<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.m.step(m, g);
        (self.step_size * m, [m])
    }
}

impl Algorithm for Momentum {
    type Kernel<A: Element> = WithCoupled<AlongAverage<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("beta", self.beta)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.beta, 0.0, 0.0]
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let correction = if self.bias_correction { now.correction(0) } else { 1.0 };
        coupled(AlongAverage::new(self.beta, self.lr / correction), self.weight_decay)
    }
}
