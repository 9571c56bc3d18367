//! Logistic regression with an L2 penalty on real data: which of 569 tumors are benign? Prints how
//! many steps Momentum, RMSProp and Adam take to come within 1e-6 of the exact optimum.
//!
//! ```sh
//! cargo run --release --example logistic_regression
//! ```
use ndarray::{Array0, Array1, Array2, Axis, arr0, s};
use ndarray_optim::{Adam, Momentum, Optimizer, Params, RmsProp};
use std::error::Error;

const L2: f64 = 0.005;
/// The smallest possible loss, from a direct solver: `breast_cancer_logistic_l2` in
/// `data/optima.json`.
const OPTIMUM: f64 = 0.0995913754847055;

/// Standardized features, and the class from the last column, of a CSV file with a header.
fn read(csv: &str, columns: usize) -> Result<(Array2<f64>, Array1<f64>), Box<dyn Error>> {
    let fields = csv.lines().skip(1).flat_map(|line| line.split(','));
    let values: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    let table = Array2::from_shape_vec((values.len() / columns, columns), values)?;
    let (x, y) = (table.slice(s![.., ..-1]), table.column(columns - 1));
    let mean = x.mean_axis(Axis(0)).ok_or("the file has no rows")?;
    Ok(((&x - &mean) / x.std_axis(Axis(0), 0.0), y.to_owned()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (x, y) = read(include_str!("data/breast_cancer.csv"), 31)?;
    let n = y.len() as f64;
    // The mean of log(1 + e^z) - y z with z = X w + b, plus L2 |w|^2, and its gradients by w and b.
    let loss = |w: &Array1<f64>, b: &Array0<f64>| {
        let z = x.dot(w) + b;
        let value = (z.exp().ln_1p() - &y * &z).sum() / n;
        let by_z = (1.0 / (1.0 + (-z).exp()) - &y) / n;
        let dw = x.t().dot(&by_z) + 2.0 * L2 * w;
        (value + L2 * w.dot(w), dw, arr0(by_z.sum()))
    };

    let optimizers = [
        Optimizer::new(Momentum::new(1.0)),
        Optimizer::new(RmsProp::new(0.003)),
        Optimizer::new(Adam::new(0.03)),
    ];
    for mut optimizer in optimizers {
        let (mut w, mut b) = (Array1::zeros(x.ncols()), arr0(0.0));
        let (mut value, mut dw, mut db) = loss(&w, &b);
        while value - OPTIMUM > 1e-6 && optimizer.steps("weight") < 20_000 {
            let mut params = Params::new();
            params
                .add("weight", &mut w, &dw)?
                .add("bias", &mut b, &db)?;
            optimizer.step(params)?;
            (value, dw, db) = loss(&w, &b);
        }
        let z = x.dot(&w) + &b;
        let right = z
            .iter()
            .zip(&y)
            .filter(|(z, y)| (**z > 0.0) == (**y == 1.0));
        let correct = right.count();
        let (name, steps, gap) = (optimizer.name(), optimizer.steps("weight"), value - OPTIMUM);
        println!("{name:>8}: {steps:5} steps, gap {gap:.1e}, {correct} of {n} rows correct");
    }
    Ok(())
}
