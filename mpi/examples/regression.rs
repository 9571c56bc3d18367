//! Logistic and softmax regression with rows divided over ranks, next to one process with all rows.
//!
//! ```sh
//! cargo build --release --example regression
//! mpirun -n 4 target/release/examples/regression
//! ```
use ndarray::{Array1, Array2, Axis, s};
use ndarray_optim::{
    Adam, NamedArrays, NamedArraysMut, Optimizer,
    objective::{Objective, Regression},
};
use ndarray_optim_mpi::{Batch, Config, Distributed, Mode, Ranks};
use std::{error::Error, fs, path::Path, time::Duration};

const STEPS: u64 = 300;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let ranks = Ranks::start(Duration::from_secs(60))?;

    let (x, y) = read_csv("breast_cancer.csv")?;
    let x = (&x - &(x.sum_axis(Axis(0)) / x.nrows() as f64)) / x.std_axis(Axis(0), 0.0);
    let mut problem = Regression::logistic(&x, &y)?.l2(0.005);
    let zeros = problem.zeros();
    fit(&ranks, "logistic", &mut problem, &zeros)?;

    let (x, y) = read_csv("digits.csv")?;
    let (x, classes) = (x / 16.0, y.mapv(|class| class as usize));
    let mut problem = Regression::softmax(&x, &classes, 10)?.l2(0.005);
    let zeros = problem.zeros();
    fit(&ranks, "softmax", &mut problem, &zeros)
}

/// Fits a model in one process and on all ranks, and says how far apart the results are.
fn fit<O>(ranks: &Ranks, name: &str, problem: &mut O, zeros: &O::Model) -> Result<(), Failure>
where
    O: Objective<Error: Error + 'static>,
    O::Model: NamedArrays<f64> + NamedArraysMut<f64> + Clone,
{
    let (mut one, mut expected, mut grads) = (adam(), zeros.clone(), zeros.clone());
    for _ in 0..STEPS {
        problem.value_and_grad(&expected, &mut grads)?;
        one.step_with(&mut expected, &grads)?;
    }

    // The rows of this rank.
    let cut = |rank: usize| problem.rows() * rank / ranks.size();
    let rows = cut(ranks.rank())..cut(ranks.rank() + 1);
    let weight = rows.len() as f64;
    for mode in [Mode::Replicated, Mode::Sharded] {
        let mut model = zeros.clone();
        let mut optimizer = Distributed::new(ranks, Config::new(mode), adam(), &model)?;
        for _ in 0..STEPS {
            let loss = Some(
                problem
                    .batch(rows.clone())
                    .value_and_grad(&model, &mut grads)?,
            );
            optimizer.step(&mut model, &grads, Batch { weight, loss })?;
        }
        optimizer.check_equal(&model)?;

        let pairs = model.views().into_iter().zip(expected.views());
        let apart =
            pairs.map(|((_, a), (_, b))| (&a - &b).fold(0.0, |max: f64, x| max.max(x.abs())));
        let apart = apart.fold(0.0, f64::max);
        let loss = problem.value(&model)?;
        println!(
            "{name}, {mode:?}, rank {} of {}: {weight} rows, state of {} elements, loss {loss:.12}, \
             within {apart:.0e} of one process",
            ranks.rank(),
            ranks.size(),
            optimizer.owned(),
        );
        assert!(apart < 1e-9);
    }
    Ok(())
}

fn adam() -> Optimizer<f64> {
    Optimizer::new(Adam::new(0.03))
}

/// All columns but the last, and the last, of a file of the examples of `ndarray-optim`.
fn read_csv(name: &str) -> Result<(Array2<f64>, Array1<f64>), Failure> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
    let csv = fs::read_to_string(dir.join(name))?;
    let columns = csv.lines().next().ok_or("no header")?.split(',').count();
    let fields = csv.lines().skip(1).flat_map(|line| line.split(','));
    let values: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    let table = Array2::from_shape_vec((values.len() / columns, columns), values)?;
    let x = table.slice(s![.., ..columns - 1]).to_owned();
    Ok((x, table.column(columns - 1).to_owned()))
}
