//! Steps of parameters that are divided among processes.
use super::{Optimizer, Outcome, group::GroupSlot};
use crate::{
    algorithm::{Requirements, StageKind},
    array::{Element, layout::AXES},
    error::Error,
    kernel::{
        MAX_SUMS, pool,
        reduce::{self, Norm, NormSum, Sum},
    },
    params::Params,
};
use ndarray::ArrayView1;
use std::{borrow::BorrowMut, iter::zip, mem::take, slice};

/// Adds up sums over the processes among which the parameters of a model are divided, for
/// [`Optimizer::step_across`]. The package `ndarray-optim-mpi` implements it.
///
/// All processes make the same calls in the same order, because their optimizers have the same
/// groups. A process that cannot reach the others leaves the numbers as they are and reports that by
/// itself; its parameters and its optimizer are of no use then.
pub trait Exchange {
    /// Replaces each sum by the sum of the terms of all processes.
    fn sum(&mut self, sums: &mut [Sum]);

    /// Replaces a number, which is at least 0, by the largest one of all processes, or by NaN if
    /// one of them is NaN.
    fn max(&mut self, number: &mut f64);
}

/// How a parameter can be divided among processes: see [`Optimizer::division`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Division {
    /// Whether one process needs the whole array. Otherwise each element can be updated by itself,
    /// apart from sums that [`Exchange`] adds up.
    pub whole: bool,
    /// Approximate time of a step of the array on one thread, in nanoseconds.
    pub cost: f64,
}

impl<A: Element> Optimizer<A> {
    /// As [`step`](Optimizer::step), with the part of all parameters that this process holds.
    ///
    /// Each process has its own `Optimizer` with the same groups and hyper-parameters, and passes
    /// other parameters or other elements of the same ones. A part of an array is a parameter with
    /// the name of the array. `exchange` is called for the norms and sums that run over all
    /// parameters ([`ClipByGlobalNorm`](crate::wrap::ClipByGlobalNorm),
    /// [`Prodigy`](crate::Prodigy), ...), so that the results are the bits of a step with all of
    /// them in one process. [`division`](Optimizer::division) says which arrays cannot be cut.
    ///
    /// Only these numbers are exchanged. Give all processes the same loss, and let them agree on
    /// whether to make the step: [`NonFinite`](crate::NonFinite) and
    /// [`Limits`](crate::Limits) look at the gradients of this process.
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step); then `exchange` has not been called.
    pub fn step_across<'a>(
        &mut self,
        mut params: impl BorrowMut<Params<'a, A>>,
        exchange: &mut dyn Exchange,
    ) -> Result<Outcome, Error> {
        let mut params = take(params.borrow_mut());
        let mut input = params.input();
        input.exchange = Some(exchange);
        self.run_step(input)
    }

    fn group_index(&self, name: &str, shape: &[usize]) -> Result<usize, Error> {
        if shape.len() > AXES {
            return Err(Error::TooManyAxes {
                name: name.into(),
                ndim: shape.len(),
            });
        }
        match self.table.get(name) {
            Some(entry) => Ok(entry.group),
            None => self.groups.group_for(name, shape.len()),
        }
    }

    /// Runs the checks of a step with these parameters, by name and shape, and this loss that need
    /// none of the arrays: hyper-parameters, and whether the loss is there if a group needs it.
    /// Processes that agree on the outcome before [`step_across`](Optimizer::step_across) do not
    /// wait for one whose step is refused.
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step).
    pub fn validate<'n>(
        &mut self,
        params: impl IntoIterator<Item = (&'n str, &'n [usize])>,
        loss: Option<f64>,
    ) -> Result<(), Error> {
        self.check_settings()?;
        let mut used = vec![false; self.groups.list.len()];
        for (name, shape) in params {
            let group = self.group_index(name, shape)?;
            used[group] = !self.groups.list[group].frozen;
        }
        let used = || (0..used.len()).filter(|&group| used[group]);
        self.check_shared(used())?;
        let needs_loss = |group: usize| self.groups.list[group].requirements.loss;
        if used().any(needs_loss) && !loss.is_some_and(f64::is_finite) {
            return Err(Error::Loss { given: loss });
        }
        Ok(())
    }

    /// Looks for what [`non_finite`](Optimizer::non_finite) is about in the gradient of a parameter,
    /// or in a part of it, whatever the policy is.
    ///
    /// # Errors
    ///
    /// [`Error::NonFiniteGradient`], or [`Error::ExplodingGradient`] for an element that is too large
    /// for the algorithm; and as [`validate`](Optimizer::validate).
    pub fn check_gradient(&mut self, name: &str, shape: &[usize], grad: &[A]) -> Result<(), Error> {
        self.check_settings()?;
        let limit = self.largest_gradient(self.group_index(name, shape)?);
        match reduce::beyond(grad, limit) {
            None => Ok(()),
            Some(value) if value.is_finite() => Err(Error::ExplodingGradient {
                norm: reduce::norm(&ArrayView1::from(grad)),
                limit: limit.f64(),
            }),
            Some(value) => Err(Error::NonFiniteGradient {
                name: name.into(),
                value: value.f64(),
            }),
        }
    }

    /// Returns all settings that a step depends on, one on each line, to compare those of several
    /// processes: the algorithm of each group with its hyper-parameters, which groups are frozen,
    /// clipping, limits and accumulation.
    pub fn settings(&self) -> String {
        let groups = self.groups.list.iter();
        let groups = groups.map(|slot| (&slot.name, &slot.select, &slot.engine, slot.frozen));
        format!(
            "{:#?}\nclip: {:?}\nnon_finite: {:?}\nlimits: {:?}\naccumulation: {}",
            groups.collect::<Vec<_>>(),
            self.clip,
            self.non_finite,
            self.limits,
            self.accumulation.every,
        )
    }

    /// Returns how a parameter of this name and shape can be divided among processes.
    ///
    /// ```
    /// use ndarray_optim::{AdamW, Group, Lamb, Optimizer, Select};
    ///
    /// let mut optimizer: Optimizer<f32> = Optimizer::new(AdamW::new(1e-3));
    /// optimizer.add_group(Group::new("matrices", Select::rank(2), Lamb::new(1e-3)))?;
    /// assert!(!optimizer.division("bias", &[100])?.whole);
    /// assert!(optimizer.division("weight", &[100, 100])?.whole); // norms of the array
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step), for invalid hyper-parameters, groups and shapes.
    pub fn division(&mut self, name: &str, shape: &[usize]) -> Result<Division, Error> {
        self.check_settings()?;
        let group = self.group_index(name, shape)?;
        let slot = &self.groups.list[group];
        let wrong = |expected| Error::Shape {
            name: name.into(),
            shape: shape.to_vec(),
            expected,
        };
        slot.engine.extra_arrays(shape).map_err(wrong)?;
        let size = shape.iter().product();
        let sweep = pool::work(size, slot.requirements.cost) as f64 / 10.0;
        Ok(Division {
            whole: slot.requirements.needs_whole_arrays(),
            cost: sweep + slot.engine.transform_cost(shape),
        })
    }
}

impl Requirements {
    /// Whether a step reads anything of an array but single elements and sums over all arrays.
    fn needs_whole_arrays(&self) -> bool {
        let whole = |stage: &StageKind| match stage {
            StageKind::Elements(_) => false,
            StageKind::Clip(clipping) => !clipping.global,
            StageKind::Whole => true,
        };
        self.preconditioned
            || self.terms > 0 && !self.global_sums
            || self.stages.iter().any(|stage| whole(&stage.kind))
            || self.clippings.iter().any(|clipping| !clipping.global)
    }
}

impl NormSum {
    /// The norm over all processes.
    pub(super) fn across(mut self, exchange: &mut Option<&mut (dyn Exchange + '_)>) -> f64 {
        if let Some(exchange) = exchange {
            match self.norm {
                Norm::Max => exchange.max(&mut self.max),
                _ => exchange.sum(slice::from_mut(&mut self.sum)),
            }
        }
        self.value()
    }
}

/// Adds up the sums of these groups over all processes.
pub(super) fn sums_across<A: Element>(
    slots: &mut [GroupSlot<A>],
    groups: &[usize],
    exchange: &mut (dyn Exchange + '_),
) {
    let mut all = Vec::with_capacity(groups.len() * (MAX_SUMS + 1));
    for slot in groups.iter().map(|&group| &slots[group]) {
        all.extend(slot.sums.iter().cloned());
        // The number of processes whose arrays are part of the sums.
        let mut ready = Sum::default();
        ready.add(&[f64::from(u8::from(slot.sums_ready))]);
        all.push(ready);
    }
    if all.is_empty() {
        return;
    }
    exchange.sum(&mut all);
    let mut all = all.into_iter();
    for &group in groups {
        let slot = &mut slots[group];
        zip(slot.sums.iter_mut(), &mut all).for_each(|(sum, of_all)| *sum = of_all);
        slot.sums_ready = all.next().is_some_and(|ready| ready.value() > 0.0);
    }
}
