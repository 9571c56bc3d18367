//! What a step allocates and what an optimizer holds.
use allocation_counter::measure;
use ndarray::{Array1, Array2, Array3, Array6, ShapeBuilder, s};
use ndarray_optim::{Adam, AdamConfig, AdamW, Optimizer, Parallel, Params, Sgd};

/// Bytes still allocated after `work`, and all that were ever.
fn bytes(work: impl FnOnce()) -> (i64, u64) {
    let info = measure(work);
    (info.bytes_current, info.bytes_total)
}

#[test]
fn a_serial_update_allocates_nothing_after_the_first_in_any_layout() {
    let n = 300;
    let grad = Array3::<f32>::ones((n, 4, 6));
    let fortran = Array3::<f32>::ones((n, 4, 6).f());
    let deep = Array6::<f32>::ones((4, 2, 3, 2, 3, 8));
    let mut p = Array3::<f32>::zeros((n, 4, 6));
    let mut pd = deep.clone();
    let [mut c, mut f, mut mixed, mut strided, mut six] = [(); 5].map(|()| {
        let mut adam = Adam::new(0.1);
        adam.parallel = Parallel::SERIAL;
        adam
    });
    let mut pf = fortran.clone();
    let mut steps = |times: usize| {
        for _ in 0..times {
            c.update(&mut p, &grad).unwrap();
            f.update(&mut pf, &fortran).unwrap();
            mixed.update(&mut p, &fortran).unwrap();
            strided.update(p.slice_mut(s![..;2, .., ..;-1]), grad.slice(s![..;2, .., ..])).unwrap();
            let every_other = s![.., .., ..2, .., ..;-1, ..;2];
            six.update(pd.slice_mut(every_other), deep.slice(every_other)).unwrap();
        }
    };
    steps(1);
    assert_eq!(bytes(|| steps(100)), (0, 0));
}

#[test]
fn rules_that_measure_whole_arrays_allocate_nothing_either() {
    let grad = Array2::<f32>::from_elem((300, 40), 0.5);
    let fortran = Array2::<f32>::from_elem((300, 40).f(), 0.5);
    let (mut p, mut q) = (grad.clone(), grad.clone());
    let mut lamb = ndarray_optim::Lamb::new(0.1);
    let mut prodigy = ndarray_optim::Prodigy::new(1.0);
    (lamb.parallel, prodigy.parallel) = (Parallel::SERIAL, Parallel::SERIAL);
    let mut steps = |times: usize| {
        for _ in 0..times {
            lamb.update(&mut p, &fortran).unwrap();
            prodigy.update(&mut q, &grad).unwrap();
        }
    };
    steps(1);
    assert_eq!(bytes(|| steps(20)), (0, 0));
}

#[test]
fn a_serial_step_allocates_nothing_beyond_the_list_of_views() {
    let grads: Vec<_> = (0..100).map(Array1::<f64>::ones).collect();
    let mut thetas = grads.clone();
    let names: Vec<_> = (0..100).map(|i| format!("theta{i}")).collect();
    let mut adamw = AdamW::new(0.1);
    adamw.parallel = Parallel::SERIAL;
    let mut step = || {
        let mut params = Params::with_capacity(100);
        for ((name, theta), grad) in names.iter().zip(&mut thetas).zip(&grads) {
            params.add(name, theta, grad).unwrap();
        }
        assert_eq!(params.len(), 100);
        // Only the step is measured; the list is the caller's.
        let info = measure(|| adamw.step(params).map(drop).unwrap());
        info.count_total
    };
    step();
    for _ in 0..20 {
        assert_eq!(step(), 0);
    }
}

#[test]
fn an_optimizer_holds_its_state_arrays_and_less_than_a_kibibyte_for_each_parameter() {
    let count = 200;
    for n in [1, 1000] {
        let grads: Vec<_> = (0..count).map(|_| Array1::<f32>::ones(n)).collect();
        let mut thetas = grads.clone();
        let names: Vec<_> = (0..count).map(|i| format!("layer{i}.weight")).collect();
        let mut optimizers = (Sgd::new(0.1), Adam::new(0.1), Adam::with(AdamConfig { amsgrad: true, ..Default::default() }));
        // Allocations of other threads are not counted.
        optimizers.0.parallel = Parallel::SERIAL;
        optimizers.1.parallel = Parallel::SERIAL;
        optimizers.2.parallel = Parallel::SERIAL;
        let mut held = |optimizer: &mut dyn Optimizer<f32>, arrays: usize| {
            let (held, _) = bytes(|| {
                let mut params = Params::new();
                for ((name, theta), grad) in names.iter().zip(&mut thetas).zip(&grads) {
                    params.add(name, theta, grad).unwrap();
                }
                optimizer.step(params).unwrap();
            });
            let beyond = (held as usize - arrays * n * size_of::<f32>() * count) / count;
            assert!(beyond < 1024, "{beyond} bytes a parameter beyond its state");
            beyond
        };
        let beyond = [held(&mut optimizers.0, 0), held(&mut optimizers.1, 2), held(&mut optimizers.2, 3)];
        println!("{n} elements: {beyond:?} bytes a parameter beyond its state");
    }
}

#[test]
fn a_step_copies_no_array_whatever_the_layout() {
    let edge = 1000;
    let grad = Array2::<f64>::ones((edge, edge));
    let mut p = Array2::<f64>::ones((edge, edge).f());
    for parallel in [Parallel::SERIAL, Parallel::default()] {
        let mut adam = Adam::new(0.1);
        adam.parallel = parallel;
        adam.update(p.slice_mut(s![..;2, ..;-1]), grad.slice(s![..500, ..])).unwrap();
        let info = measure(|| adam.update(p.slice_mut(s![..;2, ..;-1]), grad.slice(s![..500, ..])).map(drop).unwrap());
        assert!(info.bytes_max < 64 << 10, "{} bytes for a step over 4 MB arrays", info.bytes_max);
    }
}
