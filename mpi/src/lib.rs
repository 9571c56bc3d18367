#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]
#![doc = include_str!("../README.md")]
mod across;
mod agree;
mod checkpoint;
mod distributed;
mod error;
mod layout;
mod number;
mod ranks;
mod round;
mod values;

pub use checkpoint::{Assembled, Saved};
pub use distributed::{Batch, Config, Distributed, Mode, Reduction};
pub use error::Error;
pub use number::Number;
pub use ranks::Ranks;
pub use round::Round;
