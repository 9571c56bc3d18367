//! Tables of numbers from the CSV files in `examples/data`.
use crate::Result;
use ndarray::{Array1, Array2, Axis, s};
use std::path::Path;

/// Features, and the target from the last column.
#[derive(Clone, Debug)]
pub struct Table {
    pub x: Array2<f64>,
    pub y: Array1<f64>,
}

impl Table {
    /// Reads a file of `examples/data`.
    pub fn read(file: &str) -> Result<Table> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/data")
            .join(file);
        let explain = |error| format!("{}: {error}", file.display());
        let mut reader = csv::Reader::from_path(&file).map_err(explain)?;
        let columns = reader.headers().map_err(explain)?.len();
        let rows: csv::Result<Vec<Vec<f64>>> = reader.deserialize().collect();
        let rows = rows.map_err(explain)?;
        let table = Array2::from_shape_vec((rows.len(), columns), rows.concat())?;
        let (x, y) = (table.slice(s![.., ..-1]), table.column(columns - 1));
        Ok(Table {
            x: x.to_owned(),
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
