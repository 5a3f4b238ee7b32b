//! Who a profile is: two sealed private keys, their history, and how the whole of it leaves and enters (PROTOCOL II.13).

use super::keyring::Entry;
use super::unlock::{AtRest, Lock, Protection};
use super::{Profile, damaged, schema};
use crate::error::ClientError;
use crate::history::History;
use crate::safe_text::{is_hostile, is_joiner};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use socp_core::names::{mixes_scripts, normal_form};
use socp_crypto::{FullIdentity, Password, PrivateKey, SealedKey, UserKeys};
use socp_proto::limits::OLD_ENC_KEYS_COUNT_MAX;
use socp_proto::{Fingerprint, KeyHistory, KeyText, Meta, PublicPair, UserId};
use std::path::Path;

/// Who a profile is, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user_id: UserId,
    /// The handle.
    pub name: Option<String>,
    /// The name to show.
    pub display_name: Option<String>,
    /// The public key that verifies what the user signs.
    pub pubkey: KeyText,
    /// The public key that others encrypt to; the same in older profiles.
    pub enc_pubkey: KeyText,
    /// How the keys came about, if they ever changed.
    pub history: Option<KeyHistory>,
}

impl Identity {
    /// Both public keys.
    #[must_use]
    pub fn pair(&self) -> PublicPair {
        PublicPair {
            pubkey: self.pubkey.clone(),
            enc_pubkey: self.enc_pubkey.clone(),
        }
    }

    /// Counts the pairs of keys.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.history.as_ref().map_or(1, KeyHistory::version)
    }

    /// Whether the keys are withdrawn.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.history.as_ref().is_some_and(KeyHistory::is_revoked)
    }

    fn of(full: &FullIdentity) -> Self {
        let PublicPair { pubkey, enc_pubkey } = full.keys.public_pair();
        Self {
            user_id: full.user_id.clone(),
            name: full.name.clone(),
            display_name: full.display_name.clone(),
            pubkey,
            enc_pubkey,
            history: full.history.clone(),
        }
    }
}

/// The private keys as they are stored.
#[derive(Debug, Clone)]
pub(super) struct SealedKeys {
    sign: SealedKey,
    /// Absent where `sign` does both.
    enc: Option<SealedKey>,
    /// Newest first.
    old_enc: Vec<SealedKey>,
    /// Where in the platform's keyring the secret is that opens them, if there.
    entry: Option<Entry>,
}

impl SealedKeys {
    pub(super) fn needs_password(&self) -> bool {
        self.sign.needs_password()
    }

    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    fn at_rest(&self) -> AtRest {
        match (self.needs_password(), &self.entry) {
            (true, _) => AtRest::Password,
            (false, Some(_)) => AtRest::Keyring,
            (false, None) => AtRest::File,
        }
    }

    fn seal(keys: &UserKeys, lock: &Lock<'_>) -> Result<Self, ClientError> {
        let has_two = keys.enc.public_key() != keys.sign.public_key();
        Ok(Self {
            sign: lock.seal(&keys.sign)?,
            enc: has_two.then(|| lock.seal(&keys.enc)).transpose()?,
            old_enc: keys
                .old_enc
                .iter()
                .map(|key| lock.seal(key))
                .collect::<Result<_, _>>()?,
            entry: lock.entry().cloned(),
        })
    }

    fn open(&self, lock: &Lock<'_>) -> Result<UserKeys, ClientError> {
        let sign = lock.open(&self.sign)?;
        let enc = self.enc.as_ref().map(|sealed| lock.open(sealed)).transpose()?;
        Ok(UserKeys {
            enc: enc.unwrap_or_else(|| sign.clone()),
            sign,
            old_enc: self
                .old_enc
                .iter()
                .map(|key| lock.open(key))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Profile {
    /// Makes an identity with two new keys; takes about a second. An empty password is none. The user's id is made from the
    /// signing key, so that nobody else can keep it from its owner (PROTOCOL I.6).
    ///
    /// # Errors
    /// [`ClientError::AlreadyRegistered`] if there is one; whatever is wrong with the names, the directory or the keyring.
    pub fn create<'a>(
        dir: &Path,
        name: Option<&str>,
        display_name: Option<&str>,
        protection: impl Into<Protection<'a>>,
    ) -> Result<Self, ClientError> {
        check_names(name, display_name)?;
        Self::add(dir, protection.into(), || {
            let keys = generate_keys()?;
            Ok(FullIdentity {
                user_id: UserId::made_from(Fingerprint::of(keys.sign.public_key().spki_der())),
                name: name.map(str::to_owned),
                display_name: display_name.map(str::to_owned),
                keys,
                history: None,
            })
        })
    }

    /// Makes a profile of an identity that comes from elsewhere. A password is the new profile's; an empty one is none.
    ///
    /// # Errors
    /// As [`Profile::create`].
    pub fn import<'a>(
        dir: &Path,
        identity: FullIdentity,
        protection: impl Into<Protection<'a>>,
    ) -> Result<Self, ClientError> {
        check_names(identity.name.as_deref(), identity.display_name.as_deref())?;
        Self::add(dir, protection.into(), || Ok(identity))
    }

    fn add(
        dir: &Path,
        protection: Protection<'_>,
        make: impl FnOnce() -> Result<FullIdentity, ClientError>,
    ) -> Result<Self, ClientError> {
        schema::make_dir(dir)?;
        let mut database = schema::open(dir)?;
        refuse_second(dir, &database)?;
        let full = make()?;
        let identity = Identity::of(&full);
        // A keyring may wait for a person, and nothing is locked meanwhile.
        let in_keyring = match protection {
            Protection::Keyring => Some(Lock::make(dir, protection, &identity.user_id)?),
            Protection::Password(_) | Protection::File => None,
        };
        let stored = store_first(
            dir,
            &mut database,
            &full.keys,
            &identity,
            (protection, in_keyring.as_ref()),
        );
        if let (Err(_), Some(lock)) = (&stored, &in_keyring) {
            lock.take_back();
        }
        Ok(Self::with(dir, database, identity, stored?))
    }

    /// What protects the private keys.
    #[must_use]
    pub fn at_rest(&self) -> AtRest {
        self.sealed.at_rest()
    }

    /// Whether [`Profile::unlock`] wants a password.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.sealed.needs_password()
    }

    /// Opens the private keys; with a password this takes a good part of a second.
    ///
    /// # Errors
    /// [`ClientError::PasswordNeeded`], [`ClientError::WrongPassword`], or whatever is wrong with the files.
    pub fn unlock(&self, password: Option<&Password>) -> Result<UserKeys, ClientError> {
        let lock = Lock::of(&self.dir, &self.sealed, password)?;
        let keys = self.sealed.open(&lock)?;
        if keys.public_pair() != self.identity.pair() {
            return Err(damaged(&self.dir, "the private keys do not belong to the public ones"));
        }
        self.unlock_history(&lock)?;
        Ok(keys)
    }

    /// The whole identity with its private keys, for [an export](FullIdentity::to_text).
    ///
    /// # Errors
    /// As [`Profile::unlock`].
    pub fn full_identity(&self, password: Option<&Password>) -> Result<FullIdentity, ClientError> {
        Ok(FullIdentity {
            user_id: self.identity.user_id.clone(),
            name: self.identity.name.clone(),
            display_name: self.identity.display_name.clone(),
            keys: self.unlock(password)?,
            history: self.identity.history.clone(),
        })
    }

    /// Seals the same keys under another password. `present` is the one of now, as for [`Profile::unlock`].
    ///
    /// # Errors
    /// As [`Profile::unlock`]; [`ClientError::KeysChangedMeanwhile`] if another program was faster.
    pub fn change_password(&self, present: Option<&Password>, new: &Password) -> Result<Self, ClientError> {
        if new.is_empty() {
            return Err(ClientError::EmptyPassword);
        }
        let keys = self.unlock(present)?;
        let (before, after) = (Lock::of(&self.dir, &self.sealed, present)?, Lock::Password(new));
        let sealed = SealedKeys::seal(&keys, &after)?;
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let stored = read(&self.dir, &transaction)?.map(|(stored, _)| stored);
        if stored.as_ref() != Some(&self.identity) {
            return Err(ClientError::KeysChangedMeanwhile);
        }
        erase(&transaction)?;
        write(&transaction, &self.identity, &sealed)?;
        Self::reseal_history(&transaction, (&before, &after))?;
        transaction.commit()?;
        drop(database);
        // What it opened is sealed anew: done is done, and what is left is told.
        if let Err(error) = self.forget_secret() {
            tracing::warn!(%error, "the keys are under the new password; what opened them before could not be removed");
        }
        Ok(Self { sealed, ..self.clone() })
    }

    /// Nothing is sealed with the stored secret any more, and what was is not to be opened again.
    fn forget_secret(&self) -> Result<(), ClientError> {
        match self.sealed.entry() {
            Some(entry) => entry.forget(),
            None => Lock::forget_secret(&self.dir),
        }
    }

    /// Removes the identity and everything else that this profile knows; the directory stays, and what is not ours in it.
    ///
    /// # Errors
    /// [`ClientError::File`] if a file cannot be removed; [`ClientError::Keyring`].
    pub fn remove(self) -> Result<(), ClientError> {
        let dir = self.dir.clone();
        self.forget_secret()?;
        // The last handle closes the database.
        drop(self);
        let database = ["", "-wal", "-shm"].map(|end| format!("{}{end}", schema::FILE));
        for name in database {
            let path = dir.join(name);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ClientError::File {
                        what: "remove",
                        path,
                        source,
                    });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Puts other keys in the place of the present ones, and keeps the encryption key that was replaced for what comes
    /// late. Messages that no server has answered yet are signed anew. `password` is the profile's, as for [`Profile::unlock`].
    ///
    /// # Errors
    /// As [`Profile::unlock`]; [`ClientError::KeysChangedMeanwhile`] if another program was faster.
    pub fn replace_keys(
        &self,
        mut keys: UserKeys,
        history: KeyHistory,
        password: Option<&Password>,
    ) -> Result<Self, ClientError> {
        let lock = Lock::of(&self.dir, &self.sealed, password)?;
        keys.old_enc.truncate(OLD_ENC_KEYS_COUNT_MAX);
        let PublicPair { pubkey, enc_pubkey } = keys.public_pair();
        let identity = Identity {
            pubkey,
            enc_pubkey,
            history: Some(history),
            ..self.identity.clone()
        };
        let sealed = SealedKeys::seal(&keys, &lock)?;
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let present = read(&self.dir, &transaction)?.map(|(present, _)| present);
        if present.as_ref() != Some(&self.identity) {
            return Err(ClientError::KeysChangedMeanwhile);
        }
        erase(&transaction)?;
        write(&transaction, &identity, &sealed)?;
        if identity.pubkey != self.identity.pubkey {
            History::unmake_all(&transaction)?;
        }
        transaction.commit()?;
        drop(database);
        Ok(Self {
            identity,
            sealed,
            ..self.clone()
        })
    }
}

/// One new key; takes up to a few seconds.
pub(crate) fn generate_key() -> Result<PrivateKey, ClientError> {
    Ok(PrivateKey::generate()?)
}

/// Two new keys, each on a thread of its own: one takes up to a few seconds.
pub(super) fn generate_keys() -> Result<UserKeys, ClientError> {
    let (sign, enc) = std::thread::scope(|scope| {
        let enc = scope.spawn(PrivateKey::generate);
        let sign = PrivateKey::generate();
        (sign, enc.join())
    });
    let failed = socp_crypto::CryptoError::Internal("key generation");
    Ok(UserKeys {
        sign: sign?,
        enc: enc.map_err(|_panicked| failed)??,
        old_enc: Vec::new(),
    })
}

fn check_names(name: Option<&str>, display_name: Option<&str>) -> Result<(), ClientError> {
    if let Some(why) = name.and_then(fault_of_handle) {
        return Err(ClientError::Name(format!("--name {why}")));
    }
    if display_name.is_some_and(|name| name.chars().any(is_hostile)) {
        let why = "--display must not hold control characters or invisible ones that change how text reads";
        return Err(ClientError::Name(why.to_owned()));
    }
    Meta::named(name, display_name)
        .map(drop)
        .map_err(|error| ClientError::Name(error.to_string()))
}

/// Why a handle would be dangerous, or could not be typed.
fn fault_of_handle(name: &str) -> Option<&'static str> {
    let holds = |is_it: fn(char) -> bool| name.chars().any(is_it);
    if name.is_empty() {
        Some("must not be empty")
    } else if holds(char::is_whitespace) || name.contains('@') {
        Some("must not hold spaces or '@'")
    } else if holds(is_hostile) || holds(is_joiner) {
        Some("must not hold control characters or invisible ones: nobody could tell it from another, or type it")
    } else if normal_form(name) != name {
        Some("must be in normal form (NFC): others would type the same letters in another way")
    } else if mixes_scripts(name) {
        Some("must not mix letters of several scripts: it would look like another's")
    } else {
        None
    }
}

fn refuse_second(dir: &Path, database: &Connection) -> Result<(), ClientError> {
    match read(dir, database)? {
        Some((identity, _)) => Err(ClientError::AlreadyRegistered {
            dir: dir.to_owned(),
            user: identity.user_id,
        }),
        None => Ok(()),
    }
}

/// Stores an identity where there is none.
fn store_first(
    dir: &Path,
    database: &mut Connection,
    keys: &UserKeys,
    identity: &Identity,
    (protection, in_keyring): (Protection<'_>, Option<&Lock<'_>>),
) -> Result<SealedKeys, ClientError> {
    // Held until the identity is stored, so that of two programs only one makes one.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    refuse_second(dir, &transaction)?;
    let sealed = match in_keyring {
        Some(lock) => SealedKeys::seal(keys, lock)?,
        None => SealedKeys::seal(keys, &Lock::make(dir, protection, &identity.user_id)?)?,
    };
    write(&transaction, identity, &sealed)?;
    transaction.commit()?;
    Ok(sealed)
}

/// Makes room for another identity, or the same under another lock.
fn erase(database: &Transaction<'_>) -> Result<(), ClientError> {
    database.execute_batch("DELETE FROM identity; DELETE FROM old_enc_keys;")?;
    database.execute("DELETE FROM settings WHERE name = ?1", [ENTRY_SETTING])?;
    Ok(())
}

/// The setting that names the entry of the keyring.
const ENTRY_SETTING: &str = "keyring_entry";

fn write(database: &Transaction<'_>, identity: &Identity, sealed: &SealedKeys) -> Result<(), ClientError> {
    let history = identity.history.as_ref().map(serde_json::to_string).transpose();
    database.execute(
        "INSERT INTO identity(one, user_id, name, display_name, pubkey, sealed_key, enc_pubkey, sealed_enc_key, history)
            VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            identity.user_id.as_str(),
            identity.name,
            identity.display_name,
            identity.pubkey.as_str(),
            sealed.sign.to_json()?,
            sealed.enc.as_ref().map(|_| identity.enc_pubkey.as_str()),
            sealed.enc.as_ref().map(SealedKey::to_json).transpose()?,
            history.map_err(|error| ClientError::Unwritable(error.to_string()))?,
        ],
    )?;
    if let Some(entry) = sealed.entry() {
        let statement = "INSERT INTO settings(name, value) VALUES (?1, ?2)";
        database.execute(statement, [ENTRY_SETTING, entry.as_str()])?;
    }
    for old in &sealed.old_enc {
        database.execute("INSERT INTO old_enc_keys(sealed_key) VALUES (?1)", [old.to_json()?])?;
    }
    Ok(())
}

pub(super) fn read(dir: &Path, database: &Connection) -> Result<Option<(Identity, SealedKeys)>, ClientError> {
    let mut query = database.prepare(
        "SELECT user_id, name, display_name, pubkey, sealed_key, enc_pubkey, sealed_enc_key, history FROM identity",
    )?;
    let found = query.query_row([], |row| Ok(read_row(row))).optional()?;
    let Some(found) = found else { return Ok(None) };
    let (identity, sign, enc) = found.map_err(|what| damaged(dir, &what))?;
    let mut query = database.prepare("SELECT sealed_key FROM old_enc_keys ORDER BY number")?;
    let old = query.query_map([], |row| row.get::<_, String>(0))?;
    let old_enc = old.map(|text| Ok(SealedKey::from_json(&text?)?));
    let mut query = database.prepare("SELECT value FROM settings WHERE name = ?1")?;
    let entry = query
        .query_row([ENTRY_SETTING], |row| row.get::<_, String>(0))
        .optional()?;
    let entry = entry.map(Entry::parse).transpose();
    let sealed = SealedKeys {
        entry: entry.map_err(|what| damaged(dir, &what))?,
        sign: SealedKey::from_json(&sign)?,
        enc: enc.as_deref().map(SealedKey::from_json).transpose()?,
        old_enc: old_enc.collect::<Result<_, ClientError>>()?,
    };
    Ok(Some((identity, sealed)))
}

/// The identity, and the sealed texts of both keys.
fn read_row(row: &Row<'_>) -> Result<(Identity, String, Option<String>), String> {
    let pubkey: KeyText = super::parsed(super::text(row, "pubkey")?, "pubkey")?;
    let enc = super::optional_text(row, "enc_pubkey")?;
    let enc = enc.map(|text| super::parsed(text, "enc_pubkey")).transpose()?;
    let history = super::optional_text(row, "history")?;
    let history: Option<KeyHistory> = history
        .map(|text| serde_json::from_str(&text).map_err(|error| format!("history: {error}")))
        .transpose()?;
    let identity = Identity {
        user_id: super::parsed(super::text(row, "user_id")?, "user_id")?,
        name: super::optional_text(row, "name")?,
        display_name: super::optional_text(row, "display_name")?,
        enc_pubkey: enc.unwrap_or_else(|| pubkey.clone()),
        pubkey,
        history,
    };
    let is_ours = |history: &KeyHistory| history.is_of(&identity.user_id) && history.newest() == identity.pair();
    if !identity.history.as_ref().is_none_or(is_ours) {
        return Err("the key history does not end with these keys".to_owned());
    }
    Ok((
        identity,
        super::text(row, "sealed_key")?,
        super::optional_text(row, "sealed_enc_key")?,
    ))
}
