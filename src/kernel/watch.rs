//! Statistics of a step, gathered during the step.
use super::for_each_instruction_set;
use crate::array::Element;
use std::ops::AddAssign;

/// Sums of squares over the elements of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Of the gradients passed to the step.
    pub gradient: f64,
    /// Of the updates.
    pub update: f64,
    /// Of the parameters after the step.
    pub parameter: f64,
    /// Number of non-finite gradient elements.
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

/// Number of partial sums, few enough to stay in registers.
const LANES: usize = 16;
/// Number of elements between comparisons: few enough to stay in the first-level cache, and for a
/// partial sum in `f32` to add at most 64 squares before it is converted to `f64`.
pub(crate) const PAGE: usize = 1024;

/// Partial sums of the squares of gradients, updates and parameters.
struct Squares<A>([[A; LANES]; 3]);

impl<A: Element> Squares<A> {
    #[inline(always)]
    fn add(&mut self, i: usize, old: A, new: A, g: A) {
        let Squares([gradients, updates, params]) = self;
        let update = old - new;
        gradients[i] += g * g;
        updates[i] += update * update;
        params[i] += new * new;
    }

    fn totals(&self) -> Totals {
        let [gradient, update, parameter] = self.0.map(|lanes| lanes.iter().map(|x| x.f64()).sum());
        Totals {
            gradient,
            update,
            parameter,
            non_finite: 0,
        }
    }
}

for_each_instruction_set! {
    fn squares<A: Element>(old: &[A], new: &[A], g: &[A]) -> Squares<A> {
        let mut sums = Squares([[A::ZERO; LANES]; 3]);
        let [(old, old_tail), (new, new_tail), (g, g_tail)] =
            [old, new, g].map(|all| all.as_chunks::<LANES>());
        for ((old, new), g) in old.iter().zip(new).zip(g) {
            for i in 0..LANES {
                sums.add(i, old[i], new[i], g[i]);
            }
        }
        // Separate sums: an index that is not constant would keep the others out of registers.
        let mut tail = Squares([[A::ZERO; LANES]; 3]);
        for (i, ((&old, &new), &g)) in old_tail.iter().zip(new_tail).zip(g_tail).enumerate() {
            tail.add(i, old, new, g);
        }
        for (sums, tail) in sums.0.iter_mut().flatten().zip(tail.0.as_flattened()) {
            *sums += *tail;
        }
        sums
    }
}

/// Adds the statistics of a step of at most [`PAGE`] elements from `old` to `new`.
pub(crate) fn compare<A: Element>(old: &[A], new: &[A], g: &[A], totals: &mut Totals) {
    let mut found = squares(old, new, g).totals();
    // Non-finite gradients make the sum non-finite: only then are they counted.
    if !found.gradient.is_finite() {
        found.non_finite = g.iter().filter(|g| !g.is_finite()).count() as u64;
    }
    *totals += found;
}
