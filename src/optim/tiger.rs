use super::*;

hyper_parameters! {
    /// Steps of size lr along the sign of a running average of gradients: Lion with a single beta.
    ///
    /// ```text
    /// m <- beta m + (1 - beta) g              from 0
    /// p <- p - lr (sign(m) + weight_decay p)    with the new m
    /// ```
    ///
    /// This is pytorch_optimizer's Tiger.
    /// Source: J. Su, "Tiger: A Tight-fisted Optimizer", 2023. State: `exp_avg`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Tiger};
    ///
    /// let mut optimizer = Optimizer::new(Tiger::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-2 && (theta[1] + 1.9).abs() < 1e-2);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "tiger" Tiger {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rate of the running average, in [0, 1).
        beta: f64 = 0.965,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.01,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct SignOfAverage<A> {
    m: Average<A>,
    lr: A,
}

impl<A: Element> SignOfAverage<A> {
    #[inline(always)]
    pub fn new(lr: f64, keep: f64) -> Self {
        SignOfAverage { m: Average::new(keep), lr: A::of(lr) }
    }
}

impl<A: Element> Rule for SignOfAverage<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.m.step(m, g);
        (self.lr * m.sign(), [m])
    }
}

impl Algorithm for Tiger {
    type Kernel<A: Element> = WithDecoupled<SignOfAverage<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("beta", self.beta)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let rule = SignOfAverage::new(self.lr, self.beta);
        decoupled(rule, self.lr, self.weight_decay)
    }
}
