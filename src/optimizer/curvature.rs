//! Hessian estimates between steps.
use super::{Optimizer, Outcome, group::Groups};
use crate::{
    array::{Element, monomorphize},
    error::Error,
    kernel::{Arrays, KernelArgs},
    params::{Param, Params, StepInput},
};
use std::{borrow::BorrowMut, mem::take};

const HESSIAN: &str = "use estimates of the Hessian's diagonal, as `sophia` does";

impl<A: Element> Optimizer<A> {
    /// Updates the state of algorithms that use estimates of the Hessian's diagonal
    /// ([`Sophia`](crate::Sophia)).
    ///
    /// `params` contains each parameter with an estimate of its diagonal in place of the gradient,
    /// such as that of [`hutchinson`](crate::hutchinson()); parameters without an estimate may be
    /// omitted. Parameters, other state and step counts do not change. The call may come before the
    /// first step.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`], else as [`step`](Optimizer::step), where [`NonFinite`] applies to
    /// the estimates. Nothing is changed then.
    ///
    /// [`NonFinite`]: crate::NonFinite
    pub fn update_hessian<'a>(
        &mut self,
        mut params: impl BorrowMut<Params<'a, A>>,
    ) -> Result<Outcome, Error> {
        let mut params = take(params.borrow_mut());
        let (optimizer, input) = (self, params.input());
        monomorphize!(
            A, <'o, 'a: 'o>,
            (optimizer: &'o mut Optimizer<A>, input: StepInput<'o, 'a, A>)
                -> Result<Outcome, Error> { optimizer.update_hessian_here(input) }
        )
    }

    /// Runs the checks of a step, initializes the state where necessary and updates it. No step is
    /// counted.
    fn update_hessian_here(&mut self, mut input: StepInput<'_, '_, A>) -> Result<Outcome, Error> {
        self.check_settings()?;
        // With one group it is an error of the call, whichever parameters are passed.
        let slot = self.groups.default_slot();
        if self.groups.is_single() && !slot.requirements.hessian {
            return Err(Error::Unsupported {
                optimizer: slot.kind(),
                what: HESSIAN,
            });
        }
        let known = self.table.entries.len();
        if self.check_step(&mut input)?.is_none() {
            return Ok(Outcome::Skipped);
        }
        let (slots, table) = (&self.groups.list, &mut self.table);
        let unsupported = input.params.iter().find_map(|param| {
            let slot = &slots[table.entries[param.entry].group];
            (param.views.has_grad() && !slot.requirements.hessian).then_some(slot)
        });
        if let Some(slot) = unsupported {
            let optimizer = slot.kind();
            table.truncate(known);
            return Err(Error::Unsupported {
                optimizer,
                what: HESSIAN,
            });
        }
        if self.table.begins_averages {
            self.begin_averages(&mut input);
        }
        let Optimizer {
            groups: Groups { list: slots, .. },
            table,
            ..
        } = self;
        let with_grad = |param: &&mut Param<'_, A>| param.views.has_grad();
        for param in input.params.iter_mut().filter(with_grad) {
            let entry = &mut table.entries[param.entry];
            let slot = &mut slots[entry.group];
            if !entry.allocated {
                entry.allocate(param.views.order, slot);
            }
            slot.engine.begin_step();
            let args = KernelArgs {
                first: !entry.begun,
                ..Default::default()
            };
            let step = entry.next_step(slot, f64::NAN);
            let kernel = slot.engine.prepare(&step);
            entry.begun = true;
            let (engine, order) = (&*slot.engine, entry.order);
            let mut sums = Default::default();
            let mut update = |p: &mut [A], g: &[A], mut state: Arrays<'_, A>| {
                if args.first {
                    // The kernel has no sums, so that measuring only initializes the state.
                    engine.measure(kernel, &args, p, g, state.part(0..p.len()), &mut sums);
                }
                engine.update_hessian(g, state);
            };
            let (views, arrays) = (&mut *input.strided, entry.arrays());
            param
                .views
                .for_each_slice(order, views, arrays, &mut update);
        }
        Ok(Outcome::Applied)
    }
}
