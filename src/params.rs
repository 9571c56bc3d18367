//! The parameters and gradients passed to a step.
use crate::{
    array::Element,
    error::Error,
    kernel::param_views::{ParamError, ParamViews, Strided},
    named_arrays::{NamedArrays, NamedArraysMut},
    optimizer::Exchange,
};
use ndarray::{ArrayBase, ArrayRef, ArrayView, ArrayViewD, ArrayViewMut, Data, Dimension};
use std::{borrow::Cow, fmt};

/// The name of the array of [`Optimizer::update`](crate::Optimizer::update), for functions that
/// take a name.
// Eight bytes are compared in one instruction.
pub const UNNAMED: &str = "variable";

/// The name of an array in a set, where an array by itself is that of `update`.
pub(crate) fn or_unnamed(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.is_empty() {
        UNNAMED.into()
    } else {
        name
    }
}

/// Named parameters and their gradients, for one step.
///
/// Arrays may differ in rank (0 to 6 axes) and memory layout. The state of a parameter is stored
/// under its name, so the order of the parameters does not matter; the same order in every step is
/// fastest.
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
///
/// // In one expression:
/// sgd.step(Params::new().add("weight", &mut w, &dw)?.add("bias", &mut b, &db)?)?;
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// A step takes the list by value or by mutable reference. It leaves an empty list, which can be
/// filled for another step.
pub struct Params<'a, A> {
    list: Vec<Param<'a, A>>,
    strided: Vec<Option<Strided<'a, A>>>,
    loss: Option<f64>,
    weight: f64,
}

/// The input of a step, borrowed from [`Params`] or from a single array.
pub(crate) struct StepInput<'s, 'a, A> {
    pub params: &'s mut [Param<'a, A>],
    /// The views of the parameters that are not slices.
    pub strided: &'s mut [Option<Strided<'a, A>>],
    pub loss: Option<f64>,
    /// The weight in a round of accumulation.
    pub weight: f64,
    /// Adds up sums over all processes, if the parameters are divided among several.
    pub exchange: Option<&'s mut (dyn Exchange + 's)>,
}

/// One parameter and its gradient.
pub(crate) struct Param<'a, A> {
    pub name: Cow<'a, str>,
    pub views: ParamViews<'a, A>,
    /// Factor for the gradient, from clipping by the norm of this array.
    pub clip_factor: A,
    /// Index of its state in the optimizer, valid after the look-up.
    pub entry: usize,
}

impl<'a, A: Element> Param<'a, A> {
    /// Views that are not slices are passed to `strided`, which stores them at `index`.
    #[inline(always)]
    pub fn new<D: Dimension>(
        name: Cow<'a, str>,
        param: ArrayViewMut<'a, A, D>,
        grad: Option<ArrayView<'a, A, D>>,
        index: usize,
        strided: impl FnOnce(Strided<'a, A>),
    ) -> Result<Self, Error> {
        // Kept for the error message: the views are moved.
        let (dims, grad_dims) = (param.raw_dim(), grad.as_ref().map(|grad| grad.raw_dim()));
        let views = match grad {
            Some(grad) => ParamViews::new(param, grad, index, strided),
            None => ParamViews::without_grad(param, index, strided),
        };
        match views {
            Ok(views) => Ok(Param {
                name,
                views,
                clip_factor: A::one(),
                entry: 0,
            }),
            Err(error) => Err(error.explain(name.into_owned(), &dims, grad_dims)),
        }
    }
}

impl<A: Element> Default for Params<'_, A> {
    fn default() -> Self {
        Params::new()
    }
}

/// Lists the names of the parameters.
impl<A> fmt::Debug for Params<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.list.iter().map(|param| &param.name);
        f.debug_list().entries(names).finish()
    }
}

impl ParamError {
    #[cold]
    fn explain<D: Dimension>(self, name: String, param: &D, grad: Option<D>) -> Error {
        match self {
            ParamError::TooManyAxes => Error::TooManyAxes {
                name,
                ndim: param.ndim(),
            },
            ParamError::GradShape => {
                let grad = grad.map_or_else(Vec::new, |grad| grad.slice().to_vec());
                Error::GradientShape {
                    name,
                    param: param.slice().to_vec(),
                    grad,
                }
            }
        }
    }
}

mod sealed {
    use ndarray::{ArrayBase, ArrayRef, Data, Dimension};

    pub trait Sealed {}
    impl<S: Data, D: Dimension> Sealed for ArrayBase<S, D> {}
    impl<A, D: Dimension> Sealed for ArrayRef<A, D> {}
}

/// A gradient: an array or view with the element type and dimension of its parameter.
// Not `&ArrayRef`: type inference would then expect an `ArrayRef` from the operators in `&(2.0 *
// &x)`.
#[diagnostic::on_unimplemented(
    message = "the gradient must be an array of `{A}` with the dimension of the parameter",
    label = "expected an array or view of `{A}` and `{D}`"
)]
pub trait Grad<A, D: Dimension>: sealed::Sealed {
    /// Returns the gradient as a view.
    fn grad(&self) -> ArrayView<'_, A, D>;
}

impl<A, S: Data<Elem = A>, D: Dimension> Grad<A, D> for ArrayBase<S, D> {
    #[inline(always)]
    fn grad(&self) -> ArrayView<'_, A, D> {
        self.view()
    }
}

impl<A, D: Dimension> Grad<A, D> for ArrayRef<A, D> {
    #[inline(always)]
    fn grad(&self) -> ArrayView<'_, A, D> {
        self.view()
    }
}

impl<'a, A: Element> Params<'a, A> {
    /// Creates an empty list of parameters.
    pub fn new() -> Self {
        Params::with_capacity(0)
    }

    /// Creates an empty list with capacity for `n` parameters.
    pub fn with_capacity(n: usize) -> Self {
        Params {
            list: Vec::with_capacity(n),
            strided: Vec::new(),
            loss: None,
            weight: 1.0,
        }
    }

    /// Creates the list of all arrays of a model and their gradients, which have the same names in
    /// any order. An array by itself has the name [`UNNAMED`](crate::UNNAMED).
    ///
    /// ```
    /// use ndarray::{arr0, array};
    /// use ndarray_optim::{Optimizer, Params, Sgd};
    ///
    /// let (mut w, mut b) = (array![[1.0, 2.0], [3.0, 4.0]], arr0(5.0));
    /// let (dw, db) = (array![[1.0, 0.0], [0.0, 1.0]], arr0(2.0));
    /// // The names are `0` and `1`.
    /// Optimizer::new(Sgd::new(0.5)).step(Params::of(&mut (&mut w, &mut b), &(&dw, &db))?)?;
    /// assert_eq!(b, arr0(4.0));
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::MissingGradient`], [`Error::UnknownParameter`] for a gradient without a parameter,
    /// [`Error::GradientShape`] or [`Error::TooManyAxes`].
    pub fn of(
        model: &'a mut (impl NamedArraysMut<A> + ?Sized),
        grads: &'a (impl NamedArrays<A> + ?Sized),
    ) -> Result<Self, Error> {
        let (mut params, mut result) = (Params::new(), Ok(()));
        let mut grads = GradsByName::new(grads);
        model.visit_mut(&mut |name, param| {
            if result.is_ok() {
                let grad = grads.take(&name);
                let name = or_unnamed(name);
                result = match grad {
                    Some(grad) => params.push(name, param, Some(grad)).map(|_| ()),
                    None => Err(Error::MissingGradient { name: name.into() }),
                };
            }
        });
        result.and_then(|()| grads.finish()).map(|()| params)
    }

    /// Creates the list of all arrays of a model without gradients, to make a step with those that
    /// have been accumulated
    /// ([`finish_accumulation`](crate::Optimizer::finish_accumulation)). An array by itself has the
    /// name [`UNNAMED`](crate::UNNAMED).
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAxes`].
    pub fn without_grads(model: &'a mut (impl NamedArraysMut<A> + ?Sized)) -> Result<Self, Error> {
        let (mut params, mut result) = (Params::new(), Ok(()));
        model.visit_mut(&mut |name, param| {
            if result.is_ok() {
                result = params.push(or_unnamed(name), param, None).map(|_| ());
            }
        });
        result.map(|()| params)
    }

    /// Adds a parameter and its gradient: arrays, or views that outlive the step.
    ///
    /// # Errors
    ///
    /// [`Error::GradientShape`] if the shapes differ, [`Error::TooManyAxes`] if there are more than
    /// six axes. Nothing is added then.
    pub fn add<D: Dimension>(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        param: &'a mut ArrayRef<A, D>,
        grad: &'a (impl Grad<A, D> + ?Sized),
    ) -> Result<&mut Self, Error> {
        self.push(name.into(), param.view_mut(), Some(grad.grad()))
    }

    /// As [`add`](Params::add), with views by value, such as slices of an array or `aview_mut1` of
    /// a slice.
    ///
    /// # Errors
    ///
    /// As [`add`](Params::add).
    pub fn add_view<D: Dimension>(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        param: ArrayViewMut<'a, A, D>,
        grad: ArrayView<'a, A, D>,
    ) -> Result<&mut Self, Error> {
        self.push(name.into(), param, Some(grad))
    }

    /// As [`add`](Params::add), with an optional gradient. With `None` the parameter, its state and
    /// its step count do not change, as if the parameter were omitted.
    ///
    /// # Errors
    ///
    /// As [`add`](Params::add).
    pub fn add_optional<D: Dimension>(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        param: &'a mut ArrayRef<A, D>,
        grad: Option<&'a ArrayRef<A, D>>,
    ) -> Result<&mut Self, Error> {
        self.push(name.into(), param.view_mut(), grad.map(|grad| grad.view()))
    }

    /// As [`add_view`](Params::add_view), with an optional gradient as in
    /// [`add_optional`](Params::add_optional).
    ///
    /// # Errors
    ///
    /// As [`add`](Params::add).
    pub fn add_optional_view<D: Dimension>(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        param: ArrayViewMut<'a, A, D>,
        grad: Option<ArrayView<'a, A, D>>,
    ) -> Result<&mut Self, Error> {
        self.push(name.into(), param, grad)
    }

    /// Sets the loss, which is the value of the objective at these parameters, for algorithms that
    /// use it.
    pub fn loss(&mut self, loss: f64) -> &mut Self {
        self.loss = Some(loss);
        self
    }

    /// Sets the weight of the gradients and of the loss in a round of gradient accumulation, such as
    /// the number of rows of a batch. Default: 1. Without accumulation it has no effect.
    ///
    /// See [`Optimizer::set_accumulation`](crate::Optimizer::set_accumulation). A weight that is
    /// not a positive finite number is reported by the step.
    pub fn weight(&mut self, weight: f64) -> &mut Self {
        self.weight = weight;
        self
    }

    #[inline]
    fn push<D: Dimension>(
        &mut self,
        name: Cow<'a, str>,
        param: ArrayViewMut<'a, A, D>,
        grad: Option<ArrayView<'a, A, D>>,
    ) -> Result<&mut Self, Error> {
        let index = self.strided.len();
        let store = |views| self.strided.push(Some(views));
        self.list.push(Param::new(name, param, grad, index, store)?);
        Ok(self)
    }

    /// The input of a step with these parameters.
    #[inline]
    pub(crate) fn input(&mut self) -> StepInput<'_, 'a, A> {
        StepInput {
            params: &mut self.list,
            strided: &mut self.strided,
            loss: self.loss,
            weight: self.weight,
            exchange: None,
        }
    }

    /// Returns the number of parameters.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Gradients on their way to parameters that are usually in the same order.
pub(crate) struct GradsByName<'a, A> {
    list: Vec<Option<(Cow<'a, str>, ArrayViewD<'a, A>)>>,
    /// All before this one have been taken.
    next: usize,
}

impl<'a, A> GradsByName<'a, A> {
    pub(crate) fn new(grads: &'a (impl NamedArrays<A> + ?Sized)) -> Self {
        let mut list = Vec::new();
        grads.visit(&mut |name, grad| list.push(Some((name, grad))));
        GradsByName { list, next: 0 }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<ArrayViewD<'a, A>> {
        let (_, grad) = self.list[self.next..]
            .iter_mut()
            .find(|grad| grad.as_ref().is_some_and(|(known, _)| known == name))?
            .take()?;
        while self.list.get(self.next).is_some_and(Option::is_none) {
            self.next += 1;
        }
        Some(grad)
    }

    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        match self.list.iter_mut().find_map(Option::take) {
            Some((name, _)) => Err(Error::UnknownParameter { name: name.into() }),
            None => Ok(()),
        }
    }
}
