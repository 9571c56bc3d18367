//! Parts of a training loop: batches, stopping, a record of values, the range of learning rates.
//!
//! The loop stays yours; each part is an ordinary value that does one thing.
//!
//! | | |
//! |---|---|
//! | [`Batches`] | Shuffled rows, batch by batch |
//! | [`Stop`] | When to stop, and why |
//! | [`History`] | Values by step and name; CSV and JSON lines |
//! | [`LrRange`] | Learning-rate range test |
//! | [`check_gradient`] | Compares gradients with differences of the loss |
//!
//! ```
//! use ndarray::{Array1, array};
//! use ndarray_optim::{Adam, Optimizer, fit::{Batches, History, Stop, StopReason}};
//!
//! let y = Array1::linspace(0.0, 2.0, 101); // the mean is 1
//! let loss = |theta: f64, rows: &[usize]| {
//!     rows.iter().map(|&row| (theta - y[row]).powi(2)).sum::<f64>() / rows.len() as f64
//! };
//!
//! let all: Vec<usize> = (0..y.len()).collect();
//! let (mut theta, mut best) = (array![5.0], array![0.0]);
//! let mut adam = Optimizer::new(Adam::new(0.1));
//! let mut batches = Batches::new(y.len(), 10, 7)?;
//! let mut stop = Stop::new().steps(2000).patience(20);
//! let mut history = History::new();
//! let reason = loop {
//!     let value = loss(theta[0], &all);
//!     history.push(stop.observed(), [("loss", value)]);
//!     let reason = stop.observe(value, None);
//!     if stop.improved() {
//!         best.assign(&theta);
//!     }
//!     if let Some(reason) = reason {
//!         break reason;
//!     }
//!     let rows = batches.next_batch();
//!     let mean = rows.iter().map(|&row| y[row]).sum::<f64>() / rows.len() as f64;
//!     let grad = 2.0 * (&theta - mean);
//!     adam.update(&mut theta, &grad)?;
//! };
//! assert_eq!(reason, StopReason::Patience);
//! assert!((best[0] - 1.0).abs() < 0.05, "{best}");
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
mod batches;
mod check;
mod history;
mod lr_range;
mod stop;

pub use batches::Batches;
pub use check::{
    GradientCheck, GradientEntry, GradientError, GradientReport, Value, check_gradient,
};
pub use history::{History, HistoryError};
pub use lr_range::LrRange;
pub use stop::{Stop, StopReason};
