//! Linear regression, the progression of diabetes in 442 patients: L-BFGS, Momentum, RMSProp and
//! Adam, each judged by the gap between its loss and the exact optimum.
//!
//! ```sh
//! cargo run --release --example linear_regression
//! ```
mod common;

use ndarray_optim::objective::{Objective, Regression};
use ndarray_optim::{Adam, Lbfgs, LbfgsConfig, Momentum, Optimizer, RmsProp};
use std::{error::Error, time::Instant};

/// The smallest possible loss, from a direct solver: `diabetes_ols` in `data/optima.json`.
const OPTIMUM: f64 = 1429.848173793375;

fn main() -> Result<(), Box<dyn Error>> {
    let (x, y) = common::read_csv("diabetes.csv")?;
    let x = common::standardize(&x);
    let mut problem = Regression::least_squares(&x, &y)?;

    let (start, mut model, mut grads) = (Instant::now(), problem.zeros(), problem.zeros());
    let report = Lbfgs::new(LbfgsConfig::precise()).minimize(&mut model, &mut grads, |m, g| {
        Ok::<_, Box<dyn Error>>(problem.value_and_grad(m, g)?)
    })?;
    let (gap, n, time) = (report.loss - OPTIMUM, report.evaluations, start.elapsed());
    println!("  L-BFGS: gap {gap:8.1e} after {n:4} evaluations, {time:.1?}");

    for mut optimizer in [
        Optimizer::new(Momentum::new(0.3)),
        Optimizer::new(RmsProp::new(0.1)),
        Optimizer::new(Adam::new(1.0)),
    ] {
        let (start, mut model) = (Instant::now(), problem.zeros());
        for _ in 0..5000 {
            problem.value_and_grad(&model, &mut grads)?;
            optimizer.step_with(&mut model, &grads)?;
        }
        let (name, time) = (optimizer.name(), start.elapsed());
        let gap = problem.value(&model)? - OPTIMUM;
        println!("{name:>8}: gap {gap:8.1e} after 5000 steps, {time:.1?}");
    }
    Ok(())
}
