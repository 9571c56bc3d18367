use super::*;

algorithm! {
    /// ADOPT: Adam that normalizes the gradient by the previous second moment and then averages it.
    ///
    /// Unlike Adam, it converges for any `beta2`. The first step only initializes the second
    /// moment.
    ///
    /// # Update rule
    ///
    /// ```text
    /// t = 1:  v <- g^2, p is unchanged
    /// else:   u = g / max(sqrt(v), eps) with the old v,  clipped to +-(t - 1)^0.25 if `clip`
    ///         m <- beta1 m + (1 - beta1) u,  p <- p - lr m,  v <- beta2 v + (1 - beta2) g^2
    /// ```
    ///
    /// This is `optax.contrib.adopt`.
    ///
    /// # Hyper-parameters
    ///
    /// As in Adam, each element moves by about `lr` per step in the parameter's own unit. `m`
    /// starts at 0 without bias correction, so the first steps are smaller. `eps` is a lower bound
    /// of the denominator and is not added to it.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// S. Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal
    /// Rate", [arXiv:2411.02853](https://arxiv.org/abs/2411.02853).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adopt, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adopt::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert_eq!(theta, array![1.0, -2.0]);
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.99).abs() < 1e-6 && (theta[1] + 1.99).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Adopt = "adopt" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of the normalized gradient and of `g^2`.
        betas: (f64, f64) [in 0..1] = (0.9, 0.9999);
        /// Lower bound of the denominator.
        eps: f64 [>= 0] = 1e-6;
        /// Clips the normalized gradient to `+-(t - 1)^0.25`.
        clip: bool = true;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct NormalizedMomentum<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    eps: A,
    limit: A,
    lr: A,
}

impl<A: Element> Rule for NormalizedMomentum<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let root = v.sqrt();
        let u = g.over(if root < self.eps { self.eps } else { root });
        let u = if u > self.limit { self.limit } else { u };
        let u = if u < -self.limit { -self.limit } else { u };
        let m = self.m.update(m, u);
        (self.lr * m, [m, self.v.update(v, g)])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

/// The first step, which only initializes the second moment.
#[derive(Clone, Copy, Debug)]
pub struct InitializeSecondMoment<A> {
    /// Those of [`NormalizedMomentum`].
    floors: [A; 2],
}

impl<A: Element> Rule for InitializeSecondMoment<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = NormalizedMomentum::<A>::STATE;
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, _]: [A; 2]) -> (A, [A; 2]) {
        (A::ZERO, [m, g * g])
    }
    fn floors(&self) -> [A; 2] {
        self.floors
    }
}

impl Algorithm for Adopt {
    type Kernel<A: Element> = Either<NormalizedMomentum<A>, InitializeSecondMoment<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let rule = NormalizedMomentum {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            eps: f(self.eps),
            limit: if self.clip {
                f(((step.t - 1) as f64).sqrt().sqrt())
            } else {
                A::infinity()
            },
            lr: f(self.lr),
        };
        if step.t == 1 {
            let floors = Rule::floors(&rule);
            Either::Right(InitializeSecondMoment { floors })
        } else {
            Either::Left(rule)
        }
    }
}
