//! Reproducible reductions of arrays: sums, dot products and maxima that are the same bits for any
//! number of threads, chunk size, memory layout and SIMD width.
//!
//! The functions here use rayon's current pool for large arrays, with the default of [`Parallel`].
//! Sums do not depend on the order of their terms: see [`Sum`]. The terms of `f32` arrays are exact
//! in `f64`, so that they neither overflow nor underflow.
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::reduce;
//!
//! let scale = 2_f32.powi(100); // its square overflows f32
//! let g = array![[3.0, 0.0], [0.0, -4.0]] * scale;
//! assert_eq!(reduce::sum_squares(&g).sqrt(), 5.0 * f64::from(scale));
//! assert_eq!(reduce::dot(&g, &g), reduce::sum_squares(&g));
//! assert_eq!(reduce::max_abs(&g), 4.0 * scale);
//! ```
use super::{
    Parallel, for_each_instruction_set,
    pool::{drain, lock, work},
};
use crate::array::{Element, ElementType};
use ndarray::{ArrayRef, Dimension};
use std::sync::Mutex;

/// Elements in a task.
const BLOCK: usize = 1 << 15;
const LANES: usize = 32;
/// Elements that are split into bins together.
const TILE: usize = 1024;

/// Elements from which the uppermost bin of a new sum is guessed.
pub(crate) const GUESS: usize = 16;

/// Width of a bin in bits; the counts of a tile fit in an `i64`.
const WIDTH: i32 = 50;
/// Number of bins below 1.
const BELOW: i32 = 20;
const BINS: usize = 40;
/// Number of bins that contribute to the value, from that of the largest term down.
const KEPT: usize = 2;
/// Finite terms of at least this size are too large for the bins.
const LARGE: f64 = power(960);
/// Squares below it lose digits, or all of them, below the range of normal numbers.
const SMALL: f64 = power(-900);
/// Numbers whose squares are too large or too small are divided or multiplied by it first.
const UNIT: f64 = power(600);

/// A reproducible sum: its value depends neither on the order of its terms nor on how they are
/// split into partial sums.
///
/// Every term is split into multiples of fixed powers of 2, one for each bin of 50 bits, and each
/// bin counts its multiples exactly. The value comes from the bin of the largest term and the one
/// below it, so that each term is accurate to 50 bits or more below the largest term. Terms below
/// 2^-1001 count as 0. Terms of at least 2^960 are summed apart, in larger units, so that partial
/// sums do not overflow.
///
/// With an infinite term the value is that infinity. With both infinities or a NaN it is
/// [`f64::NAN`], whatever the sign of that NaN.
///
/// The algorithm follows J. Demmel and H. D. Nguyen, "Fast Reproducible Floating-Point Summation",
/// ARITH 2013.
///
/// ```
/// use ndarray_optim::reduce::Sum;
///
/// let (mut a, mut b) = (Sum::default(), Sum::default());
/// a.add(&[1e16, 1.0, -1e16]);
/// b.add(&[-1e16]);
/// b.add(&[1.0, 1e16]);
/// assert_eq!(a.value(), 1.0);
/// assert_eq!(b.value(), 1.0);
/// ```
#[derive(Clone, Debug)]
pub struct Sum {
    bins: [i128; BINS],
    /// The bin of the largest term.
    top: usize,
    /// The sum of the finite terms of at least [`LARGE`], in units of `UNIT^2`.
    huge: Option<Box<Sum>>,
    /// The sum of the squares in tiles that have no square of at least [`SMALL`], in units of
    /// `UNIT^-2`.
    tiny: Option<Box<Sum>>,
    /// Whether every tile is one of these.
    is_tiny: bool,
    /// Whether the terms are squares.
    of_squares: bool,
    /// The sum of the terms that are infinite or NaN.
    non_finite: f64,
}

/// One running sum for each of [`Sums`](super::Sums).
pub(crate) type RunningSums = [Sum; super::rule::MAX_SUMS];

impl Default for Sum {
    fn default() -> Self {
        Sum {
            bins: [0; BINS],
            top: 0,
            huge: None,
            tiny: None,
            is_tiny: true,
            of_squares: false,
            non_finite: 0.0,
        }
    }
}

/// Returns 2 to the power of `e`, or 0 below the range of normal numbers.
const fn power(e: i32) -> f64 {
    if e < -1022 {
        0.0
    } else {
        f64::from_bits(((e + 1023) as u64) << 52)
    }
}

/// The lowest bin whose upper end is above twice a term: all terms up to it are zero in the bins
/// above.
fn bin_of(term: f64) -> usize {
    let exponent = (term.to_bits() >> 52) as i32 - 1023;
    ((exponent + 2).div_euclid(WIDTH) + BELOW).clamp(0, BINS as i32 - 1) as usize
}

/// The units that the kept bins count in, where `top` is the uppermost bin.
fn quanta(top: usize) -> [f64; KEPT] {
    std::array::from_fn(|i| power((top as i32 - i as i32 - BELOW) * WIDTH))
}

impl Sum {
    /// Adds terms.
    pub fn add(&mut self, terms: &[f64]) {
        self.add_terms(terms, |x| x, Signed);
    }

    /// Adds the absolute values of numbers.
    fn add_sizes<A: Element>(&mut self, numbers: &[A]) {
        self.add_terms(numbers, f64::abs, Unsigned);
    }

    #[inline(always)]
    fn add_terms<A: Element, S: Sign>(
        &mut self,
        numbers: &[A],
        term: impl Fn(f64) -> f64 + Copy,
        sign: S,
    ) {
        for numbers in numbers.chunks(TILE) {
            if !self.add_tile(numbers, |x| term(x.f64()), sign) {
                self.add_large(numbers, LARGE, term, |x| term(x) / UNIT / UNIT);
            }
        }
    }

    /// Adds the squares of numbers, of any size: see [`root`](Sum::root).
    pub fn add_squares<A: Element>(&mut self, numbers: &[A]) {
        self.of_squares = true;
        for numbers in numbers.chunks(TILE) {
            if !self.add_tile(numbers, square, Unsigned) {
                self.is_tiny = false;
                self.add_large(numbers, LARGE.sqrt(), square, |x| square(x / UNIT));
            } else if self.is_tiny {
                self.add_tiny(numbers);
            }
        }
    }

    /// Adds the squares of a tile that are tiny if all before them are.
    #[cold]
    #[inline(never)]
    fn add_tiny<A: Element>(&mut self, numbers: &[A]) {
        // In a higher bin there is a larger term. No square of an `f32` is tiny but 0.
        self.is_tiny = self.top <= bin_of(SMALL);
        if self.is_tiny && A::TYPE == ElementType::F64 {
            self.is_tiny = largest(numbers, square) < SMALL;
            let tiny = self.tiny.get_or_insert_default();
            tiny.add_tile(numbers, |x| square(x.f64() * UNIT), Unsigned);
        }
    }

    /// Adds `term(a)` for each element of a tile. If one of the terms is at least [`LARGE`],
    /// infinite or NaN, it adds nothing and returns false.
    #[inline(always)]
    fn add_tile<A: Element, S: Sign>(
        &mut self,
        a: &[A],
        term: impl Fn(A) -> f64 + Copy,
        sign: S,
    ) -> bool {
        if self.is_unscaled() {
            let guess = largest(&a[..a.len().min(GUESS)], term);
            self.top = if guess < LARGE { bin_of(guess) } else { 0 };
        }
        // The bins of earlier terms nearly always fit these too, so that one pass over memory both
        // counts and finds out whether they do.
        let mut tally = split(a, term, sign, self.tally(S::SIGNED));
        if !tally.fits() {
            let max = largest(a, term);
            // NaN, too.
            if max.is_nan() || max >= LARGE {
                return false;
            }
            self.top = self.top.max(bin_of(max));
            tally = split(a, term, sign, self.tally(S::SIGNED));
        }
        self.add_tally(&tally, a.len());
        true
    }

    /// Whether there has been no term yet that tells which bins are needed.
    pub(crate) fn is_unscaled(&self) -> bool {
        self.top == 0
    }

    /// An empty tally for the kept bins; the terms are at least 0 unless they are `signed`.
    #[inline]
    pub(crate) fn tally(&self, signed: bool) -> Tally {
        let [q0, q1] = quanta(self.top);
        let base = 1.5 * 4_503_599_627_370_496.0 * q0;
        let r0 = base + if signed { DIGIT as f64 * q0 } else { 0.0 };
        let r1 = 1.5 * 4_503_599_627_370_496.0 * q1;
        let base = base.to_bits();
        Tally {
            r0,
            r1,
            r01: r0 + r1,
            base,
            beyond: if signed {
                !(2 * DIGIT - 1)
            } else {
                !(base | (DIGIT - 1))
            },
            n0: 0,
            n1: 0,
            seen: 0,
        }
    }

    /// Adds the terms that a tally has counted.
    fn add_tally(&mut self, tally: &Tally, len: usize) {
        let counts = tally.counts(len);
        for (i, count) in counts.into_iter().enumerate().take(self.top + 1) {
            self.bins[self.top - i] += i128::from(count);
        }
    }

    /// Adds the terms, or the squares of numbers, that a tally has counted, unless there is more to
    /// them.
    pub(crate) fn try_add_tally<A: Element>(
        &mut self,
        tally: &Tally,
        len: usize,
        squares: bool,
    ) -> bool {
        // Squares of `f64` numbers that are tiny are summed apart, too.
        let tiny = squares && self.is_tiny && A::TYPE == ElementType::F64;
        let whole = tally.fits() && !tiny;
        if whole {
            self.of_squares |= squares;
            self.add_tally(tally, len);
        }
        whole
    }

    /// Adds a tile of which some terms are at least [`LARGE`], infinite or NaN: those of elements
    /// of at least `large`. Where a term is added depends on its element alone, so that the value
    /// does not depend on tiles.
    #[cold]
    #[inline(never)]
    fn add_large<A: Element>(
        &mut self,
        a: &[A],
        large: f64,
        term: impl Fn(f64) -> f64,
        scaled: impl Fn(f64) -> f64,
    ) {
        let (mut rest, mut huge) = (Vec::new(), Vec::new());
        for x in a.iter().map(|a| a.f64()) {
            if !x.is_finite() {
                self.non_finite += term(x);
            } else if x.abs() >= large {
                huge.push(scaled(x));
            } else {
                rest.push(term(x));
            }
        }
        self.add_tile(&rest, |x: f64| x, Signed);
        if !huge.is_empty() {
            let sum = self.huge.get_or_insert_default();
            sum.add_tile(&huge, |x: f64| x, Signed);
        }
    }

    /// Adds the terms of another sum.
    pub fn merge(&mut self, other: &Sum) {
        self.bins
            .iter_mut()
            .zip(&other.bins)
            .for_each(|(bin, other)| *bin += other);
        self.top = self.top.max(other.top);
        for (sum, other) in [(&mut self.huge, &other.huge), (&mut self.tiny, &other.tiny)] {
            if let Some(other) = other {
                sum.get_or_insert_default().merge(other);
            }
        }
        self.is_tiny &= other.is_tiny;
        self.of_squares |= other.of_squares;
        self.non_finite += other.non_finite;
    }

    /// Returns the sum of all terms.
    pub fn value(&self) -> f64 {
        if self.non_finite.is_nan() {
            // IEEE arithmetic leaves the sign of a NaN open.
            return f64::NAN;
        }
        let huge = self.huge.as_ref().map_or(0.0, |huge| huge.counted());
        self.counted() + huge * UNIT * UNIT + self.non_finite
    }

    /// Returns the square root of the sum: the 2-norm of the numbers whose squares were
    /// [added](Sum::add_squares). It is accurate even if their squares overflow or underflow.
    ///
    /// ```
    /// use ndarray_optim::reduce::Sum;
    ///
    /// for size in [1e200_f64, 1.0, 1e-200] {
    ///     let mut sum = Sum::default();
    ///     sum.add_squares(&[3.0 * size, -4.0 * size]);
    ///     assert!((sum.root() / size - 5.0).abs() < 1e-14);
    /// }
    /// ```
    pub fn root(&self) -> f64 {
        match (&self.huge, &self.tiny) {
            (Some(huge), _) if self.non_finite == 0.0 => {
                (huge.counted() + self.counted() / UNIT / UNIT).sqrt() * UNIT
            }
            (_, Some(tiny)) if self.is_tiny => tiny.counted().sqrt() / UNIT,
            _ => self.value().sqrt(),
        }
    }

    /// Returns the sum as words, to send it to another process.
    ///
    /// ```
    /// use ndarray_optim::reduce::Sum;
    ///
    /// let (mut here, mut there) = (Sum::default(), Sum::default());
    /// here.add(&[1e16, 1.0]);
    /// there.add(&[-1e16]);
    /// here.merge(&Sum::from_words(&there.to_words()).unwrap());
    /// assert_eq!(here.value(), 1.0);
    /// ```
    pub fn to_words(&self) -> Vec<u64> {
        let mut words = Vec::new();
        self.write_words(&mut words);
        words
    }

    fn write_words(&self, words: &mut Vec<u64>) {
        let filled = || self.bins.iter().enumerate().filter(|(_, bin)| **bin != 0);
        let flags = [
            self.is_tiny,
            self.of_squares,
            self.huge.is_some(),
            self.tiny.is_some(),
        ];
        let flags = flags
            .iter()
            .fold(0, |bits, &flag| 2 * bits + u64::from(flag));
        words.extend([self.top as u64, filled().count() as u64, flags]);
        words.push(self.non_finite.to_bits());
        for (i, &bin) in filled() {
            words.extend([i as u64, bin as u64, (bin >> 64) as u64]);
        }
        for sum in self.huge.iter().chain(&self.tiny) {
            sum.write_words(words);
        }
    }

    /// Returns the sum of [`to_words`](Sum::to_words); `None` if the words are not those of a sum.
    pub fn from_words(mut words: &[u64]) -> Option<Sum> {
        let sum = Sum::read_words(&mut words, 1)?;
        words.is_empty().then_some(sum)
    }

    fn read_words(words: &mut &[u64], nested: u32) -> Option<Sum> {
        let (&[top, filled, flags, non_finite], rest) = words.split_first_chunk()?;
        *words = rest;
        let mut sum = Sum {
            top: usize::try_from(top).ok().filter(|&top| top < BINS)?,
            is_tiny: flags & 8 > 0,
            of_squares: flags & 4 > 0,
            non_finite: f64::from_bits(non_finite),
            ..Sum::default()
        };
        for _ in 0..filled {
            let (&[i, low, high], rest) = words.split_first_chunk()?;
            *words = rest;
            let bin = sum.bins.get_mut(usize::try_from(i).ok()?)?;
            *bin = i128::from(high as i64) << 64 | i128::from(low);
        }
        for (flag, part) in [(2, &mut sum.huge), (1, &mut sum.tiny)] {
            if flags & flag > 0 {
                // Sums in other units have none themselves.
                let nested = nested.checked_sub(1)?;
                *part = Some(Box::new(Sum::read_words(words, nested)?));
            }
        }
        Some(sum)
    }

    /// The root if squares were added, else the sum.
    pub(crate) fn result(&self) -> f64 {
        if self.of_squares {
            self.root()
        } else {
            self.value()
        }
    }

    /// The sum of the terms in the bins.
    fn counted(&self) -> f64 {
        let first = self.top.saturating_sub(KEPT - 1);
        (first..=self.top)
            .map(|bin| self.bins[bin] as f64 * power((bin as i32 - BELOW) * WIDTH))
            .sum()
    }
}

/// The multiples of terms in the uppermost bin are below it, a quarter of what the bin can hold.
const DIGIT: u64 = 1 << (WIDTH - 2);

/// Whether terms can be negative.
pub(crate) trait Sign: Copy {
    const SIGNED: bool;
}

/// Terms of either sign.
#[derive(Clone, Copy)]
pub(crate) struct Signed;

/// Terms of at least 0.
#[derive(Clone, Copy)]
pub(crate) struct Unsigned;

impl Sign for Signed {
    const SIGNED: bool = true;
}

impl Sign for Unsigned {
    const SIGNED: bool = false;
}

/// Counts of terms in the kept bins of a sum.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    /// What is added to a term, so that the sum is rounded to a multiple of the quantum of the
    /// uppermost bin and contains that multiple in its last bits: 1.5 2^52 quanta, and for signed
    /// terms `DIGIT` more, which makes the multiples positive.
    r0: f64,
    /// The same for the bin below.
    r1: f64,
    r01: f64,
    /// The bits of 1.5 2^52 quanta.
    base: u64,
    /// The bits that are set in none of the numbers seen, unless a multiple is too large.
    beyond: u64,
    n0: u64,
    n1: u64,
    seen: u64,
}

impl Tally {
    /// Counts a term. Bits are integers, whose sums are exact in any order, so that loops
    /// vectorize.
    #[inline(always)]
    pub fn add<S: Sign>(&mut self, x: f64, _: S) {
        let high = x + self.r0;
        // What rounding has left of x, plus r1: the inner difference is exact, because r1 is 6 of
        // the larger quanta.
        let low = x - (high - self.r01);
        self.n0 = self.n0.wrapping_add(high.to_bits());
        self.n1 = self.n1.wrapping_add(low.to_bits());
        // Too large a multiple has a higher bit than all others, or changes the exponent: a larger
        // one has a bit that a smaller one does not have.
        self.seen |= if S::SIGNED {
            high.to_bits() ^ self.base
        } else {
            high.to_bits()
        };
    }

    /// Whether all terms were small enough for the uppermost bin, and neither infinite nor NaN.
    fn fits(&self) -> bool {
        self.seen & self.beyond == 0
    }

    /// How many of each quantum the terms contain together, largest quantum first. They are right
    /// unless a term is four times too large.
    fn counts(&self, len: usize) -> [i64; KEPT] {
        let count = |n: u64, r: f64| n.wrapping_sub(r.to_bits().wrapping_mul(len as u64)) as i64;
        [count(self.n0, self.r0), count(self.n1, self.r1)]
    }
}

for_each_instruction_set! {
    /// Counts the terms of a tile.
    fn split<A: Element, T: Fn(A) -> f64, S: Sign>(
        a: &[A],
        term: T,
        sign: S,
        empty: Tally,
    ) -> Tally {
        let mut tally = empty;
        for &a in a {
            tally.add(term(a), sign);
        }
        tally
    }
}

/// Returns the largest absolute value of the terms; NaN is above everything.
fn largest<A: Element>(a: &[A], term: impl Fn(A) -> f64) -> f64 {
    // As integers, the bits are in the order of the numbers.
    let bits = a.iter().map(|&a| term(a).abs().to_bits()).max();
    f64::from_bits(bits.unwrap_or_default())
}

/// Returns the sum of the squares of all elements.
///
/// The squares are computed in `f64`: those of `f64` elements above 1e154 overflow to infinity. The
/// [`norm`] does not.
pub fn sum_squares<A: Element, D: Dimension>(a: &ArrayRef<A, D>) -> f64 {
    squares(&Parallel::default(), a).value()
}

/// Returns the 2-norm of all elements. It is accurate even if the squares of `f64` elements
/// overflow or underflow.
pub fn norm<A: Element, D: Dimension>(a: &ArrayRef<A, D>) -> f64 {
    norm_on(&Parallel::default(), a)
}

/// As [`norm`], with another setting for threads.
pub(crate) fn norm_on<A: Element, D: Dimension>(parallel: &Parallel, a: &ArrayRef<A, D>) -> f64 {
    squares(parallel, a).root()
}

fn squares<A: Element, D: Dimension>(parallel: &Parallel, a: &ArrayRef<A, D>) -> Sum {
    let mut sum = NormSum::new(Norm::L2);
    match a.as_slice_memory_order() {
        Some(a) => sum.add_slices(std::iter::once(a), parallel),
        None => sum.add_elements(a.iter().copied()),
    }
    sum.sum
}

/// Returns the dot product of two arrays of the same shape, or NaN if their shapes differ.
pub fn dot<A: Element, D: Dimension>(a: &ArrayRef<A, D>, b: &ArrayRef<A, D>) -> f64 {
    if a.shape() == b.shape() {
        fold(a, b)
    } else {
        f64::NAN
    }
}

/// Returns the largest absolute value: 0 for an empty array, NaN if any element is NaN.
pub fn max_abs<A: Element, D: Dimension>(a: &ArrayRef<A, D>) -> A {
    // The result does not depend on the order of the elements.
    match a.as_slice_memory_order() {
        Some(a) => max_abs_slice(a),
        None => a.iter().fold(A::ZERO, |max, x| larger(max, x.abs())),
    }
}

/// Returns the larger number, or NaN if either is NaN.
#[inline(always)]
fn larger<A: Element>(max: A, x: A) -> A {
    if max >= x || max.is_nan() { max } else { x }
}

for_each_instruction_set! {
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
}

/// Returns the first element that is NaN or whose absolute value is above the limit, which is
/// finite.
pub(crate) fn beyond<A: Element>(a: &[A], limit: A) -> Option<A> {
    let bad = a.chunks(TILE).find(|block| !all_within(block, limit))?;
    bad.iter().copied().find(|x| x.is_nan() || x.abs() > limit)
}

for_each_instruction_set! {
    fn all_within<A: Element>(a: &[A], limit: A) -> bool {
        // No early exit, so that the loop vectorizes.
        a.iter().fold(true, |within, &x| within & (x.abs() <= limit))
    }
}

/// Type of a vector norm, for [`ClipByGlobalNorm`](crate::wrap::ClipByGlobalNorm).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Norm {
    /// The sum of the absolute values.
    L1,
    /// The square root of the sum of the squares.
    #[default]
    L2,
    /// The largest absolute value.
    Max,
}

/// The running norm of several arrays together.
pub(crate) struct NormSum {
    pub norm: Norm,
    pub sum: Sum,
    pub max: f64,
}

impl NormSum {
    pub fn new(norm: Norm) -> Self {
        NormSum {
            norm,
            sum: Sum::default(),
            max: 0.0,
        }
    }

    fn add<A: Element>(&mut self, a: &[A]) {
        match self.norm {
            Norm::L1 => self.sum.add_sizes(a),
            Norm::L2 => self.sum.add_squares(a),
            Norm::Max => self.max = larger(self.max, max_abs_slice(a).f64()),
        }
    }

    /// Adds slices, on several threads if there is enough work.
    pub fn add_slices<'a, A: Element>(
        &mut self,
        slices: impl Iterator<Item = &'a [A]> + Clone + Send,
        parallel: &Parallel,
    ) {
        let size: usize = slices.clone().map(<[A]>::len).sum();
        if !parallel.pays(work(size, A::COST)) {
            return slices.for_each(|a| self.add(a));
        }
        let norm = self.norm;
        let all = Mutex::new(self);
        let block = |a: &[A]| {
            let mut part = NormSum::new(norm);
            part.add(a);
            let mut all = lock(&all);
            all.sum.merge(&part.sum);
            all.max = larger(all.max, part.max);
        };
        drain(
            slices.flat_map(|a| a.chunks(BLOCK)),
            |a| a.len(),
            size,
            block,
        );
    }

    pub fn add_elements<A: Element>(&mut self, elements: impl Iterator<Item = A>) {
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let tile: Vec<A> = elements.by_ref().take(TILE).collect();
            self.add(&tile);
        }
    }

    pub fn value(&self) -> f64 {
        match self.norm {
            Norm::L1 => self.sum.value(),
            Norm::L2 => self.sum.root(),
            // The sign of a NaN depends on the element.
            Norm::Max if self.max.is_nan() => f64::NAN,
            Norm::Max => self.max,
        }
    }
}

#[inline(always)]
fn square<A: Element>(x: A) -> f64 {
    x.f64() * x.f64()
}

for_each_instruction_set! {
    /// Computes the element-wise products of two tiles.
    fn products<A: Element>(a: &[A], b: &[A], out: &mut [f64; TILE]) {
        for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
            *out = a.f64() * b.f64();
        }
    }
}

fn fold<A: Element, D: Dimension>(a: &ArrayRef<A, D>, b: &ArrayRef<A, D>) -> f64 {
    let one_order = a.strides() == b.strides();
    let (x, y) = (a.as_slice_memory_order(), b.as_slice_memory_order());
    let Some((x, y)) = x.zip(y).filter(|_| one_order) else {
        let mut sum = Sum::default();
        let mut terms = a.iter().zip(b).map(|(a, b)| a.f64() * b.f64()).peekable();
        while terms.peek().is_some() {
            let tile: Vec<f64> = terms.by_ref().take(TILE).collect();
            sum.add(&tile);
        }
        return sum.value();
    };
    let block = |(a, b): (&[A], &[A])| {
        let mut sum = Sum::default();
        let mut tile = [0.0; TILE];
        for (a, b) in a.chunks(TILE).zip(b.chunks(TILE)) {
            products(a, b, &mut tile);
            sum.add(&tile[..a.len()]);
        }
        sum
    };
    if !Parallel::default().pays(work(x.len(), A::COST)) {
        return block((x, y)).value();
    }
    let all = Mutex::new(Sum::default());
    let tasks = x.chunks(BLOCK).zip(y.chunks(BLOCK));
    drain(
        tasks,
        |(a, _)| a.len(),
        x.len(),
        |pair| lock(&all).merge(&block(pair)),
    );
    lock(&all).value()
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
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                assert_eq!(
                    squares.to_bits(),
                    pool.install(|| sum_squares(&c)).to_bits()
                );
            }
        }
    }

    #[test]
    fn sums_are_exact_in_any_order_and_cut() {
        let f =
            |i: usize| (((i * 7919) % 1009) as f64 - 504.0) * 2_f64.powi((i * 31 % 34) as i32 - 17);
        let terms: Vec<f64> = (0..5000).map(f).collect();
        let mut whole = Sum::default();
        whole.add(&terms);
        // The same sum in integers: every term is a multiple of 2^-17.
        let exact: i128 = (0..5000_usize)
            .map(|i| ((i * 7919) as i128 % 1009 - 504) << (i * 31 % 34))
            .sum();
        assert_eq!(whole.value(), exact as f64 * 2_f64.powi(-17));
        for cut in [1, 3, 64, 1000] {
            let mut pieces = Sum::default();
            for piece in terms.chunks(cut).rev() {
                let mut sum = Sum::default();
                sum.add(piece);
                pieces.merge(&sum);
            }
            assert_eq!(
                pieces.value().to_bits(),
                whole.value().to_bits(),
                "pieces of {cut}"
            );
        }
        for scale in [-950, -300, 0, 300, 900] {
            let mut sum = Sum::default();
            sum.add(&[
                3.0 * 2_f64.powi(scale),
                2_f64.powi(scale),
                2_f64.powi(scale - 30),
            ]);
            assert_eq!(
                sum.value(),
                4.0 * 2_f64.powi(scale) + 2_f64.powi(scale - 30),
                "{scale}"
            );
        }
        for (terms, value) in [
            ([1.0, f64::INFINITY], f64::INFINITY),
            ([1e300, 1e300], 2e300),
        ] {
            let mut sum = Sum::default();
            sum.add(&terms);
            assert_eq!(sum.value(), value);
        }
    }

    #[test]
    fn terms_of_all_sizes_are_the_same_sum_in_any_order() {
        // Tiles of different magnitudes, whose order raises the uppermost bin at once, late, or
        // again and again.
        let size = |tile: usize| 2_f64.powi((tile * 83 % 400) as i32 - 200);
        let terms: Vec<f64> = (0..40 * TILE)
            .map(|i| size(i / TILE) * ((i * 7919 % 1009) as f64 - 504.0))
            .collect();
        let mut whole = Sum::default();
        whole.add(&terms);
        assert_ne!(whole.value(), 0.0);
        let mut tiles: Vec<&[f64]> = terms.chunks(TILE).collect();
        for order in 0..4 {
            match order {
                0 => tiles.reverse(),
                1 => tiles.sort_by(|a, b| a[0].abs().total_cmp(&b[0].abs())),
                2 => tiles.reverse(),
                _ => tiles.rotate_left(17),
            }
            let (mut sum, mut halves) = (Sum::default(), [Sum::default(), Sum::default()]);
            for (i, tile) in tiles.iter().enumerate() {
                sum.add(tile);
                halves[i % 2].add(&tile[..500]);
                halves[(i + 1) % 2].add(&tile[500..]);
            }
            let [mut half, other] = halves;
            half.merge(&other);
            assert_eq!(
                (sum.value(), half.value()),
                (whole.value(), whole.value()),
                "order {order}"
            );
        }
    }

    #[test]
    fn terms_at_any_place_of_a_bin_are_the_same_sum_in_any_order() {
        // Powers of two and their neighbors: at some places the first of them fill a bin exactly.
        for e in -120..120 {
            let size = 2_f64.powi(e);
            let terms = [
                size,
                -size * (1.0 - f64::EPSILON),
                size * (1.0 - f64::EPSILON / 2.0),
                -size,
                size / 2_f64.powi(31),
                -size * 3.0 / 2_f64.powi(49),
            ];
            let mut whole = Sum::default();
            whole.add(&terms);
            let exact = size / 2_f64.powi(31) - size * 3.0 / 2_f64.powi(49);
            assert!(
                (whole.value() - exact).abs() <= 40.0 * f64::EPSILON * size,
                "2^{e}"
            );
            let mut squares = Sum::default();
            squares.add_squares(&terms);
            for order in 0..6 {
                let mut terms = terms;
                terms.rotate_left(order);
                let (mut sum, mut root) = (Sum::default(), Sum::default());
                for term in terms {
                    sum.add(&[term]);
                    root.add_squares(&[term]);
                }
                assert_eq!(sum.value(), whole.value(), "2^{e}, {order}");
                assert_eq!(root.root(), squares.root(), "2^{e}, {order}");
            }
        }
    }

    #[test]
    fn sums_notice_terms_that_their_bins_do_not_fit() {
        for (term, value) in [
            (f64::NAN, f64::NAN),
            (-f64::NAN, f64::NAN),
            (f64::INFINITY, f64::INFINITY),
            (f64::NEG_INFINITY, f64::NEG_INFINITY),
            (1e300, 1e300),
            (-1e300, -1e300),
            (1e40, 1e40),
            (-1e40, -1e40),
        ] {
            for at in [0, 1, 500, TILE - 1] {
                let mut terms = vec![1.0; TILE];
                let mut sum = Sum::default();
                sum.add(&terms);
                terms[at] = term;
                sum.add(&terms);
                assert_eq!(sum.value().to_bits(), value.to_bits(), "{term} at {at}");
                let mut sum = Sum::default();
                sum.add_squares(&[1.0]);
                sum.add_squares(&terms);
                assert!(sum.root() == value.abs() || value.is_nan() && sum.root().is_nan());
            }
        }
    }

    #[test]
    fn maxima_and_non_finite_values_are_found_anywhere() {
        for at in [0, 1, 31, 32, 1500, 2999] {
            let mut a = ndarray::Array1::from_elem(3000, 0.5_f32);
            a[at] = -7.0;
            assert_eq!(max_abs(&a), 7.0);
            assert_eq!(beyond(a.as_slice().unwrap(), f32::MAX), None);
            a[at] = f32::NEG_INFINITY;
            assert_eq!(max_abs(&a), f32::INFINITY);
            assert_eq!(
                beyond(a.as_slice().unwrap(), f32::MAX),
                Some(f32::NEG_INFINITY)
            );
            a[at] = f32::NAN;
            let every_third = a.slice_axis(Axis(0), Slice::new((at % 3) as isize, None, 3));
            assert!(max_abs(&a).is_nan() && max_abs(&every_third).is_nan());
            assert!(beyond(a.as_slice().unwrap(), f32::MAX).is_some());
        }
    }
}
