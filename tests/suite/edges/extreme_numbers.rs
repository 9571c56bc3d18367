//! Zeros, subnormals, huge and non-finite numbers.
use crate::common::{filled, number, pool};
use ndarray::{Array1, ArrayD, ShapeBuilder, array};
use ndarray_optim::{
    Adam, AdamW, AnyAlgorithm, AnyWrap, Compose, Error, Fromage, Lamb, Lars, Madgrad, Mars, Muon,
    NonFinite, NovoGrad, Optimizer, Outcome, RmsProp, Sgd,
    algorithm::Element,
    reduce::{self, Norm, Sum},
    wrap::{ClipByGlobalNorm, ClipByValue, simplex},
};

/// Every optimizer, with the defaults and all presets that the catalogue lists.
fn all() -> Vec<AnyAlgorithm> {
    AnyAlgorithm::all()
}

/// The parameter after each step of these gradients.
fn run<A: Element>(
    optimizer: &mut Optimizer<A>,
    start: &ArrayD<A>,
    grads: &[ArrayD<A>],
) -> Vec<ArrayD<A>> {
    let mut p = start.clone();
    let step = |grad: &ArrayD<A>| {
        optimizer.update_with_loss(&mut p, grad, 1.0).unwrap();
        p.clone()
    };
    grads.iter().map(step).collect()
}

fn norms<A: Element>(grad: &Array1<A>) -> Vec<f64> {
    [Norm::L1, Norm::L2, Norm::Max]
        .map(|norm| {
            let mut optimizer = Optimizer::<A>::new(Sgd::new(0.0));
            optimizer.clip = Some(ClipByGlobalNorm {
                norm,
                ..Default::default()
            });
            optimizer.update(&mut grad.mapv(|_| A::ZERO), grad).unwrap();
            optimizer.grad_norm().unwrap()
        })
        .to_vec()
}

#[test]
fn the_norm_of_zeros_is_zero_and_that_of_an_infinity_infinite() {
    fn check<A: Element>() {
        let (zero, one, inf) = (A::ZERO, A::one(), A::infinity());
        assert_eq!(norms(&array![zero, zero]), [0.0; 3]);
        assert_eq!(norms(&array![one, -inf]), [f64::INFINITY; 3]);
        for nan in norms(&array![one, -A::nan(), inf]) {
            assert_eq!(nan.to_bits(), f64::NAN.to_bits());
        }
        let least = A::min_positive_value() * A::epsilon();
        assert_eq!(norms(&array![zero, least])[1..], [least.f64(); 2]);
        let most = A::max_value() / (one + one + one);
        for norm in norms(&array![most, zero, -most]) {
            assert!(norm >= most.f64() && norm <= 2.0 * most.f64(), "{norm:e}");
        }
    }
    check::<f32>();
    check::<f64>();
}

/// As `numpy.hypot` of the sizes: 3-4-5 triangles at every size of `f64`.
#[test]
fn norms_are_right_at_every_size() {
    for e in -1070..=1020 {
        let size = 2_f64.powi(e / 2) * 2_f64.powi(e - e / 2);
        let a = array![3.0 * size, 0.0, -4.0 * size];
        let norm = reduce::norm(&a);
        assert!((norm / size - 5.0).abs() < 1e-13, "2^{e}: {norm:e}");
        let strided = array![[3.0 * size, 1.0], [-4.0 * size, 1.0]];
        assert_eq!(reduce::norm(&strided.column(0)).to_bits(), norm.to_bits());
    }
    assert_eq!(reduce::norm(&array![1e200, f64::INFINITY]), f64::INFINITY);
    assert!(reduce::norm(&array![1e200, f64::NAN]).is_nan());
}

/// Python's `math.fsum` of the same numbers.
#[test]
fn sums_of_huge_numbers_are_those_of_exact_arithmetic_in_any_order() {
    for (terms, value) in [
        (vec![1e300, -1e300, 1.0], 1.0),
        (vec![1e308, 1e308, -1e308], 1e308),
        (vec![-1e308, -1e308, 1e308, 1e308, 3.0], 3.0),
        (vec![1.7e308, -1e292, 1e292], 1.7e308),
        (vec![1e308, f64::INFINITY, 1e308], f64::INFINITY),
        (vec![-1e308, f64::NEG_INFINITY], f64::NEG_INFINITY),
        (vec![1e308, 1e308], f64::INFINITY),
    ] {
        for turn in 0..terms.len() {
            let mut terms = terms.clone();
            terms.rotate_left(turn);
            let (mut whole, mut parts) = (Sum::default(), Sum::default());
            whole.add(&terms);
            for &term in &terms {
                let mut part = Sum::default();
                part.add(&[term]);
                parts.merge(&part);
            }
            assert_eq!((whole.value(), parts.value()), (value, value), "{terms:?}");
        }
    }
    let mut sum = Sum::default();
    sum.add(&[f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(sum.value().to_bits(), f64::NAN.to_bits());
}

/// Numbers of one size or of all sizes up to it, with a few of the given ones.
fn extremes<A: Element>(shape: &[usize], seed: u64, size: f64, special: &[f64]) -> ArrayD<A> {
    filled(shape, |i| {
        let x = number(seed, i);
        match special.get(i % 97) {
            Some(&special) if i > 97 => special,
            _ => x * size,
        }
    })
}

#[test]
fn bits_do_not_depend_on_layout_order_chunks_or_threads_at_any_size() {
    fn check<A: Element>(sizes: &[f64], specials: &[&[f64]]) {
        let shape = [13, 40];
        for config in all() {
            for (&size, special) in sizes.iter().zip(specials.iter().cycle()) {
                let grads: Vec<ArrayD<A>> = (0..3)
                    .map(|t| extremes(&shape, t, size, if t == 1 { special } else { &[] }))
                    .collect();
                let start = filled::<A>(&shape, |i| number(7, i));
                let mut plain = Optimizer::<A>::new(config.clone());
                plain.parallel = ndarray_optim::Parallel::SERIAL;
                let expected = run(&mut plain, &start, &grads).pop().unwrap();
                for (threads, chunk) in [(1, 1000), (3, 7)] {
                    let mut optimizer = Optimizer::<A>::new(config.clone());
                    optimizer.parallel.chunk = chunk;
                    optimizer.parallel.min_work = 0;
                    let fortran = |a: &ArrayD<A>| {
                        let mut f = ArrayD::from_elem(shape.to_vec().f(), A::ZERO);
                        f.assign(a);
                        f
                    };
                    // The state follows the parameter, the gradients do not.
                    let start = if threads == 1 {
                        start.clone()
                    } else {
                        fortran(&start)
                    };
                    let grads: Vec<_> = grads.iter().map(fortran).collect();
                    let found = pool(threads)
                        .install(|| run(&mut optimizer, &start, &grads))
                        .pop()
                        .unwrap();
                    let same = expected.indexed_iter().all(|(at, x)| {
                        x.f64().to_bits() == found[&at].f64().to_bits()
                            || x.is_nan() && found[&at].is_nan()
                    });
                    assert!(same, "{} at {size:e}, {threads} threads", config.name());
                    let scalars = |optimizer: &Optimizer<A>| {
                        let state = optimizer.state_dict();
                        let own = state.params[0].scalars;
                        let of_group = state.groups[0].scalars.unwrap_or(own);
                        [0, 1, 2, 3].map(|i| (own[i].to_bits(), of_group[i].to_bits()))
                    };
                    assert_eq!(
                        scalars(&plain),
                        scalars(&optimizer),
                        "{} at {size:e}",
                        config.name()
                    );
                }
            }
        }
    }
    let specials: [&[f64]; 3] = [&[], &[f64::INFINITY], &[f64::NAN, f64::NEG_INFINITY]];
    check::<f32>(&[1e-45, 1e-30, 1e19, 1e30, 3e38], &specials);
    check::<f64>(&[5e-324, 1e-200, 1e147, 1e154, 1e300], &specials);
}

/// torch.optim of torch 2.15 in `f32`, lr 0.1, gradients [1, 1e20, 1] and then [1, 1, 1].
#[test]
fn after_one_huge_gradient_adam_moves_on_as_in_torch() {
    let start = ArrayD::from_shape_vec(vec![3], vec![1.0_f32, 2.0, 3.0]).unwrap();
    let mut grads = vec![ArrayD::from_elem(vec![3], 1.0_f32); 5];
    grads[0][1] = 1e20;
    let moves_as = |config: AnyAlgorithm, expected: [f32; 5]| {
        let mut optimizer = Optimizer::new(config.clone());
        for (p, expected) in run(&mut optimizer, &start, &grads).iter().zip(expected) {
            let error = (p[1] - expected).abs();
            assert!(error < 1e-5, "{}: {} {expected}", config.name(), p[1]);
        }
    };
    moves_as(
        Adam::new(0.1).into(),
        [1.9, 1.832_994_1, 1.781_198_4, 1.738_770_5, 1.702_909_2],
    );
    moves_as(
        AdamW::new(0.1).into(),
        [1.898, 1.829_096_2, 1.775_471_4, 1.731_268, 1.693_675_5],
    );
    moves_as(
        ndarray_optim::Adamax::new(0.1).into(),
        [1.9, 1.852_584_1, 1.822_634_9, 1.801_373_2, 1.785_287_4],
    );
}

/// One gradient element of any size among ones of 1, first or after others: every optimizer stays
/// finite, also in the steps after it, and under [`NonFinite::Skip`] it either skips the step, as
/// if it had not been, or goes on.
#[test]
fn one_gradient_of_any_size_leaves_every_optimizer_working() {
    fn check<A: Element>(sizes: &[f64]) {
        let start = filled::<A>(&[4, 3], |i| 1.0 + number(3, i));
        let ones = ArrayD::from_elem(vec![4, 3], A::one());
        for config in all() {
            // Where the formula itself leaves the range of numbers, as a sum of several momenta.
            let most = match config.name() {
                "adan" | "aggmo" | "mars" | "muon" => A::max_value().f64() / 4.0,
                "shampoo" => A::max_value().f64().powf(0.75),
                _ => f64::MAX,
            };
            for (&size, before) in sizes.iter().zip([0, 2].into_iter().cycle()) {
                if size > most {
                    continue;
                }
                let mut huge = ones.clone();
                huge[[1, 2]] = A::from_f64(size);
                let ones = |n| vec![ones.clone(); n];
                let grads = [
                    ones(before),
                    vec![huge.clone(), huge.mapv(|g| -g)],
                    ones(20),
                ]
                .concat();
                let what = format!("{} {} at {size:e}", A::TYPE, config.name());
                for p in run(&mut Optimizer::<A>::new(config.clone()), &start, &grads) {
                    assert!(p.iter().all(|x| x.is_finite()), "{what}: {p}");
                }

                let mut skipping = Optimizer::<A>::new(config.clone());
                skipping.non_finite = NonFinite::Skip;
                let mut p = start.clone();
                let mut skipped = 0;
                for grad in &grads {
                    let outcome = skipping.update_with_loss(&mut p, grad, 1.0).unwrap();
                    skipped += usize::from(outcome == Outcome::Skipped);
                }
                let calm = [ones(before), ones(20)].concat();
                let grads = if skipped == 0 { &grads } else { &calm };
                let expected = run(&mut Optimizer::<A>::new(config.clone()), &start, grads);
                assert!([0, 2].contains(&skipped), "{what}");
                assert_eq!(expected.last(), Some(&p), "{what}");
                // What torch's average of squares can hold.
                let root = A::max_value().f64().sqrt();
                let limit = match config.name() {
                    "adam" | "adamw" | "lamb" => root / 0.001_f64.sqrt(),
                    "rmsprop" => root / 0.01_f64.sqrt(),
                    "adagrad" => root,
                    _ => continue,
                };
                assert_eq!(skipped > 0, size > limit, "{what}");
            }
        }
    }
    check::<f32>(&[
        0.0, 1e-45, 1e-38, 1e-20, 1e10, 1e18, 1e19, 1e20, 1e25, 1e30, 1e38, 3e38,
    ]);
    check::<f32>(&[
        1e-45, 0.0, 1e-20, 1e-38, 1e18, 1e10, 1e20, 1e19, 1e30, 1e25, 3e38, 1e38,
    ]);
    check::<f64>(&[
        0.0, 5e-324, 1e-308, 1e-160, 1e100, 1e150, 1e155, 1e200, 1e300, 1e308,
    ]);
    check::<f64>(&[
        5e-324, 0.0, 1e-160, 1e-308, 1e150, 1e100, 1e200, 1e155, 1e308, 1e300,
    ]);
}

#[test]
fn a_policy_lets_pass_what_adam_can_use() {
    for policy in [NonFinite::Propagate, NonFinite::Skip, NonFinite::Error] {
        let mut adam = Optimizer::new(Adam::new(0.1));
        adam.non_finite = policy;
        let mut p = array![1.0_f32, 1.0];
        let outcome = adam.update(&mut p, &array![1e20, 1.0]);
        assert_eq!(outcome, Ok(Outcome::Applied));
        assert!((&p - 0.9_f32).iter().all(|p| p.abs() < 1e-6), "{p}");
    }
}

/// Clipping makes a huge gradient usable, so that no policy refuses it.
#[test]
fn the_policy_refuses_a_gradient_whose_square_overflows_unless_it_is_clipped() {
    let adam = Adam::new(0.1);
    let huge = array![1e30_f32, 1.0];
    for (config, refused) in [
        (adam.into(), true),
        (
            AnyAlgorithm::from(adam).in_wrappers([ClipByValue { max_value: 1.0 }.into()]),
            false,
        ),
        (
            AnyAlgorithm::from(adam).in_wrappers([ndarray_optim::wrap::Ema::default().into()]),
            true,
        ),
        (Sgd::new(1e-30).into(), false),
    ] {
        let mut optimizer = Optimizer::<f32>::new(config);
        optimizer.non_finite = NonFinite::Error;
        let mut p = array![1.0, 1.0];
        let found = optimizer.update(&mut p, &huge);
        if refused {
            let most = (f64::from(f32::MAX) / 0.001).sqrt();
            assert!(
                matches!(found, Err(Error::ExplodingGradient { limit, .. })
                    if limit < most && limit > 0.99999 * most),
                "{found:?}"
            );
            assert_eq!((p, optimizer.steps("variable")), (array![1.0, 1.0], 0));
        } else {
            assert_eq!(found, Ok(Outcome::Applied));
        }
    }
    let mut typed = Optimizer::<f32>::new(adam.clip_by_global_norm(1.0));
    let mut global = Optimizer::<f32>::new(adam);
    global.clip = Some(ClipByGlobalNorm::default());
    for optimizer in [&mut typed, &mut global] {
        optimizer.non_finite = NonFinite::Error;
        let mut p = array![1.0, 1.0];
        assert_eq!(optimizer.update(&mut p, &huge), Ok(Outcome::Applied));
        assert!((p[0] - 0.9_f32).abs() < 1e-6);
    }
}

#[test]
fn zero_gradients_move_no_parameter_without_decay() {
    fn check<A: Element>() {
        let start = filled::<A>(&[5, 7], |i| number(5, i) * 3.0);
        let zeros = vec![ArrayD::from_elem(vec![5, 7], A::ZERO); 5];
        for config in all() {
            for eps in [None, Some(0.0)] {
                let mut optimizer = Optimizer::<A>::new(config.clone());
                // Yogi's averages start at a number, as in optax.
                for name in ["weight_decay", "lambd", "initial_accumulator_value"] {
                    if let Ok(number) = optimizer.number_mut(None, name) {
                        *number = 0.0;
                    }
                }
                if let (Some(eps), Ok(number)) = (eps, optimizer.number_mut(None, "eps")) {
                    *number = eps;
                }
                // Fromage shrinks parameters by its formula, and that of Ftrl does not depend on
                // the parameter before the first step.
                if ["fromage", "ftrl"].contains(&config.name()) {
                    continue;
                }
                for p in run(&mut optimizer, &start, &zeros) {
                    assert_eq!(p, start, "{} {} {eps:?}", A::TYPE, config.name());
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

/// The variance of a constant is 0, and rounding makes it no less: torch 2.15 is NaN for a fifth of
/// these constants.
#[test]
fn centered_rmsprop_stays_finite_under_constant_gradients() {
    let grads = Array1::from_shape_fn(200, |i| 0.01 * (i + 1) as f32);
    let mut rmsprop = Optimizer::new(RmsProp {
        centered: true,
        lr: 0.01,
        ..Default::default()
    });
    let mut p = Array1::from_elem(200, 1.0_f32);
    for _ in 0..3000 {
        rmsprop.update(&mut p, &grads).unwrap();
    }
    assert!(p.iter().all(|p| p.is_finite()), "{p}");
}

/// torch 2.15: the norm is clamped to 1e-7, so that only decay moves the parameter.
#[test]
fn torch_muon_makes_no_step_of_vanishing_gradients() {
    for size in [1e-38_f32, 1e-42, 1e-45] {
        let mut muon = Optimizer::new(Muon {
            lr: 1e-3,
            ..Muon::torch()
        });
        let mut p = array![[1.0_f32, 0.0], [0.0, 1.0]];
        for _ in 0..3 {
            muon.update(&mut p, &array![[size, 0.0], [size, size]])
                .unwrap();
        }
        let shrunk = (1.0_f32 - 1e-4).powi(3);
        assert!(
            (p[[0, 0]] - shrunk).abs() < 1e-6 && p[[1, 0]].abs() < 1e-20,
            "{p}"
        );
        assert_eq!(p[[0, 1]], 0.0);
        // The form of optax divides by the norm itself.
        let mut muon = Optimizer::new(Muon {
            eps: 0.0,
            momentum: 0.0,
            ..Default::default()
        });
        let mut p = array![[1.0_f32, 0.0], [0.0, 1.0]];
        muon.update(&mut p, &array![[size, 0.0], [0.0, size]])
            .unwrap();
        assert!(p.iter().all(|p| p.is_finite()), "{p}");
    }
}

/// torch 2.15 in `f32`, lr 0.1, gradients of 1e-18: v is subnormal in the first steps.
#[test]
fn adam_without_eps_steps_by_lr_at_tiny_gradients() {
    let mut adam = Optimizer::new(Adam {
        lr: 0.1,
        eps: 0.0,
        ..Default::default()
    });
    let mut p = array![1.0_f32];
    for expected in [0.9, 0.8, 0.7, 0.6, 0.5] {
        adam.update(&mut p, &array![1e-18]).unwrap();
        assert!((p[0] - expected).abs() < 1e-4, "{p} {expected}");
    }
}

/// To a number of decimal digits: the same run at gradients 2^-60 times as large.
#[test]
fn without_eps_adaptive_steps_do_not_depend_on_the_size_of_gradients() {
    for config in all() {
        let names = [
            "adam", "adamw", "nadam", "rmsprop", "lamb", "laprop", "qhadam", "grams",
        ];
        if !names.contains(&config.name()) {
            continue;
        }
        let end = |size: f64| {
            let grads: Vec<ArrayD<f32>> = (0..8)
                .map(|t| filled(&[6], |i| (1.0 + 0.3 * number(t, i)) * size))
                .collect();
            let start = ArrayD::from_elem(vec![6], 1.0);
            let mut optimizer = Optimizer::new(config.clone());
            *optimizer.number_mut(None, "eps").unwrap() = 0.0;
            run(&mut optimizer, &start, &grads).pop().unwrap()
        };
        let error = (&end(1.0) - &end(2_f64.powi(-60)))
            .iter()
            .fold(0.0, |a: f32, x| a.max(x.abs()));
        assert!(error < 1e-4, "{}: {error}", config.name());
    }
}

/// z = x0 - s / (cbrt(n) + eps) is x0 itself.
#[test]
fn madgrad_does_not_move_before_the_first_gradient() {
    let mut madgrad = Optimizer::new(Madgrad::new(0.1));
    let start = Array1::from_shape_fn(100, |i| number(1, i) as f32);
    let mut p = start.clone();
    for _ in 0..10 {
        madgrad.update(&mut p, &Array1::zeros(100)).unwrap();
    }
    assert_eq!(p, start);
}

#[test]
fn a_learning_rate_of_minus_zero_is_zero_also_after_resuming() {
    for config in all() {
        let step = |optimizer: &mut Optimizer<f64>, p: &mut ndarray::Array2<f64>, lr| {
            optimizer.set_lr(lr);
            optimizer
                .update_with_loss(p, &array![[1.0, -1.0], [0.0, -0.0]], 1.0)
                .unwrap();
        };
        let start = array![[0.0, -0.0], [0.0, -0.0]];
        let (mut p, mut q) = (start.clone(), start);
        let mut through = Optimizer::new(config.clone());
        let mut resumed = Optimizer::new(config.clone());
        let rates = if config.name() == "ftrl" {
            [0.1; 4]
        } else {
            [0.0, -0.0, -0.0, 0.0]
        };
        for lr in rates {
            step(&mut through, &mut p, lr);
            step(&mut resumed, &mut q, lr);
            resumed = Optimizer::from_state(resumed.state_dict()).unwrap();
        }
        let bits = |p: &ndarray::Array2<f64>| p.mapv(f64::to_bits);
        assert_eq!(bits(&p), bits(&q), "{}: {p} {q}", config.name());
    }
}

/// The projection of y onto the simplex moves with y, and only differences matter.
#[test]
fn every_projection_onto_the_simplex_is_a_point_of_it() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (y, x) in [
        (vec![nan, 1.0], vec![0.0, 1.0]),
        (vec![nan, -nan], vec![0.5, 0.5]),
        (vec![inf, 1.0, inf], vec![0.5, 0.0, 0.5]),
        (vec![-inf, -inf], vec![0.5, 0.5]),
        (vec![-inf, 3.0], vec![0.0, 1.0]),
        (vec![1e20, 0.5], vec![1.0, 0.0]),
        (vec![1e20, 1e20], vec![0.5, 0.5]),
        (vec![f64::MAX, f64::MIN, f64::MAX], vec![0.5, 0.0, 0.5]),
        (vec![1000.25, 1000.75], vec![0.25, 0.75]),
    ] {
        let mut p = Array1::from(y.clone());
        simplex(&mut p, 1.0);
        assert_eq!(p.to_vec(), x, "{y:?}");
    }
}

/// The formulas in exact arithmetic, at sizes whose squares overflow or vanish.
#[test]
fn norms_inside_of_algorithms_hold_at_every_size_of_f64() {
    let one = |config: AnyAlgorithm, p: f64, g: f64| {
        let mut optimizer = Optimizer::<f64>::new(config);
        let mut p = array![[p, 0.0]];
        optimizer.update(&mut p, &array![[g, 0.0]]).unwrap();
        p[[0, 0]]
    };
    let near = |x: f64, y: f64| assert!((x / y - 1.0).abs() < 1e-9, "{x:e} {y:e}");
    for size in [1e200, 1e-200, 1.0] {
        // A trust ratio of |p| / |u|, and |u| = 1.
        let lamb = Lamb {
            lr: 0.1,
            ..Default::default()
        };
        near(
            one(lamb.into(), size, 1.0),
            size * (1.0 - 0.1 / (1.0 + 1e-6) * (1.0 + 1e-6)),
        );
        let fromage = Fromage {
            lr: 0.1,
            min_norm: 0.0,
        };
        near(one(fromage.into(), size, 1.0), size * 0.9 / 1.01_f64.sqrt());
        near(one(fromage.into(), 1.0, size), 0.9 / 1.01_f64.sqrt());
        let lars = Lars {
            lr: 0.1,
            trust_coefficient: 1.0,
            ..Default::default()
        };
        near(one(lars.into(), 1.0, size), 0.9);
        let mars = Mars {
            lr: 0.1,
            eps: 0.0,
            ..Default::default()
        };
        near(one(mars.into(), 1.0, 1e154_f64.max(size)), 0.9);
        let config = AnyAlgorithm::from(Sgd::new(1.0));
        let adaptive = ndarray_optim::wrap::AdaptiveClip {
            clipping: 0.1,
            ..Default::default()
        };
        near(one(config.in_wrappers([adaptive.into()]), 1.0, 1e200), 0.9);
    }
    // Beyond 1e154 NovoGrad's average of squared norms is the largest number, not infinity: the
    // next gradients count.
    let mut novograd = Optimizer::<f64>::new(NovoGrad::new(0.1));
    let mut p = array![1.0];
    novograd.update(&mut p, &array![1e200]).unwrap();
    assert!(p[0].is_finite());
    for _ in 0..2000 {
        novograd.update(&mut p, &array![1.0]).unwrap();
    }
    let before = p.clone();
    p.fill(0.0);
    novograd.update(&mut p, &array![1.0]).unwrap();
    assert!(p[0] < -0.1, "{before} {p}");
}

#[test]
fn numbers_too_large_for_f32_are_refused() {
    let mut tried = 0;
    for config in all() {
        for name in ["lr", "eps", "weight_decay", "max_lr"] {
            let mut wide = Optimizer::<f64>::new(config.clone());
            let mut narrow = Optimizer::<f32>::new(config.clone());
            let (Ok(w), Ok(n)) = (wide.number_mut(None, name), narrow.number_mut(None, name))
            else {
                continue;
            };
            (*w, *n) = (1e300, 1e300);
            assert!(
                wide.update_with_loss(&mut array![[1.0]], &array![[0.5]], 1.0)
                    .is_ok()
            );
            let mut p = array![[1.0_f32]];
            let found = narrow.update_with_loss(&mut p, &array![[0.5]], 1.0);
            assert!(
                matches!(&found, Err(Error::HyperParameter { field, .. }) if field == name),
                "{} {name}: {found:?}",
                config.name()
            );
            assert_eq!((p, narrow.steps("variable")), (array![[1.0]], 0));
            // The largest number that fits is accepted, and makes no NaN.
            *narrow.number_mut(None, name).unwrap() = f64::from(f32::MAX);
            let mut p = array![[1.0_f32]];
            narrow
                .update_with_loss(&mut p, &array![[0.0]], 1.0)
                .unwrap();
            assert!(!p[[0, 0]].is_nan(), "{} {name}", config.name());
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
    let wrapped = AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([AnyWrap::from(
        ndarray_optim::wrap::ScaleGradient { factor: 1e300 },
    )]);
    let found = Optimizer::<f32>::new(wrapped).update(&mut array![1.0], &array![1.0]);
    assert!(
        matches!(found, Err(Error::HyperParameter { .. })),
        "{found:?}"
    );
    let wrapped = Sgd::new(1e300).clip_by_value(1.0);
    let found = Optimizer::<f32>::new(wrapped).update(&mut array![1.0], &array![1.0]);
    assert!(
        matches!(found, Err(Error::HyperParameter { .. })),
        "{found:?}"
    );
    let found = Optimizer::<f32>::new(Sgd::new(0.1)).update(&mut array![1.0], &array![1.0]);
    assert_eq!(found, Ok(Outcome::Applied));
}

#[test]
fn a_trust_ratio_beyond_all_numbers_makes_a_finite_step() {
    let algorithms: [AnyAlgorithm; 3] = [
        Lars::new(1.0).into(),
        Fromage::new(0.1).into(),
        Lamb::new(0.1).into(),
    ];
    for algorithm in algorithms {
        let mut p = array![1e88_f64];
        let mut optimizer = Optimizer::new(algorithm);
        optimizer.update(&mut p, &array![1e-270]).unwrap();
        assert!(p[0].is_finite() && p[0] < 1e88 + 1e72, "{p}");
        optimizer.update(&mut p, &array![0.0]).unwrap();
        assert!(p[0].is_finite());
    }
    // The quotient of NaN is NaN: a norm of NaN is no reason for a step of any size.
    let mut p = array![1.0, 2.0];
    let mut lars = Optimizer::new(Lars::new(1.0));
    lars.update(&mut p, &array![1.0, f64::NAN]).unwrap();
    assert!(p.iter().all(|p| p.is_nan()));
}
