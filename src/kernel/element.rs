//! The number types that can be optimized.
use super::{Data, ElementType};
use ndarray::{CowArray, IxDyn};
use num_traits::Float;
use std::{fmt, ops::AddAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` or `f64`.
///
/// Arithmetic comes from [`num_traits::Float`]; what is added here is what update rules need beyond it. There is no use of
/// `mul_add` in this crate: it is a library call without hardware support, and it would change the bits.
pub trait Element: Float + AddAssign + Default + fmt::Debug + fmt::Display + Send + Sync + sealed::Sealed + 'static {
    /// Time of an operation relative to `f32`, for the decision between one thread and many.
    const COST: u64;
    /// 0, as a constant.
    const ZERO: Self;
    /// This type, as a value.
    const TYPE: ElementType;

    /// `x`, rounded once to this type.
    fn of(x: f64) -> Self;

    /// An array of this type as one of any.
    fn erase(array: CowArray<'_, Self, IxDyn>) -> Data<'_>;

    /// The array, if it is one of this type.
    fn recover<'d, 'a>(data: &'d Data<'a>) -> Option<&'d CowArray<'a, Self, IxDyn>>;

    /// The array itself, if it is one of this type.
    fn recover_owned(data: Data<'_>) -> Option<CowArray<'_, Self, IxDyn>>;

    /// The little-endian bytes of the numbers, into as many bytes as there are.
    fn encode(values: &[Self], bytes: &mut [u8]);

    /// The reverse, appended.
    fn decode(bytes: &[u8], values: &mut Vec<Self>);

    /// This number in `f64`, exact.
    fn f64(self) -> f64;

    /// This number, or 0 where it is subnormal; NaN stays NaN.
    ///
    /// Arithmetic on subnormal numbers is 10 to 30 times slower, and a moment that decays towards zero would stay subnormal
    /// for thousands of steps: every decaying moment goes through this.
    fn flush(self) -> Self;

    /// 1, -1, or 0 for 0; NaN stays NaN.
    #[inline(always)]
    fn sign(self) -> Self {
        let down = if self < Self::ZERO { -Self::one() } else { self };
        if self > Self::ZERO { Self::one() } else { down }
    }

    /// `self / by`, or 0 where `by` is 0: a coordinate that never saw a gradient stays where it is, also with `eps = 0`.
    #[inline(always)]
    fn over(self, by: Self) -> Self {
        if by == Self::ZERO { Self::ZERO } else { self / by }
    }
}

macro_rules! element {
    ($($float:ident $type:ident $exponent:literal $cost:literal),*) => {$(
        impl Element for $float {
            const COST: u64 = $cost;
            const ZERO: $float = 0.0;
            const TYPE: ElementType = ElementType::$type;
            #[inline(always)]
            fn of(x: f64) -> $float {
                x as $float
            }
            #[inline(always)]
            fn flush(self) -> $float {
                // One test of the exponent bits, where a comparison would need the absolute value first.
                if self.to_bits() & $exponent == 0 { 0.0 } else { self }
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            fn erase(array: CowArray<'_, $float, IxDyn>) -> Data<'_> {
                Data::$type(array)
            }
            fn recover<'d, 'a>(data: &'d Data<'a>) -> Option<&'d CowArray<'a, $float, IxDyn>> {
                match data {
                    Data::$type(array) => Some(array),
                    _ => None,
                }
            }
            fn recover_owned(data: Data<'_>) -> Option<CowArray<'_, $float, IxDyn>> {
                match data {
                    Data::$type(array) => Some(array),
                    _ => None,
                }
            }
            fn encode(values: &[$float], bytes: &mut [u8]) {
                let (chunks, _) = bytes.as_chunks_mut();
                chunks.iter_mut().zip(values).for_each(|(chunk, value)| *chunk = value.to_le_bytes());
            }
            fn decode(bytes: &[u8], values: &mut Vec<$float>) {
                let (chunks, _) = bytes.as_chunks();
                values.extend(chunks.iter().map(|chunk| $float::from_le_bytes(*chunk)));
            }
        }
    )*};
}
element!(f32 F32 0x7f80_0000 1, f64 F64 0x7ff0_0000_0000_0000 3);
