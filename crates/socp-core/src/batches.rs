//! Presence in batches: which come in order, and what is missing (PROTOCOL II.8).

use crate::client::USERS_COUNT_MAX;
use socp_proto::UserId;
use socp_proto::payload::{Batch, OfUser, PresenceRequest};
use std::collections::BTreeSet;

/// How far one end of a link has been told who is there.
#[derive(Debug)]
pub struct Batches {
    /// The longest list that is taken.
    users_max: usize,
    /// Whether a longer one is refused; else what fits of it is taken.
    refuses_more: bool,
    state: State,
    /// Everyone of a list that has ended and was not taken yet.
    everyone: Option<BTreeSet<UserId>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing yet, or something was missed and everyone was asked for.
    #[default]
    Blank,
    /// A list of everyone is under way.
    Listing {
        epoch: u64,
        next_page: u64,
        seen: BTreeSet<UserId>,
    },
    /// Everything up to this number is known. `is_asking`: what follows was missed and asked for.
    Told { epoch: u64, seq: u64, is_asking: bool },
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It follows on what is known.
    Use,
    /// Something was missed before it.
    Ask(PresenceRequest),
    /// It says nothing new, or something was missed and is on its way.
    Wait,
    /// It is of a list that is longer than any may be.
    TooMany,
}

/// What a client of ours is told: as many users as it has room for.
impl Default for Batches {
    fn default() -> Self {
        Self {
            refuses_more: false,
            ..Self::new(USERS_COUNT_MAX)
        }
    }
}

impl Batches {
    /// Nothing has been told, and a list may be so long, or is refused.
    #[must_use]
    pub fn new(users_max: usize) -> Self {
        Self {
            users_max,
            refuses_more: true,
            state: State::Blank,
            everyone: None,
        }
    }

    /// Looks whether a batch follows on what is known.
    pub fn take<A: OfUser, R>(&mut self, batch: &Batch<A, R>) -> Step {
        if batch.from_seq == 0 {
            self.take_page(batch)
        } else {
            self.take_changes(batch)
        }
    }

    /// Whether everyone has been told once, and everything since as far as is known.
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self.state, State::Told { .. })
    }

    fn take_page<A: OfUser, R>(&mut self, batch: &Batch<A, R>) -> Step {
        if batch.page == 0 {
            let (epoch, next_page, seen) = (batch.epoch, 0, BTreeSet::new());
            self.state = State::Listing { epoch, next_page, seen };
        }
        let State::Listing { epoch, next_page, seen } = &mut self.state else {
            return self.ask_for_everyone(batch.epoch);
        };
        if *epoch != batch.epoch || *next_page != batch.page {
            return self.ask_for_everyone(batch.epoch);
        }
        let room = self.users_max.saturating_sub(seen.len());
        if self.refuses_more && batch.add.len() > room {
            self.state = State::Blank;
            return Step::TooMany;
        }
        *next_page = next_page.saturating_add(1);
        // Whoever asked again would be told the same.
        seen.extend(batch.add.iter().take(room).map(|user| user.user_id().clone()));
        if !batch.more {
            self.everyone = Some(std::mem::take(seen));
            let (epoch, seq, is_asking) = (batch.epoch, batch.seq, false);
            self.state = State::Told { epoch, seq, is_asking };
        }
        Step::Use
    }

    fn take_changes<A, R>(&mut self, batch: &Batch<A, R>) -> Step {
        let (epoch, seq, is_asking) = match &mut self.state {
            State::Told { epoch, seq, is_asking } => (epoch, seq, is_asking),
            State::Blank => return Step::Wait,
            // Changes follow behind the last page only.
            State::Listing { .. } => return self.ask_for_everyone(batch.epoch),
        };
        if *epoch != batch.epoch {
            return self.ask_for_everyone(batch.epoch);
        }
        let missing = seq.saturating_add(1);
        if batch.from_seq > missing {
            if std::mem::replace(is_asking, true) {
                return Step::Wait;
            }
            let (epoch, from_seq) = (*epoch, missing);
            return Step::Ask(PresenceRequest {
                epoch,
                from_seq,
                to_the_letter: false,
            });
        }
        if batch.seq < *seq {
            return Step::Wait; // It was overtaken: what it says may not be true any more.
        }
        *is_asking = false;
        *seq = batch.seq;
        Step::Use
    }

    fn ask_for_everyone(&mut self, epoch: u64) -> Step {
        let is_first = self.state != State::Blank;
        self.state = State::Blank;
        let request = PresenceRequest {
            epoch,
            from_seq: 0,
            to_the_letter: false,
        };
        if is_first { Step::Ask(request) } else { Step::Wait }
    }

    /// What to ask for on the next link: to know what was known last is to be told at least that again, so that it is
    /// clear where the changes end. Nothing while no list has ended.
    #[must_use]
    pub fn resume(&self) -> Option<PresenceRequest> {
        let State::Told { epoch, seq, .. } = self.state else {
            return None;
        };
        let (from_seq, to_the_letter) = (seq, false);
        Some(PresenceRequest {
            epoch,
            from_seq,
            to_the_letter,
        })
    }

    /// A new link: what was asked for on the one before does not come any more, and a list begins again.
    pub fn on_new_link(&mut self) {
        match &mut self.state {
            State::Told { is_asking, .. } => *is_asking = false,
            state @ (State::Blank | State::Listing { .. }) => *state = State::Blank,
        }
    }

    /// Everyone, once a list of them has ended: nobody else is there.
    pub fn take_everyone(&mut self) -> Option<BTreeSet<UserId>> {
        self.everyone.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_proto::ServerId;
    use socp_proto::limits::PRESENCE_CHANGES_COUNT_MAX;
    use socp_proto::payload::{OnlineUser, Presence};

    fn batch(from_seq: u64, seq: u64) -> Presence {
        Presence {
            server_id: ServerId::try_from("s").unwrap(),
            epoch: 7,
            from_seq,
            seq,
            page: 0,
            more: false,
            add: Vec::new(),
            remove: Vec::new(),
        }
    }

    fn page(page: u64, more: bool, who: &str) -> Presence {
        let online = OnlineUser {
            user_id: UserId::try_from(who).unwrap(),
            server_id: ServerId::try_from("s").unwrap(),
            meta: socp_proto::Meta::default(),
            server_name: None,
            version: None,
        };
        Presence {
            page,
            more,
            add: vec![online],
            ..batch(0, 5)
        }
    }

    fn told() -> Batches {
        let mut batches = Batches::default();
        assert_eq!(batches.take(&page(0, true, "a")), Step::Use);
        assert_eq!(batches.take_everyone(), None);
        assert_eq!(batches.take(&page(1, false, "b")), Step::Use);
        assert_eq!(batches.take_everyone().map(|all| all.len()), Some(2));
        batches
    }

    const fn ask(from_seq: u64) -> Step {
        Step::Ask(PresenceRequest {
            epoch: 7,
            from_seq,
            to_the_letter: false,
        })
    }

    #[test]
    fn a_list_then_changes_that_follow_or_overlap() {
        let mut batches = told();
        assert_eq!(batches.take(&batch(6, 8)), Step::Use);
        assert_eq!(batches.take(&batch(7, 8)), Step::Use, "told twice");
        assert_eq!(batches.take(&batch(9, 9)), Step::Use);
    }

    #[test]
    fn what_is_missing_is_asked_for_once() {
        let mut batches = told();
        assert_eq!(batches.take(&batch(7, 8)), ask(6));
        assert_eq!(batches.take(&batch(9, 9)), Step::Wait);
        assert_eq!(batches.take(&batch(6, 9)), Step::Use);
        assert_eq!(
            batches.take(&batch(11, 11)),
            ask(10),
            "and again when something else is missing"
        );
    }

    #[test]
    fn of_more_than_there_is_room_for_as_many_as_fit_are_known_and_nobody_is_asked() {
        let count = PRESENCE_CHANGES_COUNT_MAX;
        let pages = u64::try_from(USERS_COUNT_MAX / count).unwrap();
        let mut batches = Batches::default();
        for number in 0..=pages + 1 {
            let one = page(number, number <= pages, "u").add.remove(0);
            let add = (0..count).map(|user| OnlineUser {
                user_id: UserId::try_from(format!("{number}-{user}")).unwrap(),
                ..one.clone()
            });
            let page = Presence {
                add: add.collect(),
                ..page(number, number <= pages, "u")
            };
            assert_eq!(batches.take(&page), Step::Use, "page {number}");
        }
        assert_eq!(batches.take_everyone().map(|all| all.len()), Some(USERS_COUNT_MAX));
        assert_eq!(batches.take(&batch(6, 8)), Step::Use);
    }

    #[test]
    fn whoever_misses_a_page_or_the_numbering_asks_for_everyone_once() {
        let mut batches = Batches::default();
        assert_eq!(batches.take(&batch(6, 8)), Step::Wait, "the list is still to come");
        assert_eq!(batches.take(&page(0, true, "a")), Step::Use);
        assert_eq!(batches.take(&page(2, false, "c")), ask(0));
        assert_eq!(batches.take(&page(3, false, "d")), Step::Wait);
        assert_eq!(batches.take_everyone(), None);
        assert_eq!(batches.take(&page(0, false, "a")), Step::Use);
        let other = Presence {
            epoch: 8,
            ..batch(6, 8)
        };
        assert_eq!(
            batches.take(&other),
            Step::Ask(PresenceRequest {
                epoch: 8,
                from_seq: 0,
                to_the_letter: false
            })
        );
    }

    #[test]
    fn what_was_overtaken_is_not_used() {
        let mut batches = told();
        assert_eq!(batches.take(&batch(6, 8)), Step::Use);
        assert_eq!(batches.take(&batch(9, 9)), Step::Use);
        assert_eq!(batches.take(&batch(6, 8)), Step::Wait);
        assert_eq!(batches.take(&batch(10, 10)), Step::Use);
    }

    #[test]
    fn changes_in_the_middle_of_a_list_show_that_its_end_was_missed() {
        let mut batches = Batches::default();
        assert_eq!(batches.take(&page(0, true, "a")), Step::Use);
        assert_eq!(batches.take(&batch(6, 8)), ask(0));
        assert!(!batches.is_told());
    }

    #[test]
    fn a_list_that_is_too_long_is_not_taken() {
        let mut batches = Batches::new(1);
        assert_eq!(batches.take(&page(0, true, "a")), Step::Use);
        assert_eq!(batches.take(&page(1, true, "b")), Step::TooMany);
        assert_eq!(batches.take(&page(2, true, "c")), Step::Wait);
    }
}
