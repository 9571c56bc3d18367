use super::*;

algorithm! {
    /// Rprop, resilient backpropagation: each parameter has its own step size.
    ///
    /// The step size grows while the sign of the gradient stays the same and shrinks when it
    /// changes. It is only for full-batch gradients: noise in the signs defeats it.
    ///
    /// # Update rule
    ///
    /// With `g` the gradient, negated if `maximize`, `h` the step size, from `lr`, and `q` the last
    /// gradient, from 0:
    ///
    /// ```text
    /// s = sign(g q)
    /// h <- h etas.1 if s > 0,  h etas.0 if s < 0
    /// h <- clamp(h, step_sizes.0, step_sizes.1)
    /// g <- 0 where s < 0
    /// p <- p - sign(g) h,  q <- g
    /// ```
    ///
    /// This is `torch.optim.Rprop`, except that torch takes the sign of the product `g q`, which is
    /// 0 where the product underflows: in `f64` at gradients of about 1e-162 and below, in `f32` of
    /// 1e-23. There torch neither grows nor shrinks the step size; here the signs count.
    /// `optax.rprop` makes each step one call later, which is not offered here.
    ///
    /// # Hyper-parameters
    ///
    /// `lr` is the length of the first step in the parameter's own unit, whatever the size of the
    /// gradient. `step_sizes` bounds every step. Changing `lr` after the first step has no effect.
    ///
    /// # State
    ///
    /// `step_size` and `prev`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// M. Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning: The
    /// RPROP algorithm", ICNN 1993.
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Rprop};
    ///
    /// let mut optimizer = Optimizer::new(Rprop::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.9).abs() < 1e-6 && (theta[1] + 1.9).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Rprop = "rprop" {
        /// Learning rate: the initial step size.
        lr: f64 [>= 0] = 1e-2;
        /// Factors of the step size after a change of sign and without one.
        etas: (f64, f64) [> 0, < 1; > 1] = (0.5, 1.2);
        /// Smallest and largest step size.
        step_sizes: (f64, f64) [>= 0] = (1e-6, 50.0);
        /// Maximizes the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.Rprop`: the defaults.
        torch {}
    }
    check(self) {
        let (smallest, largest) = self.step_sizes;
        if smallest > largest {
            let value = format!("{:?}", self.step_sizes);
            return Err(self.wrong("step_sizes", value, "smallest <= largest"));
        }
        Ok(())
    }
}

/// The rule of Rprop.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveSteps<A> {
    lr: A,
    minus: A,
    plus: A,
    low: A,
    high: A,
}

impl<A: Element> Rule for AdaptiveSteps<A> {
    type Elem = A;
    type State = [A; 2];
    const STATE: &'static [&'static str] = &["step_size", "prev"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [h, q]: [A; 2]) -> (A, [A; 2]) {
        let turn = g.sign() * q.sign();
        let factor = if turn > A::ZERO { self.plus } else { A::one() };
        let factor = if turn < A::ZERO { self.minus } else { factor };
        let h = h * factor;
        let h = if h < self.low { self.low } else { h };
        let h = if h > self.high { self.high } else { h };
        let g = if turn < A::ZERO { A::ZERO } else { g };
        (g.sign() * h, [h, g])
    }
    #[inline(always)]
    fn begin(&self, _p: A, _g: A) -> [A; 2] {
        [self.lr, A::ZERO]
    }
}

impl Algorithm for Rprop {
    type Kernel<A: Element> = AdaptiveSteps<A>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        let ((minus, plus), (low, high)) = (self.etas, self.step_sizes);
        AdaptiveSteps {
            lr: f(self.lr),
            minus: f(minus),
            plus: f(plus),
            low: f(low),
            high: f(high),
        }
    }
}
