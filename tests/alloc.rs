//! What a step allocates and what an optimizer holds.
use allocation_counter::measure;
use ndarray::{Array1, Array2, Array3, Array6, ShapeBuilder, s};
use ndarray_optim::{
    Adam, AdamW, AnyAlgorithm, Compose, Group, Lamb, Lbfgs, LbfgsConfig, NonFinite, Optimizer,
    Outcome, Parallel, Params, Prodigy, Select, Sgd,
    objective::{Objective, Regression, Rows},
};

/// Bytes still allocated after `work`, and all that were ever.
fn bytes(work: impl FnOnce()) -> (i64, u64) {
    let info = measure(work);
    (info.bytes_current, info.bytes_total)
}

#[test]
fn a_serial_update_allocates_nothing_after_the_first_in_any_layout() {
    let n = 300;
    let grad = Array3::<f32>::ones((n, 4, 6));
    let fortran = Array3::<f32>::ones((n, 4, 6).f());
    let deep = Array6::<f32>::ones((4, 2, 3, 2, 3, 8));
    let mut p = Array3::<f32>::zeros((n, 4, 6));
    let mut pd = deep.clone();
    let [mut c, mut f, mut mixed, mut strided, mut six] = [(); 5].map(|()| {
        let mut adam = Optimizer::new(Adam::new(0.1));
        adam.parallel = Parallel::SERIAL;
        adam
    });
    let mut pf = fortran.clone();
    let mut steps = |times: usize| {
        for _ in 0..times {
            c.update(&mut p, &grad).unwrap();
            f.update(&mut pf, &fortran).unwrap();
            mixed.update(&mut p, &fortran).unwrap();
            strided
                .update(
                    &mut p.slice_mut(s![..;2, .., ..;-1]),
                    &grad.slice(s![..;2, .., ..]),
                )
                .unwrap();
            let every_other = s![.., .., ..2, .., ..;-1, ..;2];
            six.update(&mut pd.slice_mut(every_other), &deep.slice(every_other))
                .unwrap();
        }
    };
    steps(1);
    assert_eq!(bytes(|| steps(100)), (0, 0));
}

#[test]
fn rules_that_measure_whole_arrays_allocate_nothing_either() {
    let grad = Array2::<f32>::from_elem((300, 40), 0.5);
    let fortran = Array2::<f32>::from_elem((300, 40).f(), 0.5);
    let (mut p, mut q) = (grad.clone(), grad.clone());
    let mut lamb = Optimizer::new(Lamb::new(0.1));
    let mut prodigy = Optimizer::new(Prodigy::new(1.0));
    (lamb.parallel, prodigy.parallel) = (Parallel::SERIAL, Parallel::SERIAL);
    let mut of_lamb = || {
        for _ in 0..20 {
            lamb.update(&mut p, &fortran).unwrap();
        }
    };
    let mut of_prodigy = || {
        for _ in 0..20 {
            prodigy.update(&mut q, &grad).unwrap();
        }
    };
    of_lamb();
    of_prodigy();
    assert_eq!((bytes(of_lamb), bytes(of_prodigy)), ((0, 0), (0, 0)));
}

#[test]
fn a_serial_step_allocates_nothing_beyond_the_list_of_views() {
    let grads: Vec<_> = (0..100).map(Array1::<f64>::ones).collect();
    let mut thetas = grads.clone();
    let names: Vec<_> = (0..100).map(|i| format!("theta{i}")).collect();
    let mut adamw = Optimizer::new(AdamW::new(0.1));
    adamw.parallel = Parallel::SERIAL;
    let mut step = || {
        let mut params = Params::with_capacity(100);
        for ((name, theta), grad) in names.iter().zip(&mut thetas).zip(&grads) {
            params.add(name, theta, grad).unwrap();
        }
        assert_eq!(params.len(), 100);
        // Only the step is measured; the list is the caller's.
        let info = measure(|| adamw.step(params).map(drop).unwrap());
        info.count_total
    };
    step();
    for _ in 0..20 {
        assert_eq!(step(), 0);
    }
}

#[test]
fn groups_with_algorithms_of_their_own_allocate_nothing_either() {
    let grads: Vec<_> = (1..9)
        .map(|i| Array2::<f32>::from_elem((i, 7), 0.5))
        .collect();
    let mut thetas = grads.clone();
    let names: Vec<_> = (0..8)
        .map(|i| format!("{}.{i}", ["embed", "head", "body", "tail"][i % 4]))
        .collect();
    let mut optimizer = Optimizer::new(AdamW::new(0.1).clip_by_value(0.3).ema(0.9));
    optimizer
        .add_group(Group::new("embed", Select::prefix("embed."), Sgd::new(0.1)))
        .unwrap();
    optimizer
        .add_group(Group::new("head", ["head.1", "head.5"], Lamb::new(0.1)))
        .unwrap();
    let wrapped = AnyAlgorithm::from(Adam::new(0.1))
        .in_wrappers([ndarray_optim::wrap::Ema::default().into()]);
    optimizer
        .add_group(Group::new("tail", Select::prefix("tail."), wrapped))
        .unwrap();
    optimizer.parallel = Parallel::SERIAL;
    let mut step = || {
        let mut params = Params::with_capacity(8);
        for ((name, theta), grad) in names.iter().zip(&mut thetas).zip(&grads) {
            params.add(name, theta, grad).unwrap();
        }
        measure(|| optimizer.step(params).map(drop).unwrap()).count_total
    };
    step();
    for _ in 0..20 {
        assert_eq!(step(), 0);
    }
}

#[test]
fn an_optimizer_holds_its_state_arrays_and_less_than_a_kibibyte_for_each_parameter() {
    let count = 200;
    for n in [1, 1000] {
        let grads: Vec<_> = (0..count).map(|_| Array1::<f32>::ones(n)).collect();
        let mut thetas = grads.clone();
        let names: Vec<_> = (0..count).map(|i| format!("layer{i}.weight")).collect();
        let amsgrad = Adam {
            amsgrad: true,
            ..Default::default()
        };
        let algorithms: [AnyAlgorithm; 3] =
            [Sgd::new(0.1).into(), Adam::new(0.1).into(), amsgrad.into()];
        let mut optimizers = algorithms.map(Optimizer::<f32>::new);
        // Allocations of other threads are not counted.
        optimizers
            .iter_mut()
            .for_each(|optimizer| optimizer.parallel = Parallel::SERIAL);
        let mut held = |optimizer: &mut Optimizer<f32>, arrays: usize| {
            let (held, _) = bytes(|| {
                let mut params = Params::new();
                for ((name, theta), grad) in names.iter().zip(&mut thetas).zip(&grads) {
                    params.add(name, theta, grad).unwrap();
                }
                optimizer.step(params).unwrap();
            });
            let beyond = (held as usize - arrays * n * size_of::<f32>() * count) / count;
            assert!(beyond < 1024, "{beyond} bytes a parameter beyond its state");
            beyond
        };
        let [sgd, adam, amsgrad] = &mut optimizers;
        let beyond = [held(sgd, 0), held(adam, 2), held(amsgrad, 3)];
        println!("{n} elements: {beyond:?} bytes a parameter beyond its state");
    }
}

#[test]
fn a_step_copies_no_array_whatever_the_layout() {
    let edge = 1000;
    let grad = Array2::<f64>::ones((edge, edge));
    let mut p = Array2::<f64>::ones((edge, edge).f());
    for parallel in [Parallel::SERIAL, Parallel::default()] {
        let mut adam = Optimizer::new(Adam::new(0.1));
        adam.parallel = parallel;
        adam.update(
            &mut p.slice_mut(s![..;2, ..;-1]),
            &grad.slice(s![..500, ..]),
        )
        .unwrap();
        let info = measure(|| {
            adam.update(
                &mut p.slice_mut(s![..;2, ..;-1]),
                &grad.slice(s![..500, ..]),
            )
            .map(drop)
            .unwrap()
        });
        assert!(
            info.bytes_max < 64 << 10,
            "{} bytes for a step over 4 MB arrays",
            info.bytes_max
        );
    }
}

#[test]
fn a_round_of_accumulation_holds_one_array_and_its_last_call_no_more() {
    let grad = Array2::<f64>::ones((1000, 1000));
    let mut p = Array2::<f64>::ones((1000, 1000).f());
    for policy in [NonFinite::Propagate, NonFinite::Skip] {
        let mut sgd = Optimizer::new(Sgd::new(0.1));
        sgd.parallel = Parallel::SERIAL;
        sgd.non_finite = policy;
        sgd.limits.norm = Some(1e6);
        sgd.set_accumulation(3);
        for (call, most) in [(1, 8_100_000), (2, 100_000), (3, 100_000)] {
            let mut outcome = Ok(Outcome::Skipped);
            let info = measure(|| outcome = sgd.update(&mut p, &grad));
            assert_eq!(outcome == Ok(Outcome::Applied), call == 3);
            assert!(
                info.bytes_max < most,
                "{} bytes in call {call}",
                info.bytes_max
            );
        }
    }
}

#[test]
fn what_a_load_finds_different_is_found_without_a_copy() {
    let grad = Array2::<f64>::ones((1000, 1000));
    let mut adam = Optimizer::new(Adam::new(0.1));
    adam.update(&mut grad.clone(), &grad).unwrap();
    adam.set_accumulation(2);
    adam.update(&mut grad.clone(), &grad).unwrap();
    let state = adam.state_dict();
    let mut wrong = state.clone();
    wrong.accumulation.as_mut().unwrap().calls = 7;
    let info = measure(|| assert!(adam.differences(&state).is_empty()));
    assert!(
        info.bytes_max < 100_000,
        "{} bytes to compare",
        info.bytes_max
    );
    let info = measure(|| assert!(adam.load_state_dict(wrong.view()).is_err()));
    assert!(
        info.bytes_max < 100_000,
        "{} bytes to refuse",
        info.bytes_max
    );
}

#[test]
fn objectives_with_one_output_allocate_nothing_on_any_rows_in_any_layout() {
    let x = Array2::<f32>::from_shape_fn((3000, 7), |(i, j)| ((i * 5 + j * 3) % 17) as f32 / 9.0);
    let fortran = Array2::from_shape_fn((3000, 7).f(), |index| x[index]);
    let y = Array1::from_shape_fn(3000, |i| (i % 2) as f32);
    let weights = Array1::<f32>::ones(3000);
    let order: Vec<usize> = (0..3000).rev().collect();
    for x in [x.view(), fortran.view(), x.slice(s![..;-1, ..;2])] {
        let y = &y.slice(s![..x.nrows()]);
        let problems = [
            Regression::least_squares(x, y).unwrap(),
            Regression::huber(x, y, 0.5).unwrap(),
            Regression::logistic(x, y).unwrap(),
            Regression::poisson(x, y).unwrap(),
        ];
        for problem in problems {
            let mut problem = problem.l2(0.1).sample_weights(&weights).unwrap();
            let (model, mut grads) = (problem.zeros(), problem.zeros());
            let evaluations = || {
                for rows in [Rows::from(0..3000), (5..9).into(), (&order[..2000]).into()] {
                    let mut batch = problem.batch(rows);
                    batch.value_and_grad(&model, &mut grads).unwrap();
                    batch.value(&model).unwrap();
                }
            };
            assert_eq!(bytes(evaluations), (0, 0));
        }
    }
}

#[test]
fn objectives_with_several_outputs_leave_allocations_to_the_matrix_product() {
    let x = Array2::<f64>::from_shape_fn((3000, 7), |(i, j)| ((i * 5 + j * 3) % 17) as f64 / 9.0);
    let labels = Array1::from_shape_fn(3000, |i| i % 10);
    let mut problem = Regression::softmax(&x, &labels, 10).unwrap();
    let (mut model, mut grads) = (problem.zeros(), problem.zeros());
    let product = measure(|| {
        model
            .weights
            .assign(&x.slice(s![..7, ..]).dot(&grads.weights))
    });
    // A product allocates its result and the buffer of the crate `matrixmultiply`.
    assert_eq!(product.count_total, 2);
    // Three blocks of rows, with two products each.
    let info = measure(|| {
        problem
            .value_and_grad(&model, &mut grads)
            .map(drop)
            .unwrap()
    });
    assert_eq!((info.count_total, info.bytes_current), (6, 0));
}

#[test]
fn lbfgs_allocates_nothing_once_its_history_is_full() {
    let mut model = (Array2::<f64>::ones((30, 4).f()), 2.0);
    let mut grads = model.clone();
    let mut strided = Array2::<f64>::ones((60, 8));
    let config = LbfgsConfig {
        history_size: 3,
        tolerance_grad: 0.0,
        tolerance_change: 0.0,
        ..LbfgsConfig::wolfe()
    };
    let mut lbfgs = Lbfgs::new(config);
    let mut call = || {
        let mut of_views = (strided.slice_mut(s![..;2, ..;-2]), &mut model.1);
        let report = lbfgs.step(&mut of_views, &mut grads, |(x, y), (dx, dy)| {
            let mut loss = (**y - 1.0).powi(2);
            *dy = 2.0 * (**y - 1.0);
            for (i, (x, dx)) in x.iter().zip(dx).enumerate() {
                let (off, weight) = (x - 0.01 * i as f64, 1.0 + i as f64);
                loss += weight * (off * off + off.powi(4));
                *dx = weight * (2.0 * off + 4.0 * off.powi(3));
            }
            loss
        });
        report.unwrap().iterations
    };
    assert!(call() > 5);
    assert_eq!(bytes(|| assert!(call() > 0)), (0, 0));
}
