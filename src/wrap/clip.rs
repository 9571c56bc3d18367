//! Gradient clipping.
use super::{Wrap, barrier, elementwise, wrap_parameters};
use crate::{
    algorithm::{Clipping, StepContext, WholeArray},
    array::Element,
    kernel::{Hooks, Kernel, Wrapper, reduce::Norm},
};
use ndarray::{ArrayRef, ArrayViewD, ArrayViewMutD, Axis, IxDyn};

wrap_parameters! {
    /// Clips gradients by their global norm, keeping their direction.
    ///
    /// As the field `clip` of an [`Optimizer`](crate::Optimizer) it clips the gradients of all
    /// groups together, as a wrapper those of its group.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g <- g max_norm / (norm + eps)   where norm + eps > max_norm
    /// ```
    ///
    /// With `eps = 0` this is `optax.clip_by_global_norm`, with 1e-6
    /// `torch.nn.utils.clip_grad_norm_`. Gradients are read once more to compute the norm, which
    /// neither overflows nor underflows for `f32`. After a step
    /// [`Optimizer::grad_norm`](crate::Optimizer::grad_norm) returns it.
    ClipByGlobalNorm = "clip_by_global_norm" {
        /// Maximum norm, `>= 0`; infinite to compute the norm only.
        max_norm: f64 = 1.0;
        /// Type of the norm.
        norm: Norm = Norm::L2;
        /// Added to the norm in the denominator, where torch has 1e-6.
        eps: f64 [>= 0] = 0.0;
    }
    presets {
        /// `optax.clip_by_global_norm`: the defaults.
        optax {}
        /// `torch.nn.utils.clip_grad_norm_`.
        torch { eps: 1e-6 }
    }
    check(self) {
        if self.max_norm.is_nan() || self.max_norm < 0.0 {
            return Err(self.wrong("max_norm", self.max_norm, "a number >= 0"));
        }
        Ok(())
    }
}

wrap_parameters! {
    /// Clips the gradient of each parameter by its own 2-norm.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g <- g max_norm / |g|   where |g| > max_norm
    /// ```
    ClipByNorm = "clip_by_norm" {
        /// Maximum norm.
        max_norm: f64 [>= 0] = 1.0;
    }
}

wrap_parameters! {
    /// Clips the gradient of each parameter by its root mean square, as Adafactor does with
    /// updates.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g <- g / max(1, rms(g) / threshold)
    /// ```
    ///
    /// This is `optax.clip_by_block_rms`.
    ClipByBlockRms = "clip_by_block_rms" {
        /// Maximum root mean square.
        threshold: f64 [>= 0] = 1.0;
    }
}

impl Wrap for ClipByGlobalNorm {
    barrier!();
    const ROW_WISE: bool = true;
    fn clipping(&self) -> Option<Clipping> {
        Some(Clipping {
            max_norm: self.max_norm,
            norm: self.norm,
            eps: self.eps,
            global: true,
            mean: false,
        })
    }
}

/// Clips each array by its own 2-norm or root mean square.
fn of_each_array(max_norm: f64, mean: bool) -> Option<Clipping> {
    Some(Clipping {
        max_norm,
        norm: Norm::L2,
        eps: 0.0,
        global: false,
        mean,
    })
}

impl Wrap for ClipByNorm {
    barrier!();
    const ROW_WISE: bool = true;
    fn clipping(&self) -> Option<Clipping> {
        of_each_array(self.max_norm, false)
    }
}

impl Wrap for ClipByBlockRms {
    barrier!();
    fn clipping(&self) -> Option<Clipping> {
        of_each_array(self.threshold, true)
    }
}

wrap_parameters! {
    /// Clips gradients element-wise.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g <- min(max(g, -max_value), max_value)
    /// ```
    ///
    /// This is `torch.nn.utils.clip_grad_value_` and `optax.clip`.
    ClipByValue = "clip_by_value" {
        /// Maximum absolute value.
        max_value: f64 [>= 0] = 1.0;
    }
}

/// Clamps gradients; NaN stays NaN.
#[derive(Clone, Copy, Debug)]
pub struct Clamp<A> {
    max: A,
}

impl<A: Element> Wrapper<A> for Clamp<A> {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks::GRADIENT
    }
    #[inline(always)]
    fn gradient(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        let g = if g > self.max { self.max } else { g };
        (if g < -self.max { -self.max } else { g }, [])
    }
}

elementwise!(ClipByValue: Clamp<A>, |self, _lr| {
    let max = A::from_f64(self.max_value);
    Clamp { max }
});

wrap_parameters! {
    /// Adaptive gradient clipping: clips the gradient of each unit relative to the norm of the
    /// unit's parameters.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g_unit <- g_unit m / |g_unit|   where |g_unit| > m = clipping max(|p_unit|, eps)
    /// ```
    ///
    /// A unit is a slice at one index of `unit_axis`: axis 0 for weights of shape (outputs,
    /// inputs), torch's layout, the last axis for optax's. A vector or scalar is one unit, also if
    /// it has further axes of length 1. With the last axis this is `optax.adaptive_grad_clip` for
    /// all arrays except those with three axes, of which optax reduces the first one only. It works
    /// on a copy of the gradient. A unit whose gradient is not finite is left as it is.
    ///
    /// # Reference
    ///
    /// A. Brock et al., [arXiv:2102.06171](https://arxiv.org/abs/2102.06171).
    AdaptiveClip = "adaptive_clip" {
        /// Maximum ratio of the norms.
        clipping: f64 [>= 0] = 0.01;
        /// Lower bound on the norm of the parameters.
        eps: f64 [>= 0] = 1e-3;
        /// The axis that indexes units; the last axis in arrays with fewer axes.
        unit_axis: usize = 0;
    }
}

impl AdaptiveClip {
    fn clip<A: Element>(&self, param: ArrayViewD<'_, A>, mut grad: ArrayViewMutD<'_, A>) {
        let most = self.clipping * norm(&param).max(self.eps);
        let norm = norm(&grad);
        if norm > most && norm.is_finite() {
            let factor = A::from_f64(most / norm);
            grad.mapv_inplace(|g| g * factor);
        }
    }
}

/// The 2-norm, which neither overflows nor underflows.
fn norm<A: Element>(array: &ArrayRef<A, IxDyn>) -> f64 {
    let scaled = |scale: f64| {
        let square = |x: &A| (x.f64() * scale).powi(2);
        array.iter().map(square).sum::<f64>()
    };
    let squares = scaled(1.0);
    let scale = if squares == f64::INFINITY {
        2.0_f64.powi(-600)
    } else if squares < 2.0_f64.powi(-900) {
        2.0_f64.powi(600)
    } else {
        return squares.sqrt();
    };
    scaled(scale).sqrt() / scale
}

impl Wrap for AdaptiveClip {
    barrier!();

    fn transform<A: Element>(&self, _step: &StepContext, array: &mut WholeArray<'_, A>) {
        let (param, grad) = (&array.param, &mut array.grad);
        let is_vector = param.shape().iter().filter(|&&n| n > 1).count() < 2;
        if is_vector {
            self.clip(param.view(), grad.view_mut());
            return;
        }
        let axis = Axis(self.unit_axis.min(param.ndim() - 1));
        for (p, g) in param.axis_iter(axis).zip(grad.axis_iter_mut(axis)) {
            self.clip(p, g);
        }
    }
}
