//! Payloads of presence gossip (SOCP §8.2, PROTOCOL I.5).

use super::Shape;
use super::keys::Deletion;
use super::user::OnlineUser;
use crate::caps::Capabilities;
use crate::history::KeyHistory;
use crate::id::{ServerId, UserId};
use crate::key::{Base64Url, KeyText, bounded_sig_if_any};
use crate::limits::PRESENCE_CHANGES_COUNT_MAX;
use crate::meta::Meta;
use serde::{Deserialize, Deserializer, Serialize};

/// `USER_ADVERTISE`: the user is at that server.
///
/// Beyond `user_id`, `server_id` and `meta` everything is ours: with the keys in the gossip, nobody has to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAdvertise {
    /// The user.
    pub user_id: UserId,
    /// The user's home server.
    pub server_id: ServerId,
    /// The user's profile.
    pub meta: Meta,
    /// The key that the user signs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubkey: Option<KeyText>,
    /// The key that others encrypt to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enc_pubkey: Option<KeyText>,
    /// What the user's program can do beyond SOCP v1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
    /// Counts the changes of the user's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The home server's signature over [`directory_statement`](super::directory_statement).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_sig_if_any"
    )]
    pub directory_sig: Option<Base64Url>,
    /// The home server's name for people, added for our clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// How the keys came about, if they ever changed (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<KeyHistory>,
}

impl Shape for UserAdvertise {
    const FOREIGN_FIELDS: &'static [&'static str] = &["ciphertext", "assigned_id"];
}

/// `USER_REMOVE`: the user has left that server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRemove {
    /// The user.
    pub user_id: UserId,
    /// The server that the user was at.
    pub server_id: ServerId,
    /// Not only left: the user's account is no more, by the user's own word (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
}

impl Shape for UserRemove {
    const FOREIGN_FIELDS: &'static [&'static str] =
        &["meta", "pubkey", "enc_pubkey", "caps", "directory_sig", "ciphertext"];
}

/// The capability of taking presence in batches (PROTOCOL II.8).
pub const PRESENCE: &str = "presence/1";

/// Presence many at once: what has changed from one number to another, or a page of everyone (PROTOCOL II.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "A: Deserialize<'de>, R: Deserialize<'de>"))]
pub struct Batch<A, R> {
    /// The server that says so.
    pub server_id: ServerId,
    /// Which numbering this is; another one after each start of the server.
    pub epoch: u64,
    /// The number of the first change told here; 0 in the pages of a list of everyone.
    pub from_seq: u64,
    /// The number of the last change that is contained.
    pub seq: u64,
    /// The number of this page of a list of everyone, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub page: u64,
    /// Whether more pages of the list follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Who is there, or has changed.
    #[serde(
        default = "Vec::new",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "few"
    )]
    pub add: Vec<A>,
    /// Who has left.
    #[serde(
        default = "Vec::new",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "few"
    )]
    pub remove: Vec<R>,
}

/// `PRESENCE`: everyone whom a server knows to be somewhere, for its users. Without keys: whoever needs one asks for it.
pub type Presence = Batch<OnlineUser, UserId>;

/// `SERVER_PRESENCE`: the users of one server, for its peers.
pub type ServerPresence = Batch<UserHere, UserGone>;

/// A user of the server that says so: what a `USER_ADVERTISE` says, and when it would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserHere {
    /// The user.
    pub user_id: UserId,
    /// The `ts` of the change.
    pub ts: u64,
    /// The user's profile.
    pub meta: Meta,
    /// The key that the user signs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubkey: Option<KeyText>,
    /// The key that others encrypt to; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enc_pubkey: Option<KeyText>,
    /// What the user's program can do beyond SOCP v1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
    /// Counts the changes of the user's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The server's signature over [`directory_statement`](super::directory_statement).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_sig_if_any"
    )]
    pub directory_sig: Option<Base64Url>,
    /// How the keys came about, if they ever changed (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<KeyHistory>,
}

impl UserHere {
    /// The same as gossip of that server.
    #[must_use]
    pub fn into_advertise(self, server_id: ServerId) -> UserAdvertise {
        UserAdvertise {
            user_id: self.user_id,
            server_id,
            meta: self.meta,
            pubkey: self.pubkey,
            enc_pubkey: self.enc_pubkey,
            caps: self.caps,
            version: self.version,
            directory_sig: self.directory_sig,
            server_name: None,
            history: self.history,
        }
    }
}

impl UserAdvertise {
    /// The same as part of a batch of that server.
    #[must_use]
    pub fn into_here(self, ts: u64) -> UserHere {
        UserHere {
            user_id: self.user_id,
            ts,
            meta: self.meta,
            pubkey: self.pubkey,
            enc_pubkey: self.enc_pubkey,
            caps: self.caps,
            version: self.version,
            directory_sig: self.directory_sig,
            history: self.history,
        }
    }
}

/// A user who has left the server that says so: what a `USER_REMOVE` says, and when it would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserGone {
    /// The user.
    pub user_id: UserId,
    /// The `ts` of the change.
    pub ts: u64,
    /// Not only left: the user's account is no more, by the user's own word (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
}

/// What is said of one user.
pub trait OfUser {
    /// Who it is.
    fn user_id(&self) -> &UserId;
}

impl OfUser for OnlineUser {
    fn user_id(&self) -> &UserId {
        &self.user_id
    }
}

impl OfUser for UserHere {
    fn user_id(&self) -> &UserId {
        &self.user_id
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.len() > PRESENCE_CHANGES_COUNT_MAX {
        return Err(serde::de::Error::custom(format!(
            "more than {PRESENCE_CHANGES_COUNT_MAX} changes at once"
        )));
    }
    Ok(list)
}

impl Shape for Presence {
    const FOREIGN_FIELDS: &'static [&'static str] = BATCH_FOREIGN_FIELDS;
}

impl Shape for ServerPresence {
    const FOREIGN_FIELDS: &'static [&'static str] = BATCH_FOREIGN_FIELDS;
}

const BATCH_FOREIGN_FIELDS: &[&str] = &["user_id", "meta", "pubkey", "ciphertext", "code"];

/// `PRESENCE_REQUEST`: changes from this number on were missed (PROTOCOL II.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRequest {
    /// The numbering that is known.
    pub epoch: u64,
    /// The first number that is missing; 0 for everyone.
    pub from_seq: u64,
    /// Whether a server wants to hear its peer's users to the letter from now on, so that it can pass on what is said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_the_letter: bool,
}

impl Shape for PresenceRequest {
    const FOREIGN_FIELDS: &'static [&'static str] = &["server_id", "user_id", "ciphertext"];
}
