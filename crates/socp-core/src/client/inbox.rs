//! Direct messages on their way in (SOCP §9.2, PROTOCOL I.7).
//!
//! A message is verified with the key pinned for its sender, whatever `sender_pub` says; without a pin the key is asked
//! for first and the message held. What cannot be verified is told as a notice without text, never as anybody's words.

use super::HELD_COUNT_MAX;
use super::asks::Asks;
use super::fault::{OpenFault, TellFault};
use super::io::{Event, Message, Output, Person, Ticket, UserPin};
use super::outbox::Outbox;
use super::people::People;
use super::pins::Pins;
use crate::clock::Now;
use crate::seen::{SeenCache, SeenKey, content_key};
use socp_proto::limits::DIRECT_TEXT_BYTES_MAX;
use socp_proto::payload::{UserDeliver, msg_ref};
use socp_proto::{Address, UserId};
use std::collections::{BTreeMap, VecDeque};

/// Text in one OAEP block (PROTOCOL I.1).
const BLOCK_TEXT_BYTES: usize = 446;
/// Ciphertext in one OAEP block (PROTOCOL I.1).
const BLOCK_BYTES: usize = 512;
/// Longest ciphertext that we decrypt (PROTOCOL I.7).
const CIPHERTEXT_BYTES_MAX: usize = DIRECT_TEXT_BYTES_MAX.div_ceil(BLOCK_TEXT_BYTES) * BLOCK_BYTES;
/// The same as base64url text.
const CIPHERTEXT_TEXT_BYTES_MAX: usize = (CIPHERTEXT_BYTES_MAX * 4).div_ceil(3);

/// What the envelope says, and when it came.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) now: Now,
    pub(super) to: Address,
    pub(super) ts: u64,
}

#[derive(Debug)]
struct Held {
    message: UserDeliver,
    ts: u64,
}

#[derive(Debug)]
struct Opening {
    id: String,
    seen: SeenKey,
    from: Person,
    ts: u64,
}

/// Messages to us under way.
#[derive(Debug)]
pub(super) struct Inbox {
    user: UserId,
    seen: SeenCache,
    held: VecDeque<Held>,
    opening: BTreeMap<Ticket, Opening>,
    next_ticket: Ticket,
}

impl Inbox {
    pub(super) fn new(user: UserId) -> Self {
        Self {
            user,
            seen: SeenCache::new(),
            held: VecDeque::new(),
            opening: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn on_deliver(
        &mut self,
        head: Head,
        message: UserDeliver,
        (pins, people): (&Pins, &People),
        asks: &mut Asks,
        out: &mut Outbox,
    ) {
        if head.to != Address::from(&self.user) {
            return refuse(&message.sender, "it is addressed to somebody else", out);
        }
        if message.ciphertext.as_str().len() > CIPHERTEXT_TEXT_BYTES_MAX {
            return refuse(&message.sender, "it is too long", out);
        }
        let held = Held {
            ts: message.ts.unwrap_or(head.ts),
            message,
        };
        if let Some(pin) = pins.get(&held.message.sender) {
            let from = people.describe(&held.message.sender, pins);
            return self.open(held, pin, from, out);
        }
        if self.held.len() >= HELD_COUNT_MAX {
            return refuse(
                &held.message.sender,
                "too many messages wait for their senders' keys",
                out,
            );
        }
        asks.ask_key(head.now, &held.message.sender, out);
        self.held.push_back(held);
    }

    pub(super) fn on_key(&mut self, user: &UserId, pins: &Pins, people: &People, out: &mut Outbox) {
        let Some(pin) = pins.get(user) else { return };
        for held in self.take_held(user) {
            self.open(held, pin, people.describe(user, pins), out);
        }
    }

    pub(super) fn on_no_key(&mut self, user: &UserId, fault: &TellFault, out: &mut Outbox) {
        for held in self.take_held(user) {
            refuse(
                &held.message.sender,
                &format!("their key is not to be had ({fault})"),
                out,
            );
        }
    }

    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        for held in std::mem::take(&mut self.held) {
            refuse(&held.message.sender, "the connection broke before their key came", out);
        }
    }

    pub(super) fn on_opened(&mut self, now: Now, ticket: Ticket, result: Result<String, OpenFault>, out: &mut Outbox) {
        let Some(opening) = self.opening.remove(&ticket) else {
            return;
        };
        match result {
            // Only verified content is remembered, so that a forgery cannot make us drop the real message.
            Ok(text) if self.seen.insert(now.mono, opening.seen) => {
                let (id, from, ts) = (opening.id, opening.from, opening.ts);
                out.event(Event::Message(Message {
                    id,
                    from,
                    to: self.user.clone(),
                    text,
                    ts,
                }));
            }
            Ok(_) => {}
            Err(fault) => refuse(&opening.from.user_id, &fault.to_string(), out),
        }
    }

    fn open(&mut self, held: Held, pin: &UserPin, from: Person, out: &mut Outbox) {
        let Held { message, ts } = held;
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        let id = msg_ref(&message.content_sig);
        let seen = content_key(&message.content_sig.decode());
        self.opening.insert(ticket, Opening { id, seen, from, ts });
        out.push(Output::Open {
            ticket,
            key: pin.pubkey.clone(),
            ciphertext: message.ciphertext,
            content_sig: message.content_sig,
            from: message.sender,
            to: self.user.clone(),
            ts,
        });
    }

    fn take_held(&mut self, user: &UserId) -> Vec<Held> {
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| held.message.sender == *user);
        self.held = kept.into();
        taken
    }
}

fn refuse(sender: &UserId, why: &str, out: &mut Outbox) {
    let text = format!("a message that claims to be from {sender} was not accepted: {why}");
    out.notice(Some(sender.clone()), text);
}
