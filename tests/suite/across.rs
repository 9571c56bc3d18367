//! Steps of parameters that are divided among processes, here threads, are those of one process.
use ndarray::{Array1, ArrayD, IxDyn, array};
use ndarray_optim::{
    AdamW, AnyAlgorithm, AnyWrap, Dog, Error, Exchange, Group, Lamb, Momentum, Muon, Optimizer,
    Params, PolyakSgd, Prodigy, Select, Sgd,
    reduce::{Norm, Sum},
    wrap::ClipByGlobalNorm,
};
use std::{
    collections::BTreeMap,
    sync::{Barrier, Mutex},
    thread,
};

type Model = BTreeMap<&'static str, ArrayD<f64>>;

/// What processes add up, by process.
struct Table {
    sums: Mutex<Vec<Vec<Sum>>>,
    numbers: Mutex<Vec<f64>>,
    barrier: Barrier,
}

struct Process<'t> {
    table: &'t Table,
    rank: usize,
}

impl Exchange for Process<'_> {
    fn sum(&mut self, sums: &mut [Sum]) {
        // As words, as between processes.
        let words = sums
            .iter()
            .map(|sum| Sum::from_words(&sum.to_words()).unwrap());
        self.table.sums.lock().unwrap()[self.rank] = words.collect();
        self.table.barrier.wait();
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = Sum::default();
            let all = self.table.sums.lock().unwrap();
            all.iter().for_each(|of| sum.merge(&of[i]));
        }
        self.table.barrier.wait();
    }

    fn max(&mut self, number: &mut f64) {
        self.table.numbers.lock().unwrap()[self.rank] = *number;
        self.table.barrier.wait();
        *number = self
            .table
            .numbers
            .lock()
            .unwrap()
            .iter()
            .copied()
            .fold(0.0, f64::max);
        self.table.barrier.wait();
    }
}

fn model() -> Model {
    let of = |seed: usize, shape: &[usize]| {
        let size: usize = shape.iter().product();
        let values =
            Array1::from_shape_fn(size, |i| ((i * 37 + seed * 11) % 23) as f64 / 11.0 - 1.0);
        values.into_shape_with_order(IxDyn(shape)).unwrap()
    };
    [
        ("a", of(1, &[5, 4])),
        ("b", of(2, &[9])),
        ("c", of(3, &[7, 3])),
        ("d", of(4, &[1])),
    ]
    .into()
}

fn gradient(model: &Model, step: usize) -> Model {
    let of = |(i, (&name, array)): (usize, (_, &ArrayD<f64>))| {
        let mut j = 0;
        let grad = array.mapv(|x| {
            j += 1;
            0.3 * x + ((j * 29 + i * 7 + step * 13) % 17) as f64 / 5.0 - 1.6
        });
        (name, grad)
    };
    model.iter().enumerate().map(of).collect()
}

/// The elements of a process: whole arrays in turn, or a part of each.
fn share(
    optimizer: &mut Optimizer<f64>,
    model: &Model,
    rank: usize,
    ranks: usize,
) -> BTreeMap<&'static str, ArrayD<f64>> {
    let mut share = BTreeMap::new();
    for (i, (&name, array)) in model.iter().enumerate() {
        let whole = optimizer.division(name, array.shape()).unwrap().whole;
        let (start, end) = match whole {
            true if i % ranks == rank => (0, array.len()),
            true => (0, 0),
            false => (array.len() * rank / ranks, array.len() * (rank + 1) / ranks),
        };
        if start < end {
            let part: Array1<f64> = array
                .iter()
                .skip(start)
                .take(end - start)
                .copied()
                .collect();
            let mut shape = vec![1; array.ndim()];
            shape[array.ndim() - 1] = end - start;
            let shape = if end - start == array.len() {
                array.shape()
            } else {
                &shape
            };
            share.insert(name, part.into_shape_with_order(IxDyn(shape)).unwrap());
        }
    }
    share
}

/// Compares steps of several processes with those of one.
fn equal(what: &str, make: impl Fn() -> Optimizer<f64> + Sync) {
    const RANKS: usize = 3;
    let (mut one, mut expected) = (make(), vec![model()]);
    for step in 0..6 {
        let mut next = expected[step].clone();
        let grads = gradient(&next, step);
        let mut params = Params::new();
        for (name, array) in &mut next {
            params.add(*name, array, &grads[name]).unwrap();
        }
        one.step(params.loss(2.0)).unwrap();
        expected.push(next);
    }
    let table = Table {
        sums: Mutex::new(vec![Vec::new(); RANKS]),
        numbers: Mutex::new(vec![0.0; RANKS]),
        barrier: Barrier::new(RANKS),
    };
    thread::scope(|scope| {
        for rank in 0..RANKS {
            let (table, expected, make) = (&table, &expected, &make);
            let (norm, groups) = (one.grad_norm(), one.state_view().groups);
            scope.spawn(move || {
                let mut optimizer = make();
                let mut own = share(&mut optimizer, &expected[0], rank, RANKS);
                for step in 0..6 {
                    let grads = gradient(&expected[step], step);
                    let grads = share(&mut optimizer, &grads, rank, RANKS);
                    let mut params = Params::new();
                    for (name, array) in &mut own {
                        params.add(*name, array, &grads[name]).unwrap();
                    }
                    params.loss(2.0);
                    let mut process = Process { table, rank };
                    optimizer.step_across(params, &mut process).unwrap();
                    let all = share(&mut optimizer, &expected[step + 1], rank, RANKS);
                    assert_eq!(own, all, "{what}, rank {rank}, step {step}");
                }
                assert_eq!(optimizer.grad_norm(), norm, "{what}");
                // Also those of groups that have no parameter here.
                assert_eq!(optimizer.state_view().groups, groups, "{what}");
            });
        }
    });
}

#[test]
fn every_algorithm_gives_the_same_bits_across_processes() {
    for algorithm in AnyAlgorithm::all() {
        let mut probe = Optimizer::<f64>::new(algorithm.clone());
        if probe.division("b", &[9]).is_err() {
            continue;
        }
        equal(algorithm.name(), || Optimizer::new(algorithm.clone()));
    }
}

#[test]
fn every_wrapper_gives_the_same_bits_across_processes() {
    let wrapped = |wraps: Vec<AnyWrap>| {
        move || Optimizer::new(AnyAlgorithm::from(AdamW::new(0.01)).in_wrappers(wraps.clone()))
    };
    for wrap in AnyWrap::all() {
        equal(wrap.name(), wrapped(vec![wrap.clone()]));
    }
    let named = |name: &str| {
        AnyWrap::all()
            .into_iter()
            .find(|wrap| wrap.name() == name)
            .unwrap()
    };
    // The norm of gradients that an outer wrapper has changed.
    let chain = vec![named("clip_by_global_norm"), named("noise")];
    equal("noise around a global norm", wrapped(chain));
}

#[test]
fn norms_and_sums_run_over_groups_of_all_processes() {
    for norm in [Norm::L1, Norm::L2, Norm::Max] {
        equal("groups", || {
            let mut optimizer = Optimizer::new(Prodigy::new(1.0));
            // Whole arrays, which some processes lack, and a group that shares the first one's sums.
            let whole = Group::new("whole", ["a"], Lamb::new(0.1));
            optimizer.add_group(whole).unwrap();
            optimizer
                .add_group(Group::new("other", ["b"], Prodigy::new(0.5)))
                .unwrap();
            optimizer
                .add_group(Group::new("one", ["d"], Dog::new(1.0)))
                .unwrap();
            let clipped = AnyAlgorithm::from(Momentum::new(0.1)).in_wrappers([ClipByGlobalNorm {
                max_norm: 0.5,
                norm,
                ..Default::default()
            }
            .into()]);
            optimizer
                .add_group(Group::new("none", ["none"], clipped))
                .unwrap();
            optimizer.clip = Some(ClipByGlobalNorm {
                max_norm: 0.7,
                norm,
                ..Default::default()
            });
            optimizer
        });
    }
}

#[test]
fn a_step_that_is_refused_exchanges_nothing() {
    struct Never;
    impl Exchange for Never {
        fn sum(&mut self, _: &mut [Sum]) {
            panic!("a sum");
        }
        fn max(&mut self, _: &mut f64) {
            panic!("a maximum");
        }
    }
    let mut optimizer = Optimizer::new(Sgd::new(-1.0));
    optimizer.clip = Some(ClipByGlobalNorm::default());
    let (mut theta, grad) = (array![1.0], array![1.0]);
    let mut params = Params::new();
    params.add("theta", &mut theta, &grad).unwrap();
    let refused = optimizer.step_across(params, &mut Never);
    assert!(matches!(refused, Err(Error::HyperParameter { .. })));
    assert_eq!(theta, array![1.0]);
}

#[test]
fn divisions_tell_what_can_be_cut() {
    let whole = |algorithm: AnyAlgorithm| {
        let mut optimizer = Optimizer::<f32>::new(algorithm);
        optimizer.division("w", &[30, 20]).unwrap()
    };
    let expected = [
        "novograd",
        "lamb",
        "lars",
        "fromage",
        "adafactor",
        "sm3",
        "muon",
        "shampoo",
        "soap",
        "mars",
    ];
    for algorithm in AnyAlgorithm::all() {
        let name = algorithm.name();
        assert_eq!(whole(algorithm).whole, expected.contains(&name), "{name}");
    }
    let cost = |algorithm: AnyAlgorithm| whole(algorithm).cost;
    assert!(cost(Muon::new(0.1).into()) > 10.0 * cost(AdamW::new(0.1).into()));
    let mut groups = Optimizer::<f32>::new(AdamW::new(0.1));
    groups
        .add_group(Group::new("m", Select::rank(2), Lamb::new(0.1)))
        .unwrap();
    assert!(groups.division("w", &[2, 2]).unwrap().whole);
    assert!(!groups.division("w", &[4]).unwrap().whole);
    let mut muon = Optimizer::<f32>::new(Muon::new(0.1));
    assert!(muon.division("b", &[3]).is_err());
}

#[test]
fn settings_name_everything_that_a_step_depends_on() {
    let of = |change: &dyn Fn(&mut Optimizer<f64>)| {
        let mut optimizer = Optimizer::new(AdamW::new(0.1));
        optimizer
            .add_group(Group::new("other", ["b"], Sgd::new(0.1)))
            .unwrap();
        change(&mut optimizer);
        optimizer.settings()
    };
    let all = [
        of(&|_| {}),
        of(&|optimizer| optimizer.set_lr(0.2)),
        of(&|optimizer| optimizer.set_group_lr("other", 0.2).unwrap()),
        of(&|optimizer| optimizer.freeze("other", true).unwrap()),
        of(&|optimizer| optimizer.clip = Some(ClipByGlobalNorm::default())),
        of(&|optimizer| optimizer.set_accumulation(2)),
        of(&|optimizer| optimizer.limits.skipped = Some(3)),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| other != one), "{one}");
    }
    assert!(all[0].lines().any(|line| line.trim() == "lr: 0.1,"));
    assert_eq!(all[0], of(&|_| {}));
}

#[test]
fn sums_survive_as_words() {
    let numbers = [
        1e-200,
        3e-200,
        1.0,
        -2.5,
        1e200,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];
    for first in numbers {
        for second in numbers {
            let mut sums = [Sum::default(), Sum::default()];
            sums[0].add(&[first, second, 7.0]);
            sums[1].add_squares(&[first, second]);
            for sum in sums {
                let words = sum.to_words();
                let copy = Sum::from_words(&words).unwrap();
                assert_eq!(copy.value().to_bits(), sum.value().to_bits());
                assert_eq!(copy.root().to_bits(), sum.root().to_bits());
                assert_eq!(copy.to_words(), words);
                assert!(Sum::from_words(&words[..words.len() - 1]).is_none());
                let mut longer = words.clone();
                longer.push(0);
                assert!(Sum::from_words(&longer).is_none());
                longer[0] = 1000;
                assert!(Sum::from_words(&longer).is_none());
            }
        }
    }
}

#[test]
fn a_step_can_be_checked_without_its_arrays() {
    let shapes: [(&str, &[usize]); 2] = [("a", &[5, 4]), ("b", &[9])];
    let mut polyak = Optimizer::<f64>::new(PolyakSgd::default());
    assert_eq!(polyak.validate(shapes, Some(1.0)), Ok(()));
    for loss in [None, Some(f64::NAN)] {
        let refused = polyak.validate(shapes, loss);
        assert!(matches!(refused, Err(Error::Loss { .. })), "{refused:?}");
    }
    assert_eq!(polyak.validate([], None), Ok(()));

    let mut prodigy = Optimizer::<f64>::new(Prodigy::new(1.0));
    let other = Prodigy {
        d0: 1e-3,
        ..Prodigy::new(1.0)
    };
    prodigy.add_group(Group::new("b", ["b"], other)).unwrap();
    assert!(matches!(
        prodigy.validate(shapes, None),
        Err(Error::InGroup { .. })
    ));
    assert_eq!(prodigy.validate(shapes[..1].iter().copied(), None), Ok(()));
    prodigy.freeze("b", true).unwrap();
    assert_eq!(prodigy.validate(shapes, None), Ok(()));

    let axes: (&str, &[usize]) = ("c", &[1; 7]);
    assert!(matches!(
        polyak.validate([axes], Some(1.0)),
        Err(Error::TooManyAxes { .. })
    ));
    polyak.set_lr(-1.0);
    assert!(matches!(
        polyak.validate([], None),
        Err(Error::HyperParameter { .. })
    ));
}

#[test]
fn a_part_of_a_gradient_is_checked_like_a_whole_one() {
    let mut adamw = Optimizer::new(AdamW::new(0.1));
    let mut check = |grad: &[f32]| adamw.check_gradient("a", &[2, 3], grad);
    assert_eq!(check(&[1.0, -2.0]), Ok(()));
    assert_eq!(check(&[]), Ok(()));
    let name = || "a".to_owned();
    let infinite = Error::NonFiniteGradient {
        name: name(),
        value: f64::NEG_INFINITY,
    };
    assert_eq!(check(&[1.0, f32::NEG_INFINITY]), Err(infinite));
    assert!(matches!(
        check(&[f32::NAN]),
        Err(Error::NonFiniteGradient { .. })
    ));
    // Its square is too large for the average.
    assert!(matches!(
        check(&[1e30]),
        Err(Error::ExplodingGradient { .. })
    ));
}
