//! Frames that keep their author's `from`, `to` and `ts` on every hop: the public channel, its key shares, files
//! (SOCP §9.3, §9.4, PROTOCOL I.2, I.8, I.9). Each server signs them anew.

use super::Server;
use super::fault::Fault;
use super::io::{LinkId, Note};
use super::link::Link;
use super::passed::SeenAs;
use super::people::{Home, Person};
use super::route::{Hop, is_out_of_time};
use crate::clock::Now;
use crate::seen::{authored_key, frame_key};
use socp_proto::limits::RELAYED_BYTES_MAX;
use socp_proto::payload::msg_ref;
use socp_proto::{Base64Url, Envelope, Fingerprint, Frame, FrameKind, KeyText, Payload, ServerId, UserId, utf8_form};
use std::collections::BTreeSet;

/// The `to` of copies for all members, as some programs send them (PROTOCOL I.8).
const EVERYONE: [&str; 2] = ["public", "*"];

/// Whom a frame is for.
enum Audience {
    /// This user.
    One(UserId),
    /// These users, with the whole frame.
    Some(BTreeSet<UserId>),
    /// Every member.
    Everyone,
}

/// How a frame came from its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As the author's gossip did, or from the author.
    Known,
    /// By a peer that may be in between, as far as we know.
    Possible,
}

/// The author's key and signature inside a payload, as it says.
struct Claim<'a> {
    key: Option<&'a KeyText>,
    sig: Option<&'a Base64Url>,
    /// Whether a missing signature is a fault.
    is_required: bool,
}

impl Server {
    /// Such a frame from the user of this link. `content` is the key that verified the content signature.
    pub(super) fn on_authored(&mut self, now: Now, link: LinkId, frame: Frame, content: Option<Fingerprint>) {
        let Frame { envelope, payload } = frame;
        let author = UserId::from(envelope.from.clone());
        let claim = claim_of(&payload);
        let reference = claim.sig.map(msg_ref);
        let bound = self.key_of(&author);
        let is_own_key = claim.key.is_none_or(|key| bound == Some(key));
        let bound = bound.map(KeyText::fingerprint);
        let is_due = self.config.verify_content && (claim.is_required || claim.sig.is_some());
        if !is_own_key || (is_due && (bound.is_none() || content != bound)) {
            let kind = envelope.kind;
            let fault = reference.map_or(Fault::Signature { kind }, |msg_ref| Fault::Content { msg_ref });
            return self.on_fault(now, link, &fault);
        }
        self.relay(now, link, envelope, &payload, Way::Known);
    }

    /// Such a frame from a peer: it may bring what an author at or behind it said, nothing else. Behind it is whoever is
    /// at no server of our own links: where several ways lead there, it may come by another than we would go.
    pub(super) fn on_authored_elsewhere(
        &mut self,
        now: Now,
        link: LinkId,
        peer: &ServerId,
        envelope: Envelope,
        payload: &Payload,
    ) {
        let author = UserId::from(envelope.from.clone());
        let home = self.people.get(&author).map(|person| &person.home);
        let way = match home {
            Some(Home::Remote { server, via, .. }) if server == peer || *via == link => Way::Known,
            // Around a ring there are two ways, and a message need not take the one that the gossip took.
            Some(Home::Remote { server, .. }) if !self.peers.contains_key(server) => Way::Possible,
            Some(Home::Remote { .. } | Home::Local(_)) | None => {
                return self.on_fault(now, link, &Fault::UnknownOrigin { kind: envelope.kind });
            }
        };
        let claim = claim_of(payload);
        let is_forged = claim
            .key
            .is_some_and(|key| self.key_of(&author).is_some_and(|known| known != key));
        if is_forged {
            // Its author's fault, not the peer's.
            let kind = envelope.kind;
            let reference = claim.sig.map(msg_ref);
            let fault = reference.map_or(Fault::UnknownOrigin { kind }, |msg_ref| Fault::Content { msg_ref });
            return self.on_fault(now, link, &fault);
        }
        self.relay(now, link, envelope, payload, way);
    }

    /// Sends a frame on to everyone whom it is for.
    fn relay(&mut self, now: Now, link: LinkId, envelope: Envelope, payload: &Payload, way: Way) {
        let kind = envelope.kind;
        let sig = claim_of(payload).sig.cloned();
        let Some(audience) = audience_of(&envelope, payload) else {
            return self.on_fault(now, link, &Fault::OutOfPlace { kind });
        };
        // One frame of this kind makes many: not for nothing.
        if matches!(audience, Audience::Everyone) && sig.is_none() {
            return self.on_fault(now, link, &Fault::Signature { kind });
        }
        if is_out_of_time(now, envelope.ts) {
            let msg_ref = sig.as_ref().map(msg_ref);
            return self.on_fault(now, link, &Fault::Stale { kind, msg_ref });
        }
        // Unknown fields of the envelope go along.
        let text_bytes = envelope
            .signed_text()
            .len()
            .saturating_add(utf8_form(&envelope.extra).len());
        if text_bytes > RELAYED_BYTES_MAX {
            let msg_ref = sig.as_ref().map(msg_ref);
            return self.on_fault(now, link, &Fault::TooLongToRelay { kind, msg_ref });
        }
        match audience {
            Audience::One(user) => self.relay_to_one(now, link, envelope, (&user, way), sig.as_ref()),
            Audience::Some(users) => {
                if self.see(now, link, &envelope, sig.as_ref(), way).is_some() {
                    let links = self.ways_to(&users, link);
                    self.relay_to_links(now, link, envelope, links);
                }
            }
            Audience::Everyone => {
                if self.see(now, link, &envelope, sig.as_ref(), way).is_some() {
                    let author = UserId::from(envelope.from.clone());
                    let links = self.ways_to_everyone(now, &author, link);
                    self.relay_to_links(now, link, envelope, links);
                }
            }
        }
    }

    /// Remembers a frame and its content as seen; nothing where either was passed on before. Where the author may not be,
    /// only the whole frame counts: nobody there can use up what the author really says.
    fn see(
        &mut self,
        now: Now,
        link: LinkId,
        envelope: &Envelope,
        sig: Option<&Base64Url>,
        way: Way,
    ) -> Option<SeenAs> {
        let author = UserId::from(envelope.from.clone());
        let sig = sig.filter(|_| way == Way::Known);
        let keys = [
            Some(frame_key(envelope)),
            sig.map(|sig| authored_key(&author, &sig.decode())),
        ];
        if keys.iter().flatten().all(|key| self.is_new(now, *key)) {
            return Some(keys);
        }
        let kind = envelope.kind;
        self.note(Note::Duplicate { link, kind });
        None
    }

    fn relay_to_one(
        &mut self,
        now: Now,
        link: LinkId,
        envelope: Envelope,
        (user, way): (&UserId, Way),
        sig: Option<&Base64Url>,
    ) {
        let Some(hop) = self.next_hop(user, Some((link, None))) else {
            // Not remembered as seen: the author may send it again when its reader is back.
            return self.not_found(now, link, user.as_str(), sig.map(msg_ref));
        };
        let Some(seen_as) = self.see(now, link, &envelope, sig, way) else {
            return;
        };
        let kind = envelope.kind;
        let (to, is_local) = match hop {
            Hop::Home(links) => {
                // Of a file its beginning is remembered; nobody takes a part without it.
                let is_kept = matches!(kind, FrameKind::MsgPublicChannel | FrameKind::FileStart) && way == Way::Known;
                let author = UserId::from(envelope.from.clone());
                if is_kept && sig.is_some_and(|sig| self.is_delivered_before(now, &author, sig)) {
                    return self.note(Note::Duplicate { link, kind });
                }
                (links, true)
            }
            Hop::Server(_, next) => {
                if let Some(sig) = sig {
                    self.remember_passed(now, msg_ref(sig), (link, next), user.clone(), seen_as);
                }
                (vec![next], false)
            }
        };
        self.introduce(now, &UserId::from(envelope.from.clone()), &to);
        self.send_draft(to, envelope.into_draft());
        self.note(Note::Routed { link, is_local });
    }

    fn relay_to_links(&mut self, now: Now, came_on: LinkId, envelope: Envelope, links: BTreeSet<LinkId>) {
        let is_local = links
            .iter()
            .any(|link| matches!(self.links.get(link), Some(Link::User(_))));
        let links: Vec<LinkId> = links.into_iter().collect();
        self.introduce(now, &UserId::from(envelope.from.clone()), &links);
        self.send_draft(links, envelope.into_draft());
        self.note(Note::Routed {
            link: came_on,
            is_local,
        });
    }

    /// The links that lead to these users, but not back.
    fn ways_to(&self, users: &BTreeSet<UserId>, came_on: LinkId) -> BTreeSet<LinkId> {
        let hops = users
            .iter()
            .filter_map(|user| self.next_hop(user, Some((came_on, None))));
        let links = hops.flat_map(|hop| match hop {
            Hop::Home(links) => links,
            Hop::Server(_, next) => vec![next],
        });
        links.filter(|link| *link != came_on).collect()
    }

    /// The links of all members here but the author, and of the peers that do not have it from the author's server.
    fn ways_to_everyone(&mut self, now: Now, author: &UserId, came_on: LinkId) -> BTreeSet<LinkId> {
        let mut links: BTreeSet<LinkId> = match self.people.get(author) {
            Some(Person {
                home: Home::Remote { server, .. },
                ..
            }) => {
                let server = server.clone();
                let to_tell = self.links_to_tell(now, &server, came_on).into_iter();
                to_tell.map(|(_, link)| link).collect()
            }
            Some(_) | None => self.answered_peers().into_iter().collect(),
        };
        links.extend(self.people.local_links_of_others(author));
        links
    }
}

/// The author's part of a payload.
fn claim_of(payload: &Payload) -> Claim<'_> {
    let (key, sig, is_required) = match payload {
        Payload::MsgPublicChannel(message) => (Some(&message.sender_pub), Some(&message.content_sig), true),
        Payload::PublicChannelKeyShare(share) => (Some(&share.creator_pub), Some(&share.content_sig), true),
        Payload::FileStart(start) => (start.sender_pub.as_ref(), start.content_sig.as_ref(), false),
        Payload::FileChunk(chunk) => (chunk.sender_pub.as_ref(), chunk.content_sig.as_ref(), false),
        // A status speaks for its receiver, so it must be signed; the end of a file is its author's and is not.
        Payload::FileEnd(end) => (end.sender_pub.as_ref(), end.content_sig.as_ref(), end.status.is_some()),
        Payload::ServerHelloJoin(_)
        | Payload::ServerHelloLink(_)
        | Payload::ServerWelcome(_)
        | Payload::Challenge(_)
        | Payload::Proof(_)
        | Payload::RegisterStart(_)
        | Payload::RegisterChallenge(_)
        | Payload::RegisterFinish(_)
        | Payload::LoginStart(_)
        | Payload::LoginChallenge(_)
        | Payload::LoginFinish(_)
        | Payload::LoginResult(_)
        | Payload::ServerAnnounce(_)
        | Payload::UserAdvertise(_)
        | Payload::UserRemove(_)
        | Payload::Presence(_)
        | Payload::ServerPresence(_)
        | Payload::PresenceRequest(_)
        | Payload::ServerDeliver(_)
        | Payload::Heartbeat(_)
        | Payload::UserHello(_)
        | Payload::KeyUpdate(_)
        | Payload::KeyNews(_)
        | Payload::AccountDelete(_)
        | Payload::ListRequest(_)
        | Payload::ListResponse(_)
        | Payload::PubkeyRequest(_)
        | Payload::PubkeyResponse(_)
        | Payload::CtrlClose(_)
        | Payload::MsgDirect(_)
        | Payload::UserDeliver(_)
        | Payload::PublicChannelAdd(_)
        | Payload::PublicChannelUpdated(_)
        | Payload::Error(_)
        | Payload::Ack(_) => (None, None, false),
    };
    Claim { key, sig, is_required }
}

/// Whom a frame is for; nobody, if its `to` is no user.
fn audience_of(envelope: &Envelope, payload: &Payload) -> Option<Audience> {
    if let Payload::PublicChannelKeyShare(share) = payload {
        let members = share.shares.iter().map(|share| share.member.clone());
        return Some(Audience::Some(members.collect()));
    }
    let to = envelope.to.as_str();
    if EVERYONE.contains(&to) {
        return Some(Audience::Everyone);
    }
    UserId::try_from(to).ok().map(Audience::One)
}
