//! One file for each optimizer: what it is for, its formula, its hyper-parameters and its rule.

mod adam;
mod adamw;
mod momentum;
mod rmsprop;
mod sgd;

pub use adam::{Adam, AdamConfig};
pub use adamw::{AdamW, AdamWConfig};
pub use momentum::{Momentum, MomentumConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use sgd::{Sgd, SgdConfig};
