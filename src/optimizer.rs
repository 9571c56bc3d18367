//! What every optimizer can do, and the catalogue of them.
use crate::{
    Config, Error, Fused, GroupReport, Parallel, Params,
    kernel::Element,
    optim::*,
    params::{Lending, Param},
    state::{Difference, Report, StateDict, StateView},
    wrap::{AnyWrap, Composed, Lookahead},
};
use ndarray::{ArrayD, ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Dimension};
use std::{any::Any, borrow::Cow, marker::PhantomData};

/// The name of the one array of `update`: eight bytes compare in one instruction.
pub(crate) const UNNAMED: &str = "variable";

pub(crate) fn run_unnamed<'a, A: Element, D: Dimension>(
    optimizer: &mut impl Optimizer<A>,
    param: ArrayViewMut<'a, A, D>,
    grad: ArrayView<'a, A, D>,
    loss: Option<f64>,
) -> Result<Outcome, Error> {
    let mut strided = [None];
    let param = Param::new(Cow::Borrowed(UNNAMED), param, Some(grad), 0, |views| strided = [Some(views)])?;
    optimizer.run(Lending { params: &mut [param], strided: &mut strided, loss })
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

/// Bounds on what [`NonFinite::Skip`] and [`NonFinite::Error`] let pass; with [`NonFinite::Propagate`] nothing is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Limits {
    /// The largest 2-norm of all gradients together; above it they are treated like one that is not finite. Default none.
    pub norm: Option<f64>,
    /// How many steps may be left out one after another; one more is [`Error::TooManySkipped`]. Default any number.
    pub skipped: Option<u64>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Applied,
    /// It was left out because of its gradients ([`NonFinite::Skip`]).
    Skipped,
    /// Its gradients were added to those of earlier calls ([`Accumulate`](crate::wrap::Accumulate)).
    Accumulated,
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
        run_unnamed(self, param.into(), grad.into(), None)
    }

    /// As [`update`](Optimizer::update), with the value of the objective at `param`, for optimizers that use it.
    ///
    /// # Errors
    ///
    /// As [`step`](Optimizer::step).
    fn update_with_loss<'a, D: Dimension>(
        &mut self,
        param: impl Into<ArrayViewMut<'a, A, D>>,
        grad: impl Into<ArrayView<'a, A, D>>,
        loss: f64,
    ) -> Result<Outcome, Error>
    where
        Self: Sized,
    {
        run_unnamed(self, param.into(), grad.into(), Some(loss))
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

    /// The point to evaluate a model at, for the parameter of this name (`variable` for the array of
    /// [`update`](Optimizer::update)): the parameter itself, but for schedule-free optimizers the average that belongs to it.
    fn evaluation(&self, name: &str, param: ArrayViewD<'_, A>) -> ArrayD<A>;

    /// Exchanges a parameter with its average, where a wrapper keeps one ([`Ema`](crate::wrap::Ema),
    /// [`Swa`](crate::wrap::Swa)): to use the model, or to save it, without a copy. Exchange them again before the next step;
    /// a step in between is refused.
    ///
    /// # Errors
    ///
    /// [`Error::NoAverage`], or [`Error::ShapeChanged`].
    fn swap_average(&mut self, name: &str, param: ArrayViewMutD<'_, A>) -> Result<(), Error>;

    /// What the last step did, by groups, the parameters in no group first; empty if it was not watched
    /// ([`Watch`](crate::wrap::Watch)).
    fn report(&self) -> &[GroupReport];

    /// The norm of all gradients of the last step, if it was taken for clipping
    /// ([`ClipByGlobalNorm`](crate::wrap::ClipByGlobalNorm)).
    fn grad_norm(&self) -> Option<f64>;

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

    /// A hyper-parameter by name, of a group or of the parameters in none: `lr`, `weight_decay`, `betas[0]`, or one of a
    /// wrapper's. The next step checks what is put there. See [`Schedules`](crate::schedule::Schedules).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownField`], [`Error::UnknownGroup`].
    fn field_mut(&mut self, group: Option<&str>, name: &str) -> Result<&mut f64, Error>;

    /// The names of all groups.
    fn group_names(&self) -> Vec<String>;

    /// Says when to use threads.
    fn set_parallel(&mut self, parallel: Parallel);

    /// Says what to do about infinite or NaN gradients.
    fn set_non_finite(&mut self, non_finite: NonFinite);

    /// Says when gradients count as exploding, and how often steps may be left out.
    fn set_limits(&mut self, limits: Limits);

    /// Leaves the parameters of a group, their state and their step counts as they are from now on, or goes on with them.
    /// Their gradients are not looked at, also not for norms.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    fn freeze(&mut self, group: &str, frozen: bool) -> Result<(), Error>;

    /// How many steps a parameter has made; 0 for one that is not known.
    fn steps(&self, name: &str) -> u64;

    /// Everything that is remembered between steps, with the hyper-parameters: see [`state`](crate::state). Arrays are not
    /// copied, which is what saving needs.
    fn state_view(&self) -> StateView<'_>;

    /// A copy of what [`state_view`](Optimizer::state_view) shows.
    fn state_dict(&self) -> StateDict {
        self.state_view().to_owned()
    }

    /// All that keeps a state from being loaded; empty if it can be.
    fn differences(&self, state: &StateView<'_>) -> Vec<Difference>;

    /// Takes the place of the optimizer that the state is of, hyper-parameters included: the next step has the bits that it
    /// would have had there.
    ///
    /// The optimizer has to be of the same kind, with the same groups, which [`StateDict::build`] takes from the state. One
    /// that has made steps keeps its parameters, so the state has to have these and no others. Settings of
    /// [`Parallel`], which have no influence on results, stay. Hyper-parameters of an optimizer that is not in the catalogue
    /// are not in the state, and stay too.
    ///
    /// Arrays that the state owns become those of the optimizer without being copied, if they are in its memory order.
    /// [`StateDict::view`] lends a state that is needed again.
    ///
    /// # Errors
    ///
    /// [`Error::State`] with everything that does not fit; nothing has changed then.
    fn load_state_dict(&mut self, state: StateView<'_>) -> Result<(), Error>;

    /// Takes those parameters of a state that fit, under their names, also from another optimizer whose arrays have the same
    /// names. Hyper-parameters and settings stay; so do parameters that the state does not have. Each parameter is taken as a
    /// whole or not at all, with its step count.
    ///
    /// # Errors
    ///
    /// [`Error::State`] for another version of the format, [`Error::HyperParameter`] for wrong ones of the optimizer.
    fn load_matching(&mut self, state: StateView<'_>) -> Result<Report, Error>;

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
    fn evaluation(&self, name: &str, param: ArrayViewD<'_, A>) -> ArrayD<A> {
        (**self).evaluation(name, param)
    }
    fn swap_average(&mut self, name: &str, param: ArrayViewMutD<'_, A>) -> Result<(), Error> {
        (**self).swap_average(name, param)
    }
    fn report(&self) -> &[GroupReport] {
        (**self).report()
    }
    fn grad_norm(&self) -> Option<f64> {
        (**self).grad_norm()
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
    fn field_mut(&mut self, group: Option<&str>, name: &str) -> Result<&mut f64, Error> {
        (**self).field_mut(group, name)
    }
    fn group_names(&self) -> Vec<String> {
        (**self).group_names()
    }
    fn set_parallel(&mut self, parallel: Parallel) {
        (**self).set_parallel(parallel);
    }
    fn set_non_finite(&mut self, non_finite: NonFinite) {
        (**self).set_non_finite(non_finite);
    }
    fn set_limits(&mut self, limits: Limits) {
        (**self).set_limits(limits);
    }
    fn freeze(&mut self, group: &str, frozen: bool) -> Result<(), Error> {
        (**self).freeze(group, frozen)
    }
    fn steps(&self, name: &str) -> u64 {
        (**self).steps(name)
    }
    fn state_view(&self) -> StateView<'_> {
        (**self).state_view()
    }
    fn differences(&self, state: &StateView<'_>) -> Vec<Difference> {
        (**self).differences(state)
    }
    fn load_state_dict(&mut self, state: StateView<'_>) -> Result<(), Error> {
        (**self).load_state_dict(state)
    }
    fn load_matching(&mut self, state: StateView<'_>) -> Result<Report, Error> {
        (**self).load_matching(state)
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

/// Something to be done with the typed hyper-parameters of any optimizer: see [`OptimizerConfig::visit`].
pub trait Visit {
    /// What comes of it.
    type Out;
    /// Does it.
    fn visit<C: Config>(self, config: &C) -> Self::Out;
}

/// Hyper-parameters of any optimizer with wrappers around it, for a run described by a file.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ComposedConfig {
    /// The optimizer.
    pub inner: Box<OptimizerConfig>,
    /// What is around it, from the inside out; at most eight wrappers.
    pub wrap: Vec<AnyWrap>,
}

/// Hyper-parameters of lookahead around any optimizer, for a run described by a file; see [`Lookahead`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct LookaheadConfig {
    /// The optimizer.
    pub inner: Box<OptimizerConfig>,
    /// Steps of a stretch, >= 1. Default 5.
    #[cfg_attr(feature = "serde", serde(default = "sync_period"))]
    pub sync_period: u64,
    /// Part of the way that is kept, in [0, 1]. Default 0.5.
    #[cfg_attr(feature = "serde", serde(default = "slow_step_size"))]
    pub slow_step_size: f64,
}

#[cfg(feature = "serde")]
fn sync_period() -> u64 {
    Lookahead::default().sync_period
}

#[cfg(feature = "serde")]
fn slow_step_size() -> f64 {
    Lookahead::default().slow_step_size
}

impl OptimizerConfig {
    /// An optimizer in these wrappers, or by itself.
    pub(crate) fn composed(base: &OptimizerConfig, wrap: Vec<AnyWrap>) -> OptimizerConfig {
        let inner = base.clone();
        if wrap.is_empty() { inner } else { OptimizerConfig::Composed(ComposedConfig { inner: Box::new(inner), wrap }) }
    }

    /// The optimizer inside of all wrappers, and these from the inside out.
    pub(crate) fn flatten(&self) -> (&OptimizerConfig, Vec<AnyWrap>) {
        match self {
            OptimizerConfig::Composed(ComposedConfig { inner, wrap }) => {
                let (base, mut all) = inner.flatten();
                all.extend(wrap.iter().cloned());
                (base, all)
            }
            OptimizerConfig::Lookahead(LookaheadConfig { inner, sync_period, slow_step_size }) => {
                let (base, mut all) = inner.flatten();
                all.push(Lookahead { sync_period: *sync_period, slow_step_size: *slow_step_size }.into());
                (base, all)
            }
            base => (base, Vec::new()),
        }
    }
}

macro_rules! catalogue {
    ($($(#[$on:meta])* $name:literal $optimizer:ident($config:ident): $what:literal;)*) => {
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
                $(#[$on])*
                #[doc = $what]
                #[cfg_attr(feature = "serde", serde(rename = $name))]
                $optimizer($config),
            )*
            /// An optimizer in wrappers.
            #[cfg_attr(feature = "serde", serde(rename = "composed"))]
            Composed(ComposedConfig),
            /// An optimizer that runs ahead: [`Lookahead`](crate::wrap::Lookahead) by itself.
            #[cfg_attr(feature = "serde", serde(rename = "lookahead"))]
            Lookahead(LookaheadConfig),
        }

        impl OptimizerConfig {
            /// Every optimizer with its default hyper-parameters.
            pub fn all() -> Vec<OptimizerConfig> {
                vec![$($(#[$on])* OptimizerConfig::$optimizer($config::default())),*]
            }

            /// The name of the optimizer, as in files.
            pub fn name(&self) -> &'static str {
                match self {
                    $($(#[$on])* OptimizerConfig::$optimizer(_) => $name,)*
                    OptimizerConfig::Composed(_) => "composed",
                    OptimizerConfig::Lookahead(_) => "lookahead",
                }
            }

            /// What the optimizer is, in a few words.
            pub fn summary(&self) -> &'static str {
                match self {
                    $($(#[$on])* OptimizerConfig::$optimizer(_) => $what,)*
                    OptimizerConfig::Composed(_) => "An optimizer in wrappers.",
                    OptimizerConfig::Lookahead(_) => "An optimizer that runs ahead and goes back a part of the way.",
                }
            }

            /// Checks every hyper-parameter.
            ///
            /// # Errors
            ///
            /// [`Error::HyperParameter`].
            pub fn validate(&self) -> Result<(), Error> {
                struct Validate;
                impl Visit for Validate {
                    type Out = Result<(), Error>;
                    fn visit<C: Config>(self, config: &C) -> Self::Out {
                        config.validate()
                    }
                }
                self.visit(Validate)
            }

            /// The optimizer, for arrays of `A`.
            pub fn build<A: Element>(&self) -> Box<dyn Optimizer<A>> {
                struct Build<A>(PhantomData<A>);
                impl<A: Element> Visit for Build<A> {
                    type Out = Box<dyn Optimizer<A>>;
                    fn visit<C: Config>(self, config: &C) -> Self::Out {
                        Box::new(Fused::with(config.clone()))
                    }
                }
                self.visit(Build(PhantomData))
            }

            /// Calls `visit` with the typed hyper-parameters, in the wrappers there are: a [`Composed`].
            pub fn visit<V: Visit>(&self, visit: V) -> V::Out {
                let (base, wrap) = self.flatten();
                match base {
                    $($(#[$on])* OptimizerConfig::$optimizer(config) => visit.visit(&Composed { inner: config.clone(), wrap }),)*
                    // What `flatten` returns is none of these.
                    OptimizerConfig::Composed(_) | OptimizerConfig::Lookahead(_) => {
                        visit.visit(&Composed::<SgdConfig>::default())
                    }
                }
            }

            /// What these hyper-parameters are in the catalogue.
            pub(crate) fn of(config: &dyn Any) -> Option<OptimizerConfig> {
                $(
                    $(#[$on])*
                    if let Some(config) = config.downcast_ref::<$config>() {
                        return Some(config.clone().into());
                    }
                )*
                None
            }

            pub(crate) fn downcast<C: Config>(&self) -> Option<&C> {
                let config: &dyn Any = match self {
                    $($(#[$on])* OptimizerConfig::$optimizer(config) => config,)*
                    OptimizerConfig::Composed(config) => config,
                    OptimizerConfig::Lookahead(config) => config,
                };
                config.downcast_ref()
            }
        }

        $(
            $(#[$on])*
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
    "adamax" Adamax(AdamaxConfig): "Adam with the largest gradient, slowly forgotten, in place of the root of squares.";
    "nadam" NAdam(NAdamConfig): "Adam with Nesterov momentum and a momentum that grows.";
    "radam" RAdam(RAdamConfig): "Adam that waits with its denominator until the average of squares can be trusted.";
    "adagrad" Adagrad(AdagradConfig): "The gradient over the root of the sum of all its squares.";
    "adadelta" Adadelta(AdadeltaConfig): "RMSProp whose steps have the size of earlier steps: no learning rate to tune.";
    "rprop" Rprop(RpropConfig): "Steps of its own size for each coordinate, by the sign of the gradient alone.";
    "asgd" Asgd(AsgdConfig): "Gradient descent with the average of its iterates kept aside.";
    "adabelief" AdaBelief(AdaBeliefConfig): "Adam that divides by how far gradients are from their average.";
    "yogi" Yogi(YogiConfig): "Adam whose average of squares changes by steps of controlled size.";
    "lion" Lion(LionConfig): "The sign of an average of gradients: one array of state, steps of one size.";
    "adan" Adan(AdanConfig): "Adam with an average of gradient differences: Nesterov momentum without a second gradient.";
    "sign_sgd" SignSgd(SignSgdConfig): "Steps of the size lr along the sign of the gradient.";
    "optimistic_gradient_descent" OptimisticGradientDescent(OptimisticGradientDescentConfig): "Gradient descent that predicts the next gradient: for games.";
    "ademamix" AdEMAMix(AdEMAMixConfig): "AdamW with a second, very slow average of the gradient.";
    "adopt" Adopt(AdoptConfig): "Adam that divides before it averages, by the squares of before: converges with any beta2.";
    "acprop" AcProp(AcPropConfig): "The raw gradient over the root of an earlier variance.";
    "madgrad" Madgrad(MadgradConfig): "Dual averaging with the cube root of the sum of squares.";
    "cocob" Cocob(CocobConfig): "Coin betting: no learning rate at all.";
    "aggmo" AggMo(AggMoConfig): "Several momentum buffers with different memories, averaged.";
    "qhm" Qhm(QhmConfig): "A mixture of plain gradient descent and momentum.";
    "tiger" Tiger(TigerConfig): "The sign of the average gradient, with decay.";
    "signum" Signum(SignumConfig): "The sign of the average gradient.";
    "padam" Padam(PadamConfig): "Adam with a partial power of the denominator: between SGD and Adam.";
    "grams" Grams(GramsConfig): "The size of Adam's step with the sign of the gradient.";
    "ftrl" Ftrl(FtrlConfig): "Follow the regularised leader: exact zeros under an L1 penalty.";
    "laprop" LaProp(LaPropConfig): "Adam that normalises first and averages afterwards.";
    "qhadam" QHAdam(QHAdamConfig): "Adam with mixtures of the gradient and its averages in both places.";
    "diffgrad" DiffGrad(DiffGradConfig): "Adam that slows down where the gradient hardly changes.";
    "adabound" AdaBound(AdaBoundConfig): "Adam that turns into SGD: its rates are clipped ever closer to one.";
    "schedule_free_sgd" ScheduleFreeSgd(ScheduleFreeSgdConfig): "SGD that averages instead of lowering its learning rate.";
    "schedule_free_adamw" ScheduleFreeAdamW(ScheduleFreeAdamWConfig): "AdamW that averages instead of lowering its learning rate.";
    "novograd" NovoGrad(NovoGradConfig): "Gradients normalised by the average norm of their whole array, then momentum.";
    "lamb" Lamb(LambConfig): "AdamW with steps in proportion to the norm of each array: for very large batches.";
    "lars" Lars(LarsConfig): "SGD with momentum and steps in proportion to the norm of each array.";
    "fromage" Fromage(FromageConfig): "Steps in proportion to the norm of each array, which they keep from growing.";
    "polyak_sgd" PolyakSgd(PolyakSgdConfig): "The step that would reach the optimum, if its value is known.";
    "momo" Momo(MomoConfig): "Momentum with the step that a model of the objective allows.";
    "momo_adam" MomoAdam(MomoAdamConfig): "Adam with the step that a model of the objective allows.";
    "prodigy" Prodigy(ProdigyConfig): "AdamW that estimates its own learning rate.";
    "dadapt_adamw" DAdaptAdamW(DAdaptAdamWConfig): "AdamW that estimates its own learning rate, by D-Adaptation.";
    "dog" Dog(DogConfig): "SGD whose rate is the distance travelled over the root of all squared gradients.";
    "dowg" Dowg(DowgConfig): "SGD whose rate is the distance travelled over the root of weighted squared gradients.";
    "adafactor" Adafactor(AdafactorConfig): "Adam with its average of squares kept by rows and columns: next to no memory.";
    "sm3" Sm3(Sm3Config): "Adagrad with its sums kept by rows and columns: next to no memory.";
    "muon" Muon(MuonConfig): "Momentum with steps made orthogonal, for the matrices of networks.";
    #[cfg(feature = "linalg")]
    "shampoo" Shampoo(ShampooConfig): "Adagrad with a matrix for each axis in place of a number for each element.";
    #[cfg(feature = "linalg")]
    "soap" Soap(SoapConfig): "Adam in the slowly turning eigenbasis of Shampoo's matrices.";
    "mars" Mars(MarsConfig): "AdamW on gradients with their variance reduced.";
    "sophia" Sophia(SophiaConfig): "An average of gradients over estimates of the curvature, clipped.";
}
