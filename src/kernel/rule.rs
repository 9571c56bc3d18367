//! What an optimizer does to one element.
use super::{
    Arrays, Element, Lanes, MAX_STATES, Totals, View, With, Wrapper,
    reduce::Sum,
    sweep::{measure, sweep},
    watch::sweep_watched,
};
use std::sync::Mutex;

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

    /// Appends the names of all state arrays; a wrapper's come after those of what it wraps.
    fn names(names: &mut Vec<&'static str>) {
        names.extend(Self::STATE);
    }
}

/// What the driver runs over a piece of memory: one [`Rule`], or one of several that hyper-parameters choose between.
pub trait Kernel<A: Element>: Copy + Send + Sync {
    /// This kernel with a wrapper around each of its rules.
    type With<W: Wrapper<A>>: Kernel<A>;

    /// Puts a wrapper around each rule.
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W>;

    /// As in [`Rule::COST`], of the rule that is chosen.
    fn cost(&self) -> u64;

    /// Appends the names of the state arrays of the rule that is chosen.
    fn names(&self, names: &mut Vec<&'static str>);

    /// As in [`Rule::TERMS`], of the rule that is chosen.
    fn terms(&self) -> usize;

    /// Adds what these elements contribute to the sums.
    fn measure(&self, at: &At<'_, A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]);

    /// Updates `p` with the gradient `g` of the same length.
    fn run(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>);

    /// As [`Kernel::run`], and adds what the step does to `totals`.
    fn run_watched(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>, totals: &mut Totals);
}

/// What a kernel is told about the array it runs over.
#[derive(Clone, Copy, Debug)]
pub struct At<'a, A> {
    /// Whether the state of the array begins here.
    pub first: bool,
    /// What the gradient is multiplied with: -1 to climb, and the factor of clipping by a norm.
    pub scale: A,
    /// Where to add up what the step does, if that is asked for.
    pub watch: Option<&'a Mutex<Totals>>,
}

impl<R: Rule> Kernel<R::Elem> for R {
    type With<W: Wrapper<R::Elem>> = With<R, W>;
    #[inline(always)]
    fn with<W: Wrapper<R::Elem>>(self, wrapper: W) -> With<R, W> {
        With { rule: self, wrapper }
    }
    #[inline]
    fn cost(&self) -> u64 {
        R::COST
    }
    fn names(&self, names: &mut Vec<&'static str>) {
        R::names(names);
    }
    fn terms(&self) -> usize {
        R::TERMS
    }
    fn measure(
        &self,
        at: &At<'_, R::Elem>,
        p: &[R::Elem],
        g: &[R::Elem],
        mut state: Arrays<'_, R::Elem>,
        sums: &mut [Sum; MAX_TERMS],
    ) {
        let mut state = R::State::take(&mut state, 0);
        if at.first {
            begin(self, at.scale, p, g, &mut state);
        }
        measure(self, at.scale, p, g, &state, sums);
    }
    #[inline]
    fn run(&self, at: &At<'_, R::Elem>, p: &mut [R::Elem], g: &[R::Elem], mut state: Arrays<'_, R::Elem>) {
        const { assert!(R::State::N <= MAX_STATES, "a rule and its wrappers have six state arrays at most") };
        let mut state = R::State::take(&mut state, 0);
        if at.first {
            begin(self, at.scale, p, g, &mut state);
        }
        sweep(self, at.scale, p, g, state);
    }
    fn run_watched(
        &self,
        at: &At<'_, R::Elem>,
        p: &mut [R::Elem],
        g: &[R::Elem],
        mut state: Arrays<'_, R::Elem>,
        totals: &mut Totals,
    ) {
        let mut state = R::State::take(&mut state, 0);
        if at.first {
            begin(self, at.scale, p, g, &mut state);
        }
        sweep_watched(self, at.scale, p, g, state, totals);
    }
}

fn begin<R: Rule>(rule: &R, scale: R::Elem, p: &[R::Elem], g: &[R::Elem], state: &mut impl View<R::State>) {
    for (i, (&p, &g)) in p.iter().zip(g).enumerate() {
        state.store(i, rule.begin(p, scale * g));
    }
}

/// One of two kernels, chosen by a hyper-parameter (`amsgrad`, `nesterov`, ...) once for each step, never for each element.
#[derive(Clone, Copy, Debug)]
pub enum Either<X, Y> {
    /// The first.
    X(X),
    /// The second.
    Y(Y),
}

impl<A: Element, X: Kernel<A>, Y: Kernel<A>> Kernel<A> for Either<X, Y> {
    type With<W: Wrapper<A>> = Either<X::With<W>, Y::With<W>>;
    #[inline(always)]
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W> {
        match self {
            Either::X(x) => Either::X(x.with(wrapper)),
            Either::Y(y) => Either::Y(y.with(wrapper)),
        }
    }
    #[inline]
    fn cost(&self) -> u64 {
        match self {
            Either::X(x) => x.cost(),
            Either::Y(y) => y.cost(),
        }
    }
    fn names(&self, names: &mut Vec<&'static str>) {
        match self {
            Either::X(x) => x.names(names),
            Either::Y(y) => y.names(names),
        }
    }
    fn terms(&self) -> usize {
        match self {
            Either::X(x) => x.terms(),
            Either::Y(y) => y.terms(),
        }
    }
    fn measure(&self, at: &At<'_, A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]) {
        match self {
            Either::X(x) => x.measure(at, p, g, state, sums),
            Either::Y(y) => y.measure(at, p, g, state, sums),
        }
    }
    #[inline]
    fn run(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        match self {
            Either::X(x) => x.run(at, p, g, state),
            Either::Y(y) => y.run(at, p, g, state),
        }
    }
    fn run_watched(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>, totals: &mut Totals) {
        match self {
            Either::X(x) => x.run_watched(at, p, g, state, totals),
            Either::Y(y) => y.run_watched(at, p, g, state, totals),
        }
    }
}
