use super::{
    schedule_free_sgd::{Interpolated, average, evaluation_point},
    *,
};

algorithm! {
    /// Schedule-Free AdamW: AdamW with iterate averaging in place of a learning-rate schedule.
    ///
    /// Gradients are taken at `y`, a point between the iterate `z` and the average `x` of all `z`.
    /// The array passed to [`Optimizer::update`](crate::Optimizer::update) is `y`: train at `y`,
    /// and evaluate the model at `x`, which [`Optimizer::evaluate`](crate::Optimizer::evaluate)
    /// returns.
    ///
    /// # Update rule
    ///
    /// ```text
    /// h, w, c as in `ScheduleFreeSgd`
    /// v <- beta2 v + (1 - beta2) g^2,  e = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y
    /// y <- y + c (z - y) + h (beta1 (1 - c) - 1) e,  z <- z - h e             y = z = p at first
    /// x = z + (y - z) / beta1
    /// ```
    ///
    /// [`ScheduleFreeSgd`](crate::ScheduleFreeSgd) defines `h`, `w` and `c`. This is the authors'
    /// `schedulefree.AdamWScheduleFree`.
    ///
    /// # Hyper-parameters
    ///
    /// As in AdamW, each element of `z` moves by about `lr` per step in the parameter's own unit.
    /// `lr` needs no decay: set `warmup_steps` if a warm-up is wanted.
    ///
    /// # State
    ///
    /// `z` and `exp_avg_sq`, in the shape of the parameter; the sum of all `w` and the largest `h`
    /// so far as scalars.
    ///
    /// # Reference
    ///
    /// A. Defazio et al., "The Road Less Scheduled",
    /// [arXiv:2405.15682](https://arxiv.org/abs/2405.15682).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, ScheduleFreeAdamW};
    ///
    /// let mut optimizer = Optimizer::new(ScheduleFreeAdamW::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ScheduleFreeAdamW = "schedule_free_adamw" {
        /// Learning rate.
        lr: f64 [>= 0] = 2.5e-3;
        /// Interpolation factor between `z` and `x`, and decay rate of the second moment.
        betas: (f64, f64) [> 0, < 1; in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Weight decay at `y`, the point where gradients are taken.
        weight_decay: f64 [>= 0] = 0.0;
        /// Number of warm-up steps over which the learning rate grows linearly to `lr`.
        warmup_steps: f64 [>= 0] = 0.0;
        /// Power of `t` in the weights of the average.
        r: f64 [>= 0] = 0.0;
        /// Power of the largest learning rate so far in the weights of the average.
        weight_lr_power: f64 [>= 0] = 2.0;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct AdaptiveInterpolated<A> {
    point: Interpolated<A>,
    v: AverageOfSquares<A>,
    root: A,
    eps: A,
    weight_decay: A,
}

impl<A: Element> Rule for AdaptiveInterpolated<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["z", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [z, v]: [A; 2]) -> (A, [A; 2]) {
        let v = self.v.update(v, g);
        let e = (self.root * g).over(v.sqrt() + self.eps) + self.weight_decay * p;
        let (delta, z) = self.point.step(p, e, z);
        (delta, [z, v])
    }
    fn floors(&self) -> [A; 2] {
        [A::ZERO, self.v.floor]
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 2] {
        [p, A::ZERO]
    }
}

impl Algorithm for ScheduleFreeAdamW {
    type Kernel<A: Element> = AdaptiveInterpolated<A>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    /// The sum of weights so far, the largest learning rate so far, the weight of `z` in `y`, and
    /// the learning rate of this step.
    fn update_scalars(&self, step: &StepContext, _sums: &Sums) -> Scalars {
        average(
            step,
            self.lr,
            self.warmup_steps,
            self.r,
            self.weight_lr_power,
        )
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let root = step.root_of_correction(1);
        AdaptiveInterpolated {
            point: Interpolated::new(step.scalars, self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            root: f(root),
            eps: f(self.eps * root),
            weight_decay: f(self.weight_decay),
        }
    }

    fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        state
            .get("z")
            .map_or(p, |z| evaluation_point(p, z, self.betas.0))
    }
}
