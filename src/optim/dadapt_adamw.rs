use super::{prodigy::rate, *};

hyper_parameters! {
    /// AdamW with an estimate d, a lower bound on the distance to the solution, as its learning rate: leave lr at 1. The
    /// predecessor of `Prodigy`.
    ///
    /// ```text
    /// L = d lr sqrt(1 - beta2^t) / (1 - beta1^t),  beta3 = sqrt(beta2); sums over all arrays of a group
    /// q = <g, s / (sqrt(v) + eps)>                                       with the old s and v
    /// m <- beta1 m + (1 - beta1) L g,  v <- beta2 v + (1 - beta2) g^2
    /// s <- beta3 s + (1 - beta3) L g,  r <- beta3 r + (1 - beta3) L q
    /// d <- max(d, r / ((1 - beta3) sum |s|))
    /// p <- p - m / (sqrt(v) + eps) - weight_decay L p
    /// ```
    ///
    /// This is `optax.contrib.dadapt_adamw`.
    /// Source: A. Defazio, K. Mishchenko, arXiv:2301.07733. State: `exp_avg`, `exp_avg_sq`, `s`, and d, r.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{DAdaptAdamW, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(DAdaptAdamW::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.999999).abs() < 1e-8 && (theta[1] + 1.999999).abs() < 1e-8);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "dadapt_adamw" DAdaptAdamW {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// The initial estimate of d, > 0.
        d0: f64 = 1e-6,
        /// Decoupled weight decay, >= 0.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Estimated<A> {
    beta1: A,
    of_g: A,
    v: Average<A>,
    beta3: A,
    of_s: A,
    eps: A,
    decay: A,
}

impl<A: Element> Rule for Estimated<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "s"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m, v, s]: [A; 3]) -> (A, [A; 3]) {
        let m = (self.beta1 * m + self.of_g * g).flush();
        let v = self.v.step(v, g * g);
        let s = (self.beta3 * s + self.of_s * g).flush();
        (m.over(v.sqrt() + self.eps) + self.decay * p, [m, v, s])
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, [_, v, s]: [A; 3]) -> [f64; MAX_TERMS] {
        let new = (self.beta3 * s + self.of_s * g).flush();
        [g.f64() * s.over(v.sqrt() + self.eps).f64(), new.abs().f64(), 0.0, 0.0]
    }
}

impl Algorithm for DAdaptAdamW {
    type Kernel<A: Element> = Estimated<A>;
    const GLOBAL: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::that(self.d0 > 0.0 && self.d0.is_finite(), "d0", self.d0, "a finite number > 0")?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    fn scalars(&self) -> Scalars {
        [self.d0, 0.0, self.d0, 0.0]
    }

    /// The new d, r, and the d of this step.
    fn absorb(&self, now: &Now, &[q, s, ..]: &[f64; MAX_TERMS]) -> Scalars {
        let ([d, r, ..], beta3) = (now.scalars, self.betas.1.sqrt());
        let r = beta3 * r + (1.0 - beta3) * rate(self.lr, now, d) * q;
        [if s > 0.0 { d.max(r / ((1.0 - beta3) * s)) } else { d }, r, d, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let beta3 = self.betas.1.sqrt();
        let [new, _, old, _] = now.scalars;
        let l = rate(self.lr, now, if now.measuring { new } else { old });
        Estimated {
            beta1: f(self.betas.0),
            of_g: f((1.0 - self.betas.0) * l),
            v: Average::new(self.betas.1),
            beta3: f(beta3),
            of_s: f((1.0 - beta3) * l),
            eps: f(self.eps),
            decay: f(self.weight_decay * l),
        }
    }
}
