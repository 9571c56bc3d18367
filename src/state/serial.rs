//! Serialization of states with serde.
//!
//! Human-readable formats get numbers: an `f32` as the `f64` of the same value, so that any reader
//! gets it exactly, and values that JSON lacks as `"NaN"`, `"inf"` and `"-inf"`. Other formats get
//! the little-endian bytes of the elements.
use super::{AnyAlgorithm, Data, ElementType, Scalars};
use crate::array::{Element, either, try_row_major};
use ndarray::{ArrayD, IxDyn};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};
use std::{convert::Infallible, fmt};

/// A number in a human-readable format.
#[derive(Clone, Copy)]
pub(super) struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            x if x.is_finite() => serializer.serialize_f64(x),
            x if x.is_nan() => serializer.serialize_str("NaN"),
            x => serializer.serialize_str(if x > 0.0 { "inf" } else { "-inf" }),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"inf\" or \"-inf\"")
            }
            fn visit_f64<E>(self, x: f64) -> Result<Number, E> {
                Ok(Number(x))
            }
            fn visit_i64<E>(self, x: i64) -> Result<Number, E> {
                Ok(Number(x as f64))
            }
            fn visit_u64<E>(self, x: u64) -> Result<Number, E> {
                Ok(Number(x as f64))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                match text {
                    "NaN" => Ok(Number(f64::NAN)),
                    "inf" => Ok(Number(f64::INFINITY)),
                    "-inf" => Ok(Number(f64::NEG_INFINITY)),
                    _ => of_bits(text)
                        .map(Number)
                        .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Parses `NaN 0x7ff8dead00000001`.
fn of_bits(text: &str) -> Option<f64> {
    let bits = u64::from_str_radix(text.strip_prefix("NaN 0x")?, 16).ok()?;
    Some(f64::from_bits(bits)).filter(|x| x.is_nan())
}

/// A scalar. The JSON headers of binary formats contain scalars too, so a NaN with unusual bits is
/// written with its bits.
pub(super) mod number {
    use super::*;

    pub fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        let bits = x.to_bits();
        if !serializer.is_human_readable() {
            bits.serialize(serializer)
        } else if x.is_nan() && bits != f64::NAN.to_bits() {
            format!("NaN {bits:#x}").serialize(serializer)
        } else {
            Number(*x).serialize(serializer)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        if deserializer.is_human_readable() {
            Number::deserialize(deserializer).map(|number| number.0)
        } else {
            u64::deserialize(deserializer).map(f64::from_bits)
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Exact(#[serde(with = "number")] f64);

fn from_exact(scalars: [Exact; 4]) -> Scalars {
    Scalars(scalars.map(|Exact(x)| x))
}

/// The scalars of a parameter, as a list of numbers.
pub(super) mod scalars {
    use super::*;

    pub fn serialize<S: Serializer>(scalars: &Scalars, serializer: S) -> Result<S::Ok, S::Error> {
        scalars.0.map(Exact).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scalars, D::Error> {
        let scalars = Deserialize::deserialize(deserializer)?;
        Ok(from_exact(scalars))
    }
}

/// The scalars of a group, if it has any.
pub(super) mod maybe_scalars {
    use super::*;

    pub fn serialize<S: Serializer>(
        scalars: &Option<Scalars>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        scalars
            .map(|scalars| scalars.0.map(Exact))
            .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Scalars>, D::Error> {
        let scalars: Option<_> = Deserialize::deserialize(deserializer)?;
        Ok(scalars.map(from_exact))
    }
}

/// Hyper-parameters: as a map in human-readable formats, otherwise as its JSON text, because few
/// compact formats support the internally tagged representation.
pub(super) mod config {
    use super::*;
    use serde_json::Value;

    /// The maximum nesting of wrappers. Deeper nesting has no use and could overflow the stack.
    const DEPTH: usize = 16;

    fn shallow(value: &Value, depth: usize) -> bool {
        match value {
            Value::Array(list) => depth > 0 && list.iter().all(|value| shallow(value, depth - 1)),
            Value::Object(map) => depth > 0 && map.values().all(|value| shallow(value, depth - 1)),
            _ => true,
        }
    }

    fn read<E: Error>(value: Value) -> Result<Option<AnyAlgorithm>, E> {
        if !shallow(&value, DEPTH) {
            return Err(E::custom(
                "the hyper-parameters are nested more than 16 levels deep",
            ));
        }
        serde_json::from_value(value).map_err(E::custom)
    }

    pub fn serialize<S: Serializer>(
        config: &Option<AnyAlgorithm>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return config.serialize(serializer);
        }
        let text = config
            .as_ref()
            .map(serde_json::to_string)
            .transpose()
            .map_err(serde::ser::Error::custom)?;
        text.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<AnyAlgorithm>, D::Error> {
        if deserializer.is_human_readable() {
            return read(Value::deserialize(deserializer)?);
        }
        match Option::<String>::deserialize(deserializer)? {
            Some(text) => read(serde_json::from_str(&text).map_err(D::Error::custom)?),
            None => Ok(None),
        }
    }
}

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
                Data::F32(array) => array.iter().map(|&x| Number(f64::from(x))).collect(),
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
        shaped(&shape, values.iter().map(|x| x.0 as f32).collect()).ok_or_else(|| wrong(&shape))
    }
}
