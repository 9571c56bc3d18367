//! A step: all checks, then sums over whole arrays, then the sweep that updates them.
use super::{
    Optimizer, Outcome,
    across::{Exchange, sums_across},
    clip::sum_of,
    group::{GroupSlot, Groups},
    param_table::ParamEntry,
    pass::{Pass, flushes},
};
use crate::{
    algorithm::{Engine, HyperParameters, StepInfo},
    array::Element,
    error::Error,
    kernel::{
        KernelArgs, Parallel, Sums, Totals,
        param_views::{ParamViews, Strided, Task, pieces},
        pool::{self, drain, lock},
        reduce::{Norm, RunningSums, Sum},
    },
    params::{Param, StepInput},
    policy::NonFinite,
    state::MAX_STEPS,
};
use std::{
    iter::zip,
    sync::{Mutex, PoisonError},
};

/// The totals of each group, by index; empty if no statistics are gathered.
pub(super) type Watches = Vec<Mutex<Totals>>;

impl<A: Element> Optimizer<A> {
    /// Performs a step, or one call of a round of gradient accumulation.
    #[inline]
    pub(super) fn run(&mut self, input: StepInput<'_, '_, A>) -> Result<Outcome, Error> {
        if self.accumulation.every > 1 {
            self.accumulate(input, false)
        } else {
            self.make_step(input)
        }
    }

    /// Performs a step.
    #[inline]
    pub(super) fn make_step(&mut self, mut input: StepInput<'_, '_, A>) -> Result<Outcome, Error> {
        self.check_settings()?;
        let Some(work) = self.check_step(&mut input)? else {
            return Ok(self.skip());
        };
        self.apply_step(input, work);
        Ok(Outcome::Applied)
    }

    /// Performs a step after all checks: nothing can fail any more. `work` is that of `check_step`.
    #[inline]
    pub(super) fn apply_step(&mut self, mut input: StepInput<'_, '_, A>, work: u64) {
        let _in_progress = self.parallel.begin(work);
        self.skipped = 0;
        if self.table.begins_averages {
            self.begin_averages(&mut input);
        }
        self.set_clip_factors(&mut input);
        let watches = self.begin_watch();
        let with_grad = input.params.iter().filter(|param| param.views.has_grad());
        let mut entries = with_grad.map(|param| &self.table.entries[param.entry]);
        if entries.any(|entry| entry.follows(self.steps)) {
            self.steps = next_step(self.steps);
        }
        let (mut any_staged, mut any_sums, mut any_shared) = (false, false, false);
        for slot in &mut self.groups.list {
            slot.engine.begin_step();
            slot.now = self.steps;
            any_staged |= slot.requirements.is_staged();
            any_sums |= slot.requirements.terms > 0;
            any_shared |= slot.requirements.shared.is_some();
        }
        if any_shared && !self.groups.is_single() {
            self.groups.share_scalars();
        }
        if any_staged {
            self.sweep_staged(&mut input, &watches);
        }
        if any_sums {
            self.measure(&mut input);
        }
        if self.parallel.pays(work) {
            pool::watch(work, || self.sweep_parallel(input, &watches));
        } else {
            self.sweep(input, &watches);
        }
        self.end_watch(watches);
    }

    /// The outcome of a skipped step, which has neither a norm nor statistics.
    #[cold]
    pub(super) fn skip(&mut self) -> Outcome {
        self.grad_norm = None;
        self.stats.clear();
        Outcome::Skipped
    }

    /// Checks all hyper-parameters and settings that have changed.
    #[inline]
    pub(super) fn check_settings(&mut self) -> Result<(), Error> {
        self.groups.check(&mut self.table.entries)?;
        self.limits.validate()?;
        if let Some(clip) = &self.clip {
            clip.validate()?;
        }
        Ok(())
    }

    /// Looks up every parameter and runs all checks of a step. Returns the work of the step, or
    /// `None` to skip it. Unless the step goes on, parameters that are new in it are removed again.
    #[inline]
    pub(super) fn check_step(
        &mut self,
        input: &mut StepInput<'_, '_, A>,
    ) -> Result<Option<u64>, Error> {
        let known = self.table.entries.len();
        let looked_up = self.look_up(input);
        let work = looked_up.and_then(|work| {
            let with_grad = input.params.iter().filter(|param| param.views.has_grad());
            self.check_shared(with_grad.map(|param| self.table.entries[param.entry].group))?;
            self.check_loss(input)?;
            Ok(self.accept_gradients(input)?.then_some(work))
        });
        if !matches!(work, Ok(Some(_))) {
            self.table.truncate(known);
        }
        work
    }

    /// Looks up every parameter, and removes the gradients of frozen groups. Returns the work of
    /// the step.
    #[inline]
    pub(super) fn look_up(&mut self, input: &mut StepInput<'_, '_, A>) -> Result<u64, Error> {
        let work = self.table.look_up(input.params, &self.groups)?;
        self.drop_frozen_gradients(input.params);
        Ok(work)
    }

    /// Removes the gradients of frozen groups from the step.
    #[inline]
    fn drop_frozen_gradients(&self, params: &mut [Param<'_, A>]) {
        if self.groups.list.iter().any(|slot| slot.frozen) {
            let frozen = |param: &Param<'_, A>| {
                self.groups.list[self.table.entries[param.entry].group].frozen
            };
            params
                .iter_mut()
                .filter(|param| frozen(param))
                .for_each(|param| param.views.freeze());
        }
    }

    /// Checks that groups that share their sums agree in the hyper-parameters of these; `groups` are
    /// those of the parameters in a step.
    #[inline]
    pub(super) fn check_shared(&self, groups: impl Iterator<Item = usize>) -> Result<(), Error> {
        if self.groups.is_single() {
            return Ok(());
        }
        let mut firsts: Vec<&GroupSlot<A>> = Vec::new();
        for group in groups {
            let slot = &self.groups.list[group];
            if slot.requirements.shared.is_none() {
                continue;
            }
            match firsts.iter().find(|first| first.shares_with(slot)) {
                None => firsts.push(slot),
                Some(first) => first.check_agrees(slot)?,
            }
        }
        Ok(())
    }

    /// Checks that the loss is given and finite if an algorithm needs it.
    #[inline]
    fn check_loss(&self, input: &StepInput<'_, '_, A>) -> Result<(), Error> {
        if input.loss.is_some_and(f64::is_finite)
            || !self.groups.list.iter().any(|slot| slot.requirements.loss)
        {
            return Ok(());
        }
        let needs = |param: &Param<'_, A>| {
            let slot = &self.groups.list[self.table.entries[param.entry].group];
            slot.requirements.loss && !slot.frozen
        };
        // With one group it is an error of the call, whichever parameters are passed.
        let needed = self.groups.is_single() || input.params.iter().any(needs);
        if needed {
            Err(Error::Loss { given: input.loss })
        } else {
            Ok(())
        }
    }

    /// Returns whether to go on with these gradients, and counts skipped steps. A step that is
    /// applied resets the count.
    #[inline]
    pub(super) fn accept_gradients(&mut self, input: &StepInput<'_, '_, A>) -> Result<bool, Error> {
        if self.non_finite == NonFinite::Propagate {
            return Ok(true);
        }
        self.inspect_gradients(input)
    }

    /// The largest size of a gradient element that a group can use.
    pub(super) fn largest_gradient(&self, group: usize) -> A {
        let of_algorithm = self.groups.list[group].requirements.largest_gradient;
        let largest = of_algorithm.filter(|_| self.clip.is_none());
        largest.map_or(A::max_value(), A::from_f64)
    }

    #[cold]
    fn inspect_gradients(&mut self, input: &StepInput<'_, '_, A>) -> Result<bool, Error> {
        let (params, strided, parallel) = (&*input.params, &*input.strided, self.parallel);
        let beyond = params.iter().find_map(|param| {
            let limit = self.largest_gradient(self.table.entries[param.entry].group);
            Some((&*param.name, limit, param.views.beyond(limit, strided)?))
        });
        let norm = || sum_of(params, strided, Norm::L2, &parallel).value();
        self.judge_gradients(beyond, norm)
    }

    /// Returns whether all gradients are finite and within the limits, or the error that the policy
    /// asks for. Counts the step if it is to be skipped. `beyond` is the name of a parameter, the
    /// largest element that its group can use, and an element beyond it.
    pub(super) fn judge_gradients(
        &mut self,
        beyond: Option<(&str, A, A)>,
        norm: impl FnOnce() -> f64,
    ) -> Result<bool, Error> {
        let error = match (beyond, self.limits.norm) {
            (Some((_, limit, value)), _) if value.is_finite() => Some(Error::ExplodingGradient {
                norm: norm(),
                limit: limit.f64(),
            }),
            (Some((name, _, value)), _) => Some(Error::NonFiniteGradient {
                name: name.into(),
                value: value.f64(),
            }),
            (None, Some(limit)) => {
                let norm = norm();
                (norm > limit).then_some(Error::ExplodingGradient { norm, limit })
            }
            (None, None) => None,
        };
        let skipped = self.skipped + 1;
        match (error, self.limits.skipped) {
            (None, _) => Ok(true),
            (Some(error), _) if self.non_finite == NonFinite::Error => Err(error),
            (Some(_), Some(limit)) if skipped > limit => {
                Err(Error::TooManySkipped { skipped, limit })
            }
            (Some(_), _) => {
                self.skipped = skipped.min(MAX_STEPS - 1);
                Ok(false)
            }
        }
    }

    /// Computes the sums over whole arrays that kernels need. Groups that work on copies already
    /// have theirs.
    #[cold]
    fn measure(&mut self, input: &mut StepInput<'_, '_, A>) {
        let loss = input.loss.unwrap_or(f64::NAN);
        let Optimizer {
            groups: Groups { list: slots, .. },
            table,
            parallel,
            ..
        } = self;
        let with_grad = |param: &&mut Param<'_, A>| param.views.has_grad();
        for param in input.params.iter_mut().filter(with_grad) {
            let entry = &mut table.entries[param.entry];
            let slot = &mut slots[entry.group];
            if slot.requirements.terms == 0 {
                continue;
            }
            if !entry.allocated {
                entry.allocate(param.views.order, slot);
            }
            let step = entry.next_step(slot, loss);
            let args = KernelArgs {
                first: !entry.begun,
                staged: false,
            };
            entry.begun = true;
            let scale = slot.scale * param.clip_factor;
            let views = (&mut param.views, &mut *input.strided);
            let sums = measure_array(views, entry, slot, &step, args, scale, parallel);
            slot.add_sums(entry, &step, sums);
        }
        let all = 0..slots.len();
        finish_sums(slots, all, false, &mut input.exchange, loss);
    }

    #[inline]
    fn sweep(
        &mut self,
        StepInput {
            params,
            strided,
            loss,
            ..
        }: StepInput<'_, '_, A>,
        watches: &Watches,
    ) {
        let loss = loss.unwrap_or(f64::NAN);
        for param in params.iter_mut().filter(|param| param.views.has_grad()) {
            let entry = &mut self.table.entries[param.entry];
            let watch = watches.get(entry.group);
            let slot = &mut self.groups.list[entry.group];
            let pass = entry.prepare_step(param, slot, loss);
            let (views, engine, order) = (&mut param.views, &*slot.engine, entry.order);
            match watch {
                None => views.for_each_slice(order, strided, entry.arrays(), &mut |p, g, state| {
                    pass.run(engine, p, g, state)
                }),
                Some(watch) => add_totals(watch, |totals| {
                    views.for_each_slice(order, strided, entry.arrays(), &mut |p, g, state| {
                        pass.run_watched(engine, p, g, state, totals)
                    })
                }),
            }
        }
    }

    #[cold]
    fn sweep_parallel(
        &mut self,
        StepInput {
            params,
            strided,
            loss,
            ..
        }: StepInput<'_, '_, A>,
        watches: &Watches,
    ) {
        let loss = loss.unwrap_or(f64::NAN);
        // In the order of the entries, so that the state of all of them can be borrowed at once.
        params.sort_unstable_by_key(|param| param.entry);
        let Optimizer {
            groups: Groups { list: slots, .. },
            table,
            parallel,
            ..
        } = self;
        let chunk = parallel.chunk.max(1);
        let elements = params.iter().map(|param| param.views.size()).sum();
        // Prepares all kernels first: from then on engines are only read.
        let mut tasks = Vec::with_capacity(params.len());
        let mut entries = table.entries.iter_mut().enumerate();
        for param in params.iter_mut().filter(|param| param.views.has_grad()) {
            let index = param.entry;
            // Entries are visited once, in ascending order.
            let Some((_, entry)) = entries.find(|&(i, _)| i == index) else {
                debug_assert!(false, "parameter `{}` has no entry", param.name);
                continue;
            };
            let group = entry.group;
            let pass = entry.prepare_step(param, &mut slots[group], loss);
            let order = entry.order;
            let task = Task::new(&mut param.views, order, strided, entry.arrays());
            tasks.push((task, (group, pass)));
        }
        let slots = &*slots;
        let work = |(task, (group, pass)): (Task<'_, A>, (usize, Pass<A>))| {
            run_piece(task, &*slots[group].engine, &pass, watches.get(group));
        };
        let tasks = pieces(tasks.into_iter(), chunk);
        drain(tasks, |(task, _)| task.len(), elements, work);
    }
}

/// The step count after one more step. It stays at the greatest one that a state can contain.
#[inline]
pub(super) fn next_step(t: u64) -> u64 {
    (t + 1).min(MAX_STEPS)
}

/// Computes the sums over one array, in parallel if it is large enough.
pub(super) fn measure_array<'a, A: Element>(
    (views, strided): (&mut ParamViews<'a, A>, &mut [Option<Strided<'a, A>>]),
    entry: &mut ParamEntry<A>,
    slot: &mut GroupSlot<A>,
    step: &StepInfo,
    args: KernelArgs,
    scale: A,
    parallel: &Parallel,
) -> RunningSums {
    let kernel = slot.engine.prepare(&StepInfo {
        sums_pending: true,
        ..*step
    });
    let pass = Pass {
        kernel,
        args,
        scale,
        flush: false,
    };
    let (engine, size, order) = (&*slot.engine, views.size(), entry.order);
    if !parallel.pays(pool::work(size, slot.requirements.cost)) {
        let mut sums = RunningSums::default();
        views.for_each_slice(order, strided, entry.arrays(), &mut |p, g, state| {
            pass.measure(engine, p, g, state, &mut sums);
        });
        return sums;
    }
    let task = Task::borrow(views, order, strided, entry.arrays());
    let chunk = parallel.chunk.max(1);
    let all = Mutex::new(RunningSums::default());
    let work = |(task, ()): (Task<'_, A>, ())| {
        let mut part = RunningSums::default();
        task.run(&mut |p, g, state| pass.measure(engine, p, g, state, &mut part));
        lock(&all)
            .iter_mut()
            .zip(&part)
            .for_each(|(sum, part)| sum.merge(part));
    };
    let tasks = pieces([(task, ())].into_iter(), chunk);
    drain(tasks, |(task, ())| task.len(), size, work);
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl<A: Element> GroupSlot<A> {
    /// Adds the sums over one array to those of the group, or updates the scalars of the array if
    /// its sums are its own.
    pub(super) fn add_sums(
        &mut self,
        entry: &mut ParamEntry<A>,
        step: &StepInfo,
        sums: RunningSums,
    ) {
        if self.requirements.global_sums {
            self.sums
                .iter_mut()
                .zip(&sums)
                .for_each(|(all, sum)| all.merge(sum));
            self.sums_ready = true;
        } else {
            let sums = Sums(sums.map(|sum| sum.result()));
            entry.scalars = self.engine.update_scalars(step, &sums);
        }
    }

    /// Updates the scalars of the group from its sums.
    fn finish_sums(&mut self, loss: f64) {
        (self.t, self.sums_ready) = (next_step(self.t), false);
        let sums = Sums(self.sums.each_ref().map(Sum::result));
        *self.sums = RunningSums::default();
        let scalars = self
            .scalars
            .unwrap_or_else(|| self.engine.initial_scalars());
        let step = StepInfo::new(self.t, scalars, loss);
        self.scalars = Some(self.engine.update_scalars(&step, &sums));
    }
}

/// Updates the scalars of those groups to whose sums the current step has added, and of all groups
/// that share them. Without `staged`, staged groups among them already have theirs.
pub(super) fn finish_sums<A: Element>(
    slots: &mut [GroupSlot<A>],
    groups: impl Iterator<Item = usize> + Clone,
    staged: bool,
    exchange: &mut Option<&mut (dyn Exchange + '_)>,
    loss: f64,
) {
    if let Some(exchange) = exchange {
        let is_open = |&group: &usize| {
            let requirements = &slots[group].requirements;
            requirements.global_sums && (staged || !requirements.is_staged())
        };
        let open: Vec<usize> = groups.clone().filter(is_open).collect();
        sums_across(slots, &open, &mut **exchange);
    }
    for group in groups {
        finish_group(slots, group, loss);
    }
}

fn finish_group<A: Element>(slots: &mut [GroupSlot<A>], group: usize, loss: f64) {
    if !slots[group].sums_ready {
        return;
    }
    if slots[group].requirements.shared.is_none() {
        slots[group].finish_sums(loss);
        return;
    }
    let shares = |slots: &[GroupSlot<A>], i: usize| slots[i].shares_with(&slots[group]);
    // The first with the largest learning rate computes the scalars of all.
    let mut first = group;
    for i in 0..slots.len() {
        if slots[i].sums_ready
            && shares(slots, i)
            && slots[i].engine.lr() > slots[first].engine.lr()
        {
            first = i;
        }
    }
    for i in (0..slots.len()).filter(|&i| i != first) {
        if slots[i].sums_ready
            && shares(slots, i)
            && let Ok([first, other]) = slots.get_disjoint_mut([first, i])
        {
            zip(&mut *first.sums, &*other.sums).for_each(|(all, sum)| all.merge(sum));
        }
    }
    slots[first].finish_sums(loss);
    let (scalars, t) = (slots[first].scalars, slots[first].t);
    for i in (0..slots.len()).filter(|&i| i != first) {
        if shares(slots, i) {
            slots[i].share(scalars, t);
        }
    }
}

/// Runs a kernel over one array, in parallel if it is large enough.
pub(super) fn run_one<A: Element>(
    task: Task<'_, A>,
    slot: &GroupSlot<A>,
    pass: &Pass<A>,
    watch: Option<&Mutex<Totals>>,
    parallel: &Parallel,
) {
    let size = task.len();
    let work = |(task, ()): (Task<'_, A>, ())| run_piece(task, &*slot.engine, pass, watch);
    if parallel.pays(pool::work(size, slot.requirements.cost)) {
        let chunk = parallel.chunk.max(1);
        let tasks = pieces([(task, ())].into_iter(), chunk);
        drain(tasks, |(task, ())| task.len(), size, work);
    } else {
        work((task, ()));
    }
}

fn run_piece<A: Element>(
    task: Task<'_, A>,
    engine: &dyn Engine<A>,
    pass: &Pass<A>,
    watch: Option<&Mutex<Totals>>,
) {
    match watch {
        None => task.run(&mut |p, g, state| pass.run(engine, p, g, state)),
        Some(watch) => add_totals(watch, |totals| {
            task.run(&mut |p, g, state| pass.run_watched(engine, p, g, state, totals))
        }),
    }
}

/// Adds the statistics that `gather` collects to `watch`.
fn add_totals(watch: &Mutex<Totals>, gather: impl FnOnce(&mut Totals)) {
    let mut totals = Totals::default();
    gather(&mut totals);
    *lock(watch) += totals;
}

impl<A: Element> ParamEntry<A> {
    /// Counts a step, for which state is allocated where necessary, and returns what to do with the
    /// array.
    #[inline]
    fn prepare_step(
        &mut self,
        param: &Param<'_, A>,
        slot: &mut GroupSlot<A>,
        loss: f64,
    ) -> Pass<A> {
        if !self.allocated {
            self.allocate(param.views.order, slot);
        }
        self.count_step(param.clip_factor, slot, loss)
    }

    /// As `prepare_step`, for an array whose state is allocated.
    #[inline]
    pub(super) fn count_step(
        &mut self,
        clip_factor: A,
        slot: &mut GroupSlot<A>,
        loss: f64,
    ) -> Pass<A> {
        let step = self.count(slot, loss);
        if slot.requirements.terms == 0 {
            self.scalars = slot.engine.update_scalars(&step, &Sums::default());
        }
        let args = KernelArgs {
            first: !self.begun,
            staged: false,
        };
        self.begun = true;
        let step = StepInfo {
            scalars: slot.scalars.unwrap_or(self.scalars),
            loss: f64::NAN,
            ..step
        };
        Pass {
            kernel: slot.engine.prepare(&step),
            args,
            scale: slot.scale * clip_factor,
            flush: flushes(step.t),
        }
    }
}
