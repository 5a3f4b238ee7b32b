//! Ids of servers and users, and the envelope's `to` (PROTOCOL I.1).
//!
//! Ours are UUID v4 in lower-case text; programs of other dialects use names, so an id is any 1 to 64 bytes of
//! printable ASCII. A [`ServerId`] and a [`UserId`] are the same text with another meaning; [`Id`] is either.

use crate::key::Fingerprint;
use crate::limits::{ADDRESS_BYTES_MAX, ID_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What is wrong with a text that should be an id or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Too many bytes.
    #[error("has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// Length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A space, control character or anything outside ASCII.
    #[error("contains characters outside printable ASCII")]
    Character,
}

fn check(text: &str, max: usize) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > max {
        return Err(InvalidId::TooLong { len: text.len(), max });
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(InvalidId::Character);
    }
    Ok(())
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text as it goes over the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;
            fn try_from(text: &str) -> Result<Self, InvalidId> {
                check(text, $max)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::try_from(text.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype!(
    /// A server's or a user's id, where either may stand (the envelope's `from`).
    Id,
    ID_BYTES_MAX
);
text_newtype!(
    /// A server's id.
    ServerId,
    ID_BYTES_MAX
);
text_newtype!(
    /// A user's id.
    UserId,
    ID_BYTES_MAX
);
text_newtype!(
    /// The envelope's `to`: an id, `host:port` (SOCP §8.1) or `*` for everyone.
    Address,
    ADDRESS_BYTES_MAX
);

impl Address {
    /// The address of everyone, `*`.
    #[must_use]
    pub fn everyone() -> Self {
        Self(Arc::from("*"))
    }
}

impl UserId {
    /// The id that is made from a key (PROTOCOL I.6): the first 16 bytes of its fingerprint as a UUID v4. Nobody finds
    /// another key that makes the same one, so whatever was said about it before, the holder of this key owns it.
    #[must_use]
    pub fn made_from(key: Fingerprint) -> Self {
        let mut bytes: [u8; 16] = std::array::from_fn(|index| key.as_bytes().get(index).copied().unwrap_or_default());
        // Version 4 and the variant of RFC 9562 §4.
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = (*version & 0x0f) | 0x40;
        *variant = (*variant & 0x3f) | 0x80;
        let number = u128::from_be_bytes(bytes);
        let part = |shift: u32, digits: u32| (number >> shift) & ((1 << (4 * digits)) - 1);
        let (a, b, c, d, e) = (part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12));
        Self(Arc::from(format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}").as_str()))
    }

    /// Whether this id is made from that key, which then is its owner's.
    #[must_use]
    pub fn is_made_from(&self, key: Fingerprint) -> bool {
        *self == Self::made_from(key)
    }
}

macro_rules! same_text {
    ($from:ident => $($to:ident),+) => {
        $(impl From<$from> for $to {
            fn from(id: $from) -> Self {
                Self(id.0)
            }
        }
        impl From<&$from> for $to {
            fn from(id: &$from) -> Self {
                Self(Arc::clone(&id.0))
            }
        })+
    };
}

same_text!(Id => ServerId, UserId, Address);
same_text!(ServerId => Id, Address);
same_text!(UserId => Id, Address);

impl PartialEq<ServerId> for Id {
    fn eq(&self, other: &ServerId) -> bool {
        self.0 == other.0
    }
}

impl PartialEq<UserId> for Id {
    fn eq(&self, other: &UserId) -> bool {
        self.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_1_to_64_bytes_of_printable_ascii() {
        assert!(UserId::try_from("3f2c9a1e-8b7d-4c6a-9e5f-1a2b3c4d5e6f").is_ok());
        assert!(UserId::try_from("x".repeat(64).as_str()).is_ok());
        assert_eq!(UserId::try_from(""), Err(InvalidId::Empty));
        assert_eq!(
            UserId::try_from("x".repeat(65).as_str()),
            Err(InvalidId::TooLong { len: 65, max: 64 })
        );
        for bad in ["a b", "a\n", "a\u{7f}", "é", "\u{202e}x", "\0"] {
            assert_eq!(UserId::try_from(bad), Err(InvalidId::Character), "{bad:?}");
        }
    }

    #[test]
    fn an_id_made_from_a_key_is_a_uuid_v4_of_its_fingerprint() {
        let bytes: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 17 % 256).unwrap());
        let key = Fingerprint::from_bytes(bytes);
        let id = UserId::made_from(key);
        assert_eq!(id.as_str(), "00112233-4455-4677-8899-aabbccddeeff");
        assert!(id.is_made_from(key) && !id.is_made_from(Fingerprint::from_bytes([0xff; 32])));
        let all = UserId::made_from(Fingerprint::from_bytes([0xff; 32]));
        assert_eq!(all.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        // In another case it is another id, and nobody's by birth.
        let upper = UserId::try_from(all.as_str().to_uppercase()).unwrap();
        assert!(!upper.is_made_from(Fingerprint::from_bytes([0xff; 32])));
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<ServerId>("\"srv-a\"").is_ok());
        assert!(serde_json::from_str::<ServerId>("\"a b\"").is_err());
        assert!(serde_json::from_str::<ServerId>("7").is_err());
    }
}
