//! A SOCP server: sockets, signing pool, store around [`socp_core::server`].
//!
//! One task, the hub, owns the state machine. Every link has a reader and a writer task; RSA runs on a pool of threads
//! of its own; one thread owns the database. They exchange the core's inputs and outputs:
//!
//! ```text
//! reader ── frames, verified on the pool, in order ──► hub ── drafts, signed on the pool, in order ──► writer
//!                                                      hub ◄── saves and their acknowledgements ──► store
//! ```
//!
//! Every queue is bounded. A link that does not read fills its own outbox and is closed; nobody waits for it.

pub mod admin;
pub mod backup;
mod data_dir;
mod dial;
mod error;
mod histories;
mod http;
mod hub;
mod key_files;
mod keyring;
mod link;
mod log;
mod metrics;
mod outbox;
mod pending;
mod pool;
mod reader;
mod rotation;
mod scrape;
mod settings;
mod signer;
mod socket;
mod store;
mod tls;
mod verifiers;

pub use error::ServerError;
pub use key_files::{change_passphrase, needs_passphrase};
pub use rotation::{Rotated, rotate_key};
pub use settings::{AcmeSettings, RateLimit, Settings, TlsSource};

use admin::Desk;
use hub::{Hub, HubMessage};
use link::Wiring;
use socp_proto::{Fingerprint, KeyText, ServerId, TlsPin};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Inputs that may wait for the hub before links must.
const HUB_QUEUE_COUNT_MAX: usize = 1024;

/// What a server that serves can say of itself.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether it speaks TLS there.
    pub has_tls: bool,
    /// The pin of its certificate, where it made that itself.
    pub tls_pin: Option<TlsPin>,
    /// Its id at start.
    pub server_id: ServerId,
    /// Its public key.
    pub key: KeyText,
    /// Its name for people.
    pub name: Option<String>,
}

impl Ready {
    /// Where clients connect, in full: with the pin where they need it.
    #[must_use]
    pub fn url(&self) -> String {
        match (self.has_tls, self.tls_pin) {
            (true, Some(pin)) => format!("wss://{}#{pin}", self.listen),
            (true, None) => format!("wss://{}", self.listen),
            (false, _) => format!("ws://{}", self.listen),
        }
    }

    /// The fingerprint of its key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.key.fingerprint()
    }
}

/// A server that serves, until it is stopped or fails.
#[derive(Debug)]
pub struct Running {
    /// What it says of itself.
    pub ready: Ready,
    peers: watch::Receiver<usize>,
    hub: mpsc::Sender<HubMessage>,
    hub_task: JoinHandle<()>,
    http_task: JoinHandle<std::io::Result<()>>,
    http_stop: watch::Sender<bool>,
    admin_task: Option<JoinHandle<()>>,
}

/// Starts a server.
///
/// # Errors
/// [`ServerError`] if the data directory, the key, the database or the listener cannot be had; it says which.
pub async fn start(settings: Settings) -> Result<Running, ServerError> {
    let opened = data_dir::open(&settings).await?;
    let tls = tls::open(&settings).await?;
    let listener = bind(settings.listen).await?;
    let listen = listener.local_addr().map_err(|source| ServerError::Listen {
        address: settings.listen,
        source,
    })?;
    let (hub_sender, hub_receiver) = mpsc::channel(HUB_QUEUE_COUNT_MAX);
    let metrics = Arc::new(metrics::Metrics::new());
    opened.store.count_with(&metrics);
    let pool = pool::Pool::start(Arc::clone(&metrics))?;
    let wiring = Arc::new(Wiring::new(&settings, pool, Arc::clone(&metrics), hub_sender.clone()));
    let health = opened.store.health();
    let ready = Ready {
        listen,
        has_tls: tls.is_some(),
        tls_pin: tls.as_ref().and_then(tls::Tls::own_pin),
        server_id: opened.server_id.clone(),
        key: opened.key_text.clone(),
        name: settings.name.clone(),
    };
    let hub = Hub::new(&settings, listen, opened, Arc::clone(&wiring), hub_receiver)?;
    let peers = hub.peers();
    let hub_task = tokio::spawn(hub.run());
    let (http_stop, stopped) = watch::channel(false);
    let desk = Desk {
        ready: ready.clone(),
        takes_users: settings.takes_users,
        hub: hub_sender.clone(),
        metrics: Arc::clone(&metrics),
        health: health.clone(),
        data: settings.data.clone(),
        backups: tokio::sync::Semaphore::new(1),
    };
    let admin_task = open_admin(&settings, desk, stopped.clone());
    let router = http::router(&settings, &ready, Arc::clone(&wiring), health);
    let front = http::Front {
        router,
        acceptor: tls.as_ref().map(|tls| tls.acceptor.clone()),
        pending: wiring.pending.clone(),
        metrics,
    };
    if let Some(tls) = tls {
        tokio::spawn(tls.keep_fresh(stopped.clone()));
    }
    let http_task = tokio::spawn(http::serve(listener, front, stopped));
    log::listening(&ready, &settings);
    Ok(Running {
        ready,
        peers,
        hub: hub_sender,
        hub_task,
        http_task,
        http_stop,
        admin_task,
    })
}

/// The operator's socket. A server without one still serves; why it has none is said in the log.
fn open_admin(settings: &Settings, desk: Desk, stopped: watch::Receiver<bool>) -> Option<JoinHandle<()>> {
    match admin::open(&settings.data) {
        Ok(socket) => Some(tokio::spawn(socket.serve(Arc::new(desk), stopped))),
        Err(error) => {
            tracing::warn!(%error, data = %settings.data.display(), "no admin socket; `socp admin` cannot ask this server");
            None
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServerError::Listen { address, source })
}

impl Running {
    /// Waits until a peer is linked.
    pub async fn linked(&mut self) {
        // Fails only when the hub has ended, which `until` reports.
        let _ended = self.peers.wait_for(|count| *count > 0).await.map(drop);
    }

    /// Serves until `shutdown` is ready, then takes leave of everyone: users are removed at the peers, links are closed
    /// and flushed, the store is written.
    ///
    /// # Errors
    /// [`ServerError`] if a part of the server failed meanwhile.
    pub async fn until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        tokio::select! {
            () = shutdown => {}
            ended = &mut self.hub_task => return Err(ServerError::Part { part: "hub", reason: outcome(ended) }),
            ended = &mut self.http_task => return Err(ServerError::Part { part: "listener", reason: outcome(ended) }),
        }
        // Whoever listens has ended already if these fail, and that is what we want.
        let _ended = self.http_stop.send(true);
        tracing::info!("stopping");
        // Before the lock is given back: the next server on this directory makes a socket of the same name.
        if let Some(task) = self.admin_task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the admin socket failed");
        }
        let _ended = self.hub.send(HubMessage::Stop).await;
        self.hub_task.await.map_err(|error| ServerError::Part {
            part: "hub",
            reason: error.to_string(),
        })?;
        self.http_task.abort();
        tracing::info!("stopped");
        Ok(())
    }
}

fn outcome<T: std::fmt::Debug>(ended: Result<T, tokio::task::JoinError>) -> String {
    match ended {
        Ok(value) => format!("ended with {value:?}"),
        Err(error) => error.to_string(),
    }
}
