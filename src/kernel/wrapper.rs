//! Element-wise wrappers, fused with the rule that they wrap.
use super::{IdleState, Rule, RuleState, Terms};
use crate::array::Element;

/// The element-wise part of a wrapper: it can change the gradient passed to a rule, the update that
/// the rule returns, and the new parameter. Implement only the hooks that do something.
///
/// ```
/// use ndarray_optim::algorithm::{Element, Hooks, Wrapper};
///
/// /// Skips updates whose sign disagrees with that of the gradient.
/// #[derive(Clone, Copy)]
/// struct Cautious;
///
/// impl<A: Element> Wrapper<A> for Cautious {
///     type State = [A; 0];
///     fn hooks(&self) -> Hooks {
///         Hooks::UPDATE
///     }
///     #[inline(always)]
///     fn update(&self, _p: A, g: A, delta: A, []: [A; 0]) -> (A, [A; 0]) {
///         (if delta * g > A::ZERO { delta } else { A::ZERO }, [])
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait Wrapper<A: Element>: Copy + Send + Sync {
    /// The state that the wrapper adds to one element: `[A; S]`, or `[A; 0]` for none.
    type State: RuleState<A>;
    /// The names of the state arrays.
    const STATE: &'static [&'static str] = &[];
    /// The time that the wrapper adds to [`Rule::COST`].
    const COST: u64 = 0;
    #[doc(hidden)]
    const NAMES: usize = Self::STATE.len();
    #[doc(hidden)]
    const BARRIER: bool = false;

    /// Returns the hooks that do something in this step; others may be skipped. All hooks by
    /// default.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// Returns the state before the first step: zeros by default.
    #[inline(always)]
    fn begin(&self, p: A, g: A) -> Self::State {
        Self::State::ZERO
    }

    /// As [`Rule::floors`], for the state of the wrapper.
    fn floors(&self) -> Self::State {
        Self::State::ZERO
    }

    /// Returns the gradient to pass to the rule in place of `g`, and the new state.
    #[inline(always)]
    fn gradient(&self, p: A, g: A, state: Self::State) -> (A, Self::State) {
        (g, state)
    }

    /// Returns the update to subtract from `p` in place of `delta`, the update of the rule for the
    /// gradient `g`, and the new state.
    #[inline(always)]
    fn update(&self, p: A, g: A, delta: A, state: Self::State) -> (A, Self::State) {
        (delta, state)
    }

    /// Returns the new value of the parameter `p` in place of `new`, and the new state.
    #[inline(always)]
    fn param(&self, p: A, new: A, state: Self::State) -> (A, Self::State) {
        (new, state)
    }
}

/// The hooks of a [`Wrapper`] that do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Hooks {
    /// [`Wrapper::gradient`].
    pub gradient: bool,
    /// [`Wrapper::update`].
    pub update: bool,
    /// [`Wrapper::param`].
    pub param: bool,
    /// [`Wrapper::param`] reads the old parameter.
    pub old_param: bool,
}

impl Hooks {
    /// No hooks.
    pub const NONE: Hooks = Hooks {
        gradient: false,
        update: false,
        param: false,
        old_param: false,
    };
    /// All hooks.
    pub const ALL: Hooks = Hooks {
        gradient: true,
        update: true,
        param: true,
        old_param: true,
    };
    /// [`Wrapper::gradient`] alone.
    pub const GRADIENT: Hooks = Hooks {
        gradient: true,
        ..Hooks::NONE
    };
    /// [`Wrapper::update`] alone.
    pub const UPDATE: Hooks = Hooks {
        update: true,
        ..Hooks::NONE
    };
    /// [`Wrapper::param`] alone.
    pub const PARAM: Hooks = Hooks {
        param: true,
        old_param: true,
        ..Hooks::NONE
    };
    /// [`Wrapper::param`] alone, which reads the new parameter only.
    pub const NEW_PARAM: Hooks = Hooks {
        param: true,
        ..Hooks::NONE
    };

    fn or(self, other: Hooks) -> Hooks {
        Hooks {
            gradient: self.gradient || other.gradient,
            update: self.update || other.update,
            param: self.param || other.param,
            old_param: self.old_param || other.old_param,
        }
    }
}

/// A rule in a wrapper.
#[derive(Clone, Copy, Debug)]
pub struct With<R, W> {
    /// The rule.
    pub rule: R,
    /// The wrapper.
    pub wrapper: W,
}

impl<R: Rule, W: Wrapper<R::Elem>> With<R, W> {
    /// The gradient inside of this wrapper. Outside of a barrier, the wrapper has been applied
    /// before the sweep.
    #[inline(always)]
    fn inside(&self, p: R::Elem, g: R::Elem, own: W::State) -> (R::Elem, W::State) {
        if R::BARRIER {
            (g, own)
        } else {
            self.wrapper.gradient(p, g, own)
        }
    }
}

impl<R: Rule, W: Wrapper<R::Elem>> Rule for With<R, W> {
    type Elem = R::Elem;
    type State = (R::State, W::State);
    const STATE: &'static [&'static str] = W::STATE;
    const COST: u64 = R::COST.saturating_add(W::COST);
    #[inline(always)]
    fn delta(&self, p: R::Elem, g: R::Elem, (inner, own): Self::State) -> (R::Elem, Self::State) {
        let (g, own) = self.inside(p, g, own);
        let (delta, inner) = self.rule.delta(p, g, inner);
        let (delta, own) = self.wrapper.update(p, g, delta, own);
        (delta, (inner, own))
    }
    #[inline(always)]
    fn begin(&self, p: R::Elem, g: R::Elem) -> Self::State {
        self.begin_all(p, g, Self::State::ZERO, false)
    }
    fn floors(&self) -> Self::State {
        (self.rule.floors(), self.wrapper.floors())
    }
    const TERMS: usize = R::TERMS;
    const NORMS: usize = R::NORMS;
    #[inline(always)]
    fn terms(&self, p: R::Elem, g: R::Elem, (inner, own): Self::State) -> Terms<R::Elem> {
        self.rule.terms(p, self.inside(p, g, own).0, inner)
    }
    const NAMES: usize = R::NAMES + W::NAMES;
    const BARRIER: bool = R::BARRIER || W::BARRIER;
    fn names(names: &mut Vec<&'static str>) {
        R::names(names);
        names.extend(W::STATE);
    }
    fn hooks(&self) -> Hooks {
        self.rule.hooks().or(self.wrapper.hooks())
    }
    #[inline(always)]
    fn gradient(
        &self,
        p: R::Elem,
        g: R::Elem,
        (inner, own): Self::State,
    ) -> (R::Elem, Self::State) {
        let (g, own) = self.wrapper.gradient(p, g, own);
        let (g, inner) = self.rule.gradient(p, g, inner);
        (g, (inner, own))
    }
    #[inline(always)]
    fn param(&self, p: R::Elem, new: R::Elem, (inner, own): Self::State) -> (R::Elem, Self::State) {
        let (new, inner) = self.rule.param(p, new, inner);
        let (new, own) = self.wrapper.param(p, new, own);
        (new, (inner, own))
    }
    #[inline(always)]
    fn begin_all(
        &self,
        p: R::Elem,
        g: R::Elem,
        (inner, own): Self::State,
        staged: bool,
    ) -> Self::State {
        let own = if R::BARRIER && staged {
            own
        } else {
            self.wrapper.begin(p, g)
        };
        let (g, _) = self.inside(p, g, own);
        (self.rule.begin_all(p, g, inner, staged), own)
    }
}

/// A wrapper that does nothing element-wise, for wrappers whose gradients are transformed before
/// the element-wise pass: those that clip by a norm or transform whole arrays.
#[derive(Clone, Copy, Debug)]
pub struct Barrier;

impl<A: Element> Wrapper<A> for Barrier {
    type State = [A; 0];
    const BARRIER: bool = true;
    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }
}

/// Replaces a wrapper with one state array in steps in which it does nothing; the array is not
/// read.
#[derive(Clone, Copy, Debug)]
pub struct Idle;

impl<A: Element> Wrapper<A> for Idle {
    type State = IdleState;
    /// The state array of the wrapper that it replaces.
    const NAMES: usize = 1;
    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }
}

/// Coupled weight decay, an L2 penalty: `g <- g + weight_decay p`.
#[derive(Clone, Copy, Debug)]
pub struct CoupledDecay<A> {
    /// The weight decay factor.
    pub weight_decay: A,
}

impl<A: Element> Wrapper<A> for CoupledDecay<A> {
    type State = [A; 0];
    #[inline(always)]
    fn gradient(&self, p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (g + self.weight_decay * p, [])
    }
}

/// Decoupled weight decay: `p <- p - (delta + decay p)` with `decay = lr weight_decay`.
///
/// The sum is subtracted at once, which in `f32` is seven times more accurate than shrinking `p`
/// first.
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

/// Momentum on the updates of a rule.
///
/// ```text
/// buf <- momentum buf + delta,  p <- p - lr buf
///                               p <- p - lr (delta + momentum buf)     with NESTEROV
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Trace<A, const NESTEROV: bool> {
    /// The momentum factor.
    pub momentum: A,
    /// The learning rate.
    pub lr: A,
}

impl<A: Element, const NESTEROV: bool> Wrapper<A> for Trace<A, NESTEROV> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["momentum_buffer"];
    const COST: u64 = 1;
    #[inline(always)]
    fn update(&self, _p: A, _g: A, delta: A, [buf]: [A; 1]) -> (A, [A; 1]) {
        let buf = self.momentum * buf + delta;
        let delta = if NESTEROV {
            delta + self.momentum * buf
        } else {
            buf
        };
        (self.lr * delta, [buf])
    }
    fn floors(&self) -> [A; 1] {
        [A::min_positive_value()]
    }
}
