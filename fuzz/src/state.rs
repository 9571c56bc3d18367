//! States in every format, and steps with the loaded ones.
use crate::{bounded, subject::use_anywhere};
use ndarray_optim::StateDict;

/// The first byte selects the format; the others are the file.
pub fn state(bytes: &[u8]) {
    let Some((format, file)) = bytes.split_first() else {
        return;
    };
    // The smallest entries of a file take some hundred bytes each in memory, and lists grow by
    // doubling. serde trusts announced lengths up to a megabyte per list, and lists are nested.
    let base = if format % 5 < 3 { 100_000 } else { 8_000_000 };
    let state = bounded(file.len(), (base, 1000), || match format % 5 {
        0 => StateDict::from_bytes(file).ok(),
        1 => StateDict::from_safetensors(file)
            .ok()
            .map(|(state, _)| state),
        2 => serde_json::from_slice(file).ok(),
        3 => ciborium::from_reader(file).ok(),
        _ => postcard::from_bytes(file).ok(),
    });
    if let Some(state) = state {
        bounded(file.len(), (20_000_000, 10_000), || use_anywhere(&state));
    }
}
