//! What a user may rely on: directions, groups, missing and non-finite gradients, errors, states.
use crate::common::numbers;
use approx::assert_relative_eq;
use ndarray::{
    Array0, Array1, Array2, Array3, ArrayD, Axis, IxDyn, arr0, array, aview_mut1, aview1, s,
};
use ndarray_optim::{
    Adam, AdamW, AggMo, AnyAlgorithm, Compose, Error, Group, Momentum, NonFinite, Optimizer,
    Outcome, Params, Prodigy, RmsProp, Rprop, Select, Sgd,
    algorithm::{Algorithm, Demands, Element, Recipe, Rule, Scalars, StepContext, Sums},
    hyper_parameters,
    wrap::{AdaptiveClip, Bounds, Centralize, Ema},
};

/// torch's list of configurations for these optimizers, with and without `maximize`.
fn configs(maximize: bool) -> Vec<AnyAlgorithm> {
    let sgd = Sgd {
        lr: 1e-3,
        maximize,
        ..Default::default()
    };
    let rmsprop = RmsProp {
        lr: 1e-3,
        maximize,
        ..Default::default()
    };
    let adam = Adam {
        maximize,
        ..Default::default()
    };
    let adamw = AdamW {
        maximize,
        ..Default::default()
    };
    vec![
        sgd.into(),
        Sgd {
            momentum: 0.9,
            ..sgd
        }
        .into(),
        Sgd {
            momentum: 0.9,
            dampening: 0.5,
            ..sgd
        }
        .into(),
        Sgd {
            momentum: 0.9,
            weight_decay: 0.1,
            ..sgd
        }
        .into(),
        Sgd {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 0.1,
            ..sgd
        }
        .into(),
        Momentum {
            maximize,
            ..Default::default()
        }
        .into(),
        Momentum {
            bias_correction: true,
            maximize,
            ..Default::default()
        }
        .into(),
        rmsprop.into(),
        RmsProp {
            weight_decay: 0.1,
            ..rmsprop
        }
        .into(),
        RmsProp {
            centered: true,
            ..rmsprop
        }
        .into(),
        RmsProp {
            centered: true,
            momentum: 0.1,
            ..rmsprop
        }
        .into(),
        RmsProp {
            lr: 1e-3,
            maximize,
            ..RmsProp::optax()
        }
        .into(),
        adam.into(),
        Adam { lr: 0.01, ..adam }.into(),
        Adam {
            weight_decay: 0.1,
            ..adam
        }
        .into(),
        Adam {
            amsgrad: true,
            ..adam
        }
        .into(),
        adamw.into(),
        AdamW {
            weight_decay: 0.1,
            ..adamw
        }
        .into(),
        AdamW {
            amsgrad: true,
            ..adamw
        }
        .into(),
    ]
}

#[test]
fn every_optimizer_goes_in_the_right_direction_and_a_strided_view_goes_with_it_bit_for_bit() {
    for maximize in [false, true] {
        for config in configs(maximize) {
            let mut w = numbers(&[10, 5], 1).into_dimensionality().unwrap();
            let mut b: Array1<f64> = numbers(&[10], 2).into_dimensionality().unwrap();
            let x: Array1<f64> = numbers(&[5], 3).into_dimensionality().unwrap();
            let mut wide = Array3::<f64>::zeros((10, 5, 2));
            wide.index_axis_mut(Axis(2), 0).assign(&w);
            let mut wide_b = b.clone();
            let loss = |w: &Array2<f64>, b: &Array1<f64>| (w.dot(&x) + b).mapv(|r| r * r).sum();
            let start = loss(&w, &b);
            let mut dense = Optimizer::new(config.clone());
            let mut strided = dense.clone();
            for _ in 0..20 {
                let db = 2.0 * (w.dot(&x) + &b);
                let dw = db
                    .view()
                    .insert_axis(Axis(1))
                    .dot(&x.view().insert_axis(Axis(0)));
                let mut params = Params::new();
                params
                    .add("w", &mut w, &dw)
                    .unwrap()
                    .add("b", &mut b, &db)
                    .unwrap();
                dense.step(params).unwrap();
                let mut wide_dw = Array3::zeros((10, 5, 2));
                wide_dw.index_axis_mut(Axis(2), 0).assign(&dw);
                let mut params = Params::new();
                params
                    .add_view(
                        "w",
                        wide.slice_mut(s![.., .., 0]),
                        wide_dw.slice(s![.., .., 0]),
                    )
                    .unwrap();
                params.add("b", &mut wide_b, &db).unwrap();
                strided.step(params).unwrap();
                assert!(
                    w.iter()
                        .zip(wide.slice(s![.., .., 0]))
                        .all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{config:?}"
                );
            }
            assert!(
                b.iter()
                    .zip(&wide_b)
                    .all(|(a, b)| a.to_bits() == b.to_bits())
            );
            assert_eq!(
                loss(&w, &b) > start,
                maximize,
                "{config:?}: {start} -> {}",
                loss(&w, &b)
            );
        }
    }
}

#[test]
fn groups_have_hyper_parameters_of_their_own() {
    let (mut a, mut b, mut c) = (array![1.0, 2.0], array![1.0, 2.0], array![1.0, 2.0]);
    let grad = array![1.0, -1.0];
    let config = AdamW::new(0.1);
    let mut adamw = Optimizer::new(config);
    adamw
        .add_group(Group::new(
            "still",
            ["b"],
            AdamW {
                lr: 1e-28,
                ..config
            },
        ))
        .unwrap();
    let step = |adamw: &mut Optimizer<f64>,
                a: &mut Array1<f64>,
                b: &mut Array1<f64>,
                c: &mut Array1<f64>| {
        let mut params = Params::new();
        params
            .add("a", a, &grad)
            .unwrap()
            .add("b", b, &grad)
            .unwrap()
            .add("c", c, &grad)
            .unwrap();
        adamw.step(params).unwrap();
    };
    step(&mut adamw, &mut a, &mut b, &mut c);
    assert_eq!(b, array![1.0, 2.0], "lr 1e-28 moves nothing");
    assert_eq!(a, c);

    // A group added later takes over a parameter with its state.
    adamw
        .add_group(Group::new(
            "decay",
            ["c"],
            AdamW {
                weight_decay: 0.5,
                ..config
            },
        ))
        .unwrap();
    let (old_a, old_c) = (a.clone(), c.clone());
    step(&mut adamw, &mut a, &mut b, &mut c);
    assert_relative_eq!(
        &old_c - &c,
        &(&old_a - &a) + &(0.1 * 0.49 * &old_c),
        max_relative = 1e-12
    );
    assert_eq!((adamw.steps("a"), adamw.steps("c")), (2, 2));

    // Its learning rate is its own, at any time.
    adamw.set_group_lr("decay", 0.0).unwrap();
    adamw.set_lr(0.2);
    let (old_a, old_c) = (a.clone(), c.clone());
    step(&mut adamw, &mut a, &mut b, &mut c);
    assert_eq!(c, old_c);
    assert_relative_eq!(
        old_a - &a,
        array![0.2, -0.2] + 0.2 * 0.01 * array![a[0], a[1]],
        max_relative = 1e-1
    );
    assert_eq!(
        (
            adamw.lr(),
            adamw.group_lr("decay").unwrap(),
            adamw.group_lr("still").unwrap()
        ),
        (0.2, 0.0, 1e-28)
    );
}

#[test]
fn a_group_with_state_of_its_own_kind_works_from_the_start_and_is_refused_later() {
    let (mut a, mut b) = (array![1.0], array![1.0]);
    let mut adam = Optimizer::new(Adam::new(0.1));
    let amsgrad = Adam {
        amsgrad: true,
        ..Adam::new(0.1)
    };
    adam.add_group(Group::new("ams", ["b"], amsgrad)).unwrap();
    let grad = array![1.0];
    let mut params = Params::new();
    params
        .add("a", &mut a, &grad)
        .unwrap()
        .add("b", &mut b, &grad)
        .unwrap();
    adam.step(params).unwrap();
    assert_eq!((adam.state("a").len(), adam.state("b").len()), (2, 3));
    let error = adam
        .add_group(Group::new("late", ["a"], amsgrad))
        .unwrap_err();
    assert!(matches!(&error, Error::InGroup { group, source }
            if group == "late" && matches!(**source, Error::StateChanged { .. })));
    adam.algorithm_mut::<Adam>().unwrap().amsgrad = true;
    let held = vec!["exp_avg", "exp_avg_sq"];
    let needed = vec!["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
    let mut params = Params::new();
    params.add("a", &mut a, &grad).unwrap();
    assert_eq!(adam.step(params), Err(Error::StateChanged { held, needed }));
}

#[test]
fn wrong_groups_are_refused_and_change_nothing() {
    let mut sgd = Optimizer::new(Sgd::new(0.1));
    let group = |name: &str, params: &[&str], lr: f64| {
        Group::new(
            name,
            params.to_vec(),
            Sgd {
                lr,
                ..Default::default()
            },
        )
    };
    sgd.add_group(group("one", &["a", "b"], 0.1)).unwrap();
    sgd.update_rows("a", &mut array![[1.0]], &[0], &array![[1.0]])
        .unwrap();
    assert_eq!(
        sgd.add_group(group("one", &["c"], 0.1)),
        Err(Error::DuplicateGroup {
            group: "one".into()
        })
    );
    let twice = |second: &str| Error::GroupedTwice {
        name: "b".into(),
        first: "one".into(),
        second: second.into(),
    };
    assert_eq!(
        sgd.add_group(group("two", &["c", "b"], 0.1)),
        Err(twice("two"))
    );
    let repeated = Error::GroupedTwice {
        name: "d".into(),
        first: "three".into(),
        second: "three".into(),
    };
    assert_eq!(
        sgd.add_group(group("three", &["d", "d"], 0.1)),
        Err(repeated)
    );
    assert!(matches!(
        sgd.add_group(group("four", &["d"], -1.0)),
        Err(Error::InGroup { .. })
    ));
    // Of patterns that is known once a parameter is.
    let first = Error::GroupedTwice {
        name: "a".into(),
        first: "one".into(),
        second: "five".into(),
    };
    for pattern in [Select::prefix("a"), Select::prefix(""), Select::rank(2)] {
        assert_eq!(
            sgd.add_group(Group::new("five", pattern, Adam::default())),
            Err(first.clone())
        );
    }
    assert_eq!(sgd.group_names(), ["one"]);
    for group in ["two", "three", "four", "five"] {
        assert_eq!(
            sgd.group_lr(group),
            Err(Error::UnknownGroup {
                group: group.into(),
                known: vec!["one".into()]
            })
        );
    }
    sgd.add_group(group("two", &["c", "d"], 0.1)).unwrap();
    // A step is refused whose parameter two groups select.
    sgd.add_group(Group::new("six", Select::rank(1), Adam::default()))
        .unwrap();
    let (mut e, mut c) = (array![1.0], array![1.0]);
    let mut params = Params::new();
    params
        .add_view("e", e.view_mut(), aview1(&[1.0]))
        .unwrap()
        .add_view("c", c.view_mut(), aview1(&[1.0]))
        .unwrap();
    let error = Error::GroupedTwice {
        name: "c".into(),
        first: "two".into(),
        second: "six".into(),
    };
    assert_eq!(sgd.step(params), Err(error));
    assert_eq!(
        (e[0], c[0], sgd.steps("e"), sgd.group_of("e")),
        (1.0, 1.0, 0, None)
    );
}

#[test]
fn groups_of_other_algorithms_are_what_these_are_by_themselves() {
    let names = ["matrix", "embed.table", "gain", "bias"];
    let shapes: [&[usize]; 4] = [&[7, 5], &[9, 3], &[4], &[600]];
    let configs: [AnyAlgorithm; 4] = [
        Momentum {
            bias_correction: true,
            ..Default::default()
        }
        .into(),
        RmsProp {
            centered: true,
            ..Default::default()
        }
        .into(),
        Sgd::default().into(),
        AdamW::default().into(),
    ];
    let mut all = Optimizer::new(configs[3].clone());
    all.add_group(Group::new(
        "embedding",
        Select::prefix("embed."),
        configs[1].clone(),
    ))
    .unwrap();
    all.add_group(Group::new("gains", ["gain"], Sgd::default()))
        .unwrap();
    all.add_group(Group::new("matrices", ["matrix"], configs[0].clone()))
        .unwrap();
    let mut alone: Vec<_> = configs
        .iter()
        .map(|config| Optimizer::<f64>::new(config.clone()))
        .collect();
    let mut together: Vec<ArrayD<f64>> = shapes.iter().map(|shape| numbers(shape, 0)).collect();
    let mut separate = together.clone();
    for t in 1..=5 {
        let lr = 0.1 / t as f64;
        all.set_group_lr("gains", lr).unwrap();
        alone[2].set_lr(lr);
        let grads: Vec<ArrayD<f64>> = shapes.iter().map(|shape| numbers(shape, t)).collect();
        let mut params = Params::new();
        for ((name, p), g) in names.into_iter().zip(&mut together).zip(&grads) {
            params.add(name, p, g).unwrap();
        }
        all.step(params).unwrap();
        for ((optimizer, p), g) in alone.iter_mut().zip(&mut separate).zip(&grads) {
            optimizer.update(p, g).unwrap();
        }
        assert_eq!(together, separate, "step {t}");
    }
    assert_eq!(
        names.map(|name| all.group_of(name)),
        [Some("matrices"), Some("embedding"), Some("gains"), None]
    );
    assert_eq!(
        all.group_algorithm::<Sgd>("gains").unwrap().unwrap().lr,
        0.1 / 5.0
    );
    assert_eq!(all.group_algorithm::<Adam>("gains"), Ok(None));
    assert!(all.group_algorithm::<Sgd>("none").is_err() && all.algorithm::<Sgd>().is_none());
}

#[test]
fn a_missing_gradient_leaves_parameter_state_and_step_count() {
    for config in configs(false) {
        let grad = array![0.3, -0.7];
        let (mut a, mut b, mut alone) = (array![1.0, 2.0], array![3.0, 4.0], array![3.0, 4.0]);
        let mut both = Optimizer::new(config.clone());
        let mut other = both.clone();
        for step in 0..6 {
            let mut params = Params::new();
            params.add("a", &mut a, &grad).unwrap();
            match step {
                1 => _ = params.add_optional("b", &mut b, None).unwrap(),
                2 => {}
                _ => _ = params.add_optional("b", &mut b, Some(&grad)).unwrap(),
            }
            both.step(params).unwrap();
            if step != 1 && step != 2 {
                let mut params = Params::new();
                params.add("b", &mut alone, &grad).unwrap();
                other.step(params).unwrap();
            }
            assert_eq!(b, alone, "{config:?}, step {step}");
        }
    }
}

#[test]
fn a_new_parameter_begins_at_its_own_first_step() {
    // Dampening must not touch the first gradient of a buffer, whenever the buffer begins.
    let config = Sgd {
        lr: 1.0,
        momentum: 0.9,
        dampening: 0.5,
        ..Default::default()
    };
    let mut sgd = Optimizer::new(config);
    let grad = array![1.0];
    let (mut a, mut b) = (array![0.0], array![0.0]);
    for step in 0..3 {
        let mut params = Params::new();
        params.add("a", &mut a, &grad).unwrap();
        if step == 2 {
            params.add("b", &mut b, &grad).unwrap();
        }
        sgd.step(params).unwrap();
    }
    assert_eq!(b, array![-1.0]);
    let bufs: [f64; 3] = [1.0, 0.9 + 0.5, 0.9 * 1.4 + 0.5];
    assert_relative_eq!(a[0], -bufs.iter().sum::<f64>(), max_relative = 1e-15);
    assert_eq!((sgd.steps("a"), sgd.steps("b"), sgd.steps("c")), (3, 1, 0));
}

#[test]
fn zero_gradients_change_nothing_but_decay_also_with_eps_zero() {
    let eps = 0.0;
    let configs: [AnyAlgorithm; 5] = [
        Sgd {
            momentum: 0.9,
            ..Default::default()
        }
        .into(),
        Momentum::default().into(),
        RmsProp {
            eps,
            momentum: 0.5,
            ..Default::default()
        }
        .into(),
        Adam {
            eps,
            amsgrad: true,
            ..Default::default()
        }
        .into(),
        AdamW {
            eps,
            ..Default::default()
        }
        .into(),
    ];
    for config in configs {
        let mut p = array![1.0_f32, -2.0];
        let mut optimizer = Optimizer::new(config.clone());
        for _ in 0..100 {
            optimizer.update(&mut p, &array![0.0, 0.0]).unwrap();
        }
        let decay = if config.name() == "adamw" {
            (1.0_f32 - 1e-5).powi(100)
        } else {
            1.0
        };
        assert_relative_eq!(p, array![decay, -2.0 * decay], max_relative = 1e-5);
    }
}

/// Arithmetic with subnormal numbers is 10 to 30 times slower, and a moment that decays would stay
/// one for long: they are flushed in every 32nd step.
#[test]
fn moments_that_decay_become_exactly_zero_and_are_seldom_subnormal() {
    fn run<A: Element>(config: impl Into<Recipe<A>>, steps: usize) {
        let n = 21;
        let mut p = Array1::<A>::ones(n);
        let mut optimizer = Optimizer::new(config);
        let (one, zero) = (Array1::ones(n), Array1::zeros(n));
        for _ in 0..200 {
            optimizer.update(&mut p, &one).unwrap();
        }
        let subnormal = |x: &A| *x != A::ZERO && x.abs() < A::min_positive_value();
        // Towards where an average of squares turns subnormal, in steps that decay faster than the
        // default would.
        for step in 201..=200 + steps {
            optimizer.update(&mut p, &zero).unwrap();
            if step % 32 != 0 {
                continue;
            }
            let count = optimizer
                .state("variable")
                .iter()
                .flat_map(|(_, state)| state)
                .filter(|x| subnormal(x))
                .count();
            assert_eq!(count, 0, "step {step}");
        }
        for (name, state) in optimizer.state("variable") {
            assert!(state.iter().all(|x| *x == A::ZERO), "{name} is not zero");
        }
    }
    run::<f32>(Adam::default(), 100_000);
    run::<f32>(
        RmsProp {
            momentum: 0.9,
            ..Default::default()
        },
        20_000,
    );
    run::<f32>(
        Sgd {
            momentum: 0.9,
            ..Default::default()
        },
        2_000,
    );
    run::<f64>(Momentum::default(), 10_000);
    run::<f64>(
        Adam {
            betas: (0.9, 0.99),
            ..Default::default()
        },
        80_000,
    );
}

#[test]
fn non_finite_gradients_follow_the_policy() {
    let good = array![1.0, 1.0];
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut wide = Array1::zeros(4);
        wide[2] = bad;
        let strided = wide.slice(s![..;2]);
        for bad in [strided.to_owned().view(), strided] {
            let mut adam = Optimizer::new(Adam::new(0.1));
            adam.update(&mut array![0.0, 0.0], &good).unwrap();

            let mut p = array![0.0, 0.0];
            adam.clone().update(&mut p, &bad).unwrap();
            assert!(p[0].is_finite() && p[1].is_nan(), "IEEE by default");

            adam.non_finite = NonFinite::Skip;
            let (mut p, mut q) = (array![0.0, 0.0], array![5.0, 5.0]);
            let mut params = Params::new();
            params
                .add("new", &mut q, &good)
                .unwrap()
                .add("variable", &mut p, &bad)
                .unwrap();
            assert_eq!(adam.step(params), Ok(Outcome::Skipped));
            assert_eq!(
                (p, q),
                (array![0.0, 0.0], array![5.0, 5.0]),
                "the whole step is left out"
            );
            assert_eq!((adam.steps("variable"), adam.steps("new")), (1, 0));

            adam.non_finite = NonFinite::Error;
            let mut p = array![0.0, 0.0];
            let error = adam.update(&mut p, &bad).unwrap_err();
            assert!(matches!(&error, Error::NonFiniteGradient { name, value }
                    if name == "variable" && !value.is_finite()));
            assert_eq!((p.clone(), adam.steps("variable")), (array![0.0, 0.0], 1));
            assert_eq!(adam.update(&mut p, &good), Ok(Outcome::Applied));
        }
    }
}

#[test]
fn a_wrong_learning_rate_is_an_error_that_names_it_and_changes_nothing() {
    for lr in [-1e-3, f64::NAN, f64::INFINITY] {
        for config in AnyAlgorithm::all() {
            let mut p = array![1.0, 2.0];
            let mut optimizer = Optimizer::new(config.clone());
            optimizer.set_lr(lr);
            let error = optimizer
                .update_with_loss(&mut p, &array![0.5, 0.5], 1.0)
                .unwrap_err();
            let named = matches!(&error, Error::HyperParameter { field, value, .. }
                if ["lr", "max_lr"].contains(&&**field) && *value == lr.to_string());
            assert!(named, "{config:?}: {error}");
            assert_eq!(p, array![1.0, 2.0]);
        }
    }
}

/// The ranges of single numbers are those of `ranges.rs`.
#[test]
fn hyper_parameters_that_do_not_go_together_are_errors_that_name_one_and_change_nothing() {
    let nesterov = Sgd {
        nesterov: true,
        ..Default::default()
    };
    let steps = Rprop {
        step_sizes: (1.0, 0.5),
        ..Default::default()
    };
    let betas = |n| {
        AnyAlgorithm::from(AggMo {
            betas: vec![0.5; n],
            ..Default::default()
        })
    };
    let bounds = Bounds {
        lower: Some(1.0),
        upper: Some(0.0),
    };
    let cases: [(AnyAlgorithm, &str, &str); 6] = [
        (
            Sgd {
                momentum: 0.9,
                dampening: 0.1,
                ..nesterov
            }
            .into(),
            "nesterov",
            "true",
        ),
        (steps.into(), "step_sizes", "(1.0, 0.5)"),
        (betas(0), "betas", "0"),
        (betas(7), "betas", "7"),
        (
            AnyAlgorithm::from(Sgd::default()).in_wrappers([bounds.into()]),
            "lower",
            "1",
        ),
        // Ranges come first.
        (
            Sgd {
                lr: -1.0,
                ..nesterov
            }
            .into(),
            "lr",
            "-1",
        ),
    ];
    for (config, name, given) in cases {
        let mut p = array![1.0, 2.0];
        let error = Optimizer::new(config.clone())
            .update(&mut p, &array![0.5, 0.5])
            .unwrap_err();
        assert!(
            matches!(&error, Error::HyperParameter { field, value, .. }
                if field == name && value == given),
            "{config:?}: {error}"
        );
        assert!(error.to_string().contains(name));
        assert_eq!(config.validate(), Err(error));
        assert_eq!(p, array![1.0, 2.0]);
    }
}

#[test]
fn a_hyper_parameter_that_turns_wrong_is_found_before_anything_changes() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    let (mut p, grad) = (array![1.0], array![1.0]);
    adam.update(&mut p, &grad).unwrap();
    let before = p.clone();
    adam.algorithm_mut::<Adam>().unwrap().betas.1 = 1.0;
    let error = Error::HyperParameter {
        field: "betas[1]".into(),
        value: "1".into(),
        expected: "a number in [0, 1)".into(),
    };
    assert_eq!(adam.update(&mut p, &grad), Err(error));
    assert_eq!((adam.steps("variable"), &p), (1, &before));
    adam.algorithm_mut::<Adam>().unwrap().betas.1 = 0.999;
    adam.update(&mut p, &grad).unwrap();
    assert_eq!(adam.steps("variable"), 2);
}

#[test]
fn a_change_that_asks_for_other_state_is_refused_every_time() {
    fn refused<T: 'static>(config: impl Into<Recipe<f64>>, change: fn(&mut T), back: fn(&mut T)) {
        let mut optimizer = Optimizer::<f64>::new(config);
        let (mut p, grad) = (array![1.0, -2.0], array![0.5, 0.25]);
        optimizer.update(&mut p, &grad).unwrap();
        let (before, state) = (p.clone(), optimizer.state_dict().params);
        change(optimizer.algorithm_mut().unwrap());
        for _ in 0..3 {
            assert!(matches!(
                optimizer.update(&mut p, &grad),
                Err(Error::StateChanged { .. })
            ));
            assert_eq!((&p, &optimizer.state_dict().params), (&before, &state));
        }
        back(optimizer.algorithm_mut().unwrap());
        optimizer.update(&mut p, &grad).unwrap();
        assert_eq!(optimizer.steps("variable"), 2);
    }
    refused::<Adam>(
        Adam::new(0.1),
        |adam| adam.amsgrad = true,
        |adam| adam.amsgrad = false,
    );
    refused::<Adam>(
        Adam::new(0.1).ema(0.9),
        |adam| adam.amsgrad = true,
        |adam| adam.amsgrad = false,
    );
    let by_file = AnyAlgorithm::from(Adam::new(0.1)).in_wrappers([Ema::default().into()]);
    refused::<Adam>(
        by_file,
        |adam| adam.amsgrad = true,
        |adam| adam.amsgrad = false,
    );
    // The same number of arrays, with other meanings.
    let rmsprop = RmsProp {
        centered: true,
        momentum: 0.9,
        ..Default::default()
    };
    refused::<RmsProp>(
        rmsprop,
        |rmsprop| rmsprop.centered = false,
        |rmsprop| rmsprop.centered = true,
    );
}

#[test]
fn statistics_are_those_of_the_last_step() {
    let mut optimizer = Optimizer::new(Sgd::new(0.1));
    let (mut p, grad) = (array![1.0], array![1.0]);
    optimizer.watch = true;
    optimizer.update(&mut p, &grad).unwrap();
    assert_eq!(optimizer.stats().len(), 1);
    optimizer.watch = false;
    optimizer.update(&mut p, &grad).unwrap();
    assert!(optimizer.stats().is_empty());
    // So is the number of steps that were skipped before it.
    optimizer.non_finite = NonFinite::Skip;
    assert_eq!(
        optimizer.update(&mut p, &array![f64::NAN]),
        Ok(Outcome::Skipped)
    );
    assert_eq!(optimizer.state_dict().skipped, 1);
    optimizer.non_finite = NonFinite::Propagate;
    optimizer.update(&mut p, &grad).unwrap();
    assert_eq!(optimizer.state_dict().skipped, 0);
}

hyper_parameters! {
    /// p <- p - loss g, without any sum over the array.
    struct ByLoss = "by_loss" {}
}

#[derive(Clone, Copy)]
struct Scaled<A>(A);

impl<A: Element> Rule for Scaled<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 1;
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.0 * g, [])
    }
}

impl Algorithm for ByLoss {
    type Kernel<A: Element> = Scaled<A>;
    const DEMANDS: Demands = Demands::NONE.loss().global_sums();
    fn lr(&self) -> f64 {
        1.0
    }
    fn set_lr(&mut self, _: f64) {}
    fn update_scalars(&self, step: &StepContext, _: &Sums) -> Scalars {
        Scalars::new([step.loss, step.scalars[1] + 1.0])
    }
    fn kernel<A: Element>(&self, step: &StepContext) -> Scaled<A> {
        Scaled(A::from_f64(step.scalars[0]))
    }
}

#[test]
fn an_algorithm_may_use_the_loss_without_sums() {
    let (mut optimizer, mut p) = (Optimizer::new(ByLoss {}), array![1.0, 2.0]);
    for (loss, expected) in [(0.5, [0.5, 1.0]), (0.25, [0.25, 0.5])] {
        optimizer
            .update_with_loss(&mut p, &array![1.0, 2.0], loss)
            .unwrap();
        assert_eq!(p, array![expected[0], expected[1]]);
    }
    assert_eq!(
        optimizer.update(&mut p, &array![1.0, 2.0]),
        Err(Error::Loss { given: None })
    );
    assert_eq!(
        optimizer.state_dict().params[0].scalars,
        Scalars::new([0.25, 2.0])
    );
}

#[test]
fn wrong_shapes_and_names_are_errors_and_change_nothing() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    let (mut a, mut b) = (array![1.0, 2.0], array![[1.0, 2.0], [3.0, 4.0]]);
    let (da, db) = (array![1.0, 1.0], array![[1.0, 1.0], [1.0, 1.0]]);
    let error = Params::new().add("a", &mut a, &array![1.0]).err().unwrap();
    assert_eq!(
        error,
        Error::GradientShape {
            name: "a".into(),
            param: vec![2],
            grad: vec![1]
        }
    );
    assert_eq!(
        error.to_string(),
        "parameter `a` has shape [2] but its gradient has shape [1]"
    );

    let mut params = Params::new();
    params
        .add("a", &mut a, &da)
        .unwrap()
        .add("b", &mut b, &db)
        .unwrap();
    adam.step(params).unwrap();
    let before = (a.clone(), b.clone());

    // The fault comes last: what stands before it must not have moved, and what is new must be
    // forgotten.
    let (mut new, mut again) = (array![9.0], array![1.0, 2.0]);
    let dnew = array![1.0];
    let mut params = Params::new();
    params
        .add("new", &mut new, &dnew)
        .unwrap()
        .add("b", &mut b, &db)
        .unwrap();
    params
        .add("a", &mut a, &da)
        .unwrap()
        .add("a", &mut again, &da)
        .unwrap();
    assert_eq!(
        adam.step(params),
        Err(Error::DuplicateParameter { name: "a".into() })
    );

    let mut flat = array![1.0, 2.0, 3.0, 4.0];
    let dflat = array![1.0, 1.0, 1.0, 1.0];
    let mut params = Params::new();
    params
        .add("new", &mut new, &dnew)
        .unwrap()
        .add("a", &mut a, &da)
        .unwrap()
        .add("b", &mut flat, &dflat)
        .unwrap();
    let changed = Error::ShapeChanged {
        name: "b".into(),
        known: vec![2, 2],
        given: vec![4],
    };
    assert_eq!(adam.step(params), Err(changed));
    assert_eq!((a, b, new), (before.0, before.1, array![9.0]));
    assert_eq!(
        (adam.steps("a"), adam.steps("b"), adam.steps("new")),
        (1, 1, 0)
    );

    let mut deep = ArrayD::<f64>::zeros(IxDyn(&[1; 7]));
    let zero = deep.clone();
    assert_eq!(
        adam.update(&mut deep, &zero),
        Err(Error::TooManyAxes {
            name: "variable".into(),
            ndim: 7
        })
    );
    let error = adam
        .update(
            &mut array![[1.0, 2.0]].into_dyn(),
            &array![1.0, 2.0].into_dyn(),
        )
        .unwrap_err();
    assert_eq!(
        error,
        Error::GradientShape {
            name: "variable".into(),
            param: vec![1, 2],
            grad: vec![2]
        }
    );
}

#[test]
fn names_decide_not_the_order_of_the_parameters() {
    let grads = [array![0.1, 0.2], array![-3.0, 4.0], array![50.0, 0.0]];
    let names = ["x", "yy", "a long name of a parameter"];
    let run = |orders: &[[usize; 3]]| {
        let mut thetas = [array![1.0, 2.0], array![3.0, 4.0], array![5.0, 6.0]];
        let mut adam = Optimizer::new(Adam::new(0.1));
        for order in orders {
            let mut lent: Vec<_> = thetas.iter_mut().map(Some).collect();
            let mut params = Params::new();
            for &i in order {
                params
                    .add(names[i].to_string(), lent[i].take().unwrap(), &grads[i])
                    .unwrap();
            }
            adam.step(params).unwrap();
        }
        thetas
    };
    assert_eq!(
        run(&[[0, 1, 2]; 3]),
        run(&[[2, 0, 1], [1, 2, 0], [0, 2, 1]])
    );
}

#[test]
fn scalars_empty_arrays_slices_and_six_axes_are_parameters() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    let mut scalar: Array0<f64> = arr0(1.0);
    let mut empty = Array2::<f64>::zeros((0, 3));
    let mut six = ArrayD::<f64>::zeros(IxDyn(&[2, 1, 3, 1, 2, 2]));
    let mut plain = [1.0, 2.0];
    let (ds, de, d6) = (arr0(1.0), empty.clone(), six.mapv(|_| 1.0));
    for _ in 0..2 {
        let mut params = Params::new();
        params
            .add("scalar", &mut scalar, &ds)
            .unwrap()
            .add("empty", &mut empty, &de)
            .unwrap();
        params.add("six", &mut six, &d6).unwrap();
        params
            .add_view("plain", aview_mut1(&mut plain), aview1(&[1.0, 1.0]))
            .unwrap();
        adam.step(params).unwrap();
    }
    assert_relative_eq!(scalar[()], 0.8, max_relative = 1e-6);
    assert!(six.iter().all(|x| (x + 0.2).abs() < 1e-6));
    assert_relative_eq!(plain[1], 1.8, max_relative = 1e-6);
    assert_eq!(adam.state("scalar")[0].1.ndim(), 0);
    assert_eq!(adam.state("six")[1].1.shape(), [2, 1, 3, 1, 2, 2]);
}

/// Numbers of a whole group begin with the first step that is made, from the hyper-parameters as
/// they are then.
#[test]
fn a_refused_first_step_begins_nothing_for_a_group_either() {
    let run = |refused: bool| {
        let mut prodigy = Optimizer::new(Prodigy {
            d0: 1e-6,
            ..Default::default()
        });
        prodigy.non_finite = NonFinite::Error;
        let before = prodigy.state_dict();
        let mut p = array![1.0, 2.0];
        if refused {
            assert!(prodigy.update(&mut p, &array![f64::NAN, 1.0]).is_err());
            assert_eq!(prodigy.state_dict(), before);
        }
        prodigy.algorithm_mut::<Prodigy>().unwrap().d0 = 1e-3;
        for _ in 0..3 {
            prodigy.update(&mut p, &array![0.5, 1.0]).unwrap();
        }
        (p, prodigy.state_dict())
    };
    assert_eq!(run(true), run(false));
}

/// What optimizers keep for rows, columns and axes would be longer than memory, and walks along
/// them longer than a day.
#[test]
fn an_array_without_elements_costs_nothing_however_long_its_axes() {
    let mut configs = AnyAlgorithm::all();
    let wraps = [Centralize::default().into(), AdaptiveClip::default().into()];
    configs.extend(wraps.map(|wrap| AnyAlgorithm::from(Adam::default()).in_wrappers([wrap])));
    for (config, shape) in configs
        .iter()
        .flat_map(|config| [(config, (0, 1 << 40)), (config, (1 << 40, 0))])
    {
        let (mut p, g) = (Array2::<f64>::zeros(shape), Array2::zeros(shape));
        let step = |optimizer: &mut Optimizer<f64>, p: &mut Array2<f64>| {
            let mut params = Params::new();
            params.loss(1.0).add("p", p, &g).unwrap();
            assert_eq!(optimizer.step(params), Ok(Outcome::Applied), "{config:?}");
        };
        let mut optimizer = Optimizer::new(config.clone());
        step(&mut optimizer, &mut p);
        let mut resumed = Optimizer::from_state(optimizer.state_view()).unwrap();
        step(&mut resumed, &mut p);
        assert_eq!(resumed.steps("p"), 2, "{config:?}");
    }
}

#[test]
fn state_is_readable_in_the_shape_of_the_parameter_whatever_its_memory_order() {
    let grad = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let fortran = grad.t().as_standard_layout().into_owned().reversed_axes();
    let mut adam = Optimizer::new(Adam::new(0.1));
    let mut p = fortran.clone();
    adam.update(&mut p, &fortran).unwrap();
    let state = adam.state("variable");
    assert_eq!(
        state.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["exp_avg", "exp_avg_sq"]
    );
    assert_relative_eq!(
        state[0].1.to_owned(),
        grad.mapv(|g| 0.1 * g).into_dyn(),
        max_relative = 1e-12
    );
    assert_eq!(
        state[0].1.strides(),
        fortran.strides(),
        "moments take the parameter's memory order"
    );
    assert!(adam.state("unknown").is_empty());
}

#[test]
fn a_clone_is_independent_and_goes_on_alike() {
    let grad = array![0.3, -0.7];
    for config in configs(false) {
        let mut p = array![1.0, 2.0];
        let mut optimizer = Optimizer::new(config.clone());
        optimizer.update(&mut p, &grad).unwrap();
        let (mut copy, mut q) = (optimizer.clone(), p.clone());
        optimizer.update(&mut p, &grad).unwrap();
        assert_eq!(
            (copy.steps("variable"), optimizer.steps("variable")),
            (1, 2)
        );
        copy.update(&mut q, &grad).unwrap();
        assert_eq!(p, q, "{config:?}");
        copy.set_lr(7.0);
        assert_ne!(optimizer.lr(), 7.0);
    }
}

#[test]
fn learning_rates_may_change_at_any_time() {
    let mut momentum = Optimizer::new(Momentum {
        beta: 0.0,
        ..Default::default()
    });
    let mut p = array![0.0];
    for lr in [0.5, 0.25, 0.125] {
        momentum.set_lr(lr);
        assert_eq!(
            (momentum.lr(), momentum.algorithm::<Momentum>().unwrap().lr),
            (lr, lr)
        );
        momentum.update(&mut p, &array![1.0]).unwrap();
    }
    assert_eq!(p, array![-0.875]);
    let shown = format!("{:?}", Optimizer::<f64>::new(Momentum::new(0.5)));
    assert!(
        shown.contains("Momentum") && shown.contains("0.5"),
        "{shown}"
    );
}

#[test]
fn configurations_are_files() {
    let read = |text: &str| serde_json::from_str::<AnyAlgorithm>(text);
    let config = read(r#"{"name": "adamw", "lr": 3e-4, "betas": [0.9, 0.95]}"#).unwrap();
    assert_eq!(
        config,
        AdamW {
            lr: 3e-4,
            betas: (0.9, 0.95),
            ..Default::default()
        }
        .into()
    );
    for config in configs(true).into_iter().chain(AnyAlgorithm::all()) {
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(&format!(r#""name":"{}""#, config.name())));
        assert_eq!(read(&text).unwrap(), config);
    }
    // The default of alpha is torch's or optax's.
    assert_eq!(
        read(r#"{"name": "rmsprop"}"#).unwrap(),
        RmsProp::default().into()
    );
    assert_eq!(
        read(r#"{"name": "rmsprop", "eps_inside_sqrt": true}"#).unwrap(),
        RmsProp::optax().into()
    );
    for (text, listed) in [
        (r#"{"name": "adam", "beta1": 0.9}"#, "betas"),
        (r#"{"name": "rmsprop", "decay": 0.9}"#, "alpha"),
        (r#"{"name": "sgdm"}"#, "momentum"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(
            error.contains("unknown") && error.contains(listed),
            "{error}"
        );
    }
    let group = Group::new(
        "no_decay",
        ["bias"],
        AdamW {
            weight_decay: 0.0,
            ..Default::default()
        }
        .into(),
    );
    assert_eq!(
        serde_json::from_str::<Group>(&serde_json::to_string(&group).unwrap()).unwrap(),
        group
    );
}

#[test]
fn optimizers_that_use_the_objective_ask_for_it() {
    for config in AnyAlgorithm::all() {
        let (mut p, grad) = (array![[1.0, 2.0]], array![[0.5, 0.5]]);
        let uses = ["polyak_sgd", "momo", "momo_adam"].contains(&config.name());
        let optimizer = || Optimizer::new(config.clone());
        let given = optimizer().update(&mut p, &grad);
        assert_eq!(given.is_err(), uses, "{}", config.name());
        if uses {
            assert_eq!(given, Err(Error::Loss { given: None }));
            assert_eq!(p, array![[1.0, 2.0]]);
            assert!(matches!(
                optimizer().update_with_loss(&mut p, &grad, f64::NAN),
                Err(Error::Loss { .. })
            ));
            let mut params = Params::new();
            params.loss(1.0).add("p", &mut p, &grad).unwrap();
            optimizer().step(params).unwrap();
            assert_ne!(p, array![[1.0, 2.0]]);
        }
    }
}

#[test]
fn the_readme_lists_every_optimizer() {
    let readme = include_str!("../../README.md");
    for config in AnyAlgorithm::all() {
        assert!(
            readme.contains(&format!("\n| `{}` |", config.name())),
            "{}: {}",
            config.name(),
            config.summary()
        );
    }
}
