//! When a step uses threads, and how.
use std::{
    hint,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
};
#[cfg(feature = "rayon")]
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// How long a caller waits for its helpers before it sleeps.
#[cfg(feature = "rayon")]
const AWAKE: Duration = Duration::from_millis(1);

/// From how much work on a step uses rayon's current pool, and in pieces of what size.
///
/// The result is the same bits for every value: these are about time only. The defaults come from measurements on two
/// cores: below about 100 us of work the wake-up of another thread costs more than it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Parallel {
    /// A step stays on the calling thread below this much work, in units of 0.1 ns of one core: the sum over its
    /// parameters of elements x the cost of the rule on one element. Default 1 000 000: 200 000 `f32` elements of Adam.
    pub min_work: u64,
    /// Elements in a task. Default 32 768; anything from 4 096 to 131 072 is as fast.
    pub chunk: usize,
}

impl Parallel {
    /// Never more than the calling thread.
    pub const SERIAL: Parallel = Parallel { min_work: u64::MAX, chunk: 1 << 15 };

    /// Whether `work` is enough for threads, and there are any.
    #[inline]
    pub(crate) fn pays(&self, work: u64) -> bool {
        work >= self.min_work && threads() > 1
    }
}

impl Default for Parallel {
    fn default() -> Self {
        Parallel { min_work: 1_000_000, chunk: 1 << 15 }
    }
}

#[cfg(feature = "rayon")]
fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(not(feature = "rayon"))]
fn threads() -> usize {
    1
}

/// Locks what is never held for more than a microsecond or two: far less than it takes to put a thread to sleep and wake it again.
pub(crate) fn lock<T>(queue: &Mutex<T>) -> MutexGuard<'_, T> {
    for attempt in 1_u32.. {
        match queue.try_lock() {
            Ok(queue) => return queue,
            Err(TryLockError::WouldBlock) if attempt % 256 == 0 => thread::yield_now(),
            Err(TryLockError::WouldBlock) => hint::spin_loop(),
            Err(TryLockError::Poisoned(_)) => break,
        }
    }
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` on every task. The caller works too: it drains the same queue as the helpers, so a step called from outside
/// the pool never waits for a thread to wake up. Tasks are made as they are taken, and one lock takes tasks of half a chunk
/// together, or a thousand small parameters would fight over it.
#[cfg(feature = "rayon")]
pub(crate) fn drain<T: Send>(
    tasks: impl Iterator<Item = T> + Send,
    helpers: usize,
    len: impl Fn(&T) -> usize + Sync,
    chunk: usize,
    work: impl Fn(T) + Sync,
) {
    let queue = Mutex::new(tasks.fuse());
    let helpers = helpers.min(threads() - 1);
    let busy = AtomicUsize::new(helpers);
    let worker = || {
        let mut batch = Vec::new();
        loop {
            let mut taken = 0;
            let mut queue = lock(&queue);
            while taken <= chunk / 2 {
                let Some(task) = queue.next() else { break };
                taken += len(&task).max(1);
                batch.push(task);
            }
            drop(queue);
            if batch.is_empty() {
                break;
            }
            batch.drain(..).for_each(&work);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| {
                worker();
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        worker();
        // Leaving the scope blocks a caller from outside the pool, and being woken again takes longer than a helper needs for
        // its last tasks: stay awake for these, but let a helper run that has no core of its own.
        let start = Instant::now();
        let outside = rayon::current_thread_index().is_none();
        while outside && busy.load(Ordering::Acquire) > 0 && start.elapsed() < AWAKE {
            thread::yield_now();
        }
    });
}

#[cfg(not(feature = "rayon"))]
pub(crate) fn drain<T>(
    tasks: impl Iterator<Item = T>,
    _helpers: usize,
    _len: impl Fn(&T) -> usize,
    _chunk: usize,
    work: impl Fn(T),
) {
    tasks.for_each(work);
}
