//! The results as text and as a page of Markdown.
use crate::{
    case::{Algorithm, Case, Dtype, Shapes, Threads},
    machine,
    measure::{Measured, Row},
};
use std::fmt::Write;

/// Seconds with a unit.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-5 => format!("{:.2} us", s * 1e6),
        s if s < 1e-4 => format!("{:.1} us", s * 1e6),
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1e-2 => format!("{:.2} ms", s * 1e3),
        s if s < 1e-1 => format!("{:.1} ms", s * 1e3),
        s => format!("{:.0} ms", s * 1e3),
    }
}

fn ratio(measured: &Measured, ratio: f64) -> String {
    let digits = match ratio {
        r if r < 10.0 => format!("{r:.2}"),
        r if r < 100.0 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    };
    format!("{}{digits}", if measured.noisy() { "~" } else { "" })
}

/// The time of this crate divided by the limit.
fn to_limit(row: &Row) -> String {
    match &row.limit {
        Some(limit) => ratio(limit, 1.0 / limit.ratio),
        None => "".into(),
    }
}

/// One line for each peer of a row.
pub fn print(row: &Row) {
    let line = |name: &str, seconds: f64, rest: String| {
        println!("  {name:<20}{:>10}   {rest}", time(seconds));
    };
    let rest = format!("{} times the limit, {} rounds", to_limit(row), row.rounds);
    line("this crate", row.ours, rest);
    for peer in &row.peers {
        line(peer.name, peer.seconds, ratio(peer, peer.ratio));
    }
}

/// The tables of a page: their title, and the rows that belong to them.
fn section(case: &Case) -> (&'static str, Dtype, Threads) {
    let title = match case.shapes {
        Shapes::One(_) => "One array",
        Shapes::Square(_) => "Memory layouts",
        Shapes::Many | Shapes::Transformer => "Several arrays",
    };
    (title, case.dtype, case.threads)
}

/// The page. `names` are the peers in the order of the columns, `about` says what they are.
pub fn page(
    rows: &[Row],
    names: &[&str],
    about: &[String],
    figure: Option<&str>,
    command: &str,
) -> String {
    let mut page = format!(
        "# Peers, measured\n\n\
         {}.\nRust without `target-cpu`, so that other crates are compiled for {}.\n\n\
         Written by `{command}`.\nPeers take turns within one run, so that load of the machine \
         affects all of them.\n\n\
         - **step** is the time of a step of this crate, **/ limit** its ratio to the memory limit: \
         the fastest partition of a loop with the same traffic and next to no arithmetic.\n\
         - The other columns are the times of **peers divided by that of this crate**, medians over \
         the rounds; bold ones below 1 are faster.\n\
         - `~`: noisy. The confidence interval (95 %) of the median is wider than 3 % in both \
         directions (10 % for ratios below 0.5 and above 2).\n\
         - Every peer does the same step: after three of them its parameters agree with those of \
         this crate, or it is skipped.\n",
        machine::describe(),
        match cfg!(target_feature = "avx2") {
            true => "AVX2",
            false => "the baseline of the platform",
        },
    );
    let line = |page: &mut String, text: &str| _ = writeln!(page, "{text}");
    if let Some(figure) = figure {
        line(
            &mut page,
            &format!("\n![Times of peers relative to this crate]({figure})"),
        );
    }
    let mut done = vec![];
    for row in rows {
        let at = section(&row.case);
        if done.contains(&at) {
            continue;
        }
        done.push(at);
        let rows: Vec<_> = rows.iter().filter(|row| section(&row.case) == at).collect();
        let (title, dtype, threads) = (at.0, at.1.title(), at.2.title());
        line(&mut page, &format!("\n## {title}, {dtype}, {threads}\n"));
        table(&mut page, &rows, names);
    }

    line(&mut page, "\n## Where a peer is faster\n");
    let reasons = "family.md#where-others-are-faster";
    line(&mut page, &format!("[Why]({reasons}).\n"));
    let mut nowhere = true;
    for row in rows {
        let faster = row.peers.iter().filter(|peer| peer.ratio < 1.0);
        let faster: Vec<_> = faster
            .map(|peer| format!("{} {}", peer.name, ratio(peer, peer.ratio)))
            .collect();
        if !faster.is_empty() {
            nowhere = false;
            line(&mut page, &format!("- {}: {}", row.case, faster.join(", ")));
        }
    }
    if nowhere {
        line(&mut page, "Nowhere.");
    }

    line(&mut page, "\n## The peers\n");
    about
        .iter()
        .for_each(|about| line(&mut page, &format!("- {about}")));

    let skipped = skipped(rows);
    if !skipped.is_empty() {
        line(&mut page, "\n## Skipped\n");
        skipped
            .iter()
            .for_each(|entry| line(&mut page, &format!("- {entry}")));
    }
    page
}

fn table(page: &mut String, rows: &[&Row], names: &[&str]) {
    let here = |name: &&&str| {
        rows.iter()
            .any(|row| row.peers.iter().any(|p| p.name == **name))
    };
    let names: Vec<_> = names.iter().filter(here).collect();
    let what = match rows[0].case.shapes {
        Shapes::One(_) => "elements",
        Shapes::Square(_) => "1000 x 1000",
        Shapes::Many | Shapes::Transformer => "arrays",
    };
    _ = write!(
        page,
        "| algorithm | {what} | step | ns an element | / limit |"
    );
    names.iter().for_each(|name| _ = write!(page, " {name} |"));
    _ = writeln!(page, "\n|---|{}", "--:|".repeat(4 + names.len()));
    for row in rows {
        let case = &row.case;
        let which = match case.shapes {
            Shapes::Square(_) => case.layout.title().into(),
            shapes => shapes.to_string(),
        };
        let each = row.ours * 1e9 / case.elements() as f64;
        let (title, step, limit) = (case.algorithm.title(), time(row.ours), to_limit(row));
        _ = write!(page, "| {title} | {which} | {step} | {each:.2} | {limit} |");
        for name in &names {
            let cell = match row.peers.iter().find(|peer| peer.name == **name) {
                Some(peer) if peer.ratio < 1.0 => format!("**{}**", ratio(peer, peer.ratio)),
                Some(peer) => ratio(peer, peer.ratio),
                None => String::new(),
            };
            _ = write!(page, " {cell} |");
        }
        _ = writeln!(page);
    }
}

/// Who was skipped, in which cases and why.
pub fn skipped(rows: &[Row]) -> Vec<String> {
    let mut entries: Vec<(&str, &str, Vec<&Case>)> = vec![];
    for row in rows {
        for (name, reason) in &row.skipped {
            match entries
                .iter_mut()
                .find(|entry| entry.0 == *name && entry.1 == reason)
            {
                Some(entry) => entry.2.push(&row.case),
                None => entries.push((name, reason, vec![&row.case])),
            }
        }
    }
    let describe = |(name, reason, cases): (&str, &str, Vec<&Case>)| {
        let all_of = |algorithm: Algorithm| cases.iter().all(|case| case.algorithm == algorithm);
        let first = cases[0];
        match cases.len() {
            1 => format!("{name}, {first}: {reason}"),
            n if n == rows.len() => format!("{name}, everywhere: {reason}"),
            n if all_of(first.algorithm) => {
                format!("{name}, {n} cases of {}: {reason}", first.algorithm.title())
            }
            n => format!("{name}, {n} cases, the first {first}: {reason}"),
        }
    };
    entries.into_iter().map(describe).collect()
}
