use super::*;

hyper_parameters! {
    /// Steps of size lr along the sign of the gradient; sign(0) = 0.
    ///
    /// ```text
    /// p <- p - lr sign(g)
    /// ```
    ///
    /// This is `optax.sign_sgd`.
    /// Source: J. Bernstein et al., arXiv:1802.04434. State: none.
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
    "sign_sgd" SignSgd {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Sign<A> {
    lr: A,
}

impl<A: Element> Rule for Sign<A> {
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
    type Kernel<A: Element> = Sign<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        Sign { lr: A::of(self.lr) }
    }
}
