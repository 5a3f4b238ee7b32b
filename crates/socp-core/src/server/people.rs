//! Who is known to be where: the user table of one server (SOCP §5.2, §8.2).
//!
//! A user may be claimed by several servers at once: a dead connection here and a live one there, or a removal that is
//! still on its way. One claim is in use, the newest, or the one here; the others stand by, and one of them takes over
//! when it ends.

use super::former::Former;
use super::io::{Config, LinkId, ServerPin, UserRecord};
use super::keys::{Relation, Shown};
use crate::clock::Mono;
use socp_proto::limits::{PEER_HISTORY_BYTES_MAX, USER_CLAIMS_COUNT_MAX, WELCOME_CLIENTS_COUNT_MAX};
use socp_proto::payload::{PubkeyResponse, UserAdvertise, WelcomeClient};
use socp_proto::{
    Address, Base64Url, Capabilities, Draft, Envelope, Frame, KeyHistory, KeyText, Meta, Payload, ServerId, UserId,
};
use std::collections::{BTreeMap, BTreeSet};

/// Everyone we know to be online, or to have been a moment ago.
#[derive(Debug, Default)]
pub(super) struct People {
    /// The claim in use of each user.
    known: BTreeMap<UserId, Person>,
    /// Claims of other servers that stand by, the newest last.
    standing: BTreeMap<UserId, Vec<Person>>,
    /// Users that another server claims, in use or standing by.
    behind: BTreeMap<ServerId, BTreeSet<UserId>>,
    /// How many such claims there are.
    remote_count: usize,
    /// How long the key histories in them are, by server.
    history_bytes: BTreeMap<ServerId, usize>,
    /// Every link of every local user.
    local_links: BTreeMap<LinkId, UserId>,
    /// Those who have left.
    former: Former,
}

/// One of them, as one server claims.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) home: Home,
    pub(super) meta: Meta,
    pub(super) pubkey: Option<KeyText>,
    pub(super) enc_pubkey: Option<KeyText>,
    pub(super) version: Option<u64>,
    pub(super) directory_sig: Option<Base64Url>,
    pub(super) caps: Option<Capabilities>,
    /// How the keys came about, if they ever changed (PROTOCOL II.13).
    pub(super) history: Option<KeyHistory>,
    /// What the home server said last, so far as that has a time.
    pub(super) word: Option<Word>,
}

/// Signed gossip, kept so that it can be shown to others unchanged.
#[derive(Debug, Clone)]
pub(super) struct Word {
    ts: u64,
    /// None where it was told in a batch: then nobody else could verify it.
    sig: Option<Base64Url>,
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

/// One claim of another server, told from its later ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    server: ServerId,
    ts: Option<u64>,
}

/// What the end of a claim changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There was no such claim.
    Nothing,
    /// It stood by; nobody sees a difference.
    StoodBy,
    /// The user is at another server now.
    Moved,
    /// The user is gone.
    Gone,
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

    /// Whether this is what that server claims.
    pub(super) fn is_at(&self, server: &ServerId) -> bool {
        matches!(&self.home, Home::Remote { server: home, .. } if home == server)
    }

    /// The server that is the user's home, where that is another.
    pub(super) fn home_server(&self) -> Option<&ServerId> {
        match &self.home {
            Home::Remote { server, .. } => Some(server),
            Home::Local(_) => None,
        }
    }

    /// The link on which this was said.
    pub(super) fn via(&self) -> Option<LinkId> {
        match self.home {
            Home::Remote { via, .. } => Some(via),
            Home::Local(_) => None,
        }
    }

    /// Whether the user has withdrawn the keys.
    pub(super) fn is_revoked(&self) -> bool {
        self.history.as_ref().is_some_and(KeyHistory::is_revoked)
    }

    /// Since when the home server is lost.
    pub(super) fn stale_since(&self) -> Option<Mono> {
        match self.home {
            Home::Remote { stale_since, .. } => stale_since,
            Home::Local(_) => None,
        }
    }
}

impl People {
    /// The claim in use.
    pub(super) fn get(&self, user: &UserId) -> Option<&Person> {
        self.known.get(user)
    }

    /// Who claims a user now, and since when by that server's words.
    pub(super) fn claim_of(&self, user: &UserId) -> Option<Claim> {
        let person = self.known.get(user)?;
        let Home::Remote { server, .. } = &person.home else {
            return None;
        };
        let (server, ts) = (server.clone(), person.word.as_ref().map(Word::ts));
        Some(Claim { server, ts })
    }

    /// What another server claims, in use or standing by.
    pub(super) fn at(&self, user: &UserId, server: &ServerId) -> Option<&Person> {
        let standing = self.standing.get(user).into_iter().flatten();
        self.known
            .get(user)
            .into_iter()
            .chain(standing)
            .find(|person| person.is_at(server))
    }

    fn at_mut(&mut self, user: &UserId, server: &ServerId) -> Option<&mut Person> {
        let standing = self.standing.get_mut(user).into_iter().flatten();
        self.known
            .get_mut(user)
            .into_iter()
            .chain(standing)
            .find(|person| person.is_at(server))
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

    pub(super) fn local_users(&self) -> BTreeSet<UserId> {
        self.local_links.values().cloned().collect()
    }

    /// Every link of one user who is here.
    pub(super) fn links_of(&self, user: &UserId) -> Vec<LinkId> {
        match self.known.get(user).map(|person| &person.home) {
            Some(Home::Local(links)) => links.iter().copied().collect(),
            Some(Home::Remote { .. }) | None => Vec::new(),
        }
    }

    /// Every link of every local user.
    pub(super) fn local_links(&self) -> Vec<LinkId> {
        self.local_links.keys().copied().collect()
    }

    /// Every link of every local user but this one.
    pub(super) fn local_links_of_others(&self, author: &UserId) -> Vec<LinkId> {
        let others = self.local_links.iter().filter(|(_, user)| *user != author);
        others.map(|(link, _)| *link).collect()
    }

    /// Another server claims a user. `beats_local`: even one who is here.
    pub(super) fn claim(&mut self, user: UserId, server: &ServerId, person: Person, beats_local: bool) {
        self.drop_claim(&user, server);
        self.behind.entry(server.clone()).or_default().insert(user.clone());
        self.remote_count = self.remote_count.saturating_add(1);
        let held = self.history_bytes.entry(server.clone()).or_default();
        *held = held.saturating_add(history_bytes(person.history.as_ref()));
        let is_here = self.known.get(&user).is_some_and(Person::is_local);
        if is_here && !beats_local {
            return self.stand_by(&user, person);
        }
        if let Some(before) = self.known.insert(user.clone(), person)
            && !before.is_local()
        {
            self.stand_by(&user, before);
        }
    }

    /// Keeps a claim in reserve; the oldest of too many is dropped.
    fn stand_by(&mut self, user: &UserId, person: Person) {
        let standing = self.standing.entry(user.clone()).or_default();
        standing.push(person);
        if standing.len() > USER_CLAIMS_COUNT_MAX {
            let dropped = standing.remove(0);
            self.uncount(user, &dropped);
        }
    }

    /// Whether so many servers claim a user that no further one is believed.
    pub(super) fn is_claimed_by_many(&self, user: &UserId, server: &ServerId) -> bool {
        let count = self.standing.get(user).map_or(0, Vec::len);
        count >= USER_CLAIMS_COUNT_MAX && self.at(user, server).is_none()
    }

    /// Forgets what a server claims of a user, and who takes over.
    fn drop_claim(&mut self, user: &UserId, server: &ServerId) {
        if let Some(standing) = self.standing.get_mut(user)
            && let Some(index) = standing.iter().position(|person| person.is_at(server))
        {
            let dropped = standing.remove(index);
            if standing.is_empty() {
                self.standing.remove(user);
            }
            self.uncount(user, &dropped);
        }
        if self.known.get(user).is_some_and(|person| person.is_at(server))
            && let Some(dropped) = self.known.remove(user)
        {
            self.uncount(user, &dropped);
            self.former.insert(user, &dropped);
        }
    }

    /// The keys of somebody who has left.
    pub(super) fn former(&self, user: &UserId) -> Option<&PubkeyResponse> {
        self.former.get(user)
    }

    /// Forgets the keys of somebody who will not come back.
    pub(super) fn forget_former(&mut self, user: &UserId) {
        self.former.remove(user);
    }

    /// A user of ours has newer keys; whether the user is here.
    pub(super) fn update_keys(&mut self, user: &UserId, record: &UserRecord) -> bool {
        let Some(person) = self.known.get_mut(user).filter(|person| person.is_local()) else {
            return false;
        };
        person.pubkey = Some(record.pubkey.clone());
        person.enc_pubkey = Some(record.enc_pubkey.clone());
        person.version = Some(record.version);
        person.directory_sig = Some(record.directory_sig.clone());
        person.history.clone_from(&record.history);
        true
    }

    fn uncount(&mut self, user: &UserId, person: &Person) {
        let Home::Remote { server, .. } = &person.home else {
            return;
        };
        self.remote_count = self.remote_count.saturating_sub(1);
        if let Some(held) = self.history_bytes.get_mut(server) {
            *held = held.saturating_sub(history_bytes(person.history.as_ref()));
        }
        if let Some(users) = self.behind.get_mut(server) {
            users.remove(user);
            if users.is_empty() {
                self.behind.remove(server);
                self.history_bytes.remove(server);
            }
        }
    }

    /// A server no longer claims a user.
    pub(super) fn withdraw(&mut self, user: &UserId, server: &ServerId) -> Ended {
        if self.at(user, server).is_none() {
            return Ended::Nothing;
        }
        self.drop_claim(user, server);
        if self.known.contains_key(user) {
            return Ended::StoodBy;
        }
        self.take_over(user)
    }

    /// Forgets a user whoever claims it.
    pub(super) fn forget(&mut self, user: &UserId) {
        let claims = self.known.remove(user).into_iter();
        let claims = claims.chain(self.standing.remove(user).unwrap_or_default());
        for claim in claims.collect::<Vec<_>>() {
            self.uncount(user, &claim);
        }
    }

    /// The newest claim that stands by, of a server that is not lost, is in use from now on.
    fn take_over(&mut self, user: &UserId) -> Ended {
        let Some(standing) = self.standing.get_mut(user) else {
            return Ended::Gone;
        };
        let newest = standing.iter().rposition(Person::is_online);
        let index = newest.unwrap_or(standing.len().saturating_sub(1));
        let person = standing.remove(index);
        if standing.is_empty() {
            self.standing.remove(user);
        }
        let ended = if person.is_online() { Ended::Moved } else { Ended::Gone };
        self.known.insert(user.clone(), person);
        ended
    }

    /// The server of the claim in use is lost; another takes over if it can.
    pub(super) fn pass_over(&mut self, user: &UserId) -> Ended {
        let newest = self
            .standing
            .get(user)
            .and_then(|standing| standing.iter().rposition(Person::is_online));
        let successor = newest.and_then(|index| Some(self.standing.get_mut(user)?.remove(index)));
        let Some(successor) = successor else {
            return Ended::Gone;
        };
        // There is room for it: its successor has just left the reserve.
        if let Some(lost) = self.known.insert(user.clone(), successor) {
            self.standing.entry(user.clone()).or_default().push(lost);
        }
        Ended::Moved
    }

    /// Servers that claim a user with other keys than these, or with those before.
    pub(super) fn claims_against(&self, user: &UserId, shown: Shown<'_>) -> Vec<ServerId> {
        let standing = self.standing.get(user).into_iter().flatten();
        let claims = self.known.get(user).into_iter().chain(standing);
        let is_against = |person: &&Person| {
            !matches!(
                Shown::by_person(person).against(shown),
                Relation::Same | Relation::Newer
            )
        };
        let others = claims.filter(is_against);
        let server = |person: &Person| match &person.home {
            Home::Remote { server, .. } => Some(server.clone()),
            Home::Local(_) => None,
        };
        others.filter_map(server).collect()
    }

    /// The servers of remote users.
    pub(super) fn servers(&self) -> impl Iterator<Item = &ServerId> {
        self.behind.keys()
    }

    /// Whether some user of a server is reached over a link like these.
    pub(super) fn is_reached(&self, server: &ServerId, is_meant: impl Fn(LinkId) -> bool) -> bool {
        let mut users = self.behind.get(server).into_iter().flatten();
        users.any(|user| match self.at(user, server).map(|person| &person.home) {
            Some(Home::Remote {
                via, stale_since: None, ..
            }) => is_meant(*via),
            Some(Home::Remote { .. } | Home::Local(_)) | None => false,
        })
    }

    /// The users that another server claims.
    pub(super) fn users_at(&self, server: &ServerId) -> Vec<UserId> {
        self.behind.get(server).into_iter().flatten().cloned().collect()
    }

    /// What another server said last of a user, as it said it.
    pub(super) fn word_about(&self, user: &UserId, server: &ServerId) -> Option<Envelope> {
        let person = self.at(user, server)?;
        let word = person.word.as_ref()?;
        let sig = word.sig.as_ref()?;
        if let Some(odd) = &word.odd {
            return Frame::parse(odd).ok().map(|frame| frame.envelope);
        }
        let payload = Payload::UserAdvertise(advertise_of(user, server, person));
        let draft = Draft::new(server, Address::everyone(), word.ts, &payload);
        Some(draft.sign(&sig.decode()))
    }

    /// Whether gossip of this `ts` is what was known of a user by a batch alone.
    pub(super) fn is_known_by_batch(&self, user: &UserId, server: &ServerId, ts: u64) -> bool {
        let word = self.at(user, server).and_then(|person| person.word.as_ref());
        word.is_some_and(|word| word.is_unsigned_at(ts))
    }

    /// Whether what a server said last of a user can be shown to others.
    pub(super) fn is_passable(&self, user: &UserId, server: &ServerId) -> bool {
        let word = self.at(user, server).and_then(|person| person.word.as_ref());
        word.is_some_and(|word| word.sig.is_some())
    }

    /// What is kept of a server's word about a user whom it has named in a batch: what can be shown to others, if that
    /// says the same and is no older.
    pub(super) fn word_in_batch(&self, user: &UserId, server: &ServerId, person: &Person, ts: u64) -> Word {
        let known = self.at(user, server);
        let says = |person| advertise_of(user, server, person);
        let is_same = known.is_some_and(|known| says(known) == says(person));
        let signed = known
            .and_then(|known| known.word.as_ref())
            .filter(|word| word.sig.is_some());
        match signed.filter(|word| is_same && word.ts >= ts) {
            Some(word) => word.clone(),
            None => Word::unsigned(ts),
        }
    }

    /// When we have said last of a user of ours that it is here.
    pub(super) fn note_said(&mut self, user: &UserId, ts: u64) {
        if let Some(person) = self.known.get_mut(user).filter(|person| person.is_local()) {
            person.word = Some(Word::unsigned(ts));
        }
    }

    /// How many claims of other servers there are.
    pub(super) fn remote_count(&self) -> usize {
        self.remote_count
    }

    pub(super) fn count_behind(&self, server: &ServerId) -> usize {
        self.behind.get(server).map_or(0, BTreeSet::len)
    }

    /// Whether a server may tell this history of a user's keys beside those of its other users.
    pub(super) fn has_room_for(&self, user: &UserId, server: &ServerId, history: Option<&KeyHistory>) -> bool {
        let held = self.history_bytes.get(server).copied().unwrap_or_default();
        let before = self.at(user, server).and_then(|person| person.history.as_ref());
        let others = held.saturating_sub(history_bytes(before));
        history.is_none() || others.saturating_add(history_bytes(history)) <= PEER_HISTORY_BYTES_MAX
    }

    /// A peer's gossip comes on another link from now on, its own and what it passes on; not that of `except`.
    pub(super) fn move_link(&mut self, dropped: LinkId, kept: LinkId, except: Option<&ServerId>) {
        let all = self.known.values_mut().chain(self.standing.values_mut().flatten());
        for person in all {
            if let Home::Remote { server, via, .. } = &mut person.home
                && *via == dropped
                && except != Some(server)
            {
                *via = kept;
            }
        }
    }

    /// A server says on this link what was known as its newest word, of this `ts`, from another.
    pub(super) fn bind_to_link(&mut self, user: &UserId, server: &ServerId, ts: u64, link: LinkId) {
        if let Some(person) = self.at_mut(user, server)
            && person.word.as_ref().is_some_and(|word| word.ts() == ts)
            && let Home::Remote { via, .. } = &mut person.home
        {
            *via = link;
        }
    }

    /// Servers of users that are reached over this link.
    pub(super) fn servers_via(&self, link: LinkId) -> BTreeSet<ServerId> {
        let server = |person: &Person| match &person.home {
            Home::Remote { server, via, .. } if *via == link => Some(server.clone()),
            Home::Remote { .. } | Home::Local(_) => None,
        };
        let all = self.known.values().chain(self.standing.values().flatten());
        all.filter_map(server).collect()
    }

    /// The ways to a server over links like these are lost, with its users. Those who were online until now.
    pub(super) fn lose_server(
        &mut self,
        server: &ServerId,
        is_lost: impl Fn(LinkId) -> bool,
        now: Mono,
    ) -> Vec<UserId> {
        let mut lost = Vec::new();
        for user in self.users_at(server) {
            let via = self.at(&user, server).and_then(Person::via);
            if !via.is_some_and(&is_lost) {
                continue;
            }
            let is_in_use = self.known.get(&user).is_some_and(|person| person.is_at(server));
            if self.make_stale(&user, server, now) && is_in_use {
                lost.push(user);
            }
        }
        lost
    }

    /// What a server claims of a user cannot be relied on; whether it could until now.
    pub(super) fn make_stale(&mut self, user: &UserId, server: &ServerId, now: Mono) -> bool {
        let Some(Person {
            home: Home::Remote { stale_since, .. },
            ..
        }) = self.at_mut(user, server)
        else {
            return false;
        };
        let was_online = stale_since.is_none();
        *stale_since = Some(now);
        was_online
    }

    /// Adds a link to a local user, who is created or moved here as needed; whether the user was not here before.
    pub(super) fn attach(&mut self, user: &UserId, link: LinkId, person: Person) -> bool {
        self.local_links.insert(link, user.clone());
        let known = self.known.get(user).filter(|person| person.is_local());
        let (mut links, word) = match known.map(|person| (&person.home, &person.word)) {
            Some((Home::Local(links), word)) => (links.clone(), word.clone()),
            Some((Home::Remote { .. }, _)) | None => (BTreeSet::new(), None),
        };
        let is_new = links.is_empty();
        links.insert(link);
        let home = Home::Local(links);
        if let Some(before) = self.known.insert(user.clone(), Person { home, word, ..person })
            && !before.is_local()
        {
            self.stand_by(user, before);
        }
        is_new
    }

    /// Takes a link from a local user.
    pub(super) fn detach(&mut self, user: &UserId, link: LinkId) -> Ended {
        self.local_links.remove(&link);
        let Some(Person {
            home: Home::Local(links),
            ..
        }) = self.known.get_mut(user)
        else {
            return Ended::Nothing;
        };
        links.remove(&link);
        if !links.is_empty() {
            return Ended::StoodBy;
        }
        self.known.remove(user);
        self.take_over(user)
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

/// About how long a history is as text.
pub(super) fn history_bytes(history: Option<&KeyHistory>) -> usize {
    history.map_or(0, KeyHistory::text_bytes)
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
        history: person.history.clone(),
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
            sig: Some(envelope.sig.clone()),
            odd: (!is_plain).then(|| envelope.to_text().into_boxed_str()),
        }
    }

    /// What was said in a batch, or by ourselves.
    fn unsigned(ts: u64) -> Self {
        let (sig, odd) = (None, None);
        Self { ts, sig, odd }
    }

    pub(super) fn ts(&self) -> u64 {
        self.ts
    }

    fn is_unsigned_at(&self, ts: u64) -> bool {
        self.ts == ts && self.sig.is_none()
    }
}
