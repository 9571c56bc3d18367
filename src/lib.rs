#![forbid(unsafe_code)]
#![warn(missing_docs)]
//! Optimizers for parameters held in plain [`ndarray`] arrays: Momentum, RMSProp, Adam and their family, as fused kernels that
//! read and write every array once a step, on as many threads as the step is worth.
//!
//! Keep your own arrays, compute gradients however you like, and call [`update`](Optimizer::update) for one array:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{Adam, Optimizer};
//!
//! let mut adam = Adam::new(0.1);
//! let mut theta = array![1.0, -2.0];
//! for _ in 0..300 {
//!     let grad = 2.0 * (&theta - 3.0);            // of |theta - 3|^2
//!     adam.update(&mut theta, &grad)?;
//! }
//! assert!(theta.iter().all(|x: &f64| (x - 3.0).abs() < 1e-3));
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! or lend many arrays of different rank, by name, for one [`step`](Optimizer::step): see [`Params`]. Some of them can have
//! hyper-parameters of their own: see [`ParamGroup`]. [`OptimizerConfig`] describes any optimizer in a file.
//!
//! # Optimizers
//!
//! | optimizer | what it is |
//! |---|---|
//! | [`Sgd`] | gradient descent, with torch's momentum, dampening and Nesterov form |
//! | [`Momentum`] | gradient descent along an exponential average of the gradients |
//! | [`RmsProp`] | the gradient over the root of the average of its squares; centered, with momentum, in torch's or optax's form |
//! | [`Adam`] | averages of the gradient and of its squares, bias-corrected; AMSGrad |
//! | [`AdamW`] | Adam with weight decay decoupled from the gradient |
//!
//! All have `maximize`. Hyper-parameters are public fields of a plain struct ([`AdamConfig`], ...) in torch's names and with
//! torch's defaults; `optimizer.config` may change between steps.
//!
//! # What can be relied on
//!
//! - A step checks every name, shape and hyper-parameter before it changes the first element, and returns an [`Error`] that
//!   names what is wrong. Nothing panics, and a failed step has changed nothing.
//! - Results are the same bits for any number of threads, chunk size, memory layout and SIMD width.
//! - Arrays of any layout work: transposed, reversed, strided, sliced. Moments take the memory order of the parameter.
//! - After the first call a step on one thread allocates nothing beyond your [`Params`].
//! - There is no `unsafe` code in the crate.
//!
//! # Features
//!
//! - `rayon` (default): steps of about 100 us or more use rayon's current pool; see [`Parallel`].
//! - `serde`: hyper-parameters, [`OptimizerConfig`], [`ParamGroup`] and [`Parallel`] can be read and written.

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

/// The examples in the texts around the crate are tests too.
#[cfg(doctest)]
mod texts {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/coming-from-pytorch-or-optax.md")]
    struct Guide;
}
