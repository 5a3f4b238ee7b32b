//! One link: a task that reads, a task that writes, and what they share.

use crate::histories::Histories;
use crate::hub::{HubMessage, Opener};
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxReader, Outgoing, Pending, outbox};
use crate::pending::{PendingCounts, PendingPlace};
use crate::pool::{Class, Line, Pool};
use crate::reader;
use crate::settings::{Budgets, Settings};
use crate::socket::{Broken, GATHERED_BYTES_MAX, Sent, SocketSink, SocketStream};
use crate::verifiers::Verifiers;
use socp_core::server::{DialId, Input, LinkId, TlsSession};
use socp_crypto::DelegatePublicKey;
use socp_proto::limits::STOP_FLUSH_MAX_MS;
use socp_proto::{Delegation, Fingerprint, KeyText, ServerId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc};

/// How long the far end may take to answer our close before the connection is cut.
const CLOSE_ANSWER_MAX: Duration = Duration::from_secs(1);

/// Servers that are being connected to at the same time; others wait their turn.
const DIALS_AT_ONCE_MAX: usize = 16;

/// What every link of the server needs.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) hub: mpsc::Sender<HubMessage>,
    pub(crate) pool: Pool,
    pub(crate) keyring: Keyring,
    pub(crate) verifiers: Arc<Verifiers>,
    pub(crate) histories: Arc<Histories>,
    pub(crate) budgets: Budgets,
    pub(crate) verify_content: bool,
    /// How far clocks may be off, behind and ahead in ms.
    pub(crate) clock_tolerance_ms: (u64, u64),
    pub(crate) pending: PendingCounts,
    /// Connections that may be under construction at the same time.
    pub(crate) dialling: Semaphore,
    pub(crate) metrics: Arc<Metrics>,
    last_link: AtomicU64,
}

impl Wiring {
    pub(crate) fn new(settings: &Settings, pool: Pool, metrics: Arc<Metrics>, hub: mpsc::Sender<HubMessage>) -> Self {
        Self {
            hub,
            pool,
            keyring: Keyring::default(),
            verifiers: Arc::default(),
            histories: Arc::default(),
            budgets: settings.budgets(),
            verify_content: settings.verify_content,
            clock_tolerance_ms: settings.clock_tolerance_ms,
            pending: PendingCounts::default(),
            dialling: Semaphore::new(DIALS_AT_ONCE_MAX),
            metrics,
            last_link: AtomicU64::new(0),
        }
    }
}

/// Whose link it is.
#[derive(Debug, Clone)]
pub(crate) enum LinkRole {
    /// A peer's.
    Peer(ServerId),
    /// A user's, who has this key.
    User(KeyText),
}

/// A delegation whose signature was checked.
#[derive(Debug, Clone)]
pub(crate) struct Delegate {
    pub(crate) key: DelegatePublicKey,
    pub(crate) delegation: Arc<Delegation>,
    /// The key that vouches for it.
    pub(crate) server: Fingerprint,
}

/// What the hub and the two tasks of a link share.
#[derive(Debug)]
pub(crate) struct LinkState {
    /// None until the core has identified the link.
    role: RwLock<Option<LinkRole>>,
    /// The key that signs a peer's frames, once it has told us (PROTOCOL II.3).
    delegate: RwLock<Option<Delegate>>,
    /// The core has answered the first frame.
    pub(crate) proceed: Notify,
    /// Whether we opened it.
    pub(crate) was_dialled: bool,
    /// The key that a dialled server must have.
    pub(crate) expected_key: Option<KeyText>,
    /// What it has the pool do: among all strangers of its address until it has a role, then alone.
    line: RwLock<Arc<Line>>,
    /// Where the logins of strangers wait.
    pub(crate) logins: Arc<Line>,
    pub(crate) opened: Instant,
    pub(crate) frames_in: AtomicU64,
    pub(crate) frames_out: AtomicU64,
    /// Its place among the unfinished connections, given back once it has a role.
    place: Mutex<Option<PendingPlace>>,
}

impl LinkState {
    pub(crate) fn role(&self) -> Option<LinkRole> {
        self.role.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the far end has said who it is.
    pub(crate) fn has_role(&self) -> bool {
        self.role.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn delegate(&self) -> Option<Delegate> {
        self.delegate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The peer has another key from now on.
    pub(crate) fn set_delegate(&self, delegate: Delegate) {
        *self.delegate.write().unwrap_or_else(PoisonError::into_inner) = Some(delegate);
    }

    pub(crate) fn identify(&self, role: LinkRole) {
        let class = match role {
            LinkRole::Peer(_) => Class::Peer,
            LinkRole::User(_) => Class::User,
        };
        // Before the role: who has one waits for room in its own line.
        *self.line.write().unwrap_or_else(PoisonError::into_inner) = Line::of(class);
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = Some(role);
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What the hub keeps of a link.
#[derive(Debug, Clone)]
pub(crate) struct LinkHandle {
    pub(crate) outbox: Outbox,
    pub(crate) state: Arc<LinkState>,
}

/// How a link came to be.
pub(crate) enum Origin {
    /// Somebody connected.
    Accepted(PendingPlace, Option<TlsSession>),
    /// We dialled.
    Dialled(DialId, Option<KeyText>, Option<TlsSession>),
}

/// Runs a link from its first to its last frame.
pub(crate) async fn run(wiring: Arc<Wiring>, origin: Origin, sink: SocketSink, stream: SocketStream) {
    let link = LinkId(wiring.last_link.fetch_add(1, Ordering::Relaxed).saturating_add(1));
    let (outbox, queue) = outbox();
    let (place, by, expected_key, tls) = match origin {
        Origin::Accepted(place, tls) => {
            let by = Opener::Address(place.address());
            (Some(place), by, None, tls)
        }
        Origin::Dialled(dial, key, tls) => (None, Opener::Dial(dial), key, tls),
    };
    // Whom we dial is no stranger, since we chose to.
    let line = place.as_ref().map_or_else(|| Line::of(Class::Peer), PendingPlace::line);
    let logins = place.as_ref().map_or_else(|| Arc::clone(&line), PendingPlace::logins);
    let state = Arc::new(LinkState {
        role: RwLock::new(None),
        delegate: RwLock::new(None),
        proceed: Notify::new(),
        was_dialled: matches!(by, Opener::Dial(_)),
        expected_key,
        line: RwLock::new(line),
        logins,
        opened: Instant::now(),
        frames_in: AtomicU64::new(0),
        frames_out: AtomicU64::new(0),
        place: Mutex::new(place),
    });
    let handle = LinkHandle {
        outbox: outbox.clone(),
        state: Arc::clone(&state),
    };
    let opened = HubMessage::Opened { link, by, tls, handle };
    if wiring.hub.send(opened).await.is_err() {
        return; // The server is stopping.
    }
    let writer = tokio::spawn(write(sink, queue, wiring.hub.clone(), link, Arc::clone(&state)));
    tokio::select! {
        () = reader::read(&wiring, link, &state, &outbox, stream) => {}
        () = give_up(&outbox) => {}
    }
    // Nothing more comes: what is still queued is flushed only if the far end still reads.
    outbox.kill();
    if let Err(error) = writer.await {
        tracing::error!(link = link.0, %error, "a writer failed");
    }
    let _stopping = wiring.hub.send(HubMessage::core(Input::Closed { link })).await;
}

/// Ready when the link must end although the far end says nothing.
async fn give_up(outbox: &Outbox) {
    tokio::select! {
        () = outbox.killed() => {}
        () = outbox.closing() => tokio::time::sleep(CLOSE_ANSWER_MAX).await,
    }
}

/// Sends what the outbox holds, in order.
async fn write(
    sink: SocketSink,
    mut queue: OutboxReader,
    hub: mpsc::Sender<HubMessage>,
    link: LinkId,
    state: Arc<LinkState>,
) {
    let mut writer = Writer {
        sink,
        hub,
        link,
        state,
        unflushed_bytes: 0,
    };
    let killed = queue.killed();
    let ended = tokio::select! {
        ended = writer.run(&mut queue) => Some(ended),
        () = killed => None,
    };
    match ended {
        Some(Ended::Closed) => {
            queue.closed();
            // The reader sees the far end's answer, or gives up waiting for it.
            queue.killed().await;
            return Box::pin(end(writer.sink)).await;
        }
        Some(Ended::Broken) => return,
        None => {}
    }
    Box::pin(say_goodbye(writer.sink, queue)).await;
}

/// The link was killed with frames unsent: one short try to say why, then the connection is dropped.
async fn say_goodbye(mut sink: SocketSink, mut queue: OutboxReader) {
    let mut farewell = (1001, "the link ends");
    while let Some(next) = queue.try_next() {
        if let Outgoing::Close(code, reason) = next {
            farewell = (code.number(), reason);
        }
    }
    if let Some(code) = queue.far_close() {
        farewell = (code.unwrap_or(1000), "");
    }
    let say_why = sink.send(Sent::Close(farewell.0, farewell.1));
    let _unheard = tokio::time::timeout(CLOSE_ANSWER_MAX, say_why).await;
    end(sink).await;
}

/// Ends the TLS session, so that the far end can tell this from a connection that was cut.
async fn end(mut sink: SocketSink) {
    let _unheard = tokio::time::timeout(CLOSE_ANSWER_MAX, sink.end()).await;
}

enum Ended {
    /// Our close frame is out.
    Closed,
    /// The connection broke.
    Broken,
}

/// Empties an outbox. What waits there goes out together; nothing waits for more to come.
struct Writer {
    sink: SocketSink,
    hub: mpsc::Sender<HubMessage>,
    link: LinkId,
    state: Arc<LinkState>,
    /// What the outbox counts the frames with that are in line for the next flush.
    unflushed_bytes: usize,
}

impl Writer {
    async fn run(&mut self, queue: &mut OutboxReader) -> Ended {
        match self.send_all(queue).await {
            Ok(()) => Ended::Closed,
            Err(Broken) => Ended::Broken,
        }
    }

    /// Sends until our close frame is out.
    async fn send_all(&mut self, queue: &mut OutboxReader) -> Result<(), Broken> {
        loop {
            let next = match queue.try_next() {
                Some(next) => next,
                None => {
                    self.flush(queue).await?;
                    queue.next().await
                }
            };
            match next {
                Outgoing::Frame(text, bytes) => self.put(text, bytes, queue).await?,
                Outgoing::Ping => self.sink.feed(Sent::Ping).await?,
                Outgoing::Pong(echo) => self.sink.feed(Sent::Pong(echo)).await?,
                Outgoing::Fence => {
                    self.flush(queue).await?;
                    self.tell_hub(HubMessage::core(Input::Flushed { link: self.link }));
                }
                Outgoing::Close(code, reason) => {
                    let flushed = self.sink.send(Sent::Close(code.number(), reason));
                    let _slow = tokio::time::timeout(Duration::from_millis(STOP_FLUSH_MAX_MS), flushed).await;
                    return Ok(());
                }
            }
        }
    }

    /// Puts a frame in line for the next flush.
    async fn put(&mut self, text: Pending, bytes: usize, queue: &OutboxReader) -> Result<(), Broken> {
        if matches!(text, Pending::Signing(_)) {
            // What is ready does not wait for that.
            self.flush(queue).await?;
        }
        let text = text.text().await.ok_or(Broken)?;
        // Before the far end can have it and say so.
        self.state.frames_out.fetch_add(1, Ordering::Relaxed);
        self.sink.feed(Sent::Text(text)).await?;
        self.unflushed_bytes = self.unflushed_bytes.saturating_add(bytes);
        if self.unflushed_bytes >= GATHERED_BYTES_MAX {
            self.flush(queue).await?;
        }
        Ok(())
    }

    /// Hands everything in line to the system; its room in the outbox is free again.
    async fn flush(&mut self, queue: &OutboxReader) -> Result<(), Broken> {
        self.sink.flush().await?;
        queue.sent(std::mem::take(&mut self.unflushed_bytes));
        Ok(())
    }

    /// A busy hub and a full outbox must not wait for each other: where there is no room, a task of its own waits.
    fn tell_hub(&self, message: HubMessage) {
        if let Err(TrySendError::Full(message)) = self.hub.try_send(message) {
            let hub = self.hub.clone();
            tokio::spawn(async move {
                let _stopping = hub.send(message).await;
            });
        }
    }
}
