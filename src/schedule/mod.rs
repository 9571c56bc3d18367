//! Learning-rate schedules: functions of the step, described by values that can be read from files.
//!
//! A [`Schedule`] gives the learning rate of any step directly, so a run that resumes at step 1000 asks for `value(1000)`: there is no
//! state to restore. Steps are counted from 0: the first step of the optimizer uses `value(0)`.
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{Adam, Optimizer, schedule::{CosineDecay, Linear, Schedule}};
//!
//! let cosine = Schedule::from(CosineDecay::new(0.1, 90));
//! let schedule = Schedule::from(Linear { start_factor: 0.1, total_steps: 10, ..Linear::new(0.1) }).then(10, cosine);
//! schedule.validate()?;
//!
//! let mut adam = Optimizer::new(Adam::new(0.1));
//! let mut theta = array![1.0, -2.0];
//! for step in 0..100 {
//!     adam.set_lr(schedule.value(step));
//!     let grad = 2.0 * (&theta - 3.0);
//!     adam.update(&mut theta, &grad)?;
//! }
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
//!
//! Whatever takes `impl Scheduled` takes a number, a closure `Fn(u64) -> f64` and each of the structs of this module too.
//! [`ReduceOnPlateau`] is a type of its own: its learning rate depends on observed metrics. [`Schedules`] drives any
//! hyper-parameters of an optimizer and its groups.
//!
//! In the formulas `t` is the step.

use crate::{Error, error::check};
use std::f64::consts::FRAC_PI_2;

/// A schedule: keys without a default, which [`new`] takes, and keys with one.
///
/// The default is written twice, as Rust and as the path that serde wants; a test compares them.
macro_rules! schedule {
    (
        $(#[$about:meta])*
        $name:ident {
            $($(#[$doc:meta])* $field:ident: $type:ty,)*
        }
        defaults {
            $($(#[$more_doc:meta])* $more:ident: $more_type:ty = $default:expr, $path:literal;)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
            $(
                $(#[$more_doc])*
                #[doc = concat!(" Default `", stringify!($default), "`.")]
                #[cfg_attr(feature = "serde", serde(default = $path))]
                pub $more: $more_type,
            )*
        }

        impl $name {
            /// The schedule with these keys, and the others at their defaults.
            pub fn new($($field: $type),*) -> Self {
                $name { $($field,)* $($more: $default,)* }
            }
        }
    };
}

mod compose;
mod cycles;
mod decay;
mod drive;
mod plateau;
mod warmup;

pub use compose::{Product, Sequential};
pub use cycles::{CosineAnnealing, CosineWarmRestarts, Cyclic, CyclicMode, OneCycle, Sgdr};
pub use decay::{
    Constant, CosineDecay, Exponential, ExponentialDecay, Interpolation, Linear, MultiStep, PiecewiseConstant,
    PiecewiseInterpolate, Polynomial, PolynomialDecay, Step,
};
pub use drive::{Driven, Schedules};
pub use plateau::{PlateauMode, ReduceOnPlateau, ReduceOnPlateauConfig, ThresholdMode};
pub use warmup::{DecayShape, InverseSqrt, Noam, WarmupCosine, WarmupExponential, WarmupStableDecay};

/// A value for every step: a [`Schedule`], a number, or any `Fn(u64) -> f64`.
///
/// ```
/// use ndarray_optim::schedule::{CosineDecay, Scheduled};
///
/// fn mean(schedule: impl Scheduled) -> f64 {
///     (0..10).map(|step| schedule.value(step)).sum::<f64>() / 10.0
/// }
/// let cosine = CosineDecay::new(0.1, 9);
/// assert_eq!(mean(0.5), 0.5);
/// assert_eq!(mean(|step| if step < 5 { 1.0 } else { 0.0 }), 0.5);
/// assert!((mean(move |step| 2.0 * cosine.value(step)) - 0.1).abs() < 1e-12);
/// ```
pub trait Scheduled {
    /// The value at this step, counted from 0.
    fn value(&self, step: u64) -> f64;

    /// Checks the keys, if there are any.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Scheduled for f64 {
    fn value(&self, _: u64) -> f64 {
        *self
    }
    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", *self)
    }
}

impl<F: Fn(u64) -> f64> Scheduled for F {
    fn value(&self, step: u64) -> f64 {
        self(step)
    }
}

macro_rules! catalogue {
    ($($name:literal $schedule:ident: $what:literal;)*) => {
        /// Any schedule: a learning rate described by a file.
        ///
        /// With the `serde` feature this is `{"name": "one_cycle", "max_lr": 0.1, "total_steps": 1000}`; keys that have a
        /// default may be missing, unknown ones are an error.
        ///
        /// ```
        /// use ndarray_optim::schedule::{OneCycle, Schedule};
        ///
        /// let schedule = Schedule::from(OneCycle { div_factor: 10.0, ..OneCycle::new(0.1, 1000) });
        /// schedule.validate()?;
        /// assert!((schedule.value(0) - 0.01).abs() < 1e-15);
        /// assert!((schedule.value(299) - 0.1).abs() < 1e-15);
        /// # Ok::<(), ndarray_optim::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(tag = "name"))]
        #[non_exhaustive]
        pub enum Schedule {
            $(
                #[doc = $what]
                #[cfg_attr(feature = "serde", serde(rename = $name))]
                $schedule($schedule),
            )*
        }

        impl Schedule {
            /// The names of all schedules, as in files.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The name of the schedule, as in files.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Schedule::$schedule(_) => $name,)*
                }
            }

            /// What the schedule is, in a few words.
            pub fn summary(&self) -> &'static str {
                match self {
                    $(Schedule::$schedule(_) => $what,)*
                }
            }

            /// The value at this step, counted from 0.
            ///
            /// Never panics, not even for keys that [`validate`](Schedule::validate) refuses; with those the value may be
            /// anything, NaN too.
            pub fn value(&self, step: u64) -> f64 {
                match self {
                    $(Schedule::$schedule(schedule) => schedule.value(step),)*
                }
            }

            /// Checks every key.
            ///
            /// # Errors
            ///
            /// [`Error::HyperParameter`].
            pub fn validate(&self) -> Result<(), Error> {
                match self {
                    $(Schedule::$schedule(schedule) => schedule.validate(),)*
                }
            }
        }

        $(
            impl From<$schedule> for Schedule {
                fn from(schedule: $schedule) -> Self {
                    Schedule::$schedule(schedule)
                }
            }
        )*
    };
}

catalogue! {
    "constant" Constant: "The same value at every step.";
    "step" Step: "Multiplied by gamma every so many steps.";
    "multi_step" MultiStep: "Multiplied by gamma at each milestone.";
    "exponential" Exponential: "Multiplied by gamma at every step.";
    "exponential_decay" ExponentialDecay: "A power of a rate, smooth or in stairs, from some step on.";
    "linear" Linear: "A straight line from one factor to another, then level.";
    "polynomial" Polynomial: "A power of the share of steps that is left, down to 0.";
    "polynomial_decay" PolynomialDecay: "A power of the share of steps that is left, between any two values.";
    "piecewise_constant" PiecewiseConstant: "Scaled at each boundary.";
    "piecewise_interpolate" PiecewiseInterpolate: "Scaled gradually, in lines or half cosines, up to each boundary.";
    "cosine_decay" CosineDecay: "Half a cosine down, then level.";
    "cosine_annealing" CosineAnnealing: "A cosine, down and up again.";
    "cosine_warm_restarts" CosineWarmRestarts: "Half cosines down, each starting at the top again and longer than the last.";
    "one_cycle" OneCycle: "Up to a great rate and far down, once.";
    "cyclic" Cyclic: "Triangles between two rates, level, halving or shrinking.";
    "sgdr" Sgdr: "Cycles of a linear warm-up and a cosine decay.";
    "warmup_cosine" WarmupCosine: "A linear warm-up, then half a cosine down.";
    "warmup_exponential" WarmupExponential: "A linear warm-up, then exponential decay.";
    "warmup_stable_decay" WarmupStableDecay: "A linear warm-up, a long level stretch, a short decay.";
    "inverse_sqrt" InverseSqrt: "A linear warm-up, then decay with the root of the step.";
    "noam" Noam: "The schedule of the first transformer: inverse root with a warm-up, scaled by the width of the model.";
    "sequential" Sequential: "One schedule after another.";
    "product" Product: "Several schedules multiplied.";
}

impl Schedule {
    /// This schedule until step `at`, from there `next`, which counts its steps from `at`.
    ///
    /// ```
    /// use ndarray_optim::schedule::{Exponential, Schedule};
    ///
    /// let schedule = Schedule::from(0.5).then(10, Exponential::new(0.5, 0.9)).then(20, 0.01);
    /// assert_eq!([9, 10, 11, 20].map(|step| schedule.value(step)), [0.5, 0.5, 0.45, 0.01]);
    /// ```
    #[must_use]
    pub fn then(self, at: u64, next: impl Into<Schedule>) -> Schedule {
        match self {
            Schedule::Sequential(mut first) if first.milestones.last().is_none_or(|&last| last < at) => {
                first.schedules.push(next.into());
                first.milestones.push(at);
                first.into()
            }
            first => Sequential::new(vec![first, next.into()], vec![at]).into(),
        }
    }

    /// The product of this schedule and another.
    ///
    /// ```
    /// use ndarray_optim::schedule::{CosineDecay, Linear, Schedule};
    ///
    /// let warmup = Linear { start_factor: 0.1, total_steps: 10, ..Linear::new(1.0) };
    /// let schedule = Schedule::from(CosineDecay::new(0.3, 100)).times(warmup);
    /// assert!((schedule.value(0) - 0.03).abs() < 1e-15);
    /// ```
    #[must_use]
    pub fn times(self, other: impl Into<Schedule>) -> Schedule {
        match self {
            Schedule::Product(mut product) => {
                product.schedules.push(other.into());
                product.into()
            }
            first => Product::new(vec![first, other.into()]).into(),
        }
    }
}

impl Scheduled for Schedule {
    fn value(&self, step: u64) -> f64 {
        Schedule::value(self, step)
    }
    fn validate(&self) -> Result<(), Error> {
        Schedule::validate(self)
    }
}

impl From<f64> for Schedule {
    fn from(lr: f64) -> Self {
        Constant::new(lr).into()
    }
}

/// The share of `steps` that is left: 1 at step 0, 0 from step `steps` on. A phase of no steps is over at once.
fn left(step: u64, steps: u64) -> f64 {
    match steps.saturating_sub(step) {
        0 => 0.0,
        left => left as f64 / steps as f64,
    }
}

/// `(1 + cos(pi (1 - left))) / 2` without its cancellation where the cosine nears -1.
fn half_cosine(left: f64) -> f64 {
    (FRAC_PI_2 * left).sin().powi(2)
}

/// From `start`, where all is left, to `end`: both exactly.
fn between(start: f64, end: f64, left: f64) -> f64 {
    start * left + end * (1.0 - left)
}

fn positive(field: &'static str, value: f64) -> Result<(), Error> {
    check::that(value > 0.0 && value.is_finite(), field, value, "a finite number > 0")
}

fn at_least_one(field: &'static str, steps: u64) -> Result<(), Error> {
    check::that(steps >= 1, field, steps, "a whole number >= 1")
}

#[cfg(feature = "serde")]
mod default {
    //! Defaults as serde wants them: functions.
    pub fn ratio<const N: u64, const D: u64>() -> f64 {
        N as f64 / D as f64
    }
    pub fn whole<const N: u64>() -> u64 {
        N
    }
}
