//! The server: links, presence, routing, directory, health.
//!
//! [`Server`] owns everything that the network tells it and decides everything that the network is told. One section
//! of the specification is one module: `bootstrap` and `proof` §8.1, `presence` §8.2, `route` §8.3 and §10, `health`
//! §8.4 and §11, `directory`, `challenge`, `owner` and `handles` §9.1 and §13, `accounts` and `login` PROTOCOL II.9, `keys`
//! and `account` II.13. A link begins [`Link::New`]; its first frame makes it a peer's or a user's for good.

mod account;
mod accounts;
mod attempts;
mod batch;
mod bootstrap;
mod challenge;
mod channel;
mod contacts;
mod custody;
mod delegate;
mod delivered;
mod dial;
mod directory;
mod fault;
mod feed;
mod feeding;
mod former;
mod forward;
mod gossip;
mod handles;
mod health;
mod heard;
mod io;
mod kept;
mod keys;
mod link;
mod login;
mod mailbox;
mod mutation;
mod offer;
mod opaque;
mod outbound;
mod owner;
mod passed;
mod people;
mod presence;
mod proof;
mod quota;
mod relay;
mod roster;
mod route;
mod status;
mod successor;
mod telling;
mod timers;

#[cfg(test)]
mod tests;

pub use accounts::{KeptPassword, PasswordSet};
pub use delegate::seal_of;
pub use fault::{CloseCode, Fault};
pub use io::{
    Accept, BootstrapEntry, Config, Delivered, DialId, Directory, FirstFrame, Input, LinkId, Memory, Note, Output,
    Record, Role, SaveId, Seal, ServerPin, TlsSession, TlsWanted, UserRecord,
};
pub use kept::{
    DeviceRecord, Kept, Mail, MailItem, MailRow, MailboxMemory, Outbound, OutboundRow, Page, Shelf, outbound_bytes,
};
pub use mutation::Mutation;
pub use opaque::{LoginState, OpaqueDone, OpaqueWork};
pub use quota::Bucket;
pub use status::{LinkStatus, LinkWho, Status, UserStatus};

use crate::clock::{Mono, Now};
use crate::seen::SeenCache;
use crate::verified::Verified;
use accounts::Accounts;
use channel::Channel;
use custody::Waiting;
use delivered::DeliveredContent;
use dial::Dials;
use forward::Forwarding;
use gossip::{Budget, Departed};
use handles::Handles;
use io::AfterSave;
use link::{Link, PeerLink, Stage, UserLink};
use login::Logins;
use mailbox::Mailboxes;
use offer::Offers;
use outbound::Outbounds;
use passed::PassedOn;
use people::People;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use roster::{Audience, Rosters};
use socp_proto::limits::{ERROR_CODE_CHARS_MAX, ERROR_DETAIL_CHARS_MAX};
use socp_proto::payload::Deletion;
use socp_proto::{Address, Bytes32, Draft, ErrorCode, Frame, FrameKind, Payload, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use timers::{Timer, Timers};

/// The state machine of one server.
#[derive(Debug)]
pub struct Server {
    config: Config,
    rng: ChaCha8Rng,
    links: BTreeMap<LinkId, Link>,
    /// Links that are being closed for a fault: what still comes on them is ignored.
    given_up: BTreeSet<LinkId>,
    /// Links on which a server has introduced itself and must prove it.
    proving: BTreeSet<LinkId>,
    /// The link in use to each linked peer.
    peers: BTreeMap<ServerId, LinkId>,
    /// Keys and addresses of every server ever met; for life (SOCP §8.1).
    pins: BTreeMap<ServerId, ServerPin>,
    /// Keys of users whose home this is; for life (SOCP §13).
    records: BTreeMap<UserId, UserRecord>,
    /// Which names of theirs are whose.
    handles: Handles,
    accounts: Accounts,
    logins: Logins,
    people: People,
    channel: Channel,
    forwarding: Forwarding,
    offers: Offers,
    /// What each peer may say of users.
    budgets: BTreeMap<ServerId, Budget>,
    departed: Departed,
    /// Users of lost servers, of whom our users are still to be told.
    departing: BTreeSet<(UserId, ServerId)>,
    /// How often our users are told of refused keys.
    alarms: Bucket,
    passed_on: PassedOn,
    delivered: DeliveredContent,
    mailboxes: Mailboxes,
    outbounds: Outbounds,
    /// Who waits to hear what is kept.
    waiting: Waiting,
    /// The `ts` of our last word about our users.
    last_gossip_ts: u64,
    seen: SeenCache,
    dials: Dials,
    /// Links that are still being told who is there.
    tellings: BTreeMap<LinkId, telling::Telling>,
    rosters: Rosters,
    timers: Timers,
    after_save: BTreeMap<SaveId, AfterSave>,
    last_save: u64,
    /// Signatures asked for with `Output::Endorse` and what they are for.
    endorsing: BTreeMap<UserId, Vec<directory::Greeting>>,
    /// Records with newer keys that are still to be signed and stored.
    changing: BTreeMap<UserId, account::Change>,
    /// Whose account ends while peers are told that the user has left.
    departing_for_good: BTreeMap<UserId, Deletion>,
    /// How often our users are told of newer keys, and of ends, without being asked.
    key_news: Bucket,
    outputs: VecDeque<Output>,
    /// The wall clock at the last input or timeout.
    unix: u64,
    is_stopping: bool,
    /// When somebody who proved who they are last had the same time as we.
    clock_fitted: Option<Now>,
    #[cfg(feature = "mutations")]
    mutation: Option<Mutation>,
}

impl Server {
    /// A server that remembers what was durable, and starts to dial at `now`.
    #[must_use]
    pub fn new(now: Now, config: Config, memory: Memory) -> Self {
        let Memory {
            pins,
            users,
            passwords,
            channel_version,
            members,
            delivered,
            mailboxes,
            outbound,
        } = memory;
        let config_run = config.run;
        let mut server = Self {
            rng: ChaCha8Rng::from_seed(config.seed),
            config,
            links: BTreeMap::new(),
            given_up: BTreeSet::new(),
            proving: BTreeSet::new(),
            peers: BTreeMap::new(),
            pins: BTreeMap::new(),
            handles: Handles::new(users.iter()),
            accounts: Accounts::new(passwords),
            logins: Logins::new(),
            records: users
                .into_iter()
                .map(|record| (record.user_id.clone(), record))
                .collect(),
            people: People::default(),
            channel: Channel::new(channel_version, members),
            forwarding: Forwarding::default(),
            offers: Offers::default(),
            budgets: BTreeMap::new(),
            departed: Departed::default(),
            departing: BTreeSet::new(),
            alarms: Bucket::new(now.mono, 1, 10),
            passed_on: PassedOn::default(),
            delivered: DeliveredContent::new(delivered),
            mailboxes: Mailboxes::new(config_run, mailboxes),
            outbounds: Outbounds::new(outbound),
            waiting: Waiting::default(),
            clock_fitted: None,
            last_gossip_ts: 0,
            seen: SeenCache::new(),
            dials: Dials::default(),
            tellings: BTreeMap::new(),
            rosters: Rosters::new(now),
            timers: Timers::default(),
            after_save: BTreeMap::new(),
            last_save: 0,
            endorsing: BTreeMap::new(),
            changing: BTreeMap::new(),
            departing_for_good: BTreeMap::new(),
            key_news: Bucket::new(now.mono, 1, 10),
            outputs: VecDeque::new(),
            unix: now.unix,
            is_stopping: false,
            #[cfg(feature = "mutations")]
            mutation: None,
        };
        for pin in pins {
            server.trust(pin);
        }
        server.dial_everyone(now);
        server.timers.set(now.mono, Timer::Expire);
        server
    }

    /// The id this server has now; a join may have changed it.
    #[must_use]
    pub fn id(&self) -> &ServerId {
        &self.config.server_id
    }

    /// Takes one input. Drain [`Self::poll_output`] before the next.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.unix = now.unix;
        if self.is_stopping && !matches!(input, Input::Closed { .. }) {
            return;
        }
        if let Input::First { link, .. }
        | Input::Peer { link, .. }
        | Input::User { link, .. }
        | Input::Refused { link, .. } = &input
            && self.given_up.contains(link)
        {
            if matches!(input, Input::First { .. }) {
                // Behind what is ignored the end of the link may come.
                self.outputs.push_back(Output::Proceed { link: *link });
            }
            return;
        }
        match input {
            Input::Accepted { link, from, tls } => self.on_accepted(now, link, from, tls),
            Input::Dialled { dial, link, tls } => self.on_dialled(now, dial, link, tls),
            Input::DialFailed { dial, reason } => self.on_dial_failed(now, dial, reason),
            Input::First { link, first } => self.on_first(now, link, first),
            Input::Peer { link, frame } => self.on_peer_frame(now, link, frame),
            Input::User { link, frame, content } => self.on_user_frame(now, link, frame, content),
            Input::Refused { link, fault } => self.on_fault(now, link, &fault),
            Input::Flushed { link } => self.on_flushed(now, link),
            Input::Alive { link } => self.on_alive(now, link),
            Input::Closed { link } => self.on_closed(now, link),
            Input::Endorsed { user, sig } => self.on_endorsed(now, &user, sig),
            Input::Opaque { link, done } => self.on_opaque_done(now, link, done),
            Input::Fetched { link, kept } => self.on_fetched(now, link, kept),
            Input::PageRead { link, page } => self.on_page_read(now, link, page),
            Input::Saved { save } => self.on_saved(now, save),
            Input::SaveFailed { save, reason } => self.on_save_failed(now, save, reason),
            Input::Delegated { delegation } => self.on_delegated(now, delegation),
            Input::Unpin { server } => self.on_unpin(now, &server),
            Input::Stop => self.on_stop(now),
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        self.unix = now.unix;
        while let Some(timer) = self.timers.take_due(now.mono) {
            match timer {
                Timer::Hello(link) => self.on_hello_overdue(now, link),
                Timer::Heartbeat(link) => self.on_heartbeat_due(now, link),
                Timer::Silence(link) => self.on_silence_due(now, link),
                Timer::Ping(link) => self.on_ping_due(now, link),
                Timer::Dial(dial) => self.on_dial_due(dial),
                Timer::Stale(server) => self.on_stale(now, &server),
                Timer::Channel => self.on_channel_due(now),
                Timer::Report => self.on_report_due(now),
                Timer::Settled(link) => self.on_settled(now, link),
                Timer::Confirmed(link) => self.on_confirmed(now, link),
                Timer::Decide => self.on_decide_due(now),
                Timer::Offers => self.on_offers_due(now),
                Timer::Departing => self.on_departing_due(now),
                Timer::Roster(audience) => self.on_roster_due(now, audience),
                Timer::Damped(server) => self.on_damped_due(now, &server),
                Timer::Acks => self.on_acks_due(now),
                Timer::Feed(link) => self.on_feed_due(link),
                Timer::Expire => self.on_expire_due(now),
            }
        }
    }

    /// The next thing to do for the driver.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called, on the monotonic clock.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.timers.next_due()
    }

    fn on_accepted(&mut self, now: Now, link: LinkId, from: IpAddr, tls: Option<Bytes32>) {
        self.logins.set_source(link, from);
        let tls = tls.map(|binding| TlsSession {
            binding,
            is_certified: false,
        });
        self.open_link(now, link, None, tls);
    }

    fn open_link(&mut self, now: Now, link: LinkId, dial: Option<DialId>, tls: Option<TlsSession>) {
        self.links.insert(
            link,
            Link::New {
                dial,
                tries: 0,
                asks: 0,
                is_busy: false,
                stage: Stage::Silent,
                tls,
            },
        );
        self.timers.set(
            now.mono.saturating_add(socp_proto::limits::HELLO_WAIT_MAX_MS),
            Timer::Hello(link),
        );
    }

    /// What the driver computed of OPAQUE for a link, which is a user's or nobody's.
    fn on_opaque_done(&mut self, now: Now, link: LinkId, done: OpaqueDone) {
        match self.links.get(&link) {
            Some(Link::New { .. }) => self.on_login_done(now, link, done),
            Some(Link::User(_)) => self.on_registration_done(now, link, done),
            Some(Link::Peer(_)) | None => {}
        }
    }

    /// A frame from a link that belongs to a peer.
    fn on_peer_frame(&mut self, now: Now, link: LinkId, frame: Verified<Frame>) {
        let Some(Link::Peer(peer)) = self.links.get(&link) else {
            return;
        };
        let server = peer.server.clone();
        let signer = frame.by();
        let Frame { envelope, payload } = frame.into_inner();
        let origin = envelope.signer(&server);
        if self.pins.get(&origin).is_none_or(|pin| pin.key.fingerprint() != signer) {
            return self.on_fault(now, link, &bad_signature(envelope.kind, origin == server));
        }
        if origin != server && !passes_unchanged(envelope.kind) {
            return self.on_fault(now, link, &Fault::NotYours { kind: envelope.kind });
        }
        if let Some(Link::Peer(peer)) = self.links.get_mut(&link) {
            peer.last_heard = now.mono;
        }
        match payload {
            Payload::Heartbeat(heartbeat) => {
                self.on_want(&server, &heartbeat.want);
                self.on_have(now, &server, heartbeat.have);
                if let Some(peers) = heartbeat.peers {
                    self.on_links_told(now, &server, peers, heartbeat.beyond);
                }
            }
            Payload::Ack(ack) => self.on_peer_ack(now, link, &server, ack),
            Payload::Error(notice) => self.on_peer_error(now, link, &server, notice),
            Payload::CtrlClose(_) => self.give_up(now, link, CloseCode::Normal, "closed at your request"),
            Payload::ServerAnnounce(identity) | Payload::ServerHelloLink(identity) => {
                self.on_peer_announce(now, link, &server, identity);
            }
            Payload::UserAdvertise(advertise) => self.on_user_advertise(now, link, envelope, advertise),
            Payload::UserRemove(remove) => self.on_user_remove(now, link, envelope, remove),
            Payload::ServerPresence(batch) => self.on_server_presence(now, link, &envelope, batch),
            Payload::PresenceRequest(request) => self.on_peer_presence_request(now, link, request),
            Payload::ServerDeliver(deliver) => self.on_server_deliver(now, link, envelope, deliver),
            // Who joined elsewhere is known by presence; the version comes with it.
            Payload::PublicChannelAdd(_) => {}
            Payload::PublicChannelUpdated(updated) => self.on_channel_updated(now, updated.version),
            Payload::PublicChannelKeyShare(_)
            | Payload::MsgPublicChannel(_)
            | Payload::FileStart(_)
            | Payload::FileChunk(_)
            | Payload::FileEnd(_) => self.on_authored_elsewhere(now, link, &server, envelope, &payload),
            Payload::ServerWelcome(welcome) => self.on_more_servers(now, link, &server, welcome),
            Payload::ServerHelloJoin(_)
            | Payload::Challenge(_)
            | Payload::Proof(_)
            | Payload::UserHello(_)
            | Payload::KeyUpdate(_)
            | Payload::KeyNews(_)
            | Payload::AccountDelete(_)
            | Payload::ListRequest(_)
            | Payload::ListResponse(_)
            | Payload::PubkeyRequest(_)
            | Payload::PubkeyResponse(_)
            | Payload::Presence(_)
            | Payload::MsgDirect(_)
            | Payload::RegisterStart(_)
            | Payload::RegisterChallenge(_)
            | Payload::RegisterFinish(_)
            | Payload::LoginStart(_)
            | Payload::LoginChallenge(_)
            | Payload::LoginFinish(_)
            | Payload::LoginResult(_)
            | Payload::UserDeliver(_) => self.on_fault(now, link, &Fault::OutOfPlace { kind: envelope.kind }),
        }
    }

    /// A frame from a link that belongs to a user. `content` is the key that verified the content signature.
    fn on_user_frame(&mut self, now: Now, link: LinkId, frame: Frame, content: Option<socp_proto::Fingerprint>) {
        let Some(Link::User(user_link)) = self.links.get_mut(&link) else {
            return;
        };
        let Frame { envelope, payload } = frame;
        if envelope.from != user_link.user {
            return self.on_fault(now, link, &Fault::NotYours { kind: envelope.kind });
        }
        user_link.pings_unanswered = 0;
        match payload {
            Payload::MsgDirect(message) => self.on_msg_direct(now, link, &envelope, message, content),
            Payload::KeyUpdate(update) => self.on_key_update(now, link, update.statement, content),
            Payload::AccountDelete(delete) => self.on_account_delete(now, link, delete, content),
            Payload::ListRequest(request) => self.on_list_request(now, link, &request),
            Payload::PubkeyRequest(request) => self.on_pubkey_request(now, link, &request.user_id),
            Payload::CtrlClose(_) => self.give_up(now, link, CloseCode::Normal, "closed at your request"),
            Payload::PresenceRequest(request) => {
                if !self.on_presence_request(now, Audience::Users, link, request) {
                    self.on_fault(now, link, &Fault::OutOfPlace { kind: envelope.kind });
                }
            }
            Payload::RegisterStart(_) | Payload::RegisterFinish(_) => {
                let user = user_link.user.clone();
                self.on_registration(now, link, &user, (envelope.kind, payload));
            }
            Payload::Heartbeat(_) => {}
            Payload::Ack(ack) => self.on_user_ack(now, link, &ack),
            Payload::Error(notice) => self.note(Note::UserComplained {
                link,
                code: notice.code,
            }),
            Payload::ServerHelloJoin(_)
            | Payload::ServerHelloLink(_)
            | Payload::ServerWelcome(_)
            | Payload::ServerAnnounce(_)
            | Payload::KeyNews(_)
            | Payload::Challenge(_)
            | Payload::Proof(_)
            | Payload::UserAdvertise(_)
            | Payload::UserRemove(_)
            | Payload::Presence(_)
            | Payload::ServerPresence(_)
            | Payload::ServerDeliver(_)
            | Payload::UserHello(_)
            | Payload::ListResponse(_)
            | Payload::PubkeyResponse(_)
            | Payload::PublicChannelAdd(_)
            | Payload::PublicChannelUpdated(_)
            | Payload::RegisterChallenge(_)
            | Payload::LoginStart(_)
            | Payload::LoginChallenge(_)
            | Payload::LoginFinish(_)
            | Payload::LoginResult(_)
            | Payload::UserDeliver(_) => self.on_fault(now, link, &Fault::OutOfPlace { kind: envelope.kind }),
            Payload::MsgPublicChannel(_)
            | Payload::PublicChannelKeyShare(_)
            | Payload::FileStart(_)
            | Payload::FileChunk(_)
            | Payload::FileEnd(_) => self.on_authored(now, link, Frame { envelope, payload }, content),
        }
    }

    fn on_closed(&mut self, now: Now, link: LinkId) {
        self.given_up.remove(&link);
        self.lose_link(now, link);
    }

    /// A link is of no use any more.
    fn lose_link(&mut self, now: Now, link: LinkId) {
        self.tellings.remove(&link);
        self.rosters.forget(link);
        self.proving.remove(&link);
        self.accounts.forget_link(link);
        self.logins.forget_link(link);
        self.handles.take_refused(link);
        self.forwarding.forget(link);
        match self.links.remove(&link) {
            Some(Link::User(UserLink { user, .. })) => self.detach_user(now, link, &user),
            Some(Link::Peer(PeerLink { server, dial, .. })) => {
                if self.peers.get(&server) == Some(&link) {
                    self.lose_peer(now, &server, link);
                }
                self.redial_later(now, dial, Some(&server));
            }
            Some(Link::New { dial, .. }) => self.redial_later(now, dial, None),
            None => {}
        }
    }

    fn on_stop(&mut self, now: Now) {
        self.is_stopping = true;
        for user in self.people.local_users() {
            self.spread_departure(now, &user);
        }
        self.tell_peers_the_rest(now);
        let links: Vec<(LinkId, bool)> = self
            .links
            .iter()
            .map(|(link, state)| (*link, matches!(state, Link::Peer(_))))
            .collect();
        for (link, is_peer) in links {
            let code = if is_peer {
                CloseCode::Normal
            } else {
                CloseCode::GoingAway
            };
            self.outputs.push_back(Output::Close {
                link,
                code,
                reason: "the server is stopping",
            });
        }
        self.outputs.push_back(Output::Stopped);
    }

    fn send(&mut self, to: &[LinkId], now: Now, address: impl Into<Address>, payload: &Payload) {
        self.send_at(to, now.unix, address, payload);
    }

    fn send_at(&mut self, to: &[LinkId], ts: u64, address: impl Into<Address>, payload: &Payload) {
        if !to.is_empty() {
            let draft = Draft::new(&self.config.server_id, address, ts, payload);
            self.send_draft(to.to_vec(), draft);
        }
    }

    fn send_error(&mut self, now: Now, link: LinkId, code: ErrorCode, detail: String, msg_ref: Option<String>) {
        let is_native = self.links.get(&link).is_some_and(Link::is_native);
        let code = if is_native { code } else { code.for_stranger() };
        // Codes and details may be others' words on their way back to an author.
        let code = if let ErrorCode::Other(code) = code {
            ErrorCode::Other(code.chars().take(ERROR_CODE_CHARS_MAX).collect())
        } else {
            code
        };
        let address = self.links.get(&link).map_or_else(Address::everyone, Link::address);
        let detail = detail.chars().take(ERROR_DETAIL_CHARS_MAX).collect();
        let notice = socp_proto::payload::ErrorNotice {
            code,
            detail,
            msg_ref,
            seq: None,
        };
        self.send(&[link], now, address, &Payload::Error(notice));
    }

    /// Closes a link; what is already on its way here still counts.
    fn close(&mut self, link: LinkId, code: CloseCode, reason: &'static str) {
        self.outputs.push_back(Output::Close { link, code, reason });
    }

    fn note(&mut self, note: Note) {
        self.outputs.push_back(Output::Note(note));
    }

    fn save(&mut self, record: Record, then: AfterSave) {
        self.last_save = self.last_save.saturating_add(1);
        let save = SaveId(self.last_save);
        if !matches!(then, AfterSave::Nothing) {
            self.after_save.insert(save, then);
        }
        self.outputs.push_back(Output::Save { save, record });
    }

    fn on_saved(&mut self, now: Now, save: SaveId) {
        match self.after_save.remove(&save) {
            Some(AfterSave::Greet(greeting)) => self.admit_user(now, greeting),
            Some(AfterSave::Follow(user)) => self.on_change_saved(now, &user),
            Some(AfterSave::Forget { link, user, deletion }) => self.on_deleted(now, link, &user, *deletion),
            Some(AfterSave::Answer { link, reply, .. }) => self.answer_newcomer(now, link, reply),
            Some(AfterSave::Registered {
                link,
                user,
                keys,
                record,
            }) => self.on_registered(now, link, user, keys, record),
            Some(AfterSave::Kept(custody)) => self.on_kept(now, &custody),
            Some(AfterSave::Nothing) | None => {}
        }
    }

    /// What is not on disk does not count: a key that could not be stored is not bound.
    fn on_save_failed(&mut self, now: Now, save: SaveId, reason: String) {
        self.note(Note::SaveFailed { reason });
        let why = "this server cannot store your key now";
        match self.after_save.remove(&save) {
            Some(AfterSave::Greet(greeting)) => {
                self.unbind_unsaved(&greeting);
                self.restore_handle(greeting.user());
                self.proceed(greeting.link);
                self.give_up(now, greeting.link, CloseCode::InternalError, why);
            }
            Some(AfterSave::Follow(user)) => self.drop_change(now, &user, why),
            Some(AfterSave::Forget { link, .. }) => {
                let (code, what) = (ErrorCode::Timeout, FrameKind::AccountDelete.name().to_owned());
                let why = "this server cannot forget you now; try again later";
                self.send_error(now, link, code, why.to_owned(), Some(what));
            }
            Some(AfterSave::Answer {
                link, server, before, ..
            }) => {
                match before {
                    // It is saved again when the server comes again.
                    Some(pin) => self.trust(*pin),
                    None => {
                        self.pins.remove(&server);
                        self.outputs.push_back(Output::Distrust { server });
                    }
                }
                self.give_up(now, link, CloseCode::InternalError, why);
            }
            Some(AfterSave::Registered { link, .. }) => {
                let why = "this server cannot store your password now; the one before stays";
                self.on_registration_unsaved(now, link, why);
            }
            Some(AfterSave::Kept(custody)) => self.on_not_kept(now, &custody),
            Some(AfterSave::Nothing) | None => {}
        }
    }

    /// Tells the driver that the first frame of a link has had its answer.
    fn proceed(&mut self, link: LinkId) {
        if let Some(Link::New { is_busy, .. }) = self.links.get_mut(&link) {
            *is_busy = false;
        }
        self.outputs.push_back(Output::Proceed { link });
    }

    fn is_fresh(&self, now: Now, ts: u64) -> bool {
        ts.saturating_add(self.config.clock_behind_ms) >= now.unix
            && ts <= now.unix.saturating_add(self.config.clock_ahead_ms)
    }
}

/// Kinds that a peer may pass on with their origin's `from` and `sig` (PROTOCOL I.2).
fn passes_unchanged(kind: FrameKind) -> bool {
    matches!(
        kind,
        FrameKind::UserAdvertise | FrameKind::UserRemove | FrameKind::ServerDeliver
    )
}

/// A signature that does not fit the pinned key: the peer's fault only where it speaks for itself.
fn bad_signature(kind: FrameKind, is_own: bool) -> Fault {
    if is_own {
        Fault::Signature { kind }
    } else {
        Fault::UnknownOrigin { kind }
    }
}
