//! Wrappers of a list around any engine: what a file describes, compiled once.
use super::{AnyWrap, wrap::Layer};
use crate::{
    algorithm::{Demands, Engine, Factor, Lane, Now, Part, Recipe, Scalars, Sealed, StepInfo, Whole},
    array::Element,
    error::{Error, check},
    kernel::{Arrays, At, MAX_STATES, MAX_TERMS, for_each_instruction_set, reduce::Sum},
    wrap,
};
use std::{
    any::{Any, TypeId},
    fmt,
};

/// The most wrappers of one chain.
const LAYERS: usize = 8;

/// Elements that go through all wrappers before the next: a stretch that stays in the first cache.
const PAGE: usize = 1024;

/// An engine with these wrappers around it, from the inside out.
pub(super) fn around<A: Element>(inner: Recipe<A>, wrap: Vec<AnyWrap>) -> Recipe<A> {
    let chain = Chain { inner, wrap, checked: None, version: 0, demands: Demands::default(), inside: 0, steps: Vec::new() };
    Recipe(Box::new(chain))
}

/// The wrappers of a step that work on one element at a time, from the inside out.
type Layers<A> = [Option<Layer<A>>; LAYERS];

/// The wrappers take turns on stretches of 1024 elements.
#[derive(Clone)]
struct Chain<A: Element> {
    inner: Recipe<A>,
    wrap: Vec<AnyWrap>,
    /// What was checked last, with the version of `inner`.
    checked: Option<(Vec<AnyWrap>, u64)>,
    version: u64,
    demands: Demands,
    /// State arrays of `inner`; those of the wrappers come after them.
    inside: usize,
    /// What has been prepared for this step: of what, the place in `inner`, the wrappers.
    steps: Vec<(StepInfo, usize, Layers<A>)>,
}

impl<A: Element> Chain<A> {
    #[cold]
    fn change(&mut self, inner_version: u64) -> Result<(), Error> {
        check::that(self.wrap.len() <= LAYERS, "wrap", self.wrap.len(), "at most eight wrappers")?;
        let mut demands = self.inner.0.demands().clone();
        for wrap in &self.wrap {
            wrap.validate()?;
            demands.clipping = wrap::one(demands.clipping, wrap.clipping())?;
            demands.directed |= wrap.is_directed();
            demands.watched |= matches!(wrap, AnyWrap::Watch(_));
        }
        demands.row_wise = false;
        self.inside = demands.arrays.len();
        for layer in self.layers(&StepInfo::new(1, self.inner.0.scalars(), f64::NAN)).iter().flatten() {
            demands.arrays.extend(layer.arrays());
            demands.cost += layer.cost();
        }
        demands.check()?;
        self.demands = demands;
        self.version += 1;
        self.checked = Some((self.wrap.clone(), inner_version));
        Ok(())
    }

    fn layers(&self, at: &StepInfo) -> Layers<A> {
        let mut layers = [None; LAYERS];
        let (now, lr) = (at.now([0.0; 3]), self.inner.0.lr());
        let wraps = self.wrap.iter().filter_map(|wrap| wrap.layer(&now, lr));
        layers.iter_mut().zip(wraps).for_each(|(layer, wrap)| *layer = Some(wrap));
        layers
    }

    fn pages(&self, kernel: usize, at: &At<A>, p: &mut [A], g: &[A], mut state: Arrays<'_, A>) {
        let (_, inner_kernel, layers) = &self.steps[kernel];
        let changed = layers.iter().flatten().any(Layer::changes_gradient);
        let looks_back = layers.iter().flatten().any(Layer::looks_back);
        let inner = if changed { At { scale: A::one(), ..*at } } else { *at };
        let (mut tile, mut old) = ([A::ZERO; PAGE], [A::ZERO; PAGE]);
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let (p, mut g, mut state) = (&mut p[range.clone()], &g[range.clone()], state.part(range));
            let n = p.len();
            let mut own = state.some(self.inside..MAX_STATES);
            if at.first {
                inside_out(layers, &mut own, |layer, own| layer.begin(at.scale, p, g, own));
            }
            if changed {
                scaled(at.scale, g, &mut tile[..n]);
                outside_in(layers, &mut own, |layer, own| {
                    if layer.changes_gradient() {
                        layer.gradient(p, &mut tile[..n], own);
                    }
                });
                g = &tile[..n];
            }
            if looks_back {
                old[..n].copy_from_slice(p);
            }
            self.inner.0.run(*inner_kernel, &inner, p, g, state.some(0..self.inside));
            let mut own = state.some(self.inside..MAX_STATES);
            inside_out(layers, &mut own, |layer, own| {
                if layer.lands() {
                    layer.land(&old[..n], p, own);
                }
            });
        }
    }
}

/// Does `work` on every layer, from the outside in, with its own arrays.
fn outside_in<A: Element>(layers: &Layers<A>, own: &mut Arrays<'_, A>, mut work: impl FnMut(&Layer<A>, Arrays<'_, A>)) {
    let mut end: usize = layers.iter().flatten().map(|layer| layer.arrays().len()).sum();
    for layer in layers.iter().flatten().rev() {
        let start = end - layer.arrays().len();
        work(layer, own.some(start..end));
        end = start;
    }
}

/// As [`outside_in`], in the other direction.
fn inside_out<A: Element>(layers: &Layers<A>, own: &mut Arrays<'_, A>, mut work: impl FnMut(&Layer<A>, Arrays<'_, A>)) {
    let mut start = 0;
    for layer in layers.iter().flatten() {
        let end = start + layer.arrays().len();
        work(layer, own.some(start..end));
        start = end;
    }
}

for_each_instruction_set! {
    fn scaled<A: Element>(scale: A, g: &[A], tile: &mut [A]) {
        tile.iter_mut().zip(g).for_each(|(tile, &g)| *tile = scale * g);
    }
}

impl<A: Element> fmt::Debug for Chain<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("inner", &self.inner).field("wrap", &self.wrap).finish()
    }
}

impl<A: Element> Sealed for Chain<A> {}

impl<A: Element> Engine<A> for Chain<A> {
    fn check(&mut self) -> Result<u64, Error> {
        let inner = self.inner.0.check()?;
        if !self.checked.as_ref().is_some_and(|(wrap, version)| *version == inner && *wrap == self.wrap) {
            self.change(inner)?;
        }
        Ok(self.version)
    }
    fn demands(&self) -> &Demands {
        &self.demands
    }
    fn duplicate(&self) -> Box<dyn Engine<A>> {
        Box::new(self.clone())
    }
    fn lr(&self) -> f64 {
        self.inner.0.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.inner.0.set_lr(lr);
    }
    fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.inner.0.field_mut(name).or_else(|| self.wrap.iter_mut().find_map(|wrap| wrap.field_mut(name)))
    }
    fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = self.inner.0.parts();
        parts.extend(self.wrap.iter().map(AnyWrap::part));
        parts
    }
    fn restore(&mut self, parts: &[Part<'_>]) -> bool {
        let Some((inner, wrap)) = parts.len().checked_sub(self.wrap.len()).map(|at| parts.split_at(at)) else {
            return false;
        };
        let restored: Option<Vec<_>> = wrap.iter().map(|part| AnyWrap::of(part.value)).collect();
        let same = |new: &[AnyWrap]| new.iter().zip(&self.wrap).all(|(new, old)| new.name() == old.name());
        match restored.filter(|new| same(new)) {
            Some(new) if self.inner.0.restore(inner) => {
                self.wrap = new;
                true
            }
            _ => false,
        }
    }
    fn part(&self, of: TypeId) -> Option<&dyn Any> {
        let own = self.wrap.iter().rev().map(|wrap| wrap.part().value).find(|value| (**value).type_id() == of);
        own.or_else(|| self.inner.0.part(of))
    }
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any> {
        let own = self.wrap.iter_mut().rev().map(AnyWrap::part_mut).find(|value| (**value).type_id() == of);
        own.or_else(|| self.inner.0.part_mut(of))
    }
    fn scalars(&self) -> Scalars {
        self.inner.0.scalars()
    }
    fn absorb(&self, at: &StepInfo, sums: &[f64; MAX_TERMS]) -> Scalars {
        self.inner.0.absorb(at, sums)
    }
    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        self.inner.0.factors(shape)
    }
    fn direct(&self, at: &StepInfo, mut whole: Whole<'_, A>) -> Scalars {
        let now: Now = at.now([0.0; 3]);
        self.wrap.iter().rev().for_each(|wrap| wrap.direct(&now, &mut whole));
        self.inner.0.direct(at, whole)
    }
    fn evaluate(&self, p: A, state: &Lane<'_, A>) -> A {
        self.wrap.iter().fold(self.inner.0.evaluate(p, state), |p, wrap| wrap.evaluate(p, state))
    }
    fn estimate(&self, estimate: &[A], mut state: Arrays<'_, A>) {
        self.inner.0.estimate(estimate, state.some(0..self.inside));
    }
    fn begin_step(&mut self) {
        self.inner.0.begin_step();
        self.steps.clear();
    }
    fn prepare(&mut self, at: &StepInfo) -> usize {
        if !self.steps.last().is_some_and(|(made, ..)| made.is_as(at)) {
            let inner = self.inner.0.prepare(at);
            self.steps.push((*at, inner, self.layers(at)));
        }
        self.steps.len() - 1
    }
    fn run(&self, kernel: usize, at: &At<A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        let (_, inner, layers) = &self.steps[kernel];
        if layers[0].is_none() {
            self.inner.0.run(*inner, at, p, g, state);
        } else {
            self.pages(kernel, at, p, g, state);
        }
    }
    fn measure(&self, kernel: usize, at: &At<A>, p: &[A], g: &[A], mut state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]) {
        let (_, inner_kernel, layers) = &self.steps[kernel];
        if layers[0].is_none() {
            return self.inner.0.measure(*inner_kernel, at, p, g, state, sums);
        }
        let inner = At { scale: A::one(), ..*at };
        let mut tile = [A::ZERO; PAGE];
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let (p, g, mut state) = (&p[range.clone()], &g[range.clone()], state.part(range));
            let tile = &mut tile[..p.len()];
            scaled(at.scale, g, tile);
            let mut own = state.some(self.inside..MAX_STATES);
            if at.first {
                inside_out(layers, &mut own, |layer, own| layer.begin(at.scale, p, g, own));
            }
            // Only the sweep moves state, so what looks at the gradient works on copies.
            outside_in(layers, &mut own, |layer, own| {
                let mut copies = own.0.map(|array| array.to_vec());
                layer.gradient(p, tile, Arrays(copies.each_mut().map(Vec::as_mut_slice)));
            });
            self.inner.0.measure(*inner_kernel, &inner, p, tile, state.some(0..self.inside), sums);
        }
    }
    fn repeat(&mut self, at: &StepInfo, scale: A, p: &mut [A], g: &[A], state: Arrays<'_, A>) -> Option<Scalars> {
        let known = self.version;
        if self.check().ok()? != known {
            return None;
        }
        self.begin_step();
        let scalars = self.absorb(at, &[0.0; MAX_TERMS]);
        let kernel = self.prepare(&StepInfo { scalars, ..*at });
        self.run(kernel, &At { first: false, scale }, p, g, state);
        Some(scalars)
    }
}
