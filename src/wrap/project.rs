//! Constraints on parameters.
use super::{Wrap, wrap_config};
use crate::{
    algorithm::Now,
    array::Element,
    error::{Error, check},
    kernel::{Kernel, Wrapper},
};
use ndarray::{ArrayRef, Dimension};

wrap_config! {
    /// Box constraints: each step ends with the projection of the parameters onto [lower, upper].
    ///
    /// ```text
    /// p <- min(max(p, lower), upper)
    /// ```
    Bounds {
        /// Lower bound, if any.
        lower: Option<f64> = Some(0.0),
        /// Upper bound, if any; not below the lower.
        upper: Option<f64> = None,
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
    #[inline(always)]
    fn land(&self, _p: A, new: A, []: [A; 0]) -> (A, [A; 0]) {
        let new = if new < self.lower { self.lower } else { new };
        (if new > self.upper { self.upper } else { new }, [])
    }
}

impl Bounds {
    pub(crate) fn wrapper<A: Element>(&self, _lr: f64) -> Bound<A> {
        let bound = |bound: Option<f64>, none| A::of(bound.unwrap_or(none));
        Bound { lower: bound(self.lower, f64::NEG_INFINITY), upper: bound(self.upper, f64::INFINITY) }
    }
}

impl Wrap for Bounds {
    const NAME: &'static str = "bounds";
    type Kernel<A: Element, K: Kernel<A>> = K::With<Bound<A>>;

    fn validate(&self) -> Result<(), Error> {
        let (lower, upper) = (self.lower.unwrap_or(f64::NEG_INFINITY), self.upper.unwrap_or(f64::INFINITY));
        check::that(lower <= upper, "lower", lower, "a number <= upper")
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, lr: f64, kernel: K) -> Self::Kernel<A, K> {
        kernel.with(self.wrapper(lr))
    }
}

wrap_config! {
    /// An L1 penalty by its proximal operator, which gives exact zeros: around [`Sgd`](crate::Sgd) this is the iterative
    /// soft-thresholding algorithm.
    ///
    /// ```text
    /// p <- sign(p) max(|p| - lr lambda, 0)
    /// ```
    ///
    /// Around algorithms with element-wise step sizes the threshold is lr lambda too.
    L1 {
        /// Weight of the penalty, >= 0.
        lambda: f64 = 1e-3,
    }
}

/// Soft thresholds parameters.
#[derive(Clone, Copy, Debug)]
pub struct Shrink<A> {
    threshold: A,
}

impl<A: Element> Wrapper<A> for Shrink<A> {
    type State = [A; 0];
    #[inline(always)]
    fn land(&self, _p: A, new: A, []: [A; 0]) -> (A, [A; 0]) {
        let down = if new > self.threshold { new - self.threshold } else { A::ZERO * new };
        (if new < -self.threshold { new + self.threshold } else { down }, [])
    }
}

impl L1 {
    pub(crate) fn wrapper<A: Element>(&self, lr: f64) -> Shrink<A> {
        Shrink { threshold: A::of(lr * self.lambda) }
    }
}

impl Wrap for L1 {
    const NAME: &'static str = "l1";
    type Kernel<A: Element, K: Kernel<A>> = K::With<Shrink<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lambda", self.lambda)
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, lr: f64, kernel: K) -> Self::Kernel<A, K> {
        kernel.with(self.wrapper(lr))
    }
}

/// Projects an array onto the non-negative numbers. [`Bounds`] does it inside of each step.
pub fn non_negative<A: Element, D: Dimension>(p: &mut ArrayRef<A, D>) {
    p.mapv_inplace(|p| if p < A::ZERO { A::ZERO } else { p });
}

/// Projects an array onto the ball of this radius around 0, by its 2-norm.
///
/// ```
/// let mut p = ndarray::array![3.0, 4.0];
/// ndarray_optim::wrap::l2_ball(&mut p, 2.5);
/// assert_eq!(p, ndarray::array![1.5, 2.0]);
/// ```
pub fn l2_ball<A: Element, D: Dimension>(p: &mut ArrayRef<A, D>, radius: f64) {
    let norm = crate::kernel::reduce::sum_squares(p).sqrt();
    if norm > radius {
        let factor = radius / norm;
        p.mapv_inplace(|p| A::of(p.f64() * factor));
    }
}

/// Projects an array onto the simplex: elements >= 0 whose sum is `scale`.
///
/// The nearest such point takes the same number away from all elements that stay positive (J. Duchi et al., ICML 2008).
///
/// ```
/// let mut p = ndarray::array![0.5, 0.9, -0.3];
/// ndarray_optim::wrap::simplex(&mut p, 1.0);
/// assert!((&p - &ndarray::array![0.3, 0.7, 0.0]).iter().all(|x: &f64| x.abs() < 1e-15));
/// ```
pub fn simplex<A: Element, D: Dimension>(p: &mut ArrayRef<A, D>, scale: f64) {
    let mut sorted: Vec<f64> = p.iter().map(|p| p.f64()).collect();
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
    p.mapv_inplace(|p| A::of((p.f64() - threshold).max(0.0)));
}
