//! Constant and decaying schedules.
use super::*;

schedule! {
    /// The same value at every step.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: no scheduler. optax: `constant_schedule`.
    Constant = "constant" {
        /// The value.
        lr: f64 [>= 0];
    }
    defaults {}
}

impl Constant {
    fn value_at(&self, _: u64) -> f64 {
        self.lr
    }
}

schedule! {
    /// Multiplied by gamma every `step_size` steps.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr gamma^floor(t / step_size)
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `StepLR`. optax: [`ExponentialDecay`] with `staircase`.
    Step = "step" {
        /// Initial learning rate.
        lr: f64 [>= 0];
        /// Steps between decays.
        step_size: u64 [>= 1];
    }
    defaults {
        /// Factor of each decay.
        gamma: f64 [>= 0] = 0.1, "Step::gamma";
    }
}

impl Step {
    fn value_at(&self, step: u64) -> f64 {
        let decays = step.checked_div(self.step_size).unwrap_or(0);
        self.lr * libm::pow(self.gamma, decays as f64)
    }
}

schedule! {
    /// Multiplied by gamma at each milestone.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr gamma^(number of milestones <= t)
    /// ```
    ///
    /// A milestone that is listed twice counts twice.
    ///
    /// # Elsewhere
    ///
    /// torch: `MultiStepLR`. optax: [`PiecewiseConstant`].
    MultiStep = "multi_step" {
        /// Initial learning rate.
        lr: f64 [>= 0];
        /// Steps at which the learning rate changes, in any order.
        milestones: Vec<u64>;
    }
    defaults {
        /// Factor at each milestone.
        gamma: f64 [>= 0] = 0.1, "MultiStep::gamma";
    }
}

impl MultiStep {
    fn value_at(&self, step: u64) -> f64 {
        let decays = self.milestones.iter().filter(|&&at| at <= step).count();
        self.lr * libm::pow(self.gamma, decays as f64)
    }
}

schedule! {
    /// Multiplied by gamma at every step.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr gamma^t
    /// ```
    ///
    /// With a gamma above 1 the learning rate grows without bound.
    ///
    /// # Elsewhere
    ///
    /// torch: `ExponentialLR`. optax: [`ExponentialDecay`].
    Exponential = "exponential" {
        /// Initial learning rate.
        lr: f64 [>= 0];
        /// Factor of each step.
        gamma: f64 [>= 0];
    }
    defaults {}
}

impl Exponential {
    fn value_at(&self, step: u64) -> f64 {
        self.lr * libm::pow(self.gamma, step as f64)
    }
}

schedule! {
    /// Exponential decay from step `transition_begin` on, continuous or staircase, optionally
    /// bounded by `end_lr`.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr decay_rate^x
    /// x = max(t - transition_begin, 0) / transition_steps, rounded down if staircase
    /// end_lr, if there is one: lower bound if decay_rate < 1, else upper bound
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: [`Exponential`] or [`Step`]. optax: `exponential_decay`.
    ExponentialDecay = "exponential_decay" {
        /// Initial learning rate.
        lr: f64 [>= 0];
        /// Steps for each factor of `decay_rate`.
        transition_steps: u64 [>= 1];
        /// Decay rate.
        decay_rate: f64 [> 0];
    }
    defaults {
        /// Steps before the decay begins.
        transition_begin: u64 = 0, "ExponentialDecay::transition_begin";
        /// Decays at discrete intervals.
        staircase: bool = false, "ExponentialDecay::staircase";
        /// Bound of the learning rate.
        end_lr: Option<f64> [>= 0] = None, "ExponentialDecay::end_lr";
    }
}

impl ExponentialDecay {
    fn value_at(&self, step: u64) -> f64 {
        let since = step.saturating_sub(self.transition_begin);
        let exponent = if self.staircase {
            since.checked_div(self.transition_steps).unwrap_or(0) as f64
        } else {
            since as f64 / self.transition_steps.max(1) as f64
        };
        let value = self.lr * libm::pow(self.decay_rate, exponent);
        match self.end_lr {
            Some(end) if self.decay_rate < 1.0 => value.max(end),
            Some(end) => value.min(end),
            None => value,
        }
    }
}

schedule! {
    /// Linear interpolation from one factor of the learning rate to another, then constant.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr (start_factor + (end_factor - start_factor) min(t / total_steps, 1))
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `LinearLR`, whose `total_iters` is `total_steps`. optax: `linear_schedule`,
    /// `warmup_constant_schedule`.
    Linear = "linear" {
        /// Learning rate that the factors multiply.
        lr: f64 [>= 0];
    }
    defaults {
        /// Steps between the two factors.
        total_steps: u64 [>= 1] = 5, "Linear::total_steps";
        /// Factor at step 0.
        start_factor: f64 [>= 0] = 1.0 / 3.0, "Linear::start_factor";
        /// Factor at the end.
        end_factor: f64 [>= 0] = 1.0, "Linear::end_factor";
    }
}

impl Linear {
    fn value_at(&self, step: u64) -> f64 {
        let left = left(step, self.total_steps);
        self.lr * between(self.start_factor, self.end_factor, left)
    }
}

schedule! {
    /// Polynomial decay to 0.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr (1 - min(t / total_steps, 1))^power
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: `PolynomialLR`, whose `total_iters` is `total_steps`. optax: [`PolynomialDecay`].
    Polynomial = "polynomial" {
        /// Initial learning rate.
        lr: f64 [>= 0];
    }
    defaults {
        /// Steps of the decay.
        total_steps: u64 [>= 1] = 5, "Polynomial::total_steps";
        /// Power of the polynomial; 1 is linear.
        power: f64 [>= 0] = 1.0, "Polynomial::power";
    }
}

impl Polynomial {
    fn value_at(&self, step: u64) -> f64 {
        self.lr * libm::pow(left(step, self.total_steps), self.power)
    }
}

schedule! {
    /// Polynomial decay from `lr` to `end_lr`, from step `transition_begin` on.
    ///
    /// # Schedule
    ///
    /// ```text
    /// end_lr + (lr - end_lr) (1 - x)^power
    /// x = min(max(t - transition_begin, 0) / transition_steps, 1)
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: [`Polynomial`], [`Linear`]. optax: `polynomial_schedule`, and with a power of 1
    /// `linear_schedule`.
    PolynomialDecay = "polynomial_decay" {
        /// Initial learning rate.
        lr: f64 [>= 0];
        /// Final learning rate.
        end_lr: f64 [>= 0];
        /// Steps of the decay.
        transition_steps: u64 [>= 1];
    }
    defaults {
        /// Power of the polynomial; 1 is linear.
        power: f64 [>= 0] = 1.0, "PolynomialDecay::power";
        /// Steps before the decay begins.
        transition_begin: u64 = 0, "PolynomialDecay::transition_begin";
    }
}

impl PolynomialDecay {
    fn value_at(&self, step: u64) -> f64 {
        let since = step.saturating_sub(self.transition_begin);
        let left = left(since, self.transition_steps);
        between(self.lr, self.end_lr, libm::pow(left, self.power))
    }
}

schedule! {
    /// Piecewise constant: scaled at each boundary.
    ///
    /// # Schedule
    ///
    /// ```text
    /// lr (product of the scales whose boundary is <= t)
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: [`MultiStep`]; with one boundary also `ConstantLR`. optax:
    /// `piecewise_constant_schedule`.
    PiecewiseConstant = "piecewise_constant" {
        /// Initial learning rate.
        lr: f64 [>= 0];
    }
    defaults {
        /// Boundaries, strictly increasing, and the scale >= 0 that is applied from each on.
        boundaries_and_scales: Vec<(u64, f64)> = Vec::new(),
            "PiecewiseConstant::boundaries_and_scales";
    }
    check(self) {
        if boundaries_are_valid(&self.boundaries_and_scales) {
            return Ok(());
        }
        let given = format!("{:?}", self.boundaries_and_scales);
        Err(self.wrong("boundaries_and_scales", given, BOUNDARIES))
    }
}

impl PiecewiseConstant {
    fn value_at(&self, step: u64) -> f64 {
        let reached = self
            .boundaries_and_scales
            .iter()
            .filter(|(at, _)| *at <= step);
        self.lr * reached.map(|(_, scale)| scale).product::<f64>()
    }
}

/// How to interpolate between values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Interpolation {
    /// Half a cosine period, flat at both ends.
    #[default]
    Cosine,
    /// Linear.
    Linear,
}

impl FieldValue for Interpolation {}

impl Interpolation {
    pub(super) fn between(self, start: f64, end: f64, left: f64) -> f64 {
        match self {
            Interpolation::Cosine => between(start, end, half_cosine(left)),
            Interpolation::Linear => between(start, end, left),
        }
    }
}

schedule! {
    /// Linear or cosine interpolation between boundaries, each of which multiplies the value by
    /// its scale.
    ///
    /// # Schedule
    ///
    /// ```text
    /// v[k] + (v[k+1] - v[k]) f(x)        b[k] <= t < b[k+1], x = (t - b[k]) / (b[k+1] - b[k])
    /// b = 0 and the boundaries           v = lr, and each v times the next scale
    /// f(x) = x (linear) or (1 - cos(pi x)) / 2 (cosine)
    /// ```
    ///
    /// After the last boundary it is constant.
    ///
    /// # Elsewhere
    ///
    /// optax: `piecewise_interpolate_schedule`, `linear_onecycle_schedule`,
    /// `cosine_onecycle_schedule`.
    PiecewiseInterpolate = "piecewise_interpolate" {
        /// Linear or cosine.
        interpolation: Interpolation;
        /// Initial learning rate.
        lr: f64 [>= 0];
    }
    defaults {
        /// Boundaries, strictly increasing, and the scale >= 0 that is fully applied at each.
        boundaries_and_scales: Vec<(u64, f64)> = Vec::new(),
            "PiecewiseInterpolate::boundaries_and_scales";
    }
    check(self) {
        if boundaries_are_valid(&self.boundaries_and_scales) {
            return Ok(());
        }
        let given = format!("{:?}", self.boundaries_and_scales);
        Err(self.wrong("boundaries_and_scales", given, BOUNDARIES))
    }
}

impl PiecewiseInterpolate {
    fn value_at(&self, step: u64) -> f64 {
        let (mut start, mut value) = (0, self.lr);
        for &(at, scale) in &self.boundaries_and_scales {
            let next = value * scale;
            if step < at {
                let left = left(step.saturating_sub(start), at.saturating_sub(start));
                return self.interpolation.between(value, next, left);
            }
            (start, value) = (at, next);
        }
        value
    }
}

const BOUNDARIES: &str = "increasing steps with finite scales >= 0";

fn boundaries_are_valid(given: &[(u64, f64)]) -> bool {
    let increasing = given.is_sorted_by(|a, b| a.0 < b.0);
    let scale = Interval::at_least(0.0);
    increasing && given.iter().all(|(_, x)| scale.contains(*x))
}

schedule! {
    /// Cosine decay, then constant.
    ///
    /// # Schedule
    ///
    /// ```text
    /// end_lr + (lr - end_lr) ((1 + cos(pi x)) / 2)^exponent        x = min(t / decay_steps, 1)
    /// ```
    ///
    /// # Elsewhere
    ///
    /// torch: [`CosineAnnealing`], which goes up again. optax: `cosine_decay_schedule`, whose
    /// `alpha` is `end_lr / lr`.
    CosineDecay = "cosine_decay" {
        /// Initial learning rate.
        lr: f64 [>= 0];
        /// Steps of the decay.
        decay_steps: u64 [>= 1];
    }
    defaults {
        /// Final learning rate.
        end_lr: f64 [>= 0] = 0.0, "CosineDecay::end_lr";
        /// Exponent of the cosine term.
        exponent: f64 [>= 0] = 1.0, "CosineDecay::exponent";
    }
}

impl CosineDecay {
    fn value_at(&self, step: u64) -> f64 {
        let cosine = half_cosine(left(step, self.decay_steps));
        between(self.lr, self.end_lr, libm::pow(cosine, self.exponent))
    }
}
