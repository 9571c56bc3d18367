use super::Optimizer;
use crate::{array::Element, error::Error};
use ndarray::{ArrayD, ArrayViewMutD};
use std::marker::PhantomData;

/// A model at the points to evaluate it at: the averages of [`Ema`](crate::wrap::Ema), [`Swa`](crate::wrap::Swa) and the schedule-free
/// optimizers. While this value lives, the optimizer is borrowed and no step can be made by mistake;
/// [`resume`](Evaluating::resume) puts the training parameters back, bit for bit.
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
/// let evaluating = Evaluating::new(&mut optimizer, [("variable", theta.view_mut().into_dyn())]);
/// // optimizer.update(...) does not compile here.
/// assert_ne!(theta, training);
/// evaluating.resume([("variable", theta.view_mut().into_dyn())])?;
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
/// let evaluating = Evaluating::new(&mut optimizer, [("variable", theta.view_mut().into_dyn())]);
/// optimizer.update(&mut theta, &array![0.5]).unwrap(); // second mutable borrow
/// evaluating.resume([("variable", theta.view_mut().into_dyn())]).unwrap();
/// ```
#[must_use = "the parameters are those of evaluation until `resume`"]
pub struct Evaluating<'o, A: Element> {
    optimizer: PhantomData<&'o mut Optimizer<A>>,
    training: Vec<(String, ArrayD<A>)>,
}

impl<'o, A: Element> Evaluating<'o, A> {
    /// Puts the points to evaluate at into these parameters.
    pub fn new<'a, S: Into<String>>(
        optimizer: &'o mut Optimizer<A>,
        params: impl IntoIterator<Item = (S, ArrayViewMutD<'a, A>)>,
    ) -> Self {
        let exchange = |(name, mut param): (S, ArrayViewMutD<'a, A>)| {
            let name = name.into();
            let training = param.to_owned();
            param.assign(&optimizer.evaluation(&name, training.view()));
            (name, training)
        };
        Evaluating { training: params.into_iter().map(exchange).collect(), optimizer: PhantomData }
    }

    /// Puts the training parameters back.
    ///
    /// # Errors
    ///
    /// [`Error::MissingParameter`] or [`Error::ShapeChanged`] if these are not the parameters there were, in any order; those
    /// that fit are back then.
    pub fn resume<'a, S: AsRef<str>>(
        self,
        params: impl IntoIterator<Item = (S, ArrayViewMutD<'a, A>)>,
    ) -> Result<(), Error> {
        let mut training = self.training;
        let mut wrong = None;
        for (name, mut param) in params {
            let Some(at) = training.iter().position(|(known, _)| known == name.as_ref()) else { continue };
            let (name, before) = training.swap_remove(at);
            if before.shape() == param.shape() {
                param.assign(&before);
            } else {
                let (known, given) = (before.shape().to_vec(), param.shape().to_vec());
                wrong = Some(Error::ShapeChanged { name, known, given });
            }
        }
        match (wrong, training.pop()) {
            (Some(error), _) => Err(error),
            (None, Some((name, _))) => Err(Error::MissingParameter { name }),
            (None, None) => Ok(()),
        }
    }
}
