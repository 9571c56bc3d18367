//! What goes around any optimizer: clipping, decay, averages of the parameters, lookahead, constraints, noise, ...
//!
//! A [`Wrap`] is put around the hyper-parameters of an optimizer by [`Compose`]; the result is the hyper-parameters of an
//! optimizer again, so wrappers nest, and groups have their own. What works on one element at a time becomes part of the one
//! sweep over memory; nothing is computed twice and no copy of a gradient is made:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{AdamWConfig, Compose, Fused, Optimizer};
//!
//! let config = AdamWConfig { lr: 1e-2, ..Default::default() }.clip_by_global_norm(1.0).ema(0.999);
//! let mut optimizer = Fused::with(config);
//! let mut theta = array![1.0, -2.0];
//! optimizer.update(&mut theta, &array![30.0, -40.0])?;
//! assert_eq!(optimizer.grad_norm(), Some(50.0));
//! let average = optimizer.evaluation("variable", theta.view().into_dyn()); // what to use the model with
//! assert_eq!(average, theta.into_dyn()); // after one step the average is the parameter
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! Gradients pass the wrappers from the last one that was added to the first; norms for clipping are those of the gradients as
//! they were lent. New parameters pass them in the other direction.
//!
//! A run described by a file says the same with [`OptimizerConfig::Composed`]: see
//! [`AnyWrap`].

mod accumulate;
mod average;
mod clip;
mod composed;
mod evaluating;
mod gradient;
mod lookahead;
mod project;
mod sam;
mod watch;

pub use accumulate::Accumulate;
pub use average::{Averaged, Ema, Swa};
pub use clip::{AdaptiveClip, Clamp, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm, ClipByValue, Clipping, Norm};
pub use composed::{AnyWrap, Composed, Paged};
pub use evaluating::Evaluating;
pub use gradient::{
    Cautious, Centralize, Decay, Filter, Grokfast, Noise, Scale, ScaleGradient, SignOfGradient, Signs, WeightDecay,
};
pub use lookahead::{Lookahead, Synchronize};
pub use project::{Bound, Bounds, L1, Shrink, l2_ball, non_negative, simplex};
pub use sam::{Ascended, Sam};
pub use watch::{Watch, Watching};

use crate::{
    Config, Error, Factor, Fields, HyperParameters, Lane, Now, OptimizerConfig, Scalars, Whole,
    kernel::{Element, Kernel, MAX_TERMS},
};
use std::fmt;

/// Hyper-parameters of something that goes around an optimizer.
pub trait Wrap: Fields + Clone + PartialEq + Default + fmt::Debug + Send + Sync + 'static {
    /// The kernel `K` with this around it.
    type Kernel<A: Element, K: Kernel<A>>: Kernel<A>;

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    fn validate(&self) -> Result<(), Error>;

    /// Puts the wrapper of this step around a kernel whose learning rate is `lr`.
    fn around<A: Element, K: Kernel<A>>(&self, now: &Now, lr: f64, kernel: K) -> Self::Kernel<A, K>;

    /// Clipping of gradients by their norm.
    fn clipping(&self) -> Option<Clipping> {
        None
    }

    /// Whether steps are watched.
    const WATCH: bool = false;

    /// Whether [`Wrap::direct`] does something.
    const DIRECTED: bool = false;

    /// Changes the gradient of an array as a whole, before the optimizer sees it.
    fn direct<A: Element>(&self, _now: &Now, _whole: &mut Whole<'_, A>) {}

    /// As [`Config::evaluate`], from the point that the inner optimizer evaluates at.
    fn evaluate<A: Element>(&self, p: A, _state: &Lane<'_, A>) -> A {
        p
    }
}

/// The hyper-parameters of an optimizer with a wrapper around it.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Wrapped<C, W> {
    /// Those of the optimizer.
    pub inner: C,
    /// Those of the wrapper.
    pub wrap: W,
}

/// Those of the optimizer first.
impl<C: Config, W: Wrap> Fields for Wrapped<C, W> {
    fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.inner.field_mut(name).or_else(|| self.wrap.field_mut(name))
    }
}

impl<C: Config, W: Wrap> HyperParameters for Wrapped<C, W> {
    fn lr(&self) -> f64 {
        self.inner.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.inner.set_lr(lr);
    }
}

impl<C: Config, W: Wrap> Config for Wrapped<C, W> {
    type Kernel<A: Element> = W::Kernel<A, C::Kernel<A>>;
    const GLOBAL: bool = C::GLOBAL;
    const LOSS: bool = C::LOSS;

    fn validate(&self) -> Result<(), Error> {
        self.inner.validate()?;
        self.wrap.validate()?;
        clip::one(self.inner.clipping(), self.wrap.clipping()).map(|_| ())
    }

    fn betas(&self) -> [f64; 3] {
        self.inner.betas()
    }

    fn scalars(&self) -> Scalars {
        self.inner.scalars()
    }

    #[inline(always)]
    fn absorb(&self, now: &Now, sums: &[f64; MAX_TERMS]) -> Scalars {
        self.inner.absorb(now, sums)
    }

    fn maximize(&self) -> bool {
        self.inner.maximize()
    }

    fn clipping(&self) -> Option<Clipping> {
        self.wrap.clipping().or(self.inner.clipping())
    }

    fn is_watched(&self) -> bool {
        W::WATCH || self.inner.is_watched()
    }

    fn is_directed(&self) -> bool {
        W::DIRECTED || self.inner.is_directed()
    }

    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        self.inner.factors(shape)
    }

    fn direct<A: Element>(&self, now: &Now, mut whole: Whole<'_, A>) -> Scalars {
        self.wrap.direct(now, &mut whole);
        self.inner.direct(now, whole)
    }

    fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
        self.wrap.evaluate(self.inner.evaluate(p, state), state)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        self.wrap.around(now, self.inner.lr(), self.inner.kernel(now))
    }

    fn describe(&self) -> Option<OptimizerConfig> {
        let inner = self.inner.describe()?;
        let (base, mut wrap) = inner.flatten();
        wrap.push(AnyWrap::of(&self.wrap)?);
        Some(OptimizerConfig::composed(base, wrap))
    }

    fn restore(&self, config: &OptimizerConfig) -> Option<Self> {
        let (base, mut all) = config.flatten();
        let wrap = all.pop()?.downcast::<W>()?.clone();
        Some(Wrapped { inner: self.inner.restore(&OptimizerConfig::composed(base, all))?, wrap })
    }

    fn adopt(&self, config: &OptimizerConfig) -> Option<Self> {
        Some(Wrapped { inner: self.inner.adopt(config)?, wrap: self.wrap.clone() })
    }
}

/// Puts wrappers around the hyper-parameters of an optimizer.
pub trait Compose: Config {
    /// Any wrapper, also one of your own.
    fn wrap<W: Wrap>(self, wrap: W) -> Wrapped<Self, W> {
        Wrapped { inner: self, wrap }
    }

    /// Keeps the 2-norm of the gradients of all parameters together at `max_norm` or below: see [`ClipByGlobalNorm`].
    fn clip_by_global_norm(self, max_norm: f64) -> Wrapped<Self, ClipByGlobalNorm> {
        self.wrap(ClipByGlobalNorm { max_norm, ..Default::default() })
    }

    /// Keeps each element of a gradient within `max_value` of 0: see [`ClipByValue`].
    fn clip_by_value(self, max_value: f64) -> Wrapped<Self, ClipByValue> {
        self.wrap(ClipByValue { max_value })
    }

    /// Keeps an exponential average of the parameters: see [`Ema`].
    fn ema(self, decay: f64) -> Wrapped<Self, Ema> {
        self.wrap(Ema { decay })
    }

    /// Every `sync_period` steps goes back a part of the way: see [`Lookahead`].
    fn lookahead(self, sync_period: u64, slow_step_size: f64) -> Wrapped<Self, Lookahead> {
        self.wrap(Lookahead { sync_period, slow_step_size })
    }

    /// Decoupled weight decay, for optimizers that have none: see [`WeightDecay`].
    fn decoupled_weight_decay(self, weight_decay: f64) -> Wrapped<Self, WeightDecay> {
        self.wrap(WeightDecay { weight_decay, decoupled: true })
    }

    /// Gathers norms of gradients, updates and parameters in the step: see [`Watch`].
    fn watch(self) -> Wrapped<Self, Watch> {
        self.wrap(Watch {})
    }

    /// Keeps every element of the parameters between two bounds: see [`Bounds`].
    fn bounds(self, lower: f64, upper: f64) -> Wrapped<Self, Bounds> {
        self.wrap(Bounds { lower: Some(lower), upper: Some(upper) })
    }
}

impl<C: Config> Compose for C {}

/// A struct of a wrapper's hyper-parameters with their defaults.
macro_rules! wrap_config {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
        pub struct $name {
            $(
                $(#[$doc])*
                #[doc = concat!(" Default ", stringify!($default), ".")]
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default),* }
            }
        }

        crate::fields::fields!($name, $($field)*);
    };
}
use wrap_config;
