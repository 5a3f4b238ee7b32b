//! Payloads of joining the network (SOCP §8.1, PROTOCOL I.4).

use super::Shape;
use crate::caps::Capabilities;
use crate::history::KeyHistory;
use crate::id::{ServerId, UserId};
use crate::key::KeyText;
use crate::limits::HOST_BYTES_MAX;
use crate::proof::Bytes32;
use serde::{Deserialize, Deserializer, Serialize};

/// Who and where a server is: `SERVER_HELLO_JOIN`, `SERVER_ANNOUNCE`, `SERVER_HELLO_LINK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// Host name or address under which others may dial it.
    #[serde(deserialize_with = "bounded_host")]
    pub host: String,
    /// Its port there.
    pub port: u16,
    /// Whether it speaks TLS there (`wss://`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Its public key.
    pub pubkey: KeyText,
    /// The keys that it had before, where its key was changed (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<KeyHistory>,
    /// A short name for people; ours, ignored by others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it can do beyond SOCP v1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
    /// What the far end's proof must name (PROTOCOL II.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Bytes32>,
}

impl Shape for ServerIdentity {
    const FOREIGN_FIELDS: &'static [&'static str] = &["assigned_id", "user_id", "ciphertext"];
}

/// `SERVER_WELCOME`: the joiner's id, and what the introducer knows.
///
/// `server_id`, `pubkey`, `host`, `port` tell of the introducer itself; the specification leaves them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerWelcome {
    /// The id that the joiner has from now on.
    pub assigned_id: ServerId,
    /// Users known to the introducer.
    #[serde(default)]
    pub clients: Vec<WelcomeClient>,
    /// Servers known to the introducer.
    #[serde(default)]
    pub servers: Vec<WelcomeServer>,
    /// The introducer's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
    /// The introducer's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubkey: Option<KeyText>,
    /// The introducer's host.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_host_if_any"
    )]
    pub host: Option<String>,
    /// The introducer's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether the introducer speaks TLS there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// The keys that the introducer had before, where its key was changed (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<KeyHistory>,
    /// The introducer's name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the introducer can do beyond SOCP v1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
    /// What the far end's proof must name (PROTOCOL II.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Bytes32>,
}

impl Shape for ServerWelcome {
    const FOREIGN_FIELDS: &'static [&'static str] = &["user_id", "ciphertext"];
}

/// A user in a welcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeClient {
    /// The user.
    pub user_id: UserId,
    /// The host of the user's server.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_host_if_any"
    )]
    pub host: Option<String>,
    /// The port of the user's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubkey: Option<KeyText>,
    /// The user's server; absent: the introducer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
}

/// A server in a welcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeServer {
    /// The server.
    pub server_id: ServerId,
    /// Its host.
    #[serde(deserialize_with = "bounded_host")]
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS there (`wss://`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Its key.
    pub pubkey: KeyText,
}

fn bounded_host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let host = String::deserialize(deserializer)?;
    if host.len() > HOST_BYTES_MAX || !host.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(serde::de::Error::custom(format!(
            "host is not a name or address of at most {HOST_BYTES_MAX} printable ASCII characters"
        )));
    }
    Ok(host)
}

fn bounded_host_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    bounded_host(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use crate::json::parse_object;
    use crate::payload::{FrameKind, Payload};

    #[test]
    fn a_host_is_bounded_wherever_it_stands() {
        for (host, is_fine) in [
            ("chat.example".to_owned(), true),
            ("h".repeat(254), false),
            ("a b".to_owned(), false),
        ] {
            let server = format!(r#"{{"server_id":"s","host":"{host}","port":1,"pubkey":"AAAA"}}"#);
            let announce = parse_object(&server).unwrap();
            assert_eq!(
                Payload::parse(FrameKind::ServerAnnounce, &announce).is_ok(),
                is_fine,
                "{host}"
            );
            let welcome = parse_object(&format!(r#"{{"assigned_id":"x","servers":[{server}]}}"#)).unwrap();
            assert_eq!(
                Payload::parse(FrameKind::ServerWelcome, &welcome).is_ok(),
                is_fine,
                "{host}"
            );
        }
    }
}
