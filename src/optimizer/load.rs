//! A state in the place of what an optimizer remembers.
use super::{
    Optimizer,
    accumulate::Accumulation,
    group::{Group, Slot},
    ledger::{Entry, Ledger},
};
use crate::{
    array::{
        Data, Element,
        layout::{Order, Shape, six_axes},
        row_major,
    },
    difference::{Difference, Differs, Report, in_group},
    error::Error,
    state::{GroupState, MAX_STEPS, Named, ParamState, StateView, VERSION},
    wrap::Wrap,
};
use ndarray::{Array6, ArrayD};
use std::{
    collections::{HashMap, HashSet},
    iter::zip,
};

/// The entry of a parameter and what is left over, or all that is wrong with it.
type StagedEntry<A> = Result<(Entry<A>, Vec<Difference>), Vec<Difference>>;

/// A state that fits, ready to take the place of what there is.
pub(super) struct Staged<A: Element> {
    slots: Vec<Slot<A>>,
    entries: Vec<Entry<A>>,
    accumulation: Accumulation<A>,
}

impl<A: Element> Optimizer<A> {
    /// The optimizer that a state is of.
    pub(super) fn built(state: StateView<'_>) -> Result<Self, Error> {
        let algorithm = |group: &GroupState| {
            group.algorithm.clone().ok_or_else(|| {
                let place = in_group(group.name.as_deref());
                Error::State(vec![Difference::new(Differs::Optimizer, place, &group.optimizer, "one of the catalogue")])
            })
        };
        let Some((rest, groups)) = state.groups.split_first() else {
            return Err(Error::State(vec![Difference::new(Differs::Group, "groups", "none", "at least one")]));
        };
        let mut optimizer = Optimizer::new(algorithm(rest)?);
        for group in groups {
            let name = group.name.clone().unwrap_or_default();
            optimizer.add_group(Group::new(name, group.params.clone(), algorithm(group)?))?;
        }
        optimizer.load_state_dict(state)?;
        Ok(optimizer)
    }

    /// Everything in its place, or all that keeps it from being so.
    pub(super) fn stage(&self, state: &mut StateView<'_>) -> Result<Staged<A>, Vec<Difference>> {
        let mut wrong = Vec::new();
        let mut differs = |differs, place: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display| {
            wrong.push(Difference::new(differs, place, found, expected));
        };
        if state.version != VERSION {
            differs(Differs::Version, "version of the format", &state.version, &VERSION);
        }
        if state.element != A::TYPE {
            differs(Differs::Element, "element type", &state.element, &A::TYPE);
        }
        if state.skipped >= MAX_STEPS {
            differs(Differs::Value, "steps skipped", &state.skipped, &"less than 2^53");
        }
        if let Some(Err(error)) = state.clip.as_ref().map(Wrap::validate) {
            differs(Differs::Config, "clip", &error, &"a norm that can be clipped at");
        }
        let accumulation = Accumulation::stage(&mut state.accumulation).unwrap_or_else(|all| {
            wrong.extend(all);
            Accumulation::none()
        });

        let mut staged = Staged { slots: Vec::new(), entries: Vec::new(), accumulation };
        let mut ready = Vec::new();
        let (mut found_groups, mut strange) = (HashMap::new(), Vec::new());
        for group in &state.groups {
            let name = group.name.as_deref();
            let is_second = found_groups.contains_key(&name);
            if is_second || self.groups.known(name).is_none() {
                let found = if is_second { "it twice".into() } else { format!("a group of {}", group.params) };
                strange.push(Difference::new(Differs::Group, in_group(name), found, "no such group"));
            }
            found_groups.entry(name).or_insert(group);
        }
        for slot in &self.groups.list {
            let mut slot = slot.clone();
            let found = found_groups.get(&slot.name.as_deref()).copied();
            let group_wrong = slot.restore(found);
            ready.push(group_wrong.iter().all(|wrong| !matches!(wrong.differs, Differs::Config | Differs::Optimizer)));
            wrong.extend(group_wrong);
            staged.slots.push(slot);
        }
        wrong.extend(strange);

        let mut seen = HashSet::new();
        for param in &mut state.params {
            let place = format!("parameter `{}`", param.name);
            if !seen.insert(param.name.clone()) {
                wrong.push(Difference::new(Differs::Parameter, place, "it twice", "it once"));
                continue;
            }
            let Some(group) = self.groups.known(param.group.as_deref()) else {
                let found = in_group(param.group.as_deref());
                wrong.push(Difference::new(Differs::Group, place, found, "a group of the optimizer"));
                continue;
            };
            let known = self.ledger.get(&param.name);
            if known.is_none() && !self.ledger.entries.is_empty() {
                wrong.push(Difference::new(Differs::Parameter, place, "its state", "no such parameter"));
                continue;
            }
            // Without its hyper-parameters, nothing can be said about arrays.
            let slot = Some(&mut staged.slots[group]).filter(|_| ready[group]);
            match Entry::stage(param, group, known.map(|known| &known.shape), slot.as_deref()) {
                Ok((entry, extra)) => {
                    staged.slots[group].used |= entry.allocated;
                    wrong.extend(extra);
                    staged.entries.push(entry);
                }
                Err(all) => wrong.extend(all),
            }
        }
        for entry in self.ledger.entries.iter().filter(|entry| !seen.contains(&*entry.name)) {
            let place = format!("parameter `{}`", entry.name);
            wrong.push(Difference::new(Differs::Parameter, place, "nothing", "its state"));
        }
        if wrong.is_empty() { Ok(staged) } else { Err(wrong) }
    }

    pub(super) fn put(&mut self, state: &StateView<'_>, staged: Staged<A>) {
        for (slot, staged) in zip(&mut self.groups.list, staged.slots) {
            *slot = staged;
        }
        (self.non_finite, self.limits, self.skipped) = (state.non_finite, state.limits, state.skipped);
        self.clip.clone_from(&state.clip);
        self.accumulation = staged.accumulation;
        self.ledger = Ledger::of(staged.entries);
        self.grad_norm = None;
    }

    pub(super) fn take_matching(&mut self, mut state: StateView<'_>) -> Result<Report, Error> {
        if state.version != VERSION {
            let version = Difference::new(Differs::Version, "version of the format", state.version, VERSION);
            return Err(Error::State(vec![version]));
        }
        self.check()?;
        let kinds: HashMap<_, _> = state.groups.iter().map(|group| (group.name.clone(), group.optimizer.clone())).collect();
        let mut report = Report::default();
        let (mut taken, mut seen) = (Vec::new(), HashSet::new());
        for param in &mut state.params {
            let place = format!("parameter `{}`", param.name);
            if !seen.insert(param.name.clone()) {
                report.left_over.push(Difference::new(Differs::Parameter, place, "it twice", "it once"));
                continue;
            }
            let known = self.ledger.get(&param.name);
            let group = match known {
                Some(entry) => entry.group,
                None => match self.groups.place(&param.name, param.shape.len()) {
                    Ok(group) => group,
                    Err(error) => {
                        report.left_over.push(Difference::new(Differs::Group, place, error, "one group"));
                        continue;
                    }
                },
            };
            let slot = &self.groups.list[group];
            match Entry::stage(param, group, known.map(|known| &known.shape), Some(slot)) {
                Ok((mut entry, extra)) => {
                    // The numbers beside the arrays mean something to one algorithm only.
                    if kinds.get(&param.group) != Some(&slot.kind()) {
                        entry.scalars = slot.engine.scalars();
                    }
                    report.taken.push(param.name.clone());
                    report.left_over.extend(extra);
                    taken.push(entry);
                }
                Err(wrong) => report.left_over.extend(wrong),
            }
        }
        let missing = self.ledger.entries.iter().filter(|entry| !seen.contains(&*entry.name));
        report.missing.extend(missing.map(|entry| entry.name.to_string()));
        for entry in taken {
            self.ledger.put(entry);
        }
        self.release();
        for slot in &mut self.groups.list {
            let found = state.groups.iter().find(|group| group.name == slot.name);
            if let Some(group) = found.filter(|group| slot.demands.global && (1..=MAX_STEPS).contains(&group.steps))
                && group.scalars.is_some()
                && group.optimizer == slot.kind()
            {
                (slot.scalars, slot.t) = (group.scalars, group.steps);
            }
        }
        Ok(report)
    }
}

impl<A: Element> Slot<A> {
    /// Takes what a state has of this group; all that does not fit.
    fn restore(&mut self, found: Option<&GroupState>) -> Vec<Difference> {
        let place = in_group(self.name.as_deref());
        let Some(found) = found else {
            let expected = format!("the group, of {}", self.select);
            return vec![Difference::new(Differs::Group, place, "nothing", expected)];
        };
        let mut wrong = Vec::new();
        let mut differs = |differs, what: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display| {
            wrong.push(Difference::new(differs, format!("{place}{what}"), found, expected));
        };
        if found.params != self.select {
            differs(Differs::Group, ", its parameters", &found.params, &self.select);
        }
        let kind = self.kind();
        let mut same = found.optimizer == kind;
        if same {
            match &found.algorithm {
                Some(known) => same = known.with_parts(|parts| self.engine.restore(parts)),
                None if self.is_catalogued() => differs(Differs::Config, ", hyper-parameters", &"nothing", &kind),
                None => {}
            }
        }
        if !same {
            differs(Differs::Optimizer, ", optimizer", &format!("`{}`", found.optimizer), &format!("`{kind}`"));
            return wrong;
        }
        // What the old hyper-parameters kept does not bind the new ones: all arrays are in the state.
        self.used = false;
        self.t = 0;
        if let Err(error) = self.check() {
            differs(Differs::Config, ", hyper-parameters", &error, &"valid ones");
        }
        if found.steps > MAX_STEPS {
            differs(Differs::Value, ", steps", &found.steps, &"at most 2^53");
        }
        if found.scalars.is_some() && !self.demands.global {
            differs(Differs::Value, ", scalars", &"some", &"none");
        }
        if found.frozen && self.name.is_none() {
            differs(Differs::Value, "", &"frozen", &"not frozen: only a group can be");
        }
        // Before the first step they are those of the hyper-parameters.
        self.scalars =
            self.demands.global.then(|| found.scalars.filter(|_| found.steps > 0).unwrap_or_else(|| self.engine.scalars()));
        (self.t, self.frozen) = (found.steps, found.frozen);
        wrong
    }

    fn is_catalogued(&self) -> bool {
        crate::catalogue::AnyAlgorithm::of_parts(&self.engine.parts()).is_some()
    }
}

impl<A: Element> Entry<A> {
    /// The entry of a parameter, and which of its arrays are left over; without a group, arrays are not looked at.
    fn stage(
        param: &mut ParamState<Data<'_>>,
        group: usize,
        known: Option<&Shape>,
        slot: Option<&Slot<A>>,
    ) -> StagedEntry<A> {
        // Without its group nothing can be said about arrays.
        let names = slot.map(|slot| &slot.demands.arrays[..]);
        let factors = |shape: &[usize]| match slot.filter(|slot| slot.demands.directed) {
            Some(slot) => slot.engine.factors(shape),
            None => Ok(Vec::new()),
        };
        let mut wrong = Vec::new();
        let of = |what: &str| format!("parameter `{}`{what}", param.name);
        if let Some(known) = known.filter(|known| !known.is(&param.shape)) {
            let (found, expected) = (format!("{:?}", param.shape), format!("{:?}", known.as_slice()));
            wrong.push(Difference::new(Differs::Shape, of(", shape"), found, expected));
        }
        let lengths = param.shape.iter().filter(|&&n| n > 0);
        let fits =
            lengths.clone().try_fold(8_usize, |size, &n| size.checked_mul(n)).is_some_and(|n| n < isize::MAX as usize);
        let Some(shape) = Shape::new(&param.shape).filter(|_| fits) else {
            let found = format!("{:?}", param.shape);
            wrong.push(Difference::new(
                Differs::Shape,
                of(", shape"),
                found,
                "at most six axes and a size that memory can hold",
            ));
            return Err(wrong);
        };
        let order = Order::from_axes(&shape, &param.order, &param.reversed);
        if order.is_none() {
            let found = format!("{:?}, reversed {:?}", param.order, param.reversed);
            wrong.push(Difference::new(Differs::Value, of(", memory order"), found, "each axis once"));
        }
        if param.steps > MAX_STEPS {
            wrong.push(Difference::new(Differs::Value, of(", steps"), param.steps, "at most 2^53"));
        }
        if !param.allocated {
            let empty = param.arrays.is_empty() && param.factors.is_empty();
            if !empty || param.steps > 0 || param.begun || param.swapped {
                wrong.push(Difference::new(Differs::Value, of(""), "steps or state", "none, as it is not allocated"));
            }
        }

        let order = order.unwrap_or(Order::C);
        let mut entry = Entry::new((*param.name).into(), group, shape);
        (entry.order, entry.scalars, entry.t) = (order, param.scalars, param.steps);
        (entry.allocated, entry.begun, entry.swapped) = (param.allocated, param.begun, param.swapped);
        let mut extra = Vec::new();
        if let (Some(names), true) = (names, param.allocated) {
            let mut take = |list: &mut [Named<Data<'_>>], name: &str, shape: &[usize]| -> Option<ArrayD<A>> {
                let place = of(&format!(", array `{name}`"));
                let mut named = list.iter_mut().filter(|array| array.name == name);
                let first = named.next();
                let found = if first.is_some() { "it twice" } else { "nothing" };
                let (Some(array), None) = (first, named.next()) else {
                    wrong.push(Difference::new(Differs::Array, place, found, format!("an array of shape {shape:?}")));
                    return None;
                };
                if array.data.shape() != shape {
                    let (found, expected) = (format!("{:?}", array.data.shape()), format!("{shape:?}"));
                    wrong.push(Difference::new(Differs::Shape, format!("{place}, shape"), found, expected));
                    return None;
                }
                let found = array.data.element();
                let taken = array.data.take().into_array::<A>();
                if taken.is_none() {
                    wrong.push(Difference::new(Differs::Element, format!("{place}, element type"), found, A::TYPE));
                }
                Some(taken?.into_owned())
            };
            for (&name, memory) in zip(names, &mut entry.state) {
                if let Some(array) = take(&mut param.arrays, name, shape.as_slice()).and_then(six_axes) {
                    *memory = into_memory(order.arrange(array));
                }
            }
            match factors(shape.as_slice()) {
                Ok(needed) => {
                    for (name, shape) in &needed {
                        entry.factors.extend(take(&mut param.factors, name, shape).map(in_row_major));
                        entry.factor_names.push(name);
                    }
                    let is_needed = |name: &str| needed.iter().any(|(needed, _)| *needed == name);
                    let arrays = param.arrays.iter().filter(|array| !names.contains(&&*array.name));
                    for array in arrays.chain(param.factors.iter().filter(|array| !is_needed(&array.name))) {
                        let (place, found) = (of(&format!(", array `{}`", array.name)), format!("{:?}", array.data.shape()));
                        extra.push(Difference::new(Differs::Array, place, format!("it, of shape {found}"), "no such array"));
                    }
                }
                Err(expected) => {
                    let found = format!("{:?}", param.shape);
                    wrong.push(Difference::new(Differs::Shape, of(", shape"), found, expected));
                }
            }
        }
        if wrong.is_empty() {
            Ok((entry, extra))
        } else {
            wrong.extend(extra);
            Err(wrong)
        }
    }
}

/// The same array, its elements in row-major order.
fn in_row_major<A: Element>(array: ArrayD<A>) -> ArrayD<A> {
    if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() }
}

/// The elements of an array in row-major order: the memory that it has, if it is that.
fn into_memory<A: Element>(array: Array6<A>) -> Vec<A> {
    if !array.is_standard_layout() {
        return row_major(array.view().into_dyn());
    }
    let size = array.len();
    let (mut memory, first) = array.into_raw_vec_and_offset();
    memory.truncate(first.unwrap_or(0) + size);
    memory.drain(..first.unwrap_or(0));
    memory
}
