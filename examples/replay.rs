//! Replays recorded runs of any framework and compares: the cross-check of an optimizer. `docs/replay.md` has the format.
//!
//! `cargo run --release --example replay -- [--dtype f64|f32] [--threads N] [--print] FILE...`
use clap::{Parser, ValueEnum};
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{Config, Fused, Optimizer, OptimizerConfig, Parallel, Params, Visit, kernel::Element};
use rayon::ThreadPoolBuilder;
use serde::{Deserialize, Serialize};
use std::{error::Error, fs, path::Path, path::PathBuf, process::ExitCode};

/// Replays cases and reports the worst error of each.
#[derive(Parser)]
struct Args {
    /// JSON files, each a list of cases
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Element type of parameters, gradients and state
    #[arg(long, value_enum, default_value_t = Dtype::F64)]
    dtype: Dtype,
    /// Run on this many threads, in small pieces (the bits do not depend on it)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Pass if |x - y| <= rtol max(1, |y|) [default: 1e-12 in f64, 2e-5 in f32]
    #[arg(long)]
    rtol: Option<f64>,
    /// Compare nothing: write what is computed, one JSON list for each file
    #[arg(long)]
    print: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    F64,
    F32,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    optimizer: OptimizerConfig,
    params: Vec<Start>,
    grads: Vec<Vec<Vec<f64>>>,
    #[serde(default)]
    losses: Vec<f64>,
    expect: Vec<Point>,
}

#[derive(Deserialize)]
struct Start {
    name: String,
    shape: Vec<usize>,
    values: Vec<f64>,
}

#[derive(Deserialize, Serialize)]
struct Point {
    step: usize,
    #[serde(default)]
    params: Vec<Vec<f64>>,
}

#[derive(Serialize)]
struct Computed {
    id: String,
    expect: Vec<Point>,
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every case passed.
fn run(args: &Args) -> Result<bool> {
    let rtol = args.rtol.unwrap_or(if args.dtype == Dtype::F64 { 1e-12 } else { 2e-5 });
    let parallel = args.threads.map_or(Parallel::SERIAL, |_| Parallel { min_work: 0, chunk: 4 });
    let pool = ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(1) as usize).build()?;
    let (mut passed, mut all) = (0, 0);
    for file in &args.files {
        let cases = read(file)?;
        let replayed: Vec<Computed> = pool.install(|| {
            let replay = |case: &Case| match args.dtype {
                Dtype::F64 => replay::<f64>(case, parallel),
                Dtype::F32 => replay::<f32>(case, parallel),
            };
            let explain = |case: &Case, error| format!("{}: case {}: {error}", file.display(), case.id);
            cases
                .iter()
                .map(|case| replay(case).map_err(|error| explain(case, error)))
                .collect::<std::result::Result<_, _>>()
        })?;
        if args.print {
            println!("{}", serde_json::to_string(&replayed)?);
            continue;
        }
        for (case, computed) in cases.iter().zip(&replayed) {
            let error =
                worst_error(case, computed).map_err(|error| format!("{}: case {}: {error}", file.display(), case.id))?;
            let pass = error <= rtol;
            println!("{:<32} {error:>9.1e}  {}", case.id, if pass { "pass" } else { "FAIL" });
            (passed, all) = (passed + usize::from(pass), all + 1);
        }
    }
    if !args.print {
        println!("{passed} passed, {} failed", all - passed);
    }
    Ok(passed == all)
}

fn read(file: &Path) -> Result<Vec<Case>> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// The optimizer of a case, with threads as asked for.
struct Build<A>(Parallel, std::marker::PhantomData<A>);

impl<A: Element> Visit for Build<A> {
    type Out = Box<dyn Optimizer<A>>;
    fn visit<C: Config>(self, config: &C) -> Self::Out {
        let mut optimizer = Fused::with(config.clone());
        optimizer.parallel = self.0;
        Box::new(optimizer)
    }
}

fn array<A: Element>(start: &Start, values: &[f64]) -> Result<ArrayD<A>> {
    let values: Vec<A> = values.iter().map(|&x| A::of(x)).collect();
    let n = values.len();
    let wrong = |_| format!("`{}` has shape {:?} but {n} values", start.name, start.shape);
    Ok(ArrayD::from_shape_vec(IxDyn(&start.shape), values).map_err(wrong)?)
}

fn replay<A: Element>(case: &Case, parallel: Parallel) -> Result<Computed> {
    let mut optimizer = case.optimizer.visit(Build::<A>(parallel, std::marker::PhantomData));
    let mut params = case.params.iter().map(|start| array::<A>(start, &start.values)).collect::<Result<Vec<_>>>()?;
    let last = case.expect.iter().map(|point| point.step).max().unwrap_or(0);
    if case.grads.is_empty() && last > 0 {
        return Err("there are no gradients".into());
    }
    let mut computed = Computed { id: case.id.clone(), expect: Vec::new() };
    for step in 1..=last {
        let values = &case.grads[(step - 1) % case.grads.len()];
        if values.len() != params.len() {
            return Err(format!("step {step} has {} gradients for {} parameters", values.len(), params.len()).into());
        }
        let grads = case.params.iter().zip(values).map(|(start, g)| array::<A>(start, g)).collect::<Result<Vec<_>>>()?;
        let mut lent = Params::with_capacity(params.len());
        for ((start, param), grad) in case.params.iter().zip(&mut params).zip(&grads) {
            lent.add(&*start.name, param, grad)?;
        }
        if !case.losses.is_empty() {
            lent.loss(case.losses[(step - 1) % case.losses.len()]);
        }
        optimizer.step(lent)?;
        for _ in case.expect.iter().filter(|point| point.step == step) {
            let points =
                case.params.iter().zip(&params).map(|(start, param)| optimizer.evaluation(&start.name, param.view()));
            let params = points.map(|point| point.iter().map(|x| x.f64()).collect()).collect();
            computed.expect.push(Point { step, params });
        }
    }
    Ok(computed)
}

/// The greatest |x - y| / max(1, |y|).
fn worst_error(case: &Case, computed: &Computed) -> Result<f64> {
    let mut worst: f64 = 0.0;
    for point in &case.expect {
        let found = computed.expect.iter().find(|found| found.step == point.step).ok_or("steps count from 1")?;
        let lengths = |point: &Point| point.params.iter().map(Vec::len).collect::<Vec<_>>();
        if lengths(point) != lengths(found) {
            return Err(format!("step {} expects values of other lengths than the parameters", point.step).into());
        }
        for (x, y) in found.params.iter().flatten().zip(point.params.iter().flatten()) {
            let error = (x - y).abs() / y.abs().max(1.0);
            worst = if error.is_nan() && !(x.is_nan() && y.is_nan()) { f64::INFINITY } else { worst.max(error) };
        }
    }
    Ok(worst)
}
