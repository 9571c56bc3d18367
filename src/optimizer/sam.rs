use super::{Optimizer, Outcome};
use crate::{
    array::Element,
    error::{Error, check},
    kernel::reduce::Sum,
    params::Params,
};
use ndarray::{ArrayD, Zip};
use std::collections::HashMap;

/// Sharpness-aware minimisation: the gradient is taken where the loss is highest nearby, so that flat minima are found. Two
/// gradients a step, around any optimizer.
///
/// ```text
/// e = rho g / |g|                              the norm over all parameters
/// adaptive:  e = rho p^2 g / |p g|             ASAM: nearby in proportion to the parameters
/// the gradient at p + e is the one of the inner step, made from p
/// ```
///
/// The two halves are values, so they cannot be called in the wrong order: [`Sam::ascend`] moves the parameters and returns
/// an [`Ascended`], whose [`descend`](Ascended::descend) brings them back, bit for bit, and makes the step.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Optimizer, Params, Sam, Sgd};
///
/// let gradient = |theta: &ndarray::Array1<f64>| 2.0 * theta;
/// let (sam, mut optimizer) = (Sam::new(0.05), Optimizer::new(Sgd::new(0.1)));
/// let mut theta = array![3.0, -4.0];
/// for _ in 0..10 {
///     let grad = gradient(&theta);
///     let mut params = Params::new();
///     params.add("theta", &mut theta, &grad)?;
///     let ascended = sam.ascend(&mut optimizer, params)?;
///     let grad = gradient(&theta); // at the point that ascend moved to
///     let mut params = Params::new();
///     params.add("theta", &mut theta, &grad)?;
///     ascended.descend(params)?;
/// }
/// assert!(theta[0].abs() < 0.4);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// Source: P. Foret et al., arXiv:2010.01412; adaptive: J. Kwon et al., arXiv:2102.11600.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sam {
    /// How far to look, >= 0.
    pub rho: f64,
    /// In proportion to the parameters: rho of 0.5 to 2 then.
    pub adaptive: bool,
}

/// A step of [`Sam`] of which the first half is made: the parameters are where the second gradient has to be taken.
#[must_use = "the parameters stay where they were moved until `descend` or `cancel`"]
pub struct Ascended<'o, A: Element> {
    optimizer: &'o mut Optimizer<A>,
    before: HashMap<String, ArrayD<A>>,
}

impl Sam {
    /// With the point of the second gradient at a distance of `rho`.
    pub fn new(rho: f64) -> Self {
        Sam { rho, adaptive: false }
    }

    /// Moves the parameters to where the loss is highest nearby. Parameters without a gradient stay.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`], [`Error::DuplicateParameter`], or [`Error::NonFiniteGradient`], because what is not finite
    /// gives no direction; nothing has changed then.
    pub fn ascend<'o, A: Element>(
        &self,
        optimizer: &'o mut Optimizer<A>,
        mut params: Params<'_, A>,
    ) -> Result<Ascended<'o, A>, Error> {
        check::non_negative("rho", self.rho)?;
        let lending = params.lend();
        let mut before = HashMap::new();
        let mut squares = 0.0;
        for param in lending.params.iter_mut() {
            if let Some((p, g)) = param.lent.dynamic(lending.strided) {
                if let Some(value) = g.iter().find(|g| !g.is_finite()) {
                    return Err(Error::NonFiniteGradient { name: param.name.to_string(), value: value.f64() });
                }
                let length = |p: A, g: A| if self.adaptive { p.f64() * g.f64() } else { g.f64() };
                let terms: Vec<f64> = p.iter().zip(g).map(|(&p, &g)| length(p, g).powi(2)).collect();
                let mut sum = Sum::default();
                sum.add(&terms);
                squares += sum.value();
                if before.insert(param.name.to_string(), p.to_owned()).is_some() {
                    return Err(Error::DuplicateParameter { name: param.name.to_string() });
                }
            }
        }
        let scale = if squares > 0.0 { self.rho / squares.sqrt() } else { 0.0 };
        for param in lending.params.iter_mut() {
            if let Some((p, g)) = param.lent.dynamic(lending.strided) {
                let scale = A::of(scale);
                Zip::from(p).and(g).for_each(|p, &g| {
                    let e = if self.adaptive { *p * *p * g } else { g };
                    *p += scale * e;
                });
            }
        }
        Ok(Ascended { optimizer, before })
    }
}

impl<A: Element> Ascended<'_, A> {
    /// Brings the parameters back and makes the step with these gradients, taken at the points they were moved to.
    ///
    /// # Errors
    ///
    /// [`Error::MissingParameter`] or [`Error::ShapeChanged`] if these are not the parameters that were moved, else as
    /// [`Optimizer::step`]. The parameters that were lent are back where they began then.
    pub fn descend(self, mut params: Params<'_, A>) -> Result<Outcome, Error> {
        self.restore(&mut params)?;
        self.optimizer.step(params)
    }

    /// Brings the parameters back and makes no step; gradients do not matter.
    ///
    /// # Errors
    ///
    /// As [`descend`](Ascended::descend).
    pub fn cancel(self, mut params: Params<'_, A>) -> Result<(), Error> {
        self.restore(&mut params)
    }

    fn restore(&self, params: &mut Params<'_, A>) -> Result<(), Error> {
        let lending = params.lend();
        let (mut found, mut wrong) = (0, None);
        for param in lending.params.iter_mut() {
            let Some(before) = self.before.get(&*param.name) else { continue };
            let mut p = param.lent.parameter(lending.strided);
            if p.shape() == before.shape() {
                p.assign(before);
                found += 1;
            } else {
                let (name, known, given) = (param.name.to_string(), before.shape().to_vec(), p.shape().to_vec());
                wrong = Some(Error::ShapeChanged { name, known, given });
            }
        }
        let lent = |name: &String| lending.params.iter().any(|param| *param.name == **name);
        match (wrong, self.before.keys().find(|name| !lent(name))) {
            (Some(error), _) => Err(error),
            (None, Some(name)) => Err(Error::MissingParameter { name: name.clone() }),
            (None, None) if found > self.before.len() => {
                Err(Error::DuplicateParameter { name: self.before.keys().next().cloned().unwrap_or_default() })
            }
            _ => Ok(()),
        }
    }
}
