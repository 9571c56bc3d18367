//! Update rules: the arithmetic of an algorithm on one element.
use super::{RuleState, wrapper::Hooks};
use crate::array::Element;
use std::ops::Index;

/// The most sums over the elements of an array.
pub(crate) const MAX_SUMS: usize = 4;

/// Declares a newtype for a few numbers, so that their maximum count can grow later.
macro_rules! numbers {
    ($(#[$about:meta])* $name:ident, $most:expr) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(transparent)
        )]
        pub struct $name(
            #[cfg_attr(feature = "serde", serde(with = "crate::config::bits_list"))]
            pub(crate) [f64; $most],
        );

        impl $name {
            /// Creates a list of these numbers, padded with 0. Too many numbers do not compile.
            #[inline(always)]
            pub const fn new<const N: usize>(numbers: [f64; N]) -> Self {
                const { assert!(N <= $most, "too many numbers") };
                let mut all = [0.0; $most];
                let mut i = 0;
                while i < N {
                    all[i] = numbers[i];
                    i += 1;
                }
                $name(all)
            }
        }

        impl Index<usize> for $name {
            type Output = f64;
            #[inline(always)]
            fn index(&self, i: usize) -> &f64 {
                &self.0[i]
            }
        }
    };
}
pub(crate) use numbers;

numbers! {
    /// Sums over the elements of an array: up to four.
    Sums, MAX_SUMS
}

/// The terms of one element in the sums of a rule, each as the product of two numbers. The products
/// are computed in `f64`, where those of `f32` numbers are exact.
#[derive(Clone, Copy, Debug)]
pub struct Terms<A>(pub(crate) [(A, A); MAX_SUMS]);

impl<A: Element> Terms<A> {
    /// Creates the terms with these factors. Those of a 2-norm are the number and itself. More than
    /// four terms do not compile.
    #[inline(always)]
    pub fn new<const N: usize>(factors: [(A, A); N]) -> Self {
        const { assert!(N <= MAX_SUMS, "at most four sums") };
        let mut all = [(A::ZERO, A::ZERO); MAX_SUMS];
        all[..N].copy_from_slice(&factors);
        Terms(all)
    }
}

/// The arithmetic of an algorithm on one element: computes the update that a step subtracts from
/// the parameter.
///
/// A rule consists of a few scalars, folded in advance for this step, and a pure function of one
/// element. It is independent of arrays, memory layouts, threads and SIMD.
///
/// ```
/// use ndarray_optim::algorithm::{Element, Rule};
///
/// /// Gradient descent with momentum.
/// #[derive(Clone, Copy)]
/// struct HeavyBall<A> { lr: A, momentum: A }
///
/// impl<A: Element> Rule for HeavyBall<A> {
///     type Elem = A;
///     type State = [A; 1];
///     const STATE: &'static [&'static str] = &["velocity"];
///     const COST: u64 = 2;
///     #[inline(always)]
///     fn delta(&self, _p: A, g: A, [v]: [A; 1]) -> (A, [A; 1]) {
///         let v = self.momentum * v + g;
///         (self.lr * v, [v])
///     }
///     fn floors(&self) -> [A; 1] {
///         [A::min_positive_value()]
///     }
/// }
/// ```
///
/// A rule with an unnamed state array does not compile:
///
/// ```compile_fail,E0080
/// use ndarray_optim::algorithm::{Arrays, Kernel, KernelArgs, Rule};
///
/// #[derive(Clone, Copy)]
/// struct Forgetful;
///
/// impl Rule for Forgetful {
///     type Elem = f32;
///     type State = [f32; 1];
///     const STATE: &'static [&'static str] = &[];
///     const COST: u64 = 1;
///     fn delta(&self, _p: f32, g: f32, state: [f32; 1]) -> (f32, [f32; 1]) {
///         (g, state)
///     }
/// }
///
/// Forgetful.run(&KernelArgs::default(), &mut [], &[], Arrays::default());
/// ```
#[allow(unused_variables)]
pub trait Rule: Copy + Send + Sync {
    /// The element type: `f32` or `f64`.
    type Elem: Element;
    /// The state of one element: `[A; S]`, where `S` is the number of state arrays.
    type State: RuleState<Self::Elem>;
    /// The names of the state arrays: as many as `State` has numbers. The algorithms of the crate
    /// use torch's names where torch has them.
    const STATE: &'static [&'static str];
    /// Approximate time for one `f32` element in units of 0.1 ns, from which
    /// [`Parallel`](crate::Parallel) decides whether a step uses threads.
    const COST: u64;

    /// Returns the update, which is subtracted from `p`, and the new state.
    fn delta(&self, p: Self::Elem, g: Self::Elem, state: Self::State) -> (Self::Elem, Self::State);

    /// Returns the state before the first step: zeros by default.
    #[inline(always)]
    fn begin(&self, p: Self::Elem, g: Self::Elem) -> Self::State {
        Self::State::ZERO
    }

    /// Returns the smallest size that numbers of each state array keep: smaller ones are flushed to
    /// 0 in every 32nd step of the parameter. 0 by default, which flushes nothing.
    ///
    /// Arithmetic on subnormal numbers is 10 to 30 times slower, and a moment that decays towards
    /// zero would stay subnormal for thousands of steps. Return
    /// [`min_positive_value`](num_traits::Float::min_positive_value) for every decaying moment.
    fn floors(&self) -> Self::State {
        Self::State::ZERO
    }

    /// The number of sums over whole arrays that the rule needs before a step: up to four.
    const TERMS: usize = 0;

    /// The number of these sums that are 2-norms: the first ones. They do not overflow for `f64`
    /// numbers above 1e154.
    const NORMS: usize = 0;

    /// Returns the terms of one element in these sums, from its values before the step.
    #[inline(always)]
    fn terms(&self, p: Self::Elem, g: Self::Elem, state: Self::State) -> Terms<Self::Elem> {
        Terms::new([])
    }

    // The rest is for wrappers; only `With` overrides it.

    /// The number of names that [`names`](Rule::names) appends. The rule does not compile unless it
    /// equals the number of state arrays.
    #[doc(hidden)]
    const NAMES: usize = Self::STATE.len();

    /// Whether gradients are transformed before the sweep: whether the rule contains a
    /// [`Barrier`](super::Barrier).
    #[doc(hidden)]
    const BARRIER: bool = false;

    /// Appends the names of all state arrays, those of a wrapper after those of the wrapped rule.
    #[doc(hidden)]
    fn names(names: &mut Vec<&'static str>) {
        names.extend(Self::STATE);
    }

    /// The hooks of the wrappers.
    #[doc(hidden)]
    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }

    /// Applies the [`Wrapper::gradient`](super::Wrapper::gradient) hooks.
    #[doc(hidden)]
    #[inline(always)]
    fn gradient(
        &self,
        p: Self::Elem,
        g: Self::Elem,
        state: Self::State,
    ) -> (Self::Elem, Self::State) {
        (g, state)
    }

    /// Applies the [`Wrapper::param`](super::Wrapper::param) hooks, after all updates.
    #[doc(hidden)]
    #[inline(always)]
    fn param(
        &self,
        p: Self::Elem,
        new: Self::Elem,
        state: Self::State,
    ) -> (Self::Elem, Self::State) {
        (new, state)
    }

    /// Returns the state before the first step, including that of the wrappers. If gradients have
    /// been `staged`, the wrappers outside of the barrier have initialized their own state.
    #[doc(hidden)]
    #[inline(always)]
    fn begin_all(
        &self,
        p: Self::Elem,
        g: Self::Elem,
        state: Self::State,
        staged: bool,
    ) -> Self::State {
        self.begin(p, g)
    }
}

/// A rule that does nothing: wrapped, it is the effect of the wrapper alone.
#[derive(Clone, Copy, Debug)]
pub struct NullRule<A>(pub(crate) std::marker::PhantomData<A>);

impl<A: Element> Rule for NullRule<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 0;
    #[inline(always)]
    fn delta(&self, _p: A, _g: A, []: [A; 0]) -> (A, [A; 0]) {
        (A::ZERO, [])
    }
}
