use super::*;

algorithm! {
    /// Gradient descent along an exponential running average of the gradients.
    ///
    /// The step size does not depend on `beta`, unlike that of torch's momentum, which is
    /// [`Sgd`](crate::Sgd) here.
    ///
    /// # Update rule
    ///
    /// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// m <- beta m + (1 - beta) g       from m = 0
    /// p <- p - lr m                    or lr m / (1 - beta^t) with bias_correction
    /// ```
    ///
    /// This is `optax.chain(ema(beta, debias), scale(-lr))`.
    ///
    /// # Hyper-parameters
    ///
    /// [`Sgd`](crate::Sgd) adds the whole gradient to its buffer, so its steps are up to
    /// `1 / (1 - beta)` times as large at equal `lr`. Without `bias_correction` the first steps are
    /// small, since the average starts at 0.
    ///
    /// # State
    ///
    /// `exp_avg`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Momentum, Optimizer};
    ///
    /// let mut momentum = Optimizer::new(Momentum::new(0.1));
    /// let mut theta = array![1.0, -2.0];
    /// for _ in 0..500 {
    ///     let grad = 2.0 * &theta; // of |theta|^2
    ///     momentum.update(&mut theta, &grad)?;
    /// }
    /// assert!(theta.iter().all(|x: &f64| x.abs() < 1e-10));
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Momentum = "momentum" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-2;
        /// Decay rate of the running average.
        beta: f64 [in 0..1] = 0.9;
        /// Corrects the bias of the running average: divides it by 1 - beta^t.
        bias_correction: bool = false;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
}

/// A step along the running average of the gradients.
#[derive(Clone, Copy, Debug)]
pub struct AlongAverage<A> {
    m: RunningAverage<A>,
    step_size: A,
}

impl<A: Element> AlongAverage<A> {
    #[inline(always)]
    pub fn new(beta: f64, step_size: f64) -> Self {
        AlongAverage {
            m: RunningAverage::new(beta),
            step_size: A::from_f64(step_size),
        }
    }
}

impl<A: Element> Rule for AlongAverage<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.m.update(m, g);
        (self.step_size * m, [m])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
}

impl Algorithm for Momentum {
    type Kernel<A: Element> = WithCoupled<AlongAverage<A>>;

    fn decay_rates(&self) -> DecayRates {
        DecayRates::new([self.beta])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let correction = if self.bias_correction {
            step.correction(0)
        } else {
            1.0
        };
        coupled(
            AlongAverage::new(self.beta, self.lr / correction),
            self.weight_decay,
        )
    }
}
