//! Runs that are saved by some ranks and resumed by others.
use crate::{Run, model::*};
use ndarray_optim::{
    AdamW, AnyAlgorithm, AnyWrap, Checkpoints, Group, Muon, Optimizer, Prodigy, Select,
};
use ndarray_optim_mpi::{Batch, Config, Distributed, Mode, Ranks};
use std::{env, fs, path::Path, process};

pub fn runs() -> Vec<Run> {
    let mut runs = Vec::new();
    let dir = |name: &str| {
        let name = format!("ndarray-optim-mpi-{name}-{}", process::id());
        Some(env::temp_dir().join(name))
    };
    for mode in ["sharded", "replicated"] {
        // The uninterrupted run, on one rank.
        let whole = format!("resume {mode}, the whole run");
        let shared = dir(mode);
        runs.push(Run {
            dir: shared.clone(),
            ..Run::good(&whole, 1)
        });
        for from in 1..=4 {
            let save = format!("resume {mode}, saved by {from}");
            runs.push(Run {
                dir: shared.clone(),
                ..Run::good(&save, from)
            });
            for to in 1..=4 {
                let case = format!("resume {mode}, from {from}");
                runs.push(Run {
                    dir: shared.clone(),
                    ..Run::good(&case, to)
                });
            }
        }
    }
    // One of the ranks dies while all save the second checkpoint.
    let killed = dir("killed");
    let die = Run {
        dir: killed.clone(),
        expected: [Some("rank 2 is gone"), Some("rank 2 is gone"), None]
            .map(|says| says.map(String::from))
            .to_vec(),
        ..Run::good("resume sharded, killed", 3)
    };
    runs.push(Run {
        dir: killed.clone(),
        ..Run::good("resume sharded, the whole run", 1)
    });
    runs.push(die);
    runs.push(Run {
        dir: killed,
        ..Run::good("resume sharded, from killed", 2)
    });
    let mixed = dir("mixed");
    runs.push(Run {
        dir: mixed,
        ..Run::good("resume sharded, mixed", 2)
    });
    runs
}

/// Of two checkpoints of the same step, rank 1 has an old file: a rank died between the writes.
fn mixed(ranks: &Ranks, dir: &Path) {
    let mut model = model::<f32>(false);
    let optimizer = Optimizer::new(AdamW::new(0.01));
    let config = Config::new(Mode::Sharded);
    let mut all = Distributed::new(ranks, config, optimizer, &model).unwrap();
    all.save(dir, 3, 1, &model).unwrap();
    let file = fs::read_dir(dir.join("rank-00001"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let old = fs::read(&file).unwrap();
    ranks.barrier().unwrap();
    model.values_mut().for_each(|array| array.fill(1.0));
    all.save(dir, 3, 1, &model).unwrap();
    let new = model.clone();
    assert_eq!(all.load(dir, &mut model).unwrap(), Some(3));
    assert_eq!(difference(&new, &model), None);
    ranks.barrier().unwrap();
    if ranks.rank() == 1 {
        fs::write(&file, old).unwrap();
    }
    ranks.barrier().unwrap();
    let error = all.load(dir, &mut model).unwrap_err().to_string();
    assert!(error.contains("of several checkpoints"), "{error}");
}

const SAVED: u64 = 5;
const END: u64 = 11;

pub fn run(case: &str, ranks: &Ranks, dir: &Path) -> String {
    if case.ends_with("mixed") {
        mixed(ranks, dir);
        return "good".into();
    }
    let mode = match case.contains("sharded") {
        true => Mode::Sharded,
        false => Mode::Replicated,
    };
    let ema = AnyWrap::all()
        .into_iter()
        .find(|wrap| wrap.name() == "ema")
        .unwrap();
    let mut optimizer = Optimizer::new(AnyAlgorithm::from(AdamW::new(0.01)).in_wrappers([ema]));
    let large = Group::new("matrices", Select::rank(2), Muon::new(0.02));
    optimizer.add_group(large).unwrap();
    optimizer
        .add_group(Group::new("bias", ["bias", "cube"], Prodigy::new(1.0)))
        .unwrap();
    let mut model = model::<f32>(false);
    let mut all = Distributed::new(ranks, Config::new(mode), optimizer, &model).unwrap();
    let from = case.rsplit(' ').next().unwrap_or_default();
    let folder = match case.contains("the whole run") {
        true => dir.join("whole"),
        false => dir.join(from),
    };
    let mut first = 0;
    if case.contains("from") {
        // `END + 1` is the only checkpoint of the whole run.
        first = all.load(&folder, &mut model).unwrap().unwrap() + 1;
        assert_eq!(first, SAVED + 1);
        all.check_equal(&model).unwrap();
    }
    for step in first..=END {
        let grads = gradient(&model, step, 0, false);
        let batch = Batch {
            weight: 1.0,
            loss: Some(loss(step)),
        };
        all.step(&mut model, &grads, batch).unwrap();
        if step == SAVED && case.contains("saved by") {
            all.save(&folder, step, 1, &model).unwrap();
            return "good".into();
        }
        if case.contains(", killed") && step >= SAVED {
            all.save(&folder, step, 1, &model).unwrap();
            if step > SAVED && ranks.rank() == 2 {
                // As if it had died before it wrote its file.
                let folder = Checkpoints::open(folder.join("rank-00002"), 1).unwrap();
                fs::remove_file(folder.path(step)).unwrap();
                process::abort();
            }
            if step > SAVED {
                assert!(ranks.barrier().is_err());
                return "rank 2 is gone".into();
            }
        }
    }
    let end = dir.join("whole");
    if case.contains("the whole run") {
        all.save(&end, END, 1, &model).unwrap();
        return "good".into();
    }
    let expected = ndarray_optim_mpi::Saved::open(&end)
        .assemble::<f32>()
        .unwrap()
        .unwrap();
    assert_eq!(
        difference(&expected.params.into_iter().collect(), &model),
        None
    );
    if ranks.rank() == 0 && case.contains("from killed") {
        // It had been saved by two of three.
        let names = fs::read_dir(folder.join("rank-00000")).unwrap().count();
        assert_eq!(names, 2);
    }
    "good".into()
}
