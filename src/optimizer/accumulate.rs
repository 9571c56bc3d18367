//! One step of the mean gradient of several calls.
use super::{Optimizer, Outcome};
use crate::{
    array::{Data, Element},
    difference::{Difference, Differs},
    error::Error,
    params::{Lending, Param},
    state::{Mean, Round},
};
use ndarray::{ArrayD, ArrayViewD, Zip};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem::take,
};

type Means<A> = HashMap<String, (u32, ArrayD<A>)>;

/// How many calls make a step, and what those of the current round have brought.
#[derive(Clone)]
pub(super) struct Accumulation<A> {
    pub every: u32,
    pub call: u32,
    means: Means<A>,
    loss: f64,
}

impl<A: Element> Accumulation<A> {
    pub fn none() -> Self {
        Accumulation { every: 1, call: 0, means: HashMap::new(), loss: 0.0 }
    }

    pub fn reset(&mut self) {
        (self.call, self.loss) = (0, 0.0);
        self.means.clear();
    }

    /// Forgets the mean of a parameter.
    pub fn remove(&mut self, name: &str) {
        self.means.remove(name);
    }

    /// The round as a value, if steps are of several calls.
    pub fn save(&self) -> Option<Round<Data<'_>>> {
        let means = self.means.iter();
        let means = means.map(|(name, (count, mean))| Mean { name: name.clone(), count: *count, data: mean.view().into() });
        let mut means: Vec<_> = means.collect();
        means.sort_by(|a, b| a.name.cmp(&b.name));
        (self.every > 1).then(|| Round { every: self.every, calls: self.call, loss: self.loss, means })
    }

    /// A round that fits, or what does not.
    pub fn stage(round: &mut Option<Round<Data<'_>>>) -> Result<Self, Vec<Difference>> {
        let Some(round) = round else { return Ok(Self::none()) };
        let place = "accumulation";
        let mut wrong = Vec::new();
        if round.calls >= round.every {
            let expected = format!("less than {}, those of a round", round.every);
            wrong.push(Difference::new(Differs::Round, format!("{place}, calls"), round.calls, expected));
        }
        let mut means = HashMap::new();
        for &mut Mean { ref name, count, ref mut data } in &mut round.means {
            let place = format!("mean gradient of `{name}`");
            if count > round.calls {
                let expected = format!("at most {}, the calls so far", round.calls);
                wrong.push(Difference::new(Differs::Round, format!("{place}, count"), count, expected));
            }
            let element = data.element();
            match data.take().into_array::<A>() {
                Some(mean) if !means.contains_key(name) => {
                    means.insert(name.clone(), (count, mean.into_owned()));
                }
                Some(_) => wrong.push(Difference::new(Differs::Round, place, "it twice", "it once")),
                None => {
                    let place = format!("{place}, element type");
                    wrong.push(Difference::new(Differs::Element, place, element, A::TYPE));
                }
            }
        }
        let accumulation = Accumulation { every: round.every, call: round.calls, means, loss: round.loss };
        if wrong.is_empty() { Ok(accumulation) } else { Err(wrong) }
    }
}

/// The mean after one more gradient.
fn add<A: Element>(mean: &mut ArrayD<A>, g: ArrayViewD<'_, A>, n: u32) {
    let n = A::of(f64::from(n));
    Zip::from(mean).and(g).for_each(|mean, &g| *mean += (g - *mean) / n);
}

impl<A: Element> Optimizer<A> {
    /// One call: adds the gradients, and makes the step if it is the last of a round.
    #[cold]
    pub(super) fn accumulate(&mut self, mut lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        self.check()?;
        let Accumulation { every, call, means, .. } = &self.accumulation;
        let (this, last) = (*call + 1, *call + 1 >= *every);
        let mut seen = HashSet::with_capacity(lending.params.len());
        for param in lending.params.iter() {
            seen.insert(&*param.name);
            if let Some((_, mean)) = means.get(&*param.name)
                && mean.shape() != param.lent.shape.as_slice()
            {
                let (name, given) = (param.name.to_string(), param.lent.shape.as_slice().to_vec());
                return Err(Error::ShapeChanged { name, known: mean.shape().to_vec(), given });
            }
        }
        if last && let Some(name) = means.keys().filter(|name| !seen.contains(name.as_str())).min() {
            return Err(Error::MissingParameter { name: name.clone() });
        }
        // The checks of a step, so that no call spoils the round; what is new is remembered with the step only.
        let known = self.ledger.entries.len();
        let admitted = self.admit(&mut lending)?;
        self.ledger.forget(known);
        if admitted.is_none() {
            return Ok(Outcome::Skipped);
        }
        let Lending { params, strided, loss } = lending;
        let Accumulation { call, means, loss: mean_loss, .. } = &mut self.accumulation;
        let loss_so_far = loss.map_or(f64::NAN, |loss| *mean_loss + (loss - *mean_loss) / f64::from(this));
        // The last call works on copies, so that a step that is refused has changed nothing and can be tried again.
        let mut new = if last { means.clone() } else { take(means) };
        for param in params.iter_mut() {
            if let Some((_, g)) = param.lent.dynamic(strided) {
                let zero = || (0, ArrayD::from_elem(g.raw_dim(), A::ZERO));
                let (n, mean) = new.entry(param.name.to_string()).or_insert_with(zero);
                *n += 1;
                add(mean, g, *n);
            }
        }
        if !last {
            (*call, *mean_loss, *means) = (this, loss_so_far, new);
            return Ok(Outcome::Accumulated);
        }
        let (mut list, mut views) = (Vec::with_capacity(params.len()), Vec::new());
        for param in params.iter_mut() {
            // Those without any gradient, and those of groups that were frozen meanwhile.
            let Some((_, mean)) = new.get(&*param.name).filter(|_| !param.lent.is_frozen()) else { continue };
            let (name, place) = (Cow::Borrowed(&*param.name), views.len());
            let p = param.lent.take_parameter(strided);
            list.push(Param::new(name, p, Some(mean.view()), place, |pair| views.push(Some(pair)))?);
        }
        let loss = loss.map(|_| loss_so_far);
        let outcome = self.advance(Lending { params: &mut list, strided: &mut views, loss })?;
        self.accumulation.reset();
        Ok(outcome)
    }
}
