//! Fits a linear regression to the diabetes data with Momentum, RMSProp and Adam, next to the exact least-squares solution.
//!
//! `cargo run --release --example linear_regression -- --help`
mod common;

use clap::Parser;
use common::{
    data::shipped,
    objective::{Model, Objective},
    report,
};
use ndarray_optim::{Adam, Momentum, Optimizer, Params, RmsProp};
use std::{error::Error, path::PathBuf, process::ExitCode};

/// Linear regression by gradient descent in three forms.
#[derive(Parser)]
struct Args {
    /// CSV file with a header line; the last column is the target
    #[arg(long, default_value_os_t = shipped("diabetes.csv"))]
    data: PathBuf,
    /// Steps over all rows
    #[arg(long, default_value_t = 5000)]
    steps: usize,
}

fn main() -> ExitCode {
    report(run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let objective = Objective::diabetes(&args.data)?;
    let optimizers = [
        ("momentum", Optimizer::new(Momentum::new(0.3))),
        ("rmsprop", Optimizer::new(RmsProp::new(0.1))),
        ("adam", Optimizer::new(Adam::new(1.0))),
    ];
    println!("{} rows, {} features; mean squared error / 2", objective.rows(), objective.features().len());
    let mut models = Vec::new();
    for (name, mut optimizer) in optimizers {
        let mut model = objective.zeros();
        let start = objective.value(&model);
        for _ in 0..args.steps {
            let (_, grad) = objective.gradient(&model);
            let mut params = Params::new();
            params.add("weight", &mut model.w, &grad.w)?.add("bias", &mut model.b, &grad.b)?;
            optimizer.step(params)?;
        }
        println!("{name:>9}: {start:.3} -> {:.6} after {} steps", objective.value(&model), args.steps);
        models.push((name, model));
    }
    println!("\n{:>9}  {}", "", models.iter().map(|(name, _)| format!("{name:>12}")).collect::<String>());
    let row = |name: &str, of: &dyn Fn(&Model) -> String| {
        println!("{name:>9}  {}", models.iter().map(|(_, model)| format!("{:>12}", of(model))).collect::<String>());
    };
    for (i, feature) in objective.features().iter().enumerate() {
        row(feature, &|model| format!("{:.5}", model.w[[i, 0]]));
    }
    row("bias", &|model| format!("{:.5}", model.b[0]));
    if let Some(optimum) = objective.optimum {
        row("gap", &|model| format!("{:.1e}", objective.value(model) - optimum));
        println!("\nThe gap is to the exact least-squares optimum, {optimum}.");
    }
    Ok(())
}
