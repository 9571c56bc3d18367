//! What to do about gradients that are not finite.

/// What to do about a gradient that is infinite or NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum NonFinite {
    /// Compute with it: what IEEE arithmetic makes of it ends up in the parameter. No check is made.
    #[default]
    Propagate,
    /// Skip the whole step: no parameter, moment or step count changes, and the step returns
    /// [`Outcome::Skipped`](crate::Outcome::Skipped). Costs one read of the gradients.
    Skip,
    /// Refuse the step with [`Error::NonFiniteGradient`](crate::Error::NonFiniteGradient). Costs one read of the gradients.
    Error,
}

/// Bounds on what [`NonFinite::Skip`] and [`NonFinite::Error`] let pass; with [`NonFinite::Propagate`] nothing is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Limits {
    /// The largest 2-norm of all gradients together; above it they are treated like one that is not finite. Default none.
    pub norm: Option<f64>,
    /// How many steps may be skipped one after another; one more is
    /// [`Error::TooManySkipped`](crate::Error::TooManySkipped). Default any number.
    pub skipped: Option<u64>,
}
