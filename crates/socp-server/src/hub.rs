//! The hub: the one task that owns the state machine, and performs what it wants.

pub(crate) mod answers;
mod pages;
mod passwords;

use crate::admin::{PinRow, Refusal};
use crate::data_dir::Opened;
use crate::dial::{self, Target};
use crate::error::ServerError;
use crate::link::{LinkHandle, LinkRole, LinkState, Wiring};
use crate::log;
use crate::metrics::{Direction, Loss, Metrics, Outcome};
use crate::outbox::{Outbox, Pending};
use crate::pool::Line;
use crate::settings::Settings;
use crate::signer::{NewDelegate, Signer, new_delegate};
use crate::socket::Utf8Bytes;
use crate::store::Store;
use answers::{Question, Unpinning};
use socp_core::Now;
use socp_core::server::{
    BootstrapEntry, Config, DialId, Fault, Input, LinkId, Note, Output, Record, Role, SaveId, Seal, Server, TlsSession,
};
use socp_crypto::{OpaqueSetup, random_bytes};
use socp_proto::limits::{DELEGATION_LOOK_MS, STOP_FLUSH_MAX_MS};
use socp_proto::{Base64Url, FrameKind, KeyText, Object, ServerId, UserId};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};

/// What others tell the hub.
#[derive(Debug)]
pub(crate) enum HubMessage {
    /// A link is there.
    Opened {
        link: LinkId,
        by: Opener,
        tls: Option<TlsSession>,
        handle: LinkHandle,
    },
    /// Something for the state machine.
    Core(Box<Input>),
    /// A directory statement is signed, because of a link.
    Endorsed(Option<Arc<LinkState>>, UserId, Base64Url),
    /// Another key signs frames in our name; none if it could not be made.
    Delegated(Option<Box<NewDelegate>>),
    /// The store has answered, for all that went into one commit.
    Saved(Vec<SaveId>, Result<(), String>),
    /// An operator wants to know something.
    Asked(Question),
    /// The operator wants to stop.
    Stop,
}

impl HubMessage {
    /// Something for the state machine.
    pub(crate) fn core(input: Input) -> Self {
        Self::Core(Box::new(input))
    }
}

/// How a link came to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opener {
    /// We dialled.
    Dial(DialId),
    /// Somebody connected from there.
    Address(IpAddr),
}

/// Who causes something.
#[derive(Debug)]
enum Cause {
    /// A link, as long as it is there.
    Link(LinkId),
    /// A link that may be gone since.
    State(Arc<LinkState>),
}

pub(crate) struct Hub {
    core: Server,
    wiring: Arc<Wiring>,
    signer: Signer,
    passwords: Arc<OpaqueSetup>,
    computing: passwords::Computing,
    store: Store,
    messages: mpsc::Receiver<HubMessage>,
    // Iterated only to end every link.
    links: HashMap<LinkId, LinkHandle>,
    epoch: Instant,
    peers: watch::Sender<usize>,
    /// Who causes what is done now.
    cause: Option<Cause>,
    /// Who causes what is done once something is on disk. Never iterated.
    waiting: HashMap<SaveId, Arc<LinkState>>,
    /// What becomes of the frame that is being handled.
    handling: Option<Outcome>,
    /// Links without room, of which the core is still to be told.
    slow: BTreeSet<LinkId>,
    /// Somebody up the stack is telling it.
    is_giving_up: bool,
    /// Who waits for the core to forget a pin, and then for the store.
    wanted_unpin: Option<(PinRow, oneshot::Sender<Result<PinRow, Refusal>>)>,
    unpinning: Vec<Unpinning>,
    /// Whether a delegated key signs what our own need not.
    delegates: bool,
    /// The next one is being made.
    is_delegating: bool,
    /// When to look whether it is time for the next one.
    renewal: tokio::time::Interval,
    is_stopping: bool,
}

impl Hub {
    pub(crate) fn new(
        settings: &Settings,
        listen: SocketAddr,
        opened: Opened,
        wiring: Arc<Wiring>,
        messages: mpsc::Receiver<HubMessage>,
    ) -> Result<Self, ServerError> {
        let seed = random_bytes::<32>().map_err(|error| failed("randomness", &error))?;
        let (host, port) = reachable_at(settings, listen);
        let (clock_behind_ms, clock_ahead_ms) = settings.clock_tolerance_ms;
        let epoch = Instant::now();
        let mut signer = Signer::new(opened.key.clone(), wiring.pool.clone(), Arc::clone(&wiring.metrics));
        let mut delegation = None;
        if settings.delegates {
            let new = new_delegate(&opened.key, &opened.server_id, now(epoch).unix);
            let new = new.map_err(|error| failed("key to sign frames with", &error))?;
            signer.use_delegate(new.key);
            delegation = Some(new.delegation);
        }
        let config = Config {
            server_id: opened.server_id,
            name: settings.name.clone(),
            key: opened.key_text.clone(),
            history: opened.history,
            host,
            port,
            has_tls: settings.has_tls(),
            bootstrap: without_self(&settings.bootstrap, &opened.key_text),
            accept: settings.accept,
            takes_users: settings.takes_users,
            directory: settings.directory,
            verify_content: settings.verify_content,
            allow_unsigned_join: settings.allow_unsigned_join,
            clock_behind_ms,
            clock_ahead_ms,
            delegation,
            proves: true,
            batches: true,
            passwords: true,
            keeps: true,
            run: opened.run,
            seed,
        };
        let core = Server::new(now(epoch), config, opened.memory);
        opened.store.answer_to(wiring.hub.clone());
        Ok(Self {
            core,
            wiring,
            signer,
            passwords: Arc::new(opened.passwords),
            computing: passwords::Computing::default(),
            store: opened.store,
            messages,
            links: HashMap::new(),
            epoch,
            peers: watch::Sender::new(0),
            cause: None,
            waiting: HashMap::new(),
            handling: None,
            slow: BTreeSet::new(),
            is_giving_up: false,
            wanted_unpin: None,
            unpinning: Vec::new(),
            delegates: settings.delegates,
            is_delegating: false,
            renewal: every(Duration::from_millis(DELEGATION_LOOK_MS)),
            is_stopping: false,
        })
    }

    /// How many peers are linked.
    pub(crate) fn peers(&self) -> watch::Receiver<usize> {
        self.peers.subscribe()
    }

    /// Runs until stopped.
    pub(crate) async fn run(mut self) {
        self.perform();
        loop {
            let core_due = self
                .core
                .poll_timeout()
                .map(|due| self.epoch + Duration::from_millis(due));
            let due = core_due.into_iter().chain(self.store.flush_due()).min();
            let message = tokio::select! {
                message = self.messages.recv() => message,
                _ = self.renewal.tick() => {
                    // One that could not be made is tried again here, too.
                    if !self.is_delegating && self.core.wants_delegation(now(self.epoch)) {
                        self.delegate_for(self.core.id().clone());
                    }
                    continue;
                }
                () = sleep_until(due) => {
                    self.flush_store();
                    self.core.handle_timeout(now(self.epoch));
                    self.perform();
                    continue;
                }
            };
            // The hub holds a sender itself, so there is always a next message.
            let Some(message) = message else { return };
            self.on_message(message);
            if self.is_stopping {
                return self.drain().await;
            }
        }
    }

    fn flush_store(&mut self) {
        if self.store.flush_due().is_some_and(|due| due <= Instant::now()) {
            self.store.flush();
        }
    }

    fn on_message(&mut self, message: HubMessage) {
        let input = match message {
            HubMessage::Opened { link, by, tls, handle } => {
                self.links.insert(link, handle);
                match by {
                    Opener::Dial(dial) => Input::Dialled { dial, link, tls },
                    Opener::Address(from) => Input::Accepted {
                        link,
                        from,
                        tls: tls.map(|session| session.binding),
                    },
                }
            }
            HubMessage::Core(input) => *input,
            HubMessage::Endorsed(cause, user, sig) => return self.on_endorsed(cause, user, sig),
            HubMessage::Delegated(new) => return self.on_delegated(new.map(|new| *new)),
            HubMessage::Saved(saves, outcome) => return self.on_saved(&saves, &outcome),
            HubMessage::Asked(question) => return self.on_question(question),
            HubMessage::Stop => Input::Stop,
        };
        self.cause = link_of(&input).map(Cause::Link);
        if let Input::Closed { link } = &input {
            self.cause = self.links.remove(link).map(|handle| Cause::State(handle.state));
            self.computing.forget_link(*link);
        }
        let frame = frame_of(&input);
        self.handling = frame.map(|(_, unless_told)| unless_told);
        self.handle(input);
        self.cause = None;
        if let (Some((kind, _)), Some(outcome)) = (frame, self.handling.take()) {
            self.wiring.metrics.frame(Direction::In, kind, outcome);
        }
    }

    /// Has a key made that signs frames in our name under this id.
    fn delegate_for(&mut self, id: ServerId) {
        if !self.delegates {
            return;
        }
        self.is_delegating = true;
        let made = self.signer.delegate(id, now(self.epoch).unix);
        let hub = self.wiring.hub.clone();
        tokio::spawn(async move {
            let new = made.await.ok().flatten().map(Box::new);
            let _stopping = hub.send(HubMessage::Delegated(new)).await;
        });
    }

    fn on_delegated(&mut self, new: Option<NewDelegate>) {
        self.is_delegating = false;
        let Some(NewDelegate { key, delegation }) = new else {
            return;
        };
        // Nothing that the core wants signed is still to be performed, so the next frame is signed by the new key, and
        // the core tells of it before.
        self.signer.use_delegate(key);
        self.handle(Input::Delegated { delegation });
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(now(self.epoch), input);
        self.perform();
    }

    fn on_endorsed(&mut self, cause: Option<Arc<LinkState>>, user: UserId, sig: Base64Url) {
        self.cause = cause.map(Cause::State);
        self.handle(Input::Endorsed { user, sig });
        self.cause = None;
    }

    fn on_saved(&mut self, saves: &[SaveId], outcome: &Result<(), String>) {
        // What could not even be queued is answered in the midst of something else.
        let before = self.cause.take();
        for save in saves {
            self.cause = self.waiting.remove(save).map(Cause::State);
            self.handle(match outcome {
                Ok(()) => Input::Saved { save: *save },
                Err(reason) => Input::SaveFailed {
                    save: *save,
                    reason: reason.clone(),
                },
            });
            self.answer_unpinned(*save, outcome);
        }
        self.cause = before;
    }

    /// Does everything that the core wants done.
    fn perform(&mut self) {
        let mut slow = Vec::new();
        let mut unsaved = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Send { to, draft, by } => {
                    let kind = draft.kind;
                    let draft = draft.write();
                    let bytes = draft.wire_bytes();
                    self.enqueue(&to, kind, bytes, &mut slow, |hub| match by {
                        Seal::Server => hub.signer.sign(hub.line().as_ref(), draft),
                        Seal::Delegate => hub.signer.sign_by_delegate(draft),
                    });
                }
                Output::Forward { to, envelope } => {
                    let text = Utf8Bytes::from(envelope.to_text());
                    let bytes = text.len();
                    self.enqueue(&to, envelope.kind, bytes, &mut slow, |_| Pending::Ready(text));
                }
                Output::Close { link, code, reason } => {
                    if let Some(handle) = self.links.get(&link) {
                        handle.outbox.close(code, reason);
                        tokio::spawn(end_at_last(handle.outbox.clone()));
                    }
                }
                Output::Fence { link } => self.at(link, |handle| handle.outbox.fence()),
                Output::Ping { link } => self.at(link, |handle| handle.outbox.ping()),
                Output::Dial {
                    dial,
                    host,
                    port,
                    key,
                    tls,
                } => {
                    let target = Target { host, port, key, tls };
                    tokio::spawn(dial::dial(Arc::clone(&self.wiring), dial, target));
                }
                Output::Identified { link, role } => self.identify(link, role),
                Output::Proceed { link } => self.at(link, |handle| handle.state.proceed.notify_one()),
                Output::Trust { server, key } => self.wiring.keyring.trust(server, &key),
                Output::Distrust { server } => self.wiring.keyring.distrust(&server),
                Output::Endorse { user, statement } => self.endorse(user, statement),
                Output::Opaque { link, work } => self.compute(link, work),
                Output::Fetch { link, user } => self.fetch(link, &user),
                Output::ReadPage { link, shelf, after } => self.read_page(link, shelf, after),
                Output::Save { save, record } => {
                    if matches!(record, Record::Unpinned(_)) {
                        self.await_unpinned(save);
                    }
                    if let Record::Identity(id) = &record {
                        self.delegate_for(id.clone());
                    }
                    self.remember_cause(save, &record);
                    if !self.store.save(save, record) {
                        unsaved.push(save);
                    }
                }
                Output::Note(note) => self.on_note(&note),
                Output::Stopped => self.is_stopping = true,
            }
        }
        if !unsaved.is_empty() {
            self.on_saved(&unsaved, &Err("the disk is too slow; too much waits for it".to_owned()));
        }
        self.give_up_slow(slow);
    }

    /// Does something with a link, if it is still there.
    fn at(&self, link: LinkId, act: impl FnOnce(&LinkHandle)) {
        if let Some(handle) = self.links.get(&link) {
            act(handle);
        }
    }

    /// Tells the core which links had no room; what it does about them is not about the frame at hand. What that fills in
    /// turn is told by whoever is telling already: thousands of full links are no deeper than one.
    fn give_up_slow(&mut self, slow: Vec<LinkId>) {
        self.slow.extend(slow);
        if std::mem::replace(&mut self.is_giving_up, true) {
            return;
        }
        let handling = self.handling.take();
        while let Some(link) = self.slow.pop_first() {
            self.handle(Input::Refused {
                link,
                fault: Fault::SlowReader,
            });
        }
        self.is_giving_up = false;
        self.handling = handling;
    }

    /// Queues a frame on each link, making it only if some link has room; links without room are collected.
    fn enqueue(
        &self,
        to: &[LinkId],
        kind: FrameKind,
        bytes: usize,
        slow: &mut Vec<LinkId>,
        make: impl FnOnce(&Self) -> Pending,
    ) {
        let mut make = Some(make);
        let mut frame = None;
        for link in to {
            let outcome = match self.links.get(link) {
                None => Outcome::Dropped(Loss::LinkGone),
                Some(handle) if handle.outbox.is_full(bytes) => Outcome::Dropped(Loss::OutboxFull),
                Some(handle) => {
                    if let Some(make) = make.take() {
                        frame = Some(make(self));
                    }
                    match frame.clone().map(|frame| handle.outbox.push(frame, bytes)) {
                        Some(Ok(())) => Outcome::Queued,
                        Some(Err(_)) | None => Outcome::Dropped(Loss::OutboxFull),
                    }
                }
            };
            if outcome == Outcome::Dropped(Loss::OutboxFull) {
                slow.push(*link);
            }
            self.metrics().frame(Direction::Out, Some(kind), outcome);
        }
    }

    /// The link that causes what is done now, even where it is gone.
    fn cause(&self) -> Option<Arc<LinkState>> {
        match self.cause.as_ref()? {
            Cause::Link(link) => self.links.get(link).map(|handle| Arc::clone(&handle.state)),
            Cause::State(state) => Some(Arc::clone(state)),
        }
    }

    /// Behind some records something is signed, for the same link as now.
    fn remember_cause(&mut self, save: SaveId, record: &Record) {
        if matches!(record, Record::User(_) | Record::Pin(_) | Record::Deleted(_)) {
            self.waiting.extend(self.cause().map(|cause| (save, cause)));
        }
    }

    /// Its line.
    fn line(&self) -> Option<Arc<Line>> {
        self.cause().map(|cause| cause.line())
    }

    fn metrics(&self) -> &Metrics {
        &self.wiring.metrics
    }

    fn on_note(&mut self, note: &Note) {
        log::note(note);
        if matches!(note, Note::PeerUp { .. }) {
            self.peers.send_modify(|count| *count = count.saturating_add(1));
        }
        if matches!(note, Note::PeerDown { .. }) {
            self.peers.send_modify(|count| *count = count.saturating_sub(1));
        }
        if let Some(outcome) = count(self.metrics(), note)
            && let Some(handling) = &mut self.handling
        {
            *handling = outcome;
        }
    }

    fn identify(&self, link: LinkId, role: Role) {
        let Some(handle) = self.links.get(&link) else {
            return;
        };
        match role {
            Role::Peer(server) => handle.state.identify(LinkRole::Peer(server)),
            Role::User(_, key) => handle.state.identify(LinkRole::User(key)),
        }
    }

    fn endorse(&self, user: UserId, statement: Object) {
        let cause = self.cause();
        let signed = self.signer.endorse(self.line().as_ref(), statement);
        let hub = self.wiring.hub.clone();
        tokio::spawn(async move {
            let sig = signed.await.ok().flatten().unwrap_or_else(|| Base64Url::encode(&[]));
            let _stopping = hub.send(HubMessage::Endorsed(cause, user, sig)).await;
        });
    }

    /// Lets the links flush and end; then the store.
    async fn drain(mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(STOP_FLUSH_MAX_MS);
        while !self.links.is_empty() {
            match tokio::time::timeout_at(deadline, self.messages.recv()).await {
                Ok(Some(HubMessage::Core(input))) => {
                    if let Input::Closed { link } = *input {
                        self.links.remove(&link);
                    }
                }
                Ok(Some(HubMessage::Opened { handle, .. })) => handle.outbox.kill(),
                // Whoever asked is told by the end of the question that we are stopping.
                Ok(Some(
                    HubMessage::Endorsed(..)
                    | HubMessage::Saved(..)
                    | HubMessage::Asked(_)
                    | HubMessage::Delegated(_)
                    | HubMessage::Stop,
                )) => {}
                Ok(None) | Err(_) => break,
            }
        }
        for handle in self.links.values() {
            handle.outbox.kill();
        }
        // The store answers into this queue; nobody reads it any more, so it must not wait for room in it.
        let Self { messages, store, .. } = self;
        drop(messages);
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the store did not close");
        }
    }
}

/// The type of the frame that an input brings, where it is known, and what becomes of it unless a note says otherwise.
fn frame_of(input: &Input) -> Option<(Option<FrameKind>, Outcome)> {
    match input {
        Input::First { first, .. } => Some((Some(first.frame.envelope.kind), Outcome::Accepted)),
        Input::Peer { frame, .. } => Some((Some(frame.get().envelope.kind), Outcome::Accepted)),
        Input::User { frame, .. } => Some((Some(frame.envelope.kind), Outcome::Accepted)),
        Input::Refused { fault, .. } => Some((fault.frame_kind(), Outcome::Ignored)),
        Input::Accepted { .. }
        | Input::Dialled { .. }
        | Input::DialFailed { .. }
        | Input::Flushed { .. }
        | Input::Alive { .. }
        | Input::Closed { .. }
        | Input::Endorsed { .. }
        | Input::Opaque { .. }
        | Input::Fetched { .. }
        | Input::PageRead { .. }
        | Input::Saved { .. }
        | Input::SaveFailed { .. }
        | Input::Delegated { .. }
        | Input::Unpin { .. }
        | Input::Stop => None,
    }
}

/// The link from which an input comes.
fn link_of(input: &Input) -> Option<LinkId> {
    match input {
        Input::Accepted { link, .. }
        | Input::Opaque { link, .. }
        | Input::Fetched { link, .. }
        | Input::PageRead { link, .. }
        | Input::Dialled { link, .. }
        | Input::First { link, .. }
        | Input::Peer { link, .. }
        | Input::User { link, .. }
        | Input::Refused { link, .. }
        | Input::Flushed { link }
        | Input::Alive { link }
        | Input::Closed { link } => Some(*link),
        Input::DialFailed { .. }
        | Input::Endorsed { .. }
        | Input::Saved { .. }
        | Input::SaveFailed { .. }
        | Input::Delegated { .. }
        | Input::Unpin { .. }
        | Input::Stop => None,
    }
}

/// Counts what a note says, and what that makes of the frame that is being handled.
fn count(metrics: &Metrics, note: &Note) -> Option<Outcome> {
    match note {
        Note::Refused { class, .. } => {
            metrics.refused(class);
            return Some(Outcome::Refused(class));
        }
        Note::Duplicate { .. } => return Some(Outcome::Duplicate),
        Note::Ignored { .. } => return Some(Outcome::Ignored),
        Note::PeerOverBudget { .. } => metrics.warned("peer_over_budget"),
        Note::PinFollowed { .. } => {}
        Note::PinConflict { .. } => metrics.warned("pin_conflict"),
        Note::ProofWithheld { .. } => metrics.warned("proof_withheld"),
        Note::StandsBetween { .. } => metrics.warned("stands_between"),
        Note::Uncertified { .. } => metrics.warned("uncertified"),
        Note::WrongKey { .. } => metrics.warned("wrong_key"),
        Note::KeyConflict { .. } => metrics.warned("key_conflict"),
        Note::Ousted { .. } => metrics.warned("ousted"),
        Note::TrustedOnFirstUse { .. } => metrics.warned("trusted_on_first_use"),
        Note::UnprovenHello { .. } => metrics.warned("unproven_hello"),
        Note::Damaged { .. } => metrics.warned("damaged_message"),
        Note::Unreadable { .. } => metrics.warned("unreadable_shelf"),
        Note::Full { .. } => metrics.warned("mailbox_full"),
        Note::Unacknowledged { .. } => metrics.warned("unacknowledged"),
        Note::Undeliverable { .. } => metrics.dropped(Loss::Undeliverable),
        Note::Routed { is_local, .. } => metrics.routed(*is_local),
        Note::DialFailed { .. }
        | Note::KeysChanged { .. }
        | Note::Deleted { .. }
        | Note::PeerUp { .. }
        | Note::PeerDown { .. }
        | Note::DuplicateLink { .. }
        | Note::Pinned { .. }
        | Note::IdAssigned { .. }
        | Note::IdKept { .. }
        | Note::Rejected { .. }
        | Note::UserUp { .. }
        | Note::UserDown { .. }
        | Note::PeerComplained { .. }
        | Note::UserComplained { .. }
        | Note::Silent { .. }
        | Note::SaveFailed { .. }
        | Note::Unpinned { .. }
        | Note::ChannelVersion { .. }
        | Note::PresenceCorrected { .. } => {}
    }
    None
}

/// Ends a link that was closed but whose far end reads nothing, not even the close.
async fn end_at_last(outbox: Outbox) {
    tokio::time::sleep(Duration::from_millis(STOP_FLUSH_MAX_MS)).await;
    outbox.kill();
}

/// Ticks so often, for the first time after that.
fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The list without ourselves: it may be shared by many servers, and name us by a name that we do not know.
fn without_self(bootstrap: &[BootstrapEntry], own: &KeyText) -> Vec<BootstrapEntry> {
    let is_other = |entry: &&BootstrapEntry| {
        let is_own = entry.key.as_ref() == Some(own);
        if is_own {
            tracing::info!(
                host = entry.host,
                port = entry.port,
                "this bootstrap entry has our own key; left out"
            );
        }
        !is_own
    };
    bootstrap.iter().filter(is_other).cloned().collect()
}

/// The clock reading that the core is given.
fn now(epoch: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        mono: millis(epoch.elapsed()),
        unix: millis(unix),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn failed(part: &'static str, error: &dyn ToString) -> ServerError {
    let reason = error.to_string();
    ServerError::Part { part, reason }
}

/// Where others can dial us.
fn reachable_at(settings: &Settings, listen: SocketAddr) -> (String, u16) {
    let public = settings.public_address.clone();
    public.unwrap_or_else(|| (host_of(listen), listen.port()))
}

/// The host to tell others: an address that means "every interface" is of no use to them.
fn host_of(listen: SocketAddr) -> String {
    match listen.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    }
}
