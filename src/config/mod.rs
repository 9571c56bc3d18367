//! How hyper-parameters and numbers are written with serde.
//!
//! | | human-readable formats | other formats |
//! |---|---|---|
//! | hyper-parameters | numbers, as [`Number`] | numbers |
//! | scalars of a state | numbers, as [`Number`] | bits |
//! | an enum | its name | as serde does |
//! | an algorithm, a wrapper, a schedule of any type | a map with a `name` | that map as JSON |
//!
//! Readers of human-readable formats rely on what the format says a value is, because only some
//! formats distinguish the types of numbers, options and names.
mod number;
mod value;

pub(crate) use number::{Number, bits, bits_list, field, maybe_bits, optional_bound};

use crate::nesting::TOO_DEEP;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, value::Error},
    ser::Error as _,
};
use value::AnyValue;
pub(crate) use value::ConfigValue;

/// A configuration of any type of a catalogue, with a `name` that says which.
pub(crate) trait Named: Sized {
    /// What it is, for messages.
    const WHAT: &'static str;

    /// Whether there are too many compositions inside each other.
    fn is_too_deep(&self) -> bool;
    /// Writes a map.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// Reads a map.
    fn read(value: ConfigValue) -> Result<Self, Error>;
}

struct Map<'a, T>(&'a T);

impl<T: Named> Serialize for Map<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// Formats that are not human-readable get a text, because few of them support maps whose types
/// depend on a name.
pub(crate) fn serialize<T: Named, S: Serializer>(x: &T, serializer: S) -> Result<S::Ok, S::Error> {
    if x.is_too_deep() {
        return Err(S::Error::custom(format!("{} {TOO_DEEP}", T::WHAT)));
    }
    if serializer.is_human_readable() {
        return x.write(serializer);
    }
    serde_json::to_string(&Map(x))
        .map_err(S::Error::custom)?
        .serialize(serializer)
}

pub(crate) fn deserialize<'de, T: Named, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let any = AnyValue::new(T::WHAT);
    let value = if deserializer.is_human_readable() {
        any.deserialize(deserializer)?
    } else {
        let text = String::deserialize(deserializer)?;
        let mut json = serde_json::Deserializer::from_str(&text);
        let value = any.deserialize(&mut json);
        let value = value.and_then(|value| json.end().map(|()| value));
        value.map_err(D::Error::custom)?
    };
    let read = T::read(value).map_err(D::Error::custom)?;
    if read.is_too_deep() {
        return Err(D::Error::custom(format!("{} {TOO_DEEP}", T::WHAT)));
    }
    Ok(read)
}

/// `.ci/jobs features` runs them with serde_json's feature `arbitrary_precision`, too.
#[cfg(test)]
mod tests {
    use crate::*;
    use serde::{Serialize, de::DeserializeOwned};
    use std::fmt::Debug;

    fn is_read_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(x: T) {
        let text = serde_json::to_string(&x).unwrap();
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), x, "{text}");
        let value = serde_json::to_value(&x).unwrap();
        assert_eq!(serde_json::from_value::<T>(value).unwrap(), x, "{text}");
    }

    #[test]
    fn every_configuration_is_read_back_from_json() {
        AnyAlgorithm::all().into_iter().for_each(is_read_back);
        AnyWrap::all().into_iter().for_each(is_read_back);
        let schedule = schedule::OneCycle::new(0.1, 100);
        is_read_back(AnySchedule::from(schedule.clone()).then(100, 1e-3));
        is_read_back(schedule::Schedules::new().drive("lr", schedule));
        let algorithm = AnyAlgorithm::from(Adafactor::default());
        is_read_back(Group::new("g", Select::rank(2), algorithm));
        is_read_back(ReduceOnPlateau::new(ReduceOnPlateauConfig::new(0.1)).unwrap());
    }

    #[test]
    fn a_state_is_read_back_from_json_and_bytes() {
        let mut prodigy = Optimizer::<f32>::new(Prodigy::new(1.0).ema(0.9));
        let group = Group::new("g", Select::rank(2), Adafactor::default());
        prodigy.add_group(group).unwrap();
        let grad = ndarray::array![0.1, f32::INFINITY];
        prodigy
            .update(&mut ndarray::array![1.0, 2.0], &grad)
            .unwrap();
        let state = prodigy.state_dict();
        let text = serde_json::to_string(&state).unwrap();
        let bytes = state.to_bytes().unwrap();
        let read: StateDict = serde_json::from_str(&text).unwrap();
        assert_eq!(read.to_bytes().unwrap(), bytes);
        let read = StateDict::from_bytes(&bytes).unwrap();
        assert_eq!(read.to_bytes().unwrap(), bytes);
    }
}
