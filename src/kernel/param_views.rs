//! Parameters and gradients as a step receives them, and the tasks they are split into.
use super::{
    Arrays,
    strided::{Piece, for_each_slice, is_large, split_slowest_axis},
};
use crate::array::{
    Element,
    layout::{AXES, Order, Shape, empty_view, same_lengths, six_axes, trimmed},
};
use ndarray::{
    ArrayView, ArrayView6, ArrayViewD, ArrayViewMut, ArrayViewMut6, ArrayViewMutD, Dimension,
};

/// A parameter and its gradient, as passed to a step. Properties that are slow to compute for an
/// array of dynamic dimension are computed here, where the dimension is still a type.
pub(crate) struct ParamViews<'a, A> {
    pub shape: Shape,
    pub order: Order,
    memory: Storage<'a, A>,
}

enum Storage<'a, A> {
    /// Both contiguous in one common order: C, F, permuted or reversed.
    Flat(&'a mut [A], &'a [A]),
    /// The views are at this index of a separate list: they are ten times as large and rarely
    /// needed.
    Strided(usize),
    /// The parameter has no gradient in this step; its view is at this index of the list.
    NoGrad(usize),
    /// The gradient is excluded from the step.
    Frozen,
}

/// A parameter and its gradient, at least one of which is not a slice.
pub(crate) type Strided<'a, A> = (ArrayViewMut6<'a, A>, ArrayView6<'a, A>);

/// Why a parameter is rejected.
pub(crate) enum ParamError {
    GradShape,
    TooManyAxes,
}

impl<'a, A: Element> ParamViews<'a, A> {
    /// Passes views that are not slices to `strided`; `place` is the index they are stored at.
    #[inline(always)]
    pub fn new<D: Dimension>(
        p: ArrayViewMut<'a, A, D>,
        g: ArrayView<'a, A, D>,
        place: usize,
        strided: impl FnOnce(Strided<'a, A>),
    ) -> Result<Self, ParamError> {
        if p.ndim() != g.ndim() || !same_lengths(p.shape(), g.shape()) {
            return Err(ParamError::GradShape);
        }
        let shape = Shape::new(p.shape()).ok_or(ParamError::TooManyAxes)?;
        if p.is_standard_layout() && g.is_standard_layout() {
            // Both are slices: the defaults are never used.
            let memory = Storage::Flat(
                p.into_slice().unwrap_or_default(),
                g.to_slice().unwrap_or_default(),
            );
            return Ok(ParamViews {
                shape,
                order: Order::C,
                memory,
            });
        }
        let order = Order::new(&shape, p.strides());
        let strides = p.strides().iter().zip(g.strides());
        let one_order = p
            .shape()
            .iter()
            .zip(strides)
            .all(|(&n, (p, g))| n <= 1 || p == g);
        let memory = if one_order && p.as_slice_memory_order().is_some() {
            let g = g.to_slice_memory_order();
            Storage::Flat(
                p.into_slice_memory_order().unwrap_or_default(),
                g.unwrap_or_default(),
            )
        } else {
            strided(
                six_axes(p)
                    .zip(six_axes(g))
                    .ok_or(ParamError::TooManyAxes)?,
            );
            Storage::Strided(place)
        };
        Ok(ParamViews {
            shape,
            order,
            memory,
        })
    }

    /// A parameter without a gradient; `place` and `strided` are as in [`ParamViews::new`].
    pub fn without_grad<D: Dimension>(
        p: ArrayViewMut<'a, A, D>,
        place: usize,
        strided: impl FnOnce(Strided<'a, A>),
    ) -> Result<Self, ParamError> {
        let shape = Shape::new(p.shape()).ok_or(ParamError::TooManyAxes)?;
        let none = ArrayView6::from_shape([0; AXES], &[]).ok();
        strided(six_axes(p).zip(none).ok_or(ParamError::TooManyAxes)?);
        Ok(ParamViews {
            shape,
            order: Order::C,
            memory: Storage::NoGrad(place),
        })
    }

    /// The parameter and its gradient in their own dimension, if there is a gradient.
    pub fn dynamic<'t>(
        &'t mut self,
        strided: &'t mut [Option<Strided<'a, A>>],
    ) -> Option<(ArrayViewMutD<'t, A>, ArrayViewD<'t, A>)> {
        let ndim = self.shape.as_slice().len();
        self.has_grad()
            .then(|| self.views(Order::C, strided))
            .map(|(p, g)| (trimmed(p, ndim), trimmed(g, ndim)))
    }

    /// The parameter in its own dimension, with or without a gradient.
    pub fn parameter<'t>(
        &'t mut self,
        strided: &'t mut [Option<Strided<'a, A>>],
    ) -> ArrayViewMutD<'t, A> {
        let ndim = self.shape.as_slice().len();
        let p = match self.memory {
            Storage::NoGrad(place) => match strided.get_mut(place) {
                Some(Some((p, _))) => p.view_mut(),
                _ => missing_views().0,
            },
            _ => self.views(Order::C, strided).0,
        };
        trimmed(p, ndim)
    }

    /// As [`ParamViews::parameter`], but takes the view out of the list, so that several can be
    /// borrowed at once.
    pub fn take_parameter(
        &mut self,
        strided: &mut [Option<Strided<'a, A>>],
    ) -> ArrayViewMutD<'_, A> {
        let ndim = self.shape.as_slice().len();
        let p = match self.memory {
            Storage::NoGrad(place) => {
                strided
                    .get_mut(place)
                    .and_then(Option::take)
                    .unwrap_or_else(missing_views)
                    .0
            }
            _ => self.take_views(Order::C, strided).0,
        };
        trimmed(p, ndim)
    }

    /// Excludes the gradient from the step.
    pub fn freeze(&mut self) {
        self.memory = Storage::Frozen;
    }

    /// Whether the gradient is excluded from the step.
    pub fn is_frozen(&self) -> bool {
        matches!(self.memory, Storage::Frozen)
    }

    /// The number of elements that the step updates.
    #[inline]
    pub fn size(&self) -> usize {
        match &self.memory {
            Storage::Flat(p, _) => p.len(),
            Storage::Strided(_) => self.shape.size(),
            Storage::NoGrad(_) | Storage::Frozen => 0,
        }
    }

    #[inline]
    pub fn has_grad(&self) -> bool {
        !matches!(self.memory, Storage::NoGrad(_) | Storage::Frozen)
    }

    /// The gradient in memory order, if it is contiguous.
    pub fn grad_slice(&self) -> Option<&[A]> {
        match &self.memory {
            Storage::Flat(_, g) => Some(g),
            _ => None,
        }
    }

    /// The gradient as a view, if it is not a slice.
    pub fn grad_view<'t>(
        &self,
        strided: &'t [Option<Strided<'a, A>>],
    ) -> Option<ArrayView6<'t, A>> {
        match &self.memory {
            Storage::Strided(place) => Some(strided.get(*place)?.as_ref()?.1.view()),
            _ => None,
        }
    }

    /// The first element of the gradient that is NaN or above the finite limit, in memory order.
    pub fn beyond(&self, limit: A, strided: &[Option<Strided<'a, A>>]) -> Option<A> {
        match &self.memory {
            Storage::Flat(_, g) => super::reduce::beyond(g, limit),
            Storage::Strided(place) => strided
                .get(*place)?
                .as_ref()?
                .1
                .iter()
                .copied()
                .find(|g| g.is_nan() || g.abs() > limit),
            Storage::NoGrad(_) | Storage::Frozen => None,
        }
    }

    fn is_flat(&self, order: Order) -> bool {
        matches!(self.memory, Storage::Flat(..)) && order == self.order
    }

    /// The parameter and its gradient as slices, if their memory order is `order`, that of the
    /// state.
    #[inline]
    pub fn flat(&mut self, order: Order) -> Option<(&mut [A], &[A])> {
        match &mut self.memory {
            Storage::Flat(p, g) if order == self.order => Some((p, g)),
            _ => None,
        }
    }

    /// Calls `work` with slices of the parameter, its gradient and its state, whose memory order is
    /// `order`. The parameter must have a gradient.
    #[inline]
    pub fn for_each_slice(
        &mut self,
        order: Order,
        strided: &mut [Option<Strided<'a, A>>],
        state: Arrays<'_, A>,
        work: &mut impl FnMut(&mut [A], &[A], Arrays<'_, A>),
    ) {
        if let Some((p, g)) = self.flat(order) {
            return work(p, g, state);
        }
        let (p, g) = self.views(order, strided);
        for_each_slice(work, p, g, state);
    }

    /// The parameter and its gradient as views whose rows follow the memory order of the state. The
    /// parameter must have a gradient.
    pub fn views<'t>(
        &'t mut self,
        order: Order,
        strided: &'t mut [Option<Strided<'a, A>>],
    ) -> Strided<'t, A> {
        let (p, g) = match &mut self.memory {
            Storage::Strided(place) => match strided.get_mut(*place) {
                Some(Some((p, g))) => (p.view_mut(), g.view()),
                _ => missing_views(),
            },
            memory => memory.flat_views(self.order, &self.shape),
        };
        (order.arrange(p), order.arrange(g))
    }

    /// As [`ParamViews::views`], but takes the views out of `strided`, so that several parameters
    /// can be borrowed at once.
    pub fn take_views<'t>(
        &'t mut self,
        order: Order,
        strided: &mut [Option<Strided<'a, A>>],
    ) -> Strided<'t, A> {
        let (p, g) = match &mut self.memory {
            Storage::Strided(place) => strided
                .get_mut(*place)
                .and_then(Option::take)
                .unwrap_or_else(missing_views),
            memory => memory.flat_views(self.order, &self.shape),
        };
        (order.arrange(p), order.arrange(g))
    }
}

impl<A> Storage<'_, A> {
    /// The slices as views; there must be slices.
    fn flat_views(&mut self, order: Order, shape: &Shape) -> Strided<'_, A> {
        match self {
            Storage::Flat(p, g) => (order.view_mut(shape, p), order.view(shape, g)),
            _ => missing_views(),
        }
    }
}

/// Empty views, returned where views are requested twice or without a gradient.
fn missing_views<'a, A>() -> Strided<'a, A> {
    debug_assert!(false, "views requested twice or without a gradient");
    (
        empty_view(ArrayViewMut::from(&mut [])),
        empty_view(ArrayView::from(&[])),
    )
}

/// A parameter or a piece of it, with its gradient and state.
pub(crate) enum Task<'a, A> {
    Flat(&'a mut [A], &'a [A], Arrays<'a, A>),
    /// Views whose rows follow the memory of the state; boxed to keep tasks small.
    Strided(Box<Piece<'a, A>>),
}

impl<'t, A: Element> Task<'t, A> {
    fn flat(memory: &'t mut Storage<'_, A>, state: Arrays<'t, A>) -> Self {
        match memory {
            Storage::Flat(p, g) => Task::Flat(p, g, state),
            _ => {
                let (p, g) = missing_views();
                Task::Strided(Box::new((p, g, state)))
            }
        }
    }

    /// As [`Task::new`], but keeps `strided` borrowed while the task exists.
    pub fn borrow<'a>(
        views: &'t mut ParamViews<'a, A>,
        order: Order,
        strided: &'t mut [Option<Strided<'a, A>>],
        state: Arrays<'t, A>,
    ) -> Self {
        if views.is_flat(order) {
            return Task::flat(&mut views.memory, state);
        }
        let (p, g) = views.views(order, strided);
        Task::Strided(Box::new((p, g, state)))
    }

    /// A whole parameter, with state whose memory order is `order`. The parameter must have a
    /// gradient.
    pub fn new<'a>(
        views: &'t mut ParamViews<'a, A>,
        order: Order,
        strided: &mut [Option<Strided<'a, A>>],
        state: Arrays<'t, A>,
    ) -> Self {
        if views.is_flat(order) {
            return Task::flat(&mut views.memory, state);
        }
        let (p, g) = views.take_views(order, strided);
        Task::Strided(Box::new((p, g, state)))
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Task::Flat(p, ..) => p.len(),
            Task::Strided(piece) => piece.0.len(),
        }
    }

    /// Whether the task is split further to get pieces of about `chunk` elements.
    fn is_large(&self, chunk: usize) -> bool {
        match self {
            Task::Flat(p, ..) => p.len() > chunk,
            Task::Strided(piece) => is_large(&piece.0, chunk),
        }
    }

    #[inline]
    pub fn run(self, work: &mut impl FnMut(&mut [A], &[A], Arrays<'_, A>)) {
        match self {
            Task::Flat(p, g, state) => work(p, g, state),
            Task::Strided(piece) => for_each_slice(work, piece.0, piece.1, piece.2),
        }
    }

    /// Splits the task in two, after `chunk` elements or in half. The task must have at least two
    /// elements.
    fn split(self, chunk: usize) -> (Self, Self) {
        match self {
            Task::Flat(p, g, state) => {
                let ((p, p1), (g, g1), (s, s1)) = (
                    p.split_at_mut(chunk),
                    g.split_at(chunk),
                    state.split_at(chunk),
                );
                (Task::Flat(p, g, s), Task::Flat(p1, g1, s1))
            }
            Task::Strided(piece) => {
                let (a, b) = split_slowest_axis(piece.0, piece.1, piece.2);
                (Task::Strided(Box::new(a)), Task::Strided(Box::new(b)))
            }
        }
    }
}

/// Splits tasks into pieces of at most `chunk` elements, or some rows; each piece keeps the value that comes with
/// its task.
pub(crate) fn pieces<'t, A: Element, X: Copy>(
    tasks: impl Iterator<Item = (Task<'t, A>, X)>,
    chunk: usize,
) -> impl Iterator<Item = (Task<'t, A>, X)> {
    let (mut tasks, mut rest) = (tasks, Vec::new());
    std::iter::from_fn(move || {
        let (mut task, with) = rest.pop().or_else(|| tasks.next())?;
        while task.is_large(chunk) {
            let (piece, other) = task.split(chunk);
            rest.push((other, with));
            task = piece;
        }
        Some((task, with))
    })
}
