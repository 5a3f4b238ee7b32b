//! Why something failed, in words for people: what, why, what to do.

use super::alarm::{Alarm, Teller};
use super::io::Person;
use socp_proto::payload::ErrorNotice;
use socp_proto::{CardFingerprint, ErrorCode, Fingerprint, ServerId, UserId};

/// Why content could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenFault {
    /// Signed by another key than the pinned one, or altered.
    #[error("its signature does not fit the sender's pinned key")]
    Signature,
    /// Not for our key, or damaged.
    #[error("it does not decrypt with your key")]
    Decrypt,
    /// Not UTF-8.
    #[error("it is not text")]
    NotText,
    /// The key operation itself failed.
    #[error("it could not be read: {0}")]
    Internal(String),
}

/// Why the account has no new password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// There is no link.
    #[error("the connection to the server is lost; try again")]
    NotOnline,
    /// The server does not know how, or does not want to.
    #[error("this server takes no passwords (opaque/1); your identity is as it was")]
    NotOffered,
    /// There is one under way.
    #[error("a password is being set already; wait for that")]
    Busy,
    /// The server has said nothing.
    #[error("the server did not answer; the password may or may not be set. Set it again")]
    NoAnswer,
    /// The server does not want this one.
    #[error("the server refused the password: {code} {detail}")]
    Refused {
        /// The kind of refusal.
        code: ErrorCode,
        /// Why.
        detail: String,
    },
}

/// Why this server is of no use to us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The pinned key and the shown one differ.
    #[error(
        "the server shows another key ({}) than the one you know ({}). Either it was set up anew, or somebody stands \
         between you and it. Nothing is said to it; ask its operator, by telephone for instance, for the fingerprint of \
         its key, and give that to `socp key accept-server`", seen.short(), pinned.short()
    )]
    ServerKeyChanged {
        /// The key of first contact.
        pinned: Fingerprint,
        /// The key shown now.
        seen: Fingerprint,
    },
    /// The pinned id and the shown one differ.
    #[error(
        "another server answers at this address: expected {expected}, found {found}. Check the address with its operator"
    )]
    ServerIdChanged {
        /// The id of first contact.
        expected: ServerId,
        /// The id shown now.
        found: ServerId,
    },
    /// What answers the hello is not signed with the pinned key.
    #[error(
        "the answer ({answer}) is not signed with the key that was pinned for this server. Either it was set up anew or \
         somebody stands between; ask its operator"
    )]
    Unsigned {
        /// What was answered.
        answer: String,
    },
    /// The server asked for a proof before, and lets us in without.
    #[error(
        "the server has asked for a proof of who we are before (proof/1) and does not now. Either it runs an older \
         program, or somebody repeats what it once said; ask its operator, and use another profile if that is right"
    )]
    NoChallenge,
    /// The server's question is not one that we may answer.
    #[error("the server's challenge is not for us to answer: {0}. Somebody may stand between; ask its operator")]
    Challenge(&'static str),
    /// The server is at the end of another TLS session.
    #[error(
        "somebody stands between: the server is at the other end of another TLS session than ours. Nothing was signed for \
         it. Check the address, and the pin behind its #, with the server's operator"
    )]
    Between,
    /// The server does not say which key it has.
    #[error(
        "the server does not name its id and key when it greets, so nothing it says could be checked; use another server"
    )]
    Keyless,
    /// Somebody holds a session of this user.
    #[error(
        "this identity is already connected to the server: {detail}. End the other program, or use another profile"
    )]
    NameInUse {
        /// The server's words.
        detail: String,
    },
    /// The id belongs to another key.
    #[error(
        "the server knows this user id with another key: {detail}. Use the profile that has that key, fetch the identity from there \
         (`socp key export`, or `socp login` with the password), or register a new one"
    )]
    BadKey {
        /// The server's words.
        detail: String,
    },
    /// The signature was not accepted.
    #[error("the server does not accept our signature: {detail}. Check this machine's clock")]
    InvalidSig {
        /// The server's words.
        detail: String,
    },
    /// Any other refusal.
    #[error("the server refuses us: {code} {detail}")]
    Refused {
        /// The kind of refusal.
        code: ErrorCode,
        /// The server's words.
        detail: String,
    },
    /// Nothing was answered.
    #[error("the server did not answer the greeting; is there a SOCP server at this address?")]
    NoAnswer,
}

/// Why our own account was not, or not surely, changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountFault {
    /// The server does not know such changes.
    #[error(
        "this server does not know changes of accounts (history/1), so nothing was changed; ask its operator to update it"
    )]
    Unable,
    /// Another change is under way.
    #[error("another change of this account is under way")]
    Busy,
    /// The server says no.
    #[error("the server refuses it: {code} {detail}")]
    Refused {
        /// The kind of refusal.
        code: ErrorCode,
        /// The server's words.
        detail: String,
    },
    /// The link broke, or nothing was answered.
    #[error("the server did not answer, so it may or may not have happened")]
    NoAnswer,
}

/// Why a message was not, or not surely, taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TellFault {
    /// Nothing to send.
    #[error("the message is empty")]
    Empty,
    /// Too much to send.
    #[error("the message has {bytes} bytes, at most {max} are allowed; send it in parts")]
    TooLong {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// There is no link.
    #[error("not connected to the server")]
    Offline,
    /// The channel has no other member.
    #[error("nobody else is online, so nothing was sent")]
    Alone,
    /// Who the members are is not known.
    #[error("the list of users could not be had: {0}; nothing was sent")]
    NoList(String),
    /// More messages under way than we keep.
    #[error("too many messages wait for the server; try again when some are through")]
    Busy,
    /// More users than we keep.
    #[error("this profile knows too many users to pin another key")]
    TooManyUsers,
    /// Another key than the pinned one was shown.
    #[error(
        "{teller} shows another key for {user} ({}) than the one you know. Either they set their program up anew, or \
         somebody stands between you and wants to read along. Nothing is sent and nothing shown as theirs until you \
         decide: call them, compare what `socp key accept {user}` shows, and accept the new key only if it is the same; \
         if the old one is right, `socp key keep {user}`", seen.short()
    )]
    KeyChanged {
        /// The user.
        user: UserId,
        /// The pair of keys that was shown.
        seen: CardFingerprint,
        /// Who showed it.
        teller: Teller,
    },
    /// The user took the key back.
    #[error("{0} has withdrawn their key")]
    Withdrawn(UserId),
    /// The server has no key for the user.
    #[error("the server knows no user {0}; see `socp list`")]
    UnknownUser(UserId),
    /// The server cannot reach the user.
    #[error("{0} is not online")]
    NotOnline(UserId),
    /// Away, and nothing is kept for them.
    #[error("{0} is not online, and no server keeps messages for them; try again when they are")]
    NotKept(UserId),
    /// No room for more.
    #[error("{0} has no room for more messages, or for more of yours; try again when they have read some")]
    MailboxFull(UserId),
    /// The profile cannot be written.
    #[error("the message could not be written to this profile: {0}; nothing was sent")]
    NotWritten(String),
    /// The profile cannot be read or written by now.
    #[error(
        "the message is kept but not sent, since this profile cannot be used as it should: {0}. It is tried again as long as \
         the program runs, and by the next one that connects; if the disk is full or damaged, make room or look after it"
    )]
    Stuck(String),
    /// As was said before.
    #[error("it goes nowhere: {0}")]
    GoesNowhere(String),
    /// The key cannot be used.
    #[error("cannot encrypt to {user}: {why}")]
    Key {
        /// The user.
        user: UserId,
        /// What is wrong with the key.
        why: String,
    },
    /// The server refused it, or something sent at about the same time.
    #[error("the server answered {code} {detail}; the message may not have gone through")]
    Refused {
        /// The kind of refusal.
        code: ErrorCode,
        /// The server's words.
        detail: String,
    },
    /// The server says nothing.
    #[error("the server did not answer; the message may not have gone through")]
    NoAnswer,
    /// The link broke.
    #[error("the connection broke before the server confirmed; the message may not have gone through")]
    Lost,
}

/// Nothing goes on with this user.
impl From<&Alarm> for TellFault {
    fn from(alarm: &Alarm) -> Self {
        Self::KeyChanged {
            user: alarm.user.clone(),
            seen: alarm.seen,
            teller: alarm.teller.clone(),
        }
    }
}

impl TellFault {
    /// What an `ERROR` says of a message that was written down (PROTOCOL II.6).
    pub(super) fn of_kept(error: &ErrorNotice, to: Option<&UserId>) -> Self {
        match (&error.code, to) {
            (ErrorCode::UserNotFound, Some(to)) => Self::NotKept(to.clone()),
            (ErrorCode::MailboxFull, Some(to)) => Self::MailboxFull(to.clone()),
            (code, _) => Self::Refused {
                code: code.clone(),
                detail: error.detail.clone(),
            },
        }
    }

    /// What an `ERROR` about a message to this user says of it.
    pub(super) fn of(error: &ErrorNotice, to: &UserId) -> Self {
        if error.code == ErrorCode::UserNotFound {
            return Self::NotOnline(to.clone());
        }
        Self::Refused {
            code: error.code.clone(),
            detail: error.detail.clone(),
        }
    }
}

/// Why a text does not name one user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nobody known by it.
    #[error("no user {0:?} is known; see `socp list --all`")]
    Unknown(String),
    /// Several known by it, listed by [`candidates`](ResolveError::Ambiguous::candidates).
    #[error("{text:?} may be any of {}; give the id or name@server", describe(candidates))]
    Ambiguous {
        /// The text.
        text: String,
        /// Whom it may mean.
        candidates: Vec<Person>,
    },
    /// The list could not be had.
    #[error("cannot look users up: {0}")]
    NoList(String),
}

fn describe(candidates: &[Person]) -> String {
    let one = |person: &Person| match person.server_label() {
        Some(server) => format!("{} ({:?} at {server:?})", person.user_id, person.label()),
        None => format!("{} ({:?})", person.user_id, person.label()),
    };
    candidates.iter().map(one).collect::<Vec<_>>().join(", ")
}
