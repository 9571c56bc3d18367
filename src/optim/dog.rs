use super::*;

hyper_parameters! {
    /// Distance over gradients: SGD whose learning rate is the distance from the initial point over the root of the summed
    /// squared gradient norms. Leave lr at 1.
    ///
    /// ```text
    /// With g <- g + weight_decay p and sums over all arrays of a group, x0 the initial p:
    /// r <- max(r, |p - x0|)                  from reps_rel (1 + |x0|)
    /// N <- N + |g|^2                         from 0
    /// p <- p - lr r / sqrt(N + eps) g
    /// ```
    ///
    /// This is `optax.contrib.dog`, with p - x0 kept as the sum of all steps.
    /// Source: M. Ivgi, O. Hinder, Y. Carmon, arXiv:2302.12022. State: `displacement`, and the two sums.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Dog, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Dog::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 1.0).abs() < 1e-5 && (theta[1] + 2.0).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "dog" Dog {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Initial step relative to the norm of the parameters, > 0.
        reps_rel: f64 = 1e-6,
        /// Added under the root for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
    }
}

/// The sum of all steps is kept: it is exact where p - x0 cancels.
#[derive(Clone, Copy, Debug)]
pub struct Travelled<A> {
    rate: A,
}

impl<A: Element> Travelled<A> {
    #[inline(always)]
    pub fn new(rate: f64) -> Self {
        Travelled { rate: A::of(rate) }
    }
}

impl<A: Element> Rule for Travelled<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["displacement"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [displacement]: [A; 1]) -> (A, [A; 1]) {
        let delta = self.rate * g;
        (delta, [displacement + delta])
    }
    const TERMS: usize = 3;
    #[inline(always)]
    fn terms(&self, p: A, g: A, [displacement]: [A; 1]) -> [f64; MAX_TERMS] {
        let (p, g, x) = (p.f64(), g.f64(), displacement.f64());
        [x * x, g * g, p * p, 0.0]
    }
}

impl Algorithm for Dog {
    type Kernel<A: Element> = WithCoupled<Travelled<A>>;
    const GLOBAL: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::that(self.reps_rel > 0.0 && self.reps_rel.is_finite(), "reps_rel", self.reps_rel, "a finite number > 0")?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    /// r, N and the learning rate.
    fn absorb(&self, now: &Now, &[moved, g, start, _]: &[f64; MAX_TERMS]) -> Scalars {
        let [r, n, ..] = now.scalars;
        let r = if now.t == 1 { self.reps_rel * (1.0 + start.sqrt()) } else { r.max(moved.sqrt()) };
        let n = n + g;
        let root = (n + self.eps).sqrt();
        [r, n, if root > 0.0 { self.lr * r / root } else { 0.0 }, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        coupled(Travelled::new(now.scalars[2]), self.weight_decay)
    }
}
