use super::{sgd::Descent, *};
use crate::kernel::{
    Parallel,
    product::{FLOPS, product, symmetric_product},
    reduce::norm_on,
};
use ndarray::{Array2, ArrayViewMut2};

/// How [`Muon`] scales a step by the shape of the matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum AdjustLr {
    /// `sqrt(max(1, columns / rows))`, as in optax, where weights have the shape (inputs, outputs).
    #[default]
    WideUp,
    /// `sqrt(max(1, rows / columns))`: torch's `original`, where weights have the shape (outputs,
    /// inputs).
    Original,
    /// `0.2 sqrt(max(rows, columns))`: matches the RMS of AdamW's updates, so that AdamW's learning
    /// rates can be used.
    MatchRmsAdamw,
}

impl crate::algorithm::FieldValue for AdjustLr {}

algorithm! {
    /// Muon: momentum with updates orthogonalized by Newton-Schulz iterations.
    ///
    /// Use it for the hidden weight matrices of a network. Optimize all other parameters
    /// (embeddings, biases, the first and the last layer) with [`AdamW`](crate::AdamW), in a
    /// parameter group of the same optimizer: see [`Group`](crate::Group).
    ///
    /// # Update rule
    ///
    /// ```text
    /// m <- momentum m + (1 - momentum) g                                  from 0
    /// m' = m / (1 - momentum^t), or with nesterov
    ///      momentum m / (1 - momentum^(t + 1)) + (1 - momentum) g / (1 - momentum^t)
    /// bias_correction off: m, or with nesterov momentum m + (1 - momentum) g
    /// X = m' / (|m'| + eps), or m' / max(|m'|, eps) with eps_floor, transposed if taller than wide
    /// ns_steps times:  S = X X^T,  X <- a X + (b S + c S S) X
    /// p <- p - lr (scale X + weight_decay p)
    /// ```
    ///
    /// The iterations are those of Newton-Schulz, with `(a, b, c) = ns_coefficients`. This is
    /// `optax.contrib.muon`. [`Muon::torch`] gives `torch.optim.Muon`, except that torch multiplies
    /// matrices in bfloat16.
    ///
    /// Matrix products use fused multiply-add where the machine has it. Like those of `Shampoo` and
    /// `Soap`, the last bits can therefore differ between machines of different SIMD width. The
    /// results do not depend on memory layout or the number of threads.
    ///
    /// The products are ndarray's, on all threads. A program that enables ndarray's feature `blas`
    /// and links a BLAS library uses that instead; then the last bits are those of the library.
    ///
    /// # Hyper-parameters
    ///
    /// The singular values of `X` are brought near 1, so a step has a spectral norm of about
    /// `lr scale`. `scale` depends on the shape of the matrix: see [`AdjustLr`]. The presets differ
    /// in `bias_correction`, `eps` and its place, `adjust_lr` and `weight_decay`.
    ///
    /// Only matrices are accepted by default. With `row_axes`, arrays of more axes are flattened:
    /// the first `row_axes` axes form the rows, the others the columns. For another choice of axes,
    /// pass a permuted view; this makes no copy.
    ///
    /// # State
    ///
    /// `momentum_buffer`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; J. Liu et
    /// al., "Muon is Scalable for LLM Training",
    /// [arXiv:2502.16982](https://arxiv.org/abs/2502.16982).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Muon, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Muon::new(0.1));
    /// let mut theta = array![[1.0_f64, 0.0], [0.0, 1.0]];
    /// optimizer.update(&mut theta, &array![[1.0, 0.0], [0.0, 0.3]])?;
    /// // Both directions move by about lr, though one gradient is three times the other.
    /// assert!((theta[[0, 0]] - 0.9).abs() < 0.03 && (theta[[1, 1]] - 0.9).abs() < 0.03);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Muon = "muon" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Decay rate of the running average of gradients.
        momentum: f64 [in 0..1] = 0.95;
        /// Enables Nesterov momentum.
        nesterov: bool = true;
        /// Enables bias correction of the running average.
        bias_correction: bool = true;
        /// Coefficients `a`, `b` and `c` of the Newton-Schulz iteration.
        ns_coefficients: (f64, f64, f64) [finite] = (3.4445, -4.775, 2.0315);
        /// Number of Newton-Schulz iterations.
        ns_steps: u32 [in 1..=100] = 5;
        /// Added to the norm for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Takes the larger of the norm and `eps` instead of their sum, as torch does.
        eps_floor: bool = false;
        /// Scale of the step, by the shape of the matrix.
        adjust_lr: AdjustLr = AdjustLr::WideUp;
        /// Number of leading axes that form the rows; `None` accepts matrices only.
        row_axes: Option<usize> = None;
        /// Decoupled weight decay: each step subtracts `lr weight_decay p`.
        weight_decay: f64 [>= 0] = 0.0;
    }
    presets {
        /// `optax.contrib.muon`: the defaults.
        optax {}
        /// `torch.optim.Muon`: its form and its defaults.
        torch {
            bias_correction: false,
            eps: 1e-7,
            eps_floor: true,
            adjust_lr: AdjustLr::Original,
            weight_decay: 0.1,
        }
    }
}

impl Muon {
    /// Returns the numbers of rows and columns for an array of this shape.
    fn matrix(&self, shape: &[usize]) -> Result<(usize, usize), &'static str> {
        let axes = match self.row_axes {
            None if shape.len() == 2 => 1,
            None => return Err("a matrix (set `row_axes` to flatten arrays of more axes)"),
            Some(axes) if 0 < axes && axes < shape.len() => axes,
            Some(_) => return Err("more axes than `row_axes`, which is at least 1"),
        };
        let (rows, columns) = shape.split_at(axes);
        Ok((rows.iter().product(), columns.iter().product()))
    }
}

impl Algorithm for Muon {
    type Kernel<A: Element> = Preconditioned<WithDecoupled<Descent<A>>>;

    fn decay_rates(&self) -> DecayRates {
        DecayRates::new([self.momentum])
    }

    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        self.matrix(shape)
            .map(|_| vec![ExtraArray::new("momentum_buffer", shape)])
    }

    fn transform_cost(&self, shape: &[usize]) -> f64 {
        let (rows, columns) = self.matrix(shape).unwrap_or_default();
        let (n, m) = (rows.min(columns) as f64, rows.max(columns) as f64);
        // The products of each iteration, of which two are symmetric.
        f64::from(self.ns_steps) * n * n * (3.0 * m + n) / FLOPS
    }

    /// Returns the scale of the step.
    fn transform<A: Element>(
        &self,
        step: &StepContext,
        WholeArray {
            mut grad,
            extra,
            parallel,
            ..
        }: WholeArray<'_, A>,
    ) -> Scalars {
        let f = A::from_f64;
        let average = RunningAverage::new(self.momentum);
        let correction = |t| {
            if self.bias_correction {
                step.correction_at(0, t)
            } else {
                1.0
            }
        };
        let (m_coef, g_coef) = if self.nesterov {
            (
                self.momentum / correction(step.t + 1),
                (1.0 - self.momentum) / correction(step.t),
            )
        } else {
            (1.0 / correction(step.t), 0.0)
        };
        let (m_coef, g_coef) = (f(m_coef), f(g_coef));
        if let [m] = extra {
            ndarray::Zip::from(&mut grad).and(m).for_each(|g, m| {
                *m = flushed(average.update(*m, *g), smallest());
                *g = m_coef * *m + g_coef * *g;
            });
        }
        let (rows, columns) = self.matrix(grad.shape()).unwrap_or_default();
        if let Some(grad) = grad.as_slice_mut()
            && let Ok(matrix) = ArrayViewMut2::from_shape((rows, columns), grad)
        {
            self.orthogonalize(matrix, &parallel);
        }
        let (rows, columns) = (rows as f64, columns as f64);
        let scale = match self.adjust_lr {
            AdjustLr::WideUp => (columns / rows).max(1.0).sqrt(),
            AdjustLr::Original => (rows / columns).max(1.0).sqrt(),
            AdjustLr::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        };
        Scalars::new([scale])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let rule = Descent {
            lr: A::from_f64(self.lr * step.scalars[0]),
        };
        preconditioned(decoupled(rule, self.lr, self.weight_decay))
    }
}

impl Muon {
    /// Brings all singular values near 1 by Newton-Schulz iterations.
    fn orthogonalize<A: Element>(&self, mut matrix: ArrayViewMut2<'_, A>, parallel: &Parallel) {
        let tall = matrix.nrows() > matrix.ncols();
        let wide = if tall { matrix.t() } else { matrix.view() };
        let norm = norm_on(parallel, &matrix);
        let norm = match self.eps_floor {
            false => norm + self.eps,
            true if norm < self.eps => self.eps,
            true => norm,
        };
        // In `f64`: the inverse of a small norm is more than `f32` can hold.
        let mut x: Array2<A> = wide.mapv(|x| A::from_f64(x.f64().over(norm)));
        let (a, b, c) = self.ns_coefficients;
        let (a, b, c) = (A::from_f64(a), A::from_f64(b), A::from_f64(c));
        for _ in 0..self.ns_steps {
            let s = symmetric_product(x.view(), x.t(), parallel);
            let mut polynomial = symmetric_product(s.view(), s.view(), parallel);
            polynomial.zip_mut_with(&s, |ss, &s| *ss = b * s + c * *ss);
            let y = product(polynomial.view(), x.view(), parallel);
            x.zip_mut_with(&y, |x, &y| *x = a * *x + y);
        }
        matrix.assign(&if tall { x.t() } else { x.view() });
    }
}
