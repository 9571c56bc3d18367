//! Saving and loading 1e7 parameters with the state of Adam, 120 MB of `f32`, compared with plain
//! writes and reads of the same bytes.
//!
//! `cargo bench --bench checkpoint`, or `-- DIR` for another directory than the build's.
mod common;

use common::{Variant, compare, numbers};
use ndarray::{Array1, ArrayD};
use ndarray_optim::{AdamW, Checkpoint, Checkpoints, Optimizer, StateDict};
use std::{
    cell::Cell,
    env, fs,
    fs::File,
    hint::black_box,
    io::{Read, Write},
    path::PathBuf,
};

const N: usize = 10_000_000;
const NAMES: [&str; 3] = ["params", "optimizer/exp_avg", "optimizer/exp_avg_sq"];

fn table(title: &str, sample: usize, variants: &mut [Variant]) {
    println!("\n{title}");
    let times = compare(variants, 0.0, 15);
    for (variant, time) in variants.iter().zip(times) {
        let speed = sample as f64 / time.seconds / 1e9;
        println!(
            "  {:<58} {:7.1} ms {speed:6.2} GB/s  ratio {:.2}",
            variant.name,
            time.seconds * 1e3,
            time.ratio
        );
    }
}

fn main() {
    let root = env::args().skip(1).find(|word| !word.starts_with('-'));
    let root = root.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = root.join("bench-checkpoint");
    let _ = fs::remove_dir_all(&dir);
    let checkpoints = Checkpoints::open(&dir, 1).unwrap();
    let arrays = [1, 2, 3].map(|seed| Array1::from(numbers::<f32>(N, seed)));
    let step = Cell::new(0);
    let next = || {
        step.set(step.get() + 1);
        let sections = NAMES.iter().zip(&arrays);
        sections.fold(Checkpoint::new(step.get()), |checkpoint, (&name, array)| {
            checkpoint.section(name, array)
        })
    };
    let matrices = arrays
        .each_ref()
        .map(|array| array.to_shape((N / 2500, 2500)).unwrap().reversed_axes());
    let turned = || {
        let sections = NAMES.iter().zip(&matrices);
        sections.fold(Checkpoint::new(0), |checkpoint, (&name, array)| {
            checkpoint.section(name, array)
        })
    };
    let mut adamw = Optimizer::new(AdamW::new(1e-3));
    let mut theta = arrays[0].clone();
    adamw.update(&mut theta, &arrays[1]).unwrap();
    let run = || {
        let checkpoint = Checkpoint::new(step.get()).section("params", &theta);
        checkpoint.state("optimizer", adamw.state_view()).unwrap()
    };
    let bytes = next().to_bytes().unwrap();
    let (plain, once) = (dir.join("plain"), dir.join("once"));
    let write = |sync: bool| {
        let mut file = File::create(&plain).unwrap();
        file.write_all(&bytes).unwrap();
        if sync {
            file.sync_all().unwrap();
        }
    };
    println!("{} bytes in {}", bytes.len(), dir.display());
    table(
        "save, until it is on the disk; each replaces its last file",
        bytes.len(),
        &mut [
            Variant::new("plain: create, write, sync", || write(true)),
            Variant::new("Checkpoint::save", || next().save(&once).unwrap()),
            Variant::new(
                "Checkpoint::save, of matrices in column-major order",
                || turned().save(&once).unwrap(),
            ),
            Variant::new(
                "Checkpoint::save, parameters and the state of an AdamW",
                || run().save(&once).unwrap(),
            ),
            Variant::new("the same through StateDict::to_bytes", || {
                let state = adamw.state_view().to_bytes().unwrap();
                Checkpoint::new(step.get())
                    .section("params", &theta)
                    .section("optimizer", state)
                    .save(&once)
                    .unwrap();
            }),
            Variant::new("Checkpoints::save, keep 1", || {
                drop(checkpoints.save(&next()).unwrap())
            }),
        ],
    );
    let path = checkpoints.path(step.get());
    run().save(&once).unwrap();
    let as_bytes = dir.join("bytes");
    let state = adamw.state_view().to_bytes().unwrap();
    Checkpoint::new(1)
        .section("params", &theta)
        .section("optimizer", state)
        .save(&as_bytes)
        .unwrap();
    let (mut param, mut again) = (theta.clone(), theta.clone());
    let mut buffer = vec![1_u8; bytes.len()];
    let mut into = arrays.clone();
    table(
        "load, from the page cache",
        bytes.len(),
        &mut [
            Variant::new("plain: fs::read", || {
                drop(black_box(fs::read(&plain).unwrap()))
            }),
            Variant::new("plain: read into memory that is there", || {
                File::open(&plain)
                    .unwrap()
                    .read_exact(black_box(&mut buffer))
                    .unwrap();
            }),
            Variant::new("Checkpoint::load and take", || {
                let mut checkpoint = Checkpoint::load(&path).unwrap();
                let arrays: [ArrayD<f32>; 3] = NAMES.map(|name| checkpoint.take(name).unwrap());
                drop(black_box(arrays));
            }),
            Variant::new(
                "Checkpoint::load and restore into arrays that are there",
                || {
                    let checkpoint = Checkpoint::load(&path).unwrap();
                    let pairs = NAMES
                        .into_iter()
                        .zip(into.iter_mut().map(|array| array.view_mut().into_dyn()));
                    checkpoint.restore(pairs).unwrap();
                },
            ),
            Variant::new(
                "Checkpoint::load, parameters and the state of an AdamW",
                || {
                    let mut checkpoint = Checkpoint::load(&once).unwrap();
                    checkpoint
                        .restore([("params", param.view_mut().into_dyn())])
                        .unwrap();
                    let mut resumed = Optimizer::<f32>::new(AdamW::new(1.0));
                    resumed
                        .load_state_dict(checkpoint.take_state("optimizer").unwrap())
                        .unwrap();
                    drop(black_box(resumed));
                },
            ),
            Variant::new("the same through StateDict::from_bytes", || {
                let checkpoint = Checkpoint::load(&as_bytes).unwrap();
                let state = StateDict::from_bytes(checkpoint.bytes("optimizer").unwrap()).unwrap();
                let mut resumed = Optimizer::<f32>::new(AdamW::new(1.0));
                resumed.load_state_dict(state).unwrap();
                checkpoint
                    .restore([("params", again.view_mut().into_dyn())])
                    .unwrap();
                drop(black_box(resumed));
            }),
        ],
    );
    fs::remove_dir_all(&dir).unwrap();
}
