//! What the examples share: real data, objectives with a known optimum, plots.
#![allow(dead_code)]
pub mod data;
pub mod objective;
pub mod plot;

use std::{error::Error, process::ExitCode};

/// Prints an error as one line, with what caused it, and fails.
pub fn report(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
