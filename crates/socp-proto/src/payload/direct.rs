//! Payloads of direct messages (SOCP §9.2, §8.3, PROTOCOL I.7).

use super::Shape;
use crate::id::{ServerId, UserId};
use crate::key::{Base64Url, KeyText, bounded_ciphertext, bounded_sig};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `MSG_DIRECT`: author to the author's server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectMessage {
    /// OAEP blocks of 512 bytes, concatenated.
    #[serde(deserialize_with = "bounded_ciphertext")]
    pub ciphertext: Base64Url,
    /// The author's key, as the author says.
    pub sender_pub: KeyText,
    /// The author's signature over ciphertext, `from`, `to` and `ts`.
    #[serde(deserialize_with = "bounded_sig")]
    pub content_sig: Base64Url,
    /// The recipient's home server, as far as the author's program knows, for when the recipient is away; ours (PROTOCOL
    /// II.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<ServerId>,
}

impl Shape for DirectMessage {
    const FOREIGN_FIELDS: &'static [&'static str] = &["sender", "user_id", "file_id", "group_id"];
}

/// `SERVER_DELIVER`: server to server, never changed on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDeliver {
    /// The recipient.
    pub user_id: UserId,
    /// As the author made it.
    #[serde(deserialize_with = "bounded_ciphertext")]
    pub ciphertext: Base64Url,
    /// The author.
    pub sender: UserId,
    /// As the author sent it.
    pub sender_pub: KeyText,
    /// As the author made it.
    #[serde(deserialize_with = "bounded_sig")]
    pub content_sig: Base64Url,
    /// The author's `ts`, which `content_sig` covers; absent: the envelope's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<u64>,
}

impl Shape for ServerDeliver {
    const FOREIGN_FIELDS: &'static [&'static str] = &["file_id", "group_id", "meta"];
}

/// `USER_DELIVER`: the recipient's server to the recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDeliver {
    /// As the author made it.
    #[serde(deserialize_with = "bounded_ciphertext")]
    pub ciphertext: Base64Url,
    /// The author.
    pub sender: UserId,
    /// As the author sent it.
    pub sender_pub: KeyText,
    /// As the author made it.
    #[serde(deserialize_with = "bounded_sig")]
    pub content_sig: Base64Url,
    /// The author's `ts`, which `content_sig` covers; absent: the envelope's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<u64>,
    /// Its number in the recipient's mailbox; ours (PROTOCOL II.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Shape for UserDeliver {
    const FOREIGN_FIELDS: &'static [&'static str] = &["file_id", "group_id", "meta"];
}

/// How acknowledgements and errors name a message: base64url of the first 16 bytes of SHA-256 of its `content_sig`
/// (PROTOCOL I.7).
#[must_use]
pub fn msg_ref(content_sig: &Base64Url) -> String {
    let digest: [u8; 32] = Sha256::digest(content_sig.decode()).into();
    let (head, _) = digest.split_at(16);
    Base64Url::encode(head).as_str().to_owned()
}
