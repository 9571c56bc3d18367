//! Learning-rate schedules: functions of the step, with hyper-parameters that files can hold.
//!
//! An [`AnySchedule`] computes the learning rate of any step directly and has no state. A run that
//! resumes at step 1000 calls `value(1000)`. Steps are counted from 0: the first step of the
//! optimizer uses `value(0)`.
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{
//!     Adam, Optimizer,
//!     schedule::{AnySchedule, CosineDecay, Linear},
//! };
//!
//! let warmup = Linear { start_factor: 0.1, total_steps: 10, ..Linear::new(0.1) };
//! let schedule = AnySchedule::from(warmup).then(10, CosineDecay::new(0.1, 90));
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
//! Functions that take `impl Schedule` accept a number, a closure `Fn(u64) -> f64`, and every
//! schedule struct of this module. [`ReduceOnPlateau`] is a separate type because its learning rate
//! depends on observed metrics. [`Schedules`] applies schedules to any hyper-parameters of an
//! optimizer and its groups.
//!
//! In the formulas `t` is the step.

use crate::{
    Error,
    algorithm::{Field, FieldValue, HyperParameters, Interval},
    nesting::{self, MAX_NESTING, TOO_DEEP},
};
use std::{f64::consts::FRAC_PI_2, fmt, iter::zip, mem, sync::Arc};

/// Declares a struct of hyper-parameters: those without a default, which `new` takes, and those
/// with one.
///
/// Each default becomes a private associated function with the name of its field. serde wants the
/// path of that function as a literal, which a macro cannot make.
macro_rules! configuration {
    (
        $(#[$attr:meta])*
        $name:ident = $label:literal {
            $($(#[$doc:meta])* $field:ident: $type:ty $([$($range:tt)+])?;)*
        }
        defaults {
            $(
                $(#[$more_doc:meta])*
                $more:ident: $more_type:ty $([$($more_range:tt)+])? = $default:expr, $path:literal;
            )*
        }
        $(check($me:ident) $check:block)?
    ) => {
        $(#[$attr])*
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(deny_unknown_fields)
        )]
        pub struct $name {
            $(
                $(#[$doc])*
                $(#[doc = concat!(" Range `", stringify!($($range)+), "`.")])?
                #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
                pub $field: $type,
            )*
            $(
                $(#[$more_doc])*
                #[doc = concat!(
                    " Default `", stringify!($default), "`",
                    $(", range `", stringify!($($more_range)+), "`",)? ".",
                )]
                #[cfg_attr(feature = "serde", serde(default = $path, with = "crate::config::field"))]
                pub $more: $more_type,
            )*
        }

        impl $name {
            /// With these values and the defaults of the other fields.
            pub fn new($($field: $type),*) -> Self {
                $name { $($field,)* $($more: Self::$more(),)* }
            }

            $(
                fn $more() -> $more_type {
                    $default
                }
            )*
        }

        crate::implement_hyper_parameters! {
            $name = $label {
                $($field: $type $([$($range)+])? = ();)*
                $($more: $more_type $([$($more_range)+])? = ($default);)*
            }
            $(check($me) $check)?
        }
    };
}

/// Declares a schedule: a [`configuration!`] whose formula is in a private method `value_at`.
macro_rules! schedule {
    ($(#[$attr:meta])* $name:ident = $label:literal $($rest:tt)*) => {
        configuration! { $(#[$attr])* $name = $label $($rest)* }

        impl Schedule for $name {
            fn value(&self, step: u64) -> f64 {
                self.value_at(step)
            }

            fn validate(&self) -> Result<(), Error> {
                HyperParameters::validate(self)
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
    Constant, CosineDecay, Exponential, ExponentialDecay, Interpolation, Linear, MultiStep,
    PiecewiseConstant, PiecewiseInterpolate, Polynomial, PolynomialDecay, Step,
};
pub use drive::{Driven, Schedules};
pub use plateau::{PlateauMode, ReduceOnPlateau, ReduceOnPlateauConfig, ThresholdMode};
pub use warmup::{
    DecayShape, InverseSqrt, Noam, WarmupCosine, WarmupExponential, WarmupStableDecay,
};

/// A function of the step: an [`AnySchedule`], a number, or any `Fn(u64) -> f64`.
///
/// ```
/// use ndarray_optim::schedule::{CosineDecay, Schedule};
///
/// fn mean(schedule: impl Schedule) -> f64 {
///     (0..10).map(|step| schedule.value(step)).sum::<f64>() / 10.0
/// }
/// let cosine = CosineDecay::new(0.1, 9);
/// assert_eq!(mean(0.5), 0.5);
/// assert_eq!(mean(|step| if step < 5 { 1.0 } else { 0.0 }), 0.5);
/// assert!((mean(move |step| 2.0 * cosine.value(step)) - 0.1).abs() < 1e-12);
/// ```
pub trait Schedule {
    /// Returns the value at this step, counted from 0.
    fn value(&self, step: u64) -> f64;

    /// Checks the hyper-parameters, if there are any.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] for the first one that is out of range.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Schedule for f64 {
    fn value(&self, _: u64) -> f64 {
        *self
    }

    fn validate(&self) -> Result<(), Error> {
        FieldValue::check(self, "lr", &[Interval::at_least(0.0)])
    }
}

impl<F: Fn(u64) -> f64> Schedule for F {
    fn value(&self, step: u64) -> f64 {
        self(step)
    }
}

/// A function of the step in an [`AnySchedule`], which any `Fn(u64) -> f64` converts into.
///
/// Clones share the function and are equal. It cannot be serialized.
///
/// ```
/// use ndarray_optim::{Adam, Optimizer, schedule::Schedules};
///
/// let schedules = Schedules::new().drive("lr", |step: u64| 0.1 / (step + 1) as f64);
/// let mut adam = Optimizer::<f64>::new(Adam::default());
/// schedules.apply(&mut adam, 4)?;
/// assert_eq!(adam.lr(), 0.02);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[derive(Clone)]
pub struct Function(Arc<dyn Fn(u64) -> f64 + Send + Sync>);

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<F: Fn(u64) -> f64 + Send + Sync + 'static> From<F> for AnySchedule {
    fn from(function: F) -> Self {
        AnySchedule::Function(Function(Arc::new(function)))
    }
}

macro_rules! catalogue {
    ($($schedule:ident: $what:literal;)*) => {
        /// Any schedule of this module, as a value that files can hold.
        ///
        /// With the `serde` feature its form in a file is `{"name": "one_cycle", "max_lr": 0.1,
        /// "total_steps": 1000}`. Keys with a default may be missing; unknown keys are an error.
        ///
        /// ```
        /// use ndarray_optim::schedule::{AnySchedule, OneCycle};
        ///
        /// let one_cycle = OneCycle { div_factor: 10.0, ..OneCycle::new(0.1, 1000) };
        /// let schedule = AnySchedule::from(one_cycle);
        /// schedule.validate()?;
        /// assert!((schedule.value(0) - 0.01).abs() < 1e-15);
        /// assert!((schedule.value(299) - 0.1).abs() < 1e-15);
        /// # Ok::<(), ndarray_optim::Error>(())
        /// ```
        #[non_exhaustive]
        pub enum AnySchedule {
            $(
                #[doc = $what]
                $schedule($schedule),
            )*
            /// Any function of the step, such as a closure. Files cannot hold it.
            Function(Function),
        }

        impl AnySchedule {
            /// The names of all schedules in files.
            pub const NAMES: &[&str] = &[$($schedule::NAME),*];

            /// Returns the name of the schedule, as in files.
            pub fn name(&self) -> &'static str {
                match self {
                    $(AnySchedule::$schedule(_) => $schedule::NAME,)*
                    AnySchedule::Function(_) => "function",
                }
            }

            /// Returns a one-line description of the schedule.
            pub fn summary(&self) -> &'static str {
                match self {
                    $(AnySchedule::$schedule(_) => $what,)*
                    AnySchedule::Function(_) => "Any function of the step.",
                }
            }

            /// Returns the hyper-parameters of the schedule, as data.
            pub fn fields(&self) -> Vec<Field> {
                match self {
                    $(AnySchedule::$schedule(_) => $schedule::fields(),)*
                    AnySchedule::Function(_) => Vec::new(),
                }
            }

            /// Returns the value at this step, counted from 0.
            ///
            /// A schedule of the catalogue never panics, even with hyper-parameters that
            /// [`validate`](AnySchedule::validate) rejects. The value is unspecified then and may
            /// be NaN.
            pub fn value(&self, step: u64) -> f64 {
                self.value_within(step, MAX_NESTING)
            }

            /// As [`value`](AnySchedule::value), but NaN if more than `levels` compositions are
            /// inside each other.
            #[allow(unreachable_patterns)]
            fn value_within(&self, step: u64, levels: usize) -> f64 {
                match self {
                    AnySchedule::Sequential(list) => list.value_within(step, levels),
                    AnySchedule::Product(list) => list.value_within(step, levels),
                    $(AnySchedule::$schedule(schedule) => schedule.value(step),)*
                    AnySchedule::Function(Function(function)) => function(step),
                }
            }

            /// Returns a copy without the schedules that it is composed of.
            #[allow(unreachable_patterns)]
            fn shell(&self) -> AnySchedule {
                match self {
                    AnySchedule::Sequential(list) => {
                        Sequential::new(Vec::new(), list.milestones.clone()).into()
                    }
                    AnySchedule::Product(_) => Product::new(Vec::new()).into(),
                    $(AnySchedule::$schedule(schedule) => schedule.clone().into(),)*
                    AnySchedule::Function(function) => AnySchedule::Function(function.clone()),
                }
            }

            /// Compares two schedules without those that they are composed of.
            #[allow(unreachable_patterns)]
            fn same_shell(&self, other: &AnySchedule) -> bool {
                match (self, other) {
                    (AnySchedule::Sequential(a), AnySchedule::Sequential(b)) => {
                        a.milestones == b.milestones
                    }
                    (AnySchedule::Product(_), AnySchedule::Product(_)) => true,
                    $((AnySchedule::$schedule(a), AnySchedule::$schedule(b)) => a == b,)*
                    (AnySchedule::Function(a), AnySchedule::Function(b)) => a == b,
                    _ => false,
                }
            }

            /// Checks every hyper-parameter.
            ///
            /// # Errors
            ///
            /// [`Error::HyperParameter`] for the first one that is out of range.
            pub fn validate(&self) -> Result<(), Error> {
                match self {
                    $(AnySchedule::$schedule(schedule) => Schedule::validate(schedule),)*
                    AnySchedule::Function(_) => Ok(()),
                }
            }
        }

        impl fmt::Debug for AnySchedule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.is_too_deep() {
                    return write!(f, "{} {TOO_DEEP}", self.name());
                }
                let (name, value): (&str, &dyn fmt::Debug) = match self {
                    $(AnySchedule::$schedule(schedule) => (stringify!($schedule), schedule),)*
                    AnySchedule::Function(function) => return function.fmt(f),
                };
                f.debug_tuple(name).field(value).finish()
            }
        }

        $(
            impl From<$schedule> for AnySchedule {
                fn from(schedule: $schedule) -> Self {
                    AnySchedule::$schedule(schedule)
                }
            }
        )*

        #[cfg(feature = "serde")]
        mod in_files {
            use super::*;
            use crate::config::{self, ConfigValue};
            use serde::{Deserialize, Deserializer, Serialize, Serializer, de::value::Error};

            // The tests compare these names with those of the structs.
            #[derive(Serialize, Deserialize)]
            #[serde(remote = "AnySchedule", tag = "name", rename_all = "snake_case")]
            enum Tagged {
                $($schedule($schedule),)*
                #[serde(skip)]
                Function(Function),
            }

            impl config::Named for AnySchedule {
                const WHAT: &'static str = "a schedule";

                fn is_too_deep(&self) -> bool {
                    AnySchedule::is_too_deep(self)
                }
                fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Tagged::serialize(self, serializer)
                }
                #[inline(never)]
                fn read(value: ConfigValue) -> Result<AnySchedule, Error> {
                    Tagged::deserialize(value)
                }
            }

            impl Serialize for AnySchedule {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    config::serialize(self, serializer)
                }
            }

            impl<'de> Deserialize<'de> for AnySchedule {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    config::deserialize(deserializer)
                }
            }
        }
    };
}

catalogue! {
    Constant: "The same value at every step.";
    Step: "Multiplied by gamma every so many steps.";
    MultiStep: "Multiplied by gamma at each milestone.";
    Exponential: "Multiplied by gamma at every step.";
    ExponentialDecay: "Exponential decay, continuous or staircase, optionally delayed and bounded.";
    Linear: "Linear interpolation from one factor to another, then constant.";
    Polynomial: "Polynomial decay to 0.";
    PolynomialDecay: "Polynomial decay between two values.";
    PiecewiseConstant: "Piecewise constant, scaled at each boundary.";
    PiecewiseInterpolate: "Linear or cosine interpolation between boundaries.";
    CosineDecay: "Cosine decay, then constant.";
    CosineAnnealing: "Periodic cosine annealing: down and up again.";
    CosineWarmRestarts: "Cosine annealing with warm restarts, in equal or growing cycles.";
    OneCycle: "The 1cycle policy: up to a maximum, then down to far below the initial value.";
    Cyclic: "Triangular cycles between two learning rates, with constant or changing amplitude.";
    Sgdr: "Cycles of linear warm-up and cosine decay.";
    WarmupCosine: "Linear warm-up, then cosine decay.";
    WarmupExponential: "Linear warm-up, then exponential decay.";
    WarmupStableDecay: "Linear warm-up, a long constant phase, then a short decay.";
    InverseSqrt: "Linear warm-up, then inverse square root decay.";
    Noam: "The schedule of the original Transformer, scaled by the width of the model.";
    Sequential: "One schedule after another.";
    Product: "The product of several schedules.";
}

impl AnySchedule {
    /// Returns this schedule until step `at`, followed by `next`, which counts its steps from `at`.
    ///
    /// ```
    /// use ndarray_optim::schedule::{AnySchedule, Exponential};
    ///
    /// let schedule = AnySchedule::from(0.5).then(10, Exponential::new(0.5, 0.9)).then(20, 0.01);
    /// assert_eq!([9, 10, 11, 20].map(|step| schedule.value(step)), [0.5, 0.5, 0.45, 0.01]);
    /// ```
    #[must_use]
    pub fn then(self, at: u64, next: impl Into<AnySchedule>) -> AnySchedule {
        match self {
            AnySchedule::Sequential(mut first)
                if first.milestones.last().is_none_or(|&last| last < at) =>
            {
                first.schedules.push(next.into());
                first.milestones.push(at);
                first.into()
            }
            first => Sequential::new(vec![first, next.into()], vec![at]).into(),
        }
    }

    /// Returns the product of this schedule and another.
    ///
    /// ```
    /// use ndarray_optim::schedule::{AnySchedule, CosineDecay, Linear};
    ///
    /// let warmup = Linear { start_factor: 0.1, total_steps: 10, ..Linear::new(1.0) };
    /// let schedule = AnySchedule::from(CosineDecay::new(0.3, 100)).times(warmup);
    /// assert!((schedule.value(0) - 0.03).abs() < 1e-15);
    /// ```
    #[must_use]
    pub fn times(self, other: impl Into<AnySchedule>) -> AnySchedule {
        match self {
            AnySchedule::Product(mut product) => {
                product.schedules.push(other.into());
                product.into()
            }
            first => Product::new(vec![first, other.into()]).into(),
        }
    }
}

impl Schedule for AnySchedule {
    fn value(&self, step: u64) -> f64 {
        AnySchedule::value(self, step)
    }

    fn validate(&self) -> Result<(), Error> {
        AnySchedule::validate(self)
    }
}

impl From<f64> for AnySchedule {
    fn from(lr: f64) -> Self {
        Constant::new(lr).into()
    }
}

impl FieldValue for Option<u64> {
    fn check(&self, name: &str, ranges: &[Interval]) -> Result<(), Error> {
        self.map_or(Ok(()), |n| n.check(name, ranges))
    }
}

impl FieldValue for Vec<u64> {}
impl FieldValue for Vec<(u64, f64)> {}
impl FieldValue for Vec<AnySchedule> {}
impl FieldValue for Vec<WarmupCosine> {}

/// The fraction of `steps` that remains: 1 at step 0, 0 from step `steps` on, and always 0 if
/// `steps` is 0.
fn left(step: u64, steps: u64) -> f64 {
    match steps.saturating_sub(step) {
        0 => 0.0,
        left => left as f64 / steps as f64,
    }
}

/// `(1 + cos(pi (1 - left))) / 2`, without its cancellation where the cosine is close to -1.
fn half_cosine(left: f64) -> f64 {
    libm::sin(FRAC_PI_2 * left).powi(2)
}

/// Interpolates from `start`, where `left` is 1, to `end`, where it is 0; exact at both.
fn between(start: f64, end: f64, left: f64) -> f64 {
    start * left + end * (1.0 - left)
}
