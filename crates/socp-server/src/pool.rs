//! Threads for RSA: a signature costs milliseconds, which no reactor thread may spend.

use crate::error::ServerError;
use crate::metrics::Metrics;
use std::collections::VecDeque;
use std::fmt;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::{Notify, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// Jobs of one line that may wait before the link that causes them is not read any more.
const WAITING_COUNT_MAX: usize = 32;

/// The jobs that one link causes, in the order in which they came.
#[derive(Default)]
pub(crate) struct Line {
    jobs: Mutex<VecDeque<Job>>,
    has_room: Notify,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} jobs)", lock(&self.jobs).len())
    }
}

impl Line {
    /// Ready when few enough jobs wait: whoever makes us sign or verify waits for that before it is heard again. For one
    /// task at a time.
    pub(crate) async fn room(&self) {
        while lock(&self.jobs).len() > WAITING_COUNT_MAX {
            self.has_room.notified().await;
        }
    }
}

/// Counts a job until it is done.
struct Waiting(Arc<Metrics>);

impl Waiting {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.pool_queue.inc();
        Self(metrics)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.pool_queue.dec();
    }
}

/// A fixed number of threads, which take a job of each line in turn: however much one link has us do, another waits for
/// one job of it.
///
/// A line itself has no bound; who submits has one: a link submits a verification only while it holds one of its few
/// places in line, and is not read while too many of its jobs wait.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// Ends the threads with the last pool.
    _open: Arc<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Shared {
    turns: Mutex<Turns>,
    has_turn: Condvar,
}

/// The lines that have jobs, each once, in the order in which they are served.
#[derive(Debug, Default)]
struct Turns {
    lines: VecDeque<Arc<Line>>,
    is_closed: bool,
}

#[derive(Debug)]
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0.turns).is_closed = true;
        self.0.has_turn.notify_all();
    }
}

impl Pool {
    /// One thread per core.
    pub(crate) fn start(metrics: Arc<Metrics>) -> Result<Self, ServerError> {
        Self::with_threads(metrics, thread::available_parallelism().map_or(2, NonZero::get))
    }

    fn with_threads(metrics: Arc<Metrics>, count: usize) -> Result<Self, ServerError> {
        let shared = Arc::new(Shared {
            turns: Mutex::default(),
            has_turn: Condvar::new(),
        });
        let open = Arc::new(Open(Arc::clone(&shared)));
        for number in 0..count {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("rsa-{number}"))
                .stack_size(512 * 1024)
                .spawn(move || work(&shared))
                .map_err(|error| ServerError::Part {
                    part: "signing pool",
                    reason: error.to_string(),
                })?;
        }
        Ok(Self {
            shared,
            _open: open,
            metrics,
        })
    }

    /// Runs `job` on the pool when it is its turn in its line. The receiver fails only if the job panicked.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        line: &Arc<Line>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        let waiting = Waiting::new(Arc::clone(&self.metrics));
        let job = move || {
            // Nothing of it is used afterwards but what it returns.
            let outcome = catch_unwind(AssertUnwindSafe(job));
            if outcome.is_err() {
                tracing::error!("a job of the signing pool panicked; whoever waits for it is refused");
                waiting.0.warned("pool_panic");
            }
            drop(waiting);
            if let Ok(outcome) = outcome {
                // Nobody waits any more when the link is gone.
                let _link_gone = done.send(outcome);
            }
        };
        let is_first = {
            let mut jobs = lock(&line.jobs);
            jobs.push_back(Box::new(job));
            jobs.len() == 1
        };
        // A line with more jobs has a turn already, or whoever serves it now gives it the next.
        if is_first {
            self.shared.give_turn(Arc::clone(line));
        }
        result
    }
}

impl Shared {
    fn give_turn(&self, line: Arc<Line>) {
        lock(&self.turns).lines.push_back(line);
        self.has_turn.notify_one();
    }

    /// The line whose turn it is; none at the end.
    fn next_turn(&self) -> Option<Arc<Line>> {
        let mut turns = lock(&self.turns);
        loop {
            if let Some(line) = turns.lines.pop_front() {
                return Some(line);
            }
            if turns.is_closed {
                return None;
            }
            turns = self.has_turn.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(shared: &Shared) {
    while let Some(line) = shared.next_turn() {
        let (job, is_last) = {
            let mut jobs = lock(&line.jobs);
            (jobs.pop_front(), jobs.is_empty())
        };
        line.has_room.notify_one();
        if !is_last {
            shared.give_turn(line);
        }
        if let Some(job) = job {
            job();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::mpsc::channel;

    /// A pool of one thread, and a job in it that ends when told.
    fn busy_pool() -> (Pool, std::sync::mpsc::Sender<()>) {
        let pool = Pool::with_threads(Arc::new(Metrics::new()), 1).unwrap();
        let (begun, has_begun) = channel();
        let (end, ends) = channel();
        drop(pool.run(&Arc::default(), move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
        }));
        has_begun.recv().unwrap();
        (pool, end)
    }

    #[tokio::test]
    async fn a_link_that_floods_delays_another_by_one_job() {
        let (pool, end) = busy_pool();
        let (flood, other): (Arc<Line>, Arc<Line>) = Default::default();
        let (done, order) = channel();
        let mut last = None;
        for number in 0..1000 {
            let done = done.clone();
            last = Some(pool.run(&flood, move || done.send(("flood", number)).unwrap()));
        }
        for number in 0..3 {
            let done = done.clone();
            drop(pool.run(&other, move || done.send(("other", number)).unwrap()));
        }
        end.send(()).unwrap();
        last.unwrap().await.unwrap();
        drop(done);
        let order: Vec<_> = order.iter().collect();
        assert_eq!(order.len(), 1003);
        let expected = [
            ("flood", 0),
            ("other", 0),
            ("flood", 1),
            ("other", 1),
            ("flood", 2),
            ("other", 2),
        ];
        assert_eq!(order[..6], expected);
        // Within a line the order is kept.
        assert!(order[6..].is_sorted_by_key(|(_, number)| *number));
    }

    #[tokio::test]
    async fn who_makes_much_work_has_to_wait_and_others_have_not() {
        let (pool, end) = busy_pool();
        let (busy, idle): (Arc<Line>, Arc<Line>) = Default::default();
        for _ in 0..WAITING_COUNT_MAX {
            drop(pool.run(&busy, || {}));
        }
        assert!(busy.room().now_or_never().is_some());
        drop(pool.run(&busy, || {}));
        assert!(busy.room().now_or_never().is_none());
        assert!(idle.room().now_or_never().is_some());
        end.send(()).unwrap();
        busy.room().await;
    }

    #[tokio::test]
    async fn a_job_that_panics_ends_no_thread_and_is_counted() {
        let pool = Pool::with_threads(Arc::new(Metrics::new()), 1).unwrap();
        let line = Arc::default();
        let panicking: oneshot::Receiver<()> = pool.run(&line, || std::panic::resume_unwind(Box::new("a bug")));
        assert!(panicking.await.is_err());
        assert_eq!(pool.run(&line, || 7).await, Ok(7));
        assert_eq!(
            (pool.metrics.pool_queue.get(), pool.metrics.warnings_of("pool_panic")),
            (0, 1)
        );
    }

    #[test]
    fn the_threads_end_with_the_last_pool() {
        let pool = Pool::with_threads(Arc::new(Metrics::new()), 2).unwrap();
        let threads = Arc::downgrade(&pool.shared);
        drop(pool.clone());
        assert!(threads.upgrade().is_some());
        drop(pool);
        while threads.upgrade().is_some() {
            thread::yield_now();
        }
    }
}
