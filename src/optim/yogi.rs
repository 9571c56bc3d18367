use super::*;

hyper_parameters! {
    /// Adam with additive updates of the second moment: its change depends on g^2 alone, so that a run of small gradients
    /// cannot make the denominator collapse.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g                               from m = initial_accumulator_value
    /// v <- v - (1 - beta2) sign(v - g^2) g^2                     from v = initial_accumulator_value
    /// p <- p - lr m' / (sqrt(v') + eps)                          with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    ///                                                            without bias_correction m' = m, v' = v
    /// ```
    ///
    /// This is `optax.yogi`; the paper starts at 0, without bias correction. Source: M. Zaheer et al., "Adaptive Methods for
    /// Nonconvex Optimization", NeurIPS 2018. State: `exp_avg`, `exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Yogi};
    ///
    /// let mut optimizer = Optimizer::new(Yogi::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-2 && (theta[1] + 1.9).abs() < 1e-2);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "yogi" Yogi {
        /// Learning rate, >= 0.
        lr: f64 = 1e-2,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-3,
        /// Initial value of both running averages, >= 0.
        initial_accumulator_value: f64 = 1e-6,
        /// Corrects the bias of the averages: divides them by 1 - beta^t.
        bias_correction: bool = true,
    }
}

impl Yogi {
    /// `optax.yogi`: the defaults.
    pub fn optax() -> Self {
        Self::default()
    }

    /// Algorithm 2 of the paper.
    pub fn paper() -> Self {
        Yogi { initial_accumulator_value: 0.0, bias_correction: false, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Additive<A> {
    m: Average<A>,
    one_minus_beta2: A,
    eps: A,
    step_size: A,
    initial: A,
}

impl<A: Element> Rule for Additive<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let square = g * g;
        let m = self.m.step(m, g);
        let v = (v - self.one_minus_beta2 * ((v - square).sign() * square)).flush();
        (self.step_size * m.over(v.sqrt() + self.eps), [m, v])
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [self.initial; 2]
    }
}

impl Algorithm for Yogi {
    type Kernel<A: Element> = Additive<A>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("initial_accumulator_value", self.initial_accumulator_value)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let correction = |k| if self.bias_correction { now.correction(k) } else { 1.0 };
        let root = correction(1).sqrt();
        Additive {
            m: Average::new(self.betas.0),
            one_minus_beta2: f(1.0 - self.betas.1),
            eps: f(self.eps * root),
            step_size: f(self.lr * root / correction(0)),
            initial: f(self.initial_accumulator_value),
        }
    }
}
