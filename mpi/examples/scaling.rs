//! Time and memory of a step by the number of ranks, and a model of what more ranks would take.
//!
//! ```sh
//! cargo run --release --example scaling -- --out ../docs
//! ```
//!
//! starts itself under `mpirun` with 1 to 4 ranks, which share the cores of this machine, and writes
//! the tables of `docs/ranks.md` to the standard output and `figures/ranks.png`.
use mpi::{
    collective::{CommunicatorCollectives, SystemOperation},
    topology::SimpleCommunicator,
};
use ndarray::Array1;
use ndarray_optim::{AdamW, Optimizer};
use ndarray_optim_mpi::{Batch, Config, Distributed, Mode, Ranks};
use plot::{Axis, Line, Lines};
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    hint::black_box,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

type Failure = Box<dyn Error + Send + Sync>;

/// Elements of the model; `f32`.
const SIZES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const RANKS: [usize; 4] = [1, 2, 3, 4];
/// The names of the figures of a run.
const WHAT: [&str; 6] = [
    "barrier",
    "reduce",
    "mpi",
    "replicated",
    "sharded",
    "update",
];

fn main() -> Result<(), Failure> {
    if env::var("OMPI_COMM_WORLD_SIZE").is_ok() {
        return measure();
    }
    let mut arguments = env::args().skip(1);
    let mut out = PathBuf::from("target");
    let mut quick = false;
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--out" => out = arguments.next().ok_or("a directory after --out")?.into(),
            "--quick" => quick = true,
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    let cores = thread::available_parallelism()?.get();
    let mut results = Results::new();
    for ranks in RANKS {
        let mut run = start(ranks, cores, quick, "")?;
        for mode in ["replicated", "sharded"] {
            run.extend(start(ranks, cores, quick, mode)?);
        }
        results.insert(ranks, run);
    }
    let models = tables(&results, cores);
    predict(&results, &models, cores);
    draw(&results, &out.join("figures"))
}

/// Seconds and bytes, by name and number of elements.
type Run = BTreeMap<(String, usize), f64>;
type Results = BTreeMap<usize, Run>;

/// Runs the measurement on some ranks; only that of memory if a mode is given.
fn start(ranks: usize, cores: usize, quick: bool, mode: &str) -> Result<Run, Failure> {
    let mut command = Command::new("mpirun");
    command.args([
        "--oversubscribe",
        "--bind-to",
        "none",
        "-n",
        &ranks.to_string(),
    ]);
    command.arg(env::current_exe()?);
    command.envs([
        ("OMPI_ALLOW_RUN_AS_ROOT", "1".into()),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1".into()),
        // Ranks share the cores.
        ("RAYON_NUM_THREADS", (cores / ranks).max(1).to_string()),
        ("QUICK", u8::from(quick).to_string()),
        ("MODE", mode.to_owned()),
    ]);
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    let rows = text.lines().filter_map(|line| {
        let [what, size, value] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        Some(((what.to_owned(), size.parse().ok()?), value.parse().ok()?))
    });
    let rows: Run = rows.collect();
    if rows.is_empty() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(rows)
}

/// One rank of a run. Rank 0 prints medians over rounds in which everything is measured in turn.
fn measure() -> Result<(), Failure> {
    let ranks = Ranks::start(Duration::from_secs(120))?;
    let quick = env::var("QUICK").is_ok_and(|quick| quick == "1");
    let says = |what: &str, size: usize, value: f64| {
        if ranks.rank() == 0 {
            println!("{what} {size} {value}");
        }
    };
    let only_memory = match &*env::var("MODE")? {
        "replicated" => Some(("peak-replicated", Mode::Replicated)),
        "sharded" => Some(("peak-sharded", Mode::Sharded)),
        _ => None,
    };
    if let Some((what, mode)) = only_memory {
        says(what, 0, memory(&ranks, mode)?);
        return Ok(());
    }
    for size in SIZES {
        if quick && size > 100_000 {
            break;
        }
        let rounds = if quick { 3 } else { 15 };
        // About 20 ms of steps in a round.
        let steps = (2_000_000 / size).clamp(1, 200);
        let mut model = Array1::<f32>::zeros(size);
        let grads = Array1::from_elem(size, 1e-3_f32);
        let adamw = || Optimizer::new(AdamW::new(1e-3));
        let [mut replicated, mut sharded] = [Mode::Replicated, Mode::Sharded]
            .map(|mode| Distributed::new(&ranks, Config::new(mode), adamw(), &model));
        let (replicated, sharded) = (replicated.as_mut(), sharded.as_mut());
        let (replicated, sharded) = (replicated.map_err(text)?, sharded.map_err(text)?);
        let mut one = adamw();
        let mut copy = grads.clone();
        let world = SimpleCommunicator::world();
        let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for round in 0..=rounds {
            for what in WHAT {
                ranks.barrier()?;
                let start = Instant::now();
                for _ in 0..steps {
                    match what {
                        "barrier" => ranks.barrier()?,
                        // The sum of MPI itself, whose order it does not promise.
                        "mpi" => world.all_reduce_into(
                            grads.as_slice().unwrap_or_default(),
                            copy.as_slice_mut().unwrap_or_default(),
                            SystemOperation::sum(),
                        ),
                        "reduce" => replicated.all_reduce(&mut copy, 1.0)?,
                        "replicated" => replicated
                            .step(&mut model, &grads, Batch::default())
                            .map(|_| ())?,
                        "sharded" => sharded
                            .step(&mut model, &grads, Batch::default())
                            .map(|_| ())?,
                        // The step without other ranks, all ranks at once.
                        _ => one.update(black_box(&mut model), &grads).map(|_| ())?,
                    }
                }
                ranks.barrier()?;
                // The first round allocates.
                if round > 0 {
                    let time = start.elapsed().as_secs_f64() / steps as f64;
                    times.entry(what).or_default().push(time);
                }
            }
        }
        for (what, mut times) in times {
            times.sort_by(f64::total_cmp);
            says(what, size, times[times.len() / 2]);
        }
        for (mode, optimizer) in [("replicated", &*replicated), ("sharded", &*sharded)] {
            let state = optimizer.optimizer().state_view();
            let arrays = state.params.iter().flat_map(|param| &param.arrays);
            let bytes: usize = arrays.map(|array| array.data.bytes()).sum();
            says(&format!("moments-{mode}"), size, bytes as f64);
        }
    }
    for (what, time) in overlap(&ranks, if quick { 3 } else { 15 })? {
        says(what, 0, time);
    }
    Ok(())
}

/// The peak of the memory of a rank that makes steps of the largest model, less what the process
/// has before.
fn memory(ranks: &Ranks, mode: Mode) -> Result<f64, Failure> {
    let before = status("VmRSS")?;
    let mut model = Array1::<f32>::from_elem(SIZES[4], 1.0);
    let grads = model.clone();
    let adamw = Optimizer::new(AdamW::new(1e-3));
    let mut optimizer = Distributed::new(ranks, Config::new(mode), adamw, &model)?;
    for _ in 0..3 {
        optimizer.step(&mut model, &grads, Batch::default())?;
    }
    Ok(status("VmHWM")? - before)
}

/// A backward pass of 8 layers of 250000 elements, 4 ms each, and the step: alone, one after the
/// other, and with each gradient sent while the next one is computed. The work is done elsewhere,
/// such as on an accelerator: it takes time and no core.
fn overlap(ranks: &Ranks, rounds: usize) -> Result<[(&'static str, f64); 4], Failure> {
    const LAYERS: usize = 8;
    let mut model = vec![Array1::<f32>::zeros(250_000); LAYERS];
    let grads = model.clone();
    let adamw = Optimizer::new(AdamW::new(1e-3));
    let mut optimizer = Distributed::new(ranks, Config::new(Mode::Sharded), adamw, &model)?;
    let work = || thread::sleep(Duration::from_millis(4));
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        for (case, times) in times.iter_mut().enumerate() {
            ranks.barrier()?;
            let start = Instant::now();
            match case {
                0 => (0..LAYERS).for_each(|_| work()),
                1 => optimizer
                    .step(&mut model, &grads, Batch::default())
                    .map(|_| ())?,
                2 => {
                    (0..LAYERS).for_each(|_| work());
                    optimizer.step(&mut model, &grads, Batch::default())?;
                }
                _ => {
                    let mut round = optimizer.begin()?;
                    for (layer, grad) in grads.iter().enumerate().rev() {
                        work();
                        round.add(&layer.to_string(), grad);
                    }
                    round.finish(&mut model, Batch::default())?;
                }
            }
            ranks.barrier()?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let medians = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let names = ["work", "step-alone", "work-then-step", "overlapped"];
    Ok(std::array::from_fn(|i| (names[i], medians[i])))
}

fn text(error: &mut ndarray_optim_mpi::Error) -> String {
    error.to_string()
}

/// Bytes of memory of this process.
fn status(field: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .ok_or("no such field")?;
    let number = line.split_whitespace().nth(1).ok_or("no number")?;
    Ok(number.parse::<f64>()? * 1024.0)
}

/// The costs of an exchange among some ranks: `alpha` for each operation of all ranks, and `beta`
/// for each byte of gradients.
#[derive(Clone, Copy)]
struct Model {
    alpha: f64,
    /// Seconds a byte of an all-reduce.
    beta: f64,
    /// Seconds an element of the update on one core.
    update: f64,
}

fn tables(results: &Results, cores: usize) -> BTreeMap<usize, Model> {
    println!("## Measured\n");
    println!("Microseconds; `RAYON_NUM_THREADS` is {cores} divided by the number of ranks.\n");
    println!(
        "| ranks | elements | barrier | all-reduce | MPI_Allreduce | replicated step | sharded step | update alone | moments a rank, replicated | sharded |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut models = BTreeMap::new();
    for (ranks, run) in results {
        for size in SIZES {
            let get = |what: &str| run.get(&(what.to_owned(), size)).copied();
            let Some(barrier) = get("barrier") else {
                continue;
            };
            let micro =
                |what: &str| get(what).map_or(String::new(), |time| format!("{:.1}", 1e6 * time));
            let kilo = |what: &str| {
                get(what).map_or(String::new(), |bytes| format!("{:.1} kB", bytes / 1e3))
            };
            println!(
                "| {ranks} | {size} | {:.1} | {} | {} | {} | {} | {} | {} | {} |",
                1e6 * barrier,
                micro("reduce"),
                micro("mpi"),
                micro("replicated"),
                micro("sharded"),
                micro("update"),
                kilo("moments-replicated"),
                kilo("moments-sharded"),
            );
        }
        models.insert(*ranks, fit(run, cores, *ranks));
    }
    println!("\n## Memory\n");
    let size = SIZES[4];
    println!("Peak of a rank with {size} parameters, MB:\n");
    println!("| ranks | replicated | sharded |\n|--:|--:|--:|");
    for (ranks, run) in results {
        let get = |what: &str| 1e-6 * run.get(&(what.to_owned(), 0)).copied().unwrap_or(f64::NAN);
        let [replicated, sharded] = ["peak-replicated", "peak-sharded"].map(get);
        println!("| {ranks} | {replicated:.0} | {sharded:.0} |");
    }
    println!("\n## Overlap\n");
    println!("| ranks | backward pass, ms | step | one after the other | overlapped |");
    println!("|--:|--:|--:|--:|--:|");
    for (ranks, run) in results {
        let get = |what: &str| 1e3 * run.get(&(what.to_owned(), 0)).copied().unwrap_or(f64::NAN);
        let [work, step, then, overlapped] =
            ["work", "step-alone", "work-then-step", "overlapped"].map(get);
        println!("| {ranks} | {work:.1} | {step:.1} | {then:.1} | {overlapped:.1} |");
    }
    println!("\n## Fitted\n");
    println!("| ranks | alpha, us | bandwidth of the all-reduce, GB/s | update, ns an element |");
    println!("|--:|--:|--:|--:|");
    for (ranks, model) in &models {
        let Model {
            alpha,
            beta,
            update,
        } = model;
        println!(
            "| {ranks} | {:.1} | {:.2} | {:.2} |",
            1e6 * alpha,
            1e-9 / beta,
            1e9 * update
        );
    }
    models
}

/// The costs that fit the times best.
fn fit(run: &Run, cores: usize, ranks: usize) -> Model {
    let times = |what: &str| {
        let of = SIZES
            .iter()
            .filter_map(|&size| Some((size, *run.get(&(what.to_owned(), size))?)));
        of.collect::<Vec<_>>()
    };
    // The smallest all-reduce is nearly all latency, the largest nearly all bandwidth.
    let reduce = times("reduce");
    let (Some(&(small, least)), Some(&(large, most))) = (reduce.first(), reduce.last()) else {
        return Model {
            alpha: 0.0,
            beta: 0.0,
            update: 0.0,
        };
    };
    let beta = (most - least) / (4.0 * (large - small) as f64);
    let alpha = least - 4.0 * beta * small as f64;
    let (size, time) = times("update").last().copied().unwrap_or((1, 0.0));
    // In units of one core, of which each rank has this many.
    let update = time / size as f64 * (cores as f64 / ranks as f64).min(cores as f64);
    Model {
        alpha,
        beta,
        update,
    }
}

impl Model {
    /// Seconds of a step with `n` parameters of 4 bytes, from costs that were measured with 2 ranks
    /// on a core each; `cores` is the number of cores of a rank.
    ///
    /// An exchange sends (ranks - 1) / ranks of all bytes twice. The cores copy them, so that ranks
    /// without a core of their own take longer.
    fn step(&self, ranks: usize, n: f64, cores: f64, mode: Mode) -> f64 {
        let share = (ranks - 1) as f64 / ranks as f64;
        let bytes = 4.0 * n * self.beta * share / 0.5;
        // Each rank writes to each other one.
        let latency = self.alpha * (ranks - 1) as f64;
        let own = match mode {
            Mode::Replicated => n,
            Mode::Sharded => n / ranks as f64,
        };
        (latency + bytes) / cores.min(1.0) + self.update * own / cores
    }
}

fn predict(results: &Results, models: &BTreeMap<usize, Model>, cores: usize) {
    let Some(&two) = models.get(&2) else { return };
    println!("\n## Predicted from 2 ranks, next to 4 that were measured\n");
    println!("| elements | replicated, us | measured | sharded, us | measured |");
    println!("|--:|--:|--:|--:|--:|");
    for size in SIZES {
        let of = |mode, what: &str| {
            let measured = results.get(&4)?.get(&(what.to_owned(), size))?;
            let predicted = two.step(4, size as f64, cores as f64 / 4.0, mode);
            Some(format!("{:.0} | {:.0}", 1e6 * predicted, 1e6 * measured))
        };
        let both = of(Mode::Replicated, "replicated").zip(of(Mode::Sharded, "sharded"));
        if let Some((replicated, sharded)) = both {
            println!("| {size} | {replicated} | {sharded} |");
        }
    }
    println!("\n## Predicted for machines with {cores} cores, one rank on each\n");
    println!(
        "| parameters | ranks | replicated, s | sharded, s | bytes at 10 Gbit/s alone, s | moments a rank, replicated, GB | sharded, GB |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for n in [1e8, 1e9, 1e10, 1e11] {
        for ranks in [2, 8, 64, 256, 1024] {
            let time = |mode| two.step(ranks, n, cores as f64, mode);
            let bytes = 2.0 * 4.0 * n * (ranks - 1) as f64 / ranks as f64;
            println!(
                "| {n:.0e} | {ranks} | {:.2} | {:.2} | {:.2} | {:.1} | {:.3} |",
                time(Mode::Replicated),
                time(Mode::Sharded),
                bytes / 1.25e9,
                8.0 * n / 1e9,
                8.0 * n / 1e9 / ranks as f64,
            );
        }
    }
}

fn draw(results: &Results, folder: &std::path::Path) -> Result<(), Failure> {
    let points = |what: &str, size: usize, scale: f64| -> Vec<(f64, f64)> {
        let of = results.iter().filter_map(|(&ranks, run)| {
            Some((ranks as f64, scale * run.get(&(what.to_owned(), size))?))
        });
        of.collect()
    };
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for (i, &size) in SIZES.iter().rev().enumerate() {
        for (j, mode) in ["replicated", "sharded"].into_iter().enumerate() {
            let name = format!("{mode}, {size:.0e}", size = size as f64);
            let line = |of| Line::new(name.clone(), i + 7 * j, of);
            times.push(line(points(mode, size, 1e3)));
            memory.push(line(points(&format!("moments-{mode}"), size, 1e-6)));
        }
    }
    let panel = |title: &str, y: &str, lines| Lines {
        title: title.into(),
        x: Axis::linear("ranks").range(1.0, 4.0),
        y: Axis::log(y),
        lines,
        dots: true,
        legend: 190,
    };
    let times = panel("Time of a step", "ms", times);
    let memory = panel("Moments of AdamW on a rank", "MB", memory);
    fs::create_dir_all(folder)?;
    plot::draw(&folder.join("ranks.png"), 2, (620, 420), &[&times, &memory])
}
