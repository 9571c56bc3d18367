//! The only hot code: what an update rule is, and how it is run over memory.
//!
//! A [`Rule`] is one optimizer's arithmetic on one element. A step lends views of parameters and gradients; each becomes
//! slices where its memory allows it, and is otherwise walked in tiles; the pieces of all parameters form one list, which
//! is drained by the calling thread and, where the work is worth it, by rayon's pool; and every piece is run by one
//! multiversioned loop.

mod data;
mod element;
mod lanes;
pub(crate) mod layout;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod product;
pub mod reduce;
mod rule;
mod sweep;
pub(crate) mod walk;
pub(crate) mod watch;
mod wrap;

#[cfg(any(feature = "checkpoint", feature = "serde"))]
pub(crate) use data::try_row_major;
pub use data::{Data, ElementType};
pub(crate) use data::{either, row_major};
pub use element::Element;
pub use lanes::{Arrays, Lanes, MAX_STATES, Untouched, View};
pub use pool::Parallel;
pub use rule::{At, Either, Kernel, MAX_TERMS, Rule};
pub use watch::Totals;
pub use wrap::{CoupledDecay, DecoupledDecay, Pass, Trace, With, WithCoupled, WithDecoupled, Wrapper, coupled, decoupled};
