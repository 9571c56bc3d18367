use super::{
    axes::{
        accumulate, along, gram, inverse_root, matrix, preconditioned_axes, preconditioner_cost,
    },
    power::{Other, Power, Root},
    sgd::Descent,
    *,
};
use crate::kernel::Parallel;
use ndarray::{ArrayD, ArrayViewMutD, Zip};

algorithm! {
    /// Shampoo: Adagrad with a full-matrix preconditioner for each axis of an array in place of a
    /// diagonal one.
    ///
    /// # Update rule
    ///
    /// With `G` the gradient, `G_(i)` the gradient as a matrix whose rows run along axis `i`, and
    /// `k` the number of preconditioned axes:
    ///
    /// ```text
    /// L_i <- L_i + G_(i) G_(i)^T                       from eps I
    /// U = G times L_i^(-1/(2k)) along each axis i      for a matrix: L^(-1/4) G R^(-1/4)
    /// buf <- momentum buf + U                          from 0
    /// p <- p - lr (buf + weight_decay p)
    /// ```
    ///
    /// The axes of length at most `max_dim` of arrays with at least two axes are preconditioned;
    /// with `precondition_1d` also the axis of arrays with one. The other axes are skipped and do
    /// not count in `k`, so that steps have the same scale whichever axes are skipped. If no axis
    /// remains, as for vectors, whose matrix would cost more than it gains, the preconditioner is
    /// diagonal: `U = G / sqrt(eps + sum of G^2)`. To merge axes that belong together, pass a view
    /// with fewer axes.
    ///
    /// The inverse roots are computed at the steps `t` where `t - 1` is a multiple of
    /// `precondition_frequency`, and reused in between. The eigendecomposition is in `f64` for both
    /// element types. Eigenvalues below `n eps_A` times the largest one, for `n` rows and the
    /// machine epsilon `eps_A` of the element type, are raised to that value. If a root cannot be
    /// computed, the last one stays in use. Products with non-finite elements are not added to
    /// `L_i`.
    ///
    /// The exponent is that of the paper; some libraries use `-1/k`. Some also partition axes into
    /// blocks and rescale each step to that of another optimizer (grafting,
    /// [arXiv:2002.09018](https://arxiv.org/abs/2002.09018)), which is not offered here.
    ///
    /// Matrix products use fused multiply-add where the machine has it, as in
    /// [`Muon`](crate::Muon): the last bits can differ between machines of different SIMD width.
    /// They do not depend on memory layout and threads.
    ///
    /// # Hyper-parameters
    ///
    /// The first step of a matrix goes along the nearest orthogonal matrix, so its singular values
    /// are about `lr`. Later steps shrink as the statistics `L_i` grow, as in Adagrad. Weight decay
    /// is decoupled from the gradient. The roots of a 512 x 512 matrix take some 30 times as long
    /// as the rest of a step: a larger `precondition_frequency` spreads that cost.
    ///
    /// # State
    ///
    /// For each preconditioned axis, `precond_0` (`L_0` without `eps`) and `inv_precond_0` (its
    /// inverse root), `precond_1` and `inv_precond_1`, and so on; without any, `sum` in the shape
    /// of the parameter. With `momentum` also `momentum_buffer`.
    ///
    /// # Reference
    ///
    /// V. Gupta, T. Koren, Y. Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization",
    /// [arXiv:1802.09568](https://arxiv.org/abs/1802.09568).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Shampoo};
    ///
    /// let mut optimizer = Optimizer::new(Shampoo::new(0.1));
    /// let mut theta = array![[1.0_f64, 0.0], [0.0, 1.0]];
    /// optimizer.update(&mut theta, &array![[5.0, 4.0], [4.0, 5.0]])?;
    /// // The first step is along the nearest orthogonal matrix, here the identity, whatever the
    /// // singular values, here 9 and 1.
    /// assert!((theta[[0, 0]] - 0.9).abs() < 1e-6 && theta[[0, 1]].abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Shampoo = "shampoo" {
        /// Learning rate.
        lr: f64 [>= 0] = 1e-3;
        /// Momentum factor; at 0 the momentum buffer stays as it is, or there is none.
        momentum: f64 [in 0..=1] = 0.0;
        /// Initial diagonal of the preconditioner statistics L_i.
        eps: f64 [>= 0] = 1e-6;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.0;
        /// L_i is raised to the power -exponent; `None`: 1/(2k).
        exponent: Option<f64> [> 0] = None;
        /// Number of steps between computations of the inverse roots.
        precondition_frequency: u64 [>= 1] = 1;
        /// Axes longer than this are not preconditioned.
        max_dim: usize = 1024;
        /// Preconditions arrays with one axis too.
        precondition_1d: bool = false;
    }
}

/// The names of the two state arrays of each preconditioned axis.
const NAMES: [[&str; 2]; 6] = [
    ["precond_0", "inv_precond_0"],
    ["precond_1", "inv_precond_1"],
    ["precond_2", "inv_precond_2"],
    ["precond_3", "inv_precond_3"],
    ["precond_4", "inv_precond_4"],
    ["precond_5", "inv_precond_5"],
];

impl Algorithm for Shampoo {
    type Kernel<A: Element> = Preconditioned<
        Either<WithDecoupled<Descent<A>>, WithDecoupled<With<Descent<A>, Trace<A, false>>>>,
    >;
    const DEMANDS: Demands = Demands::NONE.switched(&["momentum_buffer"]);

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        let axes = preconditioned_axes(shape, self.max_dim, self.precondition_1d);
        if axes.is_empty() {
            return Ok(vec![ExtraArray::new("sum", shape)]);
        }
        let pairs = axes
            .iter()
            .zip(NAMES)
            .map(|(&axis, names)| names.map(|name| ExtraArray::new(name, [shape[axis]; 2])));
        Ok(pairs.flatten().collect())
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
        match extra {
            _ if grad.is_empty() => {}
            [sum] if axes.is_empty() => match self.exponent.unwrap_or(0.5) {
                0.5 => self.precondition_diagonal(grad, sum, Root),
                exponent => self.precondition_diagonal(grad, sum, Other(A::from_f64(exponent))),
            },
            _ => {
                // The shapes are those of `extra_arrays`, so this does not return early.
                let _ = self.precondition(step, grad, &axes, extra, &parallel);
            }
        }
        step.scalars
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _step: &StepContext) -> Self::Kernel<A> {
        if self.momentum == 0.0 {
            let rule = Descent {
                lr: A::from_f64(self.lr),
            };
            return preconditioned(Either::Left(decoupled(rule, self.lr, self.weight_decay)));
        }
        let trace = Trace {
            momentum: A::from_f64(self.momentum),
            lr: A::from_f64(self.lr),
        };
        let rule = Descent { lr: A::one() }.with(trace);
        preconditioned(Either::Right(decoupled(rule, self.lr, self.weight_decay)))
    }
}

impl Shampoo {
    /// Replaces the gradient by U, and updates the statistics and roots.
    fn precondition<A: Element>(
        &self,
        step: &StepContext,
        mut grad: ArrayViewMutD<'_, A>,
        axes: &[usize],
        extra: &mut [ArrayD<A>],
        parallel: &Parallel,
    ) -> Option<()> {
        let exponent = self.exponent.unwrap_or(0.5 / axes.len() as f64);
        let mut direction = grad.to_owned();
        for (&axis, pair) in axes.iter().zip(extra.chunks_exact_mut(2)) {
            let [sum, root] = pair else { return None };
            accumulate(sum, gram(&grad.view(), axis, parallel)?, A::one(), A::one());
            if (step.t - 1).is_multiple_of(self.precondition_frequency)
                && let Some(new) = inverse_root(matrix(sum)?, exponent, self.eps, parallel)
            {
                *root = new;
            }
            direction = along(&direction, axis, matrix(root)?, parallel)?;
        }
        grad.assign(&direction);
        Some(())
    }

    /// As `precondition`, with a diagonal preconditioner.
    fn precondition_diagonal<A: Element, P: Power<A>>(
        &self,
        mut grad: ArrayViewMutD<'_, A>,
        sum: &mut ArrayD<A>,
        power: P,
    ) {
        let eps = A::from_f64(self.eps);
        Zip::from(&mut grad).and(sum).for_each(|g, sum| {
            *sum += *g * *g;
            *g = g.over(power.of(*sum + eps));
        });
    }
}
