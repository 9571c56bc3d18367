//! Gradient accumulation: one step with the mean gradient of several calls.
use super::{Optimizer, Outcome};
use crate::{
    array::{Data, Element, monomorphize},
    difference::{Difference, Differs},
    error::Error,
    kernel::{
        Parallel,
        param_views::Strided,
        reduce::{self, Norm, NormSum},
    },
    params::{Param, Params, StepInput},
    policy::NonFinite,
    state::{Mean, Round, StateView},
};
use ndarray::{ArrayD, Zip};
use std::{
    borrow::{BorrowMut, Cow},
    collections::{HashMap, HashSet},
    iter::once,
    mem::take,
};

/// The mean gradient of a parameter.
#[derive(Clone)]
struct MeanGrad<A> {
    /// Number of gradients.
    count: u32,
    /// The sum of their weights.
    weight: f64,
    mean: ArrayD<A>,
}

/// The mean gradients, by parameter.
type Means<A> = HashMap<String, MeanGrad<A>>;

/// The number of calls per step, and the current round.
#[derive(Clone)]
pub(super) struct Accumulation<A> {
    /// Number of calls per step; 1 without accumulation.
    pub every: u32,
    /// Number of calls in the current round so far.
    pub calls: u32,
    /// The sum of the weights of these calls.
    weight: f64,
    means: Means<A>,
    /// Mean of the losses of the current round; NaN if one of its calls has none.
    loss: f64,
}

impl<A: Element> Accumulation<A> {
    pub fn off() -> Self {
        Accumulation {
            every: 1,
            calls: 0,
            weight: 0.0,
            means: HashMap::new(),
            loss: 0.0,
        }
    }

    pub fn reset(&mut self) {
        (self.calls, self.weight, self.loss) = (0, 0.0, 0.0);
        self.means.clear();
    }

    /// The mean loss of the calls so far; `None` if one of them has none.
    fn mean_loss(&self) -> Option<f64> {
        Some(self.loss).filter(|loss| !loss.is_nan())
    }

    /// The mean loss after one more call; `None` if one of the calls has none.
    fn next_loss(&self, loss: Option<f64>, weight: f64) -> Option<f64> {
        let n = share(self.weight, weight);
        let (mean, loss) = self.mean_loss().zip(loss)?;
        Some(next_mean(mean, loss, n))
    }

    /// Discards the mean gradient of a parameter.
    pub fn remove(&mut self, name: &str) {
        self.means.remove(name);
    }

    /// The mean gradient of a parameter.
    pub fn mean_mut(&mut self, name: &str) -> Option<&mut ArrayD<A>> {
        self.means.get_mut(name).map(|of| &mut of.mean)
    }

    /// The current round as a value; `None` without accumulation.
    pub fn save(&self) -> Option<Round<Data<'_>>> {
        let means = self.means.iter();
        let means = means.map(|(name, of)| Mean {
            name: name.clone(),
            count: of.count,
            weight: Some(of.weight),
            data: of.mean.view().into(),
        });
        let mut means: Vec<_> = means.collect();
        means.sort_by(|a, b| a.name.cmp(&b.name));
        (self.every > 1).then(|| Round {
            every: self.every,
            calls: self.calls,
            weight: Some(self.weight),
            loss: self.loss,
            means,
        })
    }

    /// Everything that is wrong with the round of a state.
    pub fn differences(state: &StateView<'_>) -> Vec<Difference> {
        let mut wrong = Vec::new();
        let Some(round) = &state.accumulation else {
            return wrong;
        };
        let shapes: HashMap<&str, &[usize]> = state
            .params
            .iter()
            .map(|param| (&*param.name, &*param.shape))
            .collect();
        if round.calls >= round.every {
            let expected = format!("less than {}, the calls per step", round.every);
            wrong.push(Difference::new(
                Differs::Round,
                "accumulation, calls",
                round.calls,
                expected,
            ));
        }
        let mut check_weight = |place: String, weight: Option<f64>, count: u32| {
            let valid = |weight: f64| count == 0 || weight.is_finite() && weight > 0.0;
            if let Some(weight) = weight.filter(|&weight| !valid(weight)) {
                let (place, expected) = (format!("{place}, weight"), "a finite number > 0");
                wrong.push(Difference::new(Differs::Round, place, weight, expected));
            }
        };
        check_weight("accumulation".into(), round.weight, round.calls);
        for mean in &round.means {
            let place = format!("mean gradient of `{}`", mean.name);
            check_weight(place, mean.weight, mean.count);
        }
        let mut seen = HashSet::new();
        for mean in &round.means {
            let place = format!("mean gradient of `{}`", mean.name);
            if mean.count > round.calls {
                let expected = format!("at most {}, the calls so far", round.calls);
                wrong.push(Difference::new(
                    Differs::Round,
                    format!("{place}, count"),
                    mean.count,
                    expected,
                ));
            }
            let element = mean.data.element();
            if element != A::TYPE {
                let place = format!("{place}, element type");
                wrong.push(Difference::new(Differs::Element, place, element, A::TYPE));
            } else if !seen.insert(&*mean.name) {
                wrong.push(Difference::new(
                    Differs::Round,
                    place.clone(),
                    "two entries",
                    "one entry",
                ));
            }
            match shapes.get(&*mean.name) {
                Some(&shape) if shape != mean.data.shape() => wrong.push(Difference::new(
                    Differs::Shape,
                    format!("{place}, shape"),
                    format!("{:?}", mean.data.shape()),
                    format!("{shape:?}"),
                )),
                Some(_) => {}
                // Earlier releases recorded parameters in their first step, not in their first
                // call.
                None if shapes.is_empty() => {}
                None => wrong.push(Difference::new(
                    Differs::Parameter,
                    place,
                    "a mean gradient",
                    "no such parameter",
                )),
            }
        }
        wrong
    }

    /// Takes the round of a state that has been checked.
    pub fn take_from(state: &mut StateView<'_>) -> Self {
        let Some(round) = &mut state.accumulation else {
            return Self::off();
        };
        let means = round.means.iter_mut().filter_map(|mean| {
            let array = mean.data.take().into_array::<A>()?.into_owned();
            let grad = MeanGrad {
                count: mean.count,
                weight: sum_of_weights(mean.weight, mean.count),
                mean: array,
            };
            Some((mean.name.clone(), grad))
        });
        Accumulation {
            every: round.every,
            calls: round.calls,
            weight: sum_of_weights(round.weight, round.calls),
            means: means.collect(),
            loss: round.loss,
        }
    }
}

/// The sum of the weights in a state. Those of earlier versions have none: each weight is 1.
fn sum_of_weights(saved: Option<f64>, count: u32) -> f64 {
    match count {
        0 => 0.0,
        count => saved.unwrap_or(f64::from(count)),
    }
}

/// The weight of all numbers relative to that of the last one: their number, if all have the same.
fn share(before: f64, weight: f64) -> f64 {
    (before + weight) / weight
}

/// The mean of some numbers, from that of all but the last one, `x`, which has the `n`th part of
/// their weight. Equal numbers are their mean exactly; finite numbers have a finite mean.
#[inline]
fn next_mean<A: Element>(mean: A, x: A, n: A) -> A {
    let difference = x - mean;
    if difference.is_finite() {
        mean + difference / n
    } else {
        mean * ((n - A::one()) / n) + x / n
    }
}

/// The mean gradient of a parameter with this shape, of no gradients at first.
fn mean_of<'m, A: Element>(
    means: &'m mut Means<A>,
    name: &str,
    shape: &[usize],
) -> &'m mut MeanGrad<A> {
    let none = || MeanGrad {
        count: 0,
        weight: 0.0,
        mean: ArrayD::from_elem(shape, A::ZERO),
    };
    means.entry(name.into()).or_insert_with(none)
}

/// Elements of a mean gradient that are computed together.
const TILE: usize = 1024;

/// Calls `work` with the name and the entry of each parameter, and the elements of its mean
/// gradient as of the end of a call with this weight, tile by tile, without storing them.
fn for_each_mean<'a, A: Element>(
    params: &mut [Param<'a, A>],
    strided: &mut [Option<Strided<'a, A>>],
    weight: f64,
    means: &Means<A>,
    mut work: impl FnMut(&str, usize, &[A]),
) {
    fn tiles<A>(mut elements: impl Iterator<Item = A>, mut work: impl FnMut(&[A])) {
        let mut tile = Vec::with_capacity(TILE);
        loop {
            tile.clear();
            tile.extend(elements.by_ref().take(TILE));
            if tile.is_empty() {
                return;
            }
            work(&tile);
        }
    }
    for param in params.iter_mut().filter(|param| !param.views.is_frozen()) {
        let work = |tile: &[A]| work(&param.name, param.entry, tile);
        match (param.views.dynamic(strided), means.get(&*param.name)) {
            (Some((_, g)), Some(of)) => {
                let n = A::from_f64(share(of.weight, weight));
                let pairs = of.mean.iter().zip(g);
                tiles(pairs.map(|(&mean, &g)| next_mean(mean, g, n)), work);
            }
            (Some((_, g)), None) => tiles(g.iter().copied(), work),
            (None, Some(of)) => tiles(of.mean.iter().copied(), work),
            (None, None) => {}
        }
    }
}

impl<A: Element> Optimizer<A> {
    /// Accumulates gradients: every `every`th call performs a step with the mean gradient of a
    /// round of `every` calls, for batches that do not fit into memory.
    ///
    /// With 0 or 1, the default, each call is a step. An unfinished round is discarded;
    /// [`finish_accumulation`](Optimizer::finish_accumulation) makes a step of it.
    ///
    /// ```text
    /// each call:      W <- W + w,  a <- a + (g - a) w / W       a: one array for each parameter
    /// the last call:  a step with a in place of the gradient
    /// ```
    ///
    /// All calls have the weight w = 1, unless [`Params::weight`](crate::Params::weight) says
    /// otherwise: gradients of means over batches of unequal size are weighted by their numbers of
    /// rows, and those of sums over rows not at all.
    ///
    /// Equal gradients result in exactly the step of one of them. A parameter without a gradient in
    /// some calls uses the mean of the others; the last call of a round must include every
    /// parameter that had a gradient in the round. The other calls change no parameter and return
    /// [`Outcome::Accumulated`]. Each call is checked like a step; one that fails or is skipped
    /// does not count. If the mean gradient of a round is above the limit, the round is skipped as
    /// a whole. The mean loss is that of all calls; if one of them has none, neither has the round.
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

    /// Returns the number of calls in the current round so far, and the number of calls per step.
    pub fn accumulation(&self) -> (u32, u32) {
        (self.accumulation.calls, self.accumulation.every)
    }

    /// Discards the current round of gradient accumulation.
    pub fn reset_accumulation(&mut self) {
        self.accumulation.reset();
    }

    /// Performs a step with the mean gradient of the calls so far, for a last round with fewer
    /// calls, such as that at the end of an epoch.
    ///
    /// Gradients in `params` are accumulated first, as those of one more call. Without gradients
    /// ([`Params::without_grads`](crate::Params::without_grads)) the step is made with what has
    /// been accumulated; the loss of this call is ignored then. All parameters that had a gradient
    /// in the round must be included. If there is neither a gradient nor an unfinished round,
    /// nothing is done, and the outcome is [`Outcome::Empty`]: an epoch may always end with this
    /// call.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Outcome, Params, Sgd};
    ///
    /// let mut optimizer = Optimizer::new(Sgd::new(0.5));
    /// optimizer.set_accumulation(8);
    /// let mut theta = array![1.0];
    /// // Means over 30 rows and over the last 10 rows of an epoch.
    /// for (grad, rows) in [(array![1.0], 30.0), (array![5.0], 10.0)] {
    ///     optimizer.step(Params::of(&mut theta, &grad)?.weight(rows))?;
    /// }
    /// optimizer.finish_accumulation(Params::without_grads(&mut theta)?)?;
    /// assert_eq!(theta, array![0.0]);
    /// let nothing = optimizer.finish_accumulation(Params::without_grads(&mut theta)?)?;
    /// assert_eq!(nothing, Outcome::Empty);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step). Nothing is changed then, and the round goes on.
    pub fn finish_accumulation<'a>(
        &mut self,
        mut params: impl BorrowMut<Params<'a, A>>,
    ) -> Result<Outcome, Error> {
        let mut params = take(params.borrow_mut());
        let (optimizer, input) = (self, params.input());
        monomorphize!(
            A, <'o, 'l, 'a: 'l>,
            (optimizer: &'o mut Optimizer<A>, input: StepInput<'l, 'a, A>)
                -> Result<Outcome, Error> { optimizer.finish_round(input) }
        )
    }

    fn finish_round(&mut self, input: StepInput<'_, '_, A>) -> Result<Outcome, Error> {
        let adds = input.params.iter().any(|param| param.views.has_grad());
        match (adds, self.accumulation.calls) {
            (false, 0) => Ok(Outcome::Empty),
            _ => self.accumulate(input, true),
        }
    }

    /// Accumulates the gradients of one call, and performs the step if the call completes a round
    /// or is to `finish` it. A call without gradients that finishes a round is not part of it.
    #[cold]
    pub(super) fn accumulate(
        &mut self,
        mut input: StepInput<'_, '_, A>,
        finish: bool,
    ) -> Result<Outcome, Error> {
        self.check_settings()?;
        let weight = input.weight;
        let total = self.accumulation.weight + weight;
        if !(weight > 0.0 && total.is_finite() && (total / weight).is_finite()) {
            return Err(Error::Weight { given: weight });
        }
        let call = self.accumulation.calls + 1;
        let is_last = finish || call >= self.accumulation.every;
        self.check_round(&input, is_last)?;
        let adds = !finish || input.params.iter().any(|param| param.views.has_grad());
        input.loss = if adds {
            self.accumulation.next_loss(input.loss, weight)
        } else {
            self.accumulation.mean_loss()
        };
        // All checks of a step, so that no call spoils the round.
        let known = self.table.entries.len();
        if self.check_step(&mut input)?.is_none() {
            return Ok(self.skip());
        }
        // Out of the optimizer, because its step borrows them. Not copied.
        let mut means = take(&mut self.accumulation.means);
        let accepted = if is_last {
            self.check_means(&mut input, &means)
        } else {
            Ok(true)
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Nothing has changed: the call can be repeated.
                self.accumulation.means = means;
                self.table.truncate(known);
                return Err(error);
            }
        };
        if !accepted {
            self.table.truncate(known);
            self.accumulation.reset();
            return Ok(self.skip());
        }
        for param in input.params.iter_mut() {
            if let Some((_, g)) = param.views.dynamic(input.strided) {
                let of = mean_of(&mut means, &param.name, g.shape());
                let n = A::from_f64(share(of.weight, weight));
                (of.count, of.weight) = (of.count + 1, of.weight + weight);
                Zip::from(&mut of.mean)
                    .and(g)
                    .for_each(|mean, &g| *mean = next_mean(*mean, g, n));
            }
        }
        if !is_last {
            self.skipped = 0;
            (self.accumulation.calls, self.accumulation.weight) = (call, total);
            self.accumulation.loss = input.loss.unwrap_or(f64::NAN);
            self.accumulation.means = means;
            return Ok(Outcome::Accumulated);
        }
        let mut list = Vec::with_capacity(input.params.len());
        let (mut views, mut work) = (Vec::new(), 0);
        for param in input.params.iter_mut() {
            // Skips parameters without a gradient in the round, and groups that were frozen
            // meanwhile.
            let mean = means.get(&*param.name);
            let Some(of) = mean.filter(|_| !param.views.is_frozen()) else {
                continue;
            };
            let (name, index, entry) = (Cow::Borrowed(&*param.name), views.len(), param.entry);
            let p = param.views.take_parameter(input.strided);
            let mut param = Param::new(name, p, Some(of.mean.view()), index, |pair| {
                views.push(Some(pair))
            })?;
            param.entry = entry;
            let slot = &self.groups.list[self.table.entries[entry].group];
            work += param.views.size() as u64 * slot.requirements.cost;
            list.push(param);
        }
        let step = StepInput {
            params: &mut list,
            strided: &mut views,
            loss: input.loss,
            weight,
            exchange: match &mut input.exchange {
                Some(exchange) => Some(&mut **exchange),
                None => None,
            },
        };
        self.apply_step(step, work);
        self.accumulation.reset();
        Ok(Outcome::Applied)
    }

    /// Runs those checks of a step that depend on the mean gradients of a round with its last call,
    /// whose own gradients have been checked. Returns `false` to skip the step.
    fn check_means(
        &mut self,
        input: &mut StepInput<'_, '_, A>,
        means: &Means<A>,
    ) -> Result<bool, Error> {
        let StepInput {
            params,
            strided,
            weight,
            ..
        } = input;
        let weight = *weight;
        let takes_part = |param: &Param<'_, A>| {
            !param.views.is_frozen() && (param.views.has_grad() || means.contains_key(&*param.name))
        };
        let used = params.iter().filter(|param| takes_part(param));
        self.check_shared(used.map(|param| self.table.entries[param.entry].group))?;
        for param in params.iter().filter(|param| takes_part(param)) {
            let entry = &self.table.entries[param.entry];
            entry.check_extra(&self.groups.list[entry.group])?;
        }
        if self.non_finite == NonFinite::Propagate {
            return Ok(true);
        }
        let mut beyond = None;
        for_each_mean(params, strided, weight, means, |name, entry, tile| {
            let limit = self.largest_gradient(self.table.entries[entry].group);
            let found = reduce::beyond(tile, limit);
            beyond = beyond.take().or(found.map(|x| (name.to_owned(), limit, x)));
        });
        let norm = || {
            let mut sum = NormSum::new(Norm::L2);
            for_each_mean(params, strided, weight, means, |_, _, tile| {
                sum.add_slices(once(tile), &Parallel::SERIAL);
            });
            sum.value()
        };
        let beyond = beyond
            .as_ref()
            .map(|(name, limit, x)| (&**name, *limit, *x));
        self.judge_gradients(beyond, norm)
    }

    /// Checks the parameters of a call against the round so far.
    fn check_round(&self, input: &StepInput<'_, '_, A>, is_last: bool) -> Result<(), Error> {
        let means = &self.accumulation.means;
        let mut seen = HashSet::with_capacity(input.params.len());
        for param in input.params.iter() {
            seen.insert(&*param.name);
            let given = param.views.shape.as_slice();
            if let Some(of) = means.get(&*param.name)
                && of.mean.shape() != given
            {
                return Err(Error::ShapeChanged {
                    name: param.name.to_string(),
                    known: of.mean.shape().to_vec(),
                    given: given.to_vec(),
                });
            }
        }
        let missing = means.keys().filter(|name| !seen.contains(name.as_str()));
        match missing.min() {
            Some(name) if is_last => Err(Error::MissingParameter { name: name.clone() }),
            _ => Ok(()),
        }
    }
}
