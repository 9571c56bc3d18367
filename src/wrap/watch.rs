use super::{Wrap, wrap_config};
use crate::{
    Error, Now,
    kernel::{Arrays, At, Element, Kernel, MAX_TERMS, Totals, Wrapper, pool::lock, reduce::Sum},
};

wrap_config! {
    /// Gathers what a step does while it is made: [`Optimizer::report`](crate::Optimizer::report) has the norms of gradients,
    /// updates and parameters of each group, and how many gradients were not finite.
    ///
    /// There is no extra pass over memory. Put it around all other wrappers. The norms are good to six digits; the last ones
    /// depend on how the work was cut, and in `f32` a number above 1e18 makes its norm infinite (the norm of
    /// [`ClipByGlobalNorm`](super::ClipByGlobalNorm) does not overflow).
    Watch {}
}

impl Wrap for Watch {
    type Kernel<A: Element, K: Kernel<A>> = Watching<K>;
    const WATCH: bool = true;

    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    fn around<A: Element, K: Kernel<A>>(&self, _now: &Now, _lr: f64, kernel: K) -> Watching<K> {
        Watching(kernel)
    }
}

/// A kernel whose steps are watched.
#[derive(Clone, Copy, Debug)]
pub struct Watching<K>(K);

impl<A: Element, K: Kernel<A>> Kernel<A> for Watching<K> {
    /// Further wrappers are watched too.
    type With<W: Wrapper<A>> = Watching<K::With<W>>;

    #[inline(always)]
    fn with<W: Wrapper<A>>(self, wrapper: W) -> Self::With<W> {
        Watching(self.0.with(wrapper))
    }
    fn cost(&self) -> u64 {
        self.0.cost()
    }
    fn names(&self, names: &mut Vec<&'static str>) {
        self.0.names(names);
    }
    fn terms(&self) -> usize {
        self.0.terms()
    }
    fn measure(&self, at: &At<'_, A>, p: &[A], g: &[A], state: Arrays<'_, A>, sums: &mut [Sum; MAX_TERMS]) {
        self.0.measure(at, p, g, state, sums);
    }
    #[inline]
    fn run(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>) {
        let Some(watch) = at.watch else { return self.0.run(at, p, g, state) };
        let mut totals = Totals::default();
        self.0.run_watched(at, p, g, state, &mut totals);
        *lock(watch) += totals;
    }
    fn run_watched(&self, at: &At<'_, A>, p: &mut [A], g: &[A], state: Arrays<'_, A>, totals: &mut Totals) {
        self.0.run_watched(at, p, g, state, totals);
    }
}
