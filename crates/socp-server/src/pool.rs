//! Threads for RSA: a signature costs milliseconds, which no reactor thread may spend.

use crate::error::ServerError;
use crate::metrics::Metrics;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads that take jobs in the order in which they come.
///
/// The queue itself has no bound; who submits has one: a link submits a verification only while it holds one of its
/// few places in line, and a draft only while its outbox has room.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    jobs: Sender<Job>,
    metrics: Arc<Metrics>,
}

impl Pool {
    /// One thread per core.
    pub(crate) fn start(metrics: Arc<Metrics>) -> Result<Self, ServerError> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let count = thread::available_parallelism().map_or(2, NonZero::get);
        for number in 0..count {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("rsa-{number}"))
                .stack_size(512 * 1024)
                .spawn(move || work(&queue))
                .map_err(|error| ServerError::Part {
                    part: "signing pool",
                    reason: error.to_string(),
                })?;
        }
        Ok(Self { jobs, metrics })
    }

    /// Runs `job` on the pool. The receiver fails only if the job panicked.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        let waiting = self.metrics.pool_queue.clone();
        waiting.inc();
        let job = move || {
            // Nobody waits any more when the link is gone.
            let _link_gone = done.send(job());
            waiting.dec();
        };
        // The threads end only when every sender, so this one too, is gone.
        let _never = self.jobs.send(Box::new(job));
        result
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
