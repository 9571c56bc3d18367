//! The golden trajectories and how they are replayed.
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{Optimizer, OptimizerConfig, Params, kernel::Element};
use serde::Deserialize;
use std::{fs, path::Path};

#[derive(Deserialize)]
pub struct Case {
    pub id: String,
    pub optimizer: OptimizerConfig,
    pub params: Vec<Start>,
    pub grads: Vec<Vec<Vec<f64>>>,
    pub losses: Vec<f64>,
    #[serde(default)]
    pub lrs: Vec<f64>,
    pub expect: Vec<Expect>,
}

#[derive(Deserialize)]
pub struct Start {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

#[derive(Deserialize)]
pub struct Expect {
    pub step: usize,
    pub params: Vec<Vec<f64>>,
}

/// Every case of every file, in the order of the file names.
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trajectories");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    files.iter().flat_map(|file| serde_json::from_str::<Vec<Case>>(&fs::read_to_string(file).unwrap()).unwrap()).collect()
}

pub fn array<A: Element>(shape: &[usize], values: &[f64]) -> ArrayD<A> {
    ArrayD::from_shape_vec(IxDyn(shape), values.iter().map(|&x| A::of(x)).collect()).unwrap()
}

/// The greatest |x - y| / max(1, |y|) between what the optimizer computes and what the case expects.
pub fn worst_error<A: Element>(case: &Case, optimizer: &mut dyn Optimizer<A>) -> f64 {
    let mut params: Vec<_> = case.params.iter().map(|p| array::<A>(&p.shape, &p.values)).collect();
    let mut worst: f64 = 0.0;
    let mut expect = case.expect.iter().peekable();
    let last = case.expect.iter().map(|e| e.step).max().unwrap();
    for step in 1..=last {
        let values = &case.grads[(step - 1) % case.grads.len()];
        let grads: Vec<_> = case.params.iter().zip(values).map(|(p, g)| array::<A>(&p.shape, g)).collect();
        let mut lent = Params::new();
        for ((start, param), grad) in case.params.iter().zip(&mut params).zip(&grads) {
            lent.add(&*start.name, param, grad).unwrap();
        }
        lent.loss(case.losses[(step - 1) % case.losses.len()]);
        if !case.lrs.is_empty() {
            optimizer.set_lr(case.lrs[(step - 1) % case.lrs.len()]);
        }
        optimizer.step(lent).unwrap();
        if let Some(expect) = expect.next_if(|e| e.step == step) {
            let points =
                case.params.iter().zip(&params).map(|(start, param)| optimizer.evaluation(&start.name, param.view()));
            let points: Vec<_> = points.collect();
            for (x, y) in points.iter().flatten().zip(expect.params.iter().flatten()) {
                let error = (x.f64() - y).abs() / y.abs().max(1.0);
                worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
            }
        }
    }
    assert!(expect.next().is_none(), "{}: steps out of order", case.id);
    worst
}

/// What the goldens accept.
pub const F64: f64 = 1e-12;
/// What they accept of the same numbers rounded to `f32`.
pub const F32: f64 = 2e-5;

/// Optimizers without golden trajectories. Public implementations of Shampoo and SOAP differ from the papers and from each other;
/// Sophia is given estimates of curvature between its steps, which trajectories of gradients do not hold. `tests/suite/shampoo_and_soap.rs` and
/// `tests/suite/sophia.rs` have them written again, with mutants of their own.
pub const NO_GOLDENS: [&str; 3] = ["shampoo", "soap", "sophia"];
