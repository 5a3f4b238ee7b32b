//! The wires between servers: proxies that pass WebSocket messages on, and can lose or alter them.
//!
//! A [`Gate`] stands in front of one server and is the only address under which the others know it. Whose connection it
//! is, the dialler's first frame says. A server that is cut off [in silence](Wires::cut_off) is cut off in both
//! directions: what it sends and what is sent to it vanishes, connections to it are accepted and never answered, and
//! nobody is told that a connection has ended. A connection that lost something is never of use again, even when the
//! server is [back](Wires::join).

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// What becomes of a frame that one server (the first id) sends to another (the second): the texts that go on instead.
pub(crate) type Alter = dyn FnMut(&str, &str, &str) -> Vec<String> + Send;

/// All wires of one network.
pub(crate) struct Wires {
    runtime: tokio::runtime::Runtime,
    shared: Arc<Shared>,
}

struct Shared {
    cut_off: watch::Sender<BTreeSet<String>>,
    /// Connections that are open now: who dialled whom.
    open: Mutex<Vec<(String, String)>>,
    alter: Mutex<Option<Box<Alter>>>,
}

/// A proxy in front of one server; closed when dropped.
pub(crate) struct Gate {
    /// `host:port`.
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wires {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            cut_off: watch::Sender::default(),
            open: Mutex::default(),
            alter: Mutex::default(),
        });
        Self { runtime, shared }
    }

    /// A gate to the server with this id, which listens, or will listen, at `target`.
    pub(crate) fn gate(&self, server_id: &str, target: &str) -> Gate {
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (server, target) = (server_id.to_owned(), target.to_owned());
        let shared = Arc::clone(&self.shared);
        let task = self.runtime.spawn(async move {
            // Ends all of them when the gate is closed.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let wire = Wire {
                    shared: Arc::clone(&shared),
                    server: server.clone(),
                };
                let target = target.clone();
                connections.spawn(async move { wire.carry(stream, &target).await });
            }
        });
        Gate { address, task }
    }

    /// Cuts a server off from all others, in silence.
    pub(crate) fn cut_off(&self, server_id: &str) {
        self.shared
            .cut_off
            .send_modify(|ids| assert!(ids.insert(server_id.to_owned())));
    }

    /// Lets new connections from and to a server through again.
    pub(crate) fn join(&self, server_id: &str) {
        self.shared.cut_off.send_modify(|ids| assert!(ids.remove(server_id)));
    }

    /// The connections that are open now: who dialled whom.
    pub(crate) fn open(&self) -> Vec<(String, String)> {
        self.shared.open.lock().unwrap().clone()
    }

    /// From now on every frame goes through this.
    pub(crate) fn alter(&self, alter: impl FnMut(&str, &str, &str) -> Vec<String> + Send + 'static) {
        *self.shared.alter.lock().unwrap() = Some(Box::new(alter));
    }
}

/// One connection through a gate.
struct Wire {
    shared: Arc<Shared>,
    /// Who is behind the gate.
    server: String,
}

type Socket = WebSocketStream<TcpStream>;

impl Wire {
    async fn carry(self, stream: TcpStream, target: &str) {
        if self.shared.is_cut_off(&self.server) {
            return swallow(stream).await;
        }
        // Whoever dials a server that is gone must not be let into the proxy instead.
        let Ok(far) = TcpStream::connect(target).await else {
            return;
        };
        let Ok(mut near) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        let first = match near.next().await {
            Some(Ok(Message::Text(text))) => text,
            _ => return,
        };
        let frame: Value = serde_json::from_str(&first).unwrap_or_default();
        let dialler = frame["from"].as_str().unwrap_or_default().to_owned();
        let is_cut_off = || self.shared.is_cut_off(&dialler) || self.shared.is_cut_off(&self.server);
        if is_cut_off() {
            return swallow_messages(near).await;
        }
        let Ok((mut far, _)) = tokio_tungstenite::client_async(format!("ws://{target}/"), far).await else {
            return;
        };
        let _open = Open::new(&self.shared, &dialler, &self.server);
        let mut cuts = self.shared.cut_off.subscribe();
        for message in self.shared.pass(&dialler, &self.server, &first) {
            if far.send(message).await.is_err() {
                return;
            }
        }
        loop {
            let (message, is_up) = tokio::select! {
                _ = cuts.changed() => (None, true),
                message = near.next() => (Some(message), true),
                message = far.next() => (Some(message), false),
            };
            if is_cut_off() {
                tokio::join!(swallow_messages(near), swallow_messages(far));
                return;
            }
            let (from, to) = if is_up {
                (&dialler, &self.server)
            } else {
                (&self.server, &dialler)
            };
            let onward = if is_up { &mut far } else { &mut near };
            let onward_messages = match message {
                None => Vec::new(),
                Some(Some(Ok(Message::Text(text)))) => self.shared.pass(from, to, &text),
                Some(Some(Ok(message))) => vec![message],
                // The other end notices when this one is dropped.
                Some(Some(Err(_)) | None) => return,
            };
            for message in onward_messages {
                if onward.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Counts a connection for as long as it lives.
struct Open<'a> {
    shared: &'a Shared,
    ends: (String, String),
}

impl<'a> Open<'a> {
    fn new(shared: &'a Shared, dialler: &str, server: &str) -> Self {
        let ends = (dialler.to_owned(), server.to_owned());
        shared.open.lock().unwrap().push(ends.clone());
        Self { shared, ends }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap();
        let at = open.iter().position(|ends| *ends == self.ends);
        open.swap_remove(at.unwrap());
    }
}

impl Shared {
    fn is_cut_off(&self, server: &str) -> bool {
        self.cut_off.borrow().contains(server)
    }

    fn pass(&self, from: &str, to: &str, text: &str) -> Vec<Message> {
        let texts = match &mut *self.alter.lock().unwrap() {
            Some(alter) => alter(from, to, text),
            None => vec![text.to_owned()],
        };
        texts.into_iter().map(Message::text).collect()
    }
}

/// Reads to the end and answers nothing.
async fn swallow(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// Reads below the WebSocket, which would answer pings and closes.
async fn swallow_messages(socket: Socket) {
    swallow(socket.into_inner()).await;
}
