//! Arrays whose element type is known at run time only, and how they become memory in row-major order.
use super::{Element, layout::six_axes};
use ndarray::{ArrayD, ArrayView2, ArrayViewD, ArrayViewMutD, Axis, CowArray, IxDyn};
use std::{cmp::Reverse, convert::Infallible, fmt, mem};

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum ElementType {
    /// `f32`.
    F32,
    /// `f64`.
    F64,
}

impl ElementType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            ElementType::F32 => 4,
            ElementType::F64 => 8,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElementType::F32 => "f32",
            ElementType::F64 => "f64",
        })
    }
}

/// An array of either element type, owned or borrowed, in any memory order.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::state::{Data, ElementType};
///
/// let data = Data::from(array![1.0_f32, 2.0].into_dyn());
/// assert_eq!((data.element(), data.shape()), (ElementType::F32, &[2][..]));
/// assert_eq!(data.view::<f32>(), Some(array![1.0, 2.0].view().into_dyn()));
/// assert_eq!(data.view::<f64>(), None);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Data<'a> {
    /// Of `f32`.
    F32(CowArray<'a, f32, IxDyn>),
    /// Of `f64`.
    F64(CowArray<'a, f64, IxDyn>),
}

/// Does the same with the array of either type.
macro_rules! either {
    ($data:expr, $array:ident => $do:expr) => {
        match $data {
            $crate::kernel::Data::F32($array) => $do,
            $crate::kernel::Data::F64($array) => $do,
        }
    };
}
pub(crate) use either;

impl<'a> Data<'a> {
    /// The element type.
    pub fn element(&self) -> ElementType {
        match self {
            Data::F32(_) => ElementType::F32,
            Data::F64(_) => ElementType::F64,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        either!(self, array => array.shape())
    }

    /// How many bytes its elements are.
    pub fn bytes(&self) -> usize {
        either!(self, array => array.len()) * self.element().size()
    }

    /// The array, if it is one of `A`.
    pub fn view<A: Element>(&self) -> Option<ArrayViewD<'_, A>> {
        A::recover(self).map(|array| array.view())
    }

    /// The array itself, if it is one of `A`.
    pub fn into_array<A: Element>(self) -> Option<CowArray<'a, A, IxDyn>> {
        A::recover_owned(self)
    }

    /// The same, borrowed.
    pub fn borrow(&self) -> Data<'_> {
        either!(self, array => array.view().into())
    }

    /// A copy.
    pub fn to_owned(&self) -> Data<'static> {
        either!(self, array => array.to_owned().into())
    }

    /// Leaves an empty array behind.
    pub(crate) fn take(&mut self) -> Data<'a> {
        mem::replace(self, ArrayD::<f32>::zeros(IxDyn(&[0])).into())
    }
}

impl<A: Element> From<ArrayD<A>> for Data<'_> {
    fn from(array: ArrayD<A>) -> Self {
        A::erase(array.into())
    }
}

impl<'a, A: Element> From<ArrayViewD<'a, A>> for Data<'a> {
    fn from(array: ArrayViewD<'a, A>) -> Self {
        A::erase(array.into())
    }
}

/// Gives `each` the elements in row-major order, one piece of memory after another, until it fails.
pub(crate) fn try_row_major<A: Element, E>(
    array: ArrayViewD<'_, A>,
    each: &mut impl FnMut(&[A]) -> Result<(), E>,
) -> Result<(), E> {
    match array.as_slice() {
        Some(slice) => each(slice),
        None => strided(array, &mut Vec::new(), each),
    }
}

/// The elements in row-major order.
pub(crate) fn row_major<A: Element>(array: ArrayViewD<'_, A>) -> Vec<A> {
    let mut all = Vec::with_capacity(array.len());
    let Ok(()) = try_row_major(array, &mut |slice| {
        all.extend_from_slice(slice);
        Ok::<_, Infallible>(())
    });
    all
}

/// Brings tiles of several rows into row-major order. Row by row, a column-major array would load a cache line, and often a page,
/// for each element.
fn strided<A: Element, E>(
    array: ArrayViewD<'_, A>,
    tile: &mut Vec<A>,
    each: &mut impl FnMut(&[A]) -> Result<(), E>,
) -> Result<(), E> {
    /// Elements of a tile, so that it fits into the second-level cache; rows that it has all the same, up to so many elements.
    const TILE: usize = 1 << 16;
    const ROWS: usize = 32;
    const MOST: usize = 1 << 21;
    let row = array.len() / array.shape().first().map_or(1, |&n| n.max(1));
    let most = if array.strides().first().is_some_and(|stride| stride.unsigned_abs() >= row) { TILE } else { MOST / 8 };
    if array.ndim() > 1 && row > most {
        return array.outer_iter().try_for_each(|part| strided(part, tile, each));
    }
    let mut axes: Vec<usize> = (0..array.ndim()).collect();
    axes.sort_by_key(|&axis| Reverse(array.strides()[axis].unsigned_abs()));
    let rows = (TILE / row.max(1)).max(ROWS.min(MOST / row.max(1))).max(1);
    for part in array.axis_chunks_iter(Axis(0), rows) {
        tile.resize(part.len(), A::ZERO);
        // It has as many elements as the part.
        if let Some(matrix) =
            part.view().into_dimensionality().ok().filter(|matrix: &ArrayView2<'_, A>| matrix.strides()[0] == 1)
        {
            gather(matrix, tile);
        } else if let Ok(tiled) = ArrayViewMutD::from_shape(part.raw_dim(), tile) {
            let (mut tiled, part) = (tiled.permuted_axes(&*axes), part.permuted_axes(&*axes));
            // A known number of axes is faster.
            match (six_axes(tiled.view_mut()), six_axes(part.view())) {
                (Some(mut tiled), Some(part)) => tiled.assign(&part),
                _ => tiled.assign(&part),
            }
        }
        each(tile)?;
    }
    Ok(())
}

/// Rows of a matrix whose columns are slices.
fn gather<A: Element>(matrix: ArrayView2<'_, A>, rows: &mut [A]) {
    /// Squares of so many rows and columns: a cache line of each.
    const LINE: usize = 16;
    let width = matrix.ncols();
    for (first, columns) in (0..).step_by(LINE).zip(matrix.axis_chunks_iter(Axis(1), LINE)) {
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
                    Some(whole) => whole.iter_mut().zip(&square).for_each(|(x, line)| *x = line[i]),
                    None => row[first..].iter_mut().zip(&square).for_each(|(x, line)| *x = line[i]),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, ShapeBuilder, Slice};

    #[test]
    fn rows_come_in_order_whatever_the_memory() {
        let shapes: [&[usize]; 8] =
            [&[3, 300_000], &[70_000, 3], &[400, 401], &[0, 5], &[2, 300, 700], &[5], &[1, 1], &[2, 3, 1, 2, 3, 2, 2]];
        for shape in shapes {
            let mut number = 0_u32;
            let fortran = Array::from_shape_simple_fn(IxDyn(shape).f(), || {
                number += 1;
                number as f32
            });
            let every_other = fortran.slice_axis(Axis(shape.len() - 1), Slice::new(0, None, 2));
            let mut reversed = fortran.view();
            reversed.invert_axis(Axis(0));
            for view in [fortran.view(), fortran.t(), every_other, reversed.view(), reversed.t()] {
                let expected: Vec<f32> = view.iter().copied().collect();
                assert_eq!(row_major(view.view()), expected, "{:?} {:?}", view.shape(), view.strides());
            }
        }
    }
}
