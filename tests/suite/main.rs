//! The tests of the crate in one program: every optimizer is compiled once for all of them.
//!
//! `cargo test --test suite golden -- --nocapture` runs those of one file.
mod common;

mod accumulation;
mod across;
mod around;
mod behaviour;
mod broken_formulas;
mod broken_optimizers;
mod chains;
mod dialects;
mod edges;
mod fit;
mod golden;
mod gradient_check;
mod groups;
mod identities;
mod lbfgs;
mod named_arrays;
mod objectives;
mod properties;
mod ranges;
mod rows_of_state;
mod schedules;
mod shampoo_and_soap;
mod sophia;
mod state;
mod torch;
mod update_rows;
mod wrappers;
