//! Regression with outliers: of the diabetes data, every tenth target has lost its decimal point.
//! How far the weights move from those of the data without errors, by least squares and by Huber's
//! loss.
//!
//! ```sh
//! cargo run --release --example huber_regression
//! ```
mod common;

use ndarray::{Array1, s};
use ndarray_optim::objective::{Objective, Regression};
use ndarray_optim::{Lbfgs, LbfgsConfig};
use std::{error::Error, time::Instant};

fn fit(mut problem: Regression<f64>, name: &str) -> Result<Array1<f64>, Box<dyn Error>> {
    let (start, mut model, mut grads) = (Instant::now(), problem.zeros(), problem.zeros());
    let report = Lbfgs::new(LbfgsConfig::precise()).minimize(&mut model, &mut grads, |m, g| {
        Ok::<_, Box<dyn Error>>(problem.value_and_grad(m, g)?)
    })?;
    let (n, loss, time) = (report.evaluations, report.loss, start.elapsed());
    println!(
        "{name:>13}: loss {loss:.6} after {n} evaluations, {time:.1?}: {}",
        report.stop
    );
    Ok(model.weights)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (x, y) = common::read_csv("diabetes.csv")?;
    let x = common::standardize(&x);
    let mut wrong = y.clone();
    wrong.slice_mut(s![..;10]).mapv_inplace(|y| 10.0 * y);

    let clean = fit(Regression::least_squares(&x, &y)?, "without errors")?;
    let squares = fit(Regression::least_squares(&x, &wrong)?, "least squares")?;
    let huber = fit(Regression::huber(&x, &wrong, 70.0)?, "Huber")?;
    let distance = |weights: &Array1<f64>| (weights - &clean).pow2().sum().sqrt();
    let (squares, huber) = (distance(&squares), distance(&huber));
    println!("distance of the weights: {squares:.1} by least squares, {huber:.1} by Huber's loss");
    Ok(())
}
