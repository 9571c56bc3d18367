//! Groups with algorithms of their own in one optimizer: what they share, and how their members
//! come and go.
use crate::common::{numbers, pool};
use ndarray::{ArrayD, array as arr};
use ndarray_optim::{
    Adafactor, Adagrad, Adam, AdamW, AnyAlgorithm, Compose, Error, Group, Lamb, Lion, Muon, NAdam,
    NonFinite, Optimizer, Outcome, Parallel, Params, PolyakSgd, Prodigy, Select, Sgd, StateDict,
    algorithm::Element,
    schedule::{Linear, Schedules},
    wrap::{Centralize, ClipByGlobalNorm},
};

const SHAPES: [(&str, &[usize]); 5] = [
    ("embed.table", &[40, 30]),
    ("layer.weight", &[30, 20]),
    ("layer.bias", &[20]),
    ("out.weight", &[20, 10]),
    ("gain", &[]),
];

fn start<A: Element>() -> Vec<ArrayD<A>> {
    SHAPES
        .iter()
        .enumerate()
        .map(|(i, (_, shape))| numbers(shape, i as u64))
        .collect()
}

fn grads<A: Element>(step: u64) -> Vec<ArrayD<A>> {
    SHAPES
        .iter()
        .enumerate()
        .map(|(i, (_, shape))| numbers(shape, 100 * step + 10 + i as u64))
        .collect()
}

fn lend<'a, A: Element>(params: &'a mut [ArrayD<A>], grads: &'a [ArrayD<A>]) -> Params<'a, A> {
    let mut lent = Params::new();
    for (((name, _), param), grad) in SHAPES.iter().zip(params).zip(grads) {
        lent.add(*name, param, grad).unwrap();
    }
    lent
}

/// Muon for two matrices, an algorithm with sums for a table, decay for the rest.
fn mixed<A: Element>() -> Optimizer<A> {
    let mut optimizer = Optimizer::new(AdamW::new(0.01));
    optimizer
        .add_group(Group::new(
            "table",
            Select::prefix("embed."),
            Lamb::new(0.02),
        ))
        .unwrap();
    optimizer
        .add_group(Group::new(
            "matrices",
            ["layer.weight", "out.weight"],
            Muon::new(0.03),
        ))
        .unwrap();
    optimizer
        .add_group(Group::new(
            "gains",
            Select::rank(0),
            Lion::new(0.001).ema(0.9),
        ))
        .unwrap();
    optimizer
}

/// The same as optimizers of their own, with the parameters that each of them has.
fn apart<A: Element>() -> Vec<(Vec<usize>, Optimizer<A>)> {
    vec![
        (vec![2], Optimizer::new(AdamW::new(0.01))),
        (vec![0], Optimizer::new(Lamb::new(0.02))),
        (vec![1, 3], Optimizer::new(Muon::new(0.03))),
        (vec![4], Optimizer::new(Lion::new(0.001).ema(0.9))),
    ]
}

fn step_apart<A: Element>(
    all: &mut [(Vec<usize>, Optimizer<A>)],
    params: &mut [ArrayD<A>],
    grads: &[ArrayD<A>],
) {
    for (members, optimizer) in all {
        let mut lent = Params::new();
        for (i, (param, grad)) in params.iter_mut().zip(grads).enumerate() {
            if members.contains(&i) {
                lent.add(SHAPES[i].0, param, grad).unwrap();
            }
        }
        optimizer.step(lent).unwrap();
    }
}

#[test]
fn one_optimizer_of_four_algorithms_is_four_optimizers_bit_for_bit() {
    fn run<A: Element>() {
        let (mut together, mut alone) = (start::<A>(), start::<A>());
        let (mut one, mut four) = (mixed(), apart());
        for step in 1..=6 {
            assert_eq!(
                one.step(lend(&mut together, &grads(step))).unwrap(),
                Outcome::Applied
            );
            step_apart(&mut four, &mut alone, &grads(step));
            assert_eq!(together, alone, "step {step}");
        }
        for (members, optimizer) in &four {
            for &i in members {
                assert_eq!(one.state(SHAPES[i].0), optimizer.state(SHAPES[i].0));
            }
        }
        assert_eq!(one.group_of("embed.table"), Some("table"));
        assert_eq!(one.group_of("layer.bias"), None);
        assert_eq!(one.group_of("gain"), Some("gains"));
        assert!(one.missing().is_empty());
    }
    run::<f32>();
    run::<f64>();
}

#[test]
fn the_global_norm_is_that_of_all_groups() {
    let (mut together, mut alone) = (start::<f64>(), start::<f64>());
    let (mut one, mut four) = (mixed(), apart());
    one.clip = Some(ClipByGlobalNorm {
        max_norm: 2.0,
        ..Default::default()
    });
    for step in 1..=4 {
        let grads = grads::<f64>(step);
        let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        one.step(lend(&mut together, &grads)).unwrap();
        assert!((one.grad_norm().unwrap() - norm).abs() < 1e-12 * norm);
        let factor = one.clip.as_ref().unwrap().max_norm / (norm + one.clip.as_ref().unwrap().eps);
        let clipped: Vec<_> = grads.iter().map(|grad| grad * factor).collect();
        step_apart(&mut four, &mut alone, &clipped);
        for (a, b) in together.iter().flatten().zip(alone.iter().flatten()) {
            // Muon's products see gradients that differ in their last bits.
            assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} {b}");
        }
    }
}

#[test]
fn one_accumulation_gathers_for_all_groups() {
    let (mut together, mut alone) = (start::<f64>(), start::<f64>());
    let (mut one, mut plain) = (mixed(), mixed());
    one.set_accumulation(3);
    for step in 1..=2 {
        for call in 1..=3 {
            let outcome = one.step(lend(&mut together, &grads(step))).unwrap();
            assert_eq!(
                outcome,
                if call < 3 {
                    Outcome::Accumulated
                } else {
                    Outcome::Applied
                }
            );
        }
        plain.step(lend(&mut alone, &grads(step))).unwrap();
        assert_eq!(together, alone);
    }
}

#[test]
fn a_gradient_that_is_not_finite_stops_all_groups() {
    for (i, (name, _)) in SHAPES.iter().enumerate() {
        let (mut params, mut optimizer) = (start::<f32>(), mixed());
        optimizer.step(lend(&mut params, &grads(1))).unwrap();
        let (before, state) = (params.clone(), optimizer.state_dict());
        let mut bad = grads::<f32>(2);
        *bad[i].iter_mut().last().unwrap() = f32::NAN;
        optimizer.non_finite = NonFinite::Error;
        let error = optimizer.step(lend(&mut params, &bad)).unwrap_err();
        assert!(
            matches!(&error, Error::NonFiniteGradient { name: found, .. } if found == name),
            "{error}"
        );
        optimizer.non_finite = NonFinite::Skip;
        assert_eq!(
            optimizer.step(lend(&mut params, &bad)),
            Ok(Outcome::Skipped)
        );
        assert_eq!(params, before);
        let mut after = optimizer.state_dict();
        (after.skipped, after.non_finite) = (0, NonFinite::Propagate);
        assert_eq!(after, state);
    }
}

#[test]
fn statistics_and_schedules_know_every_group() {
    let (mut params, mut optimizer) = (start::<f64>(), mixed());
    optimizer.watch = true;
    let schedules = Schedules::new()
        .drive(
            "lr",
            Linear {
                start_factor: 1.0,
                total_steps: 10,
                ..Linear::new(0.1)
            },
        )
        .drive_group(
            "matrices",
            "lr",
            Linear {
                start_factor: 1.0,
                total_steps: 10,
                ..Linear::new(1.0)
            },
        );
    schedules.apply(&mut optimizer, 0).unwrap();
    let rates: Vec<_> = optimizer
        .group_names()
        .iter()
        .map(|name| optimizer.group_lr(name).unwrap())
        .collect();
    // In proportion to the own rates: 0.02 and 0.001 to 0.01 outside of groups.
    let expected = vec![0.1 * (0.02 / 0.01), 1.0, 0.1 * (0.001 / 0.01)];
    assert_eq!((optimizer.lr(), rates), (0.1, expected));
    let (before, grads) = (params.clone(), grads(1));
    optimizer.step(lend(&mut params, &grads)).unwrap();
    let members: [&[usize]; 4] = [&[2], &[0], &[1, 3], &[4]];
    let groups = [None, Some("table"), Some("matrices"), Some("gains")];
    assert_eq!(optimizer.stats().len(), 4);
    for ((stats, members), group) in optimizer.stats().iter().zip(members).zip(groups) {
        let norm = |of: &dyn Fn(usize) -> ArrayD<f64>| -> f64 {
            members
                .iter()
                .map(|&i| of(i).iter().map(|x| x * x).sum::<f64>())
                .sum::<f64>()
                .sqrt()
        };
        assert_eq!(stats.group.as_deref(), group);
        let expected = [
            norm(&|i| grads[i].clone()),
            norm(&|i| &before[i] - &params[i]),
            norm(&|i| params[i].clone()),
        ];
        for (found, expected) in [stats.grad_norm, stats.update_norm, stats.param_norm]
            .into_iter()
            .zip(expected)
        {
            assert!(
                (found - expected).abs() <= 1e-12 * expected,
                "{group:?}: {found} {expected}"
            );
        }
    }
}

#[test]
fn a_run_is_saved_and_resumed_bit_for_bit_on_any_number_of_threads() {
    let (mut params, mut optimizer) = (start::<f32>(), mixed());
    optimizer.clip = Some(ClipByGlobalNorm {
        max_norm: 1.0,
        ..Default::default()
    });
    optimizer.set_accumulation(2);
    for step in 1..=5 {
        optimizer.step(lend(&mut params, &grads(step))).unwrap();
    }
    // In the middle of an accumulation.
    let bytes = optimizer.state_dict().to_bytes().unwrap();
    let text = serde_json::to_string(&optimizer.state_dict()).unwrap();
    let mut resumed: Vec<(Optimizer<f32>, Vec<_>)> = vec![
        (
            Optimizer::from_state(StateDict::from_bytes(&bytes).unwrap()).unwrap(),
            params.clone(),
        ),
        (
            Optimizer::from_state(serde_json::from_str::<StateDict>(&text).unwrap()).unwrap(),
            params.clone(),
        ),
    ];
    for (i, (other, again)) in resumed.iter_mut().enumerate() {
        other.parallel = Parallel {
            min_work: 0,
            chunk: 7,
        };
        for step in 6..=9 {
            pool(i + 2)
                .install(|| other.step(lend(again, &grads(step))))
                .unwrap();
        }
    }
    for step in 6..=9 {
        optimizer.step(lend(&mut params, &grads(step))).unwrap();
    }
    for (other, again) in &resumed {
        assert_eq!(again, &params);
        // As bytes: without a loss its mean is NaN, which is equal to nothing.
        assert!(other.state_dict().to_bytes() == optimizer.state_dict().to_bytes());
        assert_eq!(other.group_of("embed.table"), Some("table"));
    }
}

#[test]
fn what_groups_select_is_data() {
    for select in [
        Select::names(["a", "b"]),
        Select::prefix("layer."),
        Select::rank(2),
    ] {
        let group = Group::new("one", select.clone(), AnyAlgorithm::from(Sgd::default()));
        let text = serde_json::to_string(&group).unwrap();
        assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), group);
        assert_eq!(
            postcard::from_bytes::<Select>(&postcard::to_stdvec(&select).unwrap()).unwrap(),
            select
        );
    }
    let text = r#"{"group": "m", "params": {"rank": 2}, "optimizer": {"name": "muon"}}"#;
    assert_eq!(
        serde_json::from_str::<Group>(text).unwrap(),
        Group::new("m", Select::rank(2), Muon::default().into())
    );
    assert!(serde_json::from_str::<Group>(&text.replace("rank", "axes")).is_err());
}

#[test]
fn a_parameter_of_two_groups_is_an_error_that_names_both() {
    let twice = |name: &str, first: &str, second: &str| Error::GroupedTwice {
        name: name.into(),
        first: first.into(),
        second: second.into(),
    };
    let mut optimizer = Optimizer::new(Sgd::new(1.0));
    optimizer
        .add_group(Group::new(
            "layers",
            Select::prefix("layer."),
            Adam::new(0.1),
        ))
        .unwrap();
    optimizer
        .add_group(Group::new("matrices", Select::rank(2), Muon::new(0.1)))
        .unwrap();
    optimizer
        .add_group(Group::new("listed", ["layer.bias"], Lion::new(0.1)))
        .unwrap();
    for (name, shape, first, second) in [
        ("layer.weight", &[2, 1][..], "layers", "matrices"),
        ("layer.bias", &[2], "listed", "layers"),
    ] {
        let (mut ok, fine) = (arr![1.0], arr![1.0]);
        let (mut param, grad) = (numbers::<f64>(shape, 1), numbers(shape, 2));
        let mut params = Params::new();
        params
            .add("fine", &mut ok, &fine)
            .unwrap()
            .add(name, &mut param, &grad)
            .unwrap();
        assert_eq!(optimizer.step(params), Err(twice(name, first, second)));
        // Nothing has changed, nothing is remembered.
        assert_eq!(
            (
                ok[0],
                optimizer.steps("fine"),
                optimizer.state("fine").len()
            ),
            (1.0, 0, 0)
        );
    }
    // Names that two groups list are found at once, others when the group is added to a run under
    // way.
    assert_eq!(
        optimizer.add_group(Group::new("again", ["layer.bias"], Sgd::default())),
        Err(twice("layer.bias", "listed", "again"))
    );
    let mut params = Params::new();
    let (mut deep, grad) = (arr![[1.0, 2.0]], arr![[1.0, 1.0]]);
    params.add("deep", &mut deep, &grad).unwrap();
    optimizer.step(params).unwrap();
    assert_eq!(
        optimizer.add_group(Group::new("late", ["deep"], Sgd::default())),
        Err(twice("deep", "matrices", "late"))
    );
    assert_eq!(optimizer.group_names(), ["layers", "matrices", "listed"]);
}

#[test]
fn members_that_never_turned_up_can_be_asked_for() {
    let mut optimizer = Optimizer::new(Sgd::new(1.0));
    optimizer
        .add_group(Group::new("bias", ["b", "bais", "c"], Adam::new(0.1)))
        .unwrap();
    optimizer
        .add_group(Group::new(
            "embed",
            Select::prefix("embed."),
            Adam::new(0.1),
        ))
        .unwrap();
    optimizer
        .add_group(Group::new("matrices", Select::rank(2), Muon::new(0.1)))
        .unwrap();
    let all = vec![
        ("bias", Select::names(["b", "bais", "c"])),
        ("embed", Select::prefix("embed.")),
        ("matrices", Select::rank(2)),
    ];
    assert_eq!(optimizer.missing(), all);
    let (mut b, mut m, db, dm) = (arr![1.0], arr![[1.0]], arr![1.0], arr![[1.0]]);
    let mut params = Params::new();
    params
        .add("b", &mut b, &db)
        .unwrap()
        .add("m", &mut m, &dm)
        .unwrap();
    optimizer.step(params).unwrap();
    assert_eq!(
        optimizer.missing(),
        [
            ("bias", Select::names(["bais", "c"])),
            ("embed", Select::prefix("embed."))
        ]
    );
}

#[test]
fn parameters_move_and_keep_their_state_where_it_means_the_same() {
    let adam = Adam::new(0.1);
    let mut optimizer = Optimizer::<f64>::new(adam);
    optimizer
        .add_group(Group::new("slow", ["never"], Adam { lr: 0.01, ..adam }))
        .unwrap();
    optimizer
        .add_group(Group::new("nadam", ["nor this"], NAdam::new(0.1)))
        .unwrap();
    optimizer
        .add_group(Group::new("sums", ["nor that"], Adagrad::new(0.1)))
        .unwrap();
    let (mut p, mut q) = (arr![1.0, 2.0], arr![1.0, 2.0]);
    let step = |optimizer: &mut Optimizer<f64>, p: &mut ndarray::Array1<f64>| {
        let (mut params, grad) = (Params::new(), arr![0.5, -0.25]);
        params.add("p", p, &grad).unwrap();
        optimizer.step(params)
    };
    let mut other = optimizer.clone();
    step(&mut optimizer, &mut p).unwrap();
    step(&mut other, &mut q).unwrap();
    // As if the learning rate had changed.
    optimizer.move_to_group("p", Some("slow")).unwrap();
    other.set_lr(0.01);
    step(&mut optimizer, &mut p).unwrap();
    step(&mut other, &mut q).unwrap();
    assert_eq!(
        (optimizer.group_of("p"), optimizer.steps("p"), &p),
        (Some("slow"), 2, &q)
    );
    // Where a parameter stands is part of the state.
    let mut again = Optimizer::<f64>::from_state(optimizer.state_dict()).unwrap();
    assert_eq!(again.group_of("p"), Some("slow"));
    // The product of momenta begins at 1: with Adam's scalars the corrections would be infinite.
    again.move_to_group("p", Some("nadam")).unwrap();
    step(&mut again, &mut q).unwrap();
    assert!(q.iter().all(|x| x.is_finite()));
    // Other arrays: only once the state is forgotten, and then from the beginning.
    let error = optimizer.move_to_group("p", Some("sums")).unwrap_err();
    assert_eq!(
        error,
        Error::StateChanged {
            held: vec!["exp_avg", "exp_avg_sq"],
            needed: vec!["sum"]
        }
    );
    assert_eq!(optimizer.group_of("p"), Some("slow"));
    optimizer.reset("p").unwrap();
    assert_eq!((optimizer.steps("p"), optimizer.state("p").len()), (0, 0));
    optimizer.move_to_group("p", Some("sums")).unwrap();
    let mut fresh = Optimizer::new(Adagrad::new(0.1));
    let mut r = p.clone();
    step(&mut optimizer, &mut p).unwrap();
    step(&mut fresh, &mut r).unwrap();
    assert_eq!(p, r);
    optimizer.reset("p").unwrap();
    optimizer.move_to_group("p", None).unwrap();
    assert_eq!(optimizer.group_of("p"), None);

    let unknown = Error::UnknownParameter { name: "x".into() };
    assert_eq!(optimizer.move_to_group("x", None), Err(unknown.clone()));
    assert_eq!(optimizer.reset("x"), Err(unknown.clone()));
    assert_eq!(optimizer.remove("x"), Err(unknown));
    assert!(matches!(
        optimizer.move_to_group("p", Some("x")),
        Err(Error::UnknownGroup { .. })
    ));
}

#[test]
fn what_is_removed_or_reset_begins_anew_and_the_others_go_on() {
    let untouched = |forget: fn(&mut Optimizer<f64>, &str) -> Result<(), Error>| {
        let (mut params, mut optimizer) = (start::<f64>(), mixed());
        let (mut expected, mut control) = (params.clone(), mixed());
        optimizer.set_accumulation(2);
        control.set_accumulation(2);
        for step in 1..=3 {
            optimizer.step(lend(&mut params, &grads(step))).unwrap();
            control.step(lend(&mut expected, &grads(step))).unwrap();
        }
        forget(&mut optimizer, "layer.weight").unwrap();
        assert_eq!(optimizer.steps("layer.weight"), 0);
        assert!(
            optimizer
                .state_dict()
                .accumulation
                .unwrap()
                .means
                .iter()
                .all(|mean| mean.name != "layer.weight")
        );
        assert_eq!(optimizer.accumulation(), (1, 2));
        optimizer.set_accumulation(1);
        control.set_accumulation(1);
        let mut fresh = Optimizer::new(Muon::new(0.03));
        let mut weight = params[1].clone();
        for step in 5..=6 {
            optimizer.step(lend(&mut params, &grads(step))).unwrap();
            control.step(lend(&mut expected, &grads(step))).unwrap();
            fresh.update(&mut weight, &grads::<f64>(step)[1]).unwrap();
        }
        assert_eq!(params[1], weight);
        assert_eq!(optimizer.group_of("layer.weight"), Some("matrices"));
        for i in [0, 2, 3, 4] {
            assert_eq!(params[i], expected[i]);
        }
    };
    untouched(Optimizer::reset);
    untouched(Optimizer::remove);
}

#[test]
fn sums_over_a_group_leave_out_the_others() {
    let (mut params, mut alone) = (start::<f64>(), start::<f64>());
    let mut optimizer = Optimizer::new(Sgd::new(0.1));
    optimizer
        .add_group(Group::new(
            "weights",
            ["layer.weight", "out.weight"],
            Prodigy::default(),
        ))
        .unwrap();
    let mut apart = [
        (vec![0, 2, 4], Optimizer::new(Sgd::new(0.1))),
        (vec![1, 3], Optimizer::new(Prodigy::default())),
    ];
    for step in 1..=5 {
        optimizer.step(lend(&mut params, &grads(step))).unwrap();
        step_apart(&mut apart, &mut alone, &grads(step));
        assert_eq!(params, alone);
    }
}

#[test]
fn an_optimizer_can_be_sent_shared_cloned_and_printed() {
    fn is<T: Send + Sync + Clone + std::fmt::Debug + 'static>(_: &T) {}
    let (mut params, mut optimizer) = (start::<f32>(), mixed());
    is(&optimizer);
    let mut copy = optimizer.clone();
    let mut elsewhere = params.clone();
    let elsewhere = std::thread::spawn(move || {
        copy.step(lend(&mut elsewhere, &grads(1))).unwrap();
        elsewhere
    });
    optimizer.step(lend(&mut params, &grads(1))).unwrap();
    assert_eq!(elsewhere.join().unwrap(), params);
    let text = format!("{optimizer:?}");
    assert!(
        ["AdamW", "Lamb", "Muon", "Lion", "matrices", "layer.bias"]
            .iter()
            .all(|word| text.contains(word)),
        "{text}"
    );
}

#[test]
fn a_group_that_lost_its_members_may_keep_other_state() {
    let mut optimizer = Optimizer::new(Adam::new(0.1));
    optimizer
        .add_group(Group::new("g", ["b"], Adam::new(0.1)))
        .unwrap();
    let (mut a, grad) = (arr![1.0], arr![1.0]);
    let mut step = |optimizer: &mut Optimizer<f64>| {
        let mut params = Params::new();
        params.add("a", &mut a, &grad).unwrap();
        optimizer.step(params)
    };
    step(&mut optimizer).unwrap();
    optimizer.move_to_group("a", Some("g")).unwrap();
    optimizer.algorithm_mut::<Adam>().unwrap().amsgrad = true;
    // As after a resume.
    step(&mut Optimizer::from_state(optimizer.state_dict()).unwrap()).unwrap();
    step(&mut optimizer).unwrap();
    optimizer
        .group_algorithm_mut::<Adam>("g")
        .unwrap()
        .unwrap()
        .amsgrad = true;
    assert!(matches!(step(&mut optimizer), Err(Error::InGroup { .. })));
}

#[test]
fn factors_stay_with_their_algorithm() {
    let (mut w, grad) = (numbers::<f64>(&[3, 2], 1), numbers(&[3, 2], 2));
    let mut optimizer = Optimizer::new(Muon::new(0.1));
    optimizer
        .add_group(Group::new("slow", ["none"], Muon::new(0.01)))
        .unwrap();
    optimizer
        .add_group(Group::new("momentum", ["nor this"], Adafactor::default()))
        .unwrap();
    let mut step = |optimizer: &mut Optimizer<f64>| {
        let mut params = Params::new();
        params.add("w", &mut w, &grad).unwrap();
        optimizer.step(params)
    };
    step(&mut optimizer).unwrap();
    optimizer.move_to_group("w", Some("slow")).unwrap();
    step(&mut optimizer).unwrap();
    assert_eq!(optimizer.steps("w"), 2);
    let Err(Error::StateChanged { held, needed }) = optimizer.move_to_group("w", Some("momentum"))
    else {
        panic!("the factors of Adafactor are not those of Muon")
    };
    assert_ne!(held, needed);
    // A wrapper on whole arrays keeps nothing.
    let mut adam = Optimizer::new(Adam::new(0.1));
    adam.add_group(Group::new(
        "centred",
        ["none"],
        Adam::new(0.1).wrap(Centralize::default()),
    ))
    .unwrap();
    step(&mut adam).unwrap();
    adam.move_to_group("w", Some("centred")).unwrap();
    step(&mut adam).unwrap();
}

#[test]
fn a_frozen_group_asks_for_nothing() {
    let mut optimizer = Optimizer::new(Sgd::new(0.1));
    optimizer
        .add_group(Group::new("polyak", ["p"], PolyakSgd::default()))
        .unwrap();
    optimizer
        .add_group(Group::new("muon", ["m"], Muon::default()))
        .unwrap();
    let (mut p, mut m, grad) = (arr![1.0], arr![1.0], arr![1.0]);
    let mut step = |optimizer: &mut Optimizer<f64>| {
        let mut params = Params::new();
        params
            .add("p", &mut p, &grad)
            .unwrap()
            .add("m", &mut m, &grad)
            .unwrap();
        optimizer.step(params)
    };
    assert!(matches!(step(&mut optimizer), Err(Error::Shape { .. })));
    optimizer.freeze("muon", true).unwrap();
    assert!(matches!(step(&mut optimizer), Err(Error::Loss { .. })));
    optimizer.freeze("polyak", true).unwrap();
    assert_eq!(step(&mut optimizer), Ok(Outcome::Applied));
}
