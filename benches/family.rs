//! One step of every optimizer over 1000 x 1000 `f32` elements on one thread, relative to the
//! memory limit: a rule with as many state arrays and almost no arithmetic, run by the same driver,
//! after reading what the optimizer reads before its sweep. Prints the rows of `docs/family.md`.
//!
//! `cargo bench --bench family`, or with other sizes of the square: `-- 316 3162`
mod common;

use common::{Variant, compare, limit, numbers, read};
use ndarray::Array2;
use ndarray_optim::{AnyAlgorithm, Optimizer, Parallel};
use std::hint::black_box;

/// What is read before the sweep, for sums of whole arrays: the parameter, the gradient and state
/// arrays by their index; another pass after a space.
fn reads(algorithm: &str) -> &'static str {
    match algorithm {
        "novograd" | "polyak_sgd" => "g",
        "fromage" | "lars" => "pg",
        "lamb" | "momo_adam" => "pg01",
        "momo" => "pg0",
        "dog" | "dowg" => "g0",
        "prodigy" => "g23",
        "dadapt_adamw" => "g12",
        "adafactor" => "pg g",
        _ => "",
    }
}

/// Number of state arrays, nanoseconds per element, and ratio to the memory limit.
fn measure(algorithm: &AnyAlgorithm, side: usize) -> (usize, f64, f64) {
    let n = side * side;
    let g = numbers::<f32>(n, 2);
    let (mut lp, mut state) = (numbers::<f32>(n, 1), std::array::from_fn(|_| vec![0.0; n]));
    let matrix = |numbers: Vec<f32>| Array2::from_shape_vec((side, side), numbers).unwrap();
    let (mut p, grad) = (matrix(numbers(n, 1)), matrix(g.clone()));
    let mut optimizer = Optimizer::new(algorithm.clone());
    optimizer.parallel = Parallel::SERIAL;
    optimizer.update_with_loss(&mut p, &grad, 1.0).unwrap();
    let arrays = optimizer.state_view().params[0].arrays.len();
    let variants = &mut [
        Variant::new("limit", || {
            for pass in reads(algorithm.name()).split_whitespace() {
                let array = |of: char| match of {
                    'p' => &lp[..],
                    'g' => &g,
                    k => &state[k as usize - '0' as usize],
                };
                black_box(read(&pass.chars().map(array).collect::<Vec<_>>()));
            }
            limit(arrays, &mut lp, &g, &mut state)
        }),
        Variant::new("step", || {
            _ = optimizer.update_with_loss(&mut p, &grad, 1.0).unwrap()
        }),
    ];
    let times = compare(variants, 2e-3, 21);
    (arrays, times[1].seconds * 1e9 / n as f64, times[1].ratio)
}

fn main() {
    let mut sides: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if sides.is_empty() {
        sides.push(1000);
    }
    for side in sides {
        println!("{side} x {side}\n");
        println!(
            "| optimizer | state arrays | ns an element | step / memory limit |\n|---|---|---|---|"
        );
        for algorithm in AnyAlgorithm::all() {
            let (arrays, time, ratio) = measure(&algorithm, side);
            println!(
                "| `{}` | {arrays} | {time:.2} | {ratio:.2} |",
                algorithm.name()
            );
        }
    }
}
