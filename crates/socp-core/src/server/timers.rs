//! What is due when. Timers are never cancelled: what fires looks whether it still applies.

use super::io::{DialId, LinkId};
use super::roster::Audience;
use crate::clock::Mono;
use socp_proto::ServerId;
use std::collections::BTreeSet;

/// Something that happens by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The link must have said hello by now.
    Hello(LinkId),
    /// The peer link wants a heartbeat.
    Heartbeat(LinkId),
    /// The peer link may have been silent for too long.
    Silence(LinkId),
    /// The user link wants a ping.
    Ping(LinkId),
    /// The server may be dialled again.
    Dial(DialId),
    /// Users of this lost server may be forgotten.
    Stale(ServerId),
    /// The public channel's version wants to be told.
    Channel,
    /// Peers want to hear to whom we are linked.
    Report,
    /// The peer at this link has had time to link itself to others.
    Settled(LinkId),
    /// The peer at this link has had time to name all its users.
    Confirmed(LinkId),
    /// What peers said of their links wants to be thought through.
    Decide,
    /// Peers want to hear which changes we could tell them.
    Offers,
    /// Our users want to hear who is out of reach.
    Departing,
    /// Those who take batches want to hear who is there.
    Roster(Audience),
    /// Changes of a peer over its budget may be taken.
    Damped(ServerId),
    /// Authors and peers are waiting to hear what is kept.
    Acks,
    /// The link may be sent again what could not be stored or read before.
    Feed(LinkId),
    /// What was kept for too long may go.
    Expire,
}

/// Timers in the order in which they fall due.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Mono, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Mono, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn take_due(&mut self, now: Mono) -> Option<Timer> {
        if self.next_due()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
