//! Compositions that a file describes.
use super::*;
use crate::{
    error::check,
    kernel::{Arrays, At, Lanes, MAX_STATES, Totals, View, Wrapper, pool::lock, reduce::Sum, watch::compare},
};
use multiversion::multiversion;
use std::any::Any;

/// The most wrappers of one composition.
const LAYERS: usize = 8;

/// Elements that go through all wrappers before the next: a stretch that stays in the first cache.
const PAGE: usize = 1024;

macro_rules! any_wrap {
    ($($(#[$doc:meta])* $name:ident $({ $self:ident $now:ident $lr:ident => $layer:ty: $make:expr })?;)*) => {
        /// Any wrapper: in files `{"name": "ema", "decay": 0.999}` and so on, with the names of the structs in snake case.
        ///
        /// ```
        /// # #[cfg(feature = "serde")] {
        /// use ndarray_optim::OptimizerConfig;
        ///
        /// let config: OptimizerConfig = serde_json::from_str(r#"{
        ///     "name": "composed",
        ///     "inner": {"name": "adamw", "lr": 1e-3},
        ///     "wrap": [{"name": "clip_by_global_norm", "max_norm": 1.0}, {"name": "ema", "decay": 0.999}]
        /// }"#).unwrap();
        /// let optimizer = config.build::<f32>();
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
            pub(crate) fn of(wrap: &dyn Any) -> Option<AnyWrap> {
                None$(.or_else(|| wrap.downcast_ref::<$name>().cloned().map(AnyWrap::$name)))*
            }

            pub(crate) fn downcast<W: Wrap>(&self) -> Option<&W> {
                let wrap: &dyn Any = match self {
                    $(AnyWrap::$name(wrap) => wrap,)*
                };
                wrap.downcast_ref()
            }

            /// The name of the wrapper, as in files.
            pub fn name(&self) -> String {
                let name = match self {
                    $(AnyWrap::$name(_) => stringify!($name),)*
                };
                snake_case(name)
            }

            fn validate(&self) -> Result<(), Error> {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.validate(),)*
                }
            }

            fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.field_mut(name),)*
                }
            }

            fn clipping(&self) -> Option<Clipping> {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.clipping(),)*
                }
            }

            fn direct<A: Element>(&self, now: &Now, whole: &mut Whole<'_, A>) {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.direct(now, whole),)*
                }
            }

            fn is_directed(&self) -> bool {
                match self {
                    $(AnyWrap::$name(_) => <$name as Wrap>::DIRECTED,)*
                }
            }

            fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
                match self {
                    $(AnyWrap::$name(wrap) => wrap.evaluate(p, state),)*
                }
            }

            /// What of it works on one element at a time.
            fn layer<A: Element>(&self, now: &Now, lr: f64) -> Option<Layer<A>> {
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
        enum Layer<A> {
            $($($name($layer),)?)*
        }

        impl<A: Element> Layer<A> {
            fn arrays(&self) -> &'static [&'static str] {
                match self {
                    $($(Layer::$name(_) => <$layer as Wrapper<A>>::STATE,)?)*
                }
            }

            fn cost(&self) -> u64 {
                1 + match self {
                    $($(Layer::$name(_) => <$layer as Wrapper<A>>::COST,)?)*
                }
            }

            fn begin(&self, scale: A, p: &[A], g: &[A], mut own: Arrays<'_, A>) {
                match self {
                    $($(Layer::$name(wrapper) => begin::<A, $layer>(wrapper, scale, p, g, &mut own),)?)*
                }
            }

            fn gradient(&self, p: &[A], g: &mut [A], mut own: Arrays<'_, A>) {
                match self {
                    $($(Layer::$name(wrapper) => {
                        let own = <$layer as Wrapper<A>>::State::take(&mut own, 0);
                        gradient::<A, $layer, _>(wrapper, p, g, own);
                    })?)*
                }
            }

            fn land(&self, p: &[A], new: &mut [A], mut own: Arrays<'_, A>) {
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

/// As serde renames.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (i, c) in name.char_indices() {
        if i > 0 && c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

impl<A: Element> Layer<A> {
    fn changes_gradient(&self) -> bool {
        match self {
            Layer::Ema(_) | Layer::Swa(_) | Layer::Lookahead(_) | Layer::Bounds(_) | Layer::L1(_) => false,
            Layer::WeightDecay(decay) => decay.is_coupled(),
            _ => true,
        }
    }

    /// Whether it needs the parameter of before the step when the step ends.
    fn looks_back(&self) -> bool {
        matches!(self, Layer::WeightDecay(_))
    }

    /// Whether this step ends with it.
    fn lands(&self) -> bool {
        match self {
            Layer::Swa(average) => average.on,
            Layer::Lookahead(ahead) => ahead.on,
            Layer::WeightDecay(decay) => !decay.is_coupled(),
            Layer::Ema(_) | Layer::Bounds(_) | Layer::L1(_) => true,
            _ => false,
        }
    }
}

#[multiversion(targets = "simd")]
fn scaled<A: Element>(scale: A, g: &[A], tile: &mut [A]) {
    tile.iter_mut().zip(g).for_each(|(tile, &g)| *tile = scale * g);
}

fn begin<A: Element, W: Wrapper<A>>(wrapper: &W, scale: A, p: &[A], g: &[A], own: &mut Arrays<'_, A>) {
    let mut own = W::State::take(own, 0);
    for (i, (&p, &g)) in p.iter().zip(g).enumerate().take(if W::State::N > 0 { p.len() } else { 0 }) {
        own.store(i, wrapper.begin(p, scale * g));
    }
}

#[multiversion(targets = "simd")]
fn gradient<A: Element, W: Wrapper<A>, V: View<W::State>>(wrapper: &W, p: &[A], g: &mut [A], mut own: V) {
    let n = g.len();
    let p = &p[..n];
    for i in 0..n {
        let (new, state) = wrapper.gradient(p[i], g[i], own.load(i));
        g[i] = new;
        own.store(i, state);
    }
}

#[multiversion(targets = "simd")]
fn land<A: Element, W: Wrapper<A>, V: View<W::State>>(wrapper: &W, p: &[A], new: &mut [A], mut own: V) {
    let n = new.len();
    let p = &p[..n];
    for i in 0..n {
        let (landed, state) = wrapper.land(p[i], new[i], own.load(i));
        new[i] = landed;
        own.store(i, state);
    }
}

/// A kernel with the wrappers of a list around it, which take turns on stretches of 1024 elements.
#[derive(Clone, Copy, Debug)]
pub struct Paged<K, A> {
    inner: K,
    /// From the inside out.
    layers: [Option<Layer<A>>; LAYERS],
    watched: bool,
}

impl<K: Kernel<A>, A: Element> Paged<K, A> {
    fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer<A>> {
        self.layers.iter().flatten()
    }

    /// Does `work` on every layer, from the outside in, with its own arrays.
    fn outside_in(&self, own: &mut Arrays<'_, A>, mut work: impl FnMut(&Layer<A>, Arrays<'_, A>)) {
        let mut end: usize = self.layers().map(|layer| layer.arrays().len()).sum();
        for layer in self.layers().rev() {
            let start = end - layer.arrays().len();
            work(layer, own.some(start..end));
            end = start;
        }
    }

    /// As [`Paged::outside_in`], in the other direction.
    fn inside_out(&self, own: &mut Arrays<'_, A>, mut work: impl FnMut(&Layer<A>, Arrays<'_, A>)) {
        let mut start = 0;
        for layer in self.layers() {
            let end = start + layer.arrays().len();
            work(layer, own.some(start..end));
            start = end;
        }
    }

    fn inner_arrays(&self) -> usize {
        let mut names = Vec::new();
        self.inner.names(&mut names);
        names.len()
    }
}

impl<K: Kernel<A>, A: Element> Kernel<A> for Paged<K, A> {
    /// A wrapper by type goes inside of those of the list.
    type With<W: Wrapper<A>> = Paged<K::With<W>, A>;

    #[inline(always)]
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W> {
        Paged { inner: self.inner.with(wrapper), layers: self.layers, watched: self.watched }
    }

    fn cost(&self) -> u64 {
        self.inner.cost() + self.layers().map(Layer::cost).sum::<u64>()
    }

    fn names(&self, names: &mut Vec<&'static str>) {
        self.inner.names(names);
        self.layers().for_each(|layer| names.extend(layer.arrays()));
    }

    fn terms(&self) -> usize {
        self.inner.terms()
    }

    fn measure(&self, at: &At<'_, A>, p: &[A], g: &[A], mut state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]) {
        if self.layers[0].is_none() {
            return self.inner.measure(at, p, g, state, sums);
        }
        let inside = self.inner_arrays();
        let inner = At { scale: A::one(), ..*at };
        let mut tile = [A::ZERO; PAGE];
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let (p, g, mut state) = (&p[range.clone()], &g[range.clone()], state.part(range));
            let tile = &mut tile[..p.len()];
            scaled(at.scale, g, tile);
            let mut own = state.some(inside..MAX_STATES);
            if at.first {
                self.inside_out(&mut own, |layer, own| layer.begin(at.scale, p, g, own));
            }
            // Only the sweep moves state, so what looks at the gradient works on copies.
            self.outside_in(&mut own, |layer, own| {
                let mut copies = own.0.map(|array| array.to_vec());
                layer.gradient(p, tile, Arrays(copies.each_mut().map(Vec::as_mut_slice)));
            });
            self.inner.measure(&inner, p, tile, state.some(0..inside), sums);
        }
    }

    #[inline]
    fn run(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        if let Some(watch) = at.watch.filter(|_| self.watched) {
            let mut totals = Totals::default();
            self.run_watched(at, p, g, state, &mut totals);
            *lock(watch) += totals;
        } else if self.layers[0].is_none() {
            self.inner.run(at, p, g, state);
        } else {
            self.pages(at, p, g, state, None);
        }
    }

    fn run_watched(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>, totals: &mut Totals) {
        self.pages(at, p, g, state, Some(totals));
    }
}

impl<K: Kernel<A>, A: Element> Paged<K, A> {
    fn pages(&self, at: &At<'_, A>, p: &mut [A], g: &[A], mut state: Arrays<'_, A>, mut totals: Option<&mut Totals>) {
        let inside = self.inner_arrays();
        let changed = self.layers().any(Layer::changes_gradient);
        let looks_back = totals.is_some() || self.layers().any(Layer::looks_back);
        let inner = if changed { At { scale: A::one(), ..*at } } else { *at };
        let (mut tile, mut old) = ([A::ZERO; PAGE], [A::ZERO; PAGE]);
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let (p, lent, mut state) = (&mut p[range.clone()], &g[range.clone()], state.part(range));
            let mut g = lent;
            let n = p.len();
            let mut own = state.some(inside..MAX_STATES);
            if at.first {
                self.inside_out(&mut own, |layer, own| layer.begin(at.scale, p, g, own));
            }
            if changed {
                scaled(at.scale, g, &mut tile[..n]);
                self.outside_in(&mut own, |layer, own| {
                    if layer.changes_gradient() {
                        layer.gradient(p, &mut tile[..n], own);
                    }
                });
                g = &tile[..n];
            }
            if looks_back {
                old[..n].copy_from_slice(p);
            }
            self.inner.run(&inner, p, g, state.some(0..inside));
            let mut own = state.some(inside..MAX_STATES);
            self.inside_out(&mut own, |layer, own| {
                if layer.lands() {
                    layer.land(&old[..n], p, own);
                }
            });
            if let Some(totals) = &mut totals {
                compare(&old[..n], p, lent, totals);
            }
        }
    }
}

/// The hyper-parameters of an optimizer with a list of wrappers around it, from the inside out: what
/// [`OptimizerConfig::Composed`](crate::OptimizerConfig::Composed) becomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composed<C> {
    /// Those of the optimizer.
    pub inner: C,
    /// The wrappers; at most eight.
    pub wrap: Vec<AnyWrap>,
}

/// Those of the optimizer first, then those of the wrappers.
impl<C: Config> Fields for Composed<C> {
    fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.inner.field_mut(name).or_else(|| self.wrap.iter_mut().find_map(|wrap| wrap.field_mut(name)))
    }
}

impl<C: Config> HyperParameters for Composed<C> {
    fn lr(&self) -> f64 {
        self.inner.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.inner.set_lr(lr);
    }
}

impl<C: Config> Config for Composed<C> {
    type Kernel<A: Element> = Paged<C::Kernel<A>, A>;
    const GLOBAL: bool = C::GLOBAL;
    const LOSS: bool = C::LOSS;

    fn validate(&self) -> Result<(), Error> {
        self.inner.validate()?;
        check::that(self.wrap.len() <= LAYERS, "wrap", self.wrap.len(), "at most eight wrappers")?;
        let mut clipping = self.inner.clipping();
        for wrap in &self.wrap {
            wrap.validate()?;
            clipping = clip::one(clipping, wrap.clipping())?;
        }
        Ok(())
    }

    fn betas(&self) -> [f64; 3] {
        self.inner.betas()
    }

    fn scalars(&self) -> Scalars {
        self.inner.scalars()
    }

    #[inline(always)]
    fn absorb(&self, now: &Now, sums: &[f64; MAX_TERMS]) -> Scalars {
        self.inner.absorb(now, sums)
    }

    fn maximize(&self) -> bool {
        self.inner.maximize()
    }

    fn clipping(&self) -> Option<Clipping> {
        self.wrap.iter().find_map(AnyWrap::clipping).or(self.inner.clipping())
    }

    fn is_directed(&self) -> bool {
        self.inner.is_directed() || self.wrap.iter().any(AnyWrap::is_directed)
    }

    fn is_watched(&self) -> bool {
        self.inner.is_watched() || self.wrap.iter().any(|wrap| matches!(wrap, AnyWrap::Watch(_)))
    }

    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        self.inner.factors(shape)
    }

    fn direct<A: Element>(&self, now: &Now, mut whole: Whole<'_, A>) -> Scalars {
        self.wrap.iter().rev().for_each(|wrap| wrap.direct(now, &mut whole));
        self.inner.direct(now, whole)
    }

    fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
        self.wrap.iter().fold(self.inner.evaluate(p, state), |p, wrap| wrap.evaluate(p, state))
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let mut layers = [None; LAYERS];
        let wraps = self.wrap.iter().filter_map(|wrap| wrap.layer(now, self.inner.lr()));
        layers.iter_mut().zip(wraps).for_each(|(layer, wrap)| *layer = Some(wrap));
        Paged { inner: self.inner.kernel(now), layers, watched: self.is_watched() }
    }

    fn describe(&self) -> Option<OptimizerConfig> {
        let inner = self.inner.describe()?;
        let (base, mut wrap) = inner.flatten();
        wrap.extend(self.wrap.iter().cloned());
        Some(OptimizerConfig::composed(base, wrap))
    }

    fn restore(&self, config: &OptimizerConfig) -> Option<Self> {
        let (base, mut inner) = config.flatten();
        // The innermost wrappers may be a part of the type.
        let wrap = inner.split_off(self.inner.describe()?.flatten().1.len().min(inner.len()));
        Some(Composed { inner: self.inner.restore(&OptimizerConfig::composed(base, inner))?, wrap })
    }

    fn adopt(&self, config: &OptimizerConfig) -> Option<Self> {
        let (base, wrap) = config.flatten();
        let wrap = if wrap.is_empty() { self.wrap.clone() } else { wrap };
        Some(Composed { inner: self.inner.adopt(base)?, wrap })
    }
}
