//! Direct messages on their way (SOCP §8.3, §9.2, §10, PROTOCOL I.7).

use super::Server;
use super::custody::{Came, Origin, Way};
use super::delivered::content_hash;
use super::fault::Fault;
use super::io::{AfterSave, Delivered, LinkId, Note, Output, Record};
use super::link::Link;
use super::mutation::Mutation;
use super::passed::{Passed, SeenAs};
use super::people::{Home, Person};
use crate::clock::Now;
use crate::seen::{SeenKey, content_key, frame_key};
use socp_proto::limits::{CONTENT_AGE_MAX_MS, CONTENT_AHEAD_MAX_MS};
use socp_proto::payload::{DirectMessage, ErrorNotice, ServerDeliver, Status, UserDeliver, msg_ref};
use socp_proto::{Base64Url, Envelope, ErrorCode, Fingerprint, KeyText, Payload, ServerId, UserId};
use std::sync::Arc;

/// Where a message goes next.
pub(super) enum Hop {
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
        let author = UserId::from(envelope.from.clone());
        if let Ok(recipient) = UserId::try_from(envelope.to.as_str()) {
            self.acquaint(now, link, &recipient);
        }
        let bound = self.key_of(&author);
        let is_own_key = bound == Some(&message.sender_pub);
        let is_verified =
            !self.config.verify_content || (content.is_some() && content == bound.map(KeyText::fingerprint));
        if !is_own_key || !is_verified {
            let msg_ref = msg_ref(&message.content_sig);
            return self.on_fault(now, link, &Fault::Content { msg_ref });
        }
        let kind = envelope.kind;
        if is_out_of_time(now, envelope.ts) {
            let msg_ref = Some(msg_ref(&message.content_sig));
            return self.on_fault(now, link, &Fault::Stale { kind, msg_ref });
        }
        let recipient = UserId::try_from(envelope.to.as_str()).ok();
        let home = message.home.as_ref();
        let way = recipient.and_then(|user| Some((self.way_to(&user, &Origin::User { link, home })?, user)));
        let Some((way, recipient)) = way else {
            // Not remembered as seen: the author may send it again when its reader is back.
            let reference = Some(msg_ref(&message.content_sig));
            return self.not_found(now, link, envelope.to.as_str(), reference);
        };
        let seen_as = [None, Some(content_key(&message.content_sig.decode()))];
        let deliver = ServerDeliver {
            user_id: recipient,
            ciphertext: message.ciphertext,
            sender: author,
            sender_pub: message.sender_pub,
            content_sig: message.content_sig,
            ts: Some(envelope.ts),
        };
        let came = Came { link, seen_as };
        let Some(deliver) = self.once(now, &came, &way, deliver) else {
            return;
        };
        match way {
            Way::Mailbox => {
                self.send_copy(now, envelope.ts, &deliver);
                self.keep_mail(now, came, envelope.ts, deliver);
            }
            Way::ToTheLetter(links) => self.deliver(now, link, &links, envelope.ts, deliver),
            Way::Outbound(server) => self.keep_outbound(now, came, server, deliver),
            Way::Onward(server, next) => {
                let reference = msg_ref(&deliver.content_sig);
                let recipient = deliver.user_id.clone();
                self.remember_passed(now, reference.clone(), (link, next), recipient, seen_as);
                self.introduce(now, &deliver.sender, &[next]);
                self.send_at(&[next], envelope.ts, &server, &Payload::ServerDeliver(deliver));
                self.note(Note::Routed { link, is_local: false });
                self.acknowledge_as_sent(now, link, reference);
            }
        }
    }

    /// A user with a mailbox here may be at another server now, and gets it there, too.
    fn send_copy(&mut self, now: Now, ts: u64, deliver: &ServerDeliver) {
        if let Some(Hop::Server(server, next)) = self.next_hop(&deliver.user_id, None) {
            self.introduce(now, &deliver.sender, &[next]);
            self.send_at(&[next], ts, &server, &Payload::ServerDeliver(deliver.clone()));
        }
    }

    /// A message that was not handled before; one that was is acknowledged again. What is kept is known by what is kept:
    /// that it was seen does not say that it was kept then.
    fn once(&mut self, now: Now, came: &Came, way: &Way, deliver: ServerDeliver) -> Option<ServerDeliver> {
        let mut is_new = true;
        for key in came.seen_as.iter().flatten() {
            is_new &= self.is_new(now, *key);
        }
        match way {
            Way::Mailbox | Way::Outbound(_) => Some(deliver),
            Way::ToTheLetter(_) | Way::Onward(..) if is_new => Some(deliver),
            Way::ToTheLetter(_) | Way::Onward(..) => {
                self.acknowledge_again(now, came.link, &deliver, Status::Sent);
                None
            }
        }
    }

    fn acknowledge_as_sent(&mut self, now: Now, link: LinkId, msg_ref: String) {
        let at = self.config.server_id.clone();
        self.acknowledge(now, link, (Status::Sent, at), msg_ref);
    }

    /// `SERVER_DELIVER` from a peer: for a user of ours, or for one behind us.
    pub(super) fn on_server_deliver(&mut self, now: Now, link: LinkId, envelope: Envelope, deliver: ServerDeliver) {
        let kind = envelope.kind;
        // Before anything is remembered, so that a forgery cannot keep the true message out.
        if self.is_forged(&deliver) {
            let msg_ref = msg_ref(&deliver.content_sig);
            return self.on_fault(now, link, &Fault::Content { msg_ref });
        }
        let ts = deliver.ts.unwrap_or(envelope.ts);
        if is_out_of_time(now, ts) {
            let msg_ref = Some(msg_ref(&deliver.content_sig));
            return self.on_fault(now, link, &Fault::Stale { kind, msg_ref });
        }
        let way = self.way_to(&deliver.user_id, &Origin::Server(link, &envelope));
        // What a delegated key signed was for us; nobody behind us could verify it.
        let way = way.filter(|way| !matches!(way, Way::Onward(..)) || !envelope.is_delegated());
        let Some(way) = way else {
            let reference = Some(msg_ref(&deliver.content_sig));
            return self.not_found(now, link, deliver.user_id.as_str(), reference);
        };
        let keys = [frame_key(&envelope), content_key(&deliver.content_sig.decode())];
        let came = Came {
            link,
            seen_as: keys.map(Some),
        };
        let Some(deliver) = self.once(now, &came, &way, deliver) else {
            return;
        };
        match way {
            Way::Mailbox => self.keep_mail(now, came, ts, deliver),
            Way::ToTheLetter(links) => self.deliver(now, link, &links, ts, deliver),
            Way::Outbound(server) => self.keep_outbound(now, came, server, deliver),
            Way::Onward(_, next) => {
                let reference = msg_ref(&deliver.content_sig);
                self.remember_passed(now, reference.clone(), (link, next), deliver.user_id, came.seen_as);
                self.outputs.push_back(Output::Forward {
                    to: vec![next],
                    envelope: Arc::new(envelope),
                });
                self.note(Note::Routed { link, is_local: false });
                self.acknowledge_as_sent(now, link, reference);
            }
        }
    }

    /// Whether this was not handled before; it is, from now on.
    pub(super) fn is_new(&mut self, now: Now, key: SeenKey) -> bool {
        self.seen.insert(now.mono, key) || self.is_mutated(Mutation::NoSeenCache)
    }

    pub(super) fn remember_passed(
        &mut self,
        now: Now,
        reference: String,
        (came_on, next): (LinkId, LinkId),
        recipient: UserId,
        seen_as: SeenAs,
    ) {
        let claim = self.people.claim_of(&recipient);
        let passed = Passed {
            came_on,
            next,
            recipient,
            claim,
            seen_as,
        };
        self.passed_on.insert(now.mono, reference, passed);
    }

    /// An `ERROR` from a peer. About a message that went to it, it finds its way back to the author; a recipient who is
    /// not where we thought is no longer thought to be there (SOCP §8.3).
    pub(super) fn on_peer_error(&mut self, now: Now, link: LinkId, server: &ServerId, notice: ErrorNotice) {
        if self.on_refused_outbound(now, link, server, &notice) {
            return;
        }
        let reference = notice.msg_ref.clone();
        let passed =
            reference.and_then(|msg_ref| Some((self.passed_on.take(&msg_ref, link, &notice.detail)?, msg_ref)));
        let Some((passed, msg_ref)) = passed else {
            return self.note(Note::PeerComplained {
                server: server.clone(),
                code: notice.code,
                detail: notice.detail,
            });
        };
        // It reached nobody, so its author may send it again.
        for key in passed.seen_as.iter().flatten() {
            self.seen.forget(key);
        }
        let is_gone = notice.code == ErrorCode::UserNotFound;
        let detail = if is_gone {
            passed.recipient.to_string()
        } else {
            format!("refused on the way to {}: {}", passed.recipient, notice.detail)
        };
        // Whoever has come back since the message went on is not gone.
        if is_gone && self.people.claim_of(&passed.recipient) == passed.claim {
            self.correct_presence(now, link, server, &passed.recipient);
        }
        self.note(Note::Undeliverable { link: passed.came_on });
        self.send_error(now, passed.came_on, notice.code, detail, Some(msg_ref));
    }

    /// Whether content that is about to reach a user of ours has done so before; it has, from now on.
    pub(super) fn is_delivered_before(&mut self, now: Now, author: &UserId, content_sig: &Base64Url) -> bool {
        let content = content_hash(author, &content_sig.decode());
        let is_known = self.delivered.contains(content);
        if !is_known {
            let delivered = Delivered { content, at: now.unix };
            self.delivered.insert(delivered);
            self.save(Record::Delivered(delivered), AfterSave::Nothing);
        }
        is_known && !self.is_mutated(Mutation::NoSeenCache)
    }

    /// Whether a delivery for our user comes with another key than the sender's (PROTOCOL I.7).
    fn is_forged(&self, deliver: &ServerDeliver) -> bool {
        let home = self.people.get(&deliver.user_id).map(|person| &person.home);
        let is_ours = matches!(home, Some(Home::Local(_))) || self.mailboxes.has(&deliver.user_id);
        let key = self.key_of(&deliver.sender);
        is_ours && key.is_some_and(|key| *key != deliver.sender_pub)
    }

    /// The order of SOCP §10: a local link, else the home server, else nobody. What came from a server never goes back
    /// there or to its origin.
    pub(super) fn next_hop(&self, recipient: &UserId, came: Option<(LinkId, Option<&Envelope>)>) -> Option<Hop> {
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
                let is_origin = |envelope: &Envelope| envelope.from == *server;
                let is_back = came.is_some_and(|(link, envelope)| link == next || envelope.is_some_and(is_origin));
                let is_peer = matches!(self.links.get(&next), Some(Link::Peer(_)));
                if is_back || !is_peer {
                    None
                } else {
                    Some(Hop::Server(server.clone(), next))
                }
            }
        }
    }

    fn deliver(&mut self, now: Now, came_on: LinkId, links: &[LinkId], ts: u64, message: ServerDeliver) {
        if self.is_delivered_before(now, &message.sender, &message.content_sig) {
            return self.acknowledge_again(now, came_on, &message, Status::Sent);
        }
        let reference = msg_ref(&message.content_sig);
        let ServerDeliver {
            user_id,
            ciphertext,
            sender,
            sender_pub,
            content_sig,
            ..
        } = message;
        for link in links {
            self.acquaint(now, *link, &sender);
        }
        let deliver = UserDeliver {
            ciphertext,
            sender,
            sender_pub,
            content_sig,
            ts: Some(ts),
            seq: None,
        };
        self.send_at(links, ts, &user_id, &Payload::UserDeliver(deliver));
        self.note(Note::Routed {
            link: came_on,
            is_local: true,
        });
        self.acknowledge_as_sent(now, came_on, reference);
    }

    pub(super) fn not_found(&mut self, now: Now, link: LinkId, recipient: &str, reference: Option<String>) {
        self.note(Note::Undeliverable { link });
        self.send_error(now, link, ErrorCode::UserNotFound, recipient.to_owned(), reference);
    }
}

/// Whether content is older than anything is remembered, or dated so far ahead that it would outlive the memory of it
/// (PROTOCOL I.7).
pub(super) fn is_out_of_time(now: Now, ts: u64) -> bool {
    ts.saturating_add(CONTENT_AGE_MAX_MS) < now.unix || ts > now.unix.saturating_add(CONTENT_AHEAD_MAX_MS)
}
