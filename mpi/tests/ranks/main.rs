//! Runs under `mpirun` with 1 to 4 ranks. Without arguments the program starts itself so.
//!
//! `cargo test --test ranks -- equal` runs the cases whose names contain `equal`.
mod equal;
mod faults;
mod model;
mod resume;

use ndarray_optim_mpi::Ranks;
use std::{
    env,
    path::PathBuf,
    process::{Command, exit},
    time::{Duration, Instant},
};

/// A run of some ranks, and what each line of its output says.
struct Run {
    case: String,
    ranks: usize,
    /// A directory that is empty at the first of several runs.
    dir: Option<PathBuf>,
    /// What the lines of each rank must contain; ranks without an expectation may die.
    expected: Vec<Option<String>>,
}

impl Run {
    /// A run that succeeds on all ranks.
    fn good(case: &str, ranks: usize) -> Self {
        Run {
            case: case.into(),
            ranks,
            dir: None,
            expected: vec![Some("good".into()); ranks],
        }
    }
}

fn main() {
    // Set by `mpirun`.
    if env::var("OMPI_COMM_WORLD_SIZE").is_ok() {
        return child();
    }
    let filter = env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let filter = filter.unwrap_or_default();
    let mut runs = Vec::new();
    for ranks in 1..=4 {
        runs.extend(equal::CASES.map(|case| Run::good(case, ranks)));
    }
    runs.extend(resume::runs());
    runs.extend(faults::runs());
    let (mut passed, mut failed) = (0, 0);
    for run in runs.iter().filter(|run| run.case.contains(&filter)) {
        let start = Instant::now();
        let problem = start_run(run);
        let seconds = start.elapsed().as_secs_f64();
        let outcome = if problem.is_none() { "ok" } else { "FAILED" };
        println!(
            "{} on {} ranks ... {outcome} ({seconds:.1} s)",
            run.case, run.ranks
        );
        match problem {
            None => passed += 1,
            Some(output) => {
                failed += 1;
                println!("{output}");
            }
        }
    }
    for dir in runs.iter().filter_map(|run| run.dir.as_ref()) {
        let _ = std::fs::remove_dir_all(dir);
    }
    println!("{passed} passed, {failed} failed");
    exit(i32::from(failed > 0));
}

/// Starts the ranks. Returns the output if it is not what was expected.
fn start_run(run: &Run) -> Option<String> {
    let this = env::current_exe().expect("the path of the test");
    let mut command = Command::new("mpirun");
    // The surviving ranks go on if one dies.
    command.args(["--enable-recovery", "--oversubscribe", "-n"]);
    command.arg(run.ranks.to_string()).arg(this).arg(&run.case);
    command.envs([
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("RAYON_NUM_THREADS", "2"),
    ]);
    if let Some(dir) = &run.dir {
        command.arg(dir);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return Some(format!("mpirun: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let says = |rank: usize, expected: &str| {
        let start = format!("rank {rank}: ");
        text.lines()
            .any(|line| line.starts_with(&start) && line.contains(expected))
    };
    let expected = run.expected.iter().enumerate();
    let good = expected
        .filter_map(|(rank, expected)| Some((rank, expected.as_ref()?)))
        .all(|(rank, expected)| says(rank, expected));
    let errors = String::from_utf8_lossy(&output.stderr);
    (!good).then(|| format!("expected {:?}, got:\n{text}\n{errors}", run.expected))
}

fn child() {
    let arguments: Vec<String> = env::args().collect();
    let case = &*arguments[1];
    let short = case.starts_with("fault") || case.ends_with(", killed");
    let limit = if short { 2 } else { 120 };
    let ranks = Ranks::start(Duration::from_secs(limit)).expect("MPI with threads");
    let dir = arguments.get(2).map(PathBuf::from);
    let says = match case {
        _ if equal::CASES.contains(&case) => equal::run(case, &ranks),
        _ if case.starts_with("resume") => resume::run(case, &ranks, &dir.expect("a directory")),
        _ => faults::run(case, &ranks),
    };
    println!("rank {}: {says}", ranks.rank());
}
