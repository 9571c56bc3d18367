use super::*;

hyper_parameters! {
    /// The gradient divided by the root mean square of past gradients and multiplied by that of past steps: steps have the
    /// units of the parameter, and `lr` can stay 1. Starts slowly, since steps grow from eps.
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, and then g <- g + weight_decay p:
    /// v <- rho v + (1 - rho) g^2                     from v = 0
    /// d = sqrt(D + eps) / sqrt(v + eps) g            with the old D
    /// D <- rho D + (1 - rho) d^2                     from D = 0
    /// p <- p - lr d
    /// ```
    ///
    /// This is `torch.optim.Adadelta`, `optax.adadelta` and `keras.optimizers.Adadelta`, with other defaults in keras.
    /// Source: M. D. Zeiler, arXiv:1212.5701. State: `square_avg`, `acc_delta`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adadelta, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adadelta::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.996838).abs() < 1e-5 && (theta[1] + 1.996838).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "adadelta" Adadelta {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Decay rate of the running averages, in [0, 1).
        rho: f64 = 0.9,
        /// Added to both running averages under the root, >= 0.
        eps: f64 = 1e-6,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl Adadelta {
    /// `torch.optim.Adadelta`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adadelta`: the defaults.
    pub fn optax() -> Self {
        Self::default()
    }

    /// `keras.optimizers.Adadelta`.
    pub fn keras() -> Self {
        Adadelta { lr: 1e-3, rho: 0.95, eps: 1e-7, ..Self::default() }
    }

    /// The values that the paper's experiments settle on.
    pub fn paper() -> Self {
        Adadelta { rho: 0.95, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Ratio<A> {
    average: Average<A>,
    eps: A,
    lr: A,
}

impl<A: Element> Rule for Ratio<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["square_avg", "acc_delta"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [v, acc]: [A; 2]) -> (A, [A; 2]) {
        let v = self.average.step(v, g * g);
        let d = (acc + self.eps).sqrt() * g.over((v + self.eps).sqrt());
        let acc = self.average.step(acc, d * d);
        (self.lr * d, [v, acc])
    }
}

impl Algorithm for Adadelta {
    type Kernel<A: Element> = WithCoupled<Ratio<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("rho", self.rho)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let rule = Ratio { average: Average::new(self.rho), eps: f(self.eps), lr: f(self.lr) };
        coupled(rule, self.weight_decay)
    }
}
