use super::{sgd::Descent, *};
use crate::kernel::reduce::sum_squares;
use ndarray::{ArrayD, ArrayViewMut2};

hyper_parameters! {
    /// Adam with a factored second moment, kept as one number for each row and column, without a first moment, and with
    /// steps relative to the scale of the parameters: sublinear memory.
    ///
    /// ```text
    /// With g the gradient, negated if `maximize`, n the number of elements, rms(x) = |x| / sqrt(n):
    /// w = t^beta2_decay
    /// two or more axes:  R <- R + w (mean of g^2 over the last axis - R),  C <- C + w (mean of g^2 over the last but one - C)
    ///                    v = R C / max(mean of R, eps_0)        the axes before the last two are a batch of matrices
    /// one or no axis:    v <- v + w (g^2 - v)
    /// u = g / sqrt(max(v, eps_0^2))
    /// p <- p - max(eps_1, rms(p)) min(lr, 1 / sqrt(t)) / max(1, rms(u) / d) u - lr weight_decay p
    /// ```
    ///
    /// This is `torch.optim.Adafactor`; optax adds 1e-30 to g^2 instead of a floor for v, and factors only large arrays.
    /// Source: N. Shazeer, M. Stern, arXiv:1804.04235. State: `row_var` and `col_var`, or `variance`.
    ///
    /// ```
    /// use ndarray::Array2;
    /// use ndarray_optim::{Adafactor, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Adafactor::new(0.1));
    /// let mut theta = Array2::<f64>::ones((300, 200));
    /// optimizer.update(&mut theta, &Array2::from_elem((300, 200), 1e-3))?;
    /// assert!((theta[[7, 7]] - 0.9).abs() < 1e-6);
    /// assert_eq!(optimizer.state("variable").iter().map(|(_, a)| a.len()).sum::<usize>(), 300 + 200);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    "adafactor" Adafactor {
        /// Largest step relative to the scale of the parameters, >= 0.
        lr: f64 = 1e-2,
        /// Exponent of t in the weight of new squares, <= 0.
        beta2_decay: f64 = -0.8,
        /// Lower bound of sqrt(v), `None` for the machine epsilon of the element type, and lower bound of rms(p); >= 0.
        eps: (Option<f64>, f64) = (None, 1e-3),
        /// Largest root mean square of an update, >= 1.
        d: f64 = 1.0,
        /// Decoupled weight decay, >= 0: each step subtracts lr weight_decay p.
        weight_decay: f64 = 0.0,
        /// Maximize the objective instead of minimizing it.
        maximize: bool = false,
    }
}

impl Adafactor {
    /// The form and the defaults of `torch.optim.Adafactor`: the defaults.
    pub fn torch() -> Self {
        Self::default()
    }
}

impl Algorithm for Adafactor {
    type Kernel<A: Element> = WithDecoupled<Descent<A>>;

    fn validate(&self) -> Result<(), Error> {
        check::non_negative("lr", self.lr)?;
        check::that(self.beta2_decay <= 0.0, "beta2_decay", self.beta2_decay, "a number <= 0")?;
        check::non_negative("eps[0]", self.eps.0.unwrap_or_default())?;
        check::non_negative("eps[1]", self.eps.1)?;
        check::that(self.d >= 1.0, "d", self.d, "a number >= 1")?;
        check::non_negative("weight_decay", self.weight_decay)
    }

    fn maximize(&self) -> bool {
        self.maximize
    }

    fn is_directed(&self) -> bool {
        true
    }

    fn factors(&self, shape: &[usize]) -> Result<Vec<Factor>, &'static str> {
        Ok(match shape {
            [batch @ .., rows, columns] => {
                vec![("row_var", [batch, &[*rows]].concat()), ("col_var", [batch, &[*columns]].concat())]
            }
            _ => vec![("variance", shape.to_vec())],
        })
    }

    /// The learning rate of this step.
    fn direct<A: Element>(&self, now: &Now, Whole { p, mut g, factors, .. }: Whole<'_, A>) -> Scalars {
        let weight = A::of((now.t as f64).powf(self.beta2_decay));
        let eps = self.eps.0.map_or(A::epsilon(), A::of);
        match factors {
            [v] => v.zip_mut_with(&g, |v, &g| *v += weight * (g * g - *v)),
            [rows, columns] => {
                for_each_matrix(&mut g, rows, columns, |g, rows, columns| average_squares(g, rows, columns, weight));
            }
            _ => {}
        }
        let floor = eps * eps;
        match factors {
            [v] => g.zip_mut_with(v, |g, &v| *g = *g / v.max(floor).sqrt()),
            [rows, columns] => for_each_matrix(&mut g, rows, columns, |mut g, rows, columns| {
                let mean = A::of(rows.iter().map(|r| r.f64()).sum::<f64>() / rows.len() as f64).max(eps);
                for (g, &mut row) in g.rows_mut().into_iter().zip(rows) {
                    normalize(g.into_slice().unwrap_or_default(), row / mean, columns, floor);
                }
            }),
            _ => {}
        }
        let rms = |squares: f64| (squares / g.len() as f64).sqrt();
        let rate = rms(sum_squares(&p)).max(self.eps.1) * self.lr.min(1.0 / (now.t as f64).sqrt());
        [rate / (rms(sum_squares(&g)) / self.d).max(1.0), 0.0, 0.0, 0.0]
    }

    #[inline(always)]
    fn kernel<A: Element>(&self, now: &Now) -> Self::Kernel<A> {
        decoupled(Descent { lr: A::of(now.scalars[0]) }, self.lr, self.weight_decay)
    }
}

/// Calls `work` with each matrix of the batch, its rows' and its columns' numbers.
fn for_each_matrix<A: Element>(
    g: &mut ndarray::ArrayViewMutD<'_, A>,
    rows: &mut ArrayD<A>,
    columns: &mut ArrayD<A>,
    mut work: impl FnMut(ArrayViewMut2<'_, A>, &mut [A], &mut [A]),
) {
    let [.., n, m] = *g.shape() else { return };
    if let (Some(g), Some(rows), Some(columns)) = (g.as_slice_mut(), rows.as_slice_mut(), columns.as_slice_mut())
        && n * m > 0
    {
        let vectors = rows.chunks_mut(n).zip(columns.chunks_mut(m));
        for (g, (rows, columns)) in g.chunks_mut(n * m).zip(vectors) {
            if let Ok(g) = ArrayViewMut2::from_shape((n, m), g) {
                work(g, rows, columns);
            }
        }
    }
}

/// Updates the running averages of rows and columns.
fn average_squares<A: Element>(g: ArrayViewMut2<'_, A>, rows: &mut [A], columns: &mut [A], weight: A) {
    let mut sums = vec![0.0; columns.len()];
    for (g, row) in g.rows().into_iter().zip(&mut *rows) {
        let sum = add_squares(g.to_slice().unwrap_or_default(), &mut sums);
        *row += weight * (A::of(sum / columns.len() as f64) - *row);
    }
    for (column, sum) in columns.iter_mut().zip(sums) {
        *column += weight * (A::of(sum / rows.len() as f64) - *column);
    }
}

crate::kernel::for_each_instruction_set! {
    /// Divides a row by the root of v.
    fn normalize<A: Element>(g: &mut [A], row: A, columns: &[A], floor: A) {
        for (g, &column) in g.iter_mut().zip(columns) {
            let v = row * column;
            *g = *g / (if v < floor { floor } else { v }).sqrt();
        }
    }
}

crate::kernel::for_each_instruction_set! {
    /// The sum of the squares of a row, which are also added to the sums of the columns. The lanes fix the order of
    /// addition.
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
