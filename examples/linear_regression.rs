//! Linear regression on real data, the progression of diabetes in 442 patients, with Momentum,
//! RMSProp and Adam. The exact least-squares optimum is known, so each optimizer is judged by the
//! gap between its loss and the optimum.
//!
//! ```sh
//! cargo run --release --example linear_regression
//! ```
use ndarray::{Array0, Array1, Array2, Axis, arr0, s};
use ndarray_optim::{Adam, Momentum, Optimizer, Params, RmsProp};
use std::error::Error;

/// The smallest possible loss, from a direct solver: `diabetes_ols` in `data/optima.json`.
const OPTIMUM: f64 = 1429.848173793375;

/// Standardized features, and the target from the last column, of a CSV file with a header.
fn read(csv: &str, columns: usize) -> Result<(Array2<f64>, Array1<f64>), Box<dyn Error>> {
    let fields = csv.lines().skip(1).flat_map(|line| line.split(','));
    let values: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    let table = Array2::from_shape_vec((values.len() / columns, columns), values)?;
    let (x, y) = (table.slice(s![.., ..-1]), table.column(columns - 1));
    let mean = x.mean_axis(Axis(0)).ok_or("the file has no rows")?;
    Ok(((&x - &mean) / x.std_axis(Axis(0), 0.0), y.to_owned()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (x, y) = read(include_str!("data/diabetes.csv"), 11)?;
    let n = y.len() as f64;
    // The loss |X w + b - y|^2 / 2n and its gradients by w and b.
    let loss = |w: &Array1<f64>, b: &Array0<f64>| {
        let residual = x.dot(w) + b - &y;
        let value = residual.dot(&residual) / (2.0 * n);
        (value, x.t().dot(&residual) / n, arr0(residual.sum() / n))
    };

    println!("{} rows, optimum {OPTIMUM:.6}", y.len());
    let optimizers = [
        Optimizer::new(Momentum::new(0.3)),
        Optimizer::new(RmsProp::new(0.1)),
        Optimizer::new(Adam::new(1.0)),
    ];
    for mut optimizer in optimizers {
        let (mut w, mut b) = (Array1::zeros(x.ncols()), arr0(0.0));
        for _ in 0..5000 {
            let (_, dw, db) = loss(&w, &b);
            let mut params = Params::new();
            params
                .add("weight", &mut w, &dw)?
                .add("bias", &mut b, &db)?;
            optimizer.step(params)?;
        }
        let (name, gap) = (optimizer.name(), loss(&w, &b).0 - OPTIMUM);
        println!("{name:>8}: gap {gap:.1e} after 5000 steps, bias {b:.3}");
    }
    Ok(())
}
