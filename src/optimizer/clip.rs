//! Clipping by norms: one read of the gradients before the step.
use super::Optimizer;
use crate::{
    algorithm::Clipping,
    array::Element,
    kernel::{
        Parallel,
        plan::Strided,
        reduce::{Norm, NormSum},
    },
    params::{Lending, Param},
};

impl<A: Element> Optimizer<A> {
    /// Takes the norms that clipping asks for and sets what gradients are multiplied with.
    #[inline]
    pub(super) fn clip(&mut self, lending: &mut Lending<'_, '_, A>) {
        self.grad_norm = None;
        if self.clip.is_some() || self.groups.list.iter().any(|slot| slot.demands.clipping.is_some()) {
            self.take_norms(lending);
        } else {
            self.groups.list.iter_mut().for_each(|slot| slot.scale = slot.sign);
        }
    }

    /// The optimizer's own clipping comes before that of any wrapper: these see gradients that have been multiplied, which
    /// multiplies their norms.
    #[cold]
    fn take_norms(&mut self, Lending { params, strided, .. }: &mut Lending<'_, '_, A>) {
        let mut global = GlobalNorms { taken: Vec::new(), parallel: self.parallel };
        let mut first = 1.0;
        if let Some(clip) = &self.clip {
            let norm = global.take(params, strided, clip.norm);
            self.grad_norm = Some(norm);
            first = clip.factor(norm);
        }
        for slot in &mut self.groups.list {
            let mut factor = first;
            if let Some(clipping) = slot.demands.clipping.filter(|clipping| clipping.global) {
                let norm = first * global.take(params, strided, clipping.norm);
                self.grad_norm.get_or_insert(norm);
                factor *= clipping.factor(norm);
            }
            slot.scale = slot.sign * A::of(factor);
        }
        for param in params.iter_mut() {
            let clipping = self.groups.list[self.ledger.entries[param.entry].group].demands.clipping;
            if let Some(clipping) = clipping.filter(|clipping: &Clipping| !clipping.global) {
                let norm = first * norm(std::slice::from_ref(param), strided, clipping.norm, &self.parallel);
                let n = if clipping.mean { (param.lent.size() as f64).sqrt() } else { 1.0 };
                param.factor = A::of(clipping.factor(norm / n));
            }
        }
    }
}

/// The norms of all gradients together, each kind taken once.
struct GlobalNorms {
    taken: Vec<(Norm, f64)>,
    parallel: Parallel,
}

impl GlobalNorms {
    fn take<A: Element>(&mut self, params: &[Param<'_, A>], strided: &[Option<Strided<'_, A>>], kind: Norm) -> f64 {
        if let Some(&(_, known)) = self.taken.iter().find(|(taken, _)| *taken == kind) {
            return known;
        }
        let norm = norm(params, strided, kind, &self.parallel);
        self.taken.push((kind, norm));
        norm
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
