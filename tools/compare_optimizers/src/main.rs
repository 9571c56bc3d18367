//! Compares optimizers on real data by their gap to the exact optimum, with a sweep of learning
//! rates and several seeds for each. Prints tables and writes plots.
//!
//! ```sh
//! cargo run --release -p compare_optimizers -- --help
//! ```
mod data;
mod objective;
mod plot;

use clap::{Parser, ValueEnum};
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use ndarray::{Array2, array};
use ndarray_optim::{AnyAlgorithm, Optimizer, Params};
use ndarray_rand::{RandomExt, rand_distr::Normal};
use objective::{Model, Objective};
use plot::{Line, Panel, draw};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use rayon::prelude::*;
use std::{error::Error, fs, path::PathBuf, time::Instant};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Compares optimizers on linear, logistic and softmax regression, full-batch and mini-batch
#[derive(Parser)]
struct Args {
    /// Names of optimizers, or `all`
    #[arg(long, value_delimiter = ',', default_value = "momentum,rmsprop,adam")]
    optimizers: Vec<String>,
    /// JSON file with more optimizers: [{"name": "adam", "betas": [0.9, 0.99]}, ...]; `lr` is swept
    #[arg(long)]
    config: Option<PathBuf>,
    /// Problems
    #[arg(long, value_delimiter = ',', default_value = "linear,logistic,softmax")]
    problems: Vec<Problem>,
    /// Learning rates
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.001,0.003,0.01,0.03,0.1,0.3,1,3,10"
    )]
    lrs: Vec<f64>,
    /// Number of random starts (and orders of mini-batches) for each learning rate
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Rows in a mini-batch
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Factor for the number of steps of every run
    #[arg(long, default_value_t = 1.0)]
    effort: f64,
    /// Directory of the plots
    #[arg(long, default_value = "target/compare_optimizers")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Problem {
    Linear,
    Logistic,
    Softmax,
}

/// One training run.
struct Run<'a> {
    objective: &'a Objective,
    /// Rows in a mini-batch; `None` for full gradients.
    batch: Option<usize>,
    optimizer: usize,
    lr: f64,
    seed: u64,
    steps: usize,
}

/// The course of a run.
struct Trace {
    /// Pairs of a step and the gap after it.
    gaps: Vec<(f64, f64)>,
}

const TARGETS: [f64; 3] = [1e-2, 1e-4, 1e-6];

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> Result<()> {
    let optimizers = optimizers(args)?;
    let objectives = Objective::all()?;
    let chosen: Vec<_> = [Problem::Linear, Problem::Logistic, Problem::Softmax]
        .into_iter()
        .zip(&objectives)
        .filter(|(problem, _)| args.problems.contains(problem))
        .map(|(_, objective)| objective)
        .collect();
    let mut runs = Vec::new();
    for objective in chosen.iter().copied() {
        for batch in [None, Some(args.batch as usize)] {
            let steps = (steps(objective, batch) as f64 * args.effort).max(1.0) as usize;
            for (optimizer, &lr, seed) in (0..optimizers.len()).flat_map(|o| {
                args.lrs
                    .iter()
                    .flat_map(move |lr| (0..args.seeds).map(move |s| (o, lr, s)))
            }) {
                runs.push(Run {
                    objective,
                    batch,
                    optimizer,
                    lr,
                    seed,
                    steps,
                });
            }
        }
    }
    let bar = ProgressBar::new(runs.len() as u64).with_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} runs, {eta} left",
    )?);
    let start = Instant::now();
    // Shuffled, so that long runs are spread evenly over the threads.
    runs.shuffle(&mut StdRng::seed_from_u64(0));
    let done: Vec<(Run<'_>, Trace)> = runs
        .into_par_iter()
        .progress_with(bar)
        .map(|run| train(&run, &optimizers[run.optimizer]).map(|trace| (run, trace)))
        .collect::<Result<_>>()?;
    println!(
        "{} runs in {:.0} s; gaps are medians over {} seeds",
        done.len(),
        start.elapsed().as_secs_f64(),
        args.seeds
    );

    fs::create_dir_all(&args.out)
        .map_err(|error| format!("cannot create {}: {error}", args.out.display()))?;
    for objective in chosen {
        let mut panels = Vec::new();
        for batch in [None, Some(args.batch as usize)] {
            let here = |(run, _): &&(Run<'_>, Trace)| {
                run.objective.name == objective.name && run.batch == batch
            };
            let done: Vec<_> = done.iter().filter(here).collect();
            panels.extend(compare(args, objective, batch, &optimizers, &done));
        }
        let file = args.out.join(format!("{}.png", objective.name));
        draw(&file, &panels)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        println!("\nplots: {}", file.display());
    }
    Ok(())
}

/// The optimizers named on the command line and in the configuration file.
fn optimizers(args: &Args) -> Result<Vec<(String, AnyAlgorithm)>> {
    let all = AnyAlgorithm::all();
    let mut chosen = Vec::new();
    for name in &args.optimizers {
        let found: Vec<_> = all
            .iter()
            .filter(|algorithm| {
                name == algorithm.name() || name == "all" && steps_biases(algorithm)
            })
            .cloned()
            .collect();
        if found.is_empty() {
            let known: Vec<_> = all.iter().map(AnyAlgorithm::name).collect();
            return Err(format!(
                "unknown optimizer `{name}`, expected `all` or one of {}",
                known.join(", ")
            )
            .into());
        }
        chosen.extend(
            found
                .into_iter()
                .map(|algorithm| (algorithm.name().to_string(), algorithm)),
        );
    }
    if let Some(file) = &args.config {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let more: Vec<AnyAlgorithm> =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        chosen.extend(
            more.into_iter()
                .enumerate()
                .map(|(i, algorithm)| (format!("{} #{}", algorithm.name(), i + 1), algorithm)),
        );
    }
    chosen.dedup();
    Ok(chosen)
}

/// Whether an optimizer accepts vectors, which the biases are. `all` skips the others; when named
/// explicitly, they fail with an error.
fn steps_biases(algorithm: &AnyAlgorithm) -> bool {
    Optimizer::new(algorithm.clone())
        .update_with_loss(&mut array![0.0], &array![0.0], 0.0)
        .is_ok()
}

/// The number of steps of a run.
fn steps(objective: &Objective, batch: Option<usize>) -> usize {
    match (objective.name, batch) {
        ("softmax", None) => 1000,
        (_, None) => 5000,
        // 60 epochs
        (_, Some(batch)) => 60 * objective.rows().div_ceil(batch),
    }
}

fn train(run: &Run<'_>, (_, algorithm): &(String, AnyAlgorithm)) -> Result<Trace> {
    let objective = run.objective;
    let mut rng = StdRng::seed_from_u64(run.seed);
    let mut model = objective.zeros();
    model.w = Array2::random_using(model.w.dim(), Normal::new(0.0, 0.01)?, &mut rng);
    let mut optimizer = Optimizer::new(algorithm.clone());
    optimizer.set_lr(run.lr);
    let mut rows: Vec<usize> = (0..objective.rows()).collect();
    let mut at = rows.len();
    let mut gaps = Vec::new();
    let mut next = 1;
    for step in 1..=run.steps {
        let (value, grad) = match run.batch {
            None => objective.gradient(&model),
            Some(batch) => {
                if at >= rows.len() {
                    rows.shuffle(&mut rng);
                    at = 0;
                }
                let end = rows.len().min(at + batch);
                let found = objective.batch_gradient(&rows[at..end], &model);
                at = end;
                found
            }
        };
        // The value over all rows comes with the full gradient. With mini-batches it is computed
        // separately, at steps 3 % apart.
        if run.batch.is_none() {
            gaps.push(((step - 1) as f64, objective.gap(value)));
        } else if step == next {
            let value = value_at(objective, &optimizer, &model);
            gaps.push(((step - 1) as f64, objective.gap(value)));
            next = step + 1 + step / 32;
        }
        if !value.is_finite() {
            break;
        }
        let Model { w, b } = &mut model;
        let mut params = Params::new();
        params
            .loss(value)
            .add("weight", w, &grad.w)?
            .add("bias", b, &grad.b)?;
        optimizer.step(params)?;
    }
    let value = value_at(objective, &optimizer, &model);
    gaps.push((run.steps as f64, objective.gap(value)));
    gaps.iter_mut()
        .for_each(|(_, gap)| *gap = gap.max(objective.floor()));
    Ok(Trace { gaps })
}

/// The value at the point at which to evaluate the model: for schedule-free optimizers this is not
/// the parameters.
fn value_at(objective: &Objective, optimizer: &Optimizer<f64>, model: &Model) -> f64 {
    let w = optimizer.evaluate_param("weight", &model.w).unwrap();
    let b = optimizer.evaluate_param("bias", &model.b).unwrap();
    objective.value(&Model { w, b })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Trace {
    /// The final gap; infinite for a run that diverged.
    fn last(&self) -> f64 {
        self.gaps.last().map_or(f64::INFINITY, |&(_, gap)| {
            if gap.is_finite() { gap } else { f64::INFINITY }
        })
    }

    /// The first step with a gap of at most `target`.
    fn first(&self, target: f64) -> f64 {
        self.gaps
            .iter()
            .find(|&&(_, gap)| gap <= target)
            .map_or(f64::INFINITY, |&(step, _)| step)
    }
}

/// Prints the table of one problem and returns its panels: gap over steps, and final gap over
/// learning rates.
fn compare(
    args: &Args,
    objective: &Objective,
    batch: Option<usize>,
    optimizers: &[(String, AnyAlgorithm)],
    done: &[&(Run<'_>, Trace)],
) -> [Panel; 2] {
    let (rows, steps) = (
        objective.rows(),
        done.first().map_or(0, |(run, _)| run.steps),
    );
    let what = match batch {
        None => format!(
            "{} regression, all {rows} rows, {steps} steps",
            objective.name
        ),
        Some(batch) => format!(
            "{} regression, batches of {batch} of {rows} rows, {steps} steps",
            objective.name
        ),
    };
    println!("\n{what}");
    let width = optimizers
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    println!(
        "{:<width$} {:>8} {:>10} {:>10} {:>10} {:>10}   lrs within 10 x of the best gap",
        "", "best lr", "final gap", "to 1e-2", "to 1e-4", "to 1e-6"
    );
    let (mut curves, mut sweeps, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (name, _)) in optimizers.iter().enumerate() {
        let of_lr = |lr: f64| {
            let mut traces: Vec<_> = done
                .iter()
                .filter(|(run, _)| run.optimizer == i && run.lr == lr)
                .map(|(_, t)| t)
                .collect();
            traces.sort_by(|a, b| a.last().total_cmp(&b.last()));
            traces
        };
        let sweep: Vec<_> = args
            .lrs
            .iter()
            .map(|&lr| (lr, median(of_lr(lr).iter().map(|t| t.last()).collect())))
            .collect();
        // The smallest gap; among several that reach the optimum, the fastest.
        let speed = |lr: f64| {
            median(
                of_lr(lr)
                    .iter()
                    .map(|trace| trace.first(TARGETS[2]))
                    .collect(),
            )
        };
        let order = |a: &&(f64, f64), b: &&(f64, f64)| {
            a.1.total_cmp(&b.1).then(speed(a.0).total_cmp(&speed(b.0)))
        };
        let Some(&(best, gap)) = sweep.iter().min_by(order) else {
            continue;
        };
        let traces = of_lr(best);
        let hits = TARGETS.map(|target| {
            let step = median(traces.iter().map(|trace| trace.first(target)).collect());
            if step.is_finite() {
                format!("{step}")
            } else {
                "-".into()
            }
        });
        let good: Vec<_> = sweep
            .iter()
            .filter(|(_, g)| *g <= 10.0 * gap)
            .map(|(lr, _)| lr.to_string())
            .collect();
        println!(
            "{name:<width$} {best:>8} {:>10} {:>10} {:>10} {:>10}   {}",
            if gap > objective.floor() {
                format!("{gap:.1e}")
            } else {
                format!("<{:.0e}", objective.floor())
            },
            hits[0],
            hits[1],
            hits[2],
            good.join(" ")
        );
        // The run with the median result represents the optimizer.
        let points = traces
            .get(traces.len() / 2)
            .map_or(&[][..], |trace| &trace.gaps);
        // Points far above the start would only stretch the axis.
        let start = points.first().map_or(f64::INFINITY, |&(_, gap)| 10.0 * gap);
        let mut curve = thin(points);
        curve.retain(|&(_, gap)| gap <= start);
        curves.push(Line {
            name: format!("{name}, lr {best}"),
            rank: 0,
            points: curve,
        });
        let points = sweep.into_iter().filter(|&(_, gap)| gap <= start).collect();
        sweeps.push(Line {
            name: name.clone(),
            rank: 0,
            points,
        });
        gaps.push(gap);
    }
    let mut order: Vec<_> = (0..gaps.len()).collect();
    order.sort_by(|&a, &b| gaps[a].total_cmp(&gaps[b]));
    for (rank, i) in order.into_iter().enumerate() {
        (curves[i].rank, sweeps[i].rank) = (rank, rank);
    }
    [
        Panel {
            title: what.clone(),
            x: "step",
            y: "gap to the optimum",
            dots: false,
            lines: curves,
        },
        Panel {
            title: "final gap by learning rate, same colors".into(),
            x: "learning rate",
            y: "final gap",
            dots: true,
            lines: sweeps,
        },
    ]
}

/// Thins out a curve for a logarithmic axis.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut next = 1.0;
    let last = points.last().map_or(0.0, |point| point.0);
    let keep = |&&(step, _): &&(f64, f64)| {
        let keep = step >= next || step == last;
        if keep {
            next = (step * 1.02).max(step + 1.0);
        }
        keep
    };
    points.iter().filter(keep).copied().collect()
}
