use super::{momentum::AlongAverage, *};
use crate::kernel::pool::{lock, on_threads};
use std::sync::{Mutex, PoisonError};

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
    const DEMANDS: Demands = Demands::NONE.reads_source();

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
            mut grad,
            extra,
            parallel,
            source,
            ..
        } = array;
        let Some((last, slower)) = extra.split_last_mut() else {
            return step.scalars;
        };
        let (size, m) = (grad.len(), last.len().max(1));
        let covers: Vec<&[A]> = slower.iter().filter_map(|a| a.as_slice()).collect();
        let old_last = last.as_slice().unwrap_or_default();
        let none = Accumulators {
            last: vec![A::ZERO; last.len()],
            slower: covers.iter().map(|a| vec![A::ZERO; a.len()]).collect(),
        };
        // The largest of several numbers does not depend on their order.
        let all = Mutex::new(none.clone());
        let part = (size / m).div_ceil(8).max(32);
        let work = |(k, g): (usize, &mut [A])| {
            let mut new = none.clone();
            let mut index = index_of(k * part, &covers);
            for (i, g) in g.chunks_mut(m).enumerate() {
                let start = (k * part + i) * m;
                fetch(g, source.map(|source| &source[start..start + g.len()]));
                let cover = covers.iter().zip(&index).map(|(a, &i)| a[i]);
                let cover = cover.reduce(A::min).unwrap_or(A::infinity());
                let top = row(g, cover, old_last, &mut new.last, A::from_f64(EPS));
                for (new, &i) in new.slower.iter_mut().zip(&index) {
                    new[i] = new[i].max(top);
                }
                advance(&mut index, &covers);
            }
            lock(&all).raise(&new);
        };
        let rows = grad.as_slice_mut().unwrap_or_default();
        on_threads(rows.chunks_mut(part * m).enumerate(), size, &parallel, work);
        let new = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        last.iter_mut().zip(new.last).for_each(|(a, new)| *a = new);
        for (a, new) in slower.iter_mut().zip(new.slower) {
            a.iter_mut().zip(new).for_each(|(a, new)| *a = new);
        }
        step.scalars
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        preconditioned(AlongAverage::new(self.momentum, self.lr))
    }
}

/// The accumulators of the last axis and of the others.
#[derive(Clone)]
struct Accumulators<A> {
    last: Vec<A>,
    slower: Vec<Vec<A>>,
}

impl<A: Element> Accumulators<A> {
    /// Takes the larger of each two accumulators.
    fn raise(&mut self, other: &Self) {
        let raise = |a: &mut Vec<A>, other: &Vec<A>| {
            a.iter_mut().zip(other).for_each(|(a, &b)| *a = a.max(b));
        };
        raise(&mut self.last, &other.last);
        let slower = self.slower.iter_mut().zip(&other.slower);
        slower.for_each(|(a, b)| raise(a, b));
    }
}

/// The index of the `row`th row, the last axis fastest.
fn index_of<A>(mut row: usize, axes: &[&[A]]) -> Vec<usize> {
    let mut index = vec![0; axes.len()];
    for (i, axis) in index.iter_mut().zip(axes).rev() {
        *i = row % axis.len().max(1);
        row /= axis.len().max(1);
    }
    index
}

/// Advances to the next index, the last axis fastest.
fn advance<A>(index: &mut [usize], axes: &[&[A]]) {
    for (i, axis) in index.iter_mut().zip(axes).rev() {
        *i += 1;
        if *i < axis.len() {
            break;
        }
        *i = 0;
    }
}

/// Elements that are updated together.
const LANES: usize = 16;

crate::kernel::for_each_instruction_set! {
    /// Replaces the gradient of one row by the update, raises the accumulators of the last axis,
    /// and returns the largest sum of squares.
    fn row<A: Element>(g: &mut [A], cover: A, last: &[A], new_last: &mut [A], eps: A) -> A {
        let n = g.len();
        let (g, g_tail) = g.as_chunks_mut::<LANES>();
        let (last, last_tail) = last[..n].as_chunks::<LANES>();
        let (new_last, new_tail) = new_last[..n].as_chunks_mut::<LANES>();
        let one = |g: &mut A, last: A, new_last: &mut A, top: &mut A| {
            let s = (if last < cover { last } else { cover }) + *g * *g;
            *new_last = if *new_last < s { s } else { *new_last };
            *top = if *top < s { s } else { *top };
            *g = if s == A::ZERO { A::ZERO } else { *g / (s + eps).sqrt() };
        };
        // A maximum for each lane, because a single one would be taken one element after another.
        let mut tops = [A::ZERO; LANES];
        for ((g, last), new_last) in g.iter_mut().zip(last).zip(new_last) {
            for i in 0..LANES {
                one(&mut g[i], last[i], &mut new_last[i], &mut tops[i]);
            }
        }
        let tail = g_tail.iter_mut().zip(last_tail).zip(new_tail);
        for (((g, &last), new_last), top) in tail.zip(&mut tops) {
            one(g, last, new_last, top);
        }
        tops.into_iter().fold(A::ZERO, |max, top| if max < top { top } else { max })
    }
}
