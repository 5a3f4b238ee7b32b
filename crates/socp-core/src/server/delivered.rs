//! Which content has reached our users in the last 30 days, so that nothing is delivered twice even after a restart
//! (PROTOCOL I.7).

use super::io::Delivered;
use socp_proto::UserId;
use socp_proto::limits::{CONTENT_REMEMBERED_MS, DELIVERED_COUNT_MAX};
use std::collections::{HashSet, VecDeque};

/// Half of the SHA-256 of an author and a content signature: long enough that nobody finds two alike.
pub(super) type ContentHash = [u8; 16];

/// The hashes, the oldest first.
#[derive(Debug, Default)]
pub(super) struct DeliveredContent {
    // Never iterated: its order cannot leak.
    hashes: HashSet<ContentHash>,
    by_age: VecDeque<Delivered>,
}

impl DeliveredContent {
    /// What the store remembers, in any order.
    pub(super) fn new(mut remembered: Vec<Delivered>) -> Self {
        remembered.sort_by_key(|delivered| delivered.at);
        let mut content = Self::default();
        for delivered in remembered {
            content.insert(delivered);
        }
        content
    }

    pub(super) fn contains(&self, content: ContentHash) -> bool {
        self.hashes.contains(&content)
    }

    /// It did not reach anybody after all.
    pub(super) fn forget(&mut self, content: ContentHash) {
        if self.hashes.remove(&content) {
            self.by_age.retain(|delivered| delivered.content != content);
        }
    }

    pub(super) fn insert(&mut self, delivered: Delivered) {
        let oldest = delivered.at.saturating_sub(CONTENT_REMEMBERED_MS);
        while self.by_age.len() >= DELIVERED_COUNT_MAX || self.by_age.front().is_some_and(|old| old.at < oldest) {
            if let Some(old) = self.by_age.pop_front() {
                self.hashes.remove(&old.content);
            }
        }
        if self.hashes.insert(delivered.content) {
            self.by_age.push_back(delivered);
        }
    }
}

/// The hash of content. Whoever speaks for one author cannot use up what another says.
pub(super) fn content_hash(author: &UserId, content_sig: &[u8]) -> ContentHash {
    let text = [author.as_str().as_bytes(), b"\n", content_sig].concat();
    let mut hash = [0; 16];
    hash.iter_mut()
        .zip(socp_proto::sha256(&text))
        .for_each(|(to, from)| *to = from);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(number: u32, at: u64) -> Delivered {
        let author = UserId::try_from("u").unwrap();
        let content = content_hash(&author, &number.to_be_bytes());
        Delivered { content, at }
    }

    #[test]
    fn content_is_remembered_for_thirty_days() {
        let mut content = DeliveredContent::new(vec![delivered(2, 1000), delivered(1, 0)]);
        assert!(content.contains(delivered(1, 0).content) && content.contains(delivered(2, 0).content));
        content.insert(delivered(3, CONTENT_REMEMBERED_MS + 1));
        assert!(!content.contains(delivered(1, 0).content));
        assert!(content.contains(delivered(2, 0).content));
    }

    #[test]
    fn memory_is_bounded() {
        let count = u32::try_from(DELIVERED_COUNT_MAX).unwrap();
        let mut content = DeliveredContent::default();
        for number in 0..=count {
            content.insert(delivered(number, u64::from(number)));
        }
        assert_eq!(content.by_age.len(), DELIVERED_COUNT_MAX);
        assert!(!content.contains(delivered(0, 0).content));
        assert!(content.contains(delivered(count, 0).content));
    }
}
