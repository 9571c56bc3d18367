//! Every algorithm and wrapper of the crate as a value that a configuration file can hold.
mod chain;
mod wrap;

pub use wrap::AnyWrap;

use crate::{
    algorithm::{Field, HyperParameters, Part, Recipe},
    array::{Element, monomorphize},
    error::Error,
    nesting::{MAX_NESTING, TOO_DEEP},
    optim::*,
    wrap::Lookahead,
};
use std::{any::Any, fmt, mem};

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
    #[cfg_attr(
        feature = "serde",
        serde(default = "slow_step_size", with = "crate::config::field")
    )]
    pub slow_step_size: f64,
}

impl LookaheadConfig {
    fn wrap(&self) -> Lookahead {
        Lookahead {
            sync_period: self.sync_period,
            slow_step_size: self.slow_step_size,
        }
    }
}

impl From<ComposedConfig> for AnyAlgorithm {
    fn from(composed: ComposedConfig) -> Self {
        AnyAlgorithm::Composed(composed)
    }
}

impl From<LookaheadConfig> for AnyAlgorithm {
    fn from(lookahead: LookaheadConfig) -> Self {
        AnyAlgorithm::Lookahead(lookahead)
    }
}

impl Drop for ComposedConfig {
    fn drop(&mut self) {
        drop_nested(&mut self.inner);
    }
}

impl Drop for LookaheadConfig {
    fn drop(&mut self) {
        drop_nested(&mut self.inner);
    }
}

/// Drops what is nested in an algorithm, without recursion.
fn drop_nested(algorithm: &mut AnyAlgorithm) {
    let mut next = algorithm.take_inner();
    while let Some(mut algorithm) = next {
        next = algorithm.take_inner();
    }
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
    /// Wraps the algorithm; the wrappers are listed from the inside out. They are added to those
    /// that it has already.
    pub fn in_wrappers(self, wrap: impl IntoIterator<Item = AnyWrap>) -> AnyAlgorithm {
        let wrap: Vec<_> = wrap.into_iter().collect();
        match self {
            inner if wrap.is_empty() => inner,
            AnyAlgorithm::Composed(mut composed) => {
                composed.wrap.extend(wrap);
                composed.into()
            }
            inner => ComposedConfig {
                inner: Box::new(inner),
                wrap,
            }
            .into(),
        }
    }

    /// Returns the algorithm inside of all wrappers, and the wrappers from the inside out.
    fn flatten(&self) -> (&AnyAlgorithm, Vec<AnyWrap>) {
        let (mut base, mut outside_in) = (self, Vec::new());
        while let Some(inner) = base.inner() {
            match base {
                AnyAlgorithm::Lookahead(lookahead) => outside_in.push(lookahead.wrap().into()),
                AnyAlgorithm::Composed(ComposedConfig { wrap, .. }) => {
                    outside_in.extend(wrap.iter().rev().cloned());
                }
                _ => {}
            }
            base = inner;
        }
        outside_in.reverse();
        (base, outside_in)
    }

    /// Any algorithm, to take the place of another one.
    fn any() -> AnyAlgorithm {
        AnyAlgorithm::Sgd(Sgd::default())
    }

    /// Returns the algorithm in the outermost wrappers.
    fn inner(&self) -> Option<&AnyAlgorithm> {
        match self {
            AnyAlgorithm::Composed(ComposedConfig { inner, .. })
            | AnyAlgorithm::Lookahead(LookaheadConfig { inner, .. }) => Some(inner),
            _ => None,
        }
    }

    /// Takes the algorithm out of the outermost wrappers and leaves another one there.
    fn take_inner(&mut self) -> Option<AnyAlgorithm> {
        match self {
            AnyAlgorithm::Composed(ComposedConfig { inner, .. })
            | AnyAlgorithm::Lookahead(LookaheadConfig { inner, .. }) => {
                Some(mem::replace(inner, AnyAlgorithm::any()))
            }
            _ => None,
        }
    }

    /// Returns another algorithm in the outermost wrappers of this one.
    fn around(&self, inner: AnyAlgorithm) -> AnyAlgorithm {
        let inner = Box::new(inner);
        match self {
            AnyAlgorithm::Composed(ComposedConfig { wrap, .. }) => ComposedConfig {
                inner,
                wrap: wrap.clone(),
            }
            .into(),
            AnyAlgorithm::Lookahead(lookahead) => LookaheadConfig {
                inner,
                sync_period: lookahead.sync_period,
                slow_step_size: lookahead.slow_step_size,
            }
            .into(),
            _ => *inner,
        }
    }

    /// Returns whether the outermost wrappers are the same.
    fn same_layer(&self, other: &AnyAlgorithm) -> bool {
        match (self, other) {
            (AnyAlgorithm::Composed(a), AnyAlgorithm::Composed(b)) => a.wrap == b.wrap,
            (AnyAlgorithm::Lookahead(a), AnyAlgorithm::Lookahead(b)) => a.wrap() == b.wrap(),
            _ => false,
        }
    }

    fn is_too_deep(&self) -> bool {
        let mut inside = self.inner();
        for _ in 0..MAX_NESTING {
            inside = inside.and_then(AnyAlgorithm::inner);
        }
        inside.is_some()
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
            if any.is_too_deep() {
                chain::too_deep(inner, wrap)
            } else if wrap.is_empty() {
                inner
            } else {
                chain::around(inner, wrap)
            }
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
        #[non_exhaustive]
        pub enum AnyAlgorithm {
            $(
                $(#[$on])*
                #[doc = $summary]
                $algorithm($algorithm),
            )*
            /// An algorithm in wrappers.
            Composed(ComposedConfig),
            /// Lookahead around an algorithm: see [`wrap::Lookahead`](crate::wrap::Lookahead).
            Lookahead(LookaheadConfig),
        }

        // Clone, PartialEq and Debug without recursion, for algorithms in any number of wrappers.
        impl Clone for AnyAlgorithm {
            fn clone(&self) -> Self {
                let mut layers = vec![self];
                while let Some(inner) = layers.last().and_then(|last| last.inner()) {
                    layers.push(inner);
                }
                let mut copy = layers.pop().map_or_else(AnyAlgorithm::any, |base| match base {
                    $($(#[$on])* AnyAlgorithm::$algorithm(algorithm) => algorithm.clone().into(),)*
                    // The innermost one is in no other.
                    AnyAlgorithm::Composed(_) | AnyAlgorithm::Lookahead(_) => AnyAlgorithm::any(),
                });
                while let Some(layer) = layers.pop() {
                    copy = layer.around(copy);
                }
                copy
            }
        }

        impl PartialEq for AnyAlgorithm {
            fn eq(&self, other: &Self) -> bool {
                let (mut a, mut b) = (self, other);
                while let (Some(inside_a), Some(inside_b)) = (a.inner(), b.inner()) {
                    if !a.same_layer(b) {
                        return false;
                    }
                    (a, b) = (inside_a, inside_b);
                }
                match (a, b) {
                    $(
                        $(#[$on])*
                        (AnyAlgorithm::$algorithm(a), AnyAlgorithm::$algorithm(b)) => a == b,
                    )*
                    _ => false,
                }
            }
        }

        impl fmt::Debug for AnyAlgorithm {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (name, value): (&str, &dyn fmt::Debug) = match self {
                    $(
                        $(#[$on])*
                        AnyAlgorithm::$algorithm(algorithm) => {
                            (stringify!($algorithm), algorithm)
                        }
                    )*
                    AnyAlgorithm::Composed(_) | AnyAlgorithm::Lookahead(_)
                        if self.is_too_deep() =>
                    {
                        return write!(f, "{} {TOO_DEEP}", self.name());
                    }
                    AnyAlgorithm::Composed(composed) => ("Composed", composed),
                    AnyAlgorithm::Lookahead(lookahead) => ("Lookahead", lookahead),
                };
                f.debug_tuple(name).field(value).finish()
            }
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
                    AnyAlgorithm::Composed(_) | AnyAlgorithm::Lookahead(_) => {
                        self.flatten().0.alone()
                    }
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
        mod in_files {
            use super::*;
            use crate::config::{self, ConfigValue};
            use serde::{Deserialize, Deserializer, Serialize, Serializer, de::value::Error};

            #[derive(Serialize, Deserialize)]
            #[serde(remote = "AnyAlgorithm", tag = "name")]
            enum Tagged {
                $($(#[$on])* #[serde(rename = $name)] $algorithm($algorithm),)*
                #[serde(rename = "composed")]
                Composed(ComposedConfig),
                #[serde(rename = "lookahead")]
                Lookahead(LookaheadConfig),
            }

            impl config::Named for AnyAlgorithm {
                const WHAT: &'static str = "an algorithm";

                fn is_too_deep(&self) -> bool {
                    AnyAlgorithm::is_too_deep(self)
                }
                fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Tagged::serialize(self, serializer)
                }
                #[inline(never)]
                fn read(value: ConfigValue) -> Result<AnyAlgorithm, Error> {
                    Tagged::deserialize(value)
                }
            }

            impl Serialize for AnyAlgorithm {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    config::serialize(self, serializer)
                }
            }

            impl<'de> Deserialize<'de> for AnyAlgorithm {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    config::deserialize(deserializer)
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
