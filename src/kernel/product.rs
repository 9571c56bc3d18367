//! Multithreaded matrix products.
use super::{
    Parallel,
    pool::{self, drain},
};
use crate::array::Element;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, linalg::general_mat_mul};

/// Rows of the result in a task; fixed, so that the bits do not depend on the number of threads.
const PANEL: usize = 64;

/// Roughly, the floating-point operations of a product in a nanosecond on one thread.
pub(crate) const FLOPS: f64 = 30.0;

/// Some rows of a product.
struct Panel<'a, A> {
    a: ArrayView2<'a, A>,
    b: ArrayView2<'a, A>,
    out: ArrayViewMut2<'a, A>,
}

impl<A: Element> Panel<'_, A> {
    /// The number of products of two elements.
    fn products(&self) -> usize {
        self.a.len().saturating_mul(self.b.ncols())
    }

    fn multiply(mut self) {
        general_mat_mul(A::one(), &self.a, &self.b, A::ZERO, &mut self.out);
    }
}

/// Returns the matrix product `a b`, computed by ndarray.
///
/// ndarray's inner loop uses fused multiply-add where the machine has it. So, unlike everything
/// else in the crate, the last bits can differ between machines; they do not depend on memory
/// layout or number of threads, unless a program enables ndarray's feature `blas`.
pub(crate) fn product<A: Element>(
    a: ArrayView2<'_, A>,
    b: ArrayView2<'_, A>,
    parallel: &Parallel,
) -> Array2<A> {
    multiply(a, b, parallel, false)
}

/// As [`product`], if `a b` is known to be symmetric: half of the work.
pub(crate) fn symmetric_product<A: Element>(
    a: ArrayView2<'_, A>,
    b: ArrayView2<'_, A>,
    parallel: &Parallel,
) -> Array2<A> {
    let mut out = multiply(a, b, parallel, true);
    let n = out.nrows().min(out.ncols());
    for end in (PANEL..n).step_by(PANEL) {
        let (above, below) = out.view_mut().split_at(Axis(0), end);
        let (_, panel) = above.split_at(Axis(0), end - PANEL);
        let (_, right) = panel.split_at(Axis(1), end);
        let (left, _) = below.split_at(Axis(1), end);
        left.split_at(Axis(1), end - PANEL).1.assign(&right.t());
    }
    out
}

/// The product; if it is symmetric, without what is left of the blocks on the diagonal.
fn multiply<A: Element>(
    a: ArrayView2<'_, A>,
    b: ArrayView2<'_, A>,
    parallel: &Parallel,
    symmetric: bool,
) -> Array2<A> {
    let mut out = Array2::from_elem((a.nrows(), b.ncols()), A::ZERO);
    if a.ncols() != b.nrows() {
        // A bug of the crate: return zeros instead of a panic.
        return out;
    }
    let rows = a.axis_chunks_iter(Axis(0), PANEL);
    let outs = out.axis_chunks_iter_mut(Axis(0), PANEL);
    let panels = rows.zip(outs).enumerate().map(|(index, (a, out))| {
        let first = if symmetric { index * PANEL } else { 0 };
        let (b, out) = (b.split_at(Axis(1), first).1, out.split_at(Axis(1), first).1);
        Panel { a, b, out }
    });
    let half = if symmetric { 2 } else { 1 };
    let all = a.len().saturating_mul(b.ncols()) / half;
    if parallel.pays(pool::work(all, A::COST) / 4) {
        drain(panels, Panel::products, all, Panel::multiply);
    } else {
        panels.for_each(Panel::multiply);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ShapeBuilder;

    #[test]
    fn any_layout_and_thread_count_gives_the_same_bits() {
        let f = |(i, j): (usize, usize)| ((i * 7919 + j * 104_729) % 1009) as f64 * 1e-3 - 0.3;
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (64, 65, 63), (150, 70, 190)] {
            let (a, b) = (
                Array2::from_shape_fn((m, k), f),
                Array2::from_shape_fn((k, n), f),
            );
            let fortran = Array2::from_shape_fn((k, n).f(), f);
            let plain = product(a.view(), b.view(), &Parallel::SERIAL);
            assert!(
                (&plain - &a.dot(&b))
                    .iter()
                    .all(|x| x.abs() < 1e-12 * k as f64)
            );
            let serial = Parallel::SERIAL;
            let threads = Parallel {
                min_work: 0,
                chunk: 1,
            };
            let gram = product(a.view(), a.t(), &serial);
            assert_eq!(gram, symmetric_product(a.view(), a.t(), &serial));
            assert_eq!(gram, symmetric_product(a.view(), a.t(), &threads));
            for b in [&b, &fortran] {
                assert_eq!(plain, product(a.view(), b.view(), &threads));
            }
        }
    }
}
