//! Cyclic schedules.
use super::*;

schedule! {
    /// Cosine annealing with a period of `2 t_max`: down in `t_max` steps and up again in as many.
    ///
    /// # Schedule
    ///
    /// ```text
    /// eta_min + (lr - eta_min) (1 + cos(pi t / t_max)) / 2
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `CosineAnnealingLR`. optax: [`CosineDecay`], which stays at its minimum.
    CosineAnnealing = "cosine_annealing" {
        /// Initial learning rate.
        lr: f64 [>= 0];
        /// Steps of half a period.
        t_max: u64 [>= 1];
    }
    defaults {
        /// Minimum learning rate.
        eta_min: f64 [>= 0] = 0.0, "CosineAnnealing::eta_min";
    }
}

impl CosineAnnealing {
    fn value_at(&self, step: u64) -> f64 {
        let half = self.t_max.max(1);
        let (halves, rest) = (step / half, step % half);
        let done = if halves % 2 == 0 { rest } else { half - rest };
        between(self.lr, self.eta_min, half_cosine(left(done, half)))
    }
}

schedule! {
    /// Cosine annealing with warm restarts, each cycle `t_mult` times as long as the previous one.
    ///
    /// # Schedule
    ///
    /// ```text
    /// eta_min + (lr - eta_min) (1 + cos(pi x)) / 2
    /// x = steps since the last restart / length of this cycle
    /// lengths t_0, t_0 t_mult, t_0 t_mult^2, ...
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `CosineAnnealingWarmRestarts`. optax: [`Sgdr`].
    ///
    /// # Reference
    ///
    /// I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    /// [arXiv:1608.03983](https://arxiv.org/abs/1608.03983).
    CosineWarmRestarts = "cosine_warm_restarts" {
        /// Learning rate at each restart.
        lr: f64 [>= 0];
        /// Steps of the first cycle.
        t_0: u64 [>= 1];
    }
    defaults {
        /// Factor of the length from one cycle to the next.
        t_mult: u64 [>= 1] = 1, "CosineWarmRestarts::t_mult";
        /// Minimum learning rate.
        eta_min: f64 [>= 0] = 0.0, "CosineWarmRestarts::eta_min";
    }
}

impl CosineWarmRestarts {
    fn value_at(&self, step: u64) -> f64 {
        let (mut since, mut length) = (step, self.t_0.max(1));
        if self.t_mult < 2 {
            since %= length;
        }
        // The length at least doubles: 64 iterations at most.
        while since >= length {
            since -= length;
            length = length.saturating_mul(self.t_mult);
        }
        between(self.lr, self.eta_min, half_cosine(left(since, length)))
    }
}

schedule! {
    /// The 1cycle policy: from an initial learning rate up to a maximum, then down to a small
    /// fraction of the initial one.
    ///
    /// # Schedule
    ///
    /// ```text
    /// initial = max_lr / div_factor
    /// final = initial / final_div_factor
    /// up = pct_start total_steps - 1
    /// two phases:    initial to max_lr until step up, then to final until step total_steps - 1
    /// three phases:  initial to max_lr until step up, then to initial until step 2 up,
    ///                then to final until step total_steps - 1
    /// ```
    ///
    /// Each phase is half a cosine period or linear. After the last phase the learning rate is
    /// constant.
    ///
    /// # Elsewhere
    ///
    /// torch: `OneCycleLR`, which raises an error after its last step. optax:
    /// `cosine_onecycle_schedule` and `linear_onecycle_schedule`, whose phases end at other steps,
    /// are [`PiecewiseInterpolate`].
    ///
    /// # Reference
    ///
    /// L. N. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
    /// Learning Rates", [arXiv:1708.07120](https://arxiv.org/abs/1708.07120). Its policy has three
    /// phases.
    OneCycle = "one_cycle" {
        /// Maximum learning rate.
        max_lr: f64 [>= 0];
        /// Total steps of the cycle.
        total_steps: u64 [>= 1];
    }
    defaults {
        /// Fraction of the steps in which the learning rate rises; with three phases at most 0.5.
        pct_start: f64 [in 0..=1] = 0.3, "OneCycle::pct_start";
        /// Annealing: cosine or linear.
        anneal: Interpolation = Interpolation::Cosine, "OneCycle::anneal";
        /// Ratio of the maximum learning rate to the initial one.
        div_factor: f64 [> 0] = 25.0, "OneCycle::div_factor";
        /// Ratio of the initial learning rate to the final one.
        final_div_factor: f64 [> 0] = 1e4, "OneCycle::final_div_factor";
        /// Adds a phase: down to the initial learning rate in as many steps as it rose, and only
        /// then to the final one.
        three_phase: bool = false, "OneCycle::three_phase";
    }
    check(self) {
        if self.three_phase && self.pct_start > 0.5 {
            return Err(self.wrong("pct_start", self.pct_start, "at most 0.5 with three phases"));
        }
        Ok(())
    }
}

impl OneCycle {
    fn value_at(&self, step: u64) -> f64 {
        let (t, steps) = (step as f64, self.total_steps as f64);
        let initial = self.max_lr / self.div_factor;
        // Not an integer in general, so the peak may fall between two steps.
        let up = self.pct_start * steps - 1.0;
        let (start, end, from, to) = if t <= up {
            (0.0, up, initial, self.max_lr)
        } else if self.three_phase && t <= 2.0 * up {
            (up, 2.0 * up, self.max_lr, initial)
        } else {
            let (start, from) = if self.three_phase {
                (2.0 * up, initial)
            } else {
                (up, self.max_lr)
            };
            (start, steps - 1.0, from, initial / self.final_div_factor)
        };
        let left = if end > start {
            ((end - t) / (end - start)).clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.anneal.between(from, to, left)
    }
}

/// How the amplitude of [`Cyclic`] changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum CyclicMode {
    /// Constant amplitude.
    #[default]
    Triangular,
    /// Halved after each cycle.
    Triangular2,
    /// Multiplied by gamma at every step.
    ExpRange,
}

impl FieldValue for CyclicMode {}

schedule! {
    /// Triangular cycles between two learning rates.
    ///
    /// # Schedule
    ///
    /// ```text
    /// base_lr + (max_lr - base_lr) h s
    /// h = x / step_size_up while x <= step_size_up, else (period - x) / step_size_down
    /// x = t mod period         period = step_size_up + step_size_down
    /// s = 1 (triangular), 2^-floor(t / period) (triangular2), gamma^t (exp_range)
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `CyclicLR`.
    ///
    /// # Reference
    ///
    /// L. N. Smith, "Cyclical Learning Rates for Training Neural Networks",
    /// [arXiv:1506.01186](https://arxiv.org/abs/1506.01186).
    Cyclic = "cyclic" {
        /// Minimum learning rate.
        base_lr: f64 [>= 0];
        /// Maximum learning rate of the first cycle.
        max_lr: f64 [>= 0];
    }
    defaults {
        /// Steps of the rising half.
        step_size_up: u64 [>= 1] = 2000, "Cyclic::step_size_up";
        /// Steps of the falling half; `None` for as many as in the rising half.
        step_size_down: Option<u64> [>= 1] = None, "Cyclic::step_size_down";
        /// How the amplitude changes.
        mode: CyclicMode = CyclicMode::Triangular, "Cyclic::mode";
        /// Factor of each step in `exp_range` mode.
        gamma: f64 [>= 0] = 1.0, "Cyclic::gamma";
    }
}

impl Cyclic {
    fn value_at(&self, step: u64) -> f64 {
        let up = self.step_size_up.max(1);
        let down = self.step_size_down.unwrap_or(up).max(1);
        let period = up.saturating_add(down);
        let (cycle, x) = (step / period, step % period);
        let height = match x.checked_sub(up) {
            None => 1.0 - left(x, up),
            Some(since) => left(since, down),
        };
        let scale = match self.mode {
            CyclicMode::Triangular => 1.0,
            CyclicMode::Triangular2 => libm::exp2(-(cycle as f64)),
            CyclicMode::ExpRange => libm::pow(self.gamma, step as f64),
        };
        self.base_lr + (self.max_lr - self.base_lr) * (height * scale)
    }
}

schedule! {
    /// Cycles of [`WarmupCosine`], each of its `decay_steps`; the last one continues forever.
    ///
    /// # Schedule
    ///
    /// ```text
    /// WarmupCosine of this cycle at (t - steps of the previous cycles)
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: [`CosineWarmRestarts`]. optax: `sgdr_schedule`.
    ///
    /// # Reference
    ///
    /// I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    /// [arXiv:1608.03983](https://arxiv.org/abs/1608.03983).
    Sgdr = "sgdr" {
        /// The cycles, at least one.
        cycles: Vec<WarmupCosine>;
    }
    defaults {}
    check(self) {
        if self.cycles.is_empty() {
            return Err(self.wrong("cycles", "[]", "one cycle at least"));
        }
        self.cycles.iter().try_for_each(Schedule::validate)
    }
}

impl Sgdr {
    fn value_at(&self, step: u64) -> f64 {
        let Some((last, before)) = self.cycles.split_last() else {
            return f64::NAN;
        };
        let mut since = step;
        for cycle in before {
            match since.checked_sub(cycle.decay_steps) {
                None => return cycle.value(since),
                Some(rest) => since = rest,
            }
        }
        last.value(since)
    }
}
