//! What is measured: an algorithm on arrays of some type, sizes and layout, with one or all threads.
use crate::machine;
use clap::ValueEnum;
use ndarray::{Array1, Array2, ShapeBuilder, s};
use ndarray_optim::algorithm::Element;
use std::fmt;

/// Hyper-parameters, the same in `python/worker.py`.
pub const LR: f64 = 1e-3;
pub const WEIGHT_DECAY: f64 = 1e-2;
pub const EPS: f64 = 1e-8;
pub const BETA1: f64 = 0.9;
pub const BETA2: f64 = 0.999;
pub const MOMENTUM: f64 = 0.9;
pub const ALPHA: f64 = 0.99;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Algorithm {
    Adamw,
    /// The sum of torch, `m <- 0.9 m + g`; in this crate the average with ten times the learning
    /// rate, which is the same step.
    Momentum,
    Rmsprop,
}

impl Algorithm {
    pub const ALL: [Self; 3] = [Self::Adamw, Self::Momentum, Self::Rmsprop];

    /// The number of state arrays.
    pub fn moments(self) -> usize {
        match self {
            Self::Adamw => 2,
            _ => 1,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Adamw => "AdamW",
            Self::Momentum => "Momentum",
            Self::Rmsprop => "RMSProp",
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Dtype {
    F32,
    F64,
}

impl Dtype {
    pub const ALL: [Self; 2] = [Self::F32, Self::F64];

    pub fn title(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// The memory layout of parameters and gradients.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Layout {
    /// Row-major
    C,
    /// Column-major
    F,
    /// Row-major parameters, column-major gradients
    Mixed,
    /// Every other column of an array of twice the width
    Strided,
}

impl Layout {
    pub const ALL: [Self; 4] = [Self::C, Self::F, Self::Mixed, Self::Strided];

    pub fn title(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::F => "F",
            Self::Mixed => "C, gradient F",
            Self::Strided => "every other column",
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Threads {
    One,
    All,
}

impl Threads {
    pub const ALL: [Self; 2] = [Self::One, Self::All];

    pub fn title(self) -> String {
        match self {
            Self::One => "one thread".into(),
            Self::All => format!("{} threads", machine::cores()),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Shapes {
    /// One array with one axis.
    One(usize),
    /// One square matrix.
    Square(usize),
    /// 1000 arrays of 1000 elements.
    Many,
    /// The layers of GPT-2 at a third of the width of its small variant.
    Transformer,
}

impl Shapes {
    pub fn list(self) -> Vec<Vec<usize>> {
        match self {
            Self::One(n) => vec![vec![n]],
            Self::Square(n) => vec![vec![n, n]],
            Self::Many => vec![vec![1000]; 1000],
            Self::Transformer => {
                let d = 256;
                let block = [
                    vec![d], // layer norm
                    vec![d],
                    vec![d, 3 * d], // attention
                    vec![3 * d],
                    vec![d, d],
                    vec![d],
                    vec![d], // layer norm
                    vec![d],
                    vec![d, 4 * d], // feed-forward
                    vec![4 * d],
                    vec![4 * d, d],
                    vec![d],
                ];
                let mut shapes = vec![vec![50_257 / 4, d], vec![1024 / 4, d]];
                shapes.extend(block.iter().cycle().take(8 * block.len()).cloned());
                shapes.extend([vec![d], vec![d]]);
                shapes
            }
        }
    }
}

impl fmt::Display for Shapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(n) => write!(f, "{n:e}"),
            Self::Square(n) => write!(f, "{n} x {n}"),
            Self::Many => write!(f, "1000 arrays of 1000"),
            Self::Transformer => write!(f, "transformer"),
        }
    }
}

/// One row of a table.
#[derive(Clone, Copy, PartialEq)]
pub struct Case {
    pub algorithm: Algorithm,
    pub dtype: Dtype,
    pub shapes: Shapes,
    pub layout: Layout,
    pub threads: Threads,
}

impl Case {
    pub fn elements(&self) -> usize {
        self.shapes
            .list()
            .iter()
            .map(|s| s.iter().product::<usize>())
            .sum()
    }

    /// Memory of the parameters, gradients and states.
    pub fn bytes(&self) -> usize {
        let width = if self.layout == Layout::Strided { 2 } else { 1 };
        self.elements() * self.dtype.bytes() * (2 * width + self.algorithm.moments())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, dtype) = (self.algorithm.title(), self.dtype.title());
        let (shapes, threads) = (self.shapes, self.threads.title());
        write!(f, "{algorithm}, {dtype}, {shapes}")?;
        if let Shapes::Square(_) = shapes {
            write!(f, ", {}", self.layout.title())?;
        }
        write!(f, ", {threads}")
    }
}

/// An array of ndarray, with the number of axes that a program would give it.
#[derive(Clone)]
pub enum Tensor<A> {
    Vector(Array1<A>),
    Matrix(Array2<A>),
}

/// Evaluates an expression for arrays of one kind, with their number of axes known.
#[macro_export]
macro_rules! with_arrays {
    ($($name:ident = $tensor:expr),+ => $body:expr) => {
        match ($($tensor,)+) {
            ($($crate::case::with_arrays!(@Vector $name),)+) => $body,
            ($($crate::case::with_arrays!(@Matrix $name),)+) => $body,
            #[allow(unreachable_patterns)]
            _ => unreachable!("arrays of one parameter have the same number of axes"),
        }
    };
    (@Vector $name:ident) => { $crate::case::Tensor::Vector($name) };
    (@Matrix $name:ident) => { $crate::case::Tensor::Matrix($name) };
}
pub use with_arrays;

impl<A: Element> Tensor<A> {
    /// Numbers in row-major order, laid out in another.
    fn new(numbers: Vec<A>, shape: &[usize], layout: Layout) -> Self {
        let &[rows, columns] = shape else {
            return Self::Vector(numbers.into());
        };
        let at = |(i, j)| numbers[i * columns + j];
        Self::Matrix(match layout {
            Layout::F => Array2::from_shape_fn((rows, columns).f(), at),
            Layout::Strided => {
                let mut wide = Array2::from_elem((rows, 2 * columns), A::ZERO);
                wide.slice_mut(s![.., ..;2])
                    .indexed_iter_mut()
                    .for_each(|(index, x)| *x = at(index));
                wide.slice_move(s![.., ..;2])
            }
            Layout::C | Layout::Mixed => Array2::from_shape_fn((rows, columns), at),
        })
    }

    /// Zeros with the shape and the memory order of this array.
    pub fn zeros_like(&self) -> Self {
        match self {
            Self::Vector(a) => Self::Vector(Array1::from_elem(a.raw_dim(), A::ZERO)),
            Self::Matrix(a) => {
                let columns_first = a.strides()[0] < a.strides()[1];
                let shape = a.raw_dim().set_f(columns_first);
                Self::Matrix(Array2::from_elem(shape, A::ZERO))
            }
        }
    }

    fn get(&self, index: usize) -> f64 {
        let x = match self {
            Self::Vector(a) => a[index],
            Self::Matrix(a) => a[(index / a.ncols(), index % a.ncols())],
        };
        x.to_f64().unwrap()
    }

    fn len(&self) -> usize {
        with_arrays!(a = self => a.len())
    }
}

/// Parameters with their gradients.
pub struct Model<A> {
    pub params: Vec<Tensor<A>>,
    pub grads: Vec<Tensor<A>>,
}

impl<A: Element> Model<A> {
    pub fn new(case: &Case) -> Self {
        let layout_of_grads = match case.layout {
            Layout::Mixed => Layout::F,
            layout => layout,
        };
        let (params, grads) = case
            .shapes
            .list()
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let (p, g) = numbers(i, shape.iter().product());
                let param = Tensor::new(p, shape, case.layout);
                (param, Tensor::new(g, shape, layout_of_grads))
            })
            .unzip();
        Model { params, grads }
    }
}

/// The parameter and the gradient of array `i` in row-major order: numbers between -0.5 and 0.5,
/// exact in `f32`, the same as in `python/worker.py`.
pub fn numbers<A: Element>(i: usize, len: usize) -> (Vec<A>, Vec<A>) {
    let pattern = |factor: usize, period: usize, offset: f64| -> Vec<A> {
        let of = |k| A::from_f64((k * factor % period) as f64 / 256.0 - offset);
        let period: Vec<A> = (0..period).map(of).collect();
        period
            .iter()
            .copied()
            .cycle()
            .skip(i % period.len())
            .take(len)
            .collect()
    };
    (pattern(37, 251, 0.5), pattern(73, 241, 0.45))
}

/// The first elements of the first array and the last ones of the last, to compare peers by.
pub fn ends<A: Element>(params: &[Tensor<A>]) -> Vec<f64> {
    let (first, last) = (&params[0], &params[params.len() - 1]);
    let end = last.len();
    let head = (0..4).map(|i| first.get(i));
    head.chain((end - 4..end).map(|i| last.get(i))).collect()
}
