//! Evaluation points: the averages of wrappers and of schedule-free algorithms.
use super::Optimizer;
use crate::{
    algorithm::ElementState,
    array::{Element, layout::trimmed, monomorphize},
    error::Error,
    params::{StepInput, UNNAMED},
};
use ndarray::{Array, ArrayD, ArrayRef, ArrayViewD, ArrayViewMutD, Dimension, Zip};
use std::{iter::zip, mem};

/// Names of the state arrays that can be swapped with the parameter.
pub(super) const AVERAGES: [&str; 2] = ["ema", "swa"];

impl<A: Element> Optimizer<A> {
    /// Returns the point at which to evaluate the model, for the array of
    /// [`update`](Optimizer::update).
    ///
    /// This is a copy of the parameter, or its average if a wrapper ([`Ema`](crate::wrap::Ema),
    /// [`Swa`](crate::wrap::Swa)) or a schedule-free algorithm keeps one. Before the first step and
    /// while it is swapped with its average, it is the parameter.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`] if steps have been made, but none with this parameter;
    /// [`Error::ShapeChanged`].
    pub fn evaluate<D: Dimension>(&self, param: &ArrayRef<A, D>) -> Result<Array<A, D>, Error> {
        self.evaluate_param(UNNAMED, param)
    }

    /// As [`evaluate`](Optimizer::evaluate), for the parameter with this name. A parameter that a
    /// group lists by name, or that belongs to a frozen group, is known without a step.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Optimizer::evaluate).
    pub fn evaluate_param<D: Dimension>(
        &self,
        name: &str,
        param: &ArrayRef<A, D>,
    ) -> Result<Array<A, D>, Error> {
        let (optimizer, view) = (self, param.view().into_dyn());
        let point = monomorphize!(
            A, <'o, 'a>,
            (optimizer: &'o Optimizer<A>, name: &'o str, view: ArrayViewD<'a, A>)
                -> Result<ArrayD<A>, Error> { optimizer.evaluate_dyn(name, view) }
        )?;
        // Never fails: the point has the dimension of the parameter.
        Ok(point
            .into_dimensionality()
            .unwrap_or_else(|_| param.to_owned()))
    }

    /// Swaps the array of [`update`](Optimizer::update) with its average, without a copy.
    ///
    /// Use it to evaluate or save the model if a wrapper ([`Ema`](crate::wrap::Ema),
    /// [`Swa`](crate::wrap::Swa)) keeps an average. Swap back before the next step; a step in
    /// between fails with [`Error::Swapped`]. Nothing happens to a parameter of a frozen group that
    /// has no average.
    ///
    /// # Errors
    ///
    /// [`Error::NoAverage`], or [`Error::ShapeChanged`].
    pub fn swap_average<D: Dimension>(&mut self, param: &mut ArrayRef<A, D>) -> Result<(), Error> {
        self.swap_average_param(UNNAMED, param)
    }

    /// As [`swap_average`](Optimizer::swap_average), for the parameter with this name.
    ///
    /// # Errors
    ///
    /// As [`swap_average`](Optimizer::swap_average).
    pub fn swap_average_param<D: Dimension>(
        &mut self,
        name: &str,
        param: &mut ArrayRef<A, D>,
    ) -> Result<(), Error> {
        let (optimizer, param) = (self, param.view_mut().into_dyn());
        monomorphize!(
            A, <'o, 'a>,
            (optimizer: &'o mut Optimizer<A>, name: &'o str, param: ArrayViewMutD<'a, A>)
                -> Result<(), Error> { optimizer.swap_dyn(name, param) }
        )
    }

    /// Whether a parameter without a step is a member of a frozen group, or listed by a group.
    fn is_expected(&self, name: &str, ndim: usize) -> bool {
        self.groups.group_for(name, ndim).is_ok_and(|group| {
            let slot = &self.groups.list[group];
            slot.frozen || slot.select.listed().iter().any(|listed| listed == name)
        })
    }

    fn evaluate_dyn(&self, name: &str, param: ArrayViewD<'_, A>) -> Result<ArrayD<A>, Error> {
        let mut point = param.to_owned();
        let Some(entry) = self.table.get(name) else {
            return if self.table.entries.is_empty() || self.is_expected(name, param.ndim()) {
                Ok(point)
            } else {
                Err(Error::UnknownParameter { name: name.into() })
            };
        };
        if !entry.shape.is(param.shape()) {
            return Err(entry.shape_changed(param.shape()));
        }
        if !entry.allocated || entry.swapped || entry.begins_average {
            return Ok(point);
        }
        let slot = &self.groups.list[entry.group];
        let names = &slot.requirements.arrays[..];
        let state = entry.named_arrays(names);
        // Without the extra arrays, which have other shapes.
        let arrays = &state[..names.len()];
        let mut values = vec![A::ZERO; arrays.len()];
        let clock = entry.clock(self.steps);
        for (index, p) in point.indexed_iter_mut() {
            for (value, (_, array)) in values.iter_mut().zip(arrays) {
                *value = array[&index];
            }
            let state = ElementState {
                names,
                values: &values,
                clock,
            };
            *p = slot.engine.evaluate(*p, &state);
        }
        Ok(point)
    }

    /// Begins averages that a loaded state lacked, at the parameters before the step.
    #[cold]
    pub(super) fn begin_averages(&mut self, input: &mut StepInput<'_, '_, A>) {
        let Optimizer { groups, table, .. } = self;
        for param in input.params.iter_mut() {
            let entry = &mut table.entries[param.entry];
            if !(entry.begins_average && param.views.has_grad()) {
                continue;
            }
            let names = &groups.list[entry.group].held;
            let (p, _) = param.views.views(entry.order, input.strided);
            for (name, memory) in zip(names, &mut entry.state) {
                if AVERAGES.contains(name) && memory.is_empty() {
                    memory.extend(p.iter().copied());
                }
            }
            entry.begins_average = false;
        }
        table.begins_averages = table.entries.iter().any(|entry| entry.begins_average);
    }

    /// Whether the average in this state array does not depend on the parameter: it includes the
    /// steps that the parameter has missed, and at least one.
    fn is_up_to_date(&self, entry: usize, average: usize) -> bool {
        let entry = &self.table.entries[entry];
        let slot = &self.groups.list[entry.group];
        let names = &slot.requirements.arrays[..];
        let mut values = vec![A::ZERO; names.len()];
        values[average] = A::one();
        let state = ElementState {
            names,
            values: &values,
            clock: entry.clock(self.steps),
        };
        slot.engine.evaluate(A::ZERO, &state) == A::one()
    }

    fn swap_dyn(&mut self, name: &str, mut param: ArrayViewMutD<'_, A>) -> Result<(), Error> {
        let no_average = || Error::NoAverage { name: name.into() };
        let Some(index) = self.table.find(name) else {
            let group = self.groups.group_for(name, param.ndim())?;
            let frozen = self.groups.list[group].frozen;
            return if frozen { Ok(()) } else { Err(no_average()) };
        };
        let entry = &self.table.entries[index];
        let slot = &self.groups.list[entry.group];
        let average = slot
            .requirements
            .arrays
            .iter()
            .rposition(|name| AVERAGES.contains(name))
            .filter(|_| entry.allocated && !entry.begins_average);
        let Some(average) = average else {
            return if slot.frozen {
                Ok(())
            } else {
                Err(no_average())
            };
        };
        if !entry.shape.is(param.shape()) {
            return Err(entry.shape_changed(param.shape()));
        }
        if !entry.swapped && !self.is_up_to_date(index, average) {
            let point = self.evaluate_dyn(name, param.view())?;
            let entry = &mut self.table.entries[index];
            entry.last = self.steps;
            let memory = &mut entry.state[average];
            trimmed(entry.order.view_mut(&entry.shape, memory), point.ndim()).assign(&point);
        }
        let entry = &mut self.table.entries[index];
        let average = entry
            .order
            .view_mut(&entry.shape, &mut entry.state[average]);
        let mut average = trimmed(average, param.ndim());
        Zip::from(&mut param).and(&mut average).for_each(mem::swap);
        entry.swapped = !entry.swapped;
        Ok(())
    }
}
