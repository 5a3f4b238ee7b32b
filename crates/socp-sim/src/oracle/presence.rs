//! Everyone who is online at an honest server is shown by all of them, at that server; nobody else is.

use super::{Oracle, host_name, user_name};
use crate::net::{Host, UserNo};
use crate::queue::Time;
use crate::report::Rule;
use socp_proto::{ServerId, UserId};
use std::collections::BTreeMap;

/// A list as a server answered it.
pub(crate) type Listed = BTreeMap<UserId, ServerId>;

impl Oracle {
    /// A server answered a user's request for the list.
    pub(crate) fn on_list(&mut self, _at: Time, asker: UserNo, host: Host, listed: &Listed) {
        if !self.is_calm() {
            return;
        }
        self.stats.lists_judged += 1;
        for user in 0..self.users.len() {
            let place = listed
                .get(&self.users[user].id)
                .map(|server| self.server_number(server));
            self.judge_place(user, place, (asker, host), "list");
        }
        for (user, server) in listed {
            if self.user_of(user).is_none() {
                self.judge_stranger(user, server, (asker, host), "list");
            }
        }
    }

    /// What a user has been shown by and by: for each user the number of its server and one.
    pub(crate) fn on_view(
        &mut self,
        _at: Time,
        asker: UserNo,
        host: Host,
        view: &[u32],
        strangers: &BTreeMap<UserId, ServerId>,
    ) {
        if !self.is_calm() || !self.is_settled(asker) {
            return;
        }
        self.stats.views_judged += 1;
        for user in (0..self.users.len()).filter(|user| *user != asker) {
            let place = view.get(user).and_then(|server| server.checked_sub(1));
            self.judge_place(user, place, (asker, host), "view");
        }
        for (user, server) in strangers {
            self.judge_stranger(user, server, (asker, host), "view");
        }
    }

    fn judge_place(&mut self, user: UserNo, place: Option<u32>, (asker, host): (UserNo, Host), source: &str) {
        let is_squatted = self.squatted.contains(&user);
        let attached = self.users[user].attached;
        let is_at_home = attached == Some(host);
        if !self.is_settled(user) || (is_squatted && !is_at_home) {
            return;
        }
        let truth = attached.and_then(|host| u32::try_from(host).ok());
        if place == truth {
            return;
        }
        let is_believed_claim =
            place.is_some_and(|place| self.hostile.contains(&place)) && self.claimed.contains(&user);
        if is_believed_claim && !is_at_home {
            return;
        }
        let rule = match (truth, place) {
            (Some(_), None) => Rule::Missing,
            (None, Some(_)) => Rule::Ghost,
            (Some(_) | None, Some(_) | None) => Rule::Misplaced,
        };
        let what = format!("the {source} of u{asker} at h{host} has u{user} at {place:?}, who is at {truth:?}");
        let mut who = vec![user_name(user), host_name(host)];
        who.extend(attached.map(host_name));
        self.violate(rule, what, &who);
    }

    /// Somebody of whom the cast knows nothing: a hostile server's, or nobody.
    fn judge_stranger(&mut self, user: &UserId, server: &ServerId, (asker, host): (UserNo, Host), source: &str) {
        if self.hostile.contains(&self.server_number(server)) {
            return;
        }
        let what = format!("the {source} of u{asker} at h{host} has {user} at {server}, who does not exist");
        self.violate(Rule::Ghost, what, &[host_name(host)]);
    }
}
