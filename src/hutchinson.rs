//! The diagonal of a Hessian from Hessian-vector products.
use crate::{array::Element, error::Error, random::nth};
use ndarray::{Array, ArrayRef, Dimension, Zip};

/// Estimates the diagonal of the Hessian `H` at `at` from products with random sign vectors
/// (Hutchinson's method):
///
/// ```text
/// mean over `samples` of u * (H u)      each element of u is 1 or -1 with equal probability
/// ```
///
/// One sample is exact where `H` is diagonal. Otherwise the estimate is unbiased, and element `i`
/// has the standard deviation `sqrt(sum of H_ij^2, j != i) / sqrt(samples)`. [`Sophia`] needs such
/// an estimate every few steps; one sample is enough for it, because it keeps a running average of
/// the estimates.
///
/// `product(u)` returns `H u`, computed by automatic differentiation or as a difference of
/// gradients, `(grad(at + r u) - grad(at - r u)) / 2r` with a small `r`. Only the shape of `at` is
/// used. For a model with several arrays, estimate one array at a time, or all of them as one flat
/// array.
///
/// The signs are a function of `seed`, the sample and the index of the element, and do not depend
/// on the memory layout. Use a different seed in each call, such as the step number.
///
/// References: M. F. Hutchinson, Communications in Statistics 18, 1989; for the diagonal
/// C. Bekas, E. Kokiopoulou, Y. Saad, Applied Numerical Mathematics 57, 2007.
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
/// [`Error::HyperParameter`] if `samples` is 0, [`Error::ProductShape`] if a product does not have
/// the shape of its vector.
///
/// [`Sophia`]: crate::Sophia
pub fn hutchinson<A: Element, D: Dimension>(
    at: &ArrayRef<A, D>,
    samples: usize,
    seed: u64,
    mut product: impl FnMut(&Array<A, D>) -> Array<A, D>,
) -> Result<Array<A, D>, Error> {
    if samples == 0 {
        let (field, expected) = ("samples".into(), "a number >= 1".into());
        return Err(Error::HyperParameter {
            field,
            value: samples.to_string(),
            expected,
        });
    }
    let shape = at.raw_dim();
    let mut sum = Array::<f64, D>::zeros(shape.clone());
    for sample in 0..samples as u64 {
        let stream = nth(seed, sample);
        let mut index = 0;
        // Filled in logical order, so that the signs do not depend on the memory layout.
        let probe = Array::from_shape_simple_fn(shape.clone(), || {
            index += 1;
            // All bits are equally good: use the top one.
            if nth(stream, index) >> 63 == 0 {
                A::one()
            } else {
                -A::one()
            }
        });
        let product = product(&probe);
        if product.shape() != probe.shape() {
            return Err(Error::ProductShape {
                probe: probe.shape().to_vec(),
                product: product.shape().to_vec(),
            });
        }
        Zip::from(&mut sum)
            .and(&probe)
            .and(&product)
            .for_each(|sum, &u, &hu| *sum += (u * hu).f64());
    }
    Ok(sum.mapv(|sum| A::from_f64(sum / samples as f64)))
}
