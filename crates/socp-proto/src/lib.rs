//! Wire types, canonical JSON, limits and capabilities of SOCP v1.3.
//!
//! One WebSocket text message carries one JSON object, the [`Envelope`] (SOCP §7). [`Frame::parse`] is the only way
//! in: it checks the JSON itself ([`json`]: depth, duplicate keys, numbers), the envelope's fields and the payload of
//! the frame's type, so that whatever holds a [`Frame`] never validates again. The way out is a [`Draft`], which
//! becomes an [`Envelope`] when somebody with a key has signed [`Draft::signed_bytes`].
//!
//! No clock, no randomness, no I/O and no keys beyond their text: signatures are `socp-crypto`'s.

pub mod canonical;
pub mod caps;
pub mod card;
pub mod delegation;
pub mod device;
pub mod envelope;
pub mod history;
pub mod id;
pub mod json;
pub mod key;
pub mod limits;
pub mod meta;
pub mod payload;
pub mod proof;
pub mod speech;
pub mod tls;

pub use canonical::{escaped_form, utf8_form};
pub use caps::{ACK, CONTACTS, Capabilities};
pub use card::{Card, CardFingerprint, InvalidCard};
pub use delegation::{DELEGATE, DELEGATE_KEY_BYTES, DELEGATE_SIGNATURE_BYTES, Delegation, InvalidDelegation};
pub use device::{DeviceId, InvalidDeviceId};
pub use envelope::{Draft, Envelope, Frame, FrameError, WrittenDraft};
pub use history::{HISTORY, InvalidHistory, KeyHistory, KeyStatement, PublicPair};
pub use id::{Address, Id, InvalidId, ServerId, UserId};
pub use json::{JsonFault, Object};
pub use key::{Base64Url, Fingerprint, KeyText};
pub use meta::Meta;
pub use payload::{ErrorCode, FrameKind, Payload};
pub use proof::{Bytes32, Challenge, PROOF, Proof, hello_digest};
pub use speech::{InvalidSpeech, ReceiptState, Said, Speech, Voice};
pub use tls::{InvalidTlsPin, TlsPin};

/// SHA-256, for seen caches and references; keys and signatures are `socp-crypto`'s.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_of(&[bytes])
}

/// SHA-256 of what these are together.
fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::Digest as _;
    let mut digest = sha2::Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}
