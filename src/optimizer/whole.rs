//! Steps that look at an array as a whole before the sweep: factored moments, matrix products.
use super::{
    Optimizer,
    group::Groups,
    step::{Watches, run_one},
};
use crate::{
    algorithm::{StepInfo, Whole},
    array::{
        Element,
        layout::{Order, trimmed},
    },
    kernel::{
        At, MAX_TERMS, Totals,
        plan::{Lent, Task},
        pool::lock,
    },
    params::Lending,
};
use ndarray::{ArrayViewMut, Zip};
use std::sync::Mutex;

impl<A: Element> Optimizer<A> {
    /// The step of groups whose algorithm replaces the gradient of a whole array before the sweep, one array after another; it
    /// takes them out of the rest of the step.
    #[cold]
    pub(super) fn sweep_directed(&mut self, lending: &mut Lending<'_, '_, A>, watches: &Watches) {
        let Lending { params, strided, loss } = lending;
        let Optimizer { groups: Groups { list: slots, .. }, ledger, parallel, scratch, .. } = self;
        for param in params.iter_mut().filter(|param| param.lent.has_grad()) {
            let entry = &mut ledger.entries[param.entry];
            let slot = &mut slots[entry.group];
            if !slot.demands.directed {
                continue;
            }
            let watch = watches.get(entry.group);
            if !entry.allocated {
                entry.allocate(param.lent.order, slot);
            }
            let (mut p, g) = param.lent.views(Order::C, strided);
            scratch.resize(g.len(), A::ZERO);
            let Ok(mut direction) = ArrayViewMut::from_shape(g.raw_dim(), &mut scratch[..]) else {
                debug_assert!(false, "the scratch is of the gradient's size");
                continue;
            };
            let scale = slot.scale * param.factor;
            Zip::from(&mut direction).and(&g).for_each(|direction, &g| *direction = scale * g);

            let ndim = entry.shape.as_slice().len();
            let whole = Whole {
                name: &entry.name,
                p: trimmed(p.view(), ndim),
                g: trimmed(direction.view_mut(), ndim),
                factors: &mut entry.factors,
                parallel: *parallel,
            };
            let at = StepInfo::new(entry.t + 1, slot.scalars.unwrap_or(entry.scalars), loss.unwrap_or(f64::NAN));
            // Without elements there is nothing to replace, and an axis can be too long to be walked.
            if !whole.p.is_empty() {
                entry.scalars = slot.engine.direct(&at, whole);
            }
            entry.t += 1;
            if slot.demands.terms == 0 {
                entry.scalars = slot.engine.absorb(&StepInfo { scalars: entry.scalars, ..at }, &[0.0; MAX_TERMS]);
            }

            let gathered = Mutex::new(Totals::default());
            let place = At { first: !entry.begun, scale: A::one() };
            entry.begun = true;
            let mut views = [None];
            let lent = Lent::new(p.view_mut(), direction.view(), 0, |pair| views = [Some(pair)]);
            let Ok(mut lent) = lent else {
                debug_assert!(false, "the direction is of the parameter's shape");
                continue;
            };
            let scalars = slot.scalars.unwrap_or(entry.scalars);
            let kernel = slot.engine.prepare(&StepInfo::new(entry.t, scalars, f64::NAN));
            let task = Task::borrow(&mut lent, entry.order, &mut views, entry.arrays());
            run_one(task, slot, kernel, &place, watch.map(|_| &gathered), parallel);
            if let Some(watch) = watch {
                // The sweep saw the direction in the place of the gradient.
                let mut totals = *lock(&gathered);
                totals.gradient = g.iter().map(|g| g.f64() * g.f64()).sum();
                totals.non_finite = g.iter().filter(|g| !g.is_finite()).count() as u64;
                *lock(watch) += totals;
            }
            param.lent.freeze();
        }
    }
}
