//! Runs of optimizers on problems with known optima.
pub mod landscape;
pub mod network;
pub mod problem;
pub mod train;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
