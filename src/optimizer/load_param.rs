//! Loading the state of a parameter.
use super::{averages::AVERAGES, group::GroupSlot, param_table::ParamEntry};
use crate::{
    algorithm::ExtraArray,
    array::{
        Data, Element,
        layout::{Order, Shape, six_axes},
        row_major,
    },
    difference::{Difference, Differs},
    state::{MAX_STEPS, Named, ParamState},
};
use ndarray::{Array6, ArrayD};
use std::{fmt::Display, iter::zip};

/// The entry of a parameter without its arrays, and the arrays that are left over, or everything
/// that is wrong.
type LoadedEntry<A> = Result<(ParamEntry<A>, Vec<Difference>), Vec<Difference>>;

impl<A: Element> ParamEntry<A> {
    /// Creates the entry of a parameter in this group from its state, and checks the arrays, which
    /// [`take_arrays`](ParamEntry::take_arrays) moves. `current` is the shape that the parameter
    /// has in the optimizer. Without a slot, arrays are ignored. `now` is the number of steps of
    /// the optimizer. With `begin_average`, an average that the state lacks begins at the next
    /// step.
    pub(super) fn from_state(
        param: &ParamState<Data<'_>>,
        group: usize,
        current: Option<&Shape>,
        slot: Option<&GroupSlot<A>>,
        now: u64,
        begin_average: bool,
    ) -> LoadedEntry<A> {
        let mut wrong = Vec::new();
        let place = format!("parameter `{}`", param.name);
        let mut differs = |differs, what: &str, found: &dyn Display, expected: &dyn Display| {
            let place = format!("{place}{what}");
            wrong.push(Difference::new(differs, place, found, expected));
        };
        let given_shape = format!("{:?}", param.shape);
        if let Some(current) = current.filter(|current| !current.is(&param.shape)) {
            let expected = format!("{:?}", current.as_slice());
            differs(Differs::Shape, ", shape", &given_shape, &expected);
        }
        let shape = Shape::new(&param.shape).filter(|_| fits_in_memory(&param.shape));
        let Some(shape) = shape else {
            let expected = "at most six axes and a size that memory can hold";
            differs(Differs::Shape, ", shape", &given_shape, &expected);
            return Err(wrong);
        };
        let order = Order::from_axes(&shape, &param.order, &param.reversed);
        if order.is_none() {
            let found = format!("{:?}, reversed {:?}", param.order, param.reversed);
            differs(Differs::Value, ", memory order", &found, &"each axis once");
        }
        let counts = [
            (", steps", param.steps),
            (", steps before its first", param.joined),
            (", steps since its last", param.missed),
        ];
        for (what, steps) in counts.into_iter().filter(|(_, steps)| *steps > MAX_STEPS) {
            differs(Differs::Value, what, &steps, &"at most 2^53");
        }
        let has_arrays = !param.arrays.is_empty() || !param.factors.is_empty();
        let has_state = has_arrays || param.steps > 0 || param.begun || param.swapped;
        if has_state && !param.allocated {
            let expected = "none, as it is not allocated";
            differs(Differs::Value, "", &"steps or state", &expected);
        }

        let mut entry = ParamEntry::new((*param.name).into(), group, shape);
        entry.order = order.unwrap_or(Order::C);
        entry.scalars = param.scalars;
        entry.t = param.steps;
        entry.allocated = param.allocated;
        entry.begun = param.begun;
        entry.swapped = param.swapped;
        (entry.joined, entry.last) = (param.joined, now.saturating_sub(param.missed));
        let mut left_over = Vec::new();
        if let Some(slot) = slot
            && param.allocated
        {
            entry.check_arrays(param, slot, begin_average, &mut wrong, &mut left_over);
        }
        if wrong.is_empty() {
            Ok((entry, left_over))
        } else {
            wrong.extend(left_over);
            Err(wrong)
        }
    }

    /// Moves the arrays that the algorithm of this group needs from the state, which has been
    /// checked, to the entry.
    pub(super) fn take_arrays(&mut self, param: &mut ParamState<Data<'_>>, slot: &GroupSlot<A>) {
        if !self.allocated {
            return;
        }
        for (&name, memory) in zip(&slot.held, &mut self.state) {
            let is_there = param.arrays.iter().any(|array| array.name == name);
            if !is_there && slot.requirements.switched.contains(&name) {
                *memory = vec![A::ZERO; self.shape.size()];
                continue;
            }
            let array = take_array(&mut param.arrays, name);
            let array = array.filter(|array| self.shape.is(array.shape()));
            if let Some(array) = array.and_then(six_axes) {
                *memory = into_memory(self.order.arrange(array));
            }
        }
        for name in &self.extra_names {
            let array = take_array(&mut param.factors, name);
            self.extra.extend(array.map(in_row_major));
        }
    }

    /// Checks the arrays that the algorithm of this group needs, and notes those of other shapes.
    fn check_arrays(
        &mut self,
        param: &ParamState<Data<'_>>,
        slot: &GroupSlot<A>,
        begin_average: bool,
        wrong: &mut Vec<Difference>,
        left_over: &mut Vec<Difference>,
    ) {
        let place = format!("parameter `{}`", param.name);
        let (names, shape) = (&slot.held, self.shape);
        for &name in names {
            let is_there = param.arrays.iter().any(|array| array.name == name);
            if !is_there && slot.requirements.switched.contains(&name) {
                continue;
            }
            let is_average = AVERAGES.contains(&name) && shape.size() > 0;
            let mut found = param.arrays.iter().filter(|array| array.name == name);
            // A state that was saved before the average began has an empty array.
            let begins = found.next().map_or(begin_average, |array| {
                array.data.shape() == [0] && found.next().is_none()
            });
            if is_average && begins && !self.swapped {
                self.begins_average = true;
            } else {
                check_array::<A>(&param.arrays, &place, name, shape.as_slice(), wrong);
            }
        }
        let needed = if slot.requirements.preconditioned {
            slot.engine.extra_arrays(shape.as_slice())
        } else {
            Ok(Vec::new())
        };
        let needed = match needed {
            Ok(needed) => needed,
            Err(expected) => {
                let found = format!("{:?}", param.shape);
                let place = format!("{place}, shape");
                wrong.push(Difference::new(Differs::Shape, place, found, expected));
                return;
            }
        };
        for ExtraArray { name, shape } in &needed {
            check_array::<A>(&param.factors, &place, name, shape, wrong);
            self.extra_names.push(name);
        }
        let is_extra = |name: &str| needed.iter().any(|array| array.name == name);
        let arrays = param.arrays.iter();
        let arrays = arrays.filter(|array| !names.contains(&&*array.name));
        let extra = param.factors.iter().filter(|array| !is_extra(&array.name));
        for array in arrays.chain(extra) {
            left_over.push(Difference::new(
                Differs::Array,
                format!("{place}, array `{}`", array.name),
                format!("an array of shape {:?}", array.data.shape()),
                "no such array",
            ));
        }
    }
}

/// Takes an array by name from a list.
fn take_array<A: Element>(list: &mut [Named<Data<'_>>], name: &str) -> Option<ArrayD<A>> {
    let array = list.iter_mut().find(|array| array.name == name)?;
    Some(array.data.take().into_array::<A>()?.into_owned())
}

/// Adds a difference to `wrong` if there is not exactly one array of this name, shape and element
/// type.
fn check_array<A: Element>(
    list: &[Named<Data<'_>>],
    place: &str,
    name: &str,
    shape: &[usize],
    wrong: &mut Vec<Difference>,
) {
    let place = format!("{place}, array `{name}`");
    let mut named = list.iter().filter(|array| array.name == name);
    let first = named.next();
    let found = if first.is_some() {
        "two entries"
    } else {
        "nothing"
    };
    let (Some(array), None) = (first, named.next()) else {
        let expected = format!("an array of shape {shape:?}");
        wrong.push(Difference::new(Differs::Array, place, found, expected));
        return;
    };
    if array.data.shape() != shape {
        wrong.push(Difference::new(
            Differs::Shape,
            format!("{place}, shape"),
            format!("{:?}", array.data.shape()),
            format!("{shape:?}"),
        ));
        return;
    }
    let element = array.data.element();
    if element != A::TYPE {
        let place = format!("{place}, element type");
        wrong.push(Difference::new(Differs::Element, place, element, A::TYPE));
    }
}

/// Whether an array of this shape can be allocated: at 8 bytes an element, without counting axes of
/// length 0.
pub(super) fn fits_in_memory(shape: &[usize]) -> bool {
    let mut lengths = shape.iter().filter(|&&n| n > 0);
    let bytes = lengths.try_fold(8_usize, |size, &n| size.checked_mul(n));
    bytes.is_some_and(|n| n < isize::MAX as usize)
}

/// Returns the array with its elements in row-major order in memory.
fn in_row_major<A: Element>(array: ArrayD<A>) -> ArrayD<A> {
    if array.is_standard_layout() {
        array
    } else {
        array.as_standard_layout().into_owned()
    }
}

/// Returns the elements of an array in row-major order, in the array's own memory if possible.
pub(super) fn into_memory<A: Element>(array: Array6<A>) -> Vec<A> {
    if !array.is_standard_layout() {
        return row_major(array.view().into_dyn());
    }
    let size = array.len();
    let (mut memory, first) = array.into_raw_vec_and_offset();
    let first = first.unwrap_or(0);
    memory.truncate(first + size);
    memory.drain(..first);
    memory
}
