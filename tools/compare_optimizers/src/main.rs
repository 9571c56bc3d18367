//! Compares optimizers on real data by their gap to the exact optimum. The learning rate of each is
//! searched; several seeds; constant and decaying rates. Prints tables and draws pictures.
//!
//! ```sh
//! cargo run --release -p compare_optimizers -- --help
//! ```
use clap::Parser;
use compare_optimizers::{
    Result,
    problem::{Kind, Problem},
    train::{Decay, Run, Tried, best, search},
};
use ndarray::array;
use ndarray_optim::{AnyAlgorithm, Optimizer};
use plot::{Axis, Line, Lines, Panel, Strip, draw};
use rayon::prelude::*;
use std::{
    fmt::Write,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

/// Compares optimizers on regression problems and a network, with full gradients and mini-batches
#[derive(Parser)]
struct Args {
    /// Names of optimizers, or `all`
    #[arg(long, value_delimiter = ',', default_value = "momentum,rmsprop,adam")]
    optimizers: Vec<String>,
    /// JSON file with more optimizers: [{"name": "adam", "betas": [0.9, 0.99]}, ...]; `lr` is
    /// searched
    #[arg(long)]
    config: Option<PathBuf>,
    /// Problems
    #[arg(long, value_delimiter = ',', default_value = "linear,logistic,softmax")]
    problems: Vec<Kind>,
    /// Number of random starts (and orders of mini-batches) for each learning rate
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Rows in a mini-batch
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Full gradients only
    #[arg(long)]
    full: bool,
    /// Factor for the number of steps of every run
    #[arg(long, default_value_t = 1.0)]
    effort: f64,
    /// Directory of the pictures
    #[arg(long, default_value = "target/compare_optimizers")]
    out: PathBuf,
    /// Writes the tables to this Markdown file too
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// The search of one optimizer on one problem.
struct Search<'a> {
    problem: &'a Problem,
    batch: Option<usize>,
    name: &'a str,
    decay: Decay,
    steps: u64,
    tried: Vec<Tried>,
}

const TARGETS: [f64; 3] = [1e-3, 1e-6, 1e-9];
/// More optimizers than this are not told apart by lines.
const MOST_LINES: usize = 8;

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let optimizers = optimizers(args)?;
    let problems = args.problems.iter().map(|&kind| Problem::new(kind));
    let problems = problems.collect::<Result<Vec<_>>>()?;
    let mut batches = vec![None];
    batches.extend((!args.full).then_some(Some(args.batch as usize)));
    let mut jobs = Vec::new();
    for problem in &problems {
        for &batch in &batches {
            for optimizer in &optimizers {
                jobs.extend(
                    [Decay::Constant, Decay::Cosine].map(|d| (problem, batch, optimizer, d)),
                );
            }
        }
    }
    let (done, all) = (AtomicUsize::new(0), jobs.len());
    let searches = jobs
        .into_par_iter()
        .map(|(problem, batch, (name, algorithm), decay)| {
            let steps = (steps(problem, batch) as f64 * args.effort).max(1.0) as u64;
            let run = Run {
                algorithm,
                lr: 0.0,
                decay,
                batch,
                steps,
                seed: 0,
            };
            let tried = search(problem, &run, args.seeds)?;
            eprint!(
                "\r{} of {all} searches",
                done.fetch_add(1, Ordering::Relaxed) + 1
            );
            Ok(Search {
                problem,
                batch,
                name,
                decay,
                steps,
                tried,
            })
        });
    let searches = searches.collect::<Result<Vec<_>>>()?;
    eprintln!();

    fs::create_dir_all(&args.out)
        .map_err(|error| format!("cannot create {}: {error}", args.out.display()))?;
    let mut markdown = String::new();
    for problem in &problems {
        let mut panels: Vec<Box<dyn Panel>> = Vec::new();
        for &batch in &batches {
            let here =
                |search: &&Search<'_>| search.problem.kind == problem.kind && search.batch == batch;
            let mut here: Vec<_> = searches.iter().filter(here).collect();
            print!("\n{}", table(&here, args.seeds, false));
            markdown += &table(&here, args.seeds, true);
            if optimizers.len() <= MOST_LINES {
                let [curves, sweeps] = lines(&here);
                panels.extend([Box::new(curves) as Box<dyn Panel>, Box::new(sweeps)]);
            } else {
                here.sort_by(|a, b| a.best().gap().total_cmp(&b.best().gap()));
                let strips = [Decay::Constant, Decay::Cosine].map(|decay| strip(&here, decay));
                panels.extend(strips.map(|strip| Box::new(strip) as Box<dyn Panel>));
            }
        }
        let height = if optimizers.len() <= MOST_LINES {
            520
        } else {
            1100
        };
        let file = args
            .out
            .join(format!("{}.png", problem.name.replace(' ', "_")));
        let panels: Vec<&dyn Panel> = panels.iter().map(|panel| &**panel).collect();
        draw(&file, 2, (860, height), &panels)?;
        println!("\npicture: {}", file.display());
    }
    if let Some(file) = &args.markdown {
        fs::write(file, &markdown)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    let runs: usize = searches.iter().map(|search| search.tried.len()).sum();
    println!(
        "{} runs in {:.0} s",
        runs as u64 * args.seeds,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Search<'_> {
    fn best(&self) -> &Tried {
        &self.tried[best(self.tried.iter())]
    }
}

/// The optimizers named on the command line and in the configuration file.
fn optimizers(args: &Args) -> Result<Vec<(String, AnyAlgorithm)>> {
    let all = AnyAlgorithm::all();
    let mut chosen = Vec::new();
    for name in &args.optimizers {
        let found: Vec<_> = all
            .iter()
            .filter(|algorithm| {
                name == algorithm.name() || name == "all" && steps_vectors(algorithm)
            })
            .map(|algorithm| (algorithm.name().to_string(), algorithm.clone()))
            .collect();
        if found.is_empty() {
            let known: Vec<_> = all.iter().map(AnyAlgorithm::name).collect();
            let known = known.join(", ");
            return Err(
                format!("unknown optimizer `{name}`, expected `all` or one of {known}").into(),
            );
        }
        chosen.extend(found);
    }
    if let Some(file) = &args.config {
        let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(file).map_err(|error| explain(&error))?;
        let more: Vec<AnyAlgorithm> =
            serde_json::from_str(&text).map_err(|error| explain(&error))?;
        let more = more.into_iter().enumerate();
        chosen.extend(more.map(|(i, one)| (format!("{} #{}", one.name(), i + 1), one)));
    }
    chosen.dedup();
    Ok(chosen)
}

/// Whether an optimizer accepts vectors, which the biases are. `all` skips the others; when named
/// explicitly, they fail with an error.
fn steps_vectors(algorithm: &AnyAlgorithm) -> bool {
    Optimizer::new(algorithm.clone())
        .update_with_loss(&mut array![0.0], &array![0.0], 0.0)
        .is_ok()
}

/// The number of steps of a run.
fn steps(problem: &Problem, batch: Option<usize>) -> usize {
    match (problem.kind, batch) {
        (Kind::Softmax | Kind::Network, None) => 500,
        (_, None) => 3000,
        // 40 epochs
        (_, Some(batch)) => 40 * problem.rows().div_ceil(batch),
    }
}

fn title(search: &Search<'_>) -> String {
    let (name, rows, steps) = (search.problem.name, search.problem.rows(), search.steps);
    match search.batch {
        None => format!("{name}, all {rows} rows, {steps} steps"),
        Some(batch) => format!("{name}, batches of {batch} of {rows} rows, {steps} steps"),
    }
}

/// The table of one problem, aligned or in Markdown.
fn table(searches: &[&Search<'_>], seeds: u64, markdown: bool) -> String {
    let header = [
        "",
        "rate",
        "best lr",
        "gap",
        "least to most",
        "1e-3",
        "1e-6",
        "1e-9",
        "lrs",
        "bad",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for search in searches {
        let (problem, best) = (search.problem, search.best());
        let gap = |gap: f64| match gap {
            _ if gap <= problem.floor() => "exact".into(),
            _ if gap.is_finite() => format!("{gap:.1e}"),
            _ => "-".into(),
        };
        let last = |trace: Option<&compare_optimizers::train::Trace>| {
            gap(trace.map_or(f64::INFINITY, |trace| trace.last()))
        };
        let mut row = vec![
            search.name.into(),
            search.decay.name().into(),
            best.lr.to_string(),
        ];
        row.push(gap(best.gap()));
        row.push(format!(
            "{} {}",
            last(best.traces.first()),
            last(best.traces.last())
        ));
        row.extend(TARGETS.map(|target| match best.steps_to(target) {
            step if step.is_finite() => step.to_string(),
            _ => "-".into(),
        }));
        let good = search
            .tried
            .iter()
            .filter(|tried| tried.gap() <= 10.0 * best.gap());
        let good: Vec<f64> = good.map(|tried| tried.lr).collect();
        row.push(match &good[..] {
            [one] => one.to_string(),
            [low, .., high] => format!("{low} to {high}"),
            [] => "-".into(),
        });
        let start = best
            .middle()
            .gaps
            .first()
            .map_or(f64::INFINITY, |&(_, gap)| gap);
        let runs = search.tried.iter().flat_map(|tried| &tried.traces);
        let bad = runs.filter(|trace| trace.last() >= start).count();
        row.push(format!("{bad}/{}", search.tried.len() as u64 * seeds));
        rows.push(row);
    }
    let mut text = searches
        .first()
        .map_or(String::new(), |search| title(search));
    if seeds == 1 {
        // Least and most are the same.
        rows.iter_mut().for_each(|row| _ = row.remove(4));
    }
    if markdown {
        text = format!("### {text}\n\n");
        rows.insert(1, vec!["---".into(); rows[0].len()]);
        rows.iter()
            .for_each(|row| _ = writeln!(text, "| {} |", row.join(" | ")));
        text.push('\n');
        return text;
    }
    text.push('\n');
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:<0$}", width(0)),
                _ => write!(text, "  {cell:>0$}", width(column)),
            };
        }
        text.push('\n');
    }
    text
}

/// The gap over the steps, and the final gap over the learning rates.
fn lines(searches: &[&Search<'_>]) -> [Lines; 2] {
    let (mut curves, mut sweeps) = (Vec::new(), Vec::new());
    for (style, search) in searches.iter().enumerate() {
        let best = search.best();
        let name = format!("{}, {}", search.name, search.decay.name());
        let gaps = &best.middle().gaps;
        // Points far above the start would only stretch the axis.
        let most = gaps.first().map_or(f64::INFINITY, |&(_, gap)| 10.0 * gap);
        let shown = |gap: f64| gap <= most;
        let kept = thin(gaps);
        let points = kept
            .iter()
            .map(|&i| gaps[i])
            .filter(|&(_, gap)| shown(gap))
            .collect();
        let band = kept.iter().filter_map(|&i| {
            let others = best.traces.iter().map(|trace| trace.gaps.get(i).copied());
            let others: Option<Vec<f64>> = others
                .map(|o| o.filter(|&(step, _)| step == gaps[i].0).map(|(_, gap)| gap))
                .collect();
            let others = others?;
            let low = others.iter().copied().fold(f64::INFINITY, f64::min);
            let high = others.iter().copied().fold(0.0, f64::max);
            shown(high).then_some((gaps[i].0, low, high))
        });
        let mut curve = Line::new(format!("{name}: {}", best.lr), style, points);
        curve.band = band.collect();
        curves.push(curve);
        let finals = search.tried.iter().map(|tried| (tried.lr, tried.gap()));
        let mut sweep = Line::new(name, style, finals.filter(|&(_, gap)| shown(gap)).collect());
        let ends = search.tried.iter().filter(|tried| shown(tried.gap()));
        let ends = ends.map(|t| {
            (
                t.lr,
                t.traces[0].last(),
                t.traces[t.traces.len() - 1].last(),
            )
        });
        sweep.band = ends.filter(|&(_, _, high)| shown(high)).collect();
        sweeps.push(sweep);
    }
    let title = searches
        .first()
        .map_or(String::new(), |search| title(search));
    let panel = |title: String, x: &str, y: &str, lines, dots| Lines {
        title,
        x: Axis::log(x),
        y: Axis::log(y),
        lines,
        dots,
        legend: 230,
    };
    [
        panel(
            title,
            "step",
            "gap to the optimum at the best rate",
            curves,
            false,
        ),
        panel(
            "final gap by learning rate".into(),
            "learning rate",
            "final gap",
            sweeps,
            true,
        ),
    ]
}

/// The final gap by algorithm and learning rate, as colors.
fn strip(searches: &[&Search<'_>], decay: Decay) -> Strip {
    let here = || searches.iter().filter(|search| search.decay == decay);
    let mut lrs: Vec<f64> = here()
        .flat_map(|search| search.tried.iter().map(|t| t.lr))
        .collect();
    lrs.sort_by(f64::total_cmp);
    lrs.dedup();
    let gap = |search: &Search<'_>, lr: f64| {
        search
            .tried
            .iter()
            .find(|tried| tried.lr == lr)
            .map(|tried| tried.gap())
    };
    let rows = here().map(|search| {
        (
            search.name.to_string(),
            lrs.iter().map(|&lr| gap(search, lr)).collect(),
        )
    });
    let start = searches
        .first()
        .and_then(|search| search.best().middle().gaps.first().copied());
    let start = start.map_or(1.0, |(_, gap)| gap);
    let title = searches
        .first()
        .map_or(String::new(), |search| title(search));
    Strip {
        title: format!("{title}, {} rate", decay.name()),
        columns: lrs.iter().map(|lr| format!("{lr:e}")).collect(),
        x: "learning rate; white: not tried, crossed out: diverged".into(),
        rows: rows.collect(),
        range: (start * 1e-12, start),
        scale: "final gap, median of the seeds".into(),
    }
}

/// The indices of the points of a curve that a logarithmic axis shows.
fn thin(points: &[(f64, f64)]) -> Vec<usize> {
    let mut next = 1.0;
    let keep = |&i: &usize| {
        let step = points[i].0;
        let keep = step >= next || i + 1 == points.len();
        if keep {
            next = (step * 1.02).max(step + 1.0);
        }
        keep
    };
    (0..points.len()).filter(keep).collect()
}
