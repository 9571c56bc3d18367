use super::{Wrap, wrap_config};
use crate::{
    algorithm::Now,
    array::Element,
    error::{Error, check},
    kernel::{Either, Kernel, Pass, Wrapper},
};

wrap_config! {
    /// Lookahead: every `sync_period` steps the slow parameters move towards the fast ones, which continue from there. The one state
    /// array is touched only in these steps.
    ///
    /// ```text
    /// after every sync_period steps:  slow <- slow + slow_step_size (p - slow),  p <- slow      slow = p at first
    /// ```
    ///
    /// The state of the inner algorithm stays as it is, which is the default of optax and pytorch_optimizer.
    /// Source: M. Zhang et al., arXiv:1907.08610. State: `slow`.
    Lookahead {
        /// Fast steps between synchronizations, >= 1.
        sync_period: u64 = 5,
        /// Step size of the slow parameters, in [0, 1].
        slow_step_size: f64 = 0.5,
    }
}

/// Goes to the slow parameters.
#[derive(Clone, Copy, Debug)]
pub struct Synchronize<A> {
    back: A,
    /// Whether this step synchronizes.
    pub(crate) on: bool,
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
    pub(crate) fn wrapper<A: Element>(&self, now: &Now) -> Synchronize<A> {
        Synchronize { back: A::of(1.0 - self.slow_step_size), on: now.t.is_multiple_of(self.sync_period.max(1)) }
    }
}

impl Wrap for Lookahead {
    const NAME: &'static str = "lookahead";
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
