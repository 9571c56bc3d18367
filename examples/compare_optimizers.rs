//! Momentum, RMSProp and Adam on real data: each with a sweep of learning rates and several seeds, judged by the gap to the
//! exact optimum. Prints a table and writes plots.
//!
//! `cargo run --release --example compare_optimizers -- --help`
mod common;

use clap::{Parser, ValueEnum};
use common::{
    objective::{Model, Objective},
    plot::{Line, Panel, draw},
    report,
};
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use ndarray_optim::{AnyAlgorithm, Optimizer, Params};
use ndarray_rand::{RandomExt, rand_distr::Normal};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use rayon::prelude::*;
use std::{
    error::Error,
    fs::{self, File},
    io::BufReader,
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

/// Compares optimizers on linear, logistic and softmax regression, over all rows at a time and over mini-batches.
#[derive(Parser)]
struct Args {
    /// Optimizers by name, or `all`
    #[arg(long, value_delimiter = ',', default_value = "momentum,rmsprop,adam")]
    optimizers: Vec<String>,
    /// JSON file with a list of more optimizers: [{"name": "adam", "betas": [0.9, 0.99]}, ...]; their `lr` is swept
    #[arg(long)]
    config: Option<PathBuf>,
    /// Problems
    #[arg(long, value_delimiter = ',', default_value = "linear,logistic,softmax")]
    problems: Vec<Problem>,
    /// Learning rates
    #[arg(long, value_delimiter = ',', default_value = "0.001,0.003,0.01,0.03,0.1,0.3,1,3,10")]
    lrs: Vec<f64>,
    /// Random starts (and orders of mini-batches) for each
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Rows in a mini-batch
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Multiplies the number of steps of every run
    #[arg(long, default_value_t = 1.0)]
    effort: f64,
    /// Folder of the plots
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
    /// Rows in a mini-batch; `None` for all rows.
    batch: Option<usize>,
    optimizer: usize,
    lr: f64,
    seed: u64,
    steps: usize,
}

/// What became of it: the gap after some steps.
struct Trace {
    gaps: Vec<(f64, f64)>,
}

const TARGETS: [f64; 3] = [1e-2, 1e-4, 1e-6];

fn main() -> ExitCode {
    report(run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
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
            for (optimizer, &lr, seed) in (0..optimizers.len())
                .flat_map(|o| args.lrs.iter().flat_map(move |lr| (0..args.seeds).map(move |s| (o, lr, s))))
            {
                runs.push(Run { objective, batch, optimizer, lr, seed, steps });
            }
        }
    }
    let bar = ProgressBar::new(runs.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {eta} left")?);
    let start = Instant::now();
    // Long runs are spread evenly when they come in no order.
    runs.shuffle(&mut StdRng::seed_from_u64(0));
    let done: Vec<(Run<'_>, Trace)> = runs
        .into_par_iter()
        .progress_with(bar)
        .map(|run| train(&run, &optimizers[run.optimizer]).map(|trace| (run, trace)))
        .collect::<Result<_, _>>()?;
    println!("{} runs in {:.0} s; gaps are medians over {} seeds", done.len(), start.elapsed().as_secs_f64(), args.seeds);

    fs::create_dir_all(&args.out).map_err(|error| format!("cannot create {}: {error}", args.out.display()))?;
    for objective in chosen {
        let mut panels = Vec::new();
        for batch in [None, Some(args.batch as usize)] {
            let here = |(run, _): &&(Run<'_>, Trace)| run.objective.name == objective.name && run.batch == batch;
            let done: Vec<_> = done.iter().filter(here).collect();
            panels.extend(compare(args, objective, batch, &optimizers, &done));
        }
        let file = args.out.join(format!("{}.png", objective.name));
        draw(&file, &panels).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        println!("\nplots: {}", file.display());
    }
    Ok(())
}

/// The optimizers that were asked for.
fn optimizers(args: &Args) -> Result<Vec<(String, AnyAlgorithm)>, Box<dyn Error>> {
    let all = AnyAlgorithm::all();
    let mut chosen = Vec::new();
    for name in &args.optimizers {
        let found: Vec<_> = all
            .iter()
            .filter(|algorithm| name == algorithm.name() || name == "all" && steps_biases(algorithm))
            .cloned()
            .collect();
        if found.is_empty() {
            let known: Vec<_> = all.iter().map(AnyAlgorithm::name).collect();
            return Err(format!("there is no optimizer `{name}`; there are {} and `all`", known.join(", ")).into());
        }
        chosen.extend(found.into_iter().map(|algorithm| (algorithm.name().to_string(), algorithm)));
    }
    if let Some(file) = &args.config {
        let reader = BufReader::new(File::open(file).map_err(|error| format!("{}: {error}", file.display()))?);
        let more: Vec<AnyAlgorithm> =
            serde_json::from_reader(reader).map_err(|error| format!("{}: {error}", file.display()))?;
        chosen.extend(
            more.into_iter().enumerate().map(|(i, algorithm)| (format!("{} #{}", algorithm.name(), i + 1), algorithm)),
        );
    }
    chosen.dedup();
    Ok(chosen)
}

/// Whether an optimizer takes vectors, as the biases are; who asks for another one by name is told why it cannot run.
fn steps_biases(algorithm: &AnyAlgorithm) -> bool {
    let (mut bias, grad) = (ndarray::arr1(&[0.0]), ndarray::arr1(&[0.0]));
    Optimizer::new(algorithm.clone()).update_with_loss(&mut bias, &grad, 0.0).is_ok()
}

/// How long a run is.
fn steps(objective: &Objective, batch: Option<usize>) -> usize {
    match (objective.name, batch) {
        ("softmax", None) => 1000,
        (_, None) => 5000,
        // 60 passes over the data
        (_, Some(batch)) => 60 * objective.rows().div_ceil(batch),
    }
}

fn train(run: &Run<'_>, (_, algorithm): &(String, AnyAlgorithm)) -> Result<Trace, ndarray_optim::Error> {
    let objective = run.objective;
    let mut rng = StdRng::seed_from_u64(run.seed);
    let mut model = objective.zeros();
    if let Ok(normal) = Normal::new(0.0, 0.01) {
        model.w = ndarray::Array2::random_using(model.w.dim(), normal, &mut rng);
    }
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
        // Over all rows the value before the step comes for free; else it is computed at steps 3 % apart.
        if run.batch.is_none() {
            gaps.extend(objective.gap(value).map(|gap| ((step - 1) as f64, gap)));
        } else if step == next {
            gaps.extend(objective.gap(value_of(objective, &optimizer, &model)).map(|gap| ((step - 1) as f64, gap)));
            next = step + 1 + step / 32;
        }
        if !value.is_finite() {
            break;
        }
        let Model { w, b } = &mut model;
        let mut params = Params::new();
        params.loss(value).add("weight", w, &grad.w)?.add("bias", b, &grad.b)?;
        optimizer.step(params)?;
    }
    gaps.extend(objective.gap(value_of(objective, &optimizer, &model)).map(|gap| (run.steps as f64, gap)));
    gaps.iter_mut().for_each(|(_, gap)| *gap = gap.max(objective.floor()));
    Ok(Trace { gaps })
}

/// The value at the point that the optimizer would have evaluated.
fn value_of(objective: &Objective, optimizer: &Optimizer<f64>, model: &Model) -> f64 {
    let w = optimizer.evaluation("weight", model.w.view().into_dyn()).into_dimensionality();
    let b = optimizer.evaluation("bias", model.b.view().into_dyn()).into_dimensionality();
    w.and_then(|w| b.map(|b| objective.value(&Model { w, b }))).unwrap_or(f64::NAN)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Trace {
    /// The gap at the end; infinite for a run that diverged.
    fn last(&self) -> f64 {
        self.gaps.last().map_or(f64::INFINITY, |&(_, gap)| if gap.is_finite() { gap } else { f64::INFINITY })
    }

    /// The first step at which the gap is this small.
    fn first(&self, target: f64) -> f64 {
        self.gaps.iter().find(|&&(_, gap)| gap <= target).map_or(f64::INFINITY, |&(step, _)| step)
    }
}

/// Prints the table of one problem and returns its two panels: gap over steps, and final gap over learning rates.
fn compare(
    args: &Args,
    objective: &Objective,
    batch: Option<usize>,
    optimizers: &[(String, AnyAlgorithm)],
    done: &[&(Run<'_>, Trace)],
) -> [Panel; 2] {
    let (rows, steps) = (objective.rows(), done.first().map_or(0, |(run, _)| run.steps));
    let what = match batch {
        None => format!("{} regression, all {rows} rows, {steps} steps", objective.name),
        Some(batch) => format!("{} regression, batches of {batch} of {rows} rows, {steps} steps", objective.name),
    };
    println!("\n{what}");
    let width = optimizers.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    println!(
        "{:<width$} {:>8} {:>10} {:>10} {:>10} {:>10}   lr within 10 x of the best gap",
        "", "best lr", "final gap", "to 1e-2", "to 1e-4", "to 1e-6"
    );
    let (mut curves, mut sweeps, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (name, _)) in optimizers.iter().enumerate() {
        let of_lr = |lr: f64| {
            let mut traces: Vec<_> =
                done.iter().filter(|(run, _)| run.optimizer == i && run.lr == lr).map(|(_, t)| t).collect();
            traces.sort_by(|a, b| a.last().total_cmp(&b.last()));
            traces
        };
        let sweep: Vec<_> = args.lrs.iter().map(|&lr| (lr, median(of_lr(lr).iter().map(|t| t.last()).collect()))).collect();
        // The least gap, and of several at the optimum the one that got there first.
        let speed = |lr: f64| median(of_lr(lr).iter().map(|trace| trace.first(TARGETS[2])).collect());
        let order = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1).then(speed(a.0).total_cmp(&speed(b.0)));
        let Some(&(best, gap)) = sweep.iter().min_by(order) else { continue };
        let traces = of_lr(best);
        let hits = TARGETS.map(|target| {
            let step = median(traces.iter().map(|trace| trace.first(target)).collect());
            if step.is_finite() { format!("{step}") } else { "-".into() }
        });
        let good: Vec<_> = sweep.iter().filter(|(_, g)| *g <= 10.0 * gap).map(|(lr, _)| lr.to_string()).collect();
        println!(
            "{name:<width$} {best:>8} {:>10} {:>10} {:>10} {:>10}   {}",
            if gap > objective.floor() { format!("{gap:.1e}") } else { format!("<{:.0e}", objective.floor()) },
            hits[0],
            hits[1],
            hits[2],
            good.join(" ")
        );
        // The run with the median result stands for the optimizer.
        let points = traces.get(traces.len() / 2).map_or(&[][..], |trace| &trace.gaps);
        // Far above the start there is nothing to see; it would only stretch the axis.
        let start = points.first().map_or(f64::INFINITY, |&(_, gap)| 10.0 * gap);
        let mut curve = thin(points);
        curve.retain(|&(_, gap)| gap <= start);
        curves.push(Line { name: format!("{name}, lr {best}"), rank: 0, points: curve });
        let points = sweep.into_iter().filter(|&(_, gap)| gap <= start).collect();
        sweeps.push(Line { name: name.clone(), rank: 0, points });
        gaps.push(gap);
    }
    let mut order: Vec<_> = (0..gaps.len()).collect();
    order.sort_by(|&a, &b| gaps[a].total_cmp(&gaps[b]));
    for (rank, i) in order.into_iter().enumerate() {
        (curves[i].rank, sweeps[i].rank) = (rank, rank);
    }
    [
        Panel { title: what.clone(), x: "step", y: "gap to the optimum", dots: false, lines: curves },
        Panel {
            title: "final gap by learning rate, same colours".into(),
            x: "learning rate",
            y: "final gap",
            dots: true,
            lines: sweeps,
        },
    ]
}

/// Enough points to draw a curve over a logarithmic axis.
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
