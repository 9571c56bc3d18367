//! Constraints on parameters.
use super::{Wrap, elementwise, wrap_parameters};
use crate::{
    algorithm::StepContext,
    array::Element,
    kernel::{Hooks, Kernel, Parallel, Wrapper},
};
use ndarray::{ArrayRef, Dimension};

crate::hyper_parameters! {
    /// Box constraints: each step ends with the projection of the parameters onto [lower, upper].
    ///
    /// # Update rule
    ///
    /// ```text
    /// p <- min(max(p, lower), upper)
    /// ```
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize),
        serde(default, deny_unknown_fields)
    )]
    pub struct Bounds = "bounds" {
        /// Lower bound, if any; `"none"` in files.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::optional_bound"))]
        lower: Option<f64> = Some(0.0);
        /// Upper bound, if any; not below the lower bound.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::optional_bound"))]
        upper: Option<f64> = None;
    }
    check(self) {
        let lower = self.lower.unwrap_or(f64::NEG_INFINITY);
        if lower <= self.upper.unwrap_or(f64::INFINITY) {
            Ok(())
        } else {
            Err(self.wrong("lower", lower, "a number <= upper"))
        }
    }
}

/// Clamps parameters; NaN stays NaN.
#[derive(Clone, Copy, Debug)]
pub struct Bound<A> {
    lower: A,
    upper: A,
}

impl<A: Element> Wrapper<A> for Bound<A> {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks::NEW_PARAM
    }
    #[inline(always)]
    fn param(&self, _p: A, new: A, []: [A; 0]) -> (A, [A; 0]) {
        let new = if new < self.lower { self.lower } else { new };
        (if new > self.upper { self.upper } else { new }, [])
    }
}

elementwise!(Bounds: Bound<A>, |self, _lr| {
    let bound = |bound: Option<f64>, none| A::from_f64(bound.unwrap_or(none));
    Bound {
        lower: bound(self.lower, f64::NEG_INFINITY),
        upper: bound(self.upper, f64::INFINITY),
    }
});

wrap_parameters! {
    /// An L1 penalty by its proximal operator, which gives exact zeros. With [`Sgd`](crate::Sgd)
    /// this is the iterative soft-thresholding algorithm.
    ///
    /// # Update rule
    ///
    /// ```text
    /// p <- sign(p) max(|p| - lr lambda, 0)
    /// ```
    ///
    /// The threshold is lr lambda even for algorithms with per-parameter step sizes.
    L1 = "l1" {
        /// Weight of the penalty.
        lambda: f64 [>= 0] = 1e-3;
    }
}

/// Soft-thresholds parameters.
#[derive(Clone, Copy, Debug)]
pub struct Shrink<A> {
    threshold: A,
}

impl<A: Element> Wrapper<A> for Shrink<A> {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks::NEW_PARAM
    }
    #[inline(always)]
    fn param(&self, _p: A, new: A, []: [A; 0]) -> (A, [A; 0]) {
        let down = if new > self.threshold {
            new - self.threshold
        } else {
            A::ZERO * new
        };
        (
            if new < -self.threshold {
                new + self.threshold
            } else {
                down
            },
            [],
        )
    }
}

elementwise!(L1: Shrink<A>, |self, lr| {
    let threshold = A::from_f64(lr * self.lambda);
    Shrink { threshold }
});

wrap_parameters! {
    /// Keeps zeros: an element of a parameter that is exactly 0 stays 0. For pruned weights.
    ///
    /// Multiply the parameter by a mask of zeros and ones, once; the zeros are the mask from then
    /// on, and can change at any time. They are in whatever the parameters are saved in.
    ///
    /// # Update rule
    ///
    /// ```text
    /// where p = 0:  g <- 0 before the algorithm sees it,  p <- p
    /// ```
    ///
    /// The weights are those of `torch.nn.utils.prune` with a fixed mask: the gradients of pruned
    /// elements are 0, so that their moments decay, or stay 0 if they have been so from the start,
    /// and do not add to norms of wrappers outside of which this one is, nor of the algorithm.
    /// [`Optimizer::clip`](crate::Optimizer::clip) comes before all wrappers.
    ///
    /// Put parameters that begin at 0 and are to move, such as biases, in a group without it.
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdamW, Compose, Optimizer, wrap::KeepZeros};
    ///
    /// let mut optimizer = Optimizer::new(AdamW::new(0.1).wrap(KeepZeros {}));
    /// let mut weight = array![1.0, -2.0, 3.0];
    /// weight *= &array![1.0, 0.0, 1.0];
    /// optimizer.update(&mut weight, &array![0.5, 0.5, f64::NAN])?;
    /// assert!(weight[0] < 1.0 && weight[1] == 0.0);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    #[derive(Copy)]
    KeepZeros = "keep_zeros" {}
}

impl<A: Element> Wrapper<A> for KeepZeros {
    type State = [A; 0];
    fn hooks(&self) -> Hooks {
        Hooks {
            gradient: true,
            ..Hooks::PARAM
        }
    }
    #[inline(always)]
    fn gradient(&self, p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (if p == A::ZERO { A::ZERO } else { g }, [])
    }
    #[inline(always)]
    fn param(&self, p: A, new: A, []: [A; 0]) -> (A, [A; 0]) {
        (if p == A::ZERO { p } else { new }, [])
    }
}

elementwise!(KeepZeros: KeepZeros, |self, _lr| *self);

/// Projects an array onto the non-negative numbers. [`Bounds`] does so in each step.
pub fn non_negative<A: Element, D: Dimension>(p: &mut ArrayRef<A, D>) {
    p.mapv_inplace(|p| if p < A::ZERO { A::ZERO } else { p });
}

/// Projects an array onto the ball with this radius around 0 in the 2-norm. A radius below 0, or
/// NaN, counts as 0.
///
/// ```
/// let mut p = ndarray::array![3.0, 4.0];
/// ndarray_optim::wrap::l2_ball(&mut p, 2.5);
/// assert_eq!(p, ndarray::array![1.5, 2.0]);
/// ```
pub fn l2_ball<A: Element, D: Dimension>(p: &mut ArrayRef<A, D>, radius: f64) {
    let radius = radius.max(0.0);
    let norm = crate::kernel::reduce::norm_on(&Parallel::SERIAL, p);
    if norm > radius {
        let factor = radius / norm;
        p.mapv_inplace(|p| A::from_f64(p.f64() * factor));
    }
}

/// Projects an array onto the simplex of non-negative elements with sum `scale`.
///
/// The projection subtracts the same number from all elements that stay positive (J. Duchi et al.,
/// ICML 2008). Infinite elements share the sum; NaN counts as negative infinity.
///
/// ```
/// let mut p = ndarray::array![0.5, 0.9, -0.3];
/// ndarray_optim::wrap::simplex(&mut p, 1.0);
/// assert!((&p - &ndarray::array![0.3, 0.7, 0.0]).iter().all(|x: &f64| x.abs() < 1e-15));
/// ```
pub fn simplex<A: Element, D: Dimension>(p: &mut ArrayRef<A, D>, scale: f64) {
    let number = |p: A| {
        if p.is_nan() {
            f64::NEG_INFINITY
        } else {
            p.f64()
        }
    };
    let max = p
        .iter()
        .fold(f64::NEG_INFINITY, |max, &p| max.max(number(p)));
    // Differences to the largest element, so that the sum does not drown in large numbers.
    let below = |p: A| match number(p) {
        x if x == max => 0.0,
        x => x - max,
    };
    let mut sorted: Vec<f64> = p.iter().map(|&p| below(p)).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut threshold) = (0.0, f64::INFINITY);
    for (n, x) in (1_u32..).zip(sorted) {
        sum += x;
        let next = (sum - scale) / f64::from(n);
        if x <= next {
            break;
        }
        threshold = next;
    }
    p.mapv_inplace(|p| A::from_f64((below(p) - threshold).max(0.0)));
}
