//! What opens the private keys: a password, or a file of random bytes where nobody types anything.

use crate::error::ClientError;
use socp_crypto::{Password, PrivateKey, SealedKey, SecretBytes, UnlockSecret};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// The file's name in the profile directory.
pub(super) const FILE: &str = "unlock.key";

/// What the keys of one profile are sealed with.
pub(super) enum Lock<'a> {
    Password(&'a Password),
    Secret(SecretBytes),
}

impl<'a> Lock<'a> {
    /// For keys that are about to be sealed; without a password a new secret, which is stored first.
    pub(super) fn make(dir: &Path, password: Option<&'a Password>) -> Result<Self, ClientError> {
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            return Ok(Self::Password(password));
        }
        let secret = SecretBytes::random()?;
        write(&dir.join(FILE), secret.expose())?;
        Ok(Self::Secret(secret))
    }

    /// For keys that are sealed already.
    pub(super) fn of(dir: &Path, sealed: &SealedKey, password: Option<&'a Password>) -> Result<Self, ClientError> {
        if sealed.needs_password() {
            return Ok(Self::Password(password.ok_or(ClientError::PasswordNeeded)?));
        }
        let path = dir.join(FILE);
        let bytes = fs::read(&path).map_err(|source| ClientError::File {
            what: "read",
            path,
            source,
        })?;
        Ok(Self::Secret(SecretBytes::new(bytes)))
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

    fn secret(&self) -> UnlockSecret<'_> {
        match self {
            Self::Password(password) => UnlockSecret::Password(password),
            Self::Secret(secret) => UnlockSecret::Secret(secret),
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
