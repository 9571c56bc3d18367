use super::*;

algorithm! {
    /// Adam: bias-corrected running averages of the gradient and of its square.
    ///
    /// # Update rule
    ///
    /// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p`:
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g         from m = 0
    /// v <- beta2 v + (1 - beta2) g^2       from v = 0
    /// p <- p - lr m' / (sqrt(v') + eps)    with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    /// amsgrad:            v' = max over all steps so far of v, / (1 - beta2^t)
    /// amsgrad_corrected:  v' = max over all steps so far of v / (1 - beta2^t)
    /// eps_uncorrected:    eps / sqrt(1 - beta2^t) in place of eps
    /// bias_correction false:  m and v in place of m' and v'
    /// ```
    ///
    /// This is `torch.optim.Adam`. `amsgrad_corrected` follows optax, which takes the maximum after
    /// the bias correction. `eps_uncorrected` adds `eps` to the root before its bias correction, as
    /// keras and the "epsilon hat" of the paper do.
    ///
    /// # Hyper-parameters
    ///
    /// A step moves each parameter by about `lr` in the parameter's own unit, whatever the scale of
    /// its gradients. `weight_decay` is an L2 penalty and passes through both moments;
    /// [`AdamW`](crate::AdamW) decouples it. A larger `eps` damps the steps of parameters whose
    /// gradients are small. The presets differ in `eps`, in where it is added, and in the order of
    /// maximum and bias correction with `amsgrad`.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter; with `amsgrad` also
    /// `max_exp_avg_sq`.
    ///
    /// # Reference
    ///
    /// D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization",
    /// [arXiv:1412.6980](https://arxiv.org/abs/1412.6980). AMSGrad: S. J. Reddi, S. Kale, S. Kumar,
    /// "On the Convergence of Adam and Beyond",
    /// [arXiv:1904.09237](https://arxiv.org/abs/1904.09237).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adam, Optimizer};
    ///
    /// let mut adam = Optimizer::new(Adam { lr: 0.1, betas: (0.9, 0.99), ..Default::default() });
    /// let mut theta = array![1.0, -2.0];
    /// adam.update(&mut theta, &array![1e-3, 1e3])?;
    /// // The first step is lr in the direction of the sign, at any scale.
    /// assert!((theta[0] - 0.9_f64).abs() < 1e-5 && (theta[1] + 2.1).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Adam = "adam" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Adds eps to the root before its bias correction.
        eps_uncorrected: bool = false;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Divides by the root of the maximum of all second moments so far (AMSGrad).
        amsgrad: bool = false;
        /// With `amsgrad`, takes the maximum of the bias-corrected second moments.
        amsgrad_corrected: bool = false;
        /// Bias correction: divides the moments by 1 - beta^t.
        bias_correction: bool = true;
        /// Maximizes the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.Adam`: the defaults.
        torch {}
        /// `optax.adam`: with `amsgrad`, `optax.amsgrad`.
        optax { amsgrad_corrected: true }
        /// `keras.optimizers.Adam`: a larger `eps`, added before the bias correction.
        keras { eps: 1e-7, eps_uncorrected: true }
        /// Algorithm 1 of the paper: the defaults.
        paper {}
    }
}

/// The rule of Adam. The bias corrections are folded into two scalars: m' / (sqrt(v') + eps) = c m
/// / (sqrt(v) + eps sqrt(1 - beta2^t)).
#[derive(Clone, Copy, Debug)]
pub struct Moments<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    step_size: A,
    eps: A,
}

impl<A: Element> Moments<A> {
    #[inline(always)]
    pub fn new(lr: f64, (beta1, beta2): (f64, f64), eps: f64, step: &StepContext) -> Self {
        let f = A::from_f64;
        let root = step.root_of_correction(1);
        Moments {
            m: RunningAverage::new(beta1),
            v: AverageOfSquares::new(beta2, eps),
            step_size: f(lr / step.correction(0) * root),
            eps: f(eps * root),
        }
    }

    /// The new first and second moment.
    #[inline(always)]
    pub fn moments(&self, g: A, m: A, v: A) -> (A, A) {
        (self.m.update(m, g), self.v.update(v, g))
    }

    /// The update `lr m' / (sqrt(v') + eps)`.
    #[inline(always)]
    pub fn update(&self, m: A, v: A) -> A {
        self.step_size * m.over(v.sqrt() + self.eps)
    }
}

impl<A: Element> Rule for Moments<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let (m, v) = self.moments(g, m, v);
        (self.update(m, v), [m, v])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

/// The number to add to the bias-corrected root: `eps` itself, or its equivalent there if it
/// belongs to the root before the bias correction.
#[inline(always)]
pub(super) fn placed(eps: f64, uncorrected: bool, step: &StepContext) -> f64 {
    if uncorrected {
        eps / step.root_of_correction(1)
    } else {
        eps
    }
}

/// The rule of AMSGrad.
#[derive(Clone, Copy, Debug)]
pub struct AmsGrad<A> {
    moments: Moments<A>,
    /// Multiplies v before the maximum is taken: 1, or the inverse of the bias correction.
    scale: A,
}

impl<A: Element> AmsGrad<A> {
    /// `lr` and `eps` must be those that `moments` was made with.
    #[inline(always)]
    pub fn new(
        mut moments: Moments<A>,
        corrected: bool,
        lr: f64,
        eps: f64,
        step: &StepContext,
    ) -> Self {
        let mut scale = A::one();
        if corrected {
            scale = A::from_f64(1.0 / step.correction(1));
            moments.step_size = A::from_f64(lr / step.correction(0));
            moments.eps = A::from_f64(eps);
        }
        AmsGrad { moments, scale }
    }
}

impl<A: Element> Rule for AmsGrad<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v, max]: [A; 3]) -> (A, [A; 3]) {
        let (m, v) = self.moments.moments(g, m, v);
        let new = self.scale * v;
        // In this order, so that a NaN in v propagates.
        let max = if new < max { max } else { new };
        (self.moments.update(m, max), [m, v, max])
    }
    fn floors(&self) -> [A; 3] {
        let [m, v] = Rule::floors(&self.moments);
        [m, v, A::ZERO]
    }
}

impl Algorithm for Adam {
    type Kernel<A: Element> = Either<WithCoupled<Moments<A>>, WithCoupled<AmsGrad<A>>>;
    const DEMANDS: Demands = Demands::NONE.row_wise();

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let eps = placed(self.eps, self.eps_uncorrected, step);
        let rule = Moments::new(self.lr, self.betas, eps, step);
        if self.amsgrad {
            Either::Right(coupled(
                AmsGrad::new(rule, self.amsgrad_corrected, self.lr, eps, step),
                self.weight_decay,
            ))
        } else {
            Either::Left(coupled(rule, self.weight_decay))
        }
    }
}
