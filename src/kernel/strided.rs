//! Steps over arrays that are not one slice: strided arrays, or several memory orders.
//!
//! The state is contiguous and the views are arranged to follow it, so that each row of a view
//! corresponds to a slice of the state. Rows that are slices are processed in place. Other elements
//! are copied to a tile on the stack and back: every layout uses the same vectorized loop, which is
//! faster than a scalar loop over strides and gives the same bits.
use super::Arrays;
use crate::array::{Element, layout::AXES};
use ndarray::{
    ArrayBase, ArrayView, ArrayView1, ArrayView6, ArrayViewMut, ArrayViewMut1, ArrayViewMut6, Axis,
    Dimension, Ix2, Ix6, RawData, ShapeBuilder, StrideShape,
};
use std::array::from_fn;

/// Number of elements in a piece that is copied as a whole.
const PIECE: usize = 4096;
/// Number of elements in the tiles of larger arrays whose fastest axes differ: they hold rows of a
/// page, which the processor fetches ahead.
const WIDE: usize = ROWS * (1024 + GAP);
/// Minimum number of rows in such a tile, of which a lane takes whole cache lines: with half of it,
/// a gradient in another order takes up to twice as long.
const ROWS: usize = 32;
/// Elements between the rows of a tile: rows at a distance of a power of two would evict each other
/// from the cache.
const GAP: usize = 16;
/// Number of elements of a lane with gaps that are copied together.
const LANE: usize = 1024;
/// Shorter rows are gathered in a tile.
const LONG_ROW: usize = 32;
/// The fastest axis of the state.
const LAST: Axis = Axis(AXES - 1);

/// Calls `work` with slices of all three; the memory order of `state` is that of the rows of `p`
/// and `g`.
pub(crate) fn for_each_slice<A: Element>(
    work: &mut impl FnMut(&mut [A], &[A], Arrays<'_, A>),
    mut p: ArrayViewMut6<'_, A>,
    mut g: ArrayView6<'_, A>,
    state: Arrays<'_, A>,
) {
    merge(&mut p, &mut g);
    let fastest = [
        fastest_axis(p.shape(), p.strides()),
        fastest_axis(g.shape(), g.strides()),
    ];
    let axis = fastest.into_iter().find(|&axis| axis != LAST);
    let are_slices = p.stride_of(LAST) == 1 && g.stride_of(LAST) == 1;
    let long = if are_slices { LONG_ROW } else { LANE / 2 };
    if p.is_empty() {
        return;
    }
    if let Some(axis) = axis.filter(|_| p.len() > WIDE / 2) {
        // As many bytes for both types.
        if size_of::<A>() == size_of::<f32>() {
            with_tile::<A, _, WIDE>(work, |mut tile| tile.across(axis, p, g, state));
        } else {
            with_tile::<A, _, { WIDE / 2 }>(work, |mut tile| tile.across(axis, p, g, state));
        }
    } else if axis.is_none() && p.len_of(LAST) >= long {
        with_tile::<A, _, { 2 * LANE }>(work, |mut tile| tile.lanes(p, g, state));
    } else {
        with_tile::<A, _, { 2 * PIECE }>(work, |mut tile| tile.pieces(p, g, state));
    }
}

/// Calls `run` with a tile of `N` elements. A function of its own, so that only this tile is on the
/// stack.
#[inline(never)]
fn with_tile<A: Element, W, const N: usize>(work: &mut W, run: impl FnOnce(Tile<'_, A, W>)) {
    let memory = &mut [A::ZERO; N];
    run(Tile { work, memory });
}

/// The axis with the smallest stride.
fn fastest_axis(shape: &[usize], strides: &[isize]) -> Axis {
    let long = (0..AXES).rev().filter(|&k| shape[k] > 1);
    Axis(
        long.min_by_key(|&k| strides[k].unsigned_abs())
            .unwrap_or(AXES - 1),
    )
}

/// Merges axes into the last one as far as both arrays allow.
fn merge<A>(p: &mut ArrayViewMut6<'_, A>, g: &mut ArrayView6<'_, A>) {
    let fits = |n: usize, into: usize, stride: isize, last: isize| {
        n <= 1 || into <= 1 || stride == into as isize * last
    };
    for k in (0..AXES - 1).rev() {
        let (n, into) = (p.shape()[k], p.len_of(LAST));
        if !fits(n, into, p.strides()[k], p.stride_of(LAST))
            || !fits(n, into, g.strides()[k], g.stride_of(LAST))
        {
            break;
        }
        p.merge_axes(Axis(k), LAST);
        g.merge_axes(Axis(k), LAST);
    }
}

struct Tile<'w, A, W> {
    work: &'w mut W,
    memory: &'w mut [A],
}

impl<A: Element, W: FnMut(&mut [A], &[A], Arrays<'_, A>)> Tile<'_, A, W> {
    /// Processes lanes along the last axis of all arrays.
    fn lanes(
        &mut self,
        mut p: ArrayViewMut6<'_, A>,
        g: ArrayView6<'_, A>,
        mut state: Arrays<'_, A>,
    ) {
        for (mut p, g) in p.lanes_mut(LAST).into_iter().zip(g.lanes(LAST)) {
            let (mut lane, rest) = state.split_at(p.len());
            state = rest;
            if let (Some(p), Some(g)) = (p.as_slice_mut(), g.to_slice()) {
                (self.work)(p, g, lane);
                continue;
            }
            let parts = p.axis_chunks_iter_mut(Axis(0), LANE);
            for (p, g) in parts.zip(g.axis_chunks_iter(Axis(0), LANE)) {
                let (part, rest) = lane.split_at(p.len());
                lane = rest;
                self.piece(p, g, part);
            }
        }
    }

    /// Processes a piece whose state is contiguous and of which two fit in the memory.
    fn piece<D: Dimension>(
        &mut self,
        mut p: ArrayViewMut<'_, A, D>,
        g: ArrayView<'_, A, D>,
        state: Arrays<'_, A>,
    ) {
        let (shape, n) = (p.raw_dim(), p.len());
        let (tile_p, tile_g) = self.memory.split_at_mut(self.memory.len() / 2);
        let (tile_p, tile_g) = (&mut tile_p[..n], &mut tile_g[..n]);
        let g = match g.to_slice() {
            Some(g) => g,
            None => {
                if let Ok(mut tile) = ArrayViewMut::from_shape(shape.clone(), &mut *tile_g) {
                    tile.assign(&g);
                }
                tile_g
            }
        };
        if let Some(p) = p.as_slice_mut() {
            (self.work)(p, g, state);
        } else if let Ok(mut tile) = ArrayViewMut::from_shape(shape, &mut *tile_p) {
            tile.assign(&p);
            if let Some(tile) = tile.as_slice_mut() {
                (self.work)(tile, g, state);
            }
            p.assign(&tile);
        }
    }

    /// Processes pieces that fit in the tile, each contiguous in the state.
    fn pieces(&mut self, p: ArrayViewMut6<'_, A>, g: ArrayView6<'_, A>, state: Arrays<'_, A>) {
        if p.len() > PIECE {
            let (a, b) = split_slowest_axis(p, g, state);
            self.pieces(a.0, a.1, a.2);
            return self.pieces(b.0, b.1, b.2);
        }
        self.piece(p, g, state);
    }

    /// Processes tiles of some rows along `axis`, the fastest of one array, by a part of the last
    /// axis, the fastest of the state.
    fn across(
        &mut self,
        axis: Axis,
        p: ArrayViewMut6<'_, A>,
        g: ArrayView6<'_, A>,
        mut state: Arrays<'_, A>,
    ) {
        let slowest = (0..AXES).find(|&k| p.shape()[k] > 1).unwrap_or(AXES - 1);
        let (rows, width) = (p.len_of(axis), p.len() / p.len_of(axis));
        if slowest == axis.index() && rows <= ROWS.max(2 * PIECE / (width + GAP)) {
            self.columns(axis, p, g, &mut state, width, 0);
        } else if p.len() <= PIECE {
            self.pieces(p, g, state);
        } else {
            let (a, b) = split_slowest_axis(p, g, state);
            self.across(axis, a.0, a.1, a.2);
            self.across(axis, b.0, b.1, b.2);
        }
    }

    /// How many elements a tile can have: it is divided if the parameter is copied as well.
    fn room(&self, p: &ArrayViewMut6<'_, A>, axis: Axis) -> usize {
        self.memory.len() / if is_copied(p, axis) { 2 } else { 1 }
    }

    /// Processes some rows along `axis`; the state of each row has length `row`, and `p` and `g`
    /// begin at its index `start`.
    fn columns(
        &mut self,
        axis: Axis,
        mut p: ArrayViewMut6<'_, A>,
        g: ArrayView6<'_, A>,
        state: &mut Arrays<'_, A>,
        row: usize,
        start: usize,
    ) {
        let width = p.len() / p.len_of(axis);
        let (pitch, room) = (width + GAP, self.room(&p, axis));
        if p.len_of(axis) * pitch > room {
            let next = (axis.index() + 1..AXES)
                .find(|&k| p.shape()[k] > 1)
                .unwrap_or(AXES - 1);
            let at = p.shape()[next] / 2;
            let ((p, p1), (g, g1)) = (p.split_at(Axis(next), at), g.split_at(Axis(next), at));
            let left = width / (p.shape()[next] + p1.shape()[next]) * at;
            self.columns(axis, p, g, state, row, start);
            return self.columns(axis, p1, g1, state, row, start + left);
        }
        let (tile_g, tile_p) = self.memory.split_at_mut(room);
        gather(&g, axis, tile_g, pitch);
        let copied = is_copied(&p, axis);
        if copied {
            gather(&p.view(), axis, tile_p, pitch);
        }
        for (i, mut p) in p.axis_iter_mut(axis).enumerate() {
            let (in_tile, in_state) = (i * pitch, i * row + start);
            let p = match p.as_slice_mut() {
                Some(p) if !copied => p,
                _ => &mut tile_p[in_tile..in_tile + width],
            };
            let g = &tile_g[in_tile..in_tile + width];
            (self.work)(p, g, state.part(in_state..in_state + width));
        }
        if copied {
            scatter(tile_p, axis, &mut p, pitch);
        }
    }
}

/// Whether the rows of a parameter along `axis` are not slices.
fn is_copied<A>(p: &ArrayViewMut6<'_, A>, axis: Axis) -> bool {
    !p.index_axis(axis, 0).is_standard_layout()
}

pub(super) type Piece<'a, A> = (ArrayViewMut6<'a, A>, ArrayView6<'a, A>, Arrays<'a, A>);

/// Whether a piece of more than `chunk` elements is split for threads: fewer rows than a tile has
/// would be slower, unless they are long.
pub(super) fn is_large<A>(p: &ArrayViewMut6<'_, A>, chunk: usize) -> bool {
    let rows = p.shape().iter().find(|&&n| n > 1).copied();
    p.len() > chunk && (rows.unwrap_or(1) > ROWS || p.len() > chunk.saturating_mul(8))
}

/// Splits a piece in half along its slowest axis, so that the state of each half stays contiguous.
/// The piece must have at least two elements.
pub(super) fn split_slowest_axis<'a, A>(
    p: ArrayViewMut6<'a, A>,
    g: ArrayView6<'a, A>,
    state: Arrays<'a, A>,
) -> (Piece<'a, A>, Piece<'a, A>) {
    let axis = (0..AXES).find(|&k| p.shape()[k] > 1).unwrap_or(AXES - 1);
    let n = p.shape()[axis];
    // Whole tiles of rows, whose lanes are then whole cache lines.
    let at = if n > ROWS {
        (n / 2).next_multiple_of(ROWS)
    } else {
        n / 2
    };
    let ((p, p1), (g, g1)) = (p.split_at(Axis(axis), at), g.split_at(Axis(axis), at));
    let (s, s1) = state.split_at(p.len());
    ((p, g, s), (p1, g1, s1))
}

/// Copies a view to `tile`, reading along `axis`, its slowest one. Rows along `axis` begin `pitch`
/// elements apart.
fn gather<A: Element>(from: &ArrayView6<'_, A>, axis: Axis, tile: &mut [A], pitch: usize) {
    if !is_transposed(from.shape(), from.strides(), axis) {
        let mut from = from.view();
        if let Ok(mut tile) = ArrayViewMut6::from_shape(arrangement(&from, axis, pitch), tile) {
            tile.swap_axes(axis.index(), LAST.index());
            from.swap_axes(axis.index(), LAST.index());
            tile.assign(&from);
        }
        return;
    }
    fn slice<A>(lane: ArrayView1<'_, A>) -> &[A] {
        lane.to_slice().unwrap_or_default()
    }
    let size = [from.len() / from.len_of(axis), pitch];
    match plane(from.view(), axis) {
        Some(plane) => transpose(plane.axis_iter(Axis(1)).map(slice), tile, size),
        None => transpose(from.lanes(axis).into_iter().map(slice), tile, size),
    }
}

/// Copies the rows of a tile, as [`gather`] arranges them, to a view.
fn scatter<A: Element>(tile: &[A], axis: Axis, to: &mut ArrayViewMut6<'_, A>, pitch: usize) {
    if !is_transposed(to.shape(), to.strides(), axis) {
        if let Ok(tile) = ArrayView6::from_shape(arrangement(to, axis, pitch), tile) {
            to.assign(&tile);
        }
        return;
    }
    fn slice<A>(lane: ArrayViewMut1<'_, A>) -> &mut [A] {
        lane.into_slice().unwrap_or_default()
    }
    let size = [to.len() / to.len_of(axis), pitch];
    match plane(to.view_mut(), axis) {
        Some(mut plane) => transpose_back(plane.axis_iter_mut(Axis(1)).map(slice), tile, size),
        None => transpose_back(to.lanes_mut(axis).into_iter().map(slice), tile, size),
    }
}

/// The shape of an array, and its strides in a tile.
fn arrangement<S: RawData>(
    array: &ArrayBase<S, Ix6>,
    axis: Axis,
    pitch: usize,
) -> StrideShape<Ix6> {
    let (mut strides, mut next) = (array.raw_dim(), 1);
    for k in (0..AXES).rev() {
        strides[k] = next;
        next *= array.len_of(Axis(k));
    }
    strides[axis.index()] = pitch;
    array.raw_dim().strides(strides)
}

/// Whether `axis` is the slowest axis of the tile, and the lanes along it are slices.
fn is_transposed(shape: &[usize], strides: &[isize], axis: Axis) -> bool {
    let axis = axis.index();
    axis != LAST.index() && strides[axis] == 1 && shape[..axis].iter().all(|&n| n <= 1)
}

/// An array as a matrix, if all axes but `axis` and the last one have length 1: the lanes of a
/// matrix are found in half the time.
fn plane<S: RawData>(mut array: ArrayBase<S, Ix6>, axis: Axis) -> Option<ArrayBase<S, Ix2>> {
    array.swap_axes(axis.index(), AXES - 2);
    let is_matrix = array.shape()[..AXES - 2].iter().all(|&n| n == 1);
    let first = Axis(0);
    is_matrix.then(|| {
        let array = array.index_axis_move(first, 0).index_axis_move(first, 0);
        array.index_axis_move(first, 0).index_axis_move(first, 0)
    })
}

/// Lanes and rows that are copied together, so that pieces of cache lines are read and written.
const SIDE: usize = 4;

/// Copies lanes to the columns of a tile with this number of columns and distance of its rows.
#[inline(always)]
fn transpose<'a, A: Element>(
    mut lanes: impl Iterator<Item = &'a [A]>,
    tile: &mut [A],
    [width, pitch]: [usize; 2],
) {
    for column in (0..width).step_by(SIDE) {
        let group: [&[A]; SIDE] = from_fn(|_| lanes.next().unwrap_or_default());
        // The last group can have fewer lanes, the others are empty.
        let whole = group[SIDE - 1].len() / SIDE * SIDE;
        let blocks = group.map(|lane| &lane[..whole.min(lane.len())]);
        for row in (0..whole).step_by(SIDE) {
            let block: [[A; SIDE]; SIDE] = blocks.map(|lane| part(lane, row));
            for k in 0..SIDE {
                let at = (row + k) * pitch + column;
                tile[at..at + SIDE].copy_from_slice(&block.map(|lane| lane[k]));
            }
        }
        for (c, lane) in group.iter().enumerate() {
            for (row, &x) in lane.iter().enumerate().skip(whole) {
                tile[row * pitch + column + c] = x;
            }
        }
    }
}

/// Copies the columns of a tile to lanes.
#[inline(always)]
fn transpose_back<'a, A: Element>(
    mut lanes: impl Iterator<Item = &'a mut [A]>,
    tile: &[A],
    [width, pitch]: [usize; 2],
) {
    for column in (0..width).step_by(SIDE) {
        let mut group: [&mut [A]; SIDE] = from_fn(|_| lanes.next().unwrap_or_default());
        let whole = group[SIDE - 1].len() / SIDE * SIDE;
        for row in (0..whole).step_by(SIDE) {
            let block: [[A; SIDE]; SIDE] = from_fn(|k| part(tile, (row + k) * pitch + column));
            for (c, lane) in group.iter_mut().enumerate() {
                lane[row..row + SIDE].copy_from_slice(&block.map(|row| row[c]));
            }
        }
        for (c, lane) in group.iter_mut().enumerate() {
            for (row, x) in lane.iter_mut().enumerate().skip(whole) {
                *x = tile[row * pitch + column + c];
            }
        }
    }
}

/// The elements of a block in one lane or row.
#[inline(always)]
fn part<A: Element>(from: &[A], at: usize) -> [A; SIDE] {
    let mut part = [A::ZERO; SIDE];
    part.copy_from_slice(&from[at..at + SIDE]);
    part
}
