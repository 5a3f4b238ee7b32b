//! The hello and what the server must prove in its answer (SOCP §9.1, PROTOCOL I.6).
//!
//! A server that demands a signed hello wants its own id inside. At first contact we do not know it, so the hello goes
//! without; the refusal comes from the id that was missing, and the hello is said again with it, on the same link.

use super::fault::Stop;
use super::io::{Event, Output, ServerPin};
use super::outbox::Outbox;
use crate::clock::{Mono, Now};
use socp_proto::limits::{HELLO_TRIES_MAX, HELLO_WAIT_MAX_MS};
use socp_proto::payload::{Ack, CtrlClose, ErrorNotice, PRESENCE, UserHello};
use socp_proto::{Capabilities, DELEGATE, ErrorCode, Fingerprint, FrameKind, Id, KeyText, Meta, Payload, ServerId};

/// How far we are with the server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Offline,
    Waiting {
        tries: u32,
        named: Option<ServerId>,
        deadline: Mono,
    },
    Online,
    Stopped,
}

/// The link to the server, and the server's pin.
#[derive(Debug)]
pub(super) struct Session {
    pubkey: KeyText,
    meta: Meta,
    program: String,
    server: Option<ServerPin>,
    state: State,
}

impl Session {
    pub(super) fn new(pubkey: KeyText, meta: Meta, program: String, server: Option<ServerPin>) -> Self {
        Self {
            pubkey,
            meta,
            program,
            server,
            state: State::Offline,
        }
    }

    pub(super) fn is_online(&self) -> bool {
        self.state == State::Online
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether this is the key pinned for the server.
    pub(super) fn trusts(&self, key: Fingerprint) -> bool {
        self.server
            .as_ref()
            .is_some_and(|server| server.key.fingerprint() == key)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Waiting { deadline, .. } => Some(*deadline),
            State::Offline | State::Online | State::Stopped => None,
        }
    }

    pub(super) fn on_connected(&mut self, now: Now, out: &mut Outbox) {
        let named = self.server.as_ref().map(|server| server.id.clone());
        self.say_hello(now, 1, named, out);
    }

    pub(super) fn on_disconnected(&mut self) {
        if self.state != State::Stopped {
            self.state = State::Offline;
        }
    }

    pub(super) fn on_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.stop(Stop::NoAnswer, out);
        }
    }

    /// Takes leave (SOCP §11).
    pub(super) fn close(&mut self, now: Now, out: &mut Outbox) {
        if self.is_online() {
            out.send(now, &Payload::CtrlClose(CtrlClose {}));
        }
        out.push(Output::Disconnect);
    }

    /// Whether we are in. `by` is the key that the driver checked the answer with, if it fits any.
    pub(super) fn on_ack(&mut self, ack: &Ack, by: Option<Fingerprint>, out: &mut Outbox) -> bool {
        let State::Waiting { named, .. } = &self.state else {
            return false;
        };
        if ack.msg_ref != FrameKind::UserHello.name() {
            return false;
        }
        let server = match check_ack(ack, by, self.server.as_ref(), named.as_ref()) {
            Ok(server) => server,
            Err(stop) => {
                self.stop(stop, out);
                return false;
            }
        };
        let first_contact = self.server.is_none();
        if first_contact {
            out.push(Output::SaveServer(server.clone()));
        }
        out.set_server(server.id.clone());
        out.event(Event::Online {
            server: server.clone(),
            first_contact,
        });
        self.server = Some(server);
        self.state = State::Online;
        true
    }

    /// A refused hello: mended if that is possible, else the end.
    pub(super) fn on_error(
        &mut self,
        now: Now,
        from: &Id,
        error: &ErrorNotice,
        by: Option<Fingerprint>,
        out: &mut Outbox,
    ) {
        let State::Waiting { tries, named, .. } = &self.state else {
            return;
        };
        let tries = *tries;
        let is_pinned = self.server.is_some();
        if is_pinned && !by.is_some_and(|by| self.trusts(by)) {
            return self.stop(
                Stop::Unsigned {
                    answer: format!("{} {}", error.code, error.detail),
                },
                out,
            );
        }
        if error.code == ErrorCode::InvalidSig && named.is_none() && tries < HELLO_TRIES_MAX {
            return self.say_hello(now, tries.saturating_add(1), Some(ServerId::from(from.clone())), out);
        }
        let detail = error.detail.clone();
        let stop = match &error.code {
            ErrorCode::NameInUse => Stop::NameInUse { detail },
            ErrorCode::BadKey => Stop::BadKey { detail },
            ErrorCode::InvalidSig => Stop::InvalidSig { detail },
            code @ (ErrorCode::UserNotFound
            | ErrorCode::Timeout
            | ErrorCode::UnknownType
            | ErrorCode::RateLimited
            | ErrorCode::TooLarge
            | ErrorCode::BadFrame
            | ErrorCode::NotAuthenticated
            | ErrorCode::Other(_)) => Stop::Refused {
                code: code.clone(),
                detail,
            },
        };
        self.stop(stop, out);
    }

    fn say_hello(&mut self, now: Now, tries: u32, named: Option<ServerId>, out: &mut Outbox) {
        if let Some(server) = &named {
            out.set_server(server.clone());
        }
        out.send(
            now,
            &Payload::UserHello(UserHello {
                client: self.program.clone(),
                pubkey: self.pubkey.clone(),
                enc_pubkey: Some(self.pubkey.clone()),
                caps: Some(own_caps()),
                meta: Some(self.meta.clone()),
                server_id: named.clone(),
                ts: Some(now.unix),
            }),
        );
        let deadline = now.mono.saturating_add(HELLO_WAIT_MAX_MS);
        self.state = State::Waiting { tries, named, deadline };
    }

    fn stop(&mut self, stop: Stop, out: &mut Outbox) {
        self.state = State::Stopped;
        out.event(Event::Stopped(stop));
        out.push(Output::Disconnect);
    }
}

/// The server behind an acknowledgement, if everything about it agrees.
fn check_ack(
    ack: &Ack,
    by: Option<Fingerprint>,
    pinned: Option<&ServerPin>,
    named: Option<&ServerId>,
) -> Result<ServerPin, Stop> {
    let (Some(id), Some(key)) = (&ack.server_id, &ack.server_pub) else {
        return Err(Stop::Keyless);
    };
    let seen = key.fingerprint();
    if let Some(pinned) = pinned.map(|pin| pin.key.fingerprint()).filter(|pinned| *pinned != seen) {
        return Err(Stop::ServerKeyChanged { pinned, seen });
    }
    if by != Some(seen) {
        return Err(Stop::Unsigned {
            answer: FrameKind::Ack.name().to_owned(),
        });
    }
    if let Some(expected) = pinned.map(|pin| &pin.id).or(named).filter(|expected| *expected != id) {
        return Err(Stop::ServerIdChanged {
            expected: expected.clone(),
            found: id.clone(),
        });
    }
    Ok(ServerPin {
        id: id.clone(),
        key: key.clone(),
        name: ack.server_name.clone(),
    })
}

/// What our programs can do beyond SOCP v1.3.
fn own_caps() -> Capabilities {
    // A short list of well-formed names is one.
    Capabilities::of(&[DELEGATE, PRESENCE]).unwrap_or_default()
}
