//! Schedules at work on the hyper-parameters of an optimizer.
use super::Optimizer;
use crate::{
    array::Element,
    error::Error,
    schedule::{Driven, Schedules},
};

impl Schedules {
    /// Sets what belongs to this step, counted from 0, before the optimizer makes it.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownField`] or [`Error::UnknownGroup`]; nothing has changed then. Values out of range are found by the step.
    pub fn apply<A: Element>(&self, optimizer: &mut Optimizer<A>, step: u64) -> Result<(), Error> {
        for Driven { field, group, .. } in &self.driven {
            // Not all groups need to have what one of their algorithms has.
            let known =
                group.is_none() && optimizer.groups.list.iter_mut().any(|slot| slot.engine.field_mut(field).is_some());
            if !known {
                optimizer.field_mut(group.as_deref(), field)?;
            }
        }
        for Driven { field, group, schedule } in &self.driven {
            let value = schedule.value(step);
            match group {
                Some(group) => *optimizer.field_mut(Some(group), field)? = value,
                None => {
                    let groups = optimizer.groups.list.iter_mut();
                    groups.filter_map(|slot| slot.engine.field_mut(field)).for_each(|place| *place = value);
                }
            }
        }
        Ok(())
    }
}
