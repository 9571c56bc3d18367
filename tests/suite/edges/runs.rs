//! Groups, windows and averages over a whole run.

use ndarray::{Array1, array};
use ndarray_optim::{wrap::Ema, *};

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
            let error = &optimizer.evaluate(&p) - &array![average[0], average[1], average[2]];
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
}
