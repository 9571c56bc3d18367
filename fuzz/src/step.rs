//! Steps of any optimizer over arrays of any kind.
use crate::{
    bounded,
    layout::{BESIDE, Layout, shape, values},
    subject::{Real, any_algorithm, bits, number, remembered, summary},
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, ArrayViewMutD, IxDyn};
use ndarray_optim::{
    AnyAlgorithm, Error, Group, Limits, NonFinite, Optimizer, Outcome, Parallel, Params, Select, wrap::ClipByGlobalNorm,
};

/// Names with which a step may lend a parameter twice, or one of a group.
const NAMES: [&str; 4] = ["variable", "a", "b", "parameter.with.a.long.name"];

/// One parameter as it goes through the run.
struct Param<A> {
    name: &'static str,
    value: ArrayD<A>,
}

pub fn step(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    // Bytes that run out end the run; what was done until then counts.
    bounded(0, (300_000_000, 0), || {
        let _ = if bool::arbitrary(&mut u) == Ok(true) { run::<f32>(&mut u) } else { run::<f64>(&mut u) };
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
            2 => Some(Group::new("group", Select::rank(u.int_in_range(0..=4)?), any_algorithm(u)?)),
            3 => Some(Group::new("group", Select::prefix(*u.choose(&["", "param", "b"])?), any_algorithm(u)?)),
            _ => None,
        };
        let every = if u.ratio(1, 6)? { u.int_in_range(0..=3)? } else { 1 };
        let non_finite = *u.choose(&[NonFinite::Propagate, NonFinite::Skip, NonFinite::Error])?;
        let limits = if u.ratio(1, 4)? {
            Limits { norm: Some(number(u)?), skipped: Some(u.int_in_range(0..=2)?) }
        } else {
            Limits::default()
        };
        let clip = if u.ratio(1, 4)? {
            Some(ClipByGlobalNorm { max_norm: number(u)?, eps: number(u)?, ..Default::default() })
        } else {
            None
        };
        Ok(Settings { algorithm, group, every, non_finite, limits, clip })
    }

    fn build<A: Real>(&self, parallel: Parallel) -> Optimizer<A> {
        let mut optimizer = Optimizer::new(self.algorithm.clone());
        if let Some(group) = &self.group {
            // Refused if its hyper-parameters are wrong, which changes nothing.
            let _ = optimizer.add_group(group.clone());
        }
        (optimizer.non_finite, optimizer.limits, optimizer.parallel) = (self.non_finite, self.limits, parallel);
        optimizer.clip = self.clip.clone();
        optimizer.set_accumulation(self.every);
        optimizer
    }
}

fn run<A: Real>(u: &mut Unstructured<'_>) -> Result<()> {
    let settings = Settings::new(u)?;
    let parallel = if u.ratio(1, 4)? { Parallel { min_work: 0, chunk: u.int_in_range(0..=40)? } } else { Parallel::SERIAL };
    let (mut optimizer, mut plain) = (settings.build::<A>(parallel), settings.build::<A>(Parallel::SERIAL));
    let mut params = Vec::new();
    for name in NAMES.into_iter().take(u.int_in_range(1..=3)?) {
        let (name, shape) = (if u.ratio(1, 12)? { *u.choose(&NAMES)? } else { name }, shape(u)?);
        params.push(Param { name, value: values::<A>(u, &shape)? });
    }
    for _ in 0..u.int_in_range(1..=6)? {
        if u.ratio(1, 8)? {
            // A rate between steps, or a frozen group.
            let lr = number(u)?;
            optimizer.set_lr(lr);
            plain.set_lr(lr);
            assert_eq!(optimizer.freeze("group", lr > 0.0), plain.freeze("group", lr > 0.0));
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
        let points = [&optimizer, &plain].map(|optimizer| bits(optimizer.evaluation(name, value.view()).view()));
        assert_eq!(points[0], points[1], "evaluation");
        let mut other = value.clone();
        let swapped = (optimizer.swap_average(name, value.view_mut()), plain.swap_average(name, other.view_mut()));
        assert_eq!(swapped.0, swapped.1);
        assert_eq!(bits(value.view()), bits(other.view()), "average");
    }
    Ok(())
}

/// A parameter begins anew, is forgotten or changes its group.
fn members<A: Real>(u: &mut Unstructured<'_>, optimizer: &mut Optimizer<A>, plain: &mut Optimizer<A>) -> Result<()> {
    let (name, which) = (*u.choose(&NAMES)?, u.int_in_range(0..=3)?);
    let change = |optimizer: &mut Optimizer<A>| match which {
        0 => optimizer.reset(name),
        1 => optimizer.remove(name),
        2 => optimizer.move_to_group(name, None),
        _ => optimizer.move_to_group(name, Some("group")),
    };
    let before = remembered(optimizer);
    let outcome = change(optimizer);
    assert_eq!(format!("{outcome:?}"), format!("{:?}", change(plain)));
    assert!(outcome.is_ok() || before == remembered(optimizer), "a refused change has changed something");
    Ok(())
}

/// One parameter and its gradient as one step lends them: in memory of any layout, and plain.
struct Lent<A> {
    name: &'static str,
    of_p: Layout,
    of_g: Layout,
    p: ArrayD<A>,
    g: ArrayD<A>,
    plain: ArrayD<A>,
    grad: Grad<A>,
}

enum Grad<A> {
    /// Mostly of the parameter's shape.
    Of(ArrayD<A>),
    /// One number for all elements, with strides of 0.
    Broadcast(ArrayD<A>),
    None,
}

impl<A: Real> Lent<A> {
    fn new(u: &mut Unstructured<'_>, Param { name, value }: &Param<A>) -> Result<Lent<A>> {
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
            Grad::Of(grad) if grad.ndim() != ndim || bool::arbitrary(u)? => Layout::new(u, grad.ndim())?,
            _ => of_p.clone(),
        };
        let g = if let Grad::Of(grad) = &grad { of_g.store(grad) } else { ArrayD::zeros(IxDyn(&[0])) };
        Ok(Lent { name, p: of_p.store(value), of_p, of_g, g, plain: value.clone(), grad })
    }

    /// The parameter as it is in its memory.
    fn now(&mut self) -> ArrayViewMutD<'_, A> {
        self.of_p.view(self.p.view_mut(), self.plain.shape())
    }

    /// What [`Params::add`] refuses is an error of the step here.
    fn add<'a>(&'a mut self, lent: &mut Params<'a, A>, plain: bool) -> std::result::Result<(), Error> {
        let shape = self.plain.shape().to_vec();
        let grad = match &self.grad {
            Grad::Of(grad) if plain => Some(grad.view()),
            Grad::Of(grad) => Some(self.of_g.view(self.g.view(), grad.shape())),
            Grad::Broadcast(one) => one.broadcast(IxDyn(&shape)),
            Grad::None => None,
        };
        let p = if plain { self.plain.view_mut() } else { self.of_p.view(self.p.view_mut(), &shape) };
        lent.add_optional(self.name, p, grad).map(|_| ())
    }
}

/// One step of both optimizers: of views in any layout, and of row-major copies on one thread.
fn one<A: Real>(
    u: &mut Unstructured<'_>,
    optimizer: &mut Optimizer<A>,
    plain: &mut Optimizer<A>,
    params: &mut [Param<A>],
) -> Result<()> {
    let loss = if u.ratio(3, 4)? { Some(number(u)?) } else { None };
    let mut all = params.iter().map(|param| Lent::new(u, param)).collect::<Result<Vec<_>>>()?;
    if u.ratio(1, 8)? {
        all.remove(u.choose_index(all.len())?);
    }

    let before = (remembered(optimizer), all.iter().map(|lent| bits(lent.p.view())).collect::<Vec<_>>());
    let expected = lend(plain, &mut all, loss, true);
    let outcome = lend(optimizer, &mut all, loss, false);
    // As text, because an error can have a NaN.
    assert_eq!(format!("{outcome:?}"), format!("{expected:?}"), "one layout is refused and another is not");
    if outcome.is_err() {
        let after = (remembered(optimizer), all.iter().map(|lent| bits(lent.p.view())).collect());
        if after != before {
            let [before, after] = [before.0, after.0].map(|state| String::from_utf8_lossy(&state).into_owned());
            panic!("a refused step has changed something: {outcome:?}\n{before}\n{after}");
        }
    }
    for mut lent in all {
        let found = bits(lent.now().view());
        assert_eq!(found, bits(lent.plain.view()), "`{}` of shape {:?}", lent.name, lent.plain.shape());
        lent.now().fill(A::of(BESIDE));
        assert!(lent.p.iter().all(|x| x.bits() == A::of(BESIDE).bits()), "wrote beside the view");
        if let Some(param) = params.iter_mut().find(|param| param.name == lent.name) {
            param.value = lent.plain;
        }
    }
    assert!(same_state(optimizer, plain), "another layout, another state");
    Ok(())
}

fn lend<A: Real>(
    optimizer: &mut Optimizer<A>,
    all: &mut [Lent<A>],
    loss: Option<f64>,
    plain: bool,
) -> std::result::Result<Outcome, Error> {
    let mut params = Params::new();
    if let Some(loss) = loss {
        params.loss(loss);
    }
    all.iter_mut().try_for_each(|lent| lent.add(&mut params, plain))?;
    optimizer.step(params)
}

/// The states of both, whatever their order in memory.
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
