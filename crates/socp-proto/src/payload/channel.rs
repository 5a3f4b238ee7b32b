//! Payloads of the public channel (SOCP §9.3, §15, PROTOCOL I.8).

use super::Shape;
use crate::id::UserId;
use crate::key::{Base64Url, KeyText, bounded_ciphertext, bounded_sig};
use serde::{Deserialize, Serialize};

/// `MSG_PUBLIC_CHANNEL`: one copy, for one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMessage {
    /// OAEP for that member.
    #[serde(deserialize_with = "bounded_ciphertext")]
    pub ciphertext: Base64Url,
    /// The author's key, as the author says.
    pub sender_pub: KeyText,
    /// The author's signature over ciphertext, `from` and `ts`.
    #[serde(deserialize_with = "bounded_sig")]
    pub content_sig: Base64Url,
    /// The channel, `public`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
}

impl Shape for ChannelMessage {
    const FOREIGN_FIELDS: &'static [&'static str] = &["file_id", "user_id"];
}

/// `PUBLIC_CHANNEL_ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelAdd {
    /// Who joined.
    pub add: Vec<UserId>,
    /// The version that the sender counted before; informative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

impl Shape for ChannelAdd {}

/// `PUBLIC_CHANNEL_UPDATED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelUpdated {
    /// The version that the sender counts now.
    pub version: u64,
    /// Wrapped channel keys; ours stay empty, since servers hold no channel key.
    #[serde(default)]
    pub wraps: Vec<serde_json::Value>,
}

impl Shape for ChannelUpdated {
    const FOREIGN_FIELDS: &'static [&'static str] = &["shares", "add"];
}

/// `PUBLIC_CHANNEL_KEY_SHARE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelKeyShare {
    /// One wrapped key per member.
    pub shares: Vec<ChannelShare>,
    /// The key of who made the shares.
    pub creator_pub: KeyText,
    /// That one's signature over the shares and the key.
    #[serde(deserialize_with = "bounded_sig")]
    pub content_sig: Base64Url,
}

impl Shape for ChannelKeyShare {}

/// One member's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelShare {
    /// The member.
    pub member: UserId,
    /// The channel key under the member's key.
    pub wrapped_public_channel_key: Base64Url,
}
