use super::*;

algorithm! {
    /// Adagrad: the gradient divided by the root of the sum of all its past squares.
    ///
    /// The effective learning rate of each element decays, fastest where gradients were large. For
    /// sparse features and convex problems.
    ///
    /// # Update rule
    ///
    /// With g the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// s <- s + g^2                                              from s = initial_accumulator_value
    /// p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)
    /// eps_inside_sqrt:  sqrt(s + eps) in place of sqrt(s) + eps
    /// ```
    ///
    /// This is `torch.optim.Adagrad`; with [`Adagrad::optax`] it is `optax.adagrad`, which starts s
    /// at 0.1.
    ///
    /// # Hyper-parameters
    ///
    /// From s = 0 the first step is about `lr` in the parameter's own unit; with gradients of
    /// constant magnitude, step t is 1 / sqrt(t) of that. The presets differ in `lr`, the initial
    /// s, and the value and place of `eps`.
    ///
    /// # State
    ///
    /// `sum`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods for Online Learning and
    /// Stochastic Optimization", JMLR 12, 2011.
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adagrad, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adagrad::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Adagrad = "adagrad" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-2;
        /// The learning rate is divided by `1 + (t - 1) lr_decay`.
        lr_decay: f64 [>= 0] = 0.0;
        /// Initial value of s.
        initial_accumulator_value: f64 [>= 0] = 0.0;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-10;
        /// Adds `eps` under the root, as optax and keras do.
        eps_inside_sqrt: bool = false;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.Adagrad`: the defaults.
        torch {}
        /// `optax.adagrad`.
        optax { initial_accumulator_value: 0.1, eps: 1e-7, eps_inside_sqrt: true }
        /// `keras.optimizers.Adagrad`.
        keras { lr: 1e-3, initial_accumulator_value: 0.1, eps: 1e-7, eps_inside_sqrt: true }
    }
}

/// Scales by the accumulated sum of squares.
#[derive(Clone, Copy, Debug)]
pub struct SumOfSquares<A> {
    initial: A,
    /// One of the two is 0.
    eps_inside: A,
    eps_outside: A,
    step_size: A,
}

impl<A: Element> Rule for SumOfSquares<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["sum"];
    const COST: u64 = 4;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [s]: [A; 1]) -> (A, [A; 1]) {
        let s = s + g * g;
        (
            self.step_size * g.over((s + self.eps_inside).sqrt() + self.eps_outside),
            [s],
        )
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 1] {
        [self.initial]
    }
}

impl Algorithm for Adagrad {
    type Kernel<A: Element> = WithCoupled<SumOfSquares<A>>;
    const DEMANDS: Demands = Demands::NONE.row_wise();

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let (inside, outside) = if self.eps_inside_sqrt {
            (self.eps, 0.0)
        } else {
            (0.0, self.eps)
        };
        let rule = SumOfSquares {
            initial: f(self.initial_accumulator_value),
            eps_inside: f(inside),
            eps_outside: f(outside),
            step_size: f(self.lr / (1.0 + (step.t - 1) as f64 * self.lr_decay)),
        };
        coupled(rule, self.weight_decay)
    }
}
