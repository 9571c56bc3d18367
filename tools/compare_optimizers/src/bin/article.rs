//! Draws the figures of `docs/adam.md` and prints the numbers in it, from runs of this crate.
//!
//! ```sh
//! cargo run --release -p compare_optimizers --bin article
//! ```
use clap::Parser;
use compare_optimizers::{
    Result,
    landscape::{Function, RASTRIGIN, ROSENBROCK, best_path},
    problem::{Kind, Problem, Table},
    train::{Decay, Run, Trace},
};
use ndarray::{Array1, Array2, Axis, array};
use ndarray_optim::{
    Adagrad, Adam, AnyAlgorithm, Momentum, Optimizer, RmsProp, Sgd,
    fit::{Batches, LrRange},
    objective::{Objective, Regression},
};
use plot::{Axis as PlotAxis, Line, Lines, Panel, Path as Trajectory, Surface, draw};
use rayon::prelude::*;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Draws the figures of docs/adam.md
#[derive(Parser)]
struct Args {
    /// Directory of the figures
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/figures"))]
    out: PathBuf,
    /// Figures to draw, by a part of their file names
    figures: Vec<String>,
    /// Factor for the number of steps of the longer runs
    #[arg(long, default_value_t = 1.0)]
    effort: f64,
}

type Figure = fn(&Path, f64) -> Result<()>;

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.out)
        .map_err(|error| format!("cannot create {}: {error}", args.out.display()))?;
    let figures: [(&str, Figure); 9] = [
        ("adam-rates", rates),
        ("adam-steps", steps),
        ("adam-bound", bound),
        ("adam-tuning", tuning),
        ("adam-paper-logistic", paper_logistic),
        ("adam-paper-bias", paper_bias),
        ("adam-spikes", spikes),
        ("trajectories", trajectories),
        ("lr-range", lr_range),
    ];
    let chosen = |name: &str| {
        args.figures.is_empty() || args.figures.iter().any(|part| name.contains(&**part))
    };
    for (name, figure) in figures.into_iter().filter(|(name, _)| chosen(name)) {
        let (start, file) = (Instant::now(), args.out.join(format!("{name}.png")));
        println!("\n{name}");
        figure(&file, args.effort)?;
        println!(
            "{} in {:.1} s",
            file.display(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// Momentum, RMSProp and Adam at this learning rate.
fn three(lr: f64) -> [(&'static str, AnyAlgorithm); 3] {
    [
        ("Momentum", Momentum::new(lr).into()),
        ("RMSProp", RmsProp::new(lr).into()),
        ("Adam", Adam::new(lr).into()),
    ]
}

fn lines(title: &str, x: PlotAxis, y: PlotAxis, lines: Vec<Line>, legend: i32) -> Lines {
    Lines {
        title: title.into(),
        x,
        y,
        lines,
        dots: false,
        legend,
    }
}

fn draw_lines(file: &Path, columns: usize, panels: &[Lines]) -> Result<()> {
    let panels: Vec<&dyn Panel> = panels.iter().map(|panel| panel as &dyn Panel).collect();
    draw(file, columns, (700, 460), &panels)
}

/// `1/2 sum of s x^2` with four scales: the distance of each parameter, and what Adam divides by.
fn rates(file: &Path, _: f64) -> Result<()> {
    const STEPS: usize = 1000;
    let scales = array![1e4, 1e2, 1.0, 1e-2];
    let mut panels = Vec::new();
    // The best of the rates 1, 3, 10, ... for each.
    for (name, algorithm) in [
        (
            "Momentum, lr 0.003",
            AnyAlgorithm::from(Momentum::new(3e-3)),
        ),
        ("Adam, lr 0.01", Adam::new(1e-2).into()),
    ] {
        let mut optimizer = Optimizer::<f64>::new(algorithm);
        let mut x = Array1::<f64>::ones(4);
        let mut distances = vec![Vec::new(); 4];
        let mut rates = vec![Vec::new(); 4];
        for step in 1..=STEPS {
            let grad = &scales * &x;
            optimizer.update(&mut x, &grad)?;
            let state = optimizer.state("variable");
            let v = state.iter().find(|(name, _)| *name == "exp_avg_sq");
            for i in 0..4 {
                distances[i].push((step as f64, x[i].abs().max(1e-12)));
                if let Some((_, v)) = v {
                    let corrected = v[[i]] / (1.0 - 0.999_f64.powi(step as i32));
                    rates[i].push((step as f64, 1e-2 / (corrected.sqrt() + 1e-8)));
                }
            }
        }
        let series = |values: Vec<Vec<(f64, f64)>>| {
            let named = values.into_iter().zip(&scales).enumerate();
            named
                .map(|(i, (points, s))| Line::new(format!("scale {s}"), i, points))
                .collect()
        };
        let axis = |label| PlotAxis::log(label);
        let title = format!("{name}: distance of each parameter");
        let distances = series(distances);
        panels.push(lines(
            &title,
            PlotAxis::linear("step"),
            axis("|x|"),
            distances,
            120,
        ));
        if rates[0].len() == STEPS {
            let title = "Adam: lr / (sqrt(v') + eps) of each parameter";
            panels.push(lines(
                title,
                PlotAxis::linear("step"),
                axis("rate"),
                series(rates),
                120,
            ));
        }
    }
    draw_lines(file, 3, &panels)
}

/// The size of steps over time: with full gradients, with batches, and with a decaying rate.
fn steps(file: &Path, effort: f64) -> Result<()> {
    let table = Table::read("breast_cancer.csv")?.standardized();
    let mut problem = Regression::logistic(&table.x, &table.y)?.l2(0.005);
    let steps = (4000.0 * effort).max(10.0) as usize;
    let mut panels = Vec::new();
    for (title, batch, decays) in [
        ("all rows, constant rate", table.x.nrows(), false),
        ("batches of 32 rows, constant rate", 32, false),
        ("batches of 32 rows, lr / sqrt(t)", 32, true),
    ] {
        let mut series = Vec::new();
        for (style, (name, algorithm)) in three(0.01).into_iter().enumerate() {
            let mut optimizer = Optimizer::<f64>::new(algorithm);
            let (mut model, mut grads) = (problem.zeros(), problem.zeros());
            let mut batches = Batches::new(table.x.nrows(), batch, 1)?;
            let mut sizes = Vec::new();
            for step in 1..=steps {
                if decays {
                    optimizer.set_lr(0.01 / (step as f64).sqrt());
                }
                problem
                    .batch(batches.next_batch())
                    .value_and_grad(&model, &mut grads)?;
                let before = model.weights.clone();
                optimizer.step_with(&mut model, &grads)?;
                let size = (&model.weights - &before)
                    .mapv(|x| x * x)
                    .mean()
                    .unwrap_or(0.0)
                    .sqrt();
                sizes.push(size / 0.01);
            }
            // Means over windows that grow with the step.
            let (mut points, mut from) = (Vec::new(), 0);
            while from < steps {
                let to = (from + 1 + from / 8).min(steps);
                let mean = sizes[from..to].iter().sum::<f64>() / (to - from) as f64;
                points.push(((from + to) as f64 / 2.0 + 0.5, mean.max(1e-9)));
                from = to;
            }
            if let (Some(first), Some(last)) = (points.first(), points.last()) {
                println!(
                    "{title}, {name}: step / lr {:.3} first, {:.2e} last",
                    first.1, last.1
                );
            }
            series.push(Line::new(name, style, points));
        }
        let y = PlotAxis::log("root mean square of the step / lr");
        panels.push(lines(title, PlotAxis::log("step"), y, series, 120));
    }
    draw_lines(file, 3, &panels)
}

/// The size of a step by the scale of the gradient, and of the step by a lone gradient.
fn bound(file: &Path, _: f64) -> Result<()> {
    let mut by_scale = Vec::new();
    for (style, (name, algorithm)) in three(1.0).into_iter().enumerate() {
        let mut points = Vec::new();
        for decade in -12..=8 {
            let scale = 10_f64.powi(decade);
            let mut optimizer = Optimizer::<f64>::new(algorithm.clone());
            let (mut x, mut largest) = (array![0.0], 0.0_f64);
            for step in 0..1000 {
                let before = x[0];
                // A gradient with noise: its sign changes one time in four.
                let wave = (f64::from(step) * 0.7).sin() + 0.7;
                optimizer.update(&mut x, &array![scale * wave])?;
                largest = largest.max((x[0] - before).abs());
            }
            points.push((scale, largest));
        }
        println!("{name}: largest step / lr {:.3} at scale 1", points[12].1);
        by_scale.push(Line::new(name, style, points));
    }
    let mut by_pause = Vec::new();
    let cases = [
        (
            "Adam, beta2 0.9",
            Adam {
                betas: (0.9, 0.9),
                ..Adam::new(1.0)
            }
            .into(),
        ),
        ("Adam, beta2 0.999", AnyAlgorithm::from(Adam::new(1.0))),
        (
            "Adam, beta2 0.9999",
            Adam {
                betas: (0.9, 0.9999),
                ..Adam::new(1.0)
            }
            .into(),
        ),
        ("RMSProp, alpha 0.99", RmsProp::new(1.0).into()),
    ];
    for (style, (name, algorithm)) in cases.into_iter().enumerate() {
        let mut points = Vec::new();
        let mut zeros = 0_u32;
        while zeros <= 100_000 {
            let mut optimizer = Optimizer::<f64>::new(algorithm.clone());
            let mut x = array![0.0];
            for _ in 0..zeros {
                optimizer.update(&mut x, &array![0.0])?;
            }
            optimizer.update(&mut x, &array![1.0])?;
            points.push((f64::from(zeros + 1), x[0].abs()));
            zeros = (zeros + 1).max((f64::from(zeros) * 1.3) as u32);
        }
        let last = points.last().map_or(f64::NAN, |point| point.1);
        println!("{name}: step / lr of a gradient after 100000 zeros {last:.3}");
        by_pause.push(Line::new(name, style + 3, points));
    }
    let by_scale = Lines {
        dots: true,
        ..lines(
            "the largest of 1000 steps by the scale of the gradient",
            PlotAxis::log("scale of the gradient"),
            PlotAxis::log("|step| / lr"),
            by_scale,
            120,
        )
    };
    let by_pause = lines(
        "the step by a gradient after steps with gradients of 0",
        PlotAxis::log("step of the gradient"),
        PlotAxis::linear("|step| / lr"),
        by_pause,
        190,
    );
    draw_lines(file, 2, &[by_scale, by_pause])
}

/// Learning rates from 1e-5 to 1e3, a factor of about 3 apart.
fn grid() -> Vec<f64> {
    let texts = (-5..3).flat_map(|k| [format!("1e{k}"), format!("3e{k}")]);
    texts
        .chain(["1e3".into()])
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// The final gap by learning rate on the three convex problems and the network.
fn tuning(file: &Path, effort: f64) -> Result<()> {
    let mut panels = Vec::new();
    for kind in [Kind::Linear, Kind::Logistic, Kind::Softmax, Kind::Network] {
        let problem = Problem::new(kind)?;
        let batch = 32;
        let epochs = if kind == Kind::Linear { 100.0 } else { 30.0 };
        let steps = epochs * effort * (problem.rows() as f64 / batch as f64).ceil();
        let mut series = Vec::new();
        for (style, (name, algorithm)) in three(0.1).iter().enumerate() {
            for (dashed, decay) in [Decay::Constant, Decay::Cosine].into_iter().enumerate() {
                let finals = grid().into_par_iter().map(|lr| {
                    let runs = (0..3).map(|seed| {
                        let (batch, steps) = (Some(batch), steps.max(1.0) as u64);
                        problem.train(&Run {
                            algorithm,
                            lr,
                            decay,
                            batch,
                            steps,
                            seed,
                        })
                    });
                    let mut gaps = runs
                        .map(|trace| trace.map(|trace| trace.last()))
                        .collect::<Result<Vec<f64>>>()?;
                    gaps.sort_by(f64::total_cmp);
                    Ok((lr, gaps[0], gaps[1], gaps[2]))
                });
                let finals = finals.collect::<Result<Vec<_>>>()?;
                let least = finals.iter().map(|f| f.2).fold(f64::INFINITY, f64::min);
                let good: Vec<f64> = finals
                    .iter()
                    .filter(|f| f.2 <= 2.0 * least)
                    .map(|f| f.0)
                    .collect();
                println!(
                    "{}, {name}, {}: least {least:.2e}, within a factor of 2 at {good:?}",
                    problem.name,
                    decay.name(),
                );
                let shown = |gap: &f64| gap.is_finite() && *gap < 1e6;
                let points = finals
                    .iter()
                    .map(|f| (f.0, f.2))
                    .filter(|(_, gap)| shown(gap));
                let name = format!("{name}, {}", decay.name());
                let mut line = Line::new(name, style + 7 * dashed, points.collect());
                let band = finals.iter().map(|f| (f.0, f.1, f.3));
                line.band = band.filter(|(_, _, high)| shown(high)).collect();
                series.push(line);
            }
        }
        let y = match kind {
            Kind::Network => PlotAxis::log("final training loss"),
            _ => PlotAxis::log("final gap to the optimum"),
        };
        let x = PlotAxis::log("learning rate");
        let title = format!("{}, batches of 32, {epochs} epochs", problem.name);
        panels.push(Lines {
            dots: true,
            ..lines(&title, x, y, series, 170)
        });
    }
    draw_lines(file, 2, &panels)
}

/// Figure 1 of the paper in small: softmax regression on digits, batches of 128, lr / sqrt(t).
fn paper_logistic(file: &Path, effort: f64) -> Result<()> {
    let problem = Problem::new(Kind::Softmax)?;
    let nesterov = Sgd {
        momentum: 0.9,
        nesterov: true,
        ..Sgd::new(0.1)
    };
    let cases: [(&str, AnyAlgorithm); 3] = [
        ("Adam", Adam::new(0.1).into()),
        ("SGD, Nesterov", nesterov.into()),
        ("Adagrad", Adagrad::new(0.1).into()),
    ];
    let epoch = problem.rows().div_ceil(128) as f64;
    let steps = (100.0 * effort * epoch).max(1.0) as u64;
    let mut panels = Vec::new();
    for (decay, title) in [
        (
            Decay::InverseRoot,
            "softmax on digits, batches of 128, lr / sqrt(t)",
        ),
        (Decay::Constant, "the same with constant rates"),
    ] {
        let mut series = Vec::new();
        for (style, (name, algorithm)) in cases.iter().enumerate() {
            let runs = grid().into_par_iter().map(|lr| {
                let batch = Some(128);
                let traces = (0..3).map(|seed| {
                    problem.train(&Run {
                        algorithm,
                        lr,
                        decay,
                        batch,
                        steps,
                        seed,
                    })
                });
                Ok((lr, traces.collect::<Result<Vec<Trace>>>()?))
            });
            let runs = runs.collect::<Result<Vec<_>>>()?;
            // The rate with the least worst gap of three seeds.
            let worst = |traces: &[Trace]| traces.iter().map(|t| t.last()).fold(0.0, f64::max);
            let best = runs
                .iter()
                .min_by(|a, b| worst(&a.1).total_cmp(&worst(&b.1)));
            let Some((lr, traces)) = best else { continue };
            println!(
                "{}, {name}: lr {lr}, gap {:.2e}",
                decay.name(),
                worst(traces)
            );
            let points = |trace: &Trace| -> Vec<(f64, f64)> {
                trace
                    .gaps
                    .iter()
                    .map(|&(step, gap)| (step / epoch, gap))
                    .skip(1)
                    .collect()
            };
            let mut line = Line::new(format!("{name}, {lr}"), style + 2, points(&traces[0]));
            let bands = traces[0]
                .gaps
                .iter()
                .enumerate()
                .skip(1)
                .map(|(i, &(step, _))| {
                    let gaps = || {
                        traces
                            .iter()
                            .map(|trace| trace.gaps.get(i).map_or(f64::NAN, |g| g.1))
                    };
                    let (low, high) = (
                        gaps().fold(f64::INFINITY, f64::min),
                        gaps().fold(0.0, f64::max),
                    );
                    (step / epoch, low, high)
                });
            line.band = bands.collect();
            series.push(line);
        }
        let (x, y) = (PlotAxis::log("epoch"), PlotAxis::log("gap to the optimum"));
        panels.push(lines(title, x, y, series, 190));
    }
    draw_lines(file, 2, &panels)
}

/// Figure 4 of the paper in small: the loss of a network by learning rate, with and without the
/// correction of the bias.
fn paper_bias(file: &Path, effort: f64) -> Result<()> {
    let problem = Problem::new(Kind::Network)?;
    let rates: Vec<f64> = (-10..=0).map(|k| 10_f64.powf(f64::from(k) / 2.0)).collect();
    let mut panels = Vec::new();
    for epochs in [1.0, 10.0] {
        let steps = (epochs * effort * (problem.rows() as f64 / 32.0).ceil()).max(1.0) as u64;
        let mut series = Vec::new();
        for (style, beta2) in [0.99, 0.999, 0.9999].into_iter().enumerate() {
            for bias_correction in [true, false] {
                let adam = Adam {
                    betas: (0.9, beta2),
                    bias_correction,
                    ..Adam::new(0.1)
                }
                .into();
                let finals = rates.par_iter().map(|&lr| {
                    let losses = (0..3).map(|seed| {
                        let (decay, batch) = (Decay::Constant, Some(32));
                        let run = Run {
                            algorithm: &adam,
                            lr,
                            decay,
                            batch,
                            steps,
                            seed,
                        };
                        problem.train(&run).map(|trace| trace.last())
                    });
                    let mut losses = losses.collect::<Result<Vec<f64>>>()?;
                    losses.sort_by(f64::total_cmp);
                    Ok((lr, losses[1]))
                });
                let finals = finals.collect::<Result<Vec<_>>>()?;
                let best = finals.iter().min_by(|a, b| a.1.total_cmp(&b.1));
                let (lr, loss) = best.copied().unwrap_or_default();
                let what = if bias_correction {
                    "corrected"
                } else {
                    "not corrected"
                };
                println!("{epochs} epochs, beta2 {beta2}, {what}: {loss:.2e} at lr {lr:.0e}");
                let points = finals
                    .into_iter()
                    .filter(|&(_, loss)| loss < 20.0)
                    .collect();
                let style = style + if bias_correction { 0 } else { 7 };
                series.push(Line::new(format!("{beta2}, {what}"), style, points));
            }
        }
        let plural = if epochs == 1.0 { "" } else { "s" };
        let title = format!("network on digits, {epochs} epoch{plural}");
        let (x, y) = (
            PlotAxis::log("learning rate"),
            PlotAxis::log("training loss"),
        );
        panels.push(Lines {
            dots: true,
            ..lines(&title, x, y, series, 190)
        });
    }
    draw_lines(file, 2, &panels)
}

/// What the late spikes are: the largest eigenvalue of the preconditioned Hessian times lr, next
/// to the bound of stability.
fn spikes(file: &Path, effort: f64) -> Result<()> {
    let table = Table::read("breast_cancer.csv")?.standardized();
    let mut problem = Regression::logistic(&table.x, &table.y)?.l2(0.005);
    let (x, n) = (&table.x, table.x.nrows() as f64);
    let features = x.ncols();
    let lr = 0.1;
    let steps = (6000.0 * effort).max(10.0) as usize;
    let mut adam = Optimizer::<f64>::new(Adam::new(lr));
    let (mut model, mut grads) = (problem.zeros(), problem.zeros());
    let (mut gaps, mut curvature) = (Vec::new(), Vec::new());
    let mut direction = Array1::<f64>::ones(features + 1);
    for step in 1..=steps {
        let value = problem.value_and_grad(&model, &mut grads)?;
        let gap = (value - 0.0995913754847055).max(1e-16);
        gaps.push((step as f64, gap));
        adam.step_with(&mut model, &grads)?;
        let second = |name: &str| -> Vec<f64> {
            let state = adam.state(name);
            let v = state.iter().find(|(name, _)| *name == "exp_avg_sq");
            let corrected = 1.0 - 0.999_f64.powi(step as i32);
            v.map_or(Vec::new(), |(_, v)| {
                v.iter().map(|v| (v / corrected).sqrt() + 1e-8).collect()
            })
        };
        let denominators = Array1::from([second("weights"), second("bias")].concat());
        // H = X^T diag(p (1 - p) / n) X + 2 l2, with a column of ones for the bias.
        let p = problem.predict(&model, x)?;
        let weights = p.mapv(|p| p * (1.0 - p) / n);
        let roots = denominators.mapv(|d| 1.0 / d.sqrt());
        let hessian = |u: &Array1<f64>| {
            let (w, b) = u.view().split_at(Axis(0), features);
            let z = (x.dot(&w) + b[0]) * &weights;
            let mut out = Array1::zeros(features + 1);
            for i in 0..features {
                out[i] = x.column(i).dot(&z) + 0.01 * w[i];
            }
            out[features] = z.sum();
            out
        };
        let mut largest = 0.0;
        for _ in 0..20 {
            let next = &roots * &hessian(&(&roots * &direction));
            largest = next.dot(&next).sqrt();
            direction = next / largest;
        }
        curvature.push((step as f64, lr * largest));
    }
    let late = |points: &[(f64, f64)]| {
        points
            .iter()
            .skip(steps / 10)
            .map(|p| p.1)
            .fold(0.0, f64::max)
    };
    println!(
        "largest lr lambda after the first tenth: {:.1}; bound 38",
        late(&curvature)
    );
    let bound = vec![(1.0, 38.0), (steps as f64, 38.0)];
    let panels = [
        lines(
            "logistic regression, all rows, Adam with lr 0.1",
            PlotAxis::linear("step"),
            PlotAxis::log("gap to the optimum"),
            vec![Line::new("gap", 0, gaps)],
            0,
        ),
        lines(
            "lr times the largest curvature that Adam sees",
            PlotAxis::linear("step"),
            PlotAxis::log("lr lambda"),
            vec![
                Line::new("lr lambda", 1, curvature),
                Line::new("2 (1 + b1) / (1 - b1)", 6, bound),
            ],
            190,
        ),
    ];
    draw_lines(file, 2, &panels)
}

/// The path of every algorithm on two functions of two variables.
fn trajectories(file: &Path, effort: f64) -> Result<()> {
    let all = AnyAlgorithm::all();
    let steps = (500.0 * effort).max(5.0) as usize;
    let functions: [&Function; 2] = [&ROSENBROCK, &RASTRIGIN];
    let jobs: Vec<_> = all
        .iter()
        .flat_map(|algorithm| functions.map(|function| (algorithm, function)))
        .collect();
    let paths = jobs.par_iter().map(|&(algorithm, function)| {
        best_path(algorithm, function, steps).map(|best| (algorithm.name(), function, best))
    });
    let paths = paths.collect::<Result<Vec<_>>>()?;
    let panels: Vec<Surface<'_>> = paths
        .into_iter()
        .map(|(name, function, best)| Surface {
            title: name.to_string(),
            subtitle: format!("lr {:.0e}, f {:.0e}", best.lr, best.value),
            x: function.x,
            y: function.y,
            value: &function.value,
            range: function.range,
            paths: vec![Trajectory {
                points: best.points,
                style: 1,
            }],
            minimum: function.minimum,
        })
        .collect();
    let panels: Vec<&dyn Panel> = panels.iter().map(|panel| panel as &dyn Panel).collect();
    draw(file, 12, (170, 176), &panels)
}

/// A learning-rate range test of Adam on the network.
fn lr_range(file: &Path, _: f64) -> Result<()> {
    let table = Table::read("digits.csv")?.scaled(16.0);
    let mut network = compare_optimizers::network::Network::new(&table.x, &table.labels, 32, 10);
    let mut model = network.zeros();
    let wave =
        |scale: f64| move |(i, j): (usize, usize)| scale * (1.7 * i as f64 + 2.9 * j as f64).sin();
    model.hidden = Array2::from_shape_fn(model.hidden.dim(), wave(0.125));
    model.output = Array2::from_shape_fn(model.output.dim(), wave(0.18));
    let mut grads = network.zeros();
    let mut adam = Optimizer::<f64>::new(Adam::default());
    let mut batches = Batches::new(table.x.nrows(), 64, 1)?;
    let mut range = LrRange::new(1e-6, 10.0, 200)?;
    while let Some(lr) = range.next_lr() {
        adam.set_lr(lr);
        let loss = network
            .batch(batches.next_batch())
            .value_and_grad(&model, &mut grads)?;
        range.observe(loss);
        adam.step_with(&mut model, &grads)?;
    }
    let suggestion = range.suggestion().ok_or("the loss never fell")?;
    println!("suggestion: {suggestion:.2e}");
    let curve: Vec<(f64, f64)> = range.curve().collect();
    let most = curve.iter().map(|point| point.1).fold(0.0, f64::max);
    let panel = lines(
        "learning-rate range test: Adam, network on digits, batches of 64",
        PlotAxis::log("learning rate"),
        PlotAxis::linear("loss before the step"),
        vec![
            Line::new("loss", 0, curve),
            Line::new(
                format!("suggestion, {suggestion:.1e}"),
                1,
                vec![(suggestion, 0.0), (suggestion, most)],
            ),
        ],
        190,
    );
    draw_lines(file, 1, &[panel])
}
