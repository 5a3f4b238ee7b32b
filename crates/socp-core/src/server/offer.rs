//! Offering gossip where both ends of a link might tell each other the same change at once (PROTOCOL I.5).
//!
//! Of two neighbours the one with the smaller id passes a change on unasked. The other says that it has it
//! (`HEARTBEAT {have}`), and sends it when it is asked to (`{want}`). Who has asked does not pass the change on to whom it
//! asked. So no change crosses a link twice, whatever ways it takes and however long they are.

use super::Server;
use super::io::{LinkId, Output};
use super::link::Link;
use super::mutation::Mutation;
use super::timers::Timer;
use crate::clock::{Mono, Now};
use crate::seen::SeenKey;
use socp_proto::limits::{GOSSIP_REFS_COUNT_MAX, OFFER_TTL_MS, OFFER_WAIT_MS, OFFERS_COUNT_MAX};
use socp_proto::payload::Heartbeat;
use socp_proto::{Base64Url, Envelope, Payload, ServerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A change and a peer.
type Pair = (SeenKey, ServerId);

/// What we offered, and what we asked for.
#[derive(Debug, Default)]
pub(super) struct Offers {
    offered: BTreeMap<Pair, Arc<Envelope>>,
    /// Offers that were not told yet.
    fresh: BTreeMap<ServerId, Vec<Base64Url>>,
    asked: BTreeSet<Pair>,
    by_age: VecDeque<(Mono, Pair)>,
}

impl Offers {
    fn remember(&mut self, now: Mono, pair: Pair) {
        while self.by_age.len() >= OFFERS_COUNT_MAX
            || self
                .by_age
                .front()
                .is_some_and(|(then, _)| now.saturating_sub(*then) > OFFER_TTL_MS)
        {
            if let Some((_, pair)) = self.by_age.pop_front() {
                self.offered.remove(&pair);
                self.asked.remove(&pair);
            }
        }
        self.by_age.push_back((now, pair));
    }

    fn is_full(&self) -> bool {
        self.offered.len() >= OFFERS_COUNT_MAX.saturating_sub(1)
    }
}

impl Server {
    /// Whether a change is offered to a peer instead of passed on unasked.
    pub(super) fn must_offer(&self, peer: &ServerId, link: LinkId) -> bool {
        let is_native = self.links.get(&link).is_some_and(Link::is_native);
        is_native && *peer < self.config.server_id && !self.offers.is_full()
    }

    /// Tells a peer soon that we have a change.
    pub(super) fn offer(&mut self, now: Now, key: SeenKey, peer: ServerId, envelope: &Arc<Envelope>) {
        let pair = (key, peer.clone());
        self.offers.remember(now.mono, pair.clone());
        self.offers.offered.insert(pair, Arc::clone(envelope));
        self.offers.fresh.entry(peer).or_default().push(Base64Url::encode(&key));
        let at = now.mono.saturating_add(OFFER_WAIT_MS);
        self.timers.set(at, Timer::Offers);
    }

    pub(super) fn on_offers_due(&mut self, now: Now) {
        for (peer, have) in std::mem::take(&mut self.offers.fresh) {
            for have in have.chunks(GOSSIP_REFS_COUNT_MAX) {
                let heartbeat = Heartbeat {
                    have: have.to_vec(),
                    ..Heartbeat::default()
                };
                self.send_to_peer(now, &peer, heartbeat);
            }
        }
    }

    fn send_to_peer(&mut self, now: Now, peer: &ServerId, heartbeat: Heartbeat) {
        if let Some(link) = self.peers.get(peer).copied() {
            self.send(&[link], now, peer, &Payload::Heartbeat(heartbeat));
        }
    }

    /// A peer could tell us this: we ask for what we have not seen.
    pub(super) fn on_have(&mut self, now: Now, peer: &ServerId, have: Vec<Base64Url>) {
        let mut want = Vec::new();
        for text in have {
            let Ok(key) = SeenKey::try_from(text.decode()) else {
                continue; // Its length was checked when the frame was read.
            };
            if !self.seen.contains(&key) {
                let pair = (key, peer.clone());
                self.offers.remember(now.mono, pair.clone());
                self.offers.asked.insert(pair);
                want.push(text);
            }
        }
        if !want.is_empty() {
            let heartbeat = Heartbeat {
                want,
                ..Heartbeat::default()
            };
            self.send_to_peer(now, peer, heartbeat);
        }
    }

    /// A peer asks for what we offered it.
    pub(super) fn on_want(&mut self, peer: &ServerId, want: &[Base64Url]) {
        let Some(link) = self.peers.get(peer).copied() else {
            return;
        };
        for text in want {
            let Ok(key) = SeenKey::try_from(text.decode()) else {
                continue; // Its length was checked when the frame was read.
            };
            if let Some(envelope) = self.offers.offered.remove(&(key, peer.clone())) {
                let to = vec![link];
                self.outputs.push_back(Output::Forward { to, envelope });
            }
        }
    }

    /// A peer has told us what we were about to tell it.
    pub(super) fn withdraw_offer(&mut self, key: SeenKey, peer: &ServerId) {
        if !self.is_mutated(Mutation::ForwardToOrigin) {
            self.offers.offered.remove(&(key, peer.clone()));
        }
    }

    /// Whether a peer is about to tell us this.
    pub(super) fn is_asked_for(&self, key: SeenKey, peer: &ServerId) -> bool {
        self.offers.asked.contains(&(key, peer.clone())) && !self.is_mutated(Mutation::ForwardToOrigin)
    }
}
