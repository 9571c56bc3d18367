//! When and how a step uses threads.
#[cfg(feature = "rayon")]
use std::{
    error::Error,
    panic::catch_unwind,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};
use std::{
    hint,
    sync::{Mutex, MutexGuard, TryLockError},
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
/// work.
///
/// A step outside of a pool that is large enough starts rayon's global pool. If the system allows
/// no more threads, steps run on the calling thread. It needs up to 192 KiB of stack in a debug
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
    /// Number of elements in a task. Default 32 768; any value from 4 096 to 131 072 is as fast.
    pub chunk: usize,
}

impl Parallel {
    /// Runs every step on the calling thread, whatever its work. No pool is started or used.
    pub const SERIAL: Parallel = Parallel {
        min_work: u64::MAX,
        chunk: 1 << 15,
    };

    /// Whether there are other threads and `work` is enough for them.
    #[inline]
    pub(crate) fn pays(&self, work: u64) -> bool {
        work >= self.min_work && self.min_work != Self::SERIAL.min_work && threads() > 1
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
            chunk: 1 << 15,
        }
    }
}

/// The number of threads of the current pool.
#[cfg(feature = "rayon")]
fn threads() -> usize {
    static GLOBAL: OnceLock<bool> = OnceLock::new();
    let in_pool = rayon::current_thread_index().is_some();
    if in_pool || *GLOBAL.get_or_init(start_global_pool) {
        rayon::current_num_threads()
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
fn threads() -> usize {
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

/// Calls `work` with every task.
///
/// The caller drains the same queue as the helpers, so that a step called from outside the pool
/// never waits for a thread to wake up. Tasks are created when they are taken. Tasks of half a
/// chunk together are taken under one lock, which limits contention among many small parameters.
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
