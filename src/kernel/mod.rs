//! The hot code: update rules, and how they are run over memory.
//!
//! A [`Rule`] is the arithmetic of an optimizer on one element. A step borrows views of parameters
//! and gradients. Views become slices where their memory allows it and are processed in tiles
//! otherwise. The pieces of all parameters form one queue, which the calling thread drains,
//! together with rayon's pool if there is enough work. Every piece is run by the same
//! multiversioned loop.

mod instruction_set;
pub(crate) mod param_views;
pub(crate) mod pool;
pub(crate) mod product;
pub mod reduce;
mod rule;
mod run;
mod state;
pub(crate) mod strided;
pub(crate) mod sweep;
pub(crate) mod watch;
mod wrapper;

pub(crate) use instruction_set::for_each_instruction_set;
pub use instruction_set::{InstructionSet, instruction_set};
pub use pool::Parallel;
pub(crate) use rule::MAX_SUMS;
pub(crate) use rule::{NullRule, numbers};
pub use rule::{Rule, Sums, Terms};
pub use run::{
    Either, Kernel, KernelArgs, Preconditioned, WithCoupled, WithDecoupled, coupled, decoupled,
    preconditioned,
};
pub use state::{Arrays, RuleState};
pub(crate) use state::{IdleState, MAX_STATES, StateSlices};
pub(crate) use watch::Totals;
pub(crate) use wrapper::Idle;
pub use wrapper::{Barrier, CoupledDecay, DecoupledDecay, Hooks, Trace, With, Wrapper};
