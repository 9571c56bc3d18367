use super::{Wrap, wrap_parameters};
use crate::{
    algorithm::StepContext,
    array::Element,
    kernel::{Either, Hooks, Idle, Kernel, Wrapper},
};

wrap_parameters! {
    /// Lookahead: every `sync_period` steps the slow parameters move towards the fast ones, and the
    /// fast parameters are reset to them.
    ///
    /// # Update rule
    ///
    /// ```text
    /// every sync_period steps:  slow <- slow + slow_step_size (p - slow),  p <- slow
    /// initially:                slow = p
    /// ```
    ///
    /// Steps of the optimizer count, whichever parameters they contain, so that all parameters
    /// synchronize at once; one without a gradient in such a step goes on to the next, as in
    /// pytorch_optimizer. The state of the wrapped algorithm is not reset, the default there and in
    /// optax.
    ///
    /// # State
    ///
    /// `slow`, in the shape of the parameter; steps without synchronization do not access it.
    ///
    /// # Reference
    ///
    /// M. Zhang et al., [arXiv:1907.08610](https://arxiv.org/abs/1907.08610).
    Lookahead = "lookahead" {
        /// Fast steps between synchronizations.
        sync_period: u64 [>= 1] = 5;
        /// Step size of the slow parameters; above 1, they move beyond the fast ones.
        slow_step_size: f64 [>= 0] = 0.5;
    }
}

/// Updates the slow parameters and resets the fast ones.
#[derive(Clone, Copy, Debug)]
pub struct Synchronize<A> {
    back: A,
    /// Whether this step synchronizes.
    on: bool,
}

impl<A: Element> Wrapper<A> for Synchronize<A> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["slow"];
    const COST: u64 = 1;
    fn hooks(&self) -> Hooks {
        if self.on {
            Hooks::NEW_PARAM
        } else {
            Hooks::NONE
        }
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 1] {
        [p]
    }
    #[inline(always)]
    fn param(&self, _p: A, new: A, [slow]: [A; 1]) -> (A, [A; 1]) {
        // Exact for a slow step size of 1.
        let next = new + self.back * (slow - new);
        if self.on {
            (next, [next])
        } else {
            (new, [slow])
        }
    }
}

impl Wrap for Lookahead {
    type Kernel<A: Element, K: Kernel<A>> = Either<K::With<Synchronize<A>>, K::With<Idle>>;

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(
        &self,
        step: &StepContext,
        _lr: f64,
        kernel: K,
    ) -> Self::Kernel<A, K> {
        let on = step.clock.now.is_multiple_of(self.sync_period.max(1));
        // The array is initialized at the first step.
        if on || step.t == 1 {
            let back = A::from_f64(1.0 - self.slow_step_size);
            Either::Left(kernel.with(Synchronize { back, on }))
        } else {
            Either::Right(kernel.with(Idle))
        }
    }
}
