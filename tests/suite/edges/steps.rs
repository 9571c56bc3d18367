//! Every entry point obeys what is set for all steps.
