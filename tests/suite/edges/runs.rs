//! Groups, windows and averages over a whole run.
