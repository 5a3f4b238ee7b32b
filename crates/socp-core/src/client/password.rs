//! Setting the password of our account (PROTOCOL II.9): two questions, one answer each.

use super::ANSWER_WAIT_MAX_MS;
use super::fault::PasswordFault;
use super::io::{Event, Ticket};
use super::outbox::Outbox;
use crate::clock::{Mono, Now};
use socp_proto::payload::{
    Ack, ErrorNotice, OPAQUE, RegisterChallenge, RegisterFinish, RegisterStart, RegistrationRequest,
};
use socp_proto::{Capabilities, FrameKind, Payload, ServerId};

/// What the server is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Finish,
}

/// The one registration that may be under way.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    /// The server that takes passwords, while we are in.
    server: Option<ServerId>,
    waiting: Option<(Ticket, Step, Mono)>,
}

impl Passwords {
    /// We are in.
    pub(super) fn on_online(&mut self, server: Option<ServerId>, caps: Option<&Capabilities>) {
        let is_able = caps.is_some_and(|caps| caps.has(OPAQUE));
        self.server = server.filter(|_| is_able);
    }

    pub(super) fn on_disconnected(&mut self, out: &mut Outbox) {
        self.server = None;
        // The last message may have arrived.
        let fault = match self.waiting {
            Some((_, Step::Finish, _)) => PasswordFault::NoAnswer,
            Some((_, Step::Start, _)) | None => PasswordFault::NotOnline,
        };
        self.fail(fault, out);
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.waiting.map(|(_, _, deadline)| deadline)
    }

    pub(super) fn on_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.fail(PasswordFault::NoAnswer, out);
        }
    }

    pub(super) fn begin(
        &mut self,
        now: Now,
        (ticket, is_online): (Ticket, bool),
        request: RegistrationRequest,
        out: &mut Outbox,
    ) {
        let table = [
            (is_online, PasswordFault::NotOnline),
            (self.server.is_some(), PasswordFault::NotOffered),
            (self.waiting.is_none(), PasswordFault::Busy),
        ];
        if let Some((_, fault)) = table.into_iter().find(|(is_right, _)| !is_right) {
            return tell(ticket, Step::Start, fault, out);
        }
        let payload = Payload::RegisterStart(RegisterStart { request });
        self.ask(now, (ticket, Step::Start), &payload, out);
    }

    pub(super) fn finish(&mut self, now: Now, ticket: Ticket, finish: RegisterFinish, out: &mut Outbox) {
        if self.server.is_none() || self.waiting.is_some() {
            return tell(ticket, Step::Finish, PasswordFault::NotOnline, out);
        }
        self.ask(now, (ticket, Step::Finish), &Payload::RegisterFinish(finish), out);
    }

    fn ask(&mut self, now: Now, (ticket, step): (Ticket, Step), payload: &Payload, out: &mut Outbox) {
        self.waiting = Some((ticket, step, now.mono.saturating_add(ANSWER_WAIT_MAX_MS)));
        out.send(now, payload);
    }

    pub(super) fn on_challenge(&mut self, challenge: RegisterChallenge, out: &mut Outbox) {
        let Some(ticket) = self.take(Step::Start) else { return };
        let Some(server) = self.server.clone() else { return };
        let result = Ok((server, challenge.response));
        out.event(Event::PasswordBegun { ticket, result });
    }

    pub(super) fn on_ack(&mut self, ack: &Ack, out: &mut Outbox) {
        if ack.msg_ref != FrameKind::RegisterFinish.name() {
            return;
        }
        if let Some(ticket) = self.take(Step::Finish) {
            out.event(Event::PasswordSet { ticket, result: Ok(()) });
        }
    }

    /// Whether the refusal is about a registration of ours.
    pub(super) fn on_error(&mut self, error: &ErrorNotice, out: &mut Outbox) -> bool {
        let kinds = [FrameKind::RegisterStart, FrameKind::RegisterFinish].map(FrameKind::name);
        let is_named = error.msg_ref.as_deref().is_some_and(|named| kinds.contains(&named));
        let is_told = error.msg_ref.is_none() && kinds.iter().any(|kind| error.detail.starts_with(kind));
        if self.waiting.is_none() || !(is_named || is_told) {
            return false;
        }
        let (code, detail) = (error.code.clone(), error.detail.clone());
        self.fail(PasswordFault::Refused { code, detail }, out);
        true
    }

    fn take(&mut self, step: Step) -> Option<Ticket> {
        let (ticket, _, _) = self.waiting.take_if(|(_, waiting, _)| *waiting == step)?;
        Some(ticket)
    }

    fn fail(&mut self, fault: PasswordFault, out: &mut Outbox) {
        if let Some((ticket, step, _)) = self.waiting.take() {
            tell(ticket, step, fault, out);
        }
    }
}

fn tell(ticket: Ticket, step: Step, fault: PasswordFault, out: &mut Outbox) {
    out.event(match step {
        Step::Start => Event::PasswordBegun {
            ticket,
            result: Err(fault),
        },
        Step::Finish => Event::PasswordSet {
            ticket,
            result: Err(fault),
        },
    });
}
