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

/// Jobs of one line that may wait before the link that causes them is not read any more.
const WAITING_COUNT_MAX: usize = 32;

/// Who causes jobs. Each class has its share of the threads, however many lines another has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nobody but ourselves: heartbeats, and new keys.
    Own,
    /// A server.
    Peer,
    /// A user.
    User,
    /// Whoever has a name and perhaps a password (PROTOCOL II.9): guesses must not be in the way of anybody else.
    Login,
    /// Whoever has not said, or not proved, who it is. Anybody can be many of those.
    Stranger,
}

/// Whose turn it is where everybody has something to do; who has nothing is passed over. So strangers get an eleventh, or a
/// quarter beside one other class, and everything that is idle; logins the same.
const ROUND: [Class; 11] = [
    Class::Own,
    Class::Peer,
    Class::User,
    Class::Own,
    Class::Peer,
    Class::User,
    Class::Own,
    Class::Peer,
    Class::User,
    Class::Login,
    Class::Stranger,
];

/// Jobs in the order in which they came: those that one link causes, or all strangers of one address.
pub(crate) struct Line {
    class: Class,
    jobs: Mutex<VecDeque<Box<dyn Job>>>,
    has_room: Notify,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({:?}, {} jobs)", self.class, lock(&self.jobs).len())
    }
}

impl Line {
    pub(crate) fn of(class: Class) -> Arc<Self> {
        Arc::new(Self {
            class,
            jobs: Mutex::default(),
            has_room: Notify::new(),
        })
    }

    /// Ready when few enough jobs wait: whoever makes us sign or verify waits for that before it is heard again. For one
    /// task at a time.
    pub(crate) async fn room(&self) {
        while lock(&self.jobs).len() > WAITING_COUNT_MAX {
            self.has_room.notified().await;
        }
    }

    /// The next job that somebody waits for, and whether there are more.
    fn take(&self) -> (Option<Box<dyn Job>>, bool) {
        let mut jobs = lock(&self.jobs);
        let mut next = jobs.pop_front();
        while next.as_ref().is_some_and(|job| !job.is_wanted()) {
            next = jobs.pop_front();
        }
        let has_more = !jobs.is_empty();
        drop(jobs);
        self.has_room.notify_one();
        (next, has_more)
    }
}

/// Something to do for somebody.
trait Job: Send {
    /// Whether somebody waits for it still: what a link had us do is of no use once the link is gone.
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Task<T, F> {
    work: F,
    done: oneshot::Sender<T>,
    waiting: Waiting,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Task<T, F> {
    fn is_wanted(&self) -> bool {
        !self.done.is_closed()
    }

    fn run(self: Box<Self>) {
        let Self { work, done, waiting } = *self;
        // Nothing of it is used afterwards but what it returns.
        let outcome = catch_unwind(AssertUnwindSafe(work));
        if outcome.is_err() {
            tracing::error!("a job of the signing pool panicked; whoever waits for it is refused");
            waiting.0.warned("pool_panic");
        }
        drop(waiting);
        if let Ok(outcome) = outcome {
            // Nobody waits any more when the link is gone.
            let _link_gone = done.send(outcome);
        }
    }
}

/// Counts a job until it is done, or not wanted any more.
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

/// A fixed number of threads, which take a job of each class in turn, and within a class of each line: however much one
/// link has us do, another waits for one job of it, and however many links strangers open, they are served as one.
///
/// A line itself has no bound; who submits has one: a link submits a verification only while it holds one of its few
/// places in line, and is not read while too many of its jobs wait; a stranger is not read before its frame is answered.
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

/// The lines that have jobs, each once, by class, in the order in which they are served.
#[derive(Debug, Default)]
struct Turns {
    own: VecDeque<Arc<Line>>,
    peers: VecDeque<Arc<Line>>,
    users: VecDeque<Arc<Line>>,
    logins: VecDeque<Arc<Line>>,
    strangers: VecDeque<Arc<Line>>,
    /// How far the round has come.
    place: usize,
    is_closed: bool,
}

impl Turns {
    fn of(&mut self, class: Class) -> &mut VecDeque<Arc<Line>> {
        match class {
            Class::Own => &mut self.own,
            Class::Peer => &mut self.peers,
            Class::User => &mut self.users,
            Class::Login => &mut self.logins,
            Class::Stranger => &mut self.strangers,
        }
    }

    /// The job whose turn it is, and whether its line is among those that wait again.
    fn next(&mut self) -> Option<(Box<dyn Job>, bool)> {
        let round = ROUND.iter().enumerate().cycle().skip(self.place).take(ROUND.len());
        for (place, class) in round {
            let lines = self.of(*class);
            // A line of which nothing is wanted takes nobody's turn.
            while let Some(line) = lines.pop_front() {
                let (job, has_more) = line.take();
                if has_more {
                    lines.push_back(line);
                }
                if let Some(job) = job {
                    self.place = place.saturating_add(1);
                    return Some((job, has_more));
                }
            }
        }
        None
    }
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

    /// Runs `work` on the pool when it is its turn in its line, if the receiver is still there then. The receiver fails
    /// only if the job panicked.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        line: &Arc<Line>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        let waiting = Waiting::new(Arc::clone(&self.metrics));
        let is_first = {
            let mut jobs = lock(&line.jobs);
            jobs.push_back(Box::new(Task { work, done, waiting }));
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
        lock(&self.turns).of(line.class).push_back(line);
        self.has_turn.notify_one();
    }

    /// The job whose turn it is; none at the end.
    fn next_turn(&self) -> Option<Box<dyn Job>> {
        let mut turns = lock(&self.turns);
        loop {
            if let Some((job, has_more)) = turns.next() {
                drop(turns);
                if has_more {
                    self.has_turn.notify_one();
                }
                return Some(job);
            }
            if turns.is_closed {
                return None;
            }
            turns = self.has_turn.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(shared: &Shared) {
    while let Some(job) = shared.next_turn() {
        job.run();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A pool of one thread, which is busy until told.
    struct Busy {
        pool: Pool,
        end: Sender<()>,
        results: Vec<oneshot::Receiver<()>>,
        done: Sender<&'static str>,
        order: Receiver<&'static str>,
    }

    impl Busy {
        fn new() -> Self {
            let pool = Pool::with_threads(Arc::new(Metrics::new()), 1).unwrap();
            let ((begun, has_begun), (end, ends), (done, order)) = (channel(), channel(), channel());
            let busy = pool.run(&Line::of(Class::Own), move || {
                begun.send(()).unwrap();
                ends.recv().unwrap();
            });
            has_begun.recv().unwrap();
            let results = vec![busy];
            Self {
                pool,
                end,
                results,
                done,
                order,
            }
        }

        fn submit(&mut self, line: &Arc<Line>, name: &'static str, count: usize) {
            for _ in 0..count {
                let done = self.done.clone();
                let job = self.pool.run(line, move || done.send(name).unwrap());
                self.results.push(job);
            }
        }

        /// What was done in which order.
        async fn end(self) -> Vec<&'static str> {
            self.end.send(()).unwrap();
            for result in self.results {
                result.await.unwrap();
            }
            drop(self.done);
            self.order.iter().collect()
        }
    }

    fn waiting(pool: &Pool) -> i64 {
        pool.metrics.pool_queue.get()
    }

    #[tokio::test]
    async fn a_link_that_floods_delays_another_by_one_job() {
        let mut busy = Busy::new();
        busy.submit(&Line::of(Class::User), "flood", 1000);
        busy.submit(&Line::of(Class::User), "other", 3);
        let order = busy.end().await;
        assert_eq!(order.len(), 1003);
        assert_eq!(order[..6], ["flood", "other"].repeat(3));
    }

    #[tokio::test]
    async fn within_a_line_the_order_is_kept() {
        let mut busy = Busy::new();
        let line = Line::of(Class::Peer);
        for name in ["1", "2", "3", "4"] {
            busy.submit(&line, name, 1);
        }
        assert_eq!(busy.end().await, ["1", "2", "3", "4"]);
    }

    #[tokio::test]
    async fn any_number_of_strangers_is_served_as_one_class() {
        let mut busy = Busy::new();
        for _ in 0..200 {
            busy.submit(&Line::of(Class::Stranger), "stranger", 3);
        }
        busy.submit(&Line::of(Class::Peer), "peer", 12);
        busy.submit(&Line::of(Class::Own), "own", 3);
        for _ in 0..2 {
            busy.submit(&Line::of(Class::User), "user", 3);
        }
        let order = busy.end().await;
        let last = |name| order.iter().rposition(|done| *done == name).unwrap();
        let strangers = |count: usize| order[..count].iter().filter(|done| **done == "stranger").count();
        assert!(last("own") <= 9, "{order:?}");
        // Nine turns of others to one of theirs; three while only one other class has something to do.
        assert!(strangers(last("user")) <= 2, "{order:?}");
        assert!(strangers(last("peer")) <= 4, "{order:?}");
        assert_eq!(order.len(), 600 + 12 + 3 + 6);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_done_and_takes_no_turn() {
        let mut busy = Busy::new();
        let (one, other) = (Line::of(Class::Stranger), Line::of(Class::Stranger));
        busy.submit(&one, "gone", 1000);
        busy.submit(&one, "there", 1);
        for _ in 0..1000 {
            busy.submit(&Line::of(Class::Stranger), "gone", 1);
        }
        busy.submit(&other, "other", 1);
        let (mut at, wanted) = (0, [0, 1001, 2002]);
        busy.results.retain(|_| (wanted.contains(&at), at += 1).0);
        let pool = busy.pool.clone();
        assert_eq!(busy.end().await, ["there", "other"]);
        assert_eq!(waiting(&pool), 0);
    }

    #[tokio::test]
    async fn who_makes_much_work_has_to_wait_and_others_have_not() {
        let mut busy = Busy::new();
        let (flood, idle) = (Line::of(Class::User), Line::of(Class::User));
        busy.submit(&flood, "flood", WAITING_COUNT_MAX);
        assert!(flood.room().now_or_never().is_some());
        busy.submit(&flood, "flood", 1);
        assert!(flood.room().now_or_never().is_none());
        assert!(idle.room().now_or_never().is_some());
        let (done, ()) = tokio::join!(busy.end(), flood.room());
        assert_eq!(done.len(), WAITING_COUNT_MAX + 1);
    }

    #[tokio::test]
    async fn a_job_that_panics_ends_no_thread_and_is_counted() {
        let pool = Pool::with_threads(Arc::new(Metrics::new()), 1).unwrap();
        let line = Line::of(Class::User);
        let panicking: oneshot::Receiver<()> = pool.run(&line, || std::panic::resume_unwind(Box::new("a bug")));
        assert!(panicking.await.is_err());
        assert_eq!(pool.run(&line, || 7).await, Ok(7));
        assert_eq!((waiting(&pool), pool.metrics.warnings_of("pool_panic")), (0, 1));
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
