//! Element types, shapes, memory orders.
mod element;
pub(crate) mod layout;
mod row_major;

pub use element::{Data, Element, ElementType, Family};
pub(crate) use element::{compiled_here, either};
pub(crate) use row_major::row_major;
#[cfg(any(feature = "checkpoint", feature = "serde"))]
pub(crate) use row_major::try_row_major;
