//! The goldens must reject a broken rule: the first optimizers are written again here, as plainly
//! as their formulas, with every mistake that can be asked for. Without a mistake they meet every
//! trajectory; with one they must fail. `broken_optimizers.rs` breaks all optimizers, in the ways
//! that all have in common.

use crate::common::{Case, F64, cases, worst_error};
use ndarray_optim::{
    Adam, AdamW, AnyAlgorithm, Momentum, Optimizer, RmsProp, Sgd,
    algorithm::{Algorithm, Element, FieldValue, Rule, StepContext},
    hyper_parameters,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutation {
    Nothing,
    NoOp,
    NoSqrt,
    NoBiasCorrection,
    SwappedBetas,
    NoMomentum,
    EpsMisplaced,
    OffByOneStep,
    StaleState,
    NoDecay,
    DecayOtherCoupling,
    MaximizeIgnored,
    DampeningAtFirst,
    NoNesterov,
    NoGain,
    NotCentered,
    NoInitialScale,
    NoAmsgrad,
    GradientNotSquared,
}
use Mutation::*;

/// What is broken about each optimizer.
fn mutations(name: &str) -> &'static [Mutation] {
    match name {
        "sgd" => &[
            NoOp,
            NoMomentum,
            StaleState,
            NoDecay,
            MaximizeIgnored,
            DampeningAtFirst,
            NoNesterov,
        ],
        "momentum" => &[
            NoOp,
            NoMomentum,
            NoGain,
            NoBiasCorrection,
            OffByOneStep,
            StaleState,
            NoDecay,
        ],
        "rmsprop" => &[
            NoOp,
            NoSqrt,
            NoMomentum,
            EpsMisplaced,
            StaleState,
            NoDecay,
            MaximizeIgnored,
            NoNesterov,
            NotCentered,
            NoInitialScale,
            GradientNotSquared,
        ],
        _ => &[
            NoOp,
            NoSqrt,
            NoBiasCorrection,
            SwappedBetas,
            NoMomentum,
            EpsMisplaced,
            OffByOneStep,
            StaleState,
            NoDecay,
            DecayOtherCoupling,
            MaximizeIgnored,
            NoAmsgrad,
            GradientNotSquared,
        ],
    }
}

/// The hyper-parameters of what is broken.
#[derive(Clone, Debug, PartialEq)]
struct Original(AnyAlgorithm);

impl FieldValue for Original {}
impl FieldValue for Mutation {}

hyper_parameters! {
    struct Broken = "broken" {
        original: Original = Original(Sgd::default().into());
        how: Mutation = Nothing;
    }
    check(self) {
        self.original.0.validate()
    }
}

/// One step of one optimizer, with its mistake.
#[derive(Clone, Copy)]
enum Formula {
    Sgd(Sgd),
    Momentum(Momentum),
    RmsProp(RmsProp),
    Adam(Adam, bool),
}

#[derive(Clone, Copy)]
struct Plain<A> {
    formula: Formula,
    how: Mutation,
    t: i32,
    element: std::marker::PhantomData<A>,
}

impl<A: Element> Rule for Plain<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["a", "b", "c"];
    const COST: u64 = 10;

    fn begin(&self, _p: A, _g: A) -> [A; 3] {
        let first = match self.formula {
            Formula::RmsProp(c) if self.how != NoInitialScale => c.initial_scale,
            _ => 0.0,
        };
        [A::from_f64(first), A::ZERO, A::ZERO]
    }

    fn delta(&self, p: A, g: A, state: [A; 3]) -> (A, [A; 3]) {
        let (p, g, [a, b, c]) = (p.f64(), g.f64(), state.map(A::f64));
        let (delta, new) = self.plain(p, g, [a, b, c]);
        let delta = if self.how == NoOp { 0.0 } else { delta };
        (
            A::from_f64(delta),
            if self.how == StaleState {
                state
            } else {
                new.map(A::from_f64)
            },
        )
    }
}

impl<A> Plain<A> {
    fn grad(&self, p: f64, g: f64, maximize: bool, coupled_decay: f64) -> f64 {
        let g = if maximize && self.how != MaximizeIgnored {
            -g
        } else {
            g
        };
        if self.how == NoDecay {
            g
        } else {
            g + coupled_decay * p
        }
    }

    fn plain(&self, p: f64, g: f64, [a, b, c]: [f64; 3]) -> (f64, [f64; 3]) {
        let (how, t) = (self.how, self.t + i32::from(self.how == OffByOneStep));
        let squared = |g: f64| {
            if how == GradientNotSquared {
                g.abs()
            } else {
                g * g
            }
        };
        let root = |v: f64| if how == NoSqrt { v } else { v.sqrt() };
        let over = |v: f64, eps: f64, inside: bool| {
            if inside != (how == EpsMisplaced) {
                root(v + eps)
            } else {
                root(v) + eps
            }
        };
        match self.formula {
            Formula::Sgd(o) => {
                let g = self.grad(p, g, o.maximize, o.weight_decay);
                let momentum = if how == NoMomentum { 0.0 } else { o.momentum };
                let dampening = if t == 1 && how != DampeningAtFirst {
                    0.0
                } else {
                    o.dampening
                };
                let (inside, outside) = if o.lr_in_buffer {
                    (o.lr, 1.0)
                } else {
                    (1.0, o.lr)
                };
                let buf = momentum * a + (1.0 - dampening) * inside * g;
                let d = if o.nesterov && how != NoNesterov {
                    inside * g + momentum * buf
                } else {
                    buf
                };
                (
                    if o.momentum == 0.0 {
                        o.lr * g
                    } else {
                        outside * d
                    },
                    [buf, b, c],
                )
            }
            Formula::Momentum(o) => {
                let g = self.grad(p, g, o.maximize, o.weight_decay);
                let beta = if how == NoMomentum { 0.0 } else { o.beta };
                let m = beta * a + if how == NoGain { g } else { (1.0 - beta) * g };
                let correct = o.bias_correction && how != NoBiasCorrection;
                (
                    o.lr * if correct { m / (1.0 - beta.powi(t)) } else { m },
                    [m, b, c],
                )
            }
            Formula::RmsProp(o) => {
                let g = self.grad(p, g, o.maximize, o.weight_decay);
                let v = o.alpha * a + (1.0 - o.alpha) * squared(g);
                let mean = o.alpha * b + (1.0 - o.alpha) * g;
                let w = if o.centered && how != NotCentered {
                    v - mean * mean
                } else {
                    v
                };
                let u = g / over(w, o.eps, o.eps_inside_sqrt);
                let momentum = if how == NoMomentum { 0.0 } else { o.momentum };
                let buf = momentum * c + o.lr * u;
                (
                    if o.nesterov && how != NoNesterov {
                        o.lr * u + momentum * buf
                    } else {
                        buf
                    },
                    [v, mean, buf],
                )
            }
            Formula::Adam(o, decoupled) => {
                let decoupled = decoupled != (how == DecayOtherCoupling);
                let g = self.grad(
                    p,
                    g,
                    o.maximize,
                    if decoupled { 0.0 } else { o.weight_decay },
                );
                let (b1, b2) = if how == SwappedBetas {
                    (o.betas.1, o.betas.0)
                } else {
                    o.betas
                };
                let b1 = if how == NoMomentum { 0.0 } else { b1 };
                let m = b1 * a + (1.0 - b1) * g;
                let v = b2 * b + (1.0 - b2) * squared(g);
                let (c1, c2) = if how == NoBiasCorrection {
                    (1.0, 1.0)
                } else {
                    (1.0 - b1.powi(t), 1.0 - b2.powi(t))
                };
                let max = if o.amsgrad_corrected {
                    c.max(v / c2)
                } else {
                    c.max(v)
                };
                let w = match (o.amsgrad && how != NoAmsgrad, o.amsgrad_corrected) {
                    (true, true) => max,
                    (true, false) => max / c2,
                    (false, _) => v / c2,
                };
                let eps = if o.eps_uncorrected {
                    o.eps / c2.sqrt()
                } else {
                    o.eps
                };
                let decay = if decoupled && how != NoDecay {
                    o.weight_decay * p
                } else {
                    0.0
                };
                (o.lr * (m / c1 / over(w, eps, false) + decay), [m, v, max])
            }
        }
    }
}

impl Formula {
    /// Those that are written here.
    fn of(config: &AnyAlgorithm) -> Option<Formula> {
        Some(match config {
            AnyAlgorithm::Sgd(c) => Formula::Sgd(*c),
            AnyAlgorithm::Momentum(c) => Formula::Momentum(*c),
            AnyAlgorithm::RmsProp(c) => Formula::RmsProp(*c),
            AnyAlgorithm::Adam(c) => Formula::Adam(*c, false),
            AnyAlgorithm::AdamW(c) => {
                let AdamW {
                    lr,
                    betas,
                    eps,
                    eps_uncorrected,
                    weight_decay,
                    amsgrad,
                    amsgrad_corrected,
                    bias_correction,
                    maximize,
                } = *c;
                let same = Adam {
                    lr,
                    betas,
                    eps,
                    eps_uncorrected,
                    weight_decay,
                    amsgrad,
                    amsgrad_corrected,
                    bias_correction,
                    maximize,
                };
                Formula::Adam(same, true)
            }
            _ => return None,
        })
    }
}

impl Algorithm for Broken {
    type Kernel<A: Element> = Plain<A>;

    fn kernel<A: Element>(&self, step: &StepContext) -> Plain<A> {
        Plain {
            formula: Formula::of(&self.original.0).unwrap(),
            how: self.how,
            t: step.t as i32,
            element: std::marker::PhantomData,
        }
    }

    fn lr(&self) -> f64 {
        0.0
    }
    fn set_lr(&mut self, lr: f64) {
        match &mut self.original.0 {
            AnyAlgorithm::Sgd(c) => c.lr = lr,
            AnyAlgorithm::RmsProp(c) => c.lr = lr,
            AnyAlgorithm::AdamW(c) => c.lr = lr,
            other => panic!("no golden changes the learning rate of {}", other.name()),
        }
    }
}

fn passes(case: &Case, how: Mutation) -> bool {
    let mut optimizer = Optimizer::<f64>::new(Broken {
        original: Original(case.optimizer.clone()),
        how,
    });
    worst_error(case, &mut optimizer) <= F64
}

#[test]
fn the_formulas_written_again_meet_every_trajectory() {
    for case in cases()
        .into_iter()
        .filter(|case| Formula::of(&case.optimizer).is_some())
    {
        assert!(passes(&case, Nothing), "{}", case.id);
    }
}

#[test]
fn the_goldens_reject_every_mutant() {
    let all = cases();
    let (mut made, mut killed) = (0, 0);
    for config in AnyAlgorithm::all()
        .into_iter()
        .filter(|config| Formula::of(config).is_some())
    {
        let cases: Vec<_> = all
            .iter()
            .filter(|case| case.optimizer.name() == config.name())
            .collect();
        for &how in mutations(config.name()) {
            let failed = cases.iter().filter(|case| !passes(case, how)).count();
            println!(
                "{:10} {how:?}: fails {failed} of {} cases",
                config.name(),
                cases.len()
            );
            made += 1;
            killed += usize::from(failed > 0);
            assert!(
                failed > 0,
                "{} with {how:?} passes every case",
                config.name()
            );
            assert!(
                how != NoOp || failed == cases.len(),
                "a no-op passes a case of {}",
                config.name()
            );
        }
    }
    println!("mutants made {made}, killed {killed}");
}
