use super::*;

hyper_parameters! {
    /// Quasi-hyperbolic Adam: the current gradient is mixed into both moments. Adam and RMSProp are special cases.
    ///
    /// ```text
    /// With g <- g + weight_decay p:
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// p <- p - lr ((1 - nu1) g + nu1 m') / (sqrt((1 - nu2) g^2 + nu2 v') + eps)     m' and v' bias-corrected
    /// ```
    ///
    /// The paper's formula.
    /// Source: J. Ma, D. Yarats, arXiv:1810.06801. State: `exp_avg`, `exp_avg_sq`.
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
    "qhadam" QHAdam {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.995, 0.999),
        /// Weights of the running averages (nu1, nu2), each in [0, 1].
        nus: (f64, f64) = (0.7, 1.0),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Mixed<A> {
    m: Average<A>,
    v: Average<A>,
    of_g: A,
    of_m: A,
    of_square: A,
    of_v: A,
    eps: A,
}

impl<A: Element> Rule for Mixed<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let square = g * g;
        let m = self.m.step(m, g);
        let v = self.v.step(v, square);
        let root = (self.of_square * square + self.of_v * v).sqrt();
        ((self.of_g * g + self.of_m * m).over(root + self.eps), [m, v])
    }
}

impl Algorithm for QHAdam {
    type Kernel<A: Element> = WithCoupled<Mixed<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::unit("nus[0]", self.nus.0)?;
        check::unit("nus[1]", self.nus.1)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let rule = Mixed {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            of_g: f(self.lr * (1.0 - self.nus.0)),
            of_m: f(self.lr * self.nus.0 / now.correction(0)),
            of_square: f(1.0 - self.nus.1),
            of_v: f(self.nus.1 / now.correction(1)),
            eps: f(self.eps),
        };
        coupled(rule, self.weight_decay)
    }
}
