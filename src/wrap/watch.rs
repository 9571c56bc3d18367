use super::{Wrap, wrap_config};
use crate::{algorithm::Now, array::Element, kernel::Kernel};

wrap_config! {
    /// Gathers statistics of each step: [`Optimizer::report`](crate::Optimizer::report) has the norms of gradients,
    /// updates and parameters of each group, and how many gradients were not finite.
    ///
    /// 1024 elements at a time are copied before their step and compared after it, while they are in cache. The norms are good to six digits; the last ones
    /// depend on how the work was cut, and in `f32` a number above 1e18 makes its norm infinite (the norm of
    /// [`ClipByGlobalNorm`](super::ClipByGlobalNorm) does not overflow).
    Watch {}
}

impl Wrap for Watch {
    const NAME: &'static str = "watch";
    type Kernel<A: Element, K: Kernel<A>> = K;
    const WATCH: bool = true;

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, _lr: f64, kernel: K) -> K {
        kernel
    }
}
