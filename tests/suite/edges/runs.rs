//! Groups, windows and averages over a whole run.

use ndarray::{Array1, ArrayD, arr1, array};
use ndarray_optim::{
    Error,
    wrap::{Ema, Lookahead, Swa, Wrap},
    *,
};

/// torch's `AveragedModel` with `get_ema_multi_avg_fn(0.9)` around `torch.optim.Adam`.
#[test]
fn an_average_without_debias_is_that_of_torch() {
    let grads = [
        [0.5, -0.25, 1.0],
        [-1.0, 0.75, 0.5],
        [0.25, 0.5, -2.0],
        [1.5, -1.0, 0.125],
        [0.1, 0.2, 0.3],
    ];
    let averages = [
        [0.900000002, -1.9000000039999998, 2.900000001],
        [0.9036610372240566, -1.904941902244585, 2.890678204729816],
        [0.9083228755355485, -1.9160336224742895, 2.8843521583430403],
        [0.9085775311128692, -1.9254865158616277, 2.8800297680243423],
        [0.9051914919248545, -1.9343402306315833, 2.8765806874132096],
    ];
    let ema = || Ema {
        decay: 0.9,
        debias: false,
        ..Default::default()
    };
    assert_eq!(
        Ema {
            decay: 0.9,
            ..Ema::torch()
        },
        ema()
    );
    let file = r#"{"name": "composed", "inner": {"name": "adam", "lr": 0.1},
        "wrap": [{"name": "ema", "decay": 0.9, "debias": false}]}"#;
    let file: AnyAlgorithm = serde_json::from_str(file).unwrap();
    for mut optimizer in [
        Optimizer::new(Adam::new(0.1).wrap(ema())),
        Optimizer::new(file),
    ] {
        let mut p = array![1.0_f64, -2.0, 3.0];
        for (g, average) in grads.into_iter().zip(averages) {
            optimizer.update(&mut p, &Array1::from(g.to_vec())).unwrap();
            let error =
                &optimizer.evaluate(&p).unwrap() - &array![average[0], average[1], average[2]];
            assert!(error.iter().all(|e| e.abs() < 1e-14), "{error}");
        }
    }
}

/// ensmallen's tests use 2.5.
#[test]
fn lookahead_may_go_beyond_the_fast_parameters() {
    let mut optimizer = Optimizer::new(Sgd::new(1.0).lookahead(2, 2.5));
    let mut p = array![1.0];
    for _ in 0..2 {
        optimizer.update(&mut p, &array![0.5]).unwrap();
    }
    // From 1, the fast parameter went to 0.
    assert_eq!(p, array![1.0 + 2.5 * (0.0 - 1.0)]);
    let file = r#"{"name": "lookahead", "slow_step_size": 2.5, "inner": {"name": "sgd"}}"#;
    let file: AnyAlgorithm = serde_json::from_str(file).unwrap();
    file.validate().unwrap();
}

/// Two parameters under gradient descent with learning rate 0.1, by type and by file. In step t `a`
/// has the gradient t, and `b`, which starts at 50, has t^2 unless it is missing.
struct TwoParams {
    optimizer: Optimizer<f64>,
    a: ArrayD<f64>,
    b: ArrayD<f64>,
    t: usize,
}

impl TwoParams {
    fn both_ways<W: Wrap + Into<AnyWrap>>(wrap: W) -> [Self; 2] {
        let by_file = AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([wrap.clone().into()]);
        [
            Optimizer::new(Sgd::new(0.1).wrap(wrap)),
            Optimizer::new(by_file),
        ]
        .map(|optimizer| TwoParams {
            optimizer,
            a: arr1(&[1.0]).into_dyn(),
            b: arr1(&[50.0]).into_dyn(),
            t: 0,
        })
    }

    /// A step, before which the run is saved and resumed.
    fn step(&mut self, with_b: bool) {
        let state = serde_json::to_string(&self.optimizer.state_view()).unwrap();
        let state: StateDict = serde_json::from_str(&state).unwrap();
        self.optimizer = Optimizer::from_state(state).unwrap();
        self.t += 1;
        let t = self.t as f64;
        let (da, db) = (arr1(&[t]).into_dyn(), arr1(&[t * t]).into_dyn());
        let mut params = Params::new();
        params.add("a", &mut self.a, &da).unwrap();
        if with_b {
            params.add("b", &mut self.b, &db).unwrap();
        }
        self.optimizer.step(params).unwrap();
    }

    fn averages(&self) -> [f64; 2] {
        [("a", &self.a), ("b", &self.b)].map(|(name, p)| {
            match self.optimizer.evaluate_param(name, p) {
                Ok(point) => point[0],
                // No step has contained it yet: it has no average.
                Err(error) => {
                    assert_eq!(error, Error::UnknownParameter { name: name.into() });
                    p[0]
                }
            }
        })
    }
}

fn near(found: [f64; 2], expected: [f64; 2], t: usize) {
    let close = |(x, y): (f64, f64)| (x - y).abs() < 1e-13 * y.abs().max(1.0);
    let all = found.into_iter().zip(expected).all(close);
    assert!(all, "step {t}: {found:?} instead of {expected:?}");
}

/// `torch.optim.swa_utils.AveragedModel`, updated from step 3 on; `b` has no gradient in three
/// steps.
#[test]
fn an_average_of_a_window_is_that_of_torch_where_a_parameter_misses_steps() {
    let expected = [
        [0.9, 49.9],
        [0.7, 49.5],
        [0.3999999999999999, 49.5],
        [0.1999999999999999, 49.5],
        [-0.03333333333333341, 48.666666666666664],
        [-0.30000000000000004, 48.25],
        [-0.6000000000000001, 47.02],
        [-0.9333333333333333, 45.13333333333334],
    ];
    for mut run in TwoParams::both_ways(Swa { start: 3, every: 1 }) {
        for (t, expected) in (1..).zip(expected) {
            run.step(![3, 4, 6].contains(&t));
            near(run.averages(), expected, t);
            // A swap and back changes nothing.
            if t > 1 {
                for expected in [expected[1], run.b[0]] {
                    run.optimizer.swap_average_param("b", &mut run.b).unwrap();
                    near([run.b[0], 0.0], [expected, 0.0], t);
                }
            }
        }
    }
}

#[test]
fn before_its_window_an_average_is_the_parameter() {
    for mut run in TwoParams::both_ways(Swa { start: 6, every: 2 }) {
        for t in 1..=5 {
            run.step(t > 2);
            assert_eq!(run.averages(), [run.a[0], run.b[0]]);
        }
        // Also while they are swapped, and in an evaluation.
        let (before, b) = (run.b.clone(), &mut run.b);
        run.optimizer.swap_average_param("b", b).unwrap();
        assert_eq!(*b, before);
        run.optimizer.swap_average_param("b", b).unwrap();
        let mut evaluating = Evaluating::new(&mut run.optimizer);
        evaluating.enter_param("b", b).unwrap();
        assert_eq!(*b, before);
        evaluating.restore_param("b", b).unwrap();
        evaluating.finish().unwrap();
        run.step(true);
        let first = [run.a[0], run.b[0]];
        assert_eq!(run.averages(), first);
        run.step(true);
        assert_eq!(run.averages(), first);
        run.step(true);
        let mean = |i: usize| (first[i] + [run.a[0], run.b[0]][i]) / 2.0;
        near(run.averages(), [mean(0), mean(1)], 8);
    }
}

/// The steps of the window are those of the optimizer, and the average those of the parameter in
/// it.
#[test]
fn a_parameter_that_joins_late_is_averaged_over_the_same_window() {
    for mut run in TwoParams::both_ways(Swa { start: 4, every: 3 }) {
        let mut samples = [Vec::new(), Vec::new()];
        for t in 1..=14 {
            // `b` joins in the step after a sample.
            run.step(t >= 8);
            if t >= 4 && (t - 4) % 3 == 0 {
                samples[0].push(run.a[0]);
                if t >= 8 {
                    samples[1].push(run.b[0]);
                }
            }
            let mean = |samples: &Vec<f64>, p: &ArrayD<f64>| match samples.len() {
                0 => p[0],
                n => samples.iter().sum::<f64>() / n as f64,
            };
            let expected = [mean(&samples[0], &run.a), mean(&samples[1], &run.b)];
            near(run.averages(), expected, t);
        }
    }
}

/// As in torch, where a frozen layer is averaged with the rest.
#[test]
fn a_group_that_is_frozen_for_a_while_counts_with_the_value_it_keeps() {
    let swa = || Sgd::new(1.0).wrap(Swa { start: 2, every: 1 });
    let mut optimizer = Optimizer::new(swa());
    optimizer.add_group(Group::new("b", ["b"], swa())).unwrap();
    let (mut a, mut b) = (array![0.0], array![0.0]);
    let mut values = Vec::new();
    for t in 1..=6 {
        optimizer.freeze("b", (3..=4).contains(&t)).unwrap();
        let g = array![-1.0];
        let mut params = Params::new();
        params.add("a", &mut a, &g).unwrap();
        params.add("b", &mut b, &g).unwrap();
        optimizer.step(params).unwrap();
        values.push(b[0]);
        let window = &values[1.min(t - 1)..];
        let mean = window.iter().sum::<f64>() / window.len() as f64;
        near(
            [optimizer.evaluate_param("b", &b).unwrap()[0], 0.0],
            [mean, 0.0],
            t,
        );
    }
    assert_eq!(values, [1.0, 2.0, 2.0, 2.0, 3.0, 4.0]);
}

/// pytorch_optimizer's `Lookahead(k=3, alpha=0.4)` around `torch.optim.SGD`; `b` has no gradient in
/// steps 2, 6 and 7.
#[test]
fn all_parameters_of_lookahead_synchronize_at_once() {
    let expected = [
        [0.9, 49.9],
        [0.7, 49.9],
        [0.7599999999999999, 49.6],
        [0.3599999999999999, 48.0],
        [-0.14000000000000015, 45.5],
        [0.15999999999999986, 45.5],
        [-0.5400000000000001, 45.5],
        [-1.3400000000000003, 39.1],
        [-0.8000000000000002, 42.160000000000004],
        [-1.8000000000000003, 32.160000000000004],
    ];
    let lookahead = Lookahead {
        sync_period: 3,
        slow_step_size: 0.4,
    };
    for mut run in TwoParams::both_ways(lookahead) {
        for (t, expected) in (1..).zip(expected) {
            run.step(![2, 6, 7].contains(&t));
            near([run.a[0], run.b[0]], expected, t);
        }
    }
}

/// A step for each layer, as they come out of a backward pass, is as one step for all layers.
#[test]
fn windows_do_not_depend_on_whether_layers_are_stepped_together() {
    let chain = || {
        let lookahead = Sgd::new(0.1).lookahead(2, 0.5);
        Optimizer::new(lookahead.wrap(Swa { start: 2, every: 3 }))
    };
    let (mut together, mut apart) = (chain(), chain());
    let start = || [array![1.0], array![2.0], array![3.0]];
    let (mut p, mut q) = (start(), start());
    let names = ["a", "b", "c"];
    for t in 1..=9 {
        let g = array![f64::from(t)];
        let mut params = Params::new();
        for (name, p) in names.into_iter().zip(&mut p) {
            params.add(name, p, &g).unwrap();
        }
        together.step(params).unwrap();
        for (name, q) in names.into_iter().zip(&mut q) {
            let mut params = Params::new();
            params.add(name, q, &g).unwrap();
            apart.step(params).unwrap();
        }
        assert_eq!(p, q, "step {t}");
        for ((name, p), q) in names.into_iter().zip(&p).zip(&q) {
            assert_eq!(
                together.evaluate_param(name, p),
                apart.evaluate_param(name, q)
            );
        }
    }
    assert_eq!(together.state_dict(), apart.state_dict());
}

#[test]
fn a_parameter_of_a_longer_run_can_be_taken_and_saved() {
    let grad = array![0.5];
    let (mut long, mut short) = (
        Optimizer::<f64>::new(Adam::new(0.1)),
        Optimizer::<f64>::new(Adam::new(0.1)),
    );
    let (mut a, mut b) = (array![1.0], array![1.0]);
    let mut params = Params::new();
    short.step(params.add("b", &mut b, &grad).unwrap()).unwrap();
    for _ in 0..3 {
        let mut params = Params::new();
        long.step(params.add("a", &mut a, &grad).unwrap()).unwrap();
    }
    let report = short.load_matching(long.state_view()).unwrap();
    assert_eq!(report.taken, ["a"]);
    let state = short.state_dict();
    assert_eq!((state.steps, state.params[1].steps), (1, 3));
    let again = Optimizer::<f64>::from_state(state.clone()).unwrap();
    assert_eq!(again.state_dict(), state);
}
