//! Capabilities: what two programs agree on beyond SOCP v1.3 (PROTOCOL II.1).

use crate::limits::{CAP_BYTES_MAX, CAPS_COUNT_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A server that shows its users only whom they have shown to know (PROTOCOL II.12).
pub const CONTACTS: &str = "contacts/1";

/// What is acknowledged is on disk, and kept until it has arrived (PROTOCOL II.6).
pub const ACK: &str = "ack/1";

/// A set of `name/version` texts. Unknown names are kept (they may be meant for somebody else) and never used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Capabilities(BTreeSet<String>);

/// A list of capabilities that is too long or holds something that is not `name/version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of at most {CAPS_COUNT_MAX} texts of the form name/version")]
pub struct InvalidCapabilities;

impl Capabilities {
    /// The set of these.
    ///
    /// # Errors
    /// [`InvalidCapabilities`] if one is not `name/version`, or there are too many.
    pub fn of(names: &[&str]) -> Result<Self, InvalidCapabilities> {
        Self::try_from(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    /// Whether this end has the capability.
    #[must_use]
    pub fn has(&self, capability: &str) -> bool {
        self.0.contains(capability)
    }

    /// What both ends have: the only ones that may be used between them.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl TryFrom<Vec<String>> for Capabilities {
    type Error = InvalidCapabilities;
    fn try_from(list: Vec<String>) -> Result<Self, InvalidCapabilities> {
        let is_capability = |text: &String| {
            let parts = text.split_once('/');
            text.len() <= CAP_BYTES_MAX
                && text.bytes().all(|b| b.is_ascii_graphic())
                && parts.is_some_and(|(name, version)| !name.is_empty() && !version.is_empty())
        };
        if list.len() > CAPS_COUNT_MAX || !list.iter().all(is_capability) {
            return Err(InvalidCapabilities);
        }
        Ok(Self(list.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(list: &[&str]) -> Result<Capabilities, InvalidCapabilities> {
        Capabilities::of(list)
    }

    #[test]
    fn only_what_both_have_is_shared() {
        let ours = caps(&["proof/1", "ack/1"]).unwrap();
        let theirs = caps(&["ack/1", "warp/9"]).unwrap();
        assert_eq!(ours.shared_with(&theirs).iter().collect::<Vec<_>>(), ["ack/1"]);
        assert!(!ours.has("warp/9"));
    }

    #[test]
    fn nonsense_and_floods_are_refused() {
        assert!(caps(&["proof"]).is_err());
        assert!(caps(&["/1"]).is_err());
        assert!(caps(&["a b/1"]).is_err());
        assert!(caps(&["x/12345678901234567890123456789012"]).is_err());
        let many: Vec<String> = (0..=CAPS_COUNT_MAX).map(|n| format!("c{n}/1")).collect();
        assert!(Capabilities::try_from(many).is_err());
    }
}
