//! Hyper-parameters by name, so that schedules can drive any of them.

/// Numbers of a configuration by name: `lr`, `weight_decay`, `betas[0]`, ...
///
/// The structs of this crate have them all; yours need no more than `impl Fields for Mine {}`.
pub trait Fields {
    /// The number of this name, to read or change it.
    fn field_mut(&mut self, _name: &str) -> Option<&mut f64> {
        None
    }
}

/// A field of a configuration: its numbers.
pub(crate) trait Field {
    /// The number itself, or the one at this place of a list.
    fn number(&mut self, _place: Option<usize>) -> Option<&mut f64> {
        None
    }
}

impl Field for f64 {
    fn number(&mut self, place: Option<usize>) -> Option<&mut f64> {
        place.is_none().then_some(self)
    }
}

impl Field for (f64, f64) {
    fn number(&mut self, place: Option<usize>) -> Option<&mut f64> {
        [&mut self.0, &mut self.1].into_iter().nth(place?)
    }
}

impl Field for (f64, f64, f64) {
    fn number(&mut self, place: Option<usize>) -> Option<&mut f64> {
        [&mut self.0, &mut self.1, &mut self.2].into_iter().nth(place?)
    }
}

impl Field for (Option<f64>, f64) {
    fn number(&mut self, place: Option<usize>) -> Option<&mut f64> {
        [self.0.as_mut(), Some(&mut self.1)].into_iter().nth(place?)?
    }
}

impl Field for Vec<f64> {
    fn number(&mut self, place: Option<usize>) -> Option<&mut f64> {
        self.get_mut(place?)
    }
}

impl Field for Option<f64> {
    fn number(&mut self, place: Option<usize>) -> Option<&mut f64> {
        self.as_mut().filter(|_| place.is_none())
    }
}

macro_rules! not_a_number {
    ($($type:ty),*) => {
        $(impl Field for $type {})*
    };
}
not_a_number!(bool, u32, u64, usize, Option<usize>, crate::kernel::reduce::Norm);

/// `betas[1]` as `betas` and 1; `lr` as `lr` and nothing.
pub(crate) fn split(name: &str) -> (&str, Option<usize>) {
    let place = name.strip_suffix(']').and_then(|name| name.split_once('['));
    match place.and_then(|(name, place)| Some((name, place.parse().ok()?))) {
        Some((name, place)) => (name, Some(place)),
        None => (name, None),
    }
}

/// Gives the fields of a struct by name.
macro_rules! fields {
    ($name:ident, $($field:ident)*) => {
        impl crate::algorithm::Fields for $name {
            #[allow(unused_variables)]
            fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
                let (name, place) = crate::algorithm::fields::split(name);
                match name {
                    $(stringify!($field) => crate::algorithm::fields::Field::number(&mut self.$field, place),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use fields;
