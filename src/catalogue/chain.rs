//! A list of wrappers around any engine, as a configuration file describes it; compiled once.
use super::{AnyWrap, wrap::Layer};
use crate::{
    algorithm::{
        ElementState, Engine, ExtraArray, Logs, Part, Recipe, Requirements, Scalars, Stage,
        StepContext, StepInfo, WholeArray, split_stages,
    },
    array::Element,
    error::Error,
    kernel::{Arrays, KernelArgs, Sums, reduce::RunningSums},
    nesting,
};
use std::{
    any::{Any, TypeId},
    fmt,
    ops::Range,
};

/// Number of elements that pass through all wrappers at a time: a block that stays in the
/// first-level cache. Of sizes from 256 to 2048 this one is the fastest from 1e6 elements on, by up
/// to a tenth.
const BLOCK: usize = 512;

/// Wraps an engine; the wrappers are listed from the inside out.
pub(super) fn around<A: Element>(inner: Recipe<A>, wrap: Vec<AnyWrap>) -> Recipe<A> {
    chain(inner, wrap, false)
}

/// As [`around`], for wrappers in a configuration that is nested too deep: every check fails.
pub(super) fn too_deep<A: Element>(inner: Recipe<A>, wrap: Vec<AnyWrap>) -> Recipe<A> {
    chain(inner, wrap, true)
}

fn chain<A: Element>(inner: Recipe<A>, wrap: Vec<AnyWrap>, is_too_deep: bool) -> Recipe<A> {
    Recipe(Box::new(Chain {
        inner,
        wrap,
        is_too_deep,
        checked: None,
        version: 0,
        requirements: Requirements::default(),
        places: Vec::new(),
        fused: 0,
        layers: Vec::new(),
        steps: Vec::new(),
    }))
}

/// An engine in a list of wrappers, which are applied block by block.
#[derive(Clone)]
struct Chain<A: Element> {
    inner: Recipe<A>,
    wrap: Vec<AnyWrap>,
    /// Whether the configuration was nested too deep.
    is_too_deep: bool,
    /// The wrappers that were validated last, and the version of `inner` at that time.
    checked: Option<(Vec<AnyWrap>, u64)>,
    version: u64,
    requirements: Requirements,
    /// The state arrays of each wrapper, which follow those of `inner`.
    places: Vec<Range<usize>>,
    /// The number of innermost wrappers that transform gradients in the sweep.
    fused: usize,
    /// The wrappers of all kernels of this step, one kernel after another.
    layers: Vec<Layer<A>>,
    /// For each kernel of this step, its step and its index in `inner`.
    steps: Vec<(StepInfo, usize)>,
}

impl<A: Element> Chain<A> {
    #[cold]
    fn recheck(&mut self, inner_version: u64) -> Result<(), Error> {
        if self.is_too_deep {
            return Err(nesting::too_deep("inner"));
        }
        let mut requirements = self.inner.0.requirements().clone();
        let step = StepInfo::new(1, self.inner.0.initial_scalars(), f64::NAN);
        let (mut wrappers, mut places) = (Vec::new(), Vec::new());
        for wrap in &self.wrap {
            wrap.validate()?;
            wrap.fits(A::max_value().f64())?;
            let layer: Layer<A> = self.layer(wrap, &step);
            let first = requirements.arrays.len();
            layer.names(&mut requirements.arrays);
            let floors = requirements.floors.iter_mut().skip(first);
            floors
                .zip(layer.floors())
                .for_each(|(floor, own)| *floor = own.f64());
            requirements.cost = requirements.cost.saturating_add(layer.cost());
            requirements.watched |= matches!(wrap, AnyWrap::Watch(_));
            places.push(first..requirements.arrays.len());
            wrappers.extend(wrap.stage(&layer, first));
        }
        requirements.row_wise &= self.wrap.iter().all(AnyWrap::is_row_wise);
        if !wrappers.iter().all(Stage::keeps_gradients) {
            requirements.largest_gradient = None;
        }
        (requirements.stages, requirements.clippings, self.fused) =
            split_stages(&wrappers, requirements.preconditioned);
        requirements.check()?;
        (self.requirements, self.places) = (requirements, places);
        self.version += 1;
        self.checked = Some((self.wrap.clone(), inner_version));
        Ok(())
    }

    fn context(step: &StepInfo) -> StepContext {
        step.context(Logs::default(), f64::NAN)
    }

    fn layer(&self, wrap: &AnyWrap, step: &StepInfo) -> Layer<A> {
        wrap.layer(&Self::context(step), self.inner.0.lr())
    }

    /// Returns the wrappers of a kernel, from the inside out, with their state arrays.
    fn layers(
        &self,
        kernel: usize,
    ) -> impl DoubleEndedIterator<Item = (&Layer<A>, &Range<usize>)> + ExactSizeIterator {
        let n = self.wrap.len();
        self.layers[kernel * n..][..n].iter().zip(&self.places)
    }

    /// Returns the wrapper of the `k`th stage.
    fn staged(&self, k: usize) -> &AnyWrap {
        &self.wrap[self.wrap.len() - 1 - k]
    }

    /// Initializes the state of the wrappers that have not been applied to the gradient yet.
    fn begin(&self, kernel: usize, args: &KernelArgs, p: &[A], g: &[A], state: &mut Arrays<A>) {
        let n = if args.staged {
            self.fused
        } else {
            self.wrap.len()
        };
        for (layer, place) in self.layers(kernel).take(n) {
            layer.begin(p, g, state.subset(place.clone()));
        }
    }

    fn blocks(
        &self,
        kernel: usize,
        args: &KernelArgs,
        p: &mut [A],
        g: &[A],
        mut state: Arrays<'_, A>,
    ) {
        let inner_kernel = self.steps[kernel].1;
        let inside = self.inner.0.requirements().arrays.len();
        let changing = |(layer, _): &(&Layer<A>, _)| layer.hooks().gradient;
        let changed = self
            .layers(kernel)
            .take(self.fused)
            .any(|layer| changing(&layer));
        let reads_old = self
            .layers(kernel)
            .any(|(layer, _)| layer.hooks().old_param);
        let (mut tile, mut old) = ([A::ZERO; BLOCK], [A::ZERO; BLOCK]);
        for start in (0..p.len()).step_by(BLOCK) {
            let range = start..p.len().min(start + BLOCK);
            let n = range.len();
            let (p, mut g, mut state) =
                (&mut p[range.clone()], &g[range.clone()], state.part(range));
            if args.first {
                self.begin(kernel, args, p, g, &mut state);
            }
            if changed {
                let tile = &mut tile[..n];
                let mut from = Some(g);
                let layers = self.layers(kernel).take(self.fused).rev();
                for (layer, place) in layers.filter(changing) {
                    let own = state.subset(place.clone());
                    match from.take() {
                        Some(g) => layer.gradients_from(p, g, tile, own),
                        None => layer.gradients(p, tile, own),
                    }
                }
                g = tile;
            }
            if reads_old {
                old[..n].copy_from_slice(p);
            }
            self.inner
                .0
                .run(inner_kernel, args, p, g, state.subset(0..inside));
            for (layer, place) in self.layers(kernel).filter(|(layer, _)| layer.hooks().param) {
                layer.params(&old[..n], p, state.subset(place.clone()));
            }
        }
    }
}

impl<A: Element> fmt::Debug for Chain<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain = f.debug_struct("Chain");
        chain
            .field("inner", &self.inner)
            .field("wrap", &self.wrap)
            .finish()
    }
}

impl<A: Element> Engine<A> for Chain<A> {
    fn check(&mut self) -> Result<u64, Error> {
        let inner = self.inner.0.check()?;
        let same = |(wrap, version): &(Vec<AnyWrap>, u64)| *version == inner && *wrap == self.wrap;
        if !self.checked.as_ref().is_some_and(same) {
            self.recheck(inner)?;
        }
        Ok(self.version)
    }
    fn requirements(&self) -> &Requirements {
        &self.requirements
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
    fn initial_lr(&self) -> f64 {
        self.inner.0.initial_lr()
    }
    fn set_initial_lr(&mut self, lr: f64) {
        self.inner.0.set_initial_lr(lr);
    }
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        let mut wrappers = self.wrap.iter_mut();
        self.inner
            .0
            .number_mut(name)
            .or_else(|| wrappers.find_map(|wrap| wrap.number_mut(name)))
    }
    fn numbers(&self) -> Vec<String> {
        let mut numbers = self.inner.0.numbers();
        numbers.extend(self.wrap.iter().flat_map(AnyWrap::numbers));
        numbers
    }
    fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = self.inner.0.parts();
        parts.extend(self.wrap.iter().map(AnyWrap::part));
        parts
    }
    fn restore(&mut self, parts: &[Part<'_>]) -> bool {
        let Some(at) = parts.len().checked_sub(self.wrap.len()) else {
            return false;
        };
        let (inner, wrap) = parts.split_at(at);
        let restored: Option<Vec<_>> = wrap.iter().map(|part| AnyWrap::of(part.value)).collect();
        let same = |new: &Vec<AnyWrap>| {
            new.iter()
                .zip(&self.wrap)
                .all(|(new, old)| new.name() == old.name())
        };
        match restored.filter(same) {
            Some(new) if self.inner.0.restore(inner) => {
                self.wrap = new;
                true
            }
            _ => false,
        }
    }
    fn part(&self, of: TypeId) -> Option<&dyn Any> {
        let mut own = self.wrap.iter().rev().map(|wrap| wrap.part().value);
        own.find(|value| (**value).type_id() == of)
            .or_else(|| self.inner.0.part(of))
    }
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any> {
        let mut own = self.wrap.iter_mut().rev().map(AnyWrap::part_mut);
        own.find(|value| (**value).type_id() == of)
            .or_else(|| self.inner.0.part_mut(of))
    }
    fn initial_scalars(&self) -> Scalars {
        self.inner.0.initial_scalars()
    }
    fn update_scalars(&self, step: &StepInfo, sums: &Sums) -> Scalars {
        self.inner.0.update_scalars(step, sums)
    }
    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        self.inner.0.extra_arrays(shape)
    }
    fn transform_cost(&self, shape: &[usize]) -> f64 {
        self.inner.0.transform_cost(shape)
    }
    fn stage_whole(&self, k: usize, step: &StepInfo, mut array: WholeArray<'_, A>) {
        self.staged(k).transform(&Self::context(step), &mut array);
    }
    fn stage_elements(
        &self,
        k: usize,
        step: &StepInfo,
        first: bool,
        p: &[A],
        g: &mut [A],
        mut own: Arrays<'_, A>,
    ) {
        let layer = self.layer(self.staged(k), step);
        if first {
            layer.begin(p, g, own.part(0..p.len()));
        }
        if layer.hooks().gradient {
            layer.gradients(p, g, own);
        }
    }
    fn transform(&self, step: &StepInfo, array: WholeArray<'_, A>) -> Scalars {
        self.inner.0.transform(step, array)
    }
    fn evaluate(&self, p: A, state: &ElementState<'_, A>) -> A {
        let inner = self.inner.0.evaluate(p, state);
        self.wrap
            .iter()
            .fold(inner, |p, wrap| wrap.evaluate(p, state))
    }
    fn update_hessian(&self, estimate: &[A], mut state: Arrays<'_, A>) {
        let inside = self.inner.0.requirements().arrays.len();
        self.inner
            .0
            .update_hessian(estimate, state.subset(0..inside));
    }
    fn begin_step(&mut self) {
        self.inner.0.begin_step();
        self.steps.clear();
        self.layers.clear();
    }
    fn prepare(&mut self, step: &StepInfo) -> usize {
        if !self
            .steps
            .last()
            .is_some_and(|(made, _)| made.same_kernel(step))
        {
            let inner = self.inner.0.prepare(step);
            self.steps.push((*step, inner));
            for wrap in &self.wrap {
                let layer = wrap.layer(&Self::context(step), self.inner.0.lr());
                self.layers.push(layer);
            }
        }
        self.steps.len() - 1
    }
    fn run(&self, kernel: usize, args: &KernelArgs, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        self.blocks(kernel, args, p, g, state);
    }
    fn measure(
        &self,
        kernel: usize,
        args: &KernelArgs,
        p: &[A],
        g: &[A],
        mut state: Arrays<'_, A>,
        sums: &mut RunningSums,
    ) {
        let inner_kernel = self.steps[kernel].1;
        let inside = self.inner.0.requirements().arrays.len();
        let mut tile = [A::ZERO; BLOCK];
        for start in (0..p.len()).step_by(BLOCK) {
            let range = start..p.len().min(start + BLOCK);
            let (p, g, mut state) = (&p[range.clone()], &g[range.clone()], state.part(range));
            let tile = &mut tile[..p.len()];
            if args.first {
                self.begin(kernel, args, p, g, &mut state);
            }
            tile.copy_from_slice(g);
            // Only the sweep changes state, so wrappers change copies of it here.
            for (layer, place) in self.layers(kernel).take(self.fused).rev() {
                if layer.hooks().gradient {
                    let mut copies = state.subset(place.clone()).0.map(|array| array.to_vec());
                    let own = Arrays(copies.each_mut().map(Vec::as_mut_slice));
                    layer.gradients(p, tile, own);
                }
            }
            self.inner
                .0
                .measure(inner_kernel, args, p, tile, state.subset(0..inside), sums);
        }
    }
    fn repeat(&mut self, step: &mut StepInfo, p: &mut [A], g: &[A], state: Arrays<'_, A>) -> bool {
        let known = self.version;
        if self.check().ok() != Some(known) {
            return false;
        }
        self.begin_step();
        step.scalars = self.update_scalars(step, &Sums::default());
        let kernel = self.prepare(step);
        self.run(kernel, &KernelArgs::default(), p, g, state);
        true
    }
}
