//! The only hot loop of the crate.
use super::{MAX_TERMS, Rule, View, reduce::Sum};

/// From this length on the loop goes in blocks of [`BLOCK`], which keep more loads under way: 2 to 7 % from memory. Shorter
/// slices go at once, because the blocks cost 12 ns a call.
const LONG: usize = 4096;
/// Measure before changing: blocks of 32 lose vectorisation for plain SGD.
const BLOCK: usize = 64;

for_each_instruction_set! {
    /// One step over slices, with the gradient times `scale`: compiled once for each instruction set, chosen at run time.
    pub(crate) fn sweep<R: Rule, V: View<R::State>>(
        rule: &R,
        scale: R::Elem,
        mut p: &mut [R::Elem],
        mut g: &[R::Elem],
        state: V,
    ) {
        let (mut state, _) = state.split_at(p.len());
        // A copy, so that each scalar is loaded by itself: a wider load would wait for the narrow stores that made the rule.
        let rule = &{ *rule };
        if p.len() >= LONG {
            while p.len() >= BLOCK && g.len() >= BLOCK {
                let ((p0, p1), (g0, g1), (s0, s1)) = (p.split_at_mut(BLOCK), g.split_at(BLOCK), state.split_at(BLOCK));
                each(rule, scale, p0, g0, s0);
                (p, g, state) = (p1, g1, s1);
            }
        }
        each(rule, scale, p, g, state);
    }
}

#[inline(always)]
fn each<R: Rule, V: View<R::State>>(rule: &R, scale: R::Elem, p: &mut [R::Elem], g: &[R::Elem], mut state: V) {
    let n = p.len();
    let g = &g[..n];
    for i in 0..n {
        let (delta, lanes) = rule.delta(p[i], scale * g[i], state.load(i));
        let (new, lanes) = rule.land(p[i], delta, lanes);
        p[i] = new;
        state.store(i, lanes);
    }
}

/// Elements whose terms are kept on the stack at a time.
const PAGE: usize = 1024;

for_each_instruction_set! {
    /// The terms of a page of elements, each kind in an array of its own.
    fn terms<R: Rule, V: View<R::State>>(
        rule: &R,
        scale: R::Elem,
        p: &[R::Elem],
        g: &[R::Elem],
        state: &V,
        at: usize,
        out: &mut [[f64; PAGE]; MAX_TERMS],
    ) {
        let rule = &{ *rule };
        let n = p.len().min(PAGE);
        let (p, g) = (&p[..n], &g[..n]);
        for i in 0..n {
            let terms = rule.terms(p[i], scale * g[i], state.load(at + i));
            for k in 0..R::TERMS {
                out[k][i] = terms[k];
            }
        }
    }
}

/// Adds the terms of all elements to `sums`; nothing else changes.
pub(crate) fn measure<R: Rule, V: View<R::State>>(
    rule: &R,
    scale: R::Elem,
    p: &[R::Elem],
    g: &[R::Elem],
    state: &V,
    sums: &mut [Sum; MAX_TERMS],
) {
    let mut page = [[0.0; PAGE]; MAX_TERMS];
    for (i, (p, g)) in p.chunks(PAGE).zip(g.chunks(PAGE)).enumerate() {
        terms(rule, scale, p, g, state, i * PAGE, &mut page);
        for (sum, page) in sums.iter_mut().zip(&page).take(R::TERMS) {
            sum.add(&page[..p.len()]);
        }
    }
}
