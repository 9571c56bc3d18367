//! What a step did, gathered while it is made.
use super::{Element, Rule, View};
use multiversion::multiversion;
use std::ops::AddAssign;

/// Sums of squares over the elements of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Of gradients, as they were lent.
    pub gradient: f64,
    /// Of what was taken away from parameters.
    pub update: f64,
    /// Of parameters after the step.
    pub parameter: f64,
    /// How many gradients were infinite or NaN.
    pub non_finite: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.gradient += other.gradient;
        self.update += other.update;
        self.parameter += other.parameter;
        self.non_finite += other.non_finite;
    }
}

/// Sums of this many elements stay in registers.
const LANES: usize = 32;
/// After so many elements lanes of `f32` are emptied into `f64`: each has added 128 squares then.
const PAGE: usize = 4096;

/// Sums in `f64`, lane by lane.
struct Lanes([[f64; LANES]; 3]);

impl Lanes {
    #[inline(always)]
    fn add<A: Element>(&mut self, g: [A; LANES], u: [A; LANES], p: [A; LANES]) {
        for (into, from) in self.0.iter_mut().zip([g, u, p]) {
            for i in 0..LANES {
                into[i] += from[i].f64();
            }
        }
    }

    fn totals(self) -> Totals {
        let [gradient, update, parameter] = self.0.map(|lanes| lanes.iter().sum::<f64>());
        Totals { gradient, update, parameter, non_finite: 0 }
    }
}

/// As [`sweep`](super::sweep::sweep), and adds what it did to `totals`.
#[multiversion(targets = "simd")]
pub(crate) fn sweep_watched<R: Rule, V: View<R::State>>(
    rule: &R,
    scale: R::Elem,
    p: &mut [R::Elem],
    g: &[R::Elem],
    state: V,
    totals: &mut Totals,
) {
    let rule = &{ *rule };
    let (mut state, _) = state.split_at(p.len());
    let (gradients, mut all) = (g, Lanes([[0.0; LANES]; 3]));
    for (p, g) in p.chunks_mut(PAGE).zip(g.chunks(PAGE)) {
        let (mut page, rest) = state.split_at(p.len());
        state = rest;
        let (mut sg, mut su, mut sp) = ([R::Elem::ZERO; LANES], [R::Elem::ZERO; LANES], [R::Elem::ZERO; LANES]);
        let mut at = 0;
        while at + LANES <= p.len() {
            let (p, g) = (&mut p[at..at + LANES], &g[at..at + LANES]);
            let (mut now, rest) = page.split_at(LANES);
            for i in 0..LANES {
                let (update, new) = each(rule, scale, &mut p[i], g[i], &mut now, i);
                sg[i] += g[i] * g[i];
                su[i] += update * update;
                sp[i] += new * new;
            }
            page = rest;
            at += LANES;
        }
        all.add(sg, su, sp);
        // The tail has lanes of its own: an index that is not constant would keep the sums out of registers.
        if at < p.len() {
            let (mut sg, mut su, mut sp) = ([R::Elem::ZERO; LANES], [R::Elem::ZERO; LANES], [R::Elem::ZERO; LANES]);
            for (i, (p, &g)) in p[at..].iter_mut().zip(&g[at..]).enumerate() {
                let (update, new) = each(rule, scale, p, g, &mut page, i);
                (sg[i], su[i], sp[i]) = (g * g, update * update, new * new);
            }
            all.add(sg, su, sp);
        }
    }
    add_up(all, gradients, totals);
}

/// A gradient that is not finite shows in the sum, so only then is it worth looking again.
fn add_up<A: Element>(all: Lanes, g: &[A], totals: &mut Totals) {
    let mut found = all.totals();
    if !found.gradient.is_finite() {
        found.non_finite = g.iter().filter(|g| !g.is_finite()).count() as u64;
    }
    *totals += found;
}

/// One element: what was taken away, and the new parameter.
#[inline(always)]
fn each<R: Rule, V: View<R::State>>(
    rule: &R,
    scale: R::Elem,
    p: &mut R::Elem,
    g: R::Elem,
    state: &mut V,
    i: usize,
) -> (R::Elem, R::Elem) {
    let old = *p;
    let (delta, lanes) = rule.delta(old, scale * g, state.load(i));
    let (new, lanes) = rule.land(old, delta, lanes);
    *p = new;
    state.store(i, lanes);
    (old - new, new)
}

/// What a step from `old` to `new` did, after it was made.
#[multiversion(targets = "simd")]
pub(crate) fn compare<A: Element>(old: &[A], new: &[A], g: &[A], totals: &mut Totals) {
    let n = new.len();
    let (old, g) = (&old[..n], &g[..n]);
    let mut at = 0;
    let (mut sg, mut su, mut sp) = ([A::ZERO; LANES], [A::ZERO; LANES], [A::ZERO; LANES]);
    while at + LANES <= n {
        for i in 0..LANES {
            let (update, g, new) = (old[at + i] - new[at + i], g[at + i], new[at + i]);
            sg[i] += g * g;
            su[i] += update * update;
            sp[i] += new * new;
        }
        at += LANES;
    }
    let mut all = Lanes([[0.0; LANES]; 3]);
    all.add(sg, su, sp);
    let (mut sg, mut su, mut sp) = ([A::ZERO; LANES], [A::ZERO; LANES], [A::ZERO; LANES]);
    for (i, at) in (at..n).enumerate() {
        let (update, g, new) = (old[at] - new[at], g[at], new[at]);
        (sg[i], su[i], sp[i]) = (g * g, update * update, new * new);
    }
    all.add(sg, su, sp);
    add_up(all, g, totals);
}
