//! Messages on their way: sent at a known moment, arriving once at each reader.
//!
//! A sender has a window of messages that have not arrived everywhere; so no server's queue overflows, however slow it
//! is. Which message arrived, its content signature says.

use super::content::Contents;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};

/// Slots of messages under way; a slot is used again long after its message has arrived.
const SLOTS_COUNT: u64 = 1024;
/// Most latencies that are kept of one flight.
const LATENCIES_MAX: usize = 1 << 20;

/// The first thing that went wrong ends the run.
#[derive(Debug, Default)]
pub(super) struct Alarm(watch::Sender<Option<String>>);

impl Alarm {
    pub(super) fn raise(&self, what: impl Into<String>) {
        self.0.send_if_modified(|raised| {
            let is_first = raised.is_none();
            if is_first {
                *raised = Some(what.into());
            }
            is_first
        });
    }

    /// Completes when something has gone wrong.
    pub(super) async fn raised(&self) -> String {
        let mut raised = self.0.subscribe();
        // The sender is ours and lives as long as we.
        match raised.wait_for(Option::is_some).await {
            Ok(what) => what.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// One author's messages.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) contents: Contents,
    epoch: Instant,
    readers: usize,
    /// Messages that are to be acknowledged, by reference; none where they are not.
    unacknowledged: Option<Mutex<HashMap<String, u64>>>,
    slots: Vec<Slot>,
    /// Places for messages under way.
    pub(super) window: Semaphore,
    sent: AtomicU64,
    arrived: AtomicU64,
    last_arrival_us: AtomicU64,
    has_arrived: Notify,
    latencies_us: Mutex<Vec<u32>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The message's number, plus one.
    number: AtomicU64,
    sent_at_us: AtomicU64,
    missing: AtomicUsize,
}

/// What one reader has seen, by slot.
#[derive(Debug)]
pub(super) struct Seen(Vec<u64>);

impl Default for Seen {
    fn default() -> Self {
        Self((0..SLOTS_COUNT).map(|_| 0).collect())
    }
}

impl Flight {
    /// Messages for so many readers each, at most `window` of them under way.
    pub(super) fn new(contents: Contents, readers: usize, window: usize) -> Self {
        Self {
            contents,
            epoch: Instant::now(),
            readers,
            unacknowledged: None,
            slots: (0..SLOTS_COUNT).map(|_| Slot::default()).collect(),
            window: Semaphore::new(window),
            sent: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            last_arrival_us: AtomicU64::new(0),
            has_arrived: Notify::new(),
            latencies_us: Mutex::default(),
        }
    }

    /// The same, where each message counts once it has arrived and its author knows that it is on the disk.
    pub(super) fn acknowledged(contents: Contents, window: usize) -> Self {
        Self {
            unacknowledged: Some(Mutex::default()),
            ..Self::new(contents, 1, window)
        }
    }

    /// The same, where nobody reads and each message counts once its author knows that it is on the disk.
    pub(super) fn stored(contents: Contents, window: usize) -> Self {
        Self {
            unacknowledged: Some(Mutex::default()),
            ..Self::new(contents, 0, window)
        }
    }

    /// Whether messages are to be acknowledged.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.unacknowledged.is_some()
    }

    /// A message leaves, or was due to.
    pub(super) fn depart(&self, index: u64, at: Instant) {
        let mut events = self.readers;
        if let Some(unacknowledged) = &self.unacknowledged
            && let Some(reference) = self.contents.reference(index)
        {
            events = events.saturating_add(1);
            let mut unacknowledged = unacknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            unacknowledged.insert(reference, index);
        }
        if let Some(slot) = self.slot(index) {
            slot.sent_at_us.store(self.micros(at), Ordering::Relaxed);
            slot.missing.store(events, Ordering::Relaxed);
            slot.number.store(index.saturating_add(1), Ordering::Release);
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A message arrives at a reader; false if it is none of ours or came before.
    pub(super) fn arrive(&self, index: u64, seen: &mut Seen) -> bool {
        let number = index.saturating_add(1);
        let Some(slot) = self.slot(index) else {
            return false;
        };
        let last = usize::try_from(index % SLOTS_COUNT).ok();
        let Some(last) = last.and_then(|at| seen.0.get_mut(at)) else {
            return false;
        };
        if slot.number.load(Ordering::Acquire) != number || *last == number {
            return false;
        }
        *last = number;
        self.settle(slot);
        true
    }

    /// A message is acknowledged; nothing if it was before.
    pub(super) fn acknowledge(&self, reference: &str) {
        let Some(unacknowledged) = &self.unacknowledged else {
            return;
        };
        let index = unacknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(reference);
        if let Some(slot) = index.and_then(|index| self.slot(index)) {
            self.settle(slot);
        }
    }

    /// One of the things that a message waits for has happened. Each delivery counts, or the last of them where one is an
    /// acknowledgement.
    fn settle(&self, slot: &Slot) {
        let is_last = slot.missing.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last || self.unacknowledged.is_none() {
            let now = self.micros(Instant::now());
            let took = now.saturating_sub(slot.sent_at_us.load(Ordering::Relaxed));
            self.keep(u32::try_from(took).unwrap_or(u32::MAX));
            self.last_arrival_us.fetch_max(now, Ordering::Relaxed);
            self.arrived.fetch_add(1, Ordering::Release);
        }
        if is_last {
            self.window.add_permits(1);
            self.has_arrived.notify_one();
        }
    }

    /// Waits until everything has arrived, or nothing has for so long.
    pub(super) async fn drain(&self, patience: Duration) {
        let mut before = self.arrived();
        while before < self.expected() {
            let waited = tokio::time::timeout(patience, self.has_arrived.notified()).await;
            let now = self.arrived();
            if waited.is_err() && now == before {
                return;
            }
            before = now;
        }
    }

    /// Deliveries that were to be made, or messages to be stored where nobody reads.
    pub(super) fn expected(&self) -> u64 {
        let readers = u64::try_from(self.readers.max(1)).unwrap_or(u64::MAX);
        self.sent.load(Ordering::Acquire).saturating_mul(readers)
    }

    /// Deliveries that were made.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// When the last one was.
    pub(super) fn last_arrival(&self) -> Instant {
        let after = Duration::from_micros(self.last_arrival_us.load(Ordering::Acquire));
        self.epoch.checked_add(after).unwrap_or(self.epoch)
    }

    /// How long deliveries took, in microseconds.
    pub(super) fn take_latencies(&self) -> Vec<u32> {
        std::mem::take(&mut self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, latency_us: u32) {
        let mut latencies = self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
        if latencies.len() < LATENCIES_MAX {
            latencies.push(latency_us);
        }
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index % SLOTS_COUNT).ok()?)
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }
}

/// The users whom a client has been told of.
#[derive(Debug, Default)]
pub(super) struct Told(watch::Sender<BTreeSet<String>>);

impl Told {
    pub(super) fn note(&self, user: &str) {
        self.0.send_if_modified(|users| users.insert(user.to_owned()));
    }

    /// Waits for one.
    pub(super) async fn wait_for(&self, user: &str) {
        let mut told = self.0.subscribe();
        if told.wait_for(|users| users.contains(user)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::tests::key;
    use super::super::content::{Kind, Run, Saying};
    use super::*;

    fn flight(readers: usize) -> Flight {
        let run = Run::on_fresh_servers();
        let saying = Saying {
            run,
            kind: Kind::Direct,
            from: run.author(0).unwrap(),
            to: run.reader(0).unwrap().into(),
            text_bytes: 1,
            home: None,
        };
        let contents = Contents::counted(&saying, 0, &key()).unwrap();
        Flight::new(contents, readers, 2)
    }

    #[test]
    fn a_message_counts_once_for_each_reader_and_then_makes_room() {
        let flight = flight(2);
        let [mut a, mut b] = [Seen::default(), Seen::default()];
        flight.window.try_acquire().unwrap().forget();
        flight.depart(0, Instant::now());
        assert!(flight.arrive(0, &mut a));
        assert!(!flight.arrive(0, &mut a), "twice at one reader");
        assert_eq!(flight.window.available_permits(), 1);
        assert!(flight.arrive(0, &mut b));
        assert_eq!(flight.window.available_permits(), 2);
        assert!(!flight.arrive(1, &mut b), "never sent");
        assert!(
            !flight.arrive(SLOTS_COUNT, &mut b),
            "never sent, in the slot of one that was"
        );
        assert_eq!((flight.expected(), flight.arrived()), (2, 2));
        assert_eq!(flight.take_latencies().len(), 2);
    }

    #[tokio::test]
    async fn what_does_not_come_is_given_up() {
        let flight = flight(1);
        flight.depart(0, Instant::now());
        flight.depart(1, Instant::now());
        assert!(flight.arrive(1, &mut Seen::default()));
        flight.drain(Duration::from_millis(10)).await;
        assert_eq!(flight.expected() - flight.arrived(), 1);
    }

    #[tokio::test]
    async fn the_first_alarm_is_the_one_that_is_told() {
        let alarm = Alarm::default();
        alarm.raise("first");
        alarm.raise("second");
        assert_eq!(alarm.raised().await, "first");
    }
}
