use super::*;

hyper_parameters! {
    /// Follow the regularised leader: p is the minimiser of all linearised losses so far plus L1 and L2 penalties. For
    /// sparse models: elements become exactly 0.
    ///
    /// ```text
    /// n2 = n + g^2,  z <- z + g - (n2^-lr_power - n^-lr_power) / lr p,  n <- n2
    ///                                                from z = 0, n = initial_accumulator_value
    /// p <- 0 where |z| <= lambda_1
    ///      else (sign(z) lambda_1 - z) / ((beta + sqrt(n)) / lr + lambda_2)
    /// ```
    ///
    /// This is pytorch_optimizer's FTRL, with sqrt(n) in the last line whatever lr_power is; at -0.5 it is also
    /// `keras.optimizers.Ftrl`, with twice keras' L2 strength as `lambda_2`. The initial p only matters through z.
    /// Source: H. B. McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013. State: `z`, `n`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Ftrl, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Ftrl::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "ftrl" Ftrl {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Exponent of the learning-rate decay, <= 0.
        lr_power: f64 = -0.5,
        /// Added to the root of n, >= 0.
        beta: f64 = 0.0,
        /// Strength of the L1 penalty, >= 0.
        lambda_1: f64 = 0.0,
        /// Strength of the L2 penalty, >= 0.
        lambda_2: f64 = 0.0,
        /// Initial value of n, >= 0.
        initial_accumulator_value: f64 = 0.0,
    }
}

impl Ftrl {
    /// `keras.optimizers.Ftrl`.
    pub fn keras() -> Self {
        Ftrl { initial_accumulator_value: 0.1, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Leader<A> {
    one_over_lr: A,
    power: A,
    beta: A,
    lambda_1: A,
    lambda_2: A,
    is_root: bool,
    initial: A,
}

impl<A: Element> Rule for Leader<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["z", "n"];
    const COST: u64 = 8;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [z, n]: [A; 2]) -> (A, [A; 2]) {
        let power = |n: A| if self.is_root { n.sqrt() } else { n.powf(self.power) };
        let new = n + g * g;
        let z = z + g - (power(new) - power(n)) * self.one_over_lr * p;
        let next = (z.sign() * self.lambda_1 - z).over((self.beta + new.sqrt()) * self.one_over_lr + self.lambda_2);
        let next = if z.abs() <= self.lambda_1 { A::ZERO } else { next };
        (p - next, [z, new])
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [A::ZERO, self.initial]
    }
}

impl Algorithm for Ftrl {
    type Kernel<A: Element> = Leader<A>;

    fn validate(&self) -> Result<(), Error> {
        check::that(self.lr > 0.0 && self.lr.is_finite(), "lr", self.lr, "a finite number > 0")?;
        check::that(self.lr_power <= 0.0 && self.lr_power.is_finite(), "lr_power", self.lr_power, "a finite number <= 0")?;
        check::non_negative("beta", self.beta)?;
        check::non_negative("lambda_1", self.lambda_1)?;
        check::non_negative("lambda_2", self.lambda_2)?;
        check::non_negative("initial_accumulator_value", self.initial_accumulator_value)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        Leader {
            one_over_lr: f(1.0 / self.lr),
            power: f(-self.lr_power),
            beta: f(self.beta),
            lambda_1: f(self.lambda_1),
            lambda_2: f(self.lambda_2),
            is_root: self.lr_power == -0.5,
            initial: f(self.initial_accumulator_value),
        }
    }
}
