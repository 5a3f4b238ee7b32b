//! Payloads of errors, acknowledgements, health and closing (SOCP §9.5, §8.4, §11, PROTOCOL I.10).

use super::Shape;
use crate::caps::Capabilities;
use crate::delegation::Delegation;
use crate::id::ServerId;
use crate::key::{Base64Url, KeyText};
use crate::limits::{ACK_REFS_COUNT_MAX, GOSSIP_REFS_COUNT_MAX, MSG_REF_BYTES_MAX};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ErrorCode {
    /// Nobody with that id can be reached.
    UserNotFound,
    /// A signature is missing or does not fit.
    InvalidSig,
    /// A key is unacceptable, or not the one bound to the id.
    BadKey,
    /// Something took too long, or is asked too often.
    Timeout,
    /// The type is unknown or out of place.
    UnknownType,
    /// The id has a session already, and this one proves nothing.
    NameInUse,
    /// Ours: too many frames.
    RateLimited,
    /// Ours: too many bytes.
    TooLarge,
    /// Ours: the frame breaks the protocol's form.
    BadFrame,
    /// Ours: a hello comes first.
    NotAuthenticated,
    /// Ours: the recipient's mailbox has no room for more (PROTOCOL II.6).
    MailboxFull,
    /// Ours: it could not be written to disk; try again later (PROTOCOL II.6).
    NotStored,
    /// Somebody else's code, kept as it came.
    Other(String),
}

impl ErrorCode {
    /// The code as programs of others know it: one of the specification's six (PROTOCOL I.10).
    #[must_use]
    pub fn for_stranger(self) -> Self {
        match self {
            Self::BadFrame | Self::TooLarge => Self::UnknownType,
            Self::NotAuthenticated => Self::InvalidSig,
            Self::RateLimited | Self::MailboxFull | Self::NotStored => Self::Timeout,
            Self::UserNotFound
            | Self::InvalidSig
            | Self::BadKey
            | Self::Timeout
            | Self::UnknownType
            | Self::NameInUse
            | Self::Other(_) => self,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::UserNotFound => "USER_NOT_FOUND",
            Self::InvalidSig => "INVALID_SIG",
            Self::BadKey => "BAD_KEY",
            Self::Timeout => "TIMEOUT",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::NameInUse => "NAME_IN_USE",
            Self::RateLimited => "RATE_LIMITED",
            Self::TooLarge => "TOO_LARGE",
            Self::BadFrame => "BAD_FRAME",
            Self::NotAuthenticated => "NOT_AUTHENTICATED",
            Self::MailboxFull => "MAILBOX_FULL",
            Self::NotStored => "NOT_STORED",
            Self::Other(code) => code,
        }
    }
}

impl From<String> for ErrorCode {
    fn from(code: String) -> Self {
        match code.as_str() {
            "USER_NOT_FOUND" => Self::UserNotFound,
            "INVALID_SIG" => Self::InvalidSig,
            "BAD_KEY" => Self::BadKey,
            "TIMEOUT" => Self::Timeout,
            "UNKNOWN_TYPE" => Self::UnknownType,
            "NAME_IN_USE" => Self::NameInUse,
            "RATE_LIMITED" => Self::RateLimited,
            "TOO_LARGE" => Self::TooLarge,
            "BAD_FRAME" => Self::BadFrame,
            "NOT_AUTHENTICATED" => Self::NotAuthenticated,
            "MAILBOX_FULL" => Self::MailboxFull,
            "NOT_STORED" => Self::NotStored,
            _ => Self::Other(code),
        }
    }
}

impl From<ErrorCode> for String {
    fn from(code: ErrorCode) -> Self {
        code.as_str().to_owned()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `ERROR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorNotice {
    /// What kind of refusal.
    pub code: ErrorCode,
    /// What it is about: a user id, a type, a reason.
    #[serde(default)]
    pub detail: String,
    /// Which message it is about; ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msg_ref: Option<String>,
    /// Its number in the author's mailbox, where it waited there; ours (PROTOCOL II.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Shape for ErrorNotice {}

/// What became of a message (PROTOCOL II.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is on the disk of the server that the `ACK` names.
    Stored,
    /// It went to a program that acknowledges nothing.
    Sent,
}

/// `ACK`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// What is acknowledged: a type's name or a [`msg_ref`](super::msg_ref).
    pub msg_ref: String,
    /// The server, in the answer to a hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
    /// The server's key, in the answer to a hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_pub: Option<KeyText>,
    /// The server's name for people, in the answer to a hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// What the server can do beyond SOCP v1.3, in the answer to a hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
    /// The handle that the hello asked for and another user of this server has; ours (PROTOCOL I.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_in_use: Option<String>,
    /// What became of the message; ours (PROTOCOL II.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// More messages of which the same is said, beside `msg_ref`; ours (PROTOCOL II.6).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "message_refs")]
    pub also: Vec<String>,
    /// With `msg_ref` [`MAILBOX`](Ack::MAILBOX): the program has everything up to this number of the mailbox; ours
    /// (PROTOCOL II.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
}

impl Ack {
    /// What a program acknowledges with [`Ack::up_to`].
    pub const MAILBOX: &'static str = "MAILBOX";
}

fn message_refs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let refs = Vec::<String>::deserialize(deserializer)?;
    if refs.len() > ACK_REFS_COUNT_MAX || refs.iter().any(|text| text.len() > MSG_REF_BYTES_MAX) {
        return Err(serde::de::Error::custom("not a short list of message references"));
    }
    Ok(refs)
}

impl Shape for Ack {}

/// `HEARTBEAT`. Some programs put their clock inside; nothing reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The servers that the sender is linked to; ours (PROTOCOL I.5). Whoever knows them need not pass on to one what
    /// another has told it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<ServerId>>,
    /// The servers that it is not linked to and knows users of, who can be reached over it; ours (PROTOCOL I.5).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<ServerId>,
    /// Gossip that the sender could pass on to the receiver, each by the SHA-256 of its frame; ours (PROTOCOL I.5).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "gossip_refs")]
    pub have: Vec<Base64Url>,
    /// Of what the receiver offered, what the sender lacks; ours (PROTOCOL I.5).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "gossip_refs")]
    pub want: Vec<Base64Url>,
    /// The key that signs the sender's frames on this link from now on (PROTOCOL II.3); such a heartbeat is signed by
    /// the server's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Delegation>,
}

fn gossip_refs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Base64Url>, D::Error> {
    let refs = Vec::<Base64Url>::deserialize(deserializer)?;
    if refs.len() > GOSSIP_REFS_COUNT_MAX || refs.iter().any(|text| text.decode().len() != 32) {
        return Err(serde::de::Error::custom("not a short list of SHA-256 values"));
    }
    Ok(refs)
}

impl Shape for Heartbeat {
    const FOREIGN_FIELDS: &'static [&'static str] = &["user_id", "ciphertext", "pubkey", "code", "epoch"];
}

/// `CTRL_CLOSE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CtrlClose {}

impl Shape for CtrlClose {
    const FOREIGN_FIELDS: &'static [&'static str] = &["user_id", "ciphertext", "pubkey", "code", "epoch"];
}
