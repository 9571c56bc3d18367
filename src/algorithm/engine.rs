//! Where types end: an algorithm with its hyper-parameters as the one object that the optimizer talks to.
use super::{Algorithm, Clipping, Factor, Lane, Now, Scalars, Whole, factors, logs};
use crate::{
    Error,
    array::{Element, Family},
    kernel::{Arrays, At, Kernel, MAX_STATES, MAX_TERMS, reduce::Sum},
};
use std::{
    any::{Any, TypeId},
    fmt,
};

/// What the optimizer has to know of an algorithm and the wrappers around it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Demands {
    /// The names of its state arrays in the shape of the parameter.
    pub arrays: Vec<&'static str>,
    /// Time of one element, in units of 0.1 ns.
    pub cost: u64,
    /// How many sums over whole arrays it needs.
    pub terms: usize,
    /// Whether these sums run over all arrays of a group together.
    pub global: bool,
    /// Whether it needs the value of the objective.
    pub loss: bool,
    /// Whether it climbs.
    pub maximize: bool,
    /// Whether steps begin with a direction.
    pub directed: bool,
    /// Whether some rows of an array can be stepped without the others.
    pub row_wise: bool,
    /// Whether it takes estimates of curvature.
    pub curvature: bool,
    /// Whether what a step does is gathered.
    pub watched: bool,
    /// Clipping of gradients by their norm.
    pub clipping: Option<Clipping>,
}

impl Demands {
    /// Whether there is room for the state arrays, and one of each name.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let names = &self.arrays;
        let repeated = (1..names.len()).any(|i| names[..i].contains(&names[i]));
        if names.len() > MAX_STATES || repeated {
            let expected = "at most six state arrays of different names, those of wrappers included";
            return Err(Error::HyperParameter { field: "wrap", value: format!("{names:?}"), expected });
        }
        Ok(())
    }
}

/// An algorithm or a wrapper that an engine consists of.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its hyper-parameters.
    pub value: &'a dyn Any,
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// `adamw + clip_by_value + ema`.
pub(crate) fn kind(parts: &[Part<'_>]) -> String {
    parts.iter().map(|part| part.name).collect::<Vec<_>>().join(" + ")
}

/// One step of one array, or of all arrays of a group, as far as scalars tell it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepInfo {
    /// The number of the step: 1, 2, ...
    pub t: u64,
    /// Numbers beside the arrays.
    pub scalars: Scalars,
    /// The value of the objective.
    pub loss: f64,
    /// Whether the sums of this step have yet to be taken.
    pub measuring: bool,
}

impl StepInfo {
    /// A step without sums.
    pub(crate) fn new(t: u64, scalars: Scalars, loss: f64) -> Self {
        StepInfo { t, scalars, loss, measuring: false }
    }

    /// Whether both make the same kernel. The loss has no part in kernels but through the scalars.
    pub(crate) fn is_as(&self, other: &StepInfo) -> bool {
        (self.t, self.scalars, self.measuring) == (other.t, other.scalars, other.measuring)
    }

    #[inline(always)]
    pub(crate) fn now(&self, logs: [f64; 3]) -> Now {
        Now { t: self.t, scalars: self.scalars, loss: self.loss, measuring: self.measuring, logs }
    }
}

mod sealed {
    pub trait Sealed {}
}
pub(crate) use sealed::Sealed;

/// An algorithm with its hyper-parameters and the wrappers around it, for arrays of `A`: all that the optimizer knows of it. One
/// dynamic call for each piece of memory.
///
/// [`Algorithm`] is what to implement; engines are made of it by [`HyperParameters::recipe`](super::HyperParameters::recipe).
pub trait Engine<A: Element>: fmt::Debug + Send + Sync + Sealed {
    /// Checks the hyper-parameters if they have changed since the last call. The number changes whenever they have.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`].
    fn check(&mut self) -> Result<u64, Error>;
    /// What it asks for, as of the last [`check`](Engine::check).
    fn demands(&self) -> &Demands;
    /// A copy.
    fn duplicate(&self) -> Box<dyn Engine<A>>;

    /// The learning rate.
    fn lr(&self) -> f64;
    /// Changes it.
    fn set_lr(&mut self, lr: f64);
    /// A hyper-parameter by name.
    fn field_mut(&mut self, name: &str) -> Option<&mut f64>;
    /// The algorithm and its wrappers, from the inside out.
    fn parts(&self) -> Vec<Part<'_>>;
    /// Takes the hyper-parameters of parts of the same types; `false`: they are of others, and nothing has changed.
    fn restore(&mut self, parts: &[Part<'_>]) -> bool;
    /// The whole or a part of it by its type.
    fn part(&self, of: TypeId) -> Option<&dyn Any>;
    /// The same, to change it.
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any>;

    /// The scalars before the first step.
    fn scalars(&self) -> Scalars;
    /// The scalars of this step.
    fn absorb(&self, at: &StepInfo, sums: &[f64; MAX_TERMS]) -> Scalars;
    /// What is remembered in other shapes than the parameter's.
    ///
    /// # Errors
    ///
    /// What the shape must be.
    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str>;
    /// Replaces the gradient of a whole array.
    fn direct(&self, at: &StepInfo, whole: Whole<'_, A>) -> Scalars;
    /// What an element is evaluated at.
    fn evaluate(&self, p: A, state: &Lane<'_, A>) -> A;
    /// Takes an estimate of curvature.
    fn estimate(&self, estimate: &[A], state: Arrays<'_, A>);

    /// Forgets the kernels of the last step.
    fn begin_step(&mut self);
    /// Makes the kernel of a step and returns its place; the same place as the last one where nothing differs.
    fn prepare(&mut self, at: &StepInfo) -> usize;
    /// Runs the kernel at this place.
    fn run(&self, kernel: usize, at: &At<A>, p: &mut [A], g: &[A], state: Arrays<'_, A>);
    /// Adds to the sums, and begins the state where it has not begun.
    fn measure(&self, kernel: usize, at: &At<A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]);
    /// A step of a small array that is like the one before it, in one call: absorb, prepare and run. `None`: hyper-parameters
    /// have changed, and nothing is done.
    fn repeat(&mut self, at: &StepInfo, scale: A, p: &mut [A], g: &[A], state: Arrays<'_, A>) -> Option<Scalars>;
}

/// An algorithm ready to run on arrays of `A`: what [`Optimizer::new`](crate::Optimizer::new) and groups are given. Everything
/// that is an [`Algorithm`], in wrappers or not, and [`AnyAlgorithm`](crate::AnyAlgorithm) turn into one.
pub struct Recipe<A>(pub(crate) Box<dyn Engine<A>>);

impl<A: Element> Family for Recipe<A> {
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
    /// The engine of any algorithm, compiled where this is called.
    pub(crate) fn compiled_here<C: Algorithm>(algorithm: C) -> Self {
        Recipe(Box::new(Typed::new(algorithm)))
    }
}

/// The engine of an algorithm that is known by its type.
struct Typed<C: Algorithm, A: Element> {
    algorithm: C,
    checked: Option<C>,
    version: u64,
    logs: [f64; 3],
    demands: Demands,
    /// Of this step, with what they were made of.
    kernels: Vec<(StepInfo, C::Kernel<A>)>,
}

impl<C: Algorithm, A: Element> Typed<C, A> {
    fn new(algorithm: C) -> Self {
        Typed { algorithm, checked: None, version: 0, logs: [0.0; 3], demands: Demands::default(), kernels: Vec::new() }
    }

    #[inline(always)]
    fn now(&self, at: &StepInfo) -> Now {
        at.now(self.logs)
    }

    #[cold]
    fn change(&mut self) -> Result<(), Error> {
        let algorithm = &self.algorithm;
        algorithm.validate()?;
        let kernel: C::Kernel<A> = algorithm.kernel(&Now::new(algorithm, 1));
        let mut arrays = Vec::new();
        kernel.names(&mut arrays);
        let demands = Demands {
            arrays,
            cost: kernel.cost() * A::COST,
            terms: kernel.terms(),
            global: C::GLOBAL && kernel.terms() > 0,
            loss: C::LOSS,
            maximize: algorithm.maximize(),
            directed: algorithm.is_directed(),
            row_wise: C::ROW_WISE,
            curvature: C::CURVATURE,
            watched: algorithm.is_watched(),
            clipping: algorithm.clipping(),
        };
        demands.check()?;
        self.demands = demands;
        self.logs = logs(algorithm);
        self.version += 1;
        self.checked = Some(algorithm.clone());
        Ok(())
    }
}

impl<C: Algorithm, A: Element> fmt::Debug for Typed<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl<C: Algorithm, A: Element> Sealed for Typed<C, A> {}

impl<C: Algorithm, A: Element> Engine<A> for Typed<C, A> {
    fn check(&mut self) -> Result<u64, Error> {
        if self.checked.as_ref() != Some(&self.algorithm) {
            self.change()?;
        }
        Ok(self.version)
    }
    fn demands(&self) -> &Demands {
        &self.demands
    }
    fn duplicate(&self) -> Box<dyn Engine<A>> {
        let Typed { algorithm, checked, version, logs, demands, .. } = self;
        let (algorithm, checked, demands) = (algorithm.clone(), checked.clone(), demands.clone());
        Box::new(Typed { algorithm, checked, version: *version, logs: *logs, demands, kernels: Vec::new() })
    }
    fn lr(&self) -> f64 {
        self.algorithm.lr()
    }
    fn set_lr(&mut self, lr: f64) {
        self.algorithm.set_lr(lr);
    }
    fn field_mut(&mut self, name: &str) -> Option<&mut f64> {
        self.algorithm.field_mut(name)
    }
    fn parts(&self) -> Vec<Part<'_>> {
        self.algorithm.parts()
    }
    fn restore(&mut self, parts: &[Part<'_>]) -> bool {
        let restored = self.algorithm.rebuild(parts);
        let is_same = restored.is_some();
        if let Some(algorithm) = restored {
            self.algorithm = algorithm;
        }
        is_same
    }
    fn part(&self, of: TypeId) -> Option<&dyn Any> {
        if of == TypeId::of::<C>() {
            return Some(&self.algorithm);
        }
        // The outermost first, as `part_mut` has it.
        self.algorithm.parts().into_iter().rev().map(|part| part.value).find(|value| (**value).type_id() == of)
    }
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any> {
        self.algorithm.part_mut(of)
    }
    fn scalars(&self) -> Scalars {
        self.algorithm.scalars()
    }
    fn absorb(&self, at: &StepInfo, sums: &[f64; MAX_TERMS]) -> Scalars {
        self.algorithm.absorb(&self.now(at), sums)
    }
    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        factors(&self.algorithm, shape)
    }
    fn direct(&self, at: &StepInfo, whole: Whole<'_, A>) -> Scalars {
        self.algorithm.direct(&self.now(at), whole)
    }
    fn evaluate(&self, p: A, state: &Lane<'_, A>) -> A {
        self.algorithm.evaluate(p, state)
    }
    fn estimate(&self, estimate: &[A], state: Arrays<'_, A>) {
        self.algorithm.estimate(estimate, state);
    }
    fn begin_step(&mut self) {
        self.kernels.clear();
    }
    fn prepare(&mut self, at: &StepInfo) -> usize {
        if !self.kernels.last().is_some_and(|(made, _)| made.is_as(at)) {
            let kernel = self.algorithm.kernel(&self.now(at));
            self.kernels.push((*at, kernel));
        }
        self.kernels.len() - 1
    }
    fn run(&self, kernel: usize, at: &At<A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        self.kernels[kernel].1.run(at, p, g, state);
    }
    fn measure(&self, kernel: usize, at: &At<A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]) {
        self.kernels[kernel].1.measure(at, p, g, state, sums);
    }
    fn repeat(&mut self, at: &StepInfo, scale: A, p: &mut [A], g: &[A], state: Arrays<'_, A>) -> Option<Scalars> {
        if self.checked.as_ref() != Some(&self.algorithm) {
            return None;
        }
        let now = self.now(at);
        let scalars = self.algorithm.absorb(&now, &[0.0; MAX_TERMS]);
        let kernel: C::Kernel<A> = self.algorithm.kernel(&Now { scalars, ..now });
        kernel.run(&At { first: false, scale }, p, g, state);
        Some(scalars)
    }
}
