//! Gradients next to differences of the loss.
use ndarray::{Array1, Array2, array};
use ndarray_optim::{
    Error,
    fit::{GradientCheck, GradientError, GradientReport, check_gradient},
    named_arrays,
};

#[derive(Clone, Debug, PartialEq)]
struct Model {
    weights: Array2<f64>,
    scale: f64,
}
named_arrays!(impl NamedArrays<f64> for Model { weights, scale });

fn model() -> Model {
    Model {
        weights: array![[0.5, -1.5, 0.25], [2.0, 0.75, -0.3]],
        scale: 0.8,
    }
}

/// A loss in which all entries interact, and its gradient.
fn loss(model: &Model) -> f64 {
    let sums = model.weights.mapv(f64::sin).sum();
    (model.scale * sums).exp() + 0.1 * model.weights.mapv(|w| w * w).sum()
}

fn grads(model: &Model) -> Model {
    let sums = model.weights.mapv(f64::sin).sum();
    let outer = (model.scale * sums).exp();
    Model {
        weights: model
            .weights
            .mapv(|w| outer * model.scale * w.cos() + 0.2 * w),
        scale: outer * sums,
    }
}

/// The report of a gradient that is wrong.
fn wrong(result: Result<GradientReport, GradientError>) -> GradientReport {
    match result {
        Err(GradientError::Wrong(report)) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn right_gradients_pass_and_the_model_is_the_same() {
    let mut model = model();
    model.weights[[1, 1]] = -0.0;
    let before = model.clone();
    let grads = grads(&model);
    let mut evaluations = 0;
    let report = check_gradient(&mut model, &grads, |model| {
        evaluations += 1;
        loss(model)
    });
    let report = report.unwrap();
    assert_eq!((report.checked, report.wrong, evaluations), (7, 0, 14));
    assert!(report.worst.as_ref().unwrap().error < 0.01);
    assert!(
        report
            .to_string()
            .starts_with("7 entries of the gradient are right, the worst is ")
    );
    let bits = |model: &Model| model.weights.mapv(f64::to_bits);
    assert_eq!(bits(&model), bits(&before));
    assert_eq!(model.scale, before.scale);
}

#[test]
fn wrong_gradients_fail_and_the_worst_entry_is_named() {
    let mut model = model();
    let right = grads(&model);
    type Change = fn(&mut Model);
    let changes: [(Change, usize, &[&str]); 6] = [
        (|g| g.weights[[1, 0]] *= -1.0, 1, &["weights[1, 0]"]),
        (|g| g.weights[[0, 2]] *= 2.0, 1, &["weights[0, 2]"]),
        (|g| g.scale *= 1.0 + 1e-5, 1, &["scale"]),
        (
            |g| g.weights.swap([0, 0], [1, 1]),
            2,
            &["weights[0, 0]", "weights[1, 1]"],
        ),
        // The penalty is missing in one weight.
        (|g| g.weights[[0, 1]] += 0.2 * 1.5, 1, &["weights[0, 1]"]),
        (|g| g.scale = 0.0, 1, &["scale"]),
    ];
    for (change, count, places) in changes {
        let mut wrong_grads = right.clone();
        change(&mut wrong_grads);
        let report = wrong(check_gradient(&mut model, &wrong_grads, loss));
        let worst = report.worst.as_ref().unwrap();
        assert_eq!((report.checked, report.wrong), (7, count), "{places:?}");
        let text = worst.to_string();
        let named = places
            .iter()
            .any(|place| text.starts_with(&format!("{place}: ")));
        assert!(named, "{text} for {places:?}");
        let exact = match *worst.index {
            [i, j] => right.weights[[i, j]],
            _ => right.scale,
        };
        assert!((worst.difference - exact).abs() < 1e-8 * exact.abs());
    }
    assert_eq!(model, self::model());
    let mut all = right.clone();
    all.weights.mapv_inplace(|g| -g);
    assert_eq!(wrong(check_gradient(&mut model, &all, loss)).wrong, 6);
}

#[test]
fn messages_name_the_entry_and_both_values() {
    let square = |x: &f64| x * x;
    let error = check_gradient(&mut 3.0, &5.0, square).unwrap_err();
    let message =
        "1 of 1 entries of the gradient are wrong, the worst is []: the gradient is 5e0, ";
    assert!(error.to_string().starts_with(message), "{error}");
    // Tests print errors by `Debug`.
    assert_eq!(format!("{error:?}"), error.to_string());
    let mut model = model();
    let mut wrong_grads = grads(&model);
    wrong_grads.weights[[1, 2]] = 0.5;
    let error = check_gradient(&mut model, &wrong_grads, loss).unwrap_err();
    let message = "1 of 7 entries of the gradient are wrong, the worst is weights[1, 2]: the gradient is 5e-1, the difference of the loss gives ";
    assert!(error.to_string().starts_with(message), "{error}");
}

fn rosenbrock(x: &Array1<f64>, scale: f64) -> f64 {
    let (a, b) = (x[0] / scale, x[1] / scale);
    (1.0 - a).powi(2) + 100.0 * (b - a * a).powi(2)
}

fn rosenbrock_grad(x: &Array1<f64>, scale: f64) -> Array1<f64> {
    let (a, b) = (x[0] / scale, x[1] / scale);
    let by_b = 200.0 * (b - a * a);
    array![-2.0 * (1.0 - a) - 2.0 * a * by_b, by_b] / scale
}

#[test]
fn parameters_and_losses_of_any_scale_are_checked() {
    for scale in [1.0, 1e8, 1e-8] {
        for start in [[-1.2, 1.0], [0.0, 0.0], [3.0, -2.0], [0.0, 1e-3]] {
            for factor in [1.0, 1e8, 1e-8, 1e-200, 1e200] {
                let mut x = Array1::from_iter(start) * scale;
                let grad = rosenbrock_grad(&x, scale) * factor;
                let loss = |x: &Array1<f64>| rosenbrock(x, scale) * factor;
                let report = check_gradient(&mut x, &grad, loss);
                report.unwrap_or_else(|e| panic!("{scale:e} {start:?} {factor:e}: {e}"));
                for (i, change) in [(0, 2.0), (1, -1.0), (0, 1.01)] {
                    let mut other = grad.clone();
                    other[i] *= change;
                    if other == grad {
                        continue;
                    }
                    let report = wrong(check_gradient(&mut x, &other, loss));
                    assert_eq!((report.wrong, report.worst.unwrap().index), (1, vec![i]));
                }
            }
        }
    }
}

#[test]
fn at_a_minimum_the_rounding_of_the_loss_is_no_error_of_the_gradient() {
    let minimum = array![1.0, 1.0];
    // Nothing of the gradient is above the noise of a loss that is 1e6 at its minimum.
    let loss = |x: &Array1<f64>| rosenbrock(x, 1.0) + 1e6;
    check_gradient(&mut minimum.clone(), &array![0.0, 0.0], loss).unwrap();
    check_gradient(&mut minimum.clone(), &array![1e-13, -1e-12], loss).unwrap();
    wrong(check_gradient(
        &mut minimum.clone(),
        &array![0.01, 0.0],
        loss,
    ));
    // A sum of large terms that cancel, whose rounding errors are far above that of the loss.
    let cancelling = |x: &f64| (1e9 + x.sin()) - 1e9;
    check_gradient(&mut 0.7, &0.7_f64.cos(), cancelling).unwrap();
    wrong(check_gradient(&mut 0.7, &(0.5 * 0.7_f64.cos()), cancelling));
}

#[test]
fn single_precision_has_a_step_and_a_tolerance_of_its_own() {
    let loss = |x: &Array1<f32>| x.iter().map(|x| x.sin() * 3.0).sum::<f32>();
    let mut x = array![0.3_f32, -1.0, 40.0];
    let grad = x.mapv(|x| x.cos() * 3.0);
    check_gradient(&mut x, &grad, loss).unwrap();
    for i in 0..3 {
        let mut other = grad.clone();
        other[i] *= 1.05;
        let report = wrong(check_gradient(&mut x, &other, loss));
        assert_eq!(report.worst.unwrap().index, [i]);
    }
}

#[test]
fn a_sample_is_a_function_of_its_seed_and_finds_what_is_wrong_in_it() {
    let mut x = Array1::from_iter((0..1000).map(f64::from));
    let grad = 2.0 * &x;
    let (mut seen, mut counts) = (Vec::new(), vec![0; 1000]);
    for seed in 0..300 {
        let check = GradientCheck {
            sample: Some(20),
            seed,
            ..GradientCheck::default()
        };
        seen.clear();
        let report = check.run(&mut x, &grad, |y: &Array1<f64>| {
            let moved = (0..1000).find(|&i| y[i] != i as f64).unwrap();
            if seen.last() != Some(&moved) {
                seen.push(moved);
            }
            y.iter().map(|y| y * y).sum::<f64>()
        });
        assert_eq!((report.unwrap().checked, seen.len()), (20, 20));
        seen.iter().for_each(|&i| counts[i] += 1);
        if seed < 3 {
            let first = seen.clone();
            seen.clear();
            let again = check.run(&mut x, &grad, |y: &Array1<f64>| {
                let moved = (0..1000).find(|&i| y[i] != i as f64).unwrap();
                if seen.last() != Some(&moved) {
                    seen.push(moved);
                }
                y.iter().map(|y| y * y).sum::<f64>()
            });
            again.unwrap();
            assert_eq!(seen, first);
        }
    }
    // Each entry is chosen 6 times on average, with a standard deviation of 2.4.
    assert!(counts.iter().all(|&count| count < 20));
    assert!(counts[..500].iter().sum::<i32>().abs_diff(3000) < 200);
    assert!(counts.iter().step_by(2).sum::<i32>().abs_diff(3000) < 200);
    let all = GradientCheck {
        sample: Some(5000),
        ..GradientCheck::default()
    };
    let mut few = array![1.0, 2.0];
    let sum = |x: &Array1<f64>| x.sum();
    assert_eq!(
        all.run(&mut few, &array![1.0, 1.0], sum).unwrap().checked,
        2
    );
}

#[test]
fn what_cannot_be_compared_is_a_typed_error_and_the_model_is_the_same() {
    let mut model = (array![1.0, 2.0], 3.0);
    let sum = |model: &(Array1<f64>, f64)| model.0.sum() + model.1;
    let missing = check_gradient(&mut model, &(array![1.0, 1.0],), sum);
    let expected = Error::MissingGradient { name: "1".into() };
    assert!(matches!(missing, Err(GradientError::Arrays(error)) if error == expected));
    let unknown = check_gradient(&mut model, &(array![1.0, 1.0], 1.0, 1.0), sum);
    let expected = Error::UnknownParameter { name: "2".into() };
    assert!(matches!(unknown, Err(GradientError::Arrays(error)) if error == expected));
    let shape = check_gradient(&mut model, &(array![1.0], 1.0), sum);
    assert!(matches!(
        shape,
        Err(GradientError::Arrays(Error::GradientShape { .. }))
    ));

    let nan = check_gradient(&mut model, &(array![1.0, f64::NAN], 1.0), sum);
    assert_eq!(nan.unwrap_err().to_string(), "the gradient is NaN at 0[1]");
    let mut infinite = (array![1.0, 2.0], f64::INFINITY);
    let result = check_gradient(&mut infinite, &(array![1.0, 1.0], 1.0), sum);
    assert!(matches!(
        result,
        Err(GradientError::NonFinite { what: "the parameter", value, .. }) if value == f64::INFINITY
    ));
    let undefined = check_gradient(&mut model, &(array![1.0, 1.0], 1.0), |_: &_| f64::NAN);
    assert!(
        matches!(undefined, Err(GradientError::NonFinite { .. })),
        "{undefined:?}"
    );

    let mut calls = 0;
    let failing = |_: &(Array1<f64>, f64)| {
        calls += 1;
        if calls == 3 {
            Err("no convergence")
        } else {
            Ok(1.0)
        }
    };
    let failed = check_gradient(&mut model, &(array![0.0, 0.0], 0.0), failing).unwrap_err();
    assert!(format!("{failed:?}").contains("no convergence"));
    let tolerance = GradientCheck {
        tolerance: Some(-1.0),
        ..GradientCheck::default()
    };
    let refused = tolerance.run(&mut model, &(array![1.0, 1.0], 1.0), sum);
    assert!(matches!(refused, Err(GradientError::Tolerance(value)) if value == -1.0));
    assert_eq!(model, (array![1.0, 2.0], 3.0));
}

#[test]
fn a_loss_that_exists_on_one_side_only_is_checked_with_smaller_steps() {
    // ln(x) at 1e-7, where the first step leaves the domain.
    let ln = |x: &f64| x.ln();
    check_gradient(&mut 1e-7, &1e7, ln).unwrap();
    wrong(check_gradient(&mut 1e-7, &2e7, ln));
    let failing = |x: &f64| {
        if *x > 0.0 {
            Ok(x.ln())
        } else {
            Err("x must be positive")
        }
    };
    check_gradient(&mut 1e-4, &1e4, failing).unwrap();
}
