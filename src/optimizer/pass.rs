//! How a step runs a kernel over the memory of an array.
use crate::{
    algorithm::Engine,
    array::Element,
    kernel::{
        Arrays, KernelArgs, Totals,
        reduce::RunningSums,
        sweep::scale,
        watch::{PAGE, compare},
    },
};

/// In every step whose count is a multiple of it, small numbers of the state are flushed to 0. Doing
/// so in each step would take a quarter of the time of Adam on a processor without AVX-512.
const FLUSHING: u64 = 32;

/// What a step does with each piece of an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass<A> {
    /// The index of the kernel in its engine.
    pub kernel: usize,
    pub args: KernelArgs,
    /// The factor of the gradient: -1 to maximize, times the factor of clipping by a norm.
    pub scale: A,
    /// Whether small numbers of the state are flushed to 0.
    pub flush: bool,
}

/// Whether small numbers of the state are flushed in step `t` of a parameter.
#[inline]
pub(super) fn flushes(t: u64) -> bool {
    t.is_multiple_of(FLUSHING)
}

impl<A: Element> Pass<A> {
    /// Updates `p`.
    #[inline]
    pub fn run(&self, engine: &dyn Engine<A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        if self.scale == A::one() && !self.flush {
            engine.run(self.kernel, &self.args, p, g, state);
        } else {
            self.run_pages(engine, p, g, state);
        }
    }

    /// As `run`, page by page, so that what is done besides the kernel stays in the cache.
    #[inline(never)]
    fn run_pages(&self, engine: &dyn Engine<A>, p: &mut [A], g: &[A], mut state: Arrays<'_, A>) {
        let mut scaled = [A::ZERO; PAGE];
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let (p, mut state) = (&mut p[range.clone()], state.part(range.clone()));
            let g = self.scaled(&g[range], &mut scaled);
            engine.run(self.kernel, &self.args, p, g, state.part(0..p.len()));
            if self.flush {
                state.flush(&engine.requirements().floors);
            }
        }
    }

    /// Adds the terms of `p` and `g` to the sums.
    pub fn measure(
        &self,
        engine: &dyn Engine<A>,
        p: &[A],
        g: &[A],
        mut state: Arrays<'_, A>,
        sums: &mut RunningSums,
    ) {
        if self.scale == A::one() {
            return engine.measure(self.kernel, &self.args, p, g, state, sums);
        }
        let mut scaled = [A::ZERO; PAGE];
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let g = self.scaled(&g[range.clone()], &mut scaled);
            let state = state.part(range.clone());
            engine.measure(self.kernel, &self.args, &p[range], g, state, sums);
        }
    }

    /// As `run`, and adds the statistics of the step to `totals`.
    pub fn run_watched(
        &self,
        engine: &dyn Engine<A>,
        p: &mut [A],
        g: &[A],
        mut state: Arrays<'_, A>,
        totals: &mut Totals,
    ) {
        let mut old = [A::ZERO; PAGE];
        for start in (0..p.len()).step_by(PAGE) {
            let range = start..p.len().min(start + PAGE);
            let (p, g, state) = (&mut p[range.clone()], &g[range.clone()], state.part(range));
            let old = &mut old[..p.len()];
            old.copy_from_slice(p);
            self.run(engine, p, g, state);
            compare(old, p, g, totals);
        }
    }

    /// The gradient times its factor.
    #[inline]
    fn scaled<'g>(&self, g: &'g [A], page: &'g mut [A; PAGE]) -> &'g [A] {
        if self.scale == A::one() {
            return g;
        }
        let page = &mut page[..g.len()];
        scale(self.scale, g, page);
        page
    }
}
