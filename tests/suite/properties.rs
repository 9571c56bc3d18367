//! The same bits for any memory layout, thread count, chunk size, alignment and length.

use crate::common::{filled, pool, random, spread};
use ndarray::{Array1, Array2, ArrayD, ArrayView, ArrayViewMut, Axis, Ix2, IxDyn, Slice, s};
use ndarray_optim::{
    Adam, AdamW, AnyAlgorithm, AnyWrap, Lamb, Momentum, Muon, Optimizer, Outcome, Parallel, Params,
    RmsProp, Sgd,
    algorithm::{Algorithm, Arrays, Element, Kernel, KernelArgs, StepContext},
    wrap::{Centralize, ClipByGlobalNorm, ClipByNorm, Grokfast},
};
use proptest::prelude::*;

/// Every form of every optimizer, and every wrapper.
fn configs() -> Vec<AnyAlgorithm> {
    let mut configs = AnyAlgorithm::all();
    // In the sweep, and on copies of gradients: one array at a time or all of them.
    let (each, all) = (ClipByNorm::default(), ClipByGlobalNorm::default());
    for wrap in AnyWrap::all() {
        for wraps in [
            vec![wrap.clone()],
            vec![
                each.clone().into(),
                wrap.clone(),
                Grokfast::default().into(),
            ],
            vec![wrap, all.clone().into(), Centralize::default().into()],
        ] {
            configs.push(AnyAlgorithm::from(AdamW::new(0.01)).in_wrappers(wraps.clone()));
            configs.push(AnyAlgorithm::from(Lamb::new(0.01)).in_wrappers(wraps));
        }
    }
    for amsgrad in [false, true] {
        for maximize in [false, true] {
            configs.push(
                Adam {
                    lr: 0.01,
                    weight_decay: 0.1,
                    amsgrad,
                    maximize,
                    ..Default::default()
                }
                .into(),
            );
            configs.push(
                AdamW {
                    lr: 0.01,
                    weight_decay: 0.1,
                    amsgrad,
                    maximize,
                    ..Default::default()
                }
                .into(),
            );
        }
    }
    for (momentum, dampening, nesterov) in [(0.9, 0.0, false), (0.9, 0.5, false), (0.9, 0.0, true)]
    {
        for lr_in_buffer in [false, true] {
            let (lr, weight_decay, maximize) = (0.01, 0.1, true);
            configs.push(
                Sgd {
                    lr,
                    momentum,
                    dampening,
                    nesterov,
                    lr_in_buffer,
                    weight_decay,
                    maximize,
                }
                .into(),
            );
        }
    }
    configs.push(
        Momentum {
            bias_correction: true,
            weight_decay: 0.1,
            ..Default::default()
        }
        .into(),
    );
    for (centered, momentum, nesterov) in
        [(true, 0.0, false), (true, 0.9, false), (false, 0.9, true)]
    {
        for eps_inside_sqrt in [false, true] {
            let initial_scale = 0.25;
            configs.push(
                RmsProp {
                    centered,
                    momentum,
                    nesterov,
                    eps_inside_sqrt,
                    initial_scale,
                    ..Default::default()
                }
                .into(),
            );
        }
    }
    configs.push(
        Muon {
            row_axes: Some(1),
            ..Default::default()
        }
        .into(),
    );
    configs.push(
        Muon {
            row_axes: Some(2),
            weight_decay: 0.1,
            ..Muon::torch()
        }
        .into(),
    );
    configs.extend(
        crate::common::cases()
            .into_iter()
            .map(|case| case.optimizer),
    );
    configs
}

/// Numbers whose rounding depends on the order of operations.
fn number(seed: u64, i: usize) -> f64 {
    spread(seed, i, 3)
}

fn bits<A: Element>(x: A) -> u64 {
    x.f64().to_bits()
}

/// An array, and how a view of it is taken: axes permuted, some of them with a stride or backwards.
#[derive(Clone, Debug)]
struct Layout {
    order: Vec<usize>,
    step: Vec<isize>,
    offset: usize,
}

impl Layout {
    fn strategy(ndim: usize) -> impl Strategy<Value = Layout> {
        let order = Just((0..ndim).collect::<Vec<_>>()).prop_shuffle();
        let plain = any::<bool>();
        let step = prop::collection::vec(
            prop_oneof![4 => Just(1), 1 => Just(2), 1 => Just(-1), 1 => Just(-3)],
            ndim,
        );
        (order, step, 0..3_usize, plain).prop_map(|(order, step, offset, plain)| {
            let n = order.len();
            let order = if plain { (0..n).collect() } else { order };
            Layout {
                order,
                step,
                offset,
            }
        })
    }

    /// Memory that holds `values` (row-major) where the view of this layout looks.
    fn store<A: Element>(&self, values: &ArrayD<A>) -> ArrayD<A> {
        let length = |&axis: &usize| {
            values.len_of(Axis(axis)) * self.step[axis].unsigned_abs() + self.offset
        };
        let lengths: Vec<_> = self.order.iter().map(length).collect();
        let mut memory = ArrayD::from_elem(IxDyn(&lengths), A::from_f64(f64::NAN));
        self.view(memory.view_mut(), values.shape()).assign(values);
        memory
    }

    fn view<'a, A>(
        &self,
        memory: ArrayViewMut<'a, A, IxDyn>,
        shape: &[usize],
    ) -> ArrayViewMut<'a, A, IxDyn> {
        let mut place = vec![0; shape.len()];
        for (i, &axis) in self.order.iter().enumerate() {
            place[axis] = i;
        }
        let mut view = memory.permuted_axes(place);
        for (axis, &n) in shape.iter().enumerate() {
            let end = self.offset + n * self.step[axis].unsigned_abs();
            view.slice_axis_inplace(
                Axis(axis),
                Slice::new(self.offset as isize, Some(end as isize), 1),
            );
            view.slice_axis_inplace(Axis(axis), Slice::new(0, None, self.step[axis]));
        }
        view
    }
}

/// The parameters after some steps of the plain loop: row-major arrays, one thread.
fn reference<A: Element>(
    config: &AnyAlgorithm,
    start: &ArrayD<A>,
    grads: &[ArrayD<A>],
) -> ArrayD<A> {
    let mut optimizer = Optimizer::<A>::new(config.clone());
    let mut theta = start.clone();
    for grad in grads {
        optimizer.update_with_loss(&mut theta, grad, 1.5).unwrap();
    }
    theta
}

fn same_bits_in_any_layout<A: Element>(
    config: &AnyAlgorithm,
    shape: &[usize],
    layouts: &[Layout],
    threads: usize,
    chunk: usize,
    seed: u64,
) {
    let array = |seed: u64| filled::<A>(shape, |i| number(seed, i));
    // Not every optimizer takes every shape.
    if Optimizer::<A>::new(config.clone())
        .update_with_loss(&mut array(0), &array(0), 1.0)
        .is_err()
    {
        return;
    }
    let start = array(seed);
    let grads: Vec<_> = (1..=3).map(|k| array(seed.wrapping_add(k))).collect();
    let expected = reference(config, &start, &grads);

    let pool = pool(threads);
    let mut optimizer = Optimizer::<A>::new(config.clone());
    optimizer.parallel = Parallel { min_work: 0, chunk };
    // The layout of the parameter changes from step to step too.
    let mut theta = start.clone();
    for (k, grad) in grads.iter().enumerate() {
        let (of_param, of_grad) = (
            &layouts[k % layouts.len()],
            &layouts[(k + 1) % layouts.len()],
        );
        let (mut p, mut g) = (of_param.store(&theta), of_grad.store(grad));
        let before = g.clone();
        {
            let mut p = of_param.view(p.view_mut(), shape);
            let g = of_grad.view(g.view_mut(), shape);
            let g: ArrayView<'_, A, IxDyn> = g.view();
            // The dimension is a type in some cases, as users have it.
            pool.install(|| match shape.len() {
                2 => optimizer.update_with_loss::<Ix2>(
                    &mut p.into_dimensionality().unwrap(),
                    &g.into_dimensionality().unwrap(),
                    1.5,
                ),
                _ => optimizer.update_with_loss::<IxDyn>(&mut p, &g, 1.5),
            })
            .unwrap();
        }
        assert!(
            g.iter().zip(&before).all(|(a, b)| bits(*a) == bits(*b)),
            "the gradient was written to"
        );
        let inside = of_param
            .view(p.view_mut(), shape)
            .iter()
            .filter(|x| !x.is_nan())
            .count();
        assert_eq!(
            p.iter().filter(|x| !x.is_nan()).count(),
            inside,
            "wrote outside the view"
        );
        theta.assign(&of_param.view(p.view_mut(), shape));
    }
    assert!(
        theta
            .iter()
            .zip(&expected)
            .all(|(a, b)| bits(*a) == bits(*b)),
        "{config:?}\n{theta}\n{expected}"
    );
}

fn case() -> impl Strategy<Value = (AnyAlgorithm, Vec<usize>, Vec<Layout>, usize, usize, u64)> {
    let shape = prop_oneof![
        prop::collection::vec(1..40_usize, 0..=2),
        prop::collection::vec(0..9_usize, 0..=4),
        prop::collection::vec(1..4_usize, 5..=6),
        prop::collection::vec(60..100_usize, 2..=2),
    ];
    shape.prop_flat_map(|shape| {
        let layouts = prop::collection::vec(Layout::strategy(shape.len()), 1..=3);
        let chunk = prop_oneof![Just(1_usize), Just(7), Just(64), Just(1000), Just(1 << 15)];
        (
            prop::sample::select(configs()),
            Just(shape),
            layouts,
            1..=4_usize,
            chunk,
            any::<u64>(),
        )
    })
}

/// As `case`, with arrays that are large enough for wide tiles and lanes in parts.
fn large_case() -> impl Strategy<Value = (AnyAlgorithm, Vec<usize>, Vec<Layout>, usize, usize, u64)>
{
    let shape = prop_oneof![
        (130..300_usize, 130..300_usize).prop_map(|(n, m)| vec![n, m]),
        (3..70_usize, 1000..1400_usize).prop_map(|(n, m)| vec![n, m]),
        (4000..9000_usize, 2..9_usize).prop_map(|(n, m)| vec![n, m]),
        (2..6_usize, 40..90_usize, 60..99_usize).prop_map(|(n, m, k)| vec![n, m, k]),
        (30..70_usize, 2..5_usize, 150..300_usize).prop_map(|(n, m, k)| vec![n, m, k]),
        (30..60_usize).prop_map(|n| vec![2, 3, 4, 5, 6, n]),
        (500..30_000_usize).prop_map(|n| vec![n]),
    ];
    let algorithms = vec![
        AdamW::new(0.01).into(),
        Momentum::new(0.01).into(),
        Lamb::new(0.01).into(),
    ];
    shape.prop_flat_map(move |shape| {
        let layouts = prop::collection::vec(Layout::strategy(shape.len()), 1..=3);
        let chunk = prop_oneof![Just(1000_usize), Just(1 << 14)];
        (
            prop::sample::select(algorithms.clone()),
            Just(shape),
            layouts,
            1..=4_usize,
            chunk,
            any::<u64>(),
        )
    })
}

proptest! {
    #![proptest_config(random(60))]

    #[test]
    fn large_arrays_of_any_layout_give_the_same_bits_f64(
        (config, shape, layouts, threads, chunk, seed) in large_case(),
    ) {
        same_bits_in_any_layout::<f64>(&config, &shape, &layouts, threads, chunk, seed);
    }

    #[test]
    fn large_arrays_of_any_layout_give_the_same_bits_f32(
        (config, shape, layouts, threads, chunk, seed) in large_case(),
    ) {
        same_bits_in_any_layout::<f32>(&config, &shape, &layouts, threads, chunk, seed);
    }
}

proptest! {
    #![proptest_config(random(250))]

    #[test]
    fn any_layout_thread_count_and_chunk_give_the_same_bits_f64(
        (config, shape, layouts, threads, chunk, seed) in case(),
    ) {
        same_bits_in_any_layout::<f64>(&config, &shape, &layouts, threads, chunk, seed);
    }

    #[test]
    fn any_layout_thread_count_and_chunk_give_the_same_bits_f32(
        (config, shape, layouts, threads, chunk, seed) in case(),
    ) {
        same_bits_in_any_layout::<f32>(&config, &shape, &layouts, threads, chunk, seed);
    }
}

/// The driver against the rule applied one element at a time, at every length and alignment around
/// the widths of vectors.
#[test]
fn every_length_and_alignment_equals_the_rule_one_element_at_a_time() {
    let config = AdamW {
        lr: 0.01,
        ..Default::default()
    };
    let lengths = (0..=130).chain([1023, 1024, 1025, 4095, 4096, 4097, 4223, 10_007]);
    for n in lengths {
        for offset in [0, 1, 2, 3, 5, 7, 8, 11, 15] {
            let memory: Vec<f32> = (0..n + offset).map(|i| number(1, i) as f32).collect();
            let grads: Vec<f32> = (0..n + 16 - offset).map(|i| number(2, i) as f32).collect();
            let (mut p, g) = (memory.clone(), &grads[16 - offset..]);
            let mut adamw = Optimizer::new(config);
            let (mut q, mut m, mut v) = (memory.clone(), vec![0.0; n], vec![0.0; n]);
            for t in 1..=3 {
                adamw.update_slice(&mut p[offset..], g).unwrap();
                let kernel = config.kernel::<f32>(&StepContext::new(&config, t));
                for i in 0..n {
                    let (m, v) = (&mut m[i..=i], &mut v[i..=i]);
                    kernel.run(
                        &KernelArgs {
                            first: t == 1,
                            ..Default::default()
                        },
                        &mut q[offset + i..][..1],
                        &g[i..=i],
                        Arrays::new([m, v]),
                    );
                }
            }
            assert!(
                p.iter().zip(&q).all(|(a, b)| bits(*a) == bits(*b)),
                "length {n}, offset {offset}"
            );
        }
    }
}

/// Large enough that the default settings use threads, with several arrays and layouts in one step.
#[test]
fn threads_change_nothing_in_a_large_step() {
    let start = Array2::from_shape_fn((700, 611), |(i, j)| number(3, i * 611 + j) as f32);
    let grad = Array2::from_shape_fn((700, 611), |(i, j)| number(4, i * 611 + j) as f32);
    let bias = Array1::from_shape_fn(611, |i| number(5, i) as f32);
    let run = |threads: usize, parallel: Parallel| {
        let (mut a, mut b, mut c, mut d) = (
            start.clone(),
            start.t().to_owned(),
            start.clone(),
            bias.clone(),
        );
        let fortran = grad.t().to_owned();
        let mut adamw = Optimizer::new(AdamW {
            amsgrad: true,
            ..Default::default()
        });
        adamw.parallel = parallel;
        let pool = pool(threads);
        for step in 0..3 {
            let mut params = Params::new();
            if step != 1 {
                params.add("d", &mut d, &bias).unwrap();
            }
            params
                .add("a", &mut a, &grad)
                .unwrap()
                .add_view("b", b.view_mut(), grad.t())
                .unwrap();
            params
                .add_view(
                    "c",
                    c.slice_mut(s![..;2, ..;-1]),
                    fortran.t().slice_move(s![..350, ..]),
                )
                .unwrap();
            assert_eq!(
                pool.install(|| adamw.step(params)).unwrap(),
                Outcome::Applied
            );
        }
        (a, b, c, d)
    };
    let one = run(1, Parallel::SERIAL);
    for (threads, chunk) in [(2, 1 << 15), (3, 1000), (8, 4096)] {
        assert_eq!(
            one,
            run(threads, Parallel { min_work: 0, chunk }),
            "{threads} threads, chunks of {chunk}"
        );
    }
    assert_eq!(one, run(2, Parallel::default()));
}
