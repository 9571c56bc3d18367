//! Loading: an optimizer from a state, or a state into an optimizer.
use super::{
    Optimizer,
    accumulate::Accumulation,
    group::{Group, GroupSlot},
    param_table::{ParamEntry, ParamTable},
};
use crate::{
    algorithm::HyperParameters,
    array::{Element, monomorphize},
    catalogue::AnyAlgorithm,
    difference::{Difference, Differs, LoadReport, in_group},
    error::Error,
    kernel::MAX_STATES,
    state::{GroupState, MAX_STEPS, Named, ParamState, StateView, VERSION},
};
use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Display},
    iter::zip,
};

/// Everything that a load changes besides arrays, after all checks of the state.
struct LoadPlan<A: Element> {
    slots: Vec<GroupSlot<A>>,
    /// In the order of the state, without their arrays.
    entries: Vec<ParamEntry<A>>,
}

impl<A: Element> Optimizer<A> {
    /// Creates an optimizer, including its groups, from a state alone.
    ///
    /// The arrays of an owned state are moved; pass [`StateDict::view`](crate::StateDict::view) if
    /// the state is used again.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Compose, Optimizer, RmsProp};
    ///
    /// let mut rmsprop = Optimizer::new(RmsProp::default().ema(0.9));
    /// let mut theta = array![1.0_f32, 2.0];
    /// rmsprop.update(&mut theta, &array![0.1, 0.2])?;
    /// let mut same = Optimizer::<f32>::from_state(rmsprop.state_view())?;
    /// same.update(&mut theta, &array![0.1, 0.2])?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::State`] if an algorithm is not in the catalogue, if the element type is not `A`, or
    /// if the state is inconsistent.
    pub fn from_state(state: StateView<'_>) -> Result<Self, Error> {
        monomorphize!(A, <'s>, (state: StateView<'s>) -> Result<Optimizer<A>, Error> {
            Optimizer::build(state)
        })
    }

    /// Returns everything that prevents a state from being loaded; empty if it can be loaded. No
    /// array is copied.
    pub fn differences(&self, state: &StateView<'_>) -> Vec<Difference> {
        let (optimizer, state) = (self, state.view());
        monomorphize!(
            A, <'o, 's>,
            (optimizer: &'o Optimizer<A>, state: StateView<'s>) -> Vec<Difference> {
                optimizer.plan_load(&state).err().unwrap_or_default()
            }
        )
    }

    /// Loads a state, including the hyper-parameters: the next step is bit for bit that of the
    /// optimizer that the state was taken from. Returns the settings that the state has replaced by
    /// others: `non_finite`, `limits`, `clip` and the calls per step of
    /// [`set_accumulation`](Optimizer::set_accumulation), where `expected` is what the program had
    /// set. To keep a setting of the program, set it after the load.
    ///
    /// Both optimizers must have the same groups with the same algorithms;
    /// [`from_state`](Optimizer::from_state) takes these from the state. If this optimizer has made
    /// steps, the state must have exactly the same parameters. [`Parallel`](crate::Parallel), which
    /// does not affect results, and hyper-parameters of an algorithm that is not in the catalogue
    /// are not part of the state and are left unchanged.
    ///
    /// The arrays of an owned state are moved, without a copy if they are in the memory order that
    /// the state records. Pass [`StateDict::view`](crate::StateDict::view) if the state is used
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::State`] with all differences; nothing is changed then.
    pub fn load_state_dict(&mut self, state: StateView<'_>) -> Result<Vec<Difference>, Error> {
        let optimizer = self;
        monomorphize!(
            A, <'o, 's>,
            (optimizer: &'o mut Optimizer<A>, state: StateView<'s>)
                -> Result<Vec<Difference>, Error> {
                let plan = optimizer.plan_load(&state).map_err(Error::State)?;
                let replaced = optimizer.replaced_settings(&state);
                optimizer.apply_load(state, plan);
                Ok(replaced)
            }
        )
    }

    /// Loads the parameters of a state that match, by name, and reports what was loaded.
    ///
    /// They may come from another algorithm whose state arrays have the same names. Each parameter
    /// is loaded as a whole, with its step count, or not at all; only an average that the state
    /// lacks may be missing, and begins with the next step (`swa` as if all samples before it had
    /// been the parameter then). Hyper-parameters, settings, and
    /// parameters that are missing in the state are left unchanged.
    ///
    /// # Errors
    ///
    /// [`Error::State`] for another version of the format, [`Error::HyperParameter`] if those of
    /// this optimizer are invalid.
    pub fn load_matching(&mut self, state: StateView<'_>) -> Result<LoadReport, Error> {
        let optimizer = self;
        monomorphize!(
            A, <'o, 's>,
            (optimizer: &'o mut Optimizer<A>, state: StateView<'s>) -> Result<LoadReport, Error> {
                optimizer.load_matching_here(state)
            }
        )
    }

    fn build(state: StateView<'_>) -> Result<Self, Error> {
        let algorithm = |group: &GroupState| {
            group.algorithm.clone().ok_or_else(|| {
                let place = in_group(group.name.as_deref());
                let expected = "one of the catalogue";
                Error::State(vec![Difference::new(
                    Differs::Optimizer,
                    place,
                    &group.optimizer,
                    expected,
                )])
            })
        };
        let Some((default, groups)) = state.groups.split_first() else {
            return Err(Error::State(vec![Difference::new(
                Differs::Group,
                "groups",
                "none",
                "at least one",
            )]));
        };
        let mut optimizer = Optimizer::new(algorithm(default)?);
        for group in groups {
            let name = group.name.clone().unwrap_or_default();
            optimizer.add_group(Group::new(name, group.params.clone(), algorithm(group)?))?;
        }
        optimizer.load_state_dict(state)?;
        Ok(optimizer)
    }

    /// Checks a state; on failure, returns all differences.
    fn plan_load(&self, state: &StateView<'_>) -> Result<LoadPlan<A>, Vec<Difference>> {
        let mut wrong = self.check_header(state);
        wrong.extend(Accumulation::<A>::differences(state));
        let mut plan = LoadPlan {
            slots: Vec::new(),
            entries: Vec::new(),
        };
        let has_arrays = self.plan_groups(&state.groups, &mut plan, &mut wrong);
        let steps = steps_of(state);
        for param in &state.params {
            if let Some(group) = self.groups.find(param.group.as_deref()) {
                plan.slots[group].hold_switched(&param.arrays);
            }
        }

        let mut seen = HashSet::new();
        for param in &state.params {
            let place = format!("parameter `{}`", param.name);
            if !seen.insert(&*param.name) {
                wrong.push(Difference::new(
                    Differs::Parameter,
                    place,
                    "two entries",
                    "one entry",
                ));
                continue;
            }
            let Some(group) = self.groups.find(param.group.as_deref()) else {
                let found = in_group(param.group.as_deref());
                let expected = "a group of the optimizer";
                wrong.push(Difference::new(Differs::Group, place, found, expected));
                continue;
            };
            let current = self.table.get(&param.name);
            if current.is_none() && !self.table.entries.is_empty() {
                wrong.push(Difference::new(
                    Differs::Parameter,
                    place,
                    "its state",
                    "no such parameter",
                ));
                continue;
            }
            // Without valid hyper-parameters it is not known which arrays are expected.
            let slot = Some(&plan.slots[group]).filter(|_| has_arrays[group]);
            let shape = current.map(|current| &current.shape);
            match ParamEntry::from_state(param, group, shape, slot, steps, false) {
                Ok((entry, left_over)) => {
                    plan.slots[group].holders += usize::from(entry.allocated);
                    wrong.extend(left_over);
                    plan.entries.push(entry);
                }
                Err(differences) => wrong.extend(differences),
            }
        }
        for entry in &self.table.entries {
            if !seen.contains(&*entry.name) {
                wrong.push(Difference::new(
                    Differs::Parameter,
                    format!("parameter `{}`", entry.name),
                    "nothing",
                    "its state",
                ));
            }
        }
        if wrong.is_empty() {
            Ok(plan)
        } else {
            Err(wrong)
        }
    }

    /// The differences in what belongs to no group or parameter.
    fn check_header(&self, state: &StateView<'_>) -> Vec<Difference> {
        let mut wrong = Vec::new();
        let mut differs = |differs, place: &str, found: &dyn Display, expected: &dyn Display| {
            wrong.push(Difference::new(differs, place, found, expected));
        };
        if state.version != VERSION {
            let place = "version of the format";
            differs(Differs::Version, place, &state.version, &VERSION);
        }
        if state.element != A::TYPE {
            differs(Differs::Element, "element type", &state.element, &A::TYPE);
        }
        if state.steps > MAX_STEPS {
            differs(Differs::Value, "steps", &state.steps, &"at most 2^53");
        }
        if state.skipped >= MAX_STEPS {
            let expected = "less than 2^53";
            differs(Differs::Value, "steps skipped", &state.skipped, &expected);
        }
        if let Err(error) = state.limits.validate() {
            differs(Differs::Value, "limits", &error, &"valid limits");
        }
        if let Some(Err(error)) = state.clip.as_ref().map(HyperParameters::validate) {
            differs(Differs::Config, "clip", &error, &"valid hyper-parameters");
        }
        wrong
    }

    /// Adds the groups of a state to a plan and their differences to `wrong`. Returns for each
    /// group whether its algorithm and hyper-parameters are valid, so that its arrays are known.
    fn plan_groups(
        &self,
        groups: &[GroupState],
        plan: &mut LoadPlan<A>,
        wrong: &mut Vec<Difference>,
    ) -> Vec<bool> {
        let mut by_name = HashMap::new();
        let mut unexpected = Vec::new();
        for group in groups {
            let name = group.name.as_deref();
            let is_repeated = by_name.contains_key(&name);
            if is_repeated || self.groups.find(name).is_none() {
                let found = if is_repeated {
                    "two entries".into()
                } else {
                    format!("a group of {}", group.params)
                };
                let expected = if is_repeated {
                    "one entry"
                } else {
                    "no such group"
                };
                let place = in_group(name);
                unexpected.push(Difference::new(Differs::Group, place, found, expected));
            }
            by_name.entry(name).or_insert(group);
        }
        let mut has_arrays = Vec::new();
        for slot in &self.groups.list {
            let mut slot = slot.clone();
            let found = by_name.get(&slot.name.as_deref()).copied();
            let differences = slot.restore(found);
            let is_invalid = |difference: &Difference| {
                matches!(difference.differs, Differs::Config | Differs::Optimizer)
            };
            has_arrays.push(!differences.iter().any(is_invalid));
            wrong.extend(differences);
            plan.slots.push(slot);
        }
        wrong.extend(unexpected);
        has_arrays
    }

    /// The settings that differ from those of a state.
    fn replaced_settings(&self, state: &StateView<'_>) -> Vec<Difference> {
        let round = state.accumulation.as_ref();
        let every = round.map_or(1, |round| round.every);
        let setting = |place: &str, found: &dyn fmt::Debug, expected: &dyn fmt::Debug| {
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            (found != expected).then(|| Difference::new(Differs::Setting, place, found, expected))
        };
        let all = [
            setting("non_finite", &state.non_finite, &self.non_finite),
            setting("limits", &state.limits, &self.limits),
            setting("clip", &state.clip, &self.clip),
            setting("calls per step", &every, &self.accumulation.every),
        ];
        all.into_iter().flatten().collect()
    }

    fn apply_load(&mut self, mut state: StateView<'_>, mut plan: LoadPlan<A>) {
        for (param, entry) in zip(&mut state.params, &mut plan.entries) {
            entry.take_arrays(param, &plan.slots[entry.group]);
        }
        self.accumulation = Accumulation::take_from(&mut state);
        for (slot, planned) in zip(&mut self.groups.list, plan.slots) {
            *slot = planned;
        }
        self.non_finite = state.non_finite;
        self.limits = state.limits;
        self.skipped = state.skipped;
        self.steps = steps_of(&state);
        self.clip.clone_from(&state.clip);
        self.table = ParamTable::from_entries(plan.entries);
        self.grad_norm = None;
        self.stats.clear();
    }

    fn load_matching_here(&mut self, mut state: StateView<'_>) -> Result<LoadReport, Error> {
        if state.version != VERSION {
            return Err(Error::State(vec![Difference::new(
                Differs::Version,
                "version of the format",
                state.version,
                VERSION,
            )]));
        }
        self.check_settings()?;
        let kinds: HashMap<_, _> = state
            .groups
            .iter()
            .map(|group| {
                (
                    group.name.clone(),
                    algorithm_of(&group.optimizer).to_owned(),
                )
            })
            .collect();
        // An optimizer that has made no step goes on where the state ended.
        let steps = match self.steps {
            0 => steps_of(&state),
            steps => steps,
        };
        let mut report = LoadReport::default();
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        for param in &mut state.params {
            let place = format!("parameter `{}`", param.name);
            if !seen.insert(param.name.clone()) {
                report.left_over.push(Difference::new(
                    Differs::Parameter,
                    place,
                    "two entries",
                    "one entry",
                ));
                continue;
            }
            let current = self.table.get(&param.name);
            let group = match current {
                Some(entry) => Ok(entry.group),
                None => self.groups.group_for(&param.name, param.shape.len()),
            };
            let group = match group {
                Ok(group) => group,
                Err(error) => {
                    let difference = Difference::new(Differs::Group, place, error, "one group");
                    report.left_over.push(difference);
                    continue;
                }
            };
            let slot = &self.groups.list[group];
            let shape = current.map(|current| &current.shape);
            match ParamEntry::from_state(param, group, shape, Some(slot), steps, true) {
                Ok((mut entry, left_over)) => {
                    entry.take_arrays(param, slot);
                    // Scalars have a meaning for one algorithm only, in any wrappers.
                    let kind = kinds.get(&param.group).map(String::as_str);
                    if kind != Some(algorithm_of(&slot.kind())) {
                        entry.scalars = slot.engine.initial_scalars();
                    }
                    if entry.begins_average {
                        report.begun.push(param.name.clone());
                    }
                    report.taken.push(param.name.clone());
                    report.left_over.extend(left_over);
                    entries.push(entry);
                }
                Err(differences) => report.left_over.extend(differences),
            }
        }
        for entry in &self.table.entries {
            if !seen.contains(&*entry.name) {
                report.missing.push(entry.name.to_string());
            }
        }
        for entry in entries {
            self.table.insert(entry);
        }
        self.steps = steps;
        self.count_holders();
        // The first one with each name.
        let by_name = state.groups.iter().rev();
        let by_name: HashMap<_, _> = by_name.map(|group| (&group.name, group)).collect();
        for slot in &mut self.groups.list {
            if let Some(group) = by_name.get(&slot.name)
                && slot.requirements.global_sums
                && (1..=MAX_STEPS).contains(&group.steps)
                && group.scalars.is_some()
                && algorithm_of(&group.optimizer) == algorithm_of(&slot.kind())
            {
                (slot.scalars, slot.t) = (group.scalars, group.steps);
            }
        }
        Ok(report)
    }
}

/// The number of steps of the optimizer that a state was taken from. Older states do not have it:
/// then it is the least number that its parameters allow.
fn steps_of(state: &StateView<'_>) -> u64 {
    let of_param = |param: &ParamState<_>| {
        let steps = param.steps.saturating_add(param.missed);
        steps.saturating_add(param.joined)
    };
    let steps = match state.steps {
        0 => state.params.iter().map(of_param).max().unwrap_or(0),
        steps => steps,
    };
    steps.min(MAX_STEPS)
}

impl<A: Element> GroupSlot<A> {
    /// Adds the arrays of a state that are switched off to those that parameters hold.
    fn hold_switched<T>(&mut self, arrays: &[Named<T>]) {
        for &name in self.requirements.switched {
            if self.held.len() < MAX_STATES
                && !self.held.contains(&name)
                && arrays.iter().any(|array| array.name == name)
            {
                self.held.push(name);
            }
        }
    }

    /// Restores the slot from the state of its group; returns all differences.
    fn restore(&mut self, found: Option<&GroupState>) -> Vec<Difference> {
        let place = in_group(self.name.as_deref());
        let Some(found) = found else {
            let expected = format!("the group, of {}", self.select);
            return vec![Difference::new(Differs::Group, place, "nothing", expected)];
        };
        let mut wrong = Vec::new();
        let mut differs = |differs, what: &str, found: &dyn Display, expected: &dyn Display| {
            let place = format!("{place}{what}");
            wrong.push(Difference::new(differs, place, found, expected));
        };
        if found.params != self.select {
            let (found, expected) = (&found.params, &self.select);
            differs(Differs::Group, ", its parameters", found, expected);
        }
        let kind = self.kind();
        let mut same = found.optimizer == kind;
        if same {
            match &found.algorithm {
                Some(known) => same = known.with_parts(|parts| self.engine.restore(parts)),
                None if self.is_in_catalogue() => {
                    differs(Differs::Config, ", hyper-parameters", &"nothing", &kind)
                }
                None => {}
            }
        }
        if !same {
            let other_type = if found.optimizer == kind {
                "hyper-parameters of another type named "
            } else {
                ""
            };
            let found = format!("{other_type}`{}`", found.optimizer);
            let expected = format!("`{kind}`");
            differs(Differs::Optimizer, ", optimizer", &found, &expected);
            return wrong;
        }
        // The previous state does not restrict the new hyper-parameters: the load replaces all
        // arrays.
        self.holders = 0;
        self.held.truncate(self.requirements.arrays.len());
        self.t = 0;
        if let Err(error) = self.check() {
            let error = match error {
                Error::InGroup { source, .. } => *source,
                error => error,
            };
            differs(Differs::Config, ", hyper-parameters", &error, &"valid ones");
        }
        if found.steps > MAX_STEPS {
            differs(Differs::Value, ", steps", &found.steps, &"at most 2^53");
        }
        if found.scalars.is_some() && !self.requirements.global_sums {
            differs(Differs::Value, ", scalars", &"some", &"none");
        }
        if found.scalars.is_none() && self.requirements.global_sums && found.steps > 0 {
            let expected = "those after its steps";
            differs(Differs::Value, ", scalars", &"none", &expected);
        }
        if found.frozen && self.name.is_none() {
            let expected = "not frozen: only a group can be";
            differs(Differs::Value, "", &"frozen", &expected);
        }
        // Before the first step, the hyper-parameters determine the scalars.
        let scalars = found.scalars.filter(|_| found.steps > 0);
        let initial = || self.engine.initial_scalars();
        let global_sums = self.requirements.global_sums;
        self.scalars = global_sums.then(|| scalars.unwrap_or_else(initial));
        (self.t, self.frozen) = (found.steps, found.frozen);
        if let Some(lr) = found.initial_lr {
            self.engine.set_initial_lr(lr);
        }
        self.scheduled.clone_from(&found.scheduled);
        wrong
    }

    fn is_in_catalogue(&self) -> bool {
        AnyAlgorithm::of_parts(&self.engine.parts()).is_some()
    }
}

/// The algorithm in the name of a group's algorithm and wrappers: `adamw` of `adamw + ema`.
fn algorithm_of(kind: &str) -> &str {
    kind.split_once(" + ")
        .map_or(kind, |(algorithm, _)| algorithm)
}
