//! One step of every optimizer over 1000 x 1000 `f32` elements on one thread, relative to
//!
//! - a hand-written loop of its formula (`common/by_hand.rs`), for element-wise algorithms,
//! - the memory limit: a rule with as many state arrays and almost no arithmetic, run by the same
//!   driver, after reading what the optimizer reads before its sweep.
//!
//! Prints the rows of `docs/family.md`. Before it is timed, every hand-written loop makes one step
//! next to the optimizer's and has to arrive at the same numbers.
//!
//! `cargo bench --bench family`, or with other sizes of the square and for some optimizers only:
//! `-- 316 3162 adam lion`
mod common;

use common::{Variant, by_hand::by_hand, compare, numbers, read, traffic};
use ndarray::{Array2, ArrayView2};
use ndarray_optim::{AnyAlgorithm, Optimizer, Parallel, algorithm::Arrays, instruction_set};
use std::{
    hint::black_box,
    ops::{Deref, DerefMut, Range},
};

/// The step whose scalars hand-written loops use. From then on every algorithm has its final form.
const T: u32 = 10;

/// What is read before the sweep, for sums of whole arrays: the parameter, the gradient and state
/// arrays by their index; another pass after a space.
fn reads(algorithm: &str) -> &'static str {
    match algorithm {
        "novograd" | "polyak_sgd" => "g",
        "fromage" | "lars" => "pg",
        "lamb" | "momo_adam" => "pg01",
        "momo" => "pg0",
        "dog" | "dowg" => "g0",
        "prodigy" => "g23",
        "dadapt_adamw" => "g12",
        "mars" => "g2",
        "adafactor" => "pg g",
        _ => "",
    }
}

/// A copy of an array that begins at the same place of a page, so that both are equally aligned.
struct Copied {
    numbers: Vec<f32>,
    range: Range<usize>,
}

impl Copied {
    fn new(array: &[f32]) -> Self {
        const PAGE: usize = 1024;
        let mut numbers = vec![0.0; array.len() + PAGE];
        let place = |array: &[f32]| array.as_ptr().addr() / size_of::<f32>() % PAGE;
        let start = (PAGE + place(array) - place(&numbers)) % PAGE;
        let range = start..start + array.len();
        numbers[range.clone()].copy_from_slice(array);
        Copied { numbers, range }
    }
}

impl Deref for Copied {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.numbers[self.range.clone()]
    }
}

impl DerefMut for Copied {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.range.clone()]
    }
}

/// The parameter and the state arrays.
fn copied(p: &Array2<f32>, optimizer: &Optimizer<f32>) -> (Copied, [Copied; 6]) {
    let state = optimizer.state_view();
    let arrays = &state.params[0].arrays;
    let array = |k: usize| {
        let view = arrays.get(k).and_then(|array| array.data.view::<f32>());
        Copied::new(
            view.as_ref()
                .and_then(|view| view.as_slice())
                .unwrap_or(&[]),
        )
    };
    (
        Copied::new(p.as_slice().unwrap()),
        std::array::from_fn(array),
    )
}

/// Panics unless both agree within rounding errors, which are far below the change in a step.
fn compare_numbers(name: &str, by_hand: &[f32], step: &[f32]) {
    for (a, b) in by_hand.iter().zip(step) {
        assert!(
            (a - b).abs() <= 1e-6 * (b.abs() + 0.1),
            "{name}: the hand-written loop arrives at {a}, the step at {b}"
        );
    }
}

/// The number of state arrays, nanoseconds per element, and the ratios to the hand-written loop and
/// to the memory limit.
fn measure(algorithm: &AnyAlgorithm, side: usize) -> (usize, f64, Option<f64>, f64) {
    let (name, n) = (algorithm.name(), side * side);
    // Steps take turns with a gradient and its negative, which share memory. Along a constant one
    // parameters would grow without bound, and its differences would decay into subnormal numbers,
    // which hand-written loops do not flush.
    let base = numbers::<f32>(16, 2);
    let sign = |i: usize| {
        if (i / 16).is_multiple_of(2) {
            1.0
        } else {
            -1.0
        }
    };
    let g: Vec<f32> = (0..n + 16).map(|i| sign(i) * base[i % 16]).collect();
    let grads = [&g[..n], &g[16..]];
    let views = grads.map(|g| ArrayView2::from_shape((side, side), g).unwrap());
    let turns = || {
        let mut turn = 0;
        move || {
            turn ^= 1;
            turn
        }
    };
    let mut p = Array2::from_shape_vec((side, side), numbers(n, 1)).unwrap();
    let mut optimizer = Optimizer::new(algorithm.clone());
    optimizer.parallel = Parallel::SERIAL;
    let by_hand = by_hand(name, T.into());
    let step = |optimizer: &mut Optimizer<f32>, p: &mut Array2<f32>, turn: usize| {
        // `update_with_loss`, which a few algorithms need, has no short cut for small arrays.
        let outcome = match by_hand {
            Some(_) => optimizer.update(p, &views[turn]),
            None => optimizer.update_with_loss(p, &views[turn], 1.0),
        };
        outcome.unwrap();
    };

    step(&mut optimizer, &mut p, 0);
    if let Some(by_hand) = &by_hand {
        let turn = |t: u32| usize::from(t.is_multiple_of(3));
        (2..T).for_each(|t| step(&mut optimizer, &mut p, turn(t)));
        let (mut hp, mut state) = copied(&p, &optimizer);
        by_hand(
            &mut hp,
            grads[turn(T)],
            state.each_mut().map(DerefMut::deref_mut),
        );
        step(&mut optimizer, &mut p, turn(T));
        let (sp, expected) = copied(&p, &optimizer);
        compare_numbers(name, &hp, &sp);
        for (array, expected) in state.iter().zip(&expected) {
            compare_numbers(name, array, expected);
        }
    }

    let arrays = optimizer.state_view().params[0].arrays.len();
    let (mut lp, mut limit_state) = copied(&p, &optimizer);
    let (mut hp, mut hand_state) = copied(&p, &optimizer);
    let (mut turn, mut limit_turn, mut hand_turn) = (turns(), turns(), turns());
    let mut variants = vec![
        Variant::new("step", || step(&mut optimizer, &mut p, turn())),
        Variant::new("limit", || {
            let g = grads[limit_turn()];
            for pass in reads(name).split_whitespace() {
                let array = |of: char| match of {
                    'p' => &*lp,
                    'g' => g,
                    k => &limit_state[k as usize - '0' as usize],
                };
                black_box(read(&pass.chars().map(array).collect::<Vec<_>>()));
            }
            let state = Arrays::new(limit_state.each_mut().map(DerefMut::deref_mut));
            traffic(arrays, &mut lp, g, state)
        }),
    ];
    if let Some(by_hand) = &by_hand {
        variants.push(Variant::new("by hand", || {
            let state = hand_state.each_mut().map(DerefMut::deref_mut);
            by_hand(&mut hp, grads[hand_turn()], state)
        }));
    }
    let times = compare(&mut variants, 2e-3, 21);
    (
        arrays,
        times[0].seconds * 1e9 / n as f64,
        times.get(2).map(|time| 1.0 / time.ratio),
        1.0 / times[1].ratio,
    )
}

fn main() {
    let args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let (numbers, words): (Vec<_>, Vec<_>) = args.partition(|arg| arg.parse::<usize>().is_ok());
    let mut sides: Vec<usize> = numbers.iter().flat_map(|arg| arg.parse()).collect();
    if sides.is_empty() {
        sides.push(1000);
    }
    println!("instruction set: {}", instruction_set());
    for side in sides {
        println!("\n{side} x {side}\n");
        println!(
            "| optimizer | state arrays | ns an element | step / hand-written loop \
             | step / memory limit |\n|---|---|---|---|---|"
        );
        for algorithm in AnyAlgorithm::all() {
            if !words.is_empty() && !words.iter().any(|word| word == algorithm.name()) {
                continue;
            }
            let (arrays, time, by_hand, limit) = measure(&algorithm, side);
            let by_hand = by_hand.map_or("-".into(), |ratio| format!("{ratio:.2}"));
            println!(
                "| `{}` | {arrays} | {time:.2} | {by_hand} | {limit:.2} |",
                algorithm.name()
            );
        }
    }
}
