//! Steps of a few rows of a large array.
use super::{Config, Entry, Fused, aside::run_one};
use crate::{
    AdagradConfig, AdamConfig, Error, NonFinite, Outcome, SgdConfig,
    kernel::{
        Arrays, At, Element, Kernel, MAX_STATES,
        layout::{AXES, Order, Shape, six_axes},
        plan::Task,
        reduce,
    },
    params::Param,
};
use ndarray::{ArrayView, ArrayView6, ArrayViewMut, ArrayViewMut6, Axis, Dimension};
use std::iter::zip;

/// Optimizers that can step some rows of an array and leave the others: see [`Fused::update_rows`].
///
/// The new value and state of an element must come from that element alone, without sums over arrays, directions or clipping,
/// and its state must begin the same whatever it is. [`Sgd`](crate::Sgd), [`Adam`](crate::Adam) and
/// [`Adagrad`](crate::Adagrad) are those that other libraries have in this form. Optimizers in wrappers are not among them: an
/// average, a lookahead or a bound of a table is one of all of its rows in every step.
pub trait RowWise: Config {}

impl RowWise for SgdConfig {}
impl RowWise for AdamConfig {}
impl RowWise for AdagradConfig {}

impl<C: RowWise, A: Element> Fused<C, A> {
    /// One step for some rows of a parameter, such as those of an embedding table that a batch has looked up: rows `indices`
    /// along the first axis have the gradients `rows`, of the shape `[indices.len(), rest of the parameter's shape]`. Where an
    /// index is repeated, its rows are summed first, in the order given.
    ///
    /// Only the rows that appear change, they and their state: the others keep their values and moments, undecayed, and weight
    /// decay acts on the rows that appear. The step count is the one of the parameter, so it counts calls, also one with no
    /// indices; bias corrections, `lr_decay` and the first step without `dampening` go by it. State is that of
    /// [`step`](crate::Optimizer::step) under the same name, and both kinds of steps may alternate; with all rows they are the
    /// same, bit for bit.
    ///
    /// [`Adam`](crate::Adam) does what `torch.optim.SparseAdam` does, but for the place of eps: there it is next to the root
    /// that is not corrected for its bias. In torch the momentum buffer of `Sgd` decays in all rows.
    ///
    /// After the first call, which allocates the state of the whole parameter, the cost is in proportion to the rows that
    /// appear; they are copied together with their state, and the copy's memory is kept for the next call.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::Sgd;
    ///
    /// let mut table = array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
    /// let mut sgd = Sgd::new(0.5);
    /// sgd.update_rows("table", &mut table, &[2, 0, 2], &array![[1.0, 0.0], [2.0, 2.0], [1.0, 4.0]])?;
    /// assert_eq!(table, array![[0.0, 0.0], [2.0, 2.0], [2.0, 1.0]]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for a parameter without axes, [`Error::RowShape`], [`Error::RowIndex`], else as
    /// [`step`](crate::Optimizer::step); nothing has changed then. [`NonFinite`] looks at the sums of the rows.
    pub fn update_rows<'p, 'r, D: Dimension>(
        &mut self,
        name: &str,
        param: impl Into<ArrayViewMut<'p, A, D>>,
        indices: &[usize],
        rows: impl Into<ArrayView<'r, A, D>>,
    ) -> Result<Outcome, Error> {
        let (mut param, rows) = (param.into(), rows.into());
        self.prepare()?;
        let ndim = param.ndim();
        let many = || Error::TooManyAxes { name: name.into(), ndim };
        let shape = Shape::new(param.shape()).ok_or_else(many)?;
        let Some((&n, rest)) = param.shape().split_first() else {
            return Err(Error::Shape { name: name.into(), shape: Vec::new(), expected: "at least one axis" });
        };
        if rows.shape().split_first() != Some((&indices.len(), rest)) {
            let expected = [indices.len()].iter().chain(rest).copied().collect();
            return Err(Error::RowShape { name: name.into(), expected, given: rows.shape().to_vec() });
        }
        if let Some(&index) = indices.iter().find(|&&index| index >= n) {
            return Err(Error::RowIndex { name: name.into(), index, rows: n });
        }
        let (axis, order) = (Axis(AXES - ndim), Order::new(&shape, param.strides()));
        let known = self.entries.len();
        let mut list = [Param::new(name.into(), param.view_mut(), None, 0, |_| ())?];
        let placed = self.place(&mut list);
        let [Param { entry, .. }] = list;
        let views = six_axes(param).zip(six_axes(rows)).ok_or_else(many);
        let outcome = placed.and(views).and_then(|(p, rows)| self.touch(entry, order, axis, p, indices, &rows));
        if outcome != Ok(Outcome::Applied) {
            self.forget(known);
        }
        outcome
    }

    /// The step, once it is known to fit.
    fn touch(
        &mut self,
        entry: usize,
        order: Order,
        axis: Axis,
        mut param: ArrayViewMut6<'_, A>,
        indices: &[usize],
        rows: &ArrayView6<'_, A>,
    ) -> Result<Outcome, Error> {
        let Fused { entries, plans, scratch, parallel, .. } = self;
        let entry = &mut entries[entry];
        let plan = &mut plans[entry.group];
        // In the order of memory, and the sort is stable: rows of one index stay in the order given.
        let mut sorted: Vec<usize> = (0..indices.len()).collect();
        sorted.sort_by_key(|&at| indices[at]);
        let groups = || sorted.chunk_by(|&a, &b| indices[a] == indices[b]);
        let touched: Vec<usize> = groups().map(|group| indices[group[0]]).collect();
        let row = rows.len() / indices.len().max(1);
        let size = touched.len() * row;
        scratch.resize((2 + plan.names.len()) * size, A::ZERO);
        let (g, copies) = scratch.split_at_mut(size);
        let (p, copies) = copies.split_at_mut(size);

        for (group, sum) in zip(groups(), g.chunks_exact_mut(row.max(1))) {
            for (i, &at) in group.iter().enumerate() {
                let row = rows.index_axis(axis, at);
                let Ok(mut sum) = ArrayViewMut::from_shape(row.raw_dim(), &mut *sum) else { continue };
                if i == 0 { sum.assign(&row) } else { sum += &row }
            }
        }
        let bad = if self.non_finite == NonFinite::Propagate { None } else { reduce::non_finite(g) };
        match (self.non_finite, bad) {
            (NonFinite::Error, Some(value)) => {
                return Err(Error::NonFiniteGradient { name: entry.name.to_string(), value: value.f64() });
            }
            (NonFinite::Skip, Some(_)) => return Ok(Outcome::Skipped),
            _ => {}
        }

        if !entry.allocated {
            entry.allocate(order, plan);
        }
        let Some((&kernel, at)) = entry.count(A::one(), plan) else { return Ok(Outcome::Applied) };
        if at.first {
            entry.begin_everywhere(kernel, at);
        }
        gather(&param.view(), axis, &touched, p);
        let mut state: [&mut [A]; MAX_STATES] = Default::default();
        for ((copy, memory), into) in zip(zip(copies.chunks_exact_mut(size.max(1)), &entry.state), &mut state) {
            if let Some(array) = entry.order.view(&entry.shape, memory) {
                gather(&array, axis, &touched, copy);
            }
            *into = copy;
        }
        let task = Task::Flat(&mut *p, g, Arrays(state.each_mut().map(|copy| &mut **copy)));
        run_one(task, kernel, At { first: false, ..at }, parallel);
        scatter(p, axis, &touched, &mut param);
        for (copy, memory) in zip(&state, &mut entry.state).filter(|(copy, _)| !copy.is_empty()) {
            if let Some(mut array) = entry.order.view_mut(&entry.shape, memory) {
                scatter(copy, axis, &touched, &mut array);
            }
        }
        Ok(Outcome::Applied)
    }
}

impl<A: Element> Entry<A> {
    /// Begins the state of all elements, as the first step of the whole array would.
    #[cold]
    fn begin_everywhere<K: Kernel<A>>(&mut self, kernel: K, at: At<'_, A>) {
        const PAGE: usize = 1024;
        let (zeros, mut sums) = ([A::ZERO; PAGE], Default::default());
        let size = self.shape.size();
        let mut state = self.arrays();
        for start in (0..size).step_by(PAGE) {
            let n = PAGE.min(size - start);
            // There are no sums: to take them is only to begin.
            kernel.measure(&at, &zeros[..n], &zeros[..n], state.part(start..start + n), &mut sums);
        }
    }
}

/// Copies these rows of an array one after another.
fn gather<A: Element>(array: &ArrayView6<'_, A>, axis: Axis, rows: &[usize], copy: &mut [A]) {
    let row = (copy.len() / rows.len().max(1)).max(1);
    for (&i, copy) in zip(rows, copy.chunks_exact_mut(row)) {
        let row = array.index_axis(axis, i);
        if let Ok(mut copy) = ArrayViewMut::from_shape(row.raw_dim(), copy) {
            copy.assign(&row);
        }
    }
}

/// Puts the copies back.
fn scatter<A: Element>(copy: &[A], axis: Axis, rows: &[usize], array: &mut ArrayViewMut6<'_, A>) {
    let row = (copy.len() / rows.len().max(1)).max(1);
    for (&i, copy) in zip(rows, copy.chunks_exact(row)) {
        let mut row = array.index_axis_mut(axis, i);
        if let Ok(copy) = ArrayView::from_shape(row.raw_dim(), copy) {
            row.assign(&copy);
        }
    }
}
