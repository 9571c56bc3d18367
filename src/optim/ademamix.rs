use super::*;

hyper_parameters! {
    /// AdamW with a mixture of two running averages of the gradient, a fast and a very slow one.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  n <- beta3 n + (1 - beta3) g,  v <- beta2 v + (1 - beta2) g^2
    /// p <- p - lr ((m' + alpha n) / (sqrt(v') + eps) + weight_decay p)     m' and v' bias-corrected, n not
    /// ```
    ///
    /// This is `optax.contrib.ademamix` with constant alpha and beta3, without their warm-ups.
    /// Source: M. Pagliardini, P. Ablin, D. Grangier, arXiv:2409.03137. State: `exp_avg`, `exp_avg_sq`, `exp_avg_slow`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdEMAMix, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AdEMAMix::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-3 && (theta[1] + 1.9).abs() < 1e-3);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "ademamix" AdEMAMix {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the fast average, the second moment and the slow average, each in [0, 1).
        betas: (f64, f64, f64) = (0.9, 0.999, 0.9999),
        /// Weight of the slow average, >= 0.
        alpha: f64 = 5.0,
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Mixture<A> {
    m: Average<A>,
    v: Average<A>,
    n: Average<A>,
    eps: A,
    of_m: A,
    of_n: A,
}

impl<A: Element> Rule for Mixture<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "exp_avg_slow"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v, n]: [A; 3]) -> (A, [A; 3]) {
        let m = self.m.step(m, g);
        let v = self.v.step(v, g * g);
        let n = self.n.step(n, g);
        ((self.of_m * m + self.of_n * n).over(v.sqrt() + self.eps), [m, v, n])
    }
}

impl Algorithm for AdEMAMix {
    type Kernel<A: Element> = WithDecoupled<Mixture<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::share("betas[2]", self.betas.2)?;
        check::non_negative("alpha", self.alpha)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        self.betas.into()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let root = now.correction(1).sqrt();
        let rule = Mixture {
            m: Average::new(self.betas.0),
            v: Average::new(self.betas.1),
            n: Average::new(self.betas.2),
            eps: f(self.eps * root),
            of_m: f(self.lr * root / now.correction(0)),
            of_n: f(self.lr * root * self.alpha),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
