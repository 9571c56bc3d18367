//! The limit on compositions of compositions.
//!
//! Algorithms in wrappers and schedules of schedules can be nested by hand to any depth. Nothing
//! that walks through them may overflow the stack: copies, comparisons and drops work without
//! recursion, everything else refuses what is nested deeper than this.
use crate::error::Error;

/// The maximum number of compositions inside each other.
pub(crate) const MAX_NESTING: usize = 16;

/// What a message says about a deeper one.
pub(crate) const TOO_DEEP: &str = "nested more than 16 levels deep";

/// The error for a hyper-parameter that contains too deep a composition.
#[cold]
pub(crate) fn too_deep(field: &str) -> Error {
    Error::HyperParameter {
        field: field.into(),
        value: TOO_DEEP.into(),
        expected: "at most 16 levels".into(),
    }
}
