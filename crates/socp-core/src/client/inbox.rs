//! Messages on their way in, from one user and from the public channel (SOCP §9.2, §9.3; PROTOCOL I.7, I.8).
//!
//! A message is verified with the key pinned for its sender, whatever `sender_pub` says; without a pin the key is asked
//! for first and the message held. What cannot be verified is told as a notice without text, never as anybody's words.

use super::HELD_COUNT_MAX;
use super::alarm::CARDS_PER_MESSAGE_COUNT_MAX;
use super::asks::Asks;
use super::channel::CHANNEL_ID;
use super::fault::{OpenFault, TellFault};
use super::io::{Event, Message, Output, Person, Place, Ticket};
use super::outbox::Outbox;
use super::people::{People, stranger};
use super::pins::Pins;
use super::post_io::{Gap, Number};
use crate::clock::Now;
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

const STOPPED: &str =
    "another key is shown for them than the one you know, and you have not decided yet; see `socp key show`";

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
    /// Its number in our mailbox (PROTOCOL II.6).
    seq: Option<u64>,
    /// How often its author's key was asked for in vain.
    tries: u32,
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
}

#[derive(Debug)]
struct Opening {
    place: Place,
    /// A copy for everyone at once, as some programs send; that we cannot read it is nobody's fault.
    is_for_all: bool,
    id: String,
    seen: SeenKey,
    from: Person,
    ts: u64,
    seq: Option<u64>,
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
    finished: Vec<(Option<u64>, Finished)>,
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
        }
    }

    /// What is to be written down.
    pub(super) fn take_finished(&mut self) -> Vec<(Option<u64>, Finished)> {
        std::mem::take(&mut self.finished)
    }

    /// Whether more will be finished at once.
    pub(super) fn is_opening(&self) -> bool {
        self.opening.values().any(|opening| opening.place == Place::Direct)
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
            seq: message.seq,
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
            seq: None,
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
            return self.refuse(&content, STOPPED, out);
        }
        if pins.get(&content.author).is_some_and(|pin| pin.revoked) {
            return self.refuse(&content, WITHDRAWN, out);
        }
        if let Some(pin) = pins.signer(&content.author, Some(&content.sender_pub)) {
            let from = people.describe(&content.author, pins);
            return self.open(content, &pin.pubkey, from, out);
        }
        let is_full = self.held.len() >= HELD_COUNT_MAX;
        if is_full && content.seq.is_none() {
            return self.refuse(&content, "too many messages wait for their senders' keys", out);
        }
        // What is beyond all that a server may send comes again with the next link.
        if self.held.len() >= HELD_COUNT_MAX.saturating_add(UNACKNOWLEDGED_COUNT_MAX) {
            return;
        }
        asks.ask_key(now, &content.author, out);
        self.held.push_back(content);
    }

    pub(super) fn on_key(&mut self, user: &UserId, pins: &Pins, people: &People, out: &mut Outbox) {
        let Some(pin) = pins.get(user) else { return };
        for content in self.take_held(user) {
            self.open(content, &pin.pubkey, people.describe(user, pins), out);
        }
    }

    /// True where the key is to be asked for once more: what has a number must not be given up for one lost answer.
    pub(super) fn on_no_key(&mut self, user: &UserId, fault: &TellFault, out: &mut Outbox) -> bool {
        let mut is_wanted = false;
        for mut content in self.take_held(user) {
            content.tries = content.tries.saturating_add(1);
            if *fault == TellFault::NoAnswer && content.seq.is_some() && content.tries < KEY_TRIES_MAX {
                self.held.push_back(content);
                is_wanted = true;
                continue;
            }
            // Its author is away, and no server remembers the key any more. Nobody else has one that makes this id.
            let is_unknown = matches!(fault, TellFault::UnknownUser(_));
            if is_unknown && user.is_made_from(content.sender_pub.fingerprint()) {
                let key = content.sender_pub.clone();
                self.open(content, &key, stranger(user.clone()), out);
                continue;
            }
            self.refuse(&content, &format!("their key is not to be had ({fault})"), out);
        }
        is_wanted
    }

    /// Nothing more is shown as this author's.
    pub(super) fn on_stop(&mut self, author: &UserId, out: &mut Outbox) {
        for content in self.take_held(author) {
            self.refuse(&content, STOPPED, out);
        }
        let is_theirs = |_: &Ticket, opening: &mut Opening| opening.from.user_id == *author;
        let theirs: Vec<(Ticket, Opening)> = self.opening.extract_if(.., is_theirs).collect();
        for (_, opening) in theirs {
            self.refuse_from((opening.place, opening.seq), author, STOPPED, out);
        }
    }

    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        // What has a number comes again.
        for content in std::mem::take(&mut self.held).into_iter().filter(|it| it.seq.is_none()) {
            self.refuse(&content, "the connection broke before their key came", out);
        }
    }

    /// Takes what was opened, and returns the contact cards in what is told of it at once, with their author.
    pub(super) fn on_opened(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<String, OpenFault>,
        out: &mut Outbox,
    ) -> Vec<(UserId, Card)> {
        let Some(opening) = self.opening.remove(&ticket) else {
            return Vec::new();
        };
        match (result, opening.place) {
            (Ok(text), Place::Direct | Place::Word) => self.on_direct(opening, text, out),
            // Only verified content is remembered, so that a forgery cannot make us drop the real message.
            (Ok(text), Place::Channel) if self.seen.insert(now.mono, opening.seen) => {
                let author = opening.from.user_id.clone();
                let cards = Card::find_in(&text, CARDS_PER_MESSAGE_COUNT_MAX);
                let cards = cards.map(|card| (author.clone(), card)).collect();
                out.event(Event::Channel(self.message(opening, text)));
                return cards;
            }
            (Ok(_), Place::Channel) => {}
            (Err(_), _) if opening.is_for_all => self.note_unreadable(opening.from, out),
            (Err(fault), place) => {
                let author = opening.from.user_id;
                self.refuse_from((place, opening.seq), &author, &fault.to_string(), out);
            }
        }
        Vec::new()
    }

    /// Verified content that somebody has sent to us alone. Whether it came before, the history knows.
    fn on_direct(&mut self, opening: Opening, text: String, out: &mut Outbox) {
        let author = opening.from.user_id.clone();
        let seq = opening.seq;
        let speech = match Speech::read(&text) {
            Ok(None) => {
                let (message, number) = (self.message(opening, text), None);
                return self.finished.push((seq, Finished::Text { message, number }));
            }
            Ok(Some(speech)) => speech,
            Err(fault) => {
                return self.refuse_from((Place::Direct, seq), &author, &fault.to_string(), out);
            }
        };
        if speech.from != author || speech.to != self.user {
            let why = "what is inside its encryption was said by somebody else, or to somebody else";
            return self.refuse_from((Place::Direct, seq), &author, why, out);
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
        self.finished.push((seq, finished));
    }

    fn message(&self, opening: Opening, text: String) -> Message {
        Message {
            id: opening.id,
            from: opening.from,
            to: self.user.clone(),
            text,
            ts: opening.ts,
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

    fn open(&mut self, content: Content, key: &KeyText, from: Person, out: &mut Outbox) {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.opening.insert(
            ticket,
            Opening {
                place: content.place,
                is_for_all: is_for_all(&content.to),
                id: msg_ref(&content.content_sig),
                seen: content_key(&content.content_sig.decode()),
                from,
                ts: content.ts,
                seq: content.seq,
            },
        );
        out.push(Output::Open {
            place: content.place,
            ticket,
            key: key.clone(),
            ciphertext: content.ciphertext,
            content_sig: content.content_sig,
            from: content.author,
            to: self.user.clone(),
            ts: content.ts,
        });
    }

    fn refuse(&mut self, content: &Content, why: &str, out: &mut Outbox) {
        self.refuse_from((content.place, content.seq), &content.author, why, out);
    }

    fn refuse_from(&mut self, (place, seq): (Place, Option<u64>), author: &UserId, why: &str, out: &mut Outbox) {
        let what = match place {
            Place::Direct | Place::Word => "a message",
            Place::Channel => "a message to the channel",
        };
        let text = format!("{what} that claims to be from {author} was not accepted: {why}");
        let about = author.clone();
        out.notice(Some(about.clone()), text.clone());
        if seq.is_some() {
            self.finished.push((seq, Finished::Refused { about, text }));
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

/// How programs that make one copy for everyone address it (PROTOCOL I.8).
fn is_for_all(to: &Address) -> bool {
    [CHANNEL_ID, "*"].contains(&to.as_str())
}
