use super::{sgd::Descent, *};
use crate::kernel::{Parallel, pool::on_threads, reduce::norm_on};
use ndarray::{ArrayD, ArrayViewMutD};

algorithm! {
    /// Adam with a factored second moment, one number per row and one per column, and by default
    /// without a first moment.
    ///
    /// For large matrices: the state is sublinear in the number of parameters. Step sizes are
    /// relative to the scale of the parameters, unless `scale_parameter` is off.
    ///
    /// # Update rule
    ///
    /// With `g` the gradient, negated if `maximize`, `n` the number of elements and
    /// `rms(x) = |x| / sqrt(n)`:
    ///
    /// ```text
    /// w = t^beta2_decay
    /// two or more axes:  R <- R + w (mean of g^2 over the last axis - R)
    ///                    C <- C + w (mean of g^2 over the last but one - C)
    ///                    v = R C / max(mean of R, eps_0)
    ///                    the axes before the last two are a batch of matrices
    /// one or no axis:    v <- v + w (g^2 - v)
    /// u = g / sqrt(max(v, eps_0^2))
    /// a = max(eps_1, rms(p))  if scale_parameter, else 1
    /// b = min(lr, 1 / sqrt(t))  if relative_step, and at most 1e-6 t if warmup_init;  else lr
    /// r = a b / max(1, rms(u) / d)
    /// m <- beta1 m + (1 - beta1) r u                                  m = r u if beta1 is 0
    /// p <- p - m - lr weight_decay p
    /// ```
    ///
    /// This is `torch.optim.Adafactor`, which has neither `beta1` nor the switches. These are those
    /// of `transformers.Adafactor` and fairseq, which add 1e-30 to g^2 in place of a floor for v:
    /// the same is `eps: (Some(1e-15), 1e-3)`, and their `relative_step` has `lr` at 1e-2. Their
    /// weight decay is proportional to a b in place of lr. optax factors only large arrays.
    ///
    /// # Hyper-parameters
    ///
    /// - `lr` is relative: the root mean square of a step, apart from weight decay, is at most
    ///   `d min(lr, 1 / sqrt(t))` times that of the parameter, or times `eps.1` if that is larger.
    ///   A parameter of zeros moves only because of `eps.1`. Without `scale_parameter` the root
    ///   mean square of a step is at most `d min(lr, 1 / sqrt(t))`.
    /// - Without `relative_step`, `lr` is the learning rate of each step, to be driven by a
    ///   schedule. T5 is fine-tuned with `lr: 1e-3` and both switches off.
    /// - `warmup_init` limits the relative step to 1e-6 t, which ends after 1e4 steps at 1e-2.
    /// - `beta1` above 0 averages the steps. It adds a state array in the shape of the parameter.
    /// - `beta2_decay` sets how fast the decay rate of the second moment, `1 - t^beta2_decay`,
    ///   approaches 1.
    /// - `d` clips updates by their root mean square; a very large value turns the clipping off.
    /// - `weight_decay` scales with `lr` alone, not with the parameter's root mean square or `t`.
    ///
    /// [`Adafactor::torch`] is the only preset.
    ///
    /// # State
    ///
    /// With two or more axes `row_var`, in the shape of the parameter without its last axis, and
    /// `col_var`, in that without the last but one. Otherwise `variance`, in the shape of the
    /// parameter. With `beta1` above 0, also `exp_avg`, in the shape of the parameter.
    ///
    /// # Reference
    ///
    /// N. Shazeer, M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    /// [arXiv:1804.04235](https://arxiv.org/abs/1804.04235).
    ///
    /// # Example
    ///
    /// ```
    /// use ndarray::Array2;
    /// use ndarray_optim::{Adafactor, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adafactor::new(0.1));
    /// let mut theta = Array2::<f64>::ones((300, 200));
    /// optimizer.update(&mut theta, &Array2::from_elem((300, 200), 1e-3))?;
    /// assert!((theta[[7, 7]] - 0.9).abs() < 1e-6);
    /// let state = optimizer.state("variable");
    /// assert_eq!(state.iter().map(|(_, a)| a.len()).sum::<usize>(), 300 + 200);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    Adafactor = "adafactor" {
        /// Upper bound of the relative step size, or the learning rate without `relative_step`.
        lr: f64 [>= 0] = 1e-2;
        /// Exponent of t in the weight of the new squares.
        beta2_decay: f64 [<= 0] = -0.8;
        /// Lower bounds of sqrt(v), `None` for the element type's machine epsilon, and of rms(p).
        eps: (Option<f64>, f64) [>= 0] = (None, 1e-3);
        /// Clipping threshold: the largest root mean square of u.
        d: f64 [>= 1] = 1.0;
        /// Decoupled weight decay: each step subtracts lr weight_decay p.
        weight_decay: f64 [>= 0] = 0.0;
        /// Decay rate of the average of the steps; 0 for no first moment.
        beta1: f64 [in 0..1] = 0.0;
        /// Multiplies the learning rate by the root mean square of the parameter.
        scale_parameter: bool = true;
        /// Limits the learning rate to 1 / sqrt(t).
        relative_step: bool = true;
        /// Begins with a relative step of 1e-6 t.
        warmup_init: bool = false;
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false;
    }
    presets {
        /// `torch.optim.Adafactor`: the defaults.
        torch {}
    }
    check(self) {
        if self.warmup_init && !self.relative_step {
            let expected = "false without relative_step";
            return Err(self.wrong("warmup_init", self.warmup_init, expected));
        }
        Ok(())
    }
}

/// The average of steps of gradient descent.
#[derive(Clone, Copy, Debug)]
pub struct AveragedDescent<A> {
    beta1: A,
    /// `(1 - beta1) lr`.
    gain: A,
}

impl<A: Element> Rule for AveragedDescent<A> {
    type Elem = A;
    type State = [A; 1];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const COST: u64 = 2;
    #[inline(always)]
    fn delta(&self, _p: A, g: A, [m]: [A; 1]) -> (A, [A; 1]) {
        let m = self.beta1 * m + self.gain * g;
        (m, [m])
    }
    fn floors(&self) -> [A; 1] {
        [smallest()]
    }
}

impl Algorithm for Adafactor {
    type Kernel<A: Element> =
        Preconditioned<Either<WithDecoupled<Descent<A>>, WithDecoupled<AveragedDescent<A>>>>;
    const DEMANDS: Demands = Demands::NONE.reads_source().switched(&["exp_avg"]);

    fn largest_gradient(&self, largest: f64) -> f64 {
        largest.sqrt()
    }

    fn extra_arrays(&self, shape: &[usize]) -> Result<Vec<ExtraArray>, &'static str> {
        Ok(match shape {
            [batch @ .., rows, columns] => {
                vec![
                    ExtraArray::new("row_var", [batch, &[*rows]].concat()),
                    ExtraArray::new("col_var", [batch, &[*columns]].concat()),
                ]
            }
            _ => vec![ExtraArray::new("variance", shape)],
        })
    }

    /// Replaces the gradient by u; the scalar is the factor on u.
    fn transform<A: Element>(&self, step: &StepContext, array: WholeArray<'_, A>) -> Scalars {
        let WholeArray {
            param,
            mut grad,
            extra,
            parallel,
            source,
            ..
        } = array;
        let weight = A::from_f64(libm::pow(step.t as f64, self.beta2_decay));
        let eps = self.eps.0.map_or(A::epsilon(), A::from_f64);
        let mut squares = 0.0;
        match extra {
            [v] => {
                fetch(grad.as_slice_mut().unwrap_or_default(), source);
                v.zip_mut_with(&grad, |v, &g| {
                    *v += weight * (A::from_f64(finite(g.f64() * g.f64())) - *v);
                });
                let floor = eps * eps;
                grad.zip_mut_with(v, |g, &v| *g = *g / v.max(floor).sqrt());
                squares = f64::INFINITY;
            }
            [rows, columns] => {
                for_each_matrix(
                    &mut grad,
                    source,
                    rows,
                    columns,
                    |g, source, rows, columns| {
                        average_squares(source.unwrap_or(g), rows, columns, weight, &parallel);
                        squares += normalize_rows(g, source, rows, columns, eps, &parallel);
                    },
                );
            }
            _ => {}
        }
        // Squares of `f64` numbers can overflow.
        let norm_of_u = if squares < f64::INFINITY {
            squares.sqrt()
        } else {
            norm_on(&parallel, &grad)
        };
        let rms = |norm: f64| norm / (grad.len() as f64).sqrt();
        let scale = if self.scale_parameter {
            rms(norm_on(&parallel, &param)).max(self.eps.1)
        } else {
            1.0
        };
        let rate = scale * self.rate(step.t as f64);
        Scalars::new([rate / (rms(norm_of_u) / self.d).max(1.0)])
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, step: &StepContext) -> Self::Kernel<A> {
        let (f, lr) = (A::from_f64, step.scalars[0]);
        let decay = self.weight_decay;
        preconditioned(if self.beta1 == 0.0 {
            Either::Left(decoupled(Descent { lr: f(lr) }, self.lr, decay))
        } else {
            let rule = AveragedDescent {
                beta1: f(self.beta1),
                gain: f((1.0 - self.beta1) * lr),
            };
            Either::Right(decoupled(rule, self.lr, decay))
        })
    }
}

impl Adafactor {
    /// The learning rate of step `t`, without the scale of the parameter.
    fn rate(&self, t: f64) -> f64 {
        let most = if self.warmup_init {
            1e-6 * t
        } else {
            f64::INFINITY
        };
        match self.relative_step {
            true => self.lr.min(1.0 / t.sqrt()).min(most),
            false => self.lr,
        }
    }
}

/// Calls `work` with each matrix of the batch, and with its second moments per row and per column.
fn for_each_matrix<A: Element>(
    g: &mut ArrayViewMutD<'_, A>,
    source: Option<&[A]>,
    rows: &mut ArrayD<A>,
    columns: &mut ArrayD<A>,
    mut work: impl FnMut(&mut [A], Option<&[A]>, &mut [A], &mut [A]),
) {
    let [.., n, m] = *g.shape() else { return };
    if let (Some(g), Some(rows), Some(columns)) = (
        g.as_slice_mut(),
        rows.as_slice_mut(),
        columns.as_slice_mut(),
    ) && n * m > 0
    {
        let vectors = rows.chunks_mut(n).zip(columns.chunks_mut(m));
        let mut sources = source.map(|source| source.chunks(n * m));
        for (g, (rows, columns)) in g.chunks_mut(n * m).zip(vectors) {
            let source = sources.as_mut().and_then(Iterator::next);
            work(g, source, rows, columns);
        }
    }
}

/// A mean of squares, where it overflows the largest number: the difference of two infinite
/// averages would be NaN for ever.
fn finite(square: f64) -> f64 {
    if square > f64::MAX { f64::MAX } else { square }
}

/// The most parts of a matrix, which are processed by several threads if there is enough work.
const PARTS: usize = 8;

/// The number of rows in a part. It depends on the shape alone, and so does the order in which the
/// squares are added.
fn rows_of_part(rows: usize) -> usize {
    rows.div_ceil(PARTS).max(32)
}

/// Updates the running averages of squares per row and per column.
fn average_squares<A: Element>(
    g: &[A],
    rows: &mut [A],
    columns: &mut [A],
    weight: A,
    parallel: &Parallel,
) {
    let (n, m) = (rows.len(), columns.len());
    let part = rows_of_part(n);
    let mut sums = vec![0.0; n.div_ceil(part) * m];
    let parts = g.chunks(part * m).zip(rows.chunks_mut(part));
    let work = |((g, rows), sums): ((&[A], &mut [A]), &mut [f64])| {
        for (g, row) in g.chunks(m).zip(rows) {
            let sum = add_squares(g, sums);
            *row += weight * (A::from_f64(finite(sum / m as f64)) - *row);
        }
    };
    on_threads(parts.zip(sums.chunks_mut(m)), g.len(), parallel, work);
    for (j, column) in columns.iter_mut().enumerate() {
        let sum: f64 = sums[j..].iter().step_by(m).sum();
        *column += weight * (A::from_f64(finite(sum / n as f64)) - *column);
    }
}

/// Divides each row by the square root of v, and returns the sum of the squares.
fn normalize_rows<A: Element>(
    g: &mut [A],
    source: Option<&[A]>,
    rows: &[A],
    columns: &[A],
    eps: A,
    parallel: &Parallel,
) -> f64 {
    let (size, m, part) = (g.len(), columns.len(), rows_of_part(rows.len()));
    let mean = rows.iter().map(|r| r.f64()).sum::<f64>() / rows.len() as f64;
    let mean = mean.max(eps.f64());
    // Without a root and a division for each element.
    let inverse_root = |v: f64| A::from_f64(1.0 / v.sqrt());
    let largest = A::from_f64(1.0 / eps.f64());
    let by_column: Vec<A> = columns.iter().map(|c| inverse_root(c.f64())).collect();
    let mut sums = vec![0.0; rows.len().div_ceil(part)];
    let parts = g.chunks_mut(part * m).zip(rows.chunks(part));
    let tasks = parts.zip(&mut sums).enumerate();
    on_threads(tasks, size, parallel, |(k, ((g, rows), sum))| {
        for (i, (g, &row)) in g.chunks_mut(m).zip(rows).enumerate() {
            let start = (k * part + i) * m;
            fetch(g, source.map(|source| &source[start..start + m]));
            *sum += normalize(g, inverse_root(row.f64() / mean), &by_column, largest);
        }
    });
    sums.into_iter().sum()
}

crate::kernel::for_each_instruction_set! {
    /// Multiplies a row by the inverse root of v, and returns the sum of the squares. The lanes fix
    /// the order of addition.
    fn normalize<A: Element>(g: &mut [A], row: A, by_column: &[A], largest: A) -> f64 {
        let mut lanes = [0.0; 16];
        let one = |g: &mut A, column: A, lane: &mut f64| {
            let factor = row * column;
            // In this order, so that NaN propagates.
            *g = *g * if factor > largest { largest } else { factor };
            *lane += g.f64() * g.f64();
        };
        let (columns, columns_tail) = by_column[..g.len()].as_chunks::<16>();
        let (blocks, tail) = g.as_chunks_mut::<16>();
        for (g, columns) in blocks.iter_mut().zip(columns) {
            for i in 0..16 {
                one(&mut g[i], columns[i], &mut lanes[i]);
            }
        }
        for ((g, &column), lane) in tail.iter_mut().zip(columns_tail).zip(&mut lanes) {
            one(g, column, lane);
        }
        lanes.iter().sum()
    }
}

crate::kernel::for_each_instruction_set! {
    /// Returns the sum of squares of a row, and adds the squares to the sums of the columns. The
    /// lanes fix the order of addition.
    fn add_squares<A: Element>(g: &[A], columns: &mut [f64]) -> f64 {
        let mut lanes = [0.0; 16];
        let (blocks, tail) = g.as_chunks::<16>();
        let (sums, sums_tail) = columns[..g.len()].as_chunks_mut::<16>();
        for (g, sums) in blocks.iter().zip(sums) {
            for i in 0..16 {
                let square = g[i].f64() * g[i].f64();
                lanes[i] += square;
                sums[i] += square;
            }
        }
        for ((g, sum), lane) in tail.iter().zip(sums_tail).zip(&mut lanes) {
            let square = g.f64() * g.f64();
            *lane += square;
            *sum += square;
        }
        lanes.iter().sum()
    }
}
