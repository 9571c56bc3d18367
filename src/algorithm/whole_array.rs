//! Whole arrays in a step: for factored moments, matrix products, centralized gradients.
use crate::kernel::Parallel;
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};

/// A parameter and its gradient before the element-wise part of a step, the argument of
/// [`Algorithm::transform`](super::Algorithm::transform) and
/// [`Wrap::transform`](crate::wrap::Wrap::transform).
#[derive(Debug)]
pub struct WholeArray<'a, A> {
    /// The name of the parameter.
    pub name: &'a str,
    /// The parameter.
    pub param: ArrayViewD<'a, A>,
    /// The gradient, row-major; modify it in place.
    pub grad: ArrayViewMutD<'a, A>,
    /// The state arrays of [`Algorithm::extra_arrays`](super::Algorithm::extra_arrays), in that
    /// order; empty for wrappers.
    pub extra: &'a mut [ArrayD<A>],
    /// The setting of the optimizer for threads.
    pub parallel: Parallel,
    /// The caller's gradient, row-major, if `grad` has not been filled with it: for algorithms with
    /// [`Demands::reads_source`](super::Demands), unless a wrapper or a factor changes gradients.
    pub(crate) source: Option<&'a [A]>,
}

/// A state array whose shape is not that of the parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtraArray {
    /// The name.
    pub name: &'static str,
    /// The shape.
    pub shape: Vec<usize>,
}

impl ExtraArray {
    /// Describes an array with this name and shape, which is initialized with zeros.
    pub fn new(name: &'static str, shape: impl Into<Vec<usize>>) -> Self {
        ExtraArray {
            name,
            shape: shape.into(),
        }
    }
}
