//! Rows of a parameter that are selected or appended with their state in place.
use crate::common::{number, numbers};
use ndarray::{Array2, ArrayD, Axis, ShapeBuilder, array, concatenate};
use ndarray_optim::{
    Adafactor, Adagrad, Adam, AnyAlgorithm, AnyWrap, Compose, Error, Optimizer, Params, Sgd,
    UNNAMED,
    wrap::{Ema, Lookahead, Swa},
};

/// The gradient of step `t`.
fn gradient(t: usize, rows: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, 2), |(i, j)| {
        (((i * 2 + j) * 7 + t * 3) % 11) as f64 / 4.0 - 1.25
    })
}

#[test]
fn points_are_pruned_and_cloned_as_gaussian_splatting_does_with_adam_of_torch() {
    // torch 2.15.0: `exp_avg` and `exp_avg_sq` of Adam indexed by the points that are kept, then
    // extended by zeros for clones.
    let expected = [
        [1.3118758258040992, -1.2966858323780595],
        [0.13321809863839304, 3.1585422407899517],
        [-2.090317401420994, 1.60446879596644],
        [-0.09643374575906476, 3.198676878662132],
        [1.1622251232382008, -1.3529865994530377],
    ];
    for transposed in [false, true] {
        let mut points = array![[1.0, -1.0], [2.0, 0.5], [0.25, 3.0], [-2.0, 1.5]];
        if transposed {
            let mut columns = Array2::zeros((4, 2).f());
            columns.assign(&points);
            points = columns;
        }
        let mut adam = Optimizer::new(Adam::new(0.1));
        for t in 0..3 {
            adam.update(&mut points, &gradient(t, 4)).unwrap();
        }
        points = points.select(Axis(0), &[0, 2, 3]);
        adam.select_rows(UNNAMED, &[0, 2, 3]).unwrap();
        let clones = points.select(Axis(0), &[1, 0]);
        points = concatenate![Axis(0), points, clones];
        adam.append_rows(UNNAMED, &clones).unwrap();
        for t in 3..6 {
            adam.update(&mut points, &gradient(t, 5)).unwrap();
        }
        for (p, expected) in points.iter().zip(expected.as_flattened()) {
            assert!((p - expected).abs() < 1e-12, "{p} {expected}");
        }
    }
}

/// Algorithms whose steps of a row depend on that row alone, and those that have sums or whole
/// arrays.
fn algorithms() -> Vec<AnyAlgorithm> {
    let mut all = AnyAlgorithm::all();
    let adam = || AnyAlgorithm::from(Adam::new(0.1));
    let swa = Swa { start: 2, every: 2 };
    all.push(adam().in_wrappers([AnyWrap::from(Ema {
        every: 2,
        ..Ema::default()
    })]));
    all.push(adam().in_wrappers([AnyWrap::from(swa), Lookahead::default().into()]));
    all
}

#[test]
fn all_rows_in_another_order_are_the_same_run_in_that_order() {
    let order = [3, 0, 4, 1, 2];
    let mut supported = 0;
    for config in algorithms() {
        let mut plain = Optimizer::<f64>::new(config.clone());
        let mut turned = plain.clone();
        let start = numbers::<f64>(&[5, 2], 1);
        let (mut p, mut q) = (start.clone(), start);
        let step =
            |optimizer: &mut Optimizer<f64>, p: &mut ArrayD<f64>, g: &ArrayD<f64>, t: usize| {
                let mut params = Params::new();
                params.loss(2.0 + number(7, t)).add("p", p, g).unwrap();
                optimizer.step(params).unwrap();
            };
        for t in 0..8 {
            let g = numbers::<f64>(&[5, 2], 50 + t as u64);
            step(&mut plain, &mut p, &g, t);
            if t == 3 {
                let before = turned.state_dict();
                q = q.select(Axis(0), &order);
                if let Err(error) = turned.select_rows("p", &order) {
                    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
                    assert!(!before.params[0].factors.is_empty());
                    assert_eq!(turned.state_dict(), before);
                    break;
                }
                supported += 1;
            }
            let own = if t < 3 { g } else { g.select(Axis(0), &order) };
            step(&mut turned, &mut q, &own, t);
            if t >= 3 {
                let expected = p.select(Axis(0), &order);
                let apart = (&q - &expected).fold(0.0_f64, |max, x| max.max(x.abs()));
                // Matrix products add in another order.
                assert!(apart <= 1e-13, "{}: {apart:e} in step {t}", config.name());
            }
        }
    }
    assert!(supported >= 50, "{supported}");
}

#[test]
fn new_rows_begin_as_in_a_first_step_and_repeated_ones_as_copies() {
    let new = array![[7.0, 8.0], [9.0, 10.0]];
    let states = |optimizer: &Optimizer<f64>| -> Vec<(&str, ArrayD<f64>)> {
        let state = optimizer.state(UNNAMED);
        state
            .iter()
            .map(|(name, array)| (*name, array.to_owned()))
            .collect()
    };
    let config = Adagrad {
        initial_accumulator_value: 0.5,
        ..Adagrad::new(0.1)
    };
    let swa = Swa { start: 1, every: 3 };
    let chain = config.ema(0.9).wrap(swa.clone()).wrap(Lookahead::default());
    let in_file = AnyAlgorithm::from(config).in_wrappers([
        AnyWrap::from(Ema {
            decay: 0.9,
            ..Ema::default()
        }),
        swa.into(),
        Lookahead::default().into(),
    ]);
    for mut optimizer in [Optimizer::new(chain), Optimizer::new(in_file)] {
        let mut p = array![[1.0, 2.0], [3.0, 4.0]];
        for t in 0..5 {
            optimizer.update(&mut p, &gradient(t, 2)).unwrap();
        }
        let before = states(&optimizer);
        optimizer.append_rows(UNNAMED, &new).unwrap();
        optimizer.select_rows(UNNAMED, &[3, 1, 1, 0, 2]).unwrap();
        for ((name, old), (_, now)) in before.iter().zip(states(&optimizer)) {
            let fresh = match *name {
                "sum" => array![[0.5, 0.5], [0.5, 0.5]],
                "ema" | "swa" | "slow" => new.clone(),
                other => panic!("{other}"),
            };
            let fresh = fresh.into_dyn();
            let (old, fresh) = (old.view(), fresh.view());
            let rows = [(&fresh, 1), (&old, 1), (&old, 1), (&old, 0), (&fresh, 0)];
            for (i, (from, row)) in rows.into_iter().enumerate() {
                assert_eq!(
                    now.index_axis(Axis(0), i),
                    from.index_axis(Axis(0), row),
                    "{name}"
                );
            }
        }
        assert_eq!(before.len(), 4);
        assert_eq!(optimizer.steps(UNNAMED), 5);
    }
}

#[test]
fn an_unfinished_round_and_a_saved_state_have_the_rows_too() {
    let mut sgd = Optimizer::new(Sgd {
        momentum: 0.5,
        ..Sgd::new(1.0)
    });
    sgd.set_accumulation(2);
    let mut p = array![[0.0], [0.0], [0.0]];
    for g in [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [4.0, 6.0, 8.0]] {
        let g = array![[g[0]], [g[1]], [g[2]]];
        sgd.update(&mut p, &g).unwrap();
    }
    p = concatenate![Axis(0), p.select(Axis(0), &[2, 1]), array![[10.0]]];
    sgd.append_rows(UNNAMED, &array![[10.0]]).unwrap();
    sgd.select_rows(UNNAMED, &[2, 1, 3]).unwrap();
    let mut loaded = Optimizer::<f64>::from_state(sgd.state_dict()).unwrap();
    let mut q = p.clone();
    for (optimizer, p) in [(&mut sgd, &mut p), (&mut loaded, &mut q)] {
        optimizer.update(p, &array![[0.0], [0.0], [2.0]]).unwrap();
        // Momentum 3, 2 and 0; mean gradients 4, 3 and 1.
        assert_eq!(p, &array![[-3.0 - 5.5], [-2.0 - 4.0], [10.0 - 1.0]]);
    }
    // None is left, and they come back.
    sgd.select_rows(UNNAMED, &[]).unwrap();
    sgd.append_rows(UNNAMED, &array![[1.0]]).unwrap();
    let mut p = array![[1.0]];
    sgd.update(&mut p, &array![[1.0]]).unwrap();
    sgd.update(&mut p, &array![[1.0]]).unwrap();
    assert_eq!(p, array![[0.0]]);
}

#[test]
fn rows_that_cannot_change_are_refused_and_nothing_changes() {
    let mut adam = Optimizer::new(Adam::new(0.1).ema(0.5));
    let mut p = array![[1.0, 2.0], [3.0, 4.0]];
    adam.update(&mut p, &gradient(0, 2)).unwrap();
    let before = adam.state_dict();
    let unknown = Err(Error::UnknownParameter { name: "q".into() });
    assert_eq!(adam.select_rows("q", &[0]), unknown);
    assert_eq!(adam.append_rows("q", &p), unknown);
    let name = || UNNAMED.to_string();
    let out = Error::RowIndex {
        name: name(),
        index: 2,
        rows: 2,
    };
    assert_eq!(adam.select_rows(UNNAMED, &[0, 2]), Err(out));
    for (given, expected) in [
        (vec![2, 3], vec![2, 2]),
        (vec![4], vec![4, 2]),
        (vec![], vec![0, 2]),
    ] {
        let rows = ArrayD::zeros(given.clone());
        let wrong = Error::RowShape {
            name: name(),
            expected,
            given,
        };
        assert_eq!(adam.append_rows(UNNAMED, &rows), Err(wrong));
    }
    assert_eq!(adam.state_dict(), before);
    adam.swap_average(&mut p).unwrap();
    assert_eq!(
        adam.select_rows(UNNAMED, &[0]),
        Err(Error::Swapped { name: name() })
    );

    let (mut sgd, mut scalar) = (Optimizer::new(Sgd::new(0.1)), ndarray::arr0(1.0));
    sgd.update(&mut scalar, &ndarray::arr0(1.0)).unwrap();
    assert!(matches!(
        sgd.select_rows(UNNAMED, &[0]),
        Err(Error::Shape { .. })
    ));
    let mut adafactor = Optimizer::new(Adafactor::new(0.1));
    adafactor.update(&mut p, &gradient(0, 2)).unwrap();
    for error in [
        adafactor.select_rows(UNNAMED, &[0]),
        adafactor.append_rows(UNNAMED, &p),
    ] {
        let text = error.unwrap_err().to_string();
        assert_eq!(
            text,
            "`adafactor` cannot change the rows of a parameter: its state has arrays of other shapes"
        );
    }
}
