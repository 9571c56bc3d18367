use super::*;

algorithm! {
    /// AdaBelief: Adam with the variance of the gradient around its running average as second
    /// moment.
    ///
    /// Steps are large where the gradient is steady and small where it fluctuates.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g                             from m = 0
    /// s <- beta2 s + (1 - beta2) (g - m)^2 + eps_root          from s = 0, with the new m
    /// p <- p - lr m' / (sqrt(s') + eps)    m' = m / (1 - beta1^t), s' = s / (1 - beta2^t)
    /// ```
    ///
    /// Without `bias_correction`, m' = m and s' = s.
    ///
    /// This is `optax.adabelief`: `eps_root` is stored in s, where it accumulates.
    ///
    /// # Hyper-parameters
    ///
    /// Where the gradient fluctuates, a step is at most about `lr` in the parameter's own unit;
    /// along a steady gradient it can be much larger. `eps_root` adds `eps_root / (1 - beta2)` to
    /// s' and so limits such steps.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_var`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// J. Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
    /// Gradients", [arXiv:2010.07468](https://arxiv.org/abs/2010.07468).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdaBelief, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AdaBelief::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.888889).abs() < 1e-5 && (theta[1] + 1.888889).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    AdaBelief = "adabelief" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and (g - m)^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-16;
        /// Added to the running variance at every step.
        eps_root: f64 [>= 0] = 1e-16;
        /// Bias correction: divides the moments by 1 - beta^t.
        bias_correction: bool = true;
    }
}

/// Adam's rule with the second moment of the gradient's deviation from its average.
#[derive(Clone, Copy, Debug)]
pub struct CenteredMoments<A> {
    m: RunningAverage<A>,
    s: AverageOfSquares<A>,
    eps: A,
    eps_root: A,
    step_size: A,
}

impl<A: Element> Rule for CenteredMoments<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_var"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, s]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let deviation = g - m;
        let s = self.s.update(s, deviation) + self.eps_root;
        (self.step_size * m.over(s.sqrt() + self.eps), [m, s])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.s.floor]
    }
}

impl Algorithm for AdaBelief {
    type Kernel<A: Element> = CenteredMoments<A>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let root = step.root_of_correction(1);
        CenteredMoments {
            m: RunningAverage::new(self.betas.0),
            s: AverageOfSquares::new(self.betas.1, self.eps),
            eps: f(self.eps * root),
            eps_root: f(self.eps_root),
            step_size: f(self.lr / step.correction(0) * root),
        }
    }
}
