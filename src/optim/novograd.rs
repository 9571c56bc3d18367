use super::*;

hyper_parameters! {
    /// Layer-wise second moments: the gradient of each array is normalised by a running average of its squared norm, so the
    /// state is half that of Adam.
    ///
    /// ```text
    /// v <- |g|^2 at the first step, then beta2 v + (1 - beta2) |g|^2       one number for each array
    /// m <- beta1 m + g / (sqrt(v) + eps) + weight_decay p                  from 0
    /// p <- p - lr m
    /// ```
    ///
    /// This is `optax.novograd`: no 1 - beta1 and no bias correction.
    /// Source: B. Ginsburg et al., arXiv:1905.11286. State: `exp_avg`, and v.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{NovoGrad, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(NovoGrad::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.6, -0.8])?;
    /// assert!((theta[0] - 0.94).abs() < 1e-6 && (theta[1] + 1.92).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "novograd" NovoGrad {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rates of the momentum buffer and of the running average of squared norms, each in [0, 1).
        betas: (f64, f64) = (0.9, 0.25),
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-6,
        /// Weight decay, added to the normalised gradient before momentum, >= 0.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Layer<A> {
    beta1: A,
    scale: A,
    weight_decay: A,
    lr: A,
}

impl<A: Element> Rule for Layer<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 3;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = (self.beta1 * m + (self.scale * g + self.weight_decay * p)).flush();
        (self.lr * m, [m])
    }
    const TERMS: usize = 1;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, _state: [A; 1]) -> [f64; MAX_TERMS] {
        [g.f64() * g.f64(), 0.0, 0.0, 0.0]
    }
}

impl Algorithm for NovoGrad {
    type Kernel<A: Element> = Layer<A>;

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    /// The average squared norm.
    fn absorb(&self, now: &Now, sums: &[f64; MAX_TERMS]) -> Scalars {
        let (old, new) = (now.scalars[0], sums[0]);
        [if now.t == 1 { new } else { self.betas.1 * old + (1.0 - self.betas.1) * new }, 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        let norm = now.scalars[0].sqrt() + self.eps;
        Layer {
            beta1: f(self.betas.0),
            scale: f(if norm > 0.0 { 1.0 / norm } else { 0.0 }),
            weight_decay: f(self.weight_decay),
            lr: f(self.lr),
        }
    }
}
