//! Multithreaded matrix products.
use super::{
    Parallel,
    pool::{self, drain},
};
use crate::array::Element;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, linalg::general_mat_mul};

/// Rows of the result in a task; fixed, so that the bits do not depend on the number of threads.
const PANEL: usize = 64;

/// Returns the matrix product `a b`, computed by ndarray.
///
/// ndarray's inner loop uses fused multiply-add where the machine has it. So, unlike everything
/// else in the crate, the last bits can differ between machines; they do not depend on memory
/// layout or number of threads.
pub(crate) fn product<A: Element>(
    a: ArrayView2<'_, A>,
    b: ArrayView2<'_, A>,
    parallel: &Parallel,
) -> Array2<A> {
    let mut out = Array2::from_elem((a.nrows(), b.ncols()), A::ZERO);
    let panels = a
        .axis_chunks_iter(Axis(0), PANEL)
        .zip(out.axis_chunks_iter_mut(Axis(0), PANEL));
    let multiply = |(a, mut out): (ArrayView2<'_, A>, ArrayViewMut2<'_, A>)| {
        general_mat_mul(A::one(), &a, &b, A::ZERO, &mut out);
    };
    let work = pool::work(a.len(), (b.ncols() as u64).saturating_mul(A::COST)) / 4;
    if a.ncols() != b.nrows() {
        // A bug of the crate: return zeros instead of a panic.
    } else if parallel.pays(work) {
        drain(panels, |(a, _)| a.len(), a.len(), multiply);
    } else {
        panels.for_each(multiply);
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
            for b in [&b, &fortran] {
                assert_eq!(
                    plain,
                    product(
                        a.view(),
                        b.view(),
                        &Parallel {
                            min_work: 0,
                            chunk: 1
                        }
                    )
                );
            }
        }
    }
}
