//! Differences between a state and the optimizer that it is loaded into.
use std::fmt;

/// One reason why a state does not match the optimizer that it is loaded into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
#[non_exhaustive]
pub struct Difference {
    /// What kind of thing differs.
    pub differs: Differs,
    /// Where it differs: ``parameter `w`, array `exp_avg` ``.
    pub place: String,
    /// What the state has there.
    pub found: String,
    /// What the optimizer needs there.
    pub expected: String,
}

/// The kind of a [`Difference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Differs {
    /// The version of the format.
    Version,
    /// The element type.
    Element,
    /// The optimizer or its wrappers.
    Optimizer,
    /// Hyper-parameters that are missing or out of range.
    Config,
    /// The groups, or the parameters that they select.
    Group,
    /// The set of parameters.
    Parameter,
    /// The state arrays of a parameter.
    Array,
    /// The shape of a parameter or an array.
    Shape,
    /// A scalar or a name that is out of range.
    Value,
    /// The unfinished round of gradient accumulation.
    Round,
    /// A setting of the optimizer: how non-finite gradients are handled, limits, clipping, calls
    /// per step.
    Setting,
}

impl Difference {
    pub(crate) fn new(
        differs: Differs,
        place: impl Into<String>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Difference {
            differs,
            place: place.into(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: found {}, expected {}",
            self.place, self.found, self.expected
        )
    }
}

pub(crate) fn in_group(group: Option<&str>) -> String {
    group.map_or_else(
        || "parameters in no group".into(),
        |group| format!("group `{group}`"),
    )
}

/// One line per difference, each after a line break.
pub(crate) fn list(differences: &[Difference]) -> String {
    differences
        .iter()
        .map(|difference| format!("\n  {difference}"))
        .collect()
}

/// The outcome of a partial load:
/// see [`Optimizer::load_matching`](crate::Optimizer::load_matching).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a partial load may leave out parameters"]
#[non_exhaustive]
pub struct LoadReport {
    /// The parameters whose state was loaded.
    pub taken: Vec<String>,
    /// The parameters of the optimizer that are missing in the state and are left unchanged.
    pub missing: Vec<String>,
    /// What in the state was not loaded, and why.
    pub left_over: Vec<Difference>,
    /// The parameters whose average is missing in the state: it begins with their next step.
    pub begun: Vec<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_over = list(&self.left_over);
        write!(
            f,
            "loaded: {:?}\nmissing: {:?}\naverages begun: {:?}\nnot loaded:{left_over}",
            self.taken, self.missing, self.begun
        )
    }
}
