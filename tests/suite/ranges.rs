//! The ranges that hyper-parameters are declared with are those that are checked: at, inside of and
//! outside of every bound of every field.
use crate::schedules::all_samples;
use ndarray::array;
use ndarray_optim::{
    AnyAlgorithm, AnyWrap, Error, Optimizer,
    algorithm::{Field, Interval},
    schedule::AnySchedule,
};
use serde_json::{Value, from_value, json, to_value};

/// Numbers around the bounds of a range, and whether they are in it.
fn around(range: &Interval) -> Vec<(f64, bool)> {
    let ((lower, lower_open), (upper, upper_open)) = (range.lower(), range.upper());
    let mut numbers = Vec::new();
    if lower.is_finite() {
        numbers.extend([
            (lower.next_down(), false),
            (lower - 1.0, false),
            (lower, !lower_open),
            (lower.next_up(), true),
        ]);
    } else {
        numbers.push((f64::MIN, true));
    }
    if upper.is_finite() {
        numbers.extend([
            (upper.next_down(), true),
            (upper, !upper_open),
            (upper.next_up(), false),
            (upper + 1.0, false),
        ]);
    } else {
        numbers.push((f64::MAX, true));
    }
    numbers
}

/// As [`around`], of numbers that count.
fn whole_around(range: &Interval) -> Vec<(u64, bool)> {
    let ((lower, lower_open), (upper, upper_open)) = (range.lower(), range.upper());
    assert!(!lower_open && lower >= 0.0 && (!upper_open || upper.is_infinite()));
    let lower = lower as u64;
    let mut numbers = vec![(lower, true), (lower + 1, true)];
    numbers.extend(lower.checked_sub(1).map(|below| (below, false)));
    if upper.is_finite() {
        let upper = upper as u64;
        numbers.extend([(upper - 1, true), (upper, true), (upper + 1, false)]);
    } else {
        numbers.push((1_000_000, true));
    }
    numbers
}

/// One number of a field.
struct Place<'f> {
    field: &'f Field,
    index: Option<usize>,
    range: Interval,
}

impl Place<'_> {
    /// The name of the number: `lr`, `betas[0]`.
    fn name(&self) -> String {
        match self.index {
            Some(index) => format!("{}[{index}]", self.field.name),
            None => self.field.name.into(),
        }
    }

    /// An object with another number in this place.
    fn with(&self, object: &Value, number: Value) -> Value {
        let mut object = object.clone();
        let place = &mut object[self.field.name];
        match self.index {
            Some(index) => place[index] = number,
            None => *place = number,
        }
        object
    }

    /// What is wrong with a number out of range.
    fn error(&self, value: impl std::fmt::Display) -> Error {
        let bounded = self.range.lower().0.is_finite() && self.range.upper().0.is_finite();
        let kind = match (self.is_whole(), bounded) {
            (true, _) => "a whole number",
            (false, true) => "a number",
            (false, false) => "a finite number",
        };
        let expected = match self.range {
            Interval::FINITE => kind.into(),
            range => format!("{kind} {range}"),
        };
        Error::HyperParameter {
            field: self.name(),
            value: value.to_string(),
            expected,
        }
    }

    fn is_whole(&self) -> bool {
        ["u32", "u64", "usize", "Option<u64>"].contains(&&*self.field.ty.replace(' ', ""))
    }
}

/// Every number of these fields that has a range.
fn places<'f>(fields: &'f [Field], object: &Value) -> Vec<Place<'f>> {
    let mut all = Vec::new();
    for field in fields {
        let value = object
            .get(field.name)
            .unwrap_or_else(|| panic!("no `{}` in {object}", field.name));
        let count = value.as_array().map(Vec::len);
        assert!(
            [0, 1, count.unwrap_or(1)].contains(&field.ranges.len()),
            "{field:?}"
        );
        let indices: Vec<_> = match count {
            Some(n) => (0..n).map(Some).collect(),
            None => vec![None],
        };
        for index in indices {
            let range = match &field.ranges[..] {
                [] => continue,
                [one] => one,
                each => &each[index.unwrap_or(0)],
            };
            all.push(Place {
                field,
                index,
                range: *range,
            });
        }
    }
    all
}

/// Checks that `validate` obeys the ranges of these fields, and returns how many numbers it was
/// given. Ranges come before what is checked of several fields together.
fn obeys(fields: &[Field], object: &Value, validate: impl Fn(Value) -> Result<(), Error>) -> usize {
    let mut tried = 0;
    for place in places(fields, object) {
        let numbers: Vec<_> = if place.is_whole() {
            let numbers = whole_around(&place.range).into_iter();
            numbers
                .map(|(n, inside)| (json!(n), place.error(n), inside))
                .collect()
        } else {
            let numbers = around(&place.range).into_iter();
            numbers
                .map(|(x, inside)| (json!(x), place.error(x), inside))
                .collect()
        };
        for (number, error, inside) in numbers {
            let found = validate(place.with(object, number.clone()));
            let refused = found == Err(error);
            assert_eq!(
                refused,
                !inside,
                "{} = {number} of {object}: {found:?}",
                place.name()
            );
            tried += 1;
        }
    }
    tried
}

/// Infinite numbers and NaN are in no range.
fn refuses_what_is_not_finite(config: &AnyAlgorithm, fields: &[Field], object: &Value) {
    for place in places(fields, object) {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut optimizer = Optimizer::<f64>::new(config.clone());
            let Ok(number) = optimizer.number_mut(None, &place.name()) else {
                // It counts something, or is none by default.
                let value = &object[place.field.name];
                let value = place.index.map_or(value, |index| &value[index]);
                let is_none = value.is_null() || *value == "none";
                assert!(place.is_whole() || is_none, "{}", place.name());
                continue;
            };
            *number = bad;
            refuses(&mut optimizer, place.error(bad));
        }
    }
}

/// A step reports this error and changes nothing.
fn refuses(optimizer: &mut Optimizer<f64>, error: Error) {
    let mut p = array![[1.0, 2.0]];
    let found = optimizer.update_with_loss(&mut p, &array![[0.5, 0.5]], 1.0);
    assert_eq!(found, Err(error));
    assert_eq!((p, optimizer.steps("variable")), (array![[1.0, 2.0]], 0));
}

/// Checks as a step does, and as a configuration does.
fn validate(config: AnyAlgorithm) -> Result<(), Error> {
    let found = config.validate();
    if let Err(error) = &found {
        refuses(&mut Optimizer::new(config), error.clone());
    }
    found
}

#[test]
fn every_algorithm_obeys_its_ranges() {
    let mut tried = 0;
    for config in AnyAlgorithm::all() {
        let (fields, object) = (config.fields(), to_value(&config).unwrap());
        assert!(!fields.is_empty(), "{}", config.name());
        tried += obeys(&fields, &object, |object| {
            validate(from_value(object).unwrap())
        });
        refuses_what_is_not_finite(&config, &fields, &object);
    }
    println!("{tried} numbers");
}

#[test]
fn every_wrapper_obeys_its_ranges() {
    let mut tried = 0;
    for wrap in AnyWrap::all() {
        let (fields, object) = (wrap.fields(), to_value(&wrap).unwrap());
        // The algorithm must have no field of the same name, which would be found first.
        let shares = |config: &AnyAlgorithm| {
            let own = config.fields();
            let mut names = own.iter().map(|field| field.name);
            names.any(|name| fields.iter().any(|field| field.name == name))
        };
        let mut others = AnyAlgorithm::all().into_iter();
        let inner = others.find(|config| !shares(config)).unwrap();
        tried += obeys(&fields, &object, |object| {
            let wrap: AnyWrap = from_value(object).unwrap();
            validate(inner.clone().in_wrappers([wrap]))
        });
        let wrapped = inner.clone().in_wrappers([wrap]);
        refuses_what_is_not_finite(&wrapped, &fields, &object);
    }
    println!("{tried} numbers");
}

#[test]
fn every_schedule_obeys_its_ranges() {
    let mut tried = 0;
    for schedule in all_samples() {
        let object = to_value(&schedule).unwrap();
        tried += obeys(&schedule.fields(), &object, |object| {
            let schedule: AnySchedule = from_value(object).unwrap();
            schedule.validate()
        });
    }
    println!("{tried} numbers");
}

/// What is declared as data is what a value has: names, defaults and numbers by name.
#[test]
fn fields_are_those_of_files_and_have_their_defaults() {
    let named = |fields: &[Field], object: &Value| {
        let mut keys: Vec<_> = object.as_object().unwrap().keys().cloned().collect();
        keys.retain(|key| key != "name");
        keys.sort_unstable();
        let mut names: Vec<_> = fields.iter().map(|field| field.name).collect();
        names.sort_unstable();
        assert_eq!(keys, names);
        for field in fields {
            // Numbers and switches read as in Rust.
            if let Ok(default) = serde_json::from_str::<Value>(field.default) {
                let (found, expected) = (&object[field.name], &default);
                assert_eq!(found.as_f64(), expected.as_f64(), "{field:?}");
                assert_eq!(found.as_bool(), expected.as_bool(), "{field:?}");
            }
        }
    };
    for config in AnyAlgorithm::all() {
        named(&config.fields(), &to_value(&config).unwrap());
    }
    for wrap in AnyWrap::all() {
        named(&wrap.fields(), &to_value(&wrap).unwrap());
    }
}
