//! The schedule that depends on a metric.
use super::*;
#[cfg(feature = "serde")]
use default::{ratio, whole};

/// Whether metrics should fall or rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum PlateauMode {
    /// Lower is better: a loss.
    #[default]
    Min,
    /// Higher is better: an accuracy.
    Max,
}

/// Whether the threshold of [`ReduceOnPlateau`] is relative or absolute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum ThresholdMode {
    /// Relative to the best metric.
    #[default]
    Rel,
    /// Absolute.
    Abs,
}

schedule! {
    /// The keys of [`ReduceOnPlateau`].
    ReduceOnPlateauConfig {
        /// Initial learning rate, >= 0.
        lr: f64,
    }
    defaults {
        /// Whether metrics should fall or rise.
        mode: PlateauMode = PlateauMode::Min, "Default::default";
        /// Factor by which the learning rate is reduced, in [0, 1).
        factor: f64 = 0.1, "ratio::<1, 10>";
        /// Observations without improvement before the learning rate is reduced.
        patience: u64 = 10, "whole::<10>";
        /// Threshold for an improvement, >= 0, and < 1 in `rel`.
        threshold: f64 = 1e-4, "ratio::<1, 10_000>";
        /// Whether the threshold is relative or absolute.
        threshold_mode: ThresholdMode = ThresholdMode::Rel, "Default::default";
        /// Observations after a reduction in which `patience` does not count.
        cooldown: u64 = 0, "whole::<0>";
        /// Lower bound of the learning rate, >= 0.
        min_lr: f64 = 0.0, "ratio::<0, 1>";
        /// Smallest change: a reduction by no more than this is ignored, >= 0.
        eps: f64 = 1e-8, "ratio::<1, 100_000_000>";
    }
}

impl ReduceOnPlateauConfig {
    /// Checks every key.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    pub fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("factor", self.factor)?;
        match self.threshold_mode {
            ThresholdMode::Rel => check::share("threshold", self.threshold)?,
            ThresholdMode::Abs => check::non_negative("threshold", self.threshold)?,
        }
        check::non_negative("min_lr", self.min_lr)?;
        check::non_negative("eps", self.eps)
    }
}

/// Reduces the learning rate when a metric has stopped improving.
///
/// ```text
/// better:  metric < best (1 - threshold)  (rel)  or  best - threshold  (abs)      max: >, and + for -
/// each metric: better -> it is the best, bad = 0;  else bad += 1
///              in a cooldown -> it is one shorter, bad = 0
///              bad > patience -> lr = max(factor lr, min_lr), bad = 0, a cooldown begins
/// ```
///
/// The first finite metric is the first best; a metric that is not finite is never better. torch: `ReduceLROnPlateau`.
/// optax: `contrib.reduce_on_plateau`, which scales updates.
///
/// With the `serde` feature the whole of it, keys and state, can be saved in the middle of a run and continued.
///
/// ```
/// use ndarray_optim::schedule::{ReduceOnPlateau, ReduceOnPlateauConfig};
///
/// let mut plateau = ReduceOnPlateau::new(ReduceOnPlateauConfig { patience: 1, ..ReduceOnPlateauConfig::new(0.1) })?;
/// assert_eq!(plateau.lr(), 0.1); // of the first step
/// let after = [3.0, 2.0, 2.0, 2.0, 1.0].map(|loss| plateau.observe(loss));
/// assert_eq!(after, [0.1, 0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1]);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ReduceOnPlateau {
    config: ReduceOnPlateauConfig,
    lr: f64,
    /// Not infinity before the first: JSON has none.
    best: Option<f64>,
    bad: u64,
    cooling: u64,
}

impl ReduceOnPlateau {
    /// At its initial learning rate.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    pub fn new(config: ReduceOnPlateauConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(ReduceOnPlateau { lr: config.lr, config, best: None, bad: 0, cooling: 0 })
    }

    /// The keys.
    pub fn config(&self) -> &ReduceOnPlateauConfig {
        &self.config
    }

    /// The current learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// The best metric so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Observes a metric, usually once an epoch, and returns the learning rate from now on.
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
        let Some(best) = self.best else { return metric.is_finite() };
        let (mode, threshold) = (self.config.threshold_mode, self.config.threshold);
        let margin = if mode == ThresholdMode::Rel { best * threshold } else { threshold };
        metric.is_finite()
            && match self.config.mode {
                PlateauMode::Min => metric < best - margin,
                PlateauMode::Max => metric > best + margin,
            }
    }
}
