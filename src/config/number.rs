//! Numbers. JSON has neither infinities nor NaN: human-readable formats get them as text.
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error, IntoDeserializer, MapAccess, Unexpected, Visitor},
    ser::SerializeTuple,
};
use std::{fmt, marker::PhantomData};

/// What serde_json calls a number that it does not interpret, if a program turns on its feature
/// `arbitrary_precision`: a map with this key and the digits of the number as text.
pub(super) const DIGITS: &str = "$serde_json::private::Number";

/// What stands for an option without a value where a format has no word for it.
const NONE: &str = "none";

/// A number. In human-readable formats NaN and the infinities are the texts `NaN`, `inf` and
/// `-inf`, and a NaN with unusual bits is written with its bits.
#[derive(Clone, Copy)]
pub(crate) struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            x if x.is_finite() || !serializer.is_human_readable() => serializer.serialize_f64(x),
            x if x == f64::INFINITY => serializer.serialize_str("inf"),
            x if x == f64::NEG_INFINITY => serializer.serialize_str("-inf"),
            x if x.to_bits() == f64::NAN.to_bits() => serializer.serialize_str("NaN"),
            x => serializer.collect_str(&format_args!("NaN {:#x}", x.to_bits())),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return f64::deserialize(deserializer).map(Number);
        }
        deserializer.deserialize_any(ReadNumber)
    }
}

impl Number {
    /// Reads a text: `inf`, `NaN 0x7ff8dead00000001`, or the digits of a finite number.
    fn of_text(text: &str) -> Option<f64> {
        match text {
            "NaN" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            _ => match text.strip_prefix("NaN 0x") {
                Some(bits) => {
                    let bits = u64::from_str_radix(bits, 16).ok()?;
                    Some(f64::from_bits(bits)).filter(|x| x.is_nan())
                }
                None => Self::of_digits(text),
            },
        }
    }

    /// Reads a finite number.
    pub fn of_digits(text: &str) -> Option<f64> {
        text.parse().ok().filter(|x: &f64| x.is_finite())
    }
}

struct ReadNumber;

impl<'de> Visitor<'de> for ReadNumber {
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
        Number::of_text(text)
            .map(Number)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Number, M::Error> {
        let digits = match map.next_key::<String>()?.as_deref() {
            Some(DIGITS) => map.next_value::<String>()?,
            _ => return Err(M::Error::invalid_type(Unexpected::Map, &self)),
        };
        Number::of_digits(&digits)
            .map(Number)
            .ok_or_else(|| M::Error::invalid_value(Unexpected::Str(&digits), &self))
    }
}

/// A number or none. Where None is written as nothing, the default takes its place on reading.
struct Maybe(Option<f64>);

impl<'de> Deserialize<'de> for Maybe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Maybe;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"inf\", \"-inf\" or \"none\"")
            }
            fn visit_none<E>(self) -> Result<Maybe, E> {
                Ok(Maybe(None))
            }
            fn visit_unit<E>(self) -> Result<Maybe, E> {
                Ok(Maybe(None))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Maybe, D::Error> {
                Number::deserialize(deserializer).map(|Number(x)| Maybe(Some(x)))
            }
            fn visit_f64<E>(self, x: f64) -> Result<Maybe, E> {
                Ok(Maybe(Some(x)))
            }
            fn visit_i64<E>(self, x: i64) -> Result<Maybe, E> {
                Ok(Maybe(Some(x as f64)))
            }
            fn visit_u64<E>(self, x: u64) -> Result<Maybe, E> {
                Ok(Maybe(Some(x as f64)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Maybe, E> {
                if text == NONE {
                    return Ok(Maybe(None));
                }
                ReadNumber.visit_str(text).map(|Number(x)| Maybe(Some(x)))
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Maybe, M::Error> {
                ReadNumber.visit_map(map).map(|Number(x)| Maybe(Some(x)))
            }
        }
        if !deserializer.is_human_readable() {
            return Option::deserialize(deserializer).map(Maybe);
        }
        deserializer.deserialize_any(Read)
    }
}

/// An option that is written as a text if it is none, where nothing would be read as something
/// else: in a list, or where the default is not none.
pub(crate) mod optional_bound {
    use super::*;

    pub fn serialize<S: Serializer>(x: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match x {
            None if serializer.is_human_readable() => serializer.serialize_str(NONE),
            x => x.write(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Maybe::deserialize(deserializer).map(|Maybe(x)| x)
    }
}

/// A field of hyper-parameters: `#[serde(with = "crate::config::field")]`.
pub(crate) mod field {
    use super::*;

    pub fn serialize<T: InFile, S: Serializer>(x: &T, serializer: S) -> Result<S::Ok, S::Error> {
        x.write(serializer)
    }

    pub fn deserialize<'de, T: InFile, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        T::read(deserializer)
    }
}

/// The type of a field of hyper-parameters.
pub(crate) trait InFile: Sized {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl InFile for f64 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Number(*self).serialize(serializer)
    }
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Number::deserialize(deserializer).map(|Number(x)| x)
    }
}

impl InFile for Option<f64> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.map(Number).serialize(serializer)
    }
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Maybe::deserialize(deserializer).map(|Maybe(x)| x)
    }
}

impl InFile for Vec<f64> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|&x| Number(x)))
    }
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<Number>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|Number(x)| x).collect())
    }
}

impl InFile for Vec<(u64, f64)> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|&(at, x)| (at, Number(x))))
    }
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<(u64, Number)>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|(at, Number(x))| (at, x)).collect())
    }
}

impl InFile for (f64, f64) {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Number(self.0), Number(self.1)).serialize(serializer)
    }
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Number(x), Number(y)) = Deserialize::deserialize(deserializer)?;
        Ok((x, y))
    }
}

impl InFile for (f64, f64, f64) {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Number(self.0), Number(self.1), Number(self.2)).serialize(serializer)
    }
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Number(x), Number(y), Number(z)) = Deserialize::deserialize(deserializer)?;
        Ok((x, y, z))
    }
}

impl InFile for (Option<f64>, f64) {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(transparent)]
        struct Bound(#[serde(with = "optional_bound")] Option<f64>);
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&Bound(self.0))?;
        tuple.serialize_element(&Number(self.1))?;
        tuple.end()
    }
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Maybe(x), Number(y)) = Deserialize::deserialize(deserializer)?;
        Ok((x, y))
    }
}

/// Types that serde writes in the same way in every format.
macro_rules! as_serde_does {
    ($($type:ty),*) => {$(
        impl InFile for $type {
            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }
            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }
        }
    )*};
}
as_serde_does! {
    bool, u32, u64, usize, Option<u64>, Option<usize>, Vec<u64>,
    Vec<crate::schedule::AnySchedule>, Vec<crate::schedule::WarmupCosine>
}

/// Enums without data: their names, as text. RON has names that are no text, but does not tell
/// them where the type is not known yet.
macro_rules! names {
    ($($type:ty),*) => {$(
        impl InFile for $type {
            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                write_name(self, serializer)
            }
            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_name(deserializer)
            }
        }
    )*};
}
names! {
    crate::kernel::reduce::Norm, crate::optim::AdjustLr, crate::schedule::Interpolation,
    crate::schedule::CyclicMode, crate::schedule::DecayShape, crate::schedule::PlateauMode,
    crate::schedule::ThresholdMode, crate::wrap::EmaWarmup
}

fn write_name<T: Serialize, S: Serializer>(x: &T, serializer: S) -> Result<S::Ok, S::Error> {
    if !serializer.is_human_readable() {
        return x.serialize(serializer);
    }
    serde_json::to_value(x)
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}

fn read_name<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Read<T>(PhantomData<T>);
    impl<T: DeserializeOwned> Visitor<'_> for Read<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name")
        }
        fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
            T::deserialize(name.into_deserializer())
        }
    }
    if !deserializer.is_human_readable() {
        return T::deserialize(deserializer);
    }
    deserializer.deserialize_any(Read(PhantomData))
}

/// A scalar of a state. Formats that are not human-readable get its bits.
pub(crate) mod bits {
    use super::*;

    pub fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Number(*x).serialize(serializer)
        } else {
            x.to_bits().serialize(serializer)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        if deserializer.is_human_readable() {
            Number::deserialize(deserializer).map(|Number(x)| x)
        } else {
            u64::deserialize(deserializer).map(f64::from_bits)
        }
    }
}

/// A scalar of a state that can be missing, as [`bits`].
pub(crate) mod maybe_bits {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Exact(#[serde(with = "bits")] f64);

    pub fn serialize<S: Serializer>(x: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        x.map(Exact).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        let x: Option<Exact> = Deserialize::deserialize(deserializer)?;
        Ok(x.map(|Exact(x)| x))
    }
}

/// The scalars of a state, as a list of [`bits`].
pub(crate) mod bits_list {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct Exact(#[serde(with = "bits")] f64);

    pub fn serialize<const N: usize, S: Serializer>(
        list: &[f64; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error>
    where
        [Exact; N]: Serialize,
    {
        list.map(Exact).serialize(serializer)
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[f64; N], D::Error>
    where
        [Exact; N]: Deserialize<'de>,
    {
        let list: [Exact; N] = Deserialize::deserialize(deserializer)?;
        Ok(list.map(|Exact(x)| x))
    }
}
