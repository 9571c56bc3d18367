//! Rounds of gradient accumulation that end early, and calls of unequal weight.
use ndarray::{Array1, Array2, array, s};
use ndarray_optim::{
    Adam, AdamW, Error, Group, Momo, NonFinite, Optimizer, Outcome, Params, Sgd, StateDict, UNNAMED,
};

/// The gradient of the mean squared error of a linear model over some rows.
fn gradient(
    x: &Array2<f64>,
    y: &Array1<f64>,
    rows: std::ops::Range<usize>,
    w: &Array1<f64>,
) -> Array1<f64> {
    let (x, y) = (x.slice(s![rows.clone(), ..]), y.slice(s![rows.clone()]));
    x.t().dot(&(x.dot(w) - y)) * (2.0 / rows.len() as f64)
}

fn data() -> (Array2<f64>, Array1<f64>) {
    let x = array![
        [0.5, -1.0],
        [1.5, 0.25],
        [-0.75, 2.0],
        [0.1, 0.3],
        [1.0, 1.0],
        [-1.25, 0.5],
        [0.6, -0.4],
        [2.0, 0.0],
        [-0.5, -1.5],
        [0.8, 0.9],
    ];
    (
        x,
        array![1.0, -0.5, 2.0, 0.25, -1.0, 0.75, 1.5, -2.0, 0.0, 0.5],
    )
}

fn text_of(optimizer: &Optimizer<f64>) -> String {
    serde_json::to_string(&optimizer.state_view()).unwrap()
}

/// AdamW of torch 2.15.0, lr 0.1, weight decay 0.01, after each of three epochs of one step, with
/// the losses of batches of 4, 4 and 2 rows multiplied by their part of the 10 rows.
const OF_TORCH: [[f64; 2]; 3] = [
    [0.19970000051942652, -0.09980000122055416],
    [0.09999273220055777, -0.0012645473860636303],
    [0.0013092899015785253, 0.09373337670868563],
];

#[test]
fn batches_of_unequal_size_make_the_step_of_torch_with_scaled_losses() {
    let ((x, y), parts) = (data(), [0..4, 4..8, 8..10]);
    // A round that is full after three calls, and one that is finished with or after the third.
    for (every, with_last) in [(3, false), (7, true), (7, false)] {
        let config = AdamW {
            weight_decay: 0.01,
            ..AdamW::new(0.1)
        };
        let mut adamw = Optimizer::new(config);
        adamw.set_accumulation(every);
        let mut w = array![0.3, -0.2];
        for expected in OF_TORCH {
            for (i, rows) in parts.iter().enumerate() {
                let g = gradient(&x, &y, rows.clone(), &w);
                let mut params = Params::of(&mut w, &g).unwrap();
                params.weight(rows.len() as f64);
                if with_last && i == 2 {
                    assert_eq!(adamw.finish_accumulation(params), Ok(Outcome::Applied));
                } else {
                    adamw.step(params).unwrap();
                }
            }
            let end = adamw.finish_accumulation(Params::without_grads(&mut w).unwrap());
            let finished = every == 7 && !with_last;
            assert_eq!(
                end,
                Ok(if finished {
                    Outcome::Applied
                } else {
                    Outcome::Empty
                })
            );
            for (w, expected) in w.iter().zip(expected) {
                assert!((w - expected).abs() < 1e-12, "{w} {expected}");
            }
        }
        assert_eq!(adamw.steps(UNNAMED), 3);
    }
}

#[test]
fn equal_weights_of_any_size_change_no_bit() {
    let grads = [
        array![0.1_f32, 3.0],
        array![-0.7, 1e-3],
        array![0.3, 1.0 / 3.0],
    ];
    let run = |weight: Option<f64>| {
        let (mut adam, mut w) = (Optimizer::new(Adam::new(0.1)), array![1.0, 2.0]);
        adam.set_accumulation(3);
        for g in grads.iter().cycle().take(9) {
            let mut params = Params::of(&mut w, g).unwrap();
            weight.map(|weight| params.weight(weight));
            adam.step(params).unwrap();
        }
        w
    };
    for weight in [1.0, 32.0, 0.125, 3.0, 1e300] {
        assert_eq!(run(Some(weight)), run(None), "{weight}");
    }
}

#[test]
fn weights_are_part_of_the_mean_loss_and_of_parameters_with_fewer_gradients() {
    let mut optimizer = Optimizer::new(Sgd::new(1.0));
    optimizer
        .add_group(Group::new("momo", ["q"], Momo::new(1.0)))
        .unwrap();
    optimizer.set_accumulation(9);
    let (mut p, mut q) = (array![0.0], array![0.0]);
    let zero = array![0.0];
    for (g, loss, weight) in [
        (Some(4.0), 1.0, 3.0),
        (None, 5.0, 4.0),
        (Some(10.0), 2.0, 1.0),
    ] {
        let g = g.map(|g| array![g]);
        let mut params = Params::new();
        params
            .loss(loss)
            .weight(weight)
            .add_optional("p", &mut p, g.as_deref())
            .unwrap();
        params.add("q", &mut q, &zero).unwrap();
        optimizer.step(params).unwrap();
    }
    let round = optimizer.state_dict().accumulation.unwrap();
    assert_eq!((round.calls, round.weight), (3, Some(8.0)));
    assert_eq!(round.loss, (3.0 + 20.0 + 2.0) / 8.0);
    let weights: Vec<_> = round
        .means
        .iter()
        .map(|mean| (mean.count, mean.weight))
        .collect();
    assert_eq!(weights, [(2, Some(4.0)), (3, Some(8.0))]);
    let mut params = Params::new();
    // A loss without a gradient does not count.
    params
        .loss(f64::NAN)
        .add_optional("p", &mut p, None)
        .unwrap();
    params.add_optional("q", &mut q, None).unwrap();
    assert_eq!(optimizer.finish_accumulation(params), Ok(Outcome::Applied));
    assert_eq!(p, array![-(4.0 * 3.0 + 10.0) / 4.0]);
}

#[test]
fn a_round_with_weights_goes_on_from_a_file_and_one_without_them_weighs_calls_equally() {
    let grads = [(array![1.0], 3.0), (array![2.0], 5.0), (array![-4.0], 2.0)];
    let mut whole = Optimizer::new(Sgd::new(1.0));
    whole.set_accumulation(3);
    let mut p = array![0.0];
    let call = |optimizer: &mut Optimizer<f64>, p: &mut Array1<f64>, i: usize| {
        let (g, weight) = &grads[i];
        optimizer
            .step(Params::of(p, g).unwrap().weight(*weight))
            .unwrap()
    };
    for i in 0..2 {
        call(&mut whole, &mut p, i);
    }
    let text = serde_json::to_string(&whole.state_dict()).unwrap();
    let state: StateDict = serde_json::from_str(&text).unwrap();
    let mut resumed = Optimizer::<f64>::from_state(state).unwrap();
    let mut q = p.clone();
    assert_eq!(call(&mut whole, &mut p, 2), Outcome::Applied);
    call(&mut resumed, &mut q, 2);
    assert_eq!((&p, &p), (&array![-(3.0 + 10.0 - 8.0) / 10.0], &q));

    // A file of an earlier version has no weights.
    let (mut old, mut r) = (Optimizer::new(Sgd::new(1.0)), array![0.0]);
    old.set_accumulation(3);
    for _ in 0..2 {
        old.update(&mut r, &array![1.0]).unwrap();
    }
    let mut file = serde_json::to_value(old.state_dict()).unwrap();
    let round = file["accumulation"].as_object_mut().unwrap();
    assert!(round.remove("weight").is_some());
    assert!(
        round["means"][0]
            .as_object_mut()
            .unwrap()
            .remove("weight")
            .is_some()
    );
    let mut read = Optimizer::<f64>::from_state(serde_json::from_value(file).unwrap()).unwrap();
    // As text: the loss is NaN.
    assert_eq!(text_of(&read), text_of(&old));
    read.update(&mut r, &array![4.0]).unwrap();
    assert_eq!(r, array![-2.0]);
}

#[test]
fn a_weight_that_is_no_weight_and_a_round_that_cannot_end_are_refused() {
    let (mut sgd, mut p) = (Optimizer::new(Sgd::new(1.0)), array![1.0]);
    sgd.set_accumulation(4);
    sgd.update(&mut p, &array![1.0]).unwrap();
    let before = text_of(&sgd);
    for given in [0.0, -1.0, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE / 4.0] {
        let error = sgd
            .step(Params::of(&mut p, &array![1.0]).unwrap().weight(given))
            .unwrap_err();
        assert!(matches!(error, Error::Weight { .. }), "{error}");
        assert!(error.to_string().contains("weight of the call"), "{error}");
    }
    // Not all parameters of the round, another shape, a gradient that is not finite.
    let mut other = array![1.0];
    let mut params = Params::new();
    params.add_optional("other", &mut other, None).unwrap();
    let missing = Error::MissingParameter {
        name: UNNAMED.into(),
    };
    assert_eq!(sgd.finish_accumulation(params), Err(missing));
    let mut longer = array![1.0, 2.0];
    let error = sgd.finish_accumulation(Params::without_grads(&mut longer).unwrap());
    assert!(matches!(error, Err(Error::ShapeChanged { .. })));
    assert_eq!(text_of(&sgd), before);
    sgd.non_finite = NonFinite::Skip;
    let skipped = sgd.finish_accumulation(Params::of(&mut p, &array![f64::NAN]).unwrap());
    assert_eq!(
        (skipped, sgd.accumulation()),
        (Ok(Outcome::Skipped), (1, 4))
    );
    // The round is still there, and ends.
    sgd.finish_accumulation(Params::without_grads(&mut p).unwrap())
        .unwrap();
    assert_eq!((p, sgd.accumulation()), (array![0.0], (0, 4)));
}

#[test]
fn without_accumulation_to_finish_is_a_step_or_nothing() {
    let (mut sgd, mut p) = (Optimizer::new(Sgd::new(1.0)), array![1.0]);
    let nothing = sgd.finish_accumulation(Params::without_grads(&mut p).unwrap());
    assert_eq!((nothing, sgd.steps(UNNAMED)), (Ok(Outcome::Empty), 0));
    let step = sgd.finish_accumulation(Params::of(&mut p, &array![0.5]).unwrap());
    assert_eq!((step, p), (Ok(Outcome::Applied), array![0.5]));
}
