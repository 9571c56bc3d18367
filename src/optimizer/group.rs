//! Parameters with an algorithm of their own.
use crate::{
    algorithm::{Demands, Engine, Recipe, Scalars, kind},
    array::Element,
    catalogue::AnyAlgorithm,
    error::Error,
    kernel::{MAX_TERMS, reduce::Sum},
    select::Select,
};
use std::collections::HashMap;

/// Parameters with an algorithm of their own, beside those of other groups and those in no group.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{AdamW, Group, Muon, Optimizer, Params, Select};
///
/// let mut optimizer = Optimizer::new(AdamW::new(1e-3));
/// optimizer.add_group(Group::new("matrices", Select::rank(2), Muon::new(0.02)))?;
/// optimizer.add_group(Group::new("no_decay", ["norm.gain"], AdamW { weight_decay: 0.0, ..AdamW::new(1e-3) }))?;
///
/// let (mut w, mut b, mut gain) = (array![[1.0, 2.0], [3.0, 4.0]], array![0.0, 0.0], array![1.0]);
/// let (dw, db, dgain) = (array![[0.1, 0.2], [0.3, 0.4]], array![0.5, 0.5], array![0.1]);
/// let mut params = Params::new();
/// params.add("layer.weight", &mut w, &dw)?.add("layer.bias", &mut b, &db)?.add("norm.gain", &mut gain, &dgain)?;
/// optimizer.step(params)?;
/// assert_eq!(optimizer.group_of("layer.weight"), Some("matrices"));
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// `T` is an algorithm, in wrappers or not. In files it is an [`AnyAlgorithm`]:
/// `{"group": "matrices", "params": {"rank": 2}, "optimizer": {"name": "muon"}}`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Group<T = AnyAlgorithm> {
    /// The name of the group.
    #[cfg_attr(feature = "serde", serde(rename = "group"))]
    pub name: String,
    /// Which parameters it has. A parameter that two groups select is an error.
    pub params: Select,
    /// Their algorithm.
    #[cfg_attr(feature = "serde", serde(rename = "optimizer"))]
    pub algorithm: T,
}

impl<T> Group<T> {
    /// A group of this name, of these parameters, with this algorithm.
    pub fn new(name: impl Into<String>, params: impl Into<Select>, algorithm: T) -> Self {
        Group { name: name.into(), params: params.into(), algorithm }
    }
}

/// The groups of an optimizer: first the one of all parameters that no other group selects.
#[derive(Clone)]
pub(super) struct Groups<A: Element> {
    pub list: Vec<Slot<A>>,
    by_name: HashMap<String, usize>,
    /// The groups of parameters that are selected by name.
    by_param: HashMap<String, usize>,
    /// The groups that select in other ways.
    patterns: Vec<usize>,
}

/// A group at work.
#[derive(Clone)]
pub(super) struct Slot<A: Element> {
    /// `None`: the parameters in no group.
    pub name: Option<String>,
    pub select: Select,
    pub engine: Box<dyn Engine<A>>,
    pub frozen: bool,
    /// The version of the engine that all of this belongs to, 0 before the first check.
    version: u64,
    /// Whether the last check of `version` went well, and a step of one array is only its sweep.
    pub plain: bool,
    pub demands: Demands,
    /// What gradients are multiplied with: -1 to climb.
    pub sign: A,
    /// The same in this step, with the factor of clipping.
    pub scale: A,
    /// Of the whole group, and how many steps it has made, if sums run over all of its arrays.
    pub scalars: Option<Scalars>,
    pub t: u64,
    pub sums: Box<[Sum; MAX_TERMS]>,
    /// Whether this step has brought new sums.
    pub due: bool,
    /// Whether a parameter holds the state arrays of `demands`.
    pub used: bool,
}

impl<A: Element> Clone for Box<dyn Engine<A>> {
    fn clone(&self) -> Self {
        self.duplicate()
    }
}

impl<A: Element> Slot<A> {
    fn new(name: Option<String>, select: Select, engine: Box<dyn Engine<A>>) -> Self {
        Slot {
            name,
            select,
            engine,
            frozen: false,
            version: 0,
            plain: false,
            demands: Demands::default(),
            sign: A::one(),
            scale: A::one(),
            scalars: None,
            t: 0,
            sums: Box::default(),
            due: false,
            used: false,
        }
    }

    /// The algorithm and its wrappers, in words.
    pub fn kind(&self) -> String {
        kind(&self.engine.parts())
    }

    /// Checks the hyper-parameters if they have changed.
    #[inline]
    pub fn check(&mut self) -> Result<(), Error> {
        match self.engine.check() {
            Ok(version) if version == self.version => Ok(()),
            Ok(version) => self.change(version).map_err(|error| self.explain(error)),
            Err(error) => Err(self.explain(error)),
        }
    }

    #[cold]
    fn change(&mut self, version: u64) -> Result<(), Error> {
        self.plain = false;
        let demands = self.engine.demands();
        if self.used && demands.arrays != self.demands.arrays {
            return Err(Error::StateChanged { held: self.demands.arrays.clone(), needed: demands.arrays.clone() });
        }
        if !demands.global {
            self.scalars = None;
        } else if self.t == 0 {
            // Until the first step they follow the hyper-parameters.
            self.scalars = Some(self.engine.scalars());
        }
        self.sign = if demands.maximize { -A::one() } else { A::one() };
        self.scale = self.sign;
        let more = demands.directed || demands.loss || demands.watched || demands.terms > 0 || demands.clipping.is_some();
        (self.demands, self.version, self.plain) = (demands.clone(), version, !more);
        Ok(())
    }

    #[cold]
    fn explain(&self, error: Error) -> Error {
        match &self.name {
            Some(group) => error.in_group(group),
            None => error,
        }
    }
}

impl<A: Element> Groups<A> {
    pub fn new(engine: Box<dyn Engine<A>>) -> Self {
        Groups {
            list: vec![Slot::new(None, Select::Names(Vec::new()), engine)],
            by_name: HashMap::new(),
            by_param: HashMap::new(),
            patterns: Vec::new(),
        }
    }

    /// The group of all parameters that no other one selects.
    pub fn rest(&self) -> &Slot<A> {
        &self.list[0]
    }

    pub fn rest_mut(&mut self) -> &mut Slot<A> {
        &mut self.list[0]
    }

    /// Whether that is the only one.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.list.len() == 1
    }

    /// The place of a group; `None` is that of the parameters in no group.
    pub fn find(&self, name: Option<&str>) -> Result<usize, Error> {
        let Some(name) = name else { return Ok(0) };
        self.by_name.get(name).copied().ok_or_else(|| self.unknown(name))
    }

    /// As [`Groups::find`], for the keys of a state.
    pub fn known(&self, name: Option<&str>) -> Option<usize> {
        name.map_or(Some(0), |name| self.by_name.get(name).copied())
    }

    #[cold]
    fn unknown(&self, group: &str) -> Error {
        let known = self.list.iter().filter_map(|slot| slot.name.clone()).collect();
        Error::UnknownGroup { group: group.into(), known }
    }

    /// Checks all hyper-parameters that have changed.
    #[inline]
    pub fn check(&mut self) -> Result<(), Error> {
        self.list.iter_mut().try_for_each(Slot::check)
    }

    /// The group of a parameter.
    ///
    /// # Errors
    ///
    /// [`Error::GroupedTwice`].
    pub fn place(&self, param: &str, ndim: usize) -> Result<usize, Error> {
        let mut all = self.by_param.get(param).copied().into_iter();
        let mut patterns = self.patterns.iter().copied().filter(|&i| self.list[i].select.matches(param, ndim));
        match (all.next().or_else(|| patterns.next()), patterns.next()) {
            (None, _) => Ok(0),
            (Some(one), None) => Ok(one),
            (Some(first), Some(second)) => Err(self.twice(param, first, second)),
        }
    }

    #[cold]
    fn twice(&self, param: &str, first: usize, second: usize) -> Error {
        let [first, second] = [first, second].map(|i| self.list[i].name.clone().unwrap_or_default());
        Error::GroupedTwice { name: param.into(), first, second }
    }

    /// Checks a new group by itself and against the names of the others.
    pub fn prepare(&self, name: String, select: Select, recipe: Recipe<A>) -> Result<Slot<A>, Error> {
        if self.by_name.contains_key(&name) {
            return Err(Error::DuplicateGroup { group: name });
        }
        let mut seen = std::collections::HashSet::new();
        for param in select.listed() {
            let first = self.by_param.get(param).and_then(|&i| self.list[i].name.clone());
            if let Some(first) = first.or_else(|| (!seen.insert(param)).then(|| name.clone())) {
                return Err(Error::GroupedTwice { name: param.clone(), first, second: name });
            }
        }
        let mut slot = Slot::new(Some(name), select, recipe.0);
        slot.check()?;
        Ok(slot)
    }

    /// Adds what [`Groups::prepare`] has checked.
    pub fn push(&mut self, slot: Slot<A>) {
        let index = self.list.len();
        if let Some(name) = &slot.name {
            self.by_name.insert(name.clone(), index);
        }
        match &slot.select {
            Select::Names(names) => self.by_param.extend(names.iter().map(|name| (name.clone(), index))),
            Select::Prefix(_) | Select::Rank(_) => self.patterns.push(index),
        }
        self.list.push(slot);
    }
}
