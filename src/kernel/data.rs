//! Arrays whose element type is known at run time only.
use super::Element;
use ndarray::{ArrayD, ArrayViewD};
use std::fmt;

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

/// An array of either element type.
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
pub enum Data {
    /// Of `f32`.
    F32(ArrayD<f32>),
    /// Of `f64`.
    F64(ArrayD<f64>),
}

/// Does the same with the array of either type.
macro_rules! either {
    ($data:expr, $array:ident => $do:expr) => {
        match $data {
            $crate::kernel::Data::F32($array) => $do,
            $crate::kernel::Data::F64($array) => $do,
        }
    };
}
pub(crate) use either;

impl Data {
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

    /// The array, if it is one of `A`.
    pub fn view<A: Element>(&self) -> Option<ArrayViewD<'_, A>> {
        A::recover(self).map(|array| array.view())
    }
}

impl<A: Element> From<ArrayD<A>> for Data {
    fn from(array: ArrayD<A>) -> Self {
        A::erase(array)
    }
}
