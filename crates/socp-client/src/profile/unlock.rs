//! What opens the private keys: a password, or random bytes in a file or in the platform's keyring, where nobody types
//! anything.

use super::identity::SealedKeys;
use super::keyring::Entry;
use crate::error::ClientError;
use socp_crypto::{Password, PrivateKey, SealedKey, SealedSecret, SecretBytes, UnlockSecret};
use socp_proto::UserId;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// The file's name in the profile directory.
pub(super) const FILE: &str = "unlock.key";

/// What is to protect the private keys of a profile.
#[derive(Debug, Clone, Copy)]
pub enum Protection<'a> {
    /// Something that a person remembers.
    Password(&'a Password),
    /// A file beside them: whoever can read the directory has the keys.
    File,
    /// The platform's keyring, which is open while its owner is logged in.
    Keyring,
}

impl<'a> From<Option<&'a Password>> for Protection<'a> {
    /// An empty password is none.
    fn from(password: Option<&'a Password>) -> Self {
        let password = password.filter(|password| !password.is_empty());
        password.map_or(Self::File, Self::Password)
    }
}

/// What protects the private keys of a profile that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtRest {
    /// A password.
    Password,
    /// A file beside them.
    File,
    /// The platform's keyring.
    Keyring,
}

/// What the keys of one profile are sealed with.
pub(super) enum Lock<'a> {
    Password(&'a Password),
    Secret(SecretBytes),
    Keyring(Entry, SecretBytes),
}

impl<'a> Lock<'a> {
    /// For keys that are about to be sealed; a new secret is stored first.
    pub(super) fn make(dir: &Path, protection: Protection<'a>, user: &UserId) -> Result<Self, ClientError> {
        match protection {
            Protection::Password(password) => Ok(Self::Password(password)),
            Protection::File => {
                let secret = SecretBytes::random()?;
                write(&dir.join(FILE), secret.expose())?;
                Ok(Self::Secret(secret))
            }
            Protection::Keyring => {
                let (entry, secret) = (Entry::fresh(user)?, SecretBytes::random()?);
                entry.store(&secret)?;
                Ok(Self::Keyring(entry, secret))
            }
        }
    }

    /// For keys that are sealed already.
    pub(super) fn of(dir: &Path, sealed: &SealedKeys, password: Option<&'a Password>) -> Result<Self, ClientError> {
        if sealed.needs_password() {
            return Ok(Self::Password(password.ok_or(ClientError::PasswordNeeded)?));
        }
        if let Some(entry) = sealed.entry() {
            return Ok(Self::Keyring(entry.clone(), entry.fetch()?));
        }
        let path = dir.join(FILE);
        let bytes = fs::read(&path).map_err(|source| ClientError::File {
            what: "read",
            path,
            source,
        })?;
        Ok(Self::Secret(SecretBytes::new(bytes)))
    }

    /// Where the secret is in the keyring.
    pub(super) fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Keyring(entry, _) => Some(entry),
            Self::Password(_) | Self::Secret(_) => None,
        }
    }

    /// Nothing was sealed with it after all. A file is written over by the next one.
    pub(super) fn take_back(&self) {
        if let Some(Err(error)) = self.entry().map(Entry::forget) {
            tracing::warn!(%error, "a secret that opens nothing stays in the keyring");
        }
    }

    /// Nothing is sealed with the stored secret any more, and what was is not to be opened again.
    pub(super) fn forget_secret(dir: &Path) -> Result<(), ClientError> {
        let path = dir.join(FILE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(ClientError::File {
                what: "remove",
                path,
                source,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn seal(&self, key: &PrivateKey) -> Result<SealedKey, ClientError> {
        Ok(SealedKey::seal(key, self.secret())?)
    }

    pub(super) fn open(&self, sealed: &SealedKey) -> Result<PrivateKey, ClientError> {
        Ok(sealed.open(self.secret())?)
    }

    pub(super) fn seal_secret(&self, secret: &SecretBytes) -> Result<SealedSecret, ClientError> {
        Ok(SealedSecret::seal(secret, self.secret())?)
    }

    pub(super) fn open_secret(&self, sealed: &SealedSecret) -> Result<SecretBytes, ClientError> {
        Ok(sealed.open(self.secret())?)
    }

    fn secret(&self) -> UnlockSecret<'_> {
        match self {
            Self::Password(password) => UnlockSecret::Password(password),
            Self::Secret(secret) | Self::Keyring(_, secret) => UnlockSecret::Secret(secret),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ClientError> {
    // Left over from a program that stopped before it stored the identity: nothing is sealed with it.
    let fault = |source| ClientError::File {
        what: "write",
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(fault)?;
    file.write_all(bytes).map_err(fault)?;
    file.sync_all().map_err(fault)
}
