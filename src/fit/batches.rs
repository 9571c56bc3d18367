//! Batches of row numbers.
use crate::{error::Error, random};
use std::ops::Range;

/// Batches of rows in a random order, another one in each epoch.
///
/// The order is a function of the seed and the epoch: it is the same in every run, on every
/// machine and in every version of this crate. A saved position resumes exactly, from
/// [`position`](Batches::position) or, with the feature `serde`, as a value.
///
/// ```
/// use ndarray_optim::fit::Batches;
///
/// let mut batches = Batches::new(10, 4, 42)?;
/// let sizes = [(); 4].map(|()| batches.next_batch().len());
/// assert_eq!(sizes, [4, 4, 2, 4]); // three batches make an epoch
/// assert_eq!(batches.position(), (1, 1));
///
/// let mut resumed = Batches::new(10, 4, 42)?;
/// resumed.seek(1, 1)?;
/// assert_eq!(resumed.next_batch(), batches.next_batch());
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
///
/// The rows of a batch as arrays: `x.select(Axis(0), rows)`.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(into = "Saved", try_from = "Saved")
)]
pub struct Batches {
    rows: usize,
    batch_size: usize,
    seed: u64,
    shuffle: bool,
    drop_last: bool,
    /// The epoch of the next batch, and how many of its batches have been given out.
    epoch: u64,
    batch: usize,
    /// All rows, in the order of an epoch; empty before the first batch.
    order: Vec<usize>,
    order_of: u64,
}

impl Batches {
    /// Creates batches of `batch_size` of the rows `0..rows`. The last batch of an epoch is smaller
    /// if `batch_size` does not divide `rows`.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] if `rows` or `batch_size` is 0.
    pub fn new(rows: usize, batch_size: usize, seed: u64) -> Result<Self, Error> {
        for (field, value) in [("rows", rows), ("batch_size", batch_size)] {
            if value == 0 {
                return Err(wrong(field, 0, "at least 1"));
            }
        }
        Ok(Batches {
            rows,
            batch_size,
            seed,
            shuffle: true,
            drop_last: false,
            epoch: 0,
            batch: 0,
            order: Vec::new(),
            order_of: 0,
        })
    }

    /// Keeps the rows in their order if `shuffle` is false.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = shuffle;
        self.order.clear();
        self
    }

    /// Leaves out the last batch of an epoch if it is smaller than the others.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] if no batch would be left.
    pub fn drop_last(mut self, drop_last: bool) -> Result<Self, Error> {
        if drop_last && self.batch_size > self.rows {
            return Err(wrong(
                "batch_size",
                self.batch_size,
                "at most the number of rows",
            ));
        }
        self.drop_last = drop_last;
        self.seek(self.epoch, self.batch.min(self.per_epoch() - 1))?;
        Ok(self)
    }

    /// Returns the number of batches in an epoch.
    pub fn per_epoch(&self) -> usize {
        if self.drop_last {
            self.rows / self.batch_size
        } else {
            self.rows.div_ceil(self.batch_size)
        }
    }

    /// Returns the rows of the next batch. After the last batch of an epoch the next one begins.
    pub fn next_batch(&mut self) -> &[usize] {
        if self.order.is_empty() || self.order_of != self.epoch {
            self.arrange();
        }
        let range = self.range(self.batch);
        self.batch += 1;
        if self.batch == self.per_epoch() {
            (self.epoch, self.batch) = (self.epoch.wrapping_add(1), 0);
        }
        &self.order[range]
    }

    /// Returns the epoch of the next batch and its index there, both counted from 0.
    pub fn position(&self) -> (u64, usize) {
        (self.epoch, self.batch)
    }

    /// Continues with the batch at this position.
    ///
    /// # Errors
    ///
    /// [`Error::HyperParameter`] if an epoch has fewer batches. The position stays as it was.
    pub fn seek(&mut self, epoch: u64, batch: usize) -> Result<(), Error> {
        if batch >= self.per_epoch() {
            return Err(wrong(
                "batch",
                batch,
                "less than the number of batches in an epoch",
            ));
        }
        (self.epoch, self.batch) = (epoch, batch);
        Ok(())
    }

    fn range(&self, batch: usize) -> Range<usize> {
        let start = batch * self.batch_size;
        start..self.rows.min(start.saturating_add(self.batch_size))
    }

    /// Arranges the rows for the epoch (Fisher and Yates).
    fn arrange(&mut self) {
        self.order.clear();
        self.order.extend(0..self.rows);
        let seed = random::nth(self.seed, self.epoch);
        for last in (1..self.rows).rev().filter(|_| self.shuffle) {
            // The high half of the product is uniform in 0..=last.
            let random = u128::from(random::nth(seed, last as u64));
            let chosen = (random * (last as u128 + 1)) >> 64;
            self.order.swap(last, chosen as usize);
        }
        self.order_of = self.epoch;
    }
}

#[cold]
fn wrong(field: &str, value: usize, expected: &str) -> Error {
    Error::HyperParameter {
        field: field.into(),
        value: value.to_string(),
        expected: expected.into(),
    }
}

/// [`Batches`] in a file.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    rows: usize,
    batch_size: usize,
    seed: u64,
    shuffle: bool,
    drop_last: bool,
    epoch: u64,
    batch: usize,
}

#[cfg(feature = "serde")]
impl From<Batches> for Saved {
    fn from(batches: Batches) -> Self {
        Saved {
            rows: batches.rows,
            batch_size: batches.batch_size,
            seed: batches.seed,
            shuffle: batches.shuffle,
            drop_last: batches.drop_last,
            epoch: batches.epoch,
            batch: batches.batch,
        }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Saved> for Batches {
    type Error = Error;

    fn try_from(file: Saved) -> Result<Self, Error> {
        let mut batches = Batches::new(file.rows, file.batch_size, file.seed)?
            .shuffle(file.shuffle)
            .drop_last(file.drop_last)?;
        batches.seek(file.epoch, file.batch)?;
        Ok(batches)
    }
}
