//! The gradients of a step, from all ranks.
use crate::{
    Batch, Distributed, Error, Number, Reduction,
    agree::{differs, digest, with_source},
    number::{elements, elements_mut, words_for},
    ranks::{Kind, Operation, text, words},
    values::known,
};
use ndarray::{ArrayRef, ArrayView, Dimension};
use ndarray_optim::{NamedArraysMut, NonFinite, Outcome};
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
        let made = summed.and_then(|(loss, skips)| match skips {
            Some(fault) => of.skip(fault),
            None => {
                of.skipped = 0;
                of.apply(model, loss)
            }
        });
        of.noted(made)
    }

    /// Adds up the gradients of all ranks. Returns the loss, and the reason for skipping the step
    /// if there is one.
    pub(crate) fn sum(&mut self, batch: Batch) -> Result<(Option<f64>, Option<Error>), Error> {
        self.finished = true;
        if let Some(i) = self.added.iter().position(|added| !added) {
            let name = &self.of.layout.params[i].name;
            self.is_wrong(format!("parameter `{name}` has no gradient"), false);
        }
        if !(batch.weight > 0.0 && batch.weight.is_finite()) {
            let problem = format!(
                "the weight is {}, expected a finite number > 0",
                batch.weight
            );
            self.is_wrong(problem, false);
        }
        if let Some(first) = self.of.layout.params.first()
            && let Err(error) = self.of.optimizer.division(&first.name, &first.shape)
        {
            self.is_wrong(with_source(&error), false);
        }
        let settings = self.of.optimizer.settings();
        let headers = self.exchange_headers(&settings, batch)?;
        let faults = headers.iter().enumerate();
        let fault = faults.filter_map(|(rank, header)| Some((rank, header.fault.as_ref()?)));
        // An error comes before a reason for skipping.
        let fault = fault.min_by_key(|(rank, fault)| (fault.non_finite, *rank));
        let differ = headers.iter().any(|of| of.settings != headers[0].settings);
        if let Some((rank, fault)) = fault.filter(|(_, fault)| !(differ && fault.non_finite)) {
            self.of.ranks.retire(self.header);
            let error = Error::OnRank {
                rank,
                problem: fault.problem.clone(),
            };
            let skips = fault.non_finite && self.of.optimizer.non_finite == NonFinite::Skip;
            return if skips {
                Ok((None, Some(error)))
            } else {
                Err(error)
            };
        }
        if differ {
            self.of.ranks.retire(self.header);
            differs(self.of.ranks, &settings)?;
        }
        let (weights, total) = self.weights(&headers);
        let losses: Option<Vec<[f64; 1]>> = headers.iter().map(|of| Some([of.loss?])).collect();
        let loss = losses.map(|losses| {
            let (parts, mut mean) = (losses.iter().map(|loss| &loss[..]), [0.0]);
            f64::mean(&parts.collect::<Vec<_>>(), &weights, total, &mut mean);
            mean[0]
        });
        self.sum_buckets(&weights, total)?;
        self.of.ranks.retire(self.header);
        Ok((loss, None))
    }

    /// The weights of the ranks and what to divide by.
    fn weights(&self, headers: &[Header]) -> (Vec<f64>, f64) {
        let weights: Vec<f64> = headers.iter().map(|header| header.weight).collect();
        let ones = vec![1.0; weights.len()];
        match self.of.config.reduction {
            Reduction::Sum => (ones, 1.0),
            // Without rounding, whatever the weight is.
            Reduction::Mean if weights.iter().all(|&of| of == weights[0]) => {
                (ones, weights.len() as f64)
            }
            Reduction::Mean => {
                let total = weights.iter().sum();
                (weights, total)
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
            self.is_wrong("the step was abandoned".into(), false);
            let settings = self.of.optimizer.settings();
            // It is reported by the ranks that go on.
            let _ = self.exchange_headers(&settings, Batch::default());
            self.of.ranks.retire(self.header);
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
