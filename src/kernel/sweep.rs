//! The hot loop: one pass over a parameter, its gradient and its state.
use super::{
    Rule, StateSlices, for_each_instruction_set,
    reduce::{GUESS, RunningSums, Signed, Sum, Tally, Unsigned},
    rule::MAX_SUMS,
};
use crate::array::Element;

for_each_instruction_set! {
    /// One step over slices.
    pub(crate) fn sweep<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &mut [R::Elem],
        g: &[R::Elem],
        state: V,
    ) {
        let n = p.len();
        let g = &g[..n];
        let (mut state, _) = state.split_at(n);
        // A copy, so that each scalar is loaded separately: a wider load would stall on the narrow
        // stores that wrote the rule.
        let rule = &{ *rule };
        for i in 0..n {
            let (delta, next) = rule.delta(p[i], g[i], state.load(i));
            let (new, next) = rule.param(p[i], p[i] - delta, next);
            p[i] = new;
            state.store(i, next);
        }
    }
}

for_each_instruction_set! {
    /// Writes `factor g` to `out`.
    pub(crate) fn scale<A: Element>(factor: A, g: &[A], out: &mut [A]) {
        for (out, &g) in out.iter_mut().zip(g) {
            *out = factor * g;
        }
    }
}

/// Number of elements whose terms are counted at a time.
const COUNTED: usize = 4096;
/// Number of elements whose terms are on the stack at a time.
const PAGE: usize = 256;

for_each_instruction_set! {
    /// Counts the terms of elements, from the `at`th of the state on.
    fn count<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &[R::Elem],
        g: &[R::Elem],
        state: &V,
        at: usize,
        tallies: &mut [Tally; MAX_SUMS],
    ) {
        let rule = &{ *rule };
        let mut local = *tallies;
        let g = &g[..p.len()];
        for i in 0..p.len() {
            let terms = rule.terms(p[i], g[i], state.load(at + i)).0;
            for k in 0..R::TERMS {
                if k < R::NORMS {
                    local[k].add(terms[k] * terms[k], Unsigned);
                } else {
                    local[k].add(terms[k], Signed);
                }
            }
        }
        *tallies = local;
    }
}

/// Adds terms that are larger than all before, or that need special care.
#[cold]
#[inline(never)]
fn add_with_care(sum: &mut Sum, squares: bool, len: usize, term: impl Fn(usize) -> f64) {
    let mut page = [0.0; PAGE];
    for start in (0..len).step_by(PAGE) {
        let page = &mut page[..PAGE.min(len - start)];
        for (i, x) in page.iter_mut().enumerate() {
            *x = term(start + i);
        }
        if squares {
            sum.add_squares(page);
        } else {
            sum.add(page);
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
    let add_with_care = |sum: &mut Sum, k: usize, from: usize, to: usize| {
        add_with_care(sum, k < R::NORMS, to - from, |i| {
            let i = from + i;
            rule.terms(p[i], g[i], state.load(i)).0[k]
        });
    };
    let mut at = 0;
    if sums[..R::TERMS].iter().any(Sum::is_unscaled) {
        // A few terms tell how large the others may be.
        at = p.len().min(GUESS);
        for (k, sum) in sums[..R::TERMS].iter_mut().enumerate() {
            add_with_care(sum, k, 0, at);
        }
    }
    while at < p.len() {
        let to = p.len().min(at + COUNTED);
        let mut tallies = std::array::from_fn(|k| sums[k].tally(k >= R::NORMS));
        count(rule, &p[at..to], &g[at..to], state, at, &mut tallies);
        for (k, (sum, tally)) in sums[..R::TERMS].iter_mut().zip(&tallies).enumerate() {
            if !sum.try_add_tally::<R::Elem>(tally, to - at, k < R::NORMS) {
                add_with_care(sum, k, at, to);
            }
        }
        at = to;
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
