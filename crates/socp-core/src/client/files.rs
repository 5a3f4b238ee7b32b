//! Files both ways, and what they share: signing our own words, and checking others' (SOCP §9.4, PROTOCOL I.9).

use super::around::Around;
use super::fault::TellFault;
use super::file_io::{FileDone, FileWork};
use super::io::{Output, Ticket};
use super::receiving::Receiving;
use super::sending::Sending;
use crate::clock::{Mono, Unix};
use socp_proto::payload::{FileEnd, msg_ref};
use socp_proto::{Address, Base64Url, Frame, KeyText, Payload, UserId};
use std::collections::BTreeMap;

/// Statuses of receivers that may wait for their check (our choice).
const CHECKS_COUNT_MAX: usize = 256;

/// What is being signed.
#[derive(Debug)]
struct Unsigned {
    payload: Payload,
    to: UserId,
    ts: Unix,
    /// The transfer that begins with it.
    begins: Option<Ticket>,
}

/// Files under way.
#[derive(Debug)]
pub(super) struct Files {
    user: UserId,
    pubkey: KeyText,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    unsigned: BTreeMap<Ticket, Unsigned>,
    unchecked: BTreeMap<Ticket, (UserId, FileEnd)>,
    next_ticket: Ticket,
}

impl Files {
    pub(super) fn new(user: UserId, pubkey: KeyText, size_max: Option<u64>) -> Self {
        Self {
            sending: Sending::new(pubkey.clone()),
            receiving: Receiving::new(user.clone(), size_max),
            user,
            pubkey,
            unsigned: BTreeMap::new(),
            unchecked: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        [self.sending.deadline(), self.receiving.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn on_timeout(&mut self, around: &mut Around<'_>) {
        self.sending.on_timeout(around.now);
        self.receiving.on_timeout(around.now, around.out);
    }

    /// Goes on with what is under way.
    pub(super) fn pump(&mut self, around: &mut Around<'_>) {
        self.sending.pump(around);
        for (ticket, payload, to) in self.sending.take_starts() {
            self.sign(payload, to, Some(ticket), around);
        }
    }

    /// Tells authors how their files ended; only while there is a server to take it.
    pub(super) fn say_words(&mut self, around: &mut Around<'_>) {
        let words = self.receiving.take_words();
        for word in words
            .into_iter()
            .filter(|word| !around.pins.alarms.is_stopped(&word.to))
        {
            let end = FileEnd {
                file_id: word.file_id,
                status: Some(word.status),
                detail: word.detail,
                sender_pub: Some(self.pubkey.clone()),
                content_sig: None,
            };
            self.sign(Payload::FileEnd(end), word.to, None, around);
        }
    }

    /// We leave; whoever sends or receives with us learns that no more will come.
    pub(super) fn on_close(&mut self, around: &mut Around<'_>) {
        self.sending.on_close(around);
        self.receiving.on_close(around.out);
    }

    /// Whether somebody is about to be told how a transfer ended.
    pub(super) fn has_words(&self) -> bool {
        self.receiving.is_busy() || self.unsigned.values().any(|unsigned| unsigned.begins.is_none())
    }

    fn sign(&mut self, payload: Payload, to: UserId, begins: Option<Ticket>, around: &mut Around<'_>) {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        let ts = around.now.unix;
        around.out.push(Output::File(FileWork::Sign {
            ticket,
            payload: Box::new(payload.clone()),
            to: to.clone(),
            ts,
        }));
        let unsigned = Unsigned {
            payload,
            to,
            ts,
            begins,
        };
        self.unsigned.insert(ticket, unsigned);
    }

    /// No part goes to this user, and none comes from them.
    pub(super) fn on_stop(&mut self, user: &UserId, fault: &TellFault, around: &mut Around<'_>) {
        self.sending.on_stop(user, fault);
        self.receiving.on_stop(user, around.out);
        self.unsigned.retain(|_, unsigned| unsigned.to != *user);
    }

    pub(super) fn on_done(&mut self, done: FileDone, around: &mut Around<'_>) {
        match done {
            FileDone::Signed { ticket, result } => self.on_signed(ticket, result, around),
            FileDone::Checked { ticket, is_good } => {
                if let Some((from, end)) = self.unchecked.remove(&ticket).filter(|_| is_good) {
                    self.sending.on_status(around.now, &from, &end);
                }
            }
            FileDone::Sealed {
                ticket,
                index,
                ts,
                result,
            } => self.sending.on_sealed(ticket, index, ts, result, around),
            FileDone::Begun { ticket, result } => self.receiving.on_begun(around.now, ticket, result, around.out),
            FileDone::Written { ticket, result } => {
                self.receiving.on_written(around.now, ticket, result, around.out);
            }
            FileDone::Discarded { ticket } => self.receiving.on_discarded(ticket, around.out),
            FileDone::Kept { ticket, result } => self.receiving.on_kept(ticket, result, around.out),
        }
    }

    fn on_signed(&mut self, ticket: Ticket, result: Result<Base64Url, String>, around: &mut Around<'_>) {
        let Some(mut unsigned) = self.unsigned.remove(&ticket) else {
            return;
        };
        let content_sig = match result {
            Ok(content_sig) => content_sig,
            Err(why) => {
                if let Some(transfer) = unsigned.begins {
                    self.sending.on_not_started(transfer, why);
                }
                return;
            }
        };
        let reference = msg_ref(&content_sig);
        if let Payload::FileStart(start) = &mut unsigned.payload {
            start.content_sig = Some(content_sig);
        } else if let Payload::FileEnd(end) = &mut unsigned.payload {
            end.content_sig = Some(content_sig);
        }
        let to = Address::from(&unsigned.to);
        around.out.send_to(to, unsigned.ts, &unsigned.payload);
        match unsigned.begins {
            Some(transfer) => self.sending.on_started(transfer, reference, around),
            None => self.sending.remember(reference, None),
        }
    }

    /// A `FILE_*` frame, signed by our server.
    pub(super) fn on_frame(&mut self, frame: Frame, around: &mut Around<'_>) {
        if let Payload::FileEnd(FileEnd { status: Some(_), .. }) = &frame.payload {
            self.on_status(frame, around);
        } else {
            self.receiving.on_frame(frame, around);
        }
    }

    /// A status counts only from the recipient, and only with their signature.
    fn on_status(&mut self, frame: Frame, around: &mut Around<'_>) {
        let from = UserId::from(frame.envelope.from.clone());
        let Payload::FileEnd(end) = &frame.payload else {
            return;
        };
        let is_ours =
            frame.envelope.to == Address::from(&self.user) && self.sending.is_waiting_for(&from, &end.file_id);
        let Some(pin) = around.pins.get(&from).filter(|_| is_ours) else {
            return;
        };
        if self.unchecked.len() >= CHECKS_COUNT_MAX {
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.unchecked.insert(ticket, (from, end.clone()));
        around.out.push(Output::File(FileWork::Check {
            ticket,
            key: pin.pubkey.clone(),
            frame: Box::new(frame),
        }));
    }

    pub(super) fn on_disconnected(&mut self, around: &mut Around<'_>) {
        self.sending.on_disconnected();
        self.receiving.on_disconnected(around.out);
        self.unsigned.clear();
        self.unchecked.clear();
    }
}
