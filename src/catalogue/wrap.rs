//! Any wrapper, and what of it works on one element at a time.
use crate::{
    algorithm::{Clipping, Fields, Lane, Now, Part, Whole},
    array::Element,
    error::Error,
    kernel::{Arrays, Lanes, View, Wrapper, for_each_instruction_set},
    wrap::*,
};
use std::any::Any;

macro_rules! any_wrap {
    ($($(#[$doc:meta])* $name:ident $({ $self:ident $now:ident $lr:ident => $layer:ty: $make:expr })?;)*) => {
        /// Any wrapper: in files `{"name": "ema", "decay": 0.999}` and so on, with the names of the structs in snake case.
        ///
        /// ```
        /// # #[cfg(feature = "serde")] {
        /// use ndarray_optim::{AnyAlgorithm, Optimizer};
        ///
        /// let algorithm: AnyAlgorithm = serde_json::from_str(r#"{
        ///     "name": "composed",
        ///     "inner": {"name": "adamw", "lr": 1e-3},
        ///     "wrap": [{"name": "clip_by_global_norm", "max_norm": 1.0}, {"name": "ema", "decay": 0.999}]
        /// }"#).unwrap();
        /// let optimizer = Optimizer::<f32>::new(algorithm);
        /// # }
        /// ```
        ///
        /// The numbers are those of the same chain made with [`Compose`], to the last bit. Wrappers go over the arrays in
        /// stretches that stay in the first cache, so that memory is read and written once here too.
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(tag = "name", rename_all = "snake_case"))]
        #[non_exhaustive]
        pub enum AnyWrap {
            $($(#[$doc])* $name($name),)*
        }

        $(impl From<$name> for AnyWrap {
            fn from(wrap: $name) -> Self {
                AnyWrap::$name(wrap)
            }
        })*

        impl AnyWrap {
            /// The wrapper as one of a list.
            pub(super) fn of(wrap: &dyn Any) -> Option<AnyWrap> {
                None$(.or_else(|| wrap.downcast_ref::<$name>().cloned().map(AnyWrap::$name)))*
            }

            pub(super) fn part(&self) -> Part<'_> {
                let value: &dyn Any = match self {
                    $(AnyWrap::$name(wrap) => wrap,)*
                };
                Part { name: self.name(), value }
            }

            pub(super) fn part_mut(&mut self) -> &mut dyn Any {
                match self {
                    $(AnyWrap::$name(wrap) => wrap,)*
                }
            }

            /// The name of the wrapper, as in files.
            pub fn name(&self) -> &'static str {
                match self {
                    $(AnyWrap::$name(_) => <$name as Wrap>::NAME,)*
                }
            }

            pub(super) fn validate(&self) -> Result<(), Error> {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.validate(),)*
                }
            }

            pub(super) fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.field_mut(name),)*
                }
            }

            pub(super) fn clipping(&self) -> Option<Clipping> {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.clipping(),)*
                }
            }

            pub(super) fn direct<A: Element>(&self, now: &Now, whole: &mut Whole<'_, A>) {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.direct(now, whole),)*
                }
            }

            pub(super) fn is_directed(&self) -> bool {
                match self {
                    $(AnyWrap::$name(_) => <$name as Wrap>::DIRECTED,)*
                }
            }

            pub(super) fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.evaluate(p, state),)*
                }
            }

            /// What of it works on one element at a time.
            pub(super) fn layer<A: Element>(&self, now: &Now, lr: f64) -> Option<Layer<A>> {
                match self {
                    $($(AnyWrap::$name($self) => {
                        let ($now, $lr) = (now, lr);
                        Some(Layer::$name($make))
                    })?)*
                    _ => None,
                }
            }
        }

        /// A wrapper of this step.
        #[derive(Clone, Copy, Debug)]
        pub(super) enum Layer<A> {
            $($($name($layer),)?)*
        }

        impl<A: Element> Layer<A> {
            pub(super) fn arrays(&self) -> &'static [&'static str] {
                match self {
                    $($(Layer::$name(_) => <$layer as Wrapper<A>>::STATE,)?)*
                }
            }

            pub(super) fn cost(&self) -> u64 {
                1 + match self {
                    $($(Layer::$name(_) => <$layer as Wrapper<A>>::COST,)?)*
                }
            }

            pub(super) fn begin(&self, scale: A, p: &[A], g: &[A], mut own: Arrays<'_, A>) {
                match self {
                    $($(Layer::$name(wrapper) => begin::<A, $layer>(wrapper, scale, p, g, &mut own),)?)*
                }
            }

            pub(super) fn gradient(&self, p: &[A], g: &mut [A], mut own: Arrays<'_, A>) {
                match self {
                    $($(Layer::$name(wrapper) => {
                        let own = <$layer as Wrapper<A>>::State::take(&mut own, 0);
                        gradient::<A, $layer, _>(wrapper, p, g, own);
                    })?)*
                }
            }

            pub(super) fn land(&self, p: &[A], new: &mut [A], mut own: Arrays<'_, A>) {
                match self {
                    $($(Layer::$name(wrapper) => {
                        let own = <$layer as Wrapper<A>>::State::take(&mut own, 0);
                        land::<A, $layer, _>(wrapper, p, new, own);
                    })?)*
                }
            }
        }
    };
}

any_wrap! {
    /// Clipping of all gradients together.
    ClipByGlobalNorm;
    /// Clipping of each array.
    ClipByNorm;
    /// Clipping of each array by its root mean square.
    ClipByBlockRms;
    /// Clipping of each element.
    ClipByValue { wrap _now _lr => Clamp<A>: wrap.wrapper() };
    /// Clipping of each unit relative to its parameters.
    AdaptiveClip;
    /// Means taken away from gradients.
    Centralize;
    /// Noise on gradients.
    Noise;
    /// Gradients multiplied.
    ScaleGradient { wrap _now lr => Scale<A>: wrap.wrapper(lr) };
    /// Signs of gradients.
    SignOfGradient { wrap _now lr => Signs: wrap.wrapper(lr) };
    /// Slow gradients amplified.
    Grokfast { wrap _now lr => Filter<A>: wrap.wrapper(lr) };
    /// Weight decay, coupled or decoupled.
    WeightDecay { wrap _now lr => Decay<A>: wrap.wrapper(lr) };
    /// Exponential average of the parameters.
    Ema { wrap now _lr => Averaged<A, false>: wrap.wrapper(now) };
    /// Plain average of the parameters.
    Swa { wrap now _lr => Averaged<A, true>: wrap.wrapper(now) };
    /// Going back a part of the way.
    Lookahead { wrap now _lr => Synchronize<A>: wrap.wrapper(now) };
    /// Parameters kept in a box.
    Bounds { wrap _now lr => Bound<A>: wrap.wrapper(lr) };
    /// Norms gathered in the step.
    Watch;
    /// L1 penalty.
    L1 { wrap _now lr => Shrink<A>: wrap.wrapper(lr) };
}

impl<A: Element> Layer<A> {
    pub(super) fn changes_gradient(&self) -> bool {
        match self {
            Layer::Ema(_) | Layer::Swa(_) | Layer::Lookahead(_) | Layer::Bounds(_) | Layer::L1(_) => false,
            Layer::WeightDecay(decay) => decay.is_coupled(),
            _ => true,
        }
    }

    /// Whether it needs the parameter of before the step when the step ends.
    pub(super) fn looks_back(&self) -> bool {
        matches!(self, Layer::WeightDecay(_))
    }

    /// Whether this step ends with it.
    pub(super) fn lands(&self) -> bool {
        match self {
            Layer::Swa(average) => average.on,
            Layer::Lookahead(ahead) => ahead.on,
            Layer::WeightDecay(decay) => !decay.is_coupled(),
            Layer::Ema(_) | Layer::Bounds(_) | Layer::L1(_) => true,
            _ => false,
        }
    }
}

fn begin<A: Element, W: Wrapper<A>>(wrapper: &W, scale: A, p: &[A], g: &[A], own: &mut Arrays<'_, A>) {
    let mut own = W::State::take(own, 0);
    for (i, (&p, &g)) in p.iter().zip(g).enumerate().take(if W::State::N > 0 { p.len() } else { 0 }) {
        own.store(i, wrapper.begin(p, scale * g));
    }
}

for_each_instruction_set! {
    fn gradient<A: Element, W: Wrapper<A>, V: View<W::State>>(wrapper: &W, p: &[A], g: &mut [A], mut own: V) {
        let n = g.len();
        let p = &p[..n];
        for i in 0..n {
            let (new, state) = wrapper.gradient(p[i], g[i], own.load(i));
            g[i] = new;
            own.store(i, state);
        }
    }
}

for_each_instruction_set! {
    fn land<A: Element, W: Wrapper<A>, V: View<W::State>>(wrapper: &W, p: &[A], new: &mut [A], mut own: V) {
        let n = new.len();
        let p = &p[..n];
        for i in 0..n {
            let (landed, state) = wrapper.land(p[i], new[i], own.load(i));
            new[i] = landed;
            own.store(i, state);
        }
    }
}
