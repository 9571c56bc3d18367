//! How non-finite gradients are handled.
use crate::error::Error;

/// What to do with a gradient that contains infinities or NaN.
///
/// For algorithms that keep squares of the gradient, [`Skip`](NonFinite::Skip) and
/// [`Error`](NonFinite::Error) treat an element whose square cannot be kept like an infinite one.
/// In `f32` that is above 5.8e20 for [`Adam`](crate::Adam) and its relatives with a `betas[1]` of
/// 0.999, 1.8e20 for [`RmsProp`](crate::RmsProp) with an `alpha` of 0.99, and 1.8e19 for
/// [`Adagrad`](crate::Adagrad), which squares without a factor. The error is then
/// [`ExplodingGradient`](crate::Error::ExplodingGradient). Under
/// [`Propagate`](NonFinite::Propagate) the average becomes infinite, as in torch, and its element
/// does not move any more. Where the gradient is clipped, there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum NonFinite {
    /// Use it as it is, without a check: non-finite values propagate into the parameter by the
    /// rules of IEEE arithmetic.
    #[default]
    Propagate,
    /// Skip the whole step: no parameter, moment or step count changes, and the step returns
    /// [`Outcome::Skipped`](crate::Outcome::Skipped). The check reads all gradients once.
    Skip,
    /// Fail with [`Error::NonFiniteGradient`](crate::Error::NonFiniteGradient). The check reads all
    /// gradients once.
    Error,
}

/// Limits for [`NonFinite::Skip`] and [`NonFinite::Error`]; [`NonFinite::Propagate`] checks
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Limits {
    /// The maximum global 2-norm of the gradients, `>= 0`. Gradients above it are treated as
    /// non-finite. Default: no limit.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
    pub norm: Option<f64>,
    /// The maximum number of consecutive skipped steps, until one is applied; one more fails with
    /// [`Error::TooManySkipped`](crate::Error::TooManySkipped). Default: no limit.
    pub skipped: Option<u64>,
}

impl Limits {
    /// Checks that the norm is not negative or NaN.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    #[inline]
    pub fn validate(&self) -> Result<(), Error> {
        match self.norm {
            Some(norm) if norm.is_nan() || norm < 0.0 => Err(Error::HyperParameter {
                field: "limits.norm".into(),
                value: norm.to_string(),
                expected: "a number >= 0".into(),
            }),
            _ => Ok(()),
        }
    }
}
