//! Which hyper-parameters follow which schedules.
use super::Schedule;

/// Which hyper-parameters follow which schedules, for all groups or for one.
///
/// ```
/// use ndarray_optim::{AdamW, Optimizer, schedule::{Schedules, WarmupCosine}};
///
/// let schedules = Schedules::new()
///     .drive("lr", WarmupCosine::new(0.0, 1e-3, 10, 100))
///     .drive("betas[0]", 0.9);
/// let mut adamw = Optimizer::<f32>::new(AdamW::new(1e-3));
/// for step in 0..100 {
///     schedules.apply(&mut adamw, step)?;
///     // ... adamw.step(params)?;
/// }
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// There is nothing to save: `apply` sets what belongs to the step, whatever came before.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Schedules {
    /// In this order; a later one wins over an earlier.
    pub driven: Vec<Driven>,
}

/// One hyper-parameter and its schedule.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Driven {
    /// The name of the hyper-parameter: `lr`, `weight_decay`, `betas[0]`, or one of a wrapper's.
    pub field: String,
    /// The group; `None` for all groups and the parameters in no group.
    #[cfg_attr(feature = "serde", serde(default))]
    pub group: Option<String>,
    /// Its value at each step.
    pub schedule: Schedule,
}

impl Schedules {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Drives a hyper-parameter in all groups.
    pub fn drive(mut self, field: impl Into<String>, schedule: impl Into<Schedule>) -> Self {
        self.driven.push(Driven { field: field.into(), group: None, schedule: schedule.into() });
        self
    }

    /// Drives a hyper-parameter of one group.
    pub fn drive_group(mut self, group: impl Into<String>, field: impl Into<String>, schedule: impl Into<Schedule>) -> Self {
        self.driven.push(Driven { field: field.into(), group: Some(group.into()), schedule: schedule.into() });
        self
    }
}
