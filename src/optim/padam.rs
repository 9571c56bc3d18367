use super::{
    power::{ByPower, Power, by_power},
    *,
};

algorithm! {
    /// Padam: partially adaptive Adam.
    ///
    /// The second moment is raised to a power between 0 (SGD with momentum) and 1/2 (Adam).
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
    /// p <- p - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)^(2 partial)
    /// ```
    ///
    /// This is `PAdam` of pytorch_optimizer: `eps` is inside the power and the bias correction of
    /// `v` outside it.
    ///
    /// # Hyper-parameters
    ///
    /// The smaller `partial`, the more a step scales with the gradient, as in SGD; choose `lr`
    /// together with it. With `partial` 0.5, each element moves by about `lr` per step in the
    /// parameter's own unit, as in Adam.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// J. Chen et al., "Closing the Generalization Gap of Adaptive Gradient Methods in Training
    /// Deep Neural Networks", [arXiv:1806.06763](https://arxiv.org/abs/1806.06763).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Padam};
    ///
    /// let mut optimizer = Optimizer::new(Padam::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!(theta[0] < 1.0 && theta[1] > -2.0);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Padam = "padam" {
        /// Learning rate.
        lr: f64 [>= 0] = 0.1;
        /// Decay rates of the running averages of `g` and `g^2`.
        betas: (f64, f64) [in 0..1] = (0.9, 0.999);
        /// Power of the second moment; 0.5 is Adam.
        partial: f64 [in 0..=0.5] = 0.25;
        /// Added to the denominator for numerical stability, inside the power.
        eps: f64 [>= 0] = 1e-8;
    }
}

#[derive(Clone, Copy, Debug)]
pub struct PartiallyAdaptive<A, P> {
    m: RunningAverage<A>,
    v: AverageOfSquares<A>,
    power: P,
    eps: A,
    step_size: A,
}

impl<A: Element, P: Power<A>> Rule for PartiallyAdaptive<A, P> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const COST: u64 = 10;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m, v]: [A; 2]) -> (A, [A; 2]) {
        let m = self.m.update(m, g);
        let v = self.v.update(v, g);
        let base = v.sqrt() + self.eps;
        // The power of the smallest denominator is far above that denominator.
        let base = if A::SMALLEST_ROOT > base {
            A::SMALLEST_ROOT
        } else {
            base
        };
        (self.step_size * (m / self.power.of(base)), [m, v])
    }
    fn floors(&self) -> [A; 2] {
        [smallest(), self.v.floor]
    }
}

impl Algorithm for Padam {
    type Kernel<A: Element> = ByPower!(PartiallyAdaptive, A);

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.betas.1, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        by_power!(2.0 * self.partial, power => PartiallyAdaptive {
            m: RunningAverage::new(self.betas.0),
            v: AverageOfSquares::new(self.betas.1, self.eps),
            power,
            eps: f(self.eps),
            step_size: f(self.lr / step.correction(0) * step.root_of_correction(1)),
        })
    }
}
