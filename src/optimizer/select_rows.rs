//! Rows of a parameter that are removed, copied or added during a run, with their state.
use super::{
    Optimizer,
    group::GroupSlot,
    load_param::{fits_in_memory, into_memory},
    param_table::ParamEntry,
};
use crate::{
    algorithm::{Scalars, StepInfo},
    array::{
        Element,
        layout::{Order, Shape, six_axes},
        monomorphize, row_major,
    },
    error::Error,
    kernel::{Arrays, KernelArgs, MAX_STATES},
};
use ndarray::{ArrayD, ArrayRef, ArrayViewD, Axis, Dimension};
use std::{array::from_fn, iter::zip};

impl<A: Element> Optimizer<A> {
    /// Selects rows of the state of a parameter along its first axis, for a parameter whose rows
    /// are removed, reordered or copied during a run: points that are pruned, split or cloned.
    ///
    /// Row i of each state array becomes the row `indices[i]` that it was. Do the same to the
    /// parameter, before its next step. The step count stays, and so do bias corrections; an
    /// unfinished round of gradient accumulation is selected too. Rows that are new get the state
    /// of a beginning from [`append_rows`](Optimizer::append_rows).
    ///
    /// ```
    /// use ndarray::{Axis, array};
    /// use ndarray_optim::{Adam, Optimizer, UNNAMED};
    ///
    /// let mut adam = Optimizer::new(Adam::new(0.1));
    /// let mut points = array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]];
    /// adam.update(&mut points, &array![[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])?;
    ///
    /// // The second one is removed, the third one is cloned.
    /// points = points.select(Axis(0), &[0, 2, 2]);
    /// adam.select_rows(UNNAMED, &[0, 2, 2])?;
    /// adam.update(&mut points, &array![[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]])?;
    /// assert_eq!(points.row(1), points.row(2));
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParameter`], [`Error::RowIndex`], [`Error::Shape`] for a parameter without
    /// axes, [`Error::Swapped`], or [`Error::Unsupported`] if the algorithm keeps arrays of other
    /// shapes for the parameter, as [`Adafactor`](crate::Adafactor), [`Sm3`](crate::Sm3) and those
    /// with matrix preconditioners do. Nothing is changed then.
    pub fn select_rows(&mut self, name: &str, indices: &[usize]) -> Result<(), Error> {
        let optimizer = self;
        monomorphize!(
            A, <'o>,
            (optimizer: &'o mut Optimizer<A>, name: &'o str, indices: &'o [usize])
                -> Result<(), Error> { optimizer.select_rows_here(name, indices) }
        )
    }

    /// Appends rows to the state of a parameter along its first axis, for a parameter that grows
    /// during a run.
    ///
    /// `rows` are the new rows of the parameter, which is to be extended by them before its next
    /// step. Their state is that of a first step without a gradient: moments are 0, averages and
    /// slow parameters are the rows themselves, and accumulators have their initial value. The step
    /// count is that of the other rows, and so are bias corrections: moments that begin at 0 are
    /// corrected less than in a first step, as in other programs that fill in zeros.
    ///
    /// ```
    /// use ndarray::{Axis, array, concatenate};
    /// use ndarray_optim::{Adam, Optimizer, UNNAMED};
    ///
    /// let (mut adam, mut points) = (Optimizer::new(Adam::new(0.1)), array![[1.0, 1.0]]);
    /// adam.update(&mut points, &array![[0.1, 0.2]])?;
    /// let new = array![[5.0, 5.0], [6.0, 6.0]];
    /// points = concatenate![Axis(0), points, new];
    /// adam.append_rows(UNNAMED, &new)?;
    /// adam.update(&mut points, &array![[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]])?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`select_rows`](Optimizer::select_rows); [`Error::RowShape`] if `rows` does not have the
    /// shape of the parameter but for the first axis; [`Error::HyperParameter`].
    pub fn append_rows<D: Dimension>(
        &mut self,
        name: &str,
        rows: &ArrayRef<A, D>,
    ) -> Result<(), Error> {
        let (optimizer, rows) = (self, rows.view().into_dyn());
        monomorphize!(
            A, <'o, 'r>,
            (optimizer: &'o mut Optimizer<A>, name: &'o str, rows: ArrayViewD<'r, A>)
                -> Result<(), Error> { optimizer.append_rows_here(name, rows) }
        )
    }

    fn select_rows_here(&mut self, name: &str, indices: &[usize]) -> Result<(), Error> {
        let (entry, n) = self.resizable(name)?;
        if let Some(&index) = indices.iter().find(|&&index| index >= n) {
            return Err(Error::RowIndex {
                name: name.into(),
                index,
                rows: n,
            });
        }
        let shape = self.table.entries[entry].with_rows(indices.len())?;
        self.resize(entry, shape, |_, array| array.select(Axis(0), indices));
        Ok(())
    }

    fn append_rows_here(&mut self, name: &str, rows: ArrayViewD<'_, A>) -> Result<(), Error> {
        self.check_settings()?;
        let (index, n) = self.resizable(name)?;
        let entry = &self.table.entries[index];
        let rest = &entry.shape.as_slice()[1..];
        let more = rows.shape().first().copied().unwrap_or(0);
        if rows.shape().split_first() != Some((&more, rest)) {
            return Err(Error::RowShape {
                name: name.into(),
                expected: [more].iter().chain(rest).copied().collect(),
                given: rows.shape().to_vec(),
            });
        }
        let shape = entry.with_rows(n.saturating_add(more))?;
        let slot = &mut self.groups.list[entry.group];
        let state = entry
            .begun
            .then(|| slot.initial_state(entry.scalars, rows.view()));
        self.resize(index, shape, |k, array| {
            let mut longer = ArrayD::from_elem(shape.as_slice(), A::ZERO);
            let (mut old, mut new) = longer.view_mut().split_at(Axis(0), n);
            old.assign(&array);
            if let Some(state) = k.and_then(|k| state.as_ref()?.get(k)) {
                zip(&mut new, state).for_each(|(new, &state)| *new = state);
            }
            longer
        });
        Ok(())
    }

    /// The entry of a parameter whose rows can change, and their number.
    fn resizable(&self, name: &str) -> Result<(usize, usize), Error> {
        let index = self.table.require(name)?;
        let entry = &self.table.entries[index];
        if entry.swapped {
            return Err(Error::Swapped { name: name.into() });
        }
        let Some(&n) = entry.shape.as_slice().first() else {
            return Err(Error::Shape {
                name: name.into(),
                shape: Vec::new(),
                expected: "at least one axis",
            });
        };
        if !entry.extra.is_empty() {
            return Err(Error::Unsupported {
                optimizer: self.groups.list[entry.group].kind(),
                what: "change the rows of a parameter: its state has arrays of other shapes",
            });
        }
        Ok((index, n))
    }

    /// Changes the shape of a parameter, and each of its state arrays, by index, and its mean
    /// gradient by `change`.
    fn resize(
        &mut self,
        entry: usize,
        shape: Shape,
        change: impl Fn(Option<usize>, ArrayViewD<'_, A>) -> ArrayD<A>,
    ) {
        let entry = &mut self.table.entries[entry];
        let (axes, reversed) = entry.order.axes(&entry.shape);
        let order = Order::from_axes(&shape, &axes, &reversed).unwrap_or(Order::C);
        let size = entry.shape.size();
        for k in (0..MAX_STATES).filter(|_| entry.allocated) {
            // Without those that are not there, and an average that has not begun.
            if entry.state[k].len() == size {
                let new = change(Some(k), entry.view(&entry.state[k]));
                entry.state[k] =
                    six_axes(new).map_or_else(Vec::new, |new| into_memory(order.arrange(new)));
            }
        }
        (entry.shape, entry.order) = (shape, order);
        if let Some(mean) = self.accumulation.mean_mut(&entry.name) {
            *mean = change(None, mean.view());
        }
    }
}

impl<A: Element> ParamEntry<A> {
    /// The shape with another number of rows.
    fn with_rows(&self, rows: usize) -> Result<Shape, Error> {
        let mut shape = self.shape.as_slice().to_vec();
        if let Some(n) = shape.first_mut() {
            *n = rows;
        }
        Shape::new(&shape)
            .filter(|_| fits_in_memory(&shape))
            .ok_or_else(|| Error::Shape {
                name: self.name.to_string(),
                shape,
                expected: "a size that memory can hold",
            })
    }
}

impl<A: Element> GroupSlot<A> {
    /// The state arrays of these parameters, in row-major order, after a first step would have
    /// begun them with gradients of 0.
    fn initial_state(&mut self, scalars: Scalars, p: ArrayViewD<'_, A>) -> Vec<Vec<A>> {
        let p = row_major(p);
        let zeros = vec![A::ZERO; p.len()];
        let mut state: [Vec<A>; MAX_STATES] = from_fn(|_| zeros.clone());
        let scalars = self.scalars.unwrap_or(scalars);
        self.engine.begin_step();
        let kernel = self.engine.prepare(&StepInfo {
            sums_pending: true,
            ..StepInfo::new(1, scalars, f64::NAN)
        });
        let args = KernelArgs {
            first: true,
            ..Default::default()
        };
        let arrays = Arrays(state.each_mut().map(Vec::as_mut_slice));
        // Of no use here: only the state that measuring begins.
        let mut sums = Default::default();
        self.engine
            .measure(kernel, &args, &p, &zeros, arrays, &mut sums);
        state.into()
    }
}
