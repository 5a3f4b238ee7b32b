//! What arrives is written down, then shown, then acknowledged, never in another order (PROTOCOL II.6).
//!
//! Whatever comes while something is being written, or opened, is written together after that: one transaction and one
//! acknowledgement for many. A number is acknowledged when nothing that came with a lower one on this link is still open.

use super::Output;
use super::held::Known;
use super::io::Message;
use super::outbox::Outbox;
use super::post_io::{Deposit, PostId, PostWork};
use crate::clock::{Mono, Now};
use socp_proto::limits::UNACKNOWLEDGED_COUNT_MAX;
use socp_proto::payload::{Ack, MailboxRequest};
use socp_proto::{Payload, ServerId};
use std::collections::{BTreeMap, BTreeSet};

/// Deposits that are written together although more are being opened (our choice).
const BATCH_COUNT_MAX: usize = 64;
/// Deposits that wait for the disk; what comes beyond them is not acknowledged, and comes again (our choice).
const WAITING_COUNT_MAX: usize = 4 * UNACKNOWLEDGED_COUNT_MAX;
/// How long something waits for others that are being opened (our choice).
const BATCH_WAIT_MS: u64 = 50;
/// How long a disk that refuses is left alone (our choice).
const DISK_WAIT_MS: u64 = 5_000;
/// Messages whose showing is remembered, so that none is shown twice (our choice).
const SHOWN_COUNT_MAX: usize = 4_096;

/// Something to write down, and what is told when that is done.
#[derive(Debug)]
pub(super) struct Item {
    /// Its number in the mailbox.
    pub(super) seq: Option<u64>,
    pub(super) deposit: Deposit,
    /// What is shown of it.
    pub(super) message: Option<Message>,
    /// Which server said it, of an answer.
    pub(super) server: Option<ServerId>,
    /// What was known of its author's keys, of a message that is to be held; nothing where they were in doubt.
    pub(super) known: Option<Known>,
}

impl Item {
    pub(super) fn of(seq: Option<u64>, deposit: Deposit) -> Self {
        Self {
            seq,
            deposit,
            message: None,
            server: None,
            known: None,
        }
    }
}

/// The mailbox as this program reads it.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    request: Option<MailboxRequest>,
    /// Numbers that came on this link and are not written down.
    open: BTreeSet<u64>,
    /// Numbers that are, or are about to be, and are not acknowledged.
    done: BTreeSet<u64>,
    acked: u64,
    waiting: Vec<Item>,
    /// Since when something waits for others.
    waiting_since: Option<Mono>,
    storing: Option<(Vec<Item>, Option<u64>)>,
    retry_at: Option<Mono>,
    is_refused: bool,
    shown: BTreeSet<PostId>,
}

impl Mailbox {
    pub(super) fn new(request: Option<MailboxRequest>) -> Self {
        Self {
            request,
            ..Self::default()
        }
    }

    /// What our hello says.
    pub(super) fn request(&self) -> Option<MailboxRequest> {
        self.request
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let batch = self.waiting_since.map(|since| since.saturating_add(BATCH_WAIT_MS));
        self.retry_at.or(batch)
    }

    /// Whether something is not written down yet.
    pub(super) fn is_busy(&self) -> bool {
        self.storing.is_some() || (!self.waiting.is_empty() && self.retry_at.is_none())
    }

    /// Something with a number has come.
    pub(super) fn begin(&mut self, seq: Option<u64>) {
        if let Some(seq) = seq.filter(|seq| *seq > self.acked) {
            self.open.insert(seq);
        }
    }

    /// It is ready to be written down. False where there is no room for it: what has a number comes again by itself.
    pub(super) fn put(&mut self, item: Item) -> bool {
        let has_room = self.waiting.len() < WAITING_COUNT_MAX;
        if has_room {
            self.waiting.push(item);
        }
        has_room
    }

    /// Writes what waits, unless more is about to come at once.
    pub(super) fn pump(&mut self, now: Now, is_opening: bool, out: &mut Outbox) {
        let is_early = self.retry_at.is_some_and(|at| at > now.mono);
        if self.waiting.is_empty() || self.storing.is_some() || is_early {
            return;
        }
        let since = *self.waiting_since.get_or_insert(now.mono);
        let is_new = now.mono.saturating_sub(since) < BATCH_WAIT_MS;
        if is_opening && is_new && self.waiting.len() < BATCH_COUNT_MAX {
            return;
        }
        self.waiting_since = None;
        self.retry_at = None;
        let items = std::mem::take(&mut self.waiting);
        for seq in items.iter().filter_map(|item| item.seq) {
            if self.open.remove(&seq) {
                self.done.insert(seq);
            }
        }
        let up_to = match self.open.first() {
            Some(first) => self.done.range(..first).next_back(),
            None => self.done.last(),
        };
        let up_to = up_to.copied();
        let deposits = items.iter().map(|item| item.deposit.clone()).collect();
        out.push(Output::Post(PostWork::Store { deposits, up_to }));
        self.storing = Some((items, up_to));
    }

    /// What was being written.
    pub(super) fn take_stored(&mut self) -> Option<(Vec<Item>, Option<u64>)> {
        self.storing.take()
    }

    /// It is on the disk, and everything is told: now it is acknowledged.
    pub(super) fn on_stored(&mut self, now: Now, up_to: Option<u64>, is_online: bool, out: &mut Outbox) {
        if std::mem::take(&mut self.is_refused) {
            let text = "this profile can be written again; what waited is kept and acknowledged now".to_owned();
            out.notice(None, text);
        }
        let Some(up_to) = up_to else { return };
        self.done = self.done.split_off(&up_to.saturating_add(1));
        if let Some(request) = &mut self.request {
            request.after = request.after.max(up_to);
        }
        if up_to <= self.acked || !is_online {
            return;
        }
        self.acked = up_to;
        let ack = Ack {
            msg_ref: Ack::MAILBOX.to_owned(),
            up_to: Some(up_to),
            ..Ack::default()
        };
        out.send(now, &Payload::Ack(ack));
    }

    /// The disk refuses: nothing is lost and nothing acknowledged. Told once.
    pub(super) fn on_not_stored(
        &mut self,
        now: Now,
        (mut items, _): (Vec<Item>, Option<u64>),
        why: &str,
        out: &mut Outbox,
    ) {
        for seq in items.iter().filter_map(|item| item.seq) {
            if self.done.remove(&seq) {
                self.open.insert(seq);
            }
        }
        items.append(&mut self.waiting);
        self.waiting = items;
        self.retry_at = Some(now.mono.saturating_add(DISK_WAIT_MS));
        if !std::mem::replace(&mut self.is_refused, true) {
            let text = format!(
                "what arrives cannot be written to this profile ({why}); it is neither shown nor acknowledged until it can, \
                 and stays at the server. Make room, or look after the disk"
            );
            out.notice(None, text);
        }
    }

    /// Whether this program has not shown it yet; it has from now on.
    pub(super) fn show(&mut self, id: PostId) -> bool {
        if self.shown.len() >= SHOWN_COUNT_MAX {
            self.shown.pop_first();
        }
        self.shown.insert(id)
    }

    /// Numbers are the link's; what waits to be written is not.
    pub(super) fn on_disconnected(&mut self) {
        self.open.clear();
        self.done.clear();
        self.acked = 0;
        let items = self.waiting.iter_mut();
        let storing = self.storing.iter_mut().flat_map(|(items, _)| items);
        for item in items.chain(storing) {
            item.seq = None;
        }
    }
}

/// How often each of a few may do something.
#[derive(Debug)]
pub(super) struct Turns<K> {
    turns: BTreeMap<K, (Mono, u32)>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        let turns = BTreeMap::new();
        Self { turns }
    }
}

impl<K: Ord> Turns<K> {
    /// Whether it may now: so often in so many milliseconds. Of more than so many at once, the others wait.
    pub(super) fn take(&mut self, now: Mono, who: K, (times, period_ms, count_max): (u32, u64, usize)) -> bool {
        self.turns
            .retain(|_, (since, _)| now.saturating_sub(*since) < period_ms);
        if self.turns.len() >= count_max && !self.turns.contains_key(&who) {
            return false;
        }
        let (_, taken) = self.turns.entry(who).or_insert((now, 0));
        *taken = taken.saturating_add(1);
        *taken <= times
    }
}
