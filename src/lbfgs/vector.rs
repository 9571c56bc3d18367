//! Arithmetic of vectors. Sums are exact, so that they do not depend on the order of elements.
use crate::{
    array::Element,
    kernel::{
        Parallel,
        reduce::{self, Norm, NormSum},
    },
};
use ndarray::aview1;
use std::iter;

pub(super) fn dot<A: Element>(a: &[A], b: &[A]) -> f64 {
    reduce::dot(&aview1(a), &aview1(b))
}

/// The largest absolute value.
pub(super) fn max_abs<A: Element>(a: &[A]) -> f64 {
    reduce::max_abs(&aview1(a)).f64()
}

/// The sum of the absolute values.
pub(super) fn sum_abs<A: Element>(a: &[A]) -> f64 {
    let mut sum = NormSum::new(Norm::L1);
    sum.add_slices(iter::once(a), &Parallel::default());
    sum.value()
}

/// `out = factor a`
pub(super) fn scale<A: Element>(factor: f64, a: &[A], out: &mut [A]) {
    let factor = A::from_f64(factor);
    out.iter_mut()
        .zip(a)
        .for_each(|(out, &a)| *out = factor * a);
}

/// `a <- a + factor b`
pub(super) fn add<A: Element>(a: &mut [A], factor: f64, b: &[A]) {
    let factor = A::from_f64(factor);
    a.iter_mut().zip(b).for_each(|(a, &b)| *a += factor * b);
}

/// `out = a - b`
pub(super) fn difference<A: Element>(a: &[A], b: &[A], out: &mut [A]) {
    let pairs = a.iter().zip(b);
    out.iter_mut()
        .zip(pairs)
        .for_each(|(out, (&a, &b))| *out = a - b);
}

/// `out = x + t d`
pub(super) fn along<A: Element>(x: &[A], t: f64, d: &[A], out: &mut [A]) {
    let t = A::from_f64(t);
    let pairs = x.iter().zip(d);
    out.iter_mut()
        .zip(pairs)
        .for_each(|(out, (&x, &d))| *out = x + t * d);
}
