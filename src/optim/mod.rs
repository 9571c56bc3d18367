//! One file for each optimizer: what it is for, its formula, its hyper-parameters and its rule.

use crate::{
    algorithm::{
        Algorithm, DecayRates, Demands, ElementState, ExtraArray, Scalars, StepContext, Sums,
        Terms, WholeArray,
    },
    array::Element,
    kernel::{
        Arrays, Either, Kernel, Preconditioned, Rule, Trace, With, WithCoupled, WithDecoupled,
        coupled, decoupled, preconditioned,
    },
};

/// Declares an algorithm of the catalogue.
macro_rules! algorithm {
    (
        $(#[$attr:meta])*
        $name:ident = $label:literal {
            $($(#[$doc:meta])* $field:ident: $type:ty $([$($range:tt)+])? = $default:expr;)*
        }
        $($rest:tt)*
    ) => {
        in_catalogue! {
            $(#[$attr])*
            #[derive(Copy)]
            #[cfg_attr(
                feature = "serde",
                derive(serde::Serialize, serde::Deserialize),
                serde(default, deny_unknown_fields)
            )]
            $name = $label {
                $(
                    $(#[$doc])*
                    #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
                    $field: $type $([$($range)+])? = $default;
                )*
            }
            $($rest)*
        }
    };
}

/// Declares an algorithm of the catalogue whose attributes are all given. Its engines are made by
/// functions that are not generic, so that they are compiled in this crate.
macro_rules! in_catalogue {
    ($(#[$attr:meta])* $name:ident = $label:literal { $($fields:tt)* } $($rest:tt)*) => {
        crate::hyper_parameters! {
            $(#[$attr])*
            pub struct $name = $label { $($fields)* }
            $($rest)*
            @impl {
                fn recipe<A: Element>(self) -> crate::algorithm::Recipe<A> {
                    let algorithm = self;
                    crate::array::monomorphize!(
                        A, <>,
                        (algorithm: $name) -> crate::algorithm::Recipe<A> {
                            crate::algorithm::Recipe::typed(algorithm)
                        }
                    )
                }
            }
        }

        impl $name {
            /// With this learning rate, and otherwise the defaults. A wrong `lr` is reported by the
            /// first step.
            pub fn new(lr: f64) -> Self {
                let mut algorithm = Self::default();
                Algorithm::set_lr(&mut algorithm, lr);
                algorithm
            }
        }
    };
}

/// A running average `a <- beta a + (1 - beta) x`.
#[derive(Clone, Copy, Debug)]
struct RunningAverage<A> {
    beta: A,
    one_minus_beta: A,
}

impl<A: Element> RunningAverage<A> {
    #[inline(always)]
    fn new(beta: f64) -> Self {
        RunningAverage {
            beta: A::from_f64(beta),
            one_minus_beta: A::from_f64(1.0 - beta),
        }
    }

    /// The average after `new`.
    #[inline(always)]
    fn update(&self, old: A, new: A) -> A {
        self.beta * old + self.one_minus_beta * new
    }
}

/// A running average of squares, `v <- beta v + (1 - beta) x^2`, whose root is a denominator.
#[derive(Clone, Copy, Debug)]
struct AverageOfSquares<A> {
    beta: A,
    one_minus_beta: A,
    /// The floor of the average: see [`Rule::floors`].
    floor: A,
}

impl<A: Element> AverageOfSquares<A> {
    /// `eps` is the number that is added to the root. Subnormal numbers are flushed to 0, where it
    /// hides them; without it even the root of a subnormal number matters.
    #[inline(always)]
    fn new(beta: f64, eps: f64) -> Self {
        let smallest = A::min_positive_value();
        let hidden = eps > 100.0 * smallest.f64().sqrt();
        AverageOfSquares {
            beta: A::from_f64(beta),
            one_minus_beta: A::from_f64(1.0 - beta),
            floor: if hidden { smallest } else { A::ZERO },
        }
    }

    /// The average after `x`. The product is taken in torch's order, which does not overflow where
    /// x^2 does but the average does not.
    #[inline(always)]
    fn update(&self, old: A, x: A) -> A {
        self.beta * old + (self.one_minus_beta * x) * x
    }
}

/// The floor of a decaying average whose subnormal numbers do not matter: see [`Rule::floors`].
fn smallest<A: Element>() -> A {
    A::min_positive_value()
}

/// `x`, or 0 if its size is below the floor: for averages that are no state of a [`Rule`].
fn flushed<A: Element>(x: A, floor: A) -> A {
    if x.abs() < floor { A::ZERO } else { x }
}

/// Copies elements of a gradient from the caller's array to their place in the array that a
/// preconditioner writes, unless they are there: shortly before they are needed, so that the copy
/// costs no pass over memory.
fn fetch<A: Element>(place: &mut [A], source: Option<&[A]>) {
    if let Some(source) = source {
        place.copy_from_slice(source);
    }
}

/// The quotient of two norms, or 1 if one of them is 0. It is not infinite, so that its product with
/// a gradient that is as small as its norm is finite.
fn trust_ratio(p: f64, u: f64, quotient: f64) -> f64 {
    if p == 0.0 || u == 0.0 {
        1.0
    } else {
        not_infinite(quotient)
    }
}

/// The largest gradient element of which `(1 - beta) g^2` is finite, with room for rounding.
fn largest_averaged(beta: f64, largest: f64) -> f64 {
    let root = largest.sqrt() / (1.0 - beta).sqrt() * (1.0 - 1e-6);
    root.min(largest)
}

/// The largest number in place of infinity.
fn not_infinite(x: f64) -> f64 {
    if x > f64::MAX { f64::MAX } else { x }
}

mod acprop;
mod adabelief;
mod adabound;
mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod adamw;
mod adan;
mod ademamix;
mod adopt;
mod aggmo;
mod asgd;
#[cfg(feature = "linalg")]
mod axes;
mod cocob;
mod dadapt_adamw;
mod diffgrad;
mod dog;
mod dowg;
mod fromage;
mod ftrl;
mod grams;
mod lamb;
mod laprop;
mod lars;
mod lion;
mod madgrad;
mod mars;
mod momentum;
mod momo;
mod momo_adam;
mod muon;
mod nadam;
mod novograd;
mod optimistic_gradient_descent;
mod padam;
mod polyak_sgd;
mod power;
mod prodigy;
mod qhadam;
mod qhm;
mod radam;
mod rmsprop;
mod rprop;
mod schedule_free_adamw;
mod schedule_free_sgd;
mod sgd;
#[cfg(feature = "linalg")]
mod shampoo;
mod sign_sgd;
mod signum;
mod sm3;
#[cfg(feature = "linalg")]
mod soap;
mod sophia;
mod tiger;
mod yogi;

pub use acprop::AcProp;
pub use adabelief::AdaBelief;
pub use adabound::AdaBound;
pub use adadelta::Adadelta;
pub use adafactor::Adafactor;
pub use adagrad::Adagrad;
pub use adam::Adam;
pub use adamax::Adamax;
pub use adamw::AdamW;
pub use adan::Adan;
pub use ademamix::AdEMAMix;
pub use adopt::Adopt;
pub use aggmo::AggMo;
pub use asgd::Asgd;
pub use cocob::Cocob;
pub use dadapt_adamw::DAdaptAdamW;
pub use diffgrad::DiffGrad;
pub use dog::Dog;
pub use dowg::Dowg;
pub use fromage::Fromage;
pub use ftrl::Ftrl;
pub use grams::Grams;
pub use lamb::Lamb;
pub use laprop::LaProp;
pub use lars::Lars;
pub use lion::Lion;
pub use madgrad::Madgrad;
pub use mars::Mars;
pub use momentum::Momentum;
pub use momo::Momo;
pub use momo_adam::MomoAdam;
pub use muon::{AdjustLr, Muon};
pub use nadam::NAdam;
pub use novograd::NovoGrad;
pub use optimistic_gradient_descent::OptimisticGradientDescent;
pub use padam::Padam;
pub use polyak_sgd::PolyakSgd;
pub use prodigy::Prodigy;
pub use qhadam::QHAdam;
pub use qhm::Qhm;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use rprop::Rprop;
pub use schedule_free_adamw::ScheduleFreeAdamW;
pub use schedule_free_sgd::ScheduleFreeSgd;
pub use sgd::Sgd;
#[cfg(feature = "linalg")]
pub use shampoo::Shampoo;
pub use sign_sgd::SignSgd;
pub use signum::Signum;
pub use sm3::Sm3;
#[cfg(feature = "linalg")]
pub use soap::Soap;
pub use sophia::Sophia;
pub use tiger::Tiger;
pub use yogi::Yogi;
