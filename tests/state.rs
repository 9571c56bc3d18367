//! A run that is stopped, saved, loaded and continued has the bits of one that is not.
mod common;

use common::array;
use ndarray::{Array1, ArrayD, Axis, IxDyn, ShapeBuilder, array as arr};
use ndarray_optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, Compose, Composition, Error, Fused, LambConfig, Limits, NonFinite, Optimizer,
    OptimizerConfig, Outcome, Parallel, ParamGroup, Params, ProdigyConfig, ReduceOnPlateau, ReduceOnPlateauConfig, Sgd,
    SgdConfig, StateDict,
    kernel::Element,
    schedule::{Schedules, WarmupCosine},
    state::{Differs, ParamState},
    wrap::{
        Accumulate, AdaptiveClip, AnyWrap, Bounds, Cautious, Centralize, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm,
        ClipByValue, Ema, Grokfast, L1, Lookahead, Noise, ScaleGradient, SignOfGradient, Swa, WeightDecay,
    },
};
use proptest::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;

const STEPS: usize = 7;
/// Steps before the interruption.
const BEFORE: usize = 4;

fn number(seed: usize, i: usize) -> f64 {
    let x = ((seed * 7919 + i + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

fn numbers<A: Element>(shape: &[usize], seed: usize, fortran: bool) -> ArrayD<A> {
    let n = shape.iter().product();
    let values = array(shape, &(0..n).map(|i| number(seed, i)).collect::<Vec<_>>());
    in_order(&values, fortran)
}

fn in_order<A: Element>(values: &ArrayD<A>, fortran: bool) -> ArrayD<A> {
    let mut array = ArrayD::from_elem(IxDyn(values.shape()).set_f(fortran), A::ZERO);
    array.assign(values);
    array
}

/// Parameters that are in the run from a step on, and out of it in another.
struct Model {
    params: Vec<(&'static str, Vec<usize>, usize, usize)>,
}

impl Model {
    /// Of any shapes if the optimizer takes them, else of matrices.
    fn new(config: &OptimizerConfig) -> Model {
        let params = |shapes: [&[usize]; 3]| {
            let [a, b, c] = shapes.map(<[usize]>::to_vec);
            vec![("a", a, 1, 0), ("b.weight", b, 1, 2), ("c", c, 3, 6)]
        };
        let any = Model { params: params([&[3, 4], &[5], &[2, 3, 2]]) };
        let mut trial = config.build::<f64>();
        let fits = any.params.iter().all(|(name, shape, ..)| {
            let (mut p, g) = (numbers::<f64>(shape, 0, false), numbers(shape, 1, false));
            let mut params = Params::new();
            params.loss(1.0).add(*name, &mut p, &g).unwrap();
            trial.step(params).is_ok()
        });
        if fits { any } else { Model { params: params([&[3, 4], &[4, 2], &[2, 5]]) } }
    }

    fn start<A: Element>(&self) -> Vec<ArrayD<A>> {
        self.params.iter().enumerate().map(|(i, (_, shape, ..))| numbers(shape, 100 + i, false)).collect()
    }

    /// One step, or what is to take its place for parameters that are not in it.
    fn step<A: Element>(&self, optimizer: &mut dyn Optimizer<A>, params: &mut [ArrayD<A>], step: usize, fortran: bool) {
        let grads: Vec<_> =
            self.params.iter().enumerate().map(|(i, (_, shape, ..))| numbers::<A>(shape, 10 * step + i, fortran)).collect();
        let mut lent = Params::new();
        lent.loss(1.5 + number(step, 3));
        for (((name, _, from, out), p), g) in self.params.iter().zip(params).zip(&grads) {
            if step >= *from && step != *out {
                lent.add(*name, p, g).unwrap();
            }
        }
        optimizer.step(lent).unwrap();
    }

    fn bits<A: Element>(&self, optimizer: &dyn Optimizer<A>, params: &[ArrayD<A>]) -> Vec<u64> {
        let points = self.params.iter().zip(params).map(|((name, ..), p)| optimizer.evaluation(name, p.view()));
        params.iter().flatten().chain(&points.collect::<Vec<_>>().concat_all()).map(|x| x.f64().to_bits()).collect()
    }
}

trait Concat<A> {
    fn concat_all(&self) -> Vec<A>;
}

impl<A: Element> Concat<A> for Vec<ArrayD<A>> {
    fn concat_all(&self) -> Vec<A> {
        self.iter().flatten().copied().collect()
    }
}

/// Ways for a state to go from one run to another.
const FORMATS: [&str; 5] = ["value", "JSON", "CBOR", "postcard", "bytes"];

fn transport(state: &StateDict, format: &str) -> StateDict {
    match format {
        "value" => state.clone(),
        "JSON" => serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap(),
        "CBOR" => {
            let mut bytes = Vec::new();
            ciborium::into_writer(state, &mut bytes).unwrap();
            ciborium::from_reader(&bytes[..]).unwrap()
        }
        "postcard" => postcard::from_bytes(&postcard::to_stdvec(state).unwrap()).unwrap(),
        "bytes" => StateDict::from_bytes(&state.to_bytes().unwrap()).unwrap(),
        _ => panic!("{format}"),
    }
}

fn build<A: Element>(config: &OptimizerConfig, grouped: bool, threads: usize) -> Box<dyn Optimizer<A>> {
    let mut optimizer = config.build::<A>();
    if grouped {
        optimizer.add_group(ParamGroup::new("group", ["b.weight", "never"], config.clone())).unwrap();
        let lr = 0.5 * optimizer.lr();
        optimizer.set_group_lr("group", lr).unwrap();
    }
    if threads > 1 {
        optimizer.set_parallel(Parallel { min_work: 0, chunk: 3 });
    }
    optimizer
}

/// The same run without interruption, in row-major arrays on one thread.
fn reference<A: Element>(config: &OptimizerConfig, model: &Model, grouped: bool) -> Vec<u64> {
    let (mut optimizer, mut params) = (build::<A>(config, grouped, 1), model.start::<A>());
    for step in 1..=STEPS {
        model.step(&mut *optimizer, &mut params, step, false);
    }
    model.bits(&*optimizer, &params)
}

/// The state and the parameters where the run is interrupted.
fn before<A: Element>(
    config: &OptimizerConfig,
    model: &Model,
    grouped: bool,
    threads: usize,
    fortran: bool,
) -> (StateDict, Vec<ArrayD<A>>) {
    let mut optimizer = build::<A>(config, grouped, threads);
    let mut params: Vec<_> = model.start::<A>().iter().map(|p| in_order(p, fortran)).collect();
    for step in 1..=BEFORE {
        model.step(&mut *optimizer, &mut params, step, fortran);
    }
    (optimizer.state_dict(), params)
}

fn after<A: Element>(mut optimizer: Box<dyn Optimizer<A>>, model: &Model, params: &[ArrayD<A>], fortran: bool) -> Vec<u64> {
    let mut params: Vec<_> = params.iter().map(|p| in_order(p, fortran)).collect();
    for step in BEFORE + 1..=STEPS {
        model.step(&mut *optimizer, &mut params, step, fortran);
    }
    model.bits(&*optimizer, &params)
}

/// How many interrupted runs had the bits of the reference, by format.
fn prove<A: Element>(
    config: &OptimizerConfig,
    pools: &[ThreadPool],
    counts: &mut BTreeMap<String, [usize; 5]>,
    family: &str,
) {
    let model = Model::new(config);
    for grouped in [false, true] {
        let expected = reference::<A>(config, &model, grouped);
        for (from, to) in [(false, false), (true, true), (false, true), (true, false)] {
            for (threads, pool) in (1..).zip(pools) {
                let (state, params) = pool.install(|| before::<A>(config, &model, grouped, threads, from));
                for (k, format) in FORMATS.iter().enumerate() {
                    let carried = transport(&state, format);
                    assert_eq!(carried, state, "{config:?}: {format}");
                    // From the state alone, or into one that is there.
                    let optimizer = if (k + usize::from(to)) % 2 == 0 {
                        let mut optimizer = build::<A>(config, grouped, threads);
                        optimizer.load_state_dict(&carried).unwrap();
                        optimizer
                    } else {
                        carried.build::<A>().unwrap()
                    };
                    let found = pool.install(|| after(optimizer, &model, &params, to));
                    assert_eq!(found, expected, "{config:?} {format} grouped {grouped} order {from} {to} threads {threads}");
                    counts.entry(family.into()).or_default()[k] += 1;
                }
            }
        }
    }
}

fn wrappers() -> Vec<AnyWrap> {
    vec![
        ClipByGlobalNorm { max_norm: 0.5, ..Default::default() }.into(),
        ClipByNorm { max_norm: 0.5 }.into(),
        ClipByBlockRms { threshold: 0.1 }.into(),
        ClipByValue { max_value: 0.5 }.into(),
        AdaptiveClip::default().into(),
        Centralize::default().into(),
        Noise::default().into(),
        ScaleGradient { factor: 0.3 }.into(),
        SignOfGradient {}.into(),
        Grokfast::default().into(),
        WeightDecay { weight_decay: 0.1, decoupled: true }.into(),
        WeightDecay { weight_decay: 0.1, decoupled: false }.into(),
        Ema { decay: 0.9 }.into(),
        Swa { start: 2, every: 2 }.into(),
        Lookahead { sync_period: 3, slow_step_size: 0.3 }.into(),
        Bounds { lower: Some(-0.3), upper: Some(0.3) }.into(),
        L1 { lambda: 0.01 }.into(),
    ]
}

fn composed(inner: impl Into<OptimizerConfig>, wrap: Vec<AnyWrap>) -> OptimizerConfig {
    OptimizerConfig::Composed(Composition { inner: Box::new(inner.into()), wrap })
}

fn families() -> Vec<(&'static str, Vec<OptimizerConfig>)> {
    let wrapped = wrappers().into_iter().flat_map(|wrap| {
        let chain = vec![ClipByValue { max_value: 0.9 }.into(), wrap.clone(), Swa { start: 3, every: 1 }.into()];
        let chain = if matches!(wrap, AnyWrap::Swa(_)) { vec![wrap.clone()] } else { chain };
        [composed(AdamWConfig::default(), vec![wrap.clone()]), composed(SgdConfig::default(), vec![wrap]), {
            composed(LambConfig::default(), chain)
        }]
    });
    vec![
        ("catalogue, defaults", OptimizerConfig::all()),
        ("golden configurations", common::cases().into_iter().map(|case| case.optimizer).collect()),
        ("wrappers, by file", wrapped.collect()),
    ]
}

fn pools() -> Vec<ThreadPool> {
    (1..=2).map(|n| ThreadPoolBuilder::new().num_threads(n).build().unwrap()).collect()
}

#[test]
fn every_optimizer_and_wrapper_resumes_bit_for_bit_in_every_format() {
    let (pools, mut counts) = (pools(), BTreeMap::new());
    for (family, configs) in families() {
        let mut seen: Vec<OptimizerConfig> = Vec::new();
        for config in configs {
            if seen.contains(&config) {
                continue;
            }
            prove::<f32>(&config, &pools, &mut counts, &format!("{family}, f32"));
            prove::<f64>(&config, &pools, &mut counts, &format!("{family}, f64"));
            seen.push(config);
        }
        println!("{family}: {} configurations", seen.len());
    }
    println!("{:<32}{}", "interrupted runs with equal bits", FORMATS.map(|format| format!("{format:>10}")).concat());
    for (family, counts) in counts {
        println!("{family:<32}{}", counts.map(|n| format!("{n:>10}")).concat());
    }
}
