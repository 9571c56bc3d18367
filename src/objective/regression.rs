//! Regression with linear models.
use super::{
    Objective, ObjectiveError, Rows,
    loss::Loss,
    problem::{Grads, Problem, check_shape},
};
use crate::{
    array::{Element, monomorphize},
    named_arrays,
};
use ndarray::{
    Array, Array1, Array2, ArrayBase, ArrayView, ArrayView1, ArrayView2, Axis, Dimension, Ix0, Ix1,
    Ix2, RawData, RemoveAxis,
};

/// The parameters of a linear model, or their gradients: a set of the arrays `weights` and `bias`.
///
/// | outputs | type | `weights` | `bias` |
/// |---|---|---|---|
/// | one | `Linear<f64>` | \[features\] | \[\] |
/// | several | `Linear<f64, Ix2>` | \[features, outputs\] | \[outputs\] |
#[derive(Clone, Debug, PartialEq)]
pub struct Linear<A, D: Dimension = Ix1> {
    /// The factors of the features.
    pub weights: Array<A, D>,
    /// The intercept.
    pub bias: Array<A, D::Smaller>,
}

named_arrays!(impl<A> NamedArrays<A> for Linear<A, Ix1> { weights, bias });
named_arrays!(impl<A> NamedArrays<A> for Linear<A, Ix2> { weights, bias });

mod sealed {
    pub trait Sealed {}
    impl Sealed for ndarray::Ix1 {}
    impl Sealed for ndarray::Ix2 {}
}

/// The axes of targets: `Ix1` for one output, `Ix2` for several. The trait is sealed.
pub trait Outputs: RemoveAxis + sealed::Sealed {
    /// Returns an array of this dimension as a matrix with a column for each output.
    #[doc(hidden)]
    fn matrix<S: RawData>(array: ArrayBase<S, Self>) -> ArrayBase<S, Ix2>;

    /// Returns one element for each output.
    #[doc(hidden)]
    fn vector<S: RawData>(array: ArrayBase<S, Self::Smaller>) -> ArrayBase<S, Ix1>;

    /// The reverse of [`matrix`](Outputs::matrix), for a matrix with as many columns.
    #[doc(hidden)]
    fn from_matrix<S: RawData>(matrix: ArrayBase<S, Ix2>) -> ArrayBase<S, Self>;
}

impl Outputs for Ix1 {
    fn matrix<S: RawData>(array: ArrayBase<S, Ix1>) -> ArrayBase<S, Ix2> {
        array.insert_axis(Axis(1))
    }

    fn vector<S: RawData>(array: ArrayBase<S, Ix0>) -> ArrayBase<S, Ix1> {
        array.insert_axis(Axis(0))
    }

    fn from_matrix<S: RawData>(matrix: ArrayBase<S, Ix2>) -> ArrayBase<S, Ix1> {
        matrix.index_axis_move(Axis(1), 0)
    }
}

impl Outputs for Ix2 {
    fn matrix<S: RawData>(array: ArrayBase<S, Ix2>) -> ArrayBase<S, Ix2> {
        array
    }

    fn vector<S: RawData>(array: ArrayBase<S, Ix1>) -> ArrayBase<S, Ix1> {
        array
    }

    fn from_matrix<S: RawData>(matrix: ArrayBase<S, Ix2>) -> ArrayBase<S, Ix2> {
        matrix
    }
}

/// Regression with a linear model: the mean of a loss over rows of data, plus an L2 penalty.
///
/// ```text
/// value = (1 / n) sum_i w_i loss(z_i, y_i) + l2 |weights|^2        z_i = x_i weights + bias
/// ```
///
/// | | `loss(z, y)` | targets `y` | [`predict`](Regression::predict) |
/// |---|---|---|---|
/// | [`least_squares`](Regression::least_squares) | `(z - y)^2 / 2` | numbers | `z` |
/// | [`huber`](Regression::huber) | `(z - y)^2 / 2` up to a distance of `delta`, then `delta (abs(z - y) - delta / 2)` | numbers | `z` |
/// | [`logistic`](Regression::logistic) | `log(1 + e^z) - y z` | 0 to 1 | `1 / (1 + e^-z)` |
/// | [`poisson`](Regression::poisson) | `t e^z - y z`, exposure `t` | counts | `e^z` |
/// | [`softmax`](Regression::softmax) | `log(sum_k e^z_k) - z_y` | labels | `e^z_k / sum_j e^z_j` |
///
/// - The penalty is not halved: its gradient is `2 l2 weights`. The bias is not penalized. Least
///   squares with a penalty is ridge regression, whose `alpha` in scikit-learn is `2 n l2`.
/// - Sample weights `w_i` are divided by their mean over all rows, so that the value is their
///   weighted mean. Over a batch, `n` is the number of its rows, and the penalty is added in full:
///   the mean over batches of equal size is the value over all rows, with weights too.
/// - Losses of several outputs are added, as in scikit-learn; torch takes their mean.
/// - An L1 penalty is not part of the objective: see [below](#l1-penalty).
///
/// The data are borrowed, in any memory layout, and checked once, when the objective is created. An
/// evaluation copies rows that are not slices of memory into a buffer that the objective owns, and
/// allocates nothing, except that ndarray's product of two matrices allocates buffers of its own
/// (several outputs).
///
/// # Accuracy
///
/// Linear predictors and gradients have the element type of the data. The value is summed in `f64`.
/// No loss overflows for large `|z|`, except that of Poisson regression where `e^z` does (from
/// `z` = 88.8 in `f32` and 709.8 in `f64`): then the value is infinite and derivatives stop at the
/// largest number. The bits do not depend on the memory layout of the data. With one output they
/// are the same on every machine, unless ndarray's feature `blas` is on; products of two matrices
/// (several outputs) depend on the machine.
///
/// # L1 penalty
///
/// The penalty has no gradient at 0. The wrapper [`L1`](crate::wrap::L1) adds it to an algorithm by
/// its proximal operator, which gives exact zeros. A group leaves the bias without a penalty:
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{
///     Compose, Group, Optimizer, Sgd,
///     objective::{Objective, Regression},
///     wrap::L1,
/// };
///
/// // Orthogonal features: the minimum is that without a penalty, 2 and 0.1, minus lambda.
/// let x = array![[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]];
/// let y = array![5.1, 4.9, 1.1, 0.9];
/// let mut problem = Regression::least_squares(&x, &y)?;
///
/// let mut optimizer = Optimizer::new(Sgd::new(0.5));
/// let penalized = Sgd::new(0.5).wrap(L1 { lambda: 0.25 });
/// optimizer.add_group(Group::new("lasso", ["weights"], penalized))?;
/// let (mut model, mut grads) = (problem.zeros(), problem.zeros());
/// for _ in 0..100 {
///     problem.value_and_grad(&model, &mut grads)?;
///     optimizer.step_with(&mut model, &grads)?;
/// }
/// assert!((model.weights[0] - 1.75_f64).abs() < 1e-12 && model.weights[1] == 0.0);
/// assert!((model.bias[()] - 3.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Regression<'a, A: Element, D: Outputs = Ix1> {
    /// The shape of the weights.
    shape: D,
    problem: Problem<'a, A>,
}

impl<'a, A: Element, D: Outputs> Regression<'a, A, D> {
    /// Least squares: the mean of `(z - y)^2 / 2`.
    ///
    /// `x` has the shape \[rows, features\], `y` \[rows\] or \[rows, outputs\]; both are arrays by
    /// reference or views.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::objective::{Objective, Regression};
    ///
    /// let (x, y) = (array![[1.0], [2.0]], array![3.0, 5.0]);
    /// let mut ridge = Regression::least_squares(&x, &y)?.l2(0.1);
    /// let mut model = ridge.zeros();
    /// assert_eq!(ridge.value(&model)?, 8.5);
    /// model.weights.fill(1.0);
    /// assert_eq!(ridge.value(&model)?, 3.25 + 0.1);
    /// # Ok::<(), ndarray_optim::objective::ObjectiveError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ObjectiveError::Shape`], [`ObjectiveError::NoRows`] or [`ObjectiveError::NoTargets`], and
    /// [`ObjectiveError::Value`], which names the first number that is infinite or NaN.
    pub fn least_squares(
        x: impl Into<ArrayView2<'a, A>>,
        y: impl Into<ArrayView<'a, A, D>>,
    ) -> Result<Self, ObjectiveError> {
        Self::of_numbers(x.into(), y.into(), Loss::LeastSquares)
    }

    /// Huber regression: quadratic for residuals up to `delta`, linear beyond, so that outliers
    /// have a bounded influence. The value is that of torch's `HuberLoss`; scikit-learn's
    /// `HuberRegressor` estimates a scale of the residuals too, this does not.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::objective::{Objective, Regression};
    ///
    /// let (x, y) = (array![[1.0], [2.0]], array![0.5, -10.0]);
    /// let mut problem = Regression::huber(&x, &y, 1.0)?;
    /// let model = problem.zeros();
    /// assert_eq!(problem.value(&model)?, (0.125 + 9.5) / 2.0);
    /// # Ok::<(), ndarray_optim::objective::ObjectiveError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`least_squares`](Regression::least_squares); [`ObjectiveError::Setting`] unless `delta`
    /// is positive.
    pub fn huber(
        x: impl Into<ArrayView2<'a, A>>,
        y: impl Into<ArrayView<'a, A, D>>,
        delta: f64,
    ) -> Result<Self, ObjectiveError> {
        let rounded = A::from_f64(delta);
        if !(rounded > A::ZERO && delta.is_finite()) {
            return Err(ObjectiveError::Setting {
                name: "delta",
                value: delta,
                expected: "a positive number",
            });
        }
        Self::of_numbers(x.into(), y.into(), |y| Loss::Huber(y, rounded))
    }

    /// Poisson regression: the negative log-likelihood of counts with the expectation `t e^z`,
    /// without the terms that do not depend on the parameters. The exposure `t` is 1 unless
    /// [`exposure`](Regression::exposure) says otherwise. Targets need not be integers.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::objective::{Objective, Regression};
    ///
    /// let (x, events, years) = (array![[1.0], [0.0]], array![3.0, 0.0], array![1.0, 5.0]);
    /// let mut problem = Regression::poisson(&x, &events)?.exposure(&years)?;
    /// assert_eq!(problem.value(&problem.zeros())?, 3.0);
    /// # Ok::<(), ndarray_optim::objective::ObjectiveError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`least_squares`](Regression::least_squares); negative counts are a
    /// [`ObjectiveError::Value`] too.
    pub fn poisson(
        x: impl Into<ArrayView2<'a, A>>,
        y: impl Into<ArrayView<'a, A, D>>,
    ) -> Result<Self, ObjectiveError> {
        Self::of_numbers(x.into(), y.into(), |y| Loss::Poisson(y, None))
    }

    fn of_numbers(
        x: ArrayView2<'a, A>,
        y: ArrayView<'a, A, D>,
        loss: impl FnOnce(ArrayView2<'a, A>) -> Loss<'a, A>,
    ) -> Result<Self, ObjectiveError> {
        let mut shape = y.raw_dim();
        shape[0] = x.nrows();
        check_shape("y", y.shape(), shape.slice())?;
        shape[0] = x.ncols();
        let y = D::matrix(y);
        let outputs = y.ncols();
        let problem = Problem::new(x, loss(y), outputs)?;
        Ok(Regression { shape, problem })
    }

    /// Sets the exposure of each row of a [`poisson`](Regression::poisson) regression: the time,
    /// area or population in which its events were counted. Other losses have none.
    ///
    /// # Errors
    ///
    /// [`ObjectiveError::Shape`], or [`ObjectiveError::Value`] for a number that is not positive.
    /// [`ObjectiveError::NoExposure`] if the loss is another one.
    pub fn exposure(
        mut self,
        exposure: impl Into<ArrayView1<'a, A>>,
    ) -> Result<Self, ObjectiveError> {
        self.problem.set_exposure(exposure.into())?;
        Ok(self)
    }

    /// Sets the weight of each row; see [`Regression`].
    ///
    /// # Errors
    ///
    /// [`ObjectiveError::Shape`], [`ObjectiveError::Value`] for a number that is negative or not
    /// finite, [`ObjectiveError::ZeroWeights`] if all are 0.
    pub fn sample_weights(
        mut self,
        weights: impl Into<ArrayView1<'a, A>>,
    ) -> Result<Self, ObjectiveError> {
        self.problem.set_weights(weights.into())?;
        Ok(self)
    }

    /// Sets the factor of the penalty `l2 |weights|^2`. The default is 0. Evaluations fail unless
    /// it is a number from 0 on.
    #[must_use]
    pub fn l2(mut self, l2: f64) -> Self {
        self.problem.l2 = l2;
        self
    }

    /// Sets whether the model has an intercept, which is the default. Without one the bias is
    /// ignored, and its gradient is 0.
    #[must_use]
    pub fn intercept(mut self, intercept: bool) -> Self {
        self.problem.intercept = intercept;
        self
    }

    /// Returns parameters, or gradients, that are all 0.
    pub fn zeros(&self) -> Linear<A, D> {
        Linear {
            weights: Array::from_elem(self.shape.clone(), A::ZERO),
            bias: Array::from_elem(self.shape.remove_axis(Axis(0)), A::ZERO),
        }
    }

    /// Returns the expected targets for rows of features, which need not be those of the fit: means
    /// of least squares and Huber regression, probabilities of class 1 of logistic regression, of
    /// each class of softmax regression, and events per unit of exposure of Poisson regression.
    ///
    /// # Errors
    ///
    /// [`ObjectiveError::Shape`].
    pub fn predict<'x>(
        &self,
        model: &Linear<A, D>,
        x: impl Into<ArrayView2<'x, A>>,
    ) -> Result<Array<A, D>, ObjectiveError> {
        self.predict_matrix(model, x.into()).map(D::from_matrix)
    }

    /// Returns the class of each row by its [probability](Regression::predict): of logistic
    /// regression 1 if the probability is above 1/2, of softmax regression the first of the most
    /// probable ones.
    ///
    /// # Errors
    ///
    /// [`ObjectiveError::Shape`], or [`ObjectiveError::NoClasses`] for other losses.
    pub fn predict_class<'x>(
        &self,
        model: &Linear<A, D>,
        x: impl Into<ArrayView2<'x, A>>,
    ) -> Result<Array1<usize>, ObjectiveError> {
        if !matches!(self.problem.loss, Loss::Logistic(_) | Loss::Softmax(_)) {
            let loss = self.problem.loss.name();
            return Err(ObjectiveError::NoClasses { loss });
        }
        let half = A::from_f64(0.5);
        let class = |row: ArrayView1<'_, A>| match row.len() {
            1 if self.shape.ndim() == 1 => usize::from(row[0] > half),
            _ => (0..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best }),
        };
        let probabilities = self.predict_matrix(model, x.into())?;
        Ok(probabilities.rows().into_iter().map(class).collect())
    }

    fn predict_matrix(
        &self,
        model: &Linear<A, D>,
        x: ArrayView2<'_, A>,
    ) -> Result<Array2<A>, ObjectiveError> {
        self.check("the weights", model)?;
        let (problem, weights, bias) = (
            &self.problem,
            D::matrix(model.weights.view()),
            D::vector(model.bias.view()),
        );
        monomorphize!(
            A, <'p, 'a: 'p>,
            (
                problem: &'p Problem<'a, A>, weights: ArrayView2<'p, A>, bias: ArrayView1<'p, A>,
                x: ArrayView2<'p, A>
            ) -> Result<Array2<A>, ObjectiveError> { problem.predict(weights, bias, x) }
        )
    }

    /// Compares the shapes of parameters or gradients with those that the data need.
    fn check(&self, array: &'static str, model: &Linear<A, D>) -> Result<(), ObjectiveError> {
        check_shape(array, model.weights.shape(), self.shape.slice())?;
        let bias = match array {
            "the weights" => "the bias",
            _ => "the gradient of the bias",
        };
        check_shape(bias, model.bias.shape(), &self.shape.slice()[1..])
    }
}

impl<'a, A: Element> Regression<'a, A> {
    /// Logistic regression: the mean of `log(1 + e^z) - y z`, the cross entropy of two classes.
    ///
    /// `x` has the shape \[rows, features\], `y` \[rows\]. Targets are 0 or 1, or a probability in
    /// between.
    ///
    /// # Errors
    ///
    /// As [`least_squares`](Regression::least_squares); other targets are a
    /// [`ObjectiveError::Value`] too.
    pub fn logistic(
        x: impl Into<ArrayView2<'a, A>>,
        y: impl Into<ArrayView1<'a, A>>,
    ) -> Result<Self, ObjectiveError> {
        Self::of_numbers(x.into(), y.into(), Loss::Logistic)
    }
}

impl<'a, A: Element> Regression<'a, A, Ix2> {
    /// Softmax regression: the mean cross entropy of several classes. The model has one column of
    /// weights for each class.
    ///
    /// `x` has the shape \[rows, features\]. `labels` are the classes of the rows, counted from 0.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::objective::{Objective, Regression};
    ///
    /// let x = array![[1.0], [2.0], [3.0]];
    /// let mut problem = Regression::softmax(&x, &[0, 2, 1], 3)?;
    /// let model = problem.zeros();
    /// assert_eq!(model.weights.shape(), [1, 3]);
    /// assert!((problem.value(&model)? - 3_f64.ln()).abs() < 1e-15);
    /// # Ok::<(), ndarray_optim::objective::ObjectiveError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`least_squares`](Regression::least_squares); [`ObjectiveError::Label`] names the first
    /// label that is not below `classes`.
    pub fn softmax(
        x: impl Into<ArrayView2<'a, A>>,
        labels: impl Into<ArrayView1<'a, usize>>,
        classes: usize,
    ) -> Result<Self, ObjectiveError> {
        let (x, labels) = (x.into(), labels.into());
        let shape = Ix2(x.ncols(), classes);
        let problem = Problem::new(x, Loss::Softmax(labels), classes)?;
        Ok(Regression { shape, problem })
    }
}

impl<A: Element, D: Outputs> Objective for Regression<'_, A, D> {
    type Model = Linear<A, D>;
    type Error = ObjectiveError;

    fn rows(&self) -> usize {
        self.problem.x.nrows()
    }

    fn evaluate(
        &mut self,
        model: &Self::Model,
        grads: Option<&mut Self::Model>,
        rows: &Rows<'_>,
    ) -> Result<f64, ObjectiveError> {
        self.check("the weights", model)?;
        if let Some(grads) = &grads {
            self.check("the gradient of the weights", grads)?;
        }
        let (problem, weights, bias) = (
            &mut self.problem,
            D::matrix(model.weights.view()),
            D::vector(model.bias.view()),
        );
        let grads = grads.map(|grads| {
            let weights = D::matrix(grads.weights.view_mut());
            (weights, D::vector(grads.bias.view_mut()))
        });
        monomorphize!(
            A, <'p, 'a: 'p, 'r: 'p>,
            (
                problem: &'p mut Problem<'a, A>, weights: ArrayView2<'p, A>,
                bias: ArrayView1<'p, A>, grads: Option<Grads<'p, A>>, rows: &'p Rows<'r>
            ) -> Result<f64, ObjectiveError> { problem.evaluate(weights, bias, grads, rows) }
        )
    }
}
