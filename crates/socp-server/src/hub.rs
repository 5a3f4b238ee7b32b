//! The hub: the one task that owns the state machine, and performs what it wants.

use crate::data_dir::Opened;
use crate::dial;
use crate::error::ServerError;
use crate::link::{LinkHandle, LinkRole, Wiring};
use crate::log;
use crate::outbox::{Outbox, Pending};
use crate::settings::Settings;
use crate::signer::Signer;
use crate::store::Store;
use futures_util::FutureExt as _;
use socp_core::Now;
use socp_core::server::{Config, DialId, Fault, Input, LinkId, Note, Output, Role, SaveId, Server};
use socp_crypto::{PublicKey, random_bytes};
use socp_proto::limits::STOP_FLUSH_MAX_MS;
use socp_proto::{Base64Url, Object, UserId};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// What others tell the hub.
#[derive(Debug)]
pub(crate) enum HubMessage {
    /// A link is there.
    Opened {
        link: LinkId,
        dial: Option<DialId>,
        handle: LinkHandle,
    },
    /// Something for the state machine.
    Core(Box<Input>),
    /// The store has answered.
    Saved(SaveId, Result<(), String>),
    /// The operator wants to stop.
    Stop,
}

impl HubMessage {
    /// Something for the state machine.
    pub(crate) fn core(input: Input) -> Self {
        Self::Core(Box::new(input))
    }
}

/// Bytes that an envelope adds to its payload: names, ids, `ts`, and 683 characters of signature.
const ENVELOPE_BYTES: usize = 1024;

pub(crate) struct Hub {
    core: Server,
    wiring: Arc<Wiring>,
    signer: Signer,
    store: Store,
    messages: mpsc::Receiver<HubMessage>,
    // Iterated only to end every link.
    links: HashMap<LinkId, LinkHandle>,
    epoch: Instant,
    peers: watch::Sender<usize>,
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
        let seed = random_bytes::<32>().map_err(|error| ServerError::Part {
            part: "randomness",
            reason: error.to_string(),
        })?;
        let (host, port) = settings
            .public_address
            .clone()
            .unwrap_or_else(|| (host_of(listen), listen.port()));
        let (clock_behind_ms, clock_ahead_ms) = settings.clock_tolerance_ms;
        let config = Config {
            server_id: opened.server_id,
            name: settings.name.clone(),
            key: opened.key_text,
            host,
            port,
            bootstrap: settings.bootstrap.clone(),
            accept: settings.accept,
            takes_users: settings.takes_users,
            verify_content: settings.verify_content,
            allow_unsigned_join: settings.allow_unsigned_join,
            clock_behind_ms,
            clock_ahead_ms,
            seed,
        };
        let epoch = Instant::now();
        let core = Server::new(now(epoch), config, opened.memory);
        let signer = Signer::new(opened.key, wiring.pool.clone());
        opened.store.answer_to(wiring.hub.clone());
        Ok(Self {
            core,
            wiring,
            signer,
            store: opened.store,
            messages,
            links: HashMap::new(),
            epoch,
            peers: watch::Sender::new(0),
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
            let due = self
                .core
                .poll_timeout()
                .map(|due| self.epoch + Duration::from_millis(due));
            let message = tokio::select! {
                message = self.messages.recv() => message,
                () = sleep_until(due) => {
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

    fn on_message(&mut self, message: HubMessage) {
        let input = match message {
            HubMessage::Opened { link, dial, handle } => {
                self.links.insert(link, handle);
                match dial {
                    Some(dial) => Input::Dialled { dial, link },
                    None => Input::Accepted { link },
                }
            }
            HubMessage::Core(input) => *input,
            HubMessage::Saved(save, Ok(())) => Input::Saved { save },
            HubMessage::Saved(save, Err(reason)) => Input::SaveFailed { save, reason },
            HubMessage::Stop => Input::Stop,
        };
        if let Input::Closed { link } = &input {
            self.links.remove(link);
        }
        self.core.handle(now(self.epoch), input);
        self.perform();
    }

    /// Does everything that the core wants done.
    fn perform(&mut self) {
        let mut slow = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Send { to, draft } => {
                    let bytes = draft.signed_text().len().saturating_add(ENVELOPE_BYTES);
                    self.enqueue(&to, bytes, &mut slow, |hub| hub.signer.sign(draft));
                }
                Output::Forward { to, envelope } => {
                    let text: Arc<str> = Arc::from(envelope.to_text());
                    let bytes = text.len();
                    self.enqueue(&to, bytes, &mut slow, |_| {
                        futures_util::future::ready(Some(text)).boxed().shared()
                    });
                }
                Output::Close { link, code, reason } => {
                    if let Some(handle) = self.links.get(&link) {
                        handle.outbox.close(code, reason);
                        tokio::spawn(end_at_last(handle.outbox.clone()));
                    }
                }
                Output::Fence { link } => {
                    if let Some(handle) = self.links.get(&link) {
                        handle.outbox.fence();
                    }
                }
                Output::Ping { link } => {
                    if let Some(handle) = self.links.get(&link) {
                        handle.outbox.ping();
                    }
                }
                Output::Dial { dial, host, port, key } => {
                    tokio::spawn(dial::dial(Arc::clone(&self.wiring), dial, host, port, key));
                }
                Output::Identified { link, role } => self.identify(link, role),
                Output::Proceed { link } => {
                    if let Some(handle) = self.links.get(&link) {
                        handle.state.proceed.notify_one();
                    }
                }
                Output::Trust { server, key } => self.wiring.keyring.trust(server, &key),
                Output::Distrust { server } => self.wiring.keyring.distrust(&server),
                Output::Endorse { user, statement } => self.endorse(user, statement),
                Output::Save { save, record } => self.store.save(save, record),
                Output::Note(note) => self.on_note(&note),
                Output::Stopped => self.is_stopping = true,
            }
        }
        for link in slow {
            self.core.handle(
                now(self.epoch),
                Input::Refused {
                    link,
                    fault: Fault::SlowReader,
                },
            );
            self.perform();
        }
    }

    /// Queues a frame on each link, making it only if some link has room; links without room are collected.
    fn enqueue(&self, to: &[LinkId], bytes: usize, slow: &mut Vec<LinkId>, make: impl FnOnce(&Self) -> Pending) {
        let mut make = Some(make);
        let mut frame = None;
        for link in to {
            let Some(handle) = self.links.get(link) else {
                continue;
            };
            if handle.outbox.is_full(bytes) {
                slow.push(*link);
                continue;
            }
            if let Some(make) = make.take() {
                frame = Some(make(self));
            }
            if let Some(frame) = &frame
                && handle.outbox.push(frame.clone(), bytes).is_err()
            {
                slow.push(*link);
            }
        }
    }

    fn on_note(&self, note: &Note) {
        log::note(note);
        if matches!(note, Note::PeerUp { .. }) {
            self.peers.send_modify(|count| *count = count.saturating_add(1));
        }
        if matches!(note, Note::PeerDown { .. }) {
            self.peers.send_modify(|count| *count = count.saturating_sub(1));
        }
    }

    fn identify(&self, link: LinkId, role: Role) {
        let Some(handle) = self.links.get(&link) else {
            return;
        };
        match role {
            Role::Peer(server) => handle.state.identify(LinkRole::Peer(server)),
            Role::User(user, key) => match PublicKey::from_spki_der(key.der()) {
                Ok(key) => handle.state.identify(LinkRole::User(key)),
                // The reader accepted this very key a moment ago.
                Err(error) => tracing::error!(%user, %error, "an accepted key is refused"),
            },
        }
    }

    fn endorse(&self, user: UserId, statement: Object) {
        let signed = self.signer.endorse(statement);
        let hub = self.wiring.hub.clone();
        tokio::spawn(async move {
            let sig = signed.await.ok().flatten().unwrap_or_else(|| Base64Url::encode(&[]));
            let _stopping = hub.send(HubMessage::core(Input::Endorsed { user, sig })).await;
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
                Ok(Some(HubMessage::Saved(..) | HubMessage::Stop)) => {}
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

/// Ends a link that was closed but whose far end reads nothing, not even the close.
async fn end_at_last(outbox: Outbox) {
    tokio::time::sleep(Duration::from_millis(STOP_FLUSH_MAX_MS)).await;
    outbox.kill();
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
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

/// The host to tell others: an address that means "every interface" is of no use to them.
fn host_of(listen: SocketAddr) -> String {
    match listen.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    }
}
