//! The iterations of a call.
use super::{
    LbfgsConfig, LbfgsReport, LbfgsStop, LineSearch,
    history::{Guard, History},
    layout::Layout,
    search::{Line, Point, SLOTS},
    vector::{along, dot, max_abs, sum_abs},
};
use crate::{array::Element, error::Error};
use std::{array, mem};

/// What the two kinds of calls differ in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Maximum number of iterations.
    iterations: usize,
    /// Number of evaluations from which no other iteration begins.
    evaluations: usize,
    /// Maximum number of evaluations in a line search after its first.
    search: usize,
    guard: Guard,
    /// Relative difference below which losses are equal.
    rounding: f64,
    /// Maximum number of iterations without progress.
    patience: usize,
}

impl Rules {
    /// Those of `minimize`, with this rounding error of a number.
    pub fn minimize(epsilon: f64) -> Self {
        Rules {
            iterations: 15_000,
            evaluations: usize::MAX,
            search: 25,
            guard: Guard::Relative,
            rounding: 100.0 * epsilon,
            patience: 20,
        }
    }

    /// Those of `step`, which are torch's.
    pub fn step(config: &LbfgsConfig) -> Self {
        Rules {
            iterations: config.max_iter,
            evaluations: config.evaluations(),
            search: usize::MAX,
            guard: Guard::Absolute,
            rounding: 0.0,
            patience: usize::MAX,
        }
    }
}

/// Why a call failed.
pub(super) enum Failure {
    /// The closure returned an error, which the caller holds.
    Closure,
    /// An error that is known.
    Known(Error),
    /// An element of the gradient, by its index, is infinite or NaN.
    NonFiniteGradient(usize, f64),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Known(error)
    }
}

impl Failure {
    /// The error, unless it is that of the closure.
    pub fn into_error(self, layout: &Layout) -> Error {
        match self {
            Failure::Known(error) => error,
            Failure::NonFiniteGradient(index, value) => Error::NonFiniteGradient {
                name: layout.name_at(index).into(),
                value,
            },
            // The caller holds the closure's own error and returns that.
            Failure::Closure => Error::NonFiniteLoss { loss: f64::NAN },
        }
    }
}

/// The closure on vectors: writes the gradient at a point and returns the loss.
pub(super) type Evaluate<'e, A> = dyn FnMut(&[A], &mut [A]) -> Result<f64, Failure> + 'e;

/// The closure, which counts its calls. It is minimized.
pub(super) struct Objective<'e, A> {
    evaluate: &'e mut Evaluate<'e, A>,
    maximize: bool,
    evaluations: usize,
}

impl<A: Element> Objective<'_, A> {
    /// Returns the loss at a point and writes the gradient.
    pub fn at(&mut self, point: &[A], grad: &mut [A]) -> Result<f64, Failure> {
        self.evaluations += 1;
        let loss = (self.evaluate)(point, grad)?;
        if self.maximize {
            grad.iter_mut().for_each(|g| *g = -*g);
        }
        Ok(self.signed(loss))
    }

    /// The loss as the closure returns it.
    fn signed(&self, loss: f64) -> f64 {
        if self.maximize { -loss } else { loss }
    }
}

/// A call of `step` or `minimize`.
struct Call<'c, A> {
    config: &'c LbfgsConfig,
    rules: Rules,
    progress: Progress,
    objective: Objective<'c, A>,
    iterations: usize,
}

impl<A> Call<'_, A> {
    fn evaluations_left(&self) -> usize {
        let made = self.objective.evaluations;
        self.rules.evaluations.saturating_sub(made)
    }

    /// Whether this is the last iteration and its point is not evaluated.
    fn skips_last_evaluation(&self) -> bool {
        self.config.line_search_fn.is_none() && self.iterations == self.rules.iterations
    }
}

/// The lowest loss and gradient of a call.
struct Progress {
    loss: f64,
    grad_max: f64,
    /// Iterations since either was found.
    since: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            loss: f64::INFINITY,
            grad_max: f64::INFINITY,
            since: 0,
        }
    }
}

impl Progress {
    /// Returns the number of iterations in which neither has decreased, the loss by more than
    /// `noise`.
    fn stalls(&mut self, loss: f64, grad_max: f64, noise: f64) -> usize {
        let progress = self.loss - loss > noise || grad_max < self.grad_max;
        self.since = if progress { 0 } else { self.since + 1 };
        (self.loss, self.grad_max) = (self.loss.min(loss), self.grad_max.min(grad_max));
        self.since
    }
}

/// The end of the iterations of a call.
enum Halt {
    Stop(LbfgsStop),
    Failure(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Halt::Failure(failure)
    }
}

/// The state of an optimizer and its working memory. Vectors have the elements of all arrays.
#[derive(Clone, Debug)]
pub(super) struct Core<A> {
    /// Iterations of all calls.
    pub iterations: u64,
    /// Evaluations of all calls.
    pub evaluations: u64,
    /// The last direction.
    pub d: Vec<A>,
    /// The step length along it; 0 if no step was made.
    pub t: f64,
    /// The gradient before the last step.
    pub prev_grad: Vec<A>,
    pub history: History<A>,
    /// The last accepted point.
    pub x: Vec<A>,
    /// A point that is evaluated.
    point: Vec<A>,
    grads: [Vec<A>; SLOTS],
}

impl<A: Element> Default for Core<A> {
    fn default() -> Self {
        Core::new(0)
    }
}

impl<A: Element> Core<A> {
    pub fn new(len: usize) -> Self {
        let zeros = || vec![A::ZERO; len];
        Core {
            iterations: 0,
            evaluations: 0,
            d: zeros(),
            t: 0.0,
            prev_grad: zeros(),
            history: History::new(len),
            x: zeros(),
            point: zeros(),
            grads: array::from_fn(|_| zeros()),
        }
    }

    /// Prepares for a model of this size, before the first iteration.
    pub fn resize(&mut self, len: usize) {
        if self.x.len() != len {
            let evaluations = self.evaluations;
            *self = Core {
                evaluations,
                ..Core::new(len)
            };
        }
    }

    pub fn run(
        &mut self,
        config: &LbfgsConfig,
        rules: Rules,
        evaluate: &mut Evaluate<'_, A>,
    ) -> Result<LbfgsReport, Failure> {
        let mut call = Call {
            config,
            rules,
            progress: Progress::default(),
            objective: Objective {
                evaluate,
                maximize: config.maximize,
                evaluations: 0,
            },
            iterations: 0,
        };
        let result = self.iterate(&mut call);
        self.evaluations += call.objective.evaluations as u64;
        result
    }

    fn iterate(&mut self, call: &mut Call<'_, A>) -> Result<LbfgsReport, Failure> {
        let mut at = self.begin(&mut call.objective)?;
        let first_loss = call.objective.signed(at.loss);
        let stop = match self.proceed(call, &mut at) {
            Ok(()) => LbfgsStop::MaxIter,
            Err(Halt::Stop(stop)) => stop,
            Err(Halt::Failure(failure)) => {
                self.iterations -= 1;
                return Err(failure);
            }
        };
        Ok(LbfgsReport {
            stop,
            iterations: call.iterations,
            evaluations: call.objective.evaluations,
            first_loss,
            loss: call.objective.signed(at.loss),
            grad_max: max_abs(&self.grads[at.slot]),
        })
    }

    /// Evaluates the model as it is given.
    fn begin(&mut self, objective: &mut Objective<'_, A>) -> Result<Point, Failure> {
        let slot = 0;
        let grad = &mut self.grads[slot];
        let loss = objective.at(&self.x, grad)?;
        if !loss.is_finite() {
            let loss = objective.signed(loss);
            return Err(Error::NonFiniteLoss { loss }.into());
        }
        if let Some(index) = grad.iter().position(|g| !g.is_finite()) {
            return Err(Failure::NonFiniteGradient(index, grad[index].f64()));
        }
        Ok(Point {
            t: 0.0,
            loss,
            slope: 0.0,
            slot,
        })
    }

    /// Makes all iterations of a call.
    fn proceed(&mut self, call: &mut Call<'_, A>, at: &mut Point) -> Result<(), Halt> {
        self.check_gradient(call, *at)?;
        while call.iterations < call.rules.iterations {
            call.iterations += 1;
            self.iterations += 1;
            self.iteration(call, at)?;
        }
        Ok(())
    }

    /// Moves from one point to the next.
    fn iteration(&mut self, call: &mut Call<'_, A>, at: &mut Point) -> Result<(), Halt> {
        let config = call.config;
        self.update_direction(call, at.slot);
        let slope = dot(&self.grads[at.slot], &self.d);
        if slope.is_nan() {
            return Err(Halt::Stop(LbfgsStop::NonFinite));
        }
        if slope > -config.tolerance_change {
            let ascends = slope >= 0.0;
            return Err(Halt::Stop(if ascends {
                LbfgsStop::NoDescent
            } else {
                LbfgsStop::Change
            }));
        }
        let start = Point {
            t: 0.0,
            slope,
            ..*at
        };
        let t = self.first_length(config, at.slot);
        let new = match config.line_search_fn {
            Some(LineSearch::StrongWolfe) => self.search(call, start, t)?,
            None => self.fixed(call, start, t)?,
        };
        self.t = new.t;
        mem::swap(&mut self.x, &mut self.point);
        *at = new;
        if call.skips_last_evaluation() {
            return Ok(());
        }
        self.check_gradient(call, new)?;
        let largest = max_abs(&self.d) * new.t.abs();
        let change = (new.loss - start.loss).abs();
        if largest <= config.tolerance_change || change < config.tolerance_change {
            return Err(Halt::Stop(LbfgsStop::Change));
        }
        let grad_max = max_abs(&self.grads[new.slot]);
        let noise = call.rules.rounding * start.loss.abs();
        if call.progress.stalls(new.loss, grad_max, noise) >= call.rules.patience {
            return Err(Halt::Stop(LbfgsStop::Stalled));
        }
        let more = call.iterations < call.rules.iterations;
        if more && call.evaluations_left() == 0 {
            return Err(Halt::Stop(LbfgsStop::MaxEval));
        }
        Ok(())
    }

    fn check_gradient(&self, call: &Call<'_, A>, at: Point) -> Result<(), Halt> {
        if max_abs(&self.grads[at.slot]) <= call.config.tolerance_grad {
            return Err(Halt::Stop(LbfgsStop::Gradient));
        }
        Ok(())
    }

    /// Adds the last step to the history and computes the direction of the next one.
    fn update_direction(&mut self, call: &Call<'_, A>, slot: usize) {
        let grad = &self.grads[slot];
        if self.iterations > 1 {
            let (step, grads) = ((self.t, &*self.d), (&*self.prev_grad, &**grad));
            let (size, guard) = (call.config.history_size, call.rules.guard);
            self.history.record(step, grads, size, guard);
        }
        self.history.direction(grad, &mut self.d);
        self.prev_grad.copy_from_slice(grad);
        // Until a step is accepted.
        self.t = 0.0;
    }

    /// The step length to begin with.
    fn first_length(&self, config: &LbfgsConfig, slot: usize) -> f64 {
        if self.iterations == 1 {
            (1.0 / sum_abs(&self.grads[slot])).min(1.0) * config.lr
        } else {
            config.lr
        }
    }

    /// Searches the line for the next point, and writes it.
    fn search(&mut self, call: &mut Call<'_, A>, start: Point, t: f64) -> Result<Point, Halt> {
        let mut line = Line {
            x: &self.x,
            d: &self.d,
            d_max: max_abs(&self.d),
            start,
            noise: call.rules.rounding * start.loss.abs(),
            left: call.evaluations_left().min(call.rules.search),
            point: &mut self.point,
            grads: &mut self.grads,
            objective: &mut call.objective,
        };
        let found = line.strong_wolfe(t, call.config.tolerance_change)?;
        if found.t == 0.0 {
            return Err(Halt::Stop(match call.evaluations_left() {
                0 => LbfgsStop::MaxEval,
                _ => LbfgsStop::LineSearch,
            }));
        }
        along(&self.x, found.t, &self.d, &mut self.point);
        Ok(found)
    }

    /// Writes the point at this step length and evaluates it, unless it is the last one.
    fn fixed(&mut self, call: &mut Call<'_, A>, start: Point, t: f64) -> Result<Point, Halt> {
        along(&self.x, t, &self.d, &mut self.point);
        if !max_abs(&self.point).is_finite() {
            return Err(Halt::Stop(LbfgsStop::NonFinite));
        }
        if call.skips_last_evaluation() {
            return Ok(Point { t, ..start });
        }
        let slot = (start.slot + 1) % SLOTS;
        let grad = &mut self.grads[slot];
        let loss = call.objective.at(&self.point, grad)?;
        if !loss.is_finite() || !max_abs(grad).is_finite() {
            return Err(Halt::Stop(LbfgsStop::NonFinite));
        }
        Ok(Point {
            t,
            loss,
            slope: 0.0,
            slot,
        })
    }
}
