//! Averages of the parameters, kept in the sweep.
use super::{Wrap, wrap_config};
use crate::{
    algorithm::{Lane, Now},
    array::Element,
    error::{Error, check},
    kernel::{Either, Kernel, Pass, Wrapper},
};

wrap_config! {
    /// An exponential moving average of the parameters:
    /// [`Optimizer::evaluation`](crate::Optimizer::evaluation) gives it,
    /// [`Optimizer::swap_average`](crate::Optimizer::swap_average) exchanges it with the parameters.
    ///
    /// ```text
    /// e <- e + w (p - e),  w = (1 - decay) / (1 - decay^t)
    /// ```
    ///
    /// `e` is the bias-corrected average itself: the p of the first step after that step, and a constant for a constant p.
    /// This is `optax.ema` with debias on parameters, and torch's `AveragedModel` but for its start. State: `ema`.
    Ema {
        /// Decay rate of the average, in [0, 1).
        decay: f64 = 0.999,
    }
}

wrap_config! {
    /// Stochastic weight averaging: the plain mean of the parameters after some steps.
    ///
    /// ```text
    /// every `every` steps from step `start` on:  e <- e + (p - e) / n        n: how many so far
    /// ```
    ///
    /// Before step `start` the average is the parameter as it was at first. Steps that do not average do not touch it.
    /// Source: P. Izmailov et al., arXiv:1803.05407. State: `swa`.
    Swa {
        /// First step whose parameters count, >= 1.
        start: u64 = 1,
        /// Steps between those that count, >= 1.
        every: u64 = 1,
    }
}

/// `e <- p + keep (e - p)` with the new p.
#[derive(Clone, Copy, Debug)]
pub struct Averaged<A, const SWA: bool> {
    pub(crate) keep: A,
    /// Whether this step counts.
    pub(crate) on: bool,
}

impl<A: Element, const SWA: bool> Wrapper<A> for Averaged<A, SWA> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = if SWA { &["swa"] } else { &["ema"] };
    const COST: u64 = 1;
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 1] {
        [p]
    }
    #[inline(always)]
    fn land(&self, _p: A, new: A, [e]: [A; 1]) -> (A, [A; 1]) {
        // With keep = 0 and for a constant this is exact.
        (new, [if !SWA || self.on { new + self.keep * (e - new) } else { e }])
    }
}

impl Ema {
    pub(crate) fn wrapper<A: Element>(&self, now: &Now) -> Averaged<A, false> {
        let weight = (1.0 - self.decay) / -(now.t as f64 * self.decay.ln()).exp_m1();
        Averaged { keep: A::of(1.0 - weight), on: true }
    }
}

impl Wrap for Ema {
    const NAME: &'static str = "ema";
    type Kernel<A: Element, K: Kernel<A>> = K::With<Averaged<A, false>>;

    fn validate(&self) -> Result<(), Error> {
        check::share("decay", self.decay)
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, now: &Now, _lr: f64, kernel: K) -> Self::Kernel<A, K> {
        kernel.with(self.wrapper(now))
    }

    fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
        state.get("ema").unwrap_or(p)
    }
}

impl Swa {
    pub(crate) fn wrapper<A: Element>(&self, now: &Now) -> Averaged<A, true> {
        let since = now.t.checked_sub(self.start.max(1));
        let n = since.map_or(0, |since| since / self.every.max(1)) as f64 + 1.0;
        let on = since.is_some_and(|since| since.is_multiple_of(self.every.max(1)));
        Averaged { keep: A::of(1.0 - 1.0 / n), on }
    }
}

impl Wrap for Swa {
    const NAME: &'static str = "swa";
    type Kernel<A: Element, K: Kernel<A>> = Either<K::With<Averaged<A, true>>, K::With<Pass>>;

    fn validate(&self) -> Result<(), Error> {
        check::that(self.start >= 1, "start", self.start, "at least 1")?;
        check::that(self.every >= 1, "every", self.every, "at least 1")
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, now: &Now, _lr: f64, kernel: K) -> Self::Kernel<A, K> {
        let wrapper = self.wrapper(now);
        // The array has to begin at the first step.
        if wrapper.on || now.t == 1 { Either::X(kernel.with(wrapper)) } else { Either::Y(kernel.with(Pass)) }
    }

    fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
        state.get("swa").unwrap_or(p)
    }
}
