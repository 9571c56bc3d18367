use super::{dog::Travelled, *};

algorithm! {
    /// DoWG, distance over weighted gradients: SGD that sets its own learning rate.
    ///
    /// It differs from [`Dog`](crate::Dog) in that each squared gradient norm is weighted by the
    /// squared distance from the initial point at its step.
    ///
    /// # Update rule
    ///
    /// With `g <- g + weight_decay p`, the norms taken over all arrays of a group together, and
    /// `x0` the initial `p`:
    ///
    /// ```text
    /// R <- max(R, |p - x0|^2)                from init_estim_sq_dist
    /// V <- V + R |g|^2                       from 0
    /// p <- p - lr R / (sqrt(V) + eps) g
    /// ```
    ///
    /// This is `optax.contrib.dowg`, with `p - x0` kept as the sum of all steps.
    ///
    /// # Hyper-parameters
    ///
    /// Leave `lr` at 1. The first step of a group is at most `lr sqrt(init_estim_sq_dist)` long;
    /// from 0 the parameters never move.
    ///
    /// # State
    ///
    /// `displacement`, in the shape of the parameter, and the scalars R and V.
    ///
    /// # Reference
    ///
    /// A. Khaled, K. Mishchenko, C. Jin, "DoWG Unleashed: An Efficient Universal Parameter-Free
    /// Gradient Descent Method", [arXiv:2305.16284](https://arxiv.org/abs/2305.16284).
    ///
    /// # Example
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
    Dowg = "dowg" {
        /// Learning rate.
        lr: f64 [>= 0] = 1.0;
        /// Initial estimate of the squared distance; `None`: eps.
        init_estim_sq_dist: Option<f64> [>= 0] = None;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-4;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

impl Algorithm for Dowg {
    type Kernel<A: Element> = WithCoupled<Travelled<A>>;
    const DEMANDS: Demands = Demands::NONE.global_sums();

    /// R, V and the step size.
    fn update_scalars(&self, step: &StepContext, &Sums([moved, g, ..]): &Sums) -> Scalars {
        let Scalars([r, v, ..]) = step.scalars;
        let r = if step.t == 1 {
            self.init_estim_sq_dist.unwrap_or(self.eps)
        } else {
            r
        };
        let r = r.max(moved);
        let v = v + r * g;
        let root = v.sqrt() + self.eps;
        let step_size = if root > 0.0 { self.lr * r / root } else { 0.0 };
        Scalars::new([r, v, step_size])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        coupled(Travelled::new(step.scalars[2]), self.weight_decay)
    }
}
