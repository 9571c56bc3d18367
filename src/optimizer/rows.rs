//! Steps of a few rows of a large array.
use super::{
    Optimizer, Outcome,
    group::{Groups, Slot},
    ledger::Entry,
    step::run_one,
};
use crate::{
    algorithm::StepInfo,
    array::{
        Element,
        layout::{AXES, Order, Shape, six_axes},
    },
    error::Error,
    kernel::{Arrays, At, MAX_STATES, plan::Task},
    params::{Lending, Param},
};
use ndarray::{ArrayView1, ArrayView6, ArrayViewD, ArrayViewMut1, ArrayViewMut6, ArrayViewMutD, Axis};
use std::{iter::zip, mem::take};

/// Where the rows are, once the call is known to fit.
struct Rows<'i> {
    name: &'i str,
    entry: usize,
    order: Order,
    axis: Axis,
    indices: &'i [usize],
}

impl<A: Element> Optimizer<A> {
    pub(super) fn run_rows(
        &mut self,
        name: &str,
        mut param: ArrayViewMutD<'_, A>,
        indices: &[usize],
        rows: ArrayViewD<'_, A>,
    ) -> Result<Outcome, Error> {
        self.check()?;
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
        let known = self.ledger.entries.len();
        let mut list = [Param::new(name.into(), param.view_mut(), None, 0, |_| ())?];
        let placed = self.ledger.place(&mut list, &self.groups);
        let [Param { entry, .. }] = list;
        let views = six_axes(param).zip(six_axes(rows)).ok_or_else(many);
        let place = Rows { name, entry, order, axis, indices };
        let outcome = placed.and(views).and_then(|(p, rows)| {
            let slot = &self.groups.list[self.ledger.entries[entry].group];
            if !slot.demands.row_wise {
                let what = "step some rows of an array: their new values depend on more than themselves";
                return Err(Error::Unsupported { optimizer: slot.kind(), what });
            }
            if self.accumulation.every > 1 {
                let what = "step some rows of an array in an accumulation";
                return Err(Error::Unsupported { optimizer: slot.kind(), what });
            }
            if slot.frozen {
                return Ok(Outcome::Applied);
            }
            let mut scratch = take(&mut self.scratch);
            let outcome = self.touch(place, p, &rows, &mut scratch);
            self.scratch = scratch;
            outcome
        });
        if outcome != Ok(Outcome::Applied) {
            self.ledger.forget(known);
        }
        outcome
    }

    /// The step, once it is known to fit.
    fn touch(
        &mut self,
        Rows { name, entry, order, axis, indices }: Rows<'_>,
        mut param: ArrayViewMut6<'_, A>,
        rows: &ArrayView6<'_, A>,
        scratch: &mut Vec<A>,
    ) -> Result<Outcome, Error> {
        // In the order of memory, and the sort is stable: rows of one index stay in the order given.
        let mut sorted: Vec<usize> = (0..indices.len()).collect();
        sorted.sort_by_key(|&at| indices[at]);
        let groups = || sorted.chunk_by(|&a, &b| indices[a] == indices[b]);
        let touched: Vec<usize> = groups().map(|group| indices[group[0]]).collect();
        let row = rows.len() / indices.len().max(1);
        let size = touched.len() * row;
        let group = self.ledger.entries[entry].group;
        scratch.resize((2 + self.groups.list[group].demands.arrays.len()) * size, A::ZERO);
        let (g, copies) = scratch.split_at_mut(size);
        let (p, copies) = copies.split_at_mut(size);

        for (group, sum) in zip(groups(), g.chunks_exact_mut(row.max(1))) {
            for (i, &at) in group.iter().enumerate() {
                let row = rows.index_axis(axis, at);
                zip(&mut *sum, &row).for_each(|(sum, &g)| *sum = if i == 0 { g } else { *sum + g });
            }
        }
        gather(&param.view(), axis, &touched, p);
        let copy = Param::new(name.into(), ArrayViewMut1::from(&mut *p), Some(ArrayView1::from(&*g)), 0, |_| ())?;
        let mut copies_of_rows = [Param { entry, ..copy }];
        let mut lending = Lending { params: &mut copies_of_rows, strided: &mut [], loss: None };
        if !self.accept(&lending)? {
            return Ok(Outcome::Skipped);
        }
        self.clip(&mut lending);
        let watches = self.begin_watch();

        let Optimizer { groups: Groups { list: slots, .. }, ledger, parallel, .. } = self;
        let (entry, slot) = (&mut ledger.entries[entry], &mut slots[group]);
        if !entry.allocated {
            entry.allocate(order, slot);
        }
        slot.engine.begin_step();
        let [Param { lent, factor, .. }] = &mut copies_of_rows;
        let (kernel, at) = entry.count(*factor, slot, f64::NAN);
        if at.first {
            entry.begin_everywhere(slot);
        }
        let mut state: [&mut [A]; MAX_STATES] = Default::default();
        for ((copy, memory), into) in zip(zip(copies.chunks_exact_mut(size.max(1)), &entry.state), &mut state) {
            gather(&entry.order.view(&entry.shape, memory), axis, &touched, copy);
            *into = copy;
        }
        let task = Task::borrow(lent, Order::C, &mut [], Arrays(state.each_mut().map(|copy| &mut **copy)));
        run_one(task, slot, kernel, &At { first: false, ..at }, watches.get(group), parallel);
        scatter(p, axis, &touched, &mut param);
        for (copy, memory) in zip(&state, &mut entry.state).filter(|(copy, _)| !copy.is_empty()) {
            scatter(copy, axis, &touched, &mut entry.order.view_mut(&entry.shape, memory));
        }
        self.end_watch(watches);
        Ok(Outcome::Applied)
    }
}

impl<A: Element> Entry<A> {
    /// Begins the state of all elements, as the first step of the whole array would, where no gradient decides how.
    #[cold]
    pub(super) fn begin_everywhere(&mut self, slot: &mut Slot<A>) {
        const PAGE: usize = 1024;
        let (zeros, mut sums) = ([A::ZERO; PAGE], Default::default());
        let size = self.shape.size();
        let at = StepInfo::new(self.t.max(1), self.scalars, f64::NAN);
        let kernel = slot.engine.prepare(&at);
        let place = At { first: true, scale: A::one() };
        let mut state = self.arrays();
        for start in (0..size).step_by(PAGE) {
            let n = PAGE.min(size - start);
            // There are no sums: to take them is only to begin.
            slot.engine.measure(kernel, &place, &zeros[..n], &zeros[..n], state.part(start..start + n), &mut sums);
        }
    }
}

/// Copies these rows of an array one after another.
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

/// Puts the copies back.
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
