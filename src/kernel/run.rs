//! How a step runs over memory: one rule, or one of several.
use super::{
    Arrays, CoupledDecay, DecoupledDecay, Lanes, MAX_STATES, MAX_TERMS, Rule, View, With, Wrapper,
    reduce::Sum,
    sweep::{measure, sweep},
};
use crate::array::Element;

/// What the optimizer runs over a piece of memory: one [`Rule`], or one of several that hyper-parameters choose between.
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
    fn measure(&self, at: &At<A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]);

    /// Updates `p` with the gradient `g` of the same length.
    fn run(&self, at: &At<A>, p: &mut [A], g: &[A], state: Arrays<'_, A>);
}

/// What a kernel is told about the array it runs over.
#[derive(Clone, Copy, Debug)]
pub struct At<A> {
    /// Whether the state of the array begins here.
    pub first: bool,
    /// What the gradient is multiplied with: -1 to climb, and the factor of clipping by a norm.
    pub scale: A,
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
        at: &At<R::Elem>,
        p: &[R::Elem],
        g: &[R::Elem],
        mut state: Arrays<'_, R::Elem>,
        sums: &mut [Sum; MAX_TERMS],
    ) {
        let mut state = R::State::take(&mut state, 0);
        if at.first {
            begin(self, at.scale, p, g, &mut state);
        }
        // Constant, so that rules without sums have no code for them.
        if const { R::TERMS > 0 } {
            measure(self, at.scale, p, g, &state, sums);
        }
    }
    #[inline]
    fn run(&self, at: &At<R::Elem>, p: &mut [R::Elem], g: &[R::Elem], mut state: Arrays<'_, R::Elem>) {
        const { assert!(R::State::N <= MAX_STATES, "a rule and its wrappers have six state arrays at most") };
        const { assert!(R::NAMES == R::State::N, "`STATE` has a name for each array of `State`") };
        let mut state = R::State::take(&mut state, 0);
        if at.first {
            begin(self, at.scale, p, g, &mut state);
        }
        sweep(self, at.scale, p, g, state);
    }
}

// Once for each array: apart, so that it is compiled once for each rule.
#[cold]
#[inline(never)]
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
    fn measure(&self, at: &At<A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]) {
        match self {
            Either::X(x) => x.measure(at, p, g, state, sums),
            Either::Y(y) => y.measure(at, p, g, state, sums),
        }
    }
    #[inline]
    fn run(&self, at: &At<A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        match self {
            Either::X(x) => x.run(at, p, g, state),
            Either::Y(y) => y.run(at, p, g, state),
        }
    }
}

/// A rule with coupled decay where there is any.
pub type WithCoupled<R> = Either<R, With<R, CoupledDecay<<R as Rule>::Elem>>>;

/// `rule`, with decay added to the gradient only where asked for.
#[inline(always)]
pub fn coupled<R: Rule>(rule: R, weight_decay: f64) -> WithCoupled<R> {
    if weight_decay == 0.0 {
        return Either::X(rule);
    }
    Either::Y(rule.with(CoupledDecay { weight_decay: R::Elem::of(weight_decay) }))
}

/// A rule with decoupled decay.
pub type WithDecoupled<R> = With<R, DecoupledDecay<<R as Rule>::Elem>>;

/// `rule` with `lr weight_decay p` added to what it takes away.
#[inline(always)]
pub fn decoupled<R: Rule>(rule: R, lr: f64, weight_decay: f64) -> WithDecoupled<R> {
    rule.with(DecoupledDecay { decay: R::Elem::of(lr * weight_decay) })
}
