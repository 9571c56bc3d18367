#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![cfg_attr(docsrs, feature(doc_cfg))]
//! Gradient-based optimizers for parameters in plain [`ndarray`] arrays: SGD, RMSProp, Adam, Muon
//! and 50 others, with torch's names and defaults.
//!
//! The crate has no tensors of its own and no automatic differentiation: keep your arrays, compute
//! gradients however you like and call [`update`](Optimizer::update) for one array. A step is one
//! fused pass over memory, on several threads if it is large enough.
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{Adam, Optimizer};
//!
//! let mut adam = Optimizer::new(Adam::new(0.1));
//! let mut theta = array![1.0, -2.0];
//! for _ in 0..300 {
//!     let grad = 2.0 * (&theta - 3.0); // of |theta - 3|^2
//!     adam.update(&mut theta, &grad)?;
//! }
//! assert!(theta.iter().all(|x: &f64| (x - 3.0).abs() < 1e-3));
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! There is one optimizer type, [`Optimizer`], which holds an algorithm and the state of every
//! parameter. An algorithm such as [`Adam`] is a plain struct of hyper-parameters.
//!
//! Several arrays, which can differ in their number of axes, are passed to one
//! [`step`](Optimizer::step) by name: see [`Params`]. Each parameter [`Group`] can have its own
//! algorithm:
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{AdamW, Group, Muon, Optimizer, Params, Select, wrap::ClipByGlobalNorm};
//!
//! let mut optimizer = Optimizer::new(AdamW::new(1e-3));
//! optimizer.add_group(Group::new("matrices", Select::rank(2), Muon::new(0.02)))?;
//! // The global norm of the gradients of all groups.
//! optimizer.clip = Some(ClipByGlobalNorm { max_norm: 1.0, ..Default::default() });
//!
//! let (mut w, mut b) = (array![[1.0, 2.0], [3.0, 4.0]], array![0.0, 0.0]);
//! let (dw, db) = (array![[0.1, 0.2], [0.3, 0.4]], array![0.5, 0.5]);
//! let mut params = Params::new();
//! params.add("weight", &mut w, &dw)?.add("bias", &mut b, &db)?;
//! optimizer.step(params)?;
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! # Contents
//!
//! | | |
//! |---|---|
//! | [`Optimizer`] | Steps, parameter groups, learning rates, state, gradient accumulation |
//! | [`Lbfgs`] | L-BFGS with a line search, for a closure that computes loss and gradient |
//! | [Algorithms](#algorithms) | The table below; [`AnyAlgorithm`] is one from a configuration file |
//! | [`wrap`] | Wrappers for any algorithm: clipping, weight decay, averages, lookahead, ... |
//! | [`schedule`] | Learning-rate schedules; [`ReduceOnPlateau`] |
//! | [`state`] | [`StateDict`]: saving, loading, inspecting and editing the state |
//! | `checkpoint` | Checkpoints of whole runs in files (feature `checkpoint`) |
//! | [`objective`] | Losses of linear models with their gradients, over all rows or batches |
//! | [`reduce`] | Reproducible sums, dot products and norms of arrays |
//! | [`hutchinson`] | An estimate of the diagonal of the Hessian, for [`Sophia`] |
//! | [`Exchange`] | Parameters divided among processes; the package `ndarray-optim-mpi` is for MPI |
//! | [`algorithm`] | Traits for custom algorithms and wrappers; [`hyper_parameters!`] |
//! | [`fit`] | Parts of a training loop: batches, stopping, history, learning-rate range test, gradient check |
//! | [`guide`] | Guides, including one for users of PyTorch and optax |
//!
//! # Algorithms
//!
//! | algorithm | summary |
//! |---|---|
//! | [`Sgd`] | Stochastic gradient descent with torch's momentum, dampening and Nesterov options |
//! | [`Momentum`] | Gradient descent along a running average of the gradients |
//! | [`RmsProp`] | The gradient divided by the root of a running average of its square |
//! | [`Adam`] | Bias-corrected running averages of the gradient and of its square |
//! | [`AdamW`] | Adam with decoupled weight decay |
//! | [`Adamax`] | Adam with the infinity norm in the denominator |
//! | [`NAdam`] | Adam with Nesterov momentum and a momentum schedule |
//! | [`RAdam`] | Adam with a rectified denominator: plain momentum in the first steps |
//! | [`Adagrad`] | The gradient divided by the root of the sum of all its past squares |
//! | [`Adadelta`] | RMSProp scaled by a running average of past steps: no learning rate to tune |
//! | [`Rprop`] | Element-wise step sizes adapted by the sign of the gradient |
//! | [`Asgd`] | Averaged SGD: gradient descent with the average of its iterates |
//! | [`AdaBelief`] | Adam that divides by the deviation of gradients from their running average |
//! | [`Yogi`] | Adam with additive updates of the second moment |
//! | [`Lion`] | The sign of a running average of gradients: one state array |
//! | [`Adan`] | Adam with a running average of gradient differences, for Nesterov momentum |
//! | [`SignSgd`] | Steps of size lr along the sign of the gradient |
//! | [`OptimisticGradientDescent`] | Gradient descent with a predicted next gradient, for games |
//! | [`AdEMAMix`] | AdamW with a second, very slow running average of the gradient |
//! | [`Adopt`] | Adam normalized by the previous second moment before averaging: converges for any beta2 |
//! | [`AcProp`] | The gradient divided by the root of its previous variance |
//! | [`Madgrad`] | Dual averaging with the cube root of the sum of squares |
//! | [`Cocob`] | Coin betting: no learning rate |
//! | [`AggMo`] | Aggregated momentum: the mean of several momentum buffers |
//! | [`Qhm`] | Quasi-hyperbolic momentum: a mixture of SGD and momentum |
//! | [`Tiger`] | Lion with a single beta |
//! | [`Signum`] | SignSGD with momentum |
//! | [`Padam`] | Adam with a partial power of the denominator: between SGD and Adam |
//! | [`Grams`] | The magnitude of Adam's update with the sign of the gradient |
//! | [`Ftrl`] | Follow the regularized leader: exact zeros under an L1 penalty |
//! | [`LaProp`] | Adam that normalizes before it averages |
//! | [`QHAdam`] | Quasi-hyperbolic Adam: the current gradient mixed into both moments |
//! | [`DiffGrad`] | Adam with smaller steps where the gradient hardly changes |
//! | [`AdaBound`] | Adam with learning rates clipped to bounds that converge to SGD's |
//! | [`ScheduleFreeSgd`] | SGD with averaging in place of a schedule |
//! | [`ScheduleFreeAdamW`] | AdamW with averaging in place of a schedule |
//! | [`NovoGrad`] | Momentum on gradients normalized by a running average of their layer-wise norm |
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
//! | [`Muon`] | Momentum with orthogonalized updates, for the matrices of networks |
//! | `Shampoo` | Adagrad with a full-matrix preconditioner for each axis (feature `linalg`) |
//! | `Soap` | Adam in the eigenbasis of Shampoo's preconditioners (feature `linalg`) |
//! | [`Mars`] | AdamW on variance-reduced gradients |
//! | [`Sophia`] | A running average of gradients divided by one of Hessian estimates, clipped |
//!
//! Hyper-parameters are public fields. Their names and defaults are torch's where torch has the
//! algorithm. They can be changed between steps with [`Optimizer::algorithm_mut`]. Presets such as
//! [`Adam::keras`], [`RmsProp::optax`] and [`Adan::paper`] set those of other libraries and papers:
//! see [`guide::dialects`].
//!
//! # Guarantees
//!
//! - **Errors instead of panics.** A step checks every name, shape and hyper-parameter before it
//!   changes the first element. A step that fails changes nothing and returns an [`Error`] that
//!   says what is wrong.
//! - **Reproducible results.** They are the same bits for any number of threads, chunk size, memory
//!   layout and SIMD width. Only the matrix products of [`Muon`], `Shampoo` and `Soap` can differ
//!   in their last bits between machines, and those of an [`objective`] with several outputs.
//! - **Any memory layout.** Arrays can be row-major, column-major, permuted, reversed, strided or
//!   sliced. State arrays have the memory order of the parameter.
//! - **No allocation.** After the first call a step on one thread allocates nothing beyond its
//!   [`Params`], except for wrappers and algorithms that transform whole arrays.
//! - **Exact resumption.** A run that is saved and resumed gives the same bits as one that is not
//!   interrupted: see [`state`].
//! - **No `unsafe` code** in the crate.
//!
//! # Features
//!
//! - `rayon` (default): steps of about 100 us or more use rayon's current thread pool; see
//!   [`Parallel`].
//! - `serde`: `Serialize` and `Deserialize` for hyper-parameters, [`AnyAlgorithm`],
//!   [`AnySchedule`], [`ReduceOnPlateau`], [`Group`], [`Parallel`] and [`StateDict`], which also
//!   converts to bytes.
//! - `safetensors` (implies `serde`): [`StateDict`] in safetensors files, which other languages can
//!   open.
//! - `checkpoint`: the module `checkpoint`, whose files survive crashes; checksums by crc32fast.
//! - `linalg`: `Shampoo` and `Soap`, whose matrix decompositions are those of nalgebra.

pub mod algorithm;
mod array;
mod catalogue;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
#[cfg(feature = "serde")]
mod config;
mod difference;
mod error;
pub mod fit;
pub mod guide;
mod hutchinson;
mod kernel;
mod lbfgs;
mod named_arrays;
mod nesting;
pub mod objective;
mod optim;
mod optimizer;
mod params;
mod policy;
mod random;
pub mod schedule;
mod select;
pub mod state;
pub mod wrap;

pub use catalogue::{AnyAlgorithm, AnyWrap, ComposedConfig, LookaheadConfig};
#[cfg(feature = "checkpoint")]
pub use checkpoint::{Checkpoint, CheckpointError, Checkpoints};
pub use error::Error;
pub use hutchinson::hutchinson;
pub use kernel::{InstructionSet, Parallel, instruction_set, reduce};
pub use lbfgs::{IntoLoss, Lbfgs, LbfgsConfig, LbfgsReport, LbfgsStop, LineSearch};
pub use named_arrays::{NamedArrays, NamedArraysMut};
#[doc(hidden)]
pub use named_arrays::{visit_named, visit_named_mut};
pub use ndarray;
pub use optim::*;
pub use optimizer::{
    Ascended, Division, Evaluating, Exchange, Group, GroupStats, Optimizer, Outcome, Sam,
};
pub use params::{Grad, Params, UNNAMED};
pub use policy::{Limits, NonFinite};
pub use schedule::{AnySchedule, ReduceOnPlateau, ReduceOnPlateauConfig, Schedule};
pub use select::Select;
pub use state::StateDict;
pub use wrap::Compose;

/// The examples of the README are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
