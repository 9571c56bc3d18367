//! Wrappers: chains by type and by file are the same bits, and each does what its formula says.

use crate::common::{filled, spread};
use ndarray::{Array1, Array2, ArrayD, Axis, array as arr};
use ndarray_optim::{
    Adafactor, Adam, AdamW, Algorithm, AnyAlgorithm, AnyWrap, Compose, Error, Group, Lamb, Lion, Momentum, Optimizer,
    Params, Sgd,
    kernel::Element,
    wrap::{
        AdaptiveClip, Bounds, Cautious, Centralize, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm, ClipByValue, Ema,
        Grokfast, L1, Lookahead, Noise, Norm, ScaleGradient, SignOfGradient, Swa, WeightDecay, Wrap,
    },
};

fn number(seed: u64, i: usize) -> f64 {
    spread(seed, i, 2)
}

fn numbers<A: Element>(shape: &[usize], seed: u64) -> ArrayD<A> {
    filled(shape, |i| number(seed, i))
}

/// The parameters after some steps, and what is evaluated.
fn run<A: Element>(mut optimizer: Optimizer<A>, shape: &[usize], steps: u64) -> (ArrayD<A>, ArrayD<A>) {
    let mut p = numbers(shape, 0);
    for t in 1..=steps {
        optimizer.update(&mut p, &numbers::<A>(shape, t)).unwrap();
    }
    let average = optimizer.evaluation("variable", p.view());
    (p, average)
}

fn same_bits<A: Element>(a: &(ArrayD<A>, ArrayD<A>), b: &(ArrayD<A>, ArrayD<A>), what: &str) {
    let bits = |x: &(ArrayD<A>, ArrayD<A>)| x.0.iter().chain(&x.1).map(|x| x.f64().to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(a), bits(b), "{what}");
}

fn by_type_and_by_file<C: Algorithm + Into<AnyAlgorithm>, W: Wrap + Into<AnyWrap>>(config: C, wrap: W) {
    let any: AnyAlgorithm = config.clone().into();
    for shape in [&[][..], &[3], &[7, 5], &[2, 3, 4], &[2047], &[3000], &[70, 60]] {
        let what = format!("{wrap:?} {shape:?}");
        let typed = Optimizer::new(config.clone().wrap(wrap.clone()));
        let file = Optimizer::new(any.clone().in_wrappers([wrap.clone().into()]));
        same_bits(&run::<f64>(typed, shape, 12), &run::<f64>(file, shape, 12), &what);
        let chain = config.clone().clip_by_value(0.4).wrap(wrap.clone()).wrap(Swa { start: 3, every: 2 });
        let list = [ClipByValue { max_value: 0.4 }.into(), wrap.clone().into(), Swa { start: 3, every: 2 }.into()];
        let file = Optimizer::new(any.clone().in_wrappers(list));
        same_bits(&run::<f32>(Optimizer::new(chain), shape, 12), &run::<f32>(file, shape, 12), &what);
    }
}

#[test]
fn chains_by_type_and_by_file_are_the_same_bits() {
    by_type_and_by_file(AdamW::default(), ClipByGlobalNorm { max_norm: 0.5, ..Default::default() });
    by_type_and_by_file(AdamW::default(), ClipByNorm { max_norm: 0.5 });
    by_type_and_by_file(AdamW { maximize: true, ..Default::default() }, ClipByBlockRms { threshold: 0.1 });
    by_type_and_by_file(AdamW::default(), AdaptiveClip::default());
    by_type_and_by_file(AdamW::default(), Centralize::default());
    by_type_and_by_file(AdamW::default(), Noise::default());
    by_type_and_by_file(Momentum { maximize: true, ..Default::default() }, ScaleGradient { factor: 0.3 });
    by_type_and_by_file(Momentum::default(), SignOfGradient {});
    by_type_and_by_file(Lamb::default(), Grokfast::default());
    by_type_and_by_file(Lion::default(), WeightDecay { weight_decay: 0.1, decoupled: true });
    by_type_and_by_file(Lamb::default(), WeightDecay { weight_decay: 0.1, decoupled: false });
    by_type_and_by_file(Adafactor::default(), Ema { decay: 0.9 });
    by_type_and_by_file(Sgd::default(), Lookahead { sync_period: 3, slow_step_size: 0.3 });
    by_type_and_by_file(Sgd { lr: 0.1, ..Default::default() }, Bounds { lower: Some(-0.1), upper: Some(0.2) });
    by_type_and_by_file(Sgd { lr: 0.1, ..Default::default() }, L1 { lambda: 0.5 });
}

#[test]
fn neutral_wrappers_are_the_optimizer_itself() {
    let adam = || Adam { lr: 0.05, ..Default::default() };
    let plain = run::<f32>(Optimizer::new(adam()), &[40, 30], 11);
    let check = |optimizer: Optimizer<f32>, what: &str| {
        let (p, _) = run(optimizer, &[40, 30], 11);
        same_bits(&(p.clone(), p), &plain, what);
    };
    check(Optimizer::new(adam().lookahead(1, 1.0)), "lookahead with k = 1 and the whole way");
    check(Optimizer::new(adam().lookahead(100, 0.5)), "lookahead that never comes to it");
    check(Optimizer::new(adam().ema(0.9)), "an average changes nothing");
    check(Optimizer::new(adam().clip_by_global_norm(1e9)), "a norm that is never reached");
    check(Optimizer::new(adam().clip_by_value(1e9)), "a value that is never reached");
    check(Optimizer::new(adam().wrap(Grokfast { lamb: 0.0, alpha: 0.9 })), "no weight for the slow gradient");
    check(Optimizer::new(adam().wrap(Noise { eta: 0.0, ..Default::default() })), "no noise");
    check(Optimizer::new(adam().wrap(Bounds { lower: None, upper: None })), "no bounds");
    check(Optimizer::new(adam().wrap(L1 { lambda: 0.0 })), "no penalty");
}

#[test]
fn averages_are_those_of_the_iterates() {
    let shape = [5, 3];
    let mut optimizer = Optimizer::new(Adam { lr: 0.1, ..Default::default() }.ema(0.8));
    let mut swa = Optimizer::new(Adam { lr: 0.1, ..Default::default() }.wrap(Swa { start: 4, every: 3 }));
    let (mut p, mut q) = (numbers::<f64>(&shape, 0), numbers::<f64>(&shape, 0));
    let mut iterates = Vec::new();
    for t in 1..=14 {
        optimizer.update(&mut p, &numbers(&shape, t)).unwrap();
        swa.update(&mut q, &numbers(&shape, t)).unwrap();
        iterates.push(p.clone());
        // The textbook form: from zero, divided by what is missing of its weights.
        let mut textbook = ArrayD::<f64>::zeros(p.raw_dim());
        for iterate in &iterates {
            textbook = 0.8 * &textbook + 0.2 * iterate;
        }
        textbook /= 1.0 - 0.8_f64.powi(t as i32);
        let error = (&optimizer.evaluation("variable", p.view()) - &textbook).mapv(f64::abs);
        assert!(error.iter().zip(&textbook).all(|(&e, x)| e < 1e-14 * x.abs().max(1.0)), "{error}");
    }
    // Steps 4, 7, 10 and 13.
    let mean = (&iterates[3] + &iterates[6] + &iterates[9] + &iterates[12]) / 4.0;
    assert!((&swa.evaluation("variable", q.view()) - &mean).iter().all(|e| e.abs() < 1e-14));
    // A constant stays what it is, exactly.
    let mut constant = Optimizer::new(Sgd::default().ema(0.9));
    let mut p = arr![0.1, 0.7];
    for _ in 0..50 {
        constant.update(&mut p, &arr![0.0, 0.0]).unwrap();
        assert_eq!(constant.evaluation("variable", p.view().into_dyn()), arr![0.1, 0.7].into_dyn());
    }
}

#[test]
fn a_parameter_and_its_average_can_be_exchanged() {
    let mut optimizer = Optimizer::new(Sgd { lr: 0.1, ..Default::default() }.ema(0.5));
    let mut p = arr![[1.0, 2.0], [3.0, 4.0]];
    assert!(matches!(optimizer.swap_average("variable", p.view_mut().into_dyn()), Err(Error::NoAverage { .. })));
    for _ in 0..3 {
        optimizer.update(p.view_mut().reversed_axes(), arr![[1.0, 0.5], [1.0, 2.0]].view()).unwrap();
    }
    let (before, average) = (p.clone(), optimizer.evaluation("variable", p.t().into_dyn()));
    optimizer.swap_average("variable", p.view_mut().reversed_axes().into_dyn()).unwrap();
    assert_eq!(p.t().into_dyn(), average);
    assert_ne!(p, before);
    let refused = optimizer.update(p.view_mut().reversed_axes(), arr![[1.0, 0.5], [1.0, 2.0]].view());
    assert_eq!(refused, Err(Error::Swapped { name: "variable".into() }));
    optimizer.swap_average("variable", p.view_mut().reversed_axes().into_dyn()).unwrap();
    assert_eq!(p, before);
    optimizer.update(p.view_mut().reversed_axes(), arr![[1.0, 0.5], [1.0, 2.0]].view()).unwrap();
    let mut wrong = arr![1.0];
    assert!(matches!(optimizer.swap_average("variable", wrong.view_mut().into_dyn()), Err(Error::ShapeChanged { .. })));
}

/// One step of plain descent with learning rate 1 shows the gradient it was given.
fn seen<W: Wrap>(wrap: W, p: &ArrayD<f64>, g: &ArrayD<f64>) -> ArrayD<f64> {
    let mut optimizer = Optimizer::new(Sgd { lr: 1.0, ..Default::default() }.wrap(wrap));
    let mut new = p.clone();
    optimizer.update(&mut new, g).unwrap();
    p - &new
}

#[test]
fn clipping_by_norms_has_the_numbers_of_torch_and_optax() {
    let (p, g) = (arr![0.0, 0.0].into_dyn(), arr![3.0, 4.0].into_dyn());
    let close = |a: &ArrayD<f64>, b: [f64; 2]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-15), "{a} {b:?}");
    let global = |norm, eps| ClipByGlobalNorm { max_norm: 1.0, norm, eps };
    close(&seen(global(Norm::L2, 0.0), &p, &g), [0.6, 0.8]);
    close(&seen(global(Norm::L2, 1e-6), &p, &g), [0.599_999_880_000_024, 0.799_999_840_000_032]);
    close(&seen(global(Norm::L1, 0.0), &p, &g), [3.0 / 7.0, 4.0 / 7.0]);
    close(&seen(global(Norm::Max, 0.0), &p, &g), [0.75, 1.0]);
    close(&seen(ClipByNorm { max_norm: 2.5 }, &p, &g), [1.5, 2.0]);
    close(&seen(ClipByBlockRms { threshold: 0.5 }, &p, &g), [3.0 / 12.5_f64.sqrt() / 2.0, 4.0 / 12.5_f64.sqrt() / 2.0]);
    close(&seen(ClipByValue { max_value: 3.5 }, &p, &g), [3.0, 3.5]);
}

#[test]
fn the_global_norm_runs_over_all_groups_and_neither_overflows_nor_underflows() {
    fn norm_of<A: Element>(scale: f64, wrapped: bool) -> f64 {
        let (one, other) = (Momentum { lr: 1e-3, ..Default::default() }, Momentum { lr: 0.5, ..Default::default() });
        let mut optimizer = Optimizer::<A>::new(one);
        if wrapped {
            optimizer = Optimizer::new(one.clip_by_global_norm(scale));
            optimizer.add_group(Group::new("other", ["b"], other.clip_by_global_norm(scale))).unwrap();
        } else {
            optimizer.clip = Some(ClipByGlobalNorm { max_norm: scale, ..Default::default() });
            optimizer.add_group(Group::new("other", ["b"], other)).unwrap();
        }
        let f = |x: f64| A::of(x * scale);
        let (mut a, mut b) = (Array1::from_elem(2, A::ZERO), Array2::from_elem((2, 2), A::ZERO));
        let (ga, gb) = (arr![f(1.0), f(-2.0)], arr![[f(2.0), f(0.0)], [f(0.0), f(4.0)]]);
        let mut params = Params::new();
        params.add("a", &mut a, &ga).unwrap().add("b", b.view_mut().reversed_axes(), gb.t()).unwrap();
        optimizer.step(params).unwrap();
        // m = 0.1 g / norm; both groups by the same norm.
        let norm = optimizer.grad_norm().unwrap();
        let (first, last) = (a[0].f64() / -1e-3 / scale, b[[1, 1]].f64() / -0.5 / scale);
        assert!((first - 0.1 / 5.0).abs() < 1e-6 && (last - 0.1 * 4.0 / 5.0).abs() < 1e-6, "{scale:e}: {first} {last}");
        norm / scale
    }
    for wrapped in [false, true] {
        for scale in [1.0, 1e30, 1e-30, 1e37] {
            assert!((norm_of::<f32>(scale, wrapped) - 5.0).abs() < 1e-5, "{scale:e}");
        }
        for scale in [1.0, 1e30, 1e200, 1e-200, 1e307] {
            assert!((norm_of::<f64>(scale, wrapped) - 5.0).abs() < 1e-14, "{scale:e}");
        }
    }
    // What is not finite is not hidden.
    let wrapped = Optimizer::new(Sgd::default().clip_by_global_norm(1.0));
    let mut clipped = Optimizer::new(Sgd::default());
    clipped.clip = Some(ClipByGlobalNorm { max_norm: 1.0, ..Default::default() });
    for mut optimizer in [wrapped, clipped] {
        let mut p = arr![1.0, 1.0];
        optimizer.update(&mut p, &arr![f64::NAN, 1.0]).unwrap();
        assert!(p[0].is_nan() && optimizer.grad_norm().unwrap().is_nan());
    }
}

#[test]
fn clipping_over_all_groups_comes_before_that_of_wrappers() {
    let mut optimizer = Optimizer::new(Sgd { lr: 1.0, ..Default::default() }.clip_by_global_norm(0.5));
    optimizer.add_group(Group::new("plain", ["b"], Sgd { lr: 1.0, ..Default::default() })).unwrap();
    let mut step = |clip: Option<f64>| {
        optimizer.clip = clip.map(|max_norm| ClipByGlobalNorm { max_norm, ..Default::default() });
        let (mut a, mut b) = (arr![0.0], arr![0.0]);
        let mut params = Params::new();
        params.add("a", &mut a, &[3.0]).unwrap().add("b", &mut b, &[4.0]).unwrap();
        optimizer.step(params).unwrap();
        assert_eq!(optimizer.grad_norm(), Some(5.0));
        [-a[0], -b[0]].map(|x: f64| (x * 1e4).round() / 1e4)
    };
    assert_eq!(step(None), [0.3, 4.0]);
    assert_eq!(step(Some(1.0)), [0.3, 0.8]);
    assert_eq!(step(Some(0.25)), [0.15, 0.2]);
    assert_eq!(step(None), [0.3, 4.0]);
}

#[test]
fn clipping_ends_when_it_is_taken_away() {
    let mut sgd = Optimizer::new(Sgd { lr: 1.0, ..Default::default() });
    let mut step = |clip: Option<f64>| {
        sgd.clip = clip.map(|max_norm| ClipByGlobalNorm { max_norm, ..Default::default() });
        let mut p = arr![0.0, 0.0];
        let mut params = Params::new();
        params.add("p", &mut p, &[3.0, 4.0]).unwrap();
        sgd.step(params).unwrap();
        (p, sgd.grad_norm())
    };
    assert_eq!(step(None), (arr![-3.0, -4.0], None));
    assert_eq!(step(Some(2.5)), (arr![-1.5, -2.0], Some(5.0)));
    assert_eq!(step(None), (arr![-3.0, -4.0], None));
}

#[test]
fn groups_have_wrappers_of_their_own() {
    let read = |text: &str| serde_json::from_str::<AnyAlgorithm>(text).unwrap();
    let mut optimizer = Optimizer::new(read(
        r#"{"name": "composed", "inner": {"name": "adamw", "lr": 0.1, "weight_decay": 0.1},
            "wrap": [{"name": "clip_by_value", "max_value": 0.5}, {"name": "ema", "decay": 0.9}]}"#,
    ));
    let undecayed = AdamW { lr: 0.1, weight_decay: 0.0, ..Default::default() };
    optimizer.add_group(Group::new("no_decay", ["bias"], undecayed.clip_by_value(0.5).ema(0.9))).unwrap();
    optimizer.add_group(Group::new("plain", ["c"], Sgd { lr: 0.5, ..Default::default() })).unwrap();
    let (mut w, mut b, mut c) = (arr![1.0_f64], arr![1.0_f64], arr![1.0]);
    for _ in 0..2 {
        let mut params = Params::new();
        params.add("weight", &mut w, &[9.0]).unwrap().add("bias", &mut b, &[9.0]).unwrap().add("c", &mut c, &[9.0]).unwrap();
        optimizer.step(params).unwrap();
    }
    assert!((w[0] - (1.0 - 0.11 - 0.1 - 0.01 * 0.89)).abs() < 1e-6 && (b[0] - 0.8).abs() < 1e-6, "{w} {b}");
    optimizer.swap_average("bias", b.view_mut().into_dyn()).unwrap();
    assert!((b[0] - (0.9 * 0.1 * 0.9 + 0.1 * 0.8) / 0.19).abs() < 1e-6, "{b}");
    // Another algorithm without wrappers: it neither clips nor averages.
    assert_eq!(c, arr![-8.0]);
    let none = optimizer.swap_average("c", c.view_mut().into_dyn());
    assert_eq!(none, Err(Error::NoAverage { name: "c".into() }));
}

#[test]
fn each_wrapper_is_its_formula() {
    let (p, g) = (numbers::<f64>(&[4, 3], 1), numbers::<f64>(&[4, 3], 2));
    let close = |a: ArrayD<f64>, b: ArrayD<f64>| assert!((&a - &b).iter().all(|e| e.abs() < 1e-13), "{a}\n{b}");
    close(seen(ScaleGradient { factor: 0.25 }, &p, &g), 0.25 * &g);
    close(seen(SignOfGradient {}, &p, &g), g.mapv(f64::signum));
    close(seen(WeightDecay { weight_decay: 0.1, decoupled: false }, &p, &g), &g + 0.1 * &p);
    close(seen(WeightDecay { weight_decay: 0.1, decoupled: true }, &p, &g), &g + 0.1 * &p);
    close(seen(Grokfast { alpha: 0.9, lamb: 2.0 }, &p, &g), &g * (1.0 + 2.0 * 0.1));
    close(seen(Bounds { lower: Some(-0.1), upper: Some(0.1) }, &p, &g), &p - (&p - &g).mapv(|x| x.clamp(-0.1, 0.1)));
    let shrunk = (&p - &g).mapv(|x| x.signum() * (x.abs() - 0.2).max(0.0));
    close(seen(L1 { lambda: 0.2 }, &p, &g), &p - &shrunk);
    // Centralised: every row sums to 0, and so every column with the other axis.
    for keep_axis in [0, 1] {
        let centred = seen(Centralize { keep_axis }, &p, &g);
        assert!(centred.sum_axis(Axis(1 - keep_axis)).iter().all(|x| x.abs() < 1e-13));
        close(&g - &centred - (&g - &centred), ArrayD::zeros(g.raw_dim()));
    }
    // Adaptive clipping, unit by unit.
    for unit_axis in [0, 1] {
        let clipped = seen(AdaptiveClip { clipping: 0.5, eps: 1e-3, unit_axis }, &p, &g);
        let axis = Axis(unit_axis);
        for ((p, g), clipped) in p.axis_iter(axis).zip(g.axis_iter(axis)).zip(clipped.axis_iter(axis)) {
            let norm = |a: ndarray::ArrayViewD<'_, f64>| a.iter().map(|x| x * x).sum::<f64>().sqrt();
            let most = 0.5 * norm(p).max(1e-3);
            close(clipped.to_owned(), g.to_owned() * (most / norm(g)).min(1.0));
        }
    }
    // Cautious: the second step of momentum where the gradient has turned.
    let mut cautious = Optimizer::new(Momentum { lr: 1.0, beta: 0.5, ..Default::default() }.wrap(Cautious {}));
    let mut p = arr![0.0, 0.0];
    cautious.update(&mut p, &arr![1.0, 1.0]).unwrap();
    cautious.update(&mut p, &arr![-0.1, 1.0]).unwrap();
    assert_eq!(p, arr![-0.5, -0.5 - 0.75]);
}

#[test]
fn noise_has_its_variance_and_depends_on_seed_step_name_and_place_alone() {
    let noise = |seed| Noise { eta: 0.04, gamma: 0.0, seed };
    let n = 40_000;
    let zero = ArrayD::zeros(vec![n]);
    let a = seen(noise(1), &zero, &zero);
    let mean = a.mean().unwrap();
    let variance = a.mapv(|x| (x - mean).powi(2)).mean().unwrap();
    let fourth = a.mapv(|x| (x - mean).powi(4)).mean().unwrap() / variance.powi(2);
    assert!(
        mean.abs() < 4e-3 && (variance - 0.04).abs() < 2e-3 && (fourth - 3.0).abs() < 0.15,
        "{mean} {variance} {fourth}"
    );
    assert_eq!(a, seen(noise(1), &zero, &zero));
    let other = seen(noise(2), &zero, &zero);
    let correlation = (&a * &other).mean().unwrap() / 0.04;
    assert!(correlation.abs() < 0.02, "{correlation}");
    // The next step and another name have noise of their own; the layout does not matter.
    let mut sgd = Optimizer::new(Sgd { lr: 1.0, ..Default::default() }.wrap(noise(1)));
    let g = Array2::<f64>::zeros((30, 20));
    let (mut p, mut q) = (g.clone(), g.t().to_owned());
    let mut params = Params::new();
    params.add("p", &mut p, &g).unwrap().add("q", q.view_mut().reversed_axes(), g.view()).unwrap();
    sgd.step(params).unwrap();
    assert_ne!(p, q.t());
    let mut again = Optimizer::new(Sgd { lr: 1.0, ..Default::default() }.wrap(noise(1)));
    let mut turned = g.t().to_owned();
    let mut params = Params::new();
    params.add("p", turned.view_mut().reversed_axes(), g.view()).unwrap();
    again.step(params).unwrap();
    assert_eq!(p, turned.t());
}

#[test]
fn projections_are_the_nearest_points() {
    use ndarray_optim::wrap::{l2_ball, non_negative, simplex};
    let mut p = arr![[0.5, -1.0], [2.0, 0.1]];
    non_negative(&mut p);
    assert_eq!(p, arr![[0.5, 0.0], [2.0, 0.1]]);
    l2_ball(&mut p, 1.0);
    assert!((p.mapv(|x| x * x).sum() - 1.0_f64).abs() < 1e-14);
    let before = p.clone();
    l2_ball(&mut p, 1.0 + 1e-9);
    assert_eq!(p, before);
    for scale in [1.0, 3.0] {
        let p = Array1::from_shape_fn(50, |i| number(3, i));
        let mut q = p.clone();
        simplex(&mut q, scale);
        assert!((q.sum() - scale).abs() < 1e-12 && q.iter().all(|&x| x >= 0.0));
        // Nearest: p - q is the same number wherever q > 0, and no larger elsewhere.
        let gaps: Vec<f64> = p.iter().zip(&q).filter(|(_, q)| **q > 0.0).map(|(p, q)| p - q).collect();
        assert!(gaps.iter().all(|gap| (gap - gaps[0]).abs() < 1e-12));
        assert!(p.iter().zip(&q).all(|(p, q)| p - q <= gaps[0] + 1e-12));
    }
}

#[test]
fn wrong_wrappers_are_errors_that_name_the_field() {
    let mut p = arr![1.0];
    let mut field = |mut optimizer: Optimizer<f64>| {
        let mut params = Params::new();
        params.add("p", &mut p, &[1.0]).unwrap();
        match optimizer.step(params) {
            Err(Error::HyperParameter { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    let sgd = Sgd::default;
    assert_eq!(field(Optimizer::new(sgd().ema(1.0))), "decay");
    assert_eq!(field(Optimizer::new(sgd().clip_by_value(-1.0))), "max_value");
    assert_eq!(field(Optimizer::new(sgd().clip_by_global_norm(f64::NAN))), "max_norm");
    assert_eq!(field(Optimizer::new(sgd().lookahead(0, 0.5))), "sync_period");
    assert_eq!(field(Optimizer::new(sgd().lookahead(1, 1.5))), "slow_step_size");
    assert_eq!(field(Optimizer::new(sgd().wrap(Swa { start: 0, every: 1 }))), "start");
    assert_eq!(field(Optimizer::new(sgd().bounds(1.0, 0.0))), "lower");
    assert_eq!(field(Optimizer::new(sgd().clip_by_global_norm(1.0).wrap(ClipByNorm::default()))), "max_norm");
    assert_eq!(field(Optimizer::new(sgd().ema(0.5).ema(0.9))), "wrap");
    let many = vec![ClipByValue::default().into(); 9];
    assert_eq!(field(Optimizer::new(AnyAlgorithm::from(sgd()).in_wrappers(many))), "wrap");
    let mut clipped = Optimizer::new(sgd());
    clipped.clip = Some(ClipByGlobalNorm { max_norm: -1.0, ..Default::default() });
    assert_eq!(field(clipped), "max_norm");
    assert_eq!(p, arr![1.0]);
}

#[test]
fn wrappers_leave_plain_optimizers_alone() {
    // A wrapper that was never asked for costs nothing and knows nothing.
    assert_eq!(Optimizer::<f32>::new(Adam::new(0.1)).grad_norm(), None);
    assert_eq!(Optimizer::<f32>::new(Momentum::new(0.1)).grad_norm(), None);
    let mut sgd = Optimizer::new(Sgd::new(0.1));
    let mut p = arr![1.0];
    sgd.update(&mut p, &arr![1.0]).unwrap();
    assert_eq!(sgd.evaluation("variable", p.view().into_dyn()), p.into_dyn());
}

#[test]
fn of_two_wrappers_of_a_kind_the_outer_one_is_read_and_changed() {
    let chain = Sgd::new(0.1).clip_by_value(1.0).clip_by_value(2.0);
    let by_file =
        AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([1.0, 2.0].map(|value| ClipByValue { max_value: value }.into()));
    for mut optimizer in [Optimizer::<f64>::new(chain), Optimizer::new(by_file)] {
        assert_eq!(optimizer.algorithm::<ClipByValue>().unwrap().max_value, 2.0);
        assert_eq!(optimizer.algorithm_mut::<ClipByValue>().unwrap().max_value, 2.0);
    }
}

#[test]
fn validation_finds_what_the_first_step_would_refuse() {
    let lookahead = || Lookahead::default().into();
    let twice = AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([lookahead(), lookahead()]);
    let found = twice.validate().unwrap_err();
    let mut p = arr![1.0];
    assert_eq!(Optimizer::new(twice).update(&mut p, &arr![1.0]), Err(found));
    assert_eq!(AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([lookahead()]).validate(), Ok(()));
}

#[test]
fn while_they_are_exchanged_the_array_is_the_average() {
    let mut optimizer = Optimizer::new(Sgd::new(1.0).ema(0.5));
    let mut p = arr![1.0];
    optimizer.update(&mut p, &arr![1.0]).unwrap();
    optimizer.update(&mut p, &arr![1.0]).unwrap();
    let average = optimizer.evaluation("variable", p.view().into_dyn());
    assert_ne!(average, p.clone().into_dyn());
    optimizer.swap_average("variable", p.view_mut().into_dyn()).unwrap();
    assert_eq!(optimizer.evaluation("variable", p.view().into_dyn()), p.into_dyn());
}
