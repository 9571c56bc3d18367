//! Element types, shapes and memory orders.
mod element;
mod functions;
pub(crate) mod layout;
mod row_major;

pub use element::{Data, Element, ElementType, TypeFamily};
pub(crate) use element::{either, monomorphize};
pub(crate) use row_major::row_major;
#[cfg(any(feature = "checkpoint", feature = "serde"))]
pub(crate) use row_major::try_row_major;
