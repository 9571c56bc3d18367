use super::{momentum::AlongAverage, *};
use ndarray::ArrayD;

algorithm! {
    /// SM3: memory-efficient Adagrad with one accumulator per slice along every axis.
    ///
    /// The smallest of the accumulators that cover an element stands for its sum of squares.
    ///
    /// # Update rule
    ///
    /// ```text
    /// a_k: a vector for each axis k, from 0; a scalar parameter is a vector of length 1
    /// s[i, j, ..] = min(a_0[i], a_1[j], ..) + g[i, j, ..]^2
    /// a_k <- the maximum of s over all other axes
    /// u = g / sqrt(s + 1e-8),  0 where s = 0
    /// m <- momentum m + (1 - momentum) u                        from m = 0
    /// p <- p - lr m
    /// ```
    ///
    /// This is `optax.sm3`.
    ///
    /// # Hyper-parameters
    ///
    /// No step exceeds `lr` in the parameter's own unit. As in [`Adagrad`](crate::Adagrad), the
    /// accumulators only grow, so the effective learning rate decays.
    ///
    /// # State
    ///
    /// `exp_avg`, in the shape of the parameter, and the vectors `accumulator_0`, `accumulator_1`,
    /// ..., one per axis.
    ///
    /// # Reference
    ///
    /// R. Anil et al., "Memory-Efficient Adaptive Optimization",
    /// [arXiv:1901.11150](https://arxiv.org/abs/1901.11150).
    ///
    /// # Example
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
    Sm3 = "sm3" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rate of the running average of updates.
        momentum: f64 [in 0..1] = 0.9;
    }
}

const NAMES: [&str; 6] = [
    "accumulator_0",
    "accumulator_1",
    "accumulator_2",
    "accumulator_3",
    "accumulator_4",
    "accumulator_5",
];
const EPS: f64 = 1e-8;

impl Algorithm for Sm3 {
    type Kernel<A: Element> = Preconditioned<AlongAverage<A>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        let shape = if shape.is_empty() { &[1] } else { shape };
        let axes = NAMES.into_iter().zip(shape);
        Ok(axes.map(|(name, &n)| ExtraArray::new(name, [n])).collect())
    }

    fn transform<A: Element>(&self, step: &StepContext, array: WholeArray<'_, A>) -> Scalars {
        let WholeArray {
            mut grad, extra, ..
        } = array;
        if let Some((last, slower)) = extra.split_last_mut() {
            let mut new: Vec<_> = slower
                .iter()
                .map(|a| ArrayD::from_elem(a.raw_dim(), A::ZERO))
                .collect();
            let mut new_last = vec![A::ZERO; last.len()];
            let mut index = vec![0; slower.len()];
            let rows = grad
                .as_slice_mut()
                .unwrap_or_default()
                .chunks_mut(last.len().max(1));
            let old_last = last.as_slice().unwrap_or_default();
            for g in rows {
                let covers = slower.iter().zip(&index).map(|(a, &i)| a[i]);
                let cover = covers.reduce(A::min).unwrap_or(A::infinity());
                let top = row(g, cover, old_last, &mut new_last, A::from_f64(EPS));
                new.iter_mut()
                    .zip(&index)
                    .for_each(|(new, &i)| new[i] = new[i].max(top));
                advance(&mut index, slower);
            }
            slower.iter_mut().zip(new).for_each(|(a, new)| *a = new);
            last.iter_mut().zip(new_last).for_each(|(a, new)| *a = new);
        }
        step.scalars
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        preconditioned(AlongAverage::new(self.momentum, self.lr))
    }
}

/// Advances to the next index, the last axis fastest.
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
    /// Replaces the gradient of one row by the update, raises the accumulators of the last axis,
    /// and returns the largest sum of squares.
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
