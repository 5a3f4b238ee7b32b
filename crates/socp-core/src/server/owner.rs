//! Whose an id is (PROTOCOL I.6): that of the key it is made from, and else that of the first key here.
//!
//! Programs of ours make their user's id from the key. Whoever comes with such an id and another key took it from
//! somebody else, however early; once the owner is heard of, whatever was bound to that key is undone.

use super::Server;
use super::fault::CloseCode;
use super::io::{AfterSave, LinkId, Note, Record};
use super::keys::{Relation, Shown};
use super::link::Link;
use crate::clock::Now;
use socp_proto::{ErrorCode, KeyText, UserId};

impl Server {
    /// The key that a user's id is made from has shown, or the newest of a history that begins with it: what another key
    /// has of that id here, or claims elsewhere, is undone. Nothing happens for any other key, nor where what is known
    /// begins with the owner's key, too.
    pub(super) fn refute(&mut self, now: Now, user: &UserId, shown: Shown<'_>) {
        let is_another = self.judge_keys(user, shown) == Relation::Other;
        let Some(key) = shown.pubkey.filter(|_| is_another && self.can_refute(user, shown)) else {
            return;
        };
        self.note(Note::Ousted { user: user.clone() });
        if self.records.get(user).is_some_and(|record| record.pubkey != *key) {
            self.oust(now, user, key);
        }
        self.drop_claims_against(now, user, shown);
    }

    /// Ends the sessions that another key than the owner's has of an id, also those to come, and forgets its record.
    fn oust(&mut self, now: Now, user: &UserId, owner: &KeyText) {
        self.records.remove(user);
        self.accounts.forget_user(user);
        self.mailboxes.forget(user);
        self.handles.release(user);
        self.changing.remove(user);
        self.save(Record::Ousted(user.clone()), AfterSave::Nothing);
        let is_theirs = |link: &Link| matches!(link, Link::User(link) if link.user == *user);
        let theirs = self.links.iter().filter(|(_, link)| is_theirs(link));
        let mut theirs: Vec<LinkId> = theirs.map(|(link, _)| *link).collect();
        theirs.extend(self.drop_greetings(|greeting| greeting.binds_another(user, owner)));
        for link in theirs {
            let why = "this id is made from another key, whose holder has come";
            self.send_error(now, link, ErrorCode::BadKey, why.to_owned(), None);
            self.proceed(link);
            self.give_up(now, link, CloseCode::PolicyViolation, "the id is another's");
        }
    }

    /// What other servers claim of a user with other keys than these, or with those before, counts no more.
    pub(super) fn drop_claims_against(&mut self, now: Now, user: &UserId, shown: Shown<'_>) {
        for server in self.people.claims_against(user, shown) {
            let was_online = self.people.get(user).is_some_and(super::people::Person::is_online);
            let ended = self.people.withdraw(user, &server);
            if was_online {
                self.show_end(now, ended, user, &server, now.unix);
            }
        }
    }
}
