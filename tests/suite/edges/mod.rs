//! Faults that users of this and other libraries reported, one test for each: extreme numbers, wrong
//! entry points, unusual orders, files and directories. `docs/edges.md` describes the behavior.
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
