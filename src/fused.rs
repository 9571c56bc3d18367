//! The driver of every optimizer: checks a step as a whole, then runs it as one fused pass.
use crate::{
    Error, Fields, Limits, NonFinite, Optimizer, OptimizerConfig, Outcome, ParamGroup,
    kernel::{
        Arrays, At, Element, Kernel, MAX_STATES, MAX_TERMS, Parallel, Totals,
        layout::{Order, Shape, same_lengths, trimmed},
        plan::{Task, pieces},
        pool::{drain, lock},
        reduce::Sum,
        walk::walk,
    },
    optimizer::{UNNAMED, run_unnamed},
    params::{Lending, Param},
    state::{Difference, Report, StateView},
    wrap::{Clipping, Norm},
};
mod aside;
mod clip;
mod report;
mod rows;
mod state;
mod whole;

pub use report::GroupReport;
pub use rows::RowWise;
pub use whole::{Factor, Whole};

use ndarray::{ArrayD, ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Dimension, Zip};
use std::{
    any::type_name,
    array::from_fn,
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

/// The state arrays that can stand for the parameter.
const AVERAGES: [&str; 2] = ["ema", "swa"];

/// What every set of hyper-parameters has.
pub trait HyperParameters: Fields + Clone + PartialEq + Default + fmt::Debug + Send + Sync + 'static {
    /// The learning rate.
    fn lr(&self) -> f64;

    /// Changes the learning rate.
    fn set_lr(&mut self, lr: f64);
}

/// Numbers that an optimizer remembers beside its arrays: of one array, or of all arrays of a group.
pub type Scalars = [f64; 4];

/// Where a parameter stands.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The number of this step: 1, 2, ...
    pub t: u64,
    /// What [`Config::absorb`] left.
    pub scalars: Scalars,
    /// The value of the objective, for optimizers that use it.
    pub loss: f64,
    /// Whether the sums of this step have yet to be taken.
    pub measuring: bool,
    logs: [f64; 3],
}

impl Now {
    /// Step `t` of an array that remembers no scalars.
    pub fn new(config: &impl Config, t: u64) -> Self {
        Now { t, scalars: config.scalars(), loss: f64::NAN, measuring: false, logs: config.betas().map(f64::ln) }
    }

    /// `1 - beta^t` for the `k`th of [`Config::betas`], without the cancellation of the plain form.
    #[inline(always)]
    pub fn correction(&self, k: usize) -> f64 {
        self.correction_at(k, self.t)
    }

    /// As [`Now::correction`], at another step.
    #[inline(always)]
    pub fn correction_at(&self, k: usize, t: u64) -> f64 {
        let x = t as f64 * self.logs[k];
        // Below -38 beta^t is less than half an ulp of 1, so a long run calls nothing.
        if x < -38.0 { 1.0 } else { -x.exp_m1() }
    }
}

/// The state of one element, by the names of its arrays.
pub struct Lane<'a, A> {
    names: &'a [&'static str],
    values: &'a [A],
}

impl<A: Element> Lane<'_, A> {
    /// The number in the array of this name.
    pub fn get(&self, name: &str) -> Option<A> {
        self.values.get(self.names.iter().position(|&known| known == name)?).copied()
    }
}

/// An optimizer, as its file gives it: what its hyper-parameters must be, and the arithmetic of a step.
pub trait Config: HyperParameters {
    /// The arithmetic of one step.
    type Kernel<A: Element>: Kernel<A>;
    /// Whether the sums of [`Rule::terms`](crate::kernel::Rule::terms) run over all arrays of a group together.
    const GLOBAL: bool = false;
    /// Whether a step needs the value of the objective.
    const LOSS: bool = false;

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] names the first field that is out of range, with its value.
    fn validate(&self) -> Result<(), Error>;

    /// The averages' shares that [`Now::correction`] needs.
    #[inline(always)]
    fn betas(&self) -> [f64; 3] {
        [0.0; 3]
    }

    /// The scalars before the first step.
    fn scalars(&self) -> Scalars {
        [0.0; 4]
    }

    /// Brings the scalars to this step, from the sums that the kernel asked for. `now.scalars` are those of the last step.
    #[inline(always)]
    fn absorb(&self, now: &Now, _sums: &[f64; MAX_TERMS]) -> Scalars {
        now.scalars
    }

    /// Whether to climb instead of descend: the gradient is negated before anything else.
    fn maximize(&self) -> bool {
        false
    }

    /// Whether steps begin with [`Config::direct`].
    fn is_directed(&self) -> bool {
        false
    }

    /// Clipping of gradients by their norm.
    fn clipping(&self) -> Option<Clipping> {
        None
    }

    /// Whether steps gather what [`Optimizer::report`] tells.
    fn is_watched(&self) -> bool {
        false
    }

    /// These hyper-parameters for a group: those of `config` if they are for the same optimizer, in the same wrappers.
    fn adopt(&self, config: &OptimizerConfig) -> Option<Self> {
        config.downcast::<Self>().cloned()
    }

    /// These hyper-parameters as [`StateDict`](crate::StateDict) keeps them, if they are of an optimizer in the catalogue.
    fn describe(&self) -> Option<OptimizerConfig> {
        OptimizerConfig::of(self)
    }

    /// What [`Config::describe`] made `config` of, if it was of the same optimizer in the same wrappers.
    fn restore(&self, config: &OptimizerConfig) -> Option<Self> {
        let (base, wrap) = config.flatten();
        base.downcast::<Self>().filter(|_| wrap.is_empty()).cloned()
    }

    /// What [`Config::direct`] remembers of an array of this shape: the name and shape of each factor.
    ///
    /// # Errors
    ///
    /// What the shape must be.
    fn factors(&self, _shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        Ok(Vec::new())
    }

    /// Looks at an array as a whole before the sweep: replaces its gradient by the direction that the kernel is given, and
    /// brings the scalars to this step.
    fn direct<A: Element>(&self, now: &Now, _whole: Whole<'_, A>) -> Scalars {
        now.scalars
    }

    /// What an element is evaluated at: itself, or for schedule-free optimizers the average, from its state.
    fn evaluate<A: Element>(&self, p: A, _state: &Lane<'_, A>) -> A {
        p
    }

    /// The kernel of this step, its scalars folded in `f64` and rounded once; for the sums, that with the scalars of before.
    ///
    /// Give it `#[inline(always)]`: a kernel that is returned through memory and copied costs a small array a quarter of its
    /// step.
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A>;
}

/// An optimizer: hyper-parameters `C` and the state of every parameter it has seen, of element type `A`.
///
/// `Adam<A>`, `Sgd<A>` and the others are names for this type with their hyper-parameters filled in. See [`Optimizer`] for
/// `update` and `step`.
///
/// The element type is part of the type, so it cannot change between steps:
///
/// ```compile_fail
/// use ndarray::array;
/// use ndarray_optim::{Adam, Optimizer};
///
/// let mut adam = Adam::new(1e-3);
/// adam.update(&mut array![1.0_f32], &array![1.0_f32]).unwrap();
/// adam.update(&mut array![1.0_f64], &array![1.0_f64]).unwrap(); // expected `f32`, found `f64`
/// ```
#[derive(Clone)]
pub struct Fused<C: Config, A: Element> {
    /// Hyper-parameters of every parameter that is in no group. They may change between steps: the next step checks and uses
    /// what stands here.
    pub config: C,
    /// What to do about infinite or NaN gradients.
    pub non_finite: NonFinite,
    /// When gradients count as exploding, and how often steps may be left out.
    pub limits: Limits,
    /// When to use threads.
    pub parallel: Parallel,
    groups: Vec<Group<C>>,
    /// What `config`, and then the configuration of each group, gives once checked, and what groups remember.
    plans: Vec<Plan<C, A>>,
    group_of: HashMap<String, usize>,
    /// In the order of the first steps; a step of the same order never looks a name up.
    entries: Vec<Entry<A>>,
    entry_of: HashMap<Box<str>, usize>,
    stamp: u64,
    /// The direction of one array, where steps begin with one.
    scratch: Vec<A>,
    grad_norm: Option<f64>,
    report: Vec<GroupReport>,
    /// Steps left out since the last one that was made.
    skipped: u64,
}

/// How a piece of an array is run.
type HowTo<'w, C, A> = (<C as Config>::Kernel<A>, At<'w, A>);

#[derive(Clone)]
struct Group<C> {
    name: String,
    config: C,
    frozen: bool,
}

#[derive(Clone)]
struct Plan<C: Config, A: Element> {
    checked: Option<(C, [f64; 3])>,
    kernel: Option<(u64, Scalars, C::Kernel<A>)>,
    /// Sums that the kernel asks for.
    terms: usize,
    /// What gradients are multiplied with: -1 to climb.
    sign: A,
    /// The same in this step, with the factor of clipping.
    scale: A,
    /// Whether steps begin with a direction, and with a norm.
    directed: bool,
    clips: bool,
    /// Whether what it does is gathered.
    watched: bool,
    /// Of the whole group, and how many steps it has made, if sums run over all of its arrays.
    scalars: Option<Scalars>,
    t: u64,
    sums: Option<Box<[Sum; MAX_TERMS]>>,
    /// Whether this step has brought new sums.
    due: bool,
    cost: u64,
    names: Vec<&'static str>,
    /// Whether a parameter holds the state arrays of `names`.
    used: bool,
}

#[derive(Clone)]
struct Entry<A> {
    name: Box<str>,
    group: usize,
    shape: Shape,
    /// The memory order of the state: that of the parameter when it first had a gradient.
    order: Order,
    state: [Vec<A>; MAX_STATES],
    /// State of other shapes than the parameter.
    factors: Vec<ArrayD<A>>,
    factor_names: Vec<&'static str>,
    scalars: Scalars,
    allocated: bool,
    /// Whether the state has begun, in a measurement before the first step.
    begun: bool,
    /// Whether the parameter has been exchanged with its average.
    swapped: bool,
    /// Whether this is the array of `update`, already under way.
    unnamed: bool,
    t: u64,
    /// The stamp of the last step this parameter was part of: finds repeats within a step.
    seen: u64,
}

impl<C: Config, A: Element> Fused<C, A> {
    /// An optimizer with learning rate `lr` and the defaults of its other hyper-parameters.
    ///
    /// A wrong `lr` is reported by the first step.
    pub fn new(lr: f64) -> Self {
        let mut config = C::default();
        config.set_lr(lr);
        Self::with(config)
    }

    /// An optimizer with these hyper-parameters; they are checked by the first step.
    pub fn with(config: C) -> Self {
        Fused {
            config,
            non_finite: NonFinite::default(),
            limits: Limits::default(),
            skipped: 0,
            parallel: Parallel::default(),
            groups: Vec::new(),
            plans: vec![Plan::new()],
            group_of: HashMap::new(),
            entries: Vec::new(),
            entry_of: HashMap::new(),
            stamp: 0,
            scratch: Vec::new(),
            grad_norm: None,
            report: Vec::new(),
        }
    }

    /// Gives the parameters of these names hyper-parameters of their own. Parameters already under way keep their state.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateGroup`], [`Error::GroupedTwice`], [`Error::InGroup`] with what is wrong about `config`, or
    /// [`Error::StateChanged`] if a named parameter already holds other state; the optimizer is unchanged then.
    pub fn group<S: Into<String>>(
        &mut self,
        name: impl Into<String>,
        params: impl IntoIterator<Item = S>,
        config: C,
    ) -> Result<(), Error> {
        let group = name.into();
        if self.find_group(&group).is_some() {
            return Err(Error::DuplicateGroup { group });
        }
        let index = self.groups.len();
        let mut plan = Plan::new();
        plan.check(&config).map_err(|error| error.in_group(&group))?;
        let (mut added, mut moved) = (HashMap::new(), Vec::new());
        for param in params {
            let param = param.into();
            if let Some(&entry) = self.entry_of.get(&*param) {
                let held = &self.plans[self.entries[entry].group];
                if self.entries[entry].allocated && held.names != plan.names {
                    let (held, needed) = (held.names.clone(), plan.names);
                    return Err(Error::StateChanged { held, needed }.in_group(&group));
                }
                plan.used |= self.entries[entry].allocated;
                moved.push(entry);
            }
            let first = self.group_of.get(&param).copied().or_else(|| added.insert(param.clone(), index));
            if let Some(first) = first {
                let first = self.groups.get(first).map_or(&group, |first| &first.name).clone();
                return Err(Error::GroupedTwice { name: param, first, second: group });
            }
        }
        for entry in moved {
            self.entries[entry].group = index + 1;
        }
        self.group_of.extend(added);
        self.plans.push(plan);
        self.groups.push(Group { name: group, config, frozen: false });
        Ok(())
    }

    /// The hyper-parameters of a group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_config(&self, group: &str) -> Result<&C, Error> {
        self.find_group(group).map(|i| &self.groups[i].config).ok_or_else(|| self.unknown(group))
    }

    /// The hyper-parameters of a group, to change them; the next step checks and uses them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn group_config_mut(&mut self, group: &str) -> Result<&mut C, Error> {
        match self.find_group(group) {
            Some(i) => Ok(&mut self.groups[i].config),
            None => Err(self.unknown(group)),
        }
    }

    /// How many steps a parameter has made; 0 for one that is not known.
    pub fn steps(&self, param: &str) -> u64 {
        self.entry_of.get(param).map_or(0, |&entry| self.entries[entry].t)
    }

    /// The state arrays of a parameter by name (`exp_avg`, `exp_avg_sq`, ...: torch's names where torch has them): first those
    /// in the shape of the parameter, then the factors. Empty before its first step.
    pub fn state(&self, param: &str) -> Vec<(&'static str, ArrayViewD<'_, A>)> {
        let Some(entry) = self.entry_of.get(param).map(|&entry| &self.entries[entry]).filter(|e| e.allocated) else {
            return Vec::new();
        };
        let named = self.plans[entry.group].names.iter().zip(&entry.state);
        let view = |memory| Some(trimmed(entry.order.view(&entry.shape, memory)?, entry.shape.as_slice().len()));
        let arrays = named.filter_map(|(&name, memory)| Some((name, view(memory)?)));
        let factors = entry.factor_names.iter().zip(&entry.factors).map(|(&name, factor)| (name, factor.view()));
        arrays.chain(factors).collect()
    }

    /// Takes the gradients of frozen groups out of the step.
    #[inline]
    fn leave_frozen(&self, params: &mut [Param<'_, A>]) {
        if self.groups.iter().any(|group| group.frozen) {
            let frozen = |param: &Param<'_, A>| {
                let group = self.entries[param.entry].group;
                group > 0 && self.groups[group - 1].frozen
            };
            params.iter_mut().filter(|param| frozen(param)).for_each(|param| param.lent.freeze());
        }
    }

    fn find_group(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.name == name)
    }

    fn unknown(&self, group: &str) -> Error {
        Error::UnknownGroup { group: group.into(), known: self.groups.iter().map(|g| g.name.clone()).collect() }
    }

    /// Checks every configuration that has changed.
    #[inline]
    fn prepare(&mut self) -> Result<(), Error> {
        self.plans[0].check(&self.config)?;
        for (plan, group) in self.plans[1..].iter_mut().zip(&self.groups) {
            plan.check(&group.config).map_err(|error| error.in_group(&group.name))?;
        }
        Ok(())
    }

    /// Finds the entry of every parameter and makes all checks of a step; returns the work there is, `None` if it shall be
    /// skipped. Parameters that are new in a refused step are forgotten again.
    #[inline]
    fn admit(&mut self, lending: &mut Lending<'_, '_, A>) -> Result<Option<u64>, Error> {
        let known = self.entries.len();
        let work = self.place(lending.params).and_then(|work| {
            self.leave_frozen(lending.params);
            Ok(self.accept(lending)?.then_some(work))
        });
        match work {
            Ok(Some(_)) => self.skipped = 0,
            Ok(None) => {
                self.skipped += 1;
                self.forget(known);
            }
            Err(_) => self.forget(known),
        }
        work
    }

    /// Forgets all parameters but the first `known`.
    #[cold]
    fn forget(&mut self, known: usize) {
        self.entries.drain(known..).for_each(|entry| {
            self.entry_of.remove(&entry.name);
        });
    }

    /// Finds the entry of every parameter and checks that the step can be made; returns the work there is.
    #[inline]
    fn place(&mut self, list: &mut [Param<'_, A>]) -> Result<u64, Error> {
        self.stamp += 1;
        let mut work = 0;
        for (i, param) in list.iter_mut().enumerate() {
            // The same place as in the last step comes first.
            param.entry = match self.entries.get(i) {
                Some(entry) if same(&entry.name, &param.name) => i,
                _ => match self.entry_of.get(&*param.name) {
                    Some(&entry) => entry,
                    None => self.enter(param),
                },
            };
            let entry = &mut self.entries[param.entry];
            if entry.seen == self.stamp {
                return Err(Error::DuplicateParameter { name: param.name.to_string() });
            }
            if entry.shape != param.lent.shape {
                let (known, given) = (entry.shape.as_slice().to_vec(), param.lent.shape.as_slice().to_vec());
                return Err(Error::ShapeChanged { name: param.name.to_string(), known, given });
            }
            if entry.swapped {
                return Err(Error::Swapped { name: param.name.to_string() });
            }
            if self.plans[entry.group].directed && param.lent.has_grad() {
                Self::fits(entry, &self.plans[entry.group])?;
            }
            entry.seen = self.stamp;
            work += param.lent.size() as u64 * self.plans[entry.group].cost;
        }
        Ok(work)
    }

    #[cold]
    fn enter(&mut self, param: &Param<'_, A>) -> usize {
        let name: Box<str> = (*param.name).into();
        self.entry_of.insert(name.clone(), self.entries.len());
        self.entries.push(Entry {
            group: self.group_of.get(&*name).map_or(0, |group| group + 1),
            name,
            shape: param.lent.shape,
            order: Order::C,
            state: from_fn(|_| Vec::new()),
            factors: Vec::new(),
            factor_names: Vec::new(),
            scalars: [0.0; 4],
            allocated: false,
            begun: false,
            swapped: false,
            unnamed: false,
            t: 0,
            seen: 0,
        });
        self.entries.len() - 1
    }

    /// Whether to go on, by what the gradients contain.
    #[inline]
    fn accept(&self, lending: &Lending<'_, '_, A>) -> Result<bool, Error> {
        if self.non_finite == NonFinite::Propagate { Ok(true) } else { self.inspect(lending) }
    }

    #[cold]
    fn inspect(&self, lending: &Lending<'_, '_, A>) -> Result<bool, Error> {
        let bad = lending.params.iter().find_map(|param| Some((&param.name, param.lent.non_finite(lending.strided)?)));
        let error = match (bad, self.limits.norm) {
            (Some((name, value)), _) => Some(Error::NonFiniteGradient { name: name.to_string(), value: value.f64() }),
            (None, Some(limit)) => {
                let norm = clip::norm(lending.params, lending.strided, Norm::L2, &self.parallel);
                (norm > limit).then_some(Error::ExplodingGradient { norm, limit })
            }
            (None, None) => None,
        };
        let skipped = self.skipped + 1;
        match (error, self.limits.skipped) {
            (None, _) => Ok(true),
            (Some(error), _) if self.non_finite == NonFinite::Error => Err(error),
            (Some(_), Some(limit)) if skipped > limit => Err(Error::TooManySkipped { skipped, limit }),
            (Some(_), _) => Ok(false),
        }
    }

    /// Takes the sums that the kernels ask for, before anything but the beginning of state changes.
    #[cold]
    fn measure(&mut self, lending: &mut Lending<'_, '_, A>) {
        let loss = lending.loss.unwrap_or(f64::NAN);
        for sums in self.plans.iter_mut().filter_map(|plan| plan.sums.as_mut()) {
            **sums = Default::default();
        }
        for param in lending.params.iter_mut().filter(|param| param.lent.has_grad()) {
            let entry = &mut self.entries[param.entry];
            let plan = &mut self.plans[entry.group];
            if plan.terms == 0 {
                continue;
            }
            if !entry.allocated {
                entry.allocate(param.lent.order, plan);
            }
            let Some((config, now)) = plan.now(entry.t + 1, entry.scalars, loss) else { continue };
            let kernel: C::Kernel<A> = config.kernel(&Now { measuring: true, ..now });
            let at = At { first: !entry.begun, scale: plan.scale * param.factor, watch: None };
            entry.begun = true;
            let mut sums = <[Sum; MAX_TERMS]>::default();
            let mut work = |p: &mut [A], g: &[A], state: Arrays<'_, A>| kernel.measure(&at, p, g, state, &mut sums);
            let order = entry.order;
            if self.parallel.pays(param.lent.size() as u64 * plan.cost) {
                let all = Mutex::new(<[Sum; MAX_TERMS]>::default());
                let chunk = self.parallel.chunk.max(1);
                let helpers = param.lent.size() / chunk;
                let task = Task::borrow(&mut param.lent, order, lending.strided, entry.arrays()).map(|task| (task, ()));
                let measure = |(task, ()): (Task<'_, A>, ())| {
                    let mut part = <[Sum; MAX_TERMS]>::default();
                    task.run(&mut |p, g, state| kernel.measure(&at, p, g, state, &mut part));
                    lock(&all).iter_mut().zip(&part).for_each(|(sum, part)| sum.merge(part));
                };
                drain(pieces(task.into_iter(), chunk), helpers, |(task, ())| task.len(), chunk, measure);
                sums = all.into_inner().unwrap_or_else(PoisonError::into_inner);
            } else if let Some((p, g)) = param.lent.flat(order) {
                work(p, g, entry.arrays());
            } else if let Some((p, g)) = param.lent.views(order, lending.strided) {
                walk(&mut work, p, g, entry.arrays());
            }
            if C::GLOBAL {
                plan.sums.iter_mut().flat_map(|all| all.iter_mut()).zip(&sums).for_each(|(all, sum)| all.merge(sum));
                plan.due = true;
            } else {
                entry.scalars = config.absorb(&now, &sums.map(|sum| sum.value()));
            }
        }
        for plan in self.plans.iter_mut().filter(|plan| plan.due) {
            (plan.t, plan.due) = (plan.t + 1, false);
            let sums = plan.sums.as_ref().map(|sums| sums.each_ref().map(Sum::value)).unwrap_or_default();
            plan.scalars = plan.now(plan.t, [0.0; 4], loss).map(|(config, now)| config.absorb(&now, &sums));
        }
    }

    #[inline]
    fn sweep(&mut self, Lending { params, strided, .. }: Lending<'_, '_, A>, watch: &[Mutex<Totals>]) {
        for param in params {
            let entry = &mut self.entries[param.entry];
            let watch = watch.get(entry.group);
            let Some((kernel, at)) = entry.advance(param, &mut self.plans[entry.group]) else { continue };
            let at = At { watch, ..at };
            if let Some((p, g)) = param.lent.flat(entry.order) {
                kernel.run(&at, p, g, entry.arrays());
            } else if let Some((p, g)) = param.lent.views(entry.order, strided) {
                walk(&mut |p, g, state| kernel.run(&at, p, g, state), p, g, entry.arrays());
            }
        }
    }

    #[cold]
    fn sweep_parallel(&mut self, Lending { params, strided, .. }: Lending<'_, '_, A>, watch: &[Mutex<Totals>]) {
        // In the order of the entries, so that the state of all of them can be lent at once.
        params.sort_unstable_by_key(|param| param.entry);
        let Fused { entries, plans, .. } = self;
        let chunk = self.parallel.chunk.max(1);
        let elements: usize = params.iter().map(|param| param.lent.size()).sum();
        let mut entries = entries.iter_mut().enumerate();
        let tasks = params.iter_mut().filter_map(|param| {
            let (_, entry) = entries.find(|&(i, _)| i == param.entry)?;
            let watch = watch.get(entry.group);
            let (&kernel, at) = entry.advance(param, &mut plans[entry.group])?;
            let at = At { watch, ..at };
            let task = Task::new(&mut param.lent, entry.order, strided, entry.arrays())?;
            Some((task, (kernel, at)))
        });
        let work = |(task, (kernel, at)): (Task<'_, A>, HowTo<'_, C, A>)| {
            task.run(&mut |p, g, state| kernel.run(&at, p, g, state));
        };
        drain(pieces(tasks, chunk), elements / chunk, |(task, _)| task.len(), chunk, work);
    }
}

impl<C: Config, A: Element> fmt::Debug for Fused<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups.iter().map(|group| (&group.name, &group.config));
        let steps = self.entries.iter().map(|entry| (&entry.name, entry.t));
        f.debug_struct("Fused")
            .field("config", &self.config)
            .field("groups", &groups.collect::<HashMap<_, _>>())
            .field("steps", &steps.collect::<HashMap<_, _>>())
            .finish_non_exhaustive()
    }
}

/// `a == b` for short names: a call of `memcmp` would take longer than all the rest of finding a parameter.
#[inline]
fn same(a: &str, b: &str) -> bool {
    let ((a, a_tail), (b, b_tail)) = (a.as_bytes().as_chunks::<8>(), b.as_bytes().as_chunks::<8>());
    let words = |&(a, b): &(&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b);
    a.len() == b.len()
        && a_tail.len() == b_tail.len()
        && a.iter().zip(b).all(|pair| words(&pair))
        && a_tail.iter().zip(b_tail).all(|(a, b)| a == b)
}

impl<C: Config, A: Element> Plan<C, A> {
    fn new() -> Self {
        Plan {
            checked: None,
            kernel: None,
            terms: 0,
            sign: A::one(),
            scale: A::one(),
            directed: false,
            clips: false,
            watched: false,
            scalars: None,
            t: 0,
            sums: None,
            due: false,
            cost: 0,
            names: Vec::new(),
            used: false,
        }
    }

    #[inline]
    fn check(&mut self, config: &C) -> Result<(), Error> {
        if self.is_for(config) { Ok(()) } else { self.change(config) }
    }

    #[inline]
    fn is_for(&self, config: &C) -> bool {
        self.checked.as_ref().is_some_and(|(checked, _)| checked == config)
    }

    #[cold]
    fn change(&mut self, config: &C) -> Result<(), Error> {
        config.validate()?;
        let now = Now::new(config, 1);
        let (kernel, logs): (C::Kernel<A>, _) = (config.kernel(&now), now.logs);
        let mut names = Vec::new();
        kernel.names(&mut names);
        let repeated = (1..names.len()).any(|i| names[..i].contains(&names[i]));
        if names.len() > MAX_STATES || repeated {
            let expected = "at most six state arrays of different names, those of wrappers included";
            return Err(Error::HyperParameter { field: "wrap", value: format!("{names:?}"), expected });
        }
        if self.used && names != self.names {
            return Err(Error::StateChanged { held: self.names.clone(), needed: names });
        }
        if C::GLOBAL {
            // Until the first step they follow the hyper-parameters.
            if self.t == 0 {
                self.scalars = Some(config.scalars());
            }
            self.sums.get_or_insert_default();
        }
        (self.cost, self.terms) = (kernel.cost() * A::COST, kernel.terms());
        self.sign = if config.maximize() { -A::one() } else { A::one() };
        self.scale = self.sign;
        (self.directed, self.clips) = (config.is_directed(), config.clipping().is_some());
        self.watched = config.is_watched();
        (self.checked, self.kernel, self.names) = (Some((config.clone(), logs)), None, names);
        Ok(())
    }

    /// Where an array stands at its step `t`.
    #[inline(always)]
    fn now(&self, t: u64, scalars: Scalars, loss: f64) -> Option<(&C, Now)> {
        let (config, logs) = self.checked.as_ref()?;
        Some((config, Now { t, scalars: self.scalars.unwrap_or(scalars), loss, measuring: false, logs: *logs }))
    }

    /// The kernel of step `t`: one for all arrays that have made as many steps and remember the same.
    #[inline]
    fn kernel(&mut self, t: u64, scalars: Scalars) -> Option<&C::Kernel<A>> {
        let scalars = self.scalars.unwrap_or(scalars);
        if self.kernel.as_ref().is_none_or(|&(at, of, _)| at != t || of != scalars) {
            let (config, now) = self.now(t, scalars, f64::NAN)?;
            self.kernel = Some((t, scalars, config.kernel(&now)));
        }
        self.kernel.as_ref().map(|(.., kernel)| kernel)
    }
}

impl<A: Element> Entry<A> {
    /// Counts the step: its kernel, and how to run it. `None` without a gradient.
    #[inline]
    fn advance<'p, C: Config>(
        &mut self,
        param: &Param<'_, A>,
        plan: &'p mut Plan<C, A>,
    ) -> Option<(&'p C::Kernel<A>, At<'static, A>)> {
        if !param.lent.has_grad() {
            return None;
        }
        if !self.allocated {
            self.allocate(param.lent.order, plan);
        }
        self.count(param.factor, plan)
    }

    /// Counts a step of an array whose state is allocated.
    #[inline]
    fn count<'p, C: Config>(&mut self, factor: A, plan: &'p mut Plan<C, A>) -> Option<(&'p C::Kernel<A>, At<'static, A>)> {
        self.t += 1;
        if plan.terms == 0 {
            let (config, now) = plan.now(self.t, self.scalars, f64::NAN)?;
            self.scalars = config.absorb(&now, &[0.0; MAX_TERMS]);
        }
        let at = At { first: !self.begun, scale: plan.scale * factor, watch: None };
        self.begun = true;
        Some((plan.kernel(self.t, self.scalars)?, at))
    }

    #[cold]
    fn allocate<C: Config>(&mut self, order: Order, plan: &mut Plan<C, A>) {
        let (arrays, size) = (self.state.iter_mut().take(plan.names.len()), self.shape.size());
        arrays.for_each(|array| *array = vec![A::ZERO; size]);
        self.scalars = plan.checked.as_ref().map_or(self.scalars, |(config, _)| config.scalars());
        (self.order, self.allocated, plan.used) = (order, true, true);
        if plan.directed
            && let Some((config, _)) = &plan.checked
        {
            self.allocate_factors(config);
        }
        self.unnamed = *self.name == *UNNAMED;
    }

    #[inline]
    fn arrays(&mut self) -> Arrays<'_, A> {
        Arrays(self.state.each_mut().map(Vec::as_mut_slice))
    }
}

impl<C: Config, A: Element> Fused<C, A> {
    /// `update` once everything is known to be as in the step before: the one array, row-major, small enough for one thread.
    /// For a hundred elements finding that out through the general path takes as long as the arithmetic. `None`: not so.
    #[inline]
    fn repeat<D: Dimension>(&mut self, p: &mut ArrayViewMut<'_, A, D>, g: &ArrayView<'_, A, D>) -> Option<()> {
        let ([entry], [plan]) = (&mut self.entries[..], &mut self.plans[..]) else { return None };
        let same = p.ndim() == g.ndim() && same_lengths(p.shape(), g.shape()) && entry.shape.is(p.shape());
        let (p, g) = (p.as_slice_mut()?, g.as_slice()?);
        let known = !plan.directed
            && !plan.watched
            && !entry.swapped
            && !plan.clips
            && entry.unnamed
            && entry.order == Order::C
            && plan.terms == 0
            && plan.is_for(&self.config);
        if !same || !known || self.non_finite != NonFinite::Propagate || self.parallel.pays(p.len() as u64 * plan.cost) {
            return None;
        }
        entry.t += 1;
        let (config, now) = plan.now(entry.t, entry.scalars, f64::NAN)?;
        entry.scalars = config.absorb(&now, &[0.0; MAX_TERMS]);
        let at = At { first: false, scale: plan.scale, watch: None };
        plan.kernel(entry.t, entry.scalars)?.run(&at, p, g, entry.arrays());
        Some(())
    }
}

impl<C: Config, A: Element> Optimizer<A> for Fused<C, A> {
    #[inline]
    fn update<'a, D: Dimension>(
        &mut self,
        param: impl Into<ArrayViewMut<'a, A, D>>,
        grad: impl Into<ArrayView<'a, A, D>>,
    ) -> Result<Outcome, Error> {
        let (mut param, grad) = (param.into(), grad.into());
        if self.repeat(&mut param, &grad).is_some() {
            return Ok(Outcome::Applied);
        }
        run_unnamed(self, param, grad, None)
    }

    #[inline]
    fn run(&mut self, mut lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        self.prepare()?;
        if C::LOSS && !lending.loss.is_some_and(f64::is_finite) {
            return Err(Error::Loss { given: lending.loss });
        }
        let Some(work) = self.admit(&mut lending)? else { return Ok(Outcome::Skipped) };
        self.clip(&mut lending);
        if self.plans.iter().any(|plan| plan.terms > 0) {
            self.measure(&mut lending);
        }
        let watch = self.begin_watch();
        if self.plans.iter().any(|plan| plan.directed) {
            self.sweep_directed(lending, &watch);
        } else if self.parallel.pays(work) {
            self.sweep_parallel(lending, &watch);
        } else {
            self.sweep(lending, &watch);
        }
        self.report_on(watch);
        Ok(Outcome::Applied)
    }

    fn swap_average(&mut self, name: &str, mut param: ArrayViewMutD<'_, A>) -> Result<(), Error> {
        let none = || Error::NoAverage { name: name.into() };
        let entry = self.entry_of.get(name).map(|&entry| &mut self.entries[entry]).ok_or_else(none)?;
        let names = &self.plans[entry.group].names;
        let average = names.iter().rposition(|name| AVERAGES.contains(name)).filter(|_| entry.allocated);
        let memory = &mut entry.state[average.ok_or_else(none)?];
        if !entry.shape.is(param.shape()) {
            let (known, given) = (entry.shape.as_slice().to_vec(), param.shape().to_vec());
            return Err(Error::ShapeChanged { name: name.into(), known, given });
        }
        if let Some(average) = entry.order.view_mut(&entry.shape, memory) {
            let mut average = trimmed(average, param.ndim());
            Zip::from(&mut param).and(&mut average).for_each(std::mem::swap);
            entry.swapped = !entry.swapped;
        }
        Ok(())
    }

    fn report(&self) -> &[GroupReport] {
        &self.report
    }

    fn grad_norm(&self) -> Option<f64> {
        self.grad_norm
    }

    fn lr(&self) -> f64 {
        self.config.lr()
    }

    fn set_lr(&mut self, lr: f64) {
        self.config.set_lr(lr);
    }

    fn group_lr(&self, group: &str) -> Result<f64, Error> {
        self.group_config(group).map(C::lr)
    }

    fn set_group_lr(&mut self, group: &str, lr: f64) -> Result<(), Error> {
        self.group_config_mut(group).map(|config| config.set_lr(lr))
    }

    fn evaluation(&self, name: &str, param: ArrayViewD<'_, A>) -> ArrayD<A> {
        let mut point = param.to_owned();
        let Some(entry) = self.entry_of.get(name).map(|&entry| &self.entries[entry]) else { return point };
        let plan = &self.plans[entry.group];
        if let Some((config, _)) = &plan.checked
            && entry.allocated
            && entry.shape.is(point.shape())
        {
            let state = self.state(name);
            let arrays = &state[..plan.names.len()];
            let mut values = vec![A::ZERO; arrays.len()];
            for (index, p) in point.indexed_iter_mut() {
                values.iter_mut().zip(arrays).for_each(|(value, (_, array))| *value = array[&index]);
                *p = config.evaluate(*p, &Lane { names: &plan.names, values: &values });
            }
        }
        point
    }

    fn field_mut(&mut self, group: Option<&str>, name: &str) -> Result<&mut f64, Error> {
        let config = match group {
            None => &mut self.config,
            Some(group) => self.group_config_mut(group)?,
        };
        let optimizer = type_name::<C>();
        config.field_mut(name).ok_or_else(|| Error::UnknownField { field: name.into(), optimizer })
    }

    fn group_names(&self) -> Vec<String> {
        self.groups.iter().map(|group| group.name.clone()).collect()
    }

    fn set_parallel(&mut self, parallel: Parallel) {
        self.parallel = parallel;
    }

    fn set_non_finite(&mut self, non_finite: NonFinite) {
        self.non_finite = non_finite;
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    fn freeze(&mut self, group: &str, frozen: bool) -> Result<(), Error> {
        match self.find_group(group) {
            Some(i) => self.groups[i].frozen = frozen,
            None => return Err(self.unknown(group)),
        }
        Ok(())
    }

    fn steps(&self, name: &str) -> u64 {
        Fused::steps(self, name)
    }

    fn state_view(&self) -> StateView<'_> {
        self.save()
    }

    fn differences(&self, state: &StateView<'_>) -> Vec<Difference> {
        self.stage(&mut state.view()).err().unwrap_or_default()
    }

    fn load_state_dict(&mut self, mut state: StateView<'_>) -> Result<(), Error> {
        let staged = self.stage(&mut state).map_err(Error::State)?;
        self.put(&state, staged);
        Ok(())
    }

    fn load_matching(&mut self, state: StateView<'_>) -> Result<Report, Error> {
        self.take_matching(state)
    }

    fn add_group(&mut self, group: ParamGroup) -> Result<(), Error> {
        match self.config.adopt(&group.config) {
            Some(config) => self.group(group.group, group.params, config),
            None => Err(Error::OtherOptimizer {
                given: group.config.name(),
                group: group.group,
                optimizer: type_name::<C>().rsplit("::").next().unwrap_or_default(),
            }),
        }
    }
}
