//! Values of a run by step and name.
use std::{fmt::Write, iter::zip};
use thiserror::Error;

/// A record of a run: numbers by step and name, such as the loss or the learning rate.
///
/// Text files of it are read back with the same bits. They can contain infinities and NaN.
///
/// ```
/// use ndarray_optim::fit::History;
///
/// let mut history = History::new();
/// history.push(0, [("loss", 2.5), ("lr", 0.1)]);
/// history.push(1, [("loss", 1.5)]);
/// assert_eq!(history.to_csv(), "step,loss,lr\n0,2.5,0.1\n1,1.5,\n");
///
/// let read = History::from_csv(&history.to_csv())?;
/// assert_eq!(read, history);
/// assert!(read.values("loss").eq([(0, 2.5), (1, 1.5)]));
/// # Ok::<(), ndarray_optim::fit::HistoryError>(())
/// ```
///
/// In a checkpoint: `.section("history", history.to_csv().into_bytes())`.
#[derive(Clone, Debug, Default)]
pub struct History {
    steps: Vec<u64>,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    /// By row; there may be fewer than steps.
    values: Vec<Option<f64>>,
}

/// Why a text is not a [`History`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct HistoryError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Histories are equal if they have the same values under the same names. A NaN equals a NaN.
impl PartialEq for History {
    fn eq(&self, other: &History) -> bool {
        let same = |x: Option<f64>, y: Option<f64>| match (x, y) {
            (Some(x), Some(y)) => x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan(),
            _ => x.is_none() && y.is_none(),
        };
        let same_column = |(a, b): (&Column, &Column)| {
            a.name == b.name && (0..self.len()).all(|row| same(a.get(row), b.get(row)))
        };
        self.steps == other.steps
            && self.columns.len() == other.columns.len()
            && zip(&self.columns, &other.columns).all(same_column)
    }
}

impl Column {
    fn get(&self, row: usize) -> Option<f64> {
        self.values.get(row).copied().flatten()
    }
}

impl History {
    /// Creates an empty history.
    pub fn new() -> Self {
        History::default()
    }

    /// Adds values of a step. If the last values are of the same step, they become one row, where
    /// a later value of a name replaces an earlier one.
    pub fn push<'a>(&mut self, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) {
        if self.steps.last() != Some(&step) {
            self.steps.push(step);
        }
        let rows = self.steps.len();
        for (name, value) in values {
            let column = self.column(name);
            column.values.resize(rows, None);
            column.values[rows - 1] = Some(value);
        }
    }

    fn column(&mut self, name: &str) -> &mut Column {
        let known = self.columns.iter().position(|column| column.name == name);
        let index = known.unwrap_or(self.columns.len());
        if known.is_none() {
            let (name, values) = (name.into(), Vec::new());
            self.columns.push(Column { name, values });
        }
        &mut self.columns[index]
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Iterates over the names, in the order in which they have appeared.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.columns.iter().map(|column| &*column.name)
    }

    /// Iterates over the steps that have a value of this name, and the values.
    pub fn values(&self, name: &str) -> impl Iterator<Item = (u64, f64)> {
        let column = self.columns.iter().find(|column| column.name == name);
        let values = column.map_or(&[][..], |column| &column.values);
        zip(&self.steps, values).filter_map(|(&step, &value)| Some((step, value?)))
    }

    /// Returns the latest value of this name.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.values(name).last().map(|(_, value)| value)
    }

    /// Returns the text of a CSV file: a line with `step` and the names, and one for each row.
    /// Missing values are empty.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("step");
        for name in self.names() {
            text.push(',');
            if name.contains([',', '"', '\n', '\r']) || name.is_empty() {
                text.extend(["\"", &name.replace('"', "\"\""), "\""]);
            } else {
                text.push_str(name);
            }
        }
        for (row, step) in self.steps.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{step}");
            for column in &self.columns {
                text.push(',');
                if let Some(value) = column.get(row) {
                    let _ = write!(text, "{value:?}");
                }
            }
        }
        text.push('\n');
        text
    }

    /// Reads the text of a CSV file as [`to_csv`](History::to_csv) writes it.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] names the first line that is not one of such a file.
    pub fn from_csv(text: &str) -> Result<Self, HistoryError> {
        let (names, rest) = header(text)?;
        let mut history = History::new();
        for name in &names {
            if history.names().any(|known| known == name) {
                return Err(wrong(1, format_args!("column `{name}` appears twice")));
            }
            history.column(name);
        }
        let first = text[..text.len() - rest.len()].lines().count() + 1;
        for (index, row) in rest.lines().enumerate() {
            let line = first + index;
            let mut cells = row.split(',');
            let step = cells.next().unwrap_or_default();
            let step = step.parse();
            let step =
                step.map_err(|_| wrong(line, format_args!("`{row}` does not begin with a step")))?;
            history.push_row(line, step)?;
            let cells: Vec<&str> = cells.collect();
            if cells.len() != names.len() {
                let (found, expected) = (cells.len(), names.len());
                let problem = format_args!("{found} values, expected {expected}");
                return Err(wrong(line, problem));
            }
            for (cell, name) in zip(cells, &names).filter(|(cell, _)| !cell.is_empty()) {
                let value = cell.parse();
                let value =
                    value.map_err(|_| wrong(line, format_args!("`{cell}` is no number")))?;
                history.push(step, [(&**name, value)]);
            }
        }
        Ok(history)
    }

    /// Adds a row without values, which must not have the step of the last one.
    fn push_row(&mut self, line: usize, step: u64) -> Result<(), HistoryError> {
        if self.steps.last() == Some(&step) {
            return Err(wrong(line, format_args!("step {step} appears twice")));
        }
        self.steps.push(step);
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl History {
    /// Returns the text of a JSON Lines file: a line such as `{"step":1,"loss":0.5}` for each row.
    /// NaN and infinities are texts.
    pub fn to_json_lines(&self) -> String {
        use crate::config::Number;
        let mut text = String::new();
        for (row, step) in self.steps.iter().enumerate() {
            let _ = write!(text, "{{\"step\":{step}");
            for column in &self.columns {
                let value = column
                    .get(row)
                    .map(|value| serde_json::to_string(&Number(value)));
                let name = serde_json::to_string(&column.name);
                // Numbers and texts can always be written.
                if let (Ok(name), Some(Ok(value))) = (name, value) {
                    let _ = write!(text, ",{name}:{value}");
                }
            }
            text.push_str("}\n");
        }
        text
    }

    /// Reads the text of a JSON Lines file as [`to_json_lines`](History::to_json_lines) writes it.
    /// Columns are in the order in which they appear.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] names the first line that is not one of such a file.
    pub fn from_json_lines(text: &str) -> Result<Self, HistoryError> {
        let mut history = History::new();
        for (index, row) in text.lines().enumerate() {
            let line = index + 1;
            let row: Row = serde_json::from_str(row).map_err(|error| wrong(line, error))?;
            history.push_row(line, row.step)?;
            let values = row.values.iter();
            history.push(row.step, values.map(|(name, value)| (&**name, *value)));
        }
        Ok(history)
    }
}

/// A line of a JSON Lines file.
#[cfg(feature = "serde")]
struct Row {
    step: u64,
    values: Vec<(String, f64)>,
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Row {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use crate::config::Number;
        use serde::de::{Error, MapAccess, Visitor};

        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Row;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of numbers that begins with `step`")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Row, M::Error> {
                let step = match map.next_key::<String>()?.as_deref() {
                    Some("step") => map.next_value()?,
                    _ => return Err(M::Error::custom("a row must begin with `step`")),
                };
                let mut values: Vec<(String, f64)> = Vec::new();
                while let Some((name, Number(value))) = map.next_entry::<String, Number>()? {
                    if values.iter().any(|(known, _)| *known == name) {
                        return Err(M::Error::custom(format_args!("`{name}` appears twice")));
                    }
                    values.push((name, value));
                }
                Ok(Row { step, values })
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cold]
fn wrong(line: usize, problem: impl ToString) -> HistoryError {
    let problem = problem.to_string();
    HistoryError { line, problem }
}

/// Splits the first line of a CSV file, whose names may be in quotes, from the rest.
fn header(text: &str) -> Result<(Vec<String>, &str), HistoryError> {
    let no_header = || wrong(1, "expected `step` and the names of columns");
    let mut rest = text.strip_prefix("step").ok_or_else(no_header)?;
    let mut names = Vec::new();
    while let Some(after) = rest.strip_prefix(',') {
        let (name, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted).ok_or_else(no_header)?,
            None => {
                let end = after.find([',', '\n', '\r']).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        names.push(name);
        rest = next;
    }
    let rest = rest.strip_prefix('\r').unwrap_or(rest);
    match rest.strip_prefix('\n') {
        Some(rest) => Ok((names, rest)),
        None if rest.is_empty() => Ok((names, rest)),
        None => Err(no_header()),
    }
}

/// Splits a name that ends with a quote from what follows. Two quotes stand for one.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}
