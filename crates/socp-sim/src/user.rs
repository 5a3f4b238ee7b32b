//! Users: light scripts that come and go, move, talk and ask.
//!
//! A script believes what its server says and holds it against nothing; the oracle does that. What a client of ours
//! would check before it shows a message, the script checks too: the signature of the author, and the recipient.

use crate::event::{Event, Item, UserItem};
use crate::net::{Host, Party, UserNo};
use crate::node::BEGIN;
use crate::oracle::{Delivery, Listed};
use crate::program::Programs;
use crate::queue::Time;
use crate::toys::{self, Parcel};
use crate::world::World;
use socp_core::client::{Batches, Step};
use socp_core::server::{Input, LinkId};
use socp_proto::payload::{CtrlClose, ErrorNotice, ListRequest, ListResponse, PRESENCE, UserDeliver, UserHello};
use socp_proto::{
    ACK, Capabilities, Challenge, Draft, ErrorCode, FrameKind, Id, KeyText, Meta, PROOF, Payload, Proof, ServerId,
    UserId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// One user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) key: KeyText,
    /// Where it prefers to be.
    pub(crate) home: Host,
    pub(crate) session: Option<Session>,
    /// Joins late, stays, and asks for the list at the end.
    pub(crate) is_observer: bool,
    /// How far its clock is off, ms.
    pub(crate) clock_ms: i64,
    /// Its programs, if they know `ack/1`.
    pub(crate) programs: Option<Box<Programs>>,
    /// The last server it was at.
    last: Option<Host>,
    /// What it knew there, as a program that goes on running keeps it (PROTOCOL II.8).
    kept: Option<Box<Session>>,
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) host: Host,
    /// The user's end.
    pub(crate) link: LinkId,
    since: Time,
    /// The server has said ACK.
    pub(crate) is_up: bool,
    /// Whom the server has pushed as online: for each user the number of its server and one.
    view: Vec<u32>,
    /// Users that nobody of the cast is, and where.
    strangers: BTreeMap<UserId, ServerId>,
    /// Pages of a list so far.
    pages: Listed,
    /// When it asked for pages that it does not have yet.
    asked: VecDeque<Time>,
    /// The version of the group `public` that it was told last.
    channel_version: Option<u64>,
    /// How far it has been told who is there, where it takes that in batches.
    batches: Batches,
    /// The server answers for what it takes (PROTOCOL II.6).
    pub(crate) keeps: bool,
    /// The last number that came over this link and was written.
    pub(crate) written: u64,
}

/// How long a script waits for the answer to its hello, or for a page of a list, ms.
const ANSWER_PATIENCE_MS: u64 = 15_000;
/// How long it takes until a server notices that a user is gone without a word: three pings, and some (PROTOCOL I.11).
pub(crate) const VANISH_MS: u64 = 100_000;
/// How long news of a user may take in a calm network, ms.
pub(crate) const NEWS_MS: u64 = 10_000;

impl User {
    pub(crate) fn new(id: UserId, key: KeyText, home: Host, clock_ms: i64) -> Self {
        Self {
            id,
            key,
            home,
            session: None,
            is_observer: false,
            clock_ms,
            programs: None,
            last: None,
            kept: None,
        }
    }

    /// One half of all users takes presence in batches (PROTOCOL II.8), and of both halves one half proves who it is (II.2).
    fn caps(&self) -> Capabilities {
        let sum: u32 = self.id.as_str().bytes().map(u32::from).sum();
        let has_program = self.programs.is_some();
        let names = [
            (PRESENCE, sum.is_multiple_of(2)),
            (PROOF, has_program || (sum / 2).is_multiple_of(2)),
            (ACK, has_program),
        ];
        let names: Vec<&str> = names.iter().filter(|(_, can)| *can).map(|(name, _)| *name).collect();
        Capabilities::of(&names).expect("names made here are capabilities")
    }
}

impl World {
    pub(crate) fn user_unix(&self, user: UserNo) -> u64 {
        (BEGIN + self.queue.now()).saturating_add_signed(self.users[user].clock_ms)
    }

    /// A user does what its script says, and plans when to do more.
    pub(crate) fn on_wake(&mut self, user: UserNo) {
        if !self.users[user].is_observer {
            let pause = self
                .user_dice
                .between(self.pace.pause_ms.min(500), 2 * self.pace.pause_ms);
            self.queue.after(pause, Event::Wake { user });
        }
        let Some(session) = &self.users[user].session else {
            self.maybe_write(user);
            return self.maybe_come(user);
        };
        if !session.is_up {
            if self.queue.now() > session.since + ANSWER_PATIENCE_MS {
                self.note_silence(user);
                self.drop_session(user, "no answer to its hello");
            }
            return;
        }
        self.note_silence(user);
        if self.users[user].is_observer {
            return;
        }
        let throw = self.user_dice.below(1000);
        let pace = self.pace;
        if throw < pace.leave {
            self.leave(user);
        } else if throw < pace.leave + pace.list {
            self.ask_list(user, None);
        } else if throw < pace.leave + pace.list + pace.channel {
            self.say_to_all(user);
        } else {
            self.say(user);
        }
    }

    /// Tells the oracle if a user waits for an answer too long though nothing parts it from its server.
    fn note_silence(&mut self, user: UserNo) {
        let Some(session) = &self.users[user].session else {
            return;
        };
        let hello = (!session.is_up).then_some(("hello", session.since));
        let list = session.asked.front().map(|at| ("request for the list", *at));
        let Some((question, asked_at)) = hello.or(list) else {
            return;
        };
        let is_late = self.queue.now() > asked_at + ANSWER_PATIENCE_MS;
        // A server that dies or hangs up takes its end away, and the user's soon after.
        let far_link = self.net.end(session.link).map(|end| end.far_link);
        let state = far_link.and_then(|link| self.nodes[session.host].links.get(&link));
        if is_late && state.is_some_and(|state| !state.is_closing) {
            self.oracle.on_silence(user, session.host, question, asked_at);
        }
    }

    fn maybe_come(&mut self, user: UserNo) {
        let is_observer = self.users[user].is_observer;
        if self.is_resting && !is_observer {
            return;
        }
        if !is_observer && !self.user_dice.chance(self.pace.come) {
            return;
        }
        let is_moving = !is_observer && self.user_dice.chance(self.pace.move_away) && !self.stays_at_home(user);
        self.take_some_device(user);
        let host = if is_moving {
            self.user_dice.index(self.nodes.len())
        } else {
            self.users[user].home
        };
        self.come(user, host);
    }

    /// A user connects to a server and says hello.
    pub(crate) fn come(&mut self, user: UserNo, host: Host) {
        if !self.nodes[host].is_up() {
            if self.users[user].is_observer {
                self.queue.after(5_000, Event::Wake { user });
            }
            return;
        }
        let (link, far) = self.net.connect(Party::User(user), Party::Host(host));
        let mut session = Session {
            host,
            link,
            since: self.queue.now(),
            is_up: false,
            view: Vec::new(),
            strangers: BTreeMap::new(),
            pages: Listed::default(),
            asked: VecDeque::new(),
            channel_version: None,
            batches: Batches::default(),
            keeps: false,
            written: 0,
        };
        if let Some(kept) = self.users[user].kept.take().filter(|kept| kept.host == host) {
            let Session {
                view,
                strangers,
                batches,
                ..
            } = *kept;
            (session.view, session.strangers, session.batches) = (view, strangers, batches);
            session.batches.on_new_link();
        }
        let presence = session.batches.resume();
        self.users[user].session = Some(session);
        self.users[user].last = Some(host);
        self.oracle.on_unsettled(user, self.queue.now() + NEWS_MS);
        self.on_accepted(host, far);
        let User { id, key, .. } = &self.users[user];
        let ts = self.user_unix(user);
        let hello = UserHello {
            client: "socp-sim".to_owned(),
            pubkey: key.clone(),
            enc_pubkey: None,
            caps: Some(self.users[user].caps()),
            meta: Meta::named(Some(id.as_str()), None).ok(),
            server_id: Some(self.nodes[host].config.server_id.clone()),
            ts: Some(ts),
            history: None,
            presence,
            mailbox: self.mailbox_request(user),
        };
        self.user_sends(user, "*", ts, &Payload::UserHello(hello), true);
        if self.users[user].is_observer {
            self.queue.after(ANSWER_PATIENCE_MS + 1_000, Event::Wake { user });
        }
    }

    pub(crate) fn user_sends(&mut self, user: UserNo, to: &str, ts: u64, payload: &Payload, is_signed: bool) {
        let User { id, key, session, .. } = &self.users[user];
        let Some(session) = session else { return };
        let Ok(to) = socp_proto::Address::try_from(to) else {
            return;
        };
        let draft = Draft::new(id, to, ts, payload);
        let parcel = if is_signed {
            Parcel::of(draft, key)
        } else {
            Parcel::read(&draft.sign(&[]).to_text())
        };
        match parcel {
            Ok(parcel) => {
                let item = Item::Frame(Rc::new(parcel));
                self.net.send(&mut self.queue, session.link, item);
            }
            Err(why) => self.oracle.broken(format!("u{user} says what is no frame: {why}")),
        }
    }

    /// A user shows that it holds its key.
    fn prove(&mut self, user: UserNo, challenge: Challenge) {
        let ts = self.user_unix(user);
        let proof = Proof {
            tls: None,
            nonce: challenge.nonce,
            server_id: challenge.server_id,
            key: challenge.server_pub.fingerprint().into(),
            by: Id::from(&self.users[user].id),
            hello: challenge.hello,
            ts,
        };
        self.user_sends(user, "*", ts, &Payload::Proof(proof), true);
    }

    /// A user goes offline: politely, shortly, or without a word.
    fn leave(&mut self, user: UserNo) {
        if self.is_resting {
            return;
        }
        let Some(session) = &self.users[user].session else {
            return;
        };
        let (host, link) = (session.host, session.link);
        let throw = self.user_dice.below(100);
        let now = self.queue.now();
        if throw < 40 {
            let ts = self.user_unix(user);
            self.user_sends(user, "*", ts, &Payload::CtrlClose(CtrlClose {}), false);
            self.net
                .send(&mut self.queue, link, Item::Close { wants_answer: false });
            self.oracle.on_unsettled(user, now + NEWS_MS);
        } else if throw < 80 || !self.may_vanish() {
            self.net
                .send(&mut self.queue, link, Item::Close { wants_answer: false });
            self.oracle.on_unsettled(user, now + NEWS_MS);
        } else {
            self.oracle.on_unsettled(user, now + VANISH_MS + NEWS_MS);
        }
        self.net.remove(link);
        self.tell(|| format!("u{user} leaves h{host}"));
        self.end_session(user);
    }

    /// A user gives its connection up.
    fn drop_session(&mut self, user: UserNo, why: &str) {
        if let Some(session) = &self.users[user].session {
            let (host, link) = (session.host, session.link);
            self.net.send(&mut self.queue, link, Item::Hangup);
            self.net.remove(link);
            self.tell(|| format!("u{user} gives up at h{host}: {why}"));
        }
        self.oracle.on_unsettled(user, self.queue.now() + NEWS_MS);
        self.end_session(user);
    }

    /// A user ends a connection at once, and says so.
    pub(crate) fn part(&mut self, user: UserNo) {
        let Some(session) = &self.users[user].session else {
            return;
        };
        let link = session.link;
        self.net
            .send(&mut self.queue, link, Item::Close { wants_answer: false });
        self.net.remove(link);
        self.oracle.on_unsettled(user, self.queue.now() + NEWS_MS);
        self.end_session(user);
    }

    fn end_session(&mut self, user: UserNo) {
        self.program_stops(user);
        let known = self.users[user]
            .session
            .take()
            .filter(|session| session.batches.is_told());
        self.users[user].kept = known.map(Box::new);
        self.oracle.on_gone(user);
        if self.users[user].is_observer {
            self.queue.after(2_000, Event::Wake { user });
        }
    }

    /// The connection of a user is found broken.
    pub(crate) fn on_user_gone(&mut self, user: UserNo, link: LinkId) {
        self.net.remove(link);
        if self.users[user]
            .session
            .as_ref()
            .is_some_and(|session| session.link == link)
        {
            self.tell(|| format!("u{user} is cut off"));
            self.oracle.on_unsettled(user, self.queue.now() + NEWS_MS);
            self.end_session(user);
        }
    }

    fn say(&mut self, user: UserNo) {
        if self.users[user].programs.is_some() {
            return self.write_to_somebody(user);
        }
        let others = self.users.len();
        let recipient = self.user_dice.index(others);
        // Mostly somebody who is there.
        let mut recipient = recipient;
        for _ in 0..20 {
            if self.oracle.is_attached(recipient) || self.user_dice.chance(5) {
                break;
            }
            recipient = self.user_dice.index(others);
        }
        if recipient == user || !self.is_reader(recipient) {
            return;
        }
        let ts = self.user_unix(user);
        let to = self.users[recipient].id.clone();
        let number = self.oracle.next_message();
        let User { id, key, .. } = &self.users[user];
        let text = format!("message {number} from {user} to {recipient}");
        let message = toys::direct((id.as_str(), key), to.as_str(), ts, text.as_bytes());
        let judge_at = self.oracle.on_said(self.queue.now(), user, recipient, ts, &message);
        if let Some(at) = judge_at {
            self.queue.at(at, Event::Judge { said: number });
        }
        self.user_sends(user, to.as_str(), ts, &Payload::MsgDirect(message), false);
    }

    /// One copy for every user that the server has shown, as PROTOCOL I.8 rules.
    fn say_to_all(&mut self, user: UserNo) {
        let Some(session) = &self.users[user].session else {
            return;
        };
        let shown = session.view.iter().enumerate().filter(|(_, server)| **server > 0);
        let members: Vec<UserNo> = shown
            .map(|(member, _)| member)
            .filter(|member| *member != user)
            .collect();
        let ts = self.user_unix(user);
        for member in members {
            let to = self.users[member].id.clone();
            let number = self.oracle.next_message();
            let User { id, key, .. } = &self.users[user];
            let text = format!("message {number} from {user} to all, for {member}");
            let message = toys::channel((id.as_str(), key), ts, text.as_bytes());
            let judge_at = self.oracle.on_said_to_all(self.queue.now(), user, member, ts, &message);
            if let Some(at) = judge_at {
                self.queue.at(at, Event::Judge { said: number });
            }
            self.user_sends(user, to.as_str(), ts, &Payload::MsgPublicChannel(message), false);
        }
    }

    pub(crate) fn ask_list(&mut self, user: UserNo, after: Option<UserId>) {
        if let Some(session) = &mut self.users[user].session {
            session.asked.push_back(self.queue.now());
            if after.is_none() {
                session.pages = Listed::default();
            }
        }
        let ts = self.user_unix(user);
        let request = ListRequest { after, limit: None };
        self.user_sends(user, "*", ts, &Payload::ListRequest(request), false);
    }

    /// Something from a server reaches its users.
    pub(crate) fn on_users_arrival(&mut self, links: &[LinkId], item: &UserItem) {
        let draft = match item {
            UserItem::Frame(draft) => draft,
            UserItem::Close => {
                for link in links {
                    if let Some(Party::User(user)) = self.net.end(*link).map(|end| end.party) {
                        self.net
                            .send(&mut self.queue, *link, Item::Close { wants_answer: false });
                        self.on_user_gone(user, *link);
                    }
                }
                return;
            }
        };
        if crate::node::is_change(draft.kind) {
            return self.on_pushed(links, draft);
        }
        if draft.kind == FrameKind::Presence {
            return self.on_batch(links, draft);
        }
        for link in links {
            if let Some(Party::User(user)) = self.net.end(*link).map(|end| end.party) {
                self.on_answer(user, *link, draft);
            }
        }
    }

    /// Presence as the server pushes it.
    fn on_pushed(&mut self, links: &[LinkId], draft: &Draft) {
        let field = |name: &str| draft.payload.get(name).and_then(serde_json::Value::as_str);
        let (Some(who), Some(server)) = (field("user_id"), field("server_id")) else {
            return self.oracle.broken("a server pushes presence without ids".to_owned());
        };
        let (Ok(who), Ok(server)) = (UserId::try_from(who), ServerId::try_from(server)) else {
            return self.oracle.broken("a server pushes presence with bad ids".to_owned());
        };
        let who = Shown {
            number: self.oracle.user_of(&who),
            at: self.oracle.server_number(&server),
            id: who,
            server,
        };
        let is_arrival = draft.kind == FrameKind::UserAdvertise;
        for link in links {
            if let Some(session) = self.session_at(*link) {
                session.show(&who, is_arrival);
            }
        }
    }

    /// The session whose end of a connection this is.
    fn session_at(&mut self, link: LinkId) -> Option<&mut Session> {
        let Some(Party::User(user)) = self.net.end(link).map(|end| end.party) else {
            return None;
        };
        let session = self.users[user].session.as_mut();
        session.filter(|session| session.link == link)
    }

    /// Presence as the server pushes it in batches: none may be missing.
    fn on_batch(&mut self, links: &[LinkId], draft: &Draft) {
        let batch = match Payload::parse(draft.kind, &draft.payload) {
            Ok(Payload::Presence(batch)) => batch,
            Ok(_) | Err(_) => return self.oracle.broken("a batch of presence is none".to_owned()),
        };
        let arrivals = batch.add.iter().map(|online| Shown {
            number: self.oracle.user_of(&online.user_id),
            at: self.oracle.server_number(&online.server_id),
            id: online.user_id.clone(),
            server: online.server_id.clone(),
        });
        let arrivals: Vec<Shown> = arrivals.collect();
        let departures = batch.remove.iter().map(|id| (self.oracle.user_of(id), id));
        let departures: Vec<_> = departures.collect();
        let mut listed = Vec::new();
        for link in links {
            let Some(session) = self.session_at(*link) else {
                continue;
            };
            if session.batches.take(&batch) != Step::Use {
                let host = session.host;
                return self
                    .oracle
                    .broken(format!("h{host} leaves out batches before number {}", batch.from_seq));
            }
            for who in &arrivals {
                session.show(who, true);
            }
            for (number, id) in &departures {
                session.show_gone(*number, id);
            }
            listed.extend(session.batches.take_everyone().map(|everyone| (*link, everyone)));
        }
        for (link, everyone) in listed {
            if everyone.len() < arrivals.len() {
                return self
                    .oracle
                    .broken("a list has fewer people than its last page".to_owned());
            }
            let numbers: BTreeSet<UserNo> = everyone.iter().filter_map(|id| self.oracle.user_of(id)).collect();
            if let Some(session) = self.session_at(link) {
                session.keep_only(&numbers, &everyone);
            }
        }
    }

    fn on_answer(&mut self, user: UserNo, link: LinkId, draft: &Draft) {
        let Some(session) = self.users[user].session.as_mut().filter(|session| session.link == link) else {
            return;
        };
        let host = session.host;
        let payload = match Payload::parse(draft.kind, &draft.payload) {
            Ok(payload) => payload,
            Err(why) => {
                return self
                    .oracle
                    .broken(format!("h{host} says what is no {:?}: {why}", draft.kind));
            }
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "a script skips what it did not ask for")]
        match payload {
            Payload::Ack(ack) if ack.msg_ref == "USER_HELLO" => {
                session.is_up = true;
                session.keeps = ack.caps.as_ref().is_some_and(|caps| caps.has(ACK));
                if !ack.caps.as_ref().is_some_and(|caps| caps.has(PRESENCE)) {
                    session.keep_only(&BTreeSet::new(), &BTreeSet::new()); // It tells everyone to the letter.
                }
                let until = self.queue.now() + NEWS_MS;
                self.oracle.on_attached(user, host, until);
                self.tell(|| format!("u{user} is at h{host}"));
                self.on_program_up(user);
            }
            Payload::Ack(ack) => self.on_program_ack(user, host, ack),
            Payload::Challenge(challenge) => self.prove(user, challenge),
            Payload::Error(notice) => self.on_user_error(user, host, &notice),
            Payload::UserDeliver(deliver) => self.on_delivery(user, host, draft, &deliver),
            Payload::MsgPublicChannel(message) => {
                let sender = UserId::from(draft.from.clone());
                let delivery = Delivery {
                    sender,
                    sender_pub: message.sender_pub,
                    ciphertext: message.ciphertext,
                    content_sig: message.content_sig,
                    ts: draft.ts,
                    is_for_all: true,
                    is_numbered: false,
                };
                let _shown = self.deliver(user, host, draft, &delivery);
            }
            Payload::PublicChannelUpdated(updated) => session.channel_version = Some(updated.version),
            Payload::ListResponse(response) => self.on_list(user, host, response),
            _ => {}
        }
    }

    fn on_user_error(&mut self, user: UserNo, host: Host, notice: &ErrorNotice) {
        let is_up = self.users[user].session.as_ref().is_some_and(|session| session.is_up);
        if !is_up {
            let why = format!("{} {}", notice.code, notice.detail);
            self.oracle.on_hello_refused(self.queue.now(), user, host, &why);
            return self.drop_session(user, &why);
        }
        self.on_program_error(user, notice);
        if notice.code == ErrorCode::UserNotFound {
            self.oracle.on_not_found(user, notice);
        } else if notice.seq.is_none() {
            self.oracle.on_user_error(self.queue.now(), user, host, notice);
        }
    }

    fn on_delivery(&mut self, user: UserNo, host: Host, draft: &Draft, deliver: &UserDeliver) {
        let delivery = Delivery {
            sender: deliver.sender.clone(),
            sender_pub: deliver.sender_pub.clone(),
            ciphertext: deliver.ciphertext.clone(),
            content_sig: deliver.content_sig.clone(),
            ts: deliver.ts.unwrap_or(draft.ts),
            is_for_all: false,
            is_numbered: deliver.seq.is_some(),
        };
        let number = self.deliver(user, host, draft, &delivery);
        self.on_program_mail(user, deliver.seq, number);
    }

    fn deliver(&mut self, user: UserNo, host: Host, draft: &Draft, delivery: &Delivery) -> Option<usize> {
        let life = self.nodes[host].life;
        let to = draft.to.as_str();
        self.oracle
            .on_delivered(self.queue.now(), (user, to), (host, life), delivery)
    }

    fn on_list(&mut self, user: UserNo, host: Host, response: ListResponse) {
        let Some(session) = &mut self.users[user].session else {
            return;
        };
        session.asked.pop_front();
        let last = response.users.last().cloned();
        if response.users.len() != response.online.len() {
            self.oracle
                .broken(format!("h{host} lists ids and users that differ in number"));
        }
        for online in response.online {
            session.pages.insert(online.user_id, online.server_id);
        }
        if let (true, Some(last)) = (response.more, last) {
            return self.ask_list(user, Some(last));
        }
        let listed = std::mem::take(&mut session.pages);
        self.oracle.on_list(self.queue.now(), user, host, &listed);
    }

    /// What every user has been shown agrees with the truth.
    pub(crate) fn audit_views(&mut self) {
        for user in 0..self.users.len() {
            let Some(session) = self.users[user].session.as_ref().filter(|session| session.is_up) else {
                continue;
            };
            self.oracle
                .on_view(self.queue.now(), user, session.host, &session.view, &session.strangers);
        }
    }

    /// What servers have told their observers of the group agrees.
    pub(crate) fn audit_versions(&mut self) {
        let told = self.versions();
        self.oracle.on_versions(&told);
    }

    /// Whether servers have told their observers different versions of the group.
    pub(crate) fn versions_differ(&self) -> bool {
        let told = self.versions();
        let mut versions = told.values();
        versions
            .next()
            .is_some_and(|first| versions.any(|other| other != first))
    }

    fn versions(&self) -> BTreeMap<Host, u64> {
        let observers = self.users.iter().filter(|user| user.is_observer);
        let sessions = observers.filter_map(|user| user.session.as_ref());
        let told = sessions.filter_map(|session| Some((session.host, session.channel_version?)));
        told.collect()
    }
}

/// Somebody as a server shows it.
struct Shown {
    /// None for whom nobody of the cast is.
    number: Option<UserNo>,
    id: UserId,
    /// The number of the server.
    at: u32,
    server: ServerId,
}

impl Session {
    /// Writes down that somebody is at a server, or not any more.
    fn show(&mut self, who: &Shown, is_arrival: bool) {
        match who.number {
            Some(number) => self.note(number, who.at, is_arrival),
            None if is_arrival => {
                self.strangers.insert(who.id.clone(), who.server.clone());
            }
            None => {
                if self.strangers.get(&who.id) == Some(&who.server) {
                    self.strangers.remove(&who.id);
                }
            }
        }
    }

    /// Writes down that somebody is nowhere.
    fn show_gone(&mut self, number: Option<UserNo>, id: &UserId) {
        match number {
            Some(number) => {
                if let Some(known) = self.view.get_mut(number) {
                    *known = 0;
                }
            }
            None => {
                self.strangers.remove(id);
            }
        }
    }

    /// Writes down that everybody else is nowhere.
    fn keep_only(&mut self, numbers: &BTreeSet<UserNo>, ids: &BTreeSet<UserId>) {
        for (number, known) in self.view.iter_mut().enumerate() {
            if !numbers.contains(&number) {
                *known = 0;
            }
        }
        self.strangers.retain(|id, _| ids.contains(id));
    }

    fn note(&mut self, user: UserNo, server: u32, is_arrival: bool) {
        if self.view.len() <= user {
            self.view.resize(user + 1, 0);
        }
        let known = &mut self.view[user];
        if is_arrival {
            *known = server + 1;
        } else if *known == server + 1 {
            *known = 0;
        }
    }
}

/// A pong reaches the server.
impl World {
    pub(crate) fn on_pong(&mut self, host: Host, link: LinkId) {
        if self.nodes[host].links.contains_key(&link) {
            self.feed(host, Input::Alive { link });
        }
    }
}
