//! The golden trajectories and how they are replayed, and what several files of tests use.
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{
    AnyAlgorithm, Group, Optimizer, Params, algorithm::Element, wrap::ClipByGlobalNorm,
};
use proptest::test_runner::Config;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;
use std::{fs, path::Path};

#[derive(Deserialize)]
pub struct Case {
    pub id: String,
    pub optimizer: AnyAlgorithm,
    #[serde(default)]
    pub groups: Vec<Group>,
    #[serde(default)]
    pub clip_by_global_norm: Option<ClipByGlobalNorm>,
    pub params: Vec<Start>,
    pub grads: Vec<Vec<Vec<f64>>>,
    #[serde(default)]
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

impl Case {
    pub fn optimizer<A: Element>(&self) -> Optimizer<A> {
        let mut optimizer = Optimizer::new(self.optimizer.clone());
        optimizer.clip = self.clip_by_global_norm.clone();
        self.groups
            .iter()
            .try_for_each(|group| optimizer.add_group(group.clone()))
            .unwrap();
        optimizer
    }
}

/// Every case of one algorithm, in the order of the file names.
pub fn cases() -> Vec<Case> {
    all_cases()
        .into_iter()
        .filter(|case| case.groups.is_empty())
        .collect()
}

/// Every case of several algorithms in one optimizer.
pub fn group_cases() -> Vec<Case> {
    all_cases()
        .into_iter()
        .filter(|case| !case.groups.is_empty())
        .collect()
}

fn all_cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trajectories");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            serde_json::from_str::<Vec<Case>>(&fs::read_to_string(file).unwrap()).unwrap()
        })
        .collect()
}

pub fn array<A: Element>(shape: &[usize], values: &[f64]) -> ArrayD<A> {
    ArrayD::from_shape_vec(
        IxDyn(shape),
        values.iter().map(|&x| A::from_f64(x)).collect(),
    )
    .unwrap()
}

/// The parameters before the first step.
pub fn start<A: Element>(case: &Case) -> Vec<ArrayD<A>> {
    case.params
        .iter()
        .map(|p| array(&p.shape, &p.values))
        .collect()
}

/// Step `t`, counted from 1.
pub fn step<A: Element>(
    case: &Case,
    optimizer: &mut Optimizer<A>,
    params: &mut [ArrayD<A>],
    t: usize,
) {
    let values = &case.grads[(t - 1) % case.grads.len()];
    let grads: Vec<_> = case
        .params
        .iter()
        .zip(values)
        .map(|(p, g)| array::<A>(&p.shape, g))
        .collect();
    let mut lent = Params::new();
    for ((start, param), grad) in case.params.iter().zip(params).zip(&grads) {
        lent.add(&*start.name, param, grad).unwrap();
    }
    if !case.losses.is_empty() {
        lent.loss(case.losses[(t - 1) % case.losses.len()]);
    }
    if !case.lrs.is_empty() {
        optimizer.set_lr(case.lrs[(t - 1) % case.lrs.len()]);
    }
    optimizer.step(lent).unwrap();
}

/// The greatest |x - y| / max(1, |y|) between what the optimizer computes and what the case
/// expects.
pub fn worst_error<A: Element>(case: &Case, optimizer: &mut Optimizer<A>) -> f64 {
    worst_error_between(case, optimizer, |_, _, _| {})
}

/// As [`worst_error`], where `between` may change the optimizer and the parameters before the first
/// step and after each. It is told how many steps have been made.
pub fn worst_error_between<A: Element>(
    case: &Case,
    optimizer: &mut Optimizer<A>,
    mut between: impl FnMut(usize, &mut Optimizer<A>, &mut [ArrayD<A>]),
) -> f64 {
    let mut params = start(case);
    let mut worst: f64 = 0.0;
    let mut expect = case.expect.iter().peekable();
    let last = case.expect.iter().map(|e| e.step).max().unwrap();
    between(0, optimizer, &mut params);
    for t in 1..=last {
        step(case, optimizer, &mut params, t);
        between(t, optimizer, &mut params);
        if let Some(expect) = expect.next_if(|e| e.step == t) {
            let points = case
                .params
                .iter()
                .zip(&params)
                .map(|(start, param)| optimizer.evaluate_param(&start.name, param).unwrap());
            let points: Vec<_> = points.collect();
            for (x, y) in points.iter().flatten().zip(expect.params.iter().flatten()) {
                let error = (x.f64() - y).abs() / y.abs().max(1.0);
                worst = if error.is_nan() {
                    f64::INFINITY
                } else {
                    worst.max(error)
                };
            }
        }
    }
    assert!(expect.next().is_none(), "{}: steps out of order", case.id);
    worst
}

/// A number in [-1, 1), another one for each seed and place.
pub fn number(seed: u64, i: usize) -> f64 {
    let x = (seed.rotate_left(32) ^ i as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Numbers of very different sizes, up to `10^tens`, whose rounding depends on the order of
/// operations.
pub fn spread(seed: u64, i: usize, tens: i32) -> f64 {
    let size = 1.0 + number(!seed, i);
    number(seed, i) * 10_f64.powi((size * (f64::from(tens) + 0.5)) as i32 - tens)
}

/// An array of [`number`]s.
pub fn numbers<A: Element>(shape: &[usize], seed: u64) -> ArrayD<A> {
    filled(shape, |i| number(seed, i))
}

/// An array of these numbers, in row-major order.
pub fn filled<A: Element>(shape: &[usize], number: impl Fn(usize) -> f64) -> ArrayD<A> {
    array(
        shape,
        &(0..shape.iter().product()).map(number).collect::<Vec<_>>(),
    )
}

/// So many random cases.
pub fn random(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

/// So many threads.
pub fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
}

/// What the goldens accept.
pub const F64: f64 = 1e-12;
/// What they accept of the same numbers rounded to `f32`.
pub const F32: f64 = 2e-5;

/// Optimizers without golden trajectories. Public implementations of Shampoo and SOAP differ from
/// the papers and from each other; Sophia is given estimates of curvature between its steps, which
/// trajectories of gradients do not hold. `shampoo_and_soap.rs` and `sophia.rs` have them written
/// again, with mutants of their own.
pub const NO_GOLDENS: [&str; 3] = ["shampoo", "soap", "sophia"];
