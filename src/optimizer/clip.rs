//! Gradient clipping by norms, which reads the gradients once before the step.
use super::{Optimizer, group::GroupSlot, param_table::ParamEntry};
use crate::{
    array::Element,
    kernel::{
        Parallel,
        param_views::Strided,
        reduce::{Norm, NormSum},
    },
    params::{Param, StepInput},
    wrap::Wrap,
};
use ndarray::ArrayView6;
use std::slice;

impl<A: Element> Optimizer<A> {
    /// Computes the norms for the clipping of unmodified gradients, and sets the factors by which
    /// the step multiplies the gradients. Groups that work on copies clip these later.
    #[inline]
    pub(super) fn set_clip_factors(&mut self, input: &mut StepInput<'_, '_, A>) {
        self.grad_norm = None;
        let clips = |slot: &GroupSlot<A>| !slot.requirements.clippings.is_empty();
        if self.clip.is_some() || self.groups.list.iter().any(clips) {
            self.clip_by_norms(input);
        } else {
            for slot in &mut self.groups.list {
                slot.scale = slot.sign;
            }
        }
    }

    /// Each clipping sees the gradients that the ones before it have scaled. The gradients are not
    /// changed here: their norm is multiplied by the factors so far.
    #[cold]
    fn clip_by_norms(&mut self, input: &mut StepInput<'_, '_, A>) {
        let StepInput {
            params,
            strided,
            exchange,
            ..
        } = input;
        let (parallel, entries) = (self.parallel, &self.table.entries);
        let strided = &**strided;
        let mut global_factor = 1.0;
        if let Some(clipping) = self.clip.as_ref().and_then(Wrap::clipping) {
            let norm = sum_of(params, strided, clipping.norm, &parallel).across(exchange);
            self.grad_norm = Some(norm);
            global_factor = clipping.factor_of(norm, 1);
        }
        sort_by_group(params, entries);
        for (group, slot) in self.groups.list.iter_mut().enumerate() {
            let mut factor = global_factor;
            let clippings = &slot.requirements.clippings;
            let members = if clippings.is_empty() {
                &mut []
            } else {
                members_of(group, params, entries)
            };
            for clipping in clippings.iter().filter(|clip| clip.global) {
                let sum = sum_of(members, strided, clipping.norm, &parallel);
                let norm = factor * sum.across(exchange);
                self.grad_norm.get_or_insert(norm);
                factor *= clipping.factor_of(norm, 1);
            }
            slot.scale = slot.sign * A::from_f64(factor);
            // Clipping by the norm of each array comes after global clipping: see `split_stages`.
            for clipping in clippings.iter().filter(|clip| !clip.global) {
                for param in members.iter_mut().filter(|param| param.views.has_grad()) {
                    let own = slice::from_ref(&*param);
                    let own_norm = sum_of(own, strided, clipping.norm, &parallel).value();
                    let norm = factor * param.clip_factor.f64() * own_norm;
                    let factor = clipping.factor_of(norm, param.views.size());
                    param.clip_factor = param.clip_factor * A::from_f64(factor);
                }
            }
        }
    }
}

/// Sorts parameters by their groups, so that steps of many groups take linear time.
pub(super) fn sort_by_group<A: Element>(params: &mut [Param<'_, A>], entries: &[ParamEntry<A>]) {
    params.sort_by_key(|param| entries[param.entry].group);
}

/// The parameters of a group, if all are sorted by their groups.
pub(super) fn members_of<'p, 'a, A: Element>(
    group: usize,
    params: &'p mut [Param<'a, A>],
    entries: &[ParamEntry<A>],
) -> &'p mut [Param<'a, A>] {
    let group_of = |param: &Param<'_, A>| entries[param.entry].group;
    let start = params.partition_point(|param| group_of(param) < group);
    let members = &mut params[start..];
    let size = members.partition_point(|param| group_of(param) == group);
    &mut members[..size]
}

/// The sum of the global norm of the gradients of these parameters.
pub(super) fn sum_of<A: Element>(
    params: &[Param<'_, A>],
    strided: &[Option<Strided<'_, A>>],
    kind: Norm,
    parallel: &Parallel,
) -> NormSum {
    let slices = params.iter().filter_map(|param| param.views.grad_slice());
    let views = params
        .iter()
        .filter_map(|param| param.views.grad_view(strided));
    sum(slices, views, kind, parallel)
}

/// The sum of the global norm of several arrays: those that are slices, and the others as views.
pub(super) fn sum<'a, A: Element>(
    slices: impl Iterator<Item = &'a [A]> + Clone + Send,
    views: impl Iterator<Item = ArrayView6<'a, A>>,
    norm: Norm,
    parallel: &Parallel,
) -> NormSum {
    let mut sum = NormSum::new(norm);
    sum.add_slices(slices, parallel);
    for view in views {
        sum.add_elements(view.iter().copied());
    }
    sum
}
