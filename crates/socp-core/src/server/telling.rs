//! Telling a newcomer who is there (SOCP §8.2, §9.1): in portions, so that no outbox overflows.
//!
//! A portion is sent, then a fence; when the driver says that everything before the fence is on its way, the next
//! portion follows. Who comes or goes meanwhile is told to everyone anyway.

use super::Server;
use super::io::{LinkId, Output};
use super::link::Link;
use super::roster::Audience;
use crate::clock::Now;
use socp_proto::{Address, Payload, UserId};

/// Users told at once: with the largest profiles and keys, a quarter of an outbox.
const PORTION_COUNT: usize = 32;

/// How far one link has been told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The last user told.
    after: Option<UserId>,
    /// The link has heard of them in a batch.
    is_again: bool,
}

impl Server {
    /// Begins to tell a link: a peer of our own users, a user of everyone online.
    pub(super) fn begin_telling(&mut self, now: Now, link: LinkId) {
        if matches!(self.links.get(&link), Some(Link::Peer(peer)) if peer.in_batches.is_able) {
            return self.begin_batches(now, Audience::Peers, link);
        }
        self.tellings.insert(link, Telling::default());
        self.on_flushed(now, link);
    }

    /// Begins to tell a peer to the letter what it has heard in batches.
    pub(super) fn begin_letters(&mut self, now: Now, link: LinkId) {
        let (after, is_again) = (None, true);
        self.tellings.insert(link, Telling { after, is_again });
        self.on_flushed(now, link);
    }

    /// Everything sent so far is on its way: the next portion.
    pub(super) fn on_flushed(&mut self, now: Now, link: LinkId) {
        if self.on_roster_flushed(now, link) {
            return;
        }
        let Some(telling) = self.tellings.get(&link) else {
            return self.tell_beyond(link);
        };
        let (newcomer, for_users) = match self.links.get(&link) {
            Some(Link::Peer(_)) => (None, false),
            Some(Link::User(user)) => (Some(&user.user), true),
            Some(Link::New { .. }) | None => return,
        };
        let online = self.people.online_after(telling.after.as_ref());
        let wanted = online.filter(|(user, person)| (for_users || person.is_local()) && Some(*user) != newcomer);
        let wanted = wanted.filter(|(user, _)| !for_users || self.shows(link, user));
        let portion: Vec<UserId> = wanted.take(PORTION_COUNT).map(|(user, _)| user.clone()).collect();
        let is_again = telling.is_again;
        let portion_ts = if for_users { now.unix } else { self.next_gossip_ts(now) };
        for user in &portion {
            let ts = match is_again {
                true => self.letter_ts(now, user),
                false => portion_ts,
            };
            if let Some(advertise) = self.advertisement(user, for_users) {
                self.send_at(&[link], ts, Address::everyone(), &Payload::UserAdvertise(advertise));
            }
        }
        match portion.into_iter().next_back() {
            Some(last) => {
                let after = Some(last);
                self.tellings.insert(link, Telling { after, is_again });
                self.outputs.push_back(Output::Fence { link });
            }
            None => {
                self.tellings.remove(&link);
                // Users beyond us may wait for their turn on this link.
                self.tell_beyond(link);
            }
        }
    }
}
