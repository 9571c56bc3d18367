//! The state of L-BFGS as a value.
use super::{
    Lbfgs,
    history::Pair,
    layout::{Entry, Found, Layout},
    run::Core,
};
use crate::{
    algorithm::{HyperParameters, Scalars},
    array::{Data, Element, monomorphize},
    difference::{Difference, Differs},
    error::Error,
    params::or_unnamed,
    policy::{Limits, NonFinite},
    select::Select,
    state::{GroupState, MAX_STEPS, Named, ParamState, StateDict, StateView, VERSION},
};
use std::fmt::Display;

/// Arrays of a parameter before those of the pairs.
const FIRST: [&str; 2] = ["d", "prev_flat_grad"];
/// The arrays of a pair, before its number.
const PAIR: [&str; 2] = ["old_dirs", "old_stps"];

/// The name of an array of a parameter.
fn name_of(index: usize) -> String {
    match index.checked_sub(FIRST.len()) {
        None => FIRST[index].into(),
        Some(index) => format!("{}.{}", PAIR[index % 2], index / 2),
    }
}

impl<A: Element> Lbfgs<A> {
    /// Returns the state without copying arrays, to be saved: see
    /// [`state_dict`](Lbfgs::state_dict).
    pub fn state_view(&self) -> StateView<'_> {
        let lbfgs = self;
        monomorphize!(A, <'l>, (lbfgs: &'l Lbfgs<A>) -> StateView<'l> { lbfgs.save() })
    }

    /// Returns a copy of the state, in the form that the state of an
    /// [`Optimizer`](crate::Optimizer) has, so that it can be saved in the same formats: see
    /// [`state`](crate::state) and the checkpoints.
    ///
    /// Each parameter has the arrays `d` (the last direction), `prev_flat_grad` (the gradient before
    /// it) and, for each pair of the history from the oldest, `old_dirs.0` (the change of the
    /// gradient) and `old_stps.0` (the step), which are torch's names. The scalars of the only group
    /// are the last step length, `H_diag` and the number of evaluations. The configuration is a
    /// value of its own and is not included, and neither is the model.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lbfgs, LbfgsConfig};
    ///
    /// let closure = |x: &ndarray::Array1<f64>, grad: &mut ndarray::Array1<f64>| {
    ///     grad.assign(&x.mapv(|x| 4.0 * x * x * x));
    ///     x.mapv(|x| x * x * x * x).sum()
    /// };
    /// let (mut x, mut grad) = (array![1.0, 2.0], array![0.0, 0.0]);
    /// let config = LbfgsConfig { max_iter: 2, ..LbfgsConfig::wolfe() };
    /// let mut lbfgs = Lbfgs::new(config);
    /// lbfgs.step(&mut x, &mut grad, closure)?;
    ///
    /// let (mut resumed, mut copy) = (Lbfgs::new(config), x.clone());
    /// resumed.load_state_dict(lbfgs.state_dict())?;
    /// lbfgs.step(&mut x, &mut grad, closure)?;
    /// resumed.step(&mut copy, &mut grad, closure)?;
    /// assert_eq!(x, copy);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    pub fn state_dict(&self) -> StateDict {
        self.state_view().to_owned()
    }

    /// Loads a state in place of that of this optimizer. The next call has to be given a model with
    /// the names and shapes of the state.
    ///
    /// # Errors
    ///
    /// [`Error::State`] with everything that is wrong with the state; nothing is changed then.
    pub fn load_state_dict(&mut self, state: StateView<'_>) -> Result<(), Error> {
        let lbfgs = self;
        monomorphize!(
            A, <'l, 's>,
            (lbfgs: &'l mut Lbfgs<A>, state: StateView<'s>) -> Result<(), Error> {
                let (layout, core) = load(&state).map_err(Error::State)?;
                (lbfgs.layout, lbfgs.core) = (layout, core);
                Ok(())
            }
        )
    }

    fn save(&self) -> StateView<'_> {
        let core = &self.core;
        let begun = core.iterations > 0;
        let entries = self.layout.entries().iter().filter(|_| begun);
        let numbers = [core.t, core.history.h_diag, core.evaluations as f64];
        StateDict {
            version: VERSION,
            element: A::TYPE,
            non_finite: NonFinite::default(),
            limits: Limits::default(),
            clip: None,
            skipped: 0,
            steps: core.iterations,
            groups: vec![GroupState {
                name: None,
                params: Select::Names(Vec::new()),
                optimizer: super::LbfgsConfig::NAME.into(),
                algorithm: None,
                frozen: false,
                scalars: Some(Scalars::new(numbers)),
                steps: core.iterations,
                initial_lr: None,
                scheduled: Vec::new(),
            }],
            params: entries.map(|entry| self.save_param(entry)).collect(),
            accumulation: None,
        }
    }

    fn save_param<'s>(&'s self, entry: &Entry) -> ParamState<Data<'s>> {
        let core = &self.core;
        let pairs = core.history.pairs.iter();
        let flats = [&core.d, &core.prev_grad]
            .into_iter()
            .chain(pairs.flat_map(|pair| [&pair.y, &pair.s]));
        let named = |(index, flat)| {
            let data = entry.view(flat)?.into();
            let name = name_of(index);
            Some(Named { name, data })
        };
        ParamState {
            steps: core.iterations,
            allocated: true,
            begun: true,
            arrays: flats
                .map(Vec::as_slice)
                .enumerate()
                .filter_map(named)
                .collect(),
            ..ParamState::new(&*entry.name, &entry.shape)
        }
    }
}

/// What a state contains, or everything that is wrong with it.
fn load<A: Element>(state: &StateView<'_>) -> Result<(Layout, Core<A>), Vec<Difference>> {
    let mut wrong = Vec::new();
    let mut differs = |differs, place: &str, found: &dyn Display, expected: &dyn Display| {
        wrong.push(Difference::new(differs, place, found, expected));
    };
    if state.version != VERSION {
        let place = "version of the format";
        differs(Differs::Version, place, &state.version, &VERSION);
    }
    if state.element != A::TYPE {
        differs(Differs::Element, "element type", &state.element, &A::TYPE);
    }
    let [group] = &state.groups[..] else {
        differs(Differs::Group, "groups", &state.groups.len(), &"one");
        return Err(wrong);
    };
    let name = super::LbfgsConfig::NAME;
    if group.optimizer != name {
        let found = format!("`{}`", group.optimizer);
        differs(
            Differs::Optimizer,
            "optimizer",
            &found,
            &format!("`{name}`"),
        );
        return Err(wrong);
    }
    if state.accumulation.is_some() {
        differs(Differs::Round, "accumulation", &"a round", &"none");
    }
    if group.steps > MAX_STEPS {
        differs(Differs::Value, "steps", &group.steps, &"at most 2^53");
    }
    let [t, h_diag, evaluations, _] = group.scalars.unwrap_or_default().0;
    let is_count = evaluations.fract() == 0.0 && (0.0..=MAX_STEPS as f64).contains(&evaluations);
    let positive = h_diag > 0.0 && h_diag.is_finite();
    if !t.is_finite() || !positive || !is_count {
        let found = format!("[{t}, {h_diag}, {evaluations}]");
        let expected = "a step length, a positive scale and a number of evaluations";
        differs(Differs::Value, "scalars", &found, &expected);
    }
    if group.steps == 0 && !state.params.is_empty() {
        let found = state.params.len();
        differs(
            Differs::Parameter,
            "parameters before the first step",
            &found,
            &"none",
        );
    }
    let mut found = Found::default();
    let most = state.params.iter().map(|param| param.arrays.len()).max();
    let pairs = most
        .unwrap_or_default()
        .saturating_sub(FIRST.len())
        .div_ceil(2);
    for param in &state.params {
        found.add((&*param.name).into(), &param.shape);
        wrong.extend(wrong_arrays::<A>(param, pairs));
    }
    let layout = match found.finish() {
        Ok(layout) if wrong.is_empty() => layout,
        Ok(_) => return Err(wrong),
        Err(error) => {
            let (place, expected) = ("parameters", "each once");
            wrong.push(Difference::new(Differs::Parameter, place, error, expected));
            return Err(wrong);
        }
    };
    let mut core = Core::new(layout.len());
    (core.iterations, core.evaluations) = (group.steps, evaluations as u64);
    (core.t, core.history.h_diag) = (t, h_diag);
    // In the order of the layout.
    let mut params: Vec<_> = state.params.iter().collect();
    params.sort_by_key(|param| or_unnamed((&*param.name).into()));
    let gather = |array: usize| {
        let mut flat = vec![A::ZERO; layout.len()];
        for (entry, param) in layout.entries().iter().zip(&params) {
            if let Some(from) = param.arrays[array].data.view()
                && let Some(mut to) = entry.view_mut(&mut flat)
            {
                to.assign(&from);
            }
        }
        flat
    };
    if !params.is_empty() {
        (core.d, core.prev_grad) = (gather(0), gather(1));
    }
    for i in 0..pairs {
        let y = FIRST.len() + 2 * i;
        let Some(pair) = Pair::new(gather(y + 1), gather(y)) else {
            let (place, expected) = (format!("pair {i}"), "a positive product");
            let found = "y.s is not positive";
            return Err(vec![Difference::new(
                Differs::Value,
                place,
                found,
                expected,
            )]);
        };
        core.history.pairs.push_back(pair);
    }
    Ok((layout, core))
}

/// What is wrong with the arrays of a parameter, which must have those of all others, in its shape
/// and finite.
fn wrong_arrays<A: Element>(param: &ParamState<Data<'_>>, pairs: usize) -> Vec<Difference> {
    let expected = FIRST.len() + 2 * pairs;
    if param.arrays.len() != expected {
        let place = format!("parameter `{}`, number of arrays", param.name);
        let found = param.arrays.len();
        return vec![Difference::new(Differs::Array, place, found, expected)];
    }
    let place = |name: &str| format!("parameter `{}`, array `{name}`", param.name);
    let mut wrong = Vec::new();
    for (index, Named { name, data }) in param.arrays.iter().enumerate() {
        let expected = name_of(index);
        if *name != expected {
            let found = "this name";
            wrong.push(Difference::new(
                Differs::Array,
                place(name),
                found,
                expected,
            ));
            continue;
        }
        let Some(view) = data.view::<A>() else {
            let (found, expected) = (data.element(), A::TYPE);
            wrong.push(Difference::new(
                Differs::Element,
                place(name),
                found,
                expected,
            ));
            continue;
        };
        if view.shape() != param.shape {
            let (found, expected) = (view.shape(), &param.shape);
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            wrong.push(Difference::new(
                Differs::Shape,
                place(name),
                found,
                expected,
            ));
        } else if let Some(x) = view.iter().find(|x| !x.is_finite()) {
            wrong.push(Difference::new(
                Differs::Value,
                place(name),
                x,
                "finite numbers",
            ));
        }
    }
    wrong
}
