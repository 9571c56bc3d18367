//! Steps that transform the gradients of whole arrays before the sweep: wrappers that need whole
//! arrays or norms, the wrappers outside of those, and algorithms with a preconditioner.
//!
//! They work on copies of the gradients: of one array after another, or of all arrays of a group at
//! once if a norm or sum runs over the whole group.
use super::{
    Optimizer,
    across::Exchange,
    clip::{members_of, sort_by_group, sum},
    group::{GroupSlot, Groups},
    param_table::ParamEntry,
    pass::{Pass, flushes},
    step::{Watches, finish_sums, measure_array, run_one},
};
use crate::{
    algorithm::{Clipping, Stage, StageKind, StepInfo, WholeArray},
    array::{
        Element,
        layout::{Order, trimmed},
    },
    kernel::{
        Arrays, KernelArgs, Parallel, Sums, Totals,
        param_views::{ParamViews, Strided, Task},
        pool::{lock, on_threads},
        reduce::RunningSums,
    },
    params::{Param, StepInput},
};
use ndarray::{ArrayD, ArrayView, ArrayView6, ArrayViewMut, ArrayViewMut6};
use std::sync::Mutex;

/// Number of elements that a thread copies at a time.
const PART: usize = 1 << 13;

/// A parameter with its gradient and a row-major copy of the gradient, which the step transforms.
struct StagedArray<'t, A> {
    entry: usize,
    /// The index of its group.
    group: usize,
    p: ArrayViewMut6<'t, A>,
    g: ArrayView6<'t, A>,
    copy: &'t mut [A],
    /// Whether the preconditioner reads `g`, so that `copy` was not filled with it.
    reads_source: bool,
    /// Whether the state is initialized in this step.
    first: bool,
}

impl<'t, A: Element> StagedArray<'t, A> {
    fn new<'a>(
        param: &'t mut Param<'a, A>,
        entry: &mut ParamEntry<A>,
        slot: &mut GroupSlot<A>,
        strided: &mut [Option<Strided<'a, A>>],
        copy: &'t mut Vec<A>,
        parallel: &Parallel,
    ) -> Self {
        if !entry.allocated {
            entry.allocate(param.views.order, slot);
        }
        let scale = slot.scale * param.clip_factor;
        let (p, g) = param.views.take_views(Order::C, strided);
        copy.resize(g.len(), A::ZERO);
        let needed = &slot.requirements;
        let reads_source = needed.reads_source
            && needed.stages.is_empty()
            && needed.terms == 0
            && scale == A::one()
            && g.to_slice().is_some();
        if let Some(g) = g.to_slice().filter(|_| !reads_source) {
            let parts = copy.chunks_mut(PART).zip(g.chunks(PART));
            on_threads(parts, g.len(), parallel, |(copy, g)| {
                copy.iter_mut()
                    .zip(g)
                    .for_each(|(copy, &g)| *copy = scale * g);
            });
        } else if !reads_source
            // An empty array can have an axis that is too long to iterate over.
            && !g.is_empty()
            && let Ok(mut copy) = ArrayViewMut::from_shape(g.raw_dim(), copy)
        {
            copy.zip_mut_with(&g, |copy, &g| *copy = scale * g);
        }
        let first = !entry.begun;
        entry.begun = true;
        StagedArray {
            entry: param.entry,
            group: entry.group,
            p,
            g,
            copy,
            reads_source,
            first,
        }
    }

    /// The array in the form that wrappers and algorithms use; `None` if it is empty.
    fn whole<'w>(
        &'w mut self,
        name: &'w str,
        ndim: usize,
        extra: &'w mut [ArrayD<A>],
        parallel: Parallel,
    ) -> Option<WholeArray<'w, A>> {
        if self.copy.is_empty() {
            return None;
        }
        let grad = ArrayViewMut::from_shape(self.p.raw_dim(), &mut *self.copy).ok()?;
        Some(WholeArray {
            name,
            param: trimmed(self.p.view(), ndim),
            grad: trimmed(grad, ndim),
            extra,
            parallel,
            source: self.g.to_slice().filter(|_| self.reads_source),
        })
    }

    /// Calls `work` with slices of the parameter, the copy and the state, in the memory order of
    /// the state.
    fn walk(
        &mut self,
        entry: &mut ParamEntry<A>,
        mut work: impl FnMut(&[A], &mut [A], Arrays<'_, A>),
    ) {
        // With exchanged roles: the copy is written, the parameter is only read.
        if let Ok(copy) = ArrayViewMut::from_shape(self.p.raw_dim(), &mut *self.copy) {
            let mut views = [None];
            if let Ok(mut pair) =
                ParamViews::new(copy, self.p.view(), 0, |pair| views = [Some(pair)])
            {
                let order = entry.order;
                pair.for_each_slice(order, &mut views, entry.arrays(), &mut |g, p, state| {
                    work(p, g, state)
                });
            }
        }
    }

    /// Calls `work` with the parameter and the copy in place of its gradient.
    fn with_views(
        &mut self,
        work: impl for<'a> FnOnce(&mut ParamViews<'a, A>, &mut [Option<Strided<'a, A>>]),
    ) {
        if let Ok(copy) = ArrayView::from_shape(self.p.raw_dim(), &*self.copy) {
            let mut strided = [None];
            let pair = ParamViews::new(self.p.view_mut(), copy, 0, |pair| strided = [Some(pair)]);
            if let Ok(mut pair) = pair {
                work(&mut pair, &mut strided);
            }
        }
    }
}

impl<A: Element> Optimizer<A> {
    /// Performs the step of all groups that need copies of their gradients, and removes their
    /// gradients from the rest of the step.
    #[cold]
    pub(super) fn sweep_staged(&mut self, input: &mut StepInput<'_, '_, A>, watches: &Watches) {
        let StepInput {
            params,
            strided,
            loss,
            exchange,
            ..
        } = input;
        let Optimizer {
            groups: Groups { list: slots, .. },
            table,
            parallel,
            copies,
            grad_norm,
            ..
        } = self;
        sort_by_group(params, &table.entries);
        let mut done = vec![false; slots.len()];
        for group in 0..slots.len() {
            if done[group] || !slots[group].requirements.is_staged() {
                continue;
            }
            let entries = &mut table.entries;
            // Groups that share sums make the step together, whichever of them is staged.
            let candidates = match slots[group].requirements.shared {
                Some(_) => {
                    let all = done.iter_mut().zip(&*slots);
                    all.for_each(|(done, slot)| *done |= slot.shares_with(&slots[group]));
                    &mut **params
                }
                None => members_of(group, params, entries),
            };
            let is_member = |param: &&mut Param<'_, A>| {
                let of = entries[param.entry].group;
                param.views.has_grad() && (of == group || slots[of].shares_with(&slots[group]))
            };
            let mut members: Vec<_> = candidates.iter_mut().filter(is_member).collect();
            let mut step = StagedStep {
                watches,
                loss: loss.unwrap_or(f64::NAN),
                parallel: *parallel,
                grad_norm: &mut *grad_norm,
                exchange: &mut *exchange,
            };
            // All others would take quadratic time.
            let joint = match slots[group].requirements.shared {
                Some(_) => (0..slots.len())
                    .filter(|&other| slots[other].shares_with(&slots[group]))
                    .collect(),
                None => vec![group],
            };
            let together = slots[group].requirements.spans_arrays();
            let needed = if together { members.len() } else { 1 };
            copies.resize_with(copies.len().max(needed), Vec::new);
            if together {
                let arrays = members.iter_mut().zip(&mut *copies).map(|(param, copy)| {
                    let entry = &mut entries[param.entry];
                    let slot = &mut slots[entry.group];
                    StagedArray::new(param, entry, slot, strided, copy, parallel)
                });
                let mut arrays: Vec<_> = arrays.collect();
                step.run(slots, &joint, entries, &mut arrays);
            } else {
                for param in &mut members {
                    let entry = &mut entries[param.entry];
                    let slot = &mut slots[group];
                    let array =
                        StagedArray::new(param, entry, slot, strided, &mut copies[0], parallel);
                    step.run(slots, &joint, entries, &mut [array]);
                }
            }
            for param in members {
                param.views.freeze();
            }
        }
    }
}

/// What a step uses for all arrays.
struct StagedStep<'s, 'e> {
    watches: &'s Watches,
    loss: f64,
    parallel: Parallel,
    grad_norm: &'s mut Option<f64>,
    exchange: &'s mut Option<&'e mut (dyn Exchange + 'e)>,
}

impl StagedStep<'_, '_> {
    /// Performs the step of these arrays, sorted by group, which belong to `groups`: stages, sums,
    /// preconditioner, sweep.
    fn run<A: Element>(
        &mut self,
        slots: &mut [GroupSlot<A>],
        groups: &[usize],
        entries: &mut [ParamEntry<A>],
        arrays: &mut [StagedArray<'_, A>],
    ) {
        // Other processes can have arrays of a group that has none here.
        for &group in groups {
            let start = arrays.partition_point(|array| array.group < group);
            let end = arrays.partition_point(|array| array.group <= group);
            let (slot, members) = (&mut slots[group], &mut arrays[start..end]);
            for k in 0..slot.requirements.stages.len() {
                self.stage(k, slot, entries, members);
            }
            if slot.requirements.terms > 0 {
                for array in members {
                    self.measure(slot, &mut entries[array.entry], array);
                }
            }
        }
        let groups = groups.iter().copied();
        finish_sums(slots, groups, true, self.exchange, self.loss);
        for array in arrays {
            self.sweep(&mut slots[array.group], &mut entries[array.entry], array);
        }
    }

    /// Applies the wrapper of the `k`th stage to the copies.
    fn stage<A: Element>(
        &mut self,
        k: usize,
        slot: &GroupSlot<A>,
        entries: &mut [ParamEntry<A>],
        arrays: &mut [StagedArray<'_, A>],
    ) {
        let Stage {
            kind,
            arrays: range,
        } = &slot.requirements.stages[k];
        match kind {
            StageKind::Clip(clipping) if clipping.global => {
                let norm = self.clip(clipping, arrays);
                self.grad_norm.get_or_insert(norm);
            }
            StageKind::Clip(clipping) => {
                for array in arrays.chunks_mut(1) {
                    self.clip(clipping, array);
                }
            }
            StageKind::Whole => {
                for array in arrays {
                    let entry = &entries[array.entry];
                    let step = entry.next_step(slot, self.loss);
                    let ndim = entry.shape.as_slice().len();
                    if let Some(whole) = array.whole(&entry.name, ndim, &mut [], self.parallel) {
                        slot.engine.stage_whole(k, &step, whole);
                    }
                }
            }
            StageKind::Elements(changes_gradients) => {
                for array in arrays {
                    let entry = &mut entries[array.entry];
                    let (step, first) = (entry.next_step(slot, self.loss), array.first);
                    if first || *changes_gradients {
                        array.walk(entry, |p, g, mut state| {
                            let own = state.subset(range.clone());
                            slot.engine.stage_elements(k, &step, first, p, g, own);
                        });
                    }
                }
            }
        }
    }

    /// Clips the copies by their global norm, and returns the norm.
    fn clip<A: Element>(&mut self, clipping: &Clipping, arrays: &mut [StagedArray<'_, A>]) -> f64 {
        let copies = || arrays.iter().map(|array| &*array.copy);
        let sum = sum(copies(), std::iter::empty(), clipping.norm, &self.parallel);
        let norm = if clipping.global {
            sum.across(self.exchange)
        } else {
            sum.value()
        };
        let size: usize = copies().map(<[A]>::len).sum();
        let factor = A::from_f64(clipping.factor_of(norm, size));
        if factor != A::one() {
            for array in arrays {
                array.copy.iter_mut().for_each(|g| *g = factor * *g);
            }
        }
        norm
    }

    /// Computes the sums over an array that the kernel needs.
    fn measure<A: Element>(
        &self,
        slot: &mut GroupSlot<A>,
        entry: &mut ParamEntry<A>,
        array: &mut StagedArray<'_, A>,
    ) {
        let step = entry.next_step(slot, self.loss);
        let args = KernelArgs {
            first: array.first,
            staged: true,
        };
        array.first = false;
        let mut sums = RunningSums::default();
        array.with_views(|pair, strided| {
            let views = (pair, strided);
            sums = measure_array(views, entry, slot, &step, args, A::one(), &self.parallel);
        });
        slot.add_sums(entry, &step, sums);
    }

    /// Applies the preconditioner, if there is one, to the copy, and runs the kernel.
    fn sweep<A: Element>(
        &self,
        slot: &mut GroupSlot<A>,
        entry: &mut ParamEntry<A>,
        array: &mut StagedArray<'_, A>,
    ) {
        let step = entry.count(slot, self.loss);
        if slot.requirements.preconditioned {
            let ndim = entry.shape.as_slice().len();
            if let Some(whole) = array.whole(&entry.name, ndim, &mut entry.extra, self.parallel) {
                entry.scalars = slot.engine.transform(&step, whole);
            }
        }
        if slot.requirements.terms == 0 {
            let step = StepInfo {
                scalars: slot.scalars.unwrap_or(entry.scalars),
                ..step
            };
            entry.scalars = slot.engine.update_scalars(&step, &Sums::default());
        }
        let step = StepInfo {
            scalars: slot.scalars.unwrap_or(entry.scalars),
            loss: f64::NAN,
            ..step
        };
        let pass = Pass {
            kernel: slot.engine.prepare(&step),
            args: KernelArgs {
                first: array.first,
                staged: true,
            },
            scale: A::one(),
            flush: flushes(step.t),
        };
        let gathered = Mutex::new(Totals::default());
        let watch_of_group = self.watches.get(array.group);
        let watch = watch_of_group.map(|_| &gathered);
        array.with_views(|pair, strided| {
            let task = Task::borrow(pair, entry.order, strided, entry.arrays());
            run_one(task, slot, &pass, watch, &self.parallel);
        });
        if let Some(watch) = watch_of_group {
            // The gradient of the sweep was the copy: take these totals from the original.
            let mut totals = *lock(&gathered);
            totals.gradient = array.g.iter().map(|g| g.f64() * g.f64()).sum();
            totals.non_finite = array.g.iter().filter(|g| !g.is_finite()).count() as u64;
            *lock(watch) += totals;
        }
    }
}
