//! What goes around whole steps: accumulation, SAM, evaluation, limits, frozen groups and schedules
//! at work.
use crate::common::numbers;
use ndarray::{Array1, Array2, array, aview1};
use ndarray_optim::{
    Adafactor, Adam, AdamW, AnyAlgorithm, AnyWrap, Compose, Error, Evaluating, Group, Lamb, Limits,
    Momentum, NonFinite, Optimizer, Outcome, Parallel, Params, PolyakSgd, Sam, Sgd,
    schedule::{AnySchedule, CosineDecay, Driven, Linear, Schedules},
    wrap::{Centralize, ClipByGlobalNorm, ClipByNorm, ClipByValue, Ema, Watch},
};

/// A matrix of numbers.
fn matrix(shape: (usize, usize), seed: u64) -> Array2<f32> {
    numbers(&[shape.0, shape.1], seed)
        .into_dimensionality()
        .unwrap()
}

#[test]
fn equal_gradients_accumulate_to_one_step_exactly() {
    let (start, grad) = (matrix((30, 20), 1), 0.3 * matrix((30, 20), 2));
    for every in [1, 3, 4, 7] {
        let (mut a, mut b) = (start.clone(), start.clone());
        let mut plain = Optimizer::new(AdamW::new(0.01));
        let mut accumulate = plain.clone();
        accumulate.set_accumulation(every);
        for step in 0..3 {
            plain.update(&mut a, &grad).unwrap();
            for call in 1..=every {
                let before = b.clone();
                // In any layout.
                let outcome = accumulate
                    .update(&mut b.view_mut().reversed_axes(), &grad.t())
                    .unwrap();
                let expected = if call == every {
                    Outcome::Applied
                } else {
                    Outcome::Accumulated
                };
                assert_eq!(outcome, expected);
                assert!(call == every || b == before);
                assert_eq!(accumulate.accumulation(), (call % every, every));
            }
            assert_eq!(a, b, "{every} calls, step {step}");
        }
        assert_eq!(accumulate.steps("variable"), 3);
    }
}

#[test]
fn accumulation_is_the_step_of_the_mean_gradient_and_loss() {
    let mut sgd = Optimizer::new(Sgd::new(1.0));
    sgd.set_accumulation(3);
    let (mut p, mut q) = (array![0.0], array![0.0]);
    for (i, g) in [1.0, 2.0, 6.0].into_iter().enumerate() {
        let (gp, gq) = (array![g], array![g]);
        let mut params = Params::new();
        params.add("p", &mut p, &gp).unwrap();
        // q has no gradient in the last call, and counts the mean of the two it has.
        params
            .add_optional("q", &mut q, (i < 2).then_some(&*gq))
            .unwrap();
        sgd.step(params).unwrap();
    }
    assert_eq!((p[0], q[0]), (-3.0, -1.5));
    let mut polyak = Optimizer::new(PolyakSgd {
        max_lr: 100.0,
        ..Default::default()
    });
    polyak.set_accumulation(2);
    let mut p = array![2.0];
    polyak.update_with_loss(&mut p, &array![1.0], 3.0).unwrap();
    polyak.update_with_loss(&mut p, &array![1.0], 5.0).unwrap();
    assert_eq!(p, array![2.0 - 4.0]); // (mean loss - 0) / |g|^2 g
}

#[test]
fn a_refused_round_can_be_tried_again() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    adam.set_accumulation(2);
    adam.non_finite = NonFinite::Error;
    let (mut p, mut plain) = (array![1.0, 2.0], array![1.0, 2.0]);
    adam.update(&mut p, &array![1.0, 1.0]).unwrap();
    assert!(matches!(
        adam.update(&mut p, &array![f64::NAN, 1.0]),
        Err(Error::NonFiniteGradient { .. })
    ));
    let shape = adam.update(&mut array![1.0], &array![1.0]);
    assert!(matches!(shape, Err(Error::ShapeChanged { .. })));
    let mut other = array![1.0];
    let mut params = Params::new();
    params
        .add_view("other", other.view_mut(), aview1(&[1.0]))
        .unwrap();
    assert_eq!(
        adam.step(params),
        Err(Error::MissingParameter {
            name: "variable".into()
        })
    );
    assert_eq!((adam.accumulation(), &p), ((1, 2), &plain));
    adam.update(&mut p, &array![3.0, 5.0]).unwrap();
    Optimizer::new(Adam::new(0.1))
        .update(&mut plain, &array![2.0, 3.0])
        .unwrap();
    assert_eq!(p, plain);
    adam.update(&mut p, &array![1.0, 1.0]).unwrap();
    adam.reset_accumulation();
    assert_eq!(adam.accumulation(), (0, 2));
}

/// f = a p^2 / 2 for each coordinate.
fn gradient(a: &Array1<f64>, p: &Array1<f64>) -> Array1<f64> {
    a * p
}

#[test]
fn sam_is_its_formula_and_brings_parameters_back_bit_for_bit() {
    let a = array![1.0, 3.0, 0.5];
    for adaptive in [false, true] {
        let sam = Sam { rho: 0.2, adaptive };
        let mut momentum = Optimizer::new(Momentum::new(0.1));
        let mut reference = momentum.clone();
        let (mut p, mut q) = (array![1.0, -2.0, 0.3], array![1.0, -2.0, 0.3]);
        for _ in 0..5 {
            let g = gradient(&a, &p);
            let before = p.clone();
            let mut params = Params::new();
            params.add("p", &mut p, &g).unwrap();
            let ascended = sam.ascend(&mut momentum, params).unwrap();
            let t = if adaptive {
                q.mapv(|q: f64| q * q)
            } else {
                Array1::ones(3)
            };
            let norm = (&t * &g * &g).sum().sqrt();
            let there = &q + &(0.2 / norm * &t * &g);
            assert!((&p - &there).iter().all(|e| e.abs() < 1e-15), "{p} {there}");
            assert_ne!(p, before);
            let second = gradient(&a, &p);
            let mut params = Params::new();
            params.add("p", &mut p, &second).unwrap();
            ascended.descend(params).unwrap();
            reference.update(&mut q, &gradient(&a, &there)).unwrap();
            assert!((&p - &q).iter().all(|e| e.abs() < 1e-14));
        }
        // Given up: as if nothing had been.
        let (before, g) = (p.clone(), gradient(&a, &p));
        let mut params = Params::new();
        params.add("p", &mut p, &g).unwrap();
        let ascended = sam.ascend(&mut momentum, params).unwrap();
        let mut params = Params::new();
        params.add("p", &mut p, &g).unwrap();
        ascended.cancel(params).unwrap();
        assert_eq!(p, before);
    }
    let (mut sam, mut sgd) = (Sam::new(f64::NAN), Optimizer::new(Sgd::new(0.1)));
    let mut p = array![1.0];
    let mut ascend = |sam: &Sam, p: &mut Array1<f64>, g: f64| {
        let grad = array![g];
        let mut params = Params::new();
        params.add("p", p, &grad).unwrap();
        sam.ascend(&mut sgd, params).map(|_| ())
    };
    assert!(matches!(
        ascend(&sam, &mut p, 1.0),
        Err(Error::HyperParameter { field, .. }) if field == "rho"
    ));
    sam.rho = 0.1;
    assert!(matches!(
        ascend(&sam, &mut p, f64::INFINITY),
        Err(Error::NonFiniteGradient { .. })
    ));
    assert_eq!(p, array![1.0]);
    ascend(&sam, &mut p, 0.0).unwrap();
    assert_eq!(p, array![1.0]);
}

#[test]
fn evaluation_and_training_points_cannot_be_mixed_up() {
    let mut optimizer = Optimizer::new(
        Sgd {
            lr: 0.1,
            ..Default::default()
        }
        .ema(0.5),
    );
    let (mut w, mut b) = (array![[1.0, 2.0], [3.0, 4.0]], array![1.0]);
    for _ in 0..3 {
        let (gw, gb) = (w.clone(), b.clone());
        let mut params = Params::new();
        params
            .add("w", &mut w, &gw)
            .unwrap()
            .add("b", &mut b, &gb)
            .unwrap();
        optimizer.step(params).unwrap();
    }
    let (training_w, training_b) = (w.clone(), b.clone());
    let average = optimizer.evaluate_param("w", &w).unwrap();
    let mut evaluating = Evaluating::new(&mut optimizer);
    evaluating.enter_param("w", &mut w).unwrap();
    evaluating.enter_param("b", &mut b).unwrap();
    assert_eq!(w, average);
    assert_ne!(b, training_b);
    // Entered twice is entered once: the training parameters are not lost.
    evaluating.enter_param("w", &mut w).unwrap();
    assert_eq!(w, average);
    evaluating.restore_param("b", &mut b).unwrap();
    let missing = |name: &str| Err(Error::MissingParameter { name: name.into() });
    assert_eq!(evaluating.restore_param("b", &mut b), missing("b"));
    let reshaped = Error::ShapeChanged {
        name: "w".into(),
        known: vec![2, 2],
        given: vec![1],
    };
    assert_eq!(evaluating.restore_param("w", &mut b), Err(reshaped));
    assert_eq!(b, training_b);
    evaluating.restore_param("w", &mut w).unwrap();
    evaluating.finish().unwrap();
    assert_eq!((&w, &b), (&training_w, &training_b));
    let mut evaluating = Evaluating::new(&mut optimizer);
    evaluating.enter_param("w", &mut w).unwrap();
    assert_eq!(evaluating.restore_param("b", &mut b), missing("b"));
    assert_eq!(evaluating.finish(), missing("w"));

    // The array of `update` has no name, and any layout will do.
    let mut optimizer = Optimizer::new(Sgd::new(0.1).ema(0.5));
    let mut w = array![[1.0, 2.0], [3.0, 4.0]];
    for _ in 0..2 {
        let grad = w.clone();
        optimizer.update(&mut w, &grad).unwrap();
    }
    let training = w.clone();
    let mut evaluating = Evaluating::new(&mut optimizer);
    evaluating.enter(&mut w).unwrap();
    assert_ne!(w, training);
    evaluating.restore(&mut w).unwrap();
    evaluating.enter(&mut w.view_mut().into_dyn()).unwrap();
    evaluating.restore(&mut w.view_mut().into_dyn()).unwrap();
    evaluating.finish().unwrap();
    assert_eq!(w, training);
    assert_ne!(optimizer.evaluate(&w).unwrap(), w);
}

#[test]
fn exploding_gradients_are_skipped_or_refused_up_to_a_limit() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    adam.non_finite = NonFinite::Skip;
    adam.limits = Limits {
        norm: Some(5.0),
        skipped: Some(2),
    };
    let mut p = array![1.0, 1.0];
    assert_eq!(adam.update(&mut p, &array![3.0, 4.0]), Ok(Outcome::Applied));
    let after = p.clone();
    assert_eq!(adam.update(&mut p, &array![3.0, 4.1]), Ok(Outcome::Skipped));
    assert_eq!(
        adam.update(&mut p, &array![f64::NAN, 0.0]),
        Ok(Outcome::Skipped)
    );
    assert_eq!(
        adam.update(&mut p, &array![9.0, 0.0]),
        Err(Error::TooManySkipped {
            skipped: 3,
            limit: 2
        })
    );
    assert_eq!((&p, adam.steps("variable")), (&after, 1));
    // A step that is made begins the count again.
    assert_eq!(adam.update(&mut p, &array![1.0, 0.0]), Ok(Outcome::Applied));
    assert_eq!(adam.update(&mut p, &array![9.0, 0.0]), Ok(Outcome::Skipped));
    adam.non_finite = NonFinite::Error;
    assert_eq!(
        adam.update(&mut p, &array![0.0, -9.0]),
        Err(Error::ExplodingGradient {
            norm: 9.0,
            limit: 5.0
        })
    );
    adam.non_finite = NonFinite::Propagate;
    assert_eq!(adam.update(&mut p, &array![9.0, 0.0]), Ok(Outcome::Applied));
}

#[test]
fn frozen_groups_stay_as_they_are_and_do_not_count_in_norms() {
    let config = Sgd {
        lr: 1.0,
        momentum: 0.9,
        ..Default::default()
    };
    let mut sgd = Optimizer::new(config);
    sgd.clip = Some(ClipByGlobalNorm {
        max_norm: 1e9,
        ..Default::default()
    });
    sgd.add_group(Group::new("backbone", ["w"], config))
        .unwrap();
    let (mut w, mut b) = (array![1.0], array![1.0]);
    let mut step = |sgd: &mut Optimizer<f64>| {
        let mut params = Params::new();
        params
            .add_view("w", w.view_mut(), aview1(&[3.0]))
            .unwrap()
            .add_view("b", b.view_mut(), aview1(&[4.0]))
            .unwrap();
        sgd.step(params).unwrap();
        (w[0], b[0], sgd.grad_norm())
    };
    assert_eq!(step(&mut sgd), (-2.0, -3.0, Some(5.0)));
    sgd.freeze("backbone", true).unwrap();
    assert_eq!(step(&mut sgd), (-2.0, -10.6, Some(4.0)));
    assert_eq!((sgd.steps("w"), sgd.steps("b")), (1, 2));
    sgd.freeze("backbone", false).unwrap();
    let (w, _, norm) = step(&mut sgd);
    assert_eq!((w, norm), (-2.0 - (0.9 * 3.0 + 3.0), Some(5.0)));
    assert!(matches!(
        sgd.freeze("head", true),
        Err(Error::UnknownGroup { .. })
    ));
}

#[test]
fn schedules_drive_any_number_of_any_group_and_resume_anywhere() {
    let warm = AnySchedule::from(Linear {
        start_factor: 0.1,
        total_steps: 10,
        ..Linear::new(0.1)
    });
    let schedules = Schedules::new()
        .drive("lr", warm.clone().then(10, CosineDecay::new(0.1, 90)))
        .drive("betas[1]", 0.99)
        .drive(
            "decay",
            Linear {
                start_factor: 0.5,
                total_steps: 100,
                ..Linear::new(0.9)
            },
        )
        .drive_group("slow", "lr", AnySchedule::from(0.5).times(warm.clone()));
    let config = AnyAlgorithm::from(AdamW::default()).in_wrappers([Ema::default().into()]);
    let build = || {
        let mut optimizer = Optimizer::<f64>::new(config.clone());
        optimizer
            .add_group(Group::new("slow", ["w"], AdamW::default()))
            .unwrap();
        optimizer
    };
    let mut optimizer = build();
    for step in 0..120 {
        schedules.apply(&mut optimizer, step).unwrap();
        let at = warm.clone().then(10, CosineDecay::new(0.1, 90)).value(step);
        assert_eq!(optimizer.lr(), at);
        assert_eq!(optimizer.group_lr("slow").unwrap(), 0.5 * warm.value(step));
        assert_eq!(
            *optimizer.number_mut(Some("slow"), "betas[1]").unwrap(),
            0.99
        );
        assert_eq!(*optimizer.number_mut(None, "betas[0]").unwrap(), 0.9);
        assert!(matches!(
            optimizer.number_mut(Some("slow"), "decay"),
            Err(Error::UnknownField { .. })
        ));
        let decay = optimizer.number_mut(None, "decay").unwrap();
        assert!((*decay - 0.9 * (0.5 + 0.5 * (step.min(100) as f64) / 100.0)).abs() < 1e-15);
        let mut resumed = build();
        schedules.apply(&mut resumed, step).unwrap();
        assert_eq!(resumed.lr().to_bits(), optimizer.lr().to_bits());
    }
    // As a file.
    let text = serde_json::to_string(&schedules).unwrap();
    assert_eq!(serde_json::from_str::<Schedules>(&text).unwrap(), schedules);
    let driven: Driven =
        serde_json::from_str(r#"{"field": "lr", "schedule": {"name": "constant", "lr": 0.1}}"#)
            .unwrap();
    assert_eq!(driven.group, None);
    // What is not there is an error and nothing has changed.
    let before = optimizer.lr();
    let error = Schedules::new()
        .drive("lr", 7.0)
        .drive("momentum", 0.5)
        .apply(&mut optimizer, 0)
        .unwrap_err();
    assert!(
        matches!(&error, Error::UnknownField { field, .. } if field == "momentum"),
        "{error}"
    );
    let group = Schedules::new()
        .drive("lr", 7.0)
        .drive_group("fast", "lr", 0.5)
        .apply(&mut optimizer, 0);
    assert!(matches!(group, Err(Error::UnknownGroup { .. })));
    for wrong in ["betas", "betas[2]", "betas[", "amsgrad", "lr[0]", ""] {
        assert!(optimizer.number_mut(None, wrong).is_err(), "{wrong}");
    }
    assert_eq!(optimizer.lr(), before);
}

#[test]
fn every_optimizer_gives_its_learning_rate_by_name() {
    for config in AnyAlgorithm::all() {
        let mut optimizer = Optimizer::<f32>::new(config.clone());
        let lr = optimizer.lr();
        let named = ["lr", "max_lr"]
            .into_iter()
            .find_map(|name| optimizer.number_mut(None, name).ok().copied());
        assert_eq!(named, Some(lr), "{}", config.name());
    }
}

/// Norms of gradients, updates and parameters of the last step, by plain sums.
fn watched(
    mut optimizer: Optimizer<f32>,
    mut plain: Optimizer<f32>,
    shape: (usize, usize),
    what: &str,
) {
    optimizer
        .add_group(Group::new("late", ["b"], config_of(what)))
        .unwrap();
    plain
        .add_group(Group::new("late", ["b"], config_of(what)))
        .unwrap();
    let start = matrix(shape, 100);
    let (mut w, mut b) = (start.clone(), start.t().to_owned());
    let (mut w2, mut b2) = (w.clone(), b.clone());
    for t in 0..4 {
        let gw = 0.1 * matrix(shape, t);
        let gb = gw.t().mapv(|g| 2.0 * g);
        let (before_w, before_b) = (w.clone(), b.clone());
        let lend = |w: &mut Array2<f32>, b: &mut Array2<f32>, optimizer: &mut Optimizer<f32>| {
            let mut params = Params::new();
            params
                .add("w", w, &gw)
                .unwrap()
                .add_view("b", b.view_mut().reversed_axes(), gb.t())
                .unwrap();
            optimizer.step(params).unwrap();
        };
        lend(&mut w, &mut b, &mut optimizer);
        lend(&mut w2, &mut b2, &mut plain);
        assert_eq!((&w, &b), (&w2, &b2), "{what}: watching changed the step");
        let norm = |a: &Array2<f32>| a.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let stats = optimizer.stats();
        assert_eq!(stats.len(), 2);
        for (stats, group, g, before, after) in [
            (&stats[0], None, &gw, &before_w, &w),
            (&stats[1], Some("late"), &gb, &before_b, &b),
        ] {
            assert_eq!(stats.group.as_deref(), group);
            let update = norm(&(before - after));
            for (found, expected) in [
                (stats.grad_norm, norm(g)),
                (stats.update_norm, update),
                (stats.param_norm, norm(after)),
            ] {
                assert!(
                    (found - expected).abs() <= 1e-5 * expected,
                    "{what}: {found} {expected}"
                );
            }
            assert!((stats.ratio() - update / norm(after)).abs() <= 1e-5 * stats.ratio());
            assert_eq!(stats.non_finite, 0);
        }
    }
    assert!(plain.stats().is_empty());
    let mut p = array![1.0_f32, 2.0, 3.0, 4.0];
    optimizer
        .update(
            &mut p.view_mut().into_shape_with_order((2, 2)).unwrap(),
            &array![[f32::NAN, 1.0], [f32::INFINITY, 0.0]],
        )
        .unwrap();
    assert_eq!(optimizer.stats()[0].non_finite, 2, "{what}");
}

fn config_of(what: &str) -> AnyAlgorithm {
    match what {
        "adafactor" => Adafactor::default().into(),
        "lamb" => Lamb::default().into(),
        _ => AdamW {
            weight_decay: 0.0,
            ..Default::default()
        }
        .into(),
    }
}

#[test]
fn a_watched_step_tells_what_it_did_and_is_the_same_step() {
    for shape in [(3, 5), (64, 64), (90, 130)] {
        for parallel in [
            Parallel::SERIAL,
            Parallel {
                min_work: 0,
                chunk: 500,
            },
        ] {
            let check = |mut optimizer: Optimizer<f32>, mut plain: Optimizer<f32>, what: &str| {
                (optimizer.parallel, plain.parallel) = (parallel, parallel);
                watched(optimizer, plain, shape, what);
            };
            let by_itself = |plain: Optimizer<f32>, what: &str| {
                let mut optimizer = plain.clone();
                optimizer.watch = true;
                check(optimizer, plain, what);
            };
            let adamw = AdamW::default().clip_by_value(0.05).ema(0.9);
            check(
                Optimizer::new(adamw.clone().watch()),
                Optimizer::new(adamw.clone()),
                "adamw by type",
            );
            by_itself(Optimizer::new(adamw), "adamw by type");
            for what in ["adamw", "lamb", "adafactor"] {
                let file = |wrap: Vec<AnyWrap>| Optimizer::new(config_of(what).in_wrappers(wrap));
                check(file(vec![Watch {}.into()]), file(vec![]), what);
                let chain = || {
                    vec![
                        ClipByValue { max_value: 0.05 }.into(),
                        Ema {
                            decay: 0.9,
                            ..Default::default()
                        }
                        .into(),
                    ]
                };
                check(
                    file([chain(), vec![Watch {}.into()]].concat()),
                    file(chain()),
                    what,
                );
                by_itself(file(vec![]), what);
                by_itself(file(chain()), what);
                // On copies of the gradients.
                let staged = || {
                    vec![
                        ClipByNorm { max_norm: 0.05 }.into(),
                        Centralize::default().into(),
                    ]
                };
                check(
                    file([staged(), vec![Watch {}.into()]].concat()),
                    file(staged()),
                    what,
                );
                by_itself(file(staged()), what);
            }
            check(
                Optimizer::new(Lamb::default().watch()),
                Optimizer::new(Lamb::default()),
                "lamb",
            );
            check(
                Optimizer::new(Adafactor::default().watch()),
                Optimizer::new(Adafactor::default()),
                "adafactor",
            );
        }
    }
}

#[test]
fn a_call_that_a_step_would_refuse_does_not_count_in_a_round() {
    let polyak = || {
        let mut optimizer = Optimizer::new(ndarray_optim::PolyakSgd::default());
        optimizer.set_accumulation(2);
        optimizer
    };
    let mut p = array![2.0];
    let mut optimizer = polyak();
    assert_eq!(
        optimizer.update(&mut p, &array![1.0]),
        Err(Error::Loss { given: None })
    );
    optimizer
        .update_with_loss(&mut p, &array![1.0], 0.5)
        .unwrap();
    optimizer
        .update_with_loss(&mut p, &array![1.0], 0.5)
        .unwrap();
    assert_eq!(p, array![1.5]);

    let mut optimizer = Optimizer::new(Sgd::new(1.0));
    optimizer.set_accumulation(2);
    optimizer.update(&mut p, &array![1.0]).unwrap();
    optimizer.update(&mut p, &array![1.0]).unwrap();
    let state = optimizer.state_dict();
    let mut other = array![1.0, 2.0];
    assert!(matches!(
        optimizer.update(&mut other, &array![1.0, 1.0]),
        Err(Error::ShapeChanged { .. })
    ));
    optimizer.non_finite = NonFinite::Error;
    assert!(matches!(
        optimizer.update(&mut p, &array![f64::NAN]),
        Err(Error::NonFiniteGradient { .. })
    ));
    optimizer.algorithm_mut::<Sgd>().unwrap().lr = -1.0;
    assert!(matches!(
        optimizer.update(&mut p, &array![1.0]),
        Err(Error::HyperParameter { .. })
    ));
    (
        optimizer.algorithm_mut::<Sgd>().unwrap().lr,
        optimizer.non_finite,
    ) = (1.0, NonFinite::Propagate);
    assert_eq!(optimizer.state_dict().params, state.params);
    assert_eq!(optimizer.accumulation(), (0, 2));

    // Also in the last call: the round goes on.
    optimizer.non_finite = NonFinite::Skip;
    optimizer.update(&mut p, &array![1.0]).unwrap();
    assert_eq!(
        optimizer.update(&mut p, &array![f64::INFINITY]),
        Ok(Outcome::Skipped)
    );
    assert_eq!(optimizer.accumulation(), (1, 2));
    assert_eq!(optimizer.update(&mut p, &array![3.0]), Ok(Outcome::Applied));
    assert_eq!(p, array![1.5 - 1.0 - 2.0]);

    // A parameter that is new in a refused call is not remembered. One of a round has no state yet.
    let mut optimizer = polyak();
    assert!(optimizer.update(&mut p, &array![1.0]).is_err());
    assert!(optimizer.state_dict().params.is_empty());
    optimizer
        .update_with_loss(&mut p, &array![1.0], 0.5)
        .unwrap();
    assert!(!optimizer.state_dict().params[0].allocated);

    // Groups may be frozen in the middle.
    let mut optimizer = Optimizer::new(Sgd::new(1.0));
    optimizer
        .add_group(Group::new("g", ["q"], Sgd::new(1.0)))
        .unwrap();
    optimizer.set_accumulation(2);
    let (mut p, mut q, grad) = (array![1.0], array![1.0], array![1.0]);
    for frozen in [false, true] {
        optimizer.freeze("g", frozen).unwrap();
        let mut params = Params::new();
        params
            .add("p", &mut p, &grad)
            .unwrap()
            .add("q", &mut q, &grad)
            .unwrap();
        optimizer.step(params).unwrap();
    }
    assert_eq!((p[0], q[0]), (0.0, 1.0));
}
