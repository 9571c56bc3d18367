//! What runs over parameters and state between steps.
use super::{Config, Fused};
use crate::{
    Error, Outcome,
    kernel::{
        At, Element, Kernel, Parallel,
        plan::{Task, pieces},
        pool::drain,
    },
    params::Lending,
};

/// Runs a kernel over one array, on threads if that pays.
pub(super) fn run_one<A: Element, K: Kernel<A>>(task: Task<'_, A>, kernel: K, at: At<'_, A>, parallel: &Parallel) {
    let size = task.len();
    let work = |(task, ()): (Task<'_, A>, ())| task.run(&mut |p, g, state| kernel.run(&at, p, g, state));
    if parallel.pays(size as u64 * kernel.cost() * A::COST) {
        let chunk = parallel.chunk.max(1);
        drain(pieces([(task, ())].into_iter(), chunk), size / chunk, |(task, ())| task.len(), chunk, work);
    } else {
        work((task, ()));
    }
}

impl<C: Config, A: Element> Fused<C, A> {
    /// Runs another kernel than that of a step, on state of the same arrays, with the checks of a step. No step is counted, and
    /// gradients are taken as they are. State begins here if it has not yet, so both kernels must begin it alike.
    pub(crate) fn run_aside<K: Kernel<A>>(
        &mut self,
        mut lending: Lending<'_, '_, A>,
        kernel: impl Fn(&C) -> K,
    ) -> Result<Outcome, Error> {
        self.prepare()?;
        if self.admit(&mut lending)?.is_none() {
            return Ok(Outcome::Skipped);
        }
        let Fused { entries, plans, parallel, .. } = self;
        for param in lending.params.iter_mut().filter(|param| param.lent.has_grad()) {
            let entry = &mut entries[param.entry];
            let plan = &mut plans[entry.group];
            if !entry.allocated {
                entry.allocate(param.lent.order, plan);
            }
            let Some((config, _)) = &plan.checked else { continue };
            let kernel = kernel(config);
            let at = At { first: !entry.begun, scale: A::one(), watch: None };
            entry.begun = true;
            let order = entry.order;
            if let Some(task) = Task::borrow(&mut param.lent, order, lending.strided, entry.arrays()) {
                run_one(task, kernel, at, parallel);
            }
        }
        Ok(Outcome::Applied)
    }
}
