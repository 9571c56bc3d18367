//! A run that is stopped, saved, loaded and continued has the bits of one that is not.

use crate::common::{array, random};
use ndarray::{Array1, ArrayD, ArrayViewMutD, Axis, IxDyn, ShapeBuilder, array as arr};
use ndarray_optim::{
    Adafactor, Adam, AdamW, AnyAlgorithm, AnyWrap, Checkpoint, Compose, ComposedConfig, Error,
    Group, Lamb, Limits, Lion, Momentum, Muon, NonFinite, Optimizer, Outcome, Parallel, Params,
    Prodigy, ReduceOnPlateau, ReduceOnPlateauConfig, Select, Sgd, Sophia, StateDict,
    algorithm::{Element, Scalars},
    schedule::{Schedules, WarmupCosine},
    state::{Differs, ElementType, Round},
    wrap::{
        AdaptiveClip, Bounds, Cautious, Centralize, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm,
        ClipByValue, Ema, Grokfast, L1, Lookahead, Noise, ScaleGradient, SignOfGradient, Swa,
        WeightDecay,
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

/// An optimizer as a value.
#[derive(Clone, Debug, PartialEq)]
struct Setup {
    algorithm: AnyAlgorithm,
    groups: Vec<Group>,
    clip: Option<ClipByGlobalNorm>,
}

impl Setup {
    fn alone(algorithm: &AnyAlgorithm) -> Setup {
        Setup {
            algorithm: algorithm.clone(),
            groups: Vec::new(),
            clip: None,
        }
    }

    /// With a group of the same algorithm and half its learning rate.
    fn grouped(algorithm: &AnyAlgorithm) -> Setup {
        let mut half = Optimizer::<f64>::new(algorithm.clone());
        half.set_lr(0.5 * half.lr());
        let half = half.state_dict().groups.remove(0).algorithm.unwrap();
        Setup {
            groups: vec![Group::new("group", ["b.weight", "never"], half)],
            ..Setup::alone(algorithm)
        }
    }

    /// One of the catalogue beside three others in groups, some of them in wrappers.
    fn mixed(i: usize) -> Setup {
        let all = AnyAlgorithm::all();
        let other = |shift: usize, shape: &[usize], wrap: &[AnyWrap]| {
            let others =
                (i + shift..).map(|k| all[k % all.len()].clone().in_wrappers(wrap.to_vec()));
            others
                .take(all.len())
                .find(|algorithm| fits(&mut Optimizer::new(algorithm.clone()), &[("p", shape)]))
                .unwrap()
        };
        let wrap: &[AnyWrap] = if i.is_multiple_of(2) {
            &[]
        } else {
            &[Ema {
                decay: 0.8,
                ..Default::default()
            }
            .into()]
        };
        let groups = vec![
            Group::new("prefix", Select::prefix("b."), other(17, &[5], wrap)),
            Group::new(
                "rank",
                Select::rank(3),
                other(31, &[2, 3, 2], &[ClipByValue { max_value: 0.7 }.into()]),
            ),
            Group::new("names", ["never"], other(41, &[5], &[])),
        ];
        let clip = i.is_multiple_of(3).then(|| ClipByGlobalNorm {
            max_norm: 1.5,
            ..Default::default()
        });
        Setup {
            groups,
            clip,
            ..Setup::alone(&all[i])
        }
    }

    fn build<A: Element>(&self, threads: usize) -> Optimizer<A> {
        let mut optimizer = Optimizer::new(self.algorithm.clone());
        self.groups
            .iter()
            .for_each(|group| optimizer.add_group(group.clone()).unwrap());
        optimizer.clip.clone_from(&self.clip);
        if threads > 1 {
            optimizer.parallel = Parallel {
                min_work: 0,
                chunk: 3,
            };
        }
        optimizer
    }
}

/// Whether an optimizer steps parameters of these shapes.
fn fits(optimizer: &mut Optimizer<f64>, params: &[(&str, &[usize])]) -> bool {
    params.iter().all(|(name, shape)| {
        let (mut p, g) = (numbers::<f64>(shape, 0, false), numbers(shape, 1, false));
        let mut params = Params::new();
        params.loss(1.0).add(*name, &mut p, &g).unwrap();
        optimizer.step(params).is_ok()
    })
}

/// Parameters that are in the run from a step on, and out of it in another.
struct Model {
    params: Vec<(&'static str, Vec<usize>, usize, usize)>,
}

impl Model {
    /// Of any shapes if the optimizer takes them, else of matrices.
    fn new(setup: &Setup) -> Model {
        let params = |shapes: [&[usize]; 3]| {
            let [a, b, c] = shapes.map(<[usize]>::to_vec);
            vec![("a", a, 1, 0), ("b.weight", b, 1, 2), ("c", c, 3, 6)]
        };
        let any = Model {
            params: params([&[3, 4], &[5], &[2, 3, 2]]),
        };
        let shapes: Vec<_> = any
            .params
            .iter()
            .map(|(name, shape, ..)| (*name, &shape[..]))
            .collect();
        if fits(&mut setup.build(1), &shapes) {
            any
        } else {
            Model {
                params: params([&[3, 4], &[4, 2], &[2, 5]]),
            }
        }
    }

    fn start<A: Element>(&self) -> Vec<ArrayD<A>> {
        self.params
            .iter()
            .enumerate()
            .map(|(i, (_, shape, ..))| numbers(shape, 100 + i, false))
            .collect()
    }

    /// One step, or what is to take its place for parameters that are not in it.
    fn step<A: Element>(
        &self,
        optimizer: &mut Optimizer<A>,
        params: &mut [ArrayD<A>],
        step: usize,
        fortran: bool,
    ) {
        let grads: Vec<_> = self
            .params
            .iter()
            .enumerate()
            .map(|(i, (_, shape, ..))| numbers::<A>(shape, 10 * step + i, fortran))
            .collect();
        let mut lent = Params::new();
        lent.loss(1.5 + number(step, 3));
        for (((name, _, from, out), p), g) in self.params.iter().zip(params).zip(&grads) {
            if step >= *from && step != *out {
                lent.add(*name, p, g).unwrap();
            }
        }
        optimizer.step(lent).unwrap();
    }

    /// All there is at the end: parameters, what is evaluated, and the state, whatever the order it
    /// has in memory.
    fn end<A: Element>(
        &self,
        optimizer: &Optimizer<A>,
        params: &[ArrayD<A>],
    ) -> (Vec<u64>, Vec<u8>) {
        let mut state = optimizer.state_dict();
        state
            .params
            .iter_mut()
            .for_each(|param| param.order.sort_unstable());
        (self.bits(optimizer, params), state.to_bytes().unwrap())
    }

    fn bits<A: Element>(&self, optimizer: &Optimizer<A>, params: &[ArrayD<A>]) -> Vec<u64> {
        let points = self
            .params
            .iter()
            .zip(params)
            .map(|((name, ..), p)| optimizer.evaluate_param(name, p).unwrap());
        params
            .iter()
            .flatten()
            .chain(&points.collect::<Vec<_>>().concat_all())
            .map(|x| x.f64().to_bits())
            .collect()
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
const FORMATS: [&str; 7] = [
    "value",
    "JSON",
    "CBOR",
    "postcard",
    "bytes",
    "safetensors",
    "checkpoint",
];

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
        "safetensors" => {
            StateDict::from_safetensors(&state.to_safetensors().unwrap())
                .unwrap()
                .0
        }
        "bytes" => StateDict::from_bytes(&state.to_bytes().unwrap()).unwrap(),
        "checkpoint" => {
            let bytes = Checkpoint::new(7)
                .state("optimizer", state.view())
                .unwrap()
                .to_bytes()
                .unwrap();
            Checkpoint::from_bytes(&bytes)
                .unwrap()
                .take_state("optimizer")
                .unwrap()
        }
        _ => panic!("{format}"),
    }
}

/// The same run without interruption, in row-major arrays on one thread.
fn reference<A: Element>(setup: &Setup, model: &Model) -> (Vec<u64>, Vec<u8>) {
    let (mut optimizer, mut params) = (setup.build::<A>(1), model.start::<A>());
    for step in 1..=STEPS {
        model.step(&mut optimizer, &mut params, step, false);
    }
    model.end(&optimizer, &params)
}

/// The state and the parameters where the run is interrupted.
fn before<A: Element>(
    setup: &Setup,
    model: &Model,
    threads: usize,
    fortran: bool,
) -> (StateDict, Vec<ArrayD<A>>) {
    let mut optimizer = setup.build::<A>(threads);
    let mut params: Vec<_> = model
        .start::<A>()
        .iter()
        .map(|p| in_order(p, fortran))
        .collect();
    for step in 1..=BEFORE {
        model.step(&mut optimizer, &mut params, step, fortran);
    }
    (optimizer.state_dict(), params)
}

fn after<A: Element>(
    mut optimizer: Optimizer<A>,
    model: &Model,
    params: &[ArrayD<A>],
    fortran: bool,
) -> (Vec<u64>, Vec<u8>) {
    let mut params: Vec<_> = params.iter().map(|p| in_order(p, fortran)).collect();
    for step in BEFORE + 1..=STEPS {
        model.step(&mut optimizer, &mut params, step, fortran);
    }
    model.end(&optimizer, &params)
}

/// The memory orders before and after the interruption.
const ORDERS: [(bool, bool); 4] = [(false, true), (true, false), (false, false), (true, true)];

/// How many interrupted runs had the bits of the reference, by format.
fn prove<A: Element>(setup: &Setup, pools: &[ThreadPool], orders: usize) -> [usize; 7] {
    let (model, mut counts) = (Model::new(setup), [0; 7]);
    let expected = reference::<A>(setup, &model);
    for (from, to) in ORDERS.into_iter().take(orders) {
        for (threads, pool) in (1..).zip(pools) {
            let (state, params) = pool.install(|| before::<A>(setup, &model, threads, from));
            let bytes = state.to_bytes().unwrap();
            for (k, format) in FORMATS.iter().enumerate() {
                let carried = transport(&state, format);

                // From the state alone, or into one that is there.
                let optimizer = if (k + usize::from(to)) % 2 == 0 {
                    let mut optimizer = setup.build::<A>(threads);
                    optimizer.load_state_dict(carried).unwrap();
                    optimizer
                } else {
                    Optimizer::<A>::from_state(carried).unwrap()
                };
                assert!(
                    optimizer.state_dict().to_bytes().unwrap() == bytes,
                    "{setup:?} {format}"
                );
                let found = pool.install(|| after(optimizer, &model, &params, to));
                assert!(
                    found == expected,
                    "{setup:?} {format} order {from} {to} threads {threads}"
                );
                counts[k] += 1;
            }
        }
    }
    counts
}

/// Every wrapper, with numbers that have an effect within few steps.
fn wrappers() -> Vec<AnyWrap> {
    let mut all: Vec<AnyWrap> = vec![
        ClipByGlobalNorm {
            max_norm: 0.5,
            ..Default::default()
        }
        .into(),
        ClipByNorm { max_norm: 0.5 }.into(),
        ClipByBlockRms { threshold: 0.1 }.into(),
        ClipByValue { max_value: 0.5 }.into(),
        AdaptiveClip::default().into(),
        Centralize::default().into(),
        Noise::default().into(),
        ScaleGradient { factor: 0.3 }.into(),
        SignOfGradient {}.into(),
        Grokfast::default().into(),
        WeightDecay {
            weight_decay: 0.1,
            decoupled: true,
            ..Default::default()
        }
        .into(),
        WeightDecay {
            weight_decay: 0.1,
            decoupled: false,
            ..Default::default()
        }
        .into(),
        Ema {
            decay: 0.9,
            ..Default::default()
        }
        .into(),
        Swa { start: 2, every: 2 }.into(),
        Lookahead {
            sync_period: 3,
            slow_step_size: 0.3,
        }
        .into(),
        Bounds {
            lower: Some(-0.3),
            upper: Some(0.3),
        }
        .into(),
        L1 { lambda: 0.01 }.into(),
    ];
    for wrap in AnyWrap::all() {
        if all.iter().all(|known| known.name() != wrap.name()) {
            all.push(wrap);
        }
    }
    all
}

fn composed(inner: impl Into<AnyAlgorithm>, wrap: Vec<AnyWrap>) -> AnyAlgorithm {
    AnyAlgorithm::Composed(ComposedConfig {
        inner: Box::new(inner.into()),
        wrap,
    })
}

/// Optimizers by kind, and how many of the memory orders are for them.
fn families() -> Vec<(&'static str, Vec<Setup>, usize)> {
    let wrapped = wrappers().into_iter().flat_map(|wrap| {
        let chain = vec![
            ClipByValue { max_value: 0.9 }.into(),
            wrap.clone(),
            Swa { start: 3, every: 1 }.into(),
        ];
        let chain = if matches!(wrap, AnyWrap::Swa(_)) {
            vec![wrap.clone()]
        } else {
            chain
        };
        [
            composed(AdamW::default(), vec![wrap.clone()]),
            composed(Sgd::default(), vec![wrap]),
            { composed(Lamb::default(), chain) },
        ]
    });
    let both = |algorithm: AnyAlgorithm| [Setup::alone(&algorithm), Setup::grouped(&algorithm)];
    // The goldens have many forms of one optimizer: half of the ways for them.
    let golden = crate::common::cases()
        .into_iter()
        .map(|case| Setup::grouped(&case.optimizer));
    vec![
        (
            "catalogue, defaults",
            AnyAlgorithm::all().into_iter().flat_map(both).collect(),
            4,
        ),
        ("golden configurations", golden.collect(), 2),
        ("wrappers, by file", wrapped.flat_map(both).collect(), 4),
        (
            "groups of all algorithms",
            (0..AnyAlgorithm::all().len()).map(Setup::mixed).collect(),
            4,
        ),
    ]
}

fn pools() -> Vec<ThreadPool> {
    (1..=2)
        .map(|n| ThreadPoolBuilder::new().num_threads(n).build().unwrap())
        .collect()
}

#[test]
fn every_optimizer_and_wrapper_resumes_bit_for_bit_in_every_format() {
    let (pools, mut counts) = (pools(), BTreeMap::<_, [usize; 7]>::new());
    for (family, setups, orders) in families() {
        let mut seen: Vec<Setup> = Vec::new();
        for setup in setups {
            if seen.contains(&setup) {
                continue;
            }
            for (element, new) in [
                ("f32", prove::<f32>(&setup, &pools, orders)),
                ("f64", prove::<f64>(&setup, &pools, orders)),
            ] {
                let all = counts.entry(format!("{family}, {element}")).or_default();
                all.iter_mut().zip(new).for_each(|(all, new)| *all += new);
            }
            seen.push(setup);
        }
        println!("{family}: {} configurations", seen.len());
    }
    println!(
        "{:<32}{}",
        "interrupted runs with equal bits",
        FORMATS.map(|format| format!("{format:>12}")).concat()
    );
    for (family, counts) in counts {
        println!(
            "{family:<32}{}",
            counts.map(|n| format!("{n:>12}")).concat()
        );
    }
}

fn to_bits<A: Element>(p: &ArrayD<A>) -> Vec<u64> {
    p.iter().map(|x| x.f64().to_bits()).collect()
}

/// One array by `update`, whose fast path has caches of its own.
fn one_array(mut whole: Optimizer<f32>, mut fresh: Optimizer<f32>, what: &str) {
    let step = |optimizer: &mut Optimizer<f32>, p: &mut ArrayD<f32>, t| {
        let g = numbers::<f32>(p.shape(), t, false);
        optimizer.update_with_loss(&mut *p, &g, 1.5).unwrap();
    };
    let mut p = numbers::<f32>(&[4, 6], 0, false);
    (1..4).for_each(|t| step(&mut whole, &mut p, t));
    fresh
        .load_state_dict(transport(&whole.state_dict(), "bytes"))
        .unwrap();
    let mut q = p.clone();
    for t in 4..9 {
        step(&mut whole, &mut p, t);
        step(&mut fresh, &mut q, t);
    }
    assert_eq!(to_bits(&p), to_bits(&q), "{what}");
    assert_eq!(whole.state_dict(), fresh.state_dict(), "{what}");
}

#[test]
fn algorithms_by_type_and_by_file_resume_with_one_array() {
    for config in AnyAlgorithm::all() {
        one_array(
            Optimizer::new(config.clone()),
            Optimizer::new(config.clone()),
            config.name(),
        );
    }
    let amsgrad = AdamW {
        amsgrad: true,
        ..Default::default()
    };
    one_array(
        Optimizer::new(amsgrad),
        Optimizer::new(AdamW::new(1.0)),
        "by type",
    );
    one_array(
        Optimizer::new(amsgrad),
        Optimizer::new(AnyAlgorithm::from(AdamW::new(1.0))),
        "by type, then by file",
    );
    one_array(
        Optimizer::new(AnyAlgorithm::from(amsgrad)),
        Optimizer::new(AdamW::new(1.0)),
        "by file, then by type",
    );
    let chain = || {
        Adam::default()
            .clip_by_global_norm(0.5)
            .ema(0.9)
            .lookahead(2, 0.3)
    };
    one_array(
        Optimizer::new(chain()),
        Optimizer::new(chain()),
        "a chain by type",
    );
    // Not in the catalogue: its hyper-parameters are the caller's to set.
    let cautious = || {
        Lamb {
            lr: 0.1,
            ..Default::default()
        }
        .wrap(Cautious::default())
        .ema(0.9)
    };
    one_array(
        Optimizer::new(cautious()),
        Optimizer::new(cautious()),
        "a wrapper that no file has",
    );
    let state = {
        let mut optimizer = Optimizer::new(cautious());
        optimizer
            .update(&mut arr![1.0_f32, 2.0], &arr![0.1, 0.2])
            .unwrap();
        optimizer.state_dict()
    };
    assert_eq!(
        (&state.groups[0].algorithm, &*state.groups[0].optimizer),
        (&None, "lamb + cautious + ema")
    );
    let Err(Error::State(all)) = Optimizer::<f32>::from_state(state.view()) else {
        panic!("built without its numbers")
    };
    assert_eq!(all[0].differs, Differs::Optimizer);
    // Nor can one of the catalogue take its state, or it a state without hyper-parameters that have
    // to be there.
    let kinds = |optimizer: &Optimizer<f32>, state: &StateDict| -> Vec<Differs> {
        optimizer
            .differences(state)
            .iter()
            .map(|difference| difference.differs)
            .collect()
    };
    assert_eq!(
        kinds(&Optimizer::new(Lamb::new(0.1).ema(0.9)), &state),
        [Differs::Optimizer]
    );
    let mut state = Optimizer::<f32>::new(chain()).state_dict();
    state.groups[0].algorithm = None;
    assert_eq!(kinds(&Optimizer::new(chain()), &state), [Differs::Config]);
}

#[test]
fn a_chain_by_type_and_one_by_file_load_each_others_state() {
    let chain = Adam {
        lr: 0.1,
        ..Default::default()
    }
    .clip_by_global_norm(0.5)
    .ema(0.9);
    let mut typed = Optimizer::<f64>::new(chain.clone());
    let mut p = numbers::<f64>(&[5], 0, false);
    typed.update(&mut p, &numbers(&[5], 1, false)).unwrap();
    let mut filed = Optimizer::<f64>::from_state(typed.state_view()).unwrap();
    assert_eq!(filed.state_dict(), typed.state_dict());
    assert_eq!(
        typed.state_dict().groups[0].optimizer,
        "adam + clip_by_global_norm + ema"
    );
    let mut q = p.clone();
    filed.update(&mut q, &numbers(&[5], 2, false)).unwrap();
    let mut again = Optimizer::new(chain);
    again.load_state_dict(filed.state_view()).unwrap();
    typed.update(&mut p, &numbers(&[5], 2, false)).unwrap();
    again.update(&mut q, &numbers(&[5], 3, false)).unwrap();
    typed.update(&mut p, &numbers(&[5], 3, false)).unwrap();
    assert_eq!(to_bits(&p), to_bits(&q));
}

#[test]
fn what_the_driver_counts_and_what_is_frozen_go_along() {
    let algorithm = Sgd {
        lr: 0.1,
        momentum: 0.9,
        ..Default::default()
    };
    let mut sgd = Optimizer::<f64>::new(algorithm);
    sgd.add_group(Group::new("still", ["b"], algorithm))
        .unwrap();
    sgd.non_finite = NonFinite::Skip;
    sgd.limits = Limits {
        norm: Some(100.0),
        skipped: Some(2),
    };
    let (mut a, mut b) = (arr![1.0, 2.0], arr![1.0, 2.0]);
    let step = |sgd: &mut Optimizer<f64>, a: &mut Array1<f64>, b: &mut Array1<f64>, g: f64| {
        let g = arr![g, 1.0];
        let mut params = Params::new();
        params.add("a", a, &g).unwrap().add("b", b, &g).unwrap();
        sgd.step(params)
    };
    step(&mut sgd, &mut a, &mut b, 1.0).unwrap();
    sgd.freeze("still", true).unwrap();
    assert_eq!(
        step(&mut sgd, &mut a, &mut b, f64::NAN),
        Ok(Outcome::Skipped)
    );
    assert_eq!(step(&mut sgd, &mut a, &mut b, 1e3), Ok(Outcome::Skipped));
    let mut other = Optimizer::<f64>::from_state(sgd.state_dict()).unwrap();
    let too_many = Err(Error::TooManySkipped {
        skipped: 3,
        limit: 2,
    });
    assert_eq!(step(&mut other, &mut a, &mut b, f64::NAN), too_many);
    assert_eq!(step(&mut sgd, &mut a, &mut b, f64::NAN), too_many);
    let (mut c, mut d) = (a.clone(), b.clone());
    step(&mut other, &mut c, &mut d, 2.0).unwrap();
    step(&mut sgd, &mut a, &mut b, 2.0).unwrap();
    assert_eq!((a, b), (c, d.clone()));
    assert_eq!(
        (other.steps("a"), other.steps("b")),
        (2, 1),
        "frozen ones make no steps"
    );
    assert_eq!(d, arr![0.9, 1.9]);
}

#[test]
fn groups_of_any_selection_are_in_the_state() {
    let make = || {
        let mut optimizer = Optimizer::<f64>::new(AdamW::new(0.1).ema(0.9));
        optimizer
            .add_group(Group::new("matrices", Select::rank(2), Muon::new(0.02)))
            .unwrap();
        optimizer
            .add_group(Group::new(
                "embed",
                Select::prefix("embed."),
                Sgd::new(0.3).clip_by_value(0.5),
            ))
            .unwrap();
        optimizer
            .add_group(Group::new(
                "sums",
                ["gain", "bias", "late"],
                Prodigy::new(1.0),
            ))
            .unwrap();
        optimizer
    };
    type Shapes<'a> = &'a [(&'a str, &'a [usize])];
    const PARAMS: Shapes = &[
        ("w", &[3, 4]),
        ("embed.x", &[5]),
        ("gain", &[2]),
        ("rest", &[2, 2, 2]),
        ("bias", &[3]),
        ("moved", &[4]),
    ];
    const LATE: Shapes = &[
        ("v", &[2, 3]),
        ("embed.y", &[2]),
        ("late", &[3]),
        ("more", &[1]),
    ];
    let step =
        |optimizer: &mut Optimizer<f64>, params: &mut BTreeMap<String, ArrayD<f64>>, t: usize| {
            let late = if t < 5 { &[] } else { LATE };
            let all = PARAMS.iter().chain(late);
            let grads: Vec<_> = all
                .enumerate()
                .map(|(i, (name, shape))| (*name, numbers::<f64>(shape, 20 * t + i, false)))
                .collect();
            let mut lent = Params::new();
            for (name, p) in params.iter_mut() {
                if let Some((_, g)) = grads.iter().find(|(known, _)| known == name) {
                    lent.add(name, p, g).unwrap();
                }
            }
            optimizer.step(lent).unwrap();
        };
    let bits =
        |params: &BTreeMap<String, ArrayD<f64>>| params.values().map(to_bits).collect::<Vec<_>>();
    let mut whole = make();
    let all = PARAMS.iter().chain(LATE).enumerate();
    let mut p: BTreeMap<_, _> = all
        .map(|(i, (name, shape))| ((*name).to_owned(), numbers(shape, 300 + i, false)))
        .collect();
    step(&mut whole, &mut p, 1);
    // Into a group that does not select it.
    whole.reset("moved").unwrap();
    whole.move_to_group("moved", Some("sums")).unwrap();
    (2..4).for_each(|t| step(&mut whole, &mut p, t));
    let state = whole.state_dict();
    let groups: Vec<_> = state
        .groups
        .iter()
        .map(|group| (group.name.as_deref(), &*group.optimizer, &group.params))
        .collect();
    let selected = [
        Select::Names(Vec::new()),
        Select::rank(2),
        Select::prefix("embed."),
        Select::names(["gain", "bias", "late"]),
    ];
    let expected = [
        (None, "adamw + ema", &selected[0]),
        (Some("matrices"), "muon", &selected[1]),
        (Some("embed"), "sgd + clip_by_value", &selected[2]),
        (Some("sums"), "prodigy", &selected[3]),
    ];
    assert_eq!(groups, expected);
    assert!(state.groups.iter().all(|group| group.algorithm.is_some()));
    assert_eq!(
        state
            .groups
            .iter()
            .map(|group| group.steps)
            .collect::<Vec<_>>(),
        [0, 0, 0, 3]
    );
    let of = |name: &str| state.param(name).unwrap().group.as_deref();
    assert_eq!(
        ["w", "embed.x", "rest", "moved"].map(of),
        [Some("matrices"), Some("embed"), None, Some("sums")]
    );
    let text = serde_json::to_string(&state).unwrap();
    assert!(
        text.contains(r#""params":{"rank":2}"#) && text.contains(r#""params":{"prefix":"embed."}"#),
        "{text}"
    );
    assert!(
        text.contains(r#""params":["gain","bias","late"]"#),
        "{text}"
    );

    let (saved, before) = (state.clone(), p.clone());
    (4..8).for_each(|t| step(&mut whole, &mut p, t));
    for format in FORMATS {
        let carried = transport(&saved, format);
        assert!(
            carried.to_bytes().unwrap() == saved.to_bytes().unwrap(),
            "{format}"
        );
        let mut into = make();
        into.load_state_dict(carried.view()).unwrap();
        for mut optimizer in [into, Optimizer::from_state(carried).unwrap()] {
            assert_eq!(optimizer.state_dict(), saved, "{format}");
            assert_eq!(
                optimizer.missing(),
                [("sums", Select::names(["late"]))],
                "{format}"
            );
            let mut q = before.clone();
            (4..8).for_each(|t| step(&mut optimizer, &mut q, t));
            assert_eq!(bits(&p), bits(&q), "{format}");
            assert_eq!(optimizer.state_view(), whole.state_view(), "{format}");
            let groups =
                ["v", "embed.y", "late", "more", "moved"].map(|name| optimizer.group_of(name));
            assert_eq!(
                groups,
                [
                    Some("matrices"),
                    Some("embed"),
                    Some("sums"),
                    None,
                    Some("sums")
                ],
                "{format}"
            );
        }
    }

    // Another selection, another algorithm and another name of a group do not fit.
    let kinds = |change: &dyn Fn(&mut StateDict)| -> Vec<Differs> {
        let mut state = saved.clone();
        change(&mut state);
        make()
            .differences(&state)
            .iter()
            .map(|difference| difference.differs)
            .collect()
    };
    assert_eq!(kinds(&|_| ()), []);
    assert_eq!(
        kinds(&|state| state.groups[1].params = Select::rank(3)),
        [Differs::Group]
    );
    assert_eq!(
        kinds(&|state| state.groups[2].params = Select::prefix("embed")),
        [Differs::Group]
    );
    assert_eq!(
        kinds(&|state| state.groups[2].params = Select::names(["embed."])),
        [Differs::Group]
    );
    assert_eq!(
        kinds(&|state| state.groups[3].optimizer = "sgd".into()),
        [Differs::Optimizer]
    );
    assert_eq!(
        kinds(&|state| state.groups[3].algorithm = Some(Sgd::new(0.1).into())),
        [Differs::Optimizer]
    );
    assert_eq!(
        kinds(&|state| drop(state.groups.remove(3))),
        [Differs::Group]
    );
    assert_eq!(
        kinds(&|state| state.groups.push(saved.groups[3].clone())),
        [Differs::Group]
    );
    assert_eq!(
        kinds(&|state| state.groups[0].frozen = true),
        [Differs::Value]
    );
    assert_eq!(
        kinds(&|state| state.groups[1].scalars = Some(Scalars::default())),
        [Differs::Value]
    );
    assert_eq!(
        kinds(&|state| state.groups.swap(1, 2)),
        [],
        "groups have names"
    );

    // States made by hand: a parameter under two groups, and none for the parameters in no group.
    let mut twice = saved.clone();
    twice.groups[1].params = Select::names(["w", "bias"]);
    let error = Optimizer::<f64>::from_state(twice).unwrap_err();
    let [name, first, second] = ["bias", "matrices", "sums"].map(String::from);
    assert_eq!(
        error,
        Error::GroupedTwice {
            name,
            first,
            second
        }
    );
    let mut none = saved.clone();
    none.groups.clear();
    let Err(Error::State(all)) = Optimizer::<f64>::from_state(none) else {
        panic!("built without a group")
    };
    assert_eq!(all[0].differs, Differs::Group);
}

#[test]
fn a_parameter_that_moves_between_groups_takes_its_state_along_after_a_load() {
    let mut optimizer = Optimizer::<f64>::new(AdamW::new(0.1));
    optimizer
        .add_group(Group::new(
            "slow",
            Select::prefix("slow."),
            AdamW::new(0.01),
        ))
        .unwrap();
    let mut p = numbers::<f64>(&[3], 0, false);
    let step = |optimizer: &mut Optimizer<f64>, p: &mut ArrayD<f64>, t| {
        let g = numbers(&[3], t, false);
        let mut params = Params::new();
        params.add("w", p, &g).unwrap();
        optimizer.step(params).unwrap();
    };
    (1..3).for_each(|t| step(&mut optimizer, &mut p, t));
    optimizer.move_to_group("w", Some("slow")).unwrap();
    step(&mut optimizer, &mut p, 3);
    for format in FORMATS {
        let (mut whole, mut p) = (optimizer.clone(), p.clone());
        let (mut other, mut q) = (
            Optimizer::<f64>::from_state(transport(&whole.state_dict(), format)).unwrap(),
            p.clone(),
        );
        assert_eq!((other.group_of("w"), other.steps("w")), (Some("slow"), 3));
        for (optimizer, p) in [(&mut whole, &mut p), (&mut other, &mut q)] {
            (4..6).for_each(|t| step(optimizer, p, t));
            optimizer.move_to_group("w", None).unwrap();
            (6..8).for_each(|t| step(optimizer, p, t));
        }
        assert_eq!(
            (to_bits(&p), whole.state_view()),
            (to_bits(&q), other.state_view()),
            "{format}"
        );
    }
}

#[test]
fn the_memory_order_of_the_state_is_kept_whatever_it_is() {
    // Lamb sums over its arrays.
    let mut lamb = Optimizer::<f32>::new(Lamb::default());
    let mut p = numbers::<f32>(&[4, 3, 5], 0, false);
    fn turned(p: &mut ArrayD<f32>) -> ArrayViewMutD<'_, f32> {
        let mut view = p.view_mut().permuted_axes(vec![2, 0, 1]).into_dyn();
        view.invert_axis(Axis(1));
        view
    }
    for t in 1..4 {
        lamb.update(&mut turned(&mut p), &numbers::<f32>(&[5, 4, 3], t, false))
            .unwrap();
    }
    let state = transport(&lamb.state_dict(), "postcard");
    assert_eq!(
        (&state.params[0].order[..], &state.params[0].reversed[..]),
        (&[1, 2, 0][..], &[1][..])
    );
    let mut other = Optimizer::<f32>::from_state(state.view()).unwrap();
    assert_eq!(other.state_dict(), state);
    // From here on in row-major arrays.
    let mut q = turned(&mut p).as_standard_layout().into_owned();
    for t in 4..7 {
        lamb.update(&mut turned(&mut p), &numbers::<f32>(&[5, 4, 3], t, false))
            .unwrap();
        other
            .update(&mut q, &numbers::<f32>(&[5, 4, 3], t, false))
            .unwrap();
    }
    assert_eq!(to_bits(&turned(&mut p).to_owned()), to_bits(&q));
}

#[test]
fn estimates_of_curvature_before_the_first_step_are_state_too() {
    let (mut sophia, mut p) = (Optimizer::<f64>::new(Sophia::new(0.1)), arr![1.0, -2.0]);
    let estimate = arr![0.3, 0.1];
    let mut params = Params::new();
    params.add("variable", &mut p, &estimate).unwrap();
    sophia.update_hessian(params).unwrap();
    let state = transport(&sophia.state_dict(), "bytes");
    assert_eq!((state.params[0].steps, state.params[0].begun), (0, true));
    let (mut other, mut q) = (
        Optimizer::<f64>::from_state(state.view()).unwrap(),
        p.clone(),
    );
    sophia.update(&mut p, &arr![0.5, 0.5]).unwrap();
    other.update(&mut q, &arr![0.5, 0.5]).unwrap();
    assert_eq!(p, q);
}

#[test]
fn options_that_change_the_arrays_are_refused_after_a_load_too() {
    let mut adam = Optimizer::<f64>::new(Adam::new(0.1));
    adam.update(&mut arr![1.0], &arr![1.0]).unwrap();
    let [mut strict, mut partial] = [(); 2].map(|()| Optimizer::<f64>::new(Adam::new(0.1)));
    strict.load_state_dict(adam.state_view()).unwrap();
    let report = partial.load_matching(adam.state_dict()).unwrap();
    assert_eq!(report.taken, ["variable"]);
    for mut optimizer in [strict, partial] {
        optimizer.algorithm_mut::<Adam>().unwrap().amsgrad = true;
        assert!(matches!(
            optimizer.update(&mut arr![1.0], &arr![1.0]),
            Err(Error::StateChanged { .. })
        ));
    }
}

#[test]
fn the_greatest_step_count_that_is_loaded_is_far_from_overflow() {
    let wrapped = wrappers()
        .into_iter()
        .map(|wrap| composed(AdamW::default(), vec![wrap]));
    for config in AnyAlgorithm::all().into_iter().chain(wrapped) {
        let setup = Setup::grouped(&config);
        let model = Model::new(&setup);
        let (mut state, mut params) = before::<f64>(&setup, &model, 1, false);
        state
            .params
            .iter_mut()
            .for_each(|param| param.steps = 1 << 53);
        state
            .groups
            .iter_mut()
            .for_each(|group| group.steps = 1 << 53);
        let mut optimizer = Optimizer::<f64>::from_state(state.view()).unwrap();
        model.step(&mut optimizer, &mut params, 5, false);
        assert_eq!(optimizer.steps("a"), 1 << 53);
        assert!(optimizer.differences(&optimizer.state_view()).is_empty());
    }
}

#[test]
fn a_swapped_average_is_not_forgotten() {
    let mut optimizer = Optimizer::new(Sgd::new(0.1).ema(0.5));
    let mut p = arr![1.0, 2.0];
    optimizer.update(&mut p, &arr![1.0, 1.0]).unwrap();
    optimizer.update(&mut p, &arr![1.0, 1.0]).unwrap();
    optimizer.swap_average(&mut p).unwrap();
    let mut other = Optimizer::<f64>::from_state(optimizer.state_dict()).unwrap();
    assert!(matches!(
        other.update(&mut p, &arr![1.0, 1.0]),
        Err(Error::Swapped { .. })
    ));
    other.swap_average(&mut p).unwrap();
    other.update(&mut p, &arr![1.0, 1.0]).unwrap();
}

#[test]
fn a_round_of_accumulation_and_a_plateau_go_on_where_they_were() {
    fn make() -> Optimizer<f64> {
        let mut optimizer = Optimizer::new(Prodigy::default());
        optimizer
            .add_group(Group::new("q", ["q"], Momentum::new(0.1)))
            .unwrap();
        optimizer
    }
    let step = |optimizer: &mut Optimizer<f64>,
                plateau: &mut ReduceOnPlateau,
                p: &mut [ArrayD<f64>; 2],
                t: usize| {
        let (a, b) = (numbers(&[3, 2], t, false), numbers(&[4], t + 50, false));
        let [p, q] = p;
        let mut params = Params::new();
        params.loss(number(t, 0)).add("p", p, &a).unwrap();
        // Without a gradient in some calls: its mean is of fewer.
        params
            .add_optional("q", q, (t % 3 != 1).then_some(&*b))
            .unwrap();
        let expected = if t.is_multiple_of(6) {
            Outcome::Applied
        } else {
            Outcome::Accumulated
        };
        assert_eq!(optimizer.step(params).unwrap(), expected);
        let lr = plateau.observe(1.0 + number(t, 1));
        optimizer.set_lr(lr);
    };
    for k in 1..20 {
        for format in FORMATS {
            let config = ReduceOnPlateauConfig {
                patience: 2,
                factor: 0.5,
                cooldown: 1,
                ..ReduceOnPlateauConfig::new(0.3)
            };
            let (mut whole, mut plateau) = (make(), ReduceOnPlateau::new(config).unwrap());
            whole.set_accumulation(6);
            let mut p = [numbers(&[3, 2], 0, false), numbers(&[4], 1, false)];
            (1..=k).for_each(|t| step(&mut whole, &mut plateau, &mut p, t));
            let (state, saved) = (
                transport(&whole.state_dict(), format),
                serde_json::to_string(&plateau).unwrap(),
            );
            let (mut into, mut q) = (make(), p.clone());
            into.load_state_dict(state.view()).unwrap();
            assert_eq!(
                (into.accumulation(), into.state_view()),
                (whole.accumulation(), whole.state_view())
            );
            let mut of_state = Optimizer::<f64>::from_state(state.view()).unwrap();
            let mut r = p.clone();
            let mut plateaus: [ReduceOnPlateau; 2] =
                [(); 2].map(|()| serde_json::from_str(&saved).unwrap());
            for t in k + 1..30 {
                step(&mut whole, &mut plateau, &mut p, t);
                step(&mut into, &mut plateaus[0], &mut q, t);
                step(&mut of_state, &mut plateaus[1], &mut r, t);
            }
            for (a, (b, c)) in p.iter().zip(q.iter().zip(&r)) {
                assert_eq!(
                    (to_bits(a), to_bits(a)),
                    (to_bits(b), to_bits(c)),
                    "after {k}, {format}"
                );
            }
            assert_eq!(
                (whole.state_view(), whole.state_view()),
                (into.state_view(), of_state.state_view())
            );
            assert_eq!(plateau, plateaus[0]);
        }
    }
    // How many calls make a step is a setting that goes along, as that each call does.
    let mut whole = make();
    let mut other = make();
    other.set_accumulation(3);
    other.load_state_dict(whole.state_view()).unwrap();
    assert_eq!(other.accumulation(), (0, 1));
    whole.set_accumulation(3);
    other.load_state_dict(whole.state_view()).unwrap();
    assert_eq!(other.accumulation(), (0, 3));
}

#[test]
fn a_round_that_cannot_be_is_refused() {
    let mut adam = Optimizer::<f64>::new(Adam::new(0.1));
    adam.set_accumulation(3);
    for t in 0..2 {
        adam.update_with_loss(&mut arr![1.0, 2.0], &arr![number(t, 0), 1.0], 0.5)
            .unwrap();
    }
    let good = adam.state_dict();
    assert_eq!(good.accumulation.as_ref().unwrap().means.len(), 1);
    type Change = fn(&mut Round);
    let changes: [(&str, Change, &[Differs]); 7] = [
        (
            "more calls than a round has",
            |round| round.calls = 3,
            &[Differs::Round],
        ),
        (
            "a round without calls",
            |round| (round.every, round.calls) = (0, 0),
            &[Differs::Round, Differs::Round],
        ),
        (
            "more gradients than calls",
            |round| round.means[0].count = 3,
            &[Differs::Round],
        ),
        (
            "a mean twice",
            |round| round.means.push(round.means[0].clone()),
            &[Differs::Round],
        ),
        (
            "a mean of f32",
            |round| round.means[0].data = ArrayD::<f32>::zeros(vec![2]).into(),
            &[Differs::Element],
        ),
        ("no mean", |round| round.means.clear(), &[]),
        (
            "another number of calls",
            |round| round.every = u32::MAX,
            &[],
        ),
    ];
    for (what, change, expected) in changes {
        let mut state = good.clone();
        change(state.accumulation.as_mut().unwrap());
        let mut optimizer = adam.clone();
        let kinds: Vec<_> = optimizer
            .differences(&state)
            .iter()
            .map(|difference| difference.differs)
            .collect();
        assert_eq!(kinds, expected, "{what}");
        assert_eq!(
            optimizer.load_state_dict(state.view()).is_ok(),
            expected.is_empty(),
            "{what}"
        );
        assert_eq!(
            optimizer.state_dict(),
            if expected.is_empty() {
                state
            } else {
                good.clone()
            },
            "{what}"
        );
    }
    let wrong = adam.load_state_dict(Optimizer::<f32>::new(Sgd::new(0.1)).state_dict());
    let Err(Error::State(all)) = wrong else {
        panic!("{wrong:?}")
    };
    let kinds: Vec<_> = all.iter().map(|difference| difference.differs).collect();
    let expected = [Differs::Element, Differs::Optimizer, Differs::Parameter];
    assert_eq!(kinds, expected);
    assert_eq!(adam.state_dict(), good);
}

#[test]
fn schedules_have_nothing_to_save_but_their_keys() {
    let cosine = WarmupCosine::new(0.0, 1e-2, 3, 20);
    let schedules = Schedules::new().drive("lr", cosine).drive("betas[0]", 0.8);
    let saved = serde_json::to_string(&schedules).unwrap();
    let (mut adam, mut p) = (Optimizer::<f64>::new(Adam::new(1.0)), arr![1.0, 2.0]);
    let step = |schedules: &Schedules, adam: &mut Optimizer<f64>, p: &mut Array1<f64>, t: u64| {
        schedules.apply(adam, t).unwrap();
        adam.update(p, &arr![number(1, t as usize), 0.5]).unwrap();
    };
    (0..7).for_each(|t| step(&schedules, &mut adam, &mut p, t));
    let (mut other, mut q) = (Optimizer::new(Adam::new(5.0)), p.clone());
    other
        .load_state_dict(transport(&adam.state_dict(), "JSON"))
        .unwrap();
    let restored: Schedules = serde_json::from_str(&saved).unwrap();
    assert_eq!(restored, schedules);
    (7..15).for_each(|t| step(&schedules, &mut adam, &mut p, t));
    (7..15).for_each(|t| step(&restored, &mut other, &mut q, t));
    assert_eq!(p, q);
}

/// What is changed in a state must be seen: refused by the load, or in the bits of the steps after
/// it.
#[test]
fn a_state_that_lacks_anything_is_refused_or_gives_other_bits() {
    type Mutation = fn(&mut StateDict) -> bool;
    fn drop_array(state: &mut StateDict) -> bool {
        state.params[0]
            .arrays
            .pop()
            .or_else(|| state.params[0].factors.pop())
            .is_some()
    }
    fn drop_param(state: &mut StateDict) -> bool {
        state.params[0].arrays.len() + state.params[0].factors.len() > 0
            && !state.params.remove(0).name.is_empty()
    }
    fn later(state: &mut StateDict) -> bool {
        state.params.iter_mut().for_each(|param| param.steps += 1);
        state.groups.iter_mut().for_each(|group| group.steps += 1);
        true
    }
    fn earlier(state: &mut StateDict) -> bool {
        state.params.iter_mut().for_each(|param| param.steps -= 1);
        state
            .groups
            .iter_mut()
            .for_each(|group| group.steps = group.steps.saturating_sub(1));
        true
    }
    fn zero_arrays(state: &mut StateDict) -> bool {
        let arrays = state
            .params
            .iter_mut()
            .flat_map(|param| param.arrays.iter_mut().chain(&mut param.factors));
        arrays
            .map(|array| array.data = ArrayD::<f64>::zeros(array.data.shape()).into())
            .count()
            > 0
    }
    fn no_scalars(state: &mut StateDict) -> bool {
        let before = state.clone();
        state
            .params
            .iter_mut()
            .for_each(|param| param.scalars = Scalars::default());
        state
            .groups
            .iter_mut()
            .for_each(|group| group.scalars = group.scalars.map(|_| Scalars::default()));
        *state != before
    }
    fn other_lr(state: &mut StateDict) -> bool {
        let mut other = Optimizer::<f64>::from_state(state.view()).unwrap();
        let lr = 1.5 * other.lr();
        other.set_lr(lr);
        *state = other.state_dict();
        true
    }
    fn begin_again(state: &mut StateDict) -> bool {
        state
            .params
            .iter_mut()
            .for_each(|param| param.begun = false);
        true
    }
    let mutations: [(&str, Mutation); 8] = [
        ("an array dropped", drop_array),
        ("a parameter dropped", drop_param),
        ("a step later", later),
        ("a step earlier", earlier),
        ("arrays zeroed", zero_arrays),
        ("scalars zeroed", no_scalars),
        ("another lr", other_lr),
        ("begun again", begin_again),
    ];
    println!(
        "{:<22}{:>9}{:>9}{:>9}{:>12}  no difference",
        "", "possible", "refused", "other", "survive"
    );
    for (what, mutate) in mutations {
        let (mut possible, mut refused, mut differ, mut same) = (0, 0, 0, Vec::new());
        for config in AnyAlgorithm::all() {
            let setup = Setup::alone(&config);
            let model = Model::new(&setup);
            let expected = reference::<f64>(&setup, &model);
            let (mut state, params) = before::<f64>(&setup, &model, 1, false);
            if !mutate(&mut state) {
                continue;
            }
            possible += 1;
            let mut optimizer = Optimizer::<f64>::new(config.clone());
            match optimizer.load_state_dict(state.view()) {
                Err(_) => refused += 1,
                Ok(_) if after(optimizer, &model, &params, false).0 != expected.0 => differ += 1,
                Ok(_) => same.push(config.name()),
            }
        }
        println!(
            "{what:<22}{possible:>9}{refused:>9}{differ:>9}{:>12}  {same:?}",
            same.len()
        );
        // These do without: the count has no part in their formula with these defaults, the sign of
        // a direction hides its size, the average is only kept aside, the numbers are taken anew at
        // each step, or state begins with zeros.
        let expected: &[&str] = match what {
            "a step later" | "a step earlier" => &[
                "sgd",
                "momentum",
                "rmsprop",
                "adagrad",
                "adadelta",
                "rprop",
                "lion",
                "sign_sgd",
                "optimistic_gradient_descent",
                "cocob",
                "aggmo",
                "qhm",
                "tiger",
                "signum",
                "ftrl",
                "schedule_free_sgd",
                "novograd",
                "lars",
                "fromage",
                "polyak_sgd",
                "momo",
                "dog",
                "dowg",
                "sm3",
                "shampoo",
                "sophia",
            ],
            "arrays zeroed" => &["asgd", "lion"],
            "a parameter dropped" => &["lion"],
            "scalars zeroed" => &[
                "sgd",
                "lamb",
                "lars",
                "fromage",
                "polyak_sgd",
                "momo",
                "momo_adam",
                "adafactor",
                "muon",
                "mars",
            ],
            "another lr" => &["rprop", "polyak_sgd", "momo"],
            "begun again" => &[
                "sgd",
                "asgd",
                "lion",
                "sign_sgd",
                "fromage",
                "polyak_sgd",
                "adafactor",
                "muon",
                "shampoo",
                "soap",
            ],
            _ => &[],
        };
        assert_eq!(same, expected, "{what}");
    }
}

#[test]
fn every_difference_is_listed_and_nothing_changes() {
    let grad = arr![0.5, -0.5];
    let run = |optimizer: &mut Optimizer<f64>| {
        let (mut a, mut b) = (arr![1.0, 2.0], arr![3.0, 4.0]);
        let mut params = Params::new();
        params
            .add("a", &mut a, &grad)
            .unwrap()
            .add("b", &mut b, &grad)
            .unwrap();
        optimizer.step(params).unwrap();
    };
    let mut adamw = Optimizer::<f64>::new(AdamW::new(0.1));
    adamw
        .add_group(Group::new("decay", ["b"], AdamW::default()))
        .unwrap();
    run(&mut adamw);
    let good = adamw.state_dict();
    assert_eq!(adamw.differences(&good), []);

    let mut bad = good.clone();
    bad.version = 2;
    bad.clip = Some(ClipByGlobalNorm {
        max_norm: f64::NAN,
        ..Default::default()
    });
    bad.groups[1].params = Select::names(["b", "z"]);
    bad.groups[0].algorithm = Some(
        AdamW {
            lr: f64::NAN,
            ..Default::default()
        }
        .into(),
    );
    bad.params[1].arrays[0].data = ArrayD::<f32>::zeros(vec![2]).into();
    bad.params[1].arrays[1].name = "exp_avg_squared".into();
    bad.params[1].steps = u64::MAX;
    bad.params[1].order = vec![1];
    bad.skipped = u64::MAX;
    bad.params[0].name = "c".into();
    let error = adamw.load_state_dict(bad.view()).unwrap_err();
    println!("{error}");
    let Error::State(all) = &error else {
        panic!("{error}")
    };
    let kinds: Vec<_> = all.iter().map(|difference| difference.differs).collect();
    use Differs::{
        Array, Config, Element as ElementOf, Group as GroupOf, Parameter, Shape, Value, Version,
    };
    assert_eq!(
        kinds,
        [
            Version, Value, Config, Config, GroupOf, Parameter, Value, Value, ElementOf, Array,
            Array, Parameter
        ]
    );
    assert_eq!(adamw.state_dict(), good);
    let text = error.to_string();
    for words in [
        "version of the format: found 2, expected 1",
        "`lr`",
        "`exp_avg_squared`",
        "parameter `a`: found nothing",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }

    let kinds = |optimizer: &Optimizer<f64>, state: &StateDict| -> Vec<Differs> {
        optimizer
            .differences(state)
            .iter()
            .map(|difference| difference.differs)
            .collect()
    };
    // Another optimizer, another element type, no groups, another shape, a repeated parameter,
    // arrays where there are none.
    assert_eq!(
        kinds(&Optimizer::new(Sgd::new(0.1)), &good),
        [Differs::Optimizer, GroupOf, GroupOf]
    );
    assert_eq!(
        kinds(
            &Optimizer::new(AdamW::new(0.1)),
            &Optimizer::<f32>::new(AdamW::new(0.1)).state_dict()
        ),
        [ElementOf]
    );
    assert_eq!(
        kinds(&Optimizer::new(AdamW::new(0.1)), &good),
        [GroupOf, GroupOf]
    );
    let mut other = good.clone();
    other.params[0].shape = vec![2, 1];
    other.params[0].order = vec![0, 1];
    assert_eq!(kinds(&adamw, &other), [Shape, Shape, Shape]);
    other = good.clone();
    other.params.push(good.params[0].clone());
    other.params[1].allocated = false;
    assert_eq!(kinds(&adamw, &other), [Value, Parameter]);
    for shape in [
        vec![usize::MAX, usize::MAX],
        vec![1 << 40, 1 << 40, 0],
        vec![1; 7],
        vec![usize::MAX],
    ] {
        let mut other = Optimizer::<f64>::new(Sgd::new(0.1));
        other.update(&mut arr![1.0], &arr![1.0]).unwrap();
        let mut state = other.state_dict();
        state.params[0].order = (0..shape.len() as u8).collect();
        state.params[0].shape = shape;
        assert_eq!(kinds(&Optimizer::new(Sgd::new(0.1)), &state), [Shape]);
    }
    // The catalogue's options belong to the state.
    let mut amsgrad = Optimizer::<f64>::new(AdamW {
        amsgrad: true,
        ..Default::default()
    });
    run(&mut amsgrad);
    let mut plain = Optimizer::<f64>::new(AdamW::new(0.1));
    plain.load_state_dict(amsgrad.state_dict()).unwrap();
    assert!(plain.algorithm::<AdamW>().unwrap().amsgrad);
    assert_eq!(plain.state("a").len(), 3);
}

#[test]
fn what_fits_can_be_taken_by_name() {
    let (ga, gb) = (arr![0.5, -0.5], arr![0.1, 0.2, 0.3]);
    let run = |optimizer: &mut Optimizer<f64>, names: [&'static str; 2]| {
        let (mut a, mut b) = (arr![1.0, 2.0], arr![3.0, 4.0, 5.0]);
        let mut params = Params::new();
        params
            .add(names[0], &mut a, &ga)
            .unwrap()
            .add(names[1], &mut b, &gb)
            .unwrap();
        optimizer.step(params).unwrap();
    };
    let mut adam = Optimizer::<f64>::new(Adam {
        amsgrad: true,
        ..Default::default()
    });
    run(&mut adam, ["a", "b"]);
    run(&mut adam, ["a", "b"]);
    let mut adamw = Optimizer::<f64>::new(AdamW::new(0.5));
    run(&mut adamw, ["a", "c"]);
    let mut state = adam.state_dict();
    state.params[1].name = "c".into();
    state.params[1]
        .arrays
        .retain(|array| array.name != "exp_avg");
    let report = adamw.load_matching(state.view()).unwrap();
    println!("{report}");
    assert_eq!(
        (&report.taken[..], report.missing.len()),
        (&["a".to_string()][..], 0)
    );
    let places: Vec<_> = report.left_over.iter().map(|left| &*left.place).collect();
    assert_eq!(places.len(), 3, "{places:?}");
    assert!(
        places[0].contains("`a`, array `max_exp_avg_sq`")
            && places[1].contains("`c`, array `exp_avg`"),
        "{places:?}"
    );
    assert_eq!(
        (adamw.steps("a"), adamw.steps("c"), adamw.lr()),
        (2, 1, 0.5)
    );
    let same = |array: &str| {
        let found = adamw
            .state("a")
            .into_iter()
            .find(|(name, _)| *name == array)
            .unwrap()
            .1
            .to_owned();
        assert_eq!(found, adam.state_dict().array::<f64>("a", array).unwrap());
    };
    same("exp_avg");
    same("exp_avg_sq");
    state.params.remove(1);
    assert_eq!(adamw.load_matching(state.view()).unwrap().missing, ["c"]);
    state.version = 7;
    assert!(adamw.load_matching(state.view()).is_err());
}

#[test]
fn states_can_be_edited() {
    let mut optimizer = Optimizer::new(Lion::default());
    optimizer.set_accumulation(2);
    optimizer
        .add_group(Group::new("g", ["w"], Adam::default().ema(0.5)))
        .unwrap();
    let mut w = numbers::<f64>(&[3, 4], 0, true);
    for t in 1..4 {
        let mut params = Params::new();
        let g = numbers(&[3, 4], t, false);
        params.add("w", &mut w, &g).unwrap();
        optimizer.step(params).unwrap();
    }
    let state = optimizer.state_dict();
    assert_eq!(state.params[0].order, [1, 0]);
    let shapes = |state: &StateDict| {
        let param = &state.params[0];
        let means = state
            .accumulation
            .iter()
            .flat_map(|round| &round.means)
            .map(|mean| mean.data.shape().to_vec());
        let mut all: Vec<_> = param
            .arrays
            .iter()
            .map(|array| array.data.shape().to_vec())
            .chain(means)
            .collect();
        all.push(param.shape.clone());
        all.dedup();
        all
    };

    let mut edited = state.clone();
    edited.slice("w", 1, 1..3).unwrap();
    assert_eq!(shapes(&edited), [[3, 2]]);
    edited.grow("w", 0, 2, 0.25).unwrap();
    assert_eq!(shapes(&edited), [[5, 2]]);
    let (old, new) = (
        state.array::<f64>("w", "exp_avg").unwrap(),
        edited.array::<f64>("w", "exp_avg").unwrap(),
    );
    assert_eq!(
        new.slice(ndarray::s![..3, ..]),
        old.slice(ndarray::s![.., 1..3])
    );
    assert!(new.slice(ndarray::s![3.., ..]).iter().all(|&x| x == 0.25));
    edited.rename("w", "v").unwrap();
    assert_eq!(edited.groups[1].params, Select::names(["v"]));
    assert_eq!(edited.accumulation.as_ref().unwrap().means[0].name, "v");
    edited.param_mut("v").unwrap().steps = 9;
    edited
        .set_array("v", "ema", ArrayD::<f64>::ones(vec![5, 2]))
        .unwrap();
    let mut v = numbers::<f64>(&[5, 2], 7, false);
    let mut other = Optimizer::<f64>::from_state(edited.view()).unwrap();
    let g = numbers(&[5, 2], 8, false);
    let mut params = Params::new();
    params.add("v", &mut v, &g).unwrap();
    assert_eq!(other.step(params).unwrap(), Outcome::Applied);
    assert_eq!(other.steps("v"), 10);

    // Two grown from the halves of one are the whole of it.
    let mut half = state.clone();
    half.slice("w", 0, 0..1).unwrap();
    half.grow("w", 0, 2, 0.0).unwrap();
    half.slice("w", 0, 1..1).unwrap();
    assert_eq!(shapes(&half), [[0, 4]]);

    let mut removed = state.clone();
    let param = removed.remove("w").unwrap();
    assert!(removed.params.is_empty() && removed.accumulation.as_ref().unwrap().means.is_empty());
    assert_eq!(removed.groups[1].params, Select::Names(Vec::new()));
    removed.add(param.clone()).unwrap();
    removed.accumulation.clone_from(&state.accumulation);
    assert_eq!(removed.to_bytes().unwrap(), state.to_bytes().unwrap());

    let refused = |result: Result<(), Error>, words: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, Error::StateEdit { .. }) && error.to_string().contains(words),
            "{error}"
        );
    };
    let before = edited.clone();
    refused(edited.rename("w", "x"), "has no state");
    edited.groups[1].params = Select::names(["v", "taken"]);
    refused(edited.rename("v", "taken"), "already exists");
    edited.groups[1].params = Select::names(["v"]);
    refused(edited.add(before.params[0].clone()), "already exists");
    let mut stray = param.clone();
    (stray.name, stray.group) = ("x".into(), Some("h".into()));
    refused(edited.add(stray), "not in the state");
    refused(edited.slice("v", 2, 0..1), "no axis 2");
    refused(
        edited.slice("v", 0, 4..6),
        "out of bounds for axis 0 of length 5",
    );
    refused(edited.grow("v", 0, usize::MAX, 0.0), "too large");
    refused(edited.grow("v", 0, usize::MAX / 64, 0.0), "too large");
    refused(
        edited.set_array("v", "exp_avg", ArrayD::<f64>::zeros(vec![1])),
        "of shape [5, 2], got f64 of shape [1]",
    );
    refused(
        edited.set_array("v", "exp_avg", ArrayD::<f32>::zeros(vec![5, 2])),
        "is f64 of shape [5, 2], got f32",
    );
    refused(
        edited.set_array("v", "other", ArrayD::<f64>::zeros(vec![5, 2])),
        "no array",
    );
    assert_eq!(edited.to_bytes().unwrap(), before.to_bytes().unwrap());
    // Factors cannot be cut.
    let mut adafactor = Optimizer::<f64>::new(Adafactor::new(0.1));
    adafactor
        .update(
            &mut arr![[1.0, 2.0], [3.0, 4.0]],
            &arr![[1.0, 2.0], [3.0, 4.0]],
        )
        .unwrap();
    refused(
        adafactor.state_dict().slice("variable", 0, 0..1),
        "cannot be resized",
    );
}

/// Texts and bytes that are almost a state.
fn broken_bytes(original: &[u8], changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for &(at, to) in changes {
        let n = bytes.len();
        bytes[at % n] = to;
    }
    bytes.truncate(bytes.len() - cut % bytes.len());
    bytes
}

fn load_anything(bytes: &[u8]) {
    let found = [
        StateDict::from_bytes(bytes).ok(),
        StateDict::from_safetensors(bytes)
            .ok()
            .map(|(state, _)| state),
        serde_json::from_slice(bytes).ok(),
        ciborium::from_reader(bytes).ok(),
        postcard::from_bytes(bytes).ok(),
    ];
    for state in found.iter().flatten() {
        let mut optimizer = small();
        let _ = optimizer.load_state_dict(state.view());
        let _ = optimizer.load_matching(state.view());
        if let Ok(mut optimizer) = Optimizer::<f32>::from_state(state.view()) {
            for name in state.params.iter().map(|param| &*param.name) {
                let mut p = ArrayD::<f32>::zeros(vec![2, 3]);
                let g = p.clone();
                let mut params = Params::new();
                params.loss(1.0).add(name, &mut p, &g).unwrap();
                let _ = optimizer.step(params);
            }
        }
    }
}

fn small() -> Optimizer<f32> {
    let mut optimizer =
        Optimizer::<f32>::new(composed(Prodigy::default(), vec![Ema::default().into()]));
    optimizer
        .add_group(Group::new("g", ["b"], Prodigy::default()))
        .unwrap();
    optimizer
        .add_group(Group::new("h", Select::prefix("c."), Adafactor::default()))
        .unwrap();
    optimizer
        .add_group(Group::new("i", Select::rank(3), Sgd::default()))
        .unwrap();
    optimizer.clip = Some(ClipByGlobalNorm::default());
    optimizer.set_accumulation(2);
    for t in 0..3 {
        let (mut a, mut b) = (numbers(&[2, 3], t, false), numbers(&[2], t, false));
        let (ga, gb) = (numbers(&[2, 3], t + 5, false), numbers(&[2], t + 9, false));
        let mut params = Params::new();
        let (mut c, gc) = (numbers(&[2, 4], t, false), numbers(&[2, 4], t + 13, false));
        params
            .loss(0.5)
            .add("a", &mut a, &ga)
            .unwrap()
            .add("b", &mut b, &gb)
            .unwrap()
            .add("c.x", &mut c, &gc)
            .unwrap();
        optimizer.step(params).unwrap();
    }
    optimizer
}

fn originals() -> Vec<Vec<u8>> {
    let state = small().state_dict();
    let mut cbor = Vec::new();
    ciborium::into_writer(&state, &mut cbor).unwrap();
    vec![
        state.to_bytes().unwrap(),
        state.to_safetensors().unwrap(),
        serde_json::to_vec(&state).unwrap(),
        cbor,
        postcard::to_stdvec(&state).unwrap(),
    ]
}

proptest! {
    #![proptest_config(random(400))]

    #[test]
    fn no_bytes_make_a_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        load_anything(&bytes);
        load_anything(&[b"ndoptim\n", &[40, 0, 0, 0, 0, 0, 0, 0][..], &bytes].concat());
    }

    #[test]
    fn no_change_of_a_file_makes_a_loader_panic(
        which in 0..5_usize,
        changes in prop::collection::vec(
            (
                any::<usize>(),
                prop_oneof![
                    any::<u8>(),
                    prop::sample::select(b"0123456789[]{}\",:-e\xff\x7f".to_vec()),
                ],
            ),
            0..4,
        ),
        cut in prop_oneof![4 => Just(0_usize), 1 => any::<usize>()],
    ) {
        load_anything(&broken_bytes(&originals()[which], &changes, cut));
    }
}

/// Files that promise much more than they hold take no more memory than they have bytes, and deep
/// ones no stack.
#[test]
fn promises_are_not_believed() {
    let state = small().state_dict();
    let text = serde_json::to_string(&state).unwrap();
    let shapes =
        |text: &str, shape: &str| text.replace("\"shape\":[2,3]", &format!("\"shape\":{shape}"));
    for shape in [
        "[4611686018427387904]",
        "[4294967296,4294967296]",
        "[18446744073709551615,0]",
        "[1000000000000,1]",
    ] {
        assert!(
            serde_json::from_str::<StateDict>(&shapes(&text, shape)).is_err(),
            "{shape}"
        );
    }
    let header = b"ndoptim\n\xff\xff\xff\xff\xff\xff\xff\x7f{}".to_vec();
    assert!(matches!(
        StateDict::from_bytes(&header),
        Err(Error::StateFormat { .. })
    ));
    // postcard: lengths of 2^63 in front of nothing.
    let bytes = postcard::to_stdvec(&state).unwrap();
    for at in 0..bytes.len() {
        let lie = [&bytes[..at], &[0xff; 9], &[0x7f]].concat();
        let _ = postcard::from_bytes::<StateDict>(&lie);
        let _ = ciborium::from_reader::<StateDict, _>(
            &[
                &bytes[..at],
                &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            ]
            .concat()[..],
        );
    }
    for depth in [10, 60, 2000, 100_000] {
        let deep = format!(
            "{}{{\"name\":\"sgd\"}}{}",
            r#"{"name":"composed","wrap":[],"inner":"#.repeat(depth),
            "}".repeat(depth)
        );
        let text = text.replacen(
            &serde_json::to_string(&state.groups[0].algorithm).unwrap(),
            &deep,
            1,
        );
        assert!(text.contains(&deep));
        let read = serde_json::from_str::<StateDict>(&text);
        assert_eq!(read.is_ok(), depth <= 10, "{depth}");
    }
}

#[test]
fn json_has_the_numbers_that_json_does_not_know() {
    let mut momentum = Optimizer::<f32>::new(Momentum::new(0.1));
    momentum
        .update(&mut arr![1.0, 1.0], &arr![1.0, 1.0])
        .unwrap();
    let mut state = momentum.state_dict();
    let odd = arr![
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        f32::MIN_POSITIVE / 2.0,
        f32::MAX,
        0.1,
        f32::from_bits(0x7fa1_2345)
    ];
    state.params[0].shape = vec![8];
    state.params[0].arrays[0].data = odd.clone().into_dyn().into();
    state.params[0].scalars = Scalars::new([
        f64::NEG_INFINITY,
        0.1,
        f64::from_bits(0x7ff0_dead_beef_0001),
        1e-310,
    ]);
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.contains(r#"["NaN","inf","-inf",-0.0,"#), "{text}");
    let bits = |state: &StateDict| -> (Vec<u32>, [u64; 4]) {
        let array = state.array::<f32>("variable", "exp_avg").unwrap();
        (
            array.iter().map(|x| x.to_bits()).collect(),
            [0, 1, 2, 3].map(|k| state.params[0].scalars[k].to_bits()),
        )
    };
    for format in FORMATS {
        let (found, expected) = (bits(&transport(&state, format)), bits(&state));
        let text = format == "JSON";
        let same = |x: u64, y: u64, nan: bool| x == y || text && nan;
        assert!(
            found.0.iter().zip(&expected.0).all(|(&x, &y)| same(
                x.into(),
                y.into(),
                f32::from_bits(y).is_nan()
            )),
            "{format}"
        );
        assert_eq!(found.1, expected.1, "{format}");
    }
    let error = serde_json::from_str::<StateDict>(&text.replace("-0.0,", "1e300,"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("out of range for f32"), "{error}");
}

/// Files of each version that was ever written. They are read for ever and never written again: a
/// new version adds its own, by `WRITE_STATES=1 cargo test --test suite files_of_every_version`,
/// which leaves those that are there alone.
#[test]
fn files_of_every_version_load_for_ever() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/states");
    // Numbers whose sums and products are the same in every version of this test.
    let array = |t: usize| {
        Array1::from_iter((0..7).map(|i| ((i * 5 + t * 3) % 11) as f32 * 0.25 - 1.0)).into_dyn()
    };
    let amsgrad = |lr| AdamW {
        lr,
        amsgrad: true,
        ..Default::default()
    };
    let mut whole = Optimizer::<f32>::new(composed(
        amsgrad(0.01),
        vec![
            Ema {
                decay: 0.9,
                ..Default::default()
            }
            .into(),
        ],
    ));
    whole
        .add_group(Group::new("slow", ["b"], amsgrad(0.001)))
        .unwrap();
    whole
        .add_group(Group::new(
            "matrices",
            Select::rank(2),
            Adafactor::new(0.01),
        ))
        .unwrap();
    whole
        .add_group(Group::new(
            "embeddings",
            Select::prefix("embed."),
            Prodigy::new(1.0),
        ))
        .unwrap();
    whole.clip = Some(ClipByGlobalNorm {
        max_norm: 3.0,
        ..Default::default()
    });
    whole.set_accumulation(2);
    let mut p = [
        array(1),
        array(2),
        array(5).into_shape_with_order(vec![1, 7]).unwrap(),
        array(6),
    ];
    let step = |optimizer: &mut Optimizer<f32>, p: &mut [ArrayD<f32>; 4], t: usize| {
        let [a, b, c, d] = p;
        let (ga, gb, gd) = (array(t + 3), array(t + 4), array(t + 6));
        let gc = array(t + 5).into_shape_with_order(vec![1, 7]).unwrap();
        let mut params = Params::new();
        params
            .add("a", a, &ga)
            .unwrap()
            .add_optional("b", b, t.is_multiple_of(2).then_some(&*gb))
            .unwrap();
        params
            .add("c", c, &gc)
            .unwrap()
            .add("embed.d", d, &gd)
            .unwrap();
        optimizer.step(params).unwrap();
    };
    (0..9).for_each(|t| step(&mut whole, &mut p, t));
    let state = whole.state_dict();
    let written = |format: &str| match format {
        "json" => serde_json::to_vec(&state).unwrap(),
        "state" => state.to_bytes().unwrap(),
        "ckpt" => Checkpoint::new(5)
            .state("optimizer", state.view())
            .unwrap()
            .to_bytes()
            .unwrap(),
        _ => state.to_safetensors().unwrap(),
    };
    let from = p.clone();
    (9..20).for_each(|t| step(&mut whole, &mut p, t));
    const VERSION: u32 = <StateDict>::VERSION;
    for version in 1..=VERSION {
        for format in ["json", "state", "safetensors", "ckpt"] {
            let file = folder.join(format!("v{version}.{format}"));
            if std::env::var_os("WRITE_STATES").is_some() && version == VERSION && !file.exists() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, written(format)).unwrap();
            }
            let bytes =
                std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let loaded = match format {
                "json" => serde_json::from_slice(&bytes).unwrap(),
                "state" => StateDict::from_bytes(&bytes).unwrap(),
                "ckpt" => Checkpoint::from_bytes(&bytes)
                    .unwrap()
                    .take_state("optimizer")
                    .unwrap(),
                _ => StateDict::from_safetensors(&bytes).unwrap().0,
            };
            let mut resumed = Optimizer::<f32>::from_state(loaded).unwrap();
            let mut q = from.clone();
            (9..20).for_each(|t| step(&mut resumed, &mut q, t));
            let [resumed, whole] =
                [&resumed, &whole].map(|o| serde_json::to_value(o.state_dict()).unwrap());
            // The last bits of results may change from version to version.
            assert!(close(&resumed, &whole), "version {version}, {format}");
            for (p, q) in p.iter().flatten().zip(q.iter().flatten()) {
                assert!(
                    (p - q).abs() <= 1e-6 * p.abs(),
                    "version {version}, {format}"
                );
            }
        }
    }
}

/// Whether both are the same, and numbers to about the accuracy of `f32`.
fn close(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (a, b) {
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b)),
        (Object(a), Object(b)) => {
            let same = |(key, a): (&String, _)| b.get(key).is_some_and(|b| close(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()),
            _ => a == b,
        },
    }
}

#[test]
fn a_state_of_the_other_element_type_is_cast_and_never_by_a_load() {
    let grads = [arr![0.1, -3.0, 1e-3], arr![2.5, 0.0, -1.0 / 3.0]];
    let mut adam = Optimizer::<f64>::new(Adam::new(0.1).ema(0.9));
    adam.add_group(Group::new("rows", ["w"], Adafactor::new(0.1)))
        .unwrap();
    adam.set_accumulation(2);
    let (mut p, mut w) = (arr![1.0, 2.0, 3.0], arr![[1.0, 2.0, 3.0]]);
    for g in grads.iter().cycle().take(5) {
        let rows = g.clone().insert_axis(Axis(0));
        let mut params = Params::new();
        params.loss(0.5);
        params
            .add("p", &mut p, g)
            .unwrap()
            .add("w", &mut w, &rows)
            .unwrap();
        adam.step(params).unwrap();
    }
    let state = adam.state_dict();
    let narrow = state.cast(ElementType::F32).unwrap();
    assert_eq!(narrow.element, ElementType::F32);
    let mut arrays = 0;
    for (wide, narrow) in state.params.iter().zip(&narrow.params) {
        assert_eq!((wide.steps, wide.scalars), (narrow.steps, narrow.scalars));
        let pairs = wide.arrays.iter().chain(&wide.factors);
        for (wide, narrow) in pairs.zip(narrow.arrays.iter().chain(&narrow.factors)) {
            let (wide, narrow) = (wide.data.view::<f64>(), narrow.data.view::<f32>());
            assert_eq!(wide.unwrap().mapv(|x| x as f32), narrow.unwrap());
            arrays += 1;
        }
    }
    let round = narrow.accumulation.as_ref().unwrap();
    assert_eq!((arrays, round.means.len()), (5, 2));
    // It goes on like the wide one, up to rounding, and back again it is exact.
    let mut single = Optimizer::<f32>::from_state(narrow.view()).unwrap();
    let (mut p32, mut w32) = (p.mapv(|x| x as f32), w.mapv(|x| x as f32));
    let g32 = grads[0].mapv(|x| x as f32);
    let rows32 = g32.clone().insert_axis(Axis(0));
    let rows = grads[0].clone().insert_axis(Axis(0));
    let mut params = Params::new();
    params
        .add("p", &mut p32, &g32)
        .unwrap()
        .add("w", &mut w32, &rows32)
        .unwrap();
    assert_eq!(single.step(params), Ok(Outcome::Applied));
    let mut params = Params::new();
    params
        .add("p", &mut p, &grads[0])
        .unwrap()
        .add("w", &mut w, &rows)
        .unwrap();
    adam.step(params).unwrap();
    for (x, y) in p32.iter().chain(&w32).zip(p.iter().chain(&w)) {
        assert!((f64::from(*x) - y).abs() < 1e-6, "{x} {y}");
    }
    let wide = narrow.cast(ElementType::F64).unwrap();
    assert_eq!(wide.cast(ElementType::F32).unwrap(), narrow);
    assert_eq!(state.cast(ElementType::F64).unwrap(), state);
    // Without a cast, a load refuses.
    let refused = Optimizer::<f32>::from_state(state.view());
    assert!(matches!(refused, Err(Error::State(_))));
}

#[test]
fn a_cast_keeps_what_is_not_finite_and_refuses_what_does_not_fit() {
    let mut sgd = Optimizer::new(Sgd {
        momentum: 0.9,
        ..Sgd::new(0.1)
    });
    let values = arr![f64::NAN, f64::INFINITY, -f64::INFINITY, 1e-300, -3.4e38];
    sgd.update(&mut values.clone(), &values).unwrap();
    let state = sgd.state_dict();
    let narrow = state.cast(ElementType::F32).unwrap();
    let buffer = narrow.array::<f32>("variable", "momentum_buffer").unwrap();
    assert!(buffer[[0]].is_nan());
    let rest: Vec<f32> = buffer.iter().skip(1).copied().collect();
    assert_eq!(rest, [f32::INFINITY, -f32::INFINITY, 0.0, -3.4e38]);
    let mut large = state;
    let array = arr![0.0, 1e39, 0.0, 0.0, 0.0].into_dyn();
    large
        .set_array("variable", "momentum_buffer", array)
        .unwrap();
    let error = large.cast(ElementType::F32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot edit the state of parameter `variable`: `variable.momentum_buffer` contains 1e39, \
         out of range for f32"
    );
}
