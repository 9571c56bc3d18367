//! Hyper-parameters, groups and their members while a run goes on.
use super::{Group, Optimizer};
use crate::{
    algorithm::{Engine, Recipe},
    array::{Element, compiled_here},
    error::Error,
    select::Select,
};
use ndarray::ArrayViewD;
use std::any::TypeId;

impl<A: Element> Optimizer<A> {
    /// The hyper-parameters of parameters in no group, if their algorithm, or a wrapper around it, is a `T`.
    pub fn algorithm<T: 'static>(&self) -> Option<&T> {
        part(&*self.groups.rest().engine)
    }

    /// As [`algorithm`](Optimizer::algorithm), to change them; the next step checks and uses them.
    pub fn algorithm_mut<T: 'static>(&mut self) -> Option<&mut T> {
        part_mut(&mut *self.groups.rest_mut().engine)
    }

    /// The hyper-parameters of a group, if its algorithm, or a wrapper around it, is a `T`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_algorithm<T: 'static>(&self, group: &str) -> Result<Option<&T>, Error> {
        Ok(part(self.engine(Some(group))?))
    }

    /// As [`group_algorithm`](Optimizer::group_algorithm), to change them; the next step checks and uses them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_algorithm_mut<T: 'static>(&mut self, group: &str) -> Result<Option<&mut T>, Error> {
        Ok(part_mut(self.engine_mut(Some(group))?))
    }

    /// The name of the algorithm of parameters in no group, with those of its wrappers: `adamw + ema`.
    pub fn name(&self) -> String {
        self.groups.rest().kind()
    }

    /// The learning rate of parameters in no group.
    pub fn lr(&self) -> f64 {
        self.groups.rest().engine.lr()
    }

    /// Changes the learning rate of parameters in no group, from the next step on.
    pub fn set_lr(&mut self, lr: f64) {
        self.groups.rest_mut().engine.set_lr(lr);
    }

    /// The learning rate of a group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_lr(&self, group: &str) -> Result<f64, Error> {
        Ok(self.engine(Some(group))?.lr())
    }

    /// Changes the learning rate of a group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn set_group_lr(&mut self, group: &str, lr: f64) -> Result<(), Error> {
        self.engine_mut(Some(group))?.set_lr(lr);
        Ok(())
    }

    /// A hyper-parameter by name, of a group or of the parameters in none: `lr`, `weight_decay`, `betas[0]`, or one of a
    /// wrapper's. The next step checks what is put there. See [`Schedules`](crate::schedule::Schedules).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownField`], [`Error::UnknownGroup`].
    pub fn field_mut(&mut self, group: Option<&str>, name: &str) -> Result<&mut f64, Error> {
        let at = self.groups.find(group)?;
        let optimizer = self.groups.list[at].kind();
        let field = self.groups.list[at].engine.field_mut(name);
        field.ok_or_else(|| Error::UnknownField { field: name.into(), optimizer })
    }

    /// Gives some parameters an algorithm of their own. Parameters already under way keep their state, if it is of the same
    /// arrays; [`reset`](Optimizer::reset) forgets it.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateGroup`], [`Error::GroupedTwice`], [`Error::InGroup`] with what is wrong about the hyper-parameters, or
    /// [`Error::StateChanged`] if a parameter of the group already holds other state; the optimizer is unchanged then.
    pub fn add_group<T: Into<Recipe<A>>>(&mut self, group: Group<T>) -> Result<(), Error> {
        let (optimizer, group) = (self, Group { name: group.name, params: group.params, algorithm: group.algorithm.into() });
        compiled_here!(A, <'o>, (optimizer: &'o mut Optimizer<A>, group: Group<Recipe<A>>) -> Result<(), Error> {
            optimizer.insert(group)
        })
    }

    fn insert(&mut self, group: Group<Recipe<A>>) -> Result<(), Error> {
        let slot = self.groups.prepare(group.name, group.params, group.algorithm)?;
        let name = slot.name.clone().unwrap_or_default();
        let entries = &self.ledger.entries;
        let members: Vec<usize> = match &slot.select {
            Select::Names(names) => names.iter().filter_map(|name| self.ledger.find(name)).collect(),
            pattern => (0..entries.len()).filter(|&i| entries[i].is_in(pattern)).collect(),
        };
        for entry in members.iter().map(|&i| &entries[i]) {
            let held = &self.groups.list[entry.group];
            if let Some(first) = &held.name {
                let (first, second) = (first.clone(), name);
                return Err(Error::GroupedTwice { name: entry.name.to_string(), first, second });
            }
            entry.check_move(held, &slot).map_err(|error| error.in_group(&name))?;
        }
        for &i in &members {
            let entry = &mut self.ledger.entries[i];
            entry.adopt(&self.groups.list[entry.group], &slot);
        }
        let index = self.groups.list.len();
        self.groups.push(slot);
        members.into_iter().for_each(|i| self.ledger.entries[i].group = index);
        self.release();
        Ok(())
    }

    /// The names of all groups.
    pub fn group_names(&self) -> Vec<String> {
        self.groups.list.iter().filter_map(|slot| slot.name.clone()).collect()
    }

    /// The group of a parameter that has been lent; `None`: it is in none, or not known.
    pub fn group_of(&self, param: &str) -> Option<&str> {
        self.groups.list[self.ledger.get(param)?.group].name.as_deref()
    }

    /// What groups select and no step has lent, by group: the names that never turned up, or the prefix or number of axes that
    /// no parameter had. A misspelt name shows here.
    pub fn missing(&self) -> Vec<(&str, Select)> {
        let mut all = Vec::new();
        for slot in &self.groups.list {
            let Some(group) = slot.name.as_deref() else { continue };
            match &slot.select {
                Select::Names(names) => {
                    let missing: Vec<_> = names.iter().filter(|name| self.ledger.find(name).is_none()).collect();
                    if !missing.is_empty() {
                        all.push((group, Select::names(missing)));
                    }
                }
                pattern => {
                    if !self.ledger.entries.iter().any(|entry| entry.is_in(pattern)) {
                        all.push((group, pattern.clone()));
                    }
                }
            }
        }
        all
    }

    /// Puts a parameter into another group, `None` for no group, whatever the groups select. It keeps its state, if both
    /// algorithms keep the same arrays; [`reset`](Optimizer::reset) forgets it before.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`], [`Error::UnknownGroup`], [`Error::StateChanged`], [`Error::InGroup`].
    pub fn move_to_group(&mut self, param: &str, group: Option<&str>) -> Result<(), Error> {
        let (entry, to) = (self.ledger.known(param)?, self.groups.find(group)?);
        self.check()?;
        let entry = &mut self.ledger.entries[entry];
        let (held, slot) = (&self.groups.list[entry.group], &self.groups.list[to]);
        if entry.group != to {
            entry.check_move(held, slot)?;
            entry.adopt(held, slot);
        }
        entry.group = to;
        self.release();
        Ok(())
    }

    /// Forgets the state and the step count of a parameter: its next step is its first. It stays in its group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`].
    pub fn reset(&mut self, param: &str) -> Result<(), Error> {
        let entry = self.ledger.known(param)?;
        self.ledger.entries[entry].reset();
        self.accumulation.remove(param);
        self.release();
        Ok(())
    }

    /// Forgets a parameter altogether.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`].
    pub fn remove(&mut self, param: &str) -> Result<(), Error> {
        self.ledger.remove(param)?;
        self.accumulation.remove(param);
        self.release();
        Ok(())
    }

    /// Groups whose parameters hold no state may change which arrays they keep.
    pub(super) fn release(&mut self) {
        self.groups.list.iter_mut().for_each(|slot| slot.used = false);
        for entry in self.ledger.entries.iter().filter(|entry| entry.allocated) {
            self.groups.list[entry.group].used = true;
        }
    }

    /// Leaves the parameters of a group, their state and their step counts as they are from now on, or goes on with them.
    /// Their gradients are not looked at, also not for norms.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn freeze(&mut self, group: &str, frozen: bool) -> Result<(), Error> {
        let at = self.groups.find(Some(group))?;
        self.groups.list[at].frozen = frozen;
        Ok(())
    }

    /// How many steps a parameter has made; 0 for one that is not known.
    pub fn steps(&self, param: &str) -> u64 {
        self.ledger.get(param).map_or(0, |entry| entry.t)
    }

    /// The state arrays of a parameter by name (`exp_avg`, `exp_avg_sq`, ...: torch's names where torch has them): first those
    /// in the shape of the parameter, then the factors. Empty before its first step.
    pub fn state(&self, param: &str) -> Vec<(&'static str, ArrayViewD<'_, A>)> {
        let entry = self.ledger.get(param);
        entry.map_or_else(Vec::new, |entry| entry.named(&self.groups.list[entry.group].demands.arrays))
    }

    fn engine(&self, group: Option<&str>) -> Result<&dyn Engine<A>, Error> {
        Ok(&*self.groups.list[self.groups.find(group)?].engine)
    }

    fn engine_mut(&mut self, group: Option<&str>) -> Result<&mut dyn Engine<A>, Error> {
        let at = self.groups.find(group)?;
        Ok(&mut *self.groups.list[at].engine)
    }
}

fn part<A: Element, T: 'static>(engine: &dyn Engine<A>) -> Option<&T> {
    engine.part(TypeId::of::<T>())?.downcast_ref()
}

fn part_mut<A: Element, T: 'static>(engine: &mut dyn Engine<A>) -> Option<&mut T> {
    engine.part_mut(TypeId::of::<T>())?.downcast_mut()
}
