use super::{
    schedule_free_sgd::{Interpolated, average, evaluation_point, validate},
    *,
};

hyper_parameters! {
    /// AdamW with averaging in place of a learning-rate schedule: gradients are taken at y, between the iterate z and the
    /// average x of all z. Train at y (the array you lend); evaluate at x, from
    /// [`Optimizer::evaluation`](crate::Optimizer::evaluation).
    ///
    /// ```text
    /// h, w, c as in `ScheduleFreeSgd`
    /// v <- beta2 v + (1 - beta2) g^2,  e = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y
    /// y <- y + c (z - y) + h (beta1 (1 - c) - 1) e,  z <- z - h e             y = z = p at first
    /// x = z + (y - z) / beta1
    /// ```
    ///
    /// This is `schedulefree.AdamWScheduleFree` of the authors.
    /// Source: A. Defazio et al., arXiv:2405.15682. State: `z`, `exp_avg_sq`.
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
    "schedule_free_adamw" ScheduleFreeAdamW {
        /// Learning rate, >= 0.
        lr: f64 = 2.5e-3,
        /// Interpolation between z and x at which gradients are taken, in (0, 1), and decay rate of the second moment, in
        /// [0, 1).
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Weight decay at the point y where gradients are taken, >= 0.
        weight_decay: f64 = 0.0,
        /// Warm-up steps over which the learning rate grows linearly to lr, >= 0.
        warmup_steps: f64 = 0.0,
        /// Power of t in the weights of the average, >= 0.
        r: f64 = 0.0,
        /// Power of the largest learning rate so far in these weights, >= 0.
        weight_lr_power: f64 = 2.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Adaptive<A> {
    point: Interpolated<A>,
    v: Average<A>,
    root: A,
    eps: A,
    weight_decay: A,
}

impl<A: Element> Rule for Adaptive<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["z", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [z, v]: [A; 2]) -> (A, [A; 2]) {
        let v = self.v.step(v, g * g);
        let e = (self.root * g).over(v.sqrt() + self.eps) + self.weight_decay * p;
        let (delta, z) = self.point.step(p, e, z);
        (delta, [z, v])
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 2] {
        [p, A::ZERO]
    }
}

impl Algorithm for ScheduleFreeAdamW {
    type Kernel<A: Element> = Adaptive<A>;

    fn validate(&self) -> Result<(), Error> {
        check::share("betas[1]", self.betas.1)?;
        check::non_negative("eps", self.eps)?;
        let rest = [
            ("weight_decay", self.weight_decay),
            ("warmup_steps", self.warmup_steps),
            ("r", self.r),
            ("weight_lr_power", self.weight_lr_power),
        ];
        validate(self.lr, self.betas.0, rest)
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    /// The sum of weights so far, the largest rate so far, the weight of z in y, the rate.
    fn absorb(&self, now: &Now, _sums: &[f64; MAX_TERMS]) -> Scalars {
        average(now, self.lr, self.warmup_steps, self.r, self.weight_lr_power)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let root = now.correction(1).sqrt();
        Adaptive {
            point: Interpolated::new(now.scalars, self.betas.0),
            v: Average::new(self.betas.1),
            root: f(root),
            eps: f(self.eps * root),
            weight_decay: f(self.weight_decay),
        }
    }

    fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
        state.get("z").map_or(p, |z| evaluation_point(p, z, self.betas.0))
    }
}
