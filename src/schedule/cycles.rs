//! Cyclic schedules.
use super::*;
#[cfg(feature = "serde")]
use default::{ratio, whole};

schedule! {
    /// A cosine with the period 2 `t_max`: down in `t_max` steps, up again in as many.
    ///
    /// ```text
    /// eta_min + (lr - eta_min) (1 + cos(pi t / t_max)) / 2
    /// ```
    ///
    /// torch: `CosineAnnealingLR`. optax: [`CosineDecay`], which stays down.
    CosineAnnealing {
        /// Initial learning rate, >= 0.
        lr: f64,
        /// Steps of half a period, >= 1.
        t_max: u64,
    }
    defaults {
        /// Minimum learning rate, >= 0.
        eta_min: f64 = 0.0, "ratio::<0, 1>";
    }
}

impl Scheduled for CosineAnnealing {
    fn value(&self, step: u64) -> f64 {
        let half = self.t_max.max(1);
        let (halves, rest) = (step / half, step % half);
        let done = if halves % 2 == 0 { rest } else { half - rest };
        between(self.lr, self.eta_min, half_cosine(left(done, half)))
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        at_least_one("t_max", self.t_max)?;
        check::non_negative("eta_min", self.eta_min)
    }
}

schedule! {
    /// Cosine annealing with warm restarts, each cycle `t_mult` times as long as the last.
    ///
    /// ```text
    /// eta_min + (lr - eta_min) (1 + cos(pi x)) / 2        x = steps since the last restart / length of this cycle
    /// lengths t_0, t_0 t_mult, t_0 t_mult^2, ...
    /// ```
    ///
    /// torch: `CosineAnnealingWarmRestarts`. optax: [`Sgdr`]. Source: I. Loshchilov, F. Hutter, arXiv:1608.03983.
    CosineWarmRestarts {
        /// Learning rate at each restart, >= 0.
        lr: f64,
        /// Steps of the first cycle, >= 1.
        t_0: u64,
    }
    defaults {
        /// Factor of the length from one cycle to the next, >= 1.
        t_mult: u64 = 1, "whole::<1>";
        /// Minimum learning rate, >= 0.
        eta_min: f64 = 0.0, "ratio::<0, 1>";
    }
}

impl Scheduled for CosineWarmRestarts {
    fn value(&self, step: u64) -> f64 {
        let (mut since, mut length) = (step, self.t_0.max(1));
        if self.t_mult < 2 {
            since %= length;
        }
        // Lengths that double at least: 64 rounds at most.
        while since >= length {
            since -= length;
            length = length.saturating_mul(self.t_mult);
        }
        between(self.lr, self.eta_min, half_cosine(left(since, length)))
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        at_least_one("t_0", self.t_0)?;
        at_least_one("t_mult", self.t_mult)?;
        check::non_negative("eta_min", self.eta_min)
    }
}

schedule! {
    /// The 1cycle policy: from an initial learning rate up to a maximum, then down to a small fraction of the initial one.
    ///
    /// ```text
    /// initial = max_lr / div_factor        final = initial / final_div_factor        up = pct_start total_steps - 1
    /// two phases:    initial to max_lr until step up, then to final until step total_steps - 1
    /// three phases:  initial to max_lr until step up, to initial until step 2 up, to final until step total_steps - 1
    /// ```
    ///
    /// Each phase is half a cosine or linear; after the last the learning rate is constant. torch: `OneCycleLR`, which stops with an error
    /// after its last step. optax: `cosine_onecycle_schedule` and `linear_onecycle_schedule`, whose phases end at other
    /// steps, are [`PiecewiseInterpolate`]. Source: L. N. Smith, N. Topin, arXiv:1708.07120; its policy has three phases.
    OneCycle {
        /// Maximum learning rate, >= 0.
        max_lr: f64,
        /// Total steps of the cycle, >= 1.
        total_steps: u64,
    }
    defaults {
        /// Fraction of the steps in which the learning rate rises, in [0, 1], with three phases in [0, 0.5].
        pct_start: f64 = 0.3, "ratio::<3, 10>";
        /// Annealing: cosine or linear.
        anneal: Interpolation = Interpolation::Cosine, "Default::default";
        /// Maximum learning rate over the initial one, > 0.
        div_factor: f64 = 25.0, "ratio::<25, 1>";
        /// Initial learning rate over the final one, > 0.
        final_div_factor: f64 = 1e4, "ratio::<10_000, 1>";
        /// Adds a phase: down to the initial learning rate as slowly as it rose, and only then to the final one.
        three_phase: bool = false, "Default::default";
    }
}

impl Scheduled for OneCycle {
    fn value(&self, step: u64) -> f64 {
        let (t, steps) = (step as f64, self.total_steps as f64);
        let initial = self.max_lr / self.div_factor;
        // Not whole in general, so steps may fall on either side of the peak.
        let up = self.pct_start * steps - 1.0;
        let (start, end, from, to) = if t <= up {
            (0.0, up, initial, self.max_lr)
        } else if self.three_phase && t <= 2.0 * up {
            (up, 2.0 * up, self.max_lr, initial)
        } else {
            let (start, from) = if self.three_phase { (2.0 * up, initial) } else { (up, self.max_lr) };
            (start, steps - 1.0, from, initial / self.final_div_factor)
        };
        let left = if end > start { ((end - t) / (end - start)).clamp(0.0, 1.0) } else { 0.0 };
        self.anneal.between(from, to, left)
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("max_lr", self.max_lr)?;
        at_least_one("total_steps", self.total_steps)?;
        check::unit("pct_start", self.pct_start)?;
        let room = !self.three_phase || self.pct_start <= 0.5;
        check::that(room, "pct_start", self.pct_start, "at most 0.5 with three phases")?;
        positive("div_factor", self.div_factor)?;
        positive("final_div_factor", self.final_div_factor)
    }
}

/// How the amplitude of [`Cyclic`] changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum CyclicMode {
    /// Constant amplitude.
    #[default]
    Triangular,
    /// Halved after each cycle.
    Triangular2,
    /// Multiplied by gamma at every step.
    ExpRange,
}

schedule! {
    /// Triangular cycles between two learning rates.
    ///
    /// ```text
    /// base_lr + (max_lr - base_lr) h s
    /// h = x / step_size_up while x <= step_size_up, else (period - x) / step_size_down
    /// x = t mod period         period = step_size_up + step_size_down
    /// s = 1 (triangular), 2^-floor(t / period) (triangular2), gamma^t (exp_range)
    /// ```
    ///
    /// torch: `CyclicLR`. Source: L. N. Smith, arXiv:1506.01186.
    Cyclic {
        /// Minimum learning rate, >= 0.
        base_lr: f64,
        /// Maximum learning rate of the first cycle, >= 0.
        max_lr: f64,
    }
    defaults {
        /// Steps of the rising half, >= 1.
        step_size_up: u64 = 2000, "whole::<2000>";
        /// Steps of the falling half, >= 1; `None`: as many as in the rising half.
        step_size_down: Option<u64> = None, "Default::default";
        /// How the amplitude changes.
        mode: CyclicMode = CyclicMode::Triangular, "Default::default";
        /// Factor of each step in `exp_range`, >= 0.
        gamma: f64 = 1.0, "ratio::<1, 1>";
    }
}

impl Scheduled for Cyclic {
    fn value(&self, step: u64) -> f64 {
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
            CyclicMode::Triangular2 => (-(cycle as f64)).exp2(),
            CyclicMode::ExpRange => self.gamma.powf(step as f64),
        };
        self.base_lr + (self.max_lr - self.base_lr) * (height * scale)
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("base_lr", self.base_lr)?;
        check::non_negative("max_lr", self.max_lr)?;
        at_least_one("step_size_up", self.step_size_up)?;
        at_least_one("step_size_down", self.step_size_down.unwrap_or(1))?;
        check::non_negative("gamma", self.gamma)
    }
}

schedule! {
    /// Cycles of [`WarmupCosine`], each of its `decay_steps`; the last continues forever.
    ///
    /// ```text
    /// WarmupCosine of this cycle at (t - steps of the cycles before)
    /// ```
    ///
    /// torch: [`CosineWarmRestarts`]. optax: `sgdr_schedule`. Source: I. Loshchilov, F. Hutter, arXiv:1608.03983.
    Sgdr {
        /// The cycles, at least one.
        cycles: Vec<WarmupCosine>,
    }
    defaults {}
}

impl Scheduled for Sgdr {
    fn value(&self, step: u64) -> f64 {
        let Some((last, before)) = self.cycles.split_last() else { return f64::NAN };
        let mut since = step;
        for cycle in before {
            match since.checked_sub(cycle.decay_steps) {
                None => return cycle.value(since),
                Some(rest) => since = rest,
            }
        }
        last.value(since)
    }

    fn validate(&self) -> Result<(), Error> {
        check::that(!self.cycles.is_empty(), "cycles", "[]", "one cycle at least")?;
        self.cycles.iter().try_for_each(WarmupCosine::validate)
    }
}
