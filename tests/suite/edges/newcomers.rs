//! What a new user tries first.
