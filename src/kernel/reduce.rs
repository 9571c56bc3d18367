//! Sums and maxima over arrays that are the same bits for any thread count, chunk size, memory layout and SIMD width.
//!
//! Elements are taken in logical (row-major) order, in blocks of fixed length. A block has 32 `f64` accumulators, each for
//! every 32nd element; they, and then the blocks, are combined in a tree whose shape depends on the length alone. For `f32`
//! every term is exact in `f64`, so nothing overflows or underflows and the result is as good as the `f64` sum.
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::kernel::reduce;
//!
//! let scale = 2_f32.powi(100); // its square overflows f32
//! let g = array![[3.0, 0.0], [0.0, -4.0]] * scale;
//! assert_eq!(reduce::sum_squares(&g).sqrt(), 5.0 * f64::from(scale));
//! assert_eq!(reduce::dot(&g, &g), reduce::sum_squares(&g));
//! assert_eq!(reduce::max_abs(&g), 4.0 * scale);
//! ```
use super::{Element, Parallel, pool::drain};
use multiversion::multiversion;
use ndarray::{ArrayRef, Dimension};

/// Elements in a block: the unit of parallel work.
const BLOCK: usize = 1 << 15;
const LANES: usize = 32;
/// Elements of a strided array that are gathered at a time.
const TILE: usize = 1024;

/// The sum of the squares of all elements.
///
/// For `f64` arrays the squares are formed in `f64`: elements above 1e154 overflow to infinity.
pub fn sum_squares<A: Element, D: Dimension>(a: &ArrayRef<A, D>) -> f64 {
    fold(a, a)
}

/// The sum of the products of corresponding elements; NaN if the shapes differ.
pub fn dot<A: Element, D: Dimension>(a: &ArrayRef<A, D>, b: &ArrayRef<A, D>) -> f64 {
    if a.shape() == b.shape() { fold(a, b) } else { f64::NAN }
}

/// The largest absolute value: 0 for an empty array, NaN if any element is NaN.
pub fn max_abs<A: Element, D: Dimension>(a: &ArrayRef<A, D>) -> A {
    // Independent of the order, so memory order will do.
    match a.as_slice_memory_order() {
        Some(a) => max_abs_slice(a),
        None => a.iter().fold(A::ZERO, |max, x| larger(max, x.abs())),
    }
}

/// NaN wins over every number.
#[inline(always)]
fn larger<A: Element>(max: A, x: A) -> A {
    if max >= x || max.is_nan() { max } else { x }
}

#[multiversion(targets = "simd")]
fn max_abs_slice<A: Element>(a: &[A]) -> A {
    let mut max = [A::ZERO; LANES];
    let (blocks, tail) = a.as_chunks::<LANES>();
    for block in blocks {
        for (max, x) in max.iter_mut().zip(block) {
            *max = larger(*max, x.abs());
        }
    }
    tail.iter().map(|x| x.abs()).chain(max).fold(A::ZERO, larger)
}

/// The first element that is infinite or NaN.
pub(crate) fn non_finite<A: Element>(a: &[A]) -> Option<A> {
    let bad = a.chunks(TILE).find(|block| !all_finite(block))?;
    bad.iter().copied().find(|x| !x.is_finite())
}

#[multiversion(targets = "simd")]
fn all_finite<A: Element>(a: &[A]) -> bool {
    // `x * 0` is 0 for a finite x and NaN otherwise; no early exit, so that the loop vectorises.
    a.iter().fold(true, |finite, &x| finite & (x * A::ZERO == A::ZERO))
}

type Lanes = [f64; LANES];

/// Adds the products of two slices to the accumulators; only the last slice of a block may have a length that is not a
/// multiple of [`LANES`].
#[multiversion(targets = "simd")]
fn accumulate<A: Element>(sums: &mut Lanes, a: &[A], b: &[A]) {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = *sums;
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i].f64() * b[i].f64();
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *lane += a.f64() * b.f64();
    }
    *sums = lanes;
}

fn total(mut lanes: Lanes) -> f64 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

/// Combines the sums of `blocks` consecutive blocks from `first` on.
fn tree(first: usize, blocks: usize, sum: &mut impl FnMut(usize) -> f64) -> f64 {
    match blocks {
        0 => 0.0,
        1 => sum(first),
        _ => {
            let left = blocks.next_power_of_two() / 2;
            tree(first, left, sum) + tree(first + left, blocks - left, sum)
        }
    }
}

fn fold<A: Element, D: Dimension>(a: &ArrayRef<A, D>, b: &ArrayRef<A, D>) -> f64 {
    let blocks = a.len().div_ceil(BLOCK);
    match (a.as_slice(), b.as_slice()) {
        (Some(a), Some(b)) => {
            let block = |i: usize| {
                let range = i * BLOCK..a.len().min((i + 1) * BLOCK);
                let mut lanes = [0.0; LANES];
                accumulate(&mut lanes, &a[range.clone()], &b[range]);
                total(lanes)
            };
            if !Parallel::default().pays(a.len() as u64 * A::COST) {
                return tree(0, blocks, &mut |i| block(i));
            }
            let mut sums = vec![0.0; blocks];
            drain(sums.iter_mut().enumerate(), blocks - 1, |_| BLOCK, BLOCK, |(i, sum)| *sum = block(i));
            tree(0, blocks, &mut |i| sums[i])
        }
        _ => {
            let mut pairs = a.iter().zip(b);
            tree(0, blocks, &mut |_| {
                let mut lanes = [0.0; LANES];
                for _ in 0..BLOCK / TILE {
                    let (mut x, mut y) = ([A::ZERO; TILE], [A::ZERO; TILE]);
                    let mut n = 0;
                    for (&a, &b) in pairs.by_ref().take(TILE) {
                        (x[n], y[n]) = (a, b);
                        n += 1;
                    }
                    accumulate(&mut lanes, &x[..n], &y[..n]);
                }
                total(lanes)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Axis, ShapeBuilder, Slice};

    #[test]
    fn sums_are_the_same_bits_for_any_layout_and_thread_count() {
        let f = |(i, j): (usize, usize)| ((i * 7919 + j * 104_729) % 1009) as f64 * 1e-3 - 0.3;
        for shape in [(1, 1), (3, 5), (181, 182), (700, 1001)] {
            let c = Array2::from_shape_fn(shape, f);
            let fortran = Array2::from_shape_fn(shape.f(), f);
            let squares = sum_squares(&c);
            let plain: f64 = c.iter().map(|x| x * x).sum();
            assert!((squares - plain).abs() <= 1e-12 * plain);
            assert_eq!(squares.to_bits(), sum_squares(&fortran).to_bits());
            assert_eq!(squares.to_bits(), dot(&c, &fortran).to_bits());
            #[cfg(feature = "rayon")]
            for threads in [1, 2, 3, 8] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(squares.to_bits(), pool.install(|| sum_squares(&c)).to_bits());
            }
        }
    }

    #[test]
    fn maxima_and_non_finite_values_are_found_anywhere() {
        for at in [0, 1, 31, 32, 1500, 2999] {
            let mut a = ndarray::Array1::from_elem(3000, 0.5_f32);
            a[at] = -7.0;
            assert_eq!(max_abs(&a), 7.0);
            assert_eq!(non_finite(a.as_slice().unwrap()), None);
            a[at] = f32::NEG_INFINITY;
            assert_eq!(max_abs(&a), f32::INFINITY);
            assert_eq!(non_finite(a.as_slice().unwrap()), Some(f32::NEG_INFINITY));
            a[at] = f32::NAN;
            let every_third = a.slice_axis(Axis(0), Slice::new((at % 3) as isize, None, 3));
            assert!(max_abs(&a).is_nan() && max_abs(&every_third).is_nan());
            assert!(non_finite(a.as_slice().unwrap()).is_some());
        }
    }
}
