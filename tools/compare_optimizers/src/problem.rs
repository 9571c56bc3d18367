//! Three convex problems on the data of `examples/data`, with the exact optima of `optima.json`
//! there, and a network.
use crate::{
    Result,
    network::Network,
    train::{Run, Trace, train},
};
use ndarray::{Array1, Array2, Axis, s};
use ndarray_optim::objective::Regression;
use std::path::Path;

/// Features, and the target from the last column.
#[derive(Clone, Debug)]
pub struct Table {
    pub x: Array2<f64>,
    pub y: Array1<f64>,
    /// The targets as classes.
    pub labels: Array1<usize>,
}

impl Table {
    /// Reads a file of `examples/data`.
    pub fn read(file: &str) -> Result<Table> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data");
        let file = folder.join(file);
        let explain = |error| format!("{}: {error}", file.display());
        let mut reader = csv::Reader::from_path(&file).map_err(explain)?;
        let columns = reader.headers().map_err(explain)?.len();
        let rows: csv::Result<Vec<Vec<f64>>> = reader.deserialize().collect();
        let rows = rows.map_err(explain)?;
        let table = Array2::from_shape_vec((rows.len(), columns), rows.concat())?;
        let (x, y) = (table.slice(s![.., ..-1]), table.column(columns - 1));
        Ok(Table {
            x: x.to_owned(),
            labels: y.mapv(|y| y as usize),
            y: y.to_owned(),
        })
    }

    /// Scales each feature to mean 0 and (population) standard deviation 1.
    pub fn standardized(mut self) -> Table {
        for mut column in self.x.axis_iter_mut(Axis(1)) {
            let (mean, deviation) = (column.mean().unwrap_or(0.0), column.std(0.0));
            column.mapv_inplace(|x| (x - mean) / deviation);
        }
        self
    }

    /// Divides each feature by `by`.
    pub fn scaled(mut self, by: f64) -> Table {
        self.x /= by;
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Linear regression on the diabetes data; 442 x 10.
    Linear,
    /// Logistic regression on the breast cancer data; 569 x 30.
    Logistic,
    /// Softmax regression on handwritten digits; 1797 x 64, ten classes.
    Softmax,
    /// A network with a hidden layer on the digits: not convex.
    Network,
}

/// A problem with its data.
#[derive(Clone, Debug)]
pub struct Problem {
    pub kind: Kind,
    pub name: &'static str,
    table: Table,
    /// The value at the minimum; 0 for the network, whose loss is bounded by it.
    optimum: f64,
}

impl Problem {
    pub fn new(kind: Kind) -> Result<Self> {
        let (name, table, optimum) = match kind {
            Kind::Linear => {
                let table = Table::read("diabetes.csv")?.standardized();
                ("linear regression", table, 1429.848173793375)
            }
            Kind::Logistic => {
                let table = Table::read("breast_cancer.csv")?.standardized();
                ("logistic regression", table, 0.0995913754847055)
            }
            Kind::Softmax => {
                let table = Table::read("digits.csv")?.scaled(16.0);
                ("softmax regression", table, 0.2618645472171728)
            }
            Kind::Network => ("network", Table::read("digits.csv")?.scaled(16.0), 0.0),
        };
        Ok(Problem {
            kind,
            name,
            table,
            optimum,
        })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.table.x.nrows()
    }

    /// The difference between a value and the optimum. Less than the rounding errors of the value,
    /// which is accurate to about 15 digits, is not told apart.
    pub fn gap(&self, value: f64) -> f64 {
        if value.is_nan() {
            f64::INFINITY
        } else {
            (value - self.optimum).max(self.floor())
        }
    }

    /// The smallest gap that is told apart.
    pub fn floor(&self) -> f64 {
        1e-15 * self.optimum.max(1.0)
    }

    /// The course of a run.
    pub fn train(&self, run: &Run<'_>) -> Result<Trace> {
        let Table { x, y, labels } = &self.table;
        match self.kind {
            Kind::Linear => train(
                self,
                &mut Regression::least_squares(x, y)?,
                |o| o.zeros(),
                run,
            ),
            Kind::Logistic => train(
                self,
                &mut Regression::logistic(x, y)?.l2(0.005),
                |o| o.zeros(),
                run,
            ),
            Kind::Softmax => {
                let mut softmax = Regression::softmax(x, labels, 10)?.l2(0.0005);
                train(self, &mut softmax, |o| o.zeros(), run)
            }
            Kind::Network => train(
                self,
                &mut Network::new(x, labels, 32, 10),
                |network| network.zeros(),
                run,
            ),
        }
    }
}
