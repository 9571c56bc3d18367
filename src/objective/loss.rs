//! The losses of a row as functions of its linear predictor.
use crate::array::Element;
use ndarray::{ArrayBase, ArrayView1, Ix1, Ix2, ViewRepr};

/// `ArrayView<'a, A, D>`, spelled so that what contains it is covariant: a problem can then be
/// joined with weights that live shorter.
pub(super) type View<'a, A, D> = ArrayBase<ViewRepr<&'a A>, D, A>;

/// A loss with the targets of all rows.
#[derive(Clone, Debug)]
pub(super) enum Loss<'a, A> {
    LeastSquares(View<'a, A, Ix2>),
    Huber(View<'a, A, Ix2>, A),
    Logistic(View<'a, A, Ix2>),
    /// With the exposure of each row.
    Poisson(View<'a, A, Ix2>, Option<View<'a, A, Ix1>>),
    /// Labels.
    Softmax(View<'a, usize, Ix1>),
}

impl<A: Element> Loss<'_, A> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Loss::LeastSquares(_) => "least squares",
            Loss::Huber(..) => "Huber",
            Loss::Logistic(_) => "logistic",
            Loss::Poisson(..) => "Poisson",
            Loss::Softmax(_) => "softmax",
        }
    }

    /// Returns the loss of a row, and replaces its linear predictor by the derivatives.
    pub(super) fn of_row(&self, row: usize, z: &mut [A]) -> f64 {
        match self {
            Loss::LeastSquares(y) => each(z, y.row(row), least_squares),
            Loss::Huber(y, delta) => each(z, y.row(row), |z, y| huber(z, y, *delta)),
            Loss::Logistic(y) => each(z, y.row(row), logistic),
            Loss::Poisson(y, exposure) => {
                let exposure = exposure.map_or(A::one(), |exposure| exposure[row]);
                each(z, y.row(row), |z, y| poisson(z, y, exposure))
            }
            Loss::Softmax(labels) => softmax(z, labels[row]),
        }
    }

    /// Replaces the linear predictor of a row by the expected targets or the probabilities.
    pub(super) fn mean(&self, z: &mut [A]) {
        match self {
            Loss::LeastSquares(_) | Loss::Huber(..) => {}
            Loss::Logistic(_) => z.iter_mut().for_each(|z| *z = sigmoid(*z).0),
            Loss::Poisson(..) => z.iter_mut().for_each(|z| *z = z.portable_exp()),
            Loss::Softmax(_) => {
                let (_, _, others) = exponentials(z);
                let sum = A::from_f64(1.0 + others);
                z.iter_mut().for_each(|z| *z = *z / sum);
            }
        }
    }
}

/// The sum of a loss over the outputs; replaces each linear predictor by the derivative.
fn each<A: Element>(z: &mut [A], y: ArrayView1<'_, A>, loss: impl Fn(A, A) -> (f64, A)) -> f64 {
    let mut sum = 0.0;
    for (z, &y) in z.iter_mut().zip(y) {
        let (value, derivative) = loss(*z, y);
        sum += value;
        *z = derivative;
    }
    sum
}

// Squares are computed in `f64`, where those of `f32` neither overflow nor underflow.
fn least_squares<A: Element>(z: A, y: A) -> (f64, A) {
    let residual = z - y;
    (0.5 * residual.f64() * residual.f64(), residual)
}

fn huber<A: Element>(z: A, y: A, delta: A) -> (f64, A) {
    let residual = z - y;
    if residual.abs() <= delta {
        return least_squares(z, y);
    }
    let (size, delta) = (residual.abs().f64(), delta.f64());
    let value = delta * (size - 0.5 * delta);
    (value, residual.sign() * A::from_f64(delta))
}

/// 1 / (1 + e^-z) and 1 / (1 + e^z), neither of them as a difference, and e^-|z|.
fn sigmoid<A: Element>(z: A) -> (A, A, A) {
    let small = (-z.abs()).portable_exp();
    let (high, low) = (A::one() / (A::one() + small), small / (A::one() + small));
    if z < A::ZERO {
        (low, high, small)
    } else {
        (high, low, small)
    }
}

fn logistic<A: Element>(z: A, y: A) -> (f64, A) {
    let (of_one, of_zero, small) = sigmoid(z);
    // The value is (1 - y) log(1 + e^z) + y log(1 + e^-z). Either logarithm is log(1 + e^-|z|), one
    // of them plus |z|.
    let wrong = if z < A::ZERO { y } else { A::one() - y };
    let linear = if wrong == A::ZERO {
        0.0
    } else {
        wrong.f64() * z.abs().f64()
    };
    let value = linear + libm::log1p(small.f64());
    (value, (A::one() - y) * of_one - y * of_zero)
}

fn poisson<A: Element>(z: A, y: A, exposure: A) -> (f64, A) {
    let mean = exposure * z.portable_exp();
    // Products of 0 and z are 0 where z is infinite too.
    let observed = if y == A::ZERO { 0.0 } else { y.f64() * z.f64() };
    let value = if mean == A::infinity() {
        f64::INFINITY
    } else {
        mean.f64() - observed
    };
    // Not infinity, whose product with a feature of 0 is NaN.
    let finite = if mean == A::infinity() {
        A::max_value()
    } else {
        mean
    };
    (value, finite - y)
}

/// Replaces numbers by their exponentials in units of the largest one. Returns the index of that
/// one, the number and the sum of all other exponentials.
fn exponentials<A: Element>(z: &mut [A]) -> (usize, A, f64) {
    let (mut first, mut largest) = (0, A::neg_infinity());
    for (class, &z) in z.iter().enumerate() {
        if z > largest {
            (first, largest) = (class, z);
        }
    }
    let mut others = 0.0;
    for (class, z) in z.iter_mut().enumerate() {
        *z = (*z - largest).portable_exp();
        if class != first {
            others += z.f64();
        }
    }
    (first, largest, others)
}

fn softmax<A: Element>(z: &mut [A], label: usize) -> f64 {
    let of_label = z[label];
    let (first, largest, others) = exponentials(z);
    // log of the sum of exponentials minus that of the label, both without the largest one.
    let value = (largest.f64() - of_label.f64()) + libm::log1p(others);
    let sum = 1.0 + others;
    // The probability of the label minus 1 is the sum of all others, with the other sign.
    let mut wrong = if first == label { others } else { 1.0 };
    for (class, z) in z.iter_mut().enumerate() {
        if class != label && class != first && first != label {
            wrong += z.f64();
        }
        *z = A::from_f64(z.f64() / sum);
    }
    z[label] = A::from_f64(-wrong / sum);
    value
}
