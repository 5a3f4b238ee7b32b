//! What one link is.

use super::challenge::Challenged;
use super::fault::FaultCount;
use super::feed::Feed;
use super::heard::InBatches;
use super::io::{DialId, LinkId, TlsSession};
use super::login::Login;
use super::proof::{Prover, Said};
use crate::clock::Mono;
use socp_proto::limits::FORWARD_SETTLE_MS;
use socp_proto::{Address, DeviceId, KeyText, ServerId, UserId};
use std::collections::BTreeSet;

/// The state of one link.
#[derive(Debug)]
pub(super) enum Link {
    /// Nobody yet.
    New {
        /// The dial that made it, if we did.
        dial: Option<DialId>,
        /// Hellos refused so far.
        tries: u32,
        /// Keys asked for so far.
        asks: u32,
        /// A first frame waits for its answer.
        is_busy: bool,
        /// How far it has come.
        stage: Stage,
        /// Its TLS session, where that ends here.
        tls: Option<TlsSession>,
    },
    /// A peer's.
    Peer(PeerLink),
    /// A user's.
    User(UserLink),
}

/// How far a link without a role has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nobody has introduced anybody.
    Silent,
    /// We have introduced ourselves, and can be asked for a proof.
    Introduced(Said),
    /// The far end has introduced itself and must prove it (PROTOCOL II.2).
    AwaitsProof(Box<Prover>),
    /// A user has said hello and must prove it (PROTOCOL II.2).
    Challenged(Box<Challenged>),
    /// Somebody logs in with a password (PROTOCOL II.9).
    LoggingIn(Box<Login>),
}

/// How much of what goes beyond SOCP v1.3 a link can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A program of others: the letter, and nothing else.
    Stranger,
    /// A program of ours.
    Native,
    /// A program of ours that takes frames signed by a delegated key (PROTOCOL II.3).
    Delegates {
        /// It has heard which key that is.
        has_ours: bool,
    },
}

impl Trust {
    pub(super) fn is_native(self) -> bool {
        self != Self::Stranger
    }

    pub(super) fn delegates(self) -> bool {
        matches!(self, Self::Delegates { .. })
    }
}

/// A link that belongs to a peer.
#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) server: ServerId,
    pub(super) dial: Option<DialId>,
    pub(super) trust: Trust,
    /// Whether the far end has proved on it that it holds the peer's key (PROTOCOL II.2).
    pub(super) has_proved: bool,
    /// Whether our `SERVER_ANNOUNCE` went out on it.
    pub(super) is_announced: bool,
    /// Whether the far end has had our answer to its first frame; nothing else may go out before.
    pub(super) is_answered: bool,
    /// It let us in, and may name the servers once that it did not name before our proof.
    pub(super) may_name_servers: bool,
    pub(super) last_heard: Mono,
    pub(super) faults: FaultCount,
    /// Since when it is the peer's, on the monotonic clock.
    pub(super) linked_at: Mono,
    pub(super) in_batches: InBatches,
    /// How far it has been sent what waits for it, where it keeps what it acknowledges (PROTOCOL II.6).
    pub(super) feed: Option<Feed>,
}

/// Which direct messages go over a user's link.
#[derive(Debug)]
pub(super) enum Reads {
    /// Each as it comes, once: a program that acknowledges nothing.
    ToTheLetter,
    /// None: a program with `ack/1` that only writes.
    Nothing,
    /// The user's mailbox, for this device.
    Mailbox(DeviceId, Feed),
}

impl Reads {
    /// Whether the program gets an answer to each message of its own.
    pub(super) fn acknowledges(&self) -> bool {
        !matches!(self, Self::ToTheLetter)
    }
}

/// A link that belongs to a user.
#[derive(Debug)]
pub(super) struct UserLink {
    pub(super) user: UserId,
    /// Whom they have shown to know, where others are hidden from them.
    pub(super) contacts: BTreeSet<UserId>,
    /// The key of its hello.
    pub(super) key: KeyText,
    /// Whether it has proved that key.
    pub(super) has_proved: bool,
    /// Whether its program takes key histories (PROTOCOL II.13).
    pub(super) takes_histories: bool,
    pub(super) trust: Trust,
    /// Which messages it is sent.
    pub(super) reads: Reads,
    pub(super) pings_unanswered: u32,
    pub(super) faults: FaultCount,
}

impl PeerLink {
    /// Whether this link came so long after another to the same peer that the other is dead at the far end, which may
    /// have begun anew since.
    pub(super) fn takes_the_place_of(&self, other: &Self) -> bool {
        self.linked_at.saturating_sub(other.linked_at) >= FORWARD_SETTLE_MS
    }
}

impl Link {
    pub(super) fn trust(&self) -> Trust {
        match self {
            Self::Peer(peer) => peer.trust,
            Self::User(user) => user.trust,
            Self::New { .. } => Trust::Stranger,
        }
    }

    pub(super) fn is_native(&self) -> bool {
        self.trust().is_native()
    }

    /// The far end has heard which delegated key signs our frames.
    pub(super) fn set_has_our_delegation(&mut self) {
        let trust = match self {
            Self::Peer(peer) => &mut peer.trust,
            Self::User(user) => &mut user.trust,
            Self::New { .. } => return,
        };
        if let Trust::Delegates { has_ours } = trust {
            *has_ours = true;
        }
    }

    /// The `to` of what we send on it.
    pub(super) fn address(&self) -> Address {
        match self {
            Self::Peer(peer) => Address::from(&peer.server),
            Self::User(user) => Address::from(&user.user),
            Self::New { .. } => Address::everyone(),
        }
    }

    /// The server that has introduced itself on it and must prove that.
    pub(super) fn prover(&self) -> Option<&Prover> {
        match self {
            Self::New {
                stage: Stage::AwaitsProof(prover),
                ..
            } => Some(prover),
            Self::New {
                stage: Stage::Silent | Stage::Introduced(_) | Stage::Challenged(_) | Stage::LoggingIn(_),
                ..
            }
            | Self::Peer(_)
            | Self::User(_) => None,
        }
    }

    /// The TLS session of a link without a role, where that ends here.
    pub(super) fn tls(&self) -> Option<TlsSession> {
        match self {
            Self::New { tls, .. } => *tls,
            Self::Peer(_) | Self::User(_) => None,
        }
    }

    pub(super) fn dial(&self) -> Option<DialId> {
        match self {
            Self::New { dial, .. } => *dial,
            Self::Peer(peer) => peer.dial,
            Self::User(_) => None,
        }
    }
}

/// Of two links to one peer, the one to keep: the one that the smaller id dialled, else the newer (PROTOCOL I.4).
pub(super) fn link_to_keep(own: &ServerId, peer: &ServerId, old: (LinkId, bool), new: (LinkId, bool)) -> LinkId {
    let dialled_by_smaller = |we_dialled: bool| we_dialled == (own < peer);
    match (dialled_by_smaller(old.1), dialled_by_smaller(new.1)) {
        (true, false) => old.0,
        (false, true) | (true, true) | (false, false) => new.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_keep_the_same_link() {
        let (a, b) = (ServerId::try_from("a").unwrap(), ServerId::try_from("b").unwrap());
        let (by_a, by_b) = (LinkId(1), LinkId(2));
        // Whichever became known first, at a and at b.
        assert_eq!(link_to_keep(&a, &b, (by_a, true), (by_b, false)), by_a);
        assert_eq!(link_to_keep(&a, &b, (by_b, false), (by_a, true)), by_a);
        assert_eq!(link_to_keep(&b, &a, (by_a, false), (by_b, true)), by_a);
        assert_eq!(link_to_keep(&b, &a, (by_b, true), (by_a, false)), by_a);
    }

    #[test]
    fn of_two_links_dialled_by_one_end_the_newer_stays() {
        let (a, b) = (ServerId::try_from("a").unwrap(), ServerId::try_from("b").unwrap());
        assert_eq!(link_to_keep(&a, &b, (LinkId(1), true), (LinkId(2), true)), LinkId(2));
        assert_eq!(link_to_keep(&a, &b, (LinkId(1), false), (LinkId(2), false)), LinkId(2));
    }
}
