//! Schedules assigned to hyper-parameters.
use super::AnySchedule;

/// Assigns schedules to hyper-parameters, in all groups or in one.
///
/// ```
/// use ndarray_optim::{
///     AdamW, Optimizer,
///     schedule::{Schedules, WarmupCosine},
/// };
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
/// There is no state to save: [`apply`](Schedules::apply) sets the values of its step, whatever the
/// hyper-parameters were before.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct Schedules {
    /// Applied in this order: of two entries for the same hyper-parameter, the later one wins.
    pub driven: Vec<Driven>,
}

/// A hyper-parameter and its schedule.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Driven {
    /// The name of the hyper-parameter, of the algorithm or of a wrapper: `lr`, `weight_decay`,
    /// `betas[0]`.
    pub field: String,
    /// The group; `None` for all groups and for the parameters in no group.
    #[cfg_attr(feature = "serde", serde(default))]
    pub group: Option<String>,
    /// Its value at each step.
    pub schedule: AnySchedule,
}

impl Schedules {
    /// Returns an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a schedule for a hyper-parameter of all groups.
    pub fn drive(mut self, field: impl Into<String>, schedule: impl Into<AnySchedule>) -> Self {
        self.driven.push(Driven {
            field: field.into(),
            group: None,
            schedule: schedule.into(),
        });
        self
    }

    /// Adds a schedule for a hyper-parameter of one group.
    pub fn drive_group(
        mut self,
        group: impl Into<String>,
        field: impl Into<String>,
        schedule: impl Into<AnySchedule>,
    ) -> Self {
        self.driven.push(Driven {
            field: field.into(),
            group: Some(group.into()),
            schedule: schedule.into(),
        });
        self
    }
}
