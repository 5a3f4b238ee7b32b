//! Ids of servers and users, and the envelope's `to` (PROTOCOL I.1).
//!
//! Ours are UUID v4 in lower-case text; programs of other dialects use names, so an id is any 1 to 64 bytes of
//! printable ASCII. A [`ServerId`] and a [`UserId`] are the same text with another meaning; [`Id`] is either.

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
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<ServerId>("\"srv-a\"").is_ok());
        assert!(serde_json::from_str::<ServerId>("\"a b\"").is_err());
        assert!(serde_json::from_str::<ServerId>("7").is_err());
    }
}
