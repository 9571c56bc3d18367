use super::*;

hyper_parameters! {
    /// Quasi-hyperbolic momentum: a weighted mean of the gradient and its running average.
    ///
    /// ```text
    /// With g <- g + weight_decay p:
    /// m <- momentum m + (1 - momentum) g        from 0
    /// p <- p - lr ((1 - nu) g + nu m)
    /// ```
    ///
    /// This is pytorch_optimizer's QHM.
    /// Source: J. Ma, D. Yarats, arXiv:1810.06801. State: `exp_avg`.
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
    "qhm" Qhm {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rate of the running average, in [0, 1).
        momentum: f64 = 0.999,
        /// Weight of the running average, in [0, 1].
        nu: f64 = 0.7,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Mixed<A> {
    m: Average<A>,
    of_g: A,
    of_m: A,
}

impl<A: Element> Rule for Mixed<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.m.step(m, g);
        (self.of_g * g + self.of_m * m, [m])
    }
}

impl Algorithm for Qhm {
    type Kernel<A: Element> = WithCoupled<Mixed<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("momentum", self.momentum)?;
        check::unit("nu", self.nu)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let rule = Mixed { m: Average::new(self.momentum), of_g: f(self.lr * (1.0 - self.nu)), of_m: f(self.lr * self.nu) };
        coupled(rule, self.weight_decay)
    }
}
