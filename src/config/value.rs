//! The contents of a configuration file before its type is known.
//!
//! It is the same type for every format, so that the conversion to one of fifty algorithms is
//! compiled in this crate, not in each program that reads a file.
use super::number::{DIGITS, Number};
use crate::nesting::{MAX_NESTING, TOO_DEEP};
use serde::{
    Deserializer,
    de::{
        DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::fmt;

/// A value of a self-describing format. Maps keep the order of their keys, and duplicate keys.
pub(crate) enum ConfigValue {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Number(f64),
    Text(String),
    List(Vec<ConfigValue>),
    Map(Vec<(String, ConfigValue)>),
}

/// Reads a value in which lists and maps are nested so many levels deep at most.
#[derive(Clone, Copy)]
pub(super) struct AnyValue {
    /// What it is, for messages.
    what: &'static str,
    left: usize,
}

impl AnyValue {
    /// A value that can hold compositions of as many levels as there may be: each is a map in a
    /// list, and the innermost may hold lists of pairs or of maps.
    pub fn new(what: &'static str) -> Self {
        let left = 2 * MAX_NESTING + 4;
        AnyValue { what, left }
    }

    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| E::custom(format_args!("{} {TOO_DEEP}", self.what)))?;
        Ok(AnyValue { left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = ConfigValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ConfigValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = ConfigValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
    fn visit_unit<E>(self) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Null)
    }
    fn visit_none<E>(self) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<ConfigValue, D::Error> {
        self.inner()?.deserialize(deserializer)
    }
    fn visit_bool<E>(self, x: bool) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Bool(x))
    }
    fn visit_i64<E>(self, x: i64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Signed(x))
    }
    fn visit_u64<E>(self, x: u64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Unsigned(x))
    }
    fn visit_f64<E>(self, x: f64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Number(x))
    }
    fn visit_str<E>(self, text: &str) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Text(text.into()))
    }
    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<ConfigValue, S::Error> {
        let (inner, mut all) = (self.inner()?, Vec::new());
        while let Some(next) = list.next_element_seed(inner)? {
            all.push(next);
        }
        Ok(ConfigValue::List(all))
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<ConfigValue, M::Error> {
        let (inner, mut all) = (self.inner()?, Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            if key == DIGITS {
                return of_digits(&map.next_value::<String>()?);
            }
            all.push((key, map.next_value_seed(inner)?));
        }
        Ok(ConfigValue::Map(all))
    }
}

/// A number that serde_json has not interpreted.
fn of_digits<E: serde::de::Error>(digits: &str) -> Result<ConfigValue, E> {
    if let Ok(x) = digits.parse() {
        return Ok(ConfigValue::Unsigned(x));
    }
    // As serde_json without that feature does, which keeps the sign of `-0`.
    match digits.parse() {
        Ok(x) if x != 0 => return Ok(ConfigValue::Signed(x)),
        _ => {}
    }
    Number::of_digits(digits)
        .map(ConfigValue::Number)
        .ok_or_else(|| E::custom(format_args!("number `{digits}` out of range")))
}

impl IntoDeserializer<'_> for ConfigValue {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for ConfigValue {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            ConfigValue::Null => visitor.visit_unit(),
            ConfigValue::Bool(x) => visitor.visit_bool(x),
            ConfigValue::Signed(x) => visitor.visit_i64(x),
            ConfigValue::Unsigned(x) => visitor.visit_u64(x),
            ConfigValue::Number(x) => visitor.visit_f64(x),
            ConfigValue::Text(text) => visitor.visit_string(text),
            ConfigValue::List(list) => {
                SeqDeserializer::new(list.into_iter()).deserialize_any(visitor)
            }
            ConfigValue::Map(map) => MapDeserializer::new(map.into_iter()).deserialize_any(visitor),
        }
    }

    // The `name` is looked for in a map, so that serde asks for nothing but any value.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct option seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}
