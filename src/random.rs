//! Random numbers as functions of a counter: nothing is remembered between calls, and no order of evaluation changes them.

/// The odd number nearest to 2^64 over the golden ratio: its multiples are counters that differ in many bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A well-mixed number of a counter (the finalizer of SplitMix64).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The `n`th number of the stream that begins at `seed`. Unlike [`mix`] of both, it does not mind small numbers, nor which of
/// the two is which.
pub(crate) fn nth(seed: u64, n: u64) -> u64 {
    mix(seed.wrapping_add(GOLDEN.wrapping_mul(n.wrapping_add(1))))
}
