use super::*;

hyper_parameters! {
    /// SGD with the Polyak step size, which would bring a linear objective to its optimum f_min: no learning rate to tune
    /// where f_min is known, as in interpolation problems.
    ///
    /// ```text
    /// With g <- scaling g and the sum over all arrays of a group:
    /// s = min((f - f_min) / (sum g^2 + eps), max_lr)           0 if the divisor is not above 2.2e-16
    /// p <- p - s g
    /// ```
    ///
    /// This is `optax.polyak_sgd`. Needs the value of the objective: [`Params::loss`](crate::Params::loss) or
    /// [`update_with_loss`](crate::Optimizer::update_with_loss).
    /// Source: N. Loizou et al., arXiv:2002.10542. State: none.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, PolyakSgd};
    ///
    /// let mut optimizer = Optimizer::new(PolyakSgd::new(1.0));
    /// let mut theta = array![3.0_f64, 4.0];
    /// let grad = theta.clone(); // of |theta|^2 / 2 = 12.5
    /// optimizer.update_with_loss(&mut theta, &grad, 12.5)?;
    /// assert_eq!(theta, array![1.5, 2.0]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "polyak_sgd" PolyakSgd {
        /// The largest step, >= 0.
        max_lr: f64 = 1.0,
        /// Scale of the step, > 0.
        scaling: f64 = 1.0,
        /// The optimal value of the objective.
        f_min: f64 = 0.0,
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Polyak<A> {
    scaling: A,
    rate: A,
}

impl<A: Element> Rule for Polyak<A> {
    type Elem = A;
    type State = [A; 0];
    const STATE: &'static [&'static str] = &[];
    const COST: u64 = 1;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, []: [A; 0]) -> (A, [A; 0]) {
        (self.rate * g, [])
    }
    const TERMS: usize = 1;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, _state: [A; 0]) -> [f64; MAX_TERMS] {
        let g = (self.scaling * g).f64();
        [g * g, 0.0, 0.0, 0.0]
    }
}

impl Algorithm for PolyakSgd {
    type Kernel<A: Element> = Polyak<A>;
    const GLOBAL: bool = true;
    const LOSS: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("max_lr", self.max_lr)?;
        check::that(self.scaling > 0.0 && self.scaling.is_finite(), "scaling", self.scaling, "a finite number > 0")?;
        check::that(self.f_min.is_finite(), "f_min", self.f_min, "a finite number")?;
        check::non_negative("eps", self.eps)
    }

    /// The step.
    fn absorb(&self, now: &Now, sums: &[f64; MAX_TERMS]) -> Scalars {
        let square = sums[0] + self.eps;
        let step = ((now.loss - self.f_min) / square).min(self.max_lr);
        [if square <= f64::EPSILON { 0.0 } else { step }, 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        Polyak { scaling: A::of(self.scaling), rate: A::of(now.scalars[0] * self.scaling) }
    }
}
