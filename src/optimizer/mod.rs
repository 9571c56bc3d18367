//! The optimizer: the state of every parameter, and the steps with the algorithms of its groups.
//!
//! Nothing here is generic over algorithms: each is an [`Engine`](crate::algorithm::Engine).
// First, so that rustdoc lists `new`, `update` and `step` before the other methods.
mod update;

mod accumulate;
mod across;
mod averages;
mod clip;
mod curvature;
mod evaluating;
mod group;
mod load;
mod load_param;
mod members;
mod param_table;
mod pass;
mod rows;
mod sam;
mod save;
mod schedules;
mod select_rows;
mod staged;
mod stats;
mod step;

pub use across::{Division, Exchange};
pub use evaluating::Evaluating;
pub use group::Group;
pub use sam::{Ascended, Sam};
pub use stats::GroupStats;

use crate::{
    array::Element,
    kernel::Parallel,
    policy::{Limits, NonFinite},
    wrap::ClipByGlobalNorm,
};
use accumulate::Accumulation;
use group::Groups;
use param_table::ParamTable;
use std::fmt;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The step was applied.
    Applied,
    /// The step was skipped because of its gradients ([`NonFinite::Skip`]).
    Skipped,
    /// The gradients were added to those of earlier calls ([`Optimizer::set_accumulation`]).
    Accumulated,
    /// There was nothing to make a step with ([`Optimizer::finish_accumulation`]).
    Empty,
}

/// An algorithm with its hyper-parameters, and the state of every parameter that it updates.
///
/// `A` is the element type of the parameters, `f32` or `f64`. The algorithm is not part of the
/// type: a function that fits a model takes `&mut Optimizer<f64>`, whichever algorithm it holds.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Adam, Compose, Optimizer};
///
/// let mut optimizer = Optimizer::new(Adam::new(0.1));
/// let mut theta = array![1.0, -2.0];
/// optimizer.update(&mut theta, &array![0.5, -0.25])?;
///
/// optimizer.algorithm_mut::<Adam>().unwrap().betas.0 = 0.8; // from the next step on
/// optimizer.update(&mut theta, &array![0.5, -0.25])?;
///
/// let wrapped: Optimizer<f32> = Optimizer::new(Adam::new(0.1).clip_by_value(1.0).ema(0.99));
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// # Learning rate
///
/// A step of [`Adam`](crate::Adam) and its relatives moves each element by about `lr`, in the
/// parameter's own unit, whatever the scale of the gradient. Choose `lr` for the size of the
/// parameters: with the default of 1e-3, a parameter that has to move from 0 to 100 needs about
/// 1e5 steps. A step of [`Sgd`](crate::Sgd) is proportional to the gradient.
///
/// # Debug builds
///
/// All kernels are compiled with this crate and not with the program that uses it. A debug build of
/// the program is fine as long as its dependencies are optimized:
///
/// ```toml
/// [profile.dev.package."*"]
/// opt-level = 3
/// ```
///
/// # Element type
///
/// The element type is part of the type, so it cannot change between steps:
///
/// ```compile_fail
/// use ndarray::array;
/// use ndarray_optim::{Adam, Optimizer};
///
/// let mut adam = Optimizer::new(Adam::new(1e-3));
/// adam.update(&mut array![1.0_f32], &array![1.0_f32]).unwrap();
/// adam.update(&mut array![1.0_f64], &array![1.0_f64]).unwrap(); // expected `f32`, found `f64`
/// ```
#[derive(Clone)]
pub struct Optimizer<A: Element> {
    /// How infinite and NaN gradients are handled. Default: [`NonFinite::Propagate`].
    pub non_finite: NonFinite,
    /// Limits on the gradient norm and on consecutive skipped steps. Default: none.
    pub limits: Limits,
    /// Gradient clipping by the global norm over all groups, before anything else. Default: none.
    pub clip: Option<ClipByGlobalNorm>,
    /// Whether steps gather the statistics that [`stats`](Optimizer::stats) returns. Default:
    /// false.
    pub watch: bool,
    /// When steps use several threads.
    pub parallel: Parallel,
    groups: Groups<A>,
    table: ParamTable<A>,
    accumulation: Accumulation<A>,
    /// Scratch memory: copies of the gradients that a step transforms, or of the rows that it
    /// updates.
    copies: Vec<Vec<A>>,
    grad_norm: Option<f64>,
    stats: Vec<GroupStats>,
    /// Number of steps skipped since the last one that was applied.
    skipped: u64,
    /// Number of steps; those in a row without a common parameter count as one.
    steps: u64,
}

impl<A: Element> fmt::Debug for Optimizer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups.list[1..]
            .iter()
            .map(|slot| (&slot.name, &slot.engine));
        let steps = self
            .table
            .entries
            .iter()
            .map(|entry| (&entry.name, entry.t));
        f.debug_struct("Optimizer")
            .field("algorithm", &self.groups.default_slot().engine)
            .field("groups", &groups.collect::<Vec<_>>())
            .field("steps", &steps.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
