#![forbid(unsafe_code)]
#![warn(missing_docs)]
//! Optimizers for parameters held in plain [`ndarray`] arrays: Momentum, RMSProp, Adam and their family, as fused kernels
//! that read and write every array once a step, on as many threads as the step is worth.
//!
//! There is one optimizer type, [`Optimizer`]: it holds an algorithm, a plain struct of hyper-parameters such as [`Adam`], and
//! the state of every parameter. Keep your own arrays, compute gradients however you like, and call
//! [`update`](Optimizer::update) for one array:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{Adam, Optimizer};
//!
//! let mut adam = Optimizer::new(Adam::new(0.1));
//! let mut theta = array![1.0, -2.0];
//! for _ in 0..300 {
//!     let grad = 2.0 * (&theta - 3.0);            // of |theta - 3|^2
//!     adam.update(&mut theta, &grad)?;
//! }
//! assert!(theta.iter().all(|x: &f64| (x - 3.0).abs() < 1e-3));
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! or lend many arrays of different rank, by name, for one [`step`](Optimizer::step): see [`Params`]. Each [`Group`] of
//! parameters can have another algorithm:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{AdamW, Group, Muon, Optimizer, Params, Select, wrap::ClipByGlobalNorm};
//!
//! let mut optimizer = Optimizer::new(AdamW::new(1e-3));
//! optimizer.add_group(Group::new("matrices", Select::rank(2), Muon::new(0.02)))?;
//! optimizer.clip = Some(ClipByGlobalNorm { max_norm: 1.0, ..Default::default() }); // of all gradients together
//!
//! let (mut w, mut b) = (array![[1.0, 2.0], [3.0, 4.0]], array![0.0, 0.0]);
//! let (dw, db) = (array![[0.1, 0.2], [0.3, 0.4]], array![0.5, 0.5]);
//! let mut params = Params::new();
//! params.add("weight", &mut w, &dw)?.add("bias", &mut b, &db)?;
//! optimizer.step(params)?;
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! Wrappers around an algorithm, from clipping to averages of the parameters, are in [`wrap`]; learning-rate schedules are in
//! [`schedule`]. [`AnyAlgorithm`] is any algorithm of the crate as a value that files describe. An algorithm of your own is an
//! element-wise [`Rule`](kernel::Rule) with an [`Algorithm`] that makes it from hyper-parameters: see [`algorithm`].
//!
//! # Algorithms
//!
//! | algorithm | what it is |
//! |---|---|
//! | [`Sgd`] | Stochastic gradient descent with torch's momentum, dampening and Nesterov options |
//! | [`Momentum`] | Gradient descent along a running average of the gradients |
//! | [`RmsProp`] | The gradient over the root of a running average of its square |
//! | [`Adam`] | Bias-corrected running averages of the gradient and of its square |
//! | [`AdamW`] | Adam with decoupled weight decay |
//! | [`Adamax`] | Adam with the infinity norm in the denominator |
//! | [`NAdam`] | Adam with Nesterov momentum and a momentum schedule |
//! | [`RAdam`] | Adam with a rectified denominator: plain momentum in the first steps |
//! | [`Adagrad`] | The gradient over the root of the sum of all its squares |
//! | [`Adadelta`] | RMSProp scaled by a running average of past steps: no learning rate to tune |
//! | [`Rprop`] | Element-wise step sizes adapted by the sign of the gradient |
//! | [`Asgd`] | Averaged SGD: gradient descent with the average of its iterates |
//! | [`AdaBelief`] | Adam that divides by the deviation of gradients from their running average |
//! | [`Yogi`] | Adam with additive updates of the second moment |
//! | [`Lion`] | The sign of a running average of gradients: one state array |
//! | [`Adan`] | Adam with an average of gradient differences, for Nesterov momentum |
//! | [`SignSgd`] | Steps of size lr along the sign of the gradient |
//! | [`OptimisticGradientDescent`] | Gradient descent with a predicted next gradient, for games |
//! | [`AdEMAMix`] | AdamW with a second, very slow running average of the gradient |
//! | [`Adopt`] | Adam that normalises by the previous second moment, then averages: converges for any beta2 |
//! | [`AcProp`] | The gradient over the root of the previous variance |
//! | [`Madgrad`] | Dual averaging with the cube root of the sum of squares |
//! | [`Cocob`] | Coin betting: no learning rate |
//! | [`AggMo`] | Aggregated momentum: the mean of several momentum buffers |
//! | [`Qhm`] | Quasi-hyperbolic momentum: a mixture of SGD and momentum |
//! | [`Tiger`] | Lion with a single beta |
//! | [`Signum`] | SignSGD with momentum |
//! | [`Padam`] | Adam with a partial power of the denominator: between SGD and Adam |
//! | [`Grams`] | The magnitude of Adam's update with the sign of the gradient |
//! | [`Ftrl`] | Follow the regularised leader: exact zeros under an L1 penalty |
//! | [`LaProp`] | Adam that normalises before it averages |
//! | [`QHAdam`] | Quasi-hyperbolic Adam: the current gradient mixed into both moments |
//! | [`DiffGrad`] | Adam with smaller steps where the gradient hardly changes |
//! | [`AdaBound`] | Adam with learning rates clipped to bounds that converge to SGD's |
//! | [`ScheduleFreeSgd`] | SGD with averaging in place of a schedule |
//! | [`ScheduleFreeAdamW`] | AdamW with averaging in place of a schedule |
//! | [`NovoGrad`] | Momentum on gradients normalised by a running average of their layer-wise norm |
//! | [`Lamb`] | AdamW with layer-wise trust ratios, for large batches |
//! | [`Lars`] | SGD with momentum and layer-wise trust ratios, for large batches |
//! | [`Fromage`] | Steps proportional to the norm of each array, with bounded norms |
//! | [`PolyakSgd`] | The Polyak step size, for objectives with a known optimal value |
//! | [`Momo`] | Momentum with a model-based adaptive learning rate |
//! | [`MomoAdam`] | Adam with a model-based adaptive learning rate |
//! | [`Prodigy`] | AdamW that estimates its learning rate |
//! | [`DAdaptAdamW`] | AdamW that estimates its learning rate, by D-Adaptation |
//! | [`Dog`] | SGD with distance over gradients as its learning rate |
//! | [`Dowg`] | SGD with distance over weighted gradients as its learning rate |
//! | [`Adafactor`] | Adam with factored second moments: sublinear memory |
//! | [`Sm3`] | Adagrad with accumulators for rows and columns: sublinear memory |
//! | [`Muon`] | Momentum with orthogonalised updates, for the matrices of networks |
//! | `Shampoo` | Adagrad with a full-matrix preconditioner for each axis (feature `linalg`) |
//! | `Soap` | Adam in the eigenbasis of Shampoo's preconditioners (feature `linalg`) |
//! | [`Mars`] | AdamW on variance-reduced gradients |
//! | [`Sophia`] | A running average of gradients over one of Hessian estimates, clipped |
//!
//! Hyper-parameters are public fields with torch's names and defaults, where torch has the algorithm. They may change between
//! steps: [`Optimizer::algorithm_mut`] lends them. Where a name means other numbers elsewhere, a function of the struct sets
//! them: [`Adam::keras`], [`RmsProp::optax`], [`Adan::paper`], ...
//!
//! # What can be relied on
//!
//! - A step checks every name, shape and hyper-parameter before it changes the first element, and returns an [`Error`] that
//!   names what is wrong. Nothing panics, and a failed step has changed nothing.
//! - Results are the same bits for any number of threads, chunk size, memory layout and SIMD width; only the matrix products of
//!   [`Muon`], `Shampoo` and `Soap` can differ in their last bits between machines.
//! - Arrays of any layout work: transposed, reversed, strided, sliced. Moments take the memory order of the parameter.
//! - After the first call a step on one thread allocates nothing beyond your [`Params`].
//! - A run that is saved and resumed has the bits of one that was not interrupted: see [`state`].
//! - There is no `unsafe` code in the crate.
//!
//! # Features
//!
//! - `rayon` (default): steps of about 100 us or more use rayon's current pool; see [`Parallel`].
//! - `serde`: hyper-parameters, [`AnyAlgorithm`], [`Schedule`], [`ReduceOnPlateau`], [`Group`] and [`Parallel`] can be
//!   read and written; [`StateDict`] too, in any format, and as bytes.
//! - `safetensors` (with `serde`): [`StateDict`] in files of safetensors, which other languages open.
//! - `checkpoint`: the `checkpoint` module, which keeps runs in files that survive crashes; checksums by crc32fast.
//! - `linalg`: `Shampoo` and `Soap`, which need eigenvalues and orthogonal decompositions of matrices: those of nalgebra.

pub mod algorithm;
mod array;
mod catalogue;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod difference;
mod error;
mod hutchinson;
pub mod kernel;
mod optim;
mod optimizer;
mod params;
mod policy;
mod random;
pub mod schedule;
mod select;
pub mod state;
pub mod wrap;

pub use algorithm::{Algorithm, HyperParameters};
pub use catalogue::{AnyAlgorithm, AnyWrap, ComposedConfig, LookaheadConfig};
#[cfg(feature = "checkpoint")]
pub use checkpoint::{Checkpoint, CheckpointError, Checkpoints};
pub use error::Error;
pub use hutchinson::hutchinson;
pub use kernel::Parallel;
pub use optim::*;
pub use optimizer::{Ascended, Evaluating, Group, GroupReport, Optimizer, Outcome, Sam};
pub use params::Params;
pub use policy::{Limits, NonFinite};
pub use schedule::{ReduceOnPlateau, ReduceOnPlateauConfig, Schedule, Scheduled};
pub use select::Select;
pub use state::StateDict;
pub use wrap::Compose;

/// The examples in the texts around the crate are tests too.
#[cfg(doctest)]
mod texts {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/coming-from-pytorch-or-optax.md")]
    struct Guide;
    #[doc = include_str!("../docs/schedules.md")]
    struct Schedules;
    #[doc = include_str!("../docs/composition.md")]
    struct Composition;
    #[doc = include_str!("../docs/dialects.md")]
    struct Dialects;
    #[cfg(all(feature = "checkpoint", feature = "serde"))]
    #[doc = include_str!("../docs/checkpoints.md")]
    struct Checkpoints;
    #[cfg(feature = "serde")]
    #[doc = include_str!("../docs/state.md")]
    struct States;
}
