//! Delegations: a server's RSA key lets a cheaper key sign what goes over its links (PROTOCOL II.3).

use crate::canonical::utf8_form;
use crate::id::ServerId;
use crate::json::Object;
use crate::key::{Base64Url, bounded_sig};
use crate::limits::{DELEGATION_EXTRA_COUNT_MAX, DELEGATION_MAX_MS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The capability of both ends.
pub const DELEGATE: &str = "delegate/1";

/// Bytes of an Ed25519 public key (RFC 8032 §5.1.5).
pub const DELEGATE_KEY_BYTES: usize = 32;

/// Bytes of an Ed25519 signature (RFC 8032 §5.1.6).
pub const DELEGATE_SIGNATURE_BYTES: usize = 64;

/// What stands before the rest of a delegation where the server's key signs it.
const DELEGATION_DOMAIN: &[u8] = b"socp-delegation-v1\0";

/// "This Ed25519 key speaks for that server, from then until then", signed by the server's RSA key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Delegation {
    /// The Ed25519 public key.
    pub key: [u8; DELEGATE_KEY_BYTES],
    /// Whom it speaks for.
    pub server_id: ServerId,
    /// Since when, ms since the Unix epoch.
    pub not_before: u64,
    /// Until when, ms since the Unix epoch.
    pub not_after: u64,
    /// RSASSA-PSS by the server over [`signed_text`](Self::signed_text).
    pub sig: Base64Url,
    /// Fields that nobody knows yet; the signature covers them.
    pub extra: Object,
}

/// A delegation as JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Wire {
    alg: String,
    key: Base64Url,
    server_id: ServerId,
    not_before: u64,
    not_after: u64,
    #[serde(deserialize_with = "bounded_sig")]
    sig: Base64Url,
    #[serde(flatten)]
    extra: Object,
}

/// A delegation that cannot be used, whoever signed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDelegation {
    /// An algorithm that delegate/1 does not have.
    #[error("delegation for another algorithm than ed25519")]
    Algorithm,
    /// Not the bytes of a key.
    #[error("delegation of a key that is not {DELEGATE_KEY_BYTES} bytes")]
    Key,
    /// It ends before it begins, or lasts too long.
    #[error("delegation that does not last up to {} h", DELEGATION_MAX_MS / 3_600_000)]
    Span,
    /// More unknown fields than are kept.
    #[error("delegation with more than {DELEGATION_EXTRA_COUNT_MAX} unknown fields")]
    Extra,
}

impl TryFrom<Wire> for Delegation {
    type Error = InvalidDelegation;
    fn try_from(wire: Wire) -> Result<Self, InvalidDelegation> {
        if wire.alg != "ed25519" {
            return Err(InvalidDelegation::Algorithm);
        }
        let key = wire.key.decode().try_into().map_err(|_| InvalidDelegation::Key)?;
        let span = wire.not_after.checked_sub(wire.not_before);
        if span.is_none_or(|span| span > DELEGATION_MAX_MS) {
            return Err(InvalidDelegation::Span);
        }
        if wire.extra.len() > DELEGATION_EXTRA_COUNT_MAX {
            return Err(InvalidDelegation::Extra);
        }
        Ok(Self {
            key,
            server_id: wire.server_id,
            not_before: wire.not_before,
            not_after: wire.not_after,
            sig: wire.sig,
            extra: wire.extra,
        })
    }
}

impl From<Delegation> for Wire {
    fn from(delegation: Delegation) -> Self {
        Self {
            alg: "ed25519".to_owned(),
            key: Base64Url::encode(&delegation.key),
            server_id: delegation.server_id,
            not_before: delegation.not_before,
            not_after: delegation.not_after,
            sig: delegation.sig,
            extra: delegation.extra,
        }
    }
}

impl Delegation {
    /// The bytes that the server's key signs.
    #[must_use]
    pub fn signed_text(&self) -> Vec<u8> {
        let mut object = self.extra.clone();
        object.insert("alg".to_owned(), Value::from("ed25519"));
        object.insert("key".to_owned(), Value::from(Base64Url::encode(&self.key).as_str()));
        object.insert("server_id".to_owned(), Value::from(self.server_id.as_str()));
        object.insert("not_before".to_owned(), Value::from(self.not_before));
        object.insert("not_after".to_owned(), Value::from(self.not_after));
        [DELEGATION_DOMAIN, utf8_form(&object).as_bytes()].concat()
    }

    /// Whether it holds at a time (ms since the Unix epoch), by a clock that may be off by so much.
    #[must_use]
    pub fn holds_at(&self, unix: u64, (behind_ms, ahead_ms): (u64, u64)) -> bool {
        self.not_before <= unix.saturating_add(ahead_ms) && unix <= self.not_after.saturating_add(behind_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(change: impl Fn(&mut serde_json::Value)) -> Result<Delegation, serde_json::Error> {
        let mut value = serde_json::json!({
            "alg": "ed25519",
            "key": Base64Url::encode(&[7; 32]).as_str(),
            "server_id": "srv",
            "not_before": 1_000,
            "not_after": 1_000 + DELEGATION_MAX_MS,
            "sig": "AAAA",
            "novel": 1,
        });
        change(&mut value);
        serde_json::from_value(value)
    }

    #[test]
    fn the_signature_covers_everything_else_in_canonical_form() {
        let delegation = wire(|_| {}).unwrap();
        let text = String::from_utf8(delegation.signed_text()).unwrap();
        let key = Base64Url::encode(&[7; 32]);
        let after = 1_000 + DELEGATION_MAX_MS;
        let expected = format!(
            "socp-delegation-v1\0{{\"alg\":\"ed25519\",\"key\":\"{}\",\"not_after\":{after},\"not_before\":1000,\
             \"novel\":1,\"server_id\":\"srv\"}}",
            key.as_str()
        );
        assert_eq!(text, expected);
        let again: Delegation = serde_json::from_value(serde_json::to_value(&delegation).unwrap()).unwrap();
        assert_eq!(again, delegation);
    }

    #[test]
    fn what_cannot_be_a_delegation_is_refused() {
        let after = 1_001 + DELEGATION_MAX_MS;
        let table: [(&str, Value, &str); 6] = [
            ("alg", "rsa".into(), "algorithm"),
            ("key", "AAAA".into(), "32 bytes"),
            ("not_after", after.into(), "last up to 48 h"),
            ("not_after", 999.into(), "last up to 48 h"),
            ("not_before", "x".into(), "invalid type"),
            ("server_id", "a b".into(), "characters"),
        ];
        for (field, value, said) in table {
            let error = wire(|wire| wire[field] = value.clone()).unwrap_err().to_string();
            assert!(error.contains(said), "{field} = {value}: {error}");
        }
        let many = wire(|wire| {
            for number in 0..=DELEGATION_EXTRA_COUNT_MAX {
                wire[format!("x{number}")] = 1.into();
            }
        });
        assert!(many.unwrap_err().to_string().contains("unknown fields"));
    }

    #[test]
    fn it_holds_between_its_ends_as_far_as_clocks_allow() {
        let delegation = wire(|_| {}).unwrap();
        let after = delegation.not_after;
        let clock = (10, 5);
        let held = [(994, false), (995, true), (after + 10, true), (after + 11, false)];
        for (unix, holds) in held {
            assert_eq!(delegation.holds_at(unix, clock), holds, "{unix}");
        }
    }
}
