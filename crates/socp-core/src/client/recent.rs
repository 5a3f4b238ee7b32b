//! What was called sent lately, since a refusal may come back from another server much later (SOCP §10).

use socp_proto::UserId;
use std::collections::{BTreeMap, VecDeque};

/// References that are remembered; the oldest goes first (our choice).
pub(super) const RECENT_COUNT_MAX: usize = 1_024;

/// Our own messages by their reference.
#[derive(Debug, Default)]
pub(super) struct Recent {
    to: BTreeMap<String, UserId>,
    by_age: VecDeque<String>,
}

impl Recent {
    pub(super) fn add(&mut self, msg_ref: String, to: &UserId) {
        if self.to.insert(msg_ref.clone(), to.clone()).is_some() {
            return;
        }
        if self.by_age.len() >= RECENT_COUNT_MAX {
            let oldest = self.by_age.pop_front();
            oldest.and_then(|oldest| self.to.remove(&oldest));
        }
        self.by_age.push_back(msg_ref);
    }

    /// Whom the message with this reference was for; each is told once.
    pub(super) fn take(&mut self, msg_ref: &str) -> Option<UserId> {
        let to = self.to.remove(msg_ref)?;
        self.by_age.retain(|other| other != msg_ref);
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_reference_is_forgotten_and_each_is_told_once() {
        let bob = UserId::try_from("bob").unwrap();
        let mut recent = Recent::default();
        for n in 0..=RECENT_COUNT_MAX {
            recent.add(n.to_string(), &bob);
            recent.add(n.to_string(), &bob);
        }
        assert_eq!(
            (recent.to.len(), recent.by_age.len()),
            (RECENT_COUNT_MAX, RECENT_COUNT_MAX)
        );
        assert_eq!(recent.take("0"), None);
        assert_eq!(recent.take("1"), Some(bob));
        assert_eq!(recent.take("1"), None);
    }
}
