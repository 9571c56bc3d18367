use super::*;

algorithm! {
    /// Adan: running averages of the gradient, of its differences and of the square of both.
    ///
    /// Nesterov momentum reformulated to need one gradient per step.
    ///
    /// # Update rule
    ///
    /// ```text
    /// d = g - g_old                                          0 at the first step
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) d
    /// n <- beta3 n + (1 - beta3) (g + (1 - beta2) d)^2       all from 0
    /// u = (m' + (1 - beta2) v') / (sqrt(n' + eps_root) + eps)
    /// p <- p - lr (u + weight_decay p)                       each ' divided by its 1 - beta^t
    /// look_ahead_by_beta2:  beta2 in place of 1 - beta2 in n and u
    /// proximal_decay:       p <- (p - lr u) / (1 + lr weight_decay)
    /// ```
    ///
    /// This is `optax.adan`. [`Adan::paper`] is the form of the paper and of its authors' code: the
    /// paper writes beta for what is 1 - beta here, so its 1 - beta2 is `beta2`.
    ///
    /// # Hyper-parameters
    ///
    /// A step is about `lr` in the parameter's own unit. The first two decay rates are those of the
    /// gradient and of its differences, the third that of the second moment. The presets differ in
    /// the weight of the differences, in `eps_root` and in the form of weight decay.
    ///
    /// # State
    ///
    /// `exp_avg`, `exp_avg_diff`, `exp_avg_sq` and `prev` (the last gradient), in the shape of the
    /// parameter.
    ///
    /// # Reference
    ///
    /// X. Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep
    /// Models", [arXiv:2208.06677](https://arxiv.org/abs/2208.06677).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adan, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adan::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-4 && (theta[1] + 1.9).abs() < 1e-4);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Adan = "adan" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the three running averages.
        betas: (f64, f64, f64) [in 0..1] = (0.98, 0.92, 0.99);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Added under the root for numerical stability.
        eps_root: f64 [>= 0] = 1e-8;
        /// Weights gradient differences by beta2 instead of 1 - beta2, as the paper does.
        look_ahead_by_beta2: bool = false;
        /// Decoupled weight decay: each step subtracts `lr weight_decay p`.
        weight_decay: f64 [>= 0] = 0.0;
        /// Proximal weight decay, as in the paper: divides by `1 + lr weight_decay`.
        proximal_decay: bool = false;
    }
    presets {
        /// `optax.adan`: the defaults.
        optax {}
        /// The paper's form, with the defaults of its authors' code.
        paper { eps_root: 0.0, look_ahead_by_beta2: true, proximal_decay: true }
    }
}

/// Moments of the gradient and of its differences, with the bias corrections folded in.
#[derive(Clone, Copy, Debug)]
pub struct GradientDifferences<A> {
    m: RunningAverage<A>,
    v: RunningAverage<A>,
    n: AverageOfSquares<A>,
    look_ahead: A,
    eps: A,
    eps_root: A,
    m_scale: A,
    v_scale: A,
}

impl<A: Element> Rule for GradientDifferences<A> {
    type Elem = A;
    type State = [A; 4];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_diff", "exp_avg_sq", "prev"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v, n, prev]: [A; 4]) -> (A, [A; 4]) {
        let d = g - prev;
        let m = self.m.update(m, g);
        let v = self.v.update(v, d);
        let ahead = g + self.look_ahead * d;
        let n = self.n.update(n, ahead);
        (
            (self.m_scale * m + self.v_scale * v).over((n + self.eps_root).sqrt() + self.eps),
            [m, v, n, g],
        )
    }
    fn floors(&self) -> [A; 4] {
        [smallest(), smallest(), self.n.floor, A::ZERO]
    }
    #[inline(always)]
    fn begin(&self, _p: A, g: A) -> [A; 4] {
        [A::ZERO, A::ZERO, A::ZERO, g]
    }
}

impl Algorithm for Adan {
    type Kernel<A: Element> = WithDecoupled<GradientDifferences<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let (n, root) = (step.correction(2), step.root_of_correction(2));
        let look_ahead = if self.look_ahead_by_beta2 {
            self.betas.1
        } else {
            1.0 - self.betas.1
        };
        let lr = if self.proximal_decay {
            self.lr / (1.0 + self.lr * self.weight_decay)
        } else {
            self.lr
        };
        let rule = GradientDifferences {
            m: RunningAverage::new(self.betas.0),
            v: RunningAverage::new(self.betas.1),
            n: AverageOfSquares::new(self.betas.2, self.eps.max(self.eps_root.sqrt())),
            look_ahead: f(look_ahead),
            eps: f(self.eps * root),
            eps_root: f(self.eps_root * n),
            m_scale: f(lr / step.correction(0) * root),
            v_scale: f(lr * root * look_ahead / step.correction(1)),
        };
        decoupled(rule, lr, self.weight_decay)
    }
}
