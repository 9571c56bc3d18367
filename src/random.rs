//! Counter-based random numbers: there is no generator state, and the order of evaluation does not
//! matter.

/// The odd number nearest to 2^64 over the golden ratio: its multiples are counters that differ in
/// many bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes the bits of a counter (the finalizer of SplitMix64).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns the `n`th number of the stream with this seed. Small seeds and counters are fine, and
/// `seed` and `n` do not commute, as they would in a `mix` of their sum.
pub(crate) fn nth(seed: u64, n: u64) -> u64 {
    mix(seed.wrapping_add(GOLDEN.wrapping_mul(n.wrapping_add(1))))
}
