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
use socp_proto::limits::{GOSSIP_REFS_COUNT_MAX, OFFER_TTL_MS, OFFER_WAIT_MS, OFFERS_PER_PEER_COUNT_MAX};
use socp_proto::payload::Heartbeat;
use socp_proto::{Base64Url, Envelope, Payload, ServerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What we offered to each linked peer, and what we asked it for. Each has its own, so that none crowds out another's.
#[derive(Debug, Default)]
pub(super) struct Offers(BTreeMap<ServerId, PeerOffers>);

/// Those of one peer.
#[derive(Debug, Default)]
struct PeerOffers {
    offered: BTreeMap<SeenKey, Arc<Envelope>>,
    asked: BTreeSet<SeenKey>,
    /// Both, the oldest first.
    by_age: VecDeque<(Mono, SeenKey)>,
    /// What the peer is to hear with the next heartbeat of this kind.
    have: Vec<Base64Url>,
    want: Vec<Base64Url>,
}

impl PeerOffers {
    /// Makes room for one more; false where there is none.
    fn remember(&mut self, now: Mono, key: SeenKey) -> bool {
        let is_over = |then: &Mono| now.saturating_sub(*then) > OFFER_TTL_MS;
        while self.by_age.front().is_some_and(|(then, _)| is_over(then)) {
            if let Some((_, key)) = self.by_age.pop_front() {
                self.offered.remove(&key);
                self.asked.remove(&key);
            }
        }
        if self.by_age.len() >= OFFERS_PER_PEER_COUNT_MAX {
            return false;
        }
        self.by_age.push_back((now, key));
        true
    }
}

impl Offers {
    /// The peer is not linked any more; a new link begins with everything.
    pub(super) fn forget(&mut self, peer: &ServerId) {
        self.0.remove(peer);
    }
}

impl Server {
    /// Offers a change to a peer where that is due; false if it must be passed on unasked.
    pub(super) fn offer(
        &mut self,
        now: Now,
        key: SeenKey,
        peer: &ServerId,
        link: LinkId,
        envelope: &Arc<Envelope>,
    ) -> bool {
        let is_native = self.links.get(&link).is_some_and(Link::is_native);
        if !is_native || *peer > self.config.server_id {
            return false;
        }
        let offers = self.offers.0.entry(peer.clone()).or_default();
        if !offers.remember(now.mono, key) {
            return false;
        }
        offers.offered.insert(key, Arc::clone(envelope));
        offers.have.push(Base64Url::encode(&key));
        self.timers.set(now.mono.saturating_add(OFFER_WAIT_MS), Timer::Offers);
        true
    }

    /// Tells each peer what we have for it and what we want of it: once in a while, whatever it says meanwhile.
    pub(super) fn on_offers_due(&mut self, now: Now) {
        let mut due = Vec::new();
        for (peer, offers) in &mut self.offers.0 {
            let have = take_some(&mut offers.have);
            let want = take_some(&mut offers.want);
            if !have.is_empty() || !want.is_empty() {
                due.push((peer.clone(), have, want));
            }
        }
        if due.is_empty() {
            return;
        }
        for (peer, have, want) in due {
            if let Some(link) = self.peers.get(&peer).copied() {
                let heartbeat = Heartbeat {
                    have,
                    want,
                    ..Heartbeat::default()
                };
                self.send(&[link], now, &peer, &Payload::Heartbeat(heartbeat));
            }
        }
        // There may be more than fits into one frame.
        self.timers.set(now.mono.saturating_add(OFFER_WAIT_MS), Timer::Offers);
    }

    /// A peer could tell us this: we ask for what we have not seen.
    pub(super) fn on_have(&mut self, now: Now, peer: &ServerId, have: Vec<Base64Url>) {
        for text in have {
            let Ok(key) = SeenKey::try_from(text.decode()) else {
                continue; // Its length was checked when the frame was read.
            };
            if self.seen.contains(&key) {
                continue;
            }
            let offers = self.offers.0.entry(peer.clone()).or_default();
            // What we cannot remember to have asked for comes by another way, or with the next link.
            if !offers.asked.contains(&key) && offers.remember(now.mono, key) {
                offers.asked.insert(key);
                offers.want.push(text);
                self.timers.set(now.mono.saturating_add(OFFER_WAIT_MS), Timer::Offers);
            }
        }
    }

    /// A peer asks for what we offered it.
    pub(super) fn on_want(&mut self, peer: &ServerId, want: &[Base64Url]) {
        let (Some(link), Some(offers)) = (self.peers.get(peer).copied(), self.offers.0.get_mut(peer)) else {
            return;
        };
        for text in want {
            let Ok(key) = SeenKey::try_from(text.decode()) else {
                continue; // Its length was checked when the frame was read.
            };
            if let Some(envelope) = offers.offered.remove(&key) {
                let to = vec![link];
                self.outputs.push_back(Output::Forward { to, envelope });
            }
        }
    }

    /// A peer has told us what we were about to tell it.
    pub(super) fn withdraw_offer(&mut self, key: SeenKey, peer: &ServerId) {
        if self.is_mutated(Mutation::ForwardToOrigin) {
            return;
        }
        if let Some(offers) = self.offers.0.get_mut(peer) {
            offers.offered.remove(&key);
        }
    }

    /// A peer has told us this, though we do not take it from there: it need not hear it from us.
    pub(super) fn remember_told(&mut self, now: Now, key: SeenKey, peer: &ServerId) {
        let offers = self.offers.0.entry(peer.clone()).or_default();
        if offers.remember(now.mono, key) {
            offers.asked.insert(key);
        }
    }

    /// Whether a peer is about to tell us this, or has.
    pub(super) fn is_asked_for(&self, key: SeenKey, peer: &ServerId) -> bool {
        let offers = self.offers.0.get(peer);
        offers.is_some_and(|offers| offers.asked.contains(&key)) && !self.is_mutated(Mutation::ForwardToOrigin)
    }
}

/// As many as fit into one frame.
fn take_some(all: &mut Vec<Base64Url>) -> Vec<Base64Url> {
    all.drain(..all.len().min(GOSSIP_REFS_COUNT_MAX)).collect()
}
