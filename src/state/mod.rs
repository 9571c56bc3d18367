//! The state of an optimizer as a value, to save, inspect, edit and load.
//!
//! After a load, an optimizer continues bit for bit like the run that was not interrupted:
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
//! other.load_state_dict(state)?; // includes the hyper-parameters
//!
//! adam.update(&mut theta, &grad)?;
//! other.update(&mut copy, &grad)?;
//! assert_eq!(theta, copy);
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! The state does not contain the parameters, nor what drives an optimizer from outside. A
//! [`ReduceOnPlateau`](crate::ReduceOnPlateau) is a value that can be saved; other schedules are
//! functions of the step. See `docs/state.md` for the guide.

#[cfg(feature = "serde")]
mod bytes;
mod edit;
#[cfg(feature = "serde")]
mod serial;
#[cfg(feature = "safetensors")]
mod tensors;

pub use crate::{
    array::{Data, ElementType},
    difference::{Difference, Differs, LoadReport},
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

/// The maximum step count: exact in `f64`, and far from overflow.
pub(crate) const MAX_STEPS: u64 = 1 << 53;

/// The state of an optimizer, including its hyper-parameters.
///
/// All fields are public, and are checked when the state is loaded. `T` is the type of an array.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct StateDict<T = Data<'static>> {
    /// The version of the format: [`VERSION`](StateDict::VERSION).
    pub version: u32,
    /// The element type of all arrays.
    pub element: ElementType,
    /// How non-finite gradients are handled.
    pub non_finite: NonFinite,
    /// Limits on the gradient norm and on consecutive skipped steps.
    pub limits: Limits,
    /// Clipping by the global norm of all gradients, before anything else.
    pub clip: Option<ClipByGlobalNorm>,
    /// Number of steps skipped since the last one that was applied.
    pub skipped: u64,
    /// Number of steps of the optimizer, of which those in a row without a common parameter count
    /// as one: at least as many as any parameter has made and missed.
    #[cfg_attr(feature = "serde", serde(default))]
    pub steps: u64,
    /// The groups; the first one is that of the parameters in no group.
    pub groups: Vec<GroupState>,
    /// The parameters, in the order of their first steps.
    pub params: Vec<ParamState<T>>,
    /// The unfinished round of gradient accumulation.
    pub accumulation: Option<Round<T>>,
}

/// A state whose arrays are borrowed from the optimizer or from another state, so that they can be
/// saved without a copy.
pub type StateView<'a> = StateDict<Data<'a>>;

/// The state of a parameter group.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct GroupState {
    /// The name of the group; `None` for the parameters in no group.
    pub name: Option<String>,
    /// The parameters that the group selects; an empty list for those in no group.
    pub params: Select,
    /// The name of the algorithm with those of its wrappers: `adamw` or `adamw + ema`.
    pub optimizer: String,
    /// The hyper-parameters, if the algorithm is in the catalogue.
    pub algorithm: Option<AnyAlgorithm>,
    /// Whether the group is frozen.
    pub frozen: bool,
    /// Scalars shared by all parameters of the group, for algorithms whose sums run over the whole
    /// group.
    pub scalars: Option<Scalars>,
    /// Number of steps that have updated `scalars`.
    pub steps: u64,
    /// The learning rate that the algorithm was created with; `None` if it has none, or in files of
    /// earlier versions.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::maybe_bits"))]
    pub initial_lr: Option<f64>,
    /// The hyper-parameters that [`Schedules`](crate::schedule::Schedules) have driven.
    #[cfg_attr(feature = "serde", serde(default))]
    pub scheduled: Vec<Scheduled>,
}

/// A hyper-parameter of a group that [`Schedules`](crate::schedule::Schedules) have driven.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Scheduled {
    /// The name of the hyper-parameter.
    pub field: String,
    /// The group's own value, from which a schedule of all groups derives that of this group.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::bits"))]
    pub own: f64,
    /// The value that a schedule has set last.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::bits"))]
    pub set: f64,
}

/// The state of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ParamState<T = Data<'static>> {
    /// The name of the parameter.
    pub name: String,
    /// The group of the parameter; `None` if it is in no group.
    pub group: Option<String>,
    /// The shape of the parameter.
    pub shape: Vec<usize>,
    /// Step count of the parameter.
    pub steps: u64,
    /// The scalars of the parameter; their meaning depends on the algorithm.
    pub scalars: Scalars,
    /// Whether the state arrays are allocated, which happens at the first gradient.
    pub allocated: bool,
    /// Whether the state is initialized; otherwise the next step initializes it.
    pub begun: bool,
    /// Whether the parameter is swapped with its average.
    pub swapped: bool,
    /// Number of steps of the optimizer before the first one of the parameter.
    #[cfg_attr(feature = "serde", serde(default))]
    pub joined: u64,
    /// Number of steps of the optimizer since the last one of the parameter.
    #[cfg_attr(feature = "serde", serde(default))]
    pub missed: u64,
    /// The memory order of the state, which is that of the parameter in its first step: the axes
    /// from the slowest to the fastest.
    pub order: Vec<u8>,
    /// The axes that run backwards in memory.
    pub reversed: Vec<u8>,
    /// The state arrays in the shape of the parameter.
    pub arrays: Vec<Named<T>>,
    /// The extra arrays: state arrays of other shapes.
    pub factors: Vec<Named<T>>,
}

/// A state array and its name, which is torch's where torch has the same array.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Named<T = Data<'static>> {
    /// The name of the array.
    pub name: String,
    /// The array.
    pub data: T,
}

/// An unfinished round of gradient accumulation: see
/// [`Optimizer::set_accumulation`](crate::Optimizer::set_accumulation).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Round<T = Data<'static>> {
    /// Number of calls in a round.
    pub every: u32,
    /// Number of calls so far.
    pub calls: u32,
    /// The sum of the weights of these calls; `None` in files of earlier versions, where each
    /// weighs 1.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::maybe_bits"))]
    pub weight: Option<f64>,
    /// Mean loss so far.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::bits"))]
    pub loss: f64,
    /// Mean gradients so far, sorted by the name of the parameter.
    pub means: Vec<Mean<T>>,
}

/// The mean gradient of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Mean<T = Data<'static>> {
    /// The name of the parameter.
    pub name: String,
    /// Number of gradients in the mean.
    pub count: u32,
    /// The sum of their weights; `None` in files of earlier versions, where each weighs 1.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::config::maybe_bits"))]
    pub weight: Option<f64>,
    /// The mean.
    pub data: T,
}

impl<T> ParamState<T> {
    /// Creates the state of a parameter before its first step: it is in no group and has no state
    /// arrays.
    pub fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        ParamState {
            name: name.into(),
            group: None,
            shape: shape.to_vec(),
            steps: 0,
            scalars: Scalars::default(),
            allocated: false,
            begun: false,
            swapped: false,
            joined: 0,
            missed: 0,
            order: (0..=u8::MAX).take(shape.len()).collect(),
            reversed: Vec::new(),
            arrays: Vec::new(),
            factors: Vec::new(),
        }
    }
}

impl<T> StateDict<T> {
    /// The version of the format that this release writes and reads.
    pub const VERSION: u32 = VERSION;

    /// Returns the state of a parameter.
    pub fn param(&self, name: &str) -> Option<&ParamState<T>> {
        self.params.iter().find(|param| param.name == name)
    }

    /// Returns the state of a parameter for editing.
    ///
    /// # Errors
    ///
    /// [`Error::StateEdit`] if the parameter has no state.
    pub fn param_mut(&mut self, name: &str) -> Result<&mut ParamState<T>, Error> {
        let found = self.params.iter_mut().find(|param| param.name == name);
        found.ok_or_else(|| edit::refused(name, "it has no state"))
    }

    /// Iterates over the arrays in the order of [`try_map`](StateDict::try_map): those of each
    /// parameter, then the means.
    #[cfg(all(feature = "checkpoint", feature = "serde"))]
    pub(crate) fn arrays_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let means = self
            .accumulation
            .iter_mut()
            .flat_map(|round| &mut round.means)
            .map(|mean| &mut mean.data);
        let states = self
            .params
            .iter_mut()
            .flat_map(|param| param.arrays.iter_mut().chain(&mut param.factors));
        states.map(|named| &mut named.data).chain(means)
    }

    /// Replaces each array by what `f` returns for it.
    pub(crate) fn try_map<'a, U, E>(
        &'a self,
        mut f: impl FnMut(Place<'a>, &'a T) -> Result<U, E>,
    ) -> Result<StateDict<U>, E> {
        let mut params = Vec::with_capacity(self.params.len());
        for param in &self.params {
            let mut named = |list: &'a [Named<T>]| -> Result<Vec<_>, E> {
                let one = |Named { name, data }: &'a Named<T>| {
                    let place = Place {
                        param: &param.name,
                        array: Array::State(name),
                    };
                    Ok(Named {
                        name: name.clone(),
                        data: f(place, data)?,
                    })
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
                joined: param.joined,
                missed: param.missed,
            });
        }
        let accumulation = match &self.accumulation {
            Some(round) => {
                let mean = |Mean {
                                name,
                                count,
                                weight,
                                data,
                            }: &'a Mean<T>| {
                    let place = Place {
                        param: name,
                        array: Array::Mean,
                    };
                    Ok(Mean {
                        name: name.clone(),
                        count: *count,
                        weight: *weight,
                        data: f(place, data)?,
                    })
                };
                let means = round.means.iter().map(mean).collect::<Result<_, E>>()?;
                Some(Round {
                    means,
                    every: round.every,
                    calls: round.calls,
                    weight: round.weight,
                    loss: round.loss,
                })
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
            steps: self.steps,
            groups: self.groups.clone(),
            params,
            accumulation,
        })
    }
}

/// The location of an array. Its text is the name of a tensor or a section.
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
    /// Borrows the state: a state with the same contents whose arrays are views.
    pub fn view(&self) -> StateView<'_> {
        let Ok(view) = self.try_map(|_, data| Ok::<_, Infallible>(data.borrow()));
        view
    }

    /// Copies the state, including the arrays.
    pub fn to_owned(&self) -> StateDict {
        let Ok(copy) = self.try_map(|_, data| Ok::<_, Infallible>(data.to_owned()));
        copy
    }
}
