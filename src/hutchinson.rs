//! The diagonal of a Hessian from products with vectors.
use crate::{
    array::Element,
    error::{Error, check},
    random::nth,
};
use ndarray::{Array, ArrayView, Dimension, Zip};

/// An estimate of the diagonal of the Hessian `H` at `at`, from products with vectors of random signs:
///
/// ```text
/// mean over `samples` of u * (H u)      each element of u is 1 or -1, with equal chances
/// ```
///
/// Exact with one sample where `H` is diagonal. Else element `i` has the standard deviation `sqrt(sum of H_ij^2, j != i)`,
/// divided by the root of `samples`; its expectation is `H_ii`. This is what [`Sophia`](crate::Sophia) wants every so many
/// steps, and one sample is enough for it, because it averages over estimates.
///
/// `product(u)` is `H u`: from automatic differentiation, or the difference of two gradients,
/// `(grad(at + r u) - grad(at - r u)) / 2r` with a small `r`. Of `at` only the shape is used. For a model of several arrays take
/// one at a time, or all of them as one flat array.
///
/// The signs are a function of `seed`, the sample and the place of the element, the same for any memory layout: give every
/// call a seed of its own, such as the number of the step.
///
/// M. F. Hutchinson, Communications in Statistics 18, 1989; for the diagonal C. Bekas, E. Kokiopoulou, Y. Saad, Applied
/// Numerical Mathematics 57, 2007.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::hutchinson;
///
/// let h = array![[2.0, 0.0], [0.0, 5.0]];
/// let theta = array![1.0, 1.0];
/// assert_eq!(hutchinson(&theta, 1, 0, |u| h.dot(u))?, array![2.0, 5.0]);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::HyperParameter`] if `samples` is 0, [`Error::ProductShape`] if a product has another shape than its vector.
pub fn hutchinson<'a, A: Element, D: Dimension>(
    at: impl Into<ArrayView<'a, A, D>>,
    samples: usize,
    seed: u64,
    mut product: impl FnMut(&Array<A, D>) -> Array<A, D>,
) -> Result<Array<A, D>, Error> {
    check::that(samples > 0, "samples", samples, "a number >= 1")?;
    let shape = at.into().raw_dim();
    let mut sum = Array::<f64, D>::zeros(shape.clone());
    for sample in 0..samples as u64 {
        let stream = nth(seed, sample);
        let mut place = 0;
        // In the logical order of the elements.
        let probe = Array::from_shape_simple_fn(shape.clone(), || {
            place += 1;
            // One bit decides: the uppermost is as good as any.
            if nth(stream, place) >> 63 == 0 { A::one() } else { -A::one() }
        });
        let product = product(&probe);
        if product.shape() != probe.shape() {
            return Err(Error::ProductShape { probe: probe.shape().to_vec(), product: product.shape().to_vec() });
        }
        Zip::from(&mut sum).and(&probe).and(&product).for_each(|sum, &u, &hu| *sum += (u * hu).f64());
    }
    Ok(sum.mapv(|sum| A::of(sum / samples as f64)))
}
