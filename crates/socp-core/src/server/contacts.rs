//! Who may see whom: `directory = contacts` (PROTOCOL II.12).
//!
//! A session then sees only whom it has shown to know: users whose key it has asked for by their full id, whom it has
//! written to, or who have written to it. Nobody can browse. What is known this way is forgotten with the session; the
//! client asks again for the keys that it has pinned.

use super::Server;
use super::io::{Directory, LinkId};
use super::link::Link;
use crate::clock::Now;
use socp_proto::limits::CONTACTS_PER_LINK_COUNT_MAX;
use socp_proto::{Address, Payload, UserId};

impl Server {
    pub(super) fn hides_users(&self) -> bool {
        self.config.directory == Directory::Contacts
    }

    /// Whether the far end of this link may know that this user is there.
    pub(super) fn shows(&self, link: LinkId, user: &UserId) -> bool {
        match self.links.get(&link) {
            Some(Link::User(state)) if self.hides_users() => state.user == *user || state.contacts.contains(user),
            Some(Link::User(_) | Link::Peer(_) | Link::New { .. }) | None => true,
        }
    }

    /// The links of these that may know of the user.
    pub(super) fn shown_to(&self, mut links: Vec<LinkId>, user: &UserId) -> Vec<LinkId> {
        if self.hides_users() {
            links.retain(|link| self.shows(*link, user));
        }
        links
    }

    /// A user has shown to know another, who is from now on shown to them.
    pub(super) fn acquaint(&mut self, now: Now, link: LinkId, user: &UserId) {
        if !self.hides_users() {
            return;
        }
        let Some(Link::User(state)) = self.links.get_mut(&link) else {
            return;
        };
        let is_full = state.contacts.len() >= CONTACTS_PER_LINK_COUNT_MAX;
        if state.user == *user || is_full || !state.contacts.insert(user.clone()) {
            return;
        }
        let is_there = self
            .people
            .get(user)
            .is_some_and(|person| person.stale_since().is_none());
        if let Some(advertise) = self.advertisement(user, true).filter(|_| is_there) {
            self.send(&[link], now, Address::everyone(), &Payload::UserAdvertise(advertise));
        }
    }
}
