use super::*;

algorithm! {
    /// Fromage: steps whose norm is `lr` times the norm of the array, independent of the norm of
    /// the gradient.
    ///
    /// The result is divided by `sqrt(1 + lr^2)` to keep the norms bounded.
    ///
    /// # Update rule
    ///
    /// ```text
    /// r = max(|p|, min_norm) / max(|g|, min_norm)
    /// p <- (p - lr r g) / sqrt(1 + lr^2)
    /// ```
    ///
    /// The norms are those of the whole array; `r` is 1 if one of them is still 0. This is
    /// `optax.fromage`.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` is relative: it is the norm of a step as a fraction of the norm of the array.
    /// `min_norm` lets an array that starts at 0 move.
    ///
    /// # State
    ///
    /// None.
    ///
    /// # Reference
    ///
    /// J. Bernstein et al., "On the distance between two neural networks and the stability of
    /// learning", [arXiv:2002.03432](https://arxiv.org/abs/2002.03432).
    ///
    /// # Example
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
    Fromage = "fromage" {
        /// Learning rate, relative to the norm of each array.
        lr: f64 [>= 0] = 1e-2;
        /// Lower bound of both norms.
        min_norm: f64 [>= 0] = 1e-6;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct RelativeStep<A> {
    shrink: A,
    rate: A,
}

impl<A: Element> Rule for RelativeStep<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.shrink * p + self.rate * g, [])
    }
    const TERMS: usize = 2;
    const NORMS: usize = 2;
    #[inline(always)]
    fn terms(&self, p: A, g: A, _state: [A; 0]) -> Terms<A> {
        Terms::new([(p, p), (g, g)])
    }
}

impl Algorithm for Fromage {
    type Kernel<A: Element> = RelativeStep<A>;

    /// The ratio of the norms.
    fn update_scalars(&self, _step: &StepContext, &Sums([p, g, ..]): &Sums) -> Scalars {
        let (p, g) = (p.max(self.min_norm), g.max(self.min_norm));
        Scalars::new([trust_ratio(p, g, p / g)])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let k = 1.0 / (1.0 + self.lr * self.lr).sqrt();
        RelativeStep {
            shrink: A::from_f64(1.0 - k),
            rate: A::from_f64(not_infinite(k * self.lr * step.scalars[0])),
        }
    }
}
