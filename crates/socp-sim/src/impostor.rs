//! What servers that lie do with who they say they are: they prove it, or say again what honest servers said.
//!
//! Nobody here signs with another's key, so all that is left is to repeat: an introduction, a proof that was meant for
//! somebody else, or every word as it comes, from one honest server to another (PROTOCOL II.2).

use crate::event::{Event, Item};
use crate::hostile::Part;
use crate::net::Host;
use crate::node::BEGIN;
use crate::toys::Parcel;
use crate::world::World;
use socp_core::server::LinkId;
use socp_proto::{Bytes32, Envelope, FrameKind, Id, KeyText, Object, Payload, Proof, ServerId, hello_digest};
use std::rc::Rc;

/// How long it keeps up a line on which it plays somebody, ms: longer than a proof may take.
const PLAY_MS: u64 = 15_000;

impl World {
    /// Says first on a line who it is, in the part that it plays there.
    pub(crate) fn hostile_introduces(&mut self, host: Host, link: LinkId, to: &str, payload: &Payload) {
        let Some((id, key)) = self.played(host, link) else {
            return;
        };
        self.lie_with(link, (Id::from(&id), &key), to, payload);
        if let Some(line) = self.liar(host).lines.get_mut(&link) {
            line.said = Some(payload.to_object());
        }
    }

    /// Whom it plays with a key of its own.
    fn played(&mut self, host: Host, link: LinkId) -> Option<(ServerId, KeyText)> {
        let liar = self.liar(host);
        match &liar.lines.get(&link)?.part {
            Part::Itself => Some((liar.id.clone(), liar.key.clone())),
            Part::Mask(id, key) => Some((id.clone(), key.clone())),
            Part::Echo | Part::Wire(_) | Part::Proofs(_) => None,
        }
    }

    /// An honest server says who it is, or anything on a line that only leads on; whether that is all.
    pub(crate) fn hostile_is_introduced(&mut self, host: Host, link: LinkId, parcel: &Rc<Parcel>) -> bool {
        let Some(line) = self.liar(host).lines.get(&link) else {
            return true;
        };
        let is_proof = parcel.frame.envelope.kind == FrameKind::Proof;
        if let Part::Wire(other) | Part::Proofs(other) = line.part {
            if is_proof || matches!(line.part, Part::Wire(_)) {
                self.net.send(&mut self.queue, other, Item::Frame(Rc::clone(parcel)));
            }
            return true;
        }
        let (is_up, has_spoken) = (line.is_up, line.said.is_some());
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else introduces anybody")]
        let nonce = match &parcel.frame.payload {
            Payload::ServerAnnounce(identity) | Payload::ServerHelloJoin(identity) => identity.nonce,
            Payload::ServerWelcome(welcome) => welcome.nonce,
            _ => return false,
        };
        if is_up {
            return false;
        }
        if matches!(line.part, Part::Echo) {
            self.play_on(host, link, parcel);
            return true;
        }
        if !has_spoken && self.liar(host).dice.chance(20) && self.pass_on(host, link, parcel) {
            return true;
        }
        let mut reader = parcel.frame.envelope.from.clone();
        if !has_spoken {
            let wished = parcel.frame.envelope.from.as_str().to_owned();
            let answer = if matches!(parcel.frame.payload, Payload::ServerHelloJoin(_)) {
                let welcome = self.lying_welcome(host, &wished);
                reader = Id::from(&welcome.assigned_id);
                Payload::ServerWelcome(welcome)
            } else {
                Payload::ServerAnnounce(self.liar(host).own_identity())
            };
            self.hostile_introduces(host, link, &wished, &answer);
        }
        if let Some(nonce) = nonce {
            self.hostile_proves(host, link, &ServerId::from(reader), nonce);
        }
        if let Some(line) = self.liar(host).lines.get_mut(&link) {
            line.is_up = matches!(line.part, Part::Itself);
        }
        true
    }

    /// Proves that it holds the key that it introduced itself with, as every server may.
    fn hostile_proves(&mut self, host: Host, link: LinkId, reader: &ServerId, nonce: Bytes32) {
        let Some((id, key)) = self.played(host, link) else {
            return;
        };
        let Some(line) = self.liar(host).lines.get(&link) else {
            return;
        };
        let (far, said) = (line.far, line.said.clone().unwrap_or_default());
        if said.contains_key("nonce") {
            let proof = self.proof(far, reader, nonce, &id, &said);
            self.lie_with(link, (Id::from(&id), &key), reader.as_str(), &Payload::Proof(proof));
        }
    }

    fn proof(&self, far: Host, reader: &ServerId, nonce: Bytes32, by: &ServerId, said: &Object) -> Proof {
        Proof {
            tls: None,
            nonce,
            server_id: reader.clone(),
            key: self.nodes[far].config.key.fingerprint().into(),
            by: by.into(),
            hello: hello_digest(said),
            ts: BEGIN + self.queue.now(),
        }
    }

    /// Says to one honest server what another once said of itself, as if it were that one.
    pub(crate) fn echo(&mut self, host: Host) {
        let liar = self.liar(host);
        let Some(recorded) = liar.dice.pick(&liar.introductions).cloned() else {
            return;
        };
        let honest: Vec<Host> = (0..self.nodes.len())
            .filter(|far| recorded.frame.envelope.from != self.nodes[*far].config.server_id)
            .collect();
        let Some(far) = self.liar(host).dice.pick(&honest).copied() else {
            return;
        };
        let Some(link) = self.hostile_connects(host, far) else {
            return;
        };
        if let Some(line) = self.liar(host).lines.get_mut(&link) {
            line.part = Part::Echo;
            line.said = Some(recorded.frame.envelope.payload.clone());
        }
        let envelope = Envelope {
            ts: BEGIN + self.queue.now(),
            ..recorded.frame.envelope.clone()
        };
        self.repeat_text(link, &envelope);
        self.queue.after(PLAY_MS, Event::HostileHangsUp { host, link });
    }

    fn repeat_text(&mut self, link: LinkId, envelope: &Envelope) {
        match Parcel::read(&envelope.to_text()) {
            Ok(parcel) => {
                self.net.send(&mut self.queue, link, Item::Frame(Rc::new(parcel)));
            }
            Err(why) => self.oracle.broken(format!("a liar repeats what is no frame: {why}")),
        }
    }

    /// The honest server has answered the echo and wants a proof, or takes it for who it is not.
    fn play_on(&mut self, host: Host, link: LinkId, answer: &Rc<Parcel>) {
        let liar = self.liar(host);
        let Some(line) = liar.lines.get(&link) else { return };
        let (far, said) = (line.far, line.said.clone().unwrap_or_default());
        let others = match liar.dice.below(4) {
            0 => &liar.changes,
            1 => &liar.proofs,
            2 => return self.forge_proof(host, link, answer, &said),
            _ => return self.ask_the_true_one(host, link, answer, far),
        };
        let Some(parcel) = liar.dice.pick(others).cloned() else {
            return;
        };
        self.net.send(&mut self.queue, link, Item::Frame(parcel));
    }

    /// All of it is right but the key.
    fn forge_proof(&mut self, host: Host, link: LinkId, answer: &Rc<Parcel>, said: &Object) {
        let own = self.liar(host).key.clone();
        let far = self.liar(host).lines[&link].far;
        let envelope = &answer.frame.envelope;
        let nonce = envelope.payload.get("nonce").and_then(serde_json::Value::as_str);
        let nonce = nonce.and_then(|nonce| socp_proto::Base64Url::try_from(nonce.to_owned()).ok());
        let Some(nonce) = nonce.and_then(|nonce| Bytes32::try_from(nonce).ok()) else {
            return;
        };
        let echoed = self.nodes.iter().find(|node| {
            let key = said.get("pubkey").and_then(serde_json::Value::as_str);
            key == Some(node.config.key.as_str())
        });
        let Some(id) = echoed.map(|node| node.config.server_id.clone()) else {
            return;
        };
        let reader = ServerId::from(envelope.from.clone());
        let proof = self.proof(far, &reader, nonce, &id, said);
        self.lie_with(link, (Id::from(&id), &own), "*", &Payload::Proof(proof));
    }

    /// Shows the answer to whom it plays, whose proof may do.
    fn ask_the_true_one(&mut self, host: Host, link: LinkId, answer: &Rc<Parcel>, far: Host) {
        if !matches!(answer.frame.payload, Payload::ServerAnnounce(_)) {
            return;
        }
        let others: Vec<Host> = (0..self.nodes.len()).filter(|other| *other != far).collect();
        let Some(true_one) = self.liar(host).dice.pick(&others).copied() else {
            return;
        };
        if let Some(asked) = self.hostile_connects(host, true_one) {
            if let Some(line) = self.liar(host).lines.get_mut(&asked) {
                line.part = Part::Proofs(link);
            }
            self.queue.after(PLAY_MS, Event::HostileHangsUp { host, link: asked });
            self.net.send(&mut self.queue, asked, Item::Frame(Rc::clone(answer)));
        }
    }

    /// Whoever dials it is led to another honest server, word for word; whether there is one.
    fn pass_on(&mut self, host: Host, link: LinkId, parcel: &Rc<Parcel>) -> bool {
        let far = self.liar(host).lines[&link].far;
        let others: Vec<Host> = (0..self.nodes.len()).filter(|other| *other != far).collect();
        let Some(other) = self.liar(host).dice.pick(&others).copied() else {
            return false;
        };
        let Some(onward) = self.hostile_connects(host, other) else {
            return false;
        };
        self.join_lines(host, link, onward);
        self.net.send(&mut self.queue, onward, Item::Frame(Rc::clone(parcel)));
        true
    }

    /// From now on what comes on one goes out on the other.
    fn join_lines(&mut self, host: Host, one: LinkId, other: LinkId) {
        for (link, onward) in [(one, other), (other, one)] {
            if let Some(line) = self.liar(host).lines.get_mut(&link) {
                line.part = Part::Wire(onward);
            }
            self.queue.after(PLAY_MS, Event::HostileHangsUp { host, link });
        }
    }
}
