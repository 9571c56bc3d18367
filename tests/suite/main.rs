//! The tests of the crate in one program: every optimizer is compiled once for all of them.
//!
//! `cargo test --test suite golden -- --nocapture` runs those of one file.
mod common;

mod around;
mod behaviour;
mod dialects;
mod golden;
mod identities;
mod matrix;
mod mutants;
mod mutation;
mod properties;
mod schedules;
mod sophia;
mod sparse;
mod state;
mod torch;
mod wrappers;
