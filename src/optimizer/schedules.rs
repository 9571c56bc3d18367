//! Applies schedules to the hyper-parameters of an optimizer.
use super::{Optimizer, group::GroupSlot};
use crate::{
    array::Element,
    error::Error,
    schedule::{Driven, Schedules},
    state::Scheduled,
};

impl Schedules {
    /// Sets every scheduled hyper-parameter to its value at `step`, counted from 0. Call it before
    /// the step of the optimizer.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownField`] or [`Error::UnknownGroup`];
    /// [`Error::HyperParameter`] if `lr` is driven in all groups, and is 0 outside of groups but
    /// not in a group, so that their proportion is unknown. Nothing is changed then. Values out of
    /// range are reported by the step.
    pub fn apply<A: Element>(&self, optimizer: &mut Optimizer<A>, step: u64) -> Result<(), Error> {
        let mut references = Vec::with_capacity(self.driven.len());
        for driven in &self.driven {
            references.push(driven.reference(optimizer)?);
        }
        for (i, (driven, reference)) in self.driven.iter().zip(references).enumerate() {
            let Driven { field, group, .. } = driven;
            let value = driven.schedule.value(step);
            let slots = match group {
                Some(_) => {
                    let index = optimizer.groups.require(group.as_deref())?;
                    &mut optimizer.groups.list[index..=index]
                }
                None => &mut optimizer.groups.list[..],
            };
            for slot in slots {
                let Some(own) = slot.own_value(field) else {
                    continue;
                };
                let set_before = |before: &Driven| {
                    before.field == *field
                        && before
                            .group
                            .as_ref()
                            .is_none_or(|group| slot.name.as_ref() == Some(group))
                };
                let value = match (reference, &driven.plateau) {
                    (_, Some(plateau)) => {
                        let is_set = self.driven[..i].iter().any(set_before);
                        let before = slot.value(field).filter(|_| is_set);
                        plateau.lr() * value * before.unwrap_or(own)
                    }
                    _ if driven.scale => value * own,
                    // Exact where all groups have the same value.
                    (Some(reference), _) if own != reference => value * (own / reference),
                    _ => value,
                };
                slot.set_scheduled(field, own, value);
            }
        }
        Ok(())
    }
}

impl Driven {
    /// Checks that the hyper-parameter exists. Returns the own value that those of all groups
    /// relate to; `None` if every group gets the value of the schedule.
    fn reference<A: Element>(&self, optimizer: &mut Optimizer<A>) -> Result<Option<f64>, Error> {
        let Driven { field, group, .. } = self;
        if group.is_some() {
            let index = optimizer.groups.require(group.as_deref())?;
            let slot = &mut optimizer.groups.list[index];
            return match slot.own_value(field) {
                Some(_) => Ok(None),
                None => Err(slot.unknown_field(field)),
            };
        }
        let slots = optimizer.groups.list.iter_mut();
        let mut owns = slots.filter_map(|slot| slot.own_value(field));
        let Some(first) = owns.next() else {
            return Err(optimizer.groups.default_slot().unknown_field(field));
        };
        match &**field {
            _ if self.scale => Ok(None),
            "lr" if first == 0.0 && owns.any(|own| own != 0.0) => Err(Error::HyperParameter {
                field: field.clone(),
                value: "0".into(),
                expected: "above 0 outside of groups before a schedule drives it, because the \
                           rates of the groups are proportional to it"
                    .into(),
            }),
            "lr" => Ok(Some(first)),
            // Where it is 0, there is none at any step.
            "weight_decay" => Ok(std::iter::once(first).chain(owns).find(|&own| own != 0.0)),
            _ => Ok(None),
        }
    }
}

impl<A: Element> GroupSlot<A> {
    /// Returns a numeric hyper-parameter by name. `lr` is the learning rate, whatever the algorithm
    /// calls it.
    fn value(&mut self, field: &str) -> Option<f64> {
        match self.engine.number_mut(field) {
            Some(number) => Some(*number),
            None if field == "lr" => Some(self.engine.lr()).filter(|lr| !lr.is_nan()),
            None => None,
        }
    }

    /// Returns the group's own value of a hyper-parameter: the one before a schedule drove it, or
    /// one that was set by hand since.
    fn own_value(&mut self, field: &str) -> Option<f64> {
        let value = self.value(field)?;
        let driven = self.scheduled.iter().find(|driven| driven.field == field);
        Some(match driven {
            // A 0 by hand stops a group for the moment, and says nothing of its proportion.
            Some(driven) if driven.set.to_bits() == value.to_bits() || value == 0.0 => driven.own,
            _ => value,
        })
    }

    /// Sets a hyper-parameter to the value of a schedule.
    fn set_scheduled(&mut self, field: &str, own: f64, value: f64) {
        match self.engine.number_mut(field) {
            Some(number) => *number = value,
            None => self.engine.set_lr(value),
        }
        let known = self.scheduled.iter_mut().find(|known| known.field == field);
        match known {
            Some(known) => (known.own, known.set) = (own, value),
            None => self.scheduled.push(Scheduled {
                field: field.into(),
                own,
                set: value,
            }),
        }
    }
}
