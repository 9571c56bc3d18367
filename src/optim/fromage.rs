use super::*;

hyper_parameters! {
    /// Steps of lr times the norm of each array, whatever the norm of its gradient, then divided by sqrt(1 + lr^2) to keep
    /// norms bounded.
    ///
    /// ```text
    /// r = max(|p|, min_norm) / max(|g|, min_norm)              norms of the whole array; 1 if one is still 0
    /// p <- (p - lr r g) / sqrt(1 + lr^2)
    /// ```
    ///
    /// This is `optax.fromage`.
    /// Source: J. Bernstein et al., arXiv:2002.03432. State: none.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Fromage, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Fromage::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.6, -0.8])?;
    /// assert!((theta[0] - 0.86154).abs() < 1e-4 && (theta[1] + 1.81208).abs() < 1e-4);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "fromage" Fromage {
        /// Learning rate, >= 0.
        lr: f64 = 1e-2,
        /// Lower bound of the norms, >= 0.
        min_norm: f64 = 1e-6,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Relative<A> {
    shrink: A,
    rate: A,
}

impl<A: Element> Rule for Relative<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.shrink * p + self.rate * g, [])
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, p: A, g: A, _state: [A; 0]) -> [f64; MAX_TERMS] {
        [p.f64() * p.f64(), g.f64() * g.f64(), 0.0, 0.0]
    }
}

impl Algorithm for Fromage {
    type Kernel<A: Element> = Relative<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("min_norm", self.min_norm)
    }

    /// The ratio of norms.
    fn absorb(&self, _now: &Now, &[p, g, ..]: &[f64; MAX_TERMS]) -> Scalars {
        let (p, g) = (p.sqrt().max(self.min_norm), g.sqrt().max(self.min_norm));
        [if p == 0.0 || g == 0.0 { 1.0 } else { p / g }, 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let k = 1.0 / (1.0 + self.lr * self.lr).sqrt();
        Relative { shrink: A::of(1.0 - k), rate: A::of(k * self.lr * now.scalars[0]) }
    }
}
