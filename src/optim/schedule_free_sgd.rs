use super::*;

hyper_parameters! {
    /// SGD with averaging in place of a learning-rate schedule: gradients are taken at y, between the iterate z and the
    /// average x of all z. Train at y (the array you lend); evaluate at x, from
    /// [`Optimizer::evaluation`](crate::Optimizer::evaluation).
    ///
    /// ```text
    /// h = lr min(1, t / warmup_steps),  w = t^r (largest h so far)^weight_lr_power,  c = w / (sum of all w)
    /// e = g + weight_decay y
    /// y <- y + c (z - y) + h (momentum (1 - c) - 1) e,  z <- z - h e          y = z = p at first
    /// x = z + (y - z) / momentum
    /// ```
    ///
    /// This is `schedulefree.SGDScheduleFree` of the authors.
    /// Source: A. Defazio et al., arXiv:2405.15682. State: `z`.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, ScheduleFreeSgd};
    ///
    /// let mut optimizer = Optimizer::new(ScheduleFreeSgd::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.95).abs() < 1e-6 && (theta[1] + 1.975).abs() < 1e-6);
    /// let x = optimizer.evaluation("variable", theta.view().into_dyn());
    /// assert!((x[0] - 0.95).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "schedule_free_sgd" ScheduleFreeSgd {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Interpolation between z and x at which gradients are taken, in (0, 1).
        momentum: f64 = 0.9,
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

/// e = g + weight_decay y, times what enters y and z.
#[derive(Clone, Copy, Debug)]
pub struct Interpolated<A> {
    c: A,
    of_y: A,
    of_z: A,
}

impl<A: Element> Interpolated<A> {
    #[inline(always)]
    pub fn new([_, _, c, h]: Scalars, momentum: f64) -> Self {
        Interpolated { c: A::of(c), of_y: A::of(h * (1.0 - momentum * (1.0 - c))), of_z: A::of(h) }
    }

    /// What is taken from y, and the new z.
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

pub(super) fn average(now: &Now, lr: f64, warmup_steps: f64, r: f64, power: f64) -> Scalars {
    let ([sum, largest, ..], t) = (now.scalars, now.t as f64);
    let h = if warmup_steps > 0.0 { lr * (t / warmup_steps).min(1.0) } else { lr };
    let largest = largest.max(h);
    let weight = t.powf(r) * largest.powf(power);
    let sum = sum + weight;
    [sum, largest, if sum > 0.0 { weight / sum } else { 0.0 }, h]
}

pub(super) fn evaluation_point<A: Element>(y: A, z: A, momentum: f64) -> A {
    z + (y - z) / A::of(momentum)
}

pub(super) fn validate(lr: f64, momentum: f64, rest: [(&'static str, f64); 4]) -> Result<(), Error> {
    check::non_negative("lr", lr)?;
    check::that(momentum > 0.0 && momentum < 1.0, "momentum", momentum, "a number in (0, 1)")?;
    rest.into_iter().try_for_each(|(field, value)| check::non_negative(field, value))
}

impl Algorithm for ScheduleFreeSgd {
    type Kernel<A: Element> = WithCoupled<Interpolated<A>>;

    fn validate(&self) -> Result<(), Error> {
        let rest = [
            ("weight_decay", self.weight_decay),
            ("warmup_steps", self.warmup_steps),
            ("r", self.r),
            ("weight_lr_power", self.weight_lr_power),
        ];
        validate(self.lr, self.momentum, rest)
    }

    /// The sum of weights so far, the largest rate so far, the weight of z in y, the rate.
    fn absorb(&self, now: &Now, _sums: &[f64; MAX_TERMS]) -> Scalars {
        average(now, self.lr, self.warmup_steps, self.r, self.weight_lr_power)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        coupled(Interpolated::new(now.scalars, self.momentum), self.weight_decay)
    }

    fn evaluate<A: Element>(&self, p: A, state: &Lane<'_, A>) -> A {
        state.get("z").map_or(p, |z| evaluation_point(p, z, self.momentum))
    }
}
