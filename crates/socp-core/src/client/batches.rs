//! Presence in batches: which come in order, and what is missing (PROTOCOL II.8).

use super::USERS_COUNT_MAX;
use socp_proto::UserId;
use socp_proto::payload::{Presence, PresenceRequest};
use std::collections::BTreeSet;

/// How far one end of a link has been told who is there.
#[derive(Debug, Default)]
pub struct Batches {
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
    /// Something was missed and is on its way.
    Wait,
}

impl Batches {
    /// Looks whether a batch follows on what is known.
    pub fn take(&mut self, batch: &Presence) -> Step {
        if batch.from_seq == 0 {
            self.take_page(batch)
        } else {
            self.take_changes(batch)
        }
    }

    fn take_page(&mut self, batch: &Presence) -> Step {
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
        *next_page = next_page.saturating_add(1);
        // As many as fit: whoever asked again would be told the same.
        let room = USERS_COUNT_MAX.saturating_sub(seen.len());
        seen.extend(batch.add.iter().take(room).map(|user| user.user_id.clone()));
        if !batch.more {
            self.everyone = Some(std::mem::take(seen));
            let (epoch, seq, is_asking) = (batch.epoch, batch.seq, false);
            self.state = State::Told { epoch, seq, is_asking };
        }
        Step::Use
    }

    fn take_changes(&mut self, batch: &Presence) -> Step {
        let State::Told { epoch, seq, is_asking } = &mut self.state else {
            return Step::Wait;
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
            return Step::Ask(PresenceRequest { epoch, from_seq });
        }
        *is_asking = false;
        *seq = batch.seq.max(*seq);
        Step::Use
    }

    fn ask_for_everyone(&mut self, epoch: u64) -> Step {
        let is_first = self.state != State::Blank;
        self.state = State::Blank;
        let request = PresenceRequest { epoch, from_seq: 0 };
        if is_first { Step::Ask(request) } else { Step::Wait }
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
    use socp_proto::payload::OnlineUser;

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
        Step::Ask(PresenceRequest { epoch: 7, from_seq })
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
            Step::Ask(PresenceRequest { epoch: 8, from_seq: 0 })
        );
    }
}
