//! From the views a caller lends to the tasks that are run.
use super::{
    Arrays,
    walk::{Piece, halve, walk},
};
use crate::array::{
    Element,
    layout::{AXES, Order, Shape, nothing, same_lengths, six_axes, trimmed},
};
use ndarray::{ArrayView, ArrayView6, ArrayViewD, ArrayViewMut, ArrayViewMut6, ArrayViewMutD, Dimension};

/// One parameter and its gradient as they were lent: what is slow to find out for an array of unknown dimension is found
/// out here, where the dimension is still a type.
pub(crate) struct Lent<'a, A> {
    pub shape: Shape,
    pub order: Order,
    memory: Memory<'a, A>,
}

enum Memory<'a, A> {
    /// Both contiguous in one common order: C, F, permuted or reversed.
    Flat(&'a mut [A], &'a [A]),
    /// The views lie at this place of a list of their own: they are ten times as large and seldom needed.
    Strided(usize),
    /// This step has no gradient for this parameter, whose view lies at this place of the list.
    NoGrad(usize),
    /// The gradient has been taken out of the step.
    Frozen,
}

/// A parameter and its gradient that are not slices.
pub(crate) type Strided<'a, A> = (ArrayViewMut6<'a, A>, ArrayView6<'a, A>);

/// Why a parameter cannot be lent.
pub(crate) enum Unfit {
    GradShape,
    TooManyAxes,
}

impl<'a, A: Element> Lent<'a, A> {
    /// `strided` is where views that are not slices go, and `place` where they will be found.
    #[inline(always)]
    pub fn new<D: Dimension>(
        p: ArrayViewMut<'a, A, D>,
        g: ArrayView<'a, A, D>,
        place: usize,
        strided: impl FnOnce(Strided<'a, A>),
    ) -> Result<Self, Unfit> {
        if p.ndim() != g.ndim() || !same_lengths(p.shape(), g.shape()) {
            return Err(Unfit::GradShape);
        }
        let shape = Shape::new(p.shape()).ok_or(Unfit::TooManyAxes)?;
        if p.is_standard_layout() && g.is_standard_layout() {
            // Both are slices: the defaults are never taken.
            let memory = Memory::Flat(p.into_slice().unwrap_or_default(), g.to_slice().unwrap_or_default());
            return Ok(Lent { shape, order: Order::C, memory });
        }
        let order = Order::new(&shape, p.strides());
        let strides = p.strides().iter().zip(g.strides());
        let one_order = p.shape().iter().zip(strides).all(|(&n, (p, g))| n <= 1 || p == g);
        let memory = if one_order && p.as_slice_memory_order().is_some() {
            let g = g.to_slice_memory_order();
            Memory::Flat(p.into_slice_memory_order().unwrap_or_default(), g.unwrap_or_default())
        } else {
            strided(six_axes(p).zip(six_axes(g)).ok_or(Unfit::TooManyAxes)?);
            Memory::Strided(place)
        };
        Ok(Lent { shape, order, memory })
    }

    /// Places are as in [`Lent::new`].
    pub fn without_grad<D: Dimension>(
        p: ArrayViewMut<'a, A, D>,
        place: usize,
        strided: impl FnOnce(Strided<'a, A>),
    ) -> Result<Self, Unfit> {
        let shape = Shape::new(p.shape()).ok_or(Unfit::TooManyAxes)?;
        let none = ArrayView6::from_shape([0; AXES], &[]).ok();
        strided(six_axes(p).zip(none).ok_or(Unfit::TooManyAxes)?);
        Ok(Lent { shape, order: Order::C, memory: Memory::NoGrad(place) })
    }

    /// The parameter and its gradient with their own axes, if there is a gradient.
    pub fn dynamic<'t>(
        &'t mut self,
        strided: &'t mut [Option<Strided<'a, A>>],
    ) -> Option<(ArrayViewMutD<'t, A>, ArrayViewD<'t, A>)> {
        let ndim = self.shape.as_slice().len();
        self.has_grad().then(|| self.views(Order::C, strided)).map(|(p, g)| (trimmed(p, ndim), trimmed(g, ndim)))
    }

    /// The parameter with its own axes, whether it has a gradient or not.
    pub fn parameter<'t>(&'t mut self, strided: &'t mut [Option<Strided<'a, A>>]) -> ArrayViewMutD<'t, A> {
        let ndim = self.shape.as_slice().len();
        let p = match self.memory {
            Memory::NoGrad(place) => match strided.get_mut(place) {
                Some(Some((p, _))) => p.view_mut(),
                _ => lost().0,
            },
            _ => self.views(Order::C, strided).0,
        };
        trimmed(p, ndim)
    }

    /// As [`Lent::parameter`], taken out of the list, so that several can be lent at once.
    pub fn take_parameter(&mut self, strided: &mut [Option<Strided<'a, A>>]) -> ArrayViewMutD<'_, A> {
        let ndim = self.shape.as_slice().len();
        let p = match self.memory {
            Memory::NoGrad(place) => strided.get_mut(place).and_then(Option::take).unwrap_or_else(lost).0,
            _ => self.take_views(Order::C, strided).0,
        };
        trimmed(p, ndim)
    }

    /// Takes the gradient out of the step.
    pub fn freeze(&mut self) {
        self.memory = Memory::Frozen;
    }

    /// Whether the gradient has been taken out of the step.
    pub fn is_frozen(&self) -> bool {
        matches!(self.memory, Memory::Frozen)
    }

    /// The number of elements to work on.
    #[inline]
    pub fn size(&self) -> usize {
        match &self.memory {
            Memory::Flat(p, _) => p.len(),
            Memory::Strided(_) => self.shape.size(),
            Memory::NoGrad(_) | Memory::Frozen => 0,
        }
    }

    #[inline]
    pub fn has_grad(&self) -> bool {
        !matches!(self.memory, Memory::NoGrad(_) | Memory::Frozen)
    }

    /// The gradient in the order of its memory, if that has no gaps.
    pub fn grad_slice(&self) -> Option<&[A]> {
        match &self.memory {
            Memory::Flat(_, g) => Some(g),
            _ => None,
        }
    }

    /// The gradient, where it is not a slice.
    pub fn grad_view<'t>(&self, strided: &'t [Option<Strided<'a, A>>]) -> Option<ArrayView6<'t, A>> {
        match &self.memory {
            Memory::Strided(place) => Some(strided.get(*place)?.as_ref()?.1.view()),
            _ => None,
        }
    }

    /// The first element of the gradient, in its memory order, that is infinite or NaN.
    pub fn non_finite(&self, strided: &[Option<Strided<'a, A>>]) -> Option<A> {
        match &self.memory {
            Memory::Flat(_, g) => super::reduce::non_finite(g),
            Memory::Strided(place) => strided.get(*place)?.as_ref()?.1.iter().copied().find(|g| !g.is_finite()),
            Memory::NoGrad(_) | Memory::Frozen => None,
        }
    }

    fn is_flat(&self, order: Order) -> bool {
        matches!(self.memory, Memory::Flat(..)) && order == self.order
    }

    /// The parameter and its gradient as slices, if their memory order is that of the state.
    #[inline]
    pub fn flat(&mut self, order: Order) -> Option<(&mut [A], &[A])> {
        match &mut self.memory {
            Memory::Flat(p, g) if order == self.order => Some((p, g)),
            _ => None,
        }
    }

    /// Does `work` on slices of the parameter, its gradient and its state, which lies in memory in `order`. There must be a
    /// gradient.
    #[inline]
    pub fn walk(
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
        walk(work, p, g, state);
    }

    /// What else the parameter and its gradient are: views so arranged that their rows follow the memory order of the state.
    /// There must be a gradient.
    pub fn views<'t>(&'t mut self, order: Order, strided: &'t mut [Option<Strided<'a, A>>]) -> Strided<'t, A> {
        let (p, g) = match &mut self.memory {
            Memory::Strided(place) => match strided.get_mut(*place) {
                Some(Some((p, g))) => (p.view_mut(), g.view()),
                _ => lost(),
            },
            memory => memory.flat_views(self.order, &self.shape),
        };
        (order.arrange(p), order.arrange(g))
    }

    /// As [`Lent::views`]; what lies in `strided` is taken out of it, so that several parameters can be lent at once.
    fn take_views<'t>(&'t mut self, order: Order, strided: &mut [Option<Strided<'a, A>>]) -> Strided<'t, A> {
        let (p, g) = match &mut self.memory {
            Memory::Strided(place) => strided.get_mut(*place).and_then(Option::take).unwrap_or_else(lost),
            memory => memory.flat_views(self.order, &self.shape),
        };
        (order.arrange(p), order.arrange(g))
    }
}

impl<A> Memory<'_, A> {
    /// The slices as views.
    fn flat_views(&mut self, order: Order, shape: &Shape) -> Strided<'_, A> {
        match self {
            Memory::Flat(p, g) => (order.view_mut(shape, p), order.view(shape, g)),
            _ => lost(),
        }
    }
}

/// In the place of views that were asked for twice, or without a gradient.
fn lost<'a, A>() -> Strided<'a, A> {
    debug_assert!(false, "there are no such views");
    (nothing(ArrayViewMut::from(&mut [])), nothing(ArrayView::from(&[])))
}

/// A parameter or a part of it, with gradient and state.
pub(crate) enum Task<'a, A> {
    Flat(&'a mut [A], &'a [A], Arrays<'a, A>),
    /// Walked row by row, these views follow the memory of the state. (Boxed, because they would make every task large.)
    Strided(Box<Piece<'a, A>>),
}

impl<'t, A: Element> Task<'t, A> {
    fn flat(memory: &'t mut Memory<'_, A>, state: Arrays<'t, A>) -> Self {
        match memory {
            Memory::Flat(p, g) => Task::Flat(p, g, state),
            _ => {
                let (p, g) = lost();
                Task::Strided(Box::new((p, g, state)))
            }
        }
    }

    /// As [`Task::new`], to be used up before another parameter is lent.
    pub fn borrow<'a>(
        lent: &'t mut Lent<'a, A>,
        order: Order,
        strided: &'t mut [Option<Strided<'a, A>>],
        state: Arrays<'t, A>,
    ) -> Self {
        if lent.is_flat(order) {
            return Task::flat(&mut lent.memory, state);
        }
        let (p, g) = lent.views(order, strided);
        Task::Strided(Box::new((p, g, state)))
    }

    /// A whole parameter, with state that lies in memory in `order`. There must be a gradient.
    pub fn new<'a>(
        lent: &'t mut Lent<'a, A>,
        order: Order,
        strided: &mut [Option<Strided<'a, A>>],
        state: Arrays<'t, A>,
    ) -> Self {
        if lent.is_flat(order) {
            return Task::flat(&mut lent.memory, state);
        }
        let (p, g) = lent.take_views(order, strided);
        Task::Strided(Box::new((p, g, state)))
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Task::Flat(p, ..) => p.len(),
            Task::Strided(piece) => piece.0.len(),
        }
    }

    #[inline]
    pub fn run(self, work: &mut impl FnMut(&mut [A], &[A], Arrays<'_, A>)) {
        match self {
            Task::Flat(p, g, state) => work(p, g, state),
            Task::Strided(piece) => walk(work, piece.0, piece.1, piece.2),
        }
    }

    /// Two parts, the first of `chunk` elements or half of the task. There must be two elements.
    fn split(self, chunk: usize) -> (Self, Self) {
        match self {
            Task::Flat(p, g, state) => {
                let ((p, p1), (g, g1), (s, s1)) = (p.split_at_mut(chunk), g.split_at(chunk), state.split_at(chunk));
                (Task::Flat(p, g, s), Task::Flat(p1, g1, s1))
            }
            Task::Strided(piece) => {
                let (a, b) = halve(piece.0, piece.1, piece.2);
                (Task::Strided(Box::new(a)), Task::Strided(Box::new(b)))
            }
        }
    }
}

/// Tasks in pieces of at most `chunk` elements, each with what goes along with its task.
pub(crate) fn pieces<'t, A: Element, X: Copy>(
    tasks: impl Iterator<Item = (Task<'t, A>, X)>,
    chunk: usize,
) -> impl Iterator<Item = (Task<'t, A>, X)> {
    let (mut tasks, mut rest) = (tasks, Vec::new());
    std::iter::from_fn(move || {
        let (mut task, with) = rest.pop().or_else(|| tasks.next())?;
        while task.len() > chunk {
            let (piece, other) = task.split(chunk);
            rest.push((other, with));
            task = piece;
        }
        Some((task, with))
    })
}
