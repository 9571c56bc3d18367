use super::*;

hyper_parameters! {
    /// Gradient descent with a predicted next gradient. Converges on bilinear games and saddle points, where plain gradient
    /// descent cycles.
    ///
    /// ```text
    /// p <- p - lr ((alpha + beta) g - beta g_old)       g_old = g at the first step
    /// ```
    ///
    /// This is `optax.optimistic_gradient_descent`.
    /// Source: A. Mokhtari, A. Ozdaglar, S. Pattathil, arXiv:1901.08511. State: `prev`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{OptimisticGradientDescent, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(OptimisticGradientDescent::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert_eq!(theta, array![0.95, -1.975]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "optimistic_gradient_descent" OptimisticGradientDescent {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Weight of the gradient, >= 0.
        alpha: f64 = 1.0,
        /// Weight of the gradient difference, >= 0.
        beta: f64 = 1.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Optimistic<A> {
    of_g: A,
    of_prev: A,
}

impl<A: Element> Rule for Optimistic<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["prev"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [prev]: [A; 1]) -> (A, [A; 1]) {
        (self.of_g * g - self.of_prev * prev, [g])
    }
    #[inline(always)]
    fn begin(&self, _p: A, g: A) -> [A; 1] {
        [g]
    }
}

impl Algorithm for OptimisticGradientDescent {
    type Kernel<A: Element> = Optimistic<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("alpha", self.alpha)?;
        check::non_negative("beta", self.beta)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        Optimistic { of_g: A::of(self.lr * (self.alpha + self.beta)), of_prev: A::of(self.lr * self.beta) }
    }
}
