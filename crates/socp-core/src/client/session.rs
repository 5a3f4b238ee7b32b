//! The hello and what the server must prove in its answer (SOCP §9.1, PROTOCOL I.6).
//!
//! A server that demands a signed hello wants its own id inside. At first contact we do not know it, so the hello goes
//! without; the refusal comes from the id that was missing, and the hello is said again with it, on the same link.
//!
//! A server that can asks for a proof instead (PROTOCOL II.2). It is answered once on each hello, and only where the
//! question is signed by the key that it names, is about this very hello, and fits what is pinned. Whoever has asked once
//! and lets us in unasked is not believed.

use super::alarm::TrustNews;
use super::fault::Stop;
use super::io::{Event, Output, ServerPin};
use super::outbox::Outbox;
use crate::clock::{Mono, Now};
use socp_proto::limits::{HELLO_TRIES_MAX, HELLO_WAIT_MAX_MS};
use socp_proto::payload::{Ack, CtrlClose, ErrorNotice, MailboxRequest, PRESENCE, PresenceRequest, UserHello};
use socp_proto::{
    ACK, Bytes32, Capabilities, Challenge, DELEGATE, ErrorCode, Fingerprint, FrameKind, HISTORY, Id, KeyHistory,
    KeyText, Meta, PROOF, Payload, Proof, PublicPair, ServerId, UserId, hello_digest,
};

/// How far we are with the server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Offline,
    Waiting {
        tries: u32,
        named: Option<ServerId>,
        /// The digest of what we said.
        hello: Bytes32,
        /// Who asked for a proof, and got it.
        asker: Option<ServerPin>,
        deadline: Mono,
    },
    Online,
    Stopped,
}

/// The link to the server, and the server's pin.
#[derive(Debug)]
pub(super) struct Session {
    keys: PublicPair,
    history: Option<KeyHistory>,
    meta: Meta,
    program: String,
    server: Option<ServerPin>,
    /// What the TLS session of the link exports, where there is one.
    tls: Option<Bytes32>,
    /// The presence that is still known from the link before.
    presence: Option<PresenceRequest>,
    /// Whether the server takes key histories (PROTOCOL II.13).
    takes_histories: bool,
    /// How far the mailbox was read, if this program reads it (PROTOCOL II.6).
    mailbox: Option<MailboxRequest>,
    state: State,
}

impl Session {
    pub(super) fn new(
        (keys, history): (PublicPair, Option<KeyHistory>),
        meta: Meta,
        program: String,
        server: Option<ServerPin>,
    ) -> Self {
        Self {
            keys,
            history,
            takes_histories: false,
            mailbox: None,
            meta,
            program,
            server,
            tls: None,
            presence: None,
            state: State::Offline,
        }
    }

    pub(super) fn is_online(&self) -> bool {
        self.state == State::Online
    }

    /// The server as pinned.
    pub(super) fn server_id(&self) -> Option<&ServerId> {
        self.server.as_ref().map(|server| &server.id)
    }

    /// Whether the server is there and takes key histories.
    pub(super) fn takes_histories(&self) -> bool {
        self.is_online() && self.takes_histories
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

    /// `presence`: what is known of who is there (PROTOCOL II.8); `mailbox`: what was read (II.6).
    pub(super) fn on_connected(
        &mut self,
        now: Now,
        tls: Option<Bytes32>,
        (presence, mailbox): (Option<PresenceRequest>, Option<MailboxRequest>),
        out: &mut Outbox,
    ) {
        self.mailbox = mailbox;
        self.tls = tls;
        self.presence = presence;
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
        let State::Waiting { named, asker, .. } = &self.state else {
            return false;
        };
        if ack.msg_ref != FrameKind::UserHello.name() {
            return false;
        }
        let known = Known {
            pinned: asker.as_ref().or(self.server.as_ref()),
            named: named.as_ref(),
        };
        let asked = asker.is_some();
        let server = match check_ack(ack, by, known, asked || !self.must_ask(ack.caps.as_ref())) {
            Ok(server) => ServerPin {
                asks_for_proof: asked,
                ..server
            },
            Err(stop) => {
                if let (Some(id), Some(key)) = (&ack.server_id, &ack.server_pub) {
                    note_other_key(&stop, id, key, out);
                }
                self.stop(stop, out);
                return false;
            }
        };
        let first_contact = self.server.is_none();
        match self.server.as_ref() {
            Some(pin) if pin.key != server.key => {
                let text = format!(
                    "this server has a new key ({}), which the one before announced; it is pinned now",
                    server.key.fingerprint().short()
                );
                out.notice(None, text);
                let before = pin.key.clone();
                out.push(Output::FollowServer {
                    server: server.clone(),
                    before,
                });
            }
            Some(pin) if pin.asks_for_proof == asked => {}
            Some(_) | None => out.push(Output::SaveServer(server.clone())),
        }
        out.set_server(server.id.clone());
        if let Some(name) = &ack.name_in_use {
            let text =
                format!("another user of this server has the name {name}; you are in without it, and found by your id");
            out.notice(None, text);
        }
        out.event(Event::Online {
            server: server.clone(),
            first_contact,
        });
        self.takes_histories = ack.caps.as_ref().is_some_and(|caps| caps.has(HISTORY));
        self.server = Some(server);
        self.state = State::Online;
        true
    }

    /// Whether it must have asked for a proof: it did before, or says that it can.
    fn must_ask(&self, caps: Option<&Capabilities>) -> bool {
        let has_asked = self.server.as_ref().is_some_and(|server| server.asks_for_proof);
        has_asked || caps.is_some_and(|caps| caps.has(PROOF))
    }

    /// The server wants to know whether we hold our key.
    pub(super) fn on_challenge(
        &mut self,
        now: Now,
        from: &Id,
        challenge: &Challenge,
        by: Option<Fingerprint>,
        out: &mut Outbox,
    ) {
        let State::Waiting {
            named, hello, asker, ..
        } = &mut self.state
        else {
            return;
        };
        let followed = self.server.as_ref().and_then(|pin| followed(pin, challenge));
        let known = Known {
            pinned: followed.as_ref().or(self.server.as_ref()),
            named: named.as_ref(),
        };
        let shown = Shown {
            id: &challenge.server_id,
            key: &challenge.server_pub,
            by,
        };
        let is_able = challenge.caps.as_ref().is_some_and(|caps| caps.has(PROOF));
        let table = [
            (asker.is_none(), "it is the second one"),
            (is_able, "it comes without the capability proof/1"),
            (*from == challenge.server_id, "it comes from another server"),
            (challenge.hello == *hello, "it answers another hello"),
        ];
        let wrong = table.into_iter().find(|(is_right, _)| !is_right);
        let checked = shown.check(FrameKind::Challenge, known);
        let checked = checked.and(wrong.map_or(Ok(()), |(_, reason)| Err(Stop::Challenge(reason))));
        // A server behind a proxy that ends TLS cannot know of it; without TLS there is nothing to compare with.
        let is_another_session = matches!((self.tls, challenge.tls), (Some(ours), Some(theirs)) if ours != theirs);
        let checked = checked.and(if is_another_session { Err(Stop::Between) } else { Ok(()) });
        if let Err(stop) = checked {
            note_other_key(&stop, &challenge.server_id, &challenge.server_pub, out);
            return self.stop(stop, out);
        }
        *asker = Some(ServerPin {
            id: challenge.server_id.clone(),
            key: challenge.server_pub.clone(),
            name: None,
            asks_for_proof: true,
        });
        let proof = Proof {
            nonce: challenge.nonce,
            server_id: challenge.server_id.clone(),
            key: challenge.server_pub.fingerprint().into(),
            by: Id::from(out.user()),
            hello: *hello,
            ts: now.unix,
            tls: self.tls,
        };
        out.set_server(challenge.server_id.clone());
        out.send(now, &Payload::Proof(proof));
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
        let State::Waiting {
            tries, named, asker, ..
        } = &self.state
        else {
            return;
        };
        let tries = *tries;
        let has_proved = asker.is_some();
        let is_pinned = self.server.is_some();
        if is_pinned && !by.is_some_and(|by| self.trusts(by)) {
            return self.stop(
                Stop::Unsigned {
                    answer: format!("{} {}", error.code, error.detail),
                },
                out,
            );
        }
        if error.code == ErrorCode::InvalidSig && named.is_none() && !has_proved && tries < HELLO_TRIES_MAX {
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
            | ErrorCode::MailboxFull
            | ErrorCode::NotStored
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
        let hello = Payload::UserHello(UserHello {
            client: self.program.clone(),
            pubkey: self.keys.pubkey.clone(),
            enc_pubkey: Some(self.keys.enc_pubkey.clone()),
            caps: Some(own_caps()),
            meta: Some(self.meta.clone()),
            server_id: named.clone(),
            ts: Some(now.unix),
            history: self.history.clone(),
            presence: self.presence,
            mailbox: self.mailbox,
        });
        out.send(now, &hello);
        self.state = State::Waiting {
            tries,
            named,
            hello: hello_digest(&hello.to_object()),
            asker: None,
            deadline: now.mono.saturating_add(HELLO_WAIT_MAX_MS),
        };
    }

    fn stop(&mut self, stop: Stop, out: &mut Outbox) {
        self.state = State::Stopped;
        out.event(Event::Stopped(stop));
        out.push(Output::Disconnect);
    }
}

/// What somebody claims to be the server's new key is remembered, so that the user can decide about it.
fn note_other_key(stop: &Stop, id: &ServerId, key: &KeyText, out: &mut Outbox) {
    if matches!(stop, Stop::ServerKeyChanged { .. }) {
        out.push(Output::SaveTrust(TrustNews::ServerChanged(ServerPin {
            id: id.clone(),
            key: key.clone(),
            name: None,
            asks_for_proof: false,
        })));
    }
}

/// The pin of a server whose key was changed, where the pinned one leads to the one that it shows (PROTOCOL II.13).
fn followed(pin: &ServerPin, challenge: &Challenge) -> Option<ServerPin> {
    let history = challenge.history.as_ref()?;
    let whose = UserId::from(Id::from(&pin.id));
    let leads = pin.id == challenge.server_id && history.leads(&whose, &pin.key, &challenge.server_pub);
    leads.then(|| ServerPin {
        key: challenge.server_pub.clone(),
        ..pin.clone()
    })
}

/// What we know of the server.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    pinned: Option<&'a ServerPin>,
    /// The id that our hello names.
    named: Option<&'a ServerId>,
}

/// What a server says of itself, and who signed that.
#[derive(Debug, Clone, Copy)]
struct Shown<'a> {
    id: &'a ServerId,
    key: &'a KeyText,
    by: Option<Fingerprint>,
}

impl Shown<'_> {
    /// Whether it is signed by the key that it names, and by the server that we know.
    fn check(self, kind: FrameKind, known: Known<'_>) -> Result<(), Stop> {
        let seen = self.key.fingerprint();
        let pinned = known.pinned.map(|pin| pin.key.fingerprint());
        if let Some(pinned) = pinned.filter(|pinned| *pinned != seen) {
            return Err(Stop::ServerKeyChanged { pinned, seen });
        }
        if self.by != Some(seen) {
            let answer = kind.name().to_owned();
            return Err(Stop::Unsigned { answer });
        }
        let expected = known.pinned.map(|pin| &pin.id).or(known.named);
        if let Some(expected) = expected.filter(|expected| *expected != self.id) {
            let (expected, found) = (expected.clone(), self.id.clone());
            return Err(Stop::ServerIdChanged { expected, found });
        }
        Ok(())
    }
}

/// The server behind an acknowledgement, if everything about it agrees.
fn check_ack(ack: &Ack, by: Option<Fingerprint>, known: Known<'_>, was_due: bool) -> Result<ServerPin, Stop> {
    let (Some(id), Some(key)) = (&ack.server_id, &ack.server_pub) else {
        return Err(Stop::Keyless);
    };
    Shown { id, key, by }.check(FrameKind::Ack, known)?;
    if !was_due {
        return Err(Stop::NoChallenge);
    }
    Ok(ServerPin {
        id: id.clone(),
        key: key.clone(),
        name: ack.server_name.clone(),
        asks_for_proof: false,
    })
}

/// What our programs can do beyond SOCP v1.3.
fn own_caps() -> Capabilities {
    // A short list of well-formed names is one.
    Capabilities::of(&[ACK, DELEGATE, HISTORY, PRESENCE, PROOF]).unwrap_or_default()
}
