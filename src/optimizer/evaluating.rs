//! Evaluation as a scope, in which no step can be made.
use super::{Optimizer, UNNAMED};
use crate::{array::Element, error::Error};
use ndarray::{ArrayD, ArrayRef, Dimension};
use std::collections::HashMap;

/// Replaces parameters by the points at which to evaluate the model: the averages of
/// [`Ema`](crate::wrap::Ema), [`Swa`](crate::wrap::Swa) and the schedule-free algorithms.
///
/// While this value lives, the optimizer is borrowed, so no step can be made by mistake.
/// [`restore`](Evaluating::restore) restores the training parameters, bit for bit.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Evaluating, Optimizer, ScheduleFreeAdamW};
///
/// let mut optimizer = Optimizer::new(ScheduleFreeAdamW::new(0.1));
/// let mut theta = array![1.0, -2.0];
/// optimizer.update(&mut theta, &array![0.5, 1.0])?;
/// optimizer.update(&mut theta, &array![0.5, 1.0])?;
/// let training = theta.clone();
///
/// let mut evaluating = Evaluating::new(&mut optimizer);
/// evaluating.enter(&mut theta)?;
/// // optimizer.update(...) does not compile here.
/// assert_ne!(theta, training);
/// evaluating.restore(&mut theta)?;
/// evaluating.finish()?;
/// assert_eq!(theta, training);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// ```compile_fail
/// use ndarray::array;
/// use ndarray_optim::{Evaluating, Optimizer, ScheduleFreeAdamW};
///
/// let mut optimizer = Optimizer::new(ScheduleFreeAdamW::new(0.1));
/// let mut theta = array![1.0];
/// let mut evaluating = Evaluating::new(&mut optimizer);
/// evaluating.enter(&mut theta).unwrap();
/// optimizer.update(&mut theta, &array![0.5]).unwrap(); // second mutable borrow
/// evaluating.restore(&mut theta).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "the parameters keep their evaluation values until `restore`"]
pub struct Evaluating<'o, A: Element> {
    optimizer: &'o mut Optimizer<A>,
    /// The training values of the parameters that have been entered.
    training: HashMap<String, ArrayD<A>>,
}

impl<'o, A: Element> Evaluating<'o, A> {
    /// Begins an evaluation; no parameter has been entered yet.
    pub fn new(optimizer: &'o mut Optimizer<A>) -> Self {
        Evaluating {
            optimizer,
            training: HashMap::new(),
        }
    }

    /// Replaces the array of [`update`](Optimizer::update) by the point of
    /// [`evaluate`](Optimizer::evaluate).
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Optimizer::evaluate); nothing is changed then.
    pub fn enter<D: Dimension>(&mut self, param: &mut ArrayRef<A, D>) -> Result<(), Error> {
        self.enter_param(UNNAMED, param)
    }

    /// As [`enter`](Evaluating::enter), for the parameter with this name. Entering a parameter a
    /// second time has no effect.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Optimizer::evaluate); nothing is changed then.
    pub fn enter_param<D: Dimension>(
        &mut self,
        name: &str,
        param: &mut ArrayRef<A, D>,
    ) -> Result<(), Error> {
        if !self.training.contains_key(name) {
            let point = self.optimizer.evaluate_param(name, param)?;
            let before = param.to_owned().into_dyn();
            self.training.insert(name.into(), before);
            param.assign(&point);
        }
        Ok(())
    }

    /// Restores the training parameters in the array of [`update`](Optimizer::update).
    ///
    /// # Errors
    ///
    /// [`Error::MissingParameter`] if the parameter has not been entered, [`Error::ShapeChanged`]
    /// if its shape differs.
    pub fn restore<D: Dimension>(&mut self, param: &mut ArrayRef<A, D>) -> Result<(), Error> {
        self.restore_param(UNNAMED, param)
    }

    /// As [`restore`](Evaluating::restore), for the parameter with this name.
    ///
    /// # Errors
    ///
    /// As [`restore`](Evaluating::restore).
    pub fn restore_param<D: Dimension>(
        &mut self,
        name: &str,
        param: &mut ArrayRef<A, D>,
    ) -> Result<(), Error> {
        let entered = self.training.get(name);
        let before = entered.ok_or_else(|| Error::MissingParameter { name: name.into() })?;
        if before.shape() != param.shape() {
            let (known, given) = (before.shape().to_vec(), param.shape().to_vec());
            let name = name.into();
            return Err(Error::ShapeChanged { name, known, given });
        }
        param.assign(before);
        self.training.remove(name);
        Ok(())
    }

    /// Ends the evaluation.
    ///
    /// # Errors
    ///
    /// [`Error::MissingParameter`] names a parameter that has not been restored.
    pub fn finish(self) -> Result<(), Error> {
        match self.training.into_keys().min() {
            Some(name) => Err(Error::MissingParameter { name }),
            None => Ok(()),
        }
    }
}
