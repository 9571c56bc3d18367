use super::{sgd::Descent, *};
use crate::kernel::{Parallel, product::product, reduce::sum_squares};
use ndarray::{Array2, ArrayViewMut2};

/// Scale of a step of [`Muon`] by the shape of the matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum AdjustLr {
    /// sqrt(max(1, columns / rows)): optax, where weights have the shape (inputs, outputs).
    #[default]
    WideUp,
    /// sqrt(max(1, rows / columns)): torch's `original`, where weights have the shape (outputs, inputs).
    Original,
    /// 0.2 sqrt(max(rows, columns)): matches the RMS of AdamW's updates, so that its learning rates can be used.
    MatchRmsAdamw,
}

impl crate::algorithm::fields::Field for AdjustLr {}

hyper_parameters! {
    /// Momentum with updates orthogonalised by Newton-Schulz iterations. For the hidden weight matrices of networks; give
    /// all else (embeddings, biases, the first and the last layer) to [`AdamW`], in one optimizer: see
    /// [`Group`](crate::Group).
    ///
    /// ```text
    /// m <- momentum m + (1 - momentum) g                                  from 0
    /// m' = m / (1 - momentum^t), or with nesterov
    ///      momentum m / (1 - momentum^(t + 1)) + (1 - momentum) g / (1 - momentum^t)
    /// bias_correction off: m, or with nesterov momentum m + (1 - momentum) g
    /// X = m' / (|m'| + eps), transposed if it is higher than wide
    /// ns_steps times:  S = X X^T,  X <- a X + (b S + c S S) X              (a, b, c) = ns_coefficients: Newton-Schulz
    /// p <- p - lr (scale X + weight_decay p)
    /// ```
    ///
    /// Only matrices are accepted; with `row_axes` arrays of more axes are flattened: the first `row_axes` axes make the
    /// rows, the others the columns. (For another choice lend a permuted view; that costs nothing.)
    ///
    /// This is `optax.contrib.muon`; [`Muon::torch`] gives `torch.optim.Muon`, but for torch's matrix products in bfloat16.
    /// Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; J. Liu et al.,
    /// arXiv:2502.16982. State: `momentum_buffer`.
    ///
    /// Products of matrices use fused multiply-add where the machine has it: here alone the last bits can differ between
    /// machines of different SIMD width. They do not depend on layout and threads.
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
    "muon" Muon {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Decay rate of the running average, in [0, 1).
        momentum: f64 = 0.95,
        /// Nesterov momentum.
        nesterov: bool = true,
        /// Corrects the bias of the running average.
        bias_correction: bool = true,
        /// Coefficients a, b and c of the Newton-Schulz iteration.
        ns_coefficients: (f64, f64, f64) = (3.4445, -4.775, 2.0315),
        /// Newton-Schulz iterations, 1 to 100.
        ns_steps: u32 = 5,
        /// Added to the norm for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Scale of the step by the shape of the matrix.
        adjust_lr: AdjustLr = AdjustLr::WideUp,
        /// How many of the first axes make the rows; `None`: matrices only.
        row_axes: Option<usize> = None,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
    }
}

impl Muon {
    /// The form of `optax.contrib.muon`: the defaults.
    pub fn optax() -> Self {
        Self::default()
    }

    /// The form and the defaults of `torch.optim.Muon`; norms below its eps of 1e-7 count as they are.
    pub fn torch() -> Self {
        Muon { bias_correction: false, eps: 0.0, adjust_lr: AdjustLr::Original, weight_decay: 0.1, ..Default::default() }
    }

    /// Rows and columns of an array of this shape.
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
    type Kernel<A: Element> = WithDecoupled<Descent<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::share("momentum", self.momentum)?;
        let (a, b, c) = self.ns_coefficients;
        let finite = a.is_finite() && b.is_finite() && c.is_finite();
        check::that(finite, "ns_coefficients", format!("{:?}", self.ns_coefficients), "three finite numbers")?;
        check::that((1..=100).contains(&self.ns_steps), "ns_steps", self.ns_steps, "1 to 100")?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn betas(&self) -> [f64; 3] {
        [self.momentum, 0.0, 0.0]
    }

    fn is_directed(&self) -> bool {
        true
    }

    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        self.matrix(shape).map(|_| vec![("momentum_buffer", shape.to_vec())])
    }

    /// The scale.
    fn direct<A: Element>(&self, now: &Now, Whole { mut g, factors, parallel, .. }: Whole<'_, A>) -> Scalars {
        let f = A::of;
        let (keep, take) = (f(self.momentum), f(1.0 - self.momentum));
        let correction = |t| if self.bias_correction { now.correction_at(0, t) } else { 1.0 };
        let (of_m, of_g) = if self.nesterov {
            (self.momentum / correction(now.t + 1), (1.0 - self.momentum) / correction(now.t))
        } else {
            (1.0 / correction(now.t), 0.0)
        };
        let (of_m, of_g) = (f(of_m), f(of_g));
        if let [m] = factors {
            ndarray::Zip::from(&mut g).and(m).for_each(|g, m| {
                *m = (keep * *m + take * *g).flush();
                *g = of_m * *m + of_g * *g;
            });
        }
        let (rows, columns) = self.matrix(g.shape()).unwrap_or_default();
        if let Some(g) = g.as_slice_mut()
            && let Ok(g) = ArrayViewMut2::from_shape((rows, columns), g)
        {
            self.orthogonalize(g, &parallel);
        }
        let (rows, columns) = (rows as f64, columns as f64);
        let scale = match self.adjust_lr {
            AdjustLr::WideUp => (columns / rows).max(1.0).sqrt(),
            AdjustLr::Original => (rows / columns).max(1.0).sqrt(),
            AdjustLr::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        };
        [scale, 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        decoupled(Descent { lr: A::of(self.lr * now.scalars[0]) }, self.lr, self.weight_decay)
    }
}

impl Muon {
    /// Brings all singular values near 1.
    fn orthogonalize<A: Element>(&self, mut matrix: ArrayViewMut2<'_, A>, parallel: &Parallel) {
        let high = matrix.nrows() > matrix.ncols();
        let wide = if high { matrix.t() } else { matrix.view() };
        let norm = sum_squares(&matrix).sqrt() + self.eps;
        let scale = A::of(if norm > 0.0 { 1.0 / norm } else { 0.0 });
        let mut x: Array2<A> = Array2::from_shape_fn(wide.dim(), |at| wide[at] * scale);
        let (a, b, c) = self.ns_coefficients;
        let (a, b, c) = (A::of(a), A::of(b), A::of(c));
        for _ in 0..self.ns_steps {
            let s = product(x.view(), x.t(), parallel);
            let mut polynomial = product(s.view(), s.view(), parallel);
            polynomial.zip_mut_with(&s, |ss, &s| *ss = b * s + c * *ss);
            let y = product(polynomial.view(), x.view(), parallel);
            x.zip_mut_with(&y, |x, &y| *x = a * *x + y);
        }
        matrix.assign(&if high { x.t() } else { x.view() });
    }
}
