//! Shapes and memory orders without allocation: always six axes, padded in front with length 1.
use ndarray::{
    ArrayBase, ArrayView, ArrayViewMut, Axis, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn,
    RawData,
};

/// The maximum number of axes.
pub(crate) const AXES: usize = 6;

/// The shape of a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    ndim: usize,
    len: [usize; AXES],
}

impl Shape {
    #[inline]
    pub fn new(shape: &[usize]) -> Option<Shape> {
        let mut len = [1; AXES];
        len[AXES.checked_sub(shape.len())?..].copy_from_slice(shape);
        Some(Shape {
            ndim: shape.len(),
            len,
        })
    }

    pub fn size(&self) -> usize {
        self.len.iter().product()
    }

    #[inline]
    pub fn is(&self, shape: &[usize]) -> bool {
        self.ndim == shape.len() && same_lengths(self.as_slice(), shape)
    }

    #[inline]
    pub fn as_slice(&self) -> &[usize] {
        &self.len[AXES - self.ndim..]
    }
}

impl PartialEq for Shape {
    #[inline]
    fn eq(&self, other: &Shape) -> bool {
        self.ndim == other.ndim && same_lengths(&self.len, &other.len)
    }
}

/// Returns whether two lists of the same length are equal. `==` calls `memcmp`, which takes longer
/// than the rest of a small step.
#[inline(always)]
pub(crate) fn same_lengths(a: &[usize], b: &[usize]) -> bool {
    a.iter()
        .zip(b)
        .fold(0, |different, (a, b)| different | (a ^ b))
        == 0
}

/// The memory order of an array: its axes from the slowest to the fastest, and those that are
/// reversed. Two arrays of the same shape and order have the same index at every memory position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    axes: [u8; AXES],
    reversed: u8,
}

impl Order {
    /// Row-major.
    pub const C: Order = Order {
        axes: [0, 1, 2, 3, 4, 5],
        reversed: 0,
    };

    /// Returns the order of an array with these strides. Axes of length 1 keep their place, so that
    /// their strides do not matter.
    pub fn new(shape: &Shape, strides: &[isize]) -> Order {
        let first = AXES - shape.ndim;
        let stride = |axis: u8| strides[axis as usize - first];
        let mut order = Order::C;
        let mut long = [0; AXES];
        let mut n = 0;
        for axis in first as u8..AXES as u8 {
            if shape.len[axis as usize] > 1 {
                let mut at = n;
                while at > 0 && stride(long[at - 1]).unsigned_abs() < stride(axis).unsigned_abs() {
                    long[at] = long[at - 1];
                    at -= 1;
                }
                long[at] = axis;
                n += 1;
                order.reversed |= u8::from(stride(axis) < 0) << axis;
            }
        }
        let places = (0..AXES).filter(|&axis| shape.len[axis] > 1);
        for (place, &axis) in places.zip(&long[..n]) {
            order.axes[place] = axis;
        }
        order
    }

    /// Returns the order with these axes, from the slowest to the fastest, and these reversed axes.
    /// Axes of length 1 keep their place here too. `None` if `axes` is not a permutation of all
    /// axes.
    pub fn from_axes(shape: &Shape, axes: &[u8], reversed: &[u8]) -> Option<Order> {
        let (first, ndim) = (AXES - shape.ndim, shape.ndim);
        let all = axes.len() == ndim && (0..ndim).all(|axis| axes.contains(&(axis as u8)));
        if !all || reversed.iter().any(|&axis| usize::from(axis) >= ndim) {
            return None;
        }
        let long = |axis: usize| shape.len[axis] > 1;
        let mut order = Order::C;
        let axes = axes
            .iter()
            .map(|&axis| usize::from(axis) + first)
            .filter(|&axis| long(axis));
        for (place, axis) in (0..AXES).filter(|&place| long(place)).zip(axes) {
            order.axes[place] = axis as u8;
        }
        let backwards = reversed
            .iter()
            .map(|&axis| usize::from(axis) + first)
            .filter(|&axis| long(axis));
        order.reversed = backwards.fold(0, |bits, axis| bits | 1 << axis);
        Some(order)
    }

    /// Returns the axes from the slowest to the fastest, and the reversed axes: the arguments of
    /// [`Order::from_axes`].
    pub fn axes(&self, shape: &Shape) -> (Vec<u8>, Vec<u8>) {
        let first = (AXES - shape.ndim) as u8;
        let axes = self.axes[usize::from(first)..]
            .iter()
            .map(|axis| axis - first)
            .collect();
        let reversed = (first..AXES as u8)
            .filter(|axis| self.reversed >> axis & 1 == 1)
            .map(|axis| axis - first)
            .collect();
        (axes, reversed)
    }

    /// Permutes and reverses the axes of an array so that its rows follow this order.
    pub fn arrange<S: RawData>(&self, mut array: ArrayBase<S, Ix6>) -> ArrayBase<S, Ix6> {
        self.flip(&mut array);
        array.permuted_axes(self.axes.map(usize::from))
    }

    /// Returns the array of this shape whose memory in this order is `memory`, which must have as
    /// many elements as the shape.
    pub fn view<'a, A>(&self, shape: &Shape, memory: &'a [A]) -> ArrayView<'a, A, Ix6> {
        debug_assert!(
            memory.len() == shape.size(),
            "{} elements for {shape:?}",
            memory.len()
        );
        self.restore(
            ArrayView::from_shape(self.lengths(shape), memory)
                .unwrap_or_else(|_| empty_view(ArrayView::from(&[]))),
        )
    }

    /// As [`Order::view`], but mutable.
    pub fn view_mut<'a, A>(&self, shape: &Shape, memory: &'a mut [A]) -> ArrayViewMut<'a, A, Ix6> {
        debug_assert!(
            memory.len() == shape.size(),
            "{} elements for {shape:?}",
            memory.len()
        );
        let view = ArrayViewMut::from_shape(self.lengths(shape), memory);
        self.restore(view.unwrap_or_else(|_| empty_view(ArrayViewMut::from(&mut []))))
    }

    fn lengths(&self, shape: &Shape) -> [usize; AXES] {
        self.axes.map(|axis| shape.len[axis as usize])
    }

    fn restore<S: RawData>(&self, array: ArrayBase<S, Ix6>) -> ArrayBase<S, Ix6> {
        let mut place = [0; AXES];
        for (i, &axis) in self.axes.iter().enumerate() {
            place[axis as usize] = i;
        }
        let mut array = array.permuted_axes(place);
        self.flip(&mut array);
        array
    }

    fn flip<S: RawData>(&self, array: &mut ArrayBase<S, Ix6>) {
        for axis in 0..AXES {
            if self.reversed >> axis & 1 == 1 {
                array.invert_axis(Axis(axis));
            }
        }
    }
}

/// Returns the array padded to six axes, or `None` if it has more.
pub(crate) fn six_axes<S: RawData, D: Dimension>(
    array: ArrayBase<S, D>,
) -> Option<ArrayBase<S, Ix6>> {
    const FRONT: Axis = Axis(0);
    fn one<S: RawData>(a: ArrayBase<S, Ix1>) -> ArrayBase<S, Ix6> {
        two(a.insert_axis(FRONT))
    }
    fn two<S: RawData>(a: ArrayBase<S, Ix2>) -> ArrayBase<S, Ix6> {
        three(a.insert_axis(FRONT))
    }
    fn three<S: RawData>(a: ArrayBase<S, Ix3>) -> ArrayBase<S, Ix6> {
        four(a.insert_axis(FRONT))
    }
    fn four<S: RawData>(a: ArrayBase<S, Ix4>) -> ArrayBase<S, Ix6> {
        a.insert_axis(FRONT).insert_axis(FRONT)
    }
    match array.ndim() {
        0 => array
            .into_dimensionality::<Ix0>()
            .ok()
            .map(|a| one(a.insert_axis(FRONT))),
        1 => array.into_dimensionality::<Ix1>().ok().map(one),
        2 => array.into_dimensionality::<Ix2>().ok().map(two),
        3 => array.into_dimensionality::<Ix3>().ok().map(three),
        4 => array.into_dimensionality::<Ix4>().ok().map(four),
        5 => array
            .into_dimensionality::<Ix5>()
            .ok()
            .map(|a| a.insert_axis(FRONT)),
        _ => array.into_dimensionality::<Ix6>().ok(),
    }
}

/// Returns an empty array with six axes, in place of one that cannot be created.
pub(crate) fn empty_view<S: RawData>(empty: ArrayBase<S, Ix1>) -> ArrayBase<S, Ix6> {
    empty
        .insert_axis(Axis(0))
        .insert_axis(Axis(0))
        .insert_axis(Axis(0))
        .insert_axis(Axis(0))
        .insert_axis(Axis(0))
}

/// Removes all but the last `ndim` of six axes; the others must have length 1.
pub(crate) fn trimmed<S: RawData>(array: ArrayBase<S, Ix6>, ndim: usize) -> ArrayBase<S, IxDyn> {
    let mut array = array.into_dyn();
    while array.ndim() > ndim {
        array = array.remove_axis(Axis(0));
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array;

    fn order(shape: &[usize], strides: &[isize]) -> Order {
        Order::new(&Shape::new(shape).unwrap(), strides)
    }

    #[test]
    fn order_depends_on_memory_alone() {
        assert_eq!(order(&[3, 4], &[4, 1]), Order::C);
        assert_eq!(
            order(&[5, 1, 3], &[3, 77, 1]),
            Order::C,
            "the stride of an axis of length 1 says nothing"
        );
        assert_ne!(order(&[3, 4], &[1, 3]), Order::C);
        assert_ne!(order(&[3, 4], &[-4, 1]), Order::C);
        assert_eq!(order(&[3, 1, 4], &[1, 9, 3]), order(&[3, 1, 4], &[2, 1, 6]));
    }

    #[test]
    fn arrange_then_view_is_the_identity() {
        let a = Array::from_shape_fn((3, 4, 5), |(i, j, k)| 100 * i + 10 * j + k);
        let mut turned = a.view().permuted_axes([2, 0, 1]);
        turned.invert_axis(Axis(0));
        turned.invert_axis(Axis(2));
        let shape = Shape::new(turned.shape()).unwrap();
        let order = Order::new(&shape, turned.strides());
        let memory: Vec<_> = order
            .arrange(six_axes(turned.view()).unwrap())
            .iter()
            .copied()
            .collect();
        assert_eq!(
            memory,
            a.as_slice().unwrap(),
            "rows of the arranged view follow memory"
        );
        assert_eq!(order.view(&shape, &memory), six_axes(turned).unwrap());
        let (axes, reversed) = order.axes(&shape);
        assert_eq!((&axes[..], &reversed[..]), (&[1, 2, 0][..], &[0, 2][..]));
        assert_eq!(Order::from_axes(&shape, &axes, &reversed), Some(order));
        assert_eq!(Order::from_axes(&shape, &[1, 2, 2], &[]), None);
        assert_eq!(Order::from_axes(&shape, &[1, 2], &[]), None);
        assert_eq!(Order::from_axes(&shape, &axes, &[3]), None);
    }
}
