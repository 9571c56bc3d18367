//! [`AnyWrap`]: a wrapper of any type.
use crate::{
    algorithm::{ElementState, Field, HyperParameters, Part, Stage, StepContext, WholeArray},
    array::Element,
    error::Error,
    kernel::{Arrays, Hooks, Kernel, MAX_STATES},
    wrap::*,
};
use std::any::Any;

macro_rules! any_wrap {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// A wrapper of any type, for configuration files.
        ///
        /// With the feature `serde` it is read from `{"name": "ema", "decay": 0.999}`, where `name`
        /// is the name of the struct in snake case.
        ///
        /// ```
        /// # #[cfg(feature = "serde")] {
        /// use ndarray_optim::{AnyAlgorithm, Optimizer};
        ///
        /// let algorithm: AnyAlgorithm = serde_json::from_str(r#"{
        ///     "name": "composed",
        ///     "inner": {"name": "adamw", "lr": 1e-3},
        ///     "wrap": [
        ///         {"name": "clip_by_global_norm", "max_norm": 1.0},
        ///         {"name": "ema", "decay": 0.999}
        ///     ]
        /// }"#).unwrap();
        /// let optimizer = Optimizer::<f32>::new(algorithm);
        /// # }
        /// ```
        ///
        /// The results equal those of the same chain made with [`Compose`] to the last bit. The
        /// wrappers are applied block by block; blocks stay in the first-level cache, so that
        /// memory is read and written once here too.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum AnyWrap {
            $($(#[$doc])* $name($name),)*
        }

        $(impl From<$name> for AnyWrap {
            fn from(wrap: $name) -> Self {
                AnyWrap::$name(wrap)
            }
        })*

        #[cfg(feature = "serde")]
        mod in_files {
            use super::*;
            use crate::config::{self, ConfigValue};
            use serde::{Deserialize, Deserializer, Serialize, Serializer, de::value::Error};

            #[derive(Serialize, Deserialize)]
            #[serde(remote = "AnyWrap", tag = "name", rename_all = "snake_case")]
            enum Tagged {
                $($name($name),)*
            }

            impl config::Named for AnyWrap {
                const WHAT: &'static str = "a wrapper";

                fn is_too_deep(&self) -> bool {
                    false
                }
                fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Tagged::serialize(self, serializer)
                }
                #[inline(never)]
                fn read(value: ConfigValue) -> Result<AnyWrap, Error> {
                    Tagged::deserialize(value)
                }
            }

            impl Serialize for AnyWrap {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    config::serialize(self, serializer)
                }
            }

            impl<'de> Deserialize<'de> for AnyWrap {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    config::deserialize(deserializer)
                }
            }
        }

        /// Evaluates an expression for a wrapper of any type.
        macro_rules! each {
            ($any:expr, $wrap:ident => $do:expr) => {
                match $any {
                    $(AnyWrap::$name($wrap) => $do,)*
                }
            };
        }

        /// Evaluates an expression for a layer of any type.
        macro_rules! each_layer {
            ($any:expr, $layer:ident => $do:expr) => {
                match $any {
                    $(Layer::$name($layer) => $do,)*
                }
            };
        }

        impl AnyWrap {
            /// Returns every wrapper with its default hyper-parameters.
            pub fn all() -> Vec<AnyWrap> {
                vec![$(AnyWrap::$name($name::default())),*]
            }

            /// Returns a wrapper of the catalogue, given as a value of its own type.
            pub(super) fn of(wrap: &dyn Any) -> Option<AnyWrap> {
                $(
                    if let Some(wrap) = wrap.downcast_ref::<$name>() {
                        return Some(wrap.clone().into());
                    }
                )*
                None
            }

            /// Returns the effect of the wrapper alone in this step.
            pub(super) fn layer<A: Element>(&self, step: &StepContext, lr: f64) -> Layer<A> {
                match self {
                    $(AnyWrap::$name(wrap) => Layer::$name(alone(wrap, step, lr)),)*
                }
            }

            /// Returns the wrapper as a stage; `first` is the index of its first state array.
            pub(super) fn stage<A: Element>(
                &self,
                layer: &Layer<A>,
                first: usize,
            ) -> Option<Stage> {
                match (self, layer) {
                    $((AnyWrap::$name(wrap), Layer::$name(alone)) => {
                        Some(stage::<$name, A>(wrap, alone, first))
                    })*
                    _ => None,
                }
            }
        }

        /// The effect of a wrapper alone in a step.
        #[derive(Clone, Copy)]
        pub(super) enum Layer<A: Element> {
            $($name(Alone<$name, A>),)*
        }
    };
}

any_wrap! {
    /// Gradient clipping by the global norm.
    ClipByGlobalNorm;
    /// Gradient clipping of each parameter by its norm.
    ClipByNorm;
    /// Gradient clipping of each parameter by its root mean square.
    ClipByBlockRms;
    /// Element-wise gradient clipping.
    ClipByValue;
    /// Adaptive gradient clipping.
    AdaptiveClip;
    /// Gradient centralization.
    Centralize;
    /// Gaussian noise on gradients.
    Noise;
    /// Multiplication of gradients by a factor.
    ScaleGradient;
    /// Signs of gradients.
    SignOfGradient;
    /// Grokfast: amplification of slowly changing gradients.
    Grokfast;
    /// Weight decay, coupled or decoupled.
    WeightDecay;
    /// Exponential moving average of the parameters.
    Ema;
    /// Stochastic weight averaging.
    Swa;
    /// Lookahead.
    Lookahead;
    /// Box constraints.
    Bounds;
    /// Statistics of each step.
    Watch;
    /// L1 penalty.
    L1;
    /// Zeros that stay zeros.
    KeepZeros;
}

impl AnyWrap {
    /// Returns the name of the wrapper, as in files.
    pub fn name(&self) -> &'static str {
        fn name<W: HyperParameters>(_: &W) -> &'static str {
            W::NAME
        }
        each!(self, wrap => name(wrap))
    }

    /// Returns the descriptions of its hyper-parameters.
    pub fn fields(&self) -> Vec<Field> {
        fn fields<W: HyperParameters>(_: &W) -> Vec<Field> {
            W::fields()
        }
        each!(self, wrap => fields(wrap))
    }

    pub(super) fn is_row_wise(&self) -> bool {
        fn row_wise<W: Wrap>(_: &W) -> bool {
            W::ROW_WISE
        }
        each!(self, wrap => row_wise(wrap))
    }

    pub(super) fn part(&self) -> Part<'_> {
        Part::new(self.name(), each!(self, wrap => wrap as &dyn Any))
    }

    pub(super) fn part_mut(&mut self) -> &mut dyn Any {
        each!(self, wrap => wrap)
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        each!(self, wrap => wrap.validate())
    }

    pub(super) fn fits(&self, largest: f64) -> Result<(), Error> {
        each!(self, wrap => wrap.fits(largest))
    }

    pub(super) fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        each!(self, wrap => wrap.number_mut(name))
    }

    pub(super) fn numbers(&self) -> Vec<String> {
        each!(self, wrap => wrap.numbers())
    }

    pub(super) fn transform<A: Element>(&self, step: &StepContext, array: &mut WholeArray<'_, A>) {
        each!(self, wrap => wrap.transform(step, array));
    }

    pub(super) fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        each!(self, wrap => wrap.evaluate(p, state))
    }
}

impl<A: Element> Layer<A> {
    pub(super) fn names(&self, names: &mut Vec<&'static str>) {
        each_layer!(self, layer => layer.names(names));
    }

    pub(super) fn cost(&self) -> u64 {
        1 + each_layer!(self, layer => layer.cost())
    }

    pub(super) fn hooks(&self) -> Hooks {
        each_layer!(self, layer => layer.hooks())
    }

    pub(super) fn floors(&self) -> [A; MAX_STATES] {
        each_layer!(self, layer => layer.floors())
    }

    pub(super) fn begin(&self, p: &[A], g: &[A], own: Arrays<'_, A>) {
        each_layer!(self, layer => layer.begin(p, g, own));
    }

    pub(super) fn gradients(&self, p: &[A], g: &mut [A], own: Arrays<'_, A>) {
        each_layer!(self, layer => layer.gradients(p, g, own));
    }

    pub(super) fn gradients_from(&self, p: &[A], from: &[A], g: &mut [A], own: Arrays<'_, A>) {
        each_layer!(self, layer => layer.gradients_from(p, from, g, own));
    }

    pub(super) fn params(&self, old: &[A], new: &mut [A], own: Arrays<'_, A>) {
        each_layer!(self, layer => layer.params(old, new, own));
    }
}
