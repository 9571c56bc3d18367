use super::*;
use crate::kernel::{IdleState, KernelArgs};

algorithm! {
    /// Sophia: a running average of gradients, preconditioned by the Hessian's diagonal and clipped
    /// element-wise.
    ///
    /// The denominator is a running average of estimates of the Hessian's diagonal. The update is a
    /// Newton step where the curvature is known and positive, and sign descent with steps of `lr`
    /// elsewhere.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g                                           from m = 0
    /// p <- p - lr (clip(m / max(gamma h, eps), -1, 1) + weight_decay p)
    /// update_hessian:  h <- beta2 h + (1 - beta2) estimate                   from h = 0
    /// ```
    ///
    /// [`update_hessian`](crate::Optimizer::update_hessian) takes the estimates. The paper makes
    /// one every ten steps, the first before the first step, each at the parameters of the step
    /// that follows it. [`hutchinson`](crate::hutchinson) computes them from Hessian-vector
    /// products.
    ///
    /// Where there has been no estimate, or only negative ones, `h <= 0` and the step is
    /// `lr sign(m)`, that of [`Signum`](crate::Signum), unless `|m| < eps`. As in the paper, `m`
    /// and `h` have no bias correction: the small `h` after the first estimates leads to clipped
    /// steps.
    ///
    /// This is Algorithm 3 of the paper. Other implementations differ:
    ///
    /// - The authors' code calls `gamma` `rho`, multiplies `h` by the batch size instead of
    ///   including that factor in the estimate, and adds an `eps` of 1e-15 to the denominator.
    /// - `optax.contrib.sophia` corrects the bias of `m`, has an `eps` of 1e-8 and makes each step
    ///   with the `h` from before the estimate of that step, so its first step has no estimate.
    ///
    /// # Hyper-parameters
    ///
    /// - `lr` bounds each step, in the parameter's own unit. The authors recommend 3 to 5 times a
    ///   good learning rate of [`Lion`](crate::Lion).
    /// - `gamma` multiplies `h`: 0.01 for estimates by Hutchinson's method, 0.05 for those by
    ///   Gauss-Newton-Bartlett.
    /// - The defaults of `betas` and `weight_decay` are those of the authors' code; the paper has a
    ///   `beta1` of 0.96.
    ///
    /// # State
    ///
    /// `exp_avg` and `hessian`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// H. Liu et al., "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model
    /// Pre-training", [arXiv:2305.14342](https://arxiv.org/abs/2305.14342).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Params, Sophia, hutchinson};
    ///
    /// // (theta - 3)^T H (theta - 3) / 2
    /// let h = array![[100.0, 1.0], [1.0, 2.0]];
    /// let mut sophia = Optimizer::new(Sophia {
    ///     lr: 0.1,
    ///     betas: (0.9, 0.9),
    ///     gamma: 1.0,
    ///     weight_decay: 0.0,
    ///     ..Default::default()
    /// });
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
    Sophia = "sophia" {
        /// Learning rate: the largest change of an element in a step, weight decay aside.
        lr: f64 [>= 0] = 1e-4;
        /// Decay rates of the running averages of `g` and of the Hessian estimates.
        betas: (f64, f64) [in 0..1] = (0.965, 0.99);
        /// Scale of `h`: the larger, the fewer elements are clipped.
        gamma: f64 [> 0] = 0.01;
        /// Lower bound of the denominator.
        eps: f64 [>= 0] = 1e-12;
        /// Decoupled weight decay: each step subtracts `lr weight_decay p`.
        weight_decay: f64 [>= 0] = 0.1;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ClippedNewton<A> {
    m: RunningAverage<A>,
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
        let m = self.m.update(m, g);
        let curvature = self.gamma * h;
        let denominator = if curvature < self.eps {
            self.eps
        } else {
            curvature
        };
        // 0 / 0 is 0, and everything else over 0 is clipped. In this order NaN propagates.
        let u = m.over_at_least(denominator, smallest());
        let u = if u > A::one() { A::one() } else { u };
        let u = if u < -A::one() { -A::one() } else { u };
        (self.lr * u, [m, h])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(); 2]
    }
}

/// The running average of the Hessian estimates, which come in place of gradients. The parameter
/// and `exp_avg` are unchanged.
#[derive(Clone, Copy, Debug)]
struct HessianAverage<A> {
    average: RunningAverage<A>,
}

impl<A: Element> Rule for HessianAverage<A> {
    type Elem = A;
    type State = (IdleState, [A; 1]);
    const STATE: &'static [&'static str] = ClippedNewton::<A>::STATE;
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, estimate: A, (m, [h]): Self::State) -> (A, Self::State) {
        (A::ZERO, (m, [self.average.update(h, estimate)]))
    }
}

impl Algorithm for Sophia {
    type Kernel<A: Element> = WithDecoupled<ClippedNewton<A>>;
    const DEMANDS: Demands = Demands::NONE.hessian();

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let rule = ClippedNewton {
            m: RunningAverage::new(self.betas.0),
            gamma: f(self.gamma),
            eps: f(self.eps),
            lr: f(self.lr),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }

    fn update_hessian<A: Element>(&self, estimate: &[A], state: Arrays<'_, A>) {
        let rule = HessianAverage {
            average: RunningAverage::new(self.betas.1),
        };
        // The rule reads no parameters, and its update is 0: any slice of this length will do.
        let mut p = estimate.to_vec();
        rule.run(&KernelArgs::default(), &mut p, estimate, state);
    }
}
