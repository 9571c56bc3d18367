//! The same bits and linear costs on every machine.
