//! What an optimizer does to one element.
use super::Lanes;
use crate::array::Element;

/// The largest number of sums a rule can ask for.
pub const MAX_TERMS: usize = 4;

/// One optimizer's arithmetic on one element: what a step takes away from the parameter.
///
/// A rule is a handful of scalars, already folded for this step, and a pure function of one element. It knows nothing of
/// arrays, layouts, threads or SIMD.
///
/// ```
/// use ndarray_optim::kernel::{Element, Rule};
///
/// /// Gradient descent with a heavy ball.
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
///         let v = (self.momentum * v + g).flush();
///         (self.lr * v, [v])
///     }
/// }
/// ```
///
/// A rule whose state has arrays without a name does not compile:
///
/// ```compile_fail,E0080
/// use ndarray_optim::kernel::{Arrays, At, Kernel, Rule};
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
/// Forgetful.run(&At { first: false, scale: 1.0 }, &mut [], &[], Arrays(Default::default()));
/// ```
pub trait Rule: Copy + Send + Sync {
    /// `f32` or `f64`.
    type Elem: Element;
    /// `[A; S]`, or with a wrapper a pair of such.
    type State: Lanes<Self::Elem>;
    /// The names of the state arrays this rule itself adds, in torch's words where torch has them.
    const STATE: &'static [&'static str];
    /// Rough time of one `f32` element in units of 0.1 ns: what decides from which size on threads pay.
    const COST: u64;

    /// What is taken away from `p`, and the new state.
    fn delta(&self, p: Self::Elem, g: Self::Elem, state: Self::State) -> (Self::Elem, Self::State);

    /// The new parameter. A wrapper that reads or replaces it does so here, after every update has been made, wherever in a
    /// chain of wrappers it stands.
    #[inline(always)]
    fn land(&self, p: Self::Elem, delta: Self::Elem, state: Self::State) -> (Self::Elem, Self::State) {
        (p - delta, state)
    }

    /// The state before the first step.
    #[inline(always)]
    fn begin(&self, _p: Self::Elem, _g: Self::Elem) -> Self::State {
        Self::State::ZERO
    }

    /// How many sums over whole arrays the rule needs before it can make a step.
    const TERMS: usize = 0;

    /// What one element adds to these sums, from what stands before the step.
    #[inline(always)]
    fn terms(&self, _p: Self::Elem, _g: Self::Elem, _state: Self::State) -> [f64; MAX_TERMS] {
        [0.0; MAX_TERMS]
    }

    /// How many names [`names`](Rule::names) appends: as many as there are arrays, or the rule does not compile.
    #[doc(hidden)]
    const NAMES: usize = Self::STATE.len();

    /// Appends the names of all state arrays; a wrapper's come after those of what it wraps.
    fn names(names: &mut Vec<&'static str>) {
        names.extend(Self::STATE);
    }
}
