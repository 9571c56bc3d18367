//! Steps that look at an array as a whole before the sweep: factored moments, matrix products.
use super::{Config, Entry, Fused, Plan, aside::run_one};
use crate::{
    Error,
    kernel::{
        At, Element, Parallel, Totals,
        layout::{Order, trimmed},
        plan::{Lent, Task},
        pool::lock,
    },
    params::Lending,
};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMut, ArrayViewMutD, IxDyn, Zip};
use std::sync::Mutex;

/// One array before its sweep, as [`Config::direct`] sees it.
pub struct Whole<'a, A> {
    /// The name of the parameter.
    pub name: &'a str,
    /// The parameter.
    pub p: ArrayViewD<'a, A>,
    /// Row-major: the gradient, to be replaced by what the kernel shall have in its place.
    pub g: ArrayViewMutD<'a, A>,
    /// What is remembered between steps, in the order of [`Config::factors`], from zeros.
    pub factors: &'a mut [ArrayD<A>],
    /// When to use threads.
    pub parallel: Parallel,
}

/// The name and shape of an array that is remembered and is not of the parameter's shape.
pub type Factor = (&'static str, Vec<usize>);

/// As [`Config::factors`], but of an array without elements nothing is remembered: its other axes can be longer than memory.
pub(super) fn factors(config: &impl Config, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
    config.factors(shape).map(|factors| if shape.contains(&0) { Vec::new() } else { factors })
}

impl<C: Config, A: Element> Fused<C, A> {
    /// Whether this array can be stepped, and its factors are those it holds.
    #[cold]
    pub(super) fn fits(entry: &Entry<A>, plan: &Plan<C, A>) -> Result<(), Error> {
        let Some((config, _)) = &plan.checked else { return Ok(()) };
        let shape = entry.shape.as_slice();
        let wrong = |expected| Error::Shape { name: entry.name.to_string(), shape: shape.to_vec(), expected };
        let needed = factors(config, shape).map_err(wrong)?;
        let same = entry.factors.len() == needed.len()
            && entry.factors.iter().zip(&needed).all(|(factor, (_, shape))| factor.shape() == &shape[..]);
        if entry.allocated && !same {
            let held = plan.names.iter().copied().chain(entry.factor_names.iter().copied()).collect();
            let needed = plan.names.iter().copied().chain(needed.iter().map(|&(name, _)| name)).collect();
            return Err(Error::StateChanged { held, needed });
        }
        Ok(())
    }

    /// The step of optimizers that replace the gradient of a whole array before they sweep.
    #[cold]
    pub(super) fn sweep_directed(&mut self, Lending { params, strided, loss }: Lending<'_, '_, A>, watch: &[Mutex<Totals>]) {
        let Fused { entries, plans, parallel, scratch, .. } = self;
        for param in params.iter_mut().filter(|param| param.lent.has_grad()) {
            let entry = &mut entries[param.entry];
            let plan = &mut plans[entry.group];
            if !entry.allocated {
                entry.allocate(param.lent.order, plan);
            }
            let Some((config, now)) = plan.now(entry.t + 1, entry.scalars, loss.unwrap_or(f64::NAN)) else { continue };
            let Some((mut p, g)) = param.lent.views(Order::C, strided) else { continue };
            scratch.resize(g.len(), A::ZERO);
            let Ok(mut direction) = ArrayViewMut::from_shape(g.raw_dim(), &mut scratch[..]) else { continue };
            let scale = plan.scale * param.factor;
            Zip::from(&mut direction).and(&g).for_each(|direction, &g| *direction = scale * g);

            let ndim = entry.shape.as_slice().len();
            let whole = Whole {
                name: &entry.name,
                p: trimmed(p.view(), ndim),
                g: trimmed(direction.view_mut(), ndim),
                factors: &mut entry.factors,
                parallel: *parallel,
            };
            // Without elements there is nothing to replace, and an axis can be too long to be walked.
            if !whole.p.is_empty() {
                entry.scalars = config.direct(&now, whole);
            }
            entry.t += 1;

            let gathered = Mutex::new(Totals::default());
            let watch = watch.get(entry.group);
            let at = At { first: !entry.begun, scale: A::one(), watch: watch.map(|_| &gathered) };
            entry.begun = true;
            let mut views = [None];
            let lent = Lent::new(p.view_mut(), direction.view(), 0, |pair| views = [Some(pair)]);
            let (Ok(mut lent), Some(&kernel)) = (lent, plan.kernel(entry.t, entry.scalars)) else { continue };
            let order = entry.order;
            if let Some(task) = Task::borrow(&mut lent, order, &mut views, entry.arrays()) {
                run_one(task, kernel, at, parallel);
            }
            if let Some(watch) = watch {
                // The sweep saw the direction in the place of the gradient.
                let mut totals = *lock(&gathered);
                totals.gradient = g.iter().map(|g| g.f64() * g.f64()).sum();
                totals.non_finite = g.iter().filter(|g| !g.is_finite()).count() as u64;
                *lock(watch) += totals;
            }
        }
    }
}

impl<A: Element> Entry<A> {
    /// Begins the factors.
    pub(super) fn allocate_factors<C: Config>(&mut self, config: &C) {
        let factors = factors(config, self.shape.as_slice()).unwrap_or_default();
        self.factor_names = factors.iter().map(|&(name, _)| name).collect();
        self.factors = factors.iter().map(|(_, shape)| ArrayD::from_elem(IxDyn(shape), A::ZERO)).collect();
    }
}
