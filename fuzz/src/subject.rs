//! Optimizers to fuzz, and what is compared of them.
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use ndarray_optim::{
    AnyAlgorithm, AnyWrap, Optimizer, StateDict,
    kernel::Element,
    state::{Data, ElementType},
};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// `f32` or `f64`.
pub trait Real: Element {
    fn of_bits(bits: u64) -> Self;
    /// The bits, with one NaN for all: which one comes of arithmetic is not promised by the language.
    fn bits(self) -> u64;
}

macro_rules! real {
    ($($float:ident $bits:ident),*) => {$(
        impl Real for $float {
            fn of_bits(bits: u64) -> Self {
                $float::from_bits(bits as $bits)
            }
            fn bits(self) -> u64 {
                if self.is_nan() { u64::MAX } else { self.to_bits().into() }
            }
        }
    )*};
}
real!(f32 u32, f64 u64);

/// The bits of an array in row-major order.
pub fn bits<A: Real>(array: ArrayViewD<'_, A>) -> Vec<u64> {
    array.iter().map(|x| x.bits()).collect()
}

/// Everything that is remembered, comparable; NaNs are one.
pub fn remembered<A: Real>(optimizer: &Optimizer<A>) -> Vec<u8> {
    summary(optimizer.state_dict())
}

/// As [`remembered`], of a state.
pub fn summary(mut state: StateDict) -> Vec<u8> {
    fn one_nan(data: &mut Data) {
        match data {
            Data::F32(array) => array.mapv_inplace(|x| if x.is_nan() { f32::NAN } else { x }),
            Data::F64(array) => array.mapv_inplace(|x| if x.is_nan() { f64::NAN } else { x }),
        }
    }
    let number = |x: &mut f64| *x = if x.is_nan() { f64::NAN } else { *x };
    for param in &mut state.params {
        param.arrays.iter_mut().chain(&mut param.factors).for_each(|named| one_nan(&mut named.data));
        param.scalars.iter_mut().for_each(number);
    }
    if let Some(clip) = &mut state.clip {
        number(&mut clip.max_norm);
        number(&mut clip.eps);
    }
    state.groups.iter_mut().flat_map(|group| &mut group.scalars).flatten().for_each(number);
    if let Some(round) = &mut state.accumulation {
        number(&mut round.loss);
        round.means.iter_mut().for_each(|mean| one_nan(&mut mean.data));
    }
    state.to_bytes().expect("every state has bytes")
}

/// Loads a state, which has to say the same as `differences` and change nothing if it does not fit.
pub fn load<A: Real>(optimizer: &mut Optimizer<A>, state: &StateDict) -> bool {
    let (before, differences) = (remembered(optimizer), optimizer.differences(state));
    let loaded = optimizer.load_state_dict(state.view());
    assert_eq!(loaded.is_ok(), differences.is_empty(), "{loaded:?} {differences:?}");
    assert!(loaded.is_ok() || remembered(optimizer) == before, "a refused load has changed something");
    loaded.is_ok()
}

/// Goes on with what has been loaded: each parameter of a size that is worth it makes two steps, and the state is one that
/// loads again.
pub fn go_on<A: Real>(optimizer: &mut Optimizer<A>) {
    const MOST: usize = 200;
    let state = optimizer.state_dict();
    let small = |shape: &[usize]| shape.iter().all(|&n| n < MOST) && shape.iter().product::<usize>() < MOST;
    for param in state.params.iter().filter(|param| param.shape.len() <= 6 && small(&param.shape)).take(8) {
        let mut p = ArrayD::from_elem(IxDyn(&param.shape), A::of(0.25));
        let g = ArrayD::from_elem(IxDyn(&param.shape), A::of(-0.5));
        for _ in 0..2 {
            let before = (bits(p.view()), remembered(optimizer));
            let mut params = ndarray_optim::Params::new();
            params.loss(1.5).add(&*param.name, &mut p, &g).expect("the shapes are equal");
            if optimizer.step(params).is_err() {
                assert!(before == (bits(p.view()), remembered(optimizer)), "a refused step has changed something");
            }
        }
        let _ = optimizer.evaluation(&param.name, p.view());
        let _ = optimizer.swap_average(&param.name, p.view_mut());
    }
    again(optimizer);
}

/// What an optimizer says of its state builds one that says the same, through bytes.
fn again<A: Real>(optimizer: &Optimizer<A>) {
    let state = optimizer.state_dict();
    let bytes = state.to_bytes().expect("every state has bytes");
    let back = StateDict::from_bytes(&bytes).expect("bytes of a state are read");
    assert!(summary(back.clone()) == summary(state.clone()), "bytes of a state are another state");
    let same = Optimizer::<A>::from_state(back.view()).expect("an optimizer is built of its own state");
    assert!(remembered(&same) == summary(state), "an optimizer is not that of its state");
}

/// Steps with everything that has been loaded from outside.
pub fn use_anywhere(state: &StateDict) {
    match state.element {
        ElementType::F32 => use_as::<f32>(state),
        ElementType::F64 => use_as::<f64>(state),
    }
}

fn use_as<A: Real>(state: &StateDict) {
    if let Ok(mut optimizer) = Optimizer::<A>::from_state(state.view()) {
        assert!(load(&mut optimizer, state), "what is built of a state loads it");
        go_on(&mut optimizer);
    }
    // Into one that knows no parameters, of the same optimizer or of another.
    let own = state.groups.first().and_then(|group| group.algorithm.clone());
    let other = AnyAlgorithm::all().swap_remove(3);
    for algorithm in own.into_iter().chain([other]) {
        let mut optimizer = Optimizer::<A>::new(algorithm.clone());
        load(&mut optimizer, state);
        let mut optimizer = Optimizer::<A>::new(algorithm);
        if optimizer.load_matching(state.view()).is_ok() {
            go_on(&mut optimizer);
        }
    }
}

/// Numbers where arithmetic turns.
const NUMBERS: [f64; 16] =
    [0.0, -0.0, 1.0, -1.0, 0.5, 0.9, 0.999, 1e-8, 2.0, 1e300, -1e300, 5e-324, 1e-310, 1.797e308, 4503599627370497.5, 1e-30];

/// A number of arbitrary bits, or one that is likely to matter.
pub fn number(u: &mut Unstructured<'_>) -> Result<f64> {
    Ok(match u.int_in_range(0..=3)? {
        0 => f64::from_bits(u64::arbitrary(u)?),
        1 => f64::from(i16::arbitrary(u)?) / 256.0,
        2 => f64::from(f32::from_bits(u32::arbitrary(u)?)),
        _ => *u.choose(&[&NUMBERS[..], &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]].concat())?,
    })
}

static ALL: LazyLock<Vec<AnyAlgorithm>> = LazyLock::new(AnyAlgorithm::all);

const WRAPPERS: [&str; 17] = [
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_block_rms",
    "clip_by_value",
    "adaptive_clip",
    "centralize",
    "noise",
    "scale_gradient",
    "sign_of_gradient",
    "grokfast",
    "weight_decay",
    "ema",
    "swa",
    "lookahead",
    "bounds",
    "l1",
    "watch",
];

/// Any optimizer of the catalogue, now and then in wrappers, with some hyper-parameters that may be out of any range.
pub fn any_algorithm(u: &mut Unstructured<'_>) -> Result<AnyAlgorithm> {
    let base = u.choose(&ALL)?;
    let mut value = serde_json::to_value(base).expect("algorithms are JSON");
    let changes = u.int_in_range(0..=3)?;
    for _ in 0..changes {
        change(u, &mut value)?;
    }
    if u.ratio(1, 3)? {
        let mut list = Vec::new();
        for _ in 0..u.int_in_range(1..=3)? {
            let mut wrap = json!({"name": u.choose(&WRAPPERS)?});
            if u.ratio(1, 3)?
                && let Ok(known) = serde_json::from_value::<AnyWrap>(wrap.clone())
            {
                wrap = serde_json::to_value(known).expect("wrappers are JSON");
                change(u, &mut wrap)?;
            }
            list.push(wrap);
        }
        value = json!({"name": "composed", "inner": value, "wrap": list});
    }
    Ok(serde_json::from_value(value).unwrap_or_else(|_| base.clone()))
}

/// Another value for one of the keys, of a kind that the key can have.
pub fn change(u: &mut Unstructured<'_>, value: &mut Value) -> Result<()> {
    match value {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().filter(|key| *key != "name").cloned().collect();
            if !keys.is_empty() {
                let key = u.choose(&keys)?;
                change(u, &mut map[key])?;
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = u.choose_index(list.len())?;
            change(u, &mut list[at])?;
        }
        Value::Bool(flag) => *flag = !*flag,
        Value::Number(old) if old.is_u64() => {
            let whole = [0, 1, 2, 3, 100, 101, 1 << 20, 1 << 53, u64::MAX];
            *value = (if u.ratio(1, 4)? { u64::arbitrary(u)? } else { *u.choose(&whole)? }).into();
        }
        Value::Number(_) => *value = number(u)?.into(),
        Value::Null => *value = if bool::arbitrary(u)? { number(u)?.into() } else { u8::arbitrary(u)?.into() },
        Value::String(_) | Value::Array(_) => {}
    }
    Ok(())
}
