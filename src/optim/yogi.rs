use super::*;

algorithm! {
    /// Yogi: Adam with additive updates of the second moment.
    ///
    /// The size of each change of the second moment depends on g^2 alone, so a run of small
    /// gradients cannot make the denominator collapse.
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g                     from m = initial_accumulator_value
    /// v <- v - (1 - beta2) sign(v - g^2) g^2           from v = initial_accumulator_value
    /// p <- p - lr m' / (sqrt(v') + eps)    m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    ///                                      without bias_correction m' = m, v' = v
    /// ```
    ///
    /// This is `optax.yogi`; the paper starts at 0, without bias correction.
    ///
    /// # Hyper-parameters
    ///
    /// A step is about `lr` in the parameter's own unit, and smaller where gradients are small
    /// compared to `eps`, whose default is large. The presets differ in the initial value and in
    /// bias correction.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// M. Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018.
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Yogi};
    ///
    /// let mut optimizer = Optimizer::new(Yogi::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-2 && (theta[1] + 1.9).abs() < 1e-2);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Yogi = "yogi" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-2;
        /// Decay rates of the first and second moments.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-3;
        /// Initial value of both moments.
        initial_accumulator_value: f64 [>= 0] = 1e-6;
        /// Bias correction: divides the moments by 1 - beta^t.
        bias_correction: bool = true;
    }
    presets {
        /// `optax.yogi`: the defaults.
        optax {}
        /// Algorithm 2 of the paper.
        paper { initial_accumulator_value: 0.0, bias_correction: false }
    }
}

/// Adam's rule with an additive second moment.
#[derive(Clone, Copy, Debug)]
pub struct AdditiveMoments<A> {
    m: RunningAverage<A>,
    one_minus_beta2: A,
    eps: A,
    step_size: A,
    initial: A,
}

impl<A: Element> Rule for AdditiveMoments<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let v = v - (v - g * g).sign() * ((self.one_minus_beta2 * g) * g);
        // A finite average: the next difference of two infinite numbers would be NaN for ever.
        let v = if v > A::max_value() {
            A::max_value()
        } else {
            v
        };
        (self.step_size * m.over(v.sqrt() + self.eps), [m, v])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(); 2]
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [self.initial; 2]
    }
}

impl Algorithm for Yogi {
    type Kernel<A: Element> = AdditiveMoments<A>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let root = step.root_of_correction(1);
        AdditiveMoments {
            m: RunningAverage::new(self.betas.0),
            one_minus_beta2: f(1.0 - self.betas.1),
            eps: f(self.eps * root),
            step_size: f(self.lr / step.correction(0) * root),
            initial: f(self.initial_accumulator_value),
        }
    }
}
