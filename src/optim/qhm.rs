use super::*;

algorithm! {
    /// Quasi-hyperbolic momentum (QHM): updates are a weighted mean of the gradient and its running
    /// average.
    ///
    /// # Update rule
    ///
    /// ```text
    /// With g <- g + weight_decay p:
    /// m <- momentum m + (1 - momentum) g        from 0
    /// p <- p - lr ((1 - nu) g + nu m)
    /// ```
    ///
    /// This is `QHM` of pytorch_optimizer.
    ///
    /// # Hyper-parameters
    ///
    /// `nu` 0 is plain SGD; `nu` 1 uses the running average alone. As in SGD, a step scales with
    /// the gradient.
    ///
    /// # State
    ///
    /// `exp_avg`, in the shape of the parameter.
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
    /// use ndarray_optim::{Optimizer, Qhm};
    ///
    /// let mut optimizer = Optimizer::new(Qhm::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.984965).abs() < 1e-6 && (theta[1] + 1.9924825).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Qhm = "qhm" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rate of the running average of gradients.
        momentum: f64 [in 0..1] = 0.999;
        /// Weight of the running average in the update.
        nu: f64 [in 0..=1] = 0.7;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct QuasiHyperbolic<A> {
    m: RunningAverage<A>,
    g_coef: A,
    m_coef: A,
}

impl<A: Element> Rule for QuasiHyperbolic<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.m.update(m, g);
        (self.g_coef * g + self.m_coef * m, [m])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
}

impl Algorithm for Qhm {
    type Kernel<A: Element> = WithCoupled<QuasiHyperbolic<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let rule = QuasiHyperbolic {
            m: RunningAverage::new(self.momentum),
            g_coef: f(self.lr * (1.0 - self.nu)),
            m_coef: f(self.lr * self.nu),
        };
        coupled(rule, self.weight_decay)
    }
}
