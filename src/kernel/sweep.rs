//! The hot loop: one pass over a parameter, its gradient and its state.
use super::{
    InstructionSet, Rule, StateSlices, for_each_instruction_set, instruction_set,
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
const PAGE: usize = 512;
/// Number of terms that are added with care at a time.
const PART: usize = 256;

for_each_instruction_set! {
    /// Counts the terms of elements, from the `from`th of the state on.
    fn count<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &[R::Elem],
        g: &[R::Elem],
        state: &V,
        from: usize,
        tallies: &mut [Tally; MAX_SUMS],
    ) {
        let rule = &{ *rule };
        let mut local = *tallies;
        let g = &g[..p.len()];
        for i in 0..p.len() {
            let terms = rule.terms(p[i], g[i], state.load(from + i)).0;
            for k in 0..R::TERMS {
                let (a, b) = terms[k];
                if k < R::NORMS {
                    local[k].add(a.f64() * a.f64(), Unsigned);
                } else {
                    local[k].add(a.f64() * b.f64(), Signed);
                }
            }
        }
        *tallies = local;
    }
}

/// The factors of the terms of some elements.
type Factors<A> = [[[A; PAGE]; MAX_SUMS]; 2];

for_each_instruction_set! {
    /// As `count`, in two loops: next to numbers of `f64` a rule of `f32` would get half of the
    /// lanes, which shows where it has roots and quotients.
    fn count_pages<R: Rule, V: StateSlices<R::State>>(
        rule: &R,
        p: &[R::Elem],
        g: &[R::Elem],
        state: &V,
        from: usize,
        tallies: &mut [Tally; MAX_SUMS],
        factors: &mut Factors<R::Elem>,
    ) {
        let rule = &{ *rule };
        let n = p.len();
        let g = &g[..n];
        let [a, b] = factors;
        for start in (0..n).step_by(PAGE) {
            let len = PAGE.min(n - start);
            for i in 0..len {
                let at = start + i;
                let terms = rule.terms(p[at], g[at], state.load(from + at)).0;
                for k in 0..R::TERMS {
                    a[k][i] = terms[k].0;
                    if k >= R::NORMS {
                        b[k][i] = terms[k].1;
                    }
                }
            }
            for k in 0..R::TERMS {
                let mut tally = tallies[k];
                let (a, b) = (&a[k][..len], &b[k][..len]);
                for i in 0..len {
                    if k < R::NORMS {
                        tally.add(a[i].f64() * a[i].f64(), Unsigned);
                    } else {
                        tally.add(a[i].f64() * b[i].f64(), Signed);
                    }
                }
                tallies[k] = tally;
            }
        }
    }
}

/// Adds terms that are larger than all before, or that need special care.
#[cold]
#[inline(never)]
fn add_with_care(sum: &mut Sum, squares: bool, len: usize, term: impl Fn(usize) -> f64) {
    let mut part = [0.0; PART];
    for start in (0..len).step_by(PART) {
        let part = &mut part[..PART.min(len - start)];
        for (i, x) in part.iter_mut().enumerate() {
            *x = term(start + i);
        }
        if squares {
            sum.add_squares(part);
        } else {
            sum.add(part);
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
    // A constant, so that others are not compiled twice.
    if const { R::COST > 5 && size_of::<R::Elem>() == size_of::<f32>() }
        && p.len() > PAGE
        && instruction_set() < InstructionSet::Avx512
    {
        measure_pages(rule, p, g, state, sums);
    } else {
        measure_in(rule, p, g, state, sums, None);
    }
}

/// A function of its own, so that others do not have the factors on the stack.
#[inline(never)]
fn measure_pages<R: Rule, V: StateSlices<R::State>>(
    rule: &R,
    p: &[R::Elem],
    g: &[R::Elem],
    state: &V,
    sums: &mut RunningSums,
) {
    let mut factors = [[[R::Elem::ZERO; PAGE]; MAX_SUMS]; 2];
    measure_in(rule, p, g, state, sums, Some(&mut factors));
}

/// As `measure`, in pages if there is memory for the `factors`.
#[inline(always)]
fn measure_in<R: Rule, V: StateSlices<R::State>>(
    rule: &R,
    p: &[R::Elem],
    g: &[R::Elem],
    state: &V,
    sums: &mut RunningSums,
    mut factors: Option<&mut Factors<R::Elem>>,
) {
    let add_with_care = |sum: &mut Sum, k: usize, from: usize, to: usize| {
        add_with_care(sum, k < R::NORMS, to - from, |i| {
            let i = from + i;
            let terms = rule.terms(p[i], g[i], state.load(i)).0;
            // In `f64` before the choice: pairs of `f32` in memory could not be read at once.
            terms.map(|(a, b)| {
                if k < R::NORMS {
                    a.f64()
                } else {
                    a.f64() * b.f64()
                }
            })[k]
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
        // What is larger than the first guess is met soon, and little has to be counted again.
        let to = p.len().min(at + if at <= GUESS { PAGE } else { COUNTED });
        let mut tallies = std::array::from_fn(|k| sums[k].tally(k >= R::NORMS));
        let (p, g) = (&p[at..to], &g[at..to]);
        match &mut factors {
            Some(factors) => count_pages(rule, p, g, state, at, &mut tallies, factors),
            None => count(rule, p, g, state, at, &mut tallies),
        }
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
