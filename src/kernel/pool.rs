//! When and how a step uses threads.
#[cfg(feature = "rayon")]
use std::{
    cell::Cell,
    collections::VecDeque,
    error::Error,
    panic::catch_unwind,
    sync::OnceLock,
    time::{Duration, Instant},
};
use std::{
    hint,
    sync::{
        Mutex, MutexGuard, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How often the caller lets other threads run before it blocks until its helpers are done: about a
/// millisecond, counted because not all platforms have a clock.
#[cfg(feature = "rayon")]
const YIELDS: u32 = 2_000;

/// Threshold and chunk size of multithreaded steps, which run in rayon's current pool.
///
/// Both affect time only: the results are the same bits for every value. The defaults come from
/// measurements on two cores, where waking another thread does not pay off below about 100 us of
/// work. A quarter of `min_work` is enough for a step that follows another one within 20 us, when
/// the threads are awake still, unless such a step took long: then the cores are busy.
///
/// A step outside of a pool that is large enough starts rayon's global pool. If the system allows
/// no more threads, steps run on the calling thread. It needs up to 256 KiB of stack in a debug
/// build, and less in a release build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Parallel {
    /// Minimum work of a multithreaded step, in units of 0.1 ns on one core: the sum over all
    /// parameters of the number of elements times the cost of the rule on one element. Default
    /// 1 000 000, which is 200 000 `f32` elements of Adam.
    pub min_work: u64,
    /// Number of elements in a task. Default 16 384. Arrays that are no slices have up to eight times
    /// as many.
    pub chunk: usize,
}

impl Parallel {
    /// Runs every step on the calling thread, whatever its work. No pool is started or used.
    pub const SERIAL: Parallel = Parallel {
        min_work: u64::MAX,
        chunk: 1 << 14,
    };

    /// Whether `work` can be enough for threads.
    #[inline]
    pub(crate) fn is_large(&self, work: u64) -> bool {
        work >= self.min_work / 4 && self.min_work != Self::SERIAL.min_work
    }

    /// Whether to use other threads: if one of them has a core, and if there is enough work, of
    /// which a quarter will do while threads are awake.
    #[inline]
    pub(crate) fn pays(&self, work: u64) -> bool {
        self.is_large(work) && free_cores() > 1 && (work >= self.min_work || are_awake())
    }

    /// Begins a step, which takes a core until the result is dropped.
    #[inline]
    pub(crate) fn begin(&self, work: u64) -> Option<InProgress> {
        self.is_large(work).then(InProgress::new)
    }
}

/// The work on some elements, in the unit of [`Parallel::min_work`]; the cost of a user's rule can
/// be any number.
#[inline]
pub(crate) fn work(elements: usize, cost: u64) -> u64 {
    (elements as u64).saturating_mul(cost)
}

impl Default for Parallel {
    fn default() -> Self {
        Parallel {
            min_work: 1_000_000,
            chunk: 1 << 14,
        }
    }
}

/// For how long idle threads of rayon are awake.
#[cfg(feature = "rayon")]
const AWAKE: Duration = Duration::from_micros(20);

/// The time to wake a thread, at most.
#[cfg(feature = "rayon")]
const WAKING: Duration = Duration::from_micros(100);

/// For how long small steps use one thread after one whose helpers had no core for themselves, over
/// the time that was lost: at most a twentieth of all time is lost then.
#[cfg(feature = "rayon")]
const ALONE: u32 = 20;

#[cfg(feature = "rayon")]
thread_local! {
    /// From when to when other threads are awake, as far as steps of this thread can tell.
    static WINDOW: Cell<Option<(Instant, Instant)>> = const { Cell::new(None) };
}

/// Notes the end of a step: threads are awake for a while. Where there are no threads there may be
/// no clock.
#[cfg(feature = "rayon")]
fn note_end() {
    if cores() > 1 {
        let now = Instant::now();
        let from = WINDOW.get().map_or(now, |(from, _)| from);
        WINDOW.set(Some((from, now + AWAKE)));
    }
}

#[cfg(feature = "rayon")]
fn are_awake() -> bool {
    let now = Instant::now();
    (WINDOW.get()).is_some_and(|(from, until)| from <= now && now < until)
}

/// Calls a function that uses threads for `work`. If it takes more than twice as long as one thread
/// is expected to take, and waking another, then other programs have its core, and threads count as
/// asleep for a while.
#[cfg(feature = "rayon")]
pub(crate) fn watch(work: u64, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let (took, expected) = (start.elapsed(), Duration::from_nanos(work / 10));
    if took > 2 * expected + WAKING {
        let now = Instant::now();
        let from = now.checked_add(ALONE * (took - expected));
        WINDOW.set(Some((from.unwrap_or(now), now)));
    }
}

#[cfg(not(feature = "rayon"))]
pub(crate) fn watch(_work: u64, run: impl FnOnce()) {
    run();
}

#[cfg(not(feature = "rayon"))]
fn note_end() {}

#[cfg(not(feature = "rayon"))]
fn are_awake() -> bool {
    false
}

/// The number of large steps in progress, of all threads of the program.
static STEPS: AtomicUsize = AtomicUsize::new(0);

/// A large step, on one thread or several.
#[derive(Debug)]
pub(crate) struct InProgress(());

impl InProgress {
    fn new() -> Self {
        STEPS.fetch_add(1, Ordering::Relaxed);
        InProgress(())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        STEPS.fetch_sub(1, Ordering::Relaxed);
        note_end();
    }
}

/// The number of cores for a step of this thread: each step of another one takes a core.
#[cfg(feature = "rayon")]
fn free_cores() -> usize {
    let others = STEPS.load(Ordering::Relaxed).saturating_sub(1);
    cores().saturating_sub(others)
}

/// The number of threads of the current pool that have a core.
#[cfg(feature = "rayon")]
fn cores() -> usize {
    static GLOBAL: OnceLock<bool> = OnceLock::new();
    static CORES: OnceLock<usize> = OnceLock::new();
    let in_pool = rayon::current_thread_index().is_some();
    if in_pool || *GLOBAL.get_or_init(start_global_pool) {
        let cores = || thread::available_parallelism().map_or(usize::MAX, usize::from);
        rayon::current_num_threads().min(*CORES.get_or_init(cores))
    } else {
        1
    }
}

/// Whether there is a global pool, which is started if necessary. Without threads, asking rayon for
/// the size of the pool would panic.
#[cfg(feature = "rayon")]
fn start_global_pool() -> bool {
    // Without threads, rayon uses the calling one there, but not for this builder.
    if cfg!(target_family = "wasm") {
        return true;
    }
    match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        // The system's refusal has a source.
        Err(error) if error.source().is_some() => false,
        // Somebody else has tried before, and may have failed.
        Err(_) => catch_unwind(rayon::current_num_threads).is_ok(),
    }
}

#[cfg(not(feature = "rayon"))]
fn free_cores() -> usize {
    1
}

/// Locks a mutex that is never held for more than a microsecond or two, by spinning: putting a
/// thread to sleep and waking it again takes far longer.
pub(crate) fn lock<T>(queue: &Mutex<T>) -> MutexGuard<'_, T> {
    let mut attempt = 0_u8;
    loop {
        match queue.try_lock() {
            Ok(queue) => return queue,
            Err(TryLockError::Poisoned(error)) => return error.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
        attempt = attempt.wrapping_add(1);
        if attempt == 0 {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
}

/// Elements that a thread should have at least.
const PART: usize = 4096;

/// Calls `work` with every task, a large part of an array of `size` elements, on several threads if
/// there is enough work.
pub(crate) fn on_threads<T: Send>(
    tasks: impl Iterator<Item = T>,
    size: usize,
    parallel: &Parallel,
    work: impl Fn(T) + Sync,
) {
    if parallel.pays(self::work(size, 2)) {
        let tasks: Vec<T> = tasks.collect();
        let all = tasks.len() * PART;
        drain(tasks.into_iter(), |_| PART, all, work);
    } else {
        tasks.for_each(work);
    }
}

/// Calls `work` with every task, on the calling thread and on those of rayon's current pool. `all` is
/// the number of elements of all tasks together.
///
/// Each thread has a part of the tasks of its own, next to each other in memory, and takes from its
/// front: from 1e6 elements on that is faster than one queue for all. A thread without tasks takes
/// from the ends of other parts, so that the caller does not wait for a thread that is slow to wake
/// up or has no core.
#[cfg(feature = "rayon")]
pub(crate) fn drain<T: Send>(
    tasks: impl Iterator<Item = T>,
    len: impl Fn(&T) -> usize,
    all: usize,
    work: impl Fn(T) + Sync,
) {
    let parts = split(tasks, len, all, free_cores().min(all / PART).max(1));
    on_cores(parts.len(), &|own| {
        let take = || {
            let mut others = (own + 1..parts.len()).chain(0..own);
            let mine = lock(&parts[own]).pop_front();
            mine.or_else(|| others.find_map(|other| lock(&parts[other]).pop_back()))
        };
        while let Some(task) = take() {
            work(task);
        }
    });
}

/// Calls `worker` with each index below `count`, with 0 on the calling thread.
#[cfg(feature = "rayon")]
fn on_cores(count: usize, worker: &(dyn Fn(usize) + Sync)) {
    let busy = AtomicUsize::new(count - 1);
    rayon::in_place_scope(|scope| {
        for own in 1..count {
            let busy = &busy;
            scope.spawn(move |_| {
                worker(own);
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        worker(0);
        // Leaving the scope blocks a caller from outside the pool, and waking it takes longer than
        // the last tasks of a helper. So the caller stays awake, but yields to a helper without a
        // core of its own.
        if rayon::current_thread_index().is_none() {
            for _ in 0..YIELDS {
                if busy.load(Ordering::Acquire) == 0 {
                    break;
                }
                thread::yield_now();
            }
        }
    });
    note_end();
}

/// Splits tasks with `all` elements together into parts of about the same length.
#[cfg(feature = "rayon")]
fn split<T>(
    tasks: impl Iterator<Item = T>,
    len: impl Fn(&T) -> usize,
    all: usize,
    count: usize,
) -> Vec<Mutex<VecDeque<T>>> {
    let mut parts: Vec<VecDeque<T>> = (0..count).map(|_| VecDeque::new()).collect();
    let (mut own, mut before) = (0, 0);
    for task in tasks {
        // The part that the middle of the task belongs to.
        let middle = before + len(&task) / 2;
        while own + 1 < count && middle as u128 * count as u128 >= (own as u128 + 1) * all as u128 {
            own += 1;
        }
        before += len(&task);
        parts[own].push_back(task);
    }
    parts.into_iter().map(Mutex::new).collect()
}

#[cfg(not(feature = "rayon"))]
pub(crate) fn drain<T>(
    tasks: impl Iterator<Item = T>,
    _len: impl Fn(&T) -> usize,
    _all: usize,
    work: impl Fn(T),
) {
    tasks.for_each(work);
}
