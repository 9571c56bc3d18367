//! L-BFGS: a quasi-Newton method for objectives whose loss and gradient are computed by a closure.
mod config;
mod history;
mod layout;
mod report;
mod run;
mod search;
mod state;
mod vector;

pub use config::{LbfgsConfig, LineSearch};
pub use report::{LbfgsReport, LbfgsStop};

use crate::{
    algorithm::HyperParameters,
    array::{Element, monomorphize},
    error::Error,
    named_arrays::{NamedArrays, NamedArraysMut},
};
use layout::{Layout, Role};
use run::{Core, Evaluate, Failure, Rules};

/// L-BFGS, `torch.optim.LBFGS`: minimizes a smooth function of all arrays of a model.
///
/// It approximates Newton's method from the last `history_size` changes of the gradient. On the
/// whole data set, without noise, it needs far fewer evaluations than Adam and its relatives, and
/// reaches gradients of the order of rounding errors; it is not made for gradients of random
/// batches.
///
/// A model is any set of [`NamedArrays`]: an array, a tuple, a struct by
/// [`named_arrays!`](crate::named_arrays). The closure is given the model at the point to evaluate
/// and a set of arrays of the same names and shapes, which it fills with the gradient; it returns
/// the loss, or a `Result` with it.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Lbfgs, LbfgsConfig};
///
/// // Rosenbrock's function.
/// let (mut x, mut grad) = (array![-1.2_f64, 1.0], array![0.0, 0.0]);
/// let mut lbfgs = Lbfgs::new(LbfgsConfig::precise());
/// let report = lbfgs.minimize(&mut x, &mut grad, |x, grad| {
///     let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
///     grad[0] = -2.0 * a - 400.0 * b * x[0];
///     grad[1] = 200.0 * b;
///     a * a + 100.0 * b * b
/// })?;
/// assert!(report.stop.converged() && report.evaluations < 60);
/// assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-9));
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// # Update rule
///
/// For the gradient g, the direction d, the step length t and the pairs (s, y), oldest first:
///
/// ```text
/// s = t d, y = g - g_prev                  of the last step; kept if y.s > 1e-10, which also sets
/// rho = 1 / y.s, gamma = y.s / y.y         gamma = 1 at first
/// q = -g
/// newest to oldest:  a = rho s.q;   q <- q - a y
/// d = gamma q
/// oldest to newest:  b = rho y.d;   d <- d + (a - b) s
/// t = lr min(1, 1 / |g|_1) in the first iteration, later lr
/// p <- p + t d                             with a line search, t only begins it
/// ```
///
/// The line search `strong_wolfe` brackets and refines t by cubic interpolation until
///
/// ```text
/// f(p + t d) <= f(p) + 1e-4 t g.d   and   |g(p + t d).d| <= 0.9 |g.d|
/// ```
///
/// Use it unless the evaluations are noisy. Without it, every iteration makes a step of `lr d`,
/// which can diverge far from the minimum.
///
/// # Numbers
///
/// Iterates and numbers of evaluations of [`step`](Lbfgs::step) are those of torch 2.15, up to
/// rounding; [`minimize`](Lbfgs::minimize) goes on where torch stops. Vectors have the
/// element type of the model; their products are exact sums (see [`reduce`](crate::reduce)), so
/// that results do not depend on threads or memory layouts. Where a line search meets a loss or a
/// gradient that is infinite or NaN, it halves its bracket towards the last finite point. Without a
/// line search, the run stops at the last finite point.
///
/// The first step allocates nine vectors as long as all parameters together. Each iteration then
/// allocates a pair until there are `history_size` pairs; after that, none allocates anything,
/// except for the names of arrays in nested sets.
///
/// # State
///
/// [`state_dict`](Lbfgs::state_dict) has everything that the next call depends on but the model and
/// the configuration. A run that is saved between calls of [`step`](Lbfgs::step) and resumed gives
/// the same bits.
///
/// # References
///
/// D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization",
/// Mathematical Programming 45, 1989. The line search is that of J. Nocedal and S. J. Wright,
/// "Numerical Optimization", 2006, algorithms 3.5 and 3.6, in the form of M. Schmidt's minFunc and
/// torch.
#[derive(Clone, Debug)]
pub struct Lbfgs<A: Element> {
    /// The hyper-parameters, which may change between calls. Invalid ones are reported by the next
    /// call.
    pub config: LbfgsConfig,
    layout: Layout,
    core: Core<A>,
}

impl<A: Element> Lbfgs<A> {
    /// Creates an optimizer that has made no iteration.
    pub fn new(config: LbfgsConfig) -> Self {
        Lbfgs {
            config,
            layout: Layout::default(),
            core: Core::default(),
        }
    }

    /// Makes up to `max_iter` iterations, or evaluations up to about `max_eval`, until the gradient
    /// or the change is below its tolerance. The first evaluation is at the model as it is given.
    ///
    /// The next call continues with the history of this one. Between calls the closure may change,
    /// for example to another batch, and so may the model.
    ///
    /// ```
    /// use ndarray::{Array1, Array2, array};
    /// use ndarray_optim::{Lbfgs, LbfgsConfig, named_arrays};
    ///
    /// #[derive(Clone)]
    /// struct Line {
    ///     weight: Array1<f64>,
    ///     bias: f64,
    /// }
    /// named_arrays!(impl NamedArrays<f64> for Line { weight, bias });
    ///
    /// let (x, y): (Array2<f64>, _) = (array![[0.0], [1.0], [2.0]], array![1.0, 3.0, 5.0]);
    /// let mut model = Line { weight: array![0.0], bias: 0.0 };
    /// let mut grads = model.clone();
    /// let mut lbfgs = Lbfgs::new(LbfgsConfig::wolfe());
    /// let report = lbfgs.step(&mut model, &mut grads, |model, grads| {
    ///     let residual = x.dot(&model.weight) + model.bias - &y;
    ///     grads.weight.assign(&x.t().dot(&residual));
    ///     grads.bias = residual.sum();
    ///     0.5 * residual.dot(&residual)
    /// })?;
    /// assert!(report.stop.converged());
    /// assert!((model.weight[0] - 2.0).abs() < 1e-6 && (model.bias - 1.0).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the closure, which may be of any type that an [`Error`] converts into, or
    /// [`Error::HyperParameter`]; [`Error::NonFiniteLoss`] and [`Error::NonFiniteGradient`] at the
    /// model as it is given; [`Error::DuplicateParameter`]; [`Error::ShapeChanged`],
    /// [`Error::UnknownParameter`] and [`Error::MissingParameter`] if the arrays of the model are not
    /// those of earlier calls; [`Error::GradientShape`], [`Error::UnknownParameter`] and
    /// [`Error::MissingGradient`] if those of the gradient are not those of the model.
    ///
    /// After an error the model is at the last accepted point, which is that before the call if
    /// there was no iteration. The next call can continue from there.
    pub fn step<M, G, L>(
        &mut self,
        model: &mut M,
        grads: &mut G,
        closure: impl FnMut(&M, &mut G) -> L,
    ) -> Result<LbfgsReport, L::Error>
    where
        M: NamedArraysMut<A> + ?Sized,
        G: NamedArrays<A> + ?Sized,
        L: IntoLoss,
    {
        let rules = Rules::step(&self.config);
        self.run(model, grads, closure, rules)
    }

    /// Makes iterations until a tolerance is met, for objectives without noise: up to 15 000, with
    /// any number of evaluations in place of `max_iter` and `max_eval`.
    ///
    /// Where torch's absolute numbers keep [`step`](Lbfgs::step) from small gradients, this call
    /// goes on:
    ///
    /// - A pair is kept if `y.s > eps y.y`, where eps is the rounding error of the element type.
    /// - The line search takes losses within 100 eps of each other as equal and looks at slopes only,
    ///   the approximate Wolfe conditions of W. W. Hager and H. Zhang (SIAM Journal on Optimization
    ///   16, 2005). It makes 26 evaluations at most.
    /// - It stops after 20 iterations without progress ([`LbfgsStop::Stalled`]).
    ///
    /// `tolerance_change` is a tolerance for the loss, for the step and for the product of gradient
    /// and direction, which all get small long before the gradient does. With the preset
    /// [`LbfgsConfig::precise`] it is 0, so that `tolerance_grad` decides.
    ///
    /// # Errors
    ///
    /// As [`step`](Lbfgs::step).
    pub fn minimize<M, G, L>(
        &mut self,
        model: &mut M,
        grads: &mut G,
        closure: impl FnMut(&M, &mut G) -> L,
    ) -> Result<LbfgsReport, L::Error>
    where
        M: NamedArraysMut<A> + ?Sized,
        G: NamedArrays<A> + ?Sized,
        L: IntoLoss,
    {
        let rules = Rules::minimize(A::epsilon().f64());
        self.run(model, grads, closure, rules)
    }

    /// Returns the number of iterations of all calls.
    pub fn iterations(&self) -> u64 {
        self.core.iterations
    }

    /// Returns the number of evaluations of all calls.
    pub fn evaluations(&self) -> u64 {
        self.core.evaluations
    }

    /// Forgets the history: the next call begins with steepest descent, and the model may have other
    /// arrays.
    pub fn reset(&mut self) {
        (self.layout, self.core) = (Layout::default(), Core::default());
    }

    fn run<M, G, L>(
        &mut self,
        model: &mut M,
        grads: &mut G,
        mut closure: impl FnMut(&M, &mut G) -> L,
        rules: Rules,
    ) -> Result<LbfgsReport, L::Error>
    where
        M: NamedArraysMut<A> + ?Sized,
        G: NamedArrays<A> + ?Sized,
        L: IntoLoss,
    {
        self.config.validate()?;
        let Lbfgs {
            config,
            layout,
            core,
        } = self;
        if core.iterations == 0 {
            let mut found = layout::Found::default();
            model.visit(&mut |name, view| found.add(name, view.shape()));
            *layout = found.finish()?;
            core.resize(layout.len());
        }
        let mut pass = layout.pass(Role::Model);
        model.visit(&mut |name, view| pass.read(&name, view, &mut core.x));
        pass.finish()?;

        let mut failed = None;
        let mut evaluate = |point: &[A], flat_grad: &mut [A]| {
            model.visit_mut(&mut |name, view| layout.write(&name, view, point));
            let loss = closure(model, grads).into_loss().map_err(|error| {
                failed = Some(error);
                Failure::Closure
            })?;
            let mut pass = layout.pass(Role::Gradient);
            grads.visit(&mut |name, view| pass.read(&name, view, flat_grad));
            pass.finish()?;
            Ok(loss)
        };
        let result = run(core, config, rules, &mut evaluate);
        model.visit_mut(&mut |name, view| layout.write(&name, view, &core.x));
        match (result, failed) {
            (Ok(report), _) => Ok(report),
            (Err(_), Some(error)) => Err(error),
            (Err(failure), None) => Err(failure.into_error(layout).into()),
        }
    }
}

/// The iterations of a call, compiled in this crate.
fn run<A: Element>(
    core: &mut Core<A>,
    config: &LbfgsConfig,
    rules: Rules,
    evaluate: &mut Evaluate<'_, A>,
) -> Result<LbfgsReport, Failure> {
    monomorphize!(
        A, <'c, 'e>,
        (
            core: &'c mut Core<A>,
            config: &'c LbfgsConfig,
            rules: Rules,
            evaluate: &'e mut Evaluate<'e, A>
        ) -> Result<LbfgsReport, Failure> {
            core.run(config, rules, evaluate)
        }
    )
}

/// What the closure of [`Lbfgs::step`] returns: the loss, `f32` or `f64`, or a `Result` with it.
///
/// An [`Error`] has to convert into the error of that `Result`: `Box<dyn std::error::Error>`, an
/// enum with a `#[from] Error`, or an [`Error`].
pub trait IntoLoss {
    /// The error of a failed evaluation.
    type Error: From<Error>;

    /// Returns the loss.
    ///
    /// # Errors
    ///
    /// That of the evaluation.
    fn into_loss(self) -> Result<f64, Self::Error>;
}

macro_rules! losses {
    ($($float:ty),*) => {$(
        impl IntoLoss for $float {
            type Error = Error;

            fn into_loss(self) -> Result<f64, Error> {
                Ok(self.into())
            }
        }
    )*};
}
losses!(f32, f64);

impl<L: Into<f64>, E: From<Error>> IntoLoss for Result<L, E> {
    type Error = E;

    fn into_loss(self) -> Result<f64, E> {
        self.map(Into::into)
    }
}
