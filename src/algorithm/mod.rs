//! Traits for custom algorithms and wrappers.
//!
//! An algorithm consists of three parts:
//!
//! - a struct of hyper-parameters, declared with [`hyper_parameters!`](crate::hyper_parameters);
//! - a [`Rule`], the arithmetic of a step on one element;
//! - an implementation of [`Algorithm`], which creates the rule of each step from the
//!   hyper-parameters.
//!
//! The [`Optimizer`](crate::Optimizer) adds memory layouts, threads, parameter groups, wrappers and
//! states:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{
//!     Optimizer,
//!     algorithm::{Algorithm, Element, Rule, StepContext},
//!     hyper_parameters,
//! };
//!
//! hyper_parameters! {
//!     /// Gradient descent with momentum.
//!     pub struct HeavyBall = "heavy_ball" {
//!         /// Learning rate.
//!         lr: f64 [>= 0] = 1e-2;
//!         /// Momentum factor.
//!         momentum: f64 [in 0..1] = 0.9;
//!     }
//! }
//!
//! #[derive(Clone, Copy)]
//! pub struct Step<A> {
//!     lr: A,
//!     momentum: A,
//! }
//!
//! impl<A: Element> Rule for Step<A> {
//!     type Elem = A;
//!     type State = [A; 1];
//!     const STATE: &'static [&'static str] = &["velocity"];
//!     const COST: u64 = 2;
//!     #[inline(always)]
//!     fn delta(&self, _p: A, g: A, [v]: [A; 1]) -> (A, [A; 1]) {
//!         let v = self.momentum * v + g;
//!         (self.lr * v, [v])
//!     }
//! }
//!
//! impl Algorithm for HeavyBall {
//!     type Kernel<A: Element> = Step<A>;
//!     #[inline(always)]
//!     fn kernel<A: Element>(&self, _step: &StepContext) -> Step<A> {
//!         Step { lr: A::from_f64(self.lr), momentum: A::from_f64(self.momentum) }
//!     }
//! }
//!
//! let mut optimizer = Optimizer::new(HeavyBall { lr: 0.1, ..Default::default() });
//! let mut theta = array![1.0, -2.0];
//! optimizer.update(&mut theta, &array![1.0, 0.0])?;
//! assert_eq!(theta, array![0.9, -2.0]);
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! An algorithm with more requirements overrides further items:
//!
//! | for | see |
//! |---|---|
//! | bias corrections | [`StepContext::correction`], [`Algorithm::decay_rates`] |
//! | scalars in the state | [`Algorithm::initial_scalars`], [`Algorithm::update_scalars`] |
//! | norms and sums of whole arrays | [`Rule::terms`], [`Algorithm::update_scalars`] |
//! | the value of the objective | [`Demands::loss`], [`StepContext::loss`] |
//! | a choice of rules | [`Either`] |
//! | weight decay | [`coupled`], [`decoupled`] |
//! | a preconditioner of whole arrays | [`preconditioned`], [`Algorithm::transform`] |
//! | state arrays of other shapes | [`Algorithm::extra_arrays`] |
//! | estimates of the Hessian | [`Demands::hessian`], [`Algorithm::update_hessian`] |
//! | an average to evaluate at | [`Algorithm::evaluate`] |
//!
//! A custom wrapper implements [`Wrap`](crate::wrap::Wrap), by an element-wise [`Wrapper`], by a
//! transform of whole arrays or by a norm. Then [`Compose::wrap`](crate::Compose::wrap) puts it
//! around any algorithm.
mod context;
mod engine;
mod hyper_parameters;
mod stage;
mod whole_array;

pub(crate) use context::Logs;
pub use context::{Clock, DecayRates, ElementState, Scalars, StepContext};
pub(crate) use engine::{Engine, Requirements, StepInfo, kind};
pub use engine::{Part, Recipe};
pub use hyper_parameters::{Field, FieldValue, HyperParameters, Interval, split_name};
pub use stage::Stage;
pub(crate) use stage::{StageKind, split_stages};
pub use whole_array::{ExtraArray, WholeArray};

pub use crate::{
    array::Element,
    kernel::{
        Arrays, Barrier, CoupledDecay, DecoupledDecay, Either, Hooks, Kernel, Preconditioned, Rule,
        RuleState, Sums, Terms, Trace, With, WithCoupled, WithDecoupled, Wrapper, coupled,
        decoupled, preconditioned,
    },
};

#[doc(hidden)]
pub use crate::kernel::KernelArgs;

use crate::kernel::reduce::Norm;
use std::any::{Any, TypeId};

/// What an algorithm needs in a step besides gradients.
///
/// ```
/// use ndarray_optim::algorithm::Demands;
///
/// const DEMANDS: Demands = Demands::NONE.loss().global_sums();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Demands {
    /// The value of the objective.
    pub loss: bool,
    /// Sums ([`Rule::terms`]) over all parameters of a group together, instead of over each array.
    pub global_sums: bool,
    /// Estimates of the diagonal of the Hessian ([`Algorithm::update_hessian`]).
    pub hessian: bool,
    /// Whether rows of an array can be updated separately
    /// ([`Optimizer::update_rows`](crate::Optimizer::update_rows)): the new value and state of an
    /// element depend on that element alone.
    pub row_wise: bool,
    /// The state arrays that a numeric hyper-parameter switches on and off, such as the momentum
    /// buffer at a momentum of 0. They begin at 0 when they are first needed, and are kept while
    /// they are not. All other state arrays must stay the same during a run.
    pub switched: &'static [&'static str],
    /// Whether [`Algorithm::transform`] reads [`WholeArray::source`].
    pub(crate) reads_source: bool,
}

impl Demands {
    /// Nothing besides gradients.
    pub const NONE: Demands = Demands {
        loss: false,
        global_sums: false,
        hessian: false,
        row_wise: false,
        switched: &[],
        reads_source: false,
    };

    /// Adds the value of the objective.
    pub const fn loss(self) -> Self {
        Demands { loss: true, ..self }
    }

    /// Adds sums over all parameters of a group.
    pub const fn global_sums(self) -> Self {
        Demands {
            global_sums: true,
            ..self
        }
    }

    /// Adds estimates of the diagonal of the Hessian.
    pub const fn hessian(self) -> Self {
        Demands {
            hessian: true,
            ..self
        }
    }

    /// Allows rows of an array to be updated separately.
    pub const fn row_wise(self) -> Self {
        Demands {
            row_wise: true,
            ..self
        }
    }

    /// Names the state arrays that a numeric hyper-parameter switches on and off.
    pub const fn switched(self, switched: &'static [&'static str]) -> Self {
        Demands { switched, ..self }
    }

    /// Reads the gradient where it is, so that it need not be copied first.
    pub(crate) const fn reads_source(self) -> Self {
        Demands {
            reads_source: true,
            ..self
        }
    }
}

/// Gradient clipping by a norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipping {
    /// Maximum norm.
    pub max_norm: f64,
    /// Type of the norm.
    pub norm: Norm,
    /// Added to the norm in the denominator: 1e-6 in torch, 0 in optax.
    pub eps: f64,
    /// Whether the norm is the global norm of all gradients of the group.
    pub global: bool,
    /// Whether the norm is divided by the square root of the number of elements.
    pub mean: bool,
}

impl Clipping {
    /// Returns the factor for gradients with this norm and this number of elements.
    pub(crate) fn factor_of(&self, norm: f64, size: usize) -> f64 {
        let norm = if self.mean {
            norm / (size as f64).sqrt()
        } else {
            norm
        };

        // An infinite or NaN norm does not become a factor of 0 or NaN, so that a non-finite
        // gradient shows in the parameters.
        if norm + self.eps > self.max_norm && norm.is_finite() {
            self.max_norm / (norm + self.eps)
        } else {
            1.0
        }
    }
}

/// An optimization algorithm: the hyper-parameters, and how a step is computed from them.
///
/// Only the kernel is required; see the [module](self) for an example.
#[allow(unused_variables)]
pub trait Algorithm: HyperParameters {
    /// The kernel of a step, usually a [`Rule`].
    type Kernel<A: Element>: Kernel<A>;

    /// What the algorithm needs in a step besides gradients.
    const DEMANDS: Demands = Demands::NONE;

    /// Returns the kernel of this step. Fold its scalars in `f64` and round them once.
    ///
    /// For an algorithm with sums the method is called twice: if `step.sums_pending`, the kernel
    /// only computes the terms, and `step.scalars` are those of the last step.
    ///
    /// Mark it `#[inline(always)]`: a kernel that is returned through memory and copied takes a
    /// quarter of the time of a step of a small array.
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A>;

    /// Returns the learning rate: by default the field `lr`, or NaN if there is none.
    fn lr(&self) -> f64 {
        self.number("lr").unwrap_or(f64::NAN)
    }

    /// Sets the learning rate: by default the field `lr`.
    fn set_lr(&mut self, lr: f64) {
        if let Some(field) = self.number_mut("lr") {
            *field = lr;
        }
    }

    /// Returns the decay rates of [`StepContext::correction`]: by default the field `betas`, if
    /// there is one.
    fn decay_rates(&self) -> DecayRates {
        self.declared_decay_rates()
    }

    /// Returns whether the objective is maximized, so that gradients are negated: by default the
    /// field `maximize`, or false if there is none.
    fn maximize(&self) -> bool {
        self.declared_maximize()
    }

    /// Returns the hyper-parameters that all groups with this algorithm must have in common,
    /// because their sums run over all of these groups together and give the same scalars. By
    /// default `None`: each group has its own sums.
    ///
    /// It has a meaning for algorithms with [`Demands::global_sums`] only.
    fn shared(&self) -> Option<Vec<(&'static str, f64)>> {
        None
    }

    /// Returns the largest size of a gradient element that the algorithm can use, where `largest`
    /// is the largest number of the element type: its root, for an algorithm that squares
    /// gradients. By default `largest`.
    ///
    /// [`NonFinite::Skip`](crate::NonFinite::Skip) and [`NonFinite::Error`](crate::NonFinite::Error)
    /// refuse larger elements, unless a wrapper or [`Optimizer::clip`](crate::Optimizer::clip)
    /// changes gradients first.
    fn largest_gradient(&self, largest: f64) -> f64 {
        largest
    }

    /// Returns the scalars before the first step: zeros by default.
    fn initial_scalars(&self) -> Scalars {
        Scalars::default()
    }

    /// Returns the scalars of this step, computed from those of the last step in `step.scalars` and
    /// from the sums of [`Rule::terms`].
    #[inline(always)]
    fn update_scalars(&self, step: &StepContext, sums: &Sums) -> Scalars {
        step.scalars
    }

    /// Returns the state arrays whose shape is not that of the parameter; `shape` is that of the
    /// parameter.
    ///
    /// # Errors
    ///
    /// A description of the shapes that the algorithm supports.
    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        Ok(Vec::new())
    }

    /// Preconditions the gradient of an array in place and returns the scalars of this step. Called
    /// before the kernel runs if it is [`Preconditioned`].
    fn transform<A: Element>(&self, step: &StepContext, array: WholeArray<'_, A>) -> Scalars {
        step.scalars
    }

    /// Returns the approximate time of [`transform`](Algorithm::transform) for an array of this
    /// shape, in nanoseconds, to balance arrays among processes. By default 0.
    fn transform_cost(&self, shape: &[usize]) -> f64 {
        0.0
    }

    /// Returns the point to evaluate a model at, element-wise: by default the parameter.
    /// Schedule-free algorithms return an average from the state.
    fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        p
    }

    /// Updates the state of some elements with their estimates of the diagonal of the Hessian
    /// ([`Optimizer::update_hessian`](crate::Optimizer::update_hessian)).
    fn update_hessian<A: Element>(&self, estimate: &[A], state: Arrays<'_, A>) {}

    // The rest is for wrappers; only `Wrapped` overrides it.

    /// Returns the algorithm and its wrappers, from the inside out.
    #[doc(hidden)]
    fn parts(&self) -> Vec<Part<'_>> {
        vec![Part::new(Self::NAME, self)]
    }

    /// Returns the algorithm with the hyper-parameters of `parts`, if their types match.
    #[doc(hidden)]
    fn rebuild(&self, parts: &[Part<'_>]) -> Option<Self> {
        match parts {
            [part] => part.value.downcast_ref::<Self>().cloned(),
            _ => None,
        }
    }

    /// Returns the part of this type.
    #[doc(hidden)]
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any> {
        if of == TypeId::of::<Self>() {
            Some(self)
        } else {
            None
        }
    }

    /// Appends the stages of the wrappers, from the inside out. `arrays` is the number of all state
    /// arrays.
    #[doc(hidden)]
    fn stages<A: Element>(&self, list: &mut Vec<Stage>, arrays: usize) {}

    /// Applies the whole-array transform of the `k`th wrapper, counted from the outside.
    #[doc(hidden)]
    fn stage_whole<A: Element>(&self, k: usize, step: &StepContext, array: WholeArray<'_, A>) {}

    /// Applies the gradient hook of the `k`th wrapper, counted from the outside.
    #[doc(hidden)]
    fn stage_elements<A: Element>(
        &self,
        k: usize,
        step: &StepContext,
        first: bool,
        p: &[A],
        g: &mut [A],
        own: Arrays<'_, A>,
    ) {
    }

    /// Returns whether the innermost algorithm has a [`Preconditioned`] kernel.
    #[doc(hidden)]
    fn is_preconditioned<A: Element>(&self) -> bool {
        <Self::Kernel<A> as Kernel<A>>::BARRIER
    }

    /// Returns whether a wrapper gathers the statistics of
    /// [`Optimizer::stats`](crate::Optimizer::stats).
    #[doc(hidden)]
    fn is_watched(&self) -> bool {
        false
    }
}
