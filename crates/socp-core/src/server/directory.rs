//! Hello, list and keys (SOCP §9.1, §13, §14, PROTOCOL I.6).

use super::Server;
use super::account::takes_histories;
use super::fault::{CloseCode, FaultCount};
use super::io::{Accept, AfterSave, LinkId, Note, Output, Record, Role, UserRecord};
use super::keys::{Relation, Shown};
use super::link::{Link, Reads, UserLink};
use super::people::{Home, Person};
use super::roster::Telling;
use super::timers::Timer;
use crate::clock::Now;
use crate::seen::SeenKey;
use socp_proto::limits::{
    FRAME_BYTES_MAX, HELLO_AGE_MAX_MS, HELLO_TRIES_MAX, LIST_PAGE_COUNT_MAX, LOCAL_USERS_COUNT_MAX, PING_INTERVAL_MS,
    STRANGER_ASKS_COUNT_MAX,
};
use socp_proto::payload::{
    Ack, ListRequest, ListResponse, MailboxRequest, OnlineUser, PRESENCE, PresenceRequest, PubkeyResponse, UserHello,
    directory_statement,
};
use socp_proto::{
    ACK, Address, Base64Url, Capabilities, Envelope, ErrorCode, FrameKind, KeyHistory, KeyText, Payload, ServerId,
    UserId,
};
use std::collections::BTreeSet;

/// A hello that was accepted and waits for the record to be signed and stored.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    pub(super) link: LinkId,
    record: UserRecord,
    caps: Option<Capabilities>,
    /// The presence that the program still knows.
    presence: Option<PresenceRequest>,
    /// How far the device has read the user's mailbox.
    mailbox: Option<MailboxRequest>,
    /// The user's key has shown that it is there now.
    is_proven: bool,
    /// The record binds an id that nobody had.
    is_new: bool,
}

impl Greeting {
    /// Whether it has proved the key that its id is made from.
    fn is_owners(&self) -> bool {
        self.is_proven && Shown::by_record(&self.record).owns(&self.record.user_id)
    }

    pub(super) fn user(&self) -> &UserId {
        &self.record.user_id
    }

    /// Whether another key than this is to be bound to the id.
    pub(super) fn binds_another(&self, user: &UserId, key: &KeyText) -> bool {
        self.record.user_id == *user && self.record.pubkey != *key
    }
}

/// Why a hello is refused.
#[derive(Debug)]
pub(super) struct Refusal(ErrorCode, &'static str);

impl Refusal {
    /// A program of others, where only proofs count.
    pub(super) fn without_capability() -> Self {
        let why = "this server takes users of programs with the capability proof/1 alone (--accept proof); its operator \
                   can let others in with --accept signed or --accept open";
        Self(ErrorCode::InvalidSig, why)
    }
}

impl Server {
    /// `USER_HELLO`. `is_signed`: the frame's `sig` verifies with the key that it offers.
    pub(super) fn on_user_hello(
        &mut self,
        now: Now,
        link: LinkId,
        envelope: Envelope,
        hello: UserHello,
        is_signed: bool,
    ) {
        let user = UserId::from(envelope.from.clone());
        if self.can_prove(hello.caps.as_ref()) {
            return self.challenge(now, link, user, &envelope, hello);
        }
        if let Some(refusal) = self.wants_proof() {
            return self.refuse_hello(now, link, refusal);
        }
        let is_proven = is_signed && self.is_fresh_hello(now, &envelope, &hello);
        match self.judge_hello(&user, &hello, is_proven) {
            Err(refusal) => self.refuse_hello(now, link, refusal),
            Ok(()) => {
                if !is_proven {
                    self.note(Note::UnprovenHello {
                        user: user.clone(),
                        link,
                    });
                }
                self.bind_key(now, link, user, hello, is_proven);
            }
        }
    }

    /// A signed hello proves something if it names us, is recent, and has not been used (PROTOCOL I.6).
    fn is_fresh_hello(&mut self, now: Now, envelope: &Envelope, hello: &UserHello) -> bool {
        let is_ours = hello.server_id.as_ref() == Some(&self.config.server_id);
        let is_recent = hello.ts.is_some_and(|ts| ts.abs_diff(now.unix) <= HELLO_AGE_MAX_MS);
        // By the signature, which differs even where two sessions begin in the same millisecond (RFC 8017 §8.1: salted),
        // and of which nobody but the key's holder can make another.
        let key: SeenKey = socp_proto::sha256(&[b"hello\n", envelope.sig.decode().as_slice()].concat());
        let is_fresh = is_ours && is_recent && self.seen.insert(now.mono, key);
        if is_fresh {
            self.clock_fitted = Some(now);
        }
        is_fresh
    }

    pub(super) fn judge_hello(&self, user: &UserId, hello: &UserHello, is_proven: bool) -> Result<(), Refusal> {
        if !is_proven && self.config.accept != Accept::Open {
            return Err(Refusal(
                ErrorCode::InvalidSig,
                "sign a hello that names this server_id (the `from` of this frame) and a fresh ts",
            ));
        }
        let is_server = self.pins.contains_key(&ServerId::from(socp_proto::Id::from(user)));
        let is_promised = self.is_promised(&ServerId::from(socp_proto::Id::from(user)));
        if is_server || is_promised || socp_proto::Id::from(user) == self.config.server_id {
            return Err(Refusal(ErrorCode::NameInUse, "this is a server's id"));
        }
        let is_owner = is_proven && Shown::by_hello(hello).owns(user);
        if !self.records.contains_key(user) && !is_owner && self.handles.is_of_another(user, user.as_str()) {
            return Err(Refusal(ErrorCode::NameInUse, "this is the handle of another user"));
        }
        if self.changing.contains_key(user) && self.judge_keys(user, Shown::by_hello(hello)) == Relation::Newer {
            let why = "another change of these keys is under way; try again in a moment";
            return Err(Refusal(ErrorCode::RateLimited, why));
        }
        self.judge_hello_keys(user, hello, is_proven)?;
        if !self.records.contains_key(user) && self.records.len() >= LOCAL_USERS_COUNT_MAX {
            return Err(Refusal(
                ErrorCode::RateLimited,
                "this server has no room for more users",
            ));
        }
        self.judge_session(user, is_proven)
    }

    /// Whether these keys may be the id's: the ones known, newer ones by a history, or the owner's (PROTOCOL I.6, II.13).
    fn judge_hello_keys(&self, user: &UserId, hello: &UserHello, is_proven: bool) -> Result<(), Refusal> {
        let shown = Shown::by_hello(hello);
        let is_withdrawn = self
            .records
            .get(user)
            .is_some_and(|record| Shown::by_record(record).is_revoked());
        let table = [
            (shown.is_coherent(user), "the key history does not end with these keys"),
            (!shown.is_revoked(), "these keys were withdrawn by their owner"),
            (!is_withdrawn, "the keys of this id were withdrawn by their owner"),
        ];
        if let Some((_, why)) = table.into_iter().find(|(is_right, _)| !is_right) {
            return Err(Refusal(ErrorCode::BadKey, why));
        }
        let why = match self.judge_keys(user, shown) {
            Relation::Same => return Ok(()),
            Relation::Newer if is_proven => return Ok(()),
            Relation::Other if is_proven && self.can_refute(user, shown) => return Ok(()),
            Relation::Older => "these keys were replaced by newer ones of the same user",
            Relation::Newer | Relation::Other => "this id is bound to another key",
        };
        Err(Refusal(ErrorCode::BadKey, why))
    }

    /// A second session must prove the key (PROTOCOL I.6).
    fn judge_session(&self, user: &UserId, is_proven: bool) -> Result<(), Refusal> {
        let home = self.people.get(user).map(|person| &person.home);
        if !is_proven && matches!(home, Some(Home::Local(_))) {
            return Err(Refusal(
                ErrorCode::NameInUse,
                "this id has a session; prove the key to add another",
            ));
        }
        Ok(())
    }

    pub(super) fn refuse_hello(&mut self, now: Now, link: LinkId, Refusal(code, detail): Refusal) {
        self.note(Note::Refused {
            link,
            class: "hello",
            reason: format!("hello: {code}: {detail}"),
        });
        self.send_error(now, link, code, detail.to_owned(), None);
        if let Some(Link::New { tries, .. }) = self.links.get_mut(&link) {
            *tries = tries.saturating_add(1);
            if *tries >= HELLO_TRIES_MAX {
                self.give_up(now, link, CloseCode::PolicyViolation, "too many hellos were refused");
            }
        }
        self.proceed(link);
    }

    /// Binds an id to its key: at once if it is bound already, else once the record is signed and on disk.
    pub(super) fn bind_key(&mut self, now: Now, link: LinkId, user: UserId, hello: UserHello, is_proven: bool) {
        if is_proven {
            self.refute(now, &user, Shown::by_hello(&hello));
        }
        let hello = self.settle_handle(link, &user, hello);
        if let Some(record) = self.records.get(&user) {
            // A hello without a profile leaves the one there is.
            let meta = hello.meta.clone().unwrap_or_else(|| record.meta.clone());
            let is_same = record.meta == meta;
            let has_newer = Shown::by_hello(&hello).against(Shown::by_record(record)) == Relation::Newer;
            let mut record = UserRecord { meta, ..record.clone() };
            let (caps, presence, mailbox) = (hello.caps.clone(), hello.presence, hello.mailbox);
            if has_newer {
                go_on(&mut record, hello);
            }
            let greeting = Greeting {
                link,
                record,
                caps,
                presence,
                mailbox,
                is_proven,
                is_new: false,
            };
            return match (has_newer, is_same) {
                (true, _) => self.endorse(greeting),
                (false, true) => self.admit_user(now, greeting),
                (false, false) => self.store_then_admit(greeting),
            };
        }
        let meta = hello.meta.unwrap_or_default();
        // Most users have one key for both, which is then kept once.
        let other = hello.enc_pubkey.filter(|key| *key != hello.pubkey);
        let enc_pubkey = other.unwrap_or_else(|| hello.pubkey.clone());
        let version = hello.history.as_ref().map_or(1, KeyHistory::version);
        let record = UserRecord {
            user_id: user,
            pubkey: hello.pubkey,
            enc_pubkey,
            meta,
            version,
            directory_sig: Base64Url::encode(&[]),
            history: hello.history,
        };
        self.endorse(Greeting {
            link,
            record,
            caps: hello.caps,
            presence: hello.presence,
            mailbox: hello.mailbox,
            is_proven,
            is_new: true,
        });
    }

    /// Has a record signed that binds an id that nobody has, or newer keys of it; who comes for the same one meanwhile waits.
    fn endorse(&mut self, greeting: Greeting) {
        let UserRecord {
            user_id: user,
            pubkey,
            enc_pubkey,
            version,
            ..
        } = &greeting.record;
        let statement = directory_statement(user, pubkey, enc_pubkey, *version);
        let user = user.clone();
        let waiting = self.endorsing.entry(user.clone()).or_default();
        waiting.push(greeting);
        if waiting.len() == 1 {
            self.outputs.push_back(Output::Endorse { user, statement });
        }
    }

    pub(super) fn on_endorsed(&mut self, now: Now, user: &UserId, sig: Base64Url) {
        if self.on_change_endorsed(now, user, &sig) {
            return;
        }
        let mut waiting = self.endorsing.remove(user).unwrap_or_default().into_iter();
        if sig.is_empty() {
            for Greeting { link, .. } in waiting {
                self.proceed(link);
                self.give_up(
                    now,
                    link,
                    CloseCode::InternalError,
                    "this server cannot sign your record now",
                );
            }
            return self.restore_handle(user);
        }
        // Who came first has the id; others who wait for it are judged against that one.
        let Some(mut first) = waiting.next() else {
            return;
        };
        first.record.directory_sig = sig;
        if self
            .records
            .get(user)
            .is_some_and(|known| known.version < first.record.version)
        {
            // What its password opened are the keys before.
            self.accounts.forget_user(user);
        }
        let bound = first.record.pubkey.clone();
        self.records.insert(user.clone(), first.record.clone());
        self.store_then_admit(first);
        for mut other in waiting {
            if other.record.pubkey == bound
                && let Some(record) = self.records.get(user)
            {
                other.record = record.clone();
                other.is_new = false;
                self.store_then_admit(other);
            } else if other.is_owners() {
                self.refute(now, user, Shown::by_record(&other.record));
                self.endorse(other);
            } else {
                let refusal = Refusal(ErrorCode::BadKey, "this id is bound to another key");
                self.refuse_hello(now, other.link, refusal);
            }
        }
    }

    fn store_then_admit(&mut self, greeting: Greeting) {
        self.save(Record::User(greeting.record.clone()), AfterSave::Greet(greeting));
    }

    /// Hellos that wait for the disk would be let in when it answers: those meant are not. Their links.
    pub(super) fn drop_greetings(&mut self, is_meant: impl Fn(&Greeting) -> bool) -> Vec<LinkId> {
        let mut links = Vec::new();
        self.after_save.retain(|_, then| match then {
            AfterSave::Greet(greeting) if is_meant(greeting) => {
                links.push(greeting.link);
                false
            }
            AfterSave::Greet(_)
            | AfterSave::Follow(_)
            | AfterSave::Forget { .. }
            | AfterSave::Answer { .. }
            | AfterSave::Registered { .. }
            | AfterSave::Kept(_)
            | AfterSave::Nothing => true,
        });
        links
    }

    /// A key that is not on disk would be forgotten at the next start, so it binds nothing now either.
    pub(super) fn unbind_unsaved(&mut self, greeting: &Greeting) {
        if greeting.is_new {
            self.records.remove(&greeting.record.user_id);
        }
    }

    /// What is on disk counts, unless another program of the same user has brought newer keys meanwhile.
    fn take_record(&mut self, now: Now, record: &UserRecord) -> Result<(), Refusal> {
        let (user, shown) = (&record.user_id, Shown::by_record(record));
        let relation = self
            .records
            .get(user)
            .map(|known| shown.against(Shown::by_record(known)));
        if let Some(Relation::Older | Relation::Other) = relation {
            let why = "these keys were replaced by newer ones of the same user";
            return Err(Refusal(ErrorCode::BadKey, why));
        }
        self.records.insert(user.clone(), record.clone());
        // Another hello may have claimed another handle meanwhile: what is on disk counts.
        self.restore_handle(user);
        let here = self.people.get(user).filter(|person| person.is_local());
        if here.is_some_and(|person| person.version < Some(record.version)) {
            self.take_newer_keys(now, user, record);
        }
        Ok(())
    }

    /// The user's key is on disk: the link is the user's.
    pub(super) fn admit_user(&mut self, now: Now, greeting: Greeting) {
        let Greeting {
            link,
            record,
            caps,
            presence,
            mailbox,
            is_proven,
            is_new: _,
        } = greeting;
        let user = record.user_id.clone();
        let is_open = matches!(self.links.get(&link), Some(Link::New { .. })) && !self.given_up.contains(&link);
        if let Err(refusal) = self.take_record(now, &record) {
            return self.refuse_hello(now, link, refusal);
        }
        if !is_open {
            return self.proceed(link);
        }
        // Another hello may have got in while this one waited for the disk.
        if let Err(refusal) = self.judge_session(&user, is_proven) {
            return self.refuse_hello(now, link, refusal);
        }
        self.drop_claims_against(now, &user, Shown::by_record(&record));
        let faults = FaultCount::default();
        // A batch is the same for everyone.
        let takes_batches = !self.hides_users() && caps.as_ref().is_some_and(|caps| caps.has(PRESENCE));
        let telling = match takes_batches {
            true => Telling::InBatches { known: presence },
            false => Telling::ToTheLetter,
        };
        let state = UserLink {
            user: user.clone(),
            contacts: BTreeSet::new(),
            key: record.pubkey.clone(),
            has_proved: is_proven,
            takes_histories: takes_histories(caps.as_ref()),
            trust: self.trust_of(caps.as_ref()),
            reads: self.reads_of(caps.as_ref(), is_proven),
            pings_unanswered: 0,
            faults,
        };
        self.links.insert(link, Link::User(state));
        self.outputs.push_back(Output::Identified {
            link,
            role: Role::User(user.clone(), record.pubkey.clone()),
        });
        self.timers
            .set(now.mono.saturating_add(PING_INTERVAL_MS), Timer::Ping(link));
        self.send_hello_ack(now, link, &user);
        self.tell_delegation(now, link);
        self.join_roster(now, link, telling);
        let has_changed = self.people.get(&user).is_some_and(|person| person.meta != record.meta);
        let is_new = self.people.attach(&user, link, person_of(record, caps));
        self.join_channel(now, &user);
        if is_new {
            self.note(Note::UserUp {
                user: user.clone(),
                link,
            });
        }
        if is_new || has_changed {
            self.spread_arrival(now, &user);
        }
        if let Some(request) = mailbox {
            self.open_mailbox(now, link, &user, request);
        }
        self.proceed(link);
    }

    /// What a program gets before it has said how far it has read: nothing where it knows mailboxes, which belong to the
    /// user's key.
    fn reads_of(&self, caps: Option<&Capabilities>, is_proven: bool) -> Reads {
        match self.keeps_with(caps) && is_proven {
            true => Reads::Nothing,
            false => Reads::ToTheLetter,
        }
    }

    fn send_hello_ack(&mut self, now: Now, link: LinkId, user: &UserId) {
        let ack = Ack {
            msg_ref: FrameKind::UserHello.name().to_owned(),
            server_id: Some(self.config.server_id.clone()),
            server_pub: Some(self.config.key.clone()),
            server_name: self.config.name.clone(),
            caps: Some(self.own_caps()),
            name_in_use: self.handles.take_refused(link),
            also: Vec::new(),
            status: None,
            up_to: None,
        };
        self.send(&[link], now, user, &Payload::Ack(ack));
    }

    pub(super) fn on_list_request(&mut self, now: Now, link: LinkId, request: &ListRequest) {
        let wanted = request.limit.map_or(LIST_PAGE_COUNT_MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let wanted = wanted.clamp(1, LIST_PAGE_COUNT_MAX);
        let mut response = ListResponse::default();
        let mut bytes = 0_usize;
        let online = self.people.online_after(request.after.as_ref());
        for (user, person) in online.filter(|(user, _)| self.shows(link, user)) {
            let online = self.online_user(user, person);
            // The page must fit into one message with room to spare, whatever profiles say.
            bytes = bytes.saturating_add(serialised_bytes(&online));
            if response.users.len() >= wanted || bytes > FRAME_BYTES_MAX / 2 {
                response.more = true;
                break;
            }
            response.users.push(user.clone());
            response.online.push(online);
        }
        let address = self.links.get(&link).map_or_else(Address::everyone, Link::address);
        self.send(&[link], now, address, &Payload::ListResponse(response));
    }

    pub(super) fn online_user(&self, user: &UserId, person: &Person) -> OnlineUser {
        let server_id = match &person.home {
            Home::Local(_) => self.config.server_id.clone(),
            Home::Remote { server, .. } => server.clone(),
        };
        let server_name = self.server_name(&server_id);
        OnlineUser {
            user_id: user.clone(),
            server_id,
            meta: person.meta.clone(),
            server_name,
            version: person.history.as_ref().map(KeyHistory::version),
        }
    }

    pub(super) fn on_pubkey_request(&mut self, now: Now, link: LinkId, user: &UserId) {
        let response = self.keys_for_users(user);
        let address = self.links.get(&link).map_or_else(Address::everyone, Link::address);
        self.send(&[link], now, address, &Payload::PubkeyResponse(response));
        self.acquaint(now, link, user);
    }

    /// Somebody who has not said hello asks for a key, to compare it with what another server says (PROTOCOL II.11). The
    /// key is told, and not who is behind it.
    pub(super) fn on_stranger_asks(&mut self, now: Now, link: LinkId, user: &UserId) {
        let Some(Link::New { asks, .. }) = self.links.get_mut(&link) else {
            return;
        };
        *asks = asks.saturating_add(1);
        if *asks > STRANGER_ASKS_COUNT_MAX {
            let why = "too many keys were asked for before a hello";
            self.send_error(now, link, ErrorCode::RateLimited, why.to_owned(), None);
            return self.give_up(now, link, CloseCode::PolicyViolation, why);
        }
        let response = PubkeyResponse {
            meta: None,
            server_name: None,
            ..self.key_answer(user)
        };
        self.send(&[link], now, Address::everyone(), &Payload::PubkeyResponse(response));
    }

    /// What our users are told of somebody's keys.
    pub(super) fn keys_for_users(&self, user: &UserId) -> PubkeyResponse {
        let response = self.key_answer(user);
        let server_name = response.server_id.as_ref().and_then(|server| self.server_name(server));
        PubkeyResponse {
            server_name,
            ..response
        }
    }

    fn key_answer(&self, user: &UserId) -> PubkeyResponse {
        let unknown = PubkeyResponse {
            user_id: user.clone(),
            pubkey: None,
            enc_pubkey: None,
            version: None,
            server_id: None,
            revoked: false,
            directory_sig: None,
            meta: None,
            server_name: None,
            history: None,
            caps: None,
        };
        match (self.records.get(user), self.people.get(user)) {
            (
                _,
                Some(Person {
                    home: Home::Remote { server, .. },
                    meta,
                    pubkey,
                    enc_pubkey,
                    version,
                    directory_sig,
                    history,
                    caps,
                    ..
                }),
            ) => PubkeyResponse {
                caps: caps.clone(),
                pubkey: pubkey.clone(),
                enc_pubkey: enc_pubkey.clone(),
                version: *version,
                server_id: Some(server.clone()),
                directory_sig: directory_sig.clone(),
                meta: Some(meta.clone()),
                revoked: history.as_ref().is_some_and(KeyHistory::is_revoked),
                history: history.clone(),
                ..unknown
            },
            (Some(record), here) => PubkeyResponse {
                caps: here.map_or_else(|| self.caps_of_the_absent(user), |person| person.caps.clone()),
                pubkey: Some(record.pubkey.clone()),
                enc_pubkey: Some(record.enc_pubkey.clone()),
                version: Some(record.version),
                server_id: Some(self.config.server_id.clone()),
                directory_sig: Some(record.directory_sig.clone()),
                meta: Some(record.meta.clone()),
                revoked: Shown::by_record(record).is_revoked(),
                history: record.history.clone(),
                ..unknown
            },
            (None, Some(_) | None) => self.people.former(user).cloned().unwrap_or(unknown),
        }
    }

    /// What a user of ours who is not here can do, as far as that is known: where there is a mailbox, it is read.
    fn caps_of_the_absent(&self, user: &UserId) -> Option<Capabilities> {
        self.mailboxes
            .has(user)
            .then(|| Capabilities::of(&[ACK]).ok())
            .flatten()
    }

    /// The key bound to a user, as far as this server knows.
    pub(super) fn key_of(&self, user: &UserId) -> Option<&KeyText> {
        let known = self.people.get(user).and_then(|person| person.pubkey.as_ref());
        known.or_else(|| self.records.get(user).map(|record| &record.pubkey))
    }
}

/// Newer keys in the place of the record's; they are still to be signed.
fn go_on(record: &mut UserRecord, hello: UserHello) {
    record.version = hello.history.as_ref().map_or(1, KeyHistory::version);
    record.enc_pubkey = hello.enc_pubkey.unwrap_or_else(|| hello.pubkey.clone());
    record.pubkey = hello.pubkey;
    record.history = hello.history;
    record.directory_sig = Base64Url::encode(&[]);
}

fn person_of(record: UserRecord, caps: Option<Capabilities>) -> Person {
    Person {
        home: Home::Local(BTreeSet::new()),
        meta: record.meta,
        pubkey: Some(record.pubkey),
        enc_pubkey: Some(record.enc_pubkey),
        version: Some(record.version),
        directory_sig: Some(record.directory_sig),
        history: record.history,
        caps,
        word: None,
    }
}

pub(super) fn serialised_bytes(online: &OnlineUser) -> usize {
    let ids = online
        .user_id
        .as_str()
        .len()
        .saturating_mul(2)
        .saturating_add(online.server_id.as_str().len());
    ids.saturating_add(online.meta.canonical_bytes()).saturating_add(256)
}
