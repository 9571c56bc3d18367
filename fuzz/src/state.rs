//! States in every format, and what can be done with what was loaded.
use crate::{bounded, subject::use_anywhere};
use ndarray_optim::StateDict;

/// The first byte picks the format, the others are the file.
pub fn state(bytes: &[u8]) {
    let Some((format, file)) = bytes.split_first() else { return };
    // In memory the smallest entries of a file have some hundred bytes each, and lists grow by doubling. Of a list whose length is
    // announced, serde believes a megabyte, and lists are in lists.
    let base = if format % 5 < 3 { 100_000 } else { 8_000_000 };
    let state = bounded(file.len(), (base, 1000), || match format % 5 {
        0 => StateDict::from_bytes(file).ok(),
        1 => StateDict::from_safetensors(file).ok().map(|(state, _)| state),
        2 => serde_json::from_slice(file).ok(),
        3 => ciborium::from_reader(file).ok(),
        _ => postcard::from_bytes(file).ok(),
    });
    if let Some(state) = state {
        bounded(file.len(), (20_000_000, 10_000), || use_anywhere(&state));
    }
}
