//! Times the peers of a case in turn, round by round, so that a change of the machine's speed
//! affects all of them, until the medians of their ratios are known well enough.
use crate::{
    case::{Case, Threads},
    machine,
    peers::{Peer, Run, Skip},
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Least time of a sample, in seconds; one of a step that takes longer is one step.
const SAMPLE: f64 = 2e-3;
/// Before a sample: threads of the peer before may still be spinning.
const SETTLE: Duration = Duration::from_millis(1);
/// A peer is slow if its steps take this many times as long as those of this crate, and ...
const SLOW: f64 = 5.0;
/// ... this many seconds. It takes part in the first rounds only.
const LONG: f64 = 20e-3;
const SLOW_ROUNDS: usize = 3;
/// Largest difference of parameters after three steps, which change them by 1e-3 and more.
const TOLERANCE: f64 = 2e-5;

/// When the rounds of a case end.
#[derive(Clone, Copy)]
pub struct Effort {
    pub min_rounds: usize,
    pub max_rounds: usize,
    /// No round starts after this time.
    pub seconds: f64,
}

/// A peer, compared with this crate.
#[derive(Clone)]
pub struct Measured {
    pub name: &'static str,
    /// Median time of a step.
    pub seconds: f64,
    /// Median over the rounds of its time divided by that of this crate.
    pub ratio: f64,
    /// Half the width of the confidence interval (95 %) of `ratio`, relative to it.
    spread: f64,
}

impl Measured {
    /// Ratios far from 1 need no great accuracy.
    pub fn noisy(&self) -> bool {
        let close = (0.5..2.0).contains(&self.ratio);
        self.spread > if close { 0.03 } else { 0.1 }
    }
}

/// What came of a case.
pub struct Row {
    pub case: Case,
    /// Median time of a step of this crate, in seconds.
    pub ours: f64,
    /// The fastest partition of the limit.
    pub limit: Option<Measured>,
    pub peers: Vec<Measured>,
    pub skipped: Vec<(&'static str, Skip)>,
    pub rounds: usize,
}

struct Contestant {
    name: &'static str,
    run: Box<dyn Run>,
    /// Steps in a sample.
    calls: usize,
    /// Whether an untimed step comes before a sample.
    warm_up: bool,
    slow: bool,
    /// Why it takes no part any more.
    failed: Option<Skip>,
    /// Seconds of a step in each round, until it stops to take part.
    times: Vec<f64>,
}

pub struct Bench {
    pub effort: Effort,
    pub this_crate: Box<dyn Peer>,
    pub limits: Vec<Box<dyn Peer>>,
    pub others: Vec<Box<dyn Peer>>,
    /// Steps on one thread run here: libraries that use rayon then see no other thread.
    alone: ThreadPool,
}

impl Bench {
    pub fn new(
        effort: Effort,
        this_crate: Box<dyn Peer>,
        limits: Vec<Box<dyn Peer>>,
        others: Vec<Box<dyn Peer>>,
    ) -> Result<Self, Skip> {
        let alone = ThreadPoolBuilder::new().num_threads(1).build();
        let alone = alone.map_err(|error| error.to_string())?;
        Ok(Bench {
            effort,
            this_crate,
            limits,
            others,
            alone,
        })
    }

    pub fn measure(&mut self, case: &Case) -> Result<Row, Skip> {
        let mut row = Row {
            case: *case,
            ours: f64::NAN,
            limit: None,
            peers: vec![],
            skipped: vec![],
            rounds: 0,
        };
        let alone = &self.alone;
        let ours = start(&mut *self.this_crate, case, alone, None)?;
        let expected = ours.1;
        let mut entries = vec![ours.0];
        for peer in &mut self.limits {
            // Some partitions are for several threads only.
            entries.extend(start(&mut **peer, case, alone, None).map(|(limit, _)| limit));
        }
        let mut others = self.others.iter_mut().peekable();
        let mut times = vec![];
        let best = |limit: &Option<Measured>| limit.as_ref().map_or(f64::INFINITY, |l| l.ratio);
        // Peers that do not fit into memory together take turns in several batches, in each of which
        // this crate takes part.
        loop {
            // A peer and the temporary arrays of its steps; the rest is for other programs.
            let fits = |batch: &[Contestant]| {
                batch.len() < 2 || machine::available_memory() > 3 * case.bytes()
            };
            while let Some(peer) = others.next_if(|_| fits(&entries)) {
                match start(&mut **peer, case, alone, Some(&expected)) {
                    Ok((entry, _)) => entries.push(entry),
                    Err(reason) => row.skipped.push((peer.name(), reason)),
                }
            }
            row.rounds += rounds(self.effort, case, alone, &mut entries, &mut row.skipped);
            let (ours, rest) = entries.split_at(1);
            times.extend_from_slice(&ours[0].times);
            for entry in rest {
                let measured = entry.compared_with(&ours[0]);
                if !entry.name.starts_with("limit") {
                    row.peers.push(measured);
                } else if best(&row.limit) > measured.ratio {
                    row.limit = Some(measured);
                }
            }
            if others.peek().is_none() {
                break;
            }
            entries.truncate(1);
            entries[0].times.clear();
        }
        row.ours = median(&times).0;
        Ok(row)
    }
}

/// Lets the peers take turns. Returns the number of rounds.
fn rounds(
    effort: Effort,
    case: &Case,
    alone: &ThreadPool,
    entries: &mut Vec<Contestant>,
    skipped: &mut Vec<(&'static str, Skip)>,
) -> usize {
    let mut ours = f64::NAN;
    for (i, entry) in entries.iter_mut().enumerate() {
        match entry.calibrate(case, alone) {
            Ok(seconds) if i == 0 => ours = seconds,
            Ok(seconds) => entry.slow = seconds > LONG && seconds > SLOW * ours,
            Err(reason) => entry.failed = Some(reason),
        }
    }
    let mut leave = |entries: &mut Vec<Contestant>| {
        let failed = entries.extract_if(.., |entry| entry.failed.is_some());
        skipped.extend(failed.filter_map(|entry| Some((entry.name, entry.failed?))));
    };
    leave(entries);
    let start = Instant::now();
    let mut round = 0;
    while round < effort.max_rounds {
        let enough = round >= effort.min_rounds;
        let quiet = |entry: &Contestant| !entry.compared_with(&entries[0]).noisy();
        let late = start.elapsed().as_secs_f64() > effort.seconds;
        if enough && (late || entries[1..].iter().all(|entry| entry.slow || quiet(entry))) {
            break;
        }
        let mut turn = |entry: &mut Contestant| {
            if !entry.slow || round < SLOW_ROUNDS {
                match entry.sample(case, alone) {
                    Ok(seconds) => entry.times.push(seconds),
                    Err(reason) => entry.failed = Some(reason),
                }
            }
        };
        match round % 2 {
            0 => entries.iter_mut().for_each(&mut turn),
            _ => entries.iter_mut().rev().for_each(&mut turn),
        }
        leave(entries);
        round += 1;
    }
    round
}

/// Prepares a peer and does three steps. If `expected` parameters are given, its own have to agree:
/// so nothing is timed that does less than the others. Returns the parameters too.
fn start(
    peer: &mut dyn Peer,
    case: &Case,
    alone: &ThreadPool,
    expected: Option<&[f64]>,
) -> Result<(Contestant, Vec<f64>), Skip> {
    let mut entry = Contestant {
        name: peer.name(),
        run: peer.prepare(case)?,
        calls: 1,
        warm_up: true,
        slow: false,
        failed: None,
        times: vec![],
    };
    entry.run(3, case, alone)?;
    let params = entry.run.probe()?;
    for (x, y) in params.iter().zip(expected.unwrap_or(&params)) {
        let difference = (x - y).abs();
        // Not a number is wrong too.
        if difference.is_nan() || difference > TOLERANCE {
            return Err(format!(
                "wrong: after three steps a parameter is {x:.6}, not {y:.6}"
            ));
        }
    }
    Ok((entry, params))
}

impl Contestant {
    fn run(&mut self, count: usize, case: &Case, alone: &ThreadPool) -> Result<f64, Skip> {
        match case.threads {
            Threads::One => alone.install(|| self.run.steps(count)),
            Threads::All => self.run.steps(count),
        }
    }

    /// Chooses the length of a sample. Returns the seconds of a step.
    fn calibrate(&mut self, case: &Case, alone: &ThreadPool) -> Result<f64, Skip> {
        self.calls = 1;
        loop {
            let seconds = self.run(self.calls, case, alone)?;
            if seconds > SAMPLE / 4.0 {
                let step = seconds / self.calls as f64;
                self.calls = (SAMPLE / step).ceil() as usize;
                // What does not stay in any cache needs no warm-up.
                self.warm_up = step < LONG;
                return Ok(step);
            }
            self.calls *= 2;
        }
    }

    /// Seconds of a step.
    fn sample(&mut self, case: &Case, alone: &ThreadPool) -> Result<f64, Skip> {
        thread::sleep(SETTLE);
        if self.warm_up {
            self.run(1, case, alone)?;
        }
        Ok(self.run(self.calls, case, alone)? / self.calls as f64)
    }

    fn compared_with(&self, ours: &Contestant) -> Measured {
        let pairs = self.times.iter().zip(&ours.times);
        let (ratio, spread) = median(&pairs.map(|(a, b)| a / b).collect::<Vec<_>>());
        Measured {
            name: self.name,
            seconds: median(&self.times).0,
            ratio,
            spread,
        }
    }
}

/// The median, and half the width of its confidence interval (95 %, from order statistics) relative
/// to it.
fn median(x: &[f64]) -> (f64, f64) {
    if x.is_empty() {
        return (f64::NAN, f64::INFINITY);
    }
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    let (last, middle) = (x.len() - 1, x.len() / 2);
    let reach = (0.98 * (x.len() as f64).sqrt()).ceil() as usize;
    let (low, high) = (x[middle.saturating_sub(reach)], x[last.min(middle + reach)]);
    (x[middle], (high - low) / 2.0 / x[middle])
}
