use super::*;
use crate::kernel::{At, Untouched};

hyper_parameters! {
    /// A running average of gradients divided element-wise by a running average of estimates of the Hessian's diagonal, and
    /// clipped: a Newton step where the curvature is known and positive, sign descent with steps of lr elsewhere.
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g                                           from m = 0
    /// p <- p - lr (clip(m / max(gamma h, eps), -1, 1) + weight_decay p)
    /// update_hessian:  h <- beta2 h + (1 - beta2) estimate                   from h = 0
    /// ```
    ///
    /// [`update_hessian`](crate::Optimizer::update_hessian) takes the estimates: every ten steps in the paper, the first one
    /// before the first step, each made at the parameters of the step that follows it. [`hutchinson`](crate::hutchinson)
    /// makes them from products of the Hessian with vectors. Where there has been no estimate, or only negative ones, `h <=
    /// 0` and the step is `lr sign(m)`, that of [`Signum`](crate::Signum), unless `|m| < eps`. Nothing is corrected for the
    /// zeros that `m` and `h` begin with: that is so in the paper too, where the small `h` of the first estimates makes for
    /// clipped steps. `lr` bounds each step, and 3 to 5 times a good one of [`Lion`](crate::Lion) is the authors' advice.
    ///
    /// `gamma` multiplies `h`, as in Algorithm 3 of the paper: 0.01 is for estimates by Hutchinson's method, 0.05 for those
    /// by Gauss, Newton and Bartlett. The authors' code calls it `rho`, has the size of the batch as a factor of `h` there
    /// instead of in the estimate, and eps = 1e-15 added; its beta1 and decay are the defaults here (the paper has beta1 =
    /// 0.96). `optax.contrib.sophia` corrects the bias of `m`, has eps = 1e-8 and makes each step with the `h` from before
    /// the estimate of that step, so that its first one is without any.
    ///
    /// Source: H. Liu et al., arXiv:2305.14342. State: `exp_avg`, `hessian`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Params, Sophia, hutchinson};
    ///
    /// // (theta - 3)^T H (theta - 3) / 2
    /// let h = array![[100.0, 1.0], [1.0, 2.0]];
    /// let config = Sophia { lr: 0.1, betas: (0.9, 0.9), gamma: 1.0, weight_decay: 0.0, ..Default::default() };
    /// let mut sophia = Optimizer::new(config);
    /// let mut theta = array![1.0, -2.0];
    /// for step in 0..300 {
    ///     if step % 10 == 0 {
    ///         let estimate = hutchinson(&theta, 1, step, |u| h.dot(u))?;
    ///         let mut params = Params::new();
    ///         params.add("variable", &mut theta, &estimate)?; // the name of the array of `update`
    ///         sophia.update_hessian(params)?;
    ///     }
    ///     let grad = h.dot(&(&theta - 3.0));
    ///     sophia.update(&mut theta, &grad)?;
    /// }
    /// assert!(theta.iter().all(|x: &f64| (x - 3.0).abs() < 1e-3), "{theta}");
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "sophia" Sophia {
        /// Learning rate, >= 0: no element moves by more in a step, weight decay aside.
        lr: f64 = 1e-4,
        /// Decay rates of the running averages of g and of the estimates, each in [0, 1).
        betas: (f64, f64) = (0.965, 0.99),
        /// Scale of h, > 0: the larger, the fewer elements are clipped.
        gamma: f64 = 0.01,
        /// Lower bound of the denominator, >= 0.
        eps: f64 = 1e-12,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.1,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ClippedNewton<A> {
    beta1: A,
    one_minus_beta1: A,
    gamma: A,
    eps: A,
    lr: A,
}

impl<A: Element> Rule for ClippedNewton<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "hessian"];
    const COST: u64 = 4;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, h]: [A; 2]) -> (A, [A; 2]) {
        let m = (self.beta1 * m + self.one_minus_beta1 * g).flush();
        let curvature = self.gamma * h;
        let by = if curvature < self.eps { self.eps } else { curvature };
        // In this order NaN shows, and 0 / 0 is 0.
        let u = if m.abs() >= by { m.sign() } else { m / by };
        (self.lr * u, [m, h])
    }
}

/// Takes an estimate into the average; the parameter and the other average stay as they are.
#[derive(Clone, Copy, Debug)]
struct Estimate<A> {
    beta2: A,
    one_minus_beta2: A,
}

impl<A: Element> Rule for Estimate<A> {
    type Elem = A;
    type State = (Untouched, [A; 1]);
    const STATE: &'static [&'static str] = ClippedNewton::<A>::STATE;
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, estimate: A, (m, [h]): Self::State) -> (A, Self::State) {
        (A::ZERO, (m, [(self.beta2 * h + self.one_minus_beta2 * estimate).flush()]))
    }
    #[inline(always)]
    fn land(&self, p: A, _delta: A, state: Self::State) -> (A, Self::State) {
        (p, state)
    }
}

impl Algorithm for Sophia {
    type Kernel<A: Element> = WithDecoupled<ClippedNewton<A>>;
    const CURVATURE: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("betas[0]", self.betas.0)?;
        check::share("betas[1]", self.betas.1)?;
        check::that(self.gamma > 0.0 && self.gamma.is_finite(), "gamma", self.gamma, "a finite number > 0")?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let rule = ClippedNewton {
            beta1: f(self.betas.0),
            one_minus_beta1: f(1.0 - self.betas.0),
            gamma: f(self.gamma),
            eps: f(self.eps),
            lr: f(self.lr),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }

    fn estimate<A: Element>(&self, estimate: &[A], state: Arrays<'_, A>) {
        let rule = Estimate { beta2: A::of(self.betas.1), one_minus_beta2: A::of(1.0 - self.betas.1) };
        // The rule does not look at parameters and leaves them alone.
        let mut p = estimate.to_vec();
        rule.run(&At { first: false, scale: A::one() }, &mut p, estimate, state);
    }
}
