//! Clipping by norms: one read of the gradients before the step.
use super::{Config, Fused};
use crate::{
    kernel::{Element, Parallel, plan::Strided, reduce::NormSum},
    params::{Lending, Param},
    wrap::{Clipping, Norm},
};

impl<C: Config, A: Element> Fused<C, A> {
    /// Takes the norms that clipping asks for and sets what gradients are multiplied with.
    #[inline]
    pub(super) fn clip(&mut self, lending: &mut Lending<'_, '_, A>) {
        self.grad_norm = None;
        if self.plans.iter().any(|plan| plan.clips) {
            self.take_norms(lending);
        }
    }

    #[cold]
    fn take_norms(&mut self, Lending { params, strided, .. }: &mut Lending<'_, '_, A>) {
        let of_plan: Vec<Option<Clipping>> =
            self.plans.iter().map(|plan| plan.checked.as_ref().and_then(|(config, _)| config.clipping())).collect();
        if let Some(clipping) = of_plan.iter().flatten().find(|clipping| clipping.global) {
            self.grad_norm = Some(norm(params, strided, clipping.norm, &self.parallel));
        }
        for (plan, clipping) in self.plans.iter_mut().zip(&of_plan) {
            let clipping = clipping.filter(|clipping| clipping.global);
            let factor = clipping.zip(self.grad_norm).map_or(1.0, |(clipping, norm)| clipping.factor(norm));
            plan.scale = plan.sign * A::of(factor);
        }
        for param in params.iter_mut() {
            if let Some(clipping) = of_plan[self.entries[param.entry].group].filter(|clipping| !clipping.global) {
                let norm = norm(std::slice::from_ref(param), strided, clipping.norm, &self.parallel);
                let n = if clipping.mean { (param.lent.size() as f64).sqrt() } else { 1.0 };
                param.factor = A::of(clipping.factor(norm / n));
            }
        }
    }
}

/// The norm of all gradients together.
pub(super) fn norm<A: Element>(
    params: &[Param<'_, A>],
    strided: &[Option<Strided<'_, A>>],
    norm: Norm,
    parallel: &Parallel,
) -> f64 {
    let take = |scale| {
        let mut sum = NormSum::new(norm, scale);
        let slices = params.iter().filter_map(|param| param.lent.grad_slice());
        sum.add_slices(slices, parallel);
        for view in params.iter().filter_map(|param| param.lent.grad_view(strided)) {
            sum.add_elements(view.iter().copied());
        }
        sum
    };
    let sum = take(1.0);
    match sum.rescale() {
        // Squares of f64 that overflow or lose digits: once more, near 1.
        Some(scale) => take(scale).value(),
        None => sum.value(),
    }
}
