//! What an operator may ask a running server, over a Unix socket in its data directory.
//!
//! One JSON object per line. A request is `{"ask":"status"}`, `links`, `users`, `pins`,
//! `{"ask":"unpin","server":"ID"}` or `{"ask":"backup","to":"/DIR"}`; the answer is one line per row, and `{"end":{"rows":N}}` or `{"refused":{…}}` as the
//! last. Whoever may open the socket, its owner and root, may ask; everything is bounded in size, number and time.

mod ask;
mod desk;
mod path;

pub use ask::{AdminError, ask, pins_of_stopped, unpin_of_stopped};

pub(crate) use desk::{Desk, open};

use crate::backup::Manifest;
use serde::{Deserialize, Serialize};
use socp_core::server::{ServerPin, UserStatus};
use socp_proto::ServerId;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 4096;
/// Bytes of a row: far more than ids, names and numbers take.
const ROW_BYTES_MAX: usize = 64 * 1024;
/// Connections that are served at the same time.
const CONNECTIONS_COUNT_MAX: usize = 8;
/// How long a side waits for the other.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A question to a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// The server in numbers.
    Status,
    /// Every connection.
    Links,
    /// Every user who is online somewhere.
    Users,
    /// Every server whose key is pinned.
    Pins,
    /// Forget the key of a server, which has another one now or is gone for good.
    Unpin {
        /// Its whole id.
        server: String,
    },
    /// Make a backup.
    Backup {
        /// The directory that it shall be, from the root.
        to: PathBuf,
    },
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Status(StatusRow),
    Link(LinkRow),
    User(UserRow),
    Pin(PinRow),
    /// A backup is being made.
    Copied {
        pages: u64,
        of: u64,
    },
    Backup(Manifest),
    End {
        rows: u64,
    },
    Refused(Refusal),
}

/// One row of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// Of `status`.
    Status(StatusRow),
    /// Of `links`.
    Link(LinkRow),
    /// Of `users`.
    User(UserRow),
    /// Of `pins`, and what `unpin` removed.
    Pin(PinRow),
    /// Of `backup`.
    Backup(Manifest),
}

/// A server in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub struct StatusRow {
    pub server_id: String,
    pub name: Option<String>,
    pub version: String,
    pub fingerprint: String,
    pub listen: String,
    pub uptime_s: u64,
    pub takes_users: bool,
    pub peers: usize,
    pub links: usize,
    pub local_users: usize,
    pub remote_users: usize,
    /// Users of servers that are lost, not forgotten yet.
    pub stale_users: usize,
    /// Users whose home this is, online or not.
    pub home_users: usize,
    pub pins: usize,
    pub channel_version: u64,
    pub hub_queue: usize,
    pub pool_queue: i64,
    /// Why the store fails, if it does.
    pub store_failure: Option<String>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub struct LinkRow {
    pub link: u64,
    /// `new`, `peer` or `user`.
    pub role: String,
    /// The server's or user's id.
    pub who: Option<String>,
    /// Whether this server dialled it.
    pub dialled: bool,
    pub age_ms: u64,
    /// Since the last frame; known for peers.
    pub silent_ms: Option<u64>,
    pub frames_in: u64,
    pub frames_out: u64,
    pub queued_frames: usize,
    pub queued_bytes: usize,
}

/// One user who is online somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub struct UserRow {
    pub user_id: String,
    pub name: Option<String>,
    pub server_id: String,
    /// `local`, `remote` or `stale`.
    pub place: String,
    /// Sessions here.
    pub sessions: usize,
}

/// One server whose key is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub struct PinRow {
    pub server_id: String,
    pub name: Option<String>,
    pub fingerprint: String,
    pub host: String,
    pub port: u16,
    /// Whether it is linked now; not known of a server that is stopped.
    pub linked: Option<bool>,
}

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs: `unknown_pin`, `failed`, `stopping`, `busy`, `not_allowed`, `bad_request`, `too_slow`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Refusal {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn unknown_pin(server: &ServerId) -> Self {
        let message = format!("no server {server} is pinned here; see them with `socp admin pins`");
        Self::new("unknown_pin", message)
    }

    pub(crate) fn failed(message: String) -> Self {
        Self::new("failed", message)
    }

    fn stopping() -> Self {
        Self::new("stopping", "the server is stopping")
    }
}

impl PinRow {
    pub(crate) fn new(pin: &ServerPin, linked: Option<bool>) -> Self {
        Self {
            server_id: pin.server_id.as_str().to_owned(),
            name: pin.name.clone(),
            fingerprint: pin.key.fingerprint().to_string(),
            host: pin.host.clone(),
            port: pin.port,
            linked,
        }
    }
}

impl From<UserStatus> for UserRow {
    fn from(user: UserStatus) -> Self {
        let place = match (user.is_local, user.is_stale) {
            (true, _) => "local",
            (false, false) => "remote",
            (false, true) => "stale",
        };
        Self {
            user_id: user.user.as_str().to_owned(),
            name: user.name,
            server_id: user.server.as_str().to_owned(),
            place: place.to_owned(),
            sessions: user.sessions,
        }
    }
}
