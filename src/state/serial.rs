//! Serialization of arrays with serde.
//!
//! Human-readable formats get numbers: an `f32` as the `f64` of the same value, so that any reader
//! gets it exactly. Other formats get the little-endian bytes of the elements.
use super::{Data, ElementType};
use crate::{
    array::{Element, either, try_row_major},
    config::Number,
};
use ndarray::{ArrayD, IxDyn};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};
use std::{convert::Infallible, fmt};

/// Returns the size of an array in bytes, unless it exceeds the address space.
pub(super) fn bytes_of(element: ElementType, shape: &[usize]) -> Option<usize> {
    let mut lengths = shape.iter().filter(|&&n| n > 0);
    let most = lengths
        .try_fold(element.size(), |size, &n| size.checked_mul(n))
        .filter(|&n| n < isize::MAX as usize)?;
    Some(if shape.contains(&0) { 0 } else { most })
}

/// Appends the little-endian bytes of the elements in row-major order.
pub(super) fn le_bytes(data: &Data<'_>, bytes: &mut Vec<u8>) {
    fn append<A: Element>(values: &[A], bytes: &mut Vec<u8>) -> Result<(), Infallible> {
        let old = bytes.len();
        bytes.resize(old + size_of_val(values), 0);
        A::encode(values, &mut bytes[old..]);
        Ok(())
    }
    let Ok(()) =
        either!(data, array => try_row_major(array.view(), &mut |values| append(values, bytes)));
}

fn shaped<A: Element>(shape: &[usize], values: Vec<A>) -> Option<Data<'static>> {
    ArrayD::from_shape_vec(IxDyn(shape), values)
        .ok()
        .map(Data::from)
}

/// Decodes an array; `None` if the number of bytes does not match the shape.
pub(super) fn from_le_bytes(
    element: ElementType,
    shape: &[usize],
    bytes: &[u8],
) -> Option<Data<'static>> {
    fn decoded<A: Element>(shape: &[usize], bytes: &[u8]) -> Option<Data<'static>> {
        let mut values = Vec::with_capacity(bytes.len() / size_of::<A>());
        A::decode(bytes, &mut values);
        shaped(shape, values)
    }
    if bytes_of(element, shape) != Some(bytes.len()) {
        return None;
    }
    match element {
        ElementType::F32 => decoded::<f32>(shape, bytes),
        ElementType::F64 => decoded::<f64>(shape, bytes),
    }
}

/// A byte string, which is more compact than a list of numbers.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Bytes, S::Error> {
                // The announced length is not trusted: nothing is reserved for it.
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Read)
    }
}

/// The bits of a fraction that an `f64` has beyond those of an `f32`.
const MORE_BITS: u32 = f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS;

/// Converts to `f64`; a NaN keeps its sign and fraction, which the conversion of the processor can
/// change.
fn widen(x: f32) -> f64 {
    if !x.is_nan() {
        return f64::from(x);
    }
    let fraction = u64::from(x.to_bits() & 0x007f_ffff) << MORE_BITS;
    let sign = u64::from(x.is_sign_negative()) << 63;
    f64::from_bits(sign | f64::INFINITY.to_bits() | fraction)
}

/// Converts what [`widen`] returns back.
fn narrow(x: f64) -> f32 {
    if !x.is_nan() {
        return x as f32;
    }
    let fraction = (x.to_bits() >> MORE_BITS) as u32 & 0x007f_ffff;
    let sign = u32::from(x.is_sign_negative()) << 31;
    // Without a fraction it would be an infinity.
    let nan = f32::from_bits(sign | f32::INFINITY.to_bits() | fraction);
    if nan.is_nan() { nan } else { f32::NAN }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Readable {
    element: ElementType,
    shape: Vec<usize>,
    values: Vec<Number>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compact {
    element: ElementType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (element, shape) = (self.element(), self.shape().to_vec());
        if serializer.is_human_readable() {
            let values = match self {
                Data::F32(array) => array.iter().map(|&x| Number(widen(x))).collect(),
                Data::F64(array) => array.iter().map(|&x| Number(x)).collect(),
            };
            return Readable {
                element,
                shape,
                values,
            }
            .serialize(serializer);
        }
        let mut bytes = Vec::with_capacity(self.bytes());
        le_bytes(self, &mut bytes);
        Compact {
            element,
            shape,
            bytes: Bytes(bytes),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Data<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |shape: &[usize]| {
            D::Error::custom(format!(
                "the number of values does not match the shape {shape:?}"
            ))
        };
        if !deserializer.is_human_readable() {
            let Compact {
                element,
                shape,
                bytes,
            } = Compact::deserialize(deserializer)?;
            return from_le_bytes(element, &shape, &bytes.0).ok_or_else(|| wrong(&shape));
        }
        let Readable {
            element,
            shape,
            values,
        } = Readable::deserialize(deserializer)?;
        if bytes_of(element, &shape) != values.len().checked_mul(element.size()) {
            return Err(wrong(&shape));
        }
        if element == ElementType::F64 {
            return shaped(&shape, values.iter().map(|x| x.0).collect())
                .ok_or_else(|| wrong(&shape));
        }
        if let Some(Number(x)) = values
            .iter()
            .find(|x| x.0.is_finite() && !(x.0 as f32).is_finite())
        {
            return Err(D::Error::custom(format!("{x:?} is out of range for f32")));
        }
        shaped(&shape, values.iter().map(|x| narrow(x.0)).collect()).ok_or_else(|| wrong(&shape))
    }
}
