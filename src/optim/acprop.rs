use super::*;

hyper_parameters! {
    /// The gradient divided by the root of its variance as estimated before this step, so that numerator and denominator are
    /// independent, as in ADOPT.
    ///
    /// ```text
    /// D = 1 at t = 1, later s / (1 - beta2^(t-1))            with the s before this step
    /// p <- p - lr (g / (sqrt(D) + eps) + weight_decay p)
    /// s <- beta2 s + (1 - beta2) (g - m)^2 + eps_root        with the old m
    /// m <- beta1 m + (1 - beta1) g                           both from 0
    /// ```
    ///
    /// This is `optax.contrib.acprop`.
    /// Source: J. Zhuang et al., arXiv:2110.05454. State: `exp_avg`, `exp_avg_var`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AcProp, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AcProp::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.95).abs() < 1e-6 && (theta[1] + 1.975).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "acprop" AcProp {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the running averages of g and g^2, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-16,
        /// Added to the running variance at every step, >= 0.
        eps_root: f64 = 1e-16,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Asynchronous<A> {
    m: Average<A>,
    s: Average<A>,
    eps: A,
    eps_root: A,
    lr: A,
    scale: A,
    shift: A,
}

impl<A: Element> Rule for Asynchronous<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_var"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, s]: [A; 2]) -> (A, [A; 2]) {
        let delta = self.lr * g.over((self.scale * s + self.shift).sqrt() + self.eps);
        let surprise = g - m;
        let s = (self.s.mix(s, surprise * surprise) + self.eps_root).flush();
        let m = self.m.step(m, g);
        (delta, [m, s])
    }
}

impl Algorithm for AcProp {
    type Kernel<A: Element> = WithDecoupled<Asynchronous<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("eps_root", self.eps_root)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        // D = scale s + shift: 1 at the first step.
        let first = now.t == 1;
        let rule = Asynchronous {
            m: Average::new(self.betas.0),
            s: Average::new(self.betas.1),
            eps: f(self.eps),
            eps_root: f(self.eps_root),
            lr: f(self.lr),
            scale: f(if first { 0.0 } else { 1.0 / now.correction_at(1, now.t - 1) }),
            shift: f(if first { 1.0 } else { 0.0 }),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
