use super::*;

algorithm! {
    /// Optimistic gradient descent: gradient descent along an extrapolated next gradient.
    ///
    /// It converges on bilinear games and at saddle points, where plain gradient descent cycles.
    ///
    /// # Update rule
    ///
    /// ```text
    /// p <- p - lr ((alpha + beta) g - beta g_old)       g_old = g at the first step
    /// ```
    ///
    /// This is `optax.optimistic_gradient_descent`.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` acts as in gradient descent: under a constant gradient a step is `lr alpha g`. `beta`
    /// is the weight of the change of the gradient since the last step; at 0 this is plain gradient
    /// descent with the learning rate `lr alpha`.
    ///
    /// # State
    ///
    /// `prev`, the last gradient, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// A. Mokhtari, A. Ozdaglar, S. Pattathil, "A Unified Analysis of Extra-gradient and Optimistic
    /// Gradient Methods for Saddle Point Problems: Proximal Point Approach",
    /// [arXiv:1901.08511](https://arxiv.org/abs/1901.08511).
    ///
    /// # Example
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
    OptimisticGradientDescent = "optimistic_gradient_descent" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Weight of the gradient.
        alpha: f64 [>= 0] = 1.0;
        /// Weight of the gradient difference.
        beta: f64 [>= 0] = 1.0;
    }
}

/// A linear combination of the current and the last gradient.
#[derive(Clone, Copy, Debug)]
pub struct Extrapolation<A> {
    of_g: A,
    of_prev: A,
}

impl<A: Element> Rule for Extrapolation<A> {
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
    type Kernel<A: Element> = Extrapolation<A>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        Extrapolation {
            of_g: A::from_f64(self.lr * (self.alpha + self.beta)),
            of_prev: A::from_f64(self.lr * self.beta),
        }
    }
}
