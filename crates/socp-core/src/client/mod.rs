//! The client: session, direct messages, the public channel, files, first-use pins (SOCP §9.1 to §9.4, §13).
//!
//! One [`Client`] is one user on one server. The driver owns the socket, the keys and the disk: it signs every
//! [`Draft`](socp_proto::Draft), checks every signature before a frame comes in, encrypts and decrypts. What the client
//! decides is whom to believe. The server's key and every user's key are pinned at first sight and never replaced by
//! anything the network says; a message is verified with the pinned key of its sender, whatever key it carries.
//!
//! SOCP v1.3 acknowledges no messages. A server answers the requests of one link in order, so each message is followed
//! by a `PUBKEY_REQUEST` as a fence: once that is answered and no `ERROR` came before, the server has taken the message.
//!
//! | module | what |
//! |---|---|
//! | [`io`] | what goes in and comes out |
//! | [`fault`] | why something failed |
//! | `session` | hello, the server's pin |
//! | `people` | who is online, finding a user by name |
//! | [`alarm`] | other keys than those, the hard stop |
//! | [`trust`] | how far somebody can be relied on, beside every name |
//! | `names` | whose names look alike |
//! | `pins` | keys of users at first sight, and how they go on |
//! | `observe` | what keys lead to that somebody shows |
//! | `account` | changing our own account |
//! | `direct` | messages on their way out |
//! | [`channel`] | messages to the public channel on their way out |
//! | `inbox` | messages on their way in |
//! | [`sending`], [`receiving`] | files on their way out, and in |
//! | [`file_io`] | what the two ask of the driver, and tell |
//! | `files` | what the two share |
//! | `password` | setting the account's password |
//! | [`post_io`], `post` | what acknowledged messages ask of the history; how their parts go together |
//! | `posts`, `mailbox` | such messages on their way out, and in |
//! | `held` | messages that cannot be opened yet |
//! | `former` | signing keys that were replaced |
//! | `words`, `numbers` | receipts and what never came; which texts have come |
//! | `recent` | what was called sent lately |
//! | `asks` | key requests not yet answered |

mod account;
pub mod alarm;
pub mod channel;
pub mod fault;
pub mod file_io;
pub mod io;
pub mod post_io;
pub mod receiving;
pub mod sending;
pub mod trust;

mod around;
mod asks;
mod direct;
mod files;
mod former;
mod held;
mod inbox;
mod mailbox;
mod names;
mod numbers;
mod observe;
mod outbox;
mod password;
mod people;
mod pins;
mod post;
mod posts;
mod recent;
mod session;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test picks out one kind")]
mod testkit;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test picks out one kind")]
mod tests;
mod words;

pub use crate::batches::{Batches, Step};
pub use alarm::{Alarm, Teller, TrustNews, TrustRecord};
pub use channel::ChannelReport;
pub use fault::{AccountFault, OpenFault, PasswordFault, ResolveError, Stop, TellFault};
pub use file_io::{
    FileDone, FileFault, FileNews, FileProgress, FileReport, FileStage, FileWork, SealChunk, SendFault, Source, Target,
};
pub use former::{FORMER_KEY_KEPT_MS, FORMER_KEY_SLACK_MS};
pub use io::{
    AccountChange, Command, Config, Event, FormerKey, Input, Message, Output, Person, Place, Program, Sealed, SentRef,
    ServerPin, Ticket, UserPin,
};
pub use numbers::{Fit, Numbers};
pub use people::resolve;
pub use post_io::{
    Arrived, Change, Deposit, Gap, Held, Making, Number, Outcome, Owed, PostDone, PostId, PostNews, PostState,
    PostWork, Unanswered,
};
pub use trust::{Standing, Trust};

use crate::clock::{Mono, Now};
use crate::verified::Verified;
use account::Account;
use alarm::Alarms;
use around::Around;
use asks::{Asks, Why};
use channel::Channel;
use direct::Direct;
use files::Files;
use held::Waiting;
use inbox::Inbox;
use mailbox::Mailbox;
use names::Likenesses;
use outbox::Outbox;
use password::Passwords;
use people::{People, shown_with_key};
use pins::{Pins, Shown};
use posts::Posts;
use recent::Recent;
use session::Session;
use socp_proto::limits::{CONTACTS_ASKED_COUNT_MAX, LOCAL_USERS_COUNT_MAX, REMOTE_USERS_COUNT_MAX};
use socp_proto::payload::{
    ChannelMessage, ErrorNotice, KeyNews, KeyUpdate, OnlineUser, PRESENCE, PubkeyResponse, UserAdvertise, UserRemove,
};
use socp_proto::{ACK, CONTACTS, Envelope, ErrorCode, Fingerprint, Frame, FrameKind, Payload, UserId};
use words::Words;

/// An answer that has not come after this long will not come (our choice).
pub const ANSWER_WAIT_MAX_MS: u64 = 15_000;
/// Most users that one client pins or lists (our choice).
pub const USERS_COUNT_MAX: usize = 350_000;
const _: () = assert!(USERS_COUNT_MAX >= LOCAL_USERS_COUNT_MAX + REMOTE_USERS_COUNT_MAX);
/// Messages that wait for their sender's key (our choice).
pub const HELD_COUNT_MAX: usize = 64;
/// Own messages that wait for the server (our choice).
pub const OUTGOING_COUNT_MAX: usize = 4_096;

/// Newer keys that are asked for at once when a server's list names them (our choice).
const NEWER_KEYS_COUNT_MAX: usize = 64;
/// How long leaving waits for words that are being signed (our choice).
const LAST_WORDS_WAIT_MAX_MS: u64 = 2_000;

/// One user's end of a link, without clock, socket or key.
#[derive(Debug)]
pub struct Client {
    out: Outbox,
    session: Session,
    people: People,
    pins: Pins,
    likenesses: Likenesses,
    asks: Asks,
    direct: Direct,
    channel: Channel,
    files: Files,
    inbox: Inbox,
    account: Account,
    recent: Recent,
    passwords: Passwords,
    posts: Posts,
    mailbox: Mailbox,
    words: Words,
    waiting: Waiting,
    /// We want to leave, at the latest then.
    leave_by: Option<Mono>,
}

impl Client {
    /// Makes a client that is not connected.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let out = Outbox::new(config.user.clone(), config.server.as_ref());
        Self {
            out,
            files: Files::new(config.user.clone(), config.keys.pubkey.clone(), config.files_max),
            inbox: Inbox::new(config.user),
            direct: Direct::new(config.keys.pubkey.clone()),
            posts: Posts::new(config.keys.pubkey.clone(), config.is_acknowledged),
            mailbox: Mailbox::new(config.mailbox),
            words: Words::new(config.keys.pubkey.clone(), config.voice),
            channel: Channel::new(config.keys.pubkey.clone()),
            recent: Recent::default(),
            passwords: Passwords::default(),
            account: Account::default(),
            session: Session::new(
                (config.keys, config.history),
                config.meta,
                config.program,
                config.server,
            ),
            people: People::default(),
            likenesses: Likenesses::of(config.pins.iter()),
            pins: Pins::new(config.pins, Alarms::new(config.trust)),
            asks: Asks::default(),
            waiting: Waiting::default(),
            leave_by: None,
        }
    }

    /// Takes one input; the outputs must be drained before the next.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Connected { tls } => {
                let known = (self.people.known_presence(), self.mailbox.request());
                self.session.on_connected(now, tls, known, &mut self.out);
            }
            Input::Disconnected { reason } => self.on_disconnected(now, reason),
            Input::Frame(frame) => self.on_frame(now, frame),
            Input::Unverified(frame) => self.on_unverified(now, &frame),
            Input::Bad { reason } => self.out.notice(None, format!("ignored what the server sent: {reason}")),
            Input::Command(command) => self.on_command(now, command),
            Input::Sealed {
                place: Place::Direct,
                ticket,
                result,
            } => {
                self.direct
                    .on_sealed(now, ticket, result, &mut self.asks, &mut self.out);
            }
            Input::Sealed {
                place: Place::Channel,
                ticket,
                result,
            } => self.in_channel(now, |channel, around| channel.on_sealed(ticket, result, around)),
            Input::Sealed {
                place: Place::Word,
                ticket,
                result,
            } => self.words.on_sealed(ticket, result, &self.pins, &mut self.out),
            Input::Opened { ticket, result } => {
                let cards = self.inbox.on_opened(now, ticket, result, &self.pins, &mut self.out);
                for (author, card) in cards {
                    self.on_card(now, &author, card);
                }
            }
            Input::Vouched {
                user,
                keys,
                history,
                by,
            } => self.on_vouched(now, &user, (keys, history), by),
            Input::Decided { trust, pins } => self.on_decided(trust, pins),
            Input::File(done) => self.in_files(now, |files, around| files.on_done(done, around)),
            Input::Post(done) => self.on_post(now, done),
        }
        self.pump(now);
        self.leave_when_all_is_said(now);
    }

    /// Goes on with whatever is done in portions.
    fn pump(&mut self, now: Now) {
        self.in_channel(now, Channel::pump);
        self.in_files(now, Files::pump);
        if self.session.is_online() {
            self.in_files(now, Files::say_words);
        }
        self.pump_post(now, self.leave_by.is_some());
    }

    fn in_channel<T>(&mut self, now: Now, act: impl FnOnce(&mut Channel, &mut Around<'_>) -> T) -> T {
        let (channel, _, mut around) = self.senders(now);
        act(channel, &mut around)
    }

    fn in_files<T>(&mut self, now: Now, act: impl FnOnce(&mut Files, &mut Around<'_>) -> T) -> T {
        let (_, files, mut around) = self.senders(now);
        act(files, &mut around)
    }

    /// The parts that send to many, and what they need of the others.
    fn senders(&mut self, now: Now) -> (&mut Channel, &mut Files, Around<'_>) {
        let around = Around {
            now,
            pins: &self.pins,
            people: &self.people,
            asks: &mut self.asks,
            out: &mut self.out,
        };
        (&mut self.channel, &mut self.files, around)
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Now) {
        self.session.on_timeout(now, &mut self.out);
        self.people.on_timeout(now, &self.pins, &mut self.out);
        self.passwords.on_timeout(now, &mut self.out);
        self.account.on_timeout(now, &mut self.out);
        for (user, why) in self.asks.take_expired(now) {
            match why {
                Why::Key => self.on_no_key(now, &user, &TellFault::NoAnswer),
                Why::Fence(ticket) => self.direct.fail(ticket, TellFault::NoAnswer, &mut self.out),
                Why::Copies(number) => self.channel.on_no_fence(number),
                Why::File(number) => self.files.sending.on_no_fence(number),
                Why::Void => {}
            }
        }
        self.in_files(now, Files::on_timeout);
        self.pump(now);
        self.leave_when_all_is_said(now);
    }

    /// Leaves once everybody who waits for a word about their file has had it, after a moment, or at once where nobody
    /// can be told.
    fn leave_when_all_is_said(&mut self, now: Now) {
        let Some(leave_by) = self.leave_by else { return };
        let is_busy = self.files.has_words() || self.words.is_busy() || self.mailbox.is_busy() || self.posts.is_busy();
        if now.mono >= leave_by || !self.session.is_online() || !is_busy {
            self.leave_by = None;
            self.session.close(now, &mut self.out);
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let mut output = self.out.pop()?;
        if let Output::Event(event) = &mut output {
            trust::mark(event, self.out.user(), &self.pins, &self.likenesses);
        }
        Some(output)
    }

    /// With whom nothing goes on until the user has decided.
    pub fn alarmed(&self) -> impl Iterator<Item = &UserId> {
        self.pins.alarms.users()
    }

    /// Whether the server that has let us in takes key histories (PROTOCOL II.13).
    #[must_use]
    pub fn takes_histories(&self) -> bool {
        self.session.takes_histories()
    }

    /// When [`Client::handle_timeout`] wants to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        let waits = [
            self.session.deadline(),
            self.people.deadline(),
            self.asks.deadline(),
            self.files.deadline(),
            self.passwords.deadline(),
            self.account.deadline(),
            self.posts.deadline(),
            self.mailbox.deadline(),
            self.words.deadline(),
            self.leave_by,
        ];
        waits.into_iter().flatten().min()
    }

    fn on_disconnected(&mut self, now: Now, reason: String) {
        self.session.on_disconnected();
        self.asks.clear();
        self.passwords.on_disconnected(&mut self.out);
        self.account.on_disconnected(&mut self.out);
        self.direct.on_disconnected(&mut self.out);
        self.posts.on_disconnected(&mut self.out);
        self.mailbox.on_disconnected();
        self.words.on_disconnected();
        self.channel.on_disconnected();
        self.in_files(now, Files::on_disconnected);
        self.inbox.on_disconnected(&mut self.out);
        self.people.on_disconnected(&self.pins, &mut self.out);
        self.out.event(Event::Offline { reason });
    }

    fn on_command(&mut self, now: Now, command: Command) {
        match command {
            Command::Tell { ticket, to, text } if self.posts.takes(self.session.is_online()) => {
                self.posts.tell(ticket, (to, text), &self.pins, &mut self.out);
            }
            Command::Tell { ticket, to, text } => {
                let online = self.session.is_online();
                self.direct.tell(
                    now,
                    direct::Tell { ticket, to, text },
                    online,
                    &self.pins,
                    &mut self.asks,
                    &mut self.out,
                );
            }
            Command::TellAll { ticket, text } => {
                let online = self.session.is_online();
                self.channel.tell_all(now, ticket, text, online, &mut self.out);
            }
            Command::List { ticket } => self.people.list(ticket, &self.pins, &mut self.out),
            Command::Resolve { ticket, text } if !self.session.is_online() && self.posts.takes(false) => {
                // What is written now waits here, so whoever is known can be meant.
                self.people.resolve_known(ticket, &text, &self.pins, &mut self.out);
            }
            Command::Resolve { ticket, text } => self.people.resolve_later(ticket, text, &self.pins, &mut self.out),
            Command::SendFile {
                ticket,
                target,
                source,
                seed,
            } => {
                let online = self.session.is_online();
                let file = sending::SendFile {
                    ticket,
                    target,
                    source,
                    seed,
                };
                self.files.sending.send_file(file, online, &mut self.out);
            }
            Command::BeginPassword { ticket, request } => {
                let who = (ticket, self.session.is_online());
                self.passwords.begin(now, who, request, &mut self.out);
            }
            Command::FinishPassword { ticket, finish } => {
                self.passwords.finish(now, ticket, *finish, &mut self.out);
            }
            Command::ChangeAccount { ticket, change } => {
                let payload = match change {
                    AccountChange::Keys(statement) => Payload::KeyUpdate(KeyUpdate { statement: *statement }),
                    AccountChange::Delete(delete) => Payload::AccountDelete(delete),
                };
                let is_able = self.session.takes_histories();
                self.account.ask(now, ticket, &payload, is_able, &mut self.out);
            }
            Command::Close => {
                self.in_files(now, Files::on_close);
                self.leave_by = Some(now.mono.saturating_add(LAST_WORDS_WAIT_MAX_MS));
            }
        }
    }

    /// A frame whose transport signature fits some key; whether that key is the server's is decided here.
    fn on_frame(&mut self, now: Now, frame: Verified<Frame>) {
        let by = frame.by();
        let frame = frame.into_inner();
        if self.session.is_waiting() {
            return self.on_hello_answer(now, &frame, Some(by));
        }
        if !self.session.is_online() {
            return;
        }
        if !self.session.trusts(by) {
            return self.on_unverified(now, &frame);
        }
        if matches!(
            frame.envelope.kind,
            FrameKind::FileStart | FrameKind::FileChunk | FrameKind::FileEnd
        ) {
            return self.in_files(now, |files, around| files.on_frame(frame, around));
        }
        self.on_word(now, frame);
    }

    /// A frame of our server that is no part of a file.
    fn on_word(&mut self, now: Now, frame: Frame) {
        match frame.payload {
            Payload::ListResponse(page) => {
                self.note_versions(now, &page.online);
                self.people.on_page(now, page, &self.pins, &mut self.out);
            }
            Payload::UserAdvertise(advert) => self.on_advertise(now, advert),
            Payload::UserRemove(remove) => self.on_remove(now, &remove),
            Payload::Presence(presence) => {
                self.note_versions(now, &presence.add);
                self.people.on_presence(now, presence, &self.pins, &mut self.out);
            }
            Payload::KeyNews(news) => self.on_key_news(now, &news),
            Payload::PubkeyResponse(answer) => self.on_pubkey(now, answer),
            Payload::UserDeliver(message) => {
                self.mailbox.begin(message.seq);
                let head = inbox::Head {
                    now,
                    to: frame.envelope.to,
                    ts: frame.envelope.ts,
                };
                let known = (&self.pins, &self.people);
                self.inbox
                    .on_deliver(head, message, known, &mut self.asks, &mut self.out);
            }
            Payload::MsgPublicChannel(message) => self.on_channel_copy(now, frame.envelope, message),
            Payload::Error(error) if self.on_message_refused(now, &error) => {}
            Payload::Error(error) => self.on_error(now, &error),
            Payload::RegisterChallenge(challenge) => self.passwords.on_challenge(challenge, &mut self.out),
            Payload::Ack(ack) => {
                self.passwords.on_ack(&ack, &mut self.out);
                self.account.on_ack(&ack, &mut self.out);
                self.on_message_ack(ack);
            }
            Payload::CtrlClose(_)
            | Payload::RegisterStart(_)
            | Payload::RegisterFinish(_)
            | Payload::LoginStart(_)
            | Payload::LoginChallenge(_)
            | Payload::LoginFinish(_)
            | Payload::LoginResult(_)
            | Payload::Heartbeat(_)
            | Payload::ServerHelloJoin(_)
            | Payload::ServerHelloLink(_)
            | Payload::ServerWelcome(_)
            | Payload::Challenge(_)
            | Payload::Proof(_)
            | Payload::ServerAnnounce(_)
            | Payload::ServerDeliver(_)
            | Payload::UserHello(_)
            | Payload::KeyUpdate(_)
            | Payload::AccountDelete(_)
            | Payload::ListRequest(_)
            | Payload::ServerPresence(_)
            | Payload::PresenceRequest(_)
            | Payload::PubkeyRequest(_)
            | Payload::MsgDirect(_)
            // Nothing here rests on the channel's version or on its keys: every copy is for its reader alone.
            | Payload::PublicChannelAdd(_)
            | Payload::PublicChannelUpdated(_)
            | Payload::PublicChannelKeyShare(_) => {}
            Payload::FileStart(_) | Payload::FileChunk(_) | Payload::FileEnd(_) => {}
        }
    }

    fn on_channel_copy(&mut self, now: Now, envelope: Envelope, message: ChannelMessage) {
        let head = inbox::Head {
            now,
            to: envelope.to,
            ts: envelope.ts,
        };
        let (author, known) = (UserId::from(envelope.from), (&self.pins, &self.people));
        self.inbox
            .on_channel(head, author, message, known, &mut self.asks, &mut self.out);
    }

    /// Nothing in such a frame is acted on, but a refused hello may say so without proof.
    fn on_unverified(&mut self, now: Now, frame: &Frame) {
        if self.session.is_waiting() {
            return self.on_hello_answer(now, frame, None);
        }
        if self.session.is_online() {
            let kind = frame.envelope.kind.name();
            let text = format!("ignored a {kind} that is not signed with the server's key");
            self.out.notice(None, text);
        }
    }

    fn on_hello_answer(&mut self, now: Now, frame: &Frame, by: Option<Fingerprint>) {
        if let Payload::Ack(ack) = &frame.payload {
            if self.session.on_ack(ack, by, &mut self.out) {
                self.passwords.on_online(ack.server_id.clone(), ack.caps.as_ref());
                self.pins.set_follows(self.session.takes_histories());
                // Who takes batches is told everyone without asking.
                let tells_everyone = ack.caps.as_ref().is_some_and(|caps| caps.has(PRESENCE));
                if ack.caps.as_ref().is_some_and(|caps| caps.has(CONTACTS)) {
                    self.ask_for_acquaintances(now);
                }
                self.on_online_post(ack.caps.as_ref().is_some_and(|caps| caps.has(ACK)));
                self.recheck_all();
                if tells_everyone {
                    self.people.await_everyone(now);
                } else {
                    self.people.start_listing(now, &mut self.out);
                }
            }
        } else if let Payload::Challenge(challenge) = &frame.payload {
            let from = &frame.envelope.from;
            self.session.on_challenge(now, from, challenge, by, &mut self.out);
        } else if let Payload::Error(error) = &frame.payload {
            self.session
                .on_error(now, &frame.envelope.from, error, by, &mut self.out);
        }
    }

    /// The server shows us only whom we know (PROTOCOL II.12); whose id we have, we know.
    fn ask_for_acquaintances(&mut self, now: Now) {
        let pinned = self.pins.iter().map(|pin| &pin.user);
        let known = self.pins.alarms.expected_users().chain(pinned);
        let known: Vec<UserId> = known.take(CONTACTS_ASKED_COUNT_MAX).cloned().collect();
        for user in known {
            self.asks.ask_key(now, &user, &mut self.out);
        }
    }

    fn on_advertise(&mut self, now: Now, advert: UserAdvertise) {
        let keys = advert.pubkey.clone().map(|pubkey| Shown {
            pubkey,
            enc_pubkey: advert.enc_pubkey.clone(),
            history: advert.history.clone(),
        });
        let user = advert.user_id.clone();
        let (acks, home) = (advert.caps.as_ref().map(|caps| caps.has(ACK)), advert.server_id.clone());
        self.people.on_advertise(advert, &mut self.out);
        if let Some(keys) = keys {
            self.observe(now, &user, keys, None);
        }
        self.note_program(&user, acks, Some(home));
    }

    fn on_remove(&mut self, now: Now, remove: &UserRemove) {
        // Of whom nothing is pinned nobody knows whose word it is.
        let pin = self.pins.get(&remove.user_id).filter(|pin| !pin.revoked);
        let deletion = remove.deletion.as_ref();
        let is_for_good = pin
            .zip(deletion)
            .is_some_and(|(pin, word)| word.holds(&pin.pubkey, now.unix));
        if is_for_good {
            let person = self.people.describe(&remove.user_id, &self.pins);
            let text = format!("{} deleted their account", person.label());
            self.out.notice(Some(remove.user_id.clone()), text);
        }
        self.people.on_remove(remove, &mut self.out);
    }

    /// Somebody has other keys. Of whom nothing is pinned the keys are asked for when they are needed.
    fn on_key_news(&mut self, now: Now, news: &KeyNews) {
        if self.pins.get(&news.user_id).is_some() {
            let keys = Shown::newest_of(&news.history);
            self.observe(now, &news.user_id, keys, None);
        }
    }

    /// Those with newer keys than the pinned ones, or for whose key something waits: some are asked for now, the others
    /// when they are needed.
    fn note_versions(&mut self, now: Now, users: &[OnlineUser]) {
        let mut asked = 0_usize;
        for user in users {
            let is_newer = user
                .version
                .is_some_and(|version| self.pins.note_version(&user.user_id, version));
            let is_missing = self.waiting.is_for(&user.user_id) && self.pins.get(&user.user_id).is_none();
            if (is_newer || is_missing) && asked < NEWER_KEYS_COUNT_MAX {
                asked = asked.saturating_add(1);
                self.asks.ask_key(now, &user.user_id, &mut self.out);
            }
        }
    }

    fn on_pubkey(&mut self, now: Now, answer: PubkeyResponse) {
        let why = self.asks.on_answer(&answer.user_id);
        let shown = shown_with_key(&answer);
        let user = answer.user_id;
        let is_first = self.pins.get(&user).is_none();
        let (acks, home) = (answer.caps.as_ref().map(|caps| caps.has(ACK)), answer.server_id.clone());
        let (is_revoked, enc_pubkey, history) = (answer.revoked, answer.enc_pubkey, answer.history);
        let fault = match answer.pubkey {
            // Without a history it is the server's word alone.
            Some(_) if is_revoked && history.is_none() => Some(TellFault::Withdrawn(user.clone())),
            Some(pubkey) => {
                let keys = Shown {
                    pubkey,
                    enc_pubkey,
                    history,
                };
                self.observe(now, &user, keys, Some(&shown))
            }
            None => Some(TellFault::UnknownUser(user.clone())),
        };
        self.note_program(&user, acks, home);
        match (why, fault) {
            // The user may have left since; the message was taken all the same.
            (Some(Why::Fence(ticket)), None | Some(TellFault::UnknownUser(_))) => {
                self.direct.on_fence(ticket, &mut self.recent, &mut self.out);
            }
            (Some(Why::File(number)), _) => self.in_files(now, |files, around| files.sending.on_fence(number, around)),
            (Some(Why::Copies(number)), _) => self.channel.on_fence(number, &mut self.recent),
            (Some(Why::Fence(ticket)), Some(fault)) => self.direct.fail(ticket, fault, &mut self.out),
            (Some(Why::Key), Some(fault)) => self.on_no_key(now, &user, &fault),
            (Some(Why::Key), None) => {
                if is_first {
                    self.out.push(Output::AskElsewhere(user.clone()));
                }
                match self.pins.refusal(&user) {
                    Some(fault) => self.on_no_key(now, &user, &fault),
                    None => self.on_key(now, &user),
                }
            }
            (Some(Why::Void) | None, _) => {}
        }
    }

    fn on_key(&mut self, now: Now, user: &UserId) {
        self.direct.on_key(now, user, &self.pins, &mut self.out);
        self.posts.on_key(user);
        self.in_channel(now, |channel, around| channel.on_key(user, around));
        self.in_files(now, |files, around| files.sending.on_key(user, around));
        self.files.receiving.on_key(user, &self.pins, &mut self.out);
        // What waits in the history came before what waits here.
        if !self.recheck(user, false) {
            self.inbox.on_key(user, &self.pins, &self.people, &mut self.out);
        }
    }

    fn on_no_key(&mut self, now: Now, user: &UserId, fault: &TellFault) {
        self.direct.on_no_key(user, fault, &mut self.out);
        self.channel.on_no_key(user, fault);
        self.files.sending.on_no_key(user, fault);
        self.files.receiving.on_no_key(user, &fault.to_string(), &mut self.out);
        self.posts.on_no_key(now, user, fault, &self.pins, &mut self.out);
        self.on_no_key_to_open(now, user, fault);
    }

    /// An `ERROR` is never answered (SOCP §9.5). One that names no message casts doubt on all that are under way.
    fn on_error(&mut self, now: Now, error: &ErrorNotice) {
        if self.passwords.on_error(error, &mut self.out) {
            return;
        }
        let about_user = UserId::try_from(error.detail.as_str()).ok();
        match (&error.msg_ref, &error.code, about_user) {
            (Some(msg_ref), _, _) => self.on_refused(msg_ref, error),
            (None, ErrorCode::UserNotFound, Some(user)) => self.on_not_found(now, &user, error),
            (None, ErrorCode::BadKey, Some(user)) if self.is_known(&user) => {
                let text = format!(
                    "somebody advertised another key for {user}; the server refused it, and nothing has changed for you"
                );
                self.out.notice(Some(user), text);
            }
            (None, _, _) => {
                self.direct.on_doubt(error, &mut self.out);
                self.channel.on_doubt(error);
                self.files.sending.on_doubt(error);
                self.asks.void();
                self.tell_error(error, None);
            }
        }
    }

    /// A message that was called sent may still come back, from a server further on (SOCP §10).
    fn on_refused(&mut self, msg_ref: &str, error: &ErrorNotice) {
        let is_told = self.account.on_error(msg_ref, error, &mut self.out)
            || self.direct.on_refused(msg_ref, error, &mut self.out)
            || self.channel.on_refused(msg_ref, error)
            || self.files.sending.on_refused(msg_ref, error);
        if is_told {
            return;
        }
        let recent = self.recent.take(msg_ref);
        if recent.is_none() && self.posts.is_on() {
            return self.refuse_message(None, msg_ref, (error, None));
        }
        let about = recent.map(|user| SentRef {
            msg_ref: msg_ref.to_owned(),
            to: self.people.describe(&user, &self.pins),
        });
        self.tell_error(error, about);
    }

    fn on_not_found(&mut self, now: Now, user: &UserId, error: &ErrorNotice) {
        let fault = TellFault::UnknownUser(user.clone());
        self.on_no_key_to_open(now, user, &fault);
        self.files.receiving.on_no_key(user, &fault.to_string(), &mut self.out);
        self.asks.drop_key(user);
        let is_direct = self.direct.on_not_found(user, &mut self.out);
        let is_channel = self.channel.on_not_found(user);
        let is_file = self.files.sending.on_not_found(user);
        if !is_direct && !is_channel && !is_file {
            self.tell_error(error, None);
        }
    }

    fn is_known(&self, user: &UserId) -> bool {
        user == self.out.user() || self.pins.get(user).is_some() || self.people.get(user).is_some()
    }

    fn tell_error(&mut self, error: &ErrorNotice, about: Option<SentRef>) {
        let (code, detail) = (error.code.clone(), error.detail.clone());
        self.out.event(Event::Error { code, detail, about });
    }
}
