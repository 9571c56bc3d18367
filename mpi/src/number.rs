//! Elements in messages, and means of several ranks.
use bytemuck::Pod;
use ndarray_optim::algorithm::Element;

/// The element types, `f32` and `f64`.
pub trait Number: Element + Pod {
    /// Sums the elements of several slices, each times its weight, divides by `total`, and rounds
    /// to the element type. A single slice with this weight is copied.
    #[doc(hidden)]
    fn mean(slices: &[&[Self]], weights: &[f64], total: f64, out: &mut [Self]);
}

/// The number of words for this many elements.
pub(crate) fn words_for<A: Pod>(len: usize) -> usize {
    (len * size_of::<A>()).div_ceil(8)
}

/// The elements in words.
pub(crate) fn elements<A: Pod>(words: &[u64], len: usize) -> &[A] {
    &bytemuck::cast_slice(words)[..len]
}

/// The elements in words, to write.
pub(crate) fn elements_mut<A: Pod>(words: &mut [u64], len: usize) -> &mut [A] {
    &mut bytemuck::cast_slice_mut(words)[..len]
}

/// Elements that are summed together, so that their sums stay in the cache.
const BLOCK: usize = 512;

impl Number for f32 {
    /// The mean of equal gradients is that gradient: the sum is exact, and the error of the inverse
    /// is far below what rounding to `f32` removes.
    fn mean(slices: &[&[f32]], weights: &[f64], total: f64, out: &mut [f32]) {
        if let ([slice], true) = (slices, weights == [total]) {
            return out.copy_from_slice(slice);
        }
        let inverse = 1.0 / total;
        let mut sums = [0.0_f64; BLOCK];
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let sums = &mut sums[..out.len()];
            sums.fill(0.0);
            for (slice, &weight) in slices.iter().zip(weights) {
                let terms = &slice[block * BLOCK..][..out.len()];
                for (sum, &x) in sums.iter_mut().zip(terms) {
                    *sum += weight * f64::from(x);
                }
            }
            for (out, &sum) in out.iter_mut().zip(&*sums) {
                *out = (sum * inverse) as f32;
            }
        }
    }
}

/// The rounding error of `a + b`.
#[inline(always)]
fn sum_error(a: f64, b: f64, sum: f64) -> f64 {
    let of_b = sum - a;
    (a - (sum - of_b)) + (b - of_b)
}

/// The rounding error of `a b`.
#[inline(always)]
fn product_error(a: f64, b: f64, product: f64) -> f64 {
    // Halves of the digits, whose products are exact.
    let split = |x: f64| {
        let scaled = 134_217_729.0 * x;
        let high = scaled - (scaled - x);
        (high, x - high)
    };
    let ((a1, a2), (b1, b2)) = (split(a), split(b));
    ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
}

impl Number for f64 {
    /// The sum has twice the digits of `f64`, so that it is rounded once, too: the mean of equal
    /// gradients is that gradient.
    fn mean(slices: &[&[f64]], weights: &[f64], total: f64, out: &mut [f64]) {
        if let ([slice], true) = (slices, weights == [total]) {
            return out.copy_from_slice(slice);
        }
        let (mut sums, mut errors) = ([0.0_f64; BLOCK], [0.0_f64; BLOCK]);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let (sums, errors) = (&mut sums[..out.len()], &mut errors[..out.len()]);
            sums.fill(0.0);
            errors.fill(0.0);
            for (slice, &weight) in slices.iter().zip(weights) {
                let terms = &slice[block * BLOCK..][..out.len()];
                for ((sum, error), &x) in sums.iter_mut().zip(&mut *errors).zip(terms) {
                    let term = weight * x;
                    let next = *sum + term;
                    *error += sum_error(*sum, term, next) + product_error(weight, x, term);
                    *sum = next;
                }
            }
            for ((out, &sum), &error) in out.iter_mut().zip(&*sums).zip(&*errors) {
                let mean = (sum + error) / total;
                let product = mean * total;
                let rest = (sum - product) + (error - product_error(mean, total, product));
                let better = mean + rest / total;
                // Infinities, and numbers too large to split.
                *out = if better.is_finite() {
                    better
                } else {
                    sum / total
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_equal_numbers_is_that_number() {
        let numbers = |i: usize| ((i * 7919 % 10_007) as f64 - 5000.0) / 3.0 * 1e-4;
        for ranks in 1..=17 {
            let x: Vec<f64> = (0..1500).map(numbers).collect();
            let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
            for weight in [1.0, 3.0, 0.1] {
                let weights = vec![weight; ranks];
                let total = weight * ranks as f64;
                let mut out = vec![0.0; x.len()];
                f64::mean(&vec![&x[..]; ranks], &weights, total, &mut out);
                if weight != 0.1 {
                    assert_eq!(out, x, "{ranks} ranks");
                }
                assert!(
                    out.iter()
                        .zip(&x)
                        .all(|(a, b)| (a - b).abs() <= 4e-16 * b.abs())
                );
                let mut out = vec![0.0; x.len()];
                f32::mean(&vec![&narrow[..]; ranks], &weights, total, &mut out);
                assert_eq!(out, narrow, "{ranks} ranks");
            }
        }
    }

    #[test]
    fn a_mean_weighs_each_rank_and_keeps_infinities() {
        let (a, b) = (
            [1.0, f64::INFINITY, 1e300, f64::NAN],
            [4.0, 1.0, -1e300, 0.0],
        );
        let mut out = [0.0; 4];
        f64::mean(&[&a, &b], &[2.0, 1.0], 3.0, &mut out);
        assert_eq!(out[..2], [2.0, f64::INFINITY]);
        assert!((out[2] / (1e300 / 3.0) - 1.0).abs() < 1e-15 && out[3].is_nan());
    }
}
