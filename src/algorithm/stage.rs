//! Transforms of gradients before the sweep.
use super::Clipping;
use std::ops::Range;

/// How a wrapper transforms gradients.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub(crate) kind: StageKind,
    /// The indices of its state arrays.
    pub(crate) arrays: Range<usize>,
}

/// How a wrapper transforms gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StageKind {
    /// Element-wise, or not at all if `false`.
    Elements(bool),
    /// By clipping to a norm.
    Clip(Clipping),
    /// By a transform of whole arrays.
    Whole,
}

impl Stage {
    /// Whether gradients pass through unchanged.
    pub(crate) fn keeps_gradients(&self) -> bool {
        self.kind == StageKind::Elements(false)
    }
}

/// Splits the wrappers of a chain, listed from the inside out. Returns the stages before the sweep,
/// from the outside in; the clippings, if the stages consist of a factor only; and the number of
/// innermost wrappers that run in the sweep.
///
/// A norm, a transform of whole arrays and a `preconditioned` algorithm depend on gradients to
/// which all outer wrappers have been applied, so these wrappers run before the sweep. If they only
/// clip, all norms follow from those of the gradients passed to the step, and a factor is enough:
/// there are no stages.
pub(crate) fn split_stages(
    wrappers: &[Stage],
    preconditioned: bool,
) -> (Vec<Stage>, Vec<Clipping>, usize) {
    let is_barrier = |stage: &Stage| !matches!(stage.kind, StageKind::Elements(_));
    let barrier = wrappers.iter().position(is_barrier);
    let fused = if preconditioned {
        0
    } else {
        barrier.unwrap_or(wrappers.len())
    };
    let outside = &wrappers[fused..];
    let only_norms = outside
        .iter()
        .all(|stage| matches!(stage.kind, StageKind::Clip(_) | StageKind::Elements(false)));
    let clip = |stage: &Stage| match stage.kind {
        StageKind::Clip(clipping) => Some(clipping),
        _ => None,
    };
    let clippings: Vec<Clipping> = outside.iter().rev().filter_map(clip).collect();
    // A global norm does not follow from the norms before arrays are clipped separately.
    if only_norms && clippings.is_sorted_by_key(|clipping| !clipping.global) {
        (Vec::new(), clippings, fused)
    } else {
        (outside.iter().rev().cloned().collect(), Vec::new(), fused)
    }
}
