//! What stands for a parameter when a model is evaluated: averages that wrappers and schedule-free algorithms keep.
use super::Optimizer;
use crate::{
    algorithm::Lane,
    array::{Element, layout::trimmed},
    error::Error,
};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Zip};
use std::mem;

/// The state arrays that can stand for the parameter.
const AVERAGES: [&str; 2] = ["ema", "swa"];

impl<A: Element> Optimizer<A> {
    pub(super) fn evaluate(&self, name: &str, param: ArrayViewD<'_, A>) -> ArrayD<A> {
        let mut point = param.to_owned();
        let Some(entry) =
            self.ledger.get(name).filter(|entry| entry.allocated && !entry.swapped && entry.shape.is(point.shape()))
        else {
            return point;
        };
        let slot = &self.groups.list[entry.group];
        let names = &slot.demands.arrays[..];
        let state = entry.named(names);
        let arrays = &state[..names.len()];
        let mut values = vec![A::ZERO; arrays.len()];
        for (index, p) in point.indexed_iter_mut() {
            values.iter_mut().zip(arrays).for_each(|(value, (_, array))| *value = array[&index]);
            *p = slot.engine.evaluate(*p, &Lane { names, values: &values });
        }
        point
    }

    pub(super) fn swap(&mut self, name: &str, mut param: ArrayViewMutD<'_, A>) -> Result<(), Error> {
        let none = || Error::NoAverage { name: name.into() };
        let at = self.ledger.find(name).ok_or_else(none)?;
        let entry = &mut self.ledger.entries[at];
        let names = &self.groups.list[entry.group].demands.arrays;
        let average = names.iter().rposition(|name| AVERAGES.contains(name)).filter(|_| entry.allocated);
        let average = average.ok_or_else(none)?;
        if !entry.shape.is(param.shape()) {
            return Err(entry.reshaped(param.shape()));
        }
        let average = entry.order.view_mut(&entry.shape, &mut entry.state[average]);
        let mut average = trimmed(average, param.ndim());
        Zip::from(&mut param).and(&mut average).for_each(mem::swap);
        entry.swapped = !entry.swapped;
        Ok(())
    }
}
