use super::*;

hyper_parameters! {
    /// Resilient backpropagation: each element has its own step size, which grows while the sign of its gradient stays and
    /// shrinks when it changes. Only for full-batch gradients: noisy signs defeat it.
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`; h from lr, q (the last gradient) from 0:
    /// s = sign(g q)
    /// h <- h etas.1 if s > 0,  h etas.0 if s < 0;  then h <- clamp(h, step_sizes.0, step_sizes.1)
    /// g <- 0 where s < 0
    /// p <- p - sign(g) h,  q <- g
    /// ```
    ///
    /// This is `torch.optim.Rprop`; `optax.rprop` makes each step one call later, which is not offered here. Source: M.
    /// Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning", ICNN 1993. State: `step_size`,
    /// `prev`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Rprop};
    ///
    /// let mut optimizer = Optimizer::new(Rprop::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "rprop" Rprop {
        /// Learning rate, >= 0.
        lr: f64 = 1e-2,
        /// Factors of the step size where the sign changed, in (0, 1), and where it stayed, > 1.
        etas: (f64, f64) = (0.5, 1.2),
        /// Smallest and largest step size, 0 <= smallest <= largest.
        step_sizes: (f64, f64) = (1e-6, 50.0),
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl Rprop {
    /// `torch.optim.Rprop`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Resilient<A> {
    lr: A,
    minus: A,
    plus: A,
    low: A,
    high: A,
}

impl<A: Element> Rule for Resilient<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["step_size", "prev"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [h, q]: [A; 2]) -> (A, [A; 2]) {
        let turn = g.sign() * q.sign();
        let factor = if turn > A::ZERO { self.plus } else { A::one() };
        let factor = if turn < A::ZERO { self.minus } else { factor };
        let h = h * factor;
        let h = if h < self.low { self.low } else { h };
        let h = if h > self.high { self.high } else { h };
        let g = if turn < A::ZERO { A::ZERO } else { g };
        (g.sign() * h, [h, g])
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [self.lr, A::ZERO]
    }
}

impl Algorithm for Rprop {
    type Kernel<A: Element> = Resilient<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::that(self.etas.0 > 0.0 && self.etas.0 < 1.0, "etas[0]", self.etas.0, "a number in (0, 1)")?;
        check::that(self.etas.1 > 1.0 && self.etas.1.is_finite(), "etas[1]", self.etas.1, "a finite number > 1")?;
        check::non_negative("step_sizes[0]", self.step_sizes.0)?;
        check::non_negative("step_sizes[1]", self.step_sizes.1)?;
        check::that(self.step_sizes.0 <= self.step_sizes.1, "step_sizes", self.step_sizes.1, "smallest <= largest")
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let ((minus, plus), (low, high)) = (self.etas, self.step_sizes);
        Resilient { lr: f(self.lr), minus: f(minus), plus: f(plus), low: f(low), high: f(high) }
    }
}
