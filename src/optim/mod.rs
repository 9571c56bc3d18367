//! One file for each optimizer: what it is for, its formula, its hyper-parameters and its rule.

use crate::{
    Config, Error, Factor, Fused, Lane, Now, Scalars, Whole,
    error::check,
    kernel::{Either, Element, Kernel, MAX_TERMS, Rule, Trace, With, WithCoupled, WithDecoupled, coupled, decoupled},
};

/// A struct of hyper-parameters with their defaults, the learning rate first.
macro_rules! hyper_parameters {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
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

        learning_rate!($name, $($field)*);
    };
}

/// The fields of a struct by name, the learning rate first.
macro_rules! learning_rate {
    ($name:ident, $lr:ident $($other:ident)*) => {
        crate::fields::fields!($name, $lr $($other)*);
        impl crate::HyperParameters for $name {
            fn lr(&self) -> f64 {
                self.$lr
            }
            fn set_lr(&mut self, lr: f64) {
                self.$lr = lr;
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

pub use acprop::{AcProp, AcPropConfig};
pub use adabelief::{AdaBelief, AdaBeliefConfig};
pub use adabound::{AdaBound, AdaBoundConfig};
pub use adadelta::{Adadelta, AdadeltaConfig};
pub use adafactor::{Adafactor, AdafactorConfig};
pub use adagrad::{Adagrad, AdagradConfig};
pub use adam::{Adam, AdamConfig};
pub use adamax::{Adamax, AdamaxConfig};
pub use adamw::{AdamW, AdamWConfig};
pub use adan::{Adan, AdanConfig};
pub use ademamix::{AdEMAMix, AdEMAMixConfig};
pub use adopt::{Adopt, AdoptConfig};
pub use aggmo::{AggMo, AggMoConfig};
pub use asgd::{Asgd, AsgdConfig};
pub use cocob::{Cocob, CocobConfig};
pub use dadapt_adamw::{DAdaptAdamW, DAdaptAdamWConfig};
pub use diffgrad::{DiffGrad, DiffGradConfig};
pub use dog::{Dog, DogConfig};
pub use dowg::{Dowg, DowgConfig};
pub use fromage::{Fromage, FromageConfig};
pub use ftrl::{Ftrl, FtrlConfig};
pub use grams::{Grams, GramsConfig};
pub use lamb::{Lamb, LambConfig};
pub use laprop::{LaProp, LaPropConfig};
pub use lars::{Lars, LarsConfig};
pub use lion::{Lion, LionConfig};
pub use madgrad::{Madgrad, MadgradConfig};
pub use mars::{Mars, MarsConfig};
pub use momentum::{Momentum, MomentumConfig};
pub use momo::{Momo, MomoConfig};
pub use momo_adam::{MomoAdam, MomoAdamConfig};
pub use muon::{AdjustLr, Muon, MuonConfig};
pub use nadam::{NAdam, NAdamConfig};
pub use novograd::{NovoGrad, NovoGradConfig};
pub use optimistic_gradient_descent::{OptimisticGradientDescent, OptimisticGradientDescentConfig};
pub use padam::{Padam, PadamConfig};
pub use polyak_sgd::{PolyakSgd, PolyakSgdConfig};
pub use prodigy::{Prodigy, ProdigyConfig};
pub use qhadam::{QHAdam, QHAdamConfig};
pub use qhm::{Qhm, QhmConfig};
pub use radam::{RAdam, RAdamConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use rprop::{Rprop, RpropConfig};
pub use schedule_free_adamw::{ScheduleFreeAdamW, ScheduleFreeAdamWConfig};
pub use schedule_free_sgd::{ScheduleFreeSgd, ScheduleFreeSgdConfig};
pub use sgd::{Sgd, SgdConfig};
#[cfg(feature = "linalg")]
pub use shampoo::{Shampoo, ShampooConfig};
pub use sign_sgd::{SignSgd, SignSgdConfig};
pub use signum::{Signum, SignumConfig};
pub use sm3::{Sm3, Sm3Config};
#[cfg(feature = "linalg")]
pub use soap::{Soap, SoapConfig};
pub use sophia::{Sophia, SophiaConfig};
pub use tiger::{Tiger, TigerConfig};
pub use yogi::{Yogi, YogiConfig};
