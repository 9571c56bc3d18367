//! The one optimizer type: it owns the state of every parameter, and makes steps with the algorithms of its groups.
//!
//! Nothing here is generic over algorithms: each is an [`Engine`](crate::algorithm::Engine).
mod accumulate;
mod averages;
mod clip;
mod curvature;
mod evaluating;
mod group;
mod ledger;
mod load;
mod members;
mod report;
mod rows;
mod sam;
mod save;
mod schedules;
mod step;
mod whole;

pub use evaluating::Evaluating;
pub use group::Group;
pub use report::GroupReport;
pub use sam::{Ascended, Sam};

use crate::{
    algorithm::{Recipe, StepInfo},
    array::{
        Element, compiled_here,
        layout::{Order, Shape},
    },
    difference::{Difference, Report},
    error::Error,
    kernel::Parallel,
    params::{Lending, Param, Params},
    policy::{Limits, NonFinite},
    state::{StateDict, StateView},
    wrap::ClipByGlobalNorm,
};
use accumulate::Accumulation;
use group::Groups;
use ledger::{Ledger, UNNAMED};
use ndarray::{ArrayD, ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Dimension};
use std::{borrow::Cow, fmt};

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was made.
    Applied,
    /// It was skipped because of its gradients ([`NonFinite::Skip`]).
    Skipped,
    /// Its gradients were added to those of earlier calls ([`Optimizer::set_accumulation`]).
    Accumulated,
}

/// An optimizer for arrays of `A`, which is `f32` or `f64`: an algorithm with its hyper-parameters, and the state of every
/// parameter it has seen. Any algorithm makes the same type: a function that fits something takes `&mut Optimizer<f64>`.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Adam, Compose, Optimizer};
///
/// let mut optimizer = Optimizer::new(Adam::new(0.1));
/// let mut theta = array![1.0, -2.0];
/// optimizer.update(&mut theta, &array![0.5, -0.25])?;
///
/// optimizer.algorithm_mut::<Adam>().unwrap().betas.0 = 0.8; // from the next step on
/// optimizer.update(&mut theta, &array![0.5, -0.25])?;
///
/// let in_wrappers: Optimizer<f32> = Optimizer::new(Adam::new(0.1).clip_by_value(1.0).ema(0.99));
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// The element type is part of the type, so it cannot change between steps:
///
/// ```compile_fail
/// use ndarray::array;
/// use ndarray_optim::{Adam, Optimizer};
///
/// let mut adam = Optimizer::new(Adam::new(1e-3));
/// adam.update(&mut array![1.0_f32], &array![1.0_f32]).unwrap();
/// adam.update(&mut array![1.0_f64], &array![1.0_f64]).unwrap(); // expected `f32`, found `f64`
/// ```
#[derive(Clone)]
pub struct Optimizer<A: Element> {
    /// What to do about infinite or NaN gradients.
    pub non_finite: NonFinite,
    /// When gradients count as exploding, and how often steps may be skipped.
    pub limits: Limits,
    /// Clipping by the norm of the gradients of all groups together, before anything else.
    pub clip: Option<ClipByGlobalNorm>,
    /// Whether steps gather what [`report`](Optimizer::report) tells.
    pub watch: bool,
    /// When to use threads.
    pub parallel: Parallel,
    groups: Groups<A>,
    ledger: Ledger<A>,
    accumulation: Accumulation<A>,
    /// The direction of one array, where steps begin with one; the rows of a step of rows.
    scratch: Vec<A>,
    grad_norm: Option<f64>,
    report: Vec<GroupReport>,
    /// Steps skipped since the last one that was made.
    skipped: u64,
}

impl<A: Element> Optimizer<A> {
    /// An optimizer with this algorithm: one by itself, in wrappers ([`Compose`](crate::Compose)), or one that a file describes
    /// ([`AnyAlgorithm`](crate::AnyAlgorithm)). The first step checks its hyper-parameters.
    pub fn new(algorithm: impl Into<Recipe<A>>) -> Self {
        let recipe: Recipe<A> = algorithm.into();
        compiled_here!(A, <>, (recipe: Recipe<A>) -> Optimizer<A> { Optimizer::of(recipe) })
    }

    fn of(recipe: Recipe<A>) -> Self {
        Optimizer {
            non_finite: NonFinite::default(),
            limits: Limits::default(),
            clip: None,
            watch: false,
            parallel: Parallel::default(),
            groups: Groups::new(recipe.0),
            ledger: Ledger::new(),
            accumulation: Accumulation::none(),
            scratch: Vec::new(),
            grad_norm: None,
            report: Vec::new(),
            skipped: 0,
        }
    }

    /// One step for one array: no name needed. An optimizer used like this belongs to that one array; use
    /// [`step`](Optimizer::step) for more.
    ///
    /// `param` and `grad` are arrays, views or, with one axis, slices:
    ///
    /// ```
    /// use ndarray::{array, s};
    /// use ndarray_optim::{Momentum, Optimizer};
    ///
    /// let mut theta = array![[1.0, 2.0], [3.0, 4.0]];
    /// let grad = array![[1.0, 1.0], [1.0, 1.0]];
    /// Optimizer::new(Momentum::new(0.1)).update(&mut theta, &grad)?;
    /// Optimizer::new(Momentum::new(0.1)).update(theta.slice_mut(s![.., 0]), grad.row(0))?;
    /// let mut plain = vec![1.0, 2.0];
    /// Optimizer::new(Momentum::new(0.1)).update(&mut plain[..], &[0.5, 0.5])?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step); the array is called `variable` in messages.
    #[inline]
    pub fn update<'a, D: Dimension>(
        &mut self,
        param: impl Into<ArrayViewMut<'a, A, D>>,
        grad: impl Into<ArrayView<'a, A, D>>,
    ) -> Result<Outcome, Error> {
        let (mut param, grad) = (param.into(), grad.into());
        if param.shape() == grad.shape()
            && let Some(shape) = Shape::new(param.shape())
            && let (Some(p), Some(g)) = (param.as_slice_mut(), grad.as_slice())
            && self.repeat(&shape, p, g).is_some()
        {
            return Ok(Outcome::Applied);
        }
        self.run_unnamed(param, grad, None)
    }

    /// As [`update`](Optimizer::update), with the value of the objective at `param`, for algorithms that use it.
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step).
    pub fn update_with_loss<'a, D: Dimension>(
        &mut self,
        param: impl Into<ArrayViewMut<'a, A, D>>,
        grad: impl Into<ArrayView<'a, A, D>>,
        loss: f64,
    ) -> Result<Outcome, Error> {
        self.run_unnamed(param.into(), grad.into(), Some(loss))
    }

    /// One step for all of `params`. Parameters may be left out of a step and new ones may appear later: each has its own
    /// step count.
    ///
    /// # Errors
    ///
    /// [`Error`] says what is wrong: a hyper-parameter out of range, a repeated name, a shape that differs from earlier steps,
    /// a gradient that is not finite if [`NonFinite::Error`] was asked for. Nothing has changed then.
    pub fn step(&mut self, mut params: Params<'_, A>) -> Result<Outcome, Error> {
        self.run_lent(params.lend())
    }

    /// One step for some rows of a parameter, such as those of an embedding table that a batch has looked up: rows `indices`
    /// along the first axis have the gradients `rows`, of the shape `[indices.len(), rest of the parameter's shape]`. Where an
    /// index is repeated, its rows are summed first, in the order given.
    ///
    /// Only the rows that appear change, they and their state: the others keep their values and moments, undecayed, and weight
    /// decay acts on the rows that appear. The step count is the one of the parameter, so it counts calls, also one with no
    /// indices; bias corrections, `lr_decay` and the first step without `dampening` go by it. State is that of
    /// [`step`](Optimizer::step) under the same name, and both kinds of steps may alternate; with all rows they are the
    /// same, bit for bit.
    ///
    /// It is there for algorithms that say so ([`Algorithm::ROW_WISE`](crate::Algorithm::ROW_WISE)): [`Sgd`](crate::Sgd),
    /// [`Adam`](crate::Adam) and [`Adagrad`](crate::Adagrad), those that other libraries have in this form, and not in wrappers:
    /// an average, a lookahead or a bound of a table is one of all of its rows in every step. [`Adam`](crate::Adam) does what
    /// `torch.optim.SparseAdam` does, but for the place of eps: there it is next to the root that is not corrected for its
    /// bias. In torch the momentum buffer of `Sgd` decays in all rows.
    ///
    /// After the first call, which allocates the state of the whole parameter, the cost is in proportion to the rows that
    /// appear; they are copied together with their state, and the copy's memory is kept for the next call.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Sgd};
    ///
    /// let mut table = array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
    /// let mut sgd = Optimizer::new(Sgd::new(0.5));
    /// sgd.update_rows("table", &mut table, &[2, 0, 2], &array![[1.0, 0.0], [2.0, 2.0], [1.0, 4.0]])?;
    /// assert_eq!(table, array![[0.0, 0.0], [2.0, 2.0], [2.0, 1.0]]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`], [`Error::Shape`] for a parameter without axes, [`Error::RowShape`], [`Error::RowIndex`], else as
    /// [`step`](Optimizer::step); nothing has changed then. [`NonFinite`], `limits` and `clip` look at the sums of the rows; calls
    /// of an accumulation cannot be of rows.
    pub fn update_rows<'p, 'r, D: Dimension>(
        &mut self,
        name: &str,
        param: impl Into<ArrayViewMut<'p, A, D>>,
        indices: &[usize],
        rows: impl Into<ArrayView<'r, A, D>>,
    ) -> Result<Outcome, Error> {
        let (optimizer, param, rows) = (self, param.into().into_dyn(), rows.into().into_dyn());
        compiled_here!(
            A, <'o, 'p, 'r>,
            (optimizer: &'o mut Optimizer<A>, name: &'o str, param: ArrayViewMutD<'p, A>, indices: &'o [usize], rows: ArrayViewD<'r, A>)
                -> Result<Outcome, Error> { optimizer.run_rows(name, param, indices, rows) }
        )
    }

    /// Takes estimates of the Hessian's diagonal into the state of algorithms that use them ([`Sophia`](crate::Sophia)):
    /// `params` holds each parameter with its estimate in the place of the gradient. Parameters, other state and step counts
    /// stay as they are; parameters without an estimate may be left out. It may come before the first step.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`], else as [`step`](Optimizer::step), and [`NonFinite`] speaks of the estimates; nothing has changed
    /// then.
    pub fn update_hessian(&mut self, mut params: Params<'_, A>) -> Result<Outcome, Error> {
        let (optimizer, lending) = (self, params.lend());
        compiled_here!(
            A, <'o, 'a: 'o>,
            (optimizer: &'o mut Optimizer<A>, lending: Lending<'o, 'a, A>) -> Result<Outcome, Error> {
                optimizer.run_estimates(lending)
            }
        )
    }

    /// Makes a step of the mean gradient of so many calls, for batches that do not fit at once; 0 and 1: each call is a step.
    /// An unfinished round is forgotten.
    ///
    /// ```text
    /// call i of every:  a <- a + (g - a) / i           a: one array for each parameter
    /// the last call:    a step with a in place of the gradient
    /// ```
    ///
    /// Equal gradients give exactly the step of one of them. A parameter without a gradient in some calls has the mean of the
    /// others; the last call of a round must lend every parameter that had one. Other calls change no parameter and return
    /// [`Outcome::Accumulated`]. Each call is checked as a step is; one that is refused or skipped does not count.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Outcome, Sgd};
    ///
    /// let mut optimizer = Optimizer::new(Sgd::new(0.5));
    /// optimizer.set_accumulation(2);
    /// let mut theta = array![1.0];
    /// assert_eq!(optimizer.update(&mut theta, &array![1.0])?, Outcome::Accumulated);
    /// assert_eq!(optimizer.update(&mut theta, &array![3.0])?, Outcome::Applied);
    /// assert_eq!(theta, array![0.0]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    pub fn set_accumulation(&mut self, every: u32) {
        self.accumulation.every = every.max(1);
        self.accumulation.reset();
    }

    /// How many calls of the current round have been made, and how many make a step.
    pub fn accumulation(&self) -> (u32, u32) {
        (self.accumulation.call, self.accumulation.every)
    }

    /// Forgets the current round of an accumulation.
    pub fn reset_accumulation(&mut self) {
        self.accumulation.reset();
    }

    /// The point to evaluate a model at, for the parameter of this name (`variable` for the array of
    /// [`update`](Optimizer::update)): the parameter itself, but for schedule-free algorithms the average that belongs to it.
    pub fn evaluation(&self, name: &str, param: ArrayViewD<'_, A>) -> ArrayD<A> {
        let optimizer = self;
        compiled_here!(
            A, <'o, 'a>,
            (optimizer: &'o Optimizer<A>, name: &'o str, param: ArrayViewD<'a, A>) -> ArrayD<A> {
                optimizer.evaluate(name, param)
            }
        )
    }

    /// Exchanges a parameter with its average, where a wrapper keeps one ([`Ema`](crate::wrap::Ema),
    /// [`Swa`](crate::wrap::Swa)): to use the model, or to save it, without a copy. Exchange them again before the next step;
    /// a step in between is refused.
    ///
    /// # Errors
    ///
    /// [`Error::NoAverage`], or [`Error::ShapeChanged`].
    pub fn swap_average(&mut self, name: &str, param: ArrayViewMutD<'_, A>) -> Result<(), Error> {
        let optimizer = self;
        compiled_here!(
            A, <'o, 'a>,
            (optimizer: &'o mut Optimizer<A>, name: &'o str, param: ArrayViewMutD<'a, A>) -> Result<(), Error> {
                optimizer.swap(name, param)
            }
        )
    }

    /// What the last step did, by groups, the parameters in no group first; empty if it was not watched
    /// (`watch`, or [`Watch`](crate::wrap::Watch) around an algorithm).
    pub fn report(&self) -> &[GroupReport] {
        &self.report
    }

    /// The norm of all gradients of the last step, if it was taken for clipping (`clip`, or
    /// [`ClipByGlobalNorm`](crate::wrap::ClipByGlobalNorm) around an algorithm).
    pub fn grad_norm(&self) -> Option<f64> {
        self.grad_norm
    }

    /// Everything that is remembered between steps, with the hyper-parameters: see [`state`](crate::state). Arrays are not
    /// copied, which is what saving needs.
    pub fn state_view(&self) -> StateView<'_> {
        let optimizer = self;
        compiled_here!(A, <'o>, (optimizer: &'o Optimizer<A>) -> StateView<'o> { optimizer.save() })
    }

    /// A copy of what [`state_view`](Optimizer::state_view) shows.
    pub fn state_dict(&self) -> StateDict {
        self.state_view().to_owned()
    }

    /// The optimizer that this is the state of, with its groups, from the state alone. [`StateDict::view`] lends a state that
    /// is needed again.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Compose, Optimizer, RmsProp};
    ///
    /// let mut rmsprop = Optimizer::new(RmsProp::default().ema(0.9));
    /// let mut theta = array![1.0_f32, 2.0];
    /// rmsprop.update(&mut theta, &array![0.1, 0.2])?;
    /// let mut same = Optimizer::<f32>::from_state(rmsprop.state_view())?;
    /// same.update(&mut theta, &array![0.1, 0.2])?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::State`]: an algorithm is not in the catalogue, the arrays are of another type than `A`, or what is in the state
    /// does not belong together.
    pub fn from_state(state: StateView<'_>) -> Result<Self, Error> {
        compiled_here!(A, <'s>, (state: StateView<'s>) -> Result<Optimizer<A>, Error> { Optimizer::built(state) })
    }

    /// All that keeps a state from being loaded; empty if it can be.
    pub fn differences(&self, state: &StateView<'_>) -> Vec<Difference> {
        let (optimizer, state) = (self, state.view());
        compiled_here!(A, <'o, 's>, (optimizer: &'o Optimizer<A>, state: StateView<'s>) -> Vec<Difference> {
            let mut state = state;
            optimizer.stage(&mut state).err().unwrap_or_default()
        })
    }

    /// Takes the place of the optimizer that the state is of, hyper-parameters included: the next step has the bits that it
    /// would have had there.
    ///
    /// The optimizer has to have the same groups with the same algorithms, which [`from_state`](Optimizer::from_state) takes
    /// from the state. One that has made steps keeps its parameters, so the state has to have these and no others. Settings of
    /// [`Parallel`], which have no influence on results, stay. Hyper-parameters of an algorithm that is not in the catalogue
    /// are not in the state, and stay too.
    ///
    /// Arrays that the state owns become those of the optimizer without being copied, if they are in its memory order.
    /// [`StateDict::view`] lends a state that is needed again.
    ///
    /// # Errors
    ///
    /// [`Error::State`] with everything that does not fit; nothing has changed then.
    pub fn load_state_dict(&mut self, state: StateView<'_>) -> Result<(), Error> {
        let optimizer = self;
        compiled_here!(A, <'o, 's>, (optimizer: &'o mut Optimizer<A>, state: StateView<'s>) -> Result<(), Error> {
            let mut state = state;
            let staged = optimizer.stage(&mut state).map_err(Error::State)?;
            optimizer.put(&state, staged);
            Ok(())
        })
    }

    /// Takes those parameters of a state that fit, under their names, also from other algorithms whose arrays have the same
    /// names. Hyper-parameters and settings stay; so do parameters that the state does not have. Each parameter is taken as a
    /// whole or not at all, with its step count.
    ///
    /// # Errors
    ///
    /// [`Error::State`] for another version of the format, [`Error::HyperParameter`] for wrong ones of the optimizer.
    pub fn load_matching(&mut self, state: StateView<'_>) -> Result<Report, Error> {
        let optimizer = self;
        compiled_here!(A, <'o, 's>, (optimizer: &'o mut Optimizer<A>, state: StateView<'s>) -> Result<Report, Error> {
            optimizer.take_matching(state)
        })
    }

    #[inline]
    fn run_unnamed<'a, D: Dimension>(
        &mut self,
        param: ArrayViewMut<'a, A, D>,
        grad: ArrayView<'a, A, D>,
        loss: Option<f64>,
    ) -> Result<Outcome, Error> {
        let mut strided = [None];
        let param = Param::new(Cow::Borrowed(UNNAMED), param, Some(grad), 0, |views| strided = [Some(views)])?;
        self.run_lent(Lending { params: &mut [param], strided: &mut strided, loss })
    }

    fn run_lent(&mut self, lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        let optimizer = self;
        compiled_here!(
            A, <'o, 'l, 'a: 'l>,
            (optimizer: &'o mut Optimizer<A>, lending: Lending<'l, 'a, A>) -> Result<Outcome, Error> {
                optimizer.run(lending)
            }
        )
    }

    /// `update` once everything is known to be as in the step before: the one array, row-major, small enough for one thread.
    /// For a hundred elements finding that out through the general path takes as long as the arithmetic. `None`: not so.
    #[inline]
    fn repeat(&mut self, shape: &Shape, p: &mut [A], g: &[A]) -> Option<()> {
        let optimizer = self;
        compiled_here!(
            A, <'o>,
            (optimizer: &'o mut Optimizer<A>, shape: &'o Shape, p: &'o mut [A], g: &'o [A]) -> Option<()> {
                optimizer.repeat_here(shape, p, g)
            }
        )
    }

    #[inline]
    fn repeat_here(&mut self, shape: &Shape, p: &mut [A], g: &[A]) -> Option<()> {
        let ([entry], [slot]) = (&mut self.ledger.entries[..], &mut self.groups.list[..]) else { return None };
        let same =
            entry.begun && !entry.swapped && entry.order == Order::C && entry.shape == *shape && *entry.name == *UNNAMED;
        let unset = self.clip.is_none() && !self.watch && self.report.is_empty() && self.accumulation.every == 1;
        if !(slot.plain && same && unset)
            || self.non_finite != NonFinite::Propagate
            || self.skipped != 0
            || self.parallel.pays(p.len() as u64 * slot.demands.cost)
        {
            return None;
        }
        let at = StepInfo::new(entry.t + 1, entry.scalars, f64::NAN);
        let scalars = slot.engine.repeat(&at, slot.sign, p, g, entry.arrays())?;
        (entry.t, entry.scalars, self.grad_norm) = (entry.t + 1, scalars, None);
        Some(())
    }
}

impl<A: Element> fmt::Debug for Optimizer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups.list[1..].iter().map(|slot| (&slot.name, &slot.engine));
        let steps = self.ledger.entries.iter().map(|entry| (&entry.name, entry.t));
        f.debug_struct("Optimizer")
            .field("algorithm", &self.groups.rest().engine)
            .field("groups", &groups.collect::<Vec<_>>())
            .field("steps", &steps.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
