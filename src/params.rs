//! What is lent for one step.
use crate::{
    array::Element,
    error::Error,
    kernel::plan::{Lent, Strided, Unfit},
};
use ndarray::{ArrayView, ArrayViewMut, Dimension};
use std::borrow::Cow;

/// Named parameters and their gradients, lent for one step.
///
/// Arrays may differ in rank (0 to 6 axes) and memory layout. A parameter keeps its state under its name, so the order of
/// the parameters does not matter; the same order in every step is fastest.
///
/// ```
/// use ndarray::{arr0, array};
/// use ndarray_optim::{Optimizer, Params, Sgd};
///
/// let (mut w, mut b) = (array![[1.0, 2.0], [3.0, 4.0]], arr0(5.0));
/// let (dw, db) = (array![[1.0, 0.0], [0.0, 1.0]], arr0(2.0));
///
/// let mut sgd = Optimizer::new(Sgd::new(0.5));
/// let mut params = Params::new();
/// params.add("weight", &mut w, &dw)?.add("bias", &mut b, &db)?;
/// sgd.step(params)?;
/// assert_eq!(w, array![[0.5, 2.0], [3.0, 3.5]]);
/// assert_eq!(b, arr0(4.0));
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[derive(Default)]
pub struct Params<'a, A> {
    list: Vec<Param<'a, A>>,
    strided: Vec<Option<Strided<'a, A>>>,
    loss: Option<f64>,
}

/// What is lent for one step, as the optimizer takes it.
pub(crate) struct Lending<'s, 'a, A> {
    pub params: &'s mut [Param<'a, A>],
    pub strided: &'s mut [Option<Strided<'a, A>>],
    pub loss: Option<f64>,
}

/// One parameter and its gradient.
pub(crate) struct Param<'a, A> {
    pub name: Cow<'a, str>,
    pub lent: Lent<'a, A>,
    /// What its gradient is multiplied with, for its own norm.
    pub factor: A,
    /// Where the optimizer keeps its state: known once it has been looked up.
    pub entry: usize,
}

impl<'a, A: Element> Param<'a, A> {
    /// Views that are not slices go to `strided`, to be found at `place`.
    #[inline(always)]
    pub fn new<D: Dimension>(
        name: Cow<'a, str>,
        param: ArrayViewMut<'a, A, D>,
        grad: Option<ArrayView<'a, A, D>>,
        place: usize,
        strided: impl FnOnce(Strided<'a, A>),
    ) -> Result<Self, Error> {
        // Only an error needs these, when the views are gone.
        let (dims, grad_dims) = (param.raw_dim(), grad.as_ref().map(|grad| grad.raw_dim()));
        let lent = match grad {
            Some(grad) => Lent::new(param, grad, place, strided),
            None => Lent::without_grad(param, place, strided),
        };
        match lent {
            Ok(lent) => Ok(Param { name, lent, factor: A::one(), entry: 0 }),
            Err(unfit) => Err(unfit.explain(name.into_owned(), &dims, grad_dims)),
        }
    }
}

impl Unfit {
    #[cold]
    fn explain<D: Dimension>(self, name: String, param: &D, grad: Option<D>) -> Error {
        match self {
            Unfit::TooManyAxes => Error::TooManyAxes { name, ndim: param.ndim() },
            Unfit::GradShape => {
                let grad = grad.map_or_else(Vec::new, |grad| grad.slice().to_vec());
                Error::GradientShape { name, param: param.slice().to_vec(), grad }
            }
        }
    }
}

impl<'a, A: Element> Params<'a, A> {
    /// No parameters yet.
    pub fn new() -> Self {
        Params::with_capacity(0)
    }

    /// No parameters yet, with room for `n`.
    pub fn with_capacity(n: usize) -> Self {
        Params { list: Vec::with_capacity(n), strided: Vec::new(), loss: None }
    }

    /// Lends a parameter and its gradient: an array, a view or, with one axis, a slice of each.
    ///
    /// # Errors
    ///
    /// [`Error::GradientShape`] if the shapes differ, [`Error::TooManyAxes`] above six axes; nothing is added then.
    pub fn add<D: Dimension>(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        param: impl Into<ArrayViewMut<'a, A, D>>,
        grad: impl Into<ArrayView<'a, A, D>>,
    ) -> Result<&mut Self, Error> {
        self.push(name.into(), param.into(), Some(grad.into()))
    }

    /// As [`Params::add`], for a gradient that this step may not have: then the parameter, its state and its own step count
    /// stay as they are. Leaving the parameter out of the step does the same.
    ///
    /// # Errors
    ///
    /// As [`Params::add`].
    pub fn add_optional<D: Dimension>(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        param: impl Into<ArrayViewMut<'a, A, D>>,
        grad: Option<ArrayView<'a, A, D>>,
    ) -> Result<&mut Self, Error> {
        self.push(name.into(), param.into(), grad)
    }

    /// Says what the value of the objective is at this point, for optimizers that use it.
    pub fn loss(&mut self, loss: f64) -> &mut Self {
        self.loss = Some(loss);
        self
    }

    #[inline]
    fn push<D: Dimension>(
        &mut self,
        name: Cow<'a, str>,
        param: ArrayViewMut<'a, A, D>,
        grad: Option<ArrayView<'a, A, D>>,
    ) -> Result<&mut Self, Error> {
        let place = self.strided.len();
        self.list.push(Param::new(name, param, grad, place, |views| self.strided.push(Some(views)))?);
        Ok(self)
    }

    /// What the optimizer takes.
    #[inline]
    pub(crate) fn lend(&mut self) -> Lending<'_, 'a, A> {
        Lending { params: &mut self.list, strided: &mut self.strided, loss: self.loss }
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
