//! The selection of the parameters of a group.
use std::fmt;

/// Selects the parameters of a group. It is plain data, so it is saved with the state.
///
/// In files: `["bias", "gain"]`, `{"prefix": "embed."}` or `{"rank": 2}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// Parameters with these names.
    Names(Vec<String>),
    /// Parameters whose names start with this prefix.
    Prefix(String),
    /// Parameters with this number of axes.
    Rank(usize),
}

impl Select {
    /// Selects parameters by name.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Select::Names(names.into_iter().map(S::into).collect())
    }

    /// Selects parameters whose names start with `prefix`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Select::Prefix(prefix.into())
    }

    /// Selects parameters with `axes` axes: 2 for matrices.
    pub fn rank(axes: usize) -> Self {
        Select::Rank(axes)
    }

    /// Returns whether a parameter with this name and number of axes is selected.
    pub fn matches(&self, name: &str, ndim: usize) -> bool {
        match self {
            Select::Names(names) => names.iter().any(|known| known == name),
            Select::Prefix(prefix) => name.starts_with(&**prefix),
            Select::Rank(axes) => *axes == ndim,
        }
    }

    /// The listed names; empty for other selections.
    pub(crate) fn listed(&self) -> &[String] {
        match self {
            Select::Names(names) => names,
            Select::Prefix(_) | Select::Rank(_) => &[],
        }
    }
}

/// Formats as `["bias", "gain"]`, `prefix "embed."` or `rank 2`.
impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Select::Names(names) => write!(f, "{names:?}"),
            Select::Prefix(prefix) => write!(f, "prefix {prefix:?}"),
            Select::Rank(axes) => write!(f, "rank {axes}"),
        }
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Select {
    fn from(names: [S; N]) -> Self {
        Select::names(names)
    }
}

impl<S: Into<String>> From<Vec<S>> for Select {
    fn from(names: Vec<S>) -> Self {
        Select::names(names)
    }
}

#[cfg(feature = "serde")]
mod serial {
    use super::Select;
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{Error, MapAccess, SeqAccess, Visitor},
    };
    use std::fmt;

    /// The representation in formats that are not self-describing.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Tagged {
        Names(Vec<String>),
        Prefix(String),
        Rank(usize),
    }

    impl From<Tagged> for Select {
        fn from(tagged: Tagged) -> Self {
            match tagged {
                Tagged::Names(names) => Select::Names(names),
                Tagged::Prefix(prefix) => Select::Prefix(prefix),
                Tagged::Rank(axes) => Select::Rank(axes),
            }
        }
    }

    impl From<Select> for Tagged {
        fn from(select: Select) -> Self {
            match select {
                Select::Names(names) => Tagged::Names(names),
                Select::Prefix(prefix) => Tagged::Prefix(prefix),
                Select::Rank(axes) => Tagged::Rank(axes),
            }
        }
    }

    impl Serialize for Select {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if !serializer.is_human_readable() {
                return Tagged::from(self.clone()).serialize(serializer);
            }
            match self {
                Select::Names(names) => names.serialize(serializer),
                Select::Prefix(prefix) => serializer.collect_map([("prefix", prefix)]),
                Select::Rank(axes) => serializer.collect_map([("rank", axes)]),
            }
        }
    }

    /// Reads a list, or a map with one key.
    struct Read;

    impl<'de> Visitor<'de> for Read {
        type Value = Select;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of names, {\"prefix\": ...} or {\"rank\": ...}")
        }
        fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Select, S::Error> {
            let mut names = Vec::new();
            while let Some(name) = list.next_element()? {
                names.push(name);
            }
            Ok(Select::Names(names))
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Select, M::Error> {
            let select = match map.next_key::<String>()?.as_deref() {
                Some("names") => Select::Names(map.next_value()?),
                Some("prefix") => Select::Prefix(map.next_value()?),
                Some("rank") => Select::Rank(map.next_value()?),
                Some(key) => return Err(M::Error::unknown_field(key, KEYS)),
                None => return Err(M::Error::invalid_length(0, &self)),
            };
            match map.next_key::<String>()? {
                Some(key) => Err(M::Error::custom(format_args!(
                    "`{key}` is one key too many"
                ))),
                None => Ok(select),
            }
        }
    }

    const KEYS: &[&str] = &["names", "prefix", "rank"];

    impl<'de> Deserialize<'de> for Select {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if deserializer.is_human_readable() {
                deserializer.deserialize_any(Read)
            } else {
                Tagged::deserialize(deserializer).map(Select::from)
            }
        }
    }
}
