//! The state of one element, and the memory it lives in.
use crate::array::Element;
use std::ops::Range;

/// The largest number of state arrays a rule and its wrappers can have together.
pub const MAX_STATES: usize = 6;

/// The state arrays of one parameter, or of one piece of it: as many slices of equal length as the rule has state, in the
/// order of its names, then empty ones.
pub struct Arrays<'a, A>(pub [&'a mut [A]; MAX_STATES]);

impl<A> Arrays<'_, A> {
    /// The first `at` elements of each array, and the rest.
    #[inline]
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let mut tails: [&mut [A]; MAX_STATES] = Default::default();
        let mut tail = tails.iter_mut();
        let heads = self.0.map(|array| {
            let (head, rest) = array.split_at_mut(at.min(array.len()));
            if let Some(tail) = tail.next() {
                *tail = rest;
            }
            head
        });
        (Arrays(heads), Arrays(tails))
    }

    /// The arrays in `range`, in the first places.
    #[inline]
    pub(crate) fn some(&mut self, range: Range<usize>) -> Arrays<'_, A> {
        let mut some: [&mut [A]; MAX_STATES] = Default::default();
        let arrays = self.0.iter_mut().skip(range.start).take(range.len());
        some.iter_mut().zip(arrays).for_each(|(some, array)| *some = array);
        Arrays(some)
    }

    /// The elements in `range` of each array.
    #[inline]
    pub(crate) fn part(&mut self, range: Range<usize>) -> Arrays<'_, A> {
        Arrays(self.0.each_mut().map(|array| array.get_mut(range.clone()).unwrap_or_default()))
    }
}

/// The numbers a rule keeps for one element: `[A; S]` with `S` up to 6, or a pair of such for a wrapper around a rule.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the state of an element: state is `[A; S]`, S <= 6, or a pair of such"
)]
pub trait Lanes<A: Element>: Copy + Send + Sync {
    /// Every number zero.
    const ZERO: Self;
    /// The same shape with a slice in place of each number.
    type Slices<'a>: View<Self>;
    /// How many numbers.
    const N: usize;
    /// Takes one slice for each number, from the one at `first` on.
    fn take<'a>(arrays: &mut Arrays<'a, A>, first: usize) -> Self::Slices<'a>;
}

/// Memory that holds lanes `L` at each index.
pub trait View<L>: Sized {
    /// The first `at` elements, and the rest.
    fn split_at(self, at: usize) -> (Self, Self);
    /// What stands at index `i`.
    fn load(&self, i: usize) -> L;
    /// Replaces what stands at index `i`.
    fn store(&mut self, i: usize, lanes: L);
}

// Each arity by name: `from_fn(|k| arrays[k][i])` leaves a bounds check in the loop, and with it a scalar tail.
macro_rules! arities {
    ($($s:literal: $($x:ident $y:ident)*;)*) => {$(
        #[allow(unused_variables, unused_mut)]
        impl<A: Element> Lanes<A> for [A; $s] {
            const ZERO: [A; $s] = [A::ZERO; $s];
            type Slices<'a> = [&'a mut [A]; $s];
            const N: usize = $s;
            #[inline(always)]
            fn take<'a>(arrays: &mut Arrays<'a, A>, first: usize) -> Self::Slices<'a> {
                let mut arrays = arrays.0.iter_mut().skip(first);
                $(let $x = arrays.next().map(std::mem::take).unwrap_or_default();)*
                [$($x),*]
            }
        }
        #[allow(unused_variables)]
        impl<A: Element> View<[A; $s]> for [&mut [A]; $s] {
            #[inline(always)]
            fn split_at(self, at: usize) -> (Self, Self) {
                let [$($x),*] = self;
                $(let ($x, $y) = $x.split_at_mut(at);)*
                ([$($x),*], [$($y),*])
            }
            #[inline(always)]
            fn load(&self, i: usize) -> [A; $s] {
                let [$($x),*] = self;
                [$($x[i]),*]
            }
            #[inline(always)]
            fn store(&mut self, i: usize, [$($y),*]: [A; $s]) {
                let [$($x),*] = self;
                $($x[i] = $y;)*
            }
        }
    )*};
}
arities! {
    0: ;
    1: a s;
    2: a s b t;
    3: a s b t c u;
    4: a s b t c u d v;
    5: a s b t c u d v e w;
    6: a s b t c u d v e w f x;
}

/// A state array that a step leaves alone: it keeps its place among the others and is not touched.
#[derive(Clone, Copy, Debug)]
pub struct Untouched;

impl<A: Element> Lanes<A> for Untouched {
    const ZERO: Self = Untouched;
    const N: usize = 1;
    type Slices<'a> = Untouched;
    #[inline(always)]
    fn take(_arrays: &mut Arrays<'_, A>, _first: usize) -> Untouched {
        Untouched
    }
}

impl View<Untouched> for Untouched {
    #[inline(always)]
    fn split_at(self, _at: usize) -> (Self, Self) {
        (Untouched, Untouched)
    }
    #[inline(always)]
    fn load(&self, _i: usize) -> Untouched {
        Untouched
    }
    #[inline(always)]
    fn store(&mut self, _i: usize, _lanes: Untouched) {}
}

impl<A: Element, L: Lanes<A>, M: Lanes<A>> Lanes<A> for (L, M) {
    const ZERO: (L, M) = (L::ZERO, M::ZERO);
    const N: usize = L::N + M::N;
    type Slices<'a> = (L::Slices<'a>, M::Slices<'a>);
    #[inline(always)]
    fn take<'a>(arrays: &mut Arrays<'a, A>, first: usize) -> Self::Slices<'a> {
        (L::take(arrays, first), M::take(arrays, first + L::N))
    }
}

impl<L, M, V: View<L>, W: View<M>> View<(L, M)> for (V, W) {
    #[inline(always)]
    fn split_at(self, at: usize) -> (Self, Self) {
        let ((a, s), (b, t)) = (self.0.split_at(at), self.1.split_at(at));
        ((a, b), (s, t))
    }
    #[inline(always)]
    fn load(&self, i: usize) -> (L, M) {
        (self.0.load(i), self.1.load(i))
    }
    #[inline(always)]
    fn store(&mut self, i: usize, (l, m): (L, M)) {
        self.0.store(i, l);
        self.1.store(i, m);
    }
}
