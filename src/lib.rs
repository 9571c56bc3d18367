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
//! hyper-parameters of their own: see [`ParamGroup`]. [`OptimizerConfig`] describes any optimizer in a file. What goes around an
//! optimizer, from clipping to averages of the parameters, is in [`wrap`], learning rates that change in [`schedule`].
//!
//! # Optimizers
//!
//! | optimizer | what it is |
//! |---|---|
//! | [`Sgd`] | Gradient descent, with torch's momentum, dampening and Nesterov form |
//! | [`Momentum`] | Gradient descent along an exponential average of the gradients |
//! | [`RmsProp`] | The gradient over the root of the average of its squares |
//! | [`Adam`] | Averages of the gradient and of its squares, bias-corrected |
//! | [`AdamW`] | Adam with weight decay decoupled from the gradient |
//! | [`Adamax`] | Adam with the largest gradient, slowly forgotten, in place of the root of squares |
//! | [`NAdam`] | Adam with Nesterov momentum and a momentum that grows |
//! | [`RAdam`] | Adam that waits with its denominator until the average of squares can be trusted |
//! | [`Adagrad`] | The gradient over the root of the sum of all its squares |
//! | [`Adadelta`] | RMSProp whose steps have the size of earlier steps: no learning rate to tune |
//! | [`Rprop`] | Steps of its own size for each coordinate, by the sign of the gradient alone |
//! | [`Asgd`] | Gradient descent with the average of its iterates kept aside |
//! | [`AdaBelief`] | Adam that divides by how far gradients are from their average |
//! | [`Yogi`] | Adam whose average of squares changes by steps of controlled size |
//! | [`Lion`] | The sign of an average of gradients: one array of state, steps of one size |
//! | [`Adan`] | Adam with an average of gradient differences: Nesterov momentum without a second gradient |
//! | [`SignSgd`] | Steps of the size lr along the sign of the gradient |
//! | [`OptimisticGradientDescent`] | Gradient descent that predicts the next gradient: for games |
//! | [`AdEMAMix`] | AdamW with a second, very slow average of the gradient |
//! | [`Adopt`] | Adam that divides before it averages, by the squares of before: converges with any beta2 |
//! | [`AcProp`] | The raw gradient over the root of an earlier variance |
//! | [`Madgrad`] | Dual averaging with the cube root of the sum of squares |
//! | [`Cocob`] | Coin betting: no learning rate at all |
//! | [`AggMo`] | Several momentum buffers with different memories, averaged |
//! | [`Qhm`] | A mixture of plain gradient descent and momentum |
//! | [`Tiger`] | The sign of the average gradient, with decay |
//! | [`Signum`] | The sign of the average gradient |
//! | [`Padam`] | Adam with a partial power of the denominator: between SGD and Adam |
//! | [`Grams`] | The size of Adam's step with the sign of the gradient |
//! | [`Ftrl`] | Follow the regularised leader: exact zeros under an L1 penalty |
//! | [`LaProp`] | Adam that normalises first and averages afterwards |
//! | [`QHAdam`] | Adam with mixtures of the gradient and its averages in both places |
//! | [`DiffGrad`] | Adam that slows down where the gradient hardly changes |
//! | [`AdaBound`] | Adam that turns into SGD: its rates are clipped ever closer to one |
//! | [`ScheduleFreeSgd`] | SGD that averages instead of lowering its learning rate |
//! | [`ScheduleFreeAdamW`] | AdamW that averages instead of lowering its learning rate |
//! | [`NovoGrad`] | Gradients normalised by the average norm of their whole array, then momentum |
//! | [`Lamb`] | AdamW with steps in proportion to the norm of each array: for very large batches |
//! | [`Lars`] | SGD with momentum and steps in proportion to the norm of each array |
//! | [`Fromage`] | Steps in proportion to the norm of each array, which they keep from growing |
//! | [`PolyakSgd`] | The step that would reach the optimum, if its value is known |
//! | [`Momo`] | Momentum with the step that a model of the objective allows |
//! | [`MomoAdam`] | Adam with the step that a model of the objective allows |
//! | [`Prodigy`] | AdamW that estimates its own learning rate |
//! | [`DAdaptAdamW`] | AdamW that estimates its own learning rate, by D-Adaptation |
//! | [`Dog`] | SGD whose rate is the distance travelled over the root of all squared gradients |
//! | [`Dowg`] | SGD whose rate is the distance travelled over the root of weighted squared gradients |
//! | [`Adafactor`] | Adam with its average of squares kept by rows and columns: next to no memory |
//! | [`Sm3`] | Adagrad with its sums kept by rows and columns: next to no memory |
//! | [`Muon`] | Momentum with steps made orthogonal, for the matrices of networks |
//! | `Shampoo` | Adagrad with a matrix for each axis in place of a number for each element (feature `linalg`) |
//! | `Soap` | Adam in the slowly turning eigenbasis of Shampoo's matrices (feature `linalg`) |
//! | [`Mars`] | AdamW on gradients with their variance reduced |
//! | [`Sophia`] | An average of gradients over estimates of the curvature, clipped |
//!
//! Hyper-parameters are public fields of a plain struct ([`AdamConfig`], ...) in torch's names and with torch's defaults, where
//! torch has the optimizer; `optimizer.config` may change between steps. Where a name means other numbers elsewhere, a function
//! of the struct sets them: [`AdamConfig::keras`], [`RmsPropConfig::optax`], [`AdanConfig::paper`], ...
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
//! - `serde`: hyper-parameters, [`OptimizerConfig`], [`Schedule`], [`ReduceOnPlateau`], [`ParamGroup`] and [`Parallel`] can be
//!   read and written; [`StateDict`] too, in any format, and as bytes.
//! - `safetensors` (with `serde`): [`StateDict`] in files of safetensors, which other languages open.
//! - `checkpoint`: the `checkpoint` module, which keeps runs in files that survive crashes; checksums by crc32fast.
//! - `linalg`: `Shampoo` and `Soap`, which need eigenvalues and orthogonal decompositions of matrices: those of nalgebra.

#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod error;
mod fields;
mod fused;
mod hutchinson;
pub mod kernel;
mod optim;
mod optimizer;
mod params;
mod random;
pub mod schedule;
pub mod state;
pub mod wrap;

#[cfg(feature = "checkpoint")]
pub use checkpoint::{Checkpoint, CheckpointError, Checkpoints};
pub use error::Error;
pub use fields::Fields;
pub use fused::{Config, Factor, Fused, GroupReport, HyperParameters, Lane, Now, RowWise, Scalars, Whole};
pub use hutchinson::hutchinson;
pub use kernel::Parallel;
pub use optim::*;
pub use optimizer::{
    ComposedConfig, Limits, LookaheadConfig, NonFinite, Optimizer, OptimizerConfig, Outcome, ParamGroup, Visit,
};
pub use params::{Lending, Params};
pub use schedule::{ReduceOnPlateau, ReduceOnPlateauConfig, Schedule, Scheduled};
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
