//! Comparison of gradients with differences of values.
use crate::{
    array::{Element, ElementType, monomorphize},
    error::Error,
    named_arrays::{NamedArrays, NamedArraysMut},
    params::GradsByName,
    random::nth,
};
use ndarray::{ArrayD, Dimension};
use std::{convert::Infallible, error, fmt};
use thiserror::Error;

type BoxError = Box<dyn error::Error + Send + Sync>;

/// What a closure that computes a loss may return: `f32`, `f64`, or a `Result` of either.
pub trait Value {
    /// Why the closure failed.
    type Error: Into<BoxError>;

    /// Returns the loss.
    ///
    /// # Errors
    ///
    /// Those of the closure.
    fn value(self) -> Result<f64, Self::Error>;
}

macro_rules! values {
    ($($float:ident),*) => {$(
        impl Value for $float {
            type Error = Infallible;

            fn value(self) -> Result<f64, Infallible> {
                Ok(self.into())
            }
        }

        impl<E: Into<BoxError>> Value for Result<$float, E> {
            type Error = E;

            fn value(self) -> Result<f64, E> {
                self.map(f64::from)
            }
        }
    )*};
}

values!(f32, f64);

/// Compares gradients with central differences of the loss: [`GradientCheck::run`] with the
/// defaults.
///
/// One line in a test shows that a gradient is right, or which entry is not:
///
/// ```
/// use ndarray::{Array1, array};
/// use ndarray_optim::fit::check_gradient;
///
/// let loss = |x: &Array1<f64>| x.mapv(|x| x.powi(4)).sum();
/// let mut x = array![1.0, -2.0];
/// check_gradient(&mut x, &array![4.0, -32.0], |x| loss(x))?;
///
/// let wrong = check_gradient(&mut x, &array![4.0, 32.0], |x| loss(x)).unwrap_err();
/// assert!(wrong.to_string().starts_with("1 of 2 entries of the gradient are wrong, the worst is [1]"));
/// # Ok::<(), ndarray_optim::fit::GradientError>(())
/// ```
///
/// # Errors
///
/// As [`GradientCheck::run`].
pub fn check_gradient<A: Element, V: Value, M: NamedArraysMut<A> + ?Sized>(
    model: &mut M,
    grads: &(impl NamedArrays<A> + ?Sized),
    loss: impl FnMut(&M) -> V,
) -> Result<GradientReport, GradientError> {
    GradientCheck::default().run(model, grads, loss)
}

/// Compares gradients with central differences of the loss.
///
/// For each entry `x` of the model, the derivative `g` is compared with
///
/// ```text
/// d(h) = (loss(x + h) - loss(x - h)) / 2h        h = cbrt(eps) max(1, |x|)
/// ```
///
/// where `eps` is the machine epsilon of the element type. It is right if
///
/// ```text
/// |g - d| <= tolerance max(|g|, |d|) + noise
/// ```
///
/// Most entries are right by their first difference, without `noise`. For the others the step goes
/// down from `4 h` to `4^-13 h`, and `d` is the difference that agrees best with those of the
/// neighboring steps. The noise is their distance and the rounding error of the loss, divided by
/// the step. So parameters may have any scale, and a gradient near a minimum is not wrong because
/// the loss is rounded. An error below the noise is not found: the report counts the entries that
/// are too small to tell, and a check is best made where the gradient is large.
///
/// A check costs 2 evaluations of the loss for each entry, 30 more for an entry that is wrong or
/// noisy. For large models, check a [`sample`](GradientCheck::sample). At a kink, such as `|x|` at
/// 0, the difference is the mean of both slopes.
///
/// ```
/// use ndarray::{Array1, Array2};
/// use ndarray_optim::fit::GradientCheck;
///
/// let loss = |(w, b): &(Array2<f64>, Array1<f64>)| w.mapv(f64::sin).sum() + b.sum();
/// let mut model = (Array2::from_elem((300, 200), 0.5), Array1::zeros(200));
/// let grads = (model.0.mapv(f64::cos), Array1::ones(200));
///
/// let check = GradientCheck { sample: Some(10), seed: 1, ..GradientCheck::default() };
/// let report = check.run(&mut model, &grads, loss)?;
/// assert_eq!((report.checked, report.wrong), (10, 0));
/// # Ok::<(), ndarray_optim::fit::GradientError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GradientCheck {
    /// The greatest relative error of an entry. The default is 1e-6 in `f64` and 1e-3 in `f32`.
    pub tolerance: Option<f64>,
    /// How many entries are checked, at random places; all of them by default.
    pub sample: Option<usize>,
    /// The seed of the sample. The default is 0.
    pub seed: u64,
}

/// An entry of a gradient next to the difference of the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientEntry {
    /// Name of the array; empty for an array by itself.
    pub name: String,
    /// Index in the array; empty for a number.
    pub index: Vec<usize>,
    /// The derivative that was given.
    pub grad: f64,
    /// The difference quotient.
    pub difference: f64,
    /// How uncertain the difference quotient is.
    pub noise: f64,
    /// `|grad - difference|` in units of the greatest error that is allowed: above 1 the entry is
    /// wrong.
    pub error: f64,
}

/// Prints the entry as `weights[2, 0]`, with both values.
impl fmt::Display for GradientEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.index.is_empty() || self.name.is_empty() {
            write!(f, "{:?}", self.index)?;
        }
        write!(
            f,
            ": the gradient is {:e}, the difference of the loss gives {:e} +- {:.1e}",
            self.grad, self.difference, self.noise
        )
    }
}

/// The result of a [`GradientCheck`].
#[derive(Clone, Debug, PartialEq)]
pub struct GradientReport {
    /// The number of entries that were compared.
    pub checked: usize,
    /// The number of wrong ones.
    pub wrong: usize,
    /// The number of entries whose noise is above half of the gradient: they are not wrong, but
    /// would not be with another factor either.
    pub unclear: usize,
    /// The entry with the greatest error; `None` if the model has no entries.
    pub worst: Option<GradientEntry>,
}

impl fmt::Display for GradientReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GradientReport {
            checked,
            wrong,
            unclear,
            ..
        } = self;
        match wrong {
            0 => write!(f, "{checked} entries of the gradient are right")?,
            _ => write!(f, "{wrong} of {checked} entries of the gradient are wrong")?,
        }
        if *unclear > 0 {
            write!(f, ", {unclear} are below the rounding error of the loss")?;
        }
        match &self.worst {
            Some(worst) => write!(f, ", the worst is {worst}"),
            None => Ok(()),
        }
    }
}

/// Why a [`GradientCheck`] failed.
// Tests print errors by `Debug`, from `unwrap` and from `main`: it is the message.
#[derive(Error)]
#[non_exhaustive]
pub enum GradientError {
    /// Some entries are wrong.
    #[error("{0}")]
    Wrong(GradientReport),
    /// The model and its gradients have different names or shapes.
    #[error(transparent)]
    Arrays(#[from] Error),
    /// A parameter, a gradient or the loss next to it is infinite or NaN.
    #[error("{what} is {value} at {name}{index:?}")]
    NonFinite {
        /// What is not finite.
        what: &'static str,
        /// The number.
        value: f64,
        /// Name of the array.
        name: String,
        /// Index in the array.
        index: Vec<usize>,
    },
    /// The tolerance is not a positive number.
    #[error("`tolerance` is {0}, expected a positive number")]
    Tolerance(f64),
    /// The closure failed.
    #[error("the loss could not be computed")]
    Loss(#[source] BoxError),
}

impl fmt::Debug for GradientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GradientError::Loss(source) => write!(f, "{self}: {source:?}"),
            _ => write!(f, "{self}"),
        }
    }
}

impl GradientCheck {
    /// Compares `grads`, which have the names and shapes of the model, with differences of `loss`.
    /// The closure returns a number or a `Result`. Afterwards the model is the same, bit for bit.
    ///
    /// # Errors
    ///
    /// [`GradientError::Wrong`] if an entry is wrong, with the report. Other variants say why there
    /// is no result: names or shapes that differ, numbers that are not finite, an error of the
    /// closure.
    pub fn run<A: Element, V: Value, M: NamedArraysMut<A> + ?Sized>(
        &self,
        model: &mut M,
        grads: &(impl NamedArrays<A> + ?Sized),
        mut loss: impl FnMut(&M) -> V,
    ) -> Result<GradientReport, GradientError> {
        let (check, arrays) = (self, pair(model, grads)?);
        let mut at = |array: usize, index: &[usize], x: A| {
            let before = replace(model, array, index, x);
            let value = loss(model).value().map_err(|error| error.into());
            replace(model, array, index, before);
            value
        };
        let at: &mut Loss<'_, A> = &mut at;
        monomorphize!(
            A, <'c, 'l: 'c>,
            (check: &'c GradientCheck, arrays: Vec<Pair<A>>, at: &'c mut Loss<'l, A>)
                -> Result<GradientReport, GradientError> { check.compare(&arrays, at) }
        )
    }

    fn compare<A: Element>(
        &self,
        arrays: &[Pair<A>],
        loss: &mut Loss<'_, A>,
    ) -> Result<GradientReport, GradientError> {
        let tolerance = self.tolerance.unwrap_or(match A::TYPE {
            ElementType::F32 => 1e-3,
            ElementType::F64 => 1e-6,
        });
        if !(tolerance > 0.0 && tolerance.is_finite()) {
            return Err(GradientError::Tolerance(tolerance));
        }
        let mut report = GradientReport {
            checked: 0,
            wrong: 0,
            unclear: 0,
            worst: None,
        };
        for (name, params, grads) in arrays {
            for (what, numbers) in [("the parameter", params), ("the gradient", grads)] {
                if let Some((index, value)) = numbers.indexed_iter().find(|(_, x)| !x.is_finite()) {
                    return Err(non_finite(what, value.f64(), name, index.slice()));
                }
            }
        }
        let mut left: usize = arrays.iter().map(|(_, param, _)| param.len()).sum();
        let mut missing = self.sample.unwrap_or(left).min(left);
        for (array, (name, params, grads)) in arrays.iter().enumerate() {
            for ((index, &param), &grad) in params.indexed_iter().zip(grads) {
                // Each set of so many entries has the same probability.
                let chosen = nth(self.seed, left as u64) % (left as u64) < missing as u64;
                left -= 1;
                if !chosen {
                    continue;
                }
                missing -= 1;
                let mut at = |x| loss(array, index.slice(), x);
                let grad = grad.f64();
                let found = difference(param, grad, tolerance, &mut at);
                let (difference, noise) = found.map_err(GradientError::Loss)?;
                if !noise.is_finite() {
                    let what = "the difference of the loss";
                    return Err(non_finite(what, difference, name, index.slice()));
                }
                let distance = (grad - difference).abs();
                let size = grad.abs().max(difference.abs());
                let allowed = tolerance * size + noise;
                let error = if distance == 0.0 {
                    0.0
                } else {
                    distance / allowed
                };
                report.checked += 1;
                report.wrong += usize::from(error > 1.0);
                report.unclear += usize::from(error <= 1.0 && noise > 0.5 * size);
                if report
                    .worst
                    .as_ref()
                    .is_none_or(|worst| error > worst.error)
                {
                    report.worst = Some(GradientEntry {
                        name: name.clone(),
                        index: index.slice().to_vec(),
                        grad,
                        difference,
                        noise,
                        error,
                    });
                }
            }
        }
        match report.wrong {
            0 => Ok(report),
            _ => Err(GradientError::Wrong(report)),
        }
    }
}

/// The loss of a model in which an element, by the number of its array and its index there, has
/// another value.
type Loss<'l, A> = dyn FnMut(usize, &[usize], A) -> Result<f64, BoxError> + 'l;

/// The name of an array, its parameters and their gradients.
type Pair<A> = (String, ArrayD<A>, ArrayD<A>);

/// Copies parameters and gradients of the same name.
fn pair<A: Element>(
    model: &(impl NamedArrays<A> + ?Sized),
    grads: &(impl NamedArrays<A> + ?Sized),
) -> Result<Vec<Pair<A>>, Error> {
    let (mut pairs, mut grads) = (Vec::new(), GradsByName::new(grads));
    for (name, param) in model.views() {
        let name = name.into_owned();
        let Some(grad) = grads.take(&name) else {
            return Err(Error::MissingGradient { name });
        };
        if grad.shape() != param.shape() {
            return Err(Error::GradientShape {
                name,
                param: param.shape().to_vec(),
                grad: grad.shape().to_vec(),
            });
        }
        pairs.push((name, param.to_owned(), grad.to_owned()));
    }
    grads.finish().map(|()| pairs)
}

/// Replaces an element of an array, and returns it.
fn replace<A: Element>(
    model: &mut (impl NamedArraysMut<A> + ?Sized),
    array: usize,
    index: &[usize],
    value: A,
) -> A {
    let (mut number, mut before) = (0, value);
    model.visit_mut(&mut |_, mut view| {
        if number == array
            && let Some(element) = view.get_mut(index)
        {
            before = std::mem::replace(element, value);
        }
        number += 1;
    });
    before
}

fn non_finite(what: &'static str, value: f64, name: &str, index: &[usize]) -> GradientError {
    GradientError::NonFinite {
        what,
        value,
        name: name.into(),
        index: index.to_vec(),
    }
}

/// Returns a difference quotient at `x` and its uncertainty, which is 0 if the quotient is so near
/// to `grad` that it does not matter, and infinite if no quotient is finite.
fn difference<A: Element>(
    x: A,
    grad: f64,
    tolerance: f64,
    loss: &mut dyn FnMut(A) -> Result<f64, BoxError>,
) -> Result<(f64, f64), BoxError> {
    /// By so many powers of 4 the step goes up and down. Higher up, a bounded loss has quotients
    /// that agree about 0.
    const UP: i32 = 1;
    const DOWN: i32 = 13;
    let epsilon = A::epsilon().f64();
    let first = libm::cbrt(epsilon) * x.f64().abs().max(1.0);
    // The values above and below, and the distance of the points as it is after rounding.
    let mut values = |power: i32| {
        let step = libm::ldexp(first, 2 * power);
        let (above, below) = (A::from_f64(x.f64() + step), A::from_f64(x.f64() - step));
        let width = above.f64() - below.f64();
        Ok::<_, BoxError>([loss(above)?, loss(below)?, width])
    };
    let [above, below, width] = values(0)?;
    let at_first = (above - below) / width;
    if (grad - at_first).abs() <= tolerance * grad.abs().max(at_first.abs()) {
        return Ok((at_first, 0.0));
    }
    // Where the loss does not exist the step is not used.
    let all: Vec<[f64; 3]> = (-DOWN..=UP)
        .map(|power| values(power).unwrap_or([f64::NAN; 3]))
        .collect();
    // The least difference that is not 0 is the unit in which a loss is rounded that is itself a
    // difference of large numbers: smaller steps than that all agree about 0.
    let unit = all.iter().map(|[above, below, _]| (above - below).abs());
    let unit = unit
        .filter(|unit| *unit > 0.0)
        .fold(f64::INFINITY, f64::min);
    let unit = if unit.is_finite() { unit } else { 0.0 };
    let quotient = |[above, below, width]: [f64; 3]| (above - below) / width;
    let candidates = all.windows(3).map(|near| {
        let [before, here, after] = [near[0], near[1], near[2]].map(quotient);
        let [above, below, width] = near[1];
        let rounding = (epsilon * (above.abs() + below.abs()) + unit) / width;
        let spread = (here - before).abs() + (here - after).abs();
        (here, spread + rounding)
    });
    let best = candidates
        .filter(|(_, noise)| noise.is_finite())
        .min_by(|a, b| a.1.total_cmp(&b.1));
    Ok(best.unwrap_or((at_first, f64::INFINITY)))
}
