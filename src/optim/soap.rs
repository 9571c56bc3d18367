use super::{
    axes::{
        accumulate, along, eigenbasis, gram, matrix, power_iteration, preconditioned_axes,
        preconditioner_cost,
    },
    sgd::Descent,
    *,
};
use crate::kernel::Parallel;
use ndarray::{Array2, ArrayD, ArrayViewMutD, Axis, Zip};

algorithm! {
    /// SOAP: Adam in the eigenbasis of the preconditioners of [`Shampoo`](crate::Shampoo).
    ///
    /// The eigenbasis is updated by a QR decomposition every few steps.
    ///
    /// # Update rule
    ///
    /// With `G` the gradient, `G_(i)` the gradient as a matrix whose rows run along axis `i`, and
    /// `C_i` and `Q_i` the statistics and the eigenbasis of each preconditioned axis `i`:
    ///
    /// ```text
    /// t = 1:  C_i = (1 - shampoo_beta) G_(i) G_(i)^T
    ///         Q_i = eigenvectors of C_i, the largest eigenvalue first;  p stays
    /// t > 1:  G' = G times Q_i^T along each axis i                   for a matrix: Q_0^T G Q_1
    ///         m <- beta1 m + (1 - beta1) G'                          from 0
    ///         v <- beta2 v + (1 - beta2) G'^2                        from 0
    ///         U = m / (sqrt(v) + eps) times Q_i along each axis i    for a matrix: Q_0 .. Q_1^T
    ///         c = sqrt(1 - beta2^(t-1)) / (1 - beta1^(t-1))
    ///         p <- p - lr (c U + weight_decay p)
    ///         C_i <- shampoo_beta C_i + (1 - shampoo_beta) G_(i) G_(i)^T
    ///     where t - 1 is a multiple of precondition_frequency, for the next steps:
    ///         columns of Q_i and, along axis i, slices of v are sorted by diag(Q_i^T C_i Q_i),
    ///         the largest first
    ///         Q_i <- Q of the QR decomposition of C_i Q_i
    ///         m is rotated from the old bases into the new
    /// ```
    ///
    /// As in the authors' code, the first gradient only initializes the bases: the first step
    /// updates no parameter and applies no weight decay, so that no gradient is rotated into a
    /// basis computed from itself alone. `m` is kept in the eigenbases and rotated when they
    /// change, as in that code. Algorithm 3 of the paper keeps it unrotated and rotates it in every
    /// step, which is the same up to rounding, as an average is linear. `v` is not linear and is
    /// only sorted. Signs of eigenvectors cancel out.
    ///
    /// The axes of length at most `max_dim` of arrays with at least two axes are preconditioned;
    /// with `precondition_1d` also the axis of arrays with one. The other axes have `Q_i = I`; if
    /// no axis is preconditioned, this is [`AdamW`](crate::AdamW), one step late and with `eps`
    /// added to the root before its bias correction. In place of the authors' `merge_dims`, pass a
    /// view with fewer axes; there is no `normalize_grads`. Decompositions are in `f64` for both
    /// element types. If a basis cannot be computed, the last one, at first the identity, stays in
    /// use. Products with non-finite elements do not enter `C_i`.
    ///
    /// Matrix products use fused multiply-add where the machine has it, as in
    /// [`Muon`](crate::Muon): the last bits can differ between machines of different SIMD width.
    /// They do not depend on memory layout and threads.
    ///
    /// # Hyper-parameters
    ///
    /// `lr`, `betas`, `eps` and `weight_decay` act as in AdamW: a step is about `lr` in each
    /// direction of the eigenbasis, in the parameter's own unit. A smaller `precondition_frequency`
    /// keeps the bases closer to the eigenvectors and costs more decompositions.
    ///
    /// # State
    ///
    /// `exp_avg` and `exp_avg_sq` (in the eigenbases), in the shape of the parameter; for each
    /// preconditioned axis `GG_0` (`C_0`) and `Q_0`, `GG_1` and `Q_1`, and so on.
    ///
    /// # Reference
    ///
    /// N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam",
    /// [arXiv:2409.11321](https://arxiv.org/abs/2409.11321).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Soap};
    ///
    /// let mut optimizer = Optimizer::new(Soap::new(0.1));
    /// optimizer.algorithm_mut::<Soap>().unwrap().weight_decay = 0.0;
    /// let mut theta = array![[1.0_f64, 0.0], [0.0, 1.0]];
    /// let grad = array![[5.0, 4.0], [4.0, 5.0]];
    /// optimizer.update(&mut theta, &grad)?;
    /// assert_eq!(theta, array![[1.0, 0.0], [0.0, 1.0]]);
    /// optimizer.update(&mut theta, &grad)?;
    /// // Adam's first step is lr along the sign; here the signs are those of the singular values,
    /// // 9 and 1.
    /// assert!((theta[[0, 0]] - 0.9).abs() < 1e-6 && theta[[0, 1]].abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Soap = "soap" {
        /// Learning rate.
        lr: f64 [>= 0] = 3e-3;
        /// Decay rates of the running averages of G' and of its square.
        betas: (f64, f64) [in 0..1] = (0.95, 0.95);
        /// Decay rate of the preconditioner statistics C_i; `None`: the second of `betas`.
        shampoo_beta: Option<f64> [in 0..1] = None;
        /// Added to the denominator for numerical stability.
        eps: f64 [>= 0] = 1e-8;
        /// Bias correction: divides the moments by 1 - beta^t.
        bias_correction: bool = true;
        /// Decoupled weight decay: each step but the first subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.01;
        /// Number of steps between updates of the bases.
        precondition_frequency: u64 [>= 1] = 10;
        /// Axes longer than this are not preconditioned.
        max_dim: usize = 10_000;
        /// Preconditions arrays with one axis too.
        precondition_1d: bool = false;
    }
}

/// The names of the two state arrays of each preconditioned axis.
const NAMES: [[&str; 2]; 6] = [
    ["GG_0", "Q_0"],
    ["GG_1", "Q_1"],
    ["GG_2", "Q_2"],
    ["GG_3", "Q_3"],
    ["GG_4", "Q_4"],
    ["GG_5", "Q_5"],
];

impl Algorithm for Soap {
    type Kernel<A: Element> = Preconditioned<WithDecoupled<Descent<A>>>;

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        let axes = preconditioned_axes(shape, self.max_dim, self.precondition_1d);
        let pairs = axes
            .iter()
            .zip(NAMES)
            .map(|(&axis, names)| names.map(|name| ExtraArray::new(name, [shape[axis]; 2])));
        let moments = ["exp_avg", "exp_avg_sq"].map(|name| ExtraArray::new(name, shape));
        Ok(moments.into_iter().chain(pairs.flatten()).collect())
    }

    fn transform_cost(&self, shape: &[usize]) -> f64 {
        let axes = preconditioned_axes(shape, self.max_dim, self.precondition_1d);
        preconditioner_cost(shape, &axes, self.precondition_frequency)
    }

    fn transform<A: Element>(
        &self,
        step: &StepContext,
        WholeArray {
            grad,
            extra,
            parallel,
            ..
        }: WholeArray<'_, A>,
    ) -> Scalars {
        let axes = preconditioned_axes(grad.shape(), self.max_dim, self.precondition_1d);
        if let [m, v, pairs @ ..] = extra
            && !grad.is_empty()
        {
            let bases = Bases {
                axes: &axes,
                pairs,
                parallel,
            };
            // The shapes are those of `extra_arrays`, so this does not return early.
            let _ = bases.transform(self, step, grad, m, v);
        }
        step.scalars
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        if step.t == 1 {
            return preconditioned(decoupled(Descent { lr: A::ZERO }, 0.0, 0.0));
        }
        let t = step.t - 1;
        let step_size = self.lr / step.correction_at(0, t) * step.correction_at(1, t).sqrt();
        let rule = Descent {
            lr: A::from_f64(step_size),
        };
        preconditioned(decoupled(rule, self.lr, self.weight_decay))
    }
}

impl Soap {
    fn shampoo_beta(&self) -> f64 {
        self.shampoo_beta.unwrap_or(self.betas.1)
    }
}

/// The pairs of `GG` and `Q`, and the axes that they belong to.
struct Bases<'a, A> {
    axes: &'a [usize],
    pairs: &'a mut [ArrayD<A>],
    parallel: Parallel,
}

impl<A: Element> Bases<'_, A> {
    /// Replaces the gradient by U and updates the state.
    fn transform(
        mut self,
        config: &Soap,
        step: &StepContext,
        mut grad: ArrayViewMutD<'_, A>,
        m: &mut ArrayD<A>,
        v: &mut ArrayD<A>,
    ) -> Option<()> {
        let f = A::from_f64;
        if step.t == 1 {
            self.update_statistics(config, &grad)?;
            for pair in self.pairs.chunks_exact_mut(2) {
                let [gg, q] = pair else { return None };
                let identity = || Array2::eye(q.shape()[0]).into_dyn();
                *q = eigenbasis(matrix(gg)?).unwrap_or_else(identity);
            }
            grad.fill(A::ZERO);
            return Some(());
        }

        let ((beta1, beta2), eps) = (config.betas, f(config.eps));
        let (average, squares) = (
            RunningAverage::new(beta1),
            AverageOfSquares::new(beta2, config.eps),
        );
        let mut direction = self.rotated(grad.to_owned(), Rotation::IntoBases)?;
        Zip::from(&mut direction)
            .and(&mut *m)
            .and(&mut *v)
            .for_each(|g, m, v| {
                *m = flushed(average.update(*m, *g), smallest());
                *v = flushed(squares.update(*v, *g), squares.floor);
                *g = m.over(v.sqrt() + eps);
            });
        let direction = self.rotated(direction, Rotation::OutOfBases)?;

        self.update_statistics(config, &grad)?;
        if !self.axes.is_empty() && (step.t - 1).is_multiple_of(config.precondition_frequency) {
            let unrotated = self.rotated(m.clone(), Rotation::OutOfBases)?;
            self.update_bases(v)?;
            *m = self.rotated(unrotated, Rotation::IntoBases)?;
        }
        grad.assign(&direction);
        Some(())
    }

    /// Adds the gradient to the statistics `GG`.
    fn update_statistics(&mut self, config: &Soap, grad: &ArrayViewMutD<'_, A>) -> Option<()> {
        let beta = config.shampoo_beta();
        for (&axis, gg) in self.axes.iter().zip(self.pairs.iter_mut().step_by(2)) {
            let new = gram(&grad.view(), axis, &self.parallel)?;
            accumulate(gg, new, A::from_f64(beta), A::from_f64(1.0 - beta));
        }
        Some(())
    }

    /// `x` rotated into the eigenbases or out of them.
    fn rotated(&self, mut x: ArrayD<A>, rotation: Rotation) -> Option<ArrayD<A>> {
        for (&axis, q) in self.axes.iter().zip(self.pairs.iter().skip(1).step_by(2)) {
            let q = matrix(q)?;
            let by = match rotation {
                Rotation::IntoBases => q,
                Rotation::OutOfBases => q.reversed_axes(),
            };
            x = along(&x, axis, by, &self.parallel)?;
        }
        Some(x)
    }

    /// Moves the bases towards the eigenvectors, and sorts `v` in the order of their columns.
    fn update_bases(&mut self, v: &mut ArrayD<A>) -> Option<()> {
        for (&axis, pair) in self.axes.iter().zip(self.pairs.chunks_exact_mut(2)) {
            let [gg, q] = pair else { return None };
            if let Some((order, new)) = power_iteration(matrix(gg)?, matrix(q)?, &self.parallel) {
                *v = v
                    .select(Axis(axis), &order)
                    .as_standard_layout()
                    .into_owned();
                *q = new;
            }
        }
        Some(())
    }
}

/// The direction of a rotation.
#[derive(Clone, Copy)]
enum Rotation {
    IntoBases,
    OutOfBases,
}
