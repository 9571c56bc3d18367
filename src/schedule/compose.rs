//! Schedules composed of schedules.
use super::*;

schedule! {
    /// Schedules one after another, each of which counts its steps from its milestone.
    ///
    /// [`AnySchedule::then`] returns one.
    ///
    /// # Schedule
    ///
    /// ```text
    /// schedules[k] at (t - milestones[k-1])
    /// k = number of milestones <= t, milestones[-1] = 0
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `SequentialLR`. optax: `join_schedules`.
    Sequential = "sequential" {
        /// The schedules, at least one.
        schedules: Vec<AnySchedule>;
        /// The steps at which the schedules after the first begin: strictly increasing, one fewer
        /// than `schedules`.
        milestones: Vec<u64>;
    }
    defaults {}
    check(self) {
        let (schedules, milestones) = (self.schedules.len(), &self.milestones);
        if schedules == 0 {
            return Err(self.wrong("schedules", "[]", "one schedule at least"));
        }
        if milestones.len() + 1 != schedules || !milestones.is_sorted_by(|a, b| a < b) {
            let expected = "increasing steps, one less than schedules";
            return Err(self.wrong("milestones", format!("{milestones:?}"), expected));
        }
        self.schedules.iter().try_for_each(AnySchedule::validate)
    }
}

impl Sequential {
    fn value_at(&self, step: u64) -> f64 {
        let Some((first, later)) = self.schedules.split_first() else {
            return f64::NAN;
        };
        let mut begun = later.iter().zip(&self.milestones).rev();
        match begun.find(|(_, at)| **at <= step) {
            Some((schedule, at)) => schedule.value(step.saturating_sub(*at)),
            None => first.value(step),
        }
    }
}

schedule! {
    /// The product of several schedules, such as a warm-up factor and a decay.
    ///
    /// [`AnySchedule::times`] returns one.
    ///
    /// # Schedule
    ///
    /// ```text
    /// schedules[0] at t * schedules[1] at t * ...
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `ChainedScheduler`. optax: a function that multiplies schedules.
    Product = "product" {
        /// The factors, at least one.
        schedules: Vec<AnySchedule>;
    }
    defaults {}
    check(self) {
        if self.schedules.is_empty() {
            return Err(self.wrong("schedules", "[]", "one schedule at least"));
        }
        self.schedules.iter().try_for_each(AnySchedule::validate)
    }
}

impl Product {
    fn value_at(&self, step: u64) -> f64 {
        self.schedules
            .iter()
            .map(|schedule| schedule.value(step))
            .product()
    }
}
