//! The arguments of an algorithm in a step, and the scalars of its state.
use super::Algorithm;
use crate::{array::Element, kernel::numbers};
use std::ops::Index;

numbers! {
    /// The scalars in the state of an algorithm, of one parameter or of a whole group: up to four.
    Scalars, 4
}

numbers! {
    /// The decay rates of running averages, up to three; [`StepContext::correction`] computes their
    /// bias corrections.
    DecayRates, 3
}

impl From<&(f64, f64)> for DecayRates {
    fn from(&(beta1, beta2): &(f64, f64)) -> Self {
        DecayRates::new([beta1, beta2])
    }
}

impl From<&(f64, f64, f64)> for DecayRates {
    fn from(&(beta1, beta2, beta3): &(f64, f64, f64)) -> Self {
        DecayRates::new([beta1, beta2, beta3])
    }
}

/// No decay rates: running averages of a list of any length have no bias corrections.
impl From<&Vec<f64>> for DecayRates {
    fn from(_: &Vec<f64>) -> Self {
        DecayRates::default()
    }
}

/// The natural logarithms of decay rates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logs([f64; 3]);

impl Logs {
    pub fn new(rates: DecayRates) -> Self {
        Logs(rates.0.map(libm::log))
    }
}

/// The steps of the optimizer, of which a parameter may have missed some. While it does, it keeps
/// its value. Steps in a row without a common parameter, such as one for each layer, count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Clock {
    /// Number of steps of the optimizer; within a step, including it.
    pub now: u64,
    /// Number of these steps before the first one that contained the parameter.
    pub joined: u64,
    /// Number of these steps up to the last one that contained the parameter; within a step,
    /// without it.
    pub last: u64,
}

impl Clock {
    /// The clock in step `t` of a parameter that has not missed any.
    pub(crate) fn in_step(t: u64) -> Self {
        Clock {
            now: t,
            joined: 0,
            last: t.saturating_sub(1),
        }
    }
}

/// The step that an algorithm computes a kernel or scalars for.
#[derive(Clone, Copy, Debug)]
pub struct StepContext {
    /// The step count of the parameter: 1 in its first step.
    pub t: u64,
    /// The steps of the optimizer.
    pub clock: Clock,
    /// The scalars of the parameter or of its group.
    pub scalars: Scalars,
    /// The value of the objective, or NaN if the algorithm does not use it.
    pub loss: f64,
    /// Whether the sums of this step have not been computed yet.
    pub sums_pending: bool,
    /// The learning rate that the algorithm was created with, whatever was set since; NaN if it has
    /// none.
    pub initial_lr: f64,
    pub(super) logs: Logs,
}

impl StepContext {
    /// Creates the context of step `t` with the initial scalars of an algorithm.
    pub fn new(algorithm: &impl Algorithm, t: u64) -> Self {
        StepContext {
            t,
            clock: Clock::in_step(t),
            scalars: algorithm.initial_scalars(),
            loss: f64::NAN,
            sums_pending: false,
            initial_lr: algorithm.lr(),
            logs: Logs::new(algorithm.decay_rates()),
        }
    }

    /// Returns the bias correction `1 - beta^t` for the `k`th of [`Algorithm::decay_rates`],
    /// counted from 0 and computed without cancellation.
    #[inline(always)]
    pub fn correction(&self, k: usize) -> f64 {
        self.correction_at(k, self.t)
    }

    /// As [`correction`](StepContext::correction), but for step `t`.
    #[inline(always)]
    pub fn correction_at(&self, k: usize, t: u64) -> f64 {
        // No call in late steps.
        let x = t as f64 * self.logs.0[k];
        if x < Self::LATE { 1.0 } else { -libm::expm1(x) }
    }

    /// The square root of [`correction`](StepContext::correction).
    #[inline(always)]
    pub(crate) fn root_of_correction(&self, k: usize) -> f64 {
        // No root in late steps: for a few hundred elements it would take as long as their step.
        let x = self.t as f64 * self.logs.0[k];
        if x < Self::LATE {
            1.0
        } else {
            (-libm::expm1(x)).sqrt()
        }
    }

    /// Below it, `e^x` is less than half an ulp of 1.
    const LATE: f64 = -38.0;
}

/// The state of one element, accessible by the names of the state arrays.
#[derive(Debug)]
pub struct ElementState<'a, A> {
    pub(crate) names: &'a [&'static str],
    pub(crate) values: &'a [A],
    pub(crate) clock: Clock,
}

impl<A: Element> ElementState<'_, A> {
    /// Returns the steps of the optimizer.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns the element of the state array `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<A> {
        let i = self.names.iter().position(|&known| known == name)?;
        self.values.get(i).copied()
    }
}
