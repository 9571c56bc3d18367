//! What a step did, by groups.
use super::{Config, Fused};
use crate::kernel::{Element, Totals};
use std::sync::{Mutex, PoisonError};

/// What the last step did to the parameters of a group: see [`Watch`](crate::wrap::Watch).
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

impl<C: Config, A: Element> Fused<C, A> {
    /// Where to gather, if that is asked for.
    #[inline]
    pub(super) fn begin_watch(&self) -> Vec<Mutex<Totals>> {
        if self.plans.iter().any(|plan| plan.watched) {
            self.plans.iter().map(|_| Mutex::default()).collect()
        } else {
            Vec::new()
        }
    }

    #[inline]
    pub(super) fn report_on(&mut self, watch: Vec<Mutex<Totals>>) {
        if watch.is_empty() && self.report.is_empty() {
            return;
        }
        let names = [None].into_iter().chain(self.groups.iter().map(|group| Some(group.name.clone())));
        let report = |(group, totals): (Option<String>, Mutex<Totals>)| {
            let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
            GroupReport {
                group,
                grad_norm: totals.gradient.sqrt(),
                update_norm: totals.update.sqrt(),
                param_norm: totals.parameter.sqrt(),
                non_finite: totals.non_finite,
            }
        };
        self.report = names.zip(watch).map(report).collect();
    }
}
