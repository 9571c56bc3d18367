//! Three convex objectives, each with the exact optimum on its data set.
use super::data::{DataError, Table, shipped};
use ndarray::{Array1, Array2, ArrayView1, Axis, Zip};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// 1/(2n) |z - y|^2.
    LeastSquares,
    /// Mean of log(1 + e^z) - y z.
    Logistic,
    /// Mean of log(sum e^z) - z_y.
    Softmax,
}

/// `loss(X W + b, y) + l2 |W|^2`.
#[derive(Clone, Debug)]
pub struct Objective {
    pub name: &'static str,
    loss: Loss,
    table: Table,
    outputs: usize,
    l2: f64,
    /// Its least value on the shipped data, from a direct solver.
    pub optimum: Option<f64>,
}

/// What is fitted.
#[derive(Clone, Debug)]
pub struct Model {
    /// Features x outputs.
    pub w: Array2<f64>,
    /// One for each output.
    pub b: Array1<f64>,
}

impl Objective {
    /// Diabetes progression, linear; 442 x 10.
    pub fn diabetes(file: &Path) -> Result<Self, DataError> {
        let table = Table::read(file)?.standardized();
        let optimum = (file == shipped("diabetes.csv")).then_some(1429.848173793375);
        Ok(Objective { name: "linear", loss: Loss::LeastSquares, table, outputs: 1, l2: 0.0, optimum })
    }

    /// Breast cancer, logistic; 569 x 30.
    pub fn breast_cancer(file: &Path) -> Result<Self, DataError> {
        let table = Table::read(file)?.with_classes(file, 2)?.standardized();
        let optimum = (file == shipped("breast_cancer.csv")).then_some(0.0995913754847055);
        Ok(Objective { name: "logistic", loss: Loss::Logistic, table, outputs: 1, l2: 0.005, optimum })
    }

    /// Handwritten digits, softmax; 1797 x 64, ten classes.
    pub fn digits(file: &Path) -> Result<Self, DataError> {
        let table = Table::read(file)?.with_classes(file, 10)?.scaled(16.0);
        let optimum = (file == shipped("digits.csv")).then_some(0.2618645472171728);
        Ok(Objective { name: "softmax", loss: Loss::Softmax, table, outputs: 10, l2: 0.0005, optimum })
    }

    /// All three on the shipped data.
    pub fn all() -> Result<Vec<Self>, DataError> {
        Ok(vec![
            Self::diabetes(&shipped("diabetes.csv"))?,
            Self::breast_cancer(&shipped("breast_cancer.csv"))?,
            Self::digits(&shipped("digits.csv"))?,
        ])
    }

    pub fn rows(&self) -> usize {
        self.table.x.nrows()
    }

    /// Names of the features.
    pub fn features(&self) -> &[String] {
        &self.table.names[..self.table.x.ncols()]
    }

    /// A model of zeros.
    pub fn zeros(&self) -> Model {
        Model { w: Array2::zeros((self.table.x.ncols(), self.outputs)), b: Array1::zeros(self.outputs) }
    }

    /// The value over all rows.
    pub fn value(&self, model: &Model) -> f64 {
        let mut z = self.table.x.dot(&model.w) + &model.b;
        self.settle(&mut z, self.table.y.view()) + self.l2 * model.w.mapv(|w| w * w).sum()
    }

    /// How far a value is above the optimum, if that is known.
    pub fn gap(&self, value: f64) -> Option<f64> {
        self.optimum.map(|optimum| value - optimum)
    }

    /// Gaps below this are rounding: the value is known to about 15 digits.
    pub fn floor(&self) -> f64 {
        1e-15 * self.optimum.unwrap_or(1.0).max(1.0)
    }

    /// The value and the gradient over all rows.
    pub fn gradient(&self, model: &Model) -> (f64, Model) {
        self.of(&self.table.x, self.table.y.view(), model)
    }

    /// The value and the gradient over some rows.
    pub fn batch_gradient(&self, rows: &[usize], model: &Model) -> (f64, Model) {
        let (x, y) = (self.table.x.select(Axis(0), rows), self.table.y.select(Axis(0), rows));
        self.of(&x, y.view(), model)
    }

    /// The share of rows whose class is predicted.
    pub fn accuracy(&self, model: &Model) -> f64 {
        let z = self.table.x.dot(&model.w) + &model.b;
        let right = z.outer_iter().zip(&self.table.y).filter(|(z, y)| {
            let class = match self.loss {
                Loss::Softmax => (0..z.len()).max_by(|&i, &j| z[i].total_cmp(&z[j])).unwrap_or(0),
                _ => usize::from(z[0] > 0.0),
            };
            class as f64 == **y
        });
        right.count() as f64 / self.rows() as f64
    }

    fn of(&self, x: &Array2<f64>, y: ArrayView1<'_, f64>, model: &Model) -> (f64, Model) {
        let mut z = x.dot(&model.w) + &model.b;
        let loss = self.settle(&mut z, y);
        let w = x.t().dot(&z) + 2.0 * self.l2 * &model.w;
        (loss + self.l2 * model.w.mapv(|w| w * w).sum(), Model { w, b: z.sum_axis(Axis(0)) })
    }

    /// The mean loss of predictions `z`, which become the derivative by `z`.
    fn settle(&self, z: &mut Array2<f64>, y: ArrayView1<'_, f64>) -> f64 {
        let n = y.len() as f64;
        let mut loss = 0.0;
        Zip::from(z.rows_mut()).and(y).for_each(|mut z, &y| match self.loss {
            Loss::LeastSquares => {
                let r = z[0] - y;
                loss += 0.5 * r * r;
                z[0] = r / n;
            }
            Loss::Logistic => {
                // log(1 + e^z) without overflow
                loss += z[0].max(0.0) + (-z[0].abs()).exp().ln_1p() - y * z[0];
                z[0] = (1.0 / (1.0 + (-z[0]).exp()) - y) / n;
            }
            Loss::Softmax => {
                let max = z.fold(f64::NEG_INFINITY, |max, &z| max.max(z));
                let of_class = z[y as usize];
                z.mapv_inplace(|z| (z - max).exp());
                let sum = z.sum();
                loss += max + sum.ln() - of_class;
                z /= sum * n;
                z[y as usize] -= 1.0 / n;
            }
        });
        loss / n
    }
}
