//! Gradient accumulation: one step with the mean gradient of several calls.
use super::{Optimizer, Outcome};
use crate::{
    array::{Data, Element},
    difference::{Difference, Differs},
    error::Error,
    params::{Param, StepInput},
    state::{Mean, Round},
};
use ndarray::{ArrayD, ArrayViewD, Zip};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem::take,
};

/// Number of gradients and their mean, by parameter.
type Means<A> = HashMap<String, (u32, ArrayD<A>)>;

/// The number of calls per step, and the current round.
#[derive(Clone)]
pub(super) struct Accumulation<A> {
    /// Number of calls per step; 1 without accumulation.
    pub every: u32,
    /// Number of calls in the current round so far.
    pub calls: u32,
    means: Means<A>,
    /// Mean of the losses of the current round.
    loss: f64,
}

impl<A: Element> Accumulation<A> {
    pub fn off() -> Self {
        Accumulation {
            every: 1,
            calls: 0,
            means: HashMap::new(),
            loss: 0.0,
        }
    }

    pub fn reset(&mut self) {
        (self.calls, self.loss) = (0, 0.0);
        self.means.clear();
    }

    /// Discards the mean gradient of a parameter.
    pub fn remove(&mut self, name: &str) {
        self.means.remove(name);
    }

    /// The current round as a value; `None` without accumulation.
    pub fn save(&self) -> Option<Round<Data<'_>>> {
        let means = self.means.iter();
        let means = means.map(|(name, (count, mean))| Mean {
            name: name.clone(),
            count: *count,
            data: mean.view().into(),
        });
        let mut means: Vec<_> = means.collect();
        means.sort_by(|a, b| a.name.cmp(&b.name));
        (self.every > 1).then(|| Round {
            every: self.every,
            calls: self.calls,
            loss: self.loss,
            means,
        })
    }

    /// Checks and takes the round of a state; on failure, returns everything that is wrong with it.
    pub fn from_state(round: &mut Option<Round<Data<'_>>>) -> Result<Self, Vec<Difference>> {
        let Some(round) = round else {
            return Ok(Self::off());
        };
        let mut wrong = Vec::new();
        if round.calls >= round.every {
            let expected = format!("less than {}, the calls per step", round.every);
            wrong.push(Difference::new(
                Differs::Round,
                "accumulation, calls",
                round.calls,
                expected,
            ));
        }
        let mut means = HashMap::new();
        for mean in &mut round.means {
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
            match mean.data.take().into_array::<A>() {
                Some(array) if !means.contains_key(&mean.name) => {
                    means.insert(mean.name.clone(), (mean.count, array.into_owned()));
                }
                Some(_) => wrong.push(Difference::new(
                    Differs::Round,
                    place,
                    "two entries",
                    "one entry",
                )),
                None => {
                    let place = format!("{place}, element type");
                    wrong.push(Difference::new(Differs::Element, place, element, A::TYPE));
                }
            }
        }
        let accumulation = Accumulation {
            every: round.every,
            calls: round.calls,
            means,
            loss: round.loss,
        };
        if wrong.is_empty() {
            Ok(accumulation)
        } else {
            Err(wrong)
        }
    }
}

/// Updates a mean with its `n`th gradient.
fn update_mean<A: Element>(mean: &mut ArrayD<A>, g: ArrayViewD<'_, A>, n: u32) {
    let n = A::from_f64(f64::from(n));
    Zip::from(mean)
        .and(g)
        .for_each(|mean, &g| *mean += (g - *mean) / n);
}

impl<A: Element> Optimizer<A> {
    /// Accumulates gradients: every `every`th call performs a step with the mean gradient of a
    /// round of `every` calls, for batches that do not fit into memory.
    ///
    /// With 0 or 1, the default, each call is a step. An unfinished round is discarded.
    ///
    /// ```text
    /// call i of every:  a <- a + (g - a) / i           a: one array for each parameter
    /// the last call:    a step with a in place of the gradient
    /// ```
    ///
    /// Equal gradients result in exactly the step of one of them. A parameter without a gradient in
    /// some calls uses the mean of the others; the last call of a round must include every
    /// parameter that had a gradient in the round. The other calls change no parameter and return
    /// [`Outcome::Accumulated`]. Each call is checked like a step; one that fails or is skipped
    /// does not count.
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

    /// Accumulates the gradients of one call, and performs the step if the call completes a round.
    #[cold]
    pub(super) fn accumulate(&mut self, mut input: StepInput<'_, '_, A>) -> Result<Outcome, Error> {
        self.check_settings()?;
        let call = self.accumulation.calls + 1;
        let is_last = call >= self.accumulation.every;
        self.check_round(&input, is_last)?;
        // All checks of a step, so that no call spoils the round. New parameters are recorded by
        // the step only.
        let known = self.table.entries.len();
        let work = self.check_step(&mut input)?;
        self.table.truncate(known);
        if work.is_none() {
            return Ok(Outcome::Skipped);
        }
        let StepInput {
            params,
            strided,
            loss,
        } = input;
        let Accumulation {
            calls,
            means: round_means,
            loss: round_loss,
            ..
        } = &mut self.accumulation;
        let mean_loss = loss.map_or(f64::NAN, |loss| {
            *round_loss + (loss - *round_loss) / f64::from(call)
        });
        // The last call works on copies: if its step fails, nothing has changed and the call can be
        // repeated.
        let mut means = if is_last {
            round_means.clone()
        } else {
            take(round_means)
        };
        for param in params.iter_mut() {
            if let Some((_, g)) = param.views.dynamic(strided) {
                let zero = || (0, ArrayD::from_elem(g.raw_dim(), A::ZERO));
                let (n, mean) = means.entry(param.name.to_string()).or_insert_with(zero);
                *n += 1;
                update_mean(mean, g, *n);
            }
        }
        if !is_last {
            (*calls, *round_loss, *round_means) = (call, mean_loss, means);
            return Ok(Outcome::Accumulated);
        }
        let mut list = Vec::with_capacity(params.len());
        let mut views = Vec::new();
        for param in params.iter_mut() {
            // Skips parameters without a gradient in the round, and groups that were frozen
            // meanwhile.
            let mean = means.get(&*param.name);
            let Some((_, mean)) = mean.filter(|_| !param.views.is_frozen()) else {
                continue;
            };
            let (name, index) = (Cow::Borrowed(&*param.name), views.len());
            let p = param.views.take_parameter(strided);
            list.push(Param::new(name, p, Some(mean.view()), index, |pair| {
                views.push(Some(pair))
            })?);
        }
        let outcome = self.make_step(StepInput {
            params: &mut list,
            strided: &mut views,
            loss: loss.map(|_| mean_loss),
        })?;
        self.accumulation.reset();
        Ok(outcome)
    }

    /// Checks the parameters of a call against the round so far.
    fn check_round(&self, input: &StepInput<'_, '_, A>, is_last: bool) -> Result<(), Error> {
        let means = &self.accumulation.means;
        let mut seen = HashSet::with_capacity(input.params.len());
        for param in input.params.iter() {
            seen.insert(&*param.name);
            let given = param.views.shape.as_slice();
            if let Some((_, mean)) = means.get(&*param.name)
                && mean.shape() != given
            {
                return Err(Error::ShapeChanged {
                    name: param.name.to_string(),
                    known: mean.shape().to_vec(),
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
