//! What all ranks must have in common.
use crate::{
    Error, Ranks,
    ranks::{text, words},
};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Returns an error on all ranks if there is a problem on one.
pub(crate) fn agree(ranks: &Ranks, problem: Option<String>, what: &str) -> Result<(), Error> {
    let own = problem.map_or_else(Vec::new, |problem| words(&problem));
    let all = ranks.all_gather(own, what)?;
    match all.iter().position(|of| !of.is_empty()) {
        Some(rank) => Err(Error::OnRank {
            rank,
            problem: text(&all[rank]),
        }),
        None => Ok(()),
    }
}

/// An error with its reason.
pub(crate) fn with_source(error: &ndarray_optim::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

pub(crate) fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Returns an error on all ranks unless all have the same text.
pub(crate) fn same(ranks: &Ranks, own: &str, what: &str) -> Result<(), Error> {
    let all = ranks.all_gather(vec![digest(own)], what)?;
    if all.iter().all(|of| *of == all[0]) {
        return Ok(());
    }
    differs(ranks, own)
}

/// Finds out in which line ranks differ.
pub(crate) fn differs(ranks: &Ranks, own: &str) -> Result<(), Error> {
    let all = ranks.all_gather(words(own), "finding a difference")?;
    let all: Vec<String> = all.iter().map(|of| text(of)).collect();
    let Some(rank) = all.iter().position(|of| *of != all[0]) else {
        return Ok(());
    };
    let (mut theirs, mut first) = (all[rank].lines(), all[0].lines());
    let mut context = String::new();
    loop {
        let (a, b) = (theirs.next(), first.next());
        let shared = a.filter(|_| a == b);
        if let Some(line) = shared {
            // The name of the algorithm or the struct around a field.
            if line.trim_end().ends_with('{') {
                context = format!(" in `{}`", line.trim().trim_end_matches('{').trim());
            }
            continue;
        }
        let split = |line: Option<&str>| {
            let line = line.unwrap_or("nothing").trim().trim_end_matches(',');
            match line.split_once(": ") {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (line.to_owned(), line.to_owned()),
            }
        };
        let ((name, theirs), (name_of_first, first)) = (split(a), split(b));
        let one_name = name == name_of_first;
        let context = if name.starts_with('`') { "" } else { &context };
        let what = match one_name {
            true => format!("{name}{context}"),
            // A parameter that one of them lacks.
            false => format!(
                "{}{context}",
                if b.is_some() { &name_of_first } else { &name }
            ),
        };
        let value = |name: String, value: String| if one_name { value } else { name };
        return Err(Error::Differs {
            rank,
            what,
            theirs: value(name, theirs),
            first: value(name_of_first, first),
        });
    }
}
