//! Functions of two variables, and the paths of optimizers on them.
use crate::Result;
use ndarray::array;
use ndarray_optim::{AnyAlgorithm, Optimizer, Params};
use std::f64::consts::PI;

/// A function with its derivatives, a start, and what of it is drawn.
pub struct Function {
    pub value: fn(f64, f64) -> f64,
    gradient: fn(f64, f64) -> [f64; 2],
    /// The diagonal of the Hessian.
    curvature: fn(f64, f64) -> [f64; 2],
    start: (f64, f64),
    pub minimum: (f64, f64),
    pub x: (f64, f64),
    pub y: (f64, f64),
    /// Values from dark to light.
    pub range: (f64, f64),
}

/// A curved valley.
pub const ROSENBROCK: Function = Function {
    value: |x, y| 100.0 * (y - x * x).powi(2) + (1.0 - x).powi(2),
    gradient: |x, y| {
        [
            -400.0 * x * (y - x * x) - 2.0 * (1.0 - x),
            200.0 * (y - x * x),
        ]
    },
    curvature: |x, y| [1200.0 * x * x - 400.0 * y + 2.0, 200.0],
    start: (-2.0, 2.0),
    minimum: (1.0, 1.0),
    x: (-2.4, 2.0),
    y: (-0.8, 3.2),
    range: (1e-2, 3e3),
};

/// Many local minima.
pub const RASTRIGIN: Function = Function {
    value: |x, y| {
        let wave = |x: f64| x * x - 10.0 * (2.0 * PI * x).cos();
        20.0 + wave(x) + wave(y)
    },
    gradient: |x, y| [x, y].map(|x| 2.0 * x + 20.0 * PI * (2.0 * PI * x).sin()),
    curvature: |x, y| [x, y].map(|x| 2.0 + 40.0 * PI * PI * (2.0 * PI * x).cos()),
    start: (-2.0, 3.5),
    minimum: (0.0, 0.0),
    x: (-4.2, 4.2),
    y: (-4.2, 4.2),
    range: (1.0, 80.0),
};

/// The path of the best learning rate.
pub struct Best {
    pub lr: f64,
    pub value: f64,
    pub points: Vec<(f64, f64)>,
}

/// Of the learning rates 1e-5 to 1e3, a factor of the root of 10 apart, the path whose largest value
/// in its last tenth is the lowest.
pub fn best_path(algorithm: &AnyAlgorithm, function: &Function, steps: usize) -> Result<Best> {
    let mut best: Option<Best> = None;
    for k in -10..=6 {
        let lr = 10_f64.powf(f64::from(k) / 2.0);
        let points = path(algorithm, function, lr, steps)?;
        let values = points[points.len() * 9 / 10..]
            .iter()
            .map(|&(x, y)| (function.value)(x, y));
        let finite = |value: f64| {
            if value.is_finite() {
                value
            } else {
                f64::INFINITY
            }
        };
        let value = values.map(finite).fold(0.0, f64::max);
        if best.as_ref().is_none_or(|best| value < best.value) {
            best = Some(Best { lr, value, points });
        }
    }
    best.ok_or_else(|| "no learning rate".into())
}

/// The two variables are a matrix of one row, which every algorithm takes.
fn path(
    algorithm: &AnyAlgorithm,
    function: &Function,
    lr: f64,
    steps: usize,
) -> Result<Vec<(f64, f64)>> {
    let mut optimizer = Optimizer::<f64>::new(algorithm.clone());
    optimizer.set_lr(lr);
    let mut theta = array![[function.start.0, function.start.1]];
    let mut points = vec![function.start];
    for step in 0..steps {
        let (x, y) = (theta[[0, 0]], theta[[0, 1]]);
        let grad = array![(function.gradient)(x, y)];
        if algorithm.name() == "sophia" && step % 10 == 0 {
            let hessian = array![(function.curvature)(x, y)];
            let mut params = Params::new();
            optimizer.update_hessian(params.add("variable", &mut theta, &hessian)?)?;
        }
        optimizer.update_with_loss(&mut theta, &grad, (function.value)(x, y))?;
        // Schedule-free algorithms are judged at their averages.
        let at = optimizer.evaluate(&theta)?;
        points.push((at[[0, 0]], at[[0, 1]]));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_values() {
        for function in [ROSENBROCK, RASTRIGIN] {
            for (x, y) in [(0.3, -0.8), (-1.7, 2.1)] {
                let h = 1e-5;
                let f = function.value;
                let close = |a: f64, b: f64| (a - b).abs() < 1e-3 * b.abs().max(1.0);
                let [gx, gy] = (function.gradient)(x, y);
                assert!(close((f(x + h, y) - f(x - h, y)) / (2.0 * h), gx));
                assert!(close((f(x, y + h) - f(x, y - h)) / (2.0 * h), gy));
                let [hx, hy] = (function.curvature)(x, y);
                let g = function.gradient;
                assert!(close((g(x + h, y)[0] - g(x - h, y)[0]) / (2.0 * h), hx));
                assert!(close((g(x, y + h)[1] - g(x, y - h)[1]) / (2.0 * h), hy));
            }
        }
    }
}
