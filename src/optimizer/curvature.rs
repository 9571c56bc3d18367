//! Estimates of curvature between steps.
use super::{Optimizer, Outcome, group::Groups};
use crate::{algorithm::StepInfo, array::Element, error::Error, kernel::At, params::Lending};

impl<A: Element> Optimizer<A> {
    /// Takes estimates into the state, with the checks of a step. No step is counted. State begins here if it has not yet.
    pub(super) fn run_estimates(&mut self, mut lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        self.check()?;
        if let Some(slot) = self.groups.list.iter().find(|slot| !slot.demands.curvature).filter(|_| self.groups.is_single())
        {
            return Err(Error::Unsupported { optimizer: slot.kind(), what: WHAT });
        }
        let (known, skipped) = (self.ledger.entries.len(), self.skipped);
        if self.admit(&mut lending)?.is_none() {
            return Ok(Outcome::Skipped);
        }
        let Optimizer { groups: Groups { list: slots, .. }, ledger, .. } = self;
        let other = lending.params.iter().find_map(|param| {
            let slot = &slots[ledger.entries[param.entry].group];
            (param.lent.has_grad() && !slot.demands.curvature).then_some(slot)
        });
        if let Some(slot) = other {
            let optimizer = slot.kind();
            ledger.forget(known);
            self.skipped = skipped;
            return Err(Error::Unsupported { optimizer, what: WHAT });
        }
        for param in lending.params.iter_mut().filter(|param| param.lent.has_grad()) {
            let entry = &mut ledger.entries[param.entry];
            let slot = &mut slots[entry.group];
            if !entry.allocated {
                entry.allocate(param.lent.order, slot);
            }
            slot.engine.begin_step();
            let at = At { first: !entry.begun, scale: A::one() };
            let kernel = slot.engine.prepare(&StepInfo::new(entry.t + 1, entry.scalars, f64::NAN));
            entry.begun = true;
            let engine = &*slot.engine;
            let order = entry.order;
            let mut sums = Default::default();
            param.lent.walk(order, lending.strided, entry.arrays(), &mut |p, g, mut state| {
                if at.first {
                    // Without sums, to take them is only to begin.
                    engine.measure(kernel, &at, p, g, state.part(0..p.len()), &mut sums);
                }
                engine.estimate(g, state);
            });
        }
        Ok(Outcome::Applied)
    }
}

const WHAT: &str = "take estimates of curvature: that is for `Sophia`";
