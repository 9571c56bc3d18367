//! Parameter groups.
use super::param_table::ParamEntry;
use crate::{
    algorithm::{Engine, Recipe, Requirements, Scalars, kind},
    array::Element,
    catalogue::AnyAlgorithm,
    error::Error,
    kernel::{MAX_STATES, reduce::RunningSums},
    select::Select,
    state::Scheduled,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    iter::zip,
};

/// A parameter group: a selection of parameters with an algorithm of its own.
///
/// [`Optimizer::add_group`](crate::Optimizer::add_group) adds it to an optimizer, whose first
/// algorithm is used for all parameters that no group selects.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{AdamW, Group, Muon, Optimizer, Params, Select};
///
/// let mut optimizer = Optimizer::new(AdamW::new(1e-3));
/// optimizer.add_group(Group::new("matrices", Select::rank(2), Muon::new(0.02)))?;
/// let no_decay = AdamW { weight_decay: 0.0, ..AdamW::new(1e-3) };
/// optimizer.add_group(Group::new("no_decay", ["norm.gain"], no_decay))?;
///
/// let (mut w, mut b, mut gain) = (array![[1.0, 2.0], [3.0, 4.0]], array![0.0, 0.0], array![1.0]);
/// let (dw, db, dgain) = (array![[0.1, 0.2], [0.3, 0.4]], array![0.5, 0.5], array![0.1]);
/// let mut params = Params::new();
/// params.add("layer.weight", &mut w, &dw)?;
/// params.add("layer.bias", &mut b, &db)?;
/// params.add("norm.gain", &mut gain, &dgain)?;
/// optimizer.step(params)?;
/// assert_eq!(optimizer.group_of("layer.weight"), Some("matrices"));
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// `T` is an algorithm, with or without wrappers. In files it is an [`AnyAlgorithm`]:
///
/// ```json
/// {"group": "matrices", "params": {"rank": 2}, "optimizer": {"name": "muon"}}
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Group<T = AnyAlgorithm> {
    /// The name of the group.
    #[cfg_attr(feature = "serde", serde(rename = "group"))]
    pub name: String,
    /// The parameters of the group. It is an error if two groups select the same parameter.
    pub params: Select,
    /// The algorithm of the group.
    #[cfg_attr(feature = "serde", serde(rename = "optimizer"))]
    pub algorithm: T,
}

impl<T> Group<T> {
    /// Creates a group with this name, these parameters and this algorithm.
    pub fn new(name: impl Into<String>, params: impl Into<Select>, algorithm: T) -> Self {
        Group {
            name: name.into(),
            params: params.into(),
            algorithm,
        }
    }
}

/// The groups of an optimizer. The first one is that of all parameters that no other group selects.
#[derive(Clone)]
pub(super) struct Groups<A: Element> {
    pub list: Vec<GroupSlot<A>>,
    by_name: HashMap<String, usize>,
    /// Group indices of the parameters that are selected by name.
    by_param: HashMap<String, usize>,
    /// Indices of the groups that select by a prefix, in ascending order.
    by_prefix: HashMap<String, Vec<usize>>,
    /// The lengths of all prefixes.
    lengths: BTreeSet<usize>,
    /// Indices of the groups that select by a rank, in ascending order.
    by_rank: HashMap<usize, Vec<usize>>,
}

/// A group in an optimizer: its algorithm, with everything that its steps need.
#[derive(Clone)]
pub(super) struct GroupSlot<A: Element> {
    /// `None` for the parameters in no group.
    pub name: Option<String>,
    pub select: Select,
    pub engine: Box<dyn Engine<A>>,
    pub frozen: bool,
    /// The version of the engine that was checked last; 0 before the first check.
    version: u64,
    /// Whether a step of one array is only its sweep, as of `version`. False after a failed check.
    pub sweep_only: bool,
    pub requirements: Requirements,
    /// Factor for the gradients: -1 to maximize, else 1.
    pub sign: A,
    /// `sign` times the factor of gradient clipping in the current step.
    pub scale: A,
    /// Number of steps of the optimizer, including the current one.
    pub now: u64,
    /// Scalars shared by the whole group, if its sums run over all arrays.
    pub scalars: Option<Scalars>,
    /// Number of steps that have updated `scalars`.
    pub t: u64,
    pub sums: Box<RunningSums>,
    /// Whether the current step has added to `sums`.
    pub sums_ready: bool,
    /// The number of parameters that hold state arrays.
    pub holders: usize,
    /// The state arrays that parameters hold: those in `requirements`, then those that have been
    /// switched off and are kept.
    pub held: Vec<&'static str>,
    /// What `held` was until the last check, if the state of the parameters is still arranged so.
    rearranged: Option<Vec<&'static str>>,
    /// The hyper-parameters that schedules have driven.
    pub scheduled: Vec<Scheduled>,
}

impl<A: Element> Clone for Box<dyn Engine<A>> {
    fn clone(&self) -> Self {
        self.duplicate()
    }
}

impl<A: Element> GroupSlot<A> {
    fn new(name: Option<String>, select: Select, engine: Box<dyn Engine<A>>) -> Self {
        GroupSlot {
            name,
            select,
            engine,
            frozen: false,
            version: 0,
            sweep_only: false,
            requirements: Requirements::default(),
            sign: A::one(),
            scale: A::one(),
            now: 0,
            scalars: None,
            t: 0,
            sums: Box::default(),
            sums_ready: false,
            holders: 0,
            held: Vec::new(),
            rearranged: None,
            scheduled: Vec::new(),
        }
    }

    /// The names of the algorithm and its wrappers: `adamw + ema`.
    pub fn kind(&self) -> String {
        kind(&self.engine.parts())
    }

    /// The error for a numeric hyper-parameter that the algorithm and its wrappers do not have.
    #[cold]
    pub fn unknown_field(&self, field: &str) -> Error {
        Error::UnknownField {
            field: field.into(),
            optimizer: self.kind(),
            known: self.engine.numbers(),
        }
    }

    /// Checks the hyper-parameters if they have changed since the last check.
    #[inline]
    pub fn check(&mut self) -> Result<(), Error> {
        match self.engine.check() {
            Ok(version) if version == self.version => Ok(()),
            Ok(version) => self
                .update_requirements(version)
                .map_err(|error| self.in_group(error)),
            Err(error) => Err(self.in_group(error)),
        }
    }

    /// Counts `holders` parameters less that hold state. A group without any holds no arrays that
    /// were switched off.
    pub fn release(&mut self, holders: usize) {
        self.holders -= holders;
        if self.holders == 0 {
            self.held.truncate(self.requirements.arrays.len());
        }
    }

    #[cold]
    fn update_requirements(&mut self, version: u64) -> Result<(), Error> {
        self.sweep_only = false;
        let requirements = self.engine.requirements();
        let mut held = requirements.arrays.clone();
        if self.holders > 0 {
            let needed = &requirements.arrays;
            let kept = self.held.iter().filter(|name| !needed.contains(name));
            held.extend(kept);
            let is_new = |name: &&&str| !self.held.contains(name);
            let mut switched = held[needed.len()..]
                .iter()
                .chain(needed.iter().filter(is_new));
            if held.len() > MAX_STATES || switched.any(|name| !requirements.switched.contains(name))
            {
                return Err(Error::StateChanged {
                    held: self.held.clone(),
                    needed: needed.clone(),
                });
            }
            if held != self.held {
                self.rearranged = Some(std::mem::take(&mut self.held));
            }
        }
        self.held = held;
        if !requirements.global_sums {
            self.scalars = None;
        } else if self.t == 0 {
            // The initial scalars follow the hyper-parameters until the first step.
            self.scalars = Some(self.engine.initial_scalars());
        }
        self.sign = if requirements.maximize {
            -A::one()
        } else {
            A::one()
        };
        self.scale = self.sign;
        let more_than_sweep = requirements.is_staged()
            || requirements.loss
            || requirements.maximize
            || requirements.watched
            || requirements.terms > 0
            || !requirements.clippings.is_empty();
        self.requirements = requirements.clone();
        self.version = version;
        self.sweep_only = !more_than_sweep;
        Ok(())
    }

    /// Whether the sums of both groups run over the arrays of both.
    pub fn shares_with(&self, other: &GroupSlot<A>) -> bool {
        match (&self.requirements.shared, &other.requirements.shared) {
            (Some(one), Some(other)) => one.algorithm == other.algorithm,
            _ => false,
        }
    }

    /// Checks that a group that shares its sums with this one agrees in what these depend on.
    pub fn check_agrees(&self, other: &GroupSlot<A>) -> Result<(), Error> {
        fn fields<A: Element>(slot: &GroupSlot<A>) -> &[(&'static str, f64)] {
            let shared = slot.requirements.shared.as_ref();
            shared.map_or(&[], |shared| &shared.fields)
        }
        for (&(field, one), &(_, two)) in zip(fields(self), fields(other)) {
            if one != two {
                let of = self.name.as_deref().unwrap_or("the parameters in no group");
                let error = Error::HyperParameter {
                    field: field.into(),
                    value: two.to_string(),
                    expected: format!(
                        "{one}, as in {of}, because both share one estimate without `per_group`"
                    ),
                };
                return Err(other.in_group(error));
            }
        }
        Ok(())
    }

    /// Takes over the scalars of a group that shares its sums with this one.
    pub fn share(&mut self, scalars: Option<Scalars>, t: u64) {
        (self.scalars, self.t, self.sums_ready) = (scalars, t, false);
        *self.sums = RunningSums::default();
    }

    #[cold]
    fn in_group(&self, error: Error) -> Error {
        match &self.name {
            Some(group) => error.in_group(group),
            None => error,
        }
    }
}

impl<A: Element> Groups<A> {
    pub fn new(engine: Box<dyn Engine<A>>) -> Self {
        Groups {
            list: vec![GroupSlot::new(None, Select::Names(Vec::new()), engine)],
            by_name: HashMap::new(),
            by_param: HashMap::new(),
            by_prefix: HashMap::new(),
            lengths: BTreeSet::new(),
            by_rank: HashMap::new(),
        }
    }

    /// The group of all parameters that no other group selects.
    pub fn default_slot(&self) -> &GroupSlot<A> {
        &self.list[0]
    }

    pub fn default_slot_mut(&mut self) -> &mut GroupSlot<A> {
        &mut self.list[0]
    }

    /// Whether the default group is the only one.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.list.len() == 1
    }

    /// The index of a group that must exist; `None` stands for the parameters in no group.
    pub fn require(&self, name: Option<&str>) -> Result<usize, Error> {
        let Some(name) = name else { return Ok(0) };
        self.by_name
            .get(name)
            .copied()
            .ok_or_else(|| self.unknown(name))
    }

    /// As [`Groups::require`], for a group that may not exist.
    pub fn find(&self, name: Option<&str>) -> Option<usize> {
        name.map_or(Some(0), |name| self.by_name.get(name).copied())
    }

    #[cold]
    fn unknown(&self, group: &str) -> Error {
        let known = self
            .list
            .iter()
            .filter_map(|slot| slot.name.clone())
            .collect();
        Error::UnknownGroup {
            group: group.into(),
            known,
        }
    }

    /// Checks all hyper-parameters that have changed.
    #[inline]
    pub fn check(&mut self, entries: &mut [ParamEntry<A>]) -> Result<(), Error> {
        let mut rearranged = false;
        let outcome = self.list.iter_mut().try_for_each(|slot| {
            let outcome = slot.check();
            rearranged |= slot.rearranged.is_some();
            outcome
        });
        if rearranged {
            self.rearrange(entries);
        }
        outcome
    }

    /// As [`Groups::check`], for two groups only: checking all of them for each parameter that
    /// moves would take quadratic time.
    pub fn check_pair(
        &mut self,
        pair: [usize; 2],
        entries: &mut [ParamEntry<A>],
    ) -> Result<(), Error> {
        let outcome = pair.iter().try_for_each(|&group| self.list[group].check());
        if pair
            .iter()
            .any(|&group| self.list[group].rearranged.is_some())
        {
            self.rearrange(entries);
        }
        outcome
    }

    /// Arranges the state of all parameters as their groups hold it.
    #[cold]
    fn rearrange(&mut self, entries: &mut [ParamEntry<A>]) {
        for entry in entries {
            let slot = &self.list[entry.group];
            if let Some(before) = &slot.rearranged {
                entry.rearrange(before, &slot.held);
            }
        }
        self.list.iter_mut().for_each(|slot| slot.rearranged = None);
    }

    /// Makes groups equal that share their sums and have missed steps: those that are new.
    #[cold]
    pub fn share_scalars(&mut self) {
        let mut leaders: Vec<usize> = Vec::new();
        for (i, slot) in self.list.iter().enumerate() {
            let mut known = leaders.iter_mut();
            match known.find(|leader| self.list[**leader].shares_with(slot)) {
                Some(leader) if self.list[*leader].t < slot.t => *leader = i,
                Some(_) => {}
                None if slot.requirements.shared.is_some() => leaders.push(i),
                None => {}
            }
        }
        for leader in leaders {
            let (scalars, t) = (self.list[leader].scalars, self.list[leader].t);
            for i in 0..self.list.len() {
                if t > 0 && i != leader && self.list[i].shares_with(&self.list[leader]) {
                    self.list[i].share(scalars, t);
                }
            }
        }
    }

    /// The indices of the groups that select a parameter by prefix or rank, in ascending order.
    pub fn matching(&self, param: &str, ndim: usize) -> Vec<usize> {
        let prefixes = self.lengths.iter().map_while(|&length| {
            let fits = length <= param.len();
            fits.then(|| {
                param
                    .get(..length)
                    .and_then(|start| self.by_prefix.get(start))
            })
        });
        let lists = prefixes.flatten().chain(self.by_rank.get(&ndim));
        let mut all: Vec<usize> = lists.flatten().copied().collect();
        all.sort_unstable();
        all
    }

    /// The index of the group that selects a parameter.
    ///
    /// # Errors
    ///
    /// [`Error::GroupedTwice`].
    pub fn group_for(&self, param: &str, ndim: usize) -> Result<usize, Error> {
        let by_name = self.by_param.get(param).copied();
        let mut by_pattern = self.matching(param, ndim).into_iter();
        match (by_name.or_else(|| by_pattern.next()), by_pattern.next()) {
            (None, _) => Ok(0),
            (Some(group), None) => Ok(group),
            (Some(first), Some(second)) => Err(self.grouped_twice(param, first, second)),
        }
    }

    #[cold]
    fn grouped_twice(&self, param: &str, first: usize, second: usize) -> Error {
        let [first, second] =
            [first, second].map(|i| self.list[i].name.clone().unwrap_or_default());
        Error::GroupedTwice {
            name: param.into(),
            first,
            second,
        }
    }

    /// Creates the slot of a new group, after checks of the group itself and against the names in
    /// the others.
    pub fn new_slot(
        &self,
        name: String,
        select: Select,
        recipe: Recipe<A>,
    ) -> Result<GroupSlot<A>, Error> {
        if self.by_name.contains_key(&name) {
            return Err(Error::DuplicateGroup { group: name });
        }
        let mut seen = HashSet::new();
        for param in select.listed() {
            let first = self
                .by_param
                .get(param)
                .and_then(|&i| self.list[i].name.clone());
            if let Some(first) = first.or_else(|| (!seen.insert(param)).then(|| name.clone())) {
                return Err(Error::GroupedTwice {
                    name: param.clone(),
                    first,
                    second: name,
                });
            }
        }
        let mut slot = GroupSlot::new(Some(name), select, recipe.0);
        slot.check()?;
        Ok(slot)
    }

    /// Adds a slot from [`Groups::new_slot`].
    pub fn push(&mut self, slot: GroupSlot<A>) {
        let index = self.list.len();
        if let Some(name) = &slot.name {
            self.by_name.insert(name.clone(), index);
        }
        match &slot.select {
            Select::Names(names) => self
                .by_param
                .extend(names.iter().map(|name| (name.clone(), index))),
            Select::Prefix(prefix) => {
                self.lengths.insert(prefix.len());
                let groups = self.by_prefix.entry(prefix.clone());
                groups.or_default().push(index);
            }
            Select::Rank(axes) => self.by_rank.entry(*axes).or_default().push(index),
        }
        self.list.push(slot);
    }
}
