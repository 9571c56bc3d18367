//! The fuzz targets, as functions of bytes. `docs/fuzzing.md` says what each of them asserts.
//!
//! They need no fuzzer, so a crashing input can be debugged with the stable toolchain:
//! `cargo run --example replay -- state artifacts/state/crash-...`.
mod checkpoint;
mod config;
mod edit;
mod layout;
mod state;
mod step;
mod subject;

pub use checkpoint::checkpoint;
pub use config::config;
pub use edit::edit;
pub use state::state;
pub use step::step;

/// A target: panics if an assertion fails.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 5] = [
    ("state", state),
    ("checkpoint", checkpoint),
    ("config", config),
    ("edit", edit),
    ("step", step),
];

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
