//! What all regressions share: checks, batches, products, sums.
use super::{
    ObjectiveError, Rows,
    loss::{Loss, View},
};
use crate::array::{Element, monomorphize};
use ndarray::{
    Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, Ix1, Ix2, Slice,
    linalg::{general_mat_mul, general_mat_vec_mul},
};
use std::ops::Range;

/// Gradients of weights and bias.
pub(super) type Grads<'g, A> = (ArrayViewMut2<'g, A>, ArrayViewMut1<'g, A>);

/// A regression whose weights are a matrix with a column for each output.
#[derive(Clone, Debug)]
pub(super) struct Problem<'a, A> {
    pub x: View<'a, A, Ix2>,
    pub loss: Loss<'a, A>,
    pub l2: f64,
    pub intercept: bool,
    /// Sample weights and their mean.
    weights: Option<(View<'a, A, Ix1>, f64)>,
    buffers: Buffers<A>,
}

/// Rows are evaluated in blocks that fit in the cache.
#[derive(Clone, Debug)]
struct Buffers<A> {
    /// The rows of a block, if those of the data are not slices of memory.
    x: Array2<A>,
    /// The linear predictors of a block, then the derivatives by them.
    z: Array2<A>,
    /// The gradient of the weights over a block.
    grad: Array2<A>,
}

/// Elements of `x` in a block.
const BLOCK: usize = 1 << 15;
/// The most and the fewest rows of a block.
const MOST: usize = 1024;
const FEWEST: usize = 8;

impl<'a, A: Element> Problem<'a, A> {
    /// Checks the data. Weights and products have `outputs` columns.
    pub fn new(
        x: ArrayView2<'a, A>,
        loss: Loss<'a, A>,
        outputs: usize,
    ) -> Result<Self, ObjectiveError> {
        monomorphize!(
            A, <'a>,
            (x: ArrayView2<'a, A>, loss: Loss<'a, A>, outputs: usize)
                -> Result<Problem<'a, A>, ObjectiveError> { Problem::checked(x, loss, outputs) }
        )
    }

    fn checked(
        x: ArrayView2<'a, A>,
        loss: Loss<'a, A>,
        outputs: usize,
    ) -> Result<Self, ObjectiveError> {
        let (rows, features) = x.dim();
        if rows == 0 {
            return Err(ObjectiveError::NoRows);
        }
        if outputs == 0 {
            return Err(ObjectiveError::NoTargets);
        }
        match &loss {
            Loss::Softmax(labels) => {
                check_shape("labels", labels.shape(), &[rows])?;
                let mut labels = labels.iter().enumerate();
                if let Some((row, &label)) = labels.find(|(_, label)| **label >= outputs) {
                    return Err(ObjectiveError::Label {
                        row,
                        label,
                        classes: outputs,
                    });
                }
            }
            Loss::LeastSquares(y) | Loss::Huber(y, _) => check_numbers("y", y.view(), FINITE)?,
            Loss::Logistic(y) => check_numbers("y", y.view(), UNIT)?,
            Loss::Poisson(y, _) => check_numbers("y", y.view(), NOT_NEGATIVE)?,
        }
        check_numbers("x", x, FINITE)?;
        let most = features.max(MOST).checked_mul(outputs);
        if most.is_none_or(|most| most > isize::MAX as usize / size_of::<A>()) {
            return Err(ObjectiveError::Setting {
                name: "classes",
                value: outputs as f64,
                expected: "as many as fit in memory",
            });
        }
        let block = (BLOCK / features.max(1)).clamp(FEWEST, MOST).min(rows);
        let buffer = |rows, columns| Array2::from_elem((rows, columns), A::ZERO);
        Ok(Problem {
            x,
            loss,
            l2: 0.0,
            intercept: true,
            weights: None,
            buffers: Buffers {
                x: buffer(block, features),
                z: buffer(block, outputs),
                grad: buffer(features, outputs),
            },
        })
    }

    pub fn set_exposure(&mut self, exposure: ArrayView1<'a, A>) -> Result<(), ObjectiveError> {
        check_shape("exposure", exposure.shape(), &[self.x.nrows()])?;
        check_numbers("exposure", exposure.insert_axis(Axis(1)), POSITIVE)?;
        match &mut self.loss {
            Loss::Poisson(_, of_rows) => *of_rows = Some(exposure),
            other => return Err(ObjectiveError::NoExposure { loss: other.name() }),
        }
        Ok(())
    }

    pub fn set_weights(&mut self, weights: ArrayView1<'a, A>) -> Result<(), ObjectiveError> {
        let rows = self.x.nrows();
        check_shape("sample weights", weights.shape(), &[rows])?;
        check_numbers("sample weights", weights.insert_axis(Axis(1)), NOT_NEGATIVE)?;
        let mean = weights.iter().map(|w| w.f64() / rows as f64).sum();
        if mean == 0.0 {
            return Err(ObjectiveError::ZeroWeights { rows });
        }
        self.weights = Some((weights, mean));
        Ok(())
    }

    /// Returns the value over these rows and writes the gradients. All shapes are right.
    pub fn evaluate(
        &mut self,
        weights: ArrayView2<'_, A>,
        bias: ArrayView1<'_, A>,
        mut grads: Option<Grads<'_, A>>,
        rows: &Rows<'_>,
    ) -> Result<f64, ObjectiveError> {
        self.check_rows(rows)?;
        if !(self.l2 >= 0.0 && self.l2.is_finite()) {
            return Err(ObjectiveError::Setting {
                name: "l2",
                value: self.l2,
                expected: "a number from 0 on",
            });
        }
        let n = rows.len() as f64;
        let bias = self.intercept.then_some(bias);
        if let Some((of_weights, of_bias)) = &mut grads {
            let twice = A::from_f64(2.0 * self.l2);
            of_weights.zip_mut_with(&weights, |grad, &w| *grad = twice * w);
            of_bias.fill(A::ZERO);
        }
        let Buffers { x: copies, z, grad } = &mut self.buffers;
        let mut value = 0.0;
        for first in (0..rows.len()).step_by(z.nrows()) {
            let count = z.nrows().min(rows.len() - first);
            let index = |i: usize| match rows {
                Rows::Range(range) => range.start + first + i,
                Rows::Indices(indices) => indices[first + i],
            };
            let part = first..first + count;
            let x = block(&self.x, rows, part, copies);
            let mut z = z.slice_axis_mut(Axis(0), Slice::from(..count));
            linear_predictor(&x, &weights, bias, &mut z);
            // Sums over blocks first: their rounding errors are smaller.
            let mut sum = 0.0;
            for (i, mut z) in z.rows_mut().into_iter().enumerate() {
                let row = index(i);
                let weight = match &self.weights {
                    Some((weights, mean)) => weights[row].f64() / mean,
                    None => 1.0,
                };
                let Some(of_row) = z.as_slice_mut().filter(|_| weight > 0.0) else {
                    z.fill(A::ZERO);
                    continue;
                };
                sum += weight * self.loss.of_row(row, of_row);
                let factor = A::from_f64(weight / n);
                of_row.iter_mut().for_each(|d| *d = *d * factor);
            }
            value += sum / n;
            if let Some((of_weights, of_bias)) = &mut grads {
                transposed_product(&x, &z.view(), grad);
                *of_weights += &*grad;
                if self.intercept {
                    let sums = z.columns().into_iter().map(|column| column.sum());
                    of_bias.iter_mut().zip(sums).for_each(|(b, sum)| *b += sum);
                }
            }
        }
        if self.l2 > 0.0 {
            let squares = weights.iter().map(|w| w.f64() * w.f64());
            value += self.l2 * squares.sum::<f64>();
        }
        Ok(value)
    }

    fn check_rows(&self, rows: &Rows<'_>) -> Result<(), ObjectiveError> {
        let wrong = |&row: &usize| row >= self.x.nrows();
        let row = match rows {
            _ if rows.is_empty() => return Err(ObjectiveError::EmptyBatch),
            Rows::Range(range) => Some(range.end - 1)
                .filter(wrong)
                .map(|_| range.start.max(self.x.nrows())),
            Rows::Indices(indices) => indices.iter().copied().find(wrong),
        };
        row.map_or(Ok(()), |row| {
            let rows = self.x.nrows();
            Err(ObjectiveError::RowIndex { row, rows })
        })
    }

    pub fn predict(
        &self,
        weights: ArrayView2<'_, A>,
        bias: ArrayView1<'_, A>,
        x: ArrayView2<'_, A>,
    ) -> Result<Array2<A>, ObjectiveError> {
        check_shape("x", x.shape(), &[x.nrows(), weights.nrows()])?;
        let mut z = Array2::from_elem((x.nrows(), weights.ncols()), A::ZERO);
        let bias = self.intercept.then_some(bias);
        linear_predictor(
            &x.as_standard_layout().view(),
            &weights,
            bias,
            &mut z.view_mut(),
        );
        for mut row in z.rows_mut() {
            if let Some(row) = row.as_slice_mut() {
                self.loss.mean(row);
            }
        }
        Ok(z)
    }
}

/// The rows of a block: those of the data, or copies if they are not slices of consecutive rows.
/// Products then see the same memory order always, and have the same bits.
fn block<'x, A: Element>(
    data: &'x ArrayView2<'_, A>,
    rows: &Rows<'_>,
    part: Range<usize>,
    copies: &'x mut Array2<A>,
) -> ArrayView2<'x, A> {
    let count = part.len();
    let mut copied = copies.slice_axis_mut(Axis(0), Slice::from(..count));
    match rows {
        Rows::Range(range) => {
            let start = range.start + part.start;
            let consecutive = data.slice_axis(Axis(0), Slice::from(start..start + count));
            if data.ncols() < 2 || data.strides()[1] == 1 {
                return consecutive;
            }
            copied.assign(&consecutive);
        }
        Rows::Indices(indices) => {
            for (mut copy, &row) in copied.rows_mut().into_iter().zip(&indices[part]) {
                copy.assign(&data.row(row));
            }
        }
    }
    copies.slice_axis(Axis(0), Slice::from(..count))
}

/// Computes `z = x weights + bias`.
fn linear_predictor<A: Element>(
    x: &ArrayView2<'_, A>,
    weights: &ArrayView2<'_, A>,
    bias: Option<ArrayView1<'_, A>>,
    z: &mut ArrayViewMut2<'_, A>,
) {
    if weights.ncols() == 1 {
        let (weights, mut z) = (weights.column(0), z.column_mut(0));
        general_mat_vec_mul(A::one(), x, &weights, A::ZERO, &mut z);
    } else {
        general_mat_mul(A::one(), x, weights, A::ZERO, z);
    }
    if let Some(bias) = bias {
        *z += &bias;
    }
}

/// Computes `grad = x^T z`.
fn transposed_product<A: Element>(
    x: &ArrayView2<'_, A>,
    z: &ArrayView2<'_, A>,
    grad: &mut Array2<A>,
) {
    if z.ncols() == 1 {
        // ndarray's product of a transposed matrix and a vector goes through memory by columns.
        grad.fill(A::ZERO);
        let mut grad = grad.column_mut(0);
        for (x, &z) in x.rows().into_iter().zip(z.column(0)) {
            grad.scaled_add(z, &x);
        }
    } else {
        general_mat_mul(A::one(), &x.t(), z, A::ZERO, grad);
    }
}

/// Valid numbers, and whether a finite number is one of them.
type Valid = (&'static str, fn(f64) -> bool);
const FINITE: Valid = ("a finite number", |_| true);
const POSITIVE: Valid = ("a positive number", |x| x > 0.0);
const NOT_NEGATIVE: Valid = ("a number from 0 on", |x| x >= 0.0);
const UNIT: Valid = ("a number from 0 to 1", |x| (0.0..=1.0).contains(&x));

fn check_numbers<A: Element>(
    array: &'static str,
    numbers: ArrayView2<'_, A>,
    (expected, is_valid): Valid,
) -> Result<(), ObjectiveError> {
    for (row, numbers) in numbers.rows().into_iter().enumerate() {
        for (column, value) in numbers.iter().map(|x| x.f64()).enumerate() {
            if !(value.is_finite() && is_valid(value)) {
                return Err(ObjectiveError::Value {
                    array,
                    row,
                    column,
                    value,
                    expected,
                });
            }
        }
    }
    Ok(())
}

pub(super) fn check_shape(
    array: &'static str,
    given: &[usize],
    expected: &[usize],
) -> Result<(), ObjectiveError> {
    if given == expected {
        return Ok(());
    }
    Err(ObjectiveError::Shape {
        array,
        given: given.to_vec(),
        expected: expected.to_vec(),
    })
}
