//! The cost of wrappers: composed steps, relative to the memory limit with the same traffic and to
//! separate passes.
//!
//! `cargo bench --bench compose`
mod common;

use common::{Variant, compare, limit, numbers, traffic};
use ndarray::{Array1, Zip};
use ndarray_optim::{
    AdamW, AnyAlgorithm, Compose, Optimizer, Parallel,
    algorithm::Arrays,
    wrap::{ClipByValue, Ema},
};
use rayon::prelude::*;

fn rounds(n: usize) -> usize {
    if n >= 10_000_000 { 15 } else { 41 }
}

/// The memory limit on all threads.
fn parallel_limit(arrays: usize, p: &mut [f32], g: &[f32], state: &mut [Vec<f32>; 6]) {
    const CHUNK: usize = 1 << 15;
    let [a, b, c, ..] = state;
    let pieces = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
    let state = a
        .par_chunks_mut(CHUNK)
        .zip(b.par_chunks_mut(CHUNK))
        .zip(c.par_chunks_mut(CHUNK));
    pieces.zip(state).for_each(|((p, g), ((a, b), c))| {
        traffic(arrays, p, g, Arrays::new([a, b, c]));
    });
}

fn report(what: &str, n: usize, threads: usize, ratio: f64, seconds: f64) {
    println!(
        "{what:<66} {n:>9} {threads} thread(s) {ratio:>6.3}   {:.3} ns an element",
        seconds * 1e9 / n as f64
    );
}

fn main() {
    for (n, threads) in [
        (100_000, 1),
        (1_000_000, 1),
        (10_000_000, 1),
        (10_000_000, 2),
    ] {
        let parallel = if threads == 1 {
            Parallel::SERIAL
        } else {
            Parallel::default()
        };
        let g = numbers::<f32>(n, 2);
        let grad = Array1::from(g.clone());
        let theta = || Array1::from(numbers::<f32>(n, 1));
        let (mut p, mut state) = (numbers::<f32>(n, 1), std::array::from_fn(|_| vec![0.0; n]));
        let (mut p2, mut state2) = (p.clone(), state.clone());
        let lim = |arrays: usize, p: &mut [f32], g: &[f32], state: &mut [Vec<f32>; 6]| match threads
        {
            1 => limit(arrays, p, g, state),
            _ => parallel_limit(arrays, p, g, state),
        };

        let adamw = || AdamW::new(1e-3);
        let wrap = [ClipByValue { max_value: 0.9 }.into(), Ema::default().into()];
        let [
            mut plain,
            mut separate,
            mut typed,
            mut file,
            mut clipped,
            mut watched,
        ] = [
            Optimizer::new(adamw()),
            Optimizer::new(adamw()),
            Optimizer::new(adamw().clip_by_value(0.9).ema(0.999)),
            Optimizer::new(AnyAlgorithm::from(adamw()).in_wrappers(wrap)),
            Optimizer::new(adamw().clip_by_global_norm(1.0)),
            Optimizer::new(adamw().watch()),
        ]
        .map(|mut optimizer: Optimizer<f32>| {
            optimizer.parallel = parallel;
            optimizer
        });
        let [mut a, mut b, mut c, mut d, mut e, mut h] = [(); 6].map(|()| theta());
        let (mut scratch, mut average) = (theta(), theta());

        let variants = &mut [
            Variant::new("limit", || lim(3, &mut p, &g, &mut state)),
            Variant::new("typed", || _ = typed.update(&mut a, &grad).unwrap()),
            Variant::new("file", || _ = file.update(&mut b, &grad).unwrap()),
            Variant::new("separate", || {
                Zip::from(&mut scratch)
                    .and(&grad)
                    .for_each(|s, &g| *s = g.clamp(-0.9, 0.9));
                separate.update(&mut c, &scratch).unwrap();
                Zip::from(&mut average)
                    .and(&c)
                    .for_each(|e, &p| *e += 0.001 * (p - *e));
            }),
        ];
        let times = compare(variants, 2e-3, rounds(n));
        report(
            "clip + AdamW + EMA by type / limit of 36 bytes",
            n,
            threads,
            times[1].ratio,
            times[1].seconds,
        );
        report(
            "clip + AdamW + EMA by file / limit of 36 bytes",
            n,
            threads,
            times[2].ratio,
            times[2].seconds,
        );
        if threads == 1 {
            report(
                "clip, AdamW and EMA in three passes / limit",
                n,
                threads,
                times[3].ratio,
                times[3].seconds,
            );
        }
        let variants = &mut [
            Variant::new("limit", || lim(2, &mut p2, &g, &mut state2)),
            Variant::new("plain", || _ = plain.update(&mut d, &grad).unwrap()),
            Variant::new("clipped", || _ = clipped.update(&mut e, &grad).unwrap()),
            Variant::new("watched", || _ = watched.update(&mut h, &grad).unwrap()),
        ];
        let times = compare(variants, 2e-3, rounds(n));
        report(
            "AdamW / limit of 28 bytes",
            n,
            threads,
            times[1].ratio,
            times[1].seconds,
        );
        report(
            "clip by global norm + AdamW / the same",
            n,
            threads,
            times[2].ratio,
            times[2].seconds,
        );
        report(
            "watched AdamW / AdamW",
            n,
            threads,
            times[3].ratio / times[1].ratio,
            times[3].seconds,
        );
    }
}
