//! Registering a password (PROTOCOL II.9): on a link that has proved its key, and only there.
//!
//! The server keeps a record with which logins can be checked, and an identity that it cannot read. Nothing here knows
//! cryptography: the driver answers, checks, and stores.

use super::Server;
use super::attempts::{Attempts, Patience};
use super::fault::Fault;
use super::io::{AfterSave, LinkId, Output, Record};
use super::link::Link;
use super::opaque::{OpaqueDone, OpaqueWork};
use crate::clock::Now;
use socp_proto::limits::{LOGIN_ACCOUNT_WAIT_MAX_MS, REGISTER_TRIES_MAX};
use socp_proto::payload::{Ack, KeptIdentity, PasswordRecord, RegisterChallenge, RegisterFinish};
use socp_proto::{ErrorCode, FrameKind, KeyText, Payload, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// What a user of ours logs in with, and gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordSet {
    /// Whose it is.
    pub user_id: UserId,
    /// The signing key that the user had when it was set.
    pub pubkey: KeyText,
    /// Which of the user's pairs of keys that was (PROTOCOL II.13).
    pub version: u64,
    /// What logins are checked with.
    pub record: PasswordRecord,
    /// What they get.
    pub sealed: KeptIdentity,
}

/// What is on disk for a password, both as they were set together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPassword {
    /// What logins are checked with.
    pub record: PasswordRecord,
    /// What they get.
    pub sealed: KeptIdentity,
}

/// How far a registration on a link has come.
#[derive(Debug)]
enum Registering {
    /// The driver answers the request.
    Answering,
    /// The client has been answered.
    Answered,
    /// The driver looks at what the client made of it.
    Checking(Box<PasswordSet>),
    /// It is on its way to the disk.
    Saving,
}

/// Accounts with a password, and those that are getting one.
#[derive(Debug)]
pub(super) struct Accounts {
    records: BTreeMap<UserId, PasswordRecord>,
    under_way: BTreeMap<LinkId, Registering>,
    /// Links whose user has answered a challenge.
    proved: BTreeSet<LinkId>,
    attempts: Attempts<UserId>,
}

impl Accounts {
    pub(super) fn new(records: Vec<(UserId, PasswordRecord)>) -> Self {
        let patience = Patience {
            free: REGISTER_TRIES_MAX,
            wait_max_ms: LOGIN_ACCOUNT_WAIT_MAX_MS,
        };
        Self {
            records: records.into_iter().collect(),
            under_way: BTreeMap::new(),
            proved: BTreeSet::new(),
            attempts: Attempts::new(patience),
        }
    }

    pub(super) fn record(&self, user: &UserId) -> Option<&PasswordRecord> {
        self.records.get(user)
    }

    /// Whoever has this link has answered our challenge.
    pub(super) fn set_proved(&mut self, link: LinkId) {
        self.proved.insert(link);
    }

    pub(super) fn forget_link(&mut self, link: LinkId) {
        self.under_way.remove(&link);
        self.proved.remove(&link);
    }

    /// The account is another's now.
    pub(super) fn forget_user(&mut self, user: &UserId) {
        self.records.remove(user);
    }
}

impl Server {
    /// A frame of a registration on a user's link.
    pub(super) fn on_registration(&mut self, now: Now, link: LinkId, user: &UserId, frame: (FrameKind, Payload)) {
        let (kind, payload) = frame;
        if !self.config.passwords {
            return self.on_fault(now, link, &Fault::OutOfPlace { kind });
        }
        if !self.accounts.proved.contains(&link) {
            let why = "a password is taken only on a link that has proved its key (proof/1)".to_owned();
            return self.send_error(
                now,
                link,
                ErrorCode::NotAuthenticated,
                why,
                Some(kind.name().to_owned()),
            );
        }
        let state = self.accounts.under_way.get(&link);
        match (payload, state) {
            (Payload::RegisterStart(start), None | Some(Registering::Answered)) => {
                if self.accounts.attempts.begin(now.mono, user).is_err() {
                    return self.on_fault(now, link, &Fault::TooOften { kind });
                }
                self.accounts.under_way.insert(link, Registering::Answering);
                let work = OpaqueWork::Register {
                    account: account_of(user),
                    request: start.request,
                };
                self.outputs.push_back(Output::Opaque { link, work });
            }
            (Payload::RegisterFinish(finish), Some(Registering::Answered)) => {
                self.check_registration(link, user, finish);
            }
            _ => self.on_fault(now, link, &Fault::OutOfPlace { kind }),
        }
    }

    fn check_registration(&mut self, link: LinkId, user: &UserId, finish: RegisterFinish) {
        let Some(account) = self.records.get(user) else {
            return;
        };
        let RegisterFinish { record, sealed } = finish;
        let set = PasswordSet {
            user_id: user.clone(),
            pubkey: account.pubkey.clone(),
            version: account.version,
            record: record.clone(),
            sealed,
        };
        self.accounts
            .under_way
            .insert(link, Registering::Checking(Box::new(set)));
        let work = OpaqueWork::Check { record };
        self.outputs.push_back(Output::Opaque { link, work });
    }

    /// The driver has done its part of a registration.
    pub(super) fn on_registration_done(&mut self, now: Now, link: LinkId, done: OpaqueDone) {
        let Some(Link::User(user)) = self.links.get(&link) else {
            return;
        };
        let user = user.user.clone();
        match (self.accounts.under_way.remove(&link), done) {
            (Some(Registering::Answering), OpaqueDone::Registering { response }) => {
                self.accounts.under_way.insert(link, Registering::Answered);
                let answer = Payload::RegisterChallenge(RegisterChallenge { response });
                self.send(&[link], now, &user, &answer);
            }
            (Some(Registering::Checking(set)), OpaqueDone::Good) => {
                self.accounts.under_way.insert(link, Registering::Saving);
                let then = AfterSave::Registered {
                    link,
                    user,
                    keys: (set.pubkey.clone(), set.version),
                    record: set.record.clone(),
                };
                self.save(Record::Password(set), then);
            }
            (Some(Registering::Answering), OpaqueDone::Bad { reason }) => {
                let kind = FrameKind::RegisterStart;
                self.on_fault(now, link, &Fault::Opaque { kind, reason });
            }
            (Some(Registering::Checking(_)), OpaqueDone::Bad { reason }) => {
                let kind = FrameKind::RegisterFinish;
                self.on_fault(now, link, &Fault::Opaque { kind, reason });
            }
            // The link has begun anew, which the driver does not know.
            (_, _) => {}
        }
    }

    /// A password is on disk, and counts from now on.
    pub(super) fn on_registered(
        &mut self,
        now: Now,
        link: LinkId,
        user: UserId,
        (pubkey, version): (KeyText, u64),
        record: PasswordRecord,
    ) {
        // The id may have gone to its owner meanwhile, or the keys in it been replaced.
        let known = self.records.get(&user);
        if !known.is_some_and(|known| known.pubkey == pubkey && known.version == version) {
            return self.on_registration_unsaved(now, link, "your keys have been changed meanwhile; set it again");
        }
        self.accounts.records.insert(user.clone(), record);
        if self.end_registration(link) {
            let msg_ref = FrameKind::RegisterFinish.name().to_owned();
            let ack = Ack {
                msg_ref,
                ..Ack::default()
            };
            self.send(&[link], now, &user, &Payload::Ack(ack));
        }
    }

    pub(super) fn on_registration_unsaved(&mut self, now: Now, link: LinkId, why: &str) {
        if self.end_registration(link) {
            let msg_ref = Some(FrameKind::RegisterFinish.name().to_owned());
            self.send_error(now, link, ErrorCode::Timeout, why.to_owned(), msg_ref);
        }
    }

    /// Whether somebody waits for its end.
    fn end_registration(&mut self, link: LinkId) -> bool {
        let is_open = matches!(self.links.get(&link), Some(Link::User(_)));
        self.accounts.under_way.remove(&link).is_some() && is_open
    }
}

/// What an account's OPRF key is made for: the id, since handles change.
pub(super) fn account_of(user: &UserId) -> String {
    format!("id:{user}")
}
