//! Joining the network and being joined (SOCP §8.1, PROTOCOL I.3, I.4).

use super::Server;
use super::fault::{CloseCode, Fault, FaultCount};
use super::feed::Feed;
use super::heard::InBatches;
use super::io::{AfterSave, DialId, FirstFrame, LinkId, Note, Output, Record, Reply, Role, ServerPin};
use super::link::{Link, PeerLink, Stage, Trust, link_to_keep};
use super::mutation::Mutation;
use super::proof::{Introduction, Prover};
use super::successor::leads;
use super::timers::Timer;
use crate::clock::Now;
use rand_core::Rng;
use socp_proto::limits::{
    HEARTBEAT_INTERVAL_MS, LINK_SILENCE_MAX_MS, SERVERS_COUNT_MAX, WELCOME_CLIENTS_COUNT_MAX, WELCOME_LIST_BYTES_MAX,
};
use socp_proto::payload::{ErrorNotice, ServerIdentity, ServerWelcome, WelcomeServer};
use socp_proto::{ACK, Address, Envelope, ErrorCode, Frame, FrameKind, KeyText, Payload, ServerId, UserId};

/// What a server is told that has proved its key before, and does not now.
const PROOF_WITHHELD: &str = "this id has proved its key here before (proof/1) and must again; if its server runs an \
                              older program now, the operator here can let it in: socp admin unpin";

impl Server {
    /// The first thing we say on a link that we dialled.
    pub(super) fn introduce_ourselves(&mut self, now: Now, dial: DialId, link: LinkId) {
        let Some(target) = self.dials.get(dial) else {
            return;
        };
        let (is_introducer, address) = (target.is_introducer, target.address());
        let identity = ServerIdentity {
            nonce: self.config.proves.then(|| self.fresh_nonce()),
            ..self.identity()
        };
        let (to, payload) = if is_introducer {
            // An address that is no address was refused when the bootstrap entry was read.
            let to = Address::try_from(address).unwrap_or_else(|_| Address::everyone());
            (to, Payload::ServerHelloJoin(identity))
        } else {
            (Address::everyone(), Payload::ServerAnnounce(identity))
        };
        let said = self.said(&payload);
        if let (Some(Link::New { stage, .. }), Some(said)) = (self.links.get_mut(&link), said) {
            *stage = Stage::Introduced(said);
        }
        self.send(&[link], now, to, &payload);
    }

    pub(super) fn identity(&self) -> ServerIdentity {
        ServerIdentity {
            host: self.config.host.clone(),
            port: self.config.port,
            tls: self.config.has_tls,
            pubkey: self.config.key.clone(),
            history: self.config.history.clone(),
            name: self.config.name.clone(),
            caps: Some(self.own_caps_for_servers()),
            nonce: None,
        }
    }

    fn announce(&mut self, now: Now, link: LinkId) {
        self.send(
            &[link],
            now,
            Address::everyone(),
            &Payload::ServerAnnounce(self.identity()),
        );
    }

    /// A frame on a link without a role: it decides the role for good.
    pub(super) fn on_first(&mut self, now: Now, link: LinkId, first: FirstFrame) {
        let Some(Link::New {
            dial, is_busy, stage, ..
        }) = self.links.get_mut(&link)
        else {
            return self.outputs.push_back(Output::Proceed { link });
        };
        *is_busy = true;
        let dial = *dial;
        match stage {
            Stage::Silent | Stage::Introduced(_) => {}
            Stage::AwaitsProof(_) => {
                self.on_frame_of_prover(now, link, dial, first);
                return self.proceed(link);
            }
            Stage::Challenged(_) => return self.on_frame_of_challenged(now, link, first),
            Stage::LoggingIn(_) => return self.on_frame_of_login(now, link, first),
        }
        let is_signed = first.is_signed_by_own_key();
        let FirstFrame {
            frame: Frame { envelope, payload },
            key,
            signer,
        } = first;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "six kinds come first; any other is out of place"
        )]
        match payload {
            Payload::PubkeyRequest(request) if dial.is_none() && self.config.takes_users => {
                self.on_stranger_asks(now, link, &request.user_id);
            }
            // A server that only introduces has no place for users.
            Payload::UserHello(hello) if dial.is_none() && self.config.takes_users => {
                return self.on_user_hello(now, link, envelope, hello, is_signed);
            }
            Payload::LoginStart(start) if dial.is_none() && self.config.takes_users => {
                return self.on_login_start(now, link, start);
            }
            Payload::ServerHelloJoin(identity) if dial.is_none() => {
                if is_signed || (signer.is_none() && self.config.allow_unsigned_join) {
                    self.on_join(now, link, &envelope, identity);
                } else {
                    self.on_fault(now, link, &Fault::Signature { kind: envelope.kind });
                }
            }
            Payload::ServerAnnounce(identity) | Payload::ServerHelloLink(identity) => match is_signed {
                true => self.on_first_announce(now, link, &envelope, identity),
                false => self.on_fault(now, link, &Fault::Signature { kind: envelope.kind }),
            },
            Payload::ServerWelcome(welcome) if self.has_asked_for_admission(dial) => match (is_signed, key) {
                (true, Some(key)) => self.on_welcome(now, link, &envelope, welcome, key),
                (true | false, Some(_) | None) => {
                    self.on_fault(now, link, &Fault::Signature { kind: envelope.kind });
                }
            },
            Payload::Error(notice) if dial.is_some() => self.on_rejected(now, link, dial, notice),
            _ => self.on_fault(now, link, &Fault::OutOfPlace { kind: envelope.kind }),
        }
        self.proceed(link);
    }

    fn has_asked_for_admission(&self, dial: Option<DialId>) -> bool {
        dial.and_then(|dial| self.dials.get(dial))
            .is_some_and(|target| target.is_introducer)
    }

    /// Whoever we dialled, or have answered, does not want us.
    pub(super) fn on_rejected(&mut self, now: Now, link: LinkId, dial: Option<DialId>, notice: ErrorNotice) {
        let ErrorNotice { code, detail, .. } = notice;
        let prover = self.links.get(&link).and_then(Link::prover);
        if let (None, Some(server)) = (dial, prover.map(|prover| prover.server().clone())) {
            self.note(Note::PeerComplained { server, code, detail });
            return self.give_up(now, link, CloseCode::Normal, "our introduction was refused");
        }
        let address = self.dial_address(dial);
        self.note(Note::Rejected { address, code, detail });
        self.give_up(now, link, CloseCode::Normal, "refused");
    }

    fn dial_address(&self, dial: Option<DialId>) -> String {
        dial.and_then(|dial| self.dials.get(dial))
            .map(super::dial::Target::address)
            .unwrap_or_default()
    }

    /// `SERVER_HELLO_JOIN`: a newcomer wants in.
    fn on_join(&mut self, now: Now, link: LinkId, envelope: &Envelope, identity: ServerIdentity) {
        if !self.is_fresh(now, envelope.ts) {
            return self.on_fault(now, link, &Fault::Clock { kind: envelope.kind });
        }
        let wished = ServerId::from(envelope.from.clone());
        let assigned_id = self.free_id(&wished, &identity);
        let reply = Reply::Welcome {
            assigned_id: assigned_id.clone(),
            to: wished,
        };
        self.on_introduced(now, link, envelope, Introduction::of(assigned_id, identity, reply));
    }

    /// The id that a key has here already; else the wished one, unless another key has it.
    fn free_id(
        &mut self,
        wished: &ServerId,
        ServerIdentity {
            pubkey: key, history, ..
        }: &ServerIdentity,
    ) -> ServerId {
        if let Some(pin) = self.pins.values().find(|pin| pin.key == *key) {
            return pin.server_id.clone();
        }
        if let Some(promised) = self.promised_to(key, wished) {
            return promised;
        }
        if self.is_successor(wished, key, history.as_ref()) {
            return wished.clone();
        }
        let is_pinned = self.pins.contains_key(wished);
        if !is_pinned && !self.is_taken_by_other_than_server(wished) && !self.is_claimed_by_another(wished, key) {
            return wished.clone();
        }
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        let text = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        // A UUID is printable ASCII of 36 bytes, so it is an id.
        ServerId::try_from(text).unwrap_or_else(|_| wished.clone())
    }

    /// A server announces itself as its first frame, or answers our announcement.
    fn on_first_announce(&mut self, now: Now, link: LinkId, envelope: &Envelope, identity: ServerIdentity) {
        if !self.is_fresh(now, envelope.ts) {
            return self.on_fault(now, link, &Fault::Clock { kind: envelope.kind });
        }
        let dial = self.links.get(&link).and_then(Link::dial);
        let server = ServerId::from(envelope.from.clone());
        if !self.is_expected_key(dial, &server, &identity) {
            return self.refuse_another(now, link);
        }
        let reply = if dial.is_some() {
            Reply::Nothing
        } else {
            Reply::Announce
        };
        self.on_introduced(now, link, envelope, Introduction::of(server, identity, reply));
    }

    /// Whether a server that we dialled has the key we were told it has. Where another answers whose key we know, it is
    /// taken for who it is: it may have given up its older link to us for this one, so to refuse it would part us from
    /// it, and whoever lies about an address could do that to others at will. Not where it proves itself (PROTOCOL II.2):
    /// it has given up nothing before our proof, and whom we dialled might pass every word on between it and us.
    fn is_expected_key(&mut self, dial: Option<DialId>, server: &ServerId, identity: &ServerIdentity) -> bool {
        let offered = &identity.pubkey;
        let Some(target) = dial.and_then(|dial| self.dials.get(dial)) else {
            return true;
        };
        let Some(expected) = &target.key else {
            return true;
        };
        let can_prove = self.can_prove(identity.caps.as_ref());
        if expected == offered || (can_prove && leads(identity.history.as_ref(), server, expected, offered)) {
            return true;
        }
        let (expected, address) = (expected.fingerprint(), target.address());
        self.note(Note::WrongKey {
            address,
            expected,
            offered: offered.fingerprint(),
        });
        !can_prove && self.pins.get(server).is_some_and(|pin| pin.key == *offered)
    }

    /// Whom we dialled is not who it should be.
    fn refuse_another(&mut self, now: Now, link: LinkId) {
        let why = "not the key that this address should have";
        let class = ("key", ErrorCode::BadKey);
        self.refuse_server(now, link, class, why, "not the server that was dialled");
    }

    /// Whom we dialled shows a certificate that is good for nothing, and cannot prove a key instead that is known here.
    pub(super) fn refuse_uncertified(&mut self, now: Now, link: LinkId) {
        let dial = self.links.get(&link).and_then(Link::dial);
        let address = self.dial_address(dial);
        self.note(Note::Uncertified { address });
        let why =
            "your certificate is not good here, and no key that is known here, proved by proof/1, says who you are";
        let class = ("certificate", ErrorCode::InvalidSig);
        self.refuse_server(now, link, class, why, "no good certificate");
    }

    fn refuse_key(&mut self, now: Now, link: LinkId, why: &str) {
        self.refuse_server(now, link, ("key", ErrorCode::BadKey), why, "bad key");
    }

    /// Turns a server away that is not who it should be.
    fn refuse_server(
        &mut self,
        now: Now,
        link: LinkId,
        (class, code): (&'static str, ErrorCode),
        why: &str,
        close_reason: &'static str,
    ) {
        self.note(Note::Refused {
            link,
            class,
            reason: why.to_owned(),
        });
        self.send_error(now, link, code, why.to_owned(), None);
        self.give_up(now, link, CloseCode::PolicyViolation, close_reason);
    }

    /// The introducer lets us in.
    fn on_welcome(&mut self, now: Now, link: LinkId, envelope: &Envelope, welcome: ServerWelcome, key: KeyText) {
        if !self.is_fresh(now, envelope.ts) {
            return self.on_fault(now, link, &Fault::Clock { kind: envelope.kind });
        }
        let Some(Link::New { dial: Some(dial), .. }) = self.links.get(&link) else {
            return;
        };
        let dial = *dial;
        let introducer = ServerId::from(envelope.from.clone());
        let assigned = &welcome.assigned_id;
        let is_taken = *assigned == introducer || self.pins.contains_key(assigned);
        let is_other = |id: &ServerId| *id != introducer;
        if is_taken || welcome.server_id.as_ref().is_some_and(is_other) {
            return self.on_fault(now, link, &Fault::NotYours { kind: envelope.kind });
        }
        let Some(target) = self.dials.get(dial) else {
            return;
        };
        let (host, port, tls) = (target.host.clone(), target.port, target.tls.is_some());
        let identity = ServerIdentity {
            // Whoever says where it is says whether TLS is spoken there.
            tls: if welcome.port.is_some() { welcome.tls } else { tls },
            host: welcome.host.clone().unwrap_or(host),
            port: welcome.port.unwrap_or(port),
            pubkey: key,
            history: welcome.history.clone(),
            name: welcome.name.clone(),
            caps: welcome.caps.clone(),
            nonce: welcome.nonce,
        };
        if !self.is_expected_key(Some(dial), &introducer, &identity) {
            return self.refuse_another(now, link);
        }
        let introduction = Introduction {
            welcome: Some(welcome),
            ..Introduction::of(introducer, identity, Reply::Nothing)
        };
        self.on_introduced(now, link, envelope, introduction);
    }

    /// Takes a welcome of an introducer that is who it says it is, as far as that can be known.
    pub(super) fn enter(&mut self, now: Now, link: LinkId, introduction: Introduction) {
        let Introduction {
            server: introducer,
            identity,
            welcome,
            reply,
        } = introduction;
        let (Some(welcome), Some(dial)) = (welcome, self.links.get(&link).and_then(Link::dial)) else {
            self.meet(now, link, introducer, identity, reply);
            return;
        };
        let key = identity.pubkey.clone();
        let is_told_key = self.dials.get(dial).is_some_and(|target| target.key.is_some());
        let is_known_key = is_told_key || self.pins.contains_key(&introducer);
        // Where another key is pinned for the introducer, `meet` refuses it: its word about our id is not taken.
        let is_proving = self.proving.contains(&link);
        let history = identity.history.as_ref();
        let is_another = self.conflicting_pin(&introducer, &key, history, is_proving).is_some();
        if !is_another {
            self.adopt_id(&welcome.assigned_id);
        }
        if is_proving && !is_another && welcome.assigned_id != self.config.server_id {
            // It knows us by an id that is not ours, under which we could prove nothing.
            return self.give_up(now, link, CloseCode::Normal, "this server keeps the id it has");
        }
        if !self.meet(now, link, introducer.clone(), identity, reply) {
            let has_key = self.pins.get(&introducer).is_some_and(|pin| pin.key == key);
            if is_proving && has_key && self.peers.contains_key(&introducer) {
                // It is linked already; it has proved itself, and what it knows counts all the same.
                self.learn_servers(now, &introducer, welcome.servers);
            }
            return;
        }
        if let Some(Link::Peer(peer)) = self.links.get_mut(&link) {
            peer.may_name_servers = is_proving;
        }
        if !is_known_key {
            self.note(Note::TrustedOnFirstUse {
                server: introducer.clone(),
                fingerprint: key.fingerprint(),
            });
        }
        self.announce(now, link);
        self.learn_from_welcome(now, link, &introducer, welcome);
    }

    fn adopt_id(&mut self, assigned: &ServerId) {
        if *assigned == self.config.server_id {
            return;
        }
        // Whoever has met somebody under an id keeps it, or nobody would know it again.
        if !self.pins.is_empty() || !self.records.is_empty() || self.config.history.is_some() {
            let kept = self.config.server_id.clone();
            return self.note(Note::IdKept {
                kept,
                assigned: assigned.clone(),
            });
        }
        let wished = std::mem::replace(&mut self.config.server_id, assigned.clone());
        self.note(Note::IdAssigned {
            wished,
            assigned: assigned.clone(),
        });
        self.save(Record::Identity(assigned.clone()), AfterSave::Nothing);
    }

    /// Users count where the introducer speaks for itself.
    fn learn_from_welcome(&mut self, now: Now, link: LinkId, introducer: &ServerId, welcome: ServerWelcome) {
        // A welcome that waited for a proof is old: whoever left meanwhile was not taken back on this link. One of ours
        // advertises everyone anyway.
        let is_old = self.can_prove(welcome.caps.as_ref());
        self.learn_servers(now, introducer, welcome.servers);
        let clients = welcome.clients.into_iter().filter(|_| !is_old);
        for client in clients.take(WELCOME_CLIENTS_COUNT_MAX) {
            if client.server_id.as_ref().is_none_or(|server| server == introducer) {
                self.learn_user(now, link, introducer, client.user_id, client.pubkey);
            }
        }
    }

    /// The servers that the introducer did not name before our proof (PROTOCOL II.2).
    pub(super) fn on_more_servers(&mut self, now: Now, link: LinkId, introducer: &ServerId, welcome: ServerWelcome) {
        let may_name = match self.links.get_mut(&link) {
            Some(Link::Peer(peer)) => std::mem::take(&mut peer.may_name_servers),
            Some(Link::New { .. } | Link::User(_)) | None => false,
        };
        if !may_name {
            let kind = FrameKind::ServerWelcome;
            return self.on_fault(now, link, &Fault::OutOfPlace { kind });
        }
        self.learn_servers(now, introducer, welcome.servers);
    }

    /// Servers are dialled, not believed: their keys are pinned when they show them.
    fn learn_servers(&mut self, now: Now, introducer: &ServerId, servers: Vec<WelcomeServer>) {
        for WelcomeServer {
            server_id,
            host,
            port,
            tls,
            pubkey,
        } in servers.into_iter().take(SERVERS_COUNT_MAX)
        {
            let is_other = server_id != self.config.server_id && server_id != *introducer;
            let is_conflict = self.pins.get(&server_id).is_some_and(|pin| pin.key != pubkey);
            if is_other && !is_conflict && pubkey != self.config.key && !host.is_empty() && port != 0 {
                self.want_address(now, (host, port, tls), pubkey, server_id, true);
            }
        }
    }

    /// Whether a server may be who it says it is; else it is told that, and the link ends.
    pub(super) fn is_acceptable(
        &mut self,
        now: Now,
        link: LinkId,
        server: &ServerId,
        identity: &ServerIdentity,
        proves: bool,
    ) -> bool {
        let key = &identity.pubkey;
        if *key == self.config.key || *server == self.config.server_id {
            self.refuse_key(now, link, "this is the same server, or one that has its id");
            return false;
        }
        if self.is_taken_by_other_than_server(server) {
            self.refuse_key(now, link, "this id is a user's");
            return false;
        }
        if self
            .pins
            .values()
            .any(|pin| pin.key == *key && pin.server_id != *server)
        {
            self.refuse_key(now, link, "this key is pinned for another id");
            return false;
        }
        if self.is_promised_to_another(server, key) {
            self.refuse_key(now, link, "another server is just being given this id");
            return false;
        }
        let is_pin_checked = !self.is_mutated(Mutation::NoPinCheck);
        let conflict = self.conflicting_pin(server, key, identity.history.as_ref(), proves);
        if let Some(pin) = conflict.filter(|_| is_pin_checked) {
            let (server, pinned, offered) = (server.clone(), pin.key.fingerprint(), key.fingerprint());
            self.note(Note::PinConflict {
                server,
                pinned,
                offered,
            });
            self.refuse_key(now, link, "another key is pinned for this id");
            return false;
        }
        if !proves && self.must_prove(server) {
            self.note(Note::ProofWithheld { server: server.clone() });
            let class = ("proof", ErrorCode::InvalidSig);
            self.refuse_server(now, link, class, PROOF_WITHHELD, "no proof/1");
            return false;
        }
        if !self.pins.contains_key(server) && self.pins.len() >= SERVERS_COUNT_MAX {
            let why = "this server knows too many servers";
            self.give_up(now, link, CloseCode::TryAgainLater, why);
            return false;
        }
        true
    }

    /// Pins a server, makes the link its own and answers; whether it is welcome at all.
    fn meet(&mut self, now: Now, link: LinkId, server: ServerId, identity: ServerIdentity, reply: Reply) -> bool {
        let key = identity.pubkey.clone();
        let has_proved = self.proving.contains(&link);
        if !self.is_acceptable(now, link, &server, &identity, has_proved) {
            return false;
        }
        let is_dialled = self.links.get(&link).and_then(Link::dial).is_some();
        if has_proved && is_dialled {
            if self.is_found_elsewhere(now, link, &server, &key) {
                return false;
            }
            self.prove_ourselves(now, link);
        }
        let trust = self.trust_of(identity.caps.as_ref());
        let in_batches = InBatches::new(now.mono, self.is_told_in_batches(identity.caps.as_ref()));
        let feed = self.keeps_with(identity.caps.as_ref()).then(Feed::default);
        let pin = ServerPin {
            server_id: server.clone(),
            key,
            host: identity.host,
            port: identity.port,
            has_tls: identity.tls,
            name: identity.name.map(|name| name.chars().take(64).collect()),
            has_proved: has_proved || self.pins.get(&server).is_some_and(|pin| pin.has_proved),
            keeps: identity.caps.as_ref().is_some_and(|caps| caps.has(ACK)),
        };
        self.end_link_of_replaced_key(now, &pin);
        self.make_peer(now, link, &pin, (trust, in_batches, feed));
        if self.pins.get(&server) == Some(&pin) {
            self.answer_newcomer(now, link, reply);
            return true;
        }
        let before = self.pins.get(&server).cloned().map(Box::new);
        if before.is_none() {
            let fingerprint = pin.key.fingerprint();
            let server = server.clone();
            self.note(Note::Pinned { server, fingerprint });
        }
        let record = match self.note_successor(&pin) {
            true => Record::PinReplaced(pin.clone()),
            false => Record::Pin(pin.clone()),
        };
        self.trust(pin);
        self.save(
            record,
            AfterSave::Answer {
                link,
                reply,
                server,
                before,
            },
        );
        true
    }

    /// Whether an id is ours or a user's.
    fn is_taken_by_other_than_server(&self, server: &ServerId) -> bool {
        let user = UserId::from(socp_proto::Id::from(server));
        *server == self.config.server_id || self.records.contains_key(&user) || self.people.get(&user).is_some()
    }

    pub(super) fn trust(&mut self, pin: ServerPin) {
        self.outputs.push_back(Output::Trust {
            server: pin.server_id.clone(),
            key: pin.key.clone(),
        });
        self.pins.insert(pin.server_id.clone(), pin);
    }

    /// The operator says that a pin is out of date. The link, if there is one, ends; whoever comes next is met as if
    /// for the first time.
    pub(super) fn on_unpin(&mut self, now: Now, server: &ServerId) {
        if self.pins.remove(server).is_none() {
            return;
        }
        self.outputs.push_back(Output::Distrust { server: server.clone() });
        self.dial_anew(now, server);
        if let Some(link) = self.peers.get(server).copied() {
            self.give_up(
                now,
                link,
                CloseCode::PolicyViolation,
                "the operator removed the pin of this server",
            );
        }
        self.save(Record::Unpinned(server.clone()), AfterSave::Nothing);
        self.give_up_outbound(now, server);
        self.note(Note::Unpinned { server: server.clone() });
    }

    fn make_peer(
        &mut self,
        now: Now,
        link: LinkId,
        pin: &ServerPin,
        (trust, in_batches, feed): (Trust, InBatches, Option<Feed>),
    ) {
        let state = self.links.get(&link);
        let dial = state.and_then(Link::dial);
        let prover = state.and_then(Link::prover);
        let has_announced = dial.is_some() || prover.is_some_and(|prover| prover.is_announced);
        let has_proved = self.proving.remove(&link);
        let server = pin.server_id.clone();
        if let Some(target) = dial.and_then(|dial| self.dials.get_mut(dial)) {
            target.server = Some(server.clone());
        }
        let peer = PeerLink {
            server: server.clone(),
            dial,
            trust,
            has_proved,
            is_announced: has_announced,
            is_answered: dial.is_some(),
            may_name_servers: false,
            last_heard: now.mono,
            faults: FaultCount::default(),
            linked_at: now.mono,
            in_batches,
            feed,
        };
        self.links.insert(link, Link::Peer(peer));
        self.outputs.push_back(Output::Identified {
            link,
            role: Role::Peer(server.clone()),
        });
        self.timers
            .set(now.mono.saturating_add(HEARTBEAT_INTERVAL_MS), Timer::Heartbeat(link));
        self.timers
            .set(now.mono.saturating_add(LINK_SILENCE_MAX_MS), Timer::Silence(link));
        self.reset_backoff(&server);
        if let Some(dial) = dial {
            self.try_next_entry(now, dial);
        }
        self.take_into_use(link, &server, pin);
    }

    /// Makes this the peer's link, or gives up one of two.
    fn take_into_use(&mut self, link: LinkId, server: &ServerId, pin: &ServerPin) {
        let was_dialled = |state: Option<&Link>| state.and_then(Link::dial).is_some();
        self.forget_hearers();
        let Some(old) = self.peers.insert(server.clone(), link) else {
            let fingerprint = pin.key.fingerprint();
            return self.note(Note::PeerUp {
                server: server.clone(),
                name: pin.name.clone(),
                fingerprint,
                link,
            });
        };
        let (old_dialled, new_dialled) = (was_dialled(self.links.get(&old)), was_dialled(self.links.get(&link)));
        let kept = link_to_keep(&self.config.server_id, server, (old, old_dialled), (link, new_dialled));
        let dropped = if kept == old { link } else { old };
        self.peers.insert(server.clone(), kept);
        // What it said of its users on a link that is dead at the far end counts when it says so again.
        let except = self.is_left_behind(old, kept).then_some(server);
        self.people.move_link(dropped, kept, except);
        self.move_telling(dropped, kept);
        self.note(Note::DuplicateLink {
            server: server.clone(),
            link: dropped,
        });
        self.close(dropped, CloseCode::Normal, "a second link to the same server");
    }

    /// The newcomer's key is pinned on disk: answer, and tell who is here.
    pub(super) fn answer_newcomer(&mut self, now: Now, link: LinkId, reply: Reply) {
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return;
        };
        peer.is_answered = true;
        let (server, has_proved) = (peer.server.clone(), peer.has_proved);
        match reply {
            Reply::Welcome { assigned_id, to } => {
                let welcome = match has_proved {
                    true => self.welcome_without_users(&assigned_id, WELCOME_LIST_BYTES_MAX).0,
                    false => self.welcome(assigned_id),
                };
                self.send(&[link], now, &to, &Payload::ServerWelcome(welcome));
            }
            Reply::Announce => self.announce_once(now, link),
            Reply::Nothing => {}
        }
        self.tell_delegation(now, link);
        self.on_peer_linked(now, link, &server);
        self.begin_telling(now, link);
        self.pump(link);
    }

    fn announce_once(&mut self, now: Now, link: LinkId) {
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return;
        };
        if !std::mem::replace(&mut peer.is_announced, true) {
            self.announce(now, link);
        }
    }

    fn welcome(&self, assigned_id: ServerId) -> ServerWelcome {
        let (welcome, _) = self.welcome_without_users(&assigned_id, WELCOME_LIST_BYTES_MAX);
        let clients = self.people.welcome_clients(&self.config, &self.pins);
        let (clients, _) = within_bytes(WELCOME_LIST_BYTES_MAX, clients.into_iter(), |client| {
            let host_bytes = client.host.as_ref().map_or(0, String::len);
            let key_bytes = client.pubkey.as_ref().map_or(0, |key| key.as_str().len());
            key_bytes.saturating_add(host_bytes)
        });
        ServerWelcome { clients, ..welcome }
    }

    /// A welcome that names as many servers as fit; whether these are all.
    pub(super) fn welcome_without_users(&self, assigned_id: &ServerId, bytes_max: usize) -> (ServerWelcome, bool) {
        let is_known =
            |known: &WelcomeServer| known.server_id != *assigned_id && !known.host.is_empty() && known.port != 0;
        let pinned = self.pins.values().map(|pin| WelcomeServer {
            server_id: pin.server_id.clone(),
            host: pin.host.clone(),
            port: pin.port,
            tls: pin.has_tls,
            pubkey: pin.key.clone(),
        });
        // Of two who come at the same time one must hear of the other; what either says of itself is hearsay anyway.
        let proving = self.provers().map(Prover::as_heard);
        let proving = proving.filter(|known| !self.pins.contains_key(&known.server_id));
        let servers = pinned.chain(proving).filter(is_known);
        let (servers, is_all) = within_bytes(bytes_max, servers, |server| {
            server.pubkey.as_str().len().saturating_add(server.host.len())
        });
        let welcome = ServerWelcome {
            clients: Vec::new(),
            servers,
            server_id: Some(self.config.server_id.clone()),
            pubkey: Some(self.config.key.clone()),
            host: Some(self.config.host.clone()),
            port: Some(self.config.port),
            tls: self.config.has_tls,
            history: self.config.history.clone(),
            name: self.config.name.clone(),
            caps: Some(self.own_caps_for_servers()),
            nonce: None,
            assigned_id: assigned_id.clone(),
        };
        (welcome, is_all)
    }

    /// A linked peer tells its address again, or for the first time after it joined.
    pub(super) fn on_peer_announce(&mut self, now: Now, link: LinkId, server: &ServerId, identity: ServerIdentity) {
        let kind = FrameKind::ServerAnnounce;
        if !self.keeps_capability(now, link, kind, identity.caps.as_ref()) {
            return;
        }
        let Some(pin) = self.pins.get(server) else {
            return;
        };
        if pin.key != identity.pubkey {
            let (pinned, offered) = (pin.key.fingerprint(), identity.pubkey.fingerprint());
            self.note(Note::PinConflict {
                server: server.clone(),
                pinned,
                offered,
            });
            return self.refuse_key(now, link, "another key is pinned for this id");
        }
        let name = identity.name.map(|name| name.chars().take(64).collect());
        let renewed = ServerPin {
            host: identity.host,
            port: identity.port,
            has_tls: identity.tls,
            name,
            ..pin.clone()
        };
        if *pin != renewed {
            self.trust(renewed.clone());
            self.save(Record::Pin(renewed), AfterSave::Nothing);
        }
        self.want_link(now, server);
        self.announce_once(now, link);
    }
}

/// As many as fit into their part of a welcome, and whether these are all; `bytes` counts what varies in size.
fn within_bytes<T>(bytes_max: usize, items: impl Iterator<Item = T>, bytes: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let mut left = Some(bytes_max);
    let fits = |item: &T| {
        // Two ids of 64 bytes and the names of the fields.
        left = left.and_then(|left| left.checked_sub(bytes(item).saturating_add(256)));
        left.is_some()
    };
    let found = items.take_while(fits).collect();
    (found, left.is_some())
}
