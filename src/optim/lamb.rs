use super::{adam::Moments, *};

algorithm! {
    /// LAMB: AdamW with a trust ratio that rescales the update of each array to the norm of that
    /// array.
    ///
    /// It is meant for training with large batches.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// u = m' / (sqrt(v') + eps) + weight_decay p
    /// p <- p - lr |p| / |u| u
    /// ```
    ///
    /// `m` and `v` start at 0; `m'` and `v'` are bias-corrected, unless `bias_correction` is false.
    /// The norms are those of the whole array, and the trust ratio `|p| / |u|` is 1 if either of
    /// them is 0.
    ///
    /// This is `optax.lamb`. keras applies weight decay outside the trust ratio, which is not
    /// offered here.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` is the length of a step relative to the norm of the array: an array of norm 10 moves by
    /// `10 lr` per step. `weight_decay` changes the direction of a step, not its length. The preset
    /// `keras` differs in `eps`.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// Y. You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    /// [arXiv:1904.00962](https://arxiv.org/abs/1904.00962).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lamb, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Lamb::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.841886).abs() < 1e-5 && (theta[1] + 1.841886).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Lamb = "lamb" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rates of the running averages of g and g^2.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-6;
        /// Weight decay: weight_decay p is added to the update before it is rescaled.
        weight_decay: f64 [>= 0] = 0.0;
        /// Bias correction: divides the moments by 1 - beta^t.
        bias_correction: bool = true;
    }
    presets {
        /// `optax.lamb`: the defaults.
        optax {}
        /// `keras.optimizers.Lamb`: only without weight decay.
        keras { eps: 1e-7 }
    }
}

/// The update of Adam plus weight decay, times the learning rate and the trust ratio.
#[derive(Clone, Copy, Debug)]
pub struct ScaledAdam<A> {
    moments: Moments<A>,
    weight_decay: A,
    rate: A,
}

impl<A: Element> Rule for ScaledAdam<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = Moments::<A>::STATE;
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let (m, v) = self.moments.moments(g, m, v);
        (
            self.rate * (self.moments.update(m, v) + self.weight_decay * p),
            [m, v],
        )
    }
    fn floors(&self) -> [A; 2] {
        Rule::floors(&self.moments)
    }
    const TERMS: usize = 2;
    const NORMS: usize = 2;
    #[inline(always)]
    fn terms(&self, p: A, g: A, [m, v]: [A; 2]) -> Terms<A> {
        let (m, v) = self.moments.moments(g, m, v);
        let u = self.moments.update(m, v) + self.weight_decay * p;
        Terms::new([(p, p), (u, u)])
    }
}

impl Algorithm for Lamb {
    type Kernel<A: Element> = ScaledAdam<A>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    /// The trust ratio.
    fn update_scalars(&self, _step: &StepContext, &Sums([p, u, ..]): &Sums) -> Scalars {
        Scalars::new([trust_ratio(p, u, p / u)])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let moments = Moments::new(1.0, self.betas, self.eps, step);
        ScaledAdam {
            moments,
            weight_decay: A::from_f64(self.weight_decay),
            rate: A::from_f64(not_infinite(self.lr * step.scalars[0])),
        }
    }
}
