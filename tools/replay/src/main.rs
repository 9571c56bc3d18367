//! Replays recorded runs of other frameworks and compares the parameters. The file format is
//! described in `docs/replay.md`.
//!
//! ```sh
//! cargo run --release -p replay -- --help
//! ```
mod lbfgs;

use clap::{Parser, ValueEnum};
use lbfgs::LbfgsCase;
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{
    AnyAlgorithm, AnySchedule, Group, Optimizer, Parallel, Params, ReduceOnPlateau, StateDict,
    algorithm::Element,
    state::{Data, ElementType, Named},
    wrap::ClipByGlobalNorm,
};
use rayon::ThreadPoolBuilder;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use std::{
    env,
    error::Error,
    fs,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// Replays cases and prints the largest error of each
#[derive(Parser)]
struct Args {
    /// JSON files, each a list of cases
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Element type of parameters, gradients and state arrays
    #[arg(long, value_enum, default_value_t = Dtype::F64)]
    dtype: Dtype,
    /// Number of threads; results do not depend on it. Work is split into small chunks
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Pass if |x - y| <= rtol max(1, |y|) [default: 1e-9 for lbfgs, 2e-5 for other optimizers in
    /// f32, else 1e-12]
    #[arg(long)]
    rtol: Option<f64>,
    /// Print the computed values instead of comparing them, one JSON list per file
    #[arg(long)]
    print: bool,
    /// Stop each case after K steps, save its state to a file, and resume in a new process
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    interrupt: Option<u64>,
    /// Format of that file
    #[arg(long, value_enum, default_value_t = Format::Binary)]
    format: Format,
    /// In the new process: the state file and the index of the case to resume
    #[arg(long, hide = true, requires = "case")]
    resume: Option<PathBuf>,
    #[arg(long, hide = true)]
    case: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Json,
    Binary,
    Safetensors,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    F64,
    F32,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    optimizer: AnyAlgorithm,
    #[serde(default)]
    groups: Vec<Group>,
    #[serde(default)]
    clip_by_global_norm: Option<ClipByGlobalNorm>,
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

/// Tells files of schedules and of objectives from those of gradients.
#[derive(Deserialize)]
struct Probe {
    schedule: Option<IgnoredAny>,
    objective: Option<IgnoredAny>,
}

/// What the cases of a file are.
enum Kind {
    Gradients,
    Schedules,
    Objectives,
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

/// A case: a run of an optimizer or the values of a schedule.
trait Replay: DeserializeOwned {
    type Computed: Serialize;
    fn id(&self) -> &str;
    /// `place` is the file and the index of the case in it.
    fn replay(&self, args: &Args, place: (&Path, usize)) -> Result<Self::Computed>;
    /// The part after the interruption, from the saved state, serialized for the parent process.
    fn resume(&self, args: &Args, saved: &[u8]) -> Result<String>;
    fn worst_error(&self, computed: &Self::Computed) -> Result<f64>;
    fn rtol(args: &Args) -> f64;
}

/// Returns whether every case passed.
fn run(args: &Args) -> Result<bool> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(args.threads.unwrap_or(1) as usize)
        .build()?;
    if let (Some(saved), Some(number), [file]) = (&args.resume, args.case, &args.files[..]) {
        let resume = match kind(file)? {
            Kind::Gradients => resume_file::<Case>,
            Kind::Schedules => resume_file::<ScheduleCase>,
            Kind::Objectives => resume_file::<LbfgsCase>,
        };
        println!("{}", pool.install(|| resume(file, number, args, saved))?);
        return Ok(true);
    }
    let (mut passed, mut all) = (0, 0);
    for file in &args.files {
        let replay = match kind(file)? {
            Kind::Gradients => replay_file::<Case>,
            Kind::Schedules => replay_file::<ScheduleCase>,
            Kind::Objectives => replay_file::<LbfgsCase>,
        };
        let results = pool.install(|| replay(file, args))?;
        (passed, all) = (
            passed + results.iter().filter(|pass| **pass).count(),
            all + results.len(),
        );
    }
    if !args.print {
        println!("{passed} passed, {} failed", all - passed);
    }
    Ok(passed == all)
}

/// Returns for each case whether it passed; empty if the values are only printed.
fn replay_file<C: Replay>(file: &Path, args: &Args) -> Result<Vec<bool>> {
    let cases: Vec<C> = read(file)?;
    let explain = |case: &C, error| format!("{}: case {}: {error}", file.display(), case.id());
    let replay = |(i, case): (usize, &C)| {
        case.replay(args, (file, i))
            .map_err(|error| explain(case, error))
    };
    let computed = cases
        .iter()
        .enumerate()
        .map(replay)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    if args.print {
        println!("{}", serde_json::to_string(&computed)?);
        return Ok(Vec::new());
    }
    let mut passed = Vec::new();
    for (case, computed) in cases.iter().zip(&computed) {
        let error = case
            .worst_error(computed)
            .map_err(|error| explain(case, error))?;
        let pass = error <= args.rtol.unwrap_or(C::rtol(args));
        println!(
            "{:<32} {error:>9.1e}  {}",
            case.id(),
            if pass { "pass" } else { "FAIL" }
        );
        passed.push(pass);
    }
    Ok(passed)
}

fn resume_file<C: Replay>(file: &Path, number: usize, args: &Args, saved: &Path) -> Result<String> {
    read::<C>(file)?
        .get(number)
        .ok_or("no such case")?
        .resume(args, &fs::read(saved)?)
}

/// The step after which a case of `steps` steps is interrupted, if it is.
fn stop(args: &Args, steps: usize) -> Option<usize> {
    args.interrupt
        .and_then(|k| usize::try_from(k).ok())
        .filter(|&k| k < steps)
}

/// Resumes a case in a new process and returns what that process computed.
fn in_new_process<T: DeserializeOwned>(
    args: &Args,
    (file, number): (&Path, usize),
    saved: &[u8],
) -> Result<T> {
    let path = env::temp_dir().join(format!("replay-{}-{number}.state", std::process::id()));
    fs::write(&path, saved)?;
    let mut child = Command::new(env::current_exe()?);
    child
        .arg("--resume")
        .arg(&path)
        .args(["--case", &number.to_string()])
        .stderr(Stdio::inherit());
    for (option, value) in [
        ("--dtype", args.dtype.to_possible_value()),
        ("--format", args.format.to_possible_value()),
    ] {
        child.args([option, value.ok_or("hidden option value")?.get_name()]);
    }
    child.args(["--interrupt", &args.interrupt.unwrap_or(1).to_string()]);
    if let Some(threads) = args.threads {
        child.args(["--threads", &threads.to_string()]);
    }
    let output = child.arg("--").arg(file).output();
    fs::remove_file(&path)?;
    let output = output?;
    if !output.status.success() {
        return Err("the new process failed".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn kind(file: &Path) -> Result<Kind> {
    let cases = read::<Probe>(file)?;
    Ok(if cases.iter().any(|case| case.schedule.is_some()) {
        Kind::Schedules
    } else if cases.iter().any(|case| case.objective.is_some()) {
        Kind::Objectives
    } else {
        Kind::Gradients
    })
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

/// The source of the learning rates of a case: the state saved between processes.
#[derive(Serialize, Deserialize)]
enum Driver {
    Schedule(AnySchedule),
    Plateau(ReduceOnPlateau),
}

impl Driver {
    /// There are no arrays, so every format but the binary one is JSON.
    fn write(&self, format: Format) -> Result<Vec<u8>> {
        if format != Format::Binary {
            return Ok(serde_json::to_vec(self)?);
        }
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes)?;
        Ok(bytes)
    }

    fn read(bytes: &[u8], format: Format) -> Result<Self> {
        if format == Format::Binary {
            Ok(ciborium::from_reader(bytes)?)
        } else {
            Ok(serde_json::from_slice(bytes)?)
        }
    }
}

impl ScheduleCase {
    fn is_plateau(&self) -> bool {
        self.schedule
            .get("name")
            .is_some_and(|name| name == "reduce_on_plateau")
    }

    fn driver(&self) -> Result<Driver> {
        let mut keys = self.schedule.clone();
        if let Some(keys) = keys.as_object_mut().filter(|_| self.is_plateau()) {
            keys.retain(|key, _| key != "name" && key != "metrics");
            let config = serde_json::from_value(keys.clone().into())?;
            return Ok(Driver::Plateau(ReduceOnPlateau::new(config)?));
        }
        let schedule: AnySchedule = serde_json::from_value(keys)?;
        schedule.validate()?;
        Ok(Driver::Schedule(schedule))
    }

    /// The learning rates of these steps, counted from 0.
    fn rates(&self, driver: &mut Driver, steps: Range<usize>) -> Result<Vec<f64>> {
        let plateau = match driver {
            Driver::Schedule(schedule) => {
                return Ok(steps.map(|step| schedule.value(step as u64)).collect());
            }
            Driver::Plateau(plateau) => plateau,
        };
        let metrics: Vec<f64> = serde_json::from_value(
            self.schedule
                .get("metrics")
                .ok_or("`metrics` is missing")?
                .clone(),
        )?;
        let rate = |step: usize| match step.checked_sub(1) {
            None => Ok(plateau.lr()),
            Some(last) => match metrics.get(last) {
                Some(&metric) => Ok(plateau.observe(metric)),
                None => {
                    Err(format!("{} metrics are too few for step {step}", metrics.len()).into())
                }
            },
        };
        steps.map(rate).collect()
    }
}

impl Replay for ScheduleCase {
    type Computed = Rates;

    fn id(&self) -> &str {
        &self.id
    }

    fn replay(&self, args: &Args, place: (&Path, usize)) -> Result<Rates> {
        let steps = self.steps.unwrap_or(self.lr.len());
        let mut driver = self.driver()?;
        let stop = stop(args, steps);
        let mut lr = self.rates(&mut driver, 0..stop.unwrap_or(steps))?;
        if stop.is_some() {
            lr.extend(
                in_new_process::<Vec<u64>>(args, place, &driver.write(args.format)?)?
                    .into_iter()
                    .map(f64::from_bits),
            );
        }
        Ok(Rates {
            id: self.id.clone(),
            lr,
        })
    }

    fn resume(&self, args: &Args, saved: &[u8]) -> Result<String> {
        let first = usize::try_from(args.interrupt.unwrap_or(1))?;
        let rates = self.rates(
            &mut Driver::read(saved, args.format)?,
            first..self.steps.unwrap_or(self.lr.len()),
        )?;
        Ok(serde_json::to_string(
            &rates.into_iter().map(f64::to_bits).collect::<Vec<_>>(),
        )?)
    }

    fn worst_error(&self, computed: &Rates) -> Result<f64> {
        if computed.lr.len() != self.lr.len() {
            return Err(format!(
                "{} steps, but {} values in `lr`",
                computed.lr.len(),
                self.lr.len()
            )
            .into());
        }
        Ok(computed
            .lr
            .iter()
            .zip(&self.lr)
            .map(error)
            .fold(0.0, f64::max))
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

    fn replay(&self, args: &Args, place: (&Path, usize)) -> Result<Computed> {
        match args.dtype {
            Dtype::F64 => replay::<f64>(self, args, place),
            Dtype::F32 => replay::<f32>(self, args, place),
        }
    }

    fn resume(&self, args: &Args, saved: &[u8]) -> Result<String> {
        match args.dtype {
            Dtype::F64 => resume::<f64>(self, args, saved),
            Dtype::F32 => resume::<f32>(self, args, saved),
        }
    }

    fn worst_error(&self, computed: &Computed) -> Result<f64> {
        worst_error(self, computed)
    }

    fn rtol(args: &Args) -> f64 {
        if args.dtype == Dtype::F64 {
            1e-12
        } else {
            2e-5
        }
    }
}

fn array<A: Element>(start: &Start, values: &[f64]) -> Result<ArrayD<A>> {
    let values: Vec<A> = values.iter().map(|&x| A::from_f64(x)).collect();
    let n = values.len();
    let wrong = |_| {
        format!(
            "`{}` has shape {:?} but {n} values",
            start.name, start.shape
        )
    };
    Ok(ArrayD::from_shape_vec(IxDyn(&start.shape), values).map_err(wrong)?)
}

fn build<A: Element>(case: &Case, args: &Args) -> Result<Optimizer<A>> {
    let mut optimizer = Optimizer::new(case.optimizer.clone());
    optimizer.parallel = args.threads.map_or(Parallel::SERIAL, |_| Parallel {
        min_work: 0,
        chunk: 4,
    });
    optimizer.clip = case.clip_by_global_norm.clone();
    case.groups
        .iter()
        .try_for_each(|group| optimizer.add_group(group.clone()))?;
    Ok(optimizer)
}

fn replay<A: Element>(case: &Case, args: &Args, place: (&Path, usize)) -> Result<Computed> {
    let mut optimizer = build::<A>(case, args)?;
    let mut params = case
        .params
        .iter()
        .map(|start| array::<A>(start, &start.values))
        .collect::<Result<Vec<_>>>()?;
    let last = case
        .expect
        .iter()
        .map(|point| point.step)
        .max()
        .unwrap_or(0);
    let stop = stop(args, last);
    let mut expect = advance(case, &mut optimizer, &mut params, 1..=stop.unwrap_or(last))?;
    if stop.is_some() {
        let named = |(start, param): (&Start, ArrayD<A>)| Named {
            name: start.name.clone(),
            data: Data::from(param),
        };
        let saved = Saved {
            state: optimizer.state_dict(),
            params: case.params.iter().zip(params).map(named).collect(),
        };
        let later: Later = in_new_process(args, place, &saved.write(args.format)?)?;
        let numbers = |params: Vec<Vec<u64>>| {
            params
                .into_iter()
                .map(|p| p.into_iter().map(f64::from_bits).collect())
                .collect()
        };
        expect.extend(later.into_iter().map(|(step, params)| Point {
            step,
            params: numbers(params),
        }));
    }
    Ok(Computed {
        id: case.id.clone(),
        expect,
    })
}

/// Makes these steps and returns the expected points among them.
fn advance<A: Element>(
    case: &Case,
    optimizer: &mut Optimizer<A>,
    params: &mut [ArrayD<A>],
    steps: RangeInclusive<usize>,
) -> Result<Vec<Point>> {
    if case.grads.is_empty() && !steps.is_empty() {
        return Err("`grads` is empty".into());
    }
    let mut computed = Vec::new();
    for step in steps {
        let values = &case.grads[(step - 1) % case.grads.len()];
        if values.len() != params.len() {
            return Err(format!(
                "step {step} has {} gradients for {} parameters",
                values.len(),
                params.len()
            )
            .into());
        }
        let grads = case
            .params
            .iter()
            .zip(values)
            .map(|(start, g)| array::<A>(start, g))
            .collect::<Result<Vec<_>>>()?;
        let mut step_params = Params::with_capacity(params.len());
        for ((start, param), grad) in case.params.iter().zip(&mut *params).zip(&grads) {
            step_params.add(&*start.name, param, grad)?;
        }
        if !case.losses.is_empty() {
            step_params.loss(case.losses[(step - 1) % case.losses.len()]);
        }
        if !case.lrs.is_empty() {
            optimizer.set_lr(case.lrs[(step - 1) % case.lrs.len()]);
        }
        optimizer.step(step_params)?;
        for _ in case.expect.iter().filter(|point| point.step == step) {
            let points = case
                .params
                .iter()
                .zip(&*params)
                .map(|(start, param)| optimizer.evaluate_param(&start.name, param).unwrap());
            let params = points
                .map(|point| point.iter().map(|x| x.f64()).collect())
                .collect();
            computed.push(Point { step, params });
        }
    }
    Ok(computed)
}

/// What one process saves for the next.
#[derive(Serialize, Deserialize)]
struct Saved {
    state: StateDict,
    params: Vec<Named>,
}

impl Saved {
    fn write(&self, format: Format) -> Result<Vec<u8>> {
        match format {
            Format::Json => Ok(serde_json::to_vec(self)?),
            Format::Binary => {
                let state = self.state.to_bytes()?;
                let mut bytes = (state.len() as u64).to_le_bytes().to_vec();
                bytes.extend(state);
                bytes.extend(postcard::to_stdvec(&self.params)?);
                Ok(bytes)
            }
            // All parameters have the same element type.
            Format::Safetensors => Ok(
                match self.params.first().map(|param| param.data.element()) {
                    Some(ElementType::F32) => self.safetensors::<f32>()?,
                    _ => self.safetensors::<f64>()?,
                },
            ),
        }
    }

    fn safetensors<A: Element>(&self) -> Result<Vec<u8>> {
        let params = self
            .params
            .iter()
            .filter_map(|param| Some((&*param.name, param.data.view::<A>()?)));
        Ok(self.state.to_safetensors_with(params)?)
    }

    fn read(bytes: &[u8], format: Format) -> Result<Self> {
        match format {
            Format::Json => Ok(serde_json::from_slice(bytes)?),
            Format::Binary => {
                let (length, rest) = bytes
                    .split_first_chunk()
                    .ok_or("the state file is truncated")?;
                let length = usize::try_from(u64::from_le_bytes(*length))?;
                let (state, params) = rest
                    .split_at_checked(length)
                    .ok_or("the state file is truncated")?;
                Ok(Saved {
                    state: StateDict::from_bytes(state)?,
                    params: postcard::from_bytes(params)?,
                })
            }
            Format::Safetensors => {
                let (state, params) = StateDict::from_safetensors(bytes)?;
                Ok(Saved {
                    state,
                    params: params
                        .into_iter()
                        .map(|(name, data)| Named { name, data })
                        .collect(),
                })
            }
        }
    }
}

/// The output of the new process: points as the bits of their numbers.
type Later = Vec<(usize, Vec<Vec<u64>>)>;

/// Makes the steps after the interruption.
fn resume<A: Element>(case: &Case, args: &Args, saved: &[u8]) -> Result<String> {
    let saved = Saved::read(saved, args.format)?;
    let mut optimizer = build::<A>(case, args)?;
    optimizer.load_state_dict(saved.state)?;
    let find = |start: &Start| {
        let named = saved.params.iter().find(|named| named.name == start.name);
        Ok(named
            .and_then(|named| named.data.view::<A>())
            .ok_or("the state file lacks a parameter")?
            .to_owned())
    };
    let mut params = case.params.iter().map(find).collect::<Result<Vec<_>>>()?;
    let last = case
        .expect
        .iter()
        .map(|point| point.step)
        .max()
        .unwrap_or(0);
    let first = usize::try_from(args.interrupt.unwrap_or(1))? + 1;
    let points = advance(case, &mut optimizer, &mut params, first..=last)?;
    let bits = |params: Vec<Vec<f64>>| {
        params
            .into_iter()
            .map(|p| p.into_iter().map(f64::to_bits).collect())
            .collect()
    };
    let later: Later = points
        .into_iter()
        .map(|point| (point.step, bits(point.params)))
        .collect();
    Ok(serde_json::to_string(&later)?)
}

/// The largest |x - y| / max(1, |y|).
fn worst_error(case: &Case, computed: &Computed) -> Result<f64> {
    let mut worst: f64 = 0.0;
    for point in &case.expect {
        let found = computed
            .expect
            .iter()
            .find(|found| found.step == point.step)
            .ok_or("steps count from 1")?;
        let lengths = |point: &Point| point.params.iter().map(Vec::len).collect::<Vec<_>>();
        if lengths(point) != lengths(found) {
            return Err(format!(
                "step {} expects values of other lengths than the parameters",
                point.step
            )
            .into());
        }
        let values = found
            .params
            .iter()
            .flatten()
            .zip(point.params.iter().flatten());
        worst = values.map(error).fold(worst, f64::max);
    }
    Ok(worst)
}
