//! Payloads between a user and its server: hello, list, keys (SOCP §9.1, §13, §14, PROTOCOL I.6).

use super::{PresenceRequest, Shape};
use crate::caps::Capabilities;
use crate::device::DeviceId;
use crate::history::KeyHistory;
use crate::id::{ServerId, UserId};
use crate::json::Object;
use crate::key::{Base64Url, KeyText, bounded_sig_if_any};
use crate::meta::Meta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `USER_HELLO`.
///
/// `server_id` and `ts` make a signed hello good for one server and two minutes only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserHello {
    /// The program's name and version.
    pub client: String,
    /// The key that the user signs with.
    pub pubkey: KeyText,
    /// The key that others encrypt to; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enc_pubkey: Option<KeyText>,
    /// What the program can do beyond SOCP v1.3; present, even if empty, in programs of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
    /// The user's profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// The server that the hello is meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
    /// When it was signed, ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<u64>,
    /// How the keys came about, if they ever changed (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<KeyHistory>,
    /// Which presence the program still knows from an earlier link, as it would ask for what follows (PROTOCOL II.8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceRequest>,
    /// The program reads the user's mailbox on this link, and how far it has got (PROTOCOL II.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<MailboxRequest>,
}

impl Shape for UserHello {}

/// How far a device has read its user's mailbox (PROTOCOL II.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRequest {
    /// Which of the user's devices it is.
    pub device: DeviceId,
    /// The last number that it has; 0 for none.
    pub after: u64,
}

/// `LIST_REQUEST`: one page of the users online.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// The last id of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
    /// Most users wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Shape for ListRequest {}

/// `LIST_RESPONSE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListResponse {
    /// The ids, sorted.
    pub users: Vec<UserId>,
    /// The same users with where they are and who they say they are.
    #[serde(default)]
    pub online: Vec<OnlineUser>,
    /// Whether there are more behind the last one.
    #[serde(default)]
    pub more: bool,
}

impl Shape for ListResponse {}

/// One user of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineUser {
    /// The user.
    pub user_id: UserId,
    /// The user's home server.
    pub server_id: ServerId,
    /// The user's profile.
    #[serde(default)]
    pub meta: Meta,
    /// The home server's name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Which of the user's pairs of keys counts, if not the first, so that programs know when to ask for it (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// `PUBKEY_REQUEST`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PubkeyRequest {
    /// Whose key.
    pub user_id: UserId,
}

impl Shape for PubkeyRequest {}

/// `PUBKEY_RESPONSE`; without `pubkey` the user is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PubkeyResponse {
    /// Whose key.
    pub user_id: UserId,
    /// The key that the user signs with, `null` if unknown.
    pub pubkey: Option<KeyText>,
    /// The key that others encrypt to.
    #[serde(default)]
    pub enc_pubkey: Option<KeyText>,
    /// Counts the changes of the user's record.
    #[serde(default)]
    pub version: Option<u64>,
    /// The user's home server.
    #[serde(default)]
    pub server_id: Option<ServerId>,
    /// Whether the user withdrew the key.
    #[serde(default)]
    pub revoked: bool,
    /// The home server's signature over [`directory_statement`].
    #[serde(default, deserialize_with = "bounded_sig_if_any")]
    pub directory_sig: Option<Base64Url>,
    /// The profile, for programs that were told of the user by nothing else (PROTOCOL I.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// The name of the home server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// How the keys came about, if they ever changed (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<KeyHistory>,
    /// What the user's program can do beyond SOCP v1.3, as it said last (PROTOCOL II.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
}

impl Shape for PubkeyResponse {}

/// What a home server signs to vouch for a user's keys: `{user_id, pubkey, enc_pubkey, version}` (SOCP §13).
#[must_use]
pub fn directory_statement(user_id: &UserId, pubkey: &KeyText, enc_pubkey: &KeyText, version: u64) -> Object {
    let mut statement = Object::new();
    statement.insert("user_id".to_owned(), Value::from(user_id.as_str()));
    statement.insert("pubkey".to_owned(), Value::from(pubkey.as_str()));
    statement.insert("enc_pubkey".to_owned(), Value::from(enc_pubkey.as_str()));
    statement.insert("version".to_owned(), Value::from(version));
    statement
}
