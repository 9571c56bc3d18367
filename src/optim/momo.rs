use super::*;

algorithm! {
    /// MoMo: SGD with momentum and a model-based adaptive learning rate of at most `lr`.
    ///
    /// A lower model of the objective, built from running averages of losses and gradients, gives
    /// the step size. The value of the objective is required: [`Params::loss`](crate::Params::loss)
    /// or [`update_with_loss`](crate::Optimizer::update_with_loss).
    ///
    /// # Update rule
    ///
    /// With f the value of the objective, b = 0 at the first step and `beta` later, and sums over
    /// all arrays of a group:
    ///
    /// ```text
    /// F <- b F + (1 - b) f,  d <- b d + (1 - b) g,  c <- b c + (1 - b) <g, p>
    /// tau = min(lr, max((1 + lr weight_decay) (F - lower_bound - c) + <d, p>, 0) / |d|^2)
    /// p <- p / (1 + lr weight_decay) - tau d
    /// ```
    ///
    /// This is `optax.contrib.momo`.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` is the upper bound of the step size tau. `lower_bound` should not exceed the minimum of
    /// the objective; 0 suits losses that are never negative.
    ///
    /// # State
    ///
    /// `exp_avg` (d), in the shape of the parameter, and the scalars F and c.
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
    /// use ndarray_optim::{Momo, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Momo::new(1.0));
    /// let mut theta = array![3.0_f64, 4.0];
    /// let grad = theta.clone(); // of |theta|^2 / 2 = 12.5
    /// optimizer.update_with_loss(&mut theta, &grad, 12.5)?;
    /// assert_eq!(theta, array![1.5, 2.0]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Momo = "momo" {
        /// Learning rate: the largest step size.
        lr: f64 [>= 0] = 1.0;
        /// Decay rate of the running averages.
        beta: f64 [in 0..1] = 0.9;
        /// A lower bound on the objective.
        lower_bound: f64 [finite] = 0.0;
        /// Weight decay: parameters are divided by `1 + lr weight_decay`.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Momentum with the step size that the model of the objective gives.
#[derive(Clone, Copy, Debug)]
pub struct ModelBasedMomentum<A> {
    d: RunningAverage<A>,
    decay: A,
    tau: A,
}

impl<A: Element> Rule for ModelBasedMomentum<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 3;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [d]: [A; 1]) -> (A, [A; 1]) {
        let d = self.d.update(d, g);
        (self.decay * p + self.tau * d, [d])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
    const TERMS: usize = 3;
    #[inline(always)]
    fn terms(&self, p: A, g: A, [d]: [A; 1]) -> Terms<A> {
        let d = self.d.update(d, g);
        Terms::new([(g, p), (d, d), (d, p)])
    }
}

impl Momo {
    /// The decay rate at step `t`: the first step starts the averages.
    fn b(&self, t: u64) -> f64 {
        if t == 1 { 0.0 } else { self.beta }
    }
}

impl Algorithm for Momo {
    type Kernel<A: Element> = ModelBasedMomentum<A>;
    const DEMANDS: Demands = Demands::NONE.global_sums().loss();

    /// The running averages F and c, and tau.
    fn update_scalars(&self, step: &StepContext, &Sums([gp, dd, dp, _]): &Sums) -> Scalars {
        let (Scalars([loss, c, ..]), b) = (step.scalars, self.b(step.t));
        let (loss, c) = (b * loss + (1.0 - b) * step.loss, b * c + (1.0 - b) * gp);
        let model = (1.0 + self.lr * self.weight_decay) * (loss - self.lower_bound - c) + dp;
        let tau = if dd <= f64::EPSILON {
            0.0
        } else {
            (model.max(0.0) / dd).min(self.lr)
        };
        Scalars::new([loss, c, tau])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let (b, decay) = (self.b(step.t), self.lr * self.weight_decay);
        ModelBasedMomentum {
            d: RunningAverage::new(b),
            decay: f(decay / (1.0 + decay)),
            tau: f(step.scalars[2]),
        }
    }
}
