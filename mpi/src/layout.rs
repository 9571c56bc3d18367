//! Which rank owns which elements, and in which messages they travel.
use ndarray_optim::{Division, algorithm::Element};
use std::ops::Range;

/// The elements of all parameters, divided among ranks. It depends on the names, shapes and
/// divisions of the parameters, the number of ranks and the size of a bucket alone.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Sorted by name.
    pub params: Vec<Owned>,
    pub buckets: Vec<Bucket>,
}

/// A parameter and its owners.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub name: String,
    pub shape: Vec<usize>,
    /// Rank `r` owns the elements from `cuts[r]` to `cuts[r + 1]`, in row-major order.
    cuts: Vec<usize>,
    /// Its buckets.
    pub buckets: Range<usize>,
    /// Where its elements begin among those of a rank, in a bucket that it shares with others.
    offsets: Vec<usize>,
}

/// Elements that each rank sends to an owner in one message.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Indices of the parameters.
    pub params: Range<usize>,
    /// Where this bucket begins and ends in the elements of each owner, if it is a part of one
    /// parameter.
    part: Range<usize>,
    /// The number of elements of each rank.
    lens: Vec<usize>,
}

impl Owned {
    pub fn len(&self) -> usize {
        self.cuts[self.cuts.len() - 1]
    }

    /// The elements that a rank owns.
    pub fn range(&self, rank: usize) -> Range<usize> {
        self.cuts[rank]..self.cuts[rank + 1]
    }

    /// Whether a rank keeps a state of the parameter. Rank 0 has those without elements.
    pub fn is_on(&self, rank: usize) -> bool {
        !self.range(rank).is_empty() || rank == 0 && self.len() == 0
    }

    /// Whether several ranks have a part of it.
    pub fn is_cut(&self) -> bool {
        self.largest() < self.len()
    }

    /// The largest number of elements of a rank.
    fn largest(&self) -> usize {
        self.cuts
            .windows(2)
            .map(|cut| cut[1] - cut[0])
            .max()
            .unwrap_or(0)
    }

    /// The shape of the elements that a rank owns: that of the parameter, or all of them along the
    /// last axis, so that the number of axes stays.
    pub fn shape_on(&self, rank: usize) -> Vec<usize> {
        let range = self.range(rank);
        if range.len() == self.len() {
            return self.shape.clone();
        }
        let mut shape = vec![1; self.shape.len()];
        if let Some(last) = shape.last_mut() {
            *last = range.len();
        }
        shape
    }
}

impl Layout {
    /// Divides parameters, which are sorted by name, among `ranks`; `bucket` is the size of a
    /// bucket in elements.
    ///
    /// Whole arrays go to the rank with the least work so far, the most expensive first. Other
    /// arrays are cut into as many parts as there are ranks, whose total sizes differ by one
    /// element at most.
    pub fn new(params: Vec<(String, Vec<usize>, Division)>, ranks: usize, bucket: usize) -> Self {
        let mut whole: Vec<usize> = (0..params.len()).filter(|&i| params[i].2.whole).collect();
        whole.sort_by(|&i, &j| params[j].2.cost.total_cmp(&params[i].2.cost));
        let (mut work, mut owner) = (vec![0.0; ranks], vec![0; params.len()]);
        for i in whole {
            let least = (0..ranks).min_by(|&a, &b| f64::total_cmp(&work[a], &work[b]));
            owner[i] = least.unwrap_or_default();
            work[owner[i]] += params[i].2.cost;
        }
        let mut before = 0;
        let params = params.into_iter().enumerate();
        let params = params.map(|(i, (name, shape, division))| {
            let len: usize = shape.iter().product();
            let mut cuts = vec![0];
            for rank in 0..ranks {
                let own = match division.whole {
                    true if rank == owner[i] => len,
                    true => 0,
                    // These add up to `len`, and to equal shares of the elements of all arrays.
                    false => (before + len + rank) / ranks - (before + rank) / ranks,
                };
                cuts.push(cuts[rank] + own);
            }
            if !division.whole {
                before += len;
            }
            Owned {
                name,
                shape,
                cuts,
                buckets: 0..0,
                offsets: Vec::new(),
            }
        });
        let mut layout = Layout {
            params: params.collect(),
            buckets: Vec::new(),
        };
        // A key has 24 bits for the number of a bucket.
        let all: usize = layout.params.iter().map(Owned::len).sum();
        layout.fill_buckets(bucket.max(1).max(all >> 22));
        layout
    }

    /// All elements on one rank.
    pub fn undivided(params: Vec<(String, Vec<usize>)>) -> Self {
        let list = params.into_iter().map(|(name, shape)| Owned {
            cuts: vec![0, shape.iter().product()],
            name,
            shape,
            buckets: 0..0,
            offsets: Vec::new(),
        });
        Layout {
            params: list.collect(),
            buckets: Vec::new(),
        }
    }

    fn fill_buckets(&mut self, size: usize) {
        let mut open: Option<(Range<usize>, usize)> = None;
        for i in 0..self.params.len() {
            let largest = self.params[i].largest();
            if let Some((params, filled)) = &mut open
                && *filled + largest <= size
            {
                (params.end, *filled) = (i + 1, *filled + largest);
                continue;
            }
            self.close(open.take());
            if largest <= size {
                open = Some((i..i + 1, largest));
                continue;
            }
            for start in (0..largest).step_by(size) {
                self.push(i..i + 1, start..start + size);
            }
        }
        self.close(open);
    }

    fn close(&mut self, open: Option<(Range<usize>, usize)>) {
        if let Some((params, _)) = open {
            self.push(params, 0..usize::MAX);
        }
    }

    fn push(&mut self, params: Range<usize>, part: Range<usize>) {
        let bucket = self.buckets.len();
        let ranks = self.params[params.start].cuts.len() - 1;
        self.buckets.push(Bucket {
            params: params.clone(),
            part,
            lens: vec![0; ranks],
        });
        for i in params {
            let lens = self.buckets[bucket].lens.clone();
            for rank in 0..ranks {
                let len = self.range(bucket, i, rank).len();
                self.buckets[bucket].lens[rank] += len;
            }
            let param = &mut self.params[i];
            param.offsets = lens;
            if param.buckets.is_empty() {
                param.buckets = bucket..bucket;
            }
            param.buckets.end = bucket + 1;
        }
    }

    /// The elements of a parameter in a bucket that a rank owns.
    pub fn range(&self, bucket: usize, param: usize, rank: usize) -> Range<usize> {
        let (part, own) = (&self.buckets[bucket].part, self.params[param].range(rank));
        let at = |offset: usize| own.start + offset.min(own.len());
        at(part.start)..at(part.end)
    }

    /// The number of elements of a bucket that a rank owns.
    pub fn len(&self, bucket: usize, rank: usize) -> usize {
        self.buckets[bucket].lens[rank]
    }

    /// Where the elements of a parameter begin in a message with the elements of a bucket that a
    /// rank owns.
    pub fn offset(&self, param: usize, rank: usize) -> usize {
        self.params[param].offsets[rank]
    }

    /// What a bucket is called in errors.
    pub fn describe(&self, bucket: usize) -> String {
        let params = &self.params[self.buckets[bucket].params.clone()];
        let names: Vec<_> = params
            .iter()
            .map(|param| format!("`{}`", param.name))
            .collect();
        match &names[..] {
            [first, .., last] if names.len() > 3 => format!("{first} to {last}"),
            _ => names.join(", "),
        }
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.params
            .binary_search_by(|param| (*param.name).cmp(name))
            .ok()
    }

    /// The number of elements that a rank owns.
    pub fn owned(&self, rank: usize) -> usize {
        self.params
            .iter()
            .map(|param| param.range(rank).len())
            .sum()
    }

    /// What ranks must agree about, one line for each parameter.
    pub fn lines<A: Element>(&self) -> Vec<String> {
        let line = |param: &Owned| format!("`{}`: {:?} of {}", param.name, param.shape, A::TYPE);
        self.params.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division(whole: bool, cost: f64) -> Division {
        // It cannot be constructed outside of the crate.
        let mut optimizer = ndarray_optim::Optimizer::<f32>::new(ndarray_optim::Sgd::new(0.1));
        let mut division = optimizer.division("x", &[1]).unwrap();
        (division.whole, division.cost) = (whole, cost);
        division
    }

    #[test]
    fn cuts_cover_all_elements_once_and_shares_are_equal() {
        let sizes = [5, 0, 1, 1, 1, 17, 1000, 3];
        for ranks in 1..=9 {
            let params = sizes.iter().enumerate();
            let params = params.map(|(i, &n)| (format!("{i}"), vec![n], division(false, 1.0)));
            let layout = Layout::new(params.collect(), ranks, 10);
            let total: usize = sizes.iter().sum();
            for rank in 0..ranks {
                let own = layout.owned(rank);
                assert!(
                    own == total / ranks || own == total / ranks + 1,
                    "{own} of {total}"
                );
            }
            for (i, &size) in sizes.iter().enumerate() {
                assert_eq!(layout.params[i].len(), size);
                for rank in 0..ranks {
                    let buckets = layout.params[i].buckets.clone();
                    let covered: Vec<usize> = buckets
                        .flat_map(|bucket| layout.range(bucket, i, rank))
                        .collect();
                    assert!(covered.into_iter().eq(layout.params[i].range(rank)));
                }
            }
        }
    }

    #[test]
    fn whole_arrays_are_balanced_by_cost() {
        let costs = [7.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let params = costs.iter().enumerate();
        let params = params.map(|(i, &cost)| (format!("{i}"), vec![2, 2], division(true, cost)));
        let layout = Layout::new(params.collect(), 2, 100);
        let work = |rank| -> f64 {
            let own = |&i: &usize| !layout.params[i].range(rank).is_empty();
            (0..7).filter(own).map(|i| costs[i]).sum()
        };
        assert_eq!((work(0), work(1)), (14.0, 14.0));
    }
}
