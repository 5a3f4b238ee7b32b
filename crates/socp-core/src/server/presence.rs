//! Who is where (SOCP §8.2, PROTOCOL I.5).

use super::io::{Config, LinkId, Note, ServerPin};
use super::link::Link;
use super::timers::Timer;
use super::{Fault, Server};
use crate::clock::{Mono, Now};
use crate::seen::frame_key;
use crate::server::io::Output;
use socp_proto::limits::{CLOCK_AHEAD_MAX_MS, PEER_USERS_COUNT_MAX, STALE_USER_MAX_MS, WELCOME_CLIENTS_COUNT_MAX};
use socp_proto::payload::{UserAdvertise, UserRemove, WelcomeClient};
use socp_proto::{Address, Base64Url, Envelope, KeyText, Meta, Payload, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How far `ts` of our gossip may run ahead of our clock; well within what peers allow (our choice).
const GOSSIP_AHEAD_MAX_MS: u64 = CLOCK_AHEAD_MAX_MS / 2;

/// Everyone we know to be online, or to have been a moment ago.
#[derive(Debug, Default)]
pub(super) struct People {
    known: BTreeMap<UserId, Person>,
    /// Remote users by their server.
    behind: BTreeMap<ServerId, BTreeSet<UserId>>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) home: Home,
    pub(super) meta: Meta,
    pub(super) pubkey: Option<KeyText>,
    pub(super) enc_pubkey: Option<KeyText>,
    pub(super) version: Option<u64>,
    pub(super) directory_sig: Option<Base64Url>,
}

/// Where a user is attached.
#[derive(Debug, Clone)]
pub(super) enum Home {
    /// Here, by these links; never empty.
    Local(BTreeSet<LinkId>),
    /// At another server.
    Remote {
        /// Which.
        server: ServerId,
        /// The link on which its gossip came.
        via: LinkId,
        /// Since when that server is lost.
        stale_since: Option<Mono>,
    },
}

impl Person {
    /// Whether the home is here.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.home, Home::Local(_))
    }

    /// Whether a message has a chance to arrive.
    pub(super) fn is_online(&self) -> bool {
        matches!(self.home, Home::Local(_) | Home::Remote { stale_since: None, .. })
    }
}

impl People {
    pub(super) fn get(&self, user: &UserId) -> Option<&Person> {
        self.known.get(user)
    }

    /// Those online behind `after`, in order.
    pub(super) fn online_after<'a>(
        &'a self,
        after: Option<&'a UserId>,
    ) -> impl Iterator<Item = (&'a UserId, &'a Person)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.known
            .range::<UserId, _>((from, std::ops::Bound::Unbounded))
            .filter(|(_, person)| person.is_online())
    }

    /// Everyone, in order.
    pub(super) fn everyone(&self) -> impl Iterator<Item = (&UserId, &Person)> {
        self.known.iter()
    }

    pub(super) fn local_users(&self) -> Vec<UserId> {
        let is_local = |person: &Person| matches!(person.home, Home::Local(_));
        self.known
            .iter()
            .filter(|(_, person)| is_local(person))
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// Every link of every local user.
    fn local_links(&self) -> Vec<LinkId> {
        let links = self.known.values().filter_map(|person| match &person.home {
            Home::Local(links) => Some(links),
            Home::Remote { .. } => None,
        });
        links.flatten().copied().collect()
    }

    pub(super) fn insert(&mut self, user: UserId, person: Person) {
        self.forget(&user);
        if let Home::Remote { server, .. } = &person.home {
            self.behind.entry(server.clone()).or_default().insert(user.clone());
        }
        self.known.insert(user, person);
    }

    fn forget(&mut self, user: &UserId) {
        let Some(Person {
            home: Home::Remote { server, .. },
            ..
        }) = self.known.remove(user)
        else {
            return;
        };
        if let Some(users) = self.behind.get_mut(&server) {
            users.remove(user);
        }
    }

    fn count_behind(&self, server: &ServerId) -> usize {
        self.behind.get(server).map_or(0, BTreeSet::len)
    }

    /// The peer's gossip comes on another link from now on, its own and what it passes on.
    pub(super) fn move_link(&mut self, server: &ServerId, dropped: LinkId, kept: LinkId) {
        self.each_behind(server, |via, _| *via = kept);
        for person in self.known.values_mut() {
            if let Home::Remote { via, .. } = &mut person.home
                && *via == dropped
            {
                *via = kept;
            }
        }
    }

    /// Servers of users that are reached over this link.
    fn servers_via(&self, link: LinkId) -> BTreeSet<ServerId> {
        let server = |person: &Person| match &person.home {
            Home::Remote { server, via, .. } if *via == link => Some(server.clone()),
            Home::Remote { .. } | Home::Local(_) => None,
        };
        self.known.values().filter_map(server).collect()
    }

    fn each_behind(&mut self, server: &ServerId, mut change: impl FnMut(&mut LinkId, &mut Option<Mono>)) {
        for user in self.behind.get(server).into_iter().flatten() {
            if let Some(Person {
                home: Home::Remote { via, stale_since, .. },
                ..
            }) = self.known.get_mut(user)
            {
                change(via, stale_since);
            }
        }
    }

    /// Adds a link to a local user, who is created or moved here as needed; whether the user was not here before.
    pub(super) fn attach(&mut self, user: &UserId, link: LinkId, person: Person) -> bool {
        let mut links = match self.known.get(user).map(|person| &person.home) {
            Some(Home::Local(links)) => links.clone(),
            Some(Home::Remote { .. }) | None => BTreeSet::new(),
        };
        let is_new = links.is_empty();
        links.insert(link);
        self.insert(
            user.clone(),
            Person {
                home: Home::Local(links),
                ..person
            },
        );
        is_new
    }

    /// Takes a link from a local user; whether it was the last.
    fn detach(&mut self, user: &UserId, link: LinkId) -> bool {
        let Some(Person {
            home: Home::Local(links),
            ..
        }) = self.known.get_mut(user)
        else {
            return false;
        };
        links.remove(&link);
        let is_last = links.is_empty();
        if is_last {
            self.known.remove(user);
        }
        is_last
    }

    /// The users that a welcome lists.
    pub(super) fn welcome_clients(&self, config: &Config, pins: &BTreeMap<ServerId, ServerPin>) -> Vec<WelcomeClient> {
        let client = |(user, person): (&UserId, &Person)| {
            let (server, host, port) = match &person.home {
                Home::Local(_) => (config.server_id.clone(), Some(config.host.clone()), Some(config.port)),
                Home::Remote { server, .. } => {
                    let pin = pins.get(server);
                    (server.clone(), pin.map(|pin| pin.host.clone()), pin.map(|pin| pin.port))
                }
            };
            let (user_id, pubkey) = (user.clone(), person.pubkey.clone());
            WelcomeClient {
                user_id,
                host,
                port,
                pubkey,
                server_id: Some(server),
            }
        };
        self.online_after(None)
            .take(WELCOME_CLIENTS_COUNT_MAX)
            .map(client)
            .collect()
    }
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
            user_id: user.clone(),
            server_id,
            meta: person.meta.clone(),
            pubkey: person.pubkey.clone(),
            // Absent means the same, which saves a kilobyte.
            enc_pubkey: person
                .enc_pubkey
                .clone()
                .filter(|enc| Some(enc) != person.pubkey.as_ref()),
            caps: None,
            version: person.version,
            directory_sig: person.directory_sig.clone(),
            server_name,
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
        let peers = self.answered_peers();
        let ts = self.next_gossip_ts(now);
        if let Some(advertise) = self.advertisement(user, false) {
            self.send_at(&peers, ts, Address::everyone(), &Payload::UserAdvertise(advertise));
        }
        self.tell_users_of_arrival(now, user);
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

    fn tell_users_of_arrival(&mut self, now: Now, user: &UserId) {
        let links = self.people.local_links();
        if let Some(advertise) = self.advertisement(user, true) {
            self.send(&links, now, Address::everyone(), &Payload::UserAdvertise(advertise));
        }
    }

    pub(super) fn send_remove(&mut self, now: Now, links: &[LinkId], user: &UserId) {
        let server_id = self.config.server_id.clone();
        let remove = UserRemove {
            user_id: user.clone(),
            server_id,
        };
        let ts = self.next_gossip_ts(now);
        self.send_at(links, ts, Address::everyone(), &Payload::UserRemove(remove));
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
        if !self.people.detach(user, link) || self.is_stopping {
            return;
        }
        self.note(Note::UserDown { user: user.clone() });
        let mut everyone = self.answered_peers();
        everyone.extend(self.people.local_links());
        self.send_remove(now, &everyone, user);
    }

    /// Gossip: a user is at that server.
    pub(super) fn on_user_advertise(&mut self, now: Now, link: LinkId, envelope: Envelope, advertise: UserAdvertise) {
        if !self.takes_gossip(now, link, &envelope, &advertise.server_id) {
            return;
        }
        if let Some(Person {
            home: Home::Local(_), ..
        }) = self.people.get(&advertise.user_id)
        {
            return; // A local user always wins (PROTOCOL I.5).
        }
        let user = advertise.user_id.clone();
        let Some(has_changed) = self.settle(link, advertise) else {
            return;
        };
        if has_changed {
            self.tell_users_of_arrival(now, &user);
        }
        self.forward_gossip(link, envelope);
    }

    /// A user of the introducer, out of its welcome.
    pub(super) fn learn_user(
        &mut self,
        now: Now,
        link: LinkId,
        server: &ServerId,
        user: UserId,
        pubkey: Option<KeyText>,
    ) {
        if self.people.get(&user).is_some() {
            return; // What its own server said counts more.
        }
        let advertise = UserAdvertise {
            user_id: user.clone(),
            server_id: server.clone(),
            meta: Meta::default(),
            pubkey,
            enc_pubkey: None,
            caps: None,
            version: None,
            directory_sig: None,
            server_name: None,
        };
        if self.settle(link, advertise) == Some(true) {
            self.tell_users_of_arrival(now, &user);
        }
    }

    /// Checks common to both kinds of gossip: whose it is, how old, whether new, within budget.
    fn takes_gossip(&mut self, now: Now, link: LinkId, envelope: &Envelope, server: &ServerId) -> bool {
        if envelope.from != *server {
            self.on_fault(now, link, &Fault::NotYours { kind: envelope.kind });
            return false;
        }
        if *server == self.config.server_id {
            return false; // Nobody else says who our users are.
        }
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return false;
        };
        if peer.server != *server && self.peers.contains_key(server) {
            return false; // Counts only on its own link.
        }
        let is_own = peer.server == *server;
        if !peer.changes.try_take(now.mono) {
            let server = peer.server.clone();
            self.note(Note::PeerOverBudget { server });
            return false;
        }
        if !self.is_fresh(now, envelope.ts) {
            // Whoever only passes old news on is not to blame for it.
            let kind = envelope.kind;
            let fault = if is_own {
                Fault::Clock { kind }
            } else {
                Fault::UnknownOrigin { kind }
            };
            self.on_fault(now, link, &fault);
            return false;
        }
        if !self.seen.insert(now.mono, frame_key(envelope)) {
            self.note(Note::Duplicate {
                link,
                kind: envelope.kind,
            });
            return false;
        }
        true
    }

    /// Writes down where a remote user is; whether that changes what our users see, or nothing if it is refused.
    fn settle(&mut self, link: LinkId, advertise: UserAdvertise) -> Option<bool> {
        let UserAdvertise {
            user_id,
            server_id,
            meta,
            pubkey,
            enc_pubkey,
            version,
            directory_sig,
            ..
        } = advertise;
        let known = self.people.get(&user_id);
        let bound = self.records.get(&user_id).map(|record| &record.pubkey);
        let key = known.and_then(|person| person.pubkey.as_ref()).or(bound);
        let enc_known = known.and_then(|person| person.enc_pubkey.as_ref());
        let enc_offered = enc_pubkey.as_ref().or(pubkey.as_ref());
        let is_server = self.pins.contains_key(&ServerId::from(socp_proto::Id::from(&user_id)));
        if is_server || differ(key, pubkey.as_ref()) || differ(enc_known, enc_offered) {
            self.note(Note::KeyConflict {
                user: user_id,
                server: server_id,
            });
            return None;
        }
        let is_here = matches!(known, Some(Person { home: Home::Remote { server, .. }, .. }) if *server == server_id);
        if !is_here && self.people.count_behind(&server_id) >= PEER_USERS_COUNT_MAX {
            self.note(Note::PeerOverBudget { server: server_id });
            return None;
        }
        let is_same = known.is_some_and(|person| person.is_online() && person.meta == meta) && is_here;
        let enc_pubkey = enc_offered.or(enc_known).cloned();
        let pubkey = pubkey.or_else(|| key.cloned());
        let home = Home::Remote {
            server: server_id,
            via: link,
            stale_since: None,
        };
        let person = Person {
            home,
            meta,
            pubkey,
            enc_pubkey,
            version,
            directory_sig,
        };
        self.people.insert(user_id, person);
        Some(!is_same)
    }

    /// Gossip: a user has left that server.
    pub(super) fn on_user_remove(&mut self, now: Now, link: LinkId, envelope: Envelope, remove: UserRemove) {
        if !self.takes_gossip(now, link, &envelope, &remove.server_id) {
            return;
        }
        let Some(Person {
            home: Home::Remote { server, .. },
            ..
        }) = self.people.get(&remove.user_id)
        else {
            return;
        };
        if *server != remove.server_id {
            return; // SOCP §8.2: moved since; stale news.
        }
        self.people.forget(&remove.user_id);
        let links = self.people.local_links();
        self.send(&links, now, Address::everyone(), &Payload::UserRemove(remove));
        self.forward_gossip(link, envelope);
    }

    /// Passes gossip on unchanged, never back to where it came from or to its origin.
    fn forward_gossip(&mut self, came_on: LinkId, envelope: Envelope) {
        let others = self
            .peers
            .iter()
            .filter(|(server, link)| **link != came_on && envelope.from != **server)
            .filter(|(_, link)| self.is_answered(**link));
        let to: Vec<LinkId> = others.map(|(_, link)| *link).collect();
        if !to.is_empty() {
            self.outputs.push_back(Output::Forward {
                to,
                envelope: Arc::new(envelope),
            });
        }
    }

    /// The link to a peer is lost: its users, and those that only it leads to, stay known for a while, but nothing is
    /// sent to them.
    pub(super) fn lose_peer(&mut self, now: Now, server: &ServerId, link: LinkId) {
        self.peers.remove(server);
        let mut lost = self.people.servers_via(link);
        lost.retain(|beyond| !self.peers.contains_key(beyond));
        lost.insert(server.clone());
        for server in lost {
            self.people
                .each_behind(&server, |_, stale_since| *stale_since = Some(now.mono));
            self.timers
                .set(now.mono.saturating_add(STALE_USER_MAX_MS), Timer::Stale(server));
        }
        self.note(Note::PeerDown { server: server.clone() });
    }

    /// Forgets the users of a server that stayed away.
    pub(super) fn on_stale(&mut self, now: Now, server: &ServerId) {
        let is_over = |person: &Person| match person.home {
            Home::Remote {
                stale_since: Some(since),
                ..
            } => now.mono.saturating_sub(since) >= STALE_USER_MAX_MS,
            Home::Remote { stale_since: None, .. } | Home::Local(_) => false,
        };
        let users: Vec<UserId> = self.people.behind.get(server).into_iter().flatten().cloned().collect();
        let links = self.people.local_links();
        for user in users {
            if self.people.get(&user).is_some_and(is_over) {
                self.people.forget(&user);
                let remove = UserRemove {
                    user_id: user,
                    server_id: server.clone(),
                };
                self.send(&links, now, Address::everyone(), &Payload::UserRemove(remove));
            }
        }
    }
}

/// Whether both are known and not the same.
fn differ(known: Option<&KeyText>, offered: Option<&KeyText>) -> bool {
    matches!((known, offered), (Some(known), Some(offered)) if known != offered)
}
