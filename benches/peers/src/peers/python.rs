//! torch and optax: `python/worker.py` in a process of its own, which does steps on request.
use super::*;
use crate::case::Threads;
use clap::ValueEnum;
use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

/// Peers of one library share its processes.
pub fn all() -> Vec<Box<dyn Peer>> {
    let torch = Arc::new(Library::new("torch"));
    let optax = Arc::new(Library::new("optax"));
    let peer = |name, library: &Arc<Library>, variant, about| {
        let library = library.clone();
        Box::new(Python {
            name,
            library,
            variant,
            about,
        }) as Box<dyn Peer>
    };
    vec![
        peer(
            "torch operator",
            &torch,
            "operator",
            "`torch._fused_adamw_` and its like alone",
        ),
        peer(
            "torch fused",
            &torch,
            "fused",
            "`torch.optim` with `fused=True`",
        ),
        peer(
            "torch foreach",
            &torch,
            "foreach",
            "`torch.optim` with `foreach=True`",
        ),
        peer(
            "torch default",
            &torch,
            "default",
            "`torch.optim` as it comes",
        ),
        peer(
            "optax",
            &optax,
            "jit",
            "under `jax.jit`, parameters and state donated",
        ),
    ]
}

struct Python {
    name: &'static str,
    library: Arc<Library>,
    variant: &'static str,
    about: &'static str,
}

impl Peer for Python {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, case: &Case) -> Result<Box<dyn Run>, Skip> {
        let worker = self.library.worker(case.threads)?;
        let (algorithm, dtype) = (word(&case.algorithm), word(&case.dtype));
        let layout = word(&case.layout);
        let shape = |shape: &Vec<usize>| {
            shape
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join("x")
        };
        let shapes: Vec<String> = case.shapes.list().iter().map(shape).collect();
        let (id, shapes) = (self.variant, shapes.join(","));
        worker.ask(&format!(
            "prepare {id} {id} {algorithm} {dtype} {layout} {shapes}"
        ))?;
        Ok(Box::new(Prepared { id, worker }))
    }

    fn about(&self) -> Option<String> {
        let started = |threads| {
            self.library
                .worker(threads)
                .map(|worker| worker.version.clone())
        };
        let version = started(Threads::One)
            .or_else(|_| started(Threads::All))
            .ok()?;
        Some(format!("{version}: {}", self.about))
    }
}

/// The value as it is written on the command line.
fn word(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// A process, or why there is none.
type Started = Result<Arc<Worker>, Skip>;

/// A library of Python.
struct Library {
    name: &'static str,
    /// The processes for one thread and for all, as soon as they are needed.
    workers: Mutex<[Option<Started>; 2]>,
}

impl Library {
    fn new(name: &'static str) -> Self {
        Library {
            name,
            workers: Mutex::new([None, None]),
        }
    }

    fn worker(&self, threads: Threads) -> Started {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let cores = if threads == Threads::One {
            "one"
        } else {
            "all"
        };
        workers[threads as usize]
            .get_or_insert_with(|| Worker::start(self.name, cores).map(Arc::new))
            .clone()
    }
}

struct Worker {
    version: String,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Worker {
    fn start(library: &str, cores: &str) -> Result<Self, Skip> {
        let python = env::var("PEERS_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut process = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/worker.py"))
            .args([library, cores])
            .envs(crate::machine::forced_instruction_set())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start `{python}`: {error}"))?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(format!("`{python}` has no pipes"));
        };
        let mut pipes = Pipes {
            process,
            to,
            from: BufReader::new(from),
        };
        let version = pipes.answer()?;
        Ok(Worker {
            version,
            pipes: Mutex::new(pipes),
        })
    }

    fn ask(&self, command: &str) -> Result<String, Skip> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        // If the process is gone, there is no answer either.
        _ = writeln!(pipes.to, "{command}");
        pipes.answer()
    }
}

impl Pipes {
    fn answer(&mut self) -> Result<String, Skip> {
        let mut line = String::new();
        self.from.read_line(&mut line).map_err(skip)?;
        let line = line.trim_end();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", rest) => Ok(rest.into()),
            ("no", reason) => Err(reason.into()),
            _ => Err("its process ended".into()),
        }
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

struct Prepared {
    id: &'static str,
    worker: Arc<Worker>,
}

impl Run for Prepared {
    fn steps(&mut self, count: usize) -> Result<f64, Skip> {
        let answer = self.worker.ask(&format!("steps {} {count}", self.id))?;
        answer.parse().map_err(skip)
    }

    fn probe(&mut self) -> Result<Vec<f64>, Skip> {
        let answer = self.worker.ask(&format!("probe {}", self.id))?;
        answer
            .split_whitespace()
            .map(|x| x.parse().map_err(skip))
            .collect()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        _ = self.worker.ask(&format!("drop {}", self.id));
    }
}
