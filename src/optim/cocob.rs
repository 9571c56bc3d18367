use super::*;

hyper_parameters! {
    /// Coin betting: each element bets on the sign of its next gradient with what earlier bets have won. There is no
    /// learning rate: `lr` only scales gradients.
    ///
    /// ```text
    /// g <- lr (g + weight_decay p);  x0 the initial p, L from eps, the others from 0
    /// L <- max(L, |g|),  G <- G + |g|,  R <- max(R - g (p - x0), 0),  T <- T - g
    /// p <- x0 + T / (L max(G + L, alpha L)) (L + R)
    /// ```
    ///
    /// This is `optax.contrib.cocob`.
    /// Source: F. Orabona, T. Tommasi, arXiv:1705.07795. State: `x0`, `largest`, `grad_sum_abs`, `reward`, `grad_sum`.
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
    "cocob" Cocob {
        /// Learning rate, >= 0.
        lr: f64 = 1.0,
        /// Bounds the first bets, > 0.
        alpha: f64 = 100.0,
        /// Initial value of L, for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient.
        weight_decay: f64 = 0.0,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Bet<A> {
    lr: A,
    alpha: A,
    eps: A,
}

impl<A: Element> Rule for Bet<A> {
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
        let new = x0 + sum.over(l * bound) * (l + reward);
        (p - new, [x0, l, sum_abs, reward, sum])
    }
    #[inline(always)]
    fn begin(&self, p: A, _g: A) -> [A; 5] {
        [p, self.eps, A::ZERO, A::ZERO, A::ZERO]
    }
}

impl Algorithm for Cocob {
    type Kernel<A: Element> = WithCoupled<Bet<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::that(self.alpha > 0.0 && self.alpha.is_finite(), "alpha", self.alpha, "a finite number > 0")?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        let f = A::of;
        coupled(Bet { lr: f(self.lr), alpha: f(self.alpha), eps: f(self.eps) }, self.weight_decay)
    }
}
