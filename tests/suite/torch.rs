//! Runs that torch begins and this crate continues, and the other way round, in files that
//! `examples/torch_state.py` carries over. The files in `tests/fixtures/torch` are from torch
//! itself; where Python has torch, both directions are run again.
use crate::common::{self, array};
use ndarray::ArrayD;
use ndarray_optim::{
    AnyAlgorithm, Group, Optimizer, Params, StateDict,
    algorithm::Element,
    state::{Data, ElementType},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env, fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

// As in `tests/fixtures/torch/run.py`.
const BEFORE: usize = 10;
const STEPS: usize = 40;
const LATE: (&str, usize) = ("kernel", 13);

#[derive(Deserialize)]
struct Case {
    id: String,
    groups: Vec<Members>,
}

#[derive(Deserialize)]
struct Members {
    params: Vec<String>,
    #[serde(flatten)]
    algorithm: serde_json::Value,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch")
}

fn cases() -> Vec<Case> {
    serde_json::from_str(&fs::read_to_string(folder().join("cases.json")).unwrap()).unwrap()
}

fn file<A: Element>(folder: &Path, case: &Case, what: &str) -> PathBuf {
    folder.join(format!("{}.{}.{what}.safetensors", case.id, A::TYPE))
}

struct Run<A: Element> {
    optimizer: Optimizer<A>,
    numbers: common::Case,
    params: Vec<ArrayD<A>>,
}

impl<A: Element> Run<A> {
    fn new(case: &Case) -> Self {
        let algorithm = |group: &Members| {
            serde_json::from_value::<AnyAlgorithm>(group.algorithm.clone()).unwrap()
        };
        let mut optimizer = Optimizer::new(algorithm(&case.groups[0]));
        for (i, group) in case.groups.iter().enumerate().skip(1) {
            optimizer
                .add_group(Group::new(
                    format!("group{i}"),
                    group.params.clone(),
                    algorithm(group),
                ))
                .unwrap();
        }
        let numbers = common::cases()
            .into_iter()
            .find(|case| case.id == "adamw-0")
            .unwrap();
        let params = numbers
            .params
            .iter()
            .map(|param| array(&param.shape, &param.values))
            .collect();
        Run {
            optimizer,
            numbers,
            params,
        }
    }

    fn load(case: &Case, file: &Path) -> Self {
        let mut run = Run::new(case);
        let (state, params) = StateDict::from_safetensors(&fs::read(file).unwrap()).unwrap();
        run.optimizer.load_state_dict(state.view()).unwrap();
        // A run of torch does not say what `lr` was at the start.
        let mut alone = Optimizer::<A>::from_state(state).unwrap().state_dict();
        for (group, own) in std::iter::zip(&mut alone.groups, run.optimizer.state_dict().groups) {
            group.initial_lr = own.initial_lr;
        }
        assert_eq!(run.optimizer.state_dict(), alone);
        run.params = run
            .numbers
            .params
            .iter()
            .map(|start| params[&start.name].view::<A>().unwrap().to_owned())
            .collect();
        run
    }

    fn advance(&mut self, steps: RangeInclusive<usize>) {
        let Run {
            optimizer,
            numbers,
            params,
        } = self;
        for step in steps {
            let values = &numbers.grads[(step - 1) % numbers.grads.len()];
            let mut lent = Params::new();
            let grads: Vec<ArrayD<A>> = numbers
                .params
                .iter()
                .zip(values)
                .map(|(p, g)| array(&p.shape, g))
                .collect();
            for ((start, param), grad) in numbers.params.iter().zip(&mut *params).zip(&grads) {
                let late = start.name == LATE.0 && step < LATE.1;
                // Without its gradient in one element type and left out in the other, which the
                // script is to take both.
                if !late || A::TYPE == ElementType::F64 {
                    lent.add_optional(&*start.name, param, (!late).then_some(&**grad))
                        .unwrap();
                }
            }
            optimizer.step(lent).unwrap();
        }
    }

    fn save(&self) -> Vec<u8> {
        let params = self
            .numbers
            .params
            .iter()
            .zip(&self.params)
            .map(|(start, param)| (&*start.name, param.view()));
        self.optimizer
            .state_view()
            .to_safetensors_with(params)
            .unwrap()
    }
}

/// The greatest difference of an array's elements over its greatest element, for parameters and
/// averages. Everything else must be the same.
fn worst_error<A: Element>(found: &[u8], expected: &[u8]) -> f64 {
    type All = BTreeMap<String, Data<'static>>;
    let read = |bytes| -> (StateDict, All) { StateDict::from_safetensors(bytes).unwrap() };
    let ((mut found, mut all), (mut expected, mut others)) = (read(found), read(expected));
    // A run of torch has none.
    let groups = found.groups.iter_mut().chain(&mut expected.groups);
    groups.for_each(|group| group.initial_lr = None);
    assert_eq!(found.groups, expected.groups);
    let about =
        |state: &StateDict, all: &mut All| -> BTreeMap<_, _> {
            let arrays = state
                .params
                .iter()
                .flat_map(|param| param.arrays.iter().map(move |array| (param, array)));
            all.extend(arrays.map(|(param, array)| {
                (format!("{}.{}", param.name, array.name), array.data.clone())
            }));
            // torch's SGD does not count, and without momentum does not even begin. A parameter
            // that has not begun need not be there.
            let begun = state
                .params
                .iter()
                .filter(|param| param.steps > 0 && !param.arrays.is_empty());
            let steps = |steps| {
                if state.groups[0].optimizer == "sgd" {
                    1
                } else {
                    steps
                }
            };
            begun
                .map(|param| {
                    (
                        param.name.clone(),
                        (param.group.clone(), param.shape.clone(), steps(param.steps)),
                    )
                })
                .collect()
        };
    assert_eq!(about(&found, &mut all), about(&expected, &mut others));
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        others.keys().collect::<Vec<_>>()
    );
    let numbers =
        |data: &Data| -> Vec<f64> { data.view::<A>().unwrap().iter().map(|x| x.f64()).collect() };
    let mut worst: f64 = 0.0;
    for (x, y) in all.values().map(numbers).zip(others.values().map(numbers)) {
        assert!(x.len() == y.len() && x.iter().chain(&y).all(|x| x.is_finite()));
        let apart = x
            .iter()
            .zip(&y)
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f64::max);
        let size = y.iter().fold(0.0, |size: f64, y| size.max(y.abs()));
        worst = worst.max(if apart == 0.0 { 0.0 } else { apart / size });
    }
    worst
}

/// Both directions, by the files in a folder.
fn compare<A: Element>(case: &Case, folder: &Path) {
    let tolerance = match (A::TYPE, &*case.id) {
        (ElementType::F64, _) => 1e-14,
        // A variance as the difference of two averages loses digits.
        (_, "rmsprop") => 5e-6,
        _ => 2e-6,
    };
    let read = |what| fs::read(file::<A>(folder, case, what)).unwrap();
    let mut run = Run::<A>::load(case, &file::<A>(folder, case, "torch"));
    run.advance(BEFORE + 1..=STEPS);
    let to_here = worst_error::<A>(&run.save(), &read("torch_end"));

    let mut run = Run::<A>::new(case);
    run.advance(1..=BEFORE);
    let same = worst_error::<A>(&run.save(), &read("here"));
    run.advance(BEFORE + 1..=STEPS);
    let to_torch = worst_error::<A>(&read("here_end"), &run.save());
    println!(
        "{:>16} {}: torch to here {to_here:.1e}, here to torch {to_torch:.1e}",
        case.id,
        A::TYPE
    );
    assert!(
        same <= tolerance && to_here <= tolerance && to_torch <= tolerance,
        "{}: {same:.1e}",
        case.id
    );
}

/// Whether the files of a case are kept: all in `f64`, one in `f32`.
fn kept<A: Element>(case: &Case) -> bool {
    A::TYPE == ElementType::F64 || case.id == "adamw_groups"
}

#[test]
fn kept_files_of_torch_continue_here_and_there() {
    for case in cases() {
        compare::<f64>(&case, &folder());
        if kept::<f32>(&case) {
            compare::<f32>(&case, &folder());
        }
    }
}

/// A folder that goes when the test ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is to be taken to torch: the first steps made here, and torch's own as they were loaded
/// here.
fn write<A: Element>(case: &Case, folder: &Path) {
    let mut here = Run::<A>::new(case);
    here.advance(1..=BEFORE);
    fs::write(file::<A>(folder, case, "here"), here.save()).unwrap();
    let back = Run::<A>::load(case, &file::<A>(folder, case, "torch"));
    fs::write(file::<A>(folder, case, "back"), back.save()).unwrap();
}

fn keep<A: Element>(case: &Case, from: &Path) {
    for what in ["torch", "torch_end", "here", "here_end"]
        .into_iter()
        .filter(|_| kept::<A>(case))
    {
        fs::copy(
            file::<A>(from, case, what),
            file::<A>(&folder(), case, what),
        )
        .unwrap();
    }
}

#[test]
fn torch_itself_continues_and_is_continued() {
    let python = env::var_os("PYTHON").unwrap_or("python3".into());
    let imports = Command::new(&python)
        .args(["-c", "import torch, safetensors"])
        .output();
    if !imports.is_ok_and(|imports| imports.status.success()) {
        println!("no live run of torch: {python:?} cannot import torch and safetensors");
        return;
    }
    let temporary =
        Temporary(env::temp_dir().join(format!("ndarray-optim-torch-{}", std::process::id())));
    fs::create_dir(&temporary.0).unwrap();
    let run = |command| {
        let run = Command::new(&python)
            .arg(folder().join("run.py"))
            .arg(command)
            .arg(&temporary.0)
            .output()
            .unwrap();
        print!("{}", String::from_utf8_lossy(&run.stdout));
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
    };
    run("begin");
    for case in cases() {
        write::<f64>(&case, &temporary.0);
        write::<f32>(&case, &temporary.0);
    }
    run("end");
    for case in cases() {
        compare::<f64>(&case, &temporary.0);
        compare::<f32>(&case, &temporary.0);
        if env::var_os("WRITE_TORCH").is_some() {
            keep::<f64>(&case, &temporary.0);
            keep::<f32>(&case, &temporary.0);
        }
    }
}
