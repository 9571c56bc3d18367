//! What an optimizer remembers, as a value: to save, inspect, edit and load. Steps after a load have the bits of the run that was
//! not interrupted.
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{Adam, Optimizer};
//!
//! let grad = array![0.1, -0.2];
//! let (mut adam, mut theta) = (Optimizer::new(Adam::new(0.1)), array![1.0, 2.0]);
//! adam.update(&mut theta, &grad)?;
//!
//! let state = adam.state_dict();
//! let (mut other, mut copy) = (Optimizer::new(Adam::new(1.0)), theta.clone());
//! other.load_state_dict(state)?; // with its hyper-parameters
//!
//! adam.update(&mut theta, &grad)?;
//! other.update(&mut copy, &grad)?;
//! assert_eq!(theta, copy);
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! The parameters themselves are yours to save. So is what drives an optimizer from outside: a
//! [`ReduceOnPlateau`](crate::ReduceOnPlateau) is a value that can be saved, other schedules are functions of the step.
//! `docs/state.md` is the guide.

#[cfg(feature = "serde")]
mod bytes;
mod edit;
#[cfg(feature = "serde")]
mod serial;
#[cfg(feature = "safetensors")]
mod tensors;

pub use crate::{
    array::{Data, ElementType},
    difference::{Difference, Differs, Report},
};
#[cfg(all(feature = "checkpoint", feature = "serde"))]
pub(crate) use bytes::Described;

use crate::{
    algorithm::Scalars,
    catalogue::AnyAlgorithm,
    error::Error,
    policy::{Limits, NonFinite},
    select::Select,
    wrap::ClipByGlobalNorm,
};
use std::{convert::Infallible, fmt};

/// The version of the format that is written and read.
pub(crate) const VERSION: u32 = 1;

/// Step counts are below this: exact in `f64`, and far from overflow.
pub(crate) const MAX_STEPS: u64 = 1 << 53;

/// Everything that an optimizer remembers between steps, with its hyper-parameters.
///
/// All fields are open: what stands in them is checked when it is loaded. `T` is what stands for an array.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct StateDict<T = Data<'static>> {
    /// The version of the format: [`VERSION`](StateDict::VERSION).
    pub version: u32,
    /// The element type of all arrays.
    pub element: ElementType,
    /// What is done about gradients that are not finite.
    pub non_finite: NonFinite,
    /// When gradients count as exploding.
    pub limits: Limits,
    /// Clipping of all gradients together, before anything else.
    pub clip: Option<ClipByGlobalNorm>,
    /// Steps skipped since the last one that was made.
    pub skipped: u64,
    /// First that of all parameters in no group.
    pub groups: Vec<GroupState>,
    /// In the order of their first steps.
    pub params: Vec<ParamState<T>>,
    /// The unfinished round of an accumulation.
    pub accumulation: Option<Round<T>>,
}

/// A state whose arrays are borrowed from the optimizer or from another state: to save them, they need not be copied.
pub type StateView<'a> = StateDict<Data<'a>>;

/// What is kept of a group.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct GroupState {
    /// Its name; `None` for the parameters in no group.
    pub name: Option<String>,
    /// Which parameters it has: nothing for those in no group.
    pub params: Select,
    /// The algorithm: its name with those of its wrappers, `adamw` or `adamw + ema`.
    pub optimizer: String,
    /// Its hyper-parameters, if it is in the catalogue.
    #[cfg_attr(feature = "serde", serde(with = "serial::config"))]
    pub algorithm: Option<AnyAlgorithm>,
    /// Whether its parameters are left as they are.
    pub frozen: bool,
    /// Numbers that belong to all of its parameters together, for optimizers whose sums run over all of them.
    #[cfg_attr(feature = "serde", serde(with = "serial::maybe_scalars"))]
    pub scalars: Option<Scalars>,
    /// How many steps `scalars` have seen.
    pub steps: u64,
}

/// What is kept of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ParamState<T = Data<'static>> {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: Option<String>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How many steps it has made.
    pub steps: u64,
    /// Numbers beside the arrays; their meaning is the optimizer's own.
    #[cfg_attr(feature = "serde", serde(with = "serial::scalars"))]
    pub scalars: Scalars,
    /// Whether there is a state at all. It comes with the first gradient.
    pub allocated: bool,
    /// Whether the state has begun: else the next step begins it.
    pub begun: bool,
    /// Whether the parameter has been exchanged with its average.
    pub swapped: bool,
    /// The memory order of the state, which is that of the parameter in its first step: its axes from the slowest to the fastest.
    pub order: Vec<u8>,
    /// The axes that run backwards in memory.
    pub reversed: Vec<u8>,
    /// The arrays in the shape of the parameter.
    pub arrays: Vec<Named<T>>,
    /// The arrays of other shapes.
    pub factors: Vec<Named<T>>,
}

/// An array and its name: torch's where torch has it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Named<T = Data<'static>> {
    /// The name.
    pub name: String,
    /// The array.
    pub data: T,
}

/// What an accumulation has gathered since its last step: see
/// [`Optimizer::set_accumulation`](crate::Optimizer::set_accumulation).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Round<T = Data<'static>> {
    /// Calls of a round.
    pub every: u32,
    /// Calls so far.
    pub calls: u32,
    /// The mean value of the objective so far.
    #[cfg_attr(feature = "serde", serde(with = "serial::number"))]
    pub loss: f64,
    /// The mean gradients, sorted by name.
    pub means: Vec<Mean<T>>,
}

/// The mean gradient of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Mean<T = Data<'static>> {
    /// The name of the parameter.
    pub name: String,
    /// How many gradients it is the mean of.
    pub count: u32,
    /// The mean.
    pub data: T,
}

impl<T> StateDict<T> {
    /// The version of the format that this release writes and reads.
    pub const VERSION: u32 = VERSION;

    /// The state of a parameter.
    pub fn param(&self, name: &str) -> Option<&ParamState<T>> {
        self.params.iter().find(|param| param.name == name)
    }

    /// The state of a parameter, to change it.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if there is none.
    pub fn param_mut(&mut self, name: &str) -> Result<&mut ParamState<T>, Error> {
        let found = self.params.iter_mut().find(|param| param.name == name);
        found.ok_or_else(|| edit::refused(name, "has no state"))
    }

    /// Its arrays: those of the parameters in order, then the means.
    #[cfg(all(feature = "checkpoint", feature = "serde"))]
    pub(crate) fn arrays_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let means = self.accumulation.iter_mut().flat_map(|round| &mut round.means).map(|mean| &mut mean.data);
        let states = self.params.iter_mut().flat_map(|param| param.arrays.iter_mut().chain(&mut param.factors));
        states.map(|named| &mut named.data).chain(means)
    }

    /// The same with something else in the place of each array, in the same order.
    pub(crate) fn try_map<'a, U, E>(
        &'a self,
        mut f: impl FnMut(Place<'a>, &'a T) -> Result<U, E>,
    ) -> Result<StateDict<U>, E> {
        let mut params = Vec::with_capacity(self.params.len());
        for param in &self.params {
            let mut named = |list: &'a [Named<T>]| -> Result<Vec<_>, E> {
                let one = |Named { name, data }: &'a Named<T>| {
                    let place = Place { param: &param.name, array: Array::State(name) };
                    Ok(Named { name: name.clone(), data: f(place, data)? })
                };
                list.iter().map(one).collect()
            };
            params.push(ParamState {
                arrays: named(&param.arrays)?,
                factors: named(&param.factors)?,
                name: param.name.clone(),
                group: param.group.clone(),
                shape: param.shape.clone(),
                order: param.order.clone(),
                reversed: param.reversed.clone(),
                steps: param.steps,
                scalars: param.scalars,
                allocated: param.allocated,
                begun: param.begun,
                swapped: param.swapped,
            });
        }
        let accumulation = match &self.accumulation {
            Some(round) => {
                let mean = |Mean { name, count, data }: &'a Mean<T>| {
                    let place = Place { param: name, array: Array::Mean };
                    Ok(Mean { name: name.clone(), count: *count, data: f(place, data)? })
                };
                let means = round.means.iter().map(mean).collect::<Result<_, E>>()?;
                Some(Round { means, every: round.every, calls: round.calls, loss: round.loss })
            }
            None => None,
        };
        Ok(StateDict {
            version: self.version,
            element: self.element,
            non_finite: self.non_finite,
            limits: self.limits,
            clip: self.clip.clone(),
            skipped: self.skipped,
            groups: self.groups.clone(),
            params,
            accumulation,
        })
    }
}

/// Where an array stands; as a text the name of a tensor or a section.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    param: &'a str,
    array: Array<'a>,
}

#[derive(Clone, Copy)]
enum Array<'a> {
    State(&'a str),
    Mean,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.array {
            Array::State(array) => write!(f, "{}.{array}", self.param),
            Array::Mean => write!(f, "{}.mean_grad", self.param),
        }
    }
}

impl StateDict<Data<'_>> {
    /// The same, its arrays borrowed.
    pub fn view(&self) -> StateView<'_> {
        let Ok(view) = self.try_map(|_, data| Ok::<_, Infallible>(data.borrow()));
        view
    }

    /// A copy that borrows nothing.
    pub fn to_owned(&self) -> StateDict {
        let Ok(copy) = self.try_map(|_, data| Ok::<_, Infallible>(data.to_owned()));
        copy
    }
}
