//! What a file says about an algorithm, before it is known which one.
//!
//! It is the same type for every format, so that what turns it into one of fifty algorithms is compiled in this crate, not in
//! each program that reads a file.
use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::fmt;

/// A value of a self-describing format; maps keep the order of their keys, and keys that come twice.
pub(super) enum Written {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Number(f64),
    Text(String),
    List(Vec<Written>),
    Map(Vec<(String, Written)>),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an algorithm")
    }
    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written::Null)
    }
    fn visit_none<E>(self) -> Result<Written, E> {
        Ok(Written::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Written, D::Error> {
        Written::deserialize(deserializer)
    }
    fn visit_bool<E>(self, x: bool) -> Result<Written, E> {
        Ok(Written::Bool(x))
    }
    fn visit_i64<E>(self, x: i64) -> Result<Written, E> {
        Ok(Written::Signed(x))
    }
    fn visit_u64<E>(self, x: u64) -> Result<Written, E> {
        Ok(Written::Unsigned(x))
    }
    fn visit_f64<E>(self, x: f64) -> Result<Written, E> {
        Ok(Written::Number(x))
    }
    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written::Text(text.into()))
    }
    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Written, S::Error> {
        let mut all = Vec::new();
        while let Some(next) = list.next_element()? {
            all.push(next);
        }
        Ok(Written::List(all))
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Written, M::Error> {
        let mut all = Vec::new();
        while let Some(next) = map.next_entry()? {
            all.push(next);
        }
        Ok(Written::Map(all))
    }
}

impl IntoDeserializer<'_> for Written {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Written {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Written::Null => visitor.visit_unit(),
            Written::Bool(x) => visitor.visit_bool(x),
            Written::Signed(x) => visitor.visit_i64(x),
            Written::Unsigned(x) => visitor.visit_u64(x),
            Written::Number(x) => visitor.visit_f64(x),
            Written::Text(text) => visitor.visit_string(text),
            Written::List(list) => SeqDeserializer::new(list.into_iter()).deserialize_any(visitor),
            Written::Map(map) => MapDeserializer::new(map.into_iter()).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Written::Null = self { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
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
            Written::Text(variant) => visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(variant)),
            _ => Err(Error::custom("expected a name")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}
