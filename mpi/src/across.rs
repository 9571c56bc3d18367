//! Norms and sums over all ranks.
use crate::{Error, Ranks};
use ndarray_optim::{Exchange, reduce::Sum};

/// Adds up sums over all ranks, in their order.
pub(crate) struct Across<'r> {
    pub ranks: &'r Ranks,
    /// The first error of an exchange.
    pub error: Option<Error>,
}

impl Across<'_> {
    fn all_gather(&mut self, own: Vec<u64>) -> Vec<Vec<u64>> {
        if self.error.is_some() {
            return Vec::new();
        }
        let all = self.ranks.all_gather(own, "the norms and sums of a step");
        all.unwrap_or_else(|error| {
            self.error = Some(error);
            Vec::new()
        })
    }
}

impl Exchange for Across<'_> {
    fn sum(&mut self, sums: &mut [Sum]) {
        let mut own = Vec::new();
        for sum in &*sums {
            let words = sum.to_words();
            own.push(words.len() as u64);
            own.extend(words);
        }
        let all = self.all_gather(own);
        if all.is_empty() {
            return;
        }
        let mut parts: Vec<&[u64]> = all.iter().map(|of| &of[..]).collect();
        for sum in sums {
            *sum = Sum::default();
            for words in &mut parts {
                let next = words.split_first().and_then(|(&len, rest)| {
                    let (own, rest) = rest.split_at_checked(len as usize)?;
                    *words = rest;
                    Sum::from_words(own)
                });
                match next {
                    Some(next) => sum.merge(&next),
                    None => self.error = Some(Error::Mpi("a message is not a sum".into())),
                }
            }
        }
    }

    fn max(&mut self, number: &mut f64) {
        for of in self.all_gather(vec![number.to_bits()]) {
            let other = of.first().map_or(f64::NAN, |&bits| f64::from_bits(bits));
            if other > *number || other.is_nan() {
                *number = other;
            }
        }
    }
}
