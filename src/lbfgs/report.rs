//! What a run of L-BFGS reports.
use std::fmt;

/// Why a run of [`Lbfgs`](crate::Lbfgs) stopped. Where several reasons hold, it is the first one of
/// this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum LbfgsStop {
    /// No element of the gradient is larger than `tolerance_grad`.
    Gradient,
    /// The line search found no point with a lower loss. Near a minimum, the change is then below
    /// rounding errors; elsewhere, the gradient may be wrong.
    LineSearch,
    /// No parameter has changed by more than `tolerance_change`, or the loss by less, or the
    /// product of gradient and direction is above `-tolerance_change`.
    Change,
    /// In the last 20 iterations of [`minimize`](crate::Lbfgs::minimize) neither the loss nor the
    /// gradient has decreased: rounding errors allow no more progress.
    Stalled,
    /// The loss does not decrease along the direction: the product of gradient and direction is not
    /// negative.
    NoDescent,
    /// The next point, its loss or its gradient would be infinite or NaN. The model is at the last
    /// finite point.
    NonFinite,
    /// The call has made the maximum number of iterations.
    MaxIter,
    /// The call has made the maximum number of evaluations.
    MaxEval,
}

impl LbfgsStop {
    /// Whether a tolerance was met: [`Gradient`](LbfgsStop::Gradient) or
    /// [`Change`](LbfgsStop::Change).
    pub fn converged(self) -> bool {
        matches!(self, LbfgsStop::Gradient | LbfgsStop::Change)
    }
}

impl fmt::Display for LbfgsStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LbfgsStop::Gradient => "the gradient is below its tolerance",
            LbfgsStop::LineSearch => "the line search found no lower loss",
            LbfgsStop::Change => "the change is below its tolerance",
            LbfgsStop::Stalled => "neither the loss nor the gradient decreases any more",
            LbfgsStop::NoDescent => "the loss does not decrease along the direction",
            LbfgsStop::NonFinite => "the next point is not finite",
            LbfgsStop::MaxIter => "the maximum number of iterations",
            LbfgsStop::MaxEval => "the maximum number of evaluations",
        })
    }
}

/// What a call of [`Lbfgs::step`](crate::Lbfgs::step) or
/// [`minimize`](crate::Lbfgs::minimize) did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LbfgsReport {
    /// Why it stopped.
    pub stop: LbfgsStop,
    /// The number of iterations.
    pub iterations: usize,
    /// The number of evaluations.
    pub evaluations: usize,
    /// The loss at the model as it was given: what torch's `step` returns.
    pub first_loss: f64,
    /// The last known loss. It is that of the model, except after the last of `max_iter` steps
    /// without a line search, which is not evaluated: then it is that of the point before.
    pub loss: f64,
    /// The largest absolute value of the gradient at the point of `loss`.
    pub grad_max: f64,
}
