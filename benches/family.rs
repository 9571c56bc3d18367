//! One step of every optimizer over 1000 x 1000 `f32` elements on one thread, relative to the
//! memory limit: a rule with as many state arrays and almost no arithmetic, run by the same driver.
//! Prints the rows of `docs/family.md`.
//!
//! `cargo bench --bench family`
mod common;

use common::{Variant, compare, limit, numbers};
use ndarray::Array2;
use ndarray_optim::{AnyAlgorithm, Optimizer, Parallel};

const SIDE: usize = 1000;
const N: usize = SIDE * SIDE;

/// Number of state arrays, nanoseconds per element, and ratio to the memory limit.
fn measure(algorithm: &AnyAlgorithm) -> (usize, f64, f64) {
    let g = numbers::<f32>(N, 2);
    let (mut lp, mut state) = (numbers::<f32>(N, 1), std::array::from_fn(|_| vec![0.0; N]));
    let matrix = |numbers: Vec<f32>| Array2::from_shape_vec((SIDE, SIDE), numbers).unwrap();
    let (mut p, grad) = (matrix(numbers(N, 1)), matrix(g.clone()));
    let mut optimizer = Optimizer::new(algorithm.clone());
    optimizer.parallel = Parallel::SERIAL;
    optimizer.update_with_loss(&mut p, &grad, 1.0).unwrap();
    let arrays = optimizer.state_view().params[0].arrays.len();
    let variants = &mut [
        Variant::new("limit", || limit(arrays, &mut lp, &g, &mut state)),
        Variant::new("step", || {
            _ = optimizer.update_with_loss(&mut p, &grad, 1.0).unwrap()
        }),
    ];
    let times = compare(variants, 2e-3, 21);
    (arrays, times[1].seconds * 1e9 / N as f64, times[1].ratio)
}

fn main() {
    println!(
        "| optimizer | state arrays | ns an element | step / memory limit |\n|---|---|---|---|"
    );
    for algorithm in AnyAlgorithm::all() {
        let (arrays, time, ratio) = measure(&algorithm);
        println!(
            "| `{}` | {arrays} | {time:.2} | {ratio:.2} |",
            algorithm.name()
        );
    }
}
