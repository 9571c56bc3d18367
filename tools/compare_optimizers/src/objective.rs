//! Three convex objectives on real data, each with its exact optimum from `optima.json`.
use crate::{Result, data::Table};
use ndarray::{Array1, Array2, ArrayView1, Axis, Zip};

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
    optimum: f64,
}

/// The parameters of a linear model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Features x outputs.
    pub w: Array2<f64>,
    /// One per output.
    pub b: Array1<f64>,
}

impl Objective {
    /// Linear regression on the diabetes data; 442 x 10.
    fn diabetes() -> Result<Self> {
        Ok(Objective {
            name: "linear",
            loss: Loss::LeastSquares,
            table: Table::read("diabetes.csv")?.standardized(),
            outputs: 1,
            l2: 0.0,
            optimum: 1429.848173793375,
        })
    }

    /// Logistic regression on the breast cancer data; 569 x 30.
    fn breast_cancer() -> Result<Self> {
        Ok(Objective {
            name: "logistic",
            loss: Loss::Logistic,
            table: Table::read("breast_cancer.csv")?.standardized(),
            outputs: 1,
            l2: 0.005,
            optimum: 0.0995913754847055,
        })
    }

    /// Softmax regression on handwritten digits; 1797 x 64, ten classes.
    fn digits() -> Result<Self> {
        Ok(Objective {
            name: "softmax",
            loss: Loss::Softmax,
            table: Table::read("digits.csv")?.scaled(16.0),
            outputs: 10,
            l2: 0.0005,
            optimum: 0.2618645472171728,
        })
    }

    /// All three.
    pub fn all() -> Result<[Self; 3]> {
        Ok([Self::diabetes()?, Self::breast_cancer()?, Self::digits()?])
    }

    /// The number of rows of the data.
    pub fn rows(&self) -> usize {
        self.table.x.nrows()
    }

    /// A model of zeros.
    pub fn zeros(&self) -> Model {
        Model {
            w: Array2::zeros((self.table.x.ncols(), self.outputs)),
            b: Array1::zeros(self.outputs),
        }
    }

    /// The value over all rows.
    pub fn value(&self, model: &Model) -> f64 {
        let mut z = self.table.x.dot(&model.w) + &model.b;
        self.mean_loss(&mut z, self.table.y.view()) + self.l2 * model.w.mapv(|w| w * w).sum()
    }

    /// The difference between a value and the optimum.
    pub fn gap(&self, value: f64) -> f64 {
        value - self.optimum
    }

    /// Gaps below this are rounding errors: values are accurate to about 15 digits.
    pub fn floor(&self) -> f64 {
        1e-15 * self.optimum.max(1.0)
    }

    /// The value and the gradient over all rows.
    pub fn gradient(&self, model: &Model) -> (f64, Model) {
        self.value_and_gradient(&self.table.x, self.table.y.view(), model)
    }

    /// The value and the gradient over a mini-batch.
    pub fn batch_gradient(&self, rows: &[usize], model: &Model) -> (f64, Model) {
        let (x, y) = (
            self.table.x.select(Axis(0), rows),
            self.table.y.select(Axis(0), rows),
        );
        self.value_and_gradient(&x, y.view(), model)
    }

    fn value_and_gradient(
        &self,
        x: &Array2<f64>,
        y: ArrayView1<'_, f64>,
        model: &Model,
    ) -> (f64, Model) {
        let mut z = x.dot(&model.w) + &model.b;
        let loss = self.mean_loss(&mut z, y);
        let w = x.t().dot(&z) + 2.0 * self.l2 * &model.w;
        (
            loss + self.l2 * model.w.mapv(|w| w * w).sum(),
            Model {
                w,
                b: z.sum_axis(Axis(0)),
            },
        )
    }

    /// Returns the mean loss of the predictions `z` and replaces `z` by the derivative of the loss.
    fn mean_loss(&self, z: &mut Array2<f64>, y: ArrayView1<'_, f64>) -> f64 {
        let n = y.len() as f64;
        let mut loss = 0.0;
        Zip::from(z.rows_mut())
            .and(y)
            .for_each(|mut z, &y| match self.loss {
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
