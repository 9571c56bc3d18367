//! Gradient clipping.
use super::{Wrap, wrap_config};
use crate::{
    algorithm::{Clipping, Now, Whole},
    array::Element,
    error::{Error, check},
    kernel::{Kernel, Wrapper, reduce::Norm},
};
use ndarray::Axis;

/// There can be one clipping by a norm.
pub(crate) fn one(inner: Option<Clipping>, outer: Option<Clipping>) -> Result<Option<Clipping>, Error> {
    check::that(inner.is_none() || outer.is_none(), "max_norm", "given twice", "one clipping by a norm")?;
    Ok(outer.or(inner))
}

wrap_config! {
    /// Clips gradients by their global norm, that of the gradients of all groups together; their direction stays. As the field
    /// `clip` of an [`Optimizer`](crate::Optimizer) it scales the gradients of all groups, as a wrapper those of its own group.
    ///
    /// ```text
    /// g <- g max_norm / (norm + eps)   where norm + eps > max_norm
    /// ```
    ///
    /// With `eps = 0` this is `optax.clip_by_global_norm`, with 1e-6 `torch.nn.utils.clip_grad_norm_`. It costs one more read of
    /// the gradients. The norm neither overflows nor underflows for `f32`; after a step
    /// [`Optimizer::grad_norm`](crate::Optimizer::grad_norm) returns it.
    ClipByGlobalNorm {
        /// Maximum norm, >= 0.
        max_norm: f64 = 1.0,
        /// Which norm.
        norm: Norm = Norm::L2,
        /// Added to the norm for numerical stability, >= 0; torch has 1e-6.
        eps: f64 = 0.0,
    }
}

impl ClipByGlobalNorm {
    /// Factor for gradients of this norm.
    pub(crate) fn factor(&self, norm: f64) -> f64 {
        self.clipping().map_or(1.0, |clipping| clipping.factor(norm))
    }
}

wrap_config! {
    /// Clips the gradient of each array by its own 2-norm.
    ///
    /// ```text
    /// g <- g max_norm / |g|   where |g| > max_norm
    /// ```
    ClipByNorm {
        /// Maximum norm, >= 0.
        max_norm: f64 = 1.0,
    }
}

wrap_config! {
    /// Clips the gradient of each array by its root mean square, as Adafactor does with updates. `optax.clip_by_block_rms`.
    ///
    /// ```text
    /// g <- g / max(1, rms(g) / threshold)
    /// ```
    ClipByBlockRms {
        /// Maximum root mean square, >= 0.
        threshold: f64 = 1.0,
    }
}

macro_rules! clip_by_norm {
    ($label:literal $name:ident, $self:ident, $clipping:expr, $($field:ident)*) => {
        impl Wrap for $name {
            const NAME: &'static str = $label;
            type Kernel<A: Element, K: Kernel<A>> = K;
            fn validate(&self) -> Result<(), Error> {
                $(check::non_negative(stringify!($field), self.$field)?;)*
                Ok(())
            }
            #[inline(always)]
            fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, _lr: f64, kernel: K) -> K {
                kernel
            }
            fn clipping(&$self) -> Option<Clipping> {
                Some($clipping)
            }
        }
    };
}
clip_by_norm!(
    "clip_by_global_norm" ClipByGlobalNorm,
    self,
    Clipping { max_norm: self.max_norm, norm: self.norm, eps: self.eps, global: true, mean: false },
    max_norm eps
);
clip_by_norm!(
    "clip_by_norm" ClipByNorm,
    self,
    Clipping { max_norm: self.max_norm, norm: Norm::L2, eps: 0.0, global: false, mean: false },
    max_norm
);
clip_by_norm!(
    "clip_by_block_rms" ClipByBlockRms,
    self,
    Clipping { max_norm: self.threshold, norm: Norm::L2, eps: 0.0, global: false, mean: true },
    threshold
);

wrap_config! {
    /// Clips gradients element-wise. `torch.nn.utils.clip_grad_value_`, `optax.clip`.
    ///
    /// ```text
    /// g <- min(max(g, -max_value), max_value)
    /// ```
    ClipByValue {
        /// Maximum absolute value, >= 0.
        max_value: f64 = 1.0,
    }
}

/// Keeps gradients within bounds; NaN stays NaN.
#[derive(Clone, Copy, Debug)]
pub struct Clamp<A> {
    max: A,
}

impl<A: Element> Wrapper<A> for Clamp<A> {
    type State = [A; 0];
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        let g = if g > self.max { self.max } else { g };
        (if g < -self.max { -self.max } else { g }, [])
    }
}

impl ClipByValue {
    pub(crate) fn wrapper<A: Element>(&self) -> Clamp<A> {
        Clamp { max: A::of(self.max_value) }
    }
}

impl Wrap for ClipByValue {
    const NAME: &'static str = "clip_by_value";
    type Kernel<A: Element, K: Kernel<A>> = K::With<Clamp<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("max_value", self.max_value)
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, _lr: f64, kernel: K) -> Self::Kernel<A, K> {
        kernel.with(self.wrapper())
    }
}

wrap_config! {
    /// Adaptive gradient clipping: the gradient of each unit is clipped relative to the norm of the unit's parameters.
    ///
    /// ```text
    /// g_unit <- g_unit clipping max(|p_unit|, eps) / |g_unit|   where |g_unit| is larger than clipping max(|p_unit|, eps)
    /// ```
    ///
    /// A unit is a slice at one index of `unit_axis`: 0 for weights of shape (outputs, inputs), as torch has them; optax
    /// takes the last axis. Vectors and numbers are clipped element by element, as the paper's code does. The gradient is
    /// copied for it. Source: A. Brock et al., arXiv:2102.06171.
    AdaptiveClip {
        /// Maximum ratio of the norms, >= 0.
        clipping: f64 = 0.01,
        /// Lower bound of the norm of the parameters, >= 0.
        eps: f64 = 1e-3,
        /// The axis along which units are counted; the last one of arrays that have fewer axes.
        unit_axis: usize = 0,
    }
}

impl Wrap for AdaptiveClip {
    const NAME: &'static str = "adaptive_clip";
    type Kernel<A: Element, K: Kernel<A>> = K;
    const DIRECTED: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("clipping", self.clipping)?;
        check::non_negative("eps", self.eps)
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, _lr: f64, kernel: K) -> K {
        kernel
    }

    fn direct<A: Element>(&self, _now: &Now, whole: &mut Whole<'_, A>) {
        let factor = |p: f64, g: f64| {
            let most = self.clipping * p.sqrt().max(self.eps);
            A::of(if g.sqrt() > most { most / g.sqrt() } else { 1.0 })
        };
        let square = |x: A| x.f64() * x.f64();
        if whole.p.ndim() < 2 {
            whole.g.zip_mut_with(&whole.p, |g, &p| *g = *g * factor(square(p), square(*g)));
            return;
        }
        let axis = Axis(self.unit_axis.min(whole.p.ndim() - 1));
        for (p, mut g) in whole.p.axis_iter(axis).zip(whole.g.axis_iter_mut(axis)) {
            let sum = |sum: f64, &x: &A| sum + square(x);
            let factor = factor(p.iter().fold(0.0, sum), g.iter().fold(0.0, sum));
            if factor != A::one() {
                g.mapv_inplace(|g| g * factor);
            }
        }
    }
}
