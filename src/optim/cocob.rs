use super::*;

algorithm! {
    /// COCOB: each parameter bets on the sign of its next gradient with the reward of earlier bets.
    ///
    /// It needs no learning rate: `lr` only scales the gradients.
    ///
    /// # Update rule
    ///
    /// ```text
    /// g <- lr (g + weight_decay p);  x0 the initial p, L from eps, the others from 0
    /// L <- max(L, |g|),  G <- G + |g|,  R <- max(R - g (p - x0), 0),  T <- T - g
    /// p <- x0 + T / (L max(G + L, alpha L)) (L + R)
    /// ```
    ///
    /// This is `optax.contrib.cocob`.
    ///
    /// # Hyper-parameters
    ///
    /// `alpha` limits the first bets: with the default, the first step of a parameter is
    /// `1 / alpha` in the parameter's own unit. As long as gradients are well above `eps`, their
    /// scale cancels out, and so does `lr`.
    ///
    /// # State
    ///
    /// `x0`, `largest` (L), `grad_sum_abs` (G), `reward` (R) and `grad_sum` (T), in the shape of
    /// the parameter.
    ///
    /// # Reference
    ///
    /// F. Orabona, T. Tommasi, "Training Deep Networks without Learning Rates Through Coin
    /// Betting", [arXiv:1705.07795](https://arxiv.org/abs/1705.07795).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Cocob, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Cocob::new(1.0));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.99).abs() < 1e-3 && (theta[1] + 1.99).abs() < 1e-3);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Cocob = "cocob" {
        /// Scale of the gradients.
        lr: f64 [>= 0] = 1.0;
        /// Limits the size of the first bets.
        alpha: f64 [> 0] = 100.0;
        /// Initial value of L, for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        weight_decay: f64 [>= 0] = 0.0;
    }
}

/// The rule of COCOB.
#[derive(Clone, Copy, Debug)]
pub struct CoinBetting<A> {
    lr: A,
    alpha: A,
    eps: A,
}

impl<A: Element> Rule for CoinBetting<A> {
    type Elem = A;
    type State = [A; 5];
    const STATE: &'static [&'static str] = &["x0", "largest", "grad_sum_abs", "reward", "grad_sum"];
    const COST: u64 = 5;
    #[inline(always)]
    fn delta(&self, p: A, g: A, [x0, l, sum_abs, reward, sum]: [A; 5]) -> (A, [A; 5]) {
        let g = self.lr * g;
        let l = if l > g.abs() { l } else { g.abs() };
        let sum_abs = sum_abs + g.abs();
        let reward = reward - g * (p - x0);
        let reward = if reward < A::ZERO { A::ZERO } else { reward };
        let sum = sum - g;
        let (bound, least) = (sum_abs + l, self.alpha * l);
        let bound = if bound < least { least } else { bound };
        let new = x0 + sum.over(bound) * (A::one() + reward.over(l));
        (p - new, [x0, l, sum_abs, reward, sum])
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 5] {
        [p, self.eps, A::ZERO, A::ZERO, A::ZERO]
    }
}

impl Algorithm for Cocob {
    type Kernel<A: Element> = WithCoupled<CoinBetting<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        let f = A::from_f64;
        coupled(
            CoinBetting {
                lr: f(self.lr),
                alpha: f(self.alpha),
                eps: f(self.eps),
            },
            self.weight_decay,
        )
    }
}
