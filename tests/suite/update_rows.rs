//! Steps of some rows: against the dense step, and against sparse optimizers written again over
//! plain vectors.
use crate::common::{numbers, random};
use ndarray::{
    Array, Array1, Array2, ArrayD, Axis, IxDyn, ShapeBuilder, Slice, array, aview_mut1, aview1, s,
};
use ndarray_optim::{
    Adagrad, Adam, AnyAlgorithm, AnyWrap, Compose, Error, Group, Limits, NonFinite, Optimizer,
    Outcome, Parallel, Params, Sgd,
    algorithm::Element,
    wrap::{Centralize, ClipByGlobalNorm, ClipByNorm, Ema, Grokfast, Lookahead, Swa, WeightDecay},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NAME: &str = "table";

fn bits<A: Element>(array: &ArrayD<A>) -> Vec<u64> {
    array.iter().map(|x| x.f64().to_bits()).collect()
}

fn state<A: Element>(optimizer: &Optimizer<A>) -> Vec<Vec<u64>> {
    optimizer
        .state(NAME)
        .iter()
        .map(|(_, array)| bits(&array.to_owned()))
        .collect()
}

/// Every algorithm that steps rows, in its forms.
fn configs() -> [AnyAlgorithm; 9] {
    let sgd = Sgd {
        lr: 0.1,
        ..Default::default()
    };
    let adam = Adam {
        lr: 0.1,
        ..Default::default()
    };
    let adagrad = Adagrad {
        lr: 0.1,
        ..Default::default()
    };
    [
        sgd.into(),
        Sgd {
            weight_decay: 0.1,
            maximize: true,
            ..sgd
        }
        .into(),
        Sgd {
            momentum: 0.9,
            dampening: 0.3,
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
        adam.into(),
        Adam {
            weight_decay: 0.1,
            maximize: true,
            ..adam
        }
        .into(),
        Adam {
            amsgrad: true,
            betas: (0.5, 0.7),
            ..adam
        }
        .into(),
        adagrad.into(),
        Adagrad {
            lr_decay: 0.1,
            initial_accumulator_value: 0.25,
            weight_decay: 0.1,
            maximize: true,
            ..adagrad
        }
        .into(),
    ]
}

const SHAPES: [&[usize]; 6] = [&[5], &[6, 3], &[4, 2, 3], &[3, 2, 2, 2], &[3, 1], &[1, 4]];

fn all_rows_are_the_dense_step<A: Element>(config: &AnyAlgorithm) {
    for shape in SHAPES {
        let mut dense = Optimizer::<A>::new(config.clone());
        let mut rows = dense.clone();
        let (mut p, mut q) = (numbers(shape, 1), numbers(shape, 1));
        let all: Vec<usize> = (0..shape[0]).collect();
        // Another order: the rows of the gradient follow it.
        let turned: Vec<usize> = all.iter().rev().copied().collect();
        for t in 2..9 {
            let grad: ArrayD<A> = numbers(shape, t);
            let mut params = Params::new();
            params.add(NAME, &mut p, &grad).unwrap();
            dense.step(params).unwrap();
            let outcome = match t {
                // Both kinds of steps share their state.
                3 => {
                    let mut params = Params::new();
                    params.add(NAME, &mut q, &grad).unwrap();
                    rows.step(params)
                }
                t if t % 2 == 0 => rows.update_rows(NAME, &mut q, &all, &grad),
                _ => rows.update_rows(NAME, &mut q, &turned, &grad.select(Axis(0), &turned)),
            };
            assert_eq!(outcome, Ok(Outcome::Applied));
            assert_eq!(bits(&p), bits(&q), "{config:?} {shape:?} {t}");
            assert_eq!(state(&dense), state(&rows), "{config:?} {shape:?} {t}");
        }
        assert_eq!((dense.steps(NAME), rows.steps(NAME)), (7, 7));
    }
}

#[test]
fn with_all_rows_it_is_the_dense_step_bit_for_bit() {
    for config in configs() {
        all_rows_are_the_dense_step::<f64>(&config);
        all_rows_are_the_dense_step::<f32>(&config);
    }
}

/// The rows that appear are an array of their own, so long as they appear in every step.
fn touched_rows_are_an_array_of_their_own(config: &AnyAlgorithm) {
    for shape in SHAPES.into_iter().filter(|shape| shape[0] > 2) {
        let indices = [2, 0];
        let mut few = Optimizer::<f64>::new(config.clone());
        let mut rows = few.clone();
        let start: ArrayD<f64> = numbers(shape, 1);
        let (mut own, mut table) = (start.select(Axis(0), &indices), start.clone());
        for t in 2..9 {
            let grad = numbers(own.shape(), t);
            let mut params = Params::new();
            params.add(NAME, &mut own, &grad).unwrap();
            few.step(params).unwrap();
            rows.update_rows(NAME, &mut table, &indices, &grad).unwrap();
            assert_eq!(
                bits(&table.select(Axis(0), &indices)),
                bits(&own),
                "{config:?} {shape:?} {t}"
            );
            for (a, b) in rows.state(NAME).iter().zip(few.state(NAME)) {
                assert_eq!(bits(&a.1.select(Axis(0), &indices)), bits(&b.1.to_owned()));
            }
        }
        let rest: Vec<usize> = (0..shape[0]).filter(|i| !indices.contains(i)).collect();
        assert_eq!(
            bits(&table.select(Axis(0), &rest)),
            bits(&start.select(Axis(0), &rest)),
            "rows left out stay"
        );
    }
}

#[test]
fn only_the_rows_that_appear_change_and_they_as_an_array_of_their_own() {
    configs()
        .iter()
        .for_each(touched_rows_are_an_array_of_their_own);
}

#[test]
fn plain_sgd_is_the_dense_step_with_zero_rows() {
    let (mut dense, mut rows) = (Optimizer::new(Sgd::new(0.1)), Optimizer::new(Sgd::new(0.1)));
    let (mut p, mut q) = (numbers::<f64>(&[5, 3], 1), numbers::<f64>(&[5, 3], 1));
    for t in 2..9 {
        let grad: ArrayD<f64> = numbers(&[2, 3], t);
        let mut whole = ArrayD::zeros(IxDyn(&[5, 3]));
        whole
            .index_axis_mut(Axis(0), 4)
            .assign(&grad.index_axis(Axis(0), 0));
        whole
            .index_axis_mut(Axis(0), 1)
            .assign(&grad.index_axis(Axis(0), 1));
        dense.update(&mut p, &whole).unwrap();
        rows.update_rows(NAME, &mut q, &[4, 1], &grad).unwrap();
        assert_eq!(bits(&p), bits(&q));
    }
}

#[test]
fn duplicates_are_summed_and_rows_left_out_do_not_decay() {
    // By hand: exact in binary.
    let mut table = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    let mut sgd = Optimizer::new(Sgd {
        lr: 0.5,
        weight_decay: 0.25,
        ..Default::default()
    });
    let rows = array![[1.0, 0.0], [8.0, 8.0], [3.0, -2.0]];
    sgd.update_rows(NAME, &mut table, &[0, 2, 0], &rows)
        .unwrap();
    let expected = array![
        [1.0 - 0.5 * (4.0 + 0.25), 2.0 - 0.5 * (-2.0 + 0.5)],
        [3.0, 4.0],
        [5.0 - 0.5 * (8.0 + 1.25), 6.0 - 0.5 * (8.0 + 1.5)]
    ];
    assert_eq!(table, expected);

    // The square of the sum, not the sum of the squares, and not the last row alone.
    let mut adagrad = Optimizer::new(Adagrad {
        initial_accumulator_value: 0.5,
        ..Default::default()
    });
    adagrad
        .update_rows(NAME, &mut table, &[1, 1], &array![[1.0, 2.0], [2.0, -2.0]])
        .unwrap();
    let sum = adagrad.state(NAME)[0]
        .1
        .to_owned()
        .into_dimensionality()
        .unwrap();
    assert_eq!(
        sum,
        array![[0.5, 0.5], [9.5, 0.5], [0.5, 0.5]],
        "rows left out have begun too"
    );

    // The same bits as the sum made by the caller, in the order given.
    let parts: Array2<f64> = numbers(&[3, 2], 7).into_dimensionality().unwrap() * 1e3;
    let sum = &(&parts.row(0) + &parts.row(1)) + &parts.row(2);
    let (mut a, mut b) = (
        Optimizer::new(Adam::new(0.1)),
        Optimizer::new(Adam::new(0.1)),
    );
    let (mut p, mut q) = (table.clone(), table.clone());
    a.update_rows(NAME, &mut p, &[1, 1, 1], &parts).unwrap();
    b.update_rows(NAME, &mut q, &[1], &sum.insert_axis(Axis(0)))
        .unwrap();
    assert_eq!(p, q);
    assert_eq!(state(&a), state(&b));
}

fn permutations_change_nothing(config: &AnyAlgorithm) {
    let (indices, turned) = ([4, 0, 3, 1], [1, 3, 0, 4]);
    let mut a = Optimizer::<f32>::new(config.clone());
    let mut b = a.clone();
    let (mut p, mut q) = (numbers(&[6, 3], 1), numbers(&[6, 3], 1));
    for t in 2..6 {
        let rows: ArrayD<f32> = numbers(&[4, 3], t);
        a.update_rows(NAME, &mut p, &indices, &rows).unwrap();
        b.update_rows(
            NAME,
            &mut q,
            &turned,
            &rows.slice_axis(Axis(0), Slice::new(0, None, -1)),
        )
        .unwrap();
        assert_eq!((bits(&p), state(&a)), (bits(&q), state(&b)));
    }
}

#[test]
fn the_order_of_the_indices_does_not_matter() {
    configs().iter().for_each(permutations_change_nothing);
}

fn any_layout_gives_the_same_bits<A: Element>(config: &AnyAlgorithm) {
    for shape in SHAPES {
        let indices: Vec<usize> = [0, 2, 0, 1].into_iter().filter(|&i| i < shape[0]).collect();
        let of_rows: Vec<usize> = [indices.len()].iter().chain(&shape[1..]).copied().collect();
        let mut plain = Optimizer::<A>::new(config.clone());
        let mut expected: ArrayD<A> = numbers(shape, 1);
        for t in 2..6 {
            plain
                .update_rows(NAME, &mut expected, &indices, &numbers(&of_rows, t))
                .unwrap();
        }
        for layout in 0..4 {
            let mut optimizer = Optimizer::<A>::new(config.clone());
            optimizer.parallel = Parallel {
                min_work: 0,
                chunk: 3,
            };
            let wide: Vec<usize> = shape.iter().map(|n| 2 * n).collect();
            let mut memory = ArrayD::<A>::from_elem(IxDyn(&wide), A::from_f64(f64::NAN));
            let mut fortran = Array::from_elem(IxDyn(shape).f(), A::ZERO);
            let mut table = match layout {
                0 => fortran.view_mut(),
                1 => memory.slice_each_axis_mut(|axis| {
                    Slice::new(0, None, if axis.axis.index() == 0 { -2 } else { 2 })
                }),
                2 => {
                    memory.slice_each_axis_mut(|axis| Slice::new(0, Some(axis.len as isize / 2), 1))
                }
                _ => fortran.slice_each_axis_mut(|_| Slice::new(0, None, -1)),
            };
            table.assign(&numbers(shape, 1));
            for t in 2..6 {
                let rows: ArrayD<A> = numbers(&of_rows, t);
                let mut turned = Array::from_elem(IxDyn(&of_rows).f(), A::ZERO);
                turned.assign(&rows);
                let rows = if t % 2 == 0 { &rows } else { &turned };
                optimizer
                    .update_rows(NAME, &mut table, &indices, rows)
                    .unwrap();
            }
            assert_eq!(
                bits(&table.to_owned()),
                bits(&expected),
                "{config:?} {shape:?} {layout}"
            );
            assert_eq!(state(&optimizer), state(&plain));
            let inside: usize = shape.iter().product();
            assert!(
                layout % 3 == 0 || memory.iter().filter(|x| !x.is_nan()).count() == inside,
                "wrote outside the view"
            );
        }
    }
}

#[test]
fn tables_and_rows_of_any_layout_give_the_same_bits_on_any_number_of_threads() {
    for config in configs() {
        any_layout_gives_the_same_bits::<f64>(&config);
        any_layout_gives_the_same_bits::<f32>(&config);
    }
}

/// Optimizers of sparse gradients as torch has them, over plain vectors: coalesce, then touch what
/// is there.
enum Plain {
    Sgd(Sgd),
    Adam(Adam),
    Adagrad(Adagrad),
}

struct Reference {
    plain: Plain,
    t: i32,
    p: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

impl Reference {
    fn new(plain: Plain, p: Vec<f64>) -> Self {
        let n = p.len();
        let v = match &plain {
            Plain::Adagrad(config) => config.initial_accumulator_value,
            _ => 0.0,
        };
        Reference {
            plain,
            t: 0,
            p,
            m: vec![0.0; n],
            v: vec![v; n],
        }
    }

    fn step(&mut self, width: usize, indices: &[usize], rows: &[f64]) {
        self.t += 1;
        let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
        for (k, &i) in indices.iter().enumerate() {
            for j in 0..width {
                *sums.entry(i * width + j).or_default() += rows[k * width + j];
            }
        }
        for (at, g) in sums {
            let (p, m, v) = (&mut self.p[at], &mut self.m[at], &mut self.v[at]);
            match &self.plain {
                Plain::Sgd(config) => *p -= config.lr * g,
                Plain::Adam(config) => {
                    let (b1, b2) = config.betas;
                    *m += (g - *m) * (1.0 - b1);
                    *v += (g * g - *v) * (1.0 - b2);
                    let (c1, c2) = (1.0 - b1.powi(self.t), 1.0 - b2.powi(self.t));
                    // SparseAdam, but for the root of c2 behind eps, which it does not have.
                    *p -= config.lr * c2.sqrt() / c1 * *m / (v.sqrt() + config.eps * c2.sqrt());
                }
                Plain::Adagrad(config) => {
                    *v += g * g;
                    *p -= config.lr / (1.0 + f64::from(self.t - 1) * config.lr_decay) * g
                        / (v.sqrt() + config.eps);
                }
            }
        }
    }
}

fn agrees(plain: Plain, shape: &[usize], steps: &[Vec<usize>]) {
    let mut table = numbers::<f64>(shape, 1);
    let mut table32 = table.mapv(|x| x as f32);
    let config: AnyAlgorithm = match plain {
        Plain::Sgd(config) => config.into(),
        Plain::Adam(config) => config.into(),
        Plain::Adagrad(config) => config.into(),
    };
    let mut reference = Reference::new(plain, table.iter().copied().collect());
    let (mut optimizer, mut optimizer32) = (
        Optimizer::<f64>::new(config.clone()),
        Optimizer::<f32>::new(config),
    );
    let width = shape[1..].iter().product();
    for (t, indices) in steps.iter().enumerate() {
        let of_rows: Vec<usize> = [indices.len()].iter().chain(&shape[1..]).copied().collect();
        let rows = numbers::<f64>(&of_rows, 2 + t as u64);
        reference.step(width, indices, rows.as_slice().unwrap());
        optimizer
            .update_rows(NAME, &mut table, indices, &rows)
            .unwrap();
        optimizer32
            .update_rows(NAME, &mut table32, indices, &rows.mapv(|x| x as f32))
            .unwrap();
        for (x, y) in table.iter().zip(&reference.p) {
            assert!(
                (x - y).abs() <= 1e-12 * y.abs().max(1.0),
                "step {t}: {x} is not {y}"
            );
        }
    }
    for (&x, y) in table32.iter().zip(&reference.p) {
        assert!(
            (f64::from(x) - y).abs() <= 1e-4 * y.abs().max(1.0),
            "f32: {x} is not {y}"
        );
    }
    assert_eq!(optimizer.steps(NAME), steps.len() as u64);
}

proptest! {
    #![proptest_config(random(150))]

    #[test]
    fn random_rows_with_duplicates_agree_with_plain_loops(
        (shape, steps) in prop::collection::vec(1..4_usize, 0..=3)
            .prop_flat_map(|rest| (1..8_usize).prop_map(move |n| [&[n], &rest[..]].concat()))
            .prop_flat_map(|shape| {
                let indices = prop::collection::vec(0..shape[0], 0..10);
                (Just(shape), prop::collection::vec(indices, 1..12))
            }),
        which in 0..4,
    ) {
        let adam = Adam { lr: 0.01, betas: (0.8, 0.95), eps: 1e-3, ..Default::default() };
        let adagrad = Adagrad {
            lr: 0.01,
            lr_decay: 0.1,
            initial_accumulator_value: 0.2,
            ..Default::default()
        };
        let sgd = Sgd { lr: 0.1, ..Default::default() };
        match which {
            0 => agrees(Plain::Sgd(sgd), &shape, &steps),
            1 => agrees(Plain::Adagrad(adagrad), &shape, &steps),
            2 => agrees(Plain::Adam(adam), &shape, &steps),
            _ => agrees(Plain::Adam(Adam { eps: 0.0, ..adam }), &shape, &steps),
        }
    }
}

#[test]
fn a_step_with_no_indices_counts_and_has_no_effect() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    let mut table = numbers::<f64>(&[4, 3], 1);
    let before = table.clone();
    assert_eq!(
        adam.update_rows(NAME, &mut table, &[], &ArrayD::zeros(IxDyn(&[0, 3]))),
        Ok(Outcome::Applied)
    );
    assert_eq!((&table, adam.steps(NAME)), (&before, 1));
    assert!(
        adam.state(NAME)
            .iter()
            .all(|(_, array)| array.iter().all(|&x| x == 0.0))
    );
    // Rows and tables without elements.
    let mut none = Array2::<f64>::zeros((3, 0));
    adam.update_rows("thin", &mut none, &[2, 0], &Array2::zeros((2, 0)))
        .unwrap();
    let mut none = Array2::<f64>::zeros((0, 3));
    adam.update_rows("short", &mut none, &[], &Array2::zeros((0, 3)))
        .unwrap();
    let mut plain = [1.0, 2.0, 3.0];
    Optimizer::new(Sgd::new(1.0))
        .update_rows(
            "slice",
            &mut aview_mut1(&mut plain),
            &[2, 2],
            &aview1(&[0.5, 1.0]),
        )
        .unwrap();
    assert_eq!(plain, [1.0, 2.0, 1.5]);
}

#[test]
fn one_array_may_be_updated_both_ways() {
    // `variable` is the name of `update`.
    let mut adam = Optimizer::new(Adam {
        lr: 0.1,
        betas: (0.5, 0.5),
        ..Default::default()
    });
    let mut other = adam.clone();
    let (mut p, mut q) = (array![1.0, 2.0], array![1.0, 2.0]);
    for t in 0..4 {
        let grad = array![1.0 + f64::from(t), -1.0];
        if t % 2 == 0 {
            adam.update_rows("variable", &mut p, &[0, 1], &grad)
                .unwrap();
        } else {
            adam.update(&mut p, &grad).unwrap();
        }
        other.update(&mut q, &grad).unwrap();
        assert_eq!(p, q);
    }
    assert_eq!(adam.steps("variable"), 4);
}

#[test]
fn groups_have_hyper_parameters_of_their_own() {
    let mut sgd = Optimizer::new(Sgd::new(0.5));
    sgd.add_group(Group::new(
        "slow",
        ["b"],
        Sgd {
            lr: 0.25,
            ..Default::default()
        },
    ))
    .unwrap();
    let (mut a, mut b) = (array![[1.0], [1.0]], array![[1.0], [1.0]]);
    sgd.update_rows("a", &mut a, &[1], &array![[1.0]]).unwrap();
    sgd.update_rows("b", &mut b, &[1], &array![[1.0]]).unwrap();
    assert_eq!((a, b), (array![[1.0], [0.5]], array![[1.0], [0.75]]));
}

#[test]
fn errors_say_what_is_wrong_and_change_nothing() {
    let mut adam = Optimizer::new(Adam::new(0.1));
    let start = numbers::<f64>(&[4, 3], 1);
    let rows = numbers::<f64>(&[2, 3], 2);
    let mut table = start.clone();
    adam.update_rows(NAME, &mut table, &[1, 3], &rows).unwrap();
    let (before, held) = (table.clone(), state(&adam));
    let name = || NAME.to_string();

    let error = adam.update_rows(NAME, &mut table, &[1, 4], &rows);
    assert_eq!(
        error,
        Err(Error::RowIndex {
            name: name(),
            index: 4,
            rows: 4
        })
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "row index 4 is out of bounds for parameter `table`, which has 4 rows"
    );
    let error = adam.update_rows(NAME, &mut table, &[1], &rows);
    assert_eq!(
        error,
        Err(Error::RowShape {
            name: name(),
            expected: vec![1, 3],
            given: vec![2, 3]
        })
    );
    for given in [vec![2, 2], vec![2, 3, 1], vec![2], vec![]] {
        let error = adam.update_rows(NAME, &mut table, &[1, 3], &ArrayD::zeros(IxDyn(&given)));
        assert_eq!(
            error,
            Err(Error::RowShape {
                name: name(),
                expected: vec![2, 3],
                given
            })
        );
    }
    let error = adam.update_rows(NAME, &mut numbers(&[5, 3], 1), &[1, 3], &rows);
    assert_eq!(
        error,
        Err(Error::ShapeChanged {
            name: name(),
            known: vec![4, 3],
            given: vec![5, 3]
        })
    );
    let mut params = Params::new();
    let (mut small, grad) = (array![1.0], array![1.0]);
    params.add("new", &mut small, &grad).unwrap();
    adam.step(params).unwrap();
    let error = adam.update_rows("new", &mut table, &[1, 3], &rows);
    assert!(matches!(error, Err(Error::ShapeChanged { .. })));

    let mut scalar = ArrayD::<f64>::zeros(IxDyn(&[]));
    let error = adam.update_rows("scalar", &mut scalar, &[], &ArrayD::zeros(IxDyn(&[0])));
    assert_eq!(
        error,
        Err(Error::Shape {
            name: "scalar".into(),
            shape: vec![],
            expected: "at least one axis"
        })
    );
    let mut deep = ArrayD::<f64>::zeros(IxDyn(&[1; 7]));
    let error = adam.update_rows("deep", &mut deep, &[0], &ArrayD::zeros(IxDyn(&[1; 7])));
    assert_eq!(
        error,
        Err(Error::TooManyAxes {
            name: "deep".into(),
            ndim: 7
        })
    );

    adam.algorithm_mut::<Adam>().unwrap().betas.0 = 1.0;
    let error = adam.update_rows(NAME, &mut table, &[1, 3], &rows);
    assert!(matches!(error, Err(Error::HyperParameter { field, .. }) if field == "betas[0]"));
    adam.algorithm_mut::<Adam>().unwrap().betas.0 = 0.9;
    adam.algorithm_mut::<Adam>().unwrap().amsgrad = true;
    assert!(matches!(
        adam.update_rows(NAME, &mut table, &[1, 3], &rows),
        Err(Error::StateChanged { .. })
    ));
    adam.algorithm_mut::<Adam>().unwrap().amsgrad = false;

    // Infinite as rows, or only as their sum.
    let bad = [
        array![[f64::NAN, 0.0, 0.0], [0.0, 0.0, 0.0]],
        array![[1e308, 0.0, 0.0], [1e308, 0.0, 0.0]],
    ];
    for (bad, shown) in bad.iter().zip([f64::NAN, f64::INFINITY]) {
        let bad = bad.view().into_dyn();
        adam.non_finite = NonFinite::Error;
        for param in [NAME, "unknown"] {
            let error = adam
                .update_rows(param, &mut table, &[3, 3], &bad)
                .unwrap_err();
            let Error::NonFiniteGradient { name, value } = &error else {
                panic!("{error}")
            };
            assert_eq!(
                (&**name, value.to_bits() << 1),
                (param, shown.to_bits() << 1)
            );
            adam.non_finite = NonFinite::Skip;
            assert_eq!(
                adam.update_rows(param, &mut table, &[3, 3], &bad),
                Ok(Outcome::Skipped)
            );
            adam.non_finite = NonFinite::Error;
        }
    }
    assert_eq!((&table, state(&adam), adam.steps(NAME)), (&before, held, 1));
    for new in ["scalar", "deep", "unknown"] {
        assert!(adam.state(new).is_empty() && adam.steps(new) == 0);
    }
    // A name that was refused is free: another shape is no error.
    adam.update_rows("unknown", &mut array![1.0, 2.0], &[0], &array![1.0])
        .unwrap();
    adam.update_rows(NAME, &mut table, &[3, 3], &rows).unwrap();
    assert_eq!(adam.steps(NAME), 2);
    adam.non_finite = NonFinite::Propagate;
    adam.update_rows(NAME, &mut table, &[0, 0], &bad[0].view().into_dyn())
        .unwrap();
    assert!(
        table[[0, 0]].is_nan() && table.iter().filter(|x| x.is_nan()).count() == 1,
        "IEEE, in one place"
    );
}

#[test]
fn algorithms_and_wrappers_that_need_the_whole_array_refuse_rows() {
    let names: std::collections::BTreeSet<_> = configs().iter().map(AnyAlgorithm::name).collect();
    let others = AnyAlgorithm::all()
        .into_iter()
        .filter(|config| !names.contains(config.name()))
        .map(Optimizer::new);
    let wrapped = [
        Optimizer::new(Adam::new(0.1).wrap(Swa::default())),
        Optimizer::new(Sgd::new(0.1).lookahead(5, 0.5)),
        Optimizer::new(Sgd::new(0.1).wrap(Centralize::default()).ema(0.9)),
        // Its norm is that of gradients that are copied and clipped first.
        Optimizer::new(Sgd::new(0.1).clip_by_global_norm(1.0).clip_by_value(1.0)),
        Optimizer::new(
            AnyAlgorithm::from(Adam::new(0.1)).in_wrappers([AnyWrap::from(Lookahead::default())]),
        ),
    ];
    let mut refused = 0;
    for mut optimizer in others.chain(wrapped) {
        let mut table = array![[1.0, 2.0], [3.0, 4.0]];
        let error = optimizer
            .update_rows(NAME, &mut table, &[1], &array![[1.0, 1.0]])
            .unwrap_err();
        let Error::Unsupported {
            optimizer: name, ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(*name, optimizer.name());
        assert_eq!(
            (table, optimizer.steps(NAME)),
            (array![[1.0, 2.0], [3.0, 4.0]], 0)
        );
        assert!(optimizer.state_dict().params.is_empty());
        refused += 1;
    }
    assert_eq!(refused, AnyAlgorithm::all().len() - names.len() + 5);
}

/// Wrappers of rows, as a file has them.
fn wrappers() -> [Vec<AnyWrap>; 5] {
    let clip = || ClipByGlobalNorm {
        max_norm: 0.7,
        ..Default::default()
    };
    [
        vec![
            Ema {
                decay: 0.8,
                ..Ema::default()
            }
            .into(),
        ],
        vec![
            Ema {
                decay: 0.8,
                start: 2,
                every: 2,
                ..Ema::torch()
            }
            .into(),
        ],
        vec![ClipByNorm { max_norm: 0.5 }.into(), clip().into()],
        vec![
            WeightDecay::default().into(),
            WeightDecay {
                decoupled: false,
                ..Default::default()
            }
            .into(),
            Grokfast::default().into(),
            Ema::default().into(),
        ],
        AnyWrap::all()
            .into_iter()
            .filter(|wrap| !["swa", "lookahead", "noise", "centralize"].contains(&wrap.name()))
            .filter(|wrap| !wrap.name().contains("clip"))
            .collect(),
    ]
}

#[test]
fn in_wrappers_a_step_of_all_rows_is_the_step_of_the_table() {
    for config in configs() {
        for wrap in wrappers() {
            let config = config.clone().in_wrappers(wrap);
            let mut whole = Optimizer::<f64>::new(config.clone());
            let mut rows = whole.clone();
            // In another memory order, which the state follows.
            let mut p = Array2::<f64>::zeros((4, 3).f()).into_dyn();
            p.assign(&numbers(&[4, 3], 1));
            let mut q = p.clone();
            for t in 0..6 {
                let g = numbers::<f64>(&[4, 3], 20 + t);
                let mut params = Params::new();
                params.add(NAME, &mut p, &g).unwrap();
                whole.step(params).unwrap();
                let order = [2, 0, 3, 1];
                let g = g.select(Axis(0), &order);
                rows.update_rows(NAME, &mut q, &order, &g).unwrap();
                assert_eq!(
                    (bits(&p), state(&whole)),
                    (bits(&q), state(&rows)),
                    "{config:?}"
                );
                assert_eq!(whole.grad_norm(), rows.grad_norm());
            }
        }
    }
}

#[test]
fn wrappers_act_on_the_rows_of_the_call_alone() {
    let mut adam = Optimizer::new(Adam::new(0.1).decoupled_weight_decay(0.5).ema(0.5));
    let mut table = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    let rows = array![[1.0, -1.0]];
    // Of all rows the average begins at the row: that of a row that is never updated is the row.
    adam.update_rows(NAME, &mut table, &[1], &rows).unwrap();
    assert_eq!(adam.evaluate_param(NAME, &table).unwrap(), table);
    for index in [1, 0, 1] {
        let (before, held) = (table.clone(), adam.evaluate_param(NAME, &table).unwrap());
        let arrays: Vec<_> = adam.state(NAME).iter().map(|(_, a)| a.to_owned()).collect();
        adam.update_rows(NAME, &mut table, &[index], &rows).unwrap();
        let average = adam.evaluate_param(NAME, &table).unwrap();
        for i in (0..3).filter(|&i| i != index) {
            assert_eq!((table.row(i), average.row(i)), (before.row(i), held.row(i)));
            for ((_, now), before) in adam.state(NAME).iter().zip(&arrays) {
                assert_eq!(now.index_axis(Axis(0), i), before.index_axis(Axis(0), i));
            }
        }
        // The weight of step t of the table: (1 - decay) / (1 - decay^t).
        let weight = 0.5 / (1.0 - 0.5_f64.powi(adam.steps(NAME) as i32));
        for j in 0..2 {
            let expected = held[[index, j]] + weight * (table[[index, j]] - held[[index, j]]);
            assert!((average[[index, j]] - expected).abs() < 1e-14);
            assert_ne!(table[[index, j]], before[[index, j]]);
        }
    }
    assert_eq!(table.row(2), array![5.0, 6.0]);
    // The norm is that of the whole gradient, which is 0 in all other rows.
    let mut sgd = Optimizer::new(Sgd::new(1.0).clip_by_global_norm(2.5));
    let mut table = array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
    sgd.update_rows(
        NAME,
        &mut table,
        &[2, 0, 2],
        &array![[1.0, 0.0], [0.0, 4.0], [2.0, 0.0]],
    )
    .unwrap();
    assert_eq!(table, array![[1.0, -1.0], [2.0, 2.0], [1.5, 3.0]]);
    assert_eq!(sgd.grad_norm(), Some(5.0));
}

/// A table that would take a quarter of a second a step.
#[test]
fn the_cost_is_that_of_the_rows_and_not_of_the_table() {
    let mut table = Array2::<f32>::ones((1 << 18, 16));
    let mut adam = Optimizer::new(Adam::new(0.1));
    let rows = Array2::<f32>::ones((3, 16));
    let time = |adam: &mut Optimizer<f32>, table: &mut Array2<f32>| {
        let start = std::time::Instant::now();
        adam.update_rows(NAME, table, &[7, 200_000, 7], &rows)
            .unwrap();
        start.elapsed()
    };
    let first = time(&mut adam, &mut table);
    let later = (0..20).map(|_| time(&mut adam, &mut table)).min().unwrap();
    println!("first {first:?}, later {later:?}");
    assert!(
        later < first / 10,
        "{later:?} against {first:?} of the first call, which allocates"
    );
    assert!(table.slice(s![8..200_000, ..]).iter().all(|&x| x == 1.0));
    assert_ne!(table[[7, 0]], 1.0);
    let one: Array1<f32> = table.row(200_000).to_owned();
    assert!(one.iter().all(|&x| x == one[0]));
}

#[test]
fn rows_obey_what_is_set_for_all_steps() {
    let (rows, indices) = (array![[3.0, 0.0], [0.0, 4.0]], [2, 0]);
    let table = || array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
    // The norm for clipping is that of the rows, repeated ones summed.
    let mut optimizer = Optimizer::new(Sgd::new(1.0));
    optimizer.clip = Some(ClipByGlobalNorm {
        max_norm: 2.5,
        eps: 0.0,
        ..Default::default()
    });
    optimizer.watch = true;
    let mut p = table();
    optimizer
        .update_rows(NAME, &mut p, &indices, &rows)
        .unwrap();
    assert_eq!(p, array![[1.0, -1.0], [2.0, 2.0], [1.5, 3.0]]);
    assert_eq!(optimizer.grad_norm(), Some(5.0));
    assert_eq!(
        (
            optimizer.stats()[0].grad_norm,
            optimizer.stats()[0].update_norm
        ),
        (5.0, 2.5)
    );
    optimizer.update_rows(NAME, &mut p, &[1, 1], &rows).unwrap();
    assert_eq!(optimizer.grad_norm(), Some(5.0));

    let mut optimizer = Optimizer::new(Sgd::new(1.0));
    optimizer.limits = Limits {
        norm: Some(4.9),
        skipped: Some(1),
    };
    optimizer.non_finite = NonFinite::Error;
    let mut p = table();
    let refused = optimizer.update_rows(NAME, &mut p, &indices, &rows);
    assert_eq!(
        refused,
        Err(Error::ExplodingGradient {
            norm: 5.0,
            limit: 4.9
        })
    );
    optimizer.non_finite = NonFinite::Skip;
    assert_eq!(
        optimizer.update_rows(NAME, &mut p, &indices, &rows),
        Ok(Outcome::Skipped)
    );
    let refused = optimizer.update_rows(NAME, &mut p, &indices, &rows);
    assert_eq!(
        refused,
        Err(Error::TooManySkipped {
            skipped: 2,
            limit: 1
        })
    );
    assert_eq!((p, optimizer.steps(NAME)), (table(), 0));

    let mut optimizer = Optimizer::new(Adam::new(1.0));
    optimizer
        .add_group(Group::new("fixed", [NAME], Sgd::new(1.0)))
        .unwrap();
    optimizer.freeze("fixed", true).unwrap();
    let mut p = table();
    optimizer
        .update_rows(NAME, &mut p, &indices, &rows)
        .unwrap();
    assert_eq!((&p, optimizer.steps(NAME)), (&table(), 0));
    optimizer.freeze("fixed", false).unwrap();
    optimizer.set_accumulation(2);
    assert!(matches!(
        optimizer.update_rows(NAME, &mut p, &indices, &rows),
        Err(Error::Unsupported { .. })
    ));
    optimizer.set_accumulation(1);
    optimizer
        .update_rows(NAME, &mut p, &indices, &rows)
        .unwrap();
    assert_eq!(p, array![[1.0, -3.0], [2.0, 2.0], [0.0, 3.0]]);
}
