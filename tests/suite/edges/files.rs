//! Every legal value comes back from every format.
