//! Time of one step of Momentum, RMSProp and Adam, compared with a hand-written loop, `Zip`,
//! `Zip::par_for_each` and the memory limit: a kernel with the same traffic and almost no
//! arithmetic. Ends with a table of ratios to that limit.
//!
//! `cargo bench --bench step`, or `-- adam/f32/1e6` for the benchmarks that match.
mod common;

use common::{
    by_hand::{adam, momentum, rmsprop},
    limit_of_one_moment, limit_of_two_moments, numbers,
};
use criterion::{BenchmarkId, Criterion};
use ndarray::{Array1, Array2, ShapeBuilder, Zip, s};
use ndarray_optim::{Adam, Momentum, Optimizer, Parallel, Params, RmsProp, algorithm::Element};
use serde_json::Value;
use std::{cell::RefCell, env, fs, path::PathBuf, time::Duration};

thread_local! {
    /// The group and variant of each benchmark, in order.
    static DONE: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

/// A name and a timed function.
type Timed<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// Times variants under `group`, the memory limit first.
fn group(c: &mut Criterion, name: &str, variants: Vec<Timed<'_>>) {
    let mut group = c.benchmark_group(name);
    for (variant, mut run) in variants {
        let mut ran = false;
        group.bench_function(BenchmarkId::from_parameter(variant), |b| {
            ran = true;
            b.iter(&mut run);
        });
        if ran {
            DONE.with_borrow_mut(|done| done.push((name.into(), variant.into())));
        }
    }
    group.finish();
}

fn arrays<A: Element>(n: usize) -> [Array1<A>; 4] {
    let mut arrays = [1, 2, 3, 4].map(|seed| Array1::from(numbers::<A>(n, seed)));
    arrays[3].mapv_inplace(|v| v.abs());
    arrays
}

fn serial<A: Element>(mut optimizer: Optimizer<A>) -> Optimizer<A> {
    optimizer.parallel = Parallel::SERIAL;
    optimizer
}

fn new_adam<A: Element>() -> Optimizer<A> {
    Optimizer::new(Adam::default())
}

/// One array, one moment: Momentum and RMSProp.
fn one_moment<A: Element>(
    c: &mut Criterion,
    name: &str,
    n: usize,
    make: fn() -> Optimizer<A>,
    by_hand: impl Fn(&mut [A], &[A], &mut [A]),
    one: impl Fn(&mut A, A, &mut A) + Copy + Sync + Send,
) {
    let [p, g, _, m] = arrays::<A>(n);
    let plain = || (p.to_vec(), m.to_vec());
    let ((mut lp, mut lm), (mut hp, mut hm)) = (plain(), plain());
    let [mut zp, mut zm, mut pp, mut pm] = [&p, &m, &p, &m].map(Array1::clone);
    let (mut a, mut b) = (p.clone(), p.clone());
    let (mut alone, mut threads) = (serial(make()), make());
    let slice = g.as_slice().unwrap_or_default();
    group(
        c,
        name,
        vec![
            (
                "limit",
                Box::new(|| limit_of_one_moment(&mut lp, slice, &mut lm)),
            ),
            ("by hand", Box::new(|| by_hand(&mut hp, slice, &mut hm))),
            (
                "Zip",
                Box::new(|| {
                    Zip::from(&mut zp)
                        .and(&g)
                        .and(&mut zm)
                        .for_each(|p, &g, m| one(p, g, m))
                }),
            ),
            (
                "update, 1 thread",
                Box::new(|| _ = alone.update(&mut a, &g)),
            ),
            (
                "Zip par",
                Box::new(|| {
                    Zip::from(&mut pp)
                        .and(&g)
                        .and(&mut pm)
                        .par_for_each(|p, &g, m| one(p, g, m))
                }),
            ),
            ("update", Box::new(|| _ = threads.update(&mut b, &g))),
        ],
    );
}

/// One array, two moments: Adam.
fn two_moments<A: Element>(c: &mut Criterion, name: &str, n: usize) {
    let [p, g, m, v] = arrays::<A>(n);
    let scalars = adam::scalars::<A>(1000.0);
    let plain = || (p.to_vec(), m.to_vec(), v.to_vec());
    let ((mut lp, mut lm, mut lv), (mut hp, mut hm, mut hv)) = (plain(), plain());
    let [mut zp, mut zm, mut zv, mut pp, mut pm, mut pv] =
        [&p, &m, &v, &p, &m, &v].map(Array1::clone);
    let (mut a, mut b) = (p.clone(), p.clone());
    let (mut alone, mut threads) = (serial(new_adam()), new_adam());
    let slice = g.as_slice().unwrap_or_default();
    let one = |p: &mut A, &g: &A, m: &mut A, v: &mut A| adam::element(scalars, p, g, m, v);
    group(
        c,
        name,
        vec![
            (
                "limit",
                Box::new(|| limit_of_two_moments(&mut lp, slice, &mut lm, &mut lv)),
            ),
            (
                "by hand",
                Box::new(|| adam::sweep(scalars, &mut hp, slice, &mut hm, &mut hv)),
            ),
            (
                "Zip",
                Box::new(|| {
                    Zip::from(&mut zp)
                        .and(&g)
                        .and(&mut zm)
                        .and(&mut zv)
                        .for_each(one)
                }),
            ),
            (
                "update, 1 thread",
                Box::new(|| _ = alone.update(&mut a, &g)),
            ),
            (
                "Zip par",
                Box::new(|| {
                    Zip::from(&mut pp)
                        .and(&g)
                        .and(&mut pm)
                        .and(&mut pv)
                        .par_for_each(one)
                }),
            ),
            ("update", Box::new(|| _ = threads.update(&mut b, &g))),
        ],
    );
}

fn sizes<A: Element>(c: &mut Criterion, of: &str) {
    for (n, size) in [
        (100, "1e2"),
        (1000, "1e3"),
        (10_000, "1e4"),
        (100_000, "1e5"),
        (1_000_000, "1e6"),
        (10_000_000, "1e7"),
    ] {
        let scalars = momentum::scalars::<A>(1000.0);
        one_moment(
            c,
            &format!("momentum/{of}/{size}"),
            n,
            || Optimizer::new(Momentum::default()),
            |p, g, m| momentum::sweep(scalars, p, g, m),
            |p, g, m| momentum::element(scalars, p, g, m),
        );
        let scalars = rmsprop::scalars::<A>(1000.0);
        one_moment(
            c,
            &format!("rmsprop/{of}/{size}"),
            n,
            || Optimizer::new(RmsProp::default()),
            |p, g, v| rmsprop::sweep(scalars, p, g, v),
            |p, g, v| rmsprop::element(scalars, p, g, v),
        );
        two_moments::<A>(c, &format!("adam/{of}/{size}"), n);
    }
}

/// Adam over 1000 x 1000 elements in other memory layouts on one thread, compared with `Zip` over
/// arrays of the same layouts.
fn layouts(c: &mut Criterion) {
    let edge = 1000;
    let values = numbers::<f32>(4 * edge * edge, 1);
    let dense = || Array2::from_shape_fn((edge, edge), |(i, j)| values[i * edge + j]);
    let fortran = || Array2::from_shape_fn((edge, edge).f(), |(i, j)| values[i * edge + j]);
    let wide = || Array2::from_shape_fn((edge, 2 * edge), |(i, j)| values[2 * i * edge + j]);
    let scalars = adam::scalars::<f32>(1000.0);
    let one = |p: &mut f32, &g: &f32, m: &mut f32, v: &mut f32| adam::element(scalars, p, g, m, v);
    let limit = || {
        let [mut p, g, mut m, mut v] = arrays::<f32>(edge * edge).map(|a| a.to_vec());
        (
            "limit",
            Box::new(move || limit_of_two_moments(&mut p, &g, &mut m, &mut v))
                as Box<dyn FnMut() + 'static>,
        )
    };
    let cases: [(&str, Array2<f32>, Array2<f32>); 3] = [
        ("C", dense(), dense()),
        ("F", fortran(), fortran()),
        ("C with F gradient", dense(), fortran()),
    ];
    for (name, p, g) in cases {
        let [mut m, mut v] = [p.map(|x| x.abs()), p.map(|x| x.abs())];
        let (mut zp, mut up) = (p.clone(), p);
        let mut adam = serial(new_adam());
        let zip = || {
            Zip::from(&mut zp)
                .and(&g)
                .and(&mut m)
                .and(&mut v)
                .for_each(one)
        };
        let update = || _ = adam.update(&mut up, &g);
        group(
            c,
            &format!("layout/{name}"),
            vec![
                limit(),
                ("Zip", Box::new(zip)),
                ("update, 1 thread", Box::new(update)),
            ],
        );
    }
    for (name, part) in [
        ("left half", s![.., ..edge]),
        ("every other column", s![.., ..;2]),
    ] {
        let (mut zp, mut up, g, mut m, mut v) = (
            wide(),
            wide(),
            wide(),
            wide().map(|x| x.abs()),
            wide().map(|x| x.abs()),
        );
        let mut adam = serial(new_adam());
        let zip = || {
            let (m, v) = (m.slice_mut(part), v.slice_mut(part));
            Zip::from(zp.slice_mut(part))
                .and(g.slice(part))
                .and(m)
                .and(v)
                .for_each(one);
        };
        let update = || _ = adam.update(&mut up.slice_mut(part), &g.slice(part));
        group(
            c,
            &format!("layout/{name}"),
            vec![
                limit(),
                ("Zip", Box::new(zip)),
                ("update, 1 thread", Box::new(update)),
            ],
        );
    }
}

/// 1000 named arrays of 1000 elements in one step.
fn many(c: &mut Criterion) {
    let names: Vec<String> = (0..1000).map(|i| format!("layer{i}.weight")).collect();
    let grads: Vec<_> = (0..1000)
        .map(|i| Array1::from(numbers::<f32>(1000, i)))
        .collect();
    let step = |optimizer: &mut Optimizer<f32>, thetas: &mut Vec<Array1<f32>>| {
        let mut params = Params::with_capacity(1000);
        for ((name, theta), grad) in names.iter().zip(thetas).zip(&grads) {
            if params.add(name, theta, grad).is_err() {
                return;
            }
        }
        _ = optimizer.step(params);
    };
    let plain = || {
        (0..1000)
            .map(|_| arrays::<f32>(1000).map(|a| a.to_vec()))
            .collect::<Vec<_>>()
    };
    let (mut limit, mut zip) = (
        plain(),
        (0..1000).map(|_| arrays::<f32>(1000)).collect::<Vec<_>>(),
    );
    let (mut a, mut b) = (grads.clone(), grads.clone());
    let (mut alone, mut threads) = (serial(new_adam()), new_adam());
    let scalars = adam::scalars::<f32>(1000.0);
    let one = |p: &mut f32, &g: &f32, m: &mut f32, v: &mut f32| adam::element(scalars, p, g, m, v);
    let variants: Vec<Timed<'_>> = vec![
        (
            "limit",
            Box::new(|| {
                limit
                    .iter_mut()
                    .for_each(|[p, g, m, v]| limit_of_two_moments(p, g, m, v))
            }),
        ),
        (
            "Zip",
            Box::new(|| {
                zip.iter_mut()
                    .for_each(|[p, g, m, v]| Zip::from(p).and(&*g).and(m).and(v).for_each(one))
            }),
        ),
        ("step, 1 thread", Box::new(|| step(&mut alone, &mut a))),
        ("step", Box::new(|| step(&mut threads, &mut b))),
    ];
    group(c, "many/1000 x 1000", variants);
}

/// The median that criterion saved, in nanoseconds.
fn median(folder: &std::path::Path, group: &str, variant: &str) -> Option<f64> {
    let file = folder
        .join(group.replace('/', "_"))
        .join(variant)
        .join("new/estimates.json");
    let estimates: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

fn main() {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"));
    let folder = target.join("criterion");
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .output_directory(&folder)
        .configure_from_args();
    sizes::<f32>(&mut criterion, "f32");
    sizes::<f64>(&mut criterion, "f64");
    layouts(&mut criterion);
    many(&mut criterion);
    criterion.final_summary();

    let done = DONE.take();
    if done
        .iter()
        .any(|(group, variant)| median(&folder, group, variant).is_some())
    {
        println!("\n{:<28} {:<18} {:>12} {:>10}", "", "", "ns", "/ limit");
    }
    for (group, variant) in &done {
        if let Some((time, limit)) =
            median(&folder, group, variant).zip(median(&folder, group, "limit"))
        {
            println!(
                "{group:<28} {variant:<18} {time:>12.1} {:>10.2}",
                time / limit
            );
        }
    }
}
