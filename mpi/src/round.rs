//! The gradients of a step, from all ranks.
use crate::{
    Batch, Distributed, Error, Mode, Number, Reduction,
    agree::{differs, digest},
    number::{elements, elements_mut, words_for},
    ranks::{Kind, Operation, text, words},
    values::known,
};
use ndarray::{ArrayRef, ArrayView, Dimension};
use ndarray_optim::{NamedArraysMut, NonFinite, Outcome, reduce::Sum};
use std::{fmt, mem, sync::Arc};

/// A step whose gradients are being added: see [`Distributed::begin`].
#[must_use = "other ranks wait until `finish`"]
pub struct Round<'d, 'r, A: Number> {
    pub(crate) of: &'d mut Distributed<'r, A>,
    operation: Operation,
    header: Operation,
    /// Parameters of each bucket that have not been added.
    missing: Vec<usize>,
    /// The messages of each bucket, by owner; empty before the first gradient.
    messages: Vec<Vec<Vec<u64>>>,
    added: Vec<bool>,
    fault: Option<Fault>,
    finished: bool,
}

impl<A: Number> fmt::Debug for Round<'_, '_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let added = self.added.iter().filter(|added| **added).count();
        write!(f, "{added} of {} gradients", self.added.len())
    }
}

/// What has become of the gradients of all ranks.
pub(crate) struct Summed {
    pub loss: Option<f64>,
    /// The weight in a round of accumulation.
    pub weight: f64,
    /// Why the step is skipped, if it is.
    pub skips: Option<Error>,
}

/// What is wrong with the input of a rank.
#[derive(Debug)]
struct Fault {
    problem: String,
    /// Whether it is a non-finite gradient.
    non_finite: bool,
}

impl<'d, 'r, A: Number> Round<'d, 'r, A> {
    pub(crate) fn new(of: &'d mut Distributed<'r, A>) -> Self {
        let missing = of.layout.buckets.iter().map(|bucket| bucket.params.len());
        Round {
            operation: of.ranks.operation(Kind::Gradients),
            header: of.ranks.operation(Kind::Header),
            missing: missing.collect(),
            messages: vec![Vec::new(); of.layout.buckets.len()],
            added: vec![false; of.layout.params.len()],
            fault: None,
            finished: false,
            of,
        }
    }

    /// Adds the gradient of a parameter. What is wrong with it is reported by `finish`, on all
    /// ranks.
    pub fn add<D: Dimension>(&mut self, name: &str, grad: &ArrayRef<A, D>) {
        match known(&self.of.layout, name, grad.shape()) {
            Ok(i) if self.added[i] => self.is_wrong(format!("`{name}` is added twice"), false),
            Ok(i) => self.pack(i, grad.view()),
            Err(problem) => self.is_wrong(problem, false),
        }
    }

    /// Only the first problem is reported.
    fn is_wrong(&mut self, problem: String, non_finite: bool) {
        self.fault.get_or_insert(Fault {
            problem,
            non_finite,
        });
    }

    /// Copies a gradient to the messages of its buckets, and sends those that are full.
    fn pack<D: Dimension>(&mut self, i: usize, grad: ArrayView<'_, A, D>) {
        self.added[i] = true;
        let grad = grad.as_standard_layout();
        let all = grad.as_slice().unwrap_or_default();
        let (layout, ranks) = (&self.of.layout, self.of.ranks);
        let bad = all.chunks(1024).find_map(|part| {
            // No early exit, so that the loop vectorizes.
            let within = |finite, x: &A| finite & (x.abs() <= A::max_value());
            let finite = part.iter().fold(true, within);
            let bad = || part.iter().copied().find(|x| !x.is_finite());
            if finite { None } else { bad() }
        });
        for bucket in layout.params[i].buckets.clone() {
            let messages = &mut self.messages[bucket];
            if messages.is_empty() {
                *messages = (0..ranks.size())
                    .map(|owner| {
                        let len = words_for::<A>(layout.len(bucket, owner));
                        ranks.message(self.operation, bucket, len)
                    })
                    .collect();
            }
            for (owner, message) in messages.iter_mut().enumerate() {
                let range = layout.range(bucket, i, owner);
                let to = elements_mut(&mut message[1..], layout.len(bucket, owner));
                let at = layout.offset(i, owner);
                to[at..at + range.len()].copy_from_slice(&all[range]);
            }
            self.missing[bucket] -= 1;
            if self.missing[bucket] == 0 {
                for to in ranks.others().filter(|&to| layout.len(bucket, to) > 0) {
                    ranks.send(to, mem::take(&mut messages[to]));
                }
            }
        }
        if let Some(x) = bad {
            let name = &layout.params[i].name;
            let problem = format!("the gradient of parameter `{name}` contains {x}");
            self.is_wrong(problem, true);
        }
    }

    /// Adds up the gradients of all ranks and makes the step.
    ///
    /// # Errors
    ///
    /// See [`Distributed`].
    pub fn finish(
        mut self,
        model: &mut (impl NamedArraysMut<A> + ?Sized),
        batch: Batch,
    ) -> Result<Outcome, Error> {
        if let Some(problem) = self.of.take_values(model) {
            self.is_wrong(problem, false);
        }
        let summed = self.sum(batch);
        let of = &mut *self.of;
        let made = summed.and_then(|summed| match summed.skips {
            Some(fault) => of.skip(fault),
            None => {
                of.skipped = 0;
                of.apply(model, summed.loss, summed.weight)
            }
        });
        of.noted(made)
    }

    /// Adds up the gradients of all ranks.
    pub(crate) fn sum(&mut self, batch: Batch) -> Result<Summed, Error> {
        self.finished = true;
        if let Some(i) = self.added.iter().position(|added| !added) {
            let name = &self.of.layout.params[i].name;
            self.is_wrong(format!("parameter `{name}` has no gradient"), false);
        }
        if !(batch.weight >= 0.0 && batch.weight.is_finite()) {
            let problem = format!(
                "the weight is {}, expected a finite number >= 0",
                batch.weight
            );
            self.is_wrong(problem, false);
        }
        let settings = self.of.optimizer.settings();
        // The loss of a rank without rows counts as well as its gradient: not at all.
        let loss = batch
            .loss
            .map(|loss| if batch.weight == 0.0 { 0.0 } else { loss });
        if let Err(problem) = self.of.check_step(digest(&settings), loss) {
            self.is_wrong(problem, false);
        }
        let headers = self.exchange_headers(&settings, Batch { loss, ..batch });
        let summed = headers.and_then(|headers| self.sum_all(&settings, &headers));
        self.retire();
        summed
    }

    fn sum_all(&mut self, settings: &str, headers: &[Header]) -> Result<Summed, Error> {
        let faults = headers.iter().enumerate();
        let fault = faults.filter_map(|(rank, header)| Some((rank, header.fault.as_ref()?)));
        // An error comes before a reason for skipping.
        let fault = fault.min_by_key(|(rank, fault)| (fault.non_finite, *rank));
        let differ = headers.iter().any(|of| of.settings != headers[0].settings);
        if let Some((rank, fault)) = fault.filter(|(_, fault)| !(differ && fault.non_finite)) {
            return self.refuse(rank, fault.problem.clone(), fault.non_finite);
        }
        if differ {
            differs(self.of.ranks, settings)?;
        }
        let Some((weights, total)) = self.weights(headers) else {
            return self.refuse(0, "all weights are 0".into(), false);
        };
        let losses: Option<Vec<[f64; 1]>> = headers.iter().map(|of| Some([of.loss?])).collect();
        let loss = losses.map(|losses| {
            let (parts, mut mean) = (losses.iter().map(|loss| &loss[..]), [0.0]);
            f64::mean(&parts.collect::<Vec<_>>(), &weights, total, &mut mean);
            mean[0]
        });
        self.sum_buckets(&weights, total)?;
        if let Some((rank, problem)) = self.check_sums()? {
            return self.refuse(rank, problem, true);
        }
        let of_all: f64 = headers.iter().map(|header| header.weight).sum();
        let weight = match self.of.config.reduction {
            Reduction::Mean => of_all,
            Reduction::Sum => 1.0,
        };
        Ok(Summed {
            loss,
            weight,
            skips: None,
        })
    }

    /// The error for the input of a rank, or the reason for skipping the step.
    fn refuse(&self, rank: usize, problem: String, can_skip: bool) -> Result<Summed, Error> {
        let error = Error::OnRank { rank, problem };
        if can_skip && self.of.optimizer.non_finite == NonFinite::Skip {
            let skips = Some(error);
            return Ok(Summed {
                loss: None,
                weight: 1.0,
                skips,
            });
        }
        Err(error)
    }

    /// Looks for what the policy for non-finite gradients is about in those that have been added up:
    /// the first rank with something wrong, and what. In a replicated step the optimizer does that.
    fn check_sums(&mut self) -> Result<Option<(usize, String)>, Error> {
        let Distributed {
            ranks,
            layout,
            grads,
            optimizer,
            config,
            ..
        } = &mut *self.of;
        if config.mode == Mode::Replicated || optimizer.non_finite == NonFinite::Propagate {
            return Ok(None);
        }
        let mut squares = Sum::default();
        let mut pairs = layout.params.iter().zip(&*grads);
        let problem = pairs.find_map(|(param, grad)| {
            squares.add_squares(grad);
            let checked = optimizer.check_gradient(&param.name, &param.shape, grad);
            checked.err().map(|error| error.to_string())
        });
        let problem = words(&problem.unwrap_or_default());
        let own = problem.into_iter().chain(squares.to_words()).collect();
        let all = ranks.all_gather(own, "the check of the mean gradients")?;
        let mut total = Sum::default();
        for (rank, of) in all.iter().enumerate() {
            let problem = text(of);
            if !problem.is_empty() {
                return Ok(Some((rank, problem)));
            }
            // An empty text is one word.
            total.merge(&Sum::from_words(&of[1..]).unwrap_or_default());
        }
        let norm = total.root();
        let limit = optimizer.limits.norm.filter(|&limit| norm > limit);
        Ok(limit.map(|limit| {
            let error = ndarray_optim::Error::ExplodingGradient { norm, limit };
            (0, error.to_string())
        }))
    }

    fn retire(&self) {
        self.of.ranks.retire(self.operation);
        self.of.ranks.retire(self.header);
    }

    /// The weights of the ranks and what to divide by; `None` if all weights are 0.
    fn weights(&self, headers: &[Header]) -> Option<(Vec<f64>, f64)> {
        let mut weights: Vec<f64> = headers.iter().map(|header| header.weight).collect();
        let ones = vec![1.0; weights.len()];
        let largest = weights.iter().copied().fold(0.0, f64::max);
        match self.of.config.reduction {
            Reduction::Sum => Some((ones, 1.0)),
            Reduction::Mean if largest == 0.0 => None,
            // Without rounding, whatever the weight is.
            Reduction::Mean if weights.iter().all(|&of| of == weights[0]) => {
                Some((ones, weights.len() as f64))
            }
            Reduction::Mean => {
                if !(1e-100..1e100).contains(&largest) {
                    weights.iter_mut().for_each(|weight| *weight /= largest);
                }
                let total = weights.iter().sum();
                Some((weights, total))
            }
        }
    }

    fn exchange_headers(&mut self, settings: &str, batch: Batch) -> Result<Vec<Header>, Error> {
        let ranks = self.of.ranks;
        let own = Header {
            settings: digest(settings),
            weight: batch.weight,
            loss: batch.loss,
            fault: self.fault.take(),
        };
        let message = Arc::new(own.to_words(ranks.message(self.header, 0, 4)));
        ranks
            .others()
            .for_each(|to| ranks.send(to, message.clone()));
        let mut own = Some(own);
        let names = &self.of.layout;
        let all = (0..ranks.size()).map(|from| {
            if from == ranks.rank()
                && let Some(own) = own.take()
            {
                return Ok(own);
            }
            // What comes from it first.
            let awaited = || match names.buckets.len() {
                0 => "its header".into(),
                _ => format!("the gradients of {}", names.describe(0)),
            };
            ranks
                .receive(from, self.header, 0, awaited)
                .map(|of| Header::from_words(&of))
        });
        all.collect()
    }

    /// Adds up the elements that this rank owns.
    fn sum_buckets(&mut self, weights: &[f64], total: f64) -> Result<(), Error> {
        let Distributed {
            ranks,
            layout,
            grads,
            ..
        } = &mut *self.of;
        let me = ranks.rank();
        for (param, grads) in layout.params.iter().zip(&mut *grads) {
            grads.resize(param.range(me).len(), A::ZERO);
        }
        for bucket in 0..layout.buckets.len() {
            let len = layout.len(bucket, me);
            if len == 0 {
                continue;
            }
            let messages = (0..ranks.size()).map(|from| {
                if from == me {
                    return Ok(mem::take(&mut self.messages[bucket][me]));
                }
                ranks.receive(from, self.operation, bucket, || {
                    format!("the gradient of {}", layout.describe(bucket))
                })
            });
            let messages = messages.collect::<Result<Vec<_>, _>>()?;
            let mut at = 0;
            for param in layout.buckets[bucket].params.clone() {
                let range = layout.range(bucket, param, me);
                let parts: Vec<&[A]> = messages
                    .iter()
                    .map(|message| &elements(&message[1..], len)[at..at + range.len()])
                    .collect();
                let start = range.start - layout.params[param].range(me).start;
                let out = &mut grads[param][start..start + range.len()];
                A::mean(&parts, weights, total, out);
                at += range.len();
            }
            messages
                .into_iter()
                .for_each(|message| ranks.recycle(message));
        }
        Ok(())
    }
}

impl<A: Number> Drop for Round<'_, '_, A> {
    /// Tells the other ranks that there is no step.
    fn drop(&mut self) {
        if !self.finished {
            self.fault = Some(Fault {
                problem: "the step was abandoned".into(),
                non_finite: false,
            });
            let settings = self.of.optimizer.settings();
            // It is reported by the ranks that go on.
            let _ = self.exchange_headers(&settings, Batch::default());
            self.retire();
        }
    }
}

/// What ranks tell each other in each step.
struct Header {
    settings: u64,
    weight: f64,
    loss: Option<f64>,
    fault: Option<Fault>,
}

impl Header {
    fn to_words(&self, mut message: Vec<u64>) -> Vec<u64> {
        let loss = self.loss.map_or(0, f64::to_bits);
        let fault = self.fault.as_ref();
        let kind = fault.map_or(0, |fault| 1 + u64::from(fault.non_finite));
        let flags = kind << 1 | u64::from(self.loss.is_some());
        message.truncate(1);
        message.extend([self.settings, self.weight.to_bits(), loss, flags]);
        message.extend(fault.map_or_else(Vec::new, |fault| words(&fault.problem)));
        message
    }

    fn from_words(message: &[u64]) -> Self {
        let word = |i: usize| message.get(i).copied().unwrap_or_default();
        let fault = (word(4) >> 1 > 0).then(|| Fault {
            problem: text(message.get(5..).unwrap_or_default()),
            non_finite: word(4) >> 1 == 2,
        });
        Header {
            settings: word(1),
            weight: f64::from_bits(word(2)),
            loss: (word(4) & 1 == 1).then_some(f64::from_bits(word(3))),
            fault,
        }
    }
}
