//! Hyper-parameters, groups and their members during a run.
use super::{Group, Optimizer};
use crate::{
    algorithm::{Engine, Recipe},
    array::{Element, monomorphize},
    error::Error,
    select::Select,
};
use ndarray::ArrayViewD;
use std::{any::TypeId, collections::HashSet};

impl<A: Element> Optimizer<A> {
    /// Returns the hyper-parameters of the algorithm or wrapper `T` that is used for the parameters
    /// in no group; `None` if there is no such algorithm or wrapper.
    pub fn algorithm<T: 'static>(&self) -> Option<&T> {
        part(&*self.groups.default_slot().engine)
    }

    /// As [`algorithm`](Optimizer::algorithm), mutable. Changes are checked by the next step and
    /// apply from then on.
    pub fn algorithm_mut<T: 'static>(&mut self) -> Option<&mut T> {
        part_mut(&mut *self.groups.default_slot_mut().engine)
    }

    /// Returns the hyper-parameters of the algorithm or wrapper `T` that is used for a group;
    /// `None` if there is no such algorithm or wrapper.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_algorithm<T: 'static>(&self, group: &str) -> Result<Option<&T>, Error> {
        Ok(part(self.engine(Some(group))?))
    }

    /// As [`group_algorithm`](Optimizer::group_algorithm), mutable. Changes are checked by the next
    /// step and apply from then on.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_algorithm_mut<T: 'static>(
        &mut self,
        group: &str,
    ) -> Result<Option<&mut T>, Error> {
        Ok(part_mut(self.engine_mut(Some(group))?))
    }

    /// Returns the name of the algorithm for the parameters in no group, with those of its
    /// wrappers: `adamw + ema`.
    pub fn name(&self) -> String {
        self.groups.default_slot().kind()
    }

    /// Returns the learning rate of the parameters in no group.
    pub fn lr(&self) -> f64 {
        self.groups.default_slot().engine.lr()
    }

    /// Sets the learning rate of the parameters in no group, from the next step on.
    pub fn set_lr(&mut self, lr: f64) {
        self.groups.default_slot_mut().engine.set_lr(lr);
    }

    /// Returns the learning rate of a group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_lr(&self, group: &str) -> Result<f64, Error> {
        Ok(self.engine(Some(group))?.lr())
    }

    /// Sets the learning rate of a group, from the next step on.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn set_group_lr(&mut self, group: &str, lr: f64) -> Result<(), Error> {
        self.engine_mut(Some(group))?.set_lr(lr);
        Ok(())
    }

    /// Returns a numeric hyper-parameter by name, such as `lr`, `weight_decay` or `betas[0]`.
    ///
    /// It belongs to the algorithm or a wrapper of a group, or of the parameters in no group
    /// (`None`). A new value is checked by the next step. To drive hyper-parameters by schedules,
    /// see [`Schedules`](crate::schedule::Schedules).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownField`], [`Error::UnknownGroup`].
    pub fn number_mut(&mut self, group: Option<&str>, name: &str) -> Result<&mut f64, Error> {
        let index = self.groups.require(group)?;
        let slot = &mut self.groups.list[index];
        if slot.engine.number_mut(name).is_none() {
            return Err(slot.unknown_field(name));
        }
        // Looked up again, because a borrow that is returned lasts for the whole function.
        slot.engine
            .number_mut(name)
            .ok_or_else(|| Error::UnknownField {
                field: name.into(),
                optimizer: String::new(),
                known: Vec::new(),
            })
    }

    /// Adds a parameter group, which has its own algorithm.
    ///
    /// Parameters that have been updated before keep their state if both algorithms have the same
    /// state arrays; otherwise [`reset`](Optimizer::reset) them first.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateGroup`], [`Error::GroupedTwice`], or [`Error::InGroup`] around the actual
    /// error: invalid hyper-parameters, or [`Error::StateChanged`] if a parameter of the group
    /// already holds other state. Nothing is changed then.
    pub fn add_group<T: Into<Recipe<A>>>(&mut self, group: Group<T>) -> Result<(), Error> {
        let optimizer = self;
        let group = Group {
            name: group.name,
            params: group.params,
            algorithm: group.algorithm.into(),
        };
        monomorphize!(
            A, <'o>,
            (optimizer: &'o mut Optimizer<A>, group: Group<Recipe<A>>) -> Result<(), Error> {
                optimizer.insert_group(group)
            }
        )
    }

    fn insert_group(&mut self, group: Group<Recipe<A>>) -> Result<(), Error> {
        let slot = self
            .groups
            .new_slot(group.name, group.params, group.algorithm)?;
        let name = slot.name.clone().unwrap_or_default();
        let entries = &self.table.entries;
        let members: Vec<usize> = match &slot.select {
            Select::Names(names) => names
                .iter()
                .filter_map(|name| self.table.find(name))
                .collect(),
            pattern => (0..entries.len())
                .filter(|&i| entries[i].is_selected_by(pattern))
                .collect(),
        };
        for entry in members.iter().map(|&i| &entries[i]) {
            let held = &self.groups.list[entry.group];
            if let Some(first) = &held.name {
                return Err(Error::GroupedTwice {
                    name: entry.name.to_string(),
                    first: first.clone(),
                    second: name,
                });
            }
            entry
                .check_move(held, &slot)
                .map_err(|error| error.in_group(&name))?;
        }
        for &i in &members {
            let entry = &mut self.table.entries[i];
            entry.reset_foreign_scalars(&self.groups.list[entry.group], &slot);
        }
        let index = self.groups.list.len();
        self.groups.push(slot);
        for i in members {
            self.change_group(i, index);
        }
        Ok(())
    }

    /// Returns the names of all groups.
    pub fn group_names(&self) -> Vec<String> {
        self.groups
            .list
            .iter()
            .filter_map(|slot| slot.name.clone())
            .collect()
    }

    /// Returns the group of a parameter; `None` if it is in no group, or has not been passed to a
    /// step yet.
    pub fn group_of(&self, param: &str) -> Option<&str> {
        self.groups.list[self.table.get(param)?.group]
            .name
            .as_deref()
    }

    /// Returns what groups select but no step has contained, by group: the names that have not
    /// appeared yet, or the prefix or number of axes that no parameter has. Use it to find
    /// misspelled names.
    pub fn missing(&self) -> Vec<(&str, Select)> {
        let mut all = Vec::new();
        let mut matched = HashSet::new();
        for entry in &self.table.entries {
            let ndim = entry.shape.as_slice().len();
            matched.extend(self.groups.matching(&entry.name, ndim));
        }
        for (index, slot) in self.groups.list.iter().enumerate() {
            let Some(group) = slot.name.as_deref() else {
                continue;
            };
            match &slot.select {
                Select::Names(names) => {
                    let missing: Vec<_> = names
                        .iter()
                        .filter(|name| self.table.find(name).is_none())
                        .collect();
                    if !missing.is_empty() {
                        all.push((group, Select::names(missing)));
                    }
                }
                pattern => {
                    if !matched.contains(&index) {
                        all.push((group, pattern.clone()));
                    }
                }
            }
        }
        all
    }

    /// Moves a parameter to another group, or to no group (`None`), whatever the groups select.
    ///
    /// The parameter keeps its state if both algorithms have the same state arrays; otherwise
    /// [`reset`](Optimizer::reset) it first.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`], [`Error::UnknownGroup`], [`Error::StateChanged`],
    /// [`Error::InGroup`].
    pub fn move_to_group(&mut self, param: &str, group: Option<&str>) -> Result<(), Error> {
        let (index, to) = (self.table.require(param)?, self.groups.require(group)?);
        let from = self.table.entries[index].group;
        self.groups
            .check_pair([from, to], &mut self.table.entries)?;
        let entry = &mut self.table.entries[index];
        let (held, slot) = (&self.groups.list[entry.group], &self.groups.list[to]);
        if entry.group != to {
            entry.check_move(held, slot)?;
            entry.reset_foreign_scalars(held, slot);
        }
        self.change_group(index, to);
        Ok(())
    }

    /// Moves a parameter to another group, after all checks.
    fn change_group(&mut self, index: usize, to: usize) {
        let entry = &mut self.table.entries[index];
        let holds = usize::from(entry.allocated);
        self.groups.list[to].holders += holds;
        self.groups.list[entry.group].release(holds);
        entry.group = to;
    }

    /// Discards the state and the step count of a parameter, so that its next step is its first. It
    /// stays in its group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`].
    pub fn reset(&mut self, param: &str) -> Result<(), Error> {
        let index = self.table.require(param)?;
        let entry = &mut self.table.entries[index];
        self.groups.list[entry.group].release(usize::from(entry.allocated));
        entry.reset();
        self.accumulation.remove(param);
        Ok(())
    }

    /// Removes a parameter with its state, step count and group membership.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`].
    pub fn remove(&mut self, param: &str) -> Result<(), Error> {
        let entry = self.table.remove(param)?;
        self.groups.list[entry.group].release(usize::from(entry.allocated));
        self.accumulation.remove(param);
        Ok(())
    }

    /// Counts the parameters of each group that hold state: a group without any may still change
    /// its state arrays.
    pub(super) fn count_holders(&mut self) {
        let slots = &mut self.groups.list;
        slots.iter_mut().for_each(|slot| slot.holders = 0);
        for entry in self.table.entries.iter().filter(|entry| entry.allocated) {
            slots[entry.group].holders += 1;
        }
        slots.iter_mut().for_each(|slot| slot.release(0));
    }

    /// Freezes a group, or unfreezes it if `frozen` is false. The parameters of a frozen group,
    /// their state and their step counts do not change. Their gradients are ignored, including in
    /// norms.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn freeze(&mut self, group: &str, frozen: bool) -> Result<(), Error> {
        let index = self.groups.require(Some(group))?;
        self.groups.list[index].frozen = frozen;
        Ok(())
    }

    /// Returns the step count of a parameter; 0 if it is unknown.
    pub fn steps(&self, param: &str) -> u64 {
        self.table.get(param).map_or(0, |entry| entry.t)
    }

    /// Returns the state arrays of a parameter with their names, which are torch's (`exp_avg`,
    /// `exp_avg_sq`, ...) where torch has them.
    ///
    /// Arrays in the shape of the parameter come first, then those of other shapes. Empty before
    /// the first step of the parameter.
    pub fn state(&self, param: &str) -> Vec<(&'static str, ArrayViewD<'_, A>)> {
        let entry = self.table.get(param);
        entry.map_or_else(Vec::new, |entry| {
            entry.named_arrays(&self.groups.list[entry.group].held)
        })
    }

    fn engine(&self, group: Option<&str>) -> Result<&dyn Engine<A>, Error> {
        Ok(&*self.groups.list[self.groups.require(group)?].engine)
    }

    fn engine_mut(&mut self, group: Option<&str>) -> Result<&mut dyn Engine<A>, Error> {
        let index = self.groups.require(group)?;
        Ok(&mut *self.groups.list[index].engine)
    }
}

fn part<A: Element, T: 'static>(engine: &dyn Engine<A>) -> Option<&T> {
    engine.part(TypeId::of::<T>())?.downcast_ref()
}

fn part_mut<A: Element, T: 'static>(engine: &mut dyn Engine<A>) -> Option<&mut T> {
    engine.part_mut(TypeId::of::<T>())?.downcast_mut()
}
