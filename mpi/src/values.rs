//! Elements of models on their way between ranks.
use crate::{
    Error, Number, Ranks,
    layout::Layout,
    number::{elements, elements_mut, words_for},
    ranks::{Kind, Operation},
};
use ndarray::{ArrayRef, IxDyn};
use ndarray_optim::{NamedArrays, NamedArraysMut, UNNAMED};
use std::sync::Arc;

/// The name of an array in a set of named arrays.
pub(crate) fn named(name: &str) -> &str {
    if name.is_empty() { UNNAMED } else { name }
}

/// The inverse of [`named`].
pub(crate) fn name_in_set(name: &str) -> &str {
    if name == UNNAMED { "" } else { name }
}

/// The index of a parameter, or what is wrong with it.
pub(crate) fn known(layout: &Layout, name: &str, shape: &[usize]) -> Result<usize, String> {
    let i = layout
        .find(name)
        .ok_or_else(|| format!("there is no parameter `{name}`"))?;
    let known = &layout.params[i].shape;
    if known == shape {
        Ok(i)
    } else {
        Err(format!("`{name}` has shape {shape:?}, expected {known:?}"))
    }
}

/// Copies the elements of a model that a rank owns, if there is one. Returns what is wrong with the
/// model.
pub(crate) fn copy_owned<A: Number>(
    layout: &Layout,
    rank: Option<usize>,
    model: &(impl NamedArrays<A> + ?Sized),
    values: &mut [Vec<A>],
) -> Option<String> {
    let (mut problem, mut seen) = (None, vec![false; layout.params.len()]);
    model.visit(
        &mut |name, array| match known(layout, named(&name), array.shape()) {
            Ok(i) => {
                seen[i] = true;
                let Some(rank) = rank else {
                    return;
                };
                let range = layout.params[i].range(rank);
                let to = &mut values[i];
                to.clear();
                match array.as_slice() {
                    Some(all) => to.extend_from_slice(&all[range]),
                    None => to.extend(array.iter().skip(range.start).take(range.len())),
                }
            }
            Err(error) => problem = problem.take().or(Some(error)),
        },
    );
    let missing = seen.iter().position(|seen| !seen);
    problem.or_else(|| missing.map(|i| format!("parameter `{}` is missing", layout.params[i].name)))
}

/// Sends the values that this rank owns to all others, and writes those of all ranks to a model.
pub(crate) fn gather<A: Number>(
    ranks: &Ranks,
    layout: &Layout,
    values: &[Vec<A>],
    model: &mut (impl NamedArraysMut<A> + ?Sized),
) -> Result<(), Error> {
    let (me, operation) = (ranks.rank(), ranks.operation(Kind::Values));
    for bucket in 0..layout.buckets.len() {
        let len = layout.len(bucket, me);
        if len == 0 || ranks.size() == 1 {
            continue;
        }
        let mut message = ranks.message(operation, bucket, words_for::<A>(len));
        let out = elements_mut(&mut message[1..], len);
        let mut at = 0;
        for param in layout.buckets[bucket].params.clone() {
            let own = layout.range(bucket, param, me);
            let start = own.start - layout.params[param].range(me).start;
            let values = &values[param][start..start + own.len()];
            out[at..at + own.len()].copy_from_slice(values);
            at += own.len();
        }
        let message = Arc::new(message);
        ranks
            .others()
            .for_each(|to| ranks.send(to, message.clone()));
    }
    // Everything has arrived before the first element changes.
    let mut messages = Vec::new();
    for bucket in 0..layout.buckets.len() {
        let mut from_all = Vec::new();
        for rank in 0..ranks.size() {
            let message = if rank == me || layout.len(bucket, rank) == 0 {
                Vec::new()
            } else {
                ranks.receive(rank, operation, bucket, || layout.describe(bucket))?
            };
            from_all.push(message);
        }
        messages.push(from_all);
    }
    ranks.retire(operation);
    model.visit_mut(&mut |name, mut array| {
        let Some(i) = layout.find(named(&name)) else {
            return;
        };
        let write = |to: &mut [A]| {
            let param = &layout.params[i];
            to[param.range(me)].copy_from_slice(&values[i]);
            for bucket in param.buckets.clone() {
                for (rank, message) in messages[bucket].iter().enumerate() {
                    if !message.is_empty() {
                        let range = layout.range(bucket, i, rank);
                        let all = elements(&message[1..], layout.len(bucket, rank));
                        let at = layout.offset(i, rank);
                        let len = range.len();
                        to[range].copy_from_slice(&all[at..at + len]);
                    }
                }
            }
        };
        match array.as_slice_mut() {
            Some(slice) => write(slice),
            None => {
                let mut row_major = vec![A::ZERO; array.len()];
                write(&mut row_major);
                array.iter_mut().zip(row_major).for_each(|(to, x)| *to = x);
            }
        }
    });
    messages
        .into_iter()
        .flatten()
        .for_each(|message| ranks.recycle(message));
    Ok(())
}

pub(crate) fn broadcast<A: Number>(
    ranks: &Ranks,
    operation: Operation,
    index: usize,
    array: &mut ArrayRef<A, IxDyn>,
    name: &str,
) -> Result<(), Error> {
    let len = array.len();
    if ranks.rank() == 0 {
        let mut message = ranks.message(operation, index, words_for::<A>(len));
        let to = elements_mut(&mut message[1..], len);
        to.iter_mut().zip(&*array).for_each(|(to, &x)| *to = x);
        let message = Arc::new(message);
        ranks
            .others()
            .for_each(|to| ranks.send(to, message.clone()));
    } else {
        let message = ranks.receive(0, operation, index, || format!("`{name}`"))?;
        if message.len() != 1 + words_for::<A>(len) {
            return Err(Error::Differs {
                rank: ranks.rank(),
                what: format!("the shape of `{name}`"),
                theirs: format!("{len} elements"),
                first: format!("{} words", message.len() - 1),
            });
        }
        let from = elements(&message[1..], len);
        array.iter_mut().zip(from).for_each(|(to, &x)| *to = x);
    }
    Ok(())
}
