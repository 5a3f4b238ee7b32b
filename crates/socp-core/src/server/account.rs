//! What a user changes about its account: other keys, withdrawn keys, and its end (PROTOCOL II.13).
//!
//! A history of keys counts whoever brings it, since it proves itself: the user on its link, a hello with newer keys, or the
//! gossip of another home of the same user. Nothing of it counts before it is on disk.

use super::Server;
use super::fault::{CloseCode, Fault};
use super::io::{AfterSave, LinkId, Note, Output, Record, UserRecord};
use super::keys::Shown;
use super::link::Link;
use crate::clock::Now;
use socp_proto::limits::HELLO_AGE_MAX_MS;
use socp_proto::payload::{AccountDelete, Ack, Deletion, KeyNews, UserRemove, directory_statement};
use socp_proto::{
    Address, Base64Url, ErrorCode, Fingerprint, FrameKind, HISTORY, KeyHistory, KeyStatement, Payload, PublicPair,
    ServerId, UserId,
};

/// A record with newer keys, until it is signed and on disk.
#[derive(Debug)]
pub(super) struct Change {
    record: UserRecord,
    /// Who asked for it and waits for an answer.
    asked_on: Option<LinkId>,
}

impl Server {
    /// `KEY_UPDATE` from the user of this link. `signer` is the key that verified the statement.
    pub(super) fn on_key_update(
        &mut self,
        now: Now,
        link: LinkId,
        statement: KeyStatement,
        signer: Option<Fingerprint>,
    ) {
        let Some((user, record)) = self.account_of(link) else {
            return self.refuse_account(now, link, FrameKind::KeyUpdate, NO_PROOF);
        };
        let is_signed = signer == Some(record.pubkey.fingerprint());
        let first = PublicPair {
            pubkey: record.pubkey.clone(),
            enc_pubkey: record.enc_pubkey.clone(),
        };
        let is_busy = self.changing.contains_key(&user) || self.endorsing.contains_key(&user);
        let is_own = statement.user_id == user;
        let history = match &record.history {
            None => KeyHistory::begin(first, statement),
            Some(history) => history.and(statement),
        };
        let refusal = match history {
            _ if !is_own => (ErrorCode::InvalidSig, "the statement is about another user".to_owned()),
            _ if !is_signed => (
                ErrorCode::InvalidSig,
                "the statement is not signed by the present signing key".to_owned(),
            ),
            Err(wrong) => (ErrorCode::BadKey, wrong.to_string()),
            Ok(_) if is_busy => (
                ErrorCode::RateLimited,
                "another change of these keys is under way".to_owned(),
            ),
            Ok(history) => return self.follow(&user, &history, Some(link)),
        };
        self.refuse_account(now, link, FrameKind::KeyUpdate, refusal);
    }

    /// The user of a link that has proved its key, and what is known of it.
    fn account_of(&self, link: LinkId) -> Option<(UserId, &UserRecord)> {
        let Some(Link::User(user_link)) = self.links.get(&link) else {
            return None;
        };
        let record = self.records.get(&user_link.user)?;
        (user_link.has_proved && user_link.key == record.pubkey).then(|| (user_link.user.clone(), record))
    }

    fn refuse_account(&mut self, now: Now, link: LinkId, kind: FrameKind, why: (ErrorCode, impl Into<String>)) {
        let (code, reason) = (why.0, why.1.into());
        self.on_fault(now, link, &Fault::Account { kind, code, reason });
    }

    /// Begins to go on with the keys of a history that goes on where the record's ends.
    pub(super) fn follow(&mut self, user: &UserId, history: &KeyHistory, asked_on: Option<LinkId>) {
        // Of two changes at once the disk could keep a part of each.
        let is_busy = self.changing.contains_key(user) || self.endorsing.contains_key(user);
        let Some(record) = self.records.get(user).filter(|_| !is_busy) else {
            return;
        };
        let PublicPair { pubkey, enc_pubkey } = history.newest();
        let record = UserRecord {
            pubkey,
            enc_pubkey,
            version: history.version(),
            history: Some(history.clone()),
            directory_sig: Base64Url::encode(&[]),
            ..record.clone()
        };
        let statement = directory_statement(user, &record.pubkey, &record.enc_pubkey, record.version);
        self.changing.insert(user.clone(), Change { record, asked_on });
        let user = user.clone();
        self.outputs.push_back(Output::Endorse { user, statement });
    }

    /// The directory's signature of newer keys is made; whether it was for that.
    pub(super) fn on_change_endorsed(&mut self, now: Now, user: &UserId, sig: &Base64Url) -> bool {
        let Some(change) = self.changing.get_mut(user) else {
            return false;
        };
        if !change.record.directory_sig.is_empty() {
            return false;
        }
        if sig.is_empty() {
            self.drop_change(now, user, "this server cannot sign your record now");
            return true;
        }
        change.record.directory_sig = sig.clone();
        let record = change.record.clone();
        self.save(Record::User(record), AfterSave::Follow(user.clone()));
        true
    }

    /// Newer keys could not be signed or stored: everything stays as it was.
    pub(super) fn drop_change(&mut self, now: Now, user: &UserId, why: &str) {
        if let Some(Change {
            asked_on: Some(link), ..
        }) = self.changing.remove(user)
        {
            let reason = FrameKind::KeyUpdate.name().to_owned();
            self.send_error(now, link, ErrorCode::Timeout, why.to_owned(), Some(reason));
        }
    }

    /// Newer keys are on disk: they count from now on, and nothing else does.
    pub(super) fn on_change_saved(&mut self, now: Now, user: &UserId) {
        let Some(Change { record, asked_on }) = self.changing.remove(user) else {
            return;
        };
        self.records.insert(user.clone(), record.clone());
        if let Some(link) = asked_on {
            self.send_account_ack(now, link, FrameKind::KeyUpdate);
        }
        self.take_newer_keys(now, user, &record);
    }

    /// What follows from newer keys of a user of ours: everybody is told, and sessions of older ones end.
    pub(super) fn take_newer_keys(&mut self, now: Now, user: &UserId, record: &UserRecord) {
        let (version, is_revoked) = (record.version, Shown::by_record(record).is_revoked());
        self.note(Note::KeysChanged {
            user: user.clone(),
            version,
        });
        // What its password opened are the keys before.
        self.accounts.forget_user(user);
        self.drop_claims_against(now, user, Shown::by_record(record));
        if self.people.update_keys(user, record) {
            // Before the sessions end: who leaves in the same batch would take the news along.
            self.spread_arrival(now, user);
            self.tell_peers_the_rest(now);
        }
        self.tell_users_of_keys(now, user);
        let why = match is_revoked {
            true => "these keys were withdrawn by their owner",
            false => {
                "your keys have been changed by another program of yours; this one must begin again with the new ones"
            }
        };
        self.end_older_sessions(now, user, record, why);
    }

    /// Ends the sessions of a user that have proved other keys than these, also those to come.
    fn end_older_sessions(&mut self, now: Now, user: &UserId, record: &UserRecord, why: &str) {
        let is_revoked = Shown::by_record(record).is_revoked();
        let is_older = |link: &Link| matches!(link, Link::User(link) if link.user == *user && (is_revoked || link.key != record.pubkey));
        let older = self.links.iter().filter(|(_, link)| is_older(link));
        let mut older: Vec<LinkId> = older.map(|(link, _)| *link).collect();
        older.extend(self.drop_greetings(|greeting| greeting.binds_another(user, &record.pubkey)));
        self.restore_handle(user);
        for link in older {
            self.send_error(now, link, ErrorCode::BadKey, why.to_owned(), None);
            self.proceed(link);
            self.give_up(
                now,
                link,
                CloseCode::PolicyViolation,
                "the keys of this user have changed",
            );
        }
    }

    /// Tells our programs of the newest keys of a user, without being asked; as long as there are not too many.
    pub(super) fn tell_users_of_keys(&mut self, now: Now, user: &UserId) {
        if !self.key_news.try_take(now.mono) {
            return;
        }
        let Some(history) = self.keys_for_users(user).history else {
            return;
        };
        let user_id = user.clone();
        let news = Payload::KeyNews(KeyNews { user_id, history });
        let links: Vec<LinkId> = self.people.local_links();
        let links = links.into_iter().filter(|link| self.takes_histories(*link));
        let links: Vec<LinkId> = links.filter(|link| self.shows(*link, user)).collect();
        self.send(&links, now, Address::everyone(), &news);
    }

    fn takes_histories(&self, link: LinkId) -> bool {
        matches!(self.links.get(&link), Some(Link::User(link)) if link.takes_histories)
    }

    fn send_account_ack(&mut self, now: Now, link: LinkId, kind: FrameKind) {
        let Some(address) = self.links.get(&link).map(Link::address) else {
            return;
        };
        let ack = Ack {
            msg_ref: kind.name().to_owned(),
            server_id: Some(self.config.server_id.clone()),
            server_pub: None,
            server_name: None,
            caps: None,
            name_in_use: None,
            also: Vec::new(),
            status: None,
            up_to: None,
        };
        self.send(&[link], now, address, &Payload::Ack(ack));
    }

    /// `ACCOUNT_DELETE` from the user of this link. `signer` is the key that verified it.
    pub(super) fn on_account_delete(
        &mut self,
        now: Now,
        link: LinkId,
        delete: AccountDelete,
        signer: Option<Fingerprint>,
    ) {
        let kind = FrameKind::AccountDelete;
        let Some((user, record)) = self.account_of(link) else {
            return self.refuse_account(now, link, kind, NO_PROOF);
        };
        let table = [
            (delete.user_id == user, "it is about another user"),
            (delete.server_id == self.config.server_id, "it is for another server"),
            (
                signer == Some(record.pubkey.fingerprint()),
                "it is not signed by the present signing key",
            ),
            (
                delete.ts.abs_diff(now.unix) <= HELLO_AGE_MAX_MS,
                "its time is more than two minutes from this server's clock",
            ),
        ];
        if let Some((_, reason)) = table.into_iter().find(|(is_right, _)| !is_right) {
            return self.refuse_account(now, link, kind, (ErrorCode::InvalidSig, reason));
        }
        let pubkey = record.pubkey.clone();
        let used: crate::seen::SeenKey = socp_proto::sha256(&[b"delete\n", delete.sig.decode().as_slice()].concat());
        if !self.seen.insert(now.mono, used) {
            return self.refuse_account(now, link, kind, (ErrorCode::InvalidSig, "it was used before"));
        }
        let deletion = Box::new(delete.into_deletion(pubkey));
        self.save(
            Record::Deleted(user.clone()),
            AfterSave::Forget { link, user, deletion },
        );
    }

    /// Nothing of a user of ours is on disk any more.
    pub(super) fn on_deleted(&mut self, now: Now, link: LinkId, user: &UserId, deletion: Deletion) {
        self.send_account_ack(now, link, FrameKind::AccountDelete);
        self.records.remove(user);
        self.mailboxes.forget(user);
        self.accounts.forget_user(user);
        self.handles.release(user);
        self.forget_what_is_under_way(now, user);
        self.leave_channel(user);
        self.note(Note::Deleted { user: user.clone() });
        self.departing_for_good.insert(user.clone(), deletion.clone());
        let is_theirs = |link: &Link| matches!(link, Link::User(link) if link.user == *user);
        let theirs = self.links.iter().filter(|(_, link)| is_theirs(link));
        for link in theirs.map(|(link, _)| *link).collect::<Vec<LinkId>>() {
            self.give_up(now, link, CloseCode::Normal, "this account is deleted");
        }
        self.tell_peers_the_rest(now);
        self.departing_for_good.remove(user);
        self.tell_users_of_deletion(now, user, &self.config.server_id.clone(), deletion);
    }

    /// Hellos and changes of somebody whose account is gone end. What of them waits for the disk is removed behind it.
    fn forget_what_is_under_way(&mut self, now: Now, user: &UserId) {
        let waiting = self.endorsing.remove(user).unwrap_or_default();
        let mut links: Vec<LinkId> = waiting.iter().map(|greeting| greeting.link).collect();
        links.extend(self.drop_greetings(|greeting| greeting.user() == user));
        if self.changing.remove(user).is_some() || !links.is_empty() {
            self.save(Record::Deleted(user.clone()), AfterSave::Nothing);
        }
        for link in links {
            self.proceed(link);
            self.give_up(now, link, CloseCode::Normal, "this account is deleted");
        }
    }

    /// A user who has just left another server says that it was for good. A server's word would not do: whoever is taken
    /// for a peer could make us forget the keys of anybody who is away.
    pub(super) fn on_deleted_elsewhere(&mut self, now: Now, user: &UserId, server: &ServerId, deletion: Deletion) {
        // Whoever stole keys that were withdrawn must not have that forgotten.
        let former = self.people.former(user).filter(|keys| !keys.revoked);
        let key = former.and_then(|keys| keys.pubkey.as_ref());
        if key.is_some_and(|key| deletion.holds(key, now.unix)) {
            self.people.forget_former(user);
            self.tell_users_of_deletion(now, user, server, deletion);
        }
    }

    /// Tells our programs that somebody will not come back.
    fn tell_users_of_deletion(&mut self, now: Now, user: &UserId, server: &ServerId, deletion: Deletion) {
        if !self.key_news.try_take(now.mono) {
            return;
        }
        let remove = UserRemove {
            user_id: user.clone(),
            server_id: server.clone(),
            deletion: Some(deletion),
        };
        let links: Vec<LinkId> = self.people.local_links();
        let links = links.into_iter().filter(|link| self.takes_histories(*link));
        let links: Vec<LinkId> = links.filter(|link| self.shows(*link, user)).collect();
        self.send(&links, now, Address::everyone(), &Payload::UserRemove(remove));
    }
}

/// Whether somebody's program takes histories, and what comes with them.
pub(super) fn takes_histories(caps: Option<&socp_proto::Capabilities>) -> bool {
    caps.is_some_and(|caps| caps.has(HISTORY))
}

const NO_PROOF: (ErrorCode, &str) = (
    ErrorCode::NotAuthenticated,
    "this session has not proved its key; only one that has may change the account",
);
