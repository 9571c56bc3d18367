//! The order of wrappers means what it says.
