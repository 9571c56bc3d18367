//! The optimizers that are compared, one file for each family.
mod burn;
mod candle;
mod limit;
mod optirs;
mod python;
mod this_crate;
mod zip;

use crate::case::{Case, Dtype};
use ndarray_optim::algorithm::Element;
use std::time::Instant;

/// The reason why a peer takes no part in a case.
pub type Skip = String;

/// A library, or a loop written with one.
pub trait Peer {
    /// The column of the tables.
    fn name(&self) -> &'static str;

    /// Parameters and states, before the first step.
    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip>;

    /// What it is, with its version, if that says more than the name.
    fn about(&self) -> Option<String> {
        None
    }
}

/// A peer that is ready to do steps.
pub trait Run: Send {
    /// The time of this many steps, in seconds.
    fn steps(&mut self, count: usize) -> Result<f64, Skip>;

    /// [`ends`](crate::case::ends) of the parameters.
    fn probe(&mut self) -> Result<Vec<f64>, Skip>;
}

/// This crate, the one that others are compared with.
pub fn this_crate() -> Box<dyn Peer> {
    Box::new(this_crate::ThisCrate)
}

/// The memory limit, in several partitions.
pub fn limits() -> Vec<Box<dyn Peer>> {
    limit::all()
}

/// All others, in the order of the tables.
pub fn others() -> Vec<Box<dyn Peer>> {
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(zip::NdarrayZip),
        Box::new(candle::Candle),
        Box::new(burn::Burn),
        Box::new(optirs::Optirs),
    ];
    peers.extend(python::all());
    peers
}

/// Runs in which the step is a function.
trait Step: Send {
    fn step(&mut self) -> Result<(), Skip>;
    fn ends(&mut self) -> Result<Vec<f64>, Skip>;
}

impl<S: Step> Run for S {
    fn steps(&mut self, count: usize) -> Result<f64, Skip> {
        let start = Instant::now();
        for _ in 0..count {
            self.step()?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn probe(&mut self) -> Result<Vec<f64>, Skip> {
        self.ends()
    }
}

/// Calls a generic function with the element type of a case.
macro_rules! by_dtype {
    ($function:ident($case:expr $(, $argument:expr)*)) => {
        match $case.dtype {
            Dtype::F32 => $function::<f32>($case $(, $argument)*),
            Dtype::F64 => $function::<f64>($case $(, $argument)*),
        }
    };
}
use by_dtype;

/// An error of a library as the reason to skip it.
fn skip(error: impl std::fmt::Display) -> Skip {
    error.to_string()
}

/// The version of a crate in this package's `Cargo.lock`.
pub fn version(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let entry = format!("name = \"{name}\"\nversion = \"");
    // The last one: other crates depend on older versions.
    let start = lock.rfind(&entry).map(|at| at + entry.len());
    start
        .and_then(|at| lock[at..].split('"').next())
        .unwrap_or("?")
}
