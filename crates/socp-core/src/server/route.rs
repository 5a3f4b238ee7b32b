//! Direct messages on their way (SOCP §8.3, §9.2, §10, PROTOCOL I.7).

use super::Server;
use super::fault::Fault;
use super::io::{Delivered, LinkId, Note, Output};
use super::link::Link;
use super::presence::{Home, Person};
use crate::clock::Now;
use crate::seen::{content_key, frame_key};
use socp_proto::payload::{DirectMessage, ServerDeliver, UserDeliver, msg_ref};
use socp_proto::{Envelope, ErrorCode, Fingerprint, Payload, ServerId, UserId};
use std::sync::Arc;

/// Where a message goes next.
enum Hop {
    /// To these links of its user.
    Home(Vec<LinkId>),
    /// To this server, over this link.
    Server(ServerId, LinkId),
}

impl Server {
    /// `MSG_DIRECT` from the user of this link. `content` is the key that verified the content signature.
    pub(super) fn on_msg_direct(
        &mut self,
        now: Now,
        link: LinkId,
        envelope: &Envelope,
        message: DirectMessage,
        content: Option<Fingerprint>,
    ) {
        let reference = msg_ref(&message.content_sig);
        let author = UserId::from(envelope.from.clone());
        let bound = self.key_of(&author).map(socp_proto::KeyText::fingerprint);
        let is_own_key = bound == Some(message.sender_pub.fingerprint());
        let is_verified = !self.config.verify_content || (bound.is_some() && content == bound);
        if !is_own_key || !is_verified {
            return self.on_fault(now, link, &Fault::Content { msg_ref: reference });
        }
        let recipient = UserId::try_from(envelope.to.as_str()).ok();
        let hop = recipient.and_then(|user| Some((self.next_hop(&user, None)?, user)));
        let Some((hop, recipient)) = hop else {
            // Not remembered as seen: the author may send it again when its reader is back.
            return self.not_found(now, link, envelope.to.as_str(), reference);
        };
        if !self.seen.insert(now.mono, content_key(&message.content_sig.decode())) {
            return self.note(Note::Duplicate {
                link,
                kind: envelope.kind,
            });
        }
        let deliver = ServerDeliver {
            user_id: recipient.clone(),
            ciphertext: message.ciphertext,
            sender: author,
            sender_pub: message.sender_pub,
            content_sig: message.content_sig,
            ts: Some(envelope.ts),
        };
        match hop {
            Hop::Home(links) => self.deliver(link, &links, envelope.ts, deliver),
            Hop::Server(server, next) => {
                self.send_at(&[next], envelope.ts, &server, &Payload::ServerDeliver(deliver));
                self.note(Note::Routed { link, is_local: false });
            }
        }
    }

    /// `SERVER_DELIVER` from a peer: for a user of ours, or for one behind us.
    pub(super) fn on_server_deliver(&mut self, now: Now, link: LinkId, envelope: Envelope, deliver: ServerDeliver) {
        let reference = msg_ref(&deliver.content_sig);
        // Before anything is remembered, so that a forgery cannot keep the true message out.
        if self.is_forged(&deliver) {
            return self.on_fault(now, link, &Fault::Content { msg_ref: reference });
        }
        let Some(hop) = self.next_hop(&deliver.user_id, Some((link, &envelope))) else {
            return self.not_found(now, link, deliver.user_id.as_str(), reference);
        };
        let is_new_frame = self.seen.insert(now.mono, frame_key(&envelope));
        if !is_new_frame || !self.seen.insert(now.mono, content_key(&deliver.content_sig.decode())) {
            return self.note(Note::Duplicate {
                link,
                kind: envelope.kind,
            });
        }
        match hop {
            Hop::Home(links) => {
                let ts = deliver.ts.unwrap_or(envelope.ts);
                self.deliver(link, &links, ts, deliver);
            }
            Hop::Server(_, next) => {
                self.outputs.push_back(Output::Forward {
                    to: vec![next],
                    envelope: Arc::new(envelope),
                });
                self.note(Note::Routed { link, is_local: false });
            }
        }
    }

    /// What was delivered to our users before the server began.
    pub(super) fn remember_delivered(&mut self, _now: Now, _delivered: Vec<Delivered>) {}

    /// Whether a delivery for our user comes with another key than the sender's (PROTOCOL I.7).
    fn is_forged(&self, deliver: &ServerDeliver) -> bool {
        let home = self.people.get(&deliver.user_id).map(|person| &person.home);
        let is_ours = matches!(home, Some(Home::Local(_)));
        let key = self.key_of(&deliver.sender);
        is_ours && key.is_some_and(|key| *key != deliver.sender_pub)
    }

    /// The order of SOCP §10: a local link, else the home server, else nobody. What came from a server never goes back
    /// there or to its origin.
    fn next_hop(&self, recipient: &UserId, came: Option<(LinkId, &Envelope)>) -> Option<Hop> {
        let Person { home, .. } = self.people.get(recipient)?;
        match home {
            Home::Local(links) => Some(Hop::Home(links.iter().copied().collect())),
            Home::Remote {
                stale_since: Some(_), ..
            } => None,
            Home::Remote {
                server,
                via,
                stale_since: None,
            } => {
                let direct = self.peers.get(server).copied();
                let direct = direct.filter(|link| self.is_answered(*link));
                let next = direct.unwrap_or(*via);
                let is_back = came.is_some_and(|(link, envelope)| link == next || envelope.from == *server);
                let is_peer = matches!(self.links.get(&next), Some(Link::Peer(_)));
                if is_back || !is_peer {
                    None
                } else {
                    Some(Hop::Server(server.clone(), next))
                }
            }
        }
    }

    fn deliver(&mut self, came_on: LinkId, links: &[LinkId], ts: u64, message: ServerDeliver) {
        let ServerDeliver {
            user_id,
            ciphertext,
            sender,
            sender_pub,
            content_sig,
            ..
        } = message;
        let deliver = UserDeliver {
            ciphertext,
            sender,
            sender_pub,
            content_sig,
            ts: Some(ts),
        };
        self.send_at(links, ts, &user_id, &Payload::UserDeliver(deliver));
        self.note(Note::Routed {
            link: came_on,
            is_local: true,
        });
    }

    fn not_found(&mut self, now: Now, link: LinkId, recipient: &str, reference: String) {
        self.note(Note::Undeliverable { link });
        self.send_error(
            now,
            link,
            ErrorCode::UserNotFound,
            recipient.to_owned(),
            Some(reference),
        );
    }
}
