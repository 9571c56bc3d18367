//! What does not fit, and what did.
use std::fmt;

/// Something in a state that does not fit the optimizer it is loaded into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing differs.
    pub differs: Differs,
    /// Where: ``parameter `w`, array `exp_avg` ``.
    pub place: String,
    /// What the state has there.
    pub found: String,
    /// What the optimizer needs there.
    pub expected: String,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Differs {
    /// The version of the format.
    Version,
    /// The element type.
    Element,
    /// The optimizer, or the wrappers around it.
    Optimizer,
    /// Hyper-parameters, which are out of range.
    Config,
    /// The groups there are, or their parameters.
    Group,
    /// The parameters there are.
    Parameter,
    /// The arrays of a parameter.
    Array,
    /// The shape of a parameter or an array.
    Shape,
    /// A number or name that is out of range.
    Value,
    /// The rounds of accumulation.
    Round,
}

impl Difference {
    pub(crate) fn new(
        differs: Differs,
        place: impl Into<String>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Difference { differs, place: place.into(), found: found.to_string(), expected: expected.to_string() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, expected {}", self.place, self.found, self.expected)
    }
}

pub(crate) fn in_group(group: Option<&str>) -> String {
    group.map_or_else(|| "parameters in no group".into(), |group| format!("group `{group}`"))
}

/// One line for each.
pub(crate) fn list(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("\n  {difference}")).collect()
}

/// What became of a partial load: see [`Optimizer::load_matching`](crate::Optimizer::load_matching).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The parameters whose state was taken.
    pub taken: Vec<String>,
    /// The parameters of the optimizer that the state does not have; they stay as they are.
    pub missing: Vec<String>,
    /// What was left over in the state, and why.
    pub left_over: Vec<Difference>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "taken: {:?}\nmissing: {:?}\nleft over:{}", self.taken, self.missing, list(&self.left_over))
    }
}
