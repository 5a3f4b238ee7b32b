//! What waits to be sent on one link: in order, and bounded (PROTOCOL I.11).

use crate::socket::Utf8Bytes;
use futures_util::future::{BoxFuture, Shared};
use socp_core::server::CloseCode;
use socp_proto::limits::{OUTBOUND_BYTES_MAX, OUTBOUND_FRAMES_COUNT_MAX};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

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
    /// The answer to one.
    Pong(Vec<u8>),
    /// Nothing to send: the hub wants to know when the queue has come this far.
    Fence,
    /// The end.
    Close(CloseCode, &'static str),
}

/// The sending half of a link.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: Arc<Queue>,
}

/// The writer's half.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    queue: Arc<Queue>,
}

/// What waits. The hub adds to it, the writer takes from it; nobody holds the lock for longer than that. While nothing
/// waits it takes no memory, as on most links most of the time.
#[derive(Default)]
struct Queue {
    line: Mutex<Line>,
    has_more: Notify,
    has_sent: Notify,
    /// Bytes of frames that wait or are being sent.
    bytes: AtomicUsize,
    /// The link must end without waiting for the far end.
    is_killed: Flag,
    /// Our close frame is out.
    is_closing: Flag,
}

/// Something that becomes true once, and can be waited for.
#[derive(Default)]
struct Flag {
    is_true: AtomicBool,
    has_turned: Notify,
}

impl Flag {
    fn raise(&self) {
        self.is_true.store(true, Ordering::Release);
        self.has_turned.notify_waiters();
    }

    async fn raised(&self) {
        let turned = self.has_turned.notified();
        // It hears of what happens from its making on, so that nothing is missed behind this look.
        if !self.is_true.load(Ordering::Acquire) {
            turned.await;
        }
    }
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Outgoing>,
    /// The answer to the last ping, which goes before everything else.
    pong: Option<Vec<u8>>,
    /// The far end has closed, with this code.
    far_close: Option<Option<u16>>,
    /// Nobody takes anything any more.
    is_closed: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} waiting)", self.len())
    }
}

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.line().waiting.len()
    }

    /// Puts something in line if not more than so much is there.
    fn put(&self, next: Outgoing, count_max: usize) -> Result<(), Full> {
        let mut line = self.line();
        if line.is_closed || line.waiting.len() >= count_max {
            return Err(Full);
        }
        line.waiting.push_back(next);
        drop(line);
        self.has_more.notify_one();
        Ok(())
    }

    fn take(&self) -> Option<Outgoing> {
        let mut line = self.line();
        if let Some(echo) = line.pong.take() {
            return Some(Outgoing::Pong(echo));
        }
        let next = line.waiting.pop_front();
        if line.waiting.is_empty() {
            line.waiting = VecDeque::new();
        }
        next
    }
}

/// The outbox has no room left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A new outbox.
pub(crate) fn outbox() -> (Outbox, OutboxReader) {
    let queue = Arc::<Queue>::default();
    let reader = OutboxReader {
        queue: Arc::clone(&queue),
    };
    (Outbox { queue }, reader)
}

impl Outbox {
    /// Whether there is no room for so many bytes more.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        let queued = self.queue.bytes.load(Ordering::Relaxed);
        // A single frame always fits, however large.
        let is_too_much = queued > 0 && queued.saturating_add(bytes) > OUTBOUND_BYTES_MAX;
        is_too_much || self.waiting() >= OUTBOUND_FRAMES_COUNT_MAX
    }

    /// Puts a frame in line.
    pub(crate) fn push(&self, frame: Pending, bytes: usize) -> Result<(), Full> {
        if self.is_full(bytes) {
            return Err(Full);
        }
        // Before the writer can take it, and with it these.
        self.queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        let put = self.queue.put(Outgoing::Frame(frame, bytes), OUTBOUND_FRAMES_COUNT_MAX);
        if put.is_err() {
            self.queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        put
    }

    /// Puts a ping in line; a full line is proof enough of life or death by itself.
    pub(crate) fn ping(&self) {
        let _full_or_gone = self.queue.put(Outgoing::Ping, COUNT_MAX);
    }

    /// Answers a ping; only the last of several (RFC 6455 §5.5.3).
    pub(crate) fn pong(&self, echo: Vec<u8>) {
        let mut line = self.queue.line();
        if !line.is_closed {
            line.pong = Some(echo);
            drop(line);
            self.queue.has_more.notify_one();
        }
    }

    /// The far end has closed: if ours is not out yet, its close frame is answered.
    pub(crate) fn answer_close(&self, code: Option<u16>) {
        self.queue.line().far_close = Some(code);
    }

    /// Puts a fence in line; a line without room is about to be closed anyway.
    pub(crate) fn fence(&self) {
        let _full_or_gone = self.queue.put(Outgoing::Fence, COUNT_MAX);
    }

    /// Frames and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.waiting(), self.queue.bytes.load(Ordering::Relaxed))
    }

    /// How many things wait.
    fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Ready when few enough answers wait: whoever makes us sign waits for the signatures before asking for more.
    pub(crate) async fn room_for_answers(&self) {
        while self.waiting() > UNSENT_ANSWERS_MAX {
            self.queue.has_sent.notified().await;
        }
    }

    /// Ends the link once everything before is out; at once if there is no room even for that.
    pub(crate) fn close(&self, code: CloseCode, reason: &'static str) {
        let is_stuck = code == CloseCode::TryAgainLater;
        if self.queue.put(Outgoing::Close(code, reason), COUNT_MAX).is_err() || is_stuck {
            self.kill();
        }
    }

    /// Ends the link without waiting.
    pub(crate) fn kill(&self) {
        self.queue.is_killed.raise();
    }

    /// Ready when the link must end without waiting for the far end.
    pub(crate) async fn killed(&self) {
        self.queue.is_killed.raised().await;
    }

    /// Ready when our close frame is out.
    pub(crate) async fn closing(&self) {
        self.queue.is_closing.raised().await;
    }
}

impl OutboxReader {
    /// The next thing to send. For one task at a time.
    pub(crate) async fn next(&mut self) -> Outgoing {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.queue.has_more.notified().await;
        }
    }

    /// The next thing to send, if there is one now.
    pub(crate) fn try_next(&mut self) -> Option<Outgoing> {
        let next = self.queue.take();
        if next.is_some() {
            // Only the link's own reader waits for this; a permit is kept if it is not waiting yet.
            self.queue.has_sent.notify_one();
        }
        next
    }

    /// What the far end closed with, if it has.
    pub(crate) fn far_close(&self) -> Option<Option<u16>> {
        self.queue.line().far_close
    }

    /// Our close frame is out.
    pub(crate) fn closed(&self) {
        self.queue.is_closing.raise();
    }

    /// Ready when the link must end without waiting for the far end.
    pub(crate) fn killed(&self) -> impl Future<Output = ()> + use<> {
        let queue = Arc::clone(&self.queue);
        async move { queue.is_killed.raised().await }
    }

    /// Frames are on their way: their room is free again.
    pub(crate) fn sent(&self, bytes: usize) {
        self.queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        line.is_closed = true;
        line.waiting = VecDeque::new();
        line.pong = None;
        drop(line);
        // Without a writer the link is of no use any more.
        self.queue.is_closing.raise();
    }
}

/// Room for a fence, a ping and the close behind a full queue of frames.
const COUNT_MAX: usize = OUTBOUND_FRAMES_COUNT_MAX + 3;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn frame() -> Pending {
        Pending::Ready(Utf8Bytes::from_static("x"))
    }

    #[test]
    fn the_outbox_is_bounded_in_frames_and_bytes() {
        let (outbox, _reader) = outbox();
        for _ in 0..OUTBOUND_FRAMES_COUNT_MAX {
            outbox.push(frame(), 1).unwrap();
        }
        assert_eq!(outbox.push(frame(), 1), Err(Full));

        let (outbox, _reader) = super::outbox();
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

    #[tokio::test]
    async fn nothing_is_kept_where_nothing_waits_or_nobody_sends() {
        let (outbox, mut reader) = outbox();
        for _ in 0..100 {
            outbox.push(frame(), 1).unwrap();
        }
        for _ in 0..100 {
            let _frame = reader.next().await;
        }
        assert_eq!(outbox.queue.line().waiting.capacity(), 0);
        assert_eq!(outbox.depth(), (0, 100));
        reader.sent(100);
        outbox.push(frame(), OUTBOUND_BYTES_MAX).unwrap();
        drop(reader);
        assert_eq!((outbox.depth().0, outbox.push(frame(), 0)), (0, Err(Full)));
    }

    #[test]
    fn a_full_outbox_still_takes_the_close() {
        let (outbox, mut reader) = outbox();
        while outbox.push(frame(), 1).is_ok() {}
        outbox.close(CloseCode::Normal, "bye");
        assert!(outbox.killed().now_or_never().is_none());
        let mut last = None;
        while let Some(next) = reader.try_next() {
            last = Some(next);
        }
        assert!(matches!(last, Some(Outgoing::Close(CloseCode::Normal, "bye"))));
    }
}
