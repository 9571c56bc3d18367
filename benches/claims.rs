//! Measures the README's statements about speed: each figure is a ratio of medians of variants that
//! are timed in turn.
//!
//! `cargo bench --bench claims`, or `-- WORD` for those whose name contains the word.
mod common;

use common::{
    Variant,
    by_hand::{adamw, lion, momentum, nadam, rmsprop},
    compare, limit_of_two_moments, median, numbers,
};
use ndarray::{Array1, Array2, ShapeBuilder};
use ndarray_optim::{
    AdamW, Lion, Momentum, NAdam, Optimizer, Parallel, Params, RmsProp, Sgd, algorithm::Element,
    instruction_set,
};
use std::time::{Duration, Instant};

/// Spins, as other work of the caller during which rayon's threads fall asleep.
fn other_work() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(500) {
        std::hint::spin_loop();
    }
}

fn report(claim: &str, figure: f64, bound: &str) {
    println!("{claim:<78} {figure:>6.3}   {bound}");
}

fn threaded() -> Optimizer<f32> {
    Optimizer::new(AdamW::new(1e-3))
}

fn serial() -> Optimizer<f32> {
    let mut adamw = threaded();
    adamw.parallel = Parallel::SERIAL;
    adamw
}

fn rounds(n: usize) -> usize {
    if n >= 10_000_000 { 15 } else { 41 }
}

fn one_thread() {
    for (n, bound) in [
        (100, "<= 1.40"),
        (1000, "< 1.15"),
        (100_000, "<= 1.05"),
        (1_000_000, "<= 1.05"),
        (10_000_000, "<= 1.05"),
    ] {
        let [mut p, g, mut m, mut v] = [1, 2, 3, 4].map(|seed| numbers::<f32>(n, seed));
        v.iter_mut().for_each(|v| *v = v.abs());
        let [mut lp, mut lm, mut lv] = [1, 3, 4].map(|seed| numbers::<f32>(n, seed));
        let (mut theta, grad) = (Array1::from(numbers::<f32>(n, 1)), Array1::from(g.clone()));
        let (scalars, mut optimizer) = (adamw::scalars(1000.0), serial());
        let times = compare(
            &mut [
                Variant::new("hand", || adamw::sweep(scalars, &mut p, &g, &mut m, &mut v)),
                Variant::new("update", || {
                    _ = optimizer.update(&mut theta, &grad).unwrap()
                }),
                Variant::new("limit", || {
                    limit_of_two_moments(&mut lp, &g, &mut lm, &mut lv)
                }),
            ],
            2e-3,
            rounds(n),
        );
        report(
            &format!("1 thread, f32 AdamW, {n} elements: update / hand-written loop"),
            times[1].ratio,
            bound,
        );
        report(
            &format!("                     {n} elements: update / memory limit"),
            times[1].ratio / times[2].ratio,
            "",
        );
        println!(
            "{:78} {:>6.3}   ns an element",
            "",
            times[1].seconds * 1e9 / n as f64
        );
    }
}

/// `update` over the hand-written loop of an algorithm: the median over several allocations, because
/// at 1000 elements the ratio depends on where arrays lie.
macro_rules! over_hand {
    ($A:ident, $n:expr, $loops:ident, $algorithm:expr $(, $state:ident)*) => {{
        let (n, mut ratios, mut kept) = ($n, Vec::new(), Vec::new());
        for round in 0..7 {
            let scalars = $loops::scalars::<$A>(1000.0);
            let (mut p, g) = (numbers::<$A>(n, 1), numbers::<$A>(n, 2));
            $(let mut $state: Vec<$A> = numbers(n, 3).into_iter().map($A::abs).collect();)*
            let (mut theta, grad) = (Array1::from(p.clone()), Array1::from(g.clone()));
            let mut optimizer = Optimizer::<$A>::new($algorithm);
            optimizer.parallel = Parallel::SERIAL;
            let times = compare(
                &mut [
                    Variant::new("hand", || $loops::sweep(scalars, &mut p, &g $(, &mut $state)*)),
                    Variant::new("update", || _ = optimizer.update(&mut theta, &grad).unwrap()),
                ],
                1e-3,
                15,
            );
            ratios.push(times[1].ratio);
            kept.push((vec![0_u8; 64 * (17 * round + 1)], p, theta));
        }
        median(ratios)
    }};
}

fn over_hand() {
    println!(
        "1 thread: update / hand-written loop, with {}",
        instruction_set()
    );
    println!("| | 100 | 1000 | 1e5 | 1e6 |\n|---|---|---|---|---|");
    fn row<A: Element>(name: &str, of: impl Fn(usize) -> f64) {
        let ratios = [100, 1000, 100_000, 1_000_000].map(|n| format!("{:.2}", of(n)));
        println!("| {name}, {} | {} |", A::TYPE, ratios.join(" | "));
    }
    macro_rules! rows {
        ($($name:literal $loops:ident $algorithm:expr => ($($state:ident),*);)*) => {$(
            row::<f32>($name, |n| over_hand!(f32, n, $loops, $algorithm $(, $state)*));
            row::<f64>($name, |n| over_hand!(f64, n, $loops, $algorithm $(, $state)*));
        )*};
    }
    rows! {
        "AdamW" adamw AdamW::default() => (m, v);
        "Momentum" momentum Momentum::default() => (m);
        "RMSProp" rmsprop RmsProp::default() => (v);
        "Lion" lion Lion::default() => (m);
        "NAdam" nadam NAdam::default() => (m, v);
    }
}

fn two_threads() {
    let n = 10_000_000;
    let g = numbers::<f32>(n, 2);
    let [mut lp, mut lm, mut lv] = [1, 3, 4].map(|seed| numbers::<f32>(n, seed));
    let (mut theta, grad) = (Array1::from(numbers::<f32>(n, 1)), Array1::from(g.clone()));
    let mut adamw = threaded();
    // Halves of the array, the best partition there is.
    let half = n / 2;
    let times = compare(
        &mut [
            Variant::new("limit", || {
                let (p, q) = lp.split_at_mut(half);
                let (m, n) = lm.split_at_mut(half);
                let (v, w) = lv.split_at_mut(half);
                rayon::in_place_scope(|scope| {
                    scope.spawn(|_| limit_of_two_moments(q, &g[half..], n, w));
                    limit_of_two_moments(p, &g[..half], m, v);
                });
            }),
            Variant::new("update", || _ = adamw.update(&mut theta, &grad).unwrap()),
        ],
        2e-3,
        rounds(n),
    );
    report(
        "2 threads, f32 AdamW, 10000000 elements: update / memory limit",
        times[1].ratio,
        "<= 1.08",
    );

    for n in [50_000, 100_000, 300_000, 1_000_000] {
        let grad = Array1::from(numbers::<f32>(n, 2));
        let (mut a, mut b, mut ca, mut cb) =
            (grad.clone(), grad.clone(), grad.clone(), grad.clone());
        let (mut one, mut all) = (serial(), threaded());
        let times = compare(
            &mut [
                Variant::new("one", || _ = one.update(&mut a, &grad).unwrap()),
                Variant::new("all", || _ = all.update(&mut b, &grad).unwrap()),
            ],
            2e-3,
            41,
        );
        let bound = if n == 1_000_000 { ">= 1.7" } else { "" };
        report(
            &format!("2 threads, {n} elements, in a loop: speed-up over 1 thread"),
            1.0 / times[1].ratio,
            bound,
        );
        let (mut one, mut all) = (serial(), threaded());
        let mut cold = [
            Variant::new("one", || _ = one.update(&mut ca, &grad).unwrap()),
            Variant::new("all", || _ = all.update(&mut cb, &grad).unwrap()),
        ];
        cold.iter_mut()
            .for_each(|variant| variant.before = Box::new(other_work));
        let times = compare(&mut cold, 0.0, 301);
        report(
            &format!("2 threads, {n} elements, after other work: speed-up over 1 thread"),
            1.0 / times[1].ratio,
            bound,
        );
    }
}

/// Steps of several threads at once, each with an optimizer of its own, and from inside of a pool.
fn several_at_once() {
    let n = 100_000;
    let grad = &Array1::from(numbers::<f32>(n, 2));
    let steps = |(theta, optimizer): &mut (Array1<f32>, Optimizer<f32>)| {
        (0..100).for_each(|_| _ = optimizer.update(&mut *theta, grad).unwrap());
    };
    let on = |count: usize, optimizer: fn() -> Optimizer<f32>| {
        let callers = (0..count).map(|_| (grad.clone(), optimizer()));
        let mut callers: Vec<_> = callers.collect();
        move || {
            std::thread::scope(|scope| {
                for caller in &mut callers {
                    scope.spawn(|| steps(caller));
                }
            })
        }
    };
    for count in [1, 2, 4] {
        let times = compare(
            &mut [
                Variant::new("one", on(count, serial)),
                Variant::new("all", on(count, threaded)),
            ],
            0.0,
            41,
        );
        report(
            &format!("{count} threads call at once, {n} elements: speed-up over steps on 1 thread"),
            1.0 / times[1].ratio,
            "",
        );
    }
    let in_pool = |optimizer: Optimizer<f32>| {
        let mut caller = (grad.clone(), optimizer);
        move || rayon::scope(|_| steps(&mut caller))
    };
    let times = compare(
        &mut [
            Variant::new("one", in_pool(serial())),
            Variant::new("all", in_pool(threaded())),
        ],
        0.0,
        41,
    );
    report(
        &format!("inside of a pool, {n} elements: speed-up over steps on 1 thread"),
        1.0 / times[1].ratio,
        "",
    );
}

fn many_arrays() {
    let names: Vec<String> = (0..1000).map(|i| format!("layer{i}.weight")).collect();
    let grads: Vec<_> = (0..1000)
        .map(|i| Array1::from(numbers::<f32>(1000, i)))
        .collect();
    let mut thetas = grads.clone();
    let mut thetas2 = grads.clone();
    let grad = Array1::from(numbers::<f32>(1_000_000, 2));
    let (mut one, mut one2) = (grad.clone(), grad.clone());
    let [mut a, mut b] = [serial(), serial()];
    let [mut a2, mut b2] = [threaded(), threaded()];
    let lend = |thetas: &mut Vec<Array1<f32>>, optimizer: &mut Optimizer<f32>| {
        let mut params = Params::with_capacity(1000);
        for ((name, theta), grad) in names.iter().zip(thetas).zip(&grads) {
            params.add(name, theta, grad).unwrap();
        }
        optimizer.step(params).unwrap();
    };
    let mut alone = [
        Variant::new("one", || _ = a.update(&mut one, &grad).unwrap()),
        Variant::new("many", || lend(&mut thetas, &mut b)),
    ];
    let times = compare(&mut alone, 2e-3, 101);
    report(
        "1 thread, 1000 named arrays of 1000 in one step / one array of 1000000",
        times[1].ratio,
        "<= 1.35",
    );
    let mut threads = [
        Variant::new("one", || _ = a2.update(&mut one2, &grad).unwrap()),
        Variant::new("many", || lend(&mut thetas2, &mut b2)),
    ];
    let times = compare(&mut threads, 2e-3, 101);
    report("2 threads, the same", times[1].ratio, "<= 1.35");
}

fn layouts() {
    for edge in [100, 316, 1000, 3162] {
        let values = numbers::<f32>(edge * edge, 1);
        let c = Array2::from_shape_vec((edge, edge), values.clone()).unwrap();
        let f = Array2::from_shape_vec((edge, edge).f(), values).unwrap();
        let (gc, gf) = (c.clone(), f.clone());
        let (mut c, mut c2, mut f) = (c.clone(), c, f);
        let [mut a, mut b, mut m] = [serial(), serial(), serial()];
        let mut variants = [
            Variant::new("C", || _ = a.update(&mut c, &gc).unwrap()),
            Variant::new("F", || _ = b.update(&mut f, &gf).unwrap()),
            Variant::new("mixed", || _ = m.update(&mut c2, &gf).unwrap()),
        ];
        let times = compare(&mut variants, 2e-3, 41);
        report(
            &format!("1 thread, {edge} x {edge}: F order / C order"),
            times[1].ratio,
            "<= 1.05",
        );
        report(
            &format!("1 thread, {edge} x {edge}: C parameter with F gradient / C order"),
            times[2].ratio,
            "",
        );
    }
    let n = 1_000_000;
    let mut wide = Array1::from(numbers::<f32>(2 * n, 1));
    let wide_grad = Array1::from(numbers::<f32>(2 * n, 2));
    let (mut dense, grad) = (
        Array1::from(numbers::<f32>(n, 1)),
        Array1::from(numbers::<f32>(n, 2)),
    );
    let [mut a, mut b] = [serial(), serial()];
    let every_other = ndarray::s![..;2];
    let times = compare(
        &mut [
            Variant::new("dense", || _ = a.update(&mut dense, &grad).unwrap()),
            Variant::new("strided", || {
                _ = b
                    .update(
                        &mut wide.slice_mut(every_other),
                        &wide_grad.slice(every_other),
                    )
                    .unwrap()
            }),
        ],
        2e-3,
        41,
    );
    report(
        "1 thread, every other of 2000000 elements / 1000000 dense ones",
        times[1].ratio,
        "",
    );
}

fn subnormals() {
    let n = 10_000;
    let values = Array1::from(numbers::<f32>(n, 1));
    let zero = Array1::<f32>::zeros(n);
    let (mut fresh, mut decayed) = (values.clone(), values.clone());
    let [mut a, mut b] = [serial(), serial()];
    a.update(&mut fresh, &values).unwrap();
    b.update(&mut decayed, &values).unwrap();
    for _ in 0..100_000 {
        b.update(&mut decayed, &zero).unwrap();
    }
    let times = compare(
        &mut [
            Variant::new("normal", || _ = a.update(&mut fresh, &values).unwrap()),
            Variant::new("decayed", || _ = b.update(&mut decayed, &zero).unwrap()),
        ],
        2e-3,
        41,
    );
    report(
        "a step after 100000 steps with zero gradients / a normal step",
        times[1].ratio,
        "<= 1.3",
    );
}

fn sgd() {
    for n in [1000, 100_000, 10_000_000] {
        let (mut p, g) = (
            Array1::from(numbers::<f32>(n, 1)),
            Array1::from(numbers::<f32>(n, 2)),
        );
        let (mut q, mut sgd) = (p.clone(), Optimizer::new(Sgd::new(1e-3)));
        sgd.parallel = Parallel::SERIAL;
        let times = compare(
            &mut [
                Variant::new("ndarray", || q.scaled_add(-1e-3, &g)),
                Variant::new("sgd", || _ = sgd.update(&mut p, &g).unwrap()),
            ],
            2e-3,
            rounds(n),
        );
        report(
            &format!("1 thread, plain Sgd, {n} elements: update / ndarray's scaled_add"),
            times[1].ratio,
            "",
        );
    }
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let claims: [(&str, fn()); 8] = [
        ("one_thread", one_thread),
        ("over_hand", over_hand),
        ("two_threads", two_threads),
        ("several_at_once", several_at_once),
        ("many_arrays", many_arrays),
        ("layouts", layouts),
        ("subnormals", subnormals),
        ("sgd", sgd),
    ];
    println!("{:<78} {:>6}   asked for", "", "figure");
    for (name, claim) in claims {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            claim();
        }
    }
}
