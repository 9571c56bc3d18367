//! Arrays of any shape, memory layout and values.
use crate::subject::{Real, number};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayBase, ArrayD, Axis, IxDyn, RawData, Slice};

/// The maximum number of elements: more than a SIMD vector has, few enough for fast steps.
const MOST: usize = 300;

/// Up to seven axes, one more than the crate supports. An axis may be empty, and then another one
/// longer than memory.
pub fn shape(u: &mut Unstructured<'_>) -> Result<Vec<usize>> {
    let mut shape = Vec::new();
    let mut size = 1;
    for _ in 0..u.int_in_range(0..=7)? {
        let n = match u.int_in_range(0..=9)? {
            0 => 0,
            1 => u.int_in_range(0..=MOST)?,
            n => (n - 1) / 2,
        };
        let n = if size * n > MOST { 1 } else { n };
        size *= n.max(1);
        shape.push(n);
    }
    if shape.contains(&0)
        && let Some(n) = shape.iter_mut().find(|n| **n == 1)
        && u.ratio(1, 4)?
    {
        *n = 1 << 40;
    }
    Ok(shape)
}

/// The value of the memory between the elements of a view.
pub const BESIDE: f64 = 77.0;

/// An array of this shape.
pub fn values<A: Real>(u: &mut Unstructured<'_>, shape: &[usize]) -> Result<ArrayD<A>> {
    let n: usize = shape.iter().product();
    // A few repeated values leave input bytes for other choices.
    let pool = (0..u.int_in_range(1..=6)?)
        .map(|_| value::<A>(u))
        .collect::<Result<Vec<_>>>()?;
    let wild = u.ratio(1, 4)?;
    let all = (0..n).map(|i| {
        if wild {
            value(u)
        } else {
            Ok(pool[(i * i + i / 3) % pool.len()])
        }
    });
    let all = all.collect::<Result<Vec<_>>>()?;
    Ok(ArrayD::from_shape_vec(IxDyn(shape), all).expect("as many values as the shape says"))
}

fn value<A: Real>(u: &mut Unstructured<'_>) -> Result<A> {
    Ok(if bool::arbitrary(u)? {
        A::from_f64(number(u)?)
    } else {
        A::of_bits(u64::arbitrary(u)?)
    })
}

/// How a view is taken from a larger array: with permuted axes, gaps, and reversed axes.
#[derive(Clone)]
pub struct Layout {
    order: Vec<usize>,
    step: Vec<isize>,
    offset: usize,
}

impl Layout {
    pub fn new(u: &mut Unstructured<'_>, ndim: usize) -> Result<Layout> {
        let mut order: Vec<usize> = (0..ndim).collect();
        let mut step = vec![1; ndim];
        let mut offset = 0;
        match u.int_in_range(0..=3)? {
            0 => {}
            1 => order.reverse(),
            _ => {
                for i in (1..ndim).rev() {
                    order.swap(i, u.int_in_range(0..=i)?);
                }
                // Gaps along many axes would take hundreds of megabytes.
                let steps: &[isize] = if ndim <= 4 {
                    &[1, 1, 1, 2, -1, -2, 3]
                } else {
                    &[1, 1, -1]
                };
                for step in &mut step {
                    *step = *u.choose(steps)?;
                }
                offset = u.int_in_range(0..=2)?;
            }
        }
        Ok(Layout {
            order,
            step,
            offset,
        })
    }

    /// Memory with these values at the elements of the view, and [`BESIDE`] elsewhere.
    pub fn store<A: Real>(&self, values: &ArrayD<A>) -> ArrayD<A> {
        let offset = self.offset(values.shape());
        let length =
            |&axis: &usize| values.len_of(Axis(axis)) * self.step[axis].unsigned_abs() + offset;
        let lengths: Vec<_> = self.order.iter().map(length).collect();
        let mut memory = ArrayD::from_elem(IxDyn(&lengths), A::from_f64(BESIDE));
        self.view(memory.view_mut(), values.shape()).assign(values);
        memory
    }

    /// No offset for empty arrays: another axis may be longer than memory.
    fn offset(&self, shape: &[usize]) -> usize {
        if shape.contains(&0) { 0 } else { self.offset }
    }

    pub fn view<S: RawData>(
        &self,
        memory: ArrayBase<S, IxDyn>,
        shape: &[usize],
    ) -> ArrayBase<S, IxDyn> {
        let (mut place, offset) = (vec![0; shape.len()], self.offset(shape));
        for (i, &axis) in self.order.iter().enumerate() {
            place[axis] = i;
        }
        let mut view = memory.permuted_axes(place);
        for (axis, &n) in shape.iter().enumerate() {
            let end = offset + n * self.step[axis].unsigned_abs();
            view.slice_axis_inplace(
                Axis(axis),
                Slice::new(offset as isize, Some(end as isize), 1),
            );
            view.slice_axis_inplace(Axis(axis), Slice::new(0, None, self.step[axis]));
        }
        view
    }
}
