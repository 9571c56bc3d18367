use super::*;

in_catalogue! {
    /// RMSprop: the gradient divided by the root of a running average of its square.
    ///
    /// # Update rule
    ///
    /// With g the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// v <- alpha v + (1 - alpha) g^2                            from v = initial_scale
    /// centered:  a <- alpha a + (1 - alpha) g,  w = v - a^2     otherwise w = v
    ///
    /// u = g / (sqrt(w) + eps)                                   torch
    /// momentum = 0:  p <- p - lr u
    /// else:          buf <- momentum buf + u,  p <- p - lr buf
    ///     nesterov:  p <- p - lr (u + momentum buf)
    ///
    /// u = lr g / sqrt(w + eps)                                  eps_inside_sqrt: optax, keras
    /// momentum = 0:  p <- p - u
    /// else:          buf <- momentum buf + u,  p <- p - buf
    ///     nesterov:  p <- p - (u + momentum buf)
    /// ```
    ///
    /// This is `torch.optim.RMSprop` and, with `eps_inside_sqrt`, `optax.rmsprop` and
    /// `keras.optimizers.RMSprop`. The forms differ where gradients are small and where `lr`
    /// changes under momentum.
    ///
    /// # Hyper-parameters
    ///
    /// Without momentum a step is about `lr` in the parameter's own unit, but from `initial_scale`
    /// = 0 the first is `lr / sqrt(1 - alpha)`: there is no bias correction. `alpha` is 0.99 in
    /// torch and 0.9 in optax and keras. The presets also differ in `lr` and in the value and place
    /// of `eps`.
    ///
    /// # State
    ///
    /// `square_avg`, then `grad_avg` if centered, then `momentum_buffer` from the first step with
    /// momentum on, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// T. Tieleman, G. Hinton, "Lecture 6.5: rmsprop", Coursera 2012. Centered: A. Graves,
    /// "Generating Sequences With Recurrent Neural Networks",
    /// [arXiv:1308.0850](https://arxiv.org/abs/1308.0850).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, RmsProp};
    ///
    /// let mut optimizer = Optimizer::new(RmsProp::new(0.01));
    /// let mut theta = array![1.0, -2.0];
    /// optimizer.update(&mut theta, &array![1e-3, 1e3])?;
    /// // Gradients a million times apart make the same first step: lr / sqrt(1 - alpha).
    /// assert!((theta[0] - 0.9_f64).abs() < 1e-5 && (theta[1] + 2.1).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    #[derive(Copy)]
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize),
        serde(from = "Keys", into = "Keys")
    )]
    RmsProp = "rmsprop" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-2;
        /// Decay rate of the running averages. In files that set `eps_inside_sqrt`, it is 0.9 by
        /// default.
        alpha: f64 [in 0..1] = 0.99;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Adds `eps` under the root and `lr` inside the momentum buffer, as optax and keras do.
        eps_inside_sqrt: bool = false;
        /// Initial value of v.
        initial_scale: f64 [>= 0] = 0.0;
        /// Normalizes by the variance: subtracts the square of the running average of the gradient.
        centered: bool = false;
        /// Momentum factor; at 0 the momentum buffer stays as it is, or there is none.
        momentum: f64 [in 0..=1] = 0.0;
        /// Nesterov momentum.
        nesterov: bool = false;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.RMSprop`: the defaults.
        torch {}
        /// `optax.rmsprop`.
        optax { alpha: 0.9, eps_inside_sqrt: true }
        /// `keras.optimizers.RMSprop`.
        keras { lr: 1e-3, alpha: 0.9, eps: 1e-7, eps_inside_sqrt: true }
    }
}

/// The rule without centering.
#[derive(Clone, Copy, Debug)]
pub struct Rms<A> {
    average: AverageOfSquares<A>,
    initial_scale: A,
    /// One of the two is 0.
    eps_inside: A,
    eps_outside: A,
    scale: A,
}

impl<A: Element> Rms<A> {
    #[inline(always)]
    fn update(&self, g: A, w: A) -> A {
        self.scale * g.over((w + self.eps_inside).sqrt() + self.eps_outside)
    }
}

impl<A: Element> Rule for Rms<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["square_avg"];
    const COST: u64 = 4;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [v]: [A; 1]) -> (A, [A; 1]) {
        let v = self.average.update(v, g);
        (self.update(g, v), [v])
    }
    fn floors(&self) -> [A; 1] {
        [self.average.floor]
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 1] {
        [self.initial_scale]
    }
}

/// [`Rms`] with the running average of the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Centered<A> {
    rms: Rms<A>,
    mean: RunningAverage<A>,
}

impl<A: Element> Rule for Centered<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["square_avg", "grad_avg"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [v, a]: [A; 2]) -> (A, [A; 2]) {
        let (v, a) = (self.rms.average.update(v, g), self.mean.update(a, g));
        // Rounding can make the difference negative. In this order NaN propagates.
        let w = v - a * a;
        let w = if w < A::ZERO { A::ZERO } else { w };
        (self.rms.update(g, w), [v, a])
    }
    fn floors(&self) -> [A; 2] {
        [self.rms.average.floor, smallest()]
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [self.rms.initial_scale, A::ZERO]
    }
}

type WithTrace<R, const NESTEROV: bool> = WithCoupled<With<R, Trace<<R as Rule>::Elem, NESTEROV>>>;
type WithMomentum<R> = Either<WithCoupled<R>, Either<WithTrace<R, false>, WithTrace<R, true>>>;

impl RmsProp {
    #[inline(always)]
    fn with_momentum<R: Rule>(&self, rule: R) -> WithMomentum<R> {
        let decay = self.weight_decay;
        let lr = R::Elem::from_f64(if self.eps_inside_sqrt { 1.0 } else { self.lr });
        let momentum = R::Elem::from_f64(self.momentum);
        match (self.momentum == 0.0, self.nesterov) {
            (true, _) => Either::Left(coupled(rule, decay)),
            (_, false) => Either::Right(Either::Left(coupled(
                rule.with(Trace { momentum, lr }),
                decay,
            ))),
            (_, true) => Either::Right(Either::Right(coupled(
                rule.with(Trace { momentum, lr }),
                decay,
            ))),
        }
    }
}

impl Algorithm for RmsProp {
    type Kernel<A: Element> = Either<WithMomentum<Rms<A>>, WithMomentum<Centered<A>>>;
    const DEMANDS: Demands = Demands::NONE.switched(&["momentum_buffer"]);

    fn largest_gradient(&self, largest: f64) -> f64 {
        if self.centered {
            largest.sqrt()
        } else {
            largest_averaged(self.alpha, largest)
        }
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let (inside, outside) = if self.eps_inside_sqrt {
            (self.eps, 0.0)
        } else {
            (0.0, self.eps)
        };
        let lr_here = self.eps_inside_sqrt || self.momentum == 0.0;
        let rule = Rms {
            average: AverageOfSquares::new(self.alpha, inside.sqrt().max(outside)),
            initial_scale: f(self.initial_scale),
            eps_inside: f(inside),
            eps_outside: f(outside),
            scale: f(if lr_here { self.lr } else { 1.0 }),
        };
        if self.centered {
            Either::Right(self.with_momentum(Centered {
                rms: rule,
                mean: RunningAverage::new(self.alpha),
            }))
        } else {
            Either::Left(self.with_momentum(rule))
        }
    }
}

/// Declares the keys of a file, from `lr` and `alpha` to the others: only here does the default of
/// `alpha` depend on another key.
#[cfg(feature = "serde")]
macro_rules! keys {
    ($($other:ident: $type:ty),*) => {
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Keys {
            #[serde(with = "crate::config::field")]
            lr: f64,
            #[serde(with = "crate::config::field")]
            alpha: Option<f64>,
            $(
                #[serde(with = "crate::config::field")]
                $other: $type,
            )*
        }

        impl Default for Keys {
            fn default() -> Self {
                let RmsProp { lr, $($other,)* .. } = RmsProp::default();
                Keys { lr, alpha: None, $($other,)* }
            }
        }

        impl From<RmsProp> for Keys {
            fn from(RmsProp { lr, alpha, $($other),* }: RmsProp) -> Self {
                let alpha = Some(alpha);
                Keys { lr, alpha, $($other),* }
            }
        }

        impl From<Keys> for RmsProp {
            fn from(keys: Keys) -> Self {
                let default = if keys.eps_inside_sqrt { Self::optax() } else { Self::default() };
                let alpha = keys.alpha.unwrap_or(default.alpha);
                RmsProp { lr: keys.lr, alpha, $($other: keys.$other,)* }
            }
        }
    };
}

#[cfg(feature = "serde")]
keys! {
    eps: f64, eps_inside_sqrt: bool, initial_scale: f64, centered: bool, momentum: f64,
    nesterov: bool, weight_decay: f64, maximize: bool
}
