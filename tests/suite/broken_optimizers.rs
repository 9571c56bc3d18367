//! The mutation gate for all optimizers: each is broken in the ways that all have in common, and every mutant must fail a golden
//! trajectory of that optimizer. Mutants of a step do nothing, forget what a step remembers, or miscount it; mutants of the
//! hyper-parameters have one key changed, so that every key a trajectory sets is shown to have its effect.

use crate::common::{Case, F64, NO_GOLDENS, cases, worst_error};
use ndarray_optim::{
    Config, Error, Factor, Fields, Fused, HyperParameters, Lane, Now, OptimizerConfig, Scalars, Visit, Whole,
    kernel::{Arrays, At, Element, Kernel, MAX_TERMS, Totals, Wrapper, reduce::Sum},
    wrap::Clipping,
};
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

#[derive(Clone, Debug, PartialEq)]
struct Mutant<C> {
    config: C,
    how: Mutation,
}

impl<C: Config> Default for Mutant<C> {
    fn default() -> Self {
        Mutant { config: C::default(), how: NoOp }
    }
}

impl<C: Config> Fields for Mutant<C> {}

impl<C: Config> HyperParameters for Mutant<C> {
    fn lr(&self) -> f64 {
        self.config.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.config.set_lr(lr);
    }
}

#[derive(Clone, Copy)]
struct Broken<K> {
    kernel: K,
    how: Mutation,
}

impl<A: Element, K: Kernel<A>> Kernel<A> for Broken<K> {
    type With<W: Wrapper<A>> = Broken<K::With<W>>;
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W> {
        Broken { kernel: self.kernel.with(wrapper), how: self.how }
    }
    fn cost(&self) -> u64 {
        self.kernel.cost()
    }
    fn names(&self, names: &mut Vec<&'static str>) {
        self.kernel.names(names);
    }
    fn terms(&self) -> usize {
        self.kernel.terms()
    }
    fn measure(&self, at: &At<'_, A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]) {
        self.kernel.measure(at, p, g, state, sums);
    }
    fn run_watched(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>, _: &mut Totals) {
        self.run(at, p, g, state);
    }
    fn run(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        let old = p.to_vec();
        let mut state = state.0;
        let before: Vec<Vec<A>> = state.iter().map(|array| array.to_vec()).collect();
        self.kernel.run(at, p, g, Arrays(state.each_mut().map(|array| &mut **array)));
        match self.how {
            NoOp => p.copy_from_slice(&old),
            Ascent => p.iter_mut().zip(&old).for_each(|(p, &old)| *p = old + (old - *p)),
            StaleState if !at.first => {
                state.iter_mut().zip(&before).for_each(|(array, before)| array.copy_from_slice(before))
            }
            _ => {}
        }
    }
}

impl<C: Config> Config for Mutant<C> {
    type Kernel<A: Element> = Broken<C::Kernel<A>>;
    const GLOBAL: bool = C::GLOBAL;
    const LOSS: bool = C::LOSS;

    fn validate(&self) -> Result<(), Error> {
        self.config.validate()
    }
    fn betas(&self) -> [f64; 3] {
        self.config.betas()
    }
    fn scalars(&self) -> Scalars {
        self.config.scalars()
    }
    fn is_directed(&self) -> bool {
        self.config.is_directed()
    }
    fn clipping(&self) -> Option<Clipping> {
        self.config.clipping()
    }
    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        self.config.factors(shape)
    }
    fn direct<A: Element>(&self, now: &Now, whole: Whole<'_, A>) -> Scalars {
        let mut now = *now;
        now.t += u64::from(self.how == OffByOneStep);
        let before = whole.factors.to_vec();
        let Whole { name, p, g, factors, parallel } = whole;
        let scalars = self.config.direct(&now, Whole { name, p, g, factors: &mut *factors, parallel });
        if self.how == StaleState && before.iter().any(|factor| factor.iter().any(|x| *x != A::ZERO)) {
            factors.clone_from_slice(&before);
        }
        scalars
    }
    fn absorb(&self, now: &Now, sums: &[f64; MAX_TERMS]) -> Scalars {
        let mut now = *now;
        if self.how == ForgottenScalars {
            now.scalars = self.config.scalars();
        }
        self.config.absorb(&now, sums)
    }
    fn maximize(&self) -> bool {
        self.config.maximize()
    }
    fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
        self.config.evaluate(p, state)
    }
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let mut now = *now;
        now.t += u64::from(self.how == OffByOneStep);
        Broken { kernel: self.config.kernel(&now), how: self.how }
    }
}

struct Passes<'a> {
    case: &'a Case,
    how: Mutation,
}

impl Visit for Passes<'_> {
    type Out = bool;
    fn visit<C: Config>(self, config: &C) -> bool {
        let mut optimizer = Fused::<Mutant<C>, f64>::with(Mutant { config: config.clone(), how: self.how });
        worst_error(self.case, &mut optimizer) <= F64
    }
}

/// Which mutations of a step make a difference.
fn mutations(config: &OptimizerConfig) -> Vec<Mutation> {
    struct HasState;
    impl Visit for HasState {
        type Out = bool;
        fn visit<C: Config>(self, config: &C) -> bool {
            let mut names = Vec::new();
            config.kernel::<f64>(&Now::new(config, 1)).names(&mut names);
            !names.is_empty() || config.is_directed()
        }
    }
    let state = config.visit(HasState);
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
    let remembers = [
        "nadam",
        "novograd",
        "momo",
        "momo_adam",
        "prodigy",
        "dadapt_adamw",
        "dog",
        "dowg",
        "schedule_free_sgd",
        "schedule_free_adamw",
    ];
    let mut all = vec![NoOp, Ascent];
    all.extend(state.then_some(StaleState));
    all.extend(counts.contains(&config.name()).then_some(OffByOneStep));
    all.extend(remembers.contains(&config.name()).then_some(ForgottenScalars));
    all
}

/// The same numbers with one of them changed by 1 %, or one switch turned.
fn changed(config: &OptimizerConfig) -> Vec<(String, OptimizerConfig)> {
    let whole = serde_json::to_value(config).unwrap();
    let mut mutants = Vec::new();
    let mut add = |key: String, value: Value| {
        if let Ok(config) = serde_json::from_value::<OptimizerConfig>(value)
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
    for config in OptimizerConfig::all().iter().filter(|config| !NO_GOLDENS.contains(&config.name())) {
        let cases: Vec<_> = all.iter().filter(|case| case.optimizer.name() == config.name()).collect();
        let mut of_steps = 0;
        let mutations = mutations(config);
        for &how in &mutations {
            let failed = cases.iter().filter(|case| !case.optimizer.visit(Passes { case, how })).count();
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
                let dead = worst_error::<f64>(case, &mut mutant.build()) > F64;
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
