//! Who is where (SOCP §8.2, PROTOCOL I.5).

use super::Server;
use super::io::{Config, LinkId, Note, ServerPin};
use super::link::Link;
use super::timers::Timer;
use crate::clock::{Mono, Now};
use socp_proto::limits::{CLOCK_AHEAD_MAX_MS, STALE_USER_MAX_MS, WELCOME_CLIENTS_COUNT_MAX};
use socp_proto::payload::{UserAdvertise, UserRemove, WelcomeClient};
use socp_proto::{Address, Base64Url, Capabilities, Draft, Envelope, Frame, KeyText, Meta, Payload, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// How far `ts` of our gossip may run ahead of our clock; well within what peers allow (our choice).
const GOSSIP_AHEAD_MAX_MS: u64 = CLOCK_AHEAD_MAX_MS / 2;

/// Everyone we know to be online, or to have been a moment ago.
#[derive(Debug, Default)]
pub(super) struct People {
    known: BTreeMap<UserId, Person>,
    /// Remote users by their server.
    behind: BTreeMap<ServerId, BTreeSet<UserId>>,
    /// How many those are.
    remote_count: usize,
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
    pub(super) caps: Option<Capabilities>,
    /// What the home server said last, where that is not this server.
    pub(super) word: Option<Word>,
}

/// Signed gossip, kept so that it can be shown to others unchanged.
#[derive(Debug, Clone)]
pub(super) struct Word {
    ts: u64,
    sig: Base64Url,
    /// The whole envelope, where it cannot be made again from what is known of the user.
    odd: Option<Box<str>>,
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
    pub(super) fn local_links(&self) -> Vec<LinkId> {
        let links = self.known.values().filter_map(|person| match &person.home {
            Home::Local(links) => Some(links),
            Home::Remote { .. } => None,
        });
        links.flatten().copied().collect()
    }

    /// Every link of every local user but this one.
    pub(super) fn local_links_of_others(&self, author: &UserId) -> Vec<LinkId> {
        let links = self.known.iter().filter_map(|(user, person)| match &person.home {
            Home::Local(links) if user != author => Some(links),
            Home::Local(_) | Home::Remote { .. } => None,
        });
        links.flatten().copied().collect()
    }

    pub(super) fn insert(&mut self, user: UserId, person: Person) {
        self.forget(&user);
        if let Home::Remote { server, .. } = &person.home {
            self.behind.entry(server.clone()).or_default().insert(user.clone());
            self.remote_count = self.remote_count.saturating_add(1);
        }
        self.known.insert(user, person);
    }

    pub(super) fn forget(&mut self, user: &UserId) {
        let Some(Person {
            home: Home::Remote { server, .. },
            ..
        }) = self.known.remove(user)
        else {
            return;
        };
        self.remote_count = self.remote_count.saturating_sub(1);
        if let Some(users) = self.behind.get_mut(&server) {
            users.remove(user);
            if users.is_empty() {
                self.behind.remove(&server);
            }
        }
    }

    /// The servers of remote users.
    pub(super) fn servers(&self) -> Vec<ServerId> {
        self.behind.keys().cloned().collect()
    }

    /// The users of another server.
    pub(super) fn users_at(&self, server: &ServerId) -> Vec<UserId> {
        self.behind.get(server).into_iter().flatten().cloned().collect()
    }

    /// What a remote user's home server said last, as it said it.
    pub(super) fn word_about(&self, user: &UserId) -> Option<Envelope> {
        let person = self.known.get(user)?;
        let (Home::Remote { server, .. }, Some(word)) = (&person.home, &person.word) else {
            return None;
        };
        if let Some(odd) = &word.odd {
            return Frame::parse(odd).ok().map(|frame| frame.envelope);
        }
        let payload = Payload::UserAdvertise(advertise_of(user, server, person));
        let draft = Draft::new(server, Address::everyone(), word.ts, &payload);
        Some(draft.sign(&word.sig.decode()))
    }

    /// How many users are at other servers.
    pub(super) fn remote_count(&self) -> usize {
        self.remote_count
    }

    pub(super) fn count_behind(&self, server: &ServerId) -> usize {
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

    pub(super) fn each_behind(&mut self, server: &ServerId, mut change: impl FnMut(&mut LinkId, &mut Option<Mono>)) {
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

    /// A remote user cannot be reached.
    pub(super) fn make_stale(&mut self, user: &UserId, now: Mono) {
        if let Some(Person {
            home: Home::Remote { stale_since, .. },
            ..
        }) = self.known.get_mut(user)
        {
            *stale_since = Some(now);
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

    pub(super) fn tell_users_of_arrival(&mut self, now: Now, user: &UserId) {
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
        self.on_peer_unlinked(now, server);
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

/// What a home server says of its user.
pub(super) fn advertise_of(user: &UserId, server: &ServerId, person: &Person) -> UserAdvertise {
    UserAdvertise {
        user_id: user.clone(),
        server_id: server.clone(),
        meta: person.meta.clone(),
        pubkey: person.pubkey.clone(),
        // Absent means the same, which saves a kilobyte.
        enc_pubkey: person
            .enc_pubkey
            .clone()
            .filter(|enc| Some(enc) != person.pubkey.as_ref()),
        caps: person.caps.clone(),
        version: person.version,
        directory_sig: person.directory_sig.clone(),
        server_name: None,
    }
}

impl Word {
    /// Keeps gossip about a user who is known as `person` from now on.
    pub(super) fn new(user: &UserId, server: &ServerId, person: &Person, envelope: &Envelope) -> Self {
        let payload = Payload::UserAdvertise(advertise_of(user, server, person));
        let again = Draft::new(server, Address::everyone(), envelope.ts, &payload);
        let is_plain = envelope.extra.is_empty() && envelope.to == again.to && envelope.payload == again.payload;
        Self {
            ts: envelope.ts,
            sig: envelope.sig.clone(),
            odd: (!is_plain).then(|| envelope.to_text().into_boxed_str()),
        }
    }

    pub(super) fn ts(&self) -> u64 {
        self.ts
    }
}
