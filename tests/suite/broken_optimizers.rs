//! The mutation gate for all optimizers: each is broken in the ways that all have in common, and
//! every mutant must fail a golden trajectory of that optimizer. Mutants of a step do nothing,
//! forget what a step remembers, or miscount it: the optimizer makes its step, and then its
//! parameters or its state are changed from outside. Mutants of the hyper-parameters have one key
//! changed, so that every key a trajectory sets is shown to have its effect.

use crate::common::{Case, F64, NO_GOLDENS, cases, start, step, worst_error, worst_error_between};
use ndarray::{Array1, ArrayD, Zip};
use ndarray_optim::{
    AnyAlgorithm, Group, Optimizer, Params, Select, StateDict, algorithm::Scalars,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutation {
    NoOp,
    Ascent,
    StaleState,
    OffByOneStep,
    ForgottenScalars,
}
use Mutation::*;

fn edit(optimizer: &mut Optimizer<f64>, change: impl FnOnce(&mut StateDict)) {
    let mut state = optimizer.state_dict();
    change(&mut state);
    optimizer.load_state_dict(state).unwrap();
}

fn set_scalars(state: &mut StateDict, scalars: Scalars) {
    for param in &mut state.params {
        param.scalars = scalars;
    }
    for group in &mut state.groups {
        group.scalars = group.scalars.map(|_| scalars);
    }
}

/// Whether an optimizer with this mistake meets the trajectory.
fn passes(case: &Case, how: Mutation) -> bool {
    let mut optimizer = case.optimizer();
    let initial = initial_scalars(&case.optimizer);
    // As they were before the step.
    let mut params = start::<f64>(case);
    let mut state = optimizer.state_dict();
    let between = |t: usize, optimizer: &mut Optimizer<f64>, now: &mut [ArrayD<f64>]| {
        match how {
            NoOp => now.clone_from_slice(&params),
            Ascent => {
                for (p, old) in now.iter_mut().zip(&params) {
                    Zip::from(p)
                        .and(old)
                        .for_each(|p, &old| *p = old + (old - *p));
                }
            }
            // The first step begins the state.
            StaleState if t > 1 => edit(optimizer, |new| {
                for (param, before) in new.params.iter_mut().zip(&state.params) {
                    assert_eq!(param.name, before.name);
                    param.arrays.clone_from(&before.arrays);
                    param.factors.clone_from(&before.factors);
                }
            }),
            // As before the first step, but that this has been counted.
            OffByOneStep if t == 0 => {
                step(case, optimizer, now, 1);
                now.clone_from_slice(&params);
                edit(optimizer, |state| {
                    set_scalars(state, initial);
                    for param in &mut state.params {
                        param.begun = false;
                        for factor in &mut param.factors {
                            factor.data = ArrayD::<f64>::zeros(factor.data.shape()).into();
                        }
                    }
                });
            }
            ForgottenScalars => edit(optimizer, |state| set_scalars(state, initial)),
            _ => {}
        }
        params.clone_from_slice(now);
        state = optimizer.state_dict();
    };
    worst_error_between(case, &mut optimizer, between) <= F64
}

/// The state after the first step.
fn first_state(case: &Case) -> StateDict {
    let mut optimizer = case.optimizer::<f64>();
    step(case, &mut optimizer, &mut start(case), 1);
    optimizer.state_dict()
}

/// The scalars before the first step: what a parameter is given that joins a group of the
/// algorithm.
fn initial_scalars(config: &AnyAlgorithm) -> Scalars {
    let mut all = AnyAlgorithm::all().into_iter();
    let other = all.find(|other| other.name() != config.name()).unwrap();
    let mut optimizer = Optimizer::<f64>::new(other);
    optimizer
        .add_group(Group::new("group", Select::names(["none"]), config.clone()))
        .unwrap();
    let mut p = Array1::zeros(1);
    let mut params = Params::new();
    params.add_optional("p", &mut p, None).unwrap().loss(1.0);
    optimizer.step(params).unwrap();
    optimizer.move_to_group("p", Some("group")).unwrap();
    optimizer.state_dict().params[0].scalars
}

/// Which mutations of a step there are: there has to be something to forget.
fn mutations(config: &AnyAlgorithm, cases: &[&Case]) -> Vec<Mutation> {
    let states: Vec<_> = cases.iter().map(|case| first_state(case)).collect();
    let params = || states.iter().flat_map(|state| &state.params);
    let groups = || states.iter().flat_map(|state| &state.groups);
    let initial = initial_scalars(config);
    let arrays = params().any(|param| param.arrays.len() + param.factors.len() > 0);
    let scalars = params().any(|param| param.scalars != initial)
        || groups().any(|group| group.scalars.is_some_and(|scalars| scalars != initial));
    let mut all = vec![NoOp, Ascent, OffByOneStep];
    all.extend(arrays.then_some(StaleState));
    all.extend(scalars.then_some(ForgottenScalars));
    all
}

/// What goldens cannot tell from the original. The trajectories of these algorithms do not depend
/// on the number of the step, but for the first; these scalars are computed anew in each step, and
/// that of sgd has a use when momentum begins late, in `edges/schedules.rs`; the state of asgd is
/// its average, from `t0` on, which `identities.rs` checks; and there is one group.
const ALIKE: [(&[&str], &str); 5] = [
    (
        &[
            "rmsprop",
            "adadelta",
            "rprop",
            "lion",
            "sign_sgd",
            "optimistic_gradient_descent",
            "cocob",
            "aggmo",
            "qhm",
            "tiger",
            "signum",
            "ftrl",
            "lars",
            "fromage",
            "polyak_sgd",
            "sm3",
        ],
        "OffByOneStep",
    ),
    (
        &[
            "lamb",
            "lars",
            "fromage",
            "polyak_sgd",
            "adafactor",
            "muon",
            "mars",
            "sgd",
        ],
        "ForgottenScalars",
    ),
    (&["prodigy", "dadapt_adamw"], "per_group"),
    (&["asgd"], "StaleState"),
    (&["asgd"], "t0"),
];

/// The same numbers with one of them changed by 1 %, or one switch turned.
fn changed(config: &AnyAlgorithm) -> Vec<(String, AnyAlgorithm)> {
    let whole = serde_json::to_value(config).unwrap();
    let mut mutants = Vec::new();
    let mut add = |key: String, value: Value| {
        if let Ok(config) = serde_json::from_value::<AnyAlgorithm>(value)
            && config.validate().is_ok()
        {
            mutants.push((key, config));
        }
    };
    // Away from 0 and never above 1 for what must stay below.
    let other = |x: f64| if x == 0.0 { 0.01 } else { x * 0.99 };
    for (key, value) in whole.as_object().unwrap() {
        let mut with = |at: String, new: Value| {
            let mut mutant = whole.clone();
            mutant[key] = new;
            add(at, mutant);
        };
        match value {
            Value::Number(x) => with(key.clone(), other(x.as_f64().unwrap()).into()),
            Value::Bool(on) => with(key.clone(), (!on).into()),
            Value::Array(list) => {
                for i in 0..list.len() {
                    let Some(x) = list[i].as_f64() else { continue };
                    let mut new = list.clone();
                    new[i] = other(x).into();
                    with(format!("{key}[{i}]"), new.into());
                }
            }
            _ => {}
        }
    }
    mutants
}

#[test]
fn the_goldens_reject_every_mutant_of_every_optimizer() {
    let all = cases();
    let (mut made, mut killed) = (0, 0);
    let mut survivors = BTreeSet::new();
    println!("{:28} mutants killed of made; steps, then keys", "");
    for config in AnyAlgorithm::all()
        .iter()
        .filter(|config| !NO_GOLDENS.contains(&config.name()))
    {
        let cases: Vec<_> = all
            .iter()
            .filter(|case| case.optimizer.name() == config.name())
            .collect();
        let mut of_steps = 0;
        let mutations = mutations(config, &cases);
        for &how in &mutations {
            let failed = cases.iter().filter(|case| !passes(case, how)).count();
            of_steps += usize::from(failed > 0);
            let enough = if how == NoOp {
                failed == cases.len()
            } else {
                failed > 0
            };
            if !enough {
                survivors.insert(format!("{} {how:?}", config.name()));
            }
        }
        // A key is killed if changing it fails any case.
        let mut keys: BTreeMap<String, bool> = BTreeMap::new();
        for case in &cases {
            for (key, mutant) in changed(&case.optimizer) {
                let dead = worst_error(case, &mut Optimizer::<f64>::new(mutant)) > F64;
                *keys.entry(key).or_default() |= dead;
            }
        }
        let of_keys = keys.values().filter(|&&dead| dead).count();
        let alive = keys.iter().filter(|(_, dead)| !**dead);
        survivors.extend(alive.map(|(key, _)| format!("{} {key}", config.name())));
        println!(
            "{:28} {of_steps}/{} {of_keys}/{}",
            config.name(),
            mutations.len(),
            keys.len()
        );
        assert!(
            mutations.len() + keys.len() >= 4,
            "{} has too few mutants",
            config.name()
        );
        made += mutations.len() + keys.len();
        killed += of_steps + of_keys;
    }
    println!("mutants made {made}, killed {killed}");
    let alike = ALIKE
        .iter()
        .flat_map(|(names, what)| names.iter().map(move |name| (name, what)));
    let alike: BTreeSet<_> = alike.map(|(name, what)| format!("{name} {what}")).collect();
    assert_eq!(survivors, alike);
}
