//! Passwords: registering one, and logging in with it (PROTOCOL II.9).
//!
//! The messages of OPAQUE have fixed lengths, which are checked here; what is in them only the cryptography knows.

use super::{InvalidPayload, Shape};
use crate::caps::Capabilities;
use crate::delegation::Delegation;
use crate::id::{ServerId, UserId};
use crate::key::{Base64Url, KeyText};
use crate::limits::{KEPT_IDENTITY_BYTES_MAX, LOGIN_NAME_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// What every login that fails is told, whatever it failed for.
pub const LOGIN_REFUSED: &str =
    "the name or the password is wrong, or there were too many tries; wait up to 15 minutes";

/// The capability of both ends.
pub const OPAQUE: &str = "opaque/1";

/// A message of OPAQUE, of `N` bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Base64Url", into = "Base64Url")]
pub struct Message<const N: usize>(Base64Url);

impl<const N: usize> Message<N> {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.decode()
    }
}

impl<const N: usize> TryFrom<Base64Url> for Message<N> {
    type Error = InvalidPayload;
    fn try_from(text: Base64Url) -> Result<Self, InvalidPayload> {
        match text.decode().len() {
            length if length == N => Ok(Self(text)),
            length => Err(InvalidPayload::Field(format!("has {length} bytes and must have {N}"))),
        }
    }
}

impl<const N: usize> TryFrom<&[u8]> for Message<N> {
    type Error = InvalidPayload;
    fn try_from(bytes: &[u8]) -> Result<Self, InvalidPayload> {
        Self::try_from(Base64Url::encode(bytes))
    }
}

impl<const N: usize> From<Message<N>> for Base64Url {
    fn from(message: Message<N>) -> Self {
        message.0
    }
}

/// What a registration begins with: a blinded password (RFC 9807 §5.1).
pub type RegistrationRequest = Message<32>;
/// The answer to that: the evaluated element and the server's key.
pub type RegistrationResponse = Message<64>;
/// What the server keeps: the client's key, a masking key, an envelope.
pub type PasswordRecord = Message<192>;
/// What a login begins with: KE1 (RFC 9807 §6.1).
pub type CredentialRequest = Message<96>;
/// The answer to that: KE2.
pub type CredentialResponse = Message<320>;
/// What a login ends with: KE3.
pub type CredentialFinalization = Message<64>;

/// An identity that only its owner's password opens; the server keeps it and cannot read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSealed")]
pub struct KeptIdentity {
    /// AES-256-GCM, with the tag.
    pub ciphertext: Base64Url,
    /// The nonce.
    pub iv: Base64Url,
    /// Which form this is.
    pub v: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSealed {
    ciphertext: Base64Url,
    iv: Base64Url,
    v: u64,
}

impl TryFrom<RawSealed> for KeptIdentity {
    type Error = InvalidPayload;
    fn try_from(RawSealed { ciphertext, iv, v }: RawSealed) -> Result<Self, InvalidPayload> {
        if ciphertext.as_str().len() > KEPT_IDENTITY_BYTES_MAX || iv.as_str().len() != SEALED_IV_CHARS {
            let why = format!(
                "sealed must have an iv of 12 bytes and a ciphertext of at most {KEPT_IDENTITY_BYTES_MAX} characters"
            );
            return Err(InvalidPayload::Field(why));
        }
        Ok(Self { ciphertext, iv, v })
    }
}

/// 12 bytes in base64url.
const SEALED_IV_CHARS: usize = 16;

/// `REGISTER_START`: somebody wants to have a password from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterStart {
    /// The blinded password.
    pub request: RegistrationRequest,
}

impl Shape for RegisterStart {}

/// `REGISTER_CHALLENGE`: the answer to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterChallenge {
    /// The evaluated element and the server's key.
    pub response: RegistrationResponse,
}

impl Shape for RegisterChallenge {
    const FOREIGN_FIELDS: &'static [&'static str] = &["server_id"];
}

/// `REGISTER_FINISH`: what the server is to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterFinish {
    /// What logins are checked with.
    pub record: PasswordRecord,
    /// What they get.
    pub sealed: KeptIdentity,
}

impl Shape for RegisterFinish {}

/// `LOGIN_START`: somebody who has a name and a password, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawLoginStart")]
pub struct LoginStart {
    /// The account's handle on this server, or its user id.
    pub name: String,
    /// KE1.
    pub request: CredentialRequest,
    /// What the program can do beyond SOCP v1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Capabilities>,
}

#[derive(Deserialize)]
struct RawLoginStart {
    name: String,
    request: CredentialRequest,
    #[serde(default)]
    caps: Option<Capabilities>,
}

impl TryFrom<RawLoginStart> for LoginStart {
    type Error = InvalidPayload;
    fn try_from(RawLoginStart { name, request, caps }: RawLoginStart) -> Result<Self, InvalidPayload> {
        if name.is_empty() || name.len() > LOGIN_NAME_BYTES_MAX {
            let why = format!("name must have 1 to {LOGIN_NAME_BYTES_MAX} bytes");
            return Err(InvalidPayload::Field(why));
        }
        Ok(Self { name, request, caps })
    }
}

impl Shape for LoginStart {}

/// `LOGIN_CHALLENGE`: the answer to that, whether there is such an account or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginChallenge {
    /// KE2.
    pub response: CredentialResponse,
    /// Who answers.
    pub server_id: ServerId,
    /// The key of who answers.
    pub server_pub: KeyText,
    /// The key that signs this frame and the next, where that is not the server's own (PROTOCOL II.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Delegation>,
}

impl Shape for LoginChallenge {
    const FOREIGN_FIELDS: &'static [&'static str] = &["nonce", "msg_ref", "user_id"];
}

/// `LOGIN_FINISH`: the client knows the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginFinish {
    /// KE3.
    pub finalization: CredentialFinalization,
}

impl Shape for LoginFinish {}

/// `LOGIN_RESULT`: what the account keeps for whoever has its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginResult {
    /// Whose identity it is.
    pub user_id: UserId,
    /// The identity.
    pub sealed: KeptIdentity,
}

impl Shape for LoginResult {
    const FOREIGN_FIELDS: &'static [&'static str] = &["server_id", "pubkey"];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_object;
    use crate::payload::{FrameKind, Payload};

    fn parse(kind: FrameKind, text: &str) -> Result<Payload, InvalidPayload> {
        Payload::parse(kind, &parse_object(text).unwrap())
    }

    fn bytes(count: usize) -> String {
        Base64Url::encode(&vec![7; count]).as_str().to_owned()
    }

    #[test]
    fn a_message_of_another_length_is_no_payload() {
        for (count, is_right) in [(31, false), (32, true), (33, false), (0, false)] {
            let text = format!(r#"{{"request":"{}"}}"#, bytes(count));
            assert_eq!(parse(FrameKind::RegisterStart, &text).is_ok(), is_right, "{count}");
        }
        let text = format!(r#"{{"finalization":"{}"}}"#, bytes(63));
        let why = parse(FrameKind::LoginFinish, &text).unwrap_err().to_string();
        assert!(why.contains("63") && why.contains("64"), "{why}");
    }

    #[test]
    fn a_name_and_what_is_sealed_are_bounded() {
        let start = |name: &str| format!(r#"{{"name":"{name}","request":"{}"}}"#, bytes(96));
        assert!(parse(FrameKind::LoginStart, &start("alice")).is_ok());
        assert!(parse(FrameKind::LoginStart, &start("")).is_err());
        assert!(parse(FrameKind::LoginStart, &start(&"x".repeat(LOGIN_NAME_BYTES_MAX + 1))).is_err());
        let finish = |ciphertext: usize, iv: usize| {
            let (record, ciphertext, iv) = (bytes(192), "A".repeat(ciphertext), bytes(iv));
            format!(r#"{{"record":"{record}","sealed":{{"ciphertext":"{ciphertext}","iv":"{iv}","v":1}}}}"#)
        };
        assert!(parse(FrameKind::RegisterFinish, &finish(KEPT_IDENTITY_BYTES_MAX, 12)).is_ok());
        assert!(parse(FrameKind::RegisterFinish, &finish(KEPT_IDENTITY_BYTES_MAX + 4, 12)).is_err());
        assert!(parse(FrameKind::RegisterFinish, &finish(8, 13)).is_err());
    }
}
