//! Messages on their way in, from one user and from the public channel (SOCP §9.2, §9.3; PROTOCOL I.7, I.8).
//!
//! A message is verified with the key pinned for its sender, whatever `sender_pub` says; without a pin the key is asked
//! for first and the message held. What cannot be verified is told as a notice without text, never as anybody's words.

use super::HELD_COUNT_MAX;
use super::alarm::CARDS_PER_MESSAGE_COUNT_MAX;
use super::asks::Asks;
use super::channel::CHANNEL_ID;
use super::fault::{OpenFault, TellFault};
use super::held::Hindrance;
use super::io::{Event, Message, Output, Person, Place, Ticket, UserPin};
use super::outbox::Outbox;
use super::people::{People, stranger};
use super::pins::Pins;
use super::post_io::{Deposit, Gap, Held, Number, PostId};
use crate::clock::{Now, Unix};
use crate::seen::{SeenCache, SeenKey, content_key};
use socp_proto::limits::{DIRECT_TEXT_BYTES_MAX, UNACKNOWLEDGED_COUNT_MAX};
use socp_proto::payload::{ChannelMessage, UserDeliver, msg_ref};
use socp_proto::{Address, Base64Url, Card, KeyText, ReceiptState, Said, Speech, UserId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Text in one OAEP block (PROTOCOL I.1).
const BLOCK_TEXT_BYTES: usize = 446;
/// Ciphertext in one OAEP block (PROTOCOL I.1).
const BLOCK_BYTES: usize = 512;
/// Longest ciphertext that we decrypt (PROTOCOL I.7).
const CIPHERTEXT_BYTES_MAX: usize = DIRECT_TEXT_BYTES_MAX.div_ceil(BLOCK_TEXT_BYTES) * BLOCK_BYTES;
/// The same as base64url text.
const CIPHERTEXT_TEXT_BYTES_MAX: usize = (CIPHERTEXT_BYTES_MAX * 4).div_ceil(3);

/// Why nothing of somebody is shown whose key is in doubt.
const WITHDRAWN: &str = "its author has withdrawn the key that signed it, so anybody could have written it";

/// How often the key of an author is asked for whose message has a number (our choice).
const KEY_TRIES_MAX: u32 = 2;
/// Authors whose copies for everyone were called unreadable; the others' are not mentioned (our choice).
const UNREADABLE_COUNT_MAX: usize = 256;

/// What the envelope says, and when it came.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) now: Now,
    pub(super) to: Address,
    pub(super) ts: u64,
}

/// Content that somebody is said to have written.
#[derive(Debug)]
struct Content {
    place: Place,
    author: UserId,
    /// As the envelope says.
    to: Address,
    ciphertext: Base64Url,
    content_sig: Base64Url,
    /// Which key the author says it is; nothing rests on it but whether to ask for a newer one.
    sender_pub: KeyText,
    ts: u64,
    /// When it came.
    at: Unix,
    whence: Whence,
    /// How often its author's key was asked for in vain.
    tries: u32,
}

/// Where that is until it is written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Whence {
    /// In our mailbox, under this number (PROTOCOL II.6).
    pub(super) seq: Option<u64>,
    /// Among the messages that are held here.
    pub(super) held: Option<PostId>,
}

impl Whence {
    /// Whether somebody keeps it until we have said what has become of it.
    fn is_kept(self) -> bool {
        self.seq.is_some() || self.held.is_some()
    }
}

impl Content {
    /// What was held in the history.
    fn of_held(to: &UserId, id: PostId, held: Held) -> Self {
        Self {
            place: Place::Direct,
            author: held.from,
            to: Address::from(to),
            ciphertext: held.ciphertext,
            content_sig: held.content_sig,
            sender_pub: held.sender_pub,
            ts: held.ts,
            at: held.at,
            whence: Whence {
                seq: None,
                held: Some(id),
            },
            tries: 0,
        }
    }

    fn seen_key(&self) -> SeenKey {
        content_key(&self.content_sig.decode())
    }

    fn to_held(&self) -> Held {
        Held {
            from: self.author.clone(),
            sender_pub: self.sender_pub.clone(),
            ciphertext: self.ciphertext.clone(),
            content_sig: self.content_sig.clone(),
            ts: self.ts,
            at: self.at,
        }
    }

    /// The key to verify with when no newer one is to be had: the pinned one, or one before it that was the author's then.
    fn key(&self, pin: &UserPin, pins: &Pins) -> KeyText {
        let claimed = &self.sender_pub;
        let was_theirs = self.whence.is_kept()
            && pin.could_sign_with(claimed, self.ts, self.at)
            && !pins.alarms.is_denied(&self.author, claimed);
        if was_theirs { claimed } else { &pin.pubkey }.clone()
    }

    /// Whether the key that it names is its author's as far as anybody can know: the id is made from that key, and nothing
    /// else is known of the author's keys. It may have been replaced since, or stolen; whoever knows better is not asked here.
    fn names_its_own_key(&self, pins: &Pins) -> bool {
        let (author, claimed) = (&self.author, &self.sender_pub);
        author.is_made_from(claimed.fingerprint())
            && pins.get(author).is_none()
            && pins.alarms.expected(author).is_none()
            && !pins.alarms.is_denied(author, claimed)
    }

    /// Whether the key that it says it is signed with may turn out to be its author's.
    fn may_fit_later(&self, used: &KeyText, pins: &Pins) -> bool {
        let claimed = &self.sender_pub;
        let is_settled = |pin: &UserPin| pin.revoked || pin.has_replaced(claimed);
        self.whence.is_kept()
            && claimed != used
            && !pins.alarms.is_denied(&self.author, claimed)
            && !pins.get(&self.author).is_some_and(is_settled)
    }
}

/// Direct content as it is written down.
#[derive(Debug)]
pub(super) enum Finished {
    Text {
        message: Message,
        number: Option<Number>,
    },
    Receipt {
        from: UserId,
        state: ReceiptState,
        refs: Vec<String>,
    },
    Again {
        from: UserId,
        gap: Gap,
    },
    /// It was told as a notice.
    Refused {
        about: UserId,
        text: String,
    },
    /// It cannot be opened yet.
    Hold(Deposit),
}

#[derive(Debug)]
struct Opening {
    content: Content,
    /// The key that it is verified with.
    key: KeyText,
    from: Person,
}

/// Messages to us under way.
#[derive(Debug)]
pub(super) struct Inbox {
    user: UserId,
    seen: SeenCache,
    held: VecDeque<Content>,
    opening: BTreeMap<Ticket, Opening>,
    next_ticket: Ticket,
    unreadable: BTreeSet<UserId>,
    finished: Vec<(Whence, Finished)>,
    /// What was held and is being opened, or written down.
    released: BTreeSet<PostId>,
}

impl Inbox {
    pub(super) fn new(user: UserId) -> Self {
        Self {
            user,
            seen: SeenCache::new(),
            held: VecDeque::new(),
            opening: BTreeMap::new(),
            next_ticket: 0,
            unreadable: BTreeSet::new(),
            finished: Vec::new(),
            released: BTreeSet::new(),
        }
    }

    /// What is to be written down.
    pub(super) fn take_finished(&mut self) -> Vec<(Whence, Finished)> {
        std::mem::take(&mut self.finished)
    }

    /// Whether more will be finished at once.
    pub(super) fn is_opening(&self) -> bool {
        self.opening
            .values()
            .any(|opening| opening.content.place == Place::Direct)
    }

    pub(super) fn on_deliver(
        &mut self,
        head: Head,
        message: UserDeliver,
        known: (&Pins, &People),
        asks: &mut Asks,
        out: &mut Outbox,
    ) {
        let content = Content {
            place: Place::Direct,
            author: message.sender,
            ts: message.ts.unwrap_or(head.ts),
            to: head.to,
            ciphertext: message.ciphertext,
            content_sig: message.content_sig,
            sender_pub: message.sender_pub,
            at: head.now.unix,
            whence: Whence {
                seq: message.seq,
                held: None,
            },
            tries: 0,
        };
        if content.to != Address::from(&self.user) {
            return self.refuse(&content, "it is addressed to somebody else", out);
        }
        self.take(head.now, content, known, asks, out);
    }

    /// A copy of a message to the public channel; its author is who the envelope names (PROTOCOL I.2).
    pub(super) fn on_channel(
        &mut self,
        head: Head,
        author: UserId,
        message: ChannelMessage,
        known: (&Pins, &People),
        asks: &mut Asks,
        out: &mut Outbox,
    ) {
        if author == self.user {
            return;
        }
        let content = Content {
            place: Place::Channel,
            author,
            ts: head.ts,
            to: head.to,
            ciphertext: message.ciphertext,
            content_sig: message.content_sig,
            sender_pub: message.sender_pub,
            at: head.now.unix,
            whence: Whence::default(),
            tries: 0,
        };
        let is_elsewhere = message.group_id.is_some_and(|group| group != CHANNEL_ID);
        if is_elsewhere || (content.to != Address::from(&self.user) && !is_for_all(&content.to)) {
            return self.refuse(&content, "it is addressed to somebody else", out);
        }
        self.take(head.now, content, known, asks, out);
    }

    fn take(
        &mut self,
        now: Now,
        content: Content,
        (pins, people): (&Pins, &People),
        asks: &mut Asks,
        out: &mut Outbox,
    ) {
        if content.ciphertext.as_str().len() > CIPHERTEXT_TEXT_BYTES_MAX {
            return self.refuse(&content, "it is too long", out);
        }
        if pins.alarms.is_stopped(&content.author) {
            return self.hold(content, &Hindrance::Stopped, pins, out);
        }
        if pins.get(&content.author).is_some_and(|pin| pin.revoked) {
            return self.refuse(&content, WITHDRAWN, out);
        }
        let settled = pins.get(&content.author).map(|pin| content.key(pin, pins));
        let is_claimed = |key: &KeyText| *key == content.sender_pub;
        let signer = pins.signer(&content.author, Some(&content.sender_pub));
        let key = settled.filter(is_claimed).or(signer.map(|pin| pin.pubkey.clone()));
        if let Some(key) = key {
            let from = people.describe(&content.author, pins);
            return self.open(content, key, from, out);
        }
        let is_full = self.held.len() >= HELD_COUNT_MAX;
        if is_full && content.whence.seq.is_none() {
            return self.refuse(&content, "too many messages wait for their senders' keys", out);
        }
        // What is beyond all that a server may send comes again with the next link.
        if self.held.len() >= HELD_COUNT_MAX.saturating_add(UNACKNOWLEDGED_COUNT_MAX) {
            return;
        }
        asks.ask_key(now, &content.author, out);
        self.held.push_back(content);
    }

    /// Looks again at a message that was held. True where a newer key than the pinned one is worth asking for.
    /// `is_unknown`: no server knows its author.
    pub(super) fn take_again(
        &mut self,
        (id, held): (PostId, Held),
        (pins, people): (&Pins, &People),
        is_unknown: bool,
        out: &mut Outbox,
    ) -> bool {
        let content = Content::of_held(&self.user, id, held);
        if pins.alarms.is_stopped(&content.author) || !self.released.insert(id) {
            return false;
        }
        let author = content.author.clone();
        let Some(pin) = pins.get(&author) else {
            if is_unknown && content.names_its_own_key(pins) {
                let key = content.sender_pub.clone();
                self.open(content, key, stranger(author), out);
                return false;
            }
            self.released.remove(&id);
            return true;
        };
        if pin.revoked {
            self.refuse(&content, WITHDRAWN, out);
            return false;
        }
        let key = content.key(pin, pins);
        let is_newer_wanted = key != content.sender_pub && content.may_fit_later(&key, pins);
        self.open(content, key, people.describe(&author, pins), out);
        is_newer_wanted
    }

    /// It is written down what has become of a message that was held.
    pub(super) fn on_released(&mut self, id: PostId) {
        self.released.remove(&id);
    }

    pub(super) fn on_key(&mut self, user: &UserId, pins: &Pins, people: &People, out: &mut Outbox) {
        let Some(pin) = pins.get(user) else { return };
        for content in self.take_held(user) {
            let key = content.key(pin, pins);
            self.open(content, key, people.describe(user, pins), out);
        }
    }

    /// True where the key is to be asked for once more: what has a number must not be given up for one lost answer.
    pub(super) fn on_no_key(&mut self, user: &UserId, fault: &TellFault, pins: &Pins, out: &mut Outbox) -> bool {
        let mut is_wanted = false;
        for mut content in self.take_held(user) {
            content.tries = content.tries.saturating_add(1);
            let is_numbered = content.whence.seq.is_some();
            if *fault == TellFault::NoAnswer && is_numbered && content.tries < KEY_TRIES_MAX {
                self.held.push_back(content);
                is_wanted = true;
                continue;
            }
            // Its author is away, and no server remembers the key any more. Nobody else has one that makes this id.
            let is_unknown = matches!(fault, TellFault::UnknownUser(_));
            if is_unknown && content.names_its_own_key(pins) {
                let key = content.sender_pub.clone();
                self.open(content, key, stranger(user.clone()), out);
                continue;
            }
            let why = Hindrance::NoKey(fault.to_string());
            if matches!(fault, TellFault::Withdrawn(_)) {
                self.refuse(&content, &why.refusal(), out);
            } else {
                self.hold(content, &why, pins, out);
            }
        }
        is_wanted
    }

    /// Nothing more is shown as this author's.
    pub(super) fn on_stop(&mut self, author: &UserId, pins: &Pins, out: &mut Outbox) {
        let is_theirs = |_: &Ticket, opening: &mut Opening| opening.content.author == *author;
        let opening: Vec<(Ticket, Opening)> = self.opening.extract_if(.., is_theirs).collect();
        let opening = opening.into_iter().map(|(_, opening)| opening.content);
        let is_revoked = pins.get(author).is_some_and(|pin| pin.revoked);
        for content in opening.chain(self.take_held(author)) {
            if is_revoked {
                self.refuse(&content, WITHDRAWN, out);
            } else {
                self.hold(content, &Hindrance::Stopped, pins, out);
            }
        }
    }

    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        // What has a number comes again.
        for content in std::mem::take(&mut self.held)
            .into_iter()
            .filter(|it| it.whence.seq.is_none())
        {
            self.refuse(&content, "the connection broke before their key came", out);
        }
    }

    /// Takes what was opened, and returns the contact cards in what is told of it at once, with their author.
    pub(super) fn on_opened(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<String, OpenFault>,
        pins: &Pins,
        out: &mut Outbox,
    ) -> Vec<(UserId, Card)> {
        let Some(opening) = self.opening.remove(&ticket) else {
            return Vec::new();
        };
        match (result, opening.content.place) {
            (Ok(text), Place::Direct | Place::Word) => self.on_direct(opening, text, out),
            // Only verified content is remembered, so that a forgery cannot make us drop the real message.
            (Ok(text), Place::Channel) if self.seen.insert(now.mono, opening.content.seen_key()) => {
                let author = opening.content.author.clone();
                let cards = Card::find_in(&text, CARDS_PER_MESSAGE_COUNT_MAX);
                let cards = cards.map(|card| (author.clone(), card)).collect();
                out.event(Event::Channel(self.message(opening, text)));
                return cards;
            }
            (Ok(_), Place::Channel) => {}
            (Err(_), _) if is_for_all(&opening.content.to) => self.note_unreadable(opening.from, out),
            (Err(OpenFault::Signature), _) if opening.content.may_fit_later(&opening.key, pins) => {
                self.on_other_signer(opening, pins, out);
            }
            (Err(fault), _) => self.refuse(&opening.content, &fault.to_string(), out),
        }
        Vec::new()
    }

    /// What its author's key does not fit may be signed with one that is not known yet.
    fn on_other_signer(&mut self, opening: Opening, pins: &Pins, out: &mut Outbox) {
        let Opening { content, key, from } = opening;
        let settled = pins.get(&content.author).map(|pin| content.key(pin, pins));
        match settled.filter(|settled| *settled != key) {
            // It came while this was looked at.
            Some(other) => self.open(content, other, from, out),
            None => self.hold(content, &Hindrance::OtherKey, pins, out),
        }
    }

    /// Verified content that somebody has sent to us alone. Whether it came before, the history knows.
    fn on_direct(&mut self, opening: Opening, text: String, out: &mut Outbox) {
        let author = opening.content.author.clone();
        let whence = opening.content.whence;
        let speech = match Speech::read(&text) {
            Ok(None) => {
                let (message, number) = (self.message(opening, text), None);
                return self.finished.push((whence, Finished::Text { message, number }));
            }
            Ok(Some(speech)) => speech,
            Err(fault) => {
                return self.refuse(&opening.content, &fault.to_string(), out);
            }
        };
        if speech.from != author || speech.to != self.user {
            let why = "what is inside its encryption was said by somebody else, or to somebody else";
            return self.refuse(&opening.content, why, out);
        }
        let by = speech.by;
        let finished = match speech.said {
            Said::Text { n, text } => {
                let message = self.message(opening, text);
                let number = Some(Number { by, n });
                Finished::Text { message, number }
            }
            Said::Receipt { state, refs } => {
                let from = author;
                Finished::Receipt { from, state, refs }
            }
            Said::Again { by, from_n, to_n } => {
                let gap = Gap { by, from_n, to_n };
                Finished::Again { from: author, gap }
            }
        };
        self.finished.push((whence, finished));
    }

    fn message(&self, opening: Opening, text: String) -> Message {
        Message {
            id: msg_ref(&opening.content.content_sig),
            from: opening.from,
            to: self.user.clone(),
            text,
            ts: opening.content.ts,
            is_late: false,
        }
    }

    /// Told once: the author's next copies will be no different.
    fn note_unreadable(&mut self, author: Person, out: &mut Outbox) {
        if self.unreadable.len() >= UNREADABLE_COUNT_MAX || !self.unreadable.insert(author.user_id.clone()) {
            return;
        }
        let text = format!(
            "what {} says in the channel is not encrypted for you, so it cannot be shown",
            author.label()
        );
        out.notice(Some(author.user_id), text);
    }

    fn open(&mut self, content: Content, key: KeyText, from: Person, out: &mut Outbox) {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        out.push(Output::Open {
            place: content.place,
            ticket,
            key: key.clone(),
            ciphertext: content.ciphertext.clone(),
            content_sig: content.content_sig.clone(),
            from: content.author.clone(),
            to: self.user.clone(),
            ts: content.ts,
        });
        self.opening.insert(ticket, Opening { content, key, from });
    }

    /// Keeps what somebody would keep for us, and acknowledges it; the rest is refused.
    fn hold(&mut self, content: Content, why: &Hindrance, pins: &Pins, out: &mut Outbox) {
        if let Some(id) = content.whence.held {
            self.released.remove(&id);
            return;
        }
        let refusal = why.refusal();
        if content.whence.seq.is_none() {
            return self.refuse(&content, &refusal, out);
        }
        let deposit = Deposit::Hold {
            held: content.to_held(),
            is_known: pins.get(&content.author).is_some(),
            told: why.told(&content.author),
            refused: refused(
                content.place,
                &content.author,
                &format!("{refusal}; and no more of them can wait here"),
            ),
        };
        self.finished.push((content.whence, Finished::Hold(deposit)));
    }

    fn refuse(&mut self, content: &Content, why: &str, out: &mut Outbox) {
        let about = content.author.clone();
        let text = refused(content.place, &about, why);
        out.notice(Some(about.clone()), text.clone());
        if content.whence.is_kept() {
            self.finished.push((content.whence, Finished::Refused { about, text }));
        }
    }

    fn take_held(&mut self, user: &UserId) -> Vec<Content> {
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|content| content.author == *user);
        self.held = kept.into();
        taken
    }
}

/// What is told of a message that is not accepted.
fn refused(place: Place, author: &UserId, why: &str) -> String {
    let what = match place {
        Place::Direct | Place::Word => "a message",
        Place::Channel => "a message to the channel",
    };
    format!("{what} that claims to be from {author} was not accepted: {why}")
}

/// How programs that make one copy for everyone address it (PROTOCOL I.8).
fn is_for_all(to: &Address) -> bool {
    [CHANNEL_ID, "*"].contains(&to.as_str())
}
