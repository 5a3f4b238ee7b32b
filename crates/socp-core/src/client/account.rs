//! Changing our own account at the server: other keys, or its end (PROTOCOL II.13). One change at a time.

use super::ANSWER_WAIT_MAX_MS;
use super::fault::AccountFault;
use super::io::{Event, Ticket};
use super::outbox::Outbox;
use crate::clock::{Mono, Now};
use socp_proto::payload::{Ack, ErrorNotice};
use socp_proto::{FrameKind, Payload};

/// What was asked for and is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Account {
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    kind: FrameKind,
    deadline: Mono,
}

impl Account {
    pub(super) fn ask(&mut self, now: Now, ticket: Ticket, payload: &Payload, is_able: bool, out: &mut Outbox) {
        let refusal = match (is_able, &self.asked) {
            (false, _) => Some(AccountFault::Unable),
            (true, Some(_)) => Some(AccountFault::Busy),
            (true, None) => None,
        };
        if let Some(why) = refusal {
            let result = Err(why);
            return out.event(Event::AccountChanged { ticket, result });
        }
        out.send(now, payload);
        self.asked = Some(Asked {
            ticket,
            kind: payload.kind(),
            deadline: now.mono.saturating_add(ANSWER_WAIT_MAX_MS),
        });
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.asked.as_ref().map(|asked| asked.deadline)
    }

    pub(super) fn on_ack(&mut self, ack: &Ack, out: &mut Outbox) {
        if self.is_about(&ack.msg_ref) {
            self.end(Ok(()), out);
        }
    }

    /// Whether the refusal was of this.
    pub(super) fn on_error(&mut self, msg_ref: &str, error: &ErrorNotice, out: &mut Outbox) -> bool {
        let is_ours = self.is_about(msg_ref);
        if is_ours {
            let (code, detail) = (error.code.clone(), error.detail.clone());
            self.end(Err(AccountFault::Refused { code, detail }), out);
        }
        is_ours
    }

    pub(super) fn on_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.end(Err(AccountFault::NoAnswer), out);
        }
    }

    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        self.end(Err(AccountFault::NoAnswer), out);
    }

    fn is_about(&self, msg_ref: &str) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.kind.name() == msg_ref)
    }

    fn end(&mut self, result: Result<(), AccountFault>, out: &mut Outbox) {
        if let Some(Asked { ticket, .. }) = self.asked.take() {
            out.event(Event::AccountChanged { ticket, result });
        }
    }
}
