//! The only hot code: what an update rule is, and how it is run over memory.
//!
//! A [`Rule`] is one optimizer's arithmetic on one element. A step lends views of parameters and gradients; each becomes
//! slices where its memory allows it, and is otherwise walked in tiles; the pieces of all parameters form one list, which
//! is drained by the calling thread and, where the work is worth it, by rayon's pool; and every piece is run by one
//! multiversioned loop.

/// Compiles a function for AVX-512, for AVX2 and for what every processor has; the machine decides at run time. The bits do
/// not depend on it. Each further set would add a fifth to the time the crate takes to compile.
macro_rules! for_each_instruction_set {
    ($($function:tt)*) => {
        #[multiversion::multiversion(targets(
            "x86_64+avx+avx2+avx512bw+avx512cd+avx512dq+avx512f+avx512vl+bmi1+bmi2+fma+lzcnt+movbe+popcnt",
            "x86_64+avx+avx2+bmi1+bmi2+fma+lzcnt+movbe+popcnt",
        ))]
        $($function)*
    };
}
pub(crate) use for_each_instruction_set;

mod lanes;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod product;
pub mod reduce;
mod rule;
mod run;
mod sweep;
pub(crate) mod walk;
pub(crate) mod watch;
mod wrapper;

pub use crate::array::Element;
pub use lanes::{Arrays, Lanes, MAX_STATES, Untouched, View};
pub use pool::Parallel;
pub use rule::{MAX_TERMS, Rule};
pub use run::{At, Either, Kernel, WithCoupled, WithDecoupled, coupled, decoupled};
pub(crate) use watch::Totals;
pub use wrapper::{CoupledDecay, DecoupledDecay, Pass, Trace, With, Wrapper};
