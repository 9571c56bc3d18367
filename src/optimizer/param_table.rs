//! The state of every parameter, by name.
use super::{
    group::{GroupSlot, Groups},
    step::next_step,
};
use crate::{
    algorithm::{Clock, ExtraArray, Scalars, StepInfo},
    array::{
        Element,
        layout::{Order, Shape, trimmed},
    },
    error::Error,
    kernel::{Arrays, MAX_STATES, pool},
    params::Param,
    select::Select,
};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use std::{array::from_fn, collections::HashMap};

/// The state of all parameters.
#[derive(Clone)]
pub(super) struct ParamTable<A> {
    /// In the order of the first steps. A step in the same order needs no look-up by name.
    pub entries: Vec<ParamEntry<A>>,
    by_name: HashMap<Box<str>, usize>,
    /// Number of calls of `look_up`.
    stamp: u64,
    /// Whether an entry has an average that begins at its next step.
    pub begins_averages: bool,
}

/// The state of a parameter.
#[derive(Clone)]
pub(super) struct ParamEntry<A> {
    pub name: Box<str>,
    /// Index of its group.
    pub group: usize,
    pub shape: Shape,
    /// Memory order of `state`: that of the parameter when it first had a gradient.
    pub order: Order,
    /// State arrays in the shape of the parameter.
    pub state: [Vec<A>; MAX_STATES],
    /// State arrays of other shapes, and their names.
    pub extra: Vec<ArrayD<A>>,
    pub extra_names: Vec<&'static str>,
    pub scalars: Scalars,
    pub allocated: bool,
    /// Whether the state is initialized, which can happen before the first step.
    pub begun: bool,
    /// Whether the parameter is swapped with its average.
    pub swapped: bool,
    /// Number of steps of the optimizer before the first one of the parameter.
    pub joined: u64,
    /// Number of steps of the optimizer up to the last one that its averages include.
    pub last: u64,
    /// Whether the state was loaded without an average, which begins at the next step. Its array
    /// has no elements until then.
    pub begins_average: bool,
    /// Step count.
    pub t: u64,
    /// `ParamTable::stamp` of the last step with this parameter, to detect repeated names.
    seen: u64,
}

impl<A: Element> ParamTable<A> {
    pub fn new() -> Self {
        ParamTable {
            entries: Vec::new(),
            by_name: HashMap::new(),
            stamp: 0,
            begins_averages: false,
        }
    }

    pub fn from_entries(entries: Vec<ParamEntry<A>>) -> Self {
        let by_name = index_by_name(&entries);
        ParamTable {
            begins_averages: entries.iter().any(|entry| entry.begins_average),
            entries,
            by_name,
            stamp: 0,
        }
    }

    /// The index of a parameter.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, name: &str) -> Option<&ParamEntry<A>> {
        self.find(name).map(|i| &self.entries[i])
    }

    /// The index of a parameter that must exist.
    pub fn require(&self, name: &str) -> Result<usize, Error> {
        self.find(name)
            .ok_or_else(|| Error::UnknownParameter { name: name.into() })
    }

    /// Replaces the entry with the same name, or appends a new one.
    pub fn insert(&mut self, mut entry: ParamEntry<A>) {
        self.begins_averages |= entry.begins_average;
        match self.find(&entry.name) {
            Some(i) => {
                entry.seen = self.entries[i].seen;
                self.entries[i] = entry;
            }
            None => {
                self.by_name.insert(entry.name.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    pub fn remove(&mut self, name: &str) -> Result<ParamEntry<A>, Error> {
        let index = self.require(name)?;
        self.by_name.remove(name);
        // The last one takes its place: moving all of them up would take as long as a step.
        let entry = self.entries.swap_remove(index);
        if let Some(moved) = self.entries.get(index)
            && let Some(known) = self.by_name.get_mut(&moved.name)
        {
            *known = index;
        }
        Ok(entry)
    }

    /// Removes all parameters but the first `len`.
    #[cold]
    pub fn truncate(&mut self, len: usize) {
        for entry in self.entries.drain(len..) {
            self.by_name.remove(&entry.name);
        }
    }

    /// Looks up the entry of every parameter, appending new ones, and checks names and shapes.
    /// Returns the work of the step, in the unit of `Parallel::min_work`.
    #[inline]
    pub fn look_up(&mut self, list: &mut [Param<'_, A>], groups: &Groups<A>) -> Result<u64, Error> {
        self.stamp += 1;
        let mut work = 0_u64;
        for (i, param) in list.iter_mut().enumerate() {
            // First, the index that it has if the order is that of the first steps.
            param.entry = match self.entries.get(i) {
                Some(entry) if eq_short(&entry.name, &param.name) => i,
                _ => match self.by_name.get(&*param.name) {
                    Some(&index) => index,
                    None => self.insert_new(param, groups)?,
                },
            };
            let entry = &mut self.entries[param.entry];
            if entry.seen == self.stamp {
                return Err(Error::DuplicateParameter {
                    name: param.name.to_string(),
                });
            }
            if entry.shape != param.views.shape {
                return Err(entry.shape_changed(param.views.shape.as_slice()));
            }
            if entry.swapped {
                return Err(Error::Swapped {
                    name: param.name.to_string(),
                });
            }
            let slot = &groups.list[entry.group];
            if slot.requirements.preconditioned && param.views.has_grad() && !slot.frozen {
                entry.check_extra(slot)?;
            }
            entry.seen = self.stamp;
            work = work.saturating_add(pool::work(param.views.size(), slot.requirements.cost));
        }
        Ok(work)
    }

    #[cold]
    fn insert_new(&mut self, param: &Param<'_, A>, groups: &Groups<A>) -> Result<usize, Error> {
        let shape = param.views.shape;
        let group = groups.group_for(&param.name, shape.as_slice().len())?;
        self.insert(ParamEntry::new((*param.name).into(), group, shape));
        Ok(self.entries.len() - 1)
    }
}

fn index_by_name<A>(entries: &[ParamEntry<A>]) -> HashMap<Box<str>, usize> {
    let names = entries.iter().map(|entry| entry.name.clone());
    names.zip(0..).collect()
}

impl<A: Element> ParamEntry<A> {
    /// Checks that the state can be used in another group. Extra arrays have a meaning for one
    /// algorithm only.
    pub fn check_move(&self, from: &GroupSlot<A>, to: &GroupSlot<A>) -> Result<(), Error> {
        if !self.allocated {
            return Ok(());
        }
        let same_arrays = from.held == to.held;
        let same_meaning = self.extra.is_empty() || from.kind() == to.kind();
        if !same_arrays || !same_meaning {
            let extra = to.engine.extra_arrays(self.shape.as_slice());
            return Err(self.state_changed(from, to, &extra.unwrap_or_default()));
        }
        self.check_extra(to)
    }

    /// Resets the scalars if another group has another algorithm, for which they would have another
    /// meaning.
    pub fn reset_foreign_scalars(&mut self, from: &GroupSlot<A>, to: &GroupSlot<A>) {
        if from.kind() != to.kind() {
            self.scalars = to.engine.initial_scalars();
        }
    }

    /// The error for state arrays of group `from` that do not suit group `to`, which needs these
    /// extra arrays.
    fn state_changed(&self, from: &GroupSlot<A>, to: &GroupSlot<A>, extra: &[ExtraArray]) -> Error {
        let held = from.held.iter().chain(&self.extra_names);
        let extra = extra.iter().map(|array| array.name);
        Error::StateChanged {
            held: held.copied().collect(),
            needed: to
                .requirements
                .arrays
                .iter()
                .copied()
                .chain(extra)
                .collect(),
        }
    }

    pub fn is_selected_by(&self, pattern: &Select) -> bool {
        pattern.matches(&self.name, self.shape.as_slice().len())
    }

    pub fn new(name: Box<str>, group: usize, shape: Shape) -> Self {
        ParamEntry {
            name,
            group,
            shape,
            order: Order::C,
            state: from_fn(|_| Vec::new()),
            extra: Vec::new(),
            extra_names: Vec::new(),
            scalars: Scalars::default(),
            allocated: false,
            begun: false,
            swapped: false,
            joined: 0,
            last: 0,
            begins_average: false,
            t: 0,
            seen: 0,
        }
    }

    #[cold]
    pub fn shape_changed(&self, given: &[usize]) -> Error {
        Error::ShapeChanged {
            name: self.name.to_string(),
            known: self.shape.as_slice().to_vec(),
            given: given.to_vec(),
        }
    }

    /// The steps of the optimizer, `now` including the current one.
    #[inline]
    pub fn clock(&self, now: u64) -> Clock {
        let before = now.saturating_sub(1);
        let (joined, last) = match self.t {
            0 => (before, before),
            _ => (self.joined, self.last),
        };
        Clock { now, joined, last }
    }

    /// Whether a step with the parameter comes after the last one of the optimizer, instead of
    /// being part of it: whether the parameter was in it too.
    pub fn follows(&self, steps: u64) -> bool {
        steps == 0 || self.t > 0 && self.last == steps
    }

    /// Counts a step. Returns it, with the scalars of the last one.
    #[inline]
    pub fn count(&mut self, slot: &GroupSlot<A>, loss: f64) -> StepInfo {
        let step = self.next_step(slot, loss);
        (self.t, self.joined, self.last) = (step.t, step.clock.joined, step.clock.now);
        step
    }

    /// The next step, with the scalars of the last one.
    #[inline]
    pub fn next_step(&self, slot: &GroupSlot<A>, loss: f64) -> StepInfo {
        StepInfo {
            clock: self.clock(slot.now),
            ..StepInfo::new(
                next_step(self.t),
                slot.scalars.unwrap_or(self.scalars),
                loss,
            )
        }
    }

    /// Resets everything to what it was before the first step.
    pub fn reset(&mut self) {
        let seen = self.seen;
        *self = ParamEntry::new(std::mem::take(&mut self.name), self.group, self.shape);
        self.seen = seen;
    }

    /// Checks that the algorithm supports the shape, and that its extra arrays match the existing
    /// ones.
    #[cold]
    pub fn check_extra(&self, slot: &GroupSlot<A>) -> Result<(), Error> {
        let shape = self.shape.as_slice();
        let wrong = |expected| Error::Shape {
            name: self.name.to_string(),
            shape: shape.to_vec(),
            expected,
        };
        let needed = slot.engine.extra_arrays(shape).map_err(wrong)?;
        let same = self.extra.len() == needed.len()
            && self
                .extra
                .iter()
                .zip(&needed)
                .all(|(held, needed)| held.shape() == &needed.shape[..]);
        if self.allocated && !same {
            return Err(self.state_changed(slot, slot, &needed));
        }
        Ok(())
    }

    /// Allocates the state arrays in this memory order, filled with zeros, and sets the initial
    /// scalars.
    #[cold]
    pub fn allocate(&mut self, order: Order, slot: &mut GroupSlot<A>) {
        let size = self.shape.size();
        for array in self.state.iter_mut().take(slot.held.len()) {
            *array = vec![A::ZERO; size];
        }
        self.scalars = slot.engine.initial_scalars();
        (self.order, self.allocated) = (order, true);
        slot.holders += 1;
        if slot.requirements.preconditioned {
            // No error is possible: the shape has been checked.
            let extra = slot
                .engine
                .extra_arrays(self.shape.as_slice())
                .unwrap_or_default();
            self.extra_names = extra.iter().map(|array| array.name).collect();
            let zeros = |array: &ExtraArray| ArrayD::from_elem(IxDyn(&array.shape), A::ZERO);
            self.extra = extra.iter().map(zeros).collect();
        }
    }

    /// Moves the state arrays to their new places; those that are new are 0.
    pub fn rearrange(&mut self, from: &[&str], to: &[&str]) {
        if !self.allocated {
            return;
        }
        let size = self.shape.size();
        let mut before = std::mem::replace(&mut self.state, from_fn(|_| Vec::new()));
        for (name, array) in to.iter().zip(&mut self.state) {
            *array = match from.iter().position(|held| held == name) {
                Some(i) => std::mem::take(&mut before[i]),
                None => vec![A::ZERO; size],
            };
        }
    }

    #[inline]
    pub fn arrays(&mut self) -> Arrays<'_, A> {
        Arrays(self.state.each_mut().map(Vec::as_mut_slice))
    }

    /// The state arrays with their names: first those in the shape of the parameter, then the extra
    /// arrays.
    pub fn named_arrays<'a>(
        &'a self,
        names: &'a [&'static str],
    ) -> Vec<(&'static str, ArrayViewD<'a, A>)> {
        if !self.allocated {
            return Vec::new();
        }
        let arrays = names
            .iter()
            .zip(&self.state)
            .filter(|(_, memory)| memory.len() == self.shape.size())
            .map(|(&name, memory)| (name, self.view(memory)));
        let extra = self.extra_names.iter().zip(&self.extra);
        arrays
            .chain(extra.map(|(&name, array)| (name, array.view())))
            .collect()
    }

    /// A view of a state array with the axes of the parameter.
    pub fn view<'a>(&self, memory: &'a [A]) -> ArrayViewD<'a, A> {
        trimmed(
            self.order.view(&self.shape, memory),
            self.shape.as_slice().len(),
        )
    }
}

/// `a == b` for short names, for which a call of `memcmp` takes longer than the rest of the
/// look-up.
#[inline]
fn eq_short(a: &str, b: &str) -> bool {
    let ((a, a_tail), (b, b_tail)) = (a.as_bytes().as_chunks::<8>(), b.as_bytes().as_chunks::<8>());
    let words = |&(a, b): &(&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b);
    a.len() == b.len()
        && a_tail.len() == b_tail.len()
        && a.iter().zip(b).all(|pair| words(&pair))
        && a_tail.iter().zip(b_tail).all(|(a, b)| a == b)
}
