//! When to stop.
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Decides when to stop, and says why.
///
/// Call [`observe`](Stop::observe) before each step with the value of the objective at the current
/// parameters. Without any condition only a value that is not finite stops the loop.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Momentum, Optimizer, fit::{Stop, StopReason}, reduce::norm};
///
/// let mut momentum = Optimizer::new(Momentum::new(0.5));
/// let mut theta = array![1.0, -2.0];
/// let mut stop = Stop::new().steps(1000).grad_norm(1e-6);
/// let reason = loop {
///     let (loss, grad) = ((&theta * &theta).sum(), 2.0 * &theta);
///     if let Some(reason) = stop.observe(loss, Some(norm(&grad))) {
///         break reason;
///     }
///     momentum.update(&mut theta, &grad)?;
/// };
/// assert_eq!(reason, StopReason::GradNorm);
/// assert_eq!(reason.to_string(), "the norm of the gradient is small enough");
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// To keep the best parameters, copy them whenever [`improved`](Stop::improved) is true. With the
/// feature `serde` it is a value that can be saved and resumed.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Stop {
    steps: Option<u64>,
    time: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::field"))]
    target: Option<f64>,
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::field"))]
    grad_norm: Option<f64>,
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::field"))]
    change: Option<f64>,
    patience: Option<u64>,
    #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
    min_delta: f64,
    /// Observations so far, and those since the best one.
    observed: u64,
    since_best: u64,
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::field"))]
    best: Option<f64>,
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::field"))]
    last: Option<f64>,
    /// Time in earlier runs, up to their last observation, and the start of this one.
    elapsed: Duration,
    #[cfg_attr(feature = "serde", serde(skip))]
    clock: Clock,
}

/// The time of the last observation of this run. Equal to any other: it is no part of the state.
#[derive(Clone, Debug, Default)]
struct Clock(Option<Instant>);

impl PartialEq for Clock {
    fn eq(&self, _: &Clock) -> bool {
        true
    }
}

/// Why a [`Stop`] says to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum StopReason {
    /// The value of the objective is infinite or NaN.
    NotFinite,
    /// [`Stop::target`].
    Target,
    /// [`Stop::grad_norm`].
    GradNorm,
    /// [`Stop::change`].
    Change,
    /// [`Stop::patience`].
    Patience,
    /// [`Stop::steps`].
    Steps,
    /// [`Stop::time`].
    Time,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopReason::NotFinite => "the objective is not finite",
            StopReason::Target => "the objective has reached its target",
            StopReason::GradNorm => "the norm of the gradient is small enough",
            StopReason::Change => "the objective hardly changes",
            StopReason::Patience => "the objective has stopped improving",
            StopReason::Steps => "the maximum number of steps has been made",
            StopReason::Time => "the time is over",
        })
    }
}

impl Stop {
    /// Creates a rule without conditions.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Stops after this number of steps.
    #[must_use]
    pub fn steps(mut self, steps: u64) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Stops when this time has passed between observations, those of a run that was saved and
    /// resumed included.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Stops when the objective is not above `target`.
    #[must_use]
    pub fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// Stops when the norm of the gradient is not above `tolerance`.
    #[must_use]
    pub fn grad_norm(mut self, tolerance: f64) -> Self {
        self.grad_norm = Some(tolerance);
        self
    }

    /// Stops when `|f - f'| <= tolerance max(|f|, |f'|, 1)` for the objective `f` and the one
    /// before, `f'`. For the noisy objective of a batch, use [`patience`](Stop::patience).
    #[must_use]
    pub fn change(mut self, tolerance: f64) -> Self {
        self.change = Some(tolerance);
        self
    }

    /// Stops when the last `patience` observations were not better than the best one before.
    #[must_use]
    pub fn patience(mut self, patience: u64) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sets by how much an observation has to be below the best one to count as better: 0 by
    /// default.
    #[must_use]
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        self.min_delta = min_delta;
        self
    }

    /// Records the objective at the current parameters, and the norm of its gradient if it is
    /// known. Returns why to stop, if so; of several reasons the first in the order of
    /// [`StopReason`].
    pub fn observe(&mut self, objective: f64, grad_norm: Option<f64>) -> Option<StopReason> {
        let now = Instant::now();
        if let Some(before) = self.clock.0.replace(now) {
            self.elapsed = self.elapsed.saturating_add(now - before);
        }
        let last = self.last.replace(objective);
        self.observed = self.observed.saturating_add(1);
        self.since_best = self.since_best.saturating_add(1);
        if objective.is_finite()
            && self
                .best
                .is_none_or(|best| objective < best - self.min_delta)
        {
            (self.best, self.since_best) = (Some(objective), 0);
        }
        let small = |last: f64| {
            let scale = objective.abs().max(last.abs()).max(1.0);
            self.change
                .is_some_and(|tolerance| (last - objective).abs() <= tolerance * scale)
        };
        let at_most =
            |x: Option<f64>, limit: Option<f64>| x.zip(limit).is_some_and(|(x, limit)| x <= limit);
        let reasons = [
            (StopReason::NotFinite, !objective.is_finite()),
            (StopReason::Target, at_most(Some(objective), self.target)),
            (StopReason::GradNorm, at_most(grad_norm, self.grad_norm)),
            (StopReason::Change, last.is_some_and(small)),
            (
                StopReason::Patience,
                self.patience
                    .is_some_and(|most| self.since_best >= most.max(1)),
            ),
            (
                StopReason::Steps,
                self.steps.is_some_and(|most| self.observed > most),
            ),
            (
                StopReason::Time,
                self.time.is_some_and(|most| self.elapsed >= most),
            ),
        ];
        let (reason, _) = reasons.into_iter().find(|&(_, holds)| holds)?;
        Some(reason)
    }

    /// Returns whether the last observation was the best one so far.
    pub fn improved(&self) -> bool {
        self.since_best == 0 && self.observed > 0
    }

    /// Returns the best objective so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Returns the number of observations so far. Before each call of [`observe`](Stop::observe) it
    /// is the number of steps.
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// Returns the time between the first observation and the last one, without the time in which
    /// a run was saved.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}
