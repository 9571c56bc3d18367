use super::{axes::*, sgd::Descent, *};
use crate::kernel::Parallel;
use ndarray::{ArrayD, ArrayViewMutD, Zip};

hyper_parameters! {
    /// Adagrad with a full-matrix preconditioner for each axis of an array in place of a diagonal one.
    ///
    /// ```text
    /// G: the gradient;  G_(i): G as a matrix whose rows run along axis i;  k: the number of preconditioned axes
    /// L_i <- L_i + G_(i) G_(i)^T                                      from eps I
    /// U = G times L_i^(-1/(2k)) along each axis i                     for a matrix: L^(-1/4) G R^(-1/4)
    /// buf <- momentum buf + U                                         from 0
    /// p <- p - lr (buf + weight_decay p)
    /// ```
    ///
    /// Preconditioned are the axes of length at most `max_dim` of arrays with two axes or more (`precondition_1d`: or with
    /// one); the others are left as they are and do not count in k, so that steps have the same scale whatever is left out.
    /// Where no axis remains (vectors, for which a matrix would cost more than it gives) this is the diagonal `U = G /
    /// sqrt(eps + sum of G^2)`. Axes that belong together are merged by lending a view of fewer axes.
    ///
    /// The roots of step t are computed where t - 1 is a multiple of `precondition_frequency` and are kept in between, by
    /// eigendecomposition in `f64` for both element types; eigenvalues below n eps_A times the largest, for n rows and the
    /// machine epsilon eps_A of the element type, are raised to that. A root that cannot be computed leaves the earlier one
    /// in its place, and products with infinite or NaN elements are not added to L_i.
    ///
    /// Weight decay is decoupled from the gradient. The exponent is the paper's: some libraries take -1/k; `exponent`
    /// changes it. Others divide the axes into blocks and rescale each step to that of another optimizer (grafting,
    /// arXiv:2002.09018): not here. Source: V. Gupta, T. Koren, Y. Singer, arXiv:1802.09568. State: `momentum_buffer` with
    /// momentum, `precond_0` (L_0 without eps), `inv_precond_0` (its root), ... for each preconditioned axis, or `sum`.
    ///
    /// Products of matrices use fused multiply-add where the machine has it, as in [`Muon`]: the last bits can differ
    /// between machines of different SIMD width, not with layout and threads.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Shampoo};
    ///
    /// let mut optimizer = Optimizer::new(Shampoo::new(0.1));
    /// let mut theta = array![[1.0_f64, 0.0], [0.0, 1.0]];
    /// optimizer.update(&mut theta, &array![[5.0, 4.0], [4.0, 5.0]])?;
    /// // The first step is along the nearest orthogonal matrix, here the identity, whatever the singular values, here 9 and 1.
    /// assert!((theta[[0, 0]] - 0.9).abs() < 1e-6 && theta[[0, 1]].abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "shampoo" Shampoo {
        /// Learning rate, >= 0.
        lr: f64 = 1e-3,
        /// Share of the buffer that is kept, in [0, 1]; at 0 there is none.
        momentum: f64 = 0.0,
        /// Initial diagonal of the preconditioner statistics L_i, >= 0.
        eps: f64 = 1e-6,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
        /// L_i is raised to the power -exponent, > 0; `None`: 1/(2k).
        exponent: Option<f64> = None,
        /// Steps between computations of the roots, >= 1; those of 512 x 512 take some 30 times as long as the rest of a
        /// step.
        precondition_frequency: u64 = 1,
        /// Axes longer than this are not preconditioned.
        max_dim: usize = 1024,
        /// Preconditions arrays of one axis too.
        precondition_1d: bool = false,
    }
}

const NAMES: [[&str; 2]; 6] = [
    ["precond_0", "inv_precond_0"],
    ["precond_1", "inv_precond_1"],
    ["precond_2", "inv_precond_2"],
    ["precond_3", "inv_precond_3"],
    ["precond_4", "inv_precond_4"],
    ["precond_5", "inv_precond_5"],
];

impl Algorithm for Shampoo {
    type Kernel<A: Element> = Either<WithDecoupled<Descent<A>>, WithDecoupled<With<Descent<A>, Trace<A, false>>>>;
    fn is_directed(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::unit("momentum", self.momentum)?;
        check::non_negative("eps", self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)?;
        if let Some(exponent) = self.exponent {
            check::that(exponent > 0.0 && exponent.is_finite(), "exponent", exponent, "a finite number > 0")?;
        }
        let every = self.precondition_frequency;
        check::that(every > 0, "precondition_frequency", every, "a number of steps >= 1")
    }

    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        let axes = preconditioned(shape, self.max_dim, self.precondition_1d);
        if axes.is_empty() {
            return Ok(vec![("sum", shape.to_vec())]);
        }
        let named = axes.iter().zip(NAMES).map(|(&axis, names)| names.map(|name| (name, vec![shape[axis]; 2])));
        Ok(named.flatten().collect())
    }

    fn direct<A: Element>(&self, now: &Now, Whole { g, factors, parallel, .. }: Whole<'_, A>) -> Scalars {
        let axes = preconditioned(g.shape(), self.max_dim, self.precondition_1d);
        match factors {
            _ if g.is_empty() => {}
            [sum] if axes.is_empty() => self.scale(g, sum),
            _ => {
                // The shapes are those of `factors`, so that nothing is left undone.
                let _ = self.precondition(now, g, &axes, factors, &parallel);
            }
        }
        now.scalars
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, _now: &Now) -> Self::Kernel<A> {
        if self.momentum == 0.0 {
            return Either::X(decoupled(Descent { lr: A::of(self.lr) }, self.lr, self.weight_decay));
        }
        let trace = Trace { momentum: A::of(self.momentum), lr: A::of(self.lr) };
        Either::Y(decoupled(Descent { lr: A::one() }.with(trace), self.lr, self.weight_decay))
    }
}

impl Shampoo {
    fn precondition<A: Element>(
        &self,
        now: &Now,
        mut g: ArrayViewMutD<'_, A>,
        axes: &[usize],
        factors: &mut [ArrayD<A>],
        parallel: &Parallel,
    ) -> Option<()> {
        let exponent = self.exponent.unwrap_or(0.5 / axes.len() as f64);
        let mut direction = g.to_owned();
        for (&axis, factors) in axes.iter().zip(factors.chunks_exact_mut(2)) {
            let [sum, root] = factors else { return None };
            accumulate(sum, gram(&g.view(), axis, parallel)?, A::one(), A::one());
            if (now.t - 1).is_multiple_of(self.precondition_frequency)
                && let Some(new) = inverse_root(matrix(sum)?, exponent, self.eps, parallel)
            {
                *root = new;
            }
            direction = along(&direction, axis, matrix(root)?, parallel)?;
        }
        g.assign(&direction);
        Some(())
    }

    /// The form without matrices.
    fn scale<A: Element>(&self, mut g: ArrayViewMutD<'_, A>, sum: &mut ArrayD<A>) {
        let (eps, exponent) = (A::of(self.eps), A::of(self.exponent.unwrap_or(0.5)));
        let power = |x: A| if exponent == A::of(0.5) { x.sqrt() } else { x.powf(exponent) };
        Zip::from(&mut g).and(sum).for_each(|g, sum| {
            *sum += *g * *g;
            *g = g.over(power(*sum + eps));
        });
    }
}
