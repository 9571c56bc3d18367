#![forbid(unsafe_code)]
#![warn(missing_docs)]
//! Optimizers for parameters held in plain [`ndarray`] arrays.

mod error;
mod fused;
pub mod kernel;
mod optim;
mod optimizer;
mod params;

pub use error::Error;
pub use fused::{Config, Fused};
pub use kernel::Parallel;
pub use optim::*;
pub use optimizer::{NonFinite, Optimizer, OptimizerConfig, Outcome, ParamGroup};
pub use params::{Lending, Params};
