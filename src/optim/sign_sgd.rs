use super::*;

algorithm! {
    /// SignSGD: steps of size `lr` along the sign of the gradient.
    ///
    /// # Update rule
    ///
    /// ```text
    /// p <- p - lr sign(g)
    /// ```
    ///
    /// Here `sign(0)` is 0. This is `optax.sign_sgd`.
    ///
    /// # Hyper-parameters
    ///
    /// Each element with a nonzero gradient moves by exactly `lr` per step, in the parameter's own
    /// unit.
    ///
    /// # State
    ///
    /// None.
    ///
    /// # Reference
    ///
    /// J. Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems",
    /// [arXiv:1802.04434](https://arxiv.org/abs/1802.04434).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, SignSgd};
    ///
    /// let mut optimizer = Optimizer::new(SignSgd::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert_eq!(theta, array![0.9, -1.9]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    SignSgd = "sign_sgd" {
        /// Learning rate: the size of a step in each element.
        lr: f64 [>= 0] = 1e-3;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct SignDescent<A> {
    lr: A,
}

impl<A: Element> Rule for SignDescent<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 1;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.lr * g.sign(), [])
    }
}

impl Algorithm for SignSgd {
    type Kernel<A: Element> = SignDescent<A>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        SignDescent {
            lr: A::from_f64(self.lr),
        }
    }
}
