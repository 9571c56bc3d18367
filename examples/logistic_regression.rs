//! Logistic regression with an L2 penalty: which of 569 tumors are benign? How many steps Momentum,
//! RMSProp and Adam take to come within 1e-6 of the exact optimum, next to L-BFGS.
//!
//! ```sh
//! cargo run --release --example logistic_regression
//! ```
mod common;

use ndarray_optim::objective::{Objective, Regression};
use ndarray_optim::{Adam, Lbfgs, LbfgsConfig, Momentum, Optimizer, RmsProp, fit::Stop};
use std::{error::Error, time::Instant};

/// The smallest possible loss: `breast_cancer_logistic_l2` in `data/optima.json`.
const OPTIMUM: f64 = 0.0995913754847055;

fn main() -> Result<(), Box<dyn Error>> {
    let (x, y) = common::read_csv("breast_cancer.csv")?;
    let x = common::standardize(&x);
    let mut problem = Regression::logistic(&x, &y)?.l2(0.005);
    let mut grads = problem.zeros();
    for mut optimizer in [
        Optimizer::new(Momentum::new(1.0)),
        Optimizer::new(RmsProp::new(0.003)),
        Optimizer::new(Adam::new(0.03)),
    ] {
        let (start, mut model) = (Instant::now(), problem.zeros());
        let mut stop = Stop::new().target(OPTIMUM + 1e-6).steps(20_000);
        let mut loss = problem.value_and_grad(&model, &mut grads)?;
        while stop.observe(loss, None).is_none() {
            optimizer.step_with(&mut model, &grads)?;
            loss = problem.value_and_grad(&model, &mut grads)?;
        }
        let (name, time) = (optimizer.name(), start.elapsed());
        let n = optimizer.steps("weights");
        println!("{name:>8}: {n:4} steps, {time:.1?}");
    }
    let (start, mut model) = (Instant::now(), problem.zeros());
    let report = Lbfgs::new(LbfgsConfig::precise()).minimize(&mut model, &mut grads, |m, g| {
        Ok::<_, Box<dyn Error>>(problem.value_and_grad(m, g)?)
    })?;
    let (gap, n, time) = (report.loss - OPTIMUM, report.evaluations, start.elapsed());
    let classes = problem.predict_class(&model, &x)?;
    let right = classes.iter().zip(&y).filter(|&(&k, &y)| k as f64 == y);
    let right = right.count();
    println!("  L-BFGS: {n:4} evaluations, {time:.1?}: gap {gap:.1e}, {right} of 569 rows correct");
    Ok(())
}
