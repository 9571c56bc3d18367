use super::{
    power::{ByPower, Power, by_power},
    *,
};

algorithm! {
    /// Follow the regularized leader: the parameter minimizes the sum of all linearized losses so
    /// far plus L1 and L2 penalties.
    ///
    /// For sparse models: with an L1 penalty elements become exactly 0.
    ///
    /// # Update rule
    ///
    /// ```text
    /// n2 = n + g^2,  z <- z + g - (n2^-lr_power - n^-lr_power) / lr p,  n <- n2
    ///                                                from z = 0, n = initial_accumulator_value
    /// p <- 0 where |z| <= lambda_1
    ///      else (sign(z) lambda_1 - z) / ((beta + sqrt(n)) / lr + lambda_2)
    /// ```
    ///
    /// This is pytorch_optimizer's `FTRL`, with sqrt(n) in the last line whatever `lr_power` is. At
    /// `lr_power` = -0.5 it is also `keras.optimizers.Ftrl`, with `lambda_2` twice the L2 strength
    /// of keras.
    ///
    /// # Hyper-parameters
    ///
    /// - `lr` over `beta + sqrt(n)` is the per-parameter learning rate. A step with `lr` = 0, such
    ///   as the first of a warm-up, changes neither the parameter nor the state.
    /// - z is in units of 1 / `lr`: where `lr` changes between steps, p follows in proportion, as
    ///   in both references. Prefer a constant `lr`, which n lowers anyway.
    /// - `lambda_1` and `lambda_2` apply to the sum of all losses so far, not to each step. A
    ///   larger `lambda_1` makes more elements 0.
    /// - The initial value of the parameter enters only through z.
    ///
    /// [`Ftrl::keras`] starts n at 0.1 in place of 0.
    ///
    /// # State
    ///
    /// `z` and `n`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// H. B. McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013.
    ///
    /// # Example
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
    Ftrl = "ftrl" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Exponent of the learning-rate decay.
        lr_power: f64 [<= 0] = -0.5;
        /// Added to the square root of n.
        beta: f64 [>= 0] = 0.0;
        /// Strength of the L1 penalty.
        lambda_1: f64 [>= 0] = 0.0;
        /// Strength of the L2 penalty.
        lambda_2: f64 [>= 0] = 0.0;
        /// Initial value of n.
        initial_accumulator_value: f64 [>= 0] = 0.0;
    }
    presets {
        /// `keras.optimizers.Ftrl`: `initial_accumulator_value` = 0.1.
        keras { initial_accumulator_value: 0.1 }
    }
}

/// The minimizer of the linearized losses and the penalties.
#[derive(Clone, Copy, Debug)]
pub struct RegularizedLeader<A, P> {
    one_over_lr: A,
    /// `-lr_power`.
    power: P,
    beta: A,
    lambda_1: A,
    lambda_2: A,
    /// Whether the learning rate is 0.
    is_still: bool,
    initial: A,
}

impl<A: Element, P: Power<A>> Rule for RegularizedLeader<A, P> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["z", "n"];
    const COST: u64 = 8;
    #[inline(always)]
    fn delta(&self, p: A, g: A, old: [A; 2]) -> (A, [A; 2]) {
        let [z, n] = old;
        // A finite sum: the difference of two infinite roots would be NaN for ever.
        let new = n + g * g;
        let new = if new > A::max_value() {
            A::max_value()
        } else {
            new
        };
        let z = z + g - (self.power.of(new) - self.power.of(n)) * self.one_over_lr * p;
        let next = (z.sign() * self.lambda_1 - z)
            .over((self.beta + new.sqrt()) * self.one_over_lr + self.lambda_2);
        let next = if z.abs() <= self.lambda_1 {
            A::ZERO
        } else {
            next
        };
        if self.is_still {
            (A::ZERO, old)
        } else {
            (p - next, [z, new])
        }
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [A::ZERO, self.initial]
    }
}

impl Algorithm for Ftrl {
    type Kernel<A: Element> = ByPower!(RegularizedLeader, A);

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        by_power!(-self.lr_power, power => RegularizedLeader {
            one_over_lr: f(1.0 / self.lr),
            power,
            beta: f(self.beta),
            lambda_1: f(self.lambda_1),
            lambda_2: f(self.lambda_2),
            is_still: self.lr == 0.0,
            initial: f(self.initial_accumulator_value),
        })
    }
}
