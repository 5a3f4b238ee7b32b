//! Who is speaking (PROTOCOL II.2): a link belongs to the server that holds the key now.
//!
//! The signature of an introduction covers neither its time nor its reader, so whoever has recorded one can say it
//! again. Where both ends can, an introduction therefore carries a nonce, and a link has no role before the far end has
//! signed ours. Whoever was dialled proves itself first, right behind its own introduction; whoever dialled then.

use super::Server;
use super::fault::{CloseCode, Fault};
use super::io::{DialId, FirstFrame, LinkId, Note, Reply, TlsSession};
use super::link::{Link, Stage};
use super::mutation::Mutation;
use super::successor::leads;
use crate::clock::Now;
use rand_core::Rng;
use socp_proto::limits::{PROVERS_PER_KEY_COUNT_MAX, WELCOME_UNPROVEN_BYTES_MAX};
use socp_proto::payload::{ServerIdentity, ServerWelcome, WelcomeServer};
use socp_proto::{
    Address, Bytes32, Capabilities, Envelope, Fingerprint, Frame, Id, KeyText, PROOF, Payload, Proof, ServerId,
    hello_digest,
};

/// How we introduced ourselves on a link.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// What the far end's proof must name.
    nonce: Bytes32,
    /// What ours must.
    hello: Bytes32,
    /// Who we said that we are.
    us: ServerId,
}

/// How a server introduced itself to us, and what that leads to.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) server: ServerId,
    pub(super) identity: ServerIdentity,
    pub(super) reply: Reply,
    /// It lets us in.
    pub(super) welcome: Option<ServerWelcome>,
}

/// A server that must prove what it said of itself.
#[derive(Debug, Clone)]
pub(super) struct Prover {
    introduction: Introduction,
    /// What our proof must name.
    nonce: Bytes32,
    /// The digest of its introduction, which its proof must name.
    hello: Bytes32,
    said: Said,
    /// What it wished to be called, where it was given its id by us and may have made that its own.
    wished: Option<ServerId>,
    /// Our announcement was our answer.
    pub(super) is_announced: bool,
}

impl Introduction {
    pub(super) fn of(server: ServerId, identity: ServerIdentity, reply: Reply) -> Self {
        Self {
            server,
            identity,
            reply,
            welcome: None,
        }
    }

    fn is_of(&self, server: &ServerId) -> bool {
        self.server == *server
    }
}

impl Prover {
    /// Who it says it is.
    pub(super) fn server(&self) -> &ServerId {
        &self.introduction.server
    }

    /// What others may hear of it meanwhile: where to ask.
    pub(super) fn as_heard(&self) -> WelcomeServer {
        let Introduction { server, identity, .. } = &self.introduction;
        WelcomeServer {
            server_id: server.clone(),
            host: identity.host.clone(),
            port: identity.port,
            tls: identity.tls,
            pubkey: identity.pubkey.clone(),
        }
    }

    /// Whether this is the proof that was asked for, but for its time.
    fn check(&self, proof: &Proof, own_key: &KeyText) -> Result<(), Fault> {
        let table = [
            (proof.nonce == self.said.nonce, "it names another nonce"),
            (proof.server_id == self.said.us, "it is for another server"),
            (proof.key == own_key.fingerprint().into(), "it is for another key"),
            (proof.by == self.introduction.server, "it is by another server"),
            (proof.hello == self.hello, "it is of another introduction"),
        ];
        let wrong = table.into_iter().find(|(is_right, _)| !is_right);
        wrong.map_or(Ok(()), |(_, reason)| Err(Fault::Proof { reason }))
    }
}

/// Whether a proof was made on the TLS session that it came over (RFC 9266). Where that ends here, its maker must say so,
/// unless its certificate is good and it has said nothing of a session: then TLS may end in front of it, at its own
/// proxy, and it cannot know. Where no TLS ends here, what it says of it is nothing that we could compare.
pub(super) fn check_binding(proof: &Proof, tls: Option<TlsSession>) -> Result<(), Fault> {
    let Some(session) = tls else { return Ok(()) };
    let reason = match proof.tls {
        Some(claimed) if claimed == session.binding => return Ok(()),
        None if session.is_certified => return Ok(()),
        Some(_) => "it is of another TLS session: somebody stands between",
        None => "it names no TLS session",
    };
    Err(Fault::Proof { reason })
}

impl Server {
    pub(super) fn fresh_nonce(&mut self) -> Bytes32 {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        Bytes32::from(bytes)
    }

    /// What is to be remembered of an introduction of ours; nothing where it asks for no proof.
    pub(super) fn said(&self, payload: &Payload) -> Option<Said> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else introduces us")]
        let nonce = match payload {
            Payload::ServerHelloJoin(identity) | Payload::ServerAnnounce(identity) => identity.nonce?,
            Payload::ServerWelcome(welcome) => welcome.nonce?,
            _ => return None,
        };
        Some(Said {
            nonce,
            hello: hello_digest(&payload.to_object()),
            us: self.config.server_id.clone(),
        })
    }

    /// Whether this id has proved its key before, so that nothing less is believed.
    pub(super) fn must_prove(&self, server: &ServerId) -> bool {
        let has_proved = self.pins.get(server).is_some_and(|pin| pin.has_proved);
        has_proved && self.asks_for_proofs()
    }

    fn asks_for_proofs(&self) -> bool {
        self.config.proves && !self.is_mutated(Mutation::NoProofCheck)
    }

    /// Whether a server or a user with these capabilities must prove itself.
    pub(super) fn can_prove(&self, caps: Option<&Capabilities>) -> bool {
        self.asks_for_proofs() && caps.is_some_and(|caps| caps.has(PROOF))
    }

    /// A server has said who it is: it is met, once it has proved that where both can.
    pub(super) fn on_introduced(&mut self, now: Now, link: LinkId, envelope: &Envelope, introduction: Introduction) {
        let can_prove = self.can_prove(introduction.identity.caps.as_ref());
        if self.is_uncertified(link) && !(can_prove && self.is_known(link, &introduction)) {
            return self.refuse_uncertified(now, link);
        }
        if !can_prove {
            return self.enter(now, link, introduction);
        }
        let Some(nonce) = introduction.identity.nonce else {
            let reason = "an introduction with proof/1 needs a nonce";
            return self.on_fault(now, link, &Fault::Proof { reason });
        };
        let (server, identity) = (introduction.server.clone(), introduction.identity.clone());
        if !self.is_acceptable(now, link, &server, &identity, true) {
            return;
        }
        self.ask_for_proof(now, link, introduction, nonce, hello_digest(&envelope.payload));
    }

    /// What our proof on this link names, where its TLS session ends here.
    pub(super) fn binding(&self, link: LinkId) -> Option<Bytes32> {
        let tls = self.links.get(&link).and_then(Link::tls);
        tls.map(|session| session.binding)
    }

    /// Whether we dialled it, over TLS, and nothing but a proof can say who is there.
    fn is_uncertified(&self, link: LinkId) -> bool {
        let state = self.links.get(&link);
        let is_dialled = state.and_then(Link::dial).is_some();
        let tls = state.and_then(Link::tls);
        is_dialled && tls.is_some_and(|session| !session.is_certified)
    }

    /// Whether a key was looked for, and its key is that, or is pinned for it.
    fn is_known(&self, link: LinkId, introduction: &Introduction) -> bool {
        let key = &introduction.identity.pubkey;
        let dial = self.links.get(&link).and_then(Link::dial);
        let told = dial
            .and_then(|dial| self.dials.get(dial))
            .and_then(|target| target.key.as_ref());
        let pinned = self.pins.get(&introduction.server).map(|pin| &pin.key);
        let history = introduction.identity.history.as_ref();
        let fits = |known: &KeyText| known == key || leads(history, &introduction.server, known, key);
        told.is_some_and(|told| fits(told) || pinned.is_some_and(fits))
    }

    /// Introduces us too, unless we dialled, and proves it.
    fn ask_for_proof(
        &mut self,
        now: Now,
        link: LinkId,
        mut introduction: Introduction,
        nonce: Bytes32,
        hello: Bytes32,
    ) {
        let Some(Link::New { stage, .. }) = self.links.get(&link) else {
            return;
        };
        let said = match stage {
            Stage::Introduced(said) => Some(said.clone()),
            Stage::Silent | Stage::AwaitsProof(_) | Stage::Challenged(_) | Stage::LoggingIn(_) => None,
        };
        let reply = &mut introduction.reply;
        let (wished, is_announced) = match reply {
            Reply::Welcome { to, .. } => (Some(to.clone()), false),
            Reply::Announce => (None, true),
            Reply::Nothing => (None, false),
        };
        let is_dialled = said.is_some();
        if !is_dialled {
            self.make_room_for_prover(now, &introduction.identity.pubkey);
        }
        let Some(mut said) = said.or_else(|| self.answer_with_nonce(now, link, reply)) else {
            // Whom we dialled we asked for a proof.
            return self.give_up(now, link, CloseCode::InternalError, "not introduced");
        };
        if let Some(welcome) = &introduction.welcome {
            said.us = welcome.assigned_id.clone();
        }
        // It may be kept for a while.
        let name = introduction.identity.name.take();
        introduction.identity.name = name.map(|name| name.chars().take(64).collect());
        let prover = Prover {
            introduction,
            nonce,
            hello,
            said,
            wished,
            is_announced,
        };
        if let Some(Link::New { stage, .. }) = self.links.get_mut(&link) {
            *stage = Stage::AwaitsProof(Box::new(prover));
            self.proving.insert(link);
        }
        if !is_dialled {
            self.prove_ourselves(now, link);
        }
    }

    /// Of the links that others opened and that wait for the proof of one key, the oldest makes room for another: whoever
    /// says again what a server said cannot fill our memory, and does not keep that server out.
    fn make_room_for_prover(&mut self, now: Now, key: &KeyText) {
        let is_same = |link: &LinkId| {
            let state = self.links.get(link).filter(|state| state.dial().is_none());
            let prover = state.and_then(Link::prover);
            prover.is_some_and(|prover| prover.introduction.identity.pubkey == *key)
        };
        let same: Vec<LinkId> = self.proving.iter().copied().filter(is_same).collect();
        if let Some(oldest) = same.first().filter(|_| same.len() >= PROVERS_PER_KEY_COUNT_MAX) {
            let why = "too many links wait for the proof of this key";
            self.give_up(now, *oldest, CloseCode::TryAgainLater, why);
        }
    }

    /// Answers an introduction with ours, as far as one may be answered that is not proved; the rest is left.
    fn answer_with_nonce(&mut self, now: Now, link: LinkId, answer: &mut Reply) -> Option<Said> {
        let nonce = Some(self.fresh_nonce());
        let (to, payload) = match std::mem::replace(answer, Reply::Nothing) {
            Reply::Welcome { assigned_id, to } => {
                let (welcome, is_all) = self.welcome_without_users(&assigned_id, WELCOME_UNPROVEN_BYTES_MAX);
                if !is_all {
                    let to = assigned_id.clone();
                    *answer = Reply::Welcome { assigned_id, to };
                }
                let welcome = ServerWelcome { nonce, ..welcome };
                (Address::from(&to), Payload::ServerWelcome(welcome))
            }
            Reply::Announce => {
                let identity = ServerIdentity {
                    nonce,
                    ..self.identity()
                };
                (Address::everyone(), Payload::ServerAnnounce(identity))
            }
            Reply::Nothing => return None,
        };
        self.send(&[link], now, to, &payload);
        self.said(&payload)
    }

    /// Shows the server at the far end that we hold the key that we introduced ourselves with.
    pub(super) fn prove_ourselves(&mut self, now: Now, link: LinkId) {
        let Some(prover) = self.links.get(&link).and_then(Link::prover) else {
            return;
        };
        let Introduction { server, identity, .. } = &prover.introduction;
        let proof = Proof {
            nonce: prover.nonce,
            server_id: server.clone(),
            key: identity.pubkey.fingerprint().into(),
            by: Id::from(&self.config.server_id),
            hello: prover.said.hello,
            ts: now.unix,
            tls: self.binding(link),
        };
        let to = Address::from(server);
        self.send(&[link], now, to, &Payload::Proof(proof));
    }

    /// Gives up a link on which a server answered that we are linked to and did not look for at this address. Whoever
    /// is there might pass every word on between us and it; and it has given up nothing before our proof.
    pub(super) fn is_found_elsewhere(&mut self, now: Now, link: LinkId, server: &ServerId, key: &KeyText) -> bool {
        let is_linked = self.peers.contains_key(server);
        let dial = self.links.get(&link).and_then(Link::dial);
        let Some(target) = dial.and_then(|dial| self.dials.get_mut(dial)).filter(|_| is_linked) else {
            return false;
        };
        if target.key.as_ref() == Some(key) || target.server.as_ref() == Some(server) {
            return false;
        }
        target.server = Some(server.clone());
        self.note(Note::DuplicateLink {
            server: server.clone(),
            link,
        });
        self.give_up(now, link, CloseCode::Normal, "a second link to the same server");
        true
    }

    /// A frame on a link that wants a proof: that, or a refusal.
    pub(super) fn on_frame_of_prover(&mut self, now: Now, link: LinkId, dial: Option<DialId>, first: FirstFrame) {
        let FirstFrame {
            frame: Frame { envelope, payload },
            signer,
            ..
        } = first;
        let kind = envelope.kind;
        #[expect(clippy::wildcard_enum_match_arm, reason = "any other kind is out of place")]
        match payload {
            Payload::Proof(proof) => self.on_proof(now, link, &proof, signer),
            Payload::Error(notice) => self.on_rejected(now, link, dial, notice),
            _ => self.on_fault(now, link, &Fault::OutOfPlace { kind }),
        }
    }

    fn on_proof(&mut self, now: Now, link: LinkId, proof: &Proof, signer: Option<Fingerprint>) {
        let Some(prover) = self.links.get(&link).and_then(Link::prover) else {
            return;
        };
        if signer != Some(prover.introduction.identity.pubkey.fingerprint()) {
            let reason = "it is not signed by the key of the introduction";
            return self.on_fault(now, link, &Fault::Proof { reason });
        }
        if let Err(fault) = prover.check(proof, &self.config.key) {
            return self.on_fault(now, link, &fault);
        }
        let state = self.links.get(&link);
        if let Err(fault) = check_binding(proof, state.and_then(Link::tls)) {
            if let Some(target) = state.and_then(Link::dial).and_then(|dial| self.dials.get(dial)) {
                let address = target.address();
                self.note(Note::StandsBetween { address });
            }
            return self.on_fault(now, link, &fault);
        }
        let introduction = prover.introduction.clone();
        if !self.is_fresh(now, proof.ts) {
            let reason = "its time is too far from this server's clock";
            return self.on_fault(now, link, &Fault::Proof { reason });
        }
        self.enter(now, link, introduction);
    }

    pub(super) fn provers(&self) -> impl Iterator<Item = &Prover> {
        let links = self.proving.iter().filter_map(|link| self.links.get(link));
        links.filter_map(Link::prover)
    }

    /// The id that a server with this key was just given by us for this wish. The wish is not signed: for another it may
    /// be given another id.
    pub(super) fn promised_to(&self, key: &KeyText, wished: &ServerId) -> Option<ServerId> {
        let mut promised = self.provers().filter(|prover| prover.wished.as_ref() == Some(wished));
        let found = promised.find(|prover| prover.introduction.identity.pubkey == *key)?;
        Some(found.introduction.server.clone())
    }

    /// Whether a server was just given this id by us, and may have made it its own.
    pub(super) fn is_promised(&self, server: &ServerId) -> bool {
        let mut promised = self.provers().filter(|prover| prover.wished.is_some());
        promised.any(|prover| prover.introduction.is_of(server))
    }

    /// The same, of a server with another key.
    pub(super) fn is_promised_to_another(&self, server: &ServerId, key: &KeyText) -> bool {
        let mut promised = self.provers().filter(|prover| prover.wished.is_some());
        promised.any(|prover| prover.introduction.is_of(server) && prover.introduction.identity.pubkey != *key)
    }

    /// Whether a server with another key is about to prove that this id is its own.
    pub(super) fn is_claimed_by_another(&self, server: &ServerId, key: &KeyText) -> bool {
        let mut claims = self.provers().map(|prover| &prover.introduction);
        claims.any(|claim| claim.is_of(server) && claim.identity.pubkey != *key)
    }
}
