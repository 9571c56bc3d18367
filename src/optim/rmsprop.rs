use super::*;

/// The gradient divided by the root of a running average of its square.
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
/// let mut rmsprop = Optimizer::new(RmsProp::new(0.01));
/// let mut theta = array![1.0, -2.0];
/// rmsprop.update(&mut theta, &array![1e-3, 1e3])?;
/// // Gradients a million times apart make the same first step: lr / sqrt(1 - alpha).
/// assert!((theta[0] - 0.9_f64).abs() < 1e-5 && (theta[1] + 2.1).abs() < 1e-5);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(from = "Keys"))]
pub struct RmsProp {
    /// Learning rate, >= 0. Default 1e-2.
    pub lr: f64,
    /// Decay rate of the running averages, in [0, 1). Default 0.99; 0.9 with [`RmsProp::optax`],
    /// [`RmsProp::keras`] and in files that set `eps_inside_sqrt` and no `alpha`.
    pub alpha: f64,
    /// Added to the denominator for numerical stability, >= 0. Default 1e-8.
    pub eps: f64,
    /// Adds eps under the root and lr inside the momentum buffer, as optax and keras do. Default false.
    pub eps_inside_sqrt: bool,
    /// Initial value of v, >= 0. Default 0.
    pub initial_scale: f64,
    /// Normalises by the variance: subtracts the square of the running average of the gradient. Default false.
    pub centered: bool,
    /// Momentum factor, in [0, 1]. Default 0, without a buffer.
    pub momentum: f64,
    /// Nesterov momentum; needs momentum > 0. Default false.
    pub nesterov: bool,
    /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient. Default 0.
    pub weight_decay: f64,
    /// Maximize the objective instead of minimizing it. Default false.
    pub maximize: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        RmsProp {
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

impl RmsProp {
    /// `torch.optim.RMSprop`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.rmsprop`.
    pub fn optax() -> Self {
        RmsProp { alpha: 0.9, eps_inside_sqrt: true, ..Self::default() }
    }

    /// `keras.optimizers.RMSprop`.
    pub fn keras() -> Self {
        RmsProp { lr: 1e-3, eps: 1e-7, ..Self::optax() }
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

impl RmsProp {
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

catalogued!("rmsprop" RmsProp, lr alpha eps initial_scale momentum weight_decay);

impl Algorithm for RmsProp {
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
        let RmsProp {
            lr, eps, eps_inside_sqrt, initial_scale, centered, momentum, nesterov, weight_decay, maximize, ..
        } = RmsProp::default();
        Keys { lr, alpha: None, eps, eps_inside_sqrt, initial_scale, centered, momentum, nesterov, weight_decay, maximize }
    }
}

#[cfg(feature = "serde")]
impl From<Keys> for RmsProp {
    fn from(keys: Keys) -> Self {
        let Keys { lr, alpha, eps, eps_inside_sqrt, initial_scale, centered, momentum, nesterov, weight_decay, maximize } =
            keys;
        let form = if eps_inside_sqrt { RmsProp::optax() } else { RmsProp::default() };
        let alpha = alpha.unwrap_or(form.alpha);
        RmsProp { lr, alpha, eps, eps_inside_sqrt, initial_scale, centered, momentum, nesterov, weight_decay, maximize }
    }
}
