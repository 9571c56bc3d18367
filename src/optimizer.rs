//! What every optimizer can do, and the catalogue of them.
use crate::{
    AdamConfig, AdamWConfig, Config, Error, Fused, MomentumConfig, Params, RmsPropConfig, SgdConfig,
    kernel::Element,
    params::{Lending, Param},
};
use ndarray::{ArrayView, ArrayViewMut, Dimension};
use std::{any::Any, borrow::Cow};

/// The name of the one array of `update`: eight bytes compare in one instruction.
pub(crate) const UNNAMED: &str = "variable";

pub(crate) fn run_unnamed<'a, A: Element, D: Dimension>(
    optimizer: &mut impl Optimizer<A>,
    param: ArrayViewMut<'a, A, D>,
    grad: ArrayView<'a, A, D>,
) -> Result<Outcome, Error> {
    let mut strided = [None];
    let param = Param::new(Cow::Borrowed(UNNAMED), param, Some(grad), 0, |views| strided = [Some(views)])?;
    optimizer.run(Lending { params: &mut [param], strided: &mut strided })
}

/// What to do about a gradient that is infinite or NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum NonFinite {
    /// Compute with it: what IEEE arithmetic makes of it ends up in the parameter. No check is made.
    #[default]
    Propagate,
    /// Leave out the whole step: no parameter, moment or step count changes, and the step returns [`Outcome::Skipped`].
    /// Costs one read of the gradients.
    Skip,
    /// Refuse the step with [`Error::NonFiniteGradient`]. Costs one read of the gradients.
    Error,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Applied,
    /// It was left out because a gradient was not finite ([`NonFinite::Skip`]).
    Skipped,
}

/// An optimizer for arrays of `f32` or `f64`.
pub trait Optimizer<A: Element>: Send {
    /// One step over lent parameters: what [`update`](Optimizer::update) and [`step`](Optimizer::step) come down to.
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step).
    fn run(&mut self, lending: Lending<'_, '_, A>) -> Result<Outcome, Error>;

    /// One step for one array: no name needed. An optimizer used like this belongs to that one array; use
    /// [`step`](Optimizer::step) for more.
    ///
    /// `param` and `grad` are arrays, views or, with one axis, slices:
    ///
    /// ```
    /// use ndarray::{array, s};
    /// use ndarray_optim::{Momentum, Optimizer};
    ///
    /// let mut theta = array![[1.0, 2.0], [3.0, 4.0]];
    /// let grad = array![[1.0, 1.0], [1.0, 1.0]];
    /// Momentum::new(0.1).update(&mut theta, &grad)?;
    /// Momentum::new(0.1).update(theta.slice_mut(s![.., 0]), grad.row(0))?;
    /// let mut plain = vec![1.0, 2.0];
    /// Momentum::new(0.1).update(&mut plain[..], &[0.5, 0.5])?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step); the array is called `variable` in messages.
    #[inline]
    fn update<'a, D: Dimension>(
        &mut self,
        param: impl Into<ArrayViewMut<'a, A, D>>,
        grad: impl Into<ArrayView<'a, A, D>>,
    ) -> Result<Outcome, Error>
    where
        Self: Sized,
    {
        run_unnamed(self, param.into(), grad.into())
    }

    /// One step for all of `params`. Parameters may be left out of a step and new ones may appear later: each has its own
    /// step count.
    ///
    /// # Errors
    ///
    /// [`Error`] says what is wrong: a hyper-parameter out of range, a repeated name, a shape that differs from earlier steps,
    /// a gradient that is not finite if [`NonFinite::Error`] was asked for. Nothing has changed then.
    #[inline]
    fn step(&mut self, mut params: Params<'_, A>) -> Result<Outcome, Error> {
        self.run(params.lend())
    }

    /// The learning rate of parameters in no group.
    fn lr(&self) -> f64;

    /// Changes the learning rate of parameters in no group, from the next step on.
    fn set_lr(&mut self, lr: f64);

    /// The learning rate of a group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    fn group_lr(&self, group: &str) -> Result<f64, Error>;

    /// Changes the learning rate of a group.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    fn set_group_lr(&mut self, group: &str, lr: f64) -> Result<(), Error>;

    /// Gives some parameters hyper-parameters of their own.
    ///
    /// # Errors
    ///
    /// [`Error::OtherOptimizer`] if the group is for another optimizer, else as [`Fused::group`].
    fn add_group(&mut self, group: ParamGroup) -> Result<(), Error>;
}

impl<A: Element, O: Optimizer<A> + ?Sized> Optimizer<A> for Box<O> {
    fn run(&mut self, lending: Lending<'_, '_, A>) -> Result<Outcome, Error> {
        (**self).run(lending)
    }
    fn lr(&self) -> f64 {
        (**self).lr()
    }
    fn set_lr(&mut self, lr: f64) {
        (**self).set_lr(lr);
    }
    fn group_lr(&self, group: &str) -> Result<f64, Error> {
        (**self).group_lr(group)
    }
    fn set_group_lr(&mut self, group: &str, lr: f64) -> Result<(), Error> {
        (**self).set_group_lr(group, lr)
    }
    fn add_group(&mut self, group: ParamGroup) -> Result<(), Error> {
        (**self).add_group(group)
    }
}

/// Parameters by name, with hyper-parameters of their own: all of them, like a group of torch, whose missing keys were
/// filled in when it was made.
///
/// ```
/// use ndarray_optim::{AdamW, AdamWConfig, Optimizer, ParamGroup};
///
/// let mut adamw = AdamW::<f32>::new(1e-3);
/// let no_decay = AdamWConfig { weight_decay: 0.0, ..adamw.config };
/// adamw.add_group(ParamGroup::new("no_decay", ["bias", "norm.weight"], no_decay))?;
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ParamGroup {
    /// The name of the group.
    pub group: String,
    /// The names of its parameters; each name is in one group at most.
    pub params: Vec<String>,
    /// Its hyper-parameters.
    pub config: OptimizerConfig,
}

impl ParamGroup {
    /// A group of this name, of these parameters, with these hyper-parameters.
    pub fn new<S: Into<String>>(
        group: impl Into<String>,
        params: impl IntoIterator<Item = S>,
        config: impl Into<OptimizerConfig>,
    ) -> Self {
        ParamGroup { group: group.into(), params: params.into_iter().map(S::into).collect(), config: config.into() }
    }
}

macro_rules! catalogue {
    ($($name:literal $optimizer:ident($config:ident): $what:literal;)*) => {
        /// The hyper-parameters of any optimizer: a run described by a file.
        ///
        /// With the `serde` feature this is `{"name": "adamw", "lr": 1e-3, ...}`; missing keys have their defaults, unknown
        /// ones are an error that lists the known.
        ///
        /// ```
        /// use ndarray::array;
        /// use ndarray_optim::{Optimizer, OptimizerConfig, RmsPropConfig};
        ///
        /// let config = OptimizerConfig::from(RmsPropConfig { centered: true, ..Default::default() });
        /// let mut optimizer = config.build::<f64>();
        /// optimizer.update(&mut array![1.0, 2.0], &array![0.1, 0.2])?;
        /// # Ok::<(), ndarray_optim::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(tag = "name"))]
        #[non_exhaustive]
        pub enum OptimizerConfig {
            $(
                #[doc = $what]
                #[cfg_attr(feature = "serde", serde(rename = $name))]
                $optimizer($config),
            )*
        }

        impl OptimizerConfig {
            /// Every optimizer with its default hyper-parameters.
            pub fn all() -> Vec<OptimizerConfig> {
                vec![$(OptimizerConfig::$optimizer($config::default())),*]
            }

            /// The name of the optimizer, as in files.
            pub fn name(&self) -> &'static str {
                match self {
                    $(OptimizerConfig::$optimizer(_) => $name,)*
                }
            }

            /// What the optimizer is, in a few words.
            pub fn summary(&self) -> &'static str {
                match self {
                    $(OptimizerConfig::$optimizer(_) => $what,)*
                }
            }

            /// Checks every hyper-parameter.
            ///
            /// # Errors
            ///
            /// [`Error::HyperParameter`].
            pub fn validate(&self) -> Result<(), Error> {
                match self {
                    $(OptimizerConfig::$optimizer(config) => config.validate(),)*
                }
            }

            /// The optimizer, for arrays of `A`.
            pub fn build<A: Element>(&self) -> Box<dyn Optimizer<A>> {
                match self {
                    $(OptimizerConfig::$optimizer(config) => Box::new(Fused::with(config.clone())),)*
                }
            }

            pub(crate) fn downcast<C: Config>(&self) -> Option<&C> {
                let config: &dyn Any = match self {
                    $(OptimizerConfig::$optimizer(config) => config,)*
                };
                config.downcast_ref()
            }
        }

        $(
            impl From<$config> for OptimizerConfig {
                fn from(config: $config) -> Self {
                    OptimizerConfig::$optimizer(config)
                }
            }
        )*
    };
}

catalogue! {
    "sgd" Sgd(SgdConfig): "Gradient descent, with torch's momentum, dampening and Nesterov form.";
    "momentum" Momentum(MomentumConfig): "Gradient descent along an exponential average of the gradients.";
    "rmsprop" RmsProp(RmsPropConfig): "The gradient over the root of the average of its squares.";
    "adam" Adam(AdamConfig): "Averages of the gradient and of its squares, bias-corrected.";
    "adamw" AdamW(AdamWConfig): "Adam with weight decay decoupled from the gradient.";
}
