//! What an algorithm is: the traits to implement for one of your own, and what [`Optimizer`](crate::Optimizer) sees of it.
//!
//! An algorithm is a struct of hyper-parameters. [`HyperParameters`] gives its name and learning rate, [`Algorithm`] makes the
//! kernel of each step from it, usually a [`Rule`](crate::kernel::Rule): the arithmetic on one element. Layouts, threads, groups,
//! wrappers and states come with the [`Optimizer`](crate::Optimizer).
//!
//! ```
//! use ndarray::array;
//! use ndarray_optim::{
//!     Algorithm, HyperParameters, Optimizer,
//!     algorithm::{Fields, Now},
//!     kernel::{Element, Rule},
//! };
//!
//! /// Gradient descent with a heavy ball.
//! #[derive(Clone, Debug, PartialEq)]
//! struct HeavyBall {
//!     lr: f64,
//!     momentum: f64,
//! }
//!
//! #[derive(Clone, Copy)]
//! struct Step<A> {
//!     lr: A,
//!     momentum: A,
//! }
//!
//! impl<A: Element> Rule for Step<A> {
//!     type Elem = A;
//!     type State = [A; 1];
//!     const STATE: &'static [&'static str] = &["velocity"];
//!     const COST: u64 = 2;
//!     #[inline(always)]
//!     fn delta(&self, _p: A, g: A, [v]: [A; 1]) -> (A, [A; 1]) {
//!         let v = (self.momentum * v + g).flush();
//!         (self.lr * v, [v])
//!     }
//! }
//!
//! impl Fields for HeavyBall {}
//! impl HyperParameters for HeavyBall {
//!     const NAME: &'static str = "heavy_ball";
//!     fn lr(&self) -> f64 {
//!         self.lr
//!     }
//!     fn set_lr(&mut self, lr: f64) {
//!         self.lr = lr;
//!     }
//! }
//! impl Algorithm for HeavyBall {
//!     type Kernel<A: Element> = Step<A>;
//!     #[inline(always)]
//!     fn kernel<A: Element>(&self, _now: &Now) -> Step<A> {
//!         Step { lr: A::of(self.lr), momentum: A::of(self.momentum) }
//!     }
//! }
//!
//! let mut optimizer = Optimizer::new(HeavyBall { lr: 0.1, momentum: 0.9 });
//! let mut theta = array![1.0, -2.0];
//! optimizer.update(&mut theta, &array![1.0, 0.0])?;
//! assert_eq!(theta, array![0.9, -2.0]);
//! # Ok::<(), ndarray_optim::Error>(())
//! ```
mod engine;
pub(crate) mod fields;
mod whole;

pub use engine::{Demands, Engine, Part, Recipe, StepInfo};
pub(crate) use engine::{Sealed, kind};
pub use fields::Fields;
pub(crate) use fields::fields;
pub(crate) use whole::factors;
pub use whole::{Factor, Whole};

use crate::{
    Error,
    array::Element,
    kernel::{Arrays, Kernel, MAX_TERMS, reduce::Norm},
};
use std::{
    any::{Any, TypeId},
    fmt,
};

/// Numbers that an algorithm remembers beside its arrays: of one array, or of all arrays of a group.
pub type Scalars = [f64; 4];

/// What every set of hyper-parameters has.
pub trait HyperParameters: Fields + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The name of the algorithm, in messages and files.
    const NAME: &'static str;

    /// The learning rate.
    fn lr(&self) -> f64;

    /// Changes the learning rate.
    fn set_lr(&mut self, lr: f64);

    /// The algorithm ready to run: what [`Optimizer::new`](crate::Optimizer::new) is given. Algorithms of the catalogue have
    /// theirs compiled in this crate; leave it as it is in yours.
    fn recipe<A: Element>(self) -> Recipe<A>
    where
        Self: Algorithm,
    {
        Recipe::compiled_here(self)
    }
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The number of this step: 1, 2, ...
    pub t: u64,
    /// What [`Algorithm::absorb`] left.
    pub scalars: Scalars,
    /// The value of the objective, for algorithms that use it.
    pub loss: f64,
    /// Whether the sums of this step have yet to be taken.
    pub measuring: bool,
    logs: [f64; 3],
}

impl Now {
    /// Step `t` of an array that remembers no scalars.
    pub fn new(algorithm: &impl Algorithm, t: u64) -> Self {
        let logs = logs(algorithm);
        Now { t, scalars: algorithm.scalars(), loss: f64::NAN, measuring: false, logs }
    }

    /// `1 - beta^t` for the `k`th of [`Algorithm::betas`], without the cancellation of the plain form.
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

/// The logarithms that [`Now::correction`] needs.
fn logs(algorithm: &impl Algorithm) -> [f64; 3] {
    algorithm.betas().map(f64::ln)
}

/// The state of one element, by the names of its arrays.
pub struct Lane<'a, A> {
    pub(crate) names: &'a [&'static str],
    pub(crate) values: &'a [A],
}

impl<A: Element> Lane<'_, A> {
    /// The number in the array of this name.
    pub fn get(&self, name: &str) -> Option<A> {
        self.values.get(self.names.iter().position(|&known| known == name)?).copied()
    }
}

/// How gradients are clipped by their norm, before anything else is done with them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipping {
    /// The norm at which to begin.
    pub max_norm: f64,
    /// Which norm.
    pub norm: Norm,
    /// Added to the norm in the division, and the factor is at most 1: torch. 0: optax.
    pub eps: f64,
    /// Whether the norm is that of all arrays together.
    pub global: bool,
    /// Whether it is divided by the root of the number of elements.
    pub mean: bool,
}

impl Clipping {
    /// What gradients of this norm are multiplied with.
    pub(crate) fn factor(&self, norm: f64) -> f64 {
        // A norm that is infinite or NaN makes no factor of 0 or NaN: what is not finite shows in the parameters.
        if norm + self.eps > self.max_norm && norm.is_finite() { self.max_norm / (norm + self.eps) } else { 1.0 }
    }
}

/// An algorithm, as its file gives it: what its hyper-parameters must be, and the arithmetic of a step.
pub trait Algorithm: HyperParameters {
    /// The arithmetic of one step.
    type Kernel<A: Element>: Kernel<A>;
    /// Whether the sums of [`Rule::terms`](crate::kernel::Rule::terms) run over all arrays of a group together.
    const GLOBAL: bool = false;
    /// Whether a step needs the value of the objective.
    const LOSS: bool = false;
    /// Whether some rows of an array can be stepped without the others
    /// ([`Optimizer::update_rows`](crate::Optimizer::update_rows)): the new value and state of an element must come from that
    /// element alone, without sums, directions or clipping, and its state must begin the same whatever it is.
    const ROW_WISE: bool = false;
    /// Whether it takes estimates of curvature ([`Algorithm::estimate`]).
    const CURVATURE: bool = false;

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] names the first field that is out of range, with its value.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

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

    /// Whether steps begin with [`Algorithm::direct`].
    fn is_directed(&self) -> bool {
        false
    }

    /// Clipping of gradients by their norm.
    fn clipping(&self) -> Option<Clipping> {
        None
    }

    /// Whether steps gather what [`Optimizer::report`](crate::Optimizer::report) tells.
    fn is_watched(&self) -> bool {
        false
    }

    /// What [`Algorithm::direct`] remembers of an array of this shape: the name and shape of each factor.
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

    /// What an element is evaluated at: itself, or for schedule-free algorithms the average, from its state.
    fn evaluate<A: Element>(&self, p: A, _state: &Lane<'_, A>) -> A {
        p
    }

    /// Takes estimates of the Hessian's diagonal into the state of the same elements, which has begun
    /// ([`Optimizer::update_hessian`](crate::Optimizer::update_hessian)).
    fn estimate<A: Element>(&self, _estimate: &[A], _state: Arrays<'_, A>) {}

    /// The kernel of this step, its scalars folded in `f64` and rounded once; for the sums, that with the scalars of before.
    ///
    /// Give it `#[inline(always)]`: a kernel that is returned through memory and copied costs a small array a quarter of its
    /// step.
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A>;

    /// The algorithm and the wrappers it consists of, from the inside out.
    fn parts(&self) -> Vec<Part<'_>> {
        vec![Part { name: Self::NAME, value: self }]
    }

    /// The same of other parts, if they are of these types.
    fn rebuild(&self, parts: &[Part<'_>]) -> Option<Self> {
        match parts {
            [part] => part.value.downcast_ref::<Self>().cloned(),
            _ => None,
        }
    }

    /// The part of this type, to change it.
    fn part_mut(&mut self, of: TypeId) -> Option<&mut dyn Any> {
        if of == TypeId::of::<Self>() { Some(self) } else { None }
    }
}
