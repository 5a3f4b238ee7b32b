//! What waits to be sent on one link: in order, and bounded (PROTOCOL I.11).

use crate::socket::Utf8Bytes;
use futures_util::future::{BoxFuture, Shared};
use socp_core::server::CloseCode;
use socp_proto::limits::{OUTBOUND_BYTES_MAX, OUTBOUND_FRAMES_COUNT_MAX};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// A text for one link or many, that there is already, or is being signed, or is signed by whoever needs it first.
#[derive(Clone)]
pub(crate) enum Pending {
    /// As it came.
    Ready(Utf8Bytes),
    /// On the pool.
    Signing(Shared<BoxFuture<'static, Option<Utf8Bytes>>>),
    /// So cheap to sign that the first writer does it.
    Lazy(Arc<LazyText>),
}

/// A text that is made once, when it is first needed.
pub(crate) struct LazyText {
    text: OnceLock<Option<Utf8Bytes>>,
    make: Mutex<Option<MakeText>>,
}

type MakeText = Box<dyn FnOnce() -> Option<Utf8Bytes> + Send>;

impl Pending {
    /// A text that `make` makes, or nothing if it fails.
    pub(crate) fn lazy(make: impl FnOnce() -> Option<Utf8Bytes> + Send + 'static) -> Self {
        Self::Lazy(Arc::new(LazyText {
            text: OnceLock::new(),
            make: Mutex::new(Some(Box::new(make))),
        }))
    }

    /// The text; nothing if it could not be signed.
    pub(crate) async fn text(self) -> Option<Utf8Bytes> {
        match self {
            Self::Ready(text) => Some(text),
            Self::Signing(text) => text.await,
            Self::Lazy(lazy) => lazy.text.get_or_init(|| lazy.make()).clone(),
        }
    }
}

impl LazyText {
    fn make(&self) -> Option<Utf8Bytes> {
        let make = self.make.lock().unwrap_or_else(PoisonError::into_inner).take();
        make.and_then(|make| make())
    }
}

/// Answers that may wait for their signatures or for the far end before its next frame is read.
const UNSENT_ANSWERS_MAX: usize = 16;

/// One thing to send.
pub(crate) enum Outgoing {
    /// A frame, and the bytes it was counted with.
    Frame(Pending, usize),
    /// A ping.
    Ping,
    /// Nothing to send: the hub wants to know when the queue has come this far.
    Fence,
    /// The end.
    Close(CloseCode, &'static str),
}

/// The sending half of a link.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<AtomicUsize>,
    kill: watch::Sender<bool>,
    has_sent: Arc<Notify>,
}

/// The writer's half.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    queue: mpsc::Receiver<Outgoing>,
    bytes: Arc<AtomicUsize>,
    has_sent: Arc<Notify>,
}

/// The outbox has no room left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A new outbox; the watch turns true when the link must end without waiting for the far end.
pub(crate) fn outbox() -> (Outbox, OutboxReader, watch::Receiver<bool>) {
    // Room for the close and a ping behind a full queue.
    let (sender, receiver) = mpsc::channel(OUTBOUND_FRAMES_COUNT_MAX.saturating_add(2));
    let (kill, killed) = watch::channel(false);
    let bytes = Arc::new(AtomicUsize::new(0));
    let has_sent = Arc::new(Notify::new());
    let reader = OutboxReader {
        queue: receiver,
        bytes: Arc::clone(&bytes),
        has_sent: Arc::clone(&has_sent),
    };
    let outbox = Outbox {
        queue: sender,
        bytes,
        kill,
        has_sent,
    };
    (outbox, reader, killed)
}

impl Outbox {
    /// Whether there is no room for so many bytes more.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        let queued = self.bytes.load(Ordering::Relaxed);
        // A single frame always fits, however large.
        self.queue.capacity() <= 2 || (queued > 0 && queued.saturating_add(bytes) > OUTBOUND_BYTES_MAX)
    }

    /// Puts a frame in line.
    pub(crate) fn push(&self, frame: Pending, bytes: usize) -> Result<(), Full> {
        if self.is_full(bytes) {
            return Err(Full);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.queue.try_send(Outgoing::Frame(frame, bytes)).map_err(|_| Full)
    }

    /// Puts a ping in line; a full line is proof enough of life or death by itself.
    pub(crate) fn ping(&self) {
        let _full_or_gone = self.queue.try_send(Outgoing::Ping);
    }

    /// Puts a fence in line; a line without room is about to be closed anyway.
    pub(crate) fn fence(&self) {
        let _full_or_gone = self.queue.try_send(Outgoing::Fence);
    }

    /// Frames and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.waiting(), self.bytes.load(Ordering::Relaxed))
    }

    /// How many things wait.
    fn waiting(&self) -> usize {
        self.queue.max_capacity().saturating_sub(self.queue.capacity())
    }

    /// Ready when few enough answers wait: whoever makes us sign waits for the signatures before asking for more.
    pub(crate) async fn room_for_answers(&self) {
        while self.waiting() > UNSENT_ANSWERS_MAX {
            self.has_sent.notified().await;
        }
    }

    /// Ends the link once everything before is out; at once if there is no room even for that.
    pub(crate) fn close(&self, code: CloseCode, reason: &'static str) {
        let is_stuck = code == CloseCode::TryAgainLater;
        if self.queue.try_send(Outgoing::Close(code, reason)).is_err() || is_stuck {
            self.kill();
        }
    }

    /// Ends the link without waiting.
    pub(crate) fn kill(&self) {
        self.kill.send_replace(true);
    }
}

impl OutboxReader {
    /// The next thing to send; none when nobody can send any more.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        let next = self.queue.recv().await;
        // Only the link's own reader waits for this; a permit is kept if it is not waiting yet.
        self.has_sent.notify_one();
        next
    }

    /// The next thing to send, if there is one now.
    pub(crate) fn try_next(&mut self) -> Option<Outgoing> {
        let next = self.queue.try_recv().ok();
        if next.is_some() {
            self.has_sent.notify_one();
        }
        next
    }

    /// A frame is on its way: its room is free again.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn frame() -> Pending {
        Pending::Ready(Utf8Bytes::from_static("x"))
    }

    #[test]
    fn the_outbox_is_bounded_in_frames_and_bytes() {
        let (outbox, _reader, _killed) = outbox();
        for _ in 0..OUTBOUND_FRAMES_COUNT_MAX {
            outbox.push(frame(), 1).unwrap();
        }
        assert_eq!(outbox.push(frame(), 1), Err(Full));

        let (outbox, _reader, _killed) = super::outbox();
        outbox.push(frame(), OUTBOUND_BYTES_MAX).unwrap();
        assert_eq!(outbox.push(frame(), 1), Err(Full));
    }

    #[tokio::test]
    async fn a_lazy_text_is_made_once_for_many() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let text = Pending::lazy(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Some(Utf8Bytes::from_static("signed"))
        });
        for _ in 0..3 {
            assert_eq!(text.clone().text().await.unwrap().as_str(), "signed");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_outbox_still_takes_the_close() {
        let (outbox, mut reader, killed) = outbox();
        while outbox.push(frame(), 1).is_ok() {}
        outbox.close(CloseCode::Normal, "bye");
        assert!(!*killed.borrow());
        let mut last = None;
        while let Some(next) = reader.try_next() {
            last = Some(next);
        }
        assert!(matches!(last, Some(Outgoing::Close(CloseCode::Normal, "bye"))));
    }
}
