//! An optimizer whose steps all ranks make together.
use crate::{
    Error, Number, Ranks,
    layout::Layout,
    number::{elements, elements_mut, words_for},
    ranks::{Kind, Operation, text, words},
};
use ndarray::{ArrayD, ArrayRef, ArrayView, ArrayViewD, Dimension, IxDyn};
use ndarray_optim::{
    Exchange, NamedArrays, NamedArraysMut, NonFinite, Optimizer, Outcome, Params, UNNAMED,
    reduce::Sum,
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    sync::Arc,
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
    /// The weight of its gradient and loss in the mean: the number of rows, where ranks have
    /// batches of different size. Default: 1.
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
    ranks: &'r Ranks,
    config: Config,
    optimizer: Optimizer<A>,
    layout: Layout,
    /// The elements that this rank owns, by parameter: mean gradients and new values.
    grads: Vec<Vec<A>>,
    values: Vec<Vec<A>>,
    /// The mean gradients of all parameters, in a replicated step.
    full: Vec<ArrayD<A>>,
    skipped: u64,
    broken: Option<String>,
}

/// The name of an array in a set of named arrays.
pub(crate) fn named(name: &str) -> &str {
    if name.is_empty() { UNNAMED } else { name }
}

/// The parameters of a model, sorted by name.
fn shapes<A>(model: &(impl NamedArrays<A> + ?Sized)) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    model.visit(&mut |name, array| shapes.push((named(&name).to_owned(), array.shape().to_vec())));
    shapes.sort();
    shapes
}

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
        let problem = check(&optimizer, &config, &shapes).err();
        let problem = problem.or_else(|| {
            let divide = |(name, shape): &(String, Vec<usize>)| optimizer.division(name, shape);
            let mut divisions = shapes.iter().map(divide);
            divisions.find_map(|division| division.err().map(|error| with_source(&error)))
        });
        agree(ranks, problem, "the construction of an optimizer")?;
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
        same(ranks, &lines.join("\n"))?;
        same(ranks, &optimizer.settings())?;
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
    /// # use ndarray::{Array1, Array2};
    /// # use ndarray_optim_mpi::{Batch, Distributed, Error};
    /// # fn backward(layer: usize) -> Array2<f32> { unimplemented!() }
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
        let missing = self.layout.buckets.iter().map(|bucket| bucket.params.len());
        Ok(Round {
            operation: self.ranks.operation(Kind::Gradients),
            header: self.ranks.operation(Kind::Header),
            missing: missing.collect(),
            messages: vec![Vec::new(); self.layout.buckets.len()],
            added: vec![false; self.layout.params.len()],
            fault: None,
            finished: false,
            of: self,
        })
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

    /// The largest difference that can be between ranks: an error names the first parameter that
    /// does not have the same bits on all ranks.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`], or those of the connection.
    pub fn check_equal(&self, model: &(impl NamedArrays<A> + ?Sized)) -> Result<(), Error> {
        let mut lines = Vec::new();
        model.visit(&mut |name, array| {
            let mut hasher = DefaultHasher::new();
            for x in array {
                hasher.write(bytemuck::bytes_of(x));
            }
            lines.push(format!(
                "`{}`: checksum {:016x}",
                named(&name),
                hasher.finish()
            ));
        });
        same(self.ranks, &lines.join("\n"))
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
        match summed.and_then(|(_, skips)| match skips {
            None => Ok(()),
            Some(fault) => Err(fault),
        }) {
            Ok(()) => {}
            other => return of.noted(other),
        }
        mem::swap(&mut of.values, &mut of.grads);
        let gathered = of.gather(arrays);
        mem::swap(&mut of.values, &mut of.grads);
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
            Some(_) => self.gather(copy),
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
    fn take_values(&mut self, model: &(impl NamedArrays<A> + ?Sized)) -> Option<String> {
        let rank = match self.config.mode {
            Mode::Replicated => None,
            Mode::Sharded => Some(self.ranks.rank()),
        };
        copy_owned(&self.layout, rank, model, &mut self.values)
    }

    /// Forgets an earlier error, because a checkpoint has been loaded.
    pub(crate) fn mend(&mut self) {
        (self.broken, self.skipped) = (None, 0);
    }

    /// Sends the values that this rank owns to all others, and writes those of all ranks to a model.
    fn gather(&mut self, model: &mut (impl NamedArraysMut<A> + ?Sized)) -> Result<(), Error> {
        let (ranks, layout) = (self.ranks, &self.layout);
        let (me, operation) = (ranks.rank(), ranks.operation(Kind::Values));
        for bucket in 0..layout.buckets.len() {
            let len = layout.len(bucket, me);
            if len == 0 || ranks.size() == 1 {
                continue;
            }
            let mut message = ranks.message(operation, bucket, words_for::<A>(len));
            let out = elements_mut(&mut message[1..], len);
            let mut at = 0;
            for param in layout.buckets[bucket].params.clone() {
                let own = layout.range(bucket, param, me);
                let start = own.start - layout.params[param].range(me).start;
                let values = &self.values[param][start..start + own.len()];
                out[at..at + own.len()].copy_from_slice(values);
                at += own.len();
            }
            let message = Arc::new(message);
            ranks
                .others()
                .for_each(|to| ranks.send(to, message.clone()));
        }
        // Everything has arrived before the first element changes.
        let mut messages = Vec::new();
        for bucket in 0..layout.buckets.len() {
            let mut from_all = Vec::new();
            for rank in 0..ranks.size() {
                let message = if rank == me || layout.len(bucket, rank) == 0 {
                    Vec::new()
                } else {
                    ranks.receive(rank, operation, bucket, || layout.describe(bucket))?
                };
                from_all.push(message);
            }
            messages.push(from_all);
        }
        ranks.retire(operation);
        let values = &self.values;
        model.visit_mut(&mut |name, mut array| {
            let Some(i) = layout.find(named(&name)) else {
                return;
            };
            let write = |to: &mut [A]| {
                let param = &layout.params[i];
                to[param.range(me)].copy_from_slice(&values[i]);
                for bucket in param.buckets.clone() {
                    for (rank, message) in messages[bucket].iter().enumerate() {
                        if !message.is_empty() {
                            let range = layout.range(bucket, i, rank);
                            let all = elements(&message[1..], layout.len(bucket, rank));
                            let at = layout.offset(bucket, i, rank);
                            let len = range.len();
                            to[range].copy_from_slice(&all[at..at + len]);
                        }
                    }
                }
            };
            match array.as_slice_mut() {
                Some(slice) => write(slice),
                None => {
                    let mut row_major = vec![A::ZERO; array.len()];
                    write(&mut row_major);
                    array.iter_mut().zip(row_major).for_each(|(to, x)| *to = x);
                }
            }
        });
        messages
            .into_iter()
            .flatten()
            .for_each(|message| ranks.recycle(message));
        Ok(())
    }

    /// Makes the step, with the mean gradients of the elements of this rank.
    fn apply(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        loss: Option<f64>,
    ) -> Result<Outcome, Error> {
        match self.config.mode {
            Mode::Replicated => self.apply_replicated(model, loss),
            Mode::Sharded => self.apply_sharded(model, loss),
        }
    }

    fn apply_replicated(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        loss: Option<f64>,
    ) -> Result<Outcome, Error> {
        if self.full.is_empty() {
            let shapes = self.layout.params.iter().map(|param| IxDyn(&param.shape));
            self.full = shapes
                .map(|shape| ArrayD::from_elem(shape, A::ZERO))
                .collect();
        }
        let mut full = mem::take(&mut self.full);
        let mut set = NamedSet {
            layout: &self.layout.clone(),
            arrays: &mut full,
        };
        mem::swap(&mut self.values, &mut self.grads);
        let gathered = self.gather(&mut set);
        mem::swap(&mut self.values, &mut self.grads);
        let made = gathered.and_then(|()| {
            let mut params = Params::of(model, &set)?;
            if let Some(loss) = loss {
                params.loss(loss);
            }
            Ok(self.optimizer.step(params)?)
        });
        self.full = full;
        made
    }

    fn apply_sharded(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        loss: Option<f64>,
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
            let view = ndarray::ArrayViewMutD::from_shape(shape.clone(), values);
            let grad = ArrayViewD::from_shape(shape, grads);
            // Both have the shape by construction.
            if let (Ok(view), Ok(grad)) = (view, grad) {
                params.add_view(&*param.name, view, grad)?;
            }
        }
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
            self.gather(model)?;
        }
        Ok(outcome)
    }
}

/// Copies the elements of a model that a rank owns, if there is one. Returns what is wrong with the
/// model.
pub(crate) fn copy_owned<A: Number>(
    layout: &Layout,
    rank: Option<usize>,
    model: &(impl NamedArrays<A> + ?Sized),
    values: &mut [Vec<A>],
) -> Option<String> {
    let (mut problem, mut seen) = (None, vec![false; layout.params.len()]);
    model.visit(
        &mut |name, array| match known(layout, named(&name), array.shape()) {
            Ok(i) => {
                seen[i] = true;
                let Some(rank) = rank else {
                    return;
                };
                let range = layout.params[i].range(rank);
                let to = &mut values[i];
                to.clear();
                match array.as_slice() {
                    Some(all) => to.extend_from_slice(&all[range]),
                    None => to.extend(array.iter().skip(range.start).take(range.len())),
                }
            }
            Err(error) => problem = problem.take().or(Some(error)),
        },
    );
    let missing = seen.iter().position(|seen| !seen);
    problem.or_else(|| missing.map(|i| format!("parameter `{}` is missing", layout.params[i].name)))
}

/// The mean gradients of all parameters, by the names of the layout.
struct NamedSet<'s, A> {
    layout: &'s Layout,
    arrays: &'s mut [ArrayD<A>],
}

impl<A: Number> NamedArrays<A> for NamedSet<'_, A> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(std::borrow::Cow<'a, str>, ArrayViewD<'a, A>)) {
        for (param, array) in self.layout.params.iter().zip(&*self.arrays) {
            visit(name_in_set(&param.name).into(), array.view());
        }
    }
}

impl<A: Number> NamedArraysMut<A> for NamedSet<'_, A> {
    fn visit_mut<'a>(
        &'a mut self,
        visit: &mut dyn FnMut(std::borrow::Cow<'a, str>, ndarray::ArrayViewMutD<'a, A>),
    ) {
        for (param, array) in self.layout.params.iter().zip(&mut *self.arrays) {
            visit(name_in_set(&param.name).into(), array.view_mut());
        }
    }
}

/// The inverse of [`named`].
fn name_in_set(name: &str) -> &str {
    if name == UNNAMED { "" } else { name }
}

/// The index of a parameter, or what is wrong with it.
fn known(layout: &Layout, name: &str, shape: &[usize]) -> Result<usize, String> {
    let i = layout
        .find(name)
        .ok_or_else(|| format!("there is no parameter `{name}`"))?;
    let known = &layout.params[i].shape;
    if known == shape {
        Ok(i)
    } else {
        Err(format!("`{name}` has shape {shape:?}, expected {known:?}"))
    }
}

/// Settings that a distributed optimizer cannot have.
fn check<A: Number>(
    optimizer: &Optimizer<A>,
    config: &Config,
    shapes: &[(String, Vec<usize>)],
) -> Result<(), String> {
    if let Some(twice) = shapes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("parameter `{}` appears twice", twice[0].0));
    }
    if !optimizer.state_view().params.is_empty() {
        return Err("the optimizer has a state already: load it from a checkpoint".into());
    }
    if optimizer.limits.norm.is_some() && config.mode == Mode::Sharded {
        return Err("`limits.norm` is not supported by sharded optimizers".into());
    }
    Ok(())
}

/// Returns an error on all ranks if there is a problem on one.
pub(crate) fn agree(ranks: &Ranks, problem: Option<String>, what: &str) -> Result<(), Error> {
    let own = problem.map_or_else(Vec::new, |problem| words(&problem));
    let all = ranks.all_gather(own, what)?;
    match all.iter().position(|of| !of.is_empty()) {
        Some(rank) => Err(Error::OnRank {
            rank,
            problem: text(&all[rank]),
        }),
        None => Ok(()),
    }
}

/// An error with its reason.
fn with_source(error: &ndarray_optim::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Returns an error on all ranks unless all have the same text.
pub(crate) fn same(ranks: &Ranks, own: &str) -> Result<(), Error> {
    let all = ranks.all_gather(vec![digest(own)], "a comparison")?;
    if all.iter().all(|of| *of == all[0]) {
        return Ok(());
    }
    differs(ranks, own)
}

/// Finds out in which line ranks differ.
fn differs(ranks: &Ranks, own: &str) -> Result<(), Error> {
    let all = ranks.all_gather(words(own), "a comparison")?;
    let all: Vec<String> = all.iter().map(|of| text(of)).collect();
    let Some(rank) = all.iter().position(|of| *of != all[0]) else {
        return Ok(());
    };
    let (mut theirs, mut first) = (all[rank].lines(), all[0].lines());
    let mut context = String::new();
    loop {
        let (a, b) = (theirs.next(), first.next());
        let shared = a.filter(|_| a == b);
        if let Some(line) = shared {
            // The name of the algorithm or the struct around a field.
            if line.trim_end().ends_with('{') {
                context = format!(" in `{}`", line.trim().trim_end_matches('{').trim());
            }
            continue;
        }
        let split = |line: Option<&str>| {
            let line = line.unwrap_or("nothing").trim().trim_end_matches(',');
            match line.split_once(": ") {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (line.to_owned(), line.to_owned()),
            }
        };
        let ((name, theirs), (name_of_first, first)) = (split(a), split(b));
        let one_name = name == name_of_first;
        let context = if name.starts_with('`') { "" } else { &context };
        let what = match one_name {
            true => format!("{name}{context}"),
            // A parameter that one of them lacks.
            false => format!(
                "{}{context}",
                if b.is_some() { &name_of_first } else { &name }
            ),
        };
        let value = |name: String, value: String| if one_name { value } else { name };
        return Err(Error::Differs {
            rank,
            what,
            theirs: value(name, theirs),
            first: value(name_of_first, first),
        });
    }
}

fn broadcast<A: Number>(
    ranks: &Ranks,
    operation: Operation,
    index: usize,
    array: &mut ArrayRef<A, IxDyn>,
    name: &str,
) -> Result<(), Error> {
    let len = array.len();
    if ranks.rank() == 0 {
        let mut message = ranks.message(operation, index, words_for::<A>(len));
        let to = elements_mut(&mut message[1..], len);
        to.iter_mut().zip(&*array).for_each(|(to, &x)| *to = x);
        let message = Arc::new(message);
        ranks
            .others()
            .for_each(|to| ranks.send(to, message.clone()));
    } else {
        let message = ranks.receive(0, operation, index, || format!("`{name}`"))?;
        if message.len() != 1 + words_for::<A>(len) {
            return Err(Error::Differs {
                rank: ranks.rank(),
                what: format!("the shape of `{name}`"),
                theirs: format!("{len} elements"),
                first: format!("{} words", message.len() - 1),
            });
        }
        let from = elements(&message[1..], len);
        array.iter_mut().zip(from).for_each(|(to, &x)| *to = x);
    }
    Ok(())
}

/// Adds up sums over all ranks, in their order.
struct Across<'r> {
    ranks: &'r Ranks,
    error: Option<Error>,
}

impl Across<'_> {
    fn all_gather(&mut self, own: Vec<u64>) -> Vec<Vec<u64>> {
        if self.error.is_some() {
            return Vec::new();
        }
        let all = self.ranks.all_gather(own, "the norms and sums of a step");
        all.unwrap_or_else(|error| {
            self.error = Some(error);
            Vec::new()
        })
    }
}

impl Exchange for Across<'_> {
    fn sum(&mut self, sums: &mut [Sum]) {
        let mut own = Vec::new();
        for sum in &*sums {
            let words = sum.to_words();
            own.push(words.len() as u64);
            own.extend(words);
        }
        let all = self.all_gather(own);
        if all.is_empty() {
            return;
        }
        let mut parts: Vec<&[u64]> = all.iter().map(|of| &of[..]).collect();
        for sum in sums {
            *sum = Sum::default();
            for words in &mut parts {
                let next = words.split_first().and_then(|(&len, rest)| {
                    let (own, rest) = rest.split_at_checked(len as usize)?;
                    *words = rest;
                    Sum::from_words(own)
                });
                match next {
                    Some(next) => sum.merge(&next),
                    None => self.error = Some(Error::Mpi("a message is not a sum".into())),
                }
            }
        }
    }

    fn max(&mut self, number: &mut f64) {
        for of in self.all_gather(vec![number.to_bits()]) {
            let other = of.first().map_or(f64::NAN, |&bits| f64::from_bits(bits));
            if other > *number || other.is_nan() {
                *number = other;
            }
        }
    }
}

/// A step whose gradients are being added: see [`Distributed::begin`].
#[must_use = "other ranks wait until `finish`"]
pub struct Round<'d, 'r, A: Number> {
    of: &'d mut Distributed<'r, A>,
    operation: Operation,
    header: Operation,
    /// Parameters of each bucket that have not been added.
    missing: Vec<usize>,
    /// The messages of each bucket, by owner; empty before the first gradient.
    messages: Vec<Vec<Vec<u64>>>,
    added: Vec<bool>,
    fault: Option<Fault>,
    finished: bool,
}

impl<A: Number> std::fmt::Debug for Round<'_, '_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let added = self.added.iter().filter(|added| **added).count();
        write!(f, "{added} of {} gradients", self.added.len())
    }
}

/// What is wrong with the input of a rank.
#[derive(Debug)]
struct Fault {
    problem: String,
    /// Whether it is a non-finite gradient.
    non_finite: bool,
}

impl<A: Number> Round<'_, '_, A> {
    /// Adds the gradient of a parameter. What is wrong with it is reported by `finish`, on all
    /// ranks.
    pub fn add<D: Dimension>(&mut self, name: &str, grad: &ArrayRef<A, D>) {
        match known(&self.of.layout, name, grad.shape()) {
            Ok(i) if self.added[i] => self.is_wrong(format!("`{name}` is added twice"), false),
            Ok(i) => self.pack(i, grad.view()),
            Err(problem) => self.is_wrong(problem, false),
        }
    }

    /// Only the first problem is reported.
    fn is_wrong(&mut self, problem: String, non_finite: bool) {
        self.fault.get_or_insert(Fault {
            problem,
            non_finite,
        });
    }

    /// Copies a gradient to the messages of its buckets, and sends those that are full.
    fn pack<D: Dimension>(&mut self, i: usize, grad: ArrayView<'_, A, D>) {
        self.added[i] = true;
        let grad = grad.as_standard_layout();
        let all = grad.as_slice().unwrap_or_default();
        let (layout, ranks) = (&self.of.layout, self.of.ranks);
        let bad = all.chunks(1024).find_map(|part| {
            // No early exit, so that the loop vectorizes.
            let within = |finite, x: &A| finite & (x.abs() <= A::max_value());
            let finite = part.iter().fold(true, within);
            let bad = || part.iter().copied().find(|x| !x.is_finite());
            if finite { None } else { bad() }
        });
        for bucket in layout.params[i].buckets.clone() {
            let messages = &mut self.messages[bucket];
            if messages.is_empty() {
                *messages = (0..ranks.size())
                    .map(|owner| {
                        let len = words_for::<A>(layout.len(bucket, owner));
                        ranks.message(self.operation, bucket, len)
                    })
                    .collect();
            }
            for (owner, message) in messages.iter_mut().enumerate() {
                let range = layout.range(bucket, i, owner);
                let to = elements_mut(&mut message[1..], layout.len(bucket, owner));
                let at = layout.offset(bucket, i, owner);
                to[at..at + range.len()].copy_from_slice(&all[range]);
            }
            self.missing[bucket] -= 1;
            if self.missing[bucket] == 0 {
                for to in ranks.others().filter(|&to| layout.len(bucket, to) > 0) {
                    ranks.send(to, mem::take(&mut messages[to]));
                }
            }
        }
        if let Some(x) = bad {
            let name = &layout.params[i].name;
            let problem = format!("the gradient of parameter `{name}` contains {x}");
            self.is_wrong(problem, true);
        }
    }

    /// Adds up the gradients of all ranks and makes the step.
    ///
    /// # Errors
    ///
    /// See [`Distributed`].
    pub fn finish(
        mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        batch: Batch,
    ) -> Result<Outcome, Error> {
        if let Some(problem) = self.of.take_values(model) {
            self.is_wrong(problem, false);
        }
        let summed = self.sum(batch);
        let of = &mut *self.of;
        let made = summed.and_then(|(loss, skips)| match skips {
            Some(fault) => of.skip(fault),
            None => {
                of.skipped = 0;
                of.apply(model, loss)
            }
        });
        of.noted(made)
    }

    /// Adds up the gradients of all ranks. Returns the loss, and the reason for skipping the step
    /// if there is one.
    fn sum(&mut self, batch: Batch) -> Result<(Option<f64>, Option<Error>), Error> {
        self.finished = true;
        if let Some(i) = self.added.iter().position(|added| !added) {
            let name = &self.of.layout.params[i].name;
            self.is_wrong(format!("parameter `{name}` has no gradient"), false);
        }
        if !(batch.weight > 0.0 && batch.weight.is_finite()) {
            let problem = format!(
                "the weight is {}, expected a finite number > 0",
                batch.weight
            );
            self.is_wrong(problem, false);
        }
        if let Some(first) = self.of.layout.params.first()
            && let Err(error) = self.of.optimizer.division(&first.name, &first.shape)
        {
            self.is_wrong(with_source(&error), false);
        }
        let settings = self.of.optimizer.settings();
        let headers = self.exchange_headers(&settings, batch)?;
        let faults = headers.iter().enumerate();
        let fault = faults.filter_map(|(rank, header)| Some((rank, header.fault.as_ref()?)));
        // An error comes before a reason for skipping.
        let fault = fault.min_by_key(|(rank, fault)| (fault.non_finite, *rank));
        if let Some((rank, fault)) = fault {
            self.of.ranks.retire(self.header);
            let error = Error::OnRank {
                rank,
                problem: fault.problem.clone(),
            };
            let skips = fault.non_finite && self.of.optimizer.non_finite == NonFinite::Skip;
            return if skips {
                Ok((None, Some(error)))
            } else {
                Err(error)
            };
        }
        if headers.iter().any(|of| of.settings != headers[0].settings) {
            self.of.ranks.retire(self.header);
            differs(self.of.ranks, &settings)?;
        }
        let (weights, total) = self.weights(&headers);
        let losses: Option<Vec<[f64; 1]>> = headers.iter().map(|of| Some([of.loss?])).collect();
        let loss = losses.map(|losses| {
            let (parts, mut mean) = (losses.iter().map(|loss| &loss[..]), [0.0]);
            f64::mean(&parts.collect::<Vec<_>>(), &weights, total, &mut mean);
            mean[0]
        });
        self.sum_buckets(&weights, total)?;
        self.of.ranks.retire(self.header);
        Ok((loss, None))
    }

    /// The weights of the ranks and what to divide by.
    fn weights(&self, headers: &[Header]) -> (Vec<f64>, f64) {
        let weights: Vec<f64> = headers.iter().map(|header| header.weight).collect();
        let ones = vec![1.0; weights.len()];
        match self.of.config.reduction {
            Reduction::Sum => (ones, 1.0),
            // Without rounding, whatever the weight is.
            Reduction::Mean if weights.iter().all(|&of| of == weights[0]) => {
                (ones, weights.len() as f64)
            }
            Reduction::Mean => {
                let total = weights.iter().sum();
                (weights, total)
            }
        }
    }

    fn exchange_headers(&mut self, settings: &str, batch: Batch) -> Result<Vec<Header>, Error> {
        let ranks = self.of.ranks;
        let own = Header {
            settings: digest(settings),
            weight: batch.weight,
            loss: batch.loss,
            fault: self.fault.take(),
        };
        let message = Arc::new(own.to_words(ranks.message(self.header, 0, 4)));
        ranks
            .others()
            .for_each(|to| ranks.send(to, message.clone()));
        let mut own = Some(own);
        let names = &self.of.layout;
        let all = (0..ranks.size()).map(|from| {
            if from == ranks.rank()
                && let Some(own) = own.take()
            {
                return Ok(own);
            }
            // What comes from it first.
            let awaited = || match names.buckets.len() {
                0 => "its header".into(),
                _ => format!("the gradients of {}", names.describe(0)),
            };
            ranks
                .receive(from, self.header, 0, awaited)
                .map(|of| Header::from_words(&of))
        });
        all.collect()
    }

    /// Adds up the elements that this rank owns.
    fn sum_buckets(&mut self, weights: &[f64], total: f64) -> Result<(), Error> {
        let Distributed {
            ranks,
            layout,
            grads,
            ..
        } = &mut *self.of;
        let me = ranks.rank();
        for (param, grads) in layout.params.iter().zip(&mut *grads) {
            grads.resize(param.range(me).len(), A::ZERO);
        }
        for bucket in 0..layout.buckets.len() {
            let len = layout.len(bucket, me);
            let mut own = Some(mem::take(&mut self.messages[bucket][me]));
            if len == 0 {
                continue;
            }
            let mut messages = Vec::with_capacity(ranks.size());
            for from in 0..ranks.size() {
                let message = match own.take() {
                    Some(message) if from == me => message,
                    mine => {
                        own = mine;
                        ranks.receive(from, self.operation, bucket, || {
                            format!("the gradient of {}", layout.describe(bucket))
                        })?
                    }
                };
                messages.push(message);
            }
            let mut at = 0;
            for param in layout.buckets[bucket].params.clone() {
                let range = layout.range(bucket, param, me);
                let parts: Vec<&[A]> = messages
                    .iter()
                    .map(|message| &elements(&message[1..], len)[at..at + range.len()])
                    .collect();
                let start = range.start - layout.params[param].range(me).start;
                let out = &mut grads[param][start..start + range.len()];
                A::mean(&parts, weights, total, out);
                at += range.len();
            }
            messages
                .into_iter()
                .for_each(|message| ranks.recycle(message));
        }
        Ok(())
    }
}

impl<A: Number> Distributed<'_, A> {
    /// Counts a step that is skipped.
    fn skip(&mut self, reason: Error) -> Result<Outcome, Error> {
        self.skipped += 1;
        match self.optimizer.limits.skipped {
            Some(limit) if self.skipped > limit => {
                let (rank, skipped) = (self.ranks.rank(), self.skipped);
                let rank = match &reason {
                    Error::OnRank { rank, .. } => *rank,
                    _ => rank,
                };
                let problem = format!("{reason}; {skipped} steps in a row have been skipped");
                Err(Error::OnRank { rank, problem })
            }
            _ => Ok(Outcome::Skipped),
        }
    }
}

impl<A: Number> Drop for Round<'_, '_, A> {
    /// Tells the other ranks that there is no step.
    fn drop(&mut self) {
        if !self.finished {
            self.is_wrong("the step was abandoned".into(), false);
            let settings = self.of.optimizer.settings();
            // It is reported by the ranks that go on.
            let _ = self.exchange_headers(&settings, Batch::default());
            self.of.ranks.retire(self.header);
        }
    }
}

/// What ranks tell each other in each step.
struct Header {
    settings: u64,
    weight: f64,
    loss: Option<f64>,
    fault: Option<Fault>,
}

impl Header {
    fn to_words(&self, mut message: Vec<u64>) -> Vec<u64> {
        let loss = self.loss.map_or(0, f64::to_bits);
        let fault = self.fault.as_ref();
        let kind = fault.map_or(0, |fault| 1 + u64::from(fault.non_finite));
        let flags = kind << 1 | u64::from(self.loss.is_some());
        message.truncate(1);
        message.extend([self.settings, self.weight.to_bits(), loss, flags]);
        message.extend(fault.map_or_else(Vec::new, |fault| words(&fault.problem)));
        message
    }

    fn from_words(message: &[u64]) -> Self {
        let word = |i: usize| message.get(i).copied().unwrap_or_default();
        let fault = (word(4) >> 1 > 0).then(|| Fault {
            problem: text(message.get(5..).unwrap_or_default()),
            non_finite: word(4) >> 1 == 2,
        });
        Header {
            settings: word(1),
            weight: f64::from_bits(word(2)),
            loss: (word(4) & 1 == 1).then_some(f64::from_bits(word(3))),
            fault,
        }
    }
}
