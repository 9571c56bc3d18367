use super::{adam::Moments, *};

algorithm! {
    /// MARS: AdamW on variance-reduced gradients.
    ///
    /// A scaled difference of successive gradients is added to each gradient, and the result is
    /// clipped to norm 1 per array.
    ///
    /// # Update rule
    ///
    /// ```text
    /// c = g + gamma beta1 / (1 - beta1) (g - g_old)            g_old = 0 at first
    /// c <- c / |c| if |c| > 1                                  norm of the whole array
    /// m <- beta1 m + (1 - beta1) c,  v <- beta2 v + (1 - beta2) c^2
    /// p <- p - lr (m' / (sqrt(v') + eps) + weight_decay p)     m' and v' bias-corrected
    /// ```
    ///
    /// This is the paper's MARS-AdamW.
    ///
    /// # Hyper-parameters
    ///
    /// As in AdamW, each element moves by about `lr` per step in the parameter's own unit. With
    /// `gamma` 0 this is AdamW with gradients clipped to norm 1 per array.
    ///
    /// # State
    ///
    /// `exp_avg`, `exp_avg_sq` and `prev` (the previous gradient), in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// H. Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large
    /// Models", [arXiv:2411.10438](https://arxiv.org/abs/2411.10438).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Mars, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Mars::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Mars = "mars" {
        /// Learning rate.
        lr: f64 [>= 0] = 3e-3;
        /// Decay rates of the running averages of `c` and `c^2`.
        betas: (f64, f64) [in 0..1] = (0.95, 0.99);
        /// Scale of the gradient correction.
        gamma: f64 [>= 0] = 0.025;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Decoupled weight decay: each step subtracts `lr weight_decay p`.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct VarianceReduced<A> {
    moments: Moments<A>,
    weight: A,
    scale: A,
}

impl<A: Element> VarianceReduced<A> {
    #[inline(always)]
    fn corrected(&self, g: A, prev: A) -> A {
        g + self.weight * (g - prev)
    }
}

impl<A: Element> Rule for VarianceReduced<A> {
    type Elem = A;
    type State = ([A; 2], [A; 1]);
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "prev"];
    const COST: u64 = 6;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, ([m, v], [prev]): Self::State) -> (A, Self::State) {
        let (m, v) = self
            .moments
            .moments(self.scale * self.corrected(g, prev), m, v);
        (self.moments.update(m, v), ([m, v], [g]))
    }
    fn floors(&self) -> Self::State {
        (Rule::floors(&self.moments), [A::ZERO])
    }
    const TERMS: usize = 1;
    const NORMS: usize = 1;
    #[inline(always)]
    fn terms(&self, _p: A, g: A, (_, [prev]): Self::State) -> Terms<A> {
        let c = self.corrected(g, prev);
        Terms::new([(c, c)])
    }
}

impl Algorithm for Mars {
    type Kernel<A: Element> = WithDecoupled<VarianceReduced<A>>;

    /// The clipping factor.
    fn update_scalars(&self, _step: &StepContext, sums: &Sums) -> Scalars {
        let norm = sums[0];
        Scalars::new([if norm > 1.0 { 1.0 / norm } else { 1.0 }])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let rule = VarianceReduced {
            moments: Moments::new(self.lr, self.betas, self.eps, step),
            weight: A::from_f64(self.gamma * self.betas.0 / (1.0 - self.betas.0)),
            scale: A::from_f64(step.scalars[0]),
        };
        decoupled(rule, self.lr, self.weight_decay)
    }
}
