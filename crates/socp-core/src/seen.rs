//! The duplicate cache (SOCP §10, PROTOCOL I.7): what was handled in the last ten minutes.

use crate::clock::Mono;
use socp_proto::limits::{SEEN_COUNT_MAX, SEEN_TTL_MS};
use socp_proto::{Envelope, UserId};
use std::collections::{HashMap, HashSet, VecDeque};

/// SHA-256 of what makes two frames the same.
pub(crate) type SeenKey = [u8; 32];

/// Remembers keys for [`SEEN_TTL_MS`], at most `count_max` of them; the oldest go first.
#[derive(Debug)]
pub(crate) struct SeenCache {
    // Never iterated: its order cannot leak.
    keys: HashSet<SeenKey>,
    by_age: VecDeque<(Mono, SeenKey)>,
    /// How many entries of `by_age` stand for nothing any more, the oldest ones of each key. Never iterated.
    taken_back: HashMap<SeenKey, usize>,
    count_max: usize,
}

impl SeenCache {
    pub(crate) fn new() -> Self {
        Self::with_count_max(SEEN_COUNT_MAX)
    }

    fn with_count_max(count_max: usize) -> Self {
        Self {
            keys: HashSet::new(),
            by_age: VecDeque::new(),
            taken_back: HashMap::new(),
            count_max,
        }
    }

    /// Whether the key is new; it is not, from now on.
    pub(crate) fn insert(&mut self, now: Mono, key: SeenKey) -> bool {
        self.expire(now);
        if !self.keys.insert(key) {
            return false;
        }
        if self.by_age.len() >= self.count_max {
            self.drop_oldest();
        }
        self.by_age.push_back((now, key));
        true
    }

    /// Takes a key back: what it stands for was not handled after all.
    pub(crate) fn forget(&mut self, key: &SeenKey) {
        if self.keys.remove(key) {
            let count = self.taken_back.entry(*key).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Whether the key is known.
    pub(crate) fn contains(&self, key: &SeenKey) -> bool {
        self.keys.contains(key)
    }

    fn expire(&mut self, now: Mono) {
        while self
            .by_age
            .front()
            .is_some_and(|(then, _)| now.saturating_sub(*then) > SEEN_TTL_MS)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, key)) = self.by_age.pop_front() else {
            return;
        };
        let Some(count) = self.taken_back.get_mut(&key) else {
            self.keys.remove(&key);
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.taken_back.remove(&key);
        }
    }
}

/// The key of a frame: its kind, `ts`, `from`, `to` and canonical payload (SOCP §10).
pub(crate) fn frame_key(envelope: &Envelope) -> SeenKey {
    let head = [envelope.kind.name(), envelope.from.as_str(), envelope.to.as_str()].join("\n");
    let text = format!("{head}\n{}\n{}", envelope.ts, envelope.signed_text());
    socp_proto::sha256(text.as_bytes())
}

/// The key of content, whatever envelope it comes in: a changed `ts` must not get a replay through.
pub(crate) fn content_key(content_sig: &[u8]) -> SeenKey {
    socp_proto::sha256(content_sig)
}

/// The key of content in a frame that keeps its author's `from`. Whoever speaks for one author cannot use up another's.
pub(crate) fn authored_key(author: &UserId, content_sig: &[u8]) -> SeenKey {
    socp_proto::sha256(&[b"authored\n", author.as_str().as_bytes(), b"\n", content_sig].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_until_it_expires() {
        let mut seen = SeenCache::new();
        assert!(seen.insert(0, [1; 32]));
        assert!(!seen.insert(SEEN_TTL_MS, [1; 32]));
        assert!(seen.insert(SEEN_TTL_MS + 1, [1; 32]));
    }

    #[test]
    fn a_key_that_was_taken_back_and_came_again_is_known_for_as_long_as_any() {
        let mut seen = SeenCache::with_count_max(3);
        assert!(seen.insert(0, [1; 32]));
        seen.forget(&[1; 32]);
        seen.forget(&[1; 32]);
        seen.forget(&[2; 32]);
        assert!(seen.insert(1_000, [1; 32]));
        assert!(!seen.insert(SEEN_TTL_MS + 1, [1; 32]));
        assert!(seen.insert(SEEN_TTL_MS + 1_001, [1; 32]));
        for round in 0..10 {
            assert!(seen.insert(SEEN_TTL_MS + 2_000 + round, [2; 32]));
            seen.forget(&[2; 32]);
        }
        assert!(seen.by_age.len() <= 3 && seen.taken_back.len() <= 3);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let mut seen = SeenCache::with_count_max(2);
        for key in 1..=3 {
            assert!(seen.insert(0, [key; 32]));
        }
        assert_eq!((seen.keys.len(), seen.by_age.len()), (2, 2));
        assert!(!seen.insert(0, [3; 32]));
        assert!(seen.insert(0, [1; 32]));
    }
}
