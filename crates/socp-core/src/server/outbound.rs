//! What waits for other servers to have it on their disks (PROTOCOL II.6). What the messages say is on the disk alone.

use super::kept::OutboundRow;
use crate::seen::SeenKey;
use socp_proto::limits::{
    MAILBOX_KEPT_MS, OUTBOX_AUTHOR_COUNT_MAX, OUTBOX_BYTES_MAX, OUTBOX_COUNT_MAX, OUTBOXES_COUNT_MAX,
};
use socp_proto::{ServerId, UserId};
use std::collections::{BTreeMap, HashMap};

/// Everything that waits for servers.
#[derive(Debug)]
pub(super) struct Outbounds {
    by_server: BTreeMap<ServerId, Outbound>,
    count: usize,
    last: u64,
}

/// What waits for one server.
#[derive(Debug, Default)]
struct Outbound {
    rows: BTreeMap<u64, OutboundRow>,
    // Never iterated.
    by_ref: HashMap<String, (u64, Option<SeenKey>)>,
    // Never iterated.
    by_author: HashMap<UserId, usize>,
    bytes: usize,
}

impl Outbounds {
    pub(super) fn new(remembered: Vec<(ServerId, Vec<OutboundRow>)>) -> Self {
        let mut outbounds = Self {
            by_server: BTreeMap::new(),
            count: 0,
            last: 0,
        };
        for (server, rows) in remembered {
            for row in rows {
                outbounds.last = outbounds.last.max(row.seq);
                outbounds.insert(&server, row, None);
            }
        }
        outbounds
    }

    /// The number of what is added next.
    pub(super) fn next(&self) -> u64 {
        self.last.saturating_add(1)
    }

    /// Whether there is room for one more message of this author, of this size.
    pub(super) fn has_room(&self, server: &ServerId, author: &UserId, bytes: usize) -> bool {
        let room = self.by_server.get(server).is_none_or(|outbound| {
            outbound.rows.len() < OUTBOX_COUNT_MAX
                && outbound.bytes.saturating_add(bytes) <= OUTBOX_BYTES_MAX
                && outbound.by_author.get(author).copied().unwrap_or(0) < OUTBOX_AUTHOR_COUNT_MAX
        });
        room && self.count < OUTBOXES_COUNT_MAX
    }

    /// Adds a message; `seen_as`: as what it is remembered as seen.
    pub(super) fn insert(&mut self, server: &ServerId, row: OutboundRow, seen_as: Option<SeenKey>) {
        self.last = self.last.max(row.seq);
        let outbound = self.by_server.entry(server.clone()).or_default();
        outbound.by_ref.insert(row.msg_ref.clone(), (row.seq, seen_as));
        let of_author = outbound.by_author.entry(row.author.clone()).or_default();
        *of_author = of_author.saturating_add(1);
        outbound.bytes = outbound.bytes.saturating_add(row.bytes);
        outbound.rows.insert(row.seq, row);
        self.count = self.count.saturating_add(1);
    }

    /// The last number that waits for a server.
    pub(super) fn last(&self, server: &ServerId) -> u64 {
        let newest = self
            .by_server
            .get(server)
            .and_then(|outbound| outbound.rows.last_key_value());
        newest.map_or(0, |(seq, _)| *seq)
    }

    /// The size of what waits under this number.
    pub(super) fn bytes_of(&self, server: &ServerId, seq: u64) -> Option<usize> {
        Some(self.by_server.get(server)?.rows.get(&seq)?.bytes)
    }

    /// The number of a message.
    pub(super) fn number_of(&self, server: &ServerId, msg_ref: &str) -> Option<u64> {
        let known = self.by_server.get(server)?.by_ref.get(msg_ref);
        known.map(|(seq, _)| *seq)
    }

    /// As what a message is remembered as seen.
    pub(super) fn seen_as(&self, server: &ServerId, seq: u64) -> Option<SeenKey> {
        let outbound = self.by_server.get(server)?;
        let row = outbound.rows.get(&seq)?;
        outbound.by_ref.get(&row.msg_ref)?.1
    }

    pub(super) fn remove(&mut self, server: &ServerId, seq: u64) -> Option<OutboundRow> {
        let outbound = self.by_server.get_mut(server)?;
        let row = outbound.rows.remove(&seq)?;
        if outbound
            .by_ref
            .get(&row.msg_ref)
            .is_some_and(|(known, _)| *known == seq)
        {
            outbound.by_ref.remove(&row.msg_ref);
        }
        if let Some(of_author) = outbound.by_author.get_mut(&row.author) {
            *of_author = of_author.saturating_sub(1);
            if *of_author == 0 {
                outbound.by_author.remove(&row.author);
            }
        }
        outbound.bytes = outbound.bytes.saturating_sub(row.bytes);
        if outbound.rows.is_empty() {
            self.by_server.remove(server);
        }
        self.count = self.count.saturating_sub(1);
        Some(row)
    }

    /// Who wrote what waits under this number.
    pub(super) fn author_of(&self, server: &ServerId, seq: u64) -> Option<&UserId> {
        Some(&self.by_server.get(server)?.rows.get(&seq)?.author)
    }

    /// What is too old: for which server, under which number, and by whom.
    pub(super) fn too_old(&self, now: u64) -> Vec<(ServerId, u64, UserId)> {
        let since = now.saturating_sub(MAILBOX_KEPT_MS);
        let rows = self
            .by_server
            .iter()
            .flat_map(|(server, outbound)| outbound.rows.values().map(move |row| (server, row)));
        let old = rows.filter(|(_, row)| row.at < since);
        old.map(|(server, row)| (server.clone(), row.seq, row.author.clone()))
            .collect()
    }

    /// Takes out everything that waits for a server.
    pub(super) fn take_all(&mut self, server: &ServerId) -> Vec<OutboundRow> {
        let all = self
            .by_server
            .get(server)
            .into_iter()
            .flat_map(|outbound| outbound.rows.keys());
        let all: Vec<u64> = all.copied().collect();
        all.iter().filter_map(|seq| self.remove(server, *seq)).collect()
    }

    /// How many messages wait in all.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerId {
        ServerId::try_from("s").unwrap()
    }

    fn row(seq: u64, author: &str, at: u64) -> OutboundRow {
        OutboundRow {
            seq,
            bytes: 10,
            msg_ref: format!("r{seq}"),
            author: UserId::try_from(author).unwrap(),
            recipient: UserId::try_from("r").unwrap(),
            at,
        }
    }

    #[test]
    fn what_is_answered_is_gone_and_the_room_is_free() {
        let mut outbounds = Outbounds::new(vec![(server(), vec![row(3, "a", 0), row(4, "b", 9)])]);
        assert_eq!(outbounds.next(), 5);
        assert_eq!(outbounds.number_of(&server(), "r4"), Some(4));
        assert_eq!(outbounds.remove(&server(), 3), Some(row(3, "a", 0)));
        assert_eq!(outbounds.remove(&server(), 3), None, "once");
        assert_eq!((outbounds.count(), outbounds.last(&server())), (1, 4));
        assert_eq!(outbounds.too_old(MAILBOX_KEPT_MS + 9), []);
        let b = UserId::try_from("b").unwrap();
        assert_eq!(outbounds.too_old(MAILBOX_KEPT_MS + 10), [(server(), 4, b)]);
        assert_eq!(outbounds.remove(&server(), 4), Some(row(4, "b", 9)));
        assert_eq!(outbounds.count(), 0);
        assert_eq!(outbounds.next(), 5, "no number is used twice");
    }

    #[test]
    fn one_author_has_half_of_the_room() {
        let mut outbounds = Outbounds::new(Vec::new());
        let author = UserId::try_from("a").unwrap();
        for seq in 1..=u64::try_from(OUTBOX_AUTHOR_COUNT_MAX).unwrap() {
            outbounds.insert(&server(), row(seq, "a", 0), None);
        }
        assert!(!outbounds.has_room(&server(), &author, 10));
        assert!(outbounds.has_room(&server(), &UserId::try_from("b").unwrap(), 10));
        assert!(!outbounds.has_room(&server(), &UserId::try_from("b").unwrap(), OUTBOX_BYTES_MAX));
        assert_eq!(outbounds.take_all(&server()).len(), OUTBOX_AUTHOR_COUNT_MAX);
        assert!(outbounds.has_room(&server(), &author, 10));
    }
}
