use super::{adam::Moments, *};

hyper_parameters! {
    /// AdamW with a trust ratio: the update of each array is rescaled to the norm of that array. For large-batch training.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// u = m' / (sqrt(v') + eps) + weight_decay p               m' and v' bias-corrected
    /// p <- p - lr |p| / |u| u                                  norms of the whole array; the ratio is 1 if either is 0
    /// ```
    ///
    /// This is `optax.lamb`; keras applies weight decay outside the trust ratio, which is not offered here.
    /// Source: Y. You et al., arXiv:1904.00962. State: `exp_avg`, `exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lamb, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Lamb::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.841886).abs() < 1e-5 && (theta[1] + 1.841886).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "lamb" Lamb {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-6,
        /// Weight decay, added to the update before it is rescaled, >= 0.
        weight_decay: f64 = 0.0,
    }
}

impl Lamb {
    /// `optax.lamb`: the defaults.
    pub fn optax() -> Self {
        Self::default()
    }

    /// `keras.optimizers.Lamb` without decay.
    pub fn keras() -> Self {
        Lamb { eps: 1e-7, ..Self::default() }
    }
}

/// Adam's rule with decay, times a ratio.
#[derive(Clone, Copy, Debug)]
pub struct Trusted<A> {
    moments: Moments<A>,
    weight_decay: A,
    rate: A,
}

impl<A: Element> Rule for Trusted<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = Moments::<A>::STATE;
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let (m, v) = self.moments.moments(g, m, v);
        (self.rate * (self.moments.update(m, v) + self.weight_decay * p), [m, v])
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, p: A, g: A, [m, v]: [A; 2]) -> [f64; MAX_TERMS] {
        let (m, v) = self.moments.moments(g, m, v);
        let (p, u) = (p.f64(), (self.moments.update(m, v) + self.weight_decay * p).f64());
        [p * p, u * u, 0.0, 0.0]
    }
}

impl Algorithm for Lamb {
    type Kernel<A: Element> = Trusted<A>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    /// The trust ratio.
    fn absorb(&self, _now: &Now, &[p, u, ..]: &[f64; MAX_TERMS]) -> Scalars {
        [if p == 0.0 || u == 0.0 { 1.0 } else { (p / u).sqrt() }, 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let moments = Moments::new(1.0, self.betas, self.eps, now);
        Trusted { moments, weight_decay: A::of(self.weight_decay), rate: A::of(self.lr * now.scalars[0]) }
    }
}
