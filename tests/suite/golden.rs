//! Trajectories of torch and optax, replayed.

use crate::common::{F32, F64, NO_GOLDENS, cases, group_cases, worst_error};
use ndarray_optim::AnyAlgorithm;
use std::collections::BTreeMap;

#[test]
fn every_trajectory_is_met_in_f64_and_f32() {
    let mut worst: BTreeMap<_, (usize, f64, f64)> = BTreeMap::new();
    let mut failed = Vec::new();
    for case in cases() {
        let e64 = worst_error::<f64>(&case, &mut case.optimizer());
        let e32 = worst_error::<f32>(&case, &mut case.optimizer());
        if e64 > F64 || e32 > F32 {
            failed.push(format!("{}: {e64:e} in f64, {e32:e} in f32", case.id));
        }
        let (n, f64, f32) = worst.entry(case.optimizer.name()).or_default();
        (*n, *f64, *f32) = (*n + 1, f64.max(e64), f32.max(e32));
    }
    for (name, (n, f64, f32)) in &worst {
        println!("{name:28} {n} cases, worst error {f64:.1e} in f64, {f32:.1e} in f32");
    }
    assert!(failed.is_empty(), "{failed:#?}");
    for config in AnyAlgorithm::all() {
        let exempt = NO_GOLDENS.contains(&config.name());
        assert!(
            exempt != worst.contains_key(config.name()),
            "no golden trajectory for {}",
            config.name()
        );
    }
}

#[test]
fn several_algorithms_in_one_optimizer_meet_every_trajectory() {
    let cases = group_cases();
    assert!(cases.len() >= 6);
    for case in cases {
        let e64 = worst_error::<f64>(&case, &mut case.optimizer());
        let e32 = worst_error::<f32>(&case, &mut case.optimizer());
        println!(
            "{:28} worst error {e64:.1e} in f64, {e32:.1e} in f32",
            case.id
        );
        assert!(
            e64 <= F64 && e32 <= F32,
            "{}: {e64:e} in f64, {e32:e} in f32",
            case.id
        );
    }
}
