//! Steps over arrays that are not one slice: strided arrays, or several memory orders.
//!
//! The state is contiguous and the views are arranged to follow it, so that each row of a view
//! corresponds to a slice of the state. Rows that are slices are processed in place. Other elements
//! are copied to a tile on the stack and back: every layout uses the same vectorized loop, which is
//! faster than a scalar loop over strides and gives the same bits.
use super::Arrays;
use crate::array::{Element, layout::AXES};
use ndarray::{ArrayView6, ArrayViewMut, ArrayViewMut6, Axis};
use std::array::from_fn;

/// Number of elements in a tile.
const TILE: usize = 4096;
/// Maximum number of rows of a tile where two arrays differ in their fastest axis: a cache line of
/// `f32`. With 32 or more a gradient in another order takes up to twice as long.
const ROWS: usize = 16;
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
    // Variables of their own: as fields they would be on the stack twice in a debug build.
    let mut tile_p = [A::ZERO; TILE];
    let mut tile_g = [A::ZERO; TILE];
    let mut tile = Tile {
        work,
        p: &mut tile_p,
        g: &mut tile_g,
    };
    let fastest = [
        fastest_axis(p.shape(), p.strides()),
        fastest_axis(g.shape(), g.strides()),
    ];
    match fastest.into_iter().find(|&axis| axis != LAST) {
        _ if p.is_empty() => {}
        Some(axis) if p.len() > TILE => tile.across(axis, p, g, state),
        Some(_) => tile.pieces(p, g, state),
        None if p.len_of(LAST) >= LONG_ROW && p.stride_of(LAST) == 1 && g.stride_of(LAST) == 1 => {
            tile.rows(p, g, state)
        }
        None => tile.pieces(p, g, state),
    }
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
    p: &'w mut [A; TILE],
    g: &'w mut [A; TILE],
}

impl<A: Element, W: FnMut(&mut [A], &[A], Arrays<'_, A>)> Tile<'_, A, W> {
    /// Processes rows that are slices in both arrays.
    fn rows(
        &mut self,
        mut p: ArrayViewMut6<'_, A>,
        g: ArrayView6<'_, A>,
        mut state: Arrays<'_, A>,
    ) {
        let n = p.len_of(LAST);
        for (p, g) in p.lanes_mut(LAST).into_iter().zip(g.lanes(LAST)) {
            let (row, rest) = state.split_at(n);
            state = rest;
            if let (Some(p), Some(g)) = (p.into_slice(), g.to_slice()) {
                (self.work)(p, g, row);
            }
        }
    }

    /// Processes pieces that fit in the tile, each contiguous in the state.
    fn pieces(&mut self, mut p: ArrayViewMut6<'_, A>, g: ArrayView6<'_, A>, state: Arrays<'_, A>) {
        let n = p.len();
        if n > TILE {
            let (a, b) = split_slowest_axis(p, g, state);
            self.pieces(a.0, a.1, a.2);
            return self.pieces(b.0, b.1, b.2);
        }
        let g = match g.to_slice() {
            Some(g) => g,
            None => gather(&g, LAST, self.g),
        };
        match p.as_slice_mut() {
            Some(p) => (self.work)(p, g, state),
            None => {
                gather(&p.view(), LAST, self.p);
                (self.work)(&mut self.p[..n], g, state);
                scatter(self.p, LAST, &mut p);
            }
        }
    }

    /// Processes tiles of a few rows along `axis`, the fastest of one array, by a few elements
    /// along the last axis, the fastest of the state, so that a cache line is used up before it is
    /// evicted.
    fn across(
        &mut self,
        axis: Axis,
        p: ArrayViewMut6<'_, A>,
        g: ArrayView6<'_, A>,
        mut state: Arrays<'_, A>,
    ) {
        let slowest = (0..AXES).find(|&k| p.shape()[k] > 1).unwrap_or(AXES - 1);
        if slowest != axis.index() || p.len_of(axis) > ROWS {
            if p.len() <= TILE {
                return self.pieces(p, g, state);
            }
            let (a, b) = split_slowest_axis(p, g, state);
            self.across(axis, a.0, a.1, a.2);
            return self.across(axis, b.0, b.1, b.2);
        }
        let row = p.len() / p.len_of(axis);
        self.columns(axis, p, g, &mut state, row, 0);
    }

    /// Processes a few rows along `axis`; the state of each row has length `row`, and `p` and `g`
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
        if p.len() > TILE {
            let next = (axis.index() + 1..AXES)
                .find(|&k| p.shape()[k] > 1)
                .unwrap_or(AXES - 1);
            let at = p.shape()[next] / 2;
            let ((p, p1), (g, g1)) = (p.split_at(Axis(next), at), g.split_at(Axis(next), at));
            let left = width / (p.shape()[next] + p1.shape()[next]) * at;
            self.columns(axis, p, g, state, row, start);
            return self.columns(axis, p1, g1, state, row, start + left);
        }
        gather(&g, axis, self.g);
        let copied = p.stride_of(LAST) != 1;
        if copied {
            gather(&p.view(), axis, self.p);
        }
        let rows = p.axis_iter_mut(axis).zip(self.g.chunks(width));
        for (i, ((mut p, g), tile)) in rows.zip(self.p.chunks_mut(width)).enumerate() {
            let at = i * row + start;
            let state = state.part(at..at + width);
            match p.as_slice_mut() {
                Some(p) if !copied => (self.work)(p, g, state),
                _ if copied => (self.work)(tile, g, state),
                _ => {
                    // Rows of several axes, with gaps.
                    tile.iter_mut().zip(&p).for_each(|(tile, &p)| *tile = p);
                    (self.work)(tile, g, state);
                    p.iter_mut().zip(tile).for_each(|(p, &mut new)| *p = new);
                }
            }
        }
        if copied {
            scatter(self.p, axis, &mut p);
        }
    }
}

pub(super) type Piece<'a, A> = (ArrayViewMut6<'a, A>, ArrayView6<'a, A>, Arrays<'a, A>);

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

/// Copies a view row by row to the start of `tile`, reading along `axis`.
fn gather<'t, A: Element>(
    from: &ArrayView6<'_, A>,
    axis: Axis,
    tile: &'t mut [A; TILE],
) -> &'t [A] {
    let tile = &mut tile[..from.len()];
    if is_transposed(from.shape(), from.strides(), axis) {
        let width = from.len() / from.len_of(axis);
        let lanes = from.lanes(axis).into_iter();
        transpose(
            lanes.map(|lane| lane.to_slice().unwrap_or_default()),
            tile,
            width,
        );
    } else if let Ok(mut tile) = ArrayViewMut::from_shape(from.raw_dim(), &mut *tile) {
        let mut from = from.view();
        tile.swap_axes(axis.index(), LAST.index());
        from.swap_axes(axis.index(), LAST.index());
        tile.assign(&from);
    }
    tile
}

/// Copies the start of `tile` to a view, writing along `axis`.
fn scatter<A: Element>(tile: &[A; TILE], axis: Axis, to: &mut ArrayViewMut6<'_, A>) {
    let tile = &tile[..to.len()];
    if is_transposed(to.shape(), to.strides(), axis) {
        let width = to.len() / to.len_of(axis);
        let lanes = to.lanes_mut(axis).into_iter();
        transpose_back(
            lanes.map(|lane| lane.into_slice().unwrap_or_default()),
            tile,
            width,
        );
    } else if let Ok(tile) = ArrayView6::from_shape(to.raw_dim(), tile) {
        to.assign(&tile);
    }
}

/// Whether `axis` is the slowest axis of the tile, and the lanes along it are slices.
fn is_transposed(shape: &[usize], strides: &[isize], axis: Axis) -> bool {
    let axis = axis.index();
    axis != LAST.index() && strides[axis] == 1 && shape[..axis].iter().all(|&n| n <= 1)
}

/// Lanes and rows that are copied together, so that pieces of cache lines are read and written.
const SIDE: usize = 4;

/// Copies lanes to the columns of a tile.
fn transpose<'a, A: Element>(lanes: impl Iterator<Item = &'a [A]>, tile: &mut [A], width: usize) {
    let block = |tile: &mut &mut [A], lanes: &mut [&[A]; SIDE], row: usize, at: usize| {
        let lanes: [[A; SIDE]; SIDE] = lanes.each_ref().map(|lane| part(lane, row));
        for k in 0..SIDE {
            let at = at + k * width;
            tile[at..at + SIDE].copy_from_slice(&lanes.map(|lane| lane[k]));
        }
    };
    let one = |tile: &mut &mut [A], lane: &mut &[A], row: usize, at: usize| tile[at] = lane[row];
    for_each_block(lanes, tile, width, block, one);
}

/// Copies the columns of a tile to lanes.
fn transpose_back<'a, A: Element>(
    lanes: impl Iterator<Item = &'a mut [A]>,
    tile: &[A],
    width: usize,
) {
    let block = |tile: &mut &[A], lanes: &mut [&mut [A]; SIDE], row: usize, at: usize| {
        let rows: [[A; SIDE]; SIDE] = from_fn(|k| part(tile, at + k * width));
        for (c, lane) in lanes.iter_mut().enumerate() {
            lane[row..row + SIDE].copy_from_slice(&rows.map(|row| row[c]));
        }
    };
    let one = |tile: &mut &[A], lane: &mut &mut [A], row: usize, at: usize| lane[row] = tile[at];
    for_each_block(lanes, tile, width, block, one);
}

/// The elements of a block in one lane or row.
#[inline(always)]
fn part<A: Element>(from: &[A], at: usize) -> [A; SIDE] {
    let mut part = [A::ZERO; SIDE];
    part.copy_from_slice(&from[at..at + SIDE]);
    part
}

/// Calls `block` with lanes, the row of their first element to copy, and its index in the tile, for
/// each block of [`SIDE`] lanes by `SIDE` rows, and `one` with a lane for each other element.
#[inline(always)]
fn for_each_block<L: Default, T: AsRef<[A]>, A>(
    mut lanes: impl Iterator<Item = L>,
    mut tile: T,
    width: usize,
    block: impl Fn(&mut T, &mut [L; SIDE], usize, usize),
    one: impl Fn(&mut T, &mut L, usize, usize),
) {
    let rows = tile.as_ref().len() / width.max(1);
    for column in (0..width).step_by(SIDE) {
        let mut group: [L; SIDE] = from_fn(|_| lanes.next().unwrap_or_default());
        // The last group can have fewer lanes.
        let lanes = SIDE.min(width - column);
        let whole = if lanes == SIDE { rows / SIDE * SIDE } else { 0 };
        for row in (0..whole).step_by(SIDE) {
            block(&mut tile, &mut group, row, row * width + column);
        }
        for (c, lane) in group.iter_mut().enumerate().take(lanes) {
            for row in whole..rows {
                one(&mut tile, lane, row, row * width + column + c);
            }
        }
    }
}
