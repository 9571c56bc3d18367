//! Wrappers for any algorithm: gradient clipping, weight decay, averages of the parameters,
//! lookahead, constraints, noise and more.
//!
//! A method of [`Compose`] wraps an algorithm in a [`Wrap`]. The result is an algorithm too, so
//! that wrappers nest. Each parameter group has its own algorithm and wrappers. Element-wise
//! wrappers are fused with the algorithm into one pass over memory:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{AdamW, Compose, Optimizer};
//!
//! let mut optimizer = Optimizer::new(AdamW::new(1e-2).clip_by_global_norm(1.0).ema(0.999));
//! let mut theta = array![1.0, -2.0];
//! optimizer.update(&mut theta, &array![30.0, -40.0])?;
//! assert_eq!(optimizer.grad_norm(), Some(50.0));
//! assert_eq!(optimizer.evaluate(&theta)?, theta); // after one step the average is the parameter
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! # Order
//!
//! Gradients pass through the wrappers from the outermost to the innermost and then to the
//! algorithm; updates and new parameters pass through them in reverse order. Each wrapper receives
//! the gradient as the wrappers outside of it return it, even if it needs a norm or whole arrays.
//! The same holds for norms and sums in the algorithm itself ([`Lamb`](crate::Lamb),
//! [`Muon`](crate::Muon), ...):
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{Compose, Optimizer, Sgd, wrap::ScaleGradient};
//!
//! let half = ScaleGradient { factor: 0.5 };
//! let grad = array![30.0, -40.0];
//!
//! // The raw gradient is clipped to norm 1, then scaled.
//! let mut theta = array![0.0, 0.0];
//! let clipped_first = Sgd::new(1.0).wrap(half.clone()).clip_by_global_norm(1.0);
//! Optimizer::new(clipped_first).update(&mut theta, &grad)?;
//! assert_eq!(theta, array![-0.3, 0.4]);
//!
//! // The scaled gradient, of norm 25, is clipped.
//! let mut theta = array![0.0, 0.0];
//! let scaled_first = Sgd::new(1.0).clip_by_global_norm(1.0).wrap(half);
//! Optimizer::new(scaled_first).update(&mut theta, &grad)?;
//! assert_eq!(theta, array![-0.6, 0.8]);
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! Three kinds of wrappers work on a copy of the gradient: those that transform whole arrays, those
//! outside of them, and gradient clipping inside of a wrapper that changes gradients. Everything
//! else is one pass over memory.
//!
//! To clip the gradients of all groups by their common global norm, set the field `clip` of the
//! [`Optimizer`](crate::Optimizer). It is applied before all wrappers.
//!
//! In configuration files the same chain is an
//! [`AnyAlgorithm::Composed`](crate::AnyAlgorithm::Composed) with a list of
//! [`AnyWrap`](crate::AnyWrap).
//!
//! The functions of the module project arrays onto constraint sets.

mod average;
mod clip;
mod gradient;
mod lookahead;
mod project;
mod watch;

pub use average::{Ema, EmaWarmup, Swa};
pub use clip::{AdaptiveClip, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm, ClipByValue};
pub use gradient::{
    Cautious, Centralize, Grokfast, Noise, ScaleGradient, SignOfGradient, WeightDecay,
};
pub use lookahead::Lookahead;
pub use project::{Bounds, KeepZeros, L1, l2_ball, non_negative, simplex};
pub use watch::Watch;

pub use crate::algorithm::Clipping;

use crate::{
    algorithm::{
        Algorithm, DecayRates, Demands, ElementState, ExtraArray, HyperParameters, Part, Scalars,
        Stage, StageKind, StepContext, WholeArray,
    },
    array::Element,
    error::Error,
    kernel::{Arrays, Kernel, NullRule, Sums},
};
use std::{
    any::{Any, TypeId},
    marker::PhantomData,
};

/// A wrapper: a struct of hyper-parameters, declared with
/// [`hyper_parameters!`](crate::hyper_parameters), that modifies an algorithm.
///
/// The [`Kernel`](Wrap::Kernel) determines the kind of a wrapper:
///
/// - element-wise: `K::With<W>` for a [`Wrapper`](crate::algorithm::Wrapper) `W`;
/// - transform of whole arrays: `K::With<Barrier>` and the method [`transform`](Wrap::transform);
/// - gradient clipping by a norm: `K::With<Barrier>` and the method [`clipping`](Wrap::clipping).
///
/// where `Barrier` is [`algorithm::Barrier`](crate::algorithm::Barrier).
///
/// ```
/// use ndarray_optim::{
///     algorithm::{Element, Hooks, Kernel, StepContext, Wrapper},
///     hyper_parameters,
///     wrap::Wrap,
/// };
///
/// hyper_parameters! {
///     /// Multiplies updates by a factor.
///     pub struct ScaleUpdate = "scale_update" {
///         /// The factor.
///         factor: f64 [finite] = 1.0;
///     }
/// }
///
/// #[derive(Clone, Copy)]
/// pub struct Factor<A>(A);
///
/// impl<A: Element> Wrapper<A> for Factor<A> {
///     type State = [A; 0];
///     fn hooks(&self) -> Hooks {
///         Hooks::UPDATE
///     }
///     #[inline(always)]
///     fn update(&self, _p: A, _g: A, delta: A, []: [A; 0]) -> (A, [A; 0]) {
///         (self.0 * delta, [])
///     }
/// }
///
/// impl Wrap for ScaleUpdate {
///     type Kernel<A: Element, K: Kernel<A>> = K::With<Factor<A>>;
///     #[inline(always)]
///     fn around<A: Element, K: Kernel<A>>(
///         &self,
///         _step: &StepContext,
///         _lr: f64,
///         kernel: K,
///     ) -> Self::Kernel<A, K> {
///         kernel.with(Factor(A::from_f64(self.factor)))
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait Wrap: HyperParameters {
    /// The kernel `K` in this wrapper.
    type Kernel<A: Element, K: Kernel<A>>: Kernel<A>;

    /// Wraps the kernel of this step; `lr` is the learning rate of the algorithm.
    fn around<A: Element, K: Kernel<A>>(
        &self,
        step: &StepContext,
        lr: f64,
        kernel: K,
    ) -> Self::Kernel<A, K>;

    /// Returns how gradients are clipped by a norm: not at all by default.
    fn clipping(&self) -> Option<Clipping> {
        None
    }

    /// Transforms the gradient of a whole array in place.
    fn transform<A: Element>(&self, step: &StepContext, array: &mut WholeArray<'_, A>) {}

    /// As [`Algorithm::evaluate`], where `p` is the point to evaluate the wrapped algorithm at.
    fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        p
    }

    /// Whether rows of an array can be updated separately
    /// ([`Optimizer::update_rows`](crate::Optimizer::update_rows)) in this wrapper: what it does to
    /// an element depends on that element alone, and other elements can wait.
    const ROW_WISE: bool = false;

    /// Whether the statistics of each step are gathered.
    #[doc(hidden)]
    const WATCH: bool = false;
}

/// The kernel of a wrapper alone, around a rule that does nothing.
pub(crate) type Alone<W, A> = <W as Wrap>::Kernel<A, NullRule<A>>;

/// Returns the kernel of a wrapper alone in this step.
pub(crate) fn alone<W: Wrap, A: Element>(wrap: &W, step: &StepContext, lr: f64) -> Alone<W, A> {
    wrap.around(step, lr, NullRule(PhantomData))
}

/// Returns a wrapper as a stage; `first` is the index of its first state array.
pub(crate) fn stage<W: Wrap, A: Element>(wrap: &W, alone: &Alone<W, A>, first: usize) -> Stage {
    let kind = match (Alone::<W, A>::BARRIER, wrap.clipping()) {
        (false, _) => StageKind::Elements(alone.hooks().gradient),
        (true, Some(clipping)) => StageKind::Clip(clipping),
        (true, None) => StageKind::Whole,
    };
    let mut names = Vec::new();
    alone.names(&mut names);
    Stage {
        kind,
        arrays: first..first + names.len(),
    }
}

/// An algorithm in a wrapper, created by [`Compose`].
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Wrapped<C, W> {
    /// The algorithm.
    pub inner: C,
    /// The wrapper.
    pub wrap: W,
}

impl<C: Algorithm, W: Wrap> HyperParameters for Wrapped<C, W> {
    const NAME: &'static str = C::NAME;

    fn validate(&self) -> Result<(), Error> {
        self.inner.validate()?;
        self.wrap.validate()
    }
    fn fits(&self, largest: f64) -> Result<(), Error> {
        self.inner.fits(largest)?;
        self.wrap.fits(largest)
    }
    fn number(&self, name: &str) -> Option<f64> {
        self.inner.number(name).or_else(|| self.wrap.number(name))
    }
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.inner
            .number_mut(name)
            .or_else(|| self.wrap.number_mut(name))
    }
    fn numbers(&self) -> Vec<String> {
        let mut numbers = self.inner.numbers();
        numbers.extend(self.wrap.numbers());
        numbers
    }
}

impl<C: Algorithm, W: Wrap> Algorithm for Wrapped<C, W> {
    type Kernel<A: Element> = W::Kernel<A, C::Kernel<A>>;
    const DEMANDS: Demands = Demands {
        row_wise: C::DEMANDS.row_wise && W::ROW_WISE,
        ..C::DEMANDS
    };

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        self.wrap
            .around(step, self.inner.lr(), self.inner.kernel(step))
    }
    fn lr(&self) -> f64 {
        self.inner.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.inner.set_lr(lr);
    }
    fn decay_rates(&self) -> DecayRates {
        self.inner.decay_rates()
    }
    fn maximize(&self) -> bool {
        self.inner.maximize()
    }
    fn shared(&self) -> Option<Vec<(&'static str, f64)>> {
        self.inner.shared()
    }
    fn largest_gradient(&self, largest: f64) -> f64 {
        self.inner.largest_gradient(largest)
    }
    fn initial_scalars(&self) -> Scalars {
        self.inner.initial_scalars()
    }
    #[inline(always)]
    fn update_scalars(&self, step: &StepContext, sums: &Sums) -> Scalars {
        self.inner.update_scalars(step, sums)
    }
    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        self.inner.extra_arrays(shape)
    }
    fn transform<A: Element>(&self, step: &StepContext, array: WholeArray<'_, A>) -> Scalars {
        self.inner.transform(step, array)
    }
    fn transform_cost(&self, shape: &[usize]) -> f64 {
        self.inner.transform_cost(shape)
    }
    fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        self.wrap.evaluate(self.inner.evaluate(p, state), state)
    }
    fn update_hessian<A: Element>(&self, estimate: &[A], state: Arrays<'_, A>) {
        self.inner.update_hessian(estimate, state);
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = self.inner.parts();
        parts.push(Part::new(W::NAME, &self.wrap));
        parts
    }
    fn rebuild(&self, parts: &[Part<'_>]) -> Option<Self> {
        let (wrap, inner) = parts.split_last()?;
        Some(Wrapped {
            wrap: wrap.value.downcast_ref::<W>()?.clone(),
            inner: self.inner.rebuild(inner)?,
        })
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
    fn stages<A: Element>(&self, list: &mut Vec<Stage>, arrays: usize) {
        let alone = alone::<W, A>(
            &self.wrap,
            &StepContext::new(&self.inner, 1),
            self.inner.lr(),
        );
        let mut own = stage::<W, A>(&self.wrap, &alone, 0);
        let first = arrays.saturating_sub(own.arrays.end);
        own.arrays = first..arrays;
        self.inner.stages::<A>(list, first);
        list.push(own);
    }
    fn stage_whole<A: Element>(&self, k: usize, step: &StepContext, mut array: WholeArray<'_, A>) {
        match k.checked_sub(1) {
            None => self.wrap.transform(step, &mut array),
            Some(k) => self.inner.stage_whole(k, step, array),
        }
    }
    fn stage_elements<A: Element>(
        &self,
        k: usize,
        step: &StepContext,
        first: bool,
        p: &[A],
        g: &mut [A],
        mut own: Arrays<'_, A>,
    ) {
        match k.checked_sub(1) {
            // A constant, so that no code for stages is generated for chains without a barrier.
            None if const { C::Kernel::<A>::BARRIER } => {
                let alone = alone::<W, A>(&self.wrap, step, self.inner.lr());
                if first {
                    alone.begin(p, g, own.part(0..p.len()));
                }
                if alone.hooks().gradient {
                    alone.gradients(p, g, own);
                }
            }
            None => {}
            Some(k) => self.inner.stage_elements(k, step, first, p, g, own),
        }
    }
    fn is_preconditioned<A: Element>(&self) -> bool {
        self.inner.is_preconditioned::<A>()
    }
    fn is_watched(&self) -> bool {
        W::WATCH || self.inner.is_watched()
    }
}

mod sealed {
    pub trait Sealed {}
    impl<C: crate::algorithm::Algorithm> Sealed for C {}
}

/// Methods that wrap an algorithm. Implemented for every [`Algorithm`].
pub trait Compose: Algorithm + sealed::Sealed {
    /// Wraps the algorithm in any wrapper, including custom ones.
    fn wrap<W: Wrap>(self, wrap: W) -> Wrapped<Self, W> {
        Wrapped { inner: self, wrap }
    }

    /// Clips gradients by their global 2-norm: see [`ClipByGlobalNorm`].
    fn clip_by_global_norm(self, max_norm: f64) -> Wrapped<Self, ClipByGlobalNorm> {
        self.wrap(ClipByGlobalNorm {
            max_norm,
            ..Default::default()
        })
    }

    /// Clips gradients element-wise to `[-max_value, max_value]`: see [`ClipByValue`].
    fn clip_by_value(self, max_value: f64) -> Wrapped<Self, ClipByValue> {
        self.wrap(ClipByValue { max_value })
    }

    /// Keeps an exponential moving average of the parameters: see [`Ema`].
    fn ema(self, decay: f64) -> Wrapped<Self, Ema> {
        self.wrap(Ema {
            decay,
            ..Default::default()
        })
    }

    /// Synchronizes with slow parameters every `sync_period` steps: see [`Lookahead`].
    fn lookahead(self, sync_period: u64, slow_step_size: f64) -> Wrapped<Self, Lookahead> {
        self.wrap(Lookahead {
            sync_period,
            slow_step_size,
        })
    }

    /// Adds decoupled weight decay, for algorithms that have none: see [`WeightDecay`].
    fn decoupled_weight_decay(self, weight_decay: f64) -> Wrapped<Self, WeightDecay> {
        self.wrap(WeightDecay {
            weight_decay,
            ..Default::default()
        })
    }

    /// Gathers norms of gradients, updates and parameters in each step: see [`Watch`].
    fn watch(self) -> Wrapped<Self, Watch> {
        self.wrap(Watch {})
    }

    /// Keeps the parameters between two bounds, element-wise: see [`Bounds`].
    fn bounds(self, lower: f64, upper: f64) -> Wrapped<Self, Bounds> {
        self.wrap(Bounds {
            lower: Some(lower),
            upper: Some(upper),
        })
    }
}

impl<C: Algorithm> Compose for C {}

/// Declares the hyper-parameters of a wrapper.
macro_rules! wrap_parameters {
    (
        $(#[$attr:meta])*
        $name:ident = $label:literal {
            $($(#[$doc:meta])* $field:ident: $type:ty $([$($range:tt)+])? = $default:expr;)*
        }
        $($rest:tt)*
    ) => {
        crate::hyper_parameters! {
            $(#[$attr])*
            #[cfg_attr(
                feature = "serde",
                derive(serde::Serialize, serde::Deserialize),
                serde(default, deny_unknown_fields)
            )]
            pub struct $name = $label {
                $(
                    $(#[$doc])*
                    #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
                    $field: $type $([$($range)+])? = $default;
                )*
            }
            $($rest)*
        }
    };
}

/// Implements [`Wrap`] for an element-wise wrapper.
macro_rules! elementwise {
    ($name:ident: $wrapper:ty, |$self:ident, $lr:ident| $make:expr) => {
        impl Wrap for $name {
            const ROW_WISE: bool = true;
            type Kernel<A: Element, K: Kernel<A>> = K::With<$wrapper>;
            #[inline(always)]
            fn around<A: Element, K: Kernel<A>>(
                &$self,
                _step: &StepContext,
                $lr: f64,
                kernel: K,
            ) -> Self::Kernel<A, K> {
                kernel.with($make)
            }
        }
    };
}

/// The kernel of a wrapper that transforms whole arrays or clips by a norm.
macro_rules! barrier {
    () => {
        type Kernel<A: Element, K: Kernel<A>> = K::With<crate::kernel::Barrier>;
        #[inline(always)]
        fn around<A: Element, K: Kernel<A>>(
            &self,
            _step: &StepContext,
            _lr: f64,
            kernel: K,
        ) -> Self::Kernel<A, K> {
            kernel.with(crate::kernel::Barrier)
        }
    };
}
use {barrier, elementwise, wrap_parameters};
