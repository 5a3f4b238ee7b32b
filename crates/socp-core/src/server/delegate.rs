//! Which of our keys signs what (PROTOCOL II.3).
//!
//! A server's own key signs payloads, as SOCP §12 has it: what strangers read, what others must be able to verify later,
//! and how servers introduce themselves. To programs that have the capability, a delegated key signs the rest, a hundred
//! times cheaper, as soon as the link has heard of that key and while the
//! wall clock says that it holds.

use super::Server;
use super::fault::Fault;
use super::io::{LinkId, Output, Seal};
use super::link::{Link, Trust};
use crate::clock::Now;
use socp_proto::limits::DELEGATION_LEFT_MIN_MS;
use socp_proto::payload::{Heartbeat, OPAQUE, PRESENCE};
use socp_proto::{
    ACK, Address, CONTACTS, Capabilities, Challenge, DELEGATE, Delegation, Draft, Envelope, Frame, FrameKind, HISTORY,
    PROOF, Payload, ServerId, UserId,
};

impl Server {
    /// What we can do for users beyond SOCP v1.3; even an empty list tells that we are one of ours.
    pub(super) fn own_caps(&self) -> Capabilities {
        caps_of(&[
            (DELEGATE, self.config.delegation.is_some()),
            (PRESENCE, !self.hides_users()),
            (PROOF, self.config.proves),
            (CONTACTS, self.hides_users()),
            (OPAQUE, self.config.passwords),
            (HISTORY, self.config.proves),
            (ACK, self.config.keeps),
        ])
    }

    /// What we can do for servers.
    pub(super) fn own_caps_for_servers(&self) -> Capabilities {
        caps_of(&[
            (DELEGATE, self.config.delegation.is_some()),
            (PROOF, self.config.proves),
            (PRESENCE, self.config.batches),
            (HISTORY, self.config.proves),
            (ACK, self.config.keeps),
        ])
    }

    /// Whether presence goes many at once over a link to a server with these.
    pub(super) fn is_told_in_batches(&self, caps: Option<&Capabilities>) -> bool {
        self.config.batches && caps.is_some_and(|caps| caps.has(PRESENCE))
    }

    /// Whether a program with these, and we, answer for what we acknowledge.
    pub(super) fn keeps_with(&self, caps: Option<&Capabilities>) -> bool {
        self.config.keeps && caps.is_some_and(|caps| caps.has(ACK))
    }

    /// What the far end's list makes of a new link.
    pub(super) fn trust_of(&self, caps: Option<&Capabilities>) -> Trust {
        match caps {
            None => Trust::Stranger,
            Some(caps) if self.own_caps().shared_with(caps).has(DELEGATE) => Trust::Delegates { has_ours: false },
            Some(_) => Trust::Native,
        }
    }

    /// A new link hears which key signs from now on.
    pub(super) fn tell_delegation(&mut self, now: Now, link: LinkId) {
        if let Some(delegation) = self.current_delegation().cloned() {
            self.send_delegation(now, &[link], delegation);
        }
    }

    /// Whether the driver should make another key for us: the last one is for an id that we had, has not long to go, or
    /// begins in the future of a clock that was set back. By the wall clock, as whoever verifies it does; the monotonic
    /// one knows nothing of steps, and stands still while a machine sleeps.
    #[must_use]
    pub fn wants_delegation(&self, now: Now) -> bool {
        self.config.delegation.as_ref().is_none_or(|delegation| {
            let left_ms = delegation.not_after.saturating_sub(now.unix);
            let has_begun = delegation.not_before <= now.unix;
            delegation.server_id != self.config.server_id || !has_begun || left_ms < DELEGATION_LEFT_MIN_MS
        })
    }

    /// The driver has a new key for us: every link that can use it hears of it before anything is signed with it.
    pub(super) fn on_delegated(&mut self, now: Now, delegation: Delegation) {
        self.config.delegation = Some(delegation);
        let Some(delegation) = self.current_delegation().cloned() else {
            return; // For an id that we had, or another time; the driver makes another.
        };
        let is_answered = |link: &Link| match link {
            Link::Peer(peer) => peer.is_answered,
            Link::User(_) => true,
            Link::New { .. } => false,
        };
        let able = self
            .links
            .iter()
            .filter(|(_, link)| link.trust().delegates() && is_answered(link));
        let able: Vec<LinkId> = able.map(|(link, _)| *link).collect();
        self.send_delegation(now, &able, delegation);
    }

    /// Our delegation, unless it is for an id that was ours before a join assigned another, or does not hold now: nobody
    /// would believe what it signs.
    pub(super) fn current_delegation(&self) -> Option<&Delegation> {
        let delegation = self.config.delegation.as_ref()?;
        let is_ours = delegation.server_id == self.config.server_id;
        (is_ours && delegation.holds_at(self.unix, (0, 0))).then_some(delegation)
    }

    fn send_delegation(&mut self, now: Now, links: &[LinkId], delegation: Delegation) {
        let able: Vec<LinkId> = links
            .iter()
            .filter(|link| self.links.get(link).is_some_and(|link| link.trust().delegates()))
            .copied()
            .collect();
        let heartbeat = Heartbeat {
            delegation: Some(delegation),
            ..Heartbeat::default()
        };
        self.send(&able, now, Address::everyone(), &Payload::Heartbeat(heartbeat));
        for link in able {
            if let Some(link) = self.links.get_mut(&link) {
                link.set_has_our_delegation();
            }
        }
    }

    /// Whether a peer still lists what it listed when the link began. Who takes a capability back in the middle of a
    /// link would make us believe less than the link has proven.
    pub(super) fn keeps_capability(
        &mut self,
        now: Now,
        link: LinkId,
        kind: FrameKind,
        caps: Option<&Capabilities>,
    ) -> bool {
        let has = |capability| caps.is_some_and(|caps| caps.has(capability));
        let state = self.links.get(&link);
        let delegates = state.is_some_and(|link| link.trust().delegates());
        let has_proved = matches!(state, Some(Link::Peer(peer)) if peer.has_proved);
        let in_batches = matches!(state, Some(Link::Peer(peer)) if peer.in_batches.is_able);
        let is_kept = matches!(state, Some(Link::Peer(peer)) if peer.feed.is_some());
        let keeps = (!delegates || has(DELEGATE))
            && (!has_proved || has(PROOF))
            && (!in_batches || has(PRESENCE))
            && (!is_kept || has(ACK));
        if !keeps {
            self.on_fault(now, link, &Fault::Downgrade { kind });
        }
        keeps
    }

    /// Has a draft signed and sent: by the delegated key where the link knows that, else by our own.
    pub(super) fn send_draft(&mut self, to: Vec<LinkId>, draft: Draft) {
        if to.is_empty() {
            return;
        }
        let (delegated, plain): (Vec<LinkId>, Vec<LinkId>) =
            to.into_iter().partition(|link| self.is_for_delegate(*link, &draft));
        if delegated.is_empty() {
            let (to, by) = (plain, Seal::Server);
            return self.outputs.push_back(Output::Send { to, draft, by });
        }
        if !plain.is_empty() {
            let (to, draft, by) = (plain, draft.clone(), Seal::Server);
            self.outputs.push_back(Output::Send { to, draft, by });
        }
        let (to, by) = (delegated, Seal::Delegate);
        self.outputs.push_back(Output::Send { to, draft, by });
    }

    fn is_for_delegate(&self, link: LinkId, draft: &Draft) -> bool {
        let Some(state) = self.links.get(&link) else {
            return false;
        };
        let is_known = matches!(state.trust(), Trust::Delegates { has_ours: true });
        is_known && self.current_delegation().is_some() && !is_verified_later(state, draft)
    }

    /// Asks a user for a proof. Where the program can, the delegated key signs that, and its delegation is inside: who has
    /// not proved anything yet should cost little.
    pub(super) fn send_challenge(
        &mut self,
        now: Now,
        link: LinkId,
        user: &UserId,
        challenge: Challenge,
        can_take: bool,
    ) {
        let delegation = can_take.then(|| self.current_delegation().cloned()).flatten();
        let by = if delegation.is_some() {
            Seal::Delegate
        } else {
            Seal::Server
        };
        let payload = Payload::Challenge(Challenge {
            delegation,
            ..challenge
        });
        let draft = Draft::new(&self.config.server_id, user, now.unix, &payload);
        let to = vec![link];
        self.outputs.push_back(Output::Send { to, draft, by });
    }
}

/// Which key must have signed a frame of a peer, whose delegated key the link knows or does not know. The length of a
/// signature tells which it claims to be.
///
/// # Errors
/// [`Fault::Signature`] for a delegated signature where none may be, [`Fault::Downgrade`] for one of SOCP §12 where a
/// delegated one must be, [`Fault::UnknownOrigin`] for another server's frame that nobody here can verify.
pub fn seal_of(frame: &Frame, peer: &ServerId, has_delegate: bool) -> Result<Seal, Fault> {
    let Envelope { kind, from, .. } = &frame.envelope;
    let kind = *kind;
    match (frame.envelope.is_delegated(), has_delegate, kind) {
        (true, true, FrameKind::ServerDeliver) if from != peer => Err(Fault::UnknownOrigin { kind }),
        (true, true, FrameKind::ServerWelcome | FrameKind::UserAdvertise | FrameKind::UserRemove)
        | (true, false, _) => Err(Fault::Signature { kind }),
        (true, true, _) => Ok(Seal::Delegate),
        (false, false, _)
        | (
            false,
            true,
            FrameKind::ServerAnnounce
            | FrameKind::ServerHelloLink
            | FrameKind::ServerWelcome
            | FrameKind::UserAdvertise
            | FrameKind::UserRemove
            | FrameKind::ServerDeliver,
        ) => Ok(Seal::Server),
        (false, true, _) if tells_delegation(&frame.payload) => Ok(Seal::Server),
        (false, true, _) => Err(Fault::Downgrade { kind }),
    }
}

fn caps_of(names: &[(&str, bool)]) -> Capabilities {
    let names: Vec<&str> = names
        .iter()
        .filter(|(_, is_able)| *is_able)
        .map(|(name, _)| *name)
        .collect();
    // A short list of well-formed names is one.
    Capabilities::of(&names).unwrap_or_default()
}

fn tells_delegation(payload: &Payload) -> bool {
    matches!(payload, Payload::Heartbeat(heartbeat) if heartbeat.delegation.is_some())
}

/// Whether somebody else than the end of this link must be able to verify it, or it may come before the delegation does.
fn is_verified_later(link: &Link, draft: &Draft) -> bool {
    match (link, draft.kind) {
        (Link::Peer(_) | Link::User(_), FrameKind::Heartbeat) => draft.payload.contains_key("delegation"),
        (
            Link::Peer(_),
            FrameKind::ServerHelloJoin
            | FrameKind::ServerHelloLink
            | FrameKind::ServerWelcome
            | FrameKind::ServerAnnounce
            | FrameKind::UserAdvertise
            | FrameKind::UserRemove,
        ) => true,
        // Where the peer is only on the way, it passes this on unchanged.
        (Link::Peer(peer), FrameKind::ServerDeliver) => draft.to != Address::from(&peer.server),
        (Link::Peer(_) | Link::User(_) | Link::New { .. }, _) => false,
    }
}
