//! Elements of arrays of any memory layout in row-major order.
use super::{Element, layout::six_axes};
use ndarray::{ArrayView2, ArrayViewD, ArrayViewMutD, Axis};
use std::{cmp::Reverse, convert::Infallible};

/// Calls `each` with consecutive slices of the elements in row-major order, until it fails.
pub(crate) fn try_row_major<A: Element, E>(
    array: ArrayViewD<'_, A>,
    each: &mut impl FnMut(&[A]) -> Result<(), E>,
) -> Result<(), E> {
    match array.as_slice() {
        Some(slice) => each(slice),
        None => strided(array, &mut Vec::new(), each),
    }
}

/// Returns the elements in row-major order.
pub(crate) fn row_major<A: Element>(array: ArrayViewD<'_, A>) -> Vec<A> {
    let mut all = Vec::with_capacity(array.len());
    let Ok(()) = try_row_major(array, &mut |slice| {
        all.extend_from_slice(slice);
        Ok::<_, Infallible>(())
    });
    all
}

/// Copies tiles of several rows into row-major order. Row by row, a column-major array would load a
/// cache line, and often a page, for each element.
fn strided<A: Element, E>(
    array: ArrayViewD<'_, A>,
    tile: &mut Vec<A>,
    each: &mut impl FnMut(&[A]) -> Result<(), E>,
) -> Result<(), E> {
    /// Number of elements in a tile, so that it fits in the second-level cache.
    const TILE: usize = 1 << 16;
    /// Minimum number of rows of a tile, as long as it has at most `MOST` elements.
    const ROWS: usize = 32;
    const MOST: usize = 1 << 21;
    let row = array.len() / array.shape().first().map_or(1, |&n| n.max(1));
    let most = if array
        .strides()
        .first()
        .is_some_and(|stride| stride.unsigned_abs() >= row)
    {
        TILE
    } else {
        MOST / 8
    };
    if array.ndim() > 1 && row > most {
        return array
            .outer_iter()
            .try_for_each(|part| strided(part, tile, each));
    }
    let mut axes: Vec<usize> = (0..array.ndim()).collect();
    axes.sort_by_key(|&axis| Reverse(array.strides()[axis].unsigned_abs()));
    let rows = (TILE / row.max(1)).max(ROWS.min(MOST / row.max(1))).max(1);
    for part in array.axis_chunks_iter(Axis(0), rows) {
        tile.resize(part.len(), A::ZERO);
        // The tile has as many elements as the part.
        if let Some(matrix) = part
            .view()
            .into_dimensionality()
            .ok()
            .filter(|matrix: &ArrayView2<'_, A>| matrix.strides()[0] == 1)
        {
            gather(matrix, tile);
        } else if let Ok(tiled) = ArrayViewMutD::from_shape(part.raw_dim(), tile) {
            let (mut tiled, part) = (tiled.permuted_axes(&*axes), part.permuted_axes(&*axes));
            // Assigning is faster with a static number of axes.
            match (six_axes(tiled.view_mut()), six_axes(part.view())) {
                (Some(mut tiled), Some(part)) => tiled.assign(&part),
                _ => tiled.assign(&part),
            }
        }
        each(tile)?;
    }
    Ok(())
}

/// Copies the rows of a matrix whose columns are slices.
fn gather<A: Element>(matrix: ArrayView2<'_, A>, rows: &mut [A]) {
    /// Side of the squares that are transposed: a cache line of `f32`.
    const LINE: usize = 16;
    let width = matrix.ncols();
    for (first, columns) in (0..)
        .step_by(LINE)
        .zip(matrix.axis_chunks_iter(Axis(1), LINE))
    {
        let mut slices: [&[A]; LINE] = [&[]; LINE];
        for (slice, column) in slices.iter_mut().zip(columns.columns()) {
            *slice = column.to_slice().unwrap_or_default();
        }
        for (top, rows) in (0..).step_by(LINE).zip(rows.chunks_mut(LINE * width)) {
            let mut square = [[A::ZERO; LINE]; LINE];
            for (line, column) in square.iter_mut().zip(slices) {
                let column = column.get(top..).unwrap_or_default();
                match column.first_chunk() {
                    Some(whole) => *line = *whole,
                    None => line.iter_mut().zip(column).for_each(|(x, &from)| *x = from),
                }
            }
            for (i, row) in (0..LINE).zip(rows.chunks_exact_mut(width)) {
                match row[first..].first_chunk_mut::<LINE>() {
                    Some(whole) => whole
                        .iter_mut()
                        .zip(&square)
                        .for_each(|(x, line)| *x = line[i]),
                    None => row[first..]
                        .iter_mut()
                        .zip(&square)
                        .for_each(|(x, line)| *x = line[i]),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, IxDyn, ShapeBuilder, Slice};

    #[test]
    fn rows_come_in_order_whatever_the_memory() {
        let shapes: [&[usize]; 8] = [
            &[3, 300_000],
            &[70_000, 3],
            &[400, 401],
            &[0, 5],
            &[2, 300, 700],
            &[5],
            &[1, 1],
            &[2, 3, 1, 2, 3, 2, 2],
        ];
        for shape in shapes {
            let mut number = 0_u32;
            let fortran = Array::from_shape_simple_fn(IxDyn(shape).f(), || {
                number += 1;
                number as f32
            });
            let every_other = fortran.slice_axis(Axis(shape.len() - 1), Slice::new(0, None, 2));
            let mut reversed = fortran.view();
            reversed.invert_axis(Axis(0));
            for view in [
                fortran.view(),
                fortran.t(),
                every_other,
                reversed.view(),
                reversed.t(),
            ] {
                let expected: Vec<f32> = view.iter().copied().collect();
                assert_eq!(
                    row_major(view.view()),
                    expected,
                    "{:?} {:?}",
                    view.shape(),
                    view.strides()
                );
            }
        }
    }
}
