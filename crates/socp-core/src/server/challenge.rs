//! Who says hello (PROTOCOL II.2): a session belongs to whoever holds the key of its id now.
//!
//! A hello can be repeated by whoever has seen one. Where the program can, it is therefore answered with a nonce, and
//! counts once the user's key has signed that. Until then the link is nobody's, and nothing is bound to the id.

use super::Server;
use super::directory::Refusal;
use super::fault::{CloseCode, Fault};
use super::io::{Accept, FirstFrame, LinkId, Note, TlsSession};
use super::link::{Link, Stage};
use super::proof::check_binding;
use crate::clock::Now;
use socp_proto::limits::HELLO_AGE_MAX_MS;
use socp_proto::payload::UserHello;
use socp_proto::{
    Bytes32, Challenge, Envelope, Fingerprint, Frame, KeyText, Payload, Proof, ServerId, UserId, hello_digest,
};

/// A user that must prove what its hello says.
#[derive(Debug)]
pub(super) struct Challenged {
    user: UserId,
    hello: UserHello,
    /// The digest of that hello.
    digest: Bytes32,
    nonce: Bytes32,
}

impl Challenged {
    /// Whether this is the proof that was asked for, by `signer`'s signature.
    fn check(
        &self,
        proof: &Proof,
        signer: Option<Fingerprint>,
        (own_id, own_key): (&ServerId, &KeyText),
        tls: Option<TlsSession>,
        now: Now,
    ) -> Result<(), Fault> {
        let is_signed = signer == Some(self.hello.pubkey.fingerprint());
        let is_recent = proof.ts.abs_diff(now.unix) <= HELLO_AGE_MAX_MS;
        let table = [
            (is_signed, "it is not signed by the key of the hello"),
            (proof.nonce == self.nonce, "it names another nonce"),
            (proof.server_id == *own_id, "it is for another server"),
            (proof.key == own_key.fingerprint().into(), "it is for another key"),
            (proof.by == self.user, "it is by another user"),
            (proof.hello == self.digest, "it is of another hello"),
            (is_recent, "its time is more than two minutes from this server's clock"),
        ];
        let wrong = table.into_iter().find(|(is_right, _)| !is_right);
        wrong.map_or(Ok(()), |(_, reason)| Err(Fault::Proof { reason }))?;
        check_binding(proof, tls)
    }
}

impl Server {
    /// A hello of a program that can prove it: refused where no proof would help, else answered with a nonce.
    pub(super) fn challenge(&mut self, now: Now, link: LinkId, user: UserId, envelope: &Envelope, hello: UserHello) {
        if let Err(refusal) = self.judge_hello(&user, &hello, true) {
            return self.refuse_hello(now, link, refusal);
        }
        let can_take = self.trust_of(hello.caps.as_ref()).delegates();
        let digest = hello_digest(&envelope.payload);
        let challenge = Challenge {
            nonce: self.fresh_nonce(),
            server_id: self.config.server_id.clone(),
            server_pub: self.config.key.clone(),
            hello: digest,
            caps: Some(self.own_caps()),
            delegation: None,
            tls: self.binding(link),
            history: self.config.history.clone(),
        };
        if let Some(Link::New { stage, .. }) = self.links.get_mut(&link) {
            let challenged = Challenged {
                user: user.clone(),
                hello,
                digest,
                nonce: challenge.nonce,
            };
            *stage = Stage::Challenged(Box::new(challenged));
        }
        self.send_challenge(now, link, &user, challenge, can_take);
        self.proceed(link);
    }

    /// A frame on a link whose user must prove itself: that, or a refusal.
    pub(super) fn on_frame_of_challenged(&mut self, now: Now, link: LinkId, first: FirstFrame) {
        let FirstFrame {
            frame: Frame { envelope, payload },
            signer,
            ..
        } = first;
        let kind = envelope.kind;
        #[expect(clippy::wildcard_enum_match_arm, reason = "any other kind is out of place")]
        match payload {
            Payload::Proof(proof) => self.on_user_proof(now, link, &proof, signer),
            Payload::Error(notice) => {
                let code = notice.code;
                self.note(Note::UserComplained { link, code });
                self.proceed(link);
                self.give_up(now, link, CloseCode::Normal, "our challenge was refused");
            }
            _ => self.on_fault(now, link, &Fault::OutOfPlace { kind }),
        }
    }

    /// The one answer to a challenge: right or wrong, the nonce is used up.
    fn on_user_proof(&mut self, now: Now, link: LinkId, proof: &Proof, signer: Option<Fingerprint>) {
        let Some(Link::New { stage, tls, .. }) = self.links.get_mut(&link) else {
            return;
        };
        let tls = *tls;
        let Stage::Challenged(challenged) = std::mem::replace(stage, Stage::Silent) else {
            return self.proceed(link);
        };
        let us = (&self.config.server_id, &self.config.key);
        if let Err(fault) = challenged.check(proof, signer, us, tls, now) {
            return self.on_fault(now, link, &fault);
        }
        self.clock_fitted = Some(now);
        let Challenged { user, hello, .. } = *challenged;
        // Somebody may have come meanwhile.
        match self.judge_hello(&user, &hello, true) {
            Err(refusal) => self.refuse_hello(now, link, refusal),
            Ok(()) => {
                self.accounts.set_proved(link);
                self.bind_key(now, link, user, hello, true);
            }
        }
    }

    /// Why a hello without the capability is refused where only proofs count.
    pub(super) fn wants_proof(&self) -> Option<Refusal> {
        match self.config.accept {
            Accept::Proof if self.config.proves => Some(Refusal::without_capability()),
            Accept::Proof | Accept::Signed | Accept::Open => None,
        }
    }
}
