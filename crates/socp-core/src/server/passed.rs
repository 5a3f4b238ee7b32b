//! What was passed on lately, so that an `ERROR` about it finds its way back to the author (SOCP §8.3, PROTOCOL I.7).

use super::io::LinkId;
use crate::clock::Mono;
use socp_proto::UserId;
use socp_proto::limits::{PASSED_COUNT_MAX, PASSED_TTL_MS};
use std::collections::{BTreeMap, VecDeque};

/// One message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    /// Where it came from.
    pub(super) came_on: LinkId,
    /// Where it went.
    pub(super) next: LinkId,
    /// Whom it is for.
    pub(super) recipient: UserId,
}

/// Messages by their `msg_ref`; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct PassedOn {
    by_ref: BTreeMap<String, (Mono, Passed)>,
    by_age: VecDeque<(Mono, String)>,
}

impl PassedOn {
    pub(super) fn insert(&mut self, now: Mono, msg_ref: String, passed: Passed) {
        while self.by_age.len() >= PASSED_COUNT_MAX
            || self
                .by_age
                .front()
                .is_some_and(|(then, _)| now.saturating_sub(*then) > PASSED_TTL_MS)
        {
            self.drop_oldest();
        }
        self.by_age.push_back((now, msg_ref.clone()));
        self.by_ref.insert(msg_ref, (now, passed));
    }

    /// Takes the message out that went over this link, if it is remembered.
    pub(super) fn take(&mut self, msg_ref: &str, next: LinkId) -> Option<Passed> {
        let (_, passed) = self.by_ref.get(msg_ref)?;
        if passed.next != next {
            return None;
        }
        self.by_ref.remove(msg_ref).map(|(_, passed)| passed)
    }

    fn drop_oldest(&mut self) {
        let Some((then, msg_ref)) = self.by_age.pop_front() else {
            return;
        };
        // The same reference may have been passed on again since.
        if self.by_ref.get(&msg_ref).is_some_and(|(at, _)| *at == then) {
            self.by_ref.remove(&msg_ref);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(next: u64) -> Passed {
        Passed {
            came_on: LinkId(1),
            next: LinkId(next),
            recipient: UserId::try_from("u").unwrap(),
        }
    }

    #[test]
    fn only_the_link_that_it_went_over_may_speak_of_it_and_once() {
        let mut on = PassedOn::default();
        on.insert(0, "r".to_owned(), passed(2));
        assert_eq!(on.take("r", LinkId(3)), None);
        assert_eq!(on.take("r", LinkId(2)), Some(passed(2)));
        assert_eq!(on.take("r", LinkId(2)), None);
    }

    #[test]
    fn old_ones_are_forgotten_and_their_number_is_bounded() {
        let mut on = PassedOn::default();
        on.insert(0, "old".to_owned(), passed(2));
        on.insert(PASSED_TTL_MS + 1, "new".to_owned(), passed(2));
        assert_eq!(on.take("old", LinkId(2)), None);
        for number in 0..=PASSED_COUNT_MAX {
            on.insert(PASSED_TTL_MS + 2, number.to_string(), passed(2));
        }
        assert!(on.by_age.len() <= PASSED_COUNT_MAX && on.by_ref.len() <= PASSED_COUNT_MAX);
        assert_eq!(on.take("0", LinkId(2)), None, "the oldest went first");
        assert!(on.take("1", LinkId(2)).is_some());
    }
}
