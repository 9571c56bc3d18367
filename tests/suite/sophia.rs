//! Sophia against itself written again over plain vectors, with mistakes that the same trajectories
//! reject; closed forms; and the estimates of Hutchinson's method.
use crate::common::{number, numbers};
use approx::assert_relative_eq;
use ndarray::{Array, Array1, Array2, ArrayD, Axis, IxDyn, ShapeBuilder, Slice, array};
use ndarray_optim::{
    AnyAlgorithm, Compose, Error, Group, Lion, Momentum, NonFinite, Optimizer, Outcome, Parallel,
    Params, Signum, Sophia, algorithm::Element, hutchinson,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutation {
    Nothing,
    EstimateAfterStep,
    StaleHessian,
    NoAverageOfEstimates,
    EstimateSquared,
    NegativeCurvatureByItsSize,
    NoGamma,
    EpsAdded,
    NoClip,
    ClippedAtGamma,
    OldMomentum,
    BiasCorrected,
    SwappedBetas,
    CoupledDecay,
    DecayClippedToo,
}
use Mutation::*;

const MUTATIONS: [Mutation; 14] = [
    EstimateAfterStep,
    StaleHessian,
    NoAverageOfEstimates,
    EstimateSquared,
    NegativeCurvatureByItsSize,
    NoGamma,
    EpsAdded,
    NoClip,
    ClippedAtGamma,
    OldMomentum,
    BiasCorrected,
    SwappedBetas,
    CoupledDecay,
    DecayClippedToo,
];

/// The formulas, one array at a time.
struct Plain {
    config: Sophia,
    how: Mutation,
    t: i32,
    m: Vec<f64>,
    h: Vec<f64>,
    late: Option<Vec<f64>>,
}

impl Plain {
    fn new(mut config: Sophia, how: Mutation, n: usize) -> Self {
        if how == SwappedBetas {
            config.betas = (config.betas.1, config.betas.0);
        }
        Plain {
            config,
            how,
            t: 0,
            m: vec![0.0; n],
            h: vec![0.0; n],
            late: None,
        }
    }

    fn average(&mut self, estimate: &[f64]) {
        let beta2 = if self.how == NoAverageOfEstimates {
            0.0
        } else {
            self.config.betas.1
        };
        for (h, &e) in self.h.iter_mut().zip(estimate) {
            *h = beta2 * *h
                + (1.0 - beta2)
                    * if self.how == EstimateSquared {
                        e * e
                    } else {
                        e
                    };
        }
    }

    fn update_hessian(&mut self, estimate: &[f64]) {
        match self.how {
            StaleHessian if self.t > 0 => {}
            EstimateAfterStep => self.late = Some(estimate.to_vec()),
            _ => self.average(estimate),
        }
    }

    fn step(&mut self, p: &mut [f64], g: &[f64]) {
        self.t += 1;
        let Sophia {
            lr,
            betas,
            gamma,
            eps,
            weight_decay,
        } = self.config;
        for i in 0..p.len() {
            let old = self.m[i];
            let g = if self.how == CoupledDecay {
                g[i] + weight_decay * p[i]
            } else {
                g[i]
            };
            self.m[i] = betas.0 * old + (1.0 - betas.0) * g;
            let m = match self.how {
                OldMomentum => old,
                BiasCorrected => self.m[i] / (1.0 - betas.0.powi(self.t)),
                _ => self.m[i],
            };
            let h = if self.how == NegativeCurvatureByItsSize {
                self.h[i].abs()
            } else {
                self.h[i]
            };
            let gamma = if self.how == NoGamma { 1.0 } else { gamma };
            let by = if self.how == EpsAdded {
                (gamma * h).max(0.0) + eps
            } else {
                (gamma * h).max(eps)
            };
            let u = match self.how {
                NoClip => m / by,
                ClippedAtGamma => (m / by).clamp(-gamma, gamma),
                DecayClippedToo => {
                    (m / by + weight_decay * p[i]).clamp(-1.0, 1.0) - weight_decay * p[i]
                }
                _ => (m / by).clamp(-1.0, 1.0),
            };
            let decay = if self.how == CoupledDecay {
                0.0
            } else {
                weight_decay * p[i]
            };
            p[i] -= lr * (u + decay);
        }
        if let Some(estimate) = self.late.take() {
            self.average(&estimate);
        }
    }
}

/// Curvature of all sizes, a quarter of it negative: some elements are clipped and some are not.
fn curvature<A: Element>(shape: &[usize], seed: u64) -> ArrayD<A> {
    numbers::<f64>(shape, seed).mapv(|x| A::from_f64(if x < -0.5 { x } else { (6.0 * x).exp() }))
}

fn configs() -> [Sophia; 3] {
    let config = Sophia {
        lr: 0.02,
        betas: (0.9, 0.8),
        gamma: 0.3,
        ..Default::default()
    };
    [
        config,
        Sophia {
            eps: 0.05,
            weight_decay: 0.0,
            ..config
        },
        Sophia {
            gamma: 3.0,
            weight_decay: 0.5,
            ..config
        },
    ]
}

const SHAPES: [&[usize]; 4] = [&[], &[7], &[4, 3], &[2, 3, 4]];
const STEPS: usize = 30;
const EVERY: usize = 3;

/// The greatest |x - y| / max(1, |y|) between the crate and the plain loop, over all steps and
/// shapes.
fn worst_error<A: Element>(config: Sophia, how: Mutation) -> f64 {
    let mut sophia = Optimizer::<A>::new(config);
    let mut plain: Vec<Plain> = SHAPES
        .iter()
        .map(|shape| Plain::new(config, how, shape.iter().product()))
        .collect();
    let mut params: Vec<ArrayD<A>> = (0..SHAPES.len())
        .map(|k| numbers(SHAPES[k], k as u64))
        .collect();
    let mut expected: Vec<Vec<f64>> = (0..SHAPES.len())
        .map(|k| numbers::<f64>(SHAPES[k], k as u64).into_iter().collect())
        .collect();
    let names = ["scalar", "vector", "matrix", "cube"];
    let seed = |t: usize, k: usize| (100 * t + k) as u64;
    let mut worst: f64 = 0.0;
    for t in 0..STEPS {
        if t % EVERY == 0 {
            let estimates: Vec<ArrayD<A>> = (0..SHAPES.len())
                .map(|k| curvature(SHAPES[k], seed(t, k)))
                .collect();
            let mut lent = Params::new();
            for ((name, p), e) in names.iter().zip(&mut params).zip(&estimates) {
                lent.add(*name, p, e).unwrap();
            }
            assert_eq!(sophia.update_hessian(lent), Ok(Outcome::Applied));
            for (k, plain) in plain.iter_mut().enumerate() {
                plain.update_hessian(curvature(SHAPES[k], seed(t, k)).as_slice().unwrap());
            }
        }
        let grads: Vec<ArrayD<A>> = (0..SHAPES.len())
            .map(|k| numbers(SHAPES[k], seed(t, 50 + k)))
            .collect();
        let mut lent = Params::new();
        for ((name, p), g) in names.iter().zip(&mut params).zip(&grads) {
            lent.add(*name, p, g).unwrap();
        }
        sophia.step(lent).unwrap();
        for (k, (plain, p)) in plain.iter_mut().zip(&mut expected).enumerate() {
            plain.step(p, numbers(SHAPES[k], seed(t, 50 + k)).as_slice().unwrap());
        }
        for (x, y) in params.iter().flatten().zip(expected.iter().flatten()) {
            let error = (x.f64() - y).abs() / y.abs().max(1.0);
            worst = if error.is_nan() {
                f64::INFINITY
            } else {
                worst.max(error)
            };
        }
    }
    worst
}

#[test]
fn trajectories_are_those_of_the_plain_loop() {
    for config in configs() {
        let (in_f64, in_f32) = (
            worst_error::<f64>(config, Nothing),
            worst_error::<f32>(config, Nothing),
        );
        println!("worst error {in_f64:.1e} in f64, {in_f32:.1e} in f32");
        assert!(
            in_f64 <= 1e-12 && in_f32 <= 2e-5,
            "{config:?}: {in_f64:e}, {in_f32:e}"
        );
    }
}

#[test]
fn trajectories_reject_every_mistake() {
    for how in MUTATIONS {
        let worst = configs()
            .into_iter()
            .map(|config| worst_error::<f64>(config, how))
            .fold(0.0, f64::max);
        println!("{how:?}: {worst:.1e}");
        assert!(worst > 1e-6, "{how:?} survives");
    }
}

/// Gives an estimate for the one array of `update`.
fn estimate(sophia: &mut Optimizer<f64>, p: &mut ArrayD<f64>, e: &ArrayD<f64>) {
    let mut params = Params::new();
    params.add("variable", p, e).unwrap();
    assert_eq!(sophia.update_hessian(params), Ok(Outcome::Applied));
}

#[test]
fn without_estimates_it_is_signum_and_lion_with_equal_betas() {
    let (lr, weight_decay) = (0.01, 0.1);
    let mut sophia = Optimizer::new(Sophia {
        lr,
        betas: (0.9, 0.99),
        weight_decay,
        ..Default::default()
    });
    let mut signum = Optimizer::new(Signum {
        lr,
        momentum: 0.9,
        weight_decay,
    });
    let mut lion = Optimizer::new(Lion {
        lr,
        betas: (0.9, 0.9),
        weight_decay,
    });
    let mut negative = sophia.clone();
    let mut p = [
        numbers::<f64>(&[5, 3], 1),
        numbers(&[5, 3], 1),
        numbers(&[5, 3], 1),
        numbers(&[5, 3], 1),
    ];
    for t in 0..30 {
        let grad = numbers(&[5, 3], 2 + t);
        estimate(
            &mut negative,
            &mut p[3],
            &numbers(&[5, 3], 50 + t).mapv(|e: f64| -e.abs()),
        );
        sophia.update(&mut p[0], &grad).unwrap();
        signum.update(&mut p[1], &grad).unwrap();
        lion.update(&mut p[2], &grad).unwrap();
        negative.update(&mut p[3], &grad).unwrap();
        assert!(p[0] == p[1] && p[0] == p[2] && p[0] == p[3], "step {t}");
    }
}

#[test]
fn with_much_curvature_it_is_a_newton_step_along_the_average_of_gradients() {
    // Nothing is clipped: momentum with a learning rate of its own for each element.
    let curvature = array![50.0, 200.0, 1e6].into_dyn();
    let config = Sophia {
        lr: 0.1,
        betas: (0.9, 0.0),
        gamma: 0.5,
        weight_decay: 0.0,
        ..Default::default()
    };
    let mut sophia = Optimizer::new(config);
    let mut p = array![1.0, -2.0, 3.0].into_dyn();
    let mut q: Vec<Array1<f64>> = p.iter().map(|&x| array![x]).collect();
    let mut momenta: Vec<Optimizer<f64>> = curvature
        .iter()
        .map(|h| Optimizer::new(Momentum::new(0.1 / (0.5 * h))))
        .collect();
    estimate(&mut sophia, &mut p, &curvature);
    for t in 0..30 {
        let grad: ArrayD<f64> = numbers(&[3], t);
        sophia.update(&mut p, &grad).unwrap();
        for i in 0..3 {
            momenta[i].update(&mut q[i], &array![grad[i]]).unwrap();
            assert_relative_eq!(p[i], q[i][0], max_relative = 1e-13);
        }
    }
    // Newton's method itself: the minimum of a diagonal quadratic in one step.
    let h = array![2.0, 16.0].into_dyn();
    let newton = Sophia {
        lr: 1.0,
        betas: (0.0, 0.0),
        gamma: 1.0,
        weight_decay: 0.0,
        ..Default::default()
    };
    let mut sophia = Optimizer::new(newton);
    let mut p = array![0.5, -0.25].into_dyn();
    estimate(&mut sophia, &mut p, &h);
    let grad = &h * &p;
    sophia.update(&mut p, &grad).unwrap();
    assert_eq!(p, array![0.0, 0.0].into_dyn());
}

#[test]
fn a_step_is_never_larger_than_lr_and_eps_zero_makes_no_nan() {
    let config = Sophia {
        lr: 0.5,
        betas: (0.0, 0.0),
        gamma: 1.0,
        eps: 0.0,
        weight_decay: 0.0,
    };
    let mut sophia = Optimizer::new(config);
    let mut p = ArrayD::<f64>::zeros(IxDyn(&[6]));
    estimate(
        &mut sophia,
        &mut p,
        &array![0.0, 0.0, -1.0, 4.0, 4.0, f64::NAN].into_dyn(),
    );
    sophia
        .update(&mut p, &array![0.0, -3.0, 1e-300, 8.0, 1.0, 1.0].into_dyn())
        .unwrap();
    assert_eq!(p.as_slice().unwrap()[..5], [0.0, 0.5, -0.5, -0.5, -0.125]);
    assert!(p[5].is_nan(), "a NaN shows");
    let mut p = array![1.0];
    Optimizer::new(Sophia::new(0.5))
        .update(&mut p, &array![f64::NAN])
        .unwrap();
    assert!(p[0].is_nan());
}

#[test]
fn estimates_change_their_average_and_nothing_else() {
    let mut sophia = Optimizer::new(Sophia {
        betas: (0.5, 0.75),
        weight_decay: 0.5,
        ..Default::default()
    });
    let mut p = array![-0.0, f64::INFINITY, 3.0, 5e-324].into_dyn();
    let before: Vec<u64> = p.iter().map(|x| x.to_bits()).collect();
    // Before the first step.
    estimate(&mut sophia, &mut p, &array![4.0, -4.0, 8.0, 0.0].into_dyn());
    assert_eq!(p.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), before);
    assert_eq!(sophia.steps("variable"), 0);
    let state = sophia.state("variable");
    assert_eq!(
        state.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["exp_avg", "hessian"]
    );
    assert_eq!(state[0].1, ArrayD::<f64>::zeros(IxDyn(&[4])));
    assert_eq!(state[1].1, array![1.0, -1.0, 2.0, 0.0].into_dyn());

    p.fill(1.0);
    sophia
        .update(&mut p, &array![1.0, 2.0, -2.0, 0.0].into_dyn())
        .unwrap();
    estimate(&mut sophia, &mut p, &array![0.0, 0.0, 0.0, 4.0].into_dyn());
    let state = sophia.state("variable");
    assert_eq!(state[0].1, array![0.5, 1.0, -1.0, 0.0].into_dyn());
    assert_eq!(state[1].1, array![0.75, -0.75, 1.5, 1.0].into_dyn());
    assert_eq!(sophia.steps("variable"), 1);

    // A parameter without an estimate this time, and one of a group.
    sophia
        .add_group(Group::new(
            "other",
            ["b"],
            Sophia {
                betas: (0.5, 0.0),
                ..Default::default()
            },
        ))
        .unwrap();
    let (mut a, mut b, one) = (array![1.0], array![1.0], array![1.0]);
    let mut params = Params::new();
    params
        .add_optional("a", &mut a, None)
        .unwrap()
        .add("b", &mut b, &one)
        .unwrap();
    sophia.update_hessian(params).unwrap();
    assert!(sophia.state("a").is_empty());
    assert_eq!(sophia.state("b")[1].1, one.view().into_dyn());
}

#[test]
fn any_layout_and_number_of_threads_gives_the_same_bits() {
    fn run<A: Element>(shape: &[usize], layout: usize, parallel: Parallel) -> (Vec<u64>, Vec<u64>) {
        let mut sophia = Optimizer::<A>::new(Sophia {
            lr: 0.1,
            betas: (0.9, 0.6),
            ..configs()[0]
        });
        sophia.parallel = parallel;
        let wide: Vec<usize> = shape.iter().map(|n| 2 * n).collect();
        let (mut fortran, mut memory) = (
            Array::from_elem(IxDyn(shape).f(), A::ZERO),
            ArrayD::from_elem(wide, A::ZERO),
        );
        let mut plain = ArrayD::from_elem(shape, A::ZERO);
        let mut p = match layout {
            0 => plain.view_mut(),
            1 => fortran.view_mut(),
            2 => memory.slice_each_axis_mut(|_| Slice::new(0, None, -2)),
            _ => fortran.slice_each_axis_mut(|axis| {
                Slice::new(0, None, if axis.axis.index() == 0 { -1 } else { 1 })
            }),
        };
        p.assign(&numbers(shape, 1));
        for t in 2..8 {
            let given = [curvature(shape, t), numbers(shape, 10 + t)].map(|values| {
                let mut given = if layout as u64 == t % 4 {
                    ArrayD::from_elem(shape, A::ZERO)
                } else {
                    fortran_zeros(shape)
                };
                given.assign(&values);
                given
            });
            let mut params = Params::new();
            params.add("variable", &mut p, &given[0]).unwrap();
            sophia.update_hessian(params).unwrap();
            sophia.update(&mut p, &given[1]).unwrap();
        }
        let bits = |x: &A| x.f64().to_bits();
        (
            p.iter().map(bits).collect(),
            sophia.state("variable")[1].1.iter().map(bits).collect(),
        )
    }
    fn fortran_zeros<A: Element>(shape: &[usize]) -> ArrayD<A> {
        Array::from_elem(IxDyn(shape).f(), A::ZERO)
    }
    for shape in [&[7][..], &[4, 3], &[70, 65], &[3, 4, 5]] {
        let (of64, of32) = (
            run::<f64>(shape, 0, Parallel::SERIAL),
            run::<f32>(shape, 0, Parallel::SERIAL),
        );
        for layout in 0..4 {
            for parallel in [
                Parallel::SERIAL,
                Parallel {
                    min_work: 0,
                    chunk: 7,
                },
            ] {
                assert_eq!(
                    run::<f64>(shape, layout, parallel),
                    of64,
                    "{shape:?} {layout}"
                );
                assert_eq!(
                    run::<f32>(shape, layout, parallel),
                    of32,
                    "{shape:?} {layout}"
                );
            }
        }
    }
}

#[test]
fn errors_change_nothing() {
    let mut sophia = Optimizer::new(Sophia::new(0.1));
    let (mut p, mut q) = (numbers::<f64>(&[4], 1), numbers::<f64>(&[4], 1));
    let e = curvature(&[4], 2);
    estimate(&mut sophia, &mut p, &e);
    let before = sophia.state("variable")[1].1.to_owned();

    let (mut small, one) = (array![1.0], array![1.0]);
    let mut params = Params::new();
    params
        .add("new", &mut q, &e)
        .unwrap()
        .add("variable", &mut small, &one)
        .unwrap();
    let changed = Error::ShapeChanged {
        name: "variable".into(),
        known: vec![4],
        given: vec![1],
    };
    assert_eq!(sophia.update_hessian(params), Err(changed));

    let mut params = Params::new();
    params
        .add("new", &mut q, &e)
        .unwrap()
        .add("new", &mut p, &e)
        .unwrap();
    assert_eq!(
        sophia.update_hessian(params),
        Err(Error::DuplicateParameter { name: "new".into() })
    );

    let bad = array![1.0, f64::NAN, 2.0, 3.0].into_dyn();
    for (policy, applied) in [(NonFinite::Skip, true), (NonFinite::Error, false)] {
        sophia.non_finite = policy;
        let mut params = Params::new();
        params
            .add("new", &mut q, &e)
            .unwrap()
            .add("variable", &mut p, &bad)
            .unwrap();
        let outcome = sophia.update_hessian(params);
        assert_eq!(outcome == Ok(Outcome::Skipped), applied);
        assert_eq!(
            matches!(outcome, Err(Error::NonFiniteGradient { .. })),
            !applied
        );
    }
    sophia.algorithm_mut::<Sophia>().unwrap().gamma = 0.0;
    let mut params = Params::new();
    params.add("variable", &mut p, &e).unwrap();
    let error = sophia.update_hessian(params).unwrap_err();
    assert!(
        matches!(&error, Error::HyperParameter { field, .. } if field == "gamma"),
        "{error}"
    );
    assert_eq!(sophia.state("variable")[1].1, before);
    assert!(sophia.state("new").is_empty());
    assert_eq!((p, q), (numbers(&[4], 1), numbers(&[4], 1)));
}

#[test]
fn estimates_for_other_algorithms_are_refused() {
    let mut refused = 0;
    for config in AnyAlgorithm::all()
        .into_iter()
        .filter(|config| config.name() != "sophia")
    {
        let mut optimizer = Optimizer::new(config.clone());
        let (mut p, e) = (array![[1.0, 2.0]], array![[3.0, 4.0]]);
        let mut params = Params::new();
        params.add("p", &mut p, &e).unwrap();
        let error = optimizer.update_hessian(params).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported { optimizer, .. } if optimizer == config.name()),
            "{error}"
        );
        assert_eq!((p, optimizer.steps("p")), (array![[1.0, 2.0]], 0));
        assert!(optimizer.state_dict().params.is_empty());
        refused += 1;
    }
    assert_eq!(refused, AnyAlgorithm::all().len() - 1);

    // Beside groups of other algorithms, for its own parameters only.
    let mut optimizer = Optimizer::new(Lion::new(0.1));
    let config = Sophia {
        betas: (0.5, 0.0),
        ..Default::default()
    };
    optimizer
        .add_group(Group::new("curved", ["b"], config))
        .unwrap();
    let (mut a, mut b, e) = (array![1.0], array![1.0], array![4.0]);
    let mut params = Params::new();
    params
        .add("a", &mut a, &e)
        .unwrap()
        .add("b", &mut b, &e)
        .unwrap();
    let error = optimizer.update_hessian(params).unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported { optimizer, .. } if optimizer == "lion"),
        "{error}"
    );
    assert!(optimizer.state_dict().params.is_empty());
    let mut params = Params::new();
    params
        .add_optional("a", &mut a, None)
        .unwrap()
        .add("b", &mut b, &e)
        .unwrap();
    assert_eq!(optimizer.update_hessian(params), Ok(Outcome::Applied));
    assert!(optimizer.state("a").is_empty());
    assert_eq!(optimizer.state("b")[1].1, e.view().into_dyn());
}

#[test]
fn in_wrappers_it_takes_estimates_too() {
    let wrapped = configs()[0].ema(0.9);
    let any = AnyAlgorithm::from(configs()[0]).in_wrappers([wrapped.wrap.clone().into()]);
    let mut plain = Optimizer::new(configs()[0]);
    let (mut typed, mut any) = (Optimizer::new(wrapped), Optimizer::new(any));
    let mut p = [(); 3].map(|()| numbers::<f64>(&[5, 3], 1));
    let mut average = p[0].clone();
    for t in 1..12 {
        let (grad, e) = (numbers(&[5, 3], 1 + t), curvature(&[5, 3], 20 + t));
        for (optimizer, p) in [&mut plain, &mut typed, &mut any].into_iter().zip(&mut p) {
            if t % 2 == 1 {
                estimate(optimizer, p, &e);
            }
            optimizer.update(p, &grad).unwrap();
        }
        assert!(p[0] == p[1] && p[0] == p[2], "step {t}");
        average = &average + 0.1 / (1.0 - 0.9_f64.powi(t as i32)) * (&p[0] - &average);
        for optimizer in [&typed, &any] {
            let state = optimizer.state("variable");
            assert_eq!(
                state.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                ["exp_avg", "hessian", "ema"]
            );
            assert_eq!(
                (&state[0].1, &state[1].1),
                (&plain.state("variable")[0].1, &plain.state("variable")[1].1)
            );
            assert_relative_eq!(state[2].1, average.view(), max_relative = 1e-12);
        }
    }
}

#[test]
fn defaults_and_names_are_those_that_are_documented() {
    let config = Sophia::default();
    assert_eq!(
        config,
        Sophia {
            lr: 1e-4,
            betas: (0.965, 0.99),
            gamma: 0.01,
            eps: 1e-12,
            weight_decay: 0.1
        }
    );
    assert_eq!(
        serde_json::from_str::<AnyAlgorithm>(r#"{"name": "sophia"}"#).unwrap(),
        config.into()
    );
    let _: Optimizer<f32> = Optimizer::new(Sophia::new(1e-4));
}

/// The probes of a call, one in each row.
fn probes(n: usize, samples: usize, seed: u64) -> Array2<f64> {
    let mut all = Array2::zeros((0, n));
    hutchinson(&Array1::zeros(n), samples, seed, |u| {
        all.push_row(u.view()).unwrap();
        u.clone()
    })
    .unwrap();
    all
}

/// The mean of so many independent signs is within 5 standard deviations of 0.
fn balanced(mean: f64, n: usize, what: &str) {
    assert!(
        mean.abs() < 5.0 / (n as f64).sqrt(),
        "{what}: mean {mean} of {n}"
    );
}

#[test]
fn probes_are_signs_with_equal_chances_and_do_not_depend_on_each_other() {
    for seed in [0, 1, 2, 3, 10, 20, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
        let u = probes(64, 256, seed);
        let n = u.len();
        assert!(u.iter().all(|&x| x == 1.0 || x == -1.0));
        balanced(u.sum() / n as f64, n, "all");
        for (i, row) in u.rows().into_iter().enumerate() {
            balanced(row.sum() / 64.0, 64, &format!("sample {i}"));
        }
        // Neighbours in place and in sample, by all distances; and places against samples.
        for k in 1..20 {
            let same_sample = (0..64 - k)
                .map(|j| u.column(j).dot(&u.column(j + k)))
                .sum::<f64>();
            balanced(
                same_sample / (256 * (64 - k)) as f64,
                256 * (64 - k),
                "places",
            );
            let same_place = (0..256 - k)
                .map(|i| u.row(i).dot(&u.row(i + k)))
                .sum::<f64>();
            balanced(
                same_place / (64 * (256 - k)) as f64,
                64 * (256 - k),
                "samples",
            );
        }
        let turned: f64 = (0..64)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| u[[i, j]] * u[[j, i]])
            .sum();
        balanced(turned / 2016.0, 2016, "place and sample exchanged");
        balanced(u.diag().sum() / 64.0, 64, "sample = place");
        // Three at a time: a parity that signs of a poor generator show.
        let triple: f64 = (0..62)
            .map(|j| (&u.column(j) * &u.column(j + 1) * u.column(j + 2)).sum())
            .sum();
        balanced(triple / (62 * 256) as f64, 62 * 256, "triples");
        let next = probes(64, 256, seed.wrapping_add(1));
        balanced((&u * &next).sum() / n as f64, n, "seeds");
        for k in 1..8 {
            let shifted = (&u.slice_axis(Axis(0), Slice::from(k..))
                * &next.slice_axis(Axis(0), Slice::from(..-k)))
                .sum();
            balanced(
                shifted / ((256 - k) * 64) as f64,
                (256 - k) as usize * 64,
                "seed + 1, sample - k",
            );
        }
        assert_eq!(u, probes(64, 256, seed), "a function of the seed");
        assert_eq!(u.slice_axis(Axis(0), Slice::from(..3)), probes(64, 3, seed));
    }
}

#[test]
fn one_probe_is_exact_for_a_diagonal_hessian() {
    for seed in 0..20 {
        let at = numbers::<f64>(&[3, 4, 2], 1);
        let d = curvature::<f64>(&[3, 4, 2], 2);
        let estimate = hutchinson(&at, 1, seed, |u| u * &d).unwrap();
        assert_eq!(estimate, d);
        // In any memory layout.
        let fortran = Array::from_elem(IxDyn(&[3, 4, 2]).f(), 0.0);
        assert_eq!(hutchinson(&fortran, 1, seed, |u| u * &d).unwrap(), d);
    }
}

#[test]
fn many_probes_converge_to_the_diagonal_with_the_variance_that_is_documented() {
    let n = 6;
    let a = Array2::from_shape_fn((n, n), |(i, j)| number(7, 10 * i + j));
    let h = &a + &a.t();
    let at = Array1::<f64>::zeros(n);
    for samples in [100, 10_000] {
        let estimate = hutchinson(&at, samples, 3, |u| h.dot(u)).unwrap();
        for i in 0..n {
            let rest: f64 = (0..n).filter(|&j| j != i).map(|j| h[[i, j]].powi(2)).sum();
            let deviation = (rest / samples as f64).sqrt();
            let error = (estimate[i] - h[[i, i]]).abs();
            assert!(
                error < 5.0 * deviation,
                "{samples} samples: off by {error}, deviation {deviation}"
            );
        }
    }
    // And not less: single estimates scatter as they must.
    let mut square = Array1::<f64>::zeros(n);
    for seed in 0..4000 {
        let estimate = hutchinson(&at, 1, seed, |u| h.dot(u)).unwrap();
        square += &(estimate - h.diag()).mapv(|x| x * x / 4000.0);
    }
    for i in 0..n {
        let rest: f64 = (0..n).filter(|&j| j != i).map(|j| h[[i, j]].powi(2)).sum();
        assert_relative_eq!(square[i], rest, max_relative = 0.1);
    }
    // In f32 the mean is taken in f64.
    let d = array![0.1_f32, 3.3];
    assert_eq!(
        hutchinson(&array![0.0_f32, 0.0], 1000, 0, |u| u * &d).unwrap(),
        d
    );
}

#[test]
fn wrong_products_are_errors() {
    let at = array![1.0, 2.0];
    let none = hutchinson(&at, 0, 0, |u| u.clone());
    assert!(matches!(none, Err(Error::HyperParameter { field, .. }) if field == "samples"));
    let short = hutchinson(&at, 1, 0, |_| array![1.0]);
    assert_eq!(
        short,
        Err(Error::ProductShape {
            probe: vec![2],
            product: vec![1]
        })
    );
    assert_eq!(
        hutchinson(&Array1::<f64>::zeros(0), 1, 0, |u| u.clone())
            .unwrap()
            .len(),
        0
    );
}

/// On a badly scaled quadratic the estimates make the difference that they are for.
#[test]
fn with_estimates_it_reaches_what_signs_alone_do_not() {
    let d = array![1e-2, 1.0, 1e2];
    let run = |every: Option<usize>| {
        let config = Sophia {
            lr: 0.05,
            betas: (0.9, 0.9),
            gamma: 1.0,
            weight_decay: 0.0,
            ..Default::default()
        };
        let (mut sophia, mut p) = (Optimizer::new(config), array![1.0, -0.73, 0.41_f64]);
        for t in 0..2000 {
            if every.is_some_and(|every| t % every == 0) {
                let e = hutchinson(&p, 1, t as u64, |u| u * &d).unwrap();
                let mut params = Params::new();
                params.add("variable", &mut p, &e).unwrap();
                sophia.update_hessian(params).unwrap();
            }
            let grad = &d * &p;
            sophia.update(&mut p, &grad).unwrap();
        }
        p.iter().fold(0.0_f64, |worst, x| worst.max(x.abs()))
    };
    let (with, without) = (run(Some(10)), run(None));
    println!("largest element with estimates {with:.1e}, without {without:.1e}");
    assert!(with < 1e-9 && without > 1e-3);
}

#[test]
fn refused_estimates_change_no_count_either() {
    let mut optimizer = Optimizer::new(Sophia::default());
    optimizer
        .add_group(Group::new("plain", ["b"], Momentum::new(0.1)))
        .unwrap();
    optimizer.non_finite = NonFinite::Skip;
    let (mut a, mut b, nan, ones) = (array![1.0], array![1.0], array![f64::NAN], array![1.0]);
    let mut params = Params::new();
    params.add("a", &mut a, &nan).unwrap();
    assert_eq!(optimizer.step(params), Ok(Outcome::Skipped));
    let mut params = Params::new();
    params.add("b", &mut b, &ones).unwrap();
    assert!(matches!(
        optimizer.update_hessian(params),
        Err(Error::Unsupported { .. })
    ));
    assert_eq!(optimizer.state_dict().skipped, 1);
}
