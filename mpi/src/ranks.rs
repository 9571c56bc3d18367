//! The processes of a program, and messages between them.
//!
//! Threads speak MPI: one receives into a mailbox while the caller computes, and one for each other
//! rank sends. So messages move while the caller computes, a wait can have a time limit, a rank that
//! has died holds up messages to itself only, and no request has to be cancelled, which MPI does not
//! promise to do. A caller that waits receives by itself.
use crate::Error;
use mpi::{
    Threading,
    environment::{Universe, initialize_with_threading, is_finalized, threading_support},
    request,
    topology::SimpleCommunicator,
    traits::{Communicator, Destination, Equivalence, Source},
};
use std::{
    collections::{BTreeSet, HashMap},
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The tag of all messages, so that a program can send others.
const TAG: i32 = 28_011;
/// The key of a message that says why a rank gives up.
const GIVES_UP: u64 = u64::MAX;
/// The key of the last message of a rank.
const FAREWELL: u64 = u64::MAX - 1;
/// The key of a message that says for which rank another one has waited too long.
const LATE: u64 = u64::MAX - 2;
/// The bits of a key below the number of the operation: the kind of the message, and its index.
const INDEX_BITS: u32 = 28;
const KIND_BITS: u32 = 24;
/// The longest time to find out why a rank is late.
const MAX_GRACE: Duration = Duration::from_secs(5);
/// The longest time to send what is left to send, after ranks have failed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a thread sleeps that has waited for MPI in vain.
const NAP: Duration = Duration::from_micros(50);
/// How often a thread yields before it sleeps.
const SPINS: u32 = 2000;

/// All processes of an MPI program, of which this is one.
///
/// Every operation of this package is collective: all ranks call the same functions in the same
/// order. A rank that waits for another one longer than the time limit gets an error.
///
/// ```no_run
/// use ndarray_optim_mpi::Ranks;
/// use std::time::Duration;
///
/// let ranks = Ranks::start(Duration::from_secs(60))?;
/// println!("rank {} of {}", ranks.rank(), ranks.size());
/// # Ok::<(), ndarray_optim_mpi::Error>(())
/// ```
///
/// The value initializes MPI and finalizes it when it is dropped, unless ranks have failed: then
/// finalizing could wait forever, so end the process instead. A program that uses MPI for itself
/// initializes it before, with `MPI_THREAD_MULTIPLE`, and finalizes it after; of the messages in
/// `MPI_COMM_WORLD`, those with tag 28011 belong to this package.
pub struct Ranks {
    rank: usize,
    size: usize,
    limit: Duration,
    /// By rank; that of this rank is never used.
    outboxes: Vec<mpsc::Sender<Arc<Vec<u64>>>>,
    mailbox: Arc<Mailbox>,
    /// The one that receives, and those that send.
    threads: Vec<JoinHandle<()>>,
    broken: AtomicBool,
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

/// One operation of all ranks, whose messages are numbered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Operation {
    number: u64,
    kind: Kind,
}

/// What an operation is about, so that ranks that make different calls do not misread messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Words,
    Gradients,
    Header,
    Values,
    Broadcast,
}

impl Operation {
    fn key(self, index: usize) -> u64 {
        self.number << INDEX_BITS | (self.kind as u64) << KIND_BITS | index as u64
    }
}

/// Messages that have arrived. The first word of each is its key.
#[derive(Default)]
struct Mailbox {
    letters: Mutex<Letters>,
    /// Whether a caller waits for messages and receives them.
    awaited: AtomicBool,
    ends: AtomicBool,
    /// Whether MPI is finalized at the end.
    finalizes: AtomicBool,
}

#[derive(Default)]
struct Letters {
    by_key: HashMap<(usize, u64), Vec<u64>>,
    /// Operations that have begun and not ended. Messages of earlier ones are thrown away.
    open: BTreeSet<u64>,
    /// The number of operations that have begun.
    begun: u64,
    /// The first rank that has given up, and why.
    given_up: Option<(usize, String)>,
    /// For whom other ranks have waited too long, and for what.
    late: HashMap<usize, (usize, String)>,
    /// The ranks that have left.
    left: Vec<usize>,
    /// Buffers to receive into.
    buffers: Vec<Vec<u64>>,
}

impl Letters {
    /// Whether messages of an operation can still be received.
    fn is_awaited(&self, operation: u64) -> bool {
        operation > self.begun || self.open.contains(&operation)
    }

    /// The rank that keeps all others waiting, and what it has not sent: `from`, unless that one
    /// waits for another one too.
    fn culprit(&self, own: usize, from: usize, what: String) -> (usize, String) {
        let (mut rank, mut last) = (from, &what);
        for _ in 0..self.late.len() {
            match self.late.get(&rank) {
                // An old notice: that rank has what it waited for.
                Some((next, _)) if *next == own => return (from, what),
                Some((next, what)) => (rank, last) = (*next, what),
                None => return (rank, last.clone()),
            }
        }
        // They wait for each other, in different calls.
        if self.late.contains_key(&rank) {
            return (from, what);
        }
        (rank, last.clone())
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, from: usize, message: Vec<u64>) {
        let mut letters = self.lock();
        match message.first() {
            Some(&GIVES_UP) => {
                letters.given_up.get_or_insert((from, text(&message[1..])));
            }
            Some(&FAREWELL) => letters.left.push(from),
            Some(&LATE) if message.len() > 1 => {
                let late = (message[1] as usize, text(&message[2..]));
                letters.late.insert(from, late);
            }
            Some(&key) if letters.is_awaited(key >> INDEX_BITS) => {
                letters.late.remove(&from);
                letters.by_key.insert((from, key), message);
            }
            _ => {}
        }
    }

    /// A buffer of this length with any contents.
    fn buffer(&self, len: usize) -> Vec<u64> {
        let mut letters = self.lock();
        let fits = |buffer: &Vec<u64>| buffer.capacity() >= len && buffer.capacity() / 4 <= len;
        let at = letters.buffers.iter().position(fits);
        let mut buffer = at.map_or_else(Vec::new, |at| letters.buffers.swap_remove(at));
        drop(letters);
        buffer.resize(len, 0);
        buffer
    }

    fn recycle(&self, buffer: Vec<u64>) {
        // Small ones are quickly allocated.
        if buffer.capacity() > 512 {
            self.lock().buffers.push(buffer);
        }
    }
}

/// Text as words.
pub(crate) fn words(text: &str) -> Vec<u64> {
    let bytes = text.as_bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    std::iter::once(text.len() as u64).chain(bytes).collect()
}

/// Text from words.
pub(crate) fn text(words: &[u64]) -> String {
    let Some((&len, words)) = words.split_first() else {
        return String::new();
    };
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    let bytes: Vec<u8> = bytes.take(len as usize).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Ranks {
    /// Joins the other processes that `mpirun` has started; without it there is one rank. `limit` is
    /// the longest time that this rank waits for a message of another one: longer than the slowest
    /// rank needs for a gradient.
    ///
    /// # Errors
    ///
    /// [`Error::Mpi`] if MPI was built without support for threads, or on a second call in a process.
    pub fn start(limit: Duration) -> Result<Self, Error> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        let failed = |error: &dyn fmt::Display| Error::Mpi(error.to_string());
        if STARTED.swap(true, Ordering::Relaxed) || is_finalized() {
            return Err(failed(&"it can be started once in a process"));
        }
        let mailbox = Arc::new(Mailbox::default());
        let (report, started) = mpsc::channel();
        let to = mailbox.clone();
        let receiver = thread::Builder::new().name("mpi-receive".into());
        let receiver = receiver.spawn(move || {
            let universe = initialize_with_threading(Threading::Multiple).map(|(of, _)| of);
            if threading_support() < Threading::Multiple {
                let _ = report.send(Err("`MPI_THREAD_MULTIPLE` is needed"));
                return;
            }
            let world = SimpleCommunicator::world();
            let _ = report.send(Ok((world.rank() as usize, world.size() as usize)));
            receive(&world, &to);
            finalize(universe, &to);
        });
        let receiver = receiver.map_err(|error| failed(&error))?;
        let (rank, size) = started
            .recv()
            .map_err(|_| failed(&"it could not be initialized"))?
            .map_err(|error| failed(&error))?;
        let (mut outboxes, mut threads) = (Vec::new(), vec![receiver]);
        for to in 0..size {
            let (outbox, letters) = mpsc::channel();
            outboxes.push(outbox);
            if to != rank {
                let mailbox = mailbox.clone();
                let sender = thread::Builder::new().name(format!("mpi-send-{to}"));
                let sender = sender.spawn(move || send(to, letters, &mailbox));
                threads.push(sender.map_err(|error| failed(&error))?);
            }
        }
        Ok(Ranks {
            rank,
            size,
            limit,
            outboxes,
            mailbox,
            threads,
            broken: AtomicBool::new(false),
        })
    }

    /// Returns the number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of processes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the longest time that this rank waits for a message.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// The ranks but this one, beginning with the next one, so that not all send to the same first.
    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let (rank, size) = (self.rank, self.size);
        (1..size).map(move |i| (rank + i) % size)
    }

    /// The next operation of all ranks. It ends with [`retire`](Ranks::retire).
    pub(crate) fn operation(&self, kind: Kind) -> Operation {
        let mut letters = self.mailbox.lock();
        letters.begun += 1;
        let number = letters.begun;
        letters.open.insert(number);
        Operation { number, kind }
    }

    /// Ends an operation: its messages are thrown away.
    pub(crate) fn retire(&self, operation: Operation) {
        let mut letters = self.mailbox.lock();
        letters.open.remove(&operation.number);
        letters
            .by_key
            .retain(|(_, key), _| key >> INDEX_BITS != operation.number);
    }

    /// A message of this many words besides its key, to fill and send.
    pub(crate) fn message(&self, operation: Operation, index: usize, len: usize) -> Vec<u64> {
        let mut message = self.mailbox.buffer(len + 1);
        message[0] = operation.key(index);
        message
    }

    pub(crate) fn send(&self, to: usize, message: impl Into<Arc<Vec<u64>>>) {
        // The thread ends after this value only.
        let _ = self.outboxes[to].send(message.into());
    }

    /// Waits for a message, whose contents follow its key.
    pub(crate) fn receive(
        &self,
        from: usize,
        operation: Operation,
        index: usize,
        what: impl Fn() -> String,
    ) -> Result<Vec<u64>, Error> {
        let key = (from, operation.key(index));
        // Others may have waited for the same rank, or for one that waits for another one itself.
        let (mut is_late, grace) = (false, (self.limit / 4).min(MAX_GRACE));
        let outcome = self.wait(|letters, waited| {
            if let Some(message) = letters.by_key.remove(&key) {
                return Some(Ok(message));
            }
            if let Some((rank, reason)) = &letters.given_up {
                return Some(Err(Error::GivenUp {
                    rank: *rank,
                    reason: reason.clone(),
                }));
            }
            if letters.left.contains(&from) {
                return Some(Err(Error::Left {
                    rank: from,
                    what: what(),
                }));
            }
            if waited >= self.limit.saturating_add(grace) {
                let (rank, what) = letters.culprit(self.rank, from, what());
                return Some(Err(Error::Silent {
                    rank,
                    what,
                    limit: self.limit,
                }));
            }
            if waited >= self.limit && !is_late {
                is_late = true;
                let notice = [LATE, from as u64].into_iter().chain(words(&what()));
                self.send_to_all(notice.collect());
            }
            None
        });
        outcome.inspect_err(|error| self.give_up(error))
    }

    /// Receives messages until `ready` returns something.
    fn wait<T>(&self, mut ready: impl FnMut(&mut Letters, Duration) -> Option<T>) -> T {
        let (start, mut pause) = (Instant::now(), Pause::new());
        let ready = &mut |waited| ready(&mut self.mailbox.lock(), waited);
        if let Some(done) = ready(Duration::ZERO) {
            return done;
        }
        let world = SimpleCommunicator::world();
        self.mailbox.awaited.store(true, Ordering::Relaxed);
        loop {
            if receive_one(&world, &self.mailbox) {
                pause = Pause::new();
            } else {
                pause.wait();
            }
            if let Some(done) = ready(start.elapsed()) {
                self.mailbox.awaited.store(false, Ordering::Relaxed);
                return done;
            }
        }
    }

    fn send_to_all(&self, message: Vec<u64>) {
        let message = Arc::new(message);
        self.others().for_each(|to| self.send(to, message.clone()));
    }

    /// Returns a buffer to those that messages are received into.
    pub(crate) fn recycle(&self, message: Vec<u64>) {
        self.mailbox.recycle(message);
    }

    /// Tells all ranks to give up for this reason.
    pub(crate) fn give_up(&self, reason: &Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            let reason = match reason {
                Error::GivenUp { reason, .. } => reason.clone(),
                other => other.to_string(),
            };
            self.send_to_all(std::iter::once(GIVES_UP).chain(words(&reason)).collect());
        }
    }

    /// Sends words to all other ranks and returns those of all ranks, by rank. `what` is the call
    /// that needs them.
    pub(crate) fn all_gather(&self, own: Vec<u64>, what: &str) -> Result<Vec<Vec<u64>>, Error> {
        let operation = self.operation(Kind::Words);
        let head = [operation.key(0)].into_iter().chain(words(what));
        let head: Vec<u64> = head.collect();
        self.send_to_all(head.iter().chain(&own).copied().collect());
        let all = (0..self.size).map(|from| {
            if from == self.rank {
                return Ok(own.clone());
            }
            let message = self.receive(from, operation, 0, || what.into())?;
            match message.strip_prefix(&head[..]) {
                Some(words) => Ok(words.to_vec()),
                None => {
                    let error = Error::OtherCall {
                        rank: from,
                        theirs: text(&message[1..]),
                        here: what.into(),
                    };
                    self.give_up(&error);
                    Err(error)
                }
            }
        });
        let all = all.collect();
        self.retire(operation);
        all
    }

    /// Adds up numbers of all ranks, in their order, such as losses and numbers of rows.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] if ranks have more or less numbers, or those of the connection.
    pub fn sum(&self, numbers: &[f64]) -> Result<Vec<f64>, Error> {
        let own = numbers.iter().map(|number| number.to_bits()).collect();
        let all = self.all_gather(own, "a sum of numbers")?;
        if let Some(rank) = all.iter().position(|of| of.len() != all[0].len()) {
            return Err(Error::Differs {
                rank,
                what: "the length of a sum".into(),
                theirs: all[rank].len().to_string(),
                first: all[0].len().to_string(),
            });
        }
        let sums = (0..numbers.len()).map(|i| all.iter().map(|of| f64::from_bits(of[i])).sum());
        Ok(sums.collect())
    }

    /// Waits until all ranks are here.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`], [`Error::Left`] or [`Error::GivenUp`].
    pub fn barrier(&self) -> Result<(), Error> {
        self.all_gather(Vec::new(), "a barrier").map(|_| ())
    }
}

impl Drop for Ranks {
    /// Ends the part of this rank. If all ranks are alive, they wait for each other.
    fn drop(&mut self) {
        self.send_to_all(vec![FAREWELL]);
        let broken = self.broken.load(Ordering::Relaxed) || thread::panicking();
        let all_leave = !broken && self.all_leave();
        self.outboxes.clear();
        let mut threads = mem::take(&mut self.threads);
        if all_leave {
            // They cannot have panicked.
            threads.drain(1..).for_each(|sender| drop(sender.join()));
        } else {
            // The reason for giving up should reach those that are alive.
            let start = Instant::now();
            while start.elapsed() < self.limit.min(LAST_WORDS)
                && !threads[1..].iter().all(JoinHandle::is_finished)
            {
                thread::sleep(NAP);
            }
        }
        self.mailbox.finalizes.store(all_leave, Ordering::Relaxed);
        self.mailbox.ends.store(true, Ordering::Relaxed);
        if all_leave {
            threads.drain(..).for_each(|receiver| drop(receiver.join()));
        }
    }
}

impl Ranks {
    /// Waits for the farewell of all others.
    fn all_leave(&self) -> bool {
        self.wait(|letters, waited| {
            if letters.left.len() + 1 >= self.size {
                return Some(true);
            }
            (letters.given_up.is_some() || waited >= self.limit).then_some(false)
        })
    }
}

/// Ever longer pauses of a thread that waits for MPI: other threads and ranks need the core.
struct Pause(u32);

impl Pause {
    fn new() -> Self {
        Pause(0)
    }

    fn wait(&mut self) {
        self.0 += 1;
        match self.0 {
            ..SPINS => thread::yield_now(),
            _ => thread::sleep(NAP),
        }
    }
}

/// The work of the receiving thread.
fn receive(world: &SimpleCommunicator, to: &Mailbox) {
    while !to.ends.load(Ordering::Relaxed) {
        if to.awaited.load(Ordering::Relaxed) {
            thread::sleep(20 * NAP);
        } else if !receive_one(world, to) {
            thread::sleep(NAP);
        }
    }
}

/// Receives a message if there is one.
fn receive_one(world: &SimpleCommunicator, to: &Mailbox) -> bool {
    let found = world.any_process().immediate_matched_probe_with_tag(TAG);
    let Some((message, status)) = found else {
        return false;
    };
    let len = status.count(u64::equivalent_datatype());
    let mut buffer = to.buffer(usize::try_from(len).unwrap_or_default());
    let status = message.matched_receive_into(&mut buffer[..]);
    to.put(status.source_rank() as usize, buffer);
    true
}

/// Finalizes MPI, or leaves that to the end of the process.
fn finalize(universe: Option<Universe>, to: &Mailbox) {
    if is_finalized() || !to.finalizes.load(Ordering::Relaxed) {
        mem::forget(universe);
    }
}

/// The work of a sending thread.
fn send(to: usize, letters: mpsc::Receiver<Arc<Vec<u64>>>, mailbox: &Mailbox) {
    let world = SimpleCommunicator::world();
    let process = world.process_at_rank(to as i32);
    for message in letters {
        // A blocking send would keep the core until the other rank receives.
        request::scope(|scope| {
            let mut sent = process.immediate_send_with_tag(scope, &message[..], TAG);
            let mut pause = Pause::new();
            while let Err(pending) = sent.test() {
                sent = pending;
                pause.wait();
            }
        });
        if let Ok(buffer) = Arc::try_unwrap(message) {
            mailbox.recycle(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_culprit_is_the_one_that_waits_for_nobody() {
        let mut letters = Letters::default();
        assert_eq!(letters.culprit(0, 2, "a".into()), (2, "a".into()));
        letters.late.insert(2, (1, "b".into()));
        letters.late.insert(3, (2, "c".into()));
        assert_eq!(letters.culprit(0, 2, "a".into()), (1, "b".into()));
        assert_eq!(letters.culprit(0, 3, "a".into()), (1, "b".into()));
        // Two that wait for each other.
        letters.late.insert(1, (2, "d".into()));
        assert_eq!(letters.culprit(0, 3, "a".into()), (3, "a".into()));
    }

    #[test]
    fn text_survives_as_words() {
        for of in ["", "a", "12345678", "`β` is 3", "123456789"] {
            assert_eq!(text(&words(of)), of);
        }
    }

    #[test]
    fn messages_of_earlier_operations_are_thrown_away() {
        let operation = |number| Operation {
            number,
            kind: Kind::Header,
        };
        let mailbox = Mailbox::default();
        mailbox.lock().begun = 5;
        mailbox.lock().open.extend([3, 5]);
        for number in 2..=6 {
            mailbox.put(1, vec![operation(number).key(0), 7]);
        }
        let letters = mailbox.lock();
        let kept = |number| letters.by_key.contains_key(&(1, operation(number).key(0)));
        // One that is to come, too.
        assert_eq!([2, 3, 4, 5, 6].map(kept), [false, true, false, true, true]);
    }
}
