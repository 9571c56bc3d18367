//! Runs: every call of an optimizer, in any order, with values at the edges.
use crate::{
    bounded,
    config::any_schedule,
    layout::values,
    step::hyper_parameter,
    subject::{Real, any_algorithm, bits, number, state_bytes, summary, without_new_momentum},
    trace,
    twins::{Grad, Pair, Param, Twins, make_step, with_params},
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, Axis, IxDyn};
use ndarray_optim::{
    Adagrad, Adam, AnyAlgorithm, Checkpoint, Error, Evaluating, Group, Limits, NonFinite,
    Optimizer, Outcome, Parallel, Params, Sam, Select, Sgd, Sophia, StateDict, schedule::Schedules,
    state::ElementType, wrap::ClipByGlobalNorm,
};

const NAMES: [&str; 4] = ["variable", "a", "b", "c"];
const SHAPES: [&[usize]; 7] = [&[3], &[2, 3], &[], &[4, 1], &[0], &[2, 2, 2], &[17]];
const CANCELLED: &str = "cancelled";
const GROUPS: [&str; 2] = ["group", "other"];

pub fn drive(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    bounded(0, (300_000_000, 0), || {
        let _ = if bool::arbitrary(&mut u) == Ok(true) {
            run::<f32>(&mut u)
        } else {
            run::<f64>(&mut u)
        };
    });
}

struct Run<A: Real> {
    twins: Twins<A>,
    params: Vec<Param<A>>,
    algorithm: AnyAlgorithm,
    saved: Option<StateDict>,
}

fn run<A: Real>(u: &mut Unstructured<'_>) -> Result<()> {
    let algorithm = algorithm(u)?;
    let plain = Optimizer::<A>::new(algorithm.clone());
    let mut twins = Twins {
        any: plain.clone(),
        plain,
    };
    twins.plain.parallel = Parallel::SERIAL;
    let mut run = Run {
        twins,
        params: Vec::new(),
        algorithm,
        saved: None,
    };
    for name in NAMES {
        let shape = *u.choose(&SHAPES)?;
        let value = values(u, shape)?;
        run.params.push(Param { name, value });
    }
    // The run ends when the bytes are used up.
    for _ in 0..25 {
        run.one(u)?;
        run.twins.check();
    }
    Ok(())
}

/// Often one of those that can do more than steps.
fn algorithm(u: &mut Unstructured<'_>) -> Result<AnyAlgorithm> {
    Ok(match u.int_in_range(0..=7)? {
        0 => Sgd::new(0.1).into(),
        1 => Adam::new(0.1).into(),
        2 => Adagrad::default().into(),
        3 => Sophia::default().into(),
        _ => any_algorithm(u)?,
    })
}

/// What a call does with its gradients.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    Step,
    Hessian,
    Sam,
}

impl<A: Real> Run<A> {
    fn one(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let which = u.int_in_range(0..=27)?;
        trace(|| format!("\n{which}: {:?}", self.twins.plain));
        match which {
            0..=6 => self.step(u)?,
            7 | 8 => self.update(u)?,
            9 | 10 => self.rows(u)?,
            11 => self.hessian(u)?,
            12 | 13 => self.sam(u)?,
            14 => self.policies(u)?,
            15 => {
                let every = u.int_in_range(0..=3)?;
                for optimizer in [&mut self.twins.any, &mut self.twins.plain] {
                    optimizer.set_accumulation(every);
                }
            }
            16 => {
                for optimizer in [&mut self.twins.any, &mut self.twins.plain] {
                    optimizer.reset_accumulation();
                }
            }
            17 => {
                let group = *u.choose(&GROUPS)?;
                let select = match u.int_in_range(0..=3)? {
                    0 => Select::prefix(*u.choose(&["", "a", "x"])?),
                    1 => Select::rank(u.int_in_range(0..=3)?),
                    _ => Select::names([*u.choose(&NAMES)?, "later"]),
                };
                let group = Group::new(group, select, algorithm(u)?);
                self.twins
                    .change(|optimizer| optimizer.add_group(group.clone()));
            }
            18 => {
                let (group, frozen) = (*u.choose(&GROUPS)?, u.ratio(2, 3)?);
                self.twins
                    .change(|optimizer| optimizer.freeze(group, frozen));
            }
            19 => {
                let (name, group) = (*u.choose(&NAMES)?, *u.choose(&GROUPS)?);
                let which = u.int_in_range(0..=3)?;
                self.twins.change(|optimizer| match which {
                    0 => optimizer.reset(name),
                    1 => optimizer.remove(name),
                    2 => optimizer.move_to_group(name, None),
                    _ => optimizer.move_to_group(name, Some(group)),
                });
            }
            20 => self.swap(u)?,
            21 => self.evaluate(),
            22 => self.schedules(u)?,
            23 => {
                if bool::arbitrary(u)? {
                    let (group, lr) = (*u.choose(&GROUPS)?, number(u)?);
                    self.twins
                        .change(|optimizer| optimizer.set_group_lr(group, lr));
                } else {
                    hyper_parameter(u, &self.algorithm, &mut self.twins)?;
                }
            }
            24 => self.through_a_file(u)?,
            25 => self.saved = Some(self.twins.any.state_dict()),
            26 => self.load(u)?,
            _ => {
                // Another array under a known name, or another shape.
                let shape = *u.choose(&SHAPES)?;
                let value = values(u, shape)?;
                let at = u.choose_index(NAMES.len())?;
                self.params[at].value = value;
            }
        }
        Ok(())
    }

    /// Some of the parameters with gradients, which in most calls are finite.
    fn pairs(&self, u: &mut Unstructured<'_>) -> Result<Vec<Pair<A>>> {
        let mut all = Vec::new();
        for param in &self.params {
            if u.ratio(2, 3)? {
                all.push(pair(u, param)?);
            }
        }
        Ok(all)
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (all, loss) = (self.pairs(u)?, loss(u)?);
        let _ = self.call(all, Call::Step, |optimizer, all, plain| {
            make_step(optimizer, all, loss, plain)
        });
        Ok(())
    }

    /// The calls for a single array, which have a short path and one for slices.
    fn update(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (all, loss) = (vec![pair(u, &self.params[0])?], loss(u)?);
        let _ = self.call(all, Call::Step, |optimizer, all, plain| {
            let [pair] = all else { unreachable!() };
            let (mut p, g) = pair.views(plain);
            let Some(g) = g else {
                return Ok(Outcome::Applied);
            };
            match loss {
                Some(loss) => optimizer.update_with_loss(&mut *p, &g, loss),
                None if p.shape() == g.shape() && p.ndim() == 1 && plain => {
                    let (p, g) = (p.as_slice_mut(), g.to_owned());
                    let (Some(p), Some(g)) = (p, g.as_slice()) else {
                        unreachable!("row-major copies");
                    };
                    optimizer.update_slice(p, g)
                }
                None => optimizer.update(&mut *p, &g),
            }
        });
        Ok(())
    }

    fn rows(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let at = u.choose_index(NAMES.len())?;
        let param = &self.params[at];
        let (name, before) = (param.name, param.value.clone());
        let n = before.shape().first().copied().unwrap_or(2);
        let mut indices = Vec::new();
        if u.ratio(1, 3)? {
            indices.extend((0..n).rev());
        } else {
            for _ in 0..u.int_in_range(0..=4)? {
                indices.push(u.int_in_range(0..=n)?);
            }
        }
        let mut shape = before.shape().to_vec();
        match shape.first_mut() {
            Some(n) => *n = indices.len(),
            None => shape.push(1),
        }
        if u.ratio(1, 20)? {
            shape.push(1);
        }
        let rows = gradient::<A>(u, &shape)?;
        let pair = Pair::with(u, param, Grad::Of(rows.clone()))?;
        let (state, reference) = (self.twins.plain.state_dict(), self.twins.plain.clone());

        // What a step with all rows would see.
        let mut dense = ArrayD::from_elem(before.raw_dim(), A::from_f64(0.0));
        let mut touched = vec![false; n];
        let fits =
            before.ndim() > 0 && rows.ndim() == before.ndim() && indices.iter().all(|&i| i < n);
        if fits {
            for (&i, row) in indices.iter().zip(rows.outer_iter()) {
                let mut sum = dense.index_axis_mut(Axis(0), i);
                if touched[i] {
                    sum.zip_mut_with(&row, |sum, &g| *sum += g);
                } else {
                    sum.assign(&row);
                }
                touched[i] = true;
            }
        }
        let live = (fits && !frozen(&state, name, before.ndim())).then(|| dense.clone());
        let outcome = self.call_with(
            vec![pair],
            Call::Step,
            live.into_iter().collect(),
            |optimizer, all, plain| {
                let [pair] = all else { unreachable!() };
                let (mut p, g) = pair.views(plain);
                let Some(g) = g else { unreachable!() };
                optimizer.update_rows(name, &mut *p, &indices, &g)
            },
        );
        if outcome != Ok(Outcome::Applied) {
            return Ok(());
        }
        let after = self.params[at].value.clone();
        let row_bits = |array: &ArrayD<A>, i| bits(array.index_axis(Axis(0), i));
        let rest = (0..n).filter(|&i| !touched[i]);
        for i in rest.clone() {
            assert_eq!(row_bits(&before, i), row_bits(&after, i), "row {i}");
        }
        if let Some(known) = state.param(name) {
            for (i, array) in known.arrays.iter().enumerate() {
                let Some(now) = self
                    .twins
                    .plain
                    .state(name)
                    .get(i)
                    .map(|(_, now)| now.to_owned())
                else {
                    continue;
                };
                let was = array.data.view::<A>().expect("of this type").to_owned();
                for i in rest.clone() {
                    assert_eq!(row_bits(&was, i), row_bits(&now, i), "state of row {i}");
                }
            }
        }
        // With all rows it is a step.
        if touched.iter().all(|&touched| touched) && !frozen(&state, name, before.ndim()) {
            let (mut reference, mut p) = (reference, before);
            let mut params = Params::new();
            params.add(name, &mut p, &dense).expect("the same shape");
            let step = reference.step(params);
            assert_eq!(step, Ok(Outcome::Applied), "as a step");
            assert_eq!(bits(p.view()), bits(after.view()), "as a step");
            assert!(
                plain_bytes(&reference) == plain_bytes(&self.twins.plain),
                "as a step"
            );
        }
        Ok(())
    }

    fn hessian(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (all, loss) = (self.pairs(u)?, loss(u)?);
        let before: Vec<_> = self.params.iter().map(|p| bits(p.value.view())).collect();
        let _ = self.call(all, Call::Hessian, |optimizer, all, plain| {
            with_params(all, loss, plain, |params| optimizer.update_hessian(params))
        });
        let after: Vec<_> = self.params.iter().map(|p| bits(p.value.view())).collect();
        assert_eq!(before, after, "an estimate has changed parameters");
        Ok(())
    }

    fn sam(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (all, loss) = (self.pairs(u)?, loss(u)?);
        let sam = Sam {
            rho: if u.ratio(3, 4)? { 0.05 } else { number(u)? },
            adaptive: bool::arbitrary(u)?,
        };
        let mut second = Vec::new();
        for pair in &all {
            let param = self.params.iter().find(|param| param.name == pair.name);
            let param = param.expect("a parameter of the run");
            let grad = if pair.gradient().is_some() {
                Grad::Of(gradient(u, param.value.shape())?)
            } else {
                Grad::None
            };
            second.push(Pair::with(u, param, grad)?);
        }
        let (descend, state) = (u.ratio(3, 4)?, self.twins.any.state_dict());
        let _ = self.call(all, Call::Sam, |optimizer, all, plain| {
            let before: Vec<_> = all
                .iter_mut()
                .map(|pair| bits(pair.views(plain).0.view()))
                .collect();
            let ascended = with_params(all, None, plain, |params| sam.ascend(optimizer, params))?;
            for (pair, before) in all.iter_mut().zip(before) {
                let (name, has_grad) = (pair.name, pair.gradient().is_some());
                let p = pair.views(plain).0;
                assert!(
                    has_grad && !frozen(&state, name, p.ndim()) || bits(p.view()) == before,
                    "an ascent has moved `{name}`, which is frozen or has no gradient"
                );
            }
            let swap = |all: &mut [Pair<A>], second: &mut [Pair<A>]| {
                all.iter_mut()
                    .zip(second)
                    .for_each(|(pair, second)| pair.swap_gradient(second));
            };
            swap(all, &mut second);
            let outcome = with_params(all, loss, plain, |params| {
                if descend {
                    return ascended.descend(params);
                }
                ascended.cancel(params)?;
                // Counts as refused: nothing has changed.
                Err(Error::UnknownParameter {
                    name: CANCELLED.into(),
                })
            });
            swap(all, &mut second);
            match outcome {
                // The ascent was skipped.
                Err(Error::UnknownParameter { name })
                    if name == CANCELLED && optimizer.state_dict().skipped > state.skipped =>
                {
                    Ok(Outcome::Skipped)
                }
                outcome => outcome,
            }
        });
        Ok(())
    }

    fn call(
        &mut self,
        all: Vec<Pair<A>>,
        kind: Call,
        call: impl FnMut(&mut Optimizer<A>, &mut [Pair<A>], bool) -> std::result::Result<Outcome, Error>,
    ) -> std::result::Result<Outcome, Error> {
        let state = self.twins.any.state_dict();
        let live = all
            .iter()
            .filter(|pair| !frozen(&state, pair.name, pair.plain.ndim()))
            .filter_map(|pair| Some(pair.gradient()?.to_owned()));
        let live = live.collect();
        self.call_with(all, kind, live, call)
    }

    /// Makes a call whose gradients outside of frozen groups are `live`.
    fn call_with(
        &mut self,
        all: Vec<Pair<A>>,
        kind: Call,
        live: Vec<ArrayD<A>>,
        call: impl FnMut(&mut Optimizer<A>, &mut [Pair<A>], bool) -> std::result::Result<Outcome, Error>,
    ) -> std::result::Result<Outcome, Error> {
        let before = self.twins.any.state_dict();
        // Parameters that must stay as they are.
        let mut still = Vec::new();
        for param in &self.params {
            let (name, value) = (param.name, &param.value);
            let passed = all.iter().any(|pair| pair.name == name);
            let frozen = frozen(&before, name, value.ndim());
            if !passed || frozen {
                still.push((name, bits(value.view()), entry(&before, name)));
            }
            let swapped = before.param(name).is_some_and(|known| known.swapped);
            if swapped && passed && !frozen {
                still.push((name, bits(value.view()), entry(&before, name)));
            }
        }
        let outcome = self.twins.call(all, &mut self.params, call);
        let after = self.twins.any.state_dict();
        for (name, value, known) in still {
            let now = self.params.iter().find(|param| param.name == name);
            assert!(
                now.is_some_and(|now| bits(now.value.view()) == value),
                "`{name}` has changed, which is frozen, swapped or was not passed"
            );
            let now = entry(&after, name);
            // It may have become known.
            let fresh = after
                .param(name)
                .is_none_or(|param| param.steps == 0 && !param.allocated);
            assert!(
                now == known || known.is_none() && fresh,
                "the state of `{name}` has changed, which is frozen, swapped or was not passed: {:?} {:?}",
                before.param(name),
                after.param(name)
            );
        }
        self.check_policy(&before, kind, &live, &outcome);
        outcome
    }

    fn check_policy(
        &self,
        before: &StateDict,
        kind: Call,
        live: &[ArrayD<A>],
        outcome: &std::result::Result<Outcome, Error>,
    ) {
        let optimizer = &self.twins.any;
        let any = |of: fn(f64) -> bool| live.iter().flatten().any(|g| of(g.f64().abs()));
        let bad = any(|g| !g.is_finite());
        // An algorithm may be unable to use what is larger, and such gradients are refused too.
        let large = any(if matches!(A::TYPE, ElementType::F32) {
            |g| g > 1e18
        } else {
            |g| g > 1e150
        });
        let norm = norm(live);
        // Norms are rounded in another way here.
        let limit = optimizer.limits.norm;
        let over = limit.is_some_and(|limit| norm > limit * (1.0 + 1e-6));
        let maybe_over = limit
            .is_some_and(|limit| norm.is_nan() || limit.is_nan() || norm >= limit * (1.0 - 1e-6));
        let single = optimizer.accumulation().1 == 1 && kind != Call::Sam;
        let checks = optimizer.non_finite != NonFinite::Propagate;
        match outcome {
            Ok(Outcome::Applied | Outcome::Accumulated) if checks => {
                assert!(!bad, "applied with a non-finite gradient");
                assert!(!over || !single, "applied with a norm of {norm}");
            }
            Ok(Outcome::Skipped) if single => {
                assert_eq!(optimizer.non_finite, NonFinite::Skip);
                assert!(bad || large || maybe_over, "skipped a norm of {norm}");
                let reported = optimizer.grad_norm();
                assert!(
                    reported.is_none_or(|found| near(found, norm)),
                    "the norm {reported:?} of an earlier step"
                );
            }
            Ok(Outcome::Skipped) => assert!(checks),
            Err(Error::NonFiniteGradient { .. }) if kind != Call::Sam => {
                assert_eq!(optimizer.non_finite, NonFinite::Error);
                assert!(bad || !single);
            }
            Err(Error::ExplodingGradient { .. }) if kind != Call::Sam => {
                assert_eq!(optimizer.non_finite, NonFinite::Error);
                assert!(large || maybe_over || !single);
            }
            Err(Error::TooManySkipped { limit, .. }) => {
                assert_eq!(optimizer.limits.skipped, Some(*limit));
                assert!(before.skipped >= *limit);
            }
            _ => {}
        }
        if let (Ok(Outcome::Applied), Call::Step, true, true) =
            (outcome, kind, optimizer.clip.is_some(), single)
            && let Some(found) = optimizer.grad_norm()
        {
            assert!(near(found, norm), "the norm is {norm}, not {found}");
        }
    }

    fn policies(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let non_finite = *u.choose(&[NonFinite::Propagate, NonFinite::Skip, NonFinite::Error])?;
        let limits = Limits {
            norm: if bool::arbitrary(u)? {
                Some(number(u)?)
            } else {
                None
            },
            skipped: if bool::arbitrary(u)? {
                Some(u.int_in_range(0..=2)?)
            } else {
                None
            },
        };
        let clip = if u.ratio(1, 3)? {
            let max_norm = number(u)?;
            Some(ClipByGlobalNorm {
                max_norm,
                ..Default::default()
            })
        } else {
            None
        };
        let watch = bool::arbitrary(u)?;
        for optimizer in [&mut self.twins.any, &mut self.twins.plain] {
            (optimizer.non_finite, optimizer.limits) = (non_finite, limits);
            (optimizer.clip, optimizer.watch) = (clip.clone(), watch);
        }
        self.twins.any.parallel = Parallel {
            min_work: if u.ratio(1, 4)? { 0 } else { 1 << 20 },
            chunk: u.int_in_range(0..=9)?,
        };
        Ok(())
    }

    fn swap(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Param { name, value } = u.choose_iter(&mut self.params)?;
        let mut before = value.clone();
        let outcome = self.twins.any.swap_average_param(name, value);
        let other = self.twins.plain.swap_average_param(name, &mut before);
        assert_eq!(outcome, other);
        assert_eq!(bits(value.view()), bits(before.view()));
        Ok(())
    }

    /// An evaluation must leave everything as it was.
    fn evaluate(&mut self) {
        let before = state_bytes(&self.twins.any);
        let mut values: Vec<_> = self
            .params
            .iter()
            .map(|param| param.value.clone())
            .collect();
        let mut evaluating = Evaluating::new(&mut self.twins.any);
        let mut entered = Vec::new();
        for (param, value) in self.params.iter().zip(&mut values) {
            let outcome = evaluating.enter_param(param.name, value);
            match self.twins.plain.evaluate_param(param.name, &param.value) {
                Ok(point) => {
                    assert_eq!(outcome, Ok(()));
                    assert_eq!(bits(value.view()), bits(point.view()), "evaluation");
                    entered.push((param, value));
                }
                Err(error) => assert_eq!(outcome, Err(error)),
            }
        }
        for (param, value) in entered.into_iter().rev() {
            evaluating
                .restore_param(param.name, value)
                .expect("it was entered");
            assert_eq!(bits(value.view()), bits(param.value.view()), "restored");
        }
        evaluating.finish().expect("all are restored");
        assert!(before == state_bytes(&self.twins.any));
    }

    fn schedules(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut schedules = Schedules::new();
        for _ in 0..u.int_in_range(1..=3)? {
            let field = *u.choose(&["lr", "lr", "weight_decay", "eps", "betas[0]", "momentum"])?;
            let schedule = any_schedule(u)?;
            schedules = if u.ratio(1, 3)? {
                schedules.drive_group(*u.choose(&GROUPS)?, field, schedule)
            } else {
                schedules.drive(field, schedule)
            };
        }
        let step = u64::arbitrary(u)? >> u.int_in_range(0..=63)?;
        self.twins
            .change(|optimizer| schedules.apply(optimizer, step));
        Ok(())
    }

    /// One of the two goes on from a file.
    fn through_a_file(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let plain = &self.twins.plain;
        let state = plain.state_dict();
        let (format, valid) = (u.int_in_range(0..=5)?, is_valid(plain));
        let Some(back) = written_and_read(&state, format) else {
            assert!(!valid, "a state cannot be saved in format {format}");
            return Ok(());
        };
        assert!(
            summary(back.clone()) == summary(state.clone()),
            "format {format} has changed the state"
        );
        let differences = plain.differences(&state);
        match Optimizer::from_state(back) {
            Ok(mut same) => {
                assert!(differences.is_empty(), "{differences:?}");
                (same.watch, same.parallel) = (plain.watch, plain.parallel);
                (same.non_finite, same.limits) = (plain.non_finite, plain.limits);
                same.clip = plain.clip.clone();
                self.twins.plain = same;
            }
            Err(error) => assert!(!valid, "a saved state cannot be loaded: {error}"),
        }
        Ok(())
    }

    /// Returns to a state of this run, whatever has happened since.
    fn load(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some(saved) = &self.saved else {
            return Ok(());
        };
        if bool::arbitrary(u)? {
            self.twins
                .change(|optimizer| optimizer.load_state_dict(saved.view()));
        } else {
            self.twins
                .change(|optimizer| optimizer.load_matching(saved.view()));
        }
        Ok(())
    }
}

fn loss(u: &mut Unstructured<'_>) -> Result<Option<f64>> {
    Ok(match u.int_in_range(0..=3)? {
        0 => None,
        1 => Some(number(u)?),
        _ => Some(1.5),
    })
}

/// A parameter with a gradient that fits in most cases.
fn pair<A: Real>(u: &mut Unstructured<'_>, param: &Param<A>) -> Result<Pair<A>> {
    if u.ratio(1, 8)? {
        return Pair::new(u, param);
    }
    let grad = gradient(u, param.value.shape())?;
    Pair::with(u, param, Grad::Of(grad))
}

/// Small numbers, or any.
fn gradient<A: Real>(u: &mut Unstructured<'_>, shape: &[usize]) -> Result<ArrayD<A>> {
    if u.ratio(1, 3)? {
        return values(u, shape);
    }
    let (first, step) = (i8::arbitrary(u)?, i8::arbitrary(u)?);
    let mut x = f64::from(first) / 64.0;
    Ok(ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        x += f64::from(step) / 128.0;
        A::from_f64(x)
    }))
}

/// Whether the group of a parameter is frozen.
fn frozen(state: &StateDict, name: &str, ndim: usize) -> bool {
    let group = match state.param(name) {
        Some(known) => state.groups.iter().find(|group| group.name == known.group),
        None => state
            .groups
            .iter()
            .skip(1)
            .find(|group| group.params.matches(name, ndim)),
    };
    group.is_some_and(|group| group.frozen)
}

/// The state of one parameter as bytes.
fn entry(state: &StateDict, name: &str) -> Option<Vec<u8>> {
    let mut param = state.param(name)?.clone();
    // It counts the steps without this parameter.
    param.missed = 0;
    without_new_momentum(&mut param);
    let mut one = Optimizer::<f64>::new(Sgd::default()).state_dict();
    one.params.push(param);
    Some(summary(one))
}

fn plain_bytes<A: Real>(optimizer: &Optimizer<A>) -> Vec<u8> {
    let mut state = optimizer.state_dict();
    for param in &mut state.params {
        param.order.clear();
        param.reversed.clear();
    }
    summary(state)
}

/// The 2-norm, without overflow.
fn norm<A: Real>(arrays: &[ArrayD<A>]) -> f64 {
    let all = || arrays.iter().flatten().map(|x| x.f64().abs());
    let largest = all().fold(0.0, f64::max);
    if all().any(f64::is_nan) {
        f64::NAN
    } else if largest == 0.0 || largest.is_infinite() {
        largest
    } else {
        largest * all().map(|x| (x / largest).powi(2)).sum::<f64>().sqrt()
    }
}

fn near(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-6 * b || !a.is_finite() && !b.is_finite()
}

/// Whether the hyper-parameters and settings are those of a step.
fn is_valid<A: Real>(optimizer: &Optimizer<A>) -> bool {
    let mut optimizer = optimizer.clone();
    optimizer.set_accumulation(1);
    matches!(
        optimizer.step(Params::new()),
        Ok(_) | Err(Error::Loss { .. })
    )
}

/// `None` if the state cannot be written. What has been written must be readable.
fn written_and_read(state: &StateDict, format: u8) -> Option<StateDict> {
    const READ: &str = "what was saved can be loaded";
    Some(match format {
        0 => StateDict::from_bytes(&state.to_bytes().ok()?).expect(READ),
        1 => {
            let file = state.to_safetensors().ok()?;
            StateDict::from_safetensors(&file).expect(READ).0
        }
        2 => serde_json::from_slice(&serde_json::to_vec(state).ok()?).expect(READ),
        3 => {
            let mut file = Vec::new();
            ciborium::into_writer(state, &mut file).ok()?;
            ciborium::from_reader(&file[..]).expect(READ)
        }
        4 => postcard::from_bytes(&postcard::to_stdvec(state).ok()?).expect(READ),
        _ => {
            let file = Checkpoint::new(1).state("s", state.view()).ok()?;
            let file = file.to_bytes().ok()?;
            let mut checkpoint = Checkpoint::from_bytes(&file).expect(READ);
            checkpoint.take_state("s").expect(READ)
        }
    })
}
