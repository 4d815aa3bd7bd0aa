//! Threads for work of a few microseconds: they spin a little for the next job, then park.
//!
//! A job is a number of chunks. Each thread has a range of them, consecutive ones, which it takes one by one, so that it
//! reads memory straight through and finds in its cache what it had there before; then it takes from the work of
//! others. So a thread that the system has put aside holds up nobody unless it sits on a chunk, and which thread does a
//! chunk has no influence on the result. The caller takes part.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use longhand_proto::clock;

/// Turns of the spin loop before a thread parks: about 50 us, several times the gap between two jobs of one step.
const SPINS: u32 = 2_000;
/// Rows below which small work is not worth waking anybody for.
const FEW_ROWS: usize = 4;
const INDEX_BITS: u32 = 32;

type Job = *const (dyn Fn(usize) + Sync);

/// What is left of one thread's range: its end in the high half, the next chunk to take in the low half. On a cache line
/// of its own.
#[repr(align(128))]
struct WorkRange(AtomicU64);

impl WorkRange {
    fn set(&self, chunks: Range<usize>) {
        self.0.store((chunks.end as u64) << INDEX_BITS | chunks.start as u64, Ordering::SeqCst);
    }

    fn is_empty_in(word: u64) -> bool {
        word as u32 >= (word >> INDEX_BITS) as u32
    }

    fn is_empty(&self) -> bool {
        Self::is_empty_in(self.0.load(Ordering::SeqCst))
    }

    fn take(&self) -> Option<usize> {
        if Self::is_empty_in(self.0.load(Ordering::Acquire)) {
            return None;
        }
        let word = self.0.fetch_add(1, Ordering::AcqRel);
        (!Self::is_empty_in(word)).then_some(word as u32 as usize)
    }
}

/// The current job, and what is known of its threads.
struct JobState {
    /// One per thread, the caller's first.
    ranges: Vec<WorkRange>,
    /// Of the current job.
    chunks: AtomicUsize,
    /// Valid as long as a chunk of it is taken and not done.
    job: UnsafeCell<Option<Job>>,
    done: AtomicUsize,
    /// The caller has parked and wants to be woken by the last chunk.
    caller_parked: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    stop: AtomicBool,
}

// SAFETY: `job` is written by the caller only while no chunk is out, and read only by holders of a chunk.
unsafe impl Sync for JobState {}
// SAFETY: the raw job pointer is used as described above.
unsafe impl Send for JobState {}

impl JobState {
    /// Takes a chunk of the current job for thread `me` and runs it. False if there is none.
    fn work(&self, me: usize) -> bool {
        let (before, from_me) = self.ranges.split_at(me);
        let Some(chunk) = from_me.iter().chain(before).find_map(WorkRange::take) else { return false };
        // SAFETY: we hold a chunk that is not done, so the caller waits in `run`: it neither replaces the job nor
        // leaves the frame that the closure lives in.
        let job = unsafe { (*self.job.get()).map(|job| &*job) };
        if let Some(job) = job
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(chunk)))
        {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        if self.done.fetch_add(1, Ordering::SeqCst) + 1 == self.chunks.load(Ordering::Relaxed)
            && self.caller_parked.load(Ordering::SeqCst)
            && let Some(caller) = &*self.caller.lock().unwrap_or_else(PoisonError::into_inner)
        {
            caller.unpark();
        }
        true
    }

    fn has_work(&self) -> bool {
        !self.ranges.iter().all(WorkRange::is_empty)
    }

    fn serve(&self, me: usize) {
        let mut timer = YieldTimer::new();
        while !self.stop.load(Ordering::Acquire) {
            timer.yield_if_due();
            let mut spins = 0;
            while !self.work(me) {
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                    continue;
                }
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                if !self.has_work() && !self.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                break;
            }
        }
    }
}

/// Gives the processor to others now and then, while no chunk is held. The system would else do so at a time of its own,
/// mostly in the middle of a chunk, for which everybody waits until the thread's next turn.
struct YieldTimer(Instant);

impl YieldTimer {
    /// Shorter than what the system lets a thread run before another one.
    const LENGTH: Duration = Duration::from_micros(500);

    fn new() -> Self {
        Self(clock::now())
    }

    fn yield_if_due(&mut self) {
        if self.0.elapsed() >= Self::LENGTH {
            thread::yield_now();
            self.0 = clock::now();
        }
    }
}

/// The chunks that a thread does unless others are faster.
pub(crate) fn work_range(chunks: usize, thread: usize, threads: usize) -> Range<usize> {
    chunks * thread / threads..chunks * (thread + 1) / threads
}

/// A fixed set of threads; dropped, it ends them.
pub(crate) struct Pool {
    state: Arc<JobState>,
    workers: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// `threads` counts the caller, so 1 starts none.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let state = Arc::new(JobState {
            ranges: (0..threads).map(|_| WorkRange(AtomicU64::new(0))).collect(),
            chunks: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            done: AtomicUsize::new(0),
            caller_parked: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let mut pool = Self { state, workers: Vec::new() };
        for index in 1..threads {
            let state = Arc::clone(&pool.state);
            pool.workers.push(thread::Builder::new().name(format!("cpu-{index}")).spawn(move || state.serve(index))?);
        }
        Ok(pool)
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(0)` to `job(chunks - 1)`, in any order and at the same time, and returns when all are done.
    pub(crate) fn run(&mut self, chunks: usize, job: &(dyn Fn(usize) + Sync)) {
        if chunks <= 1 || self.workers.is_empty() {
            (0..chunks).for_each(job);
            return;
        }
        assert!(chunks < 1 << 31, "{chunks} chunks");
        let state = &*self.state;
        // SAFETY: only the lifetime is erased. No chunk is out (the last `run` waited for all), so nobody reads `job`
        // now, and this frame is not left before all chunks of it are done.
        unsafe {
            *state.job.get() =
                Some(std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(std::ptr::from_ref(job)));
        }
        state.done.store(0, Ordering::Relaxed);
        state.chunks.store(chunks, Ordering::Relaxed);
        for (thread, range) in state.ranges.iter().enumerate() {
            range.set(work_range(chunks, thread, state.ranges.len()));
        }
        // Pairs with the sleeper's increment: either we see it asleep or it sees the work.
        fence(Ordering::SeqCst);
        if state.sleepers.load(Ordering::SeqCst) > 0 {
            self.workers.iter().for_each(|worker| worker.thread().unpark());
        }
        while state.work(0) {}
        self.wait(chunks);
        let panic = state.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Runs small jobs, which `rows` rows are the work of: here if these are few.
    pub(crate) fn spread(&mut self, jobs: usize, rows: usize, job: &(dyn Fn(usize) + Sync)) {
        if rows < FEW_ROWS { (0..jobs).for_each(job) } else { self.run(jobs, job) }
    }

    fn wait(&self, chunks: usize) {
        let state = &*self.state;
        let is_done = || state.done.load(Ordering::SeqCst) == chunks;
        for _ in 0..SPINS {
            if is_done() {
                return;
            }
            std::hint::spin_loop();
        }
        *state.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        state.caller_parked.store(true, Ordering::SeqCst);
        while !is_done() {
            thread::park();
        }
        state.caller_parked.store(false, Ordering::SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its jobs, so it cannot have died of one.
            worker.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads).unwrap();
            for chunks in [0, 1, 2, 7, 300].repeat(40) {
                let runs: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(chunks, &|chunk| {
                    runs[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads, {chunks}");
            }
        }
    }

    #[test]
    fn a_panic_in_a_chunk_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(3).unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(50, &|chunk| assert_ne!(chunk, 33))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(50, &|chunk| {
            sum.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 49 * 50 / 2);
    }
}
