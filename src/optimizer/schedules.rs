//! Applies schedules to the hyper-parameters of an optimizer.
use super::Optimizer;
use crate::{
    array::Element,
    error::Error,
    schedule::{Driven, Schedules},
};

impl Schedules {
    /// Sets every scheduled hyper-parameter to its value at `step`, counted from 0. Call it before
    /// the step of the optimizer.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownField`] or [`Error::UnknownGroup`]; nothing is changed then. Values out of
    /// range are reported by the step.
    pub fn apply<A: Element>(&self, optimizer: &mut Optimizer<A>, step: u64) -> Result<(), Error> {
        for Driven { field, group, .. } in &self.driven {
            // Without a group, one algorithm with this hyper-parameter is enough.
            let mut groups = optimizer.groups.list.iter_mut();
            let exists =
                group.is_none() && groups.any(|slot| slot.engine.number_mut(field).is_some());
            if !exists {
                optimizer.number_mut(group.as_deref(), field)?;
            }
        }
        for Driven {
            field,
            group,
            schedule,
        } in &self.driven
        {
            let value = schedule.value(step);
            match group {
                Some(group) => *optimizer.number_mut(Some(group), field)? = value,
                None => {
                    let groups = optimizer.groups.list.iter_mut();
                    groups
                        .filter_map(|slot| slot.engine.number_mut(field))
                        .for_each(|number| *number = value);
                }
            }
        }
        Ok(())
    }
}
