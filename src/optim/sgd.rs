use super::*;

hyper_parameters! {
    /// Stochastic gradient descent, optionally with momentum.
    ///
    /// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// momentum = 0:   p <- p - lr g
    /// else:           buf <- g                                     at the first step
    ///                 buf <- momentum buf + (1 - dampening) g      afterwards
    ///                 p   <- p - lr buf
    ///      nesterov:  p   <- p - lr (g + momentum buf)
    /// lr_in_buffer:   lr g in place of g, and 1 in place of lr
    /// ```
    ///
    /// This is `torch.optim.SGD` and `optax.sgd`. `lr_in_buffer` is `keras.optimizers.SGD`: the same while `lr` is constant,
    /// but a new `lr` then acts on new gradients only. [`Momentum`](crate::Momentum) keeps an exponential moving average
    /// instead. Nesterov: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    /// State: none, or `momentum_buffer`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Sgd};
    ///
    /// let mut sgd = Optimizer::new(Sgd { lr: 0.1, momentum: 0.9, nesterov: true, ..Default::default() });
    /// let mut theta = array![1.0, -2.0];
    /// sgd.update(&mut theta, &array![1.0, 0.0])?;
    /// assert_eq!(theta, array![1.0 - 0.1 * 1.9, -2.0]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "sgd" Sgd {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Momentum factor, in [0, 1].
        momentum: f64 = 0.0,
        /// Dampening of momentum, in [0, 1]: gradients enter the buffer times 1 - dampening, but for the first.
        dampening: f64 = 0.0,
        /// Nesterov momentum; needs momentum > 0 and dampening = 0.
        nesterov: bool = false,
        /// Accumulates lr g instead of g in the buffer, as keras does.
        lr_in_buffer: bool = false,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl Sgd {
    /// `torch.optim.SGD`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.sgd`: the defaults.
    pub fn optax() -> Self {
        Self::default()
    }

    /// `keras.optimizers.SGD`.
    pub fn keras() -> Self {
        Sgd { lr: 1e-2, lr_in_buffer: true, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Descent<A> {
    pub lr: A,
}

impl<A: Element> Rule for Descent<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 1;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.lr * g, [])
    }
}

#[derive(Clone, Copy, Debug)]
pub struct HeavyBall<A> {
    lr: A,
    momentum: A,
    gain: A,
}

impl<A: Element> Rule for HeavyBall<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["momentum_buffer"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [buf]: [A; 1]) -> (A, [A; 1]) {
        let buf = (self.momentum * buf + self.gain * g).flush();
        (self.lr * buf, [buf])
    }
}

impl Algorithm for Sgd {
    type Kernel<A: Element> =
        Either<WithCoupled<Descent<A>>, Either<WithCoupled<HeavyBall<A>>, WithCoupled<With<Descent<A>, Trace<A, true>>>>>;
    const ROW_WISE: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::unit("momentum", self.momentum)?;
        check::unit("dampening", self.dampening)?;
        check::nesterov(self.nesterov, self.momentum, self.dampening)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let decay = self.weight_decay;
        if self.momentum == 0.0 {
            return Either::X(coupled(Descent { lr: f(self.lr) }, decay));
        }
        let (inside, outside) = if self.lr_in_buffer { (self.lr, 1.0) } else { (1.0, self.lr) };
        let (momentum, lr) = (f(self.momentum), f(outside));
        if self.nesterov {
            let rule = Descent { lr: f(inside) };
            return Either::Y(Either::Y(coupled(rule.with(Trace { momentum, lr }), decay)));
        }
        // The buffer is zero before the first step, which leaves no trace in it and has no dampening.
        let gain = if now.t == 1 { 1.0 } else { 1.0 - self.dampening };
        let rule = HeavyBall { lr, momentum, gain: f(inside * gain) };
        Either::Y(Either::X(coupled(rule, decay)))
    }
}
