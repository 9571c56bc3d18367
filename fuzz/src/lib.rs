//! The fuzz targets, as functions of bytes. `docs/fuzzing.md` says what each of them asserts.
//!
//! They need no fuzzer, so a crashing input can be debugged with the stable toolchain:
//! `cargo run --example replay -- state artifacts/state/crash-...`.
mod checkpoint;
mod config;
mod directory;
mod drive;
mod edit;
mod extremes;
mod groups;
mod layout;
mod state;
mod step;
mod subject;
mod twins;

use std::{env, sync::LazyLock};

pub use checkpoint::checkpoint;
pub use config::config;
pub use directory::directory;
pub use drive::drive;
pub use edit::edit;
pub use extremes::extremes;
pub use groups::groups;
pub use state::state;
pub use step::step;

/// A target: panics if an assertion fails.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 9] = [
    ("state", state),
    ("checkpoint", checkpoint),
    ("config", config),
    ("edit", edit),
    ("step", step),
    ("drive", drive),
    ("groups", groups),
    ("extremes", extremes),
    ("directory", directory),
];

/// Whether the targets say what they do, in the terms of the crate: if `TRACE` is set.
fn trace(what: impl FnOnce() -> String) {
    static ON: LazyLock<bool> = LazyLock::new(|| env::var_os("TRACE").is_some());
    if *ON {
        eprintln!("{}", what());
    }
}

/// Runs `work` and panics if it allocated more than `base + each * bytes` bytes at any one time.
fn bounded<T>(bytes: usize, (base, each): (u64, u64), work: impl FnOnce() -> T) -> T {
    let mut out = None;
    let info = allocation_counter::measure(|| out = Some(work()));
    let bound = base + each * bytes as u64;
    assert!(
        info.bytes_max <= bound,
        "{} bytes of memory for {bytes}, at most {bound} are right",
        info.bytes_max
    );
    out.expect("`measure` runs it")
}
