use super::{axes::*, sgd::Descent, *};
use crate::kernel::Parallel;
use ndarray::{ArrayD, ArrayViewMutD, Axis, Zip};

hyper_parameters! {
    /// Adam in the eigenbasis of Shampoo's preconditioners, which is updated by a QR decomposition every few steps.
    ///
    /// ```text
    /// G: the gradient;  G_(i): G as a matrix whose rows run along axis i;  C_i, Q_i: for each preconditioned axis i
    /// t = 1:  C_i = (1 - shampoo_beta) G_(i) G_(i)^T;  Q_i = eigenvectors of C_i, the largest eigenvalue first;  p stays
    /// t > 1:  G' = G times Q_i^T along each axis i                                for a matrix: Q_0^T G Q_1
    ///         m <- beta1 m + (1 - beta1) G'                                       from 0
    ///         v <- beta2 v + (1 - beta2) G'^2                                     from 0
    ///         U = m / (sqrt(v) + eps) times Q_i along each axis i                 for a matrix: Q_0 .. Q_1^T
    ///         p <- p - lr (sqrt(1 - beta2^(t-1)) / (1 - beta1^(t-1)) U + weight_decay p)
    ///         C_i <- shampoo_beta C_i + (1 - shampoo_beta) G_(i) G_(i)^T
    ///     where t - 1 is a multiple of precondition_frequency, for the next steps:
    ///         columns of Q_i and, along axis i, slices of v are sorted by diag(Q_i^T C_i Q_i), the largest first
    ///         Q_i <- Q of the QR decomposition of C_i Q_i;  m is rotated from the old bases into the new
    /// ```
    ///
    /// As in the authors' code the first gradient only chooses the bases: no array moves or decays in the first step, so
    /// that no gradient is seen in a basis of its own making. m is kept in the eigenbases and rotated when they change, as
    /// there; the paper's Algorithm 3 keeps it unrotated and rotates it in every step, which is the same but for rounding,
    /// as an average is linear. v is not linear and is only sorted. Signs of eigenvectors cancel out.
    ///
    /// Preconditioned are the axes of length at most `max_dim` of arrays with two axes or more (`precondition_1d`: or with
    /// one). The others have Q_i = I; without any this is [`AdamW`], one step late and with eps outside the bias correction.
    /// The authors' `merge_dims` is done by lending a view of fewer axes; there is no `normalize_grads`. Decompositions
    /// compute in `f64` for both element types. A basis that cannot be computed leaves the earlier one, at first the
    /// identity, in its place, and products with infinite or NaN elements do not enter C_i.
    ///
    /// Source: N. Vyas et al., arXiv:2409.11321. State: `exp_avg` and `exp_avg_sq` (in the eigenbases), `GG_0` (C_0), `Q_0`,
    /// ... for each preconditioned axis.
    ///
    /// Products of matrices use fused multiply-add where the machine has it, as in [`Muon`]: the last bits can differ
    /// between machines of different SIMD width, not with layout and threads.
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
    /// // Adam's first step is lr along the sign; here the signs are those of the singular values, 9 and 1.
    /// assert!((theta[[0, 0]] - 0.9).abs() < 1e-6 && theta[[0, 1]].abs() < 1e-6);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "soap" Soap {
        /// Learning rate, >= 0.
        lr: f64 = 3e-3,
        /// Decay rates of the running averages of G' and of its square, each in [0, 1).
        betas: (f64, f64) = (0.95, 0.95),
        /// Decay rate of the preconditioner statistics C_i, in [0, 1); `None`: the second of `betas`.
        shampoo_beta: Option<f64> = None,
        /// Added to the denominator for numerical stability, >= 0.
        eps: f64 = 1e-8,
        /// Decoupled weight decay, >= 0: each step but the first subtracts lr weight_decay p.
        weight_decay: f64 = 0.01,
        /// Steps between updates of the bases, >= 1.
        precondition_frequency: u64 = 10,
        /// Axes longer than this are not preconditioned.
        max_dim: usize = 10_000,
        /// Preconditions arrays of one axis too.
        precondition_1d: bool = false,
    }
}

const NAMES: [[&str; 2]; 6] =
    [["GG_0", "Q_0"], ["GG_1", "Q_1"], ["GG_2", "Q_2"], ["GG_3", "Q_3"], ["GG_4", "Q_4"], ["GG_5", "Q_5"]];

impl Algorithm for Soap {
    type Kernel<A: Element> = WithDecoupled<Descent<A>>;
    fn is_directed(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), Error> {
        check::averages(self.lr, self.betas, self.eps)?;
        check::non_negative("weight_decay", self.weight_decay)?;
        check::share("shampoo_beta", self.shampoo_beta())?;
        let every = self.precondition_frequency;
        check::that(every > 0, "precondition_frequency", every, "a number of steps >= 1")
    }

    fn betas(&self) -> [f64; 3] {
        [self.betas.0, self.betas.1, 0.0]
    }

    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        let axes = preconditioned(shape, self.max_dim, self.precondition_1d);
        let named = axes.iter().zip(NAMES).map(|(&axis, names)| names.map(|name| (name, vec![shape[axis]; 2])));
        let moments = ["exp_avg", "exp_avg_sq"].map(|name| (name, shape.to_vec()));
        Ok(moments.into_iter().chain(named.flatten()).collect())
    }

    fn direct<A: Element>(&self, now: &Now, Whole { g, factors, parallel, .. }: Whole<'_, A>) -> Scalars {
        let axes = preconditioned(g.shape(), self.max_dim, self.precondition_1d);
        if let [m, v, bases @ ..] = factors
            && !g.is_empty()
        {
            // The shapes are those of `factors`, so that nothing is left undone.
            let _ = Bases { axes: &axes, factors: bases, parallel }.direct(self, now, g, m, v);
        }
        now.scalars
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        if now.t == 1 {
            return decoupled(Descent { lr: A::ZERO }, 0.0, 0.0);
        }
        let t = now.t - 1;
        let step_size = self.lr * now.correction_at(1, t).sqrt() / now.correction_at(0, t);
        decoupled(Descent { lr: A::of(step_size) }, self.lr, self.weight_decay)
    }
}

impl Soap {
    fn shampoo_beta(&self) -> f64 {
        self.shampoo_beta.unwrap_or(self.betas.1)
    }
}

/// Pairs of `GG` and `Q`, and the axes they are of.
struct Bases<'a, A> {
    axes: &'a [usize],
    factors: &'a mut [ArrayD<A>],
    parallel: Parallel,
}

impl<A: Element> Bases<'_, A> {
    fn direct(
        mut self,
        config: &Soap,
        now: &Now,
        mut g: ArrayViewMutD<'_, A>,
        m: &mut ArrayD<A>,
        v: &mut ArrayD<A>,
    ) -> Option<()> {
        let f = A::of;
        if now.t == 1 {
            self.average(config, &g)?;
            for pair in self.factors.chunks_exact_mut(2) {
                let [gg, q] = pair else { return None };
                let identity = || ndarray::Array2::eye(q.shape()[0]).into_dyn();
                *q = eigenbasis(matrix(gg)?).unwrap_or_else(identity);
            }
            g.fill(A::ZERO);
            return Some(());
        }

        let ((beta1, beta2), eps) = (config.betas, f(config.eps));
        let [keep_m, take_m, keep_v, take_v] = [beta1, 1.0 - beta1, beta2, 1.0 - beta2].map(f);
        let mut direction = self.rotated(g.to_owned(), Way::In)?;
        Zip::from(&mut direction).and(&mut *m).and(&mut *v).for_each(|g, m, v| {
            *m = (keep_m * *m + take_m * *g).flush();
            *v = (keep_v * *v + take_v * (*g * *g)).flush();
            *g = m.over(v.sqrt() + eps);
        });
        let direction = self.rotated(direction, Way::Out)?;

        self.average(config, &g)?;
        if !self.axes.is_empty() && (now.t - 1).is_multiple_of(config.precondition_frequency) {
            let plain = self.rotated(m.clone(), Way::Out)?;
            self.turn(v)?;
            *m = self.rotated(plain, Way::In)?;
        }
        g.assign(&direction);
        Some(())
    }

    fn average(&mut self, config: &Soap, g: &ArrayViewMutD<'_, A>) -> Option<()> {
        let beta = config.shampoo_beta();
        for (&axis, gg) in self.axes.iter().zip(self.factors.iter_mut().step_by(2)) {
            accumulate(gg, gram(&g.view(), axis, &self.parallel)?, A::of(beta), A::of(1.0 - beta));
        }
        Some(())
    }

    fn rotated(&self, mut x: ArrayD<A>, way: Way) -> Option<ArrayD<A>> {
        for (&axis, q) in self.axes.iter().zip(self.factors.iter().skip(1).step_by(2)) {
            let q = matrix(q)?;
            x = along(&x, axis, if way == Way::In { q } else { q.reversed_axes() }, &self.parallel)?;
        }
        Some(x)
    }

    /// Brings the bases closer to the eigenvectors; `v` follows the order of their columns.
    fn turn(&mut self, v: &mut ArrayD<A>) -> Option<()> {
        for (&axis, pair) in self.axes.iter().zip(self.factors.chunks_exact_mut(2)) {
            let [gg, q] = pair else { return None };
            if let Some((order, new)) = refined(matrix(gg)?, matrix(q)?, &self.parallel) {
                *v = v.select(Axis(axis), &order).as_standard_layout().into_owned();
                *q = new;
            }
        }
        Some(())
    }
}

/// Into the eigenbases, or out of them.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    In,
    Out,
}
