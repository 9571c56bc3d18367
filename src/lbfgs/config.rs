//! The hyper-parameters of L-BFGS.
use crate::{algorithm::FieldValue, hyper_parameters};

/// How [`Lbfgs`](crate::Lbfgs) chooses the length of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum LineSearch {
    /// A length that satisfies the strong Wolfe conditions, with the constants 1e-4 and 0.9.
    StrongWolfe,
}

impl FieldValue for Option<LineSearch> {}

hyper_parameters! {
    /// The hyper-parameters of [`Lbfgs`](crate::Lbfgs). Names and defaults are those of
    /// `torch.optim.LBFGS`.
    #[derive(Copy)]
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize),
        serde(default, deny_unknown_fields)
    )]
    pub struct LbfgsConfig = "lbfgs" {
        /// Step length: the first one that a line search tries.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
        lr: f64 [>= 0] = 1.0;
        /// Maximum number of iterations of a call.
        max_iter: usize = 20;
        /// Number of evaluations in a call from which no other iteration begins; a line search may
        /// exceed it by one. `None` is `max_iter * 5 / 4`.
        max_eval: Option<usize> = None;
        /// The run stops when no element of the gradient is larger.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
        tolerance_grad: f64 [>= 0] = 1e-7;
        /// The run stops when no parameter changes by more in an iteration, or the loss changes by
        /// less, or the product of gradient and direction is above its negative.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
        tolerance_change: f64 [>= 0] = 1e-9;
        /// Maximum number of pairs in the history, each as large as two copies of the model. With 0
        /// the direction is the gradient, scaled by the curvature along the last step.
        history_size: usize = 100;
        /// The line search; `None` is steps of length `lr`.
        line_search_fn: Option<LineSearch> = None;
        /// Whether to maximize the objective.
        maximize: bool = false;
    }
    presets {
        /// With the line search `strong_wolfe`, which is what most objectives need.
        wolfe { line_search_fn: Some(LineSearch::StrongWolfe) }
        /// For [`minimize`](crate::Lbfgs::minimize): `strong_wolfe`, until the gradient is below
        /// `tolerance_grad`.
        precise {
            line_search_fn: Some(LineSearch::StrongWolfe),
            tolerance_change: 0.0,
        }
    }
}

impl LbfgsConfig {
    /// The maximum number of evaluations of a call.
    pub(super) fn evaluations(&self) -> usize {
        self.max_eval
            .unwrap_or_else(|| self.max_iter.saturating_mul(5) / 4)
    }
}
