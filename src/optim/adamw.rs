use super::{
    adam::{AmsGrad, Moments, placed},
    *,
};

algorithm! {
    /// Adam with decoupled weight decay.
    ///
    /// Weight decay does not pass through the moments, as it does in [`Adam`](crate::Adam): it
    /// shrinks every parameter at the same rate, whatever the history of its gradients.
    ///
    /// # Update rule
    ///
    /// With `g` the gradient, negated if `maximize`:
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g         from m = 0
    /// v <- beta2 v + (1 - beta2) g^2       from v = 0
    /// p <- p - lr (m' / (sqrt(v') + eps) + weight_decay p)
    ///      with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    /// amsgrad:            v' = max over all steps so far of v, / (1 - beta2^t)
    /// amsgrad_corrected:  v' = max over all steps so far of v / (1 - beta2^t)
    /// eps_uncorrected:    eps / sqrt(1 - beta2^t) in place of eps
    /// bias_correction false:  m and v in place of m' and v'
    /// ```
    ///
    /// This is `torch.optim.AdamW`. torch shrinks `p` first, which is the same in exact arithmetic
    /// and seven times less accurate in `f32`.
    ///
    /// # Hyper-parameters
    ///
    /// - `lr`: a step is about `lr` in the parameter's own unit, at any scale of the gradient.
    /// - `weight_decay` is multiplied by `lr`, as in torch. The paper's weight decay is multiplied
    ///   by the schedule's factor but not by the base learning rate: `weight_decay` here is the
    ///   paper's value divided by the base learning rate.
    /// - `amsgrad_corrected` is optax's order of maximum and bias correction; `eps_uncorrected` is
    ///   keras's placement of eps, before the bias correction of the root.
    ///
    /// The presets differ in `weight_decay` as well: 1e-2 in torch, 1e-4 in optax, 4e-3 in keras.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter; with `amsgrad` also
    /// `max_exp_avg_sq`.
    ///
    /// # Reference
    ///
    /// I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization",
    /// [arXiv:1711.05101](https://arxiv.org/abs/1711.05101).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AdamW, Optimizer};
    ///
    /// let mut adamw = Optimizer::new(AdamW::new(0.1));
    /// let mut theta = array![1.0, -2.0];
    /// adamw.update(&mut theta, &array![0.0, 0.0])?;
    /// assert_eq!(theta, array![1.0 - 0.1 * 0.01, -2.0 + 0.1 * 0.01 * 2.0]); // only decay
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    AdamW = "adamw" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Adds eps to the root before its bias correction.
        eps_uncorrected: bool = false;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 1e-2;
        /// Divides by the maximum of the second moments so far (AMSGrad).
        amsgrad: bool = false;
        /// With `amsgrad`, takes the maximum of bias-corrected second moments.
        amsgrad_corrected: bool = false;
        /// Bias correction: divides the moments by 1 - beta^t.
        bias_correction: bool = true;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.AdamW`: the defaults.
        torch {}
        /// `optax.adamw`: `weight_decay` = 1e-4, and the maximum of bias-corrected second moments.
        optax { weight_decay: 1e-4, amsgrad_corrected: true }
        /// `keras.optimizers.AdamW`: eps = 1e-7 before the bias correction, `weight_decay` = 4e-3.
        keras { eps: 1e-7, eps_uncorrected: true, weight_decay: 4e-3 }
    }
}

impl Algorithm for AdamW {
    type Kernel<A: Element> = Either<WithDecoupled<Moments<A>>, WithDecoupled<AmsGrad<A>>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let eps = placed(self.eps, self.eps_uncorrected, step);
        let rule = Moments::new(self.lr, self.betas, eps, step);
        if self.amsgrad {
            let rule = AmsGrad::new(rule, self.amsgrad_corrected, self.lr, eps, step);
            Either::Right(decoupled(rule, self.lr, self.weight_decay))
        } else {
            Either::Left(decoupled(rule, self.lr, self.weight_decay))
        }
    }
}
