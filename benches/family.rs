//! One step of every optimizer over 1000 x 1000 `f32` elements on one thread, as a ratio to the memory limit with its traffic: a rule
//! with as many state arrays and next to no arithmetic, run by the same driver. Writes the rows of `docs/family.md`.
//!
//! `cargo bench --bench family`
mod common;

use common::{Variant, compare, limit, numbers};
use ndarray::Array2;
use ndarray_optim::{Config, Fused, Now, Optimizer, OptimizerConfig, Parallel, Visit, kernel::Kernel};

const SIDE: usize = 1000;
const N: usize = SIDE * SIDE;

/// State arrays, nanoseconds an element, and the ratio to the limit.
struct Measure;

impl Visit for Measure {
    type Out = (usize, f64, f64);
    fn visit<C: Config>(self, config: &C) -> Self::Out {
        let mut names = Vec::new();
        config.kernel::<f32>(&Now::new(config, 1)).names(&mut names);
        let g = numbers::<f32>(N, 2);
        let (mut lp, mut state) = (numbers::<f32>(N, 1), std::array::from_fn(|_| vec![0.0; N]));
        let matrix = |numbers: Vec<f32>| Array2::from_shape_vec((SIDE, SIDE), numbers).unwrap();
        let (mut p, grad) = (matrix(numbers(N, 1)), matrix(g.clone()));
        let mut optimizer = Fused::<C, f32>::with(config.clone());
        optimizer.parallel = Parallel::SERIAL;
        let variants = &mut [
            Variant::new("limit", || limit(names.len(), &mut lp, &g, &mut state)),
            Variant::new("step", || _ = optimizer.update_with_loss(&mut p, &grad, 1.0).unwrap()),
        ];
        let times = compare(variants, 2e-3, 21);
        (names.len(), times[1].seconds * 1e9 / N as f64, times[1].ratio)
    }
}

fn main() {
    println!("| optimizer | state arrays | ns an element | step / memory limit |\n|---|---|---|---|");
    for config in OptimizerConfig::all() {
        let (arrays, time, ratio) = config.visit(Measure);
        println!("| `{}` | {arrays} | {time:.2} | {ratio:.2} |", config.name());
    }
}
