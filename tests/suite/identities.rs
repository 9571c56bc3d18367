//! What must be equal whatever the numbers are, and exact runs on problems without any random
//! numbers.
use approx::assert_relative_eq;
use ndarray::{Array1, Array2, array};
use ndarray_optim::{
    Adam, AdamW, AnyAlgorithm, Asgd, Momentum, Optimizer, RmsProp, Sgd, algorithm::Element,
};

/// The parameters after each of some steps with gradients that vary in size and sign.
fn run<A: Element>(config: impl Into<AnyAlgorithm>, scale: f64, grow: f64) -> Vec<Array1<A>> {
    let mut optimizer = Optimizer::<A>::new(config.into());
    let mut p = array![1.0, -2.0, 0.5, 4.0].mapv(A::from_f64);
    (1..=40)
        .map(|t| {
            let t = f64::from(t);
            let g = array![0.1 * t, -1.0, (t * 0.7).sin(), 1e-3] * scale * grow.powf(t);
            optimizer.update(&mut p, &g.mapv(A::from_f64)).unwrap();
            p.clone()
        })
        .collect()
}

fn same(a: Vec<Array1<f64>>, b: Vec<Array1<f64>>) {
    for (a, b) in a.iter().zip(&b) {
        assert_relative_eq!(a, b, max_relative = 1e-12, epsilon = 1e-13);
    }
    assert_ne!(a[0], a[39], "nothing moved");
}

#[test]
fn adamw_without_decay_is_adam() {
    let adam = Adam {
        lr: 0.1,
        ..Default::default()
    };
    same(
        run(adam, 1.0, 1.0),
        run(
            AdamW {
                lr: 0.1,
                weight_decay: 0.0,
                ..Default::default()
            },
            1.0,
            1.0,
        ),
    );
}

#[test]
fn adam_without_momentum_is_rmsprop_with_a_corrected_learning_rate() {
    // rmsprop has no bias correction: undo Adam's in lr and eps = 0.
    let mut adam = Adam {
        betas: (0.0, 0.99),
        eps: 0.0,
        ..Default::default()
    };
    let rmsprop = RmsProp {
        lr: 0.1,
        alpha: 0.99,
        eps: 0.0,
        ..Default::default()
    };
    let (mut a, mut b) = (array![1.0, -2.0], array![1.0, -2.0]);
    let (mut x, mut y) = (Optimizer::new(adam), Optimizer::new(rmsprop));
    for t in 1..=30 {
        adam.lr = 0.1 / (1.0 - 0.99_f64.powi(t)).sqrt();
        x.set_lr(adam.lr);
        let grad = array![0.1 * f64::from(t), -1.0];
        x.update(&mut a, &grad).unwrap();
        y.update(&mut b, &grad).unwrap();
        assert_relative_eq!(a, b, max_relative = 1e-12);
    }
}

#[test]
fn amsgrad_is_adam_while_gradients_grow_and_not_after() {
    let adam = Adam {
        lr: 0.1,
        betas: (0.0, 0.999),
        ..Default::default()
    };
    let ams = Adam {
        amsgrad: true,
        ..adam
    };
    let mut optimizers = (Optimizer::new(adam), Optimizer::new(ams));
    let (mut a, mut b) = (array![1.0], array![1.0]);
    for t in 1..=20 {
        let grad = array![f64::from(t)];
        optimizers.0.update(&mut a, &grad).unwrap();
        optimizers.1.update(&mut b, &grad).unwrap();
        assert_eq!(a, b);
    }
    optimizers.0.update(&mut a, &array![1e-3]).unwrap();
    optimizers.1.update(&mut b, &array![1e-3]).unwrap();
    assert_ne!(a, b);
}

#[test]
fn sgd_forms_meet() {
    let sgd = Sgd {
        lr: 0.01,
        ..Default::default()
    };
    let heavy = Sgd {
        momentum: 0.9,
        ..sgd
    };
    let tiny = 1e-300;
    same(
        run(sgd, 1.0, 1.0),
        run(
            Sgd {
                momentum: tiny,
                nesterov: true,
                ..sgd
            },
            1.0,
            1.0,
        ),
    );
    same(
        run(sgd, 1.0, 1.0),
        run(
            Sgd {
                momentum: tiny,
                ..sgd
            },
            1.0,
            1.0,
        ),
    );
    // The exponential average is torch's buffer with lr (1 - beta), from the second gradient on;
    // with a zero first gradient there is no difference at all.
    let mut a = Optimizer::new(heavy);
    let mut b = Optimizer::new(Momentum {
        lr: 0.1,
        beta: 0.9,
        ..Default::default()
    });
    let (mut p, mut q) = (array![1.0], array![1.0]);
    for t in 0..30 {
        let grad = array![f64::from(t) * 0.3 - f64::from(t % 3)];
        a.update(&mut p, &grad).unwrap();
        b.update(&mut q, &grad).unwrap();
        assert_relative_eq!(p, q, max_relative = 1e-12);
    }
    same(
        run(
            Momentum {
                lr: 0.01,
                beta: 0.0,
                bias_correction: true,
                ..Default::default()
            },
            1.0,
            1.0,
        ),
        run(sgd, 1.0, 1.0),
    );
}

#[test]
fn adam_with_eps_zero_does_not_see_the_scale_of_gradients() {
    let adam = Adam {
        lr: 0.1,
        eps: 0.0,
        ..Default::default()
    };
    for scale in [1e-6, 3.0, 1e9] {
        same(run(adam, 1.0, 1.0), run(adam, scale, 1.0));
    }
}

#[test]
fn maximizing_is_minimizing_the_negative() {
    for (a, b) in [
        (
            AnyAlgorithm::from(Adam {
                lr: 0.1,
                maximize: true,
                amsgrad: true,
                ..Default::default()
            }),
            AnyAlgorithm::from(Adam {
                lr: 0.1,
                amsgrad: true,
                ..Default::default()
            }),
        ),
        (
            RmsProp {
                maximize: true,
                centered: true,
                weight_decay: 0.1,
                ..Default::default()
            }
            .into(),
            RmsProp {
                centered: true,
                weight_decay: 0.1,
                ..Default::default()
            }
            .into(),
        ),
        (
            AdamW {
                maximize: true,
                ..Default::default()
            }
            .into(),
            AdamW::default().into(),
        ),
        (
            Sgd {
                momentum: 0.9,
                maximize: true,
                ..Default::default()
            }
            .into(),
            Sgd {
                momentum: 0.9,
                ..Default::default()
            }
            .into(),
        ),
    ] {
        for (a, b) in run::<f64>(a, 1.0, 1.0).iter().zip(run::<f64>(b, -1.0, 1.0)) {
            assert_eq!(a, b);
        }
    }
}

#[test]
fn rmsprop_places_eps_and_lr_as_asked() {
    // With eps = 0 and a constant lr the two forms are one.
    let torch = RmsProp {
        eps: 0.0,
        momentum: 0.8,
        centered: false,
        ..Default::default()
    };
    same(
        run(torch, 1.0, 1.0),
        run(
            RmsProp {
                eps_inside_sqrt: true,
                ..torch
            },
            1.0,
            1.0,
        ),
    );
    // After lr has changed, the buffer of optax's form still holds the old one.
    let config = RmsProp {
        lr: 1.0,
        alpha: 0.0,
        eps: 0.0,
        momentum: 0.5,
        ..Default::default()
    };
    for (eps_inside_sqrt, second) in [(false, 0.1 * 1.5), (true, 0.1 + 0.5)] {
        let mut rmsprop = Optimizer::new(RmsProp {
            eps_inside_sqrt,
            ..config
        });
        let mut p = array![0.0];
        rmsprop.update(&mut p, &array![2.0]).unwrap();
        rmsprop.set_lr(0.1);
        rmsprop.update(&mut p, &array![2.0]).unwrap();
        assert_relative_eq!(p[0], -(1.0 + second), max_relative = 1e-14);
    }
}

#[test]
fn large_and_tiny_gradients_stay_finite_in_f32() {
    for config in AnyAlgorithm::all() {
        for scale in [1e18_f32, 1e-30] {
            let mut p = array![[1.0_f32]];
            let mut optimizer = Optimizer::new(config.clone());
            for _ in 0..10 {
                optimizer
                    .update_with_loss(&mut p, &array![[scale]], 1.0)
                    .unwrap();
            }
            assert!(p[[0, 0]].is_finite(), "{} at {scale}", config.name());
        }
    }
}

/// The golden trajectories of asgd compare the parameters; this is the average, from torch 2.11.
#[test]
fn asgd_averages_from_t0_on() {
    let mut asgd = Optimizer::new(Asgd {
        lr: 0.01,
        t0: 2.0,
        ..Default::default()
    });
    let mut p = array![1.0, -2.0, 0.5, 4.0];
    for t in 1..=5 {
        let t = f64::from(t);
        asgd.update(
            &mut p,
            &array![0.1 * t, -1.0, if t % 2.0 == 0.0 { 0.5 } else { -0.5 }, 1e-3],
        )
        .unwrap();
    }
    let average = [
        0.9874955375138822,
        -1.9549911400275681,
        0.5024977400070327,
        3.9999370001959993,
    ];
    assert_relative_eq!(
        asgd.state("variable")[0].1.to_owned(),
        Array1::from(average.to_vec()).into_dyn(),
        max_relative = 1e-14
    );
    let last = array![
        0.9849950500173285,
        -1.949990175034403,
        0.5049974825088103,
        3.999930000244999
    ];
    assert_relative_eq!(p, last, max_relative = 1e-14);
}

/// LOGIT: 200 points in 5 dimensions from sines, mean logistic loss + 0.005 |w|^2; and LINREG:
/// least squares.
struct Problem {
    x: Array2<f64>,
    y: Array1<f64>,
    logistic: bool,
    optimum: f64,
}

impl Problem {
    fn new(logistic: bool) -> Self {
        let x = Array2::from_shape_fn((200, 5), |(i, j)| {
            let (i, j) = ((i + 1) as f64, (j + 1) as f64);
            (0.7 * i * j).sin() + 0.1 * j
        });
        let noise = Array1::from_shape_fn(200, |i| 0.5 * (3.0 * (i + 1) as f64).cos());
        let s = x.dot(&array![1.0, -2.0, 0.5, 0.8, -1.2]) + noise;
        if logistic {
            Problem {
                x,
                y: s.mapv(|s| f64::from(s > 0.0)),
                logistic,
                optimum: 0.2861285098195838,
            }
        } else {
            Problem {
                x,
                y: s,
                logistic,
                optimum: 0.062361893841852395,
            }
        }
    }

    fn gap_and_grad(&self, w: &Array1<f64>) -> (f64, Array1<f64>) {
        let (z, n) = (self.x.dot(w), self.y.len() as f64);
        if self.logistic {
            let loss = z
                .iter()
                .zip(&self.y)
                .map(|(z, y)| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p())
                .sum::<f64>()
                / n;
            let r = (z.mapv(|z| 1.0 / (1.0 + (-z).exp())) - &self.y) / n;
            (
                loss + 0.005 * w.dot(w) - self.optimum,
                self.x.t().dot(&r) + 0.01 * w,
            )
        } else {
            let r = z - &self.y;
            (r.dot(&r) / (2.0 * n) - self.optimum, self.x.t().dot(&r) / n)
        }
    }
}

/// Gaps to the optimum after 10 and 100 steps and the first steps with a gap of 1e-2, 1e-4 and
/// 1e-6: fingerprints of torch's rules (torch 2.11, f64), measured for this project.
#[test]
fn runs_on_real_problems_have_the_fingerprints_of_torch() {
    let sgd = Sgd {
        lr: 0.5,
        ..Default::default()
    };
    let momentum = Sgd {
        lr: 0.1,
        momentum: 0.9,
        ..Default::default()
    };
    let rows: [(AnyAlgorithm, bool, f64, f64, [usize; 3]); 8] = [
        (
            sgd.into(),
            true,
            1.304_009_630_0e-1,
            2.306_995_718_1e-3,
            [57, 213, 390],
        ),
        (
            momentum.into(),
            true,
            1.287_197_611_9e-1,
            1.114_828_741_2e-5,
            [26, 64, 130],
        ),
        (
            momentum.into(),
            false,
            2.056_419_919_6e-1,
            4.294_037_236_2e-5,
            [22, 78, 132],
        ),
        (
            Sgd {
                nesterov: true,
                ..momentum
            }
            .into(),
            true,
            1.160_541_048_4e-1,
            2.850_076_822_2e-6,
            [25, 62, 73],
        ),
        (
            RmsProp::default().into(),
            true,
            2.245_151_299_6e-1,
            4.299_687_853_1e-2,
            [204, 416, 525],
        ),
        (
            RmsProp::default().into(),
            false,
            8.940_006_616_0e-1,
            5.482_040_788_1e-2,
            [157, 264, 333],
        ),
        (
            Adam {
                lr: 0.05,
                ..Default::default()
            }
            .into(),
            true,
            2.185_949_491_1e-1,
            1.001_889_535_7e-3,
            [61, 136, 194],
        ),
        (
            Adam {
                lr: 0.05,
                ..Default::default()
            }
            .into(),
            false,
            8.600_714_245_4e-1,
            5.120_762_130_6e-5,
            [51, 97, 144],
        ),
    ];
    for (config, logistic, at_10, at_100, hits) in rows {
        let problem = Problem::new(logistic);
        let mut optimizer = Optimizer::new(config.clone());
        let mut w = Array1::zeros(5);
        let mut gaps = vec![problem.gap_and_grad(&w).0];
        for _ in 0..600 {
            let (_, grad) = problem.gap_and_grad(&w);
            optimizer.update(&mut w, &grad).unwrap();
            gaps.push(problem.gap_and_grad(&w).0);
        }
        assert_relative_eq!(gaps[10], at_10, max_relative = 1e-9);
        assert_relative_eq!(gaps[100], at_100, max_relative = 1e-9, epsilon = 1e-14);
        let hit = [1e-2, 1e-4, 1e-6].map(|gap| gaps.iter().position(|&g| g <= gap).unwrap());
        assert_eq!(hit, hits, "{config:?} logistic {logistic}");
    }
}
