use super::*;

hyper_parameters! {
    /// SGD with momentum and a model-based adaptive learning rate of at most lr: a lower model of the objective, from
    /// running averages of losses and gradients, gives the step size.
    ///
    /// ```text
    /// b = 0 at the first step, beta later; sums over all arrays of a group
    /// F <- b F + (1 - b) f,  d <- b d + (1 - b) g,  c <- b c + (1 - b) <g, p>
    /// tau = min(lr, max((1 + lr weight_decay) (F - lower_bound - c) + <d, p>, 0) / |d|^2)
    /// p <- p / (1 + lr weight_decay) - tau d
    /// ```
    ///
    /// This is `optax.contrib.momo`. Needs the value of the objective: [`Params::loss`](crate::Params::loss) or
    /// [`update_with_loss`](crate::Optimizer::update_with_loss).
    /// Source: F. Schaipp et al., arXiv:2305.07583. State: `exp_avg`, and F, c.
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
    "momo" Momo {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Decay rate of the running averages, in [0, 1).
        beta: f64 = 0.9,
        /// A lower bound on the objective.
        lower_bound: f64 = 0.0,
        /// Weight decay, >= 0: parameters are divided by 1 + lr weight_decay.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Model<A> {
    d: Average<A>,
    decay: A,
    tau: A,
}

impl<A: Element> Rule for Model<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 3;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [d]: [A; 1]) -> (A, [A; 1]) {
        let d = self.d.step(d, g);
        (self.decay * p + self.tau * d, [d])
    }
    const TERMS: usize = 3;
    #[inline(always)]
    fn terms(&self, p: A, g: A, [d]: [A; 1]) -> [f64; MAX_TERMS] {
        let d = self.d.step(d, g).f64();
        let (p, g) = (p.f64(), g.f64());
        [g * p, d * d, d * p, 0.0]
    }
}

impl Momo {
    fn b(&self, t: u64) -> f64 {
        if t == 1 { 0.0 } else { self.beta }
    }
}

impl Algorithm for Momo {
    type Kernel<A: Element> = Model<A>;
    const GLOBAL: bool = true;
    const LOSS: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("beta", self.beta)?;
        check::that(self.lower_bound.is_finite(), "lower_bound", self.lower_bound, "a finite number")?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    /// The averages F and c, and tau.
    fn absorb(&self, now: &Now, &[gp, dd, dp, _]: &[f64; MAX_TERMS]) -> Scalars {
        let ([loss, c, ..], b) = (now.scalars, self.b(now.t));
        let (loss, c) = (b * loss + (1.0 - b) * now.loss, b * c + (1.0 - b) * gp);
        let model = (1.0 + self.lr * self.weight_decay) * (loss - self.lower_bound - c) + dp;
        [loss, c, if dd <= f64::EPSILON { 0.0 } else { (model.max(0.0) / dd).min(self.lr) }, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let (b, decay) = (self.b(now.t), self.lr * self.weight_decay);
        Model { d: Average::new(b), decay: f(decay / (1.0 + decay)), tau: f(now.scalars[2]) }
    }
}
