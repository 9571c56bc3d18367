//! Averages of the parameters, updated in the sweep.
use super::{Wrap, wrap_parameters};
use crate::{
    algorithm::{Clock, ElementState, StepContext},
    array::Element,
    kernel::{Either, Hooks, Idle, Kernel, Wrapper},
};

wrap_parameters! {
    /// An exponential moving average of the parameters.
    ///
    /// [`Optimizer::evaluate`](crate::Optimizer::evaluate) returns it,
    /// [`Optimizer::swap_average`](crate::Optimizer::swap_average) swaps it with the parameters.
    ///
    /// # Update rule
    ///
    /// ```text
    /// e <- e + w (p - e),  w = (1 - decay) / (1 - decay^t)        with debias
    ///                      w = 1 - decay,  e = p after the first step         without
    /// ```
    ///
    /// With `debias`, `e` is the bias-corrected average, in which the first steps weigh no more
    /// than their share: `optax.ema` of the parameters. Without, the parameters after the first
    /// step keep the weight decay^(t - 1): `torch.optim.swa_utils.AveragedModel` with
    /// `get_ema_multi_avg_fn(decay)`, updated after each step. Either equals p after the first step
    /// and stays equal to a constant p.
    ///
    /// Steps without the parameter do not count.
    ///
    /// # State
    ///
    /// `ema`, in the shape of the parameter.
    Ema = "ema" {
        /// Decay rate of the average.
        decay: f64 [in 0..1] = 0.999;
        /// Corrects the bias towards the parameters after the first step.
        debias: bool = true;
    }
    presets {
        /// `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn()`.
        torch { debias: false }
    }
}

wrap_parameters! {
    /// Stochastic weight averaging: the equally weighted mean of the parameters from some step on.
    ///
    /// # Update rule
    ///
    /// ```text
    /// every `every` steps from step `start` on:  e <- e + (p - e) / n        n: samples so far
    /// ```
    ///
    /// Before the first sample the average is the parameter itself. Steps of the optimizer count,
    /// so that all parameters are sampled at once: one that is not part of a sampled step counts
    /// with the value that it keeps, as in `torch.optim.swa_utils.AveragedModel`, and one that
    /// joins later is sampled from then on. Other steps do not touch the state.
    ///
    /// # State
    ///
    /// `swa`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// P. Izmailov et al., [arXiv:1803.05407](https://arxiv.org/abs/1803.05407).
    Swa = "swa" {
        /// First step whose parameters are sampled.
        start: u64 [>= 1] = 1;
        /// Steps between samples.
        every: u64 [>= 1] = 1;
    }
}

/// `e <- p + keep (e - p)` with the new p.
#[derive(Clone, Copy, Debug)]
pub struct Averaged<A> {
    keep: A,
}

impl<A: Element> Wrapper<A> for Averaged<A> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["ema"];
    const COST: u64 = 1;
    fn hooks(&self) -> Hooks {
        Hooks::NEW_PARAM
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 1] {
        [p]
    }
    #[inline(always)]
    fn param(&self, _p: A, new: A, [e]: [A; 1]) -> (A, [A; 1]) {
        // With keep = 0 and for a constant this is exact.
        (new, [new + self.keep * (e - new)])
    }
}

/// The mean of the average, the old parameter and the new one, with these weights for the first
/// two.
#[derive(Clone, Copy, Debug)]
pub struct Sampled<A> {
    keep: A,
    missed: A,
}

impl<A: Element> Wrapper<A> for Sampled<A> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["swa"];
    const COST: u64 = 1;
    fn hooks(&self) -> Hooks {
        Hooks {
            old_param: self.missed != A::ZERO,
            ..Hooks::NEW_PARAM
        }
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 1] {
        [p]
    }
    #[inline(always)]
    fn param(&self, p: A, new: A, [e]: [A; 1]) -> (A, [A; 1]) {
        let mean = new + self.keep * (e - new);
        let mean = if self.missed == A::ZERO {
            mean
        } else {
            mean + self.missed * (p - new)
        };
        (new, [mean])
    }
}

impl Wrap for Ema {
    type Kernel<A: Element, K: Kernel<A>> = K::With<Averaged<A>>;

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(
        &self,
        step: &StepContext,
        _lr: f64,
        kernel: K,
    ) -> Self::Kernel<A, K> {
        // In the first step the average becomes the parameter.
        let weight = match step.t {
            1 => 1.0,
            t if self.debias => (1.0 - self.decay) / -libm::expm1(t as f64 * libm::log(self.decay)),
            _ => 1.0 - self.decay,
        };
        let keep = A::from_f64(1.0 - weight);
        kernel.with(Averaged { keep })
    }

    fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        state.get("ema").unwrap_or(p)
    }
}

impl Swa {
    /// The number of samples in the first `steps` steps of the optimizer.
    fn samples(&self, steps: u64) -> u64 {
        match steps.checked_sub(self.start.max(1)) {
            Some(since) => since / self.every.max(1) + 1,
            None => 0,
        }
    }

    /// The samples in the average, and those after them of the first `steps` steps of the
    /// optimizer.
    fn counts(&self, clock: Clock, steps: u64) -> (u64, u64) {
        let last = self.samples(clock.last);
        (
            last.saturating_sub(self.samples(clock.joined)),
            self.samples(steps).saturating_sub(last),
        )
    }
}

impl Wrap for Swa {
    type Kernel<A: Element, K: Kernel<A>> = Either<K::With<Sampled<A>>, K::With<Idle>>;

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(
        &self,
        step: &StepContext,
        _lr: f64,
        kernel: K,
    ) -> Self::Kernel<A, K> {
        let clock = step.clock;
        let (held, missed) = self.counts(clock, clock.now.saturating_sub(1));
        let now = self.samples(clock.now) - self.samples(clock.now.saturating_sub(1));
        if missed + now > 0 {
            let weight = |samples| A::from_f64(samples as f64 / (held + missed + now) as f64);
            let (keep, missed) = (weight(held), weight(missed));
            Either::Left(kernel.with(Sampled { keep, missed }))
        } else if step.t == 1 {
            // The array is initialized at the first step: the average stays as it is.
            let (keep, missed) = (A::one(), A::ZERO);
            Either::Left(kernel.with(Sampled { keep, missed }))
        } else {
            Either::Right(kernel.with(Idle))
        }
    }

    fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        let clock = state.clock();
        let (held, missed) = self.counts(clock, clock.now);
        match state.get("swa") {
            Some(e) if held > 0 && missed == 0 => e,
            Some(e) if held > 0 => p + A::from_f64(held as f64 / (held + missed) as f64) * (e - p),
            _ => p,
        }
    }
}
