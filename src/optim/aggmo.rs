use super::*;
use crate::kernel::Lanes;

/// Aggregated momentum: the mean of several momentum buffers. The fast ones damp the oscillations of the slow ones, so betas
/// close to 1 become usable.
///
/// ```text
/// With g <- g + weight_decay p, for each of K betas:
/// m_i <- beta_i m_i + g                     from 0
/// p <- p - lr / K (m_1 + ... + m_K)
/// ```
///
/// This is pytorch_optimizer's AggMo; one to six betas.
/// Source: J. Lucas et al., arXiv:1804.00325. State: `momentum_buffer_0`, `momentum_buffer_1`, ....
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
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct AggMo {
    /// Learning rate, >= 0. Default 1e-3.
    pub lr: f64,
    /// Momentum factors, each in [0, 1); one to six. Default [0, 0.9, 0.99].
    pub betas: Vec<f64>,
    /// Weight decay (L2 penalty), >= 0: weight_decay p is added to the gradient. Default 0.
    pub weight_decay: f64,
}

impl Default for AggMo {
    fn default() -> Self {
        AggMo { lr: 1e-3, betas: vec![0.0, 0.9, 0.99], weight_decay: 0.0 }
    }
}

catalogued!("aggmo" AggMo, lr betas weight_decay);

const NAMES: [&str; 6] = [
    "momentum_buffer_0",
    "momentum_buffer_1",
    "momentum_buffer_2",
    "momentum_buffer_3",
    "momentum_buffer_4",
    "momentum_buffer_5",
];

#[derive(Clone, Copy, Debug)]
pub struct Buffers<A, const K: usize> {
    betas: [A; K],
    step_size: A,
}

impl<A: Element, const K: usize> Rule for Buffers<A, K>
where
    [A; K]: Lanes<A>,
{
    type Elem = A;
    type State = [A; K];
    const STATE: &'static [&'static str] = NAMES.split_at(K).0;
    const COST: u64 = 1 + K as u64;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, mut state: [A; K]) -> (A, [A; K]) {
        let mut sum = A::ZERO;
        for (m, beta) in state.iter_mut().zip(self.betas) {
            *m = (beta * *m + g).flush();
            sum += *m;
        }
        (self.step_size * sum, state)
    }
}

type Few<A> = Either<WithCoupled<Buffers<A, 1>>, Either<WithCoupled<Buffers<A, 2>>, WithCoupled<Buffers<A, 3>>>>;
type Many<A> = Either<WithCoupled<Buffers<A, 4>>, Either<WithCoupled<Buffers<A, 5>>, WithCoupled<Buffers<A, 6>>>>;

impl AggMo {
    #[inline(always)]
    fn rule<A: Element, const K: usize>(&self) -> WithCoupled<Buffers<A, K>>
    where
        [A; K]: Lanes<A>,
    {
        let betas = std::array::from_fn(|k| A::of(self.betas.get(k).copied().unwrap_or(0.0)));
        coupled(Buffers { betas, step_size: A::of(self.lr / K as f64) }, self.weight_decay)
    }
}

impl Algorithm for AggMo {
    type Kernel<A: Element> = Either<Few<A>, Many<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::that((1..=6).contains(&self.betas.len()), "betas", self.betas.len(), "one to six numbers")?;
        self.betas.iter().try_for_each(|&beta| check::share("betas", beta))?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        match self.betas.len() {
            1 => Either::X(Either::X(self.rule())),
            2 => Either::X(Either::Y(Either::X(self.rule()))),
            3 => Either::X(Either::Y(Either::Y(self.rule()))),
            4 => Either::Y(Either::X(self.rule())),
            5 => Either::Y(Either::Y(Either::X(self.rule()))),
            _ => Either::Y(Either::Y(Either::Y(self.rule()))),
        }
    }
}
