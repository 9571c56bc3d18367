//! Schedules made of schedules.
use super::*;

schedule! {
    /// Schedules one after another: each counts its steps from its milestone.
    ///
    /// ```text
    /// schedules[k] at (t - milestones[k-1])        k = number of milestones <= t, milestones[-1] = 0
    /// ```
    ///
    /// [`Schedule::then`] makes one. torch: `SequentialLR`. optax: `join_schedules`.
    Sequential {
        /// The schedules, at least one.
        schedules: Vec<Schedule>,
        /// Steps, strictly increasing, at which each schedule but the first begins.
        milestones: Vec<u64>,
    }
    defaults {}
}

impl Scheduled for Sequential {
    fn value(&self, step: u64) -> f64 {
        let Some((first, later)) = self.schedules.split_first() else { return f64::NAN };
        let begun = later.iter().zip(&self.milestones).rev().find(|(_, at)| **at <= step);
        begun.map_or_else(|| first.value(step), |(schedule, at)| schedule.value(step.saturating_sub(*at)))
    }

    fn validate(&self) -> Result<(), Error> {
        let (schedules, milestones) = (self.schedules.len(), &self.milestones);
        check::that(schedules > 0, "schedules", "[]", "one schedule at least")?;
        let ok = milestones.len() + 1 == schedules && milestones.is_sorted_by(|a, b| a < b);
        check::that(ok, "milestones", format!("{milestones:?}"), "increasing steps, one less than schedules")?;
        self.schedules.iter().try_for_each(Schedule::validate)
    }
}

schedule! {
    /// The product of several schedules, such as a warm-up factor and a decay.
    ///
    /// ```text
    /// schedules[0] at t * schedules[1] at t * ...
    /// ```
    ///
    /// [`Schedule::times`] makes one. torch: `ChainedScheduler`. optax: a lambda.
    Product {
        /// The factors, at least one.
        schedules: Vec<Schedule>,
    }
    defaults {}
}

impl Scheduled for Product {
    fn value(&self, step: u64) -> f64 {
        self.schedules.iter().map(|schedule| schedule.value(step)).product()
    }

    fn validate(&self) -> Result<(), Error> {
        check::that(!self.schedules.is_empty(), "schedules", "[]", "one schedule at least")?;
        self.schedules.iter().try_for_each(Schedule::validate)
    }
}
