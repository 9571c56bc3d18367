//! Schedules with warm-up.
use super::*;

schedule! {
    /// Linear warm-up, then cosine decay, then constant.
    ///
    /// # Schedule
    ///
    /// ```text
    /// init_lr + (peak_lr - init_lr) t / warmup_steps                        t < warmup_steps
    /// end_lr + (peak_lr - end_lr) ((1 + cos(pi x)) / 2)^exponent            after that
    /// x = min((t - warmup_steps) / (decay_steps - warmup_steps), 1)
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: [`Sequential`] of [`Linear`] and [`CosineAnnealing`]. optax:
    /// `warmup_cosine_decay_schedule`, whose `decay_steps` includes the warm-up too.
    WarmupCosine = "warmup_cosine" {
        /// Initial learning rate.
        init_lr: f64 [>= 0];
        /// Peak learning rate.
        peak_lr: f64 [>= 0];
        /// Warm-up steps.
        warmup_steps: u64;
        /// Total steps of warm-up and decay, more than `warmup_steps`.
        decay_steps: u64;
    }
    defaults {
        /// Final learning rate.
        end_lr: f64 [>= 0] = 0.0, "WarmupCosine::end_lr";
        /// Exponent of the cosine term.
        exponent: f64 [>= 0] = 1.0, "WarmupCosine::exponent";
    }
    check(self) {
        if self.decay_steps <= self.warmup_steps {
            return Err(self.wrong("decay_steps", self.decay_steps, "more than warmup_steps"));
        }
        Ok(())
    }
}

impl WarmupCosine {
    fn value_at(&self, step: u64) -> f64 {
        match step.checked_sub(self.warmup_steps) {
            None => between(self.init_lr, self.peak_lr, left(step, self.warmup_steps)),
            Some(since) => {
                let left = left(since, self.decay_steps.saturating_sub(self.warmup_steps));
                between(
                    self.peak_lr,
                    self.end_lr,
                    libm::pow(half_cosine(left), self.exponent),
                )
            }
        }
    }
}

schedule! {
    /// Linear warm-up, then [`ExponentialDecay`].
    ///
    /// # Schedule
    ///
    /// ```text
    /// init_lr + (peak_lr - init_lr) t / warmup_steps            t < warmup_steps
    /// peak_lr decay_rate^x                                      after that
    /// x = max(t - warmup_steps - transition_begin, 0) / transition_steps,
    ///     rounded down if staircase
    /// end_lr, if there is one: lower bound if decay_rate < 1, else upper bound
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: [`Sequential`] of [`Linear`] and [`Exponential`]. optax:
    /// `warmup_exponential_decay_schedule`.
    WarmupExponential = "warmup_exponential" {
        /// Initial learning rate.
        init_lr: f64 [>= 0];
        /// Peak learning rate.
        peak_lr: f64 [>= 0];
        /// Warm-up steps.
        warmup_steps: u64;
        /// Steps for each factor of `decay_rate`.
        transition_steps: u64 [>= 1];
        /// Decay rate.
        decay_rate: f64 [> 0];
    }
    defaults {
        /// Steps between warm-up and decay, at the peak learning rate.
        transition_begin: u64 = 0, "WarmupExponential::transition_begin";
        /// Decays at discrete intervals.
        staircase: bool = false, "WarmupExponential::staircase";
        /// Bound of the learning rate.
        end_lr: Option<f64> [>= 0] = None, "WarmupExponential::end_lr";
    }
}

impl WarmupExponential {
    fn value_at(&self, step: u64) -> f64 {
        match step.checked_sub(self.warmup_steps) {
            None => between(self.init_lr, self.peak_lr, left(step, self.warmup_steps)),
            Some(since) => self.decay().value(since),
        }
    }

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

/// The shape of the decay of [`WarmupStableDecay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum DecayShape {
    /// Linear.
    #[default]
    Linear,
    /// Half a cosine period.
    Cosine,
    /// One minus the square root of the completed fraction of the decay: steep at first.
    Sqrt,
}

impl FieldValue for DecayShape {}

schedule! {
    /// Linear warm-up, a long constant phase, then a short decay.
    ///
    /// Training can be continued from the end of the constant phase.
    ///
    /// # Schedule
    ///
    /// ```text
    /// init_lr + (peak_lr - init_lr) t / warmup_steps      t < warmup_steps
    /// peak_lr                                             the next stable_steps
    /// end_lr + (peak_lr - end_lr) f(x)                    after that
    /// x = min((t - warmup_steps - stable_steps) / decay_steps, 1)
    /// f(x) = 1 - x (linear), (1 + cos(pi x)) / 2 (cosine) or 1 - sqrt(x) (sqrt)
    /// ```
    ///
    /// With `decay_steps` = 0 there is no decay: the learning rate stays at `peak_lr`.
    ///
    /// # Elsewhere
    ///
    /// torch, optax: [`Sequential`] of three schedules.
    ///
    /// # Reference
    ///
    /// S. Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable
    /// Training Strategies", [arXiv:2404.06395](https://arxiv.org/abs/2404.06395).
    ///
    /// The shape `sqrt`, also called 1-sqrt: A. Haegele et al., "Scaling Laws and Compute-Optimal
    /// Training Beyond Fixed Training Durations",
    /// [arXiv:2405.18392](https://arxiv.org/abs/2405.18392).
    WarmupStableDecay = "warmup_stable_decay" {
        /// Peak learning rate.
        peak_lr: f64 [>= 0];
        /// Warm-up steps.
        warmup_steps: u64;
        /// Steps at the peak learning rate.
        stable_steps: u64;
        /// Steps of the decay; 0 for none.
        decay_steps: u64;
    }
    defaults {
        /// Initial learning rate.
        init_lr: f64 [>= 0] = 0.0, "WarmupStableDecay::init_lr";
        /// Final learning rate.
        end_lr: f64 [>= 0] = 0.0, "WarmupStableDecay::end_lr";
        /// Shape of the decay.
        decay: DecayShape = DecayShape::Linear, "WarmupStableDecay::decay";
    }
}

impl WarmupStableDecay {
    fn value_at(&self, step: u64) -> f64 {
        let Some(since) = step.checked_sub(self.warmup_steps) else {
            return between(self.init_lr, self.peak_lr, left(step, self.warmup_steps));
        };
        let Some(since) = since
            .checked_sub(self.stable_steps)
            .filter(|_| self.decay_steps > 0)
        else {
            return self.peak_lr;
        };
        let left = left(since, self.decay_steps);
        let fraction = match self.decay {
            DecayShape::Linear => left,
            DecayShape::Cosine => half_cosine(left),
            DecayShape::Sqrt => 1.0 - (1.0 - left).sqrt(),
        };
        between(self.peak_lr, self.end_lr, fraction)
    }
}

schedule! {
    /// Linear warm-up, then inverse square root decay.
    ///
    /// # Schedule
    ///
    /// ```text
    /// init_lr + (lr - init_lr) t / warmup_steps           t < warmup_steps
    /// lr sqrt(max(warmup_steps, 1) / max(t, 1))           after that
    /// ```
    ///
    /// The learning rate is `lr` at step `warmup_steps` and half of that at four times that step.
    /// It is not `lr / sqrt(t)`, but `sqrt(warmup_steps)` times that. [`Noam`] has `factor /
    /// sqrt(t)` with `model_size` = 1, where `t` is counted from 1.
    ///
    /// # Elsewhere
    ///
    /// torch: `LambdaLR`. optax: a function of the step.
    InverseSqrt = "inverse_sqrt" {
        /// Peak learning rate.
        lr: f64 [>= 0];
        /// Warm-up steps.
        warmup_steps: u64;
    }
    defaults {
        /// Initial learning rate.
        init_lr: f64 [>= 0] = 0.0, "InverseSqrt::init_lr";
    }
}

impl InverseSqrt {
    fn value_at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            between(self.init_lr, self.lr, left(step, self.warmup_steps))
        } else {
            self.lr * (self.warmup_steps.max(1) as f64 / step.max(1) as f64).sqrt()
        }
    }
}

schedule! {
    /// The schedule of the original Transformer, scaled by the width of the model.
    ///
    /// # Schedule
    ///
    /// ```text
    /// factor model_size^(-1/2) min(n^(-1/2), n warmup_steps^(-3/2))        n = t + 1
    /// ```
    ///
    /// The peak learning rate is `factor / sqrt(model_size * warmup_steps)`, at the
    /// `warmup_steps`-th step.
    ///
    /// # Elsewhere
    ///
    /// torch: `LambdaLR`. optax: a function of the step.
    ///
    /// # Reference
    ///
    /// A. Vaswani et al., "Attention Is All You Need",
    /// [arXiv:1706.03762](https://arxiv.org/abs/1706.03762).
    Noam = "noam" {
        /// Width of the model.
        model_size: u64 [>= 1];
        /// Warm-up steps.
        warmup_steps: u64 [>= 1];
    }
    defaults {
        /// Factor of the learning rate.
        factor: f64 [>= 0] = 1.0, "Noam::factor";
    }
}

impl Noam {
    fn value_at(&self, step: u64) -> f64 {
        let (n, warmup) = (step as f64 + 1.0, self.warmup_steps.max(1) as f64);
        let rise = n / warmup / warmup.sqrt();
        self.factor / (self.model_size.max(1) as f64).sqrt() * rise.min(1.0 / n.sqrt())
    }
}
