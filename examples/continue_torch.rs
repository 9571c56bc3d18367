//! Continues a run that torch began: loads what `torch_state.py from-torch` wrote, makes 100 steps
//! of the logistic regression in `continue_torch.py`, and saves for `torch_state.py to-torch`.
//! `docs/state.md` has the commands for the whole way there and back.
//!
//! ```sh
//! cargo run --release --example continue_torch --features safetensors -- FROM TO
//! ```
use ndarray::{Array1, Array2, Axis, s};
use ndarray_optim::{Optimizer, Params, StateDict};
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [from, to] = &args[..] else {
        return Err("expected two files: FROM TO".into());
    };
    let (state, params) = StateDict::from_safetensors(&fs::read(from)?)?;
    // The state has the algorithm with its hyper-parameters, the groups and the running averages.
    let mut optimizer = Optimizer::<f64>::from_state(state)?;
    let param = |name| {
        let found = params.get(name).and_then(|data| data.view::<f64>());
        found.ok_or(format!("the file has no `{name}` of f64"))
    };
    // `torch.nn.Linear` has a weight of shape [outputs, inputs], here [1, 30].
    let mut w: Array2<f64> = param("weight")?.to_owned().into_dimensionality()?;
    let mut b: Array1<f64> = param("bias")?.to_owned().into_dimensionality()?;

    // Standardized features, and the class in the last column.
    let lines = include_str!("data/breast_cancer.csv").lines().skip(1);
    let fields = lines.flat_map(|line| line.split(','));
    let values: Result<Vec<f64>, _> = fields.map(str::parse).collect();
    let table = Array2::from_shape_vec((569, 31), values?)?;
    let (x, y) = (table.slice(s![.., ..30]), table.column(30));
    let mean = x.sum_axis(Axis(0)) / 569.0;
    let x = (&x - &mean) / x.std_axis(Axis(0), 0.0);

    for _ in 0..100 {
        let z = x.dot(&w.row(0)) + &b;
        let by_z = ((1.0 / (1.0 + (-z).exp()) - y) / 569.0).insert_axis(Axis(0));
        let (dw, db) = (by_z.dot(&x) + 0.01 * &w, by_z.sum_axis(Axis(1)));
        let mut params = Params::new();
        params.add("weight", &mut w, &dw)?;
        params.add("bias", &mut b, &db)?;
        optimizer.step(params)?;
    }
    println!("{} steps in all", optimizer.steps("weight"));

    let params = [
        ("weight", w.view().into_dyn()),
        ("bias", b.view().into_dyn()),
    ];
    fs::write(to, optimizer.state_view().to_safetensors_with(params)?)?;
    Ok(())
}
