use super::*;

hyper_parameters! {
    /// Adam in another order: the gradient is normalised by the second moment of the steps before, then averaged. Converges
    /// for any beta2. The first step only initialises the second moment.
    ///
    /// ```text
    /// t = 1:  v <- g^2, nothing moves
    /// else:   u = g / max(sqrt(v), eps) with the old v,  clipped to +-(t - 1)^0.25 if `clip`
    ///         m <- beta1 m + (1 - beta1) u,  p <- p - lr m,  v <- beta2 v + (1 - beta2) g^2
    /// ```
    ///
    /// This is `optax.contrib.adopt`.
    /// Source: S. Taniguchi et al., arXiv:2411.02853. State: `exp_avg`, `exp_avg_sq`.
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
    "adopt" Adopt {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.9999),
        /// Lower bound of the denominator, >= 0.
        eps: f64 = 1e-6,
        /// Clips the normalised gradient to +-(t - 1)^0.25.
        clip: bool = true,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Delayed<A> {
    m: Average<A>,
    v: Average<A>,
    eps: A,
    limit: A,
    lr: A,
}

impl<A: Element> Rule for Delayed<A> {
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
        let m = self.m.step(m, u);
        (self.lr * m, [m, self.v.step(v, g * g)])
    }
}

/// The first step.
#[derive(Clone, Copy, Debug)]
pub struct Look<A>(std::marker::PhantomData<A>);

impl<A: Element> Rule for Look<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = Delayed::<A>::STATE;
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, _]: [A; 2]) -> (A, [A; 2]) {
        (A::ZERO, [m, g * g])
    }
}

impl Algorithm for Adopt {
    type Kernel<A: Element> = Either<Delayed<A>, Look<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::non_negative("eps", self.eps)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        if now.t == 1 {
            return Either::Y(Look(std::marker::PhantomData));
        }
        Either::X(Delayed {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            eps: f(self.eps),
            limit: if self.clip { f(((now.t - 1) as f64).powf(0.25)) } else { A::infinity() },
            lr: f(self.lr),
        })
    }
}
