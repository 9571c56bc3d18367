//! Steps of several ranks are those of one process, bit for bit.
use crate::model::*;
use ndarray::ArrayD;
use ndarray_optim::{
    AdamW, AnyAlgorithm, AnyWrap, Dog, Group, Lamb, Momentum, NonFinite, Optimizer, Outcome,
    Params, Prodigy, ScheduleFreeAdamW, Select, StateDict, wrap::ClipByGlobalNorm,
};
use ndarray_optim_mpi::{Batch, Config, Distributed, Mode, Number, Ranks, Reduction, Saved};
use std::{env, fs};

pub const CASES: [&str; 7] = [
    "equal algorithms",
    "equal wrappers",
    "equal groups",
    "equal means",
    "equal round",
    "equal policies",
    "equal accumulation",
];

const MODES: [Mode; 2] = [Mode::Replicated, Mode::Sharded];
const STEPS: u64 = 8;

/// Small buckets, so that arrays are spread over several.
fn config(mode: Mode) -> Config {
    Config {
        bucket: 512,
        ..Config::new(mode)
    }
}

pub fn run(case: &str, ranks: &Ranks) -> String {
    match case {
        "equal algorithms" => {
            for algorithm in AnyAlgorithm::all() {
                both(ranks, algorithm.name(), |_| algorithm.clone());
            }
        }
        "equal wrappers" => {
            for wrap in AnyWrap::all() {
                both(ranks, wrap.name(), |inner| {
                    inner.in_wrappers([wrap.clone()])
                });
            }
            // A global norm of gradients that an outer wrapper has changed.
            let [noise, clip] = ["noise", "clip_by_global_norm"].map(|name| {
                AnyWrap::all()
                    .into_iter()
                    .find(|wrap| wrap.name() == name)
                    .unwrap()
            });
            both(ranks, "noise around a global norm", |inner| {
                inner.in_wrappers([clip.clone(), noise.clone()])
            });
        }
        "equal groups" => {
            groups::<f32>(ranks);
            groups::<f64>(ranks);
        }
        "equal means" => {
            means::<f32>(ranks);
            means::<f64>(ranks);
        }
        "equal policies" => policies(ranks),
        "equal accumulation" => accumulation(ranks),
        _ => rounds(ranks),
    }
    "good".into()
}

fn both(ranks: &Ranks, name: &str, algorithm: impl Fn(AnyAlgorithm) -> AnyAlgorithm) {
    let algorithm = algorithm(AdamW::new(0.01).into());
    let matrices = only_matrices::<f32>(&algorithm);
    for mode in MODES {
        equal::<f32>(ranks, mode, name, matrices, || {
            Optimizer::new(algorithm.clone())
        });
        equal::<f64>(ranks, mode, name, matrices, || {
            Optimizer::new(algorithm.clone())
        });
        // For the table in `docs/ranks.md`.
        if ranks.rank() == 0 {
            println!("equal: {name} | {mode:?}");
        }
    }
}

fn reference<A: Number>(
    optimizer: &mut Optimizer<A>,
    model: &mut Model<A>,
    grads: &Model<A>,
    step: u64,
) {
    let mut params = Params::of(model, grads).unwrap();
    params.loss(loss(step));
    assert_eq!(optimizer.step(params).unwrap(), Outcome::Applied);
}

/// Compares steps with equal gradients on all ranks with those of one process: parameters, the
/// state, and the points of evaluation.
fn equal<A: Number>(
    ranks: &Ranks,
    mode: Mode,
    name: &str,
    matrices: bool,
    make: impl Fn() -> Optimizer<A>,
) {
    let what = format!("{name}, {mode:?}, {} ranks", ranks.size());
    let (mut one, mut model) = (make(), model::<A>(matrices));
    let mut shared = model.clone();
    let mut all = Distributed::new(ranks, config(mode), make(), &shared).unwrap();
    for step in 0..STEPS {
        let grads = gradient(&model, step, 0, false);
        reference(&mut one, &mut model, &grads, step);
        let batch = Batch {
            weight: 3.0,
            loss: Some(loss(step)),
        };
        all.step(&mut shared, &grads, batch).unwrap();
        assert_eq!(difference(&model, &shared), None, "{what}, step {step}");
    }
    all.check_equal(&shared).unwrap();
    let mut points = shared.clone();
    all.evaluate(&mut points).unwrap();
    for (name, point) in &points {
        assert_eq!(
            one.evaluate_param(name, &model[name]).unwrap(),
            point,
            "{what}"
        );
    }
    same_state(&mut all, &one, &shared, &what);
}

/// The state of all ranks together is that of one process.
fn same_state<A: Number>(
    all: &mut Distributed<'_, A>,
    one: &Optimizer<A>,
    model: &Model<A>,
    what: &str,
) {
    let parent = env::var("OMPI_MCA_ess_base_jobid").unwrap_or_default();
    let dir = env::temp_dir().join(format!("ndarray-optim-mpi-state-{parent}"));
    all.save(&dir, 7, 1, model).unwrap();
    if all.ranks().rank() == 0 {
        let saved = Saved::open(&dir).assemble::<A>().unwrap().unwrap();
        let params: Model<A> = saved.params.into_iter().collect();
        assert_eq!(difference(&params, model), None, "{what}");
        assert_eq!(
            comparable(saved.state),
            comparable(one.state_dict()),
            "{what}"
        );
        fs::remove_dir_all(&dir).unwrap();
    }
    all.ranks().barrier().unwrap();
}

/// Without what depends on the order of parameters and on memory layout.
fn comparable(mut state: StateDict) -> StateDict {
    state.params.sort_by(|a, b| a.name.cmp(&b.name));
    for param in &mut state.params {
        param.order = (0..param.shape.len() as u8).collect();
        param.arrays.sort_by(|a, b| a.name.cmp(&b.name));
    }
    state
}

/// Groups with other algorithms, whose norms and sums run over all ranks.
fn groups<A: Number>(ranks: &Ranks) {
    for mode in MODES {
        let make = || {
            let mut optimizer = Optimizer::new(AdamW::new(0.01));
            let groups = [
                Group::new(
                    "matrices",
                    Select::rank(2),
                    AnyAlgorithm::from(Lamb::new(0.01)),
                ),
                Group::new("bias", ["bias"], Prodigy::new(1.0).into()),
                Group::new("cube", ["cube"], Prodigy::new(0.5).into()),
                // Some ranks have nothing of it.
                Group::new("scale", ["scale"], Dog::new(1.0).into()),
                Group::new("none", ["none"], Momentum::new(0.1).into()),
            ];
            for group in groups {
                optimizer.add_group(group).unwrap();
            }
            optimizer.clip = Some(ClipByGlobalNorm {
                max_norm: 0.5,
                ..Default::default()
            });
            optimizer
        };
        equal::<A>(ranks, mode, "groups", false, make);
    }
}

/// Different gradients on each rank, with equal and with different weights.
fn means<A: Number>(ranks: &Ranks) {
    let (n, me) = (ranks.size() as u64, ranks.rank() as u64);
    for mode in MODES {
        for reduction in [Reduction::Mean, Reduction::Sum] {
            for weighted in [0, 1, 2] {
                // The first rank has no rows, in the last case.
                let weight = |rank: u64| match weighted {
                    0 => 7.0,
                    2 if n > 1 => rank as f64 * 1e-3,
                    _ => 1.0 + rank as f64 * 2.5,
                };
                let weighted = weighted > 0;
                let config = Config {
                    reduction,
                    ..config(mode)
                };
                let (mut one, mut model) = (Optimizer::new(AdamW::new(0.01)), model::<A>(false));
                let mut shared = model.clone();
                let optimizer = Optimizer::new(AdamW::new(0.01));
                let mut all = Distributed::new(ranks, config, optimizer, &shared).unwrap();
                for step in 0..STEPS {
                    let of_ranks: Vec<_> = (0..n)
                        .map(|rank| gradient(&model, step, rank, true))
                        .collect();
                    let scale = |rank: u64| match (reduction, weighted) {
                        (Reduction::Sum, _) | (_, false) => 1.0,
                        _ => weight(rank),
                    };
                    let total = match reduction {
                        Reduction::Sum => 1.0,
                        Reduction::Mean => (0..n).map(scale).sum::<f64>(),
                    };
                    let grads: Model<A> = model
                        .keys()
                        .map(|name| {
                            let mut sum = of_ranks[0][name].mapv(|_| 0.0);
                            for (rank, grads) in of_ranks.iter().enumerate() {
                                sum.zip_mut_with(&grads[name], |sum, g| {
                                    *sum += scale(rank as u64) * g.f64();
                                });
                            }
                            // As the package does it in `f32`.
                            (
                                name.clone(),
                                sum.mapv(|sum| A::from_f64(sum * (1.0 / total))),
                            )
                        })
                        .collect();
                    reference(&mut one, &mut model, &grads, step);
                    let batch = Batch {
                        weight: weight(me),
                        loss: Some(1.0),
                    };
                    all.step(&mut shared, &of_ranks[me as usize], batch)
                        .unwrap();
                    let what = format!("{mode:?}, {reduction:?}, {weighted}, step {step}");
                    if size_of::<A>() == 4 {
                        // Both sums are in `f64`.
                        assert_eq!(difference(&model, &shared), None, "{what}");
                    }
                    for (name, array) in &model {
                        let error = |(a, b): (&A, &A)| (a.f64() - b.f64()).abs();
                        let worst = array
                            .iter()
                            .zip(&shared[name])
                            .map(error)
                            .fold(0.0, f64::max);
                        assert!(worst < 1e-13, "{what}: {name} differs by {worst:e}");
                    }
                }
                all.check_equal(&shared).unwrap();
                let mut mean = gradient(&model, 1, me, false);
                let expected = mean.clone();
                all.all_reduce(&mut mean, 2.0).unwrap();
                if reduction == Reduction::Mean {
                    assert_eq!(difference(&mean, &expected), None, "all_reduce");
                }
            }
        }
    }
}

/// Gradients one after another in different orders and at different times, a broadcast, and a
/// restored average.
fn rounds(ranks: &Ranks) {
    for mode in MODES {
        let mut expected = None;
        for delays in [false, true] {
            let mut model = model::<f32>(false);
            if ranks.rank() > 0 {
                model.values_mut().for_each(|array| array.fill(9.0));
            }
            let optimizer = Optimizer::new(ScheduleFreeAdamW::new(0.1));
            let mut all = Distributed::new(ranks, config(mode), optimizer, &model).unwrap();
            assert!(ranks.size() == 1 || all.check_equal(&model).is_err());
            all.broadcast(&mut model).unwrap();
            all.check_equal(&model).unwrap();
            let mut bystander = model.clone();
            let momentum = Optimizer::new(Momentum::new(0.1));
            let mut other = Distributed::new(ranks, config(mode), momentum, &model).unwrap();
            for step in 0..STEPS {
                let grads = gradient(&model, step, ranks.rank() as u64, true);
                let mut order = names(&model);
                order.rotate_left(if delays { ranks.rank() } else { 0 });
                let mut round = all.begin().unwrap();
                for (i, name) in order.into_iter().enumerate() {
                    if delays && i == 2 {
                        // Other operations may come in between.
                        ranks.barrier().unwrap();
                        let sum = ranks.sum(&[1.0, ranks.rank() as f64]).unwrap();
                        assert_eq!(sum[0], ranks.size() as f64);
                        other
                            .step(&mut bystander, &grads, Batch::default())
                            .unwrap();
                    }
                    if delays {
                        let time = (ranks.rank() as u64 * 7 + step) % 5;
                        std::thread::sleep(std::time::Duration::from_micros(300 * time));
                    }
                    let grad: &ArrayD<f32> = &grads[&name];
                    round.add(&name, grad);
                }
                round.finish(&mut model, Batch::default()).unwrap();
            }
            all.check_equal(&model).unwrap();
            let expected = expected.get_or_insert_with(|| model.clone());
            assert_eq!(difference(expected, &model), None, "{mode:?}");
        }
    }
}

/// What is done about sums that are too large, whichever rank owns them.
fn policies(ranks: &Ranks) {
    let n = ranks.size();
    for mode in MODES {
        for (policy, limit) in [
            (NonFinite::Error, None),
            (NonFinite::Skip, None),
            (NonFinite::Skip, Some(1.0)),
        ] {
            let config = Config {
                reduction: Reduction::Sum,
                ..config(mode)
            };
            let mut model = model::<f32>(false);
            let optimizer = Optimizer::new(Momentum::new(0.1));
            let mut all = Distributed::new(ranks, config, optimizer, &model).unwrap();
            all.optimizer_mut().non_finite = policy;
            all.optimizer_mut().limits.norm = limit;
            all.optimizer_mut().limits.skipped = Some(1);
            let (before, mut grads) = (model.clone(), gradient(&model, 0, 0, false));
            if limit.is_none() {
                // Finite on each rank, and infinite in the sum of several.
                *grads.get_mut("large").unwrap().iter_mut().last().unwrap() = 3e38;
            }
            let made = all.step(&mut model, &grads, Batch::default());
            if limit.is_none() && n == 1 {
                assert_eq!(made.unwrap(), Outcome::Applied);
                continue;
            }
            match policy {
                NonFinite::Error => {
                    let error = made.unwrap_err().to_string();
                    assert!(error.contains("`large` contains inf"), "{error}");
                }
                _ => {
                    assert_eq!(made.unwrap(), Outcome::Skipped);
                    let error = all.step(&mut model, &grads, Batch::default()).unwrap_err();
                    assert!(error.to_string().contains("skipped"), "{error}");
                }
            }
            assert_eq!(difference(&before, &model), None, "{mode:?}");
            all.optimizer_mut().limits.norm = None;
            let grads = gradient(&model, 0, 0, false);
            assert_eq!(
                all.step(&mut model, &grads, Batch::default()).unwrap(),
                Outcome::Applied
            );
        }
    }
}

/// Rounds of three calls with different weights; a group that comes too late is refused.
fn accumulation(ranks: &Ranks) {
    for mode in MODES {
        let make = || {
            let mut optimizer = Optimizer::new(AdamW::new(0.01));
            optimizer.set_accumulation(3);
            optimizer
        };
        let (mut one, mut model) = (make(), model::<f64>(false));
        let mut shared = model.clone();
        let mut all = Distributed::new(ranks, config(mode), make(), &shared).unwrap();
        for step in 0..7 {
            let grads = gradient(&model, step, 0, false);
            let weight = 1.0 + (step % 3) as f64;
            let mut params = Params::of(&mut model, &grads).unwrap();
            params.loss(loss(step)).weight(weight * ranks.size() as f64);
            let expected = one.step(params).unwrap();
            let batch = Batch {
                weight,
                loss: Some(loss(step)),
            };
            assert_eq!(all.step(&mut shared, &grads, batch).unwrap(), expected);
            assert_eq!(difference(&model, &shared), None, "{mode:?}, step {step}");
        }
        same_state(&mut all, &one, &shared, "accumulation");
        let late = Group::new("late", ["large"], AnyAlgorithm::from(Lamb::new(0.1)));
        all.optimizer_mut().add_group(late).unwrap();
        let grads = gradient(&model, 7, 0, false);
        let made = all.step(&mut shared, &grads, Batch::default());
        let refused = mode == Mode::Sharded && ranks.size() > 1;
        assert_eq!(made.is_err(), refused, "{made:?}");
    }
}
