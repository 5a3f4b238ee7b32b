//! Everything that can go wrong for a client, in words for people: what, why, what to do.

use socp_core::client::{AccountFault, PasswordFault, ResolveError, SendFault, Stop, TellFault};
use socp_crypto::{CryptoError, KeyFileFault};
use socp_proto::{InvalidHistory, UserId};
use socp_tls::TlsFault;
use std::path::PathBuf;

/// Why a client could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The directory holds no identity.
    #[error("there is no identity in {}; make one with `socp register`, or fetch yours with `socp login NAME`", dir.display())]
    NoIdentity {
        /// The profile directory.
        dir: PathBuf,
    },
    /// The directory holds an identity already.
    #[error("{} already holds the identity {user}; choose another directory with --profile", dir.display())]
    AlreadyRegistered {
        /// The profile directory.
        dir: PathBuf,
        /// Whose identity.
        user: UserId,
    },
    /// The profile was written by a later program.
    #[error("{} is in version {found} of the profile format, this program reads up to {known}; please update it", dir.display())]
    NewerProfile {
        /// The profile directory.
        dir: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version that this program reads.
        known: i64,
    },
    /// What is stored cannot be what we wrote.
    #[error("{} is damaged: {what}; restore it from a backup", dir.display())]
    DamagedProfile {
        /// The profile directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The profile's database failed.
    #[error("the profile's database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The key is protected, and no password was given.
    #[error("the key is protected by a password; give it on a terminal or with --password-stdin")]
    PasswordNeeded,
    /// The password does not open the key.
    #[error("wrong password, or the key file was altered")]
    WrongPassword,
    /// The platform's keyring is of no use.
    #[error("cannot {what} the keyring of this machine: {why}")]
    Keyring {
        /// What was tried.
        what: &'static str,
        /// Why not, and what to do.
        why: String,
    },
    /// No password where one is wanted.
    #[error("the new password is empty; nothing was changed")]
    EmptyPassword,
    /// Another program of this profile has changed the keys.
    #[error("another program has just changed the keys of this profile; start again")]
    KeysChangedMeanwhile,
    /// What should be stored cannot be written down.
    #[error("cannot write down what this profile knows: {0}")]
    Unwritable(String),
    /// A name that cannot be shown.
    #[error("the name cannot be used: {0}")]
    Name(String),
    /// Something that has no place in a contact card.
    #[error("this cannot be put into a contact card: {0}")]
    Card(socp_proto::InvalidCard),
    /// One's own card.
    #[error("this is your own card; give it to others")]
    OwnCard,
    /// Another server did not say what key it knows.
    #[error("{url} does not say which key it knows: {why}")]
    NoWord {
        /// The address.
        url: String,
        /// Why not.
        why: String,
    },
    /// Another server does not sign with the key that is pinned for it.
    #[error(
        "the server {url} does not sign with the key that this profile knows for it, so what it says of keys does not \
         count: its key was changed, or somebody stands between. `socp list --server {url}` follows a change that the \
         server proves, and shows you any other"
    )]
    NoWitness {
        /// The address.
        url: String,
    },
    /// The profile was not unlocked, so what was said cannot be read.
    #[error("the profile is locked; unlock it first")]
    Locked,
    /// Too many messages wait for the server.
    #[error("too many messages wait for the server; try again when some are through")]
    OutboxFull,
    /// A key operation failed.
    #[error("a key operation failed: {0}")]
    Crypto(CryptoError),
    /// Not the address of a server.
    #[error("{url:?} is not a server address: {why}; it looks like ws://127.0.0.1:8765 or wss://chat.example")]
    ServerUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No TLS session that could be trusted.
    #[error("cannot connect to {url}: {fault}")]
    Tls {
        /// The address.
        url: String,
        /// What is wrong.
        fault: TlsFault,
    },
    /// The port wants TLS.
    #[error("{url} speaks TLS; write wss:// instead of ws://")]
    SpeaksTls {
        /// The address.
        url: String,
    },
    /// Nobody answers there.
    #[error("cannot reach {url}: {why}; is the server running?")]
    Unreachable {
        /// The address.
        url: String,
        /// Why not.
        why: String,
    },
    /// The link is gone.
    #[error("the connection is gone: {0}")]
    Lost(String),
    /// The server will not let us in, or must not be trusted.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// Another process of this profile pinned another key at the same moment.
    #[error("another program with this profile has just pinned another key for {whose}; start again")]
    PinConflict {
        /// A user or a server.
        whose: String,
    },
    /// The account has no new password.
    #[error(transparent)]
    Password(#[from] PasswordFault),
    /// Nobody logs in with this name and password.
    #[error("not logged in: {0}")]
    LoginRefused(String),
    /// A message was not, or not surely, taken.
    #[error(transparent)]
    Tell(#[from] TellFault),
    /// Our own account was not, or not surely, changed.
    #[error(transparent)]
    Account(#[from] AccountFault),
    /// The keys were withdrawn, or changed as often as they can be.
    #[error("these keys cannot be changed any more: {0}; register a new identity")]
    KeysAtTheirEnd(InvalidHistory),
    /// A file was not, or not surely, sent.
    #[error(transparent)]
    SendFile(#[from] SendFault),
    /// A file that cannot be sent.
    #[error("cannot send {}: {why}", path.display())]
    NotSendable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A text does not name one user.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The directory cannot be had.
    #[error("cannot list users: {0}")]
    List(String),
    /// The connection was ended while something was under way.
    #[error("the connection was ended before an answer came")]
    Ended,
}

impl From<CryptoError> for ClientError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::WrongPassword => Self::WrongPassword,
            CryptoError::KeyFile(KeyFileFault::NeedsPassword) => Self::PasswordNeeded,
            other @ (CryptoError::BadKey(_)
            | CryptoError::BadSignature
            | CryptoError::Decrypt
            | CryptoError::TooLong { .. }
            | CryptoError::KeyFile(_)
            | CryptoError::Identity(_)
            | CryptoError::Opaque(_)
            | CryptoError::Internal(_)) => Self::Crypto(other),
        }
    }
}
