//! The mutation gate for all optimizers: each is broken in the ways that all have in common, and every mutant must fail a golden
//! trajectory of that optimizer. Mutants of a step do nothing, forget what a step remembers, or miscount it: the optimizer makes its
//! step, and then its parameters or its state are changed from outside. Mutants of the hyper-parameters have one key changed, so
//! that every key a trajectory sets is shown to have its effect.

use crate::common::{Case, F64, NO_GOLDENS, array, cases, worst_error};
use ndarray::{ArrayD, Zip};
use ndarray_optim::{Algorithm, AnyAlgorithm, Optimizer, Params, StateDict, algorithm::Scalars};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutation {
    NoOp,
    Ascent,
    StaleState,
    OffByOneStep,
    ForgottenScalars,
}
use Mutation::*;

/// The optimizer of a case on its way, with a mistake or without one.
struct Run<'a> {
    case: &'a Case,
    how: Option<Mutation>,
    optimizer: Optimizer<f64>,
    params: Vec<ArrayD<f64>>,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case, how: Option<Mutation>) -> Self {
        let params = || case.params.iter().map(|p| array(&p.shape, &p.values)).collect();
        let mut run = Run { case, how, optimizer: case.optimizer(), params: params() };
        if how == Some(OffByOneStep) {
            // As before the first step, but that this has been counted.
            run.step(1);
            run.params = params();
            let initial = initial_scalars(&case.optimizer).unwrap_or_default();
            run.edit(|state| {
                for param in &mut state.params {
                    (param.begun, param.scalars) = (false, initial);
                    for factor in &mut param.factors {
                        factor.data = ArrayD::<f64>::zeros(factor.data.shape()).into();
                    }
                }
                state.groups.iter_mut().for_each(|group| group.scalars = group.scalars.map(|_| initial));
            });
        }
        run
    }

    fn step(&mut self, t: usize) {
        let Run { case, optimizer, params, .. } = self;
        let values = &case.grads[(t - 1) % case.grads.len()];
        let grads: Vec<_> = case.params.iter().zip(values).map(|(p, g)| array(&p.shape, g)).collect();
        let mut lent = Params::new();
        for ((start, param), grad) in case.params.iter().zip(params).zip(&grads) {
            lent.add(&*start.name, param, grad).unwrap();
        }
        if !case.losses.is_empty() {
            lent.loss(case.losses[(t - 1) % case.losses.len()]);
        }
        if !case.lrs.is_empty() {
            optimizer.set_lr(case.lrs[(t - 1) % case.lrs.len()]);
        }
        optimizer.step(lent).unwrap();
    }

    /// A step, and then what the mistake would have made of it.
    fn broken_step(&mut self, t: usize) {
        let (params, before) = (self.params.clone(), self.optimizer.state_dict());
        self.step(t);
        match self.how {
            Some(NoOp) => self.params = params,
            Some(Ascent) => {
                for (p, old) in self.params.iter_mut().zip(&params) {
                    Zip::from(p).and(old).for_each(|p, &old| *p = old + (old - *p));
                }
            }
            // The first step begins the state.
            Some(StaleState) if t > 1 => self.edit(|state| {
                for (param, before) in state.params.iter_mut().zip(before.params) {
                    assert_eq!(param.name, before.name);
                    (param.arrays, param.factors) = (before.arrays, before.factors);
                }
            }),
            Some(ForgottenScalars) => {
                let initial = initial_scalars(&self.case.optimizer).unwrap();
                self.edit(|state| {
                    state.params.iter_mut().for_each(|param| param.scalars = initial);
                    state.groups.iter_mut().for_each(|group| group.scalars = group.scalars.map(|_| initial));
                });
            }
            _ => {}
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut StateDict)) {
        let mut state = self.optimizer.state_dict();
        change(&mut state);
        self.optimizer.load_state_dict(state).unwrap();
    }

    /// Whether the trajectory is met.
    fn passes(mut self) -> bool {
        let case = self.case;
        let last = case.expect.iter().map(|expect| expect.step).max().unwrap();
        (1..=last).all(|t| {
            self.broken_step(t);
            case.expect.iter().filter(|expect| expect.step == t).all(|expect| {
                let params = case.params.iter().zip(&self.params);
                let points: Vec<_> = params.map(|(start, p)| self.optimizer.evaluation(&start.name, p.view())).collect();
                let mut pairs = points.iter().flatten().zip(expect.params.iter().flatten());
                pairs.all(|(x, y)| (x - y).abs() / y.abs().max(1.0) <= F64)
            })
        })
    }
}

/// Whether the optimizer of a case remembers arrays.
fn holds_state(case: &Case) -> bool {
    let mut run = Run::new(case, None);
    run.step(1);
    case.params.iter().any(|param| !run.optimizer.state(&param.name).is_empty())
}

/// The numbers beside the arrays before the first step, of those optimizers that remember some.
fn initial_scalars(config: &AnyAlgorithm) -> Option<Scalars> {
    match config {
        AnyAlgorithm::NAdam(config) => Some(config.scalars()),
        AnyAlgorithm::NovoGrad(config) => Some(config.scalars()),
        AnyAlgorithm::Momo(config) => Some(config.scalars()),
        AnyAlgorithm::MomoAdam(config) => Some(config.scalars()),
        AnyAlgorithm::Prodigy(config) => Some(config.scalars()),
        AnyAlgorithm::DAdaptAdamW(config) => Some(config.scalars()),
        AnyAlgorithm::Dog(config) => Some(config.scalars()),
        AnyAlgorithm::Dowg(config) => Some(config.scalars()),
        AnyAlgorithm::ScheduleFreeSgd(config) => Some(config.scalars()),
        AnyAlgorithm::ScheduleFreeAdamW(config) => Some(config.scalars()),
        _ => None,
    }
}

/// Which mutations of a step make a difference.
fn mutations(config: &AnyAlgorithm, cases: &[&Case]) -> Vec<Mutation> {
    let counts = [
        "adabelief",
        "adabound",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "adan",
        "ademamix",
        "adopt",
        "acprop",
        "asgd",
        "dadapt_adamw",
        "diffgrad",
        "grams",
        "lamb",
        "laprop",
        "madgrad",
        "mars",
        "momo",
        "momo_adam",
        "nadam",
        "padam",
        "prodigy",
        "qhadam",
        "radam",
        "schedule_free_adamw",
        "adafactor",
        "muon",
        "yogi",
    ];
    let mut all = vec![NoOp, Ascent];
    all.extend(cases.iter().any(|case| holds_state(case)).then_some(StaleState));
    all.extend(counts.contains(&config.name()).then_some(OffByOneStep));
    all.extend(initial_scalars(config).is_some().then_some(ForgottenScalars));
    all
}

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
    let mut survivors = Vec::new();
    println!("{:28} mutants killed of made; steps, then keys", "");
    for config in AnyAlgorithm::all().iter().filter(|config| !NO_GOLDENS.contains(&config.name())) {
        let cases: Vec<_> = all.iter().filter(|case| case.optimizer.name() == config.name()).collect();
        assert!(cases.iter().all(|case| Run::new(case, None).passes()), "{} fails without a mistake", config.name());
        let mut of_steps = 0;
        let mutations = mutations(config, &cases);
        for &how in &mutations {
            let failed = cases.iter().filter(|case| !Run::new(case, Some(how)).passes()).count();
            of_steps += usize::from(failed > 0);
            let enough = if how == NoOp { failed == cases.len() } else { failed > 0 };
            // The state of asgd is only the average, which tests/suite/identities.rs checks.
            if !enough && (config.name(), how) != ("asgd", StaleState) {
                survivors.push(format!("{} {how:?}", config.name()));
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
        let alive = keys.iter().filter(|(key, dead)| !**dead && (config.name(), key.as_str()) != ("asgd", "t0"));
        survivors.extend(alive.map(|(key, _)| format!("{} {key}", config.name())));
        println!("{:28} {of_steps}/{} {of_keys}/{}", config.name(), mutations.len(), keys.len());
        assert!(mutations.len() + keys.len() >= 4 || config.name() == "sign_sgd", "{} has too few mutants", config.name());
        made += mutations.len() + keys.len();
        killed += of_steps + of_keys;
    }
    println!("mutants made {made}, killed {killed}; survivors: {survivors:#?}");
    assert!(survivors.is_empty());
}
