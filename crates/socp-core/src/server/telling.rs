//! Telling a newcomer who is there (SOCP §8.2, §9.1): in portions, so that no outbox overflows.
//!
//! A portion is sent, then a fence; when the driver says that everything before the fence is on its way, the next
//! portion follows. Who comes or goes meanwhile is told to everyone anyway.

use super::Server;
use super::io::{LinkId, Output};
use super::link::Link;
use crate::clock::Now;
use socp_proto::{Address, Payload, UserId};

/// Users told at once: with the largest profiles and keys, a quarter of an outbox.
const PORTION_COUNT: usize = 32;

/// How far one link has been told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The last user told.
    after: Option<UserId>,
}

impl Server {
    /// Begins to tell a link: a peer of our own users, a user of everyone online.
    pub(super) fn begin_telling(&mut self, now: Now, link: LinkId) {
        self.tellings.insert(link, Telling::default());
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
        let portion: Vec<UserId> = wanted.take(PORTION_COUNT).map(|(user, _)| user.clone()).collect();
        let ts = if for_users { now.unix } else { self.next_gossip_ts(now) };
        for user in &portion {
            if let Some(advertise) = self.advertisement(user, for_users) {
                self.send_at(&[link], ts, Address::everyone(), &Payload::UserAdvertise(advertise));
            }
        }
        match portion.into_iter().next_back() {
            Some(last) => {
                self.tellings.insert(link, Telling { after: Some(last) });
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
