use crate::difference::{Difference, list};
use thiserror::Error;

/// Why a step, or a change to an optimizer, failed.
///
/// Everything is checked before the first element changes: after an error, all parameters, moments
/// and step counts are what they were before the call.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A gradient does not have the shape of its parameter.
    #[error("parameter `{name}` has shape {param:?} but its gradient has shape {grad:?}")]
    GradientShape {
        /// Name of the parameter.
        name: String,
        /// Shape of the parameter.
        param: Vec<usize>,
        /// Shape of the gradient.
        grad: Vec<usize>,
    },
    /// A parameter does not have the shape that it had in earlier steps.
    #[error(
        "parameter `{name}` has shape {given:?} but had shape {known:?} in earlier steps{}",
        if name == "variable" {
            "; `update` is for one array, `step` with a name for each is for several"
        } else {
            ""
        }
    )]
    ShapeChanged {
        /// Name of the parameter.
        name: String,
        /// Shape in earlier steps.
        known: Vec<usize>,
        /// Shape in this call.
        given: Vec<usize>,
    },
    /// A parameter has more than six axes.
    #[error(
        "parameter `{name}` has {ndim} axes, but at most 6 are supported: pass a view that merges \
         some of them"
    )]
    TooManyAxes {
        /// Name of the parameter.
        name: String,
        /// Its number of axes.
        ndim: usize,
    },
    /// The optimizer does not support arrays of this shape.
    #[error("parameter `{name}` has shape {shape:?}, expected {expected}")]
    Shape {
        /// Name of the parameter.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The shapes that are supported.
        expected: &'static str,
    },
    /// No wrapper averages this parameter, or it has not been updated yet.
    #[error(
        "there is no average of parameter `{name}`: wrap its algorithm in `ema` or `swa` and make \
         a step first"
    )]
    NoAverage {
        /// Name of the parameter.
        name: String,
    },
    /// The parameter is swapped with its average.
    #[error("parameter `{name}` is swapped with its average: swap it back before the next step")]
    Swapped {
        /// Name of the parameter.
        name: String,
    },
    /// A parameter is passed to one step more than once.
    #[error("parameter `{name}` appears more than once in one step")]
    DuplicateParameter {
        /// Name of the parameter.
        name: String,
    },
    /// A hyper-parameter is out of range or not finite.
    #[error("hyper-parameter `{field}` is {value}, expected {expected}")]
    HyperParameter {
        /// Name of the field.
        field: String,
        /// Its value.
        value: String,
        /// The valid values.
        expected: String,
    },
    /// The configuration of a group is invalid.
    #[error("the configuration of group `{group}` is invalid")]
    InGroup {
        /// Name of the group.
        group: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Two groups have the same name.
    #[error("a group named `{group}` already exists")]
    DuplicateGroup {
        /// Name of the group.
        group: String,
    },
    /// No group has this name.
    #[error("no group named `{group}`, known groups: {known:?}")]
    UnknownGroup {
        /// The name that was looked up.
        group: String,
        /// The names of all groups.
        known: Vec<String>,
    },
    /// A parameter is missing in one of several calls that belong together: those of a round of
    /// accumulation, the two halves of a [`Sam`](crate::Sam) step, or the calls that begin and end
    /// an evaluation.
    #[error("parameter `{name}` is missing in one of several calls that must include it")]
    MissingParameter {
        /// Name of the parameter.
        name: String,
    },
    /// The global norm of the gradients exceeds the limit, and the policy is
    /// [`NonFinite::Error`](crate::NonFinite::Error).
    #[error("the global norm of the gradients is {norm}, above the limit {limit}")]
    ExplodingGradient {
        /// The norm.
        norm: f64,
        /// The limit.
        limit: f64,
    },
    /// More consecutive steps than allowed have been skipped.
    #[error("{skipped} consecutive steps have been skipped, the limit is {limit}")]
    TooManySkipped {
        /// Number of skipped steps, including this one.
        skipped: u64,
        /// The limit.
        limit: u64,
    },
    /// No numeric hyper-parameter has this name.
    #[error("`{optimizer}` has no numeric hyper-parameter `{field}`, known ones: {known:?}")]
    UnknownField {
        /// The name that was looked up.
        field: String,
        /// The algorithm with its wrappers.
        optimizer: String,
        /// The names of all numeric hyper-parameters.
        known: Vec<String>,
    },
    /// Two groups select the same parameter, or one group lists it twice.
    #[error("parameter `{name}` is in group `{first}` and again in group `{second}`")]
    GroupedTwice {
        /// Name of the parameter.
        name: String,
        /// The group that already has it.
        first: String,
        /// The group that selects it again.
        second: String,
    },
    /// No parameter has this name.
    #[error("no parameter named `{name}`")]
    UnknownParameter {
        /// The name that was looked up.
        name: String,
    },
    /// A set of gradients lacks that of a parameter.
    #[error("parameter `{name}` has no gradient in this set of arrays")]
    MissingGradient {
        /// Name of the parameter.
        name: String,
    },
    /// The algorithm does not support the operation.
    #[error("`{optimizer}` cannot {what}")]
    Unsupported {
        /// The algorithm with its wrappers.
        optimizer: String,
        /// The operation.
        what: &'static str,
    },
    /// An option that determines the state arrays (`amsgrad`, `centered`) changed after the first
    /// step. A `momentum` from or to 0 may change: its buffer is added, or kept as it is.
    #[error(
        "the state arrays are {held:?}, but these hyper-parameters need {needed:?}: set options \
         that add or remove state before the first step"
    )]
    StateChanged {
        /// Names of the existing state arrays.
        held: Vec<&'static str>,
        /// Names of the state arrays that the hyper-parameters need.
        needed: Vec<&'static str>,
    },
    /// The algorithm uses the loss, which is missing or not finite.
    #[error(
        "the algorithm needs a finite loss, got {}: pass it with `Params::loss` or \
         `update_with_loss`",
        given.map_or_else(|| "none".into(), |loss| loss.to_string())
    )]
    Loss {
        /// The loss that was passed.
        given: Option<f64>,
    },
    /// The weight of a call in a round of accumulation is not a positive finite number, or too
    /// small or too large next to those of the other calls.
    #[error(
        "the weight of the call is {given}, expected a finite number > 0 of a similar size in all calls"
    )]
    Weight {
        /// The weight.
        given: f64,
    },
    /// A Hessian-vector product does not have the shape of the vector.
    #[error("the Hessian-vector product has shape {product:?}, expected {probe:?}")]
    ProductShape {
        /// Shape of the vector.
        probe: Vec<usize>,
        /// Shape of the product.
        product: Vec<usize>,
    },
    /// The gradient rows do not match the indices and the row shape of the parameter.
    #[error("the gradient rows of parameter `{name}` have shape {given:?}, expected {expected:?}")]
    RowShape {
        /// Name of the parameter.
        name: String,
        /// The number of indices, followed by the shape of the parameter without its first axis.
        expected: Vec<usize>,
        /// Shape of the gradient rows.
        given: Vec<usize>,
    },
    /// A row index is out of bounds.
    #[error("row index {index} is out of bounds for parameter `{name}`, which has {rows} rows")]
    RowIndex {
        /// Name of the parameter.
        name: String,
        /// The first index that is out of bounds.
        index: usize,
        /// Its number of rows.
        rows: usize,
    },
    /// A state does not match the optimizer that it is loaded into.
    #[error("the state does not match the optimizer:{}", list(.0))]
    State(
        /// All differences.
        Vec<Difference>,
    ),
    /// A state cannot be edited in this way.
    #[error("cannot edit the state of parameter `{name}`: {problem}")]
    StateEdit {
        /// Name of the parameter.
        name: String,
        /// The reason.
        problem: String,
    },
    /// Bytes do not encode a state, or a state cannot be encoded.
    #[error("invalid state data: {problem}")]
    StateFormat {
        /// The reason.
        problem: String,
    },
    /// The loss at the beginning of a call of [`Lbfgs`](crate::Lbfgs) is infinite or NaN.
    #[error("the loss is {loss}")]
    NonFiniteLoss {
        /// The loss.
        loss: f64,
    },
    /// A gradient is infinite or NaN, and the policy is
    /// [`NonFinite::Error`](crate::NonFinite::Error), or it is the first one in a call of
    /// [`Lbfgs`](crate::Lbfgs).
    #[error("the gradient of parameter `{name}` contains {value}")]
    NonFiniteGradient {
        /// Name of the parameter.
        name: String,
        /// The first such value in memory order.
        value: f64,
    },
}

impl Error {
    pub(crate) fn in_group(self, group: &str) -> Error {
        Error::InGroup {
            group: group.into(),
            source: Box::new(self),
        }
    }
}
