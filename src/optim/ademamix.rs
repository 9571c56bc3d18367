use super::*;

algorithm! {
    /// AdEMAMix: AdamW with a mixture of a fast and a very slow running average of the gradient.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g
    /// n <- beta3 n + (1 - beta3) g
    /// v <- beta2 v + (1 - beta2) g^2
    /// p <- p - lr ((m' + alpha n) / (sqrt(v') + eps) + weight_decay p)
    /// ```
    ///
    /// `m'` and `v'` are bias-corrected, `n` is not; all three averages start at 0. This is
    /// `optax.contrib.ademamix` with constant `alpha` and `beta3`, without their warm-ups.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` acts as in Adam: the part of the fast average moves each parameter by about `lr` per
    /// step in the parameter's own unit. The slow average adds up to `alpha` times as much once it
    /// has filled, which takes about `1 / (1 - beta3)` steps. `betas` is `(beta1, beta2, beta3)`.
    ///
    /// # State
    ///
    /// `exp_avg`, `exp_avg_sq` and `exp_avg_slow`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// M. Pagliardini, P. Ablin, D. Grangier, "The AdEMAMix Optimizer: Better, Faster, Older",
    /// [arXiv:2409.03137](https://arxiv.org/abs/2409.03137).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdEMAMix, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AdEMAMix::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-3 && (theta[1] + 1.9).abs() < 1e-3);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    AdEMAMix = "ademamix" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the fast average, the second moment and the slow average.
        betas: (f64, f64, f64) [in 0..1] = (0.9, 0.999, 0.9999);
        /// Weight of the slow average.
        alpha: f64 [>= 0] = 5.0;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Adam with a mixture of two first moments.
#[derive(Clone, Copy, Debug)]
pub struct Mixture<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    n: RunningAverage<A>,
    eps: A,
    of_m: A,
    of_n: A,
}

impl<A: Element> Rule for Mixture<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "exp_avg_slow"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v, n]: [A; 3]) -> (A, [A; 3]) {
        let m = self.m.update(m, g);
        let v = self.v.update(v, g);
        let n = self.n.update(n, g);
        (
            (self.of_m * m + self.of_n * n).over(v.sqrt() + self.eps),
            [m, v, n],
        )
    }
    fn floors(&self) -> [A; 3] {
        [smallest(), self.v.floor, smallest()]
    }
}

impl Algorithm for AdEMAMix {
    type Kernel<A: Element> = WithDecoupled<Mixture<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let root = step.root_of_correction(1);
        let rule = Mixture {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            n: RunningAverage::new(self.betas.2),
            eps: f(self.eps * root),
            of_m: f(self.lr / step.correction(0) * root),
            of_n: f(self.lr * root * self.alpha),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
