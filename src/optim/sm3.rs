use super::{momentum::AlongAverage, *};
use ndarray::ArrayD;

hyper_parameters! {
    /// Memory-efficient Adagrad: one accumulator for each slice along every axis; the smallest of those that cover an
    /// element stands for its sum of squares.
    ///
    /// ```text
    /// a_k: a vector for each axis k, from 0; a number is a vector of length 1
    /// s[i, j, ..] = min(a_0[i], a_1[j], ..) + g[i, j, ..]^2
    /// a_k <- the largest s over all other axes
    /// u = g / sqrt(s + 1e-8),  0 where s = 0
    /// m <- momentum m + (1 - momentum) u                        from 0
    /// p <- p - lr m
    /// ```
    ///
    /// This is `optax.sm3`. Source: R. Anil et al., arXiv:1901.11150. State: `exp_avg`, and `accumulator_0`, ...
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Sm3};
    ///
    /// let mut optimizer = Optimizer::new(Sm3::new(0.1));
    /// let mut theta = array![[1.0_f64, -2.0], [3.0, 0.0]];
    /// optimizer.update(&mut theta, &array![[0.5, -0.25], [2.0, 0.0]])?;
    /// assert!((theta[[0, 0]] - 0.99).abs() < 1e-6 && theta[[1, 1]] == 0.0);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "sm3" Sm3 {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rate of the running average of updates, in [0, 1).
        momentum: f64 = 0.9,
    }
}

const NAMES: [&str; 6] =
    ["accumulator_0", "accumulator_1", "accumulator_2", "accumulator_3", "accumulator_4", "accumulator_5"];
const EPS: f64 = 1e-8;

impl Algorithm for Sm3 {
    type Kernel<A: Element> = AlongAverage<A>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("momentum", self.momentum)
    }

    fn is_directed(&self) -> bool {
        true
    }

    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        let shape = if shape.is_empty() { &[1] } else { shape };
        Ok(NAMES.into_iter().zip(shape).map(|(name, &n)| (name, vec![n])).collect())
    }

    fn direct<A: Element>(&self, now: &Now, Whole { mut g, factors, .. }: Whole<'_, A>) -> Scalars {
        if let Some((last, slower)) = factors.split_last_mut() {
            let mut new: Vec<_> = slower.iter().map(|a| ArrayD::from_elem(a.raw_dim(), A::ZERO)).collect();
            let mut new_last = vec![A::ZERO; last.len()];
            let mut index = vec![0; slower.len()];
            let rows = g.as_slice_mut().unwrap_or_default().chunks_mut(last.len().max(1));
            for (g, last) in rows.zip(std::iter::repeat(last.as_slice().unwrap_or_default())) {
                let covers = slower.iter().zip(&index).map(|(a, &i)| a[i]);
                let top = row(g, covers.reduce(A::min).unwrap_or(A::infinity()), last, &mut new_last, A::of(EPS));
                new.iter_mut().zip(&index).for_each(|(new, &i)| new[i] = new[i].max(top));
                advance(&mut index, slower);
            }
            slower.iter_mut().zip(new).for_each(|(a, new)| *a = new);
            last.iter_mut().zip(new_last).for_each(|(a, new)| *a = new);
        }
        now.scalars
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        AlongAverage::new(self.momentum, self.lr)
    }
}

/// The next index, the last axis fastest.
fn advance<A>(index: &mut [usize], axes: &[ArrayD<A>]) {
    for (i, axis) in index.iter_mut().zip(axes).rev() {
        *i += 1;
        if *i < axis.len() {
            break;
        }
        *i = 0;
    }
}

crate::kernel::for_each_instruction_set! {
    /// One row: replaces its gradient by the update, raises the accumulators of the last axis, and returns the largest sum.
    fn row<A: Element>(g: &mut [A], cover: A, last: &[A], new_last: &mut [A], eps: A) -> A {
        let n = g.len();
        let (last, new_last) = (&last[..n], &mut new_last[..n]);
        let mut top = A::ZERO;
        for i in 0..n {
            let s = (if last[i] < cover { last[i] } else { cover }) + g[i] * g[i];
            new_last[i] = if new_last[i] < s { s } else { new_last[i] };
            top = if top < s { s } else { top };
            g[i] = if s == A::ZERO { A::ZERO } else { g[i] / (s + eps).sqrt() };
        }
        top
    }
}
