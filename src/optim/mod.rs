//! One file for each optimizer: what it is for, its formula, its hyper-parameters and its rule.

use crate::{
    algorithm::{Algorithm, Factor, Lane, Now, Scalars, Whole},
    array::Element,
    error::{Error, check},
    kernel::{Arrays, Either, Kernel, MAX_TERMS, Rule, Trace, With, WithCoupled, WithDecoupled, coupled, decoupled},
};

/// A struct of hyper-parameters with their defaults, the learning rate first, after its name in files.
macro_rules! hyper_parameters {
    ($(#[$about:meta])* $label:literal $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
        pub struct $name {
            $(
                $(#[$doc])*
                #[doc = concat!(" Default ", stringify!($default), ".")]
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default),* }
            }
        }

        catalogued!($label $name, $($field)*);
    };
}

/// What every struct of hyper-parameters in the catalogue has: its fields by name, the learning rate first, and its engines,
/// made by functions that are not generic, so that they are compiled in this crate.
macro_rules! catalogued {
    ($label:literal $name:ident, $lr:ident $($other:ident)*) => {
        crate::algorithm::fields!($name, $lr $($other)*);

        impl $name {
            /// With this learning rate and the defaults of the other hyper-parameters. A wrong `lr` is reported by the first
            /// step.
            // There are algorithms with nothing but a learning rate.
            #[allow(clippy::needless_update)]
            pub fn new(lr: f64) -> Self {
                $name { $lr: lr, ..Self::default() }
            }
        }

        impl crate::algorithm::HyperParameters for $name {
            const NAME: &'static str = $label;
            fn lr(&self) -> f64 {
                self.$lr
            }
            fn set_lr(&mut self, lr: f64) {
                self.$lr = lr;
            }
            fn recipe<A: Element>(self) -> crate::algorithm::Recipe<A> {
                let algorithm = self;
                crate::array::compiled_here!(A, <>, (algorithm: $name) -> crate::algorithm::Recipe<A> {
                    crate::algorithm::Recipe::compiled_here(algorithm)
                })
            }
        }
    };
}

/// An exponential average.
#[derive(Clone, Copy, Debug)]
struct Average<A> {
    keep: A,
    take: A,
}

impl<A: Element> Average<A> {
    /// One that keeps the share `beta` of what it was.
    #[inline(always)]
    fn new(beta: f64) -> Self {
        Average { keep: A::of(beta), take: A::of(1.0 - beta) }
    }

    #[inline(always)]
    fn mix(&self, old: A, new: A) -> A {
        self.keep * old + self.take * new
    }

    /// What the average is after `new`.
    #[inline(always)]
    fn step(&self, old: A, new: A) -> A {
        self.mix(old, new).flush()
    }
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
