//! The contents of a configuration file before its algorithm is known.
//!
//! It is the same type for every format, so that the conversion to one of fifty algorithms is
//! compiled in this crate, not in each program that reads a file.
use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::fmt;

/// A value of a self-describing format. Maps keep the order of their keys, and duplicate keys.
pub(super) enum ConfigValue {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Number(f64),
    Text(String),
    List(Vec<ConfigValue>),
    Map(Vec<(String, ConfigValue)>),
}

impl<'de> Deserialize<'de> for ConfigValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = ConfigValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an algorithm")
    }
    fn visit_unit<E>(self) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Null)
    }
    fn visit_none<E>(self) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<ConfigValue, D::Error> {
        ConfigValue::deserialize(deserializer)
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
        let mut all = Vec::new();
        while let Some(next) = list.next_element()? {
            all.push(next);
        }
        Ok(ConfigValue::List(all))
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<ConfigValue, M::Error> {
        let mut all = Vec::new();
        while let Some(next) = map.next_entry()? {
            all.push(next);
        }
        Ok(ConfigValue::Map(all))
    }
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

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let ConfigValue::Null = self {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            // No hyper-parameter has variants with data.
            ConfigValue::Text(variant) => {
                visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(variant))
            }
            _ => Err(Error::custom("expected a name")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
