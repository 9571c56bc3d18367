//! Goes on with a run that torch began: `docs/state.md` has the commands of the whole way there and back.
//!
//! `cargo run --release --example continue_torch -- state.safetensors continued.safetensors`
mod common;

use clap::Parser;
use common::{
    data::shipped,
    objective::{Model, Objective},
    report,
};
use ndarray::{Array, Dimension};
use ndarray_optim::{Optimizer, Params, StateDict, state::Data};
use std::{collections::BTreeMap, error::Error, fs, path::PathBuf, process::ExitCode};

/// Continues the logistic regression of `continue_torch.py`.
#[derive(Parser)]
struct Args {
    /// What `torch_state.py from-torch` has written
    from: PathBuf,
    /// Where to write the run after these steps, for `torch_state.py to-torch`
    to: PathBuf,
    /// The number of steps
    #[arg(long, default_value_t = 100)]
    steps: usize,
}

fn main() -> ExitCode {
    report(run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let (state, params) = StateDict::from_safetensors(&fs::read(&args.from)?)?;
    let mut optimizer = Optimizer::<f64>::from_state(state)?; // AdamW with torch's hyper-parameters, groups and averages
    // torch.nn.Linear keeps its weight as outputs x features.
    let mut model = Model { w: param(&params, "weight")?.reversed_axes(), b: param(&params, "bias")? };

    let objective = Objective::breast_cancer(&shipped("breast_cancer.csv"))?;
    println!("loss {:.12} after {} steps", objective.value(&model), optimizer.steps("weight"));
    for _ in 0..args.steps {
        let (_, grad) = objective.gradient(&model);
        let mut lent = Params::new();
        lent.add("weight", model.w.view_mut().reversed_axes(), grad.w.t())?.add("bias", &mut model.b, &grad.b)?;
        optimizer.step(lent)?;
    }
    println!("loss {:.12} after {} steps", objective.value(&model), optimizer.steps("weight"));

    let params = [("weight", model.w.t().into_dyn()), ("bias", model.b.view().into_dyn())];
    fs::write(&args.to, optimizer.state_view().to_safetensors_with(params)?)?;
    Ok(())
}

/// A parameter in the file.
fn param<D: Dimension>(params: &BTreeMap<String, Data<'_>>, name: &str) -> Result<Array<f64, D>, Box<dyn Error>> {
    let found = params.get(name).and_then(|data| data.view()).ok_or_else(|| format!("the file has no `{name}` of f64"))?;
    Ok(found.to_owned().into_dimensionality()?)
}
