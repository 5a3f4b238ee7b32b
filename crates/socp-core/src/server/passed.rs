//! What was passed on lately, so that an `ERROR` about it finds its way back to the author (SOCP §8.3, PROTOCOL I.7).

use super::io::LinkId;
use super::people::Claim;
use crate::clock::Mono;
use crate::seen::SeenKey;
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
    /// What was known of that user then.
    pub(super) claim: Option<Claim>,
    /// As what it is remembered as seen.
    pub(super) seen_as: SeenAs,
}

/// The keys of a frame and of the content in it, as far as they are remembered.
pub(super) type SeenAs = [Option<SeenKey>; 2];

/// Messages by their `msg_ref` and recipient, since content for the channel may go to several under one signature; the
/// oldest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct PassedOn {
    by_ref: BTreeMap<String, BTreeMap<UserId, (Mono, Passed)>>,
    by_age: VecDeque<(Mono, String, UserId)>,
}

impl PassedOn {
    pub(super) fn insert(&mut self, now: Mono, msg_ref: String, passed: Passed) {
        while self.by_age.len() >= PASSED_COUNT_MAX
            || self
                .by_age
                .front()
                .is_some_and(|(then, ..)| now.saturating_sub(*then) > PASSED_TTL_MS)
        {
            self.drop_oldest();
        }
        let recipient = passed.recipient.clone();
        self.by_age.push_back((now, msg_ref.clone(), recipient.clone()));
        let with_ref = self.by_ref.entry(msg_ref).or_default();
        with_ref.insert(recipient, (now, passed));
    }

    /// Takes the message out that went over this link, if it is remembered. Of several with one reference the one for
    /// the user that the error names; an error that names none of them is nobody's.
    pub(super) fn take(&mut self, msg_ref: &str, next: LinkId, named: &str) -> Option<Passed> {
        let with_ref = self.by_ref.get(msg_ref)?;
        let is_here = |recipient: &&UserId| with_ref.get(*recipient).is_some_and(|(_, passed)| passed.next == next);
        let named = UserId::try_from(named).ok();
        let recipient = named.filter(|user| is_here(&user)).or_else(|| {
            let mut here = with_ref.keys().filter(is_here);
            let sole = here.next()?;
            here.next().is_none().then(|| sole.clone())
        })?;
        self.remove(msg_ref, &recipient)
    }

    fn remove(&mut self, msg_ref: &str, recipient: &UserId) -> Option<Passed> {
        let with_ref = self.by_ref.get_mut(msg_ref)?;
        let (_, passed) = with_ref.remove(recipient)?;
        if with_ref.is_empty() {
            self.by_ref.remove(msg_ref);
        }
        Some(passed)
    }

    fn drop_oldest(&mut self) {
        let Some((then, msg_ref, recipient)) = self.by_age.pop_front() else {
            return;
        };
        // The same may have been passed on again since.
        let known = self.by_ref.get(&msg_ref).and_then(|with_ref| with_ref.get(&recipient));
        if known.is_some_and(|(at, _)| *at == then) {
            self.remove(&msg_ref, &recipient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(next: u64) -> Passed {
        passed_to("u", next)
    }

    fn passed_to(user: &str, next: u64) -> Passed {
        Passed {
            came_on: LinkId(1),
            next: LinkId(next),
            recipient: UserId::try_from(user).unwrap(),
            claim: None,
            seen_as: [None; 2],
        }
    }

    #[test]
    fn of_several_with_one_reference_the_one_that_is_named() {
        let mut on = PassedOn::default();
        for user in ["u", "v", "w"] {
            on.insert(0, "r".to_owned(), passed_to(user, 2));
        }
        on.insert(0, "r".to_owned(), passed_to("x", 3));
        assert_eq!(on.take("r", LinkId(2), "refused"), None, "which?");
        assert_eq!(on.take("r", LinkId(2), "v"), Some(passed_to("v", 2)));
        assert_eq!(on.take("r", LinkId(2), "v"), None);
        assert_eq!(on.take("r", LinkId(2), "x"), None, "it went elsewhere");
        assert_eq!(on.take("r", LinkId(3), "refused"), Some(passed_to("x", 3)));
        assert_eq!(on.take("r", LinkId(2), "w"), Some(passed_to("w", 2)));
        assert_eq!(on.take("r", LinkId(2), "refused"), Some(passed_to("u", 2)));
    }

    #[test]
    fn only_the_link_that_it_went_over_may_speak_of_it_and_once() {
        let mut on = PassedOn::default();
        on.insert(0, "r".to_owned(), passed(2));
        assert_eq!(on.take("r", LinkId(3), "u"), None);
        assert_eq!(on.take("r", LinkId(2), "u"), Some(passed(2)));
        assert_eq!(on.take("r", LinkId(2), "u"), None);
    }

    #[test]
    fn old_ones_are_forgotten_and_their_number_is_bounded() {
        let mut on = PassedOn::default();
        on.insert(0, "old".to_owned(), passed(2));
        on.insert(PASSED_TTL_MS + 1, "new".to_owned(), passed(2));
        assert_eq!(on.take("old", LinkId(2), "u"), None);
        for number in 0..=PASSED_COUNT_MAX {
            on.insert(PASSED_TTL_MS + 2, number.to_string(), passed(2));
        }
        assert!(on.by_age.len() <= PASSED_COUNT_MAX && on.by_ref.len() <= PASSED_COUNT_MAX);
        assert_eq!(on.take("0", LinkId(2), "u"), None, "the oldest went first");
        assert!(on.take("1", LinkId(2), "u").is_some());
    }
}
