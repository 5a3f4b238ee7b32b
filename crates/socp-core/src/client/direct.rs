//! Direct messages on their way out (SOCP §9.2, PROTOCOL I.7).
//!
//! A message waits for the recipient's key, then for the driver to seal it, then for its fence. It is called sent only
//! when the fence is answered; every doubt is told as a failure.

use super::OUTGOING_COUNT_MAX;
use super::asks::{Asks, Why};
use super::fault::TellFault;
use super::io::{Event, Output, Place, Sealed, Ticket, UserPin};
use super::outbox::Outbox;
use super::pins::Pins;
use super::post_io::PostState;
use super::recent::Recent;
use crate::clock::Now;
use socp_proto::limits::DIRECT_TEXT_BYTES_MAX;
use socp_proto::payload::{DirectMessage, ErrorNotice, msg_ref};
use socp_proto::{Address, KeyText, Payload, UserId};
use std::collections::BTreeMap;

/// One message to send.
#[derive(Debug)]
pub(super) struct Tell {
    pub(super) ticket: Ticket,
    pub(super) to: UserId,
    pub(super) text: String,
}

#[derive(Debug)]
enum Stage {
    WaitKey { text: String },
    Sealing { ts: u64 },
    Fenced { msg_ref: String },
}

#[derive(Debug)]
struct Outgoing {
    to: UserId,
    stage: Stage,
}

/// Our own messages under way.
#[derive(Debug)]
pub(super) struct Direct {
    pubkey: KeyText,
    outgoing: BTreeMap<Ticket, Outgoing>,
}

impl Direct {
    pub(super) fn new(pubkey: KeyText) -> Self {
        Self {
            pubkey,
            outgoing: BTreeMap::new(),
        }
    }

    pub(super) fn tell(&mut self, now: Now, tell: Tell, online: bool, pins: &Pins, asks: &mut Asks, out: &mut Outbox) {
        if let Some(why) = self.refusal(&tell, online, pins) {
            return out.event(Event::Failed {
                ticket: tell.ticket,
                why,
            });
        }
        if let Some(pin) = pins.newest(&tell.to) {
            return self.seal(now, tell, pin, out);
        }
        asks.ask_key(now, &tell.to, out);
        let stage = Stage::WaitKey { text: tell.text };
        self.outgoing.insert(tell.ticket, Outgoing { to: tell.to, stage });
    }

    fn refusal(&self, tell: &Tell, online: bool, pins: &Pins) -> Option<TellFault> {
        let bytes = tell.text.len();
        if tell.text.is_empty() {
            return Some(TellFault::Empty);
        }
        if bytes > DIRECT_TEXT_BYTES_MAX {
            return Some(TellFault::TooLong {
                bytes,
                max: DIRECT_TEXT_BYTES_MAX,
            });
        }
        if !online {
            return Some(TellFault::Offline);
        }
        if self.outgoing.len() >= OUTGOING_COUNT_MAX {
            return Some(TellFault::Busy);
        }
        pins.refusal(&tell.to)
    }

    fn seal(&mut self, now: Now, tell: Tell, pin: &UserPin, out: &mut Outbox) {
        let (ticket, ts) = (tell.ticket, now.unix);
        let from = out.user().clone();
        let key = pin.enc_pubkey.clone();
        out.push(Output::Seal {
            place: Place::Direct,
            ticket,
            key,
            text: tell.text,
            from,
            to: tell.to.clone(),
            ts,
        });
        self.outgoing.insert(
            ticket,
            Outgoing {
                to: tell.to,
                stage: Stage::Sealing { ts },
            },
        );
    }

    pub(super) fn on_key(&mut self, now: Now, user: &UserId, pins: &Pins, out: &mut Outbox) {
        let Some(pin) = pins.get(user) else { return };
        for ticket in self.tickets(|outgoing| outgoing.to == *user && matches!(outgoing.stage, Stage::WaitKey { .. })) {
            let Some(Outgoing {
                to,
                stage: Stage::WaitKey { text },
            }) = self.outgoing.remove(&ticket)
            else {
                continue;
            };
            self.seal(now, Tell { ticket, to, text }, pin, out);
        }
    }

    pub(super) fn on_no_key(&mut self, user: &UserId, fault: &TellFault, out: &mut Outbox) {
        for ticket in self.tickets(|outgoing| outgoing.to == *user && matches!(outgoing.stage, Stage::WaitKey { .. })) {
            self.fail(ticket, fault.clone(), out);
        }
    }

    /// Nothing more is sent to this user; what was sent waits for its answer.
    pub(super) fn on_stop(&mut self, user: &UserId, fault: &TellFault, out: &mut Outbox) {
        let is_unsent = |it: &Outgoing| it.to == *user && !matches!(it.stage, Stage::Fenced { .. });
        for ticket in self.tickets(is_unsent) {
            self.fail(ticket, fault.clone(), out);
        }
    }

    pub(super) fn on_sealed(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<Sealed, String>,
        asks: &mut Asks,
        out: &mut Outbox,
    ) {
        let Some(outgoing) = self.outgoing.get_mut(&ticket) else {
            return;
        };
        let Stage::Sealing { ts } = outgoing.stage else {
            return;
        };
        let sealed = match result {
            Ok(sealed) => sealed,
            Err(why) => {
                let user = outgoing.to.clone();
                return self.fail(ticket, TellFault::Key { user, why }, out);
            }
        };
        outgoing.stage = Stage::Fenced {
            msg_ref: msg_ref(&sealed.content_sig),
        };
        let message = DirectMessage {
            ciphertext: sealed.ciphertext,
            sender_pub: self.pubkey.clone(),
            content_sig: sealed.content_sig,
            home: None,
        };
        out.send_to(Address::from(&outgoing.to), ts, &Payload::MsgDirect(message));
        asks.ask(now, &outgoing.to, Why::Fence(ticket), out);
    }

    pub(super) fn on_fence(&mut self, ticket: Ticket, recent: &mut Recent, out: &mut Outbox) {
        let Some(outgoing) = self.outgoing.remove(&ticket) else {
            return;
        };
        if let Stage::Fenced { msg_ref } = outgoing.stage {
            recent.add(msg_ref.clone(), &outgoing.to);
            let (state, server) = (PostState::Sent, None);
            out.event(Event::Sent {
                ticket,
                msg_ref,
                state,
                server,
            });
        }
    }

    /// The server refused the message with this reference; false if there is none such.
    pub(super) fn on_refused(&mut self, refused: &str, error: &ErrorNotice, out: &mut Outbox) -> bool {
        let is_it = |outgoing: &Outgoing| matches!(&outgoing.stage, Stage::Fenced { msg_ref } if msg_ref == refused);
        let tickets = self.tickets(is_it);
        let is_known = !tickets.is_empty();
        for ticket in tickets {
            let Some(outgoing) = self.outgoing.get(&ticket) else {
                continue;
            };
            let why = TellFault::of(error, &outgoing.to);
            self.fail(ticket, why, out);
        }
        is_known
    }

    /// The server cannot reach this user; which message it means, it does not say. False if there is none to them.
    pub(super) fn on_not_found(&mut self, user: &UserId, out: &mut Outbox) -> bool {
        let tickets = self.tickets(|outgoing| outgoing.to == *user && !matches!(outgoing.stage, Stage::Sealing { .. }));
        let is_known = !tickets.is_empty();
        for ticket in tickets {
            self.fail(ticket, TellFault::NotOnline(user.clone()), out);
        }
        is_known
    }

    /// The server refused something that it does not name.
    pub(super) fn on_doubt(&mut self, error: &ErrorNotice, out: &mut Outbox) {
        for ticket in self.tickets(|outgoing| matches!(outgoing.stage, Stage::Fenced { .. })) {
            let why = TellFault::Refused {
                code: error.code.clone(),
                detail: error.detail.clone(),
            };
            self.fail(ticket, why, out);
        }
    }

    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        for ticket in self.tickets(|_| true) {
            self.fail(ticket, TellFault::Lost, out);
        }
    }

    pub(super) fn fail(&mut self, ticket: Ticket, why: TellFault, out: &mut Outbox) {
        if self.outgoing.remove(&ticket).is_some() {
            out.event(Event::Failed { ticket, why });
        }
    }

    fn tickets(&self, is_meant: impl Fn(&Outgoing) -> bool) -> Vec<Ticket> {
        self.outgoing
            .iter()
            .filter(|(_, outgoing)| is_meant(outgoing))
            .map(|(ticket, _)| *ticket)
            .collect()
    }
}
