//! Wrappers around any algorithm: clipping, weight decay, averages of the parameters, lookahead, constraints, noise, ...
//!
//! [`Compose`] puts a [`Wrap`] around an algorithm; the result is an algorithm again, so wrappers nest, and the algorithm of each
//! group has its own. Element-wise wrappers become part of the one pass over memory:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{AdamW, Compose, Optimizer};
//!
//! let mut optimizer = Optimizer::new(AdamW::new(1e-2).clip_by_global_norm(1.0).ema(0.999));
//! let mut theta = array![1.0, -2.0];
//! optimizer.update(&mut theta, &array![30.0, -40.0])?;
//! assert_eq!(optimizer.grad_norm(), Some(50.0));
//! let average = optimizer.evaluation("variable", theta.view().into_dyn());
//! assert_eq!(average, theta.into_dyn()); // after one step the average is the parameter
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! Gradients pass the wrappers from the outermost to the innermost, updates and new parameters in the other direction. Norms for
//! clipping are those of the gradients as they were lent. To clip the gradients of all groups by their global norm, set the
//! field `clip` of the [`Optimizer`](crate::Optimizer).
//!
//! In a file the same is an [`AnyAlgorithm::Composed`](crate::AnyAlgorithm::Composed) of [`AnyWrap`](crate::AnyWrap)s.

mod average;
mod clip;
mod gradient;
mod lookahead;
mod project;
mod watch;

pub use average::{Averaged, Ema, Swa};
pub(crate) use clip::one;
pub use clip::{AdaptiveClip, Clamp, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm, ClipByValue};
pub use gradient::{
    Cautious, Centralize, Decay, Filter, Grokfast, Noise, Scale, ScaleGradient, SignOfGradient, Signs, WeightDecay,
};
pub use lookahead::{Lookahead, Synchronize};
pub use project::{Bound, Bounds, L1, Shrink, l2_ball, non_negative, simplex};
pub use watch::Watch;

pub use crate::{algorithm::Clipping, kernel::reduce::Norm};

use crate::{
    algorithm::{Algorithm, Factor, Fields, HyperParameters, Lane, Now, Part, Scalars, Whole},
    array::Element,
    error::Error,
    kernel::{Arrays, Kernel, MAX_TERMS},
};
use std::{
    any::{Any, TypeId},
    fmt,
};

/// A wrapper with its hyper-parameters.
pub trait Wrap: Fields + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The name of the wrapper, in messages and files.
    const NAME: &'static str;

    /// The kernel `K` with this around it.
    type Kernel<A: Element, K: Kernel<A>>: Kernel<A>;

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

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

    /// Changes the gradient of an array as a whole, before the algorithm sees it.
    fn direct<A: Element>(&self, _now: &Now, _whole: &mut Whole<'_, A>) {}

    /// As [`Algorithm::evaluate`], from the point that the inner algorithm evaluates at.
    fn evaluate<A: Element>(&self, p: A, _state: &Lane<'_, A>) -> A {
        p
    }
}

/// An algorithm with a wrapper around it.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Wrapped<C, W> {
    /// The algorithm.
    pub inner: C,
    /// The wrapper.
    pub wrap: W,
}

/// Those of the algorithm first.
impl<C: Algorithm, W: Wrap> Fields for Wrapped<C, W> {
    fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.inner.field_mut(name).or_else(|| self.wrap.field_mut(name))
    }
}

impl<C: Algorithm, W: Wrap> HyperParameters for Wrapped<C, W> {
    const NAME: &'static str = C::NAME;

    fn lr(&self) -> f64 {
        self.inner.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.inner.set_lr(lr);
    }
}

impl<C: Algorithm, W: Wrap> Algorithm for Wrapped<C, W> {
    type Kernel<A: Element> = W::Kernel<A, C::Kernel<A>>;
    const GLOBAL: bool = C::GLOBAL;
    const LOSS: bool = C::LOSS;
    const CURVATURE: bool = C::CURVATURE;

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

    fn estimate<A: Element>(&self, estimate: &[A], state: Arrays<'_, A>) {
        self.inner.estimate(estimate, state);
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = self.inner.parts();
        parts.push(Part { name: W::NAME, value: &self.wrap });
        parts
    }

    fn rebuild(&self, parts: &[Part<'_>]) -> Option<Self> {
        let (wrap, inner) = parts.split_last()?;
        Some(Wrapped { wrap: wrap.value.downcast_ref::<W>()?.clone(), inner: self.inner.rebuild(inner)? })
    }

    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any> {
        if of == TypeId::of::<Self>() {
            Some(self)
        } else if of == TypeId::of::<W>() {
            Some(&mut self.wrap)
        } else {
            self.inner.part_mut(of)
        }
    }
}

/// Puts wrappers around an algorithm.
pub trait Compose: Algorithm {
    /// Any wrapper, also one defined outside of the crate.
    fn wrap<W: Wrap>(self, wrap: W) -> Wrapped<Self, W> {
        Wrapped { inner: self, wrap }
    }

    /// Clips gradients by their global 2-norm: see [`ClipByGlobalNorm`].
    fn clip_by_global_norm(self, max_norm: f64) -> Wrapped<Self, ClipByGlobalNorm> {
        self.wrap(ClipByGlobalNorm { max_norm, ..Default::default() })
    }

    /// Clips gradients element-wise to +-`max_value`: see [`ClipByValue`].
    fn clip_by_value(self, max_value: f64) -> Wrapped<Self, ClipByValue> {
        self.wrap(ClipByValue { max_value })
    }

    /// Keeps an exponential moving average of the parameters: see [`Ema`].
    fn ema(self, decay: f64) -> Wrapped<Self, Ema> {
        self.wrap(Ema { decay })
    }

    /// Synchronizes with slow parameters every `sync_period` steps: see [`Lookahead`].
    fn lookahead(self, sync_period: u64, slow_step_size: f64) -> Wrapped<Self, Lookahead> {
        self.wrap(Lookahead { sync_period, slow_step_size })
    }

    /// Decoupled weight decay, for algorithms that have none: see [`WeightDecay`].
    fn decoupled_weight_decay(self, weight_decay: f64) -> Wrapped<Self, WeightDecay> {
        self.wrap(WeightDecay { weight_decay, decoupled: true })
    }

    /// Gathers norms of gradients, updates and parameters in the step: see [`Watch`].
    fn watch(self) -> Wrapped<Self, Watch> {
        self.wrap(Watch {})
    }

    /// Keeps the parameters between two bounds, element-wise: see [`Bounds`].
    fn bounds(self, lower: f64, upper: f64) -> Wrapped<Self, Bounds> {
        self.wrap(Bounds { lower: Some(lower), upper: Some(upper) })
    }
}

impl<C: Algorithm> Compose for C {}

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

        crate::algorithm::fields!($name, $($field)*);
    };
}
use wrap_config;
