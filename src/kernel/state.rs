//! The state of one element, and state arrays.
use super::for_each_instruction_set;
use crate::array::Element;
use std::ops::Range;

/// The maximum number of state arrays of a rule together with its wrappers.
pub(crate) const MAX_STATES: usize = 6;

/// The state arrays of a parameter or of a piece of it: a slice of the same length for each state
/// array, in the order of the names.
#[derive(Debug)]
pub struct Arrays<'a, A>(pub(crate) [&'a mut [A]; MAX_STATES]);

/// No state arrays.
impl<A> Default for Arrays<'_, A> {
    fn default() -> Self {
        Arrays(Default::default())
    }
}

impl<'a, A> Arrays<'a, A> {
    /// Creates a list of state arrays, in the order of their names. More than six do not compile.
    pub fn new<const N: usize>(arrays: [&'a mut [A]; N]) -> Self {
        const { assert!(N <= MAX_STATES, "at most six state arrays") };
        let mut all = Arrays::default();
        all.0
            .iter_mut()
            .zip(arrays)
            .for_each(|(place, array)| *place = array);
        all
    }

    /// Returns the `k`th array, counted from 0, or an empty slice if there are not as many.
    pub fn array_mut(&mut self, k: usize) -> &mut [A] {
        self.0
            .get_mut(k)
            .map(|array| &mut **array)
            .unwrap_or_default()
    }
}

impl<A: Element> Arrays<'_, A> {
    /// Sets the numbers whose size is below the floor of their array to 0.
    pub(crate) fn flush(&mut self, floors: &[f64; MAX_STATES]) {
        for (array, &floor) in self.0.iter_mut().zip(floors) {
            if floor > 0.0 {
                flush(array, A::from_f64(floor));
            }
        }
    }
}

for_each_instruction_set! {
    fn flush<A: Element>(array: &mut [A], floor: A) {
        for x in array {
            *x = if x.abs() < floor { A::ZERO } else { *x };
        }
    }
}

impl<A> Arrays<'_, A> {
    /// Splits each array after `at` elements.
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

    /// The arrays in `range`, renumbered from 0.
    #[inline]
    pub(crate) fn subset(&mut self, range: Range<usize>) -> Arrays<'_, A> {
        let mut some: [&mut [A]; MAX_STATES] = Default::default();
        let arrays = self.0.iter_mut().skip(range.start).take(range.len());
        some.iter_mut()
            .zip(arrays)
            .for_each(|(some, array)| *some = array);
        Arrays(some)
    }

    /// The elements in `range` of each array.
    #[inline]
    pub(crate) fn part(&mut self, range: Range<usize>) -> Arrays<'_, A> {
        Arrays(
            self.0
                .each_mut()
                .map(|array| array.get_mut(range.clone()).unwrap_or_default()),
        )
    }
}

/// The state of one element: `[A; S]`, where `S` is at most 6, or a pair of states for a rule in a
/// wrapper.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an element's state: use `[A; S]` with S <= 6, or a pair of states"
)]
pub trait RuleState<A: Element>: Copy + Send + Sync {
    /// All zeros.
    const ZERO: Self;
    /// The same structure with a slice in place of each number.
    #[doc(hidden)]
    type Slices<'a>: StateSlices<Self>;
    /// The number of state arrays.
    #[doc(hidden)]
    const N: usize;
    /// Takes one slice per number, starting with the `first`th.
    #[doc(hidden)]
    fn take<'a>(arrays: &mut Arrays<'a, A>, first: usize) -> Self::Slices<'a>;
    /// Writes the numbers to `list`, starting with the `first`th.
    #[doc(hidden)]
    fn write(self, list: &mut [A; MAX_STATES], first: usize);
}

/// State arrays that hold the state `L` of one element at each index.
pub trait StateSlices<L>: Sized {
    /// Splits each array after `at` elements.
    fn split_at(self, at: usize) -> (Self, Self);
    /// Returns the state of element `i`.
    fn load(&self, i: usize) -> L;
    /// Sets the state of element `i`.
    fn store(&mut self, i: usize, state: L);
}

// Each array by name: `from_fn(|k| arrays[k][i])` leaves a bounds check in the loop, which then
// gets a scalar tail.
macro_rules! arities {
    ($($s:literal: $($x:ident $y:ident)*;)*) => {$(
        #[allow(unused_variables, unused_mut)]
        impl<A: Element> RuleState<A> for [A; $s] {
            const ZERO: [A; $s] = [A::ZERO; $s];
            type Slices<'a> = [&'a mut [A]; $s];
            const N: usize = $s;
            #[inline(always)]
            fn take<'a>(arrays: &mut Arrays<'a, A>, first: usize) -> Self::Slices<'a> {
                let mut arrays = arrays.0.iter_mut().skip(first);
                $(let $x = arrays.next().map(std::mem::take).unwrap_or_default();)*
                [$($x),*]
            }
            fn write(self, list: &mut [A; MAX_STATES], first: usize) {
                list.iter_mut().skip(first).zip(self).for_each(|(place, x)| *place = x);
            }
        }
        #[allow(unused_variables)]
        impl<A: Element> StateSlices<[A; $s]> for [&mut [A]; $s] {
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

/// The state of a wrapper that is idle in a step: the array keeps its place but is neither read nor
/// written.
#[derive(Clone, Copy, Debug)]
pub struct IdleState;

impl<A: Element> RuleState<A> for IdleState {
    const ZERO: Self = IdleState;
    const N: usize = 1;
    type Slices<'a> = IdleState;
    #[inline(always)]
    fn take(_arrays: &mut Arrays<'_, A>, _first: usize) -> IdleState {
        IdleState
    }
    fn write(self, _list: &mut [A; MAX_STATES], _first: usize) {}
}

impl StateSlices<IdleState> for IdleState {
    #[inline(always)]
    fn split_at(self, _at: usize) -> (Self, Self) {
        (IdleState, IdleState)
    }
    #[inline(always)]
    fn load(&self, _i: usize) -> IdleState {
        IdleState
    }
    #[inline(always)]
    fn store(&mut self, _i: usize, _state: IdleState) {}
}

impl<A: Element, L: RuleState<A>, M: RuleState<A>> RuleState<A> for (L, M) {
    const ZERO: (L, M) = (L::ZERO, M::ZERO);
    const N: usize = L::N + M::N;
    type Slices<'a> = (L::Slices<'a>, M::Slices<'a>);
    #[inline(always)]
    fn take<'a>(arrays: &mut Arrays<'a, A>, first: usize) -> Self::Slices<'a> {
        (L::take(arrays, first), M::take(arrays, first + L::N))
    }
    fn write(self, list: &mut [A; MAX_STATES], first: usize) {
        self.0.write(list, first);
        self.1.write(list, first + L::N);
    }
}

impl<L, M, V: StateSlices<L>, W: StateSlices<M>> StateSlices<(L, M)> for (V, W) {
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
