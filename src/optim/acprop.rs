use super::*;

algorithm! {
    /// Divides the gradient by the square root of its centered second moment as of the previous
    /// step, so that numerator and denominator are independent, as in [`Adopt`](crate::Adopt).
    ///
    /// # Update rule
    ///
    /// ```text
    /// D = 1 at t = 1, later s / (1 - beta2^(t-1))            with the s before this step
    /// p <- p - lr (g / (sqrt(D) + eps) + weight_decay p)
    /// s <- beta2 s + (1 - beta2) (g - m)^2 + eps_root        with the old m
    /// m <- beta1 m + (1 - beta1) g                           both from 0
    /// ```
    ///
    /// This is `optax.contrib.acprop`.
    ///
    /// # Hyper-parameters
    ///
    /// - The first step is not normalized: it is `lr g / (1 + eps)`.
    /// - Later steps are `lr` times the gradient over its estimated standard deviation. They are
    ///   about `lr` in the parameter's own unit where the gradient fluctuates around zero, and
    ///   larger where it is steady.
    /// - Where the gradient is constant, `eps_root` and `eps` bound the step.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_var`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// J. Zhuang et al., "Momentum Centering and Asynchronous Update for Adaptive Gradient
    /// Methods", [arXiv:2110.05454](https://arxiv.org/abs/2110.05454).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AcProp, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AcProp::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.95).abs() < 1e-6 && (theta[1] + 1.975).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    AcProp = "acprop" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and (g - m)^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-16;
        /// Added to the running variance at every step.
        eps_root: f64 [>= 0] = 1e-16;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// The gradient over the square root of the variance as of the previous step.
#[derive(Clone, Copy, Debug)]
pub struct PreviousVariance<A> {
    m: RunningAverage<A>,
    s: AverageOfSquares<A>,
    eps: A,
    eps_root: A,
    lr: A,
    /// D = scale s + shift.
    scale: A,
    shift: A,
}

impl<A: Element> Rule for PreviousVariance<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_var"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, s]: [A; 2]) -> (A, [A; 2]) {
        let delta = self.lr * g.over((self.scale * s + self.shift).sqrt() + self.eps);
        let deviation = g - m;
        let s = self.s.update(s, deviation) + self.eps_root;
        let m = self.m.update(m, g);
        (delta, [m, s])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.s.floor]
    }
}

impl Algorithm for AcProp {
    type Kernel<A: Element> = WithDecoupled<PreviousVariance<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        // There is no variance before the first step: D = 1.
        let first = step.t == 1;
        let rule = PreviousVariance {
            m: RunningAverage::new(self.betas.0),
            s: AverageOfSquares::new(self.betas.1, self.eps),
            eps: f(self.eps),
            eps_root: f(self.eps_root),
            lr: f(self.lr),
            scale: f(if first {
                0.0
            } else {
                1.0 / step.correction_at(1, step.t - 1)
            }),
            shift: f(if first { 1.0 } else { 0.0 }),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
