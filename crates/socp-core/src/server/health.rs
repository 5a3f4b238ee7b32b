//! Signs of life (SOCP §8.4, §11).

use super::Server;
use super::fault::{CloseCode, Fault};
use super::io::{LinkId, Note, Output};
use super::link::{Link, Stage};
use super::timers::Timer;
use crate::clock::Now;
use socp_proto::limits::{HEARTBEAT_INTERVAL_MS, LINK_SILENCE_MAX_MS, PING_INTERVAL_MS, PING_UNANSWERED_COUNT_MAX};

impl Server {
    pub(super) fn on_hello_overdue(&mut self, now: Now, link: LinkId) {
        let Some(Link::New { stage, .. }) = self.links.get(&link) else {
            return;
        };
        if self.proving.contains(&link) || matches!(stage, Stage::Challenged(_)) {
            let reason = "none came in time";
            return self.on_fault(now, link, &Fault::Proof { reason });
        }
        self.note(Note::Refused {
            link,
            class: "hello",
            reason: "no hello in time".to_owned(),
        });
        self.give_up(now, link, CloseCode::ProtocolError, "no valid first frame in time");
    }

    pub(super) fn on_heartbeat_due(&mut self, now: Now, link: LinkId) {
        let Some(Link::Peer(_)) = self.links.get(&link) else {
            return;
        };
        self.send_heartbeat(now, link);
        self.timers
            .set(now.mono.saturating_add(HEARTBEAT_INTERVAL_MS), Timer::Heartbeat(link));
    }

    pub(super) fn on_silence_due(&mut self, now: Now, link: LinkId) {
        let Some(Link::Peer(peer)) = self.links.get(&link) else {
            return;
        };
        let dead_at = peer.last_heard.saturating_add(LINK_SILENCE_MAX_MS);
        if dead_at > now.mono {
            return self.timers.set(dead_at, Timer::Silence(link));
        }
        self.note(Note::Silent { link });
        self.give_up(now, link, CloseCode::GoingAway, "silent for too long");
    }

    pub(super) fn on_ping_due(&mut self, now: Now, link: LinkId) {
        let Some(Link::User(user)) = self.links.get_mut(&link) else {
            return;
        };
        user.pings_unanswered = user.pings_unanswered.saturating_add(1);
        if user.pings_unanswered >= PING_UNANSWERED_COUNT_MAX {
            self.note(Note::Silent { link });
            return self.give_up(now, link, CloseCode::GoingAway, "pings went unanswered");
        }
        self.look_for_unacknowledged(now, link);
        self.outputs.push_back(Output::Ping { link });
        self.timers
            .set(now.mono.saturating_add(PING_INTERVAL_MS), Timer::Ping(link));
    }

    pub(super) fn on_alive(&mut self, now: Now, link: LinkId) {
        match self.links.get_mut(&link) {
            Some(Link::User(user)) => user.pings_unanswered = 0,
            Some(Link::Peer(peer)) => peer.last_heard = now.mono,
            Some(Link::New { .. }) | None => {}
        }
    }
}
