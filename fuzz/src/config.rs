//! Algorithms and schedules from JSON, and a few steps with them.
use crate::{
    bounded,
    subject::{Real, any_algorithm, bits, changed, number, state_bytes},
};
use arbitrary::{Arbitrary, Unstructured};
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{
    AdamW, AnyAlgorithm, AnySchedule, Group, Optimizer, Params, ReduceOnPlateau,
    ReduceOnPlateauConfig,
    schedule::{PlateauMode, Schedules},
};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::LazyLock;

/// The first byte selects how the others are interpreted.
pub fn config(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    // The JSON is the first line; the rest is for choices.
    let (text, more) = rest
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or((rest, &[][..]), |at| rest.split_at(at));
    let mut u = Unstructured::new(more);
    match kind % 8 {
        0 | 1 => {
            if let Some(algorithm) = read::<AnyAlgorithm>(text) {
                try_out(&algorithm);
            }
        }
        2 => {
            if let Some(schedule) = read::<AnySchedule>(text) {
                values(&schedule, &mut u);
            }
        }
        3 => {
            if let Some(schedules) = read::<Schedules>(text) {
                drive(&schedules, &mut u);
            }
        }
        4 => {
            if let Some(plateau) = read::<ReduceOnPlateau>(text) {
                observe(plateau, &mut u);
            }
        }
        5 => {
            if let Some(plateau) = read(text)
                .and_then(|config: ReduceOnPlateauConfig| ReduceOnPlateau::new(config).ok())
            {
                observe(plateau, &mut u);
            }
        }
        6 => {
            if let Some(group) = read::<Group>(text) {
                let mut optimizer = Optimizer::<f32>::new(group.algorithm.clone());
                let _ = optimizer.add_group(group);
                steps(&mut optimizer, &[2]);
            }
        }
        _ => {
            let mut u = Unstructured::new(rest);
            if let Ok(algorithm) = any_algorithm(&mut u) {
                try_out(&algorithm);
            }
            if let Ok(schedule) = any_schedule(&mut u) {
                values(&schedule, &mut u);
            }
        }
    }
}

/// The value of a JSON text, which must survive a round trip.
fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(text: &[u8]) -> Option<T> {
    let read: T = bounded(text.len(), (100_000, 1000), || {
        serde_json::from_slice(text).ok()
    })?;
    let again = serde_json::to_vec(&read).expect("what was loaded can be saved");
    assert_eq!(
        serde_json::from_slice::<T>(&again).expect("what was saved can be loaded"),
        read
    );
    Some(read)
}

fn try_out(algorithm: &AnyAlgorithm) {
    let valid = algorithm.validate().is_ok();
    for shape in [&[][..], &[7], &[2, 3], &[2, 0], &[3, 1, 2]] {
        let (mut f32, mut f64) = (
            Optimizer::<f32>::new(algorithm.clone()),
            Optimizer::<f64>::new(algorithm.clone()),
        );
        let applied = steps(&mut f32, shape) + steps(&mut f64, shape);
        assert!(
            valid || applied == 0,
            "a step with hyper-parameters out of range"
        );
    }
}

/// Returns how many of four steps succeed; a failed step must change nothing.
fn steps<A: Real>(optimizer: &mut Optimizer<A>, shape: &[usize]) -> usize {
    let mut p = ArrayD::from_elem(IxDyn(shape), A::from_f64(0.3));
    let mut applied = 0;
    for t in 1..5 {
        let mut i = 0.0;
        let g = ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            i += 0.7;
            A::from_f64((i * f64::from(t)).sin())
        });
        let before = (bits(p.view()), state_bytes(optimizer));
        let mut params = Params::new();
        params
            .loss(1.5)
            .add("variable", &mut p, &g)
            .expect("the shapes are equal");
        match optimizer.step(params) {
            Ok(_) => applied += 1,
            Err(_) => assert!(
                before == (bits(p.view()), state_bytes(optimizer)),
                "a failed step has changed something"
            ),
        }
    }
    let _ = optimizer.evaluate_param("variable", &p);
    applied
}

fn step(u: &mut Unstructured<'_>) -> u64 {
    let shift = u.int_in_range(0..=63).unwrap_or_default();
    u64::arbitrary(u).unwrap_or_default() >> shift
}

fn values(schedule: &AnySchedule, u: &mut Unstructured<'_>) {
    let _ = schedule.validate();
    for t in [0, 1, 2, 9, 10, 11, 1000, u64::MAX - 1, u64::MAX]
        .into_iter()
        .chain((0..8).map(|_| step(u)))
    {
        let _ = schedule.value(t);
    }
}

fn drive(schedules: &Schedules, u: &mut Unstructured<'_>) {
    let algorithm = AnyAlgorithm::from(AdamW::default());
    let mut optimizer = Optimizer::<f64>::new(algorithm.clone());
    let group = schedules
        .driven
        .iter()
        .find_map(|driven| driven.group.clone())
        .unwrap_or_default();
    optimizer
        .add_group(Group::new(group, ["b"], algorithm))
        .expect("the first group");
    for _ in 0..4 {
        let before = state_bytes(&optimizer);
        if schedules.apply(&mut optimizer, step(u)).is_err() {
            assert!(
                before == state_bytes(&optimizer),
                "failed schedules have changed something"
            );
        }
        steps(&mut optimizer, &[3]);
    }
}

fn observe(mut plateau: ReduceOnPlateau, u: &mut Unstructured<'_>) {
    for _ in 0..50 {
        let (before, best, metric) = (plateau.lr(), plateau.best(), number(u).unwrap_or(1.5));
        let after = plateau.observe(metric);
        if let (Some(best), Some(now)) = (best, plateau.best()) {
            let max = plateau.config().mode == PlateauMode::Max;
            let worse = if max { now < best } else { now > best };
            assert!(!worse, "{metric} is better than {best}");
        }
        let valid = plateau.config().validate().is_ok() && before >= 0.0;
        assert!(!valid || after <= before, "{before} -> {after}");
    }
}

/// A schedule of the catalogue with some hyper-parameters changed.
pub fn any_schedule(u: &mut Unstructured<'_>) -> arbitrary::Result<AnySchedule> {
    let schedule = u.choose(&SCHEDULES)?;
    changed(u, schedule, &schedule.fields())
}

/// One of each, because schedules have hyper-parameters without a default.
static SCHEDULES: LazyLock<Vec<AnySchedule>> = LazyLock::new(|| {
    let all: Vec<AnySchedule> =
        serde_json::from_str(include_str!("schedules.json")).expect("a list of schedules");
    assert!(
        all.iter()
            .map(AnySchedule::name)
            .eq(AnySchedule::NAMES.iter().copied()),
        "one of each, in the order of the crate"
    );
    all
});
