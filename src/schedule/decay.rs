//! Constant and decaying schedules.
use super::*;
#[cfg(feature = "serde")]
use default::{ratio, whole};

schedule! {
    /// The same value at every step.
    ///
    /// ```text
    /// lr
    /// ```
    ///
    /// torch: no scheduler. optax: `constant_schedule`.
    Constant {
        /// The value, >= 0.
        lr: f64,
    }
    defaults {}
}

impl Scheduled for Constant {
    fn value(&self, _: u64) -> f64 {
        self.lr
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)
    }
}

schedule! {
    /// Multiplied by gamma every `step_size` steps.
    ///
    /// ```text
    /// lr gamma^floor(t / step_size)
    /// ```
    ///
    /// torch: `StepLR`. optax: [`ExponentialDecay`] with `staircase`.
    Step {
        /// Initial learning rate, >= 0.
        lr: f64,
        /// Steps between decays, >= 1.
        step_size: u64,
    }
    defaults {
        /// Factor of each decay, >= 0.
        gamma: f64 = 0.1, "ratio::<1, 10>";
    }
}

impl Scheduled for Step {
    fn value(&self, step: u64) -> f64 {
        self.lr * self.gamma.powf(step.checked_div(self.step_size).unwrap_or(0) as f64)
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        at_least_one("step_size", self.step_size)?;
        check::non_negative("gamma", self.gamma)
    }
}

schedule! {
    /// Multiplied by gamma at each milestone.
    ///
    /// ```text
    /// lr gamma^(number of milestones <= t)
    /// ```
    ///
    /// torch: `MultiStepLR`. optax: [`PiecewiseConstant`]. A milestone that is listed twice counts twice.
    MultiStep {
        /// Initial learning rate, >= 0.
        lr: f64,
        /// Steps at which the learning rate changes, in any order.
        milestones: Vec<u64>,
    }
    defaults {
        /// Factor at each milestone, >= 0.
        gamma: f64 = 0.1, "ratio::<1, 10>";
    }
}

impl Scheduled for MultiStep {
    fn value(&self, step: u64) -> f64 {
        self.lr * self.gamma.powf(self.milestones.iter().filter(|&&at| at <= step).count() as f64)
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("gamma", self.gamma)
    }
}

schedule! {
    /// Multiplied by gamma at every step.
    ///
    /// ```text
    /// lr gamma^t
    /// ```
    ///
    /// torch: `ExponentialLR`. optax: [`ExponentialDecay`]. With a gamma above 1 it grows without bound.
    Exponential {
        /// Initial learning rate, >= 0.
        lr: f64,
        /// Factor of each step, >= 0.
        gamma: f64,
    }
    defaults {}
}

impl Scheduled for Exponential {
    fn value(&self, step: u64) -> f64 {
        self.lr * self.gamma.powf(step as f64)
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("gamma", self.gamma)
    }
}

schedule! {
    /// Exponential decay from step `transition_begin` on, continuous or staircase, optionally bounded by `end_lr`.
    ///
    /// ```text
    /// lr decay_rate^x          x = max(t - transition_begin, 0) / transition_steps, rounded down if staircase
    /// end_lr, if there is one: at least that if decay_rate < 1, else at most
    /// ```
    ///
    /// torch: [`Exponential`] or [`Step`]. optax: `exponential_decay`.
    ExponentialDecay {
        /// Initial learning rate, >= 0.
        lr: f64,
        /// Steps for each factor of `decay_rate`, >= 1.
        transition_steps: u64,
        /// Decay rate, > 0.
        decay_rate: f64,
    }
    defaults {
        /// Steps before the decay begins.
        transition_begin: u64 = 0, "whole::<0>";
        /// Decays at discrete intervals.
        staircase: bool = false, "Default::default";
        /// Bound of the learning rate, >= 0.
        end_lr: Option<f64> = None, "Default::default";
    }
}

impl Scheduled for ExponentialDecay {
    fn value(&self, step: u64) -> f64 {
        let since = step.saturating_sub(self.transition_begin);
        let exponent = if self.staircase {
            since.checked_div(self.transition_steps).unwrap_or(0) as f64
        } else {
            since as f64 / self.transition_steps.max(1) as f64
        };
        let value = self.lr * self.decay_rate.powf(exponent);
        match self.end_lr {
            Some(end) if self.decay_rate < 1.0 => value.max(end),
            Some(end) => value.min(end),
            None => value,
        }
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        at_least_one("transition_steps", self.transition_steps)?;
        positive("decay_rate", self.decay_rate)?;
        self.end_lr.map_or(Ok(()), |end| check::non_negative("end_lr", end))
    }
}

schedule! {
    /// Linear from one factor of the learning rate to another, then constant.
    ///
    /// ```text
    /// lr (start_factor + (end_factor - start_factor) min(t / total_steps, 1))
    /// ```
    ///
    /// torch: `LinearLR`, whose `total_iters` is `total_steps`. optax: `linear_schedule`, `warmup_constant_schedule`.
    Linear {
        /// Learning rate that the factors multiply, >= 0.
        lr: f64,
    }
    defaults {
        /// Steps between the two factors, >= 1.
        total_steps: u64 = 5, "whole::<5>";
        /// Factor at step 0, >= 0.
        start_factor: f64 = 1.0 / 3.0, "ratio::<1, 3>";
        /// Factor at the end, >= 0.
        end_factor: f64 = 1.0, "ratio::<1, 1>";
    }
}

impl Scheduled for Linear {
    fn value(&self, step: u64) -> f64 {
        self.lr * between(self.start_factor, self.end_factor, left(step, self.total_steps))
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        at_least_one("total_steps", self.total_steps)?;
        check::non_negative("start_factor", self.start_factor)?;
        check::non_negative("end_factor", self.end_factor)
    }
}

schedule! {
    /// Polynomial decay to 0.
    ///
    /// ```text
    /// lr (1 - min(t / total_steps, 1))^power
    /// ```
    ///
    /// torch: `PolynomialLR`, whose `total_iters` is `total_steps`. optax: [`PolynomialDecay`].
    Polynomial {
        /// Initial learning rate, >= 0.
        lr: f64,
    }
    defaults {
        /// Steps until 0, >= 1.
        total_steps: u64 = 5, "whole::<5>";
        /// Power of the polynomial, >= 0; 1 is linear.
        power: f64 = 1.0, "ratio::<1, 1>";
    }
}

impl Scheduled for Polynomial {
    fn value(&self, step: u64) -> f64 {
        self.lr * left(step, self.total_steps).powf(self.power)
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        at_least_one("total_steps", self.total_steps)?;
        check::non_negative("power", self.power)
    }
}

schedule! {
    /// Polynomial decay from `lr` to `end_lr`, from step `transition_begin` on.
    ///
    /// ```text
    /// end_lr + (lr - end_lr) (1 - x)^power        x = min(max(t - transition_begin, 0) / transition_steps, 1)
    /// ```
    ///
    /// torch: [`Polynomial`], [`Linear`]. optax: `polynomial_schedule`, with the power 1 `linear_schedule`.
    PolynomialDecay {
        /// Initial learning rate, >= 0.
        lr: f64,
        /// Final learning rate, >= 0.
        end_lr: f64,
        /// Steps of the decay, >= 1.
        transition_steps: u64,
    }
    defaults {
        /// Power of the polynomial, >= 0; 1 is linear.
        power: f64 = 1.0, "ratio::<1, 1>";
        /// Steps before the decay begins.
        transition_begin: u64 = 0, "whole::<0>";
    }
}

impl Scheduled for PolynomialDecay {
    fn value(&self, step: u64) -> f64 {
        let left = left(step.saturating_sub(self.transition_begin), self.transition_steps);
        between(self.lr, self.end_lr, left.powf(self.power))
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("end_lr", self.end_lr)?;
        at_least_one("transition_steps", self.transition_steps)?;
        check::non_negative("power", self.power)
    }
}

schedule! {
    /// Piecewise constant: scaled at each boundary.
    ///
    /// ```text
    /// lr (product of the scales whose boundary is <= t)
    /// ```
    ///
    /// torch: [`MultiStep`]; one boundary is also `ConstantLR`. optax: `piecewise_constant_schedule`.
    PiecewiseConstant {
        /// Initial learning rate, >= 0.
        lr: f64,
    }
    defaults {
        /// Steps, strictly increasing, and the scale >= 0 that acts from each on.
        boundaries_and_scales: Vec<(u64, f64)> = Vec::new(), "Default::default";
    }
}

impl Scheduled for PiecewiseConstant {
    fn value(&self, step: u64) -> f64 {
        let scales = self.boundaries_and_scales.iter().filter(|(at, _)| *at <= step).map(|(_, scale)| scale);
        self.lr * scales.product::<f64>()
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        boundaries(&self.boundaries_and_scales)
    }
}

/// How to interpolate between values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Interpolation {
    /// Half a cosine, flat at both ends.
    #[default]
    Cosine,
    /// Linear.
    Linear,
}

impl Interpolation {
    pub(super) fn between(self, start: f64, end: f64, left: f64) -> f64 {
        match self {
            Interpolation::Cosine => between(start, end, half_cosine(left)),
            Interpolation::Linear => between(start, end, left),
        }
    }
}

schedule! {
    /// Interpolated between boundaries, at which the products of the scales are reached.
    ///
    /// ```text
    /// v[k] + (v[k+1] - v[k]) f(x)        b[k] <= t < b[k+1], x = (t - b[k]) / (b[k+1] - b[k])
    /// b = 0 and the boundaries           v = lr, and each v times the next scale
    /// f(x) = x (linear) or (1 - cos(pi x)) / 2 (cosine)
    /// ```
    ///
    /// After the last boundary it is constant. optax: `piecewise_interpolate_schedule`, `linear_onecycle_schedule`,
    /// `cosine_onecycle_schedule`.
    PiecewiseInterpolate {
        /// Linear or cosine.
        interpolation: Interpolation,
        /// Initial learning rate, >= 0.
        lr: f64,
    }
    defaults {
        /// Steps, strictly increasing, and the scale >= 0 that is complete at each.
        boundaries_and_scales: Vec<(u64, f64)> = Vec::new(), "Default::default";
    }
}

impl Scheduled for PiecewiseInterpolate {
    fn value(&self, step: u64) -> f64 {
        let (mut start, mut value) = (0, self.lr);
        for &(at, scale) in &self.boundaries_and_scales {
            let next = value * scale;
            if step < at {
                return self.interpolation.between(value, next, left(step.saturating_sub(start), at.saturating_sub(start)));
            }
            (start, value) = (at, next);
        }
        value
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        boundaries(&self.boundaries_and_scales)
    }
}

fn boundaries(given: &[(u64, f64)]) -> Result<(), Error> {
    let increasing = given.is_sorted_by(|a, b| a.0 < b.0);
    let ok = increasing && given.iter().all(|(_, scale)| *scale >= 0.0 && scale.is_finite());
    check::that(ok, "boundaries_and_scales", format!("{given:?}"), "increasing steps with finite scales >= 0")
}

schedule! {
    /// Half a cosine down, then constant.
    ///
    /// ```text
    /// end_lr + (lr - end_lr) ((1 + cos(pi x)) / 2)^exponent        x = min(t / decay_steps, 1)
    /// ```
    ///
    /// torch: [`CosineAnnealing`], which goes up again. optax: `cosine_decay_schedule`, whose `alpha` is `end_lr / lr`.
    CosineDecay {
        /// Initial learning rate, >= 0.
        lr: f64,
        /// Steps of the decay, >= 1.
        decay_steps: u64,
    }
    defaults {
        /// Final learning rate, >= 0.
        end_lr: f64 = 0.0, "ratio::<0, 1>";
        /// Exponent of the cosine term, >= 0.
        exponent: f64 = 1.0, "ratio::<1, 1>";
    }
}

impl Scheduled for CosineDecay {
    fn value(&self, step: u64) -> f64 {
        between(self.lr, self.end_lr, half_cosine(left(step, self.decay_steps)).powf(self.exponent))
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        at_least_one("decay_steps", self.decay_steps)?;
        check::non_negative("end_lr", self.end_lr)?;
        check::non_negative("exponent", self.exponent)
    }
}
