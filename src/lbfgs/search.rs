//! The line search for the strong Wolfe conditions.
use super::{
    run::{Failure, Objective},
    vector::{along, dot},
};
use crate::array::Element;

/// Of the condition of sufficient decrease.
const C1: f64 = 1e-4;
/// Of the condition of curvature.
const C2: f64 = 0.9;

/// Memory for gradients: at the two ends of a bracket and at the next point.
pub(super) const SLOTS: usize = 3;

/// A point on the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// The step length.
    pub t: f64,
    /// The loss; infinite if the loss or the gradient is not finite.
    pub loss: f64,
    /// The product of the gradient and the direction.
    pub slope: f64,
    /// Where the gradient is.
    pub slot: usize,
}

/// The line `x + t d` through the current point.
pub(super) struct Line<'a, 'e, A> {
    pub x: &'a [A],
    pub d: &'a [A],
    /// The largest absolute value of `d`.
    pub d_max: f64,
    pub start: Point,
    /// Losses that differ by less may be equal but for rounding errors; 0 compares them as they
    /// are.
    pub noise: f64,
    /// The number of evaluations that are left after the first one.
    pub left: usize,
    /// Memory for a point.
    pub point: &'a mut [A],
    pub grads: &'a mut [Vec<A>; SLOTS],
    pub objective: &'a mut Objective<'e, A>,
}

/// What the first phase finds.
enum Found {
    /// A point that satisfies both conditions.
    Point(Point),
    /// An interval with such points.
    Bracket([Point; 2]),
}

impl<A: Element> Line<'_, '_, A> {
    /// Returns the best point that is found: the start if none is better.
    pub fn strong_wolfe(&mut self, t: f64, tolerance_change: f64) -> Result<Point, Failure> {
        match self.bracket(t)? {
            Found::Point(point) => Ok(point),
            Found::Bracket(ends) => self.zoom(ends, tolerance_change),
        }
    }

    /// Lengthens the step until the conditions hold or an interval is known to have a point at which
    /// they do.
    fn bracket(&mut self, t: f64) -> Result<Found, Failure> {
        let start = self.start;
        let mut previous = start;
        let mut new = self.evaluate(t, other_slot(start, start))?;
        let mut points = 1;
        while self.left > 0 {
            // In torch, a loss above that of the point before counts from the third point on.
            let rises = points > 2 && self.rises(previous, new);
            if self.is_too_high(new) || rises {
                return Ok(Found::Bracket([previous, new]));
            }
            if self.is_flat(new) {
                return Ok(Found::Point(new));
            }
            if new.slope >= 0.0 {
                return Ok(Found::Bracket([previous, new]));
            }
            let bounds = (new.t + 0.01 * (new.t - previous.t), new.t * 10.0);
            let t = minimum_of_cubic(previous, new, bounds, self.noise);
            previous = new;
            new = self.evaluate(t, other_slot(start, previous))?;
            points += 1;
            self.left -= 1;
        }
        Ok(Found::Bracket([start, new]))
    }

    /// Narrows an interval down to a point at which the conditions hold.
    fn zoom(&mut self, mut ends: [Point; 2], tolerance_change: f64) -> Result<Point, Failure> {
        let mut low = lower(&ends);
        let mut was_close = false;
        while self.left > 0 && (ends[1].t - ends[0].t).abs() * self.d_max >= tolerance_change {
            let t = next_in(&ends, &mut was_close, self.noise);
            let new = self.evaluate(t, other_slot(ends[0], ends[1]))?;
            self.left -= 1;
            let high = 1 - low;
            if self.is_too_high(new) || self.rises(ends[low], new) {
                ends[high] = new;
                low = lower(&ends);
                continue;
            }
            if self.is_flat(new) {
                return Ok(new);
            }
            if new.slope * (ends[high].t - ends[low].t) >= 0.0 {
                ends[high] = ends[low];
            }
            ends[low] = new;
        }
        Ok(ends[low])
    }

    fn evaluate(&mut self, t: f64, slot: usize) -> Result<Point, Failure> {
        along(self.x, t, self.d, self.point);
        let grad = &mut self.grads[slot];
        let loss = self.objective.at(self.point, grad)?;
        // It is finite only if all elements of the gradient are.
        let slope = dot(grad, self.d);
        let finite = loss.is_finite() && slope.is_finite();
        Ok(Point {
            t,
            loss: if finite { loss } else { f64::INFINITY },
            slope,
            slot,
        })
    }

    /// Whether the loss has not decreased enough.
    fn is_too_high(&self, point: Point) -> bool {
        point.loss > self.start.loss + C1 * point.t * self.start.slope + self.noise
    }

    fn rises(&self, from: Point, to: Point) -> bool {
        to.loss - from.loss >= self.noise
    }

    /// Whether the slope is small enough.
    fn is_flat(&self, point: Point) -> bool {
        point.slope.abs() <= -C2 * self.start.slope
    }
}

/// A slot that neither point uses.
fn other_slot(a: Point, b: Point) -> usize {
    (0..SLOTS)
        .find(|&slot| slot != a.slot && slot != b.slot)
        .unwrap_or_default()
}

/// The end with the lower loss.
fn lower(ends: &[Point; 2]) -> usize {
    usize::from(ends[0].loss > ends[1].loss)
}

/// The next step length in an interval: not close to one of its ends twice in a row, nor at an end.
fn next_in(ends: &[Point; 2], was_close: &mut bool, noise: f64) -> f64 {
    let [min, max] = [ends[0].t.min(ends[1].t), ends[0].t.max(ends[1].t)];
    let t = minimum_of_cubic(ends[0], ends[1], (min, max), noise);
    let margin = 0.1 * (max - min);
    let close = (max - t).min(t - min) < margin;
    let moves = close && (*was_close || t >= max || t <= min);
    *was_close = close && !moves;
    if !moves {
        t
    } else if (t - max).abs() < (t - min).abs() {
        max - margin
    } else {
        min + margin
    }
}

/// The minimum within bounds of the cubic with the losses and slopes of two points; the middle of
/// the bounds if it has none or a point is not finite.
///
/// Where the losses differ by less than `noise`, their difference is that of the parabola with the
/// same slopes.
fn minimum_of_cubic(a: Point, b: Point, (min, max): (f64, f64), noise: f64) -> f64 {
    let middle = (min + max) / 2.0;
    let (left, right) = if a.t <= b.t { (a, b) } else { (b, a) };
    let difference = left.loss - right.loss;
    let three_means = if difference.abs() < noise {
        1.5 * (left.slope + right.slope)
    } else {
        3.0 * difference / (left.t - right.t)
    };
    let d1 = left.slope + right.slope - three_means;
    let square = d1 * d1 - left.slope * right.slope;
    let finite = left.loss.is_finite() && right.loss.is_finite();
    if !finite || square.is_nan() || square < 0.0 {
        return middle;
    }
    let d2 = square.sqrt();
    let part = (right.slope + d2 - d1) / (right.slope - left.slope + 2.0 * d2);
    let t = right.t - (right.t - left.t) * part;
    if t.is_nan() {
        middle
    } else {
        t.max(min).min(max)
    }
}
