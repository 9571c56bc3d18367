//! L-BFGS: torch's iterates and numbers of evaluations, states, errors, reasons to stop, and how far
//! it gets.
use crate::common::numbers;
use ndarray::{Array1, Array2, ArrayD, Axis, ShapeBuilder, array, s};
use ndarray_optim::{
    Checkpoint, Error, Lbfgs, LbfgsConfig, LbfgsReport, LbfgsStop, LineSearch, Optimizer, Sgd,
    StateDict, algorithm::Element, named_arrays, state::Differs,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::HashMap, fs, path::Path};

const RTOL: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    id: String,
    optimizer: Map<String, Value>,
    objective: Objective,
    start: Vec<f64>,
    expect: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    call: usize,
    params: Vec<f64>,
    loss: f64,
    evaluations: u64,
}

#[derive(Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Objective {
    Rosenbrock,
    Quadratic { scale: Vec<f64>, center: Vec<f64> },
    Logistic { data: String, l2: f64 },
}

/// Loss and gradient.
type Function = Box<dyn Fn(&Array1<f64>) -> (f64, Array1<f64>)>;

impl Objective {
    fn function(&self) -> Function {
        match self {
            Objective::Rosenbrock => Box::new(rosenbrock),
            Objective::Quadratic { scale, center } => {
                let (scale, center) = (Array1::from(scale.clone()), Array1::from(center.clone()));
                Box::new(move |x| {
                    let off = x - &center;
                    let loss = 0.5 * (&scale * &off.mapv(|off| off * off)).sum();
                    (loss, &scale * &off)
                })
            }
            Objective::Logistic { data, l2 } => logistic(data, *l2),
        }
    }
}

impl Case {
    fn config(&self) -> LbfgsConfig {
        let mut keys = self.optimizer.clone();
        keys.remove("name");
        serde_json::from_value(keys.into()).unwrap()
    }
}

fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lbfgs/lbfgs.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn rosenbrock(x: &Array1<f64>) -> (f64, Array1<f64>) {
    let (mut loss, mut grad) = (0.0, Array1::zeros(x.len()));
    for i in 1..x.len() {
        let (a, b) = (1.0 - x[i - 1], x[i] - x[i - 1] * x[i - 1]);
        loss += 100.0 * (b * b) + a * a;
        grad[i - 1] += -400.0 * b * x[i - 1] - 2.0 * a;
        grad[i] += 200.0 * b;
    }
    (loss, grad)
}

/// Also called Wood's function.
fn colville(x: &Array1<f64>) -> (f64, Array1<f64>) {
    let (a, b, c, d) = (x[0], x[1], x[2], x[3]);
    let (p, q) = (a * a - b, c * c - d);
    let loss = 100.0 * p * p
        + (a - 1.0).powi(2)
        + (c - 1.0).powi(2)
        + 90.0 * q * q
        + 10.1 * ((b - 1.0).powi(2) + (d - 1.0).powi(2))
        + 19.8 * (b - 1.0) * (d - 1.0);
    let grad = array![
        400.0 * p * a + 2.0 * (a - 1.0),
        -200.0 * p + 20.2 * (b - 1.0) + 19.8 * (d - 1.0),
        360.0 * q * c + 2.0 * (c - 1.0),
        -180.0 * q + 20.2 * (d - 1.0) + 19.8 * (b - 1.0),
    ];
    (loss, grad)
}

/// Features and targets of a table.
fn table(file: &str) -> (Array2<f64>, Array1<f64>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/data")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    let rows: Vec<Vec<f64>> = text
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(|x| x.parse().unwrap()).collect())
        .collect();
    let all = Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j]);
    let (x, y) = all.view().split_at(Axis(1), all.ncols() - 1);
    (x.to_owned(), y.column(0).to_owned())
}

/// Zero mean and unit population variance.
fn standardised(x: Array2<f64>) -> Array2<f64> {
    (&x - &x.mean_axis(Axis(0)).unwrap()) / x.std_axis(Axis(0), 0.0)
}

/// The last parameter is the intercept.
fn logistic(data: &str, l2: f64) -> Function {
    let (x, y) = table(data);
    let (x, rows) = (standardised(x), y.len() as f64);
    Box::new(move |point| {
        let (w, b) = point.view().split_at(Axis(0), x.ncols());
        let z = x.dot(&w) + b[0];
        let soft = z.mapv(|z| z.max(0.0) + (-z.abs()).exp().ln_1p());
        let loss = (&soft - &(&y * &z)).sum() / rows + l2 * w.dot(&w);
        let residual = (z.mapv(|z| 1.0 / (1.0 + (-z).exp())) - &y) / rows;
        let mut grad = Array1::zeros(point.len());
        grad.slice_mut(s![..-1])
            .assign(&(x.t().dot(&residual) + &w * (2.0 * l2)));
        grad[x.ncols()] = residual.sum();
        (loss, grad)
    })
}

fn least_squares() -> Function {
    let (x, y) = table("diabetes.csv");
    let (x, rows) = (standardised(x), y.len() as f64);
    Box::new(move |point| {
        let (w, b) = point.view().split_at(Axis(0), x.ncols());
        let residual = x.dot(&w) + b[0] - &y;
        let mut grad = Array1::zeros(point.len());
        grad.slice_mut(s![..-1])
            .assign(&(x.t().dot(&residual) / rows));
        grad[x.ncols()] = residual.sum() / rows;
        (0.5 * residual.dot(&residual) / rows, grad)
    })
}

fn softmax() -> Function {
    let (x, y) = table("digits.csv");
    let (x, rows) = (x / 16.0, y.len() as f64);
    Box::new(move |point| {
        let w = point
            .slice(s![..640])
            .into_shape_with_order((64, 10))
            .unwrap();
        let mut z = x.dot(&w) + point.slice(s![640..]);
        let mut loss = 0.0;
        for (mut z, &y) in z.rows_mut().into_iter().zip(&y) {
            let max = z.fold(f64::MIN, |max, &z| max.max(z));
            let target = z[y as usize];
            z.mapv_inplace(|z| (z - max).exp());
            let sum = z.sum();
            loss += sum.ln() + max - target;
            z /= sum;
            z[y as usize] -= 1.0;
        }
        z /= rows;
        let dw = x.t().dot(&z) + &w * 1e-3;
        let grad = dw.iter().copied().chain(z.sum_axis(Axis(0))).collect();
        (loss / rows + 5e-4 * (&w * &w).sum(), grad)
    })
}

fn step(
    lbfgs: &mut Lbfgs<f64>,
    x: &mut Array1<f64>,
    f: impl Fn(&Array1<f64>) -> (f64, Array1<f64>),
) -> LbfgsReport {
    let mut grad = x.clone();
    lbfgs
        .step(x, &mut grad, |x, grad| {
            let (loss, new) = f(x);
            *grad = new;
            loss
        })
        .unwrap()
}

/// The greatest |x - y| / max(1, |y|), or infinity if a number of evaluations differs.
fn worst_error(case: &Case, mut call: impl FnMut(&Function) -> (f64, Vec<f64>, u64)) -> f64 {
    let function = case.objective.function();
    let mut worst: f64 = 0.0;
    for (number, expect) in case.expect.iter().enumerate() {
        assert_eq!(expect.call, number + 1);
        let (loss, params, evaluations) = call(&function);
        if evaluations != expect.evaluations {
            return f64::INFINITY;
        }
        let pairs = params
            .iter()
            .zip(&expect.params)
            .chain([(&loss, &expect.loss)]);
        for (x, y) in pairs {
            let error = (x - y).abs() / y.abs().max(1.0);
            worst = if error.is_nan() {
                f64::INFINITY
            } else {
                worst.max(error)
            };
        }
    }
    worst
}

#[test]
fn every_run_of_torch_is_met() {
    let mut failed = Vec::new();
    let cases = cases();
    for case in &cases {
        let (mut lbfgs, mut x) = (Lbfgs::new(case.config()), Array1::from(case.start.clone()));
        let error = worst_error(case, |function| {
            let report = step(&mut lbfgs, &mut x, function);
            (report.first_loss, x.to_vec(), lbfgs.evaluations())
        });
        println!("{:16} worst error {error:.1e}", case.id);
        if error > RTOL {
            failed.push((&case.id, error));
        }
    }
    assert!(cases.len() >= 40 && failed.is_empty(), "{failed:#?}");
}

/// What can be wrong about an implementation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    Nothing,
    NoStep,
    OldestFirst,
    NoScale,
    ScaleOfOldest,
    FirstLength,
    AllPairs,
    NewestOnly,
    HistoryOfOneCall,
    NoCurvature,
    StepNotScaled,
    NoLr,
    GradientOfStart,
    ArmijoOnly,
    FlatterSlopes,
    Decrease,
    Bisection,
    NoBounds,
    NoMargin,
    NoSwapOfEnds,
    NoGradientTolerance,
    NoChangeTolerance,
    NoSlopeTolerance,
    NoMaxEval,
    TwentyFive,
    LastIsEvaluated,
    MaximizeIgnored,
}
use Mistake::*;

const MISTAKES: [Mistake; 26] = [
    NoStep,
    OldestFirst,
    NoScale,
    ScaleOfOldest,
    FirstLength,
    AllPairs,
    NewestOnly,
    HistoryOfOneCall,
    NoCurvature,
    StepNotScaled,
    NoLr,
    GradientOfStart,
    ArmijoOnly,
    FlatterSlopes,
    Decrease,
    Bisection,
    NoBounds,
    NoMargin,
    NoSwapOfEnds,
    NoGradientTolerance,
    NoChangeTolerance,
    NoSlopeTolerance,
    NoMaxEval,
    TwentyFive,
    LastIsEvaluated,
    MaximizeIgnored,
];

#[derive(Clone)]
struct At {
    t: f64,
    f: f64,
    g: Array1<f64>,
    slope: f64,
}

/// The algorithm written again, plainly, with any mistake.
struct Plain {
    how: Mistake,
    config: LbfgsConfig,
    x: Array1<f64>,
    n: usize,
    evaluations: u64,
    d: Array1<f64>,
    t: f64,
    before: Array1<f64>,
    /// Pairs `(s, y)`.
    pairs: Vec<(Array1<f64>, Array1<f64>)>,
    scale: f64,
}

fn largest(x: &Array1<f64>) -> f64 {
    x.iter().fold(0.0, |max: f64, x| max.max(x.abs()))
}

impl Plain {
    fn evaluate(&mut self, function: &Function, x: &Array1<f64>) -> (f64, Array1<f64>) {
        self.evaluations += 1;
        let (f, g) = function(x);
        if self.config.maximize && self.how != MaximizeIgnored {
            (-f, -g)
        } else {
            (f, g)
        }
    }

    fn direction(&mut self, g: &Array1<f64>) {
        let (y, s) = (g - &self.before, &self.d * self.t);
        let s = if self.how == StepNotScaled {
            self.d.clone()
        } else {
            s
        };
        let ys = y.dot(&s);
        if self.n > 1 && (ys > 1e-10 || self.how == NoCurvature && ys != 0.0) {
            if self.pairs.len() == self.config.history_size && self.how != AllPairs {
                self.pairs.pop();
            }
            // Newest first.
            self.scale = ys / y.dot(&y);
            if self.config.history_size > 0 {
                self.pairs.insert(0, (s, y));
            }
        }
        let mut pairs = self.pairs.clone();
        match self.how {
            OldestFirst => pairs.reverse(),
            NewestOnly => pairs.truncate(1),
            _ => {}
        }
        let mut q = -g;
        let mut a = Vec::new();
        for (s, y) in &pairs {
            a.push(s.dot(&q) / y.dot(s));
            q = q - y * a[a.len() - 1];
        }
        q *= match self.how {
            NoScale => 1.0,
            ScaleOfOldest => pairs.last().map_or(1.0, |(s, y)| y.dot(s) / y.dot(y)),
            _ => self.scale,
        };
        for ((s, y), a) in pairs.iter().zip(a).rev() {
            let b = y.dot(&q) / y.dot(s);
            q = q + s * (a - b);
        }
        self.d = q;
    }

    /// Returns the loss that the call began with.
    fn step(&mut self, function: &Function) -> f64 {
        let c = self.config;
        let max_eval = c.max_eval.unwrap_or(c.max_iter * 5 / 4) as u64;
        let end = if self.how == NoMaxEval {
            u64::MAX
        } else {
            self.evaluations + max_eval
        };
        let x = self.x.clone();
        let (mut f, mut g) = self.evaluate(function, &x);
        let first = if c.maximize { -f } else { f };
        let tolerance = if self.how == NoGradientTolerance {
            -1.0
        } else {
            c.tolerance_grad
        };
        if largest(&g) <= tolerance {
            return first;
        }
        if self.how == HistoryOfOneCall {
            (self.pairs, self.scale) = (Vec::new(), 1.0);
        }
        for iteration in 1..=c.max_iter {
            self.n += 1;
            self.direction(&g);
            self.before = g.clone();
            let (old, slope) = (f, g.dot(&self.d));
            let lr = if self.how == NoLr { 1.0 } else { c.lr };
            let first_one = self.n == 1 && self.how != FirstLength;
            let l1: f64 = g.iter().map(|g| g.abs()).sum();
            self.t = if first_one {
                lr * f64::min(1.0, 1.0 / l1)
            } else {
                lr
            };
            let least = if self.how == NoSlopeTolerance {
                0.0
            } else {
                c.tolerance_change
            };
            if slope > -least {
                break;
            }
            if c.line_search_fn.is_some() {
                let left = match self.how {
                    TwentyFive => 25,
                    NoMaxEval => 1000,
                    _ => end.saturating_sub(self.evaluations),
                };
                let start = At {
                    t: 0.0,
                    f,
                    g,
                    slope,
                };
                let found = self.search(function, start, left);
                (self.t, f, g) = (found.t, found.f, found.g);
                if self.how == GradientOfStart {
                    g = self.before.clone();
                }
                if self.how != NoStep {
                    self.x = &self.x + &(&self.d * self.t);
                }
            } else {
                if self.how != NoStep {
                    self.x = &self.x + &(&self.d * self.t);
                }
                if iteration < c.max_iter || self.how == LastIsEvaluated {
                    let x = self.x.clone();
                    (f, g) = self.evaluate(function, &x);
                }
            }
            let change = if self.how == NoChangeTolerance {
                -1.0
            } else {
                c.tolerance_change
            };
            if self.evaluations >= end
                || largest(&g) <= tolerance
                || largest(&self.d) * self.t.abs() <= change
                || (f - old).abs() < change
            {
                break;
            }
        }
        first
    }

    fn at(&mut self, function: &Function, t: f64) -> At {
        let x = &self.x + &(&self.d * t);
        let (f, g) = self.evaluate(function, &x);
        let slope = g.dot(&self.d);
        At { t, f, g, slope }
    }

    fn search(&mut self, function: &Function, start: At, mut left: u64) -> At {
        let how = self.how;
        let c1 = if how == Decrease { 0.3 } else { 1e-4 };
        let c2 = if how == FlatterSlopes { 0.5 } else { 0.9 };
        let high = |p: &At| p.f > start.f + c1 * p.t * start.slope;
        let flat = |p: &At| how == ArmijoOnly || p.slope.abs() <= -c2 * start.slope;
        let (mut old, mut new) = (start.clone(), self.at(function, self.t));
        let mut count = 0;
        let mut ends = loop {
            if left == 0 {
                break [start.clone(), new];
            }
            let rises = count > 1 && new.f >= old.f;
            if high(&new) || rises {
                break [old, new];
            }
            if flat(&new) {
                return new;
            }
            if new.slope >= 0.0 {
                break [old, new];
            }
            let bounds = if how == NoBounds {
                (new.t, f64::INFINITY)
            } else {
                (new.t + 0.01 * (new.t - old.t), 10.0 * new.t)
            };
            let t = interpolate(how, &old, &new, bounds);
            old = new;
            new = self.at(function, t);
            (left, count) = (left - 1, count + 1);
        };
        let mut near = false;
        let mut low = usize::from(ends[0].f > ends[1].f);
        while left > 0 {
            let (min, max) = (ends[0].t.min(ends[1].t), ends[0].t.max(ends[1].t));
            if (max - min) * largest(&self.d) < self.config.tolerance_change {
                break;
            }
            let mut t = interpolate(how, &ends[0], &ends[1], (min, max));
            let margin = 0.1 * (max - min);
            if how == NoMargin || (max - t).min(t - min) >= margin {
                near = false;
            } else if near || t >= max || t <= min {
                t = if max - t < t - min {
                    max - margin
                } else {
                    min + margin
                };
                near = false;
            } else {
                near = true;
            }
            let new = self.at(function, t);
            left -= 1;
            if high(&new) || new.f >= ends[low].f {
                ends[1 - low] = new;
                low = usize::from(ends[0].f > ends[1].f);
            } else {
                if flat(&new) {
                    return new;
                }
                if new.slope * (ends[1 - low].t - ends[low].t) >= 0.0 && how != NoSwapOfEnds {
                    ends[1 - low] = ends[low].clone();
                }
                ends[low] = new;
            }
        }
        ends[low].clone()
    }
}

fn interpolate(how: Mistake, a: &At, b: &At, (min, max): (f64, f64)) -> f64 {
    let d1 = a.slope + b.slope - 3.0 * (a.f - b.f) / (a.t - b.t);
    let square = d1 * d1 - a.slope * b.slope;
    if square < 0.0 || how == Bisection {
        return (min + max) / 2.0;
    }
    let (l, r) = if a.t <= b.t { (a, b) } else { (b, a) };
    let d2 = square.sqrt();
    let t = r.t - (r.t - l.t) * ((r.slope + d2 - d1) / (r.slope - l.slope + 2.0 * d2));
    t.max(min).min(max)
}

fn passes(case: &Case, how: Mistake) -> bool {
    let x = Array1::from(case.start.clone());
    let mut plain = Plain {
        how,
        config: case.config(),
        n: 0,
        evaluations: 0,
        d: Array1::zeros(x.len()),
        t: 0.0,
        before: Array1::zeros(x.len()),
        pairs: Vec::new(),
        scale: 1.0,
        x,
    };
    let error = worst_error(case, |function| {
        (plain.step(function), plain.x.to_vec(), plain.evaluations)
    });
    error <= RTOL
}

#[test]
fn the_runs_of_torch_reject_every_mistake() {
    let cases = cases();
    for case in &cases {
        assert!(passes(case, Nothing), "{}", case.id);
    }
    let mut survivors = Vec::new();
    for how in MISTAKES {
        let failed = cases.iter().filter(|case| !passes(case, how)).count();
        println!("{how:?}: fails {failed} of {} cases", cases.len());
        if failed == 0 {
            survivors.push(how);
        }
    }
    assert!(survivors.is_empty(), "{survivors:?}");
}

#[test]
fn a_run_resumes_bit_for_bit_after_every_call_in_every_format() {
    type Format = (&'static str, fn(&Lbfgs<f64>) -> StateDict);
    let formats: [Format; 5] = [
        ("bytes", |lbfgs| {
            StateDict::from_bytes(&lbfgs.state_view().to_bytes().unwrap()).unwrap()
        }),
        ("json", |lbfgs| {
            let text = serde_json::to_string(&lbfgs.state_view()).unwrap();
            serde_json::from_str(&text).unwrap()
        }),
        ("postcard", |lbfgs| {
            let bytes = postcard::to_stdvec(&lbfgs.state_view()).unwrap();
            postcard::from_bytes(&bytes).unwrap()
        }),
        ("safetensors", |lbfgs| {
            let file = lbfgs.state_view().to_safetensors().unwrap();
            StateDict::from_safetensors(&file).unwrap().0
        }),
        ("checkpoint", |lbfgs| {
            let checkpoint = Checkpoint::new(1)
                .state("lbfgs", lbfgs.state_view())
                .unwrap();
            let file = checkpoint.to_bytes().unwrap();
            Checkpoint::from_bytes(&file)
                .unwrap()
                .take_state("lbfgs")
                .unwrap()
        }),
    ];
    let calls = 6;
    for (config, start) in [
        (
            LbfgsConfig {
                max_iter: 3,
                history_size: 4,
                ..LbfgsConfig::wolfe()
            },
            [-1.2, 1.0, 0.5],
        ),
        (
            LbfgsConfig {
                max_iter: 2,
                lr: 1e-3,
                ..Default::default()
            },
            [0.3, 0.1, 0.2],
        ),
        // Without pairs only the scale is left.
        (
            LbfgsConfig {
                history_size: 0,
                ..LbfgsConfig::wolfe()
            },
            [-1.2, 1.0, 0.5],
        ),
    ] {
        let mut points = Vec::new();
        let (mut lbfgs, mut x) = (Lbfgs::new(config), Array1::from(start.to_vec()));
        for _ in 0..calls {
            let report = step(&mut lbfgs, &mut x, rosenbrock);
            points.push((x.clone(), report, lbfgs.state_dict()));
        }
        for (name, through) in formats {
            for stop in 0..calls {
                let (mut lbfgs, mut x) = (Lbfgs::new(config), Array1::from(start.to_vec()));
                for (call, expected) in points.iter().enumerate() {
                    if call == stop {
                        let state = through(&lbfgs);
                        lbfgs = Lbfgs::new(config);
                        lbfgs.load_state_dict(state).unwrap();
                    }
                    let report = step(&mut lbfgs, &mut x, rosenbrock);
                    let same = (x.clone(), report, lbfgs.state_dict());
                    assert!(same == *expected, "{name}, stopped before call {stop}");
                }
            }
        }
    }
}

#[derive(Clone)]
struct Model {
    weight: Array2<f64>,
    bias: f64,
}
named_arrays!(impl NamedArrays<f64> for Model { weight, bias });

/// A quartic bowl of which every element has its own center and weight.
fn bowl(index: usize, x: f64) -> (f64, f64) {
    let off = x - 0.1 * index as f64;
    let weight = 1.0 + index as f64;
    (
        weight * (off * off + 0.25 * off.powi(4)),
        weight * (2.0 * off + off.powi(3)),
    )
}

/// Minimizes it over the elements of any model in which each has a number.
macro_rules! minimum {
    ($model:expr, $grads:expr, |$m:ident, $g:ident| $pairs:expr) => {{
        let (mut model, mut grads) = ($model, $grads);
        let mut lbfgs = Lbfgs::new(LbfgsConfig {
            max_iter: 6,
            ..LbfgsConfig::wolfe()
        });
        let report = lbfgs.step(&mut model, &mut grads, |$m, $g| {
            let mut loss = ndarray_optim::reduce::Sum::default();
            for (index, x, g) in $pairs {
                let (f, df) = bowl(index, f64::from(*x));
                loss.add(&[f]);
                *g = df as _;
            }
            loss.value()
        });
        assert!(report.unwrap().iterations > 3);
        model
    }};
}

#[test]
fn layouts_and_kinds_of_models_give_the_same_bits() {
    fn check<A: Element>(expected: &[A], found: impl IntoIterator<Item = A>, what: &str) {
        let bits = |x: &A| x.f64().to_bits();
        let found: Vec<_> = found.into_iter().collect();
        let same = expected.iter().map(bits).eq(found.iter().map(bits));
        assert!(same, "{what}: {expected:?} {found:?}");
    }
    macro_rules! every_layout {
        ($a:ty) => {
            let start: Array2<$a> = numbers(&[3, 4], 7).into_dimensionality().unwrap();
            let zeros = Array2::<$a>::zeros((3, 4));
            let plain = minimum!(start.clone(), zeros.clone(), |x, g| {
                x.iter().zip(g).enumerate().map(|(i, (x, g))| (i, x, g))
            });
            let expected: Vec<$a> = plain.iter().copied().collect();

            let mut fortran = Array2::<$a>::zeros((3, 4).f());
            fortran.assign(&start);
            let fortran = minimum!(fortran, Array2::<$a>::zeros((3, 4).f()), |x, g| {
                x.iter().zip(g).enumerate().map(|(i, (x, g))| (i, x, g))
            });
            check(&expected, fortran, "column-major");

            let mut memory = Array2::<$a>::zeros((6, 8));
            memory.slice_mut(s![..;-2, ..;2]).assign(&start);
            let mut view = memory.slice_mut(s![..;-2, ..;2]);
            let _ = minimum!(&mut view, zeros.clone(), |x, g| {
                x.iter().zip(g).enumerate().map(|(i, (x, g))| (i, x, g))
            });
            check(&expected, view.iter().copied(), "strided");

            let halves = |x: &Array2<$a>| {
                (x.slice(s![.., ..2]).to_owned(), x.slice(s![.., 2..]).reversed_axes().to_owned())
            };
            let (left, right) = minimum!(halves(&start), halves(&zeros), |x, g| {
                let left = x.0.indexed_iter().zip(&mut g.0);
                let left = left.map(|(((i, j), x), g)| (4 * i + j, x, g));
                let right = x.1.indexed_iter().zip(&mut g.1);
                left.chain(right.map(|(((j, i), x), g)| (4 * i + j + 2, x, g)))
            });
            let mut joined = Array2::<$a>::zeros((3, 4));
            joined.slice_mut(s![.., ..2]).assign(&left);
            joined.slice_mut(s![.., 2..]).assign(&right.t());
            check(&expected, joined, "a tuple");

            let rows = |x: &Array2<$a>| -> HashMap<String, Array1<$a>> {
                let rows = x.rows().into_iter().enumerate();
                rows.map(|(i, row)| (format!("row {i}"), row.to_owned())).collect()
            };
            let map = minimum!(rows(&start), rows(&zeros), |x, g| {
                g.iter_mut().flat_map(|(name, g)| {
                    let row: usize = name.strip_prefix("row ").unwrap().parse().unwrap();
                    let pairs = x[name].iter().zip(g).enumerate();
                    pairs.map(move |(j, (x, g))| (4 * row + j, x, g))
                })
            });
            let rows = (0..3).flat_map(|i| map[&format!("row {i}")].to_vec());
            check(&expected, rows, "a map");
        };
    }
    every_layout!(f64);
    every_layout!(f32);
}

#[test]
fn the_first_step_in_f32_is_that_of_the_formula() {
    // g = (3, -5), t = 1 / 8, and the product of gradient and direction is -34.
    let mut lbfgs = Lbfgs::<f32>::new(LbfgsConfig {
        max_iter: 1,
        ..Default::default()
    });
    let mut model = (array![[1.0_f32]], 2.0_f32);
    let mut grads = model.clone();
    let report = lbfgs.step(&mut model, &mut grads, |_, grads| {
        grads.0[[0, 0]] = 3.0;
        grads.1 = -5.0;
        7.5_f32
    });
    let report = report.unwrap();
    assert_eq!((model.0[[0, 0]], model.1), (0.625, 2.625));
    assert_eq!((report.first_loss, report.grad_max), (7.5, 5.0));
    assert_eq!((report.iterations, report.evaluations), (1, 1));
    assert_eq!(report.stop, LbfgsStop::MaxIter);
}

#[test]
fn a_run_says_why_it_stopped() {
    fn stop(config: LbfgsConfig, start: f64, f: impl Fn(f64) -> (f64, f64)) -> LbfgsReport {
        let f = |x: &Array1<f64>| {
            let (f, g) = f(x[0]);
            (f, array![g])
        };
        step(&mut Lbfgs::new(config), &mut array![start], f)
    }
    let parabola = |x: f64| (x * x, 2.0 * x);
    let wolfe = LbfgsConfig::wolfe();
    let report = stop(wolfe, 0.0, parabola);
    assert_eq!(
        (report.stop, report.iterations, report.evaluations),
        (LbfgsStop::Gradient, 0, 1)
    );
    let report = stop(wolfe, 3.0, parabola);
    assert_eq!(
        (report.stop, report.loss, report.grad_max),
        (LbfgsStop::Gradient, 0.0, 0.0)
    );
    assert_eq!(report.first_loss, 9.0);

    // The step is 1 / 6 of the gradient 6.
    let slow = LbfgsConfig {
        lr: 0.01,
        ..LbfgsConfig::default()
    };
    let report = stop(
        LbfgsConfig {
            tolerance_change: 0.011,
            ..slow
        },
        3.0,
        parabola,
    );
    assert_eq!((report.stop, report.iterations), (LbfgsStop::Change, 1));
    let report = stop(
        LbfgsConfig {
            tolerance_change: 36.1,
            ..slow
        },
        3.0,
        parabola,
    );
    assert_eq!((report.stop, report.evaluations), (LbfgsStop::Change, 1));
    let report = stop(
        LbfgsConfig {
            max_iter: 3,
            max_eval: Some(10),
            ..slow
        },
        3.0,
        parabola,
    );
    assert_eq!(
        (report.stop, report.iterations, report.evaluations),
        (LbfgsStop::MaxIter, 3, 3)
    );
    let report = stop(
        LbfgsConfig {
            max_eval: Some(2),
            ..slow
        },
        3.0,
        parabola,
    );
    assert_eq!(
        (report.stop, report.iterations, report.evaluations),
        (LbfgsStop::MaxEval, 1, 2)
    );

    // A gradient of the wrong sign.
    let report = stop(wolfe, 3.0, |x| (x * x, -2.0 * x));
    assert_eq!((report.stop, report.loss), (LbfgsStop::LineSearch, 9.0));
    // Beyond 3.5 there is nothing.
    let edge = |x: f64| {
        if x < 3.5 {
            (-x * x, -2.0 * x)
        } else {
            (f64::NAN, f64::NAN)
        }
    };
    let report = stop(
        LbfgsConfig {
            lr: 1.0,
            ..Default::default()
        },
        3.0,
        edge,
    );
    assert_eq!(
        (report.stop, report.loss, report.evaluations),
        (LbfgsStop::NonFinite, -9.0, 2)
    );
    // A loss that is noise: nothing gets better.
    let mut lbfgs = Lbfgs::new(LbfgsConfig {
        tolerance_grad: 0.0,
        ..LbfgsConfig::precise()
    });
    let (mut x, mut grad) = (array![1.0], array![0.0]);
    let report = lbfgs.minimize(
        &mut x,
        &mut grad,
        |x: &Array1<f64>, grad: &mut Array1<f64>| {
            grad[0] = 1e-17 * (1.0 + (x[0] * 1e20).sin().abs()) * (x[0] - 1.0).signum();
            1.0
        },
    );
    let stop = report.unwrap().stop;
    assert!(
        matches!(stop, LbfgsStop::Stalled | LbfgsStop::LineSearch),
        "{stop}"
    );
}

#[test]
fn a_maximum_is_found_with_maximize() {
    let config = LbfgsConfig {
        maximize: true,
        ..LbfgsConfig::wolfe()
    };
    let mut x = array![3.0];
    let report = step(&mut Lbfgs::new(config), &mut x, |x| {
        (5.0 - x[0] * x[0], -2.0 * x)
    });
    assert_eq!((x[0], report.first_loss, report.loss), (0.0, -4.0, 5.0));
}

#[test]
fn a_line_search_backs_off_from_where_the_function_is_not_defined() {
    // x - ln x has its minimum at 1; the first trial is at -95 or so.
    let barrier = |x: &Array1<f64>| (x[0] - x[0].ln(), array![1.0 - 1.0 / x[0]]);
    for lr in [1.0, 100.0, 1e6] {
        let config = LbfgsConfig {
            lr,
            max_eval: Some(1000),
            ..LbfgsConfig::wolfe()
        };
        let (mut lbfgs, mut x) = (Lbfgs::new(config), array![5.0]);
        let report = step(&mut lbfgs, &mut x, barrier);
        assert!(report.stop.converged(), "{}", report.stop);
        assert!((x[0] - 1.0).abs() < 1e-4, "{x}");
    }
    // An infinite loss with a finite gradient, and a finite loss with an infinite gradient.
    for beyond in [
        (f64::INFINITY, 1.0),
        (0.0, f64::INFINITY),
        (f64::NEG_INFINITY, 1.0),
    ] {
        let wall = |x: &Array1<f64>| {
            let (f, g) = if x[0] > -2.0 {
                (x[0] * x[0], 2.0 * x[0])
            } else {
                beyond
            };
            (f, array![g])
        };
        let config = LbfgsConfig {
            lr: 20.0,
            ..LbfgsConfig::wolfe()
        };
        let mut x = array![1.0];
        let report = step(&mut Lbfgs::new(config), &mut x, wall);
        assert!(report.stop.converged() && x[0].abs() < 1e-6, "{report:?}");
    }
}

#[derive(Debug, PartialEq)]
enum Mine {
    Closure(u32),
    Other(Error),
}

impl From<Error> for Mine {
    fn from(error: Error) -> Self {
        Mine::Other(error)
    }
}

#[test]
fn an_error_of_the_closure_leaves_the_model_at_the_last_accepted_point() {
    for config in [
        LbfgsConfig::wolfe(),
        LbfgsConfig {
            lr: 1e-3,
            ..Default::default()
        },
    ] {
        let config = LbfgsConfig {
            max_eval: Some(1000),
            ..config
        };
        let start = array![-1.2, 1.0];
        // The points that are accepted one iteration at a time, and evaluations until then.
        let mut accepted = vec![(0, start.clone())];
        let (mut lbfgs, mut x) = (Lbfgs::new(config), start.clone());
        for iterations in 1..6 {
            lbfgs.reset();
            lbfgs.config.max_iter = iterations;
            x.assign(&start);
            let report = step(&mut lbfgs, &mut x, rosenbrock);
            accepted.push((report.evaluations, x.clone()));
        }
        for fails_at in 1..accepted[5].0 {
            let mut lbfgs = Lbfgs::new(config);
            let (mut x, mut grad, mut count) = (start.clone(), start.clone(), 0);
            let result = lbfgs.step(&mut x, &mut grad, |x, grad| {
                count += 1;
                if count == fails_at {
                    return Err(Mine::Closure(9));
                }
                let (loss, new) = rosenbrock(x);
                grad.assign(&new);
                Ok(loss)
            });
            assert_eq!(result, Err(Mine::Closure(9)));
            let fixed = config.line_search_fn.is_none();
            // Without a line search, the point of the failed evaluation is not accepted.
            let known = |(made, _): &&(usize, Array1<f64>)| *made < fails_at - usize::from(fixed);
            let last = accepted.iter().rfind(known).unwrap_or(&accepted[0]);
            assert_eq!(x, last.1, "{fails_at}");
            // It goes on from there.
            lbfgs.config = LbfgsConfig {
                max_iter: 200,
                ..LbfgsConfig::wolfe()
            };
            let report = step(&mut lbfgs, &mut x, rosenbrock);
            assert!(
                report.stop.converged() && (x[0] - 1.0).abs() < 1e-3,
                "{report:?}"
            );
        }
    }
}

#[test]
fn what_is_wrong_with_arrays_is_a_typed_error() {
    let mut lbfgs = Lbfgs::<f64>::new(LbfgsConfig::wolfe());
    let new = || Model {
        weight: array![[1.0, 2.0]],
        bias: 3.0,
    };
    let fill = |model: &Model, grads: &mut Model| {
        grads.weight.assign(&model.weight);
        grads.bias = model.bias;
        0.5 * (model.weight.mapv(|x| x * x).sum() + model.bias * model.bias)
    };
    let (mut model, mut grads) = (new(), new());

    let mut wrong = (array![[1.0, 2.0]], 3.0);
    let error = lbfgs.step(&mut model, &mut wrong, |_, _| 1.0).unwrap_err();
    assert_eq!(error, Error::UnknownParameter { name: "0".into() });
    let mut wrong = HashMap::from([("weight", array![[1.0, 2.0]])]);
    let error = lbfgs.step(&mut model, &mut wrong, |_, _| 1.0).unwrap_err();
    assert_eq!(
        error,
        Error::MissingGradient {
            name: "bias".into()
        }
    );
    let error = lbfgs.step(&mut model, &mut grads, |_, grads| {
        grads.weight = array![[1.0]];
        1.0
    });
    let shapes = Error::GradientShape {
        name: "weight".into(),
        param: vec![1, 2],
        grad: vec![1, 1],
    };
    assert_eq!(error.unwrap_err(), shapes);
    grads = new();
    let error = lbfgs
        .step(&mut model, &mut grads, |_, _| f64::NAN)
        .unwrap_err();
    assert!(matches!(error, Error::NonFiniteLoss { loss } if loss.is_nan()));
    let error = lbfgs.step(&mut model, &mut grads, |_, grads| {
        grads.weight[[0, 1]] = f64::INFINITY;
        1.0
    });
    let (name, value) = ("weight".into(), f64::INFINITY);
    assert_eq!(error.unwrap_err(), Error::NonFiniteGradient { name, value });
    lbfgs.config.lr = -1.0;
    let error = lbfgs.step(&mut model, &mut grads, fill).unwrap_err();
    assert!(matches!(error, Error::HyperParameter { field, .. } if field == "lr"));
    lbfgs.config.lr = 1.0;

    // None of these has changed anything, so another model is fine.
    assert_eq!((&model.weight, model.bias), (&array![[1.0, 2.0]], 3.0));
    assert_eq!(lbfgs.iterations(), 0);
    let mut other = Model {
        weight: array![[4.0]],
        bias: 1.0,
    };
    let mut other_grads = other.clone();
    lbfgs.step(&mut other, &mut other_grads, fill).unwrap();
    assert!(lbfgs.iterations() > 0);

    let error = lbfgs.step(&mut model, &mut grads, fill).unwrap_err();
    let (known, given) = (vec![1, 1], vec![1, 2]);
    assert_eq!(
        error,
        Error::ShapeChanged {
            name: "weight".into(),
            known,
            given
        }
    );
    let (mut one, mut grad) = (array![1.0], array![1.0]);
    let error = lbfgs.step(&mut one, &mut grad, |_, _| 1.0).unwrap_err();
    assert_eq!(
        error,
        Error::UnknownParameter {
            name: "variable".into()
        }
    );
    let mut map = HashMap::from([("bias", 1.0)]);
    let error = lbfgs.step(&mut map, &mut grad, |_, _| 1.0).unwrap_err();
    assert_eq!(
        error,
        Error::MissingParameter {
            name: "weight".into()
        }
    );
    lbfgs.reset();
    lbfgs.step(&mut model, &mut grads, fill).unwrap();

    let twice = HashMap::from([("a.b", array![1.0])]);
    let inner = HashMap::from([("b", array![1.0])]);
    let outer = HashMap::from([("a", inner)]);
    struct Both(
        HashMap<&'static str, Array1<f64>>,
        HashMap<&'static str, HashMap<&'static str, Array1<f64>>>,
    );
    impl ndarray_optim::NamedArrays<f64> for Both {
        fn visit<'a>(
            &'a self,
            visit: &mut dyn FnMut(std::borrow::Cow<'a, str>, ndarray::ArrayViewD<'a, f64>),
        ) {
            self.0.visit(visit);
            self.1.visit(visit);
        }
    }
    impl ndarray_optim::NamedArraysMut<f64> for Both {
        fn visit_mut<'a>(
            &'a mut self,
            visit: &mut dyn FnMut(std::borrow::Cow<'a, str>, ndarray::ArrayViewMutD<'a, f64>),
        ) {
            self.0.visit_mut(visit);
            self.1.visit_mut(visit);
        }
    }
    let mut both = Both(twice, outer);
    let mut grads = array![1.0];
    let error = Lbfgs::new(LbfgsConfig::wolfe()).step(&mut both, &mut grads, |_, _| 1.0);
    assert_eq!(
        error.unwrap_err(),
        Error::DuplicateParameter { name: "a.b".into() }
    );
}

#[test]
fn models_without_elements_are_at_their_minimum() {
    let mut lbfgs = Lbfgs::<f64>::new(LbfgsConfig::wolfe());
    let mut none: Option<Array1<f64>> = None;
    let report = lbfgs
        .step(&mut none, &mut None::<Array1<f64>>, |_, _| 2.0)
        .unwrap();
    assert_eq!((report.stop, report.evaluations), (LbfgsStop::Gradient, 1));
    let mut empty = (Array1::zeros(0), array![1.0]);
    let mut grads = empty.clone();
    let report = lbfgs.step(&mut empty, &mut grads, |x, g| {
        g.1.assign(&x.1);
        0.5 * x.1[0] * x.1[0]
    });
    assert_eq!(
        (report.unwrap().stop, empty.1[0]),
        (LbfgsStop::Gradient, 0.0)
    );
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let config = LbfgsConfig {
        max_iter: 4,
        ..LbfgsConfig::wolfe()
    };
    let (mut lbfgs, mut x) = (Lbfgs::new(config), array![-1.2, 1.0, 0.5]);
    step(&mut lbfgs, &mut x, rosenbrock);
    let state = lbfgs.state_dict();
    let names: Vec<_> = state.params[0]
        .arrays
        .iter()
        .map(|array| &*array.name)
        .collect();
    assert_eq!(
        names[..4],
        ["d", "prev_flat_grad", "old_dirs.0", "old_stps.0"]
    );

    type Edit = fn(&mut StateDict);
    let edits: [(Differs, Edit); 17] = [
        (Differs::Version, |s| s.version += 1),
        (Differs::Group, |s| s.groups.clear()),
        (Differs::Group, |s| s.groups.push(s.groups[0].clone())),
        (Differs::Optimizer, |s| {
            s.groups[0].optimizer = "adam".into()
        }),
        (Differs::Value, |s| s.groups[0].steps = u64::MAX),
        (Differs::Value, |s| s.groups[0].scalars = None),
        (Differs::Value, |s| {
            s.groups[0].scalars = Some(scalars([f64::NAN, 1.0, 1.0]))
        }),
        (Differs::Value, |s| {
            s.groups[0].scalars = Some(scalars([1.0, 0.0, 1.0]))
        }),
        (Differs::Value, |s| {
            s.groups[0].scalars = Some(scalars([1.0, 1.0, -1.0]))
        }),
        (Differs::Parameter, |s| s.groups[0].steps = 0),
        (Differs::Parameter, |s| s.params.push(s.params[0].clone())),
        (Differs::Array, |s| drop(s.params[0].arrays.pop())),
        (Differs::Array, |s| s.params[0].arrays.clear()),
        (Differs::Array, |s| s.params[0].arrays.swap(2, 3)),
        (Differs::Shape, |s| {
            s.params[0].arrays[3].data = ArrayD::<f64>::zeros(vec![2]).into()
        }),
        (Differs::Element, |s| {
            s.params[0].arrays[1].data = ArrayD::<f32>::zeros(vec![3]).into()
        }),
        (Differs::Value, |s| {
            s.params[0].arrays[2].data = ArrayD::<f64>::zeros(vec![3]).into()
        }),
    ];
    let mut refused = Lbfgs::<f64>::new(config);
    for (number, (differs, edit)) in edits.into_iter().enumerate() {
        let mut state = state.view().to_owned();
        edit(&mut state);
        match refused.load_state_dict(state) {
            Err(Error::State(all)) => {
                assert!(
                    all.iter().any(|one| one.differs == differs),
                    "edit {number}: {all:?}"
                );
            }
            other => panic!("edit {number}: {other:?}"),
        }
        assert_eq!(refused.iterations(), 0);
    }
    let nan = ArrayD::<f64>::from_elem(vec![3], f64::NAN);
    let mut with_nan = state.view().to_owned();
    with_nan.params[0].arrays[0].data = nan.into();
    assert!(matches!(
        refused.load_state_dict(with_nan),
        Err(Error::State(_))
    ));
    assert!(matches!(
        Lbfgs::<f32>::new(config).load_state_dict(state.view()),
        Err(Error::State(_))
    ));
    // An optimizer of another kind refuses it too.
    let mut sgd = Optimizer::<f64>::new(Sgd::new(0.1));
    assert!(matches!(
        sgd.load_state_dict(state.view()),
        Err(Error::State(_))
    ));
    let theirs = sgd.state_dict();
    assert!(matches!(
        refused.load_state_dict(theirs),
        Err(Error::State(_))
    ));
    // A model with other arrays is refused when it comes.
    refused.load_state_dict(state).unwrap();
    let (mut other, mut grad) = (array![1.0], array![1.0]);
    let error = refused.step(&mut other, &mut grad, |_, _| 1.0).unwrap_err();
    assert!(matches!(error, Error::ShapeChanged { .. }));
}

fn scalars(numbers: [f64; 3]) -> ndarray_optim::algorithm::Scalars {
    ndarray_optim::algorithm::Scalars::new(numbers)
}

#[test]
fn configurations_are_read_by_torchs_names_and_unknown_keys_are_refused() {
    let config: LbfgsConfig = serde_json::from_value(json!({
        "lr": 1, "max_iter": 7, "max_eval": null, "line_search_fn": "strong_wolfe"
    }))
    .unwrap();
    let expected = LbfgsConfig {
        max_iter: 7,
        line_search_fn: Some(LineSearch::StrongWolfe),
        ..Default::default()
    };
    assert_eq!(config, expected);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<LbfgsConfig>(&text).unwrap(), config);
    for wrong in [
        json!({"momentum": 0.9}),
        json!({"line_search_fn": "armijo"}),
        json!({"max_iter": -1}),
    ] {
        assert!(serde_json::from_value::<LbfgsConfig>(wrong).is_err());
    }
}

/// Evaluations until no element of the gradient is above 1e-10, and the report.
fn minimize(function: &Function, start: &[f64]) -> (LbfgsReport, Array1<f64>) {
    let config = LbfgsConfig {
        tolerance_grad: 1e-10,
        history_size: 10,
        ..LbfgsConfig::precise()
    };
    let (mut lbfgs, mut x) = (Lbfgs::new(config), Array1::from(start.to_vec()));
    let mut grad = x.clone();
    let report = lbfgs.minimize(&mut x, &mut grad, |x: &Array1<f64>, grad| {
        let (loss, new) = function(x);
        *grad = new;
        loss
    });
    (report.unwrap(), x)
}

/// The table of `docs/lbfgs.md` has the numbers of evaluations; on another machine they can differ a little.
#[test]
fn gradients_of_1e_10_are_reached() {
    let optima = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/optima.json");
    let optima: Value = serde_json::from_str(&fs::read_to_string(optima).unwrap()).unwrap();
    let optimum = |name: &str| optima[name]["optimum"].as_f64().unwrap();
    let cancer = logistic("breast_cancer.csv", 0.005);
    let problems: [(&str, Function, Vec<f64>, f64, usize); 7] = [
        (
            "diabetes",
            least_squares(),
            vec![0.0; 11],
            optimum("diabetes_ols"),
            60,
        ),
        (
            "breast_cancer",
            cancer,
            vec![0.0; 31],
            optimum("breast_cancer_logistic_l2"),
            60,
        ),
        (
            "digits",
            softmax(),
            vec![0.0; 650],
            optimum("digits_softmax_l2"),
            500,
        ),
        (
            "rosenbrock 2",
            Box::new(rosenbrock),
            vec![-1.2, 1.0],
            0.0,
            60,
        ),
        (
            "rosenbrock 10",
            Box::new(rosenbrock),
            [-1.2, 1.0].repeat(5),
            0.0,
            130,
        ),
        (
            "colville (0, 0, 0, 0)",
            Box::new(colville),
            vec![0.0; 4],
            0.0,
            50,
        ),
        (
            "wood (-3, -1, -3, -1)",
            Box::new(colville),
            vec![-3.0, -1.0, -3.0, -1.0],
            0.0,
            150,
        ),
    ];
    let mut failed = Vec::new();
    for (name, function, start, optimum, most) in problems {
        let (report, _) = minimize(&function, &start);
        let gap = report.loss - optimum;
        println!(
            "{name:24} {:5} {:.1e}, gap {gap:.1e}",
            report.evaluations, report.grad_max
        );
        let near = gap.abs() <= 1e-13 * (1.0 + optimum);
        if report.stop != LbfgsStop::Gradient || !near || report.evaluations > most {
            failed.push((name, report));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
