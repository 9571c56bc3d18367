//! Sharpness-aware minimization: steps with two gradients.
use super::{Optimizer, Outcome};
use crate::{
    algorithm::HyperParameters, array::Element, error::Error, kernel::reduce::Sum, params::Params,
};
use ndarray::{ArrayD, Zip};
use std::collections::HashMap;

crate::hyper_parameters! {
    /// Sharpness-aware minimization: takes the gradient where the loss is highest in a
    /// neighborhood, to find flat minima. Works with any optimizer, with two gradients per step.
    ///
    /// # Update rule
    ///
    /// ```text
    /// e = rho g / |g|                              |g| is the norm over all parameters
    /// adaptive:  e = rho p^2 g / |p g|             ASAM: neighborhood relative to the parameters
    /// then a step of the optimizer from p with the gradient at p + e
    /// ```
    ///
    /// The two halves of a step cannot be called in the wrong order: [`Sam::ascend`] moves the
    /// parameters and returns an [`Ascended`], whose [`descend`](Ascended::descend) restores them,
    /// bit for bit, and performs the step.
    ///
    /// # Example
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
    ///     let grad = gradient(&theta); // at the point of `ascend`
    ///     let mut params = Params::new();
    ///     params.add("theta", &mut theta, &grad)?;
    ///     ascended.descend(params)?;
    /// }
    /// assert!(theta[0].abs() < 0.4);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Reference
    ///
    /// P. Foret et al., [arXiv:2010.01412](https://arxiv.org/abs/2010.01412); adaptive: J. Kwon et
    /// al., [arXiv:2102.11600](https://arxiv.org/abs/2102.11600).
    #[derive(Copy)]
    pub struct Sam = "sam" {
        /// Neighborhood radius rho.
        rho: f64 [>= 0] = 0.05;
        /// Scales the neighborhood element-wise by the parameters (ASAM); use rho of 0.5 to 2.
        adaptive: bool = false;
    }
}

/// The first half of a step of [`Sam`]: the parameters are at the point where the second gradient
/// has to be computed.
#[derive(Debug)]
#[must_use = "the parameters are displaced until `descend` or `cancel`"]
pub struct Ascended<'o, A: Element> {
    optimizer: &'o mut Optimizer<A>,
    /// The parameters before `ascend`.
    before: HashMap<String, ArrayD<A>>,
}

impl Sam {
    /// Creates a `Sam` that computes the second gradient at a distance of `rho`.
    pub fn new(rho: f64) -> Self {
        Sam {
            rho,
            adaptive: false,
        }
    }

    /// Moves the parameters to where the loss is highest in the neighborhood, to first order.
    /// Parameters without a gradient do not move.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`], [`Error::DuplicateParameter`], or [`Error::NonFiniteGradient`],
    /// because a non-finite gradient has no direction. Nothing is changed then.
    pub fn ascend<'o, A: Element>(
        &self,
        optimizer: &'o mut Optimizer<A>,
        mut params: Params<'_, A>,
    ) -> Result<Ascended<'o, A>, Error> {
        self.validate()?;
        let input = params.input();
        let mut before = HashMap::new();
        let mut squares = 0.0;
        for param in input.params.iter_mut() {
            if let Some((p, g)) = param.views.dynamic(input.strided) {
                if let Some(value) = g.iter().find(|g| !g.is_finite()) {
                    return Err(Error::NonFiniteGradient {
                        name: param.name.to_string(),
                        value: value.f64(),
                    });
                }
                let square = |(&p, &g): (&A, &A)| {
                    let scale = if self.adaptive { p.f64() } else { 1.0 };
                    (scale * g.f64()).powi(2)
                };
                let terms: Vec<f64> = p.iter().zip(g).map(square).collect();
                let mut sum = Sum::default();
                sum.add(&terms);
                squares += sum.value();
                if before
                    .insert(param.name.to_string(), p.to_owned())
                    .is_some()
                {
                    return Err(Error::DuplicateParameter {
                        name: param.name.to_string(),
                    });
                }
            }
        }
        let scale = if squares > 0.0 {
            self.rho / squares.sqrt()
        } else {
            0.0
        };
        for param in input.params.iter_mut() {
            if let Some((p, g)) = param.views.dynamic(input.strided) {
                let scale = A::from_f64(scale);
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
    /// Restores the parameters and performs the step with these gradients, which were computed at
    /// the point of [`ascend`](Sam::ascend).
    ///
    /// # Errors
    ///
    /// [`Error::MissingParameter`] or [`Error::ShapeChanged`] if these are not the parameters that
    /// were moved, else as [`Optimizer::step`]. The parameters passed to this call are restored
    /// also then.
    pub fn descend(self, mut params: Params<'_, A>) -> Result<Outcome, Error> {
        self.restore(&mut params)?;
        self.optimizer.step(params)
    }

    /// Restores the parameters without a step. The gradients in `params` are ignored.
    ///
    /// # Errors
    ///
    /// As [`descend`](Ascended::descend).
    pub fn cancel(self, mut params: Params<'_, A>) -> Result<(), Error> {
        self.restore(&mut params)
    }

    fn restore(&self, params: &mut Params<'_, A>) -> Result<(), Error> {
        let input = params.input();
        let (mut found, mut wrong) = (0, None);
        for param in input.params.iter_mut() {
            let Some(before) = self.before.get(&*param.name) else {
                continue;
            };
            let mut p = param.views.parameter(input.strided);
            if p.shape() == before.shape() {
                p.assign(before);
                found += 1;
            } else {
                wrong = Some(Error::ShapeChanged {
                    name: param.name.to_string(),
                    known: before.shape().to_vec(),
                    given: p.shape().to_vec(),
                });
            }
        }
        let is_passed = |name: &String| input.params.iter().any(|param| *param.name == **name);
        match (wrong, self.before.keys().find(|name| !is_passed(name))) {
            (Some(error), _) => Err(error),
            (None, Some(name)) => Err(Error::MissingParameter { name: name.clone() }),
            (None, None) if found > self.before.len() => Err(Error::DuplicateParameter {
                name: self.before.keys().next().cloned().unwrap_or_default(),
            }),
            _ => Ok(()),
        }
    }
}
