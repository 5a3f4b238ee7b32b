//! A profile: one identity, the keys of everyone met, the servers used.
//!
//! A directory with mode 0700 holds `profile.db`. What opens the keys in it is a password, or 32 random bytes: in the
//! platform's keyring, or beside it in `unlock.key` with mode 0600. The database never holds a secret in the clear. Several programs may use one profile at
//! once.

mod alarms;
mod cards;
mod former;
mod history_key;
mod identity;
mod keyring;
mod schema;
mod tls;
mod trust;
mod unlock;

pub use alarms::{ServerAlarm, Verdict};
pub use cards::CardOutcome;
pub use identity::Identity;
pub(crate) use identity::generate_key;
pub use unlock::{AtRest, Protection};

use crate::error::ClientError;
use identity::SealedKeys;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use socp_core::client::{Program, ServerPin, UserPin};
use socp_crypto::RowKeys;
use socp_proto::{KeyText, ServerId};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// An open profile; cheap to clone.
#[derive(Debug, Clone)]
pub struct Profile {
    dir: PathBuf,
    database: Arc<Mutex<Connection>>,
    identity: Identity,
    sealed: SealedKeys,
    /// What seals the history, once the profile was unlocked.
    history_keys: Arc<OnceLock<RowKeys>>,
}

impl Profile {
    /// Opens a profile that has an identity.
    ///
    /// # Errors
    /// [`ClientError::NoIdentity`] if there is none; whatever else is wrong with the directory.
    pub fn open(dir: &Path) -> Result<Self, ClientError> {
        if !dir.join(schema::FILE).exists() {
            return Err(ClientError::NoIdentity { dir: dir.to_owned() });
        }
        let database = schema::open(dir)?;
        let Some((identity, sealed)) = identity::read(dir, &database)? else {
            return Err(ClientError::NoIdentity { dir: dir.to_owned() });
        };
        Ok(Self::with(dir, database, identity, sealed))
    }

    /// Opens the profile, making an identity if there is none.
    ///
    /// # Errors
    /// As [`Profile::open`] and [`Profile::create`].
    pub fn open_or_create<'a>(
        dir: &Path,
        name: Option<&str>,
        display_name: Option<&str>,
        protection: impl Into<Protection<'a>>,
    ) -> Result<Self, ClientError> {
        match Self::open(dir) {
            Err(ClientError::NoIdentity { .. }) => Self::create(dir, name, display_name, protection),
            opened => opened,
        }
    }

    fn with(dir: &Path, database: Connection, identity: Identity, sealed: SealedKeys) -> Self {
        Self {
            dir: dir.to_owned(),
            database: Arc::new(Mutex::new(database)),
            identity,
            sealed,
            history_keys: Arc::default(),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Who this profile is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The server used last.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn last_server(&self) -> Result<Option<String>, ClientError> {
        let database = self.lock();
        let mut query = database.prepare("SELECT value FROM settings WHERE name = 'server'")?;
        Ok(query.query_row([], |row| row.get(0)).optional()?)
    }

    /// Remembers the server used last.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn set_last_server(&self, url: &str) -> Result<(), ClientError> {
        if self.last_server()?.as_deref() == Some(url) {
            return Ok(());
        }
        let statement = "INSERT INTO settings(name, value) VALUES ('server', ?1)
            ON CONFLICT(name) DO UPDATE SET value = excluded.value";
        self.lock().execute(statement, [url])?;
        Ok(())
    }

    /// Everyone pinned, sorted by id.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn pins(&self) -> Result<Vec<UserPin>, ClientError> {
        let database = self.lock();
        let mut query = database.prepare(
            "SELECT user_id, pubkey, enc_pubkey, name, server_id, server_name, version, revoked, acks, numbered_at
                FROM pins ORDER BY user_id",
        )?;
        let rows = query.query_map([], |row| Ok(read_pin(row)))?;
        let pins = rows.map(|row| row?.map_err(|what| damaged(&self.dir, &what)));
        self.with_former_keys(&database, pins.collect::<Result<Vec<UserPin>, ClientError>>()?)
    }

    /// What is pinned for the server at this address.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn server(&self, url: &str) -> Result<Option<ServerPin>, ClientError> {
        let database = self.lock();
        let mut query =
            database.prepare("SELECT server_id, server_pub, name, asks_for_proof FROM servers WHERE url = ?1")?;
        let found = query.query_row([url], |row| Ok(read_server(row))).optional()?;
        found
            .map(|server| server.map_err(|what| damaged(&self.dir, &what)))
            .transpose()
    }

    /// All of them or none, in one transaction: each one costs a wait for the disk.
    pub(crate) fn save_pins(&self, pins: &[UserPin], programs: &[Program]) -> Result<(), ClientError> {
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let first_seen = unix_ms();
        for pin in pins {
            save_pin(&transaction, pin, first_seen)?;
            former::save(&transaction, pin)?;
        }
        for program in programs {
            save_program(&transaction, program)?;
        }
        Ok(transaction.commit()?)
    }

    pub(crate) fn save_server(&self, url: &str, pin: &ServerPin) -> Result<(), ClientError> {
        let database = self.lock();
        // What has asked for a proof once must ask for ever.
        database.execute(
            "INSERT INTO servers(url, server_id, server_pub, name, first_seen, asks_for_proof)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(url) DO UPDATE
                SET asks_for_proof = max(asks_for_proof, ?6) WHERE server_id = ?2 AND server_pub = ?3",
            params![
                url,
                pin.id.as_str(),
                pin.key.as_str(),
                pin.name,
                unix_ms(),
                pin.asks_for_proof
            ],
        )?;
        // One id has one key, whatever the address.
        let mut query = database.prepare(
            "SELECT count(*) FROM servers WHERE (url = ?1 OR server_id = ?2)
                AND NOT (server_id = ?2 AND server_pub = ?3)",
        )?;
        let others: i64 = query.query_row(params![url, pin.id.as_str(), pin.key.as_str()], |row| row.get(0))?;
        if others == 0 {
            Ok(())
        } else {
            Err(ClientError::PinConflict {
                whose: pin.id.to_string(),
            })
        }
    }

    /// A server's new key takes the place of the one before, at every address of that server.
    pub(crate) fn follow_server(&self, server: &ServerPin, before: &KeyText) -> Result<(), ClientError> {
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (id, key) = (server.id.as_str(), server.key.as_str());
        transaction.execute(
            "UPDATE servers SET server_pub = ?1, asks_for_proof = max(asks_for_proof, ?2) WHERE server_id = ?3
                AND server_pub = ?4",
            params![key, server.asks_for_proof, id, before.as_str()],
        )?;
        let mut query =
            transaction.prepare("SELECT count(*) FROM servers WHERE server_id = ?1 AND server_pub <> ?2")?;
        let others: i64 = query.query_row(params![id, key], |row| row.get(0))?;
        drop(query);
        if others > 0 {
            // Somebody has decided otherwise meanwhile, in another program.
            return Err(ClientError::PinConflict { whose: id.to_owned() });
        }
        // What was asked about that key is answered.
        transaction.execute(
            "DELETE FROM server_alarms WHERE server_id = ?1 AND server_pub = ?2",
            params![id, key],
        )?;
        Ok(transaction.commit()?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half-done statement behind.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn damaged(dir: &Path, what: &str) -> ClientError {
    ClientError::DamagedProfile {
        dir: dir.to_owned(),
        what: what.to_owned(),
    }
}

/// Remembers what a pinned user's program can do, and where it was seen last.
fn save_program(database: &Connection, program: &Program) -> Result<(), ClientError> {
    let mut update = database.prepare_cached(
        "UPDATE pins SET acks = ?2, server_id = coalesce(?3, server_id), numbered_at = ?4 WHERE user_id = ?1",
    )?;
    update.execute(params![
        program.user.as_str(),
        program.acks,
        program.home.as_ref().map(ServerId::as_str),
        i64::try_from(program.numbered_at).unwrap_or(i64::MAX),
    ])?;
    Ok(())
}

fn save_pin(database: &Connection, pin: &UserPin, first_seen: i64) -> Result<(), ClientError> {
    let version = i64::try_from(pin.version).unwrap_or(i64::MAX);
    let mut insert = database.prepare_cached(
        "INSERT INTO pins(user_id, pubkey, enc_pubkey, name, server_id, server_name, first_seen, version, revoked, acks)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(user_id) DO UPDATE
            SET pubkey = ?2, enc_pubkey = ?3, version = ?8, revoked = ?9 WHERE version < ?8",
    )?;
    insert.execute(params![
        pin.user.as_str(),
        pin.pubkey.as_str(),
        pin.enc_pubkey.as_str(),
        pin.name,
        pin.server_id.as_ref().map(ServerId::as_str),
        pin.server_name,
        first_seen,
        version,
        pin.revoked,
        pin.acks,
    ])?;
    // Another program may know newer keys already.
    let mut query = database
        .prepare_cached("SELECT version > ?4 OR (pubkey = ?2 AND enc_pubkey = ?3) FROM pins WHERE user_id = ?1")?;
    let keys = params![pin.user.as_str(), pin.pubkey.as_str(), pin.enc_pubkey.as_str(), version];
    let is_ours: bool = query.query_row(keys, |row| row.get(0))?;
    if is_ours {
        Ok(())
    } else {
        Err(ClientError::PinConflict {
            whose: pin.user.to_string(),
        })
    }
}

fn text(row: &Row<'_>, column: &'static str) -> Result<String, String> {
    row.get(column).map_err(|error| format!("{column}: {error}"))
}

fn optional_text(row: &Row<'_>, column: &'static str) -> Result<Option<String>, String> {
    row.get(column).map_err(|error| format!("{column}: {error}"))
}

fn parsed<T: TryFrom<String>>(text: String, column: &'static str) -> Result<T, String>
where
    T::Error: std::fmt::Display,
{
    T::try_from(text).map_err(|error| format!("{column} {error}"))
}

fn read_pin(row: &Row<'_>) -> Result<UserPin, String> {
    Ok(UserPin {
        user: parsed(text(row, "user_id")?, "user_id")?,
        pubkey: parsed(text(row, "pubkey")?, "pubkey")?,
        enc_pubkey: parsed(text(row, "enc_pubkey")?, "enc_pubkey")?,
        name: optional_text(row, "name")?,
        server_id: optional_text(row, "server_id")?
            .map(|id| parsed(id, "server_id"))
            .transpose()?,
        server_name: optional_text(row, "server_name")?,
        version: number(row, "version")?,
        revoked: row.get("revoked").map_err(|error| format!("revoked: {error}"))?,
        acks: row.get("acks").map_err(|error| format!("acks: {error}"))?,
        former: Vec::new(),
        numbered_at: number(row, "numbered_at")?,
    })
}

fn number(row: &Row<'_>, column: &'static str) -> Result<u64, String> {
    let number: i64 = row.get(column).map_err(|error| format!("{column}: {error}"))?;
    u64::try_from(number).map_err(|error| format!("{column}: {error}"))
}

fn read_server(row: &Row<'_>) -> Result<ServerPin, String> {
    Ok(ServerPin {
        id: parsed(text(row, "server_id")?, "server_id")?,
        key: parsed(text(row, "server_pub")?, "server_pub")?,
        name: optional_text(row, "name")?,
        asks_for_proof: row
            .get("asks_for_proof")
            .map_err(|error| format!("asks_for_proof: {error}"))?,
    })
}

pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
