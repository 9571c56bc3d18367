//! Every algorithm and wrapper of the crate as a value that a configuration file can hold.
mod chain;
#[cfg(feature = "serde")]
mod config_value;
mod wrap;

pub use wrap::AnyWrap;

use crate::{
    algorithm::{Field, HyperParameters, Part, Recipe},
    array::{Element, monomorphize},
    error::Error,
    optim::*,
    wrap::Lookahead,
};
use std::any::Any;

/// An algorithm in wrappers, for configuration files: see [`AnyAlgorithm::in_wrappers`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct ComposedConfig {
    /// The algorithm.
    pub inner: Box<AnyAlgorithm>,
    /// The wrappers, from the inside out.
    pub wrap: Vec<AnyWrap>,
}

/// Lookahead around any algorithm, for configuration files: see [`Lookahead`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct LookaheadConfig {
    /// The algorithm.
    pub inner: Box<AnyAlgorithm>,
    /// Fast steps between synchronizations, >= 1. Default 5.
    #[cfg_attr(feature = "serde", serde(default = "sync_period"))]
    pub sync_period: u64,
    /// Step size of the slow parameters, in [0, 1]. Default 0.5.
    #[cfg_attr(feature = "serde", serde(default = "slow_step_size"))]
    pub slow_step_size: f64,
}

#[cfg(feature = "serde")]
fn sync_period() -> u64 {
    Lookahead::default().sync_period
}

#[cfg(feature = "serde")]
fn slow_step_size() -> f64 {
    Lookahead::default().slow_step_size
}

impl AnyAlgorithm {
    /// Wraps the algorithm; the wrappers are listed from the inside out.
    pub fn in_wrappers(self, wrap: impl IntoIterator<Item = AnyWrap>) -> AnyAlgorithm {
        let wrap: Vec<_> = wrap.into_iter().collect();
        if wrap.is_empty() {
            self
        } else {
            AnyAlgorithm::Composed(ComposedConfig {
                inner: Box::new(self),
                wrap,
            })
        }
    }

    /// Returns the algorithm inside of all wrappers, and the wrappers from the inside out.
    fn flatten(&self) -> (&AnyAlgorithm, Vec<AnyWrap>) {
        match self {
            AnyAlgorithm::Composed(ComposedConfig { inner, wrap }) => {
                let (base, mut all) = inner.flatten();
                all.extend(wrap.iter().cloned());
                (base, all)
            }
            AnyAlgorithm::Lookahead(LookaheadConfig {
                inner,
                sync_period,
                slow_step_size,
            }) => {
                let (base, mut all) = inner.flatten();
                all.push(
                    Lookahead {
                        sync_period: *sync_period,
                        slow_step_size: *slow_step_size,
                    }
                    .into(),
                );
                (base, all)
            }
            base => (base, Vec::new()),
        }
    }

    /// Calls `with` with the parts of an engine: the algorithm and its wrappers.
    pub(crate) fn with_parts<T>(&self, with: impl FnOnce(&[Part<'_>]) -> T) -> T {
        let (base, wrap) = self.flatten();
        let mut parts = vec![base.part()];
        parts.extend(wrap.iter().map(AnyWrap::part));
        with(&parts)
    }

    /// Returns the algorithm with these parts, if all of them are in the catalogue.
    pub(crate) fn of_parts(parts: &[Part<'_>]) -> Option<AnyAlgorithm> {
        let (base, wrap) = parts.split_first()?;
        let wrap: Option<Vec<_>> = wrap.iter().map(|part| AnyWrap::of(part.value)).collect();
        Some(AnyAlgorithm::of(base.value)?.in_wrappers(wrap?))
    }

    /// Checks all hyper-parameters of the algorithm and its wrappers.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] names the first one that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        Recipe::<f64>::from(self.clone()).0.check().map(|_| ())
    }
}

impl<A: Element> From<AnyAlgorithm> for Recipe<A> {
    fn from(any: AnyAlgorithm) -> Self {
        monomorphize!(A, <>, (any: AnyAlgorithm) -> Recipe<A> {
            let (base, wrap) = any.flatten();
            let inner = base.alone();
            if wrap.is_empty() { inner } else { chain::around(inner, wrap) }
        })
    }
}

macro_rules! catalogue {
    ($($(#[$on:meta])* $name:literal $algorithm:ident: $summary:literal;)*) => {
        /// An algorithm of any type, for configuration files.
        ///
        /// With the feature `serde` it is read from `{"name": "adamw", "lr": 1e-3, ...}`. Missing
        /// keys take their defaults; an unknown key is an error that lists the known ones.
        ///
        /// ```
        /// use ndarray::array;
        /// use ndarray_optim::{AnyAlgorithm, Optimizer, RmsProp};
        ///
        /// let algorithm = AnyAlgorithm::from(RmsProp { centered: true, ..Default::default() });
        /// let mut optimizer = Optimizer::new(algorithm);
        /// optimizer.update(&mut array![1.0, 2.0], &array![0.1, 0.2])?;
        /// # Ok::<(), ndarray_optim::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "name"))]
        #[non_exhaustive]
        pub enum AnyAlgorithm {
            $(
                $(#[$on])*
                #[doc = $summary]
                #[cfg_attr(feature = "serde", serde(rename = $name))]
                $algorithm($algorithm),
            )*
            /// An algorithm in wrappers.
            #[cfg_attr(feature = "serde", serde(rename = "composed"))]
            Composed(ComposedConfig),
            /// Lookahead around an algorithm: see [`wrap::Lookahead`](crate::wrap::Lookahead).
            #[cfg_attr(feature = "serde", serde(rename = "lookahead"))]
            Lookahead(LookaheadConfig),
        }

        impl AnyAlgorithm {
            /// Returns every algorithm with its default hyper-parameters.
            pub fn all() -> Vec<AnyAlgorithm> {
                vec![$($(#[$on])* AnyAlgorithm::$algorithm($algorithm::default())),*]
            }

            /// Returns the name of the algorithm, as in files.
            pub fn name(&self) -> &'static str {
                match self {
                    $($(#[$on])* AnyAlgorithm::$algorithm(_) => $algorithm::NAME,)*
                    AnyAlgorithm::Composed(_) => "composed",
                    AnyAlgorithm::Lookahead(_) => "lookahead",
                }
            }

            /// Returns a summary of the algorithm: one sentence.
            pub fn summary(&self) -> &'static str {
                match self {
                    $($(#[$on])* AnyAlgorithm::$algorithm(_) => $summary,)*
                    AnyAlgorithm::Composed(_) => "An algorithm in wrappers.",
                    AnyAlgorithm::Lookahead(_) => "Lookahead around an algorithm.",
                }
            }

            /// Returns the descriptions of the hyper-parameters; none for an algorithm in wrappers.
            pub fn fields(&self) -> Vec<Field> {
                match self {
                    $($(#[$on])* AnyAlgorithm::$algorithm(_) => $algorithm::fields(),)*
                    AnyAlgorithm::Composed(_) | AnyAlgorithm::Lookahead(_) => Vec::new(),
                }
            }

            /// Returns the algorithm with these hyper-parameters.
            fn of(hyper_parameters: &dyn Any) -> Option<AnyAlgorithm> {
                $(
                    $(#[$on])*
                    if let Some(algorithm) = hyper_parameters.downcast_ref::<$algorithm>() {
                        return Some(algorithm.clone().into());
                    }
                )*
                None
            }

            fn part(&self) -> Part<'_> {
                let value: &dyn Any = match self {
                    $($(#[$on])* AnyAlgorithm::$algorithm(algorithm) => algorithm,)*
                    AnyAlgorithm::Composed(composed) => composed,
                    AnyAlgorithm::Lookahead(lookahead) => lookahead,
                };
                Part::new(self.name(), value)
            }

            /// Returns the engine of the algorithm inside of all wrappers.
            fn alone<A: Element>(&self) -> Recipe<A> {
                match self {
                    $(
                        $(#[$on])*
                        AnyAlgorithm::$algorithm(algorithm) => algorithm.clone().recipe(),
                    )*
                    AnyAlgorithm::Composed(ComposedConfig { inner, .. }) => inner.alone(),
                    AnyAlgorithm::Lookahead(LookaheadConfig { inner, .. }) => inner.alone(),
                }
            }
        }

        $(
            $(#[$on])*
            impl From<$algorithm> for AnyAlgorithm {
                fn from(algorithm: $algorithm) -> Self {
                    AnyAlgorithm::$algorithm(algorithm)
                }
            }
        )*

        #[cfg(feature = "serde")]
        mod read {
            use super::{*, config_value::ConfigValue};
            use serde::{Deserialize, Deserializer, de::{Error as _, value::Error}};

            #[derive(Deserialize)]
            #[serde(tag = "name")]
            enum Named {
                $($(#[$on])* #[serde(rename = $name)] $algorithm($algorithm),)*
                #[serde(rename = "composed")]
                Composed(ComposedConfig),
                #[serde(rename = "lookahead")]
                Lookahead(LookaheadConfig),
            }

            #[inline(never)]
            fn read(value: ConfigValue) -> Result<AnyAlgorithm, Error> {
                Ok(match Named::deserialize(value)? {
                    $(
                        $(#[$on])*
                        Named::$algorithm(algorithm) => AnyAlgorithm::$algorithm(algorithm),
                    )*
                    Named::Composed(composed) => AnyAlgorithm::Composed(composed),
                    Named::Lookahead(lookahead) => AnyAlgorithm::Lookahead(lookahead),
                })
            }

            impl<'de> Deserialize<'de> for AnyAlgorithm {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    read(ConfigValue::deserialize(deserializer)?).map_err(D::Error::custom)
                }
            }
        }

        #[cfg(test)]
        mod tests {
            use super::*;

            #[test]
            fn names_in_files_are_those_of_the_algorithms() {
                $($(#[$on])* assert_eq!($name, $algorithm::NAME);)*
            }

            #[test]
            fn the_crate_docs_have_the_summary_of_every_algorithm() {
                let rows: Vec<&str> = include_str!("../lib.rs")
                    .lines()
                    .filter(|line| line.starts_with("//! | "))
                    .collect();
                for (name, summary) in [$($(#[$on])* (stringify!($algorithm), $summary)),*] {
                    let (name, summary) = (format!("`{name}`"), summary.trim_end_matches('.'));
                    let listed = |row: &&str| row.contains(&name) && row.contains(summary);
                    assert!(rows.iter().any(listed), "{name}: {summary}");
                }
            }
        }
    };
}

catalogue! {
    "sgd" Sgd: "Stochastic gradient descent with torch's momentum, dampening and Nesterov options.";
    "momentum" Momentum: "Gradient descent along a running average of the gradients.";
    "rmsprop" RmsProp: "The gradient divided by the root of a running average of its square.";
    "adam" Adam: "Bias-corrected running averages of the gradient and of its square.";
    "adamw" AdamW: "Adam with decoupled weight decay.";
    "adamax" Adamax: "Adam with the infinity norm in the denominator.";
    "nadam" NAdam: "Adam with Nesterov momentum and a momentum schedule.";
    "radam" RAdam: "Adam with a rectified denominator: plain momentum in the first steps.";
    "adagrad" Adagrad: "The gradient divided by the root of the sum of all its past squares.";
    "adadelta" Adadelta:
        "RMSProp scaled by a running average of past steps: no learning rate to tune.";
    "rprop" Rprop: "Element-wise step sizes adapted by the sign of the gradient.";
    "asgd" Asgd: "Averaged SGD: gradient descent with the average of its iterates.";
    "adabelief" AdaBelief:
        "Adam that divides by the deviation of gradients from their running average.";
    "yogi" Yogi: "Adam with additive updates of the second moment.";
    "lion" Lion: "The sign of a running average of gradients: one state array.";
    "adan" Adan: "Adam with a running average of gradient differences, for Nesterov momentum.";
    "sign_sgd" SignSgd: "Steps of size lr along the sign of the gradient.";
    "optimistic_gradient_descent" OptimisticGradientDescent:
        "Gradient descent with a predicted next gradient, for games.";
    "ademamix" AdEMAMix: "AdamW with a second, very slow running average of the gradient.";
    "adopt" Adopt:
        "Adam normalized by the previous second moment before averaging: converges for any beta2.";
    "acprop" AcProp: "The gradient divided by the root of its previous variance.";
    "madgrad" Madgrad: "Dual averaging with the cube root of the sum of squares.";
    "cocob" Cocob: "Coin betting: no learning rate.";
    "aggmo" AggMo: "Aggregated momentum: the mean of several momentum buffers.";
    "qhm" Qhm: "Quasi-hyperbolic momentum: a mixture of SGD and momentum.";
    "tiger" Tiger: "Lion with a single beta.";
    "signum" Signum: "SignSGD with momentum.";
    "padam" Padam: "Adam with a partial power of the denominator: between SGD and Adam.";
    "grams" Grams: "The magnitude of Adam's update with the sign of the gradient.";
    "ftrl" Ftrl: "Follow the regularized leader: exact zeros under an L1 penalty.";
    "laprop" LaProp: "Adam that normalizes before it averages.";
    "qhadam" QHAdam: "Quasi-hyperbolic Adam: the current gradient mixed into both moments.";
    "diffgrad" DiffGrad: "Adam with smaller steps where the gradient hardly changes.";
    "adabound" AdaBound: "Adam with learning rates clipped to bounds that converge to SGD's.";
    "schedule_free_sgd" ScheduleFreeSgd: "SGD with averaging in place of a schedule.";
    "schedule_free_adamw" ScheduleFreeAdamW: "AdamW with averaging in place of a schedule.";
    "novograd" NovoGrad:
        "Momentum on gradients normalized by a running average of their layer-wise norm.";
    "lamb" Lamb: "AdamW with layer-wise trust ratios, for large batches.";
    "lars" Lars: "SGD with momentum and layer-wise trust ratios, for large batches.";
    "fromage" Fromage: "Steps proportional to the norm of each array, with bounded norms.";
    "polyak_sgd" PolyakSgd: "The Polyak step size, for objectives with a known optimal value.";
    "momo" Momo: "Momentum with a model-based adaptive learning rate.";
    "momo_adam" MomoAdam: "Adam with a model-based adaptive learning rate.";
    "prodigy" Prodigy: "AdamW that estimates its learning rate.";
    "dadapt_adamw" DAdaptAdamW: "AdamW that estimates its learning rate, by D-Adaptation.";
    "dog" Dog: "SGD with distance over gradients as its learning rate.";
    "dowg" Dowg: "SGD with distance over weighted gradients as its learning rate.";
    "adafactor" Adafactor: "Adam with factored second moments: sublinear memory.";
    "sm3" Sm3: "Adagrad with accumulators for rows and columns: sublinear memory.";
    "muon" Muon: "Momentum with orthogonalized updates, for the matrices of networks.";
    #[cfg(feature = "linalg")]
    "shampoo" Shampoo: "Adagrad with a full-matrix preconditioner for each axis.";
    #[cfg(feature = "linalg")]
    "soap" Soap: "Adam in the eigenbasis of Shampoo's preconditioners.";
    "mars" Mars: "AdamW on variance-reduced gradients.";
    "sophia" Sophia: "A running average of gradients divided by one of Hessian estimates, clipped.";
}
