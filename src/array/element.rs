//! The element types `f32` and `f64`, and arrays of either.
use super::functions;
use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use num_traits::Float;
use std::{fmt, mem, ops::AddAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// The element type of parameters, gradients and states: `f32` or `f64`. The trait is sealed.
///
/// The arithmetic is that of [`num_traits::Float`]; the methods here are those that update rules
/// need besides. Rules of this crate do not use `mul_add`: without hardware support it is a library
/// call, and it would change the bits of the results. They use no `exp`, `ln`, `powf` and the like
/// of [`num_traits::Float`] either, which are functions of the operating system whose last bits
/// differ.
pub trait Element:
    Float + AddAssign + Default + fmt::Debug + fmt::Display + Send + Sync + sealed::Sealed + 'static
{
    /// Time of an operation relative to `f32`, for the decision whether to use threads.
    #[doc(hidden)]
    const COST: u64;
    /// The constant 0.
    const ZERO: Self;
    /// The element type as a value.
    const TYPE: ElementType;

    /// Returns `x` rounded to this type. A finite number stays finite: beyond the range of the type
    /// it becomes the largest or smallest number, so that a factor such as the quotient of two
    /// norms never turns a gradient of 0 into NaN.
    fn from_f64(x: f64) -> Self;

    /// Calls one of two functions, by this type. Both are compiled where they are written, not
    /// where `Self` becomes known: the kernels of the catalogue and the optimizer are compiled
    /// once, in this crate.
    #[doc(hidden)]
    fn dispatch<I: TypeFamily, O: TypeFamily>(
        input: I::Of<Self>,
        of_f32: impl FnOnce(I::Of<f32>) -> O::Of<f32>,
        of_f64: impl FnOnce(I::Of<f64>) -> O::Of<f64>,
    ) -> O::Of<Self>;

    /// Returns an array of this type as [`Data`].
    #[doc(hidden)]
    fn into_data(array: CowArray<'_, Self, IxDyn>) -> Data<'_>;

    /// Returns the array if it has this element type.
    #[doc(hidden)]
    fn downcast_ref<'d, 'a>(data: &'d Data<'a>) -> Option<&'d CowArray<'a, Self, IxDyn>>;

    /// Returns the array if it has this element type.
    #[doc(hidden)]
    fn downcast(data: Data<'_>) -> Option<CowArray<'_, Self, IxDyn>>;

    /// Writes values as little-endian bytes, as many as fit in `bytes`.
    #[doc(hidden)]
    fn encode(values: &[Self], bytes: &mut [u8]);

    /// Appends the values of little-endian bytes.
    #[doc(hidden)]
    fn decode(bytes: &[u8], values: &mut Vec<Self>);

    /// Returns the number in `f64`; the conversion is exact.
    fn f64(self) -> f64;

    /// Returns e to the power of `self`, with the same bits on every machine and an error below one
    /// unit in the last place. Loops over it vectorize, and over the cube root and the power too.
    fn portable_exp(self) -> Self;

    /// Returns the cube root, with the same bits on every machine and an error below one unit in
    /// the last place.
    fn portable_cbrt(self) -> Self;

    /// Returns `self` to the power of `exponent`, with the same bits on every machine and an error
    /// below one unit in the last place: the power of IEEE 754 for numbers from 0 on, NaN for
    /// negative ones and NaN, and always 1 for the exponent 0.
    fn portable_powf(self, exponent: Self) -> Self;

    /// Returns the sign: 1, -1, or 0 for 0; NaN stays NaN.
    #[inline(always)]
    fn sign(self) -> Self {
        let down = if self < Self::ZERO {
            -Self::one()
        } else {
            self
        };
        if self > Self::ZERO { Self::one() } else { down }
    }

    /// The square root of the smallest positive number.
    #[doc(hidden)]
    const SMALLEST_ROOT: Self;

    /// Returns `self / by`, where a denominator below the root of the smallest positive number
    /// counts as that root: an element that has never had a gradient does not change, even with
    /// `eps = 0`, and where the average of squares underflows the step is shorter than without
    /// rounding.
    #[inline(always)]
    fn over(self, by: Self) -> Self {
        self.over_at_least(by, Self::SMALLEST_ROOT)
    }

    /// Returns `self / by`, where a denominator below `least` counts as `least`.
    #[doc(hidden)]
    #[inline(always)]
    fn over_at_least(self, by: Self, least: Self) -> Self {
        // In this order NaN propagates, and the maximum is one instruction.
        self / (if least > by { least } else { by })
    }
}

/// A type constructor over the element type, for [`Element::dispatch`].
pub trait TypeFamily {
    /// The type for this element type.
    type Of<A: Element>;
}

/// Evaluates a block for a generic element type `A` by functions that are compiled for `f32` and
/// `f64` in this crate, not in its users. Takes the element type, the lifetimes of the arguments,
/// the arguments with their types, the return type and the block.
macro_rules! monomorphize {
    (
        $A:ident,
        <$($lifetime:lifetime $(: $bound:lifetime)?),*>,
        ($($arg:ident: $type:ty),*) -> $out:ty $body:block
    ) => {{
        #[allow(unused_imports)]
        use crate::array::{Element, TypeFamily};
        struct Arguments<$($lifetime),*>(std::marker::PhantomData<($(&$lifetime (),)*)>);
        impl<$($lifetime $(: $bound)?),*> TypeFamily for Arguments<$($lifetime),*> {
            type Of<$A: Element> = ($($type,)*);
        }
        struct Out<$($lifetime),*>(std::marker::PhantomData<($(&$lifetime (),)*)>);
        impl<$($lifetime $(: $bound)?),*> TypeFamily for Out<$($lifetime),*> {
            type Of<$A: Element> = $out;
        }
        #[inline(never)]
        fn of_f32<$($lifetime $(: $bound)?),*>(
            ($($arg,)*): <Arguments<$($lifetime),*> as TypeFamily>::Of<f32>,
        ) -> <Out<$($lifetime),*> as TypeFamily>::Of<f32> $body
        #[inline(never)]
        fn of_f64<$($lifetime $(: $bound)?),*>(
            ($($arg,)*): <Arguments<$($lifetime),*> as TypeFamily>::Of<f64>,
        ) -> <Out<$($lifetime),*> as TypeFamily>::Of<f64> $body
        <$A as Element>::dispatch::<Arguments, Out>(($($arg,)*), of_f32, of_f64)
    }};
}
pub(crate) use monomorphize;

macro_rules! element {
    ($(
        $float:ident $type:ident ($f32:pat, $f64:pat) $chosen:ident $root:literal $cost:literal
        $functions:ident;
    )*) => {$(
        impl Element for $float {
            const COST: u64 = $cost;
            const ZERO: $float = 0.0;
            const TYPE: ElementType = ElementType::$type;
            const SMALLEST_ROOT: $float = $root;
            #[inline(always)]
            fn from_f64(x: f64) -> $float {
                let rounded = x as $float;
                // A branch that is hardly ever taken costs less than a maximum and a minimum.
                if rounded.is_infinite() && x.is_finite() {
                    $float::MAX.copysign(rounded)
                } else {
                    rounded
                }
            }
            #[inline(always)]
            fn dispatch<I: TypeFamily, O: TypeFamily>(
                input: I::Of<Self>,
                $f32: impl FnOnce(I::Of<f32>) -> O::Of<f32>,
                $f64: impl FnOnce(I::Of<f64>) -> O::Of<f64>,
            ) -> O::Of<Self> {
                $chosen(input)
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn portable_exp(self) -> $float {
                functions::$functions::exp(self)
            }
            #[inline(always)]
            fn portable_cbrt(self) -> $float {
                functions::$functions::cbrt(self)
            }
            #[inline(always)]
            fn portable_powf(self, exponent: $float) -> $float {
                functions::$functions::powf(self, exponent)
            }
            fn into_data(array: CowArray<'_, $float, IxDyn>) -> Data<'_> {
                Data::$type(array)
            }
            fn downcast_ref<'d, 'a>(data: &'d Data<'a>) -> Option<&'d CowArray<'a, $float, IxDyn>> {
                match data {
                    Data::$type(array) => Some(array),
                    _ => None,
                }
            }
            fn downcast(data: Data<'_>) -> Option<CowArray<'_, $float, IxDyn>> {
                match data {
                    Data::$type(array) => Some(array),
                    _ => None,
                }
            }
            fn encode(values: &[$float], bytes: &mut [u8]) {
                let (chunks, _) = bytes.as_chunks_mut();
                for (chunk, value) in chunks.iter_mut().zip(values) {
                    *chunk = value.to_le_bytes();
                }
            }
            fn decode(bytes: &[u8], values: &mut Vec<$float>) {
                let (chunks, _) = bytes.as_chunks();
                values.extend(chunks.iter().map(|chunk| $float::from_le_bytes(*chunk)));
            }
        }
    )*};
}
element! {
    f32 F32 (chosen, _) chosen 3.743_392e-23 1 single;
    f64 F64 (_, chosen) chosen 2.222_758_749_485_077_5e-162 3 double;
}

/// An element type as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum ElementType {
    /// `f32`.
    F32,
    /// `f64`.
    F64,
}

impl ElementType {
    /// Returns the size of an element in bytes.
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

/// An array of either element type, owned or borrowed, in any memory layout.
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
#[non_exhaustive]
pub enum Data<'a> {
    /// An array of `f32`.
    F32(CowArray<'a, f32, IxDyn>),
    /// An array of `f64`.
    F64(CowArray<'a, f64, IxDyn>),
}

/// Evaluates an expression for an array of either element type.
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
    /// Returns the element type.
    pub fn element(&self) -> ElementType {
        match self {
            Data::F32(_) => ElementType::F32,
            Data::F64(_) => ElementType::F64,
        }
    }

    /// Returns the shape.
    pub fn shape(&self) -> &[usize] {
        either!(self, array => array.shape())
    }

    /// Returns the size of all elements in bytes.
    pub fn bytes(&self) -> usize {
        either!(self, array => array.len()) * self.element().size()
    }

    /// Returns a view of the array, or `None` if its element type is not `A`.
    pub fn view<A: Element>(&self) -> Option<ArrayViewD<'_, A>> {
        A::downcast_ref(self).map(|array| array.view())
    }

    /// Returns the array, or `None` if its element type is not `A`.
    pub fn into_array<A: Element>(self) -> Option<CowArray<'a, A, IxDyn>> {
        A::downcast(self)
    }

    /// Returns a borrowed view of the same array.
    pub fn borrow(&self) -> Data<'_> {
        either!(self, array => array.view().into())
    }

    /// Returns an owned copy.
    pub fn to_owned(&self) -> Data<'static> {
        either!(self, array => array.to_owned().into())
    }

    /// Takes the array and leaves an empty one in its place.
    pub(crate) fn take(&mut self) -> Data<'a> {
        mem::replace(self, ArrayD::<f32>::zeros(IxDyn(&[0])).into())
    }
}

impl<A: Element> From<ArrayD<A>> for Data<'_> {
    fn from(array: ArrayD<A>) -> Self {
        A::into_data(array.into())
    }
}

impl<'a, A: Element> From<ArrayViewD<'a, A>> for Data<'a> {
    fn from(array: ArrayViewD<'a, A>) -> Self {
        A::into_data(array.into())
    }
}
