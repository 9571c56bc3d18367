//! Fits a logistic regression to the breast cancer data: how many steps each optimizer takes to the optimum.
//!
//! `cargo run --release --example logistic_regression -- --help`
mod common;

use clap::Parser;
use common::{data::shipped, objective::Objective, report};
use ndarray_optim::{Adam, Momentum, Optimizer, Params, RmsProp};
use std::{error::Error, path::PathBuf, process::ExitCode};

/// Logistic regression with L2 penalty by gradient descent in three forms.
#[derive(Parser)]
struct Args {
    /// CSV file with a header line; the last column is the class, 0 or 1
    #[arg(long, default_value_os_t = shipped("breast_cancer.csv"))]
    data: PathBuf,
    /// The largest number of steps over all rows
    #[arg(long, default_value_t = 20_000)]
    steps: usize,
    /// On the shipped data, stop at this gap to the optimum
    #[arg(long, default_value_t = 1e-6)]
    gap: f64,
}

fn main() -> ExitCode {
    report(run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let objective = Objective::breast_cancer(&args.data)?;
    let optimizers = [
        ("momentum", Optimizer::new(Momentum::new(1.0))),
        ("rmsprop", Optimizer::new(RmsProp::new(0.003))),
        ("adam", Optimizer::new(Adam::new(0.03))),
    ];
    println!("{} rows, {} features", objective.rows(), objective.features().len());
    for (name, mut optimizer) in optimizers {
        let mut model = objective.zeros();
        let mut step = 0;
        let (mut value, mut grad) = objective.gradient(&model);
        while step < args.steps && objective.gap(value).is_none_or(|gap| gap > args.gap) {
            let mut params = Params::new();
            params.add("weight", &mut model.w, &grad.w)?.add("bias", &mut model.b, &grad.b)?;
            optimizer.step(params)?;
            (value, grad) = objective.gradient(&model);
            step += 1;
        }
        let accuracy = 100.0 * objective.accuracy(&model);
        println!("{name:>9}: loss {value:.8} after {step:5} steps, {accuracy:.1} % of the rows right");
        if let Some(gap) = objective.gap(value) {
            println!("{:>9}  gap to the optimum {gap:.1e}", "");
        }
    }
    Ok(())
}
