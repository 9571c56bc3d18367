use super::*;

algorithm! {
    /// DoG, distance over gradients: SGD without a learning rate to tune.
    ///
    /// The learning rate is the distance from the initial point over the root of the summed squared
    /// gradient norms.
    ///
    /// # Update rule
    ///
    /// With `g <- g + weight_decay p`, sums over all arrays of a group, and x0 the initial p:
    ///
    /// ```text
    /// r <- max(r, |p - x0|)                  from reps_rel (1 + |x0|)
    /// N <- N + |g|^2                         from 0
    /// p <- p - lr r / sqrt(N + eps) g
    /// ```
    ///
    /// This is `optax.contrib.dog`, with p - x0 accumulated as the sum of all steps.
    ///
    /// # Hyper-parameters
    ///
    /// Leave `lr` at 1. `reps_rel` sets the length of the first step, about `reps_rel (1 + |x0|)`.
    ///
    /// # State
    ///
    /// `displacement`, in the shape of the parameter, and the scalars r and N.
    ///
    /// # Reference
    ///
    /// M. Ivgi, O. Hinder, Y. Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size
    /// Schedule", [arXiv:2302.12022](https://arxiv.org/abs/2302.12022).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Dog, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Dog::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 1.0).abs() < 1e-5 && (theta[1] + 2.0).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Dog = "dog" {
        /// Factor on the estimated learning rate.
        lr: f64 [>= 0] = 1.0;
        /// Initial step relative to the norm of the parameters.
        reps_rel: f64 [> 0] = 1e-6;
        /// Added under the root for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Gradient descent that also sums its steps: the sum is exact where p - x0 cancels.
#[derive(Clone, Copy, Debug)]
pub struct Travelled<A> {
    rate: A,
}

impl<A: Element> Travelled<A> {
    #[inline(always)]
    pub fn new(rate: f64) -> Self {
        Travelled {
            rate: A::from_f64(rate),
        }
    }
}

impl<A: Element> Rule for Travelled<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["displacement"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [displacement]: [A; 1]) -> (A, [A; 1]) {
        let delta = self.rate * g;
        (delta, [displacement + delta])
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, [x]: [A; 1]) -> Terms<A> {
        Terms::new([(x, x), (g, g)])
    }
}

/// The rule of the first step, which also measures the parameter.
#[derive(Clone, Copy, Debug)]
pub struct Departing<A>(Travelled<A>);

impl<A: Element> Rule for Departing<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = Travelled::<A>::STATE;
    const COST: u64 = Travelled::<A>::COST;
    #[inline(always)]
    fn delta(&self, p: A, g: A, state: [A; 1]) -> (A, [A; 1]) {
        self.0.delta(p, g, state)
    }
    const TERMS: usize = 3;
    #[inline(always)]
    fn terms(&self, p: A, g: A, state: [A; 1]) -> Terms<A> {
        let Terms([moved, g, ..]) = Rule::terms(&self.0, p, g, state);
        Terms::new([moved, g, (p, p)])
    }
}

impl Algorithm for Dog {
    type Kernel<A: Element> = Either<WithCoupled<Travelled<A>>, WithCoupled<Departing<A>>>;
    const DEMANDS: Demands = Demands::NONE.global_sums();

    /// r, N and the estimated learning rate.
    fn update_scalars(&self, step: &StepContext, &Sums([moved, g, start, _]): &Sums) -> Scalars {
        let Scalars([r, n, ..]) = step.scalars;
        let r = if step.t == 1 {
            self.reps_rel * (1.0 + start.sqrt())
        } else {
            r.max(moved.sqrt())
        };
        let n = n + g;
        let root = (n + self.eps).sqrt();
        let rate = if root > 0.0 { self.lr * r / root } else { 0.0 };
        Scalars::new([r, n, rate])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let rule = Travelled::new(step.scalars[2]);
        if step.sums_pending && (step.t == 1 || step.scalars[0] == 0.0) {
            Either::Right(coupled(Departing(rule), self.weight_decay))
        } else {
            Either::Left(coupled(rule, self.weight_decay))
        }
    }
}
