use super::{Wrap, wrap_parameters};
use crate::{algorithm::StepContext, array::Element, kernel::Kernel};

wrap_parameters! {
    /// Gathers statistics of each step: [`Optimizer::stats`](crate::Optimizer::stats) returns the
    /// norms of gradients, updates and parameters of each group, and the number of non-finite
    /// gradients.
    ///
    /// Blocks of 1024 elements are copied before they are updated and compared afterwards, while
    /// they are in cache. The norms are accurate to six digits; the last digits depend on how the
    /// work is split. In `f32` a number above 1e18 makes its norm infinite; the norm of
    /// [`ClipByGlobalNorm`](super::ClipByGlobalNorm) does not overflow.
    Watch = "watch" {}
}

impl Wrap for Watch {
    const ROW_WISE: bool = true;
    type Kernel<A: Element, K: Kernel<A>> = K;
    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _step: &StepContext, _lr: f64, kernel: K) -> K {
        kernel
    }
    const WATCH: bool = true;
}
