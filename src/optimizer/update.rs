//! Creating an optimizer, and the ways to perform a step.
use super::{
    Optimizer, Outcome, accumulate::Accumulation, group::Groups, param_table::ParamTable,
    pass::flushes, step::next_step,
};
use crate::{
    algorithm::Recipe,
    array::{Element, layout::Order, monomorphize},
    error::Error,
    kernel::{Parallel, pool},
    named_arrays::{NamedArrays, NamedArraysMut},
    params::{Grad, Param, Params, StepInput, UNNAMED},
    policy::{Limits, NonFinite},
};
use ndarray::{ArrayRef, ArrayView, ArrayView1, ArrayViewMut, ArrayViewMut1, Dimension};
use std::{
    borrow::{BorrowMut, Cow},
    mem::take,
};

impl<A: Element> Optimizer<A> {
    /// Creates an optimizer with this algorithm: a plain one, one in wrappers
    /// ([`Compose`](crate::Compose)), or one that was read from a file
    /// ([`AnyAlgorithm`](crate::AnyAlgorithm)).
    ///
    /// The hyper-parameters are checked by the first step.
    pub fn new(algorithm: impl Into<Recipe<A>>) -> Self {
        let recipe: Recipe<A> = algorithm.into();
        monomorphize!(A, <>, (recipe: Recipe<A>) -> Optimizer<A> {
            Optimizer::from_recipe(recipe)
        })
    }

    fn from_recipe(recipe: Recipe<A>) -> Self {
        Optimizer {
            non_finite: NonFinite::default(),
            limits: Limits::default(),
            clip: None,
            watch: false,
            parallel: Parallel::default(),
            groups: Groups::new(recipe.0),
            table: ParamTable::new(),
            accumulation: Accumulation::off(),
            copies: Vec::new(),
            grad_norm: None,
            stats: Vec::new(),
            skipped: 0,
            steps: 0,
        }
    }

    /// Performs a step for a single array, which needs no name.
    ///
    /// An optimizer that is used like this belongs to that one array; use [`step`](Optimizer::step)
    /// for several arrays. A second array of another shape is an error; one of the same shape
    /// cannot be told from the first, and would share its moments and its step count. `param` and
    /// `grad` are arrays or views with the same element type and dimension. For slices there is
    /// [`update_slice`](Optimizer::update_slice).
    ///
    /// With [`Adam`](crate::Adam) and its relatives a step moves each element by about `lr`, in the
    /// parameter's own unit, whatever the scale of `grad`. If debug builds are slow, compile the
    /// dependencies with optimization: see [`Optimizer`].
    ///
    /// ```
    /// use ndarray::{array, s};
    /// use ndarray_optim::{Momentum, Optimizer};
    ///
    /// let mut theta = array![[1.0, 2.0], [3.0, 4.0]];
    /// let grad = array![[1.0, 1.0], [1.0, 1.0]];
    /// Optimizer::new(Momentum::new(0.1)).update(&mut theta, &grad)?;
    /// Optimizer::new(Momentum::new(0.1)).update(&mut theta.slice_mut(s![.., 0]), &grad.row(0))?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step); messages call the array [`UNNAMED`].
    #[inline]
    pub fn update<D: Dimension>(
        &mut self,
        param: &mut ArrayRef<A, D>,
        grad: &(impl Grad<A, D> + ?Sized),
    ) -> Result<Outcome, Error> {
        let grad = grad.grad();
        if param.shape() == grad.shape()
            && let (Some(p), Some(g)) = (param.as_slice_mut(), grad.as_slice())
            && self.fast_update(grad.shape(), p, g).is_some()
        {
            return Ok(Outcome::Applied);
        }
        self.run_unnamed(param.view_mut(), grad, None)
    }

    /// As [`update`](Optimizer::update), for slices.
    ///
    /// ```
    /// use ndarray_optim::{Optimizer, Sgd};
    ///
    /// let mut theta = vec![1.0, 2.0];
    /// Optimizer::new(Sgd::new(1.0)).update_slice(&mut theta, &[0.5, 0.5])?;
    /// assert_eq!(theta, [0.5, 1.5]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update`](Optimizer::update).
    pub fn update_slice(&mut self, param: &mut [A], grad: &[A]) -> Result<Outcome, Error> {
        self.update(&mut ArrayViewMut1::from(param), &ArrayView1::from(grad))
    }

    /// As [`update_slice`](Optimizer::update_slice), with the value of the objective at `param`.
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step).
    pub fn update_slice_with_loss(
        &mut self,
        param: &mut [A],
        grad: &[A],
        loss: f64,
    ) -> Result<Outcome, Error> {
        let (mut param, grad) = (ArrayViewMut1::from(param), ArrayView1::from(grad));
        self.update_with_loss(&mut param, &grad, loss)
    }

    /// As [`update`](Optimizer::update), with the value of the objective at `param`, for algorithms
    /// that use the loss.
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step).
    pub fn update_with_loss<D: Dimension>(
        &mut self,
        param: &mut ArrayRef<A, D>,
        grad: &(impl Grad<A, D> + ?Sized),
        loss: f64,
    ) -> Result<Outcome, Error> {
        self.run_unnamed(param.view_mut(), grad.grad(), Some(loss))
    }

    /// Performs a step for all parameters in `params`.
    ///
    /// A step need not contain every parameter, and new parameters may appear in any step: each has
    /// its own step count. Averages over a window ([`Swa`](crate::wrap::Swa)) and
    /// [`Lookahead`](crate::wrap::Lookahead) count the steps of the optimizer, where steps in a row
    /// without a common parameter, such as one for each layer, count as one.
    ///
    /// # Errors
    ///
    /// The [`Error`] says what is wrong: a hyper-parameter out of range, a repeated name, a shape
    /// that differs from earlier steps, or a non-finite gradient with [`NonFinite::Error`]. Nothing
    /// is changed then.
    pub fn step<'a>(
        &mut self,
        mut params: impl BorrowMut<Params<'a, A>>,
    ) -> Result<Outcome, Error> {
        self.run_step(take(params.borrow_mut()).input())
    }

    /// Performs a step for all arrays of a model, with gradients of the same names.
    ///
    /// ```
    /// use ndarray_optim::{Momentum, Optimizer, named_arrays};
    ///
    /// #[derive(Clone)]
    /// struct Oscillator {
    ///     amplitude: f64,
    ///     decay: f64,
    /// }
    /// named_arrays!(impl NamedArrays<f64> for Oscillator { amplitude, decay });
    ///
    /// let mut model = Oscillator { amplitude: 1.0, decay: 0.5 };
    /// let grads = Oscillator { amplitude: 2.0, decay: -1.0 };
    /// Optimizer::new(Momentum::new(0.1)).step_with(&mut model, &grads)?;
    /// assert!(model.amplitude < 1.0 && model.decay > 0.5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Params::of`] and [`step`](Optimizer::step).
    pub fn step_with(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        grads: &(impl NamedArrays<A> + ?Sized),
    ) -> Result<Outcome, Error> {
        self.step(Params::of(model, grads)?)
    }

    #[inline]
    fn run_unnamed<'a, D: Dimension>(
        &mut self,
        param: ArrayViewMut<'a, A, D>,
        grad: ArrayView<'a, A, D>,
        loss: Option<f64>,
    ) -> Result<Outcome, Error> {
        let mut strided = [None];
        let param = Param::new(Cow::Borrowed(UNNAMED), param, Some(grad), 0, |views| {
            strided = [Some(views)]
        })?;
        self.run_step(StepInput {
            params: &mut [param],
            strided: &mut strided,
            loss,
            weight: 1.0,
            exchange: None,
        })
    }

    pub(super) fn run_step(&mut self, input: StepInput<'_, '_, A>) -> Result<Outcome, Error> {
        let optimizer = self;
        monomorphize!(
            A, <'o, 'l, 'a: 'l>,
            (optimizer: &'o mut Optimizer<A>, input: StepInput<'l, 'a, A>)
                -> Result<Outcome, Error> { optimizer.run(input) }
        )
    }

    /// Fast path of `update` for a single row-major array that is small enough for one thread, when
    /// nothing has changed since the previous step. `None` if the general path has to be taken,
    /// whose checks take as long as the arithmetic on a hundred elements.
    #[inline]
    fn fast_update(&mut self, shape: &[usize], p: &mut [A], g: &[A]) -> Option<()> {
        let optimizer = self;
        monomorphize!(
            A, <'o>,
            (optimizer: &'o mut Optimizer<A>, shape: &'o [usize], p: &'o mut [A], g: &'o [A])
                -> Option<()> { optimizer.fast_update_here(shape, p, g) }
        )
    }

    #[inline]
    fn fast_update_here(&mut self, shape: &[usize], p: &mut [A], g: &[A]) -> Option<()> {
        let ([entry], [slot]) = (&mut self.table.entries[..], &mut self.groups.list[..]) else {
            return None;
        };
        let same_array = entry.begun
            && !entry.swapped
            && entry.last == self.steps
            && !entry.begins_average
            && entry.order == Order::C
            && entry.shape.is(shape)
            && *entry.name == *UNNAMED;
        let no_extras = self.clip.is_none()
            && !self.watch
            && self.stats.is_empty()
            && self.accumulation.every == 1;
        let work = pool::work(p.len(), slot.requirements.cost);
        if !(slot.sweep_only && same_array && no_extras)
            || self.non_finite != NonFinite::Propagate
            || self.limits.norm.is_some()
            || self.skipped != 0
            || self.parallel.is_large(work)
        {
            return None;
        }
        slot.now = next_step(self.steps);
        let mut step = entry.next_step(slot, f64::NAN);
        if !(slot.engine).repeat(&mut step, p, g, entry.arrays()) {
            return None;
        }
        if flushes(step.t) {
            entry.arrays().flush(&slot.requirements.floors);
        }
        (entry.t, entry.joined, entry.last) = (step.t, step.clock.joined, slot.now);
        entry.scalars = step.scalars;
        (self.steps, self.grad_norm) = (slot.now, None);
        Some(())
    }
}
