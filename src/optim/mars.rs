use super::{adam::Moments, *};

hyper_parameters! {
    /// AdamW on variance-reduced gradients: a scaled gradient difference is added to each gradient, and the result is
    /// clipped to norm 1 for each array.
    ///
    /// ```text
    /// c = g + gamma beta1 / (1 - beta1) (g - g_old)            g_old = 0 at first
    /// c <- c / |c| if |c| > 1                                  norm of the whole array
    /// m <- beta1 m + (1 - beta1) c,  v <- beta2 v + (1 - beta2) c^2
    /// p <- p - lr (m' / (sqrt(v') + eps) + weight_decay p)     m' and v' bias-corrected
    /// ```
    ///
    /// The paper's MARS-AdamW.
    /// Source: H. Yuan et al., arXiv:2411.10438. State: `exp_avg`, `exp_avg_sq`, `prev`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Mars, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Mars::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "mars" Mars {
        /// Learning rate, >= 0.
        lr: f64 = 3e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.95, 0.99),
        /// Scale of the gradient correction, >= 0.
        gamma: f64 = 0.025,
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Reduced<A> {
    moments: Moments<A>,
    weight: A,
    scale: A,
}

impl<A: Element> Reduced<A> {
    #[inline(always)]
    fn corrected(&self, g: A, prev: A) -> A {
        g + self.weight * (g - prev)
    }
}

impl<A: Element> Rule for Reduced<A> {
    type Elem = A;
    type State = ([A; 2], [A; 1]);
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "prev"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, ([m, v], [prev]): Self::State) -> (A, Self::State) {
        let (m, v) = self.moments.moments(self.scale * self.corrected(g, prev), m, v);
        (self.moments.update(m, v), ([m, v], [g]))
    }
    const TERMS: usize = 1;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, (_, [prev]): Self::State) -> [f64; MAX_TERMS] {
        let c = self.corrected(g, prev).f64();
        [c * c, 0.0, 0.0, 0.0]
    }
}

impl Algorithm for Mars {
    type Kernel<A: Element> = WithDecoupled<Reduced<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::non_negative("gamma", self.gamma)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    /// What clips the norm.
    fn absorb(&self, _now: &Now, sums: &[f64; MAX_TERMS]) -> Scalars {
        let norm = sums[0].sqrt();
        [if norm > 1.0 { 1.0 / norm } else { 1.0 }, 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let rule = Reduced {
            moments: Moments::new(self.lr, self.betas, self.eps, now),
            weight: A::of(self.gamma * self.betas.0 / (1.0 - self.betas.0)),
            scale: A::of(now.scalars[0]),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
