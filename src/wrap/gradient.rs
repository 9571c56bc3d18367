//! Wrappers that change gradients and updates.
use super::{Wrap, wrap_config};
use crate::{
    algorithm::{Now, Whole},
    array::Element,
    error::{Error, check},
    kernel::{Kernel, Wrapper},
    random::nth,
};
use ndarray::Axis;

/// A wrapper whose kernel always has it.
macro_rules! elementwise {
    ($label:literal $name:ident, $wrapper:ty, $self:ident, $validate:expr $(,)?) => {
        impl Wrap for $name {
            const NAME: &'static str = $label;
            type Kernel<A: Element, K: Kernel<A>> = K::With<$wrapper>;
            fn validate(&$self) -> Result<(), Error> {
                $validate
            }
            #[inline(always)]
            fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, lr: f64, kernel: K) -> Self::Kernel<A, K> {
                kernel.with(self.wrapper(lr))
            }
        }
    };
}

wrap_config! {
    /// Weight decay for algorithms that have none of their own.
    ///
    /// ```text
    /// coupled:    g <- g + weight_decay p           before the algorithm sees it
    /// decoupled:  p <- p - lr weight_decay p        with the old p
    /// ```
    WeightDecay {
        /// Weight decay factor, >= 0.
        weight_decay: f64 = 1e-2,
        /// Decoupled from the gradient.
        decoupled: bool = true,
    }
}

/// Both kinds of decay, one of them 0.
#[derive(Clone, Copy, Debug)]
pub struct Decay<A> {
    coupled: A,
    decoupled: A,
}

impl<A: Element> Wrapper<A> for Decay<A> {
    type State = [A; 0];
    #[inline(always)]
    fn gradient(&self, p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (g + self.coupled * p, [])
    }
    #[inline(always)]
    fn land(&self, p: A, new: A, []: [A; 0]) -> (A, [A; 0]) {
        (new - self.decoupled * p, [])
    }
}

impl<A: Element> Decay<A> {
    pub(crate) fn is_coupled(&self) -> bool {
        self.decoupled == A::ZERO
    }
}

impl WeightDecay {
    pub(crate) fn wrapper<A: Element>(&self, lr: f64) -> Decay<A> {
        let (coupled, decoupled) = if self.decoupled { (0.0, lr * self.weight_decay) } else { (self.weight_decay, 0.0) };
        Decay { coupled: A::of(coupled), decoupled: A::of(decoupled) }
    }
}
elementwise!("weight_decay" WeightDecay, Decay<A>, self, check::non_negative("weight_decay", self.weight_decay),);

wrap_config! {
    /// Multiplies gradients by a factor: 1 / scale undoes loss scaling.
    ScaleGradient {
        /// The factor, finite.
        factor: f64 = 1.0,
    }
}

/// Multiplies gradients.
#[derive(Clone, Copy, Debug)]
pub struct Scale<A>(A);

impl<A: Element> Wrapper<A> for Scale<A> {
    type State = [A; 0];
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.0 * g, [])
    }
}

impl ScaleGradient {
    pub(crate) fn wrapper<A: Element>(&self, _lr: f64) -> Scale<A> {
        Scale(A::of(self.factor))
    }
}
elementwise!("scale_gradient" ScaleGradient, Scale<A>, self, check::that(self.factor.is_finite(), "factor", self.factor, "a finite number"),);

wrap_config! {
    /// Replaces gradients by their signs.
    SignOfGradient {}
}

/// The sign of gradients; NaN stays NaN.
#[derive(Clone, Copy, Debug)]
pub struct Signs;

impl<A: Element> Wrapper<A> for Signs {
    type State = [A; 0];
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (g.sign(), [])
    }
}

impl SignOfGradient {
    pub(crate) fn wrapper(&self, _lr: f64) -> Signs {
        Signs
    }
}
elementwise!("sign_of_gradient" SignOfGradient, Signs, self, Ok(()),);

wrap_config! {
    /// Grokfast: amplifies the slowly changing part of the gradient by adding a running average to it.
    ///
    /// ```text
    /// h <- alpha h + (1 - alpha) g,  g <- g + lamb h           h = 0 at first
    /// ```
    ///
    /// The EMA form of J. Lee et al., arXiv:2405.20233. State: `grad_ema`.
    Grokfast {
        /// Decay rate of the running average, in [0, 1).
        alpha: f64 = 0.98,
        /// Weight of the running average, >= 0.
        lamb: f64 = 2.0,
    }
}

/// Amplifies slow gradients.
#[derive(Clone, Copy, Debug)]
pub struct Filter<A> {
    alpha: A,
    one_minus_alpha: A,
    lamb: A,
}

impl<A: Element> Wrapper<A> for Filter<A> {
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["grad_ema"];
    const COST: u64 = 1;
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, [h]: [A; 1]) -> (A, [A; 1]) {
        let h = (self.alpha * h + self.one_minus_alpha * g).flush();
        (g + self.lamb * h, [h])
    }
}

impl Grokfast {
    pub(crate) fn wrapper<A: Element>(&self, _lr: f64) -> Filter<A> {
        Filter { alpha: A::of(self.alpha), one_minus_alpha: A::of(1.0 - self.alpha), lamb: A::of(self.lamb) }
    }
}
elementwise!(
    "grokfast" Grokfast,
    Filter<A>,
    self,
    check::share("alpha", self.alpha).and_then(|()| check::non_negative("lamb", self.lamb)),
);

wrap_config! {
    /// Cautious updates: zeroes the elements of an update whose sign disagrees with that of the gradient.
    ///
    /// ```text
    /// u <- u where u g > 0, else 0
    /// ```
    ///
    /// K. Liang et al., arXiv:2411.16085, without the rescaling by the fraction of elements that remain, which would need a
    /// second pass. The decoupled weight decay of an algorithm is part of its update.
    Cautious {}
}

impl<A: Element> Wrapper<A> for Cautious {
    type State = [A; 0];
    #[inline(always)]
    fn update(&self, _p: A, g: A, delta: A, []: [A; 0]) -> (A, [A; 0]) {
        // Signs instead of the product, which can underflow.
        (if delta.sign() * g.sign() > A::ZERO { delta } else { A::ZERO * delta }, [])
    }
}

impl Cautious {
    fn wrapper(&self, _lr: f64) -> Self {
        *self
    }
}
impl Copy for Cautious {}
elementwise!("cautious" Cautious, Cautious, self, Ok(()),);

wrap_config! {
    /// Gradient centralization: subtracts the mean of a gradient over all axes but one, in arrays of two axes or more. The
    /// gradient is copied for it.
    ///
    /// ```text
    /// g <- g - mean of g over all axes but `keep_axis`
    /// ```
    ///
    /// H. Yong et al., arXiv:2004.01461: for weights of shape (outputs, inputs) each output keeps its own mean, axis 0;
    /// `optax.centralize` has the outputs last.
    Centralize {
        /// The axis that has a mean for each index; the last one of arrays that have fewer axes.
        keep_axis: usize = 0,
    }
}

impl Wrap for Centralize {
    const NAME: &'static str = "centralize";
    type Kernel<A: Element, K: Kernel<A>> = K;
    const DIRECTED: bool = true;

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, _lr: f64, kernel: K) -> K {
        kernel
    }

    fn direct<A: Element>(&self, _now: &Now, whole: &mut Whole<'_, A>) {
        if whole.g.ndim() >= 2 {
            let axis = Axis(self.keep_axis.min(whole.g.ndim() - 1));
            for mut g in whole.g.axis_iter_mut(axis) {
                let mean = A::of(g.iter().map(|g| g.f64()).sum::<f64>() / g.len() as f64);
                g.mapv_inplace(|g| g - mean);
            }
        }
    }
}

wrap_config! {
    /// Adds Gaussian noise with decaying variance to gradients.
    ///
    /// ```text
    /// g <- g + sqrt(eta / (1 + t)^gamma) N(0, 1)              t = 1, 2, ...
    /// ```
    ///
    /// The noise of an element is a function of the seed, the step, the name of the array and the place of the element, so it
    /// is the same for any memory layout and number of threads, and after a resumed run. The gradient is copied for it.
    /// `optax.add_noise`. Source: A. Neelakantan et al., arXiv:1511.06807.
    Noise {
        /// Initial variance, >= 0.
        eta: f64 = 0.01,
        /// Exponent of the decay of the variance, >= 0.
        gamma: f64 = 0.55,
        /// Seed of the noise.
        seed: u64 = 0,
    }
}

impl Wrap for Noise {
    const NAME: &'static str = "noise";
    type Kernel<A: Element, K: Kernel<A>> = K;
    const DIRECTED: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("eta", self.eta)?;
        check::non_negative("gamma", self.gamma)
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, _lr: f64, kernel: K) -> K {
        kernel
    }

    fn direct<A: Element>(&self, now: &Now, whole: &mut Whole<'_, A>) {
        let deviation = (self.eta / (1.0 + now.t as f64).powf(self.gamma)).sqrt();
        let name = whole.name.bytes().fold(0, |hash, byte| nth(hash, u64::from(byte)));
        let stream = nth(nth(self.seed, now.t), name);
        let uniform = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        // Box and Muller: two numbers from two uniform ones.
        for (pair, g) in (0_u64..).zip(whole.g.as_slice_mut().unwrap_or_default().chunks_mut(2)) {
            let [a, b] = [0, 1].map(|i| uniform(nth(stream, 2 * pair + i)));
            let (radius, angle) = (deviation * (-2.0 * a.ln()).sqrt(), std::f64::consts::TAU * b);
            for (g, x) in g.iter_mut().zip([angle.cos(), angle.sin()]) {
                *g += A::of(radius * x);
            }
        }
    }
}
