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
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// The representation in formats that are not self-describing.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Tagged {
        Names(Vec<String>),
        Prefix(String),
        Rank(usize),
    }

    /// The representation in human-readable formats.
    #[derive(Serialize, Deserialize)]
    #[serde(
        untagged,
        expecting = "a list of names, {\"prefix\": ...} or {\"rank\": ...}"
    )]
    enum Written {
        Names(Vec<String>),
        Tagged(Tagged),
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

    impl Serialize for Select {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let tagged = match self.clone() {
                Select::Names(names) if serializer.is_human_readable() => {
                    return names.serialize(serializer);
                }
                Select::Names(names) => Tagged::Names(names),
                Select::Prefix(prefix) => Tagged::Prefix(prefix),
                Select::Rank(axes) => Tagged::Rank(axes),
            };
            tagged.serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for Select {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if !deserializer.is_human_readable() {
                return Tagged::deserialize(deserializer).map(Select::from);
            }
            Ok(match Written::deserialize(deserializer)? {
                Written::Names(names) => Select::Names(names),
                Written::Tagged(tagged) => tagged.into(),
            })
        }
    }
}
