//! Schedules assigned to hyper-parameters.
use super::{AnySchedule, ReduceOnPlateau};

/// Assigns schedules to hyper-parameters, in all groups or in one.
///
/// A group whose own learning rate or weight decay is a tenth of that outside of groups keeps a
/// tenth of the scheduled one: see [`drive`](Schedules::drive).
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
/// There is no state to save here, unless there is a [`plateau`](Schedules::plateau):
/// [`apply`](Schedules::apply) sets the values of its step. What the groups' own values are is part
/// of the state of the optimizer.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct Schedules {
    /// Applied in this order: of two entries for the same hyper-parameter, the later one wins, but
    /// a plateau multiplies what those before it have set.
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
    /// Whether the schedule is a factor on the group's own value. Default: false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub scale: bool,
    /// A factor that depends on a metric, on what the entries before this one have set. Default:
    /// none.
    #[cfg_attr(feature = "serde", serde(default))]
    pub plateau: Option<ReduceOnPlateau>,
}

impl Schedules {
    /// Returns an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a schedule for a hyper-parameter of all groups.
    ///
    /// The parameters in no group get its value. Of `lr` and `weight_decay`, a group gets the value
    /// in the proportion of its own one to that outside of groups:
    ///
    /// ```
    /// use ndarray_optim::{AdamW, Group, Optimizer, schedule::Schedules};
    ///
    /// let mut optimizer = Optimizer::<f32>::new(AdamW::new(1e-3));
    /// optimizer.add_group(Group::new("encoder", ["encoder.weight"], AdamW::new(1e-4)))?;
    /// Schedules::new().drive("lr", 2e-3).apply(&mut optimizer, 0)?;
    /// assert_eq!((optimizer.lr(), optimizer.group_lr("encoder")?), (2e-3, 2e-4));
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// The own value of a group is the one before a schedule drove it, or another one that was set
    /// by hand since, except 0. A group without weight decay stays without. If the weight decay
    /// outside of groups is 0, that of the first group that has one is the reference. All other
    /// hyper-parameters are the same in all groups that have them.
    pub fn drive(mut self, field: impl Into<String>, schedule: impl Into<AnySchedule>) -> Self {
        self.driven.push(Driven {
            field: field.into(),
            group: None,
            schedule: schedule.into(),
            scale: false,
            plateau: None,
        });
        self
    }

    /// Adds a schedule whose value multiplies the own value of every group and that outside of
    /// groups, as `LambdaLR` of torch does.
    ///
    /// ```
    /// use ndarray_optim::{AdamW, Group, Optimizer, schedule::{CosineDecay, Schedules}};
    ///
    /// let mut optimizer = Optimizer::<f32>::new(AdamW::new(1e-3));
    /// optimizer.add_group(Group::new("encoder", ["encoder.weight"], AdamW::new(1e-4)))?;
    /// let schedules = Schedules::new().scale("lr", CosineDecay::new(1.0, 100));
    /// schedules.apply(&mut optimizer, 50)?;
    /// assert!((optimizer.lr() - 5e-4).abs() < 1e-15);
    /// assert!((optimizer.group_lr("encoder")? - 5e-5).abs() < 1e-15);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    pub fn scale(mut self, field: impl Into<String>, schedule: impl Into<AnySchedule>) -> Self {
        self.driven.push(Driven {
            field: field.into(),
            group: None,
            schedule: schedule.into(),
            scale: true,
            plateau: None,
        });
        self
    }

    /// Adds a factor on a hyper-parameter of all groups that becomes smaller when a metric has
    /// stopped improving, as `ReduceLROnPlateau` of torch does.
    ///
    /// [`ReduceOnPlateau::lr`] is the factor, so that its initial `lr` is usually 1, and `min_lr`
    /// and `eps` are relative to that too. It multiplies the value of each group that schedules
    /// before it have set in the same step, or else the own value of the group. Pass the metric to
    /// [`observe`](Schedules::observe), usually once per epoch.
    ///
    /// Its state is part of this value: save it with serde, or keep it with the optimizer.
    ///
    /// ```
    /// use ndarray_optim::{
    ///     AdamW, Group, Optimizer, ReduceOnPlateau, ReduceOnPlateauConfig, schedule::Schedules,
    /// };
    ///
    /// let mut optimizer = Optimizer::<f32>::new(AdamW::new(1e-3));
    /// optimizer.add_group(Group::new("encoder", ["encoder.weight"], AdamW::new(1e-4)))?;
    /// let config = ReduceOnPlateauConfig { patience: 0, ..ReduceOnPlateauConfig::new(1.0) };
    /// let mut schedules = Schedules::new().plateau("lr", ReduceOnPlateau::new(config)?);
    /// for (epoch, loss) in [3.0, 2.0, 2.0].into_iter().enumerate() {
    ///     schedules.apply(&mut optimizer, epoch as u64)?;
    ///     // ... an epoch with this loss
    ///     schedules.observe(loss);
    /// }
    /// schedules.apply(&mut optimizer, 3)?;
    /// assert_eq!((optimizer.lr(), optimizer.group_lr("encoder")?), (1e-4, 1e-5));
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    pub fn plateau(mut self, field: impl Into<String>, plateau: ReduceOnPlateau) -> Self {
        self.driven.push(Driven {
            field: field.into(),
            group: None,
            schedule: 1.0.into(),
            scale: true,
            plateau: Some(plateau),
        });
        self
    }

    /// Passes a metric to every [`plateau`](Schedules::plateau). It has its effect from the next
    /// [`apply`](Schedules::apply) on.
    pub fn observe(&mut self, metric: f64) {
        for plateau in self
            .driven
            .iter_mut()
            .filter_map(|driven| driven.plateau.as_mut())
        {
            plateau.observe(metric);
        }
    }

    /// Adds a schedule for a hyper-parameter of one group, which gets its value as it is.
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
            scale: false,
            plateau: None,
        });
        self
    }
}
