//! What has been sent over one link out of a mailbox, or out of what waits for a server, and how much of it is unanswered
//! (PROTOCOL II.6).

use crate::clock::Mono;
use socp_proto::limits::{UNACKNOWLEDGED_BYTES_MAX, UNACKNOWLEDGED_COUNT_MAX};
use std::collections::BTreeMap;

/// One link's place in a log of numbered messages.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// The last number that was sent.
    pub(super) sent: u64,
    /// What was sent and is not answered, with its size in bytes.
    unanswered: BTreeMap<u64, usize>,
    bytes: usize,
    /// While a page is read from the disk: the last number that there was then.
    pub(super) reading: Option<u64>,
    /// Since when nothing more may be sent.
    pub(super) full_since: Option<Mono>,
    /// The far end could not write to its disk, and rests.
    pub(super) is_resting: bool,
    /// The far end was told that it acknowledges nothing.
    pub(super) is_told: bool,
}

impl Feed {
    /// A link that has everything up to this number.
    pub(super) fn after(sent: u64) -> Self {
        Self {
            sent,
            ..Self::default()
        }
    }

    /// Whether a message of this size may be sent at once, as the next one behind `last`.
    pub(super) fn takes(&self, last: u64, bytes: usize) -> bool {
        let fits = self.unanswered.is_empty() || self.bytes.saturating_add(bytes) <= UNACKNOWLEDGED_BYTES_MAX;
        let is_idle = self.reading.is_none() && !self.is_resting;
        is_idle && self.sent >= last && self.unanswered.len() < UNACKNOWLEDGED_COUNT_MAX && fits
    }

    /// Whether there is room for a page from the disk.
    pub(super) fn wants_page(&self) -> bool {
        self.reading.is_none()
            && !self.is_resting
            && self.unanswered.len() <= UNACKNOWLEDGED_COUNT_MAX / 2
            && self.bytes <= UNACKNOWLEDGED_BYTES_MAX / 2
    }

    pub(super) fn send(&mut self, now: Mono, seq: u64, bytes: usize) {
        self.sent = self.sent.max(seq);
        self.unanswered.insert(seq, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.unanswered.len() > UNACKNOWLEDGED_COUNT_MAX / 2 || self.bytes > UNACKNOWLEDGED_BYTES_MAX / 2 {
            self.full_since.get_or_insert(now);
        }
    }

    /// One message is answered.
    pub(super) fn settle(&mut self, seq: u64) {
        if let Some(bytes) = self.unanswered.remove(&seq) {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.note_progress();
        }
    }

    /// Everything up to this number is answered.
    pub(super) fn settle_up_to(&mut self, up_to: u64) {
        let rest = self.unanswered.split_off(&up_to.saturating_add(1));
        let settled = std::mem::replace(&mut self.unanswered, rest);
        self.bytes = self.bytes.saturating_sub(settled.values().sum());
        if !settled.is_empty() {
            self.note_progress();
        }
    }

    /// Everything from this number on is to be sent again.
    pub(super) fn rewind(&mut self, seq: u64) {
        self.sent = self.sent.min(seq.saturating_sub(1));
        let again = self.unanswered.split_off(&seq);
        self.bytes = self.bytes.saturating_sub(again.values().sum());
        self.note_progress();
    }

    fn note_progress(&mut self) {
        self.full_since = None;
        self.is_told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unanswered_is_bounded_in_number_and_bytes() {
        let mut feed = Feed::after(10);
        assert!(feed.takes(10, 1) && !feed.takes(11, 1), "number 11 comes first");
        let count = u64::try_from(UNACKNOWLEDGED_COUNT_MAX).unwrap();
        for seq in 11..11 + count {
            assert!(feed.takes(seq - 1, 1));
            feed.send(7, seq, 1);
        }
        assert!(!feed.takes(10 + count, 1) && !feed.wants_page());
        assert_eq!(feed.full_since, Some(7));
        feed.settle_up_to(11);
        assert!(feed.takes(10 + count, 1) && !feed.wants_page());
        assert_eq!(feed.full_since, None);
        feed.settle_up_to(10 + count);
        assert!(feed.wants_page());
        assert!(feed.takes(0, UNACKNOWLEDGED_BYTES_MAX * 2), "a large one goes alone");
        feed.send(8, 11 + count, UNACKNOWLEDGED_BYTES_MAX);
        assert!(!feed.takes(0, 1));
        feed.settle(11 + count);
        assert!(feed.takes(0, 1));
    }

    #[test]
    fn what_could_not_be_stored_is_sent_again_with_all_behind_it() {
        let mut feed = Feed::default();
        for seq in 1..=5 {
            feed.send(0, seq, 10);
        }
        feed.settle(2);
        feed.rewind(3);
        assert_eq!((feed.sent, feed.bytes), (2, 10));
        feed.settle(1);
        assert_eq!(feed.bytes, 0);
    }
}
