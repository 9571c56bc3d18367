//! Tables of numbers from CSV files.
use ndarray::{Array1, Array2, Axis, s};
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DataError {
    #[error("cannot read {}", file.display())]
    File { file: PathBuf, source: csv::Error },
    #[error("{}:{line}: {found} fields where the header has {expected}", file.display())]
    Fields { file: PathBuf, line: u64, found: usize, expected: usize },
    #[error("{}:{line}: column {number} (`{column}`): `{text}` is not a finite number", file.display())]
    Number { file: PathBuf, line: u64, number: usize, column: String, text: String },
    #[error("{}: needs a header, two columns and a row at least", file.display())]
    Empty { file: PathBuf },
    #[error("{}: column `{column}` has {value} where a class from 0 to {} is expected", file.display(), classes - 1)]
    Class { file: PathBuf, column: String, value: f64, classes: usize },
}

/// Features and, from the last column, the target.
#[derive(Clone, Debug)]
pub struct Table {
    pub names: Vec<String>,
    pub x: Array2<f64>,
    pub y: Array1<f64>,
}

/// The path of a file in `examples/data`.
pub fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(file)
}

impl Table {
    /// A CSV file with a header line; the last column is the target.
    pub fn read(file: &Path) -> Result<Table, DataError> {
        let wrong = |source| DataError::File { file: file.into(), source };
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_path(file).map_err(wrong)?;
        let names: Vec<String> = reader.headers().map_err(wrong)?.iter().map(String::from).collect();
        let mut values = Vec::new();
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != names.len() {
                return Err(DataError::Fields { file: file.into(), line, found: record.len(), expected: names.len() });
            }
            for (i, text) in record.iter().enumerate() {
                let number = text.parse().ok().filter(|x: &f64| x.is_finite());
                values.push(number.ok_or_else(|| DataError::Number {
                    file: file.into(),
                    line,
                    number: i + 1,
                    column: names[i].clone(),
                    text: text.into(),
                })?);
            }
        }
        let (columns, rows) = (names.len(), values.len() / names.len().max(1));
        let all = Array2::from_shape_vec((rows, columns), values).ok().filter(|_| rows > 0 && columns > 1);
        let all = all.ok_or_else(|| DataError::Empty { file: file.into() })?;
        let (x, y) = (all.slice(s![.., ..columns - 1]).to_owned(), all.column(columns - 1).to_owned());
        Ok(Table { names, x, y })
    }

    /// Checks that the target is a class, 0 to `classes - 1`.
    pub fn with_classes(self, file: &Path, classes: usize) -> Result<Table, DataError> {
        match self.y.iter().find(|&&y| y < 0.0 || y >= classes as f64 || y.fract() != 0.0) {
            None => Ok(self),
            Some(&value) => {
                let column = self.names.last().cloned().unwrap_or_default();
                Err(DataError::Class { file: file.into(), column, value, classes })
            }
        }
    }

    /// Each feature with mean 0 and (population) standard deviation 1; constant features become 0.
    pub fn standardized(mut self) -> Table {
        for mut column in self.x.axis_iter_mut(Axis(1)) {
            let (mean, deviation) = (column.mean().unwrap_or(0.0), column.std(0.0));
            column.mapv_inplace(|x| if deviation > 0.0 { (x - mean) / deviation } else { 0.0 });
        }
        self
    }

    /// Each feature divided by `by`.
    pub fn scaled(mut self, by: f64) -> Table {
        self.x /= by;
        self
    }
}
