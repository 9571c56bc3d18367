use super::*;

algorithm! {
    /// SGD with averaging in place of a learning-rate schedule.
    ///
    /// Gradients are taken at y, between the iterate z and the average x of all z. Train at y, the
    /// array passed to [`Optimizer::update`](crate::Optimizer::update), and evaluate at x, which
    /// [`Optimizer::evaluate`](crate::Optimizer::evaluate) returns.
    ///
    /// # Update rule
    ///
    /// ```text
    /// h = lr min(1, t / warmup_steps)
    /// w = t^r (largest h so far)^weight_lr_power,  c = w / (sum of all w)
    /// e = g + weight_decay y
    /// y <- y + c (z - y) + h (momentum (1 - c) - 1) e,  z <- z - h e          y = z = p at first
    /// x = z + (y - z) / momentum
    /// ```
    ///
    /// This is `schedulefree.SGDScheduleFree` of the authors.
    ///
    /// # Hyper-parameters
    ///
    /// - `lr` stays constant after the warm-up.
    /// - `momentum` is the weight of x in y: `y = momentum x + (1 - momentum) z`.
    /// - By default, with `r` = 0 and without warm-up, x is the plain mean of the iterates while
    ///   `lr` is constant. A larger `r` gives later iterates more weight; `weight_lr_power` gives
    ///   those of the warm-up less.
    ///
    /// # State
    ///
    /// `z`, in the shape of the parameter; the sum of all w and the largest h so far as scalars.
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
    /// use ndarray_optim::{Optimizer, ScheduleFreeSgd};
    ///
    /// let mut optimizer = Optimizer::new(ScheduleFreeSgd::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.95).abs() < 1e-6 && (theta[1] + 1.975).abs() < 1e-6);
    /// let x = optimizer.evaluate(&theta)?;
    /// assert!((x[0] - 0.95).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ScheduleFreeSgd = "schedule_free_sgd" {
        /// Learning rate.
        lr: f64 [>= 0] = 1.0;
        /// Interpolation between z and x at which gradients are taken.
        momentum: f64 [> 0, < 1] = 0.9;
        /// Weight decay at the point y where gradients are taken.
        weight_decay: f64 [>= 0] = 0.0;
        /// Warm-up steps over which the learning rate grows linearly to lr.
        warmup_steps: f64 [>= 0] = 0.0;
        /// Power of t in the weights of the average.
        r: f64 [>= 0] = 0.0;
        /// Power of the largest learning rate so far in the weights of the average.
        weight_lr_power: f64 [>= 0] = 2.0;
    }
}

/// The step of y and z along e = g + weight_decay y.
#[derive(Clone, Copy, Debug)]
pub struct Interpolated<A> {
    c: A,
    /// Step size of y along e.
    of_y: A,
    /// Step size of z along e.
    of_z: A,
}

impl<A: Element> Interpolated<A> {
    #[inline(always)]
    pub fn new(Scalars([_, _, c, h]): Scalars, momentum: f64) -> Self {
        Interpolated {
            c: A::from_f64(c),
            of_y: A::from_f64(h * (1.0 - momentum * (1.0 - c))),
            of_z: A::from_f64(h),
        }
    }

    /// What is subtracted from y, and the new z.
    #[inline(always)]
    pub fn step(&self, y: A, e: A, z: A) -> (A, A) {
        (self.c * (y - z) + self.of_y * e, z - self.of_z * e)
    }
}

impl<A: Element> Rule for Interpolated<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["z"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [z]: [A; 1]) -> (A, [A; 1]) {
        let (delta, z) = self.step(p, g, z);
        (delta, [z])
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 1] {
        [p]
    }
}

/// The scalars of this step: the sum of all w and the largest h so far, then c and h.
pub(super) fn average(
    step: &StepContext,
    lr: f64,
    warmup_steps: f64,
    r: f64,
    power: f64,
) -> Scalars {
    let Scalars([sum, largest, ..]) = step.scalars;
    let t = step.t as f64;
    let h = if warmup_steps > 0.0 {
        lr * (t / warmup_steps).min(1.0)
    } else {
        lr
    };
    let largest = largest.max(h);
    let weight = libm::pow(t, r) * libm::pow(largest, power);
    let sum = sum + weight;
    let c = if sum > 0.0 { weight / sum } else { 0.0 };
    Scalars::new([sum, largest, c, h])
}

/// The average x, from y and z.
pub(super) fn evaluation_point<A: Element>(y: A, z: A, momentum: f64) -> A {
    z + (y - z) / A::from_f64(momentum)
}

impl Algorithm for ScheduleFreeSgd {
    type Kernel<A: Element> = WithCoupled<Interpolated<A>>;

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
        coupled(
            Interpolated::new(step.scalars, self.momentum),
            self.weight_decay,
        )
    }

    fn evaluate<A: Element>(&self, p: A, state: &ElementState<'_, A>) -> A {
        state
            .get("z")
            .map_or(p, |z| evaluation_point(p, z, self.momentum))
    }
}
