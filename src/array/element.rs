//! The number types that can be optimized, and arrays of either.
use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use num_traits::Float;
use std::{fmt, mem, ops::AddAssign};

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

    /// Gives `input` to one of two functions, by this type. What they call is compiled where they are written, not where `Self`
    /// becomes known: so the kernels of the catalogue and the optimizer are compiled once, in this crate.
    fn dispatch<I: Family, O: Family>(
        input: I::Of<Self>,
        of_f32: impl FnOnce(I::Of<f32>) -> O::Of<f32>,
        of_f64: impl FnOnce(I::Of<f64>) -> O::Of<f64>,
    ) -> O::Of<Self>;

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

/// Types with an element type, for [`Element::dispatch`].
pub trait Family {
    /// The member for this element type.
    type Of<A: Element>;
}

/// Calls a function for any element type whose code is in this crate: its arguments with their types, in which `A` is the element
/// type, and the lifetimes in these.
macro_rules! compiled_here {
    ($A:ident, <$($lifetime:lifetime $(: $bound:lifetime)?),*>, ($($arg:ident: $type:ty),*) -> $out:ty $body:block) => {{
        #[allow(unused_imports)]
        use crate::array::{Element, Family};
        struct Arguments<$($lifetime),*>(std::marker::PhantomData<($(&$lifetime (),)*)>);
        impl<$($lifetime $(: $bound)?),*> Family for Arguments<$($lifetime),*> {
            type Of<$A: Element> = ($($type,)*);
        }
        struct Out<$($lifetime),*>(std::marker::PhantomData<($(&$lifetime (),)*)>);
        impl<$($lifetime $(: $bound)?),*> Family for Out<$($lifetime),*> {
            type Of<$A: Element> = $out;
        }
        #[inline(never)]
        fn of_f32<$($lifetime $(: $bound)?),*>(
            ($($arg,)*): <Arguments<$($lifetime),*> as Family>::Of<f32>,
        ) -> <Out<$($lifetime),*> as Family>::Of<f32> $body
        #[inline(never)]
        fn of_f64<$($lifetime $(: $bound)?),*>(
            ($($arg,)*): <Arguments<$($lifetime),*> as Family>::Of<f64>,
        ) -> <Out<$($lifetime),*> as Family>::Of<f64> $body
        <$A as Element>::dispatch::<Arguments, Out>(($($arg,)*), of_f32, of_f64)
    }};
}
pub(crate) use compiled_here;

macro_rules! element {
    ($($float:ident $type:ident ($f32:pat, $f64:pat) $chosen:ident $exponent:literal $cost:literal),*) => {$(
        impl Element for $float {
            const COST: u64 = $cost;
            const ZERO: $float = 0.0;
            const TYPE: ElementType = ElementType::$type;
            #[inline(always)]
            fn of(x: f64) -> $float {
                x as $float
            }
            #[inline(always)]
            fn dispatch<I: Family, O: Family>(
                input: I::Of<Self>,
                $f32: impl FnOnce(I::Of<f32>) -> O::Of<f32>,
                $f64: impl FnOnce(I::Of<f64>) -> O::Of<f64>,
            ) -> O::Of<Self> {
                $chosen(input)
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
element!(f32 F32 (chosen, _) chosen 0x7f80_0000 1, f64 F64 (_, chosen) chosen 0x7ff0_0000_0000_0000 3);

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum ElementType {
    /// `f32`.
    F32,
    /// `f64`.
    F64,
}

impl ElementType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            ElementType::F32 => 4,
            ElementType::F64 => 8,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElementType::F32 => "f32",
            ElementType::F64 => "f64",
        })
    }
}

/// An array of either element type, owned or borrowed, in any memory order.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::state::{Data, ElementType};
///
/// let data = Data::from(array![1.0_f32, 2.0].into_dyn());
/// assert_eq!((data.element(), data.shape()), (ElementType::F32, &[2][..]));
/// assert_eq!(data.view::<f32>(), Some(array![1.0, 2.0].view().into_dyn()));
/// assert_eq!(data.view::<f64>(), None);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Data<'a> {
    /// Of `f32`.
    F32(CowArray<'a, f32, IxDyn>),
    /// Of `f64`.
    F64(CowArray<'a, f64, IxDyn>),
}

/// Does the same with the array of either type.
macro_rules! either {
    ($data:expr, $array:ident => $do:expr) => {
        match $data {
            $crate::array::Data::F32($array) => $do,
            $crate::array::Data::F64($array) => $do,
        }
    };
}
pub(crate) use either;

impl<'a> Data<'a> {
    /// The element type.
    pub fn element(&self) -> ElementType {
        match self {
            Data::F32(_) => ElementType::F32,
            Data::F64(_) => ElementType::F64,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        either!(self, array => array.shape())
    }

    /// How many bytes its elements are.
    pub fn bytes(&self) -> usize {
        either!(self, array => array.len()) * self.element().size()
    }

    /// The array, if it is one of `A`.
    pub fn view<A: Element>(&self) -> Option<ArrayViewD<'_, A>> {
        A::recover(self).map(|array| array.view())
    }

    /// The array itself, if it is one of `A`.
    pub fn into_array<A: Element>(self) -> Option<CowArray<'a, A, IxDyn>> {
        A::recover_owned(self)
    }

    /// The same, borrowed.
    pub fn borrow(&self) -> Data<'_> {
        either!(self, array => array.view().into())
    }

    /// A copy.
    pub fn to_owned(&self) -> Data<'static> {
        either!(self, array => array.to_owned().into())
    }

    /// Leaves an empty array behind.
    pub(crate) fn take(&mut self) -> Data<'a> {
        mem::replace(self, ArrayD::<f32>::zeros(IxDyn(&[0])).into())
    }
}

impl<A: Element> From<ArrayD<A>> for Data<'_> {
    fn from(array: ArrayD<A>) -> Self {
        A::erase(array.into())
    }
}

impl<'a, A: Element> From<ArrayViewD<'a, A>> for Data<'a> {
    fn from(array: ArrayViewD<'a, A>) -> Self {
        A::erase(array.into())
    }
}
