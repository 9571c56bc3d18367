//! Steps for a few rows of a large array.
use super::{
    Optimizer, Outcome,
    group::{GroupSlot, Groups},
    param_table::ParamEntry,
    step::{next_step, run_one},
};
use crate::{
    algorithm::StepInfo,
    array::{
        Element,
        layout::{AXES, Order, Shape, six_axes},
        monomorphize,
    },
    error::Error,
    kernel::{Arrays, KernelArgs, MAX_STATES, param_views::Task},
    params::{Grad, Param, StepInput},
};
use ndarray::{
    ArrayRef, ArrayView1, ArrayView6, ArrayViewD, ArrayViewMut1, ArrayViewMut6, ArrayViewMutD,
    Axis, Dimension,
};
use std::iter::zip;

/// The rows to update, after the call has been checked.
struct Rows<'i> {
    name: &'i str,
    entry: usize,
    order: Order,
    axis: Axis,
    indices: &'i [usize],
}

impl<A: Element> Optimizer<A> {
    /// Performs a step for some rows of a parameter, such as the rows of an embedding table that a
    /// batch has looked up.
    ///
    /// `rows` contains the gradients of the rows `indices` along the first axis. Its shape is that
    /// of the parameter with `indices.len()` as the length of the first axis. Gradients of repeated
    /// indices are summed first, in the order given.
    ///
    /// Only the rows in `indices` and their state change. All other rows keep their values and
    /// moments, without decay, and weight decay applies to the updated rows only. The step count
    /// belongs to the parameter: it counts calls, including those without indices, and bias
    /// corrections, `lr_decay` and the first step without `dampening` follow it. The state is that
    /// of [`step`](Optimizer::step) under the same name, so both kinds of steps may alternate; with
    /// all rows they are the same, bit for bit.
    ///
    /// Row-wise steps are supported by algorithms that declare it
    /// ([`Demands::row_wise`](crate::algorithm::Demands::row_wise)), which are those that other
    /// libraries have in this form: [`Sgd`](crate::Sgd), [`Adam`](crate::Adam) and
    /// [`Adagrad`](crate::Adagrad). [`Adam`](crate::Adam) matches
    /// `torch.optim.SparseAdam` except for `eps`, which torch adds to the root before its bias
    /// correction. [`Sgd`](crate::Sgd) differs from torch, whose momentum buffer decays in all
    /// rows.
    ///
    /// They may be in wrappers, which then apply to the updated rows only:
    ///
    /// - element-wise ones, such as [`WeightDecay`](crate::wrap::WeightDecay) and
    ///   [`Bounds`](crate::wrap::Bounds);
    /// - [`ClipByGlobalNorm`](crate::wrap::ClipByGlobalNorm) and
    ///   [`ClipByNorm`](crate::wrap::ClipByNorm), by the norm of the summed gradients of these
    ///   rows, which is that of the whole gradient, unless a wrapper outside of them or between
    ///   them changes gradients;
    /// - [`Ema`](crate::wrap::Ema): the average of a row moves in the calls that update the row.
    ///   Other averages do not move, also not towards their rows, which do not change; a row that
    ///   has never been updated is its own average.
    ///
    /// Wrappers in which all rows take part in every step, [`Swa`](crate::wrap::Swa) and
    /// [`Lookahead`](crate::wrap::Lookahead), and those of whole arrays are refused, and so are
    /// rows during gradient accumulation: the mean gradient of a round concerns all rows of all of
    /// its calls.
    ///
    /// After the first call, which allocates the state of the whole parameter, the cost is
    /// proportional to the number of updated rows. These are copied together with their state, and
    /// the memory of the copy is kept for the next call.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Optimizer, Sgd};
    ///
    /// let mut table = array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
    /// let grads = array![[1.0, 0.0], [2.0, 2.0], [1.0, 4.0]];
    /// let mut sgd = Optimizer::new(Sgd::new(0.5));
    /// sgd.update_rows("table", &mut table, &[2, 0, 2], &grads)?;
    /// assert_eq!(table, array![[0.0, 0.0], [2.0, 2.0], [2.0, 1.0]]);
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for other algorithms and during gradient accumulation,
    /// [`Error::Shape`] for a parameter without axes, [`Error::RowShape`], [`Error::RowIndex`],
    /// else as [`step`](Optimizer::step). Nothing is changed then. `non_finite`, `limits` and
    /// `clip` apply to the summed gradients of the rows.
    pub fn update_rows<D: Dimension>(
        &mut self,
        name: &str,
        param: &mut ArrayRef<A, D>,
        indices: &[usize],
        rows: &(impl Grad<A, D> + ?Sized),
    ) -> Result<Outcome, Error> {
        let optimizer = self;
        let (param, rows) = (param.view_mut().into_dyn(), rows.grad().into_dyn());
        monomorphize!(
            A, <'o, 'p, 'r>,
            (
                optimizer: &'o mut Optimizer<A>,
                name: &'o str,
                param: ArrayViewMutD<'p, A>,
                indices: &'o [usize],
                rows: ArrayViewD<'r, A>
            ) -> Result<Outcome, Error> { optimizer.update_rows_dyn(name, param, indices, rows) }
        )
    }

    fn update_rows_dyn(
        &mut self,
        name: &str,
        mut param: ArrayViewMutD<'_, A>,
        indices: &[usize],
        rows: ArrayViewD<'_, A>,
    ) -> Result<Outcome, Error> {
        self.check_settings()?;
        let ndim = param.ndim();
        let too_many_axes = || Error::TooManyAxes {
            name: name.into(),
            ndim,
        };
        let shape = Shape::new(param.shape()).ok_or_else(too_many_axes)?;
        let Some((&n, rest)) = param.shape().split_first() else {
            return Err(Error::Shape {
                name: name.into(),
                shape: Vec::new(),
                expected: "at least one axis",
            });
        };
        if rows.shape().split_first() != Some((&indices.len(), rest)) {
            let expected = [indices.len()].iter().chain(rest).copied().collect();
            return Err(Error::RowShape {
                name: name.into(),
                expected,
                given: rows.shape().to_vec(),
            });
        }
        if let Some(&index) = indices.iter().find(|&&index| index >= n) {
            return Err(Error::RowIndex {
                name: name.into(),
                index,
                rows: n,
            });
        }
        let (axis, order) = (Axis(AXES - ndim), Order::new(&shape, param.strides()));
        let known = self.table.entries.len();
        let mut list = [Param::new(name.into(), param.view_mut(), None, 0, |_| ())?];
        let looked_up = self.table.look_up(&mut list, &self.groups);
        let [Param { entry, .. }] = list;
        let views = six_axes(param)
            .zip(six_axes(rows))
            .ok_or_else(too_many_axes);
        let updated = Rows {
            name,
            entry,
            order,
            axis,
            indices,
        };
        let outcome = looked_up.and(views).and_then(|(p, rows)| {
            let slot = &self.groups.list[self.table.entries[entry].group];
            if !slot.requirements.row_wise || slot.requirements.is_staged() {
                return Err(Error::Unsupported {
                    optimizer: slot.kind(),
                    what: "update single rows: their new values depend on more than these rows",
                });
            }
            if self.accumulation.every > 1 {
                return Err(Error::Unsupported {
                    optimizer: slot.kind(),
                    what: "update single rows during gradient accumulation",
                });
            }
            if slot.frozen {
                // A step in which no parameter has a gradient.
                let input = StepInput {
                    params: &mut [],
                    strided: &mut [],
                    loss: None,
                    weight: 1.0,
                    exchange: None,
                };
                self.apply_step(input, 0);
                return Ok(Outcome::Applied);
            }
            let mut scratch = self.copies.pop().unwrap_or_default();
            let outcome = self.step_rows(updated, p, &rows, &mut scratch);
            self.copies.push(scratch);
            outcome
        });
        if outcome != Ok(Outcome::Applied) {
            self.table.truncate(known);
        }
        outcome
    }

    /// Performs the step after all checks but those of the gradients.
    fn step_rows(
        &mut self,
        Rows {
            name,
            entry,
            order,
            axis,
            indices,
        }: Rows<'_>,
        mut param: ArrayViewMut6<'_, A>,
        rows: &ArrayView6<'_, A>,
        scratch: &mut Vec<A>,
    ) -> Result<Outcome, Error> {
        // Positions in `indices`, sorted by row to read memory in order. The sort is stable: those
        // of repeated indices stay in the order given.
        let mut sorted: Vec<usize> = (0..indices.len()).collect();
        sorted.sort_by_key(|&i| indices[i]);
        let repeats = || sorted.chunk_by(|&i, &j| indices[i] == indices[j]);
        let touched: Vec<usize> = repeats().map(|same| indices[same[0]]).collect();
        let row = rows.len() / indices.len().max(1);
        let size = touched.len() * row;
        let group = self.table.entries[entry].group;
        let arrays = self.groups.list[group].requirements.arrays.len();
        scratch.resize((2 + arrays) * size, A::ZERO);
        let (g, copies) = scratch.split_at_mut(size);
        let (p, copies) = copies.split_at_mut(size);

        for (same, sum) in zip(repeats(), g.chunks_exact_mut(row.max(1))) {
            zip(&mut *sum, &rows.index_axis(axis, same[0])).for_each(|(sum, &g)| *sum = g);
            for &i in &same[1..] {
                zip(&mut *sum, &rows.index_axis(axis, i)).for_each(|(sum, &g)| *sum += g);
            }
        }
        gather(&param.view(), axis, &touched, p);
        let (p_view, g_view) = (ArrayViewMut1::from(&mut *p), ArrayView1::from(&*g));
        let copy = Param::new(name.into(), p_view, Some(g_view), 0, |_| ())?;
        let mut copies_of_rows = [Param { entry, ..copy }];
        let mut input = StepInput {
            params: &mut copies_of_rows,
            strided: &mut [],
            loss: None,
            weight: 1.0,
            exchange: None,
        };
        if !self.accept_gradients(&input)? {
            return Ok(self.skip());
        }
        self.skipped = 0;
        self.set_clip_factors(&mut input);
        let watches = self.begin_watch();

        let Optimizer {
            groups: Groups { list: slots, .. },
            table,
            parallel,
            steps,
            ..
        } = self;
        if table.entries[entry].follows(*steps) {
            *steps = next_step(*steps);
        }
        let (entry, slot) = (&mut table.entries[entry], &mut slots[group]);
        if !entry.allocated {
            entry.allocate(order, slot);
        }
        slot.engine.begin_step();
        slot.now = *steps;
        let [
            Param {
                views, clip_factor, ..
            },
        ] = &mut copies_of_rows;
        let mut pass = entry.count_step(*clip_factor, slot, f64::NAN);
        if std::mem::take(&mut pass.args.first) {
            entry.initialize_all(slot, &param.view());
        }
        let mut state: [&mut [A]; MAX_STATES] = Default::default();
        let copies = copies.chunks_exact_mut(size.max(1));
        for ((copy, memory), state) in zip(zip(copies, &entry.state), &mut state) {
            let array = entry.order.view(&entry.shape, memory);
            gather(&array, axis, &touched, copy);
            *state = copy;
        }
        let arrays = Arrays(state.each_mut().map(|copy| &mut **copy));
        let task = Task::borrow(views, Order::C, &mut [], arrays);
        run_one(task, slot, &pass, watches.get(group), parallel);
        scatter(p, axis, &touched, &mut param);
        for (copy, memory) in zip(&state, &mut entry.state).filter(|(copy, _)| !copy.is_empty()) {
            let mut array = entry.order.view_mut(&entry.shape, memory);
            scatter(copy, axis, &touched, &mut array);
        }
        self.end_watch(watches);
        Ok(Outcome::Applied)
    }
}

impl<A: Element> ParamEntry<A> {
    /// Initializes the state of all elements as the first step of the whole array would, as far as
    /// that does not depend on the gradient.
    #[cold]
    fn initialize_all(&mut self, slot: &mut GroupSlot<A>, param: &ArrayView6<'_, A>) {
        const PAGE: usize = 1024;
        let (zeros, mut sums) = ([A::ZERO; PAGE], Default::default());
        let (mut p, size) = ([A::ZERO; PAGE], self.shape.size());
        let in_order = self.order.arrange(param.view());
        let mut elements = in_order.iter();
        let step = StepInfo::new(self.t.max(1), self.scalars, f64::NAN);
        let kernel = slot.engine.prepare(&step);
        let args = KernelArgs {
            first: true,
            ..Default::default()
        };
        let mut state = self.arrays();
        for start in (0..size).step_by(PAGE) {
            let n = PAGE.min(size - start);
            let (page, state) = (&zeros[..n], state.part(start..start + n));
            zip(&mut p[..n], &mut elements).for_each(|(p, &element)| *p = element);
            // The kernel has no sums, so that measuring only initializes the state.
            slot.engine
                .measure(kernel, &args, &p[..n], page, state, &mut sums);
        }
    }
}

/// Copies rows of an array to contiguous memory.
fn gather<A: Element>(array: &ArrayView6<'_, A>, axis: Axis, rows: &[usize], copy: &mut [A]) {
    let row = (copy.len() / rows.len().max(1)).max(1);
    for (&i, copy) in zip(rows, copy.chunks_exact_mut(row)) {
        let row = array.index_axis(axis, i);
        match row.as_slice() {
            Some(row) => copy.copy_from_slice(row),
            None => zip(copy, &row).for_each(|(copy, &from)| *copy = from),
        }
    }
}

/// Copies rows from contiguous memory back to an array.
fn scatter<A: Element>(copy: &[A], axis: Axis, rows: &[usize], array: &mut ArrayViewMut6<'_, A>) {
    let row = (copy.len() / rows.len().max(1)).max(1);
    for (&i, copy) in zip(rows, copy.chunks_exact(row)) {
        let mut row = array.index_axis_mut(axis, i);
        match row.as_slice_mut() {
            Some(row) => row.copy_from_slice(copy),
            None => zip(&mut row, copy).for_each(|(to, &copy)| *to = copy),
        }
    }
}
