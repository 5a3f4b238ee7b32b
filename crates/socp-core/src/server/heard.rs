//! What a peer tells of its users many at once (PROTOCOL II.8).
//!
//! It is for us alone: a delegated key signs it, and nobody else could verify it. So whoever has to pass on what an
//! origin says (`forward`) asks it to say everything to the letter, once for each link.

use super::Server;
use super::fault::{CloseCode, Fault};
use super::gossip::Change;
use super::io::{LinkId, Note};
use super::link::Link;
use super::mutation::Mutation;
use super::quota::Bucket;
use crate::batches::{Batches, Step};
use crate::clock::{Mono, Now};
use socp_proto::limits::{LOCAL_USERS_COUNT_MAX, PRESENCE_REQUESTS_BURST_MAX, PRESENCE_REQUESTS_PER_S_MAX};
use socp_proto::payload::{PresenceRequest, ServerPresence, UserRemove};
use socp_proto::{Envelope, FrameKind, Payload, ServerId, UserId};
use std::collections::BTreeSet;

/// How presence goes over a peer's link.
#[derive(Debug)]
pub(super) struct InBatches {
    /// Whether both ends take it many at once.
    pub(super) is_able: bool,
    /// How far the peer has told us.
    told: Batches,
    /// We have asked to hear everything to the letter.
    has_asked_for_letters: bool,
    /// How often the peer may ask us.
    requests: Bucket,
}

impl InBatches {
    pub(super) fn new(now: Mono, is_able: bool) -> Self {
        Self {
            is_able,
            told: Batches::new(LOCAL_USERS_COUNT_MAX),
            has_asked_for_letters: false,
            requests: Bucket::new(now, PRESENCE_REQUESTS_PER_S_MAX, PRESENCE_REQUESTS_BURST_MAX),
        }
    }

    /// Whether the peer is still telling us who is there.
    pub(super) fn is_listing(&self) -> bool {
        self.is_able && !self.told.is_told()
    }
}

impl Server {
    /// `SERVER_PRESENCE`: who has come and who has left at a peer.
    pub(super) fn on_server_presence(&mut self, now: Now, link: LinkId, envelope: &Envelope, batch: ServerPresence) {
        let kind = envelope.kind;
        let Some(Link::Peer(peer)) = self.links.get(&link) else {
            return;
        };
        if !peer.in_batches.is_able {
            return self.on_fault(now, link, &Fault::OutOfPlace { kind });
        }
        let server = peer.server.clone();
        if batch.server_id != server {
            return self.on_fault(now, link, &Fault::NotYours { kind });
        }
        if let Some(reason) = nonsense_in(&batch) {
            return self.on_fault(now, link, &Fault::Batch { reason });
        }
        let times = batch.add.iter().map(|here| here.ts);
        let latest = times.chain(batch.remove.iter().map(|gone| gone.ts)).max();
        let ahead = now.unix.saturating_add(self.config.clock_ahead_ms);
        if !self.is_fresh(now, envelope.ts) || latest.is_some_and(|ts| ts > ahead) {
            // What is refused now is not said again on this link. A new one begins with everything.
            self.on_fault(now, link, &Fault::Clock { kind });
            return self.give_up(now, link, CloseCode::PolicyViolation, "your clock is too far from ours");
        }
        let in_use = self.link_in_use(link);
        if self.is_left_behind(link, in_use) {
            return self.note(Note::Ignored { link, kind });
        }
        if self.follows(now, link, &server, &batch) {
            self.take_batch(now, link, &server, batch);
        }
    }

    /// Whether a batch follows on what its server has told; else what is missing is asked for.
    fn follows(&mut self, now: Now, link: LinkId, server: &ServerId, batch: &ServerPresence) -> bool {
        let takes_any = self.is_mutated(Mutation::NoGapCheck);
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return false;
        };
        match peer.in_batches.told.take(batch) {
            Step::Use => true,
            Step::Ask(_) | Step::Wait if takes_any => true,
            Step::Ask(request) => {
                self.send(&[link], now, server, &Payload::PresenceRequest(request));
                false
            }
            Step::Wait => false,
            Step::TooMany => {
                let reason = "more users than a server may have";
                self.on_fault(now, link, &Fault::Batch { reason });
                false
            }
        }
    }

    fn take_batch(&mut self, now: Now, link: LinkId, server: &ServerId, batch: ServerPresence) {
        for here in batch.add {
            let (user, ts) = (here.user_id.clone(), here.ts);
            let change = Change::Arrival(here.into_advertise(server.clone()));
            self.on_told_change(now, link, (user, server.clone()), ts, change);
        }
        for gone in batch.remove {
            let (user, ts, deletion) = (gone.user_id, gone.ts, gone.deletion);
            let (user_id, server_id) = (user.clone(), server.clone());
            let change = Change::Departure(UserRemove {
                user_id,
                server_id,
                deletion,
            });
            self.on_told_change(now, link, (user, server.clone()), ts, change);
        }
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return;
        };
        if let Some(everyone) = peer.in_batches.told.take_everyone()
            && self.peers.get(server) == Some(&link)
        {
            self.settle_everyone(now, server, &everyone);
        }
        if !self.links_to_tell(now, server, link).is_empty() {
            self.want_letters(now, server);
        }
    }

    /// A peer has named all its users: whoever else was thought to be there is not.
    fn settle_everyone(&mut self, now: Now, server: &ServerId, everyone: &BTreeSet<UserId>) {
        self.keep_damped(server, everyone);
        for user in self.people.users_at(server) {
            let person = self.people.at(&user, server);
            let is_shown = person.is_some_and(|person| person.stale_since().is_none());
            if is_shown && !everyone.contains(&user) {
                let ended = self.people.withdraw(&user, server);
                self.show_end(now, ended, &user, server, now.unix);
            }
        }
    }

    /// What this origin says has to be passed on: it must say it so that others can verify it.
    pub(super) fn want_letters(&mut self, now: Now, origin: &ServerId) {
        let Some(link) = self.peers.get(origin).copied() else {
            return;
        };
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return;
        };
        let is_wanted = peer.in_batches.is_able && peer.is_answered;
        if is_wanted && !std::mem::replace(&mut peer.in_batches.has_asked_for_letters, true) {
            let request = PresenceRequest {
                epoch: 0,
                from_seq: 0,
                to_the_letter: true,
            };
            self.send(&[link], now, origin, &Payload::PresenceRequest(request));
        }
    }

    /// `PRESENCE_REQUEST`: a peer has missed something, or must be able to pass it on.
    pub(super) fn on_peer_presence_request(&mut self, now: Now, link: LinkId, request: PresenceRequest) {
        let kind = FrameKind::PresenceRequest;
        let Some(Link::Peer(peer)) = self.links.get_mut(&link) else {
            return;
        };
        if !peer.in_batches.is_able {
            return self.on_fault(now, link, &Fault::OutOfPlace { kind });
        }
        if !peer.in_batches.requests.try_take(now.mono) {
            return self.on_fault(now, link, &Fault::TooOften { kind });
        }
        if request.to_the_letter {
            return self.leave_roster(now, link);
        }
        if !self.on_presence_request(now, super::roster::Audience::Peers, link, request) {
            // It hears us to the letter, where nothing has a number.
            self.note(Note::Ignored { link, kind });
        }
    }
}

/// What no server of ours would say.
fn nonsense_in(batch: &ServerPresence) -> Option<&'static str> {
    let is_page = batch.from_seq == 0;
    let added = batch.add.iter().map(|here| &here.user_id);
    let removed = batch.remove.iter().map(|gone| &gone.user_id);
    let users: BTreeSet<&UserId> = added.chain(removed).collect();
    let table = [
        (batch.from_seq > batch.seq, "it ends before it begins"),
        (
            is_page && !batch.remove.is_empty(),
            "a list of everyone names somebody who has left",
        ),
        (
            is_page && batch.more && batch.add.is_empty(),
            "an empty page that is not the last",
        ),
        (!is_page && (batch.more || batch.page > 0), "changes have no pages"),
        (
            users.len() < batch.add.len().saturating_add(batch.remove.len()),
            "it names a user twice",
        ),
    ];
    table
        .into_iter()
        .find(|(is_wrong, _)| *is_wrong)
        .map(|(_, reason)| reason)
}
