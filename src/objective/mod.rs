//! Objectives: losses of linear models with their gradients, over all rows or a batch.
//!
//! [`Regression`] is least squares, ridge, logistic, softmax, Poisson or Huber regression on data
//! that are borrowed. Its parameters and their gradients are a [`Linear`], which optimizers,
//! evaluations and checkpoints take as a whole.
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{
//!     Adam, Optimizer,
//!     objective::{Objective, Regression},
//! };
//!
//! let x = array![[0.5, 1.0], [2.0, -1.0], [-1.0, 0.3], [0.1, -0.7]];
//! let y = array![1.0, 0.0, 1.0, 0.0];
//! let mut problem = Regression::logistic(&x, &y)?.l2(0.01);
//!
//! let (mut model, mut grads) = (problem.zeros(), problem.zeros());
//! let mut optimizer = Optimizer::new(Adam::new(0.1));
//! for _ in 0..500 {
//!     problem.value_and_grad(&model, &mut grads)?;
//!     optimizer.step_with(&mut model, &grads)?;
//! }
//! assert_eq!(problem.predict_class(&model, &x)?, array![1, 0, 1, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The trait [`Objective`] is what a loop needs to know about an objective. Implement it for your
//! own model to use it in a loop that is written for any.
mod error;
mod loss;
mod problem;
mod regression;

pub use error::ObjectiveError;
pub use regression::{Linear, Outputs, Regression};

use std::ops::Range;

/// A function of a model to be minimized, which is a mean over rows of data, possibly plus a
/// penalty.
///
/// An implementation provides [`rows`](Objective::rows) and [`evaluate`](Objective::evaluate).
///
/// ```
/// use ndarray::{Array1, array};
/// use ndarray_optim::{
///     NamedArraysMut, fit::check_gradient, named_arrays,
///     objective::{Objective, Rows},
/// };
///
/// /// An exponential decay, fitted by least squares.
/// struct Decay {
///     t: Array1<f64>,
///     y: Array1<f64>,
/// }
///
/// #[derive(Clone)]
/// struct Params {
///     amplitude: f64,
///     rate: f64,
/// }
/// named_arrays!(impl NamedArrays<f64> for Params { amplitude, rate });
///
/// impl Objective for Decay {
///     type Model = Params;
///     type Error = std::convert::Infallible;
///
///     fn rows(&self) -> usize {
///         self.t.len()
///     }
///
///     fn evaluate(
///         &mut self,
///         model: &Params,
///         mut grads: Option<&mut Params>,
///         rows: &Rows<'_>,
///     ) -> Result<f64, Self::Error> {
///         let n = rows.len() as f64;
///         let mut value = 0.0;
///         if let Some(grads) = &mut grads {
///             grads.fill_all(0.0);
///         }
///         for row in rows.iter() {
///             let decay = (-model.rate * self.t[row]).exp();
///             let residual = model.amplitude * decay - self.y[row];
///             value += 0.5 * residual * residual / n;
///             if let Some(grads) = &mut grads {
///                 grads.amplitude += residual * decay / n;
///                 grads.rate -= residual * model.amplitude * self.t[row] * decay / n;
///             }
///         }
///         Ok(value)
///     }
/// }
///
/// let mut problem = Decay { t: array![0.0, 1.0, 2.0], y: array![3.0, 1.1, 0.4] };
/// let mut model = Params { amplitude: 2.0, rate: 0.5 };
/// let mut grads = model.clone();
/// problem.value_and_grad(&model, &mut grads)?;
/// check_gradient(&mut model, &grads, |model| problem.value(model))?;
/// problem.batch(&[0, 2]).value_and_grad(&model, &mut grads)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Objective {
    /// The type of the parameters, and of their gradients.
    type Model;
    /// Why an evaluation fails.
    type Error;

    /// Returns the number of rows of the data.
    fn rows(&self) -> usize;

    /// Returns the value over these rows, and writes the gradients if they are given. What `grads`
    /// contained before does not matter.
    ///
    /// # Errors
    ///
    /// Says why the model or the rows do not belong to the data; the gradients do not change then.
    fn evaluate(
        &mut self,
        model: &Self::Model,
        grads: Option<&mut Self::Model>,
        rows: &Rows<'_>,
    ) -> Result<f64, Self::Error>;

    /// Returns the value over all rows.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Objective::evaluate).
    fn value(&mut self, model: &Self::Model) -> Result<f64, Self::Error> {
        self.evaluate(model, None, &(0..self.rows()).into())
    }

    /// Returns the value over all rows and writes the gradients.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Objective::evaluate).
    fn value_and_grad(
        &mut self,
        model: &Self::Model,
        grads: &mut Self::Model,
    ) -> Result<f64, Self::Error> {
        self.evaluate(model, Some(grads), &(0..self.rows()).into())
    }

    /// Returns the objective over some of the rows: a range, or a list of indices, which may
    /// contain a row more than once.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::objective::{Objective, Regression};
    ///
    /// let (x, y) = (array![[1.0], [2.0], [3.0]], array![1.0, 1.0, 2.0]);
    /// let mut problem = Regression::least_squares(&x, &y)?;
    /// let (model, mut grads) = (problem.zeros(), problem.zeros());
    /// assert_eq!(problem.batch(1..3).value(&model)?, 1.25);
    /// problem.batch(&[2, 0]).value_and_grad(&model, &mut grads)?;
    /// assert_eq!(grads.weights, array![-3.5]);
    /// # Ok::<(), ndarray_optim::objective::ObjectiveError>(())
    /// ```
    fn batch<'b>(&'b mut self, rows: impl Into<Rows<'b>>) -> Batch<'b, Self>
    where
        Self: Sized,
    {
        Batch {
            objective: self,
            rows: rows.into(),
        }
    }
}

/// Some rows of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows<'r> {
    /// Consecutive rows.
    Range(Range<usize>),
    /// Rows by their indices, in any order.
    Indices(&'r [usize]),
}

impl Rows<'_> {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        match self {
            Rows::Range(range) => range.len(),
            Rows::Indices(indices) => indices.len(),
        }
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the indices of the rows.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (range, indices) = match self {
            Rows::Range(range) => (range.clone(), &[][..]),
            Rows::Indices(indices) => (0..0, *indices),
        };
        range.chain(indices.iter().copied())
    }
}

impl From<Range<usize>> for Rows<'_> {
    fn from(range: Range<usize>) -> Self {
        Rows::Range(range)
    }
}

impl<'r, T: AsRef<[usize]> + ?Sized> From<&'r T> for Rows<'r> {
    fn from(indices: &'r T) -> Self {
        Rows::Indices(indices.as_ref())
    }
}

/// An objective over some of its rows: see [`Objective::batch`].
#[derive(Debug)]
#[must_use = "a batch does nothing until it is evaluated"]
pub struct Batch<'b, O> {
    objective: &'b mut O,
    rows: Rows<'b>,
}

impl<O: Objective> Batch<'_, O> {
    /// Returns the value over the rows of the batch.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Objective::evaluate).
    pub fn value(&mut self, model: &O::Model) -> Result<f64, O::Error> {
        self.objective.evaluate(model, None, &self.rows)
    }

    /// Returns the value over the rows of the batch and writes the gradients.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Objective::evaluate).
    pub fn value_and_grad(
        &mut self,
        model: &O::Model,
        grads: &mut O::Model,
    ) -> Result<f64, O::Error> {
        self.objective.evaluate(model, Some(grads), &self.rows)
    }
}
