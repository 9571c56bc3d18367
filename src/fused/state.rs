//! The state as a value, and back.
use super::{Config, Entry, Factor, Fused, Plan, whole};
use crate::{
    Error,
    kernel::{
        Element,
        layout::{Order, Shape, six_axes, trimmed},
        row_major,
    },
    optimizer::UNNAMED,
    state::{
        Data, Difference, Differs, GroupState, MAX_STEPS, Named, ParamState, Report, StateDict, StateView, VERSION,
        in_group, kind, kind_of,
    },
};
use ndarray::{Array6, ArrayD, ArrayViewD};
use std::{
    array::from_fn,
    collections::{HashMap, HashSet},
    iter::zip,
};

/// The entry of a parameter and what is left over, or all that is wrong with it.
type StagedEntry<A> = Result<(Entry<A>, Vec<Difference>), Vec<Difference>>;

/// What [`Config::factors`] says of a shape.
type Factors<'a> = dyn Fn(&[usize]) -> Result<Vec<Factor>, &'static str> + 'a;

/// A state that fits, ready to take the place of what there is.
pub(super) struct Staged<C: Config, A: Element> {
    /// Of the parameters in no group, then of each group.
    configs: Vec<C>,
    frozen: Vec<bool>,
    plans: Vec<Plan<C, A>>,
    entries: Vec<Entry<A>>,
}

impl<C: Config, A: Element> Fused<C, A> {
    fn group_name(&self, group: usize) -> Option<&str> {
        Some(&self.groups.get(group.checked_sub(1)?)?.name)
    }

    /// The group of a parameter, by its place among the plans.
    fn place_of(&self, param: &str) -> usize {
        self.group_of.get(param).map_or(0, |group| group + 1)
    }

    /// The hyper-parameters of a group, by its place among the plans.
    fn config_of(&self, group: usize) -> &C {
        group.checked_sub(1).and_then(|group| self.groups.get(group)).map_or(&self.config, |group| &group.config)
    }

    /// The names of the parameters of each group.
    fn members(&self) -> Vec<Vec<String>> {
        let mut members = vec![Vec::new(); self.plans.len()];
        for (name, &group) in &self.group_of {
            if let Some(members) = members.get_mut(group + 1) {
                members.push(name.clone());
            }
        }
        members.iter_mut().for_each(|members| members.sort());
        members
    }

    pub(super) fn save<'a>(&'a self) -> StateView<'a> {
        let group = |((i, plan), members): ((usize, &Plan<C, A>), Vec<String>)| GroupState {
            name: self.group_name(i).map(String::from),
            config: self.config_of(i).describe(),
            params: members,
            frozen: i > 0 && self.groups[i - 1].frozen,
            scalars: plan.scalars.filter(|_| plan.t > 0),
            steps: plan.t,
        };
        fn named<'a, A: Element>(name: &'static str, array: ArrayViewD<'a, A>) -> Named<Data<'a>> {
            Named { name: name.into(), data: array.into() }
        }
        let param = |entry: &'a Entry<A>| {
            let (order, reversed) = entry.order.axes(&entry.shape);
            let names = if entry.allocated { &self.plans[entry.group].names[..] } else { &[] };
            let array = |(&name, memory): (&&'static str, &'a Vec<A>)| {
                let view = trimmed(entry.order.view(&entry.shape, memory)?, entry.shape.as_slice().len());
                Some(named(name, view))
            };
            let factors = zip(&entry.factor_names, &entry.factors);
            ParamState {
                name: entry.name.to_string(),
                group: self.group_name(entry.group).map(String::from),
                shape: entry.shape.as_slice().to_vec(),
                steps: entry.t,
                scalars: entry.scalars,
                allocated: entry.allocated,
                begun: entry.begun,
                swapped: entry.swapped,
                order,
                reversed,
                arrays: zip(names, &entry.state).filter_map(array).collect(),
                factors: factors.map(|(&name, factor)| named(name, factor.view())).collect(),
            }
        };
        StateDict {
            version: VERSION,
            element: A::TYPE,
            optimizer: kind(&self.config),
            non_finite: self.non_finite,
            limits: self.limits,
            skipped: self.skipped,
            groups: self.plans.iter().enumerate().zip(self.members()).map(group).collect(),
            params: self.entries.iter().map(param).collect(),
            rounds: Vec::new(),
        }
    }

    /// Everything in its place, or all that keeps it from being so.
    pub(super) fn stage(&self, state: &mut StateView<'_>) -> Result<Staged<C, A>, Vec<Difference>> {
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
        let own = kind(&self.config);
        if state.optimizer != own {
            differs(Differs::Optimizer, "optimizer", &format!("`{}`", state.optimizer), &format!("`{own}`"));
        }
        if state.skipped >= MAX_STEPS {
            differs(Differs::Value, "steps left out", &state.skipped, &"less than 2^53");
        }
        if !state.rounds.is_empty() {
            differs(Differs::Round, "rounds of `Accumulate`", &state.rounds.len(), &"as many as are around the optimizer");
        }

        let mut staged = Staged { configs: Vec::new(), frozen: Vec::new(), plans: Vec::new(), entries: Vec::new() };
        let mut ready = vec![true; self.plans.len()];
        let known: HashSet<_> = (0..self.plans.len()).map(|i| self.group_name(i)).collect();
        let (mut found_groups, mut strange) = (HashMap::new(), Vec::new());
        for group in &state.groups {
            let name = group.name.as_deref();
            let is_second = found_groups.contains_key(&name);
            if is_second || !known.contains(&name) {
                let found = if is_second { "it twice".into() } else { format!("a group of {:?}", group.params) };
                strange.push(Difference::new(Differs::Group, in_group(name), found, "no such group"));
            }
            found_groups.entry(name).or_insert(group);
        }
        for ((i, ready), members) in ready.iter_mut().enumerate().zip(self.members()) {
            let found = found_groups.get(&self.group_name(i)).copied();
            let (config, plan, group_wrong) = self.stage_group(i, found, &members, state.optimizer == own);
            *ready = state.optimizer == own
                && group_wrong.iter().all(|wrong| !matches!(wrong.differs, Differs::Config | Differs::Optimizer));
            wrong.extend(group_wrong);
            staged.configs.push(config);
            staged.frozen.push(found.is_some_and(|group| group.frozen));
            staged.plans.push(plan);
        }
        wrong.extend(strange);

        let mut seen = HashSet::new();
        for param in &mut state.params {
            let place = format!("parameter `{}`", param.name);
            if !seen.insert(param.name.clone()) {
                wrong.push(Difference::new(Differs::Parameter, place, "it twice", "it once"));
                continue;
            }
            let group = self.place_of(&param.name);
            if param.group.as_deref() != self.group_name(group) {
                let (found, expected) = (in_group(param.group.as_deref()), in_group(self.group_name(group)));
                wrong.push(Difference::new(Differs::Group, place.clone(), found, expected));
            }
            if !self.entries.is_empty() && !self.entry_of.contains_key(&*param.name) {
                wrong.push(Difference::new(Differs::Parameter, place, "its state", "no such parameter"));
                continue;
            }
            // Without its plan, nothing can be said about arrays.
            let plan = staged.plans.get_mut(group).filter(|_| ready.get(group).is_some_and(|&ready| ready));
            match self.stage_param(param, group, plan.as_deref()) {
                Ok((entry, extra)) => {
                    if let Some(plan) = plan {
                        plan.used |= entry.allocated;
                    }
                    wrong.extend(extra);
                    staged.entries.push(entry);
                }
                Err(all) => wrong.extend(all),
            }
        }
        for entry in self.entries.iter().filter(|entry| !seen.contains(&*entry.name)) {
            let place = format!("parameter `{}`", entry.name);
            wrong.push(Difference::new(Differs::Parameter, place, "nothing", "its state"));
        }
        if wrong.is_empty() { Ok(staged) } else { Err(wrong) }
    }

    fn stage_group(
        &self,
        group: usize,
        found: Option<&GroupState>,
        members: &[String],
        same_optimizer: bool,
    ) -> (C, Plan<C, A>, Vec<Difference>) {
        let mut wrong = Vec::new();
        let place = in_group(self.group_name(group));
        let (mut config, mut plan) = (self.config_of(group).clone(), Plan::new());
        let Some(found) = found else {
            let expected = format!("the group, of {members:?}");
            wrong.push(Difference::new(Differs::Group, place, "nothing", expected));
            return (config, plan, wrong);
        };
        if found.params != members {
            let (found, expected) = (format!("{:?}", found.params), format!("{members:?}"));
            wrong.push(Difference::new(Differs::Group, format!("{place}, its parameters"), found, expected));
        }
        match &found.config {
            Some(known) => match config.restore(known).filter(|_| kind_of(known) == kind(&config)) {
                Some(restored) => config = restored,
                // That the whole optimizer is another one has been said.
                None if group > 0 || same_optimizer => {
                    let (found, expected) = (format!("`{}`", kind_of(known)), format!("`{}`", kind(&config)));
                    wrong.push(Difference::new(Differs::Optimizer, format!("{place}, optimizer"), found, expected));
                }
                None => {}
            },
            None if config.describe().is_some() => {
                wrong.push(Difference::new(Differs::Config, format!("{place}, hyper-parameters"), "nothing", kind(&config)));
            }
            None => {}
        }
        if let Err(error) = plan.check(&config) {
            wrong.push(Difference::new(Differs::Config, format!("{place}, hyper-parameters"), error, "valid ones"));
        }
        if found.steps > MAX_STEPS {
            wrong.push(Difference::new(Differs::Value, format!("{place}, steps"), found.steps, "at most 2^53"));
        }
        if found.scalars.is_some() && !C::GLOBAL && same_optimizer {
            wrong.push(Difference::new(Differs::Value, format!("{place}, scalars"), "some", "none"));
        }
        if found.frozen && group == 0 {
            wrong.push(Difference::new(Differs::Value, place, "frozen", "not frozen: only a group can be"));
        }
        // Before the first step they are those of the hyper-parameters.
        plan.scalars = if C::GLOBAL { found.scalars.filter(|_| found.steps > 0).or(plan.scalars) } else { None };
        plan.t = found.steps;
        (config, plan, wrong)
    }

    /// As [`Entry::stage`], with what is known here of the parameter.
    fn stage_param(&self, param: &mut ParamState<Data<'_>>, group: usize, plan: Option<&Plan<C, A>>) -> StagedEntry<A> {
        let known = self.entry_of.get(&*param.name).and_then(|&entry| self.entries.get(entry));
        let factors = |shape: &[usize]| match plan.and_then(|plan| plan.checked.as_ref().filter(|_| plan.directed)) {
            Some((config, _)) => whole::factors(config, shape),
            None => Ok(Vec::new()),
        };
        Entry::stage(param, group, known.map(|known| &known.shape), plan.map(|plan| &plan.names[..]), &factors)
    }

    pub(super) fn put(&mut self, state: &StateView<'_>, staged: Staged<C, A>) {
        let mut configs = staged.configs.into_iter();
        if let Some(config) = configs.next() {
            self.config = config;
        }
        for ((group, config), frozen) in self.groups.iter_mut().zip(configs).zip(staged.frozen.into_iter().skip(1)) {
            (group.config, group.frozen) = (config, frozen);
        }
        self.plans = staged.plans;
        (self.non_finite, self.limits, self.skipped) = (state.non_finite, state.limits, state.skipped);
        self.entry_of = staged.entries.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        (self.entries, self.stamp, self.grad_norm) = (staged.entries, 0, None);
    }

    pub(super) fn take_matching(&mut self, mut state: StateView<'_>) -> Result<Report, Error> {
        if state.version != VERSION {
            let version = Difference::new(Differs::Version, "version of the format", state.version, VERSION);
            return Err(Error::State(vec![version]));
        }
        self.prepare()?;
        let mut report = Report::default();
        // The numbers beside the arrays mean something to one optimizer only.
        let same = state.optimizer == kind(&self.config);
        let (mut taken, mut seen) = (Vec::new(), HashSet::new());
        for param in &mut state.params {
            if !seen.insert(param.name.clone()) {
                let place = format!("parameter `{}`", param.name);
                report.left_over.push(Difference::new(Differs::Parameter, place, "it twice", "it once"));
                continue;
            }
            let group = self.place_of(&param.name);
            match self.stage_param(param, group, self.plans.get(group)) {
                Ok((mut entry, extra)) => {
                    if !same {
                        entry.scalars = self.config_of(group).scalars();
                    }
                    report.taken.push(param.name.clone());
                    report.left_over.extend(extra);
                    taken.push(entry);
                }
                Err(wrong) => report.left_over.extend(wrong),
            }
        }
        let missing = self.entries.iter().filter(|entry| !seen.contains(&*entry.name));
        report.missing.extend(missing.map(|entry| entry.name.to_string()));
        for mut entry in taken {
            self.plans[entry.group].used |= entry.allocated;
            match self.entry_of.get(&entry.name) {
                Some(&known) => {
                    entry.seen = self.entries[known].seen;
                    self.entries[known] = entry;
                }
                None => {
                    self.entry_of.insert(entry.name.clone(), self.entries.len());
                    self.entries.push(entry);
                }
            }
        }
        for i in 0..self.plans.len() {
            let found = state.groups.iter().find(|group| group.name.as_deref() == self.group_name(i));
            if let Some(group) = found.filter(|group| same && C::GLOBAL && (1..=MAX_STEPS).contains(&group.steps))
                && group.scalars.is_some()
            {
                (self.plans[i].scalars, self.plans[i].t) = (group.scalars, group.steps);
            }
        }
        Ok(report)
    }
}

impl<A: Element> Entry<A> {
    /// The entry of a parameter, and which of its arrays are left over; without the names of arrays, they are not looked at.
    ///
    /// Not generic over the optimizer, so that there are two of this and not hundreds.
    fn stage(
        param: &mut ParamState<Data<'_>>,
        group: usize,
        known: Option<&Shape>,
        names: Option<&[&'static str]>,
        factors: &Factors<'_>,
    ) -> StagedEntry<A> {
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
        let mut entry = Entry {
            name: (*param.name).into(),
            group,
            shape,
            order,
            state: from_fn(|_| Vec::new()),
            factors: Vec::new(),
            factor_names: Vec::new(),
            scalars: param.scalars,
            allocated: param.allocated,
            begun: param.begun,
            swapped: param.swapped,
            unnamed: param.begun && *param.name == *UNNAMED,
            t: param.steps,
            seen: 0,
        };
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
