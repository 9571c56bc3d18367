//! A model with arrays of all kinds, and gradients of it.
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_optim::{AnyAlgorithm, NamedArrays, Optimizer, algorithm::Element};
use ndarray_optim_mpi::Number;
use std::collections::BTreeMap;

pub type Model<A> = BTreeMap<String, ArrayD<A>>;

/// A number between -1 and 1.
pub fn number(seed: u64) -> f64 {
    let x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((x ^ x >> 32) % 20_011) as f64 / 10_005.5 - 1.0
}

/// Arrays of up to three axes, of which one is column-major and one has more elements than a bucket,
/// or only the matrices.
pub fn model<A: Element>(only_matrices: bool) -> Model<A> {
    let shapes: [(&str, &[usize]); 8] = [
        ("wide", &[7, 5]),
        ("columns", &[6, 4]),
        ("bias", &[11]),
        ("scale", &[]),
        ("large", &[40, 30]),
        ("cube", &[3, 2, 5]),
        ("empty", &[0, 3]),
        // The name of an array without a name.
        ("variable", &[3]),
    ];
    let shapes = shapes
        .into_iter()
        .filter(|(_, shape)| !only_matrices || shape.len() == 2);
    let array = |name: &str, shape: &[usize]| {
        let size: usize = shape.iter().product();
        let seed = name.len() as u64 * 1000;
        let values = (0..size as u64).map(|i| A::from_f64(number(seed + i)));
        let array = ArrayD::from_shape_vec(IxDyn(shape), values.collect()).unwrap();
        if name == "columns" {
            let mut columns = ArrayD::from_elem(IxDyn(shape).f(), A::ZERO);
            columns.assign(&array);
            return columns;
        }
        array
    };
    shapes
        .map(|(name, shape)| (name.to_owned(), array(name, shape)))
        .collect()
}

/// The gradient of a rank: that of all ranks, and something else on each if they differ.
pub fn gradient<A: Element>(model: &Model<A>, step: u64, rank: u64, differ: bool) -> Model<A> {
    let mut seed = step * 100_000;
    let own = if differ { (rank + 1) * 10_000_000 } else { 0 };
    let grads = model.iter().map(|(name, array)| {
        let grad = array.map(|x| {
            seed += 1;
            let noise = number(seed) + if differ { number(seed + own) } else { 0.0 };
            A::from_f64(0.3 * x.f64() + noise)
        });
        (name.clone(), grad)
    });
    grads.collect()
}

pub fn loss(step: u64) -> f64 {
    3.0 + 1.0 / (step + 1) as f64
}

/// Whether the algorithm updates matrices only.
pub fn only_matrices<A: Number>(algorithm: &AnyAlgorithm) -> bool {
    let mut optimizer = Optimizer::<A>::new(algorithm.clone());
    optimizer.division("x", &[3]).is_err()
}

/// The first array in which two models differ.
pub fn difference<A: Number>(one: &Model<A>, other: &Model<A>) -> Option<String> {
    let same = |a: &A, b: &A| a.f64().to_bits() == b.f64().to_bits();
    let mut pairs = one.iter().zip(other);
    pairs
        .find(|((_, a), (_, b))| {
            a.shape() != b.shape() || !a.iter().zip(*b).all(|(a, b)| same(a, b))
        })
        .map(|((name, _), _)| name.clone())
}

pub fn names<A>(model: &impl NamedArrays<A>) -> Vec<String> {
    model
        .views()
        .into_iter()
        .map(|(name, _)| name.into_owned())
        .collect()
}
