use super::{Wrap, wrap_config};
use crate::{
    Error, Now,
    error::check,
    kernel::{Either, Element, Kernel, Pass, Wrapper},
};

wrap_config! {
    /// The optimizer runs ahead, and every so many steps the parameters go back to a point on the way from where the last such
    /// stretch began: steadier, at the cost of one array that is touched only then.
    ///
    /// ```text
    /// after every sync_period steps:  slow <- slow + slow_step_size (p - slow),  p <- slow      slow = p at first
    /// ```
    ///
    /// The state of the inner optimizer stays as it is (optax and pytorch_optimizer's default).
    /// Source: M. Zhang et al., arXiv:1907.08610. State: `slow`.
    Lookahead {
        /// Steps of a stretch, >= 1.
        sync_period: u64 = 5,
        /// Part of the way that is kept, in [0, 1].
        slow_step_size: f64 = 0.5,
    }
}

/// Goes to the slow parameters.
#[derive(Clone, Copy, Debug)]
pub struct Synchronize<A> {
    back: A,
    /// Whether this step ends a stretch.
    pub(super) on: bool,
}

impl<A: Element> Wrapper<A> for Synchronize<A> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["slow"];
    const COST: u64 = 1;
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 1] {
        [p]
    }
    #[inline(always)]
    fn land(&self, _p: A, new: A, [slow]: [A; 1]) -> (A, [A; 1]) {
        // Exact where the whole way is kept.
        let next = new + self.back * (slow - new);
        if self.on { (next, [next]) } else { (new, [slow]) }
    }
}

impl Lookahead {
    pub(super) fn wrapper<A: Element>(&self, now: &Now) -> Synchronize<A> {
        Synchronize { back: A::of(1.0 - self.slow_step_size), on: now.t.is_multiple_of(self.sync_period.max(1)) }
    }
}

impl Wrap for Lookahead {
    type Kernel<A: Element, K: Kernel<A>> = Either<K::With<Synchronize<A>>, K::With<Pass>>;

    fn validate(&self) -> Result<(), Error> {
        check::that(self.sync_period >= 1, "sync_period", self.sync_period, "at least 1")?;
        check::unit("slow_step_size", self.slow_step_size)
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, now: &Now, _lr: f64, kernel: K) -> Self::Kernel<A, K> {
        let wrapper = self.wrapper(now);
        // The array has to begin at the first step.
        if wrapper.on || now.t == 1 { Either::X(kernel.with(wrapper)) } else { Either::Y(kernel.with(Pass)) }
    }
}
