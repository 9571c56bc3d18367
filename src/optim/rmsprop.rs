use super::*;

/// The gradient divided by the root of the average of its squares: every coordinate moves at its own scale. A robust choice
/// for objectives that drift or are noisy.
///
/// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
///
/// ```text
/// v <- alpha v + (1 - alpha) g^2                            from v = initial_scale
/// centered:  a <- alpha a + (1 - alpha) g,  w = v - a^2     otherwise w = v
///
/// u = g / (sqrt(w) + eps)                                   torch
/// momentum = 0:  p <- p - lr u
/// else:          buf <- momentum buf + u,  p <- p - lr buf            nesterov: p <- p - lr (u + momentum buf)
///
/// u = lr g / sqrt(w + eps)                                  eps_inside_sqrt: optax, keras
/// momentum = 0:  p <- p - u
/// else:          buf <- momentum buf + u,  p <- p - buf               nesterov: p <- p - (u + momentum buf)
/// ```
///
/// As `torch.optim.RMSprop` and, with `eps_inside_sqrt`, as `optax.rmsprop` and `keras.optimizers.RMSprop`; the forms differ
/// where gradients are small and where `lr` changes under momentum. Source: T. Tieleman, G. Hinton, "Lecture 6.5: rmsprop",
/// Coursera 2012; centered: A. Graves, arXiv:1308.0850. State: `square_avg`, then `grad_avg` if centered, then
/// `momentum_buffer` with momentum.
///
/// ```
/// use ndarray::array;
/// use ndarray_optim::{Optimizer, RmsProp};
///
/// let mut rmsprop = RmsProp::new(0.01);
/// let mut theta = array![1.0, -2.0];
/// rmsprop.update(&mut theta, &array![1e-3, 1e3])?;
/// // Gradients a million times apart make the same first step: lr / sqrt(1 - alpha).
/// assert!((theta[0] - 0.9_f64).abs() < 1e-5 && (theta[1] + 2.1).abs() < 1e-5);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
pub type RmsProp<A> = Fused<RmsPropConfig, A>;

/// Hyper-parameters of [`RmsProp`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(from = "Keys"))]
pub struct RmsPropConfig {
    /// Learning rate, >= 0. Default 1e-2.
    pub lr: f64,
    /// Share of the averages that is kept, in [0, 1). Default 0.99; 0.9 with [`RmsPropConfig::optax`],
    /// [`RmsPropConfig::keras`] and in files that set `eps_inside_sqrt` and no `alpha`.
    pub alpha: f64,
    /// Keeps the division from zero, >= 0. Default 1e-8.
    pub eps: f64,
    /// optax's and keras' form: eps under the root, and lr inside the momentum buffer. Default false.
    pub eps_inside_sqrt: bool,
    /// What v starts from, >= 0. Default 0.
    pub initial_scale: f64,
    /// Subtract the square of the average gradient: a variance. Default false.
    pub centered: bool,
    /// Share of the buffer that is kept, in [0, 1]. Default 0: no buffer.
    pub momentum: f64,
    /// Step along the buffer as it will be; needs momentum > 0. Default false.
    pub nesterov: bool,
    /// Coupled decay (L2), >= 0. Default 0.
    pub weight_decay: f64,
    /// Ascend instead of descend. Default false.
    pub maximize: bool,
}

impl Default for RmsPropConfig {
    fn default() -> Self {
        RmsPropConfig {
            lr: 1e-2,
            alpha: 0.99,
            eps: 1e-8,
            eps_inside_sqrt: false,
            initial_scale: 0.0,
            centered: false,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            maximize: false,
        }
    }
}

impl RmsPropConfig {
    /// `torch.optim.RMSprop`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.rmsprop`.
    pub fn optax() -> Self {
        RmsPropConfig { alpha: 0.9, eps_inside_sqrt: true, ..Self::default() }
    }

    /// `keras.optimizers.RMSprop`.
    pub fn keras() -> Self {
        RmsPropConfig { lr: 1e-3, eps: 1e-7, ..Self::optax() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Rms<A> {
    average: Average<A>,
    initial_scale: A,
    /// One of the two is 0.
    eps_inside: A,
    eps_outside: A,
    scale: A,
}

impl<A: Element> Rms<A> {
    #[inline(always)]
    fn update(&self, g: A, w: A) -> A {
        self.scale * g.over((w + self.eps_inside).sqrt() + self.eps_outside)
    }
}

impl<A: Element> Rule for Rms<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["square_avg"];
    const COST: u64 = 4;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [v]: [A; 1]) -> (A, [A; 1]) {
        let v = self.average.step(v, g * g);
        (self.update(g, v), [v])
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 1] {
        [self.initial_scale]
    }
}

/// [`Rms`] with the average gradient.
#[derive(Clone, Copy, Debug)]
pub struct Centered<A>(Rms<A>);

impl<A: Element> Rule for Centered<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["square_avg", "grad_avg"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [v, a]: [A; 2]) -> (A, [A; 2]) {
        let (v, a) = (self.0.average.step(v, g * g), self.0.average.step(a, g));
        (self.0.update(g, v - a * a), [v, a])
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [self.0.initial_scale, A::ZERO]
    }
}

type WithTrace<R, const NESTEROV: bool> = WithCoupled<With<R, Trace<<R as Rule>::Elem, NESTEROV>>>;
type WithMomentum<R> = Either<WithCoupled<R>, Either<WithTrace<R, false>, WithTrace<R, true>>>;

impl RmsPropConfig {
    #[inline(always)]
    fn with_momentum<R: Rule>(&self, rule: R) -> WithMomentum<R> {
        let decay = self.weight_decay;
        let lr = R::Elem::of(if self.eps_inside_sqrt { 1.0 } else { self.lr });
        let momentum = R::Elem::of(self.momentum);
        match (self.momentum == 0.0, self.nesterov) {
            (true, _) => Either::X(coupled(rule, decay)),
            (_, false) => Either::Y(Either::X(coupled(rule.with(Trace { momentum, lr }), decay))),
            (_, true) => Either::Y(Either::Y(coupled(rule.with(Trace { momentum, lr }), decay))),
        }
    }
}

learning_rate!(RmsPropConfig, lr alpha eps initial_scale momentum weight_decay);

impl Config for RmsPropConfig {
    type Kernel<A: Element> = Either<WithMomentum<Rms<A>>, WithMomentum<Centered<A>>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("alpha", self.alpha)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("initial_scale", self.initial_scale)?;
        check::unit("momentum", self.momentum)?;
        check::nesterov(self.nesterov, self.momentum, 0.0)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let (inside, outside) = if self.eps_inside_sqrt { (self.eps, 0.0) } else { (0.0, self.eps) };
        let lr_here = self.eps_inside_sqrt || self.momentum == 0.0;
        let rule = Rms {
            average: Average::new(self.alpha),
            initial_scale: f(self.initial_scale),
            eps_inside: f(inside),
            eps_outside: f(outside),
            scale: f(if lr_here { self.lr } else { 1.0 }),
        };
        if self.centered { Either::Y(self.with_momentum(Centered(rule))) } else { Either::X(self.with_momentum(rule)) }
    }
}

/// The keys of a file: only here does the default of `alpha` depend on another key.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    lr: f64,
    alpha: Option<f64>,
    eps: f64,
    eps_inside_sqrt: bool,
    initial_scale: f64,
    centered: bool,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    maximize: bool,
}

#[cfg(feature = "serde")]
impl Default for Keys {
    fn default() -> Self {
        let RmsPropConfig {
            lr,
            eps,
            eps_inside_sqrt,
            initial_scale,
            centered,
            momentum,
            nesterov,
            weight_decay,
            maximize,
            ..
        } = RmsPropConfig::default();
        Keys { lr, alpha: None, eps, eps_inside_sqrt, initial_scale, centered, momentum, nesterov, weight_decay, maximize }
    }
}

#[cfg(feature = "serde")]
impl From<Keys> for RmsPropConfig {
    fn from(keys: Keys) -> Self {
        let Keys { lr, alpha, eps, eps_inside_sqrt, initial_scale, centered, momentum, nesterov, weight_decay, maximize } =
            keys;
        let form = if eps_inside_sqrt { RmsPropConfig::optax() } else { RmsPropConfig::default() };
        let alpha = alpha.unwrap_or(form.alpha);
        RmsPropConfig {
            lr,
            alpha,
            eps,
            eps_inside_sqrt,
            initial_scale,
            centered,
            momentum,
            nesterov,
            weight_decay,
            maximize,
        }
    }
}
