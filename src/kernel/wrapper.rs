//! What goes around a rule, fused into the same sweep.
use super::{Lanes, MAX_TERMS, Rule, Untouched};
use crate::array::Element;

/// What is done around a rule, element by element: to the gradient that goes in, to the update that comes out, and to the
/// parameter that it leaves. Write only what differs from doing nothing.
///
/// ```
/// use ndarray_optim::kernel::{Element, Wrapper};
///
/// /// Leaves out updates that point against the gradient (arXiv:2411.16085, without its rescaling).
/// #[derive(Clone, Copy)]
/// struct Cautious;
///
/// impl<A: Element> Wrapper<A> for Cautious {
///     type State = [A; 0];
///     #[inline(always)]
///     fn update(&self, _p: A, g: A, delta: A, []: [A; 0]) -> (A, [A; 0]) {
///         (if delta * g > A::ZERO { delta } else { A::ZERO }, [])
///     }
/// }
/// ```
pub trait Wrapper<A: Element>: Copy + Send + Sync {
    /// State of its own: `[A; S]`, or `[A; 0]` for none.
    type State: Lanes<A>;
    /// The names of its state arrays.
    const STATE: &'static [&'static str] = &[];
    /// As in [`Rule::COST`].
    const COST: u64 = 0;
    #[doc(hidden)]
    const NAMES: usize = Self::STATE.len();

    /// Its state before the first step.
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> Self::State {
        Self::State::ZERO
    }

    /// The gradient that the rule is given.
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, state: Self::State) -> (A, Self::State) {
        (g, state)
    }

    /// What is taken away from `p`, where the rule with the gradient `g` would take away `delta`.
    #[inline(always)]
    fn update(&self, _p: A, _g: A, delta: A, state: Self::State) -> (A, Self::State) {
        (delta, state)
    }

    /// The new parameter, where `new` would be put in the place of `p`.
    #[inline(always)]
    fn land(&self, _p: A, new: A, state: Self::State) -> (A, Self::State) {
        (new, state)
    }
}

/// A rule with a wrapper around it.
#[derive(Clone, Copy, Debug)]
pub struct With<R, W> {
    /// What is wrapped.
    pub rule: R,
    /// What is around it.
    pub wrapper: W,
}

impl<R: Rule, W: Wrapper<R::Elem>> Rule for With<R, W> {
    type Elem = R::Elem;
    type State = (R::State, W::State);
    const STATE: &'static [&'static str] = W::STATE;
    const COST: u64 = R::COST + W::COST;
    #[inline(always)]
    fn delta(&self, p: R::Elem, g: R::Elem, (inner, own): Self::State) -> (R::Elem, Self::State) {
        let (g, own) = self.wrapper.gradient(p, g, own);
        let (delta, inner) = self.rule.delta(p, g, inner);
        let (delta, own) = self.wrapper.update(p, g, delta, own);
        (delta, (inner, own))
    }
    #[inline(always)]
    fn land(&self, p: R::Elem, delta: R::Elem, (inner, own): Self::State) -> (R::Elem, Self::State) {
        let (new, inner) = self.rule.land(p, delta, inner);
        let (new, own) = self.wrapper.land(p, new, own);
        (new, (inner, own))
    }
    #[inline(always)]
    fn begin(&self, p: R::Elem, g: R::Elem) -> Self::State {
        let own = self.wrapper.begin(p, g);
        (self.rule.begin(p, self.wrapper.gradient(p, g, own).0), own)
    }
    const NAMES: usize = R::NAMES + W::NAMES;
    const TERMS: usize = R::TERMS;
    #[inline(always)]
    fn terms(&self, p: R::Elem, g: R::Elem, (inner, own): Self::State) -> [f64; MAX_TERMS] {
        self.rule.terms(p, self.wrapper.gradient(p, g, own).0, inner)
    }
    fn names(names: &mut Vec<&'static str>) {
        R::names(names);
        names.extend(W::STATE);
    }
}

/// Stands for a wrapper with one state array in steps that it lets pass: nothing is done, and the array is not touched.
#[derive(Clone, Copy, Debug)]
pub struct Pass;

impl<A: Element> Wrapper<A> for Pass {
    type State = Untouched;
    /// That of the wrapper it stands for.
    const NAMES: usize = 1;
}

/// `g <- g + weight_decay p`: decay coupled to the gradient, as L2 regularisation gives it.
#[derive(Clone, Copy, Debug)]
pub struct CoupledDecay<A> {
    /// Strength of the decay.
    pub weight_decay: A,
}

impl<A: Element> Wrapper<A> for CoupledDecay<A> {
    type State = [A; 0];
    #[inline(always)]
    fn gradient(&self, p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (g + self.weight_decay * p, [])
    }
}

/// `p <- p - (delta + decay p)` with `decay = lr weight_decay`: decay decoupled from the gradient.
///
/// The sum is taken away at once: seven times more accurate in `f32` than shrinking `p` first.
#[derive(Clone, Copy, Debug)]
pub struct DecoupledDecay<A> {
    /// `lr weight_decay`.
    pub decay: A,
}

impl<A: Element> Wrapper<A> for DecoupledDecay<A> {
    type State = [A; 0];
    #[inline(always)]
    fn update(&self, p: A, _g: A, delta: A, []: [A; 0]) -> (A, [A; 0]) {
        (delta + self.decay * p, [])
    }
}

/// A heavy ball on top of a rule's update: `buf = momentum buf + delta`, and `lr buf` is taken away, or with
/// `NESTEROV` `lr (delta + momentum buf)`.
#[derive(Clone, Copy, Debug)]
pub struct Trace<A, const NESTEROV: bool> {
    /// The share of the buffer that is kept.
    pub momentum: A,
    /// Multiplies what is taken away.
    pub lr: A,
}

impl<A: Element, const NESTEROV: bool> Wrapper<A> for Trace<A, NESTEROV> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["momentum_buffer"];
    const COST: u64 = 1;
    #[inline(always)]
    fn update(&self, _p: A, _g: A, delta: A, [buf]: [A; 1]) -> (A, [A; 1]) {
        let buf = (self.momentum * buf + delta).flush();
        let delta = if NESTEROV { delta + self.momentum * buf } else { buf };
        (self.lr * delta, [buf])
    }
}
