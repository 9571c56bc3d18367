//! Declaration of hyper-parameters: names, defaults, ranges, validation and access by name.
use super::{Algorithm, DecayRates, Recipe};
use crate::{Error, array::Element};
use std::{fmt, iter};

/// A struct of hyper-parameters, of an algorithm, a wrapper or a schedule.
///
/// Declare it with [`hyper_parameters!`](crate::hyper_parameters), which implements this trait.
#[allow(unused_variables)]
pub trait HyperParameters: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The name in error messages and files.
    const NAME: &'static str;

    /// Returns the descriptions of all fields.
    fn fields() -> Vec<Field> {
        Vec::new()
    }

    /// Checks every field against its range, then runs the block `check`.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] names the first field that is out of range, with its value.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Returns a numeric field by name: `lr`, `weight_decay`, `betas[0]`.
    fn number(&self, name: &str) -> Option<f64> {
        None
    }

    /// Returns a mutable reference to a numeric field by name.
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        None
    }

    /// Checks that no number with a range is larger than `largest`, the largest number of the
    /// element type.
    #[doc(hidden)]
    fn fits(&self, largest: f64) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the names of all numeric fields.
    fn numbers(&self) -> Vec<String> {
        number_names(&Self::fields(), &|name| self.number(name).is_some())
    }

    #[doc(hidden)]
    fn declared_decay_rates(&self) -> DecayRates {
        DecayRates::default()
    }

    #[doc(hidden)]
    fn declared_maximize(&self) -> bool {
        false
    }

    /// Converts the algorithm into a recipe. The algorithms of the catalogue are compiled in this
    /// crate.
    #[doc(hidden)]
    fn recipe<A: Element>(self) -> Recipe<A>
    where
        Self: Algorithm,
    {
        Recipe::typed(self)
    }
}

/// The description of a hyper-parameter: see [`HyperParameters::fields`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// The name of the field.
    pub name: &'static str,
    /// The type, as written in Rust.
    pub ty: &'static str,
    /// The default, as written in Rust; empty if there is none.
    pub default: &'static str,
    /// The range of the number. For a tuple or list, a single range for all numbers or one range
    /// for each. Empty if the field is not validated.
    pub ranges: Vec<Interval>,
}

impl Field {
    #[doc(hidden)]
    pub fn new(
        name: &'static str,
        ty: &'static str,
        default: &'static str,
        ranges: Vec<Interval>,
    ) -> Self {
        Field {
            name,
            ty,
            default,
            ranges,
        }
    }
}

/// An interval of finite numbers: the range of a hyper-parameter.
///
/// ```
/// use ndarray_optim::algorithm::Interval;
///
/// assert!(Interval::at_least(0.0).contains(0.0));
/// assert!(!Interval::half_open(0.0, 1.0).contains(1.0));
/// assert_eq!(Interval::open(0.0, 1.0).to_string(), "in (0, 1)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    lower: f64,
    upper: f64,
    lower_open: bool,
    upper_open: bool,
}

impl Interval {
    /// All finite numbers.
    pub const FINITE: Interval = Interval::new(f64::NEG_INFINITY, true, f64::INFINITY, true);

    const fn new(lower: f64, lower_open: bool, upper: f64, upper_open: bool) -> Self {
        Interval {
            lower,
            upper,
            lower_open,
            upper_open,
        }
    }

    /// `x >= lower`.
    pub const fn at_least(lower: f64) -> Self {
        Interval::new(lower, false, f64::INFINITY, true)
    }

    /// `x > lower`.
    pub const fn above(lower: f64) -> Self {
        Interval::new(lower, true, f64::INFINITY, true)
    }

    /// `x <= upper`.
    pub const fn at_most(upper: f64) -> Self {
        Interval::new(f64::NEG_INFINITY, true, upper, false)
    }

    /// `lower <= x < upper`.
    pub const fn half_open(lower: f64, upper: f64) -> Self {
        Interval::new(lower, false, upper, true)
    }

    /// `lower <= x <= upper`.
    pub const fn closed(lower: f64, upper: f64) -> Self {
        Interval::new(lower, false, upper, false)
    }

    /// `lower < x < upper`.
    pub const fn open(lower: f64, upper: f64) -> Self {
        Interval::new(lower, true, upper, true)
    }

    #[doc(hidden)]
    pub fn list(ranges: &[&[Interval]]) -> Vec<Interval> {
        ranges.concat()
    }

    /// Returns the lower bound, which can be infinite, and whether it is excluded.
    pub const fn lower(&self) -> (f64, bool) {
        (self.lower, self.lower_open)
    }

    /// Returns the upper bound, which can be infinite, and whether it is excluded.
    pub const fn upper(&self) -> (f64, bool) {
        (self.upper, self.upper_open)
    }

    /// Returns whether `x` is finite and in the interval.
    pub fn contains(&self, x: f64) -> bool {
        let above = x > self.lower || x == self.lower && !self.lower_open;
        let below = x < self.upper || x == self.upper && !self.upper_open;
        x.is_finite() && above && below
    }
}

/// `>= 0`, `in [0, 1)`, ...
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval {
            lower,
            upper,
            lower_open,
            upper_open,
        } = self;
        match (lower.is_finite(), upper.is_finite()) {
            (false, false) => f.write_str("of any size"),
            (true, false) => write!(f, "{} {lower}", if *lower_open { ">" } else { ">=" }),
            (false, true) => write!(f, "{} {upper}", if *upper_open { "<" } else { "<=" }),
            (true, true) => {
                let left = if *lower_open { '(' } else { '[' };
                let right = if *upper_open { ')' } else { ']' };
                write!(f, "in {left}{lower}, {upper}{right}")
            }
        }
    }
}

/// The type of a field in [`hyper_parameters!`](crate::hyper_parameters).
///
/// All methods have defaults, so that for an enum `impl FieldValue for MyEnum {}` is enough.
#[allow(unused_variables)]
pub trait FieldValue {
    /// Returns the number, or with an index an element of a tuple or list.
    fn number(&self, index: Option<usize>) -> Option<f64> {
        None
    }

    /// As [`number`](FieldValue::number), but mutable.
    fn number_mut(&mut self, index: Option<usize>) -> Option<&mut f64> {
        None
    }

    /// Checks that no number is larger than `largest`.
    #[doc(hidden)]
    fn fits(&self, name: &str, largest: f64) -> Result<(), Error> {
        // Whether it may be infinite is a matter of its range.
        let beyond = |x: &f64| x.is_finite() && x.abs() > largest;
        let too_large_at = |index| self.number(index).filter(beyond);
        if let Some(x) = too_large_at(None) {
            return Err(too_large(name.into(), x, largest));
        }
        match (0..MOST_NUMBERS).find_map(|i| Some((i, too_large_at(Some(i))?))) {
            Some((i, x)) => Err(too_large(format!("{name}[{i}]"), x, largest)),
            None => Ok(()),
        }
    }

    /// Checks each number against its range.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    fn check(&self, name: &str, ranges: &[Interval]) -> Result<(), Error> {
        Ok(())
    }
}

impl FieldValue for f64 {
    fn number(&self, index: Option<usize>) -> Option<f64> {
        index.is_none().then_some(*self)
    }
    fn number_mut(&mut self, index: Option<usize>) -> Option<&mut f64> {
        index.is_none().then_some(self)
    }
    fn check(&self, name: &str, ranges: &[Interval]) -> Result<(), Error> {
        check_number(*self, name, None, ranges)
    }
}

fn check_number(
    x: f64,
    name: &str,
    index: Option<usize>,
    ranges: &[Interval],
) -> Result<(), Error> {
    // A single range applies to all numbers.
    let range = match ranges {
        [one] => Some(one),
        each => each.get(index.unwrap_or(0)),
    };
    match range {
        Some(range) if !range.contains(x) => {
            let name = index.map_or_else(|| name.into(), |index| format!("{name}[{index}]"));
            let bounded = range.lower.is_finite() && range.upper.is_finite();
            let kind = if bounded {
                "a number"
            } else {
                "a finite number"
            };
            Err(out_of_range(name, x, kind, range))
        }
        _ => Ok(()),
    }
}

impl FieldValue for Option<f64> {
    fn number(&self, index: Option<usize>) -> Option<f64> {
        self.filter(|_| index.is_none())
    }
    fn number_mut(&mut self, index: Option<usize>) -> Option<&mut f64> {
        self.as_mut().filter(|_| index.is_none())
    }
    fn check(&self, name: &str, ranges: &[Interval]) -> Result<(), Error> {
        self.map_or(Ok(()), |x| check_number(x, name, None, ranges))
    }
}

impl FieldValue for Vec<f64> {
    fn number(&self, index: Option<usize>) -> Option<f64> {
        self.get(index?).copied()
    }
    fn number_mut(&mut self, index: Option<usize>) -> Option<&mut f64> {
        self.get_mut(index?)
    }
    fn check(&self, name: &str, ranges: &[Interval]) -> Result<(), Error> {
        let mut numbers = self.iter().enumerate();
        numbers.try_for_each(|(i, &x)| check_number(x, name, Some(i), ranges))
    }
}

macro_rules! tuples {
    ($(($($index:tt: $type:ty),+);)*) => {$(
        impl FieldValue for ($($type,)+) {
            fn number(&self, index: Option<usize>) -> Option<f64> {
                match index {
                    $(Some($index) => self.$index.number(None),)+
                    _ => None,
                }
            }
            fn number_mut(&mut self, index: Option<usize>) -> Option<&mut f64> {
                match index {
                    $(Some($index) => self.$index.number_mut(None),)+
                    _ => None,
                }
            }
            fn check(&self, name: &str, ranges: &[Interval]) -> Result<(), Error> {
                $(if let Some(x) = self.number(Some($index)) {
                    check_number(x, name, Some($index), ranges)?;
                })+
                Ok(())
            }
        }
    )*};
}
tuples! {
    (0: f64, 1: f64);
    (0: f64, 1: f64, 2: f64);
    (0: Option<f64>, 1: f64);
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl FieldValue for $type {
            fn check(&self, name: &str, ranges: &[Interval]) -> Result<(), Error> {
                match ranges.first() {
                    Some(range) if !range.contains(*self as f64) => {
                        Err(out_of_range(name.into(), self, "a whole number", range))
                    }
                    _ => Ok(()),
                }
            }
        }
    )*};
}
whole_numbers!(u32, u64, usize);

impl FieldValue for bool {}
impl FieldValue for Option<usize> {}
impl FieldValue for crate::kernel::reduce::Norm {}

#[cold]
fn out_of_range(field: String, value: impl fmt::Display, kind: &str, range: &Interval) -> Error {
    let expected = if *range == Interval::FINITE {
        kind.into()
    } else {
        format!("{kind} {range}")
    };
    let value = value.to_string();
    Error::HyperParameter {
        field,
        value,
        expected,
    }
}

/// No tuple or list of hyper-parameters is longer.
const MOST_NUMBERS: usize = 6;

#[cold]
fn too_large(field: String, x: f64, largest: f64) -> Error {
    Error::HyperParameter {
        field,
        value: format!("{x:e}"),
        expected: format!("a number of size <= {largest:e}, the largest of the element type"),
    }
}

/// The names of those fields that are numbers, and those of the numbers in tuples and lists.
fn number_names(fields: &[Field], is_number: &dyn Fn(&str) -> bool) -> Vec<String> {
    let names = fields.iter().flat_map(|field| {
        let elements = (0..MOST_NUMBERS).map(|i| format!("{}[{i}]", field.name));
        iter::once(field.name.to_owned()).chain(elements)
    });
    names.filter(|name| is_number(name)).collect()
}

/// Splits `betas[1]` into `betas` and 1, and `lr` into `lr` and `None`.
#[doc(hidden)]
pub fn split_name(name: &str) -> (&str, Option<usize>) {
    let parts = name
        .strip_suffix(']')
        .and_then(|name| name.split_once('['))
        .and_then(|(name, index)| Some((name, Some(index.parse().ok()?))));
    parts.unwrap_or((name, None))
}

/// Declares a struct of hyper-parameters with documentation, defaults, ranges and presets, and
/// implements [`HyperParameters`](crate::algorithm::HyperParameters) and `Default` for it.
///
/// ```
/// use ndarray_optim::{algorithm::HyperParameters, hyper_parameters};
///
/// hyper_parameters! {
///     /// Gradient descent with momentum.
///     pub struct HeavyBall = "heavy_ball" {
///         /// Learning rate.
///         lr: f64 [>= 0] = 1e-2;
///         /// Momentum factor.
///         momentum: f64 [in 0..1] = 0.9;
///         /// Nesterov momentum.
///         nesterov: bool = false;
///     }
///     presets {
///         /// Without momentum.
///         plain { momentum: 0.0 }
///     }
///     check(self) {
///         if self.nesterov && self.momentum == 0.0 {
///             return Err(self.wrong("nesterov", self.nesterov, "false without momentum"));
///         }
///         Ok(())
///     }
/// }
///
/// let mut heavy_ball = HeavyBall { lr: 0.1, ..Default::default() };
/// assert_eq!(heavy_ball.number("momentum"), Some(0.9));
/// *heavy_ball.number_mut("momentum").unwrap() = 1.0;
/// let error = heavy_ball.validate().unwrap_err().to_string();
/// assert_eq!(error, "hyper-parameter `momentum` is 1, expected a number in [0, 1)");
/// assert_eq!(HeavyBall::presets()[0], ("plain", HeavyBall::plain()));
/// ```
///
/// A field is declared as `name: type [range] = default;`, where the type implements
/// [`FieldValue`](crate::algorithm::FieldValue). The optional range is one of
///
/// | range | meaning |
/// |---|---|
/// | `>= a` | `x >= a` |
/// | `> a` | `x > a` |
/// | `<= b` | `x <= b` |
/// | `in a..b` | `a <= x < b` |
/// | `in a..=b` | `a <= x <= b` |
/// | `> a, < b` | `a < x < b` |
/// | `finite` | any finite number |
///
/// and a number outside of it, infinite or NaN is an error. A tuple takes one range for all
/// of its numbers, or a range for each, separated by `;`. The struct has public fields, whose
/// documentation includes the default and the range.
///
/// The optional block `presets` declares constructors that differ from the defaults in a few
/// fields, and a function `presets()` that lists them by name. The optional block `check` validates
/// several fields together, after the ranges; `self.wrong(field, value, expected)` returns the
/// error.
///
/// Three field names have a special meaning: a field `betas` sets the decay rates of
/// [`StepContext::correction`], a field `bias_correction` makes all of these 1 if it is false, and
/// a field `maximize` negates the gradient if it is true.
///
/// [`StepContext::correction`]: crate::algorithm::StepContext::correction
#[macro_export]
macro_rules! hyper_parameters {
    (
        $(#[$attr:meta])*
        $vis:vis struct $name:ident = $label:literal {
            $(
                $(#[$doc:meta])*
                $field:ident: $type:ty $([$($range:tt)+])? = $default:expr;
            )*
        }
        $(presets {
            $(
                $(#[$preset_doc:meta])*
                $preset:ident { $($key:ident: $value:expr),* $(,)? }
            )*
        })?
        $(check($me:ident) $check:block)?
        $(@impl { $($item:item)* })?
    ) => {
        $(#[$attr])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $(
                $(#[$doc])*
                #[doc = concat!(
                    " Default `", stringify!($default), "`",
                    $(", range `", stringify!($($range)+), "`",)? ".",
                )]
                pub $field: $type,
            )*
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                $name { $($field: $default),* }
            }
        }

        $(
            #[allow(clippy::needless_update)]
            impl $name {
                $(
                    $(#[$preset_doc])*
                    pub fn $preset() -> Self {
                        $name { $($key: $value,)* ..Self::default() }
                    }
                )*

                /// Returns all presets by name.
                pub fn presets() -> ::std::vec::Vec<(&'static str, Self)> {
                    ::std::vec![$((stringify!($preset), Self::$preset())),*]
                }
            }
        )?

        $crate::implement_hyper_parameters! {
            $name = $label {
                $($field: $type $([$($range)+])? = ($default);)*
            }
            $(check($me) $check)?
            $(@impl { $($item)* })?
        }
    };
}

/// The impls of [`hyper_parameters!`](crate::hyper_parameters).
#[doc(hidden)]
#[macro_export]
macro_rules! implement_hyper_parameters {
    (
        $name:ident = $label:literal {
            $($field:ident: $type:ty $([$($range:tt)+])? = ($($default:expr)?);)*
        }
        $(check($me:ident) $check:block)?
        $(@impl { $($item:item)* })?
    ) => {
        impl $name {
            $(
                fn check_fields(&$me) -> ::core::result::Result<(), $crate::Error> $check
            )?

            /// Returns the error for an invalid field.
            #[allow(dead_code)]
            #[cold]
            fn wrong(
                &self,
                field: &str,
                value: impl ::std::fmt::Display,
                expected: &str,
            ) -> $crate::Error {
                let (field, value, expected) = (field.into(), value.to_string(), expected.into());
                $crate::Error::HyperParameter { field, value, expected }
            }
        }

        impl $crate::algorithm::HyperParameters for $name {
            const NAME: &'static str = $label;

            fn fields() -> ::std::vec::Vec<$crate::algorithm::Field> {
                ::std::vec![$($crate::algorithm::Field::new(
                    stringify!($field),
                    stringify!($type),
                    concat!($(stringify!($default))?),
                    $crate::algorithm::Interval::list(&[$(&$crate::intervals!($($range)+))?]),
                )),*]
            }

            fn validate(&self) -> ::core::result::Result<(), $crate::Error> {
                $($(
                    let ranges = $crate::intervals!($($range)+);
                    let name = stringify!($field);
                    $crate::algorithm::FieldValue::check(&self.$field, name, &ranges)?;
                )?)*
                $crate::check_declared!(self $(, $me)?)
            }

            #[allow(unused_variables)]
            fn fits(&self, largest: f64) -> ::core::result::Result<(), $crate::Error> {
                $($(
                    let _ = $crate::intervals!($($range)+);
                    let name = stringify!($field);
                    $crate::algorithm::FieldValue::fits(&self.$field, name, largest)?;
                )?)*
                Ok(())
            }

            #[allow(unused_variables)]
            fn number(&self, name: &str) -> ::core::option::Option<f64> {
                let (name, index) = $crate::algorithm::split_name(name);
                match name {
                    $(stringify!($field) => {
                        $crate::algorithm::FieldValue::number(&self.$field, index)
                    })*
                    _ => ::core::option::Option::None,
                }
            }

            #[allow(unused_variables)]
            fn number_mut(&mut self, name: &str) -> ::core::option::Option<&mut f64> {
                let (name, index) = $crate::algorithm::split_name(name);
                match name {
                    $(stringify!($field) => {
                        $crate::algorithm::FieldValue::number_mut(&mut self.$field, index)
                    })*
                    _ => ::core::option::Option::None,
                }
            }

            fn declared_decay_rates(&self) -> $crate::algorithm::DecayRates {
                if $crate::declared_bias_correction!(self; $($field)*) {
                    $crate::declared_decay_rates!(self; $($field)*)
                } else {
                    // At a rate of 0, 1 - beta^t is 1.
                    $crate::algorithm::DecayRates::default()
                }
            }

            fn declared_maximize(&self) -> bool {
                $crate::declared_maximize!(self; $($field)*)
            }

            $($($item)*)?
        }
    };
}

/// Converts the ranges of a field to a list of intervals.
#[doc(hidden)]
#[macro_export]
macro_rules! intervals {
    (@ [$($done:expr,)*] [$($range:tt)*] ; $($rest:tt)+) => {
        $crate::intervals!(@ [$($done,)* $crate::interval!($($range)*),] [] $($rest)+)
    };
    (@ [$($done:expr,)*] [$($range:tt)*] $next:tt $($rest:tt)*) => {
        $crate::intervals!(@ [$($done,)*] [$($range)* $next] $($rest)*)
    };
    (@ [$($done:expr,)*] [$($range:tt)*]) => { [$($done,)* $crate::interval!($($range)*)] };
    ($($range:tt)+) => { $crate::intervals!(@ [] [] $($range)+) };
}

/// Converts a range to an interval.
#[doc(hidden)]
#[macro_export]
macro_rules! interval {
    (finite) => {
        $crate::algorithm::Interval::FINITE
    };
    (>= $a:literal) => {
        $crate::algorithm::Interval::at_least($a as f64)
    };
    (> $a:literal) => {
        $crate::algorithm::Interval::above($a as f64)
    };
    (<= $b:literal) => {
        $crate::algorithm::Interval::at_most($b as f64)
    };
    (in $a:literal .. $b:literal) => {
        $crate::algorithm::Interval::half_open($a as f64, $b as f64)
    };
    (in $a:literal ..= $b:literal) => {
        $crate::algorithm::Interval::closed($a as f64, $b as f64)
    };
    (> $a:literal, < $b:literal) => {
        $crate::algorithm::Interval::open($a as f64, $b as f64)
    };
}

/// Runs the block `check`, if there is one.
#[doc(hidden)]
#[macro_export]
macro_rules! check_declared {
    ($self:ident) => {
        Ok(())
    };
    ($self:ident, $me:ident) => {
        $self.check_fields()
    };
}

/// Returns the decay rates in the field `betas`, if there is one.
#[doc(hidden)]
#[macro_export]
macro_rules! declared_decay_rates {
    ($self:ident;) => { $crate::algorithm::DecayRates::default() };
    ($self:ident; betas $($rest:ident)*) => {
        $crate::algorithm::DecayRates::from(&$self.betas)
    };
    ($self:ident; $other:ident $($rest:ident)*) => {
        $crate::declared_decay_rates!($self; $($rest)*)
    };
}

/// Returns the field `bias_correction`, or true if there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! declared_bias_correction {
    ($self:ident;) => { true };
    ($self:ident; bias_correction $($rest:ident)*) => { $self.bias_correction };
    ($self:ident; $other:ident $($rest:ident)*) => {
        $crate::declared_bias_correction!($self; $($rest)*)
    };
}

/// Returns the field `maximize`, or false if there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! declared_maximize {
    ($self:ident;) => { false };
    ($self:ident; maximize $($rest:ident)*) => { $self.maximize };
    ($self:ident; $other:ident $($rest:ident)*) => {
        $crate::declared_maximize!($self; $($rest)*)
    };
}
