use crate::{
    Config, Error, Fused,
    error::check,
    fused::bias_correction,
    kernel::{Element, Rule, WithCoupled, coupled},
};

/// Gradient descent along an exponential average of the gradients: smooths noise, and keeps the step size of plain descent
/// whatever `beta` is.
///
/// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
///
/// ```text
/// m <- beta m + (1 - beta) g       from m = 0
/// p <- p - lr m                    or lr m / (1 - beta^t) with bias_correction
/// ```
///
/// This is `optax.chain(ema(beta, debias), scale(-lr))`. torch's momentum, [`Sgd`](crate::Sgd) here, adds the whole gradient
/// to its buffer, so its steps are up to 1 / (1 - beta) times longer at equal `lr`. Source: B. T. Polyak, "Some methods of
/// speeding up the convergence of iteration methods", 1964. State: `exp_avg`.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Momentum, Optimizer};
///
/// let mut momentum = Momentum::new(0.1);
/// let mut theta = array![1.0, -2.0];
/// for _ in 0..500 {
///     let grad = 2.0 * &theta;                // of |theta|^2
///     momentum.update(&mut theta, &grad)?;
/// }
/// assert!(theta.iter().all(|x: &f64| x.abs() < 1e-10));
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
pub type Momentum<A> = Fused<MomentumConfig, A>;

/// Hyper-parameters of [`Momentum`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct MomentumConfig {
    /// Learning rate, >= 0. Default 1e-2.
    pub lr: f64,
    /// Share of the average that is kept, in [0, 1). Default 0.9.
    pub beta: f64,
    /// Divide by 1 - beta^t, so that the first steps are as long as later ones. Default false.
    pub bias_correction: bool,
    /// Coupled decay (L2), >= 0. Default 0.
    pub weight_decay: f64,
    /// Ascend instead of descend. Default false.
    pub maximize: bool,
}

impl Default for MomentumConfig {
    fn default() -> Self {
        MomentumConfig { lr: 1e-2, beta: 0.9, bias_correction: false, weight_decay: 0.0, maximize: false }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Average<A> {
    beta: A,
    one_minus_beta: A,
    step_size: A,
}

impl<A: Element> Rule for Average<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = (self.beta * m + self.one_minus_beta * g).flush();
        (self.step_size * m, [m])
    }
}

impl Config for MomentumConfig {
    type Kernel<A: Element> = WithCoupled<Average<A>>;
    /// ln(beta).
    type Ready = f64;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("beta", self.beta)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn ready(&self) -> f64 {
        self.beta.ln()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, &ln_beta: &f64, t: u64) -> Self::Kernel<A> {
        let f = A::of;
        let correction = if self.bias_correction { bias_correction(ln_beta, t) } else { 1.0 };
        let rule = Average { beta: f(self.beta), one_minus_beta: f(1.0 - self.beta), step_size: f(self.lr / correction) };
        coupled(rule, self.maximize, self.weight_decay)
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }
}
