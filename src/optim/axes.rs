//! Products along one axis of an array and decompositions of symmetric matrices, for
//! [`Shampoo`](crate::Shampoo) and [`Soap`](crate::Soap).
//!
//! Decompositions are computed in `f64` for both element types, on one thread.
use super::{flushed, smallest};
use crate::{
    array::Element,
    kernel::{
        Parallel,
        product::{FLOPS, product, symmetric_product},
    },
};
use nalgebra::{DMatrix, SymmetricEigen, linalg::QR};
use ndarray::{Array2, ArrayD, ArrayView2, ArrayView3, ArrayViewD, Axis, CowArray, Ix2};

/// The axes that have a preconditioner.
pub fn preconditioned_axes(shape: &[usize], max_dim: usize, precondition_1d: bool) -> Vec<usize> {
    let axes = if shape.len() > 1 || precondition_1d {
        0..shape.len()
    } else {
        0..0
    };
    axes.filter(|&axis| shape[axis] <= max_dim).collect()
}

/// The approximate time in nanoseconds of a preconditioned step whose decompositions are computed
/// every `frequency` steps.
pub fn preconditioner_cost(shape: &[usize], axes: &[usize], frequency: u64) -> f64 {
    let size: f64 = shape.iter().map(|&n| n as f64).product();
    let of_axis = |&axis: &usize| {
        let n = shape[axis] as f64;
        let products = 5.0 * size * n / FLOPS;
        // Decompositions take about as long as 100 products of the matrix with itself.
        products + 200.0 * n * n * n / FLOPS / frequency as f64
    };
    axes.iter().map(of_axis).sum()
}

/// The length of an axis, between the numbers of elements of the axes before it and after it.
fn split_shape(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (
        shape[..axis].iter().product(),
        shape[axis],
        shape[axis + 1..].iter().product(),
    )
}

/// Unfolds a row-major array to a matrix: the axis becomes the rows, all others together the
/// columns. It copies only for an axis in the middle.
fn unfold<'a, A: Element>(x: &'a ArrayViewD<'_, A>, axis: usize) -> Option<CowArray<'a, A, Ix2>> {
    let (before, n, after) = split_shape(x.shape(), axis);
    let x = ArrayView3::from_shape((before, n, after), x.as_slice()?).ok()?;
    Some(match (before, after) {
        (_, 1) => x.index_axis_move(Axis(2), 0).reversed_axes().into(),
        (1, _) => x.index_axis_move(Axis(0), 0).into(),
        _ => {
            let rows = x.permuted_axes([1, 0, 2]).as_standard_layout().into_owned();
            rows.into_shape_with_order((n, before * after)).ok()?.into()
        }
    })
}

/// The Gram matrix `X X^T` of the unfolded array: inner products of its slices across the axis.
pub fn gram<A: Element>(
    x: &ArrayViewD<'_, A>,
    axis: usize,
    parallel: &Parallel,
) -> Option<Array2<A>> {
    let x = unfold(x, axis)?;
    Some(symmetric_product(x.view(), x.t(), parallel))
}

/// Multiplies along an axis: `y[.., j, ..]` is the sum over i of `by[i, j] x[.., i, ..]`.
pub fn along<A: Element>(
    x: &ArrayD<A>,
    axis: usize,
    by: ArrayView2<'_, A>,
    parallel: &Parallel,
) -> Option<ArrayD<A>> {
    let (before, n, after) = split_shape(x.shape(), axis);
    let view = x.view();
    let rows = unfold(&view, axis)?;
    let y = if after == 1 {
        product(rows.t(), by, parallel)
    } else {
        product(by.t(), rows.view(), parallel)
    };
    if after == 1 || before == 1 {
        return y.into_shape_with_order(x.raw_dim()).ok();
    }
    let y = y
        .into_shape_with_order((n, before, after))
        .ok()?
        .permuted_axes([1, 0, 2]);
    y.as_standard_layout()
        .into_owned()
        .into_shape_with_order(x.raw_dim())
        .ok()
}

/// `sum <- keep sum + take new`, skipped if the result would not be finite: a gradient whose
/// squares overflow must not make every later sum non-finite.
pub fn accumulate<A: Element>(sum: &mut ArrayD<A>, new: Array2<A>, keep: A, take: A) {
    let mut new = new.into_dyn();
    new.zip_mut_with(sum, |new, &sum| {
        *new = flushed(keep * sum + take * *new, smallest())
    });
    if new.iter().all(|x| x.is_finite()) {
        *sum = new;
    }
}

/// A view of an array with two axes.
pub fn matrix<A>(array: &ArrayD<A>) -> Option<ArrayView2<'_, A>> {
    array.view().into_dimensionality().ok()
}

/// The eigenvalues in descending order and the eigenvectors as columns. `None` if an element is
/// non-finite or the iteration does not converge.
fn eigen<A: Element>(symmetric: ArrayView2<'_, A>) -> Option<(Vec<f64>, Array2<f64>)> {
    let n = symmetric.nrows();
    let matrix = DMatrix::from_fn(n, n, |i, j| {
        0.5 * (symmetric[[i, j]].f64() + symmetric[[j, i]].f64())
    });
    if !matrix.iter().all(|x| x.is_finite()) {
        return None;
    }
    if n == 0 {
        return Some((Vec::new(), Array2::zeros((0, 0))));
    }
    // Two or three iterations per eigenvalue are usual, whatever the rank.
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, 30 * n)?;
    let order = descending(eigen.eigenvalues.as_slice());
    let values = order.iter().map(|&k| eigen.eigenvalues[k]).collect();
    finite(Array2::from_shape_fn((n, n), |(i, j)| {
        eigen.eigenvectors[(i, order[j])]
    }))
    .map(|vectors| (values, vectors))
}

/// The indices that sort `values` in descending order.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    order
}

/// The matrix, if all its elements are finite.
fn finite<A: Element>(matrix: Array2<A>) -> Option<Array2<A>> {
    matrix.iter().all(|x| x.is_finite()).then_some(matrix)
}

/// `(symmetric + eps I)^-exponent`. Eigenvalues below the rounding error of the largest one are
/// raised to that floor. With `eps = 0` the root of a zero matrix is zero.
pub fn inverse_root<A: Element>(
    symmetric: ArrayView2<'_, A>,
    exponent: f64,
    eps: f64,
    parallel: &Parallel,
) -> Option<ArrayD<A>> {
    let (values, vectors) = eigen(symmetric)?;
    let floor = values.len() as f64 * A::epsilon().f64() * values.first()?.max(0.0);
    let power = |value: f64| {
        if value > 0.0 {
            libm::pow(value, -exponent)
        } else {
            0.0
        }
    };
    let mut scaled = vectors.clone();
    for (mut column, value) in scaled.columns_mut().into_iter().zip(values) {
        let factor = power(value.max(floor) + eps);
        column.mapv_inplace(|x| x * factor);
    }
    finite(product(scaled.view(), vectors.t(), parallel).mapv(A::from_f64)).map(Array2::into_dyn)
}

/// The eigenvectors as columns, in descending order of their eigenvalues.
pub fn eigenbasis<A: Element>(symmetric: ArrayView2<'_, A>) -> Option<ArrayD<A>> {
    eigen(symmetric).map(|(_, vectors)| vectors.mapv(A::from_f64).into_dyn())
}

/// One step of power iteration towards the eigenvectors. Returns the order that sorts the columns
/// of `basis` by their estimated eigenvalues, and the new orthogonal basis in that order.
pub fn power_iteration<A: Element>(
    symmetric: ArrayView2<'_, A>,
    basis: ArrayView2<'_, A>,
    parallel: &Parallel,
) -> Option<(Vec<usize>, ArrayD<A>)> {
    let n = basis.nrows();
    let basis = basis.mapv(A::f64);
    let turned = product(symmetric.mapv(A::f64).view(), basis.view(), parallel);
    let estimates: Vec<f64> = basis
        .columns()
        .into_iter()
        .zip(turned.columns())
        .map(|(q, c)| q.dot(&c))
        .collect();
    let order = descending(&estimates);
    // Scaled, so that squares in the decomposition neither overflow nor underflow.
    let top = turned
        .iter()
        .fold(f64::MIN_POSITIVE, |top, x| top.max(x.abs()));
    let q = QR::new(DMatrix::from_fn(n, n, |i, j| turned[[i, order[j]]] / top)).q();
    let basis = finite(Array2::from_shape_fn((n, n), |at| A::from_f64(q[at])))?;
    Some((order, basis.into_dyn()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of few outer products have many eigenvalues that are zero up to rounding: the hard case
    /// for convergence.
    #[test]
    fn decompositions_hold_for_every_rank() {
        let number = |i: usize| ((i * 7919 + 13) % 1009) as f64 / 500.0 - 1.0;
        for n in (0..=12).chain([40]) {
            for rank in (0..=n.min(6)).chain([n]) {
                for scale in [1e-150, 1e-9, 1.0, 1e100] {
                    let x = Array2::from_shape_fn((n, rank), |(i, j)| {
                        scale * number(i * rank + j * j + n)
                    });
                    let sum = x.dot(&x.t());
                    let (values, vectors) = eigen(sum.view()).unwrap();
                    let top = sum.iter().fold(0.0_f64, |top, x| top.max(x.abs()));
                    let turned = vectors.t().dot(&sum).dot(&vectors);
                    let unit = vectors.t().dot(&vectors);
                    let q = power_iteration(sum.view(), vectors.view(), &Parallel::SERIAL)
                        .unwrap()
                        .1;
                    let q = matrix(&q).unwrap();
                    let q_unit = q.t().dot(&q);
                    for ((i, j), x) in turned.indexed_iter() {
                        let (value, one) = if i == j { (values[i], 1.0) } else { (0.0, 0.0) };
                        assert!(
                            (x - value).abs() <= 1e-13 * top * n as f64,
                            "{n} {rank} {scale}"
                        );
                        assert!((unit[[i, j]] - one).abs() < 1e-13 * n as f64);
                        assert!((q_unit[[i, j]] - one).abs() < 1e-13 * n as f64);
                    }
                    assert!(values.is_sorted_by(|a, b| a >= b));
                }
            }
        }
    }

    #[test]
    fn products_along_each_axis_match_their_definition() {
        let x = ArrayD::from_shape_fn(vec![3, 4, 2, 5], |at| {
            (at[0] * 40 + at[1] * 10 + at[2] * 5 + at[3]) as f64
        });
        for axis in 0..4 {
            let n = x.shape()[axis];
            let by = Array2::from_shape_fn((n, n), |(i, j)| (3 * i + j * j) as f64 - 4.0);
            let y = along(&x, axis, by.view(), &Parallel::SERIAL).unwrap();
            let sums = gram(&x.view(), axis, &Parallel::SERIAL).unwrap();
            for j in 0..n {
                let mut sum = x.index_axis(Axis(axis), 0).mapv(|_| 0.0);
                for i in 0..n {
                    sum.scaled_add(by[[i, j]], &x.index_axis(Axis(axis), i));
                    let dot = (&x.index_axis(Axis(axis), i) * &x.index_axis(Axis(axis), j)).sum();
                    assert_eq!(sums[[i, j]], dot);
                }
                assert_eq!(y.index_axis(Axis(axis), j), sum);
            }
        }
    }

    #[test]
    fn non_finite_matrices_have_no_decomposition() {
        for bad in [f64::NAN, f64::INFINITY] {
            let matrix = Array2::from_elem((3, 3), bad);
            assert!(eigenbasis(matrix.view()).is_none());
            assert!(inverse_root(matrix.view(), 0.25, 1e-6, &Parallel::SERIAL).is_none());
            assert!(
                power_iteration(matrix.view(), Array2::eye(3).view(), &Parallel::SERIAL).is_none()
            );
            let mut sum = Array2::eye(3).into_dyn();
            accumulate(&mut sum, matrix, 1.0, 1.0);
            assert_eq!(sum, Array2::<f64>::eye(3).into_dyn());
        }
    }
}
