use super::{adam::Moments, *};

hyper_parameters! {
    /// AdamW with the magnitude of Adam's update and the sign of the current gradient.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// u = m' / (sqrt(v') + eps)                                m' and v' bias-corrected
    /// p <- p - lr (|u| sign(g) + weight_decay p)
    /// ```
    ///
    /// This is pytorch_optimizer's Grams.
    /// Source: Y. Cao, X. Li, Z. Song, arXiv:2412.17107. State: `exp_avg`, `exp_avg_sq`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Grams, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Grams::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-5 && (theta[1] + 1.9).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "grams" Grams {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-6,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

/// Adam's rule with another sign.
#[derive(Clone, Copy, Debug)]
pub struct Sized<A>(Moments<A>);

impl<A: Element> Rule for Sized<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = Moments::<A>::STATE;
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let (m, v) = self.0.moments(g, m, v);
        (self.0.update(m, v).abs() * g.sign(), [m, v])
    }
}

impl Algorithm for Grams {
    type Kernel<A: Element> = WithDecoupled<Sized<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let rule = Sized(Moments::new(self.lr, self.betas, self.eps, now));
        decoupled(rule, self.lr, self.weight_decay)
    }
}
