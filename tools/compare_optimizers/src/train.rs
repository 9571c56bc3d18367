//! Runs, and the search for the best learning rate.
use crate::{Result, problem::Problem};
use ndarray_optim::{
    AnyAlgorithm, AnySchedule, Evaluating, NamedArraysMut, Optimizer, Params, fit::Batches,
    objective::Objective, schedule::CosineDecay,
};
use ndarray_rand::rand_distr::{Distribution, Normal};
use rand::{SeedableRng, rngs::StdRng};
use std::error::Error;

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    Constant,
    /// A half cosine to 0 at the last step.
    Cosine,
    /// `lr / sqrt(t)`.
    InverseRoot,
}

impl Decay {
    pub fn name(self) -> &'static str {
        match self {
            Decay::Constant => "constant",
            Decay::Cosine => "cosine",
            Decay::InverseRoot => "1/sqrt(t)",
        }
    }
}

/// One training run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    pub algorithm: &'a AnyAlgorithm,
    pub lr: f64,
    pub decay: Decay,
    /// Rows in a mini-batch; `None` for full gradients.
    pub batch: Option<usize>,
    pub steps: u64,
    pub seed: u64,
}

/// The course of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Pairs of a number of steps and the gap after them. Infinite from where the run diverged.
    pub gaps: Vec<(f64, f64)>,
}

impl Trace {
    /// The final gap.
    pub fn last(&self) -> f64 {
        self.gaps.last().map_or(f64::INFINITY, |&(_, gap)| gap)
    }

    /// The first number of steps with a gap of at most `target`.
    pub fn first(&self, target: f64) -> f64 {
        let reached = self.gaps.iter().find(|&&(_, gap)| gap <= target);
        reached.map_or(f64::INFINITY, |&(step, _)| step)
    }
}

/// Trains from a random start: weights from a normal distribution of deviation 0.01, in the network
/// one over the root of the number of rows.
pub fn train<O>(
    problem: &Problem,
    objective: &mut O,
    zeros: impl Fn(&O) -> O::Model,
    run: &Run<'_>,
) -> Result<Trace>
where
    O: Objective<Model: NamedArraysMut<f64> + Clone, Error: Error + Send + Sync + 'static>,
{
    let (mut model, mut grads) = (zeros(objective), zeros(objective));
    let mut rng = StdRng::seed_from_u64(run.seed);
    model.visit_mut(&mut |name, mut array| {
        let deviation = match &*name {
            "weights" => 0.01,
            "hidden" | "output" => 1.0 / (array.shape()[0] as f64).sqrt(),
            _ => return,
        };
        if let Ok(normal) = Normal::new(0.0, deviation) {
            array.mapv_inplace(|_| normal.sample(&mut rng));
        }
    });
    let mut optimizer = Optimizer::new(run.algorithm.clone());
    let schedule: AnySchedule = match run.decay {
        Decay::Cosine => CosineDecay::new(run.lr, run.steps).into(),
        _ => run.lr.into(),
    };
    let rows = objective.rows();
    let mut batches = Batches::new(rows, run.batch.unwrap_or(rows), run.seed)?;
    let (mut gaps, mut next) = (Vec::new(), 0);
    for step in 0..run.steps {
        optimizer.set_lr(match run.decay {
            Decay::InverseRoot => run.lr / ((step + 1) as f64).sqrt(),
            _ => schedule.value(step),
        });
        // The value over all rows comes with the full gradient. With mini-batches it is computed
        // separately, at steps 3 % apart.
        let value = match run.batch {
            None => {
                let value = objective.value_and_grad(&model, &mut grads)?;
                gaps.push((step as f64, problem.gap(value)));
                value
            }
            Some(_) => {
                if step == next {
                    let value = value_at(objective, &mut optimizer, &model)?;
                    gaps.push((step as f64, problem.gap(value)));
                    next = step + 1 + step / 32;
                }
                let batch = objective.batch(batches.next_batch());
                { batch }.value_and_grad(&model, &mut grads)?
            }
        };
        if !value.is_finite() {
            break;
        }
        let mut params = Params::of(&mut model, &grads)?;
        params.loss(value);
        optimizer.step(params)?;
    }
    let value = value_at(objective, &mut optimizer, &model)?;
    gaps.push((run.steps as f64, problem.gap(value)));
    Ok(Trace { gaps })
}

/// The value at the point at which to evaluate the model: for schedule-free optimizers this is not
/// the parameters.
fn value_at<O>(objective: &mut O, optimizer: &mut Optimizer<f64>, model: &O::Model) -> Result<f64>
where
    O: Objective<Model: NamedArraysMut<f64> + Clone, Error: Error + Send + Sync + 'static>,
{
    let mut model = model.clone();
    Evaluating::new(optimizer).enter_all(&mut model)?;
    Ok(objective.value(&model)?)
}

/// The runs of one learning rate.
#[derive(Clone, Debug)]
pub struct Tried {
    pub lr: f64,
    /// One for each seed, the best first.
    pub traces: Vec<Trace>,
}

impl Tried {
    fn at(problem: &Problem, run: &Run<'_>, seeds: u64, lr: f64) -> Result<Tried> {
        let one = |seed| {
            problem.train(&Run {
                lr,
                seed,
                ..run.clone()
            })
        };
        let mut traces = (0..seeds).map(one).collect::<Result<Vec<_>>>()?;
        traces.sort_by(|a, b| a.last().total_cmp(&b.last()));
        Ok(Tried { lr, traces })
    }

    /// The run with the median result, which represents the others.
    pub fn middle(&self) -> &Trace {
        &self.traces[self.traces.len() / 2]
    }

    /// The median of the final gaps.
    pub fn gap(&self) -> f64 {
        self.middle().last()
    }

    /// The median number of steps to a gap.
    pub fn steps_to(&self, target: f64) -> f64 {
        let mut steps: Vec<f64> = self
            .traces
            .iter()
            .map(|trace| trace.first(target))
            .collect();
        steps.sort_by(f64::total_cmp);
        steps[steps.len() / 2]
    }
}

/// Tries learning rates a factor of 10 apart, begins at 0.001 to 10 and goes on until the best one
/// has a worse one on either side; then those a factor of the root of 10 from the best one. The
/// rates are in order.
pub fn search(problem: &Problem, run: &Run<'_>, seeds: u64) -> Result<Vec<Tried>> {
    const LIMITS: (i32, i32) = (-20, 14);
    let lr = |half_decade: i32| {
        let (digit, exponent) = (
            [1, 3][half_decade.rem_euclid(2) as usize],
            half_decade.div_euclid(2),
        );
        // As a text: 3 times 0.1 is not the number 0.3.
        format!("{digit}e{exponent}").parse().unwrap_or(f64::NAN)
    };
    let mut tried: Vec<(i32, Tried)> = Vec::new();
    let attempt = |tried: &mut Vec<(i32, Tried)>, exponent: i32| -> Result<()> {
        let at = tried.partition_point(|(other, _)| *other < exponent);
        if tried.get(at).is_none_or(|(other, _)| *other != exponent) {
            tried.insert(
                at,
                (exponent, Tried::at(problem, run, seeds, lr(exponent))?),
            );
        }
        Ok(())
    };
    for exponent in [-6, -4, -2, 0, 2] {
        attempt(&mut tried, exponent)?;
    }
    loop {
        let best = best(tried.iter().map(|(_, tried)| tried));
        let (exponent, count) = (tried[best].0, tried.len());
        if best == 0 && exponent > LIMITS.0 {
            attempt(&mut tried, exponent - 2)?;
        } else if best + 1 == count && exponent < LIMITS.1 {
            attempt(&mut tried, exponent + 2)?;
        } else {
            // Both sides are there, or the limit is reached.
            for next in [exponent - 1, exponent + 1] {
                if (LIMITS.0..=LIMITS.1).contains(&next) {
                    attempt(&mut tried, next)?;
                }
            }
        }
        if tried.len() == count {
            return Ok(tried.into_iter().map(|(_, tried)| tried).collect());
        }
    }
}

/// The index of the smallest gap; among those within 1 % of it or of the optimum, of the fastest
/// run to the largest gap of these.
pub fn best<'t>(tried: impl Iterator<Item = &'t Tried>) -> usize {
    let tried: Vec<&Tried> = tried.collect();
    let least = tried
        .iter()
        .map(|tried| tried.gap())
        .fold(f64::INFINITY, f64::min);
    let enough = 1.01 * least;
    let candidates = tried
        .iter()
        .enumerate()
        .filter(|(_, tried)| tried.gap() <= enough);
    let fastest =
        candidates.min_by(|(_, a), (_, b)| a.steps_to(enough).total_cmp(&b.steps_to(enough)));
    fastest.map_or(0, |(index, _)| index)
}
