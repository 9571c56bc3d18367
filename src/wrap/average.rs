//! Averages of the parameters, updated in the sweep.
use super::{Wrap, wrap_parameters};
use crate::{
    algorithm::{Clock, ElementState, FieldValue, StepContext},
    array::Element,
    kernel::{Either, Hooks, Idle, Kernel, Wrapper},
};

/// How the decay rate of [`Ema`] grows to its final value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum EmaWarmup {
    /// Not at all.
    #[default]
    None,
    /// With the nth sample it is (1 + s) / (10 + s), s = n - 1: `num_updates` of
    /// `tf.train.ExponentialMovingAverage`, and `EMAModel` of diffusers without `use_ema_warmup`.
    Ratio,
    /// With the nth sample it is 1 - (1 + s / inv_gamma)^-power, s = n - 1: `use_ema_warmup` of
    /// diffusers, `use_warmup` of timm's `ModelEmaV3`, and `EMA` of ema_pytorch.
    Power,
}

impl FieldValue for EmaWarmup {}

wrap_parameters! {
    /// An exponential moving average of the parameters.
    ///
    /// [`Optimizer::evaluate`](crate::Optimizer::evaluate) returns it,
    /// [`Optimizer::swap_average`](crate::Optimizer::swap_average) swaps it with the parameters.
    ///
    /// # Update rule
    ///
    /// ```text
    /// every `every` steps from step `start` on, n = 1, 2, ...:
    ///   e <- e + w (p - e),  w = (1 - decay) / (1 - decay^n)                 with debias
    ///                        w = 1 - decay,  w = 1 for n = 1                 without
    ///                        w = 1 - min(decay, d_n),  w = 1 for n = 1       with a warm-up
    /// before step `start`:  e = p
    ///
    /// d_n = n / (9 + n) or 1 - (1 + (n - 1) / inv_gamma)^-power: see [`EmaWarmup`]
    /// ```
    ///
    /// With `debias`, `e` is the bias-corrected average, in which the first steps weigh no more
    /// than their share: `optax.ema` of the parameters. Without, the parameters after the first
    /// step keep the weight decay^(n - 1): `torch.optim.swa_utils.AveragedModel` with
    /// `get_ema_multi_avg_fn(decay)`, updated after each step. With a warm-up, which takes the
    /// place of `debias`, they lose that weight quickly. Each equals p after the first sample and
    /// stays equal to a constant p.
    ///
    /// `start` is `update_after_step + 1` of the libraries that [`EmaWarmup`] names, whose average
    /// is also the parameter until then. Steps without the parameter do not count.
    ///
    /// # State
    ///
    /// `ema`, in the shape of the parameter.
    Ema = "ema" {
        /// Decay rate of the average.
        decay: f64 [in 0..1] = 0.999;
        /// Corrects the bias towards the parameters after the first step.
        debias: bool = true;
        /// How the decay rate grows to `decay`.
        warmup: EmaWarmup = EmaWarmup::None;
        /// Samples over which the warm-up by a power begins.
        inv_gamma: f64 [> 0] = 1.0;
        /// Exponent of the warm-up by a power.
        power: f64 [> 0] = 2.0 / 3.0;
        /// First step whose parameters are averaged.
        start: u64 [>= 1] = 1;
        /// Steps between samples.
        every: u64 [>= 1] = 1;
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
    /// The step is no sample. Not another kernel, which would double the code of every chain.
    idle: bool,
}

impl<A: Element> Wrapper<A> for Averaged<A> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["ema"];
    const COST: u64 = 1;
    fn hooks(&self) -> Hooks {
        if self.idle {
            Hooks::NONE
        } else {
            Hooks::NEW_PARAM
        }
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 1] {
        [p]
    }
    #[inline(always)]
    fn param(&self, _p: A, new: A, [e]: [A; 1]) -> (A, [A; 1]) {
        // With keep = 0 and for a constant this is exact.
        let mean = new + self.keep * (e - new);
        (new, [if self.idle { e } else { mean }])
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

impl Ema {
    /// The weight of the parameters of step `t` in the average; `None` if they are no sample.
    #[inline]
    fn weight(&self, t: u64) -> Option<f64> {
        let (start, every) = (self.start.max(1), self.every.max(1));
        let since = match t.checked_sub(start) {
            // The average is the parameter up to the first sample.
            None | Some(0) => return Some(1.0),
            Some(since) if !since.is_multiple_of(every) => return None,
            Some(since) => (since / every) as f64,
        };
        Some(match self.warmup {
            EmaWarmup::None if self.debias => {
                (1.0 - self.decay) / -libm::expm1((since + 1.0) * libm::log(self.decay))
            }
            EmaWarmup::None => 1.0 - self.decay,
            EmaWarmup::Ratio => (1.0 - self.decay).max(9.0 / (10.0 + since)),
            EmaWarmup::Power => {
                let weight = libm::pow(1.0 + since / self.inv_gamma, -self.power);
                weight.max(1.0 - self.decay)
            }
        })
    }
}

impl Wrap for Ema {
    const ROW_WISE: bool = true;
    type Kernel<A: Element, K: Kernel<A>> = K::With<Averaged<A>>;

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(
        &self,
        step: &StepContext,
        _lr: f64,
        kernel: K,
    ) -> Self::Kernel<A, K> {
        let weight = self.weight(step.t);
        let keep = A::from_f64(1.0 - weight.unwrap_or(0.0));
        let idle = weight.is_none();
        kernel.with(Averaged { keep, idle })
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
