//! Optimizers to fuzz, and how they are compared.
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use ndarray_optim::{
    Adam, AnyAlgorithm, AnySchedule, AnyWrap, Optimizer, Params, StateDict,
    algorithm::{Element, Field, Interval, Scalars},
    state::{Data, ElementType, ParamState},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Write, sync::LazyLock};

/// `f32` or `f64`.
pub trait Real: Element {
    fn of_bits(bits: u64) -> Self;
    /// The bits, the same for every NaN: the language does not specify which one arithmetic
    /// returns.
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

/// The state as bytes to compare, with one NaN for all.
pub fn state_bytes<A: Real>(optimizer: &Optimizer<A>) -> Vec<u8> {
    summary(optimizer.state_dict())
}

/// As [`state_bytes`], for a state.
pub fn summary(mut state: StateDict) -> Vec<u8> {
    fn one_nan(data: &mut Data) {
        match data {
            Data::F32(array) => array.mapv_inplace(|x| if x.is_nan() { f32::NAN } else { x }),
            Data::F64(array) => array.mapv_inplace(|x| if x.is_nan() { f64::NAN } else { x }),
            _ => panic!("no other element type"),
        }
    }
    let number = |x: f64| if x.is_nan() { f64::NAN } else { x };
    let scalars = |all: Scalars| Scalars::new([0, 1, 2, 3].map(|i| number(all[i])));
    for param in &mut state.params {
        param
            .arrays
            .iter_mut()
            .chain(&mut param.factors)
            .for_each(|named| one_nan(&mut named.data));
        param.scalars = scalars(param.scalars);
    }
    if let Some(clip) = &mut state.clip {
        (clip.max_norm, clip.eps) = (number(clip.max_norm), number(clip.eps));
    }
    for group in &mut state.groups {
        group.scalars = group.scalars.map(scalars);
    }
    if let Some(round) = &mut state.accumulation {
        round.loss = number(round.loss);
        round
            .means
            .iter_mut()
            .for_each(|mean| one_nan(&mut mean.data));
    }
    // As text, because not every format takes every number that a program can set.
    let mut text = String::new();
    for group in &mut state.groups {
        let _ = writeln!(text, "{:?}", group.algorithm.take());
    }
    let mut bytes = postcard::to_stdvec(&state).expect("everything else can be written");
    bytes.extend(text.bytes());
    bytes
}

/// Loads a state. The result must agree with `differences`, and a failed load must change nothing.
pub fn load<A: Real>(optimizer: &mut Optimizer<A>, state: &StateDict) -> bool {
    let (before, differences) = (state_bytes(optimizer), optimizer.differences(state));
    let loaded = optimizer.load_state_dict(state.view());
    assert_eq!(
        loaded.is_ok(),
        differences.is_empty(),
        "{loaded:?} {differences:?}"
    );
    assert!(
        loaded.is_ok() || state_bytes(optimizer) == before,
        "a failed load has changed something"
    );
    loaded.is_ok()
}

/// Continues with a loaded state: each small parameter makes two steps, and the state loads again.
pub fn go_on<A: Real>(optimizer: &mut Optimizer<A>) {
    const MOST: usize = 200;
    let state = optimizer.state_dict();
    let small =
        |shape: &[usize]| shape.iter().all(|&n| n < MOST) && shape.iter().product::<usize>() < MOST;
    for param in state
        .params
        .iter()
        .filter(|param| param.shape.len() <= 6 && small(&param.shape))
        .take(8)
    {
        let mut p = ArrayD::from_elem(IxDyn(&param.shape), A::from_f64(0.25));
        let g = ArrayD::from_elem(IxDyn(&param.shape), A::from_f64(-0.5));
        for _ in 0..2 {
            let before = (bits(p.view()), state_bytes(optimizer));
            let mut params = Params::new();
            params
                .loss(1.5)
                .add(&*param.name, &mut p, &g)
                .expect("the shapes are equal");
            if optimizer.step(params).is_err() {
                assert!(
                    before == (bits(p.view()), state_bytes(optimizer)),
                    "a failed step has changed something"
                );
            }
        }
        let _ = optimizer.evaluate_param(&param.name, &p);
        let _ = optimizer.swap_average_param(&param.name, &mut p);
    }
    again(optimizer);
}

/// The state of an optimizer must create an optimizer with the same state, also through bytes.
fn again<A: Real>(optimizer: &Optimizer<A>) {
    let state = optimizer.state_dict();
    let bytes = state.to_bytes().expect("every state has bytes");
    let back = StateDict::from_bytes(&bytes).expect("the bytes of a state load");
    assert!(
        summary(back.clone()) == summary(state.clone()),
        "a round trip through bytes has changed the state"
    );
    let same = Optimizer::<A>::from_state(back.view())
        .expect("an optimizer is created from its own state");
    assert!(
        state_bytes(&same) == summary(state),
        "the state has changed"
    );
}

/// Uses a state that was loaded: creates optimizers from it and makes steps.
pub fn use_anywhere(state: &StateDict) {
    match state.element {
        ElementType::F32 => use_as::<f32>(state),
        ElementType::F64 => use_as::<f64>(state),
        _ => panic!("no other element type"),
    }
}

fn use_as<A: Real>(state: &StateDict) {
    if let Ok(mut optimizer) = Optimizer::<A>::from_state(state.view()) {
        assert!(
            load(&mut optimizer, state),
            "an optimizer created from a state loads it"
        );
        go_on(&mut optimizer);
    }
    // Into a new optimizer, with the same algorithm or another.
    let own = state
        .groups
        .first()
        .and_then(|group| group.algorithm.clone());
    for algorithm in own.into_iter().chain([Adam::default().into()]) {
        let mut optimizer = Optimizer::<A>::new(algorithm.clone());
        load(&mut optimizer, state);
        let mut optimizer = Optimizer::<A>::new(algorithm);
        if optimizer.load_matching(state.view()).is_ok() {
            go_on(&mut optimizer);
        }
    }
}

/// Numbers at which arithmetic changes its behavior.
const NUMBERS: [f64; 30] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    0.9,
    0.999,
    1e-8,
    2.0,
    1e300,
    -1e300,
    5e-324,
    1e-310,
    f64::MAX,
    4503599627370497.5,
    1e-30,
    // The same for `f32`, and for squares and their sums.
    1e-45,
    1e-40,
    1.1754943508222875e-38,
    1e-20,
    1e19,
    1e20,
    3e38,
    f32::MAX as f64,
    1e-160,
    1e160,
    -3e38,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// As [`NUMBERS`], whole.
const WHOLE: [u64; 9] = [0, 1, 2, 3, 100, 101, 1 << 20, 1 << 53, u64::MAX];

/// A number of arbitrary bits, or one that is likely to matter.
pub fn number(u: &mut Unstructured<'_>) -> Result<f64> {
    Ok(match u.int_in_range(0..=3)? {
        0 => f64::from_bits(u64::arbitrary(u)?),
        1 => f64::from(i16::arbitrary(u)?) / 256.0,
        2 => f64::from(f32::from_bits(u32::arbitrary(u)?)),
        _ => *u.choose(&NUMBERS)?,
    })
}

/// A number at a bound of the range, right next to one or between them; or any.
pub fn number_near(u: &mut Unstructured<'_>, range: Option<&Interval>) -> Result<f64> {
    let ends = range.map_or([f64::NAN; 2], |range| [range.lower().0, range.upper().0]);
    let bounds: Vec<f64> = ends.into_iter().filter(|x| x.is_finite()).collect();
    if bounds.is_empty() || u.ratio(1, 3)? {
        return number(u);
    }
    let bound = *u.choose(&bounds)?;
    Ok(match u.int_in_range(0..=3)? {
        0 => bound,
        1 => bound.next_up(),
        2 => bound.next_down(),
        _ => {
            let share = f64::from(u8::arbitrary(u)?) / 255.0;
            let length = if bounds.len() == 2 {
                ends[1] - ends[0]
            } else {
                1.0
            };
            if bound == ends[0] {
                bound + share * length
            } else {
                bound - share * length
            }
        }
    })
}

/// As [`number_near`], for whole numbers.
fn whole_near(u: &mut Unstructured<'_>, range: Option<&Interval>) -> Result<u64> {
    let ends = range.map_or([f64::NAN; 2], |range| [range.lower().0, range.upper().0]);
    let bounds: Vec<u64> = ends
        .into_iter()
        .filter(|x| x.is_finite())
        .map(|x| x as u64)
        .collect();
    Ok(match u.int_in_range(0..=3)? {
        0 => u64::arbitrary(u)?,
        1 => *u.choose(&WHOLE)?,
        n if !bounds.is_empty() => {
            let bound = *u.choose(&bounds)?;
            if n == 2 {
                bound
            } else {
                *u.choose(&[bound.saturating_sub(1), bound + 1])?
            }
        }
        _ => u.int_in_range(0..=20)?,
    })
}

static ALGORITHMS: LazyLock<Vec<AnyAlgorithm>> = LazyLock::new(AnyAlgorithm::all);
static WRAPPERS: LazyLock<Vec<AnyWrap>> = LazyLock::new(AnyWrap::all);

/// Any algorithm of the catalogue, sometimes in wrappers, with some hyper-parameters changed.
pub fn any_algorithm(u: &mut Unstructured<'_>) -> Result<AnyAlgorithm> {
    let algorithm = algorithm_alone(u)?;
    let mut wrappers = Vec::new();
    if u.ratio(1, 3)? {
        for _ in 0..u.int_in_range(1..=3)? {
            let wrap = u.choose(&WRAPPERS)?;
            wrappers.push(changed(u, wrap, &wrap.fields())?);
        }
    }
    Ok(algorithm.in_wrappers(wrappers))
}

/// Any algorithm of the catalogue, with some hyper-parameters changed.
pub fn algorithm_alone(u: &mut Unstructured<'_>) -> Result<AnyAlgorithm> {
    let base = u.choose(&ALGORITHMS)?;
    changed(u, base, &base.fields())
}

/// Any algorithm of the catalogue as it comes.
pub fn default_algorithm(u: &mut Unstructured<'_>) -> Result<AnyAlgorithm> {
    u.choose(&ALGORITHMS).cloned()
}

/// The same with other values of up to three of its `fields`, which may be out of range. Where no
/// file can have such values, it stays as it is.
pub fn changed<T>(u: &mut Unstructured<'_>, value: &T, fields: &[Field]) -> Result<T>
where
    T: Clone + Serialize + DeserializeOwned,
{
    let mut json = serde_json::to_value(value).expect("configurations are JSON");
    for _ in 0..u.int_in_range(0..=3)? {
        change_one(u, &mut json, fields)?;
    }
    Ok(serde_json::from_value(json).unwrap_or_else(|_| value.clone()))
}

fn change_one(u: &mut Unstructured<'_>, json: &mut Value, fields: &[Field]) -> Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    let field = u.choose(fields)?;
    match json.get_mut(field.name) {
        Some(value) if field.ty.starts_with("Option") && !value.is_null() && u.ratio(1, 4)? => {
            *value = Value::Null;
        }
        Some(value) => change(u, value, field.ty, &field.ranges)?,
        None => {}
    }
    Ok(())
}

/// Another value of the same kind. `ranges` are those of the field: one for all numbers of a list,
/// or one for each.
fn change(
    u: &mut Unstructured<'_>,
    value: &mut Value,
    ty: &str,
    ranges: &[Interval],
) -> Result<()> {
    match value {
        // Only schedules have schedules in them.
        Value::Object(_) => {
            if let Ok(nested) = serde_json::from_value::<AnySchedule>(value.clone()) {
                change_one(u, value, &nested.fields())?;
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = u.choose_index(list.len())?;
            let ranges = ranges.get(at..=at).unwrap_or(ranges);
            change(u, &mut list[at], ty, ranges)?;
        }
        Value::Bool(flag) => *flag = !*flag,
        Value::Number(old) if old.is_u64() => *value = whole_near(u, ranges.first())?.into(),
        Value::Number(_) => *value = number_near(u, ranges.first())?.into(),
        Value::Null if ty.contains("f64") => *value = number_near(u, ranges.first())?.into(),
        Value::Null => *value = whole_near(u, ranges.first())?.into(),
        Value::String(_) | Value::Array(_) => {}
    }
    Ok(())
}

/// Removes a momentum buffer of zeros: a momentum that is switched on begins with one, for all of its
/// group, in the next call that looks at the hyper-parameters, even if that is refused.
pub fn without_new_momentum(param: &mut ParamState) {
    param.arrays.retain(|array| {
        let is_zero = match &array.data {
            Data::F32(values) => values.iter().all(|x| *x == 0.0),
            Data::F64(values) => values.iter().all(|x| *x == 0.0),
            _ => false,
        };
        array.name != "momentum_buffer" || !is_zero
    });
}
