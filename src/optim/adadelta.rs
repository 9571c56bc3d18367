use super::*;

algorithm! {
    /// Adadelta: gradients scaled by the ratio of two running root mean squares, so that updates
    /// have the units of the parameter.
    ///
    /// Each update divides the gradient by the root mean square (RMS) of past gradients and
    /// multiplies it by the RMS of past updates.
    ///
    /// # Update rule
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, and then g <- g + weight_decay p:
    /// v <- rho v + (1 - rho) g^2                     from v = 0
    /// d = sqrt(D + eps) / sqrt(v + eps) g            with the old D
    /// D <- rho D + (1 - rho) d^2                     from D = 0
    /// p <- p - lr d
    /// ```
    ///
    /// This is `torch.optim.Adadelta`, `optax.adadelta` and `keras.optimizers.Adadelta`; keras has
    /// other defaults.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` multiplies updates that already have the units of the parameter and can stay at 1.
    /// Progress is slow at first: the RMS of past updates starts at `sqrt(eps)` and grows from
    /// there. The presets differ in `lr`, `rho` and `eps`.
    ///
    /// # State
    ///
    /// `square_avg` and `acc_delta`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012,
    /// [arXiv:1212.5701](https://arxiv.org/abs/1212.5701).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adadelta, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adadelta::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.996838).abs() < 1e-5 && (theta[1] + 1.996838).abs() < 1e-5);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Adadelta = "adadelta" {
        /// Learning rate.
        lr: f64 [>= 0] = 1.0;
        /// Decay rate of both running averages.
        rho: f64 [in 0..1] = 0.9;
        /// Added to both running averages under the square root for numerical stability.
        eps: f64 [>= 0] = 1e-6;
        /// Weight decay (L2 penalty): `weight_decay p` is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
        /// Maximizes the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.Adadelta`: the defaults.
        torch {}
        /// `optax.adadelta`: the defaults.
        optax {}
        /// `keras.optimizers.Adadelta`: `lr` 1e-3, `rho` 0.95, `eps` 1e-7.
        keras { lr: 1e-3, rho: 0.95, eps: 1e-7 }
        /// The values that the paper's experiments settle on: `rho` 0.95.
        paper { rho: 0.95 }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct RmsRatio<A> {
    average: AverageOfSquares<A>,
    eps: A,
    lr: A,
}

impl<A: Element> Rule for RmsRatio<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["square_avg", "acc_delta"];
    const COST: u64 = 7;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [v, acc]: [A; 2]) -> (A, [A; 2]) {
        let v = self.average.update(v, g);
        let d = (acc + self.eps).sqrt() * g.over((v + self.eps).sqrt());
        let acc = self.average.update(acc, d);
        (self.lr * d, [v, acc])
    }
    fn floors(&self) -> [A; 2] {
        [self.average.floor; 2]
    }
}

impl Algorithm for Adadelta {
    type Kernel<A: Element> = WithCoupled<RmsRatio<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest_averaged(self.rho, largest)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let rule = RmsRatio {
            average: AverageOfSquares::new(self.rho, self.eps.sqrt()),
            eps: f(self.eps),
            lr: f(self.lr),
        };
        coupled(rule, self.weight_decay)
    }
}
