//! Hyper-parameters that change during a run.
