//! Kernels: how a step runs a rule over memory.
use super::{
    Arrays, Barrier, CoupledDecay, DecoupledDecay, MAX_STATES, Rule, RuleState, StateSlices, With,
    Wrapper,
    reduce::RunningSums,
    sweep::{gradients, gradients_from, measure, params, sweep},
    wrapper::Hooks,
};
use crate::array::Element;

mod sealed {
    use super::{Either, Preconditioned, Rule};

    pub trait Sealed {}
    impl<R: Rule> Sealed for R {}
    impl<L, R> Sealed for Either<L, R> {}
    impl<K> Sealed for Preconditioned<K> {}
}

/// The computation of a step on contiguous memory: a [`Rule`], or a choice between several
/// ([`Either`]), optionally [`Preconditioned`].
///
/// Implemented for every [`Rule`], [`Either`] and [`Preconditioned`]. The trait is sealed.
pub trait Kernel<A: Element>: Copy + Send + Sync + sealed::Sealed {
    /// This kernel with each of its rules wrapped.
    type With<W: Wrapper<A>>: Kernel<A>;

    /// Wraps each rule.
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W>;

    /// Whether gradients are transformed before the sweep: whether the kernel contains a
    /// [`Barrier`].
    #[doc(hidden)]
    const BARRIER: bool;

    /// The [`Rule::COST`] of the selected rule.
    #[doc(hidden)]
    fn cost(&self) -> u64;

    /// Appends the names of the state arrays of the selected rule.
    #[doc(hidden)]
    fn names(&self, names: &mut Vec<&'static str>);

    /// The [`Rule::TERMS`] of the selected rule.
    #[doc(hidden)]
    fn terms(&self) -> usize;

    /// The hooks of the wrappers of the selected rule.
    #[doc(hidden)]
    fn hooks(&self) -> Hooks;

    /// Adds the terms of these elements to the sums, and initializes the state at the first step.
    #[doc(hidden)]
    fn measure(
        &self,
        args: &KernelArgs,
        p: &[A],
        g: &[A],
        state: Arrays<'_, A>,
        sums: &mut RunningSums,
    );

    /// Updates `p` with the gradient `g` of the same length.
    #[doc(hidden)]
    fn run(&self, args: &KernelArgs, p: &mut [A], g: &[A], state: Arrays<'_, A>);

    /// The [`Rule::floors`] of the selected rule.
    #[doc(hidden)]
    fn floors(&self) -> [A; MAX_STATES];

    /// Initializes the state.
    #[doc(hidden)]
    fn begin(&self, p: &[A], g: &[A], state: Arrays<'_, A>);

    /// Applies the gradient hooks of the wrappers in place.
    #[doc(hidden)]
    fn gradients(&self, p: &[A], g: &mut [A], state: Arrays<'_, A>);

    /// As [`gradients`](Kernel::gradients), but reads `from` and writes `g`.
    #[doc(hidden)]
    fn gradients_from(&self, p: &[A], from: &[A], g: &mut [A], state: Arrays<'_, A>);

    /// Applies the parameter hooks of the wrappers in place.
    #[doc(hidden)]
    fn params(&self, old: &[A], new: &mut [A], state: Arrays<'_, A>);
}

/// How a kernel runs over an array. By default it is neither the first step nor staged.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelArgs {
    /// Whether the state of the array is initialized first.
    pub first: bool,
    /// Whether the wrappers outside of the barrier have been applied to the gradient already.
    pub staged: bool,
}

impl<R: Rule> Kernel<R::Elem> for R {
    type With<W: Wrapper<R::Elem>> = With<R, W>;
    #[inline(always)]
    fn with<W: Wrapper<R::Elem>>(self, wrapper: W) -> With<R, W> {
        With {
            rule: self,
            wrapper,
        }
    }
    const BARRIER: bool = R::BARRIER;
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
    fn hooks(&self) -> Hooks {
        Rule::hooks(self)
    }
    fn measure(
        &self,
        args: &KernelArgs,
        p: &[R::Elem],
        g: &[R::Elem],
        mut state: Arrays<'_, R::Elem>,
        sums: &mut RunningSums,
    ) {
        let mut state = R::State::take(&mut state, 0);
        if args.first {
            begin(self, args.staged, p, g, &mut state);
        }
        // A constant, so that no code is generated for rules without sums.
        if const { R::TERMS > 0 } {
            measure(self, p, g, &state, sums);
        }
    }
    #[inline(always)]
    fn run(
        &self,
        args: &KernelArgs,
        p: &mut [R::Elem],
        g: &[R::Elem],
        mut state: Arrays<'_, R::Elem>,
    ) {
        const {
            assert!(
                R::State::N <= MAX_STATES,
                "a rule and its wrappers can have at most six state arrays"
            );
            assert!(
                R::NAMES == R::State::N,
                "`STATE` must name each array of `State`"
            );
        };
        let mut state = R::State::take(&mut state, 0);
        if args.first {
            begin(self, args.staged, p, g, &mut state);
        }
        sweep(self, p, g, state);
    }
    fn floors(&self) -> [R::Elem; MAX_STATES] {
        let mut floors = [R::Elem::ZERO; MAX_STATES];
        Rule::floors(self).write(&mut floors, 0);
        floors
    }
    fn begin(&self, p: &[R::Elem], g: &[R::Elem], mut state: Arrays<'_, R::Elem>) {
        let mut state = R::State::take(&mut state, 0);
        if const { R::State::N > 0 } {
            begin(self, false, p, g, &mut state);
        }
    }
    fn gradients(&self, p: &[R::Elem], g: &mut [R::Elem], mut state: Arrays<'_, R::Elem>) {
        gradients(self, p, g, R::State::take(&mut state, 0));
    }
    fn gradients_from(
        &self,
        p: &[R::Elem],
        from: &[R::Elem],
        g: &mut [R::Elem],
        mut state: Arrays<'_, R::Elem>,
    ) {
        gradients_from(self, p, from, g, R::State::take(&mut state, 0));
    }
    fn params(&self, old: &[R::Elem], new: &mut [R::Elem], mut state: Arrays<'_, R::Elem>) {
        params(self, old, new, R::State::take(&mut state, 0));
    }
}

// Called once for each array: out of line, so that it is compiled once for each rule.
#[cold]
#[inline(never)]
fn begin<R: Rule>(
    rule: &R,
    staged: bool,
    p: &[R::Elem],
    g: &[R::Elem],
    state: &mut impl StateSlices<R::State>,
) {
    for (i, (&p, &g)) in p.iter().zip(g).enumerate() {
        let begun = rule.begin_all(p, g, state.load(i), staged);
        state.store(i, begun);
    }
}

/// One of two kernels, selected by a hyper-parameter (`amsgrad`, `nesterov`, ...) once per step,
/// not per element.
#[derive(Clone, Copy, Debug)]
pub enum Either<L, R> {
    /// The first kernel.
    Left(L),
    /// The second kernel.
    Right(R),
}

/// Evaluates an expression for either kernel.
macro_rules! either {
    ($either:expr, $kernel:ident => $do:expr) => {
        match $either {
            Either::Left($kernel) => $do,
            Either::Right($kernel) => $do,
        }
    };
}

impl<A: Element, L: Kernel<A>, R: Kernel<A>> Kernel<A> for Either<L, R> {
    type With<W: Wrapper<A>> = Either<L::With<W>, R::With<W>>;
    #[inline(always)]
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W> {
        match self {
            Either::Left(kernel) => Either::Left(kernel.with(wrapper)),
            Either::Right(kernel) => Either::Right(kernel.with(wrapper)),
        }
    }
    const BARRIER: bool = L::BARRIER || R::BARRIER;
    #[inline]
    fn cost(&self) -> u64 {
        either!(self, kernel => kernel.cost())
    }
    fn names(&self, names: &mut Vec<&'static str>) {
        either!(self, kernel => kernel.names(names));
    }
    fn terms(&self) -> usize {
        either!(self, kernel => kernel.terms())
    }
    fn hooks(&self) -> Hooks {
        either!(self, kernel => kernel.hooks())
    }
    fn measure(
        &self,
        args: &KernelArgs,
        p: &[A],
        g: &[A],
        state: Arrays<'_, A>,
        sums: &mut RunningSums,
    ) {
        either!(self, kernel => kernel.measure(args, p, g, state, sums));
    }
    #[inline(always)]
    fn run(&self, args: &KernelArgs, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        either!(self, kernel => kernel.run(args, p, g, state));
    }
    fn floors(&self) -> [A; MAX_STATES] {
        either!(self, kernel => kernel.floors())
    }
    fn begin(&self, p: &[A], g: &[A], state: Arrays<'_, A>) {
        either!(self, kernel => kernel.begin(p, g, state));
    }
    fn gradients(&self, p: &[A], g: &mut [A], state: Arrays<'_, A>) {
        either!(self, kernel => kernel.gradients(p, g, state));
    }
    fn gradients_from(&self, p: &[A], from: &[A], g: &mut [A], state: Arrays<'_, A>) {
        either!(self, kernel => kernel.gradients_from(p, from, g, state));
    }
    fn params(&self, old: &[A], new: &mut [A], state: Arrays<'_, A>) {
        either!(self, kernel => kernel.params(old, new, state));
    }
}

/// The kernel of an algorithm that preconditions the gradient of a whole array before the kernel
/// runs, by [`Algorithm::transform`](crate::algorithm::Algorithm::transform).
#[derive(Clone, Copy, Debug)]
pub struct Preconditioned<K>(K);

/// Returns the kernel as [`Preconditioned`].
#[inline(always)]
pub fn preconditioned<K>(kernel: K) -> Preconditioned<K> {
    Preconditioned(kernel)
}

impl<A: Element, K: Kernel<A>> Kernel<A> for Preconditioned<K> {
    type With<W: Wrapper<A>> = <K::With<Barrier> as Kernel<A>>::With<W>;
    #[inline(always)]
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W> {
        self.0.with(Barrier).with(wrapper)
    }
    const BARRIER: bool = true;
    #[inline]
    fn cost(&self) -> u64 {
        self.0.cost()
    }
    fn names(&self, names: &mut Vec<&'static str>) {
        self.0.names(names);
    }
    fn terms(&self) -> usize {
        self.0.terms()
    }
    fn hooks(&self) -> Hooks {
        self.0.hooks()
    }
    fn measure(
        &self,
        args: &KernelArgs,
        p: &[A],
        g: &[A],
        state: Arrays<'_, A>,
        sums: &mut RunningSums,
    ) {
        self.0.measure(args, p, g, state, sums);
    }
    #[inline(always)]
    fn run(&self, args: &KernelArgs, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        self.0.run(args, p, g, state);
    }
    fn floors(&self) -> [A; MAX_STATES] {
        self.0.floors()
    }
    fn begin(&self, p: &[A], g: &[A], state: Arrays<'_, A>) {
        self.0.begin(p, g, state);
    }
    fn gradients(&self, p: &[A], g: &mut [A], state: Arrays<'_, A>) {
        self.0.gradients(p, g, state);
    }
    fn gradients_from(&self, p: &[A], from: &[A], g: &mut [A], state: Arrays<'_, A>) {
        self.0.gradients_from(p, from, g, state);
    }
    fn params(&self, old: &[A], new: &mut [A], state: Arrays<'_, A>) {
        self.0.params(old, new, state);
    }
}

/// A rule, with or without coupled weight decay: see [`coupled`].
pub type WithCoupled<R> = Either<R, With<R, CoupledDecay<<R as Rule>::Elem>>>;

/// Returns `rule` with an L2 penalty: `weight_decay p` is added to the gradient, unless
/// `weight_decay` is 0.
#[inline(always)]
pub fn coupled<R: Rule>(rule: R, weight_decay: f64) -> WithCoupled<R> {
    if weight_decay == 0.0 {
        return Either::Left(rule);
    }
    let weight_decay = R::Elem::from_f64(weight_decay);
    Either::Right(rule.with(CoupledDecay { weight_decay }))
}

/// A rule with decoupled weight decay: see [`decoupled`].
pub type WithDecoupled<R> = With<R, DecoupledDecay<<R as Rule>::Elem>>;

/// Returns `rule` with decoupled weight decay: `lr weight_decay p` is added to its update.
#[inline(always)]
pub fn decoupled<R: Rule>(rule: R, lr: f64, weight_decay: f64) -> WithDecoupled<R> {
    let decay = R::Elem::from_f64(lr * weight_decay);
    rule.with(DecoupledDecay { decay })
}
