//! Wrappers: chains by type and by file are the same bits, and each does what its formula says.

use crate::common::{filled, spread};
use ndarray::{Array1, Array2, ArrayD, Axis, array as arr, aview1};
use ndarray_optim::{
    Adafactor, Adam, AdamW, AnyAlgorithm, AnyWrap, Compose, Error, Group, Lamb, Lion, Momentum,
    Optimizer, Params, Sgd,
    algorithm::{Algorithm, Element},
    reduce::Norm,
    wrap::{
        AdaptiveClip, Bounds, Cautious, Centralize, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm,
        ClipByValue, Ema, Grokfast, KeepZeros, L1, Lookahead, Noise, ScaleGradient, SignOfGradient,
        Swa, WeightDecay, Wrap,
    },
};
use std::collections::BTreeSet;

fn number(seed: u64, i: usize) -> f64 {
    spread(seed, i, 2)
}

fn numbers<A: Element>(shape: &[usize], seed: u64) -> ArrayD<A> {
    filled(shape, |i| number(seed, i))
}

/// The parameters after some steps, and what is evaluated.
fn run<A: Element>(
    mut optimizer: Optimizer<A>,
    shape: &[usize],
    steps: u64,
) -> (ArrayD<A>, ArrayD<A>) {
    let mut p = numbers(shape, 0);
    for t in 1..=steps {
        optimizer.update(&mut p, &numbers::<A>(shape, t)).unwrap();
    }
    let average = optimizer.evaluate(&p).unwrap();
    (p, average)
}

fn same_bits<A: Element>(a: &(ArrayD<A>, ArrayD<A>), b: &(ArrayD<A>, ArrayD<A>), what: &str) {
    let bits = |x: &(ArrayD<A>, ArrayD<A>)| {
        x.0.iter()
            .chain(&x.1)
            .map(|x| x.f64().to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(a), bits(b), "{what}");
}

const SHAPES: [&[usize]; 7] = [&[], &[3], &[7, 5], &[2, 3, 4], &[2047], &[3000], &[70, 60]];

/// Returns the name of the wrapper.
fn by_type_and_by_file<C: Algorithm + Into<AnyAlgorithm>, W: Wrap + Into<AnyWrap>>(
    config: C,
    wrap: W,
) -> &'static str {
    let any: AnyAlgorithm = config.clone().into();
    for shape in SHAPES {
        let what = format!("{wrap:?} {shape:?}");
        let typed = Optimizer::new(config.clone().wrap(wrap.clone()));
        let file = Optimizer::new(any.clone().in_wrappers([wrap.clone().into()]));
        same_bits(
            &run::<f64>(typed, shape, 12),
            &run::<f64>(file, shape, 12),
            &what,
        );
        let chain = config
            .clone()
            .clip_by_value(0.4)
            .wrap(wrap.clone())
            .wrap(Swa { start: 3, every: 2 });
        let list = [
            ClipByValue { max_value: 0.4 }.into(),
            wrap.clone().into(),
            Swa { start: 3, every: 2 }.into(),
        ];
        let file = Optimizer::new(any.clone().in_wrappers(list));
        same_bits(
            &run::<f32>(Optimizer::new(chain), shape, 12),
            &run::<f32>(file, shape, 12),
            &what,
        );
    }
    W::NAME
}

/// A wrapper between clippings by norms: what is outside of the inner one is done on copies.
fn staged_by_type_and_by_file<C: Algorithm + Into<AnyAlgorithm>, W: Wrap + Into<AnyWrap>>(
    config: C,
    wrap: W,
) {
    let any: AnyAlgorithm = config.clone().into();
    let (inner, outer) = (ClipByNorm { max_norm: 0.3 }, Grokfast::default());
    for shape in SHAPES {
        let chain = config
            .clone()
            .ema(0.9)
            .wrap(inner.clone())
            .wrap(wrap.clone())
            .clip_by_global_norm(0.6)
            .wrap(outer.clone());
        let clip = ClipByGlobalNorm {
            max_norm: 0.6,
            ..Default::default()
        };
        let file = any.clone().in_wrappers([
            Ema {
                decay: 0.9,
                ..Default::default()
            }
            .into(),
            inner.clone().into(),
            wrap.clone().into(),
            clip.into(),
            outer.clone().into(),
        ]);
        same_bits(
            &run::<f64>(Optimizer::new(chain), shape, 12),
            &run::<f64>(Optimizer::new(file), shape, 12),
            &format!("{wrap:?} {shape:?}"),
        );
    }
}

#[test]
fn chains_by_type_and_by_file_are_the_same_bits() {
    let mut names = BTreeSet::new();
    names.insert(by_type_and_by_file(
        AdamW::default(),
        ClipByGlobalNorm {
            max_norm: 0.5,
            ..Default::default()
        },
    ));
    names.insert(by_type_and_by_file(
        AdamW::default(),
        ClipByNorm { max_norm: 0.5 },
    ));
    names.insert(by_type_and_by_file(
        AdamW {
            maximize: true,
            ..Default::default()
        },
        ClipByBlockRms { threshold: 0.1 },
    ));
    names.insert(by_type_and_by_file(
        AdamW::default(),
        AdaptiveClip::default(),
    ));
    names.insert(by_type_and_by_file(AdamW::default(), Centralize::default()));
    names.insert(by_type_and_by_file(AdamW::default(), Noise::default()));
    names.insert(by_type_and_by_file(
        Momentum {
            maximize: true,
            ..Default::default()
        },
        ScaleGradient { factor: 0.3 },
    ));
    names.insert(by_type_and_by_file(Momentum::default(), SignOfGradient {}));
    names.insert(by_type_and_by_file(Lamb::default(), Grokfast::default()));
    names.insert(by_type_and_by_file(
        Lion::default(),
        WeightDecay {
            weight_decay: 0.1,
            decoupled: true,
            ..Default::default()
        },
    ));
    names.insert(by_type_and_by_file(
        Lamb::default(),
        WeightDecay {
            weight_decay: 0.1,
            decoupled: false,
            ..Default::default()
        },
    ));
    names.insert(by_type_and_by_file(
        Adafactor::default(),
        Ema {
            decay: 0.9,
            ..Default::default()
        },
    ));
    names.insert(by_type_and_by_file(
        Sgd::default(),
        Lookahead {
            sync_period: 3,
            slow_step_size: 0.3,
        },
    ));
    names.insert(by_type_and_by_file(
        Sgd {
            lr: 0.1,
            ..Default::default()
        },
        Bounds {
            lower: Some(-0.1),
            upper: Some(0.2),
        },
    ));
    names.insert(by_type_and_by_file(
        Sgd {
            lr: 0.1,
            ..Default::default()
        },
        L1 { lambda: 0.5 },
    ));
    names.insert(by_type_and_by_file(Sgd::default(), KeepZeros {}));
    // These are part of every chain here, and of those in `around.rs`.
    names.extend(["clip_by_value", "swa", "watch"]);
    let all: BTreeSet<_> = AnyWrap::all().iter().map(AnyWrap::name).collect();
    assert_eq!(names, all);

    staged_by_type_and_by_file(AdamW::default(), AdaptiveClip::default());
    staged_by_type_and_by_file(Lamb::default(), Centralize::default());
    staged_by_type_and_by_file(Adafactor::default(), ScaleGradient { factor: 0.3 });
    let bounds = Bounds {
        lower: Some(-0.1),
        upper: Some(0.2),
    };
    staged_by_type_and_by_file(Momentum::new(0.1), bounds);
}

#[test]
fn neutral_wrappers_are_the_optimizer_itself() {
    let adam = || Adam {
        lr: 0.05,
        ..Default::default()
    };
    let plain = run::<f32>(Optimizer::new(adam()), &[40, 30], 11);
    let check = |optimizer: Optimizer<f32>, what: &str| {
        let (p, _) = run(optimizer, &[40, 30], 11);
        same_bits(&(p.clone(), p), &plain, what);
    };
    check(
        Optimizer::new(adam().lookahead(1, 1.0)),
        "lookahead with k = 1 and the whole way",
    );
    check(
        Optimizer::new(adam().lookahead(100, 0.5)),
        "lookahead that never comes to it",
    );
    check(
        Optimizer::new(adam().ema(0.9)),
        "an average changes nothing",
    );
    check(
        Optimizer::new(adam().clip_by_global_norm(1e9)),
        "a norm that is never reached",
    );
    check(
        Optimizer::new(adam().clip_by_value(1e9)),
        "a value that is never reached",
    );
    check(
        Optimizer::new(adam().wrap(Grokfast {
            lamb: 0.0,
            alpha: 0.9,
        })),
        "no weight for the slow gradient",
    );
    check(
        Optimizer::new(adam().wrap(Noise {
            eta: 0.0,
            ..Default::default()
        })),
        "no noise",
    );
    check(
        Optimizer::new(adam().wrap(Bounds {
            lower: None,
            upper: None,
        })),
        "no bounds",
    );
    check(
        Optimizer::new(adam().wrap(L1 { lambda: 0.0 })),
        "no penalty",
    );
}

#[test]
fn averages_are_those_of_the_iterates() {
    let shape = [5, 3];
    let mut optimizer = Optimizer::new(
        Adam {
            lr: 0.1,
            ..Default::default()
        }
        .ema(0.8),
    );
    let mut swa = Optimizer::new(
        Adam {
            lr: 0.1,
            ..Default::default()
        }
        .wrap(Swa { start: 4, every: 3 }),
    );
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
        let error = (&optimizer.evaluate(&p).unwrap() - &textbook).mapv(f64::abs);
        assert!(
            error
                .iter()
                .zip(&textbook)
                .all(|(&e, x)| e < 1e-14 * x.abs().max(1.0)),
            "{error}"
        );
    }
    // Steps 4, 7, 10 and 13.
    let mean = (&iterates[3] + &iterates[6] + &iterates[9] + &iterates[12]) / 4.0;
    assert!(
        (&swa.evaluate(&q).unwrap() - &mean)
            .iter()
            .all(|e| e.abs() < 1e-14)
    );
    // A constant stays what it is, exactly.
    let mut constant = Optimizer::new(Sgd::default().ema(0.9));
    let mut p = arr![0.1, 0.7];
    for _ in 0..50 {
        constant.update(&mut p, &arr![0.0, 0.0]).unwrap();
        assert_eq!(constant.evaluate(&p).unwrap(), arr![0.1, 0.7]);
    }
}

#[test]
fn a_parameter_and_its_average_can_be_swapped() {
    let mut optimizer = Optimizer::new(
        Sgd {
            lr: 0.1,
            ..Default::default()
        }
        .ema(0.5),
    );
    let mut p = arr![[1.0, 2.0], [3.0, 4.0]];
    assert!(matches!(
        optimizer.swap_average(&mut p),
        Err(Error::NoAverage { .. })
    ));
    for _ in 0..3 {
        optimizer
            .update(
                &mut p.view_mut().reversed_axes(),
                &arr![[1.0, 0.5], [1.0, 2.0]],
            )
            .unwrap();
    }
    let (before, average) = (p.clone(), optimizer.evaluate(&p.t()).unwrap());
    optimizer
        .swap_average(&mut p.view_mut().reversed_axes())
        .unwrap();
    assert_eq!(p.t(), average);
    assert_ne!(p, before);
    let refused = optimizer.update(
        &mut p.view_mut().reversed_axes(),
        &arr![[1.0, 0.5], [1.0, 2.0]],
    );
    assert_eq!(
        refused,
        Err(Error::Swapped {
            name: "variable".into()
        })
    );
    optimizer
        .swap_average(&mut p.view_mut().reversed_axes())
        .unwrap();
    assert_eq!(p, before);
    optimizer
        .update(
            &mut p.view_mut().reversed_axes(),
            &arr![[1.0, 0.5], [1.0, 2.0]],
        )
        .unwrap();
    let mut wrong = arr![1.0];
    assert!(matches!(
        optimizer.swap_average(&mut wrong),
        Err(Error::ShapeChanged { .. })
    ));
}

/// One step of plain descent with learning rate 1 shows the gradient it was given.
fn seen<W: Wrap>(wrap: W, p: &ArrayD<f64>, g: &ArrayD<f64>) -> ArrayD<f64> {
    let mut optimizer = Optimizer::new(
        Sgd {
            lr: 1.0,
            ..Default::default()
        }
        .wrap(wrap),
    );
    let mut new = p.clone();
    optimizer.update(&mut new, g).unwrap();
    p - &new
}

#[test]
fn clipping_by_norms_has_the_numbers_of_torch_and_optax() {
    let (p, g) = (arr![0.0, 0.0].into_dyn(), arr![3.0, 4.0].into_dyn());
    let close = |a: &ArrayD<f64>, b: [f64; 2]| {
        assert!(
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-15),
            "{a} {b:?}"
        )
    };
    let global = |norm, eps| ClipByGlobalNorm {
        max_norm: 1.0,
        norm,
        eps,
    };
    close(&seen(global(Norm::L2, 0.0), &p, &g), [0.6, 0.8]);
    close(
        &seen(global(Norm::L2, 1e-6), &p, &g),
        [0.599_999_880_000_024, 0.799_999_840_000_032],
    );
    close(&seen(global(Norm::L1, 0.0), &p, &g), [3.0 / 7.0, 4.0 / 7.0]);
    close(&seen(global(Norm::Max, 0.0), &p, &g), [0.75, 1.0]);
    close(&seen(ClipByNorm { max_norm: 2.5 }, &p, &g), [1.5, 2.0]);
    close(
        &seen(ClipByBlockRms { threshold: 0.5 }, &p, &g),
        [3.0 / 12.5_f64.sqrt() / 2.0, 4.0 / 12.5_f64.sqrt() / 2.0],
    );
    close(&seen(ClipByValue { max_value: 3.5 }, &p, &g), [3.0, 3.5]);
}

#[test]
fn a_global_norm_is_that_of_its_group_or_of_all_and_neither_overflows_nor_underflows() {
    fn norm_of<A: Element>(scale: f64, wrapped: bool) -> f64 {
        let (one, other) = (
            Momentum {
                lr: 1e-3,
                ..Default::default()
            },
            Momentum {
                lr: 0.5,
                ..Default::default()
            },
        );
        let mut optimizer = Optimizer::<A>::new(one);
        if wrapped {
            optimizer = Optimizer::new(one.clip_by_global_norm(scale));
            optimizer
                .add_group(Group::new("other", ["b"], other.clip_by_global_norm(scale)))
                .unwrap();
        } else {
            optimizer.clip = Some(ClipByGlobalNorm {
                max_norm: scale,
                ..Default::default()
            });
            optimizer
                .add_group(Group::new("other", ["b"], other))
                .unwrap();
        }
        let f = |x: f64| A::from_f64(x * scale);
        let (mut a, mut b) = (
            Array1::from_elem(2, A::ZERO),
            Array2::from_elem((2, 2), A::ZERO),
        );
        let (ga, gb) = (
            arr![f(1.0), f(-2.0)],
            arr![[f(2.0), f(0.0)], [f(0.0), f(4.0)]],
        );
        let mut params = Params::new();
        params
            .add("a", &mut a, &ga)
            .unwrap()
            .add_view("b", b.view_mut().reversed_axes(), gb.t())
            .unwrap();
        optimizer.step(params).unwrap();
        // m = 0.1 g / norm: both groups by the norm of both, or each by its own.
        let norm = optimizer.grad_norm().unwrap();
        let norms = if wrapped {
            [5.0_f64.sqrt(), 20.0_f64.sqrt()]
        } else {
            [5.0; 2]
        };
        let (first, last) = (a[0].f64() / -1e-3 / scale, b[[1, 1]].f64() / -0.5 / scale);
        assert!(
            (first - 0.1 / norms[0]).abs() < 1e-6 && (last - 0.1 * 4.0 / norms[1]).abs() < 1e-6,
            "{scale:e}: {first} {last}"
        );
        norm / scale
    }
    for wrapped in [false, true] {
        // That of the parameters in no group comes first.
        let expected = if wrapped { 5.0_f64.sqrt() } else { 5.0 };
        for scale in [1.0, 1e30, 1e-30, 1e37] {
            assert!(
                (norm_of::<f32>(scale, wrapped) - expected).abs() < 1e-5,
                "{scale:e}"
            );
        }
        for scale in [1.0, 1e30, 1e200, 1e-200, 1e307] {
            assert!(
                (norm_of::<f64>(scale, wrapped) - expected).abs() < 1e-14,
                "{scale:e}"
            );
        }
    }
    // What is not finite is not hidden.
    let wrapped = Optimizer::new(Sgd::default().clip_by_global_norm(1.0));
    let mut clipped = Optimizer::new(Sgd::default());
    clipped.clip = Some(ClipByGlobalNorm {
        max_norm: 1.0,
        ..Default::default()
    });
    for mut optimizer in [wrapped, clipped] {
        let mut p = arr![1.0, 1.0];
        optimizer.update(&mut p, &arr![f64::NAN, 1.0]).unwrap();
        assert!(p[0].is_nan() && optimizer.grad_norm().unwrap().is_nan());
    }
}

#[test]
fn clipping_over_all_groups_comes_before_that_of_wrappers() {
    let mut optimizer = Optimizer::new(
        Sgd {
            lr: 1.0,
            ..Default::default()
        }
        .clip_by_global_norm(0.5),
    );
    optimizer
        .add_group(Group::new(
            "plain",
            ["b"],
            Sgd {
                lr: 1.0,
                ..Default::default()
            },
        ))
        .unwrap();
    let mut step = |clip: Option<f64>| {
        optimizer.clip = clip.map(|max_norm| ClipByGlobalNorm {
            max_norm,
            ..Default::default()
        });
        let (mut a, mut b) = (arr![0.0], arr![0.0]);
        let mut params = Params::new();
        params
            .add_view("a", a.view_mut(), aview1(&[3.0]))
            .unwrap()
            .add_view("b", b.view_mut(), aview1(&[4.0]))
            .unwrap();
        optimizer.step(params).unwrap();
        // Without clipping over all groups the norm is that of the group in the wrapper.
        let norm = if clip.is_some() { 5.0 } else { 3.0 };
        assert_eq!(optimizer.grad_norm(), Some(norm));
        [-a[0], -b[0]].map(|x: f64| (x * 1e4).round() / 1e4)
    };
    assert_eq!(step(None), [0.5, 4.0]);
    assert_eq!(step(Some(1.0)), [0.5, 0.8]);
    assert_eq!(step(Some(0.25)), [0.15, 0.2]);
    assert_eq!(step(None), [0.5, 4.0]);
}

#[test]
fn clipping_ends_when_it_is_taken_away() {
    let mut sgd = Optimizer::new(Sgd {
        lr: 1.0,
        ..Default::default()
    });
    let mut step = |clip: Option<f64>| {
        sgd.clip = clip.map(|max_norm| ClipByGlobalNorm {
            max_norm,
            ..Default::default()
        });
        let mut p = arr![0.0, 0.0];
        let mut params = Params::new();
        params
            .add_view("p", p.view_mut(), aview1(&[3.0, 4.0]))
            .unwrap();
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
    let undecayed = AdamW {
        lr: 0.1,
        weight_decay: 0.0,
        ..Default::default()
    };
    optimizer
        .add_group(Group::new(
            "no_decay",
            ["bias"],
            undecayed.clip_by_value(0.5).ema(0.9),
        ))
        .unwrap();
    optimizer
        .add_group(Group::new(
            "plain",
            ["c"],
            Sgd {
                lr: 0.5,
                ..Default::default()
            },
        ))
        .unwrap();
    let (mut w, mut b, mut c) = (arr![1.0_f64], arr![1.0_f64], arr![1.0]);
    for _ in 0..2 {
        let mut params = Params::new();
        params
            .add_view("weight", w.view_mut(), aview1(&[9.0]))
            .unwrap()
            .add_view("bias", b.view_mut(), aview1(&[9.0]))
            .unwrap()
            .add_view("c", c.view_mut(), aview1(&[9.0]))
            .unwrap();
        optimizer.step(params).unwrap();
    }
    assert!(
        (w[0] - (1.0 - 0.11 - 0.1 - 0.01 * 0.89)).abs() < 1e-6 && (b[0] - 0.8).abs() < 1e-6,
        "{w} {b}"
    );
    optimizer.swap_average_param("bias", &mut b).unwrap();
    assert!(
        (b[0] - (0.9 * 0.1 * 0.9 + 0.1 * 0.8) / 0.19).abs() < 1e-6,
        "{b}"
    );
    // Another algorithm without wrappers: it neither clips nor averages.
    assert_eq!(c, arr![-8.0]);
    let none = optimizer.swap_average_param("c", &mut c);
    assert_eq!(none, Err(Error::NoAverage { name: "c".into() }));
}

#[test]
fn each_wrapper_is_its_formula() {
    let (p, g) = (numbers::<f64>(&[4, 3], 1), numbers::<f64>(&[4, 3], 2));
    let close = |a: ArrayD<f64>, b: ArrayD<f64>| {
        assert!((&a - &b).iter().all(|e| e.abs() < 1e-13), "{a}\n{b}")
    };
    close(seen(ScaleGradient { factor: 0.25 }, &p, &g), 0.25 * &g);
    close(seen(SignOfGradient {}, &p, &g), g.mapv(f64::signum));
    close(
        seen(
            WeightDecay {
                weight_decay: 0.1,
                decoupled: false,
                ..Default::default()
            },
            &p,
            &g,
        ),
        &g + 0.1 * &p,
    );
    close(
        seen(
            WeightDecay {
                weight_decay: 0.1,
                decoupled: true,
                ..Default::default()
            },
            &p,
            &g,
        ),
        &g + 0.1 * &p,
    );
    close(
        seen(
            Grokfast {
                alpha: 0.9,
                lamb: 2.0,
            },
            &p,
            &g,
        ),
        &g * (1.0 + 2.0 * 0.1),
    );
    close(
        seen(
            Bounds {
                lower: Some(-0.1),
                upper: Some(0.1),
            },
            &p,
            &g,
        ),
        &p - (&p - &g).mapv(|x| x.clamp(-0.1, 0.1)),
    );
    let shrunk = (&p - &g).mapv(|x| x.signum() * (x.abs() - 0.2).max(0.0));
    close(seen(L1 { lambda: 0.2 }, &p, &g), &p - &shrunk);
    // Centralised: every row sums to 0, and so every column with the other axis.
    for keep_axis in [0, 1] {
        let centred = seen(Centralize { keep_axis }, &p, &g);
        assert!(
            centred
                .sum_axis(Axis(1 - keep_axis))
                .iter()
                .all(|x| x.abs() < 1e-13)
        );
        close(&g - &centred - (&g - &centred), ArrayD::zeros(g.raw_dim()));
    }
    // Adaptive clipping, unit by unit.
    for unit_axis in [0, 1] {
        let clipped = seen(
            AdaptiveClip {
                clipping: 0.5,
                eps: 1e-3,
                unit_axis,
            },
            &p,
            &g,
        );
        let axis = Axis(unit_axis);
        for ((p, g), clipped) in p
            .axis_iter(axis)
            .zip(g.axis_iter(axis))
            .zip(clipped.axis_iter(axis))
        {
            let norm =
                |a: ndarray::ArrayViewD<'_, f64>| a.iter().map(|x| x * x).sum::<f64>().sqrt();
            let most = 0.5 * norm(p).max(1e-3);
            close(clipped.to_owned(), g.to_owned() * (most / norm(g)).min(1.0));
        }
    }
    // Cautious: the second step of momentum where the gradient has turned.
    let mut cautious = Optimizer::new(
        Momentum {
            lr: 1.0,
            beta: 0.5,
            ..Default::default()
        }
        .wrap(Cautious {}),
    );
    let mut p = arr![0.0, 0.0];
    cautious.update(&mut p, &arr![1.0, 1.0]).unwrap();
    cautious.update(&mut p, &arr![-0.1, 1.0]).unwrap();
    assert_eq!(p, arr![-0.5, -0.5 - 0.75]);
}

#[test]
fn noise_has_its_variance_and_depends_on_seed_step_name_and_place_alone() {
    let noise = |seed| Noise {
        eta: 0.04,
        gamma: 0.0,
        seed,
    };
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
    let mut sgd = Optimizer::new(
        Sgd {
            lr: 1.0,
            ..Default::default()
        }
        .wrap(noise(1)),
    );
    let g = Array2::<f64>::zeros((30, 20));
    let (mut p, mut q) = (g.clone(), g.t().to_owned());
    let mut params = Params::new();
    params
        .add("p", &mut p, &g)
        .unwrap()
        .add_view("q", q.view_mut().reversed_axes(), g.view())
        .unwrap();
    sgd.step(params).unwrap();
    assert_ne!(p, q.t());
    let mut again = Optimizer::new(
        Sgd {
            lr: 1.0,
            ..Default::default()
        }
        .wrap(noise(1)),
    );
    let mut turned = g.t().to_owned();
    let mut params = Params::new();
    params
        .add_view("p", turned.view_mut().reversed_axes(), g.view())
        .unwrap();
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
        let gaps: Vec<f64> = p
            .iter()
            .zip(&q)
            .filter(|(_, q)| **q > 0.0)
            .map(|(p, q)| p - q)
            .collect();
        assert!(gaps.iter().all(|gap| (gap - gaps[0]).abs() < 1e-12));
        assert!(p.iter().zip(&q).all(|(p, q)| p - q <= gaps[0] + 1e-12));
    }
}

#[test]
fn wrong_wrappers_are_errors_that_name_the_field() {
    let mut p = arr![1.0];
    let mut field = |mut optimizer: Optimizer<f64>| {
        let mut params = Params::new();
        params.add_view("p", p.view_mut(), aview1(&[1.0])).unwrap();
        match optimizer.step(params) {
            Err(Error::HyperParameter { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    let sgd = Sgd::default;
    assert_eq!(field(Optimizer::new(sgd().ema(1.0))), "decay");
    assert_eq!(
        field(Optimizer::new(sgd().clip_by_value(-1.0))),
        "max_value"
    );
    assert_eq!(
        field(Optimizer::new(sgd().clip_by_global_norm(f64::NAN))),
        "max_norm"
    );
    assert_eq!(
        field(Optimizer::new(sgd().lookahead(0, 0.5))),
        "sync_period"
    );
    assert_eq!(
        field(Optimizer::new(sgd().lookahead(1, -0.5))),
        "slow_step_size"
    );
    assert_eq!(
        field(Optimizer::new(sgd().wrap(Swa { start: 0, every: 1 }))),
        "start"
    );
    assert_eq!(field(Optimizer::new(sgd().bounds(1.0, 0.0))), "lower");
    // Two state arrays of one name, and more than there is room for.
    assert_eq!(field(Optimizer::new(sgd().ema(0.5).ema(0.9))), "wrap");
    let twice: [AnyWrap; 2] = [0.5, 0.9].map(|decay| {
        Ema {
            decay,
            ..Default::default()
        }
        .into()
    });
    assert_eq!(
        field(Optimizer::new(AnyAlgorithm::from(sgd()).in_wrappers(twice))),
        "wrap"
    );
    let four: [AnyWrap; 4] = [
        Ema::default().into(),
        Swa::default().into(),
        Lookahead::default().into(),
        Grokfast::default().into(),
    ];
    let amsgrad = Adam {
        amsgrad: true,
        ..Default::default()
    };
    assert_eq!(
        field(Optimizer::new(
            AnyAlgorithm::from(amsgrad).in_wrappers(four)
        )),
        "wrap"
    );
    let mut clipped = Optimizer::new(sgd());
    clipped.clip = Some(ClipByGlobalNorm {
        max_norm: -1.0,
        ..Default::default()
    });
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
    assert_eq!(sgd.evaluate(&p).unwrap(), p);
}

#[test]
fn of_two_wrappers_of_a_kind_the_outer_one_is_read_and_changed() {
    let chain = Sgd::new(0.1).clip_by_value(1.0).clip_by_value(2.0);
    let by_file = AnyAlgorithm::from(Sgd::new(0.1))
        .in_wrappers([1.0, 2.0].map(|value| ClipByValue { max_value: value }.into()));
    for mut optimizer in [Optimizer::<f64>::new(chain), Optimizer::new(by_file)] {
        assert_eq!(optimizer.algorithm::<ClipByValue>().unwrap().max_value, 2.0);
        assert_eq!(
            optimizer.algorithm_mut::<ClipByValue>().unwrap().max_value,
            2.0
        );
    }
}

#[test]
fn validation_finds_what_the_first_step_would_refuse() {
    let lookahead = || Lookahead::default().into();
    let twice = AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([lookahead(), lookahead()]);
    let found = twice.validate().unwrap_err();
    let mut p = arr![1.0];
    assert_eq!(Optimizer::new(twice).update(&mut p, &arr![1.0]), Err(found));
    assert_eq!(
        AnyAlgorithm::from(Sgd::new(0.1))
            .in_wrappers([lookahead()])
            .validate(),
        Ok(())
    );
}

#[test]
fn while_they_are_swapped_the_array_is_the_average() {
    let mut optimizer = Optimizer::new(Sgd::new(1.0).ema(0.5));
    let mut p = arr![1.0];
    optimizer.update(&mut p, &arr![1.0]).unwrap();
    optimizer.update(&mut p, &arr![1.0]).unwrap();
    let average = optimizer.evaluate(&p).unwrap();
    assert_ne!(average, p);
    optimizer.swap_average(&mut p).unwrap();
    assert_eq!(optimizer.evaluate(&p).unwrap(), p);
}

/// Any number of wrappers, several clippings among them.
#[test]
fn a_file_may_have_many_wrappers() {
    let halves = vec![ScaleGradient { factor: 0.5 }.into(); 12];
    let config = AnyAlgorithm::from(Sgd::new(1.0)).in_wrappers(halves);
    let mut p = arr![1.0, 2.0];
    Optimizer::new(config)
        .update(&mut p, &arr![4096.0, -8192.0])
        .unwrap();
    assert_eq!(p, arr![0.0, 4.0]);

    let clippings: Vec<AnyWrap> = (0..10)
        .map(|i| match i % 2 {
            0 => ClipByNorm {
                max_norm: 2.0 + f64::from(i),
            }
            .into(),
            _ => ClipByValue {
                max_value: 2.0 + f64::from(i),
            }
            .into(),
        })
        .collect();
    let config = AnyAlgorithm::from(Sgd::new(1.0)).in_wrappers(clippings);
    let mut p = arr![0.0, 0.0];
    Optimizer::new(config)
        .update(&mut p, &arr![0.0, 100.0])
        .unwrap();
    assert_eq!(p, arr![0.0, -2.0]);
}

/// What the gradients of two arrays become in a chain, the outermost wrapper last.
fn two_seen(wraps: Vec<AnyWrap>) -> [ArrayD<f64>; 2] {
    let mut optimizer = Optimizer::new(AnyAlgorithm::from(Sgd::new(1.0)).in_wrappers(wraps));
    let (mut a, mut b) = (arr![0.0, 0.0], arr![0.0, 0.0]);
    let mut params = Params::new();
    params
        .add_view("a", a.view_mut(), aview1(&[3.0, 4.0]))
        .unwrap()
        .add_view("b", b.view_mut(), aview1(&[0.0, 12.0]))
        .unwrap();
    optimizer.step(params).unwrap();
    [-a, -b].map(ndarray::ArrayBase::into_dyn)
}

#[test]
fn of_several_clippings_each_sees_what_the_ones_outside_of_it_leave() {
    let global = |max_norm| {
        ClipByGlobalNorm {
            max_norm,
            ..Default::default()
        }
        .into()
    };
    let each = |max_norm| ClipByNorm { max_norm }.into();
    let value = |max_value| ClipByValue { max_value }.into();
    let check = |wraps: Vec<AnyWrap>, a: [f64; 2], b: [f64; 2]| {
        let text = format!("{wraps:?}");
        for (found, expected) in two_seen(wraps).iter().flatten().zip([a, b].concat()) {
            assert!(
                (found - expected).abs() < 1e-14,
                "{text}: {found} {expected}"
            );
        }
    };
    // The norm of both is 13, those of each are 5 and 12.
    check(vec![global(6.5)], [1.5, 2.0], [0.0, 6.0]);
    check(vec![global(6.5), global(26.0)], [1.5, 2.0], [0.0, 6.0]);
    check(vec![global(3.25), global(6.5)], [0.75, 1.0], [0.0, 3.0]);
    check(vec![global(26.0), global(6.5)], [1.5, 2.0], [0.0, 6.0]);
    // Each array after all of them, and before.
    check(vec![each(2.0), global(6.5)], [1.2, 1.6], [0.0, 2.0]);
    let of_five = 1.0 / 50.0_f64.sqrt();
    check(
        vec![global(1.0), each(5.0)],
        [3.0 * of_five, 4.0 * of_five],
        [0.0, 5.0 * of_five],
    );
    check(
        vec![each(0.5), global(1.0), each(5.0)],
        [0.3, 0.4],
        [0.0, 0.5],
    );
    // Element by element in between and around.
    check(vec![each(2.5), value(4.0)], [1.5, 2.0], [0.0, 2.5]);
    check(vec![value(1.0), each(2.5)], [1.0, 1.0], [0.0, 1.0]);
    let third = 34.0_f64.sqrt();
    check(
        vec![global(1.0), value(3.0)],
        [3.0 / 27.0_f64.sqrt(), 3.0 / 27.0_f64.sqrt()],
        [0.0, 3.0 / 27.0_f64.sqrt()],
    );
    check(vec![value(2.0), global(13.0 / 2.0)], [1.5, 2.0], [0.0, 2.0]);
    check(
        vec![global(third), value(5.0), global(1e9)],
        [3.0 * third / 50.0_f64.sqrt(), 4.0 * third / 50.0_f64.sqrt()],
        [0.0, 5.0 * third / 50.0_f64.sqrt()],
    );
}

#[test]
fn the_norm_that_is_told_is_the_one_of_all_groups_where_there_is_one() {
    let inner = Sgd::new(1.0)
        .clip_by_global_norm(1.0)
        .wrap(ScaleGradient { factor: 0.5 });
    let mut optimizer = Optimizer::new(inner);
    let mut p = arr![0.0, 0.0];
    optimizer.update(&mut p, &arr![6.0, 8.0]).unwrap();
    assert_eq!(optimizer.grad_norm(), Some(5.0));
    optimizer.clip = Some(ClipByGlobalNorm {
        max_norm: 100.0,
        ..Default::default()
    });
    optimizer.update(&mut p, &arr![6.0, 8.0]).unwrap();
    assert_eq!(optimizer.grad_norm(), Some(10.0));
}

/// Each of two wrappers in optimizers of their own, one after the other, against the chain of both.
#[test]
fn the_inner_of_two_wrappers_sees_the_gradients_of_the_outer_one() {
    let descent = |wraps: Vec<AnyWrap>| {
        Optimizer::<f64>::new(AnyAlgorithm::from(Sgd::new(1.0)).in_wrappers(wraps))
    };
    // Those that change parameters after the step do not pass gradients on.
    let changes_gradients = |wrap: &AnyWrap| !["bounds", "l1", "lookahead"].contains(&wrap.name());
    let coupled = |wrap| match wrap {
        AnyWrap::WeightDecay(decay) => WeightDecay {
            decoupled: false,
            ..decay
        }
        .into(),
        other => other,
    };
    let all: Vec<_> = AnyWrap::all()
        .into_iter()
        .filter(changes_gradients)
        .map(coupled)
        .collect();
    let shape = [6, 5];
    for outer in &all {
        // Two of one kind would need a state array twice.
        for inner in all.iter().filter(|inner| inner.name() != outer.name()) {
            let mut both = descent(vec![inner.clone(), outer.clone()]);
            let mut apart = [outer, inner].map(|wrap| descent(vec![wrap.clone()]));
            let mut p = numbers::<f64>(&shape, 0);
            for t in 1..=5 {
                let mut g = numbers::<f64>(&shape, t);
                for optimizer in &mut apart {
                    let mut new = p.clone();
                    optimizer.update(&mut new, &g).unwrap();
                    g = &p - &new;
                }
                let expected = &p - &g;
                both.update(&mut p, &numbers(&shape, t)).unwrap();
                let close = p
                    .iter()
                    .zip(&expected)
                    .all(|(x, y)| (x - y).abs() <= 1e-12 * y.abs().max(1.0));
                assert!(close, "{inner:?} in {outer:?}: {p} {expected}");
            }
        }
    }
}

/// So do the norms and sums of the algorithms themselves.
#[test]
fn every_algorithm_sees_what_wrappers_make_of_gradients() {
    let shape = [6, 5];
    let centralized = |g: &ArrayD<f64>| {
        let mut g = g.clone();
        for mut row in g.axis_iter_mut(Axis(0)) {
            let mean = row.sum() / row.len() as f64;
            row.mapv_inplace(|g| g - mean);
        }
        g
    };
    for config in AnyAlgorithm::all() {
        let scale = || ScaleGradient { factor: 0.25 }.into();
        let centralize = || Centralize::default().into();
        let wrapped = |wraps: Vec<AnyWrap>| Optimizer::new(config.clone().in_wrappers(wraps));
        let mut plain = Optimizer::new(config.clone());
        let mut all = [
            wrapped(vec![scale(), centralize()]),
            wrapped(vec![centralize(), scale()]),
        ];
        let mut p = numbers::<f64>(&shape, 0);
        let mut q = [p.clone(), p.clone()];
        for t in 1..=5 {
            let g = numbers::<f64>(&shape, t);
            let given = 0.25 * &centralized(&g);
            plain.update_with_loss(&mut p, &given, 1.5).unwrap();
            for (optimizer, q) in all.iter_mut().zip(&mut q) {
                optimizer.update_with_loss(q, &g, 1.5).unwrap();
                let close = p
                    .iter()
                    .zip(&*q)
                    .all(|(x, y)| (x - y).abs() <= 1e-11 * x.abs().max(1.0));
                assert!(close, "{}, step {t}: {q} {p}", config.name());
            }
        }
    }
}

#[test]
fn decay_of_parameters_that_are_not_finite_is_the_same_by_type_and_by_file() {
    let start = arr![1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.0];
    for decoupled in [false, true] {
        for weight_decay in [0.0, 0.1] {
            let decay = WeightDecay {
                weight_decay,
                decoupled,
                ..Default::default()
            };
            let typed = Momentum::new(0.1).wrap(decay.clone());
            let file = AnyAlgorithm::from(Momentum::new(0.1)).in_wrappers([decay.into()]);
            let [typed, file] =
                [Optimizer::new(typed), Optimizer::new(file)].map(|mut optimizer| {
                    let mut p = start.clone();
                    for _ in 0..3 {
                        optimizer
                            .update(&mut p, &arr![1.0, -1.0, 1.0, 1.0, f64::INFINITY])
                            .unwrap();
                    }
                    p.mapv(|x| if x.is_nan() { u64::MAX } else { x.to_bits() })
                });
            assert_eq!(typed, file, "{weight_decay} {decoupled}");
        }
    }
}
