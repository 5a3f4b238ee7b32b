//! Payloads of presence gossip (SOCP §8.2, PROTOCOL I.5).

use super::Shape;
use crate::caps::Capabilities;
use crate::id::{ServerId, UserId};
use crate::key::{Base64Url, KeyText, bounded_sig_if_any};
use crate::meta::Meta;
use serde::{Deserialize, Serialize};

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
}

impl Shape for UserRemove {
    const FOREIGN_FIELDS: &'static [&'static str] =
        &["meta", "pubkey", "enc_pubkey", "caps", "directory_sig", "ciphertext"];
}
