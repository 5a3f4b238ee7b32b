//! The data directory: who this server is, and what it remembers.
//!
//! ```text
//! DIR/            0700
//!   lock          held while a server runs on it
//!   server.key    0600  the private key, sealed
//!   server.key.next 0600 the same, for a moment, while the key is changed
//!   server.unlock 0600  32 random bytes that unseal it, where no passphrase does
//!   passwords.key 0600  what accounts with a password rest on, sealed under server.key
//!   tls.key       0600  with --tls-self-signed: the key of its certificate
//!   acme-account.json, acme-certificate.json
//!                 0600  with --acme-domain: the account at the authority; what it has signed, and its key
//!   admin.sock    0600  where a running server answers its operator
//!   server.db           identity, pins, users (SQLite; -wal and -shm beside it)
//! ```
//!
//! A copy of the database, or of the key file alone, gives nobody the key; a copy of the whole directory does, unless a
//! passphrase protects the key.

use crate::error::ServerError;
use crate::key_files;
use crate::settings::Settings;
use crate::store::{Database, Store};
use socp_core::server::Memory;
use socp_crypto::{OpaqueSetup, PrivateKey, random_bytes};
use socp_proto::{KeyHistory, KeyText, ServerId};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The database's name.
pub(crate) const DATABASE: &str = "server.db";

/// A data directory that is locked, read and ready.
pub(crate) struct Opened {
    pub(crate) server_id: ServerId,
    pub(crate) key: PrivateKey,
    pub(crate) key_text: KeyText,
    /// The secrets of accounts with a password (PROTOCOL II.9).
    pub(crate) passwords: OpaqueSetup,
    pub(crate) history: Option<KeyHistory>,
    pub(crate) memory: Memory,
    /// Larger at each start (PROTOCOL II.6).
    pub(crate) run: u64,
    pub(crate) store: Store,
}

/// Opens the data directory, making whatever is missing.
pub(crate) async fn open(settings: &Settings) -> Result<Opened, ServerError> {
    settings.check()?;
    let settings = settings.clone();
    // Key generation takes a second, and disks take their time.
    let opened = tokio::task::spawn_blocking(move || open_blocking(&settings)).await;
    opened.map_err(|error| ServerError::Part {
        part: "data directory",
        reason: error.to_string(),
    })?
}

fn open_blocking(settings: &Settings) -> Result<Opened, ServerError> {
    let dir = &settings.data;
    make_dir(dir)?;
    let lock = lock(dir)?;
    let database_path = dir.join(DATABASE);
    let database = Database::open(&database_path)?;
    let remembered = database.read(&database_path)?;
    let passphrase = settings.passphrase.as_ref();
    let key = match &remembered.identity {
        Some((_, pinned)) => key_files::load(dir, pinned, passphrase)?,
        None => key_files::load_or_make(dir, false, passphrase)?,
    };
    let key_text = KeyText::from_der(key.public_key().spki_der());
    let server_id = match &remembered.identity {
        Some((id, pinned)) => {
            check_identity(settings, id, pinned, &key_text)?;
            id.clone()
        }
        None => {
            let id = settings.server_id.clone().map_or_else(fresh_id, Ok)?;
            database.write_identity(&database_path, &id, &key_text)?;
            id
        }
    };
    let passwords = key_files::load_or_make_passwords(dir, &key, !remembered.memory.passwords.is_empty())?;
    let run = database.begin_run(&database_path)?;
    let store = database.start(lock)?;
    Ok(Opened {
        server_id,
        key,
        key_text,
        passwords,
        history: remembered.history,
        memory: remembered.memory,
        run,
        store,
    })
}

pub(crate) fn data_error(path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::Data { path, source }
}

fn make_dir(dir: &Path) -> Result<(), ServerError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(data_error(dir))
}

/// Takes the directory, which no two servers may use at once.
pub(crate) fn lock(dir: &Path) -> Result<File, ServerError> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(data_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::DataInUse { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(ServerError::Data { path, source }),
    }
}

fn check_identity(settings: &Settings, id: &ServerId, pinned: &KeyText, key: &KeyText) -> Result<(), ServerError> {
    let dir = settings.data.display();
    if pinned != key {
        return Err(ServerError::Identity(format!(
            "server.key in {dir} is not the key of this database; restore both from the same backup"
        )));
    }
    if let Some(wanted) = settings.server_id.as_ref().filter(|wanted| *wanted != id) {
        return Err(ServerError::Identity(format!(
            "{dir} belongs to server {id}, not to --server-id {wanted}; leave the flag out or choose another --data"
        )));
    }
    Ok(())
}

fn fresh_id() -> Result<ServerId, ServerError> {
    let failed = |reason: String| ServerError::Part {
        part: "randomness",
        reason,
    };
    let bytes = random_bytes::<16>().map_err(|error| failed(error.to_string()))?;
    let id = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
    ServerId::try_from(id).map_err(|error| failed(error.to_string()))
}
