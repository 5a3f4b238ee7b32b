//! A profile: one identity, the keys of everyone met, the servers used.
//!
//! A directory with mode 0700 holds `profile.db` and, where no password protects the key, `unlock.key`: 32 random bytes
//! with mode 0600 that open it. The database never holds a secret in the clear. Several programs may use one profile at
//! once.

mod schema;
mod trust;
mod unlock;

pub use trust::Trust;

use crate::error::ClientError;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use socp_core::client::{ServerPin, UserPin};
use socp_crypto::{Password, PrivateKey, SealedKey};
use socp_proto::{Fingerprint, KeyText, Meta, ServerId, UserId};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who a profile is, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user_id: UserId,
    /// The handle.
    pub name: Option<String>,
    /// The name to show.
    pub display_name: Option<String>,
    /// The public key.
    pub pubkey: KeyText,
}

/// An open profile; cheap to clone.
#[derive(Debug, Clone)]
pub struct Profile {
    dir: PathBuf,
    database: Arc<Mutex<Connection>>,
    identity: Identity,
    sealed: SealedKey,
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
        let Some((identity, sealed)) = read_identity(dir, &database)? else {
            return Err(ClientError::NoIdentity { dir: dir.to_owned() });
        };
        Ok(Self::with(dir, database, identity, sealed))
    }

    /// Makes an identity with a new key; takes about a second. An empty password is none. The user's id is made from the
    /// key, so that nobody else can keep it from its owner (PROTOCOL I.6).
    ///
    /// # Errors
    /// [`ClientError::AlreadyRegistered`] if there is one; whatever is wrong with the names or the directory.
    pub fn create(
        dir: &Path,
        name: Option<&str>,
        display_name: Option<&str>,
        password: Option<&Password>,
    ) -> Result<Self, ClientError> {
        check_names(name, display_name)?;
        schema::make_dir(dir)?;
        let mut database = schema::open(dir)?;
        refuse_second(dir, &database)?;
        let key = PrivateKey::generate()?;
        let identity = Identity {
            user_id: UserId::made_from(Fingerprint::of(key.public_key().spki_der())),
            name: name.map(str::to_owned),
            display_name: display_name.map(str::to_owned),
            pubkey: KeyText::from_der(key.public_key().spki_der()),
        };
        // Held until the identity is stored, so that of two programs only one makes one.
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        refuse_second(dir, &transaction)?;
        let sealed = unlock::seal(dir, &key, password)?;
        write_identity(&transaction, &identity, &sealed)?;
        transaction.commit()?;
        Ok(Self::with(dir, database, identity, sealed))
    }

    /// Opens the profile, making an identity if there is none.
    ///
    /// # Errors
    /// As [`Profile::open`] and [`Profile::create`].
    pub fn open_or_create(
        dir: &Path,
        name: Option<&str>,
        display_name: Option<&str>,
        password: Option<&Password>,
    ) -> Result<Self, ClientError> {
        match Self::open(dir) {
            Err(ClientError::NoIdentity { .. }) => Self::create(dir, name, display_name, password),
            opened => opened,
        }
    }

    fn with(dir: &Path, database: Connection, identity: Identity, sealed: SealedKey) -> Self {
        Self {
            dir: dir.to_owned(),
            database: Arc::new(Mutex::new(database)),
            identity,
            sealed,
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

    /// Whether [`Profile::unlock`] wants a password.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.sealed.needs_password()
    }

    /// Opens the private key; with a password this takes a good part of a second.
    ///
    /// # Errors
    /// [`ClientError::PasswordNeeded`], [`ClientError::WrongPassword`], or whatever is wrong with the files.
    pub fn unlock(&self, password: Option<&Password>) -> Result<PrivateKey, ClientError> {
        let key = unlock::open(&self.dir, &self.sealed, password)?;
        if key.public_key().spki_der() != self.identity.pubkey.der() {
            return Err(damaged(&self.dir, "the private key does not belong to the public one"));
        }
        Ok(key)
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
        let mut query = database
            .prepare("SELECT user_id, pubkey, enc_pubkey, name, server_id, server_name FROM pins ORDER BY user_id")?;
        let rows = query.query_map([], |row| Ok(read_pin(row)))?;
        rows.map(|row| row?.map_err(|what| damaged(&self.dir, &what))).collect()
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
    pub(crate) fn save_pins(&self, pins: &[UserPin]) -> Result<(), ClientError> {
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let first_seen = unix_ms();
        for pin in pins {
            save_pin(&transaction, pin, first_seen)?;
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

fn check_names(name: Option<&str>, display_name: Option<&str>) -> Result<(), ClientError> {
    let is_plain = |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if name.is_some_and(|name| !is_plain(name) || name.contains('@')) {
        let why = "--name must not be empty and must not hold spaces, control characters or '@'";
        return Err(ClientError::Name(why.to_owned()));
    }
    Meta::named(name, display_name)
        .map(drop)
        .map_err(|error| ClientError::Name(error.to_string()))
}

fn refuse_second(dir: &Path, database: &Connection) -> Result<(), ClientError> {
    match read_identity(dir, database)? {
        Some((identity, _)) => Err(ClientError::AlreadyRegistered {
            dir: dir.to_owned(),
            user: identity.user_id,
        }),
        None => Ok(()),
    }
}

fn write_identity(database: &Connection, identity: &Identity, sealed: &SealedKey) -> Result<(), ClientError> {
    database.execute(
        "INSERT INTO identity(one, user_id, name, display_name, pubkey, sealed_key) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        params![
            identity.user_id.as_str(),
            identity.name,
            identity.display_name,
            identity.pubkey.as_str(),
            sealed.to_json()?,
        ],
    )?;
    Ok(())
}

fn read_identity(dir: &Path, database: &Connection) -> Result<Option<(Identity, SealedKey)>, ClientError> {
    type Texts = (String, Option<String>, Option<String>, String, String);
    let mut query = database.prepare("SELECT user_id, name, display_name, pubkey, sealed_key FROM identity")?;
    let read = |row: &Row<'_>| -> rusqlite::Result<Texts> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    };
    let Some((user_id, name, display_name, pubkey, sealed)) = query.query_row([], read).optional()? else {
        return Ok(None);
    };
    let user_id = UserId::try_from(user_id).map_err(|error| damaged(dir, &error.to_string()))?;
    let pubkey = KeyText::try_from(pubkey).map_err(|error| damaged(dir, &error.to_string()))?;
    let sealed = SealedKey::from_json(&sealed)?;
    Ok(Some((
        Identity {
            user_id,
            name,
            display_name,
            pubkey,
        },
        sealed,
    )))
}

fn save_pin(database: &Connection, pin: &UserPin, first_seen: i64) -> Result<(), ClientError> {
    let mut insert = database.prepare_cached(
        "INSERT INTO pins(user_id, pubkey, enc_pubkey, name, server_id, server_name, first_seen)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(user_id) DO NOTHING",
    )?;
    insert.execute(params![
        pin.user.as_str(),
        pin.pubkey.as_str(),
        pin.enc_pubkey.as_str(),
        pin.name,
        pin.server_id.as_ref().map(ServerId::as_str),
        pin.server_name,
        first_seen,
    ])?;
    let mut query = database.prepare_cached("SELECT pubkey = ?2 AND enc_pubkey = ?3 FROM pins WHERE user_id = ?1")?;
    let keys = params![pin.user.as_str(), pin.pubkey.as_str(), pin.enc_pubkey.as_str()];
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
    })
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

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
