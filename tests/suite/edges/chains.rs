//! The order of wrappers means what it says.

use crate::common::numbers;
use ndarray::{Array1, ArrayD, Axis, Zip, array};
use ndarray_optim::{
    algorithm::{Algorithm, Element},
    wrap::{
        AdaptiveClip, Bounds, Centralize, ClipByBlockRms, ClipByGlobalNorm, ClipByNorm,
        ClipByValue, Ema, Grokfast, L1, Lookahead, Noise, ScaleGradient, SignOfGradient, Swa,
        Watch, WeightDecay,
    },
    *,
};

/// Huge and finite in `f32` as in `f64`.
const HUGE: f64 = 1e30;

fn close(found: &ArrayD<f64>, expected: &ArrayD<f64>, what: &str) {
    let near = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-14 * y.abs().max(1.0);
    assert!(
        found.shape() == expected.shape() && found.iter().zip(expected).all(near),
        "{what}: {found} instead of {expected}"
    );
}

/// What a chain of wrappers, from the inside out, makes of a gradient.
fn seen(wraps: Vec<AnyWrap>, p: &ArrayD<f64>, g: &ArrayD<f64>) -> (ArrayD<f64>, Option<f64>) {
    let chain = AnyAlgorithm::from(Sgd::new(1.0)).in_wrappers(wraps);
    let mut optimizer = Optimizer::new(chain);
    let mut new = p.clone();
    optimizer.update(&mut new, g).unwrap();
    (p - &new, optimizer.grad_norm())
}

fn clip(max_norm: f64) -> ClipByGlobalNorm {
    ClipByGlobalNorm {
        max_norm,
        ..Default::default()
    }
}

/// torch's and optax's.
#[test]
fn centralizing_a_vector_under_nadam_changes_nothing() {
    let nadam = || NAdam {
        lr: 0.1,
        ..Default::default()
    };
    let by_type = nadam().wrap(Centralize::default());
    let by_file = AnyAlgorithm::from(nadam()).in_wrappers([Centralize::default().into()]);
    for mut optimizer in [Optimizer::new(by_type), Optimizer::new(by_file)] {
        let mut p = array![1.0_f64, 2.0, 3.0];
        for _ in 0..5 {
            optimizer.update(&mut p, &array![0.5, -0.25, 1.0]).unwrap();
        }
        let expected = array![0.595, 2.405, 2.595];
        assert!((&p - &expected).iter().all(|e| e.abs() < 5e-4), "{p}");
    }
}

/// The first step of schedule-free gradient descent is that of gradient descent.
#[test]
fn noise_of_no_size_lets_schedule_free_descent_move() {
    let free = ScheduleFreeSgd::new(0.5);
    let noise = Noise {
        eta: 0.0,
        ..Default::default()
    };
    for chain in [
        Optimizer::new(free.wrap(noise.clone())),
        Optimizer::new(AnyAlgorithm::from(free).in_wrappers([noise.into()])),
    ] {
        let (mut optimizer, mut p) = (chain, array![1.0, 2.0]);
        optimizer.update(&mut p, &array![0.5, -1.0]).unwrap();
        assert_eq!(p, array![0.75, 2.5]);
        assert_eq!(optimizer.evaluate(&p).unwrap(), p);
    }
}

#[test]
fn a_loss_scale_is_taken_back_before_the_norm_is_clipped() {
    let scale = ScaleGradient {
        factor: 1.0 / 65536.0,
    };
    let by_type = Sgd::new(1.0).wrap(clip(1.0)).wrap(scale.clone());
    let by_file = AnyAlgorithm::from(Sgd::new(1.0)).in_wrappers([clip(1.0).into(), scale.into()]);
    for mut optimizer in [Optimizer::new(by_type), Optimizer::new(by_file)] {
        let mut p = array![0.0_f32, 0.0];
        let g = 65536.0_f32 * &array![3.0, 4.0];
        optimizer.update(&mut p, &g).unwrap();
        let error = &p - &array![-0.6, -0.8];
        assert!(error.iter().all(|e| e.abs() < 1e-7), "{p}");
        assert_eq!(optimizer.grad_norm(), Some(5.0));
    }
    // The other order: first clipped, then scaled.
    let (g, norm) = seen(
        vec![ScaleGradient { factor: 0.5 }.into(), clip(1.0).into()],
        &array![0.0, 0.0].into_dyn(),
        &array![3.0, 4.0].into_dyn(),
    );
    close(&g, &array![0.3, 0.4].into_dyn(), "clipped, then scaled");
    assert_eq!(norm, Some(5.0));
}

/// `optax.chain` of the same.
#[test]
fn a_clip_sees_decayed_and_centralized_gradients() {
    let decay = WeightDecay {
        weight_decay: 1.0,
        decoupled: false,
        ..Default::default()
    };
    let (g, norm) = seen(
        vec![clip(4.0).into(), decay.into()],
        &array![3.0, 4.0].into_dyn(),
        &array![0.0, 0.0].into_dyn(),
    );
    close(&g, &array![2.4, 3.2].into_dyn(), "decay, then clip");
    assert_eq!(norm, Some(5.0));
    let (g, norm) = seen(
        vec![clip(1.0).into(), Centralize::default().into()],
        &array![[0.0, 0.0]].into_dyn(),
        &array![[10.0, 20.0]].into_dyn(),
    );
    let half = 0.5_f64.sqrt();
    close(&g, &array![[-half, half]].into_dyn(), "centralize, clip");
    assert_eq!(norm, Some(50.0_f64.sqrt()));
}

/// `optax.adaptive_grad_clip`.
#[test]
fn adaptive_clipping_takes_a_vector_as_one_unit() {
    let clipped = |clipping, p: ArrayD<f64>, g: ArrayD<f64>, unit_axis| {
        let wrap = AdaptiveClip {
            clipping,
            eps: 1e-3,
            unit_axis,
        };
        seen(vec![wrap.into()], &p, &g).0
    };
    for unit_axis in [0, 1, 9] {
        let p = || Array1::from(vec![1.0, 1e-3]).into_dyn();
        let found = clipped(0.01, p(), array![0.01, 0.01].into_dyn(), unit_axis);
        let expected = array![0.007_071_071_347_398_498, 0.007_071_071_347_398_498];
        close(&found, &expected.into_dyn(), "a vector");
        // Axes of length 1 do not count.
        let long = array![0.022_164_531_887_660_67, 0.002_955_270_918_354_756_2, 0.0];
        for shape in [
            vec![3],
            vec![3, 1],
            vec![1, 3],
            vec![1, 1, 3],
            vec![1, 3, 1],
        ] {
            let shaped = |a: Array1<f64>| a.into_shape_with_order(&shape[..]).unwrap();
            let (p, g) = (array![1.0, 1e-3, -2.0], array![0.3, 0.04, 0.0]);
            let found = clipped(0.01, shaped(p), shaped(g), unit_axis);
            close(&found, &shaped(long.clone()), &format!("{shape:?}"));
        }
        let scalar = |x| ndarray::arr0(x).into_dyn();
        let found = clipped(0.01, scalar(1e-9), scalar(-3.0), unit_axis);
        close(&found, &scalar(-1e-5), "a scalar");
    }
    // Of a matrix in optax's layout, each column is a unit.
    let found = clipped(
        0.5,
        array![[1.0, 2.0], [0.5, -3.0], [4.0, 0.1]].into_dyn(),
        array![[3.0, 0.01], [0.2, 0.01], [1.0, -0.02]].into_dyn(),
        1,
    );
    let expected = array![
        [1.966_160_434_092_203_4, 0.01],
        [0.131_077_362_272_813_58, 0.01],
        [0.655_386_811_364_067_8, -0.02]
    ];
    close(&found, &expected.into_dyn(), "a matrix");
}

#[test]
fn adaptive_clipping_holds_for_norms_whose_squares_overflow_or_vanish() {
    let wrap = || AdaptiveClip {
        clipping: 0.01,
        eps: 0.0,
        unit_axis: 0,
    };
    for size in [1.0, 1e200, 1e-200, 1e300, 1e-300] {
        let p: ArrayD<f64> = size * &array![0.6, 0.8].into_dyn();
        // A larger gradient would not change such a parameter visibly: to see it, it is scaled.
        let mut new = p.clone();
        let sgd = Sgd::new(100.0).wrap(wrap());
        Optimizer::new(sgd).update(&mut new, &p).unwrap();
        let left = new.mapv(|x| x.abs() / size);
        assert!(left.iter().all(|&x| x < 1e-14), "{size:e}: {new}");
    }
    // What is not finite is not hidden.
    let mut p = array![1.0, 2.0];
    let sgd = Sgd::new(1.0).wrap(wrap());
    Optimizer::new(sgd)
        .update(&mut p, &array![f64::INFINITY, 0.5])
        .unwrap();
    assert_eq!(p, array![f64::NEG_INFINITY, 1.5]);
}

/// Wrappers that change nothing for gradients of any size.
fn neutral() -> Vec<AnyWrap> {
    let mut all: Vec<AnyWrap> = vec![
        clip(HUGE).into(),
        ClipByNorm { max_norm: HUGE }.into(),
        ClipByBlockRms { threshold: HUGE }.into(),
        ClipByValue { max_value: HUGE }.into(),
        AdaptiveClip {
            clipping: HUGE,
            ..Default::default()
        }
        .into(),
        Noise {
            eta: 0.0,
            ..Default::default()
        }
        .into(),
        ScaleGradient { factor: 1.0 }.into(),
        Grokfast {
            lamb: 0.0,
            ..Default::default()
        }
        .into(),
        Lookahead {
            sync_period: 2,
            slow_step_size: 1.0,
        }
        .into(),
        Bounds {
            lower: None,
            upper: None,
        }
        .into(),
        L1 { lambda: 0.0 }.into(),
        Ema::default().into(),
        Swa::default().into(),
        Watch {}.into(),
        // For vectors.
        Centralize::default().into(),
        // For gradients of 1, 0 and -1.
        SignOfGradient {}.into(),
    ];
    all.extend([false, true].map(|decoupled| {
        let weight_decay = 0.0;
        WeightDecay {
            weight_decay,
            decoupled,
            ..Default::default()
        }
        .into()
    }));
    all
}

/// The arrays of a step: two of the group in the wrapper, and one of another group.
struct Arrays<A> {
    names: [&'static str; 3],
    params: Vec<ArrayD<A>>,
}

/// Shapes of the two arrays in the wrapper.
const VECTORS: [&[usize]; 2] = [&[7], &[]];
const MATRICES: [&[usize]; 2] = [&[4, 3], &[2, 3, 2]];

impl<A: Element> Arrays<A> {
    fn new(shapes: [&[usize]; 2]) -> Self {
        let [a, b] = shapes;
        let shapes = [a, b, &[3, 2]].into_iter().zip(1..);
        Arrays {
            names: ["a", "b", "other"],
            params: shapes.map(|(shape, seed)| numbers(shape, seed)).collect(),
        }
    }

    fn step(&mut self, optimizer: &mut Optimizer<A>, grads: &[ArrayD<A>]) -> Result<(), Error> {
        let mut step = Params::new();
        for ((name, p), g) in self.names.into_iter().zip(&mut self.params).zip(grads) {
            step.add(name, p, g)?;
        }
        step.loss(1.5);
        optimizer.step(step).map(|_| ())
    }

    fn bits(&self) -> Vec<u64> {
        let all = self.params.iter().flatten();
        all.map(|x| x.f64().to_bits()).collect()
    }
}

/// Gradients of signs, or with some zeros.
fn gradient<A: Element>(shape: &[usize], seed: u64, signs: bool) -> ArrayD<A> {
    let whole: ArrayD<A> = numbers(shape, seed);
    whole.mapv(|g| match g.f64() {
        g if g.abs() < 0.1 => A::from_f64(0.0),
        g if signs => A::from_f64(g.signum()),
        _ => g,
    })
}

/// The bits after each step, with the other group under NAdam, whose kernel depends on scalars.
fn run<A: Element>(
    recipe: impl Into<algorithm::Recipe<A>>,
    shapes: [&[usize]; 2],
    signs: bool,
) -> Result<Vec<Vec<u64>>, Error> {
    let mut optimizer = Optimizer::new(recipe);
    optimizer.add_group(Group::new("other", ["other"], NAdam::new(0.05)))?;
    let mut arrays = Arrays::new(shapes);
    let mut all = Vec::new();
    for t in 1..=4 {
        let params = arrays.params.iter().zip(0..);
        let grads: Vec<_> = params
            .map(|(p, k)| gradient(p.shape(), 10 * t + k, signs))
            .collect();
        arrays.step(&mut optimizer, &grads)?;
        all.push(arrays.bits());
    }
    Ok(all)
}

/// Whether a wrapper of [`neutral`] changes nothing for these shapes and gradients.
fn is_neutral(wrap: &AnyWrap, shapes: [&[usize]; 2], signs: bool) -> bool {
    match wrap {
        AnyWrap::Centralize(_) => shapes == VECTORS,
        AnyWrap::SignOfGradient(_) => signs,
        _ => true,
    }
}

fn neutral_wrappers_change_nothing<A: Element>(shapes: [&[usize]; 2], signs: bool) -> usize {
    let mut count = 0;
    let stateless =
        |wrap: &AnyWrap| !["grokfast", "lookahead", "ema", "swa"].contains(&wrap.name());
    let wraps: Vec<_> = neutral()
        .into_iter()
        .filter(|wrap| is_neutral(wrap, shapes, signs))
        .collect();
    let chain: Vec<_> = wraps
        .iter()
        .filter(|wrap| stateless(wrap))
        .cloned()
        .collect();
    let mut chains: Vec<_> = wraps.iter().map(|wrap| vec![wrap.clone()]).collect();
    chains.push(chain.iter().rev().cloned().collect());
    chains.push(chain);
    for wrap in wraps.iter().filter(|wrap| !stateless(wrap)) {
        let noise = Noise {
            eta: 0.0,
            ..Default::default()
        };
        chains.push(vec![clip(HUGE).into(), wrap.clone(), noise.into()]);
    }
    for algorithm in AnyAlgorithm::all() {
        // Not every algorithm takes every shape.
        let Ok(plain) = run::<A>(algorithm.clone(), shapes, signs) else {
            continue;
        };
        count += 1;
        for chain in &chains {
            let wrapped = algorithm.clone().in_wrappers(chain.clone());
            let found = run::<A>(wrapped, shapes, signs).unwrap();
            assert!(
                found == plain,
                "{} in {chain:?}, {shapes:?}",
                algorithm.name()
            );
        }
    }
    count
}

#[test]
fn a_wrapper_that_changes_nothing_changes_no_bit() {
    for shapes in [VECTORS, MATRICES] {
        for signs in [false, true] {
            let f64 = neutral_wrappers_change_nothing::<f64>(shapes, signs);
            let f32 = neutral_wrappers_change_nothing::<f32>(shapes, signs);
            println!("{shapes:?}: {f64}, {f32}");
            assert!(f64 >= 50 && f32 == f64, "{f64} {f32}");
        }
    }
}

/// The same by type, for all wrappers of whole arrays and an element-wise one on either side.
fn neutral_by_type<C: Algorithm + Default>() {
    fn check<A: Element, C: Algorithm + Default>() {
        let noise = Noise {
            eta: 0.0,
            ..Default::default()
        };
        let one = || ScaleGradient { factor: 1.0 };
        let chain = C::default()
            .wrap(one())
            .wrap(Centralize::default())
            .wrap(one())
            .wrap(noise);
        for signs in [false, true] {
            let plain = run::<A>(C::default(), VECTORS, signs).unwrap();
            let found = run::<A>(chain.clone(), VECTORS, signs).unwrap();
            assert!(found == plain, "{}", C::NAME);
        }
    }
    check::<f32, C>();
    check::<f64, C>();
}

/// Algorithms whose kernels depend on scalars or sums.
#[test]
fn a_wrapper_by_type_that_changes_nothing_changes_no_bit() {
    macro_rules! each {
        ($($name:ident)*) => {
            $(neutral_by_type::<$name>();)*
        };
    }
    each! {
        NAdam ScheduleFreeSgd ScheduleFreeAdamW NovoGrad Lamb Lars Fromage PolyakSgd Momo Prodigy
        DAdaptAdamW Dog Dowg Mars Adan Adafactor
    }
}

/// The gradients of a step as a wrapper's formula makes them.
fn by_hand(wrap: &AnyWrap, p: &[ArrayD<f64>], g: &mut [ArrayD<f64>], slow: &mut [ArrayD<f64>]) {
    let norm = |g: &ArrayD<f64>| g.iter().map(|g| g * g).sum::<f64>().sqrt();
    match wrap {
        AnyWrap::ClipByGlobalNorm(clip) => {
            let norm = g.iter().map(norm).map(|n| n * n).sum::<f64>().sqrt();
            assert!(norm > clip.max_norm);
            g.iter_mut().for_each(|g| *g *= clip.max_norm / norm);
        }
        AnyWrap::ClipByNorm(clip) => {
            for g in g {
                *g *= (clip.max_norm / norm(g)).min(1.0);
            }
        }
        AnyWrap::ClipByBlockRms(clip) => {
            for g in g {
                let rms = norm(g) / (g.len() as f64).sqrt();
                *g /= (rms / clip.threshold).max(1.0);
            }
        }
        AnyWrap::ClipByValue(clip) => {
            let most = clip.max_value;
            g.iter_mut()
                .for_each(|g| g.mapv_inplace(|g| g.clamp(-most, most)));
        }
        AnyWrap::AdaptiveClip(clip) => {
            for (p, g) in p.iter().zip(g) {
                let units = if p.ndim() < 2 { 1 } else { p.len_of(Axis(0)) };
                for unit in 0..units {
                    let of = |a: &ArrayD<f64>| match a.ndim() {
                        0 | 1 => a.clone(),
                        _ => a.index_axis(Axis(0), unit).to_owned(),
                    };
                    let most = clip.clipping * norm(&of(p)).max(clip.eps);
                    let factor = (most / norm(&of(g))).min(1.0);
                    match g.ndim() {
                        0 | 1 => *g *= factor,
                        _ => g.index_axis_mut(Axis(0), unit).mapv_inplace(|g| g * factor),
                    }
                }
            }
        }
        AnyWrap::Centralize(_) => {
            for g in g.iter_mut().filter(|g| g.ndim() > 1) {
                for mut row in g.axis_iter_mut(Axis(0)) {
                    let mean = row.sum() / row.len() as f64;
                    row.mapv_inplace(|g| g - mean);
                }
            }
        }
        AnyWrap::ScaleGradient(scale) => g.iter_mut().for_each(|g| *g *= scale.factor),
        AnyWrap::SignOfGradient(_) => g.iter_mut().for_each(|g| {
            g.mapv_inplace(|g| if g == 0.0 { 0.0 } else { g.signum() });
        }),
        AnyWrap::Grokfast(fast) => {
            for (g, slow) in g.iter_mut().zip(slow) {
                *slow = fast.alpha * &*slow + (1.0 - fast.alpha) * &*g;
                Zip::from(g)
                    .and(slow)
                    .for_each(|g, &mut h| *g += fast.lamb * h);
            }
        }
        AnyWrap::WeightDecay(decay) if !decay.decoupled => {
            for (g, p) in g.iter_mut().zip(p) {
                Zip::from(g)
                    .and(p)
                    .for_each(|g, p| *g += decay.weight_decay * p);
            }
        }
        other => panic!("{other:?} does not transform gradients"),
    }
}

#[test]
fn every_algorithm_in_a_wrapper_is_that_algorithm_fed_by_hand() {
    let coupled = WeightDecay {
        weight_decay: 0.3,
        decoupled: false,
        ..Default::default()
    };
    let wraps: Vec<AnyWrap> = vec![
        clip(0.3).into(),
        ClipByNorm { max_norm: 0.4 }.into(),
        ClipByBlockRms { threshold: 0.3 }.into(),
        ClipByValue { max_value: 0.5 }.into(),
        AdaptiveClip {
            clipping: 0.4,
            ..Default::default()
        }
        .into(),
        Centralize::default().into(),
        ScaleGradient { factor: -0.3 }.into(),
        SignOfGradient {}.into(),
        Grokfast {
            alpha: 0.8,
            lamb: 2.0,
        }
        .into(),
        coupled.clone().into(),
    ];
    let outside: [Option<AnyWrap>; 3] = [
        None,
        Some(coupled.into()),
        Some(Centralize::default().into()),
    ];
    let chains: Vec<Vec<AnyWrap>> = wraps
        .iter()
        .flat_map(|wrap| {
            outside
                .iter()
                .map(|outside| (wrap.clone(), outside.clone()))
        })
        .map(|(wrap, outside)| [wrap].into_iter().chain(outside).collect())
        .collect();
    for shapes in [VECTORS, MATRICES] {
        let mut count = 0;
        for algorithm in AnyAlgorithm::all() {
            if run::<f64>(algorithm.clone(), shapes, false).is_err() {
                continue;
            }
            count += 1;
            // `maximize` negates the gradient before the wrappers.
            for chain in &chains {
                // The eigenvectors of its null space are those of the rounding errors.
                let centralized = chain.iter().any(|wrap| wrap.name() == "centralize");
                if algorithm.name() == "soap" && centralized && shapes == MATRICES {
                    continue;
                }
                let group = || Group::new("other", ["other"], NAdam::new(0.05));
                let mut fed = Optimizer::new(algorithm.clone());
                let wrapped = algorithm.clone().in_wrappers(chain.clone());
                let mut wrapped = Optimizer::new(wrapped);
                fed.add_group(group()).unwrap();
                wrapped.add_group(group()).unwrap();
                let (mut p, mut q) = (Arrays::new(shapes), Arrays::new(shapes));
                let zeros = |p: &Arrays<f64>| -> Vec<_> {
                    p.params
                        .iter()
                        .map(|p| ArrayD::zeros(p.raw_dim()))
                        .collect()
                };
                let mut slow: Vec<_> = chain.iter().map(|_| zeros(&p)).collect();
                for t in 1..=4 {
                    let grads: Vec<ArrayD<f64>> = (p.params.iter().zip(0..))
                        .map(|(p, k)| gradient(p.shape(), 10 * t + k, false))
                        .collect();
                    let mut given = grads.clone();
                    for (wrap, slow) in chain.iter().zip(&mut slow).rev() {
                        by_hand(wrap, &p.params[..2], &mut given[..2], &mut slow[..2]);
                    }
                    p.step(&mut fed, &given).unwrap();
                    q.step(&mut wrapped, &grads).unwrap();
                    let near = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-10 * x.abs().max(1.0);
                    for (p, q) in p.params.iter().zip(&q.params) {
                        assert!(
                            p.iter().zip(q).all(near),
                            "{} in {chain:?}, step {t}: {q} instead of {p}",
                            algorithm.name()
                        );
                    }
                }
            }
        }
        assert!(count >= 50, "{count}");
    }
}
