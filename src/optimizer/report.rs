//! What a step did, by groups.
use super::{Optimizer, step::Watches};
use crate::array::Element;
use std::sync::{Mutex, PoisonError};

/// What the last step did to the parameters of a group: see [`Optimizer::report`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupReport {
    /// The name of the group; `None` for parameters in no group.
    pub group: Option<String>,
    /// The 2-norm of the gradients, as they were lent.
    pub grad_norm: f64,
    /// The 2-norm of what was taken away from the parameters.
    pub update_norm: f64,
    /// The 2-norm of the parameters after the step.
    pub param_norm: f64,
    /// How many gradients were infinite or NaN.
    pub non_finite: u64,
}

impl GroupReport {
    /// The norm of the update over that of the parameters: 1e-3 is usual, and what is far from it deserves a look.
    pub fn ratio(&self) -> f64 {
        self.update_norm / self.param_norm
    }
}

impl<A: Element> Optimizer<A> {
    /// Where to gather, if that is asked for.
    #[inline]
    pub(super) fn begin_watch(&self) -> Watches {
        let watched = self.watch || self.groups.list.iter().any(|slot| slot.demands.watched);
        if watched { self.groups.list.iter().map(|_| Mutex::default()).collect() } else { Vec::new() }
    }

    #[inline]
    pub(super) fn end_watch(&mut self, watches: Watches) {
        if watches.is_empty() && self.report.is_empty() {
            return;
        }
        let report = |(slot, totals): (&super::group::Slot<A>, Mutex<_>)| {
            let totals: crate::kernel::Totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
            GroupReport {
                group: slot.name.clone(),
                grad_norm: totals.gradient.sqrt(),
                update_norm: totals.update.sqrt(),
                param_norm: totals.parameter.sqrt(),
                non_finite: totals.non_finite,
            }
        };
        self.report = self.groups.list.iter().zip(watches).map(report).collect();
    }
}
