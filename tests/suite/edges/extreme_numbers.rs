//! Zeros, subnormals, huge and non-finite numbers.
