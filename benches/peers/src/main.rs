//! Steps of this crate and of other optimizer libraries, timed in turn in one run.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --out docs/peers.md
//! ```
//!
//! takes about a quarter of an hour and writes `docs/peers.md` and `docs/figures/peers.png`. With
//! `--quick` it takes three minutes. Filters run a part of it:
//!
//! ```sh
//! ... -- --algorithms adamw --dtypes f32 --shapes 1e5,1e6 --threads all --peers torch,optax
//! ```
//!
//! `NDARRAY_OPTIM_INSTRUCTION_SET=avx2` holds this crate, torch and jax to AVX2 on a machine with
//! more; the limit and what other crates detect at run time do not obey it.
//!
//! Peers are the memory limit, ndarray's `Zip`, candle-optimisers, burn-optim and optirs-core, which
//! are dependencies of this package alone, and torch and optax, which the interpreter
//! `$PEERS_PYTHON` (default `python3`) runs in processes of its own. What is not installed is
//! skipped, and named.
//!
//! Each row of the tables is repeated in rounds, in which every peer does steps in turn, until the
//! confidence intervals of the ratios are small, or a limit of time is reached: then it is marked as
//! noisy.
mod case;
#[path = "../../common/mod.rs"]
mod common;
mod machine;
mod measure;
mod peers;
mod plot;
mod report;

use case::{Algorithm, Case, Dtype, Layout, Shapes, Threads};
use clap::Parser;
use measure::{Bench, Effort};
use std::{error::Error, fs, path::PathBuf, str::FromStr, time::Instant};

/// Times steps of this crate and of other optimizer libraries in turn
#[derive(Parser)]
struct Args {
    /// Algorithms
    #[arg(long, value_enum, value_delimiter = ',')]
    algorithms: Vec<Algorithm>,
    /// Element types
    #[arg(long, value_enum, value_delimiter = ',')]
    dtypes: Vec<Dtype>,
    /// Numbers of elements of one array, `many` (1000 arrays of 1000), `transformer` (the layers of
    /// a small one), `matrix` (1000 x 1000, in several memory layouts)
    #[arg(long, value_delimiter = ',')]
    shapes: Vec<Choice>,
    /// Memory layouts of `matrix`
    #[arg(long, value_enum, value_delimiter = ',')]
    layouts: Vec<Layout>,
    /// Numbers of threads
    #[arg(long, value_enum, value_delimiter = ',')]
    threads: Vec<Threads>,
    /// Peers whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Fewer rows and rounds
    #[arg(long)]
    quick: bool,
    /// Seconds for the rounds of a row
    #[arg(long)]
    seconds: Option<f64>,
    /// The page of results; the figure goes to `figures/` next to it
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers.md"))]
    out: PathBuf,
}

/// Shapes by their name on the command line.
#[derive(Clone, Copy, PartialEq)]
enum Choice {
    Size(usize),
    Many,
    Transformer,
    Matrix,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "many" => Ok(Self::Many),
            "transformer" => Ok(Self::Transformer),
            "matrix" => Ok(Self::Matrix),
            number => match number.parse::<f64>() {
                // Parameters are compared by their first and last elements.
                Ok(n) if (8.0..1e12).contains(&n) => Ok(Self::Size(n as usize)),
                _ => Err("neither a number from 8 on nor `many`, `transformer`, `matrix`".into()),
            },
        }
    }
}

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let cases = plan(args);
    let mut bench = bench(args)?;
    println!("{}\n", machine::describe());
    let mut rows = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        println!("[{}/{}] {case}", i + 1, cases.len());
        match bench.measure(case) {
            Ok(row) => {
                report::print(&row);
                rows.push(row);
            }
            Err(reason) => println!("  this crate: {reason}"),
        }
    }
    println!();
    report::skipped(&rows)
        .iter()
        .for_each(|entry| println!("skipped: {entry}"));

    let folder = args.out.parent().unwrap_or(&args.out);
    let stem = args.out.file_stem().unwrap_or_default().to_string_lossy();
    let figure = format!("figures/{stem}.png");
    fs::create_dir_all(folder.join("figures"))?;
    let drawn = plot::draw(&folder.join(&figure), &rows)?;
    let names: Vec<_> = bench.others.iter().map(|peer| peer.name()).collect();
    let about: Vec<_> = bench
        .others
        .iter()
        .filter_map(|peer| Some(format!("**{}**: {}", peer.name(), peer.about()?)))
        .collect();
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let command =
        format!("cargo run --release --manifest-path benches/peers/Cargo.toml -- {command}");
    let page = report::page(
        &rows,
        &names,
        &about,
        drawn.then_some(&*figure),
        command.trim_end(),
    );
    fs::write(&args.out, page)?;
    println!(
        "{}: {:.0} s",
        args.out.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn bench(args: &Args) -> Result<Bench, String> {
    let mut effort = match args.quick {
        true => Effort {
            min_rounds: 5,
            max_rounds: 15,
            seconds: 1.0,
        },
        false => Effort {
            min_rounds: 5,
            max_rounds: 61,
            seconds: 4.0,
        },
    };
    effort.seconds = args.seconds.unwrap_or(effort.seconds);
    let mut others = peers::others();
    if !args.peers.is_empty() {
        others.retain(|peer| args.peers.iter().any(|part| peer.name().contains(part)));
    }
    Bench::new(effort, peers::this_crate(), peers::limits(), others)
}

/// The rows of the tables, in their order.
fn plan(args: &Args) -> Vec<Case> {
    fn chosen<T: Clone>(filter: &[T], all: &[T]) -> Vec<T> {
        if filter.is_empty() { all } else { filter }.to_vec()
    }
    let sizes: &[usize] = match args.quick {
        true => &[100, 10_000, 1_000_000, 10_000_000],
        false => &[
            100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000,
        ],
    };
    let mut choices: Vec<_> = sizes.iter().copied().map(Choice::Size).collect();
    choices.extend([Choice::Many, Choice::Transformer, Choice::Matrix]);
    let choices = chosen(&args.shapes, &choices);
    let layouts = chosen(&args.layouts, &Layout::ALL);

    let (mut one, mut several, mut matrix) = (vec![], vec![], vec![]);
    for choice in choices {
        match choice {
            Choice::Size(n) => one.push((Shapes::One(n), Layout::C)),
            Choice::Many => several.push((Shapes::Many, Layout::C)),
            Choice::Transformer => several.push((Shapes::Transformer, Layout::C)),
            Choice::Matrix => {
                matrix.extend(layouts.iter().map(|&layout| (Shapes::Square(1000), layout)));
            }
        }
    }
    let mut cases = Vec::new();
    for arrays in [one, several, matrix] {
        for dtype in chosen(&args.dtypes, &Dtype::ALL) {
            for threads in chosen(&args.threads, &Threads::ALL) {
                for algorithm in chosen(&args.algorithms, &Algorithm::ALL) {
                    cases.extend(arrays.iter().map(|&(shapes, layout)| Case {
                        algorithm,
                        dtype,
                        shapes,
                        layout,
                        threads,
                    }));
                }
            }
        }
    }
    if machine::cores() == 1 {
        cases.retain(|case| case.threads == Threads::One);
    }
    // What takes longest and says least: only if it is asked for.
    if args.dtypes.is_empty() {
        cases.retain(|case| match (case.dtype, case.shapes) {
            (Dtype::F32, _) => true,
            (Dtype::F64, _) if args.quick => false,
            (Dtype::F64, Shapes::One(n)) => n < 50_000_000,
            (Dtype::F64, Shapes::Square(_)) => false,
            (Dtype::F64, _) => case.algorithm == Algorithm::Adamw,
        });
    }
    if args.quick && args.algorithms.is_empty() {
        let matrix = |case: &Case| matches!(case.shapes, Shapes::Square(_));
        cases.retain(|case| !matrix(case) || case.algorithm == Algorithm::Adamw);
    }
    cases
}
