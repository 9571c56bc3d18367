use super::*;

algorithm! {
    /// QHAdam, quasi-hyperbolic Adam: Adam with the current gradient mixed into both moments.
    ///
    /// # Update rule
    ///
    /// With `g <- g + weight_decay p`:
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// p <- p - lr ((1 - nu1) g + nu1 m') / (sqrt((1 - nu2) g^2 + nu2 v') + eps)
    /// ```
    ///
    /// `m` and `v` start at 0; `m'` and `v'` are bias-corrected. This is the form of the paper.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` acts as in Adam: about `lr` per step in the parameter's own unit. `nus` is
    /// `(nu1, nu2)`, the weights of the running averages; the rest is the weight of the current
    /// gradient. `nus = (1, 1)` is Adam, `nus = (0, 1)` is RMSProp with bias correction. As the
    /// current gradient enters directly, the first decay rate can be higher than in Adam.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// J. Ma, D. Yarats, "Quasi-hyperbolic momentum and Adam for deep learning",
    /// [arXiv:1810.06801](https://arxiv.org/abs/1810.06801).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, QHAdam};
    ///
    /// let mut optimizer = Optimizer::new(QHAdam::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    QHAdam = "qhadam" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.995, 0.999);
        /// Weights of the running averages (nu1, nu2).
        nus: (f64, f64) [in 0..=1] = (0.7, 1.0);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// The rule of QHAdam, with the bias corrections and the weights folded into four factors.
#[derive(Clone, Copy, Debug)]
pub struct QuasiHyperbolic<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    of_g: A,
    of_m: A,
    of_square: A,
    of_v: A,
    eps: A,
}

impl<A: Element> Rule for QuasiHyperbolic<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let v = self.v.update(v, g);
        let root = ((self.of_square * g) * g + self.of_v * v).sqrt();
        (
            (self.of_g * g + self.of_m * m).over(root + self.eps),
            [m, v],
        )
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

impl Algorithm for QHAdam {
    type Kernel<A: Element> = WithCoupled<QuasiHyperbolic<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let rule = QuasiHyperbolic {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            of_g: f(self.lr * (1.0 - self.nus.0)),
            of_m: f(self.lr * self.nus.0 / step.correction(0)),
            of_square: f(1.0 - self.nus.1),
            of_v: f(self.nus.1 / step.correction(1)),
            eps: f(self.eps),
        };
        coupled(rule, self.weight_decay)
    }
}
