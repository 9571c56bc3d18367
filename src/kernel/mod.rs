//! The hot code: update rules, and how they are run over memory.
//!
//! A [`Rule`] is the arithmetic of an optimizer on one element. A step borrows views of parameters
//! and gradients. Views become slices where their memory allows it and are processed in tiles
//! otherwise. The pieces of all parameters form one queue, which the calling thread drains,
//! together with rayon's pool if there is enough work. Every piece is run by the same
//! multiversioned loop.

/// Compiles a function for AVX-512, for AVX2 and for the baseline of the target; the choice is made
/// at run time. The results are the same bits for each. Another instruction set would add a fifth
/// to the compile time of the crate.
macro_rules! for_each_instruction_set {
    ($($function:tt)*) => {
        #[multiversion::multiversion(targets(
            "x86_64+avx+avx2+avx512bw+avx512cd+avx512dq+avx512f+avx512vl\
             +bmi1+bmi2+fma+lzcnt+movbe+popcnt",
            "x86_64+avx+avx2+bmi1+bmi2+fma+lzcnt+movbe+popcnt",
        ))]
        $($function)*
    };
}
pub(crate) use for_each_instruction_set;

pub(crate) mod param_views;
pub(crate) mod pool;
pub(crate) mod product;
pub mod reduce;
mod rule;
mod run;
mod state;
pub(crate) mod strided;
mod sweep;
pub(crate) mod watch;
mod wrapper;

pub use pool::Parallel;
pub(crate) use rule::{NullRule, numbers};
pub use rule::{Rule, Sums};
pub use run::{
    Either, Kernel, KernelArgs, Preconditioned, WithCoupled, WithDecoupled, coupled, decoupled,
    preconditioned,
};
pub use state::{Arrays, RuleState};
pub(crate) use state::{IdleState, MAX_STATES, StateSlices};
pub(crate) use watch::Totals;
pub(crate) use wrapper::Idle;
pub use wrapper::{Barrier, CoupledDecay, DecoupledDecay, Hooks, Trace, With, Wrapper};
