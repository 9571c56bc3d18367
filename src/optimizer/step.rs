//! One step: check everything, measure, sweep. The only way in.
use super::{
    Optimizer, Outcome,
    clip::norm,
    group::{Groups, Slot},
    ledger::Entry,
};
use crate::{
    algorithm::{Engine, StepInfo},
    array::Element,
    error::Error,
    kernel::{
        Arrays, At, MAX_TERMS, Parallel, Totals,
        plan::{Task, pieces},
        pool::{drain, lock},
        reduce::{Norm, Sum},
        watch::{PAGE, compare},
    },
    params::{Lending, Param},
    policy::NonFinite,
};
use std::sync::{Mutex, PoisonError};

/// Where the group of each place adds up what a step does; empty if nobody asks.
pub(super) type Watches = Vec<Mutex<Totals>>;

/// What a piece of an array is run with: its group, the place of its kernel there, and where it stands.
type HowTo<A> = (usize, usize, At<A>);

impl<A: Element> Optimizer<A> {
    /// One step over lent parameters, or one call of an accumulation.
    #[inline]
    pub(super) fn run(&mut self, lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        if self.accumulation.every > 1 { self.accumulate(lending) } else { self.advance(lending) }
    }

    /// One step.
    #[inline]
    pub(super) fn advance(&mut self, mut lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        self.check()?;
        let Some(work) = self.admit(&mut lending)? else { return Ok(Outcome::Skipped) };
        self.clip(&mut lending);
        if self.groups.list.iter().any(|slot| slot.demands.terms > 0) {
            self.measure(&mut lending);
        }
        let watches = self.begin_watch();
        self.groups.list.iter_mut().for_each(|slot| slot.engine.begin_step());
        if self.groups.list.iter().any(|slot| slot.demands.directed) {
            self.sweep_directed(&mut lending, &watches);
        }
        if self.parallel.pays(work) {
            self.sweep_parallel(lending, &watches);
        } else {
            self.sweep(lending, &watches);
        }
        self.end_watch(watches);
        Ok(Outcome::Applied)
    }

    /// Checks all settings that have changed.
    #[inline]
    pub(super) fn check(&mut self) -> Result<(), Error> {
        self.groups.check()?;
        if let Some(clip) = &self.clip {
            crate::wrap::Wrap::validate(clip)?;
        }
        Ok(())
    }

    /// Finds the entry of every parameter and makes all checks of a step; returns the work there is, `None` if it shall be
    /// skipped. Parameters that are new in a refused step are forgotten again.
    #[inline]
    pub(super) fn admit(&mut self, lending: &mut Lending<'_, '_, A>) -> Result<Option<u64>, Error> {
        let known = self.ledger.entries.len();
        let work = self.ledger.place(lending.params, &self.groups).and_then(|work| {
            self.leave_frozen(lending.params);
            self.check_loss(lending)?;
            Ok(self.accept(lending)?.then_some(work))
        });
        if !matches!(work, Ok(Some(_))) {
            self.ledger.forget(known);
        }
        work
    }

    /// Takes the gradients of frozen groups out of the step.
    #[inline]
    fn leave_frozen(&self, params: &mut [Param<'_, A>]) {
        if self.groups.list.iter().any(|slot| slot.frozen) {
            let frozen = |param: &Param<'_, A>| self.groups.list[self.ledger.entries[param.entry].group].frozen;
            params.iter_mut().filter(|param| frozen(param)).for_each(|param| param.lent.freeze());
        }
    }

    /// Whether the value of the objective is there if it is needed.
    #[inline]
    fn check_loss(&self, lending: &Lending<'_, '_, A>) -> Result<(), Error> {
        if lending.loss.is_some_and(f64::is_finite) || !self.groups.list.iter().any(|slot| slot.demands.loss) {
            return Ok(());
        }
        let needs = |param: &Param<'_, A>| {
            let slot = &self.groups.list[self.ledger.entries[param.entry].group];
            slot.demands.loss && !slot.frozen
        };
        // With one group it is an error of the call, whatever is lent.
        let needed = self.groups.is_single() || lending.params.iter().any(needs);
        if needed { Err(Error::Loss { given: lending.loss }) } else { Ok(()) }
    }

    /// Whether to go on, by what the gradients contain; counts the steps that are skipped.
    #[inline]
    pub(super) fn accept(&mut self, lending: &Lending<'_, '_, A>) -> Result<bool, Error> {
        let accepted = self.non_finite == NonFinite::Propagate || self.inspect(lending)?;
        self.skipped = if accepted { 0 } else { self.skipped + 1 };
        Ok(accepted)
    }

    #[cold]
    fn inspect(&self, lending: &Lending<'_, '_, A>) -> Result<bool, Error> {
        let bad = lending.params.iter().find_map(|param| Some((&param.name, param.lent.non_finite(lending.strided)?)));
        let error = match (bad, self.limits.norm) {
            (Some((name, value)), _) => Some(Error::NonFiniteGradient { name: name.to_string(), value: value.f64() }),
            (None, Some(limit)) => {
                let norm = norm(lending.params, lending.strided, Norm::L2, &self.parallel);
                (norm > limit).then_some(Error::ExplodingGradient { norm, limit })
            }
            (None, None) => None,
        };
        let skipped = self.skipped + 1;
        match (error, self.limits.skipped) {
            (None, _) => Ok(true),
            (Some(error), _) if self.non_finite == NonFinite::Error => Err(error),
            (Some(_), Some(limit)) if skipped > limit => Err(Error::TooManySkipped { skipped, limit }),
            (Some(_), _) => Ok(false),
        }
    }

    /// Takes the sums that the kernels ask for, before anything but the beginning of state changes.
    #[cold]
    fn measure(&mut self, lending: &mut Lending<'_, '_, A>) {
        let loss = lending.loss.unwrap_or(f64::NAN);
        let Optimizer { groups: Groups { list: slots, .. }, ledger, parallel, .. } = self;
        for slot in slots.iter_mut().filter(|slot| slot.demands.terms > 0) {
            slot.engine.begin_step();
            *slot.sums = Default::default();
        }
        for param in lending.params.iter_mut().filter(|param| param.lent.has_grad()) {
            let entry = &mut ledger.entries[param.entry];
            let slot = &mut slots[entry.group];
            if slot.demands.terms == 0 {
                continue;
            }
            if !entry.allocated {
                entry.allocate(param.lent.order, slot);
            }
            let at = StepInfo::new(entry.t + 1, slot.scalars.unwrap_or(entry.scalars), loss);
            let kernel = slot.engine.prepare(&StepInfo { measuring: true, ..at });
            let place = At { first: !entry.begun, scale: slot.scale * param.factor };
            entry.begun = true;
            let engine = &*slot.engine;
            let (size, order) = (param.lent.size(), entry.order);
            let mut sums = <[Sum; MAX_TERMS]>::default();
            if parallel.pays(size as u64 * slot.demands.cost) {
                let task = Task::borrow(&mut param.lent, order, lending.strided, entry.arrays());
                let all = Mutex::new(sums);
                let chunk = parallel.chunk.max(1);
                let measure = |(task, ()): (Task<'_, A>, ())| {
                    let mut part = <[Sum; MAX_TERMS]>::default();
                    task.run(&mut |p, g, state| engine.measure(kernel, &place, p, g, state, &mut part));
                    lock(&all).iter_mut().zip(&part).for_each(|(sum, part)| sum.merge(part));
                };
                drain(pieces([(task, ())].into_iter(), chunk), size / chunk, |(task, ())| task.len(), chunk, measure);
                sums = all.into_inner().unwrap_or_else(PoisonError::into_inner);
            } else {
                let mut measure = |p: &mut [A], g: &[A], state: Arrays<'_, A>| {
                    engine.measure(kernel, &place, p, g, state, &mut sums);
                };
                param.lent.walk(order, lending.strided, entry.arrays(), &mut measure);
            }
            if slot.demands.global {
                slot.sums.iter_mut().zip(&sums).for_each(|(all, sum)| all.merge(sum));
                slot.due = true;
            } else {
                entry.scalars = slot.engine.absorb(&at, &sums.map(|sum| sum.value()));
            }
        }
        for slot in slots.iter_mut().filter(|slot| slot.due) {
            (slot.t, slot.due) = (slot.t + 1, false);
            let sums = slot.sums.each_ref().map(Sum::value);
            let at = StepInfo::new(slot.t, slot.scalars.unwrap_or_else(|| slot.engine.scalars()), loss);
            slot.scalars = Some(slot.engine.absorb(&at, &sums));
        }
    }

    #[inline]
    fn sweep(&mut self, Lending { params, strided, loss }: Lending<'_, '_, A>, watches: &Watches) {
        let loss = loss.unwrap_or(f64::NAN);
        for param in params.iter_mut().filter(|param| param.lent.has_grad()) {
            let entry = &mut self.ledger.entries[param.entry];
            let watch = watches.get(entry.group);
            let slot = &mut self.groups.list[entry.group];
            let (kernel, at) = entry.advance(param, slot, loss);
            let (lent, engine, order) = (&mut param.lent, &*slot.engine, entry.order);
            match watch {
                None => lent.walk(order, strided, entry.arrays(), &mut |p, g, state| engine.run(kernel, &at, p, g, state)),
                Some(seen) => {
                    watched(engine, kernel, &at, seen, |mut work| lent.walk(order, strided, entry.arrays(), &mut work))
                }
            }
        }
    }

    #[cold]
    fn sweep_parallel(&mut self, Lending { params, strided, loss }: Lending<'_, '_, A>, watches: &Watches) {
        let loss = loss.unwrap_or(f64::NAN);
        // In the order of the entries, so that the state of all of them can be lent at once.
        params.sort_unstable_by_key(|param| param.entry);
        let Optimizer { groups: Groups { list: slots, .. }, ledger, parallel, .. } = self;
        let chunk = parallel.chunk.max(1);
        let elements: usize = params.iter().map(|param| param.lent.size()).sum();
        // All kernels first: from then on engines are only read.
        let mut tasks: Vec<(Task<'_, A>, HowTo<A>)> = Vec::with_capacity(params.len());
        let mut entries = ledger.entries.iter_mut().enumerate();
        for param in params.iter_mut().filter(|param| param.lent.has_grad()) {
            let at = param.entry;
            // Each entry once, in rising order.
            let Some((_, entry)) = entries.find(|&(i, _)| i == at) else {
                debug_assert!(false, "parameter `{}` has no entry", param.name);
                continue;
            };
            let group = entry.group;
            let (kernel, at) = entry.advance(param, &mut slots[group], loss);
            let order = entry.order;
            tasks.push((Task::new(&mut param.lent, order, strided, entry.arrays()), (group, kernel, at)));
        }
        let slots = &*slots;
        let work = |(task, (group, kernel, at)): (Task<'_, A>, HowTo<A>)| {
            run_piece(task, &*slots[group].engine, kernel, &at, watches.get(group));
        };
        drain(pieces(tasks.into_iter(), chunk), elements / chunk, |(task, _)| task.len(), chunk, work);
    }
}

/// Runs a kernel over one array, on threads if that pays.
pub(super) fn run_one<A: Element>(
    task: Task<'_, A>,
    slot: &Slot<A>,
    kernel: usize,
    at: &At<A>,
    watch: Option<&Mutex<Totals>>,
    parallel: &Parallel,
) {
    let size = task.len();
    let work = |(task, ()): (Task<'_, A>, ())| run_piece(task, &*slot.engine, kernel, at, watch);
    if parallel.pays(size as u64 * slot.demands.cost) {
        let chunk = parallel.chunk.max(1);
        drain(pieces([(task, ())].into_iter(), chunk), size / chunk, |(task, ())| task.len(), chunk, work);
    } else {
        work((task, ()));
    }
}

fn run_piece<A: Element>(
    task: Task<'_, A>,
    engine: &dyn Engine<A>,
    kernel: usize,
    at: &At<A>,
    seen: Option<&Mutex<Totals>>,
) {
    match seen {
        None => task.run(&mut |p, g, state| engine.run(kernel, at, p, g, state)),
        Some(seen) => watched(engine, kernel, at, seen, |mut work| task.run(&mut work)),
    }
}

/// Runs a kernel page by page, and adds what it does.
fn watched<A: Element>(
    engine: &dyn Engine<A>,
    kernel: usize,
    at: &At<A>,
    seen: &Mutex<Totals>,
    run: impl FnOnce(&mut dyn FnMut(&mut [A], &[A], Arrays<'_, A>)),
) {
    let (mut totals, mut old) = (Totals::default(), [A::ZERO; PAGE]);
    run(&mut |p, g, mut state| {
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let (p, g, state) = (&mut p[range.clone()], &g[range.clone()], state.part(range));
            let old = &mut old[..p.len()];
            old.copy_from_slice(p);
            engine.run(kernel, at, p, g, state);
            compare(old, p, g, &mut totals);
        }
    });
    *lock(seen) += totals;
}

impl<A: Element> Entry<A> {
    /// Counts the step: the place of its kernel, and how to run it.
    #[inline]
    pub(super) fn advance(&mut self, param: &Param<'_, A>, slot: &mut Slot<A>, loss: f64) -> (usize, At<A>) {
        if !self.allocated {
            self.allocate(param.lent.order, slot);
        }
        self.count(param.factor, slot, loss)
    }

    /// Counts a step of an array whose state is allocated.
    #[inline]
    pub(super) fn count(&mut self, factor: A, slot: &mut Slot<A>, loss: f64) -> (usize, At<A>) {
        self.t += 1;
        if slot.demands.terms == 0 {
            let at = StepInfo::new(self.t, slot.scalars.unwrap_or(self.scalars), loss);
            self.scalars = slot.engine.absorb(&at, &[0.0; MAX_TERMS]);
        }
        let at = At { first: !self.begun, scale: slot.scale * factor };
        self.begun = true;
        let scalars = slot.scalars.unwrap_or(self.scalars);
        (slot.engine.prepare(&StepInfo::new(self.t, scalars, f64::NAN)), at)
    }
}
