use super::*;

algorithm! {
    /// Steps of size `lr` along the sign of a running average of the gradient:
    /// [`Lion`](crate::Lion) with a single beta.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta m + (1 - beta) g              from 0
    /// p <- p - lr (sign(m) + weight_decay p)    with the new m
    /// ```
    ///
    /// This is pytorch_optimizer's `Tiger`.
    ///
    /// # Hyper-parameters
    ///
    /// Apart from weight decay, a step is `lr` in the parameter's own unit, or 0 where m is 0: the
    /// scale of the gradient does not matter. [`Signum`](crate::Signum) is the same algorithm with
    /// other names and defaults.
    ///
    /// # State
    ///
    /// `exp_avg`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// J. Su, "Tiger: A Tight-fisted Optimizer", 2023.
    ///
    /// # Example
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
    Tiger = "tiger" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rate of the running average.
        beta: f64 [in 0..1] = 0.965;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.01;
    }
}

/// A step along the sign of a running average of the gradient.
#[derive(Clone, Copy, Debug)]
pub struct SignOfAverage<A> {
    m: RunningAverage<A>,
    lr: A,
}

impl<A: Element> SignOfAverage<A> {
    #[inline(always)]
    pub fn new(lr: f64, beta: f64) -> Self {
        SignOfAverage {
            m: RunningAverage::new(beta),
            lr: A::from_f64(lr),
        }
    }
}

impl<A: Element> Rule for SignOfAverage<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.m.update(m, g);
        (self.lr * m.sign(), [m])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
}

impl Algorithm for Tiger {
    type Kernel<A: Element> = WithDecoupled<SignOfAverage<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let rule = SignOfAverage::new(self.lr, self.beta);
        decoupled(rule, self.lr, self.weight_decay)
    }
}
