//! Durable records: one SQLite database, one writer thread, group commit.
//!
//! Records are acknowledged only after a commit with `synchronous=FULL`. Whatever has piled up while the disk was busy
//! goes into the next commit together, so the disk is synced once for many. Records of delivered content, for which nobody
//! waits, are held together for a moment before that: under load there is one for each message, and what a sync costs is
//! theirs alone.

mod copy;
mod migrations;
mod shelves;
mod tables;
#[cfg(test)]
mod tests;
mod wal;

pub(crate) use copy::{CopyJob, Copying};

use crate::error::ServerError;
use crate::hub::HubMessage;
use crate::metrics::Metrics;
use rusqlite::{Connection, OpenFlags};
use socp_core::server::{KeptPassword, Memory, Page, Record, SaveId, Shelf, UserRecord};
use socp_proto::limits::DELIVERED_COUNT_MAX;
use socp_proto::{KeyHistory, KeyText, ServerId, UserId};
use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Most records in one commit, but for those that come with the last, so that the first does not wait for an endless stream.
const GROUP_COUNT_MAX: usize = PRUNE_COUNT_MAX / 2;

/// How long records that nobody waits for are held together at most; a crash loses those of this time.
const HELD_MAX: Duration = Duration::from_millis(50);

/// How often what is not needed any more is removed, where little comes.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// Most rows removed at once, so that nobody waits long; if there are more, the rest goes soon after.
const PRUNE_COUNT_MAX: usize = 2_000;

/// After so many new rows it is removed, too: fewer than go at once, so that a table that is full does not grow.
const PRUNE_EVERY_COUNT: usize = PRUNE_COUNT_MAX / 2;

/// How long others have their turn between two such removals.
const PRUNE_PAUSE: Duration = Duration::from_millis(100);

/// Most records that wait for the disk; what comes then is refused.
pub(crate) const QUEUE_COUNT_MAX: usize = 65_536;

/// Most bytes that wait for the disk.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a small record weighs.
const RECORD_BYTES: usize = 256;

/// Orders that have their turn between two steps of a copy, so that one under load comes to its end.
const ORDERS_PER_STEP: usize = 16;

/// Statements that are kept ready; there are fewer.
const STATEMENTS_KEPT_MAX: usize = 32;

/// The store's face: hands records to the writer thread.
#[derive(Debug)]
pub(crate) struct Store {
    orders: Sender<Order>,
    writer: JoinHandle<()>,
    health: StoreHealth,
    waiting: Arc<Queued>,
    /// Those of them that the writer has not been given.
    held: Vec<(SaveId, Record)>,
    /// Since when the first of those is held.
    held_since: Option<Instant>,
    // Set once, before the first record.
    metrics: OnceLock<Arc<Metrics>>,
}

/// What waits for the disk.
#[derive(Debug, Default)]
struct Queued {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl Queued {
    /// Counts one more, if there is room.
    fn add(&self, bytes: usize) -> bool {
        let records = self.records.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = records < QUEUE_COUNT_MAX && before < QUEUE_BYTES_MAX;
        if !has_room {
            self.take(1, bytes);
        }
        has_room
    }

    fn take(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

enum Order {
    AnswerTo(mpsc::Sender<HubMessage>),
    CountWith(Arc<Metrics>),
    Save(Vec<(SaveId, Record)>),
    Fetch(UserId, oneshot::Sender<Option<KeptPassword>>),
    ReadPage(Shelf, u64, oneshot::Sender<Option<Page>>),
    Copy(CopyJob),
}

/// Whether somebody waits for the record to be on disk.
fn is_awaited(record: &Record) -> bool {
    !matches!(
        record,
        Record::Delivered(_)
            | Record::Device(_)
            | Record::DeviceGone(..)
            | Record::MailGone(..)
            | Record::MailDropped(..)
            | Record::OutboundGone(_)
    )
}

/// How much a record weighs while it waits, in bytes: that of what varies much.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are small")]
fn weight(record: &Record) -> usize {
    match record {
        Record::Mail(mail) => mail.row.bytes,
        Record::Outbound(outbound) => outbound.row.bytes,
        _ => RECORD_BYTES,
    }
}

/// Whether the last write worked.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreHealth(Arc<Mutex<Option<String>>>);

impl StoreHealth {
    /// Why the last write failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets it, and says so once when it changes.
    fn set(&self, failure: Option<String>) {
        let before = std::mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            failure.clone(),
        );
        match (before, failure) {
            (None, Some(reason)) => tracing::warn!(reason, "the store fails; what needs it is refused"),
            (Some(_), None) => tracing::info!("the store works again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}

/// What the database remembers.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) identity: Option<(ServerId, KeyText)>,
    /// The keys that we had before.
    pub(crate) history: Option<KeyHistory>,
    pub(crate) memory: Memory,
}

/// What a look into a database tells.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) identity: Option<(ServerId, KeyText)>,
    pub(crate) users: usize,
    /// How many of those have a password.
    pub(crate) passwords: usize,
    pub(crate) pins: usize,
}

/// SQLite would drop what is behind the damage without a word. Nobody else has the database open.
fn refuse_damaged_log(path: &Path) -> Result<(), ServerError> {
    let reason = match wal::fault_of(path) {
        Ok(None) => return Ok(()),
        Ok(Some(fault)) => {
            format!("{fault}, so messages that were acknowledged would be lost; restore it from a backup")
        }
        Err(error) => format!("its write-ahead log cannot be read: {error}"),
    };
    Err(ServerError::Database {
        path: path.to_owned(),
        reason,
    })
}

/// A database that is open and up to date, before its writer thread starts.
pub(crate) struct Database {
    connection: Connection,
}

impl Database {
    /// Opens or creates the database and brings it up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, ServerError> {
        let failed = |error: rusqlite::Error| ServerError::Database {
            path: path.to_owned(),
            reason: format!("{error}; restore it from a backup if it is damaged"),
        };
        refuse_damaged_log(path)?;
        let mut connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT_MAX);
        migrations::run(&mut connection, path)?;
        // An empty log: nothing that an earlier crash tore can be taken for damage the next time.
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(failed)?;
        Ok(Self { connection })
    }

    /// Opens a database that is there, of whatever version up to ours, and leaves it so.
    pub(crate) fn open_as_it_is(path: &Path) -> Result<Self, ServerError> {
        let failed = |error: rusqlite::Error| ServerError::Database {
            path: path.to_owned(),
            reason: format!("{error}; restore it from a backup if it is damaged"),
        };
        refuse_damaged_log(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        migrations::is_newest(&connection, path)?;
        Ok(Self { connection })
    }

    /// What databases of all versions tell.
    pub(crate) fn look(&self, path: &Path) -> Result<Found, ServerError> {
        tables::look(&self.connection).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Looks whether a database that nobody writes to is consistent, and reads it; of an older version only what all of them
    /// have. Nothing is written.
    pub(crate) fn check(path: &Path) -> Result<Found, ServerError> {
        let failed = |reason: String| ServerError::Database {
            path: path.to_owned(),
            reason,
        };
        let connection = copy::open_unchanging(path).map_err(|error| failed(error.to_string()))?;
        let is_newest = migrations::is_newest(&connection, path)?;
        let found = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match found.map_err(|error| failed(error.to_string()))?.as_str() {
            "ok" => {}
            fault => return Err(failed(format!("it is damaged: {fault}"))),
        }
        if is_newest {
            // Every row can be read.
            tables::read(&connection).map_err(|error| failed(error.to_string()))?;
        }
        tables::look(&connection).map_err(|error| failed(error.to_string()))
    }

    /// Reads everything.
    pub(crate) fn read(&self, path: &Path) -> Result<Remembered, ServerError> {
        tables::read(&self.connection).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: format!("{error}; restore it from a backup if it is damaged"),
        })
    }

    /// Writes our identity.
    pub(crate) fn write_identity(&self, path: &Path, id: &ServerId, key: &KeyText) -> Result<(), ServerError> {
        tables::write_identity(&self.connection, id, key).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Begins a run of the server; its number is larger than those of all before.
    pub(crate) fn begin_run(&self, path: &Path) -> Result<u64, ServerError> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        tables::begin_run(&self.connection, unix.as_secs()).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: format!("{error}; restore it from a backup if it is damaged"),
        })
    }

    /// Writes our new key, the history that leads to it, and what it has signed, all in one transaction.
    pub(crate) fn write_rotation(
        &mut self,
        path: &Path,
        key: &KeyText,
        history: &KeyHistory,
        users: &[UserRecord],
    ) -> Result<(), ServerError> {
        tables::write_rotation(&mut self.connection, key, history, users).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Writes records in one transaction, where no server runs.
    pub(crate) fn write(&self, path: &Path, records: &[(SaveId, Record)]) -> Result<(), ServerError> {
        tables::commit(&self.connection, records).map_err(|error| ServerError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Copies the database, where no server runs; when, ms since the Unix epoch.
    pub(crate) fn copy(&self, path: &Path, to: &Path) -> Result<u64, ServerError> {
        copy::copy(&self.connection, to, |_| Ok(())).map_err(|reason| ServerError::Database {
            path: path.to_owned(),
            reason: format!("it could not be copied: {reason}"),
        })
    }

    /// Starts the writer thread, which keeps the directory locked until its last write.
    pub(crate) fn start(self, lock: File) -> Result<Store, ServerError> {
        let (orders, queue) = channel();
        let health = StoreHealth::default();
        let waiting = Arc::<Queued>::default();
        let (connection, kept, counted) = (self.connection, health.clone(), Arc::clone(&waiting));
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || Writer::new(connection, kept, counted).run(&queue, lock))
            .map_err(|error| ServerError::Part {
                part: "store",
                reason: error.to_string(),
            })?;
        Ok(Store {
            orders,
            writer,
            health,
            waiting,
            held: Vec::new(),
            held_since: None,
            metrics: OnceLock::new(),
        })
    }
}

impl Store {
    pub(crate) fn health(&self) -> StoreHealth {
        self.health.clone()
    }

    /// Whom to tell what is written.
    pub(crate) fn answer_to(&self, hub: mpsc::Sender<HubMessage>) {
        // The thread ends only when this sender is gone.
        let _never = self.orders.send(Order::AnswerTo(hub));
    }

    /// Where to count.
    pub(crate) fn count_with(&self, metrics: &Arc<Metrics>) {
        let _is_set = self.metrics.set(Arc::clone(metrics)).is_ok();
        let _never = self.orders.send(Order::CountWith(Arc::clone(metrics)));
    }

    /// Queues a record; false where too many wait for the disk already.
    #[must_use]
    pub(crate) fn save(&mut self, save: SaveId, record: Record) -> bool {
        if !self.waiting.add(weight(&record)) {
            return false;
        }
        if let Some(metrics) = self.metrics.get() {
            metrics.store_queue.inc();
        }
        let is_awaited = is_awaited(&record);
        self.held.push((save, record));
        if is_awaited || self.held.len() >= GROUP_COUNT_MAX {
            self.flush();
        } else {
            self.held_since.get_or_insert_with(Instant::now);
        }
        true
    }

    /// When to [`Store::flush`], if anything is held.
    pub(crate) fn flush_due(&self) -> Option<Instant> {
        self.held_since?.checked_add(HELD_MAX)
    }

    /// Gives the writer what is held.
    pub(crate) fn flush(&mut self) {
        self.held_since = None;
        if !self.held.is_empty() {
            let _never = self.orders.send(Order::Save(std::mem::take(&mut self.held)));
        }
    }

    /// Reads what a user's password opens, behind everything that is queued.
    pub(crate) fn fetch(&mut self, user: UserId) -> oneshot::Receiver<Option<KeptPassword>> {
        self.flush();
        let (reply, answer) = oneshot::channel();
        let _never = self.orders.send(Order::Fetch(user, reply));
        answer
    }

    /// Reads what is on a shelf behind a number, behind everything that is queued.
    pub(crate) fn read_page(&mut self, shelf: Shelf, after: u64) -> oneshot::Receiver<Option<Page>> {
        self.flush();
        let (reply, answer) = oneshot::channel();
        let _never = self.orders.send(Order::ReadPage(shelf, after, reply));
        answer
    }

    /// Copies the database, with everything that is acknowledged before the copy ends.
    pub(crate) fn copy(&mut self, job: CopyJob) {
        self.flush();
        let _never = self.orders.send(Order::Copy(job));
    }

    /// Writes what is queued and ends.
    pub(crate) fn close(mut self) {
        self.flush();
        drop(self.orders);
        if self.writer.join().is_err() {
            tracing::error!("the store's thread failed");
        }
    }
}

/// The thread that writes.
struct Writer {
    // Shared with a copy that is being made by the same thread.
    connection: Rc<Connection>,
    is_copying: bool,
    health: StoreHealth,
    waiting: Arc<Queued>,
    hub: Option<mpsc::Sender<HubMessage>>,
    metrics: Option<Arc<Metrics>>,
    /// When to look again for what is not needed any more.
    prune_at: Instant,
    /// Rows of delivered content since the last look.
    new_rows: usize,
    /// How much delivered content is kept.
    kept_max: usize,
}

impl Writer {
    fn new(connection: Connection, health: StoreHealth, waiting: Arc<Queued>) -> Self {
        Self {
            connection: Rc::new(connection),
            is_copying: false,
            health,
            waiting,
            hub: None,
            metrics: None,
            prune_at: Instant::now(),
            new_rows: 0,
            kept_max: DELIVERED_COUNT_MAX,
        }
    }

    fn run(mut self, queue: &Receiver<Order>, lock: File) {
        loop {
            // Also while records never stop coming.
            if self.prune_at <= Instant::now() {
                self.prune();
            }
            let wait = self.prune_at.saturating_duration_since(Instant::now());
            match queue.recv_timeout(wait) {
                Ok(first) => self.take(first, queue),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The database closes before the lock is given back.
        drop(self.connection);
        drop(lock);
    }

    /// Writes the records of an order, and of those behind it that are there already.
    fn take(&mut self, first: Order, queue: &Receiver<Order>) {
        let (mut group, mut wanted, mut pages, mut copies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::AnswerTo(hub) => self.hub = Some(hub),
                Order::CountWith(metrics) => self.metrics = Some(metrics),
                Order::Save(records) if group.is_empty() => group = records,
                Order::Save(mut records) => group.append(&mut records),
                Order::Fetch(user, reply) => wanted.push((user, reply)),
                Order::ReadPage(shelf, after, reply) => pages.push((shelf, after, reply)),
                Order::Copy(job) => copies.push(job),
            }
            next = (group.len() < GROUP_COUNT_MAX).then(|| queue.try_recv().ok()).flatten();
        }
        if !group.is_empty() {
            self.write(&group);
        }
        for (user, reply) in wanted {
            // Whoever asked may be gone.
            let _gone = reply.send(self.fetch(&user));
        }
        for (shelf, after, reply) in pages {
            // Whoever asked may be gone.
            let _gone = reply.send(self.read_page(&shelf, after));
        }
        for job in copies {
            self.copy(&job, queue);
        }
    }

    /// Copies the database; what is queued meanwhile is written between its steps.
    fn copy(&mut self, job: &CopyJob, queue: &Receiver<Order>) {
        let ended = if std::mem::replace(&mut self.is_copying, true) {
            Err("another copy is being made".to_owned())
        } else {
            let source = Rc::clone(&self.connection);
            let copied = copy::copy(&source, &job.to, |goes| {
                if job.answer.is_closed() {
                    return Err("nobody waits for it any more".to_owned());
                }
                // Whoever asked may be gone, which is seen at the next step.
                let _gone = job.answer.send(goes);
                for _ in 0..ORDERS_PER_STEP {
                    match queue.try_recv() {
                        Ok(order) => self.take(order, queue),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => return Err("the server stops".to_owned()),
                    }
                }
                Ok(())
            });
            self.is_copying = false;
            copied
        };
        if let Err(reason) = &ended {
            tracing::warn!(reason, to = %job.to.display(), "the database was not copied");
        }
        // Whoever asked may be gone.
        let _gone = job.answer.send(Copying::Ended(ended));
    }

    fn fetch(&self, user: &UserId) -> Option<KeptPassword> {
        let fetched = tables::fetch(&self.connection, user);
        fetched.unwrap_or_else(|error| {
            tracing::warn!(%error, "what a password opens could not be read; the login is refused");
            None
        })
    }

    fn read_page(&self, shelf: &Shelf, after: u64) -> Option<Page> {
        let read = shelves::read_page(&self.connection, shelf, after);
        read.map_err(|error| tracing::warn!(%error, ?shelf, "what is kept could not be read; trying again"))
            .ok()
    }

    fn write(&mut self, group: &[(SaveId, Record)]) {
        self.commit(group);
        let rows = group
            .iter()
            .filter(|(_, record)| matches!(record, Record::Delivered(_) | Record::Mail(_)));
        self.new_rows = self.new_rows.saturating_add(rows.count());
        if self.new_rows >= PRUNE_EVERY_COUNT {
            self.prune();
        }
    }

    /// Writes a group and answers at once for all of it that somebody waits for, so that the hub is disturbed at most once
    /// for each sync of the disk.
    fn commit(&mut self, group: &[(SaveId, Record)]) {
        let begun = Instant::now();
        let outcome = tables::commit(&self.connection, group).map_err(|error| error.to_string());
        self.waiting
            .take(group.len(), group.iter().map(|(_, record)| weight(record)).sum());
        if let Some(metrics) = &self.metrics {
            metrics.committed(group.len(), begun.elapsed(), outcome.is_ok());
            let count = i64::try_from(group.len()).unwrap_or(i64::MAX);
            metrics.store_queue.dec_by(count);
        }
        self.health.set(outcome.clone().err());
        let awaited = group.iter().filter(|(_, record)| is_awaited(record));
        let saves: Vec<SaveId> = awaited.map(|(save, _)| *save).collect();
        if let Some(hub) = self.hub.as_ref().filter(|_| !saves.is_empty()) {
            // Fails only once the hub has ended, when nobody waits for it.
            let _stopped = hub.blocking_send(HubMessage::Saved(saves, outcome));
        }
    }

    fn prune(&mut self) {
        self.new_rows = 0;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let is_done = match tables::prune(&self.connection, now, self.kept_max, PRUNE_COUNT_MAX) {
            Ok(rows) => {
                if let Some(metrics) = &self.metrics {
                    metrics.pruned(rows);
                }
                rows < PRUNE_COUNT_MAX
            }
            Err(error) => {
                tracing::warn!(%error, "old records could not be removed; trying again later");
                true
            }
        };
        let pause = if is_done { PRUNE_INTERVAL } else { PRUNE_PAUSE };
        self.prune_at = Instant::now().checked_add(pause).unwrap_or_else(Instant::now);
    }
}
