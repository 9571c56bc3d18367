use crate::{
    Error, GroupReport, Limits, NonFinite, Optimizer, Outcome, Parallel, ParamGroup,
    kernel::Element,
    params::{Lending, Param},
    state::{Data, Difference, Differs, Mean, Report, Round, StateView},
};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Zip};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem::take,
};

type Means<A> = HashMap<String, (u32, ArrayD<A>)>;

/// Makes one step of the mean gradient of several calls, for batches that do not fit at once.
///
/// ```text
/// call i of every:  a <- a + (g - a) / i           a: one array for each parameter
/// the last call:    a step of the inner optimizer with a in place of the gradient
/// ```
///
/// Equal gradients give exactly the step of one of them. A parameter without a gradient in some calls has the mean of the
/// others; the last call of a round must lend every parameter that had one. Other calls change no parameter and return
/// [`Outcome::Accumulated`].
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Optimizer, Outcome, Sgd, wrap::Accumulate};
///
/// let mut optimizer = Accumulate::new(Sgd::new(0.5), 2);
/// let mut theta = array![1.0];
/// assert_eq!(optimizer.update(&mut theta, &array![1.0])?, Outcome::Accumulated);
/// assert_eq!(optimizer.update(&mut theta, &array![3.0])?, Outcome::Applied);
/// assert_eq!(theta, array![0.0]);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Accumulate<A, O> {
    /// The optimizer that makes the steps.
    pub inner: O,
    every: u32,
    call: u32,
    means: Means<A>,
    loss: f64,
}

impl<A: Element, O: Optimizer<A>> Accumulate<A, O> {
    /// A step for every so many calls; 0 counts as 1.
    pub fn new(inner: O, every: u32) -> Self {
        Accumulate { inner, every: every.max(1), call: 0, means: HashMap::new(), loss: 0.0 }
    }

    /// How many calls of the current round have been made.
    pub fn accumulated(&self) -> u32 {
        self.call
    }

    /// Forgets the current round.
    pub fn reset(&mut self) {
        self.call = 0;
        self.means.clear();
    }

    /// The means of a round that fits, or what does not.
    fn stage(round: &mut Option<Round<Data<'_>>>) -> Result<Means<A>, Vec<Difference>> {
        let place = "rounds of `Accumulate`";
        let Some(round) = round else {
            return Err(vec![Difference::new(Differs::Round, place, "too few", "one for each")]);
        };
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
        if wrong.is_empty() { Ok(means) } else { Err(wrong) }
    }

    fn put(&mut self, round: Option<Round<Data<'_>>>, means: Means<A>) {
        if let Some(round) = round {
            (self.every, self.call, self.loss, self.means) = (round.every.max(1), round.calls, round.loss, means);
        }
    }
}

/// The mean after one more gradient.
fn add<A: Element>(mean: &mut ArrayD<A>, g: ArrayViewD<'_, A>, n: u32) {
    let n = A::of(f64::from(n));
    Zip::from(mean).and(g).for_each(|mean, &g| *mean += (g - *mean) / n);
}

impl<A: Element, O: Optimizer<A>> Optimizer<A> for Accumulate<A, O> {
    fn run(&mut self, lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        let Lending { params, strided, loss } = lending;
        let call = self.call + 1;
        let mut seen = HashSet::with_capacity(params.len());
        for param in params.iter() {
            if !seen.insert(&*param.name) {
                return Err(Error::DuplicateParameter { name: param.name.to_string() });
            }
            if let Some((_, mean)) = self.means.get(&*param.name)
                && mean.shape() != param.lent.shape.as_slice()
            {
                let (name, given) = (param.name.to_string(), param.lent.shape.as_slice().to_vec());
                return Err(Error::ShapeChanged { name, known: mean.shape().to_vec(), given });
            }
        }
        let last = call >= self.every;
        if last && let Some(name) = self.means.keys().find(|name| !seen.contains(name.as_str())) {
            return Err(Error::MissingParameter { name: name.clone() });
        }
        let loss_so_far = loss.map_or(f64::NAN, |loss| self.loss + (loss - self.loss) / f64::from(call));
        // The last call works on copies, so that a step that is refused has changed nothing and can be tried again.
        let mut means = if last { self.means.clone() } else { take(&mut self.means) };
        for param in params.iter_mut() {
            if let Some((_, g)) = param.lent.dynamic(strided) {
                let zero = || (0, ArrayD::from_elem(g.raw_dim(), A::ZERO));
                let (n, mean) = means.entry(param.name.to_string()).or_insert_with(zero);
                *n += 1;
                add(mean, g, *n);
            }
        }
        if !last {
            (self.call, self.loss, self.means) = (call, loss_so_far, means);
            return Ok(Outcome::Accumulated);
        }
        let (mut list, mut views) = (Vec::with_capacity(params.len()), Vec::new());
        for param in params.iter_mut() {
            let name = Cow::Borrowed(&*param.name);
            let place = views.len();
            let (Some((_, mean)), Some(p)) = (means.get(&*param.name), param.lent.take_parameter(strided)) else { continue };
            list.push(Param::new(name, p, Some(mean.view()), place, |pair| views.push(Some(pair)))?);
        }
        let loss = loss.map(|_| loss_so_far);
        let outcome = self.inner.run(Lending { params: &mut list, strided: &mut views, loss })?;
        self.reset();
        self.loss = 0.0;
        Ok(outcome)
    }

    fn evaluation(&self, name: &str, param: ArrayViewD<'_, A>) -> ArrayD<A> {
        self.inner.evaluation(name, param)
    }
    fn swap_average(&mut self, name: &str, param: ArrayViewMutD<'_, A>) -> Result<(), Error> {
        self.inner.swap_average(name, param)
    }
    fn report(&self) -> &[GroupReport] {
        self.inner.report()
    }
    fn grad_norm(&self) -> Option<f64> {
        self.inner.grad_norm()
    }
    fn lr(&self) -> f64 {
        self.inner.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.inner.set_lr(lr);
    }
    fn group_lr(&self, group: &str) -> Result<f64, Error> {
        self.inner.group_lr(group)
    }
    fn set_group_lr(&mut self, group: &str, lr: f64) -> Result<(), Error> {
        self.inner.set_group_lr(group, lr)
    }
    fn field_mut(&mut self, group: Option<&str>, name: &str) -> Result<&mut f64, Error> {
        self.inner.field_mut(group, name)
    }
    fn group_names(&self) -> Vec<String> {
        self.inner.group_names()
    }
    fn set_parallel(&mut self, parallel: Parallel) {
        self.inner.set_parallel(parallel);
    }
    fn set_non_finite(&mut self, non_finite: NonFinite) {
        self.inner.set_non_finite(non_finite);
    }
    fn set_limits(&mut self, limits: Limits) {
        self.inner.set_limits(limits);
    }
    fn freeze(&mut self, group: &str, frozen: bool) -> Result<(), Error> {
        self.inner.freeze(group, frozen)
    }
    fn steps(&self, name: &str) -> u64 {
        self.inner.steps(name)
    }
    fn state_view(&self) -> StateView<'_> {
        let mut state = self.inner.state_view();
        let means = self.means.iter();
        let means = means.map(|(name, (count, mean))| Mean { name: name.clone(), count: *count, data: mean.view().into() });
        let mut means: Vec<_> = means.collect();
        means.sort_by(|a, b| a.name.cmp(&b.name));
        state.rounds.push(Round { every: self.every, calls: self.call, loss: self.loss, means });
        state
    }
    fn differences(&self, state: &StateView<'_>) -> Vec<Difference> {
        let mut inner = state.view();
        let mut round = inner.rounds.pop();
        let mut all = self.inner.differences(&inner);
        all.extend(Self::stage(&mut round).err().unwrap_or_default());
        all
    }
    fn load_state_dict(&mut self, mut state: StateView<'_>) -> Result<(), Error> {
        let mut round = state.rounds.pop();
        match Self::stage(&mut round) {
            Ok(means) => {
                self.inner.load_state_dict(state)?;
                self.put(round, means);
                Ok(())
            }
            Err(wrong) => {
                let mut all = self.inner.differences(&state);
                all.extend(wrong);
                Err(Error::State(all))
            }
        }
    }
    fn load_matching(&mut self, mut state: StateView<'_>) -> Result<Report, Error> {
        let mut round = state.rounds.pop();
        let mut report = self.inner.load_matching(state)?;
        match Self::stage(&mut round) {
            Ok(means) => self.put(round, means),
            Err(wrong) => report.left_over.extend(wrong),
        }
        Ok(report)
    }
    fn add_group(&mut self, group: ParamGroup) -> Result<(), Error> {
        self.inner.add_group(group)
    }
}
