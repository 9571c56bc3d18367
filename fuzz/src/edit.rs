//! States edited by methods and by public fields, then loaded.
use crate::{
    bounded,
    subject::{Real, any_algorithm, go_on, load, number, summary, use_anywhere},
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{
    Group, Optimizer, Params, Select, StateDict,
    algorithm::Scalars,
    state::{Data, ElementType, Named, Round},
    wrap::ClipByGlobalNorm,
};

const NAMES: [&str; 4] = ["a", "b", "c", "new"];

pub fn edit(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    bounded(0, (300_000_000, 0), || {
        let _ = if bool::arbitrary(&mut u) == Ok(true) {
            run::<f32>(&mut u)
        } else {
            run::<f64>(&mut u)
        };
    });
}

/// An optimizer after some steps.
fn under_way<A: Real>(u: &mut Unstructured<'_>) -> Result<Optimizer<A>> {
    let algorithm = any_algorithm(u)?;
    let mut optimizer = Optimizer::new(algorithm.clone());
    let of_group = if u.ratio(1, 3)? {
        any_algorithm(u)?
    } else {
        algorithm
    };
    let _ = optimizer.add_group(Group::new("group", ["b", "never"], of_group));
    if bool::arbitrary(u)? {
        optimizer.set_accumulation(2);
    }
    let shapes: [&[usize]; 3] = [
        &[3, 2],
        &[2, 2],
        if bool::arbitrary(u)? { &[0, 3] } else { &[4] },
    ];
    for _ in 0..u.int_in_range(0..=3)? {
        let mut values = shapes.map(|shape| ArrayD::from_elem(IxDyn(shape), A::from_f64(0.5)));
        let grads = shapes.map(|shape| ArrayD::from_elem(IxDyn(shape), A::from_f64(0.25)));
        let mut params = Params::new();
        params.loss(1.0);
        for ((name, p), g) in NAMES.iter().zip(&mut values).zip(&grads) {
            params.add(*name, p, g).expect("the shapes are equal");
        }
        // Some algorithms take matrices only, and hyper-parameters may be out of range.
        let _ = optimizer.step(params);
    }
    Ok(optimizer)
}

fn run<A: Real>(u: &mut Unstructured<'_>) -> Result<()> {
    let mut optimizer = under_way::<A>(u)?;
    let mut state = optimizer.state_dict();
    for _ in 0..u.int_in_range(1..=6)? {
        if u.ratio(1, 3)? {
            open_field(u, &mut state)?
        } else {
            by_method::<A>(u, &mut state)?
        }
    }
    // Into an optimizer that has made steps, and into new ones.
    let before = optimizer.differences(&state);
    load(&mut optimizer, &state);
    if !before.is_empty() && optimizer.load_matching(state.view()).is_ok() {
        go_on(&mut optimizer);
    }
    use_anywhere(&state);
    Ok(())
}

/// A sum of weights, or none as in earlier versions.
fn weight(u: &mut Unstructured<'_>) -> Result<Option<f64>> {
    Ok(if u.arbitrary()? {
        Some(number(u)?)
    } else {
        None
    })
}

/// Mostly small numbers, and some that make arithmetic overflow. Those in between would only
/// request much memory.
fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=7)? {
        0 => usize::MAX - u.int_in_range(0..=9)?,
        1 => usize::MAX / 2 + u.int_in_range(0..=9)?,
        2 => 1 << u.int_in_range(61..=63)?,
        _ => u.int_in_range(0..=5)?,
    })
}

fn by_method<A: Real>(u: &mut Unstructured<'_>, state: &mut StateDict) -> Result<()> {
    let name = *u.choose(&NAMES)?;
    let before = summary(state.clone());
    let outcome = match u.int_in_range(0..=6)? {
        0 => state.rename(name, *u.choose(&NAMES)?),
        1 => state.slice(name, size(u)?.min(9), size(u)?..size(u)?),
        2 => state.grow(name, size(u)?.min(9), size(u)?, number(u)?),
        3 => state.remove(name).map(|_| ()),
        4 => {
            let mut removed = state.remove(name).ok();
            if let (Some(param), true) = (&mut removed, bool::arbitrary(u)?) {
                param.name = (*u.choose(&NAMES)?).into();
            }
            if let Some(mut param) = removed {
                if u.ratio(1, 4)? {
                    param.group = Some("group".into());
                }
                let before = summary(state.clone());
                if state.add(param).is_err() {
                    assert!(
                        before == summary(state.clone()),
                        "a failed edit has changed something"
                    );
                }
            }
            return Ok(());
        }
        _ => {
            let param = state.params.first();
            let array = param
                .and_then(|param| param.arrays.first())
                .map(|array| array.name.clone())
                .unwrap_or_default();
            let shape = [u.int_in_range(0..=3)?, u.int_in_range(0..=3)?];
            state.set_array(
                name,
                &array,
                ArrayD::from_elem(IxDyn(&shape), A::from_f64(number(u)?)),
            )
        }
    };
    if outcome.is_err() {
        assert!(
            before == summary(state.clone()),
            "a failed edit has changed something"
        );
    }
    Ok(())
}

fn data(u: &mut Unstructured<'_>) -> Result<Data<'static>> {
    let mut shape = Vec::new();
    for _ in 0..u.int_in_range(0..=8)? {
        shape.push(u.int_in_range(0..=2)?);
    }
    let x = number(u)?;
    Ok(if bool::arbitrary(u)? {
        ArrayD::from_elem(IxDyn(&shape), x).into()
    } else {
        ArrayD::from_elem(IxDyn(&shape), x as f32).into()
    })
}

fn select(u: &mut Unstructured<'_>) -> Result<Select> {
    Ok(match u.int_in_range(0..=2)? {
        0 => Select::names([*u.choose(&NAMES)?]),
        1 => Select::prefix(*u.choose(&["", "a", "ne"])?),
        _ => Select::rank(u.int_in_range(0..=3)?),
    })
}

fn scalars(u: &mut Unstructured<'_>) -> Result<Scalars> {
    Ok(Scalars::new([
        number(u)?,
        number(u)?,
        number(u)?,
        number(u)?,
    ]))
}

/// Changes a public field: a load must cope with anything.
fn open_field(u: &mut Unstructured<'_>, state: &mut StateDict) -> Result<()> {
    let which = u.int_in_range(0..=20)?;
    if which < 12 && !state.params.is_empty() {
        let at = u.choose_index(state.params.len())?;
        let other = state.params[u.choose_index(state.params.len())?].clone();
        let param = &mut state.params[at];
        match which {
            0 => param.steps = size(u)? as u64,
            1 => param.scalars = scalars(u)?,
            2 => param.allocated = !param.allocated,
            3 => param.begun = !param.begun,
            4 => param.swapped = !param.swapped,
            5 => param.order = Vec::arbitrary(u)?,
            6 => param.reversed = (0..u.int_in_range(0..=3)?).collect(),
            7 => {
                param.shape = (0..u.int_in_range(0..=7)?)
                    .map(|_| size(u))
                    .collect::<Result<_>>()?
            }
            8 => param.arrays = other.factors,
            9 => param.factors = other.arrays,
            10 => param.arrays.push(Named {
                name: "exp_avg".into(),
                data: data(u)?,
            }),
            _ => {
                param.group = if bool::arbitrary(u)? {
                    Some("group".into())
                } else {
                    None
                }
            }
        }
        if u.ratio(1, 8)? {
            let twice = state.params[at].clone();
            state.params.push(twice);
        }
        return Ok(());
    }
    match which {
        12 => state.version = u32::arbitrary(u)?,
        13 => {
            state.element = if bool::arbitrary(u)? {
                ElementType::F32
            } else {
                ElementType::F64
            }
        }
        14 => state.skipped = size(u)? as u64,
        15 => {
            let round = Round {
                every: size(u)? as u32,
                calls: size(u)? as u32,
                weight: weight(u)?,
                loss: number(u)?,
                means: Vec::new(),
            };
            state.accumulation = if state.accumulation.is_none() {
                Some(round)
            } else {
                None
            };
        }
        16 => {
            if let Some(round) = &mut state.accumulation {
                (round.every, round.calls, round.loss) =
                    (size(u)? as u32, size(u)? as u32, number(u)?);
                round.weight = weight(u)?;
                for mean in &mut round.means {
                    (mean.count, mean.data) = (size(u)? as u32, data(u)?);
                    mean.weight = weight(u)?;
                }
                if u.ratio(1, 8)? {
                    round.means.extend(round.means.clone());
                }
            }
        }
        17 => state.groups.extend(state.groups.clone()),
        18 => {
            let algorithm = any_algorithm(u)?;
            state
                .groups
                .iter_mut()
                .for_each(|group| group.algorithm = Some(algorithm.clone()));
        }
        19 => {
            state.clip = Some(ClipByGlobalNorm {
                max_norm: number(u)?,
                eps: number(u)?,
                ..Default::default()
            })
        }
        _ => {
            for group in &mut state.groups {
                group.steps = size(u)? as u64;
                group.frozen = bool::arbitrary(u)?;
                group.scalars = Some(scalars(u)?);
                if bool::arbitrary(u)? {
                    group.params = select(u)?;
                }
            }
        }
    }
    Ok(())
}
