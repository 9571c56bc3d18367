use super::*;

algorithm! {
    /// Prodigy: AdamW with an estimate d of the distance to the solution as its learning rate.
    ///
    /// # Update rule
    ///
    /// With L the learning rate of a step, sums over all arrays of all groups with this algorithm,
    /// x0 the initial p, and d from `d0`:
    ///
    /// ```text
    /// L = d lr sqrt(1 - beta2^t) / (1 - beta1^t),  beta3 = sqrt(beta2)
    /// m <- beta1 m + (1 - beta1) d g,  v <- beta2 v + (1 - beta2) d^2 g^2
    /// r <- beta3 r + d / d0 L <g, x0 - p>,  s <- beta3 s + d / d0 L g
    /// d_new = max(d, d_coef r / sum |s|)
    /// p <- p - L m / (sqrt(v) + d_new eps) - weight_decay L p,  d <- d_new
    ///
    /// with safeguard_warmup:  s <- beta3 s + d / d0 d g
    /// with growth_rate:       d_max <- max(d_max, d_coef r / sum |s|)
    ///                         d_new = min(d_max, growth_rate d),  but d_max if d is still d0
    /// ```
    ///
    /// This is `optax.contrib.prodigy`, with x0 - p accumulated as the sum of all steps, which is
    /// exact where the difference cancels. The authors' package prodigyopt, whose names the options
    /// have, calls `bias_correction` `use_bias_correction` and has it off.
    ///
    /// # Hyper-parameters
    ///
    /// Leave `lr` at 1, or drive it by a schedule whose peak is 1. `d0` is a lower bound of the
    /// estimate, which never decreases; `d_coef` scales it. If a schedule warms `lr` up, set
    /// `safeguard_warmup`: the small rates of the first steps would otherwise make the estimate too
    /// large. A `growth_rate` such as 1.02 limits the growth of the estimate in each step, which
    /// acts like a warm-up.
    ///
    /// Groups share one estimate d, as in the authors' code, unless `per_group` is set. They must
    /// agree in `betas`, `d0`, `d_coef`, `bias_correction` and `growth_rate`. Their `lr` may differ: a group with
    /// a tenth of it makes a tenth of the steps, and counts in the estimate accordingly, as with
    /// `layer_scale` in the authors' `DAdaptAdam`. A new or frozen group takes part as soon as it
    /// has gradients.
    ///
    /// # State
    ///
    /// `exp_avg`, `exp_avg_sq`, `s` and `displacement`, in the shape of the parameter, and the
    /// scalars d, r and d_max of the group.
    ///
    /// # Reference
    ///
    /// K. Mishchenko, A. Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
    /// [arXiv:2306.06101](https://arxiv.org/abs/2306.06101).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Prodigy};
    ///
    /// let mut optimizer = Optimizer::new(Prodigy::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.999999).abs() < 1e-8 && (theta[1] + 1.999999).abs() < 1e-8);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Prodigy = "prodigy" {
        /// Factor on the estimated learning rate.
        lr: f64 [>= 0] = 1.0;
        /// Decay rates of the first and second moments.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Initial estimate d.
        d0: f64 [> 0] = 1e-6;
        /// Factor on the estimate.
        d_coef: f64 [> 0] = 1.0;
        /// Bias correction: the factor sqrt(1 - beta2^t) / (1 - beta1^t) of L.
        bias_correction: bool = true;
        /// Leaves lr and the bias correction out of the denominator of the estimate.
        safeguard_warmup: bool = false;
        /// The most that the estimate grows by in a step, as a factor; `None` for no limit.
        growth_rate: Option<f64> [>= 1] = None;
        /// Estimates d for this group alone, not for all groups with this algorithm together.
        per_group: bool = false;
        /// Decoupled weight decay: each step subtracts `weight_decay L p`.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// Adam's rule on gradients scaled by the estimate d, with the sums for the next estimate.
#[derive(Clone, Copy, Debug)]
pub struct DistanceScaledMoments<A> {
    beta1: A,
    g_scale: A,
    beta2: A,
    square_scale: A,
    beta3: A,
    s_scale: A,
    l: A,
    eps: A,
    decay: A,
    /// Groups with another learning rate can share the sums.
    lr: A,
}

impl<A: Element> Rule for DistanceScaledMoments<A> {
    type Elem = A;
    type State = [A; 4];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "s", "displacement"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m, v, s, displacement]: [A; 4]) -> (A, [A; 4]) {
        let m = self.beta1 * m + self.g_scale * g;
        let v = self.beta2 * v + (self.square_scale * g) * g;
        let s = self.beta3 * s + self.s_scale * g;
        let delta = self.l * m.over(v.sqrt() + self.eps) + self.decay * p;
        (delta, [m, v, s, displacement + delta])
    }
    fn floors(&self) -> [A; 4] {
        [smallest(), smallest(), smallest(), A::ZERO]
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, [_, _, s, displacement]: [A; 4]) -> Terms<A> {
        let s = self.beta3 * s + self.s_scale * g;
        Terms::new([(self.lr * g, displacement), (s.abs(), A::one())])
    }
}

/// The learning rate L of a step, shared with [`DAdaptAdamW`].
pub(super) fn rate(lr: f64, step: &StepContext, d: f64) -> f64 {
    d * lr / step.correction(0) * step.root_of_correction(1)
}

impl Algorithm for Prodigy {
    type Kernel<A: Element> = DistanceScaledMoments<A>;
    const DEMANDS: Demands = Demands::NONE.global_sums();

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    fn shared(&self) -> Option<Vec<(&'static str, f64)>> {
        let fields = vec![
            ("betas[0]", self.betas.0),
            ("betas[1]", self.betas.1),
            ("d0", self.d0),
            ("d_coef", self.d_coef),
            ("bias_correction", f64::from(u8::from(self.bias_correction))),
            ("growth_rate", self.growth_rate.unwrap_or(f64::INFINITY)),
        ];
        (!self.per_group).then_some(fields)
    }

    fn initial_scalars(&self) -> Scalars {
        Scalars::new([self.d0, 0.0, self.d0])
    }

    /// The new d, r, the d of this step, and the largest estimate.
    fn update_scalars(&self, step: &StepContext, &Sums([gx, s, ..]): &Sums) -> Scalars {
        let Scalars([d, r, _, largest]) = step.scalars;
        let r = self.betas.1.sqrt() * r + d / self.d0 * rate(1.0, step, d) * gx;
        // At first, and in states of earlier versions, there is none but d.
        let largest = largest.max(d);
        if s <= 0.0 {
            return Scalars::new([d, r, d, largest]);
        }
        let largest = largest.max(self.d_coef * r / s);
        let new = match self.growth_rate {
            Some(growth) if d > self.d0 => largest.min(growth * d),
            _ => largest,
        };
        Scalars::new([new, r, d, largest])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let Scalars([new, _, old, _]) = step.scalars;
        let old = if step.sums_pending { new } else { old };
        let l = rate(self.lr, step, old);
        // A group that stands still has no part in the estimate.
        let in_estimate = if self.safeguard_warmup && self.lr > 0.0 {
            old
        } else {
            l
        };
        DistanceScaledMoments {
            beta1: f(self.betas.0),
            g_scale: f((1.0 - self.betas.0) * old),
            beta2: f(self.betas.1),
            square_scale: f((1.0 - self.betas.1) * old * old),
            beta3: f(self.betas.1.sqrt()),
            s_scale: f(old / self.d0 * in_estimate),
            l: f(l),
            eps: f(new * self.eps),
            decay: f(self.weight_decay * l),
            lr: f(self.lr),
        }
    }
}
