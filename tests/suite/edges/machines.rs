//! The same bits and linear costs on every machine.
use super::child;
use crate::common::filled;
use ndarray::{Array1, Array2, ArrayD, ShapeBuilder, s};
use ndarray_optim::{
    Adam, AdamW, AnyAlgorithm, AnyWrap, Checkpoint, Compose, Group, InstructionSet, Lamb,
    NonFinite, Optimizer, Outcome, Parallel, Params, Prodigy, RmsProp, Sam, Select, Sgd,
    algorithm::{Algorithm, Element, Rule, StepContext},
    hyper_parameters, instruction_set,
    schedule::{AnySchedule, Schedules},
    wrap::{Centralize, ClipByGlobalNorm},
};
use std::{
    env, fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The stack that a step needs at most in a debug build, in KiB, as documented.
const STACK: usize = 256;

/// Numbers whose rounding depends on the order of operations.
fn numbers<A: Element>(shape: &[usize], seed: u64) -> ArrayD<A> {
    filled(shape, |i| crate::common::spread(seed, i, 3))
}

/// One step over arrays that are no slices, in each of the ways that there are for them.
fn strided_steps<A: Element>(algorithm: &AnyAlgorithm, shape: (usize, usize)) {
    let (n, m) = shape;
    let wide: Array2<A> = numbers(&[2 * n, 2 * m], 1).into_dimensionality().unwrap();
    let grad: Array2<A> = numbers(&[n, m], 2).into_dimensionality().unwrap();
    let mut fortran = Array2::zeros((n, m).f());
    fortran.assign(&grad);
    for layout in 0..3 {
        let mut wide = wide.clone();
        let (mut p, g) = match layout {
            0 => (wide.slice_mut(s![..;2, ..;-2]), grad.view()),
            1 => (wide.slice_mut(s![..n, ..m]), grad.view()),
            _ => (wide.slice_mut(s![..n, ..m]), fortran.view()),
        };
        let mut optimizer = Optimizer::<A>::new(algorithm.clone());
        optimizer.parallel = Parallel::SERIAL;
        let mut params = Params::new();
        params.add("p", &mut p, &g).unwrap();
        params.loss(1.0);
        optimizer.step(params).unwrap();
    }
}

/// Runs a test of this file as a process of its own, and returns what it says.
fn alone(test: &str, change: impl FnOnce(&mut Command)) -> String {
    let mut command = child::start(&format!("machines::{test}"), &env::temp_dir());
    change(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_step_needs_little_stack() {
    if child::directory().is_none() {
        alone("a_step_needs_little_stack", |_| {});
        return;
    }
    let steps = move || {
        let lamb = |wrap| AnyAlgorithm::from(Lamb::new(0.1)).in_wrappers([wrap]);
        let wrapped = AnyWrap::all().into_iter().map(lamb);
        for algorithm in AnyAlgorithm::all().into_iter().chain(wrapped) {
            strided_steps::<f64>(&algorithm, (90, 80));
        }
        strided_steps::<f32>(&Lamb::new(0.1).into(), (90, 80));
        // Enough for the largest tile.
        strided_steps::<f64>(&Lamb::new(0.1).into(), (180, 170));
        strided_steps::<f32>(&Lamb::new(0.1).into(), (180, 170));
    };
    let small = thread::Builder::new().stack_size(STACK << 10);
    small.spawn(steps).unwrap().join().unwrap();
}

/// Steps with every algorithm and wrapper, in chunks of some bits of all results.
fn bits_of_all<A: Element>(say: &mut impl FnMut(String)) {
    let adamw = |wrap| AnyAlgorithm::from(AdamW::new(0.01)).in_wrappers([wrap]);
    let wrapped = AnyWrap::all().into_iter().map(adamw);
    let cases = crate::common::cases()
        .into_iter()
        .map(|case| case.optimizer);
    for algorithm in AnyAlgorithm::all().into_iter().chain(wrapped).chain(cases) {
        let mut optimizer = Optimizer::<A>::new(algorithm.clone());
        let mut p: ArrayD<A> = numbers(&[3, 20], 1);
        let mut hash = 0_u64;
        for t in 0..60 {
            let grad: ArrayD<A> = numbers(&[3, 20], t + 2);
            let mut params = Params::new();
            params.add("p", &mut p, &grad).unwrap();
            params.loss(1.0 / (t + 1) as f64);
            optimizer.step(params).unwrap();
            for x in &p {
                hash = (hash ^ x.f64().to_bits())
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29);
            }
        }
        say(format!("{} {hash:x}", optimizer.name()));
    }
}

/// What a schedule has in the fixtures, except for those that need metrics.
#[derive(serde::Deserialize)]
struct Fixture {
    id: String,
    schedule: serde_json::Value,
}

#[test]
fn the_same_bits_with_every_variant_of_the_system_library() {
    const NAME: &str = "the_same_bits_with_every_variant_of_the_system_library";
    if child::directory().is_none() {
        // The names of features and variants are those of glibc on x86-64; other systems have no
        // variants to choose from.
        let plain = alone(NAME, |command| {
            command.env_remove("GLIBC_TUNABLES");
        });
        let other = alone(NAME, |command| {
            command.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2");
        });
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        let (plain, other) = (lines(&plain), lines(&other));
        assert!(plain.len() > 300, "{plain:?}");
        for (plain, other) in plain
            .iter()
            .zip(&other)
            .filter(|(plain, _)| plain.contains("bits"))
        {
            assert_eq!(plain, other);
        }
        return;
    }
    let mut say = |line: String| println!("bits of {line}");
    println!();
    bits_of_all::<f64>(&mut say);
    bits_of_all::<f32>(&mut say);
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schedules/schedules.json");
    let all: Vec<Fixture> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    for Fixture { id, schedule } in all {
        if let Ok(schedule) = serde_json::from_value::<AnySchedule>(schedule) {
            let hash = (0..1000).fold(0_u64, |hash, step| {
                (hash ^ schedule.value(step).to_bits())
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29)
            });
            say(format!("{id} {hash:x}"));
        }
    }
}

/// A step with every algorithm and wrapper, and everything around steps that reads whole arrays.
fn everything_serial() {
    let (serial, shape) = (Parallel::SERIAL, [4, 90_000]);
    let (p, grad): (ArrayD<f64>, ArrayD<f64>) = (numbers(&shape, 1), numbers(&shape, 2));
    let (small_p, small_grad): (ArrayD<f64>, ArrayD<f64>) =
        (numbers(&[120, 120], 1), numbers(&[120, 120], 2));
    let wrapped = |wrap| AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([wrap]);
    let wrapped = AnyWrap::all().into_iter().map(wrapped);
    for algorithm in AnyAlgorithm::all().into_iter().chain(wrapped) {
        let decomposes = ["shampoo", "soap"].contains(&algorithm.name());
        let (p, grad) = if decomposes {
            (&small_p, &small_grad)
        } else {
            (&p, &grad)
        };
        let mut optimizer = Optimizer::<f64>::new(algorithm);
        (optimizer.parallel, optimizer.watch) = (serial, true);
        optimizer.non_finite = NonFinite::Skip;
        optimizer.limits.norm = Some(1e300);
        optimizer.clip = Some(ClipByGlobalNorm::default());
        let mut p = p.clone();
        let mut params = Params::new();
        params.add("p", &mut p, grad).unwrap();
        params.loss(1.0);
        assert_eq!(optimizer.step(params).unwrap(), Outcome::Applied);
        let state = optimizer.state_dict();
        optimizer.load_state_dict(state.view()).unwrap();
    }
    let mut p = p;
    let mut sgd = Optimizer::new(Sgd::new(0.1));
    sgd.parallel = serial;
    let mut params = Params::new();
    params.add("p", &mut p, &grad).unwrap();
    let ascended = Sam::new(0.1).ascend(&mut sgd, params).unwrap();
    let mut params = Params::new();
    params.add("p", &mut p, &grad).unwrap();
    ascended.descend(params).unwrap();
    ndarray_optim::wrap::l2_ball(&mut p, 1.0);
}

#[test]
fn a_serial_optimizer_starts_no_thread() {
    if child::directory().is_none() {
        alone("a_serial_optimizer_starts_no_thread", |_| {});
        return;
    }
    everything_serial();
    // The global pool can be built once.
    let pool = rayon::ThreadPoolBuilder::new().build_global();
    assert!(pool.is_ok(), "there is a pool already: {pool:?}");
}

/// Steps of Adam over a million elements.
fn large_steps(parallel: Parallel) -> Array1<f32> {
    let grad: Array1<f32> = numbers(&[1_000_000], 2).into_dimensionality().unwrap();
    let mut p = Array1::ones(1_000_000);
    let mut adam = Optimizer::new(Adam::new(0.1));
    adam.parallel = parallel;
    for _ in 0..2 {
        assert_eq!(adam.update(&mut p, &grad).unwrap(), Outcome::Applied);
    }
    p
}

#[test]
fn where_no_thread_can_be_made_a_step_goes_on_with_the_calling_thread() {
    const NAME: &str = "where_no_thread_can_be_made_a_step_goes_on_with_the_calling_thread";
    if child::directory().is_none() {
        // Stacks of this size fit into no memory: no thread can be made, whoever the user is.
        for attempt in ["ours", "theirs"] {
            let said = alone(NAME, |command| {
                command
                    .env("RUST_MIN_STACK", (1_u64 << 50).to_string())
                    .env("RAYON_NUM_THREADS", "4")
                    .env("NDARRAY_OPTIM_EDGES_ATTEMPT", attempt);
            });
            assert!(
                said.contains("the same bits") || cfg!(not(target_os = "linux")),
                "{said}"
            );
        }
        return;
    }
    if thread::Builder::new().spawn(|| {}).is_ok() {
        println!("not tested: this system makes threads with stacks of any size");
        return;
    }
    // The program may have tried to start the pool before, and has got over it.
    if env::var("NDARRAY_OPTIM_EDGES_ATTEMPT").unwrap() == "theirs" {
        assert!(rayon::ThreadPoolBuilder::new().build_global().is_err());
    }
    assert_eq!(
        large_steps(Parallel::default()),
        large_steps(Parallel::SERIAL)
    );
    println!("\nthe same bits");
}

hyper_parameters! {
    /// Gradient descent, with a rule that claims to cost more than any number.
    struct Costly = "costly" {
        /// Learning rate.
        lr: f64 [>= 0] = 0.5;
    }
}

#[derive(Clone, Copy)]
struct CostlyStep<A>(A);

impl<A: Element> Rule for CostlyStep<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = u64::MAX;
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.0 * g, [])
    }
}

impl Algorithm for Costly {
    type Kernel<A: Element> = CostlyStep<A>;
    fn kernel<A: Element>(&self, _step: &StepContext) -> CostlyStep<A> {
        CostlyStep(A::from_f64(self.lr))
    }
}

#[test]
fn a_rule_of_any_cost_works() {
    fn check<A: Element>(mut optimizer: Optimizer<A>) {
        for parallel in [Parallel::SERIAL, Parallel::default()] {
            optimizer.parallel = parallel;
            let (one, two) = (
                Array1::from_elem(3, A::one()),
                Array1::from_elem(2, A::one()),
            );
            let (mut p, mut q) = (one.clone(), two.clone());
            let mut params = Params::new();
            params.add("p", &mut p, &one).unwrap();
            params.add("q", &mut q, &two).unwrap();
            optimizer.step(params).unwrap();
            assert_eq!(p.map(|p| p.f64()), Array1::from_elem(3, 0.5));
            assert_eq!(q.map(|q| q.f64()), Array1::from_elem(2, 0.5));
        }
    }
    check::<f32>(Optimizer::new(Costly::default()));
    check::<f64>(Optimizer::new(Costly::default()));
    // `ema` and the clip add their own cost.
    check::<f64>(Optimizer::new(
        Costly::default().clip_by_value(1.0).ema(0.5),
    ));
    let mut single = Optimizer::<f64>::new(Costly::default());
    let mut p = Array1::<f64>::ones(4);
    for _ in 0..2 {
        single.update(&mut p, &Array1::ones(4)).unwrap();
    }
    assert_eq!(p, Array1::<f64>::zeros(4));
}

/// The time of some work, the lesser of two.
fn time<T>(mut start: impl FnMut() -> T, mut work: impl FnMut(T)) -> Duration {
    let once = |_| {
        let input = start();
        let begin = Instant::now();
        work(input);
        begin.elapsed()
    };
    (0..2).map(once).min().unwrap()
}

/// Eight times as much takes about eight times as long, not 64 times, with half a second for other
/// programs on the machine.
fn is_linear<T>(what: &str, start: impl Fn(usize) -> T, work: impl Fn(T)) {
    let [few, many] = [2_000, 16_000].map(|n| time(|| start(n), &work));
    println!("{what}: {few:?}, {many:?}");
    assert!(
        many < 24 * few + Duration::from_millis(500),
        "{what}: {few:?}, then {many:?}"
    );
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("layer{i}.weight")).collect()
}

fn checkpoint_of(names: &[String]) -> Checkpoint<'static> {
    names.iter().fold(Checkpoint::new(1), |checkpoint, name| {
        checkpoint.section(name.clone(), Array1::<f32>::zeros(1))
    })
}

#[test]
fn sections_are_taken_and_restored_in_linear_time() {
    let start = |n| {
        let names = names(n);
        (checkpoint_of(&names), names)
    };
    is_linear("take", start, |(mut checkpoint, names)| {
        for name in names.iter().rev() {
            checkpoint.take::<f32>(name).unwrap();
        }
        assert_eq!(checkpoint.iter().len(), 0);
    });
    is_linear("restore", start, |(checkpoint, names)| {
        let mut arrays = vec![Array1::<f32>::ones(1); names.len()];
        let views = arrays.iter_mut().map(|array| array.view_mut().into_dyn());
        checkpoint
            .restore(names.iter().map(|name| &**name).zip(views))
            .unwrap();
        assert_eq!(arrays[names.len() - 1][0], 0.0);
    });
}

#[test]
fn of_two_sections_with_one_name_the_first_comes_first() {
    let twice = Checkpoint::new(1)
        .section("a", [1])
        .section("b", Array1::<f32>::ones(1));
    let mut twice = twice
        .section("b", Array1::<f32>::zeros(2))
        .section("c", [3]);
    assert_eq!(twice.take::<f32>("b").unwrap().len(), 1);
    assert_eq!(
        twice
            .clone()
            .section("b", [4])
            .take::<f32>("b")
            .unwrap()
            .len(),
        2
    );
    let names: Vec<_> = twice.iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(twice.take::<f32>("b").unwrap().len(), 2);
    assert!(twice.get("b").is_none());
    assert!(twice.section("b", [5]).get("b").is_some());
}

#[test]
fn a_step_of_many_groups_with_wrappers_takes_linear_time() {
    let algorithms: [AnyAlgorithm; 3] = [
        AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([ClipByGlobalNorm::default().into()]),
        AnyAlgorithm::from(Sgd::new(0.1)).in_wrappers([Centralize::default().into()]),
        AnyAlgorithm::from(Prodigy::default()).in_wrappers([Centralize::default().into()]),
    ];
    for algorithm in algorithms {
        let start = |n| {
            let names = names(n);
            let mut optimizer = Optimizer::new(algorithm.clone());
            for name in &names {
                let group = Group::new(name.clone(), [name], algorithm.clone());
                optimizer.add_group(group).unwrap();
            }
            (optimizer, names)
        };
        is_linear("step", start, |(mut optimizer, names)| {
            step(&mut optimizer, &names);
            step(&mut optimizer, &names);
        });
    }
}

/// An optimizer with a group for each parameter, selected by name or by prefix.
fn grouped(names: &[String], by_prefix: bool) -> Optimizer<f32> {
    let mut optimizer = Optimizer::new(Sgd::new(0.1));
    for name in names {
        let select = if by_prefix {
            Select::prefix(name.strip_suffix("weight").unwrap())
        } else {
            Select::names([name])
        };
        let group = Group::new(name.clone(), select, Sgd::new(0.1));
        optimizer.add_group(group).unwrap();
    }
    optimizer
}

fn step(optimizer: &mut Optimizer<f32>, names: &[String]) {
    let one = Array1::ones(1);
    let mut arrays = vec![Array1::ones(1); names.len()];
    let mut params = Params::with_capacity(names.len());
    for (name, array) in names.iter().zip(&mut arrays) {
        params.add(name, array, &one).unwrap();
    }
    optimizer.step(params).unwrap();
}

#[test]
fn groups_and_parameters_cost_linear_time() {
    for by_prefix in [false, true] {
        is_linear("add groups", names, |names| {
            drop(grouped(&names, by_prefix))
        });
        let start = |n| {
            let names = names(n);
            (grouped(&names, by_prefix), names)
        };
        is_linear("first step", start, |(mut optimizer, names)| {
            step(&mut optimizer, &names);
            assert_eq!(optimizer.group_of(&names[7]), Some(&*names[7]));
            assert!(optimizer.missing().is_empty());
        });
        is_linear("missing", start, |(optimizer, names)| {
            assert_eq!(optimizer.missing().len(), names.len());
        });
    }
    let schedules = |n| {
        let names = names(n);
        let each = names.iter().fold(Schedules::new(), |all, name| {
            all.drive_group(name.clone(), "lr", 0.5)
        });
        (grouped(&names, false), each.drive("lr", 0.25))
    };
    is_linear(
        "apply schedules",
        schedules,
        |(mut optimizer, schedules)| {
            schedules.apply(&mut optimizer, 3).unwrap();
            assert_eq!(optimizer.lr(), 0.25);
        },
    );
    let stepped = |n| {
        let names = names(n);
        let mut optimizer = grouped(&names, false);
        step(&mut optimizer, &names);
        (optimizer, names)
    };
    is_linear(
        "move, reset and remove",
        stepped,
        |(mut optimizer, names)| {
            for name in &names {
                optimizer.move_to_group(name, None).unwrap();
                optimizer.reset(name).unwrap();
                optimizer.remove(name).unwrap();
            }
            assert_eq!(optimizer.state_dict().params.len(), 0);
        },
    );
    is_linear("save and load", stepped, |(mut optimizer, names)| {
        let state = optimizer.state_dict();
        optimizer.load_state_dict(state.view()).unwrap();
        let report = optimizer.load_matching(state.view()).unwrap();
        assert_eq!(report.taken.len(), names.len());
        Optimizer::<f32>::from_state(state.view()).unwrap();
    });
}

#[test]
fn a_parameter_moves_right_after_its_momentum_was_switched_on() {
    let rmsprop = |momentum| RmsProp {
        momentum,
        ..RmsProp::new(0.1)
    };
    let mut optimizer = Optimizer::<f64>::new(rmsprop(0.0));
    let group = Group::new("other", ["b"], rmsprop(0.9));
    optimizer.add_group(group).unwrap();
    let one = Array1::ones(1);
    let (mut a, mut b) = (one.clone(), one.clone());
    for step in 0..2 {
        let mut params = Params::new();
        params.add("a", &mut a, &one).unwrap();
        params.add("b", &mut b, &one).unwrap();
        optimizer.step(params).unwrap();
        if step == 0 {
            optimizer.algorithm_mut::<RmsProp>().unwrap().momentum = 0.9;
            optimizer.move_to_group("a", Some("other")).unwrap();
        }
    }
    // The buffer of `a` begins with 0 in the second step: torch's formula.
    let [first, second] = [0.01_f64, 0.0199].map(|v| 0.1 / (v.sqrt() + 1e-8));
    assert!((a[0] - (1.0 - first - second)).abs() < 1e-14, "{a}");
    assert!(
        (b[0] - (1.0 - first - (0.9 * first + second))).abs() < 1e-14,
        "{b}"
    );
}

#[test]
fn a_removed_parameter_leaves_the_others_as_they_are() {
    let names = names(5);
    let mut optimizer = Optimizer::<f32>::new(Sgd {
        momentum: 0.9,
        ..Sgd::new(0.1)
    });
    step(&mut optimizer, &names);
    optimizer.remove(&names[1]).unwrap();
    optimizer.remove(&names[4]).unwrap();
    assert!(optimizer.state(&names[1]).is_empty() && optimizer.remove(&names[4]).is_err());
    step(&mut optimizer, &names[..1]);
    step(&mut optimizer, &names);
    let steps: Vec<u64> = names.iter().map(|name| optimizer.steps(name)).collect();
    assert_eq!(steps, [3, 1, 2, 2, 1]);
    // A group without any state may change its algorithm's arrays.
    let momentum = |optimizer: &mut Optimizer<f32>, momentum| {
        optimizer.algorithm_mut::<Sgd>().unwrap().momentum = momentum;
    };
    names
        .iter()
        .for_each(|name| optimizer.remove(name).unwrap());
    momentum(&mut optimizer, 0.0);
    step(&mut optimizer, &names);
    assert!(optimizer.state(&names[0]).is_empty());
}

/// The bits of a parameter and of everything in the state after some steps.
fn bits_after_steps<A: Element>(algorithm: &AnyAlgorithm, shape: &[usize]) -> u64 {
    let mut optimizer = Optimizer::<A>::new(algorithm.clone());
    optimizer.parallel = Parallel::SERIAL;
    let mut theta: ArrayD<A> = numbers(shape, 1);
    for seed in 2..6 {
        let grad = numbers(shape, seed);
        optimizer.update_with_loss(&mut theta, &grad, 1.5).unwrap();
    }
    let state = optimizer.state_dict();
    let arrays = state.params[0].arrays.iter().map(|array| &array.data);
    let state = arrays.flat_map(|array| array.view::<A>().unwrap().to_owned());
    // FNV-1a.
    theta
        .iter()
        .copied()
        .chain(state)
        .fold(0xcbf2_9ce4_8422_2325, |hash, x: A| {
            (hash ^ x.f64().to_bits()).wrapping_mul(0x0100_0000_01b3)
        })
}

#[test]
fn steps_give_the_same_bits_with_every_instruction_set() {
    if child::directory().is_some() {
        println!("bits: {}", instruction_set());
        let wrapped = |wrap| AnyAlgorithm::from(AdamW::new(0.1)).in_wrappers([wrap]);
        let wrapped = AnyWrap::all().into_iter().map(wrapped);
        for (i, algorithm) in AnyAlgorithm::all().into_iter().chain(wrapped).enumerate() {
            // Blocks of the sweep and a rest, and less than a register.
            for shape in [[57, 73], [3, 2]] {
                // Decompositions of a matrix of that size take too long.
                if shape[0] == 57 && ["shampoo", "soap"].contains(&algorithm.name()) {
                    continue;
                }
                let f32 = bits_after_steps::<f32>(&algorithm, &shape);
                let f64 = bits_after_steps::<f64>(&algorithm, &shape);
                println!("bits: {i} {} {shape:?} {f32:x} {f64:x}", algorithm.name());
            }
        }
        return;
    }
    let outputs = InstructionSet::ALL.map(|set| {
        let test = "steps_give_the_same_bits_with_every_instruction_set";
        let all = alone(test, |command| {
            command.env("NDARRAY_OPTIM_INSTRUCTION_SET", set.name());
        });
        let lines = all.lines().filter_map(|line| line.strip_prefix("bits: "));
        lines.map(String::from).collect::<Vec<_>>()
    });
    for (set, lines) in InstructionSet::ALL.into_iter().zip(&outputs) {
        assert_eq!(lines[0], set.min(instruction_set()).name());
        assert!(lines.len() > 100, "{lines:?}");
        assert_eq!(lines[1..], outputs[0][1..], "{set}");
    }
}
