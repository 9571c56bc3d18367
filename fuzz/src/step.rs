//! Steps of any optimizer over arrays of any kind.
use crate::{
    bounded,
    layout::{BESIDE, Layout, shape, values},
    subject::{Real, any_algorithm, bits, number, number_near, state_bytes, summary},
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, IxDyn};
use ndarray_optim::{
    AnyAlgorithm, Error, Group, Limits, NonFinite, Optimizer, Outcome, Parallel, Params, Select,
    wrap::ClipByGlobalNorm,
};

/// Names for parameters; one may occur twice in a step or belong to a group.
const NAMES: [&str; 4] = ["variable", "a", "b", "parameter.with.a.long.name"];

/// A parameter during the run.
struct Param<A> {
    name: &'static str,
    value: ArrayD<A>,
}

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
    let (mut optimizer, mut plain) = (
        settings.build::<A>(parallel),
        settings.build::<A>(Parallel::SERIAL),
    );
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
            assert_eq!(
                optimizer.freeze("group", frozen),
                plain.freeze("group", frozen)
            );
        }
        if u.ratio(1, 8)? {
            hyper_parameter(u, &settings.algorithm, &mut optimizer, &mut plain)?;
        }
        if u.ratio(1, 8)? {
            let shape = shape(u)?;
            let at = u.choose_index(params.len())?;
            params[at].value = values(u, &shape)?;
        }
        if u.ratio(1, 8)? {
            members(u, &mut optimizer, &mut plain)?;
        }
        one(u, &mut optimizer, &mut plain, &mut params)?;
    }
    for Param { name, value } in &mut params {
        let points = [&optimizer, &plain]
            .map(|optimizer| bits(optimizer.evaluate_param(name, value).view()));
        assert_eq!(points[0], points[1], "evaluation");
        let mut other = value.clone();
        let swapped = (
            optimizer.swap_average_param(name, value),
            plain.swap_average_param(name, &mut other),
        );
        assert_eq!(swapped.0, swapped.1);
        assert_eq!(bits(value.view()), bits(other.view()), "average");
    }
    Ok(())
}

/// Changes a hyper-parameter between steps, also to values that JSON cannot hold, such as NaN.
fn hyper_parameter<A: Real>(
    u: &mut Unstructured<'_>,
    algorithm: &AnyAlgorithm,
    optimizer: &mut Optimizer<A>,
    plain: &mut Optimizer<A>,
) -> Result<()> {
    let fields = algorithm.fields();
    if fields.is_empty() {
        // An algorithm in wrappers: its learning rate.
        let lr = number(u)?;
        optimizer.set_lr(lr);
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
        for optimizer in [&mut *optimizer, &mut *plain] {
            if let Ok(number) = optimizer.number_mut(None, &name) {
                *number = value;
            }
        }
    }
    Ok(())
}

/// Resets a parameter, removes it or moves it to another group.
fn members<A: Real>(
    u: &mut Unstructured<'_>,
    optimizer: &mut Optimizer<A>,
    plain: &mut Optimizer<A>,
) -> Result<()> {
    let (name, which) = (*u.choose(&NAMES)?, u.int_in_range(0..=3)?);
    let change = |optimizer: &mut Optimizer<A>| match which {
        0 => optimizer.reset(name),
        1 => optimizer.remove(name),
        2 => optimizer.move_to_group(name, None),
        _ => optimizer.move_to_group(name, Some("group")),
    };
    let before = state_bytes(optimizer);
    let outcome = change(optimizer);
    assert_eq!(format!("{outcome:?}"), format!("{:?}", change(plain)));
    assert!(
        outcome.is_ok() || before == state_bytes(optimizer),
        "a failed change has changed something"
    );
    Ok(())
}

/// A parameter and its gradient in one step: in memory of any layout, and as row-major copies.
struct Pair<A> {
    name: &'static str,
    of_p: Layout,
    of_g: Layout,
    p: ArrayD<A>,
    g: ArrayD<A>,
    plain: ArrayD<A>,
    grad: Grad<A>,
}

enum Grad<A> {
    /// An array, in most cases of the shape of the parameter.
    Of(ArrayD<A>),
    /// One number for all elements, broadcast with strides of 0.
    Broadcast(ArrayD<A>),
    None,
}

impl<A: Real> Pair<A> {
    fn new(u: &mut Unstructured<'_>, Param { name, value }: &Param<A>) -> Result<Pair<A>> {
        let ndim = value.ndim();
        let grad = match u.int_in_range(0..=19)? {
            0 => Grad::Broadcast(values(u, &[])?),
            1 => Grad::None,
            2 => {
                let shape = shape(u)?;
                Grad::Of(values(u, &shape)?)
            }
            _ => Grad::Of(values(u, value.shape())?),
        };
        let of_p = Layout::new(u, ndim)?;
        let of_g = match &grad {
            Grad::Of(grad) if grad.ndim() != ndim || bool::arbitrary(u)? => {
                Layout::new(u, grad.ndim())?
            }
            _ => of_p.clone(),
        };
        let g = if let Grad::Of(grad) = &grad {
            of_g.store(grad)
        } else {
            ArrayD::zeros(IxDyn(&[0]))
        };
        Ok(Pair {
            name,
            p: of_p.store(value),
            of_p,
            of_g,
            g,
            plain: value.clone(),
            grad,
        })
    }

    /// The parameter in its memory.
    fn now(&mut self) -> ArrayViewMutD<'_, A> {
        self.of_p.view(self.p.view_mut(), self.plain.shape())
    }

    /// The parameter and its gradient, if it has one: row-major copies if `plain`.
    fn views(&mut self, plain: bool) -> (ArrayViewMutD<'_, A>, Option<ArrayViewD<'_, A>>) {
        let shape = self.plain.shape().to_vec();
        let grad = match &self.grad {
            Grad::Of(grad) if plain => Some(grad.view()),
            Grad::Of(grad) => Some(self.of_g.view(self.g.view(), grad.shape())),
            Grad::Broadcast(one) => one.broadcast(IxDyn(&shape)),
            Grad::None => None,
        };
        let p = if plain {
            self.plain.view_mut()
        } else {
            self.of_p.view(self.p.view_mut(), &shape)
        };
        (p, grad)
    }
}

/// One step of both optimizers: with views of any layout, and with row-major copies on one thread.
fn one<A: Real>(
    u: &mut Unstructured<'_>,
    optimizer: &mut Optimizer<A>,
    plain: &mut Optimizer<A>,
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

    let before = (
        state_bytes(optimizer),
        all.iter()
            .map(|pair| bits(pair.p.view()))
            .collect::<Vec<_>>(),
    );
    let expected = make_step(plain, &mut all, loss, true);
    let outcome = make_step(optimizer, &mut all, loss, false);
    // Compared as text, because an error may contain NaN.
    let text = |outcome: &std::result::Result<_, _>| match outcome {
        // The value is that of the first one in memory order.
        Err(Error::NonFiniteGradient { name, .. }) => format!("non-finite: {name}"),
        other => format!("{other:?}"),
    };
    assert_eq!(
        text(&outcome),
        text(&expected),
        "the outcome depends on the layout"
    );
    if outcome.is_err() {
        let after = (
            state_bytes(optimizer),
            all.iter().map(|pair| bits(pair.p.view())).collect(),
        );
        if after != before {
            let [before, after] =
                [before.0, after.0].map(|state| String::from_utf8_lossy(&state).into_owned());
            panic!("a failed step has changed something: {outcome:?}\n{before}\n{after}");
        }
    }
    for mut pair in all {
        let found = bits(pair.now().view());
        assert_eq!(
            found,
            bits(pair.plain.view()),
            "`{}` of shape {:?}",
            pair.name,
            pair.plain.shape()
        );
        pair.now().fill(A::from_f64(BESIDE));
        assert!(
            pair.p
                .iter()
                .all(|x| x.bits() == A::from_f64(BESIDE).bits()),
            "a step has written outside the view"
        );
        if let Some(param) = params.iter_mut().find(|param| param.name == pair.name) {
            param.value = pair.plain;
        }
    }
    assert!(
        same_state(optimizer, plain),
        "the state depends on the layout"
    );
    Ok(())
}

fn make_step<A: Real>(
    optimizer: &mut Optimizer<A>,
    all: &mut [Pair<A>],
    loss: Option<f64>,
    plain: bool,
) -> std::result::Result<Outcome, Error> {
    let mut all: Vec<_> = all
        .iter_mut()
        .map(|pair| (pair.name, pair.views(plain)))
        .collect();
    let mut params = Params::new();
    if let Some(loss) = loss {
        params.loss(loss);
    }
    for (name, (p, grad)) in &mut all {
        params.add_optional(*name, p, grad.as_deref())?;
    }
    optimizer.step(params)
}

/// Whether the states are equal, apart from their memory order.
fn same_state<A: Real>(a: &Optimizer<A>, b: &Optimizer<A>) -> bool {
    let [a, b] = [a, b].map(|optimizer| {
        let mut state = optimizer.state_dict();
        for param in &mut state.params {
            param.order.clear();
            param.reversed.clear();
        }
        summary(state)
    });
    a == b
}
