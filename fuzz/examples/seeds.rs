//! Fills `corpus` from files of the repository and from states of every optimizer:
//! `cargo run --example seeds`.
use ndarray::array;
use ndarray_optim::{AnyAlgorithm, Checkpoint, Group, Optimizer, Params, StateDict};
use serde_json::{Value, json};
use std::{fs, path::Path};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = root.join("../tests");
    let write = |target: &str, name: &str, kind: u8, contents: &[u8]| {
        let folder = root.join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), [&[kind], contents].concat()).unwrap();
    };
    let golden = |folder: &str| {
        fs::read_dir(tests.join(folder))
            .unwrap()
            .map(|file| file.unwrap().path())
    };

    // Random bytes, for the targets that read theirs as choices.
    let mut x = 1_u64;
    for target in ["step", "drive", "groups", "extremes", "directory", "edit"] {
        for (kind, length) in [(0, 256), (1, 1024), (2, 2048), (3, 4000)] {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
                    (x >> 56) as u8
                })
                .collect();
            write(target, &format!("random-{length}"), kind, &bytes);
        }
    }
    for file in golden("fixtures/states").filter(|file| {
        file.extension()
            .is_some_and(|extension| extension != "ckpt")
    }) {
        let kind = ["state", "safetensors", "json"]
            .iter()
            .position(|known| file.extension().unwrap() == *known);
        let name = file.file_name().unwrap().to_str().unwrap();
        write(
            "state",
            name,
            kind.unwrap() as u8,
            &fs::read(&file).unwrap(),
        );
    }
    let mut files = Vec::new();
    for (i, algorithm) in AnyAlgorithm::all().iter().enumerate() {
        let state = some_state(algorithm, i % 3 == 0);
        let sections = Checkpoint::new(1).state("s", state.view()).unwrap();
        files.push((algorithm.name().to_owned(), sections.to_bytes().unwrap()));
        let mut cbor = Vec::new();
        ciborium::into_writer(&state, &mut cbor).unwrap();
        let formats = [
            state.to_bytes().unwrap(),
            state.to_safetensors().unwrap(),
            serde_json::to_vec(&state).unwrap(),
            cbor,
            postcard::to_stdvec(&state).unwrap(),
        ];
        for (kind, bytes) in (0..).zip(formats) {
            write(
                "state",
                &format!("{}-{kind}", algorithm.name()),
                kind,
                &bytes,
            );
        }
        write(
            "config",
            algorithm.name(),
            0,
            &serde_json::to_vec(algorithm).unwrap(),
        );
    }

    let weight = array![[1.0_f32, f32::NAN], [-0.0, 4.0]];
    let small = Checkpoint::new(5)
        .section("w", &weight)
        .section("b", array![0.5_f64])
        .section("loader", [1, 2, 3]);
    files.push(("small".into(), small.to_bytes().unwrap()));
    files.push(("empty".into(), Checkpoint::new(0).to_bytes().unwrap()));
    for file in golden("fixtures/checkpoints")
        .chain(golden("fixtures/states"))
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "ckpt")
        })
    {
        files.push((
            file.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read(&file).unwrap(),
        ));
    }
    for (name, bytes) in files {
        (0..3).for_each(|kind| write("checkpoint", &format!("{name}-{kind}"), kind, &bytes));
    }

    for file in golden("fixtures/trajectories").filter(|file| {
        file.extension()
            .is_some_and(|extension| extension == "json")
    }) {
        for case in serde_json::from_slice::<Vec<Value>>(&fs::read(file).unwrap()).unwrap() {
            write(
                "config",
                case["id"].as_str().unwrap(),
                0,
                case["optimizer"].to_string().as_bytes(),
            );
        }
    }
    let mut schedules: Vec<Value> =
        serde_json::from_str(include_str!("../src/schedules.json")).unwrap();
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(tests.join("fixtures/schedules/schedules.json")).unwrap())
            .unwrap();
    schedules.extend(cases.iter().map(|case| case["schedule"].clone()));
    for (i, mut schedule) in schedules.into_iter().enumerate() {
        if schedule["name"] == "reduce_on_plateau" {
            schedule.as_object_mut().unwrap().remove("name");
            write(
                "config",
                &format!("plateau-{i}"),
                5,
                schedule.to_string().as_bytes(),
            );
            let state = json!({"lr": schedule["lr"], "config": schedule, "best": null, "bad": 0, "cooling": 0});
            write(
                "config",
                &format!("plateau-state-{i}"),
                4,
                state.to_string().as_bytes(),
            );
            continue;
        }
        write(
            "config",
            &format!("schedule-{i}"),
            2,
            format!("{schedule}\n12345678").as_bytes(),
        );
        let driven = json!([{"field": "lr", "schedule": schedule}, {"field": "eps", "group": "g", "schedule": schedule}]);
        write(
            "config",
            &format!("driven-{i}"),
            3,
            format!("{driven}\n12345678").as_bytes(),
        );
    }
    let group = json!({"group": "g", "params": ["variable"], "optimizer": {"name": "adamw", "betas": [0.9, 0.99]}});
    write("config", "group", 6, group.to_string().as_bytes());
    let matrices = json!({"group": "m", "params": {"rank": 2}, "optimizer": {"name": "muon"}});
    write("config", "matrices", 6, matrices.to_string().as_bytes());
    let wrap = json!([{"name": "clip_by_global_norm"}, {"name": "ema"}, {"name": "lookahead", "sync_period": 2}]);
    let composed = json!({"name": "composed", "inner": {"name": "lamb"}, "wrap": wrap});
    write("config", "composed", 0, composed.to_string().as_bytes());
}

/// A state with a group, and with `rounds` in the middle of a round of gradient accumulation.
fn some_state(algorithm: &AnyAlgorithm, rounds: bool) -> StateDict {
    let mut optimizer = Optimizer::<f32>::new(algorithm.clone());
    optimizer
        .add_group(Group::new("g", ["b"], algorithm.clone()))
        .unwrap();
    if rounds {
        optimizer.set_accumulation(2);
    }
    let (mut a, mut b) = (array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], array![[0.5]]);
    let (ga, gb) = (array![[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], array![[0.25]]);
    for _ in 0..3 {
        let mut params = Params::new();
        params
            .loss(1.5)
            .add("a", &mut a, &ga)
            .unwrap()
            .add("b", &mut b, &gb)
            .unwrap();
        optimizer.step(params).unwrap();
    }
    optimizer.state_dict()
}
