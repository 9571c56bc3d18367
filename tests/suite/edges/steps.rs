//! Every way into a step obeys what is set for all steps.
use crate::common::numbers;
use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut1, array, aview1};
use ndarray_optim::{
    Adagrad, Adam, AnyAlgorithm, AnyWrap, Compose, Error, Evaluating, Group, Limits, NonFinite,
    Optimizer, Outcome, Params, PolyakSgd, Sam, Select, Sgd, Shampoo, Sophia, UNNAMED,
    algorithm::HyperParameters,
    state::{Data, Differs},
    wrap::{ClipByGlobalNorm, Ema, l2_ball},
};
use std::time::{Duration, Instant};

/// A way into a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Update,
    Slice,
    Step,
    StridedStep,
    Rows,
    Sam,
    /// Two calls with the same gradient.
    Accumulation,
}

const WAYS: [Way; 7] = [
    Way::Update,
    Way::Slice,
    Way::Step,
    Way::StridedStep,
    Way::Rows,
    Way::Sam,
    Way::Accumulation,
];

type Matrix = Array2<f64>;

fn step(optimizer: &mut Optimizer<f64>, p: &mut Matrix, g: &Matrix) -> Result<Outcome, Error> {
    optimizer.step(Params::new().add(UNNAMED, p, g)?.loss(0.5))
}

impl Way {
    /// One step with this gradient.
    fn go(
        self,
        optimizer: &mut Optimizer<f64>,
        p: &mut Matrix,
        g: &Matrix,
    ) -> Result<Outcome, Error> {
        match self {
            Way::Update => optimizer.update_with_loss(p, g, 0.5),
            Way::Slice => {
                let p = p.as_slice_mut().unwrap();
                optimizer.update_slice_with_loss(p, g.as_slice().unwrap(), 0.5)
            }
            Way::Step => step(optimizer, p, g),
            Way::StridedStep => {
                let g = g.t().as_standard_layout().into_owned();
                let mut params = Params::new();
                params.add_view(UNNAMED, p.view_mut(), g.t())?;
                params.loss(0.5);
                optimizer.step(params)
            }
            Way::Rows => {
                let all: Vec<usize> = (0..p.nrows()).collect();
                optimizer.update_rows(UNNAMED, p, &all, g)
            }
            Way::Sam => {
                let first = Params::new().add(UNNAMED, p, g).map(std::mem::take)?;
                let ascended = Sam::new(0.1).ascend(optimizer, first)?;
                ascended.descend(Params::new().add(UNNAMED, p, g)?.loss(0.5))
            }
            Way::Accumulation => {
                if optimizer.accumulation().1 == 1 {
                    optimizer.set_accumulation(2);
                }
                match step(optimizer, p, g)? {
                    Outcome::Accumulated => step(optimizer, p, g),
                    outcome => Ok(outcome),
                }
            }
        }
    }

    fn is_supported(self, algorithm: &AnyAlgorithm) -> bool {
        let (mut optimizer, mut p, g) = (build(algorithm), start(), good());
        let outcome = self.go(&mut optimizer, &mut p, &g);
        if self != Way::Rows && self != Way::Slice {
            assert_eq!(
                outcome,
                Ok(Outcome::Applied),
                "{self:?}, {}",
                algorithm.name()
            );
        }
        outcome.is_ok()
    }
}

/// The parameter is in a group, so that it can be frozen.
fn build(algorithm: &AnyAlgorithm) -> Optimizer<f64> {
    let mut optimizer = Optimizer::new(Sgd::new(0.1));
    let group = Group::new("group", [UNNAMED], algorithm.clone());
    optimizer.add_group(group).unwrap();
    optimizer
}

fn start() -> Matrix {
    numbers(&[3, 2], 1).into_dimensionality().unwrap()
}

/// A gradient of norm 0.5.
fn good() -> Matrix {
    array![[0.1, -0.2], [0.3, -0.2], [0.2, -0.173_205_080_756_887_7]]
}

fn nan() -> Matrix {
    array![[0.1, f64::NAN], [0.3, 0.4], [0.5, 0.6]]
}

fn huge() -> Matrix {
    100.0 * good()
}

/// Calls `test` for every algorithm and every way into its steps.
fn for_all(test: impl Fn(&str, Way, Optimizer<f64>)) {
    for algorithm in AnyAlgorithm::all() {
        for way in WAYS {
            if way.is_supported(&algorithm) {
                let what = format!("{}, {way:?}", algorithm.name());
                test(&what, way, build(&algorithm));
            }
        }
    }
}

#[test]
fn frozen_groups_stay_as_they_are_on_every_way() {
    for_all(|what, way, mut optimizer| {
        let mut p = start();
        way.go(&mut optimizer, &mut p, &good()).unwrap();
        optimizer.freeze("group", true).unwrap();
        optimizer.non_finite = NonFinite::Error;
        optimizer.limits.norm = Some(1.0);
        optimizer.watch = true;
        optimizer.clip = Some(ClipByGlobalNorm::default());
        let (before, state) = (p.clone(), optimizer.state_dict());
        for g in [nan(), huge(), good()] {
            let outcome = way.go(&mut optimizer, &mut p, &g);
            assert_eq!(outcome, Ok(Outcome::Applied), "{what}");
            assert_eq!(p, before, "{what}");
            assert_eq!(optimizer.state_dict().params, state.params, "{what}");
            // The norm of no gradients.
            assert_eq!(optimizer.grad_norm(), Some(0.0), "{what}");
            assert_eq!(optimizer.stats()[1].grad_norm, 0.0, "{what}");
        }
    });
}

#[test]
fn skips_are_counted_and_change_nothing_on_every_way() {
    for_all(|what, way, mut optimizer| {
        let mut p = start();
        optimizer.watch = true;
        optimizer.clip = Some(ClipByGlobalNorm::default());
        way.go(&mut optimizer, &mut p, &good()).unwrap();
        optimizer.non_finite = NonFinite::Skip;
        optimizer.limits = Limits {
            norm: Some(1.0),
            skipped: Some(2),
        };
        for bad in [nan(), huge()] {
            way.go(&mut optimizer, &mut p, &good()).unwrap();
            assert!(optimizer.grad_norm().is_some() && !optimizer.stats().is_empty());
            let (before, state) = (p.clone(), optimizer.state_dict());
            for skipped in 1..=3 {
                let outcome = way.go(&mut optimizer, &mut p, &bad);
                let expected = if skipped <= 2 {
                    Ok(Outcome::Skipped)
                } else {
                    Err(Error::TooManySkipped { skipped, limit: 2 })
                };
                assert_eq!(outcome, expected, "{what}");
                assert_eq!(p, before, "{what}");
                assert_eq!(optimizer.state_dict().params, state.params, "{what}");
                // Not those of the step before.
                let (norm, stats) = (optimizer.grad_norm(), optimizer.stats());
                assert!(norm.is_none() && stats.is_empty(), "{what}");
            }
        }
        optimizer.non_finite = NonFinite::Error;
        let (before, state) = (p.clone(), optimizer.state_dict());
        let refused = way.go(&mut optimizer, &mut p, &huge());
        assert!(
            matches!(refused, Err(Error::ExplodingGradient { .. })),
            "{what}"
        );
        let refused = way.go(&mut optimizer, &mut p, &nan());
        assert!(
            matches!(refused, Err(Error::NonFiniteGradient { .. })),
            "{what}"
        );
        assert_eq!((&p, &optimizer.state_dict()), (&before, &state), "{what}");
    });
}

#[test]
fn a_limit_that_is_no_limit_is_refused_on_every_way() {
    for_all(|what, way, mut optimizer| {
        let mut p = start();
        way.go(&mut optimizer, &mut p, &good()).unwrap();
        let before = p.clone();
        for norm in [-1.0, f64::NAN] {
            optimizer.limits.norm = Some(norm);
            for policy in [NonFinite::Propagate, NonFinite::Skip, NonFinite::Error] {
                optimizer.non_finite = policy;
                let refused = way.go(&mut optimizer, &mut p, &good());
                assert!(
                    matches!(&refused, Err(Error::HyperParameter { field, .. }) if field == "limits.norm"),
                    "{what}: {refused:?}"
                );
                assert_eq!(p, before, "{what}");
            }
        }
        optimizer.limits.norm = Some(f64::INFINITY);
        way.go(&mut optimizer, &mut p, &good()).unwrap();
    });
    // Also by the short way of `update`, and in a state.
    let (mut sgd, mut p) = (Optimizer::new(Sgd::new(0.1)), array![1.0]);
    sgd.update(&mut p, &array![1.0]).unwrap();
    sgd.update(&mut p, &array![1.0]).unwrap();
    let mut state = sgd.state_dict();
    sgd.limits.norm = Some(-1.0);
    assert!(sgd.update(&mut p, &array![1.0]).is_err());
    state.limits.norm = Some(-1.0);
    assert_eq!(sgd.differences(&state)[0].differs, Differs::Value);
}

#[test]
fn a_step_count_at_its_end_stays_and_is_loaded_again_on_every_way() {
    const MOST: u64 = 1 << 53;
    for_all(|what, way, mut optimizer| {
        let mut p = start();
        way.go(&mut optimizer, &mut p, &good()).unwrap();
        let mut state = optimizer.state_dict();
        state.params[0].steps = MOST;
        state
            .groups
            .iter_mut()
            .for_each(|group| group.steps = group.steps.min(1) * MOST);
        optimizer.load_state_dict(state).unwrap();
        for _ in 0..2 {
            way.go(&mut optimizer, &mut p, &good()).unwrap();
            assert_eq!(optimizer.steps(UNNAMED), MOST, "{what}");
        }
        let wrong = optimizer.differences(&optimizer.state_view());
        assert!(wrong.is_empty(), "{what}: {wrong:?}");
    });
    // The short way.
    let (mut adam, mut p) = (Optimizer::new(Adam::new(0.1)), array![1.0]);
    adam.update(&mut p, &array![1.0]).unwrap();
    let mut state = adam.state_dict();
    state.params[0].steps = MOST;
    adam.load_state_dict(state).unwrap();
    adam.update(&mut p, &array![1.0]).unwrap();
    adam.update(&mut p, &array![1.0]).unwrap();
    assert_eq!(adam.steps(UNNAMED), MOST);
}

#[test]
fn a_frozen_table_stays_as_it_is() {
    let algorithms: [AnyAlgorithm; 3] = [
        Sgd::new(0.1).into(),
        Adam::new(0.1).into(),
        Adagrad::new(0.1).into(),
    ];
    for algorithm in algorithms {
        let mut optimizer = build(&algorithm);
        optimizer.freeze("group", true).unwrap();
        let mut table = array![[1.0], [1.0]];
        optimizer
            .update_rows(UNNAMED, &mut table, &[1], &array![[1.0]])
            .unwrap();
        assert_eq!((table, optimizer.steps(UNNAMED)), (array![[1.0], [1.0]], 0));
    }
}

/// From a report on another library: the counter of skipped steps has to begin again.
#[test]
fn an_applied_step_ends_a_run_of_skipped_ones_on_the_short_way_too() {
    let (mut sgd, mut p) = (Optimizer::new(Sgd::new(0.1)), array![1.0]);
    sgd.limits.skipped = Some(2);
    sgd.update(&mut p, &array![1.0]).unwrap();
    sgd.non_finite = NonFinite::Skip;
    for _ in 0..2 {
        assert_eq!(sgd.update(&mut p, &array![f64::NAN]), Ok(Outcome::Skipped));
    }
    sgd.non_finite = NonFinite::Propagate;
    assert_eq!(sgd.update(&mut p, &array![1.0]), Ok(Outcome::Applied));
    sgd.non_finite = NonFinite::Skip;
    assert_eq!(sgd.update(&mut p, &array![f64::NAN]), Ok(Outcome::Skipped));
}

#[test]
fn what_is_no_step_does_not_end_a_run_of_skipped_ones() {
    let mut optimizer = Optimizer::new(Sophia::default());
    optimizer.non_finite = NonFinite::Skip;
    optimizer.limits.skipped = Some(2);
    let (mut p, g, bad) = (array![1.0], array![1.0], array![f64::NAN]);
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        // The first gradients of a step of SAM, and the estimates, are fine.
        let first = Params::new()
            .add("p", &mut p, &g)
            .map(std::mem::take)
            .unwrap();
        let ascended = Sam::new(0.1).ascend(&mut optimizer, first).unwrap();
        outcomes.push(ascended.descend(Params::new().add("p", &mut p, &bad).unwrap()));
        let estimate = Params::new()
            .add("p", &mut p, &g)
            .map(std::mem::take)
            .unwrap();
        optimizer.update_hessian(estimate).unwrap();
    }
    let error = Error::TooManySkipped {
        skipped: 3,
        limit: 2,
    };
    assert_eq!(
        outcomes,
        [Ok(Outcome::Skipped), Ok(Outcome::Skipped), Err(error)]
    );
    assert_eq!(p, array![1.0]);
}

/// The point of SAM for these gradients, by parameter.
fn ascend(
    optimizer: &mut Optimizer<f64>,
    sam: Sam,
    params: &mut [(&'static str, Array1<f64>, Array1<f64>)],
) -> Result<Outcome, Error> {
    let mut lent = Params::new();
    for (name, p, g) in params.iter_mut() {
        lent.add(*name, p, g)?;
    }
    let ascended = sam.ascend(optimizer, lent)?;
    let there: Vec<_> = params.iter().map(|(_, p, _)| p.clone()).collect();
    let mut lent = Params::new();
    for (name, p, g) in params.iter_mut() {
        lent.add(*name, p, g)?;
    }
    let outcome = ascended.descend(lent)?;
    for ((_, p, _), there) in params.iter_mut().zip(there) {
        *p = there;
    }
    Ok(outcome)
}

fn close(a: &Array1<f64>, b: &Array1<f64>) {
    assert!((a - b).iter().all(|e| e.abs() < 1e-12), "{a}, {b}");
}

#[test]
fn sam_leaves_frozen_groups_where_they_are() {
    let mut sgd = Optimizer::new(Sgd::new(0.1));
    sgd.add_group(Group::new("backbone", ["w"], Sgd::new(0.1)))
        .unwrap();
    sgd.freeze("backbone", true).unwrap();
    let mut params = [
        ("w", array![1.0], array![1000.0]),
        ("head", array![1.0, 1.0], array![0.6, 0.8]),
    ];
    ascend(&mut sgd, Sam::new(0.05), &mut params).unwrap();
    assert_eq!(params[0].1, array![1.0]);
    close(&params[1].1, &array![1.03, 1.04]);
}

#[test]
fn sam_goes_to_the_worst_point_of_an_ascent() {
    let mut sgd = Optimizer::new(Sgd {
        maximize: true,
        ..Sgd::new(0.1)
    });
    let mut params = [("p", array![1.0], array![3.0])];
    ascend(&mut sgd, Sam::new(0.05), &mut params).unwrap();
    close(&params[0].1, &array![0.95]);
}

#[test]
fn sam_follows_the_policy() {
    let mut sgd = Optimizer::new(Sgd::new(0.1));
    let mut params = [("p", array![1.0], array![f64::NAN])];
    for policy in [NonFinite::Propagate, NonFinite::Error] {
        sgd.non_finite = policy;
        let refused = ascend(&mut sgd, Sam::new(0.05), &mut params);
        assert!(matches!(refused, Err(Error::NonFiniteGradient { .. })));
    }
    sgd.non_finite = NonFinite::Skip;
    let outcome = ascend(&mut sgd, Sam::new(0.05), &mut params);
    assert_eq!(
        (outcome, &params[0].1),
        (Ok(Outcome::Skipped), &array![1.0])
    );
    assert_eq!((sgd.steps("p"), sgd.state_dict().params.len()), (0, 0));
    // A parameter that is swapped with its average must not move either.
    let mut ema = Optimizer::new(Sgd::new(0.1).ema(0.5));
    let mut p = array![1.0];
    ema.update(&mut p, &array![1.0]).unwrap();
    ema.swap_average(&mut p).unwrap();
    let mut params = [(UNNAMED, p.clone(), array![1.0])];
    let refused = ascend(&mut ema, Sam::new(0.05), &mut params);
    assert!(matches!(refused, Err(Error::Swapped { .. })));
    assert_eq!(params[0].1, p);
}

#[test]
fn the_norm_of_sam_neither_overflows_nor_vanishes_nor_depends_on_an_order() {
    let point = |p: [f64; 2], g: [f64; 2], adaptive: bool| {
        let mut sgd = Optimizer::new(Sgd::new(0.0));
        let mut params = [("p", aview1(&p).to_owned(), aview1(&g).to_owned())];
        ascend(
            &mut sgd,
            Sam {
                rho: 0.05,
                adaptive,
            },
            &mut params,
        )
        .unwrap();
        params[0].1.clone()
    };
    for size in [1e200, 1e308 / 4.0, 1e-200, 1e-320 / 4.0, 1.0] {
        let (a, b) = (3.0 * size, 4.0 * size);
        let there = point([1.0, 2.0], [a, b], false);
        // 1e-320 has three digits.
        let tolerance = if size < 1e-300 { 1e-4 } else { 1e-12 };
        let error = (&there - &array![1.03, 2.04]).mapv(f64::abs);
        assert!(error.iter().all(|&e| e < tolerance), "{size}: {there}");
        // e = rho p^2 g / |p g|
        let there = point([4.0, 3.0], [a, b], true);
        let e = 0.05 / (288.0_f64).sqrt() * array![16.0 * 3.0, 9.0 * 4.0];
        let error = (&there - &(array![4.0, 3.0] + e)).mapv(f64::abs);
        assert!(error.iter().all(|&e| e < tolerance), "{size}: {there}");
    }
    // A large parameter with a small gradient, and the reverse: p g is 1e-200 for both.
    let there = point([1.0, 1e-200], [1e-200, 1.0], true);
    close(&there, &array![1.0 + 0.05 / 2.0_f64.sqrt(), 0.0]);
    assert_eq!(point([1.0, 0.0], [0.0, 1.0], true), array![1.0, 0.0]);

    let mut sgd = Optimizer::<f32>::new(Sgd::new(0.0));
    let (mut p, g) = (array![1.0_f32, 2.0], array![3e-41_f32, 4e-41]);
    let lent = Params::new()
        .add("p", &mut p, &g)
        .map(std::mem::take)
        .unwrap();
    let ascended = Sam::new(0.05).ascend(&mut sgd, lent).unwrap();
    ascended.cancel(Params::new()).unwrap_err();
    assert!(
        (p[0] - 1.03).abs() < 1e-4 && (p[1] - 2.04).abs() < 1e-4,
        "{p}"
    );

    let arrays = || {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let array = |(seed, name)| {
            let numbers = numbers::<f64>(&[5], seed);
            (
                name,
                Array1::zeros(5),
                numbers.into_dimensionality().unwrap(),
            )
        };
        (0..).zip(names).map(array).collect::<Vec<_>>()
    };
    let mut expected = arrays();
    ascend(
        &mut Optimizer::new(Sgd::new(0.0)),
        Sam::new(0.3),
        &mut expected,
    )
    .unwrap();
    for turn in 1..7 {
        let mut turned = arrays();
        turned.rotate_left(turn);
        ascend(
            &mut Optimizer::new(Sgd::new(0.0)),
            Sam::new(0.3),
            &mut turned,
        )
        .unwrap();
        turned.rotate_right(turn);
        assert_eq!(turned, expected);
    }
}

/// The fastest of three.
fn time(mut work: impl FnMut() -> Duration) -> Duration {
    (0..3).map(|_| work()).min().unwrap()
}

#[test]
fn sam_and_evaluations_of_many_parameters_take_linear_time() {
    let sam = |n: usize| {
        let names: Vec<_> = (0..n).map(|i| format!("parameter {i}")).collect();
        let (mut all, g) = (vec![array![1.0]; n], array![1.0]);
        let mut sgd = Optimizer::new(Sgd::new(0.1));
        fn lend<'a>(
            names: &'a [String],
            all: &'a mut [Array1<f64>],
            g: &'a Array1<f64>,
        ) -> Params<'a, f64> {
            let mut params = Params::new();
            for (name, p) in names.iter().zip(all) {
                params.add(&**name, p, g).unwrap();
            }
            params
        }
        let ascended = Sam::new(0.1)
            .ascend(&mut sgd, lend(&names, &mut all, &g))
            .unwrap();
        let params = lend(&names, &mut all, &g);
        let start = Instant::now();
        ascended.descend(params).unwrap();
        start.elapsed()
    };
    let evaluation = |n: usize| {
        let names: Vec<_> = (0..n).map(|i| format!("parameter {i}")).collect();
        let (mut all, mut sgd) = (vec![array![1.0]; n], Optimizer::new(Sgd::new(0.1)));
        let start = Instant::now();
        let mut evaluating = Evaluating::new(&mut sgd);
        for (name, p) in names.iter().zip(&mut all) {
            evaluating.enter_param(name, p).unwrap();
        }
        for (name, p) in names.iter().zip(&mut all).rev() {
            evaluating.restore_param(name, p).unwrap();
        }
        evaluating.finish().unwrap();
        start.elapsed()
    };
    for (what, work) in [
        ("sam", &sam as &dyn Fn(usize) -> Duration),
        ("end", &evaluation),
    ] {
        let (few, many) = (time(|| work(1000)), time(|| work(16_000)));
        println!("{what}: {few:?}, {many:?}");
        // 16 if linear, 256 if quadratic.
        assert!(many < 64 * few, "{what}: {few:?}, {many:?}");
    }
}

#[test]
fn the_mean_of_finite_gradients_is_finite() {
    let mut sgd = Optimizer::<f32>::new(Sgd::new(1.0));
    sgd.set_accumulation(2);
    let mut p = array![1.0_f32, 1.0];
    sgd.update(&mut p, &array![3e38, 2.0]).unwrap();
    sgd.update(&mut p, &array![-3e38, 2.0]).unwrap();
    assert_eq!(p, array![1.0, -1.0]);
    sgd.set_accumulation(3);
    for g in [3e38, -3e38, -3e38] {
        sgd.update(&mut p, &array![g, 0.0]).unwrap();
    }
    assert!((p[0] / 1e38 - 1.0).abs() < 1e-6, "{p}");
    // What is infinite stays infinite.
    sgd.set_accumulation(2);
    sgd.update(&mut p, &array![f32::INFINITY, 0.0]).unwrap();
    sgd.update(&mut p, &array![1.0, 0.0]).unwrap();
    assert_eq!(p[0], f32::NEG_INFINITY);
}

#[test]
fn the_losses_of_a_round_that_is_given_up_are_forgotten() {
    let polyak = PolyakSgd {
        max_lr: 100.0,
        ..Default::default()
    };
    let mut optimizer = Optimizer::new(Sgd::new(0.0));
    optimizer
        .add_group(Group::new("polyak", ["p"], polyak))
        .unwrap();
    optimizer.set_accumulation(2);
    let (mut p, mut q, g) = (array![2.0], array![2.0], array![1.0]);
    let mut call = |optimizer: &mut Optimizer<f64>, name: &'static str, loss: Option<f64>| {
        let param = if name == "p" { &mut p } else { &mut q };
        let mut params = Params::new();
        params.add(name, param, &g).unwrap();
        loss.map(|loss| params.loss(loss));
        optimizer.step(params)
    };
    let accumulated = Ok(Outcome::Accumulated);
    // Without a loss, then with losses.
    assert_eq!(call(&mut optimizer, "q", None), accumulated);
    // It is said at once that the round has no mean loss.
    let refused = call(&mut optimizer, "p", Some(1.0));
    assert!(matches!(refused, Err(Error::MissingParameter { .. })));
    optimizer.reset_accumulation();
    assert_eq!(call(&mut optimizer, "p", Some(1e17)), accumulated);
    optimizer.reset_accumulation();
    assert_eq!(call(&mut optimizer, "p", Some(3.0)), accumulated);
    assert_eq!(call(&mut optimizer, "p", Some(5.0)), Ok(Outcome::Applied));
    assert_eq!(p, array![-2.0]); // by the mean loss / |g|^2

    let mut optimizer = Optimizer::new(Sgd::new(0.0));
    optimizer
        .add_group(Group::new("polyak", ["p"], polyak))
        .unwrap();
    optimizer.set_accumulation(3);
    let call = |optimizer: &mut Optimizer<f64>, name: &'static str, loss: Option<f64>| {
        let mut p = array![2.0];
        let mut params = Params::new();
        params.add(name, &mut p, &g).unwrap();
        loss.map(|loss| params.loss(loss));
        optimizer.step(params)
    };
    assert_eq!(call(&mut optimizer, "q", None), accumulated);
    assert_eq!(
        call(&mut optimizer, "p", Some(1.0)),
        Err(Error::Loss { given: None })
    );
    assert_eq!(optimizer.accumulation(), (1, 3));
}

#[test]
fn a_mean_gradient_above_the_limit_is_skipped_or_refused_as_a_whole() {
    let lend = |optimizer: &mut Optimizer<f64>, gp: Option<f64>, gq: Option<f64>| {
        let (mut p, mut q) = (array![1.0], array![1.0]);
        let (gp, gq) = (gp.map(|g| array![g]), gq.map(|g| array![g]));
        let mut params = Params::new();
        params.add_optional("p", &mut p, gp.as_deref()).unwrap();
        let gq = gq.as_ref().map(|g| g.view());
        params.add_optional_view("q", q.view_mut(), gq).unwrap();
        let outcome = optimizer.step(params);
        (outcome, p[0], q[0])
    };
    for policy in [NonFinite::Skip, NonFinite::Error] {
        let mut sgd = Optimizer::new(Sgd::new(1.0));
        sgd.set_accumulation(2);
        sgd.limits.norm = Some(4.5);
        sgd.non_finite = policy;
        // Each call is below the limit, the means [3] and [4] together are not.
        lend(&mut sgd, Some(3.0), None).0.unwrap();
        let state = sgd.state_dict().to_bytes();
        let outcome = lend(&mut sgd, None, Some(4.0));
        if policy == NonFinite::Skip {
            assert_eq!(outcome, (Ok(Outcome::Skipped), 1.0, 1.0));
            assert_eq!(sgd.accumulation(), (0, 2));
        } else {
            let (norm, limit) = (5.0, 4.5);
            assert_eq!(outcome.0, Err(Error::ExplodingGradient { norm, limit }));
            // Nothing has changed: the call can be repeated.
            assert_eq!(sgd.state_dict().to_bytes(), state);
            assert_eq!(
                lend(&mut sgd, None, Some(1.0)),
                (Ok(Outcome::Applied), -2.0, 0.0)
            );
        }
    }
}

#[test]
fn a_wrong_gradient_in_any_call_of_a_round_is_refused_at_once() {
    for call in 0..3 {
        let (mut sgd, mut p) = (Optimizer::new(Sgd::new(1.0)), array![1.0, 1.0]);
        sgd.set_accumulation(3);
        sgd.non_finite = NonFinite::Error;
        for i in 0..3 {
            if i == call {
                let state = sgd.state_dict().to_bytes();
                let refused = sgd.update(&mut p, &array![1.0, f64::NAN]);
                assert!(matches!(refused, Err(Error::NonFiniteGradient { .. })));
                if call > 0 {
                    let refused = sgd.update(&mut array![1.0], &array![1.0]);
                    assert!(matches!(refused, Err(Error::ShapeChanged { .. })));
                }
                assert_eq!(sgd.state_dict().to_bytes(), state);
            }
            sgd.update(&mut p, &array![3.0, 6.0]).unwrap();
        }
        assert_eq!(p, array![-2.0, -5.0]);
    }
}

#[test]
fn a_loaded_round_fits_the_parameters() {
    let (mut sgd, mut p) = (Optimizer::new(Sgd::new(1.0)), array![1.0, 1.0]);
    sgd.update(&mut p, &array![0.0, 0.0]).unwrap();
    sgd.set_accumulation(2);
    sgd.update(&mut p, &array![1.0, 2.0]).unwrap();
    let good = sgd.state_dict();
    let refused = |change: fn(&mut ndarray_optim::state::Round)| {
        let mut state = good.clone();
        change(state.accumulation.as_mut().unwrap());
        // Into the run itself, and into a new program.
        let fresh = Optimizer::<f64>::new(Sgd::new(1.0));
        [sgd.differences(&state), fresh.differences(&state)]
            .map(|all| all.iter().map(|one| one.differs).collect::<Vec<_>>())
    };
    let shape = refused(|round| round.means[0].data = Data::from(array![1.0].into_dyn()));
    assert_eq!(shape, [[Differs::Shape], [Differs::Shape]]);
    let nobody = refused(|round| round.means[0].name = "nobody".into());
    assert_eq!(nobody, [[Differs::Parameter], [Differs::Parameter]]);
    assert_eq!(refused(|_| ()), [[], []]);
    let mut resumed = Optimizer::<f64>::from_state(good).unwrap();
    let mut q = p.clone();
    for (optimizer, p) in [(&mut sgd, &mut p), (&mut resumed, &mut q)] {
        optimizer.update(p, &array![3.0, 2.0]).unwrap();
    }
    assert_eq!((&p, &p), (&q, &array![-1.0, -1.0]));
}

#[test]
fn a_load_says_which_settings_it_replaced() {
    let mut run = Optimizer::<f64>::new(Sgd::new(0.1));
    run.set_accumulation(4);
    run.non_finite = NonFinite::Skip;
    let mut program = Optimizer::<f64>::new(Sgd::new(0.1));
    program.set_accumulation(8);
    program.limits.norm = Some(3.0);
    program.clip = Some(ClipByGlobalNorm::default());
    let replaced = program.load_state_dict(run.state_dict()).unwrap();
    let places: Vec<_> = replaced.iter().map(|one| &*one.place).collect();
    assert_eq!(places, ["non_finite", "limits", "clip", "calls per step"]);
    assert!(replaced.iter().all(|one| one.differs == Differs::Setting));
    let every = &replaced[3];
    assert_eq!((&*every.found, &*every.expected), ("4", "8"));
    assert_eq!(program.accumulation(), (0, 4));
    assert!(
        program
            .load_state_dict(run.state_dict())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_validate_accepts_the_step_accepts() {
    let two = AnyAlgorithm::from(Sgd::new(0.1))
        .in_wrappers([AnyWrap::from(Ema::default()), Ema::default().into()]);
    assert!(two.validate().is_err());
    let refused = Optimizer::new(two).update(&mut array![1.0], &array![1.0]);
    assert!(matches!(refused, Err(Error::HyperParameter { .. })));
    for bad in [-1.0, f64::NAN] {
        let clip = ClipByGlobalNorm {
            max_norm: bad,
            ..Default::default()
        };
        assert!(clip.validate().is_err());
        let mut sgd = Optimizer::new(Sgd::new(0.1));
        sgd.clip = Some(clip);
        assert!(sgd.update(&mut array![1.0], &array![1.0]).is_err());
        // There is no ball of a negative radius: the smallest is the origin.
        let mut p = array![3.0, 4.0];
        l2_ball(&mut p, bad);
        assert_eq!(p, array![0.0, 0.0]);
    }
    let mut sgd = Optimizer::new(Sgd::new(0.1));
    sgd.set_accumulation(0);
    assert_eq!(sgd.accumulation(), (0, 1));
    assert_eq!(
        sgd.update(&mut array![1.0], &array![1.0]),
        Ok(Outcome::Applied)
    );
}

#[test]
fn a_clip_without_bound_only_measures() {
    let clip = ClipByGlobalNorm {
        max_norm: f64::INFINITY,
        ..Default::default()
    };
    let (mut p, mut q, g) = (array![0.0, 0.0], array![0.0, 0.0], array![3.0, 4.0]);
    let mut sgd = Optimizer::new(Sgd::new(1.0));
    sgd.clip = Some(clip.clone());
    let mut wrapped = Optimizer::new(Sgd::new(1.0).wrap(clip));
    sgd.update(&mut p, &g).unwrap();
    wrapped.update(&mut q, &g).unwrap();
    assert_eq!((&p, &q), (&-&g, &-&g));
    assert_eq!(
        (sgd.grad_norm(), wrapped.grad_norm()),
        (Some(5.0), Some(5.0))
    );
}

/// Of the groups, each clips by a norm of its own; `clip` is one norm for all.
#[test]
fn groups_clip_by_their_own_norms() {
    use ndarray_optim::reduce::Norm;
    let clip = |norm| ClipByGlobalNorm {
        norm,
        ..Default::default()
    };
    let mut sgd = Optimizer::new(Sgd::new(1.0).wrap(clip(Norm::L1)));
    let other = Sgd::new(1.0).wrap(clip(Norm::Max));
    sgd.add_group(Group::new("other", ["q"], other)).unwrap();
    let (mut p, mut q, g) = (array![0.0, 0.0], array![0.0, 0.0], array![3.0, -5.0]);
    let mut params = Params::new();
    params
        .add("p", &mut p, &g)
        .unwrap()
        .add("q", &mut q, &g)
        .unwrap();
    sgd.step(params).unwrap();
    close(&p, &array![-0.375, 0.625]);
    close(&q, &array![-0.6, 1.0]);
}

#[test]
fn a_late_group_with_factors_of_other_shapes_is_refused() {
    let (mut w, g) = (start(), good());
    let mut shampoo = Optimizer::new(Shampoo::default());
    let mut step =
        |shampoo: &mut Optimizer<f64>| shampoo.step(Params::new().add("w", &mut w, &g).unwrap());
    step(&mut shampoo).unwrap();
    let other = Shampoo {
        max_dim: 2,
        ..Default::default()
    };
    let refused = shampoo.add_group(Group::new("matrices", Select::rank(2), other));
    assert!(matches!(refused, Err(Error::InGroup { .. })), "{refused:?}");
    step(&mut shampoo).unwrap();
    assert_eq!((shampoo.steps("w"), shampoo.group_of("w")), (2, None));
}

#[test]
fn a_loop_that_swaps_all_averages_passes_by_frozen_groups() {
    let mut sgd = Optimizer::new(Sgd::new(0.1).ema(0.5));
    sgd.add_group(Group::new("backbone", ["b"], Sgd::new(0.1).ema(0.5)))
        .unwrap();
    sgd.add_group(Group::new("fixed", Select::prefix("fixed."), Sgd::new(0.1)))
        .unwrap();
    sgd.freeze("backbone", true).unwrap();
    sgd.freeze("fixed", true).unwrap();
    let g = array![1.0];
    let mut all = ["a", "b", "c", "fixed.d"].map(|name| (name, array![1.0]));
    for _ in 0..2 {
        let mut params = Params::new();
        // The last one is never passed to a step.
        for (name, p) in &mut all[..3] {
            params.add(*name, p, &g).unwrap();
        }
        sgd.step(params).unwrap();
    }
    let before = all.clone();
    for (name, p) in &mut all {
        sgd.swap_average_param(name, p).unwrap();
    }
    // (0.5 0.5 0.9 + 0.5 0.8) / 0.75
    let moved = |i: usize| (all[i].1[0] - (0.225 + 0.4) / 0.75_f64).abs() < 1e-15;
    assert!(moved(0) && moved(2), "{all:?}");
    assert_eq!((&all[1], &all[3]), (&before[1], &before[3]));
    for (name, p) in &mut all {
        sgd.swap_average_param(name, p).unwrap();
    }
    assert_eq!(all, before);
    let misspelt = sgd.swap_average_param("e", &mut array![1.0]);
    assert_eq!(misspelt, Err(Error::NoAverage { name: "e".into() }));
}

#[test]
fn the_evaluation_of_a_swapped_parameter_is_the_average() {
    let (mut sgd, mut p) = (Optimizer::new(Sgd::new(0.1).ema(0.5)), array![1.0]);
    for _ in 0..2 {
        sgd.update(&mut p, &array![1.0]).unwrap();
    }
    let average = sgd.evaluate(&p).unwrap();
    assert_ne!(average, p);
    sgd.swap_average(&mut p).unwrap();
    assert_eq!((&p, sgd.evaluate(&p).as_ref()), (&average, Ok(&average)));
}

#[test]
fn slices_with_a_loss_and_optional_views_are_the_same_step() {
    let polyak = || Optimizer::new(PolyakSgd::default());
    let (mut p, mut q, g) = ([1.0, 2.0], array![1.0, 2.0], array![0.5, 0.25]);
    polyak()
        .update_slice_with_loss(&mut p, g.as_slice().unwrap(), 0.1)
        .unwrap();
    polyak().update_with_loss(&mut q, &g, 0.1).unwrap();
    assert_eq!(aview1(&p), q);
    let mut sgd = Optimizer::new(Sgd::new(1.0));
    let (mut memory, grad) = ([1.0, 2.0, 3.0], [1.0, 1.0]);
    let (a, b) = memory.split_at_mut(2);
    let mut params = Params::default();
    params
        .add_optional_view("a", ArrayViewMut1::from(a), Some(ArrayView1::from(&grad)))
        .unwrap()
        .add_optional_view("b", ArrayViewMut1::from(b), None)
        .unwrap();
    sgd.step(params).unwrap();
    assert_eq!(
        (memory, sgd.steps("a"), sgd.steps("b")),
        ([0.0, 1.0, 3.0], 1, 0)
    );
}
