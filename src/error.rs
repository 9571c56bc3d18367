use crate::difference::{Difference, list};
use thiserror::Error;

/// Why a step, or a change of an optimizer, was refused.
///
/// Whatever is wrong is found before the first element changes: after an error every parameter, moment and step count is
/// what it was before.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A gradient has another shape than its parameter.
    #[error("parameter `{name}` has shape {param:?} but its gradient has shape {grad:?}")]
    GradientShape {
        /// Name of the parameter.
        name: String,
        /// Shape of the parameter.
        param: Vec<usize>,
        /// Shape of the gradient.
        grad: Vec<usize>,
    },
    /// A parameter has another shape than in earlier steps.
    #[error("parameter `{name}` has shape {given:?} but had shape {known:?} in earlier steps")]
    ShapeChanged {
        /// Name of the parameter.
        name: String,
        /// Shape in earlier steps.
        known: Vec<usize>,
        /// Shape now.
        given: Vec<usize>,
    },
    /// A parameter has more than six axes.
    #[error("parameter `{name}` has {ndim} axes, at most 6 are supported: merge some of them in the view that is lent")]
    TooManyAxes {
        /// Name of the parameter.
        name: String,
        /// Its number of axes.
        ndim: usize,
    },
    /// The optimizer cannot step an array of this shape.
    #[error("parameter `{name}` has shape {shape:?}, expected {expected}")]
    Shape {
        /// Name of the parameter.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What the optimizer takes.
        expected: &'static str,
    },
    /// No wrapper keeps an average of this parameter, or it has made no step.
    #[error("there is no average of parameter `{name}`")]
    NoAverage {
        /// The name.
        name: String,
    },
    /// The parameter has been exchanged with its average.
    #[error("parameter `{name}` is exchanged with its average: exchange them again before the next step")]
    Swapped {
        /// The name.
        name: String,
    },
    /// One step was lent two parameters of the same name.
    #[error("parameter `{name}` appears twice in one step")]
    DuplicateParameter {
        /// The name.
        name: String,
    },
    /// A hyper-parameter is out of range or not finite.
    #[error("hyper-parameter `{field}` is {value}, expected {expected}")]
    HyperParameter {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The hyper-parameters of a group are wrong.
    #[error("in group `{group}`: {source}")]
    InGroup {
        /// Name of the group.
        group: String,
        /// What is wrong.
        source: Box<Error>,
    },
    /// Two groups have the same name.
    #[error("there is a group `{group}` already")]
    DuplicateGroup {
        /// The name.
        group: String,
    },
    /// No group has this name.
    #[error("there is no group `{group}`, only {known:?}")]
    UnknownGroup {
        /// The name that was asked for.
        group: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A parameter that had a gradient in an earlier part of the step is not lent now.
    #[error("parameter `{name}` was lent in an earlier part of this step and is missing now")]
    MissingParameter {
        /// Its name.
        name: String,
    },
    /// The norm of all gradients is above the limit, and the policy is [`NonFinite::Error`](crate::NonFinite::Error).
    #[error("the norm of the gradients is {norm}, above the limit {limit}")]
    ExplodingGradient {
        /// The norm.
        norm: f64,
        /// The limit.
        limit: f64,
    },
    /// More steps than allowed have been left out one after another.
    #[error("{skipped} steps were left out one after another, the limit is {limit}")]
    TooManySkipped {
        /// How many, with this one.
        skipped: u64,
        /// The limit.
        limit: u64,
    },
    /// No hyper-parameter has this name.
    #[error("there is no number `{field}` among the hyper-parameters of {optimizer}")]
    UnknownField {
        /// The name that was asked for.
        field: String,
        /// The algorithm, with its wrappers.
        optimizer: String,
    },
    /// A parameter is selected by two groups, or named twice by one.
    #[error("parameter `{name}` is in group `{first}` and again in group `{second}`")]
    GroupedTwice {
        /// Name of the parameter.
        name: String,
        /// The group that has it.
        first: String,
        /// The group that asked for it too.
        second: String,
    },
    /// No parameter has this name.
    #[error("there is no parameter `{name}`")]
    UnknownParameter {
        /// The name that was asked for.
        name: String,
    },
    /// The algorithm cannot do what was asked for.
    #[error("{optimizer} cannot {what}")]
    Unsupported {
        /// The algorithm, with its wrappers.
        optimizer: String,
        /// What it cannot do.
        what: &'static str,
    },
    /// An option that decides which state is kept (`amsgrad`, `centered`, a `momentum` of 0) changed after the first step.
    #[error(
        "the state of the parameters is {held:?}, but these hyper-parameters need {needed:?}: set options that add or drop state before the first step"
    )]
    StateChanged {
        /// Names of the state arrays that are held.
        held: Vec<&'static str>,
        /// Names of those that would be needed.
        needed: Vec<&'static str>,
    },
    /// The optimizer uses the value of the objective, and it is missing or not finite.
    #[error("this optimizer needs a finite value of the objective (`Params::loss`, `update_with_loss`), not {given:?}")]
    Loss {
        /// What was given.
        given: Option<f64>,
    },
    /// A product of a Hessian with a vector has another shape than the vector.
    #[error("the product of the Hessian with a vector of shape {probe:?} has shape {product:?}")]
    ProductShape {
        /// Shape of the vector.
        probe: Vec<usize>,
        /// Shape of the product.
        product: Vec<usize>,
    },
    /// Rows of a gradient are not one for each index, each in the shape of a row of the parameter.
    #[error("the rows of parameter `{name}` have shape {given:?}, expected {expected:?}")]
    RowShape {
        /// Name of the parameter.
        name: String,
        /// The number of indices, then the shape of the parameter without its first axis.
        expected: Vec<usize>,
        /// Shape of the rows.
        given: Vec<usize>,
    },
    /// An index names a row that the parameter does not have.
    #[error("there is no row {index} of parameter `{name}`, which has {rows}")]
    RowIndex {
        /// Name of the parameter.
        name: String,
        /// The first index that is too large.
        index: usize,
        /// Its number of rows.
        rows: usize,
    },
    /// A state does not fit the optimizer it is loaded into.
    #[error("the state does not fit:{}", list(.0))]
    State(
        /// Everything that does not.
        Vec<Difference>,
    ),
    /// A state cannot be changed like this.
    #[error("parameter `{name}` of the state {problem}")]
    StateEdit {
        /// Name of the parameter.
        name: String,
        /// Why not.
        problem: String,
    },
    /// Bytes are not those of a state, or a state cannot be written as asked.
    #[error("not a state: {problem}")]
    StateFormat {
        /// What is wrong.
        problem: String,
    },
    /// A gradient is infinite or NaN, and the policy is [`NonFinite::Error`](crate::NonFinite::Error).
    #[error("the gradient of parameter `{name}` contains {value}")]
    NonFiniteGradient {
        /// Name of the parameter.
        name: String,
        /// The first such value in memory order.
        value: f64,
    },
}

/// Checks that the configurations of all optimizers share.
pub(crate) mod check {
    use super::Error;
    use std::fmt::Display;

    pub fn that(ok: bool, field: &'static str, value: impl Display, expected: &'static str) -> Result<(), Error> {
        if ok { Ok(()) } else { Err(Error::HyperParameter { field, value: value.to_string(), expected }) }
    }

    /// `lr`, `eps`, `weight_decay`, ...
    pub fn non_negative(field: &'static str, value: f64) -> Result<(), Error> {
        that(value >= 0.0 && value.is_finite(), field, value, "a finite number >= 0")
    }

    /// A share of an old average that is kept: at 1 it would never change, and its bias correction would divide by 0.
    pub fn share(field: &'static str, value: f64) -> Result<(), Error> {
        that((0.0..1.0).contains(&value), field, value, "a number in [0, 1)")
    }

    /// What every relative of Adam has.
    pub fn averages(lr: f64, betas: (f64, f64), eps: f64) -> Result<(), Error> {
        non_negative("lr", lr)?;
        share("betas[0]", betas.0)?;
        share("betas[1]", betas.1)?;
        non_negative("eps", eps)
    }

    /// The momentum or dampening of a buffer that is not an average.
    pub fn unit(field: &'static str, value: f64) -> Result<(), Error> {
        that((0.0..=1.0).contains(&value), field, value, "a number in [0, 1]")
    }

    /// Nesterov's form looks ahead along the momentum, so there must be some.
    pub fn nesterov(nesterov: bool, momentum: f64, dampening: f64) -> Result<(), Error> {
        let ok = !nesterov || momentum > 0.0 && dampening == 0.0;
        that(ok, "nesterov", nesterov, "false, or momentum > 0 and dampening = 0")
    }
}

impl Error {
    pub(crate) fn in_group(self, group: &str) -> Error {
        Error::InGroup { group: group.into(), source: Box::new(self) }
    }
}
