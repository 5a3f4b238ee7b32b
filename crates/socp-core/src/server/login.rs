//! Logging in with a name and a password (PROTOCOL II.9), on a link that is nobody's.
//!
//! An account and none, a right password and a wrong one, free tries and a wait: all get the same frames. Each try counts
//! as failed from its beginning, since a client learns from the first answer whether it guessed right, and need not come
//! back to say so.

use super::Server;
use super::accounts::{KeptPassword, account_of};
use super::attempts::{Attempts, Patience};
use super::fault::{CloseCode, Fault};
use super::handles::folded;
use super::io::{FirstFrame, LinkId, Note, Output, Seal};
use super::link::{Link, Stage};
use super::opaque::{LoginState, OpaqueDone, OpaqueWork};
use crate::clock::Now;
use socp_proto::limits::{
    LOGIN_ACCOUNT_TRIES_MAX, LOGIN_ACCOUNT_WAIT_MAX_MS, LOGIN_ADDRESS_TRIES_MAX, LOGIN_ADDRESS_WAIT_MAX_MS,
};
use socp_proto::payload::{
    ErrorNotice, LOGIN_REFUSED, LoginChallenge, LoginFinish, LoginResult, LoginStart, PasswordRecord,
};
use socp_proto::{Address, Capabilities, Draft, ErrorCode, Frame, FrameKind, Payload, UserId};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// A login on a link.
#[derive(Debug)]
pub(super) struct Login {
    /// The account and what is checked of it, where there is one with a password, and it is free.
    account: Option<(UserId, PasswordRecord)>,
    /// What its tries are counted for.
    name: String,
    /// Whether frames signed by a delegated key are taken.
    can_take: bool,
    step: Step,
}

/// How far it has come.
#[derive(Debug)]
enum Step {
    /// The driver answers the request.
    Answering,
    /// The client has been answered.
    Answered(LoginState),
    /// The driver checks the last message.
    Checking,
    /// The driver fetches what the account keeps.
    Fetching,
}

/// Who tries how often, and from where.
#[derive(Debug)]
pub(super) struct Logins {
    pub(super) accounts: Attempts<String>,
    addresses: Attempts<IpAddr>,
    /// Where links that others opened come from.
    sources: BTreeMap<LinkId, IpAddr>,
}

impl Logins {
    pub(super) fn new() -> Self {
        Self {
            accounts: Attempts::new(Patience {
                free: LOGIN_ACCOUNT_TRIES_MAX,
                wait_max_ms: LOGIN_ACCOUNT_WAIT_MAX_MS,
            }),
            addresses: Attempts::new(Patience {
                free: LOGIN_ADDRESS_TRIES_MAX,
                wait_max_ms: LOGIN_ADDRESS_WAIT_MAX_MS,
            }),
            sources: BTreeMap::new(),
        }
    }

    /// Somebody connected from there.
    pub(super) fn set_source(&mut self, link: LinkId, from: IpAddr) {
        self.sources.insert(link, network_of(from));
    }

    pub(super) fn forget_link(&mut self, link: LinkId) {
        self.sources.remove(&link);
    }
}

impl Server {
    /// `LOGIN_START` on a link that is nobody's.
    pub(super) fn on_login_start(&mut self, now: Now, link: LinkId, start: LoginStart) {
        if !self.config.passwords {
            let kind = FrameKind::LoginStart;
            return self.on_fault(now, link, &Fault::OutOfPlace { kind });
        }
        if let Some(source) = self.logins.sources.get(&link).copied()
            && let Err(wait_ms) = self.logins.addresses.begin(now.mono, &source)
        {
            return self.refuse_address(now, link, wait_ms);
        }
        let LoginStart { name, request, caps } = start;
        // Once, whoever is meant: so that it takes as long for an account as for nobody.
        let handle = folded(&name);
        let user = self.account_named(&name, &handle);
        // Names of nobody are told apart as those of accounts are.
        let name = user.as_ref().map_or_else(|| format!("name:{handle}"), account_of);
        // What nobody has needs no account kept of it, and must not crowd out what is kept of those that are.
        let is_free = user.is_none() || self.logins.accounts.begin(now.mono, &name).is_ok();
        let record = user.as_ref().and_then(|user| self.accounts.record(user)).cloned();
        let record = record.filter(|_| is_free);
        let login = Login {
            account: user.zip(record.clone()),
            name: name.clone(),
            can_take: self.takes_delegated(caps.as_ref()),
            step: Step::Answering,
        };
        self.set_login(link, login);
        let work = OpaqueWork::Login {
            server: self.config.server_id.clone(),
            account: name,
            record,
            request,
        };
        self.outputs.push_back(Output::Opaque { link, work });
    }

    /// Whose name this is, an id or a handle; that as it is compared.
    fn account_named(&self, name: &str, handle: &str) -> Option<UserId> {
        let id = UserId::try_from(name).ok().filter(|id| self.records.contains_key(id));
        let owner = self.handles.owner_of_folded(handle);
        id.or_else(|| owner.cloned())
    }

    fn takes_delegated(&self, caps: Option<&Capabilities>) -> bool {
        self.trust_of(caps).delegates()
    }

    /// A frame on a link where somebody logs in.
    pub(super) fn on_frame_of_login(&mut self, now: Now, link: LinkId, first: FirstFrame) {
        let Frame { envelope, payload } = first.frame;
        let kind = envelope.kind;
        #[expect(clippy::wildcard_enum_match_arm, reason = "any other kind is out of place")]
        match payload {
            Payload::LoginFinish(finish) => self.on_login_finish(now, link, finish),
            Payload::Error(notice) => {
                let code = notice.code;
                self.note(Note::UserComplained { link, code });
                self.proceed(link);
                self.give_up(now, link, CloseCode::Normal, "our answer was refused");
            }
            _ => self.on_fault(now, link, &Fault::OutOfPlace { kind }),
        }
    }

    fn on_login_finish(&mut self, now: Now, link: LinkId, finish: LoginFinish) {
        match self.take_login(link) {
            Some(Login {
                step: Step::Answered(state),
                account,
                name,
                can_take,
            }) => {
                let step = Step::Checking;
                self.set_login(
                    link,
                    Login {
                        account,
                        name,
                        can_take,
                        step,
                    },
                );
                let finalization = finish.finalization;
                let work = OpaqueWork::Finish { state, finalization };
                self.outputs.push_back(Output::Opaque { link, work });
            }
            Some(_) | None => {
                let kind = FrameKind::LoginFinish;
                self.on_fault(now, link, &Fault::OutOfPlace { kind });
            }
        }
    }

    /// The driver has done its part of a login.
    pub(super) fn on_login_done(&mut self, now: Now, link: LinkId, done: OpaqueDone) {
        let Some(login) = self.take_login(link) else {
            return;
        };
        match (&login.step, &login.account, done) {
            (Step::Answering, _, OpaqueDone::LoggingIn { response, state }) => {
                let (can_take, step) = (login.can_take, Step::Answered(state));
                self.set_login(link, Login { step, ..login });
                let challenge = LoginChallenge {
                    response,
                    server_id: self.config.server_id.clone(),
                    server_pub: self.config.key.clone(),
                    delegation: can_take.then(|| self.current_delegation().cloned()).flatten(),
                };
                self.send_to_stranger(now, link, can_take, &Payload::LoginChallenge(challenge));
                self.proceed(link);
            }
            (Step::Answering, _, OpaqueDone::Bad { reason }) => {
                let kind = FrameKind::LoginStart;
                self.on_fault(now, link, &Fault::Opaque { kind, reason });
            }
            (Step::Checking, Some((user, _)), OpaqueDone::Good) => {
                let user = user.clone();
                let step = Step::Fetching;
                self.set_login(link, Login { step, ..login });
                self.outputs.push_back(Output::Fetch { link, user });
            }
            (_, _, _) => self.refuse_login(now, link),
        }
    }

    /// The driver has looked for what the account keeps.
    pub(super) fn on_fetched(&mut self, now: Now, link: LinkId, kept: Option<KeptPassword>) {
        let Some(login) = self.take_login(link) else {
            return;
        };
        let (Step::Fetching, Some((user_id, checked)), Some(KeptPassword { record, sealed })) =
            (login.step, login.account, kept)
        else {
            return self.refuse_login(now, link);
        };
        // Another password was set meanwhile: what that opens is not for who knows the one before.
        if record != checked {
            return self.refuse_login(now, link);
        }
        self.logins.accounts.forget(&login.name);
        if let Some(source) = self.logins.sources.get(&link) {
            self.logins.addresses.forgive(source);
        }
        let result = Payload::LoginResult(LoginResult { user_id, sealed });
        self.send_to_stranger(now, link, login.can_take, &result);
        self.proceed(link);
    }

    /// As a challenge is signed: by the delegated key where that is taken, since whoever asks is nobody yet.
    fn send_to_stranger(&mut self, now: Now, link: LinkId, can_take: bool, payload: &Payload) {
        let is_delegated = can_take && self.current_delegation().is_some();
        let by = if is_delegated { Seal::Delegate } else { Seal::Server };
        let draft = Draft::new(&self.config.server_id, Address::everyone(), now.unix, payload);
        let to = vec![link];
        self.outputs.push_back(Output::Send { to, draft, by });
    }

    /// What every failed login gets, whatever it failed for.
    fn refuse_login(&mut self, now: Now, link: LinkId) {
        self.end_login(now, link, ErrorCode::NotAuthenticated, LOGIN_REFUSED.to_owned());
    }

    /// Too many tries from one address say nothing about any account.
    fn refuse_address(&mut self, now: Now, link: LinkId, wait_ms: u64) {
        let seconds = wait_ms.div_ceil(1000);
        let why = format!("too many logins from your address; try again in {seconds} s");
        self.end_login(now, link, ErrorCode::RateLimited, why);
    }

    fn end_login(&mut self, now: Now, link: LinkId, code: ErrorCode, detail: String) {
        self.note(Note::Refused {
            link,
            class: "login",
            reason: format!("login: {code}"),
        });
        let notice = ErrorNotice {
            code,
            detail,
            msg_ref: None,
            seq: None,
        };
        // Whoever says LOGIN_START knows our codes.
        self.send(&[link], now, Address::everyone(), &Payload::Error(notice));
        self.proceed(link);
        self.give_up(now, link, CloseCode::PolicyViolation, "the login was refused");
    }

    fn set_login(&mut self, link: LinkId, login: Login) {
        if let Some(Link::New { stage, .. }) = self.links.get_mut(&link) {
            *stage = Stage::LoggingIn(Box::new(login));
        }
    }

    fn take_login(&mut self, link: LinkId) -> Option<Login> {
        let Some(Link::New { stage, .. }) = self.links.get_mut(&link) else {
            return None;
        };
        match std::mem::replace(stage, Stage::Silent) {
            Stage::LoggingIn(login) => Some(*login),
            other @ (Stage::Silent | Stage::Introduced(_) | Stage::AwaitsProof(_) | Stage::Challenged(_)) => {
                *stage = other;
                None
            }
        }
    }
}

/// Whoever has one address of the sixth version has the other 2^64 of its network too.
fn network_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}
