use super::*;

hyper_parameters! {
    /// Steps of size lr along the sign of a running average of gradients; half the state of Adam. The authors recommend a
    /// learning rate three to ten times smaller than AdamW's and a weight decay that much larger.
    ///
    /// ```text
    /// u = sign(beta1 m + (1 - beta1) g)       with the old m
    /// p <- p - lr (u + weight_decay p)
    /// m <- beta2 m + (1 - beta2) g            from m = 0
    /// ```
    ///
    /// This is `optax.lion` and `keras.optimizers.Lion`, each with another default.
    /// Source: X. Chen et al., arXiv:2302.06675. State: `exp_avg`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lion, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Lion::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert_eq!(theta, array![0.9, -1.9]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "lion" Lion {
        /// Learning rate, >= 0.
        lr: f64 = 1e-4,
        /// Weight of the running average in the update, and decay rate of the running average, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.99),
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

impl Lion {
    /// `optax.lion`.
    pub fn optax() -> Self {
        Lion { weight_decay: 1e-3, ..Self::default() }
    }

    /// `keras.optimizers.Lion`.
    pub fn keras() -> Self {
        Lion { lr: 1e-3, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct SignOfAverage<A> {
    look: Average<A>,
    m: Average<A>,
    lr: A,
}

impl<A: Element> Rule for SignOfAverage<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let u = self.look.mix(m, g).sign();
        let m = self.m.step(m, g);
        (self.lr * u, [m])
    }
}

impl Algorithm for Lion {
    type Kernel<A: Element> = WithDecoupled<SignOfAverage<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let rule = SignOfAverage { look: Average::new(self.betas.0), m: Average::new(self.betas.1), lr: f(self.lr) };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
