//! What peers say of users, and what is believed of it (SOCP §8.2, PROTOCOL I.5).

use super::Server;
use super::fault::{CloseCode, Fault};
use super::io::{LinkId, Note};
use super::keys::{Relation, Shown};
use super::link::Link;
use super::mutation::Mutation;
use super::people::{Ended, Home, Person, Word, history_bytes};
use super::quota::Bucket;
use super::timers::Timer;
use crate::clock::{Mono, Now};
use crate::seen::frame_key;
use socp_proto::limits::{
    DEPARTED_COUNT_MAX, GOSSIP_BYTES_MAX, PEER_CHANGES_PER_S_MAX, PEER_HISTORY_BYTES_MAX, PEER_USERS_COUNT_MAX,
    REMOTE_USERS_COUNT_MAX, SEEN_TTL_MS, STALE_USER_MAX_MS,
};
use socp_proto::payload::{UserAdvertise, UserRemove};
use socp_proto::{Envelope, ErrorCode, FrameKind, KeyHistory, KeyText, Meta, ServerId, UserId, utf8_form};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How often the operator is told of one peer that says too much, or contradicts itself.
const WARN_INTERVAL_MS: u64 = 60_000;

/// A presence change that was checked and not applied yet.
#[derive(Debug)]
pub(super) enum Change {
    Arrival(UserAdvertise),
    Departure(UserRemove),
}

/// Both keys of a user and their history, as far as they are told.
type Keys = (Option<KeyText>, Option<KeyText>, Option<KeyHistory>);

/// How a change was said.
#[derive(Debug)]
enum Said {
    /// In a frame of its own, which can be passed on.
    Letter(Box<Envelope>),
    /// In a batch (PROTOCOL II.8).
    Batch {
        /// When.
        ts: u64,
    },
}

impl Said {
    fn ts(&self) -> u64 {
        match self {
            Self::Letter(envelope) => envelope.ts,
            Self::Batch { ts } => *ts,
        }
    }
}

/// What one server may say of its users, by whatever way; kept beyond its links so that coming back does not fill it up.
#[derive(Debug)]
pub(super) struct Budget {
    changes: Bucket,
    /// The newest change of each user that came when there was no budget.
    damped: BTreeMap<UserId, (LinkId, Said, Change)>,
    /// How long the key histories in them are.
    damped_bytes: usize,
    /// Those users, in the order in which they came.
    waiting: VecDeque<UserId>,
    warned_at: Option<Mono>,
}

impl Budget {
    fn new(now: Mono) -> Self {
        let burst = PEER_CHANGES_PER_S_MAX.saturating_mul(10);
        Self {
            changes: Bucket::new(now, PEER_CHANGES_PER_S_MAX, burst),
            damped: BTreeMap::new(),
            damped_bytes: 0,
            waiting: VecDeque::new(),
            warned_at: None,
        }
    }
}

fn history_bytes_in((_, _, change): &(LinkId, Said, Change)) -> usize {
    match change {
        Change::Arrival(advertise) => history_bytes(advertise.history.as_ref()),
        Change::Departure(_) => 0,
    }
}

/// Users who left lately, so that older gossip, come by a longer way, does not bring them back.
#[derive(Debug, Default)]
pub(super) struct Departed {
    by_user: BTreeMap<UserId, (ServerId, u64)>,
    by_age: VecDeque<(Mono, UserId, u64)>,
}

impl Departed {
    fn insert(&mut self, now: Mono, user: UserId, server: ServerId, ts: u64) {
        while self.by_age.len() >= DEPARTED_COUNT_MAX
            || self
                .by_age
                .front()
                .is_some_and(|(then, ..)| now.saturating_sub(*then) > SEEN_TTL_MS)
        {
            if let Some((_, user, ts)) = self.by_age.pop_front()
                && self.by_user.get(&user).is_some_and(|(_, newest)| *newest == ts)
            {
                self.by_user.remove(&user);
            }
        }
        self.by_age.push_back((now, user.clone(), ts));
        self.by_user.insert(user, (server, ts));
    }

    /// When the user left this server, by that server's clock.
    fn left(&self, user: &UserId, server: &ServerId) -> Option<u64> {
        let (from, ts) = self.by_user.get(user)?;
        (from == server).then_some(*ts)
    }
}

impl Server {
    /// Gossip: a user is at that server.
    pub(super) fn on_user_advertise(&mut self, now: Now, link: LinkId, envelope: Envelope, advertise: UserAdvertise) {
        let (user, server) = (advertise.user_id.clone(), advertise.server_id.clone());
        self.on_change(now, link, envelope, (user, server), Change::Arrival(advertise));
    }

    /// Gossip: a user has left that server.
    pub(super) fn on_user_remove(&mut self, now: Now, link: LinkId, envelope: Envelope, remove: UserRemove) {
        let (user, server) = (remove.user_id.clone(), remove.server_id.clone());
        self.on_change(now, link, envelope, (user, server), Change::Departure(remove));
    }

    fn on_change(
        &mut self,
        now: Now,
        link: LinkId,
        envelope: Envelope,
        (user, server): (UserId, ServerId),
        change: Change,
    ) {
        let Some(peer) = self.speaker(now, link, &envelope, &server) else {
            return;
        };
        let (came_on, link) = (link, self.link_in_use(link));
        if self.is_left_behind(came_on, link) {
            let kind = envelope.kind;
            return self.note(Note::Ignored { link: came_on, kind });
        }
        let key = frame_key(&envelope);
        self.withdraw_offer(key, &peer);
        let is_passed_on = peer != server;
        let is_back = self.brings_back(&user, &server, &envelope, &change);
        // A peer's own words are in order on a link, and on no other beside it.
        let may_be_old = is_passed_on || came_on != link;
        let is_old = may_be_old && self.is_old_news(&user, &server, envelope.ts);
        if is_passed_on && self.is_from_elsewhere(&peer, link, &user, &server, &change) {
            self.remember_told(now, key, &peer);
            let kind = envelope.kind;
            return self.note(Note::Ignored { link, kind });
        }
        // It was known by a batch, and can be passed on from now on.
        let is_passable_now = matches!(change, Change::Arrival(_))
            && !is_passed_on
            && self.people.is_known_by_batch(&user, &server, envelope.ts);
        if is_old || (!self.is_new(now, key) && !is_back && !is_passable_now) {
            if !is_passed_on && !is_old {
                // It came by another way first.
                self.people.bind_to_link(&user, &server, envelope.ts, link);
            }
            let kind = envelope.kind;
            return self.note(Note::Duplicate { link, kind });
        }
        let said = Said::Letter(Box::new(envelope));
        self.apply_or_damp(now, (user, server), (link, said, change), is_back);
    }

    /// A change that a peer tells of a user of its own in a batch.
    pub(super) fn on_told_change(
        &mut self,
        now: Now,
        came_on: LinkId,
        (user, server): (UserId, ServerId),
        ts: u64,
        change: Change,
    ) {
        let link = self.link_in_use(came_on);
        if came_on != link && self.is_old_news(&user, &server, ts) {
            let kind = FrameKind::ServerPresence;
            return self.note(Note::Duplicate { link: came_on, kind });
        }
        self.apply_or_damp(now, (user, server), (link, Said::Batch { ts }, change), false);
    }

    fn apply_or_damp(
        &mut self,
        now: Now,
        (user, server): (UserId, ServerId),
        (link, said, change): (LinkId, Said, Change),
        is_back: bool,
    ) {
        let budget = self
            .budgets
            .entry(server.clone())
            .or_insert_with(|| Budget::new(now.mono));
        // A change that waits must not be overtaken by a newer one.
        if budget.damped.contains_key(&user) || !budget.changes.try_take(now.mono) {
            return self.damp(now, &server, user, (link, said, change));
        }
        self.apply(now, link, said, change, is_back);
    }

    /// A server has named all its users: of others no arrival waits any more.
    pub(super) fn keep_damped(&mut self, server: &ServerId, everyone: &BTreeSet<UserId>) {
        if let Some(budget) = self.budgets.get_mut(server) {
            budget.damped.retain(|user, _| everyone.contains(user));
            budget.damped_bytes = budget.damped.values().map(history_bytes_in).sum();
            budget.waiting.retain(|user| everyone.contains(user));
        }
    }

    /// The peer that brings gossip about a server, if it may: whose it is, how old (PROTOCOL I.2, I.5).
    fn speaker(&mut self, now: Now, link: LinkId, envelope: &Envelope, server: &ServerId) -> Option<ServerId> {
        if envelope.from != *server {
            self.on_fault(now, link, &Fault::NotYours { kind: envelope.kind });
            return None;
        }
        let Some(Link::Peer(peer)) = self.links.get(&link) else {
            return None;
        };
        let peer = peer.server.clone();
        let is_own = peer == *server;
        // Nobody else says who our users are; and what a linked server says counts only on its own link.
        if *server == self.config.server_id || (!is_own && self.peers.contains_key(server)) {
            return None;
        }
        // It is kept, and shown to others.
        let bytes = envelope.signed_text().len();
        if bytes.saturating_add(utf8_form(&envelope.extra).len()) > GOSSIP_BYTES_MAX {
            let (kind, msg_ref) = (envelope.kind, None);
            self.on_fault(now, link, &Fault::TooLongToRelay { kind, msg_ref });
            return None;
        }
        // Who passes gossip on could have held back its removal as well, so its age says nothing more.
        let is_fresh = if is_own {
            self.is_fresh(now, envelope.ts)
        } else {
            envelope.ts <= now.unix.saturating_add(self.config.clock_ahead_ms)
        };
        if !is_fresh {
            let kind = envelope.kind;
            if is_own {
                // What is refused now is not said again on this link. A new one begins with everything.
                self.on_fault(now, link, &Fault::Clock { kind });
                self.give_up(now, link, CloseCode::PolicyViolation, "your clock is too far from ours");
            } else {
                // Whoever only passes news on is not to blame for it.
                self.on_fault(now, link, &Fault::UnknownOrigin { kind });
            }
            return None;
        }
        Some(peer)
    }

    /// The link in use with the peer at the end of this one, which may have been given up for it a moment ago.
    pub(super) fn link_in_use(&self, link: LinkId) -> LinkId {
        match self.links.get(&link) {
            Some(Link::Peer(peer)) => self.peers.get(&peer.server).copied().unwrap_or(link),
            Some(Link::New { .. } | Link::User(_)) | None => link,
        }
    }

    /// Whether what comes on a link that was given up is older than all that the one in use says.
    pub(super) fn is_left_behind(&self, came_on: LinkId, in_use: LinkId) -> bool {
        match (self.links.get(&came_on), self.links.get(&in_use)) {
            (Some(Link::Peer(old)), Some(Link::Peer(new))) => new.takes_the_place_of(old),
            _ => false,
        }
    }

    /// Whether somebody says that a user has left who is not in between: a removal can be repeated by whoever saw one.
    fn is_from_elsewhere(
        &self,
        peer: &ServerId,
        link: LinkId,
        user: &UserId,
        server: &ServerId,
        change: &Change,
    ) -> bool {
        let via = self.people.at(user, server).and_then(Person::via);
        matches!(change, Change::Departure(_)) && via.is_some_and(|via| via != link) && !self.reaches(peer, server)
    }

    /// Whether its own server has said something newer of this user.
    fn is_old_news(&self, user: &UserId, server: &ServerId, ts: u64) -> bool {
        let known = self.people.at(user, server).and_then(|person| person.word.as_ref());
        let left = self.departed.left(user, server);
        known.is_some_and(|word| ts < word.ts()) || left.is_some_and(|newest| ts <= newest)
    }

    /// Whether this is what we know of a user whose server was lost, come by another way.
    fn brings_back(&self, user: &UserId, server: &ServerId, envelope: &Envelope, change: &Change) -> bool {
        let Some(person) = self.people.at(user, server) else {
            return false;
        };
        let is_same = person.word.as_ref().is_some_and(|word| word.ts() == envelope.ts);
        is_same && person.stale_since().is_some() && matches!(change, Change::Arrival(_))
    }

    /// Keeps a change until the peer has budget for it: late, but not lost.
    fn damp(&mut self, now: Now, peer: &ServerId, user: UserId, change: (LinkId, Said, Change)) {
        let Some(budget) = self.budgets.get_mut(peer) else {
            return;
        };
        let (is_waiting, bytes) = (budget.damped.contains_key(&user), history_bytes_in(&change));
        let others_bytes = budget
            .damped_bytes
            .saturating_sub(budget.damped.get(&user).map_or(0, history_bytes_in));
        let is_crowded = !is_waiting && budget.damped.len() >= PEER_USERS_COUNT_MAX;
        if is_crowded || others_bytes.saturating_add(bytes) > PEER_HISTORY_BYTES_MAX {
            // Too much even to keep: it may be said again.
            if let (_, Said::Letter(envelope), _) = &change {
                self.seen.forget(&frame_key(envelope));
            }
            return self.warn_over_budget(now, peer);
        }
        if !is_waiting {
            budget.waiting.push_back(user.clone());
        }
        let is_first = budget.damped.is_empty();
        budget.damped.insert(user, change);
        budget.damped_bytes = others_bytes.saturating_add(bytes);
        if !is_first {
            return;
        }
        let wait = budget.changes.wait_ms(now.mono);
        self.timers
            .set(now.mono.saturating_add(wait.max(1)), Timer::Damped(peer.clone()));
        self.warn_over_budget(now, peer);
    }

    fn warn_over_budget(&mut self, now: Now, peer: &ServerId) {
        if self.may_warn(now, peer) {
            self.note(Note::PeerOverBudget { server: peer.clone() });
        }
    }

    /// Whether the operator has not been told of this peer for a while.
    fn may_warn(&mut self, now: Now, peer: &ServerId) -> bool {
        let budget = self
            .budgets
            .entry(peer.clone())
            .or_insert_with(|| Budget::new(now.mono));
        let is_due = budget
            .warned_at
            .is_none_or(|then| now.mono.saturating_sub(then) >= WARN_INTERVAL_MS);
        if is_due {
            budget.warned_at = Some(now.mono);
        }
        is_due
    }

    /// Applies what waited, as far as the budget goes.
    pub(super) fn on_damped_due(&mut self, now: Now, peer: &ServerId) {
        while let Some(budget) = self.budgets.get_mut(peer) {
            if budget.damped.is_empty() {
                return;
            }
            if !budget.changes.try_take(now.mono) {
                let wait = budget.changes.wait_ms(now.mono);
                let at = now.mono.saturating_add(wait.max(1));
                return self.timers.set(at, Timer::Damped(peer.clone()));
            }
            let Some(user) = budget.waiting.pop_front() else {
                return;
            };
            let Some(waited) = budget.damped.remove(&user) else {
                continue;
            };
            budget.damped_bytes = budget.damped_bytes.saturating_sub(history_bytes_in(&waited));
            let (link, said, change) = waited;
            // What came on a link that is gone comes again with the next; and what was passed on may have been overtaken.
            let link = self.link_in_use(link);
            let speaker = match self.links.get(&link) {
                Some(Link::Peer(speaker)) => speaker.server.clone(),
                Some(Link::New { .. } | Link::User(_)) | None => continue,
            };
            let is_passed_on = speaker != *peer;
            let is_overtaken = self.peers.contains_key(peer) || self.is_old_news(&user, peer, said.ts());
            if !is_passed_on || !is_overtaken {
                self.apply(now, link, said, change, false);
            }
        }
    }

    /// `is_again`: this was known before, and is true again.
    fn apply(&mut self, now: Now, link: LinkId, said: Said, change: Change, is_again: bool) {
        match change {
            Change::Arrival(advertise) => self.apply_arrival(now, link, said, advertise, is_again),
            Change::Departure(remove) => self.apply_departure(now, link, said, remove),
        }
    }

    fn apply_arrival(&mut self, now: Now, link: LinkId, said: Said, advertise: UserAdvertise, is_again: bool) {
        let (user, server) = (advertise.user_id.clone(), advertise.server_id.clone());
        let Some(has_changed) = self.settle(now, link, advertise, Some(&said)) else {
            return;
        };
        if has_changed {
            self.tell_users_of_arrival(now, &user);
        }
        if let Said::Letter(envelope) = said {
            self.forward_gossip(now, link, (&user, &server), *envelope, is_again);
        }
    }

    fn apply_departure(&mut self, now: Now, link: LinkId, said: Said, remove: UserRemove) {
        let (user, origin, deletion) = (remove.user_id, remove.server_id, remove.deletion);
        let was_online = self.people.get(&user).is_some_and(Person::is_online);
        // SOCP §8.2: only if the mapping still points there. One that points elsewhere is not touched.
        let ended = if self.is_mutated(Mutation::RemoveWithoutMapping) {
            self.people.forget(&user);
            Ended::Gone
        } else {
            self.people.withdraw(&user, &origin)
        };
        let ts = said.ts();
        if ended != Ended::Nothing {
            self.departed.insert(now.mono, user.clone(), origin.clone(), ts);
            if was_online {
                self.show_end(now, ended, &user, &origin, now.unix);
            }
            if let Some(deletion) = deletion.filter(|_| ended == Ended::Gone) {
                self.on_deleted_elsewhere(now, &user, &origin, deletion);
            }
        } else if self.departed.left(&user, &origin) != Some(ts) {
            return;
        }
        // What was known by a batch others have not heard.
        if let Said::Letter(envelope) = said {
            self.forward_gossip(now, link, (&user, &origin), *envelope, false);
        }
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
        let link = self.link_in_use(link);
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
            history: None,
        };
        if self.settle(now, link, advertise, None) == Some(true) {
            self.tell_users_of_arrival(now, &user);
        }
    }

    /// Whether another server may tell us so of a user.
    fn has_room_for(&self, user: &UserId, server: &ServerId, history: Option<&KeyHistory>, keys: Relation) -> bool {
        let is_here = self.people.at(user, server).is_some();
        let is_full = self.people.count_behind(server) >= PEER_USERS_COUNT_MAX
            || self.people.remote_count() >= REMOTE_USERS_COUNT_MAX
            || self.people.is_claimed_by_many(user, server);
        // What a known user has newly, a withdrawal for instance, is never kept out by what others of the server have.
        let is_news = is_here && keys == Relation::Newer;
        (is_here || !is_full) && (is_news || self.people.has_room_for(user, server, history))
    }

    /// Writes down where a remote user is; whether that changes what our users see, or nothing if it is refused.
    fn settle(&mut self, now: Now, link: LinkId, advertise: UserAdvertise, said: Option<&Said>) -> Option<bool> {
        // A welcome names one key only.
        let shown = Shown::by_gossip(&advertise, said.is_some());
        self.refute(now, &advertise.user_id, shown);
        let relation = self.judge_keys(&advertise.user_id, shown);
        let is_coherent = shown.is_coherent(&advertise.user_id);
        let enc_shown = shown.enc_pubkey.cloned();
        let UserAdvertise {
            user_id,
            server_id,
            meta,
            pubkey,
            enc_pubkey: _,
            caps,
            version,
            directory_sig,
            history,
            ..
        } = advertise;
        let known = self.people.get(&user_id);
        let as_server = ServerId::from(socp_proto::Id::from(&user_id));
        let is_server = as_server == self.config.server_id || self.pins.contains_key(&as_server);
        if is_server || !is_coherent || matches!(relation, Relation::Older | Relation::Other) {
            self.report_conflict(now, user_id, server_id);
            return None;
        }
        if !self.has_room_for(&user_id, &server_id, history.as_ref(), relation) {
            self.warn_over_budget(now, &server_id);
            return None;
        }
        // A local user always wins (PROTOCOL I.5); what others say of it stands by.
        let beats_local = self.is_mutated(Mutation::GossipBeatsLocal);
        let is_in_use = known.is_none_or(|person| !person.is_local()) || beats_local;
        let (pubkey, enc_pubkey, history) = self.with_known_keys(&user_id, (pubkey, enc_shown, history));
        let keys_version = history.as_ref().map(KeyHistory::version);
        let is_same = known.is_some_and(|person| {
            let known_version = person.history.as_ref().map(KeyHistory::version);
            person.is_online() && person.is_at(&server_id) && person.meta == meta && known_version == keys_version
        });
        let news = history.clone().filter(|_| relation == Relation::Newer);
        let home = Home::Remote {
            server: server_id.clone(),
            via: link,
            stale_since: None,
        };
        let mut person = Person {
            home,
            meta,
            pubkey,
            enc_pubkey,
            version,
            directory_sig,
            history,
            caps,
            word: None,
        };
        person.word = said.map(|said| match said {
            Said::Letter(envelope) => Word::new(&user_id, &server_id, &person, envelope),
            Said::Batch { ts } => self.people.word_in_batch(&user_id, &server_id, &person, *ts),
        });
        self.people.claim(user_id.clone(), &server_id, person, beats_local);
        if let Some(news) = news {
            self.on_newer_keys_elsewhere(now, &user_id, &news);
        }
        Some(is_in_use && !is_same)
    }

    /// What gossip leaves out of a user's keys is as it was known. Whoever is away is bound to both keys all the same.
    fn with_known_keys(&self, user: &UserId, (pubkey, enc_pubkey, history): Keys) -> Keys {
        let person = self.people.get(user).map(Shown::by_person);
        let record = self.records.get(user).map(Shown::by_record);
        let known: Vec<Shown<'_>> = [person, record].into_iter().flatten().collect();
        let pubkey = pubkey.or_else(|| known.iter().find_map(|known| known.pubkey.cloned()));
        let enc_pubkey = enc_pubkey.or_else(|| known.iter().find_map(|known| known.enc_pubkey.cloned()));
        let history = history.or_else(|| known.iter().find_map(|known| known.history.cloned()));
        (pubkey, enc_pubkey, history)
    }

    /// Another home of a user says that its keys have changed, and proves it by a history.
    fn on_newer_keys_elsewhere(&mut self, now: Now, user: &UserId, history: &KeyHistory) {
        if self.records.contains_key(user) {
            // Everybody is told once that is on disk.
            return self.follow(user, history, None);
        }
        let newest = history.newest();
        let shown = Shown {
            pubkey: Some(&newest.pubkey),
            enc_pubkey: Some(&newest.enc_pubkey),
            history: Some(history),
        };
        self.drop_claims_against(now, user, shown);
        self.tell_users_of_keys(now, user);
    }

    /// Another key was offered for a known user, and refused: the operator is told, once for a while, and our own
    /// programs are, as long as there are not too many.
    fn report_conflict(&mut self, now: Now, user: UserId, server: ServerId) {
        let key = socp_proto::sha256(&[b"conflict\n", user.as_str().as_bytes()].concat());
        if !self.seen.insert(now.mono, key) {
            return;
        }
        self.note(Note::KeyConflict {
            user: user.clone(),
            server,
        });
        if !self.alarms.try_take(now.mono) {
            return;
        }
        let links = self.shown_to(self.people.local_links(), &user);
        for link in links {
            if self.links.get(&link).is_some_and(Link::is_native) {
                self.send_error(now, link, ErrorCode::BadKey, user.to_string(), None);
            }
        }
    }

    /// A peer says that a user is not there, whom we thought there or behind it.
    pub(super) fn correct_presence(&mut self, now: Now, link: LinkId, peer: &ServerId, user: &UserId) {
        let Some(Person {
            home:
                Home::Remote {
                    server,
                    via,
                    stale_since: None,
                },
            ..
        }) = self.people.get(user)
        else {
            return;
        };
        let server = server.clone();
        let link = self.link_in_use(link);
        let ended = if server == *peer {
            self.people.withdraw(user, &server)
        } else if *via == link {
            self.people.make_stale(user, &server, now.mono);
            let at = now.mono.saturating_add(STALE_USER_MAX_MS);
            self.timers.set(at, Timer::Stale(server.clone()));
            self.people.pass_over(user)
        } else {
            return;
        };
        self.show_end(now, ended, user, &server, now.unix);
        let user = user.clone();
        self.note(Note::PresenceCorrected { user, server });
    }
}
