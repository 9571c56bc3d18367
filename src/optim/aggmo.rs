use super::*;
use crate::kernel::RuleState;

in_catalogue! {
    /// Aggregated momentum: the mean of several momentum buffers with different momentum factors.
    ///
    /// The fast buffers damp the oscillations of the slow ones, so that momentum factors close to 1
    /// become usable.
    ///
    /// # Update rule
    ///
    /// With `g <- g + weight_decay p`, for each of K `betas`:
    ///
    /// ```text
    /// m_i <- beta_i m_i + g                     from 0
    /// p <- p - lr / K (m_1 + ... + m_K)
    /// ```
    ///
    /// This is pytorch_optimizer's `AggMo`, for one to six `betas`.
    ///
    /// # Hyper-parameters
    ///
    /// Each buffer adds whole gradients, as in [`Sgd`](crate::Sgd): a constant gradient is
    /// amplified by up to the mean of `1 / (1 - beta_i)`, which is 37 for the default `betas`. Each
    /// of `betas` costs one state array. The number of `betas` cannot change once there is state.
    ///
    /// # State
    ///
    /// `momentum_buffer_0`, `momentum_buffer_1`, ..., one for each of `betas`, in the shape of the
    /// parameter.
    ///
    /// # Reference
    ///
    /// J. Lucas et al., "Aggregated Momentum: Stability Through Passive Damping",
    /// [arXiv:1804.00325](https://arxiv.org/abs/1804.00325).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{AggMo, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(AggMo::new(0.1));
    /// let mut theta = array![1.0_f64, -2.0];
    /// optimizer.update(&mut theta, &array![0.5, -0.25])?;
    /// assert!((theta[0] - 0.95).abs() < 1e-6 && (theta[1] + 1.975).abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize),
        serde(default, deny_unknown_fields)
    )]
    AggMo = "aggmo" {
        /// Learning rate.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
        lr: f64 [>= 0] = 1e-3;
        /// Momentum factors, one to six.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
        betas: Vec<f64> [in 0..1] = vec![0.0, 0.9, 0.99];
        /// Weight decay (L2 penalty): weight_decay p is added to the gradient.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::field"))]
        weight_decay: f64 [>= 0] = 0.0;
    }
    check(self) {
        if (1..=NAMES.len()).contains(&self.betas.len()) {
            Ok(())
        } else {
            Err(self.wrong("betas", self.betas.len(), "one to six numbers"))
        }
    }
}

const NAMES: [&str; 6] = [
    "momentum_buffer_0",
    "momentum_buffer_1",
    "momentum_buffer_2",
    "momentum_buffer_3",
    "momentum_buffer_4",
    "momentum_buffer_5",
];

/// K momentum buffers and the step along their sum.
#[derive(Clone, Copy, Debug)]
pub struct MomentumBuffers<A, const K: usize> {
    betas: [A; K],
    step_size: A,
}

impl<A: Element, const K: usize> Rule for MomentumBuffers<A, K>
where
    [A; K]: RuleState<A>,
{
    type Elem = A;
    type State = [A; K];
    const STATE: &'static [&'static str] = NAMES.split_at(K).0;
    const COST: u64 = 1 + K as u64;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, mut state: [A; K]) -> (A, [A; K]) {
        let mut sum = A::ZERO;
        for (m, beta) in state.iter_mut().zip(self.betas) {
            *m = beta * *m + g;
            sum += *m;
        }
        (self.step_size * sum, state)
    }
    fn floors(&self) -> [A; K] {
        [smallest(); K]
    }
}

type Few<A> = Either<
    WithCoupled<MomentumBuffers<A, 1>>,
    Either<WithCoupled<MomentumBuffers<A, 2>>, WithCoupled<MomentumBuffers<A, 3>>>,
>;
type Many<A> = Either<
    WithCoupled<MomentumBuffers<A, 4>>,
    Either<WithCoupled<MomentumBuffers<A, 5>>, WithCoupled<MomentumBuffers<A, 6>>>,
>;

impl AggMo {
    #[inline(always)]
    fn rule<A: Element, const K: usize>(&self) -> WithCoupled<MomentumBuffers<A, K>>
    where
        [A; K]: RuleState<A>,
    {
        let betas = std::array::from_fn(|k| A::from_f64(self.betas.get(k).copied().unwrap_or(0.0)));
        coupled(
            MomentumBuffers {
                betas,
                step_size: A::from_f64(self.lr / K as f64),
            },
            self.weight_decay,
        )
    }
}

impl Algorithm for AggMo {
    type Kernel<A: Element> = Either<Few<A>, Many<A>>;

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        match self.betas.len() {
            1 => Either::Left(Either::Left(self.rule())),
            2 => Either::Left(Either::Right(Either::Left(self.rule()))),
            3 => Either::Left(Either::Right(Either::Right(self.rule()))),
            4 => Either::Right(Either::Left(self.rule())),
            5 => Either::Right(Either::Right(Either::Left(self.rule()))),
            _ => Either::Right(Either::Right(Either::Right(self.rule()))),
        }
    }
}
