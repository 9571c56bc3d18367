use super::*;

algorithm! {
    /// MoMo-Adam: Adam with the model-based adaptive learning rate of [`Momo`](crate::Momo).
    ///
    /// `lr` bounds that learning rate from above. Each step needs the value of the objective: set
    /// [`Params::loss`](crate::Params::loss) or call
    /// [`update_with_loss`](crate::Optimizer::update_with_loss).
    ///
    /// # Update rule
    ///
    /// With `m` and `v` as in Adam, `f` the value of the objective, and inner products taken over
    /// all arrays of a group together:
    ///
    /// ```text
    /// F <- beta1 F + (1 - beta1) f,  c <- beta1 c + (1 - beta1) <g, p>                 from 0
    /// D = eps + sqrt(v / (1 - beta2^t)),  k = 1 - beta1^t
    /// M = (1 + lr weight_decay) (F - k lower_bound - c) + <m, p>
    /// tau = min(lr / k, max(M, 0) / <m, m / D>)
    /// p <- p / (1 + lr weight_decay) - tau m / D
    /// ```
    ///
    /// This is `optax.contrib.momo_adam`.
    ///
    /// # Hyper-parameters
    ///
    /// While the bound is active the step is that of Adam: about `lr` per step in the parameter's
    /// own unit. The model only ever lowers the learning rate, so an `lr` that is too large does
    /// less harm than in Adam. For objectives that are never negative, leave `lower_bound` at 0.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter, and the scalars F and c.
    ///
    /// # Reference
    ///
    /// F. Schaipp et al., "MoMo: Momentum Models for Adaptive Learning Rates",
    /// [arXiv:2305.07583](https://arxiv.org/abs/2305.07583).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{MomoAdam, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(MomoAdam::new(0.1));
    /// let mut theta = array![3.0_f64, 4.0];
    /// let grad = theta.clone(); // of |theta|^2 / 2 = 12.5
    /// optimizer.update_with_loss(&mut theta, &grad, 12.5)?;
    /// assert!((theta[0] - 2.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    MomoAdam = "momo_adam" {
        /// Learning rate: the upper bound of the adaptive one.
        lr: f64 [>= 0] = 1e-2;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Lower bound of the objective.
        lower_bound: f64 [finite] = 0.0;
        /// Weight decay: parameters are divided by 1 + lr weight_decay.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Adam with the step size tau.
#[derive(Clone, Copy, Debug)]
pub struct ModelBasedAdam<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    root: A,
    eps: A,
    decay: A,
    tau: A,
}

impl<A: Element> Rule for ModelBasedAdam<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, p: A, g: A, state: [A; 2]) -> (A, [A; 2]) {
        let (m, v, u) = self.update(g, state);
        (self.decay * p + self.tau * u, [m, v])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
    const TERMS: usize = 3;
    #[inline(always)]
    fn terms(&self, p: A, g: A, state: [A; 2]) -> Terms<A> {
        let (m, _, u) = self.update(g, state);
        Terms::new([(g, p), (m, u), (m, p)])
    }
}

impl<A: Element> ModelBasedAdam<A> {
    /// The new averages and m / D.
    #[inline(always)]
    fn update(&self, g: A, [m, v]: [A; 2]) -> (A, A, A) {
        let m = self.m.update(m, g);
        let v = self.v.update(v, g);
        (m, v, m.over(self.root * v.sqrt() + self.eps))
    }
}

impl Algorithm for MomoAdam {
    type Kernel<A: Element> = ModelBasedAdam<A>;
    const DEMANDS: Demands = Demands::NONE.global_sums().loss();

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    /// The averages F and c, and tau.
    fn update_scalars(&self, step: &StepContext, &Sums([gp, mu, mp, _]): &Sums) -> Scalars {
        let Scalars([loss, c, ..]) = step.scalars;
        let (b, k) = (self.betas.0, step.correction(0));
        let (loss, c) = (b * loss + (1.0 - b) * step.loss, b * c + (1.0 - b) * gp);
        let model = (1.0 + self.lr * self.weight_decay) * (loss - k * self.lower_bound - c) + mp;
        let tau = if mu <= f64::EPSILON {
            0.0
        } else {
            (model.max(0.0) / mu).min(self.lr / k)
        };
        Scalars::new([loss, c, tau])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let decay = self.lr * self.weight_decay;
        ModelBasedAdam {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            root: f(1.0 / step.root_of_correction(1)),
            eps: f(self.eps),
            decay: f(decay / (1.0 + decay)),
            tau: f(step.scalars[2]),
        }
    }
}
