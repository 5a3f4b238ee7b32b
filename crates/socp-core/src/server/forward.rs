//! Passing gossip on to servers that its origin has no link to (SOCP §8.2, PROTOCOL I.5).
//!
//! In a full mesh every server hears every other itself, and nothing is passed on. Who is linked to whom is told by the
//! heartbeats of our own kind. Where two servers are not linked, the one with the smallest id of those who are linked to
//! both passes on what they say of their users: first everything, then each change. Where that is not known, everyone
//! does, and what comes twice is dropped as seen.
//!
//! Two neighbours who do not know better could tell each other the same change at once: see `offer`.

use super::Server;
use super::io::{LinkId, Output};
use super::link::Link;
use super::mutation::Mutation;
use super::people::{Home, Person};
use super::quota::Bucket;
use super::timers::Timer;
use crate::clock::{Mono, Now};
use socp_proto::limits::{
    CONFIRM_WAIT_MS, FORWARD_SETTLE_MS, LINKS_CHECKS_BURST_MAX, LINKS_CHECKS_PER_S_MAX, LINKS_DECIDE_WAIT_MS,
    RETELL_INTERVAL_MS, SERVERS_COUNT_MAX, UNLINKED_TELL_WAIT_MS,
};
use socp_proto::payload::Heartbeat;
use socp_proto::{Envelope, Payload, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Users whose gossip is passed on at once before the link's fence is waited for.
const PORTION_COUNT: usize = 32;

/// What this server knows of the links of others, and what it passes on.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// What linked peers say that they are linked to.
    neighbours: BTreeMap<ServerId, BTreeSet<ServerId>>,
    /// Servers of whose users a linked peer hears by us.
    told: BTreeMap<ServerId, BTreeSet<ServerId>>,
    /// Users whom a peer is still to hear of, by link.
    telling: BTreeMap<LinkId, BTreeSet<(UserId, ServerId)>>,
    /// Peers whose links were lost so recently that they still count as linked.
    lost: BTreeMap<ServerId, Mono>,
    /// The servers without a link to them that linked peers say they reach.
    beyond: BTreeMap<ServerId, BTreeSet<ServerId>>,
    /// How often it may be compared with what a peer reaches what we know by it.
    checks: BTreeMap<ServerId, Bucket>,
    /// When a peer was last told all that it may have missed.
    retold_at: BTreeMap<ServerId, Mono>,
    /// The peers that hear by us what an origin says, as long as no link changes.
    hearers: BTreeMap<ServerId, Vec<(ServerId, LinkId)>>,
    /// Peers that have spoken of their links lately.
    undecided: BTreeSet<ServerId>,
    /// Whether our own links have changed since they were told.
    is_report_due: bool,
}

impl Forwarding {
    /// Whether two servers are linked, as far as we know.
    fn are_linked(&self, one: &ServerId, other: &ServerId) -> bool {
        let says = |a: &ServerId, b: &ServerId| self.neighbours.get(a).is_some_and(|peers| peers.contains(b));
        says(one, other) || says(other, one)
    }

    /// Nothing more goes out on this link.
    pub(super) fn forget(&mut self, link: LinkId) {
        self.telling.remove(&link);
    }

    /// The servers that say that they are linked to both; nothing if one of the two says nothing.
    fn between<'a>(&'a self, one: &ServerId, other: &ServerId) -> Option<impl Iterator<Item = &'a ServerId>> {
        let (one, other) = (self.neighbours.get(one)?, self.neighbours.get(other)?);
        Some(one.intersection(other))
    }
}

impl Server {
    /// A link to a peer is new, and it has had our answer.
    pub(super) fn on_peer_linked(&mut self, now: Now, link: LinkId, server: &ServerId) {
        self.forget_hearers();
        self.forwarding.lost.remove(server);
        self.report_links_later(now, FORWARD_SETTLE_MS / 3);
        let at = now.mono.saturating_add(FORWARD_SETTLE_MS);
        self.timers.set(at, Timer::Settled(link));
        let at = now.mono.saturating_add(CONFIRM_WAIT_MS);
        self.timers.set(at, Timer::Confirmed(link));
    }

    /// Of two links to a peer one is given up: what was still to be told goes over the other.
    pub(super) fn move_telling(&mut self, dropped: LinkId, kept: LinkId) {
        if let Some(users) = self.forwarding.telling.remove(&dropped) {
            let is_under_way = self.forwarding.telling.contains_key(&kept);
            self.forwarding.telling.entry(kept).or_default().extend(users);
            if !is_under_way {
                self.tell_beyond(kept);
            }
        }
    }

    /// The link to a peer is lost.
    pub(super) fn on_peer_unlinked(&mut self, now: Now, server: &ServerId) {
        self.forget_hearers();
        self.forwarding.neighbours.remove(server);
        self.forwarding.beyond.remove(server);
        self.forwarding.told.remove(server);
        self.offers.forget(server);
        self.forwarding.lost.insert(server.clone(), now.mono);
        self.report_links_later(now, UNLINKED_TELL_WAIT_MS);
        self.report_lost_way(now, server);
    }

    /// Whoever hears of a server's users by us hears at once that we cannot know of them any more: while the link is
    /// away some may leave, and when it is back its end names only those who are there.
    pub(super) fn report_lost_way(&mut self, now: Now, server: &ServerId) {
        let mut was_told = false;
        for told in self.forwarding.told.values_mut() {
            was_told |= told.remove(server);
        }
        if was_told {
            self.forwarding.lost.remove(server);
            self.forwarding.is_report_due = true;
            self.on_report_due(now);
        }
    }

    fn report_links_later(&mut self, now: Now, wait_ms: u64) {
        self.timers.set(now.mono.saturating_add(wait_ms), Timer::Report);
        self.forwarding.is_report_due = true;
    }

    /// Peers hear to whom we are linked. A link that was lost a moment ago counts: it may be back in another.
    pub(super) fn on_report_due(&mut self, now: Now) {
        if !std::mem::take(&mut self.forwarding.is_report_due) {
            return;
        }
        self.forwarding
            .lost
            .retain(|_, since| now.mono.saturating_sub(*since) < UNLINKED_TELL_WAIT_MS);
        if !self.forwarding.lost.is_empty() {
            self.report_links_later(now, UNLINKED_TELL_WAIT_MS);
        }
        for link in self.answered_peers() {
            if self.links.get(&link).is_some_and(Link::is_native) {
                self.send_heartbeat(now, link);
            }
        }
    }

    /// The heartbeat that a peer gets: to our own kind, with our links.
    pub(super) fn send_heartbeat(&mut self, now: Now, link: LinkId) {
        let Some(Link::Peer(peer)) = self.links.get(&link) else {
            return;
        };
        let address = peer.server.clone();
        let mut heartbeat = Heartbeat::default();
        if peer.trust.is_native() && peer.is_answered {
            let lost = self.forwarding.lost.keys();
            let linked: BTreeSet<ServerId> = self.peers.keys().chain(lost).cloned().collect();
            heartbeat.peers = Some(linked.into_iter().collect());
            heartbeat.beyond = self.servers_beyond(|via| via != link);
        }
        self.send(&[link], now, &address, &Payload::Heartbeat(heartbeat));
    }

    /// Servers without a link whose users are reached over links like these.
    fn servers_beyond(&self, is_meant: impl Fn(LinkId) -> bool) -> Vec<ServerId> {
        let not_linked = self.people.servers().filter(|server| !self.peers.contains_key(*server));
        let is_reached = |server: &&ServerId| self.people.is_reached(server, &is_meant);
        not_linked.filter(is_reached).cloned().collect()
    }

    /// A peer says to whom it is linked, and whom it reaches beyond. It is thought through a little later, once however
    /// often the peer says so, or it could keep us busy.
    pub(super) fn on_links_told(&mut self, now: Now, server: &ServerId, peers: Vec<ServerId>, beyond: Vec<ServerId>) {
        let told: BTreeSet<ServerId> = peers.into_iter().take(SERVERS_COUNT_MAX).collect();
        let beyond: BTreeSet<ServerId> = beyond.into_iter().take(SERVERS_COUNT_MAX).collect();
        let before = self.forwarding.neighbours.get(server);
        let is_same = before == Some(&told) && self.forwarding.beyond.get(server) == Some(&beyond);
        // Through a link that it lost it may have heard of users of whom it does not hear now.
        let has_lost = before.is_some_and(|before| !before.is_subset(&told));
        let retold_at = self.forwarding.retold_at.get(server);
        let may_retell = retold_at.is_none_or(|then| now.mono.saturating_sub(*then) >= RETELL_INTERVAL_MS);
        if has_lost && may_retell {
            self.forwarding.told.remove(server);
            self.forwarding.retold_at.insert(server.clone(), now.mono);
        }
        self.forwarding.neighbours.insert(server.clone(), told);
        self.forwarding.beyond.insert(server.clone(), beyond);
        // At once, since what it says of others later is not in this report; but not each time it says so.
        let checks = self.forwarding.checks.entry(server.clone());
        let checks = checks.or_insert_with(|| Bucket::new(now.mono, LINKS_CHECKS_PER_S_MAX, LINKS_CHECKS_BURST_MAX));
        if checks.try_take(now.mono) {
            self.check_reach(now, server);
        }
        if is_same {
            return;
        }
        self.forget_hearers();
        let was_idle = self.forwarding.undecided.is_empty();
        self.forwarding.undecided.insert(server.clone());
        if was_idle {
            let at = now.mono.saturating_add(LINKS_DECIDE_WAIT_MS);
            self.timers.set(at, Timer::Decide);
        }
    }

    /// Thinks through what peers have said of their links.
    pub(super) fn on_decide_due(&mut self, now: Now) {
        for server in std::mem::take(&mut self.forwarding.undecided) {
            for origin in self.pins.keys().cloned().collect::<Vec<_>>() {
                self.decide(now, &server, &origin);
            }
            for peer in self.peers.keys().cloned().collect::<Vec<_>>() {
                self.decide(now, &peer, &server);
            }
        }
    }

    /// What we know of others by a peer alone is out of reach, if the peer does not say that it reaches them.
    fn check_reach(&mut self, now: Now, peer: &ServerId) {
        let Some(link) = self.peers.get(peer).copied() else {
            return;
        };
        let mut is_changed = false;
        for server in self.servers_beyond(|via| via == link) {
            if !self.reaches(peer, &server) {
                is_changed = true;
                self.lose_way(now, &server, link);
                self.report_lost_way(now, &server);
            }
        }
        if is_changed {
            self.report_links_later(now, FORWARD_SETTLE_MS / 3);
        }
    }

    /// Whether a peer says that it reaches a server.
    pub(super) fn reaches(&self, peer: &ServerId, server: &ServerId) -> bool {
        let says =
            |told: &BTreeMap<ServerId, BTreeSet<ServerId>>| told.get(peer).is_some_and(|all| all.contains(server));
        says(&self.forwarding.neighbours) || says(&self.forwarding.beyond)
    }

    /// A direct link has had time to tell of everyone there: whom it did not name has left meanwhile.
    pub(super) fn on_confirmed(&mut self, now: Now, link: LinkId) {
        let Some(Link::Peer(peer)) = self.links.get(&link) else {
            return;
        };
        let server = peer.server.clone();
        // Whoever tells of all its users in batches says which was the last.
        if self.peers.get(&server) != Some(&link) || peer.in_batches.is_listing() {
            return;
        }
        for user in self.people.users_at(&server) {
            let is_unnamed = |person: &Person| person.via() != Some(link) && person.stale_since().is_none();
            if self.people.at(&user, &server).is_some_and(is_unnamed) {
                let ended = self.people.withdraw(&user, &server);
                self.show_end(now, ended, &user, &server, now.unix);
            }
        }
    }

    /// A link is old enough that its end has linked itself to whomever it can.
    pub(super) fn on_settled(&mut self, now: Now, link: LinkId) {
        self.forget_hearers();
        let Some(Link::Peer(peer)) = self.links.get(&link) else {
            return;
        };
        let server = peer.server.clone();
        for origin in self.pins.keys().cloned().collect::<Vec<_>>() {
            self.decide(now, &server, &origin);
        }
    }

    /// Begins or ends passing on to a peer what an origin says.
    fn decide(&mut self, now: Now, peer: &ServerId, origin: &ServerId) {
        let Some(link) = self.peers.get(peer).copied() else {
            return;
        };
        if !self.is_forwarded(now, link, peer, origin) {
            if let Some(told) = self.forwarding.told.get_mut(peer) {
                told.remove(origin);
            }
            return;
        }
        self.want_letters(now, origin);
        let told = self.forwarding.told.entry(peer.clone()).or_default();
        if told.insert(origin.clone()) {
            self.tell_all_of(link, origin);
        }
    }

    /// Tells a peer of all users of an origin, in portions.
    fn tell_all_of(&mut self, link: LinkId, origin: &ServerId) {
        // Whom the origin has told us of in a batch it will name again, so that it can be passed on.
        let mut users = self.people.users_at(origin);
        users.retain(|user| self.people.is_passable(user, origin));
        let users = users.into_iter().map(|user| (user, origin.clone()));
        // Where a portion is under way, the next one waits for its fence.
        let is_under_way = self.forwarding.telling.contains_key(&link);
        self.forwarding.telling.entry(link).or_default().extend(users);
        if !is_under_way {
            self.tell_beyond(link);
        }
    }

    /// Whether this peer hears by us what an origin says.
    fn is_forwarded(&self, now: Now, link: LinkId, peer: &ServerId, origin: &ServerId) -> bool {
        if self.is_mutated(Mutation::ForwardToOrigin) {
            return true;
        }
        let Some(Link::Peer(state)) = self.links.get(&link) else {
            return false;
        };
        let is_settled = now.mono.saturating_sub(state.linked_at) >= FORWARD_SETTLE_MS;
        if peer == origin || !state.is_answered || !is_settled || self.forwarding.are_linked(peer, origin) {
            return false;
        }
        // Of several in the middle, the one with the smallest id.
        match self.forwarding.between(peer, origin) {
            Some(mut middle) => !middle.any(|other| *other < self.config.server_id),
            None => true,
        }
    }

    /// The links over which what came from an origin on a link goes on.
    pub(super) fn links_to_tell(&mut self, now: Now, origin: &ServerId, came_on: LinkId) -> Vec<(ServerId, LinkId)> {
        if !self.forwarding.hearers.contains_key(origin) {
            let peers = self.peers.iter();
            let hearers = peers.filter(|(peer, link)| self.is_forwarded(now, **link, peer, origin));
            let hearers = hearers.map(|(peer, link)| (peer.clone(), *link)).collect();
            self.forwarding.hearers.insert(origin.clone(), hearers);
        }
        let may_go_back = self.is_mutated(Mutation::ForwardToOrigin);
        let hearers = self.forwarding.hearers.get(origin).into_iter().flatten();
        let others = hearers.filter(|(_, link)| *link != came_on || may_go_back);
        others.cloned().collect()
    }

    /// Links have changed, or what is known of those of others.
    pub(super) fn forget_hearers(&mut self) {
        self.forwarding.hearers.clear();
    }

    /// Passes a change on unchanged, never back to where it came from or to its origin. `is_again`: it was known before;
    /// whoever has seen it before would not ask for it.
    pub(super) fn forward_gossip(
        &mut self,
        now: Now,
        came_on: LinkId,
        (user, origin): (&UserId, &ServerId),
        envelope: Envelope,
        is_again: bool,
    ) {
        let key = crate::seen::frame_key(&envelope);
        let mut at_once = Vec::new();
        let envelope = Arc::new(envelope);
        for (peer, link) in self.links_to_tell(now, origin, came_on) {
            let told = self.forwarding.told.entry(peer.clone()).or_default();
            if told.insert(origin.clone()) && self.people.count_behind(origin) > 1 {
                // It hears everything, the newest change too.
                self.tell_all_of(link, origin);
                continue;
            }
            if let Some(waiting) = self.forwarding.telling.get_mut(&link) {
                waiting.remove(&(user.clone(), origin.clone())); // This is newer.
            }
            if self.is_asked_for(key, &peer) {
                continue; // It told us that it has it.
            }
            let is_sole = self.forwarding.between(&peer, origin).is_some();
            if is_again || is_sole || !self.offer(now, key, &peer, link, &envelope) {
                at_once.push(link);
            }
        }
        if !at_once.is_empty() {
            self.outputs.push_back(Output::Forward { to: at_once, envelope });
        }
    }

    /// The next portion of users beyond us for this link.
    pub(super) fn tell_beyond(&mut self, link: LinkId) {
        let Some(queue) = self.forwarding.telling.get_mut(&link) else {
            return;
        };
        let portion: Vec<(UserId, ServerId)> = std::iter::from_fn(|| queue.pop_first()).take(PORTION_COUNT).collect();
        if portion.is_empty() {
            self.forwarding.telling.remove(&link);
            return;
        }
        for (user, origin) in portion {
            let is_elsewhere = |person: &Person| match person.home {
                Home::Remote { via, stale_since, .. } => via != link && stale_since.is_none(),
                Home::Local(_) => false,
            };
            let is_wanted = self.people.at(&user, &origin).is_some_and(is_elsewhere);
            let word = is_wanted.then(|| self.people.word_about(&user, &origin)).flatten();
            if let Some(envelope) = word {
                let envelope = Arc::new(envelope);
                let to = vec![link];
                self.outputs.push_back(Output::Forward { to, envelope });
            }
        }
        self.outputs.push_back(Output::Fence { link });
    }
}
