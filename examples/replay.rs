//! Replays recorded runs of any framework and compares: the cross-check of an optimizer. `docs/replay.md` has the format.
//!
//! `cargo run --release --example replay -- [--dtype f64|f32] [--threads N] [--print] FILE...`
use clap::{Parser, ValueEnum};
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{
    Config, Fused, Optimizer, OptimizerConfig, Parallel, Params, ReduceOnPlateau, Schedule, Visit, kernel::Element,
};
use rayon::ThreadPoolBuilder;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
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
    /// Pass if |x - y| <= rtol max(1, |y|) [default: 2e-5 for optimizers in f32, else 1e-12]
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
    #[serde(default)]
    lrs: Vec<f64>,
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

#[derive(Deserialize)]
struct ScheduleCase {
    id: String,
    schedule: Value,
    #[serde(default)]
    lr: Vec<f64>,
    steps: Option<usize>,
}

#[derive(Serialize)]
struct Rates {
    id: String,
    lr: Vec<f64>,
}

/// What tells a file of schedules from one of optimizers.
#[derive(Deserialize)]
struct Probe {
    schedule: Option<IgnoredAny>,
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

/// A case of either kind.
trait Replay: DeserializeOwned {
    type Computed: Serialize;
    fn id(&self) -> &str;
    fn replay(&self, args: &Args) -> Result<Self::Computed>;
    fn worst_error(&self, computed: &Self::Computed) -> Result<f64>;
    fn rtol(args: &Args) -> f64;
}

/// Whether every case passed.
fn run(args: &Args) -> Result<bool> {
    let pool = ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(1) as usize).build()?;
    let (mut passed, mut all) = (0, 0);
    for file in &args.files {
        let schedules = read::<Probe>(file)?.iter().any(|case| case.schedule.is_some());
        let results = pool
            .install(|| if schedules { replay_file::<ScheduleCase>(file, args) } else { replay_file::<Case>(file, args) })?;
        (passed, all) = (passed + results.iter().filter(|pass| **pass).count(), all + results.len());
    }
    if !args.print {
        println!("{passed} passed, {} failed", all - passed);
    }
    Ok(passed == all)
}

/// Which cases passed; none if they are only printed.
fn replay_file<C: Replay>(file: &Path, args: &Args) -> Result<Vec<bool>> {
    let cases: Vec<C> = read(file)?;
    let explain = |case: &C, error| format!("{}: case {}: {error}", file.display(), case.id());
    let replay = |case: &C| case.replay(args).map_err(|error| explain(case, error));
    let computed = cases.iter().map(replay).collect::<std::result::Result<Vec<_>, _>>()?;
    if args.print {
        println!("{}", serde_json::to_string(&computed)?);
        return Ok(Vec::new());
    }
    let mut passed = Vec::new();
    for (case, computed) in cases.iter().zip(&computed) {
        let error = case.worst_error(computed).map_err(|error| explain(case, error))?;
        let pass = error <= args.rtol.unwrap_or(C::rtol(args));
        println!("{:<32} {error:>9.1e}  {}", case.id(), if pass { "pass" } else { "FAIL" });
        passed.push(pass);
    }
    Ok(passed)
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// |x - y| / max(1, |y|), or 0 if both are NaN.
fn error((x, y): (&f64, &f64)) -> f64 {
    let error = (x - y).abs() / y.abs().max(1.0);
    if !error.is_nan() {
        error
    } else if x.is_nan() && y.is_nan() {
        0.0
    } else {
        f64::INFINITY
    }
}

impl Replay for ScheduleCase {
    type Computed = Rates;

    fn id(&self) -> &str {
        &self.id
    }

    fn replay(&self, _: &Args) -> Result<Rates> {
        let steps = self.steps.unwrap_or(self.lr.len());
        let mut keys = self.schedule.clone();
        let lr = match keys.as_object_mut() {
            Some(keys) if keys.get("name").is_some_and(|name| name == "reduce_on_plateau") => {
                keys.remove("name");
                let metrics: Vec<f64> = serde_json::from_value(keys.remove("metrics").ok_or("there are no `metrics`")?)?;
                if metrics.len() + 1 < steps {
                    return Err(format!("{} metrics are not enough for {steps} steps", metrics.len()).into());
                }
                let mut plateau = ReduceOnPlateau::new(serde_json::from_value(keys.clone().into())?)?;
                let first = plateau.lr();
                [first].into_iter().chain(metrics.iter().map(|&metric| plateau.observe(metric))).take(steps).collect()
            }
            _ => {
                let schedule: Schedule = serde_json::from_value(keys)?;
                schedule.validate()?;
                (0..steps as u64).map(|step| schedule.value(step)).collect()
            }
        };
        Ok(Rates { id: self.id.clone(), lr })
    }

    fn worst_error(&self, computed: &Rates) -> Result<f64> {
        if computed.lr.len() != self.lr.len() {
            return Err(format!("{} steps, but {} values in `lr`", computed.lr.len(), self.lr.len()).into());
        }
        Ok(computed.lr.iter().zip(&self.lr).map(error).fold(0.0, f64::max))
    }

    fn rtol(_: &Args) -> f64 {
        1e-12
    }
}

impl Replay for Case {
    type Computed = Computed;

    fn id(&self) -> &str {
        &self.id
    }

    fn replay(&self, args: &Args) -> Result<Computed> {
        let parallel = args.threads.map_or(Parallel::SERIAL, |_| Parallel { min_work: 0, chunk: 4 });
        match args.dtype {
            Dtype::F64 => replay::<f64>(self, parallel),
            Dtype::F32 => replay::<f32>(self, parallel),
        }
    }

    fn worst_error(&self, computed: &Computed) -> Result<f64> {
        worst_error(self, computed)
    }

    fn rtol(args: &Args) -> f64 {
        if args.dtype == Dtype::F64 { 1e-12 } else { 2e-5 }
    }
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
        if !case.lrs.is_empty() {
            optimizer.set_lr(case.lrs[(step - 1) % case.lrs.len()]);
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
        let values = found.params.iter().flatten().zip(point.params.iter().flatten());
        worst = values.map(error).fold(worst, f64::max);
    }
    Ok(worst)
}
