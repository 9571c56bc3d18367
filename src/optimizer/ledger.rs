//! What is remembered of every parameter, by its name.
use super::group::{Groups, Slot};
use crate::{
    algorithm::Scalars,
    array::{
        Element,
        layout::{Order, Shape, trimmed},
    },
    error::Error,
    kernel::{Arrays, MAX_STATES},
    params::Param,
    select::Select,
};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use std::{array::from_fn, collections::HashMap};

/// The name of the one array of `update`: eight bytes compare in one instruction.
pub(crate) const UNNAMED: &str = "variable";

/// The entries of all parameters.
#[derive(Clone)]
pub(super) struct Ledger<A> {
    /// In the order of the first steps; a step of the same order never looks a name up.
    pub entries: Vec<Entry<A>>,
    by_name: HashMap<Box<str>, usize>,
    stamp: u64,
}

/// What is remembered of a parameter.
#[derive(Clone)]
pub(super) struct Entry<A> {
    pub name: Box<str>,
    pub group: usize,
    pub shape: Shape,
    /// The memory order of the state: that of the parameter when it first had a gradient.
    pub order: Order,
    pub state: [Vec<A>; MAX_STATES],
    /// State of other shapes than the parameter.
    pub factors: Vec<ArrayD<A>>,
    pub factor_names: Vec<&'static str>,
    pub scalars: Scalars,
    pub allocated: bool,
    /// Whether the state has begun, in a measurement before the first step.
    pub begun: bool,
    /// Whether the parameter has been exchanged with its average.
    pub swapped: bool,
    pub t: u64,
    /// The stamp of the last step this parameter was part of: finds repeats within a step.
    seen: u64,
}

impl<A: Element> Ledger<A> {
    pub fn new() -> Self {
        Ledger { entries: Vec::new(), by_name: HashMap::new(), stamp: 0 }
    }

    pub fn of(entries: Vec<Entry<A>>) -> Self {
        let by_name = entries.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        Ledger { entries, by_name, stamp: 0 }
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, name: &str) -> Option<&Entry<A>> {
        self.find(name).map(|i| &self.entries[i])
    }

    /// As [`Ledger::find`], for a parameter that must be there.
    pub fn known(&self, name: &str) -> Result<usize, Error> {
        self.find(name).ok_or_else(|| Error::UnknownParameter { name: name.into() })
    }

    /// Puts an entry in the place of that of its name, or at the end.
    pub fn put(&mut self, mut entry: Entry<A>) {
        match self.find(&entry.name) {
            Some(at) => {
                entry.seen = self.entries[at].seen;
                self.entries[at] = entry;
            }
            None => {
                self.by_name.insert(entry.name.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    pub fn remove(&mut self, name: &str) -> Result<Entry<A>, Error> {
        let entry = self.entries.remove(self.known(name)?);
        self.by_name = self.entries.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        Ok(entry)
    }

    /// Forgets all parameters but the first `known`.
    #[cold]
    pub fn forget(&mut self, known: usize) {
        for entry in self.entries.drain(known..) {
            self.by_name.remove(&entry.name);
        }
    }

    /// Finds the entry of every parameter and checks that the step can be made; returns the work there is.
    #[inline]
    pub fn place(&mut self, list: &mut [Param<'_, A>], groups: &Groups<A>) -> Result<u64, Error> {
        self.stamp += 1;
        let mut work = 0;
        for (i, param) in list.iter_mut().enumerate() {
            // The same place as in the last step comes first.
            param.entry = match self.entries.get(i) {
                Some(entry) if same(&entry.name, &param.name) => i,
                _ => match self.by_name.get(&*param.name) {
                    Some(&entry) => entry,
                    None => self.enter(param, groups)?,
                },
            };
            let entry = &mut self.entries[param.entry];
            if entry.seen == self.stamp {
                return Err(Error::DuplicateParameter { name: param.name.to_string() });
            }
            if entry.shape != param.lent.shape {
                return Err(entry.reshaped(param.lent.shape.as_slice()));
            }
            if entry.swapped {
                return Err(Error::Swapped { name: param.name.to_string() });
            }
            let slot = &groups.list[entry.group];
            if slot.demands.directed && param.lent.has_grad() && !slot.frozen {
                entry.check_factors(slot)?;
            }
            entry.seen = self.stamp;
            work += param.lent.size() as u64 * slot.demands.cost;
        }
        Ok(work)
    }

    #[cold]
    fn enter(&mut self, param: &Param<'_, A>, groups: &Groups<A>) -> Result<usize, Error> {
        let shape = param.lent.shape;
        let group = groups.place(&param.name, shape.as_slice().len())?;
        self.put(Entry::new((*param.name).into(), group, shape));
        Ok(self.entries.len() - 1)
    }
}

impl<A: Element> Entry<A> {
    /// Whether the state can be that of another group. Factors mean something to one algorithm only.
    pub fn check_move(&self, held: &Slot<A>, to: &Slot<A>) -> Result<(), Error> {
        if !self.allocated {
            return Ok(());
        }
        let (held_arrays, needed) = (&held.demands.arrays, &to.demands.arrays);
        let same_meaning = self.factors.is_empty() || held.kind() == to.kind();
        if held_arrays != needed || !same_meaning {
            let held = held_arrays.iter().chain(&self.factor_names).copied().collect();
            let factors = to.engine.factors(self.shape.as_slice()).unwrap_or_default();
            let needed = needed.iter().copied().chain(factors.iter().map(|&(name, _)| name)).collect();
            return Err(Error::StateChanged { held, needed });
        }
        self.check_factors(to)
    }

    /// Begins the numbers beside the arrays anew in a group of another algorithm, to which they would mean something else.
    pub fn adopt(&mut self, held: &Slot<A>, to: &Slot<A>) {
        if held.kind() != to.kind() {
            self.scalars = to.engine.scalars();
        }
    }

    pub fn is_in(&self, pattern: &Select) -> bool {
        pattern.matches(&self.name, self.shape.as_slice().len())
    }

    pub fn new(name: Box<str>, group: usize, shape: Shape) -> Self {
        Entry {
            name,
            group,
            shape,
            order: Order::C,
            state: from_fn(|_| Vec::new()),
            factors: Vec::new(),
            factor_names: Vec::new(),
            scalars: [0.0; 4],
            allocated: false,
            begun: false,
            swapped: false,
            t: 0,
            seen: 0,
        }
    }

    #[cold]
    pub fn reshaped(&self, given: &[usize]) -> Error {
        Error::ShapeChanged { name: self.name.to_string(), known: self.shape.as_slice().to_vec(), given: given.to_vec() }
    }

    /// As it was before its first step.
    pub fn reset(&mut self) {
        let seen = self.seen;
        *self = Entry::new(std::mem::take(&mut self.name), self.group, self.shape);
        self.seen = seen;
    }

    /// Whether this array can be stepped, and its factors are those it holds.
    #[cold]
    fn check_factors(&self, slot: &Slot<A>) -> Result<(), Error> {
        let shape = self.shape.as_slice();
        let wrong = |expected| Error::Shape { name: self.name.to_string(), shape: shape.to_vec(), expected };
        let needed = slot.engine.factors(shape).map_err(wrong)?;
        let same = self.factors.len() == needed.len()
            && self.factors.iter().zip(&needed).all(|(factor, (_, shape))| factor.shape() == &shape[..]);
        if self.allocated && !same {
            let held = slot.demands.arrays.iter().copied().chain(self.factor_names.iter().copied()).collect();
            let needed = slot.demands.arrays.iter().copied().chain(needed.iter().map(|&(name, _)| name)).collect();
            return Err(Error::StateChanged { held, needed });
        }
        Ok(())
    }

    /// The state before the first step, in this memory order.
    #[cold]
    pub fn allocate(&mut self, order: Order, slot: &mut Slot<A>) {
        let (arrays, size) = (self.state.iter_mut().take(slot.demands.arrays.len()), self.shape.size());
        arrays.for_each(|array| *array = vec![A::ZERO; size]);
        self.scalars = slot.engine.scalars();
        (self.order, self.allocated, slot.used) = (order, true, true);
        if slot.demands.directed {
            // The shape has been checked.
            let factors = slot.engine.factors(self.shape.as_slice()).unwrap_or_default();
            self.factor_names = factors.iter().map(|&(name, _)| name).collect();
            self.factors = factors.iter().map(|(_, shape)| ArrayD::from_elem(IxDyn(shape), A::ZERO)).collect();
        }
    }

    #[inline]
    pub fn arrays(&mut self) -> Arrays<'_, A> {
        Arrays(self.state.each_mut().map(Vec::as_mut_slice))
    }

    /// State arrays by name: first those in the shape of the parameter, then the factors.
    pub fn named<'a>(&'a self, names: &'a [&'static str]) -> Vec<(&'static str, ArrayViewD<'a, A>)> {
        if !self.allocated {
            return Vec::new();
        }
        let arrays = names.iter().zip(&self.state).map(|(&name, memory)| (name, self.view(memory)));
        let factors = self.factor_names.iter().zip(&self.factors).map(|(&name, factor)| (name, factor.view()));
        arrays.chain(factors).collect()
    }

    /// A state array with the axes of the parameter.
    pub fn view<'a>(&self, memory: &'a [A]) -> ArrayViewD<'a, A> {
        trimmed(self.order.view(&self.shape, memory), self.shape.as_slice().len())
    }
}

/// `a == b` for short names: a call of `memcmp` would take longer than all the rest of finding a parameter.
#[inline]
fn same(a: &str, b: &str) -> bool {
    let ((a, a_tail), (b, b_tail)) = (a.as_bytes().as_chunks::<8>(), b.as_bytes().as_chunks::<8>());
    let words = |&(a, b): &(&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b);
    a.len() == b.len()
        && a_tail.len() == b_tail.len()
        && a.iter().zip(b).all(|pair| words(&pair))
        && a_tail.iter().zip(b_tail).all(|(a, b)| a == b)
}
