//! The hot loop: one pass over a parameter, its gradient and its state.
use super::{Rule, StateSlices, for_each_instruction_set, reduce::RunningSums, rule::MAX_SUMS};

/// Slices of at least this length are processed in blocks of [`BLOCK`], which keep more loads in
/// flight: 2 to 7 % faster from memory. Blocks cost 12 ns per call, so shorter slices do without.
const LONG: usize = 4096;
/// Measure before changing: with blocks of 32 plain SGD is not vectorized.
const BLOCK: usize = 64;

for_each_instruction_set! {
    /// One step over slices.
    pub(crate) fn sweep<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &mut [R::Elem],
        g: &[R::Elem],
        state: V,
    ) {
        let (mut p, mut g) = (p, g);
        let (mut state, _) = state.split_at(p.len());
        // A copy, so that each scalar is loaded separately: a wider load would stall on the narrow
        // stores that wrote the rule.
        let rule = &{ *rule };
        if p.len() >= LONG {
            while p.len() >= BLOCK && g.len() >= BLOCK {
                let (p0, p1) = p.split_at_mut(BLOCK);
                let (g0, g1) = g.split_at(BLOCK);
                let (s0, s1) = state.split_at(BLOCK);
                each(rule, p0, g0, s0);
                (p, g, state) = (p1, g1, s1);
            }
        }
        each(rule, p, g, state);
    }
}

#[inline(always)]
fn each<R: Rule, V: StateSlices<R::State>>(
    rule: &R,
    p: &mut [R::Elem],
    g: &[R::Elem],
    mut state: V,
) {
    let n = p.len();
    let g = &g[..n];
    for i in 0..n {
        let (delta, next) = rule.delta(p[i], g[i], state.load(i));
        let (new, next) = rule.param(p[i], p[i] - delta, next);
        p[i] = new;
        state.store(i, next);
    }
}

/// Number of elements whose terms are on the stack at a time.
const PAGE: usize = 1024;

for_each_instruction_set! {
    /// Computes the terms of a page of elements, one array for each sum.
    fn terms<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &[R::Elem],
        g: &[R::Elem],
        state: &V,
        at: usize,
        out: &mut [[f64; PAGE]; MAX_SUMS],
    ) {
        let rule = &{ *rule };
        let n = p.len().min(PAGE);
        let (p, g) = (&p[..n], &g[..n]);
        for i in 0..n {
            let terms = rule.terms(p[i], g[i], state.load(at + i)).0;
            for k in 0..R::TERMS {
                out[k][i] = terms[k];
            }
        }
    }
}

/// Adds the terms of all elements to `sums`.
pub(crate) fn measure<R: Rule, V: StateSlices<R::State>>(
    rule: &R,
    p: &[R::Elem],
    g: &[R::Elem],
    state: &V,
    sums: &mut RunningSums,
) {
    let mut page = [[0.0; PAGE]; MAX_SUMS];
    for (i, (p, g)) in p.chunks(PAGE).zip(g.chunks(PAGE)).enumerate() {
        terms(rule, p, g, state, i * PAGE, &mut page);
        for (k, (sum, page)) in sums.iter_mut().zip(&page).take(R::TERMS).enumerate() {
            let terms = &page[..p.len()];
            if k < R::NORMS {
                sum.add_squares(terms);
            } else {
                sum.add(terms);
            }
        }
    }
}

for_each_instruction_set! {
    /// Applies the gradient hooks of the wrappers of a rule.
    pub(crate) fn gradients<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &[R::Elem],
        g: &mut [R::Elem],
        state: V,
    ) {
        let rule = &{ *rule };
        let n = g.len();
        let (mut state, _) = state.split_at(n);
        let p = &p[..n];
        for i in 0..n {
            let (new, own) = rule.gradient(p[i], g[i], state.load(i));
            g[i] = new;
            state.store(i, own);
        }
    }
}

for_each_instruction_set! {
    /// As [`gradients`], but reads `from` and writes `g`.
    pub(crate) fn gradients_from<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &[R::Elem],
        from: &[R::Elem],
        g: &mut [R::Elem],
        state: V,
    ) {
        let rule = &{ *rule };
        let n = g.len();
        let (mut state, _) = state.split_at(n);
        let (p, from) = (&p[..n], &from[..n]);
        for i in 0..n {
            let (new, own) = rule.gradient(p[i], from[i], state.load(i));
            g[i] = new;
            state.store(i, own);
        }
    }
}

for_each_instruction_set! {
    /// Applies the parameter hooks of the wrappers of a rule.
    pub(crate) fn params<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        old: &[R::Elem],
        new: &mut [R::Elem],
        state: V,
    ) {
        let rule = &{ *rule };
        let n = new.len();
        let (mut state, _) = state.split_at(n);
        let old = &old[..n];
        for i in 0..n {
            let (changed, own) = rule.param(old[i], new[i], state.load(i));
            new[i] = changed;
            state.store(i, own);
        }
    }
}
