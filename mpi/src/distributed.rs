//! An optimizer whose steps all ranks make together.
use crate::{
    Error, Number, Ranks, Round,
    across::Across,
    agree::{agree, same, with_source},
    layout::Layout,
    ranks::Kind,
    values::{broadcast, copy_owned, gather, name_in_set, named},
};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, IxDyn};
use ndarray_optim::{NamedArrays, NamedArraysMut, NonFinite, Optimizer, Outcome, Params};
use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hasher},
    mem,
};

/// What each rank keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every rank keeps the state of all parameters, and makes the whole step.
    Replicated,
    /// Every rank keeps the state of its share of the elements, updates these, and sends them to
    /// all others: ZeRO, stage 1.
    Sharded,
}

/// How the gradients of the ranks become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Their mean, weighted by [`Batch::weight`].
    #[default]
    Mean,
    /// Their sum, for losses that are sums over rows.
    Sum,
}

/// What a rank knows of its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    /// The weight of its gradient and loss in the mean, and in a round of accumulation: the number of
    /// rows, where ranks have batches of different size, and 0 for a rank without any. Default: 1.
    pub weight: f64,
    /// The loss, for algorithms that use it.
    pub loss: Option<f64>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            weight: 1.0,
            loss: None,
        }
    }
}

/// Settings of a [`Distributed`] optimizer, the same on all ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// What each rank keeps.
    pub mode: Mode,
    /// How gradients are added up. Default: their mean.
    pub reduction: Reduction,
    /// Size of a message in bytes: each rank sends a bucket as soon as it has all gradients of it.
    /// Default: 1 MiB.
    pub bucket: usize,
}

impl Config {
    /// The default settings in this mode.
    pub fn new(mode: Mode) -> Self {
        Config {
            mode,
            reduction: Reduction::default(),
            bucket: 1 << 20,
        }
    }
}

/// An optimizer whose steps all ranks make together, with the mean of their gradients.
///
/// ```no_run
/// use ndarray::array;
/// use ndarray_optim::{AdamW, Optimizer};
/// use ndarray_optim_mpi::{Batch, Config, Distributed, Mode, Ranks};
/// use std::time::Duration;
///
/// let ranks = Ranks::start(Duration::from_secs(60))?;
/// let mut model = array![[1.0, 2.0], [3.0, 4.0]];
/// let adamw = Optimizer::new(AdamW::new(1e-3));
/// let mut optimizer = Distributed::new(&ranks, Config::new(Mode::Sharded), adamw, &model)?;
/// for _ in 0..100 {
///     let grad = 2.0 * &model; // of the rows of this rank
///     optimizer.step(&mut model, &grad, Batch { weight: 32.0, loss: None })?;
/// }
/// # Ok::<(), ndarray_optim_mpi::Error>(())
/// ```
///
/// # Results
///
/// For a given number of ranks the bits are always the same, on all ranks and in both modes. The
/// gradients of an element are added up in the order of the ranks with more digits than the element
/// has, and rounded once; everything after that is the arithmetic of one process, bit for bit: where
/// the mean is the gradient of the full batch, so are the parameters. Only the matrix products of
/// [`Muon`](ndarray_optim::Muon), `Shampoo` and `Soap` depend on the machine.
///
/// # Checks
///
/// Ranks tell each other in every step whether their input is valid and which hyper-parameters they
/// have. After [`Error::OnRank`] and [`Error::Differs`] nothing has changed on any rank, and another
/// step can follow. All other errors of a step end the common work: the parameters are those before
/// the step, but the state of the optimizer may not be.
///
/// A non-finite gradient of one rank is an error on all of them, unless
/// [`NonFinite::Skip`] asks to skip the step: it would be a non-finite gradient of all.
#[derive(Debug)]
pub struct Distributed<'r, A: Number> {
    pub(crate) ranks: &'r Ranks,
    pub(crate) config: Config,
    pub(crate) optimizer: Optimizer<A>,
    pub(crate) layout: Layout,
    /// The elements that this rank owns, by parameter: mean gradients and new values.
    pub(crate) grads: Vec<Vec<A>>,
    values: Vec<Vec<A>>,
    /// The mean gradients of all parameters, in a replicated step.
    full: Vec<ArrayD<A>>,
    pub(crate) skipped: u64,
    /// The settings that the layout has been compared with.
    settings: u64,
    broken: Option<String>,
}

/// A line of text for each array of a model.
fn lines<A>(
    model: &(impl NamedArrays<A> + ?Sized),
    line: impl Fn(&str, &ArrayViewD<'_, A>) -> String,
) -> String {
    let mut lines = Vec::new();
    model.visit(&mut |name, array| lines.push(line(named(&name), &array)));
    lines.join("\n")
}

/// The parameters of a model, sorted by name.
fn shapes<A>(model: &(impl NamedArrays<A> + ?Sized)) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    model.visit(&mut |name, array| shapes.push((named(&name).to_owned(), array.shape().to_vec())));
    shapes.sort();
    shapes
}

/// What the construction is called in errors.
const NEW: &str = "the construction of an optimizer";

impl<'r, A: Number> Distributed<'r, A> {
    /// Creates the optimizer of all ranks. `optimizer` has the same groups and hyper-parameters on
    /// all ranks, and no state yet; `model` has the same names and shapes.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] if ranks differ, [`Error::OnRank`] for a shape or a hyper-parameter that
    /// the algorithm does not support, or those of the connection.
    pub fn new(
        ranks: &'r Ranks,
        config: Config,
        mut optimizer: Optimizer<A>,
        model: &(impl NamedArrays<A> + ?Sized),
    ) -> Result<Self, Error> {
        let shapes = shapes(model);
        let problem = check(&optimizer, &shapes).err();
        let problem = problem.or_else(|| {
            let divide = |(name, shape): &(String, Vec<usize>)| optimizer.division(name, shape);
            let mut divisions = shapes.iter().map(divide);
            divisions.find_map(|division| division.err().map(|error| with_source(&error)))
        });
        agree(ranks, problem, NEW)?;
        let divide = |(name, shape): (String, Vec<usize>)| {
            let mut division = optimizer.division(&name, &shape)?;
            // The mean of a gradient is computed by parts in any case.
            division.whole &= config.mode == Mode::Sharded;
            Ok((name, shape, division))
        };
        let divided = shapes.into_iter().map(divide);
        let divided = divided.collect::<Result<_, ndarray_optim::Error>>()?;
        let layout = Layout::new(divided, ranks.size(), config.bucket / size_of::<A>());
        let mut lines = vec![format!("{config:?}")];
        lines.extend(layout.lines::<A>());
        same(ranks, &lines.join("\n"), NEW)?;
        same(ranks, &optimizer.settings(), NEW)?;
        let buffers = || vec![Vec::new(); layout.params.len()];
        Ok(Distributed {
            ranks,
            config,
            optimizer,
            grads: buffers(),
            values: buffers(),
            full: Vec::new(),
            layout,
            skipped: 0,
            settings: 0,
            broken: None,
        })
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the optimizer of this rank. In [`Mode::Sharded`] it holds the state of this rank's
    /// elements.
    pub fn optimizer(&self) -> &Optimizer<A> {
        &self.optimizer
    }

    /// Returns the optimizer of this rank, to change hyper-parameters on all ranks.
    pub fn optimizer_mut(&mut self) -> &mut Optimizer<A> {
        &mut self.optimizer
    }

    /// Returns the ranks.
    pub fn ranks(&self) -> &'r Ranks {
        self.ranks
    }

    /// Returns the number of elements whose state this rank keeps.
    pub fn owned(&self) -> usize {
        match self.config.mode {
            Mode::Replicated => self.layout.params.iter().map(|param| param.len()).sum(),
            Mode::Sharded => self.layout.owned(self.ranks.rank()),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes a step with the mean of the gradients of all ranks.
    ///
    /// # Errors
    ///
    /// See [`Distributed`].
    pub fn step(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        grads: &(impl NamedArrays<A> + ?Sized),
        batch: Batch,
    ) -> Result<Outcome, Error> {
        let mut round = self.begin()?;
        grads.visit(&mut |name, grad| round.add(named(&name), &grad));
        round.finish(model, batch)
    }

    /// Begins a step whose gradients are added one after another. Those that have been added travel
    /// while the next ones are computed.
    ///
    /// ```no_run
    /// # use ndarray::Array2;
    /// # use ndarray_optim_mpi::{Batch, Distributed, Error};
    /// # fn backward(layer: usize) -> Array2<f32> { Array2::from_elem((2, 2), layer as f32) }
    /// # fn f(mut optimizer: Distributed<'_, f32>, mut model: Vec<Array2<f32>>) -> Result<(), Error> {
    /// let mut round = optimizer.begin()?;
    /// for layer in (0..model.len()).rev() {
    ///     round.add(&layer.to_string(), &backward(layer));
    /// }
    /// round.finish(&mut model, Batch::default())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Broken`].
    pub fn begin(&mut self) -> Result<Round<'_, 'r, A>, Error> {
        self.usable()?;
        Ok(Round::new(self))
    }

    /// Runs the checks of a step that need no gradients.
    pub(crate) fn check_step(&mut self, settings: u64, loss: Option<f64>) -> Result<(), String> {
        let (layout, optimizer) = (&self.layout, &mut self.optimizer);
        let params = layout.params.iter();
        let shapes = params.clone().map(|param| (&*param.name, &*param.shape));
        let checked = optimizer.validate(shapes, loss);
        checked.map_err(|error| with_source(&error))?;
        if self.config.mode == Mode::Replicated || self.settings == settings {
            return Ok(());
        }
        for param in params {
            let division = optimizer.division(&param.name, &param.shape);
            let whole = division.map_err(|error| with_source(&error))?.whole;
            if whole && param.is_cut() {
                let name = &param.name;
                return Err(format!(
                    "the algorithm of `{name}` needs the whole array, which is divided among ranks: \
                     add groups before `Distributed::new`"
                ));
            }
        }
        self.settings = settings;
        Ok(())
    }

    pub(crate) fn usable(&self) -> Result<(), Error> {
        let broken = |reason: &String| Err(Error::Broken(reason.clone()));
        self.broken.as_ref().map_or(Ok(()), broken)
    }

    /// Remembers an error that leaves ranks in different states.
    pub(crate) fn noted<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            let harmless = match error {
                Error::OnRank { .. } | Error::Differs { .. } => true,
                // The same on all ranks, before anything has changed.
                Error::Optimizer(_) => self.config.mode == Mode::Replicated,
                _ => false,
            };
            if !harmless {
                self.broken = Some(error.to_string());
            }
        })
    }

    /// Compares checksums of the parameters of all ranks. The error names the first one whose bits
    /// differ.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`], or those of the connection.
    pub fn check_equal(&self, model: &(impl NamedArrays<A> + ?Sized)) -> Result<(), Error> {
        let line = |name: &str, array: &ArrayViewD<'_, A>| {
            let mut hasher = DefaultHasher::new();
            for x in array {
                hasher.write(bytemuck::bytes_of(x));
            }
            let (shape, sum) = (array.shape(), hasher.finish());
            format!("`{name}`: {shape:?} with checksum {sum:016x}")
        };
        same(
            self.ranks,
            &lines(model, line),
            "a comparison of parameters",
        )
    }

    /// Replaces the parameters by those of rank 0.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn broadcast(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
    ) -> Result<(), Error> {
        self.usable()?;
        let line = |name: &str, array: &ArrayViewD<'_, A>| format!("`{name}`: {:?}", array.shape());
        same(self.ranks, &lines(model, line), "a broadcast")?;
        let (ranks, operation) = (self.ranks, self.ranks.operation(Kind::Broadcast));
        let (mut index, mut result) = (0, Ok(()));
        model.visit_mut(&mut |name, mut array| {
            if result.is_ok() {
                result = broadcast(ranks, operation, index, &mut array, named(&name));
            }
            index += 1;
        });
        ranks.retire(operation);
        self.noted(result)
    }

    /// Replaces all arrays by their mean over the ranks, or by their sum: gradients, statistics of
    /// batches, or what else has the names and shapes of the model.
    ///
    /// # Errors
    ///
    /// As [`step`](Distributed::step).
    pub fn all_reduce(
        &mut self,
        arrays: &mut (impl NamedArraysMut<A> + ?Sized),
        weight: f64,
    ) -> Result<(), Error> {
        let mut round = self.begin()?;
        arrays.visit(&mut |name, array| round.add(named(&name), &array));
        let batch = Batch { weight, loss: None };
        let summed = round.sum(batch);
        let of = &mut *round.of;
        let gathered = summed.and_then(|summed| match summed.skips {
            Some(fault) => Err(fault),
            None => gather(of.ranks, &of.layout, &of.grads, arrays),
        });
        of.noted(gathered)
    }

    /// Replaces a copy of the parameters by the points at which to evaluate the model: the averages
    /// of [`Ema`](ndarray_optim::wrap::Ema), [`Swa`](ndarray_optim::wrap::Swa) and the schedule-free
    /// algorithms.
    ///
    /// # Errors
    ///
    /// As [`Optimizer::evaluate`], or those of the connection.
    pub fn evaluate(&mut self, copy: &mut (impl NamedArraysMut<A> + ?Sized)) -> Result<(), Error> {
        self.usable()?;
        let mut problem = self.take_values(copy);
        let rank = match self.config.mode {
            Mode::Replicated => None,
            Mode::Sharded => Some(self.ranks.rank()),
        };
        if let Some(rank) = rank {
            for (param, values) in self.layout.params.iter().zip(&mut self.values) {
                let shape = IxDyn(&param.shape_on(rank));
                if !param.is_on(rank) {
                    continue;
                }
                let view = ArrayViewD::from_shape(shape, values).map_err(|e| e.to_string());
                let point = view.and_then(|view| {
                    let point = self.optimizer.evaluate_param(&param.name, &view);
                    point.map_err(|error| error.to_string())
                });
                match point {
                    Ok(point) => values.clone_from(&point.iter().copied().collect()),
                    Err(error) => problem = problem.or(Some(error)),
                }
            }
        }
        agree(self.ranks, problem, "an evaluation")?;
        let result = match rank {
            Some(_) => gather(self.ranks, &self.layout, &self.values, copy),
            None => {
                let mut result = Ok(());
                copy.visit_mut(&mut |name, mut array| {
                    let point = self.optimizer.evaluate_param(named(&name), &array);
                    match point {
                        Ok(point) => array.assign(&point),
                        Err(error) => result = Err(error.into()),
                    }
                });
                result
            }
        };
        self.noted(result)
    }

    /// Copies the elements of a model that this rank owns. Returns what is wrong with the model.
    pub(crate) fn take_values(&mut self, model: &(impl NamedArrays<A> + ?Sized)) -> Option<String> {
        let rank = match self.config.mode {
            Mode::Replicated => None,
            Mode::Sharded => Some(self.ranks.rank()),
        };
        copy_owned(&self.layout, rank, model, &mut self.values)
    }

    /// Makes the step, with the mean gradients of the elements of this rank.
    pub(crate) fn apply(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        loss: Option<f64>,
        weight: f64,
    ) -> Result<Outcome, Error> {
        match self.config.mode {
            Mode::Replicated => self.apply_replicated(model, loss, weight),
            Mode::Sharded => self.apply_sharded(model, loss, weight),
        }
    }

    fn apply_replicated(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        loss: Option<f64>,
        weight: f64,
    ) -> Result<Outcome, Error> {
        if self.full.is_empty() {
            let shapes = self.layout.params.iter().map(|param| IxDyn(&param.shape));
            self.full = shapes
                .map(|shape| ArrayD::from_elem(shape, A::ZERO))
                .collect();
        }
        let mut set = NamedSet {
            layout: &self.layout,
            arrays: &mut self.full,
        };
        gather(self.ranks, &self.layout, &self.grads, &mut set)?;
        let (layout, full) = (&self.layout, &self.full);
        let (mut params, mut added) = (Params::new(), Ok(()));
        model.visit_mut(&mut |name, array| {
            if let (Some(i), Ok(())) = (layout.find(named(&name)), &added) {
                let name = &*layout.params[i].name;
                added = params.add_view(name, array, full[i].view()).map(|_| ());
            }
        });
        added?;
        params.weight(weight);
        if let Some(loss) = loss {
            params.loss(loss);
        }
        Ok(self.optimizer.step(params)?)
    }

    fn apply_sharded(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        loss: Option<f64>,
        weight: f64,
    ) -> Result<Outcome, Error> {
        let rank = self.ranks.rank();
        let mut params = Params::new();
        let owned = self.layout.params.iter();
        let arrays = owned.zip(&mut self.values).zip(&self.grads);
        for ((param, values), grads) in arrays {
            if !param.is_on(rank) {
                continue;
            }
            let shape = IxDyn(&param.shape_on(rank));
            let view = ArrayViewMutD::from_shape(shape.clone(), values);
            let grad = ArrayViewD::from_shape(shape, grads);
            // Both have the shape by construction.
            if let (Ok(view), Ok(grad)) = (view, grad) {
                params.add_view(&*param.name, view, grad)?;
            }
        }
        params.weight(weight);
        if let Some(loss) = loss {
            params.loss(loss);
        }
        // All ranks have agreed on that before.
        let policy = mem::replace(&mut self.optimizer.non_finite, NonFinite::Propagate);
        let mut across = Across {
            ranks: self.ranks,
            error: None,
        };
        let made = self.optimizer.step_across(params, &mut across);
        self.optimizer.non_finite = policy;
        if let Some(error) = across.error {
            return Err(error);
        }
        let outcome = made.inspect_err(|error| {
            let reason = Error::OnRank {
                rank,
                problem: error.to_string(),
            };
            self.ranks.give_up(&reason);
        })?;
        if outcome == Outcome::Applied {
            gather(self.ranks, &self.layout, &self.values, model)?;
        }
        Ok(outcome)
    }
}

/// The mean gradients of all parameters, by the names of the layout.
struct NamedSet<'s, A> {
    layout: &'s Layout,
    arrays: &'s mut [ArrayD<A>],
}

impl<A: Number> NamedArrays<A> for NamedSet<'_, A> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
        for (param, array) in self.layout.params.iter().zip(&*self.arrays) {
            visit(name_in_set(&param.name).into(), array.view());
        }
    }
}

impl<A: Number> NamedArraysMut<A> for NamedSet<'_, A> {
    fn visit_mut<'a>(&'a mut self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>)) {
        for (param, array) in self.layout.params.iter().zip(&mut *self.arrays) {
            visit(name_in_set(&param.name).into(), array.view_mut());
        }
    }
}

/// Settings that a distributed optimizer cannot have.
fn check<A: Number>(
    optimizer: &Optimizer<A>,
    shapes: &[(String, Vec<usize>)],
) -> Result<(), String> {
    if let Some(twice) = shapes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("parameter `{}` appears twice", twice[0].0));
    }
    if !optimizer.state_view().params.is_empty() {
        return Err("the optimizer has a state already: load it from a checkpoint".into());
    }
    Ok(())
}

impl<A: Number> Distributed<'_, A> {
    /// Counts a step that is skipped.
    pub(crate) fn skip(&mut self, reason: Error) -> Result<Outcome, Error> {
        self.skipped += 1;
        match self.optimizer.limits.skipped {
            Some(limit) if self.skipped > limit => {
                let Error::OnRank { rank, problem } = reason else {
                    return Err(reason);
                };
                let skipped = self.skipped;
                let problem = format!("{problem}; {skipped} steps in a row have been skipped");
                Err(Error::OnRank { rank, problem })
            }
            _ => Ok(Outcome::Skipped),
        }
    }
}
