//! What can keep a server from serving: each says what failed, why, and what to do.

use socp_crypto::CryptoError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; choose another with --listen HOST:PORT (port 0 picks a free one)")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the data directory.
    #[error("the data directory {} is in use by another server; stop that one or choose another with --data", path.display())]
    DataInUse {
        /// Which.
        path: PathBuf,
    },
    /// The data directory or a file in it cannot be used.
    #[error("cannot use {}: {source}; check that it exists and that you may read and write it", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be used.
    #[error("cannot use the database {}: {reason}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The database was written by a later version.
    #[error(
        "the database {} has version {found}, but this program knows only up to {known}; use the newer program",
        path.display()
    )]
    NewerDatabase {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The server's key cannot be used.
    #[error("cannot use the key file {}: {source}; restore it from a backup, or start with an empty --data", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        source: CryptoError,
    },
    /// The key does not open with what was given.
    #[error(
        "{} does not open: a wrong passphrase, or a server.unlock that is not its own, or a damaged file; restore it from \
         a backup if the passphrase is right",
        path.display()
    )]
    WrongPassphrase {
        /// Which.
        path: PathBuf,
    },
    /// A passphrase is missing, or given where there is none.
    #[error("{0}")]
    Passphrase(String),
    /// The certificate for TLS cannot be used.
    #[error("no TLS: cannot use {what}: {reason}")]
    Certificate {
        /// Which file or files.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Key, database and settings disagree on who this is.
    #[error("{0}")]
    Identity(String),
    /// A setting contradicts another, or the protocol.
    #[error("{0}")]
    Setting(String),
    /// A part of the running server ended.
    #[error("the server's {part} failed: {reason}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        reason: String,
    },
}
