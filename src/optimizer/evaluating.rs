//! Evaluation as a scope, in which no step can be made.
use super::Optimizer;
use crate::{
    array::Element,
    error::Error,
    named_arrays::NamedArraysMut,
    params::{UNNAMED, or_unnamed},
};
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

    /// As [`enter_param`](Evaluating::enter_param), for all arrays of a model.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Optimizer::evaluate); nothing is changed then.
    pub fn enter_all(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
    ) -> Result<(), Error> {
        let (mut points, mut result) = (Vec::new(), Ok(()));
        model.visit(&mut |name, param| {
            let name = or_unnamed(name);
            if result.is_ok() && !self.training.contains_key(&*name) {
                match self.optimizer.evaluate_param(&name, &param) {
                    Ok(point) => points.push((name.into_owned(), point)),
                    Err(error) => result = Err(error),
                }
            }
        });
        result?;
        let mut points = points.into_iter().peekable();
        model.visit_mut(&mut |name, mut param| {
            let name = or_unnamed(name);
            if let Some((name, point)) = points.next_if(|(next, _)| *next == name) {
                self.training.insert(name, param.to_owned());
                param.assign(&point);
            }
        });
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
        param.assign(self.before(name, param.shape())?);
        self.training.remove(name);
        Ok(())
    }

    /// Restores all arrays of a model.
    ///
    /// # Errors
    ///
    /// As [`restore`](Evaluating::restore); nothing is changed then.
    pub fn restore_all(
        &mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
    ) -> Result<(), Error> {
        let mut result = Ok(());
        model.visit(&mut |name, param| {
            if result.is_ok() {
                result = self.before(&or_unnamed(name), param.shape()).map(|_| ());
            }
        });
        result?;
        model.visit_mut(&mut |name, mut param| {
            if let Some(before) = self.training.remove(&*or_unnamed(name)) {
                param.assign(&before);
            }
        });
        Ok(())
    }

    /// The training values of a parameter that has been entered.
    fn before(&self, name: &str, shape: &[usize]) -> Result<&ArrayD<A>, Error> {
        let entered = self.training.get(name);
        let before = entered.ok_or_else(|| Error::MissingParameter { name: name.into() })?;
        if before.shape() == shape {
            return Ok(before);
        }
        Err(Error::ShapeChanged {
            name: name.into(),
            known: before.shape().to_vec(),
            given: shape.to_vec(),
        })
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
