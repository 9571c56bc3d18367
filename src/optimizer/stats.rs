//! Statistics of a step, by group.
use super::{Optimizer, step::Watches};
use crate::{array::Element, kernel::Totals};
use std::sync::{Mutex, PoisonError};

/// Statistics of the last step for the parameters of a group, returned by [`Optimizer::stats`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct GroupStats {
    /// The name of the group; `None` for parameters in no group.
    pub group: Option<String>,
    /// The 2-norm of the gradients, as they were passed to the step.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
    pub grad_norm: f64,
    /// The 2-norm of the updates, which were subtracted from the parameters.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
    pub update_norm: f64,
    /// The 2-norm of the parameters after the step.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
    pub param_norm: f64,
    /// Number of infinite and NaN gradient elements.
    pub non_finite: u64,
}

impl GroupStats {
    /// Returns the norm of the updates divided by that of the parameters. Typical values are around
    /// 1e-3; a ratio far from that deserves a look.
    pub fn ratio(&self) -> f64 {
        self.update_norm / self.param_norm
    }
}

impl<A: Element> Optimizer<A> {
    /// Returns the statistics of the last step by group, starting with the parameters in no group.
    ///
    /// Empty if the step was skipped or not watched: set the field `watch`, or wrap an algorithm in
    /// [`Watch`](crate::wrap::Watch).
    pub fn stats(&self) -> &[GroupStats] {
        &self.stats
    }

    /// Returns the global norm of the gradients in the last step.
    ///
    /// `None` if it was not computed for clipping: set the field `clip`, or wrap an algorithm in
    /// [`ClipByGlobalNorm`](crate::wrap::ClipByGlobalNorm). Without the field `clip` it is the norm
    /// of the first group with such a wrapper, which is of the type that the wrapper names. A
    /// skipped step has none.
    pub fn grad_norm(&self) -> Option<f64> {
        self.grad_norm
    }

    /// Totals for each group; empty if no statistics are gathered.
    #[inline]
    pub(super) fn begin_watch(&self) -> Watches {
        let mut groups = self.groups.list.iter();
        if self.watch || groups.any(|slot| slot.requirements.watched) {
            self.groups.list.iter().map(|_| Mutex::default()).collect()
        } else {
            Vec::new()
        }
    }

    #[inline]
    pub(super) fn end_watch(&mut self, watches: Watches) {
        if watches.is_empty() && self.stats.is_empty() {
            return;
        }
        let names = self.groups.list.iter().map(|slot| slot.name.clone());
        let stats = |(group, totals): (Option<String>, Mutex<Totals>)| {
            let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
            GroupStats {
                group,
                grad_norm: totals.gradient.sqrt(),
                update_norm: totals.update.sqrt(),
                param_norm: totals.parameter.sqrt(),
                non_finite: totals.non_finite,
            }
        };
        self.stats = names.zip(watches).map(stats).collect();
    }
}
