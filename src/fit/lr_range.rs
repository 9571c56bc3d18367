//! The learning-rate range test.
use crate::error::Error;

/// A learning-rate range test: a short run in which the rate grows from step to step by a constant
/// factor, to find rates that work.
///
/// ```
/// use ndarray::{Array1, array};
/// use ndarray_optim::{Adam, Optimizer, fit::LrRange};
///
/// // A copy of the model: the test ends far from where it began.
/// let mut theta = array![3.0, -2.0];
/// let mut adam = Optimizer::new(Adam::default());
/// let mut range = LrRange::new(1e-5, 1e3, 200)?;
/// while let Some(lr) = range.next_lr() {
///     adam.set_lr(lr);
///     let (loss, grad): (f64, Array1<f64>) = ((&theta * &theta).sum(), 2.0 * &theta);
///     range.observe(loss);
///     adam.update(&mut theta, &grad)?;
/// }
/// let lr = range.suggestion().unwrap();
/// assert!(0.01 < lr && lr < 1.0, "{lr}");
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// The test ends early when the loss is not finite, or above its lowest value by more than three
/// times that value or three times the decrease so far.
///
/// # Reference
///
/// L. N. Smith, "Cyclical Learning Rates for Training Neural Networks",
/// [arXiv:1506.01186](https://arxiv.org/abs/1506.01186), section 3.3.
#[derive(Clone, Debug, PartialEq)]
pub struct LrRange {
    min_lr: f64,
    max_lr: f64,
    steps: usize,
    losses: Vec<f64>,
    diverged: bool,
}

impl LrRange {
    /// Creates a test of `steps` learning rates from `min_lr` to `max_lr`.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] unless `0 < min_lr < max_lr`, both finite, and `steps` is at least
    /// 2.
    pub fn new(min_lr: f64, max_lr: f64, steps: usize) -> Result<Self, Error> {
        let wrong = |field: &str, value: String, expected: &str| {
            let (field, expected) = (field.into(), expected.into());
            Err(Error::HyperParameter {
                field,
                value,
                expected,
            })
        };
        if !(min_lr > 0.0 && min_lr.is_finite()) {
            return wrong("min_lr", min_lr.to_string(), "a number in (0, inf)");
        }
        if !(max_lr > min_lr && max_lr.is_finite()) {
            return wrong("max_lr", max_lr.to_string(), "a number in (min_lr, inf)");
        }
        if steps < 2 {
            return wrong("steps", steps.to_string(), "at least 2");
        }
        Ok(LrRange {
            min_lr,
            max_lr,
            steps,
            losses: Vec::new(),
            diverged: false,
        })
    }

    /// Returns the learning rate of the next step, or `None` when the test is over.
    pub fn next_lr(&self) -> Option<f64> {
        (!self.diverged && self.losses.len() < self.steps).then(|| self.lr(self.losses.len()))
    }

    fn lr(&self, step: usize) -> f64 {
        let last = self.steps - 1;
        if step == last {
            return self.max_lr;
        }
        let exponent = step as f64 / last as f64;
        libm::pow(self.min_lr, 1.0 - exponent) * libm::pow(self.max_lr, exponent)
    }

    /// Records the loss before the step with the rate of [`next_lr`](LrRange::next_lr).
    pub fn observe(&mut self, loss: f64) {
        self.losses.push(loss);
        let first = self.losses[0];
        let best = self.losses.iter().copied().fold(first, f64::min);
        self.diverged = !loss.is_finite() || loss > best + 3.0 * best.abs().max(first - best);
    }

    /// Iterates over the learning rates of the steps so far and the losses before them.
    pub fn curve(&self) -> impl ExactSizeIterator<Item = (f64, f64)> {
        let losses = self.losses.iter().enumerate();
        losses.map(|(step, &loss)| (self.lr(step), loss))
    }

    /// Returns the learning rate at which the loss falls fastest, per factor of the rate: a rate
    /// that works, below the highest one that does.
    ///
    /// The losses are smoothed by a centered mean over a tenth of the steps. `None` if the loss
    /// never falls.
    pub fn suggestion(&self) -> Option<f64> {
        let finite = self.losses.iter().take_while(|loss| loss.is_finite());
        let losses: Vec<f64> = finite.copied().collect();
        let half = self.steps / 20;
        let mean = |at: usize| {
            let near = &losses[at.saturating_sub(half)..losses.len().min(at + half + 1)];
            near.iter().sum::<f64>() / near.len() as f64
        };
        // The loss after a step shows the effect of its rate.
        let falls = (1..losses.len()).map(|at| (at - 1, mean(at - 1) - mean(at)));
        let steepest = falls.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        (steepest.1 > 0.0).then(|| self.lr(steepest.0))
    }
}
