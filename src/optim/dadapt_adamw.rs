use super::{prodigy::rate, *};

algorithm! {
    /// D-Adapted AdamW: AdamW whose learning rate is an estimate `d` of the distance to the
    /// solution.
    ///
    /// `d` is a lower bound on that distance, so no learning rate has to be tuned.
    /// [`Prodigy`](crate::Prodigy) is its successor.
    ///
    /// # Update rule
    ///
    /// ```text
    /// L = d lr sqrt(1 - beta2^t) / (1 - beta1^t),  beta3 = sqrt(beta2)
    /// q = <g, s / (sqrt(v) + eps)>                              with the old s and v
    /// m <- beta1 m + (1 - beta1) L g,  v <- beta2 v + (1 - beta2) g^2
    /// s <- beta3 s + (1 - beta3) L g,  r <- beta3 r + (1 - beta3) L q
    /// d <- max(d, r / ((1 - beta3) sum |s|))
    /// p <- p - m / (sqrt(v) + eps) - weight_decay L p
    /// ```
    ///
    /// Inner products and sums run over all arrays of all groups with this algorithm. This is
    /// `optax.contrib.dadapt_adamw`.
    ///
    /// # Hyper-parameters
    ///
    /// Leave `lr` at 1: it multiplies `d`. `d` starts at `d0` and never decreases, so choose `d0`
    /// well below the distance to the solution.
    ///
    /// Groups share one estimate `d`, as in the authors' code, unless `per_group` is set. They must
    /// agree in `betas`, `d0` and `bias_correction`. Their `lr` may differ: in proportion to the
    /// largest one it is the `layer_scale` of the authors' code. A new or frozen group takes part
    /// as soon as it has gradients.
    ///
    /// # State
    ///
    /// `exp_avg`, `exp_avg_sq` and `s`, in the shape of the parameter, and the scalars `d` and `r`
    /// of the group.
    ///
    /// # Reference
    ///
    /// A. Defazio, K. Mishchenko, "Learning-Rate-Free Learning by D-Adaptation",
    /// [arXiv:2301.07733](https://arxiv.org/abs/2301.07733).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{DAdaptAdamW, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(DAdaptAdamW::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.999999).abs() < 1e-8 && (theta[1] + 1.999999).abs() < 1e-8);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    DAdaptAdamW = "dadapt_adamw" {
        /// Learning rate: the factor of `d`.
        lr: f64 [>= 0] = 1.0;
        /// Decay rates of the running averages of `g` and `g^2`.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Initial estimate of `d`.
        d0: f64 [> 0] = 1e-6;
        /// Bias correction: the factor sqrt(1 - beta2^t) / (1 - beta1^t) of L.
        bias_correction: bool = true;
        /// Estimates d for this group alone, not for all groups with this algorithm together.
        per_group: bool = false;
        /// Decoupled weight decay: each step subtracts `weight_decay L p`.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct DAdaptedMoments<A> {
    beta1: A,
    g_coef: A,
    v: AverageOfSquares<A>,
    beta3: A,
    s_coef: A,
    eps: A,
    decay: A,
    /// 1, or at a learning rate of 0 0: then gradients say nothing of the distance.
    moves: A,
}

impl<A: Element> Rule for DAdaptedMoments<A> {
    type Elem = A;
    type State = [A; 3];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "s"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m, v, s]: [A; 3]) -> (A, [A; 3]) {
        let m = self.beta1 * m + self.g_coef * g;
        let v = self.v.update(v, g);
        let s = self.beta3 * s + self.s_coef * g;
        (m.over(v.sqrt() + self.eps) + self.decay * p, [m, v, s])
    }
    fn floors(&self) -> [A; 3] {
        [smallest(), self.v.floor, smallest()]
    }
    const TERMS: usize = 2;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, [_, v, s]: [A; 3]) -> Terms<A> {
        let new = self.beta3 * s + self.s_coef * g;
        let scaled = s.over(v.sqrt() + self.eps);
        Terms::new([(self.moves * g, scaled), (new.abs(), A::one())])
    }
}

impl Algorithm for DAdaptAdamW {
    type Kernel<A: Element> = DAdaptedMoments<A>;
    const DEMANDS: Demands = Demands::NONE.global_sums();

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    fn shared(&self) -> Option<Vec<(&'static str, f64)>> {
        let fields = vec![
            ("betas[0]", self.betas.0),
            ("betas[1]", self.betas.1),
            ("d0", self.d0),
            ("bias_correction", f64::from(u8::from(self.bias_correction))),
        ];
        (!self.per_group).then_some(fields)
    }

    fn initial_scalars(&self) -> Scalars {
        Scalars::new([self.d0, 0.0, self.d0])
    }

    /// The new `d`, `r`, and the `d` of this step.
    fn update_scalars(&self, step: &StepContext, &Sums([q, s, ..]): &Sums) -> Scalars {
        let (Scalars([d, r, ..]), beta3) = (step.scalars, self.betas.1.sqrt());
        let r = beta3 * r + (1.0 - beta3) * rate(self.lr, step, d) * q;
        let new = if s > 0.0 {
            d.max(r / ((1.0 - beta3) * s))
        } else {
            d
        };
        Scalars::new([new, r, d])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let beta3 = self.betas.1.sqrt();
        let Scalars([new, _, old, _]) = step.scalars;
        let l = rate(self.lr, step, if step.sums_pending { new } else { old });
        DAdaptedMoments {
            beta1: f(self.betas.0),
            g_coef: f((1.0 - self.betas.0) * l),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            beta3: f(beta3),
            s_coef: f((1.0 - beta3) * l),
            eps: f(self.eps),
            decay: f(self.weight_decay * l),
            moves: f(f64::from(u8::from(self.lr > 0.0))),
        }
    }
}
