use super::*;

algorithm! {
    /// SGD with the Polyak step size, which would bring a linear objective to its optimum in one
    /// step.
    ///
    /// There is no learning rate to tune where the optimal value `f_min` is known, as in
    /// interpolation problems. Each step needs the value of the objective:
    /// [`Params::loss`](crate::Params::loss) or
    /// [`update_with_loss`](crate::Optimizer::update_with_loss).
    ///
    /// # Update rule
    ///
    /// With `g <- scaling g`, f the value of the objective and the sum over all arrays of a
    /// parameter group:
    ///
    /// ```text
    /// s = min((f - f_min) / (sum g^2 + eps), max_lr)    0 if the divisor is not above 2.2e-16
    /// p <- p - s g
    /// ```
    ///
    /// This is `optax.polyak_sgd`.
    ///
    /// # Hyper-parameters
    ///
    /// - `max_lr` is the learning rate that schedules change; it only caps the step size.
    /// - `f_min`: too small a value makes steps too long.
    /// - `scaling` divides uncapped steps: it enters the squared norm twice and the update once.
    ///
    /// # State
    ///
    /// No arrays.
    ///
    /// # Reference
    ///
    /// N. Loizou et al., "Stochastic Polyak Step-size for SGD: An Adaptive Learning Rate for Fast
    /// Convergence", [arXiv:2002.10542](https://arxiv.org/abs/2002.10542).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, PolyakSgd};
    ///
    /// let mut optimizer = Optimizer::new(PolyakSgd::new(1.0));
    /// let mut theta = array![3.0_f64, 4.0];
    /// let grad = theta.clone(); // of |theta|^2 / 2 = 12.5
    /// optimizer.update_with_loss(&mut theta, &grad, 12.5)?;
    /// assert_eq!(theta, array![1.5, 2.0]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    PolyakSgd = "polyak_sgd" {
        /// Upper bound of the step size.
        max_lr: f64 [>= 0] = 1.0;
        /// Multiplies the gradient.
        scaling: f64 [> 0] = 1.0;
        /// The optimal value of the objective.
        f_min: f64 [finite] = 0.0;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 0.0;
    }
}

/// Gradient descent at the Polyak step size.
#[derive(Clone, Copy, Debug)]
pub struct PolyakStep<A> {
    scaling: A,
    /// The step size times `scaling`.
    rate: A,
}

impl<A: Element> Rule for PolyakStep<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 1;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.rate * g, [])
    }
    const TERMS: usize = 1;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, _state: [A; 0]) -> Terms<A> {
        let g = self.scaling * g;
        Terms::new([(g, g)])
    }
}

impl Algorithm for PolyakSgd {
    type Kernel<A: Element> = PolyakStep<A>;
    const DEMANDS: Demands = Demands::NONE.global_sums().loss();

    fn lr(&self) -> f64 {
        self.max_lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.max_lr = lr;
    }

    /// The step size.
    fn update_scalars(&self, step: &StepContext, sums: &Sums) -> Scalars {
        let square = sums[0] + self.eps;
        let size = ((step.loss - self.f_min) / square).min(self.max_lr);
        Scalars::new([if square <= f64::EPSILON { 0.0 } else { size }])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        PolyakStep {
            scaling: A::from_f64(self.scaling),
            rate: A::from_f64(step.scalars[0] * self.scaling),
        }
    }
}
