//! What goes over links: no presence change twice, no link lost for what others do, no pin changed.

use super::{Oracle, host_name};
use crate::net::{End, Host, Party};
use crate::queue::Time;
use crate::report::Rule;
use socp_core::server::{LinkId, ServerPin};
use socp_proto::limits::PEER_USERS_COUNT_MAX;
use socp_proto::{Frame, FrameKind, KeyText, Payload, ServerId, UserId};
use std::collections::{BTreeMap, HashSet};

/// What is known of links.
#[derive(Debug)]
pub(super) struct Links {
    /// Whether a change that crosses a link twice is a fault.
    counts_crossings: bool,
    is_counting: bool,
    /// The changes that have crossed each connection: what an origin signs anew, with another time, is another, as for
    /// the seen cache (PROTOCOL I.7), and nobody else can. The sets are never iterated.
    crossed: BTreeMap<LinkId, HashSet<Crossing>>,
    /// Nothing is passed on, so a change that was told in a batch is not told to the letter as well (PROTOCOL II.8).
    is_mesh: bool,
    pins: BTreeMap<(Host, ServerId), KeyText>,
    /// Whether servers must know after a restart what they delivered before.
    pub(super) remembers_deliveries: bool,
}

/// A change on a link: of which kind, by whom, when, of whom, and whether it came in a batch where that is no second
/// telling.
type Crossing = (FrameKind, String, u64, String, bool);

impl Links {
    pub(super) fn new(counts_crossings: bool, is_mesh: bool) -> Self {
        Self {
            is_mesh,
            counts_crossings,
            is_counting: false,
            crossed: BTreeMap::new(),
            pins: BTreeMap::new(),
            remembers_deliveries: true,
        }
    }
}

impl Oracle {
    /// From now on changes that cross a link are counted.
    pub(crate) fn count_crossings(&mut self) {
        self.links.is_counting = self.links.counts_crossings;
    }

    /// An honest server puts a frame on a link.
    pub(crate) fn on_peer_frame(&mut self, host: Host, end: Option<&End>, link: LinkId, frame: &Frame) {
        let kind = frame.envelope.kind;
        *self.stats.frames.entry(kind.name()).or_default() += 1;
        let changes = changes_of(frame);
        if let Payload::ServerPresence(_) = &frame.payload {
            self.stats.batch_changes += u64::try_from(changes.len()).unwrap_or(u64::MAX);
        }
        let Some(end) = end.filter(|_| self.links.is_counting) else {
            return;
        };
        let Party::Host(far) = end.far else { return };
        if far >= self.honest {
            return;
        }
        let is_apart = kind == FrameKind::ServerPresence && !self.links.is_mesh;
        for (kind, ts, user) in changes {
            let origin = frame.envelope.from.as_str().to_owned();
            let key = (kind, origin, ts, user.as_str().to_owned(), is_apart);
            let crossed = self.links.crossed.entry(link.min(end.far_link)).or_default();
            self.stats.crossings += 1;
            if !crossed.insert(key) {
                let what = format!(
                    "{} of {user} by {} crosses the link of h{host} and h{far} again, from h{host}",
                    kind.name(),
                    frame.envelope.from
                );
                self.violate(Rule::CrossedTwice, what, &[host_name(host), host_name(far)]);
            }
        }
    }

    /// An honest server closes a link.
    pub(crate) fn on_close(&mut self, _at: Time, host: Host, far: Party, is_far_gone: bool, code: u16, reason: &str) {
        self.stats.closes += 1;
        // Whom a liar sent to another server's address loses nobody: it never took that link for its own.
        let is_usual = matches!(
            reason,
            "a second link to the same server"
                | "closed at your request"
                | "not the server that was dialled"
                | "our introduction was refused"
        );
        let is_honest = match far {
            // Who was talked into dialling itself loses nobody.
            Party::Host(far) => far < self.honest && far != host,
            Party::User(_) => true,
        };
        if self.is_calm() && is_honest && !is_usual && !is_far_gone {
            let what = format!("h{host} closes its link to {far:?}: {code} {reason}");
            self.violate(Rule::LinkLost, what, &[host_name(host)]);
        }
    }

    /// So many users of other servers are known to a server.
    pub(crate) fn on_users_known(&mut self, host: Host, count: usize) {
        let known = u64::try_from(count).unwrap_or(u64::MAX);
        self.stats.users_known_most = self.stats.users_known_most.max(known);
        let most = self.users.len() + self.hostile.len() * PEER_USERS_COUNT_MAX;
        if count > most {
            let what = format!("h{host} knows {count} users of others, at most {most} are allowed");
            self.violate(Rule::Overfull, what, &[host_name(host)]);
        }
    }

    /// An honest server has a new id.
    pub(crate) fn on_identity(&mut self, host: Host, id: ServerId) {
        self.servers.insert(id, u32::try_from(host).unwrap_or(super::NO_SERVER));
    }

    /// A server has a pin on disk.
    pub(crate) fn on_pin_saved(&mut self, host: Host, pin: &ServerPin) {
        let owner = self
            .servers
            .get(&pin.server_id)
            .and_then(|number| usize::try_from(*number).ok());
        let true_key = owner.and_then(|owner| self.server_keys.get(&owner));
        let is_true = true_key.is_none_or(|key| *key == pin.key);
        let before = self.links.pins.insert((host, pin.server_id.clone()), pin.key.clone());
        let is_same = before.is_none_or(|before| before == pin.key);
        if !is_true || !is_same {
            let what = format!("h{host} pins another key for {}", pin.server_id);
            self.violate(Rule::PinChanged, what, &[host_name(host)]);
        }
    }
}

/// The presence changes that a frame tells, each with its kind to the letter and its time.
fn changes_of(frame: &Frame) -> Vec<(FrameKind, u64, UserId)> {
    let (come, gone) = (FrameKind::UserAdvertise, FrameKind::UserRemove);
    let ts = frame.envelope.ts;
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds tell of users")]
    match &frame.payload {
        Payload::UserAdvertise(advertise) => vec![(come, ts, advertise.user_id.clone())],
        Payload::UserRemove(remove) => vec![(gone, ts, remove.user_id.clone())],
        Payload::ServerPresence(batch) => {
            let here = batch.add.iter().map(|user| (come, user.ts, user.user_id.clone()));
            let left = batch.remove.iter().map(|user| (gone, user.ts, user.user_id.clone()));
            here.chain(left).collect()
        }
        _ => Vec::new(),
    }
}
