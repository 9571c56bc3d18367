use super::*;

algorithm! {
    /// Adam with per-parameter step sizes clipped to bounds that converge to `final_lr`.
    ///
    /// It behaves like Adam at first and like SGD with momentum at the end of training.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// f = final_lr lr / (lr at the start)
    /// lo = f (1 - 1 / (gamma t + 1)),  hi = f (1 + 1 / (gamma t))
    /// p <- p - clamp(lr sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps), lo, hi) m
    /// ```
    ///
    /// `m` and `v` start at 0. This is the form of the paper, with bounds that follow a schedule of
    /// `lr` as in the authors' code: `lr` at the start is the one that the optimizer or group was
    /// created with. If that is 0, f is `final_lr`.
    ///
    /// # Hyper-parameters
    ///
    /// While the bounds are wide, `lr` acts as in Adam: parameters move by about `lr` per step in
    /// their own unit. Later the step size approaches `final_lr`, a learning rate of SGD.
    /// A schedule that divides `lr` by 10 divides the bounds by 10 too. A larger `gamma` makes the
    /// bounds converge sooner.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// L. Luo et al., "Adaptive Gradient Methods with Dynamic Bound of Learning Rate",
    /// [arXiv:1902.09843](https://arxiv.org/abs/1902.09843).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdaBound, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AdaBound::new(0.01));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.99).abs() < 1e-4 && (theta[1] + 1.99).abs() < 1e-4);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    AdaBound = "adabound" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Learning rate that the bounds converge to while `lr` is what it was at the start.
        final_lr: f64 [>= 0] = 0.1;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Convergence speed of the bounds.
        gamma: f64 [> 0] = 1e-3;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
    }
}

/// Adam with a clamped step size.
#[derive(Clone, Copy, Debug)]
pub struct BoundedAdam<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    eps: A,
    step_size: A,
    low: A,
    high: A,
}

impl<A: Element> Rule for BoundedAdam<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let v = self.v.update(v, g);
        let rate = self.step_size / (v.sqrt() + self.eps);
        let rate = if rate < self.low { self.low } else { rate };
        let rate = if rate > self.high { self.high } else { rate };
        (rate * m, [m, v])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

impl Algorithm for AdaBound {
    type Kernel<A: Element> = BoundedAdam<A>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let t = step.t as f64;
        let follow = if step.initial_lr > 0.0 {
            self.lr / step.initial_lr
        } else {
            1.0
        };
        let final_lr = self.final_lr * follow;
        BoundedAdam {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            eps: f(self.eps),
            step_size: f(self.lr / step.correction(0) * step.root_of_correction(1)),
            low: f(final_lr * (1.0 - 1.0 / (self.gamma * t + 1.0))),
            high: f(final_lr * (1.0 + 1.0 / (self.gamma * t))),
        }
    }
}
