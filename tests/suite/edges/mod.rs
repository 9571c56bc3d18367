//! Faults that users of this and other libraries reported, one test for each: extreme numbers,
//! wrong entry points, unusual orders, files and directories. `docs/edges.md` describes the
//! behavior.
//!
//! The expected values come from reference libraries, papers or arithmetic.
mod chains;
mod directories;
mod extreme_numbers;
mod files;
mod machines;
mod newcomers;
mod runs;
mod schedules;
mod steps;

/// Tests that run as processes of their own, because they change what all of a process shares.
mod child {
    use std::{env, path::Path, path::PathBuf, process::Command};

    /// Tells a test that it is the process of its own, and its directory.
    const CHILD: &str = "NDARRAY_OPTIM_EDGES_CHILD";

    /// The directory given to `start`; `None` if this is not such a process.
    pub fn directory() -> Option<PathBuf> {
        env::var_os(CHILD).map(PathBuf::from)
    }

    /// This program, with the arguments that run one test of `edges`.
    pub fn start(test: &str, dir: &Path) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        let name = format!("edges::{test}");
        command
            .args(["--exact", &name, "--nocapture"])
            .env(CHILD, dir);
        command
    }
}
