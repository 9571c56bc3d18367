//! Schedules with warm-up.
use super::*;
#[cfg(feature = "serde")]
use default::{ratio, whole};

schedule! {
    /// A linear warm-up, then cosine decay, then constant.
    ///
    /// ```text
    /// init_lr + (peak_lr - init_lr) t / warmup_steps                        t < warmup_steps
    /// end_lr + (peak_lr - end_lr) ((1 + cos(pi x)) / 2)^exponent            after that
    /// x = min((t - warmup_steps) / (decay_steps - warmup_steps), 1)
    /// ```
    ///
    /// torch: [`Sequential`] of [`Linear`] and [`CosineAnnealing`]. optax: `warmup_cosine_decay_schedule`, whose
    /// `decay_steps` is the whole length too, warm-up included.
    WarmupCosine {
        /// Initial learning rate, >= 0.
        init_lr: f64,
        /// Peak learning rate, >= 0.
        peak_lr: f64,
        /// Warm-up steps.
        warmup_steps: u64,
        /// Total steps of warm-up and decay, > `warmup_steps`.
        decay_steps: u64,
    }
    defaults {
        /// Final learning rate, >= 0.
        end_lr: f64 = 0.0, "ratio::<0, 1>";
        /// Exponent of the cosine term, >= 0.
        exponent: f64 = 1.0, "ratio::<1, 1>";
    }
}

impl Scheduled for WarmupCosine {
    fn value(&self, step: u64) -> f64 {
        match step.checked_sub(self.warmup_steps) {
            None => between(self.init_lr, self.peak_lr, left(step, self.warmup_steps)),
            Some(since) => {
                let left = left(since, self.decay_steps.saturating_sub(self.warmup_steps));
                between(self.peak_lr, self.end_lr, half_cosine(left).powf(self.exponent))
            }
        }
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("init_lr", self.init_lr)?;
        check::non_negative("peak_lr", self.peak_lr)?;
        check::that(self.decay_steps > self.warmup_steps, "decay_steps", self.decay_steps, "more than warmup_steps")?;
        check::non_negative("end_lr", self.end_lr)?;
        check::non_negative("exponent", self.exponent)
    }
}

schedule! {
    /// A linear warm-up, then [`ExponentialDecay`].
    ///
    /// ```text
    /// init_lr + (peak_lr - init_lr) t / warmup_steps                t < warmup_steps
    /// peak_lr decay_rate^x          x = max(t - warmup_steps - transition_begin, 0) / transition_steps,
    ///                               rounded down if staircase
    /// end_lr, if there is one: at least that if decay_rate < 1, else at most
    /// ```
    ///
    /// torch: [`Sequential`] of [`Linear`] and [`Exponential`]. optax: `warmup_exponential_decay_schedule`.
    WarmupExponential {
        /// Initial learning rate, >= 0.
        init_lr: f64,
        /// Peak learning rate, >= 0.
        peak_lr: f64,
        /// Warm-up steps.
        warmup_steps: u64,
        /// Steps for each factor of `decay_rate`, >= 1.
        transition_steps: u64,
        /// Decay rate, > 0.
        decay_rate: f64,
    }
    defaults {
        /// Steps between warm-up and decay, at the peak learning rate.
        transition_begin: u64 = 0, "whole::<0>";
        /// Decays at discrete intervals.
        staircase: bool = false, "Default::default";
        /// Bound of the learning rate, >= 0.
        end_lr: Option<f64> = None, "Default::default";
    }
}

impl WarmupExponential {
    fn decay(&self) -> ExponentialDecay {
        ExponentialDecay {
            lr: self.peak_lr,
            transition_steps: self.transition_steps,
            decay_rate: self.decay_rate,
            transition_begin: self.transition_begin,
            staircase: self.staircase,
            end_lr: self.end_lr,
        }
    }
}

impl Scheduled for WarmupExponential {
    fn value(&self, step: u64) -> f64 {
        match step.checked_sub(self.warmup_steps) {
            None => between(self.init_lr, self.peak_lr, left(step, self.warmup_steps)),
            Some(since) => self.decay().value(since),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("init_lr", self.init_lr)?;
        check::non_negative("peak_lr", self.peak_lr)?;
        self.decay().validate()
    }
}

/// The shape of the last phase of [`WarmupStableDecay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum DecayShape {
    /// Linear.
    #[default]
    Linear,
    /// Half a cosine.
    Cosine,
    /// One minus the root of the fraction of the decay that is done: steep at first.
    Sqrt,
}

schedule! {
    /// A linear warm-up, a long constant phase, a short decay: training can be continued from the end of the constant phase.
    ///
    /// ```text
    /// init_lr + (peak_lr - init_lr) t / warmup_steps      t < warmup_steps
    /// peak_lr                                             the next stable_steps
    /// end_lr + (peak_lr - end_lr) f(x)                    x = min((t - warmup_steps - stable_steps) / decay_steps, 1)
    /// f(x) = 1 - x (linear), (1 + cos(pi x)) / 2 (cosine) or 1 - sqrt(x) (sqrt)
    /// ```
    ///
    /// torch, optax: [`Sequential`] of three. Sources: S. Hu et al., arXiv:2404.06395; the shape `sqrt`, also called
    /// 1-sqrt: A. Haegele et al., arXiv:2405.18392.
    WarmupStableDecay {
        /// Peak learning rate, >= 0.
        peak_lr: f64,
        /// Warm-up steps.
        warmup_steps: u64,
        /// Steps at the peak learning rate.
        stable_steps: u64,
        /// Steps of the decay.
        decay_steps: u64,
    }
    defaults {
        /// Initial learning rate, >= 0.
        init_lr: f64 = 0.0, "ratio::<0, 1>";
        /// Final learning rate, >= 0.
        end_lr: f64 = 0.0, "ratio::<0, 1>";
        /// The shape of the decay.
        decay: DecayShape = DecayShape::Linear, "Default::default";
    }
}

impl Scheduled for WarmupStableDecay {
    fn value(&self, step: u64) -> f64 {
        let Some(since) = step.checked_sub(self.warmup_steps) else {
            return between(self.init_lr, self.peak_lr, left(step, self.warmup_steps));
        };
        let Some(since) = since.checked_sub(self.stable_steps) else {
            return self.peak_lr;
        };
        let left = left(since, self.decay_steps);
        let share = match self.decay {
            DecayShape::Linear => left,
            DecayShape::Cosine => half_cosine(left),
            DecayShape::Sqrt => 1.0 - (1.0 - left).sqrt(),
        };
        between(self.peak_lr, self.end_lr, share)
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("peak_lr", self.peak_lr)?;
        check::non_negative("init_lr", self.init_lr)?;
        check::non_negative("end_lr", self.end_lr)
    }
}

schedule! {
    /// A linear warm-up, then inverse square root decay.
    ///
    /// ```text
    /// init_lr + (lr - init_lr) t / warmup_steps           t < warmup_steps
    /// lr sqrt(max(warmup_steps, 1) / max(t, 1))
    /// ```
    ///
    /// The learning rate is `lr` at step `warmup_steps` and half of it at four times that step. torch, optax: a lambda.
    InverseSqrt {
        /// Peak learning rate, >= 0.
        lr: f64,
        /// Warm-up steps.
        warmup_steps: u64,
    }
    defaults {
        /// Initial learning rate, >= 0.
        init_lr: f64 = 0.0, "ratio::<0, 1>";
    }
}

impl Scheduled for InverseSqrt {
    fn value(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            between(self.init_lr, self.lr, left(step, self.warmup_steps))
        } else {
            self.lr * (self.warmup_steps.max(1) as f64 / step.max(1) as f64).sqrt()
        }
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("init_lr", self.init_lr)
    }
}

schedule! {
    /// The schedule of the original transformer, scaled by the width of the model.
    ///
    /// ```text
    /// factor model_size^(-1/2) min(n^(-1/2), n warmup_steps^(-3/2))        n = t + 1
    /// ```
    ///
    /// The peak learning rate is `factor / sqrt(model_size * warmup_steps)`, at the `warmup_steps`-th step. torch, optax: a
    /// lambda. Source: A. Vaswani et al., arXiv:1706.03762.
    Noam {
        /// The width of the model, >= 1.
        model_size: u64,
        /// Warm-up steps, >= 1.
        warmup_steps: u64,
    }
    defaults {
        /// Factor of the learning rate, >= 0.
        factor: f64 = 1.0, "ratio::<1, 1>";
    }
}

impl Scheduled for Noam {
    fn value(&self, step: u64) -> f64 {
        let (n, warmup) = (step as f64 + 1.0, self.warmup_steps.max(1) as f64);
        let rise = n / warmup / warmup.sqrt();
        self.factor / (self.model_size.max(1) as f64).sqrt() * rise.min(1.0 / n.sqrt())
    }

    fn validate(&self) -> Result<(), Error> {
        at_least_one("model_size", self.model_size)?;
        at_least_one("warmup_steps", self.warmup_steps)?;
        check::non_negative("factor", self.factor)
    }
}
