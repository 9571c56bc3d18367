//! What can be wrong with data.
use crate::error::Error as StepError;
use thiserror::Error;

/// Why an objective was not created or evaluated. Rows and columns are counted from 0.
///
/// Everything is checked before the gradients change.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// An array does not have the shape that belongs to the data.
    #[error("{array} has shape {given:?}, expected {expected:?}")]
    Shape {
        /// What the array is.
        array: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// The shape that it must have.
        expected: Vec<usize>,
    },
    /// The data have no rows.
    #[error("x has no rows")]
    NoRows,
    /// There are no outputs: targets have two axes but no column, or the number of classes is 0.
    #[error("y has no columns, or the number of classes is 0")]
    NoTargets,
    /// A number of the data is out of range, infinite or NaN.
    #[error("row {row}, column {column} of {array} is {value}, expected {expected}")]
    Value {
        /// What the array is.
        array: &'static str,
        /// The first row with such a number.
        row: usize,
        /// Its column; 0 if the array has one axis.
        column: usize,
        /// The number.
        value: f64,
        /// The valid numbers.
        expected: &'static str,
    },
    /// A label is not below the number of classes.
    #[error("the label of row {row} is {label}, expected a class from 0 to {}", classes.saturating_sub(1))]
    Label {
        /// The first row with such a label.
        row: usize,
        /// The label.
        label: usize,
        /// The number of classes.
        classes: usize,
    },
    /// All sample weights are zero.
    #[error("all {rows} sample weights are zero")]
    ZeroWeights {
        /// The number of rows.
        rows: usize,
    },
    /// A number that belongs to the objective is out of range.
    #[error("`{name}` is {value}, expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The valid numbers.
        expected: &'static str,
    },
    /// A batch has no rows.
    #[error("the batch has no rows")]
    EmptyBatch,
    /// A batch contains a row that the data do not have.
    #[error("the batch contains row {row}, but the data have {rows} rows")]
    RowIndex {
        /// The first such row.
        row: usize,
        /// The number of rows of the data.
        rows: usize,
    },
    /// Only Poisson regression has an exposure.
    #[error("{loss} regression has no exposure")]
    NoExposure {
        /// The name of the loss.
        loss: &'static str,
    },
    /// The targets of the objective are not classes.
    #[error("the targets of {loss} regression are not classes: use `predict`")]
    NoClasses {
        /// The name of the loss.
        loss: &'static str,
    },
    /// An error of an optimizer, for closures and functions that evaluate and make steps.
    #[error(transparent)]
    Step(#[from] StepError),
}
