use super::*;

algorithm! {
    /// Stochastic gradient descent, optionally with momentum.
    ///
    /// # Update rule
    ///
    /// With g the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// momentum = 0:   p <- p - lr g                                buf stays as it is
    /// else:           buf <- g                                     at the first such step
    ///                 buf <- momentum buf + (1 - dampening) g      afterwards
    ///                 p   <- p - lr buf
    ///      nesterov:  p   <- p - lr (g + momentum buf)
    /// lr_in_buffer:   lr g in place of g, and 1 in place of lr
    /// ```
    ///
    /// This is `torch.optim.SGD` and `optax.sgd`. `lr_in_buffer` is `keras.optimizers.SGD`: the
    /// same while `lr` is constant, but a new `lr` then acts on new gradients only.
    /// [`Momentum`](crate::Momentum) uses an exponential running average instead.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` multiplies the gradient, so it depends on the scale of the objective. Without
    /// dampening, momentum makes steps along a steady gradient up to 1 / (1 - momentum) times as
    /// large: lower `lr` accordingly. The presets differ in `lr` and `lr_in_buffer`.
    ///
    /// # State
    ///
    /// None, or from the first step with momentum on `momentum_buffer`, in the shape of the
    /// parameter, and as a scalar the number of steps before.
    ///
    /// # Reference
    ///
    /// Nesterov momentum: I. Sutskever et al., "On the importance of initialization and momentum in
    /// deep learning", ICML 2013.
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Sgd};
    ///
    /// let sgd = Sgd { lr: 0.1, momentum: 0.9, nesterov: true, ..Default::default() };
    /// let mut optimizer = Optimizer::new(sgd);
    /// let mut theta = array![1.0, -2.0];
    /// optimizer.update(&mut theta, &array![1.0, 0.0])?;
    /// assert_eq!(theta, array![1.0 - 0.1 * 1.9, -2.0]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Sgd = "sgd" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Momentum factor.
        momentum: f64 [in 0..=1] = 0.0;
        /// Dampening of momentum: gradients after the first enter the buffer times 1 - dampening.
        dampening: f64 [in 0..=1] = 0.0;
        /// Nesterov momentum; requires `dampening = 0`.
        nesterov: bool = false;
        /// Accumulates `lr g` instead of g in the buffer, as keras does.
        lr_in_buffer: bool = false;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.SGD`: the defaults.
        torch {}
        /// `optax.sgd`: the defaults.
        optax {}
        /// `keras.optimizers.SGD`.
        keras { lr: 1e-2, lr_in_buffer: true }
    }
    check(self) {
        if self.nesterov && self.dampening != 0.0 {
            let expected = "false, or dampening = 0";
            return Err(self.wrong("nesterov", self.nesterov, expected));
        }
        Ok(())
    }
}

/// Plain gradient descent.
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

/// Momentum without look-ahead.
#[derive(Clone, Copy, Debug)]
pub struct HeavyBall<A> {
    lr: A,
    momentum: A,
    /// Factor on gradients that enter the buffer.
    gain: A,
}

impl<A: Element> Rule for HeavyBall<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["momentum_buffer"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [buf]: [A; 1]) -> (A, [A; 1]) {
        let buf = self.momentum * buf + self.gain * g;
        (self.lr * buf, [buf])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
}

impl Algorithm for Sgd {
    type Kernel<A: Element> = Either<
        WithCoupled<Descent<A>>,
        Either<WithCoupled<HeavyBall<A>>, WithCoupled<With<Descent<A>, Trace<A, true>>>>,
    >;
    const DEMANDS: Demands = Demands::NONE.row_wise().switched(&["momentum_buffer"]);

    /// The number of steps before the first with momentum.
    #[inline(always)]
    fn update_scalars(&self, step: &StepContext, _sums: &Sums) -> Scalars {
        let Scalars([before, ..]) = step.scalars;
        let t = step.t as f64;
        let still_before = self.momentum == 0.0 && before + 1.0 == t;
        Scalars::new([if still_before { t } else { before }])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let decay = self.weight_decay;
        if self.momentum == 0.0 {
            return Either::Left(coupled(Descent { lr: f(self.lr) }, decay));
        }
        let (inside, outside) = if self.lr_in_buffer {
            (self.lr, 1.0)
        } else {
            (1.0, self.lr)
        };
        let (momentum, lr) = (f(self.momentum), f(outside));
        if self.nesterov {
            let rule = Descent { lr: f(inside) };
            return Either::Right(Either::Right(coupled(
                rule.with(Trace { momentum, lr }),
                decay,
            )));
        }
        // The buffer starts at 0, so only dampening needs an exception at its first step.
        let gain = if step.t as f64 == step.scalars[0] + 1.0 {
            1.0
        } else {
            1.0 - self.dampening
        };
        let rule = HeavyBall {
            lr,
            momentum,
            gain: f(inside * gain),
        };
        Either::Right(Either::Left(coupled(rule, decay)))
    }
}
