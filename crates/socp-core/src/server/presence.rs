//! Who is where (SOCP §8.2, PROTOCOL I.5).

use super::Server;
use super::io::{AfterSave, LinkId, Note, Record};
use super::link::Link;
use super::mutation::Mutation;
use super::people::{Ended, Home, Person, Word, advertise_of};
use super::roster::{Audience, Changed};
use super::timers::Timer;
use crate::clock::Now;
use socp_proto::limits::{CLOCK_AHEAD_MAX_MS, CLOCK_BEHIND_MAX_MS, STALE_USER_MAX_MS};
use socp_proto::payload::{UserAdvertise, UserRemove};
use socp_proto::{Address, Payload, ServerId, UserId};

/// How many users of a lost server our users are told of at once, and how often: what two cores can sign beside their
/// other work (our choice).
const DEPARTING_PORTION_COUNT: usize = 32;
const DEPARTING_INTERVAL_MS: u64 = 200;

/// How far `ts` of our gossip may run ahead of our clock; well within what peers allow (our choice).
const GOSSIP_AHEAD_MAX_MS: u64 = CLOCK_AHEAD_MAX_MS / 2;

/// The time of something that we say again. Where our clock was set back, what was said before that must not seem to come
/// from the future: whoever got it would close the link.
pub(super) fn not_ahead(now: Now, ts: u64) -> u64 {
    ts.min(now.unix.saturating_add(GOSSIP_AHEAD_MAX_MS))
}

impl Server {
    /// What we say of a user we know: to peers as the user's home, to our own users with the home's name.
    pub(super) fn advertisement(&self, user: &UserId, for_users: bool) -> Option<UserAdvertise> {
        let person = self.people.get(user)?;
        let server_id = match &person.home {
            Home::Local(_) => self.config.server_id.clone(),
            Home::Remote { server, .. } => server.clone(),
        };
        let server_name = for_users.then(|| self.server_name(&server_id)).flatten();
        Some(UserAdvertise {
            server_name,
            ..advertise_of(user, &server_id, person)
        })
    }

    /// A server's name for people.
    pub(super) fn server_name(&self, server: &ServerId) -> Option<String> {
        if *server == self.config.server_id {
            return self.config.name.clone();
        }
        self.pins.get(server)?.name.clone()
    }

    /// Tells peers and local users that a user whose home is here has come or changed.
    pub(super) fn spread_arrival(&mut self, now: Now, user: &UserId) {
        let ts = self.next_gossip_ts(now);
        self.people.note_said(user, ts);
        let peers = self.peers_to_the_letter();
        if !peers.is_empty()
            && let Some(advertise) = self.advertisement(user, false)
        {
            self.send_at(&peers, ts, Address::everyone(), &Payload::UserAdvertise(advertise));
        }
        self.note_in_roster(now, Audience::Peers, user, ts);
        self.tell_users_of_arrival(now, user);
    }

    /// The peers that are told each change of our users in a frame of its own.
    fn peers_to_the_letter(&self) -> Vec<LinkId> {
        let mut peers = self.answered_peers();
        peers.retain(|link| !self.rosters.peers.has(*link));
        peers
    }

    /// The links to peers that have had our answer to their first frame. The others are told when they get it.
    pub(super) fn answered_peers(&self) -> Vec<LinkId> {
        let links = self.peers.values().copied();
        links.filter(|link| self.is_answered(*link)).collect()
    }

    /// Whether this is a peer's link that has had our answer.
    pub(super) fn is_answered(&self, link: LinkId) -> bool {
        matches!(self.links.get(&link), Some(Link::Peer(peer)) if peer.is_answered)
    }

    pub(super) fn tell_users_of_arrival(&mut self, now: Now, user: &UserId) {
        self.note_in_roster(now, Audience::Users, user, now.unix);
        let links = self.shown_to(self.rosters.users.links_to_the_letter(), user);
        if links.is_empty() {
            return;
        }
        if let Some(advertise) = self.advertisement(user, true) {
            self.send(&links, now, Address::everyone(), &Payload::UserAdvertise(advertise));
        }
    }

    /// Tells peers that a user of ours has left, and when that was said.
    pub(super) fn spread_departure(&mut self, now: Now, user: &UserId) -> u64 {
        let ts = self.next_gossip_ts(now);
        let peers = self.peers_to_the_letter();
        self.send_remove(&peers, ts, user);
        self.note_in_roster(now, Audience::Peers, user, ts);
        ts
    }

    fn send_remove(&mut self, links: &[LinkId], ts: u64, user: &UserId) {
        let remove = UserRemove {
            user_id: user.clone(),
            server_id: self.config.server_id.clone(),
            deletion: self.departing_for_good.get(user).cloned(),
        };
        self.send_at(links, ts, Address::everyone(), &Payload::UserRemove(remove));
    }

    /// Says to the letter what a peer was told in a batch: that a user of ours has left.
    pub(super) fn repeat_departure(&mut self, now: Now, link: LinkId, changed: &Changed) {
        if self.people.get(&changed.user).is_none_or(|person| !person.is_local()) {
            self.send_remove(&[link], not_ahead(now, changed.ts), &changed.user);
        }
    }

    /// The `ts` under which a user of ours is named to a peer that has heard of that user in a batch: the same, unless
    /// that is too long ago to be believed.
    pub(super) fn letter_ts(&mut self, now: Now, user: &UserId) -> u64 {
        let said = self
            .people
            .get(user)
            .and_then(|person| person.word.as_ref())
            .map(Word::ts);
        let earliest = now.unix.saturating_sub(CLOCK_BEHIND_MAX_MS / 2);
        let latest = now.unix.saturating_add(GOSSIP_AHEAD_MAX_MS);
        if let Some(ts) = said.filter(|ts| (earliest..=latest).contains(ts)) {
            return ts;
        }
        let ts = self.next_gossip_ts(now);
        self.people.note_said(user, ts);
        ts
    }

    /// The `ts` of what we say about our users: never the same twice, or the peers' seen caches would take the second
    /// arrival within a millisecond for the first. It falls back to the clock where that was set back.
    pub(super) fn next_gossip_ts(&mut self, now: Now) -> u64 {
        let next = self.last_gossip_ts.saturating_add(1);
        let is_near = next <= now.unix.saturating_add(GOSSIP_AHEAD_MAX_MS);
        let next = if is_near { next } else { 0 };
        self.last_gossip_ts = next.max(now.unix);
        self.last_gossip_ts
    }

    /// One link of a local user is gone.
    pub(super) fn detach_user(&mut self, now: Now, link: LinkId, user: &UserId) {
        let ended = self.people.detach(user, link);
        if self.is_stopping {
            return;
        }
        match ended {
            Ended::Nothing | Ended::StoodBy => return,
            Ended::Moved | Ended::Gone => {}
        }
        self.note(Note::UserDown { user: user.clone() });
        let own = self.config.server_id.clone();
        let ts = self.spread_departure(now, user);
        self.show_end(now, ended, user, &own, ts);
    }

    /// Shows our users what the end of a claim means for them.
    pub(super) fn show_end(&mut self, now: Now, ended: Ended, user: &UserId, server: &ServerId, ts: u64) {
        match ended {
            Ended::Nothing | Ended::StoodBy => {}
            Ended::Moved => self.tell_users_of_arrival(now, user),
            Ended::Gone => {
                self.note_in_roster(now, Audience::Users, user, ts);
                let links = self.shown_to(self.rosters.users.links_to_the_letter(), user);
                let remove = UserRemove {
                    user_id: user.clone(),
                    server_id: server.clone(),
                    deletion: None,
                };
                self.send_at(&links, ts, Address::everyone(), &Payload::UserRemove(remove));
            }
        }
    }

    /// The link to a peer is lost: its users, and those that only it leads to, stay known for a while, but nothing is
    /// sent to them.
    pub(super) fn lose_peer(&mut self, now: Now, server: &ServerId, link: LinkId) {
        self.peers.remove(server);
        let mut lost = self.people.servers_via(link);
        lost.retain(|beyond| !self.peers.contains_key(beyond));
        lost.insert(server.clone());
        for beyond in &lost {
            self.lose_way(now, beyond, link);
        }
        self.on_peer_unlinked(now, server);
        for beyond in &lost {
            self.report_lost_way(now, beyond);
        }
        if self.is_mutated(Mutation::ForgetOutbound) {
            let rows = self.outbounds.take_all(server);
            let seqs = rows.iter().map(|row| row.seq).collect();
            self.save(Record::OutboundGone(seqs), AfterSave::Nothing);
        }
        self.note(Note::PeerDown { server: server.clone() });
    }

    /// A server is out of reach over this link; other ways to it stay.
    pub(super) fn lose_way(&mut self, now: Now, server: &ServerId, link: LinkId) {
        let links = &self.links;
        let is_lost = |via: LinkId| via == link || !links.contains_key(&via);
        let was_idle = self.departing.is_empty();
        for user in self.people.lose_server(server, is_lost, now.mono) {
            match self.people.pass_over(&user) {
                Ended::Moved => self.tell_users_of_arrival(now, &user),
                Ended::Nothing | Ended::StoodBy | Ended::Gone => {
                    self.departing.insert((user, server.clone()));
                }
            }
        }
        let at = now.mono.saturating_add(STALE_USER_MAX_MS);
        self.timers.set(at, Timer::Stale(server.clone()));
        // One timer, however many are lost at once.
        if was_idle && !self.departing.is_empty() {
            self.timers.set(now.mono, Timer::Departing);
        }
    }

    /// Tells our users, in portions, who is out of reach with a lost server.
    pub(super) fn on_departing_due(&mut self, now: Now) {
        for _ in 0..DEPARTING_PORTION_COUNT {
            let Some((user, server)) = self.departing.pop_first() else {
                return;
            };
            // Back already, or at another server.
            if self
                .people
                .get(&user)
                .is_none_or(|person| person.stale_since().is_some())
            {
                self.show_end(now, Ended::Gone, &user, &server, now.unix);
            }
        }
        if !self.departing.is_empty() {
            let at = now.mono.saturating_add(DEPARTING_INTERVAL_MS);
            self.timers.set(at, Timer::Departing);
        }
    }

    /// Forgets the users of a server that stayed away.
    pub(super) fn on_stale(&mut self, now: Now, server: &ServerId) {
        for user in self.people.users_at(server) {
            let since = self.people.at(&user, server).and_then(Person::stale_since);
            if since.is_some_and(|since| now.mono.saturating_sub(since) >= STALE_USER_MAX_MS) {
                // Our users were told when the server was lost.
                self.people.withdraw(&user, server);
            }
        }
    }
}
