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
        validate_all(&self.schedules)
    }
}

impl Sequential {
    fn value_at(&self, step: u64) -> f64 {
        self.value_within(step, MAX_NESTING)
    }

    pub(super) fn value_within(&self, step: u64, levels: usize) -> f64 {
        let Some(levels) = levels.checked_sub(1) else {
            return f64::NAN;
        };
        let Some((first, later)) = self.schedules.split_first() else {
            return f64::NAN;
        };
        let mut begun = later.iter().zip(&self.milestones).rev();
        match begun.find(|(_, at)| **at <= step) {
            Some((schedule, at)) => schedule.value_within(step.saturating_sub(*at), levels),
            None => first.value_within(step, levels),
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
        validate_all(&self.schedules)
    }
}

impl Product {
    fn value_at(&self, step: u64) -> f64 {
        self.value_within(step, MAX_NESTING)
    }

    pub(super) fn value_within(&self, step: u64, levels: usize) -> f64 {
        let Some(levels) = levels.checked_sub(1) else {
            return f64::NAN;
        };
        self.schedules
            .iter()
            .map(|schedule| schedule.value_within(step, levels))
            .product()
    }
}

fn validate_all(schedules: &[AnySchedule]) -> Result<(), Error> {
    if is_deeper(schedules, MAX_NESTING - 1) {
        return Err(nesting::too_deep("schedules"));
    }
    schedules.iter().try_for_each(AnySchedule::validate)
}

/// Whether more than `levels` compositions are inside each other in one of these schedules.
fn is_deeper(schedules: &[AnySchedule], levels: usize) -> bool {
    let mut lists = vec![(schedules, 0)];
    while let Some((list, level)) = lists.pop() {
        if level > levels {
            return true;
        }
        let compositions = list.iter().filter_map(AnySchedule::parts);
        lists.extend(compositions.map(|parts| (parts, level + 1)));
    }
    false
}

impl AnySchedule {
    /// Returns the schedules that it is composed of.
    fn parts(&self) -> Option<&[AnySchedule]> {
        match self {
            AnySchedule::Sequential(Sequential { schedules, .. })
            | AnySchedule::Product(Product { schedules }) => Some(schedules),
            _ => None,
        }
    }

    fn parts_mut(&mut self) -> Option<&mut Vec<AnySchedule>> {
        match self {
            AnySchedule::Sequential(Sequential { schedules, .. })
            | AnySchedule::Product(Product { schedules }) => Some(schedules),
            _ => None,
        }
    }

    pub(super) fn is_too_deep(&self) -> bool {
        self.parts()
            .is_some_and(|parts| is_deeper(parts, MAX_NESTING - 1))
    }
}

// Clone, PartialEq and Drop without recursion, for compositions in any number of others.

impl Clone for AnySchedule {
    fn clone(&self) -> Self {
        // The compositions that are being copied, with the parts that are done.
        let mut open: Vec<(&AnySchedule, Vec<AnySchedule>)> = vec![(self, Vec::new())];
        loop {
            let Some((schedule, done)) = open.last_mut() else {
                // Never reached: the outermost one is returned below.
                return self.shell();
            };
            let parts = schedule.parts().unwrap_or_default();
            if let Some(part) = parts.get(done.len()) {
                open.push((part, Vec::new()));
                continue;
            }
            let mut copy = schedule.shell();
            if let Some(parts) = copy.parts_mut() {
                *parts = mem::take(done);
            }
            open.pop();
            match open.last_mut() {
                Some((_, done)) => done.push(copy),
                None => return copy,
            }
        }
    }
}

impl PartialEq for AnySchedule {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = vec![(self, other)];
        while let Some((a, b)) = pairs.pop() {
            let parts = |schedule: &'_ AnySchedule| schedule.parts().map_or(0, <[_]>::len);
            if !a.same_shell(b) || parts(a) != parts(b) {
                return false;
            }
            pairs.extend(zip(
                a.parts().unwrap_or_default(),
                b.parts().unwrap_or_default(),
            ));
        }
        true
    }
}

impl Drop for Sequential {
    fn drop(&mut self) {
        drop_all(&mut self.schedules);
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        drop_all(&mut self.schedules);
    }
}

fn drop_all(schedules: &mut Vec<AnySchedule>) {
    while let Some(mut schedule) = schedules.pop() {
        if let Some(parts) = schedule.parts_mut() {
            schedules.append(parts);
        }
    }
}
