//! Gradient clipping by norms, which reads the gradients once before the step.
use super::{Optimizer, group::GroupSlot};
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
            params, strided, ..
        } = input;
        let (parallel, entries) = (self.parallel, &self.table.entries);
        let strided = &**strided;
        let mut global_factor = 1.0;
        if let Some(clipping) = self.clip.as_ref().and_then(Wrap::clipping) {
            let norm = norm_of(params, strided, |_| true, clipping.norm, &parallel);
            self.grad_norm = Some(norm);
            global_factor = clipping.factor_of(norm, 1);
        }
        for (group, slot) in self.groups.list.iter_mut().enumerate() {
            let mut factor = global_factor;
            let clippings = &slot.requirements.clippings;
            for clipping in clippings.iter().filter(|clip| clip.global) {
                let is_member = |param: &Param<'_, A>| entries[param.entry].group == group;
                let norm = factor * norm_of(params, strided, is_member, clipping.norm, &parallel);
                self.grad_norm.get_or_insert(norm);
                factor *= clipping.factor_of(norm, 1);
            }
            slot.scale = slot.sign * A::from_f64(factor);
            // Clipping by the norm of each array comes after global clipping: see `split_stages`.
            for clipping in clippings.iter().filter(|clip| !clip.global) {
                let is_member = |param: &&mut Param<'_, A>| {
                    entries[param.entry].group == group && param.views.has_grad()
                };
                for param in params.iter_mut().filter(is_member) {
                    let own = slice::from_ref(&*param);
                    let own_norm = norm_of(own, strided, |_| true, clipping.norm, &parallel);
                    let norm = factor * param.clip_factor.f64() * own_norm;
                    let factor = clipping.factor_of(norm, param.views.size());
                    param.clip_factor = param.clip_factor * A::from_f64(factor);
                }
            }
        }
    }
}

/// The global norm of the gradients of those parameters that are `wanted`.
pub(super) fn norm_of<A: Element>(
    params: &[Param<'_, A>],
    strided: &[Option<Strided<'_, A>>],
    wanted: impl Fn(&Param<'_, A>) -> bool + Copy + Send,
    kind: Norm,
    parallel: &Parallel,
) -> f64 {
    let all = || params.iter().filter(move |param| wanted(param));
    let slices = all().filter_map(|param| param.views.grad_slice());
    let views = all().filter_map(|param| param.views.grad_view(strided));
    norm(slices, views, kind, parallel)
}

/// The global norm of several arrays: those that are slices, and the others as views.
pub(super) fn norm<'a, A: Element>(
    slices: impl Iterator<Item = &'a [A]> + Clone + Send,
    views: impl Iterator<Item = ArrayView6<'a, A>>,
    norm: Norm,
    parallel: &Parallel,
) -> f64 {
    let mut sum = NormSum::new(norm);
    sum.add_slices(slices, parallel);
    for view in views {
        sum.add_elements(view.iter().copied());
    }
    sum.value()
}
