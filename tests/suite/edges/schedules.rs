//! Hyper-parameters that change during a run.
use crate::common::{Case, F64, numbers, worst_error_between};
use ndarray::{Array1, Array2, ArrayD, Axis, array};
use ndarray_optim::{
    AdaBelief, AdaBound, Adam, AdamW, Adamax, AnyAlgorithm, AnySchedule, AnyWrap, Compose,
    DAdaptAdamW, Error, Ftrl, Group, LaProp, Lamb, Lion, Optimizer, Params, Prodigy,
    ReduceOnPlateau, ReduceOnPlateauConfig, RmsProp, Rprop, Sgd, StateDict,
    algorithm::{Field, Interval},
    schedule::{
        CosineDecay, DecayShape, Driven, InverseSqrt, Linear, Noam, OneCycle, PlateauMode,
        Schedules, ThresholdMode, WarmupCosine, WarmupStableDecay,
    },
    wrap::{ClipByGlobalNorm, ClipByNorm, ScaleGradient, WeightDecay},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// An optimizer of AdamW with a group `small`, whose rate is a tenth, and a group `bias` without
/// weight decay.
fn grouped(lr: f64) -> Optimizer<f64> {
    let adamw = |lr, weight_decay| AdamW {
        lr,
        weight_decay,
        ..Default::default()
    };
    let mut optimizer = Optimizer::new(adamw(lr, 0.1));
    let small = Group::new("small", ["small"], adamw(0.1 * lr, 0.1));
    let bias = Group::new("bias", ["bias"], adamw(lr, 0.0));
    optimizer.add_group(small).unwrap();
    optimizer.add_group(bias).unwrap();
    optimizer
}

fn rates(optimizer: &Optimizer<f64>) -> [f64; 3] {
    [
        optimizer.lr(),
        optimizer.group_lr("small").unwrap(),
        optimizer.group_lr("bias").unwrap(),
    ]
}

fn close(found: [f64; 3], expected: [f64; 3]) -> bool {
    std::iter::zip(found, expected).all(|(x, y)| (x - y).abs() <= 1e-15 * y.abs())
}

#[test]
fn a_group_with_a_tenth_of_the_rate_keeps_a_tenth_under_a_schedule() {
    let schedule = WarmupCosine::new(0.0, 1e-3, 10, 100);
    let schedules = Schedules::new().drive("lr", schedule.clone());
    let mut optimizer = grouped(1e-3);
    // Any order of steps, and from 0 up again.
    for step in (0..100).chain([0, 50, 5, 100, 3]) {
        schedules.apply(&mut optimizer, step).unwrap();
        let value = AnySchedule::from(schedule.clone()).value(step);
        let found = rates(&optimizer);
        assert!(
            close(found, [value, 0.1 * value, value]),
            "{step}: {found:?}"
        );
    }
    // Another height of the schedule than the own rate.
    let mut optimizer = grouped(0.5);
    Schedules::new()
        .drive("lr", 2.0)
        .apply(&mut optimizer, 0)
        .unwrap();
    assert!(close(rates(&optimizer), [2.0, 0.2, 2.0]));
}

#[test]
fn a_group_without_weight_decay_stays_without_under_a_schedule() {
    let rising = Linear {
        start_factor: 0.0,
        total_steps: 10,
        ..Linear::new(0.4)
    };
    let schedules = Schedules::new().drive("weight_decay", rising);
    let mut optimizer = grouped(1e-3);
    for step in [0, 5, 10, 0, 10] {
        schedules.apply(&mut optimizer, step).unwrap();
        let decay = [None, Some("small"), Some("bias")]
            .map(|group| *optimizer.number_mut(group, "weight_decay").unwrap());
        let value = 0.4 * step as f64 / 10.0;
        assert!(close(decay, [value, value, 0.0]), "{step}: {decay:?}");
    }
    // Where there is none outside of groups, the first group that has some is the measure.
    let mut optimizer = Optimizer::<f64>::new(Adam::default());
    optimizer
        .add_group(Group::new("matrices", ["w"], AdamW::default()))
        .unwrap();
    schedules.apply(&mut optimizer, 10).unwrap();
    assert_eq!(*optimizer.number_mut(None, "weight_decay").unwrap(), 0.0);
    let decay = optimizer.number_mut(Some("matrices"), "weight_decay");
    assert_eq!(*decay.unwrap(), 0.4);
    // With one group the value is that of the schedule, whatever it was before.
    let mut adam = Optimizer::<f64>::new(Adam::default());
    schedules.apply(&mut adam, 10).unwrap();
    assert_eq!(*adam.number_mut(None, "weight_decay").unwrap(), 0.4);
}

#[test]
fn other_hyper_parameters_and_schedules_of_one_group_are_as_they_are() {
    let mut optimizer = grouped(1e-3);
    *optimizer.number_mut(Some("small"), "betas[0]").unwrap() = 0.5;
    Schedules::new()
        .drive("lr", 1e-2)
        .drive("betas[0]", 0.8)
        .drive_group("small", "lr", 3e-5)
        .apply(&mut optimizer, 0)
        .unwrap();
    assert!(close(rates(&optimizer), [1e-2, 3e-5, 1e-2]));
    assert_eq!(
        *optimizer.number_mut(Some("small"), "betas[0]").unwrap(),
        0.8
    );
    // The schedule of one group has not become its own rate.
    Schedules::new()
        .drive("lr", 1e-2)
        .apply(&mut optimizer, 0)
        .unwrap();
    assert!(close(rates(&optimizer), [1e-2, 1e-3, 1e-2]));
}

#[test]
fn a_factor_multiplies_the_own_rate_of_every_group() {
    // torch: LambdaLR with the lambda t -> cosine(t).
    let cosine = CosineDecay::new(1.0, 10);
    let schedules = Schedules::new().scale("lr", cosine.clone());
    let mut optimizer = grouped(1e-3);
    for step in 0..=12 {
        schedules.apply(&mut optimizer, step).unwrap();
        let factor = AnySchedule::from(cosine.clone()).value(step);
        let expected = [1e-3 * factor, 1e-4 * factor, 1e-3 * factor];
        assert!(close(rates(&optimizer), expected), "{step}");
    }
    let text = serde_json::to_string(&schedules).unwrap();
    let read: Schedules = serde_json::from_str(&text).unwrap();
    assert_eq!(read, schedules);
    let old = r#"[{"field": "lr", "schedule": {"name": "constant", "lr": 0.1}}]"#;
    let read: Schedules = serde_json::from_str(old).unwrap();
    assert!(matches!(read.driven[..], [Driven { scale: false, .. }]));
}

#[test]
fn groups_have_the_rates_of_torch_with_a_factor_of_one_schedule() {
    // torch 2.15.0, groups with lr 0.5 and 0.02: OneCycleLR with max_lr [0.5, 0.02] and 10 steps;
    // LambdaLR with the lambda t -> 1 / (1 + t / 4).
    let one_cycle = [
        [0.020000000000000018, 0.0007999999999999986],
        [0.26, 0.0104],
        [0.5, 0.02],
        [0.47524231600673683, 0.019009692640269475],
        [0.40587282697488153, 0.016234913078995262],
        [0.30563101096814466, 0.012225240438725785],
        [0.19437098903185537, 0.007774839561274216],
        [0.09412917302511849, 0.00376516692100474],
        [0.024759683993263143, 0.0009903873597305257],
        [2e-06, 8e-08],
    ];
    let lambda = [
        [0.5, 0.02],
        [0.4, 0.016],
        [1.0 / 3.0, 0.04 / 3.0],
        [2.0 / 7.0, 0.08 / 7.0],
    ];
    // A function of the program is a schedule of one number in each step.
    let inverse = |t: u64| AnySchedule::from(1.0 / (1.0 + t as f64 / 4.0));
    let cycle = |_| AnySchedule::from(OneCycle::new(1.0, 10));
    let schedules: [&dyn Fn(u64) -> AnySchedule; 2] = [&cycle, &inverse];
    for (schedule, expected) in schedules.into_iter().zip([&one_cycle[..], &lambda]) {
        let mut optimizer = Optimizer::<f64>::new(AdamW::new(0.5));
        for (t, expected) in expected.iter().enumerate() {
            // The second group comes late, and has its part of the schedule from then on.
            if t == 1 {
                optimizer
                    .add_group(Group::new("second", ["q"], AdamW::new(0.02)))
                    .unwrap();
            }
            // Each step is that of a resumed run.
            let state = optimizer.state_dict();
            optimizer = Optimizer::from_state(state).unwrap();
            let schedules = Schedules::new().scale("lr", schedule(t as u64));
            schedules.apply(&mut optimizer, t as u64).unwrap();
            let close = |x: f64, y: f64| (x - y).abs() < 1e-15;
            assert!(
                close(optimizer.lr(), expected[0]),
                "{t}: {} {expected:?}",
                optimizer.lr()
            );
            if t >= 1 {
                let lr = optimizer.group_lr("second").unwrap();
                assert!(close(lr, expected[1]), "{t}: {lr} {expected:?}");
            }
        }
    }
}

#[test]
fn a_plateau_multiplies_the_rate_of_every_group_as_in_torch() {
    // torch 2.15.0, ReduceLROnPlateau with factor 0.25, patience 1, cooldown 1 and eps 0 on groups
    // with lr 0.5 and 0.02.
    let metrics = [
        3.0, 2.0, 2.0, 2.5, 1.9, 1.9, 1.9, 1.9, 1.9, 1.9, 0.5, 0.5, 0.5, 0.5,
    ];
    let expected = [
        [0.5, 0.02],
        [0.5, 0.02],
        [0.5, 0.02],
        [0.5, 0.02],
        [0.125, 0.005],
        [0.125, 0.005],
        [0.125, 0.005],
        [0.03125, 0.00125],
        [0.03125, 0.00125],
        [0.03125, 0.00125],
        [0.0078125, 0.0003125],
        [0.0078125, 0.0003125],
        [0.0078125, 0.0003125],
        [0.001953125, 7.8125e-05],
        [0.001953125, 7.8125e-05],
    ];
    let config = ReduceOnPlateauConfig {
        factor: 0.25,
        patience: 1,
        cooldown: 1,
        eps: 0.0,
        ..ReduceOnPlateauConfig::new(1.0)
    };
    let mut optimizer = Optimizer::<f64>::new(AdamW::new(0.5));
    optimizer
        .add_group(Group::new("second", ["q"], AdamW::new(0.02)))
        .unwrap();
    let plateau = ReduceOnPlateau::new(config).unwrap();
    let mut schedules = Schedules::new().plateau("lr", plateau.clone());
    // On top of a schedule of all groups and one of a group.
    let mut both = Schedules::new()
        .drive("lr", AnySchedule::from(Linear::new(0.5)))
        .drive_group("second", "lr", 0.3)
        .plateau("lr", plateau);
    for (t, expected) in expected.iter().enumerate() {
        schedules.apply(&mut optimizer, t as u64).unwrap();
        let rates = [optimizer.lr(), optimizer.group_lr("second").unwrap()];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-16, "{t}: {rates:?} {expected}");
        }
        let mut other = optimizer.clone();
        both.apply(&mut other, t as u64).unwrap();
        let factor = expected[0] / 0.5;
        let linear = AnySchedule::from(Linear::new(0.5)).value(t as u64);
        assert_eq!(other.lr(), factor * linear);
        assert_eq!(other.group_lr("second").unwrap(), factor * 0.3);
        let Some(&metric) = metrics.get(t) else { break };
        schedules.observe(metric);
        both.observe(metric);
        // Saved after each epoch.
        let text = serde_json::to_string(&schedules).unwrap();
        schedules = serde_json::from_str(&text).unwrap();
        let state = optimizer.state_dict();
        optimizer = Optimizer::from_state(state).unwrap();
    }
    // A later entry of the same hyper-parameter wins here too, and a wrong name is an error.
    both.drive("lr", 0.125).apply(&mut optimizer, 0).unwrap();
    assert_eq!(optimizer.lr(), 0.125);
    let plateau = ReduceOnPlateau::new(ReduceOnPlateauConfig::new(1.0)).unwrap();
    let wrong = Schedules::new()
        .plateau("momentum", plateau)
        .apply(&mut optimizer, 0);
    assert!(matches!(wrong, Err(Error::UnknownField { .. })));
}

#[test]
fn own_rates_outlive_an_interruption_at_any_step() {
    let schedules = Schedules::new()
        .drive("lr", WarmupCosine::new(0.0, 1e-3, 3, 8))
        .drive("weight_decay", Linear::new(0.3));
    let (mut whole, mut parted) = (grouped(1e-3), grouped(1e-3));
    let grad = array![0.5, -1.0];
    let [mut a, mut b] = [[(); 3], [(); 3]].map(|all| all.map(|()| array![1.0, 2.0]));
    for step in 0..10 {
        for (optimizer, params) in [(&mut whole, &mut a), (&mut parted, &mut b)] {
            schedules.apply(optimizer, step).unwrap();
            let mut lent = Params::new();
            for (name, param) in ["w", "small", "bias"].iter().zip(params) {
                lent.add(*name, param, &grad).unwrap();
            }
            optimizer.step(lent).unwrap();
        }
        // From the file alone, or into the optimizer of a new program, whose rates are the own
        // ones.
        let text = serde_json::to_string(&parted.state_dict()).unwrap();
        let state: StateDict = serde_json::from_str(&text).unwrap();
        if step % 2 == 0 {
            parted = Optimizer::from_state(state).unwrap();
        } else {
            parted = grouped(1e-3);
            parted.load_state_dict(state).unwrap();
        }
        assert_eq!(rates(&parted), rates(&whole));
    }
    assert_eq!(a, b);
}

#[test]
fn own_rates_can_be_set_before_and_between_schedules_and_groups_can_come_late() {
    let mut optimizer = grouped(1e-3);
    optimizer.set_group_lr("small", 2e-4).unwrap();
    let schedules = Schedules::new().drive("lr", 1e-2);
    schedules.apply(&mut optimizer, 0).unwrap();
    assert!(close(rates(&optimizer), [1e-2, 2e-3, 1e-2]));
    // In between: a third of the rate outside of groups, which is 1e-3.
    optimizer.set_group_lr("small", 1e-3 / 3.0).unwrap();
    optimizer.set_group_lr("bias", 0.0).unwrap();
    optimizer
        .add_group(Group::new("late", ["late"], Lion::new(5e-4)))
        .unwrap();
    schedules.apply(&mut optimizer, 1).unwrap();
    assert!(close(rates(&optimizer), [1e-2, 1e-2 / 3.0, 1e-2]));
    assert!((optimizer.group_lr("late").unwrap() - 5e-3).abs() < 1e-17);
}

#[test]
fn a_rate_of_zero_outside_of_groups_has_no_proportion() {
    let mut optimizer = grouped(0.0);
    let schedules = Schedules::new().drive("lr", 1e-2);
    // All are 0: equal.
    schedules.apply(&mut optimizer, 0).unwrap();
    assert_eq!(rates(&optimizer), [1e-2; 3]);

    let mut optimizer = grouped(0.0);
    optimizer.set_group_lr("small", 1e-4).unwrap();
    let before = optimizer.state_dict();
    let error = Schedules::new()
        .drive("weight_decay", 0.5)
        .drive("lr", 1e-2)
        .apply(&mut optimizer, 0)
        .unwrap_err();
    assert!(matches!(error, Error::HyperParameter { ref field, .. } if field == "lr"));
    assert_eq!(optimizer.state_dict(), before);
}

/// The rates of a plateau for these metrics.
fn observed(config: &ReduceOnPlateauConfig, metrics: &[f64]) -> Vec<f64> {
    let mut plateau = ReduceOnPlateau::new(config.clone()).unwrap();
    metrics
        .iter()
        .map(|&metric| plateau.observe(metric))
        .collect()
}

#[test]
fn a_negative_metric_that_stays_or_gets_worse_lowers_the_rate() {
    let config = |mode| ReduceOnPlateauConfig {
        mode,
        patience: 2,
        threshold: 0.1,
        ..ReduceOnPlateauConfig::new(1.0)
    };
    let (min, max) = (config(PlateauMode::Min), config(PlateauMode::Max));
    let lowered = vec![1.0, 1.0, 1.0, 0.1];
    for metrics in [
        [1.0; 4],
        [-1.0; 4],
        [-1.0, -0.99, -0.98, -0.97],
        [-1.0, -1.05, -1.09, -1.0],
    ] {
        assert_eq!(observed(&min, &metrics), lowered, "{metrics:?}");
    }
    for metrics in [
        [1.0; 4],
        [-1.0; 4],
        [-1.0, -1.01, -1.02, -1.03],
        [-1.0, -0.95, -0.91, -1.0],
    ] {
        assert_eq!(observed(&max, &metrics), lowered, "{metrics:?}");
    }
    // Better by more than a tenth of its size.
    assert_eq!(observed(&min, &[-1.0, -1.2, -1.5, -1.7]), [1.0; 4]);
    assert_eq!(observed(&max, &[-1.0, -0.8, -0.7, -0.6]), [1.0; 4]);
}

#[test]
fn minimizing_a_metric_is_maximizing_its_negative() {
    for seed in 0..200 {
        let metrics = numbers::<f64>(&[40], seed);
        let negative = metrics.mapv(|x| -x);
        for threshold_mode in [ThresholdMode::Rel, ThresholdMode::Abs] {
            let config = |mode| ReduceOnPlateauConfig {
                mode,
                threshold_mode,
                patience: seed % 4,
                cooldown: seed % 3,
                threshold: 0.2,
                ..ReduceOnPlateauConfig::new(1.0)
            };
            assert_eq!(
                observed(&config(PlateauMode::Min), metrics.as_slice().unwrap()),
                observed(&config(PlateauMode::Max), negative.as_slice().unwrap()),
            );
        }
    }
}

#[test]
fn a_stable_phase_without_decay_stays_level() {
    for decay in [DecayShape::Linear, DecayShape::Cosine, DecayShape::Sqrt] {
        let schedule = AnySchedule::from(WarmupStableDecay {
            decay,
            ..WarmupStableDecay::new(0.1, 4, 6, 0)
        });
        schedule.validate().unwrap();
        assert_eq!(schedule.value(2), 0.05);
        for step in [4, 9, 10, 11, 1000, u64::MAX] {
            assert_eq!(schedule.value(step), 0.1, "{step}");
        }
    }
}

#[test]
fn the_inverse_root_of_the_step_is_noam_for_a_width_of_one() {
    let noam = AnySchedule::from(Noam::new(1, 4));
    let inverse = AnySchedule::from(InverseSqrt::new(1.0, 4));
    for t in 5..100 {
        let root = 1.0 / f64::from(t).sqrt();
        assert!((noam.value(t as u64 - 1) - root).abs() < 1e-15);
        assert!((inverse.value(t as u64) - 2.0 * root).abs() < 1e-15);
    }
}

/// The gradients of the quadratics that the authors' packages minimized for the numbers below.
fn slope(i: usize, x: &Array1<f64>) -> Array1<f64> {
    let (target, curvature) = (array![3.0, -1.0, 0.5], array![1.0, 10.0, 0.1]);
    curvature * (x - target * (1.0 + i as f64))
}

/// Runs 20 steps of two parameters; `gradient` says whether the second has one in a step.
fn estimated(optimizer: &mut Optimizer<f64>, gradient: impl Fn(usize) -> bool) -> [Array1<f64>; 2] {
    let mut x = [array![1.0, -2.0, 0.5], array![0.5, -1.0, 0.25]];
    for t in 0..20 {
        let grads = [slope(0, &x[0]), slope(1, &x[1])];
        let [a, b] = &mut x;
        let mut params = Params::new();
        params.add("a", a, &grads[0]).unwrap();
        let second = gradient(t).then_some(&*grads[1]);
        params.add_optional("b", b, second).unwrap();
        optimizer.step(params).unwrap();
    }
    x
}

fn of_groups(one: impl Into<AnyAlgorithm>, other: impl Into<AnyAlgorithm>) -> Optimizer<f64> {
    let mut optimizer = Optimizer::new(one.into());
    optimizer
        .add_group(Group::new("second", ["b"], other.into()))
        .unwrap();
    optimizer
}

fn prodigy() -> Prodigy {
    Prodigy {
        betas: (0.9, 0.99),
        d0: 1e-3,
        bias_correction: false,
        ..Default::default()
    }
}

fn dadapt() -> DAdaptAdamW {
    DAdaptAdamW {
        betas: (0.9, 0.99),
        d0: 1e-3,
        bias_correction: false,
        ..Default::default()
    }
}

/// The estimates d of all groups.
fn estimates(optimizer: &Optimizer<f64>) -> Vec<f64> {
    let groups = optimizer.state_dict().groups;
    groups
        .iter()
        .map(|group| group.scalars.unwrap()[0])
        .collect()
}

#[test]
fn groups_of_prodigy_and_d_adaptation_share_the_estimate_of_their_authors() {
    let corrected = Prodigy {
        bias_correction: true,
        ..prodigy()
    };
    let dadapt_corrected = DAdaptAdamW {
        bias_correction: true,
        ..dadapt()
    };
    let decay = Prodigy {
        weight_decay: 0.1,
        ..prodigy()
    };
    let still = Prodigy {
        lr: 0.0,
        ..prodigy()
    };
    let small = DAdaptAdamW {
        lr: 0.1,
        ..dadapt()
    };
    let dadapt_still = DAdaptAdamW {
        lr: 0.0,
        ..dadapt()
    };
    let always = |_| true;
    let late = |t| t >= 5;
    let thawed = |t| !(5..10).contains(&t);
    type Case = (
        &'static str,
        Optimizer<f64>,
        fn(usize) -> bool,
        f64,
        [[f64; 3]; 2],
    );
    // d and the parameters after 20 steps of prodigyopt 1.1.2 and dadaptation 3.2, in f64, with two
    // parameter groups. `layer_scale` = 0.1 is a tenth of the learning rate here.
    let cases: [Case; 11] = [
        (
            "prodigy",
            of_groups(prodigy(), prodigy()),
            always,
            0.6290386492941846,
            [
                [2.526144688052867, -0.8687928547991248, 0.5],
                [8.38599694351883, -2.131207145200875, 1.23544419792188],
            ],
        ),
        (
            "prodigy with bias correction",
            of_groups(corrected, corrected),
            always,
            0.6050210403554125,
            [
                [2.585262193219637, -0.4929957054584198, 0.5],
                [2.0400273040880066, -2.5070042945415802, 1.3928070448026766],
            ],
        ),
        (
            "prodigy with weight decay in one group",
            of_groups(prodigy(), decay),
            always,
            0.5908391280835638,
            [
                [2.7658481584072616, -0.9256136134163248, 0.5],
                [6.879158795959723, -2.177342572693865, 1.2803153888146042],
            ],
        ),
        (
            "prodigy, late",
            of_groups(prodigy(), prodigy()),
            late,
            0.5983344563587647,
            [
                [3.273392890422225, -1.233161831999277, 0.5],
                [7.381300314656984, -1.7385947881120754, 1.1681046698775128],
            ],
        ),
        (
            "prodigy, frozen for a while",
            of_groups(prodigy(), prodigy()),
            thawed,
            0.49277325946809925,
            [
                [3.37083285282989, -1.3289671993667096, 0.5],
                [6.510778726412896, -1.5009690888378748, 0.7666805217876648],
            ],
        ),
        (
            "prodigy, still",
            of_groups(prodigy(), still),
            always,
            0.5509709740725087,
            [
                [2.8597902611516397, -1.1092935443906153, 0.5],
                [0.5, -1.0, 0.25],
            ],
        ),
        (
            "dadapt",
            of_groups(dadapt(), dadapt()),
            always,
            3.983018688819938,
            [
                [3.606153976843215, -0.8216761435531408, 0.5],
                [4.979937471874024, -2.1783238564468594, 0.8699252011164986],
            ],
        ),
        (
            "dadapt with bias correction",
            of_groups(dadapt_corrected, dadapt_corrected),
            always,
            3.9368765734666744,
            [
                [3.5799503444383376, -1.2374853596060889, 0.5],
                [6.038387241072069, -1.762514640393911, 0.836290962014107],
            ],
        ),
        (
            "dadapt, a tenth",
            of_groups(dadapt(), small),
            always,
            7.877612326296517,
            [
                [2.4498541972188104, -1.1793572689554415, 0.5],
                [5.424065420536319, -2.083642806746907, 0.8351176905372366],
            ],
        ),
        (
            "dadapt, late",
            of_groups(dadapt(), dadapt()),
            late,
            4.1478685745506105,
            [
                [3.602395600874882, -0.7457481726643407, 0.5],
                [3.8478327788688116, -2.006197242130721, 0.7993050241222497],
            ],
        ),
        (
            "dadapt, still",
            of_groups(dadapt(), dadapt_still),
            always,
            2.068225248874196,
            [
                [2.53692182151084, -1.010050990549746, 0.5],
                [0.5, -1.0, 0.25],
            ],
        ),
    ];
    for (what, mut optimizer, gradient, d, expected) in cases {
        let x = estimated(&mut optimizer, gradient);
        for found in estimates(&optimizer) {
            assert!((found / d - 1.0).abs() < 1e-12, "{what}: {found}, not {d}");
        }
        for (x, y) in x.iter().flatten().zip(expected.iter().flatten()) {
            assert!(
                (x - y).abs() <= F64 * y.abs().max(1.0),
                "{what}: {x}, not {y}"
            );
        }
    }
}

#[test]
fn a_frozen_group_keeps_no_estimate_of_its_own() {
    let mut optimizer = of_groups(prodigy(), prodigy());
    let mut x = [array![1.0, -2.0, 0.5], array![0.5, -1.0, 0.25]];
    for t in 0..20 {
        optimizer.freeze("second", (5..10).contains(&t)).unwrap();
        let grads = [slope(0, &x[0]), slope(1, &x[1])];
        let [a, b] = &mut x;
        let mut params = Params::new();
        params.add("a", a, &grads[0]).unwrap();
        params.add("b", b, &grads[1]).unwrap();
        optimizer.step(params).unwrap();
    }
    // As where the second has no gradient in these steps.
    let mut other = of_groups(prodigy(), prodigy());
    let y = estimated(&mut other, |t| !(5..10).contains(&t));
    assert_eq!((x, estimates(&optimizer)), (y, estimates(&other)));
}

#[test]
fn a_group_that_is_added_late_takes_over_the_estimate() {
    let mut optimizer = Optimizer::new(prodigy());
    let mut x = [array![1.0, -2.0, 0.5], array![0.5, -1.0, 0.25]];
    for t in 0..20 {
        let grads = [slope(0, &x[0]), slope(1, &x[1])];
        let [a, b] = &mut x;
        let mut params = Params::new();
        params.add("a", a, &grads[0]).unwrap();
        if t == 5 {
            optimizer
                .add_group(Group::new("second", ["b"], prodigy()))
                .unwrap();
        }
        if t >= 5 {
            params.add("b", b, &grads[1]).unwrap();
        }
        optimizer.step(params).unwrap();
    }
    // As where it was there from the start, without a gradient, as in the authors' package.
    let mut other = of_groups(prodigy(), prodigy());
    let y = estimated(&mut other, |t| t >= 5);
    assert_eq!((x, estimates(&optimizer)), (y, estimates(&other)));
}

#[test]
fn equal_groups_are_one_group_to_the_bit_whatever_wraps_them() {
    for (alone, wrapped) in [
        (AnyAlgorithm::from(prodigy()), AnyAlgorithm::from(prodigy())),
        (dadapt().into(), dadapt().into()),
    ] {
        let expected = estimated(&mut Optimizer::new(alone.clone()), |_| true);
        // Wrappers that do nothing, one of which transforms whole arrays before the sweep.
        let far: AnyWrap = ClipByNorm { max_norm: 1e300 }.into();
        let one: AnyWrap = ScaleGradient { factor: 1.0 }.into();
        for (first, second) in [
            (vec![], vec![]),
            (vec![], vec![far.clone()]),
            (vec![far.clone()], vec![]),
            (
                vec![far.clone(), one.clone()],
                vec![one.clone(), far.clone()],
            ),
            (vec![one.clone()], vec![]),
        ] {
            let mut optimizer = of_groups(
                alone.clone().in_wrappers(first.clone()),
                wrapped.clone().in_wrappers(second.clone()),
            );
            let found = estimated(&mut optimizer, |_| true);
            assert_eq!(found, expected, "{first:?} {second:?}");
        }
    }
}

#[test]
fn separate_estimates_are_an_option() {
    let apart = Prodigy {
        per_group: true,
        ..prodigy()
    };
    let mut optimizer = of_groups(apart, apart);
    let found = estimated(&mut optimizer, |_| true);
    let mut alone = [Optimizer::new(prodigy()), Optimizer::new(prodigy())];
    let mut x = [array![1.0, -2.0, 0.5], array![0.5, -1.0, 0.25]];
    for _ in 0..20 {
        for (i, (optimizer, x)) in alone.iter_mut().zip(&mut x).enumerate() {
            let grad = slope(i, x);
            optimizer.update(x, &grad).unwrap();
        }
    }
    assert_eq!(found, x);
    let [a, b] = estimates(&optimizer)[..] else {
        panic!("two groups");
    };
    assert!(a != b);
}

#[test]
fn a_shared_estimate_needs_the_same_averages() {
    let other = Prodigy {
        betas: (0.9, 0.9),
        ..prodigy()
    };
    let mut optimizer = of_groups(prodigy(), other);
    let (mut a, mut b, grad) = (array![1.0], array![1.0], array![1.0]);
    let mut params = Params::new();
    params.add("a", &mut a, &grad).unwrap();
    params.add("b", &mut b, &grad).unwrap();
    let Err(Error::InGroup { group, source }) = optimizer.step(params) else {
        panic!("accepted");
    };
    assert_eq!(group, "second");
    assert!(matches!(*source, Error::HyperParameter { ref field, .. } if field == "betas[1]"));
    assert_eq!((a[0], b[0], optimizer.steps("a")), (1.0, 1.0, 0));
    // A group that has no parameters does not matter.
    let mut params = Params::new();
    params.add("a", &mut a, &grad).unwrap();
    optimizer.step(params).unwrap();
}

#[test]
fn shared_estimates_outlive_an_interruption_at_any_step() {
    let new = || {
        of_groups(
            prodigy(),
            Prodigy {
                lr: 0.5,
                ..prodigy()
            },
        )
    };
    let (mut whole, mut parted) = (new(), new());
    let [mut x, mut y] = [(), ()].map(|()| [array![1.0, -2.0, 0.5], array![0.5, -1.0, 0.25]]);
    for step in 0..12 {
        for (optimizer, [a, b]) in [(&mut whole, &mut x), (&mut parted, &mut y)] {
            let grads = [slope(0, a), slope(1, b)];
            let mut params = Params::new();
            params.add("a", a, &grads[0]).unwrap();
            // Late.
            params
                .add_optional("b", b, (step > 3).then_some(&*grads[1]))
                .unwrap();
            optimizer.step(params).unwrap();
        }
        let bytes = parted.state_dict().to_bytes().unwrap();
        parted = Optimizer::from_state(StateDict::from_bytes(&bytes).unwrap()).unwrap();
    }
    assert_eq!((x, estimates(&whole)), (y, estimates(&parted)));
}

#[test]
fn the_bounds_of_adabound_follow_a_schedule() {
    // lr / 10 from step 2501 on; a constant gradient, so that a step is about the upper bound.
    let adabound = AdaBound {
        gamma: 1.0,
        ..AdaBound::new(1e-3)
    };
    let mut optimizer = Optimizer::<f64>::new(adabound);
    let (mut p, grad) = (array![0.0], array![1e-4]);
    let mut step = |optimizer: &mut Optimizer<f64>| {
        let before = p[0];
        optimizer.update(&mut p, &grad).unwrap();
        (before - p[0]) / 1e-4
    };
    let mut size = 0.0;
    for _ in 0..2500 {
        size = step(&mut optimizer);
    }
    assert!((size - 0.1).abs() < 1e-3, "{size}");
    optimizer.set_lr(1e-4);
    let state = optimizer.state_dict();
    // What it was created with outlives an interruption.
    let mut resumed = Optimizer::from_state(state).unwrap();
    let size = step(&mut resumed);
    assert!((size - 0.01).abs() < 1e-4, "{size}");
    assert!((step(&mut optimizer) - size).abs() < 1e-12);
}

#[test]
fn ftrl_begins_with_a_rate_of_zero() {
    let ftrl = |lr| Ftrl {
        lr,
        lambda_1: 0.01,
        ..Default::default()
    };
    let (mut warm, mut cold) = (Optimizer::new(ftrl(0.0)), Optimizer::new(ftrl(0.1)));
    let (mut a, mut b) = (array![1.0, -2.0], array![1.0, -2.0]);
    let grad = array![0.5, -0.25];
    warm.update(&mut a, &grad).unwrap();
    assert_eq!(a, array![1.0, -2.0]);
    warm.set_lr(0.1);
    for step in 0..10 {
        warm.update(&mut a, &grad).unwrap();
        cold.update(&mut b, &grad).unwrap();
        assert_eq!(a, b);
        if step == 4 {
            warm.set_lr(0.0);
            warm.update(&mut a, &grad).unwrap();
            warm.set_lr(0.1);
            assert_eq!(a, b);
        }
    }
}

/// A trajectory in which hyper-parameters change at every step.
#[derive(Deserialize)]
struct Changing {
    #[serde(flatten)]
    case: Case,
    /// Those of step t are entry (t - 1) mod K.
    numbers: Vec<BTreeMap<String, f64>>,
}

impl Changing {
    fn all() -> Vec<Changing> {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/changes/changes.json"
        );
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    /// The greatest error, where `between` can change the optimizer after each step.
    fn error(&self, mut between: impl FnMut(usize, &mut Optimizer<f64>)) -> f64 {
        let mut optimizer = self.case.optimizer();
        worst_error_between(&self.case, &mut optimizer, |t, optimizer, _| {
            between(t, optimizer);
            for (name, value) in &self.numbers[t % self.numbers.len()] {
                *optimizer.number_mut(None, name).unwrap() = *value;
            }
        })
    }
}

#[test]
fn hyper_parameters_that_change_at_every_step_are_those_of_torch() {
    for changing in Changing::all() {
        let error = changing.error(|_, _| {});
        assert!(error <= F64, "{}: {error:e}", changing.case.id);
    }
}

#[test]
fn a_run_with_changing_hyper_parameters_resumes_at_any_step() {
    for changing in Changing::all() {
        let error = changing.error(|_, optimizer| {
            let text = serde_json::to_string(&optimizer.state_dict()).unwrap();
            let state: StateDict = serde_json::from_str(&text).unwrap();
            *optimizer = Optimizer::from_state(state).unwrap();
        });
        assert!(error <= F64, "{}: {error:e}", changing.case.id);
    }
}

#[test]
fn momentum_comes_and_goes_inside_of_other_wrappers_too() {
    // torch: the buffer stays as it is while momentum is 0.
    let momenta = [0.0, 0.9, 0.0, 0.0, 0.5];
    let sgd = Sgd::new(0.1).ema(0.9);
    let mut optimizer = Optimizer::new(sgd.clone().clip_by_value(1e9));
    let mut plain = Optimizer::new(sgd);
    let (mut a, mut b, grad) = (array![1.0_f64], array![1.0], array![1.0]);
    let (mut p, mut buf) = (1.0, 0.0);
    for (t, momentum) in momenta.into_iter().cycle().take(23).enumerate() {
        for optimizer in [&mut optimizer, &mut plain] {
            *optimizer.number_mut(None, "momentum").unwrap() = momentum;
        }
        optimizer.update(&mut a, &grad).unwrap();
        plain.update(&mut b, &grad).unwrap();
        if momentum > 0.0 {
            buf = momentum * buf + 1.0;
        }
        p -= 0.1 * if momentum > 0.0 { buf } else { 1.0 };
        assert!((a[0] - p).abs() < 1e-12 && (b[0] - p).abs() < 1e-12, "{t}");
        assert_eq!(optimizer.evaluate(&a), plain.evaluate(&b));
        let names: Vec<_> = plain
            .state("variable")
            .iter()
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(names.contains(&"momentum_buffer"), t > 0);
        if t % 3 == 0 {
            plain = Optimizer::from_state(plain.state_dict()).unwrap();
        }
    }
}

#[test]
fn nesterov_momentum_of_zero_is_none() {
    let sgd = Sgd {
        nesterov: true,
        ..Sgd::new(0.5)
    };
    let rmsprop = RmsProp {
        nesterov: true,
        ..RmsProp::new(0.5)
    };
    let plain_sgd = Sgd {
        nesterov: false,
        ..sgd
    };
    let plain_rmsprop = RmsProp {
        nesterov: false,
        ..rmsprop
    };
    for (nesterov, plain) in [
        (AnyAlgorithm::from(sgd), AnyAlgorithm::from(plain_sgd)),
        (rmsprop.into(), plain_rmsprop.into()),
    ] {
        let (mut p, mut q, grad) = (array![1.0], array![1.0], array![0.25]);
        Optimizer::new(nesterov).update(&mut p, &grad).unwrap();
        Optimizer::new(plain).update(&mut q, &grad).unwrap();
        assert_eq!(p, q);
    }
}

#[test]
fn a_rate_of_zero_does_not_move_and_a_gradient_of_laprop_counts_by_its_own_rate() {
    let mut optimizer = Optimizer::<f64>::new(LaProp::new(0.1));
    let (mut p, grad) = (array![1.0], array![1.0]);
    let mut at = |lr: f64| {
        let before = p[0];
        optimizer.set_lr(lr);
        optimizer.update(&mut p, &grad).unwrap();
        before - p[0]
    };
    // A constant gradient: all of the momentum is the running average of the rate.
    for lr in [0.0, 0.1, 0.0, 0.001, 0.5, 0.0] {
        let step = at(lr);
        assert!((step - lr).abs() < 1e-12, "{step}, not {lr}");
    }
}

/// Six steps of the formula `rule(t, p, g, [m, v])` for one number.
fn by_formula(rule: impl Fn(i32, f64, f64, &mut [f64; 2]) -> f64) -> f64 {
    let (mut p, mut state) = (1.0, [0.0; 2]);
    for t in 1..=6 {
        p = rule(t, p, 0.3 * f64::from(t) - 0.7, &mut state);
    }
    p
}

#[test]
fn adam_and_its_relatives_without_bias_correction_are_their_formulas() {
    let (b1, b2) = (0.8, 0.9);
    let moments = move |g: f64, [m, v]: &mut [f64; 2]| {
        *m = b1 * *m + (1.0 - b1) * g;
        *v = b2 * *v + (1.0 - b2) * g * g;
        (*m, *v)
    };
    let all: [(&str, f64); 6] = [
        (
            r#"{"name": "adam", "lr": 0.1, "eps": 0.01"#,
            by_formula(|_, p, g, state| {
                let (m, v) = moments(g, state);
                p - 0.1 * m / (v.sqrt() + 0.01)
            }),
        ),
        (
            r#"{"name": "adamw", "lr": 0.1, "eps": 0.01, "weight_decay": 0.5"#,
            by_formula(|_, p, g, state| {
                let (m, v) = moments(g, state);
                p - 0.1 * (m / (v.sqrt() + 0.01) + 0.5 * p)
            }),
        ),
        (
            r#"{"name": "adam", "lr": 0.1, "eps": 0.01, "amsgrad": true, "amsgrad_corrected": true"#,
            {
                let max = std::cell::Cell::new(0.0_f64);
                by_formula(|_, p, g, state| {
                    let (m, v) = moments(g, state);
                    max.set(max.get().max(v));
                    p - 0.1 * m / (max.get().sqrt() + 0.01)
                })
            },
        ),
        (
            r#"{"name": "adamax", "lr": 0.1, "eps": 0.01"#,
            by_formula(|_, p, g, [m, u]| {
                *m = b1 * *m + (1.0 - b1) * g;
                *u = (b2 * *u).max(g.abs() + 0.01);
                p - 0.1 * *m / *u
            }),
        ),
        (
            r#"{"name": "adabelief", "lr": 0.1, "eps": 0.01, "eps_root": 0.001"#,
            by_formula(|_, p, g, [m, s]| {
                *m = b1 * *m + (1.0 - b1) * g;
                *s = b2 * *s + (1.0 - b2) * (g - *m).powi(2) + 0.001;
                p - 0.1 * *m / (s.sqrt() + 0.01)
            }),
        ),
        (
            r#"{"name": "lamb", "lr": 0.1, "eps": 0.01, "weight_decay": 0.5"#,
            by_formula(|_, p, g, state| {
                let (m, v) = moments(g, state);
                let u = m / (v.sqrt() + 0.01) + 0.5 * p;
                p - 0.1 * (p / u).abs() * u
            }),
        ),
    ];
    for (config, expected) in all {
        let config = format!(r#"{config}, "betas": [0.8, 0.9], "bias_correction": false}}"#);
        let algorithm: AnyAlgorithm = serde_json::from_str(&config).unwrap();
        let mut optimizer = Optimizer::<f64>::new(algorithm);
        let mut p = array![1.0];
        for t in 1..=6 {
            let grad = array![0.3 * f64::from(t) - 0.7];
            optimizer.update(&mut p, &grad).unwrap();
        }
        assert!(
            (p[0] - expected).abs() < 1e-13,
            "{config}: {}, not {expected}",
            p[0]
        );
    }
    // On by default.
    assert!(Adam::default().bias_correction && AdamW::default().bias_correction);
    assert!(Adamax::default().bias_correction && AdaBelief::default().bias_correction);
    assert!(Lamb::default().bias_correction && Prodigy::default().bias_correction);
}

#[test]
fn the_sign_of_rprop_does_not_underflow() {
    // torch multiplies the gradients: 1e-166 squared is 0, and the step size stays.
    let mut optimizer = Optimizer::<f64>::new(Rprop::new(0.1));
    let (mut p, grad) = (array![0.0], array![1e-166]);
    for _ in 0..3 {
        optimizer.update(&mut p, &grad).unwrap();
    }
    assert!((p[0] + 0.1 + 0.12 + 0.144).abs() < 1e-15, "{p}");
}

/// The numeric hyper-parameters by name, each with legal values, the smallest and the largest of
/// them.
fn numbers_of(fields: &[Field], optimizer: &mut Optimizer<f64>) -> Vec<(String, Vec<f64>)> {
    let mut all = Vec::new();
    for field in fields {
        let names = (0..6).map(|i| format!("{}[{i}]", field.name));
        for (i, name) in [field.name.to_string()]
            .into_iter()
            .chain(names)
            .enumerate()
        {
            let Ok(&mut now) = optimizer.number_mut(None, &name) else {
                continue;
            };
            let range = match &field.ranges[..] {
                [one] => one,
                each => each.get(i.wrapping_sub(1)).unwrap_or(&Interval::FINITE),
            };
            let ends = [range.lower(), range.upper()].map(|(end, _)| end);
            let values = [ends[0], 1e-3, 0.5, 1.0, 1.5, ends[1], 2.0 * now, 0.25 * now];
            let legal = values
                .into_iter()
                .filter(|&x| range.contains(x) && x.abs() < 1e3);
            all.push((name, legal.collect()));
        }
    }
    all
}

fn bits(p: &ArrayD<f64>) -> Vec<u64> {
    p.iter().map(|x| x.to_bits()).collect()
}

/// Changes every number at every step to another legal value and back; a run that is interrupted at
/// every step has the same bits, and state arrays only join.
fn change_everything(config: &AnyAlgorithm, fields: &[Field]) -> usize {
    let shape: &[usize] = if config.name() == "muon" {
        &[2, 3]
    } else {
        &[2, 2]
    };
    let mut changes = 0;
    let mut fresh = Optimizer::<f64>::new(config.clone());
    for (name, values) in numbers_of(fields, &mut fresh) {
        let (mut whole, mut parted) = (
            Optimizer::<f64>::new(config.clone()),
            Optimizer::<f64>::new(config.clone()),
        );
        let before = *whole.number_mut(None, &name).unwrap();
        let (mut p, mut q): (ArrayD<f64>, ArrayD<f64>) = (numbers(shape, 1), numbers(shape, 1));
        let mut held: Vec<&str> = Vec::new();
        let mut now = before;
        for (step, value) in values.iter().flat_map(|&x| [before, x, before]).enumerate() {
            let grad = numbers::<f64>(shape, 2 + step as u64);
            *whole.number_mut(None, &name).unwrap() = value;
            *parted.number_mut(None, &name).unwrap() = value;
            let outcome = whole.update_with_loss(&mut p, &grad, 1.5);
            if let Err(Error::HyperParameter { field, .. }) = &outcome {
                // Two fields that do not go together.
                assert!(
                    ["step_sizes", "nesterov", "lower"].contains(&&**field),
                    "{outcome:?}"
                );
                *whole.number_mut(None, &name).unwrap() = now;
                *parted.number_mut(None, &name).unwrap() = now;
                continue;
            }
            let what = format!("{}, {name}: {now} to {value}", config.name());
            if let Err(error) = outcome {
                panic!("{what}: {error}");
            }
            now = value;
            // Newton-Schulz iterations with other coefficients diverge.
            let finite = name.starts_with("ns_coefficients") || p.iter().all(|x| x.is_finite());
            assert!(finite, "{what}: {p}");
            parted.update_with_loss(&mut q, &grad, 1.5).unwrap();
            assert!(bits(&p) == bits(&q), "{what}: {p} {q}");
            let state = whole.state("variable");
            let names: Vec<&str> = state.iter().map(|(name, _)| *name).collect();
            let kept = held.iter().all(|name| names.contains(name));
            assert!(kept, "{what}: {names:?}");
            held = names;
            parted = Optimizer::from_state(parted.state_dict()).unwrap();
            changes += 1;
        }
    }
    changes
}

#[test]
fn every_number_can_change_at_every_step_and_the_run_goes_on() {
    let mut changes = 0;
    for config in AnyAlgorithm::all() {
        if config.name() == "lookahead" {
            continue;
        }
        changes += change_everything(&config, &config.fields());
    }
    let sgd = Sgd {
        momentum: 0.9,
        ..Sgd::new(0.1)
    };
    for wrap in AnyWrap::all() {
        let fields = wrap.fields();
        let config = AnyAlgorithm::from(sgd).in_wrappers([wrap]);
        changes += change_everything(&config, &fields);
        let momentum: Vec<Field> = AnyAlgorithm::from(sgd)
            .fields()
            .into_iter()
            .filter(|field| ["momentum", "lr"].contains(&field.name))
            .collect();
        changes += change_everything(&config, &momentum);
    }
    let chain = AnyAlgorithm::from(sgd).in_wrappers([WeightDecay::default().into()]);
    changes += change_everything(&chain, &AnyAlgorithm::from(sgd).fields());
    assert!(changes > 3000, "{changes}");
}

#[test]
fn one_cycle_with_the_beta_that_it_cycles_is_torch() {
    // The program in docs/coming-from-pytorch-or-optax.md. The numbers are those of its Python
    // program, run with torch 2.15 in f64.
    let x = Array2::from_shape_fn((40, 3), |(i, j)| (3.0 * i as f64 + j as f64).sin());
    let y = Array2::from_shape_fn((40, 2), |(i, j)| 2.0 * (i as f64 + j as f64).cos());
    let (mut w, mut b) = (Array2::zeros((2, 3)), Array1::zeros(2));
    let adamw = |weight_decay| AdamW {
        weight_decay,
        ..Default::default()
    };
    let mut opt = Optimizer::new(adamw(0.1));
    opt.add_group(Group::new("no_decay", ["bias"], adamw(0.0)))
        .unwrap();
    opt.clip = Some(ClipByGlobalNorm {
        max_norm: 0.1,
        eps: 1e-6,
        ..Default::default()
    });
    let beta1 = OneCycle {
        div_factor: 0.85 / 0.95,
        final_div_factor: 1.0,
        ..OneCycle::new(0.85, 50)
    };
    let schedules = Schedules::new()
        .drive("lr", OneCycle::new(0.1, 50))
        .drive("betas[0]", beta1);
    for step in 0..50 {
        schedules.apply(&mut opt, step).unwrap();
        let d = 2.0 * (x.dot(&w.t()) + &b - &y) / y.len() as f64;
        let (dw, db) = (d.t().dot(&x), d.sum_axis(Axis(0)));
        let mut params = Params::new();
        params.add("weight", &mut w, &dw).unwrap();
        params.add("bias", &mut b, &db).unwrap();
        opt.step(params).unwrap();
    }
    let expected = [
        0.01729896395909026,
        0.035888276836267004,
        0.041442712939310976,
        0.03865156092886958,
        0.05774233108786887,
        0.06539273337978602,
        0.07026796982040752,
        -0.008069521018229072,
    ];
    for (x, y) in w.iter().chain(&b).zip(expected) {
        assert!((x - y).abs() < 1e-14, "{x}, not {y}");
    }
}
