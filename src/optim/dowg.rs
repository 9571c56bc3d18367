use super::{dog::Travelled, *};

hyper_parameters! {
    /// Distance over weighted gradients: [`Dog`](crate::Dog) with squared gradients weighted by the squared distance at
    /// their step. Leave lr at 1.
    ///
    /// ```text
    /// With g <- g + weight_decay p and sums over all arrays of a group, x0 the initial p:
    /// R <- max(R, |p - x0|^2)                from init_estim_sq_dist
    /// V <- V + R |g|^2                       from 0
    /// p <- p - lr R / (sqrt(V) + eps) g
    /// ```
    ///
    /// This is `optax.contrib.dowg`, with p - x0 kept as the sum of all steps.
    /// Source: A. Khaled, K. Mishchenko, C. Jin, arXiv:2305.16284. State: `displacement`, and the two sums.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Dowg, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Dowg::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.992).abs() < 0.01 && (theta[1] + 1.996).abs() < 0.01);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "dowg" Dowg {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Initial squared distance, > 0; eps if none.
        init_estim_sq_dist: Option<f64> = None,
        /// Added to the root for numerical stability, >= 0.
        eps: f64 = 1e-4,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
    }
}

impl Algorithm for Dowg {
    type Kernel<A: Element> = WithCoupled<Travelled<A>>;
    const GLOBAL: bool = true;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::non_negative("init_estim_sq_dist", self.init_estim_sq_dist.unwrap_or(0.0))?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    /// R, V and the learning rate.
    fn absorb(&self, now: &Now, &[moved, g, ..]: &[f64; MAX_TERMS]) -> Scalars {
        let [r, v, ..] = now.scalars;
        let r = if now.t == 1 { self.init_estim_sq_dist.unwrap_or(self.eps) } else { r };
        let r = r.max(moved);
        let v = v + r * g;
        let root = v.sqrt() + self.eps;
        [r, v, if root > 0.0 { self.lr * r / root } else { 0.0 }, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        coupled(Travelled::new(now.scalars[2]), self.weight_decay)
    }
}
