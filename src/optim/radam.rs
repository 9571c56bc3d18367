use super::*;

algorithm! {
    /// Adam with a rectified adaptive learning rate: the first steps, in which the variance of the
    /// second moment is intractable, are plain momentum.
    ///
    /// A substitute for learning-rate warm-up.
    ///
    /// # Update rule
    ///
    /// With `g` the gradient, negated if `maximize`, and then `g <- g + weight_decay p` unless
    /// `decoupled_weight_decay`:
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// n = 2 / (1 - beta2) - 1,  nt = n - 2 t beta2^t / (1 - beta2^t)
    /// nt > threshold:  r = sqrt((nt - 4)(nt - 2) n / ((n - 4)(n - 2) nt))
    ///                  p <- p - lr m / (1 - beta1^t) r sqrt(1 - beta2^t) / (sqrt(v) + eps)
    /// else:            p <- p - lr m / (1 - beta1^t)
    /// eps_uncorrected false:   eps sqrt(1 - beta2^t) in place of eps
    /// decoupled_weight_decay:  p <- p - lr weight_decay p as well
    /// ```
    ///
    /// This is `torch.optim.RAdam`. optax adds eps to the root after its bias correction. The paper
    /// has no eps, and a threshold of 4.
    ///
    /// # Hyper-parameters
    ///
    /// - `lr`: once rectified, a step is about `r lr` in the parameter's own unit, and r approaches
    ///   1. The first steps are proportional to the gradient instead: five with the default `betas`
    ///   and `threshold`.
    /// - The closer beta2 is to 1, the slower r approaches 1.
    ///
    /// The presets differ in eps and threshold: [`RAdam::optax`] corrects the bias of the root
    /// before eps is added, [`RAdam::paper`] has no eps and a threshold of 4.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// L. Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond",
    /// [arXiv:1908.03265](https://arxiv.org/abs/1908.03265).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, RAdam};
    ///
    /// let mut optimizer = Optimizer::new(RAdam::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.95).abs() < 1e-6 && (theta[1] + 1.975).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    RAdam = "radam" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Adds eps to the root before its bias correction.
        eps_uncorrected: bool = true;
        /// Length of the approximated moving average above which the second moment is used.
        threshold: f64 [>= 4] = 5.0;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Decouples the weight decay, as in AdamW.
        decoupled_weight_decay: bool = false;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.RAdam`: the defaults.
        torch {}
        /// `optax.radam`: eps is added to the root after its bias correction.
        optax { eps_uncorrected: false }
        /// Algorithm 2 of the paper: no eps, and a threshold of 4.
        paper { eps: 0.0, threshold: 4.0 }
    }
}

/// Adam's update where it is rectified, otherwise a step along the first moment.
#[derive(Clone, Copy, Debug)]
pub struct RectifiedMoments<A> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    eps: A,
    step_size: A,
    is_rectified: bool,
}

impl<A: Element> Rule for RectifiedMoments<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let v = self.v.update(v, g);
        let u = if self.is_rectified {
            m.over(v.sqrt() + self.eps)
        } else {
            m
        };
        (self.step_size * u, [m, v])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

impl Algorithm for RAdam {
    type Kernel<A: Element> =
        Either<WithCoupled<RectifiedMoments<A>>, WithDecoupled<RectifiedMoments<A>>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let (t, correction) = (step.t as f64, step.correction(1));
        let n = 2.0 / (1.0 - self.betas.1) - 1.0;
        let nt = n - 2.0 * t * (1.0 - correction) / correction;
        let (root, is_rectified) = (correction.sqrt(), nt > self.threshold);
        let factor = ((nt - 4.0) * (nt - 2.0) * n / ((n - 4.0) * (n - 2.0) * nt)).sqrt() * root;
        let rule = RectifiedMoments {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            eps: f(if self.eps_uncorrected {
                self.eps
            } else {
                self.eps * root
            }),
            step_size: f(self.lr / step.correction(0) * if is_rectified { factor } else { 1.0 }),
            is_rectified,
        };
        if self.decoupled_weight_decay {
            Either::Right(decoupled(rule, self.lr, self.weight_decay))
        } else {
            Either::Left(coupled(rule, self.weight_decay))
        }
    }
}
