//! Arrays that are looked at as a whole before the sweep: factored moments, matrix products.
use super::Algorithm;
use crate::kernel::Parallel;
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};

/// One array before its sweep, as [`Algorithm::direct`] sees it.
pub struct Whole<'a, A> {
    /// The name of the parameter.
    pub name: &'a str,
    /// The parameter.
    pub p: ArrayViewD<'a, A>,
    /// Row-major: the gradient, to be replaced by what the kernel shall have in its place.
    pub g: ArrayViewMutD<'a, A>,
    /// What is remembered between steps, in the order of [`Algorithm::factors`], from zeros.
    pub factors: &'a mut [ArrayD<A>],
    /// When to use threads.
    pub parallel: Parallel,
}

/// The name and shape of an array that is remembered and is not of the parameter's shape.
pub type Factor = (&'static str, Vec<usize>);

/// As [`Algorithm::factors`], but of an array without elements nothing is remembered: its other axes can be longer than memory.
pub(crate) fn factors(algorithm: &impl Algorithm, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
    algorithm.factors(shape).map(|factors| if shape.contains(&0) { Vec::new() } else { factors })
}
