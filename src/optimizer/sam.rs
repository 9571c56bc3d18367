//! Sharpness-aware minimization: steps with two gradients.
use super::{Optimizer, Outcome};
use crate::{
    algorithm::HyperParameters,
    array::{Element, monomorphize},
    error::Error,
    kernel::reduce::Sum,
    params::{Param, Params, StepInput},
};
use ndarray::{ArrayD, Zip};
use std::{
    borrow::BorrowMut,
    collections::{HashMap, HashSet},
    mem::take,
};

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
    /// The parameters before `ascend`; `None` if the step is skipped.
    before: Option<Before<A>>,
}

/// The parameters before `ascend`, by name.
type Before<A> = HashMap<String, ArrayD<A>>;

impl Sam {
    /// Creates a `Sam` that computes the second gradient at a distance of `rho`.
    pub fn new(rho: f64) -> Self {
        Sam {
            rho,
            adaptive: false,
        }
    }

    /// Moves the parameters to where the loss is highest in the neighborhood, to first order.
    /// Parameters without a gradient and those of frozen groups do not move. With `maximize` it
    /// moves them to where the objective is lowest.
    ///
    /// The gradients are checked as those of a step: with [`NonFinite::Skip`] the parameters do not
    /// move, and [`descend`](Ascended::descend) makes no step and returns [`Outcome::Skipped`].
    ///
    /// # Errors
    ///
    /// As [`Optimizer::step`], except that no loss is needed, and [`Error::NonFiniteGradient`] with
    /// [`NonFinite::Propagate`] too, because a non-finite gradient has no direction. Nothing is
    /// changed then.
    ///
    /// [`NonFinite::Skip`]: crate::NonFinite::Skip
    /// [`NonFinite::Propagate`]: crate::NonFinite::Propagate
    pub fn ascend<'o, 'a, A: Element>(
        &self,
        optimizer: &'o mut Optimizer<A>,
        mut params: impl BorrowMut<Params<'a, A>>,
    ) -> Result<Ascended<'o, A>, Error> {
        let mut params = take(params.borrow_mut());
        let (sam, borrowed, input) = (self, &mut *optimizer, params.input());
        let before = monomorphize!(
            A, <'o, 'l, 'a: 'l>,
            (sam: &'o Sam, borrowed: &'o mut Optimizer<A>, input: StepInput<'l, 'a, A>)
                -> Result<Option<Before<A>>, Error> { sam.move_up(borrowed, input) }
        )?;
        Ok(Ascended { optimizer, before })
    }

    /// Moves the parameters, and returns them as they were before; `None` to skip the step.
    fn move_up<A: Element>(
        &self,
        optimizer: &mut Optimizer<A>,
        mut input: StepInput<'_, '_, A>,
    ) -> Result<Option<Before<A>>, Error> {
        self.validate()?;
        let signs = match optimizer.check_ascent(&mut input)? {
            Some(signs) => signs,
            None => return Ok(None),
        };
        let StepInput {
            params, strided, ..
        } = input;
        // Gradients and, for ASAM, parameters relative to the largest ones: squares neither
        // overflow nor underflow. One sum over all arrays, whose order does not matter.
        let (mut max_p, mut max_g) = (0.0_f64, 0.0_f64);
        for param in params.iter_mut() {
            if let Some((p, g)) = param.views.dynamic(strided) {
                if let Some(value) = g.iter().find(|g| !g.is_finite()) {
                    return Err(Error::NonFiniteGradient {
                        name: param.name.to_string(),
                        value: value.f64(),
                    });
                }
                max_g = g.iter().fold(max_g, |max, g| max.max(g.f64().abs()));
                if self.adaptive {
                    max_p = p.iter().fold(max_p, |max, p| max.max(p.f64().abs()));
                }
            }
        }
        // 0 / 0 is 0 here.
        let over = |x: f64, max: f64| if x == 0.0 { 0.0 } else { x / max };
        let product = |p: A, g: A| {
            let scale = if self.adaptive {
                over(p.f64(), max_p)
            } else {
                1.0
            };
            scale * over(g.f64(), max_g)
        };
        let mut max = 1.0;
        if self.adaptive {
            max = 0.0;
            for param in params.iter_mut() {
                if let Some((p, g)) = param.views.dynamic(strided) {
                    let products = p.iter().zip(g).map(|(&p, &g)| product(p, g).abs());
                    max = products.fold(max, f64::max);
                }
            }
        }
        let relative = |p: A, g: A| over(product(p, g), max);
        let mut squares = Sum::default();
        for param in params.iter_mut() {
            if let Some((p, g)) = param.views.dynamic(strided) {
                let mut terms = p.iter().zip(g).map(|(&p, &g)| relative(p, g).powi(2));
                loop {
                    let tile: Vec<f64> = terms.by_ref().take(1024).collect();
                    if tile.is_empty() {
                        break;
                    }
                    squares.add(&tile);
                }
            }
        }
        let norm = squares.value().sqrt();
        let mut before = HashMap::new();
        for (param, sign) in params.iter_mut().zip(signs) {
            if let Some((p, g)) = param.views.dynamic(strided) {
                before.insert(param.name.to_string(), p.to_owned());
                if norm > 0.0 {
                    let radius = sign * self.rho;
                    Zip::from(p).and(g).for_each(|p, &g| {
                        let scale = if self.adaptive { p.f64() } else { 1.0 };
                        *p += A::from_f64(radius * scale * (relative(*p, g) / norm));
                    });
                }
            }
        }
        Ok(Some(before))
    }
}

impl<A: Element> Optimizer<A> {
    /// Checks the first gradients of a step of `Sam`. Returns the sign of the gradient of each
    /// parameter, which is -1 to maximize; `None` to skip the step.
    fn check_ascent(
        &mut self,
        input: &mut StepInput<'_, '_, A>,
    ) -> Result<Option<Vec<f64>>, Error> {
        self.check_settings()?;
        let known = self.table.entries.len();
        let accepted = self
            .look_up(input)
            .and_then(|_| self.accept_gradients(input));
        let sign = |param: &Param<'_, A>| {
            let group = self.table.entries[param.entry].group;
            self.groups.list[group].sign.f64()
        };
        let signs =
            accepted.map(|accepted| accepted.then(|| input.params.iter().map(sign).collect()));
        self.table.truncate(known);
        if signs == Ok(None) {
            self.skip();
        }
        signs
    }
}

impl<A: Element> Ascended<'_, A> {
    /// Restores the parameters and performs the step with these gradients, which were computed at
    /// the point of [`ascend`](Sam::ascend). If that was skipped, so is the step.
    ///
    /// # Errors
    ///
    /// [`Error::MissingParameter`] or [`Error::ShapeChanged`] if these are not the parameters that
    /// were moved, else as [`Optimizer::step`]. The parameters passed to this call are restored
    /// also then.
    pub fn descend<'a>(self, mut params: impl BorrowMut<Params<'a, A>>) -> Result<Outcome, Error> {
        let mut params = take(params.borrow_mut());
        match &self.before {
            Some(before) => restore(before, &mut params)?,
            None => return Ok(Outcome::Skipped),
        }
        self.optimizer.step(params)
    }

    /// Restores the parameters without a step. The gradients in `params` are ignored.
    ///
    /// # Errors
    ///
    /// As [`descend`](Ascended::descend).
    pub fn cancel<'a>(self, mut params: impl BorrowMut<Params<'a, A>>) -> Result<(), Error> {
        match &self.before {
            Some(before) => restore(before, params.borrow_mut()),
            None => Ok(()),
        }
    }
}

fn restore<A: Element>(before: &Before<A>, params: &mut Params<'_, A>) -> Result<(), Error> {
    let input = params.input();
    let (mut found, mut wrong) = (HashSet::with_capacity(before.len()), None);
    for param in input.params.iter_mut() {
        let Some((name, before)) = before.get_key_value(&*param.name) else {
            continue;
        };
        let mut p = param.views.parameter(input.strided);
        let error = if p.shape() != before.shape() {
            Error::ShapeChanged {
                name: name.clone(),
                known: before.shape().to_vec(),
                given: p.shape().to_vec(),
            }
        } else {
            p.assign(before);
            if found.insert(name) {
                continue;
            }
            Error::DuplicateParameter { name: name.clone() }
        };
        wrong.get_or_insert(error);
    }
    let missing = before.keys().filter(|name| !found.contains(name)).min();
    match (wrong, missing) {
        (Some(error), _) => Err(error),
        (None, Some(name)) => Err(Error::MissingParameter { name: name.clone() }),
        (None, None) => Ok(()),
    }
}
