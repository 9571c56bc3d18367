//! What a user may rely on: directions, groups, missing and non-finite gradients, errors, states.
use approx::assert_relative_eq;
use ndarray::{Array0, Array1, Array2, Array3, ArrayD, Axis, IxDyn, arr0, array, s};
use ndarray_optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, ComposedConfig, Error, Fused, Momentum, MomentumConfig, NonFinite, Optimizer,
    OptimizerConfig, Outcome, ParamGroup, Params, Prodigy, ProdigyConfig, RmsProp, RmsPropConfig, Sgd, SgdConfig,
    wrap::{AdaptiveClip, AnyWrap, Centralize},
};
use std::time::{Duration, Instant};

/// torch's list of configurations for these optimizers, with and without `maximize`.
fn configs(maximize: bool) -> Vec<OptimizerConfig> {
    let sgd = SgdConfig { lr: 1e-3, maximize, ..Default::default() };
    let rmsprop = RmsPropConfig { lr: 1e-3, maximize, ..Default::default() };
    let adam = AdamConfig { maximize, ..Default::default() };
    let adamw = AdamWConfig { maximize, ..Default::default() };
    vec![
        sgd.into(),
        SgdConfig { momentum: 0.9, ..sgd }.into(),
        SgdConfig { momentum: 0.9, dampening: 0.5, ..sgd }.into(),
        SgdConfig { momentum: 0.9, weight_decay: 0.1, ..sgd }.into(),
        SgdConfig { momentum: 0.9, nesterov: true, weight_decay: 0.1, ..sgd }.into(),
        MomentumConfig { maximize, ..Default::default() }.into(),
        MomentumConfig { bias_correction: true, maximize, ..Default::default() }.into(),
        rmsprop.into(),
        RmsPropConfig { weight_decay: 0.1, ..rmsprop }.into(),
        RmsPropConfig { centered: true, ..rmsprop }.into(),
        RmsPropConfig { centered: true, momentum: 0.1, ..rmsprop }.into(),
        RmsPropConfig { lr: 1e-3, maximize, ..RmsPropConfig::optax() }.into(),
        adam.into(),
        AdamConfig { lr: 0.01, ..adam }.into(),
        AdamConfig { weight_decay: 0.1, ..adam }.into(),
        AdamConfig { amsgrad: true, ..adam }.into(),
        adamw.into(),
        AdamWConfig { weight_decay: 0.1, ..adamw }.into(),
        AdamWConfig { amsgrad: true, ..adamw }.into(),
    ]
}

fn numbers(shape: &[usize], seed: usize) -> ArrayD<f64> {
    let mut i = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        i += 1;
        ((i * 7919) % 1000) as f64 / 500.0 - 1.0
    })
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
            let (mut dense, mut strided) = (config.build(), config.build());
            for _ in 0..20 {
                let db = 2.0 * (w.dot(&x) + &b);
                let dw = db.view().insert_axis(Axis(1)).dot(&x.view().insert_axis(Axis(0)));
                let mut params = Params::new();
                params.add("w", &mut w, &dw).unwrap().add("b", &mut b, &db).unwrap();
                dense.step(params).unwrap();
                let mut wide_dw = Array3::zeros((10, 5, 2));
                wide_dw.index_axis_mut(Axis(2), 0).assign(&dw);
                let mut params = Params::new();
                params.add("w", wide.slice_mut(s![.., .., 0]), wide_dw.slice(s![.., .., 0])).unwrap();
                params.add("b", &mut wide_b, &db).unwrap();
                strided.step(params).unwrap();
                assert!(w.iter().zip(wide.slice(s![.., .., 0])).all(|(a, b)| a.to_bits() == b.to_bits()), "{config:?}");
            }
            assert!(b.iter().zip(&wide_b).all(|(a, b)| a.to_bits() == b.to_bits()));
            assert_eq!(loss(&w, &b) > start, maximize, "{config:?}: {start} -> {}", loss(&w, &b));
        }
    }
}

#[test]
fn groups_have_hyper_parameters_of_their_own() {
    let (mut a, mut b, mut c) = (array![1.0, 2.0], array![1.0, 2.0], array![1.0, 2.0]);
    let grad = array![1.0, -1.0];
    let mut adamw = AdamW::new(0.1);
    let still = AdamWConfig { lr: 1e-28, ..adamw.config };
    adamw.group("still", ["b"], still).unwrap();
    let step = |adamw: &mut AdamW<f64>, a: &mut Array1<f64>, b: &mut Array1<f64>, c: &mut Array1<f64>| {
        let mut params = Params::new();
        params.add("a", a, &grad).unwrap().add("b", b, &grad).unwrap().add("c", c, &grad).unwrap();
        adamw.step(params).unwrap();
    };
    step(&mut adamw, &mut a, &mut b, &mut c);
    assert_eq!(b, array![1.0, 2.0], "lr 1e-28 moves nothing");
    assert_eq!(a, c);

    // A group added later takes over a parameter with its state.
    adamw.group("decay", ["c"], AdamWConfig { weight_decay: 0.5, ..adamw.config }).unwrap();
    let (old_a, old_c) = (a.clone(), c.clone());
    step(&mut adamw, &mut a, &mut b, &mut c);
    assert_relative_eq!(&old_c - &c, &(&old_a - &a) + &(0.1 * 0.49 * &old_c), max_relative = 1e-12);
    assert_eq!((adamw.steps("a"), adamw.steps("c")), (2, 2));

    // Its learning rate is its own, at any time, also through the trait.
    adamw.set_group_lr("decay", 0.0).unwrap();
    adamw.set_lr(0.2);
    let (old_a, old_c) = (a.clone(), c.clone());
    step(&mut adamw, &mut a, &mut b, &mut c);
    assert_eq!(c, old_c);
    assert_relative_eq!(old_a - &a, array![0.2, -0.2] + 0.2 * 0.01 * array![a[0], a[1]], max_relative = 1e-1);
    assert_eq!((adamw.lr(), adamw.group_lr("decay").unwrap(), adamw.group_lr("still").unwrap()), (0.2, 0.0, 1e-28));
}

#[test]
fn a_group_with_state_of_its_own_kind_works_from_the_start_and_is_refused_later() {
    let (mut a, mut b) = (array![1.0], array![1.0]);
    let mut adam = Adam::new(0.1);
    let amsgrad = AdamConfig { amsgrad: true, ..adam.config };
    adam.group("ams", ["b"], amsgrad).unwrap();
    let grad = array![1.0];
    let mut params = Params::new();
    params.add("a", &mut a, &grad).unwrap().add("b", &mut b, &grad).unwrap();
    adam.step(params).unwrap();
    assert_eq!((adam.state("a").len(), adam.state("b").len()), (2, 3));
    let error = adam.group("late", ["a"], amsgrad).unwrap_err();
    assert!(
        matches!(&error, Error::InGroup { group, source } if group == "late" && matches!(**source, Error::StateChanged { .. }))
    );
    adam.config.amsgrad = true;
    let held = vec!["exp_avg", "exp_avg_sq"];
    let needed = vec!["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
    let mut params = Params::new();
    params.add("a", &mut a, &grad).unwrap();
    assert_eq!(adam.step(params), Err(Error::StateChanged { held, needed }));
}

#[test]
fn wrong_groups_are_refused_and_change_nothing() {
    let mut sgd = Sgd::<f64>::new(0.1);
    sgd.group("one", ["a", "b"], SgdConfig::default()).unwrap();
    assert_eq!(sgd.group("one", ["c"], SgdConfig::default()), Err(Error::DuplicateGroup { group: "one".into() }));
    let twice = |second: &str| Error::GroupedTwice { name: "b".into(), first: "one".into(), second: second.into() };
    assert_eq!(sgd.group("two", ["c", "b"], SgdConfig::default()), Err(twice("two")));
    let repeated = Error::GroupedTwice { name: "d".into(), first: "three".into(), second: "three".into() };
    assert_eq!(sgd.group("three", ["d", "d"], SgdConfig::default()), Err(repeated));
    let bad = SgdConfig { lr: -1.0, ..Default::default() };
    assert!(matches!(sgd.group("four", ["d"], bad), Err(Error::InGroup { .. })));
    let adam = ParamGroup::new("five", ["d"], AdamConfig::default());
    let error = sgd.add_group(adam).unwrap_err();
    assert_eq!(error, Error::OtherOptimizer { group: "five".into(), given: "adam", optimizer: "SgdConfig" });
    for group in ["two", "three", "four", "five"] {
        assert_eq!(sgd.group_lr(group), Err(Error::UnknownGroup { group: group.into(), known: vec!["one".into()] }));
    }
    sgd.group("two", ["c", "d"], SgdConfig::default()).unwrap();
}

#[test]
fn a_missing_gradient_leaves_parameter_state_and_step_count() {
    for config in configs(false) {
        let grad = array![0.3, -0.7];
        let (mut a, mut b, mut alone) = (array![1.0, 2.0], array![3.0, 4.0], array![3.0, 4.0]);
        let (mut both, mut other) = (config.build(), config.build());
        for step in 0..6 {
            let mut params = Params::new();
            params.add("a", &mut a, &grad).unwrap();
            match step {
                1 => _ = params.add_optional("b", &mut b, None).unwrap(),
                2 => {}
                _ => _ = params.add_optional("b", &mut b, Some(grad.view())).unwrap(),
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
    let config = SgdConfig { lr: 1.0, momentum: 0.9, dampening: 0.5, ..Default::default() };
    let mut sgd = Sgd::with(config);
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
    let configs: [OptimizerConfig; 5] = [
        SgdConfig { momentum: 0.9, ..Default::default() }.into(),
        MomentumConfig::default().into(),
        RmsPropConfig { eps, momentum: 0.5, ..Default::default() }.into(),
        AdamConfig { eps, amsgrad: true, ..Default::default() }.into(),
        AdamWConfig { eps, ..Default::default() }.into(),
    ];
    for config in configs {
        let mut p = array![1.0_f32, -2.0];
        let mut optimizer = config.build();
        for _ in 0..100 {
            optimizer.update(&mut p, &array![0.0, 0.0]).unwrap();
        }
        let decay = if config.name() == "adamw" { (1.0_f32 - 1e-5).powi(100) } else { 1.0 };
        assert_relative_eq!(p, array![decay, -2.0 * decay], max_relative = 1e-5);
    }
}

#[test]
fn moments_that_decay_become_exactly_zero_and_never_slow() {
    fn run<C: ndarray_optim::Config, A: ndarray_optim::kernel::Element>(config: C, steps: usize) {
        let n = 512;
        let mut p = Array1::<A>::ones(n);
        let mut optimizer = Fused::<C, A>::with(config);
        let (one, zero) = (Array1::<A>::ones(n), Array1::<A>::zeros(n));
        let mut time = |optimizer: &mut Fused<C, A>, grad: &Array1<A>| {
            let mut best = Duration::MAX;
            for _ in 0..200 {
                let start = Instant::now();
                optimizer.update(&mut p, grad).unwrap();
                best = best.min(start.elapsed());
            }
            best
        };
        let normal = time(&mut optimizer, &one);
        // Towards where an average of squares turns subnormal, in steps that decay faster than the default would.
        for _ in 0..steps / 200 {
            time(&mut optimizer, &zero);
        }
        let decayed = time(&mut optimizer, &zero);
        assert!(decayed < 5 * normal, "{decayed:?} against {normal:?}: subnormal arithmetic is 10 to 30 times slower");
        for (name, state) in optimizer.state("variable") {
            assert!(state.iter().all(|x| *x == A::ZERO), "{name} is not zero");
        }
    }
    run::<_, f32>(AdamConfig::default(), 100_000);
    run::<_, f32>(RmsPropConfig { momentum: 0.9, ..Default::default() }, 20_000);
    run::<_, f32>(SgdConfig { momentum: 0.9, ..Default::default() }, 2_000);
    run::<_, f64>(MomentumConfig::default(), 10_000);
    run::<_, f64>(AdamConfig { betas: (0.9, 0.99), ..Default::default() }, 80_000);
}

#[test]
fn non_finite_gradients_follow_the_policy() {
    let good = array![1.0, 1.0];
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut wide = Array1::zeros(4);
        wide[2] = bad;
        let strided = wide.slice(s![..;2]);
        for bad in [strided.to_owned().view(), strided] {
            let mut adam = Adam::new(0.1);
            adam.update(&mut array![0.0, 0.0], &good).unwrap();

            let mut p = array![0.0, 0.0];
            adam.clone().update(&mut p, bad).unwrap();
            assert!(p[0].is_finite() && p[1].is_nan(), "IEEE by default");

            adam.non_finite = NonFinite::Skip;
            let (mut p, mut q) = (array![0.0, 0.0], array![5.0, 5.0]);
            let mut params = Params::new();
            params.add("new", &mut q, &good).unwrap().add("variable", &mut p, bad).unwrap();
            assert_eq!(adam.step(params), Ok(Outcome::Skipped));
            assert_eq!((p, q), (array![0.0, 0.0], array![5.0, 5.0]), "the whole step is left out");
            assert_eq!((adam.steps("variable"), adam.steps("new")), (1, 0));

            adam.non_finite = NonFinite::Error;
            let mut p = array![0.0, 0.0];
            let error = adam.update(&mut p, bad).unwrap_err();
            assert!(matches!(&error, Error::NonFiniteGradient { name, value } if name == "variable" && !value.is_finite()));
            assert_eq!((p.clone(), adam.steps("variable")), (array![0.0, 0.0], 1));
            assert_eq!(adam.update(&mut p, &good), Ok(Outcome::Applied));
        }
    }
}

#[test]
fn every_wrong_hyper_parameter_is_an_error_that_names_it_and_changes_nothing() {
    let nan = f64::NAN;
    let inf = f64::INFINITY;
    let mut cases: Vec<(OptimizerConfig, &str)> = Vec::new();
    for lr in [-1e-3, nan, inf] {
        for config in OptimizerConfig::all() {
            let mut p = array![1.0, 2.0];
            let mut optimizer = config.build();
            optimizer.set_lr(lr);
            let error = optimizer.update_with_loss(&mut p, &array![0.5, 0.5], 1.0).unwrap_err();
            let named =
                matches!(&error, Error::HyperParameter { field: "lr" | "max_lr", value, .. } if *value == lr.to_string());
            assert!(named, "{config:?}: {error}");
            assert_eq!(p, array![1.0, 2.0]);
        }
    }
    let sgd = SgdConfig::default();
    let rmsprop = RmsPropConfig::default();
    let momentum = MomentumConfig::default();
    let adam = AdamConfig::default();
    let adamw = AdamWConfig::default();
    for bad in [-0.1, nan, inf] {
        cases.push((SgdConfig { weight_decay: bad, ..sgd }.into(), "weight_decay"));
        cases.push((SgdConfig { momentum: bad, ..sgd }.into(), "momentum"));
        cases.push((SgdConfig { dampening: bad, ..sgd }.into(), "dampening"));
        cases.push((MomentumConfig { weight_decay: bad, ..momentum }.into(), "weight_decay"));
        cases.push((RmsPropConfig { weight_decay: bad, ..rmsprop }.into(), "weight_decay"));
        cases.push((RmsPropConfig { momentum: bad, ..rmsprop }.into(), "momentum"));
        cases.push((RmsPropConfig { eps: bad, ..rmsprop }.into(), "eps"));
        cases.push((RmsPropConfig { initial_scale: bad, ..rmsprop }.into(), "initial_scale"));
        cases.push((AdamConfig { eps: bad, ..adam }.into(), "eps"));
        cases.push((AdamConfig { weight_decay: bad, ..adam }.into(), "weight_decay"));
        cases.push((AdamWConfig { eps: bad, ..adamw }.into(), "eps"));
        cases.push((AdamWConfig { weight_decay: bad, ..adamw }.into(), "weight_decay"));
    }
    for bad in [1.0, -0.1, 1.5, nan] {
        cases.push((MomentumConfig { beta: bad, ..momentum }.into(), "beta"));
        cases.push((RmsPropConfig { alpha: bad, ..rmsprop }.into(), "alpha"));
        cases.push((AdamConfig { betas: (bad, 0.999), ..adam }.into(), "betas[0]"));
        cases.push((AdamConfig { betas: (0.9, bad), ..adam }.into(), "betas[1]"));
        cases.push((AdamWConfig { betas: (bad, 0.999), ..adamw }.into(), "betas[0]"));
        cases.push((AdamWConfig { betas: (0.9, bad), ..adamw }.into(), "betas[1]"));
    }
    cases.push((SgdConfig { nesterov: true, ..sgd }.into(), "nesterov"));
    cases.push((SgdConfig { nesterov: true, momentum: 0.9, dampening: 0.1, ..sgd }.into(), "nesterov"));
    cases.push((RmsPropConfig { nesterov: true, ..rmsprop }.into(), "nesterov"));
    for (config, name) in cases {
        let mut p = array![1.0, 2.0];
        let error = config.build().update(&mut p, &array![0.5, 0.5]).unwrap_err();
        assert!(matches!(&error, Error::HyperParameter { field, .. } if *field == name), "{config:?}: {error}");
        assert!(error.to_string().contains(name));
        assert_eq!(config.validate(), Err(error));
        assert_eq!(p, array![1.0, 2.0]);
    }
}

#[test]
fn a_hyper_parameter_that_turns_wrong_is_found_before_anything_changes() {
    let mut adam = Adam::new(0.1);
    let (mut p, grad) = (array![1.0], array![1.0]);
    adam.update(&mut p, &grad).unwrap();
    let before = p.clone();
    adam.config.betas.1 = 1.0;
    let error = Error::HyperParameter { field: "betas[1]", value: "1".into(), expected: "a number in [0, 1)" };
    assert_eq!(adam.update(&mut p, &grad), Err(error));
    assert_eq!((adam.steps("variable"), &p), (1, &before));
    adam.config.betas.1 = 0.999;
    adam.update(&mut p, &grad).unwrap();
    assert_eq!(adam.steps("variable"), 2);
}

#[test]
fn wrong_shapes_and_names_are_errors_and_change_nothing() {
    let mut adam = Adam::new(0.1);
    let (mut a, mut b) = (array![1.0, 2.0], array![[1.0, 2.0], [3.0, 4.0]]);
    let (da, db) = (array![1.0, 1.0], array![[1.0, 1.0], [1.0, 1.0]]);
    let error = Params::new().add("a", &mut a, &array![1.0]).err().unwrap();
    assert_eq!(error, Error::GradientShape { name: "a".into(), param: vec![2], grad: vec![1] });
    assert_eq!(error.to_string(), "parameter `a` has shape [2] but its gradient has shape [1]");

    let mut params = Params::new();
    params.add("a", &mut a, &da).unwrap().add("b", &mut b, &db).unwrap();
    adam.step(params).unwrap();
    let before = (a.clone(), b.clone());

    // The fault comes last: what stands before it must not have moved, and what is new must be forgotten.
    let (mut new, mut again) = (array![9.0], array![1.0, 2.0]);
    let dnew = array![1.0];
    let mut params = Params::new();
    params.add("new", &mut new, &dnew).unwrap().add("b", &mut b, &db).unwrap();
    params.add("a", &mut a, &da).unwrap().add("a", &mut again, &da).unwrap();
    assert_eq!(adam.step(params), Err(Error::DuplicateParameter { name: "a".into() }));

    let mut flat = array![1.0, 2.0, 3.0, 4.0];
    let dflat = array![1.0, 1.0, 1.0, 1.0];
    let mut params = Params::new();
    params.add("new", &mut new, &dnew).unwrap().add("a", &mut a, &da).unwrap().add("b", &mut flat, &dflat).unwrap();
    let changed = Error::ShapeChanged { name: "b".into(), known: vec![2, 2], given: vec![4] };
    assert_eq!(adam.step(params), Err(changed));
    assert_eq!((a, b, new), (before.0, before.1, array![9.0]));
    assert_eq!((adam.steps("a"), adam.steps("b"), adam.steps("new")), (1, 1, 0));

    let mut deep = ArrayD::<f64>::zeros(IxDyn(&[1; 7]));
    let zero = deep.clone();
    assert_eq!(adam.update(&mut deep, &zero), Err(Error::TooManyAxes { name: "variable".into(), ndim: 7 }));
    let error = adam.update(&mut array![[1.0, 2.0]].into_dyn(), &array![1.0, 2.0].into_dyn()).unwrap_err();
    assert_eq!(error, Error::GradientShape { name: "variable".into(), param: vec![1, 2], grad: vec![2] });
}

#[test]
fn names_decide_not_the_order_of_the_parameters() {
    let grads = [array![0.1, 0.2], array![-3.0, 4.0], array![50.0, 0.0]];
    let names = ["x", "yy", "a long name of a parameter"];
    let run = |orders: &[[usize; 3]]| {
        let mut thetas = [array![1.0, 2.0], array![3.0, 4.0], array![5.0, 6.0]];
        let mut adam = Adam::new(0.1);
        for order in orders {
            let mut lent: Vec<_> = thetas.iter_mut().map(Some).collect();
            let mut params = Params::new();
            for &i in order {
                params.add(names[i].to_string(), lent[i].take().unwrap(), &grads[i]).unwrap();
            }
            adam.step(params).unwrap();
        }
        thetas
    };
    assert_eq!(run(&[[0, 1, 2]; 3]), run(&[[2, 0, 1], [1, 2, 0], [0, 2, 1]]));
}

#[test]
fn scalars_empty_arrays_slices_and_six_axes_are_parameters() {
    let mut adam = Adam::new(0.1);
    let mut scalar: Array0<f64> = arr0(1.0);
    let mut empty = Array2::<f64>::zeros((0, 3));
    let mut six = ArrayD::<f64>::zeros(IxDyn(&[2, 1, 3, 1, 2, 2]));
    let mut plain = [1.0, 2.0];
    let (ds, de, d6) = (arr0(1.0), empty.clone(), six.mapv(|_| 1.0));
    for _ in 0..2 {
        let mut params = Params::new();
        params.add("scalar", &mut scalar, &ds).unwrap().add("empty", &mut empty, &de).unwrap();
        params.add("six", &mut six, &d6).unwrap();
        params.add("plain", &mut plain[..], &[1.0, 1.0][..]).unwrap();
        adam.step(params).unwrap();
    }
    assert_relative_eq!(scalar[()], 0.8, max_relative = 1e-6);
    assert!(six.iter().all(|x| (x + 0.2).abs() < 1e-6));
    assert_relative_eq!(plain[1], 1.8, max_relative = 1e-6);
    assert_eq!(adam.state("scalar")[0].1.ndim(), 0);
    assert_eq!(adam.state("six")[1].1.shape(), [2, 1, 3, 1, 2, 2]);
}

/// Numbers of a whole group begin with the first step that is made, from the hyper-parameters as they are then.
#[test]
fn a_refused_first_step_begins_nothing_for_a_group_either() {
    let run = |refused: bool| {
        let mut prodigy = Prodigy::<f64>::with(ProdigyConfig { d0: 1e-6, ..Default::default() });
        prodigy.non_finite = NonFinite::Error;
        let before = prodigy.state_dict();
        let mut p = array![1.0, 2.0];
        if refused {
            assert!(prodigy.update(&mut p, &array![f64::NAN, 1.0]).is_err());
            assert_eq!(prodigy.state_dict(), before);
        }
        prodigy.config.d0 = 1e-3;
        for _ in 0..3 {
            prodigy.update(&mut p, &array![0.5, 1.0]).unwrap();
        }
        (p, prodigy.state_dict())
    };
    assert_eq!(run(true), run(false));
}

/// What optimizers keep for rows, columns and axes would be longer than memory, and walks along them longer than a day.
#[test]
fn an_array_without_elements_costs_nothing_however_long_its_axes() {
    let wrapped = |wrap: AnyWrap| {
        OptimizerConfig::Composed(ComposedConfig { inner: Box::new(AdamConfig::default().into()), wrap: vec![wrap] })
    };
    let mut configs = OptimizerConfig::all();
    configs.extend([wrapped(Centralize::default().into()), wrapped(AdaptiveClip::default().into())]);
    for (config, shape) in configs.iter().flat_map(|config| [(config, (0, 1 << 40)), (config, (1 << 40, 0))]) {
        let (mut p, g) = (Array2::<f64>::zeros(shape), Array2::zeros(shape));
        let step = |optimizer: &mut dyn Optimizer<f64>, p: &mut Array2<f64>| {
            let mut params = Params::new();
            params.loss(1.0).add("p", p, &g).unwrap();
            assert_eq!(optimizer.step(params), Ok(Outcome::Applied), "{config:?}");
        };
        let mut optimizer = config.build();
        step(&mut *optimizer, &mut p);
        let mut resumed = optimizer.state_dict().build::<f64>().unwrap();
        step(&mut *resumed, &mut p);
        assert_eq!(resumed.steps("p"), 2, "{config:?}");
    }
}

#[test]
fn state_is_readable_in_the_shape_of_the_parameter_whatever_its_memory_order() {
    let grad = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let fortran = grad.t().as_standard_layout().into_owned().reversed_axes();
    let mut adam = Adam::new(0.1);
    let mut p = fortran.clone();
    adam.update(&mut p, &fortran).unwrap();
    let state = adam.state("variable");
    assert_eq!(state.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["exp_avg", "exp_avg_sq"]);
    assert_relative_eq!(state[0].1.to_owned(), grad.mapv(|g| 0.1 * g).into_dyn(), max_relative = 1e-12);
    assert_eq!(state[0].1.strides(), fortran.strides(), "moments take the parameter's memory order");
    assert!(adam.state("unknown").is_empty());
}

#[test]
fn a_clone_is_independent_and_goes_on_alike() {
    let grad = array![0.3, -0.7];
    for config in configs(false) {
        let mut p = array![1.0, 2.0];
        let mut optimizer = config.build();
        optimizer.update(&mut p, &grad).unwrap();
    }
    let mut p = array![1.0, 2.0];
    let mut rmsprop = RmsProp::new(0.1);
    rmsprop.update(&mut p, &grad).unwrap();
    let (mut copy, mut q) = (rmsprop.clone(), p.clone());
    rmsprop.update(&mut p, &grad).unwrap();
    assert_eq!((copy.steps("variable"), rmsprop.steps("variable")), (1, 2));
    copy.update(&mut q, &grad).unwrap();
    assert_eq!(p, q);
}

#[test]
fn learning_rates_may_change_at_any_time() {
    let mut momentum: Box<dyn Optimizer<f64>> = MomentumConfig { beta: 0.0, ..Default::default() }.pipe();
    let mut p = array![0.0];
    for lr in [0.5, 0.25, 0.125] {
        momentum.set_lr(lr);
        assert_eq!(momentum.lr(), lr);
        momentum.update(&mut p, &array![1.0]).unwrap();
    }
    assert_eq!(p, array![-0.875]);
    let shown = format!("{:?}", Momentum::<f64>::new(0.5));
    assert!(shown.contains("MomentumConfig") && shown.contains("0.5"), "{shown}");
}

trait Pipe {
    fn pipe(self) -> Box<dyn Optimizer<f64>>;
}

impl<T: Into<OptimizerConfig>> Pipe for T {
    fn pipe(self) -> Box<dyn Optimizer<f64>> {
        self.into().build()
    }
}

#[test]
fn configurations_are_files() {
    let read = |text: &str| serde_json::from_str::<OptimizerConfig>(text);
    let config = read(r#"{"name": "adamw", "lr": 3e-4, "betas": [0.9, 0.95]}"#).unwrap();
    assert_eq!(config, AdamWConfig { lr: 3e-4, betas: (0.9, 0.95), ..Default::default() }.into());
    for config in configs(true).into_iter().chain(OptimizerConfig::all()) {
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(&format!(r#""name":"{}""#, config.name())));
        assert_eq!(read(&text).unwrap(), config);
    }
    // The default of alpha is torch's or optax's.
    assert_eq!(read(r#"{"name": "rmsprop"}"#).unwrap(), RmsPropConfig::default().into());
    assert_eq!(read(r#"{"name": "rmsprop", "eps_inside_sqrt": true}"#).unwrap(), RmsPropConfig::optax().into());
    for (text, listed) in [
        (r#"{"name": "adam", "beta1": 0.9}"#, "betas"),
        (r#"{"name": "rmsprop", "decay": 0.9}"#, "alpha"),
        (r#"{"name": "sgdm"}"#, "momentum"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains("unknown") && error.contains(listed), "{error}");
    }
    let group = ParamGroup::new("no_decay", ["bias"], AdamWConfig { weight_decay: 0.0, ..Default::default() });
    assert_eq!(serde_json::from_str::<ParamGroup>(&serde_json::to_string(&group).unwrap()).unwrap(), group);
}

#[test]
fn optimizers_that_use_the_objective_ask_for_it() {
    for config in OptimizerConfig::all() {
        let (mut p, grad) = (array![[1.0, 2.0]], array![[0.5, 0.5]]);
        let uses = ["polyak_sgd", "momo", "momo_adam"].contains(&config.name());
        let given = config.build().update(&mut p, &grad);
        assert_eq!(given.is_err(), uses, "{}", config.name());
        if uses {
            assert_eq!(given, Err(Error::Loss { given: None }));
            assert_eq!(p, array![[1.0, 2.0]]);
            assert!(matches!(config.build().update_with_loss(&mut p, &grad, f64::NAN), Err(Error::Loss { .. })));
            let mut params = Params::new();
            params.loss(1.0).add("p", &mut p, &grad).unwrap();
            config.build().step(params).unwrap();
            assert_ne!(p, array![[1.0, 2.0]]);
        }
    }
}

#[test]
fn the_readme_lists_every_optimizer() {
    let readme = include_str!("../../README.md");
    for config in OptimizerConfig::all() {
        assert!(readme.contains(&format!("\n| `{}` |", config.name())), "{}: {}", config.name(), config.summary());
    }
}
