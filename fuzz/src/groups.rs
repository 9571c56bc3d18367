//! Groups and chains against the same by hand: each group as an optimizer of its own, without the
//! wrappers that change nothing, and with gradients that the others would make.
use crate::{
    bounded,
    subject::{Real, algorithm_alone, bits},
    trace,
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, Axis, IxDyn};
use ndarray_optim::{
    AnyAlgorithm, AnyWrap, Group, Optimizer, Outcome, Params, Select,
    wrap::{
        Bounds, Centralize, ClipByGlobalNorm, ClipByNorm, ClipByValue, Ema, Noise, ScaleGradient,
        Swa, Watch,
    },
};

/// Arrays whose means over all axes but the first are exact.
const SHAPES: [&[usize]; 6] = [&[3], &[2, 4], &[], &[8, 2], &[2, 2, 2], &[40]];

/// A group in the optimizer of all groups, and as an optimizer.
struct Twin<A: Real> {
    alone: Optimizer<A>,
    by_hand: ByHand,
    params: Vec<Param<A>>,
}

/// A parameter in the optimizer of all groups, and alone.
struct Param<A> {
    name: String,
    values: [ArrayD<A>; 2],
}

/// What a wrapper does with a gradient.
#[derive(Clone, Copy, Debug)]
enum ByHand {
    Nothing,
    Scale(f64),
    ClipByValue(f64),
    Centralize,
}

pub fn groups(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    bounded(0, (300_000_000, 0), || {
        let _ = if bool::arbitrary(&mut u) == Ok(true) {
            run::<f32>(&mut u)
        } else {
            run::<f64>(&mut u)
        };
    });
}

impl ByHand {
    fn any(u: &mut Unstructured<'_>) -> Result<ByHand> {
        Ok(match u.int_in_range(0..=5)? {
            0 => ByHand::Scale(f64::from(u.int_in_range(-8..=8)?).exp2()),
            1 => ByHand::ClipByValue(f64::from(u.int_in_range(0..=128)?) / 64.0),
            2 => ByHand::Centralize,
            _ => ByHand::Nothing,
        })
    }

    fn wrapper(self) -> Option<AnyWrap> {
        match self {
            ByHand::Nothing => None,
            ByHand::Scale(factor) => Some(ScaleGradient { factor }.into()),
            ByHand::ClipByValue(max_value) => Some(ClipByValue { max_value }.into()),
            ByHand::Centralize => Some(Centralize::default().into()),
        }
    }

    fn apply<A: Real>(self, g: &ArrayD<A>) -> ArrayD<A> {
        match self {
            ByHand::Nothing => g.clone(),
            ByHand::Scale(factor) => g.mapv(|g| A::from_f64(g.f64() * factor)),
            ByHand::ClipByValue(most) => g.mapv(|g| A::from_f64(g.f64().clamp(-most, most))),
            ByHand::Centralize if g.ndim() < 2 => g.clone(),
            ByHand::Centralize => {
                let mut g = g.clone();
                for mut row in g.axis_iter_mut(Axis(0)) {
                    let mean = row.iter().map(|g| g.f64()).sum::<f64>() / row.len() as f64;
                    row.mapv_inplace(|g| A::from_f64(g.f64() - mean));
                }
                g
            }
        }
    }
}

/// No bound: a run ends before its parameters are as large.
const LARGE: f64 = 1e30;

/// A wrapper that changes no parameter.
fn without_effect(u: &mut Unstructured<'_>, rank: usize) -> Result<AnyWrap> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Noise {
            eta: 0.0,
            ..Default::default()
        }
        .into(),
        1 => ScaleGradient { factor: 1.0 }.into(),
        2 => ClipByGlobalNorm {
            max_norm: LARGE,
            ..Default::default()
        }
        .into(),
        3 => ClipByNorm { max_norm: LARGE }.into(),
        4 => ClipByValue { max_value: LARGE }.into(),
        5 => Ema::default().into(),
        6 => Swa::default().into(),
        7 => Bounds {
            lower: Some(-LARGE),
            upper: Some(LARGE),
        }
        .into(),
        8 if rank < 2 => Centralize::default().into(),
        _ => Watch {}.into(),
    })
}

fn run<A: Real>(u: &mut Unstructured<'_>) -> Result<()> {
    let mut all = Optimizer::<A>::new(AnyAlgorithm::from(ndarray_optim::Sgd::default()));
    let mut twins = Vec::new();
    for k in 0..u.int_in_range(1..=3)? {
        let shapes = (0..u.int_in_range(1..=2)?)
            .map(|_| u.choose(&SHAPES).copied())
            .collect::<Result<Vec<_>>>()?;
        let (algorithm, by_hand) = (separate(algorithm_alone(u)?), ByHand::any(u)?);
        let rank = shapes.iter().map(|shape| shape.len()).max();
        let mut wrappers = Vec::new();
        for _ in 0..u.int_in_range(0..=2)? {
            wrappers.push(without_effect(u, rank.unwrap_or(0))?);
        }
        let at = u.int_in_range(0..=wrappers.len())?;
        if let Some(wrapper) = by_hand.wrapper() {
            wrappers.insert(at, wrapper);
        }
        let names = (0..shapes.len()).map(|i| format!("p{k}{i}"));
        let wrapped = algorithm.clone().in_wrappers(wrappers);
        trace(|| format!("{wrapped:?}"));
        let group = Group::new(format!("{k}"), Select::names(names.clone()), wrapped);
        if all.add_group(group).is_err() {
            return Ok(());
        }
        let mut params = Vec::new();
        for (name, shape) in names.zip(shapes) {
            let value = numbers(u, shape)?;
            let values = [value.clone(), value];
            params.push(Param { name, values });
        }
        twins.push(Twin {
            alone: Optimizer::new(algorithm),
            by_hand,
            params,
        });
    }
    for _ in 0..u.int_in_range(1..=6)? {
        if !step(u, &mut all, &mut twins)? {
            break;
        }
    }
    Ok(())
}

/// With an estimate for each group, where groups would share one.
fn separate(algorithm: AnyAlgorithm) -> AnyAlgorithm {
    let mut json = serde_json::to_value(&algorithm).unwrap_or_default();
    match json.get_mut("per_group") {
        Some(separate) => {
            *separate = true.into();
            serde_json::from_value(json).unwrap_or(algorithm)
        }
        None => algorithm,
    }
}

/// Small multiples of 1/64.
fn numbers<A: Real>(u: &mut Unstructured<'_>, shape: &[usize]) -> Result<ArrayD<A>> {
    let (mut x, step) = (i32::from(i8::arbitrary(u)?), i32::from(i8::arbitrary(u)?));
    Ok(ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        x = (x + step) % 128;
        A::from_f64(f64::from(x) / 64.0)
    }))
}

/// One step, of all groups at once and of each group alone. Returns whether it was applied.
fn step<A: Real>(
    u: &mut Unstructured<'_>,
    all: &mut Optimizer<A>,
    twins: &mut [Twin<A>],
) -> Result<bool> {
    let loss = f64::from(u.int_in_range(0..=9)?) / 4.0;
    let mut grads = Vec::new();
    for twin in &*twins {
        for param in &twin.params {
            grads.push(numbers::<A>(u, param.values[0].shape())?);
        }
    }
    let mut params = Params::new();
    params.loss(loss);
    let values = twins.iter_mut().flat_map(|twin| &mut twin.params);
    for (param, grad) in values.zip(&grads) {
        params
            .add(&*param.name, &mut param.values[0], grad)
            .expect("the shapes are equal");
    }
    let outcome = all.step(params);
    trace(|| format!("{grads:?}: {outcome:?}"));
    let mut grads = grads.iter();
    let mut outcomes = Vec::new();
    for twin in &mut *twins {
        let by_hand: Vec<_> = (grads.by_ref().take(twin.params.len()))
            .map(|grad| twin.by_hand.apply(grad))
            .collect();
        let mut params = Params::new();
        params.loss(loss);
        for (param, grad) in twin.params.iter_mut().zip(&by_hand) {
            params
                .add(&*param.name, &mut param.values[1], grad)
                .expect("the shapes are equal");
        }
        outcomes.push(twin.alone.step(params));
    }
    if outcome != Ok(Outcome::Applied) {
        let applied = outcomes.iter().all(|one| *one == Ok(Outcome::Applied));
        assert!(!applied, "each group alone makes this step: {outcome:?}");
        return Ok(false);
    }
    for (twin, outcome) in twins.iter().zip(outcomes) {
        assert_eq!(outcome, Ok(Outcome::Applied), "alone");
        let large = |x: &A| x.f64().is_nan() || x.f64().abs() >= LARGE;
        if twin
            .params
            .iter()
            .any(|param| param.values[1].iter().any(large))
        {
            return Ok(false);
        }
        for Param { name, values } in &twin.params {
            let [together, alone] = [0, 1].map(|i| bits(values[i].view()));
            assert_eq!(
                together, alone,
                "`{name}` is {}, and by hand {}",
                values[0], values[1]
            );
        }
    }
    Ok(true)
}
