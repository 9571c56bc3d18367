//! The schedule that depends on a metric.
use super::*;

/// Whether a lower or a higher metric is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum PlateauMode {
    /// Lower is better, as for a loss.
    #[default]
    Min,
    /// Higher is better, as for an accuracy.
    Max,
}

impl FieldValue for PlateauMode {}

/// Whether the threshold of [`ReduceOnPlateau`] is relative or absolute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum ThresholdMode {
    /// Relative to the best metric.
    #[default]
    Rel,
    /// Absolute.
    Abs,
}

impl FieldValue for ThresholdMode {}

configuration! {
    /// The hyper-parameters of [`ReduceOnPlateau`].
    ReduceOnPlateauConfig = "reduce_on_plateau" {
        /// Initial learning rate.
        lr: f64 [>= 0];
    }
    defaults {
        /// Whether a lower or a higher metric is better.
        mode: PlateauMode = PlateauMode::Min, "ReduceOnPlateauConfig::mode";
        /// Factor by which the learning rate is reduced.
        factor: f64 [in 0..1] = 0.1, "ReduceOnPlateauConfig::factor";
        /// Number of observations without improvement that are tolerated: the learning rate is
        /// reduced at the next one.
        patience: u64 = 10, "ReduceOnPlateauConfig::patience";
        /// Threshold for an improvement; below 1 in `rel` mode.
        threshold: f64 [>= 0] = 1e-4, "ReduceOnPlateauConfig::threshold";
        /// Whether the threshold is relative or absolute.
        threshold_mode: ThresholdMode = ThresholdMode::Rel, "ReduceOnPlateauConfig::threshold_mode";
        /// Number of observations after a reduction that do not count towards `patience`.
        cooldown: u64 = 0, "ReduceOnPlateauConfig::cooldown";
        /// Lower bound of the learning rate.
        min_lr: f64 [>= 0] = 0.0, "ReduceOnPlateauConfig::min_lr";
        /// Minimum change: a reduction by no more than this is ignored.
        eps: f64 [>= 0] = 1e-8, "ReduceOnPlateauConfig::eps";
    }
    check(self) {
        if self.threshold_mode == ThresholdMode::Rel && self.threshold >= 1.0 {
            return Err(self.wrong("threshold", self.threshold, "a number in [0, 1)"));
        }
        Ok(())
    }
}

impl ReduceOnPlateauConfig {
    /// Checks every hyper-parameter.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] for the first one that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        HyperParameters::validate(self)
    }
}

/// Reduces the learning rate when a metric has stopped improving.
///
/// With the `serde` feature it can be saved in the middle of a run, hyper-parameters and state
/// together, and resumed.
///
/// # Schedule
///
/// ```text
/// better:  metric < best - threshold |best|  (rel)  or  best - threshold  (abs);  max: >, + for -
/// each metric: better -> best = metric, bad = 0;  else bad += 1
///              in a cooldown -> one observation less remains of it, bad = 0
///              bad > patience -> lr = max(factor lr, min_lr), bad = 0, a cooldown begins
/// ```
///
/// The first finite metric is the first best one. A non-finite metric is never better.
///
/// # Elsewhere
///
/// torch: `ReduceLROnPlateau`, for metrics of 0 and above. Below 0 the relative threshold of torch
/// has the wrong sign, so that a metric that stays the same counts as better. optax:
/// `contrib.reduce_on_plateau`, which scales updates.
///
/// # Example
///
/// ```
/// use ndarray_optim::schedule::{ReduceOnPlateau, ReduceOnPlateauConfig};
///
/// let config = ReduceOnPlateauConfig { patience: 1, ..ReduceOnPlateauConfig::new(0.1) };
/// let mut plateau = ReduceOnPlateau::new(config)?;
/// assert_eq!(plateau.lr(), 0.1); // of the first step
/// let after = [3.0, 2.0, 2.0, 2.0, 1.0].map(|loss| plateau.observe(loss));
/// assert_eq!(after, [0.1, 0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1]);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, try_from = "Unchecked")
)]
pub struct ReduceOnPlateau {
    config: ReduceOnPlateauConfig,
    lr: f64,
    best: Option<f64>,
    bad: u64,
    cooling: u64,
}

impl ReduceOnPlateau {
    /// Returns a schedule at its initial learning rate.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] for the first hyper-parameter that is out of range.
    pub fn new(config: ReduceOnPlateauConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(ReduceOnPlateau {
            lr: config.lr,
            config,
            best: None,
            bad: 0,
            cooling: 0,
        })
    }

    /// Returns the hyper-parameters.
    pub fn config(&self) -> &ReduceOnPlateauConfig {
        &self.config
    }

    /// Returns the current learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Returns the best metric so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Records a metric, usually once per epoch, and returns the learning rate to use from now on.
    pub fn observe(&mut self, metric: f64) -> f64 {
        if self.better(metric) {
            (self.best, self.bad) = (Some(metric), 0);
        } else {
            self.bad = self.bad.saturating_add(1);
        }
        if self.cooling > 0 {
            (self.cooling, self.bad) = (self.cooling - 1, 0);
        }
        if self.bad > self.config.patience {
            let lowered = (self.lr * self.config.factor).max(self.config.min_lr);
            if self.lr - lowered > self.config.eps {
                self.lr = lowered;
            }
            (self.cooling, self.bad) = (self.config.cooldown, 0);
        }
        self.lr
    }

    fn better(&self, metric: f64) -> bool {
        let Some(best) = self.best else {
            return metric.is_finite();
        };
        let margin = match self.config.threshold_mode {
            ThresholdMode::Rel => best.abs() * self.config.threshold,
            ThresholdMode::Abs => self.config.threshold,
        };
        metric.is_finite()
            && match self.config.mode {
                PlateauMode::Min => metric < best - margin,
                PlateauMode::Max => metric > best + margin,
            }
    }
}

/// The fields of [`ReduceOnPlateau`] as a file has them.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    config: ReduceOnPlateauConfig,
    #[serde(with = "crate::config::field")]
    lr: f64,
    #[serde(default, with = "crate::config::field")]
    best: Option<f64>,
    bad: u64,
    cooling: u64,
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for ReduceOnPlateau {
    type Error = Error;

    fn try_from(file: Unchecked) -> Result<Self, Error> {
        let plateau = ReduceOnPlateau {
            lr: file.lr,
            best: file.best,
            bad: file.bad,
            cooling: file.cooling,
            ..ReduceOnPlateau::new(file.config)?
        };
        plateau.lr.check("lr", &[Interval::at_least(0.0)])?;
        plateau.best.check("best", &[Interval::FINITE])?;
        Ok(plateau)
    }
}
