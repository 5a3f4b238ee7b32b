//! Proofs: whoever introduces itself, server or user, shows that it holds its key now, to this very reader (PROTOCOL II.2).
//!
//! An introduction is signed over its payload alone, so whoever has recorded one can say it again. With the capability
//! at both ends it carries a nonce, and counts only once a proof that names the reader's nonce came after it. A server asks a user for it with
//! a challenge.

use crate::canonical::utf8_form;
use crate::caps::Capabilities;
use crate::delegation::Delegation;
use crate::history::KeyHistory;
use crate::id::{Id, ServerId};
use crate::json::Object;
use crate::key::{Base64Url, Fingerprint, KeyText};
use serde::{Deserialize, Serialize};

/// The capability of both ends.
pub const PROOF: &str = "proof/1";

/// What stands before the payload of a `PROOF` where its maker signs it, so that no other signature passes for one.
pub(crate) const PROOF_DOMAIN: &str = "socp-proof-v1\0";

/// 32 bytes as base64url: a nonce, or a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Base64Url", into = "Base64Url")]
pub struct Bytes32([u8; 32]);

/// Another number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not 32 bytes")]
pub struct NotBytes32;

impl From<[u8; 32]> for Bytes32 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Fingerprint> for Bytes32 {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(*fingerprint.as_bytes())
    }
}

impl TryFrom<Base64Url> for Bytes32 {
    type Error = NotBytes32;
    fn try_from(text: Base64Url) -> Result<Self, NotBytes32> {
        text.decode().try_into().map(Self).map_err(|_| NotBytes32)
    }
}

impl From<Bytes32> for Base64Url {
    fn from(bytes: Bytes32) -> Self {
        Self::encode(&bytes.0)
    }
}

/// `CHALLENGE`: a server wants a user to prove who says hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// What the proof must name.
    pub nonce: Bytes32,
    /// Who asks.
    pub server_id: ServerId,
    /// The key of who asks.
    pub server_pub: KeyText,
    /// The [`hello_digest`] of the hello that it answers, so that no older challenge passes for the answer.
    pub hello: Bytes32,
    /// What the server can do beyond SOCP v1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
    /// The key that signs this frame, where that is not the server's own (PROTOCOL II.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Delegation>,
    /// What the TLS session exports that ends at its maker (RFC 9266).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Bytes32>,
    /// The keys that the server had before, where its key was changed (PROTOCOL II.13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<KeyHistory>,
}

/// `PROOF`, of a server or a user to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The nonce of its reader.
    pub nonce: Bytes32,
    /// Its reader, so that it is of no use to anybody else.
    pub server_id: ServerId,
    /// The fingerprint of its reader's key.
    pub key: Bytes32,
    /// Its maker, a server or a user.
    pub by: Id,
    /// The [`hello_digest`] of what its maker introduced itself with on this link.
    pub hello: Bytes32,
    /// When it was made, ms since the Unix epoch.
    pub ts: u64,
    /// What the TLS session exports that ends at its maker (RFC 9266), so that it is of no use on another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Bytes32>,
}

/// The SHA-256 of an introduction's canonical payload: who, where, which key, which capabilities, which nonce.
#[must_use]
pub fn hello_digest(payload: &Object) -> Bytes32 {
    Bytes32(crate::sha256(utf8_form(payload).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Draft, Frame};
    use crate::id::Address;
    use crate::payload::Payload;

    fn proof() -> Proof {
        Proof {
            nonce: [1; 32].into(),
            server_id: "srv-b".try_into().unwrap(),
            key: [2; 32].into(),
            by: "srv-a".try_into().unwrap(),
            hello: [3; 32].into(),
            ts: 7,
            tls: None,
        }
    }

    #[test]
    fn the_signature_of_a_proof_and_of_nothing_else_begins_with_its_domain() {
        let text = |byte| String::from(Base64Url::encode(&[byte; 32]).as_str());
        let payload = format!(
            "{{\"by\":\"srv-a\",\"hello\":\"{}\",\"key\":\"{}\",\"nonce\":\"{}\",\"server_id\":\"srv-b\",\"ts\":7}}",
            text(3),
            text(2),
            text(1)
        );
        let from = ServerId::try_from("srv-a").unwrap();
        let draft = Draft::new(&from, Address::everyone(), 8, &Payload::Proof(proof()));
        assert_eq!(draft.signed_text(), format!("socp-proof-v1\0{payload}"));
        assert_eq!(draft.clone().write().signed_text(), draft.signed_text());
        let read = Frame::parse(&draft.sign(&[]).to_text()).unwrap();
        assert_eq!(read.envelope.signed_text(), format!("socp-proof-v1\0{payload}"));
        assert_eq!(read.payload, Payload::Proof(proof()));
        // The same payload under another type is signed as any other.
        let other =
            format!(r#"{{"type":"ACK","from":"a","to":"b","ts":1,"payload":{{"msg_ref":"x","proof":{payload}}}}}"#);
        let other = Frame::parse(&other).unwrap();
        assert!(other.envelope.signed_text().starts_with("{\"msg_ref\""));
    }

    #[test]
    fn a_nonce_or_a_hash_has_32_bytes() {
        for (bytes, is_good) in [(31, false), (32, true), (33, false), (0, false)] {
            let mut payload = Payload::Proof(proof()).to_object();
            for field in ["nonce", "key", "hello", "tls"] {
                let text = Base64Url::encode(&vec![9; bytes]);
                payload.insert(field.to_owned(), text.as_str().into());
                let read = Payload::parse(crate::payload::FrameKind::Proof, &payload);
                assert_eq!(read.is_ok(), is_good, "{field} of {bytes} bytes");
            }
        }
    }
}
