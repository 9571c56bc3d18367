//! Steps of any optimizer over arrays of any kind.
use crate::{
    bounded,
    layout::{shape, values},
    subject::{Real, any_algorithm, bits, number, number_near},
    twins::{Pair, Param, Twins, make_step},
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray_optim::{
    AnyAlgorithm, Group, Limits, NonFinite, Optimizer, Parallel, Select, wrap::ClipByGlobalNorm,
};

/// Names for parameters; one may occur twice in a step or belong to a group.
pub const NAMES: [&str; 4] = ["variable", "a", "b", "parameter.with.a.long.name"];

pub fn step(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    // The run ends when the bytes are used up.
    bounded(0, (300_000_000, 0), || {
        let _ = if bool::arbitrary(&mut u) == Ok(true) {
            run::<f32>(&mut u)
        } else {
            run::<f64>(&mut u)
        };
    });
}

struct Settings {
    algorithm: AnyAlgorithm,
    group: Option<Group>,
    every: u32,
    non_finite: NonFinite,
    limits: Limits,
    clip: Option<ClipByGlobalNorm>,
}

impl Settings {
    fn new(u: &mut Unstructured<'_>) -> Result<Settings> {
        let algorithm = any_algorithm(u)?;
        let group = match u.int_in_range(0..=5)? {
            0 => Some(Group::new("group", ["b", "other"], algorithm.clone())),
            1 => Some(Group::new("group", ["a"], any_algorithm(u)?)),
            2 => Some(Group::new(
                "group",
                Select::rank(u.int_in_range(0..=4)?),
                any_algorithm(u)?,
            )),
            3 => Some(Group::new(
                "group",
                Select::prefix(*u.choose(&["", "param", "b"])?),
                any_algorithm(u)?,
            )),
            _ => None,
        };
        let every = if u.ratio(1, 6)? {
            u.int_in_range(0..=3)?
        } else {
            1
        };
        let non_finite = *u.choose(&[NonFinite::Propagate, NonFinite::Skip, NonFinite::Error])?;
        let limits = if u.ratio(1, 4)? {
            Limits {
                norm: Some(number(u)?),
                skipped: Some(u.int_in_range(0..=2)?),
            }
        } else {
            Limits::default()
        };
        let clip = if u.ratio(1, 4)? {
            Some(ClipByGlobalNorm {
                max_norm: number(u)?,
                eps: number(u)?,
                ..Default::default()
            })
        } else {
            None
        };
        Ok(Settings {
            algorithm,
            group,
            every,
            non_finite,
            limits,
            clip,
        })
    }

    fn build<A: Real>(&self, parallel: Parallel) -> Optimizer<A> {
        let mut optimizer = Optimizer::new(self.algorithm.clone());
        if let Some(group) = &self.group {
            // An error if its hyper-parameters are out of range, which changes nothing.
            let _ = optimizer.add_group(group.clone());
        }
        (optimizer.non_finite, optimizer.limits, optimizer.parallel) =
            (self.non_finite, self.limits, parallel);
        optimizer.clip = self.clip.clone();
        optimizer.set_accumulation(self.every);
        optimizer
    }
}

fn run<A: Real>(u: &mut Unstructured<'_>) -> Result<()> {
    let settings = Settings::new(u)?;
    let parallel = if u.ratio(1, 4)? {
        Parallel {
            min_work: 0,
            chunk: u.int_in_range(0..=40)?,
        }
    } else {
        Parallel::SERIAL
    };
    let mut twins = Twins {
        any: settings.build::<A>(parallel),
        plain: settings.build(Parallel::SERIAL),
    };
    let mut params = Vec::new();
    for name in NAMES.into_iter().take(u.int_in_range(1..=3)?) {
        let (name, shape) = (
            if u.ratio(1, 12)? {
                *u.choose(&NAMES)?
            } else {
                name
            },
            shape(u)?,
        );
        params.push(Param {
            name,
            value: values::<A>(u, &shape)?,
        });
    }
    for _ in 0..u.int_in_range(1..=6)? {
        if u.ratio(1, 8)? {
            let frozen = bool::arbitrary(u)?;
            twins.change(|optimizer| optimizer.freeze("group", frozen));
        }
        if u.ratio(1, 8)? {
            hyper_parameter(u, &settings.algorithm, &mut twins)?;
        }
        if u.ratio(1, 8)? {
            let shape = shape(u)?;
            let at = u.choose_index(params.len())?;
            params[at].value = values(u, &shape)?;
        }
        if u.ratio(1, 8)? {
            members(u, &mut twins)?;
        }
        one(u, &mut twins, &mut params)?;
        twins.check();
    }
    let Twins { any, plain } = &mut twins;
    for Param { name, value } in &mut params {
        let points = [&*any, &*plain].map(|optimizer| {
            let point = optimizer.evaluate_param(name, value);
            point.map(|point| bits(point.view()))
        });
        assert_eq!(points[0], points[1], "evaluation");
        let mut other = value.clone();
        let swapped = (
            any.swap_average_param(name, value),
            plain.swap_average_param(name, &mut other),
        );
        assert_eq!(swapped.0, swapped.1);
        assert_eq!(bits(value.view()), bits(other.view()), "average");
    }
    Ok(())
}

/// One step with most of the parameters.
fn one<A: Real>(
    u: &mut Unstructured<'_>,
    twins: &mut Twins<A>,
    params: &mut [Param<A>],
) -> Result<()> {
    let loss = if u.ratio(3, 4)? {
        Some(number(u)?)
    } else {
        None
    };
    let mut all = params
        .iter()
        .map(|param| Pair::new(u, param))
        .collect::<Result<Vec<_>>>()?;
    if u.ratio(1, 8)? {
        all.remove(u.choose_index(all.len())?);
    }
    let _ = twins.call(all, params, |optimizer, all, plain| {
        make_step(optimizer, all, loss, plain)
    });
    Ok(())
}

/// Changes a hyper-parameter between steps, also to values that JSON cannot hold, such as NaN.
pub fn hyper_parameter<A: Real>(
    u: &mut Unstructured<'_>,
    algorithm: &AnyAlgorithm,
    Twins { any, plain }: &mut Twins<A>,
) -> Result<()> {
    let fields = algorithm.fields();
    if fields.is_empty() {
        // An algorithm in wrappers: its learning rate.
        let lr = number(u)?;
        any.set_lr(lr);
        plain.set_lr(lr);
        return Ok(());
    }
    let field = u.choose(&fields)?;
    let numbers = if field.ranges.len() > 1 {
        field.ranges.len()
    } else {
        3
    };
    let index = u.choose_index(numbers)?;
    let value = number_near(u, field.ranges.get(index).or(field.ranges.first()))?;
    for name in [field.name.to_owned(), format!("{}[{index}]", field.name)] {
        for optimizer in [&mut *any, &mut *plain] {
            if let Ok(number) = optimizer.number_mut(None, &name) {
                *number = value;
            }
        }
    }
    Ok(())
}

/// Resets a parameter, removes it or moves it to another group.
pub fn members<A: Real>(u: &mut Unstructured<'_>, twins: &mut Twins<A>) -> Result<()> {
    let (name, which) = (*u.choose(&NAMES)?, u.int_in_range(0..=3)?);
    twins.change(|optimizer| match which {
        0 => optimizer.reset(name),
        1 => optimizer.remove(name),
        2 => optimizer.move_to_group(name, None),
        _ => optimizer.move_to_group(name, Some("group")),
    });
    Ok(())
}
