//! Type erasure: an algorithm with its hyper-parameters as the trait object that the optimizer
//! calls.
use super::{
    Algorithm, Clipping, Clock, ElementState, ExtraArray, Logs, Scalars, Stage, StageKind,
    StepContext, WholeArray, split_stages,
};
use crate::{
    Error,
    array::{Element, TypeFamily},
    kernel::{Arrays, Kernel, KernelArgs, MAX_STATES, Sums, reduce::RunningSums},
};
use std::{
    any::{Any, TypeId},
    fmt,
};

/// The hyper-parameters that groups with the same algorithm have in common if they share their
/// sums.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shared {
    /// The name of the algorithm, without wrappers.
    pub algorithm: &'static str,
    pub fields: Vec<(&'static str, f64)>,
}

/// What an algorithm and its wrappers require of the optimizer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Requirements {
    /// The names of its state arrays in the shape of the parameter.
    pub arrays: Vec<&'static str>,
    /// The names of state arrays that come and go with a numeric hyper-parameter.
    pub switched: &'static [&'static str],
    /// The sizes below which numbers of each state array are flushed to 0 once in a while.
    pub floors: [f64; MAX_STATES],
    /// Approximate time for one element, in units of 0.1 ns.
    pub cost: u64,
    /// The number of sums over whole arrays that it needs.
    pub terms: usize,
    /// Whether these sums run over all arrays of a group together.
    pub global_sums: bool,
    /// What all groups must have in common whose sums run over all of their arrays together.
    pub shared: Option<Shared>,
    /// Whether it needs the value of the objective.
    pub loss: bool,
    /// Whether the gradient is negated.
    pub maximize: bool,
    /// Whether it preconditions the gradients of whole arrays before its kernel runs.
    pub preconditioned: bool,
    /// Whether its preconditioner reads [`WholeArray::source`].
    pub reads_source: bool,
    /// Whether rows of an array can be updated separately.
    pub row_wise: bool,
    /// Whether it uses estimates of the diagonal of the Hessian.
    pub hessian: bool,
    /// The largest size of a gradient element that it can use, unless something changes gradients
    /// first.
    pub largest_gradient: Option<f64>,
    /// Whether statistics of each step are gathered.
    pub watched: bool,
    /// The wrappers that transform gradients before the sweep, from the outside in.
    pub stages: Vec<Stage>,
    /// Clippings whose norms are those of the gradients passed to the step, from the outside in.
    pub clippings: Vec<Clipping>,
}

impl Requirements {
    /// Whether gradients are copied and transformed before the sweep.
    pub fn is_staged(&self) -> bool {
        self.preconditioned || !self.stages.is_empty()
    }

    /// Whether a norm or a sum runs over all arrays of a group together.
    pub fn spans_arrays(&self) -> bool {
        let global = |stage: &Stage| matches!(stage.kind, StageKind::Clip(clip) if clip.global);
        self.global_sums || self.stages.iter().any(global)
    }

    /// Takes the place of others after the check; out of line, because every engine does it.
    #[inline(never)]
    fn replace(self, old: &mut Requirements) -> Result<(), Error> {
        self.check()?;
        *old = self;
        Ok(())
    }

    /// Checks the number of state arrays, and that their names are unique.
    pub fn check(&self) -> Result<(), Error> {
        let names = &self.arrays;
        let repeated = (1..names.len()).any(|i| names[..i].contains(&names[i]));
        if names.len() > MAX_STATES || repeated {
            return Err(Error::HyperParameter {
                field: "wrap".into(),
                value: format!("{names:?}"),
                expected: "at most six state arrays with unique names, including those of wrappers"
                    .into(),
            });
        }
        Ok(())
    }
}

/// An algorithm or a wrapper, as a part of an engine.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub(crate) name: &'static str,
    pub(crate) value: &'a dyn Any,
}

impl<'a> Part<'a> {
    pub(crate) fn new(name: &'static str, value: &'a dyn Any) -> Self {
        Part { name, value }
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The names of all parts: `adamw + clip_by_value + ema`.
pub(crate) fn kind(parts: &[Part<'_>]) -> String {
    parts
        .iter()
        .map(|part| part.name)
        .collect::<Vec<_>>()
        .join(" + ")
}

/// The scalar arguments of a step of one array, or of all arrays of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepInfo {
    /// The step count of the array: 1 in its first step.
    pub t: u64,
    /// The steps of the optimizer.
    pub clock: Clock,
    /// The scalars of the state.
    pub scalars: Scalars,
    /// The value of the objective.
    pub loss: f64,
    /// Whether the sums of this step have not been computed yet.
    pub sums_pending: bool,
}

impl StepInfo {
    /// A step without pending sums, of an array that has not missed any.
    pub fn new(t: u64, scalars: Scalars, loss: f64) -> Self {
        StepInfo {
            t,
            clock: Clock::in_step(t),
            scalars,
            loss,
            sums_pending: false,
        }
    }

    /// Whether both steps have the same kernel. The loss affects kernels only through the scalars.
    pub fn same_kernel(&self, other: &StepInfo) -> bool {
        (self.t, self.clock, self.sums_pending) == (other.t, other.clock, other.sums_pending)
            && self.scalars == other.scalars
    }

    #[inline(always)]
    pub fn context(&self, logs: Logs, initial_lr: f64) -> StepContext {
        StepContext {
            t: self.t,
            clock: self.clock,
            scalars: self.scalars,
            loss: self.loss,
            sums_pending: self.sums_pending,
            initial_lr,
            logs,
        }
    }
}

/// An algorithm with its hyper-parameters and wrappers, for arrays of `A`: the interface of the
/// optimizer to it. Steps make one dynamic call for each piece of memory.
pub(crate) trait Engine<A: Element>: fmt::Debug + Send + Sync {
    /// Validates the hyper-parameters if they have changed since the last call. Returns a version
    /// number, which changes whenever they have changed.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    fn check(&mut self) -> Result<u64, Error>;
    /// Returns the requirements, as of the last [`check`](Engine::check).
    fn requirements(&self) -> &Requirements;
    /// Returns a copy.
    fn duplicate(&self) -> Box<dyn Engine<A>>;

    /// Returns the learning rate.
    fn lr(&self) -> f64;
    /// Sets the learning rate.
    fn set_lr(&mut self, lr: f64);
    /// Returns the learning rate at the start of the run: the one that the engine was created with.
    fn initial_lr(&self) -> f64;
    /// Sets the learning rate at the start of a run that is resumed.
    fn set_initial_lr(&mut self, lr: f64);
    /// Returns a numeric hyper-parameter by name.
    fn number_mut(&mut self, name: &str) -> Option<&mut f64>;
    /// Returns the names of all numeric hyper-parameters.
    fn numbers(&self) -> Vec<String>;
    /// Returns the algorithm and its wrappers, from the inside out.
    fn parts(&self) -> Vec<Part<'_>>;
    /// Sets the hyper-parameters from parts of the same types. Returns `false` and changes nothing
    /// if the types differ.
    fn restore(&mut self, parts: &[Part<'_>]) -> bool;
    /// Returns the whole algorithm or a part of it, by type.
    fn part(&self, of: TypeId) -> Option<&dyn Any>;
    /// As [`part`](Engine::part), but mutable.
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any>;

    /// Returns the scalars before the first step.
    fn initial_scalars(&self) -> Scalars;
    /// Returns the scalars of this step.
    fn update_scalars(&self, step: &StepInfo, sums: &Sums) -> Scalars;
    /// Returns the state arrays whose shape is not that of the parameter.
    ///
    /// # Errors
    ///
    /// A description of the shapes that the algorithm supports.
    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str>;
    /// Returns the approximate time of a transform of an array of this shape in nanoseconds.
    fn transform_cost(&self, shape: &[usize]) -> f64;
    /// Applies the whole-array transform of the wrapper of the `k`th stage.
    fn stage_whole(&self, k: usize, step: &StepInfo, array: WholeArray<'_, A>);
    /// Applies the gradient hook of the wrapper of the `k`th stage.
    fn stage_elements(
        &self,
        k: usize,
        step: &StepInfo,
        first: bool,
        p: &[A],
        g: &mut [A],
        own: Arrays<'_, A>,
    );
    /// Preconditions the gradient and returns the scalars of this step.
    fn transform(&self, step: &StepInfo, array: WholeArray<'_, A>) -> Scalars;
    /// Returns the point to evaluate the model at.
    fn evaluate(&self, p: A, state: &ElementState<'_, A>) -> A;
    /// Updates the state with an estimate of the diagonal of the Hessian.
    fn update_hessian(&self, estimate: &[A], state: Arrays<'_, A>);

    /// Discards the kernels of the last step.
    fn begin_step(&mut self);
    /// Returns the index of the kernel of a step, which is created unless it equals the last one.
    fn prepare(&mut self, step: &StepInfo) -> usize;
    /// Runs a kernel.
    fn run(&self, kernel: usize, args: &KernelArgs, p: &mut [A], g: &[A], state: Arrays<'_, A>);
    /// Adds the terms of these elements to the sums, and initializes the state at the first step.
    fn measure(
        &self,
        kernel: usize,
        args: &KernelArgs,
        p: &[A],
        g: &[A],
        state: Arrays<'_, A>,
        sums: &mut RunningSums,
    );
    /// Repeats the last step of a small array in one call: scalars, kernel, run. Updates the scalars
    /// of `step`. Returns `false` and does nothing if hyper-parameters have changed.
    fn repeat(&mut self, step: &mut StepInfo, p: &mut [A], g: &[A], state: Arrays<'_, A>) -> bool;
}

/// An algorithm for arrays of `A`, the argument of [`Optimizer::new`](crate::Optimizer::new) and of
/// groups.
///
/// Every [`Algorithm`], with or without wrappers, and every [`AnyAlgorithm`](crate::AnyAlgorithm)
/// converts into a recipe.
pub struct Recipe<A>(pub(crate) Box<dyn Engine<A>>);

impl<A: Element> TypeFamily for Recipe<A> {
    type Of<B: Element> = Recipe<B>;
}

impl<A: Element> fmt::Debug for Recipe<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<A: Element> Clone for Recipe<A> {
    fn clone(&self) -> Self {
        Recipe(self.0.duplicate())
    }
}

impl<A: Element, C: Algorithm> From<C> for Recipe<A> {
    fn from(algorithm: C) -> Self {
        algorithm.recipe()
    }
}

impl<A: Element> Recipe<A> {
    /// Creates the engine of any algorithm, compiled where this is called.
    pub(crate) fn typed<C: Algorithm>(algorithm: C) -> Self {
        Recipe(Box::new(Typed::new(algorithm)))
    }
}

/// The engine of an algorithm of a static type.
struct Typed<C: Algorithm, A: Element> {
    algorithm: C,
    checked: Option<C>,
    /// Whether the algorithm may differ from `checked`.
    touched: bool,
    version: u64,
    initial_lr: f64,
    logs: Logs,
    requirements: Requirements,
    /// The kernels of this step, with the steps they were created for.
    kernels: Vec<(StepInfo, C::Kernel<A>)>,
}

impl<C: Algorithm, A: Element> Typed<C, A> {
    fn new(algorithm: C) -> Self {
        Typed {
            initial_lr: algorithm.lr(),
            algorithm,
            checked: None,
            touched: true,
            version: 0,
            logs: Logs::default(),
            requirements: Requirements::default(),
            kernels: Vec::new(),
        }
    }

    #[inline(always)]
    fn context(&self, step: &StepInfo) -> StepContext {
        step.context(self.logs, self.initial_lr)
    }

    #[cold]
    fn has_changed(&mut self) -> bool {
        self.touched = self.checked.as_ref() != Some(&self.algorithm);
        self.touched
    }

    #[cold]
    fn recheck(&mut self) -> Result<(), Error> {
        let algorithm = &self.algorithm;
        algorithm.validate()?;
        algorithm.fits(A::max_value().f64())?;
        let kernel: C::Kernel<A> = algorithm.kernel(&StepContext::new(algorithm, 1));
        let mut arrays = Vec::new();
        kernel.names(&mut arrays);
        let mut wrappers = Vec::new();
        algorithm.stages::<A>(&mut wrappers, arrays.len());
        // A barrier that is not a wrapper belongs to the algorithm.
        let preconditioned = algorithm.is_preconditioned::<A>();
        let (stages, clippings, _) = split_stages(&wrappers, preconditioned);
        let requirements = Requirements {
            arrays,
            switched: C::DEMANDS.switched,
            cost: kernel.cost().saturating_mul(A::COST),
            floors: kernel.floors().map(A::f64),
            terms: kernel.terms(),
            global_sums: C::DEMANDS.global_sums && kernel.terms() > 0,
            shared: algorithm.shared().map(|fields| Shared {
                algorithm: C::NAME,
                fields,
            }),
            loss: C::DEMANDS.loss,
            maximize: algorithm.maximize(),
            preconditioned,
            reads_source: C::DEMANDS.reads_source,
            row_wise: C::DEMANDS.row_wise,
            hessian: C::DEMANDS.hessian,
            largest_gradient: wrappers
                .iter()
                .all(Stage::keeps_gradients)
                .then(|| algorithm.largest_gradient(A::max_value().f64())),
            watched: algorithm.is_watched(),
            stages,
            clippings,
        };
        requirements.replace(&mut self.requirements)?;
        self.logs = Logs::new(algorithm.decay_rates());
        self.version += 1;
        self.checked = Some(algorithm.clone());
        self.touched = false;
        Ok(())
    }
}

/// One function for each kind of kernel, whatever choices it consists of.
#[inline(never)]
fn run<A: Element, K: Kernel<A>>(
    kernel: &K,
    args: &KernelArgs,
    p: &mut [A],
    g: &[A],
    state: Arrays<'_, A>,
) {
    kernel.run(args, p, g, state);
}

impl<C: Algorithm, A: Element> fmt::Debug for Typed<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl<C: Algorithm, A: Element> Engine<A> for Typed<C, A> {
    fn check(&mut self) -> Result<u64, Error> {
        if self.touched && self.has_changed() {
            self.recheck()?;
        }
        Ok(self.version)
    }
    fn requirements(&self) -> &Requirements {
        &self.requirements
    }
    fn duplicate(&self) -> Box<dyn Engine<A>> {
        Box::new(Typed {
            algorithm: self.algorithm.clone(),
            checked: self.checked.clone(),
            requirements: self.requirements.clone(),
            kernels: Vec::new(),
            ..*self
        })
    }
    fn lr(&self) -> f64 {
        self.algorithm.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.touched = true;
        self.algorithm.set_lr(lr);
    }
    fn initial_lr(&self) -> f64 {
        self.initial_lr
    }
    fn set_initial_lr(&mut self, lr: f64) {
        self.initial_lr = lr;
    }
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.touched = true;
        self.algorithm.number_mut(name)
    }
    fn numbers(&self) -> Vec<String> {
        self.algorithm.numbers()
    }
    fn parts(&self) -> Vec<Part<'_>> {
        self.algorithm.parts()
    }
    fn restore(&mut self, parts: &[Part<'_>]) -> bool {
        let restored = self.algorithm.rebuild(parts);
        let is_same = restored.is_some();
        if let Some(algorithm) = restored {
            self.touched = true;
            self.algorithm = algorithm;
        }
        is_same
    }
    fn part(&self, of: TypeId) -> Option<&dyn Any> {
        if of == TypeId::of::<C>() {
            return Some(&self.algorithm);
        }
        // The outermost first, as in `part_mut`.
        let mut values = self
            .algorithm
            .parts()
            .into_iter()
            .rev()
            .map(|part| part.value);
        values.find(|value| (**value).type_id() == of)
    }
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any> {
        self.touched = true;
        self.algorithm.part_mut(of)
    }
    fn initial_scalars(&self) -> Scalars {
        self.algorithm.initial_scalars()
    }
    fn update_scalars(&self, step: &StepInfo, sums: &Sums) -> Scalars {
        self.algorithm.update_scalars(&self.context(step), sums)
    }
    fn transform_cost(&self, shape: &[usize]) -> f64 {
        self.algorithm.transform_cost(shape)
    }
    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        let arrays = self.algorithm.extra_arrays(shape)?;
        // An array without elements has no state: its other axes can be longer than memory.
        Ok(if shape.contains(&0) {
            Vec::new()
        } else {
            arrays
        })
    }
    fn stage_whole(&self, k: usize, step: &StepInfo, array: WholeArray<'_, A>) {
        self.algorithm.stage_whole(k, &self.context(step), array);
    }
    fn stage_elements(
        &self,
        k: usize,
        step: &StepInfo,
        first: bool,
        p: &[A],
        g: &mut [A],
        own: Arrays<'_, A>,
    ) {
        self.algorithm
            .stage_elements(k, &self.context(step), first, p, g, own);
    }
    fn transform(&self, step: &StepInfo, array: WholeArray<'_, A>) -> Scalars {
        self.algorithm.transform(&self.context(step), array)
    }
    fn evaluate(&self, p: A, state: &ElementState<'_, A>) -> A {
        self.algorithm.evaluate(p, state)
    }
    fn update_hessian(&self, estimate: &[A], state: Arrays<'_, A>) {
        self.algorithm.update_hessian(estimate, state);
    }
    fn begin_step(&mut self) {
        self.kernels.clear();
    }
    fn prepare(&mut self, step: &StepInfo) -> usize {
        if !self
            .kernels
            .last()
            .is_some_and(|(made, _)| made.same_kernel(step))
        {
            let kernel = self.algorithm.kernel(&self.context(step));
            self.kernels.push((*step, kernel));
        }
        self.kernels.len() - 1
    }
    fn run(&self, kernel: usize, args: &KernelArgs, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        run(&self.kernels[kernel].1, args, p, g, state);
    }
    fn measure(
        &self,
        kernel: usize,
        args: &KernelArgs,
        p: &[A],
        g: &[A],
        state: Arrays<'_, A>,
        sums: &mut RunningSums,
    ) {
        self.kernels[kernel].1.measure(args, p, g, state, sums);
    }
    fn repeat(&mut self, step: &mut StepInfo, p: &mut [A], g: &[A], state: Arrays<'_, A>) -> bool {
        if self.touched && self.has_changed() {
            return false;
        }
        step.scalars = (self.algorithm).update_scalars(&self.context(step), &Sums::default());
        let kernel: C::Kernel<A> = self.algorithm.kernel(&self.context(step));
        run(&kernel, &KernelArgs::default(), p, g, state);
        true
    }
}
